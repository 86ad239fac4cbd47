//! Native stacks other than those of large threads: coroutines, above and below the thread's in address order, and small
//! threads.
#![cfg(all(unix, not(target_arch = "s390x")))]

use crate::engines::{call, configs, for_each_engine, instantiate, setup};
use crate::heap::{HOLDERS, for_each_engine_and_zeal, module};
use corosensei::stack::{Stack, StackPointer};
use corosensei::{Coroutine, CoroutineResult, Yielder, on_stack};
use std::num::NonZeroUsize;
use std::ptr;
use std::thread;
use wasmrun::{Caller, Engine, Error, ErrorKind, ExternRef, Func, Instance, Module, Store, Trap, TypedFunc, Value};

/// On which side of the running thread's stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Above,
    Below,
}

const SIDES: [Side; 2] = [Side::Above, Side::Below];

/// A stack with a guard page below it. One above the thread's has another mapping behind it, without a gap.
struct TestStack {
    map: usize,
    len: usize,
}

const PAGE: usize = 64 << 10;

/// Bytes from one place to the next that a stack is tried at.
const STEP: usize = if size_of::<usize>() == 8 { 16 << 20 } else { 512 << 10 };

impl TestStack {
    fn new(size: usize, side: Side) -> Self {
        let here = &raw const size as usize;
        let len = PAGE + size + PAGE;
        for step in 1..4000 {
            let distance = step * STEP;
            let hint = if side == Side::Above { here.checked_add(distance) } else { here.checked_sub(distance) };
            let Some(hint) = hint.map(|hint| hint / PAGE * PAGE) else { break };
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            // SAFETY: a new mapping, which is only protected and unmapped here and in `drop`.
            unsafe {
                let map = libc::mmap(ptr::without_provenance_mut(hint), len, libc::PROT_NONE, flags, -1, 0);
                assert_ne!(map, libc::MAP_FAILED);
                if (map as usize > here) == (side == Side::Above) {
                    assert_eq!(libc::mprotect(map.byte_add(PAGE), len - PAGE, libc::PROT_READ | libc::PROT_WRITE), 0);
                    return TestStack { map: map as usize, len };
                }
                libc::munmap(map, len);
            }
        }
        panic!("no room {side:?} the thread's stack");
    }
}

impl Drop for TestStack {
    fn drop(&mut self) {
        // SAFETY: ours, and nothing runs on it any more.
        unsafe { libc::munmap(ptr::with_exposed_provenance_mut(self.map), self.len) };
    }
}

// SAFETY: the addresses are those of the mapping; all of it but its lowest page may be used.
unsafe impl Stack for TestStack {
    fn base(&self) -> StackPointer {
        NonZeroUsize::new(self.map + self.len - PAGE).unwrap()
    }

    fn limit(&self) -> StackPointer {
        NonZeroUsize::new(self.map).unwrap()
    }
}

/// Which stacks the host function of [`switching`] goes on with.
#[derive(Default)]
struct State {
    instance: Option<Instance>,
    stacks: Vec<TestStack>,
}

