//! Asynchronous calls whose code gives way on request, and what ends one that waits in a host function.
#![cfg(all(unix, not(target_arch = "s390x")))]

use crate::asynchronous::{BoxFuture, Census, Turns, block_on, done, finish, finish_elsewhere, poll};
use crate::engines::{call, for_each_engine, instantiate};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};
use wasmrun::{Caller, Engine, Error, Func, Instance, InterruptHandle, Module, Store, Trap, TypedFunc, UpdateDeadline};

/// `again` asks the code to give way at the next place where it looks for that. Each function adds up in another way, and
/// looks at another place: the head of a loop, the start of a function, a tail call.
const GUEST: &str = r#"(module
    (import "" "again" (func $again))
    (memory (export "memory") 1024)
    (func (export "loop") (param $n i32) (result i64) (local $sum i64) (local $x f64) (local $v v128)
        (local.set $x (f64.const 1.5))
        (loop $head
            (call $again)
            (local.set $sum (i64.add (i64.mul (local.get $sum) (i64.const 31)) (i64.extend_i32_u (local.get $n))))
            (local.set $x (f64.add (local.get $x) (f64.convert_i32_u (local.get $n))))
            (local.set $v (i64x2.add (local.get $v) (i64x2.splat (local.get $sum))))
            (br_if $head (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (i64.add (i64.add (local.get $sum) (i64.reinterpret_f64 (local.get $x))) (i64x2.extract_lane 1 (local.get $v))))
    (func $recursion (export "recursion") (param $n i32) (result i64)
        (call $again)
        (if (result i64) (i32.eqz (local.get $n)) (then (i64.const 1))
            (else (i64.add (i64.extend_i32_u (local.get $n))
                (i64.mul (i64.const 3) (call $recursion (i32.sub (local.get $n) (i32.const 1))))))))
    (func $even (export "tail calls") (param $n i32) (result i64)
        (return_call $odd (local.get $n) (i64.const 7)))
    (func $odd (param $n i32) (param $sum i64) (result i64)
        (call $again)
        (if (i32.eqz (local.get $n)) (then (return (local.get $sum))))
        (return_call $odd (i32.sub (local.get $n) (i32.const 1))
            (i64.add (i64.mul (local.get $sum) (i64.const 5)) (i64.extend_i32_u (local.get $n)))))
    (func (export "traps") (param $n i32) (result i64)
        (loop $head
            (call $again)
            (br_if $head (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (i64.load (i32.const -8)))
    ;; Keeps many values in registers.
    (func (export "mix") (param $n i32) (result i64)
        (local $a i64) (local $b i64) (local $c i64) (local $d i64) (local $e i64) (local $f i64) (local $g i64)
        (local $h i64) (local $p f64) (local $q f64) (local $r f64) (local $v v128) (local $w v128)
        (local.set $a (i64.const 1)) (local.set $b (i64.const 2)) (local.set $c (i64.const 3))
        (local.set $d (i64.const 5)) (local.set $e (i64.const 7)) (local.set $f (i64.const 11))
        (local.set $g (i64.const 13)) (local.set $h (i64.const 17))
        (local.set $p (f64.const 1)) (local.set $q (f64.const 2)) (local.set $v (i64x2.splat (i64.const 99)))
        (loop $head
            (local.set $a (i64.add (local.get $a) (i64.rotl (local.get $h) (i64.const 5))))
            (local.set $b (i64.xor (local.get $b) (local.get $a)))
            (local.set $c (i64.add (local.get $c) (i64.rotl (local.get $b) (i64.const 9))))
            (local.set $d (i64.xor (local.get $d) (local.get $c)))
            (local.set $e (i64.mul (local.get $e) (i64.or (local.get $d) (i64.const 1))))
            (local.set $f (i64.sub (local.get $f) (local.get $e)))
            (local.set $g (i64.xor (local.get $g) (i64.rotl (local.get $f) (i64.const 13))))
            (local.set $h (i64.add (local.get $h) (local.get $g)))
            (local.set $p (f64.add (local.get $p) (f64.convert_i32_u (local.get $n))))
            (local.set $q (f64.sub (local.get $q) (f64.mul (local.get $p) (f64.const 0.25))))
            (local.set $r (f64.add (local.get $r) (local.get $q)))
            (local.set $v (i64x2.add (local.get $v) (i64x2.splat (local.get $h))))
            (local.set $w (v128.xor (local.get $w) (local.get $v)))
            (br_if $head (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (i64.xor (i64.xor (i64.xor (local.get $a) (local.get $b)) (i64.xor (local.get $c) (local.get $d)))
            (i64.xor (i64.xor (i64.xor (local.get $e) (local.get $f)) (i64.xor (local.get $g) (local.get $h)))
                (i64.xor (i64.xor (i64.reinterpret_f64 (local.get $p)) (i64.reinterpret_f64 (local.get $q)))
                    (i64.xor (i64.reinterpret_f64 (local.get $r)) (i64x2.extract_lane 1 (local.get $w)))))))
    ;; Fills memory and copies it, in both directions, in pieces.
    (func (export "bulk") (param $n i32) (result i64)
        (loop $head
            (memory.fill (i32.const 0) (local.get $n) (i32.const 0x4000000))
            (i64.store (i32.const 0x2000) (i64.const 0x0123456789abcdef))
            (memory.copy (i32.const 0x1000000) (i32.const 0) (i32.const 0x3000000))
            (memory.copy (i32.const 0) (i32.const 0x1000) (i32.const 0x3fff000))
            (br_if $head (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (i64.xor (i64.load (i32.const 0x1001000)) (i64.load (i32.const 0x3fff000))))
    (func (export "spin") (loop $head (br $head)))
    (func $forever (export "recurse for ever") (call $leaf) (return_call $forever))
    (func $leaf))"#;

/// What the store of a guest has.
struct Host {
    handle: Option<InterruptHandle>,
    again: bool,
}

fn guest(engine: &Engine) -> (Store<Host>, Instance) {
    let mut store = Store::new(engine, Host { handle: None, again: true });
    store.data_mut().handle = Some(store.interrupt_handle());
    let again = Func::wrap(&mut store, |caller: Caller<'_, Host>| {
        if caller.data().again {
            caller.data().handle.as_ref().expect("set above").yield_now();
        }
    });
    let instance = instantiate(&mut store, GUEST, &[again.into()]);
    (store, instance)
}

fn export(store: &mut Store<Host>, instance: Instance, name: &str) -> TypedFunc<i32, i64> {
    instance.get_typed_func(store, name).unwrap()
}

/// Those that call `again`, each with how often that is before a place where the code looks, if it is called with 9.
const AGAIN: [(&str, u32); 4] = [("loop", 8), ("recursion", 9), ("tail calls", 9), ("traps", 8)];

fn text<R: std::fmt::Debug>(result: &Result<R, Error>) -> String {
    // With the backtrace.
    format!("{result:?}")
}

#[test]
fn code_gives_way_wherever_it_looks() {
    for_each_engine(|engine| {
        let (mut store, instance) = guest(engine);
        for (name, turns) in AGAIN {
            store.data_mut().again = false;
            let expected = text(&call::<_, i32, i64>(&mut store, instance, name, 9));
            store.data_mut().again = true;
            // A synchronous call goes on.
            assert_eq!(text(&call::<_, i32, i64>(&mut store, instance, name, 9)), expected, "{name}");
            let run = export(&mut store, instance, name);
            for elsewhere in [false, true] {
                let future: BoxFuture<'_, _> = Box::pin(run.call_async(&mut store, 9));
                let (result, pending) = if elsewhere { finish_elsewhere(future).unwrap() } else { finish(future) };
                assert_eq!(text(&result), expected, "{name}");
                // Perhaps one more, for what is left of the last request of the call before.
                assert!((turns..=turns + 1).contains(&pending), "{name}: {pending}");
            }
        }
    });
}

#[test]
fn code_that_gives_way_is_dropped_or_forgotten() {
    for_each_engine(|engine| {
        let (mut store, instance) = guest(engine);
        let direct = export(&mut store, instance, "loop");
        store.data_mut().again = false;
        let expected = direct.call(&mut store, 5).unwrap();
        store.data_mut().again = true;
        for (name, turns) in AGAIN {
            let run = export(&mut store, instance, name);
            for turn in 1..=turns {
                let mut future: BoxFuture<'_, _> = Box::pin(run.call_async(&mut store, 9));
                for _ in 0..turn {
                    assert!(poll(future.as_mut()).is_pending(), "{name}");
                }
                match turn % 3 {
                    0 => drop(future),
                    1 => thread::scope(|scope| scope.spawn(|| drop(future)).join().unwrap()),
                    _ => mem::forget(future),
                }
                assert_eq!(block_on(direct.call_async(&mut store, 5)).unwrap(), expected, "{name}");
            }
        }
    });
}

/// Another thread asks all the time, so that code gives way between any two instructions where it may.
#[test]
fn all_registers_are_kept() {
    for_each_engine(|engine| {
        let (mut store, instance) = guest(engine);
        for (name, n) in [("mix", 100_000), ("bulk", 2)] {
            let expected: i64 = call(&mut store, instance, name, n).unwrap();
            let run = export(&mut store, instance, name);
            let (handle, ends) = (store.interrupt_handle(), AtomicBool::new(false));
            let (result, pending) = thread::scope(|scope| {
                scope.spawn(|| {
                    while !ends.load(Ordering::Relaxed) {
                        handle.yield_now();
                        thread::yield_now();
                    }
                });
                let result = finish_soon(run.call_async(&mut store, n));
                ends.store(true, Ordering::Relaxed);
                result
            });
            assert_eq!(result.unwrap(), expected, "{name} after {pending}");
        }
    });
}

/// As [`finish`], however often it is pending.
fn finish_soon<F: Future>(future: F) -> (F::Output, u64) {
    let mut future = pin!(future);
    let mut pending = 0;
    loop {
        if let Poll::Ready(output) = poll(future.as_mut()) {
            return (output, pending);
        }
        pending += 1;
    }
}

#[test]
fn epochs_make_code_give_way() {
    for_each_engine(|engine| {
        for by_callback in [false, true] {
            let mut store = Store::new(engine, 0);
            let tick = Func::wrap(&mut store, |mut caller: Caller<'_, u32>| {
                *caller.data_mut() += 1;
                caller.engine().increment_epoch();
            });
            let instance = instantiate(&mut store, GUEST, &[tick.into()]);
            if by_callback {
                store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Yield(3)));
            } else {
                store.epoch_deadline_async_yield_and_update(3);
            }
            let run = instance.get_typed_func::<i32, i64>(&mut store, "loop").unwrap();
            store.set_epoch_deadline(2);
            // At the heads that follow ticks 2, 5, ..., 29.
            let (expected, pending) = done(run.call_async(&mut store, 30));
            assert_eq!((*store.data(), pending), (30, 10));
            store.set_epoch_deadline(2);
            assert_eq!(run.call(&mut store, 30).unwrap(), expected);
            // The deadline counts from when the code goes on.
            store.set_epoch_deadline(1);
            let mut future = Box::pin(run.call_async(&mut store, 5));
            assert!(poll(future.as_mut()).is_pending());
            (0..5).for_each(|_| engine.increment_epoch());
            assert!(poll(future.as_mut()).is_pending());
            assert!(poll(future.as_mut()).is_ready());
            drop(future);
            // What is forgotten, or dropped, while it gives way has its next deadline.
            for forgets in [false, true] {
                store.set_epoch_deadline(1);
                let mut future = Box::pin(run.call_async(&mut store, 9));
                assert!(poll(future.as_mut()).is_pending());
                if forgets {
                    mem::forget(future)
                } else {
                    drop(future)
                }
                assert_eq!(done(run.call_async(&mut store, 4)).1, 1);
            }
        }
    });
}

/// Guests that never wait share a thread.
#[test]
fn guests_that_compute_take_turns() {
    for_each_engine(|engine| {
        let (end, ticker) = (Arc::new(AtomicBool::new(false)), engine.clone());
        let ended = end.clone();
        let ticks = thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_micros(100));
                ticker.increment_epoch();
            }
        });
        let mut guests: Vec<(BoxFuture<'_, Trap>, InterruptHandle)> = (0..20)
            .map(|n| {
                let (mut store, instance) = guest(engine);
                store.epoch_deadline_async_yield_and_update(1);
                store.set_epoch_deadline(1);
                let handle = store.interrupt_handle();
                let name = ["spin", "recurse for ever"][n % 2];
                let run = instance.get_typed_func::<(), ()>(&mut store, name).unwrap();
                let future = async move { run.call_async(&mut store, ()).await.unwrap_err().trap().unwrap() };
                (Box::pin(future) as BoxFuture<'_, Trap>, handle)
            })
            .collect();
        for _ in 0..3 {
            for (guest, _) in &mut guests {
                assert!(poll(guest.as_mut()).is_pending());
            }
        }
        for (guest, handle) in guests {
            handle.interrupt();
            assert_eq!(block_on(guest), Trap::Interrupt);
        }
        end.store(true, Ordering::Relaxed);
        ticks.join().unwrap();
    });
}

/// Says to a channel that it was woken.
struct Bell(mpsc::SyncSender<()>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        let _ = self.0.try_send(());
    }
}

/// A store whose `run` waits for ever in an asynchronous host function, within a nested call if `is_nested`.
fn waiting(engine: &Engine, is_nested: bool) -> (Store<Census>, TypedFunc<(), ()>) {
    const WAT: &str = r#"(module (import "" "wait" (func $wait)) (func (export "run") (call $wait)))"#;
    let mut store = Store::new(engine, Census::default());
    let mut wait = Func::wrap_async(&mut store, |mut caller: Caller<'_, Census>, (): ()| {
        Box::new(async move {
            // The function may access the data whenever the store looks for requests.
            let census = caller.data_mut();
            let _guard = census.guard();
            Turns(u32::MAX).await;
            *census = Census::default();
        })
    });
    for _ in 0..u32::from(is_nested) {
        let inner = instantiate(&mut store, WAT, &[wait.into()]).get_typed_func::<(), ()>(&mut store, "run").unwrap();
        wait = Func::wrap_async(&mut store, move |mut caller: Caller<'_, Census>, (): ()| {
            Box::new(async move {
                let _guard = caller.data().guard();
                inner.call_async(&mut caller, ()).await
            })
        });
    }
    let run = instantiate(&mut store, WAT, &[wait.into()]).get_typed_func(&mut store, "run").unwrap();
    (store, run)
}

#[test]
fn requests_end_what_waits() {
    #[derive(Clone, Copy)]
    enum End {
        Handle,
        Deadline,
        Epoch,
    }
    for_each_engine(|engine| {
        for (is_nested, end) in [false, true]
            .into_iter()
            .flat_map(|is_nested| [End::Handle, End::Deadline, End::Epoch].map(|end| (is_nested, end)))
        {
            let (mut store, run) = waiting(engine, is_nested);
            let (census, handle) = (store.data().clone(), store.interrupt_handle());
            let (sender, woken) = mpsc::sync_channel(1);
            let waker = Waker::from(Arc::new(Bell(sender)));
            let mut context = Context::from_waker(&waker);
            match end {
                End::Deadline => store.set_deadline(Instant::now() + Duration::from_millis(2)).unwrap(),
                End::Epoch => store.set_epoch_deadline(1),
                End::Handle => {}
            }
            let mut future = Box::pin(run.call_async(&mut store, ()));
            let error = loop {
                match future.as_mut().poll(&mut context) {
                    Poll::Ready(result) => break result.unwrap_err(),
                    // A deadline may have passed before the code waits.
                    Poll::Pending => assert_eq!(census.alive(), 1 + usize::from(is_nested)),
                }
                match end {
                    End::Handle => handle.interrupt(),
                    End::Epoch => engine.increment_epoch(),
                    End::Deadline => {}
                }
                woken.recv_timeout(Duration::from_secs(20)).expect("the request wakes who polls");
            };
            let trap = if let End::Deadline = end { Trap::Deadline } else { Trap::Interrupt };
            assert_eq!(error.trap(), Some(trap));
            assert_eq!(census.alive(), 0, "the future is dropped");
            drop(future);
            // A deadline stays; one interruption is used up.
            store.set_deadline(None).unwrap();
            store.set_epoch_deadline(u64::MAX);
            let mut future = Box::pin(run.call_async(&mut store, ()));
            assert!(poll(future.as_mut()).is_pending());
        }
    });
}

/// Functions of an epoch's deadline have the store, so they are not called while a host function has it.
#[test]
fn callbacks_are_called_when_the_host_function_has_returned() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, 0);
        let wait = Func::wrap_async(&mut store, |mut caller: Caller<'_, u32>, (): ()| {
            Box::new(async move {
                let data = caller.data_mut();
                for _ in 0..3 {
                    Turns(1).await;
                    assert_eq!(*data, 0);
                }
            })
        });
        let text = r#"(module (import "" "wait" (func $wait)) (func (export "run") (local $n i32)
            (call $wait)
            (loop $head (br_if $head (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 9))))))"#;
        let run = instantiate(&mut store, text, &[wait.into()]).get_typed_func::<(), ()>(&mut store, "run").unwrap();
        store.epoch_deadline_callback(|mut store| {
            *store.data_mut() += 1;
            Ok(UpdateDeadline::Continue(100))
        });
        store.set_epoch_deadline(1);
        let mut future = Box::pin(run.call_async(&mut store, ()));
        for _ in 0..3 {
            assert!(poll(future.as_mut()).is_pending());
            engine.increment_epoch();
        }
        assert!(matches!(poll(future.as_mut()), Poll::Ready(Ok(()))));
        drop(future);
        assert_eq!(*store.data(), 1);
    });
}

