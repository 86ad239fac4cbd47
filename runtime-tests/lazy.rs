//! Modules whose functions are validated when they are first called: in memory, and in files of which only parts are
//! read, whatever happens to the file meanwhile.

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Barrier;
use std::thread;

use tempfile::TempDir;
use wasmrun::{Config, Engine, Error, ErrorKind, Instance, Linker, Module, Store, Strategy, Value};

/// Lazy engines of each strategy.
fn engines() -> Vec<Engine> {
    let strategies = [Strategy::Interpreter, Strategy::Jit];
    let strategies = &strategies[..if Engine::has_jit() { 2 } else { 1 }];
    let mut config = Config::new();
    config.lazy_validation(true).lazy_validation_from(0);
    strategies.iter().map(|strategy| Engine::new(config.strategy(*strategy)).unwrap()).collect()
}

/// A module of more than a MiB, the size from which on files are read in part: with functions, one of them invalid, in
/// between others, and with short and long segments, active and passive.
fn module(start: &str) -> Vec<u8> {
    let nops = "nop ".repeat(1000);
    let padding = format!("(func {nops})").repeat(100);
    let long = "long bytes ".repeat(60_000);
    let text = format!(
        r#"(module $whole
            (memory (export "memory") 30)
            (table 4 funcref) (elem (i32.const 0) $good $bad $calls)
            (data (i32.const 16) "short")
            (data (i32.const 65536) "{long}")
            (data $passive "passive {long}")
            (data (i32.const 32) "last")
            {padding}
            (func $good (export "good") (result i32) (i32.const 42))
            {padding}
            (func $bad (export "bad") (result i32) (i64.const 1))
            {padding}
            (func $calls (export "calls") (result i32) (call $bad))
            (func (export "indirect") (param i32) (result i32) (call_indirect (result i32) (local.get 0)))
            (func (export "init") (param i32 i32 i32)
                (memory.init $passive (local.get 0) (local.get 1) (local.get 2)))
            (func (export "traps") (unreachable))
            (func $start)
            {start})"#
    );
    let bytes = wat::parse_str(text).expect("the text is right, if not the module");
    assert!(bytes.len() > 1 << 20);
    bytes
}

/// The module in memory and in a file, which is in the folder.
fn both(engine: &Engine, bytes: &[u8]) -> (TempDir, PathBuf, [Module; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("module.wasm");
    fs::write(&path, bytes).unwrap();
    let modules = [Module::new(engine, bytes).unwrap(), Module::from_file(engine, &path).unwrap()];
    (folder, path, modules)
}

fn instantiate(module: &Module) -> (Store<()>, Instance) {
    let mut store = Store::new(module.engine(), ());
    let instance = Instance::new(&mut store, module, &[]).unwrap();
    (store, instance)
}

fn call(store: &mut Store<()>, instance: Instance, name: &str, args: &[i32]) -> Result<Vec<Value>, Error> {
    let func = instance.get_func(&mut *store, name).unwrap();
    let args: Vec<_> = args.iter().map(|arg| Value::I32(*arg)).collect();
    let ty = func.ty(&*store);
    let mut results: Vec<_> = ty.results().iter().map(Value::default_for).collect();
    func.call(store, &args, &mut results).map(|()| results)
}

fn is_42(result: Result<Vec<Value>, Error>) -> bool {
    matches!(result.unwrap()[..], [Value::I32(42)])
}

/// What a module that is validated in full has to say.
fn eager_error(bytes: &[u8]) -> Error {
    Module::new(&Engine::default(), bytes).unwrap_err()
}

fn is_resource(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Resource(_))
}

#[test]
fn invalid_functions_fail_when_they_are_called() {
    let bytes = module("");
    let expected = eager_error(&bytes);
    assert!(matches!(expected.kind(), ErrorKind::Invalid { offset: Some(_), function: Some(name), .. }
        if name == "function bad"));
    for engine in engines() {
        for module in both(&engine, &bytes).2 {
            let (mut store, instance) = instantiate(&module);
            for (name, args) in [("bad", &[][..]), ("calls", &[]), ("indirect", &[1]), ("indirect", &[2]), ("bad", &[])]
            {
                let error = call(&mut store, instance, name, args).unwrap_err();
                assert_eq!(error.to_string(), expected.to_string());
                assert!(matches!(error.kind(), ErrorKind::Invalid { .. }));
                assert!(is_42(call(&mut store, instance, "good", &[])));
                assert!(is_42(call(&mut store, instance, "indirect", &[0])));
            }
            let error = call(&mut store, instance, "calls", &[]).unwrap_err();
            assert_eq!(error.backtrace()[0].func_name(), Some("calls"));
        }
    }
}

#[test]
fn invalid_functions_that_are_not_called_do_no_harm() {
    for engine in engines() {
        for module in both(&engine, &module("(start $start)")).2 {
            let (mut store, instance) = instantiate(&module);
            assert!(is_42(call(&mut store, instance, "good", &[])));
        }
    }
}

