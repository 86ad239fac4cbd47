//! WASI Preview 1 on each engine: the programs of `wasi/`, which check what every function does and gives, each in a
//! directory of its own; and hostile calls in the text format.

mod common;
#[path = "wasi/interrupted.rs"]
mod interrupted;
#[cfg(target_os = "linux")]
#[path = "wasi/linux/mod.rs"]
mod linux;

use libtest_mimic::{Arguments, Failed, Trial};
use std::cell::Cell;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use wasmrun::{
    Config, Engine, Error, Linker, Module, Store, Strategy, WasiEnv, add_wasi_to_linker, create_wasi_linker, wasi,
};

type Result<T, E = Failed> = std::result::Result<T, E>;

/// How a program ended.
struct Ended {
    code: i32,
    stdout: String,
}

fn engine(strategy: Strategy) -> Result<Engine> {
    Ok(Engine::new(Config::new().strategy(strategy))?)
}

thread_local! {
    /// Whether programs get their environment in the store's data, and not from the linker.
    static IN_STORE: Cell<bool> = const { Cell::new(false) };
    /// Whether the memories of programs are made shared ones.
    static SHARED: Cell<bool> = const { Cell::new(false) };
}

/// The module with a shared memory in place of the one that it defines, which may grow to 256 pages.
fn with_shared_memory(wasm: &[u8]) -> Vec<u8> {
    fn number(bytes: &[u8], at: &mut usize) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = bytes[*at];
            *at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return value;
            }
        }
    }
    let (mut out, mut at) = (wasm[..8].to_vec(), 8);
    while at < wasm.len() {
        let start = at;
        let id = wasm[at];
        at += 1;
        let len = number(wasm, &mut at) as usize;
        let end = at + len;
        if id == 5 {
            let (count, flags, minimum) = (number(wasm, &mut at), number(wasm, &mut at), number(wasm, &mut at));
            assert!(count == 1 && flags < 2 && minimum < 256, "one memory, of 32 bits");
            let limits = [1, 3, minimum as u8 & 0x7f | 0x80, (minimum >> 7) as u8, 0x80, 2];
            out.extend([5, limits.len() as u8]);
            out.extend(limits);
        } else {
            out.extend(&wasm[start..end]);
        }
        at = end;
    }
    out
}

/// Runs a module's `_start`.
fn start(engine: &Engine, wasm: &[u8], env: WasiEnv) -> Result<Ended> {
    let shared;
    let wasm = if SHARED.get() && wasm.starts_with(b"\0asm") {
        shared = with_shared_memory(wasm);
        &shared
    } else {
        wasm
    };
    if IN_STORE.get() {
        let mut linker = Linker::new(engine);
        wasi::add_to_linker(&mut linker, |env: &mut WasiEnv| env)?;
        let mut store = Store::new(engine, env);
        let instance = linker.instantiate_pre(&Module::new(engine, wasm)?)?.instantiate(&mut store)?;
        let result = instance.get_typed_func::<(), ()>(&mut store, "_start")?.call(&mut store, ());
        return Ok(Ended { code: exit_code(result)?, stdout: String::from_utf8(store.data().get_stdout())? });
    }
    let env = Arc::new(Mutex::new(env));
    let module = Module::new(engine, wasm)?;
    let mut store = Store::new(engine, ());
    let instance = create_wasi_linker(env.clone()).instantiate(&mut store, &module)?;
    let result = instance.get_typed_func::<(), ()>(&mut store, "_start")?.call(&mut store, ());
    let code = exit_code(result)?;
    let env = env.lock().map_err(|_| "poisoned")?;
    Ok(Ended { code, stdout: String::from_utf8(env.get_stdout())? })
}

fn exit_code(result: wasmrun::Result<()>) -> Result<i32, Error> {
    match result {
        Ok(()) => Ok(0),
        Err(error) => error.exit_code().ok_or(error),
    }
}

/// Runs a program of `wasi/`, which says `ok` if all is.
fn program(strategy: Strategy, name: &str, env: WasiEnv) -> Result<()> {
    let ended = program_ends(strategy, name, env)?;
    if ended.code != 0 || ended.stdout != "ok\n" {
        return Err(format!("exit {}: {}", ended.code, ended.stdout).into());
    }
    Ok(())
}

fn program_ends(strategy: Strategy, name: &str, env: WasiEnv) -> Result<Ended> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("runtime-tests/wasi/{name}.wasm"));
    start(&engine(strategy)?, &fs::read(path)?, env)
}

/// An environment with an empty directory.
fn with_directory() -> Result<(TempDir, WasiEnv)> {
    let directory = TempDir::new()?;
    let env = WasiEnv::new().with_preopen(directory.path(), "/")?;
    Ok((directory, env))
}

fn in_directory(strategy: Strategy, name: &str) -> Result<()> {
    let (_directory, env) = with_directory()?;
    program(strategy, name, env)
}

