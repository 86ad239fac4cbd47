//! Deep recursion and its end: a trap, never a crash.

use crate::engines::{call, for_each_engine, instantiate, setup, steady_configs, trap};
use std::thread;
use wasmrun::{Caller, Engine, Func, FuncType, Instance, Linker, Module, Result, Store, Trap, ValType, Value};

const RECURSIVE: &str = r#"(module
    (type $t (func (param i64) (result i64)))
    (table funcref (elem $indirect))
    (func $direct (export "direct") (param i64) (result i64)
        (if (result i64) (i64.eqz (local.get 0)) (then (i64.const 0))
            (else (i64.add (i64.const 1) (call $direct (i64.sub (local.get 0) (i64.const 1)))))))
    (func $indirect (export "indirect") (param i64) (result i64)
        (if (result i64) (i64.eqz (local.get 0)) (then (i64.const 0))
            (else (i64.add (i64.const 1)
                (call_indirect (type $t) (i64.sub (local.get 0) (i64.const 1)) (i32.const 0))))))
    (func $ping (export "mutual") (param i64) (result i64) (i64.add (i64.const 1) (call $pong (local.get 0))))
    (func $pong (param i64) (result i64)
        (if (result i64) (i64.eqz (local.get 0)) (then (i64.const 0))
            (else (call $ping (i64.sub (local.get 0) (i64.const 1))))))
    (func (export "forever") (call $f) (call $f)) (func $f (call $g)) (func $g (call $f) (call $f)))"#;

#[test]
fn recursion_without_end_traps_and_may_be_tried_again() {
    for_each_engine(|engine| {
        let (mut store, instance) = setup(engine, RECURSIVE);
        for export in ["direct", "indirect", "mutual"] {
            for _ in 0..20 {
                let error = call::<_, i64, i64>(&mut store, instance, export, i64::MAX).unwrap_err();
                assert_eq!(error.trap(), Some(Trap::StackOverflow));
                assert!((1..=1000).contains(&error.backtrace().len()), "the backtrace is long enough, and bounded");
                assert!(call::<_, i64, i64>(&mut store, instance, export, 1000).is_ok());
            }
        }
        assert_eq!(trap(&mut store, instance, "forever", ()), Some(Trap::StackOverflow));
    });
}

#[test]
fn the_default_stack_is_deep() {
    for_each_engine(|engine| {
        let (mut store, instance) = setup(engine, RECURSIVE);
        for export in ["direct", "indirect"] {
            assert_eq!(call::<_, i64, i64>(&mut store, instance, export, 8000).unwrap(), 8000, "{export}");
        }
    });
}

#[test]
fn the_limit_is_what_the_configuration_says() {
    for mut config in steady_configs() {
        let mut depths = vec![];
        for stack in [64 << 10, 256 << 10, 4 << 20] {
            let engine = Engine::new(config.max_wasm_stack(stack)).unwrap();
            let deepest = thread::Builder::new().stack_size(8 << 20).spawn(move || {
                let (mut store, instance) = setup(&engine, RECURSIVE);
                let fits = |store: &mut Store<()>, n| call::<_, i64, i64>(store, instance, "direct", n).is_ok();
                let (mut low, mut high) = (0, 1 << 20);
                while high - low > 1 {
                    let middle = (low + high) / 2;
                    if fits(&mut store, middle) { low = middle } else { high = middle }
                }
                low
            });
            depths.push(deepest.unwrap().join().unwrap());
        }
        assert!(depths[0] > 100, "{config:?}: {depths:?}");
        assert!(depths[1] > 3 * depths[0] && depths[2] > 12 * depths[1], "{config:?}: {depths:?}");
    }
}

#[test]
fn small_threads_are_enough() {
    for_each_engine(|engine| {
        let engine = engine.clone();
        let run = move || {
            let (mut store, instance) = setup(&engine, RECURSIVE);
            let error = call::<_, i64, i64>(&mut store, instance, "direct", i64::MAX).unwrap_err();
            assert_eq!(error.trap(), Some(Trap::StackOverflow));
            assert_eq!(call::<_, i64, i64>(&mut store, instance, "direct", 100).unwrap(), 100);
        };
        thread::Builder::new().stack_size(512 << 10).spawn(run).unwrap().join().unwrap();
    });
}

#[test]
fn recursion_through_host_functions_traps() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, None::<Instance>);
        let host = Func::wrap(&mut store, |mut caller: Caller<'_, Option<Instance>>, n: i32| -> Result<i32> {
            let run = caller.data().expect("set below").get_typed_func::<i32, i32>(&mut caller, "run")?;
            Ok(run.call(&mut caller, n - 1)? + 1)
        });
        let wat = r#"(module (import "" "host" (func $host (param i32) (result i32)))
            (func (export "run") (param i32) (result i32)
                (if (result i32) (local.get 0) (then (call $host (local.get 0))) (else (i32.const 0)))))"#;
        let instance = instantiate(&mut store, wat, &[host.into()]);
        *store.data_mut() = Some(instance);
        assert_eq!(call::<_, i32, i32>(&mut store, instance, "run", 100).unwrap(), 100);
        for _ in 0..3 {
            let error = call::<_, i32, i32>(&mut store, instance, "run", -1).unwrap_err();
            assert_eq!(error.trap(), Some(Trap::StackOverflow));
        }
        assert_eq!(call::<_, i32, i32>(&mut store, instance, "run", 100).unwrap(), 100);
    });
}

