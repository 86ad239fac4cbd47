//! What people do wrong on a command line: each gets one line that says what and where, and nothing is lost.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use super::{Done, Files, exec, exit_with, wasmrun};

#[test]
fn each_is_told_in_a_line() {
    let files = Files::new(&[
        ("m.wat", &exit_with(0)),
        ("empty.wasm", ""),
        ("text.txt", "hello"),
        ("cut.wasm", "\0asm\u{1}\0\0\0\u{1}\u{5}"),
        ("page.html", "<!DOCTYPE html>"),
        ("script.wast", "(module) (assert_nothing)"),
        ("broken.cwasm", "\0asm\u{1}\0\0\0"),
    ]);
    fs::create_dir(files.path("folder")).unwrap();
    for (args, status, mentions) in [
        (&["exec", "folder"][..], 126, &["folder: is a directory, not a module"][..]),
        (&["exec", ""], 127, &["\"\": no such file"]),
        (&["exec", "m.wat/x"], 126, &["m.wat/x: "]),
        (&["exec", "empty.wasm"], 126, &["empty.wasm: the file is empty"]),
        (&["exec", "text.txt"], 126, &["text.txt: this is text, but no module"]),
        (&["exec", "page.html"], 126, &["page.html: this is a web page"]),
        (&["exec", "cut.wasm"], 126, &["cut.wasm: ", "offset 0x"]),
        #[cfg(jit)]
        (&["exec", "--allow-precompiled", "broken.cwasm"], 126, &["broken.cwasm: it has no compiled code"]),
        (&["exec", "/dev/null"], 126, &["/dev/null: the file is empty"]),
        (&["inspect", "folder"], 126, &["folder: is a directory"]),
        (&["inspect", "empty.wasm"], 126, &["empty.wasm: the file is empty"]),
        (&["inspect", "none.wasm"], 127, &["none.wasm: no such file"]),
        (&["inspect", "--bytecode=99", "m.wat"], 125, &["no function 99"]),
        (&["bench", "folder"], 126, &["folder: is a directory"]),
        (&["bench", "-"], 2, &["bench runs the module many times"]),
        (&["wast", "folder"], 126, &["folder: is a directory"]),
        (&["wast", "none.wast"], 127, &["none.wast: no such file"]),
        (&["exec", "--stdin", "folder", "m.wat"], 125, &["--stdin folder: is a directory"]),
        (&["exec", "--stdout", "folder", "m.wat"], 125, &["--stdout folder: ", "irectory"]),
        (&["exec", "--stdin", "none", "m.wat"], 125, &["--stdin none: "]),
        (&["exec", "--dir", "m.wat", "m.wat"], 125, &["--dir m.wat: ", "ot a directory"]),
        (&["exec", "--preload", "x=none.wat", "m.wat"], 127, &["none.wat: no such file"]),
        (&["exec", "--preload", "x=folder", "m.wat"], 126, &["folder: is a directory"]),
        (&["exec", "--listen", "256.0.0.1:80", "m.wat"], 125, &["--listen 256.0.0.1:80: "]),
        (&["exec", "--env", "=x", "m.wat"], 2, &["--env =x: the name is missing"]),
        (&["exec", "--call", "", "m.wat"], 125, &["there is no export ``"]),
        #[cfg(jit)]
        (&["compile", "folder"], 126, &["folder: is a directory"]),
        #[cfg(jit)]
        (&["compile", "empty.wasm"], 126, &["empty.wasm: the file is empty"]),
        #[cfg(jit)]
        (&["compile", "none.wasm"], 127, &["none.wasm: no such file"]),
        #[cfg(jit)]
        (&["compile", "m.wat", "-o", "none/x"], 125, &["none/x: No such file or directory"]),
        #[cfg(jit)]
        (&["cache", "info", "--cache-dir", "m.wat"], 125, &["m.wat: "]),
    ] {
        let done = files.run(args);
        done.fails(status, mentions);
        let first = done.stderr.lines().next().unwrap();
        assert!(first.starts_with("wasmrun: error: "), "{args:?}: {done:?}");
        let is_listing = args.contains(&"--call");
        let others = done.stderr.lines().skip(1).filter(|line| !line.starts_with("wasmrun: hint: "));
        assert!(is_listing || others.count() == 0, "{args:?}: {done:?}");
    }
    let done = files.run(&["wast", "script.wast"]);
    assert_eq!((done.status, done.stdout.contains("script.wast:1:11")), (Some(1), true), "{done:?}");
    assert_eq!(fs::read_to_string(files.path("m.wat")).unwrap(), exit_with(0));
}

