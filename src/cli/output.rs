//! The tool's own output: results go to standard output, everything else to standard error.
//!
//! Messages have a coloured label, as clap's have, where [`ColorArg`] and the terminal allow it. Only what the tool itself
//! writes is coloured; what the guest writes goes through other streams.

use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};

use anstream::{AutoStream, ColorChoice};
use clap::ValueEnum;
use clap::builder::styling::{AnsiColor, Effects, Style};
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::status;
use crate::Error;
use crate::printable::Printable;

/// When messages are coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ColorArg {
    /// On a terminal; NO_COLOR and CLICOLOR_FORCE are obeyed
    Auto,
    /// Also in pipes and files
    Always,
    /// Nowhere
    Never,
}

impl ColorArg {
    /// Makes it so for all messages of the process, clap's included.
    pub fn apply(self) {
        let choice = match self {
            ColorArg::Auto => ColorChoice::Auto,
            ColorArg::Always => ColorChoice::Always,
            ColorArg::Never => ColorChoice::Never,
        };
        choice.write_global();
    }
}

/// What a message begins with.
#[derive(Clone, Copy)]
enum Label {
    Error,
    Warning,
    Note,
    Hint,
}

impl Label {
    fn text(self) -> &'static str {
        match self {
            Label::Error => "error:",
            Label::Warning => "warning:",
            Label::Note => "note:",
            Label::Hint => "hint:",
        }
    }

    /// Clap has the same for errors and tips, cargo for the others.
    fn style(self) -> Style {
        let color = match self {
            Label::Error => AnsiColor::Red,
            Label::Warning => AnsiColor::Yellow,
            Label::Note => AnsiColor::Cyan,
            Label::Hint => AnsiColor::Green,
        };
        color.on_default().effects(Effects::BOLD)
    }
}

/// Why a subcommand failed: a message, what may help, and the exit status.
#[derive(Debug)]
pub(super) struct Failure {
    status: u8,
    message: String,
    hints: Vec<String>,
}

impl Failure {
    pub fn new(status: u8, message: impl Into<String>) -> Self {
        Failure { status, message: message.into(), hints: Vec::new() }
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
            crate::ErrorKind::Invalid { .. } | crate::ErrorKind::Unsupported { .. } => status::INVALID,
            crate::ErrorKind::Trap { .. } | crate::ErrorKind::Exception(_) | crate::ErrorKind::Host(_) => status::TRAP,
            _ => status::ERROR,
        };
        Self::new(status, format!("{what}: {error}"))
    }

    /// The same with more lines of text.
    pub fn with_details(mut self, details: &str) -> Self {
        self.message.push_str(details);
        self
    }

    /// The same with something to try, if there is something.
    pub fn with_hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hints.extend(hint.into());
        self
    }

    /// Prints the message and the hints; the exit status.
    pub fn report(self) -> u8 {
        error(&self.message);
        self.hints.iter().for_each(|text| hint(text));
        self.status
    }
}

/// Prints what clap has to say, an error or help; the exit status.
pub(super) fn report_usage(mut message: clap::Error) -> u8 {
    escape_arguments(&mut message);
    // Nothing can be done about a stream that is closed.
    let _ = if message.use_stderr() && message.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let text = message.render();
        let text = if is_colored() { text.ansi().to_string() } else { text.to_string() };
        io::stderr().lock().write_all(format!("wasmrun: {}\n", text.trim_end()).as_bytes())
    } else {
        message.print()
    };
    message.exit_code() as u8
}

/// Escapes the arguments that a message of clap's repeats. They may be the names of files that someone else has made, as in
/// `wasmrun *`.
fn escape_arguments(message: &mut clap::Error) {
    let escaped = |text: &String| Printable::name(text).to_string();
    let repeated = [ContextKind::InvalidArg, ContextKind::InvalidSubcommand, ContextKind::InvalidValue];
    let arguments = repeated.map(|kind| {
        Some(match message.get(kind)? {
            ContextValue::String(text) => (kind, ContextValue::String(escaped(text))),
            ContextValue::Strings(texts) => (kind, ContextValue::Strings(texts.iter().map(escaped).collect())),
            _ => return None,
        })
    });
    for (kind, argument) in arguments.into_iter().flatten() {
        message.insert(kind, argument);
    }
}

/// Writes to standard error that something failed.
pub(super) fn error(message: &str) {
    say(Label::Error, message);
}

