//! Structures, arrays and `i31`s, as in the documentation of `StructRef`, `ArrayRef`, `AnyRef` and `I31`.

#[test]
fn structures() -> wasmtime::Result<()> {
    use wasmtime::*;
    let mut store = Store::<()>::default();
    let struct_ty = StructType::new(store.engine(), [FieldType::new(Mutability::Var, StorageType::I8)])?;
    let allocator = StructRefPre::new(&mut store, struct_ty);
    {
        let mut scope = RootScope::new(&mut store);
        let my_struct: Rooted<StructRef> = StructRef::new(&mut scope, &allocator, &[Val::I32(42)])?;
        let val = my_struct.field(&mut scope, 0)?.unwrap_i32();
        assert_eq!(val, 42);
        my_struct.set_field(&mut scope, 0, Val::I32(36))?;
        let new_val = my_struct.field(&mut scope, 0)?.unwrap_i32();
        assert_eq!(new_val, 36);
        assert_eq!(my_struct.fields(&mut scope)?.len(), 1);
    }
    Ok(())
}

#[test]
fn arrays() -> wasmtime::Result<()> {
    use wasmtime::*;
    let mut store = Store::<()>::default();
    let array_ty = ArrayType::new(store.engine(), FieldType::new(Mutability::Var, ValType::I32.into()));
    let allocator = ArrayRefPre::new(&mut store, array_ty);
    {
        let mut scope = RootScope::new(&mut store);
        let len = 36;
        let elem = Val::I32(42);
        let my_array = ArrayRef::new(&mut scope, &allocator, &elem, len)?;
        scope.as_context_mut().gc();
        for i in 0..len {
            let val = my_array.get(&mut scope, i)?.unwrap_i32();
            assert_eq!(val, 42);
        }
        my_array.set(&mut scope, 3, Val::I32(1234))?;
        let new_val = my_array.get(&mut scope, 3)?.unwrap_i32();
        assert_eq!(new_val, 1234);
    }
    let fixed = ArrayRef::new_fixed(&mut store, &allocator, &[Val::I32(1), Val::I32(2)])?;
    let sum: i32 = fixed.elems(&mut store)?.map(|elem| elem.unwrap_i32()).sum();
    assert_eq!((sum, fixed.len(&store)?), (3, 2));
    Ok(())
}

#[test]
fn arrays_of_bytes() -> wasmtime::Result<()> {
    use wasmtime::*;
    let mut store = Store::<()>::default();
    let ty = ArrayType::new(store.engine(), FieldType::new(Mutability::Var, StorageType::I8));
    let pre = ArrayRefPre::new(&mut store, ty);
    let array = ArrayRef::new_from_i8_slice(&mut store, &pre, b"bytes")?;
    let mut bytes = [0; 5];
    array.copy_to_i8_slice(&mut store, &mut bytes)?;
    assert_eq!(&bytes, b"bytes");
    Ok(())
}

#[test]
fn numbers_of_31_bits() -> wasmtime::Result<()> {
    use wasmtime::*;
    assert!(I31::new_u32(0x8000_0000).is_none() && I31::new_i32(-5).is_some());
    let mut store = Store::<()>::default();
    let inc_i31 = Func::wrap(&mut store, |number: I31| I31::wrapping_u32(number.get_u32() + 1));
    let i31 = I31::wrapping_u32(0x1234);
    let anyref = AnyRef::from_i31(&mut store, i31);
    assert!(anyref.is_i31(&store)?);
    let val = Val::AnyRef(Some(anyref));
    let mut results = [Val::null_any_ref()];
    inc_i31.call(&mut store, &[val], &mut results)?;
    let nullable_anyref = results[0].unwrap_anyref();
    let anyref = nullable_anyref.unwrap();
    assert_eq!(anyref.unwrap_i31(&store)?.get_u32(), 0x1235);
    let inc_i31 = inc_i31.typed::<I31, I31>(&mut store)?;
    assert_eq!(inc_i31.call(&mut store, I31::wrapping_u32(0x5678))?.get_u32(), 0x5679);
    Ok(())
}

#[test]
fn casts_of_references() -> wasmtime::Result<()> {
    use wasmtime::*;
    let mut store = Store::<()>::default();
    let ty = StructType::new(store.engine(), [])?;
    let pre = StructRefPre::new(&mut store, ty.clone());
    let object = StructRef::new(&mut store, &pre, &[])?;
    let any: Rooted<AnyRef> = object.to_anyref();
    assert!(any.is_struct(&store)? && any.is_eqref(&store)? && any.as_array(&store)?.is_none());
    assert!(any.matches_ty(&store, &HeapType::Struct)? && object.matches_ty(&store, &ty)?);
    let eq: Rooted<EqRef> = any.unwrap_eqref(&mut store)?;
    assert_eq!(eq.unwrap_struct(&store)?.ty(&store)?, ty);
    Ok(())
}

