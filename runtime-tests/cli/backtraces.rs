//! Backtraces with source names and lines, and core dumps, as users see them.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

use super::{ENGINES, Files, READY_THEN_SPIN, Terminal, exec, interruptible, wait, wasmrun};

const DIVIDE: &[u8] = include_bytes!("../programs/lines/divide.wasm");
const PANICS: &[u8] = include_bytes!("../programs/lines/panics.wasm");

/// A folder with a binary module.
fn folder(name: &str, bytes: &[u8]) -> Files {
    let files = Files::new(&[]);
    fs::write(files.path(name), bytes).unwrap();
    files
}

#[test]
fn a_trap_is_told_with_files_and_lines() {
    let files = folder("divide.wasm", DIVIDE);
    for engine in ENGINES {
        let done = files.run(&["exec", engine, "--call=run", "divide.wasm", "0"]);
        let expected = " divide.wasm: trap: integer divide by zero
   0: divide at /src/divide.c:5:14
      mean   at /src/divide.c:12:12
      report at /src/divide.c:16:12
   1: run    at /src/divide.c:20:12
";
        done.fails(134, &[expected]);
        let verbose = files.run(&["exec", engine, "-v", "--call=run", "divide.wasm", "0"]);
        verbose.fails(134, &["   0: divide at /src/divide.c:5:14 (at offset 0x"]);
    }
}

#[test]
fn a_recursion_is_counted() {
    // Until the stack that it has in its memory, as compilers make one, is used up.
    let recursive = r#"(module (memory 1) (global $stack (mut i32) (i32.const 4096))
        (func $deep (global.set $stack (i32.sub (global.get $stack) (i32.const 16)))
            (i32.store (global.get $stack) (i32.const 1)) (call $deep))
        (func $even (call $odd)) (func $odd (call $even))
        (func (export "_start") (call $deep)) (func (export "two") (call $even))
        (func (export "flat") (i32.store (i32.const -16) (i32.const 1))))"#;
    let hint = "calls are nested so deeply that the stack which the program has in its memory may be used up";
    for engine in ENGINES {
        let done = exec(recursive, &[engine], &[]);
        done.fails(
            134,
            &["out of bounds", "   0: deep at", "   1: deep at", "\n   (deeper frames are not shown)\n", hint],
        );
        assert!(done.stderr.contains("\n   (the frame above repeats 62 times)\n"), "{done:?}");
        assert!(!done.stderr.contains("   2: "), "{done:?}");
        exec(recursive, &[engine, "-v"], &[]).fails(134, &["   2: deep at", "  63: deep at"]);
        let two = exec(recursive, &[engine, "--call=two"], &[]);
        two.fails(134, &["call stack exhausted", "\n   (the 2 frames above repeat 3"]);
        assert!(two.stderr.lines().count() < 10 && !two.stderr.contains(hint), "{two:?}");
        let flat = exec(recursive, &[engine, "--call=flat"], &[]);
        flat.fails(134, &["out of bounds"]);
        assert!(!flat.stderr.contains(hint) && !flat.stderr.contains("repeat"), "{flat:?}");
    }
}

