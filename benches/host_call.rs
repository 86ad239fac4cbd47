//! Calls across the boundary: from WebAssembly to the host, a thousand at a time, from the host to WebAssembly, and to
//! WASI's `fd_write`.

use criterion::{BenchmarkId, Criterion, Throughput};
use std::fs::File;
use std::sync::{Arc, Mutex};
use wasmrun::{
    Caller, Config, Engine, Func, FuncType, Instance, Module, Store, Strategy, ValType, Value, WasiEnv,
    create_wasi_linker,
};

const CALLS: i32 = 1000;

const WAT: &str = r#"(module
    (import "host" "nothing" (func $nothing))
    (import "host" "add" (func $add (param i32 i64) (result i64)))
    (import "host" "dynamic" (func $dynamic (param i32 i64) (result i64)))
    (func (export "nothing") (param i32)
        (loop $again (call $nothing)
            (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
    (func (export "add") (param i32) (local i64)
        (loop $again (local.set 1 (call $add (local.get 0) (local.get 1)))
            (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
    (func (export "dynamic") (param i32) (local i64)
        (loop $again (local.set 1 (call $dynamic (local.get 0) (local.get 1)))
            (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
    (func (export "same") (param i32) (result i32) (local.get 0)))"#;

/// Writes as many bytes as it is told to standard output, a thousand times.
const WRITE: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 32)
    (func (export "write") (param i32) (local $left i32)
        (i32.store (i32.const 0) (i32.const 1024))
        (i32.store (i32.const 4) (local.get 0))
        (local.set $left (i32.const 1000))
        (loop $again
            (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
            (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))))"#;

/// `fd_write` to a device that takes no time to write to, so that what is measured is what comes before.
fn fd_write(criterion: &mut Criterion, name: &str, engine: &Engine) {
    let Ok(device) = File::options().write(true).open("/dev/null") else { return };
    let env = Arc::new(Mutex::new(WasiEnv::new().with_stdout_file(device)));
    let module = Module::new(engine, WRITE).expect("the module is valid");
    let mut store = Store::new(engine, ());
    let instance = create_wasi_linker(env).instantiate(&mut store, &module).expect("the imports are WASI's");
    let write = instance.get_typed_func::<i32, ()>(&mut store, "write").expect("an export");
    let mut group = criterion.benchmark_group("fd_write");
    group.throughput(Throughput::Elements(CALLS as u64));
    for (size, bytes) in [("16 bytes", 16), ("1 MiB", 1 << 20)] {
        group.bench_function(BenchmarkId::new(size, name), |bencher| {
            bencher.iter(|| write.call(&mut store, bytes).expect("it writes"));
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().sample_size(30).configure_from_args();
    let strategies: &[_] = if Engine::has_jit() {
        &[("interp", Strategy::Interpreter), ("jit", Strategy::Jit)]
    } else {
        &[("interp", Strategy::Interpreter)]
    };
    for (name, strategy) in strategies {
        let engine = Engine::new(Config::new().strategy(*strategy)).expect("it works on this host");
        let mut store = Store::new(&engine, 0u64);
        let nothing = Func::wrap(&mut store, || {});
        let add = Func::wrap(&mut store, |mut caller: Caller<'_, u64>, a: i32, b: i64| {
            *caller.data_mut() += 1;
            b + i64::from(a)
        });
        let ty = FuncType::new(store.engine(), [ValType::I32, ValType::I64], [ValType::I64]);
        let dynamic = Func::new(&mut store, ty, |_: Caller<'_, u64>, args, results| {
            let (Value::I32(a), Value::I64(b)) = (&args[0], &args[1]) else { unreachable!("of the type above") };
            results[0] = Value::I64(b + i64::from(*a));
            Ok(())
        });
        let module = Module::new(&engine, WAT).expect("the module is valid");
        let imports = [nothing.into(), add.into(), dynamic.into()];
        let instance = Instance::new(&mut store, &module, &imports).expect("the imports fit");

        let mut group = criterion.benchmark_group("guest to host");
        group.throughput(Throughput::Elements(CALLS as u64));
        for export in ["nothing", "add", "dynamic"] {
            let run = instance.get_typed_func::<i32, ()>(&mut store, export).expect("an export");
            group.bench_function(BenchmarkId::new(export, name), |bencher| {
                bencher.iter(|| run.call(&mut store, CALLS).expect("it runs"));
            });
        }
        group.finish();

        let mut group = criterion.benchmark_group("host to guest");
        let same = instance.get_typed_func::<i32, i32>(&mut store, "same").expect("an export");
        group.bench_function(BenchmarkId::new("typed", name), |bencher| {
            bencher.iter(|| same.call(&mut store, 5).expect("it runs"));
        });
        let mut results = [Value::I32(0)];
        group.bench_function(BenchmarkId::new("dynamic", name), |bencher| {
            bencher.iter(|| same.func().call(&mut store, &[Value::I32(5)], &mut results).expect("it runs"));
        });
        group.finish();

        fd_write(&mut criterion, name, &engine);
    }
    criterion.final_summary();
}
