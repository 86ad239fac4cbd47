//! Backtraces on standard error: the program's own functions, and the line of the source where it stopped.

use std::env;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::path::{Component, Path};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, Metadata, OpenOptions, OpenOptionsExt};

use crate::WasmBacktrace;
use crate::error::FrameLine;
use crate::printable::Printable;

/// Functions by which a Rust program panics. With them, those before them are not shown either.
const PANICKING: [&str; 16] = [
    "rust_begin_unwind",
    "__rustc::rust_begin_unwind",
    "rust_panic",
    "__rustc::rust_panic",
    "std::panicking::",
    "core::panicking::",
    "core::option::expect_failed",
    "core::option::unwrap_failed",
    "core::result::unwrap_failed",
    "core::cell::panic_already_",
    "core::slice::index::slice_",
    "core::str::slice_error_fail",
    "alloc::alloc::handle_alloc_error",
    "alloc::raw_vec::handle_error",
    "alloc::raw_vec::capacity_overflow",
    "std::alloc::",
];

/// Functions by which one ends then.
const ABORTING: [&str; 9] = [
    "abort",
    "__rust_abort",
    "__rustc::__rust_abort",
    "__rust_start_panic",
    "__rustc::__rust_start_panic",
    "panic_abort::",
    "std::process::abort",
    "std::sys::",
    "std::sys_common::",
];

/// What Rust's own backtraces end at: the functions that call `main`.
const BEFORE_MAIN: &str = "__rust_begin_short_backtrace";

/// The suffixes of files that a line is shown of.
const SOURCES: [&str; 23] = [
    "rs", "c", "cc", "cpp", "cxx", "h", "hh", "hpp", "hxx", "inc", "m", "mm", "go", "swift", "zig", "d", "nim", "odin",
    "kt", "ts", "cs", "f90", "s",
];

/// The longest file that a line is shown of, and the longest line.
const MAX_FILE: u64 = 4 << 20;
const MAX_LINE: usize = 200;

/// The lines of a backtrace, below a message. As `RUST_BACKTRACE=1` does, it leaves out the functions by which a Rust program
/// panics and those that call its `main`, unless it is told in full; offsets in the module come with that too.
pub(super) fn text(backtrace: &WasmBacktrace, in_full: bool) -> String {
    let lines = backtrace.lines();
    let shown = if in_full { &lines[..] } else { own(&lines) };
    let mut text = String::new();
    FrameLine::write(shown, in_full, &mut text).expect("a string can be written to");
    if backtrace.is_cut() {
        text.push_str("\n   (deeper frames are not shown)");
    }
    let hidden = lines.len() - shown.len();
    if hidden != 0 {
        let functions = if hidden == 1 { "function" } else { "functions" };
        text.push_str(&format!("\n   ({hidden} {functions} of Rust's runtime not shown; -v shows all)"));
    }
    text + &source(shown).unwrap_or_default()
}

fn starts_with_any(name: Option<&str>, starts: &[&str]) -> bool {
    name.is_some_and(|name| {
        // One that ends so is a path, others are whole names, or have type arguments or a suffix.
        starts.iter().any(|start| match name.strip_prefix(start) {
            Some(rest) => start.ends_with([':', '_']) || rest.is_empty() || rest.starts_with([':', '<', '.']),
            None => false,
        })
    })
}

/// Whether a function is one by which a Rust program panics. `std::panicking` has also those by which one goes on after a panic,
/// which are around functions of the program's own.
fn is_panicking(line: &FrameLine<'_>) -> bool {
    starts_with_any(line.name, &PANICKING)
        && !line.name.is_some_and(|name| ["catch_unwind", "panicking::try"].iter().any(|part| name.contains(part)))
        || line.name.is_some_and(|name| name.contains("__rust_end_short_backtrace"))
}

/// The lines without those of Rust's runtime; all, if no others are there.
fn own<'l, 'f>(lines: &'l [FrameLine<'f>]) -> &'l [FrameLine<'f>] {
    let is_runtime = |line: &FrameLine<'_>| is_panicking(line) || starts_with_any(line.name, &ABORTING);
    let run = lines.iter().take_while(|line| is_runtime(line)).count();
    let start = if lines[..run].iter().any(is_panicking) { run } else { 0 };
    let main = lines.iter().position(|line| line.name.is_some_and(|name| name.contains(BEFORE_MAIN)));
    let mut end = main.unwrap_or(lines.len()).max(start);
    // It calls `main` by this, which may be inlined.
    let calls_once = |line: &FrameLine<'_>| line.name.is_some_and(|name| name.contains("call_once"));
    if main.is_some() && lines[start..end].last().is_some_and(calls_once) {
        end -= 1;
    }
    if start < end { &lines[start..end] } else { lines }
}

/// The line of the source that the innermost function with a readable source was at, with a mark below the column.
///
/// Module and debug information are the guest's, so it chooses the name. Nothing is read unless the name is below the current
/// folder, also where it has symbolic links, which a guest can make in a folder that it was given; is that of source code, and is
/// a regular file, not too long; and unless standard error is a terminal: what a service shows to others, or logs, gets no content
/// of its files that a guest has named.
fn source(lines: &[FrameLine<'_>]) -> Option<String> {
    if !io::stderr().is_terminal() {
        return None;
    }
    let folder = env::current_dir().ok()?;
    let opened = Dir::open_ambient_dir(&folder, ambient_authority()).ok()?;
    lines.iter().find_map(|line| {
        let symbol = line.symbol?;
        let (file, number) = (symbol.file()?, symbol.line()?);
        let code = source_line(&opened, admitted(&folder, file)?, number)?;
        Some(excerpt(file, number, symbol.column(), &code))
    })
}

/// The path of a source file in a folder, if a line of it may be shown.
fn admitted<'f>(folder: &Path, file: &'f str) -> Option<&'f Path> {
    let path = Path::new(file);
    let path = if path.is_absolute() { path.strip_prefix(folder).ok()? } else { path };
    let is_below = !path.components().any(|part| part == Component::ParentDir);
    let suffix = path.extension().and_then(|suffix| suffix.to_str())?;
    (is_below && SOURCES.contains(&suffix)).then_some(path)
}

