//! How long a program with 100 MB of live objects is stopped by collections: the longest of many calls that each allocate a few
//! objects, in processor time of the thread, so that other programs don't count.

use rustix::time::{ClockId, clock_gettime};
use std::path::Path;
use std::time::Duration;
use wasmrun::{Config, Engine, Instance, Module, Store, Strategy};

/// Calls, and objects that each makes and drops.
const CALLS: usize = 150_000;
const OBJECTS: i32 = 100;

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn main() {
    let mut config = Config::new();
    config.strategy(if Engine::has_jit() { Strategy::Jit } else { Strategy::Interpreter });
    let engine = Engine::new(&config).expect("it works on this host");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/kernels/pauses.wat");
    let module = Module::from_file(&engine, path).expect("the module is valid");
    for kind in ["small", "arrays", "list", "map"] {
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).expect("there are no imports");
        let started = processor_time();
        let make = instance.get_typed_func::<(), ()>(&mut store, &format!("make {kind}")).expect("an export");
        make.call(&mut store, ()).expect("it runs");
        let made = processor_time() - started;
        let replace = instance.get_typed_func::<i32, ()>(&mut store, &format!("replace {kind}")).expect("an export");
        replace.call(&mut store, OBJECTS).expect("it runs");
        let before = store.heap_stats().collections;
        let mut calls: Vec<Duration> = (0..CALLS)
            .map(|_| {
                let started = processor_time();
                replace.call(&mut store, OBJECTS).expect("it runs");
                processor_time() - started
            })
            .collect();
        let all: Duration = calls.iter().sum();
        calls.sort_unstable();
        println!(
            "{kind:8} longest call {:8.3} ms, of 1000 one above {:6.3} ms, half above {:6.3} ms; all {:6.0} ms, made in {:5.0} ms, {} collections, {} MB",
            calls[CALLS - 1].as_secs_f64() * 1e3,
            calls[CALLS - CALLS / 1000].as_secs_f64() * 1e3,
            calls[CALLS / 2].as_secs_f64() * 1e3,
            all.as_secs_f64() * 1e3,
            made.as_secs_f64() * 1e3,
            store.heap_stats().collections - before,
            store.heap_stats().object_bytes >> 20,
        );
    }
}
