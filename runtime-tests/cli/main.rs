//! The command-line tool, run as its users do: what it promises about flags, output and exit statuses.

#[path = "../common/mod.rs"]
mod common;

mod backtraces;
#[cfg(jit)]
mod compile;
mod denials;
mod limits;
mod messages;
mod mistakes;
mod names;
#[cfg(feature = "profile")]
mod profile;
mod readme;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Both engines; the second falls back to the first, with a line on standard error, where there is no JIT.
const ENGINES: [&str; 2] = ["--interp", "--jit"];

/// A program that exits with the number of its arguments, its name included.
const COUNT_ARGS: &str = r#"(module
    (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (func (export "_start")
        (drop (call $sizes (i32.const 0) (i32.const 4)))
        (call $exit (i32.load (i32.const 0)))))"#;

/// A program that writes its arguments, each behind a NUL byte, to standard output.
const PRINT_ARGS: &str = r#"(module
    (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start")
        (drop (call $sizes (i32.const 0) (i32.const 20)))
        (drop (call $args (i32.const 1024) (i32.const 4096)))
        (i32.store (i32.const 16) (i32.const 4096))
        (drop (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 8)))))"#;

/// The same with the environment.
const PRINT_ENV: &str = r#"(module
    (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start")
        (drop (call $sizes (i32.const 0) (i32.const 20)))
        (drop (call $environ (i32.const 1024) (i32.const 4096)))
        (i32.store (i32.const 16) (i32.const 4096))
        (drop (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 8)))))"#;

/// A program that says that it is ready, and never ends.
const READY_THEN_SPIN: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1) (data (i32.const 16) "ready")
    (func (export "_start")
        (i32.store (i32.const 0) (i32.const 16)) (i32.store (i32.const 4) (i32.const 5))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
        (loop $forever (br $forever))))"#;

/// Writes for ever, until that fails; the error number is the exit status.
const WRITE_FOREVER: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 2)
    (func (export "_start") (local $errno i32)
        (i32.store (i32.const 4) (i32.const 65536))
        (loop $again
            (local.set $errno (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
            (br_if $again (i32.eqz (local.get $errno))))
        (call $exit (local.get $errno))))"#;

fn wasmrun() -> Command {
    let mut command = common::command(env!("CARGO_BIN_EXE_wasmrun"));
    // Not the cache of whoever runs the tests.
    command.stdin(Stdio::null()).env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
    command
}

/// A folder of a test's own, with files in it.
struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        Files(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs wasmrun in the folder.
    fn run(&self, args: &[&str]) -> Done {
        Done::new(wasmrun().current_dir(self.0.path()).args(args).output().unwrap())
    }
}

/// A run that has ended.
#[derive(Debug)]
struct Done {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Done {
    fn new(output: Output) -> Self {
        let done = Done {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        for rust in ["panicked", "RUST_BACKTRACE", ".rs:", "wasmrun::"] {
            assert!(!done.stderr.contains(rust), "Rust shows through: {done:?}");
        }
        done
    }

    #[track_caller]
    fn check(&self, status: i32, stdout: &str) {
        assert_eq!((self.status, self.stdout.as_str()), (Some(status), stdout), "{self:?}");
    }

    /// The status, and what standard error must mention.
    #[track_caller]
    fn fails(&self, status: i32, mentions: &[&str]) {
        assert_eq!((self.status, self.stdout.as_str()), (Some(status), ""), "{self:?}");
        for text in mentions {
            assert!(self.stderr.contains(text), "no {text:?} in {self:?}");
        }
    }
}

/// Runs wasmrun on a module given as text.
fn exec(wat: &str, flags: &[&str], args: &[&str]) -> Done {
    let files = Files::new(&[("m.wat", wat)]);
    let mut all = vec!["exec"];
    all.extend(flags);
    all.push("m.wat");
    all.extend(args);
    files.run(&all)
}

fn exit_with(code: u32) -> String {
    format!(
        r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32))) (memory (export "memory") 1)
            (func (export "_start") (call $exit (i32.const {code}))))"#
    )
}

#[test]
fn program_runs() {
    let hello = concat!(env!("CARGO_MANIFEST_DIR"), "/runtime-tests/programs/hello.wasm");
    for engine in ENGINES {
        Done::new(wasmrun().args(["exec", engine, hello]).output().unwrap()).check(0, "Hello from WebAssembly!\n");
    }
    Done::new(wasmrun().args(["exec", hello]).output().unwrap()).check(0, "Hello from WebAssembly!\n");
}

#[test]
fn exit_status_is_the_programs_own() {
    for (code, status) in [(0, 0), (1, 1), (42, 42), (255, 255), (256, 0), (0xffff_ffff, 255), (0x103, 3)] {
        for engine in ENGINES {
            exec(&exit_with(code), &[engine], &[]).check(status, "");
        }
    }
    exec("(module (func (export \"_start\")))", &[], &[]).check(0, "");
}

