//! Escaping of untrusted text in messages: names from modules, paths and strings from programs.
//!
//! A message may end up on a terminal or in a log. There, control characters are commands, a line end begins what looks like
//! another message, and characters that change the direction of text make one name look like another. Every message that
//! contains such text formats it with [`Printable`].

use std::fmt::{self, Write};

/// The most characters of a name that are shown.
const NAME: usize = 256;

/// The most characters that are shown of a message that contains names of any length.
const MESSAGE: usize = 2048;

/// Text that is displayed with every character escaped that has an effect other than being seen.
#[derive(Clone, Copy)]
pub(crate) struct Printable<'a> {
    text: &'a str,
    longest: usize,
    lines: bool,
    quoted: bool,
}

impl<'a> Printable<'a> {
    /// A name: in one line, and cut if it is long.
    pub fn name(text: &'a str) -> Self {
        Printable { text, longest: NAME, lines: false, quoted: false }
    }

    /// A name in quotation marks; quotation marks in it are escaped.
    pub fn quoted(text: &'a str) -> Self {
        Printable { quoted: true, ..Self::name(text) }
    }

    /// A message that contains names which were not escaped: in one line, and cut if it is long.
    pub fn message(text: &'a str) -> Self {
        Printable { longest: MESSAGE, ..Self::name(text) }
    }

    /// A text of any length, in one line.
    pub fn line(text: &'a str) -> Self {
        Printable { longest: usize::MAX, ..Self::name(text) }
    }

    /// A text of any length whose line ends and tabs are kept.
    pub fn lines(text: &'a str) -> Self {
        Printable { lines: true, ..Self::line(text) }
    }

    /// Whether a character that is no control character is escaped.
    pub fn hides(c: char) -> bool {
        is_invisible(c)
    }

    fn escape(&self, out: &mut String) {
        let mut chars = self.text.chars();
        for c in chars.by_ref().take(self.longest) {
            let escaped = match c {
                '\n' | '\t' if self.lines => false,
                '"' | '\\' if self.quoted => true,
                c => c.is_control() || is_invisible(c),
            };
            if escaped { out.extend(c.escape_default()) } else { out.push(c) }
        }
        if !chars.as_str().is_empty() {
            // Writing to a string cannot fail.
            let _ = write!(out, "… ({} bytes)", self.text.len());
        }
    }
}

/// Characters without a glyph that change how others are shown, or hide that names differ: formatting characters (general
/// category Cf) as far as they are not of one script, separators of lines and paragraphs, tags.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::with_capacity(self.text.len().min(NAME));
        let mark = if self.quoted { "\"" } else { "" };
        out.push_str(mark);
        self.escape(&mut out);
        out.push_str(mark);
        f.pad(&out)
    }
}

#[cfg(test)]
mod tests {
    use super::Printable;

    #[test]
    fn what_is_not_seen_is_escaped() {
        let text = "a\x1b[31m\u{9b}b\r\n\t\0\u{7f}\u{202e}\u{2066}\u{200f}\u{2028}\u{feff}ñ漢e\u{301}";
        let escaped = r"a\u{1b}[31m\u{9b}b\r\n\t\u{0}\u{7f}\u{202e}\u{2066}\u{200f}\u{2028}\u{feff}ñ漢e";
        assert_eq!(Printable::name(text).to_string(), format!("{escaped}\u{301}"));
        assert_eq!(Printable::lines("a\n\tb\r\u{202d}").to_string(), "a\n\tb\\r\\u{202d}");
        assert_eq!(Printable::quoted(r#"a"\b"#).to_string(), r#""a\"\\b""#);
        assert_eq!(format!("{:<4}|", Printable::name("ab")), "ab  |");
    }

    #[test]
    fn what_is_long_is_cut() {
        let long = "é".repeat(100_000);
        assert_eq!(Printable::name(&long).to_string(), "é".repeat(256) + "… (200000 bytes)");
        assert_eq!(Printable::name(&long[..512]).to_string(), long[..512]);
        assert_eq!(Printable::quoted(&long).to_string(), format!("\"{}… (200000 bytes)\"", "é".repeat(256)));
        assert!(Printable::message(&long).to_string().len() < 5000);
        assert_eq!(Printable::line(&long).to_string(), long);
    }
}
