//! A store and an instance, made and dropped: of an empty module, of one with memory, table and segments, and of a
//! program.

use criterion::{BenchmarkId, Criterion};
use std::path::Path;
use wasmrun::{Config, Engine, Linker, Module, Store, Strategy};

const SMALL: &str = r#"(module
    (memory (export "memory") 1) (table 100 funcref) (global (mut i32) (i32.const 1))
    (elem (i32.const 0) $f $f $f $f $f) (data (i32.const 1024) "some data of this module")
    (func $f (export "f") (param i32) (result i32) (i32.load (local.get 0))))"#;

fn main() {
    let mut criterion = Criterion::default().sample_size(30).configure_from_args();
    let mut group = criterion.benchmark_group("instantiation");
    let strategies: &[_] = if Engine::has_jit() {
        &[("interp", Strategy::Interpreter), ("jit", Strategy::Jit)]
    } else {
        &[("interp", Strategy::Interpreter)]
    };
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("runtime-tests/programs/library.wasm");
    let program = std::fs::read(program).expect("the program is there");
    for (name, strategy) in strategies {
        let engine = Engine::new(Config::new().strategy(*strategy)).expect("it works on this host");
        for (kind, bytes) in [("empty", &b"(module)"[..]), ("small", SMALL.as_bytes()), ("library.wasm", &program)] {
            let module = Module::new(&engine, bytes).expect("the module is valid");
            let mut linker = Linker::<()>::new(&engine);
            linker.define_unknown_imports_as_traps(&module).expect("it imports functions only");
            group.bench_function(BenchmarkId::new(kind, name), |bencher| {
                bencher.iter(|| {
                    let mut store = Store::new(&engine, ());
                    linker.instantiate(&mut store, &module).expect("the module instantiates");
                });
            });
        }
        // Many instances in one store share what the store has.
        let module = Module::new(&engine, SMALL).expect("the module is valid");
        let linker = Linker::<()>::new(&engine);
        group.bench_function(BenchmarkId::new("100 small in one store", name), |bencher| {
            bencher.iter(|| {
                let mut store = Store::new(&engine, ());
                for _ in 0..100 {
                    linker.instantiate(&mut store, &module).expect("the module instantiates");
                }
            });
        });
    }
    group.finish();
    criterion.final_summary();
}