/// An instance of the module whose exports hold exceptions, with an import that goes through all stacks, one from the other,
/// and collects and allocates on each before and after. On the innermost it runs all exports, which call it again.
fn switching(engine: &Engine, stacks: Vec<TestStack>) -> (Store<State>, Instance) {
    fn through(caller: &mut Caller<'_, State>) {
        let instance = caller.data().instance.expect("set below");
        let churn: TypedFunc<i64, ()> = instance.get_typed_func(&mut *caller, "churn").unwrap();
        caller.gc();
        churn.call(&mut *caller, 50).unwrap();
        match caller.data_mut().stacks.pop() {
            Some(mut stack) => {
                on_stack(&mut stack, || through(caller));
                caller.data_mut().stacks.push(stack);
            }
            None => {
                for (export, expected) in HOLDERS {
                    let run: TypedFunc<(), i64> = instance.get_typed_func(&mut *caller, export).unwrap();
                    let depth = caller.data().stacks.len();
                    if depth == 0 && !matches!(export, "global" | "table") && export != "payloads" {
                        // Not those whose global or table the suspended code uses.
                        assert_eq!(inner(&run, caller), expected, "{export}");
                    }
                }
            }
        }
        churn.call(&mut *caller, 50).unwrap();
        caller.gc();
    }
    fn inner(run: &TypedFunc<(), i64>, caller: &mut Caller<'_, State>) -> i64 {
        // The import does nothing in there.
        let instance = caller.data_mut().instance.take();
        let sum = run.call(&mut *caller, ()).unwrap();
        caller.data_mut().instance = instance;
        sum
    }
    let mut store = Store::new(engine, State { instance: None, stacks });
    let across = Func::wrap(&mut store, |mut caller: Caller<'_, State>| {
        if caller.data().instance.is_some() {
            through(&mut caller);
        } else {
            caller.gc();
        }
    });
    let instance = instantiate(&mut store, &module(), &[across.into()]);
    store.data_mut().instance = Some(instance);
    (store, instance)
}

fn holders_hold(store: &mut Store<State>, instance: Instance) {
    for (export, expected) in HOLDERS {
        assert_eq!(call::<_, (), i64>(store, instance, export, ()).unwrap(), expected, "{export}");
    }
}

#[test]
fn exceptions_of_suspended_stacks_stay() {
    for_each_engine_and_zeal(|engine| {
        for sides in [&[Side::Above][..], &[Side::Below], &[Side::Below, Side::Above], &[Side::Above, Side::Below]] {
            let stacks = sides.iter().map(|side| TestStack::new(1 << 20, *side)).collect();
            let (mut store, instance) = switching(engine, stacks);
            holders_hold(&mut store, instance);
            store.gc();
            assert_eq!(store.heap_stats().exceptions as i64, crate::heap::HELD + 1);
        }
    });
}

/// The same for host objects.
#[test]
fn host_objects_of_suspended_stacks_stay() {
    const N: i64 = 20;
    let each = |f: &dyn Fn(i64) -> String| (1..=N).map(f).collect::<String>();
    let wat = format!(
        r#"(module
            (import "" "make" (func $make (param i64) (result externref)))
            (import "" "value" (func $value (param externref) (result i64)))
            (import "" "across" (func $across))
            (func (export "churn") (param i64)
                (loop $again
                    (drop (call $make (i64.const -1)))
                    (br_if $again (i64.ne (local.tee 0 (i64.sub (local.get 0) (i64.const 1))) (i64.const 0)))))
            (func (export "run") (result i64) (local $sum i64) {}
                {} (call $across) {} (local.get $sum)))"#,
        each(&|i| format!("(local $l{i} externref)")),
        each(&|i| format!("(local.set $l{i} (call $make (i64.const {i})))")),
        each(&|i| {
            let term = format!("(i64.mul (i64.const {i}) (call $value (local.get $l{i})))");
            format!("(local.set $sum (i64.add (local.get $sum) {term}))")
        }),
    );
    for_each_engine_and_zeal(|engine| {
        for side in SIDES {
            let mut store = Store::new(engine, None::<Instance>);
            let make = Func::wrap(&mut store, |n: i64| Some(ExternRef::new(n)));
            let value = Func::wrap(&mut store, |object: Option<ExternRef>| {
                *object.expect("an object").data().downcast_ref::<i64>().expect("a number")
            });
            let across = Func::wrap(&mut store, move |mut caller: Caller<'_, Option<Instance>>| {
                let instance = caller.data().expect("set below");
                let churn: TypedFunc<i64, ()> = instance.get_typed_func(&mut caller, "churn").unwrap();
                on_stack(TestStack::new(1 << 20, side), || {
                    churn.call(&mut caller, 10_000).unwrap();
                    caller.gc();
                });
                churn.call(&mut caller, 100).unwrap();
            });
            let instance = instantiate(&mut store, &wat, &[make.into(), value.into(), across.into()]);
            *store.data_mut() = Some(instance);
            for _ in 0..2 {
                let expected = (1..=N).map(|i| i * i).sum::<i64>();
                assert_eq!(call::<_, (), i64>(&mut store, instance, "run", ()).unwrap(), expected);
            }
            store.gc();
            assert_eq!(store.heap_stats().externs, 0);
        }
    });
}

