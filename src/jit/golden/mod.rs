//! What functions are lowered to, as text beside this file: one function for each kind of load and store, with the flags
//! that say how it may be moved. A change here is a change of what Cranelift may do to the code.
//!
//! `WASMRUN_BLESS=1 cargo test golden` writes the files anew.

use std::path::Path;

use crate::*;

/// Name of the file, and a module whose last function it shows.
const FUNCTIONS: [(&str, &str); 17] = [
    ("memory_access", "(module (memory 1) (func (param i32) (result i32)
        (i32.store offset=8 (local.get 0) (i32.const 1)) (i32.load8_u offset=70000 (local.get 0))))"),
    ("memory_access_imported", "(module (import \"\" \"\" (memory 1)) (func (param i32) (result i64) (i64.load (local.get 0))))"),
    ("atomics", "(module (memory 1) (func (param i32) (result i32)
        (i64.atomic.store offset=8 (local.get 0) (i64.atomic.rmw32.add_u offset=2 (local.get 0) (i64.const 1)))
        (i32.atomic.rmw8.cmpxchg_u (local.get 0) (i32.const 1) (i32.const 2)) (atomic.fence)
        (i32.add (i32.atomic.load16_u (local.get 0)))))"),
    ("memory_fixed", "(module (memory 1 1) (func (param i32) (result f64) (f64.load (local.get 0))))"),
    ("memory_small_copy", "(module (memory 1) (func (param i32 i32)
        (memory.copy (local.get 0) (local.get 1) (i32.const 16)) (memory.fill (local.get 0) (local.get 1) (i32.const 3))))"),
    // Lengths are loaded again after each atomic instruction.
    ("memory_shared", "(module (memory 1 9 shared) (func (param i32) (result i32)
        (loop $again
            (i32.store (local.get 0) (i32.load offset=4 (local.get 0)))
            (br_if $again (i32.atomic.load (i32.const 8))))
        (drop (memory.atomic.wait64 offset=8 (local.get 0) (i64.const 1) (i64.const -1)))
        (drop (memory.atomic.notify offset=8 (local.get 0) (i32.const 1)))
        (i32.add (memory.size) (i32.load (local.get 0)))))"),
    ("memory_size", "(module (memory 1) (func (result i32) (memory.size)))"),
    ("globals", "(module (import \"\" \"g\" (global $i i32)) (import \"\" \"m\" (global $m (mut i32))) (global $own (mut i64) (i64.const 1))
        (func (result i32) (global.set $own (i64.const 7)) (global.set $m (global.get $i)) (global.get $m)))"),
    ("table_access", "(module (table 10 externref) (func (param i32 externref) (result externref)
        (table.set (local.get 0) (local.get 1)) (table.get (local.get 0))))"),
    ("table_fixed", "(module (table 10 10 externref) (func (param i32) (result externref) (table.get (local.get 0))))"),
    ("call_indirect", "(module (type $t (func)) (table 10 funcref) (func (param i32) (call_indirect (type $t) (local.get 0))))"),
    ("call_ref", "(module (type $t (func)) (elem declare func $f) (func $f)
        (func (param (ref null $t)) (call_ref $t (local.get 0)) (return_call_ref $t (ref.as_non_null (ref.func $f)))))"),
    ("branches_on_null", "(module (type $t (func)) (func (param (ref null $t)) (result i32)
        (block $not (result (ref $t))
            (block $null (drop (br_on_null $null (local.get 0))) (return (i32.const 1)))
            (br_on_non_null $not (local.get 0))
            (return (i32.const 2)))
        (drop) (i32.const 3)))"),
    ("calls", "(module (import \"\" \"f\" (func $f)) (func $g) (func (call $f) (call $g) (return_call $g)))"),
    ("loop", "(module (func (param i32) (loop $again (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))"),
    ("exceptions", "(module (tag $t (param i32)) (func $f)
        (func (param exnref) (result i32)
            (block $caught (result i32)
                (try_table (catch $t $caught) (call $f) (throw_ref (local.get 0)))
                (i32.const 0))))"),
    ("nan_of_a_loaded_operand", "(module (memory 1) (func (param i32 f64) (result f64)
        (f64.add (f64.load (local.get 0)) (local.get 1))))"),
];

