//! Calls between tiers: from a native loop to functions that are native, to interpreted ones, and to interpreted ones
//! whose loop native code takes over; a thousand at a time. What is interpreted has no budget here, so each call of it includes
//! a look at how hot the function is, which else comes once in thousands.

use criterion::{BenchmarkId, Criterion, Throughput};
use wasmrun::{Config, Engine, Instance, Module, Store, Strategy, Tiering};

const CALLS: i32 = 1000;

const WAT: &str = r#"(module
    (type $t (func (param i32) (result i32)))
    (table funcref (elem $same))
    (func $same (type $t) (local.get 0))
    (func $looping (type $t)
        (loop $once (br_if $once (i32.lt_s (local.tee 0 (i32.sub (local.get 0) (i32.const 1))) (i32.const -1))))
        (local.get 0))
    (func (export "direct") (param i32)
        (loop $again
            (drop (call $same (local.get 0)))
            (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
    (func (export "indirect") (param i32)
        (loop $again
            (drop (call_indirect (type $t) (local.get 0) (i32.const 0)))
            (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
    (func (export "looping") (param i32)
        (loop $again
            (drop (call $looping (local.get 0)))
            (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))"#;

fn main() {
    if !Engine::has_jit() {
        return;
    }
    let mut criterion = Criterion::default().sample_size(30).configure_from_args();
    let config = |strategy, tiering| {
        let mut config = Config::new();
        config.strategy(strategy).tiering(tiering);
        config
    };
    let configs = [
        ("native", config(Strategy::Jit, Tiering::Measured)),
        // Loops become native at their first pass, functions never.
        ("interpreted", config(Strategy::Tiered, Tiering::AtLoops)),
    ];
    for (callee, config) in configs {
        let engine = Engine::new(&config).expect("it works on this host");
        let module = Module::new(&engine, WAT).expect("the module is valid");
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).expect("there are no imports");
        let mut group = criterion.benchmark_group("native to");
        group.throughput(Throughput::Elements(CALLS as u64));
        for export in ["direct", "indirect", "looping"] {
            let run = instance.get_typed_func::<i32, ()>(&mut store, export).expect("an export");
            group.bench_function(BenchmarkId::new(export, callee), |bencher| {
                bencher.iter(|| run.call(&mut store, CALLS).expect("it runs"));
            });
        }
        group.finish();
    }
    criterion.final_summary();
}