/// The current activation is that of the code that goes on, also after a function of an epoch's deadline has run another
/// store's code while memory was filled.
#[test]
fn callbacks_run_code_of_other_stores() {
    const WAT: &str = r#"(module (import "" "again" (func $again)) (memory 1024)
        (func (export "run") (result i64)
            (call $again) (memory.fill (i32.const 0) (i32.const 1) (i32.const 0x4000000)) (i64.load (i32.const -8))))"#;
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let again = Func::wrap(&mut store, |caller: Caller<'_, ()>| caller.engine().increment_epoch());
        let instance = instantiate(&mut store, WAT, &[again.into()]);
        let other = engine.clone();
        store.epoch_deadline_callback(move |_| {
            let (mut store, instance) = guest(&other);
            assert!(call::<_, i32, i64>(&mut store, instance, "traps", 3).is_err());
            Ok(UpdateDeadline::Yield(1))
        });
        store.set_epoch_deadline(1);
        let run = instance.get_typed_func::<(), i64>(&mut store, "run").unwrap();
        assert_eq!(run.call(&mut store, ()).unwrap_err().trap(), Some(Trap::MemoryOutOfBounds));
        let result = finish_elsewhere(Box::pin(run.call_async(&mut store, ()))).unwrap().0;
        assert_eq!(result.unwrap_err().trap(), Some(Trap::MemoryOutOfBounds));
    });
}

