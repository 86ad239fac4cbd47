//! Budgets: what the code of a store may use, on every engine, and what is told of it.

use std::cell::Cell;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::engines::{call, for_each_engine, instantiate, setup};
use wasmrun::{
    Budget, BudgetItem, Caller, Engine, Error, ErrorKind, ExternRef, Func, Instance, Linker, Memory, MemoryType,
    Module, Ref, RefType, ResourceLimiter, Result, Store, StoreLimitsBuilder, Table, TableType, Trap, Value, WasiEnv,
    create_wasi_linker, wasi,
};

const PAGE: u64 = 1 << 16;

const SPIN: &str = r#"(module
    (func (export "spin") (loop (br 0)))
    (func $count (export "count") (param i32)
        (loop (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))"#;

/// Exceptions, kept in a table or dropped.
const THROWING: &str = r#"(module
    (tag $t (param i64 i64 i64 i64))
    (table $kept (export "kept") 0 exnref)
    (table $all (export "all") 100000 exnref)
    (func $make (result exnref) (local exnref)
        (block $caught (result i64 i64 i64 i64 exnref)
            (try_table (catch_ref $t $caught) (throw $t (i64.const 1) (i64.const 2) (i64.const 3) (i64.const 4)))
            (unreachable))
        (local.set 0) (drop) (drop) (drop) (drop) (local.get 0))
    (func (export "keep") (param $n i32) (local $i i32)
        (loop $again
            (table.set $all (local.get $i) (call $make))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $i) (local.get $n)))))
    (func (export "forget") (param $n i32)
        (table.fill $all (i32.const 0) (ref.null exn) (i32.const 100000)))
    (func (export "drop") (param $n i32)
        (loop $again
            (drop (call $make))
            (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
    (func (export "grow") (param i32) (result i32) (table.grow $kept (ref.null exn) (local.get 0))))"#;

/// Bytes of the table in `THROWING`.
const TABLE: u64 = 8 * 100_000;

fn is_over_memory(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Resource(message) if message.contains("of memory, of which"))
        && error.budget_item() == Some(BudgetItem::Memory)
        && error.to_string().ends_with("(limited by Budget::memory)")
}

#[test]
fn cpu_time_ends_what_computes() {
    for_each_engine(|engine| {
        let (mut store, instance) = setup(engine, SPIN);
        let limit = Duration::from_millis(20);
        store.set_budget(&Budget::new().cpu_time(limit)).unwrap();
        let error = call::<_, _, ()>(&mut store, instance, "spin", ()).unwrap_err();
        assert_eq!((error.trap(), error.budget_item()), (Some(Trap::CpuTime), Some(BudgetItem::CpuTime)));
        assert_eq!(error.to_string(), "CPU time used up (limited by Budget::cpu_time)");
        assert_eq!(error.backtrace().len(), 1, "{error:?}");
        let used = store.budget_used().cpu_time.unwrap();
        assert!((limit..limit * 50).contains(&used), "{used:?}");
        // What has none left is not called any more, until it gets more.
        let error = call::<_, _, ()>(&mut store, instance, "count", 1).unwrap_err();
        assert_eq!(error.trap(), Some(Trap::CpuTime));
        assert_eq!(store.budget_reached(), [BudgetItem::CpuTime]);
        store.set_budget(&Budget::new().cpu_time(used + Duration::from_secs(60))).unwrap();
        call::<_, _, ()>(&mut store, instance, "count", 1).unwrap();
        store.set_budget(&Budget::new().cpu_time(used + limit)).unwrap();
        let error = call::<_, _, ()>(&mut store, instance, "spin", ()).unwrap_err();
        assert_eq!(error.trap(), Some(Trap::CpuTime));
        assert!(store.budget_used().cpu_time.unwrap() >= used + limit);
    });
}

/// Many short calls, none of which is long enough to be interrupted, use it up together.
#[test]
fn cpu_time_of_all_calls_counts_together() {
    for_each_engine(|engine| {
        let (mut store, instance) = setup(engine, SPIN);
        store.set_budget(&Budget::new().cpu_time(Duration::from_millis(10))).unwrap();
        let count = instance.get_typed_func::<i32, ()>(&mut store, "count").unwrap();
        let most = Instant::now() + Duration::from_secs(60);
        let error = loop {
            if let Err(error) = count.call(&mut store, 1000) {
                break error;
            }
            assert!(Instant::now() < most, "it never ends");
        };
        assert_eq!(error.trap(), Some(Trap::CpuTime));
    });
}

#[test]
fn waiting_takes_no_cpu_time_and_host_functions_do() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let wait = Func::wrap(&mut store, || std::thread::sleep(Duration::from_millis(60)));
        let compute = Func::wrap(&mut store, |mut caller: Caller<'_, ()>| {
            use wasmrun::AsContextMut;
            let before = caller.as_context_mut().budget_used().cpu_time.unwrap();
            let most = Instant::now() + Duration::from_secs(60);
            while caller.as_context_mut().budget_used().cpu_time.unwrap() < before + Duration::from_millis(40) {
                assert!(Instant::now() < most, "time does not pass");
            }
        });
        let wat = r#"(module (import "" "" (func $wait)) (import "" "" (func $compute))
            (func (export "wait") (call $wait) (loop (br_if 0 (i32.const 0))))
            (func (export "compute") (loop (call $compute) (br 0))))"#;
        let instance = instantiate(&mut store, wat, &[wait.into(), compute.into()]);
        store.set_budget(&Budget::new().cpu_time(Duration::from_millis(50))).unwrap();
        call::<_, _, ()>(&mut store, instance, "wait", ()).unwrap();
        assert!(store.budget_used().cpu_time.unwrap() < Duration::from_millis(50));
        let error = call::<_, _, ()>(&mut store, instance, "compute", ()).unwrap_err();
        assert_eq!(error.trap(), Some(Trap::CpuTime));
    });
}

