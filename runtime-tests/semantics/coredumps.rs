//! Core dumps: read back with the readers of wasmparser, and valid modules.

use wasmparser::{CoreDumpValue, DataKind, KnownCustom, Operator, Parser, Payload, Validator};
use wasmrun::*;

use super::engines::for_each_engine;

/// What a dump says.
#[derive(Debug, Default, PartialEq)]
struct Dump {
    name: String,
    modules: Vec<String>,
    /// Module, memories, globals.
    instances: Vec<(u32, Vec<u32>, Vec<u32>)>,
    /// Instance, function, offset in the function, number of locals.
    frames: Vec<(u32, u32, u32, usize)>,
    /// Pages.
    memories: Vec<u64>,
    /// The operator that gives the value.
    globals: Vec<(bool, String)>,
    /// Memory, address, contents.
    data: Vec<(u32, u32, Vec<u8>)>,
}

fn read(bytes: &[u8]) -> Dump {
    Validator::new().validate_all(bytes).expect("a dump is a valid module");
    let mut dump = Dump::default();
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.unwrap() {
            Payload::MemorySection(section) => {
                dump.memories = section.into_iter().map(|memory| memory.unwrap().initial).collect();
            }
            Payload::GlobalSection(section) => {
                for global in section {
                    let global = global.unwrap();
                    let operator = global.init_expr.get_operators_reader().read().unwrap();
                    dump.globals.push((global.ty.mutable, format!("{operator:?}")));
                }
            }
            Payload::DataSection(section) => {
                for segment in section {
                    let segment = segment.unwrap();
                    let DataKind::Active { memory_index, offset_expr } = segment.kind else { panic!("{segment:?}") };
                    let Ok(Operator::I32Const { value }) = offset_expr.get_operators_reader().read() else { panic!() };
                    dump.data.push((memory_index, value as u32, segment.data.to_vec()));
                }
            }
            Payload::CustomSection(section) => match section.as_known() {
                KnownCustom::CoreDump(core) => dump.name = core.name.into(),
                KnownCustom::CoreDumpModules(section) => {
                    dump.modules = section.modules.iter().map(|name| name.to_string()).collect();
                }
                KnownCustom::CoreDumpInstances(section) => {
                    let instance = |it: wasmparser::CoreDumpInstance| (it.module_index, it.memories, it.globals);
                    dump.instances = section.instances.into_iter().map(instance).collect();
                }
                KnownCustom::CoreDumpStack(section) => {
                    assert_eq!(section.name, "main");
                    for frame in section.frames {
                        assert!(frame.stack.is_empty());
                        assert!(frame.locals.iter().all(|local| matches!(local, CoreDumpValue::Missing)));
                        dump.frames.push((frame.instanceidx, frame.funcidx, frame.codeoffset, frame.locals.len()));
                    }
                }
                _ => panic!("an unknown section {}", section.name()),
            },
            _ => {}
        }
    }
    dump
}

const LIBRARY: &str = r#"(module $library
    (memory (export "memory") 3)
    (global (export "count") (mut i32) (i32.const 5))
    (func $fail (export "fail") (param i32) (local i64 f32)
        (i32.store (local.get 0) (i32.const 0x11223344))
        (unreachable)))"#;

const PROGRAM: &str = r#"(module $program
    (import "library" "fail" (func $fail (param i32)))
    (import "library" "memory" (memory 1))
    (import "library" "count" (global $count (mut i32)))
    (global i64 (i64.const -2)) (global f32 (f32.const nan:0x200001)) (global f64 (f64.const -0.5))
    (global v128 (v128.const i64x2 1 2)) (global funcref (ref.func $fail)) (global (mut externref) (ref.null extern))
    (memory 1)
    (func (export "run") (param i32)
        (i32.store8 1 (i32.const 65535) (i32.const 9))
        (global.set $count (i32.const -1000))
        (call $fail (local.get 0))))"#;

