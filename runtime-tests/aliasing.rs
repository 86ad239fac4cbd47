//! All that handles, running code and host functions do with a store at the same time, for Miri to watch: short programs, on
//! the dispatch that it can run.
//!
//! `cargo +nightly miri test --no-default-features --test aliasing`, with `MIRIFLAGS=-Zmiri-permissive-provenance`.

use wasmrun::{
    AsContextMut, Caller, Config, Dispatch, Engine, ExnRef, Extern, ExternRef, Func, FuncType, Instance, Linker,
    Module, Ref, RefType, Store, StoreLimits, StoreLimitsBuilder, Strategy, Table, TableType, Tag, TagType, Trap,
    ValType, Value,
};

fn engine() -> Engine {
    let mut config = Config::new();
    config.strategy(Strategy::Interpreter).dispatch(Dispatch::Loop).max_wasm_stack(64 << 10);
    Engine::new(&config).unwrap()
}

fn setup(wat: &str) -> (Store<u32>, Instance) {
    let engine = engine();
    let mut store = Store::new(&engine, 0);
    let module = Module::new(&engine, wat).unwrap();
    let instance = Instance::new(&mut store, &module, &[]).unwrap();
    (store, instance)
}

#[test]
fn calls_and_traps() {
    let (mut store, instance) = setup(
        r#"(module (memory 1) (table 2 funcref) (type $t (func (param i32) (result i32)))
        (global $g (mut i32) (i32.const 5)) (elem (i32.const 0) func $f)
        (func $f (param i32) (result i32)
            (if (result i32) (local.get 0)
                (then (i32.add (i32.const 1) (call_indirect (type $t) (i32.sub (local.get 0) (i32.const 1)) (i32.const 0))))
                (else (global.get $g))))
        (func (export "f") (param i32) (result i32) (global.set $g (i32.const 7)) (call $f (local.get 0)))
        (func (export "tail") (param i32) (result i32)
            (if (i32.eqz (local.get 0)) (then (return (i32.const 9))))
            (return_call_indirect (type $t) (i32.const 0) (i32.const 0)))
        (func (export "div") (param i32) (result i32) (i32.div_u (i32.const 1) (local.get 0)))
        (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
        (func $deep (export "deep") (param i32) (result i32) (i32.add (i32.const 1) (call $deep (local.get 0)))))"#,
    );
    let mut call = |name: &str, n: i32| {
        let f = instance.get_typed_func::<i32, i32>(&mut store, name).unwrap();
        f.call(&mut store, n).map_err(|error| error.trap().unwrap())
    };
    assert_eq!(call("f", 3), Ok(10));
    assert_eq!(call("tail", 3), Ok(7));
    assert_eq!(call("div", 0), Err(Trap::IntegerDivisionByZero));
    assert_eq!(call("load", 65_533), Err(Trap::MemoryOutOfBounds));
    assert_eq!(call("load", 8), Ok(0));
    assert_eq!(call("deep", 8), Err(Trap::StackOverflow));
}

