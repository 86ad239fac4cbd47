//! Calls from WebAssembly to the host and back: all types, many parameters, errors, panics, recursion.

use crate::engines::{bits, call, for_each_engine, instantiate, setup};
use std::panic::{AssertUnwindSafe, catch_unwind};
use wasmrun::{
    Caller, Engine, Error, ErrorKind, ExnRef, Extern, ExternRef, Func, FuncType, Instance, LinearMemory, Linker,
    Module, Ref, Result, Store, Tag, TagType, Trap, ValType, Value,
};

/// Values of each type, with bits that a careless engine loses.
fn samples(ty: &ValType) -> Vec<Value> {
    match ty {
        ValType::I32 => [0, -1, i32::MIN, 0x1234_5678].map(Value::I32).into(),
        ValType::I64 => [0, -1, i64::MIN, 0x1234_5678_9abc_def0].map(Value::I64).into(),
        ValType::F32 => {
            [0, 0x8000_0000, 0x7fa0_1234, 0xffc0_0000, 0x3f80_0000].map(f32::from_bits).map(Value::F32).into()
        }
        ValType::F64 => {
            [0, 1 << 63, 0x7ff4_0000_dead_beef, 0xfff8_0000_0000_0000].map(f64::from_bits).map(Value::F64).into()
        }
        ValType::V128 => [0, u128::MAX, 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210].map(Value::V128).into(),
        &ValType::EXTERNREF => vec![Value::ExternRef(None), Value::ExternRef(Some(ExternRef::new(5)))],
        &ValType::FUNCREF => vec![Value::FuncRef(None)],
        other => panic!("an unknown type {other}"),
    }
}

const TYPES: [ValType; 7] =
    [ValType::I32, ValType::I64, ValType::F32, ValType::F64, ValType::V128, ValType::EXTERNREF, ValType::FUNCREF];

#[test]
fn values_of_every_type_come_through_unchanged() {
    for_each_engine(|engine| {
        for ty in &TYPES {
            let mut store = Store::new(engine, ());
            let same = FuncType::new(store.engine(), [ty.clone()], [ty.clone()]);
            let host = Func::new(&mut store, same, |_: Caller<'_, ()>, args, results| {
                results[0] = args[0].clone();
                Ok(())
            });
            let wat = format!(
                r#"(module (import "" "host" (func $host (param {ty}) (result {ty})))
                    (func (export "run") (param {ty}) (result {ty}) (local {ty})
                        (local.set 1 (call $host (local.get 0))) (local.get 1)))"#
            );
            let instance = instantiate(&mut store, &wat, &[host.into()]);
            let run = instance.get_func(&mut store, "run").unwrap();
            for value in samples(ty) {
                let mut results = [Value::default_for(ty)];
                run.call(&mut store, std::slice::from_ref(&value), &mut results).unwrap();
                assert_eq!((&results[0].ty(), bits(&results[0])), (ty, bits(&value)));
                if let (Value::ExternRef(Some(sent)), Value::ExternRef(Some(got))) = (&value, &results[0]) {
                    assert!(sent.same(got));
                }
                host.call(&mut store, std::slice::from_ref(&value), &mut results).unwrap();
                assert_eq!(bits(&results[0]), bits(&value));
            }
        }
    });
}

/// Passes `count` values of mixed types through a host function that returns them in reverse order.
fn many_params(engine: &Engine, count: usize) {
    let types: Vec<_> = (0..count).map(|i| TYPES[i % 5].clone()).collect();
    let reversed: Vec<_> = types.iter().rev().cloned().collect();
    let mut store = Store::new(engine, ());
    let ty = FuncType::new(store.engine(), types.clone(), reversed.clone());
    let host = Func::new(&mut store, ty.clone(), |_: Caller<'_, ()>, args, results| {
        for (result, arg) in results.iter_mut().zip(args.iter().rev()) {
            *result = arg.clone();
        }
        Ok(())
    });
    let gets: String = (0..count).map(|i| format!("(local.get {i})")).collect();
    let wat = format!(
        r#"(module (type $t (func {ty})) (import "" "host" (func $host (type $t))) (table funcref (elem $host))
            (func (export "direct") (type $t) {gets} (call $host))
            (func (export "indirect") (type $t) {gets} (call_indirect (type $t) (i32.const 0)))
            (func (export "tail") (type $t) {gets} (return_call $host)))"#
    );
    let instance = instantiate(&mut store, &wat, &[host.into()]);
    let args: Vec<_> = types.iter().enumerate().map(|(i, ty)| samples(ty)[1 + i % 2].clone()).collect();
    for export in ["direct", "indirect", "tail"] {
        let run = instance.get_func(&mut store, export).unwrap();
        let mut results: Vec<_> = reversed.iter().map(Value::default_for).collect();
        run.call(&mut store, &args, &mut results).unwrap();
        let expected: Vec<_> = args.iter().rev().map(bits).collect();
        assert_eq!(results.iter().map(bits).collect::<Vec<_>>(), expected, "{export} with {count}");
    }
}

