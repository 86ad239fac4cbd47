//! `wasmrun completions`: scripts that complete the tool's command line.

use clap::Args;
use clap_complete::Shell;

use super::front;
use super::output::{self, Failure};

/// Print a script that completes wasmrun's command line
#[derive(Args)]
#[command(after_help = "\
Examples:
  wasmrun completions bash > /etc/bash_completion.d/wasmrun
  wasmrun completions zsh > ~/.zfunc/_wasmrun
  wasmrun completions fish > ~/.config/fish/completions/wasmrun.fish")]
pub(super) struct CompletionsArgs {
    /// The shell to complete in
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut front::with_flags_of_exec(super::command()), "wasmrun", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(0)
}
