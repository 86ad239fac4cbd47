//! Structures, arrays and `i31`s in the hands of the host.

use crate::engines::call;
use crate::gc::gc_configs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use wasmrun::{
    AnyRef, ArrayRef, ArrayRefPre, ArrayType, Budget, BudgetItem, Config, Engine, EqRef, ErrorKind, ExnRef, ExternRef,
    FieldType, Finality, Func, FuncType, Global, GlobalType, HeapType, I31, Instance, Module, Mutability, Ref, RefType,
    RegisteredType, ResourceLimiter, StorageType, Store, StructRef, StructRefPre, StructType, Table, TableType, Tag,
    TagType, ValType, Value,
};

fn var(storage: impl Into<StorageType>) -> FieldType {
    FieldType::new(Mutability::Var, storage.into())
}

fn constant(storage: impl Into<StorageType>) -> FieldType {
    FieldType::new(Mutability::Const, storage.into())
}

/// An allocator of structures with these fields.
fn structs<T>(store: &mut Store<T>, fields: &[FieldType]) -> StructRefPre {
    let ty = StructType::new(store.engine(), fields.iter().cloned()).unwrap();
    StructRefPre::new(store, ty)
}

/// An allocator of arrays with such elements.
fn arrays<T>(store: &mut Store<T>, element: FieldType) -> ArrayRefPre {
    let ty = ArrayType::new(store.engine(), element);
    ArrayRefPre::new(store, ty)
}

/// The message of a usage error.
#[track_caller]
fn usage<T: std::fmt::Debug>(result: wasmrun::Result<T>) -> String {
    let error = result.expect_err("it is misuse");
    assert!(matches!(error.kind(), ErrorKind::Usage(_)), "{error}");
    error.to_string()
}

/// A structure that refers to another one, and so on: a list of numbers.
fn list(store: &mut Store<()>, pre: &StructRefPre, numbers: impl IntoIterator<Item = i64>) -> Option<StructRef> {
    let mut last = None;
    for number in numbers {
        let fields = [Value::I64(number), Value::from(last)];
        last = Some(StructRef::new(&mut *store, pre, &fields).unwrap());
    }
    last
}

fn numbers(store: &Store<()>, mut list: Option<StructRef>) -> Vec<i64> {
    let mut found = Vec::new();
    while let Some(node) = list {
        found.push(node.field(store, 0).unwrap().unwrap_i64());
        let next = node.field(store, 1).unwrap();
        list = next.unwrap_anyref().map(|next| next.unwrap_struct(store).unwrap());
    }
    found
}

#[test]
fn fields_of_all_types_are_written_and_read() {
    let mut store = Store::<()>::default();
    let types = [
        StorageType::I8,
        ValType::I64.into(),
        StorageType::I16,
        ValType::F32.into(),
        ValType::V128.into(),
        ValType::FUNCREF.into(),
        ValType::ANYREF.into(),
        ValType::F64.into(),
        ValType::I32.into(),
    ];
    let pre = structs(&mut store, &types.clone().map(var));
    let func = Func::wrap(&mut store, || 7);
    let values = [
        Value::I32(0x1FF),
        Value::I64(i64::MIN + 3),
        Value::I32(-2),
        Value::F32(f32::from_bits(0x7FA0_0001)),
        Value::V128(u128::MAX / 7),
        func.into(),
        I31::wrapping_i32(-5).into(),
        Value::F64(-0.0),
        Value::I32(i32::MIN),
    ];
    let object = StructRef::new(&mut store, &pre, &values).unwrap();
    let check = |store: &Store<()>, object: &StructRef| {
        let got: Vec<Value> = object.fields(store).unwrap().collect();
        assert_eq!((got[0].unwrap_i32(), got[1].unwrap_i64(), got[2].unwrap_i32()), (0xFF, i64::MIN + 3, 0xFFFE));
        let Value::F32(float) = got[3] else { panic!("{:?}", got[3]) };
        assert_eq!((float.to_bits(), got[4].unwrap_v128()), (0x7FA0_0001, u128::MAX / 7));
        assert_eq!(got[5].unwrap_funcref(), Some(&func));
        assert_eq!(got[6].unwrap_anyref().unwrap().unwrap_i31(store).unwrap().get_i32(), -5);
        assert_eq!((got[7].unwrap_f64().to_bits(), got[8].unwrap_i32()), ((-0.0f64).to_bits(), i32::MIN));
    };
    check(&store, &object);
    // Each is set on its own, and leaves the others alone.
    let zeros = types.map(|ty| Value::default_for(ty.unpack()));
    let other = StructRef::new(&mut store, &pre, &zeros).unwrap();
    for (index, value) in values.iter().enumerate().rev() {
        other.set_field(&mut store, index, value.clone()).unwrap();
    }
    check(&store, &other);
    assert!(!object.same(&other) && object.same(&object.clone()));
    assert!(EqRef::ref_eq(&store, &other.to_eqref(), &EqRef::from(other.clone())).unwrap());
}

