//! The tool: its flags, `cache` and `compile`, several processes.

use crate::common;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PROGRAM: &str = r#"(module
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (func $work (param i32) (result i32)
        (if (result i32) (i32.eqz (local.get 0))
            (then (i32.const 0))
            (else (i32.add (i32.const 1) (call $work (i32.sub (local.get 0) (i32.const 1)))))))
    (func (export "_start") (call $exit (call $work (i32.const 33)))))"#;

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("p.wat"), PROGRAM).unwrap();
        Files(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = common::command(env!("CARGO_BIN_EXE_wasmrun"));
        command.current_dir(self.0.path()).args(args).stdin(Stdio::null());
        command.env("XDG_CACHE_HOME", self.path("home"));
        command
    }

    #[track_caller]
    fn run(&self, args: &[&str], status: i32) -> (String, String) {
        let output = self.command(args).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(status), "{args:?}: {stderr}");
        (stdout, stderr)
    }
}

#[test]
fn it_is_on_and_says_what_it_does_if_asked() {
    let files = Files::new();
    let cache = files.path("home/wasmrun");
    assert_eq!(files.run(&["exec", "--jit", "--cache=off", "p.wat"], 33).1, "");
    assert_eq!(files.run(&["exec", "--jit", "--cache=read", "p.wat"], 33).1, "");
    assert!(!cache.exists());
    assert_eq!(files.run(&["exec", "--jit", "p.wat"], 33).1, "");
    assert!(cache.exists());
    let (_, told) = files.run(&["exec", "--jit", "-v", "p.wat"], 33);
    assert!(told.contains("2 functions loaded, 0 recorded"), "{told}");
    let (_, told) = files.run(&["exec", "--jit", "-v", "--cache-dir=other", "p.wat"], 33);
    assert!(told.contains("0 functions loaded, 2 recorded") && files.path("other").exists(), "{told}");
    let mut homeless = files.command(&["exec", "-v", "p.wat"]);
    let output = homeless.env_remove("XDG_CACHE_HOME").env_remove("HOME").output().unwrap();
    assert_eq!(output.status.code(), Some(33));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cache: off"));
}

#[test]
fn info_and_clear() {
    let files = Files::new();
    assert!(files.run(&["cache", "info"], 0).0.contains("not there yet"));
    files.run(&["cache", "clear"], 0);
    files.run(&["exec", "--jit", "p.wat"], 33);
    let (text, _) = files.run(&["cache", "info"], 0);
    assert!(text.contains("home/wasmrun\n") && text.contains("modules    1\nfiles      1\n"), "{text}");
    let (json, _) = files.run(&["cache", "info", "--json"], 0);
    let mentions = |parts: &[&str]| parts.iter().all(|part| json.contains(part));
    assert!(mentions(&["\"directory\":\"/", "\"modules\":1", "\"files\":1"]), "{json}");
    files.run(&["cache", "clear"], 0);
    let (json, _) = files.run(&["cache", "info", "--json"], 0);
    let mentions = |parts: &[&str]| parts.iter().all(|part| json.contains(part));
    assert!(mentions(&["\"exists\":true", "\"modules\":0", "\"files\":0", "\"bytes\":0"]), "{json}");
    files.run(&["cache", "empty"], 2);
}

#[test]
fn processes_share_it() {
    let files = Files::new();
    for _ in 0..4 {
        let run = || files.command(&["exec", "--jit", "p.wat"]).stderr(Stdio::piped()).spawn().unwrap();
        let children: Vec<_> = (0..8).map(|_| run()).collect();
        for child in children {
            let output = child.wait_with_output().unwrap();
            assert_eq!((output.status.code(), &output.stderr[..]), (Some(33), &b""[..]));
        }
    }
    let (_, told) = files.run(&["exec", "--jit", "-v", "p.wat"], 33);
    assert!(told.contains("2 functions loaded, 0 recorded, 0 rejected"), "{told}");
}

#[test]
fn compile_and_run() {
    let files = Files::new();
    files.run(&["compile", "p.wat"], 0);
    let (_, told) = files.run(&["exec", "--allow-precompiled", "--jit", "-v", "p.cwasm"], 33);
    assert!(told.contains("2 functions loaded, 0 recorded"), "{told}");
    assert!(!files.path("home").exists(), "what is compiled needs no cache");
    files.run(&["exec", "--allow-precompiled", "p.cwasm"], 33);
    files.run(&["exec", "--allow-precompiled", "--interp", "p.cwasm"], 33);
    files.run(&["compile", "p.wat", "-o", "again.cwasm"], 0);
    assert!(read(&files.path("again.cwasm")) == read(&files.path("p.cwasm")), "processes compile differently");
    // Under another name nothing native is run.
    fs::rename(files.path("p.cwasm"), files.path("p.wasm")).unwrap();
    let (_, told) = files.run(&["exec", "--jit", "-v", "--cache=off", "p.wasm"], 33);
    assert!(told.contains("0 functions loaded"), "{told}");
    files.run(&["inspect", "p.wasm"], 0);
    assert!(fs::read_dir(files.0.path()).unwrap().count() <= 4, "files are left over");
}

#[test]
fn what_does_not_fit_is_refused_in_a_line() {
    let files = Files::new();
    files.run(&["compile", "p.wat", "--bounds-checks=guard"], 0);
    let (_, told) = files.run(&["exec", "--allow-precompiled", "--jit", "p.cwasm"], 126);
    assert!(told.lines().count() == 1 && told.contains("p.cwasm: it was compiled for --bounds-checks guard"), "{told}");
    files.run(&["exec", "--allow-precompiled", "--jit", "--bounds-checks=guard", "p.cwasm"], 33);
    assert!(
        files
            .run(&["exec", "--allow-precompiled", "--bounds-checks=guard", "--fuel=9999", "p.cwasm"], 126)
            .1
            .contains("compiled without fuel")
    );
    files.run(&["compile", "p.wat", "--fuel"], 0);
    let (_, told) = files.run(&["exec", "--allow-precompiled", "--jit", "p.cwasm"], 126);
    assert!(told.lines().count() == 1 && told.contains("run it with --fuel=N"), "{told}");
    let (_, told) = files.run(&["exec", "--allow-precompiled", "--jit", "-v", "--fuel=9999", "p.cwasm"], 33);
    assert!(told.contains("2 functions loaded"), "{told}");
    assert!(
        files
            .run(&["exec", "--allow-precompiled", "--jit", "--fuel=99", "p.cwasm"], 134)
            .1
            .contains("held back by --fuel=99")
    );
    let bytes = read(&files.path("p.cwasm"));
    fs::write(files.path("p.cwasm"), &bytes[..bytes.len() - 1]).unwrap();
    let (_, told) = files.run(&["exec", "--allow-precompiled", "--jit", "p.cwasm"], 126);
    assert!(told.contains("truncated"), "{told}");
    fs::write(files.path("m.cwasm"), wat::parse_str(PROGRAM).unwrap()).unwrap();
    assert!(files.run(&["exec", "--allow-precompiled", "m.cwasm"], 126).1.contains("no compiled code"));
    files.run(&["compile", "missing.wasm"], 127);
    files.run(&["compile", "-"], 2);
    fs::write(files.path("bad.wat"), "(module (func (result i32)))").unwrap();
    files.run(&["compile", "bad.wat"], 126);
    assert!(!files.path("bad.cwasm").exists());
    files.run(&["compile", "p.wat", "-o", "missing/p.cwasm"], 125);
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap()
}