#[test]
fn up_to_a_thousand_params_and_results() {
    for_each_engine(|engine| {
        for count in (0..=20).chain([100, 1000]) {
            many_params(engine, count);
        }
    });
}

#[test]
fn closures_of_every_shape() {
    for_each_engine(|engine| {
        let mut linker = Linker::<Vec<String>>::new(engine);
        linker.func_wrap("h", "nothing", || {}).unwrap();
        linker.func_wrap("h", "unsigned", |a: u32, b: u64| -> (u64, u32) { (b, a) }).unwrap();
        linker.func_wrap("h", "vector", |a: u128| !a).unwrap();
        linker
            .func_wrap(
                "h",
                "sixteen",
                #[allow(clippy::too_many_arguments)]
                |a: i32,
                 b: i64,
                 c: f32,
                 d: f64,
                 e: i32,
                 f: i64,
                 g: f32,
                 h: f64,
                 i: i32,
                 j: i64,
                 k: f32,
                 l: f64,
                 m: i32,
                 n: i64,
                 o: f32,
                 p: f64| {
                    let ints = i64::from(a) + b + i64::from(e) + f + i64::from(i) + j + i64::from(m) + n;
                    ints as f64 + f64::from(c + g + k + o) + d + h + l + p
                },
            )
            .unwrap();
        linker
            .func_wrap("h", "log", |mut caller: Caller<'_, Vec<String>>, at: u32, len: u32| -> Result<u32> {
                let text = caller.memory().expect("the caller exports one").read_string(at, len)?;
                caller.data_mut().push(text);
                Ok(caller.data().len() as u32)
            })
            .unwrap();
        linker
            .func_wrap("h", "fill", |memory: &mut LinearMemory<'_>, at: u32, byte: u32| -> Result<()> {
                memory.fill(at, 4, byte as u8)
            })
            .unwrap();
        let module = Module::new(
            engine,
            r#"(module
                (import "h" "nothing" (func $nothing))
                (import "h" "unsigned" (func $unsigned (param i32 i64) (result i64 i32)))
                (import "h" "vector" (func $vector (param v128) (result v128)))
                (import "h" "sixteen" (func $sixteen (param i32 i64 f32 f64 i32 i64 f32 f64 i32 i64 f32 f64 i32 i64 f32 f64)
                    (result f64)))
                (import "h" "log" (func $log (param i32 i32) (result i32)))
                (import "h" "fill" (func $fill (param i32 i32)))
                (memory (export "memory") 1) (data (i32.const 16) "hello")
                (func (export "unsigned") (result i64 i32)
                    (call $nothing) (call $unsigned (i32.const -1) (i64.const -2)))
                (func (export "vector") (result i64)
                    (i64x2.extract_lane 1 (call $vector (v128.const i64x2 1 2))))
                (func (export "sixteen") (result f64)
                    (call $sixteen (i32.const 1) (i64.const 2) (f32.const 4) (f64.const 8) (i32.const 16) (i64.const 32)
                        (f32.const 64) (f64.const 128) (i32.const 256) (i64.const 512) (f32.const 1024) (f64.const 2048)
                        (i32.const 4096) (i64.const 8192) (f32.const 16384) (f64.const 32768)))
                (func (export "log") (result i32) (call $log (i32.const 16) (i32.const 5)))
                (func (export "log far") (result i32) (call $log (i32.const 65534) (i32.const 5)))
                (func (export "fill") (result i64)
                    (call $fill (i32.const 17) (i32.const 0x178)) (i64.load (i32.const 16))))"#,
        )
        .unwrap();
        let mut store = Store::new(engine, vec![]);
        let instance = linker.instantiate(&mut store, &module).unwrap();
        assert_eq!(call::<_, (), (u64, u32)>(&mut store, instance, "unsigned", ()).unwrap(), (u64::MAX - 1, u32::MAX));
        assert_eq!(call::<_, (), i64>(&mut store, instance, "vector", ()).unwrap(), !2);
        assert_eq!(call::<_, (), f64>(&mut store, instance, "sixteen", ()).unwrap(), 65535.0);
        assert_eq!(call::<_, (), i32>(&mut store, instance, "log", ()).unwrap(), 1);
        assert_eq!(call::<_, (), i32>(&mut store, instance, "log", ()).unwrap(), 2);
        let error = call::<_, (), i32>(&mut store, instance, "log far", ()).unwrap_err();
        assert_eq!(error.trap(), Some(Trap::MemoryOutOfBounds));
        assert_eq!(call::<_, (), u64>(&mut store, instance, "fill", ()).unwrap().to_le_bytes(), *b"hxxxx\0\0\0");
        assert_eq!(store.into_data(), ["hello", "hello"]);
    });
}

