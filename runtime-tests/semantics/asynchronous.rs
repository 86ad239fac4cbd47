//! Asynchronous calls: host functions that wait, futures that are dropped, forgotten, moved to other threads and polled in
//! unusual places.
#![cfg(all(unix, not(target_arch = "s390x")))]

use crate::engines::{call, configs, for_each_engine, instantiate};
use crate::heap::{HOLDERS, for_each_engine_and_zeal, module};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use std::{mem, thread};
use wasmrun::{
    AsContextMut, Caller, Config, Engine, Error, ErrorKind, ExternRef, Func, FuncType, Instance, Linker, Module, Store,
    Strategy, Trap, TypedFunc, ValType, Value,
};

pub type BoxFuture<'a, R> = Pin<Box<dyn Future<Output = R> + Send + 'a>>;

/// Polls once.
pub fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Polls to the end: the output, and how often it was pending.
pub fn finish<F: Future>(future: F) -> (F::Output, u32) {
    let mut future = pin!(future);
    let mut pending = 0;
    loop {
        match poll(future.as_mut()) {
            Poll::Ready(output) => return (output, pending),
            Poll::Pending => pending += 1,
        }
        assert!(pending < 100_000, "it never ends");
    }
}

/// Polls to an end without an error: the result, and how often it was pending.
pub fn done<R>(future: impl Future<Output = Result<R, Error>>) -> (R, u32) {
    let (result, pending) = finish(future);
    (result.unwrap(), pending)
}

pub fn block_on<F: Future>(future: F) -> F::Output {
    finish(future).0
}

/// Polls to the end, each time on a thread of its own, which may never have run WebAssembly code.
pub fn finish_elsewhere<R: Send>(mut future: BoxFuture<'_, R>) -> thread::Result<(R, u32)> {
    let mut pending = 0;
    loop {
        let polled = thread::scope(|scope| {
            let poll = || poll(future.as_mut());
            thread::Builder::new().stack_size(128 << 10).spawn_scoped(scope, poll).unwrap().join()
        });
        match polled? {
            Poll::Ready(result) => return Ok((result, pending)),
            Poll::Pending => pending += 1,
        }
    }
}

/// Pending so many times.
pub struct Turns(pub u32);

impl Future for Turns {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        match self.0 {
            0 => Poll::Ready(()),
            _ => {
                self.0 -= 1;
                Poll::Pending
            }
        }
    }
}

/// Counts how many there are of it now, and how many were made.
#[derive(Clone, Default)]
pub struct Census(Arc<(AtomicUsize, AtomicUsize)>);

pub struct Guard(Census);

impl Census {
    pub fn guard(&self) -> Guard {
        self.0.0.fetch_add(1, Ordering::Relaxed);
        self.0.1.fetch_add(1, Ordering::Relaxed);
        Guard(self.clone())
    }

    pub fn alive(&self) -> usize {
        self.0.0.load(Ordering::Relaxed)
    }

    pub fn made(&self) -> usize {
        self.0.1.load(Ordering::Relaxed)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        assert_ne!(self.0.0.0.fetch_sub(1, Ordering::Relaxed), 0, "dropped twice");
    }
}

/// What host functions know.
#[derive(Default)]
struct Host {
    instance: Option<Instance>,
    census: Census,
}

/// `wait` waits as often as it is told; `deeper` calls an export of the caller and waits before and after.
fn linker(engine: &Engine) -> Linker<Host> {
    let mut linker = Linker::new(engine);
    linker
        .func_wrap_async("", "wait", |caller: Caller<'_, Host>, (turns,): (u32,)| {
            Box::new(async move {
                let _guard = caller.data().census.guard();
                Turns(turns).await;
                turns as i32
            })
        })
        .unwrap()
        .func_wrap_async("", "deeper", |mut caller: Caller<'_, Host>, n: i32| {
            Box::new(async move {
                let _guard = caller.data().census.guard();
                Turns(1).await;
                let instance = caller.data().instance.expect("set by `guest`");
                let nest = instance.get_typed_func::<i32, i32>(&mut caller, "nest")?;
                let result = nest.call_async(&mut caller, n).await?;
                Turns(1).await;
                Ok::<i32, Error>(result + 1)
            })
        })
        .unwrap()
        .func_wrap_async("", "fail", |caller: Caller<'_, Host>, (): ()| {
            Box::new(async move {
                let _guard = caller.data().census.guard();
                Turns(2).await;
                Err::<(), _>(Error::host("it fails"))
            })
        })
        .unwrap()
        .func_wrap_async("", "exit", |_: Caller<'_, Host>, (): ()| {
            Box::new(async move {
                Turns(1).await;
                Err::<(), _>(Error::new(ErrorKind::Exit(7)))
            })
        })
        .unwrap()
        .func_wrap_async("", "panic", |caller: Caller<'_, Host>, (): ()| {
            Box::new(async move {
                let _guard = caller.data().census.guard();
                Turns(2).await;
                assert!(caller.data().instance.is_none(), "after two turns");
            })
        })
        .unwrap();
    linker
}