#[test]
fn wall_time_is_the_deadline() {
    for_each_engine(|engine| {
        let (mut store, instance) = setup(engine, SPIN);
        let start = Instant::now();
        store.set_budget(&Budget::new().wall_time(Duration::from_millis(10))).unwrap();
        let error = call::<_, _, ()>(&mut store, instance, "spin", ()).unwrap_err();
        assert!(start.elapsed() >= Duration::from_millis(10));
        assert_eq!((error.trap(), error.budget_item()), (Some(Trap::Deadline), Some(BudgetItem::WallTime)));
        assert_eq!(store.budget_reached(), [BudgetItem::WallTime]);
        // A deadline that the budget did not set is none of its items.
        store.set_deadline(Instant::now() + Duration::from_millis(5)).unwrap();
        let error = call::<_, _, ()>(&mut store, instance, "spin", ()).unwrap_err();
        assert_eq!((error.trap(), error.budget_item()), (Some(Trap::Deadline), None));
        store.set_budget(&Budget::new().wall_time(Duration::from_millis(5))).unwrap();
        store.set_budget(&Budget::new()).unwrap();
        std::thread::sleep(Duration::from_millis(10));
        call::<_, _, ()>(&mut store, instance, "count", 1000).unwrap();
    });
}

#[test]
fn memories_and_tables_share_the_memory() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        store.set_budget(&Budget::new().memory(3 * PAGE + 8 * 10)).unwrap();
        let wat = r#"(module
            (memory (export "memory") 1 100) (table (export "table") 2 100 funcref)
            (func (export "memory.grow") (param i32) (result i32) (memory.grow (local.get 0)))
            (func (export "table.grow") (param i32) (result i32) (table.grow (ref.null func) (local.get 0))))"#;
        let instance = instantiate(&mut store, wat, &[]);
        assert_eq!(store.budget_used().memory, PAGE + 16);
        let grow = |store: &mut Store<()>, what: &str, by: i32| -> i32 { call(store, instance, what, by).unwrap() };
        assert_eq!(grow(&mut store, "memory.grow", 3), -1);
        assert_eq!(store.budget_reached(), [BudgetItem::Memory]);
        assert_eq!(grow(&mut store, "memory.grow", 2), 1);
        assert_eq!(grow(&mut store, "table.grow", 9), -1);
        assert_eq!(grow(&mut store, "table.grow", 8), 2);
        assert_eq!(grow(&mut store, "table.grow", 1), -1);
        assert_eq!(grow(&mut store, "memory.grow", 1), -1);
        assert_eq!((grow(&mut store, "table.grow", 0), grow(&mut store, "memory.grow", 0)), (10, 3));
        let used = store.budget_used();
        assert_eq!((used.memory, used.linear_memory, used.tables), (3 * PAGE + 80, 3 * PAGE, 80));
        // The host's own.
        assert!(is_over_memory(&Memory::new(&mut store, MemoryType::new(1, None)).unwrap_err()));
        Memory::new(&mut store, MemoryType::new(0, None)).unwrap();
        let ty = |minimum| TableType::new(RefType::FUNCREF, minimum, None);
        assert!(is_over_memory(&Table::new(&mut store, ty(1), Ref::Func(None)).unwrap_err()));
        let module = Module::new(engine, "(module (memory 1))").unwrap();
        assert!(is_over_memory(&Instance::new(&mut store, &module, &[]).unwrap_err()));
        let memory = instance.get_memory(&mut store, "memory").unwrap();
        assert!(memory.grow(&mut store, 1).is_err());
        store.set_budget(&Budget::new().memory(4 * PAGE + 80)).unwrap();
        assert_eq!(memory.grow(&mut store, 1).unwrap(), 3);
        // Below what there is, it prevents growth only.
        store.set_budget(&Budget::new().memory(1)).unwrap();
        assert_eq!((grow(&mut store, "memory.grow", 1), grow(&mut store, "memory.grow", 0)), (-1, 4));
    });
}