#[test]
fn what_is_made_on_another_stack_is_collected_there() {
    for_each_engine(|engine| {
        for side in SIDES {
            let mut store = Store::new(engine, None::<Instance>);
            let across = Func::wrap(&mut store, move |mut caller: Caller<'_, Option<Instance>>| {
                let instance = caller.data().expect("set below");
                let churn: TypedFunc<i64, ()> = instance.get_typed_func(&mut caller, "churn").unwrap();
                on_stack(TestStack::new(1 << 20, side), || {
                    churn.call(&mut caller, 100_000).unwrap();
                    assert!(caller.heap_stats().exception_bytes < 4 << 20, "{:?}", caller.heap_stats());
                });
                // Back on the stack of the code that waits, what it does not hold is collected again. Words that are left on the
                // stack may keep a few.
                churn.call(&mut caller, 1000).unwrap();
                caller.gc();
                assert!((20..40).contains(&caller.heap_stats().exceptions), "{:?}", caller.heap_stats());
            });
            let instance = instantiate(&mut store, &module(), &[across.into()]);
            *store.data_mut() = Some(instance);
            assert_eq!(call::<_, (), i64>(&mut store, instance, "locals", ()).unwrap(), crate::heap::SUM);
            assert!(store.heap_stats().collections > 0);
        }
    });
}

#[test]
fn a_program_may_run_on_a_coroutine_from_the_start() {
    for_each_engine_and_zeal(|engine| {
        for side in SIDES {
            let (mut store, instance) = switching(engine, vec![]);
            on_stack(TestStack::new(1 << 20, side), || holders_hold(&mut store, instance));
            holders_hold(&mut store, instance);
            // Stacks that are gone, others in their place.
            for size in [1 << 20, 128 << 10, 4 << 20] {
                on_stack(TestStack::new(size, side), || holders_hold(&mut store, instance));
            }
        }
    });
}

const RECURSIVE: &str = r#"(module
    (import "" "host" (func $host (param i64) (result i64)))
    (func $direct (export "direct") (param i64) (result i64)
        (if (result i64) (i64.eqz (local.get 0)) (then (i64.const 0))
            (else (i64.add (i64.const 1) (call $direct (i64.sub (local.get 0) (i64.const 1)))))))
    (func (export "through host") (param i64) (result i64)
        (if (result i64) (i64.eqz (local.get 0)) (then (i64.const 0))
            (else (i64.add (i64.const 1) (call $host (i64.sub (local.get 0) (i64.const 1))))))))"#;

/// An instance whose import calls back on a new stack of this size each time, or on the same if that is 0.
fn recursive(engine: &Engine, size: usize, side: Side) -> (Store<Option<Instance>>, Instance) {
    let mut store = Store::new(engine, None::<Instance>);
    let host = Func::wrap(&mut store, move |mut caller: Caller<'_, Option<Instance>>, n: i64| {
        let instance = caller.data().expect("set below");
        let again: TypedFunc<i64, i64> = instance.get_typed_func(&mut caller, "through host")?;
        if size == 0 {
            again.call(&mut caller, n)
        } else {
            on_stack(TestStack::new(size, side), || again.call(&mut caller, n))
        }
    });
    let instance = instantiate(&mut store, RECURSIVE, &[host.into()]);
    *store.data_mut() = Some(instance);
    (store, instance)
}

fn recursion_ends(store: &mut Store<Option<Instance>>, instance: Instance, export: &str) {
    for _ in 0..2 {
        assert_eq!(call::<_, i64, i64>(store, instance, export, 30).unwrap(), 30, "{export}");
        let error = call::<_, i64, i64>(store, instance, export, i64::MAX).unwrap_err();
        assert_eq!(error.trap(), Some(Trap::StackOverflow), "{export}: {error}");
    }
}