/// A line of a file in a folder. Links that lead out of the folder are not followed.
fn source_line(folder: &Dir, path: &Path, number: u32) -> Option<String> {
    let is_right = |metadata: Metadata| metadata.is_file() && metadata.len() <= MAX_FILE;
    // Before it is opened, as that has effects on devices; and again, as it may be another by then.
    if !folder.metadata(path).is_ok_and(is_right) {
        return None;
    }
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = folder.open_with(path, OpenOptions::new().read(true).custom_flags(flags)).ok()?;
    if !file.metadata().is_ok_and(is_right) {
        return None;
    }
    let mut lines = BufReader::new(file.take(MAX_FILE)).split(b'\n');
    let line = lines.nth(number.checked_sub(1)? as usize)?.ok()?;
    let line = String::from_utf8(line).ok()?;
    (line.len() <= MAX_LINE && !line.trim().is_empty()).then_some(line)
}

fn excerpt(file: &str, number: u32, column: Option<u32>, code: &str) -> String {
    let gutter = " ".repeat(number.to_string().len());
    let shown = |code: &str| Printable::line(&code.trim_end().replace('\t', " ")).to_string();
    let mut text = format!("\nnote: {}:{number}\n {gutter} |\n {number} | {}", Printable::name(file), shown(code));
    let before = column.and_then(|column| code.get(..column.checked_sub(1)? as usize));
    if let Some(before) = before.filter(|before| before.len() < code.trim_end().len()) {
        let indent = " ".repeat(Printable::line(&before.replace('\t', " ")).to_string().chars().count());
        text.push_str(&format!("\n {gutter} | {indent}^"));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_sources_below_the_folder_are_admitted() {
        let admitted = |file: &str| admitted(Path::new("/home/me/project"), file).is_some();
        for right in ["src/main.rs", "/home/me/project/a.c", "./a.cpp", "a/b/c.go"] {
            assert!(admitted(right), "{right}");
        }
        for wrong in [
            "/etc/shadow",
            "/etc/main.rs",
            "/home/me/project2/a.rs",
            "../a.rs",
            "src/../../a.rs",
            "/home/me/project/../a.rs",
            "secrets.txt",
            "id_rsa",
            ".rs",
            "",
        ] {
            assert!(!admitted(wrong), "{wrong}");
        }
    }

    #[test]
    fn lines_are_read_of_regular_files_that_are_not_long() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.rs");
        fs::write(&path, "one\n\n\nfour").unwrap();
        let opened = Dir::open_ambient_dir(folder.path(), ambient_authority()).unwrap();
        let source_line = |name: &str, number| source_line(&opened, Path::new(name), number);
        let lines: Vec<_> = [0, 1, 2, 4, 5, u32::MAX].map(|number| source_line("a.rs", number)).into();
        assert_eq!(lines, [None, Some("one".into()), None, Some("four".into()), None, None]);
        fs::write(&path, b"one\n\xff\n").unwrap();
        assert_eq!(source_line("a.rs", 2), None);
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(MAX_FILE + 1).unwrap();
        assert_eq!(source_line("a.rs", 1), None);
        assert_eq!(source_line(".", 1), None);
        let fifo = folder.path().join("fifo.rs");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
        assert_eq!(source_line("fifo.rs", 1), None);
    }
    /// A guest may make links in a folder that it was given.
    #[test]
    fn links_are_followed_inside_the_folder_only() {
        let outer = tempfile::tempdir().unwrap();
        fs::write(outer.path().join("secret"), "secret\n").unwrap();
        fs::create_dir_all(outer.path().join("project/src")).unwrap();
        let project = outer.path().join("project");
        fs::write(project.join("a.rs"), "mine\n").unwrap();
        for (target, link) in [
            ("../../secret", "src/up.rs"),
            (outer.path().join("secret").to_str().unwrap(), "absolute.rs"),
            ("/dev/zero", "zero.rs"),
            ("..", "out"),
            ("../a.rs", "src/inside.rs"),
        ] {
            std::os::unix::fs::symlink(target, project.join(link)).unwrap();
        }
        fs::write(outer.path().join("b.rs"), "theirs\n").unwrap();
        let opened = Dir::open_ambient_dir(&project, ambient_authority()).unwrap();
        let line = |name: &str| source_line(&opened, Path::new(name), 1);
        for name in ["src/up.rs", "absolute.rs", "zero.rs", "out/b.rs", "/dev/zero"] {
            assert_eq!(line(name), None, "{name}");
        }
        assert_eq!(line("a.rs").as_deref(), Some("mine"));
        assert_eq!(line("src/inside.rs").as_deref(), Some("mine"));
    }

    #[test]
    fn the_mark_is_below_the_column() {
        let text = excerpt("a.go", 7, Some(3), "\t\tf(x)");
        assert_eq!(text, "\nnote: a.go:7\n   |\n 7 |   f(x)\n   |   ^");
    }
}
