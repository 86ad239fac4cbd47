//! Whole WASI programs, run by the binary on each engine: what they print and how they end.
//!
//! The small ones are in `programs/`, with their sources. The big ones (CPython, resvg, flite, icepack) are run when
//! `WASMRUN_PROGRAMS` names the folder that holds them as `p/*.wasm`, with their inputs in `in/`.

mod common;

use common::{Outcome, digest, run};
use libtest_mimic::{Arguments, Failed, Trial};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tempfile::TempDir;
use wasmrun::Engine;

/// Long enough for an interpreter in an emulator, short enough to end a hanging run.
const LIMIT: Duration = Duration::from_secs(300);

const ENGINES: [(&str, &[&str]); 4] = [
    ("interp", &["--interp"]),
    ("tiered", &[]),
    ("jit", &["--jit"]),
    ("jit-guard", &["--jit", "--bounds-checks=guard"]),
];

/// One run of one program.
struct Run<'a> {
    engine: &'a [&'a str],
    wasm: PathBuf,
    options: Vec<String>,
    args: Vec<String>,
    stdin: &'a [u8],
}

impl<'a> Run<'a> {
    fn new(engine: &'a [&'a str], wasm: impl Into<PathBuf>) -> Self {
        Run { engine, wasm: wasm.into(), options: vec![], args: vec![], stdin: b"" }
    }

    fn option(mut self, option: impl Into<String>) -> Self {
        self.options.push(option.into());
        self
    }

    /// Gives the program a folder of the host under the name `guest`.
    fn dir(self, host: &Path, guest: &str) -> Self {
        self.option("--dir").option(format!("{}::{guest}", host.display()))
    }

    fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|s| s.to_string()));
        self
    }

    fn stdin(mut self, stdin: &'a [u8]) -> Self {
        self.stdin = stdin;
        self
    }

    fn outcome(&self) -> Result<Outcome, Failed> {
        let mut command = common::command(env!("CARGO_BIN_EXE_wasmrun"));
        command.arg("exec").arg("--cache=off").args(self.engine).args(&self.options).arg(&self.wasm).args(&self.args);
        Ok(run(&mut command, self.stdin, LIMIT)?)
    }

    /// Runs it and wants this exit status; gives what was written.
    fn ends_with(&self, status: i32) -> Result<Outcome, Failed> {
        let outcome = self.outcome()?;
        if outcome.status.code() == Some(status) {
            return Ok(outcome);
        }
        let stdout = String::from_utf8_lossy(&outcome.stdout);
        Err(format!("{} instead of {status}\nstdout: {stdout}\nstderr: {}", outcome.status, outcome.stderr).into())
    }

    /// Runs it and wants status 0, this output and nothing on standard error.
    fn prints(&self, expected: &str) -> Result<(), Failed> {
        let outcome = self.ends_with(0)?;
        equal("stdout", expected, &String::from_utf8_lossy(&outcome.stdout))?;
        equal("stderr", "", &outcome.stderr)
    }
}

fn equal(what: &str, expected: &str, got: &str) -> Result<(), Failed> {
    if expected == got { Ok(()) } else { Err(format!("{what} is {got:?}, not {expected:?}").into()) }
}

fn contains(what: &str, parts: &[&str], got: &str) -> Result<(), Failed> {
    match parts.iter().find(|part| !got.contains(**part)) {
        None => Ok(()),
        Some(part) => Err(format!("{what} lacks {part:?}: {got}").into()),
    }
}

fn same_digest(what: &str, expected: (usize, u64), bytes: &[u8]) -> Result<(), Failed> {
    let got = (bytes.len(), digest(bytes));
    if got == expected { Ok(()) } else { Err(format!("{what}: {got:#x?}, not {expected:#x?}").into()) }
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("runtime-tests/programs").join(name)
}