/// As `Done::new`, for a program that itself panics in Rust.
fn panics(files: &Files, args: &[&str]) -> String {
    let output = wasmrun().current_dir(files.0.path()).args(args).output().unwrap();
    assert_eq!(output.status.code(), Some(134));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_panic_is_told_with_the_programs_own_functions() {
    let files = folder("panics.wasm", PANICS);
    for engine in ENGINES {
        let text = panics(&files, &["exec", engine, "panics.wasm"]);
        let lines: Vec<_> = text.lines().map(str::trim_start).collect();
        let at = lines.iter().position(|line| line.ends_with("trap: unreachable")).unwrap();
        assert!(lines[..at].contains(&"index out of bounds: the len is 3 but the index is 7"), "{text}");
        let shown: Vec<_> =
            lines[at + 1..].iter().map(|line| line.split_once(": ").map_or(*line, |(_, rest)| rest)).collect();
        assert_eq!(
            shown,
            [
                "panics::store::pick at /src/panics.rs:8:9",
                "panics::main        at /src/panics.rs:15:20",
                "(16 functions of Rust's runtime not shown; -v shows all)",
            ],
            "{text}"
        );
        let text = panics(&files, &["exec", engine, "-v", "panics.wasm"]);
        for name in ["core::panicking::panic_bounds_check", "panics::store::pick", "_start"] {
            assert!(text.contains(name), "{text}");
        }
    }
}

/// Functions of these names are hidden only where Rust's runtime would have them.
#[test]
fn what_looks_like_rusts_runtime_may_be_shown() {
    for (wat, shown) in [
        // Nobody panics.
        (
            r#"(module (func $abort unreachable) (func $_start (export "_start") (call $abort)))"#,
            &["0: abort", "1: _start"][..],
        ),
        // Nothing else is there.
        (r#"(module (func $rust_panic (export "_start") unreachable))"#, &["0: rust_panic"]),
        // Called by the program, not calling it.
        (
            r#"(module (func $mine unreachable) (func $"core::panicking::panic" (call $mine))
                (func $_start (export "_start") (call $"core::panicking::panic")))"#,
            &["0: mine", "1: core::panicking::panic", "2: _start"],
        ),
    ] {
        let done = exec(wat, &[], &[]);
        done.fails(134, shown);
        assert!(!done.stderr.contains("not shown"), "{done:?}");
    }
}

/// The line is shown on a terminal, if the source is below the current folder; no other file is read.
#[test]
fn the_line_is_shown_on_a_terminal_only() {
    let code = "first\n\n\n/* \x1b[31m */\n\treturn a / b;\u{202e}\n";
    // The program was compiled in `/src`: give that another name of the same length.
    let compiled_in = |name: &str, content: &str| {
        let at = DIVIDE.windows(5).position(|bytes| bytes == b"/src\0").unwrap();
        let mut bytes = DIVIDE.to_vec();
        bytes[at..at + 4].copy_from_slice(name.as_bytes());
        let files = folder("divide.wasm", &bytes);
        for folder in ["srcs", "below"] {
            fs::create_dir(files.path(folder)).unwrap();
        }
        fs::write(files.path("srcs/divide.c"), content).unwrap();
        files
    };
    let seen_in = |folder: &str, files: &Files| {
        let module = files.path("divide.wasm");
        let args = ["exec", "--call=run", module.to_str().unwrap(), "0"];
        let mut terminal = Terminal::in_folder(files.path(folder).to_str().unwrap(), &args);
        terminal.sees("1: run ");
        terminal.sees("divide.c:20:12");
        terminal.rest()
    };
    let sees = |name: &str, content: &str| seen_in(".", &compiled_in(name, content));
    let seen = sees("srcs", code);
    assert!(
        seen.contains("note: srcs/divide.c:5\r\n   |\r\n 5 |  return a / b;\\u{202e}\r\n   |              ^"),
        "{seen:?}"
    );
    assert!(!sees("srcs", "too\nshort\n").contains("note"));
    assert!(!sees("srcs", &format!("\n\n\n\n{}\n", "long ".repeat(1000))).contains("note"));
    assert!(!sees("nope", code).contains("note"));
    // Below another folder.
    let beside = compiled_in("srcs", code);
    fs::create_dir(beside.path("a")).unwrap();
    fs::rename(beside.path("srcs/divide.c"), beside.path("a/divide.c")).unwrap();
    let bytes = fs::read(beside.path("divide.wasm")).unwrap();
    let at = bytes.windows(5).position(|bytes| bytes == b"srcs\0").unwrap();
    fs::write(beside.path("divide.wasm"), [&bytes[..at], b"../a", &bytes[at + 4..]].concat()).unwrap();
    assert!(!seen_in("below", &beside).contains("note"));
    // Not on a terminal.
    let done = compiled_in("srcs", code).run(&["exec", "--call=run", "divide.wasm", "0"]);
    assert!(done.stderr.contains("srcs/divide.c:5:14") && !done.stderr.contains("note"), "{done:?}");
}

/// The custom section and the parts of a dump that the tests look for.
fn is_dump(bytes: &[u8], name: &str) -> bool {
    let has = |text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
    bytes.starts_with(b"\0asm")
        && [name, "core", "coremodules", "coreinstances", "corestack"].into_iter().all(has)
        && wasmparser::Validator::new().validate_all(bytes).is_ok()
}

#[test]
fn a_core_is_dumped_whatever_ends_a_program() {
    let trap = r#"(module (memory 1) (func (export "_start") (i32.store (i32.const 0) (i32.const 7)) unreachable))"#;
    let throw = r#"(module (tag $t) (func (export "_start") (throw $t)))"#;
    let spin = r#"(module (func (export "_start") (loop (br 0))))"#;
    for engine in ENGINES {
        for (wat, flags, status) in [
            (trap, &[][..], 134),
            (throw, &[], 134),
            (spin, &["--timeout=100ms"], 124),
            (spin, &["--max-cpu=50ms"], 124),
            (spin, &["--fuel=1000"], 134),
        ] {
            let files = Files::new(&[("m.wat", wat)]);
            let done = files.run(&[&["exec", engine, "--coredump=core"], flags, &["m.wat"]].concat());
            done.fails(status, &["core dumped to core\n"]);
            let bytes = fs::read(files.path("core")).unwrap();
            assert!(is_dump(&bytes, "m.wat"));
            let mode = fs::metadata(files.path("core")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "a core may have secrets");
        }
    }
}

#[test]
fn no_core_is_dumped_of_a_program_that_ends_by_itself() {
    let files = Files::new(&[
        ("ends.wat", r#"(module (func (export "_start")))"#),
        ("exits.wat", &super::exit_with(3)),
        ("traps.wat", r#"(module (func (export "_start") unreachable))"#),
    ]);
    files.run(&["exec", "--coredump=core", "ends.wat"]).check(0, "");
    files.run(&["exec", "--coredump=core", "exits.wat"]).check(3, "");
    assert!(!files.path("core").exists());
    // Where none can be written, that is told, and the status stays that of the program.
    let done = files.run(&["exec", "--coredump=no/core", "traps.wat"]);
    done.fails(134, &["cannot write the core dump no/core: ", "trap: unreachable"]);
    let done = files.run(&["exec", "--coredump=/dev/full", "traps.wat"]);
    done.fails(134, &["cannot write the core dump /dev/full: "]);
    let left: Vec<_> = fs::read_dir(files.0.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "nothing unfinished is left: {left:?}");
}

/// Ctrl-C dumps the core too, and has the status it always has.
#[test]
fn an_interrupt_dumps_the_core() {
    let files = Files::new(&[("spin.wat", READY_THEN_SPIN)]);
    let mut child = interruptible()
        .current_dir(files.0.path())
        .args(["exec", "--cache=off", "--coredump=core", "spin.wat"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 5];
    child.stdout.take().unwrap().read_exact(&mut ready).unwrap();
    // SAFETY: sends a signal to a child of this test, which is not waited for yet.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    assert_eq!(wait(&mut child, Duration::from_secs(60)), Some(130));
    assert!(is_dump(&fs::read(files.path("core")).unwrap(), "spin.wat"));
}

/// Ctrl-C while the dump is written ends the process at once: there is no guest any more that could end.
#[test]
fn an_interrupt_ends_a_dump() {
    let files = Files::new(&[("traps.wat", r#"(module (func (export "_start") unreachable))"#)]);
    // Nobody reads, so it is never open for writing.
    rustix::fs::mknodat(rustix::fs::CWD, files.path("core"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
    let mut child = interruptible()
        .current_dir(files.0.path())
        .args(["exec", "--cache=off", "--coredump=core", "traps.wat"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("trap: unreachable"), "{line}");
    // The message comes before the dump is begun.
    std::thread::sleep(Duration::from_millis(500));
    // SAFETY: sends a signal to a child of this test, which is not waited for yet.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    assert_eq!(wait(&mut child, Duration::from_secs(60)), Some(130));
}

/// A guest that puts a link where its core is dumped, in a folder that it was given, does not choose another file.
#[test]
fn a_core_follows_no_link_of_the_guest() {
    let program = r#"(module
        (import "wasi_snapshot_preview1" "path_symlink" (func $link (param i32 i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "path_rename" (func $move (param i32 i32 i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1) (data (i32.const 16) "../mine") (data (i32.const 32) "core")
        (data (i32.const 48) "below") (data (i32.const 64) "moved") (data (i32.const 80) "..")
        (func (export "_start")
            (if (call $link (i32.const 16) (i32.const 7) (i32.const 3) (i32.const 32) (i32.const 4)) (then (return)))
            (if (call $move (i32.const 3) (i32.const 48) (i32.const 5) (i32.const 3) (i32.const 64) (i32.const 5))
                (then (return)))
            (if (call $link (i32.const 80) (i32.const 2) (i32.const 3) (i32.const 48) (i32.const 5)) (then (return)))
            unreachable))"#;
    for (core, written) in [("given/core", "given/core"), ("given/below/mine", "given/moved/mine")] {
        let files = Files::new(&[("links.wat", program), ("mine", "mine")]);
        fs::create_dir_all(files.path("given/below")).unwrap();
        let flag = format!("--coredump={core}");
        files.run(&["exec", "--dir=given", &flag, "links.wat"]).fails(134, &["core dumped to "]);
        assert_eq!(fs::read_to_string(files.path("mine")).unwrap(), "mine");
        assert!(is_dump(&fs::read(files.path(written)).unwrap(), "links.wat"), "{core}");
        assert!(!fs::symlink_metadata(files.path(written)).unwrap().is_symlink());
    }
}
