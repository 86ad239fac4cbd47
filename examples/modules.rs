//! Modules that call each other: a library of one module, used by another, with a memory that they share and a function of
//! the host between them.
//!
//!     cargo run --release --example modules

use wasmrun::{Caller, Engine, Extern, Linker, Module, Result, Store};

/// A library: a memory, and a function that writes a number into it in decimal digits.
const DIGITS: &str = r#"(module
    (memory (export "memory") 1)
    ;; Writes `n` so that it ends before `end`; returns where it begins.
    (func (export "write") (param $n i32) (param $end i32) (result i32)
        (loop $more
            (local.set $end (i32.sub (local.get $end) (i32.const 1)))
            (i32.store8 (local.get $end) (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
            (local.set $n (i32.div_u (local.get $n) (i32.const 10)))
            (br_if $more (local.get $n)))
        (local.get $end)))"#;

/// A program on top of it: the squares up to a number, each handed to the host as text in the library's memory.
const SQUARES: &str = r#"(module
    (import "digits" "write" (func $write (param i32 i32) (result i32)))
    (import "host" "line" (func $line (param i32 i32)))
    (func (export "run") (param $to i32)
        (local $i i32) (local $at i32)
        (loop $more
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (local.set $at (call $write (i32.mul (local.get $i) (local.get $i)) (i32.const 64)))
            (call $line (local.get $at) (i32.sub (i32.const 64) (local.get $at)))
            (br_if $more (i32.lt_u (local.get $i) (local.get $to))))))"#;

/// The squares of the numbers from one to `to`, as text.
fn squares(to: u32) -> Result<Vec<String>> {
    let engine = Engine::default();
    let mut store = Store::new(&engine, Vec::new());
    let mut linker = Linker::new(&engine);

    // The library's exports become imports for others, under the name `digits`.
    let digits = Module::new(&engine, DIGITS)?;
    let digits = linker.instantiate(&mut store, &digits)?;
    linker.instance(&mut store, "digits", digits)?;

    // The program has no memory of its own, so the host takes the library's.
    let Some(Extern::Memory(memory)) = digits.get_export(&mut store, "memory") else { unreachable!("it is above") };
    linker.func_wrap("host", "line", move |mut caller: Caller<'_, Vec<String>>, at: u32, len: u32| {
        let mut text = vec![0; len as usize];
        memory.read(&caller, at as usize, &mut text)?;
        caller.data_mut().push(String::from_utf8_lossy(&text).into_owned());
        Ok(())
    })?;

    let program = linker.instantiate(&mut store, &Module::new(&engine, SQUARES)?)?;
    program.get_typed_func::<u32, ()>(&mut store, "run")?.call(&mut store, to)?;
    Ok(store.into_data())
}

fn main() -> Result<()> {
    for line in squares(12)? {
        println!("{line}");
    }
    Ok(())
}

#[test]
fn modules_share_functions_and_memory() {
    assert_eq!(squares(4).unwrap(), ["1", "4", "9", "16"]);
    assert_eq!(squares(1000).unwrap().last().unwrap(), "1000000");
}
