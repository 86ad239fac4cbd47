//! Requests as a server handles them: a store with a WASI environment of its own, an instance of a command, a run of it, and
//! the store dropped. Imports are looked up once (`InstancePre`); output is kept in memory.

use std::time::{Duration, Instant};

/// Handles requests with one runtime in one setting.
pub trait Server {
    fn name(&self) -> &str;
    /// Handles a request; gives what the command wrote.
    fn handle(&mut self) -> Vec<u8>;
}

struct Wasmrun {
    name: &'static str,
    engine: wasmrun::Engine,
    program: wasmrun::InstancePre<wasmrun::WasiEnv>,
}

impl Wasmrun {
    fn new(name: &'static str, module: &[u8], strategy: wasmrun::Strategy) -> Self {
        let engine = wasmrun::Engine::new(wasmrun::Config::new().strategy(strategy)).expect("it works on this host");
        let module = wasmrun::Module::new(&engine, module).expect("the module is valid");
        let mut linker = wasmrun::Linker::new(&engine);
        wasmrun::wasi::add_to_linker(&mut linker, |wasi: &mut wasmrun::WasiEnv| wasi).expect("the names are free");
        let program = linker.instantiate_pre(&module).expect("all imports are there");
        Wasmrun { name, engine, program }
    }
}

impl Server for Wasmrun {
    fn name(&self) -> &str {
        self.name
    }

    fn handle(&mut self) -> Vec<u8> {
        let mut store = wasmrun::Store::new(&self.engine, wasmrun::WasiEnv::new());
        let instance = self.program.instantiate(&mut store).expect("it instantiates");
        let start = instance.get_typed_func::<(), ()>(&mut store, "_start").expect("an export");
        if let Err(error) = start.call(&mut store, ()) {
            assert_eq!(error.exit_code(), Some(0), "{error:?}");
        }
        store.into_data().get_stdout()
    }
}

type WasmtimeState = (wasmtime_wasi::p1::WasiP1Ctx, wasmtime_wasi::p2::pipe::MemoryOutputPipe);

struct Wasmtime {
    name: &'static str,
    engine: wasmtime::Engine,
    program: wasmtime::InstancePre<WasmtimeState>,
}

impl Wasmtime {
    fn new(name: &'static str, module: &[u8], pooling: bool) -> Self {
        let mut config = wasmtime::Config::new();
        if pooling {
            let pool = wasmtime::PoolingAllocationConfig::new();
            config.allocation_strategy(wasmtime::InstanceAllocationStrategy::Pooling(pool));
        }
        let engine = wasmtime::Engine::new(&config).expect("it works on this host");
        let module = wasmtime::Module::new(&engine, module).expect("the module is valid");
        let mut linker = wasmtime::Linker::<WasmtimeState>::new(&engine);
        wasmtime_wasi::p1::add_to_linker_sync(&mut linker, |state| &mut state.0).expect("the names are free");
        let program = linker.instantiate_pre(&module).expect("all imports are there");
        Wasmtime { name, engine, program }
    }
}

impl Server for Wasmtime {
    fn name(&self) -> &str {
        self.name
    }

    fn handle(&mut self) -> Vec<u8> {
        let output = wasmtime_wasi::p2::pipe::MemoryOutputPipe::new(64 << 10);
        let wasi = wasmtime_wasi::WasiCtxBuilder::new().stdout(output.clone()).build_p1();
        let mut store = wasmtime::Store::new(&self.engine, (wasi, output));
        let instance = self.program.instantiate(&mut store).expect("it instantiates");
        let start = instance.get_typed_func::<(), ()>(&mut store, "_start").expect("an export");
        if let Err(error) = start.call(&mut store, ()) {
            let exit = error.downcast_ref::<wasmtime_wasi::I32Exit>().map(|exit| exit.0);
            assert_eq!(exit, Some(0), "{error:?}");
        }
        store.into_data().1.contents().to_vec()
    }
}

/// All servers for a command, in the order of the table's columns. Times are given beside the first one's.
pub fn servers(module: &[u8]) -> Vec<Box<dyn Server>> {
    use wasmrun::Strategy;
    vec![
        Box::new(Wasmtime::new("wasmtime pooling", module, true)),
        Box::new(Wasmtime::new("wasmtime on demand", module, false)),
        Box::new(Wasmrun::new("wasmrun jit", module, Strategy::Jit)),
        Box::new(Wasmrun::new("wasmrun tiered", module, Strategy::Tiered)),
        Box::new(Wasmrun::new("wasmrun interp", module, Strategy::Interpreter)),
    ]
}

/// Handles `requests` requests.
pub fn time(server: &mut dyn Server, requests: u32) -> Duration {
    let started = Instant::now();
    for _ in 0..requests {
        std::hint::black_box(server.handle());
    }
    started.elapsed()
}