/// The same, consuming fuel.
const FUELLED: [(&str, &str); 1] = [(
    "fuel",
    "(module (func $f) (func (param i32) (result i32)
        (loop $l (call $f) (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))) (local.get 0)))",
)];

/// The types of the next ones, and the same with them.
const GC_TYPES: &str = "(type $cell (struct (field $value (mut i32)) (field $next (ref null $cell)) (field $flag i8)))
    (type $shape (sub (struct (field $area (ref $area))))) (type $square (sub final $shape (struct (field (ref $area)) (field f64))))
    (type $area (func (result f64))) (type $bytes (array (mut i8))) (type $words (array (mut i64)))";
const GC: [(&str, &str); 10] = [
    (
        "gc_struct_new",
        "(func (param i32 (ref null $cell)) (result (ref $cell))
        (struct.new $cell (local.get 0) (local.get 1) (i32.const 0)))",
    ),
    (
        "gc_struct_access",
        "(func (param (ref null $cell)) (result i32)
        (struct.set $cell $value (local.get 0) (i32.const 1))
        (struct.get $cell $value (struct.get $cell $next (local.get 0))))",
    ),
    (
        "gc_immutable_field",
        "(func $f) (func (param (ref $cell)) (result i32)
        (struct.get_s $cell $flag (local.get 0)) (call $f)
        (i32.add (struct.get_s $cell $flag (local.get 0))))",
    ),
    (
        "gc_array_access",
        "(func (param (ref null $words) i32) (result i64)
        (array.set $words (local.get 0) (local.get 1) (i64.const 1))
        (array.get $words (local.get 0) (i32.add (local.get 1) (i32.const 1))))",
    ),
    ("gc_array_new", "(func (param i32) (result (ref $bytes)) (array.new_default $bytes (local.get 0)))"),
    (
        "gc_function_in_a_field",
        "(func (param (ref $shape)) (result (ref func)) (struct.get $shape $area (local.get 0)))",
    ),
    (
        "gc_cast",
        "(func (param anyref) (result f64)
        (drop (ref.cast (ref $shape) (local.get 0)))
        (drop (ref.cast (ref null $shape) (local.get 0)))
        (struct.get $square 1 (ref.cast (ref $square) (local.get 0))))",
    ),
    ("gc_test", "(func (param (ref null $shape)) (result i32) (ref.test (ref $square) (local.get 0)))"),
    (
        "gc_branch_on_cast",
        "(func (param (ref $shape)) (result (ref $square))
        (br_on_cast 0 (ref $shape) (ref $square) (local.get 0))
        (drop) (unreachable))",
    ),
    (
        "gc_branch_on_null",
        "(func (param (ref null $cell)) (result i32)
        (if (result i32) (ref.is_null (local.get 0))
            (then (i32.const 0))
            (else (struct.get $cell $value (local.get 0)))))",
    ),
];

#[test]
fn functions_are_lowered_as_the_files_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/jit/golden");
    let mut wrong = Vec::new();
    for signals in [true, false] {
        let engine = |fuel| {
            let mut config = Config::new();
            Engine::new(config.strategy(Strategy::Jit).signals_based_traps(signals).consume_fuel(fuel)).unwrap()
        };
        let (plain, fuelled) = (engine(false), engine(true));
        let gc = GC.map(|(name, func)| (name, format!("(module (rec {GC_TYPES}) {func})")));
        let with = |engine, functions: &'static [(&str, &str)]| {
            functions.iter().map(move |(name, text)| (engine, *name, String::from(*text)))
        };
        let all = with(&plain, &FUNCTIONS).chain(with(&fuelled, &FUELLED));
        for (engine, name, text) in all.chain(gc.map(|(name, text)| (&plain, name, text))) {
            let module = Module::new(engine, text).unwrap();
            let last = module.0.facts.bodies.len() as u32 - 1;
            let clif = super::print_clif(&module.0.jit, last).unwrap();
            let file = folder.join(format!("{name}{}.clif", if signals { "" } else { ".no_signals" }));
            if std::env::var_os("WASMRUN_BLESS").is_some() {
                std::fs::write(&file, clif).unwrap();
            } else if std::fs::read_to_string(&file).unwrap_or_default() != clif {
                wrong.push(format!("{}:\n{clif}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "not as before:\n{}", wrong.join("\n"));
}
