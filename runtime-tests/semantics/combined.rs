//! Combinations: requests, budgets, coroutines and stacks, each of which is tested elsewhere by itself.

use crate::engines::{for_each_engine, instantiate};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;
use wasmrun::{
    AsContextMut, Budget, Caller, Config, Engine, Error, Extern, Func, Instance, Ref, Store, StoreContextMut, Trap,
    UpdateDeadline,
};

/// What callbacks run, from the store's data.
struct Data {
    nested: Option<Func>,
    turns: u32,
}

impl Data {
    fn store(engine: &Engine) -> Store<Data> {
        let mut store = Store::new(engine, Data { nested: None, turns: 0 });
        store.set_epoch_deadline(u64::MAX);
        store
    }
}

fn nest(mut store: StoreContextMut<'_, Data>) -> Result<UpdateDeadline, Error> {
    let nested = store.data().nested.expect("it was set").typed::<i32, i32>(&store)?;
    let turns = store.data().turns as i32;
    assert_eq!(nested.call(&mut store, turns)?, turns + 1);
    store.data_mut().turns += 1;
    Ok(UpdateDeadline::Continue(u64::MAX))
}

/// The epoch is reached at once.
fn arm(mut caller: Caller<'_, Data>) {
    caller.as_context_mut().set_epoch_deadline(0);
}

fn nested(store: &mut Store<Data>, instance: Instance) {
    store.data_mut().nested = instance.get_func(&mut *store, "nested");
    store.epoch_deadline_callback(nest);
}

