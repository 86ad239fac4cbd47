//! Interrupting code on every engine: by deadlines, handles and epochs, in whatever it spends its time with.

use crate::engines::{bits, call, configs, for_each_engine, instantiate, setup, trap};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};
use wasmrun::{
    AsContextMut, Caller, Config, Engine, Error, Extern, ExternRef, Func, Instance, InterruptHandle, Module, Result,
    Store, Strategy, Trap, UpdateDeadline, Value,
};

/// What no interruption takes, however loaded the machine is.
const LONG: Duration = Duration::from_secs(20);

/// Functions that do not end, and one that does.
const ENDLESS: [&str; 12] = [
    "loop",
    "nested loops",
    "loop with work",
    "br_table",
    "calls",
    "tail",
    "indirect tail",
    "tail by reference",
    "null",
    "not null",
    "recursion",
    "catch",
];
const GUEST: &str = r#"(module
    (type $t (func)) (type $n (func (param i32)))
    (memory 1) (global $g (mut i32) (i32.const 0))
    (table funcref (elem $odd $even))
    (func $nothing (global.set $g (i32.add (global.get $g) (i32.const 1))))
    (func $loop (export "loop") (loop (br 0)))
    (func (export "nested loops")
        (loop $outer (loop $inner
            (global.set $g (i32.add (global.get $g) (i32.const 1)))
            (br_if $inner (i32.and (global.get $g) (i32.const 15))))
            (br $outer)))
    (func (export "loop with work") (local i32 f64)
        (loop
            (f64.store (i32.and (local.get 0) (i32.const 0xfff8))
                (local.tee 1 (f64.add (local.get 1) (f64.convert_i32_u (local.get 0)))))
            (local.set 0 (i32.add (local.get 0) (i32.const 8)))
            (br 0)))
    (func (export "br_table") (local i32)
        (loop (block (br_table 0 1 0 1 (i32.and (local.get 0) (i32.const 3)))) (br 0)))
    (func (export "calls") (loop (call $nothing) (br 0)))
    (func (export "tail") (return_call $ping (i32.const 1)))
    (func $ping (param i32) (return_call $pong (i32.add (local.get 0) (i32.const 1))))
    (func $pong (param i32) (return_call $ping (i32.mul (local.get 0) (i32.const 3))))
    (func (export "indirect tail") (return_call $odd (i32.const 1)))
    (func $odd (param i32) (return_call_indirect (type $n) (local.get 0) (i32.const 1)))
    (func $even (param i32) (return_call_indirect (type $n) (local.get 0) (i32.const 0)))
    (elem declare func $by_ref)
    (func (export "tail by reference") (return_call $by_ref (i32.const 1)))
    (func $by_ref (param i32) (return_call_ref $n (i32.add (local.get 0) (i32.const 1)) (ref.func $by_ref)))
    (func (export "null") (local funcref) (loop (drop (br_on_null 0 (local.get 0)))))
    (func (export "not null") (local funcref)
        (ref.func $by_ref) (loop (param (ref func)) (local.set 0) (br_on_non_null 0 (local.get 0))))
    (func $tree (export "tree") (param i32) (result i32)
        (if (result i32) (i32.eqz (local.get 0)) (then (i32.const 1))
            (else (i32.add (call $tree (i32.sub (local.get 0) (i32.const 1)))
                (call $tree (i32.sub (local.get 0) (i32.const 1)))))))
    (func (export "recursion") (drop (call $tree (i32.const 200))))
    (func (export "catch") (block (try_table (catch_all 0) (call $loop))))
    (func (export "seven") (result i32) (i32.const 7)))"#;

/// Checks that what would never end has ended as expected.
fn ends(store: &mut Store<()>, instance: Instance, name: &str, expected: Trap) {
    assert_eq!(trap(store, instance, name, ()), Some(expected), "{name}");
}

fn seven<T>(store: &mut Store<T>, instance: Instance) {
    assert_eq!(call::<_, (), i32>(store, instance, "seven", ()).unwrap(), 7);
}

fn in_a_moment(action: impl FnOnce() + Send + 'static) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(3));
        action();
    })
}