#[test]
fn arrays_of_all_types_are_filled_written_and_read() {
    let mut store = Store::<()>::default();
    for (storage, value, shown) in [
        (StorageType::I8, Value::I32(-1), 0xFF),
        (StorageType::I16, Value::I32(-1), 0xFFFF),
        (ValType::I32.into(), Value::I32(-7), -7i32 as u32 as u128),
        (ValType::I64.into(), Value::I64(i64::MIN), 1 << 63),
        (ValType::V128.into(), Value::V128(u128::MAX / 3), u128::MAX / 3),
        (ValType::F64.into(), Value::F64(1.5), 1.5f64.to_bits().into()),
    ] {
        let bits = |value: Value| match value {
            Value::F64(value) => value.to_bits().into(),
            value => crate::engines::bits(&value),
        };
        let pre = arrays(&mut store, var(storage.clone()));
        for len in [0, 1, 2, 3, 7, 64, 1000] {
            let array = ArrayRef::new(&mut store, &pre, &value, len).unwrap();
            assert_eq!(array.len(&store).unwrap(), len);
            let elements = array.elems(&store).unwrap();
            assert_eq!(elements.len(), len as usize);
            assert!(elements.map(bits).all(|element| element == shown), "{storage} {len}");
            let message = usage(array.get(&mut store, len));
            assert_eq!(message, format!("the array has {len} element(s), not element {len}"));
            usage(array.set(&mut store, len, value.clone()));
        }
        let zero = Value::default_for(storage.unpack());
        let fixed = [zero.clone(), value.clone(), zero.clone()];
        let array = ArrayRef::new_fixed(&mut store, &pre, &fixed).unwrap();
        assert_eq!(array.elems(&store).unwrap().map(bits).collect::<Vec<_>>(), [0, shown, 0]);
        array.set(&mut store, 2, value.clone()).unwrap();
        array.set(&mut store, 1, zero).unwrap();
        assert_eq!(array.elems(&store).unwrap().map(bits).collect::<Vec<_>>(), [0, 0, shown]);
    }
}

#[test]
fn bytes_are_copied_at_once() {
    let mut store = Store::<()>::default();
    let pre = arrays(&mut store, constant(StorageType::I8));
    let bytes: Vec<u8> = (0..100_000u32).map(|n| (n * 7) as u8).collect();
    let array = ArrayRef::new_from_i8_slice(&mut store, &pre, &bytes).unwrap();
    let mut copy = vec![0; bytes.len()];
    array.copy_to_i8_slice(&store, &mut copy).unwrap();
    assert!(copy == bytes && array.get(&store, 99_999).unwrap().unwrap_i32() == i32::from(bytes[99_999]));
    let message = usage(array.copy_to_i8_slice(&store, &mut copy[1..]));
    assert_eq!(message, "the array has 100000 bytes, room was given for 99999");
    let shorts = arrays(&mut store, var(StorageType::I16));
    assert_eq!(
        usage(ArrayRef::new_from_i8_slice(&mut store, &shorts, &bytes)),
        "the array has elements of type i16, not i8"
    );
    let array = ArrayRef::new(&mut store, &shorts, &Value::I32(0), 2).unwrap();
    assert_eq!(usage(array.copy_to_i8_slice(&store, &mut copy[..2])), "the array has elements of type i16, not i8");
}

#[test]
fn references_know_the_types_of_their_objects() {
    let mut store = Store::<()>::default();
    let engine = store.engine().clone();
    let open = |supertype: Option<&StructType>, fields: &[FieldType]| {
        StructType::with_finality_and_supertype(&engine, Finality::NonFinal, supertype, fields.to_vec()).unwrap()
    };
    let base = open(None, &[var(ValType::I32)]);
    let sub = open(Some(&base), &[var(ValType::I32), var(ValType::I64)]);
    let other = open(None, &[var(ValType::I64)]);
    let pre = StructRefPre::new(&mut store, sub.clone());
    let object = StructRef::new(&mut store, &pre, &[Value::I32(1), Value::I64(2)]).unwrap();
    assert_eq!(object.ty(&store).unwrap(), sub);
    let matches = [&base, &sub, &other].map(|ty| object.matches_ty(&store, ty).unwrap());
    assert_eq!(matches, [true, true, false]);
    let any = object.to_anyref();
    for (ty, fits) in [
        (HeapType::Any, true),
        (HeapType::Eq, true),
        (HeapType::Struct, true),
        (HeapType::from(base.clone()), true),
        (HeapType::from(other), false),
        (HeapType::Array, false),
        (HeapType::I31, false),
        (HeapType::None, false),
        (HeapType::Extern, false),
        (HeapType::Func, false),
    ] {
        assert_eq!(any.matches_ty(&store, &ty).unwrap(), fits, "{ty}");
        let ty = RefType::new(false, ty).into();
        assert_eq!(Value::from(any.clone()).matches_ty(&store, &ty), fits, "{ty}");
    }
    assert!(any.is_struct(&store).unwrap() && !any.is_array(&store).unwrap() && !any.is_i31(&store).unwrap());
    assert!(any.is_eqref(&store).unwrap() && any.as_array(&store).unwrap().is_none());
    let array_type = ArrayType::new(&engine, var(ValType::I32));
    let pre = ArrayRefPre::new(&mut store, array_type.clone());
    let array = ArrayRef::new(&mut store, &pre, &Value::I32(1), 3).unwrap();
    assert!(array.ty(&store).unwrap() == array_type && array.matches_ty(&store, &array_type).unwrap());
    let eq = array.to_eqref();
    assert!(eq.is_array(&store).unwrap() && eq.unwrap_array(&store).unwrap().same(&array));
    assert!(!eq.is_struct(&store).unwrap() && eq.as_i31(&store).unwrap().is_none());
    let panic = catch_unwind(AssertUnwindSafe(|| eq.unwrap_struct(&store))).unwrap_err();
    assert_eq!(panic.downcast_ref::<String>().unwrap(), "expected a structure");
    let number = AnyRef::from_i31(&mut store, I31::wrapping_u32(9));
    assert_eq!((number.ty(&store).unwrap(), format!("{number:?}")), (HeapType::I31, "AnyRef(I31(9))".into()));
    let host = AnyRef::convert_extern(&mut store, ExternRef::new(5)).unwrap();
    assert!(host.ty(&store).unwrap() == HeapType::Any && host.as_eqref(&store).unwrap().is_none());
}

