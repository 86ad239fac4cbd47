//! Calls that wait, and are interrupted: they end at once, or go on as if nothing had been.

use super::{IN_STORE, Result};
use rustix::fs::{OFlags, fcntl_getfl};
use std::any::Any;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use wasmrun::{
    Config, Engine, Error, InterruptHandle, Linker, Module, Store, Strategy, Trap, UpdateDeadline, WasiEnv,
    add_wasi_to_linker, wasi,
};

/// What nothing takes that is ended, however loaded the machine is.
const LONG: Duration = Duration::from_secs(30);

/// What keeps the other side open.
type Peer = Box<dyn Any + Send>;

/// A call that waits for ever, and the environment for it.
struct Waiting {
    name: &'static str,
    body: &'static str,
    env: fn() -> Result<(WasiEnv, Peer)>,
}

fn nothing() -> Result<(WasiEnv, Peer)> {
    Ok((WasiEnv::new(), Box::new(())))
}

fn silent_pipe() -> Result<(WasiEnv, Peer)> {
    let (reader, writer) = std::io::pipe()?;
    Ok((WasiEnv::new().with_stdin_file(OwnedFd::from(reader).into()), Box::new(writer)))
}

fn silent_socket() -> Result<(WasiEnv, Peer)> {
    let (own, peer) = UnixStream::pair()?;
    Ok((WasiEnv::new().with_stdin_file(OwnedFd::from(own).into()), Box::new(peer)))
}

fn full_pipe() -> Result<(WasiEnv, Peer)> {
    let (reader, writer) = std::io::pipe()?;
    Ok((WasiEnv::new().with_stdout_file(OwnedFd::from(writer).into()), Box::new(reader)))
}

fn full_socket() -> Result<(WasiEnv, Peer)> {
    let (own, peer) = UnixStream::pair()?;
    Ok((WasiEnv::new().with_stdout_file(OwnedFd::from(own).into()), Box::new(peer)))
}

fn listener() -> Result<(WasiEnv, Peer)> {
    Ok((WasiEnv::new().with_listener(TcpListener::bind("127.0.0.1:0")?), Box::new(())))
}

/// A connection that sends three bytes.
fn connection() -> Result<(WasiEnv, Peer)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut peer = TcpStream::connect(listener.local_addr()?)?;
    peer.write_all(b"abc")?;
    Ok((WasiEnv::new().with_listener(listener), Box::new(peer)))
}

/// Each call of WASI that waits, on all kinds of descriptors.
const WAITING: [Waiting; 11] = [
    Waiting {
        name: "sleep",
        body: "(i32.store (i32.const 144) (i32.const 1)) (i64.store (i32.const 152) (i64.const 100000000000000))
            (drop (call $poll (i32.const 128) (i32.const 512) (i32.const 1) (i32.const 8)))",
        env: nothing,
    },
    Waiting {
        name: "poll",
        body: "(i32.store8 (i32.const 136) (i32.const 1))
            (drop (call $poll (i32.const 128) (i32.const 512) (i32.const 1) (i32.const 8)))",
        env: silent_pipe,
    },
    Waiting {
        name: "read pipe",
        body: "(drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))",
        env: silent_pipe,
    },
    Waiting {
        name: "read socket",
        body: "(drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))",
        env: silent_socket,
    },
    Waiting {
        name: "write pipe",
        body: "(drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))",
        env: full_pipe,
    },
    Waiting {
        name: "write socket",
        body: "(loop (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))) (br 0))",
        env: full_socket,
    },
    Waiting { name: "accept", body: "(drop (call $accept))", env: listener },
    Waiting {
        name: "receive",
        body: "(drop (call $recv (call $accept) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 8) (i32.const 12)))
            (drop (call $recv (i32.load (i32.const 64)) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 8) (i32.const 12)))",
        env: connection,
    },
    Waiting {
        name: "receive all",
        body: "(drop (call $recv (call $accept) (i32.const 0) (i32.const 1) (i32.const 2) (i32.const 8) (i32.const 12)))",
        env: connection,
    },
    Waiting {
        name: "peek at all",
        body: "(drop (call $recv (call $accept) (i32.const 0) (i32.const 1) (i32.const 3) (i32.const 8) (i32.const 12)))",
        env: connection,
    },
    Waiting {
        name: "send",
        body: "(drop (call $accept))
            (loop (drop (call $send (i32.load (i32.const 64)) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 8))) (br 0))",
        env: connection,
    },
];