#[test]
fn a_dump_has_the_whole_store() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let library = Instance::new(&mut store, &Module::new(engine, LIBRARY).unwrap(), &[]).unwrap();
        let module = Module::new(engine, PROGRAM).unwrap();
        let mut linker = Linker::new(engine);
        linker.instance(&mut store, "library", library).unwrap();
        let program = linker.instantiate(&mut store, &module).unwrap();
        linker.instantiate(&mut store, &module).unwrap();
        let run = program.get_typed_func::<i32, ()>(&mut store, "run").unwrap();
        // In the last page of three, just behind the first part of 4096 bytes.
        let address = 2 * 65536 + 4096;
        let error = run.call(&mut store, address).unwrap_err();
        let dump = WasmCoreDump::of_error(&error);
        assert_eq!(dump.frames(), error.backtrace());
        let dump = read(&dump.serialize(&store, "program.wasm").unwrap());

        let offsets: Vec<_> = error.backtrace().iter().map(|frame| frame.func_offset() as u32).collect();
        let mut part = vec![0; 4096];
        part[..4].copy_from_slice(&0x1122_3344_u32.to_le_bytes());
        let mut last = vec![0; 4096];
        last[4095] = 9;
        let values = |count: &str| {
            [
                count,
                "I64Const { value: -2 }",
                "F32Const { value: Ieee32(2141192193) }",
                "F64Const { value: Ieee64(13826050856027422720) }",
            ]
            .map(String::from)
        };
        assert_eq!(
            (dump.name.as_str(), &dump.modules[..]),
            ("program.wasm", &["library", "program"].map(String::from)[..])
        );
        assert_eq!(dump.instances[0], (0, vec![0], vec![0]));
        assert_eq!(dump.instances[1], (1, vec![0, 1], (0..7).collect()));
        assert_eq!(dump.instances[2], (1, vec![0, 2], [0].into_iter().chain(7..13).collect()));
        assert_eq!(dump.frames, [(0, 0, offsets[0], 3), (1, 1, offsets[1], 1)]);
        assert_eq!(dump.memories, [3, 1, 1]);
        assert_eq!(dump.data, [(0, address as u32, part), (1, 61440, last)]);
        let globals: Vec<_> = dump.globals.iter().map(|(_, value)| value.clone()).collect();
        assert_eq!(globals[..4], values("I32Const { value: -1000 }"));
        assert!(globals[4].starts_with("V128Const") && globals[5].starts_with("RefNull"), "{globals:?}");
        let mutable: Vec<_> = dump.globals.iter().map(|(mutable, _)| *mutable).collect();
        assert_eq!(mutable[..7], [true, false, false, false, false, false, true]);
    });
}

/// A host function dumps what has called it; an interruption, a deadline and an exception are dumped as a trap is.
#[test]
fn dumps_are_made_of_whatever_runs_or_has_ended() {
    let wat = r#"(module (import "" "host" (func $host)) (import "" "interrupt" (func $interrupt)) (memory 1) (tag $tag)
        (func (export "calls") (call $host)) (func (export "throws") (throw $tag)) (func (export "spins") (call $interrupt) (loop (br 0))))"#;
    for_each_engine(|engine| {
        let mut store = Store::new(engine, Vec::new());
        let host = Func::wrap(&mut store, |mut caller: Caller<'_, Vec<u8>>| {
            let dump = WasmCoreDump::capture(&caller).serialize(&caller, "m").unwrap();
            *caller.data_mut() = dump;
        });
        let handle = store.interrupt_handle();
        let interrupt = Func::wrap(&mut store, move |_: Caller<'_, Vec<u8>>| handle.interrupt());
        let module = Module::new(engine, wat).unwrap();
        let instance = Instance::new(&mut store, &module, &[host.into(), interrupt.into()]).unwrap();
        let get = |store: &mut Store<Vec<u8>>, name| instance.get_typed_func::<(), ()>(store, name).unwrap();
        get(&mut store, "calls").call(&mut store, ()).unwrap();
        assert_eq!(read(store.data()).frames.iter().map(|frame| frame.1).collect::<Vec<_>>(), [2]);
        let error = get(&mut store, "throws").call(&mut store, ()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Exception(_)));
        assert_eq!(read(&WasmCoreDump::of_error(&error).serialize(&store, "m").unwrap()).frames[0].1, 3);
        let error = get(&mut store, "spins").call(&mut store, ()).unwrap_err();
        assert_eq!(read(&WasmCoreDump::of_error(&error).serialize(&store, "m").unwrap()).frames[0].1, 4);
    });
}