#[test]
fn exceptions_count_with_memory_and_garbage_makes_room() {
    for_each_engine(|engine| {
        let (mut store, instance) = setup(engine, THROWING);
        let limit = TABLE + PAGE;
        store.set_budget(&Budget::new().memory(limit)).unwrap();
        call::<_, _, ()>(&mut store, instance, "drop", 20_000).unwrap();
        assert_eq!(store.budget_reached(), []);
        let error = call::<_, _, ()>(&mut store, instance, "keep", 20_000).unwrap_err();
        assert!(is_over_memory(&error), "{error:?}");
        let used = store.budget_used();
        assert!(used.memory <= limit && used.heap > PAGE / 2, "{used:?}");
        assert_eq!(used.memory, TABLE + used.heap);
        // Room is made for a table too, from what is garbage.
        assert_eq!(call::<_, _, i32>(&mut store, instance, "grow", 4000).unwrap(), -1);
        call::<_, _, ()>(&mut store, instance, "forget", 0).unwrap();
        assert_eq!(call::<_, _, i32>(&mut store, instance, "grow", 4000).unwrap(), 0);
        assert!(store.budget_used().memory <= limit);
    });
}

#[test]
fn host_objects_count_with_memory() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let make = Func::wrap(&mut store, || Some(ExternRef::new(7)));
        let wat = r#"(module (import "" "" (func $make (result externref)))
            (table $t 1000 externref)
            (func (export "keep") (param $n i32)
                (loop $again
                    (local.set $n (i32.sub (local.get $n) (i32.const 1)))
                    (table.set $t (local.get $n) (call $make))
                    (br_if $again (local.get $n))))
            (func (export "drop") (param $n i32)
                (loop $again
                    (drop (call $make))
                    (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
            (func (export "take") (param externref)))"#;
        let instance = instantiate(&mut store, wat, &[make.into()]);
        let limit = 8000 + 256 * 500;
        store.set_budget(&Budget::new().memory(limit)).unwrap();
        call::<_, _, ()>(&mut store, instance, "drop", 10_000).unwrap();
        call::<_, _, ()>(&mut store, instance, "keep", 400).unwrap();
        let error = call::<_, _, ()>(&mut store, instance, "keep", 1000).unwrap_err();
        assert!(is_over_memory(&error), "{error:?}");
        let used = store.budget_used();
        assert!(used.memory <= limit && used.heap > 256 * 400, "{used:?}");
        store.set_budget(&Budget::new().memory(1)).unwrap();
        let error = call::<_, _, ()>(&mut store, instance, "take", Some(ExternRef::new(1))).unwrap_err();
        assert!(is_over_memory(&error), "{error:?}");
    });
}