#[test]
fn memories_and_tables() {
    let (mut store, instance) = setup(
        r#"(module (memory (export "m") 1 3) (table (export "t") 2 8 funcref) (data $d "abcdef") (elem $e func $f $g)
        (elem $x funcref (ref.func $g) (ref.null func))
        (func $f (export "f") (result i32) (i32.const 1)) (func $g (result i32) (i32.const 2))
        (func (export "run") (result i32)
            (memory.init $d (i32.const 8) (i32.const 1) (i32.const 4)) (data.drop $d)
            (drop (memory.grow (i32.const 1)))
            (memory.copy (i32.const 70000) (i32.const 8) (i32.const 4))
            (memory.fill (i32.const 70002) (i32.const 7) (i32.const 1))
            (drop (table.grow (ref.func $g) (i32.const 2)))
            (table.init $e (i32.const 0) (i32.const 0) (i32.const 2)) (elem.drop $e)
            (table.init $x (i32.const 2) (i32.const 0) (i32.const 1))
            (table.copy (i32.const 1) (i32.const 0) (i32.const 1))
            (table.fill (i32.const 0) (ref.null func) (i32.const 1))
            (table.set (i32.const 0) (table.get (i32.const 2)))
            (i32.add (i32.load (i32.const 70000))
                (i32.add (call_indirect (result i32) (i32.const 0)) (call_indirect (result i32) (i32.const 1))))))"#,
    );
    let run = instance.get_typed_func::<(), i32>(&mut store, "run").unwrap();
    assert_eq!(run.call(&mut store, ()).unwrap(), i32::from_le_bytes([b'b', b'c', 7, b'e']) + 2 + 1);
    let memory = instance.get_memory(&mut store, "m").unwrap();
    assert_eq!(memory.data(&store)[8..12], *b"bcde");
    memory.data_mut(&mut store)[8] = 9;
    assert_eq!(memory.grow(&mut store, 1).unwrap(), 2);
    let table = instance.get_table(&mut store, "t").unwrap();
    let Some(Ref::Func(Some(f))) = table.get(&mut store, 1) else { panic!("a function") };
    let mut out = [Value::I32(0)];
    f.call(&mut store, &[], &mut out).unwrap();
    assert!(matches!(out, [Value::I32(1)]));
}

/// A host function that calls back, looks at the memory, changes the data, and instantiates another module meanwhile.
#[test]
fn host_functions_reenter() {
    let engine = engine();
    let mut linker = Linker::new(&engine);
    linker
        .func_wrap("host", "again", |mut caller: Caller<'_, u32>, n: i32| -> i32 {
            *caller.data_mut() += 1;
            if n == 0 {
                return 100;
            }
            caller.memory().unwrap().write(4, &n.to_le_bytes()).unwrap();
            let run = caller.get_export("run").and_then(Extern::into_func).unwrap();
            let run = run.typed::<i32, i32>(&caller).unwrap();
            let result = run.call(&mut caller, n - 1).unwrap();
            let module = Module::new(caller.engine(), "(module (func $s) (start $s) (func (export \"x\")))").unwrap();
            let mut context = caller.as_context_mut();
            let other = Instance::new(&mut context, &module, &[]).unwrap();
            other.get_func(&mut context, "x").unwrap().call(&mut context, &[], &mut []).unwrap();
            *context.data_mut() += 10;
            *caller.data_mut() += 100;
            result + 1
        })
        .unwrap();
    linker
        .func_wrap("host", "fails", |_: Caller<'_, u32>| -> wasmrun::Result<()> { Err(wasmrun::Error::host("no")) })
        .unwrap();
    let module = Module::new(
        &engine,
        r#"(module (import "host" "again" (func $again (param i32) (result i32))) (import "host" "fails" (func $fails))
        (memory 1) (func (export "run") (param i32) (result i32) (call $again (local.get 0)))
        (func (export "fail") (call $fails)))"#,
    )
    .unwrap();
    let mut store = Store::new(&engine, 0u32);
    let instance = linker.instantiate(&mut store, &module).unwrap();
    let mut context = store.as_context_mut();
    let run = instance.get_typed_func::<i32, i32>(&mut context, "run").unwrap();
    assert_eq!(run.call(&mut context, 2).unwrap(), 102);
    *context.data_mut() += 1;
    assert_eq!(run.call(&mut context, 0).unwrap(), 100);
    let fail = instance.get_func(&mut context, "fail").unwrap();
    assert!(fail.call(&mut context, &[], &mut []).is_err());
    assert_eq!(store.into_data(), 3 + 2 * 110 + 1 + 1);
}

