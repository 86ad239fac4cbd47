//! Shared memories: several stores on several threads have them at once, and wait in them.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use wasmrun::{
    Config, Engine, ErrorKind, Extern, Instance, LinearMemory, Linker, Memory, MemoryType, Module, ResourceLimiter,
    Result, SharedMemory, Store, Strategy, Trap, UpdateDeadline, WaitResult,
};

use crate::engines::{call, for_each_engine, instantiate, setup};

/// Types of memories that may be shared: what a module says of one, and the type of its addresses.
const MEMORIES: [(&str, &str); 3] = [("1 5 shared", "i32"), ("i64 1 5 shared", "i64"), ("1 1 shared", "i32")];

/// Instructions on memory `$m`, whose addresses have type `at`.
fn accesses(at: &str) -> String {
    let mut wat = String::new();
    for (name, ty) in [("i32.load", "i32"), ("i64.load", "i64"), ("i32.load8_s", "i32"), ("i64.atomic.load", "i64")] {
        wat += &format!("(func (export \"{name}\") (param {at}) (result {ty}) ({name} $m offset=8 (local.get 0)))");
    }
    wat += &format!(
        r#"(func (export "store") (param {at} i64) (i64.store $m offset=8 (local.get 0) (local.get 1)))
        (func (export "vector") (param {at}) (result i64)
            (i64x2.extract_lane 1 (v128.load $m (local.get 0))))
        (func (export "add") (param {at} i32) (result i32)
            (i32.atomic.rmw.add $m offset=8 (local.get 0) (local.get 1)))
        (func (export "fill") (param {at} i32 {at}) (memory.fill $m (local.get 0) (local.get 1) (local.get 2)))
        (func (export "copy") (param {at} {at} {at})
            (memory.copy $m $m (local.get 0) (local.get 1) (local.get 2)))
        (func (export "init") (param {at} i32 i32) (memory.init $m $d (local.get 0) (local.get 1) (local.get 2)))
        (func (export "size") (result {at}) (memory.size $m))
        (func (export "grow") (param {at}) (result {at}) (memory.grow $m (local.get 0)))
        (func (export "notify") (param {at} i32) (result i32)
            (memory.atomic.notify $m offset=4 (local.get 0) (local.get 1)))
        (func (export "wait32") (param {at} i32 i64) (result i32)
            (memory.atomic.wait32 $m offset=4 (local.get 0) (local.get 1) (local.get 2)))
        (func (export "wait64") (param {at} i64 i64) (result i32)
            (memory.atomic.wait64 $m offset=8 (local.get 0) (local.get 1) (local.get 2)))
        (data $d "passive") (data (memory $m) ({at}.const 32) "\01\02\03\04\05\06\07\ff")"#
    );
    wat
}

/// Calls an export whose addresses are `i32` or `i64`.
macro_rules! at {
    ($store:expr, $instance:expr, $at:expr, $name:expr, ($($address:expr),*), ($($rest:expr),*) -> $ty:ty) => {
        match $at {
            "i32" => call::<_, _, $ty>($store, $instance, $name, ($($address as i32,)* $($rest,)*)),
            _ => call::<_, _, $ty>($store, $instance, $name, ($($address as i64,)* $($rest,)*)),
        }
    };
}

fn size(store: &mut Store<()>, instance: Instance, at: &str) -> i64 {
    match at {
        "i32" => call::<_, (), i32>(store, instance, "size", ()).unwrap().into(),
        _ => call::<_, (), i64>(store, instance, "size", ()).unwrap(),
    }
}

/// Runs a test on each engine with each kind of shared memory, as the first memory and as the second: with a store, an instance of
/// [`accesses`], and the type of addresses.
fn for_each_memory(test: impl Fn(&mut Store<()>, Instance, &str)) {
    for_each_engine(|engine| {
        for (ty, at) in MEMORIES {
            for before in ["", "(memory 2)"] {
                let wat = format!("(module {before} (memory $m (export \"m\") {ty}) {})", accesses(at));
                let (mut store, instance) = setup(engine, &wat);
                test(&mut store, instance, at);
            }
        }
    });
}

