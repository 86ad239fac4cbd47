//! What the tool itself writes: results to standard output, everything else to standard error.

use std::fmt;
use std::io::{self, Write};

use super::status;
use crate::{Error, ErrorKind};

/// Why a subcommand did not do what it was asked for: a message and the exit status.
#[derive(Debug)]
pub(super) struct Failure {
    status: u8,
    message: String,
}

impl Failure {
    pub fn new(status: u8, message: impl Into<String>) -> Self {
        Failure { status, message: message.into() }
    }

    /// A failure of wasmrun itself.
    pub fn error(message: impl Into<String>) -> Self {
        Self::new(status::ERROR, message)
    }

    /// A command line that makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(status::USAGE, message)
    }

    /// An error of the library that has to do with `what`, a file usually.
    pub fn of(what: &str, error: &Error) -> Self {
        let status = match error.kind() {
            ErrorKind::Invalid { .. } | ErrorKind::Unsupported { .. } => status::INVALID,
            ErrorKind::Trap { .. } | ErrorKind::Exception(_) | ErrorKind::Host(_) => status::TRAP,
            _ => status::ERROR,
        };
        Self::new(status, format!("{what}: {error}"))
    }

    /// The same with more lines of text.
    pub fn with_details(mut self, details: &str) -> Self {
        self.message.push_str(details);
        self
    }

    /// Tells the user, and gives the exit status.
    pub fn report(self) -> u8 {
        note(&self.message);
        self.status
    }
}

/// Writes a message of the tool to standard error.
pub(super) fn note(message: &str) {
    // When nobody listens, there is nobody to tell about it.
    let _ = writeln!(io::stderr().lock(), "wasmrun: {}", Printable(message.trim_end()));
}

/// Writes results to standard output. A reader that went away early, such as `head`, has what it wanted.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::error(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Text that may hold names chosen by a module, with control characters but line ends and tabs escaped: a module must
/// not be able to send escape sequences to the terminal through an error message.
pub(super) struct Printable<'a>(pub &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        self.0.chars().try_for_each(|c| match c {
            '\n' | '\t' => f.write_char(c),
            c if c.is_control() => write!(f, "{}", c.escape_unicode()),
            c => f.write_char(c),
        })
    }
}

/// A number of bytes as people read it.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1024), "1.0 KiB");
        assert_eq!(bytes((1 << 20) - 1), "1.0 MiB");
        assert_eq!(bytes(4 << 30), "4.0 GiB");
    }

    #[test]
    fn escape_sequences_are_shown() {
        assert_eq!(Printable("a\x1b[31m\nb").to_string(), "a\\u{1b}[31m\nb");
    }
}