#[test]
fn references_and_host_functions_of_one_store() {
    let engine = engine();
    let mut store = Store::new(&engine, 0);
    let inc = Func::wrap(&mut store, |n: i32| n + 1);
    let keep = Func::wrap(&mut store, |mut caller: Caller<'_, u32>, r: Option<ExternRef>| {
        *caller.data_mut() += u32::from(r.is_some());
        r
    });
    let module = Module::new(
        &engine,
        r#"(module (import "" "inc" (func $inc (param i32) (result i32)))
        (import "" "keep" (func $keep (param externref) (result externref)))
        (table 1 externref)
        (func (export "run") (param externref i32) (result i32)
            (table.set (i32.const 0) (call $keep (local.get 0)))
            (i32.add (call $inc (local.get 1)) (ref.is_null (table.get (i32.const 0))))))"#,
    )
    .unwrap();
    for _ in 0..2 {
        let imports = [Extern::Func(inc), Extern::Func(keep)];
        let instance = Instance::new(&mut store, &module, &imports).unwrap();
        let run = instance.get_func(&mut store, "run").unwrap();
        for (object, sum) in [(Some(ExternRef::new("x")), 8), (None, 9)] {
            let mut out = [Value::I32(0)];
            run.call(&mut store, &[Value::ExternRef(object), Value::I32(7)], &mut out).unwrap();
            assert!(matches!(out, [Value::I32(n)] if n == sum));
        }
    }
    assert_eq!(*store.data(), 2);
}

#[test]
fn exceptions_within_and_between_instances() {
    let engine = engine();
    let mut store = Store::new(&engine, 0u32);
    let mut linker = Linker::new(&engine);
    let thrower = r#"(module (tag (export "t") (param i32))
        (func (export "throw") (param i32) (throw 0 (local.get 0))))"#;
    let first = linker.instantiate(&mut store, &Module::new(&engine, thrower).unwrap()).unwrap();
    linker.instance(&mut store, "a", first).unwrap();
    linker
        .func_wrap("host", "pass", |mut caller: Caller<'_, u32>, n: i32| -> wasmrun::Result<()> {
            let f = caller.get_export("inner").and_then(Extern::into_func).unwrap();
            f.call(&mut caller, &[Value::I32(n)], &mut [])
        })
        .unwrap();
    let catcher = r#"(module (import "a" "t" (tag $t (param i32))) (import "a" "throw" (func $throw (param i32)))
        (import "host" "pass" (func $pass (param i32)))
        (func (export "inner") (param i32) (call $throw (local.get 0)))
        (func (export "run") (param i32) (result i32) (local exnref)
            (block $h (result i32 exnref) (try_table (catch_ref $t $h) (call $throw (local.get 0))) (unreachable))
            (local.set 1)
            (block $k (result i32) (try_table (catch $t $k) (throw_ref (local.get 1))) (unreachable))
            (block $l (result i32) (try_table (catch $t $l) (call $pass (local.get 0))) (unreachable))
            i32.add i32.add)
        (func (export "out") (param i32) (call $throw (local.get 0))))"#;
    let instance = linker.instantiate(&mut store, &Module::new(&engine, catcher).unwrap()).unwrap();
    let run = instance.get_typed_func::<i32, i32>(&mut store, "run").unwrap();
    for n in 0..20 {
        assert_eq!(run.call(&mut store, n).unwrap(), 3 * n);
    }
    let out = instance.get_typed_func::<i32, ()>(&mut store, "out").unwrap();
    assert!(out.call(&mut store, 1).is_err());
    assert_eq!(run.call(&mut store, 1).unwrap(), 3);
}

/// What outlives what: errors and functions the store, the module the engine's handle.
#[test]
fn parts_are_dropped_in_any_order() {
    let (mut store, instance) = setup("(module (func (export \"f\") (unreachable)) (memory 1) (table 4 funcref))");
    let f = instance.get_func(&mut store, "f").unwrap();
    let error = f.call(&mut store, &[], &mut []).unwrap_err();
    let module = instance.module(&store).clone();
    drop(store);
    assert_eq!(error.trap(), Some(Trap::Unreachable));
    assert_eq!(error.backtrace().len(), 1);
    let mut second = Store::new(module.engine(), 0);
    Instance::new(&mut second, &module, &[]).unwrap();
    drop(module);
    drop(second);
}