/// A limiter that notes what it is asked, allows up to a size, or panics beyond it.
struct Noting {
    asked: Vec<(usize, usize, Option<usize>)>,
    most: usize,
    panics: bool,
}

impl ResourceLimiter for Noting {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        self.asked.push((current, desired, maximum));
        assert!(desired <= self.most || !self.panics, "the limiter panics");
        Ok(desired <= self.most)
    }

    fn table_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> Result<bool> {
        Ok(true)
    }
}

#[test]
fn a_limiter_is_asked_for_objects_in_steps() {
    for_each_engine(|engine| {
        for panics in [false, true] {
            let mut store = Store::new(engine, Noting { asked: vec![], most: 2 << 16, panics });
            store.limiter(|noting| noting);
            let instance = instantiate(&mut store, THROWING, &[]);
            let keep = instance.get_typed_func::<i32, ()>(&mut store, "keep").unwrap();
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| keep.call(&mut store, 20_000)));
            match result {
                Ok(result) => {
                    let error = result.unwrap_err();
                    assert!(matches!(error.kind(), ErrorKind::Resource(_)) && !panics, "{error:?}");
                    assert_eq!((error.budget_item(), error.backtrace().len()), (None, 2), "{error:?}");
                }
                Err(panic) => assert!(panics && panic.downcast_ref::<&str>() == Some(&"the limiter panics")),
            }
            let asked = [(0, 1 << 16, None), (1 << 16, 2 << 16, None), (2 << 16, 3 << 16, None)];
            // What it refuses is asked for again after a collection.
            store.data_mut().asked.dedup();
            assert_eq!(store.data().asked, asked);
            assert!(store.budget_used().heap <= 2 << 16);
            // It is still fit for use.
            store.data_mut().panics = false;
            call::<_, _, ()>(&mut store, instance, "forget", 0).unwrap();
            call::<_, _, ()>(&mut store, instance, "drop", 5000).unwrap();
        }
    });
}

#[test]
fn store_limits_hold_for_objects() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, StoreLimitsBuilder::new().memory_size(1 << 16).build());
        store.limiter(|limits| limits);
        let instance = instantiate(&mut store, THROWING, &[]);
        call::<_, _, ()>(&mut store, instance, "drop", 5000).unwrap();
        let error = call::<_, _, ()>(&mut store, instance, "keep", 5000).unwrap_err();
        assert!(error.to_string().contains("beyond the store's limit"), "{error:?}");
        assert!(store.budget_used().heap <= 1 << 16);
    });
}