#[test]
fn recursion_on_a_coroutine_traps() {
    for_each_engine(|engine| {
        for side in SIDES {
            for size in [128 << 10, 256 << 10, 1 << 20, 16 << 20] {
                let (mut store, instance) = recursive(engine, 0, side);
                on_stack(TestStack::new(size, side), || {
                    recursion_ends(&mut store, instance, "direct");
                    recursion_ends(&mut store, instance, "through host");
                });
                recursion_ends(&mut store, instance, "direct");
            }
        }
    });
}

#[test]
fn recursion_from_coroutine_to_coroutine_traps() {
    // Where addresses have 32 bits, thousands of stacks have no room above the thread's, nor those of a deep recursion below.
    let is_narrow = size_of::<usize>() < 8;
    let sides = if is_narrow { &[Side::Below] } else { &SIDES[..] };
    for mut config in configs() {
        if is_narrow {
            config.max_wasm_stack(64 << 10);
        }
        let engine = Engine::new(&config).unwrap();
        for side in sides {
            let (mut store, instance) = recursive(&engine, 256 << 10, *side);
            recursion_ends(&mut store, instance, "through host");
            recursion_ends(&mut store, instance, "direct");
        }
    }
}

#[test]
fn the_limit_of_the_outer_stack_is_in_force_again_afterwards() {
    for_each_engine(|engine| {
        for side in SIDES {
            let mut store = Store::new(engine, None::<Instance>);
            let host = Func::wrap(&mut store, move |mut caller: Caller<'_, Option<Instance>>, n: i64| {
                let instance = caller.data().expect("set below");
                let direct: TypedFunc<i64, i64> = instance.get_typed_func(&mut caller, "direct")?;
                let mut run = || {
                    let error = direct.call(&mut caller, i64::MAX).unwrap_err();
                    assert_eq!(error.trap(), Some(Trap::StackOverflow));
                    direct.call(&mut caller, 5)
                };
                run()?;
                on_stack(TestStack::new(1 << 20, side), &mut run)?;
                run()?;
                Ok::<i64, wasmrun::Error>(n)
            });
            let instance = instantiate(&mut store, RECURSIVE, &[host.into()]);
            *store.data_mut() = Some(instance);
            for _ in 0..3 {
                assert_eq!(call::<_, i64, i64>(&mut store, instance, "through host", 10).unwrap(), 10);
            }
        }
    });
}

#[test]
fn a_stack_that_is_too_small_is_an_error() {
    for_each_engine(|engine| {
        for side in SIDES {
            let (mut store, instance) = recursive(engine, 0, side);
            let error = on_stack(TestStack::new(64 << 10, side), || {
                call::<_, i64, i64>(&mut store, instance, "direct", 5).unwrap_err()
            });
            assert!(matches!(error.kind(), ErrorKind::Resource(_)), "{error}");
            assert!(error.to_string().contains("too small"), "{error}");
            assert_eq!(call::<_, i64, i64>(&mut store, instance, "direct", 5).unwrap(), 5);
        }
    });
}

/// Without a guard, deep recursion would go on in what lies below.
#[test]
fn a_stack_without_a_guard_is_refused() {
    for_each_engine(|engine| {
        for side in SIDES {
            let (mut store, instance) = recursive(engine, 0, side);
            let stack = TestStack::new(1 << 20, side);
            // SAFETY: the guard page of a mapping of our own; it can be read only, so that it is a mapping of its own.
            unsafe {
                let guard = ptr::with_exposed_provenance_mut(stack.map);
                assert_eq!(libc::mprotect(guard, PAGE, libc::PROT_READ), 0);
            }
            let error = on_stack(stack, || call::<_, i64, i64>(&mut store, instance, "direct", 5).unwrap_err());
            assert!(matches!(error.kind(), ErrorKind::Resource(_)), "{error}");
        }
    });
}

