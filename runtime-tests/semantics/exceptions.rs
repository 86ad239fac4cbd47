//! Exceptions: thrown and caught within a function, across calls, instances and host functions, and by nobody.

use crate::engines::{call, for_each_engine, instantiate, setup};
use crate::heap::for_each_engine_and_zeal;
use wasmrun::{
    AsContextMut, Caller, Config, Engine, Error, ErrorKind, ExnRef, ExternRef, Func, FuncType, Instance, Linker,
    Module, Result, Store, StoreLimitsBuilder, Tag, TagType, Trap, Val, ValType,
};

#[test]
fn caught_by_the_innermost_clause_that_fits() {
    for_each_engine(|engine| {
        let (mut store, instance) = setup(
            engine,
            r#"(module
                (tag $int (param i32)) (tag $pair (param i64 f32)) (tag $none)
                (func $throw (param $which i32)
                    (block (block (block
                        (br_table 0 1 2 (local.get $which)))
                        (throw $int (i32.const 42)))
                        (throw $pair (i64.const 7) (f32.const 0.5)))
                    (if (i32.eq (local.get $which) (i32.const 2)) (then (throw $none))))
                (func (export "run") (param $which i32) (result i32)
                    (block $all
                        (block $int (result i32)
                            (block $pair (result i64 f32)
                                (try_table (catch $pair $pair) (catch_all $all)
                                    (try_table (catch $int $int) (call $throw (local.get $which))))
                                (return (i32.const 1)))
                            (drop) (drop) (return (i32.const 2)))
                        (return))
                    (i32.const 3)))"#,
        );
        for (which, expected) in [(0, 42), (1, 2), (2, 3), (3, 1)] {
            for _ in 0..3 {
                assert_eq!(call::<_, i32, i32>(&mut store, instance, "run", which).unwrap(), expected, "{which}");
            }
        }
    });
}

#[test]
fn thrown_again_by_reference() {
    for_each_engine(|engine| {
        let (mut store, instance) = setup(
            engine,
            r#"(module (tag $t (param i32 v128))
                (func $inner (param i32) (local exnref)
                    (block $caught (result exnref)
                        (try_table (catch_all_ref $caught)
                            (throw $t (local.get 0) (v128.const i32x4 1 2 3 4)))
                        (unreachable))
                    (local.set 1)
                    (throw_ref (local.get 1)))
                (func (export "run") (param i32) (result i32) (local v128)
                    (block $caught (result i32 v128)
                        (try_table (catch $t $caught) (call $inner (local.get 0)))
                        (unreachable))
                    (local.set 1)
                    (i32.add (i32x4.extract_lane 3 (local.get 1))))
                (func (export "null") (throw_ref (ref.null exn))))"#,
        );
        assert_eq!(call::<_, i32, i32>(&mut store, instance, "run", 10).unwrap(), 14);
        let error = call::<_, (), ()>(&mut store, instance, "null", ()).unwrap_err();
        assert_eq!(error.trap(), Some(Trap::NullExceptionReference));
    });
}

/// Throws through a host function into another instance, which catches by the tag that both share.
#[test]
fn pass_through_host_functions_and_instances() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, 0u32);
        let thrower = instantiate(
            &mut store,
            r#"(module (tag $t (export "t") (param i64)) (func (export "throw") (param i64) (throw $t (local.get 0))))"#,
            &[],
        );
        let throw = thrower.get_typed_func::<i64, ()>(&mut store, "throw").unwrap();
        let mut linker = Linker::new(engine);
        linker.instance(&mut store, "thrower", thrower).unwrap();
        linker
            .func_wrap("host", "through", move |mut caller: Caller<'_, u32>, value: i64| -> Result<()> {
                *caller.data_mut() += 1;
                throw.call(&mut caller, value)
            })
            .unwrap();
        linker
            .func_wrap("host", "swallows", move |mut caller: Caller<'_, u32>, value: i64| -> i32 {
                let error = throw.call(&mut caller, value).expect_err("it throws");
                matches!(error.kind(), ErrorKind::Exception(_)).into()
            })
            .unwrap();
        let module = Module::new(
            engine,
            r#"(module (import "thrower" "t" (tag $t (param i64))) (import "thrower" "throw" (func $throw (param i64)))
                (import "host" "through" (func $through (param i64)))
                (import "host" "swallows" (func $swallows (param i64) (result i32)))
                (tag $other (param i64))
                (func $frames (param i64) (call $through (local.get 0)))
                (func (export "direct") (param i64) (result i64)
                    (block $caught (result i64)
                        (try_table (catch $other $caught) (catch $t $caught) (call $throw (local.get 0)))
                        (i64.const -1)))
                (func (export "through") (param i64) (result i64)
                    (block $caught (result i64)
                        (try_table (catch $t $caught) (call $frames (local.get 0)))
                        (i64.const -1)))
                (func (export "swallowed") (param i64) (result i32) (call $swallows (local.get 0)))
                (func (export "uncaught") (param i64)
                    (drop (block $caught (result i64)
                        (try_table (catch $other $caught) (call $frames (local.get 0))) (i64.const 0)))))"#,
        )
        .unwrap();
        let instance = linker.instantiate(&mut store, &module).unwrap();
        for round in 1..=10 {
            assert_eq!(call::<_, i64, i64>(&mut store, instance, "direct", round).unwrap(), round);
            assert_eq!(call::<_, i64, i64>(&mut store, instance, "through", round).unwrap(), round);
            assert_eq!(call::<_, i64, i32>(&mut store, instance, "swallowed", round).unwrap(), 1);
            let error = call::<_, i64, ()>(&mut store, instance, "uncaught", round).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Exception(_)), "{error}");
        }
        assert_eq!(*store.data(), 20);
    });
}

