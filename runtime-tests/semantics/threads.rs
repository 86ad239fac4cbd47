//! One module on many threads, and stores that move between threads.

use crate::engines::{call, for_each_engine, setup};
use std::thread;
use wasmrun::{Engine, Error, Executor, Func, Instance, Linker, Memory, Module, SharedMemory, Store, Trap};

/// Compiles only if the type may be sent to and shared between threads.
fn shareable<T: Send + Sync>() {}

#[test]
fn what_may_be_shared_between_threads() {
    shareable::<Engine>();
    shareable::<Module>();
    shareable::<Linker<()>>();
    shareable::<Store<()>>();
    shareable::<Error>();
    shareable::<Func>();
    shareable::<Memory>();
    shareable::<Instance>();
    shareable::<Executor>();
    shareable::<SharedMemory>();
}

const WORK: &str = r#"(module
    (memory (export "memory") 1) (table funcref (elem $fib $trap)) (type $t (func (param i32) (result i32)))
    (func $fib (export "fib") (param i32) (result i32)
        (if (result i32) (i32.lt_u (local.get 0) (i32.const 2)) (then (local.get 0))
            (else (i32.add (call $fib (i32.sub (local.get 0) (i32.const 1)))
                (call_indirect (type $t) (i32.sub (local.get 0) (i32.const 2)) (i32.const 0))))))
    (func $trap (export "trap") (param i32) (result i32)
        (if (i32.eqz (local.get 0)) (then (return (i32.load (i32.const -1)))))
        (i32.add (i32.const 1) (call $trap (i32.sub (local.get 0) (i32.const 1)))))
    (func $deep (export "deep") (param i32) (result i32) (i32.add (i32.const 1) (call $deep (local.get 0)))))"#;

#[test]
fn many_stores_of_one_module_on_many_threads() {
    for_each_engine(|engine| {
        let module = Module::new(engine, WORK).unwrap();
        thread::scope(|scope| {
            for worker in 0..8 {
                let module = &module;
                scope.spawn(move || {
                    for round in 0..20 {
                        let mut store = Store::new(module.engine(), worker);
                        let instance = Instance::new(&mut store, module, &[]).unwrap();
                        assert_eq!(call::<_, i32, i32>(&mut store, instance, "fib", 15).unwrap(), 610);
                        let error = call::<_, i32, i32>(&mut store, instance, "trap", worker + round).unwrap_err();
                        assert_eq!(error.trap(), Some(Trap::MemoryOutOfBounds));
                        assert_eq!(error.backtrace().len(), (worker + round + 1) as usize);
                        if round % 10 == 0 {
                            let error = call::<_, i32, i32>(&mut store, instance, "deep", 0).unwrap_err();
                            assert_eq!(error.trap(), Some(Trap::StackOverflow));
                        }
                    }
                });
            }
        });
    });
}

#[test]
fn threads_that_race_for_the_first_call() {
    for_each_engine(|engine| {
        for _ in 0..20 {
            let funcs: String =
                (0..20).map(|n| format!("(func (export \"f{n}\") (result i32) (i32.const {n}))")).collect();
            let module = Module::new(engine, format!("(module {funcs})")).unwrap();
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        let mut store = Store::new(engine, ());
                        let instance = Instance::new(&mut store, &module, &[]).unwrap();
                        for n in 0..20 {
                            assert_eq!(call::<_, (), i32>(&mut store, instance, &format!("f{n}"), ()).unwrap(), n);
                        }
                    });
                }
            });
        }
    });
}

#[test]
fn a_store_moves_from_thread_to_thread() {
    for_each_engine(|engine| {
        let (mut store, instance) = setup(engine, WORK);
        for _ in 0..5 {
            store = thread::spawn(move || {
                assert_eq!(call::<_, i32, i32>(&mut store, instance, "fib", 10).unwrap(), 55);
                assert!(call::<_, i32, i32>(&mut store, instance, "trap", 3).is_err());
                assert!(call::<_, i32, i32>(&mut store, instance, "deep", 3).is_err());
                store
            })
            .join()
            .unwrap();
            assert_eq!(call::<_, i32, i32>(&mut store, instance, "fib", 12).unwrap(), 144);
        }
    });
}

#[test]
fn modules_are_compiled_on_many_threads_at_once() {
    for_each_engine(|engine| {
        thread::scope(|scope| {
            for worker in 0..4 {
                scope.spawn(move || {
                    for n in 0..20 {
                        let value = worker * 1000 + n;
                        let wat = format!(
                            r#"(module (func (export "f") (param i32 {}) (result i32) (i32.const {value})))"#,
                            "i64 ".repeat(n as usize)
                        );
                        let (mut store, instance) = setup(engine, &wat);
                        let f = instance.get_func(&mut store, "f").unwrap();
                        let args: Vec<_> = f.ty(&store).params().iter().map(wasmrun::Value::default_for).collect();
                        let mut results = [wasmrun::Value::I32(0)];
                        f.call(&mut store, &args, &mut results).unwrap();
                        assert!(matches!(results[0], wasmrun::Value::I32(v) if v == value));
                    }
                });
            }
        });
    });
}
