//! Import matching (specification, section 3.4.17).

use super::external::Extern;
use crate::module::types::{ExternType, MemoryType, TableType};
use crate::vm::store::StoreOpaque;

/// Checks that an object fits an import (specification, section 3.4.17, "import matching"); says why not.
pub(crate) fn check_import(store: &StoreOpaque, want: &ExternType, got: &Extern) -> Result<(), String> {
    let mismatch = |got: ExternType| Err(format!("expected {want}, got {got}"));
    match (want, got) {
        (ExternType::Func(want), Extern::Func(func)) => {
            let got = store.engine.types.get(func.sig(store));
            if *got == *want { Ok(()) } else { mismatch(ExternType::Func((*got).clone())) }
        }
        (ExternType::Memory(want), Extern::Memory(memory)) => {
            let data = &store.memories[memory.0.index(store)];
            let got = MemoryType { minimum: data.pages(), ..data.ty };
            let fits = limits_match((want.minimum, want.maximum), (got.minimum, got.maximum));
            if fits { Ok(()) } else { mismatch(ExternType::Memory(got)) }
        }
        (ExternType::Table(want), Extern::Table(table)) => {
            let data = &store.tables[table.0.index(store)];
            let got = TableType { minimum: data.len(), ..data.ty };
            let fits = limits_match((want.minimum, want.maximum), (got.minimum, got.maximum));
            if fits && want.element == got.element { Ok(()) } else { mismatch(ExternType::Table(got)) }
        }
        (ExternType::Global(want), Extern::Global(global)) => {
            let got = store.globals[global.0.index(store)].ty;
            // What can be set through one must be what the other reads.
            let fits = got.mutability == want.mutability
                && if got.is_mutable() { got.content == want.content } else { got.content.matches(want.content) };
            if fits { Ok(()) } else { mismatch(ExternType::Global(got)) }
        }
        (ExternType::Tag(want), Extern::Tag(tag)) => {
            let got = store.engine.types.get(store.tags[tag.0.index(store)].sig.number());
            if *got == *want { Ok(()) } else { mismatch(ExternType::Tag((*got).clone())) }
        }
        (_, Extern::Tag(tag)) => {
            let got = store.engine.types.get(store.tags[tag.0.index(store)].sig.number());
            mismatch(ExternType::Tag((*got).clone()))
        }
        (_, Extern::Func(func)) => mismatch(ExternType::Func((*store.engine.types.get(func.sig(store))).clone())),
        (_, Extern::Memory(memory)) => mismatch(ExternType::Memory(store.memories[memory.0.index(store)].ty)),
        (_, Extern::Table(table)) => mismatch(ExternType::Table(store.tables[table.0.index(store)].ty)),
        (_, Extern::Global(global)) => mismatch(ExternType::Global(store.globals[global.0.index(store)].ty)),
    }
}

fn limits_match(want: (u64, Option<u64>), got: (u64, Option<u64>)) -> bool {
    got.0 >= want.0 && want.1.is_none_or(|want| got.1.is_some_and(|got| got <= want))
}
