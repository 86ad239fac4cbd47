//! Host functions, callers and stores, as in the documentation of `Func`, `Caller` and `Store`.

#[test]
fn a_string_from_the_caller() -> wasmtime::Result<()> {
    use std::str;
    use wasmtime::*;
    let mut store = Store::new(&Engine::default(), String::new());
    let log_str = Func::wrap(&mut store, |mut caller: Caller<'_, String>, ptr: i32, len: i32| {
        let mem = match caller.get_export("memory") {
            Some(Extern::Memory(mem)) => mem,
            _ => bail!("failed to find host memory"),
        };
        let data = mem.data(&caller).get(ptr as u32 as usize..).and_then(|arr| arr.get(..len as u32 as usize));
        let string = match data {
            Some(data) => match str::from_utf8(data) {
                Ok(s) => s,
                Err(_) => bail!("invalid utf-8"),
            },
            None => bail!("pointer/length out of bounds"),
        };
        let string = string.to_string();
        caller.data_mut().push_str(&string);
        Ok(())
    });
    let module = Module::new(
        store.engine(),
        r#"
            (module
                (import "" "" (func $log_str (param i32 i32)))
                (func (export "foo")
                    i32.const 4
                    i32.const 13
                    call $log_str)
                (memory (export "memory") 1)
                (data (i32.const 4) "Hello, world!"))
        "#,
    )?;
    let instance = Instance::new(&mut store, &module, &[log_str.into()])?;
    let foo = instance.get_typed_func::<(), ()>(&mut store, "foo")?;
    foo.call(&mut store, ())?;
    assert_eq!(store.data(), "Hello, world!");
    Ok(())
}

#[test]
fn a_result_from_a_closure() -> wasmtime::Result<()> {
    use wasmtime::*;
    let mut store = Store::<()>::default();
    let add = Func::wrap(&mut store, |a: i32, b: i32| match a.checked_add(b) {
        Some(i) => Ok(i),
        None => wasmtime::bail!("overflow"),
    });
    let add = add.typed::<(i32, i32), i32>(&store)?;
    assert_eq!(add.call(&mut store, (1, 2))?, 3);
    assert_eq!(add.call(&mut store, (i32::MAX, 1)).unwrap_err().to_string(), "overflow");
    Ok(())
}

#[test]
fn any_error_by_question_mark() -> wasmtime::Result<()> {
    use wasmtime::*;
    #[derive(Debug)]
    struct MyError(u32);
    impl std::fmt::Display for MyError {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "my error {}", self.0)
        }
    }
    impl std::error::Error for MyError {}
    let mut store = Store::<()>::default();
    let parse = Func::wrap(&mut store, |n: u32| {
        let text = if n == 0 { "x".to_string() } else { n.to_string() };
        let parsed: u8 = text.parse()?;
        Err(MyError(parsed.into()))?;
        Ok(())
    });
    let parse = parse.typed::<u32, ()>(&store)?;
    assert!(parse.call(&mut store, 0).unwrap_err().is::<std::num::ParseIntError>());
    assert_eq!(parse.call(&mut store, 7).unwrap_err().downcast::<MyError>()?.0, 7);
    Ok(())
}

#[test]
fn a_trap_from_the_host() -> wasmtime::Result<()> {
    use wasmtime::*;
    let mut store = Store::<()>::default();
    let fail = Func::wrap(&mut store, || -> Result<()> { Err(Trap::UnreachableCodeReached.into()) });
    let error = fail.typed::<(), ()>(&store)?.call(&mut store, ()).unwrap_err();
    assert_eq!(*error.downcast_ref::<Trap>().unwrap(), Trap::UnreachableCodeReached);
    Ok(())
}

#[test]
fn func_new_over_values() -> wasmtime::Result<()> {
    use wasmtime::*;
    let engine = Engine::default();
    let mut store = Store::new(&engine, ());
    let double_type = wasmtime::FuncType::new(
        &engine,
        [wasmtime::ValType::I32].iter().cloned(),
        [wasmtime::ValType::I32].iter().cloned(),
    );
    let double = Func::new(&mut store, double_type, |_, params, results| {
        let mut value = match params[0] {
            Val::I32(v) => v,
            _ => unreachable!(),
        };
        value *= 2;
        results[0] = value.into();
        Ok(())
    });
    let mut results = [Val::I32(0)];
    double.call(&mut store, &[Val::I32(21)], &mut results)?;
    assert_eq!(results[0].unwrap_i32(), 42);
    Ok(())
}

#[test]
fn context_in_generic_code() -> wasmtime::Result<()> {
    use wasmtime::*;
    fn size(mut store: impl AsContextMut, memory: Memory) -> Result<u64> {
        memory.grow(&mut store, 1)?;
        Ok(memory.size(&store))
    }
    fn data_of<T: Clone + 'static>(store: impl AsContext<Data = T>) -> T {
        store.as_context().data().clone()
    }
    fn by_context(mut store: StoreContextMut<'_, u32>, memory: Memory) -> usize {
        memory.data_mut(&mut store)[0] = 1;
        memory.data(&store).len()
    }
    let mut store = Store::new(&Engine::default(), 7u32);
    let memory = Memory::new(&mut store, MemoryType::new(1, None))?;
    assert_eq!(size(&mut store, memory)?, 2);
    assert_eq!(data_of(&store), 7);
    assert_eq!(by_context(store.as_context_mut(), memory), 2 << 16);
    Ok(())
}

