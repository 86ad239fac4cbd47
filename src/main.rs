//! The command-line tool; all of it is in [`wasmrun::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    wasmrun::cli::main()
}