/// A program that looks for directories at its start, as some C libraries do in every program, and then ends by `end`.
fn looking_for_directories(end: &str) -> String {
    format!(
        r#"(module (import "wasi_snapshot_preview1" "fd_prestat_get" (func $look (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (func (export "_start") (drop (call $look (i32.const 3) (i32.const 0))) {end}))"#
    )
}

#[test]
fn directories_are_hinted_at_where_they_may_be_why() {
    let hint = "the program looked for directories and has none";
    for end in ["(call $exit (i32.const 1))", "unreachable"] {
        let done = exec(&looking_for_directories(end), &[], &[]);
        assert!(done.stderr.contains(hint), "{end}: {done:?}");
    }
    for end in ["(drop (i32.div_s (i32.const 1) (i32.const 0)))", "(drop (i32.load (i32.const -1)))"] {
        let done = exec(&looking_for_directories(end), &[], &[]);
        done.fails(134, &["trap: "]);
        assert!(!done.stderr.contains(hint), "{end}: {done:?}");
    }
    exec(&looking_for_directories("(loop (br 0))"), &["--timeout=20ms"], &[]).fails(124, &["ended by --timeout"]);
}

#[test]
fn flags_behind_the_file_are_told() {
    let failing = looking_for_directories("(call $exit (i32.const 1))");
    let hint =
        |flag: &str| format!("hint: {flag} is an argument of the program here; wasmrun's own flags stand before");
    exec(&failing, &[], &["--dir", "."]).fails(1, &[&hint("--dir")]);
    exec(&failing, &[], &["--dir=."]).fails(1, &[&hint("--dir")]);
    exec("(module (func (export \"f\")))", &[], &["x", "--call=f"]).fails(125, &[&hint("--call")]);
    #[cfg(jit)]
    {
        let files = Files::new(&[("m.wat", &exit_with(0))]);
        files.run(&["compile", "m.wat"]).check(0, "");
        files.run(&["m.cwasm", "--allow-precompiled"]).fails(126, &[&hint("--allow-precompiled")]);
    }
    for (module, args) in [(&failing, &["--jit", "-d", "--", "--dir"][..]), (&exit_with(3), &["--dir"])] {
        let done = exec(module, &[], args);
        assert!(!done.stderr.contains("is an argument of the program"), "{done:?}");
    }
}

#[test]
fn a_free_port_is_told() {
    for address in ["0", ":0", "127.0.0.1:0"] {
        let done = exec(&exit_with(0), &["--listen", address], &[]);
        assert!(done.stderr.contains("note: listening on 127.0.0.1:"), "{address}: {done:?}");
    }
}

#[test]
fn bench_of_a_library_tells_no_statistics() {
    let files = Files::new(&[("lib.wat", "(module (func (export \"f\")))")]);
    let done = files.run(&["bench", "lib.wat"]);
    done.fails(125, &["the program failed", "lib.wat has no function `_start`"]);
    assert!(!done.stderr.contains('{'), "{done:?}");
}

#[test]
fn bench_calls_a_function_with_its_arguments() {
    let text = r#"(module (func (export "add") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add))"#;
    let files = Files::new(&[("lib.wat", text)]);
    let done = files.run(&["bench", "--runs=1", "--call", "add", "lib.wat", "40", "2"]);
    assert_eq!(done.status, Some(0), "{done:?}");
    // `42` and the end of the line.
    assert!(done.stdout.contains("(3 bytes)"), "{done:?}");
    files.run(&["bench", "--call", "ad", "lib.wat"]).fails(125, &["add"]);
}