#[test]
fn traps_and_host_errors_are_not_caught() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let fails = Func::wrap(&mut store, || -> Result<()> { Err(Error::new(ErrorKind::Exit(5))) });
        let wat = r#"(module (import "" "fails" (func $fails)) (memory 1)
            (func $trap (drop (i32.load (i32.const -4))))
            (func $deep (call $deep))
            (func (export "run") (param i32) (result i32)
                (block $caught
                    (try_table (catch_all $caught)
                        (if (i32.eqz (local.get 0)) (then (call $trap)))
                        (if (i32.eq (local.get 0) (i32.const 1)) (then (call $fails)))
                        (if (i32.eq (local.get 0) (i32.const 2)) (then (call $deep))))
                    (return (i32.const 1)))
                (i32.const 2)))"#;
        let instance = instantiate(&mut store, wat, &[fails.into()]);
        let error = |store: &mut Store<()>, which| call::<_, i32, i32>(store, instance, "run", which).unwrap_err();
        assert_eq!(error(&mut store, 0).trap(), Some(Trap::MemoryOutOfBounds));
        assert_eq!(error(&mut store, 1).exit_code(), Some(5));
        assert_eq!(error(&mut store, 2).trap(), Some(Trap::StackOverflow));
        assert_eq!(call::<_, i32, i32>(&mut store, instance, "run", 3).unwrap(), 1);
    });
}

#[test]
fn null_is_of_the_bottom_type_too() {
    for_each_engine(|engine| {
        let (mut store, instance) = setup(
            engine,
            r#"(module (func $null (param nullexnref) (result exnref) (local nullexnref) (local.get 1))
                (func (export "run") (result i32) (ref.is_null (call $null (ref.null noexn)))))"#,
        );
        assert_eq!(call::<_, (), i32>(&mut store, instance, "run", ()).unwrap(), 1);
    });
}

#[test]
fn many_exceptions_are_collected() {
    for_each_engine(|engine| {
        let (mut store, instance) = setup(
            engine,
            r#"(module (tag $t (param i64 i64 i64 i64 i64 i64 i64 i64)) (global $last (mut exnref) (ref.null exn))
                (func $throw (param i64)
                    (throw $t (local.get 0) (i64.const 1) (i64.const 2) (i64.const 3) (i64.const 4) (i64.const 5)
                        (i64.const 6) (i64.const 7)))
                (func (export "run") (param $n i64) (result i64) (local $sum i64)
                    (loop $again
                        (block $caught (result i64 i64 i64 i64 i64 i64 i64 i64 exnref)
                            (try_table (catch_ref $t $caught) (call $throw (local.get $n)))
                            (unreachable))
                        (global.set $last)
                        (drop) (drop) (drop) (drop) (drop) (drop) (drop)
                        (local.set $sum (i64.add (local.get $sum)))
                        (local.set $n (i64.sub (local.get $n) (i64.const 1)))
                        (br_if $again (i64.ne (local.get $n) (i64.const 0))))
                    (local.get $sum))
                (func (export "last") (result i64)
                    (block $caught (result i64 i64 i64 i64 i64 i64 i64 i64)
                        (try_table (catch $t $caught) (throw_ref (global.get $last)))
                        (unreachable))
                    (drop) (drop) (drop) (drop) (drop) (drop) (drop)))"#,
        );
        let n = 300_000i64;
        assert_eq!(call::<_, i64, i64>(&mut store, instance, "run", n).unwrap(), n * (n + 1) / 2);
        assert_eq!(call::<_, (), i64>(&mut store, instance, "last", ()).unwrap(), 1);
    });
}

/// A tag of the host with parameters of all kinds.
fn mixed_tag(store: &mut Store<()>) -> Tag {
    let types = [ValType::I32, ValType::F64, ValType::V128, ValType::EXTERNREF, ValType::FUNCREF, ValType::EXNREF];
    let ty = TagType::new(FuncType::new(store.engine(), types, []));
    Tag::new(store, &ty).unwrap()
}