/// Wakers are the embedder's code.
#[test]
fn wakers_panic_and_call_back() {
    struct Bomb(InterruptHandle, AtomicUsize);
    impl Wake for Bomb {
        fn wake(self: Arc<Self>) {
            self.1.fetch_add(1, Ordering::Relaxed);
            if self.1.load(Ordering::Relaxed) < 5 {
                self.0.yield_now();
            }
            panic!("woken");
        }
    }
    for_each_engine(|engine| {
        for _ in 0..2 {
            // On the thread that watches deadlines, which goes on.
            let (mut store, run) = waiting(engine, false);
            let bomb = Arc::new(Bomb(store.interrupt_handle(), AtomicUsize::new(0)));
            let waker = Waker::from(bomb.clone());
            store.set_deadline(Instant::now() + Duration::from_millis(1)).unwrap();
            let mut future = Box::pin(run.call_async(&mut store, ()));
            let begun = Instant::now();
            let error = loop {
                if let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                    break result.unwrap_err();
                }
                assert!(begun.elapsed() < Duration::from_secs(20));
                thread::yield_now();
            };
            assert_eq!(error.trap(), Some(Trap::Deadline));
        }
        // Where code gives way.
        let (mut store, instance) = guest(engine);
        let waker = Waker::from(Arc::new(Bomb(store.interrupt_handle(), AtomicUsize::new(9))));
        let run = export(&mut store, instance, "loop");
        let mut future = Box::pin(run.call_async(&mut store, 4));
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut Context::from_waker(&waker))));
        assert_eq!(polled.unwrap_err().downcast_ref(), Some(&"woken"));
        drop(future);
        assert!(block_on(run.call_async(&mut store, 4)).is_ok());
    });
}