#[test]
fn stack_ends_recursion_earlier() {
    for_each_engine(|engine| {
        let wat = r#"(module (global $depth (export "depth") (mut i32) (i32.const 0))
            (func $down (export "down")
                (global.set $depth (i32.add (global.get $depth) (i32.const 1))) (call $down) (call $leaf))
            (func $leaf (export "leaf")))"#;
        let (mut store, instance) = setup(engine, wat);
        let depth = |store: &mut Store<()>| {
            let global = instance.get_global(&mut *store, "depth").unwrap();
            global.set(&mut *store, Value::I32(0)).unwrap();
            let error = call::<_, _, ()>(&mut *store, instance, "down", ()).unwrap_err();
            assert_eq!(error.trap(), Some(Trap::StackOverflow));
            let Value::I32(depth) = global.get(&*store) else { panic!("an i32") };
            (depth, error.budget_item())
        };
        let (whole, item) = depth(&mut store);
        assert_eq!(item, None);
        store.set_budget(&Budget::new().stack(64 << 10)).unwrap();
        let (part, item) = depth(&mut store);
        assert_eq!(item, Some(BudgetItem::Stack));
        // Code may be in another tier than before, with other frames.
        assert!(part > 10 && part < whole / 2, "{part} of {whole}");
        assert_eq!(store.budget_reached(), [BudgetItem::Stack]);
        store.set_budget(&Budget::new()).unwrap();
        let (again, item) = depth(&mut store);
        assert!(again > part && item.is_none(), "{again}, {part} before");
        store.set_budget(&Budget::new().stack(usize::MAX)).unwrap();
        assert_eq!(depth(&mut store).1, None);
        store.set_budget(&Budget::new().stack(0)).unwrap();
        let error = call::<_, _, ()>(&mut store, instance, "down", ()).unwrap_err();
        assert_eq!((error.trap(), error.budget_item()), (Some(Trap::StackOverflow), Some(BudgetItem::Stack)));
    });
}

/// Writes of `len` bytes at 64 to a descriptor: the errno, or 1000 and what was written.
const WRITING: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_allocate" (func $allocate (param i32 i64 i64) (result i32)))
    (import "wasi_snapshot_preview1" "fd_filestat_set_size" (func $set_size (param i32 i64) (result i32)))
    (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
    (memory (export "memory") 1) (data (i32.const 32) "file")
    (func (export "write") (param $fd i32) (param $len i32) (result i32) (local $errno i32)
        (i32.store (i32.const 0) (i32.const 64))
        (i32.store (i32.const 4) (local.get $len))
        (local.set $errno (call $write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))
        (if (result i32) (local.get $errno)
            (then (local.get $errno))
            (else (i32.add (i32.const 1000) (i32.load (i32.const 8))))))
    (func (export "open") (result i32) (local $errno i32)
        (local.set $errno (call $open (i32.const 3) (i32.const 0) (i32.const 32) (i32.const 4) (i32.const 1)
            (i64.const 0x1ff_ffff) (i64.const 0) (i32.const 0) (i32.const 12)))
        (if (result i32) (local.get $errno)
            (then (local.get $errno))
            (else (i32.add (i32.const 1000) (i32.load (i32.const 12))))))
    (func (export "allocate") (param $fd i32) (param $to i64) (result i32)
        (call $allocate (local.get $fd) (i64.const 0) (local.get $to)))
    (func (export "set_size") (param $fd i32) (param $to i64) (result i32)
        (call $set_size (local.get $fd) (local.get $to)))
    (func (export "close") (param $fd i32) (result i32) (call $close (local.get $fd))))"#;

const DQUOT: i32 = 19;
const FBIG: i32 = 22;
const MFILE: i32 = 33;

/// A stream that takes seven bytes at a time.
#[derive(Clone, Default)]
struct Sevens(Arc<Mutex<Vec<u8>>>);

