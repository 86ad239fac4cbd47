//! What people take for a module that wasmrun runs: other kinds of files, text with a mistake, modules made for other hosts.

use std::ffi::OsStr;
use std::path::Path;

use crate::ImportType;
use crate::printable::Printable;

/// Bytes at the beginning of a file that tell its kind.
pub(super) const HEAD: usize = 64;

/// How to compile a program for WASI Preview 1.
const BUILD: &str = "build a core module instead, for WASI Preview 1:
  Rust    cargo build --target wasm32-wasip1
  C, C++  clang --target=wasm32-wasip1, from the WASI SDK
  Go      GOOS=wasip1 GOARCH=wasm go build
  TinyGo  tinygo build -target=wasip1";

const COMPONENT: &str = "this is a component (WASI 0.2 or later), and wasmrun runs core modules (WASI Preview 1)";

const UNPACK: &str = "unpack it first";

const NATIVE: &str = "the system runs it without wasmrun; what wasmrun runs is compiled for wasm32-wasip1";

/// Magic numbers of files that are no modules, what they are, and what may help.
const KINDS: [(&[u8], &str, &str); 20] = [
    (b"(component", COMPONENT, BUILD),
    (b"\x7fELF", "this is a native executable (ELF), not a WebAssembly module", NATIVE),
    (b"\xcf\xfa\xed\xfe", "this is a native executable (Mach-O), not a WebAssembly module", NATIVE),
    (b"\xce\xfa\xed\xfe", "this is a native executable (Mach-O), not a WebAssembly module", NATIVE),
    (b"\xca\xfe\xba\xbe", "this is a native executable (Mach-O) or a Java class, not a WebAssembly module", NATIVE),
    (b"MZ", "this is a Windows executable (PE), not a WebAssembly module", NATIVE),
    (b"\x1f\x8b", "the file is compressed (gzip)", "unpack it first: gunzip"),
    (b"PK\x03\x04", "this is an archive (zip)", UNPACK),
    (b"\xfd7zXZ\0", "the file is compressed (xz)", "unpack it first: unxz"),
    (b"\x28\xb5\x2f\xfd", "the file is compressed (zstd)", "unpack it first: unzstd"),
    (b"BZh", "the file is compressed (bzip2)", "unpack it first: bunzip2"),
    (b"!<arch>\n", "this is a static library (an archive of object files)", "link it into a program first"),
    (b"BC\xc0\xde", "this is LLVM bitcode, not a WebAssembly module", "compile it: clang --target=wasm32-wasip1"),
    (b"#!", "this is a script, not a WebAssembly module", ""),
    (b"<!DOCTYPE", "this is a web page, not a WebAssembly module", ""),
    (b"<!doctype", "this is a web page, not a WebAssembly module", ""),
    (b"<html", "this is a web page, not a WebAssembly module", ""),
    (b"version https://git-lfs", "this is a pointer of Git LFS, the module itself was not fetched", "git lfs pull"),
    (b"\xef\xbb\xbf#!", "this is a script, not a WebAssembly module", ""),
    (b"\xff\xfe", "this is text in UTF-16, and only UTF-8 is read", ""),
];

/// Ends of the names of source files that modules are compiled from or loaded by, and what such a file is.
const SOURCES: [(&str, &str, &str); 9] = [
    ("js", "this is JavaScript, not a WebAssembly module", JAVASCRIPT),
    ("mjs", "this is JavaScript, not a WebAssembly module", JAVASCRIPT),
    ("rs", "this is Rust source", "compile it: rustc --target wasm32-wasip1"),
    ("c", "this is C source", "compile it: clang --target=wasm32-wasip1, from the WASI SDK"),
    ("cc", "this is C++ source", "compile it: clang++ --target=wasm32-wasip1, from the WASI SDK"),
    ("cpp", "this is C++ source", "compile it: clang++ --target=wasm32-wasip1, from the WASI SDK"),
    ("go", "this is Go source", "compile it: GOOS=wasip1 GOARCH=wasm go build"),
    ("swift", "this is Swift source", "compile it: swift build --swift-sdk wasm32-unknown-wasip1"),
    ("wit", "this is an interface for components, not a module", ""),
];

const JAVASCRIPT: &str = "the module that it loads is a .wasm file, beside it mostly";

