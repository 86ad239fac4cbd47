//! A program that carries a WebAssembly module as native code, compiled when it was built (`build.rs`): nothing is compiled
//! when it runs.
//!
//!     cargo run --release --manifest-path examples/precompiled/Cargo.toml <README.md

use std::process::ExitCode;

use wasmrun::{Engine, Linker, Module, Result, Store, WasiEnv, wasi};

/// The module as native code for processors like the one that it was built on.
static COMPILED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/program.cwasm"));
/// The module itself, for other processors.
static PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/program.wasm"));

/// The module, and whether its native code can be used here.
fn module(engine: &Engine) -> Result<(Module, bool)> {
    // SAFETY: the bytes are what the build script was given by the compiler, unchanged.
    match unsafe { Module::deserialize(engine, COMPILED) } {
        Ok(module) => Ok((module, true)),
        Err(_) => Ok((Module::new(engine, PROGRAM)?, false)),
    }
}

fn main() -> Result<ExitCode> {
    let engine = Engine::default();
    let (module, _) = module(&engine)?;
    let mut linker = Linker::new(&engine);
    wasi::add_to_linker(&mut linker, |wasi: &mut WasiEnv| wasi)?;
    let wasi = WasiEnv::new().with_args(std::env::args().collect()).with_inherited_stdio();
    let mut store = Store::new(&engine, wasi);
    let instance = linker.instantiate(&mut store, &module)?;
    match instance.get_typed_func::<(), ()>(&mut store, "_start")?.call(&mut store, ()) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => error.exit_code().map(|status| ExitCode::from(status as u8)).ok_or(error),
    }
}

#[test]
fn the_native_code_is_used() {
    let engine = Engine::default();
    assert!(module(&engine).unwrap().1);
}