/// Loads, stores, atomic and bulk instructions and segments do what they do on any memory; also as a second memory.
#[test]
fn instructions_work_on_shared_memories() {
    for_each_memory(|store, instance, at| {
        let memory = instance.get_shared_memory(&mut *store, "m").unwrap();
        assert_eq!(at!(store, instance, at, "i64.load", (24), () -> i64).unwrap(), 0xff07060504030201u64 as i64);
        assert_eq!(at!(store, instance, at, "i32.load8_s", (31), () -> i32).unwrap(), -1);
        at!(store, instance, at, "store", (56), (-2i64) -> ()).unwrap();
        assert_eq!(at!(store, instance, at, "i64.atomic.load", (56), () -> i64).unwrap(), -2);
        assert_eq!(at!(store, instance, at, "add", (56), (3) -> i32).unwrap(), -2);
        assert_eq!(at!(store, instance, at, "vector", (56), () -> i64).unwrap(), 0xffff_ffff_0000_0001u64 as i64);
        let mut seen = [0; 8];
        memory.read(64, &mut seen).unwrap();
        assert_eq!(seen, 0xffff_ffff_0000_0001u64.to_le_bytes());
        memory.write(64, &[7; 3]).unwrap();
        assert_eq!(at!(store, instance, at, "i32.load", (56), () -> i32).unwrap(), 0x0007_0707);
        match at {
            "i32" => {
                call::<_, _, ()>(store, instance, "fill", (100, 9, 50)).unwrap();
                call::<_, _, ()>(store, instance, "init", (120, 1, 5)).unwrap();
                call::<_, _, ()>(store, instance, "copy", (101, 100, 49)).unwrap();
            }
            _ => {
                call::<_, _, ()>(store, instance, "fill", (100i64, 9, 50i64)).unwrap();
                call::<_, _, ()>(store, instance, "init", (120i64, 1, 5)).unwrap();
                call::<_, _, ()>(store, instance, "copy", (101i64, 100i64, 49i64)).unwrap();
            }
        }
        let mut seen = [0; 52];
        memory.read(99, &mut seen).unwrap();
        let mut expected = [9; 52];
        (expected[0], expected[51]) = (0, 0);
        expected[22..27].copy_from_slice(b"assiv");
        assert_eq!(seen, expected);
        let error = at!(store, instance, at, "i64.load", (0xfff1), () -> i64).unwrap_err();
        let ErrorKind::Trap { trap: Trap::MemoryOutOfBounds, fault: Some(fault) } = error.kind() else {
            panic!("{error:?}")
        };
        assert_eq!((fault.address, fault.size, fault.length), (0xfff9, 8, 0x10000));
    });
}

#[test]
fn several_stores_have_one_memory() {
    for_each_engine(|engine| {
        let wat = format!("(module (memory $m (export \"m\") 1 5 shared) {})", accesses("i32"));
        let (mut first, definer) = setup(engine, &wat);
        let Some(Extern::SharedMemory(memory)) = definer.get_export(&mut first, "m") else {
            panic!("no shared memory")
        };
        assert!(definer.get_memory(&mut first, "m").is_none());
        let wat = format!(
            "(module (import \"\" \"\" (memory $m 1 5 shared)) (export \"again\" (memory $m)) {})",
            accesses("i32")
        );
        let mut second = Store::new(engine, ());
        let importer = instantiate(&mut second, &wat, &[memory.clone().into()]);
        assert_eq!(importer.get_shared_memory(&mut second, "again").as_ref(), Some(&memory));
        call::<_, _, ()>(&mut first, definer, "store", (0, 77i64)).unwrap();
        assert_eq!(call::<_, _, i32>(&mut second, importer, "add", (0, 1)).unwrap(), 77);
        assert_eq!(call::<_, _, i64>(&mut first, definer, "i64.load", 0).unwrap(), 78);
        // Growth by one is seen by all.
        assert_eq!(call::<_, _, i32>(&mut second, importer, "grow", 2).unwrap(), 1);
        assert_eq!((size(&mut first, definer, "i32"), memory.size(), memory.data_size()), (3, 3, 3 << 16));
        call::<_, _, ()>(&mut first, definer, "store", (0x2_fff0, 5i64)).unwrap();
        assert_eq!(memory.grow(1).unwrap(), 3);
        assert_eq!(call::<_, _, i64>(&mut second, importer, "i64.load", 0x3_fff0).unwrap(), 0);
        assert_eq!(call::<_, _, i32>(&mut first, definer, "grow", 2).unwrap(), -1);
        assert!(matches!(memory.grow(2).unwrap_err().kind(), ErrorKind::Resource(_)));
        // The stores may go.
        drop((first, second));
        let mut seen = [0];
        memory.read(8, &mut seen).unwrap();
        assert_eq!((seen, memory.ty()), ([78], MemoryType::shared(4, 5)));
    });
}