#[test]
fn start_functions_are_validated() {
    let bytes = module("(start $invalid) (func $invalid (drop (i32.add (i32.const 1) (f32.const 1))))");
    for engine in engines() {
        for module in both(&engine, &bytes).2 {
            let mut store = Store::new(&engine, ());
            let error = Instance::new(&mut store, &module, &[]).unwrap_err();
            assert!(
                matches!(error.kind(), ErrorKind::Invalid { function: Some(name), .. } if name == "function invalid")
            );
        }
    }
}

#[test]
fn all_but_bodies_is_validated_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("module.wasm");
    for invalid in ["(export \"x\" (func 9999))", "(data (memory 1) (i32.const 0) \"\")", "(elem (i32.const 0) 9999)"] {
        let bytes = module(invalid);
        fs::write(&path, &bytes).unwrap();
        let expected = eager_error(&bytes).to_string();
        for engine in engines() {
            assert_eq!(Module::new(&engine, &bytes).unwrap_err().to_string(), expected);
            assert_eq!(Module::from_file(&engine, &path).unwrap_err().to_string(), expected);
        }
    }
}

#[test]
fn files_that_are_cut_off_are_as_invalid_as_in_memory() {
    let bytes = module("");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("module.wasm");
    let eager = Engine::default();
    for len in [(1 << 20) + 1, bytes.len() / 2 + 1000, bytes.len() - 200, bytes.len() - 1] {
        fs::write(&path, &bytes[..len]).unwrap();
        for engine in engines() {
            let (in_memory, in_file) = (Module::new(&engine, &bytes[..len]), Module::from_file(&engine, &path));
            assert_eq!(in_file.err().map(|e| e.to_string()), in_memory.err().map(|e| e.to_string()));
        }
        assert!(Module::from_file(&eager, &path).is_err());
    }
}

#[test]
fn threads_validate_at_the_same_time() {
    let bytes = module("");
    let expected = eager_error(&bytes).to_string();
    for engine in engines() {
        for _ in 0..8 {
            for module in both(&engine, &bytes).2 {
                let barrier = Barrier::new(2);
                let run = || {
                    let (mut store, instance) = instantiate(&module);
                    barrier.wait();
                    let error = call(&mut store, instance, "bad", &[]).unwrap_err();
                    assert_eq!(error.to_string(), expected);
                    assert!(is_42(call(&mut store, instance, "good", &[])));
                };
                thread::scope(|scope| {
                    scope.spawn(run);
                    run();
                });
            }
        }
    }
}

#[test]
fn segments_of_files_are_those_of_the_module() {
    let bytes = module("");
    for engine in engines() {
        let (_folder, _, modules) = both(&engine, &bytes);
        let mut memories = Vec::new();
        for module in &modules {
            let (mut store, instance) = instantiate(module);
            call(&mut store, instance, "init", &[1_000_000, 3, 600_000]).unwrap();
            call(&mut store, instance, "init", &[100, 0, 8]).unwrap();
            assert!(call(&mut store, instance, "init", &[0, 1, 660_008]).unwrap_err().trap().is_some());
            memories.push(instance.get_memory(&mut store, "memory").unwrap().data(&store).to_vec());
        }
        assert!(memories[0] == memories[1]);
        assert_eq!(&memories[1][16..21], b"short");
        assert_eq!(&memories[1][32..36], b"last");
        assert_eq!(&memories[1][65536..65546], b"long bytes");
        assert_eq!(&memories[1][100..108], b"passive ");
    }
}

#[test]
fn deleted_files_stay_readable() {
    for engine in engines() {
        let (_folder, path, [_, module]) = both(&engine, &module(""));
        fs::remove_file(path).unwrap();
        assert_eq!(module.name(), Some("whole"));
        let (mut store, instance) = instantiate(&module);
        assert!(is_42(call(&mut store, instance, "good", &[])));
        let error = call(&mut store, instance, "traps", &[]).unwrap_err();
        assert_eq!(error.backtrace()[0].func_name(), Some("traps"));
        call(&mut store, instance, "init", &[0, 0, 100_000]).unwrap();
    }
}

#[test]
fn truncated_files_give_errors() {
    for engine in engines() {
        let (_folder, path, [_, module]) = both(&engine, &module(""));
        let (mut store, instance) = instantiate(&module);
        assert!(is_42(call(&mut store, instance, "good", &[])));
        OpenOptions::new().write(true).open(path).unwrap().set_len(5000).unwrap();
        assert!(is_42(call(&mut store, instance, "good", &[])), "what has run is still there");
        assert!(is_resource(&call(&mut store, instance, "indirect", &[0]).unwrap_err()));
        assert!(is_resource(&call(&mut store, instance, "bad", &[]).unwrap_err()));
        assert_eq!(module.name(), None);
        let mut store = Store::new(&engine, ());
        assert!(is_resource(&Instance::new(&mut store, &module, &[]).unwrap_err()));
    }
}

