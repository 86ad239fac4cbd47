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
            // A type without definition is final, so only an equal one matches it.
            let fits = *got == *want || want.defined().is_some_and(|want| func.has_type(store, want));
            if fits { Ok(()) } else { mismatch(ExternType::Func((*got).clone())) }
        }
        (ExternType::Memory(want), Extern::Memory(memory)) => {
            let data = &store.memories[memory.0.index(store)];
            let got = data.ty.with_minimum(data.pages());
            if got.matches(want) { Ok(()) } else { mismatch(ExternType::Memory(got)) }
        }
        (ExternType::Memory(want), Extern::SharedMemory(memory)) => {
            let got = memory.ty();
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
        (_, Extern::SharedMemory(memory)) => mismatch(ExternType::Memory(memory.ty())),
        (_, Extern::Table(table)) => mismatch(ExternType::Table(store.tables[table.0.index(store)].ty.clone())),
        (_, Extern::Global(global)) => mismatch(ExternType::Global(store.globals[global.0.index(store)].ty.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Engine, Finality, Func, FuncType, HeapType, RefType, Store, Strategy, ValType, Value};

    #[test]
    fn a_function_fits_its_type_and_what_that_declares() {
        let engine = Engine::new(Config::new().strategy(Strategy::Interpreter)).unwrap();
        let mut store = Store::new(&engine, ());
        let of = |supertype: Option<&FuncType>| {
            FuncType::with_finality_and_supertype(&engine, Finality::NonFinal, supertype, [], []).unwrap()
        };
        let base = of(None);
        let sub = of(Some(&base));
        let types = [FuncType::new(&engine, [], []), base, sub];
        let funcs = types.clone().map(|ty| Func::new(&mut store, ty, |_, _, _| Ok(())));
        for (func, got) in funcs.iter().zip(&types) {
            assert_eq!(&func.ty(&store), got);
            for (at, want) in types.iter().enumerate() {
                let fits = got == want || at == 1 && *got == types[2];
                let opaque = &crate::AsContext::as_context(&store).0.opaque;
                let checked = check_import(opaque, &ExternType::Func(want.clone()), &Extern::Func(*func));
                assert_eq!(checked.is_ok(), fits, "{got} {want}");
                assert_eq!(func.matches_ty(&store, want), fits, "{got} {want}");
                let reference = RefType::new(false, HeapType::Concrete(engine.register_type(want)));
                assert_eq!(Value::from(*func).matches_ty(&store, &ValType::Ref(reference)), fits, "{got} {want}");
            }
        }
    }
}