#[test]
fn imports_must_match() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let shared = SharedMemory::new(engine, MemoryType::shared(1, 2)).unwrap();
        let unshared = Memory::new(&mut store, MemoryType::new(1, Some(2))).unwrap();
        for (ty, memory, fits) in [
            ("1 2 shared", Extern::from(shared.clone()), true),
            ("0 3 shared", shared.clone().into(), true),
            ("2 2 shared", shared.clone().into(), false),
            ("1 1 shared", shared.clone().into(), false),
            ("i64 1 2 shared", shared.clone().into(), false),
            ("1 2", shared.clone().into(), false),
            ("1 2 shared", unshared.into(), false),
        ] {
            let module = Module::new(engine, format!("(module (import \"\" \"\" (memory {ty})))")).unwrap();
            match Instance::new(&mut store, &module, &[memory]) {
                Ok(_) => assert!(fits, "{ty}"),
                Err(error) => assert!(!fits && matches!(error.kind(), ErrorKind::Link(_)), "{ty}: {error}"),
            }
        }
        // Its guards are those of its engine.
        let other = Engine::new(Config::new().strategy(Strategy::Interpreter)).unwrap();
        let module = Module::new(&other, "(module (import \"\" \"\" (memory 1 2 shared)))").unwrap();
        let error = Instance::new(&mut Store::new(&other, ()), &module, &[shared.clone().into()]).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Usage(_)), "{error}");
        let mut linker = Linker::new(&other);
        assert!(linker.define(&Store::new(&other, ()), "", "", shared).is_err());
    });
}

#[test]
fn types_that_can_not_be() {
    let engine = Engine::default();
    let mut builder = MemoryType::builder();
    for ty in [
        MemoryType::new(1, Some(2)),
        MemoryType::shared(3, 2),
        MemoryType::shared(1, 0x10001),
        // All of the maximum is reserved.
        builder.memory64(true).shared(true).max(Some(1 << 40)).build().unwrap(),
    ] {
        let error = SharedMemory::new(&engine, ty).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Usage(_) | ErrorKind::Resource(_)), "{ty}: {error}");
    }
    let error = Memory::new(&mut Store::new(&engine, ()), MemoryType::shared(1, 2)).unwrap_err();
    assert!(error.to_string().contains("SharedMemory::new"), "{error}");
    let module = Module::new(&engine, format!("(module (memory i64 1 {} shared))", 1u64 << 40)).unwrap();
    let error = Instance::new(&mut Store::new(&engine, ()), &module, &[]).unwrap_err();
    assert!(error.to_string().contains("too large"), "{error}");
}

#[test]
fn a_wait_says_how_it_ended() {
    for_each_memory(|store, instance, at| {
        at!(store, instance, at, "store", (0), (5i64 << 32 | 6) -> ()).unwrap();
        assert_eq!(at!(store, instance, at, "wait32", (4), (5, 0i64) -> i32).unwrap(), 1);
        assert_eq!(at!(store, instance, at, "wait32", (4), (6, 0i64) -> i32).unwrap(), 2);
        assert_eq!(at!(store, instance, at, "wait32", (8), (5, 1_000_000i64) -> i32).unwrap(), 2);
        assert_eq!(at!(store, instance, at, "wait64", (0), (6i64, -1i64) -> i32).unwrap(), 1);
        assert_eq!(at!(store, instance, at, "wait64", (0), (5i64 << 32 | 6, 1i64) -> i32).unwrap(), 2);
        assert_eq!(at!(store, instance, at, "notify", (4), (-1) -> i32).unwrap(), 0);
        // Alignment comes before bounds, and both before anything else.
        for (name, address, trap) in [
            ("wait32", 6, Trap::HeapMisaligned),
            ("wait32", 0xffff_fffdu32, Trap::HeapMisaligned),
            ("wait32", 0xfffc, Trap::MemoryOutOfBounds),
            ("wait32", 0xffff_fffc, Trap::MemoryOutOfBounds),
        ] {
            let error = at!(store, instance, at, name, (address), (5, 0i64) -> i32).unwrap_err();
            assert_eq!(error.trap(), Some(trap), "{name} {address}");
            let error = at!(store, instance, at, "notify", (address), (1) -> i32).unwrap_err();
            assert_eq!(error.trap(), Some(trap), "notify {address}");
        }
        let error = at!(store, instance, at, "wait64", (4), (5i64, 0i64) -> i32).unwrap_err();
        assert_eq!(error.trap(), Some(Trap::HeapMisaligned));
        if at == "i64" {
            let error = call::<_, _, i32>(store, instance, "wait32", (-4i64, 5, 0i64)).unwrap_err();
            assert_eq!(error.trap(), Some(Trap::MemoryOutOfBounds));
        }
        let frames = |error: wasmrun::Error| error.backtrace().len();
        assert_eq!(frames(at!(store, instance, at, "wait32", (6), (5, 0i64) -> i32).unwrap_err()), 1);
    });
}