/// A program with 192 KiB, more than a pipe holds, in the buffer that the list at 0 names.
fn program(body: &str) -> String {
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "sock_accept" (func $sock_accept (param i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "sock_recv" (func $recv (param i32 i32 i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "sock_send" (func $send (param i32 i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1000)
            (func $accept (result i32)
                (if (call $sock_accept (i32.const 3) (i32.const 0) (i32.const 64)) (then (unreachable)))
                (i32.load (i32.const 64)))
            (func (export "_start") (local i32)
                (i32.store (i32.const 0) (i32.const 4096))
                (i32.store (i32.const 4) (i32.const {WRITTEN}))
                {body}
                unreachable))"#
    )
}

const WRITTEN: usize = 196608;

/// A program that runs on a thread of its own.
struct Running {
    handle: InterruptHandle,
    ended: Receiver<Error>,
}

impl Running {
    fn new(module: &Module, env: WasiEnv, prepare: fn(&mut dyn Interruptible)) -> Result<Self> {
        let (send_handle, handles) = channel();
        let (send_error, ended) = channel();
        let (module, in_store) = (module.clone(), IN_STORE.get());
        thread::spawn(move || {
            let engine = module.engine().clone();
            let run = |store: &mut dyn Interruptible| {
                prepare(store);
                let _ = send_handle.send(store.handle());
            };
            let error = if in_store {
                let mut linker = Linker::new(&engine);
                wasi::add_to_linker(&mut linker, |env: &mut WasiEnv| env).and_then(|()| {
                    let mut store = Store::new(&engine, env);
                    run(&mut store);
                    start(store, &linker, &module)
                })
            } else {
                let mut linker = Linker::new(&engine);
                add_wasi_to_linker(&mut linker, Arc::new(Mutex::new(env))).and_then(|()| {
                    let mut store = Store::new(&engine, ());
                    run(&mut store);
                    start(store, &linker, &module)
                })
            };
            let _ = send_error.send(error.expect_err("it does not come to its end"));
        });
        Ok(Running { handle: handles.recv_timeout(LONG)?, ended })
    }

    fn ends(&self) -> Result<Error> {
        Ok(self.ended.recv_timeout(LONG)?)
    }

    fn ends_with(&self, trap: Trap, name: &str) -> Result<()> {
        let error = self.ends().map_err(|_| format!("{name} has not ended"))?;
        if error.trap() == Some(trap) { Ok(()) } else { Err(format!("{name}: {error}").into()) }
    }
}

fn start<T>(mut store: Store<T>, linker: &Linker<T>, module: &Module) -> wasmrun::Result<()> {
    let instance = linker.instantiate(&mut store, module)?;
    instance.get_typed_func::<(), ()>(&mut store, "_start")?.call(&mut store, ())
}

/// A store, whatever its data.
trait Interruptible {
    fn handle(&self) -> InterruptHandle;
    fn end_soon(&mut self);
    fn go_on_at_each_tick(&mut self);
}

impl<T> Interruptible for Store<T> {
    fn handle(&self) -> InterruptHandle {
        self.interrupt_handle()
    }

    fn end_soon(&mut self) {
        self.set_deadline(std::time::Instant::now() + Duration::from_millis(30)).expect("there is a thread");
    }

    fn go_on_at_each_tick(&mut self) {
        self.epoch_deadline_callback(|_| Ok(UpdateDeadline::Continue(1)));
        self.set_epoch_deadline(1);
    }
}

fn engine(strategy: Strategy) -> Result<Engine> {
    Ok(Engine::new(Config::new().strategy(strategy))?)
}

/// Each ends at its deadline while ten others wait, and those when they are interrupted.
pub(super) fn ended(strategy: Strategy) -> Result<()> {
    let engine = engine(strategy)?;
    for Waiting { name, body, env } in WAITING {
        let module = Module::new(&engine, program(body))?;
        let mut others = vec![];
        for _ in 0..10 {
            let (env, peer) = env()?;
            others.push((Running::new(&module, env, |_| {})?, peer));
        }
        let (env, _peer) = env()?;
        Running::new(&module, env, |store| store.end_soon())?.ends_with(Trap::Deadline, name)?;
        for (other, _) in &others {
            if other.ended.try_recv().err() != Some(TryRecvError::Empty) {
                return Err(format!("{name}: another one has ended").into());
            }
            other.handle.interrupt();
        }
        for (other, _) in &others {
            other.ends_with(Trap::Interrupt, name)?;
        }
    }
    Ok(())
}

/// A trace that can be looked at.
#[derive(Clone, Default)]
struct Trace(Arc<Mutex<Vec<u8>>>);

impl Write for Trace {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panics with the lock").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Trace {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("nobody panics with the lock")).into_owned()
    }
}

/// Calls that have to wait while a callback runs again and again are done as if they had not, are traced once, and leave the
/// flags of the host's descriptors alone, which others use as well.
pub(super) fn goes_on(strategy: Strategy) -> Result<()> {
    let engine = engine(strategy)?;
    let ((stdin, mut input), (mut output, stdout)) = (std::io::pipe()?, std::io::pipe()?);
    let shared = (stdin.try_clone()?, stdout.try_clone()?);
    let trace = Trace::default();
    let env = WasiEnv::new()
        .with_stdin_file(File::from(OwnedFd::from(stdin)))
        .with_stdout_file(File::from(OwnedFd::from(stdout)))
        .with_trace(trace.clone());
    let body = format!(
        "(if (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then (unreachable)))
        (if (i32.ne (i32.load (i32.const 8)) (i32.const 1)) (then (unreachable)))
        (loop
            (i32.store (i32.add (i32.const 4096) (local.get 0)) (i32.mul (local.get 0) (i32.const 0x9e3779b1)))
            (local.set 0 (i32.add (local.get 0) (i32.const 4)))
            (br_if 0 (i32.lt_u (local.get 0) (i32.const {WRITTEN}))))
        (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then (unreachable)))
        (call $exit (i32.eq (i32.load (i32.const 8)) (i32.const {WRITTEN})))"
    );
    let module = Module::new(&engine, program(&body))?;
    let running = Running::new(&module, env, |store| store.go_on_at_each_tick())?;
    let tick = || {
        engine.increment_epoch();
        thread::sleep(Duration::from_millis(1));
    };
    (0..20).for_each(|_| tick());
    let flags = fcntl_getfl(&shared.0)?;
    drop(shared.0);
    input.write_all(b"x")?;
    let (mut written, mut bytes) = (vec![], [0; 10_000]);
    while written.len() < WRITTEN {
        tick();
        let len = output.read(&mut bytes)?;
        written.extend_from_slice(&bytes[..len]);
    }
    if (flags | fcntl_getfl(&shared.1)?).contains(OFlags::NONBLOCK) {
        return Err("a shared descriptor was made non-blocking".into());
    }
    drop(shared.1);
    let error = running.ends()?;
    if error.exit_code() != Some(1) {
        return Err(error.into());
    }
    output.read_to_end(&mut written)?;
    let expected: Vec<u8> =
        (0..WRITTEN as u32).step_by(4).flat_map(|index| index.wrapping_mul(0x9e37_79b1).to_le_bytes()).collect();
    if written != expected {
        return Err("what was written is not what came".into());
    }
    let text = trace.text();
    let calls: Vec<_> = text.lines().map(|line| (line.split('(').next(), line.contains("= success"))).collect();
    if calls != [(Some("fd_read"), true), (Some("fd_write"), true), (Some("proc_exit"), false)] {
        return Err(text.into());
    }
    Ok(())
}

/// A call that is ended is traced as one that does not return.
pub(super) fn traced(strategy: Strategy) -> Result<()> {
    let engine = engine(strategy)?;
    for (name, wanted) in [("sleep", "poll_oneoff("), ("write pipe", "fd_write("), ("accept", "sock_accept(")] {
        let trace = Trace::default();
        let waiting = WAITING.iter().find(|waiting| waiting.name == name).ok_or("it is listed")?;
        let (env, _peer) = (waiting.env)()?;
        let module = Module::new(&engine, program(waiting.body))?;
        let running = Running::new(&module, env.with_trace(trace.clone()), |store| store.end_soon())?;
        running.ends_with(Trap::Deadline, name)?;
        let text = trace.text();
        if !text.starts_with(wanted) || !text.ends_with(") = ?\n") || text.lines().count() != 1 {
            return Err(text.into());
        }
    }
    Ok(())
}

/// Many random bytes are made in pieces, which are the same as in one, and may be interrupted between two.
pub(super) fn random(strategy: Strategy) -> Result<()> {
    let engine = engine(strategy)?;
    let sum = |body: &str| -> Result<i32> {
        let body = format!(
            "{body} (local.set 0 (i32.const 65536))
            (loop
                (i32.store (i32.const 16) (i32.add (i32.mul (i32.load (i32.const 16)) (i32.const 31))
                    (i32.load (i32.add (local.get 0) (i32.const -8)))))
                (local.set 0 (i32.add (local.get 0) (i32.const 65536)))
                (br_if 0 (i32.lt_u (local.get 0) (i32.const 50331648))))
            (call $exit (i32.load (i32.const 16)))"
        );
        let module = Module::new(&engine, program(&body))?;
        let env = WasiEnv::new().with_seed(5);
        Running::new(&module, env, |_| {})?.ends()?.exit_code().ok_or_else(|| "it has not exited".into())
    };
    let at_once = sum("(drop (call $random (i32.const 65536) (i32.const 50000000)))")?;
    let in_parts = sum("(drop (call $random (i32.const 65536) (i32.const 10000000)))
        (drop (call $random (i32.const 10065536) (i32.const 10000000)))
        (drop (call $random (i32.const 20065536) (i32.const 30000000)))")?;
    if at_once != in_parts || at_once == 0 {
        return Err(format!("{at_once} in one call, {in_parts} in three").into());
    }
    let (env, interrupted) = (WasiEnv::new(), Arc::new(Mutex::new(None::<InterruptHandle>)));
    let mut linker = Linker::new(&engine);
    wasi::add_to_linker(&mut linker, |env: &mut WasiEnv| env)?;
    let handle = interrupted.clone();
    linker.func_wrap("host", "interrupt", move || {
        handle.lock().expect("nobody panics with the lock").as_ref().expect("set below").interrupt();
    })?;
    let text = program("(call $interrupt) (drop (call $random (i32.const 0) (i32.const 50000000)))").replacen(
        "(memory",
        r#"(import "host" "interrupt" (func $interrupt)) (memory"#,
        1,
    );
    let mut store = Store::new(&engine, env);
    *interrupted.lock().map_err(|_| "poisoned")? = Some(store.interrupt_handle());
    let instance = linker.instantiate(&mut store, &Module::new(&engine, text)?)?;
    let error = instance.get_typed_func::<(), ()>(&mut store, "_start")?.call(&mut store, ()).unwrap_err();
    if error.trap() == Some(Trap::Interrupt) { Ok(()) } else { Err(error.into()) }
}