/// Only what is not zero of a large memory is there, in at most as many segments as a module may have.
#[test]
fn large_memories_are_sparse() {
    let engine = Engine::default();
    let mut store = Store::new(&engine, ());
    let memory = Memory::new(&mut store, MemoryType::new(16_000, None)).unwrap();
    let dump = WasmCoreDump::capture(&store);
    let len = memory.data(&store).len();
    memory.write(&mut store, len - 1, &[1]).unwrap();
    let bytes = dump.serialize(&store, "m").unwrap();
    assert!(bytes.len() < 5000, "{}", bytes.len());
    assert_eq!(read(&bytes).data[0].1 as usize, len - 4096);
    // A byte in every other part of 4096 bytes.
    for at in (0..len).step_by(8192) {
        memory.write(&mut store, at, &[1]).unwrap();
    }
    let bytes = dump.serialize(&store, "m").unwrap();
    let data = read(&bytes).data;
    assert!(data.len() <= 100_000);
    let mut copy = vec![0; len];
    for (_, address, part) in data {
        copy[address as usize..][..part.len()].copy_from_slice(&part);
    }
    assert!(copy == memory.data(&store), "nothing is lost");
}

#[test]
fn what_no_module_can_hold_is_an_error() {
    let engine = Engine::default();
    let mut store = Store::new(&engine, ());
    for _ in 0..100 {
        Memory::new(&mut store, MemoryType::new(0, Some(0))).unwrap();
    }
    let dump = WasmCoreDump::capture(&store);
    assert_eq!(read(&dump.serialize(&store, "m").unwrap()).memories.len(), 100);
    Memory::new(&mut store, MemoryType::new(0, Some(0))).unwrap();
    assert_eq!(dump.serialize(&store, "m").unwrap_err().kind(), std::io::ErrorKind::Unsupported);
}

/// An error of the writer is told, and ends it.
#[test]
fn errors_of_the_writer_are_given_back() {
    struct Full(usize);
    impl std::io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let engine = Engine::default();
    let mut store = Store::new(&engine, ());
    let memory = Memory::new(&mut store, MemoryType::new(1, None)).unwrap();
    memory.write(&mut store, 0, b"contents").unwrap();
    let dump = WasmCoreDump::capture(&store);
    let length = dump.serialize(&store, "m").unwrap().len();
    dump.write(&store, "m", &mut Full(length)).unwrap();
    for room in 0..length {
        let error = dump.write(&store, "m", &mut Full(room)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{room}");
    }
}

/// Page faults of this thread so far that needed no disk.
#[cfg(target_os = "linux")]
fn faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    // The name, in parentheses, may have spaces; `minflt` is the eighth field after it.
    stat.rsplit_once(')').unwrap().1.split_whitespace().nth(7).unwrap().parse().unwrap()
}

/// Memory that nobody has touched is not read: 100 memories of 4 GiB would take minutes, and nearly a gigabyte of page tables.
#[test]
#[cfg(target_os = "linux")]
fn untouched_memory_costs_nothing() {
    let engine = Engine::default();
    let text = format!(
        "(module {} (func (export \"f\") (i32.store8 99 (i32.const -70000) (i32.const 5)) unreachable))",
        "(memory 65536)".repeat(100)
    );
    let mut store = Store::new(&engine, ());
    let instance = Instance::new(&mut store, &Module::new(&engine, &text).unwrap(), &[]).unwrap();
    let error = instance.get_typed_func::<(), ()>(&mut store, "f").unwrap().call(&mut store, ()).unwrap_err();
    let before = faults();
    let dump = read(&WasmCoreDump::of_error(&error).serialize(&store, "").unwrap());
    assert!(faults() - before < 100_000, "{}", faults() - before);
    let [(99, address, contents)] = &dump.data[..] else { panic!("{:?}", dump.data.len()) };
    assert_eq!((*address, contents.len()), (70_000_u32.wrapping_neg() / 4096 * 4096, 4096));
}

/// Later instances of a module get their data from an image, of which no page was touched.
#[test]
fn data_that_nobody_has_touched_is_dumped() {
    for_each_engine(|engine| {
        let data = "x".repeat(1 << 20);
        let text = format!(r#"(module (memory (export "m") 32) (data (i32.const 65536) "{data}"))"#);
        let module = Module::new(engine, &text).unwrap();
        for _ in 0..4 {
            let mut store = Store::new(engine, ());
            Instance::new(&mut store, &module, &[]).unwrap();
            let dump = read(&WasmCoreDump::capture(&store).serialize(&store, "").unwrap());
            assert_eq!(dump.data, [(0, 65536, data.clone().into_bytes())]);
        }
    });
}
