//! Random modules of what all engines run.

use arbitrary::{Result, Unstructured};
use wasm_smith::{Config, InstructionKind, InstructionKinds, MemoryOffsetChoices, Module};

use crate::module::{Counted, instrument};
use crate::{dense, mutate};

/// What modules may import, besides what they make up themselves.
const IMPORTS: &str = r#"(module
    (import "host" "log" (func (param i32 i64 f32 f64)))
    (import "host" "next" (func (result i32)))
    (import "host" "pair" (func (param i64) (result i64 i32)))
    (import "host" "vector" (func (param v128 i32) (result v128)))
    (import "host" "many" (func (param i32 i64 f32 f64 i32 i64 f32 f64 i32 i64 f32 f64 i32) (result f64 f32 i64 i32)))
    (import "host" "memory" (memory 1 3))
    (import "host" "table" (table 5 20 funcref))
    (import "host" "global" (global (mut i64)))
    (import "host" "constant" (global i32)))"#;

/// A module made of the bytes, bounded in time and with everything exported.
pub fn module(data: &[u8]) -> Option<Vec<u8>> {
    let (wasm, counted) = unbounded(data)?;
    instrument(&wasm, counted)
}

/// A module made of the bytes, and a way to bound it.
pub fn unbounded(data: &[u8]) -> Option<(Vec<u8>, Counted)> {
    let mut u = Unstructured::new(data);
    let counted = if u.ratio(1, 2).ok()? { Counted::Heads } else { Counted::Branches };
    let wasm = match u.int_in_range(0..=7).ok()? {
        0..4 => dense::module(u.arbitrary().ok()?),
        4..6 => smith(&mut u, false).ok()?,
        6 => smith(&mut u, true).ok()?,
        _ => mutate::module(&mut u)?,
    };
    Some((wasm, counted))
}

/// One of a swarm of configurations: each leaves out a random part of the language, so that the rest meets more often.
/// With `objects`, structures, arrays and references are what there is most of.
fn smith(u: &mut Unstructured<'_>, objects: bool) -> Result<Vec<u8>> {
    let kinds = [
        InstructionKind::Numeric,
        InstructionKind::Vector,
        InstructionKind::Reference,
        InstructionKind::Parametric,
        InstructionKind::Variable,
        InstructionKind::Table,
        InstructionKind::Memory,
        InstructionKind::Aggregate,
        InstructionKind::Control,
    ];
    let allowed_instructions = if objects {
        use InstructionKind::{Aggregate, Control, NumericInt, Parametric, Reference, Variable};
        InstructionKinds::new(&[Aggregate, Control, NumericInt, Parametric, Reference, Variable])
    } else if u.ratio(1, 2)? {
        InstructionKinds::all()
    } else {
        let mut chosen = vec![InstructionKind::NumericInt, InstructionKind::Control];
        for kind in kinds {
            if u.ratio(2, 3)? {
                chosen.push(kind);
            }
        }
        InstructionKinds::new(&chosen)
    };
    let simd = u.ratio(2, 3)?;
    let available_imports = if u.ratio(1, 3)? { Some(wat::parse_str(IMPORTS).expect("valid")) } else { None };
    let config = Config {
        allow_floats: u.ratio(4, 5)?,
        allowed_instructions,
        available_imports,
        bulk_memory_enabled: true,
        canonicalize_nans: false,
        compact_imports_enabled: u.ratio(1, 4)?,
        custom_page_sizes_enabled: u.ratio(1, 4)?,
        disallow_traps: u.ratio(1, 2)?,
        exceptions_enabled: u.ratio(3, 4)?,
        extended_const_enabled: true,
        gc_enabled: objects || u.ratio(1, 2)?,
        max_data_segments: 5,
        max_element_segments: 5,
        max_elements: 10,
        max_funcs: u.int_in_range(1..=12)?,
        max_globals: u.int_in_range(0..=12)?,
        max_imports: if u.ratio(1, 2)? { 0 } else { 10 },
        max_instructions: [20, 100, 400, 2000][u.int_in_range(0..=3)?],
        max_memories: if u.ratio(2, 3)? { 1 } else { 3 },
        // Hashing memories and giving them their first pages takes longer than running most modules.
        max_memory32_bytes: 3 << 16,
        max_nesting_depth: u.int_in_range(3..=20)?,
        max_table_elements: 100,
        max_tables: u.int_in_range(1..=3)?,
        max_tags: u.int_in_range(0..=5)?,
        max_type_size: if objects { 400 } else { 200 },
        max_types: u.int_in_range(if objects { 8..=40 } else { 2..=20 })?,
        max_memory64_bytes: 3 << 16,
        memory64_enabled: u.ratio(1, 3)?,
        memory_max_size_required: true,
        memory_offset_choices: if u.ratio(1, 2)? {
            MemoryOffsetChoices(95, 4, 1)
        } else {
            MemoryOffsetChoices(60, 30, 10)
        },
        min_funcs: 1,
        multi_value_enabled: u.ratio(3, 4)?,
        reference_types_enabled: objects || u.ratio(7, 8)?,
        relaxed_simd_enabled: simd && u.ratio(1, 3)?,
        simd_enabled: simd,
        table_max_size_required: true,
        tail_call_enabled: u.ratio(3, 4)?,
        threads_enabled: u.ratio(1, 3)?,
        wide_arithmetic_enabled: u.ratio(1, 2)?,
        ..Config::default()
    };
    Ok(Module::new(config, u)?.to_bytes())
}