const GUEST: &str = r#"(module
    (import "" "wait" (func $wait (param i32) (result i32)))
    (import "" "deeper" (func $deeper (param i32) (result i32)))
    (import "" "fail" (func $fail))
    (import "" "exit" (func $exit))
    (import "" "panic" (func $panic))
    (memory (export "memory") 1)
    (tag $tag (param i32))
    (global $entered (export "entered") (mut i32) (i32.const 0))
    (global $left (export "left") (mut i32) (i32.const 0))
    (func $enter (global.set $entered (i32.add (global.get $entered) (i32.const 1))))
    (func $leave (global.set $left (i32.add (global.get $left) (i32.const 1))))
    ;; Waits 0, 1, ... n - 1 times.
    (func $sum (export "sum") (param $n i32) (result i32) (local $i i32) (local $sum i32)
        (loop $again
            (if (i32.lt_u (local.get $i) (local.get $n)) (then
                (call $enter)
                (local.set $sum (i32.add (local.get $sum) (call $wait (local.get $i))))
                (call $leave)
                (local.set $i (i32.add (local.get $i) (i32.const 1)))
                (br $again))))
        (local.get $sum))
    (func (export "for ever") (loop $again (call $enter) (drop (call $wait (i32.const 1))) (br $again)))
    ;; Whatever is thrown or fails, it goes on.
    (func (export "catches all")
        (loop $again
            (call $enter)
            (block $caught (try_table (catch_all $caught) (drop (call $wait (i32.const 1)))))
            (br $again)))
    (func (export "nest") (param i32) (result i32)
        (if (result i32) (i32.eqz (local.get 0)) (then (call $wait (i32.const 1)))
            (else (call $deeper (i32.sub (local.get 0) (i32.const 1))))))
    (func $direct (export "direct") (param i32) (result i32)
        (if (result i32) (i32.eqz (local.get 0)) (then (call $wait (i32.const 1)))
            (else (i32.add (i32.const 1) (call $direct (i32.sub (local.get 0) (i32.const 1)))))))
    (func $twice (drop (call $wait (i32.const 2))))
    (func (export "returns") (result i32) (call $twice) (i32.const 7))
    (func (export "unreachable") (result i32) (call $twice) (unreachable))
    (func (export "loads") (result i32) (call $twice) (i32.load (i32.const -4)))
    (func (export "divides") (result i32) (call $twice) (i32.div_u (i32.const 1) (i32.const 0)))
    (func $throws (export "throws") (result i32) (call $twice) (throw $tag (i32.const 7)))
    (func (export "catches") (result i32)
        (block $caught (result i32) (try_table (result i32) (catch $tag $caught) (call $throws))))
    (func (export "fails") (result i32) (call $fail) (i32.const 1))
    (func (export "exits") (result i32) (call $exit) (i32.const 1))
    (func (export "panics") (result i32) (call $panic) (i32.const 1)))"#;

/// A store with an instance of [`GUEST`].
fn guest(engine: &Engine) -> (Store<Host>, Instance) {
    let mut store = Store::new(engine, Host::default());
    let module = Module::new(engine, GUEST).unwrap();
    let instance = block_on(linker(engine).instantiate_async(&mut store, &module)).unwrap();
    store.data_mut().instance = Some(instance);
    (store, instance)
}

fn export<P: wasmrun::WasmParams, R: wasmrun::WasmResults>(
    store: &mut Store<Host>,
    instance: Instance,
    name: &str,
) -> TypedFunc<P, R> {
    instance.get_typed_func(store, name).unwrap()
}