fn file(strategy: Strategy) -> Result<()> {
    // The second directory makes the first free number 5.
    let (directory, env) = with_directory()?;
    program(strategy, "file", env.with_preopen(directory.path(), "/again")?)
}

fn path(strategy: Strategy) -> Result<()> {
    in_directory(strategy, "path")
}

fn readdir(strategy: Strategy) -> Result<()> {
    in_directory(strategy, "readdir")
}

fn escape(strategy: Strategy) -> Result<()> {
    let outside = TempDir::new()?;
    let secret = outside.path().join("secret");
    let inside = outside.path().join("inside");
    fs::write(&secret, "secret")?;
    fs::create_dir(&inside)?;
    for (name, target) in [("up", ".."), ("outside", "../secret"), ("root", "/")] {
        symlink(target, inside.join(name))?;
    }
    symlink(&secret, inside.join("absolute"))?;
    program(strategy, "escape", WasiEnv::new().with_preopen(&inside, "/")?)?;
    let found: Vec<_> = fs::read_dir(outside.path())?.collect::<Result<_, _>>()?;
    if fs::read(&secret)? != b"secret" || found.len() != 2 {
        return Err("it got out".into());
    }
    Ok(())
}

fn readonly(strategy: Strategy) -> Result<()> {
    let (other, _) = with_directory()?;
    let directory = TempDir::new()?;
    fs::write(directory.path().join("file"), "text")?;
    fs::create_dir(directory.path().join("dir"))?;
    fs::write(directory.path().join("dir/inner"), "more")?;
    let before = fs::metadata(directory.path().join("file"))?.modified()?;
    let env = WasiEnv::new().with_read_only_preopen(directory.path(), "/ro")?.with_preopen(other.path(), "/")?;
    program(strategy, "readonly", env)?;
    if fs::metadata(directory.path().join("file"))?.modified()? != before {
        return Err("the time was changed".into());
    }
    Ok(())
}

fn limits(strategy: Strategy) -> Result<()> {
    let (_directory, env) = with_directory()?;
    let env = env.with_max_file_size(100).with_max_written(1000).with_max_descriptors(8);
    let ended = program_ends(strategy, "limits", env)?;
    if ended.code != 42 {
        return Err(format!("exit {}: {}", ended.code, ended.stdout).into());
    }
    Ok(())
}

/// A log that is handed over as standard output, with room for six bytes.
fn append(strategy: Strategy) -> Result<()> {
    let directory = TempDir::new()?;
    let log = directory.path().join("log");
    fs::write(&log, "log\n")?;
    let env = WasiEnv::new().with_stdout_file(fs::File::options().append(true).open(&log)?).with_max_file_size(10);
    let code = program_ends(strategy, "append", env)?.code;
    let text = fs::read_to_string(&log)?;
    if code != 42 || text != "log\n012345" {
        return Err(format!("exit {code}: {text:?}").into());
    }
    Ok(())
}

fn wait(strategy: Strategy) -> Result<()> {
    let (reader, mut writer) = std::io::pipe()?;
    let late = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(500));
        writer.write_all(b"x")
    });
    let reader = std::os::fd::OwnedFd::from(reader);
    program(strategy, "wait", WasiEnv::new().with_stdin_file(reader.into()))?;
    Ok(late.join().map_err(|_| "the writer panicked")??)
}

fn socket(strategy: Strategy) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let client = std::thread::spawn(move || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(b"hello")?;
        stream.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    });
    program(strategy, "socket", WasiEnv::new().with_listener(listener))?;
    match client.join().map_err(|_| "the client panicked")??.as_str() {
        "world!" => Ok(()),
        other => Err(format!("it answered {other:?}").into()),
    }
}