#[derive(Debug, PartialEq)]
struct Refused(u32);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "refused {}", self.0)
    }
}

impl std::error::Error for Refused {}

#[test]
fn an_error_of_the_host_reaches_the_caller() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, 0u32);
        let host = Func::wrap(&mut store, |mut caller: Caller<'_, u32>, value: u32| -> Result<u32> {
            *caller.data_mut() += 1;
            if value > 9 { Err(Error::host(Refused(value))) } else { Ok(value + 1) }
        });
        let wat = r#"(module (import "" "host" (func $host (param i32) (result i32)))
            (func (export "run") (param i32) (result i32) (call $host (call $host (local.get 0)))))"#;
        let instance = instantiate(&mut store, wat, &[host.into()]);
        assert_eq!(call::<_, u32, u32>(&mut store, instance, "run", 3).unwrap(), 5);
        let error = call::<_, u32, u32>(&mut store, instance, "run", 9).unwrap_err();
        assert_eq!(error.downcast_host::<Refused>(), Some(&Refused(10)));
        assert_eq!(error.to_string(), "refused 10");
        assert_eq!(error.backtrace().len(), 1);
        assert_eq!(*store.data(), 4);
    });
}

#[test]
fn a_panic_of_the_host_resumes_in_the_caller() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let panics = Func::wrap(&mut store, |value: i32| -> i32 {
            if value == 7 { std::panic::panic_any(Refused(7)) } else { value }
        });
        let wat = r#"(module (import "" "host" (func $host (param i32) (result i32)))
            (func $run (export "run") (param i32) (result i32) (call $host (local.get 0))))"#;
        let inner = instantiate(&mut store, wat, &[panics.into()]);
        let run = inner.get_typed_func::<i32, i32>(&mut store, "run").unwrap();
        let nested = Func::wrap(&mut store, move |mut caller: Caller<'_, ()>, value: i32| run.call(&mut caller, value));
        let outer = instantiate(&mut store, wat, &[nested.into()]);
        for instance in [inner, outer] {
            for _ in 0..3 {
                let result = catch_unwind(AssertUnwindSafe(|| call::<_, i32, i32>(&mut store, instance, "run", 7)));
                assert_eq!(result.unwrap_err().downcast_ref::<Refused>(), Some(&Refused(7)));
                assert_eq!(call::<_, i32, i32>(&mut store, instance, "run", 8).unwrap(), 8);
            }
        }
        // A host function that catches the panic of the call it made goes on.
        let catches = Func::wrap(&mut store, move |mut caller: Caller<'_, ()>, value: i32| {
            catch_unwind(AssertUnwindSafe(|| run.call(&mut caller, value))).is_err() as i32
        });
        let instance = instantiate(&mut store, wat, &[catches.into()]);
        assert_eq!(call::<_, i32, i32>(&mut store, instance, "run", 7).unwrap(), 1);
    });
}

