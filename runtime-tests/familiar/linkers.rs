//! Linkers, as in the documentation of `Linker`.

#[test]
fn define_an_object() -> wasmtime::Result<()> {
    use wasmtime::*;
    let engine = Engine::default();
    let mut store = Store::new(&engine, ());
    let mut linker = Linker::new(&engine);
    let ty = GlobalType::new(ValType::I32, Mutability::Const);
    let global = Global::new(&mut store, ty, Val::I32(0x1234))?;
    linker.define(&store, "host", "offset", global)?;
    let wat = r#"
        (module
            (import "host" "offset" (global i32))
            (memory 1)
            (data (global.get 0) "foo")
        )
    "#;
    let module = Module::new(&engine, wat)?;
    linker.instantiate(&mut store, &module)?;
    Ok(())
}

#[test]
fn func_wrap_in_all_forms() -> wasmtime::Result<()> {
    use wasmtime::*;
    let engine = Engine::default();
    let mut linker = Linker::new(&engine);
    linker.func_wrap("host", "double", |x: i32| x * 2)?;
    linker.func_wrap("host", "log_i32", |_x: i32| {})?;
    linker.func_wrap("host", "log_str", |_caller: Caller<'_, ()>, _ptr: i32, _len: i32| {
        // ...
    })?;
    linker.func_wrap("host", "fail", || -> Result<i64> { bail!("no") })?;
    linker.func_wrap("host", "pair", |a: f32, b: f64| Ok((b, a)))?;
    let wat = r#"
        (module
            (import "host" "double" (func (param i32) (result i32)))
            (import "host" "log_i32" (func (param i32)))
            (import "host" "log_str" (func (param i32 i32)))
            (import "host" "fail" (func (result i64)))
            (import "host" "pair" (func (param f32 f64) (result f64 f32)))
        )
    "#;
    let module = Module::new(&engine, wat)?;
    let mut store = Store::new(&engine, ());
    linker.instantiate(&mut store, &module)?;
    Ok(())
}

#[test]
fn func_new_in_a_linker() -> wasmtime::Result<()> {
    use wasmtime::*;
    let engine = Engine::default();
    let mut linker = Linker::<()>::new(&engine);
    let ty = FuncType::new(&engine, [ValType::I32], [ValType::I64]);
    linker.func_new("host", "widen", ty, |_caller, args, results| {
        results[0] = Val::I64(args[0].unwrap_i32().into());
        Ok(())
    })?;
    let mut store = Store::new(&engine, ());
    let widen = linker.get(&mut store, "host", "widen").unwrap().into_func().unwrap();
    assert_eq!(widen.typed::<i32, i64>(&store)?.call(&mut store, -1)?, -1);
    Ok(())
}

#[test]
fn a_command_by_its_default() -> wasmtime::Result<()> {
    use wasmtime::*;
    let engine = Engine::default();
    let mut linker = Linker::new(&engine);
    linker.func_wrap("host", "count", |mut caller: Caller<'_, Vec<i32>>, n: i32| caller.data_mut().push(n))?;
    let wat = r#"
        (module
            (import "host" "count" (func $count (param i32)))
            (global $g (mut i32) (i32.const 0))
            (func (export "_start")
                (global.set $g (i32.add (global.get $g) (i32.const 1)))
                (call $count (global.get $g)))
        )
    "#;
    let module = Module::new(&engine, wat)?;
    let mut store = Store::new(&engine, Vec::new());
    linker.module(&mut store, "", &module)?;
    let run = linker.get_default(&mut store, "")?.typed::<(), ()>(&store)?;
    run.call(&mut store, ())?;
    run.call(&mut store, ())?;
    assert_eq!(store.data(), &[1, 1]);
    Ok(())
}

#[test]
fn a_reactor_in_a_linker() -> wasmtime::Result<()> {
    use wasmtime::*;
    let engine = Engine::default();
    let mut linker = Linker::new(&engine);
    let library = Module::new(
        &engine,
        r#"(module (global $g (mut i32) (i32.const 0))
            (func (export "_initialize") (global.set $g (i32.const 40)))
            (func (export "next") (result i32)
                (global.set $g (i32.add (global.get $g) (i32.const 1))) (global.get $g)))"#,
    )?;
    let mut store = Store::new(&engine, ());
    linker.module(&mut store, "library", &library)?;
    let wat = r#"(module (import "library" "next" (func (result i32))) (export "next" (func 0)))"#;
    let instance = linker.instantiate(&mut store, &Module::new(&engine, wat)?)?;
    let next = instance.get_typed_func::<(), i32>(&mut store, "next")?;
    assert_eq!((next.call(&mut store, ())?, next.call(&mut store, ())?), (41, 42));
    Ok(())
}