/// Calls that point where they must not. Each function of the module does one and returns its errno.
fn pointers(strategy: Strategy) -> Result<()> {
    const FAULT: i32 = 21;
    const CALLS: &[(&str, &str)] = &[
        ("args_get", "i32 i32: (i32.const 65536) (i32.const 0)"),
        ("args_get", "i32 i32: (i32.const 0) (i32.const 65533)"),
        ("args_get", "i32 i32: (i32.const 2) (i32.const 100)"),
        ("args_sizes_get", "i32 i32: (i32.const 0) (i32.const -1)"),
        ("environ_get", "i32 i32: (i32.const -4) (i32.const 0)"),
        ("clock_time_get", "i32 i64 i32: (i32.const 0) (i64.const 0) (i32.const 65532)"),
        ("clock_time_get", "i32 i64 i32: (i32.const 0) (i64.const 0) (i32.const 4)"),
        ("clock_res_get", "i32 i32: (i32.const 0) (i32.const 65536)"),
        ("fd_fdstat_get", "i32 i32: (i32.const 1) (i32.const 65520)"),
        ("fd_filestat_get", "i32 i32: (i32.const 1) (i32.const 65520)"),
        ("fd_prestat_get", "i32 i32: (i32.const 3) (i32.const 65532)"),
        ("fd_prestat_dir_name", "i32 i32 i32: (i32.const 3) (i32.const 65536) (i32.const 1)"),
        ("fd_read", "i32 i32 i32 i32: (i32.const 0) (i32.const 65532) (i32.const 1) (i32.const 0)"),
        ("fd_read", "i32 i32 i32 i32: (i32.const 0) (i32.const 0) (i32.const -1) (i32.const 0)"),
        ("fd_read", "i32 i32 i32 i32: (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 65536)"),
        ("fd_write", "i32 i32 i32 i32: (i32.const 1) (i32.const 1024) (i32.const 1) (i32.const 0)"),
        ("fd_write", "i32 i32 i32 i32: (i32.const 1) (i32.const 1032) (i32.const 1) (i32.const -2)"),
        ("fd_write", "i32 i32 i32 i32: (i32.const 1) (i32.const 1032) (i32.const 2) (i32.const 0)"),
        ("fd_readdir", "i32 i32 i32 i64 i32: (i32.const 3) (i32.const 1) (i32.const -1) (i64.const 0) (i32.const 0)"),
        (
            "fd_readdir",
            "i32 i32 i32 i64 i32: (i32.const 3) (i32.const 0) (i32.const 8) (i64.const 0) (i32.const 65534)",
        ),
        ("random_get", "i32 i32: (i32.const 1) (i32.const 65536)"),
        ("random_get", "i32 i32: (i32.const 0) (i32.const -1)"),
        ("path_create_directory", "i32 i32 i32: (i32.const 3) (i32.const 65530) (i32.const 7)"),
        ("path_unlink_file", "i32 i32 i32: (i32.const 3) (i32.const -1) (i32.const -1)"),
        (
            "path_readlink",
            "i32 i32 i32 i32 i32 i32: (i32.const 3) (i32.const 0) (i32.const 1) (i32.const 65530) (i32.const 7) (i32.const 0)",
        ),
        (
            "path_open",
            "i32 i32 i32 i32 i32 i64 i64 i32 i32: (i32.const 3) (i32.const 0) (i32.const 1100) (i32.const 3) (i32.const 1) (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 65533)",
        ),
        ("poll_oneoff", "i32 i32 i32 i32: (i32.const 0) (i32.const 0) (i32.const 65535) (i32.const 0)"),
        ("poll_oneoff", "i32 i32 i32 i32: (i32.const 0) (i32.const 65528) (i32.const 1) (i32.const 0)"),
        ("poll_oneoff", "i32 i32 i32 i32: (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 0)"),
    ];
    let text = module_of_calls(CALLS.iter().copied());
    let (directory, env) = with_directory()?;
    let env = Arc::new(Mutex::new(env.with_args(vec!["arg".into()]).with_env("K".into(), "v".into())));
    let engine = engine(strategy)?;
    let module = Module::new(&engine, text)?;
    let mut store = Store::new(&engine, ());
    let instance = create_wasi_linker(env.clone()).instantiate(&mut store, &module)?;
    let memory = instance.get_memory(&mut store, "memory").ok_or("no memory")?;
    let before = memory.data(&store).to_vec();
    for (index, (name, call)) in CALLS.iter().enumerate() {
        let errno = instance.get_typed_func::<(), i32>(&mut store, &index.to_string())?.call(&mut store, ())?;
        if errno != FAULT {
            return Err(format!("{name} {call}: {errno}").into());
        }
        if memory.data(&store) != before {
            return Err(format!("{name} {call}: memory was written").into());
        }
    }
    if fs::read_dir(directory.path())?.next().is_some() {
        return Err("a file was made that nobody was told of".into());
    }
    match env.lock().map_err(|_| "poisoned")?.get_stdout().is_empty() {
        true => Ok(()),
        false => Err("something was written".into()),
    }
}

/// A module that exports a function for each call: one that makes it and returns its errno.
fn module_of_calls<'a>(calls: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> String {
    let mut text = String::from("(module");
    for (index, (name, call)) in calls.clone().enumerate() {
        let params = call.split(':').next().unwrap_or_default();
        text +=
            &format!("(import \"wasi_snapshot_preview1\" \"{name}\" (func $f{index} (param {params}) (result i32)))");
    }
    // At 1024 a buffer that ends outside, at 1032 one inside and behind it one that starts outside; at 1100 a path.
    text += r#"(memory (export "memory") 1)
        (data (i32.const 1024) "\00\ff\00\00\01\01\00\00" "\00\00\00\00\04\00\00\00" "\00\00\01\00\01\00\00\00")
        (data (i32.const 1100) "new")"#;
    for (index, (_, call)) in calls.enumerate() {
        let args = call.split(':').nth(1).unwrap_or_default();
        text += &format!("(func (export \"{index}\") (result i32) (call $f{index} {args}))");
    }
    text + ")"
}