/// Where a change can be seen, what was changed is not run, valid or not: it is of another module.
#[test]
fn files_that_are_written_to_give_errors() {
    let bytes = module("");
    let body = bytes.windows(4).position(|bytes| bytes == [0, 0x41, 42, 0x0b]).unwrap();
    let data = bytes.windows(13).position(|bytes| bytes == b"passive long ").unwrap();
    let second = std::time::Duration::from_secs(1);
    for engine in engines() {
        for change in ["time", "nanoseconds", "length"] {
            let (_folder, path, [_, module]) = both(&engine, &bytes);
            let (mut store, instance) = instantiate(&module);
            let modified = fs::metadata(&path).unwrap().modified().unwrap();
            let mut file = OpenOptions::new().write(true).open(&path).unwrap();
            for (at, new) in [(body, &[0, 0x41, 41, 0x0b][..]), (data, b"PASSIVE")] {
                file.seek(SeekFrom::Start(at as u64)).unwrap();
                file.write_all(new).unwrap();
            }
            match change {
                "time" => file.set_modified(modified + second).unwrap(),
                "nanoseconds" => file.set_modified(modified + std::time::Duration::from_nanos(1)).unwrap(),
                _ => {
                    file.seek(SeekFrom::End(0)).unwrap();
                    // An empty custom section: still a module.
                    file.write_all(&[0, 1, 0]).unwrap();
                    file.set_modified(modified).unwrap();
                }
            }
            for (name, args) in [("good", &[][..]), ("init", &[0, 500_000, 100_000]), ("indirect", &[0])] {
                let error = call(&mut store, instance, name, args).unwrap_err();
                assert!(is_resource(&error) && error.to_string().contains("was written to"), "{change}: {error}");
            }
            let mut other = Store::new(&engine, ());
            assert!(is_resource(&Instance::new(&mut other, &module, &[]).unwrap_err()), "{change}");
        }
    }
}

/// While a module is made of a file, somebody else cuts that off and writes it again: that is an error or a module, and no
/// end of the process.
#[test]
fn files_may_shrink_at_any_time() {
    let functions = "(func)".repeat(60_000);
    let padding = "x".repeat(1 << 20);
    let bytes = wat::parse_str(format!("(module {functions} (data \"{padding}\"))")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("module.wasm");
    fs::write(&path, &bytes).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    let engine = &engines()[0];
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = OpenOptions::new().write(true).open(&path).unwrap();
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                // Into the middle of the code.
                file.set_len(150_000).unwrap();
                file.seek(SeekFrom::Start(150_000)).unwrap();
                file.write_all(&bytes[150_000..]).unwrap();
            }
        });
        for _ in 0..100 {
            drop(Module::from_file(engine, &path));
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    Module::from_file(engine, &path).unwrap();
}

/// A program that may write to its own file can't get code run that was never validated, not even where the change
/// can't be seen: the length is the same, and the time is set back.
#[test]
fn what_is_written_to_a_file_is_validated_too() {
    let bytes = module("");
    // The body of `good`: no locals, i32.const 42, end.
    let body = bytes.windows(4).position(|bytes| bytes == [0, 0x41, 42, 0x0b]).unwrap();
    for engine in engines() {
        let (_folder, path, [_, module]) = both(&engine, &bytes);
        let (mut store, instance) = instantiate(&module);
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let mut file = OpenOptions::new().write(true).open(path).unwrap();
        file.seek(SeekFrom::Start(body as u64)).unwrap();
        file.write_all(&[0, 0x20, 42, 0x0b]).unwrap(); // local.get 42
        file.set_modified(modified).unwrap();
        let error = call(&mut store, instance, "good", &[]).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Invalid { message, .. } if message.contains("local")), "{error}");
        file.seek(SeekFrom::Start(body as u64)).unwrap();
        file.write_all(&[0, 0x41, 42, 0x0b]).unwrap();
        file.set_modified(modified).unwrap();
        assert!(is_42(call(&mut store, instance, "good", &[])));
        file.write_all(&[0]).unwrap();
        assert!(is_42(call(&mut store, instance, "good", &[])));
    }
}

#[test]
fn files_that_are_no_modules() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let mut engines = engines();
    engines.push(Engine::default());
    for engine in engines {
        let missing = Module::from_file(&engine, folder.path().join("missing.wasm")).unwrap_err();
        assert!(is_resource(&missing) && missing.to_string().contains("missing.wasm"), "{missing}");
        let directory = Module::from_file(&engine, folder.path()).unwrap_err();
        assert!(is_resource(&directory), "{directory}");
        let empty = Module::from_file(&engine, at("empty", b"")).unwrap_err();
        assert!(matches!(empty.kind(), ErrorKind::Invalid { message, .. } if message == "the module is empty"));
        for other in [&[0; 2 << 20][..], &b"\0asm".repeat(1 << 19), "é(".repeat(1 << 20).as_bytes()] {
            let error = Module::from_file(&engine, at("other", other)).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Invalid { .. }), "{error}");
        }
        let text = format!("(module (func (export \"f\"))) ;; {}", "long ".repeat(1 << 18));
        let module = Module::from_file(&engine, at("text.wat", text.as_bytes())).unwrap();
        let mut store = Store::new(&engine, ());
        let instance = Linker::new(&engine).instantiate(&mut store, &module).unwrap();
        call(&mut store, instance, "f", &[]).unwrap();
    }
}