#[test]
fn deadlines_end_whatever_runs() {
    for_each_engine(|engine| {
        let (mut store, instance) = setup(engine, GUEST);
        for name in ENDLESS {
            store.set_deadline(Instant::now() + Duration::from_millis(3)).unwrap();
            ends(&mut store, instance, name, Trap::Deadline);
            // It has passed, so nothing else runs either.
            ends(&mut store, instance, name, Trap::Deadline);
            store.set_deadline(None).unwrap();
            seven(&mut store, instance);
        }
    });
}

#[test]
fn handles_end_whatever_runs() {
    for_each_engine(|engine| {
        let (mut store, instance) = setup(engine, GUEST);
        for name in ENDLESS {
            let handle = store.interrupt_handle();
            let thread = in_a_moment(move || handle.clone().interrupt());
            ends(&mut store, instance, name, Trap::Interrupt);
            thread.join().unwrap();
            seven(&mut store, instance);
        }
    });
}

#[test]
fn epochs_end_whatever_runs() {
    for_each_engine(|engine| {
        let (mut store, instance) = setup(engine, GUEST);
        for name in ENDLESS {
            store.set_epoch_deadline(2);
            let ticking = engine.clone();
            let thread = in_a_moment(move || {
                ticking.increment_epoch();
                ticking.increment_epoch();
            });
            ends(&mut store, instance, name, Trap::Interrupt);
            // It stays reached until it is set anew.
            ends(&mut store, instance, name, Trap::Interrupt);
            thread.join().unwrap();
            store.set_epoch_deadline(1);
            seven(&mut store, instance);
        }
    });
}

/// Long enough for the loop to be compiled, with the best settings, and entered while it runs.
#[test]
fn hot_loops_end_too() {
    for config in configs() {
        let (mut store, instance) = setup(&Engine::new(&config).unwrap(), GUEST);
        store.set_deadline(Instant::now() + Duration::from_millis(200)).unwrap();
        ends(&mut store, instance, "loop with work", Trap::Deadline);
        store.set_deadline(Instant::now() + Duration::from_millis(200)).unwrap();
        ends(&mut store, instance, "recursion", Trap::Deadline);
    }
}

#[test]
fn what_is_requested_before_a_call_ends_it() {
    for_each_engine(|engine| {
        let (mut store, instance) = setup(engine, GUEST);
        let handle = store.interrupt_handle();
        handle.interrupt();
        handle.interrupt();
        ends(&mut store, instance, "calls", Trap::Interrupt);
        seven(&mut store, instance);
        // A deadline that is taken back, or put off, ends nothing.
        store.set_deadline(Instant::now()).unwrap();
        store.set_deadline(None).unwrap();
        seven(&mut store, instance);
        store.set_deadline(Instant::now() + Duration::from_millis(1)).unwrap();
        thread::sleep(Duration::from_millis(5));
        store.set_deadline(Instant::now() + LONG).unwrap();
        seven(&mut store, instance);
        store.set_epoch_deadline(1);
        engine.increment_epoch();
        store.set_epoch_deadline(1);
        seven(&mut store, instance);
        // Each request is heard, whichever comes first.
        store.set_deadline(Instant::now()).unwrap();
        handle.interrupt();
        ends(&mut store, instance, "loop", Trap::Interrupt);
        ends(&mut store, instance, "loop", Trap::Deadline);
        drop(store);
        handle.interrupt();
    });
}

#[test]
fn start_functions_end() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let module = Module::new(engine, "(module (func $spin (loop (br 0))) (start $spin))").unwrap();
        store.set_deadline(Instant::now() + Duration::from_millis(3)).unwrap();
        let error = Instance::new(&mut store, &module, &[]).unwrap_err();
        assert_eq!(error.trap(), Some(Trap::Deadline));
        store.set_deadline(None).unwrap();
        let instance = instantiate(&mut store, GUEST, &[]);
        seven(&mut store, instance);
    });
}

/// A loop that counts in all kinds of registers until a global says that it is enough.
const COUNT: &str = r#"(module
    (global (export "enough") (mut i32) (i32.const 0))
    (func (export "count") (param externref) (result i64 i64 f64 i64 externref)
        (local $n i64) (local $hash i64) (local $sum f64) (local $vector v128)
        (loop
            (local.set $n (i64.add (local.get $n) (i64.const 1)))
            (local.set $hash (i64.add (i64.mul (local.get $hash) (i64.const 6364136223846793005)) (local.get $n)))
            (local.set $sum (f64.add (local.get $sum) (f64.const 0.5)))
            (local.set $vector (i64x2.add (local.get $vector) (v128.const i64x2 1 2)))
            (br_if 0 (i32.eqz (global.get 0))))
        (local.get $n) (local.get $hash) (local.get $sum) (i64x2.extract_lane 1 (local.get $vector)) (local.get 0))
    (func (export "one") (result i32) (i32.const 1)))"#;