/// Numbers as no honest program gives them: refused, or harmless, and at once.
fn extremes(strategy: Strategy) -> Result<()> {
    const CALLS: &[(&str, &str, i32)] = &[
        // The first makes descriptor 4 of a file.
        (
            "path_open",
            "i32 i32 i32 i32 i32 i64 i64 i32 i32: (i32.const 3) (i32.const 0) (i32.const 1100) (i32.const 3) (i32.const 1) (i64.const 0x3fffffff) (i64.const 0) (i32.const 0) (i32.const 200)",
            0,
        ),
        ("fd_allocate", "i32 i64 i64: (i32.const 4) (i64.const 0) (i64.const 0x8000000000000000)", 28),
        ("fd_allocate", "i32 i64 i64: (i32.const 4) (i64.const 0x7fffffffffffffff) (i64.const 1)", 22),
        ("fd_allocate", "i32 i64 i64: (i32.const 4) (i64.const -1) (i64.const -1)", 28),
        ("fd_advise", "i32 i64 i64 i32: (i32.const 4) (i64.const -1) (i64.const 2) (i32.const 0)", 0),
        ("fd_advise", "i32 i64 i64 i32: (i32.const 4) (i64.const 2) (i64.const -1) (i32.const 0)", 28),
        ("fd_filestat_set_size", "i32 i64: (i32.const 4) (i64.const -1)", 28),
        (
            "fd_pwrite",
            "i32 i32 i32 i64 i32: (i32.const 4) (i32.const 1032) (i32.const 1) (i64.const -1) (i32.const 200)",
            28,
        ),
        (
            "fd_pread",
            "i32 i32 i32 i64 i32: (i32.const 4) (i32.const 1032) (i32.const 1) (i64.const -1) (i32.const 200)",
            28,
        ),
        // The last that there is: nothing to read there, and too far to write.
        (
            "fd_pread",
            "i32 i32 i32 i64 i32: (i32.const 4) (i32.const 1032) (i32.const 1) (i64.const 0x7ffffffffffffff0) (i32.const 200)",
            0,
        ),
        (
            "fd_pwrite",
            "i32 i32 i32 i64 i32: (i32.const 4) (i32.const 1032) (i32.const 1) (i64.const 0x7ffffffffffffff0) (i32.const 200)",
            22,
        ),
        ("fd_seek", "i32 i64 i32 i32: (i32.const 4) (i64.const 0x8000000000000000) (i32.const 0) (i32.const 200)", 28),
        (
            "fd_readdir",
            "i32 i32 i32 i64 i32: (i32.const 3) (i32.const 2048) (i32.const 512) (i64.const -1) (i32.const 200)",
            0,
        ),
        ("fd_renumber", "i32 i32: (i32.const 4) (i32.const -1)", 8),
        ("fd_close", "i32: (i32.const -1)", 8),
        ("fd_write", "i32 i32 i32 i32: (i32.const 4) (i32.const 0) (i32.const 0x20000000) (i32.const 200)", 21),
        ("poll_oneoff", "i32 i32 i32 i32: (i32.const 0) (i32.const 0) (i32.const -1) (i32.const 200)", 28),
        ("sock_accept", "i32 i32 i32: (i32.const 4) (i32.const 0) (i32.const 200)", 57),
        ("fd_fdstat_set_flags", "i32 i32: (i32.const 4) (i32.const -1)", 28),
        ("fd_fdstat_set_rights", "i32 i64 i64: (i32.const 4) (i64.const -1) (i64.const -1)", 28),
        ("clock_time_get", "i32 i64 i32: (i32.const -1) (i64.const -1) (i32.const 200)", 28),
    ];
    let (_directory, env) = with_directory()?;
    let engine = engine(strategy)?;
    let module = Module::new(&engine, module_of_calls(CALLS.iter().map(|(name, call, _)| (*name, *call))))?;
    let mut store = Store::new(&engine, ());
    let instance = create_wasi_linker(Arc::new(Mutex::new(env))).instantiate(&mut store, &module)?;
    for (index, (name, call, wanted)) in CALLS.iter().enumerate() {
        let errno = instance.get_typed_func::<(), i32>(&mut store, &index.to_string())?.call(&mut store, ())?;
        if errno != *wanted {
            return Err(format!("{name} {call}: {errno} instead of {wanted}").into());
        }
    }
    Ok(())
}

/// Many more subscriptions than a process may have open files, all to the same two.
fn crowd(strategy: Strategy) -> Result<()> {
    let text = r#"(module
        (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 200)
        (func (export "_start") (local $i i32) (local $at i32)
            ;; reading standard input, and every second time writing to standard output
            (loop $again
                (local.set $at (i32.mul (local.get $i) (i32.const 48)))
                (i32.store8 offset=8 (local.get $at) (i32.add (i32.const 1) (i32.and (local.get $i) (i32.const 1))))
                (i32.store offset=16 (local.get $at) (i32.and (local.get $i) (i32.const 1)))
                (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 100000))))
            (if (call $poll (i32.const 0) (i32.const 5000000) (i32.const 100000) (i32.const 12000000))
                (then (call $exit (i32.const 1))))
            (call $exit (i32.ne (i32.load (i32.const 12000000)) (i32.const 100000)))))"#;
    let (reader, writer) = std::io::pipe()?;
    drop(writer);
    let (_other, output) = std::io::pipe()?;
    let [reader, output] = [reader.into(), output.into()].map(|fd: std::os::fd::OwnedFd| fs::File::from(fd));
    let env = WasiEnv::new().with_stdin_file(reader).with_stdout_file(output);
    match start(&engine(strategy)?, text.as_bytes(), env)?.code {
        0 => Ok(()),
        code => Err(format!("exit {code}").into()),
    }
}

