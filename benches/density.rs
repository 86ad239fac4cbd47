//! Idle instances of a module with one page of memory, each in a store of its own, as a server has them that keeps its tenants:
//! how many a process can have, what each takes, and what it takes to call them.
//!
//! usage: cargo bench --bench density [-- COUNT]

use std::time::Instant;
use wasmrun::{Config, Engine, InstancePre, Linker, Module, Store, Strategy, TypedFunc};

const MODULE: &str = r#"(module
    (memory (export "memory") 1) (data (i32.const 16) "what a tenant has")
    (func (export "count") (result i32)
        (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1)))
        (i32.load (i32.const 0))))"#;

fn main() {
    let count = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(100_000);
    let all = [("interp", Strategy::Interpreter), ("tiered", Strategy::Tiered), ("jit", Strategy::Jit)];
    println!(
        "| {count} instances | instantiate, us | bytes each | first call, us | later call, us | bytes each | mappings |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|");
    for (name, strategy) in &all[..if Engine::has_jit() { 3 } else { 1 }] {
        let engine = Engine::new(Config::new().strategy(*strategy)).expect("it works on this host");
        let module = Module::new(&engine, MODULE).expect("the module is valid");
        let program = Linker::new(&engine).instantiate_pre(&module).expect("it imports nothing");
        measure(name, count, &engine, &program);
    }
}

fn measure(name: &str, count: usize, engine: &Engine, program: &InstancePre<()>) {
    let micros = |started: Instant| started.elapsed().as_secs_f64() * 1e6 / count as f64;
    let before = resident();
    let each = |before: u64| resident().saturating_sub(before) / count as u64;
    let mut tenants: Vec<(Store<()>, TypedFunc<(), i32>)> = Vec::with_capacity(count);
    let started = Instant::now();
    for n in 0..count {
        let mut store = Store::new(engine, ());
        match program.instantiate(&mut store) {
            Ok(instance) => {
                let call = instance.get_typed_func(&mut store, "count").expect("an export");
                tenants.push((store, call));
            }
            Err(error) => {
                println!("| {name} | {n} instances, then: {error} |");
                return;
            }
        }
    }
    let (made, idle) = (micros(started), each(before));
    let calls = [1, 2].map(|expected| {
        let started = Instant::now();
        for (store, call) in &mut tenants {
            assert_eq!(call.call(store, ()).expect("it runs"), expected);
        }
        micros(started)
    });
    let mappings = std::fs::read_to_string("/proc/self/maps").map_or(0, |maps| maps.lines().count());
    println!("| {name} | {made:.1} | {idle} | {:.1} | {:.1} | {} | {mappings} |", calls[0], calls[1], each(before));
}

/// Bytes of memory that the process has now; 0 where the system does not tell.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap_or(0) * 1024
}
