//! `--explain-denials`.

use super::{COUNT_ARGS, ENGINES, Files, exec, exit_with, opening};

#[test]
fn refusals_are_explained() {
    let explained = |wat: &str, flags: &[&str]| {
        let mut all = vec!["--explain-denials"];
        all.extend(flags);
        exec(wat, &all, &[])
    };
    explained(&opening("no.txt", 0, 2), &[]).fails(44, &["  no.txt (not there now)\n", "--dir .\n"]);
    explained(&opening("etc/passwd", 0, 2), &[]).fails(44, &["  /etc/passwd\n", "--dir /etc\n"]);
    explained(&opening("new", 1, 64), &["--dir", ".::/in:ro"]).fails(63, &["/in/new", "--dir .::/in without `:ro`"]);
    explained(&opening("../x", 0, 2), &["--dir", ".::/in"]).fails(63, &["/in/../x", "leads out"]);
    explained(&opening("m.wat", 0, 2), &["--dir", ".", "--max-open-files=4"]).fails(33, &["--max-open-files"]);
    explained(&exit_with(1), &[]).fails(1, &["refused nothing"]);
    // A program that succeeds has nothing to explain.
    let done = explained(&opening("m.wat", 0, 2), &["--dir", "."]);
    assert_eq!((done.status, done.stderr.as_str()), (Some(0), ""), "{done:?}");
}

/// C libraries look absolute paths up in a directory that is named `.`.
#[test]
fn absolute_paths_are_explained_too() {
    let explained = |path: &str, flags: &[&str], args: &[&str]| {
        let mut all = vec!["--explain-denials", "--dir", "."];
        all.extend(flags);
        exec(&opening(path, 0, 2), &all, args)
    };
    explained("etc/passwd", &[], &[]).fails(44, &["  /etc/passwd\n", "--dir /etc\n"]);
    explained("etc/passwd", &[], &["etc/passwd"]).fails(44, &["refused nothing"]);
    explained("etc/no/such/file", &[], &[]).fails(44, &["refused nothing"]);
    explained("etc/passwd", &["--dir", "/usr::/usr"], &[]).fails(44, &["--dir /etc\n"]);
    // In a directory of another name a path is what it is.
    let other = exec(&opening("etc/passwd", 0, 2), &["--explain-denials", "--dir", ".::/in"], &[]);
    other.fails(44, &["refused nothing"]);
}

/// Opens a file of its first directory, then one by the number after that, and exits with ten times the error of this and the
/// number that the first got.
const NUMBERS: &str = r#"(module
    (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1) (data (i32.const 0) "m.wat") (data (i32.const 16) "etc/motd")
    (func (export "_start") (local $n i32)
        (local.set $n (i32.const 3))
        (loop $next
            (if (i32.eqz (call $prestat (local.get $n) (i32.const 64)))
                (then (local.set $n (i32.add (local.get $n) (i32.const 1))) (br $next))))
        (if (call $open (i32.const 3) (i32.const 1) (i32.const 0) (i32.const 5) (i32.const 0)
                (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 512))
            (then (call $exit (i32.const 255))))
        ;; The last directory, as a C library remembers it.
        (drop (call $open (i32.sub (local.get $n) (i32.const 1)) (i32.const 1) (i32.const 16) (i32.const 8) (i32.const 0)
                (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 516)))
        (call $exit (i32.load (i32.const 512)))))"#;

#[test]
fn being_watched_changes_no_number_of_a_descriptor() {
    for engine in ENGINES {
        exec(NUMBERS, &[engine, "--dir=.::/in"], &[]).check(4, "");
        let watched = exec(NUMBERS, &[engine, "--dir=.::/in", "--explain-denials"], &[]);
        watched.fails(4, &["  /etc/motd", "--dir /etc\n"]);
        let listening = ["--dir=.::/in", "--listen=127.0.0.1:0"];
        assert_eq!(exec(NUMBERS, &listening, &[]).status, Some(5));
        let watched = exec(NUMBERS, &[&listening[..], &["--explain-denials"]].concat(), &[]);
        assert_eq!(watched.status, Some(5), "{watched:?}");
        assert!(watched.stderr.contains("  /etc/motd"), "{watched:?}");
    }
    let done = exec(COUNT_ARGS, &["--explain-denials", "--max-open-files=3"], &[]);
    assert_eq!(done.status, Some(1));
}

#[test]
fn flags_are_told_as_a_shell_takes_them() {
    let files = Files::new(&[]);
    let folder = files.path("with space");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(files.path("m.wat"), opening(&format!("{}/f", folder.display())[1..], 0, 2)).unwrap();
    std::fs::write(folder.join("f"), "").unwrap();
    let told = files.run(&["exec", "--explain-denials", "m.wat"]);
    told.fails(44, &[&format!("--dir '{}'\n", folder.display())]);
}

/// C libraries ask what may be done in a directory before they look a path up in it.
#[test]
fn the_directory_that_is_shown_can_be_asked_for_its_rights() {
    let wat = r#"(module
        (import "wasi_snapshot_preview1" "fd_fdstat_get" (func $stat (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (func (export "_start") (call $exit (call $stat (i32.const 3) (i32.const 0)))))"#;
    exec(wat, &["--explain-denials"], &[]).check(0, "");
    exec(wat, &[], &[]).check(8, "");
}
