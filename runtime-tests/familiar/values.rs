//! Values, references, globals, tables and exceptions.

#[test]
fn accessors_of_values() -> wasmtime::Result<()> {
    use wasmtime::*;
    assert_eq!((Val::I32(1).i32(), Val::I32(1).i64()), (Some(1), None));
    assert_eq!(
        (Val::from(2i64).unwrap_i64(), Val::from(1.5f32).unwrap_f32(), Val::from(2.5f64).f64()),
        (2, 1.5, Some(2.5))
    );
    assert!(Val::null_func_ref().funcref().unwrap().is_none());
    assert!(Val::null_ref(&HeapType::Extern).unwrap_externref().is_none());
    assert!(Val::default_for_ty(&ValType::I64).is_some());
    assert!(Val::null_extern_ref().ref_().unwrap().is_null());
    Ok(())
}

#[test]
fn globals() -> wasmtime::Result<()> {
    use wasmtime::*;
    let mut store = Store::<()>::default();
    let global = Global::new(&mut store, GlobalType::new(ValType::I32, Mutability::Var), Val::I32(1))?;
    global.set(&mut store, Val::I32(2))?;
    assert_eq!(global.get(&mut store).i32(), Some(2));
    assert!(global.set(&mut store, Val::I64(2)).is_err());
    assert_eq!(global.ty(&store).mutability(), Mutability::Var);
    Ok(())
}

#[test]
fn tables() -> wasmtime::Result<()> {
    use wasmtime::*;
    let mut store = Store::<()>::default();
    let ty = TableType::new(RefType::FUNCREF, 2, None);
    let table = Table::new(&mut store, ty, Ref::Func(None))?;
    let func = Func::wrap(&mut store, || 7);
    table.set(&mut store, 1, func.into())?;
    assert_eq!(table.grow(&mut store, 3, Ref::null(&HeapType::Func))?, 2);
    assert_eq!(table.size(&store), 5);
    let got = table.get(&mut store, 1).unwrap().unwrap_func().copied().unwrap();
    assert_eq!(got.typed::<(), i32>(&store)?.call(&mut store, ())?, 7);
    table.fill(&mut store, 2, func.into(), 2)?;
    Table::copy(&mut store, &table, 0, &table, 1, 2)?;
    assert!(table.get(&mut store, 0).unwrap().unwrap_func().is_some());
    assert!(table.get(&mut store, 5).is_none());
    Ok(())
}

#[test]
fn typed_functions_over_references() -> wasmtime::Result<()> {
    use wasmtime::*;
    let mut store = Store::<()>::default();
    let module = Module::new(
        store.engine(),
        r#"(module (table 1 funcref)
            (func (export "same") (param funcref) (result funcref) (local.get 0))
            (func (export "call") (param funcref) (result i32)
                (table.set (i32.const 0) (local.get 0)) (call_indirect (result i32) (i32.const 0))))"#,
    )?;
    let instance = Instance::new(&mut store, &module, &[])?;
    let seven = Func::wrap(&mut store, || 7);
    let same = instance.get_typed_func::<Option<Func>, Option<Func>>(&mut store, "same")?;
    assert!(same.call(&mut store, None)?.is_none());
    let call = instance.get_typed_func::<Func, i32>(&mut store, "call")?;
    assert_eq!(call.call(&mut store, seven)?, 7);
    assert!(instance.get_typed_func::<Func, Func>(&mut store, "same").is_err());
    Ok(())
}

#[test]
fn arguments_and_results_of_any_type() -> wasmtime::Result<()> {
    use wasmtime::*;
    let mut store = Store::<()>::default();
    let func = Func::wrap(&mut store, |a: i32, b: i64, c: f32, d: f64| (d, c, b, a));
    let ty = func.ty(&store);
    let mut results = vec![Val::I32(0); ty.results().len()];
    func.call(&mut store, &[1i32.into(), 2i64.into(), 3f32.into(), 4f64.into()], &mut results)?;
    assert_eq!((results[0].unwrap_f64(), results[3].unwrap_i32()), (4.0, 1));
    for ty in ty.params() {
        assert!(ty.is_num());
    }
    assert!(func.call(&mut store, &[], &mut results).is_err());
    Ok(())
}

#[test]
fn tags() -> wasmtime::Result<()> {
    use wasmtime::*;
    let engine = Engine::default();
    let mut store = Store::new(&engine, ());
    let ty = TagType::new(FuncType::new(&engine, [ValType::I32], []));
    let tag = Tag::new(&mut store, &ty)?;
    assert_eq!(tag.ty(&store).ty().params().len(), 1);
    let other = Tag::new(&mut store, &ty)?;
    assert!(!Tag::eq(&tag, &other, &store));
    Ok(())
}
