//! Backtraces of running code: captured by host functions, and asked for by other threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use wasmrun::*;

use super::engines::{call, for_each_engine, instantiate};

/// The names of the functions and where they are.
fn places(frames: &[Frame]) -> Vec<(Option<String>, usize)> {
    frames.iter().map(|frame| (frame.func_name().map(str::to_string), frame.module_offset())).collect()
}

/// What the host function of the test below is to do.
#[derive(Default)]
struct Plan {
    /// Whether the innermost call fails.
    fails: bool,
    /// What the host function calls while its argument is not 0.
    again: Vec<Func>,
    round: usize,
    captured: Vec<(Option<String>, usize)>,
}

#[test]
fn a_captured_backtrace_is_that_of_an_error_there() {
    const LIBRARY: &str = r#"(module
        (import "" "host" (func $host (param i32)))
        (func (export "foreign") (param i32) (call $host (local.get 0)))
        (func (export "foreign_tail") (param i32) (return_call $host (local.get 0))))"#;
    const PROGRAM: &str = r#"(module
        (import "" "host" (func $host (param i32)))
        (import "" "foreign" (func $foreign (param i32)))
        (import "" "foreign_tail" (func $foreign_tail (param i32)))
        (type $t (func (param i32)))
        (table funcref (elem $host $foreign $foreign_tail))
        (func $direct (export "direct") (param i32) (nop) (call $host (local.get 0)) (nop))
        (func (export "indirect") (param i32) (call_indirect (type $t) (local.get 0) (i32.const 0)))
        (func $across (export "across") (param i32) (call $foreign (local.get 0)))
        (func $tail (export "tail") (param i32) (return_call $host (local.get 0)))
        (func (export "calls_tail") (param i32) (call $tail (local.get 0)) (nop))
        (func (export "tail_across") (param i32) (nop) (return_call $foreign (local.get 0)))
        (func (export "across_tail") (param i32) (call $foreign_tail (local.get 0)))
        (func (export "tail_indirect") (param i32) (return_call_indirect (type $t) (local.get 0) (i32.const 2)))
        (func $deep (export "deep") (param i32) (call $down (local.get 0) (i32.const 90)))
        (func $down (param i32 i32)
            (if (local.get 1)
                (then (call $down (local.get 0) (i32.sub (local.get 1) (i32.const 1))))
                (else (call $across (local.get 0)))))
        (func (export "loops") (param i32) (local $i i32)
            (loop $next
                (call $direct (local.get 0))
                (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 20)))))
        (func (export "caught") (param i32)
            (block $caught (try_table (catch_all $caught) (call $across (local.get 0))) (return))))"#;
    const EXPORTS: [&str; 11] = [
        "direct",
        "indirect",
        "across",
        "tail",
        "calls_tail",
        "tail_across",
        "across_tail",
        "tail_indirect",
        "deep",
        "loops",
        "caught",
    ];
    for_each_engine(|engine| {
        let mut store = Store::new(engine, Plan::default());
        let host = Func::wrap(&mut store, |mut caller: Caller<'_, Plan>, left: i32| -> Result<()> {
            if left > 0 {
                let next = caller.data().again[(left as usize + caller.data().round) % EXPORTS.len()];
                return next.call(&mut caller, &[Value::I32(left - 1)], &mut []);
            }
            let captured = places(WasmBacktrace::capture(&caller).frames());
            caller.data_mut().captured = captured;
            if caller.data().fails { Err(Error::host("the innermost call fails")) } else { Ok(()) }
        });
        let library = instantiate(&mut store, LIBRARY, &[host.into()]);
        let [foreign, foreign_tail] =
            ["foreign", "foreign_tail"].map(|name| library.get_func(&mut store, name).unwrap().into());
        let program = instantiate(&mut store, PROGRAM, &[host.into(), foreign, foreign_tail]);
        store.data_mut().again = EXPORTS.map(|name| program.get_func(&mut store, name).unwrap()).to_vec();
        for round in 0..22 {
            for name in EXPORTS {
                // The first rounds let functions change their tier.
                (store.data_mut().fails, store.data_mut().round) = (round >= 11, round);
                let nested = round as i32 % 4 * 2;
                let result = call::<_, i32, ()>(&mut store, program, name, nested);
                let captured = std::mem::take(&mut store.data_mut().captured);
                let is_replaced = nested == 0 && ["tail", "tail_indirect"].contains(&name);
                assert_eq!(captured.is_empty(), is_replaced, "{name} {nested}");
                if round >= 11 {
                    let error = result.unwrap_err();
                    assert_eq!(captured, places(error.backtrace()), "{name} {nested}");
                } else {
                    result.unwrap();
                }
            }
        }
        assert!(WasmBacktrace::capture(&store).frames().is_empty());
    });
}

