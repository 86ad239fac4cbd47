//! The runtimes, each behind the same few questions.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// A runtime in one setting.
pub trait Runtime {
    fn name(&self) -> &str;
    fn is_interpreter(&self) -> bool {
        false
    }
    /// Whether it takes the module, with all proposals that it has.
    fn accepts(&self, module: &[u8]) -> bool;
    /// A kernel: calls its `run`.
    fn kernel(&self, module: &[u8]) -> Box<dyn Work>;
    /// Calls `run`, which calls an import of `host` as often as it is told.
    fn guest_to_host(&self, module: &[u8]) -> Box<dyn Work>;
    /// Whether it is measured with WASI.
    fn has_wasi(&self) -> bool;
    /// Calls `run`, which calls `fd_write` as often as it is told, with a device as standard output to which writing
    /// costs nothing.
    fn fd_write(&self, module: &[u8]) -> Box<dyn Work>;
    /// Calls the export `same` again and again.
    fn host_to_guest(&self, module: &[u8]) -> Box<dyn Work>;
    /// Whether it has asynchronous calls.
    fn has_async(&self) -> bool;
    /// Calls the export `same` again and again, by an asynchronous call each.
    fn host_to_guest_async(&self, module: &[u8]) -> Box<dyn Work>;
    /// Calls `run` asynchronously, which calls an asynchronous import as often as it is told, that is pending once each time.
    fn suspension(&self, module: &[u8]) -> Box<dyn Work>;
    /// Makes and drops a store with an instance again and again.
    fn instantiation(&self, module: &[u8]) -> Box<dyn Work>;
}

/// Work that is ready to be timed: the time it took, and a checksum.
pub trait Work {
    fn run(&mut self, rounds: i32) -> (Duration, i64);
}

impl<F: FnMut(i32) -> i64> Work for F {
    fn run(&mut self, rounds: i32) -> (Duration, i64) {
        let started = Instant::now();
        let sum = self(rounds);
        (started.elapsed(), sum)
    }
}

fn add(a: i32, b: i64) -> i64 {
    b.wrapping_add(a.into())
}

/// Polls a future until it is ready.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
    }
}

/// A future that is pending once.
struct Once(bool);