/// The operands of the call are far from the start of its frame, so that the frame pointer is moved there for the call.
#[test]
fn a_callback_at_a_call_from_a_wide_frame_has_the_stack_above_that_frame() {
    let wat = format!(
        r#"(module
            (import "" "arm" (func $arm))
            (func $leaf (export "nested") (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
            (func (export "run") (result i32) (local{})
                (call $arm)
                (call $leaf (i32.const 41))))"#,
        " v128".repeat(34_000)
    );
    for strategy in crate::engines::configs() {
        let mut config: Config = strategy.clone();
        config.max_wasm_stack(640 << 10);
        let engine = Engine::new(&config).unwrap();
        let mut store = Data::store(&engine);
        let arm = Func::wrap(&mut store, arm);
        let instance = instantiate(&mut store, &wat, &[Extern::Func(arm)]);
        nested(&mut store, instance);
        let run = instance.get_typed_func::<(), i32>(&mut store, "run").unwrap();
        assert_eq!(run.call(&mut store, ()).unwrap(), 42);
        assert!(store.data().turns <= 1);
    }
}

/// A host function lowers the budget's stack below what is in use, and then calls from another stack.
#[test]
fn a_budget_may_be_lowered_below_the_stack_in_use() {
    for_each_engine(|engine| {
        let mut store = Data::store(engine);
        let lower = Func::wrap(&mut store, |mut caller: Caller<'_, Data>| {
            caller.as_context_mut().set_budget(&Budget::new().stack(16 << 10))?;
            let nested = caller.data().nested.expect("it was set").typed::<i32, i32>(&caller)?;
            thread::scope(|scope| scope.spawn(|| nested.call(&mut caller, 5)).join().unwrap()).map(|_| ())
        });
        let instance = instantiate(
            &mut store,
            r#"(module
                (import "" "lower" (func $lower))
                (func (export "nested") (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
                (func $down (export "run") (param i32) (local i64 i64 i64 i64 i64 i64 i64 i64)
                    (if (i32.eqz (local.get 0)) (then (call $lower))
                        (else (call $down (i32.sub (local.get 0) (i32.const 1)))))))"#,
            &[Extern::Func(lower)],
        );
        nested(&mut store, instance);
        let run = instance.get_typed_func::<i32, ()>(&mut store, "run").unwrap();
        match run.call(&mut store, 300) {
            Ok(()) => {}
            Err(error) => assert_eq!(error.trap(), Some(Trap::StackOverflow), "{error}"),
        }
    });
}

/// In the middle of a long instruction it is not known where native code was left; functions that a callback runs then are
/// told, and go on.
#[test]
fn a_backtrace_within_a_callback_within_a_long_instruction_is_told() {
    for_each_engine(|engine| {
        let mut store = Data::store(engine);
        let (seen, handle) = (Arc::new(AtomicU32::new(0)), store.interrupt_handle());
        let arm = Func::wrap(&mut store, {
            let seen = seen.clone();
            move |mut caller: Caller<'_, Data>| {
                let seen = seen.clone();
                handle.backtrace(move |_| {
                    seen.fetch_add(1, Ordering::Relaxed);
                });
                caller.as_context_mut().set_epoch_deadline(0);
            }
        });
        let instance = instantiate(
            &mut store,
            r#"(module
                (import "" "arm" (func $arm))
                (memory 300)
                (func (export "nested") (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
                (func (export "run")
                    (call $arm)
                    (memory.fill (i32.const 0) (i32.const 1) (i32.const 17000000))))"#,
            &[Extern::Func(arm)],
        );
        nested(&mut store, instance);
        let run = instance.get_typed_func::<(), ()>(&mut store, "run").unwrap();
        run.call(&mut store, ()).unwrap();
        run.call(&mut store, ()).unwrap();
        assert_eq!(store.data().turns, 2);
        assert!(seen.load(Ordering::Relaxed) >= 1);
    });
}

/// A callback that sets no later deadline does not keep the code from going on.
#[test]
fn code_goes_on_whose_epoch_deadline_is_always_reached() {
    for_each_engine(|engine| {
        let mut store = Data::store(engine);
        let arm = Func::wrap(&mut store, arm);
        let instance = instantiate(
            &mut store,
            r#"(module
                (import "" "arm" (func $arm))
                (func $leaf (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
                (func (export "run") (result i32) (local i32)
                    (call $arm)
                    (loop
                        (local.set 0 (call $leaf (local.get 0)))
                        (br_if 0 (i32.lt_u (local.get 0) (i32.const 20))))
                    (local.get 0)))"#,
            &[Extern::Func(arm)],
        );
        store.epoch_deadline_callback(|mut store| {
            store.data_mut().turns += 1;
            Ok(if store.data().turns < 1000 { UpdateDeadline::Continue(0) } else { UpdateDeadline::Interrupt })
        });
        let run = instance.get_typed_func::<(), i32>(&mut store, "run").unwrap();
        assert_eq!(run.call(&mut store, ()).unwrap(), 20);
    });
}

/// The arguments of a call that can't begin are dropped on its coroutine, whatever their drop does.
#[test]
#[cfg(all(unix, not(target_arch = "s390x")))]
fn arguments_whose_drop_panics_are_dropped_with_a_call_that_does_not_begin() {
    use crate::asynchronous::block_on;
    use wasmrun::ExternRef;

    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let instance = instantiate(
            &mut store,
            r#"(module
                (func (export "take") (param externref) (result i32) (i32.const 3))
                (func (export "spin") (loop (br 0))))"#,
            &[],
        );
        let take = instance.get_typed_func::<Option<ExternRef>, i32>(&mut store, "take").unwrap();
        let spin = instance.get_typed_func::<(), ()>(&mut store, "spin").unwrap();
        store.set_budget(&Budget::new().cpu_time(Duration::from_millis(1))).unwrap();
        assert_eq!(spin.call(&mut store, ()).unwrap_err().trap(), Some(Trap::CpuTime));
        let call = take.call_async(&mut store, Some(ExternRef::new(Bomb)));
        let panic = catch_unwind(AssertUnwindSafe(|| block_on(call))).unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"dropped"));
        store.set_budget(&Budget::new()).unwrap();
        let shared = Arc::new(());
        for _ in 0..50 {
            assert_eq!(take.call(&mut store, Some(ExternRef::new(shared.clone()))).unwrap(), 3);
        }
        store.gc();
        assert!(Arc::strong_count(&shared) < 25, "the store still takes itself to be on the coroutine");
        assert_eq!(block_on(take.call_async(&mut store, None)).unwrap(), 3);
    });
}

/// The elements of a table move when it grows.
#[test]
fn a_loop_sees_where_the_elements_of_a_table_are_that_a_callback_has_grown() {
    for_each_engine(|engine| {
        let mut store = Data::store(engine);
        let arm = Func::wrap(&mut store, arm);
        let instance = instantiate(
            &mut store,
            r#"(module
                (import "" "arm" (func $arm))
                (table (export "table") 3 funcref)
                (func (export "run") (result i32) (local i32 i32)
                    (call $arm)
                    (local.set 0 (ref.is_null (table.get (i32.const 1))))
                    (loop
                        (local.set 0 (i32.add (local.get 0) (ref.is_null (table.get (i32.const 2)))))
                        (br_if 0 (i32.lt_u (local.tee 1 (i32.add (local.get 1) (i32.const 1))) (i32.const 10))))
                    (local.get 0)))"#,
            &[Extern::Func(arm)],
        );
        let (table, set) = (instance.get_table(&mut store, "table").unwrap(), arm);
        store.epoch_deadline_callback(move |mut store| {
            table.grow(&mut store, 1_000_000, Ref::Func(None))?;
            table.set(&mut store, 2, Ref::Func(Some(set)))?;
            Ok(UpdateDeadline::Continue(u64::MAX))
        });
        let run = instance.get_typed_func::<(), i32>(&mut store, "run").unwrap();
        // The first pass may come before the callback.
        let nulls = run.call(&mut store, ()).unwrap();
        assert!((1..=2).contains(&nulls), "{nulls}");
    });
}