#[test]
fn recursion_through_dynamic_host_functions_and_instances_traps() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, None::<Func>);
        let ty = FuncType::new(store.engine(), [ValType::I64], [ValType::I64]);
        let mut linker = Linker::new(engine);
        linker
            .func_new("h", "next", ty, |mut caller: Caller<'_, Option<Func>>, args, results| {
                let next = caller.data().expect("set below");
                next.call(&mut caller, args, results)
            })
            .unwrap();
        let module = Module::new(
            engine,
            r#"(module (import "h" "next" (func $next (param i64) (result i64)))
                (func (export "next") (param i64) (result i64) (i64.add (i64.const 1) (call $next (local.get 0)))))"#,
        )
        .unwrap();
        let first = linker.instantiate(&mut store, &module).unwrap();
        linker.allow_shadowing(true).instance(&mut store, "h", first).unwrap();
        let second = linker.instantiate(&mut store, &module).unwrap();
        *store.data_mut() = second.get_func(&mut store, "next");
        let error = call::<_, i64, i64>(&mut store, second, "next", 0).unwrap_err();
        assert_eq!(error.trap(), Some(Trap::StackOverflow));
    });
}

#[test]
fn large_frames_overflow_too() {
    for_each_engine(|engine| {
        let sums: String =
            (1..10_000).map(|i| format!("(local.set {i} (i64.add (local.get {i}) (local.get 0)))")).collect();
        let wat = format!(
            r#"(module (func $f (export "f") (param i64) (result i64) (local {})
                {sums} (if (i64.ne (local.get 0) (i64.const 0)) (then
                    (local.set 9999 (i64.add (local.get 9999) (call $f (i64.sub (local.get 0) (i64.const 1)))))))
                (i64.add (local.get 1) (local.get 9999))))"#,
            "i64 ".repeat(9999)
        );
        let (mut store, instance) = setup(engine, &wat);
        // f(n) = 2n + f(n - 1)
        assert_eq!(call::<_, i64, i64>(&mut store, instance, "f", 5).unwrap(), 30);
        let error = call::<_, i64, i64>(&mut store, instance, "f", i64::MAX).unwrap_err();
        assert_eq!(error.trap(), Some(Trap::StackOverflow));
        assert_eq!(call::<_, i64, i64>(&mut store, instance, "f", 5).unwrap(), 30);
    });
}

#[test]
fn tail_calls_take_no_stack() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let host = Func::wrap(&mut store, |a: i64, b: i64| a * 10 + b);
        let instance = instantiate(
            &mut store,
            r#"(module
                (import "" "host" (func $host (param i64 i64) (result i64)))
                (type $three (func (param i64 i64 i64) (result i64)))
                (table funcref (elem $grows $shrinks))
                (func $loop (export "loop") (param i64 i64) (result i64)
                    (if (i64.eqz (local.get 0)) (then (return (local.get 1))))
                    (return_call $loop (i64.sub (local.get 0) (i64.const 1)) (i64.add (local.get 1) (local.get 0))))
                ;; Callees with more and fewer parameters than the caller has.
                (func $shrinks (export "mixed") (param i64 i64 i64 f64 f64 i32 i64 i64 i64 i64 v128) (result i64)
                    (if (i64.eqz (local.get 0)) (then (return (local.get 1))))
                    (return_call $one (i64.sub (local.get 0) (i64.const 1))))
                (func $one (param i64) (result i64)
                    (return_call $three (local.get 0) (i64.const 1) (i64.const 2)))
                (func $three (param i64 i64 i64) (result i64)
                    (return_call_indirect (type $three) (local.get 0) (local.get 1) (local.get 2) (i32.const 0)))
                (func $grows (param i64 i64 i64) (result i64)
                    (return_call $shrinks (local.get 0) (i64.add (local.get 1) (local.get 2)) (i64.const 7)
                        (f64.const 1) (f64.const 2) (i32.const 3) (i64.const 4) (i64.const 5) (i64.const 6)
                        (i64.const 7) (v128.const i64x2 8 9)))
                (func (export "start mixed") (param i64) (result i64) (return_call $one (local.get 0)))
                (func (export "to host") (param i64) (result i64)
                    (return_call $host (local.get 0) (i64.const 3))))"#,
            &[host.into()],
        );
        let n = 1_000_000i64;
        assert_eq!(call::<_, (i64, i64), i64>(&mut store, instance, "loop", (n, 0)).unwrap(), n * (n + 1) / 2);
        assert_eq!(call::<_, i64, i64>(&mut store, instance, "start mixed", n).unwrap(), 3);
        assert_eq!(call::<_, i64, i64>(&mut store, instance, "to host", 4).unwrap(), 43);
        let mixed = instance.get_func(&mut store, "mixed").unwrap();
        let args: Vec<_> = mixed.ty(&store).params().iter().map(Value::default_for).collect();
        let mut results = [Value::I64(1)];
        mixed.call(&mut store, &args, &mut results).unwrap();
        assert!(matches!(results, [Value::I64(0)]));
    });
}