fn global(store: &mut Store<Host>, instance: Instance, name: &str) -> i32 {
    match instance.get_global(&mut *store, name).unwrap().get(&mut *store) {
        Value::I32(n) => n,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_guest_is_suspended_as_often_as_host_functions_wait() {
    for_each_engine(|engine| {
        let (mut store, instance) = guest(engine);
        let sum = export::<i32, i32>(&mut store, instance, "sum");
        for n in [0, 1, 2, 9] {
            assert_eq!(done(sum.call_async(&mut store, n)), (n * (n - 1) / 2, (n * (n - 1) / 2) as u32), "{n}");
        }
        let mut results = [Value::I32(0)];
        let (result, pending) = finish(sum.func().call_async(&mut store, &[Value::I32(4)], &mut results));
        assert!(result.is_ok() && pending == 6 && matches!(results[0], Value::I32(6)), "{result:?} {results:?}");
        let census = store.data().census.clone();
        assert_eq!((census.alive(), census.made()), (0, 16));
    });
}

/// How a call ended, in words.
#[derive(Debug, PartialEq)]
struct Ended(String);

fn ended(result: thread::Result<Result<i32, Error>>) -> Ended {
    Ended(match result {
        Err(panic) => format!("panic: {}", panic.downcast_ref::<&str>().unwrap()),
        Ok(Ok(n)) => n.to_string(),
        // With the backtrace.
        Ok(Err(error)) => format!("{error:?}"),
    })
}

const ENDS: [&str; 9] = ["returns", "unreachable", "loads", "divides", "throws", "catches", "fails", "exits", "panics"];

/// The same ends as those of a synchronous call of host functions that don't wait.
#[test]
fn calls_end_after_a_suspension_as_without() {
    for_each_engine(|engine| {
        let (mut store, instance) = guest(engine);
        let mut plain = Store::new(engine, ());
        let wait = Func::wrap(&mut plain, |turns: i32| turns);
        let deeper = Func::wrap(&mut plain, |n: i32| n);
        let fail = Func::wrap(&mut plain, || Err::<(), _>(Error::host("it fails")));
        let exit = Func::wrap(&mut plain, || Err::<(), _>(Error::new(ErrorKind::Exit(7))));
        let panic = Func::wrap(&mut plain, || assert!(ENDS.is_empty(), "after two turns"));
        let imports = [wait, deeper, fail, exit, panic].map(Into::into);
        let expected = instantiate(&mut plain, GUEST, &imports);
        for name in ENDS {
            for _ in 0..2 {
                let run = export::<(), i32>(&mut store, instance, name);
                let expected = ended(catch_unwind(AssertUnwindSafe(|| call(&mut plain, expected, name, ()))));
                let result = ended(catch_unwind(AssertUnwindSafe(|| block_on(run.call_async(&mut store, ())))));
                assert_eq!(result, expected, "{name}");
                assert_eq!(store.data().census.alive(), 0);
            }
        }
    });
}

#[test]
fn futures_move_between_threads_at_every_suspension() {
    for_each_engine(|engine| {
        let (mut store, instance) = guest(engine);
        for name in ENDS {
            let run = export::<(), i32>(&mut store, instance, name);
            let expected = ended(catch_unwind(AssertUnwindSafe(|| block_on(run.call_async(&mut store, ())))));
            let result = finish_elsewhere(Box::pin(run.call_async(&mut store, ())));
            assert_eq!(ended(result.map(|(result, _)| result)), expected, "{name}");
        }
        let nest = export::<i32, i32>(&mut store, instance, "nest");
        assert_eq!(finish_elsewhere(Box::pin(nest.call_async(&mut store, 5))).unwrap().0.unwrap(), 6);
        let sum = export::<i32, i32>(&mut store, instance, "sum");
        assert_eq!(finish_elsewhere(Box::pin(sum.call_async(&mut store, 7))).unwrap().0.unwrap(), 21);
    });
}

/// A thread that is new, with the signals of traps blocked: what was moved there traps all the same.
#[test]
fn a_thread_that_blocks_signals_takes_those_of_moved_code() {
    for_each_engine(|engine| {
        let (mut store, instance) = guest(engine);
        for (name, trap) in [("loads", Trap::MemoryOutOfBounds), ("unreachable", Trap::Unreachable)] {
            let run = export::<(), i32>(&mut store, instance, name);
            let mut future = Box::pin(run.call_async(&mut store, ()));
            assert!(poll(future.as_mut()).is_pending());
            let result = thread::scope(|scope| {
                let work = move || {
                    // SAFETY: plain calls about the current thread.
                    unsafe {
                        let mut set = mem::zeroed();
                        libc::sigfillset(&mut set);
                        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
                    }
                    block_on(future)
                };
                scope.spawn(work).join().unwrap()
            });
            assert_eq!(result.unwrap_err().trap(), Some(trap), "{name}");
        }
    });
}

/// What the exports of [`GUEST`] are called with, and how often they are suspended (`None`: without end).
const SUSPENDED: [(&str, i32, Option<u32>); 4] =
    [("sum", 5, Some(10)), ("nest", 4, Some(9)), ("for ever", 0, None), ("catches all", 0, None)];

/// A future of a call of an export of [`SUSPENDED`].
fn begin<'a>(store: &'a mut Store<Host>, instance: Instance, name: &'static str, n: i32) -> BoxFuture<'a, ()> {
    if name == "sum" || name == "nest" {
        let run = export::<i32, i32>(store, instance, name);
        return Box::pin(async move { assert!(run.call_async(store, n).await.is_ok()) });
    }
    let run = export::<(), ()>(store, instance, name);
    Box::pin(async move { run.call_async(store, ()).await.unwrap() })
}

#[test]
fn futures_are_dropped_at_every_suspension() {
    for_each_engine(|engine| {
        let (mut store, instance) = guest(engine);
        let census = store.data().census.clone();
        for (name, n, suspensions) in SUSPENDED {
            for turns in 0..=suspensions.unwrap_or(4) {
                for elsewhere in [false, true] {
                    let made = census.made();
                    let mut future = begin(&mut store, instance, name, n);
                    for _ in 0..turns {
                        assert!(poll(future.as_mut()).is_pending(), "{name} {turns}");
                    }
                    if turns > 0 {
                        assert!(census.alive() > 0 && census.made() > made, "{name} {turns}");
                    }
                    if elsewhere {
                        thread::scope(|scope| scope.spawn(move || drop(future)).join().unwrap());
                    } else {
                        drop(future);
                    }
                    assert_eq!(census.alive(), 0, "{name} {turns}");
                    // Nothing of the guest ran after that.
                    let counts = ["entered", "left"].map(|name| global(&mut store, instance, name));
                    let sum = export::<i32, i32>(&mut store, instance, "sum");
                    assert_eq!(done(sum.call_async(&mut store, 3)), (3, 3));
                    let now = ["entered", "left"].map(|name| global(&mut store, instance, name));
                    assert_eq!(now, counts.map(|n| n + 3), "{name} {turns}");
                    store.gc();
                }
            }
        }
    });
}

/// As above: that the code does not go on is seen by what it counts.
#[test]
fn what_is_dropped_runs_no_further_instruction() {
    for_each_engine(|engine| {
        for name in ["for ever", "catches all"] {
            let (mut store, instance) = guest(engine);
            let run = export::<(), ()>(&mut store, instance, name);
            let mut future = Box::pin(run.call_async(&mut store, ()));
            for _ in 0..3 {
                assert!(poll(future.as_mut()).is_pending());
            }
            drop(future);
            assert_eq!(global(&mut store, instance, "entered"), 3, "{name}");
        }
    });
}

/// A forgotten future leaks its stack; the store goes on as if the call had never been.
#[test]
fn futures_are_forgotten_at_every_suspension() {
    for config in configs() {
        let engine = Engine::new(&config).unwrap();
        for (name, n, suspensions) in SUSPENDED {
            let (mut store, instance) = guest(&engine);
            let census = store.data().census.clone();
            for turns in 1..=suspensions.unwrap_or(2).min(4) {
                let alive = census.alive();
                let mut future = begin(&mut store, instance, name, n);
                for _ in 0..turns {
                    assert!(poll(future.as_mut()).is_pending());
                }
                mem::forget(future);
                assert!(census.alive() > alive, "leaked, not dropped");
                let alive = census.alive();
                store.gc();
                let sum = export::<i32, i32>(&mut store, instance, "sum");
                assert_eq!(done(sum.call_async(&mut store, 3)), (3, 3));
                let nest = export::<i32, i32>(&mut store, instance, "nest");
                assert_eq!(done(nest.call_async(&mut store, 3)), (4, 7));
                let direct = export::<i32, i32>(&mut store, instance, "direct");
                let error = block_on(direct.call_async(&mut store, i32::MAX)).unwrap_err();
                assert_eq!(error.trap(), Some(Trap::StackOverflow));
                assert_eq!(census.alive(), alive);
            }
        }
    }
}

/// A host function forgets a call that it has made: its own caller goes on, within the bounds of its own stack.
#[test]
fn a_host_function_forgets_a_call() {
    const WAT: &str = r#"(module
        (import "" "forget" (func $forget)) (import "" "wait" (func $wait))
        (func (export "wait") (call $wait))
        (func $deep (export "deep") (param i64) (result i64)
            (if (result i64) (i64.eqz (local.get 0)) (then (i64.const 0))
                (else (i64.add (i64.const 1) (call $deep (i64.sub (local.get 0) (i64.const 1)))))))
        (func (export "run") (param i64) (result i64) (call $forget) (call $deep (local.get 0))))"#;
    for_each_engine_and_zeal(|engine| {
        for is_async in [false, true] {
            let mut store = Store::new(engine, None::<Instance>);
            fn begin_and_forget(caller: &mut Caller<'_, Option<Instance>>) {
                let instance = caller.data().expect("set below");
                let wait = instance.get_typed_func::<(), ()>(&mut *caller, "wait").unwrap();
                let mut future = Box::pin(wait.call_async(&mut *caller, ()));
                assert!(poll(future.as_mut()).is_pending());
                mem::forget(future);
                caller.gc();
            }
            let forget = match is_async {
                false => Func::wrap(&mut store, |mut caller: Caller<'_, _>| begin_and_forget(&mut caller)),
                true => Func::wrap_async(&mut store, |mut caller: Caller<'_, _>, (): ()| {
                    Box::new(async move {
                        Turns(1).await;
                        begin_and_forget(&mut caller);
                        Turns(1).await;
                    })
                }),
            };
            let wait = Func::wrap_async(&mut store, |_: Caller<'_, _>, (): ()| Box::new(Turns(9)));
            let instance = instantiate(&mut store, WAT, &[forget.into(), wait.into()]);
            *store.data_mut() = Some(instance);
            let run = instance.get_typed_func::<i64, i64>(&mut store, "run").unwrap();
            for _ in 0..2 {
                assert_eq!(block_on(run.call_async(&mut store, 100)).unwrap(), 100);
                let error = block_on(run.call_async(&mut store, i64::MAX)).unwrap_err();
                assert_eq!(error.trap(), Some(Trap::StackOverflow));
                if !is_async {
                    assert_eq!(run.call(&mut store, 100).unwrap(), 100);
                }
            }
        }
    });
}

#[test]
fn calls_nest() {
    for_each_engine(|engine| {
        let (mut store, instance) = guest(engine);
        let nest = export::<i32, i32>(&mut store, instance, "nest");
        for depth in [0, 1, 2, 20] {
            assert_eq!(done(nest.call_async(&mut store, depth)), (depth + 1, 2 * depth as u32 + 1));
        }
        // Each level takes a stack; there is an end to them.
        let error = block_on(nest.call_async(&mut store, 100_000)).unwrap_err();
        assert_eq!(error.trap(), Some(Trap::StackOverflow), "{error}");
        assert_eq!(store.data().census.alive(), 0);
        assert_eq!(block_on(nest.call_async(&mut store, 5)).unwrap(), 6);
    });
}

/// A backtrace has the functions of all nested calls.
#[test]
fn backtraces_go_across_nested_calls() {
    const WAT: &str = r#"(module
        (import "" "call" (func $call))
        (func $inner (export "inner") unreachable)
        (func $outer (export "outer") (call $call)))"#;
    for_each_engine(|engine| {
        let mut store = Store::new(engine, None::<Instance>);
        let call = Func::wrap_async(&mut store, |mut caller: Caller<'_, Option<Instance>>, (): ()| {
            Box::new(async move {
                Turns(1).await;
                let inner = caller.data().unwrap().get_typed_func::<(), ()>(&mut caller, "inner")?;
                inner.call_async(&mut caller, ()).await
            })
        });
        let instance = instantiate(&mut store, WAT, &[call.into()]);
        *store.data_mut() = Some(instance);
        let outer = instance.get_typed_func::<(), ()>(&mut store, "outer").unwrap();
        let error = block_on(outer.call_async(&mut store, ())).unwrap_err();
        let names: Vec<_> = error.backtrace().iter().map(|frame| frame.func_name().unwrap()).collect();
        assert_eq!((error.trap(), names), (Some(Trap::Unreachable), vec!["inner", "outer"]));
    });
}