/// A module whose export `work` calls the host, and then runs until it is interrupted, in `inner`.
const WORK: &str = r#"(module
    (import "" "host" (func $host))
    (memory (export "memory") 1025)
    (func $spin (param i32) (local $i i32)
        (call $host)
        (loop $next (br_if $next (i32.ne (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get 0)))))
    (func $tails (param i32) (if (local.get 0) (then (return_call $tails (i32.sub (local.get 0) (i32.const 1))))))
    (func $calls (param i32)
        (if (local.get 0) (then (call $calls (i32.sub (local.get 0) (i32.const 1))) (call $leaf) (call $leaf))))
    (func $leaf)
    (func (export "loop") (call $spin (i32.const 1000)))
    (func (export "tails") (call $host) (call $tails (i32.const 1000)))
    (func (export "calls") (call $host) (call $calls (i32.const 50)))
    (func (export "fill")
        (call $host)
        (memory.fill (i32.const 0) (i32.const 7) (i32.const 0x4000000))
        (memory.copy (i32.const 0) (i32.const 65536) (i32.const 0x4000000))
        (call $tails (i32.const 3))))"#;

#[test]
fn a_requested_backtrace_is_that_of_an_interruption_there() {
    for_each_engine(|engine| {
        for export in ["loop", "tails", "calls", "fill"] {
            let mut store = Store::new(engine, false);
            let handle = store.interrupt_handle();
            let told = Arc::new(Mutex::new(Vec::new()));
            let host = {
                let told = told.clone();
                Func::wrap(&mut store, move |caller: Caller<'_, bool>| {
                    let told = told.clone();
                    handle.backtrace(move |backtrace| told.lock().unwrap().push(places(backtrace.frames())));
                    if *caller.data() {
                        handle.interrupt();
                    }
                })
            };
            let instance = instantiate(&mut store, WORK, &[host.into()]);
            let work = instance.get_typed_func::<(), ()>(&mut store, export).unwrap();
            for _ in 0..5 {
                work.call(&mut store, ()).unwrap();
                let told = std::mem::take(&mut *told.lock().unwrap());
                assert_eq!(told.len(), 1, "{export}");
                assert!(told[0].iter().any(|(name, _)| name.as_deref() == Some(export)), "{export}: {told:?}");
            }
            *store.data_mut() = true;
            let error = work.call(&mut store, ()).unwrap_err();
            assert_eq!(error.trap(), Some(Trap::Interrupt));
            let told = std::mem::take(&mut *told.lock().unwrap());
            // A bulk instruction may end where nobody knows the functions.
            assert!(told == [places(error.backtrace())] || export == "fill" && told.is_empty(), "{export}: {told:?}");
        }
    });
}

#[test]
fn other_threads_see_what_runs() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let nothing = Func::wrap(&mut store, || {});
        let instance = instantiate(&mut store, WORK, &[nothing.into()]);
        let handle = store.interrupt_handle();
        let (send, receive) = mpsc::channel();
        // Nothing runs yet: the first call tells.
        let first = send.clone();
        handle.backtrace(move |backtrace| first.send(backtrace.frames().len()).unwrap());
        let watcher = std::thread::spawn(move || {
            receive.recv().unwrap();
            for _ in 0..20 {
                let send = send.clone();
                handle.backtrace(move |backtrace| send.send(backtrace.frames().len()).unwrap());
                receive.recv().unwrap();
            }
            handle.interrupt();
        });
        let spin = instance.get_typed_func::<(), ()>(&mut store, "loop").unwrap();
        let error = loop {
            if let Err(error) = spin.call(&mut store, ()) {
                break error;
            }
        };
        assert_eq!(error.trap(), Some(Trap::Interrupt));
        watcher.join().unwrap();
    });
}

#[test]
fn a_panic_of_a_backtrace_callback_goes_on_in_the_caller() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let handle = store.interrupt_handle();
        let planned = AtomicBool::new(true);
        let host = Func::wrap(&mut store, move || {
            let panics = planned.swap(false, Ordering::Relaxed);
            handle.backtrace(move |_| assert!(!panics, "as planned"));
        });
        let instance = instantiate(&mut store, WORK, &[host.into()]);
        let work = instance.get_typed_func::<(), ()>(&mut store, "loop").unwrap();
        let panic = catch_unwind(AssertUnwindSafe(|| work.call(&mut store, ()))).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"as planned"));
        work.call(&mut store, ()).unwrap();
    });
}
