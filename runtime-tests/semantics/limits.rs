//! Limiters: what a store may grow to, on every engine.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::engines::for_each_engine;
use wasmrun::{
    Caller, Engine, Error, ErrorKind, Instance, Linker, Memory, MemoryType, Module, Ref, RefType, ResourceLimiter,
    Result, Store, StoreLimits, StoreLimitsBuilder, Table, TableType,
};

const GROWING: &str = r#"(module
    (import "host" "enter" (func $enter))
    (memory (export "memory") 1 20)
    (table (export "table") 1 30 funcref)
    (func (export "memory.grow") (param i32) (result i32) (memory.grow (local.get 0)))
    (func (export "table.grow") (param i32) (result i32) (table.grow (ref.null func) (local.get 0)))
    (func (export "nested") (param i32) (result i32) (call $enter) (memory.grow (local.get 0))))"#;

fn store<L: ResourceLimiter + Sync + 'static>(engine: &Engine, limits: L) -> (Store<L>, Instance) {
    let module = Module::new(engine, GROWING).unwrap();
    let mut linker = Linker::new(engine);
    linker
        .func_wrap("host", "enter", |mut caller: Caller<'_, L>| {
            let memory = caller.get_export("memory").unwrap().into_memory().unwrap();
            memory.grow(&mut caller, 1).map(|_| ())
        })
        .unwrap();
    let mut store = Store::new(engine, limits);
    store.limiter(|limits| limits);
    let instance = linker.instantiate(&mut store, &module).unwrap();
    (store, instance)
}

fn grow<L>(store: &mut Store<L>, instance: Instance, what: &str, delta: i32) -> Result<i32> {
    let grow = instance.get_typed_func::<i32, i32>(&mut *store, what).unwrap();
    grow.call(store, delta)
}

#[test]
fn no_byte_more_than_the_limit() {
    for_each_engine(|engine| {
        let limits = StoreLimitsBuilder::new().memory_size(5 << 16).table_elements(10).build();
        let (mut store, instance) = store(engine, limits);
        for (what, most) in [("memory.grow", 5), ("table.grow", 10)] {
            assert_eq!(grow(&mut store, instance, what, most).unwrap(), -1);
            assert_eq!(grow(&mut store, instance, what, i32::MAX).unwrap(), -1);
            assert_eq!(grow(&mut store, instance, what, -1).unwrap(), -1);
            assert_eq!(grow(&mut store, instance, what, most - 1).unwrap(), 1);
            assert_eq!(grow(&mut store, instance, what, 0).unwrap(), most);
            assert_eq!(grow(&mut store, instance, what, 1).unwrap(), -1);
        }
        let memory = instance.get_memory(&mut store, "memory").unwrap();
        assert!(matches!(memory.grow(&mut store, 1).unwrap_err().kind(), ErrorKind::Resource(_)));
        let table = instance.get_table(&mut store, "table").unwrap();
        assert!(table.grow(&mut store, 1, Ref::Func(None)).is_err());
        assert_eq!((memory.size(&store), table.size(&store)), (5, 10));
    });
}

#[test]
fn growth_that_fails_may_be_a_trap() {
    for_each_engine(|engine| {
        let limits =
            StoreLimitsBuilder::new().memory_size(5 << 16).table_elements(10).trap_on_grow_failure(true).build();
        let (mut store, instance) = store(engine, limits);
        for (what, delta) in [("memory.grow", 5), ("table.grow", 10), ("memory.grow", -1), ("table.grow", -1)] {
            let error = grow(&mut store, instance, what, delta).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Resource(_)), "{error:?}");
            assert_eq!(error.backtrace().len(), 1, "{error:?}");
        }
        assert_eq!(grow(&mut store, instance, "memory.grow", 4).unwrap(), 1);
        // The host's own growth, in a host function that the guest has called, ends the guest.
        let error = grow(&mut store, instance, "nested", 0).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Resource(_)), "{error:?}");
    });
}

