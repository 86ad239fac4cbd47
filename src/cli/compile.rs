//! `wasmrun compile`: all functions of a module to native code, ahead of time.

use std::ffi::OsString;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::destination::Destination;
use super::engine::BoundsChecksArg;
use super::output::Failure;
use super::{input, process};
use crate::{BoundsChecks, Config, Engine, ErrorKind, Module};

/// Compile a module to native code ahead of time
#[derive(Args)]
#[command(after_help = "\
The output is the module itself with native code in a custom section, for this
version of wasmrun and processors that can do what this one can. `wasmrun exec
--allow-precompiled` takes the code from files whose names end in .cwasm, with
the same --bounds-checks, and with --fuel if that was given here. Such a file is
run as a native program is, outside of any sandbox: run only those you compiled
yourself or trust. Under another name, and for other runtimes, it is the
WebAssembly module it was.

Examples:
  wasmrun compile hello.wasm                      writes hello.cwasm
  wasmrun compile hello.wasm -o /opt/hello.cwasm
  wasmrun compile hello.wasm -o - | ssh host 'cat > hello.cwasm'
  wasmrun exec --allow-precompiled hello.cwasm one two")]
pub(super) struct CompileArgs {
    /// The module (.wasm or .wat), `-` for standard input
    #[arg(value_hint = clap::ValueHint::FilePath)]
    file: OsString,

    /// Where to write the result, `-` for standard output [default: FILE with .cwasm at its end]
    #[arg(long, short, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    output: Option<PathBuf>,

    /// How compiled code checks memory accesses
    #[arg(long, value_enum, value_name = "HOW", default_value = "inline")]
    bounds_checks: BoundsChecksArg,

    /// Compile code that consumes fuel, for `exec --fuel`
    #[arg(long)]
    fuel: bool,
}

pub(super) fn run(args: &CompileArgs) -> Result<u8, Failure> {
    let output = match &args.output {
        Some(output) => output.clone(),
        None if args.file == "-" => {
            return Err(Failure::usage("-o says where to write what comes from standard input"));
        }
        None => Path::new(&args.file).with_extension("cwasm"),
    };
    let mut config = Config::new();
    config.consume_fuel(args.fuel);
    if args.bounds_checks == BoundsChecksArg::Guard {
        config.bounds_checks(BoundsChecks::Guard);
    }
    let engine = Engine::new(&config).map_err(|error| Failure::error(error.to_string()))?;
    let bytes = input::read(&args.file)?;
    let file = input::display(&args.file);
    let module = input::new_module(&engine, &args.file, &bytes)?;
    process::on_big_stack(|| compile(&module, &file, &output))??;
    Ok(0)
}

fn compile(module: &Module, file: &str, output: &Path) -> Result<(), Failure> {
    let name = if output.as_os_str() == "-" { "standard output".into() } else { input::display(output.as_os_str()) };
    let failed = |error: io::Error| Failure::error(format!("{name}: {error}"));
    let mut out = BufWriter::with_capacity(1 << 20, Destination::open(output).map_err(failed)?);
    let (functions, imported) = module.function_counts();
    // Shown on a terminal only.
    let bar = ProgressBar::new(u64::from(functions - imported));
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} functions, {eta} left");
    bar.set_style(style.expect("the template is valid"));
    let compiled = module.compile_to(&mut out, &|done| bar.set_position(done as u64));
    bar.finish_and_clear();
    let summary = compiled.map_err(|error| match error.kind() {
        // All of the module is in memory: it is the output that there is no room for.
        ErrorKind::Resource(_) => Failure::of(&name, &error),
        _ => Failure::of(file, &error),
    })?;
    out.into_inner().map_err(|error| failed(error.into_error())).and_then(|out| out.finish().map_err(failed))?;
    if summary.compiled < summary.functions {
        let left = summary.functions - summary.compiled;
        super::output::warning(&format!(
            "{left} of {} functions can't be compiled and are interpreted",
            summary.functions
        ));
    }
    Ok(())
}