/// Writes to standard error that something may not be as it was meant.
pub(super) fn warning(message: &str) {
    say(Label::Warning, message);
}

/// Writes to standard error what may be of interest.
pub(super) fn note(message: &str) {
    say(Label::Note, message);
}

/// Writes to standard error what may help.
pub(super) fn hint(message: &str) {
    say(Label::Hint, message);
}

fn say(label: Label, message: &str) {
    // If standard error is closed, the failure to write to it can't be reported.
    let _ = io::stderr().lock().write_all(labelled(label, message, is_colored()).as_bytes());
}

/// Whether messages on standard error are coloured.
fn is_colored() -> bool {
    !matches!(AutoStream::choice(&io::stderr()), ColorChoice::Never)
}

/// A message as it is written. Colours are added to what has been escaped, so those that a name brings along have no effect.
fn labelled(label: Label, message: &str, is_colored: bool) -> String {
    let message = Printable::lines(message.trim_end()).to_string();
    let style = if is_colored { label.style() } else { Style::new() };
    let mut out = format!("wasmrun: {style}{}{style:#}", label.text());
    for (at, line) in message.split('\n').enumerate() {
        let begin = if at == 0 { ' ' } else { '\n' };
        let (text, offset) = line.split_at(if is_colored && at > 0 { offset_of_frame(line) } else { line.len() });
        let dim = if offset.is_empty() { Style::new() } else { Style::new().effects(Effects::DIMMED) };
        // Writing to a string cannot fail.
        let _ = write!(out, "{begin}{text}{dim}{offset}{dim:#}");
    }
    out + "\n"
}

/// Where the offset begins in a frame's line of a backtrace; the end of any other line.
fn offset_of_frame(line: &str) -> usize {
    let number = line.trim_start().split(':').next().unwrap_or_default();
    let is_frame = line.starts_with(' ') && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    line.rfind(" at offset 0x").filter(|_| is_frame).unwrap_or(line.len())
}

/// Writes lines to standard error.
pub(super) fn tell(text: &str) {
    // If standard error is closed, the failure to write to it can't be reported.
    let _ = write!(io::stderr().lock(), "{}", Printable::lines(text));
}

/// Writes results to standard output, with invisible characters escaped. A reader that has gone, such as `head`, is no error.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    write(|out| write!(out, "{}", Printable::lines(text)))
}

/// Has `contents` write results, in which nothing is invisible, to standard output. A reader that has gone is no error.
pub(super) fn write(contents: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
    let mut stdout = BufWriter::with_capacity(64 << 10, io::stdout().lock());
    match contents(&mut stdout).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::error(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// A value as JSON in one line, where characters that [`Printable`] would escape are written as JSON escapes them.
pub(super) fn json(value: &serde_json::Value) -> String {
    let plain = value.to_string();
    if plain.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return plain;
    }
    let mut json = String::with_capacity(plain.len());
    for c in plain.chars() {
        if c.is_control() || Printable::hides(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(json, "\\u{unit:04x}");
            }
        } else {
            json.push(c);
        }
    }
    json
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
    fn labels_and_offsets_are_coloured() {
        let message = "m.wasm: trap: unreachable\n   0: f at offset 0x1f\n  at offset 0x2";
        assert_eq!(labelled(Label::Error, message, false), format!("wasmrun: error: {message}\n"));
        assert_eq!(
            labelled(Label::Error, message, true),
            "wasmrun: \u{1b}[1m\u{1b}[31merror:\u{1b}[0m m.wasm: trap: unreachable\n   0: f\u{1b}[2m at offset \
             0x1f\u{1b}[0m\n  at offset 0x2\n"
        );
        assert_eq!(
            labelled(Label::Hint, "a\u{1b}[31m\n", true),
            "wasmrun: \u{1b}[1m\u{1b}[32mhint:\u{1b}[0m a\\u{1b}[31m\n"
        );
    }

    #[test]
    fn json_hides_nothing() {
        let text = "/a\"b\\c\n\u{7f}\u{9b}\u{202e}\u{e0041}é";
        let json = json(&text.into());
        assert_eq!(json, r#""/a\"b\\c\n\u007f\u009b\u202e\udb40\udc41é""#);
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }

    #[test]
    fn sizes_read_well() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1024), "1.0 KiB");
        assert_eq!(bytes((1 << 20) - 1), "1.0 MiB");
        assert_eq!(bytes(4 << 30), "4.0 GiB");
    }
}