/// A directory that the host keeps changing for a link that leads out, while the program opens a file in it.
fn races(strategy: Strategy) -> Result<()> {
    let text = r#"(module
        (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "d/file")
        (data (i32.const 32) "\40\00\00\00\01\00\00\00")
        (func (export "_start") (local $i i32)
            (loop $again
                (if (i32.eqz (call $open (i32.const 3) (i32.const 1) (i32.const 0) (i32.const 6) (i32.const 0)
                        (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 16)))
                    (then
                        (drop (call $read (i32.load (i32.const 16)) (i32.const 32) (i32.const 1) (i32.const 48)))
                        (drop (call $close (i32.load (i32.const 16))))
                        (if (i32.ne (i32.load8_u (i32.const 64)) (i32.const 73)) (then (call $exit (i32.const 1))))))
                (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 10000))))))"#;
    let root = TempDir::new()?;
    let at = |name: &str| root.path().join(name);
    for (folder, text) in [("inside", ""), ("inside/d", "I"), ("outside", "S")] {
        fs::create_dir(at(folder))?;
        fs::write(at(folder).join("file"), text)?;
    }
    symlink("../outside", at("inside/link"))?;
    let env = WasiEnv::new().with_preopen(at("inside"), "/")?;
    let done = std::sync::atomic::AtomicBool::new(false);
    let ended = std::thread::scope(|scope| -> Result<Ended> {
        let swapping = scope.spawn(|| -> std::io::Result<()> {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                for (from, to) in [("d", "x"), ("link", "d"), ("d", "link"), ("x", "d")] {
                    fs::rename(at("inside").join(from), at("inside").join(to))?;
                }
            }
            Ok(())
        });
        let ended = engine(strategy).and_then(|engine| start(&engine, text.as_bytes(), env));
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        swapping.join().map_err(|_| "the other thread panicked")??;
        ended
    })?;
    if ended.code == 0 { Ok(()) } else { Err("it got out".into()) }
}

/// FIFOs, sockets and devices, of which none may make the program wait.
fn devices(strategy: Strategy) -> Result<()> {
    let directory = TempDir::new()?;
    let _listener = std::os::unix::net::UnixListener::bind(directory.path().join("socket"))?;
    let fifo = std::ffi::CString::new(directory.path().join("fifo").into_os_string().into_vec())?;
    // SAFETY: a plain call with a C string.
    if unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) } != 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    program(strategy, "devices", WasiEnv::new().with_preopen(directory.path(), "/")?.with_preopen("/dev", "/dev")?)
}

/// A program that has procfs among its files, is given procfs, and is given this very process in it.
#[cfg(target_os = "linux")]
fn processes(strategy: Strategy) -> Result<()> {
    const ACCES: i32 = 2;
    const LOOP: i32 = 32;
    const PERM: i32 = 63;
    let open = |directory: &str, path: &str, rights: i64| -> Result<i32> {
        let text = format!(
            r#"(module
            (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "{path}")
            (func (export "_start")
                (call $exit (call $open (i32.const 3) (i32.const 1) (i32.const 0) (i32.const {}) (i32.const 0)
                    (i64.const {rights}) (i64.const 0) (i32.const 0) (i32.const 512)))))"#,
            path.len()
        );
        let env = WasiEnv::new().with_preopen(directory, "/")?;
        Ok(start(&engine(strategy)?, text.as_bytes(), env)?.code)
    };
    let process = std::process::id();
    let own = format!("/proc/{process}");
    let below_root = ["proc/self/root", "etc/passwd"].join("/");
    let (read, write) = (2, 64);
    let cases = [
        ("/", "proc/cpuinfo", read, 0),
        ("/", "proc", read, 0),
        ("/", "proc/sys/kernel/ostype", read, 0),
        ("/", "proc/sys/kernel/ostype", write, ACCES),
        ("/", &own[1..], read, ACCES),
        ("/", "proc/self/environ", read, ACCES),
        ("/", "proc/self/maps", read, ACCES),
        ("/", "proc/self/fdinfo", read, ACCES),
        ("/", "proc/self/mem", read, ACCES),
        ("/", "proc/self/mem", write, ACCES),
        ("/", "proc/thread-self/mem", read | write, ACCES),
        ("/", "proc/self/root", read, LOOP),
        ("/", &below_root, read, LOOP),
        ("/", "proc/self/cwd/Cargo.toml", read, LOOP),
        ("/", "proc/self/fd/0", read, LOOP),
        ("/", "proc/self/exe", read, LOOP),
        ("/", "dev/fd/0", read, PERM),
        ("/proc", "self/comm", read, 0),
        ("/proc", "self/comm", write, ACCES),
        ("/proc", "self/mem", read, ACCES),
        ("/proc", "thread-self/mem", read | write, ACCES),
        ("/proc", "self/fd/0", read, LOOP),
        (&own, "comm", read, 0),
        (&own, "environ", read, 0),
        (&own, "mem", read, ACCES),
        (&own, "root/etc/passwd", read, LOOP),
    ];
    for (directory, path, rights, wanted) in cases {
        let errno = open(directory, path, rights)?;
        if errno != wanted {
            return Err(format!("{path} in {directory}, rights {rights}: {errno} instead of {wanted}").into());
        }
    }
    Ok(())
}