/// Notifies until as many were woken.
fn notify_all(memory: &SharedMemory, address: u64, count: u32) {
    let mut woken = 0;
    while woken < count {
        woken += memory.atomic_notify(address, count - woken).unwrap();
        thread::yield_now();
    }
    assert_eq!(memory.atomic_notify(address, u32::MAX).unwrap(), 0);
}

/// On each engine threads wait for the host and for each other.
#[test]
fn threads_wait_for_notifications() {
    for_each_engine(|engine| {
        let wat = format!("(module (import \"\" \"\" (memory $m 1 5 shared)) {})", accesses("i32"));
        let module = Module::new(engine, &wat).unwrap();
        let memory = SharedMemory::new(engine, MemoryType::shared(1, 5)).unwrap();
        thread::scope(|scope| {
            let start = |_| {
                scope.spawn(|| {
                    let mut store = Store::new(engine, ());
                    let instance = Instance::new(&mut store, &module, &[memory.clone().into()]).unwrap();
                    let first: i32 = call(&mut store, instance, "wait32", (1020, 0, -1i64)).unwrap();
                    let second: i32 = call(&mut store, instance, "wait64", (2040, 0i64, i64::MAX)).unwrap();
                    (first, second)
                })
            };
            let threads = [0, 1, 2, 3].map(start);
            notify_all(&memory, 1024, 4);
            let mut store = Store::new(engine, ());
            let instance = Instance::new(&mut store, &module, &[memory.clone().into()]).unwrap();
            let mut woken = 0;
            while woken < 4 {
                woken += call::<_, _, i32>(&mut store, instance, "notify", (2044, 1)).unwrap();
                thread::yield_now();
            }
            for thread in threads {
                assert_eq!(thread.join().unwrap(), (0, 0));
            }
        });
        // The host waits too.
        thread::scope(|scope| {
            let waiter = scope.spawn(|| memory.atomic_wait64(64, 0, None).unwrap());
            notify_all(&memory, 64, 1);
            assert_eq!(waiter.join().unwrap(), WaitResult::Ok);
        });
    });
}

/// A module with a shared memory of this type as its only import.
fn importer(engine: &Engine, ty: &str, rest: &str) -> Module {
    Module::new(engine, format!("(module (import \"\" \"\" (memory {ty} shared)) {rest})")).unwrap()
}

fn instance(module: &Module, memory: &SharedMemory) -> (Store<()>, Instance) {
    let mut store = Store::new(module.engine(), ());
    let instance = Instance::new(&mut store, module, &[memory.clone().into()]).unwrap();
    (store, instance)
}

/// Two threads take turns by the low bit of a number. A wake-up that is lost hangs.
#[test]
fn no_notification_is_lost() {
    const TURNS: &str = r#"
        (func (export "turns") (param $own i32) (param $count i32)
            (local $now i32)
            (loop $next
                (block $ours
                    (loop $again
                        (local.set $now (i32.atomic.load (i32.const 0)))
                        (br_if $ours (i32.eq (i32.and (local.get $now) (i32.const 1)) (local.get $own)))
                        (drop (memory.atomic.wait32 (i32.const 0) (local.get $now) (i64.const -1)))
                        (br $again)))
                (i32.store (i32.const 64) (i32.add (i32.load (i32.const 64)) (i32.const 1)))
                (drop (i32.atomic.rmw.add (i32.const 0) (i32.const 1)))
                (drop (memory.atomic.notify (i32.const 0) (i32.const 1)))
                (br_if $next (local.tee $count (i32.sub (local.get $count) (i32.const 1))))))"#;
    for_each_engine(|engine| {
        let module = importer(engine, "1 1", TURNS);
        let memory = SharedMemory::new(engine, MemoryType::shared(1, 1)).unwrap();
        thread::scope(|scope| {
            for own in [0, 1] {
                let (memory, module) = (&memory, &module);
                scope.spawn(move || {
                    let (mut store, instance) = instance(module, memory);
                    call::<_, _, ()>(&mut store, instance, "turns", (own, 1000)).unwrap();
                });
            }
        });
        let mut count = [0; 4];
        memory.read(64, &mut count).unwrap();
        assert_eq!(u32::from_le_bytes(count), 2000);
    });
}

