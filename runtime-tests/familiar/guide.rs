//! The programs of wasmtime's guide and its folder `examples`.

#[test]
fn hello_world() -> wasmtime::Result<()> {
    use wasmtime::*;
    struct MyState {
        name: String,
        count: usize,
    }
    let engine = Engine::default();
    let module =
        Module::new(&engine, r#"(module (import "" "hello" (func $hello)) (func (export "run") (call $hello)))"#)?;
    let mut store = Store::new(&engine, MyState { name: "hello, world!".to_string(), count: 0 });
    let hello_func = Func::wrap(&mut store, |mut caller: Caller<'_, MyState>| {
        assert_eq!(caller.data().name, "hello, world!");
        caller.data_mut().count += 1;
    });
    let imports = [hello_func.into()];
    let instance = Instance::new(&mut store, &module, &imports)?;
    let run = instance.get_typed_func::<(), ()>(&mut store, "run")?;
    run.call(&mut store, ())?;
    assert_eq!(store.data().count, 1);
    Ok(())
}

#[test]
fn default_store() -> wasmtime::Result<()> {
    use wasmtime::*;
    let mut store = Store::<()>::default();
    let module = Module::new(
        store.engine(),
        r#"(module (func (export "gcd") (param i32 i32) (result i32)
            (if (result i32) (local.get 1)
                (then (return_call 0 (local.get 1) (i32.rem_u (local.get 0) (local.get 1))))
                (else (local.get 0)))))"#,
    )?;
    let instance = Instance::new(&mut store, &module, &[])?;
    let gcd = instance.get_typed_func::<(i32, i32), i32>(&mut store, "gcd")?;
    assert_eq!(gcd.call(&mut store, (6, 27))?, 3);
    Ok(())
}

#[test]
fn memory_of_an_instance() -> wasmtime::Result<()> {
    use wasmtime::*;
    let mut store: Store<()> = Store::default();
    let module = Module::new(
        store.engine(),
        r#"(module (memory (export "memory") 2 3) (data (i32.const 0x1000) "\01\02\03\04")
            (func (export "load") (param i32) (result i32) (i32.load8_s (local.get 0))))"#,
    )?;
    let instance = Instance::new(&mut store, &module, &[])?;
    let memory =
        instance.get_memory(&mut store, "memory").ok_or(wasmtime::format_err!("failed to find `memory` export"))?;
    let load_fn = instance.get_typed_func::<i32, i32>(&mut store, "load")?;
    assert_eq!(memory.size(&store), 2);
    assert_eq!(memory.data_size(&store), 0x20000);
    assert_eq!(memory.data_mut(&mut store)[0x1003], 4);
    memory.data_mut(&mut store)[0x1003] = 5;
    assert_eq!(memory.data(&store)[0x1003], 5);
    assert_eq!(load_fn.call(&mut store, 0x1003)?, 5);
    assert!(load_fn.call(&mut store, 0x20000).is_err());
    memory.grow(&mut store, 1)?;
    assert_eq!(memory.data_size(&store), 0x30000);
    assert!(memory.grow(&mut store, 1).is_err());
    Ok(())
}

#[test]
fn standalone_memory() -> wasmtime::Result<()> {
    use wasmtime::*;
    let mut store: Store<()> = Store::default();
    let memorytype = MemoryType::new(5, Some(5));
    let memory = Memory::new(&mut store, memorytype)?;
    assert_eq!(memory.size(&store), 5);
    assert!(memory.grow(&mut store, 1).is_err());
    assert!(memory.grow(&mut store, 0).is_ok());
    Ok(())
}

#[test]
fn linking_instances() -> wasmtime::Result<()> {
    use wasmtime::*;
    let engine = Engine::default();
    let mut linker = Linker::new(&engine);
    let linking2 = Module::new(
        &engine,
        r#"(module (func (export "double") (param i32) (result i32)
        (i32.shl (local.get 0) (i32.const 1))))"#,
    )?;
    let linking1 = Module::new(
        &engine,
        r#"(module (import "linking2" "double" (func $double (param i32) (result i32)))
        (func (export "run") (result i32) (call $double (i32.const 21))))"#,
    )?;
    let mut store = Store::new(&engine, ());
    let linking2 = linker.instantiate(&mut store, &linking2)?;
    linker.instance(&mut store, "linking2", linking2)?;
    let linking1 = linker.instantiate(&mut store, &linking1)?;
    let run = linking1.get_typed_func::<(), i32>(&mut store, "run")?;
    assert_eq!(run.call(&mut store, ())?, 42);
    Ok(())
}

