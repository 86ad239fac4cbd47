//! What keeps what alive: stores, modules, engines, host objects, many instances.

use crate::engines::{call, configs, for_each_engine, instantiate, setup};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use wasmrun::{
    Engine, ExternRef, Func, FuncType, Instance, Linker, Module, Ref, RefType, Store, Table, TableType, Trap, ValType,
    Value,
};

#[test]
fn host_objects_live_as_long_as_the_store_may_use_them() {
    for_each_engine(|engine| {
        let object = Arc::new(5u32);
        let mut store = Store::new(engine, ());
        let instance = instantiate(
            &mut store,
            r#"(module (table $t 10 externref) (global $g (export "g") (mut externref) (ref.null extern))
                (func (export "keep") (param i32 externref)
                    (table.set (local.get 0) (local.get 1)) (global.set $g (local.get 1)))
                (func (export "give") (param i32) (result externref) (table.get (local.get 0)))
                (func (export "same") (param externref) (result externref) (local.get 0)))"#,
            &[],
        );
        let sent = ExternRef::new(object.clone());
        call::<_, (i32, Option<ExternRef>), ()>(&mut store, instance, "keep", (3, Some(sent.clone()))).unwrap();
        drop(sent);
        assert_eq!(Arc::strong_count(&object), 2);
        let got = call::<_, i32, Option<ExternRef>>(&mut store, instance, "give", 3).unwrap().unwrap();
        assert!(Arc::ptr_eq(got.data().downcast_ref::<Arc<u32>>().unwrap(), &object));
        assert!(call::<_, i32, Option<ExternRef>>(&mut store, instance, "give", 4).unwrap().is_none());
        for n in 0..100 {
            let other = ExternRef::new(n);
            let back =
                call::<_, Option<ExternRef>, Option<ExternRef>>(&mut store, instance, "same", Some(other.clone()));
            assert!(back.unwrap().unwrap().same(&other));
        }
        let Value::ExternRef(Some(in_global)) = instance.get_global(&mut store, "g").unwrap().get(&store) else {
            panic!("the object is in the global")
        };
        assert!(in_global.same(&got));
        drop((store, in_global));
        assert!(Arc::ptr_eq(got.data().downcast_ref::<Arc<u32>>().unwrap(), &object), "a reference outlives the store");
        drop(got);
        assert_eq!(Arc::strong_count(&object), 1);
    });
}

#[test]
fn a_store_drops_what_it_owns() {
    for_each_engine(|engine| {
        let marker = Arc::new(());
        let mut store = Store::new(engine, marker.clone());
        let in_closure = marker.clone();
        let func = Func::wrap(&mut store, move || Arc::strong_count(&in_closure) as i32);
        let instance = instantiate(
            &mut store,
            r#"(module (import "" "f" (func (result i32))) (export "f" (func 0)))"#,
            &[func.into()],
        );
        assert_eq!(call::<_, (), i32>(&mut store, instance, "f", ()).unwrap(), 3);
        drop(store);
        assert_eq!(Arc::strong_count(&marker), 1);

        let in_linker = marker.clone();
        let mut linker = Linker::<()>::new(engine);
        linker.func_wrap("", "f", move || Arc::strong_count(&in_linker) as i32).unwrap();
        let module =
            Module::new(engine, r#"(module (import "" "f" (func (result i32))) (export "f" (func 0)))"#).unwrap();
        let mut store = Store::new(engine, ());
        let instance = linker.instantiate(&mut store, &module).unwrap();
        drop(linker);
        assert_eq!(call::<_, (), i32>(&mut store, instance, "f", ()).unwrap(), 2, "the store keeps it");
        drop(store);
        assert_eq!(Arc::strong_count(&marker), 1);
    });
}

#[test]
fn instances_outlive_module_and_engine_handles() {
    for config in configs() {
        let engine = Engine::new(&config).unwrap();
        let wat = r#"(module (func (export "f") (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
            (func (export "g") (result i32) (i32.const 2)))"#;
        let module = Module::new(&engine, wat).unwrap();
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let f = instance.get_typed_func::<i32, i32>(&mut store, "f").unwrap();
        assert_eq!(f.call(&mut store, 1).unwrap(), 2);
        drop((module, engine));
        assert_eq!(f.call(&mut store, 2).unwrap(), 3);
        assert_eq!(
            call::<_, (), i32>(&mut store, instance, "g", ()).unwrap(),
            2,
            "compiled after the handles are gone"
        );
    }
}