/// One loop runs all the time, and reads what another thread's growth has added as soon as it can know of it: in each form of
/// instruction, with the length that `memory.size` gives.
#[test]
fn growth_is_seen_by_running_code() {
    const LOOPS: &str = r#"
        (func (export "watch") (param $pages i32) (result i32)
            (local $last i32) (local $sum i32) (local $at i32)
            (loop $again
                ;; The other thread writes to a page after it has grown the memory by it.
                (local.set $sum (i32.add (local.get $sum) (i32.load8_u (local.get $pages))))
                (br_if $again (i32.ne (i32.atomic.load (i32.const 8)) (local.get $pages))))
            (local.set $last (i32.sub (i32.shl (local.get $pages) (i32.const 16)) (i32.const 16)))
            (local.set $sum (i32.add (i32.load (local.get $last)) (i32.load offset=4 (local.get $last))))
            (local.set $at (i32.load (i32.const 16)))
            (local.set $sum (i32.add (local.get $sum)
                (i32.load (i32.add (local.get $at) (i32.shl (i32.load (i32.const 20)) (i32.const 2))))))
            (i64.store (local.get $last) (i64.const 0x100000001))
            (f64.store offset=8 (local.get $last) (f64.load (local.get $last)))
            (i32.add (local.get $sum) (i32.load offset=12 (local.get $last))))
        (func (export "watch size") (param $pages i32)
            (loop $again (br_if $again (i32.lt_u (memory.size) (local.get $pages)))))"#;
    for_each_engine(|engine| {
        let module = importer(engine, "1 40", LOOPS);
        let memory = SharedMemory::new(engine, MemoryType::shared(1, 40)).unwrap();
        let write = |offset: u32, value: u32| memory.write(offset as usize, &value.to_le_bytes()).unwrap();
        thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let (mut store, instance) = instance(&module, &memory);
                let sums = (2..40u32).map(|pages| {
                    let sum = call::<_, _, u32>(&mut store, instance, "watch", pages);
                    write(24, pages);
                    sum.map_err(|error| format!("{pages}: {error}"))
                });
                sums.collect::<Result<Vec<_>, _>>()
            });
            for pages in 2..40u32 {
                assert_eq!(memory.grow(1).unwrap(), u64::from(pages) - 1);
                let last = (pages << 16) - 16;
                write(last, pages);
                write(last + 4, 1000);
                write(16, last - 8);
                write(20, 2);
                write(8, pages);
                let mut done = [0; 4];
                while u32::from_le_bytes(done) != pages && !watcher.is_finished() {
                    thread::yield_now();
                    memory.read(24, &mut done).unwrap();
                }
            }
            let sums: Vec<u32> = (2..40).map(|pages| 2 * pages + 1001).collect();
            assert_eq!(watcher.join().unwrap(), Ok(sums));
        });
        let memory = SharedMemory::new(engine, MemoryType::shared(1, 40)).unwrap();
        thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let (mut store, instance) = instance(&module, &memory);
                call::<_, _, ()>(&mut store, instance, "watch size", 30).unwrap();
            });
            while !watcher.is_finished() {
                let _ = memory.grow(1);
                thread::yield_now();
            }
        });
    });
}