/// What is externalised comes back as it was, and is the same.
#[test]
fn references_cross_to_extern_and_back() {
    let mut store = Store::<()>::default();
    let pre = structs(&mut store, &[]);
    let object = StructRef::new(&mut store, &pre, &[]).unwrap();
    let other = StructRef::new(&mut store, &pre, &[]).unwrap();
    let external = ExternRef::convert_any(&mut store, object.to_anyref()).unwrap();
    assert!(external.same(&external.clone()));
    assert!(!external.same(&ExternRef::convert_any(&mut store, other.to_anyref()).unwrap()));
    assert!(!external.same(&ExternRef::new(object.clone())));
    assert!(
        external.data().downcast_ref::<StructRef>().is_none() && external.data().downcast_ref::<AnyRef>().is_none()
    );
    // Through WebAssembly's slots.
    let ty = GlobalType::new(ValType::EXTERNREF, Mutability::Var);
    let global = Global::new(&mut store, ty, external.clone().into()).unwrap();
    let Value::ExternRef(Some(back)) = global.get(&store) else { panic!("the global holds it") };
    assert!(back.same(&external));
    assert!(AnyRef::convert_extern(&mut store, back).unwrap().unwrap_struct(&store).unwrap().same(&object));
    let host = ExternRef::new("host");
    let any = AnyRef::convert_extern(&mut store, host.clone()).unwrap();
    let ty = GlobalType::new(ValType::ANYREF, Mutability::Var);
    let global = Global::new(&mut store, ty, any.into()).unwrap();
    let Value::AnyRef(Some(back)) = global.get(&store) else { panic!("the global holds it") };
    assert!(ExternRef::convert_any(&mut store, back).unwrap().same(&host));
}

#[test]
fn globals_and_tables_hold_references_of_their_type_only() {
    let mut store = Store::<()>::default();
    let engine = store.engine().clone();
    let node = StructType::new(&engine, [var(ValType::I32)]).unwrap();
    let pre = StructRefPre::new(&mut store, node.clone());
    let object = StructRef::new(&mut store, &pre, &[Value::I32(4)]).unwrap();
    let stranger = structs(&mut store, &[var(ValType::I64)]);
    let stranger = StructRef::new(&mut store, &stranger, &[Value::I64(4)]).unwrap();
    let ty = RefType::new(true, node.into());
    let global = Global::new(&mut store, GlobalType::new(ty.clone().into(), Mutability::Var), object.clone().into());
    let global = global.unwrap();
    let got = global.get(&store).unwrap_anyref().unwrap().unwrap_struct(&store).unwrap();
    assert!(got.same(&object) && got.field(&store, 0).unwrap().unwrap_i32() == 4);
    usage(global.set(&mut store, stranger.clone().into()));
    usage(global.set(&mut store, I31::wrapping_u32(1).into()));
    global.set(&mut store, Value::null_any_ref()).unwrap();
    let table = Table::new(&mut store, TableType::new(ty, 2, None), Ref::Any(None)).unwrap();
    table.set(&mut store, 1, object.clone().into()).unwrap();
    let got = table.get(&store, 1).unwrap();
    assert!(got.unwrap_any().unwrap().unwrap_struct(&store).unwrap().same(&object));
    assert!(table.get(&store, 0).unwrap().is_null());
    usage(table.set(&mut store, 0, stranger.into()));
    usage(table.grow(&mut store, 1, I31::wrapping_u32(1).into()));
}

#[test]
fn functions_take_and_return_references() {
    let mut store = Store::<()>::default();
    let pre = structs(&mut store, &[var(ValType::I32)]);
    let object = StructRef::new(&mut store, &pre, &[Value::I32(4)]).unwrap();
    let array = arrays(&mut store, var(ValType::I32));
    let array = ArrayRef::new(&mut store, &array, &Value::I32(1), 2).unwrap();
    let same = Func::wrap(&mut store, |a: Option<AnyRef>, e: EqRef, s: Option<StructRef>, r: ArrayRef, i: I31| {
        (i, r, s, e, a)
    });
    let typed = same
        .typed::<(Option<AnyRef>, EqRef, Option<StructRef>, ArrayRef, I31), (
            Option<I31>,
            Option<ArrayRef>,
            Option<StructRef>,
            Option<EqRef>,
            Option<AnyRef>,
        )>(&store)
        .unwrap();
    let (number, eq) = (I31::wrapping_i32(-3), EqRef::from(array.clone()));
    let args = (Some(number.into()), eq.clone(), Some(object.clone()), array.clone(), number);
    let (i, r, s, e, a) = typed.call(&mut store, args).unwrap();
    assert!(i == Some(number) && r.unwrap().same(&array) && s.unwrap().same(&object));
    assert!(e.unwrap().same(&eq) && a.unwrap().unwrap_i31(&store).unwrap() == number);
    let mut results = vec![Value::I32(0); 5];
    let args = [Value::AnyRef(None), object.clone().into(), Value::null_any_ref(), array.clone().into(), number.into()];
    same.call(&mut store, &args, &mut results).unwrap();
    assert!(results[1].unwrap_anyref().unwrap().unwrap_array(&store).unwrap().same(&array));
    let mut wrong = args.clone();
    wrong[1] = Value::null_any_ref();
    assert_eq!(usage(same.call(&mut store, &wrong, &mut results)), "argument 1 has type (ref eq), got anyref");
    wrong[1] = args[1].clone();
    wrong[3] = args[1].clone();
    let message = usage(same.call(&mut store, &wrong, &mut results));
    assert!(message.starts_with("argument 3 has type (ref array), got (ref type#"), "{message}");
    // Statically wrong.
    usage(same.typed::<(AnyRef, AnyRef, StructRef, ArrayRef, I31), (AnyRef, AnyRef, AnyRef, AnyRef, AnyRef)>(&store));
}

