//! The interpreter against compiled code, on kernels of different kinds.
//!
//! `WASMRUN_LONG=1` runs each for more than two seconds of compiled code, once per engine and without criterion.

#[path = "kernels/list.rs"]
mod list;

use criterion::{BenchmarkId, Criterion};
use list::{KERNELS, Kernel, NEWER_KERNELS, load};
use std::path::Path;
use std::time::{Duration, Instant};
use wasmrun::{BoundsChecks, Config, Engine, Instance, Module, Store, Strategy, TypedFunc};

fn engines() -> Vec<(&'static str, Engine)> {
    let mut all = vec![("interp", Config::new())];
    all[0].1.strategy(Strategy::Interpreter);
    if Engine::has_jit() {
        for (name, checks) in [("jit", BoundsChecks::Inline), ("jit-guard", BoundsChecks::Guard)] {
            let mut config = Config::new();
            config.strategy(Strategy::Jit).bounds_checks(checks);
            all.push((name, config));
        }
    }
    all.into_iter().map(|(name, config)| (name, Engine::new(&config).expect("it works on this host"))).collect()
}

fn prepare(engine: &Engine, kernel: &Kernel) -> (Store<()>, TypedFunc<i32, i64>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/kernels");
    let module = Module::new(engine, load(&folder, kernel)).expect("the kernel is valid");
    let mut store = Store::new(engine, ());
    let instance = Instance::new(&mut store, &module, &[]).expect("the kernel imports nothing");
    let run = instance.get_typed_func(&mut store, "run").expect("the kernel exports it");
    (store, run)
}

fn long() {
    for kernel in KERNELS.iter().chain(&NEWER_KERNELS) {
        print!("{:12}", kernel.name);
        for (name, engine) in engines() {
            let (mut store, run) = prepare(&engine, kernel);
            run.call(&mut store, 1).expect("the kernel runs");
            let started = Instant::now();
            run.call(&mut store, kernel.long).expect("the kernel runs");
            print!("  {name} {:8.3} s", started.elapsed().as_secs_f64());
        }
        println!();
    }
}

fn main() {
    if std::env::var_os("WASMRUN_LONG").is_some() {
        return long();
    }
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    for kernel in KERNELS.iter().chain(&NEWER_KERNELS) {
        let mut group = criterion.benchmark_group(kernel.name);
        let mut checksum = None;
        for (name, engine) in engines() {
            let (mut store, run) = prepare(&engine, kernel);
            let (mut fresh, first) = prepare(&engine, kernel);
            let sum = first.call(&mut fresh, kernel.quick).expect("the kernel runs");
            assert_eq!(*checksum.get_or_insert(sum), sum, "{name} computes {} wrongly", kernel.name);
            group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
                bencher.iter(|| run.call(&mut store, kernel.quick).expect("the kernel runs"));
            });
        }
        group.finish();
    }
    criterion.final_summary();
}