#[test]
fn several_results() -> wasmtime::Result<()> {
    use wasmtime::*;
    let engine = Engine::default();
    let mut store = Store::new(&engine, ());
    let module = Module::new(
        &engine,
        r#"(module (import "" "f" (func $f (param i32 i64) (result i64 i32)))
            (func (export "g") (param i32 i64) (result i64 i32) (call $f (local.get 0) (local.get 1)))
            (func (export "round_trip_many") (param i64 i64 i64 i64 i64 i64 i64 i64 i64 i64)
                (result i64 i64 i64 i64 i64 i64 i64 i64 i64 i64)
                local.get 0 local.get 1 local.get 2 local.get 3 local.get 4
                local.get 5 local.get 6 local.get 7 local.get 8 local.get 9))"#,
    )?;
    let callback_func = Func::wrap(&mut store, |a: i32, b: i64| -> (i64, i32) { (b + 1, a + 1) });
    let instance = Instance::new(&mut store, &module, &[callback_func.into()])?;
    let g = instance.get_typed_func::<(i32, i64), (i64, i32)>(&mut store, "g")?;
    let (a, b) = g.call(&mut store, (1, 3))?;
    assert_eq!(a, 4);
    assert_eq!(b, 2);
    let round_trip_many = instance
        .get_typed_func::<(i64, i64, i64, i64, i64, i64, i64, i64, i64, i64), (i64, i64, i64, i64, i64, i64, i64, i64, i64, i64)>(
            &mut store, "round_trip_many",
        )?;
    let results = round_trip_many.call(&mut store, (0, 1, 2, 3, 4, 5, 6, 7, 8, 9))?;
    assert_eq!(results, (0, 1, 2, 3, 4, 5, 6, 7, 8, 9));
    Ok(())
}

#[test]
fn fuel_until_it_is_gone() -> wasmtime::Result<()> {
    use wasmtime::*;
    let mut config = Config::new();
    config.consume_fuel(true);
    let engine = Engine::new(&config)?;
    let mut store = Store::new(&engine, ());
    store.set_fuel(10_000)?;
    let module = Module::new(
        store.engine(),
        r#"(module (func $fib (export "fibonacci") (param i32) (result i32)
            (if (result i32) (i32.lt_s (local.get 0) (i32.const 2)) (then (i32.const 1))
                (else (i32.add (call $fib (i32.sub (local.get 0) (i32.const 2)))
                    (call $fib (i32.sub (local.get 0) (i32.const 1))))))))"#,
    )?;
    let instance = Instance::new(&mut store, &module, &[])?;
    let fibonacci = instance.get_typed_func::<i32, i32>(&mut store, "fibonacci")?;
    for n in 1.. {
        let fuel_before = store.get_fuel().unwrap();
        match fibonacci.call(&mut store, n) {
            Ok(_) => {}
            Err(e) => {
                assert_eq!(e.downcast::<Trap>()?, Trap::OutOfFuel);
                break;
            }
        };
        assert!(fuel_before > store.get_fuel().unwrap());
        store.set_fuel(10_000)?;
    }
    Ok(())
}