#[test]
fn memory_and_data_at_once() -> wasmtime::Result<()> {
    use wasmtime::*;
    let mut store = Store::new(&Engine::default(), vec![1u8, 2, 3]);
    let fill = Func::wrap(&mut store, |mut caller: Caller<'_, Vec<u8>>| -> Result<()> {
        let Some(memory) = caller.get_export("memory").and_then(|export| export.into_memory()) else {
            bail!("no memory");
        };
        let (bytes, data) = memory.data_and_store_mut(&mut caller);
        bytes[..data.len()].copy_from_slice(data);
        data.clear();
        Ok(())
    });
    let module = Module::new(
        store.engine(),
        r#"(module (import "" "" (func)) (memory (export "memory") 1) (func (export "run") (call 0)))"#,
    )?;
    let instance = Instance::new(&mut store, &module, &[fill.into()])?;
    instance.get_typed_func::<(), ()>(&mut store, "run")?.call(&mut store, ())?;
    let memory = instance.get_memory(&mut store, "memory").unwrap();
    assert_eq!(memory.data(&store)[..3], [1, 2, 3]);
    assert!(store.into_data().is_empty());
    Ok(())
}

#[test]
fn read_and_write_memory() -> wasmtime::Result<()> {
    use wasmtime::*;
    let mut store = Store::<()>::default();
    let memory = Memory::new(&mut store, MemoryType::new(1, None))?;
    memory.write(&mut store, 4, &[1, 2, 3])?;
    let mut buffer = [0; 3];
    memory.read(&store, 4, &mut buffer)?;
    assert_eq!(buffer, [1, 2, 3]);
    assert!(memory.read(&store, 65535, &mut buffer).is_err());
    assert_eq!(memory.page_size(&store), 65536);
    assert_eq!(memory.ty(&store).minimum(), 1);
    Ok(())
}

#[test]
fn a_callers_function() -> wasmtime::Result<()> {
    use wasmtime::*;
    let mut store = Store::<()>::default();
    let call_back = Func::wrap(&mut store, |mut caller: Caller<'_, ()>| -> Result<i32> {
        let func = caller.get_export("answer").unwrap().into_func().unwrap();
        let typed = func.typed::<(), i32>(&caller)?;
        typed.call(&mut caller, ())
    });
    let module = Module::new(
        store.engine(),
        r#"(module (import "" "" (func (result i32))) (func (export "answer") (result i32) (i32.const 42))
            (func (export "run") (result i32) (call 0)))"#,
    )?;
    let instance = Instance::new(&mut store, &module, &[call_back.into()])?;
    assert_eq!(instance.get_typed_func::<(), i32>(&mut store, "run")?.call(&mut store, ())?, 42);
    Ok(())
}

#[test]
fn fuel_in_a_host_function() -> wasmtime::Result<()> {
    use wasmtime::*;
    let engine = Engine::new(Config::new().consume_fuel(true))?;
    let mut store = Store::new(&engine, ());
    let pay = Func::wrap(&mut store, |mut caller: Caller<'_, ()>| -> Result<()> {
        let left = caller.get_fuel()?;
        caller.set_fuel(left - 10)
    });
    store.set_fuel(100)?;
    pay.call(&mut store, &[], &mut [])?;
    assert_eq!(store.get_fuel()?, 90);
    Ok(())
}

#[test]
fn a_backtrace_in_a_host_function() -> wasmtime::Result<()> {
    use wasmtime::*;
    let mut store = Store::<()>::default();
    let look = Func::wrap(&mut store, |caller: Caller<'_, ()>| {
        let backtrace = WasmBacktrace::capture(&caller);
        assert_eq!(backtrace.frames()[0].func_name(), Some("run"));
        assert_eq!(backtrace.frames()[0].func_index(), 1);
    });
    let module = Module::new(store.engine(), r#"(module (import "" "" (func)) (func $run (export "run") (call 0)))"#)?;
    let instance = Instance::new(&mut store, &module, &[look.into()])?;
    instance.get_typed_func::<(), ()>(&mut store, "run")?.call(&mut store, ())?;
    Ok(())
}

#[test]
fn async_host_functions() -> wasmtime::Result<()> {
    use wasmtime::*;
    let mut config = Config::new();
    config.async_support(true);
    let engine = Engine::new(&config)?;
    let module = Module::new(
        &engine,
        r#"(module (import "host" "slow" (func $slow (param i32) (result i32)))
            (func (export "run") (param i32) (result i32) (call $slow (local.get 0))))"#,
    )?;
    let mut linker: Linker<u32> = Linker::new(&engine);
    linker.func_wrap_async("host", "slow", |mut caller: Caller<'_, u32>, (n,): (i32,)| {
        Box::new(async move {
            tokio::task::yield_now().await;
            *caller.data_mut() += 1;
            n + 1
        })
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        let mut store = Store::new(&engine, 0);
        store.set_epoch_deadline(1_000_000);
        let instance = linker.instantiate_async(&mut store, &module).await?;
        let run = instance.get_typed_func::<i32, i32>(&mut store, "run")?;
        assert_eq!(run.call_async(&mut store, 4).await?, 5);
        assert_eq!(*store.data(), 1);
        Ok(())
    })
}

#[test]
fn async_functions_of_a_store() -> wasmtime::Result<()> {
    use wasmtime::*;
    let mut store = Store::<()>::default();
    store.epoch_deadline_async_yield_and_update(1);
    let double = Func::wrap_async(&mut store, |_caller, (n,): (i32,)| {
        Box::new(async move {
            ensure!(n < 100, "{n} is too large");
            Ok(2 * n)
        })
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        let double = double.typed::<i32, i32>(&store)?;
        assert_eq!(double.call_async(&mut store, 4).await?, 8);
        assert_eq!(double.call_async(&mut store, 100).await.unwrap_err().to_string(), "100 is too large");
        Ok(())
    })
}