type Counted = (u64, u64, f64, u64, Option<ExternRef>);

#[test]
fn code_goes_on_after_a_callback() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, (0, None::<Instance>));
        let instance = instantiate(&mut store, COUNT, &[]);
        store.data_mut().1 = Some(instance);
        store.epoch_deadline_callback(move |mut store| {
            let (_, instance) = *store.data();
            let instance = instance.expect("set above");
            let one = instance.get_typed_func::<(), i32>(&mut store, "one")?;
            let one = one.call(&mut store, ())?;
            store.data_mut().0 += one;
            store.gc();
            if store.data().0 == 100 {
                let Some(Extern::Global(enough)) = instance.get_export(&mut store, "enough") else {
                    panic!("it is exported")
                };
                enough.set(&mut store, Value::I32(1))?;
                return Ok(UpdateDeadline::Continue(1));
            }
            // The next one is due at once.
            Ok(UpdateDeadline::Continue(0))
        });
        store.set_epoch_deadline(1);
        let ticking = engine.clone();
        let thread = in_a_moment(move || ticking.increment_epoch());
        let object = ExternRef::new("kept");
        let counted: Counted = call(&mut store, instance, "count", Some(object.clone())).unwrap();
        thread.join().unwrap();
        let (n, hash, sum, vector, got) = counted;
        let expected = (1..=n).fold(0u64, |hash, n| hash.wrapping_mul(6364136223846793005).wrapping_add(n));
        assert_eq!((hash, sum, vector), (expected, n as f64 / 2.0, 2 * n));
        assert!(got.is_some_and(|got| got.same(&object)));
        assert_eq!(store.data().0, 100);
    });
}

/// A request that was made before a call is heard when the arguments are in place: a callback that collects and calls takes
/// nothing from them.
#[test]
fn arguments_outlive_a_callback_at_entry() {
    const GUEST: &str = r#"(module
        (func (export "same") (param externref i64 v128 externref) (result externref i64 i64 externref)
            (call $nothing)
            (local.get 0) (local.get 1) (i64x2.extract_lane 1 (local.get 2)) (local.get 3))
        (func $nothing)
        (func (export "other") (param i64 i64 i64 i64) (result i64 i64 i64 i64)
            (i64.const -1) (i64.const -2) (i64.const -3) (i64.const -4)))"#;
    type Four = (u64, u64, u64, u64);
    type Mixed = (Option<ExternRef>, u64, u64, Option<ExternRef>);
    for_each_engine(|engine| {
        let mut store = Store::new(engine, (0, None::<Instance>));
        let instance = instantiate(&mut store, GUEST, &[]);
        store.data_mut().1 = Some(instance);
        store.epoch_deadline_callback(|mut store| {
            store.data_mut().0 += 1;
            store.gc();
            let instance = store.data().1.expect("set above");
            let other = instance.get_typed_func::<Four, Four>(&mut store, "other")?;
            other.call(&mut store, (5, 6, 7, 8))?;
            Ok(UpdateDeadline::Continue(1))
        });
        for calls in 1..=3 {
            store.set_epoch_deadline(1);
            engine.increment_epoch();
            let vector = 7u128 << 64;
            if calls == 2 {
                // Without types, where arguments take another way.
                let same = instance.get_func(&mut store, "same").unwrap();
                let args = [
                    Value::ExternRef(Some(ExternRef::new("one"))),
                    Value::I64(3),
                    Value::V128(vector),
                    Value::ExternRef(Some(ExternRef::new("two"))),
                ];
                let mut results = vec![Value::I32(0); 4];
                same.call(&mut store, &args, &mut results).unwrap();
                let (Value::ExternRef(Some(one)), Value::ExternRef(Some(two))) = (&results[0], &results[3]) else {
                    panic!("{results:?}")
                };
                assert_eq!(one.data().downcast_ref(), Some(&"one"));
                assert_eq!(two.data().downcast_ref(), Some(&"two"));
                assert_eq!((bits(&results[1]), bits(&results[2])), (3, 7));
            } else {
                let args = (Some(ExternRef::new("one")), 3u64, vector, Some(ExternRef::new("two")));
                let (one, three, seven, two): Mixed = call(&mut store, instance, "same", args).unwrap();
                assert_eq!(one.expect("it is kept").data().downcast_ref(), Some(&"one"));
                assert_eq!(two.expect("it is kept").data().downcast_ref(), Some(&"two"));
                assert_eq!((three, seven), (3, 7));
            }
            assert_eq!(store.data().0, calls);
        }
    });
}

