//! Errors, as in the documentation of `Error`.

#[test]
fn messages() -> wasmtime::Result<()> {
    use wasmtime::{Error, Result, bail, ensure, format_err};
    fn check(n: u32) -> Result<()> {
        ensure!(n != 0, "zero");
        ensure!(n < 100);
        if n == 1 {
            bail!("one");
        }
        if n == 2 {
            bail!("{} is {n}", "two");
        }
        Err(format_err!("other: {n}"))
    }
    for (n, text) in [(0, "zero"), (1, "one"), (2, "two is 2"), (3, "other: 3")] {
        assert_eq!(check(n).unwrap_err().to_string(), text);
    }
    assert!(check(100).unwrap_err().to_string().contains("n < 100"));
    assert_eq!(Error::msg(String::from("owned")).to_string(), "owned");
    Ok(())
}

#[test]
fn context() -> wasmtime::Result<()> {
    use wasmtime::error::Context as _;
    use wasmtime::*;
    fn read() -> Result<Vec<u8>> {
        std::fs::read("/no/such/file").context("failed to read the module")
    }
    fn load() -> Result<()> {
        read().with_context(|| format!("failed to load {}", "plugin"))?;
        Ok(())
    }
    let error = load().unwrap_err();
    assert_eq!(error.to_string(), "failed to load plugin");
    assert!(format!("{error:#}").starts_with("failed to load plugin: failed to read the module: "));
    assert!(format!("{error:?}").contains("failed to read the module"));
    assert_eq!(error.chain().count(), 3);
    assert!(error.root_cause().downcast_ref::<std::io::Error>().is_some());
    assert_eq!(error.downcast_ref::<std::io::Error>().unwrap().kind(), std::io::ErrorKind::NotFound);
    Ok(())
}

#[test]
fn traps() -> wasmtime::Result<()> {
    use wasmtime::*;
    let mut store = Store::<()>::default();
    let wat = r#"(module (memory 1) (table 1 funcref)
        (func (export "unreachable") unreachable)
        (func (export "memory") (drop (i32.load (i32.const -1))))
        (func (export "divide") (drop (i32.div_s (i32.const 1) (i32.const 0))))
        (func (export "null") (call_indirect (i32.const 0))))"#;
    let module = Module::new(store.engine(), wat)?;
    let instance = Instance::new(&mut store, &module, &[])?;
    for (name, trap) in [
        ("unreachable", Trap::UnreachableCodeReached),
        ("memory", Trap::MemoryOutOfBounds),
        ("divide", Trap::IntegerDivisionByZero),
        ("null", Trap::IndirectCallToNull),
    ] {
        let error = instance.get_typed_func::<(), ()>(&mut store, name)?.call(&mut store, ()).unwrap_err();
        assert!(error.is::<Trap>());
        assert_eq!(error.downcast_ref::<Trap>(), Some(&trap));
        assert_eq!(error.root_cause().downcast_ref::<Trap>(), Some(&trap));
    }
    Ok(())
}

#[test]
fn backtraces() -> wasmtime::Result<()> {
    use wasmtime::*;
    let mut store = Store::<()>::default();
    let module = Module::new(
        store.engine(),
        r#"(module $m (func $inner unreachable) (func $outer (export "f") (call $inner)))"#,
    )?;
    let instance = Instance::new(&mut store, &module, &[])?;
    let error = instance.get_typed_func::<(), ()>(&mut store, "f")?.call(&mut store, ()).unwrap_err();
    let backtrace = error.downcast_ref::<WasmBacktrace>().unwrap();
    let names: Vec<_> = backtrace.frames().iter().map(|frame| frame.func_name()).collect();
    assert_eq!(names, [Some("inner"), Some("outer")]);
    Ok(())
}

#[test]
fn as_a_boxed_error() -> wasmtime::Result<()> {
    use wasmtime::*;
    fn run() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Module::new(&Engine::default(), "(module (func (result i32)))")?;
        Ok(())
    }
    fn main() -> Result<(), Box<dyn std::error::Error>> {
        Module::new(&Engine::default(), "(module (func (result i32)))")?;
        Ok(())
    }
    assert!(main().is_err());
    let error = Error::from_boxed(run().unwrap_err());
    assert!(error.source().is_none() && error.to_string().contains("type mismatch"));
    Ok(())
}

#[test]
#[cfg(feature = "anyhow")]
fn as_an_anyhow_error() -> wasmtime::Result<()> {
    use wasmtime::*;
    fn main() -> anyhow::Result<()> {
        let engine = Engine::new(&Config::new())?;
        Module::new(&engine, "(module (func (result i32)))")?;
        Ok(())
    }
    assert!(main().unwrap_err().to_string().contains("type mismatch"));
    // Where it trapped is printed by `fn main() -> anyhow::Result<()>`.
    fn start() -> anyhow::Result<()> {
        let mut store = Store::<()>::default();
        let module = Module::new(store.engine(), "(module (func $inner unreachable) (start $inner))")?;
        Instance::new(&mut store, &module, &[])?;
        Ok(())
    }
    let error = start().unwrap_err();
    assert!(error.chain().any(|cause| cause.is::<WasmBacktrace>()));
    let printed = format!("{error:?}");
    assert!(printed.contains("unreachable") && printed.contains("0: inner at offset 0x"), "{printed}");
    assert_eq!(Error::from_anyhow(error).backtrace()[0].func_name(), Some("inner"));

    // And back.
    fn trapping() -> anyhow::Result<()> {
        let error = Error::from(Trap::Interrupt).context("inner");
        Err(anyhow::Error::from(error).context("middle").context("outer"))
    }
    let error = trapping().map_err(Error::from_anyhow).unwrap_err();
    assert_eq!(
        (error.trap(), format!("{error:#}")),
        (Some(Trap::Interrupt), "outer: middle: inner: interrupted".into())
    );
    let plain = Error::from_anyhow("x".parse::<u8>().unwrap_err().into());
    assert!(plain.is::<std::num::ParseIntError>(), "{plain:?}");
    assert_eq!(Error::from_anyhow(Trap::OutOfFuel.into()).trap(), Some(Trap::OutOfFuel));
    assert_eq!(Error::from_anyhow(anyhow::anyhow!("a").context("b")).to_string(), "b");
    Ok(())
}
