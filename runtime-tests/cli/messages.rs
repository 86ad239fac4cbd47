//! Every message of the command line, as golden text: messages/*.txt, refreshed with `WASMRUN_BLESS=1`.
//!
//! Each file has command lines that begin with `$`, and below each what it does, run twice in a folder with the files of
//! [`files`]: with pipes, `?` the exit status, `>` standard output and `!` standard error; and on a terminal of 80 columns,
//! `|` what is seen there. If the terminal shows what the pipes get, that is not repeated. `␛` is an escape character, `␀` a
//! zero, `␍` a carriage return, `⏎` the end of what does not end its line. `#` begins a comment. `jit-*.txt` is for builds with the JIT.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;
use std::process::Stdio;

use super::{COUNT_ARGS, Files, PRINT_ARGS, WRITE_FOREVER, common, exit_with, opening, wasmrun};

/// What a line of the golden text begins with.
const RESULTS: [char; 4] = ['?', '>', '!', '|'];

/// The files that the command lines name.
fn files() -> Files {
    let exit = exit_with(3);
    let open = opening("notes.txt", 0, 2);
    let import =
        |module: &str, name: &str| format!(r#"(module (import "{module}" "{name}" (func)) (func (export "_start")))"#);
    let files = Files::new(&[
        ("ok.wat", r#"(module (func (export "_start")))"#),
        ("exit.wat", &exit),
        ("args.wat", PRINT_ARGS),
        ("count.wat", COUNT_ARGS),
        ("open.wat", &open),
        ("write.wat", WRITE_FOREVER),
        (
            "math.wat",
            r#"(module (memory (export "memory") 1)
            (func (export "fib") (param i32) (result i32) (local.get 0))
            (func $add (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
            (func (export "mul") (param i32 i32) (result i32) (i32.mul (local.get 0) (local.get 1))))"#,
        ),
        (
            "many.wat",
            &format!("(module {})", (0..50).map(|n| format!(r#"(func (export "function{n}"))"#)).collect::<String>()),
        ),
        ("nothing.wat", "(module)"),
        ("trap.wat", r#"(module (func $inner unreachable) (func $_start (export "_start") (call $inner)))"#),
        ("spin.wat", r#"(module (func $spin (export "_start") (loop $l (br $l))))"#),
        ("throw.wat", r#"(module (tag $t (param i32)) (func $_start (export "_start") (throw $t (i32.const 7))))"#),
        ("grow.wat", r#"(module (memory 100) (func (export "_start")))"#),
        ("syntax.wat", "(module\n  (func (export \"_start\")\n    (i32.cnst 1)))\n"),
        ("unknown.wat", "(module (func (export \"_start\") (call $missing)))"),
        ("type.wat", "(module (func $f (result i32)))"),
        ("script.wast", "(module) (assert_return (invoke \"f\"))"),
        ("good.wast", "(module)\n(module)"),
        ("text.txt", "hello"),
        ("page.html", "<!DOCTYPE html>"),
        ("glue.js", "(() => { WebAssembly.instantiate() })()"),
        ("main.rs", "fn main() {}"),
        ("main.c", "int main() {}"),
        ("empty.wasm", ""),
        ("elf.wasm", "\u{7f}ELF\u{2}\u{1}"),
        ("pe.exe", "MZ  "),
        ("zip.wasm", "PK\u{3}\u{4}"),
        ("lib.a", "!<arch>\n"),
        ("cut.wasm", "\0asm\u{1}\0\0\0\u{1}\u{5}"),
        ("component.wasm", "\0asm\r\0\u{1}\0"),
        ("broken.cwasm", "\0asm\u{1}\0\0\0"),
        ("env.wat", &import("env", "missing")),
        ("memory.wat", r#"(module (import "env" "memory" (memory 1)) (func (export "_start")))"#),
        ("emscripten.wat", &import("env", "emscripten_resize_heap")),
        ("minified.wat", &import("a", "b")),
        ("object.wat", &import("env", "__linear_memory")),
        ("shared.wat", &import("env", "__memory_base")),
        ("go.wat", &import("gojs", "runtime.wasmExit")),
        ("bindgen.wat", &import("__wbindgen_placeholder__", "__wbindgen_throw")),
        ("wasix.wat", &import("wasix_32v1", "fd_pipe")),
        ("preview2.wat", &import("wasi:cli/environment@0.2.0", "get-arguments")),
        ("extension.wat", &import("wasi_snapshot_preview1", "sock_open")),
        ("threads.wat", &import("wasi", "thread-spawn")),
        ("wrong-type.wat", &import("wasi_snapshot_preview1", "proc_exit")),
        ("data", "precious"),
        ("notes.txt", "notes"),
    ]);
    fs::write(files.path("gzip.wasm"), b"\x1f\x8b\x08\0").unwrap();
    fs::write(files.path("macho"), b"\xcf\xfa\xed\xfe\x07\0\0\x01").unwrap();
    fs::write(files.path("bitcode.o"), b"BC\xc0\xde").unwrap();
    fs::create_dir(files.path("folder")).unwrap();
    fs::create_dir(files.path("modules")).unwrap();
    fs::copy(files.path("ok.wat"), files.path("modules/hello.wat")).unwrap();
    files
}

/// The words of a command line; `'` quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut quoted = false;
    let mut word: Option<String> = None;
    for c in line.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

fn command(line: &str, folder: &Path) -> std::process::Command {
    let words = words(line);
    // Variables for the one command may stand before it, as in a shell.
    let at = words.iter().position(|word| word == "wasmrun").expect("the command is wasmrun");
    let mut command = wasmrun();
    command.current_dir(folder).args(&words[at + 1..]).env("XDG_CACHE_HOME", folder.join("cache"));
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI", "COLUMNS", "WASMRUN_LOG"] {
        command.env_remove(name);
    }
    command.env("TERM", "xterm").envs(words[..at].iter().filter_map(|word| word.split_once('=')));
    command
}

/// Each line of a text behind a mark.
fn marked(mark: char, text: &str, out: &mut String) {
    // What the text does not end with is told too, because the shell's prompt would follow it.
    let (text, end) =
        text.strip_suffix('\n').map_or((text, if text.is_empty() { "" } else { "⏎" }), |text| (text, ""));
    if text.is_empty() && end.is_empty() {
        return;
    }
    for line in (text.to_string() + end).split('\n') {
        let line = format!("{mark} {line}");
        let _ = writeln!(out, "{}", line.trim_end());
    }
}

/// What is seen on a terminal of 80 columns.
fn on_terminal(line: &str, folder: &Path) -> String {
    let (mut person, mut terminal) = (0, 0);
    let size = libc::winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: both numbers have room, the size is one, and the rest may be left out.
    let made = unsafe {
        let null = std::ptr::null_mut();
        libc::openpty(&mut person, &mut terminal, null, null.cast(), (&raw const size).cast_mut().cast())
    };
    assert_eq!(made, 0, "there are pseudo-terminals");
    // SAFETY: just opened, and nobody else's.
    let [person, terminal] = [person, terminal].map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    let mut command = command(line, folder);
    command.stdin(Stdio::null()).stdout(terminal.try_clone().unwrap()).stderr(terminal);
    let mut child = command.spawn().unwrap();
    // With it go the last copies of the terminal here, so that its end is seen.
    drop(command);
    let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
    let mut person = File::from(person);
    // Linux gives an error at the end.
    while let Ok(len @ 1..) = person.read(&mut part) {
        bytes.extend_from_slice(&part[..len]);
    }
    child.wait().unwrap();
    String::from_utf8_lossy(&bytes).replace("\r\n", "\n")
}

/// What a command line does.
fn results(line: &str, folder: &Path) -> String {
    let clean =
        |text: &str| text.replace(&*folder.to_string_lossy(), "FOLDER").replace('\u{1b}', "␛").replace('\0', "␀");
    let output = command(line, folder).output().unwrap();
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|bytes| clean(&String::from_utf8_lossy(bytes)));
    let mut out = format!("? {}\n", output.status.code().map_or("ended by a signal".into(), |code| code.to_string()));
    marked('>', &stdout, &mut out);
    marked('!', &stderr, &mut out);
    let seen = clean(&on_terminal(line, folder));
    if seen != stdout + &stderr {
        marked('|', &seen, &mut out);
    }
    out
}

/// The golden text of a file as it should be.
fn refreshed(golden: &str, folder: &Path) -> String {
    let mut out = String::new();
    for line in golden.lines().filter(|line| !line.starts_with(RESULTS)) {
        let _ = writeln!(out, "{line}");
        if let Some(line) = line.strip_prefix("$ ") {
            out += &results(line, folder);
        }
    }
    out
}

#[test]
fn messages_are_as_written_down() {
    if common::emulated() {
        // The emulator's command would stand before wasmrun on the terminal of each of the many runs.
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("runtime-tests/cli/messages");
    let mut different = Vec::new();
    let mut commands = 0;
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("jit-") && !cfg!(jit) {
            continue;
        }
        let golden = fs::read_to_string(&path).unwrap();
        let files = files();
        let actual = refreshed(&golden, files.0.path());
        commands += actual.lines().filter(|line| line.starts_with("$ ")).count();
        if actual == golden {
            continue;
        }
        if std::env::var_os("WASMRUN_BLESS").is_some() {
            fs::write(&path, actual).unwrap();
            continue;
        }
        let at = actual.lines().zip(golden.lines()).take_while(|(a, b)| a == b).count();
        let line = |text: &str| text.lines().nth(at).unwrap_or("(the end)").to_string();
        let case = actual.lines().take(at + 1).filter(|line| line.starts_with("$ ")).last().unwrap_or_default();
        different.push(format!(
            "{name}:{}: {case}\n  written: {}\n  actual:  {}",
            at + 1,
            line(&golden),
            line(&actual)
        ));
    }
    assert!(different.is_empty(), "WASMRUN_BLESS=1 writes down what is:\n{}", different.join("\n"));
    assert!(commands > 50, "{commands} commands");
}

/// No line that wasmrun itself lays out is wider than the terminal, as far as no name in it is long.
#[test]
fn help_fits_the_terminal() {
    if common::emulated() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for command in
        ["", "exec", "inspect", "bench", "wast", "completions", "compile", "cache", "cache info", "cache clear"]
    {
        if ["compile", "cache", "cache info", "cache clear"].contains(&command) && !cfg!(jit) {
            continue;
        }
        for flag in ["-h", "--help"] {
            let seen = on_terminal(&format!("wasmrun {command} {flag} --color=never"), folder.path());
            assert!(seen.contains("Usage: wasmrun"), "{command}: {seen}");
            let wide: Vec<_> = seen.lines().filter(|line| line.chars().count() > 80).collect();
            assert!(wide.is_empty() && !seen.contains('\u{1b}'), "{command} {flag}: {wide:?}");
        }
    }
}