#[test]
fn a_callback_can_end_the_code() {
    for_each_engine(|engine| {
        let (mut store, instance) = setup(engine, GUEST);
        let due = |store: &mut Store<()>| {
            store.set_epoch_deadline(1);
            engine.increment_epoch();
        };
        due(&mut store);
        store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Interrupt));
        ends(&mut store, instance, "loop", Trap::Interrupt);
        due(&mut store);
        store.epoch_deadline_callback(|_| Err(Error::host("enough")));
        let error = call::<_, (), ()>(&mut store, instance, "loop", ()).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.trap()), ("enough", None));
        due(&mut store);
        store.epoch_deadline_callback(|_| panic!("out of patience"));
        for name in ["loop", "tail", "recursion"] {
            due(&mut store);
            let result = catch_unwind(AssertUnwindSafe(|| call::<_, (), ()>(&mut store, instance, name, ())));
            assert_eq!(result.unwrap_err().downcast_ref(), Some(&"out of patience"), "{name}");
        }
        store.epoch_deadline_trap();
        due(&mut store);
        ends(&mut store, instance, "loop", Trap::Interrupt);
        store.set_epoch_deadline(1);
        seven(&mut store, instance);
    });
}

/// A host function that swallows the error of the code that it called: the deadline still holds for its own caller.
#[test]
fn code_below_host_functions_ends() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, (0, None::<Instance>));
        type Data = (u32, Option<Instance>);
        fn spin(caller: &mut Caller<'_, Data>) -> Result<()> {
            caller.as_context_mut().set_deadline(Instant::now() + Duration::from_millis(3))?;
            let inner = caller.data().1.expect("set below").get_typed_func::<(), ()>(&mut *caller, "loop")?;
            inner.call(caller, ())
        }
        let passes = Func::wrap(&mut store, |mut caller: Caller<'_, Data>| spin(&mut caller));
        let swallows = Func::wrap(&mut store, |mut caller: Caller<'_, Data>| {
            assert_eq!(spin(&mut caller).unwrap_err().trap(), Some(Trap::Deadline));
            caller.data_mut().0 += 1;
        });
        let wat = r#"(module (import "" "host" (func $host))
            (func (export "run") (loop (call $host) (br 0))))"#;
        let inner = instantiate(&mut store, GUEST, &[]);
        store.data_mut().1 = Some(inner);
        for host in [passes, swallows] {
            let outer = instantiate(&mut store, wat, &[host.into()]);
            assert_eq!(trap(&mut store, outer, "run", ()), Some(Trap::Deadline));
            store.set_deadline(None).unwrap();
        }
        assert_eq!(store.data().0, 1);
        seven(&mut store, inner);
    });
}

/// Bytes of a piece, after which an instruction looks for requests, and one more.
const PIECE: u32 = 16 << 20;
const MORE: u32 = PIECE + 1;
const SOURCE: u32 = PIECE + 16;