impl Write for Sevens {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let part = &bytes[..bytes.len().min(7)];
        self.0.lock().unwrap().extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A program in a store with an environment of its own.
fn writing(engine: &Engine, env: WasiEnv) -> (Store<WasiEnv>, Instance) {
    let mut linker = Linker::new(engine);
    wasi::add_to_linker(&mut linker, |env: &mut WasiEnv| env).unwrap();
    let mut store = Store::new(engine, env);
    let instance = linker.instantiate(&mut store, &Module::new(engine, WRITING).unwrap()).unwrap();
    (store, instance)
}

#[test]
fn output_ends_at_the_byte() {
    for_each_engine(|engine| {
        let sink = Sevens::default();
        let env = WasiEnv::new().with_stdout(sink.clone());
        let (mut store, instance) = writing(engine, env);
        store.set_budget(&Budget::new().output(100)).unwrap();
        let write = |store: &mut Store<WasiEnv>, fd: i32, len: i32| -> i32 {
            call(store, instance, "write", (fd, len)).unwrap()
        };
        assert_eq!(write(&mut store, 1, 5), 1005);
        // What a stream did not take does not count.
        assert_eq!(write(&mut store, 1, 50), 1007);
        assert_eq!(write(&mut store, 2, 80), 1080);
        assert_eq!((write(&mut store, 2, 0), write(&mut store, 7, 1)), (1000, 8));
        assert_eq!(store.budget_reached(), []);
        assert_eq!(write(&mut store, 2, 9), 1008);
        assert_eq!((write(&mut store, 2, 1), write(&mut store, 1, 1)), (DQUOT, DQUOT));
        assert_eq!((store.budget_used().output, store.budget_reached()), (100, vec![BudgetItem::Output]));
        assert_eq!((sink.0.lock().unwrap().len(), store.data().get_stderr().len()), (12, 88));
    });
}

#[test]
fn files_have_limits_of_their_own() {
    for_each_engine(|engine| {
        let directory = tempfile::tempdir().unwrap();
        let env = WasiEnv::new().with_preopen(directory.path(), "/").unwrap();
        let (mut store, instance) = writing(engine, env);
        store.set_budget(&Budget::new().files_written(50).file_size(40).written(60).open_files(5)).unwrap();
        let step = Cell::new(0);
        let size = || directory.path().join("file").metadata().unwrap().len();
        let check = |got: Result<i32>, expected: i32| {
            step.set(step.get() + 1);
            assert_eq!(got.unwrap(), expected, "step {}", step.get());
        };
        check(call(&mut store, instance, "open", ()), 1004);
        check(call(&mut store, instance, "open", ()), MFILE);
        check(call(&mut store, instance, "write", (4, 30)), 1030);
        check(call(&mut store, instance, "write", (4, 30)), 1010);
        check(call(&mut store, instance, "write", (4, 1)), FBIG);
        check(call(&mut store, instance, "allocate", (4, 41_i64)), FBIG);
        check(call(&mut store, instance, "set_size", (4, 41_i64)), FBIG);
        check(call(&mut store, instance, "set_size", (4, 40_i64)), 0);
        assert_eq!(size(), 40);
        // To the start again, by another descriptor.
        check(call(&mut store, instance, "close", 4), 0);
        check(call(&mut store, instance, "open", ()), 1004);
        check(call(&mut store, instance, "allocate", (4, 11_i64)), DQUOT);
        check(call(&mut store, instance, "write", (4, 20)), 1010);
        check(call(&mut store, instance, "write", (4, 1)), DQUOT);
        // Of all that may be written, this is left.
        check(call(&mut store, instance, "write", (1, 11)), 1010);
        check(call(&mut store, instance, "write", (1, 1)), DQUOT);
        use BudgetItem::{FileSize, FilesWritten, OpenFiles, Written};
        assert_eq!(store.budget_reached(), [FilesWritten, Written, FileSize, OpenFiles]);
        let used = store.budget_used();
        assert_eq!((used.files_written, used.output, used.open_files), (50, 10, 5));
    });
}

/// A linker and an environment may be shared, but not what a store has left.
#[test]
fn stores_that_share_an_environment_have_budgets_of_their_own() {
    let engine = Engine::default();
    let env = Arc::new(Mutex::new(WasiEnv::new()));
    let linker = create_wasi_linker(env.clone());
    let module = Module::new(&engine, WRITING).unwrap();
    for _ in 0..2 {
        let mut store = Store::new(&engine, ());
        store.set_budget(&Budget::new().output(10)).unwrap();
        let instance = linker.instantiate(&mut store, &module).unwrap();
        assert_eq!(call::<_, _, i32>(&mut store, instance, "write", (1, 11)).unwrap(), 1010);
        assert_eq!(call::<_, _, i32>(&mut store, instance, "write", (1, 1)).unwrap(), DQUOT);
    }
    assert_eq!(env.lock().unwrap().get_stdout().len(), 20);
}
