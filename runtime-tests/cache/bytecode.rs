//! Functions that were interpreted are not translated again.

use super::{MIXED, config, files, load_offset};
use std::fs;
use std::path::Path;
use wasmrun::{Cache, CacheStats, Config, Engine, Instance, Module, Stats, Store, Strategy, Tiering, Trap};

fn tiered(cache: Cache) -> Config {
    let mut config = config(cache.bytecode_from(0));
    config.strategy(Strategy::Tiered);
    config
}

/// Runs parts of [`MIXED`] a few times, so that nothing of it is found hot; what that took.
fn run(config: &Config) -> (Stats, CacheStats) {
    let engine = Engine::new(config).unwrap();
    let module = Module::new(&engine, MIXED).unwrap();
    let mut store = Store::new(&engine, ());
    let instance = Instance::new(&mut store, &module, &[]).unwrap();
    let mut call = |name: &str, arg: i32| {
        let func = instance.get_typed_func::<i32, i32>(&mut store, name).unwrap();
        func.call(&mut store, arg)
    };
    assert_eq!(call("sum", 10).unwrap(), 55);
    assert_eq!(call("catch", 7).unwrap(), 107);
    let error = call("load", 65_536 - 16).unwrap_err();
    assert_eq!(error.trap(), Some(Trap::MemoryOutOfBounds));
    assert_eq!(error.backtrace()[0].module_offset(), load_offset());
    let indirect = instance.get_typed_func::<(i32, i32), i32>(&mut store, "indirect").unwrap();
    assert_eq!(indirect.call(&mut store, (1, 5)).unwrap(), 5);
    assert_eq!(indirect.call(&mut store, (2, 1)).unwrap_err().trap(), Some(Trap::IndirectCallTypeMismatch));
    (engine.stats(), module.cache_stats())
}

/// The number of functions that are called, in a cache that has all of them.
fn fill(dir: &Path) -> u64 {
    let (stats, _) = run(&tiered(Cache::in_dir(dir)));
    assert_eq!(stats.cached_bytecode.functions, 0);
    assert_eq!((stats.interpreted.functions, stats.best.functions), (6, 0));
    stats.interpreted.functions
}

#[test]
fn the_second_run_translates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let all = fill(dir.path());
    assert_eq!(files(dir.path()).len(), 1);
    let written = fs::read(&files(dir.path())[0]).unwrap();
    let (stats, _) = run(&tiered(Cache::in_dir(dir.path()).read_only()));
    assert_eq!((stats.interpreted.functions, stats.cached_bytecode.functions), (0, all), "{stats:?}");
    assert_eq!(fs::read(&files(dir.path())[0]).unwrap(), written);
}

/// A small program would start later with a file to open than without one, and its first run would write it.
#[test]
fn little_bytecode_is_not_kept_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(Cache::in_dir(dir.path()));
    config.strategy(Strategy::Tiered);
    run(&config);
    assert_eq!(files(dir.path()).len(), 0);
    config.tiering(Tiering::AtLoops);
    run(&config);
    assert_eq!(files(dir.path()).len(), 1, "beside native code it is kept");
}

/// Where nothing is counted, bytecode is not the same; and there is none where all is compiled.
#[test]
fn other_strategies_neither_use_nor_keep_it() {
    for strategy in [Strategy::Interpreter, Strategy::Jit] {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path());
        let mut other = tiered(Cache::in_dir(dir.path()));
        other.strategy(strategy);
        assert_eq!(run(&other).0.cached_bytecode.functions, 0);
        let empty = tempfile::tempdir().unwrap();
        other.cache(Cache::in_dir(empty.path()));
        run(&other);
        assert_eq!(run(&tiered(Cache::in_dir(empty.path()))).0.cached_bytecode.functions, 0);
    }
}

#[test]
fn no_changed_byte_matters() {
    let dir = tempfile::tempdir().unwrap();
    let all = fill(dir.path());
    let [file] = &files(dir.path())[..] else { panic!("one run writes one file") };
    let bytes = fs::read(file).unwrap();
    let config = tiered(Cache::in_dir(dir.path()).read_only());
    let mut noticed = 0;
    for at in (0..bytes.len()).filter(|at| *at < 4096 || at % 61 == 0) {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        fs::write(file, changed).unwrap();
        noticed += usize::from(run(&config).0.cached_bytecode.functions != all);
    }
    // What is not noticed is padding.
    assert!(noticed > 1000, "{noticed} of {}", bytes.len());
}