#[test]
fn host_and_guest_call_each_other_in_turn() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, None::<Instance>);
        let host = Func::wrap(&mut store, |mut caller: Caller<'_, Option<Instance>>, n: u64| -> Result<u64> {
            let instance = caller.data().expect("set below");
            let guest = instance.get_typed_func::<u64, u64>(&mut caller, "guest")?;
            if n == 0 { Ok(1) } else { Ok(n.wrapping_mul(guest.call(&mut caller, n - 1)?)) }
        });
        let wat = r#"(module (import "" "host" (func $host (param i64) (result i64)))
            (func (export "guest") (param i64) (result i64)
                (if (result i64) (i64.eqz (local.get 0)) (then (i64.const 1))
                    (else (i64.mul (local.get 0) (call $host (i64.sub (local.get 0) (i64.const 1))))))))"#;
        let instance = instantiate(&mut store, wat, &[host.into()]);
        *store.data_mut() = Some(instance);
        assert_eq!(call::<_, u64, u64>(&mut store, instance, "guest", 20).unwrap(), (1..=20).product::<u64>());
    });
}

#[test]
fn host_functions_are_references_like_others() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let double = Func::wrap(&mut store, |a: i32| a * 2);
        let pick = Func::wrap(&mut store, move |which: i32| (which == 1).then_some(double));
        let wat = r#"(module
            (type $t (func (param i32) (result i32)))
            (import "" "pick" (func $pick (param i32) (result funcref)))
            (table $table (export "table") 2 funcref)
            (func (export "run") (param i32 i32) (result i32)
                (table.set (i32.const 1) (call $pick (local.get 0)))
                (call_indirect (type $t) (local.get 1) (i32.const 1))))"#;
        let instance = instantiate(&mut store, wat, &[pick.into()]);
        assert_eq!(call::<_, (i32, i32), i32>(&mut store, instance, "run", (1, 21)).unwrap(), 42);
        let error = call::<_, (i32, i32), i32>(&mut store, instance, "run", (0, 21)).unwrap_err();
        assert_eq!(error.trap(), Some(Trap::UninitializedElement));
        let table = instance.get_table(&mut store, "table").unwrap();
        table.set(&mut store, 1, Ref::Func(Some(double))).unwrap();
        let Some(Ref::Func(Some(func))) = table.get(&store, 1) else { panic!("the function is there") };
        assert_eq!(func.typed::<i32, i32>(&store).unwrap().call(&mut store, 4).unwrap(), 8);
    });
}

#[test]
fn exports_that_the_caller_has() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let host = Func::wrap(&mut store, |mut caller: Caller<'_, ()>| -> Result<i32> {
            assert!(caller.get_export("nothing").is_none());
            let global = caller.get_export("g").and_then(Extern::into_global).expect("a global");
            let Value::I32(value) = global.get(&caller) else { panic!("an i32") };
            global.set(&mut caller, Value::I32(value + 1))?;
            caller.memory().expect("a memory").write_u32(0, 0x0102_0304)?;
            Ok(value)
        });
        let wat = r#"(module (import "" "host" (func $host (result i32)))
            (memory (export "memory") 1) (global $g (export "g") (mut i32) (i32.const 40))
            (func (export "run") (result i32)
                (i32.add (i32.add (call $host) (global.get $g)) (i32.load8_u (i32.const 3)))))"#;
        let instance = instantiate(&mut store, wat, &[host.into()]);
        assert_eq!(call::<_, (), i32>(&mut store, instance, "run", ()).unwrap(), 82);
    });
}

#[test]
fn wrong_arguments_are_refused() {
    for_each_engine(|engine| {
        let wat = r#"(module (func (export "f") (param i32) (result i64) (i64.const 1)))"#;
        let (mut store, instance) = setup(engine, wat);
        let f = instance.get_func(&mut store, "f").unwrap();
        let mut one = [Value::I64(0)];
        for (args, results) in [
            (&[][..], &mut one[..]),
            (&[Value::I64(1)][..], &mut [Value::I64(0)][..]),
            (&[Value::I32(1), Value::I32(1)][..], &mut [Value::I64(0)][..]),
            (&[Value::I32(1)][..], &mut [][..]),
        ] {
            let error = f.call(&mut store, args, results).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Usage(_)), "{error}");
        }
        let error = instance.get_typed_func::<i32, i32>(&mut store, "f").unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Usage(_)), "{error}");
        assert!(instance.get_typed_func::<(), ()>(&mut store, "missing").is_err());
        // A result of another type than the function's.
        let wrong =
            Func::new(&mut store, FuncType::new(engine, [], [ValType::I32]), |_: Caller<'_, ()>, _, results| {
                results[0] = Value::F32(1.0);
                Ok(())
            });
        assert!(wrong.call(&mut store, &[], &mut [Value::I32(0)]).is_err());
    });
}