/// A program with Rust's standard library that makes, changes, walks and removes a tree of files.
fn tree(strategy: Strategy) -> Result<()> {
    let (directory, env) = with_directory()?;
    let env = env.with_args(vec!["tree".into(), "/".into(), "3".into()]).with_env("SUFFIX".into(), ".txt".into());
    let ended = program_ends(strategy, "tree", env)?;
    let wanted = "27 files in 13 directories, 351 bytes\nok\n";
    if ended.code != 7 || ended.stdout != wanted {
        return Err(format!("exit {}: {}", ended.code, ended.stdout).into());
    }
    if fs::read_to_string(directory.path().join("kept.txt"))? != "kept, and more" {
        return Err("what it left is not what it wrote".into());
    }
    match fs::read_dir(directory.path())?.count() {
        1 => Ok(()),
        count => Err(format!("it left {count} names").into()),
    }
}

/// The older names, where `whence` counts otherwise and `filestat` is shorter.
fn unstable(strategy: Strategy) -> Result<()> {
    let (directory, env) = with_directory()?;
    fs::write(directory.path().join("f"), "0123456789")?;
    let text = r#"(module
        (import "wasi_unstable" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "wasi_unstable" "fd_seek" (func $seek (param i32 i64 i32 i32) (result i32)))
        (import "wasi_unstable" "fd_filestat_get" (func $stat (param i32 i32) (result i32)))
        (import "wasi_unstable" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
        (import "wasi_unstable" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "f")
        (func $check (param i32 i32) (if (i32.eqz (local.get 0)) (then (call $exit (local.get 1)))))
        (func (export "_start")
            (call $check (i32.eqz (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0)
                (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 8))) (i32.const 1))
            ;; 1 is the end
            (call $check (i32.eqz (call $seek (i32.load (i32.const 8)) (i64.const -1) (i32.const 1) (i32.const 16)))
                (i32.const 2))
            (call $check (i64.eq (i64.load (i32.const 16)) (i64.const 9)) (i32.const 3))
            (i32.store8 (i32.const 120) (i32.const 170))
            (call $check (i32.eqz (call $stat (i32.load (i32.const 8)) (i32.const 64))) (i32.const 4))
            (call $check (i64.eq (i64.load (i32.const 88)) (i64.const 10)) (i32.const 5))
            (call $check (i32.eq (i32.load8_u (i32.const 120)) (i32.const 170)) (i32.const 6))
            (call $check (i32.eq (i32.load (i32.const 84)) (i32.const 1)) (i32.const 7))
            ;; a monotonic clock and a millisecond
            (i64.store (i32.const 256) (i64.const 77))
            (i32.store (i32.const 280) (i32.const 1))
            (i64.store (i32.const 288) (i64.const 1000000))
            (call $check (i32.eqz (call $poll (i32.const 256) (i32.const 512) (i32.const 1) (i32.const 8)))
                (i32.const 8))
            (call $check (i64.eq (i64.load (i32.const 512)) (i64.const 77)) (i32.const 9))
            (call $exit (i32.const -1))))"#;
    match start(&engine(strategy)?, text.as_bytes(), env)?.code {
        -1 => Ok(()),
        code => Err(format!("check {code}").into()),
    }
}