/// Where a parameter is of a concrete type, typed calls check what they pass.
#[test]
fn typed_calls_check_arguments_of_concrete_types() {
    let mut store = Store::<()>::default();
    let engine = store.engine().clone();
    let node = StructType::new(&engine, [var(ValType::I32)]).unwrap();
    let pre = StructRefPre::new(&mut store, node.clone());
    let object = StructRef::new(&mut store, &pre, &[Value::I32(4)]).unwrap();
    let stranger = structs(&mut store, &[var(ValType::I64)]);
    let stranger = StructRef::new(&mut store, &stranger, &[Value::I64(4)]).unwrap();
    let node = ValType::from(RefType::new(false, node.into()));
    let ty = FuncType::new(&engine, [ValType::I32, node.clone()], [node]);
    let give = Func::new(&mut store, ty, |_, args, results| {
        results[0] = args[1].clone();
        Ok(())
    });
    let typed = give.typed::<(i32, Option<StructRef>), StructRef>(&store).unwrap();
    assert!(typed.call(&mut store, (1, Some(object.clone()))).unwrap().same(&object));
    assert!(usage(typed.call(&mut store, (1, Some(stranger.clone())))).starts_with("argument 1 has type (ref type#"));
    usage(typed.call(&mut store, (1, None)));
    let typed = give.typed::<(i32, AnyRef), AnyRef>(&store).unwrap();
    assert!(typed.call(&mut store, (1, object.clone().into())).unwrap().unwrap_struct(&store).unwrap().same(&object));
    usage(typed.call(&mut store, (1, I31::wrapping_u32(1).into())));
    usage(give.typed::<(i32, ArrayRef), StructRef>(&store));
    usage(give.typed::<(i32, StructRef), ArrayRef>(&store));
    // What a host function returns is checked as well.
    let wrong = stranger.clone();
    let ty = give.ty(&store);
    let lie = Func::new(&mut store, ty, move |_, _, results| {
        results[0] = wrong.clone().into();
        Ok(())
    });
    let typed = lie.typed::<(i32, StructRef), StructRef>(&store).unwrap();
    assert!(usage(typed.call(&mut store, (1, object))).starts_with("result 0 has type (ref type#"));
}

#[test]
fn wrong_values_and_places_are_refused() {
    let mut store = Store::<()>::default();
    let pre = structs(&mut store, &[var(StorageType::I8), constant(ValType::I64)]);
    let object = StructRef::new(&mut store, &pre, &[Value::I32(1), Value::I64(2)]).unwrap();
    for (message, result) in [
        ("expected 2 field(s), got 1", StructRef::new(&mut store, &pre, &[Value::I32(1)]).map(drop)),
        ("field 1 has type i64, got i32", StructRef::new(&mut store, &pre, &[Value::I32(1), Value::I32(2)]).map(drop)),
        ("field 0 has type i32, got f32", object.set_field(&mut store, 0, Value::F32(1.0))),
        ("field 1 cannot be set", object.set_field(&mut store, 1, Value::I64(1))),
        ("the structure has 2 field(s), not field 2", object.set_field(&mut store, 2, Value::I64(1))),
        ("the structure has 2 field(s), not field 2", object.field(&mut store, 2).map(drop)),
    ] {
        assert_eq!(usage(result), message);
    }
    let node = RefType::new(false, HeapType::Struct);
    let pre = arrays(&mut store, constant(ValType::from(node)));
    let array = ArrayRef::new_fixed(&mut store, &pre, &[object.clone().into()]).unwrap();
    for (message, result) in [
        ("the elements of the array cannot be set", array.set(&mut store, 0, object.into())),
        (
            "element 0 has type (ref struct), got anyref",
            ArrayRef::new_fixed(&mut store, &pre, &[Value::AnyRef(None)]).map(drop),
        ),
        (
            "element 0 has type (ref struct), got (ref i31)",
            ArrayRef::new(&mut store, &pre, &I31::wrapping_u32(3).into(), 0).map(drop),
        ),
    ] {
        assert_eq!(usage(result), message);
    }
}