/// A host function that interrupts its store, and an instruction right after its call, which has no loop.
#[test]
fn long_instructions_end_between_two_pieces() {
    // The data segment in the text format takes long to read: it is done once.
    let wat = format!(
        r#"(module (import "" "interrupt" (func $interrupt))
            (memory (export "memory") 600)
            (data $data "{}")
            (func (export "fill") (param i32)
                (call $interrupt) (memory.fill (i32.const 0) (i32.const 1) (local.get 0)))
            (func (export "copy") (param i32)
                (memory.fill (i32.const {SOURCE}) (i32.const 2) (local.get 0))
                (call $interrupt) (memory.copy (i32.const 0) (i32.const {SOURCE}) (local.get 0)))
            (func (export "copy up") (param i32)
                (call $interrupt) (memory.copy (i32.const 1) (i32.const 0) (local.get 0)))
            (func (export "init") (param i32)
                (call $interrupt) (memory.init $data (i32.const 0) (i32.const 0) (local.get 0)))
            (func (export "seven") (result i32) (i32.const 7)))"#,
        "d".repeat(MORE as usize)
    );
    let wasm = wat::parse_str(wat).unwrap();
    for_each_engine(|engine| {
        let mut store = Store::new(engine, None::<InterruptHandle>);
        *store.data_mut() = Some(store.interrupt_handle());
        let interrupt = Func::wrap(&mut store, |caller: Caller<'_, Option<InterruptHandle>>| {
            caller.data().as_ref().expect("set above").interrupt();
        });
        let module = Module::new(engine, &wasm).unwrap();
        let instance = Instance::new(&mut store, &module, &[interrupt.into()]).unwrap();
        let memory = instance.get_memory(&mut store, "memory").unwrap();
        let at = |store: &Store<_>, address: u32| memory.data(store)[address as usize];
        for (name, done, undone) in [("fill", 0, PIECE), ("init", 0, PIECE), ("copy", 0, PIECE), ("copy up", MORE, 1)] {
            memory.data_mut(&mut store)[0..2].copy_from_slice(&[7, 9]);
            memory.data_mut(&mut store)[PIECE as usize..][..2].copy_from_slice(&[9, 8]);
            let before = at(&store, done);
            let ended = call::<_, u32, ()>(&mut store, instance, name, MORE);
            assert_eq!(ended.unwrap_err().trap(), Some(Trap::Interrupt), "{name}");
            assert_ne!(at(&store, done), before, "{name} has begun");
            assert_eq!(at(&store, undone), 9, "{name} has not ended");
            seven(&mut store, instance);
            // One that is short is done: the code comes to its end before it looks.
            call::<_, u32, ()>(&mut store, instance, name, PIECE).unwrap();
            assert_eq!(trap(&mut store, instance, name, 0), Some(Trap::Interrupt), "{name}");
        }
    });
}

#[test]
fn segments_of_many_megabytes_are_copied_in_pieces() {
    let wat = format!(
        r#"(module (memory (export "memory") 300) (memory 1) (data (memory 1) (i32.const 0) "x")
            (data (i32.const 0) "{}"))"#,
        "d".repeat(MORE as usize)
    );
    let engine = Engine::new(Config::new().strategy(Strategy::Interpreter)).unwrap();
    let module = Module::new(&engine, wat).unwrap();
    let mut store = Store::new(&engine, ());
    store.interrupt_handle().interrupt();
    assert_eq!(Instance::new(&mut store, &module, &[]).unwrap_err().trap(), Some(Trap::Interrupt));
    store.set_epoch_deadline(1);
    engine.increment_epoch();
    store.epoch_deadline_callback(|_| panic!("out of patience"));
    let result = catch_unwind(AssertUnwindSafe(|| Instance::new(&mut store, &module, &[])));
    assert_eq!(result.unwrap_err().downcast_ref(), Some(&"out of patience"));
    store.set_epoch_deadline(1);
    let instance = Instance::new(&mut store, &module, &[]).unwrap();
    let memory = instance.get_memory(&mut store, "memory").unwrap();
    assert_eq!(&memory.data(&store)[PIECE as usize..][..2], b"d\0");
}

fn is_readable(fd: &impl std::os::fd::AsFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&now)).unwrap() > 0
}