#[test]
fn a_collection_on_a_stack_that_runs_nothing_waits() {
    for_each_engine(|engine| {
        for side in SIDES {
            let mut store = Store::new(engine, ());
            let across = Func::wrap(&mut store, move |mut caller: Caller<'_, ()>| {
                let before = caller.heap_stats();
                on_stack(TestStack::new(1 << 20, side), || caller.gc());
                assert_eq!(caller.heap_stats(), before);
            });
            let instance = instantiate(&mut store, &module(), &[across.into()]);
            for (export, expected) in HOLDERS {
                assert_eq!(call::<_, (), i64>(&mut store, instance, export, ()).unwrap(), expected, "{export}");
            }
        }
    });
}

#[test]
fn a_panic_passes_from_stack_to_stack() {
    for_each_engine(|engine| {
        for side in SIDES {
            let mut store = Store::new(engine, None::<Instance>);
            let across = Func::wrap(&mut store, move |mut caller: Caller<'_, Option<Instance>>| {
                let Some(instance) = caller.data_mut().take() else { panic!("in the middle") };
                let make: TypedFunc<(), i64> = instance.get_typed_func(&mut caller, "locals").unwrap();
                on_stack(TestStack::new(1 << 20, side), || make.call(&mut caller, ()).unwrap());
            });
            let instance = instantiate(&mut store, &module(), &[across.into()]);
            for _ in 0..3 {
                *store.data_mut() = Some(instance);
                let run = std::panic::AssertUnwindSafe(|| call::<_, (), i64>(&mut store, instance, "locals", ()));
                let panic = std::panic::catch_unwind(run).unwrap_err();
                assert_eq!(panic.downcast_ref::<&str>(), Some(&"in the middle"));
            }
            store.gc();
            assert_eq!(store.heap_stats().exceptions, 0);
        }
    });
}

type Host = Yielder<(), ()>;

/// A store of its own on a stack of its own, whose import gives way to who runs the coroutine.
fn giving_way(engine: &Engine, export: &'static str) -> Coroutine<(), (), Result<i32, Error>> {
    const WAT: &str = r#"(module
        (import "" "give way" (func $give_way))
        (memory 1)
        (tag $tag (param i32))
        (func $throws (export "throws") (result i32) (call $give_way) (call $give_way) (throw $tag (i32.const 7)))
        (func (export "catches") (result i32)
            (block $caught (result i32) (try_table (result i32) (catch $tag $caught) (call $throws))))
        (func (export "returns") (result i32) (call $give_way) (call $give_way) (i32.const 7))
        (func (export "unreachable") (result i32) (call $give_way) (call $give_way) (unreachable))
        (func (export "loads") (result i32) (call $give_way) (call $give_way) (i32.load (i32.const -4))))"#;
    let engine = engine.clone();
    Coroutine::new(move |host: &Host, ()| {
        let mut store = Store::new(&engine, ptr::from_ref(host));
        let give_way = Func::wrap(&mut store, |caller: Caller<'_, *const Host>| {
            // SAFETY: lives as long as the coroutine, on which the store is.
            unsafe { (**caller.data()).suspend(()) }
        });
        let instance = instantiate(&mut store, WAT, &[give_way.into()]);
        call::<_, (), i32>(&mut store, instance, export, ())
    })
}