/// Where several threads let a memory grow, each growth is told to one of them, and a limiter allows all that there ever is.
#[test]
fn racing_growth_keeps_to_limits() {
    struct Limit(AtomicUsize);
    impl ResourceLimiter for Limit {
        fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> Result<bool> {
            let allowed = desired <= 30 << 16;
            if allowed {
                self.0.fetch_max(desired, SeqCst);
            }
            Ok(allowed)
        }

        fn table_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> Result<bool> {
            Ok(true)
        }
    }
    const GROW: &str = r#"(func (export "grow") (result i32) (memory.grow (i32.const 1)))"#;
    for_each_engine(|engine| {
        let module = importer(engine, "1 100", GROW);
        let memory = SharedMemory::new(engine, MemoryType::shared(1, 100)).unwrap();
        let mut olds: Vec<i32> = thread::scope(|scope| {
            let grow = |_| {
                scope.spawn(|| {
                    let mut store = Store::new(engine, Limit(AtomicUsize::new(0)));
                    store.limiter(|limit| limit);
                    let instance = Instance::new(&mut store, &module, &[memory.clone().into()]).unwrap();
                    let grow = instance.get_typed_func::<(), i32>(&mut store, "grow").unwrap();
                    let olds = std::iter::from_fn(|| grow.call(&mut store, ()).ok().filter(|old| *old >= 0));
                    let olds: Vec<i32> = olds.collect();
                    // What this thread has added was allowed.
                    let most = olds.last().map_or(0, |old| (*old as usize + 1) << 16);
                    assert!(store.data().0.load(SeqCst) >= most);
                    olds
                })
            };
            let threads = [0, 1, 2, 3].map(grow);
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        olds.sort_unstable();
        assert_eq!((olds, memory.size()), ((1..30).collect(), 30));
    });
}

const WAIT: &str = r#"
    (func (export "wait") (drop (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const -1))))
    (func (export "wait long") (drop (memory.atomic.wait64 (i32.const 0) (i64.const 0) (i64.const 100000000000))))"#;

/// Whatever ends a loop ends a wait, without a notification; the backtrace says where it was.
#[test]
fn waits_are_interrupted() {
    for_each_engine(|engine| {
        let module = importer(engine, "1 1", WAIT);
        let memory = SharedMemory::new(engine, MemoryType::shared(1, 1)).unwrap();
        for name in ["wait", "wait long"] {
            let (mut store, instance) = instance(&module, &memory);
            let handle = store.interrupt_handle();
            let (sender, frames) = channel();
            thread::scope(|scope| {
                let waiter = scope.spawn(move || call::<_, (), ()>(&mut store, instance, name, ()).unwrap_err());
                // It answers, before it waits or while it does, and goes on waiting.
                let mut answers = 0;
                while answers < 3 {
                    let sender = sender.clone();
                    handle.backtrace(move |backtrace| sender.send(backtrace.frames().len()).unwrap());
                    answers += frames.recv().unwrap();
                }
                handle.interrupt();
                let error = waiter.join().unwrap();
                assert_eq!((error.trap(), error.backtrace().len()), (Some(Trap::Interrupt), 1), "{name}: {error:?}");
            });
            // Nobody is left in the queue.
            assert_eq!(memory.atomic_notify(0, u32::MAX).unwrap(), 0);
            let (mut store, instance) = self::instance(&module, &memory);
            store.set_deadline(Instant::now() + Duration::from_millis(20)).unwrap();
            let error = call::<_, (), ()>(&mut store, instance, name, ()).unwrap_err();
            assert_eq!(error.trap(), Some(Trap::Deadline));
            store.set_deadline(Instant::now()).unwrap();
            let error = call::<_, (), ()>(&mut store, instance, name, ()).unwrap_err();
            assert_eq!(error.trap(), Some(Trap::Deadline));
        }
    });
}

/// Epochs interrupt waits, or have a function called, which may end them.
#[test]
fn epochs_reach_those_who_wait() {
    let configs = crate::engines::configs();
    for mut config in configs {
        println!("{config:?}");
        let engine = Engine::new(config.epoch_interruption(true)).unwrap();
        let module = importer(&engine, "1 1", WAIT);
        let memory = SharedMemory::new(&engine, MemoryType::shared(1, 1)).unwrap();
        let (mut store, instance) = instance(&module, &memory);
        let mut calls = 0;
        let own = memory.clone();
        store.epoch_deadline_callback(move |_| {
            calls += 1;
            if calls == 3 {
                // From the thread that waits.
                assert_eq!(own.atomic_notify(0, 1)?, 1);
            }
            Ok(UpdateDeadline::Continue(1))
        });
        store.set_epoch_deadline(1);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| call::<_, (), ()>(&mut store, instance, "wait", ()));
            while !waiter.is_finished() {
                engine.increment_epoch();
                thread::sleep(Duration::from_millis(1));
            }
            waiter.join().unwrap().unwrap();
        });
    }
}

/// Host functions read and write a shared memory by copying.
#[test]
fn host_functions_copy() {
    for_each_engine(|engine| {
        let mut linker = Linker::new(engine);
        let host = |memory: &mut LinearMemory<'_>, at: u32| -> Result<u32> {
            assert!(memory.is_shared());
            let error = memory.unshared_slice(at, 4u32).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Usage(_)), "{error}");
            assert!(memory.unshared_slice_mut(at, 4u32).is_err());
            let error = memory.unshared_slice(memory.len(), 1u32).unwrap_err();
            assert_eq!(error.trap(), Some(Trap::MemoryOutOfBounds));
            memory.write(at, b"hello, shared memory")?;
            memory.fill(at + 5, 2u32, b'-')?;
            assert_eq!(memory.read_string(at, 20u32)?, "hello--shared memory");
            assert_eq!(memory.write_u64(memory.len() - 7, 1).unwrap_err().trap(), Some(Trap::MemoryOutOfBounds));
            memory.write_u16(memory.len() - 2, 0x1234)?;
            memory.read_u32(at + 1)
        };
        linker.func_wrap("host", "f", host).unwrap();
        let module = r#"(module (import "host" "f" (func $f (param i32) (result i32))) (memory 1 1 shared)
            (func (export "run") (param i32) (result i32) (call $f (local.get 0)))
            (func (export "last") (result i32) (i32.load8_u (i32.const 0xffff))))"#;
        let mut store = Store::new(engine, ());
        let instance = linker.instantiate(&mut store, &Module::new(engine, module).unwrap()).unwrap();
        let read = call::<_, _, u32>(&mut store, instance, "run", 33).unwrap();
        assert_eq!(read.to_le_bytes(), *b"ello");
        assert_eq!(call::<_, (), i32>(&mut store, instance, "last", ()).unwrap(), 0x12);
        assert!(call::<_, _, u32>(&mut store, instance, "run", 0xfff0).is_err());
    });
}