const MIXED: &str = "i32 f64 v128 externref funcref exnref";

/// An exception of the host is caught by WebAssembly code with its payload, and one of WebAssembly code by the host.
#[test]
fn thrown_and_caught_by_the_host() {
    for_each_engine_and_zeal(|engine| {
        let mut store = Store::new(engine, ());
        let tag = mixed_tag(&mut store);
        let plain = Tag::new(&mut store, &TagType::new(FuncType::new(engine, [ValType::I64], []))).unwrap();
        let throw = Func::wrap(&mut store, move |mut caller: Caller<'_, ()>, n: i32| {
            let inner = ExnRef::new(&mut caller, &plain, &[Val::I64(n.into())])?;
            let callee = Func::wrap(&mut caller, move || n);
            let object = ExternRef::new(format!("object {n}"));
            let payload =
                [Val::I32(n), Val::F64(0.5), Val::V128(7 << 100), Some(object).into(), callee.into(), inner.into()];
            let exception = ExnRef::new(&mut caller, &tag, &payload)?;
            drop(payload);
            caller.gc();
            caller.throw::<()>(exception)
        });
        let wat = format!(
            r#"(module (import "" "tag" (tag $tag (param {MIXED}))) (import "" "throw" (func $throw (param i32)))
                (tag $own (export "own") (param i32 f32))
                (func (export "catch") (param i32) (result {MIXED})
                    (block $caught (result {MIXED})
                        (try_table (catch $tag $caught) (call $throw (local.get 0)))
                        unreachable))
                (func (export "pass") (param i32) (call $throw (local.get 0)))
                (func (export "own throw") (throw $own (i32.const -3) (f32.const 1.5))))"#
        );
        let module = Module::new(engine, wat).unwrap();
        let instance = Instance::new(&mut store, &module, &[tag.into(), throw.into()]).unwrap();
        let check = |store: &mut Store<()>, n: i32, values: &[Val]| {
            assert_eq!((values[0].unwrap_i32(), values[1].unwrap_f64(), values[2].unwrap_v128()), (n, 0.5, 7 << 100));
            let object = values[3].unwrap_externref().unwrap();
            assert_eq!(object.data().downcast_ref(), Some(&format!("object {n}")));
            let callee = values[4].unwrap_funcref().unwrap().typed::<(), i32>(&*store).unwrap();
            assert_eq!(callee.call(&mut *store, ()).unwrap(), n);
            let inner = values[5].unwrap_exnref().unwrap();
            assert_eq!(inner.tag(&mut *store).unwrap(), plain);
            assert_eq!(inner.field(&mut *store, 0).unwrap().unwrap_i64(), i64::from(n));
        };
        for n in 0..3 {
            let mut caught = vec![Val::I32(0); 6];
            let catch = instance.get_func(&mut store, "catch").unwrap();
            catch.call(&mut store, &[Val::I32(n)], &mut caught).unwrap();
            check(&mut store, n, &caught);

            for func in [instance.get_func(&mut store, "pass").unwrap(), throw] {
                let error = func.call(&mut store, &[Val::I32(n)], &mut []).unwrap_err();
                store.gc();
                let exception = error.exception().unwrap();
                assert_eq!(exception.tag(&mut store).unwrap(), tag);
                let values: Vec<_> = exception.fields(&mut store).unwrap().collect();
                check(&mut store, n, &values);
                assert!(matches!(exception.field(&mut store, 6).unwrap_err().kind(), ErrorKind::Usage(_)));
            }
            let error = call::<_, (), ()>(&mut store, instance, "own throw", ()).unwrap_err();
            let exception = error.exception().unwrap();
            assert_eq!(Some(exception.tag(&mut store).unwrap()), instance.get_tag(&mut store, "own"));
            let values: Vec<_> = exception.fields(&mut store).unwrap().collect();
            assert_eq!((values[0].unwrap_i32(), values[1].unwrap_f32()), (-3, 1.5));
        }
    });
}