/// What a file is that is no module, and what may help; `None` if it may be one. Of a long file the first [`HEAD`] bytes
/// are enough.
pub(super) fn for_module(file: &OsStr, bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    match bytes {
        [] => return Some(("the file is empty", "")),
        [b'\0', b'a', b's', b'm', _, _, 1, 0, ..] => return Some((COMPONENT, BUILD)),
        [b'\0', b'a', b's', b'm', ..] => return None,
        _ => {}
    }
    if let Some((_, what, hint)) = KINDS.iter().find(|(magic, ..)| bytes.starts_with(magic)) {
        return Some((what, hint));
    }
    // Comments of several languages begin as those of the text format do, so only the name can tell.
    let end = Path::new(file).extension().and_then(OsStr::to_str);
    let source = SOURCES.iter().find(|(own, ..)| Some(*own) == end).map(|(_, what, hint)| (*what, *hint));
    source.or(is_other_text(bytes).then_some((
        "this is text, but no module: those in the text format begin with `(module`, binary ones with \\0asm",
        "",
    )))
}

/// Whether bytes are text that does not begin as the text format does. The last character may be cut.
fn is_other_text(bytes: &[u8]) -> bool {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or(""),
        Err(_) => return false,
    };
    let begin = text.trim_start_matches('\u{feff}').trim_start().chars().next();
    begin.is_some_and(|c| !"(;".contains(c)) && !text.chars().any(|c| c.is_control() && !c.is_whitespace())
}

/// Columns of a line of source text that are shown.
const SHOWN: usize = 70;