/// An asynchronous host function that is reached by a synchronous call gives an error, wherever that call is made.
#[test]
fn a_synchronous_call_can_not_wait() {
    fn is_refused(error: &Error) -> bool {
        matches!(error.kind(), ErrorKind::Usage(message) if message.contains("call_async"))
    }
    for_each_engine(|engine| {
        let (mut store, instance) = guest(engine);
        for turns in [0, 1] {
            let error = call::<_, i32, i32>(&mut store, instance, "nest", turns).unwrap_err();
            assert!(is_refused(&error), "{error}");
        }
        let host = linker(engine).get(&mut store, "", "wait").unwrap().into_func().unwrap();
        let error = host.call(&mut store, &[Value::I32(0)], &mut [Value::I32(0)]).unwrap_err();
        assert!(is_refused(&error), "{error}");
        let start = r#"(module (import "" "fail" (func $fail)) (start $fail))"#;
        let start = Module::new(engine, start).unwrap();
        assert!(is_refused(&linker(engine).instantiate(&mut store, &start).unwrap_err()));
        // Within an asynchronous call: the frames of who called synchronously must not be suspended.
        const WAT: &str = r#"(module (import "" "sync" (func $sync)) (import "" "async" (func $async))
            (func (export "through sync") (call $sync)) (func (export "through async") (call $async)))"#;
        let callback = |caller: &mut Caller<'_, Host>| {
            let instance = caller.data().instance.unwrap();
            let sum = instance.get_typed_func::<i32, i32>(&mut *caller, "sum").unwrap();
            assert!(is_refused(&sum.call(&mut *caller, 3).unwrap_err()));
            assert_eq!(sum.call(&mut *caller, 0).unwrap(), 0);
            // But it may run another executor.
            assert_eq!(block_on(sum.call_async(&mut *caller, 3)).unwrap(), 3);
        };
        let sync = Func::wrap(&mut store, move |mut caller: Caller<'_, Host>| callback(&mut caller));
        let other = Func::wrap_async(&mut store, move |mut caller: Caller<'_, Host>, (): ()| {
            Box::new(async move {
                Turns(1).await;
                callback(&mut caller);
                Turns(1).await;
            })
        });
        let outer = instantiate(&mut store, WAT, &[sync.into(), other.into()]);
        for (name, turns) in [("through sync", 0), ("through async", 2)] {
            let run = export::<(), ()>(&mut store, outer, name);
            assert_eq!(done(run.call_async(&mut store, ())), ((), turns));
        }
        call::<_, (), ()>(&mut store, outer, "through sync", ()).unwrap();
    });
}