/// Fixed time and randomness: two runs are the same, and sleeping takes no time.
fn repeatable(strategy: Strategy) -> Result<()> {
    let text = r#"(module
        (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
        (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "_start")
            (i64.store (i32.const 280) (i64.const 3600000000000))
            (drop (call $poll (i32.const 256) (i32.const 512) (i32.const 1) (i32.const 8)))
            (drop (call $random (i32.const 1024) (i32.const 32)))
            (drop (call $time (i32.const 0) (i64.const 0) (i32.const 1056)))
            (i32.store (i32.const 0) (i32.const 1024))
            (i32.store (i32.const 4) (i32.const 40))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;
    let run = || -> Result<Vec<u8>> {
        let engine = engine(strategy)?;
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let env = Arc::new(Mutex::new(WasiEnv::new().with_seed(7).with_virtual_clock(start)));
        let module = Module::new(&engine, text)?;
        let mut store = Store::new(&engine, ());
        let instance = create_wasi_linker(env.clone()).instantiate(&mut store, &module)?;
        instance.get_typed_func::<(), ()>(&mut store, "_start")?.call(&mut store, ())?;
        let stdout = env.lock().map_err(|_| "poisoned")?.get_stdout();
        Ok(stdout)
    };
    let (first, second) = (run()?, run()?);
    let time = first.last_chunk().map(|bytes| u64::from_le_bytes(*bytes)).unwrap_or_default();
    if first != second
        || first[..32] == [0; 32]
        || !(1_000_003_600_000_000_000..1_000_003_601_000_000_000).contains(&time)
    {
        return Err(format!("{first:?} {second:?}").into());
    }
    Ok(())
}

/// One environment, used by several threads at once, beside host functions of the embedder's own.
fn shared(strategy: Strategy) -> Result<()> {
    let text = r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (import "host" "times" (func $times (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\08\00\00\00\04\00\00\00abc\n")
        (func (export "run") (local $i i32)
            (local.set $i (call $times))
            (loop $again
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
                (br_if $again (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))))"#;
    let engine = engine(strategy)?;
    let module = Module::new(&engine, text)?;
    let env = Arc::new(Mutex::new(WasiEnv::new()));
    let mut linker = Linker::<i32>::new(&engine);
    add_wasi_to_linker(&mut linker, env.clone())?;
    linker.func_wrap("host", "times", |caller: wasmrun::Caller<'_, i32>| *caller.data())?;
    std::thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| -> wasmrun::Result<()> {
                    let mut store = Store::new(&engine, 250);
                    let instance = linker.instantiate(&mut store, &module)?;
                    instance.get_typed_func::<(), ()>(&mut store, "run")?.call(&mut store, ())
                })
            })
            .collect();
        for thread in threads {
            thread.join().map_err(|_| "a thread panicked")??;
        }
        Ok(())
    })?;
    let stdout = String::from_utf8(env.lock().map_err(|_| "poisoned")?.get_stdout())?;
    if stdout != "abc\n".repeat(1000) {
        return Err(format!("{} bytes", stdout.len()).into());
    }
    Ok(())
}