/// The line of a text module that is malformed, with a mark below the place.
pub(super) fn marked_line(bytes: &[u8]) -> Option<String> {
    let source = std::str::from_utf8(bytes).ok()?;
    if !source.trim_start_matches('\u{feff}').trim_start().starts_with(['(', ';']) {
        return None;
    }
    let error = ::wast::parser::ParseBuffer::new(source)
        .and_then(|buffer| ::wast::parser::parse::<::wast::Wat<'_>>(&buffer)?.encode())
        .err()?;
    let (row, column) = error.span().linecol_in(source);
    let line = source.lines().nth(row)?;
    let before = line.get(..column.min(line.len()))?;
    // Of a line that is long, what is around the place.
    let is_long = line.chars().count() > SHOWN;
    let cut = if is_long { before.chars().count().saturating_sub(SHOWN / 2) } else { 0 };
    let start = before.char_indices().nth(cut).map_or(before.len(), |(at, _)| at);
    let shown = |text: &str| Printable::line(&text.replace('\t', " ")).to_string();
    let end = line[start..].char_indices().nth(SHOWN).map_or(line.len(), |(at, _)| start + at);
    let number = (row + 1).to_string();
    let (left, right) = (if cut > 0 { "…" } else { "" }, if end < line.len() { "…" } else { "" });
    let indent = shown(&before[start..]).chars().count() + left.chars().count();
    Some(format!(
        "\n  {number} | {left}{}{right}\n  {:width$} | {:indent$}^",
        shown(&line[start..end]),
        "",
        "",
        width = number.len()
    ))
}

/// What the imports that nothing provides tell of how a module was made, and what may help.
pub(super) fn made_for(missing: &[ImportType<'_>]) -> Option<&'static str> {
    missing.iter().find_map(|import| host_of(import.module(), import.name())).or_else(|| {
        let is_short = |import: &ImportType<'_>| import.module() == "a" && import.name().len() <= 2;
        missing.iter().all(is_short).then_some(EMSCRIPTEN)
    })
}

const EMSCRIPTEN: &str = "Emscripten made it for its JavaScript; link it with `-sSTANDALONE_WASM`, or use the WASI SDK";

const OBJECT: &str = "it is an object file; link it: clang --target=wasm32-wasip1, or wasm-ld";

const SHARED_LIBRARY: &str =
    "it is a shared library for dynamic linking, which wasmrun does not do; link it into a program";

fn host_of(module: &str, name: &str) -> Option<&'static str> {
    match (module, name) {
        // `__linear_memory` and the table are what object files share; position-independent code is told its base.
        ("env", "__memory_base" | "__table_base") | ("GOT.mem" | "GOT.func", _) => Some(SHARED_LIBRARY),
        ("env", "__linear_memory") => Some(OBJECT),
        ("env", name) if is_emscripten(name) => Some(EMSCRIPTEN),
        ("gojs" | "go", _) => Some("Go made it for JavaScript; build it with GOOS=wasip1 GOARCH=wasm"),
        ("wbg" | "__wbindgen_placeholder__" | "__wbindgen_externref_xform__", _) => {
            Some("wasm-bindgen made it for JavaScript; build it without that, with `--target wasm32-wasip1`")
        }
        (module, _) if module.starts_with("wasix_") => {
            Some("it is made for WASIX, an extension of another runtime; build it for wasm32-wasip1")
        }
        (module, _) if module.starts_with("wasi:") => {
            Some("it is the core of a component (WASI 0.2 or later); build it for wasm32-wasip1, not -wasip2")
        }
        ("wasi_snapshot_preview1" | "wasi_unstable", _) => {
            Some("WASI Preview 1 has no such function: it is an extension of another runtime")
        }
        ("wasi", "thread-spawn") => Some("it starts threads (wasi-threads), which wasmrun does not; build it without"),
        _ => None,
    }
}

/// Whether an import from `env` is one that Emscripten's JavaScript provides.
fn is_emscripten(name: &str) -> bool {
    const BEGINNINGS: [&str; 9] = [
        "emscripten_",
        "_emscripten_",
        "__syscall_",
        "invoke_",
        "__cxa_",
        "_embind_",
        "__asyncjs__",
        "_emval_",
        "__call_sighandler",
    ];
    const NAMES: [&str; 6] =
        ["abortStackOverflow", "_abort_js", "_tzset_js", "_mmap_js", "_munmap_js", "__assert_fail"];
    NAMES.contains(&name) || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_a_file_tells_its_kind() {
        let what = |name: &str, bytes: &[u8]| for_module(OsStr::new(name), bytes).map(|(what, _)| what);
        assert!(what("a", b"\x7fELF\x02\x01").unwrap().contains("ELF"));
        assert!(what("a.wasm", b"\0asm\x0d\0\x01\0").unwrap().contains("component"));
        assert_eq!(what("a.js", b"\0asm\x01\0\0\0"), None);
        assert!(what("a.js", b"(() => {})()").unwrap().contains("JavaScript"));
        assert_eq!(what("a.wat", b"(module)"), None);
        assert!(what("a.wat", b"(component)").unwrap().contains("component"));
        for text in ["B", "some text", "{\"a\": \"\u{e9}", "\u{feff}é"] {
            assert!(what("a.wasm", text.as_bytes()).unwrap().contains("text"), "{text}");
        }
        assert!(what("a", &"é".as_bytes()[..1]).is_none() && what("a", "éé".as_bytes()[..3].into()).is_some());
        for module in ["(func)", ";; c", "(; c ;) (module)", "\u{feff} (module)", " \n"] {
            assert_eq!(what("a", module.as_bytes()), None, "{module}");
        }
        for binary in [&b"B\x01\x02"[..], b"\x7fE", b"B\xff\xff", b"\0as"] {
            assert_eq!(what("a", binary), None, "{binary:?}");
        }
        assert!(KINDS.iter().all(|(magic, ..)| magic.len() <= HEAD));
    }

    #[test]
    fn the_place_of_a_mistake_is_marked() {
        let marked = |source: &str| marked_line(source.as_bytes());
        let text = "(module\n  (func\t(i32.cnst 1)))";
        assert_eq!(marked(text).unwrap(), "\n  2 |   (func (i32.cnst 1)))\n    |          ^");
        assert_eq!(marked("(module (func (call $f)))").unwrap().lines().last(), Some("    |                     ^"));
        // Escapes take more columns than the characters that they stand for.
        assert_eq!(
            marked("(module (;\u{ad};) x)").unwrap(),
            "\n  1 | (module (;\\u{ad};) x)\n    |                    ^"
        );
        let long = format!("(module {} x {})", "(func)".repeat(100), "(func)".repeat(100));
        let lines = marked(&long).unwrap();
        assert!(lines.lines().all(|line| line.chars().count() < 80) && lines.matches('…').count() == 2, "{lines}");
        let at = lines.lines().nth(2).unwrap().find('^').unwrap();
        assert_eq!(lines.lines().nth(1).unwrap().chars().nth(at), Some('x'), "{lines}");
        assert!(marked(&"(".repeat(5000)).is_some());
        assert_eq!(marked("(module)"), None);
        assert_eq!(marked("hello"), None);
    }
}