#[test]
fn start_functions_wait() {
    for_each_engine(|engine| {
        let linker = linker(engine);
        let text = r#"(module (import "" "wait" (func $wait (param i32) (result i32)))
            (global $g (export "g") (mut i32) (i32.const 0))
            (func $start (global.set $g (call $wait (i32.const 3)))) (start $start)
            (func (export "_initialize") (global.set $g (i32.add (global.get $g) (call $wait (i32.const 2))))))"#;
        let module = Module::new(engine, text).unwrap();
        let mut store = Store::new(engine, Host::default());
        let mut instances = vec![];
        let (instance, pending) = finish(linker.instantiate_async(&mut store, &module));
        instances.push((instance.unwrap(), pending));
        let pre = linker.instantiate_pre(&module).unwrap();
        let (instance, pending) = finish(pre.instantiate_async(&mut store));
        instances.push((instance.unwrap(), pending));
        let wait = linker.get(&mut store, "", "wait").unwrap();
        let (instance, pending) = finish(Instance::new_async(&mut store, &module, &[wait]));
        instances.push((instance.unwrap(), pending));
        for (instance, pending) in instances {
            assert_eq!((global(&mut store, instance, "g"), pending), (3, 3));
        }
        let mut linker = linker.clone();
        assert_eq!(finish(linker.module_async(&mut store, "m", &module)).1, 5);
        assert!(linker.get(&mut store, "m", "g").is_some());
    });
}

#[test]
fn functions_over_values_wait() {
    for_each_engine_and_zeal(|engine| {
        let mut store = Store::new(engine, ());
        let ty =
            FuncType::new(store.engine(), [ValType::EXTERNREF, ValType::V128], [ValType::V128, ValType::EXTERNREF]);
        let swap = |mut caller: Caller<'_, ()>, args: &[Value], results: &mut [Value]| {
            caller.gc();
            results[0] = args[1].clone();
            results[1] = args[0].clone();
        };
        let swap = Func::new_async(&mut store, ty, move |mut caller: Caller<'_, ()>, args, results| {
            Box::new(async move {
                Turns(3).await;
                caller.gc();
                swap(caller, args, results);
                Turns(1).await;
                Ok(())
            })
        });
        let object = Value::ExternRef(Some(ExternRef::new(5)));
        let mut results = [Value::I32(0), Value::I32(0)];
        let (result, pending) = finish(swap.call_async(&mut store, &[object, Value::V128(9)], &mut results));
        assert!(result.is_ok() && pending == 4);
        assert!(matches!(results[0], Value::V128(9)));
        let Value::ExternRef(Some(object)) = &results[1] else { panic!("{results:?}") };
        assert_eq!(object.data().downcast_ref(), Some(&5));
        let error = block_on(swap.call_async(&mut store, &[], &mut results)).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Usage(_)), "{error}");
        let error = block_on(swap.call_async(&mut store, &[Value::ExternRef(None), Value::V128(9)], &mut []));
        assert!(matches!(error.unwrap_err().kind(), ErrorKind::Usage(_)));
    });
}

/// A hundred guests hold exceptions while they are suspended, and are collected in between; what waits in a nested call is
/// kept, too.
#[test]
fn collections_while_a_hundred_guests_are_suspended() {
    for_each_engine_and_zeal(|engine| {
        let linked = |nested: bool| {
            let mut linker = Linker::new(engine);
            linker
                .func_wrap_async("", "across", move |mut caller: Caller<'_, Host>, (): ()| {
                    Box::new(async move {
                        Turns(1).await;
                        caller.gc();
                        let instance = caller.data().instance.unwrap();
                        let churn = instance.get_typed_func::<i64, ()>(&mut caller, "churn").unwrap();
                        if nested {
                            churn.call_async(&mut caller, 50).await.unwrap();
                            // The outer guest waits on another stack than this one runs on.
                            let locals = instance.get_typed_func::<(), i64>(&mut caller, "locals and throws").unwrap();
                            assert_eq!(locals.call_async(&mut caller, ()).await.unwrap(), crate::heap::SUM);
                        } else {
                            churn.call(&mut caller, 50).unwrap();
                        }
                        caller.gc();
                        Turns(1).await;
                        caller.gc();
                    })
                })
                .unwrap();
            linker
        };
        let module = Module::new(engine, module()).unwrap();
        for nested in [false, true] {
            let linker = linked(nested);
            let mut guests: Vec<BoxFuture<'_, ()>> = vec![];
            for (name, expected) in HOLDERS.iter().cycle().take(100) {
                let (module, linker) = (module.clone(), &linker);
                guests.push(Box::pin(async move {
                    let mut store = Store::new(engine, Host::default());
                    let instance = linker.instantiate_async(&mut store, &module).await.unwrap();
                    store.data_mut().instance = Some(instance);
                    let run = instance.get_typed_func::<(), i64>(&mut store, name).unwrap();
                    assert_eq!(run.call_async(&mut store, ()).await.unwrap(), *expected, "{name}");
                }));
            }
            while !guests.is_empty() {
                guests.retain_mut(|guest| poll(guest.as_mut()).is_pending());
            }
        }
    });
}

