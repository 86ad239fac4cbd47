//! Which proposals to WebAssembly 1.0 a module makes use of, and by what.

use std::collections::{BTreeMap, BTreeSet};

use wasmparser::{CompositeInnerType, CompositeType, MemoryType, Operator, RefType, TableType, ValType};

/// Proposals by name, and where they are used.
#[derive(Default)]
pub(super) struct Features {
    pub uses: BTreeMap<&'static str, Uses>,
    /// What is being read.
    pub place: Place,
}

/// Where a proposal is used.
#[derive(Default)]
pub(super) struct Uses {
    /// The operators and types of it that occur; [`describe`] gives their names for people.
    pub by: BTreeSet<&'static str>,
    /// In the order of the file.
    pub places: Vec<Place>,
}

/// A part of a module, by its index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Place {
    /// Something that has no index, such as a section.
    #[default]
    Module,
    Type(u32),
    Table(u32),
    Memory(u32),
    Func(u32),
}

impl Features {
    pub fn add(&mut self, proposal: &'static str, by: &'static str) {
        let uses = self.uses.entry(proposal).or_default();
        uses.by.insert(by);
        if uses.places.last() != Some(&self.place) {
            uses.places.push(self.place);
        }
    }
}

macro_rules! define_proposal_of {
    ($(@$proposal:ident $op:ident $({ $($arg:ident: $ty:ty),* })? => $visit:ident ($($arity:tt)*))*) => {
        /// The proposal an operator came with and the operator, as wasmparser names both.
        fn proposal_of(operator: &Operator<'_>) -> (&'static str, &'static str) {
            match operator {
                $(Operator::$op { .. } => (stringify!($proposal), stringify!($visit)),)*
                _ => ("mvp", ""),
            }
        }
    };
}

wasmparser::for_each_operator!(define_proposal_of);

/// The name of an operator or type in the text format. Operators are recorded by the name of wasmparser's method for them,
/// which has `_` for every `.`.
pub(super) fn describe(by: &str) -> String {
    const DOTTED: [&str; 20] = [
        "i32", "i64", "f32", "f64", "v128", "i8x16", "i16x8", "i32x4", "i64x2", "f32x4", "f64x2", "memory", "table",
        "data", "elem", "ref", "struct", "array", "i31", "atomic",
    ];
    let Some(name) = by.strip_prefix("visit_") else { return by.into() };
    match name.split_once('_') {
        Some((prefix, rest)) if DOTTED.contains(&prefix) => match rest.strip_prefix("atomic_") {
            Some(rest) if rest.starts_with("rmw") => format!("{prefix}.atomic.{}", rest.replacen('_', ".", 1)),
            Some(rest) => format!("{prefix}.atomic.{rest}"),
            None => format!("{prefix}.{rest}"),
        },
        _ => name.into(),
    }
}

/// The proposals repository's name for wasmparser's.
fn proposal_name(name: &'static str) -> &'static str {
    match name {
        "sign_extension" => "sign-extension-ops",
        "saturating_float_to_int" => "nontrapping-float-to-int-conversions",
        "bulk_memory" => "bulk-memory",
        "reference_types" => "reference-types",
        "tail_call" => "tail-call",
        "relaxed_simd" => "relaxed-simd",
        "function_references" => "function-references",
        "exceptions" | "legacy_exceptions" => "exception-handling",
        "memory_control" => "memory-control",
        "shared_everything_threads" => "shared-everything-threads",
        "stack_switching" => "stack-switching",
        "wide_arithmetic" => "wide-arithmetic",
        "custom_descriptors" => "custom-descriptors",
        other => other,
    }
}

pub(super) fn operator(features: &mut Features, operator: &Operator<'_>) {
    let (proposal, name) = proposal_of(operator);
    if proposal != "mvp" {
        let name = if proposal == "legacy_exceptions" { "legacy instructions" } else { name };
        features.add(proposal_name(proposal), name);
    }
    match operator {
        Operator::Block { blockty } | Operator::Loop { blockty } | Operator::If { blockty } => {
            if matches!(blockty, wasmparser::BlockType::FuncType(_)) {
                features.add("multi-value", "block types");
            }
        }
        Operator::CallIndirect { table_index: 1.., .. } => {
            features.add("reference-types", "call_indirect of other tables")
        }
        _ => {}
    }
}

pub(super) fn constant_operator(features: &mut Features, op: &Operator<'_>) {
    if super::survey::is_plain_constant(op) {
        operator(features, op);
    } else {
        features.add("extended-const", "arithmetic in constants");
    }
}

pub(super) fn composite_type(features: &mut Features, ty: &CompositeType) {
    match &ty.inner {
        CompositeInnerType::Func(ty) => {
            if ty.results().len() > 1 {
                features.add("multi-value", "function results");
            }
            ty.params().iter().chain(ty.results()).for_each(|ty| value_type(features, *ty));
        }
        CompositeInnerType::Array(_) => features.add("gc", "array types"),
        CompositeInnerType::Struct(_) => features.add("gc", "struct types"),
        CompositeInnerType::Cont(_) => features.add("stack-switching", "continuation types"),
    }
}

pub(super) fn value_type(features: &mut Features, ty: ValType) {
    match ty {
        ValType::I32 | ValType::I64 | ValType::F32 | ValType::F64 => {}
        ValType::V128 => features.add("simd", "v128"),
        ValType::Ref(RefType::FUNCREF) => features.add("reference-types", "funcref"),
        ValType::Ref(RefType::EXTERNREF) => features.add("reference-types", "externref"),
        ValType::Ref(RefType::EXNREF) => features.add("exception-handling", "exnref"),
        ValType::Ref(ty) if ty.is_concrete_type_ref() || !ty.is_nullable() => {
            features.add("function-references", "typed references");
        }
        ValType::Ref(_) => features.add("gc", "reference types"),
    }
}

/// Notes the proposals that a memory after `before` others makes use of.
pub(super) fn memory(features: &mut Features, ty: &MemoryType, before: usize) {
    features.place = Place::Memory(before as u32);
    if before > 0 {
        features.add("multi-memory", "several memories");
    }
    if ty.memory64 {
        features.add("memory64", "memory");
    }
    if ty.shared {
        features.add("threads", "shared memory");
    }
    if ty.page_size_log2.is_some() {
        features.add("custom-page-sizes", "memory");
    }
}

/// Notes the proposals that a table after `before` others makes use of.
pub(super) fn table(features: &mut Features, ty: &TableType, before: usize) {
    features.place = Place::Table(before as u32);
    if before > 0 {
        features.add("reference-types", "several tables");
    }
    if ty.table64 {
        features.add("memory64", "table");
    }
    if ty.element_type != RefType::FUNCREF {
        value_type(features, ValType::Ref(ty.element_type));
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn operators_are_named_as_in_the_text_format() {
        for (method, name) in [
            ("visit_memory_copy", "memory.copy"),
            ("visit_i32_trunc_sat_f64_s", "i32.trunc_sat_f64_s"),
            ("visit_i64_atomic_rmw8_add_u", "i64.atomic.rmw8.add_u"),
            ("visit_memory_atomic_notify", "memory.atomic.notify"),
            ("visit_try_table", "try_table"),
            ("visit_return_call_indirect", "return_call_indirect"),
            ("shared memory", "shared memory"),
        ] {
            assert_eq!(super::describe(method), name);
        }
    }
}
