//! A runner of WebAssembly test scripts (`.wast`), as the official suite uses them.
//!
//! [`Script`] is a script read once: its modules encoded, its values converted. It can be run any number of times, on
//! any engine, from any thread. `expect` compares results, `spectest` is the module that scripts import.

pub(super) mod command;
mod expect;
mod run;
mod script;
mod spectest;

use std::fmt;

pub use script::Script;

use crate::Config;
use crate::printable::Printable;

/// Reads a script and runs it on an engine of these settings; `name` is for messages.
///
/// # Errors
/// The first directive that does not hold, or the mistake in the script.
pub fn run_script(name: &str, text: &str, config: &Config) -> Result<(), Failure> {
    Script::parse(name, text)?.run(config).map(drop)
}

/// The first thing in a script that is not as it says.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Name of the script, a path usually.
    pub script: String,
    /// Line of the directive, from 1.
    pub line: usize,
    /// Column of the directive, from 1.
    pub column: usize,
    /// The line itself.
    pub source: String,
    /// The directive's keyword.
    pub directive: &'static str,
    /// The expected result and the actual one.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { script, line, column, source, directive, message } = self;
        let (script, source) = (Printable::line(script), Printable::line(source));
        write!(f, "{script}:{line}:{column}: {directive}: {message}\n  {line} | {source}")
    }
}

impl std::error::Error for Failure {}