/// What a nested call leaves behind is collected; what was dropped in the middle, too.
#[test]
fn nothing_is_kept_of_calls_that_have_ended() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, Host::default());
        let across = Func::wrap_async(&mut store, |_: Caller<'_, Host>, (): ()| Box::new(Turns(1)));
        let instance = instantiate(&mut store, &module(), &[across.into()]);
        for _ in 0..20 {
            let run = export::<(), i64>(&mut store, instance, "locals");
            let mut future = Box::pin(run.call_async(&mut store, ()));
            assert!(poll(future.as_mut()).is_pending());
            drop(future);
            assert_eq!(block_on(run.call_async(&mut store, ())).unwrap(), crate::heap::SUM);
        }
        store.gc();
        let left = store.heap_stats().exceptions;
        assert!(left < 10, "{left} exceptions are left");
    });
}

#[test]
fn a_thousand_guests_wait_on_one_thread() {
    for_each_engine(|engine| {
        let linker = linker(engine);
        let module = Module::new(engine, GUEST).unwrap();
        let census = Census::default();
        let mut guests: Vec<BoxFuture<'_, i32>> = vec![];
        for n in 0..1000 {
            let (linker, module, census) = (&linker, &module, census.clone());
            guests.push(Box::pin(async move {
                let mut store = Store::new(engine, Host { instance: None, census });
                let instance = linker.instantiate_async(&mut store, module).await.unwrap();
                let sum = instance.get_typed_func::<i32, i32>(&mut store, "sum").unwrap();
                sum.call_async(&mut store, 2 + n % 3).await.unwrap()
            }));
        }
        for guest in &mut guests {
            assert!(poll(guest.as_mut()).is_pending());
        }
        assert_eq!(census.alive(), 1000);
        let mut sum = 0;
        while !guests.is_empty() {
            guests.retain_mut(|guest| match poll(guest.as_mut()) {
                Poll::Ready(n) => {
                    sum += n;
                    false
                }
                Poll::Pending => true,
            });
        }
        assert_eq!((sum, census.alive()), (334 + 333 * 3 + 333 * 6, 0));
    });
}

#[test]
fn deep_recursion_traps() {
    for mut config in configs() {
        for (wasm, size) in [(64 << 10, 96 << 10), (128 << 10, 128 << 10), (1 << 20, 2 << 20), (1 << 20, 1 << 20)] {
            let engine = Engine::new(config.max_wasm_stack(wasm).async_stack_size(size)).unwrap();
            let (mut store, instance) = guest(&engine);
            let direct = export::<i32, i32>(&mut store, instance, "direct");
            for _ in 0..2 {
                let error = block_on(direct.call_async(&mut store, i32::MAX)).unwrap_err();
                assert_eq!(error.trap(), Some(Trap::StackOverflow), "{error}");
                assert_eq!(block_on(direct.call_async(&mut store, 50)).unwrap(), 51);
                assert_eq!(call::<_, i32, i32>(&mut store, instance, "sum", 0).unwrap(), 0);
            }
        }
    }
}

/// Recursion through synchronous host functions on an asynchronous call's stack.
#[test]
fn recursion_through_host_functions_traps() {
    const WAT: &str = r#"(module (import "" "again" (func $again)) (func (export "run") (call $again)))"#;
    for mut config in configs() {
        for size in [128 << 10, 2 << 20] {
            let engine = Engine::new(config.max_wasm_stack(128 << 10).async_stack_size(size)).unwrap();
            let mut store = Store::new(&engine, None::<Instance>);
            let again = Func::wrap(&mut store, |mut caller: Caller<'_, Option<Instance>>| {
                let run = caller.data().unwrap().get_typed_func::<(), ()>(&mut caller, "run")?;
                run.call(&mut caller, ())
            });
            let instance = instantiate(&mut store, WAT, &[again.into()]);
            *store.data_mut() = Some(instance);
            let run = instance.get_typed_func::<(), ()>(&mut store, "run").unwrap();
            let error = block_on(run.call_async(&mut store, ())).unwrap_err();
            assert_eq!(error.trap(), Some(Trap::StackOverflow), "{error}");
        }
    }
}

#[test]
fn stack_sizes_that_do_not_fit_are_refused() {
    let new = |set: &dyn Fn(&mut Config)| {
        let mut config = Config::new();
        set(&mut config);
        Engine::new(&config).map(|_| ())
    };
    let refused = |result: Result<(), Error>| matches!(result.unwrap_err().kind(), ErrorKind::Usage(_));
    assert!(refused(new(&|config| _ = config.max_wasm_stack(32 << 10).async_stack_size((96 << 10) - 1))));
    assert!(refused(new(&|config| _ = config.async_stack_size((1 << 20) - 1))));
    new(&|config| _ = config.async_stack_size(1 << 20)).unwrap();
    // Without a size for asynchronous calls, any size of stack will do, and they have more.
    new(&|config| _ = config.max_wasm_stack(usize::MAX)).unwrap();
    let engine = Engine::new(Config::new().async_support(true).async_stack_size(usize::MAX)).unwrap();
    let (mut store, run) = {
        let mut store = Store::new(&engine, ());
        let run = Func::wrap(&mut store, || {}).typed::<(), ()>(&store).unwrap();
        (store, run)
    };
    let error = block_on(run.call_async(&mut store, ())).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Resource(_)), "{error}");
    run.call(&mut store, ()).unwrap();
}