#[test]
fn an_object_is_of_no_use_in_another_store() {
    let engine = Engine::default();
    let [mut store, mut other] = [Store::new(&engine, ()), Store::new(&engine, ())];
    let fields = [var(ValType::ANYREF)];
    let (pre, foreign_pre) = (structs(&mut store, &fields), structs(&mut other, &fields));
    let array_pre = arrays(&mut store, var(ValType::ANYREF));
    let object = StructRef::new(&mut store, &pre, &[Value::AnyRef(None)]).unwrap();
    let foreign = StructRef::new(&mut other, &foreign_pre, &[Value::AnyRef(None)]).unwrap();
    let (any, value) = (foreign.to_anyref(), Value::from(foreign.clone()));
    let external = ExternRef::convert_any(&mut other, any.clone()).unwrap();
    let foreign_array = arrays(&mut other, var(ValType::I32));
    let foreign_array = ArrayRef::new(&mut other, &foreign_array, &Value::I32(0), 1).unwrap();
    usage(StructRef::new(&mut store, &foreign_pre, &[Value::AnyRef(None)]));
    usage(StructRef::new(&mut store, &pre, std::slice::from_ref(&value)));
    usage(ArrayRef::new(&mut store, &array_pre, &value, 3));
    usage(ArrayRef::new_fixed(&mut store, &array_pre, std::slice::from_ref(&value)));
    usage(object.set_field(&mut store, 0, value.clone()));
    usage(foreign.set_field(&mut store, 0, Value::AnyRef(None)));
    usage(foreign.field(&mut store, 0));
    usage(foreign.fields(&store).map(drop));
    usage(foreign.ty(&store));
    usage(any.ty(&store));
    usage(any.as_struct(&store));
    usage(any.as_eqref(&store));
    usage(any.as_i31(&store));
    usage(any.to_owned_rooted(&store));
    usage(AnyRef::ref_eq(&store, &any, &object.to_anyref()));
    usage(AnyRef::convert_extern(&mut store, external.clone()));
    usage(ExternRef::convert_any(&mut store, any.clone()));
    usage(foreign_array.len(&store));
    usage(foreign_array.get(&store, 0));
    usage(foreign_array.set(&mut store, 0, Value::I32(1)));
    usage(foreign_array.elems(&store).map(drop));
    usage(Global::new(&mut store, GlobalType::new(ValType::ANYREF, Mutability::Var), value.clone()));
    usage(Global::new(&mut store, GlobalType::new(ValType::EXTERNREF, Mutability::Var), external.into()));
    let concrete = RefType::new(true, pre_type(&store, &object).into());
    usage(Table::new(&mut store, TableType::new(concrete, 1, None), any.clone().into()));
    let take = Func::wrap(&mut store, |_: AnyRef, _: Option<StructRef>| ());
    let message = usage(take.call(&mut store, &[I31::wrapping_u32(0).into(), value.clone()], &mut []));
    assert_eq!(message, "argument 1 refers to an object in another store");
    let typed = take.typed::<(AnyRef, Option<StructRef>), ()>(&store).unwrap();
    usage(typed.call(&mut store, (any.clone(), None)));
    usage(typed.call(&mut store, (I31::wrapping_u32(0).into(), Some(foreign.clone()))));
    let give = {
        let foreign = foreign.clone();
        Func::wrap(&mut store, move || foreign.clone())
    };
    usage(give.typed::<(), StructRef>(&store).unwrap().call(&mut store, ()));
    assert!(!any.same(&object.to_anyref()) && !value.matches_ty(&store, &ValType::from(RefType::EQREF)));
}

fn pre_type(store: &Store<()>, object: &StructRef) -> StructType {
    object.ty(store).unwrap()
}

#[test]
fn a_type_of_another_engine_is_refused() {
    let mut store = Store::<()>::default();
    let ty = StructType::new(&Engine::default(), []).unwrap();
    let message = |call: &mut dyn FnMut()| {
        let panic = catch_unwind(AssertUnwindSafe(call)).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"a type of another engine"));
    };
    message(&mut || drop(StructRefPre::new(&mut store, ty.clone())));
    let ty = ArrayType::new(&Engine::default(), var(ValType::I32));
    message(&mut || drop(ArrayRefPre::new(&mut store, ty.clone())));
}

/// Handles are dropped before and after their store, on other threads, and while others are made.
#[test]
fn handles_may_outlive_their_store_and_move_to_other_threads() {
    let mut store = Store::<()>::default();
    let pre = structs(&mut store, &[var(ValType::I64), var(ValType::ANYREF)]);
    let objects: Vec<StructRef> = (0..64).filter_map(|n| list(&mut store, &pre, [n, -n])).collect();
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let objects = &objects;
            scope.spawn(move || {
                let mut held = Vec::new();
                for n in 0..10_000_usize {
                    held.push(objects[(n * 7 + worker) % objects.len()].clone());
                    if n % 3 != 0 {
                        held.swap_remove(n % held.len());
                    }
                }
                held
            });
        }
        // Objects are made, and garbage is collected, meanwhile.
        for n in 0..2000 {
            list(&mut store, &pre, 0..20);
            if n % 100 == 0 {
                store.gc();
            }
        }
    });
    for (n, object) in (0..).zip(&objects) {
        assert_eq!(numbers(&store, Some(object.clone())), [-n, n]);
    }
    let any = objects[0].to_anyref();
    drop(store);
    let clone = objects[1].clone();
    assert!(clone.same(&objects[1]) && !clone.same(&objects[2]));
    std::thread::spawn(move || drop((objects, clone))).join().unwrap();
    let mut other = Store::<()>::default();
    usage(any.ty(&other));
    usage(Global::new(&mut other, GlobalType::new(ValType::ANYREF, Mutability::Var), any.into()));
}

/// Whatever the host holds keeps what it refers to, even if a collection runs at every chance.
#[test]
fn held_objects_survive_collections() {
    let engine = Engine::new(Config::new().collect_always(true)).unwrap();
    let mut store = Store::new(&engine, ());
    let pre = structs(&mut store, &[var(ValType::I64), var(ValType::ANYREF)]);
    let first = list(&mut store, &pre, 0..50);
    let second = list(&mut store, &pre, (0..50).rev());
    let elements = arrays(&mut store, var(ValType::ANYREF));
    let value = Value::from(first.clone());
    let array = ArrayRef::new(&mut store, &elements, &value, 30).unwrap();
    drop((first, value));
    for n in 0..50 {
        list(&mut store, &pre, 0..n % 7);
        store.gc();
    }
    assert_eq!(numbers(&store, second), (0..50).collect::<Vec<_>>());
    for element in array.elems(&store).unwrap() {
        let list = element.unwrap_anyref().unwrap().unwrap_struct(&store).unwrap();
        assert_eq!(numbers(&store, Some(list)), (0..50).rev().collect::<Vec<_>>());
    }
}