type Engines<'a> = &'a [&'a str];
type Test = fn(Engines) -> Result<(), Failed>;

fn hello(engine: Engines) -> Result<(), Failed> {
    Run::new(engine, shipped("hello.wasm")).prints("Hello from WebAssembly!\n")
}

fn environment(engine: Engines) -> Result<(), Failed> {
    Run::new(engine, shipped("environment.wasm"))
        .option("--argv0=program")
        .option("--env=FIRST=1")
        .option("--env=SECOND=two words=x")
        .args(&["--dir", "two words", "", "é"])
        .prints("5 arguments\n[0] program\n[1] --dir\n[2] two words\n[3] \n[4] é\nFIRST=1\nSECOND=two words=x\n")
}

fn count(engine: Engines) -> Result<(), Failed> {
    let line = b"one two  three\tfour\n";
    for (input, expected) in [
        (b"".to_vec(), "0 0 0\n"),
        (b"no newline".to_vec(), "0 2 10\n"),
        (line.repeat(20_000), "20000 80000 400000\n"), // many times a pipe's buffer
    ] {
        let outcome = Run::new(engine, shipped("count.wasm")).stdin(&input).ends_with(0)?;
        equal("stdout", expected, &String::from_utf8_lossy(&outcome.stdout))?;
        equal("stderr", "end of input\n", &outcome.stderr)?;
    }
    Ok(())
}

fn files(engine: Engines) -> Result<(), Failed> {
    let outside = TempDir::new()?;
    let folder = outside.path().join("up/down");
    fs::create_dir_all(&folder)?;
    let sub = |count: i32| -> String {
        (0..count).map(|i| format!("    file-{i:03} {}\n", format!("{}\n", i * i).len())).collect()
    };
    let expected = format!("copy/\n  log 8\n  sub/\n{}tree/\n  log.old 6\n  sub/\n{}", sub(100), sub(10));
    Run::new(engine, shipped("files.wasm")).dir(&folder, "/data").args(&["/data"]).prints(&expected)?;
    equal("tree/log.old", "one\ntw", &fs::read_to_string(folder.join("tree/log.old"))?)?;
    equal("copy/sub/file-099", "9801\n", &fs::read_to_string(folder.join("copy/sub/file-099"))?)?;
    // The program tries to make `../../outside`.
    if outside.path().join("outside").exists() { Err("a file was made outside of the folder".into()) } else { Ok(()) }
}

fn compute(engine: Engines) -> Result<(), Failed> {
    Run::new(engine, shipped("compute.wasm")).prints(
        "random 9e90c9012199435f\n\
         sorted b5c6c904e62fcacb\n\
         crc 2b6d8981\n\
         matrix 5fda56af8f56e9f9 2987.765850\n\
         tree 301382\n\
         functions 6017.845702374\n\
         integers 3133300502276270\n\
         left    |1.235e+04|0xbeef|+7| 99.5%|-9000000000\n\
         0.10000000000000001 9.9999999999999694e-311 -2147483648\n",
    )
}

fn exit_status(engine: Engines) -> Result<(), Failed> {
    for (how, status) in [("0", 0), ("7", 7), ("255", 255), ("300", 44), ("-1", 255), ("return", 3)] {
        let outcome = Run::new(engine, shipped("status.wasm")).args(&[how]).ends_with(status)?;
        equal("stdout", "before the end\n", &String::from_utf8_lossy(&outcome.stdout))?;
        equal("stderr", "", &outcome.stderr)?;
    }
    Ok(())
}

fn trap_status(engine: Engines) -> Result<(), Failed> {
    for (how, parts) in [
        ("trap", &["unreachable", "main", "_start"][..]),
        ("abort", &["unreachable", "abort", "main", "_start"]),
        ("divide", &["integer divide by zero", "divide", "main", "_start"]),
        ("memory", &["out of bounds memory access", "0xfffffff0", "0x20000", "main", "_start"]),
    ] {
        let outcome = Run::new(engine, shipped("status.wasm")).args(&[how]).ends_with(134)?;
        equal("stdout", "before the end\n", &String::from_utf8_lossy(&outcome.stdout))?;
        contains("stderr", parts, &outcome.stderr)?;
    }
    Ok(())
}

fn words(engine: Engines) -> Result<(), Failed> {
    Run::new(engine, shipped("words.wasm"))
        .args(&["3"])
        .stdin("The cat, the dog; THE Ärger.\nÄrger und cat\n".as_bytes())
        .prints("   3 the\n   2 cat\n   2 ärger\n{3: 7, 5: 2}\n")
}

fn library(engine: Engines) -> Result<(), Failed> {
    let folder = TempDir::new()?;
    let outcome =
        Run::new(engine, shipped("library.wasm")).dir(folder.path(), "/data").args(&["/data"]).ends_with(134)?;
    let expected = "area 5718.318229\n\
        product 265252859812191058636308480000000 d13f6370f96865df5dd54000000 3085481574\n\
        slept true\n\
        time true\n\
        tail [250, 251, 252, 253, 254, 255] of 256\n\
        now 10\n\
        [\"data.bin\"]\n\
        gone NotFound\n";
    equal("stdout", expected, &String::from_utf8_lossy(&outcome.stdout))?;
    contains("stderr", &["index out of bounds: the len is 3 but the index is 5", "unreachable"], &outcome.stderr)
}

const SHIPPED: [(&str, Test); 9] = [
    ("hello", hello),
    ("environment", environment),
    ("count", count),
    ("files", files),
    ("compute", compute),
    ("exit status", exit_status),
    ("trap status", trap_status),
    ("words", words),
    ("library", library),
];

type BigTest = fn(Engines, &Path) -> Result<(), Failed>;

fn cpython_hello(engine: Engines, programs: &Path) -> Result<(), Failed> {
    Run::new(engine, programs.join("p/cpython.wasm")).args(&["-c", "print('hi')"]).prints("hi\n")
}

fn cpython_script(engine: Engines, programs: &Path) -> Result<(), Failed> {
    let script = "import sys, json, hashlib, re, random\n\
        print(sys.version_info[:2], json.dumps({'a': [1, 2.5, None, True, 'é']}), 2**200)\n\
        print(hashlib.md5(b'abc').hexdigest(), re.sub(r'(\\w+) (\\w+)', r'\\2 \\1', 'hello world'))\n\
        print(sum(i * i for i in range(20000)), sorted('hello'), random.Random(1).random(), 0.1 + 0.2)\n\
        def f(n): return f(n + 1)\n\
        try: f(0)\n\
        except RecursionError as e: print('deep:', e)\n\
        print(sys.stdin.read().upper(), end='')\n\
        sys.exit(7)\n";
    let outcome =
        Run::new(engine, programs.join("p/cpython.wasm")).args(&["-c", script]).stdin(b"from stdin\n").ends_with(7)?;
    let expected = "(3, 12) {\"a\": [1, 2.5, null, true, \"\\u00e9\"]} \
        1606938044258990275541962092341162602522202993782792835301376\n\
        900150983cd24fb0d6963f7d28e17f72 world hello\n\
        2666466670000 ['e', 'h', 'l', 'l', 'o'] 0.13436424411240122 0.30000000000000004\n\
        deep: maximum recursion depth exceeded\n\
        FROM STDIN\n";
    equal("stdout", expected, &String::from_utf8_lossy(&outcome.stdout))
}

fn cpython_work(engine: Engines, programs: &Path) -> Result<(), Failed> {
    Run::new(engine, programs.join("p/cpython.wasm"))
        .dir(&programs.join("in"), "/in")
        .args(&["/in/work.py", "3000"])
        .prints("430 3097 6765 8f84adfe345f850f\n")
}

fn resvg(engine: Engines, programs: &Path) -> Result<(), Failed> {
    let outcome = Run::new(engine, programs.join("p/resvg.wasm"))
        .dir(&programs.join("in"), "/in")
        .args(&["/in/pic.svg", "-c"])
        .ends_with(0)?;
    same_digest("the picture", (42933, 0xe3f0_0083_dcc9_5533), &outcome.stdout)
}

fn flite(engine: Engines, programs: &Path) -> Result<(), Failed> {
    let folder = TempDir::new()?;
    Run::new(engine, programs.join("p/flite.wasm"))
        .dir(folder.path(), "/out")
        .args(&["-t", "The quick brown fox jumps over the lazy dog.", "-o", "/out/a.wav"])
        .ends_with(0)?;
    same_digest("the sound", (45242, 0x4788_94e8_33e2_a937), &fs::read(folder.path().join("a.wav"))?)
}

fn icepack(engine: Engines, programs: &Path) -> Result<(), Failed> {
    let folder = TempDir::new()?;
    let source = ".device 1k\n.warmboot enabled\n.io_tile 1 0\n000000000000000000\n001100000000000000\n";
    fs::write(folder.path().join("a.asc"), source)?;
    let wasm = programs.join("p/icepack.wasm");
    let pack = Run::new(engine, &wasm).dir(folder.path(), "/out").args(&["/out/a.asc", "/out/a.bin"]);
    pack.prints("")?;
    same_digest("the bit stream", (32216, 0xb400_50ce_344b_e44b), &fs::read(folder.path().join("a.bin"))?)?;
    let unpack = Run::new(engine, &wasm).dir(folder.path(), "/out").args(&["-u", "/out/a.bin"]);
    same_digest("the text", (200_686, 0x62c8_6b70_37b7_1b20), &unpack.ends_with(0)?.stdout)
}

/// What the tests of big programs need.
const BIG_FILES: [&str; 6] =
    ["p/cpython.wasm", "p/resvg.wasm", "p/flite.wasm", "p/icepack.wasm", "in/work.py", "in/pic.svg"];

const BIG: [(&str, BigTest); 6] = [
    ("cpython hello", cpython_hello),
    ("cpython script", cpython_script),
    ("cpython work.py", cpython_work),
    ("resvg", resvg),
    ("flite", flite),
    ("icepack", icepack),
];

fn main() -> ExitCode {
    let mut trials = Vec::new();
    let programs = common::programs(&BIG_FILES);
    for (engine, flags) in &ENGINES[..if Engine::has_jit() { 4 } else { 1 }] {
        for (name, test) in SHIPPED {
            trials.push(Trial::test(format!("{name} [{engine}]"), move || test(flags)));
        }
        for (name, test) in BIG {
            if let Some(programs) = programs.clone() {
                trials.push(Trial::test(format!("{name} [{engine}]"), move || test(flags, &programs)));
            }
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