#[test]
fn handles_of_a_dropped_store_do_no_harm() {
    for_each_engine(|engine| {
        let (mut store, instance) = setup(engine, r#"(module (memory (export "m") 1) (func (export "f")))"#);
        let f = instance.get_typed_func::<(), ()>(&mut store, "f").unwrap();
        let memory = instance.get_memory(&mut store, "m").unwrap();
        drop(store);
        let (mut other, _) = setup(engine, r#"(module (memory (export "m") 1) (func (export "f")))"#);
        assert!(catch_unwind(AssertUnwindSafe(|| f.call(&mut other, ()))).is_err());
        assert!(catch_unwind(AssertUnwindSafe(|| memory.data(&other).len())).is_err());
        // A table that is handed a function of a store that is gone.
        let table_type = TableType::new(RefType::FUNCREF, 1, None);
        let table = Table::new(&mut other, table_type, Ref::Func(None)).unwrap();
        let foreign = Ref::Func(Some(f.func()));
        let result = catch_unwind(AssertUnwindSafe(|| table.set(&mut other, 0, foreign)));
        assert!(!matches!(result, Ok(Ok(()))));
    });
}

#[test]
fn thousands_of_instances() {
    const WAT: &str = r#"(module (memory 1) (global $g (mut i32) (i32.const 0)) (table 4 funcref) (elem (i32.const 0) $f)
        (type $t (func (param i32) (result i32)))
        (func $f (param i32) (result i32)
            (global.set $g (i32.add (global.get $g) (local.get 0)))
            (i32.store (i32.const 65532) (global.get $g)) (i32.load (i32.const 65532)))
        (func (export "f") (param i32) (result i32) (call_indirect (type $t) (local.get 0) (i32.const 0))))"#;
    for_each_engine(|engine| {
        let module = Module::new(engine, WAT).unwrap();
        let mut store = Store::new(engine, ());
        let instances: Vec<_> = (0..1500).map(|_| Instance::new(&mut store, &module, &[]).unwrap()).collect();
        for (n, instance) in instances.iter().enumerate() {
            assert_eq!(call::<_, i32, i32>(&mut store, *instance, "f", n as i32).unwrap(), n as i32);
        }
        for (n, instance) in instances.iter().enumerate().rev() {
            assert_eq!(call::<_, i32, i32>(&mut store, *instance, "f", 1).unwrap(), n as i32 + 1);
        }
        drop(store);
        // One after the other, in stores of their own: what a store took is given back.
        for n in 0..3000 {
            let mut store = Store::new(engine, ());
            let instance = Instance::new(&mut store, &module, &[]).unwrap();
            assert_eq!(call::<_, i32, i32>(&mut store, instance, "f", n).unwrap(), n);
        }
    });
}

#[test]
fn thousands_of_modules_and_engines() {
    for_each_engine(|engine| {
        for n in 0..300 {
            let (mut store, instance) =
                setup(engine, &format!(r#"(module (func (export "f") (result i64) (i64.const {n})))"#));
            assert_eq!(call::<_, (), i64>(&mut store, instance, "f", ()).unwrap(), n);
        }
    });
    for config in configs() {
        for n in 0..100 {
            let engine = Engine::new(&config).unwrap();
            let (mut store, instance) =
                setup(&engine, &format!(r#"(module (func (export "f") (result i64) (i64.const {n})))"#));
            assert_eq!(call::<_, (), i64>(&mut store, instance, "f", ()).unwrap(), n);
        }
    }
}

#[test]
fn many_host_functions_and_types() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        for n in 0..500usize {
            let params: Vec<_> =
                (0..n % 50).map(|i| if (n >> (i % 9)) & 1 == 1 { ValType::I64 } else { ValType::F32 }).collect();
            let func = Func::new(
                &mut store,
                FuncType::new(engine, params.clone(), [ValType::I32]),
                move |_, args, results| {
                    results[0] = Value::I32((n * 1000 + args.len()) as i32);
                    Ok(())
                },
            );
            let args: Vec<_> = params.iter().map(Value::default_for).collect();
            let mut results = [Value::I32(0)];
            func.call(&mut store, &args, &mut results).unwrap();
            assert!(matches!(results[0], Value::I32(v) if v as usize == n * 1000 + n % 50));
        }
    });
}

/// As the specification has it, what an instance put elsewhere before its instantiation failed stays, and works.
#[test]
fn an_instance_that_failed_half_way_lives_on_in_tables() {
    let fails = |how: &str| {
        format!(
            r#"(module
                (import "" "table" (table $table 10 funcref)) (import "" "memory" (memory $shared 1))
                (global $g (mut i64) (i64.const 7)) (table $own 3 funcref)
                (type $t (func (param i64) (result i64)))
                (func $add (type $t) (i64.add (local.get 0) (i64.const 1)))
                (func $f (type $t)
                    (global.set $g (i64.add (global.get $g) (i64.const 1)))
                    (i64.add (call_indirect $own (type $t) (local.get 0) (i32.const 2))
                        (i64.add (global.get $g) (i64.load (i32.const 8)))))
                (elem (table $own) (i32.const 2) func $add)
                (elem (table $table) (i32.const 3) func $f $f)
                (data (i32.const 8) "\05")
                (func $start unreachable)
                {how})"#
        )
    };
    const CALLS: &str = r#"(module
        (table (export "table") 10 funcref) (memory (export "memory") 1)
        (type $t (func (param i64) (result i64)))
        (func (export "call") (param i32 i64) (result i64)
            (call_indirect (type $t) (local.get 1) (local.get 0))))"#;
    for_each_engine(|engine| {
        for how in
            ["(start $start)", r#"(data (i32.const 65535) "ab")"#, "(elem (table $table) (i32.const 9) func $f $f)"]
        {
            let mut store = Store::new(engine, ());
            let calls = instantiate(&mut store, CALLS, &[]);
            let table = calls.get_table(&mut store, "table").unwrap();
            let memory = calls.get_memory(&mut store, "memory").unwrap();
            let module = Module::new(engine, fails(how)).unwrap();
            Instance::new(&mut store, &module, &[table.into(), memory.into()]).unwrap_err();
            drop(module);
            memory.write(&mut store, 8, &[5]).unwrap();
            // Others take the place of what would have been freed.
            for n in 0..20 {
                let wat = format!(
                    r#"(module (global (mut i64) (i64.const {n})) (global (mut i64) (i64.const 3)) (table {n} funcref)
                        (func (export "f") (result i64) (i64.const {n})))"#
                );
                let other = instantiate(&mut store, &wat, &[]);
                assert_eq!(call::<_, (), i64>(&mut store, other, "f", ()).unwrap(), n);
            }
            for n in 0..5 {
                let got = call::<_, (i32, i64), i64>(&mut store, calls, "call", (3 + n % 2, 100)).unwrap();
                assert_eq!(got, 100 + 1 + 8 + i64::from(n) + 5, "{how}");
            }
        }
    });
}

