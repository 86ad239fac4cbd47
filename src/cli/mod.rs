//! The command-line tool: flags to a [`Config`](crate::Config), an exit status back.
//!
//! Each subcommand is one file or folder. They share `engine` (the engine's flags), `sandbox` (what a program may see),
//! `limits` (what it may use), `streams` (its standard streams and sockets), `denials` (what it was refused), `input` (reading modules), `destination`
//! (writing them), `value` (values as text), `backtrace`, `process` (the guest's thread, Ctrl-C), `stats` (the report of `--stats`), `log`
//! and `output`.
//!
//! What may be here: flags, messages, exit statuses. What may not: anything that a program which embeds wasmrun could want.

mod backtrace;
mod bench;
mod cache;
mod call;
#[cfg(jit)]
mod compile;
mod completions;
mod denials;
mod destination;
mod engine;
mod exec;
mod input;
mod inspect;
mod limits;
mod log;
mod output;
mod process;
mod sandbox;
mod stats;
mod streams;
mod value;
pub mod wast;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Exit statuses, as env, timeout and docker use them.
mod status {
    /// An assertion of a test script does not hold, or two runs of `bench` differ.
    pub const FAILED: u8 = 1;
    /// The command line makes no sense.
    pub const USAGE: u8 = 2;
    /// The program was ended by `--timeout` or `--max-cpu`.
    pub const TIMED_OUT: u8 = 124;
    /// wasmrun itself could not do what was asked.
    pub const ERROR: u8 = 125;
    /// The file is no valid module.
    pub const INVALID: u8 = 126;
    /// The file is not there.
    pub const NOT_FOUND: u8 = 127;
    /// Ctrl-C.
    pub const INTERRUPTED: u8 = 130;
    /// The program trapped.
    pub const TRAP: u8 = 134;
}

const STATUS_HELP: &str = "\
Exit status:
  the program's own (low eight bits), or
  141  nobody read the program's output any more
  134  the program trapped; the kind of trap and a backtrace are on standard error
  130  Ctrl-C
  127  FILE is not there
  126  FILE is no valid module
  125  wasmrun itself failed, or the program would exceed --max-memory
  124  the program was ended by --timeout or --max-cpu
    2  the command line is wrong";

const EXAMPLES: &str = "\
Examples:
  wasmrun exec hello.wasm                         run a WASI program
  wasmrun exec --dir . cat.wasm notes.txt         and let it see the current directory
  wasmrun exec --explain-denials cat.wasm a.txt   which flags a program that fails would need
  wasmrun exec --call add math.wat 1 -0x2         call one function and print its results
  wasmrun inspect hello.wasm                      what is in a module
  wasmrun bench hello.wasm                        interpreter against JIT
  wasmrun compile hello.wasm                      to native code, ahead of time
  wasmrun cache info                              what is kept of compiled programs
  wasmrun completions bash > /etc/bash_completion.d/wasmrun";

/// Run WebAssembly programs: WASI Preview 1, interpreted or compiled to native code.
#[derive(Parser)]
#[command(name = "wasmrun", version, arg_required_else_help = true, after_help = EXAMPLES, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Exec(Box<exec::ExecArgs>),
    Inspect(inspect::InspectArgs),
    Bench(Box<bench::BenchArgs>),
    Wast(wast::command::WastArgs),
    #[cfg(jit)]
    Compile(compile::CompileArgs),
    #[cfg(jit)]
    Cache(cache::command::CacheCommandArgs),
    Completions(completions::CompletionsArgs),
}

/// Runs the tool on the arguments of this process; its exit status.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come here too, with status 0; a closed pipe is no reason to fail then.
            let _ = error.print();
            return ExitCode::from(error.exit_code() as u8);
        }
    };
    if let Err(failure) = log::start() {
        return ExitCode::from(failure.report());
    }
    process::handle_signals();
    let result = match cli.command {
        Command::Exec(args) => exec::run(*args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Wast(args) => wast::command::run(args),
        #[cfg(jit)]
        Command::Compile(args) => compile::run(&args),
        #[cfg(jit)]
        Command::Cache(args) => cache::command::run(&args),
        Command::Completions(args) => completions::run(&args),
    };
    ExitCode::from(result.unwrap_or_else(|failure| failure.report()))
}

/// The whole command line, for completions and for the test that clap finds it consistent.
fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

#[cfg(test)]
mod tests {
    #[test]
    fn command_line_is_consistent() {
        super::command().debug_assert();
    }
}
