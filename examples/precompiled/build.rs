//! Compiles the module to native code.

use std::path::Path;
use std::{env, fs};

use wasmrun::Engine;

/// Any program of yours.
const PROGRAM: &str = "../../runtime-tests/programs/words.wasm";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed={PROGRAM}");
    let out = env::var("OUT_DIR")?;
    let wasm = fs::read(PROGRAM)?;
    fs::write(Path::new(&out).join("program.cwasm"), Engine::default().precompile_module(&wasm)?)?;
    fs::write(Path::new(&out).join("program.wasm"), wasm)?;
    Ok(())
}