/// Calls a function often enough for it to be compiled, unless the compiler gets no processor at all.
const HOT: &str = r#"(module
    (func $hot (param i32) (result i32) (i32.mul (i32.add (local.get 0) (i32.const 3)) (i32.const 5)))
    (func $call (param $n i32) (local $x i32)
        (loop $l
            (local.set $x (call $hot (local.get $x)))
            (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
    (func (export "_start") (call $call (i32.const 30000000))))"#;

#[test]
fn stats_tell_what_was_done() {
    let interpreted = exec(&exit_with(3), &["--interp", "--stats=json"], &[]);
    interpreted.check(3, "");
    let stats: serde_json::Value = serde_json::from_str(&interpreted.stderr).unwrap();
    assert_eq!(stats["code"]["interpreted"]["functions"], 1, "{stats}");
    assert_eq!(stats["code"]["best"]["functions"], 0, "{stats}");
    assert!(stats["phases_ms"]["run"].is_number(), "{stats}");
    let compiled = exec(&exit_with(3), &["--jit", "--cache=off", "--stats"], &[]);
    compiled.check(3, "");
    for line in
        ["load ", "instantiate ", "run ", "best ", "on-stack replacement: 0 compiled, 0 entered", "peak memory: "]
    {
        assert!(compiled.stderr.contains(line), "no {line:?} in {}", compiled.stderr);
    }
    exec(HOT, &["--stats=xml"], &[]).fails(2, &["--stats", "xml"]);
}

#[test]
fn what_is_compiled_can_be_followed() {
    let files = Files::new(&[("hot.wat", HOT)]);
    let mut command = wasmrun();
    command.current_dir(files.0.path()).args(["exec", "--cache=off", "--profile=jitdump", "hot.wat"]);
    let output = command.env("WASMRUN_LOG", "debug").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let log = String::from_utf8(output.stderr).unwrap();
    let mut names = fs::read_dir(files.0.path()).unwrap().map(|entry| entry.unwrap().path());
    let dump = names.find(|path| path.extension().is_some_and(|extension| extension == "dump"));
    if !wasmrun::Engine::has_jit() {
        return assert!(log.is_empty() && dump.is_none(), "{log}");
    }
    assert!(log.contains("compiled func=1 name=\"call\""), "{log}");
    let dump = fs::read(dump.expect("the profile")).unwrap();
    assert!(dump.windows(20).any(|bytes| bytes == b"wasm function 1 call"), "{} bytes", dump.len());
    let refused = wasmrun().args(["exec", "x.wasm"]).env("WASMRUN_LOG", "wasmrun=loud").output().unwrap();
    Done::new(refused).fails(2, &["WASMRUN_LOG=wasmrun=loud"]);
}

/// Profilers look for the name of an address in the file that is mapped there, and only where there is none in the map of
/// symbols: so the code must not be where it is mapped from a file.
#[cfg(all(jit, target_os = "linux"))]
#[test]
fn code_from_the_cache_has_names_for_profilers_too() {
    let waits = HOT.replace(
        "(func (export \"_start\")",
        "(memory (export \"memory\") 1) (func (export \"_start\") (drop (call $read (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 8)))",
    );
    let waits = waits.replacen(
        "(module",
        r#"(module (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))"#,
        1,
    );
    // Tells that it is done, and waits for the end of its input.
    let waits = waits.replace(
        "(call $call (i32.const 30000000))",
        "(call $call (i32.const 10)) (i32.store (i32.const 16) (i32.const 64)) (i32.store (i32.const 20) (i32.const 1))
         (drop (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 8)))
         (drop (call $read (i32.const 0) (i32.const 16) (i32.const 1) (i32.const 8)))",
    );
    let files = Files::new(&[("hot.wat", &waits)]);
    files.run(&["exec", "--jit", "--cache-dir=cache", "hot.wat"]);
    for profile in ["perfmap", "jitdump"] {
        let flag = format!("--profile={profile}");
        let mut command = wasmrun();
        command.current_dir(files.0.path()).args(["exec", "--jit", "-v", "--cache-dir=cache", &flag, "hot.wat"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let pid = child.id();
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        let (map, dump) = (format!("/tmp/perf-{pid}.map"), files.path(&format!("jit-{pid}.dump")));
        let (names, address) = match profile {
            "perfmap" => {
                let text = fs::read_to_string(&map).unwrap();
                fs::remove_file(&map).unwrap();
                let line = text.lines().find(|line| line.contains(" call")).expect("the function is in the map");
                let start = line.split(' ').next().unwrap();
                (text.clone(), u64::from_str_radix(start, 16).unwrap())
            }
            _ => {
                let bytes = fs::read(&dump).unwrap();
                let at = bytes.windows(15).rposition(|bytes| bytes == b"wasm function 4").unwrap();
                let address = u64::from_ne_bytes(bytes[at - 32..at - 24].try_into().unwrap());
                (String::from_utf8_lossy(&bytes).into_owned(), address)
            }
        };
        assert!(names.contains("hot") && names.contains("call"), "{names}");
        let area = maps.lines().find(|line| {
            let (start, rest) = line.split_once('-').unwrap();
            let end = rest.split(' ').next().unwrap();
            let number = |text| u64::from_str_radix(text, 16).unwrap();
            (number(start)..number(end)).contains(&address)
        });
        assert!(area.is_some_and(|area| !area.contains("cache")), "{profile}: {address:x} is in {area:?}");
        drop(child.stdin.take());
        let told = Done::new(child.wait_with_output().unwrap());
        assert!(!told.stderr.contains(" 0 functions loaded"), "{told:?}");
    }
}

#[test]
fn trap_is_134_with_kind_and_backtrace() {
    let wat = r#"(module
        (func $divide (param i32 i32) (result i32) (i32.div_s (local.get 0) (local.get 1)))
        (func $outer (export "_start") (drop (call $divide (i32.const 1) (i32.const 0)))))"#;
    for engine in ENGINES {
        let done = exec(wat, &[engine], &[]);
        done.fails(134, &["trap: integer divide by zero", "0: divide at offset 0x", "1: outer  at offset 0x"]);
    }
}

#[test]
fn out_of_bounds_trap_names_address_size_and_length() {
    let wat = r#"(module (memory 1) (func (export "f") (param i32) (result i64) (i64.load offset=16 (local.get 0))))"#;
    for engine in ENGINES {
        for bounds in ["--bounds-checks=inline", "--bounds-checks=guard"] {
            let done = exec(wat, &[engine, bounds, "--call", "f"], &["0xfff0"]);
            done.fails(134, &["out of bounds memory access", "8 bytes", "0x10000 of", "memory of 0x10000 bytes"]);
        }
    }
}

#[test]
fn stack_overflow_is_a_trap() {
    for engine in ENGINES {
        let wat = r#"(module (func $again (export "_start") (call $again)))"#;
        exec(wat, &[engine], &[]).fails(134, &["call stack exhausted", "0: again at offset 0x"]);
    }
}

#[test]
fn start_function_may_trap() {
    let wat = r#"(module (func $init unreachable) (start $init) (func (export "_start")))"#;
    exec(wat, &[], &[]).fails(134, &["trap: unreachable", "init"]);
}

#[test]
fn missing_file_is_127() {
    let files = Files::new(&[]);
    for command in ["exec", "inspect", "wast", "bench"] {
        files.run(&[command, "none.wasm"]).fails(127, &["none.wasm", "no such file"]);
    }
}

#[test]
fn invalid_module_is_126() {
    for (wat, mentions) in [
        ("(module (func (result i32)))", "type mismatch"),
        ("(module (func (i32.const)))", "i32"),
        ("this is no module", "m.wat"),
        ("", "empty"),
        ("\0asm\u{1}\0\0\0\u{1}", "m.wat"),
        ("\0asm\u{d}\0\u{1}\0", "component"),
    ] {
        exec(wat, &[], &[]).fails(126, &[mentions]);
    }
    let files = Files::new(&[]);
    files.run(&["exec", "."]).fails(126, &["directory"]);
}

#[test]
fn invalid_function_is_named_with_offset() {
    exec("(module (func $broken (result i32) (i64.const 0)))", &[], &[]).fails(126, &["broken", "offset 0x"]);
}

#[test]
fn proposal_that_is_not_there_is_named() {
    exec("(module (type $f (func)) (type (cont $f)))", &[], &[]).fails(126, &["stack-switching"]);
}

#[test]
fn bad_usage_is_2() {
    let files = Files::new(&[("m.wat", "(module (func (export \"_start\")))")]);
    for args in [
        &["exec"][..],
        &["exec", "--no-such-flag", "m.wat"],
        &["exec", "--jit", "--interp", "m.wat"],
        &["exec", "--env", "=1", "m.wat"],
        &["exec", "--preload", "m.wat", "m.wat"],
        &["exec", "--unknown-imports=maybe", "m.wat"],
        &["exec", "--cache=sometimes", "m.wat"],
        &["exce", "m.wat"],
        &["inspct"],
        &["completions", "no-such-shell"],
        &[],
    ] {
        let done = files.run(args);
        assert_eq!(done.status, Some(2), "{args:?}: {done:?}");
        assert!(!done.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn help_has_examples() {
    for args in [&["--help"][..], &["exec", "--help"], &["inspect", "--help"], &["bench", "--help"], &["wast", "-h"]] {
        let done = Done::new(wasmrun().args(args).output().unwrap());
        assert_eq!(done.status, Some(0));
        assert!(done.stdout.contains("Examples:"), "{done:?}");
    }
    let done = Done::new(wasmrun().arg("--version").output().unwrap());
    done.check(0, concat!("wasmrun ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn all_behind_the_file_belongs_to_the_program() {
    let done = exec(PRINT_ARGS, &[], &["--jit", "-x", "--", "--dir", "a b", "--help", ""]);
    let args: Vec<_> = done.stdout.trim_end_matches('\0').split('\0').collect();
    assert_eq!(args, ["m.wat", "--jit", "-x", "--", "--dir", "a b", "--help"], "{done:?}");
    exec(COUNT_ARGS, &[], &["a", "b", ""]).check(4, "");
}

#[test]
fn double_dash_may_stand_before_the_file() {
    let files = Files::new(&[("-odd.wat", COUNT_ARGS)]);
    files.run(&["exec", "--", "-odd.wat", "x"]).check(2, "");
}

#[test]
fn argv0_can_be_set() {
    let done = exec(PRINT_ARGS, &["--argv0", "other name"], &["x"]);
    assert!(done.stdout.starts_with("other name\0x\0"), "{done:?}");
    // Without it, the folder of the file is not told.
    let files = Files::new(&[("m.wat", PRINT_ARGS)]);
    let path = files.path("m.wat");
    assert!(files.run(&["exec", path.to_str().unwrap()]).stdout.starts_with("m.wat\0"));
}

#[test]
fn environment_is_what_was_given() {
    let files = Files::new(&[("m.wat", PRINT_ENV)]);
    let mut command = wasmrun();
    command.current_dir(files.0.path()).env("OUTER", "from outside").env("SECRET", "x");
    command.args(["exec", "--env", "A=1=2", "--env", "OUTER", "--env=B=", "--env", "NOT_SET_ANYWHERE", "m.wat"]);
    let done = Done::new(command.output().unwrap());
    let variables: Vec<_> = done.stdout.trim_end_matches('\0').split('\0').collect();
    assert_eq!(variables, ["A=1=2", "OUTER=from outside", "B="]);
    assert_eq!(exec(PRINT_ENV, &[], &[]).stdout, "");
}

#[test]
fn module_comes_from_standard_input() {
    for text in [exit_with(7).into_bytes(), wat::parse_str(exit_with(7)).unwrap()] {
        let mut child = wasmrun().args(["exec", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&text).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(7));
    }
}

#[test]
fn call_takes_every_spelling_and_prints_what_it_takes() {
    let wat = r#"(module
        (func (export "i32") (param i32) (result i32) (local.get 0))
        (func (export "i64") (param i64) (result i64) (local.get 0))
        (func (export "f32") (param f32) (result f32) (local.get 0))
        (func (export "f64") (param f64) (result f64) (local.get 0))
        (func (export "v128") (param v128) (result v128) (local.get 0))
        (func (export "funcref") (param funcref) (result funcref) (local.get 0))
        (func (export "externref") (param externref) (result externref) (local.get 0)))"#;
    let files = Files::new(&[("m.wat", wat)]);
    for (ty, text, printed) in [
        ("i32", "4294967295", "-1"),
        ("i32", "-0x10", "-16"),
        ("i32", "1_000", "1000"),
        ("i64", "0xffff_ffff_ffff_ffff", "-1"),
        ("i64", "-9223372036854775808", "-9223372036854775808"),
        ("f32", "nan:0x200000", "nan:0x200000"),
        ("f32", "-nan", "-nan"),
        ("f32", "0.1", "0.1"),
        ("f32", "-inf", "-inf"),
        ("f64", "0x1p-3", "0.125"),
        ("f64", "-0", "-0"),
        ("f64", "1e300", "1e300"),
        ("f64", "nan:0x4", "nan:0x4"),
        ("v128", "i32x4 1 2 3 -4", "i32x4 1 2 3 -4"),
        ("v128", "i64x2 0x100000002 0", "i32x4 2 1 0 0"),
        ("v128", "f32x4 0 0 0 0", "i32x4 0 0 0 0"),
        ("funcref", "null", "null"),
        ("externref", "null", "null"),
        ("externref", "ref.extern 3", "ref.extern 3"),
    ] {
        for engine in ENGINES {
            files.run(&["exec", engine, "--call", ty, "m.wat", text]).check(0, &format!("{printed}\n"));
        }
        files.run(&["exec", "--call", ty, "m.wat", printed]).check(0, &format!("{printed}\n"));
    }
    files.run(&["exec", "--call", "v128", "m.wat", "i64x2", "1", "-1"]).check(0, "i32x4 1 0 -1 -1\n");
}

#[test]
fn call_prints_a_line_a_result() {
    let wat = r#"(module (func (export "many") (param i32 f64) (result f64 i32 i64)
        (local.get 1) (local.get 0) (i64.const 5)))"#;
    for engine in ENGINES {
        exec(wat, &[engine, "--call=many"], &["-1", "2.5"]).check(0, "2.5\n-1\n5\n");
    }
    exec("(module (func (export \"none\")))", &["--call=none"], &[]).check(0, "");
}

#[test]
fn wrong_arguments_of_a_call_are_bad_usage() {
    let wat = r#"(module (func (export "f") (param i32 f32)))"#;
    exec(wat, &["--call=f"], &["1"]).fails(2, &["argument 2", "f32", "(func (param i32 f32))"]);
    exec(wat, &["--call=f"], &["4294967296", "1"]).fails(2, &["argument 1", "`4294967296`", "i32"]);
    exec(wat, &["--call=f"], &["1.5", "1"]).fails(2, &["`1.5`"]);
    exec(wat, &["--call=f"], &["1", "1", "1"]).fails(2, &["too many"]);
}

#[test]
fn unknown_export_lists_those_there_are() {
    let wat = r#"(module (memory (export "m") 1) (func (export "add") (param i32 i32) (result i32) (i32.const 0)) (func (export "sub")))"#;
    exec(wat, &["--call=mul"], &[]).fails(125, &["`mul`", "add (func (param i32 i32) (result i32))", "sub (func)"]);
    exec(wat, &["--call=m"], &[]).fails(125, &["`m`", "(memory 1)", "add"]);
}

#[test]
fn library_without_call_says_so() {
    exec("(module (func (export \"f\")))", &[], &[]).fails(125, &["_start", "library", "--call", "f (func)"]);
    exec("(module)", &[], &[]).fails(125, &["_start", "no functions"]);
}

#[test]
fn library_is_initialized_before_a_call() {
    let wat = r#"(module (global $g (mut i32) (i32.const 1))
        (func (export "_initialize") (global.set $g (i32.const 2)))
        (func (export "get") (result i32) (global.get $g)))"#;
    exec(wat, &["--call=get"], &[]).check(0, "2\n");
}

/// The main function of a reactor is the export with the empty name; its arguments come as those of any program.
#[test]
fn the_default_export_is_the_program_where_there_is_no_start() {
    let program = |more: &str| {
        format!(
            r#"(module
            (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1) (global $ready (mut i32) (i32.const 0))
            (func (export "_initialize") (global.set $ready (i32.add (global.get $ready) (i32.const 10))))
            (func (export "")
                (drop (call $sizes (i32.const 0) (i32.const 4)))
                (call $exit (i32.add (global.get $ready) (i32.load (i32.const 0)))))
            {more})"#
        )
    };
    for engine in ENGINES {
        exec(&program(""), &[engine], &["a", "b"]).check(13, "");
        exec(&program("(func (export \"_start\") (call $exit (i32.const 5)))"), &[engine], &["a"]).check(5, "");
        exec(&program(""), &[engine, "--call="], &[]).check(11, "");
    }
    exec("(module (func (export \"\") unreachable))", &[], &[]).fails(134, &["trap: unreachable"]);
    exec("(module (memory (export \"\") 1))", &[], &[]).fails(125, &["_start", "library"]);
    let failing = r#"(module (func (export "_initialize") unreachable) (func (export "")))"#;
    exec(failing, &[], &[]).fails(134, &["_initialize"]);
}

#[test]
fn uncaught_exceptions_tell_tag_and_payload() {
    let wat = r#"(module
        (tag $parse (param i32 f64 i64)) (tag (export "exported") (param funcref)) (tag (param v128))
        (func $thrower (throw $parse (i32.const -3) (f64.const 1.5) (i64.const 7)))
        (func (export "_start") (call $thrower))
        (func (export "f") (throw 1 (ref.null func)))
        (func (export "g") (throw 2 (v128.const i64x2 1 0))))"#;
    for engine in ENGINES {
        exec(wat, &[engine], &[])
            .fails(134, &["m.wat: uncaught exception parse(-3, 1.5, 7)\n   0: thrower at offset 0x"]);
        exec(wat, &[engine, "--call=f"], &[]).fails(134, &["uncaught exception exported(null)\n"]);
        exec(wat, &[engine, "--call=g"], &[]).fails(134, &["exception <tag 2>(0x00000000000000000000000000000001)\n"]);
    }
}

#[test]
fn missing_imports_are_all_listed_with_types() {
    let wat = r#"(module
        (import "env" "log" (func (param i32 i32)))
        (import "env" "memory" (memory 2))
        (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
        (import "other" "g" (global (mut i64)))
        (func (export "_start")))"#;
    let mentions =
        ["env.log (func (param i32 i32))", "env.memory (memory 2)", "other.g (global (mut i64))", "--preload"];
    let done = exec(wat, &[], &[]);
    done.fails(125, &mentions);
    assert!(!done.stderr.contains("proc_exit"), "{done:?}");
    exec(wat, &["--unknown-imports=trap"], &[]).fails(125, &mentions[1..]);
}

#[test]
fn import_of_another_type_is_refused() {
    let wat = r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i64))) (func (export "_start")))"#;
    exec(wat, &[], &[]).fails(125, &["proc_exit", "i64"]);
}

