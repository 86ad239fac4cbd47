//! The command-line tool: flags to a [`Config`](crate::Config), an exit status back.
//!
//! Each subcommand is one file or folder. They share `engine` (the engine's flags), `sandbox` (what a program may see),
//! `limits` (what it may use), `streams` (its standard streams and sockets), `denials` (what it was refused), `input` (reading
//! modules), `mistaken` (what is no module, or one for another host), `destination` (writing them), `value` (values as text),
//! `backtrace`, `process` (the guest's thread, Ctrl-C), `stats` (the report of `--stats`), `profile` (that of
//! `--profile=flame`), `similar` ("did you mean"), `log` and `output`. `front` sees to command lines that name no subcommand.
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
mod front;
mod input;
mod inspect;
mod limits;
mod log;
mod mistaken;
mod output;
mod process;
mod profile;
mod sandbox;
mod similar;
mod stats;
mod streams;
mod value;
pub mod wast;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

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
  134  the program trapped; what and where is on standard error
  130  Ctrl-C
  127  FILE is not there
  126  FILE is no valid module
  125  wasmrun itself failed, or the program would exceed --max-memory
  124  the program was ended by --timeout or --max-cpu
    2  the command line is wrong";

const USAGE: &str = "\
wasmrun [OPTIONS] <FILE> [ARGS]...
       wasmrun <COMMAND>";

const EXAMPLES: &str = "\
Without a command, wasmrun does what `wasmrun exec` does, and takes its options;
see `wasmrun exec --help`. A file that is called like a command is ./exec.

Examples:
  wasmrun hello.wasm                         run a WASI program
  wasmrun --dir . cat.wasm notes.txt         let it see the current directory
  wasmrun --explain-denials cat.wasm a.txt   which flags it needs, if it fails
  wasmrun --call add math.wat 1 -0x2         call a function, print its results
  wasmrun inspect hello.wasm                 what is in a module
  wasmrun bench hello.wasm                   the engines side by side
  wasmrun --profile=flame hello.wasm         where its time goes
  wasmrun compile hello.wasm                 to native code, ahead of time
  wasmrun cache info                         what is kept of compiled programs
  wasmrun completions bash > /etc/bash_completion.d/wasmrun";

/// Run WebAssembly programs: WASI Preview 1, interpreted or compiled to native code.
#[derive(Parser)]
#[command(name = "wasmrun", version, arg_required_else_help = true, after_help = EXAMPLES, max_term_width = 100)]
#[command(override_usage = USAGE)]
struct Cli {
    /// When messages are coloured
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value = "auto")]
    color: output::ColorArg,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(visible_alias = "run")]
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
    let words: Vec<_> = std::env::args_os().collect();
    let cli = match parse(words.clone()) {
        Ok(cli) => cli,
        Err(refusal) => {
            if let Some(color) = front::color(&words) {
                color.apply();
            }
            return ExitCode::from(match refusal {
                Refusal::Failure(failure) => failure.report(),
                // Help and version are among these, with status 0; a closed pipe is no reason to fail then.
                Refusal::Clap(error) => output::report_usage(error),
            });
        }
    };
    cli.color.apply();
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

/// Why a command line is not run.
enum Refusal {
    Failure(output::Failure),
    Clap(clap::Error),
}

/// Reads a command line.
fn parse(words: Vec<OsString>) -> Result<Cli, Refusal> {
    let command = command();
    let words = front::with_subcommand(words, &command).map_err(Refusal::Failure)?;
    let mut matches = command.try_get_matches_from(&words).map_err(|mut error| {
        front::suggest_flag(&mut error, &words, &self::command());
        Refusal::Clap(error)
    })?;
    Cli::from_arg_matches_mut(&mut matches).map_err(|error| Refusal::Clap(error.format(&mut self::command())))
}

/// The whole command line, for completions and for the test that clap finds it consistent.
fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use clap::Command;

    #[test]
    fn command_line_is_consistent() {
        super::command().debug_assert();
    }

    /// The help of a command and those below it, in both lengths.
    fn helps(command: &mut Command, found: &mut Vec<(String, bool, String, String)>) {
        let name = command.get_bin_name().unwrap_or("wasmrun").to_string();
        let ends = [command.get_after_help(), command.get_after_long_help().or(command.get_after_help())];
        let [short_end, long_end] = ends.map(|end| end.map(ToString::to_string).unwrap_or_default());
        found.push((name.clone(), false, command.render_help().to_string(), short_end));
        found.push((name, true, command.render_long_help().to_string(), long_end));
        command.get_subcommands_mut().filter(|sub| sub.get_name() != "help").for_each(|sub| helps(sub, found));
    }

    #[test]
    fn help_fits_a_terminal() {
        let mut command = super::command().term_width(80);
        command.build();
        let mut all = Vec::new();
        helps(&mut command, &mut all);
        assert!(all.len() >= 2 * 6 && all.iter().any(|(name, ..)| name == "wasmrun exec"), "{}", all.len());
        for (name, is_long, help, end) in all {
            let long: Vec<_> = help.lines().filter(|line| line.chars().count() > 80).collect();
            assert!(long.is_empty(), "{name}: {long:?}");
            // What is laid out by hand was not wrapped again.
            assert!(help.ends_with(&format!("{end}\n")) || help.ends_with(&end), "{name}: {help}");
            assert!(end.is_empty() == name.starts_with("wasmrun cache "), "{name} has examples");
            // An option's description goes on where it began: all lines of a section that are indented far are alike.
            let lists = help.split("\n\n").filter(|section| !end.contains(section) && !is_long);
            for section in lists {
                let indent = |line: &str| line.len() - line.trim_start().len();
                let indents: Vec<_> = section.lines().map(indent).filter(|indent| *indent > 6).collect();
                assert!(indents.windows(2).all(|two| two[0] == two[1]), "{name}: {section}");
            }
        }
    }
}
