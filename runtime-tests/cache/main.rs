//! Compiled code on disk: what is kept is used, what can't be trusted is not, and results never depend on it.
#![cfg(jit)]

#[path = "../common/mod.rs"]
mod common;

mod ahead_of_time;
mod bytecode;
mod damage;
mod place;
mod program;

use std::fs;
use std::path::{Path, PathBuf};
use wasmrun::{Cache, CacheStats, Config, Engine, Instance, Module, Store, Strategy, Tiering, Trap};

/// Loops, calls of all kinds, memory, exceptions and traps: all that tables go with.
const MIXED: &str = r#"(module
    (type $unary (func (param i32) (result i32)))
    (type $other (func (param i64) (result i64)))
    (memory 1)
    (table funcref (elem $double $fib $wide))
    (tag $e (param i32))
    (func $double (type $unary) (i32.mul (local.get 0) (i32.const 2)))
    (func $wide (type $other) (local.get 0))
    (func $fib (type $unary)
        (if (result i32) (i32.lt_u (local.get 0) (i32.const 2))
            (then (local.get 0))
            (else (i32.add
                (call $fib (i32.sub (local.get 0) (i32.const 1)))
                (call $fib (i32.sub (local.get 0) (i32.const 2)))))))
    (func $throw (param i32) (throw $e (i32.add (local.get 0) (i32.const 100))))
    (func (export "sum") (param i32) (result i32) (local $sum i32)
        (loop $again
            (i32.store (i32.shl (local.get 0) (i32.const 2)) (local.get 0))
            (local.set $sum (i32.add (local.get $sum) (i32.load (i32.shl (local.get 0) (i32.const 2)))))
            (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
        (local.get $sum))
    (func (export "indirect") (param i32 i32) (result i32)
        (call_indirect (type $unary) (local.get 1) (local.get 0)))
    (func (export "catch") (param i32) (result i32)
        (block $caught (result i32)
            (try_table (catch $e $caught) (call $throw (local.get 0)))
            (i32.const 0)))
    (func (export "load") (param i32) (result i32) (i32.load offset=16 (local.get 0))))"#;

fn config(cache: Cache) -> Config {
    let mut config = Config::new();
    config.strategy(Strategy::Jit).cache(cache);
    config
}

/// Runs all of [`MIXED`], and checks what comes out of it; what the cache did.
fn check(config: &Config) -> CacheStats {
    check_in(&Engine::new(config).unwrap())
}

fn check_in(engine: &Engine) -> CacheStats {
    let module = Module::new(engine, MIXED).unwrap();
    check_module(&module);
    module.cache_stats()
}

fn check_module(module: &Module) {
    let mut store = Store::new(module.engine(), ());
    let instance = Instance::new(&mut store, module, &[]).unwrap();
    let mut call = |name: &str, arg: i32| {
        let func = instance.get_typed_func::<i32, i32>(&mut store, name).unwrap();
        func.call(&mut store, arg)
    };
    assert_eq!(call("sum", 1000).unwrap(), 500_500);
    assert_eq!(call("catch", 7).unwrap(), 107);
    assert_eq!(call("load", 8).unwrap(), 6);
    let error = call("load", 65_536 - 16).unwrap_err();
    assert_eq!(error.trap(), Some(Trap::MemoryOutOfBounds));
    let frame = &error.backtrace()[0];
    // Where the load is in the binary: what the cache says of the code is right too.
    assert_eq!((frame.func_index(), frame.module_offset()), (7, load_offset()));
    let mut indirect = |function: i32, arg: i32| {
        let func = instance.get_typed_func::<(i32, i32), i32>(&mut store, "indirect").unwrap();
        func.call(&mut store, (function, arg))
    };
    assert_eq!(indirect(0, 21).unwrap(), 42);
    assert_eq!(indirect(1, 15).unwrap(), 610);
    assert_eq!(indirect(2, 1).unwrap_err().trap(), Some(Trap::IndirectCallTypeMismatch));
    assert_eq!(indirect(3, 1).unwrap_err().trap(), Some(Trap::UndefinedElement));
}

/// The byte offset of the last function's `i32.load` in [`MIXED`].
fn load_offset() -> usize {
    let binary = wat::parse_str(MIXED).unwrap();
    let load = [0x28, 2, 16];
    binary.windows(3).rposition(|bytes| bytes == load).unwrap()
}

/// Files in a cache's directory, and the folders in it.
fn files(dir: &Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let files = folders.flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
    files.collect()
}

#[test]
fn the_second_run_uses_what_the_first_compiled() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(Cache::in_dir(dir.path().join("a/b")));
    let first = check(&config);
    assert_eq!((first.loaded, first.rejected), (0, 0));
    assert!(first.recorded >= 7, "{first:?}");
    let second = check(&config);
    assert_eq!((second.loaded, second.recorded, second.rejected), (first.recorded, 0, 0));
    assert_eq!(files(&dir.path().join("a/b")).len(), 1);
}

