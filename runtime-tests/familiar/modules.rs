//! Modules, their types and instances, as in the documentation of `Module`, `Instance` and `Engine`.

#[test]
fn imports_of_a_module() -> wasmtime::Result<()> {
    use wasmtime::*;
    let engine = Engine::default();
    let module = Module::new(&engine, r#"(module (import "host" "foo" (func (param i32))))"#)?;
    assert_eq!(module.imports().len(), 1);
    let import = module.imports().next().unwrap();
    assert_eq!(import.module(), "host");
    assert_eq!(import.name(), "foo");
    match import.ty() {
        ExternType::Func(ty) => assert_eq!((ty.params().len(), ty.results().len()), (1, 0)),
        _ => panic!("unexpected import type!"),
    }
    Ok(())
}

#[test]
fn exports_of_a_module() -> wasmtime::Result<()> {
    use wasmtime::*;
    let engine = Engine::default();
    let module = Module::new(&engine, r#"(module (func (export "foo")) (memory (export "memory") 1))"#)?;
    let mut exports = module.exports();
    let foo = exports.next().unwrap();
    assert_eq!(foo.name(), "foo");
    match foo.ty() {
        ExternType::Func(_) => { /* ... */ }
        _ => panic!("unexpected export type!"),
    }
    assert!(exports.next().unwrap().ty().unwrap_memory().maximum().is_none());
    Ok(())
}

#[test]
fn an_export_by_name() -> wasmtime::Result<()> {
    use wasmtime::*;
    let engine = Engine::default();
    let module = Module::new(&engine, r#"(module (func (export "f") (param i32)))"#)?;
    let Some(ExternType::Func(ty)) = module.get_export("f") else { bail!("no function") };
    assert!(ty.param(0).is_some() && ty.result(0).is_none());
    assert!(module.get_export("g").is_none());
    Ok(())
}

#[test]
fn an_export_by_index() -> wasmtime::Result<()> {
    use wasmtime::*;
    let engine = Engine::default();
    let module = Module::new(&engine, r#"(module (func (export "f") (result i32) (i32.const 1)))"#)?;
    let export = module.get_export_index("f").unwrap();
    let mut store = Store::new(&engine, ());
    let instance = Instance::new(&mut store, &module, &[])?;
    let f = instance.get_module_export(&mut store, &export).unwrap().into_func().unwrap();
    assert_eq!(f.typed::<(), i32>(&store)?.call(&mut store, ())?, 1);
    Ok(())
}

#[test]
fn validation() -> wasmtime::Result<()> {
    use wasmtime::*;
    let engine = Engine::default();
    Module::validate(&engine, b"\0asm\x01\0\0\0")?;
    assert!(Module::validate(&engine, b"\0asm\x01\0\0\0\x07").is_err());
    let module = Module::from_binary(&engine, b"\0asm\x01\0\0\0")?;
    assert!(Module::from_binary(&engine, b"(module)").is_err());
    assert!(Module::same(&module, &module.clone()) && Engine::same(module.engine(), &engine));
    Ok(())
}

#[test]
fn what_a_module_needs() -> wasmtime::Result<()> {
    use wasmtime::*;
    let engine = Engine::default();
    let module = Module::new(&engine, "(module $named (memory 2) (table 7 funcref))")?;
    let resources = module.resources_required();
    assert_eq!(resources.num_memories, 1);
    assert_eq!(resources.max_initial_memory_size, Some(2));
    assert_eq!(resources.num_tables, 1);
    assert_eq!(resources.max_initial_table_size, Some(7));
    assert_eq!(module.name(), Some("named"));
    Ok(())
}

#[test]
fn detect_precompiled() -> wasmtime::Result<()> {
    use wasmtime::*;
    assert!(Engine::detect_precompiled(b"\0asm\x01\0\0\0").is_none());
    if Engine::has_jit() {
        let bytes = Engine::default().precompile_module(b"(module)")?;
        assert!(matches!(Engine::detect_precompiled(&bytes), Some(Precompiled::Module)));
    }
    Ok(())
}

#[test]
fn exports_of_an_instance() -> wasmtime::Result<()> {
    use wasmtime::*;
    let mut store = Store::<()>::default();
    let module = Module::new(
        store.engine(),
        r#"(module (func (export "f")) (memory (export "m") 1) (table (export "t") 1 funcref)
            (global (export "g") i32 (i32.const 1)) (tag (export "e")))"#,
    )?;
    let instance = Instance::new(&mut store, &module, &[])?;
    let names: Vec<String> = instance.exports(&mut store).map(|export| export.name().to_string()).collect();
    assert_eq!(names, ["f", "m", "t", "g", "e"]);
    let funcs: Vec<Func> = instance.exports(&mut store).filter_map(|export| export.into_func()).collect();
    assert_eq!(funcs.len(), 1);
    assert!(instance.get_export(&mut store, "m").unwrap().into_memory().is_some());
    assert!(instance.get_table(&mut store, "t").is_some() && instance.get_global(&mut store, "g").is_some());
    assert!(instance.get_tag(&mut store, "e").is_some() && instance.get_func(&mut store, "m").is_none());
    assert_eq!(instance.module(&store).exports().len(), 5);
    Ok(())
}

#[test]
fn types_of_memories() -> wasmtime::Result<()> {
    use wasmtime::*;
    let ty = MemoryTypeBuilder::new().min(1).max(Some(2)).build()?;
    assert_eq!((ty.minimum(), ty.maximum(), ty.is_64(), ty.is_shared()), (1, Some(2), false, false));
    let mut builder = MemoryTypeBuilder::default();
    builder.min(5);
    assert_eq!(builder.build()?.minimum(), 5);
    Ok(())
}

#[test]
fn types_of_values() -> wasmtime::Result<()> {
    use wasmtime::*;
    assert!(ValType::I32.is_num() && ValType::I32.is_i32() && ValType::V128.is_v128() && ValType::FUNCREF.is_ref());
    assert!(ValType::EXTERNREF.unwrap_ref().is_nullable());
    assert!(matches!(ValType::F64.default_value(), Some(Val::F64(_))));
    assert!(ValType::eq(&ValType::Ref(RefType::FUNCREF), &ValType::FUNCREF));
    assert!(RefType::new(true, HeapType::Func).matches(&RefType::FUNCREF));
    assert!(Mutability::Var.is_var() && Mutability::Const.is_const());
    Ok(())
}