/// Stores of one linker, each with an environment of its own, whose code calls each other's host functions in turn.
fn tenants(strategy: Strategy) -> Result<()> {
    let text = r#"(module
        (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\64\00\00\00\02\00\00\00")
        (func (export "run")
            (drop (call $args (i32.const 32) (i32.const 100)))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))"#;
    struct Tenant {
        env: WasiEnv,
    }
    let engine = engine(strategy)?;
    let mut linker = Linker::new(&engine);
    wasi::add_to_linker(&mut linker, |tenant: &mut Tenant| &mut tenant.env)?;
    let program = linker.instantiate_pre(&Module::new(&engine, text)?)?;
    drop(linker);
    let mut stores = vec![];
    for name in ["t0", "t1", "t2"] {
        let mut store = Store::new(&engine, Tenant { env: WasiEnv::new().with_args(vec![name.into()]) });
        let run = program.instantiate(&mut store)?.get_typed_func::<(), ()>(&mut store, "run")?;
        stores.push((store, run));
    }
    for _ in 0..10 {
        for (store, run) in &mut stores {
            run.call(store, ())?;
        }
    }
    for (index, (store, _)) in stores.iter().enumerate() {
        let stdout = String::from_utf8(store.data().env.get_stdout())?;
        if stdout != format!("t{index}").repeat(10) {
            return Err(format!("{index}: {stdout}").into());
        }
    }
    // What does not fit is found when the imports are looked up.
    let mut linker = Linker::<Tenant>::new(&engine);
    linker.func_wrap("host", "f", |_: i32| {})?;
    for (imports, expected) in [
        (r#"(import "host" "f" (func (param i64)))"#, "incompatible import type"),
        (r#"(import "host" "f" (func (param i32))) (import "host" "g" (func))"#, "unknown import"),
    ] {
        let module = Module::new(&engine, format!("(module {imports})"))?;
        let error = linker.instantiate_pre(&module).map(drop).unwrap_err().to_string();
        if !error.contains(expected) {
            return Err(error.into());
        }
    }
    Ok(())
}

/// A host that calls into the guest with the lock on the environment in its hands gets an error, and does not wait for
/// itself; one that holds it for a while on another thread is waited for.
fn held(strategy: Strategy) -> Result<()> {
    let text = r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\08\00\00\00\04\00\00\00abc\n")
        (func (export "run") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16))))
        (func (export "exit") (call $exit (i32.const 3))))"#;
    let engine = engine(strategy)?;
    let module = Module::new(&engine, text)?;
    let env = Arc::new(Mutex::new(WasiEnv::new()));
    let mut store = Store::new(&engine, ());
    let instance = create_wasi_linker(env.clone()).instantiate(&mut store, &module)?;
    let run = instance.get_typed_func::<(), ()>(&mut store, "run")?;
    let exit = instance.get_typed_func::<(), ()>(&mut store, "exit")?;
    let guard = env.lock().map_err(|_| "poisoned")?;
    let error = run.call(&mut store, ()).err().ok_or("the lock was ignored")?;
    let tells = |error: &Error| {
        matches!(error.kind(), wasmrun::ErrorKind::Host(_)) && error.to_string().contains("the lock on the `WasiEnv`")
    };
    if !tells(&error) || !error.backtrace().iter().any(|frame| frame.func_index() == 2) {
        return Err(format!("{error}").into());
    }
    // What needs nothing of the environment does not need the lock.
    if exit_code(exit.call(&mut store, ()))? != 3 {
        return Err("it did not exit".into());
    }
    let error = add_wasi_to_linker(&mut Linker::<()>::new(&engine), env.clone()).err().ok_or("it was linked")?;
    if !tells(&error) {
        return Err(format!("{error}").into());
    }
    drop(guard);
    let (locked, told) = std::sync::mpsc::channel();
    std::thread::scope(|scope| -> Result<()> {
        scope.spawn(|| {
            let _guard = env.lock();
            let _ = locked.send(());
            std::thread::sleep(Duration::from_millis(500));
        });
        told.recv()?;
        Ok(run.call(&mut store, ())?)
    })?;
    match env.lock().map_err(|_| "poisoned")?.get_stdout().as_slice() {
        b"abc\n" => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

type Test = fn(Strategy) -> Result<()>;

/// What is compared with Linux, or is about it.
#[cfg(target_os = "linux")]
const LINUX_TESTS: &[(&str, Test)] = &[
    ("processes", processes),
    ("polling", linux::polling),
    ("one_write", linux::one_write),
    ("receiving", linux::receiving),
    ("sockets_first", linux::sockets_first),
    ("inheriting", linux::inheriting),
    ("budget", linux::budget),
    ("long_lists", linux::long_lists),
    ("streams", linux::streams),
    ("connections", linux::connections),
    ("linux_opening", linux::opening),
    ("linux_changes", linux::changes),
    ("linux_renaming", linux::renaming),
    ("linux_open_files", linux::open_files),
    ("linux_read_only", linux::read_only),
];
#[cfg(not(target_os = "linux"))]
const LINUX_TESTS: &[(&str, Test)] = &[];

fn main() -> ExitCode {
    let tests: &[(&str, Test)] = &[
        ("file", file),
        ("path", path),
        ("readdir", readdir),
        ("escape", escape),
        ("readonly", readonly),
        ("limits", limits),
        ("append", append),
        ("wait", wait),
        ("socket", socket),
        ("pointers", pointers),
        ("extremes", extremes),
        ("crowd", crowd),
        ("races", races),
        ("devices", devices),
        ("tree", tree),
        ("unstable", unstable),
        ("repeatable", repeatable),
        ("shared", shared),
        ("tenants", tenants),
        ("held", held),
        ("interrupted", interrupted::ended),
        ("interrupted_goes_on", interrupted::goes_on),
        ("interrupted_traced", interrupted::traced),
        ("interrupted_random", interrupted::random),
    ];
    let mut trials = vec![];
    // An emulator answers for parts of procfs itself.
    let is_true_here = |name: &str| name != "processes" || !common::emulated();
    let engines = [("interp", Strategy::Interpreter), ("jit", Strategy::Jit), ("tiered", Strategy::Tiered)];
    for (engine, strategy) in engines {
        if strategy != Strategy::Interpreter && !Engine::has_jit() {
            continue;
        }
        // Tens of thousands of calls, in whose answers no engine has a part.
        let is_long = |name: &str| matches!(name, "linux_opening" | "linux_renaming" | "linux_open_files");
        let is_wanted = |name: &str| is_true_here(name) && (strategy == Strategy::Interpreter || !is_long(name));
        for (name, test) in tests.iter().chain(LINUX_TESTS).copied().filter(|(name, _)| is_wanted(name)) {
            trials.push(Trial::test(format!("{engine}::{name}"), move || test(strategy)));
        }
    }
    // Those that run programs by `start`, and those that are interrupted, once more with the environment in the store.
    let programs =
        ["file", "path", "readdir", "escape", "readonly", "limits", "append", "wait", "socket", "devices", "tree"];
    let is_wanted = |name: &str| programs.contains(&name) || name.starts_with("interrupted");
    for (name, test) in tests.iter().copied().filter(|(name, _)| is_wanted(name)) {
        trials.push(Trial::test(format!("in_store::{name}"), move || {
            IN_STORE.set(true);
            test(Strategy::Interpreter)
        }));
    }
    // And with a shared memory, which WASI may only copy from and to.
    for (name, test) in tests.iter().copied().filter(|(name, _)| programs.contains(name)) {
        trials.push(Trial::test(format!("shared_memory::{name}"), move || {
            SHARED.set(true);
            test(if Engine::has_jit() { Strategy::Tiered } else { Strategy::Interpreter })
        }));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
