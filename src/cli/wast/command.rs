//! `wasmrun wast`: runs test scripts.

use std::ffi::OsString;

use clap::Args;

use super::Script;
use crate::cli::engine::{EngineArgs, ProfileArg};
use crate::cli::output::{self, Failure};
use crate::cli::{input, process, status};

/// Run WebAssembly test scripts (.wast)
#[derive(Args)]
#[command(after_help = "\
Runs each script up to its first directive that does not hold, which is printed
with its line. The exit status is 1 if there was one.

Examples:
  wasmrun wast i32.wast
  wasmrun wast --interp testsuite/*.wast")]
pub(in crate::cli) struct WastArgs {
    /// The scripts, `-` for standard input
    #[arg(required = true, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    files: Vec<OsString>,

    #[command(flatten)]
    engine: EngineArgs,
}

pub(in crate::cli) fn run(args: WastArgs) -> Result<u8, Failure> {
    if let Some(ProfileArg::Flame(_)) = args.engine.profile {
        return Err(Failure::usage("--profile=flame is for exec: scripts run many modules"));
    }
    let config = args.engine.config();
    process::on_big_stack(|| {
        let mut all_hold = true;
        for file in &args.files {
            let name = input::display(file);
            let bytes = input::read(file)?;
            // Only comments of a script can be something else than UTF-8.
            let text = String::from_utf8_lossy(&bytes);
            let line = match Script::parse(&name, &text).and_then(|script| script.run(&config)) {
                Ok(1) => format!("{name}: 1 directive holds\n"),
                Ok(count) => format!("{name}: {count} directives hold\n"),
                Err(failure) => {
                    all_hold = false;
                    format!("{failure}\n")
                }
            };
            output::print(&line)?;
        }
        Ok(if all_hold { 0 } else { status::FAILED })
    })?
}