/// A panic of one callback does not keep the others from being called.
#[test]
fn each_callback_of_a_backtrace_is_called_though_one_panics() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    for_each_engine(|engine| {
        let mut store = Data::store(engine);
        let instance = instantiate(
            &mut store,
            r#"(module (func $f (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
                (func (export "run") (result i32) (call $f (i32.const 1))))"#,
            &[],
        );
        let run = instance.get_typed_func::<(), i32>(&mut store, "run").unwrap();
        let (handle, bomb, called) = (store.interrupt_handle(), Bomb, Arc::new(AtomicU32::new(0)));
        handle.backtrace(|_| panic!("first"));
        handle.backtrace(move |_| drop(bomb));
        handle.backtrace({
            let called = called.clone();
            move |_| called.store(1, Ordering::Relaxed)
        });
        let panic = catch_unwind(AssertUnwindSafe(|| run.call(&mut store, ()))).unwrap_err();
        assert_eq!((panic.downcast_ref(), called.load(Ordering::Relaxed)), (Some(&"first"), 1));
        assert!(wasmrun::WasmBacktrace::capture(&store).frames().is_empty());
        assert_eq!(run.call(&mut store, ()).unwrap(), 2);
    });
}

/// The clock of another thread says nothing about the time that a call has used.
#[test]
fn code_that_a_host_function_calls_on_another_thread_has_not_used_the_time_of_that_thread() {
    for_each_engine(|engine| {
        let mut store = Data::store(engine);
        let elsewhere = Func::wrap(&mut store, |mut caller: Caller<'_, Data>| {
            let nested = caller.data().nested.expect("it was set").typed::<i32, i32>(&caller)?;
            thread::scope(|scope| {
                let call = || {
                    let busy = std::time::Instant::now();
                    while busy.elapsed() < Duration::from_millis(600) {
                        std::hint::black_box(0);
                    }
                    nested.call(&mut caller, 5)
                };
                scope.spawn(call).join().unwrap()
            })
        });
        let instance = instantiate(
            &mut store,
            r#"(module
                (import "" "elsewhere" (func $elsewhere (result i32)))
                (func $f (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
                (func (export "nested") (param i32) (result i32) (call $f (local.get 0)))
                (func (export "run") (result i32) (call $elsewhere)))"#,
            &[Extern::Func(elsewhere)],
        );
        nested(&mut store, instance);
        let run = instance.get_typed_func::<(), i32>(&mut store, "run").unwrap();
        store.set_budget(&Budget::new().cpu_time(Duration::from_millis(60))).unwrap();
        assert_eq!(run.call(&mut store, ()).unwrap(), 6);
    });
}

/// Values that the interpreter keeps in a register pass the branches and blocks at which a request is seen.
#[test]
fn operands_outlive_a_callback_at_a_branch_over_a_branch() {
    let wat = r#"(module
        (import "" "arm" (func $arm))
        (global $g (mut i64) (i64.const 65535))
        (func (export "nested") (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
        (func (export "run") (param i32) (result i64)
            (call $arm)
            (br_if 0 (global.get $g) (local.get 0))
            i64.extend16_s)
        (func (export "try") (param i32) (result i64)
            (call $arm)
            global.get $g
            (try_table (param i64) (result i64)
                i64.extend16_s)))"#;
    for_each_engine(|engine| {
        let mut store = Data::store(engine);
        let arm = Func::wrap(&mut store, arm);
        let instance = instantiate(&mut store, wat, &[arm.into()]);
        nested(&mut store, instance);
        for name in ["run", "try"] {
            let run = instance.get_typed_func::<i32, i64>(&mut store, name).unwrap();
            for turn in 0..3 {
                store.data_mut().turns = turn;
                assert_eq!(run.call(&mut store, 0).unwrap(), -1, "{name}");
            }
        }
    });
}
