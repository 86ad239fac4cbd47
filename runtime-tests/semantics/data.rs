//! Data segments of modules that are instantiated many times: each instance has memories of its own.

use crate::engines::{call, for_each_engine};
use wasmrun::{Global, GlobalType, Instance, Memory, MemoryType, Module, Mutability, Store, Trap, ValType, Value};

/// Long enough that instances share an image of it.
fn long() -> String {
    "long data ".repeat(20_000)
}

#[test]
fn instances_do_not_see_each_others_writes() {
    let text = format!(
        r#"(module (memory (export "memory") 5 9)
            (data (i32.const 5000) "{}") (data $over (i32.const 5005) "over") (data (i32.const 299999) "!")
            (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0)))
            (func (export "store") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))
            (func (export "grow") (result i32) (memory.grow (i32.const 4)))
            (func (export "init") (memory.init $over (i32.const 0) (i32.const 0) (i32.const 1)))
            (func (export "init nothing") (memory.init $over (i32.const 0) (i32.const 0) (i32.const 0))))"#,
        long()
    );
    for_each_engine(|engine| {
        let module = Module::new(engine, &text).unwrap();
        let mut expected = vec![0; 5 << 16];
        expected[5000..205_000].copy_from_slice(long().as_bytes());
        expected[5005..5009].copy_from_slice(b"over");
        expected[299_999] = b'!';
        let mut store = Store::new(engine, ());
        let mut others = Vec::new();
        for n in 0..6 {
            let mut own = Store::new(engine, ());
            // Some in one store, some in stores of their own that go at once.
            let store = if n % 2 == 0 { &mut store } else { &mut own };
            let instance = Instance::new(&mut *store, &module, &[]).unwrap();
            let memory = instance.get_memory(&mut *store, "memory").unwrap();
            assert!(memory.data(&*store) == expected, "instance {n}");
            for address in [0, 4999, 5000, 5005, 100_000, 204_999, 299_999, 327_679] {
                call::<_, _, ()>(store, instance, "store", (address, n + 1)).unwrap();
            }
            let error = call::<_, (), ()>(store, instance, "init", ()).unwrap_err();
            assert_eq!(error.trap(), Some(Trap::MemoryOutOfBounds), "active segments are dropped");
            call::<_, (), ()>(store, instance, "init nothing", ()).unwrap();
            assert_eq!(call::<_, (), i32>(store, instance, "grow", ()).unwrap(), 5);
            assert_eq!(call::<_, i32, i32>(store, instance, "load", 5 << 16).unwrap(), 0);
            call::<_, _, ()>(store, instance, "store", ((9 << 16) - 1, n + 1)).unwrap();
            if n % 2 == 0 {
                others.push((n + 1, instance));
            }
        }
        for (value, instance) in others {
            for address in [0, 4999, 5000, 100_000, 299_999, (9 << 16) - 1] {
                assert_eq!(call::<_, i32, i32>(&mut store, instance, "load", address).unwrap(), value);
            }
            assert_eq!(call::<_, i32, i32>(&mut store, instance, "load", 5001).unwrap(), 'o' as i32);
        }
    });
}

#[test]
fn segments_before_one_that_does_not_fit_stay() {
    let text = format!(
        r#"(module (import "env" "memory" (memory $imported 1)) (memory $own 4)
            (data (memory $imported) (i32.const 0) "first") (data (memory $own) (i32.const 0) "{}")
            (data (memory $imported) (i32.const 65535) "too long") (data (memory $imported) (i32.const 8) "never"))"#,
        long()
    );
    for_each_engine(|engine| {
        let module = Module::new(engine, &text).unwrap();
        for _ in 0..4 {
            let mut store = Store::new(engine, ());
            let memory = Memory::new(&mut store, MemoryType::new(1, None)).unwrap();
            let error = Instance::new(&mut store, &module, &[memory.into()]).unwrap_err();
            assert_eq!(error.trap(), Some(Trap::MemoryOutOfBounds));
            assert_eq!(&memory.data(&store)[..16], b"first\0\0\0\0\0\0\0\0\0\0\0");
        }
    });
}

#[test]
fn imported_memories_get_segments_each_time() {
    let text = format!(
        r#"(module (import "env" "memory" (memory 4)) (import "env" "at" (global $at i32))
            (data (i32.const 16) "{}") (data (global.get $at) "here"))"#,
        long()
    );
    for_each_engine(|engine| {
        let module = Module::new(engine, &text).unwrap();
        let mut store = Store::new(engine, ());
        let memory = Memory::new(&mut store, MemoryType::new(4, None)).unwrap();
        for at in [0, 100, 200_100, 250_000] {
            memory.data_mut(&mut store).fill(7);
            let ty = GlobalType::new(ValType::I32, Mutability::Const);
            let global = Global::new(&mut store, ty, Value::I32(at)).unwrap();
            Instance::new(&mut store, &module, &[memory.into(), global.into()]).unwrap();
            let data = memory.data(&store);
            assert_eq!(&data[at as usize..][..4], b"here");
            assert_eq!(&data[1016..1026], b"long data ");
            assert_eq!(data[200_050], 7);
        }
    });
}