#[test]
fn host_functions_can_be_interrupted() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, 0);
        // Runs for long, and looks now and then.
        let busy = Func::wrap(&mut store, |mut caller: Caller<'_, i32>| -> Result<()> {
            loop {
                caller.check_interrupt()?;
                thread::yield_now();
            }
        });
        // Waits for what never comes.
        let waits = Func::wrap(&mut store, |mut caller: Caller<'_, i32>| -> Result<()> {
            let fd = caller.interrupt_fd().unwrap();
            loop {
                let timeout = Timespec { tv_sec: LONG.as_secs() as i64, tv_nsec: 0 };
                let ready = poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)).unwrap();
                assert_eq!(ready, 1, "the descriptor becomes readable");
                caller.check_interrupt()?;
            }
        });
        let wat = r#"(module (import "" "host" (func $host)) (func (export "run") (call $host))
            (func (export "seven") (result i32) (i32.const 7)))"#;
        for host in [busy, waits] {
            let instance = instantiate(&mut store, wat, &[host.into()]);
            store.set_deadline(Instant::now() + Duration::from_millis(3)).unwrap();
            assert_eq!(trap(&mut store, instance, "run", ()), Some(Trap::Deadline));
            store.set_deadline(None).unwrap();
            let handle = store.interrupt_handle();
            let thread = in_a_moment(move || handle.interrupt());
            assert_eq!(trap(&mut store, instance, "run", ()), Some(Trap::Interrupt));
            thread.join().unwrap();
            // Requests for a callback are done, and the function goes on.
            let (heard, calls) = channel();
            store.epoch_deadline_callback(move |mut store| {
                *store.data_mut() += 1;
                // The thread that listens may have failed.
                let _ = heard.send(());
                Ok(UpdateDeadline::Continue(1))
            });
            store.set_epoch_deadline(1);
            let (ticking, handle) = (engine.clone(), store.interrupt_handle());
            let thread = thread::spawn(move || {
                let mut called = true;
                for _ in 0..3 {
                    // The deadline may be set only after the call that was heard, so it ticks more than once.
                    called &= (0..1000).any(|_| {
                        ticking.increment_epoch();
                        calls.recv_timeout(LONG / 1000).is_ok()
                    });
                }
                handle.interrupt();
                called
            });
            assert_eq!(trap(&mut store, instance, "run", ()), Some(Trap::Interrupt));
            assert!(thread.join().unwrap());
            assert!(*store.data() >= 3);
            *store.data_mut() = 0;
            store.epoch_deadline_callback(|_| panic!("out of patience"));
            engine.increment_epoch();
            let result = catch_unwind(AssertUnwindSafe(|| call::<_, (), ()>(&mut store, instance, "run", ())));
            assert_eq!(result.unwrap_err().downcast_ref(), Some(&"out of patience"));
            store.epoch_deadline_trap();
            store.set_epoch_deadline(u64::MAX);
            seven(&mut store, instance);
        }
    });
}

/// The descriptor tells of what was requested before it was made, and outlives the store.
#[test]
fn an_interrupt_descriptor_tells_of_earlier_requests() {
    let mut store = Store::new(&Engine::default(), None);
    let host =
        Func::wrap(&mut store, |mut caller: Caller<'_, Option<wasmrun::InterruptFd>>, handle: Option<ExternRef>| {
            let handle = handle.expect("it is given");
            let handle = handle.data().downcast_ref::<InterruptHandle>().expect("a handle");
            handle.interrupt();
            let fd = caller.interrupt_fd().unwrap();
            assert!(is_readable(&fd));
            assert_eq!(caller.check_interrupt().unwrap_err().trap(), Some(Trap::Interrupt));
            assert!(!is_readable(&fd));
            caller.check_interrupt().unwrap();
            handle.interrupt();
            assert!(is_readable(&fd));
            caller.check_interrupt().unwrap_err();
            *caller.data_mut() = Some(fd);
        });
    let handle = store.interrupt_handle();
    host.call(&mut store, &[Value::ExternRef(Some(ExternRef::new(handle.clone())))], &mut []).unwrap();
    let fd = store.into_data().expect("it was kept");
    assert!(!is_readable(&fd));
    handle.interrupt();
    assert!(is_readable(&fd));
}

/// Code makes progress wherever it looks, also if the deadline is reached again at once.
#[test]
fn deadlines_of_no_ticks_do_not_stop_code() {
    const CALLS: &str = r#"(module
        (func $down (param i32) (result i32)
            (if (result i32) (local.get 0)
                (then (i32.add (i32.const 1) (call $down (i32.sub (local.get 0) (i32.const 1)))))
                (else (i32.const 0))))
        (func (export "down") (param i32) (result i32) (call $down (local.get 0))))"#;
    for_each_engine(|engine| {
        let mut store = Store::new(engine, 0);
        let instance = instantiate(&mut store, CALLS, &[]);
        store.epoch_deadline_callback(|mut store| {
            *store.data_mut() += 1;
            Ok(UpdateDeadline::Continue(0))
        });
        store.set_epoch_deadline(0);
        assert_eq!(call::<_, i32, i32>(&mut store, instance, "down", 100).unwrap(), 100);
        assert!(*store.data() > 0);
    });
}