/// Guests that a host function of another guest polls, drops and begins, on its own stack and on coroutines.
#[test]
fn futures_are_polled_and_dropped_inside_other_guests() {
    const WAT: &str = r#"(module (import "" "sync" (func $sync)) (import "" "async" (func $async))
        (memory 1)
        (func (export "through sync") (result i32) (call $sync) (i32.load (i32.const -4)))
        (func (export "through async") (result i32) (call $async) (i32.load (i32.const -4))))"#;
    type Slot = Arc<Mutex<Option<BoxFuture<'static, ()>>>>;
    for_each_engine(|engine| {
        let census = Census::default();
        let inner = |n: i32| -> BoxFuture<'static, ()> {
            let (engine, census) = (engine.clone(), census.clone());
            Box::pin(async move {
                let (mut store, instance) = guest(&engine);
                store.data_mut().census = census;
                let nest = export::<i32, i32>(&mut store, instance, "nest");
                assert_eq!(nest.call_async(&mut store, n).await.unwrap(), n + 1);
            })
        };
        let slot = Slot::default();
        let work = |slot: &Slot| {
            // The other guest was begun elsewhere.
            let future = slot.lock().unwrap().take();
            if let Some(mut future) = future
                && poll(future.as_mut()).is_pending()
            {
                *slot.lock().unwrap() = Some(future);
            }
        };
        let mut store = Store::new(engine, slot.clone());
        let sync = Func::wrap(&mut store, move |caller: Caller<'_, Slot>| work(caller.data()));
        let other = Func::wrap_async(&mut store, move |caller: Caller<'_, Slot>, (): ()| {
            Box::new(async move {
                work(caller.data());
                Turns(1).await;
                work(caller.data());
            })
        });
        let instance = instantiate(&mut store, WAT, &[sync.into(), other.into()]);
        let is_fault = |result: Result<i32, Error>| result.unwrap_err().trap() == Some(Trap::MemoryOutOfBounds);
        for drops in [false, true] {
            for first in 0..3 {
                let mut future = inner(5);
                for _ in 0..first {
                    assert!(poll(future.as_mut()).is_pending());
                }
                *slot.lock().unwrap() = Some(future);
                for _ in 0..3 {
                    assert!(is_fault(call(&mut store, instance, "through sync", ())));
                    let run = instance.get_typed_func::<(), i32>(&mut store, "through async").unwrap();
                    assert!(is_fault(block_on(run.call_async(&mut store, ()))));
                }
                if drops {
                    // Dropped inside, on a coroutine.
                    let slot = slot.clone();
                    let mut last = Store::new(engine, ());
                    let drop_it = Func::wrap(&mut last, move || drop(slot.lock().unwrap().take()));
                    let drop_it = drop_it.typed::<(), ()>(&last).unwrap();
                    block_on(drop_it.call_async(&mut last, ())).unwrap();
                } else if let Some(future) = slot.lock().unwrap().take() {
                    block_on(future);
                }
                assert_eq!(census.alive(), 0);
            }
        }
    });
}

/// Synchronous calls of other stores from an asynchronous one's stack, which they do not know.
#[test]
fn host_functions_on_coroutines_use_other_stores() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, engine.clone());
        let run = Func::wrap_async(&mut store, |caller: Caller<'_, Engine>, (): ()| {
            Box::new(async move {
                for _ in 0..3 {
                    let (mut other, instance) = guest(caller.data());
                    let error = call::<_, i32, i32>(&mut other, instance, "sum", 2).unwrap_err();
                    assert!(matches!(error.kind(), ErrorKind::Usage(_)));
                    let direct = export::<i32, i32>(&mut other, instance, "direct");
                    let error = direct.call(&mut other, i32::MAX).unwrap_err();
                    assert_eq!(error.trap(), Some(Trap::StackOverflow), "{error}");
                    assert_eq!(direct.call_async(&mut other, 9).await.unwrap(), 10);
                }
            })
        });
        let run = run.typed::<(), ()>(&store).unwrap();
        assert_eq!(done(run.call_async(&mut store, ())), ((), 3));
    });
}

/// Panics of what is dropped pass through the drop of the future, and leave the store in order.
#[test]
fn panics_while_a_future_is_dropped() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            if !thread::panicking() {
                panic!("dropped");
            }
        }
    }
    for_each_engine(|engine| {
        let mut store = Store::new(engine, Host::default());
        let wait = Func::wrap_async(&mut store, |caller: Caller<'_, Host>, (): ()| {
            Box::new(async move {
                let _guard = caller.data().census.guard();
                let _bomb = Bomb;
                Turns(3).await;
            })
        });
        let instance = instantiate(
            &mut store,
            r#"(module (import "" "" (func $wait)) (func (export "run") (result i32) (call $wait) (i32.const 3)))"#,
            &[wait.into()],
        );
        let run = export::<(), i32>(&mut store, instance, "run");
        for _ in 0..3 {
            let mut future = Box::pin(run.call_async(&mut store, ()));
            assert!(poll(future.as_mut()).is_pending());
            let panic = catch_unwind(AssertUnwindSafe(|| drop(future))).unwrap_err();
            assert_eq!(panic.downcast_ref(), Some(&"dropped"));
            assert_eq!(store.data().census.alive(), 0);
            // And while this thread panics already.
            let mut future = Box::pin(run.call_async(&mut store, ()));
            assert!(poll(future.as_mut()).is_pending());
            let panic = catch_unwind(AssertUnwindSafe(|| {
                let _future = future;
                panic!("first");
            }));
            assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"first"));
            assert_eq!(store.data().census.alive(), 0);
        }
    });
}