/// The bytecode of a loop says where that is in the module.
#[test]
fn a_body_at_another_place_is_translated_anew() {
    let dir = tempfile::tempdir().unwrap();
    let looping = r#"(func (export "f") (param i32) (result i32) (local i32)
        (loop $l
            (local.set 1 (i32.add (local.get 1) (local.get 0)))
            (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
        (local.get 1))"#;
    let run = |name: &str| {
        // A name has no part in what code depends on, but moves it.
        let engine = Engine::new(&tiered(Cache::in_dir(dir.path()))).unwrap();
        let mut binary = b"\0asm\x01\0\0\0".to_vec();
        binary.extend([0, 1 + name.len() as u8, name.len() as u8]);
        binary.extend(name.as_bytes());
        binary.extend(&wat::parse_str(format!("(module {looping})")).unwrap()[8..]);
        let module = Module::new(&engine, binary).unwrap();
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let f = instance.get_typed_func::<i32, i32>(&mut store, "f").unwrap();
        assert_eq!(f.call(&mut store, 10).unwrap(), 55);
        // Long enough to be taken over by native code, which is compiled from where the loop is said to be.
        assert_eq!(f.call(&mut store, 50_000_000).unwrap(), (1..=50_000_000).fold(0, i32::wrapping_add));
        let stats = engine.stats();
        (stats.interpreted.functions, stats.refused)
    };
    for name in ["a", "a longer name", "a"] {
        let (interpreted, refused) = run(name);
        assert!(interpreted <= 1 && refused == 0, "{name}");
    }
}

/// Frames with slots beyond 16 bits, what is zeroed in them and how large they are, and handlers of exceptions.
#[test]
fn all_that_goes_with_it_is_kept() {
    const FRAME: usize = 16 * 40_000;
    let dir = tempfile::tempdir().unwrap();
    let values = "(i64.const 1) ".repeat(3);
    let locals = format!("(local {} i64 i64)", "v128 ".repeat(FRAME / 16));
    let text = format!(
        r#"(module
            (tag $e (param i64))
            (global $depth (mut i64) (i64.const 0))
            (func $throw (param i64) (throw $e (local.get 0)))
            (func (export "f") (param i64) (result i64) {locals}
                (local.set 40002 (local.get 0))
                {values}
                (block $caught (result i64)
                    (try_table (catch $e $caught) (call $throw (local.get 40002)))
                    (i64.const 0))
                i64.add i64.add i64.add
                (i64.add (local.get 40001)))
            (func (export "soil") (param i64) (result i64) {locals}
                (local.set 40001 (local.get 0)) (local.set 40002 (local.get 0)) (local.get 40001))
            (func $deep (export "deep") (param i64) (result i64) {locals}
                (global.set $depth (i64.add (global.get $depth) (local.get 0)))
                (i64.add (i64.const 1) (call $deep (local.get 0))))
            (func (export "sum") (param i64) (result i64) {locals}
                (local.set 40001 (i64.const 0))
                (loop $l
                    (local.set 40001 (i64.add (local.get 40001) (local.get 0)))
                    (br_if $l (i32.wrap_i64 (local.tee 0 (i64.sub (local.get 0) (i64.const 1))))))
                (local.get 40001))
            (func (export "depth") (param i64) (result i64) (global.get $depth)))"#
    );
    let run = |passes: i64| {
        // There is room for three frames of `deep`, and for most of a fourth.
        let mut config = tiered(Cache::in_dir(dir.path()));
        let engine = Engine::new(config.max_wasm_stack(3 * FRAME + FRAME * 3 / 4)).unwrap();
        let module = Module::new(&engine, &text).unwrap();
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let mut call = |name: &str, n: i64| {
            let f = instance.get_typed_func::<i64, i64>(&mut store, name).unwrap();
            f.call(&mut store, n).map_err(|error| error.trap())
        };
        assert_eq!(call("soil", -1), Ok(-1));
        assert_eq!(call("f", 40), Ok(43));
        assert_eq!(call("deep", 1), Err(Some(Trap::StackOverflow)));
        assert_eq!(call("depth", 0), Ok(3));
        assert_eq!(call("sum", passes), Ok(passes * (passes + 1) / 2));
        let stats = engine.stats();
        (stats.interpreted.functions, stats.cached_bytecode.functions)
    };
    assert_eq!(run(10), (6, 0));
    // Native code takes over the frame of the loop.
    assert_eq!(run(50_000_000), (0, 6));
}