/// A memory that was made of a file with a module's data is not used for another module.
#[test]
fn no_data_of_a_module_is_in_the_memory_of_the_next() {
    // More than what is copied instead.
    let data = "x".repeat(200 << 10);
    let with_data = format!(r#"(module (memory (export "memory") 8) (data (i32.const 65536) "{data}"))"#);
    for_each_engine(|engine| {
        let module = Module::new(engine, &with_data).unwrap();
        for _ in 0..5 {
            let mut store = Store::new(engine, ());
            let instance = Instance::new(&mut store, &module, &[]).unwrap();
            let memory = instance.get_memory(&mut store, "memory").unwrap();
            assert!(memory.data(&store)[65536..][..200 << 10].iter().all(|byte| *byte == b'x'));
            memory.data_mut(&mut store).fill(b'y');
            drop(store);
            for _ in 0..2 {
                let (mut store, instance) = setup(engine, r#"(module (memory (export "memory") 8))"#);
                let memory = instance.get_memory(&mut store, "memory").unwrap();
                assert!(memory.data(&store).iter().all(|byte| *byte == 0), "it is new");
            }
        }
    });
}

/// What a memory could access is not left accessible behind a smaller one in its place.
#[test]
fn a_memory_in_the_place_of_a_larger_one_ends_where_it_ends() {
    for_each_engine(|engine| {
        for (large, small) in [(10, 1), (2, 1), (100, 3)] {
            drop(setup(engine, &format!("(module (memory {large}))")));
            let wat = format!(
                r#"(module (memory {small})
                    (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
                    (func (export "store") (param i32) (i32.store (local.get 0) (i32.const 1))))"#
            );
            let (mut store, instance) = setup(engine, &wat);
            let end = small << 16;
            assert_eq!(call::<_, i32, i32>(&mut store, instance, "load", end - 4).unwrap(), 0);
            for at in [end - 3, end, end + 5000, (large << 16) - 4] {
                let error = call::<_, i32, i32>(&mut store, instance, "load", at).unwrap_err();
                assert_eq!(error.trap(), Some(Trap::MemoryOutOfBounds), "{at}");
                let error = call::<_, i32, ()>(&mut store, instance, "store", at).unwrap_err();
                assert_eq!(error.trap(), Some(Trap::MemoryOutOfBounds), "{at}");
            }
        }
    });
}

/// Tenants of several modules, some of whom stay while others come, each in a store of its own: each finds its memory, table and
/// globals as its module says, as if nobody had been there, and fills all that it can reach, after growing it too.
#[test]
fn tenants_find_nothing_of_those_before() {
    const FUNCTIONS: &str = r#"(global (export "g") (mut i64) (i64.const 7)) (global (export "x") (mut externref) (ref.null extern))
        (table (export "t") 3 100 externref)
        (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
        (func (export "grow table") (param i32) (result i32) (table.grow (ref.null extern) (local.get 0)))
        ;; The number of bytes from the first address to the end of the memory that are not zero.
        (func (export "other than zero") (param $at i32) (result i32) (local $n i32)
            (loop $next
                (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then
                    (local.set $n (i32.add (local.get $n) (i32.const 1)))))
                (local.set $at (i32.add (local.get $at) (i32.const 8)))
                (br_if $next (i32.lt_u (local.get $at) (i32.mul (memory.size) (i32.const 65536)))))
            (local.get $n))
        (func (export "fill") (param $with i32)
            (memory.fill (i32.const 0) (local.get $with) (i32.mul (memory.size) (i32.const 65536))))"#;
    let image = "z".repeat(150_000);
    let texts = [
        format!(r#"(module (memory (export "m") 1) {FUNCTIONS})"#),
        format!(r#"(module (memory (export "m") 1 5) (data (i32.const 65000) "few") {FUNCTIONS})"#),
        format!(r#"(module (memory (export "m") 3) {FUNCTIONS})"#),
        format!(r#"(module (memory (export "m") 3) (data (i32.const 100) "{image}") {FUNCTIONS})"#),
        format!(r#"(module (memory (export "m") 3) (data (i32.const 5000) "{image}") {FUNCTIONS})"#),
        format!(r#"(module (memory (export "m") 17 40) {FUNCTIONS})"#),
    ];
    let data = [(0, ""), (65_000, "few"), (0, ""), (100, &image[..]), (5000, &image), (0, "")];
    for_each_engine(|engine| {
        let modules = texts.each_ref().map(|text| Module::new(engine, text).unwrap());
        let mut tenants = Vec::new();
        let mut random = 12345u32;
        for n in 0..60 {
            random = random.wrapping_mul(1_103_515_245).wrapping_add(12345);
            let [which, growth, leaving, _] = (random >> 4).to_le_bytes().map(usize::from);
            let which = which % modules.len();
            let mut store = Store::new(engine, ());
            let instance = Instance::new(&mut store, &modules[which], &[]).unwrap();
            let memory = instance.get_memory(&mut store, "m").unwrap();
            let (at, text) = data[which];
            let mut expected = vec![0; memory.data(&store).len()];
            expected[at..at + text.len()].copy_from_slice(text.as_bytes());
            assert!(memory.data(&store) == expected, "tenant {n} of module {which}");
            let table = instance.get_table(&mut store, "t").unwrap();
            let global = instance.get_global(&mut store, "g").unwrap();
            let object = instance.get_global(&mut store, "x").unwrap();
            assert!(matches!(object.get(&store), Value::ExternRef(None)));
            assert!(matches!(global.get(&store), Value::I64(7)));
            // Growth of two kinds: within a slot, and out of it.
            let end = expected.len() as i32;
            let grown = call::<_, i32, i32>(&mut store, instance, "grow", (growth % 30) as i32).unwrap();
            assert!(grown == -1 || grown == end >> 16);
            if memory.data(&store).len() > expected.len() {
                assert_eq!(call::<_, i32, i32>(&mut store, instance, "other than zero", end).unwrap(), 0, "tenant {n}");
            }
            assert!(memory.data(&store)[..expected.len()] == expected, "tenant {n} has grown");
            assert_eq!(call::<_, i32, i32>(&mut store, instance, "grow table", 50).unwrap(), 3);
            for index in 0..53 {
                assert!(matches!(table.get(&store, index), Some(Ref::Extern(None))), "tenant {n}");
                table.set(&mut store, index, Ref::Extern(Some(ExternRef::new(n)))).unwrap();
            }
            call::<_, i32, ()>(&mut store, instance, "fill", n + 1).unwrap();
            global.set(&mut store, Value::I64(-1)).unwrap();
            object.set(&mut store, Value::ExternRef(Some(ExternRef::new(n)))).unwrap();
            tenants.push((n, memory, store));
            if tenants.len() > 5 {
                let (n, memory, store) = tenants.swap_remove(leaving % 6);
                assert!(memory.data(&store).iter().all(|byte| i32::from(*byte) == n + 1), "tenant {n} is alone");
            }
        }
    });
}

/// An instance that fails before its data comes may live on in a table: it must not see the data, although its memory may be in a
/// space that has the module's image already.
#[test]
fn a_failed_instance_has_no_data_that_did_not_come() {
    let wat = format!(
        r#"(module (import "" "t" (table $t 1 funcref)) (memory 3) (data (i32.const 16) "{}")
            (func $load (result i32) (i32.load (i32.const 5000)))
            (elem (table $t) (i32.const 0) func $load) (elem (table $t) (i32.const 5) func $load))"#,
        "x".repeat(150_000)
    );
    for_each_engine(|engine| {
        let module = Module::new(engine, &wat).unwrap();
        for n in 0..6 {
            for size in [6, 1] {
                let mut store = Store::new(engine, ());
                let ty = TableType::new(RefType::FUNCREF, size, None);
                let table = Table::new(&mut store, ty, Ref::Func(None)).unwrap();
                let result = Instance::new(&mut store, &module, &[table.into()]);
                assert_eq!(result.is_ok(), size == 6);
                let Some(Ref::Func(Some(load))) = table.get(&store, 0) else { panic!("the first segment has come") };
                let load = load.typed::<(), i32>(&store).unwrap();
                let expected = if size == 6 { i32::from_le_bytes(*b"xxxx") } else { 0 };
                assert_eq!(load.call(&mut store, ()).unwrap(), expected, "{n} with a table of {size}");
            }
        }
    });
}

/// Code that is compiled for guard pages may run in an instance that a host function makes meanwhile.
#[test]
fn the_memory_of_an_instance_that_a_host_function_makes_ends_where_it_ends() {
    let later = r#"(module (memory 1) (func (export "load") (param i32) (result i32) (i32.load (local.get 0))))"#;
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let module = Module::new(engine, later).unwrap();
        let ty = TableType::new(RefType::FUNCREF, 1, None);
        let table = Table::new(&mut store, ty, Ref::Func(None)).unwrap();
        let make = Func::wrap(&mut store, move |mut caller: wasmrun::Caller<'_, ()>| {
            let instance = Instance::new(&mut caller, &module, &[]).unwrap();
            let load = instance.get_func(&mut caller, "load").unwrap();
            table.set(&mut caller, 0, Ref::Func(Some(load))).unwrap();
        });
        let first = instantiate(
            &mut store,
            r#"(module (import "" "make" (func $make)) (import "" "t" (table 1 funcref)) (memory 1)
                (type $load (func (param i32) (result i32)))
                (func (export "run") (param i32) (result i32)
                    (call $make) (i32.store (i32.const 8) (i32.const -1))
                    (call_indirect (type $load) (local.get 0) (i32.const 0))))"#,
            &[make.into(), table.into()],
        );
        for _ in 0..2 {
            for address in [0, 8, 65532] {
                assert_eq!(call::<_, i32, i32>(&mut store, first, "run", address).unwrap(), 0);
            }
            for address in [65533, 65536, 65544, 1 << 20, -4] {
                let error = call::<_, i32, i32>(&mut store, first, "run", address).unwrap_err();
                assert_eq!(error.trap(), Some(Trap::MemoryOutOfBounds), "{address}");
            }
        }
    });
}