#[test]
fn references_in_tables_and_globals() -> wasmtime::Result<()> {
    use wasmtime::*;
    let mut store = Store::<()>::default();
    let anyref = AnyRef::from_i31(&mut store, I31::wrapping_u32(1234));
    let table = Table::new(&mut store, TableType::new(RefType::ANYREF, 10, None), Ref::Any(None))?;
    table.set(&mut store, 3, anyref.clone().into())?;
    let elem = table.get(&mut store, 3).unwrap().unwrap_any().cloned().unwrap();
    assert!(AnyRef::ref_eq(&store, &elem, &anyref)?);
    let ty = GlobalType::new(ValType::Ref(RefType::ANYREF), Mutability::Var);
    let global = Global::new(&mut store, ty, Val::null_any_ref())?;
    global.set(&mut store, Some(anyref).into())?;
    assert!(global.get(&mut store).unwrap_anyref().is_some());
    Ok(())
}

#[test]
fn references_that_outlive_a_scope() -> wasmtime::Result<()> {
    use wasmtime::*;
    let mut store = Store::<()>::default();
    let ty = ArrayType::new(store.engine(), FieldType::new(Mutability::Const, ValType::I64.into()));
    let pre = ArrayRefPre::new(&mut store, ty);
    let owned: OwnedRooted<ArrayRef> = {
        let mut scope = RootScope::new(&mut store);
        let array = ArrayRef::new(&mut scope, &pre, &Val::I64(7), 3)?;
        array.to_owned_rooted(&mut scope)?
    };
    store.gc();
    let array: Rooted<ArrayRef> = owned.to_rooted(&mut store);
    assert_eq!(array.get(&mut store, 2)?.unwrap_i64(), 7);
    Ok(())
}

#[test]
fn references_of_the_host_and_of_webassembly() -> wasmtime::Result<()> {
    use wasmtime::*;
    let mut store = Store::<()>::default();
    let anyref = AnyRef::from_i31(&mut store, I31::wrapping_u32(7));
    let externref = ExternRef::convert_any(&mut store, anyref.clone())?;
    let back = AnyRef::convert_extern(&mut store, externref)?;
    assert!(AnyRef::ref_eq(&store, &back, &anyref)?);
    Ok(())
}

/// The example `anyref` of wasmtime, whose module this is.
#[test]
fn anyrefs_of_a_module() -> wasmtime::Result<()> {
    use wasmtime::*;
    let mut config = Config::new();
    config.wasm_reference_types(true);
    config.wasm_function_references(true);
    config.wasm_gc(true);
    let engine = Engine::new(&config)?;
    let mut store = Store::new(&engine, ());
    let module = Module::new(
        &engine,
        r#"(module
            (table $table (export "table") 10 anyref)
            (global $global (export "global") (mut anyref) (ref.null any))
            (func (export "take_anyref") (param anyref) nop)
            (func (export "return_anyref") (result anyref) i32.const 42 ref.i31))"#,
    )?;
    let instance = Instance::new(&mut store, &module, &[])?;
    let i31 = I31::wrapping_u32(1234);
    let anyref = AnyRef::from_i31(&mut store, i31);
    assert_eq!(anyref.as_i31(&store)?, Some(i31));
    let table = instance.get_table(&mut store, "table").unwrap();
    table.set(&mut store, 3, anyref.clone().into())?;
    let global = instance.get_global(&mut store, "global").unwrap();
    global.set(&mut store, Some(anyref.clone()).into())?;
    let func = instance.get_typed_func::<Option<Rooted<AnyRef>>, ()>(&mut store, "take_anyref")?;
    func.call(&mut store, Some(anyref))?;
    let func = instance.get_typed_func::<(), Option<Rooted<AnyRef>>>(&mut store, "return_anyref")?;
    let ret = func.call(&mut store, ())?;
    assert_eq!(ret.unwrap().unwrap_i31(&store)?, I31::wrapping_u32(42));
    store.gc();
    Ok(())
}

#[test]
fn casts_in_a_module() -> wasmtime::Result<()> {
    use wasmtime::*;
    let mut config = Config::new();
    config.wasm_gc(true);
    let engine = Engine::new(&config)?;
    let module = Module::new(
        &engine,
        r#"
        (module
            (func (export "increment-if-i31") (param (ref null any)) (result (ref null any))
                block (result (ref null any))
                    local.get 0
                    br_on_cast_fail 0 (ref null any) (ref i31)
                    i31.get_u
                    i32.const 1
                    i32.add
                    ref.i31
                    return
                end
            )
        )
    "#,
    )?;
    let mut store = Store::new(&engine, ());
    let instance = Instance::new(&mut store, &module, &[])?;
    let increment_if_i31 =
        instance.get_typed_func::<Option<Rooted<AnyRef>>, Option<Rooted<AnyRef>>>(&mut store, "increment-if-i31")?;
    let mut scope = RootScope::new(&mut store);
    let arg = AnyRef::from_i31(&mut scope, I31::wrapping_u32(419));
    let result = increment_if_i31.call(&mut scope, Some(arg))?;
    assert_eq!(result.unwrap().as_i31(&scope)?, Some(I31::wrapping_u32(420)));
    let result = increment_if_i31.call(&mut scope, None)?;
    assert!(result.is_none());
    Ok(())
}