/// Host objects in fields are kept by the field, and dropped after it is gone.
#[test]
fn host_objects_in_fields() {
    use std::sync::Arc;
    let mut store = Store::<()>::default();
    let marker = Arc::new(());
    let pre = structs(&mut store, &[var(ValType::EXTERNREF), var(ValType::ANYREF)]);
    let one = ExternRef::new(marker.clone());
    let other = AnyRef::convert_extern(&mut store, ExternRef::new(marker.clone())).unwrap();
    let object = StructRef::new(&mut store, &pre, &[one.clone().into(), other.clone().into()]).unwrap();
    store.gc();
    let fields: Vec<Value> = object.fields(&store).unwrap().collect();
    assert!(fields[0].unwrap_externref().unwrap().same(&one) && fields[1].unwrap_anyref().unwrap().same(&other));
    drop((one, other, fields));
    assert!(Arc::strong_count(&marker) >= 3);
    object.set_field(&mut store, 0, Value::ExternRef(None)).unwrap();
    drop(object);
    store.gc();
    drop(store);
    assert_eq!(Arc::strong_count(&marker), 1);
}

/// Exceptions in fields are kept by the field, and are what they were.
#[test]
fn exceptions_in_fields() {
    let engine = Engine::new(Config::new().collect_always(true)).unwrap();
    let mut store = Store::new(&engine, ());
    let ty = TagType::new(FuncType::new(&engine, [ValType::I64, ValType::ANYREF], []));
    let tag = Tag::new(&mut store, &ty).unwrap();
    let pre = structs(&mut store, &[var(ValType::EXNREF)]);
    let elements = arrays(&mut store, var(ValType::EXNREF));
    let inner = StructRef::new(&mut store, &pre, &[Value::ExnRef(None)]).unwrap();
    let exception = ExnRef::new(&mut store, &tag, &[Value::I64(5), inner.clone().into()]).unwrap();
    let object = StructRef::new(&mut store, &pre, &[exception.clone().into()]).unwrap();
    let array = ArrayRef::new(&mut store, &elements, &exception.into(), 3).unwrap();
    for _ in 0..20 {
        ExnRef::new(&mut store, &tag, &[Value::I64(6), Value::AnyRef(None)]).unwrap();
        store.gc();
    }
    for value in [object.field(&store, 0).unwrap(), array.get(&store, 2).unwrap()] {
        let Value::ExnRef(Some(exception)) = value else { panic!("an exception") };
        assert_eq!(
            (exception.tag(&mut store).unwrap(), exception.field(&mut store, 0).unwrap().unwrap_i64()),
            (tag, 5)
        );
        let payload = exception.field(&mut store, 1).unwrap();
        assert!(payload.unwrap_anyref().unwrap().unwrap_struct(&store).unwrap().same(&inner));
    }
    let mut other = Store::new(&engine, ());
    let tag = Tag::new(&mut other, &ty).unwrap();
    let foreign = ExnRef::new(&mut other, &tag, &[Value::I64(5), Value::AnyRef(None)]).unwrap();
    usage(object.set_field(&mut store, 0, foreign.into()));
    object.set_field(&mut store, 0, Value::ExnRef(None)).unwrap();
    assert!(object.field(&store, 0).unwrap().unwrap_exnref().is_none());
}

/// A limiter that allows up to a size, or panics beyond it.
struct Limiter {
    most: usize,
    panics: bool,
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmrun::Result<bool> {
        assert!(desired <= self.most || !self.panics, "beyond the limit");
        Ok(desired <= self.most)
    }

    fn table_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> wasmrun::Result<bool> {
        Ok(true)
    }
}

/// Arrays of 50,000 bytes that can be made and held at once in a store.
fn make_all<T>(store: &mut Store<T>, pre: &ArrayRefPre) -> (Vec<ArrayRef>, wasmrun::Error) {
    let mut held = Vec::new();
    loop {
        match ArrayRef::new(&mut *store, pre, &Value::I32(7), 50_000) {
            Ok(array) => held.push(array),
            Err(error) => return (held, error),
        }
    }
}

#[test]
fn the_limiter_bounds_what_the_host_makes() {
    let mut store = Store::new(&Engine::default(), Limiter { most: 2 << 20, panics: false });
    store.limiter(|limiter| limiter);
    let pre = arrays(&mut store, var(StorageType::I8));
    for _ in 0..3 {
        let (held, error) = make_all(&mut store, &pre);
        assert!(matches!(error.kind(), ErrorKind::Resource(_)), "{error}");
        assert!((15..=42).contains(&held.len()), "{}", held.len());
        for array in &held {
            assert_eq!(array.get(&store, 49_999).unwrap().unwrap_i32(), 7);
        }
    }
    // Garbage makes room.
    for _ in 0..1000 {
        ArrayRef::new(&mut store, &pre, &Value::I32(7), 50_000).unwrap();
    }
    let error = ArrayRef::new(&mut store, &pre, &Value::I32(7), u32::MAX).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Resource(_)), "{error}");
    store.data_mut().panics = true;
    let panic = catch_unwind(AssertUnwindSafe(|| make_all(&mut store, &pre))).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"beyond the limit"));
    store.data_mut().panics = false;
    ArrayRef::new(&mut store, &pre, &Value::I32(7), 50_000).unwrap();
}