impl Future for Once {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Fuel that nothing here uses up.
const MUCH: u64 = 1 << 62;

fn device() -> std::fs::File {
    std::fs::File::options().write(true).open("/dev/null").expect("there is such a device")
}

/// Implements [`Runtime`] with a crate whose API has the shape that all three share.
macro_rules! runtime {
    ($name:ident, $api:ident) => {
        struct $name {
            name: &'static str,
            interpreter: bool,
            engine: $api::Engine,
        }

        impl $name {
            fn instance(&self, module: &[u8]) -> ($api::Store<u64>, $api::Instance) {
                let module = $api::Module::new(&self.engine, module).expect("the module is valid");
                let mut store = $api::Store::new(&self.engine, 0u64);
                // An error where no fuel is consumed.
                let _ = store.set_fuel(MUCH);
                let mut linker = $api::Linker::new(&self.engine);
                linker
                    .func_wrap("host", "add", |mut caller: $api::Caller<'_, u64>, a: i32, b: i64| {
                        *caller.data_mut() += 1;
                        add(a, b)
                    })
                    .and_then(|linker| linker.func_wrap("host", "nothing", || {}))
                    .and_then(|linker| {
                        linker.func_wrap("host", "four", |a: i32, b: i64, c: i32, d: i64| add(a, b) ^ add(c, d))
                    })
                    .expect("the names are free");
                let instance = runtime!(@instantiate $api linker store module);
                (store, instance)
            }

            fn export(&self, module: &[u8], name: &str) -> ($api::Store<u64>, $api::TypedFunc<i32, i64>) {
                let (mut store, instance) = self.instance(module);
                let func = instance.get_typed_func::<i32, i64>(&mut store, name).expect("an export");
                (store, func)
            }
        }

        impl Runtime for $name {
            fn name(&self) -> &str {
                self.name
            }

            fn is_interpreter(&self) -> bool {
                self.interpreter
            }

            fn accepts(&self, module: &[u8]) -> bool {
                $api::Module::new(&self.engine, module).is_ok()
            }

            fn kernel(&self, module: &[u8]) -> Box<dyn Work> {
                let (mut store, run) = self.export(module, "run");
                Box::new(move |rounds| run.call(&mut store, rounds).expect("it runs"))
            }

            fn guest_to_host(&self, module: &[u8]) -> Box<dyn Work> {
                self.kernel(module)
            }

            fn has_wasi(&self) -> bool {
                runtime!(@has_wasi $api)
            }

            fn fd_write(&self, module: &[u8]) -> Box<dyn Work> {
                runtime!(@fd_write $api self module)
            }

            fn host_to_guest(&self, module: &[u8]) -> Box<dyn Work> {
                let (mut store, same) = self.export(module, "same");
                Box::new(move |rounds| (0..rounds).map(|i| same.call(&mut store, i).expect("it runs")).sum())
            }

            fn has_async(&self) -> bool {
                runtime!(@has_wasi $api)
            }

            fn host_to_guest_async(&self, module: &[u8]) -> Box<dyn Work> {
                runtime!(@host_to_guest_async $api self module)
            }

            fn suspension(&self, module: &[u8]) -> Box<dyn Work> {
                runtime!(@suspension $api self module)
            }

            fn instantiation(&self, module: &[u8]) -> Box<dyn Work> {
                let engine = self.engine.clone();
                let module = $api::Module::new(&engine, module).expect("the module is valid");
                let linker = $api::Linker::<u64>::new(&engine);
                Box::new(move |rounds| {
                    for _ in 0..rounds {
                        let mut store = $api::Store::new(&engine, 0u64);
                        let _instance = runtime!(@instantiate $api linker store module);
                    }
                    0
                })
            }
        }
    };
    (@instantiate wasmi $linker:ident $store:ident $module:ident) => {
        $linker.instantiate_and_start(&mut $store, &$module).expect("it instantiates")
    };
    (@has_wasi wasmi) => {
        false
    };
    (@has_wasi $api:ident) => {
        true
    };
    (@fd_write wasmrun $self:ident $module:ident) => {{
        let module = wasmrun::Module::new(&$self.engine, $module).expect("the module is valid");
        let env = wasmrun::WasiEnv::new().with_stdout_file(device());
        let linker = wasmrun::create_wasi_linker(Arc::new(Mutex::new(env)));
        let mut store = wasmrun::Store::new(&$self.engine, ());
        let _ = store.set_fuel(MUCH);
        let instance = linker.instantiate(&mut store, &module).expect("it instantiates");
        let run = instance.get_typed_func::<i32, i64>(&mut store, "run").expect("an export");
        Box::new(move |rounds| run.call(&mut store, rounds).expect("it runs"))
    }};
    (@fd_write wasmtime $self:ident $module:ident) => {{
        let module = wasmtime::Module::new(&$self.engine, $module).expect("the module is valid");
        let output = wasmtime_wasi::cli::OutputFile::new(device());
        let wasi = wasmtime_wasi::WasiCtxBuilder::new().stdout(output).build_p1();
        let mut linker = wasmtime::Linker::new(&$self.engine);
        wasmtime_wasi::p1::add_to_linker_sync(&mut linker, |wasi| wasi).expect("the names are free");
        let mut store = wasmtime::Store::new(&$self.engine, wasi);
        let _ = store.set_fuel(MUCH);
        let instance = linker.instantiate(&mut store, &module).expect("it instantiates");
        let run = instance.get_typed_func::<i32, i64>(&mut store, "run").expect("an export");
        Box::new(move |rounds| run.call(&mut store, rounds).expect("it runs"))
    }};
    (@fd_write $api:ident $self:ident $module:ident) => {
        unreachable!("it has no WASI here for {} bytes", $module.len())
    };
    (@host_to_guest_async wasmi $self:ident $module:ident) => {
        unreachable!("it has no asynchronous calls for {} bytes", $module.len())
    };
    (@host_to_guest_async $api:ident $self:ident $module:ident) => {{
        let (mut store, same) = $self.export($module, "same");
        Box::new(move |rounds| {
            (0..rounds).map(|i| block_on(same.call_async(&mut store, i)).expect("it runs")).sum()
        })
    }};
    (@suspension wasmi $self:ident $module:ident) => {
        unreachable!("it has no asynchronous calls for {} bytes", $module.len())
    };
    (@suspension $api:ident $self:ident $module:ident) => {{
        let module = $api::Module::new(&$self.engine, $module).expect("the module is valid");
        let mut store = $api::Store::new(&$self.engine, 0u64);
        let mut linker = $api::Linker::new(&$self.engine);
        linker
            .func_wrap_async("host", "nothing", |_: $api::Caller<'_, u64>, (): ()| Box::new(Once(false)))
            .expect("the name is free");
        let instance = block_on(linker.instantiate_async(&mut store, &module)).expect("it instantiates");
        let run = instance.get_typed_func::<i32, i64>(&mut store, "run").expect("an export");
        Box::new(move |rounds| block_on(run.call_async(&mut store, rounds)).expect("it runs"))
    }};
    (@instantiate $api:ident $linker:ident $store:ident $module:ident) => {
        $linker.instantiate(&mut $store, &$module).expect("it instantiates")
    };
}

runtime!(Wasmrun, wasmrun);
runtime!(Wasmtime, wasmtime);
runtime!(Wasmi, wasmi);

fn wasmrun(name: &'static str, set: impl Fn(&mut wasmrun::Config)) -> Box<dyn Runtime> {
    let mut config = wasmrun::Config::new();
    set(&mut config);
    let engine = wasmrun::Engine::new(&config).expect("it works on this host");
    Box::new(Wasmrun { name, interpreter: name.contains("interp"), engine })
}

fn wasmtime(name: &'static str, set: impl Fn(&mut wasmtime::Config)) -> Box<dyn Runtime> {
    let mut config = wasmtime::Config::new();
    config.wasm_function_references(true).wasm_gc(true).wasm_exceptions(true).wasm_memory64(true);
    set(&mut config);
    let engine = wasmtime::Engine::new(&config).expect("it works on this host");
    Box::new(Wasmtime { name, interpreter: false, engine })
}

/// All runtimes and settings, in the order of the table's columns.
pub fn all() -> Vec<Box<dyn Runtime>> {
    use wasmrun::{BoundsChecks, Strategy};
    vec![
        wasmrun("wasmrun jit", |c| {
            c.strategy(Strategy::Jit).bounds_checks(BoundsChecks::Inline);
        }),
        wasmrun("wasmrun jit-guard", |c| {
            c.strategy(Strategy::Jit).bounds_checks(BoundsChecks::Guard);
        }),
        wasmtime("wasmtime", |_| {}),
        // Checks in the code, as wasmrun makes them: constant offsets left to a guard, a base that never moves, no masks
        // against speculation.
        wasmtime("wasmtime inline", |c| {
            c.memory_reservation(1 << 30).memory_guard_size(32 << 20).memory_may_move(false);
            // SAFETY: a flag of Cranelift's that keeps code correct.
            unsafe { c.cranelift_flag_set("enable_heap_access_spectre_mitigation", "false") };
        }),
        // Checks in the code with nothing to help them.
        wasmtime("wasmtime explicit", |c| {
            c.memory_reservation(0)
                .memory_reservation_for_growth(1 << 20)
                .memory_guard_size(0)
                .guard_before_linear_memory(false);
        }),
        wasmrun("wasmrun interp", |c| {
            c.strategy(Strategy::Interpreter);
        }),
        Box::new(Wasmi { name: "wasmi", interpreter: true, engine: wasmi::Engine::new(&wasmi::Config::default()) }),
    ]
}

/// Runtimes without fuel, and consuming it.
pub fn fuelled() -> Vec<Box<dyn Runtime>> {
    use wasmrun::{Strategy, Tiering};
    vec![
        wasmtime("wasmtime", |_| {}),
        wasmtime("wasmtime fuel", |c| {
            c.consume_fuel(true);
        }),
        wasmrun("wasmrun jit", |c| {
            c.strategy(Strategy::Jit);
        }),
        wasmrun("wasmrun jit fuel", |c| {
            c.strategy(Strategy::Jit).consume_fuel(true);
        }),
        wasmrun("wasmrun baseline", |c| {
            c.tiering(Tiering::Baseline);
        }),
        wasmrun("wasmrun baseline fuel", |c| {
            c.tiering(Tiering::Baseline).consume_fuel(true);
        }),
        wasmrun("wasmrun interp", |c| {
            c.strategy(Strategy::Interpreter);
        }),
        wasmrun("wasmrun interp fuel", |c| {
            c.strategy(Strategy::Interpreter).consume_fuel(true);
        }),
    ]
}