/// What ends on one stack leaves none of the code on the other, in whatever order they began, and neither does what is
/// dropped in the middle.
#[test]
fn stores_on_two_coroutines_take_turns() {
    const EXPORTS: [&str; 5] = ["returns", "unreachable", "loads", "throws", "catches"];
    const TURNS: [&[usize]; 6] =
        [&[0, 1, 0, 0, 1, 1], &[0, 1, 1, 1, 0, 0], &[0, 1, 0, 1, 0, 1], &[0, 1, 0, 1, 1, 0], &[0, 1, 0, 0], &[0, 1, 1]];
    for_each_engine(|engine| {
        for (first, second, turns) in
            EXPORTS.iter().flat_map(|a| EXPORTS.iter().flat_map(move |b| TURNS.map(|turns| (a, b, turns))))
        {
            let mut coroutines = [first, second].map(|export| giving_way(engine, export));
            for turn in turns {
                let CoroutineResult::Return(result) = coroutines[*turn].resume(()) else { continue };
                match (*[first, second][*turn], result) {
                    ("returns" | "catches", Ok(7)) => {}
                    ("unreachable", Err(error)) => assert_eq!(error.trap(), Some(Trap::Unreachable)),
                    ("loads", Err(error)) => assert_eq!(error.trap(), Some(Trap::MemoryOutOfBounds)),
                    ("throws", Err(error)) => assert!(matches!(error.kind(), ErrorKind::Exception(_))),
                    (export, result) => panic!("{export}: {result:?}"),
                }
            }
        }
    });
}

/// Runs `run` on a thread with exactly this much stack. The standard library's may have more, left over from others.
fn on_thread<R: Send>(size: usize, run: impl FnOnce() -> R + Send) -> R {
    struct Work<F, R>(Option<F>, Option<thread::Result<R>>);
    extern "C" fn main<F: FnOnce() -> R, R>(work: *mut libc::c_void) -> *mut libc::c_void {
        // SAFETY: given below, and waited for.
        let work = unsafe { &mut *work.cast::<Work<F, R>>() };
        let run = work.0.take().expect("it starts once");
        work.1 = Some(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)));
        ptr::null_mut()
    }
    fn start<F: FnOnce() -> R, R>(_: &F) -> extern "C" fn(*mut libc::c_void) -> *mut libc::c_void {
        main::<F, R>
    }
    // Declared here because the libc crate lacks it for Apple's systems.
    unsafe extern "C" {
        fn pthread_attr_setstack(
            attr: *mut libc::pthread_attr_t,
            low: *mut libc::c_void,
            size: libc::size_t,
        ) -> libc::c_int;
    }
    let start = start(&run);
    let stack = TestStack::new(size, Side::Below);
    let mut work = Work(Some(run), None);
    // SAFETY: the stack is used by the thread alone, which ends here; what it gets may be sent to it.
    unsafe {
        let mut attr = std::mem::zeroed();
        assert_eq!(libc::pthread_attr_init(&mut attr), 0);
        let low = ptr::with_exposed_provenance_mut(stack.map + PAGE);
        assert_eq!(pthread_attr_setstack(&mut attr, low, size), 0);
        let mut id = std::mem::zeroed();
        assert_eq!(libc::pthread_create(&mut id, &attr, start, (&raw mut work).cast()), 0);
        assert_eq!(libc::pthread_join(id, ptr::null_mut()), 0);
        libc::pthread_attr_destroy(&mut attr);
    }
    work.1.expect("it ran").unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[test]
fn threads_of_128_kib_run_programs() {
    for config in configs() {
        println!("{config:?}");
        on_thread(128 << 10, move || {
            let engine = Engine::new(&config).unwrap();
            let (mut store, instance) = recursive(&engine, 0, Side::Below);
            recursion_ends(&mut store, instance, "direct");
            recursion_ends(&mut store, instance, "through host");
            let (mut store, instance) = switching(&engine, vec![]);
            holders_hold(&mut store, instance);
        });
    }
}

#[test]
fn threads_of_64_kib_get_an_error() {
    for config in configs() {
        println!("{config:?}");
        on_thread(64 << 10, move || {
            let engine = Engine::new(&config).unwrap();
            let (mut store, instance) = setup(&engine, r#"(module (func (export "f") (result i32) (i32.const 1)))"#);
            let error = call::<_, (), i32>(&mut store, instance, "f", ()).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Resource(_)), "{error}");
            let start = Module::new(&engine, "(module (func $f) (start $f))").unwrap();
            let error = Instance::new(&mut store, &start, &[]).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Resource(_)), "{error}");
            let object = Value::ExternRef(Some(ExternRef::new(5)));
            assert!(matches!(object, Value::ExternRef(Some(_))));
        });
    }
}