/// A host function that is not asynchronous stays on its thread, whatever it does with the store.
#[test]
fn host_functions_are_not_suspended() {
    let engine = Engine::default();
    let bytes = "a".repeat(40 << 20);
    let text = format!(r#"(module (import "" "memory" (memory 1)) (data (i32.const 0) "{bytes}"))"#);
    let large = Module::new(&engine, text).unwrap();
    let (mut store, guest) = guest(&engine);
    let memory = guest.get_export(&mut store, "memory").unwrap();
    let is_inside = Arc::new(AtomicBool::new(false));
    let inside = is_inside.clone();
    let host = Func::wrap(&mut store, move |mut caller: Caller<'_, Host>| {
        inside.store(true, Ordering::Relaxed);
        let handle = caller.data().handle.clone().expect("set by `guest`");
        handle.yield_now();
        Instance::new(&mut caller, &large, std::slice::from_ref(&memory)).unwrap();
        handle.yield_now();
        caller.check_interrupt().unwrap();
        handle.yield_now();
        call_in(&mut caller, guest, "loop");
        inside.store(false, Ordering::Relaxed);
    });
    fn call_in(caller: &mut Caller<'_, Host>, instance: Instance, name: &str) -> i64 {
        instance.get_typed_func::<i32, i64>(&mut *caller, name).unwrap().call(caller, 4).unwrap()
    }
    let host = host.typed::<(), ()>(&store).unwrap();
    let mut future = Box::pin(host.call_async(&mut store, ()));
    while poll(future.as_mut()).is_pending() {
        assert!(!is_inside.load(Ordering::Relaxed), "its frames must not go to another thread");
    }
}