#[test]
fn tiered_code_and_loops_are_kept_too() {
    for tiering in [Tiering::AtOnce, Tiering::AtLoops, Tiering::BaselineAtLoops] {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(Cache::in_dir(dir.path()));
        config.strategy(Strategy::Tiered).tiering(tiering);
        let first = check(&config);
        assert!(first.recorded > 0, "{tiering:?}: {first:?}");
        let second = check(&config);
        assert!(second.loaded > 0 && second.recorded == 0, "{tiering:?}: {first:?}, then {second:?}");
    }
}

#[test]
fn what_is_added_little_by_little_ends_up_in_few_files() {
    let functions: String = (0..64)
        .map(|n| format!("(func (export \"f{n}\") (param i32) (result i32) (i32.add (local.get 0) (i32.const {n})))"))
        .collect();
    let text = format!("(module {functions})");
    let dir = tempfile::tempdir().unwrap();
    let run = |range: std::ops::Range<i32>| {
        let engine = Engine::new(&config(Cache::in_dir(dir.path()))).unwrap();
        let module = Module::new(&engine, &text).unwrap();
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        for n in range {
            let func = instance.get_typed_func::<i32, i32>(&mut store, &format!("f{n}")).unwrap();
            assert_eq!(func.call(&mut store, 1000).unwrap(), 1000 + n);
        }
        module.cache_stats()
    };
    for n in 0..64 {
        let stats = run(n..n + 1);
        assert_eq!((stats.loaded, stats.recorded), (0, 1));
    }
    assert!(files(dir.path()).len() <= 8, "{:?}", files(dir.path()));
    assert_eq!(run(0..64).loaded, 64);
}

#[test]
fn another_body_is_compiled_anew() {
    let dir = tempfile::tempdir().unwrap();
    let run = |constant: u32| {
        let text = format!("(module (func (export \"f\") (result i32) (i32.const {constant})))");
        let engine = Engine::new(&config(Cache::in_dir(dir.path()))).unwrap();
        let module = Module::new(&engine, text).unwrap();
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let f = instance.get_typed_func::<(), u32>(&mut store, "f").unwrap();
        assert_eq!(f.call(&mut store, ()).unwrap(), constant);
        module.cache_stats()
    };
    assert_eq!(run(1).recorded, 1);
    // The same in all but the constant: it has the same folder.
    let stats = run(2);
    assert_eq!((stats.loaded, stats.recorded, stats.rejected), (0, 1, 1));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn settings_have_code_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let inline = config(Cache::in_dir(dir.path()));
    let mut guard = inline.clone();
    guard.bounds_checks(wasmrun::BoundsChecks::Guard);
    check(&inline);
    assert_eq!(check(&guard).loaded, 0);
    assert!(check(&guard).loaded > 0 && check(&inline).loaded > 0);
}

/// Code that consumes fuel and code that does not never stand in for each other, nor does their bytecode.
#[test]
fn code_that_consumes_fuel_is_kept_apart() {
    let text = r#"(module (func (export "f") (param i32) (result i32)
        (loop $l (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))) (local.get 0)))"#;
    for strategy in [Strategy::Jit, Strategy::Tiered] {
        let dir = tempfile::tempdir().unwrap();
        // What comes from the cache, and what is consumed.
        let run = |fuel: bool| {
            let mut config = config(Cache::in_dir(dir.path()).bytecode_from(0));
            let engine = Engine::new(config.strategy(strategy).consume_fuel(fuel)).unwrap();
            let module = Module::new(&engine, text).unwrap();
            let mut store = Store::new(&engine, ());
            if fuel {
                store.set_fuel(1000).unwrap();
            }
            let instance = Instance::new(&mut store, &module, &[]).unwrap();
            let f = instance.get_typed_func::<i32, i32>(&mut store, "f").unwrap();
            assert_eq!(f.call(&mut store, 10).unwrap(), 0);
            let loaded = module.cache_stats().loaded + engine.stats().cached_bytecode.functions;
            (loaded > 0, store.get_fuel().ok())
        };
        let left = Some(1000 - (1 + 50 + 1));
        let runs = [run(false), run(true), run(true), run(false)];
        assert_eq!(runs, [(false, None), (false, left), (true, left), (true, None)], "{strategy:?}");
    }
}

#[test]
fn flushing_twice_writes_once() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::new(&config(Cache::in_dir(dir.path()))).unwrap();
    let module = Module::new(&engine, MIXED).unwrap();
    check_module(&module);
    module.flush_cache();
    let written = files(dir.path());
    assert_eq!(written.len(), 1);
    module.flush_cache();
    drop((module, engine));
    assert_eq!(files(dir.path()), written);
}

/// Code must not depend on the process it was compiled in, or on what else the engine has seen.
#[test]
fn code_is_the_same_in_every_engine() {
    let compiled = |before: &[&str]| {
        let engine = Engine::new(&config(Cache::off())).unwrap();
        let others: Vec<Module> = before.iter().map(|text| Module::new(&engine, text).unwrap()).collect();
        others.iter().for_each(|module| drop(module.serialize().unwrap()));
        Module::new(&engine, MIXED).unwrap().serialize().unwrap()
    };
    let alone = compiled(&[]);
    // Types get other numbers.
    let after = compiled(&["(module (func (param f32 f32 i64)) (func (result v128) (v128.const i64x2 1 2)))", MIXED]);
    assert!(alone == after, "compiled code depends on the engine");
}