#[test]
fn what_is_no_utf8_is_told() {
    let files = Files::new(&[("m.wat", &exit_with(3))]);
    let bad = OsStr::from_bytes(b"b\xffd");
    fs::copy(files.path("m.wat"), files.0.path().join(OsStr::from_bytes(b"b\xffd.wat"))).unwrap();
    let run = |args: &[&OsStr]| Done::new(wasmrun().current_dir(files.0.path()).args(args).output().unwrap());
    let (exec, module) = (OsStr::new("exec"), OsStr::new("m.wat"));
    // The name of a file may be anything.
    run(&[exec, OsStr::from_bytes(b"b\xffd.wat")]).check(3, "");
    run(&[exec, bad]).fails(127, &["b\u{fffd}d: no such file"]);
    run(&[exec, module, bad]).fails(2, &["argument b\u{fffd}d is not UTF-8"]);
    for flag in ["--dir", "--env", "--call", "--argv0", "--stdin", "--seed", "--cache"] {
        let done = run(&[exec, OsStr::new(flag), bad, module]);
        assert_eq!(done.status, Some(2), "{flag}: {done:?}");
    }
}

#[test]
fn a_file_is_not_emptied_before_it_is_read() {
    let files = Files::new(&[("m.wat", &exit_with(3)), ("data", "precious")]);
    fs::hard_link(files.path("data"), files.path("same")).unwrap();
    for flags in [["--stdin=data", "--stdout=data"], ["--stdin=data", "--stderr=same"]] {
        let done = files.run(&["exec", flags[0], flags[1], "m.wat"]);
        done.fails(2, &["the same file, data"]);
        assert_eq!(fs::read_to_string(files.path("data")).unwrap(), "precious");
    }
    files.run(&["exec", "--stdin=/dev/null", "--stdout=/dev/null", "m.wat"]).check(3, "");
}

#[test]
fn long_arguments_are_fine() {
    let long = "x".repeat(100_000);
    let files = Files::new(&[("m.wat", super::COUNT_ARGS)]);
    let many = [long.as_str(); 10];
    files.run(&[&["exec", "m.wat"], &many[..]].concat()).check(11, "");
    files.run(&["exec", &long]).fails(126, &["File name too long"]);
}

/// Whoever may not write to the current directory can run programs there.
#[test]
fn a_current_directory_may_be_read_only() {
    let files = Files::new(&[("m.wat", &exit_with(3))]);
    fs::set_permissions(files.0.path(), fs::Permissions::from_mode(0o555)).unwrap();
    files.run(&["exec", "m.wat"]).check(3, "");
    if !rustix::process::geteuid().is_root() {
        #[cfg(jit)]
        files.run(&["compile", "m.wat"]).fails(125, &["m.cwasm: Permission denied"]);
        files.run(&["exec", "--stdout=x", "m.wat"]).fails(125, &["--stdout x: Permission denied"]);
    }
    fs::set_permissions(files.0.path(), fs::Permissions::from_mode(0o755)).unwrap();
}

/// Nobody may listen to standard error.
#[test]
fn a_closed_standard_error_is_no_panic() {
    let files = Files::new(&[("m.wat", &exit_with(3)), ("t.wat", "(module (func (export \"_start\") unreachable))")]);
    for (args, status) in [
        (&["exec", "--stats", "m.wat"][..], 3),
        (&["exec", "--stats=json", "m.wat"], 3),
        (&["exec", "--trace-wasi", "m.wat"], 3),
        (&["exec", "--explain-denials", "m.wat"], 3),
        (&["exec", "-v", "m.wat"], 3),
        (&["exec", "t.wat"], 134),
        (&["exec", "none.wat"], 127),
        (&["exec", "--no-such-flag"], 2),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = wasmrun();
        command.current_dir(files.0.path()).args(args).stdout(Stdio::null()).stderr(writer);
        assert_eq!(command.status().unwrap().code(), Some(status), "{args:?}");
    }
}