#[test]
fn a_handle_of_another_store_panics() {
    for_each_engine(|engine| {
        let (mut store, instance) = setup(engine, r#"(module (memory (export "m") 1) (func (export "f")))"#);
        let func = instance.get_func(&mut store, "f").unwrap();
        let memory = instance.get_memory(&mut store, "m").unwrap();
        let mut other = Store::new(engine, ());
        assert!(catch_unwind(AssertUnwindSafe(|| func.call(&mut other, &[], &mut []))).is_err());
        assert!(catch_unwind(AssertUnwindSafe(|| memory.size(&other))).is_err());
        assert!(catch_unwind(AssertUnwindSafe(|| instance.get_func(&mut other, "f"))).is_err());
        drop(store);
        assert!(catch_unwind(AssertUnwindSafe(|| func.call(&mut other, &[], &mut []))).is_err());
    });
}

/// References pass through typed functions in both directions; null and those of another store do not where they must not.
#[test]
fn typed_references() {
    for_each_engine(|engine| {
        let (mut store, mut other) = (Store::new(engine, ()), Store::new(engine, ()));
        let host =
            Func::wrap(&mut store, |func: Option<Func>, object: Option<ExternRef>, exception: Option<ExnRef>| {
                (exception, object, func)
            });
        let instance = instantiate(
            &mut store,
            r#"(module (import "" "host" (func $host (param funcref externref exnref) (result exnref externref funcref)))
                (func (export "run") (param funcref externref exnref) (result exnref externref funcref)
                    (call $host (local.get 0) (local.get 1) (local.get 2))))"#,
            &[host.into()],
        );
        type Nullable = (Option<Func>, Option<ExternRef>, Option<ExnRef>);
        type Results = (Option<ExnRef>, Option<ExternRef>, Option<Func>);
        let run = instance.get_typed_func::<Nullable, Results>(&mut store, "run").unwrap();
        assert!(matches!(run.call(&mut store, (None, None, None)).unwrap(), (None, None, None)));
        let tag_type = TagType::new(FuncType::new(engine, [], []));
        let tag = Tag::new(&mut store, &tag_type).unwrap();
        let (object, exception) = (ExternRef::new(5), ExnRef::new(&mut store, &tag, &[]).unwrap());
        let given = (Some(host), Some(object.clone()), Some(exception.clone()));
        let (got_exception, got_object, func) = run.call(&mut store, given).unwrap();
        assert!(got_exception.unwrap().same(&exception) && got_object.unwrap().same(&object) && func == Some(host));

        // A parameter may have a subtype of the function's, a result may not.
        let some = instance.get_typed_func::<(Func, ExternRef, ExnRef), Results>(&mut store, "run").unwrap();
        assert_eq!(some.call(&mut store, (host, object.clone(), exception.clone())).unwrap().2, Some(host));
        type Some = (ExnRef, ExternRef, Func);
        assert!(instance.get_typed_func::<Nullable, Some>(&mut store, "run").is_err());

        let foreign_tag = Tag::new(&mut other, &tag_type).unwrap();
        let foreign_exception = ExnRef::new(&mut other, &foreign_tag, &[]).unwrap();
        let foreign_func = Func::wrap(&mut other, || {});
        for given in [(Some(foreign_func), None, None), (None, None, Some(foreign_exception.clone()))] {
            let error = run.call(&mut store, given).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Usage(_)), "{error}");
        }
        let leak = Func::wrap(&mut store, move || Some(foreign_exception.clone()));
        let error = leak.typed::<(), Option<ExnRef>>(&store).unwrap().call(&mut store, ()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Usage(_)), "{error}");

        // A host function whose type has no null gets none.
        let strict = Func::wrap(&mut store, |func: Func, _: ExternRef, _: ExnRef| func);
        let all = [host.into(), object.into(), exception.into()];
        strict.call(&mut store, &all, &mut [Value::FuncRef(None)]).unwrap();
        for (at, null) in [Value::FuncRef(None), Value::ExternRef(None), Value::ExnRef(None)].into_iter().enumerate() {
            let mut args = all.clone();
            args[at] = null;
            let error = strict.call(&mut store, &args, &mut [Value::FuncRef(None)]).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Usage(_)), "{error}");
        }
        assert!(strict.typed::<Nullable, Func>(&store).is_err());
    });
}