/// Litmus tests: two threads run `$a` and `$b` on the same two places at about the same time, again and again. What each found is
/// counted; `forbidden` must never be seen.
struct Litmus {
    name: &'static str,
    a: &'static str,
    b: &'static str,
    /// What is forbidden that `a` and `b` found.
    forbidden: fn(u32, u32) -> bool,
}

/// `$x` and `$y` are places that were 0; what is found is the result.
const LITMUS: [Litmus; 4] = [
    Litmus {
        name: "message passing",
        a: "(i32.store (local.get $x) (i32.const 1)) (i32.atomic.store (local.get $y) (i32.const 1)) (i32.const 0)",
        b: "(i32.shl (i32.atomic.load (local.get $y)) (i32.const 1)) (i32.load (local.get $x)) (i32.or)",
        forbidden: |_, found| found == 2,
    },
    Litmus {
        name: "store buffering",
        a: "(i32.atomic.store (local.get $x) (i32.const 1)) (i32.atomic.load (local.get $y))",
        b: "(i32.atomic.store (local.get $y) (i32.const 1)) (i32.atomic.load (local.get $x))",
        forbidden: |a, b| a == 0 && b == 0,
    },
    Litmus {
        name: "store buffering with fences",
        a: "(i32.store (local.get $x) (i32.const 1)) (atomic.fence) (i32.load (local.get $y))",
        b: "(i32.store (local.get $y) (i32.const 1)) (atomic.fence) (i32.load (local.get $x))",
        forbidden: |a, b| a == 0 && b == 0,
    },
    Litmus {
        name: "load buffering",
        a: "(i32.atomic.load (local.get $x)) (i32.atomic.store (local.get $y) (i32.const 1))",
        b: "(i32.atomic.load (local.get $y)) (i32.atomic.store (local.get $x) (i32.const 1))",
        forbidden: |a, b| a == 1 && b == 1,
    },
];

/// The rounds of a batch have places of their own, 64 bytes apart; before each sixteenth the threads wait for each other, unless
/// that takes so long that one of them seems not to run.
const SLOTS: u32 = 1 << 10;
const BATCHES: u32 = 20;

#[test]
fn forbidden_outcomes_are_never_seen() {
    for_each_engine(|engine| {
        for litmus in &LITMUS {
            let side = |name: &str, body: &str, own: u32| {
                format!(
                    r#"(func ${name} (param $x i32) (param $y i32) (result i32) {body})
                    (func (export "{name}") (param $from i32) (param $count i32)
                        (local $x i32) (local $y i32) (local $end i32) (local $patience i32)
                        (local.set $end (i32.add (local.get $from) (local.get $count)))
                        (loop $next
                            (local.set $x (i32.add (i32.const 0x1000) (i32.mul (i32.rem_u (local.get $from) (i32.const {SLOTS})) (i32.const 128))))
                            (local.set $y (i32.add (local.get $x) (i32.const 64)))
                            (if (i32.eqz (i32.and (local.get $from) (i32.const 15))) (then
                                (drop (i32.atomic.rmw.add (i32.const 0) (i32.const 16)))
                                (local.set $patience (i32.const 10000))
                                (loop $spin
                                    (local.set $patience (i32.sub (local.get $patience) (i32.const 1)))
                                    (br_if $spin (i32.and (i32.ne (local.get $patience) (i32.const 0))
                                        (i32.lt_u (i32.atomic.load (i32.const 0))
                                            (i32.shl (i32.add (local.get $from) (i32.const 16)) (i32.const 1))))))))
                            (i32.store offset={own} (local.get $x) (call ${name} (local.get $x) (local.get $y)))
                            (br_if $next (i32.lt_u
                                (local.tee $from (i32.add (local.get $from) (i32.const 1))) (local.get $end)))))"#
                )
            };
            let wat = side("a", litmus.a, 8) + &side("b", litmus.b, 12);
            let module = importer(engine, "4 4", &wat);
            let memory = SharedMemory::new(engine, MemoryType::shared(4, 4)).unwrap();
            let mut instances = [(); 2].map(|()| instance(&module, &memory));
            let mut seen = 0;
            for from in (0..BATCHES * SLOTS).step_by(SLOTS as usize) {
                thread::scope(|scope| {
                    for ((store, instance), name) in instances.iter_mut().zip(["a", "b"]) {
                        scope.spawn(move || call::<_, _, ()>(store, *instance, name, (from, SLOTS)).unwrap());
                    }
                });
                for slot in 0..SLOTS as usize {
                    let mut found = [0; 16];
                    memory.read(0x1000 + slot * 128, &mut found).unwrap();
                    let word = |at: usize| u32::from_le_bytes(found[at..at + 4].try_into().unwrap());
                    assert!(!(litmus.forbidden)(word(8), word(12)), "{}: {:?}", litmus.name, found);
                    seen += 1;
                    memory.write(0x1000 + slot * 128, &[0; 128]).unwrap();
                }
            }
            assert_eq!(seen, BATCHES * SLOTS);
        }
    });
}

