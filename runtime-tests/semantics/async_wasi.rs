//! WASI that waits while it is called asynchronously: the guest is suspended, and woken by nothing but what it waits for.
#![cfg(all(unix, not(target_arch = "s390x")))]

use crate::asynchronous::{BoxFuture, poll};
use crate::engines::{call, for_each_engine};
use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::mem;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};
use wasmrun::{
    Caller, Engine, Error, Func, Instance, Linker, Module, Store, Trap, TypedFunc, UpdateDeadline, WasiEnv, wasi,
};

/// What nothing takes, however loaded the machine is.
const LONG: Duration = Duration::from_secs(20);

const GUEST: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
    (import "wasi_snapshot_preview1" "sock_accept" (func $accept (param i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "sock_recv" (func $recv (param i32 i32 i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "sock_send" (func $send (param i32 i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 32)
    ;; A buffer of so many bytes.
    (func $buffer (param i32) (i32.store (i32.const 0) (i32.const 0x1000)) (i32.store (i32.const 4) (local.get 0)))
    (func $check (param i32) (if (local.get 0) (then (unreachable))))
    ;; Reads once, and returns how many bytes and the first one.
    (func $get (export "get") (result i32)
        (call $buffer (i32.const 100))
        (call $check (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
        (i32.add (i32.mul (i32.load (i32.const 8)) (i32.const 1000)) (i32.load8_u (i32.const 0x1000))))
    ;; Copies lines from standard input to standard output.
    (func (export "echo") (result i32) (local $all i32)
        (block $end
            (loop $again
                (call $buffer (i32.const 100))
                (call $check (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
                (br_if $end (i32.eqz (i32.load (i32.const 8))))
                (local.set $all (i32.add (local.get $all) (i32.load (i32.const 8))))
                (call $buffer (i32.load (i32.const 8)))
                (call $check (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
                (br $again)))
        (local.get $all))
    ;; Writes so many bytes at once.
    (func (export "put") (param $n i32) (result i32)
        (call $buffer (local.get $n))
        (memory.fill (i32.const 0x1000) (i32.const 42) (local.get $n))
        (call $check (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
        (i32.load (i32.const 8)))
    ;; A subscription of the clock at 64.
    (func $clock (param $ms i32)
        (i64.store (i32.const 64) (i64.const 7))
        (i32.store (i32.const 72) (i32.const 0))
        (i32.store (i32.const 80) (i32.const 1))
        (i64.store (i32.const 88) (i64.mul (i64.extend_i32_u (local.get $ms)) (i64.const 1000000)))
        (i64.store (i32.const 96) (i64.const 0))
        (i32.store (i32.const 104) (i32.const 0)))
    (func (export "sleep") (param $ms i32) (result i32)
        (call $clock (local.get $ms))
        (call $check (call $poll (i32.const 64) (i32.const 256) (i32.const 1) (i32.const 8)))
        (i32.load (i32.const 8)))
    ;; Waits for standard input or the clock: the number that was given to what occurred.
    (func (export "either") (param $ms i32) (result i32)
        (call $clock (local.get $ms))
        (i64.store (i32.const 112) (i64.const 9))
        (i32.store (i32.const 120) (i32.const 1))
        (i32.store (i32.const 128) (i32.const 0))
        (call $check (call $poll (i32.const 64) (i32.const 256) (i32.const 2) (i32.const 8)))
        (i32.load (i32.const 256)))
    (func (export "give way") (result i32) (call $yield))
    ;; Accepts a connection, and answers the bytes it gets with the same.
    (func (export "serve") (result i32)
        (call $check (call $accept (i32.const 3) (i32.const 0) (i32.const 16)))
        (call $buffer (i32.const 100))
        (call $check (call $recv (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 8)
            (i32.const 12)))
        (call $buffer (i32.load (i32.const 8)))
        (call $check (call $send (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 8)))
        (i32.load (i32.const 8))))"#;

fn linker(engine: &Engine) -> Linker<WasiEnv> {
    let mut linker = Linker::new(engine);
    wasi::add_to_linker_async(&mut linker, |wasi: &mut WasiEnv| wasi).unwrap();
    linker
}

fn guest(engine: &Engine, wasi: WasiEnv) -> (Store<WasiEnv>, Instance) {
    let mut store = Store::new(engine, wasi);
    let instance = linker(engine).instantiate(&mut store, &Module::new(engine, GUEST).unwrap()).unwrap();
    (store, instance)
}

/// An environment between two pipes: what is written to its standard input, what is read from its output.
fn piped() -> (WasiEnv, PipeWriter, PipeReader) {
    let ((stdin, input), (output, stdout)) = (pipe().unwrap(), pipe().unwrap());
    let [stdin, stdout] = [OwnedFd::from(stdin), OwnedFd::from(stdout)].map(File::from);
    (WasiEnv::new().with_stdin_file(stdin).with_stdout_file(stdout), input, output)
}

fn function(store: &mut Store<WasiEnv>, instance: Instance, name: &str) -> TypedFunc<(), i32> {
    instance.get_typed_func(store, name).unwrap()
}

struct Bell(mpsc::Sender<()>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        let _ = self.0.send(());
    }
}

/// Polls once for each time that it is woken: the output, and how often it was pending.
fn drive<F: Future>(future: F) -> (F::Output, u32) {
    let (sender, woken) = mpsc::channel();
    let waker = Waker::from(Arc::new(Bell(sender)));
    let mut future = pin!(future);
    let mut pending = 0;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return (output, pending);
        }
        pending += 1;
        woken.recv_timeout(LONG).expect("it is woken");
    }
}

#[test]
fn guests_wait_for_input() {
    for_each_engine(|engine| {
        let (wasi, mut input, _output) = piped();
        let (mut store, instance) = guest(engine, wasi);
        let get = function(&mut store, instance, "get");
        // What is there is not waited for.
        input.write_all(b"ab").unwrap();
        assert_eq!(done(get.call_async(&mut store, ())), (2097, 0));
        let mut future = Box::pin(get.call_async(&mut store, ()));
        assert!(poll(future.as_mut()).is_pending());
        assert!(poll(future.as_mut()).is_pending());
        let writer = thread::spawn(move || {
            thread::sleep(Duration::from_millis(2));
            input.write_all(b"xyz").unwrap();
            input
        });
        assert_eq!(done(future).0, 3120);
        // On another thread each time, and dropped in between.
        let mut future = Box::pin(get.call_async(&mut store, ()));
        thread::scope(|scope| assert!(scope.spawn(|| poll(future.as_mut()).is_pending()).join().unwrap()));
        thread::scope(|scope| scope.spawn(|| drop(future)).join().unwrap());
        let mut future = Box::pin(get.call_async(&mut store, ()));
        assert!(poll(future.as_mut()).is_pending());
        mem::forget(future);
        drop(writer.join().unwrap());
        assert_eq!(done(get.call_async(&mut store, ())).0 / 1000, 0, "the end");
    });
}

/// [`drive`] to an end without an error.
fn done(future: impl Future<Output = Result<i32, Error>>) -> (i32, u32) {
    let (result, pending) = drive(future);
    (result.unwrap(), pending)
}

#[test]
fn guests_wait_for_room() {
    for_each_engine(|engine| {
        let (wasi, input, mut output) = piped();
        let (mut store, instance) = guest(engine, wasi);
        let put = instance.get_typed_func::<i32, i32>(&mut store, "put").unwrap();
        const ALL: i32 = 1_000_000;
        let mut future = Box::pin(put.call_async(&mut store, ALL));
        assert!(poll(future.as_mut()).is_pending());
        let reader = thread::spawn(move || {
            let (mut bytes, mut piece) = (0, [0; 4096]);
            while bytes < ALL as usize {
                let read = output.read(&mut piece).unwrap();
                assert!(read > 0 && piece[..read].iter().all(|byte| *byte == 42));
                bytes += read;
            }
            output
        });
        assert_eq!(done(future).0, ALL);
        drop((reader.join().unwrap(), input));
        assert!(drive(put.call_async(&mut store, 9)).0.is_err(), "nobody reads");
    });
}

#[test]
fn guests_wait_for_time_or_input() {
    for_each_engine(|engine| {
        let (wasi, mut input, _output) = piped();
        let (mut store, instance) = guest(engine, wasi);
        let either = instance.get_typed_func::<i32, i32>(&mut store, "either").unwrap();
        let begun = Instant::now();
        let (result, pending) = drive(either.call_async(&mut store, 5));
        assert!(result.unwrap() == 7 && pending >= 1 && begun.elapsed() >= Duration::from_millis(5));
        let mut future = Box::pin(either.call_async(&mut store, i32::MAX));
        assert!(poll(future.as_mut()).is_pending());
        input.write_all(b"1").unwrap();
        assert_eq!(done(future).0, 9);
        // No time at all is not waited for.
        let sleep = instance.get_typed_func::<i32, i32>(&mut store, "sleep").unwrap();
        assert_eq!(done(sleep.call_async(&mut store, 0)), (1, 0));
        let give_way = function(&mut store, instance, "give way");
        assert_eq!(done(give_way.call_async(&mut store, ())), (0, 1));
        assert_eq!(give_way.call(&mut store, ()).unwrap(), 0);
        assert_eq!(sleep.call(&mut store, 1).unwrap(), 1);
    });
}

#[test]
fn guests_wait_for_connections() {
    for_each_engine(|engine| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (mut store, instance) = guest(engine, WasiEnv::new().with_listener(listener));
        let serve = function(&mut store, instance, "serve");
        let mut future = Box::pin(serve.call_async(&mut store, ()));
        assert!(poll(future.as_mut()).is_pending());
        let client = thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            thread::sleep(Duration::from_millis(2));
            stream.write_all(b"hello").unwrap();
            let mut answer = [0; 5];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"hello");
        });
        assert_eq!(done(future).0, 5);
        client.join().unwrap();
    });
}

/// Each would block the thread for a twentieth of a second.
#[test]
fn a_thousand_guests_sleep_at_the_same_time() {
    let engine = Engine::default();
    let program = linker(&engine).instantiate_pre(&Module::new(&engine, GUEST).unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (asleep, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    runtime.block_on(async {
        let tasks: Vec<_> = (0..1000)
            .map(|n| {
                let (program, engine) = (program.clone(), engine.clone());
                let (asleep, most) = (asleep.clone(), most.clone());
                tokio::spawn(async move {
                    let mut store = Store::new(&engine, WasiEnv::new());
                    let instance = program.instantiate_async(&mut store).await.unwrap();
                    let sleep = instance.get_typed_func::<i32, i32>(&mut store, "sleep").unwrap();
                    for _ in 0..2 {
                        most.fetch_max(asleep.fetch_add(1, Relaxed) + 1, Relaxed);
                        sleep.call_async(&mut store, 40 + n % 20).await.unwrap();
                        asleep.fetch_sub(1, Relaxed);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    assert!(most.load(Relaxed) > 1, "{most:?}");
}

/// Guests on one thread of tokio talk to each other through pipes.
#[test]
fn guests_talk_to_each_other() {
    for_each_engine(|engine| {
        let program = linker(engine).instantiate_pre(&Module::new(engine, GUEST).unwrap()).unwrap();
        let (first, mut input) = pipe().unwrap();
        let (mut stdin, mut tasks) = (first, vec![]);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for _ in 0..50 {
            let (next, stdout) = pipe().unwrap();
            let [from, to] = [OwnedFd::from(mem::replace(&mut stdin, next)), OwnedFd::from(stdout)].map(File::from);
            let (program, engine) = (program.clone(), engine.clone());
            tasks.push(runtime.spawn(async move {
                let mut store = Store::new(&engine, WasiEnv::new().with_stdin_file(from).with_stdout_file(to));
                let instance = program.instantiate_async(&mut store).await.unwrap();
                let echo = function(&mut store, instance, "echo");
                echo.call_async(&mut store, ()).await.unwrap()
            }));
        }
        let host = thread::spawn(move || {
            for n in 0..20 {
                let line = format!("line {n}");
                input.write_all(line.as_bytes()).unwrap();
                let mut back = vec![0; line.len()];
                stdin.read_exact(&mut back).unwrap();
                assert_eq!(back, line.as_bytes());
            }
            drop(input);
        });
        runtime.block_on(async {
            for task in tasks {
                assert_eq!(task.await.unwrap(), 130);
            }
        });
        host.join().unwrap();
    });
}

#[test]
fn requests_are_served_while_wasi_waits() {
    for_each_engine(|engine| {
        for by_handle in [true, false] {
            let (wasi, _input, _output) = piped();
            let (mut store, instance) = guest(engine, wasi);
            let get = function(&mut store, instance, "get");
            let (handle, called) = (store.interrupt_handle(), Arc::new(Mutex::new(0)));
            let calls = called.clone();
            store.epoch_deadline_callback(move |_| {
                *calls.lock().unwrap() += 1;
                Ok(UpdateDeadline::Yield(1))
            });
            store.set_epoch_deadline(1);
            if !by_handle {
                store.set_deadline(Instant::now() + Duration::from_millis(30)).unwrap();
            }
            let mut future: BoxFuture<'_, _> = Box::pin(get.call_async(&mut store, ()));
            for n in 0..3 {
                assert!(poll(future.as_mut()).is_pending());
                assert_eq!(*called.lock().unwrap(), n);
                engine.increment_epoch();
                assert!(poll(future.as_mut()).is_pending(), "the callback has it give way");
                handle.yield_now();
            }
            if by_handle {
                handle.interrupt();
            }
            let trap = if by_handle { Trap::Interrupt } else { Trap::Deadline };
            assert_eq!(drive(future).0.unwrap_err().trap(), Some(trap));
        }
    });
}

/// Within a synchronous call the thread waits, and the environment that linkers share is not locked meanwhile.
#[test]
fn synchronous_calls_block_and_shared_environments_are_free() {
    for_each_engine(|engine| {
        let (wasi, mut input, _output) = piped();
        let shared = Arc::new(Mutex::new(wasi));
        let mut linker = Linker::<()>::new(engine);
        wasmrun::add_wasi_to_linker(&mut linker, shared.clone()).unwrap();
        let mut store = Store::new(engine, ());
        let instance = linker.instantiate(&mut store, &Module::new(engine, GUEST).unwrap()).unwrap();
        let get = instance.get_typed_func::<(), i32>(&mut store, "get").unwrap();
        let mut future = Box::pin(get.call_async(&mut store, ()));
        assert!(poll(future.as_mut()).is_pending());
        assert!(shared.try_lock().is_ok());
        input.write_all(b"a").unwrap();
        assert_eq!(done(future).0, 1097);
        // A host function on the coroutine that calls synchronously.
        let outer = Func::wrap(&mut store, move |mut caller: Caller<'_, ()>| get.call(&mut caller, ()));
        let outer = outer.typed::<(), i32>(&store).unwrap();
        let writer = thread::spawn(move || {
            thread::sleep(Duration::from_millis(2));
            input.write_all(b"b").unwrap();
            input
        });
        assert_eq!(done(outer.call_async(&mut store, ())), (1098, 0));
        drop(writer.join().unwrap());
        assert_eq!(call::<_, (), i32>(&mut store, instance, "get", ()).unwrap() / 1000, 0);
    });
}

/// Several wait for the same descriptor; each of them gets what one write brings.
#[test]
fn guests_share_a_descriptor() {
    for_each_engine(|engine| {
        let (wasi, mut input, _output) = piped();
        let mut linker = Linker::<()>::new(engine);
        wasmrun::add_wasi_to_linker(&mut linker, Arc::new(Mutex::new(wasi))).unwrap();
        let program = linker.instantiate_pre(&Module::new(engine, GUEST).unwrap()).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let (ended, ends) = mpsc::channel();
        for n in 0..8 {
            let (program, engine, ended) = (program.clone(), engine.clone(), ended.clone());
            runtime.spawn(async move {
                let mut store = Store::new(&engine, ());
                let instance = program.instantiate_async(&mut store).await.unwrap();
                let get = instance.get_typed_func::<(), i32>(&mut store, "get").unwrap();
                if n % 4 == 0 {
                    // Some give up.
                    let mut future = Box::pin(get.call_async(&mut store, ()));
                    if let Poll::Ready(result) = poll(future.as_mut()) {
                        return ended.send(result.unwrap()).unwrap();
                    }
                }
                ended.send(get.call_async(&mut store, ()).await.unwrap()).unwrap();
            });
        }
        for n in 0..8 {
            input.write_all(&[n]).unwrap();
            assert!(matches!(ends.recv_timeout(LONG), Ok(1000..1008)));
        }
    });
}
