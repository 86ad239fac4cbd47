//! The tool's own output: results go to standard output, everything else to standard error.

use std::io::{self, Write};

use super::status;
use crate::printable::Printable;
use crate::{Error, ErrorKind};

/// Why a subcommand failed: a message and the exit status.
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

    /// Prints the message; the exit status.
    pub fn report(self) -> u8 {
        note(&self.message);
        self.status
    }
}

/// Writes a message of the tool to standard error.
pub(super) fn note(message: &str) {
    tell(&format!("wasmrun: {}\n", message.trim_end()));
}

/// Writes lines to standard error.
pub(super) fn tell(text: &str) {
    // If standard error is closed, the failure to write to it can't be reported.
    let _ = write!(io::stderr().lock(), "{}", Printable::lines(text));
}

/// Writes results to standard output, with invisible characters escaped. A reader that has gone, such as `head`, is no error.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match write!(stdout, "{}", Printable::lines(text)).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::error(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
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
}