/// The limiter is in the data of the store that asks it, and so is what a host function gets beside the memory.
#[test]
fn limiters_and_data() {
    struct Data {
        limits: StoreLimits,
        text: String,
    }
    let engine = engine();
    let mut linker = Linker::<Data>::new(&engine);
    linker
        .func_wrap("host", "take", |mut caller: Caller<'_, Data>, at: u32, len: u32| {
            let (memory, data) = caller.memory_and_data();
            data.text.push_str(&memory.read_string(at, len)?);
            let memory = caller.get_export("memory").unwrap().into_memory().unwrap();
            memory.grow(&mut caller, 1).map(drop)
        })
        .unwrap();
    let module = Module::new(
        &engine,
        r#"(module (import "host" "take" (func $take (param i32 i32)))
        (memory (export "memory") 1 9) (table 1 9 funcref) (data (i32.const 8) "text") (elem (i32.const 0) func $take)
        (func (export "run") (result i32)
            (call $take (i32.const 8) (i32.const 4))
            (drop (table.grow (ref.null func) (i32.const 1)))
            (memory.grow (i32.const 1))))"#,
    );
    let program = linker.instantiate_pre(&module.unwrap()).unwrap();
    let limits = StoreLimitsBuilder::new().memory_size(3 << 16).table_elements(2).build();
    let mut store = Store::new(&engine, Data { limits, text: String::new() });
    store.limiter(|data| &mut data.limits);
    let instance = program.instantiate(&mut store).unwrap();
    let run = instance.get_typed_func::<(), i32>(&mut store, "run").unwrap();
    assert_eq!(run.call(&mut store, ()).unwrap(), 2);
    let memory = instance.get_memory(&mut store, "memory").unwrap();
    assert_eq!((&*store.data().text, memory.size(&store)), ("text", 3));
    assert!(run.call(&mut store, ()).is_err());
    Table::new(&mut store, TableType::new(RefType::FUNCREF, 2, None), Ref::Func(None)).unwrap();
}

/// The bytes of a memory and the data of its store are used at the same time, and an exception of the host meanwhile.
#[test]
fn bytes_and_data_are_apart() {
    let (mut store, instance) = setup(r#"(module (memory (export "m") 1))"#);
    let memory = instance.get_memory(&mut store, "m").unwrap();
    let (bytes, data) = memory.data_and_store_mut(&mut store);
    bytes[0] = 7;
    *data += u32::from(bytes[0]);
    bytes[1] = *data as u8;
    assert_eq!((memory.data(&store)[1], *store.data()), (7, 7));

    let ty = TagType::new(FuncType::new(store.engine(), [ValType::I32, ValType::EXTERNREF], []));
    let tag = Tag::new(&mut store, &ty).unwrap();
    let exception = ExnRef::new(&mut store, &tag, &[Value::I32(5), ExternRef::new(6).into()]).unwrap();
    store.gc();
    assert_eq!(exception.field(&mut store, 0).unwrap().unwrap_i32(), 5);
    assert_eq!(exception.tag(&mut store).unwrap(), tag);
    let object = exception.field(&mut store, 1).unwrap();
    drop(exception);
    store.gc();
    assert_eq!(object.unwrap_externref().unwrap().data().downcast_ref(), Some(&6));
}

/// Elements are copied within a table and from one to another.
#[test]
fn elements_are_copied() {
    let (mut store, _) = setup("(module)");
    let [one, other] = [2, 3].map(|size| {
        Table::new(&mut store, TableType::new(RefType::EXTERNREF, size, None), ExternRef::new(size).into()).unwrap()
    });
    Table::copy(&mut store, &one, 0, &other, 1, 2).unwrap();
    Table::copy(&mut store, &one, 1, &one, 0, 1).unwrap();
    other.fill(&mut store, 0, Ref::Extern(None), 1).unwrap();
    let object = one.get(&mut store, 1).unwrap();
    assert_eq!(object.unwrap_extern().unwrap().data().downcast_ref(), Some(&3u64));
}