#[test]
fn unknown_imports_can_trap_or_return_zeros() {
    let wat = r#"(module (import "env" "f" (func $f (result i32)))
        (func (export "unused") (result i32) (i32.const 1))
        (func (export "used") (result i32) (call $f)))"#;
    for engine in ENGINES {
        exec(wat, &[engine, "--unknown-imports=trap", "--call=unused"], &[]).check(0, "1\n");
        exec(wat, &[engine, "--unknown-imports=trap", "--call=used"], &[]).fails(134, &["env", "\"f\""]);
        exec(wat, &[engine, "--unknown-imports=default", "--call=used"], &[]).check(0, "0\n");
    }
}

#[test]
fn preloaded_modules_provide_imports() {
    let files = Files::new(&[
        ("lib.wat", r#"(module (func (export "one") (result i32) (i32.const 1)) (memory (export "memory") 3))"#),
        (
            "lib2.wat",
            r#"(module (import "lib" "one" (func $f (result i32)))
            (func (export "two") (result i32) (i32.add (call $f) (call $f))))"#,
        ),
        (
            "m.wat",
            r#"(module (import "lib" "memory" (memory 1)) (import "lib2" "two" (func $f (result i32)))
            (func (export "f") (result i32) (i32.add (call $f) (memory.size))))"#,
        ),
    ]);
    for engine in ENGINES {
        let args = ["exec", engine, "--preload", "lib=lib.wat", "--preload=lib2=lib2.wat", "--call", "f", "m.wat"];
        files.run(&args).check(0, "5\n");
    }
    files.run(&["exec", "--preload", "lib=none.wat", "m.wat"]).fails(127, &["none.wat"]);
    files.run(&["exec", "--preload", "lib=lib.wat", "m.wat"]).fails(125, &["lib2.two (func (result i32))"]);
}