/// Tags, payloads and exceptions of another store are refused, and payloads of other types.
#[test]
fn what_the_host_throws_must_be_of_the_store() {
    for_each_engine(|engine| {
        let (mut store, mut other) = (Store::new(engine, ()), Store::new(engine, ()));
        let usage = |error: Error| assert!(matches!(error.kind(), ErrorKind::Usage(_)), "{error}");
        let ty = TagType::new(FuncType::new(engine, [ValType::FUNCREF, ValType::EXNREF], []));
        let [tag, foreign_tag] = [&mut store, &mut other].map(|store| Tag::new(store, &ty).unwrap());
        let foreign_func = Func::wrap(&mut other, || {});
        let nulls = [Val::FuncRef(None), Val::ExnRef(None)];
        let exception = ExnRef::new(&mut store, &tag, &nulls).unwrap();
        let foreign = ExnRef::new(&mut other, &foreign_tag, &nulls).unwrap();
        usage(ExnRef::new(&mut store, &foreign_tag, &nulls).unwrap_err());
        usage(ExnRef::new(&mut store, &tag, &[foreign_func.into(), Val::ExnRef(None)]).unwrap_err());
        usage(ExnRef::new(&mut store, &tag, &[Val::FuncRef(None), foreign.clone().into()]).unwrap_err());
        usage(ExnRef::new(&mut store, &tag, &nulls[..1]).unwrap_err());
        usage(ExnRef::new(&mut store, &tag, &[Val::ExnRef(None), Val::ExnRef(None)]).unwrap_err());
        usage(store.throw::<()>(foreign.clone()).unwrap_err());
        usage(foreign.tag(&mut store).unwrap_err());
        usage(foreign.field(&mut store, 0).unwrap_err());
        assert!(
            store.as_context_mut().throw::<()>(exception.clone()).unwrap_err().exception().unwrap().same(&exception)
        );
        usage(Tag::new(&mut store, &TagType::new(FuncType::new(engine, [], [ValType::I32]))).unwrap_err());
    });
}

#[test]
fn functions_in_payloads_are_those_that_were_thrown() {
    for_each_engine_and_zeal(|engine| {
        let mut store = Store::new(engine, ());
        let module = Module::new(
            engine,
            r#"(module
                (type $f (func (result i32)))
                (tag $t (param i32 funcref v128 exnref funcref externref))
                (table $funcs 2 funcref)
                (elem declare func $one $two)
                (func $one (result i32) (i32.const 1))
                (func $two (result i32) (i32.const 2))
                (func $throw (param i32 externref)
                    (throw $t (local.get 0) (ref.func $one) (v128.const i64x2 3 4) (ref.null exn)
                        (if (result funcref) (local.get 0) (then (ref.func $two)) (else (ref.null func)))
                        (local.get 1)))
                (func (export "run") (param i32 externref) (result i32 i64 externref)
                    (local $first funcref) (local $vector v128) (local $second funcref) (local $host externref)
                    (block $caught (result i32 funcref v128 exnref funcref externref)
                        (try_table (catch $t $caught) (call $throw (local.get 0) (local.get 1)))
                        (unreachable))
                    (local.set $host) (local.set $second) (drop) (local.set $vector) (local.set $first)
                    (drop)
                    (table.set $funcs (i32.const 0) (local.get $first))
                    (table.set $funcs (i32.const 1) (local.get $second))
                    (i32.add
                        (call_indirect $funcs (type $f) (i32.const 0))
                        (if (result i32) (ref.is_null (local.get $second))
                            (then (i32.const 100))
                            (else (call_indirect $funcs (type $f) (i32.const 1)))))
                    (i64x2.extract_lane 1 (local.get $vector))
                    (local.get $host)))"#,
        )
        .unwrap();
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let run = instance
            .get_typed_func::<(i32, Option<ExternRef>), (i32, i64, Option<ExternRef>)>(&mut store, "run")
            .unwrap();
        let object = ExternRef::new(5);
        for (which, expected) in [(1, 3), (0, 101), (1, 3)] {
            let (sum, lane, host) = run.call(&mut store, (which, Some(object.clone()))).unwrap();
            assert_eq!((sum, lane), (expected, 4));
            assert!(host.unwrap().same(&object));
        }
    });
}

/// The host's exceptions count for the limits as those of WebAssembly code do, and go when nothing refers to them.
#[test]
fn what_the_host_throws_is_limited_and_collected() {
    let engine = Engine::new(Config::new().max_exception_bytes(64 << 10)).unwrap();
    let mut store = Store::new(&engine, ());
    let tag = Tag::new(&mut store, &TagType::new(FuncType::new(&engine, [ValType::V128], []))).unwrap();
    for _ in 0..100_000 {
        ExnRef::new(&mut store, &tag, &[Val::V128(1)]).unwrap();
    }
    assert!(store.heap_stats().exception_bytes <= 64 << 10);
    let mut kept = Vec::new();
    let error = loop {
        match ExnRef::new(&mut store, &tag, &[Val::V128(1)]) {
            Ok(exception) => kept.push(exception),
            Err(error) => break error,
        }
    };
    assert!(matches!(error.kind(), ErrorKind::Resource(_)) && kept.len() > 1000, "{error}");

    let mut store = Store::new(&Engine::default(), StoreLimitsBuilder::new().build());
    store.limiter(|limits| limits);
    let tag = {
        let ty = TagType::new(FuncType::new(store.engine(), [], []));
        Tag::new(&mut store, &ty).unwrap()
    };
    assert!(ExnRef::new(&mut store, &tag, &[]).is_ok());
}