#[test]
fn the_budget_bounds_what_the_host_makes() {
    let mut store = Store::<()>::default();
    store.set_budget(&Budget::new().memory(2 << 20)).unwrap();
    let pre = arrays(&mut store, var(StorageType::I8));
    for _ in 0..3 {
        let (held, error) = make_all(&mut store, &pre);
        assert!(
            matches!(error.kind(), ErrorKind::Resource(_)) && error.budget_item() == Some(BudgetItem::Memory),
            "{error:?}"
        );
        assert!((15..=42).contains(&held.len()), "{}", held.len());
        assert!(store.budget_used().memory <= 2 << 20);
    }
}

/// Handles that come and go leave nothing behind, and neither do their objects.
#[test]
fn a_million_handles_take_no_room() {
    let mut store = Store::<()>::default();
    store.set_budget(&Budget::new().memory(8 << 20)).unwrap();
    let pre = structs(&mut store, &[var(ValType::I64), var(ValType::ANYREF)]);
    let first = StructRef::new(&mut store, &pre, &[Value::I64(1), Value::AnyRef(None)]).unwrap();
    for n in 0..1_000_000 {
        let object = StructRef::new(&mut store, &pre, &[Value::I64(n), first.clone().into()]).unwrap();
        let next = object.field(&store, 1).unwrap();
        assert!(next.unwrap_anyref().unwrap().same(&first.to_anyref()));
    }
    assert_eq!(first.field(&store, 0).unwrap().unwrap_i64(), 1);
}