#[test]
fn what_is_made_counts_too() {
    let engine = Engine::default();
    let with = |limits: StoreLimits| {
        let mut store = Store::new(&engine, limits);
        store.limiter(|limits| limits);
        store
    };
    let module = |text: &str| Module::new(&engine, text).unwrap();
    let refused = |result: Result<Instance>| matches!(result.unwrap_err().kind(), ErrorKind::Resource(_));
    let new = StoreLimitsBuilder::new;

    let mut store = with(new().instances(1).build());
    Instance::new(&mut store, &module("(module)"), &[]).unwrap();
    assert!(refused(Instance::new(&mut store, &module("(module)"), &[])));

    let mut store = with(new().memories(1).memory_size(2 << 16).build());
    assert!(refused(Instance::new(&mut store, &module("(module (memory 3))"), &[])));
    assert!(Memory::new(&mut store, MemoryType::new(3, None)).is_err());
    Memory::new(&mut store, MemoryType::new(2, None)).unwrap();
    assert!(Memory::new(&mut store, MemoryType::new(0, None)).is_err());
    assert!(refused(Instance::new(&mut store, &module("(module (memory 0))"), &[])));

    let mut store = with(new().tables(1).table_elements(2).build());
    let table = |minimum| TableType::new(RefType::FUNCREF, minimum, None);
    assert!(refused(Instance::new(&mut store, &module("(module (table 3 funcref))"), &[])));
    assert!(Table::new(&mut store, table(3), Ref::Func(None)).is_err());
    Table::new(&mut store, table(2), Ref::Func(None)).unwrap();
    assert!(Table::new(&mut store, table(0), Ref::Func(None)).is_err());
}

/// A limiter that notes what it is asked.
#[derive(Default)]
struct Noting {
    asked: Vec<(usize, usize, Option<usize>)>,
    failed: usize,
    panics: bool,
}

impl ResourceLimiter for Noting {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        assert!(!self.panics, "the limiter panics");
        self.asked.push((current, desired, maximum));
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _: Error) -> Result<()> {
        self.failed += 1;
        Ok(())
    }

    fn table_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> Result<bool> {
        Err(Error::host("no tables"))
    }
}

#[test]
fn a_limiter_is_asked_in_bytes_before_and_told_of_failure_after() {
    for_each_engine(|engine| {
        let module = Module::new(
            engine,
            r#"(module (memory 1 3)
            (func (export "memory.grow") (param i32) (result i32) (memory.grow (local.get 0))))"#,
        )
        .unwrap();
        let mut store = Store::new(engine, Noting::default());
        store.limiter(|noting| noting);
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        assert_eq!(grow(&mut store, instance, "memory.grow", 1).unwrap(), 1);
        assert_eq!(grow(&mut store, instance, "memory.grow", 2).unwrap(), -1);
        let most = Some(3 << 16);
        assert_eq!(store.data().asked, [(0, 1 << 16, most), (1 << 16, 2 << 16, most)]);
        assert_eq!(store.data().failed, 1);
        // What it returns for a table is the error.
        let table = Module::new(engine, "(module (table 1 funcref))").unwrap();
        let error = Instance::new(&mut store, &table, &[]).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Host(_)), "{error:?}");
    });
}

#[test]
fn a_panic_of_a_limiter_resumes_in_the_caller() {
    for_each_engine(|engine| {
        let module = Module::new(
            engine,
            r#"(module (memory 1)
            (func (export "memory.grow") (param i32) (result i32) (memory.grow (local.get 0))))"#,
        )
        .unwrap();
        let mut store = Store::new(engine, Noting::default());
        store.limiter(|noting| noting);
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        store.data_mut().panics = true;
        let caught = catch_unwind(AssertUnwindSafe(|| grow(&mut store, instance, "memory.grow", 1)));
        assert_eq!(caught.unwrap_err().downcast_ref::<&str>(), Some(&"the limiter panics"));
        store.data_mut().panics = false;
        assert_eq!(grow(&mut store, instance, "memory.grow", 1).unwrap(), 1);
    });
}