#[test]
fn aliases() -> wasmtime::Result<()> {
    use wasmtime::*;
    let engine = Engine::default();
    let mut store = Store::new(&engine, ());
    let mut linker = Linker::<()>::new(&engine);
    linker.func_wrap("wasi_snapshot_preview1", "f", || {})?;
    linker.alias("wasi_snapshot_preview1", "f", "env", "g")?;
    linker.alias_module("wasi_snapshot_preview1", "wasi_unstable")?;
    assert!(linker.get(&mut store, "env", "g").unwrap().into_func().is_some());
    assert!(linker.get(&mut store, "wasi_unstable", "f").unwrap().into_func().is_some());
    Ok(())
}

#[test]
fn shadowing() -> wasmtime::Result<()> {
    use wasmtime::*;
    let engine = Engine::default();
    let mut linker = Linker::<()>::new(&engine);
    linker.func_wrap("", "", || {})?;
    assert!(linker.func_wrap("", "", || {}).is_err());
    linker.allow_shadowing(true);
    linker.func_wrap("", "", || {})?;
    Ok(())
}

#[test]
fn unknown_imports_as_traps() -> wasmtime::Result<()> {
    use wasmtime::*;
    let engine = Engine::default();
    let module = Module::new(&engine, r#"(module (import "unknown" "import" (func)) (func (export "run") (call 0)))"#)?;
    let mut store = Store::new(&engine, ());
    let mut linker = Linker::new(&engine);
    linker.define_unknown_imports_as_traps(&module)?;
    let instance = linker.instantiate(&mut store, &module)?;
    let run = instance.get_typed_func::<(), ()>(&mut store, "run")?;
    assert!(format!("{:?}", run.call(&mut store, ()).unwrap_err()).contains("unknown"));
    Ok(())
}

#[test]
fn unknown_imports_as_default_values() -> wasmtime::Result<()> {
    use wasmtime::*;
    let engine = Engine::default();
    let wat = r#"(module (import "a" "f" (func (result i64))) (import "a" "m" (memory 1)) (import "a" "g" (global i32))
        (import "a" "t" (table 2 funcref)) (import "a" "e" (tag)) (export "f" (func 0)) (export "m" (memory 0)))"#;
    let module = Module::new(&engine, wat)?;
    let mut store = Store::new(&engine, ());
    let mut linker = Linker::new(&engine);
    linker.define_unknown_imports_as_default_values(&mut store, &module)?;
    let instance = linker.instantiate(&mut store, &module)?;
    assert_eq!(instance.get_typed_func::<(), i64>(&mut store, "f")?.call(&mut store, ())?, 0);
    Ok(())
}

#[test]
fn look_at_all_definitions() -> wasmtime::Result<()> {
    use wasmtime::*;
    let engine = Engine::default();
    let mut store = Store::new(&engine, ());
    let mut linker = Linker::<()>::new(&engine);
    linker.func_wrap("a", "b", || {})?;
    for (module, name, item) in linker.iter(&mut store) {
        assert_eq!((module, name), ("a", "b"));
        assert!(matches!(item, Extern::Func(_)));
    }
    let module = Module::new(&engine, r#"(module (import "a" "b" (func)))"#)?;
    let import = module.imports().next().unwrap();
    assert!(linker.get_by_import(&mut store, &import).is_some());
    Ok(())
}
