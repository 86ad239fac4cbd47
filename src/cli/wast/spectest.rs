//! The module `spectest` that test scripts import: the host as the specification's own interpreter provides it.

use crate::{
    Global, GlobalType, Linker, Memory, MemoryType, Mutability, Ref, RefType, Result, SharedMemory, Store, Table,
    TableType, Value,
};

/// Defines the module. Its printing functions print nothing: no script depends on it.
pub(super) fn define(linker: &mut Linker<()>, store: &mut Store<()>) -> Result<()> {
    const NAME: &str = "spectest";
    linker.func_wrap(NAME, "print", || {})?;
    linker.func_wrap(NAME, "print_i32", |_: i32| {})?;
    linker.func_wrap(NAME, "print_i64", |_: i64| {})?;
    linker.func_wrap(NAME, "print_f32", |_: f32| {})?;
    linker.func_wrap(NAME, "print_f64", |_: f64| {})?;
    linker.func_wrap(NAME, "print_i32_f32", |_: i32, _: f32| {})?;
    linker.func_wrap(NAME, "print_f64_f64", |_: f64, _: f64| {})?;
    for (name, value) in [
        ("global_i32", Value::I32(666)),
        ("global_i64", Value::I64(666)),
        ("global_f32", Value::F32(666.6)),
        ("global_f64", Value::F64(666.6)),
    ] {
        let ty = GlobalType::new(value.ty(), Mutability::Const);
        let global = Global::new(&mut *store, ty, value)?;
        linker.define(&*store, NAME, name, global)?;
    }
    for (name, ty) in [
        ("table", TableType::new(RefType::FUNCREF, 10, Some(20))),
        ("table64", TableType::new64(RefType::FUNCREF, 10, Some(20))),
    ] {
        let table = Table::new(&mut *store, ty, Ref::Func(None))?;
        linker.define(&*store, NAME, name, table)?;
    }
    let memory = MemoryType::new(1, Some(2));
    let memory = Memory::new(&mut *store, memory)?;
    linker.define(&*store, NAME, "memory", memory)?;
    let shared = SharedMemory::new(store.engine(), MemoryType::shared(1, 2))?;
    linker.define(&*store, NAME, "shared_memory", shared)?;
    Ok(())
}