/// What a host function's future does with the store when it is dropped: it may call it synchronously, and not wait.
#[test]
fn drops_use_the_store() {
    struct Last<'a>(Caller<'a, Host>);
    impl Drop for Last<'_> {
        fn drop(&mut self) {
            let instance = self.0.data().instance.unwrap();
            let sum = instance.get_typed_func::<i32, i32>(&mut self.0, "sum").unwrap();
            assert_eq!(sum.call(&mut self.0, 0).unwrap(), 0);
            assert!(sum.call(&mut self.0, 1).is_err());
            assert_eq!(block_on(sum.call_async(&mut self.0, 3)).unwrap(), 3);
            self.0.gc();
        }
    }
    for_each_engine_and_zeal(|engine| {
        let (mut store, instance) = guest(engine);
        let wait = Func::wrap_async(&mut store, |caller: Caller<'_, Host>, (): ()| {
            Box::new(async move {
                let _last = Last(caller);
                Turns(3).await;
            })
        });
        let text = r#"(module (import "" "" (func $wait)) (func (export "run") (call $wait) (call $wait)))"#;
        let outer = instantiate(&mut store, text, &[wait.into()]);
        for (turns, drops) in [0, 1, 1, 1, 2, 2, 2].into_iter().enumerate() {
            let counts = ["entered", "left"].map(|name| global(&mut store, instance, name));
            let run = export::<(), ()>(&mut store, outer, "run");
            let mut future = Box::pin(run.call_async(&mut store, ()));
            for _ in 0..turns {
                assert!(poll(future.as_mut()).is_pending());
            }
            drop(future);
            // Each drop has been to its end: one call that did not wait, one that was refused, one of three turns.
            let now = ["entered", "left"].map(|name| global(&mut store, instance, name));
            assert_eq!(now, [counts[0] + 4 * drops, counts[1] + 3 * drops], "{turns}");
        }
    });
}

/// A thread-local that is dropped with its thread holds a suspended call.
#[test]
fn futures_are_dropped_as_their_thread_ends() {
    thread_local! {
        static HELD: std::cell::RefCell<Option<BoxFuture<'static, ()>>> = const { std::cell::RefCell::new(None) };
    }
    for_each_engine(|engine| {
        let census = Census::default();
        for turns in 1..4 {
            let (engine, census) = (engine.clone(), census.clone());
            let mut future: BoxFuture<'static, ()> = Box::pin(async move {
                let (mut store, instance) = guest(&engine);
                store.data_mut().census = census;
                let nest = export::<i32, i32>(&mut store, instance, "nest");
                nest.call_async(&mut store, 4).await.unwrap();
            });
            thread::spawn(move || {
                for _ in 0..turns {
                    assert!(poll(future.as_mut()).is_pending());
                }
                HELD.set(Some(future));
            })
            .join()
            .unwrap();
        }
        assert!(census.made() > 0);
        assert_eq!(census.alive(), 0);
    });
}

/// Wakers are those of the last poll, and are woken from other threads.
#[test]
fn tokio_runs_guests_on_many_threads() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_time().build().unwrap();
    for_each_engine(|engine| {
        let mut linker = Linker::new(engine);
        linker
            .func_wrap_async("", "sleep", |caller: Caller<'_, Arc<AtomicU32>>, (ms,): (u32,)| {
                Box::new(async move {
                    tokio::time::sleep(Duration::from_millis(ms.into())).await;
                    tokio::task::yield_now().await;
                    caller.data().fetch_add(1, Ordering::Relaxed);
                })
            })
            .unwrap();
        let text = r#"(module (import "" "sleep" (func $sleep (param i32)))
            (func (export "run") (param $n i32)
                (loop $again
                    (call $sleep (local.get $n))
                    (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))))"#;
        let program = linker.instantiate_pre(&Module::new(engine, text).unwrap()).unwrap();
        let slept = Arc::new(AtomicU32::new(0));
        let run = |n: i32| {
            let (program, slept, engine) = (program.clone(), slept.clone(), engine.clone());
            async move {
                let mut store = Store::new(&engine, slept);
                let instance = program.instantiate_async(&mut store).await?;
                let run = instance.get_typed_func::<i32, ()>(&mut store, "run")?;
                run.call_async(&mut store, n).await
            }
        };
        runtime.block_on(async {
            let tasks: Vec<_> = (0..100).map(|n| tokio::spawn(run(1 + n % 5))).collect();
            for task in tasks {
                task.await.unwrap().unwrap();
            }
            assert_eq!(slept.load(Ordering::Relaxed), 300);
            // Given up in the middle.
            let late = tokio::time::timeout(Duration::from_millis(10), run(100_000)).await;
            assert!(late.is_err());
        });
    });
}

/// One store, borrowed in turn by calls with and without waiting, while its future exists or not.
#[test]
fn synchronous_and_asynchronous_calls_take_turns() {
    for_each_engine(|engine| {
        let (mut store, instance) = guest(engine);
        for _ in 0..3 {
            let sum = export::<i32, i32>(&mut store, instance, "sum");
            assert_eq!(sum.call(&mut store, 0).unwrap(), 0);
            assert_eq!(block_on(sum.call_async(store.as_context_mut(), 4)).unwrap(), 6);
            drop(sum.call_async(&mut store, 4));
            mem::forget(sum.call_async(&mut store, 4));
        }
    });
}

/// A future that was ready is polled again.
#[test]
fn polling_after_the_end_panics() {
    let engine = Engine::new(Config::new().strategy(Strategy::Interpreter)).unwrap();
    let (mut store, instance) = guest(&engine);
    let sum = export::<i32, i32>(&mut store, instance, "sum");
    let mut future = Box::pin(sum.call_async(&mut store, 2));
    while poll(future.as_mut()).is_pending() {}
    assert!(catch_unwind(AssertUnwindSafe(|| poll(future.as_mut()))).is_err());
    drop(future);
    assert_eq!(block_on(sum.call_async(&mut store, 2)).unwrap(), 1);
}