/// A guest that waits in an asynchronous call holds no thread.
#[test]
#[cfg(all(unix, not(target_arch = "s390x")))]
fn an_asynchronous_wait_suspends_the_guest() {
    use crate::asynchronous::poll;
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, Wake};

    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    const WAIT: &str = r#"(func (export "wait") (param i64) (result i32)
        (memory.atomic.wait32 (i32.const 0) (i32.const 0) (local.get 0)))"#;
    for_each_engine(|engine| {
        let module = importer(engine, "1 1", WAIT);
        let memory = SharedMemory::new(engine, MemoryType::shared(1, 1)).unwrap();
        let mut waiters = [(); 3].map(|()| {
            let (mut store, instance) = instance(&module, &memory);
            let wait = instance.get_typed_func::<i64, i32>(&mut store, "wait").unwrap();
            (store, wait)
        });
        // On this one thread: two wait, and the host notifies them one after the other.
        let [(first, wait_first), (second, wait_second), (third, wait_third)] = &mut waiters;
        {
            let mut first = pin!(wait_first.call_async(&mut *first, -1));
            let mut second = pin!(wait_second.call_async(&mut *second, i64::MAX));
            for _ in 0..3 {
                assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
            }
            assert_eq!(memory.atomic_notify(0, 1).unwrap(), 1);
            assert!(matches!(poll(first.as_mut()), Poll::Ready(Ok(0))));
            assert!(poll(second.as_mut()).is_pending());
            assert_eq!(memory.atomic_notify(0, u32::MAX).unwrap(), 1);
            assert!(matches!(poll(second.as_mut()), Poll::Ready(Ok(0))));
        }
        // Time wakes it, and so does a notification from another thread.
        let waker = Arc::new(Unpark(thread::current())).into();
        let finish = |store: &mut Store<()>, wait: &wasmrun::TypedFunc<i64, i32>, nanoseconds| {
            let mut future = pin!(wait.call_async(store, nanoseconds));
            loop {
                if let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                    return result;
                }
                thread::park();
            }
        };
        assert_eq!(finish(third, wait_third, 3_000_000).unwrap(), 2);
        thread::scope(|scope| {
            scope.spawn(|| notify_all(&memory, 0, 1));
            assert_eq!(finish(third, wait_third, -1).unwrap(), 0);
        });
        // An interrupt ends it, and who is dropped leaves the queue.
        let handle = third.interrupt_handle();
        thread::scope(|scope| {
            scope.spawn(|| handle.interrupt());
            assert_eq!(finish(third, wait_third, -1).unwrap_err().trap(), Some(Trap::Interrupt));
        });
        assert!(poll(pin!(wait_third.call_async(third, -1))).is_pending());
        assert_eq!(memory.atomic_notify(0, u32::MAX).unwrap(), 0);
    });
}

#[test]
fn core_dumps_have_what_is_in_them() {
    let engine = Engine::default();
    let module = importer(&engine, "2 4", "");
    let memory = SharedMemory::new(&engine, MemoryType::shared(2, 4)).unwrap();
    let (store, _) = instance(&module, &memory);
    memory.write(70_000, b"seen in the dump").unwrap();
    let dump = wasmrun::WasmCoreDump::capture(&store).serialize(&store, "test").unwrap();
    assert!(dump.windows(16).any(|window| window == b"seen in the dump"));
}