#[test]
fn epochs_that_trap() -> wasmtime::Result<()> {
    use std::sync::Arc;
    use wasmtime::Error;
    use wasmtime::{Config, Engine, Instance, Module, Store};
    fn run() -> Result<(), Error> {
        let mut config = Config::new();
        config.epoch_interruption(true);
        let engine = Arc::new(Engine::new(&config)?);
        let mut store = Store::new(&engine, ());
        store.epoch_deadline_trap();
        store.set_epoch_deadline(1);
        let module = Module::new(store.engine(), r#"(module (func (export "spin") (loop (br 0))))"#)?;
        let instance = Instance::new(&mut store, &module, &[])?;
        let engine_clone = engine.clone();
        std::thread::spawn(move || {
            engine_clone.increment_epoch();
        });
        let spin = instance.get_typed_func::<(), ()>(&mut store, "spin")?;
        assert!(spin.call(&mut store, ()).is_err());
        Ok(())
    }
    run()
}

#[test]
fn interruption_by_an_epoch() -> wasmtime::Result<()> {
    use wasmtime::*;
    let engine = Engine::new(Config::new().epoch_interruption(true))?;
    let mut store = Store::new(&engine, ());
    store.set_epoch_deadline(1);
    let module = Module::new(&engine, r#"(module (func (export "run") (loop (br 0))))"#)?;
    let instance = Instance::new(&mut store, &module, &[])?;
    let run = instance.get_typed_func::<(), ()>(&mut store, "run")?;
    std::thread::spawn(move || engine.increment_epoch());
    let err = run.call(&mut store, ()).unwrap_err();
    assert_eq!(err.downcast::<Trap>()?, Trap::Interrupt);
    Ok(())
}

#[test]
fn epochs_with_a_callback() -> wasmtime::Result<()> {
    use wasmtime::*;
    let engine = Engine::new(Config::new().epoch_interruption(true))?;
    let mut store = Store::new(&engine, 0);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|mut context| {
        *context.data_mut() += 1;
        Ok(UpdateDeadline::Continue(1))
    });
    let tick = Func::wrap(&mut store, |caller: Caller<'_, i32>| caller.engine().increment_epoch());
    let module =
        Module::new(&engine, r#"(module (import "" "" (func)) (func) (func (export "run") (call 0) (call 1)))"#)?;
    let instance = Instance::new(&mut store, &module, &[tick.into()])?;
    instance.get_typed_func::<(), ()>(&mut store, "run")?.call(&mut store, ())?;
    assert_eq!(*store.data(), 1);
    Ok(())
}

#[test]
fn several_memories() -> wasmtime::Result<()> {
    use wasmtime::*;
    let mut config = Config::new();
    config.wasm_multi_memory(true);
    let engine = Engine::new(&config)?;
    let mut store = Store::new(&engine, ());
    let module = Module::new(
        store.engine(),
        r#"(module (memory (export "memory0") 2) (memory (export "memory1") 1) (data (memory 1) (i32.const 9) "\07"))"#,
    )?;
    let instance = Instance::new(&mut store, &module, &[])?;
    let memory1 =
        instance.get_memory(&mut store, "memory1").ok_or(wasmtime::format_err!("failed to find `memory1` export"))?;
    assert_eq!(memory1.data(&store)[9], 7);
    Ok(())
}

#[test]
fn serialize_and_deserialize() -> wasmtime::Result<()> {
    use wasmtime::*;
    fn serialize() -> Result<Vec<u8>> {
        let engine = Engine::default();
        let module = Module::new(&engine, r#"(module (import "" "" (func $f)) (func (export "run") (call $f)))"#)?;
        let serialized = module.serialize()?;
        Ok(serialized)
    }
    fn deserialize(buffer: &[u8]) -> Result<()> {
        let mut store: Store<()> = Store::default();
        // SAFETY: the bytes were serialized above.
        let module = unsafe { Module::deserialize(store.engine(), buffer)? };
        let hello_func = Func::wrap(&mut store, || {});
        let imports = [hello_func.into()];
        let instance = Instance::new(&mut store, &module, &imports)?;
        let run = instance.get_typed_func::<(), ()>(&mut store, "run")?;
        run.call(&mut store, ())?;
        Ok(())
    }
    if !Engine::has_jit() {
        assert!(serialize().is_err());
        return Ok(());
    }
    deserialize(&serialize()?)
}

#[test]
fn a_linker_for_many_threads() -> wasmtime::Result<()> {
    use std::sync::Arc;
    use std::thread;
    use wasmtime::*;
    fn run(engine: &Engine, module: &Module, linker: &Linker<()>) -> Result<()> {
        let mut store = Store::new(engine, ());
        let instance = linker.instantiate(&mut store, module)?;
        let run = instance.get_typed_func::<(), ()>(&mut store, "run")?;
        run.call(&mut store, ())?;
        let child = thread::spawn(move || run.call(&mut store, ()));
        child.join().unwrap()?;
        Ok(())
    }
    let engine = Engine::default();
    let module =
        Module::new(&engine, r#"(module (import "global" "hello" (func $f)) (func (export "run") (call $f)))"#)?;
    let mut linker = Linker::new(&engine);
    linker.func_wrap("global", "hello", || {
        let _ = thread::current().id();
    })?;
    let linker = Arc::new(linker);
    let children = (0..3)
        .map(|_| {
            let engine = engine.clone();
            let module = module.clone();
            let linker = linker.clone();
            thread::spawn(move || {
                run(&engine, &module, &linker).expect("Success");
            })
        })
        .collect::<Vec<_>>();
    for child in children {
        child.join().unwrap();
    }
    Ok(())
}

#[test]
fn instantiate_pre_in_threads() -> wasmtime::Result<()> {
    use wasmtime::format_err;
    use wasmtime::{Engine, Linker, Module, Result, Store};
    let engine = Engine::default();
    let mut linker = Linker::<()>::new(&engine);
    linker.func_wrap("math", "add", |a: u32, b: u32| -> u32 { a + b })?;
    let module = Module::new(
        &engine,
        r#"
            (module
                (import "math" "add" (func $add (param i32 i32) (result i32)))
                (func (export "run") (result i32)
                    (call $add (i32.const 29) (i32.const 13))
                )
            )
        "#,
    )?;
    let instance_pre = linker.instantiate_pre(&module)?;
    let handles: Vec<std::thread::JoinHandle<Result<()>>> = (0..2)
        .map(|_| {
            let engine = engine.clone();
            let instance_pre = instance_pre.clone();
            std::thread::spawn(move || -> Result<()> {
                let mut store = Store::new(&engine, ());
                let instance = instance_pre.instantiate(&mut store)?;
                let result = instance.get_typed_func::<(), i32>(&mut store, "run")?.call(&mut store, ());
                assert_eq!(result?, 42);
                Ok(())
            })
        })
        .collect();
    for h in handles.into_iter() {
        h.join().map_err(|_| format_err!("thread panicked!"))??;
    }
    Ok(())
}

#[test]
fn precompile_to_a_file() -> wasmtime::Result<()> {
    use wasmtime::{Config, Engine, Instance, Module, Store, Strategy};
    if !Engine::has_jit() {
        return Ok(());
    }
    let mut config = Config::new();
    config.strategy(Strategy::Cranelift);
    let engine = match Engine::new(&config) {
        Ok(engine) => engine,
        Err(error) => {
            println!("incompatible with config: {error:?}");
            return Ok(());
        }
    };
    let precompiled = engine.precompile_module(
        r#"
            (module
              (func (export "add") (param i32 i32) (result i32)
                (i32.add (local.get 0) (local.get 1))
              )
            )
        "#
        .as_bytes(),
    )?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("add.cwasm");
    std::fs::write(&path, &precompiled)?;
    // SAFETY: the file was written above.
    let module = unsafe { Module::deserialize_file(&engine, &path) }?;
    let mut store = Store::new(&engine, ());
    let instance = Instance::new(&mut store, &module, &[])?;
    let add = instance.get_typed_func::<(i32, i32), i32>(&mut store, "add")?;
    assert_eq!(add.call(&mut store, (3, 8))?, 11);
    Ok(())
}

#[test]
fn limits_in_the_data_of_a_store() -> wasmtime::Result<()> {
    use wasmtime::*;
    struct StoreState {
        limits: StoreLimits,
    }
    let engine = Engine::default();
    let my_state = StoreState {
        limits: StoreLimitsBuilder::new().memory_size(1 << 20).instances(2).trap_on_grow_failure(true).build(),
    };
    let mut store = Store::new(&engine, my_state);
    store.limiter(|state| &mut state.limits);
    Memory::new(&mut store, MemoryType::new(1, None)).unwrap();
    assert!(Memory::new(&mut store, MemoryType::new(1000, None)).is_err());
    Ok(())
}

#[test]
fn a_resource_limiter() -> wasmtime::Result<()> {
    use wasmtime::*;
    struct MyLimiter {
        asked: usize,
    }
    impl ResourceLimiter for MyLimiter {
        fn memory_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
            self.asked += 1;
            Ok(desired <= 1 << 17)
        }
        fn table_growing(&mut self, _current: usize, _desired: usize, _maximum: Option<usize>) -> Result<bool> {
            Ok(true)
        }
    }
    let engine = Engine::default();
    let mut store = Store::new(&engine, MyLimiter { asked: 0 });
    store.limiter(|limiter| limiter);
    let memory = Memory::new(&mut store, MemoryType::new(1, None))?;
    memory.grow(&mut store, 1)?;
    assert!(memory.grow(&mut store, 1).is_err());
    assert_eq!(store.data().asked, 3);
    Ok(())
}

#[test]
fn settings() -> wasmtime::Result<()> {
    use wasmtime::*;
    let mut config = Config::new();
    config
        .wasm_backtrace(true)
        .max_wasm_stack(512 << 10)
        .async_stack_size(2 << 20)
        .async_support(true)
        .cranelift_opt_level(OptLevel::Speed)
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .signals_based_traps(true)
        .profiler(ProfilingStrategy::None)
        .strategy(Strategy::Auto);
    Engine::new(&config)?;
    Ok(())
}

#[test]
fn proposals_off() -> wasmtime::Result<()> {
    use wasmtime::*;
    let mut config = Config::new();
    config.wasm_simd(false).wasm_relaxed_simd(false).wasm_exceptions(false).wasm_tail_call(false);
    config
        .wasm_gc(false)
        .wasm_function_references(false)
        .wasm_reference_types(false)
        .wasm_multi_value(false)
        .wasm_threads(false)
        .wasm_memory64(false);
    config.wasm_extended_const(false).wasm_bulk_memory(false).wasm_multi_memory(false);
    let engine = Engine::new(&config)?;
    assert!(Module::new(&engine, "(module (func (result i32) (i32.const 1)))").is_ok());
    assert!(Module::new(&engine, "(module (func (param v128)))").is_err());
    Ok(())
}
