//! Random modules that stay within what all engines run.

use arbitrary::{Result, Unstructured};
use wasm_smith::{Config, Module};

/// What modules may import; `engines` supplies it.
pub const IMPORTS: &str = r#"(module
    (import "host" "log" (func (param i32 i64 f32 f64)))
    (import "host" "next" (func (result i32)))
    (import "host" "pair" (func (param i64) (result i64 i32)))
    (import "host" "vector" (func (param v128 i32) (result v128)))
    (import "host" "many" (func (param i32 i64 f32 f64 i32 i64 f32 f64 i32 i64 f32 f64 i32) (result f64 f32 i64 i32)))
    (import "host" "memory" (memory 1 3))
    (import "host" "table" (table 5 20 funcref))
    (import "host" "global" (global (mut i64)))
    (import "host" "constant" (global i32)))"#;

/// Loop heads and calls after which a module traps.
const FUEL: u32 = 2000;

/// A module, and whether it keeps to what wasmi runs with the same results.
pub struct Generated {
    pub wasm: Vec<u8>,
    pub oracle: bool,
}

/// A module made of the bytes.
pub fn module(data: &[u8]) -> Result<Generated> {
    let mut u = Unstructured::new(data);
    let relaxed = u.ratio(1, 4)?;
    let exceptions = u.ratio(1, 4)?;
    let mut config = Config {
        allow_floats: true,
        available_imports: if u.ratio(2, 3)? { Some(wat::parse_str(IMPORTS).expect("valid")) } else { None },
        bulk_memory_enabled: true,
        canonicalize_nans: true,
        compact_imports_enabled: false,
        custom_page_sizes_enabled: false,
        disallow_traps: u.ratio(1, 2)?,
        exceptions_enabled: exceptions,
        export_everything: true,
        extended_const_enabled: true,
        gc_enabled: false,
        max_data_segments: 5,
        max_element_segments: 5,
        max_elements: 10,
        max_funcs: u.int_in_range(1..=12)?,
        max_globals: 10,
        max_imports: 10,
        max_instructions: u.int_in_range(20..=600)?,
        max_memories: u.int_in_range(1..=3)?,
        max_memory32_bytes: 4 << 16,
        max_nesting_depth: 12,
        max_table_elements: 100,
        max_tables: 3,
        memory64_enabled: false,
        memory_max_size_required: true,
        min_funcs: 1,
        multi_value_enabled: true,
        reference_types_enabled: true,
        relaxed_simd_enabled: relaxed,
        simd_enabled: true,
        table_max_size_required: true,
        tail_call_enabled: true,
        threads_enabled: false,
        wide_arithmetic_enabled: false,
        ..Config::default()
    };
    if config.available_imports.is_none() {
        config.max_imports = 0;
    }
    config.memory_offset_choices = wasm_smith::MemoryOffsetChoices(60, 30, 10);
    let mut module = Module::new(config, &mut u)?;
    let _ = module.ensure_termination(FUEL);
    Ok(Generated { wasm: module.to_bytes(), oracle: !relaxed && !exceptions })
}
