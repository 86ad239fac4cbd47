//! From bytes to the first instruction: decoding and validating, instantiating, running once.

use criterion::{BenchmarkId, Criterion, Throughput};
use std::path::Path;
use std::sync::{Arc, Mutex};
use wasmrun::{Config, Engine, Executor, Module, Strategy, WasiEnv, create_wasi_linker};

fn engines() -> Vec<(&'static str, Engine)> {
    let mut all = vec![("interp", Strategy::Interpreter)];
    if Engine::has_jit() {
        all.push(("jit", Strategy::Jit));
    }
    all.into_iter()
        .map(|(name, strategy)| (name, Engine::new(Config::new().strategy(strategy)).expect("it works on this host")))
        .collect()
}

fn main() {
    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    for program in ["hello", "words", "library"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("runtime-tests/programs").join(program);
        let bytes = std::fs::read(path.with_extension("wasm")).expect("the program is there");
        let mut group = criterion.benchmark_group(format!("startup {program}"));
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        for (name, engine) in engines() {
            group.bench_function(BenchmarkId::new("module", name), |bencher| {
                bencher.iter(|| Module::new(&engine, &bytes).expect("the program is valid"));
            });
        }
        if program == "hello" {
            for (name, engine) in engines() {
                group.bench_function(BenchmarkId::new("module and run", name), |bencher| {
                    bencher.iter(|| {
                        let module = Module::new(&engine, &bytes).expect("the program is valid");
                        let start = module.export_func_index("_start").expect("it is a program");
                        let env = Arc::new(Mutex::new(WasiEnv::new()));
                        let mut executor = Executor::new_with_linker(module, create_wasi_linker(env.clone())).unwrap();
                        executor.execute_with_args(start, vec![]).map(drop).unwrap_or(());
                        assert!(!env.lock().unwrap().get_stdout().is_empty());
                    });
                });
            }
        }
        group.finish();
    }
    criterion.final_summary();
}
