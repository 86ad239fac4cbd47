//! Import matching: whether an object fits an import (specification, "External Types" of section "Matching").

use super::external::Extern;
use crate::module::types::{ExternType, TagType};
use crate::vm::store::StoreOpaque;

/// Checks that an object's type matches the type of an import.
///
/// # Errors
/// The reason, for a message.
pub(crate) fn check_import(store: &StoreOpaque, want: &ExternType, got: &Extern) -> Result<(), String> {
    let mismatch = |got: ExternType| Err(format!("expected {want}, got {got}"));
    match (want, got) {
        (ExternType::Func(want), Extern::Func(func)) => {
            let got = store.engine.types.func_type(func.sig(store));
            if *got == *want { Ok(()) } else { mismatch(ExternType::Func((*got).clone())) }
        }
        (ExternType::Memory(want), Extern::Memory(memory)) => {
            let data = &store.memories[memory.0.index(store)];
            let got = data.ty.with_minimum(data.pages());
            if got.matches(want) { Ok(()) } else { mismatch(ExternType::Memory(got)) }
        }
        (ExternType::Table(want), Extern::Table(table)) => {
            let data = &store.tables[table.0.index(store)];
            let got = data.ty.with_minimum(data.len());
            if got.matches(want) { Ok(()) } else { mismatch(ExternType::Table(got)) }
        }
        (ExternType::Global(want), Extern::Global(global)) => {
            let got = &store.globals[global.0.index(store)].ty;
            // A mutable global is written through both types, so they must be equal.
            let fits = got.mutability == want.mutability
                && if got.is_mutable() { got.content == want.content } else { got.content.matches(&want.content) };
            if fits { Ok(()) } else { mismatch(ExternType::Global(got.clone())) }
        }
        (ExternType::Tag(want), Extern::Tag(tag)) => {
            let got = store.engine.types.func_type(store.tags[tag.0.index(store)].sig.number());
            if *got == *want.ty() { Ok(()) } else { mismatch(TagType::new((*got).clone()).into()) }
        }
        (_, Extern::Tag(tag)) => {
            let got = store.engine.types.func_type(store.tags[tag.0.index(store)].sig.number());
            mismatch(TagType::new((*got).clone()).into())
        }
        (_, Extern::Func(func)) => mismatch(ExternType::Func((*store.engine.types.func_type(func.sig(store))).clone())),
        (_, Extern::Memory(memory)) => mismatch(ExternType::Memory(store.memories[memory.0.index(store)].ty)),
        (_, Extern::Table(table)) => mismatch(ExternType::Table(store.tables[table.0.index(store)].ty.clone())),
        (_, Extern::Global(global)) => mismatch(ExternType::Global(store.globals[global.0.index(store)].ty.clone())),
    }
}