#[test]
fn refused_dir_is_named() {
    exec(&exit_with(0), &["--dir", "no/such/place::/in"], &[]).fails(125, &["--dir", "no/such/place"]);
}

#[test]
fn failure_without_directories_gets_a_hint() {
    // Looks for directories as C libraries do, and fails if there are none.
    let wat = r#"(module
        (import "wasi_snapshot_preview1" "fd_prestat_get" (func $get (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (func (export "_start") (call $exit (call $get (i32.const 3) (i32.const 0)))))"#;
    exec(wat, &[], &[]).fails(8, &["hint", "--dir"]);
    exec(wat, &["--dir", "."], &[]).check(0, "");
    let done = exec(&exit_with(1), &[], &[]);
    assert!(!done.stderr.contains("--dir"), "{done:?}");
}

/// A program that opens `path` in its first directory with these flags; the error number is the exit status.
fn opening(path: &str, oflags: u32, rights: u32) -> String {
    format!(
        r#"(module
        (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "{path}")
        (func (export "_start")
            (call $exit (call $open (i32.const 3) (i32.const 1) (i32.const 0) (i32.const {}) (i32.const {oflags})
                (i64.const {rights}) (i64.const 0) (i32.const 0) (i32.const 512)))))"#,
        path.len()
    )
}

#[test]
fn directories_can_be_read_only() {
    let create = opening("new", 1, 64);
    for engine in ENGINES {
        exec(&create, &[engine, "--dir", "."], &[]).check(0, "");
        exec(&create, &[engine, "--dir", ".:ro"], &[]).check(63, "");
        exec(&create, &[engine, "--dir", ".::/in:ro"], &[]).check(63, "");
    }
    exec(&opening("m.wat", 0, 2), &["--dir", ".:ro"], &[]).check(0, "");
}

#[test]
fn the_environment_can_be_inherited() {
    let files = Files::new(&[("m.wat", PRINT_ENV)]);
    let mut command = wasmrun();
    command.current_dir(files.0.path()).env_clear().env("ONE", "1").env("TWO", "2");
    let done = Done::new(command.args(["exec", "--inherit-env", "--env", "TWO=3", "m.wat"]).output().unwrap());
    assert_eq!(done.status, Some(0), "{done:?}");
    assert!(done.stdout.contains("ONE=1\0") && done.stdout.contains("TWO=3\0"), "{done:?}");
}

/// Copies a little of its standard input to standard output and error.
const COPY: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\00\04\00\00\40\00\00\00")
    (func (export "_start")
        (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 4)))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
        (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 16)))))"#;

#[test]
fn standard_streams_can_be_files() {
    let files = Files::new(&[("m.wat", COPY), ("in.txt", "hello "), ("out.txt", "what was there before, and longer")]);
    let read = |name: &str| fs::read_to_string(files.path(name)).unwrap();
    for engine in ENGINES {
        let args = ["exec", engine, "--stdin=in.txt", "--stdout=out.txt", "--stderr=out.txt", "m.wat"];
        files.run(&args).check(0, "");
        assert_eq!(read("out.txt"), "hello hello ");
        files.run(&["exec", engine, "--stdin", "in.txt", "--stderr", "err.txt", "m.wat"]).check(0, "hello ");
        assert_eq!(read("err.txt"), "hello ");
        files.run(&["exec", engine, "--stdin", "null", "m.wat"]).check(0, "");
    }
    files.run(&["exec", "--stdin", "none.txt", "m.wat"]).fails(125, &["--stdin none.txt"]);
    files.run(&["exec", "--stdout", "no/such/folder", "m.wat"]).fails(125, &["--stdout no/such/folder"]);
}