/// A list of numbers, as WebAssembly code makes and reads it.
const LISTS: &str = r#"(module
    (rec
        (type $node (sub (struct (field $n (mut i64)) (field $next (mut (ref null $node))))))
        (type $named (sub final $node (struct
            (field (mut i64)) (field (mut (ref null $node))) (field $name (ref $bytes)) (field $f (mut (ref null $fn))))))
        (type $bytes (array (mut i8)))
        (type $fn (func (param (ref null $node)) (result i64))))
    (import "" "visit" (func $visit (param (ref $node)) (result (ref $node))))
    (global $kept (export "kept") (mut (ref null $node)) (ref.null $node))
    (func $push (export "push") (param i64 (ref null $node)) (result (ref $node))
        (struct.new $node (local.get 0) (local.get 1)))
    (func $sum (export "sum") (type $fn) (local $sum i64)
        (loop $next
            (if (ref.is_null (local.get 0)) (then (return (local.get $sum))))
            (local.set $sum (i64.add (local.get $sum) (struct.get $node $n (local.get 0))))
            (local.set 0 (struct.get $node $next (local.get 0)))
            (br $next))
        (unreachable))
    (func (export "named") (param (ref $bytes)) (result (ref $named))
        (struct.new $named (i64.const 5) (ref.null $node) (local.get 0) (ref.func $sum)))
    (func (export "name length") (param anyref) (result i32)
        (if (ref.test (ref $named) (local.get 0))
            (then (return (array.len (struct.get $named $name (ref.cast (ref $named) (local.get 0)))))))
        (i32.const -1))
    ;; Each node comes from the host, and only a slot of this function refers to it.
    (func (export "visits") (param $n i32) (result i64) (local $list (ref null $node))
        (loop $again
            (local.set $list (call $push (i64.extend_i32_u (local.get $n)) (local.get $list)))
            (local.set $list (call $visit (ref.as_non_null (local.get $list))))
            (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (call $sum (local.get $list)))
    (func (export "to extern") (param anyref) (result externref) (extern.convert_any (local.get 0)))
    (func (export "to any") (param externref) (result anyref) (any.convert_extern (local.get 0)))
    (func (export "i31") (param i31ref) (result i32) (i31.get_s (local.get 0)))
    (func (export "eq") (param eqref eqref) (result i32) (ref.eq (local.get 0) (local.get 1)))
    (func (export "churn") (param i32)
        (loop $again
            (drop (call $push (i64.const -1) (ref.null $node)))
            (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))"#;

/// Runs a test on an instance of [`LISTS`], on each engine. The import gives a new node back with a number one higher.
fn with_lists(test: impl Fn(&mut Store<()>, Instance)) {
    for config in gc_configs() {
        println!("{config:?}");
        let engine = Engine::new(&config).unwrap();
        let module = Module::new(&engine, LISTS).unwrap();
        let mut store = Store::new(&engine, ());
        let ty = module.imports().next().unwrap().ty().unwrap_func().clone();
        let node = concrete(&ty.params()[0]).as_struct().unwrap();
        let pre = StructRefPre::new(&mut store, node);
        let visit = Func::new(&mut store, ty, move |mut caller, args, results| {
            let node = args[0].unwrap_anyref().unwrap().unwrap_struct(&caller)?;
            let number = node.field(&caller, 0)?.unwrap_i64();
            let next = node.field(&caller, 1)?;
            drop(node);
            // Garbage, so that what was lost is written over.
            for _ in 0..3 {
                StructRef::new(&mut caller, &pre, &[Value::I64(-1), Value::AnyRef(None)])?;
            }
            results[0] = StructRef::new(&mut caller, &pre, &[Value::I64(number + 1), next])?.into();
            Ok(())
        });
        let instance = Instance::new(&mut store, &module, &[visit.into()]).unwrap();
        test(&mut store, instance);
    }
}

fn concrete(ty: &ValType) -> RegisteredType {
    ty.unwrap_ref().heap_type().as_concrete().unwrap().clone()
}

#[test]
fn host_and_guest_share_objects() {
    with_lists(|store, instance| {
        let push = instance.get_func(&mut *store, "push").unwrap();
        let node = concrete(&push.ty(&*store).params()[1]).as_struct().unwrap();
        let pre = StructRefPre::new(&mut *store, node.clone());
        let mut last: Option<StructRef> = None;
        let push = push.typed::<(i64, Option<StructRef>), StructRef>(&*store).unwrap();
        for n in 0..50 {
            let next = if n % 2 == 0 {
                push.call(&mut *store, (n, last.take())).unwrap()
            } else {
                StructRef::new(&mut *store, &pre, &[Value::I64(n), last.take().into()]).unwrap()
            };
            last = Some(next);
        }
        let sum = instance.get_typed_func::<Option<StructRef>, i64>(&mut *store, "sum").unwrap();
        call::<_, i32, ()>(store, instance, "churn", 1000).unwrap();
        assert_eq!(sum.call(&mut *store, last.clone()).unwrap(), 49 * 50 / 2);
        assert_eq!(numbers(store, last.clone()), (0..50).rev().collect::<Vec<_>>());
        last.as_ref().unwrap().set_field(&mut *store, 0, Value::I64(0)).unwrap();
        assert_eq!(sum.call(&mut *store, last.clone()).unwrap(), 48 * 49 / 2);
        // A global keeps it, without a handle.
        let kept = instance.get_global(&mut *store, "kept").unwrap();
        kept.set(&mut *store, last.into()).unwrap();
        store.gc();
        call::<_, i32, ()>(store, instance, "churn", 1000).unwrap();
        let kept = kept.get(&*store).unwrap_anyref().unwrap().unwrap_struct(&*store).unwrap();
        assert_eq!((numbers(store, Some(kept.clone())).len(), kept.ty(&*store).unwrap()), (50, node));
        assert_eq!(call::<_, (EqRef, EqRef), i32>(store, instance, "eq", (kept.to_eqref(), kept.into())).unwrap(), 1);
    });
}

#[test]
fn subtypes_and_functions_in_fields() {
    with_lists(|store, instance| {
        let named = instance.get_func(&mut *store, "named").unwrap();
        let ty = named.ty(&*store);
        let bytes = concrete(&ty.params()[0]).as_array().unwrap();
        let ty = concrete(&ty.results()[0]).as_struct().unwrap();
        let pre = ArrayRefPre::new(&mut *store, bytes);
        let name = ArrayRef::new_from_i8_slice(&mut *store, &pre, b"a name").unwrap();
        let named = named.typed::<ArrayRef, StructRef>(&*store).unwrap();
        let object = named.call(&mut *store, name.clone()).unwrap();
        assert_eq!(object.ty(&*store).unwrap(), ty);
        assert!(object.matches_ty(&*store, &ty.supertype().unwrap()).unwrap());
        let fields: Vec<Value> = object.fields(&*store).unwrap().collect();
        assert!(fields[2].unwrap_anyref().unwrap().unwrap_array(&*store).unwrap().same(&name));
        let sum = fields[3].unwrap_funcref().copied().unwrap();
        let sum = sum.typed::<StructRef, i64>(&*store);
        assert!(sum.is_ok(), "{sum:?}");
        // One of the host.
        let pre = StructRefPre::new(&mut *store, ty);
        let own = StructRef::new(&mut *store, &pre, &fields).unwrap();
        for (object, length) in [(&object, 6), (&own, 6)] {
            let got = call::<_, Option<AnyRef>, i32>(store, instance, "name length", Some(object.to_anyref()));
            assert_eq!(got.unwrap(), length);
        }
        assert_eq!(call::<_, Option<AnyRef>, i32>(store, instance, "name length", Some(name.into())).unwrap(), -1);
        let stranger = Func::wrap(&mut *store, |n: i32| n);
        let error = own.set_field(&mut *store, 3, stranger.into()).unwrap_err();
        assert!(error.to_string().starts_with("field 3 has type (ref null type#"), "{error}");
        own.set_field(&mut *store, 3, Value::null_func_ref()).unwrap();
    });
}

#[test]
fn what_host_functions_return_is_not_lost() {
    with_lists(|store, instance| {
        assert_eq!(call::<_, i32, i64>(store, instance, "visits", 60).unwrap(), 60 * 61 / 2 + 60);
        store.gc();
        assert_eq!(call::<_, i32, i64>(store, instance, "visits", 10).unwrap(), 10 * 11 / 2 + 10);
    });
}

#[test]
fn instructions_convert_as_the_api_does() {
    with_lists(|store, instance| {
        let number = I31::wrapping_i32(-1 << 30);
        assert_eq!(call::<_, Option<I31>, i32>(store, instance, "i31", Some(number)).unwrap(), -1 << 30);
        let object = call::<_, (i64, Option<StructRef>), StructRef>(store, instance, "push", (3, None)).unwrap();
        for any in [AnyRef::from(number), object.into()] {
            let external =
                call::<_, Option<AnyRef>, Option<ExternRef>>(store, instance, "to extern", Some(any.clone()));
            let external = external.unwrap().unwrap();
            assert!(external.same(&ExternRef::convert_any(&mut *store, any.clone()).unwrap()));
            store.gc();
            let back = call::<_, Option<ExternRef>, Option<AnyRef>>(store, instance, "to any", Some(external));
            assert!(back.unwrap().unwrap().same(&any));
        }
        let host = ExternRef::new("host");
        let any = call::<_, Option<ExternRef>, Option<AnyRef>>(store, instance, "to any", Some(host.clone()));
        let any = any.unwrap().unwrap();
        assert!(any.ty(&*store).unwrap() == HeapType::Any);
        let back = call::<_, Option<AnyRef>, Option<ExternRef>>(store, instance, "to extern", Some(any)).unwrap();
        assert!(back.unwrap().same(&host));
        assert!(call::<_, Option<AnyRef>, Option<ExternRef>>(store, instance, "to extern", None).unwrap().is_none());
    });
}
