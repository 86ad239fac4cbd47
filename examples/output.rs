//! Runs a WASI program inside another one: gives it arguments, variables, standard input and a directory, and gets what it
//! writes.
//!
//!     cargo run --release --example output -- PROGRAM.wasm [ARGS]... <INPUT
//!
//! The program reads this one's standard input, and sees the current directory, for reading only.

use std::io::{self, Read};
use std::process::ExitCode;
use std::{env, fs};

use wasmrun::{Engine, Linker, Module, Store, WasiEnv, wasi};

/// What is left of a program that has ended.
#[derive(Debug, PartialEq, Eq)]
struct Output {
    status: i32,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// Runs a program to its end; what it writes is kept.
///
/// # Errors
/// If it is no WASI program, or it traps.
fn run(engine: &Engine, program: &[u8], wasi: WasiEnv) -> wasmrun::Result<Output> {
    let module = Module::new(engine, program)?;
    let mut linker = Linker::new(engine);
    wasi::add_to_linker(&mut linker, |wasi: &mut WasiEnv| wasi)?;

    // The store's data is the environment of this run. The linker could serve any number of runs.
    let mut store = Store::new(engine, wasi);
    let instance = linker.instantiate(&mut store, &module)?;
    let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
    let status = match start.call(&mut store, ()) {
        Ok(()) => 0,
        // `exit(3)` comes as an error, because it has to end all functions of the program.
        Err(error) => match error.exit_code() {
            Some(status) => status,
            None => return Err(error),
        },
    };
    Ok(Output { status, stdout: store.data().get_stdout(), stderr: store.data().get_stderr() })
}

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let Some(path) = args.first() else { return Err("usage: output PROGRAM.wasm [ARGS]...".into()) };
    let mut input = Vec::new();
    io::stdin().read_to_end(&mut input)?;
    let wasi = WasiEnv::new()
        .with_args(args.clone())
        .with_env("LANG".into(), "C.UTF-8".into())
        .with_stdin(io::Cursor::new(input))
        .with_read_only_preopen(".", ".")?;
    let output = run(&Engine::default(), &fs::read(path)?, wasi)?;
    println!("status {}", output.status);
    println!("standard output: {:?}", String::from_utf8_lossy(&output.stdout));
    println!("standard error: {:?}", String::from_utf8_lossy(&output.stderr));
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(name: &str) -> Vec<u8> {
        fs::read(format!("{}/runtime-tests/programs/{name}.wasm", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    #[test]
    fn what_a_program_writes_is_kept() {
        let output = run(&Engine::default(), &program("hello"), WasiEnv::new()).unwrap();
        assert_eq!(output, Output { status: 0, stdout: b"Hello from WebAssembly!\n".into(), stderr: Vec::new() });
    }

    #[test]
    fn a_program_reads_its_input() {
        let wasi = WasiEnv::new().with_args(vec!["words".into()]).with_stdin(&b"one two one"[..]);
        let output = run(&Engine::default(), &program("words"), wasi).unwrap();
        assert_eq!(output.status, 0);
        assert!(String::from_utf8(output.stdout).unwrap().contains("one"));
    }

    #[test]
    fn the_status_of_a_program_is_told() {
        let exits = r#"(module
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (func (export "_start") (call $exit (i32.const 3))))"#;
        assert_eq!(run(&Engine::default(), exits.as_bytes(), WasiEnv::new()).unwrap().status, 3);
        assert!(run(&Engine::default(), b"(module)", WasiEnv::new()).is_err());
    }
}