#[test]
fn a_listener_accepts_connections() {
    let wat = r#"(module
        (import "wasi_snapshot_preview1" "sock_accept" (func $accept (param i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\10\00\00\00\02\00\00\00hi")
        (data (i32.const 16) "hi")
        (func (export "_start")
            (if (call $accept (i32.const 3) (i32.const 0) (i32.const 32)) (then (call $exit (i32.const 1))))
            (call $exit (call $write (i32.load (i32.const 32)) (i32.const 0) (i32.const 1) (i32.const 40)))))"#;
    let files = Files::new(&[("m.wat", wat)]);
    for engine in ENGINES {
        let mut child = wasmrun()
            .current_dir(files.0.path())
            .args(["exec", engine, "--listen", "127.0.0.1:0", "m.wat"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut told = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("listening on ") {
            line.clear();
            assert_ne!(told.read_line(&mut line).unwrap(), 0, "it did not tell where");
        }
        let address = line.trim().rsplit(' ').next().unwrap();
        let mut answer = String::new();
        TcpStream::connect(address).unwrap().read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "hi");
        assert_eq!(wait(&mut child, Duration::from_secs(10)), Some(0));
    }
    files.run(&["exec", "--listen", "nonsense", "m.wat"]).fails(125, &["--listen nonsense"]);
}

#[test]
fn a_seed_repeats_randomness() {
    let wat = r#"(module
        (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (func (export "_start")
            (drop (call $random (i32.const 0) (i32.const 8)))
            (call $exit (i32.and (i32.load (i32.const 0)) (i32.const 127)))))"#;
    let seeds: Vec<_> = (0..12).map(|seed| seed.to_string()).collect();
    let run = || seeds.iter().map(|seed| exec(wat, &["--seed", seed], &[]).status).collect::<Vec<_>>();
    let first = run();
    assert_eq!(first, run());
    assert!(first.iter().any(|status| *status != first[0]), "{first:?}");
}

#[test]
fn calls_are_traced() {
    for engine in ENGINES {
        let done = exec(COUNT_ARGS, &[engine, "--trace-wasi"], &["a\x1bb"]);
        assert_eq!(done.status, Some(2));
        for line in ["args_sizes_get() = success count=2 bytes=10\n", "proc_exit(code=2) = ?\n"] {
            assert!(done.stderr.contains(line), "{done:?}");
        }
        let done = exec(&opening("new", 5, 64), &[engine, "--dir", ".::/in", "--trace-wasi"], &[]);
        let call = "path_open(fd=3</in>, dirflags=symlink_follow, path=\"new\", oflags=creat|excl, \
                    base=fd_write, inheriting=0x0, fdflags=0x0) = success opened_fd=4\n";
        assert!(done.stderr.contains(call), "{done:?}");
        let done = exec(COPY, &[engine, "--trace-wasi"], &[]);
        assert!(done.stderr.contains("fd_read(fd=0, iovs=[0x400+64]) = success nread=0 \"\"\n"), "{done:?}");
    }
}

#[test]
fn what_is_written_and_opened_is_limited() {
    for engine in ENGINES {
        let done = exec(WRITE_FOREVER, &[engine, "--max-written=100K"], &[]);
        assert_eq!((done.status, done.stdout.len()), (Some(19), 102_400));
        exec(WRITE_FOREVER, &[engine, "--max-file-size=70000", "--stdout=out"], &[]).check(22, "");
        exec(&opening("m.wat", 0, 2), &[engine, "--dir=.", "--max-open-files=4"], &[]).check(33, "");
        exec(&opening("m.wat", 0, 2), &[engine, "--dir=.", "--max-open-files=5"], &[]).check(0, "");
    }
    exec(WRITE_FOREVER, &["--max-written=lots"], &[]).fails(2, &["--max-written"]);
}

/// A program seldom says why its output ends, and may not even have noticed.
#[test]
fn what_a_limit_cuts_off_is_told() {
    let told = |wat: &str, flags: &[&str]| exec(wat, flags, &[]).stderr;
    let hint = |flag: &str| format!("wasmrun: hint: the program was held back by {flag}\n");
    let unnoticed = WRITE_FOREVER.replace("(call $exit (local.get $errno))", "");
    for wat in [WRITE_FOREVER, &unnoticed] {
        assert_eq!(told(wat, &["--max-written=100K"]), hint("--max-written=100K"));
        assert_eq!(told(wat, &["--max-output=100K"]), hint("--max-output=100K"));
        assert_eq!(told(wat, &["--max-file-size=70000", "--stdout=out"]), hint("--max-file-size=70000"));
        assert_eq!(told(wat, &["--max-file-size=9000", "--max-written=5K", "--stdout=out"]), hint("--max-written=5K"));
    }
    let open = opening("m.wat", 0, 2);
    assert_eq!(told(&open, &["--dir=.", "--max-open-files=4"]), hint("--max-open-files=4"));
    assert_eq!(told(&open.replace("(call $exit", "(drop"), &["--dir=.", "--max-open-files=4"]), "");
    assert_eq!(told(&exit_with(1), &["--max-open-files=4", "--max-written=9", "--max-file-size=9"]), "");
}

#[test]
fn fuel_ends_a_program() {
    let forever = r#"(module (func (export "_start") (loop (br 0))))"#;
    for engine in ENGINES {
        let told = ["trap: all fuel consumed by WebAssembly", "hint: the program was held back by --fuel=100000\n"];
        exec(forever, &[engine, "--fuel=100000"], &[]).fails(134, &told);
        // The function, a constant, the call, and the host's function with one parameter.
        exec(&exit_with(5), &[engine, "--fuel=5"], &[]).check(5, "");
        exec(&exit_with(5), &[engine, "--fuel=4"], &[]).fails(134, &["--fuel=4"]);
    }
    exec(&exit_with(5), &["--fuel=18446744073709551615"], &[]).check(5, "");
    for not in ["18446744073709551616", "-1", "much", ""] {
        exec(&exit_with(5), &[&format!("--fuel={not}")], &[]).fails(2, &["--fuel"]);
    }
}

#[test]
fn cache_flag_is_accepted() {
    for flag in ["--cache=off", "--cache=read", "--cache=on"] {
        exec(&exit_with(5), &[flag], &[]).check(5, "");
    }
}

/// Users of services have homes that are not there, and are not to get one by the way.
#[test]
fn a_home_that_is_not_there_is_not_made() {
    let files = Files::new(&[("m.wat", &exit_with(5)), ("file", "")]);
    let run = |home: &Path, args: &[&str]| {
        let mut command = wasmrun();
        command.current_dir(files.0.path()).env_remove("XDG_CACHE_HOME").env("HOME", home).args(args);
        Done::new(command.output().unwrap())
    };
    for home in [files.path("none"), files.path("file")] {
        run(&home, &["exec", "--jit", "m.wat"]).check(5, "");
        run(&home, &["exec", "--jit", "-v", "m.wat"]).fails(5, &["cache: off", "$HOME names no directory"]);
        if cfg!(jit) {
            run(&home, &["cache", "info"]).fails(125, &["$HOME names no directory"]);
        }
    }
    assert!(!files.path("none").exists());
    fs::create_dir(files.path("home")).unwrap();
    run(&files.path("home"), &["exec", "--jit", "m.wat"]).check(5, "");
    assert_eq!(files.path("home/.cache/wasmrun").exists(), wasmrun::Engine::has_jit());
}

#[test]
fn jit_flag_runs_everywhere() {
    let done = exec(&exit_with(5), &["--jit"], &[]);
    done.check(5, "");
    // Where there is no JIT, one line says so.
    let lines = if wasmrun::Engine::has_jit() { 0 } else { 1 };
    assert_eq!(done.stderr.lines().count(), lines, "{done:?}");
}

/// Waits for a process to end, but not for ever.
fn wait(child: &mut Child, limit: Duration) -> Option<i32> {
    let start = Instant::now();
    while start.elapsed() < limit {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    panic!("still running after {limit:?}");
}

/// Wasmrun as at a terminal, where Ctrl-C is not ignored, as it is in jobs that a shell started in the background.
fn interruptible() -> Command {
    let mut command = wasmrun();
    // SAFETY: calls nothing but the system, as is allowed between fork and exec.
    unsafe {
        command.pre_exec(|| match libc::signal(libc::SIGINT, libc::SIG_DFL) {
            libc::SIG_ERR => Err(std::io::Error::last_os_error()),
            _ => Ok(()),
        });
    }
    command
}

#[test]
fn interrupt_ends_at_once_with_130() {
    let block = READY_THEN_SPIN.replace(
        "(loop $forever (br $forever))",
        "(drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))",
    );
    let block = block.replacen(
        "(memory",
        r#"(import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32))) (memory"#,
        1,
    );
    let files = Files::new(&[("spin.wat", READY_THEN_SPIN), ("block.wat", &block)]);
    for file in ["spin.wat", "block.wat"] {
        for engine in ENGINES {
            let mut child = interruptible()
                .current_dir(files.0.path())
                .args(["exec", engine, file])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut ready = [0; 5];
            child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
            thread::sleep(Duration::from_millis(20));
            let pid = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
            assert_eq!(wait(&mut child, Duration::from_secs(10)), Some(130), "{file} {engine}");
        }
    }
}

/// wasmrun at a terminal of its own, and what a person there sees and types.
struct Terminal {
    person: fs::File,
    seen: String,
    child: Child,
}

impl Terminal {
    fn new(args: &[&str]) -> Self {
        Self::in_folder(".", args)
    }

    fn in_folder(folder: &str, args: &[&str]) -> Self {
        let (mut person, mut terminal) = (0, 0);
        let null = std::ptr::null_mut();
        // SAFETY: both numbers have room, the rest may be left out.
        let made = unsafe { libc::openpty(&mut person, &mut terminal, null, null.cast(), null.cast()) };
        assert_eq!(made, 0, "there are pseudo-terminals");
        // SAFETY: just opened, and nobody else's.
        let [person, terminal] = [person, terminal].map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        let mut command = interruptible();
        command
            .current_dir(folder)
            .args(args)
            .stdin(terminal.try_clone().unwrap())
            .stdout(terminal.try_clone().unwrap())
            .stderr(terminal);
        // SAFETY: calls nothing but the system, as is allowed between fork and exec.
        unsafe {
            command.pre_exec(|| {
                rustix::process::setsid()?;
                Ok(rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?)
            });
        }
        let child = command.spawn().unwrap();
        Terminal { person: person.into(), seen: String::new(), child }
    }

    fn types(&mut self, text: &str) {
        self.person.write_all(text.as_bytes()).unwrap();
    }

    /// What comes to the screen until the program ends, behind what was waited for.
    fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        // At the end, a terminal gives an error to whom reads from it.
        let _ = self.person.read_to_end(&mut bytes);
        std::mem::take(&mut self.seen) + &String::from_utf8_lossy(&bytes)
    }

    /// Waits until this is on the screen, behind what was waited for before.
    #[track_caller]
    fn sees(&mut self, text: &str) {
        let limit = rustix::event::Timespec { tv_sec: 60, tv_nsec: 0 };
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            let mut fds = [rustix::event::PollFd::new(&self.person, rustix::event::PollFlags::IN)];
            let ready = rustix::event::poll(&mut fds, Some(&limit)).unwrap();
            assert!(ready > 0, "no {text:?}, only {:?}", self.seen);
            let mut bytes = [0; 256];
            let len = self.person.read(&mut bytes).unwrap_or(0);
            assert!(len > 0, "no {text:?} before the end, only {:?}", self.seen);
            self.seen += &String::from_utf8_lossy(&bytes[..len]);
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

#[test]
fn programs_talk_to_a_terminal() {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/runtime-tests/wasi/terminal.wasm");
    for engine in ENGINES {
        // Standard input, and the same terminal found by a path.
        for args in [&["exec", engine, program][..], &["exec", engine, "--dir=/dev", program, "/dev/tty"]] {
            let mut terminal = Terminal::new(args);
            terminal.sees("terminal 1 1 1\r\n");
            for line in ["one", "and two"] {
                // A moment in which a program that does not wait would tell of an error.
                thread::sleep(Duration::from_millis(20));
                terminal.types(&format!("{line}\n"));
                terminal.sees(&format!("<{line}>\r\n"));
            }
            // The end of the input, typed, is no end for ever.
            terminal.types("\x04");
            terminal.sees("end\r\n");
            terminal.types("on\n");
            terminal.sees("<on>\r\n");
            terminal.types("\x03");
            assert_eq!(wait(&mut terminal.child, Duration::from_secs(60)), Some(130), "{args:?}");
        }
    }
}

#[test]
fn timeouts_end_programs_with_124() {
    let call = |name: &str, call: &str| {
        format!(
            r#"(module (import "wasi_snapshot_preview1" "{name}" (func $call (param i32 i32 i32 i32) (result i32)))
                (memory (export "memory") 1)
                ;; a monotonic clock and a day; or a buffer
                (data (i32.const 16) "\01") (data (i32.const 24) "\00\00\c0\91\4e\4e\00\00") (data (i32.const 64) "\80\00\00\00\08")
                (func (export "_start") (drop (call $call {call}))))"#
        )
    };
    let files = Files::new(&[
        ("loop.wat", r#"(module (func (export "_start") (loop (br 0))))"#),
        ("start.wat", r#"(module (func $start (loop (br 0))) (start $start) (func (export "_start")))"#),
        ("sleep.wat", &call("poll_oneoff", "(i32.const 0) (i32.const 256) (i32.const 1) (i32.const 512)")),
        ("read.wat", &call("fd_read", "(i32.const 0) (i32.const 64) (i32.const 1) (i32.const 80)")),
        ("quick.wat", r#"(module (func (export "_start")))"#),
    ]);
    for engine in ENGINES {
        for args in
            [&["loop.wat"][..], &["start.wat"], &["sleep.wat"], &["read.wat"], &["--preload=l=start.wat", "quick.wat"]]
        {
            let (stdin, _writer) = std::io::pipe().unwrap();
            let mut command = wasmrun();
            command.current_dir(files.0.path()).args(["exec", engine, "--timeout=200ms"]).args(args).stdin(stdin);
            let start = Instant::now();
            let done = Done::new(command.output().unwrap());
            assert_eq!((done.status, done.stdout.as_str()), (Some(124), ""), "{args:?}: {done:?}");
            assert!(done.stderr.contains("ended by --timeout, after 200ms"), "{args:?}: {done:?}");
            assert!(start.elapsed() >= Duration::from_millis(200));
        }
        let program = files.path("read.wat");
        let mut terminal = Terminal::new(&["exec", engine, "--timeout=200ms", program.to_str().unwrap()]);
        terminal.sees("ended by --timeout");
        assert_eq!(wait(&mut terminal.child, Duration::from_secs(60)), Some(124));
        files.run(&["exec", engine, "--timeout", "1h30m", "quick.wat"]).check(0, "");
        // Longer than any clock tells.
        files.run(&["exec", engine, "--timeout", "5000000h", "quick.wat"]).check(0, "");
    }
    for bad in ["5", "5 s", "5x", "0s", "-1s", ""] {
        let done = files.run(&["exec", &format!("--timeout={bad}"), "loop.wat"]);
        assert_eq!(done.status, Some(2), "{bad:?}: {done:?}");
        assert!(done.stderr.contains("--timeout") && done.stderr.contains("such as 5s, 500ms or 1m30s"), "{done:?}");
    }
}

#[test]
fn a_standard_stream_that_was_left_not_to_block_is_waited_for() {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/runtime-tests/programs/count.wasm");
    for engine in ENGINES {
        let (reader, mut writer) = std::io::pipe().unwrap();
        rustix::fs::fcntl_setfl(&reader, rustix::fs::OFlags::NONBLOCK).unwrap();
        let mut command = wasmrun();
        command.args(["exec", engine, program]).stdin(reader).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        thread::sleep(Duration::from_millis(200));
        writer.write_all(b"one two\n").unwrap();
        drop(writer);
        Done::new(child.wait_with_output().unwrap()).check(0, "1 2 8\n");
    }
}

#[test]
fn closed_pipe_is_no_panic() {
    let files =
        Files::new(&[("m.wat", WRITE_FOREVER), ("f.wat", "(module (func (export \"f\") (result i32) (i32.const 1)))")]);
    for (args, status) in [
        (&["exec", "--interp", "m.wat"][..], 141), // 128 and SIGPIPE
        (&["exec", "--jit", "m.wat"], 141),
        (&["exec", "--call", "f", "f.wat"], 0),
        (&["inspect", "m.wat"], 0),
        (&["completions", "bash"], 0),
        (&["--help"], 0),
    ] {
        let mut child = wasmrun()
            .current_dir(files.0.path())
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(status), "{args:?}: {stderr}");
        let is_known =
            |line: &str| !wasmrun::Engine::has_jit() && line.contains("--jit: this build of wasmrun has no JIT");
        assert!(stderr.lines().all(|line| line.is_empty() || is_known(line)), "{args:?}: {stderr}");
    }
}

#[test]
fn full_device_is_an_error() {
    if !Path::new("/dev/full").exists() {
        return;
    }
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let hello = concat!(env!("CARGO_MANIFEST_DIR"), "/runtime-tests/programs/hello.wasm");
    let output = wasmrun().args(["inspect", hello]).stdout(full).output().unwrap();
    let done = Done::new(output);
    done.fails(125, &["standard output"]);
}

#[test]
fn inspect_tells_what_is_in_a_module() {
    let wat = r#"(module
        (import "env" "log" (func (param i32)))
        (memory (export "mem") 1 4) (table 3 funcref) (global (mut i32) (i32.const 0))
        (func $swap (export "swap") (param i32 i64) (result i64 i32) (local.get 1) (local.get 0))
        (func $lanes (result v128) (v128.const i32x4 0 0 0 0))
        (data "abc") (start $init) (func $init))"#;
    let files = Files::new(&[("m.wat", wat)]);
    let done = files.run(&["inspect", "m.wat"]);
    assert_eq!(done.status, Some(0), "{done:?}");
    for text in [
        "valid",
        "log",
        "(func (param i32))",
        "swap",
        "(func (param i32 i64) (result i64 i32))",
        "(memory 1 4)",
        "64.0 KiB",
        "256.0 KiB",
        "3 of funcref",
        "multi-value",
        "simd",
        "start        init",
        "custom name",
    ] {
        assert!(done.stdout.contains(text), "no {text:?} in\n{}", done.stdout);
    }
}

/// Which proposals are used where nothing leads to, and where older instructions would do.
#[test]
fn inspect_tells_what_a_module_could_do_without() {
    let cases = [
        // Unused functions and types; functions that only others of them call.
        ("(func $a (call $b)) (func $b (drop (v128.const i64x2 0 0)))", "simd", "nothing that can be reached uses it"),
        ("(type (func (result i32 i64)))", "multi-value", "nothing that can be reached uses it"),
        ("(memory 1) (func (export \"f\") (drop (i32.atomic.load (i32.const 0))))", "threads", "no memory is shared"),
        ("(memory i64 1 256)", "memory64", "at most 16.0 MiB: 32-bit addresses would do"),
        ("(table i64 1 9 funcref)", "memory64", "at most 9 elements"),
        ("(memory 65536 65536 (pagesize 1))", "custom-page-sizes", "whole pages of 64 KiB"),
        (
            "(tag $t) (func (throw $t)) (func (export \"f\") (try_table))",
            "exception-handling",
            "nothing that can be reached throws",
        ),
        (
            "(import \"m\" \"f\" (func)) (func (export \"f\") (try_table))",
            "exception-handling",
            "throws, unless an imported function does",
        ),
    ];
    for (fields, proposal, reason) in cases {
        let files = Files::new(&[("m.wat", &format!("(module {fields})"))]);
        let json: serde_json::Value = serde_json::from_str(&files.run(&["inspect", "--json", "m.wat"]).stdout).unwrap();
        let dispensable = json["needs"][proposal]["dispensable"].as_str().unwrap_or("needed");
        assert!(dispensable.contains(reason), "{fields}: {dispensable}");
        let text = files.run(&["inspect", "m.wat"]).stdout;
        assert!(text.contains(&format!("could do without: {dispensable}")), "{text}");
    }
    // The same where each way to reach a function or type leads to it, or more is asked for.
    let needed = [
        ("(func (export \"f\") (call $b)) (func $b (drop (v128.const i64x2 0 0)))", "simd"),
        ("(func $b (drop (v128.const i64x2 0 0))) (start $b)", "simd"),
        ("(func $b (drop (v128.const i64x2 0 0))) (table 1 funcref) (elem (i32.const 0) $b)", "simd"),
        (
            "(func $b (drop (v128.const i64x2 0 0))) (table 1 funcref) (elem (i32.const 0) funcref (ref.func $b))",
            "simd",
        ),
        ("(func $b (drop (v128.const i64x2 0 0))) (global funcref (ref.func $b))", "simd"),
        (
            "(func $b (drop (v128.const i64x2 0 0))) (elem declare func $b) (func (export \"f\") (drop (ref.func $b)))",
            "simd",
        ),
        ("(func (export \"f\") (result i32 i64) (i32.const 0) (i64.const 0))", "multi-value"),
        (
            "(type $t (func (result i32 i64))) (table 1 funcref) (func (export \"f\") (call_indirect (type $t) (i32.const 0)) unreachable)",
            "multi-value",
        ),
        ("(memory i64 1 65537)", "memory64"),
        ("(memory i64 1)", "memory64"),
        ("(memory 65536 65537 (pagesize 1))", "custom-page-sizes"),
        ("(tag $t) (func (export \"f\") (throw $t))", "exception-handling"),
    ];
    for (fields, proposal) in needed {
        let files = Files::new(&[("m.wat", &format!("(module {fields})"))]);
        let json: serde_json::Value = serde_json::from_str(&files.run(&["inspect", "--json", "m.wat"]).stdout).unwrap();
        assert_eq!(json["needs"][proposal]["dispensable"], serde_json::Value::Null, "{fields}");
    }
    let files = Files::new(&[(
        "m.wat",
        "(module (func (drop (v128.const i64x2 0 0))) (func (export \"f\") (drop (v128.const i64x2 0 0))))",
    )]);
    let text = files.run(&["inspect", "m.wat"]).stdout;
    assert!(text.contains("in 2 functions, 1 of them reachable"), "{text}");
}

#[test]
fn inspect_looks_at_what_can_not_be_run() {
    let files = Files::new(&[("m.wat", "(module (type $f (func)) (type (cont $f)) (func (export \"f\")))")]);
    let done = files.run(&["inspect", "m.wat"]);
    assert_eq!(done.status, Some(0), "{done:?}");
    assert!(done.stdout.contains("not supported") && done.stdout.contains("stack-switching"), "{done:?}");
}

#[test]
fn inspect_prints_code() {
    let wat = r#"(module (import "env" "f" (func))
        (func $add (export "plus") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))"#;
    let files = Files::new(&[("m.wat", wat)]);
    let code = if wasmrun::Engine::has_jit() { &["--bytecode", "--clif", "--asm"][..] } else { &["--bytecode"] };
    for flag in code {
        let by_name = files.run(&["inspect", flag, "add", "m.wat"]);
        assert_eq!(by_name.status, Some(0), "{by_name:?}");
        assert!(by_name.stdout.lines().count() > 1, "{by_name:?}");
        for name in ["1", "plus", "$add"] {
            assert_eq!(files.run(&["inspect", flag, name, "m.wat"]).stdout, by_name.stdout);
        }
        files.run(&["inspect", flag, "0", "m.wat"]).fails(125, &["imported", "env.f"]);
        files.run(&["inspect", flag, "9", "m.wat"]).fails(125, &["no function 9"]);
        files.run(&["inspect", flag, "ad", "m.wat"]).fails(125, &["`ad`", "1 add"]);
    }
}

#[test]
fn wast_runs_scripts_and_names_the_first_failure() {
    let good = r#"(module $m (func (export "f") (param i32) (result i32) (i32.div_u (i32.const 8) (local.get 0))))
        (assert_return (invoke "f" (i32.const 2)) (i32.const 4))
        (assert_trap (invoke $m "f" (i32.const 0)) "integer divide by zero")
        (assert_invalid (module (func (result i32))) "type mismatch")
        (assert_malformed (module quote "(func") "unexpected end")
        (assert_unlinkable (module (import "spectest" "none" (func))) "unknown import")
        (register "m" $m)
        (module (import "m" "f" (func $f (param i32) (result i32))) (func (export "g") (result f32)
            (f32.div (f32.convert_i32_u (call $f (i32.const 8))) (f32.const 0))))
        (assert_return (invoke "g") (either (f32.const nan:canonical) (f32.const inf)))"#;
    let files = Files::new(&[("good.wast", good)]);
    for engine in ENGINES {
        files.run(&["wast", engine, "good.wast"]).check(0, "good.wast: 9 directives hold\n");
    }
    for (directive, mentions) in [
        ("(assert_return (invoke $m \"f\" (i32.const 2)) (i32.const 5))", "expected (i32.const 5), got (i32.const 4)"),
        ("(assert_trap (invoke $m \"f\" (i32.const 2)) \"unreachable\")", "got (i32.const 4)"),
        ("(assert_trap (invoke $m \"f\" (i32.const 0)) \"unreachable\")", "got integer divide by zero"),
        ("(assert_invalid (module) \"type mismatch\")", "accepted"),
        ("(assert_return (invoke $m \"none\"))", "no export"),
    ] {
        let script = format!("{good}\n  {directive}\n(assert_return (invoke \"g\"))");
        fs::write(files.path("bad.wast"), script).unwrap();
        let done = files.run(&["wast", "good.wast", "bad.wast"]);
        assert_eq!(done.status, Some(1), "{done:?}");
        assert!(done.stdout.starts_with("good.wast: 9 directives hold\nbad.wast:11:4: "), "{done:?}");
        assert!(done.stdout.contains(mentions), "{done:?}");
    }
    fs::write(files.path("bad.wast"), "(module)\n(assert_nothing)").unwrap();
    let done = files.run(&["wast", "bad.wast"]);
    assert_eq!(done.status, Some(1));
    assert!(done.stdout.contains("bad.wast:2:2"), "{done:?}");
}

/// The statuses in a text, each at the beginning of a line or of a table's row.
fn listed_statuses(text: &str) -> Vec<u8> {
    let words = text.lines().filter_map(|line| line.trim_start_matches(['|', ' ']).split(' ').next());
    words.filter_map(|word| word.parse().ok()).collect()
}

#[test]
fn the_readme_has_the_exit_statuses_of_the_help() {
    let readme = include_str!("../../README.md");
    let (_, table) = readme.split_once("\nExit status").unwrap();
    let table = table.split("\n\n").nth(1).unwrap();
    let help = Done::new(wasmrun().args(["exec", "--help"]).output().unwrap()).stdout;
    let (_, help) = help.split_once("\nExit status:").unwrap();
    let listed = listed_statuses(help.split("\n\n").next().unwrap());
    assert_eq!((listed_statuses(table), listed.len()), (listed, 8));
}

#[test]
fn what_a_program_writes_is_never_coloured_nor_cleaned() {
    let text = "\u{1b}[31merror:\u{1b}[0m \u{202e} hint: x";
    let files = Files::new(&[("m.wat", PRINT_ARGS)]);
    for color in ["always", "never", "auto"] {
        files.run(&["--color", color, "--argv0", text, "m.wat"]).check(0, &format!("{text}\0"));
    }
}

#[test]
fn a_function_without_parameters_gets_the_programs_arguments() {
    let wat = PRINT_ARGS.replace("_start", "run").replace(
        "(memory (export",
        r#"(func (export "typed") (param i32) (result i32) (local $count i32)
            (drop (call $sizes (i32.const 0) (i32.const 4))) (i32.load (i32.const 0)))
        (memory (export"#,
    );
    for engine in ENGINES {
        exec(&wat, &[engine, "--call=run"], &["a", "-b"]).check(0, "m.wat\0a\0-b\0");
        exec(&wat, &[engine, "--call=typed"], &["7"]).check(0, "1\n");
    }
}

#[test]
fn inspect_gives_json() {
    let wat = r#"(module $m
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (import "env" "\u{202e}" (global i32)) (import "env" "t" (tag (param i64)))
        (memory $heap (export "memory") 1 3) (table $t (export "table") 2 funcref) (tag $own)
        (global $g (export "g") (mut i64) (i64.const 1))
        (func $main (export "main") (param v128) (result i32) (i32.extend8_s (i32.const 1)))
        (start $s) (func $s) (elem (i32.const 0) $main) (data (i32.const 0) "abc")
        (@producers (language "C" "11")))"#;
    let files = Files::new(&[("m.wat", wat), ("new.wat", "(module)"), ("bad.wat", "(module (func (result i32)))")]);
    let done = files.run(&["inspect", "--json", "m.wat"]);
    assert_eq!((done.status, done.stderr.as_str(), done.stdout.lines().count()), (Some(0), "", 1), "{done:?}");
    assert!(!done.stdout.contains('\u{202e}') && done.stdout.contains("\\u202e"), "{done:?}");
    let json: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    let fields: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
    let readme = include_str!("../../README.md");
    for field in &fields {
        assert!(readme.contains(&format!("| `{field}` |")), "README.md does not tell of {field}");
    }
    assert_eq!(fields.len(), 21, "{fields:?}");
    assert_eq!((&json["file"], &json["supported"], &json["error"]), (&"m.wat".into(), &true.into(), &().into()));
    let import = serde_json::json!({
        "module": "wasi_snapshot_preview1", "name": "proc_exit", "kind": "func", "type": "(func (param i32))"
    });
    assert_eq!((&json["imports"][0], &json["imports"][1]["name"]), (&import, &"\u{202e}".into()));
    assert_eq!((&json["imports"][1]["kind"], &json["imports"][2]["kind"]), (&"global".into(), &"tag".into()));
    let main = &json["functions"][1];
    assert_eq!(main["type"], "(func (param v128) (result i32))");
    assert_eq!((&main["name"], &main["index"], &main["imported"]), (&"main".into(), &1.into(), &false.into()));
    assert!(main["code_bytes"].as_u64().unwrap() > 3 && json["functions"][0]["imported"] == true, "{json}");
    assert_eq!((&json["start"], json["functions"].as_array().unwrap().len()), (&2.into(), 3));
    let memory = serde_json::json!({
        "index": 0, "name": "heap", "imported": false, "minimum_pages": 1, "maximum_pages": 3, "page_bytes": 65536,
        "is_64_bit": false, "shared": false
    });
    assert_eq!((&json["memories"][0], &json["tables"][0]["element"]), (&memory, &"funcref".into()));
    assert_eq!(
        (&json["globals"][0]["imported"], &json["globals"][1]["type"]),
        (&true.into(), &"(global (mut i64))".into())
    );
    assert_eq!((&json["tags"][0]["imported"], &json["tags"][1]["imported"]), (&true.into(), &false.into()));
    let names = ["memories", "tables", "globals", "tags"]
        .map(|items| json[items].as_array().unwrap().last().unwrap()["name"].as_str());
    assert_eq!(names, [Some("heap"), Some("t"), Some("g"), Some("own")]);
    assert_eq!((&json["types"][0]["type"], &json["types"][0]["fields"]), (&"(func (param i32))".into(), &().into()));
    let simd = serde_json::json!({ "functions": 0, "reachable_functions": 0, "dispensable": () });
    assert_eq!((&json["needs"]["simd"], &json["needs"]["sign-extension-ops"]["functions"]), (&simd, &1.into()));
    assert_eq!((&json["data"]["bytes"], &json["elements"]["items"]), (&3.into(), &1.into()));
    assert_eq!((&json["producers"]["language"][0], &json["exports"][2]["kind"]), (&"C 11".into(), &"global".into()));
    assert!(json["features"]["sign-extension-ops"].is_array() && json["features"]["simd"].is_array(), "{json}");
    assert_eq!(
        (&json["sections"][0]["name"], &json["custom_sections"][0]["name"]),
        (&"type".into(), &"producers".into())
    );
    files.run(&["inspect", "--json", "bad.wat"]).fails(126, &["type mismatch"]);
}

/// `wasmrun cache clear` tells what it did.
#[cfg(jit)]
#[test]
fn clearing_the_cache_tells_what_was_removed() {
    let files = Files::new(&[("m.wat", &exit_with(3))]);
    let flag = format!("--cache-dir={}", files.path("kept").display());
    let clear = || files.run(&["cache", "clear", &flag]);
    clear().check(0, &format!("nothing to remove in {}\n", files.path("kept").display()));
    files.run(&["--jit", &flag, "m.wat"]).check(3, "");
    let info = files.run(&["cache", "info", "--json", &flag]).stdout;
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    let (count, bytes) = (info["files"].as_u64().unwrap(), info["bytes"].as_u64().unwrap() as f64 / 1024.0);
    let counted = if count == 1 { "1 file".into() } else { format!("{count} files") };
    clear().check(0, &format!("removed {counted} ({bytes:.1} KiB) from {}\n", files.path("kept").display()));
    clear().check(0, &format!("nothing to remove in {}\n", files.path("kept").display()));
}

#[test]
fn completions_are_printed() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let done = Done::new(wasmrun().args(["completions", shell]).output().unwrap());
        assert_eq!(done.status, Some(0));
        assert!(done.stdout.contains("unknown-imports"), "{shell}");
    }
    let bash = Done::new(wasmrun().args(["completions", "bash"]).output().unwrap()).stdout;
    // Flags of exec behind no subcommand; and `run`, which is exec.
    let (_, top) = bash.split_once("\n        wasmrun)\n").unwrap();
    let words = top.lines().next().unwrap();
    for word in ["--jit", "--dir", "--color", "exec", "inspect"] {
        assert!(words.contains(&format!(" {word} ")), "{word}: {words}");
    }
    assert!(bash.contains("wasmrun,run)"), "{bash}");
}

#[test]
fn bench_compares_the_engines() {
    if common::emulated() {
        // The comparison starts this very binary, which only the emulator can.
        return;
    }
    let hello = concat!(env!("CARGO_MANIFEST_DIR"), "/runtime-tests/programs/hello.wasm");
    let done = Done::new(wasmrun().args(["bench", "--runs", "2", hello]).output().unwrap());
    assert_eq!(done.status, Some(0), "{done:?}");
    assert!(done.stdout.contains("1.00x"), "{done:?}");
    assert!(done.stdout.contains("2 runs of each kind, same output each time (24 bytes), exit status 0"), "{done:?}");
    let engines = if wasmrun::Engine::has_jit() { &["tiers", "interpreter", "JIT"][..] } else { &["interpreter"] };
    let lines: Vec<_> = done.stdout.lines().collect();
    let columns: Vec<_> = lines[2].split("  ").map(str::trim).filter(|column| !column.is_empty()).collect();
    assert_eq!(columns, ["start-up", "first run", "later runs: median (from, to)", "peak"], "{done:?}");
    for (line, engine) in lines[3..].iter().zip(engines) {
        // Six times, in seconds or milliseconds.
        let units = line.split([' ', ',', ')']).filter(|word| ["s", "ms"].contains(word)).count();
        assert!(line.trim_start().starts_with(engine) && units == 6 && line.contains("x "), "{done:?}");
        assert!(line.chars().count() <= 110, "{done:?}");
    }
    assert_eq!(done.stderr, "");

    let done = Done::new(wasmrun().args(["bench", "--runs=1", "--json", hello]).output().unwrap());
    let json: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    let found: Vec<_> = json["engines"].as_array().unwrap().iter().map(|engine| engine["engine"].clone()).collect();
    assert_eq!(found, engines);
    for engine in json["engines"].as_array().unwrap() {
        let run = &engine["first_runs"][0];
        let [whole, program] = ["whole_ms", "program_ms"].map(|key| run[key].as_f64().unwrap());
        assert!(whole > program && program > 0.0, "{json}");
        assert!((whole - program - engine["startup_ms"].as_f64().unwrap()).abs() < 0.01, "{json}");
        assert_eq!(engine["first_run_ms"], run["whole_ms"], "{json}");
        assert_eq!(engine["later_runs"].as_array().unwrap().len(), 1, "{json}");
    }
    assert_eq!((&json["output_bytes"], &json["exit_status"]), (&24.into(), &0.into()));
    let left = fs::read_dir(std::env::temp_dir()).unwrap().filter_map(Result::ok);
    let left = left.filter(|entry| entry.file_name().to_string_lossy().starts_with("wasmrun-bench-")).count();
    assert_eq!(left, 0, "the cache of the later runs is removed");
}

#[test]
fn bench_tells_runs_that_differ() {
    if common::emulated() {
        // The comparison starts this very binary, which only the emulator can.
        return;
    }
    let wat = r#"(module
        (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "_start")
            (i32.store (i32.const 0) (i32.const 16)) (i32.store (i32.const 4) (i32.const 16))
            (drop (call $random (i32.const 16) (i32.const 16)))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;
    let files = Files::new(&[("m.wat", wat)]);
    files.run(&["bench", "--runs=2", "m.wat"]).fails(1, &["two runs differ"]);
    let files = Files::new(&[("t.wat", "(module (func (export \"_start\") unreachable))")]);
    files.run(&["bench", "t.wat"]).fails(134, &["unreachable"]);
}

#[test]
fn a_quit_key_shows_what_runs() {
    let program = r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1) (data (i32.const 16) "ready")
        (func $inner (loop $forever (br $forever)))
        (func $_start (export "_start")
            (i32.store (i32.const 0) (i32.const 16)) (i32.store (i32.const 4) (i32.const 5))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
            (call $inner)))"#;
    let files = Files::new(&[("spin.wat", program)]);
    let file = files.path("spin.wat");
    for engine in [&[][..], &["--interp"], &["--jit"]] {
        let mut terminal = Terminal::new(&[&["exec", "--cache=off"], engine, &[file.to_str().unwrap()]].concat());
        terminal.sees("ready");
        // It may not have come to the loop yet.
        terminal.types("\x1c");
        terminal.sees("spin.wat: is running");
        terminal.sees("_start");
        thread::sleep(Duration::from_millis(100));
        for _ in 0..3 {
            terminal.types("\x1c");
            terminal.sees("spin.wat: is running\r\n   0: inner");
            terminal.sees("at offset 0x");
            terminal.sees("\r\n   1: _start");
        }
        terminal.types("\x03");
        assert_eq!(wait(&mut terminal.child, Duration::from_secs(60)), Some(130), "{engine:?}");
    }
    // Without a guest, the key does what it does to other programs.
    let mut terminal = Terminal::new(&["inspect", "-"]);
    thread::sleep(Duration::from_millis(100));
    terminal.types("\x1c");
    assert_eq!(wait(&mut terminal.child, Duration::from_secs(60)), None);
}
