//! Imports and exports of all kinds, shared between instances and with the host.

use crate::engines::{call, for_each_engine, instantiate, setup, steady_configs};
use wasmrun::{
    Caller, Engine, ErrorKind, Extern, ExternType, Func, Global, GlobalType, Instance, Linker, Memory, MemoryType,
    Module, Mutability, Ref, RefType, Store, StoreLimitsBuilder, Table, TableType, Trap, ValType, Value,
};

const PROVIDER: &str = r#"(module
    (memory (export "memory") 1 4)
    (table (export "table") 4 8 funcref)
    (global $counter (export "counter") (mut i64) (i64.const 5))
    (global (export "constant") f64 (f64.const 2.5))
    (type $get (func (result i32)))
    (func $peek (export "peek") (param i32) (result i32) (i32.load (local.get 0)))
    (func (export "poke") (param i32 i32) (i32.store (local.get 0) (local.get 1)))
    (func (export "count") (result i64)
        (global.set $counter (i64.add (global.get $counter) (i64.const 1))) (global.get $counter))
    (func (export "call slot") (param i32) (result i32) (call_indirect (type $get) (local.get 0)))
    (func (export "pages") (result i32) (memory.size))
    (func (export "slots") (result i32) (table.size)))"#;

const CONSUMER: &str = r#"(module
    (import "p" "memory" (memory 1 4))
    (import "p" "table" (table 4 8 funcref))
    (import "p" "counter" (global $counter (mut i64)))
    (import "p" "constant" (global $constant f64))
    (import "p" "peek" (func $peek (param i32) (result i32)))
    (memory $own 1)
    (global $half f64 (global.get $constant))
    (elem (i32.const 1) $own_answer)
    (data (i32.const 100) "\2a\00\00\00")
    (func $own_answer (result i32) (i32.store $own (i32.const 0) (i32.const 77)) (i32.load $own (i32.const 0)))
    (func (export "through peek") (param i32) (result i32) (call $peek (local.get 0)))
    (func (export "add") (param i64) (global.set $counter (i64.add (global.get $counter) (local.get 0))))
    (func (export "constant") (result f64) (f64.add (global.get $half) (global.get $constant)))
    (func (export "grow") (result i32 i32)
        (memory.grow (i32.const 1)) (table.grow (ref.null func) (i32.const 2)))
    (func (export "touch") (i32.store (i32.const 65536) (i32.const 9)))
    (export "memory again" (memory 0)))"#;

#[test]
fn instances_share_what_they_import() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let provider = instantiate(&mut store, PROVIDER, &[]);
        let mut linker = Linker::new(engine);
        linker.instance(&mut store, "p", provider).unwrap();
        let consumer = linker.instantiate(&mut store, &Module::new(engine, CONSUMER).unwrap()).unwrap();

        // The consumer's segments were written to the provider's memory and table.
        assert_eq!(call::<_, i32, i32>(&mut store, provider, "peek", 100).unwrap(), 42);
        assert_eq!(call::<_, i32, i32>(&mut store, provider, "call slot", 1).unwrap(), 77);
        call::<_, (i32, i32), ()>(&mut store, provider, "poke", (200, 33)).unwrap();
        assert_eq!(call::<_, i32, i32>(&mut store, consumer, "through peek", 200).unwrap(), 33);
        assert_eq!(call::<_, i32, i32>(&mut store, provider, "peek", 0).unwrap(), 0);

        call::<_, i64, ()>(&mut store, consumer, "add", 10).unwrap();
        assert_eq!(call::<_, (), i64>(&mut store, provider, "count", ()).unwrap(), 16);
        let counter = provider.get_global(&mut store, "counter").unwrap();
        counter.set(&mut store, Value::I64(100)).unwrap();
        assert_eq!(call::<_, (), i64>(&mut store, provider, "count", ()).unwrap(), 101);
        assert_eq!(call::<_, (), f64>(&mut store, consumer, "constant", ()).unwrap(), 5.0);

        // Growth by one is seen by all.
        assert_eq!(call::<_, (), (i32, i32)>(&mut store, consumer, "grow", ()).unwrap(), (1, 4));
        assert_eq!(call::<_, (), i32>(&mut store, provider, "pages", ()).unwrap(), 2);
        assert_eq!(call::<_, (), i32>(&mut store, provider, "slots", ()).unwrap(), 6);
        call::<_, (), ()>(&mut store, consumer, "touch", ()).unwrap();
        assert_eq!(call::<_, i32, i32>(&mut store, provider, "peek", 65536).unwrap(), 9);
        let memory = consumer.get_memory(&mut store, "memory again").unwrap();
        assert_eq!((memory.size(&store), memory.data(&store)[65536]), (2, 9));
        let table = provider.get_table(&mut store, "table").unwrap();
        assert_eq!(table.size(&store), 6);
        assert!(matches!(table.get(&store, 5), Some(Ref::Func(None))));
        assert!(table.get(&store, 6).is_none());
    });
}

#[test]
fn objects_of_the_host_are_imported() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let memory = Memory::new(&mut store, MemoryType::new(1, Some(3))).unwrap();
        let global = Global::new(&mut store, GlobalType::new(ValType::V128, Mutability::Var), Value::V128(7)).unwrap();
        let table_type = TableType::new(RefType::FUNCREF, 2, None);
        let table = Table::new(&mut store, table_type.clone(), Ref::Func(None)).unwrap();
        let func = Func::wrap(&mut store, || 3i32);
        let instance = instantiate(
            &mut store,
            r#"(module
                (import "" "m" (memory 1)) (import "" "g" (global (mut v128)))
                (import "" "t" (table 1 funcref)) (import "" "f" (func (result i32))) (elem declare func 0)
                (func (export "run") (result i32)
                    (i32.store8 (i32.const 65535) (i32.const 255))
                    (global.set 0 (i64x2.add (global.get 0) (v128.const i64x2 1 1)))
                    (table.set (i32.const 1) (ref.func 0))
                    (call_indirect (result i32) (i32.const 1))))"#,
            &[memory.into(), global.into(), table.into(), func.into()],
        );
        assert_eq!(call::<_, (), i32>(&mut store, instance, "run", ()).unwrap(), 3);
        let mut byte = [0];
        memory.read(&store, 65535, &mut byte).unwrap();
        assert_eq!(byte, [255]);
        assert!(memory.read(&store, 65536, &mut byte).is_err());
        assert!(matches!(global.get(&store), Value::V128(v) if v == (1 << 64 | 8)));
        assert!(matches!(table.get(&store, 1), Some(Ref::Func(Some(_)))));
        assert_eq!(memory.grow(&mut store, 2).unwrap(), 1);
        assert!(memory.grow(&mut store, 1).is_err());
        assert!(global.set(&mut store, Value::I32(0)).is_err());
        assert!(table.set(&mut store, 2, Ref::Func(None)).is_err());
        assert!(table.set(&mut store, 0, Ref::Extern(None)).is_err());
        assert_eq!(table.ty(&store), table_type);
    });
}

#[test]
fn exports_come_in_order_with_their_types() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let instance = instantiate(&mut store, PROVIDER, &[]);
        let exports: Vec<_> =
            instance.exports(&mut store).map(|export| (export.name().to_string(), export.into_extern())).collect();
        let names: Vec<_> = exports.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names[..5], ["memory", "table", "counter", "constant", "peek"]);
        let ty = exports[1].1.ty(&store);
        assert_eq!(ty, ExternType::Table(TableType::new(RefType::FUNCREF, 4, Some(8))));
        let module = Module::new(engine, PROVIDER).unwrap();
        let of_module: Vec<_> = module.exports().map(|e| e.name().to_string()).collect();
        assert_eq!(of_module, names);
        let constant = exports[3].1.clone().into_global().unwrap();
        assert!(constant.set(&mut store, Value::F64(1.0)).is_err());
    });
}

#[test]
fn imports_that_are_missing_are_all_listed() {
    for_each_engine(|engine| {
        let module = Module::new(
            engine,
            r#"(module (import "env" "present" (func)) (import "env" "puts" (func (param i32) (result i32)))
                (import "other" "memory" (memory 1 2)) (import "other" "base" (global i32)))"#,
        )
        .unwrap();
        let mut linker = Linker::<()>::new(engine);
        linker.func_wrap("env", "present", || {}).unwrap();
        let error = linker.instantiate(&mut Store::new(engine, ()), &module).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Link(_)));
        let message = error.to_string();
        for part in ["env", "puts", "(param i32) (result i32)", "memory", "(memory 1 2)", "base", "i32"] {
            assert!(message.contains(part), "{part}: {message}");
        }
        assert!(!message.contains("present"), "{message}");
    });
}

#[test]
fn imports_that_do_not_fit_are_refused() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let provider = instantiate(&mut store, PROVIDER, &[]);
        let mut linker = Linker::new(engine);
        linker.instance(&mut store, "p", provider).unwrap();
        for import in [
            r#""p" "peek" (func)"#,
            r#""p" "peek" (func (param i32) (result i64))"#,
            r#""p" "peek" (global i32)"#,
            r#""p" "memory" (memory 2)"#,
            r#""p" "memory" (memory 1 3)"#,
            r#""p" "table" (table 5 funcref)"#,
            r#""p" "table" (table 4 externref)"#,
            r#""p" "table" (table 4 7 funcref)"#,
            r#""p" "counter" (global i64)"#,
            r#""p" "counter" (global (mut i32))"#,
            r#""p" "constant" (global (mut f64))"#,
        ] {
            let module = Module::new(engine, format!("(module (import {import}))")).unwrap();
            let error = linker.instantiate(&mut store, &module).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Link(_)), "{import}: {error}");
            let name = import.split('"').nth(3).unwrap();
            assert!(error.to_string().contains(name), "{import}: {error}");
        }
        // What is larger than asked for fits.
        let module = Module::new(
            engine,
            r#"(module (import "p" "memory" (memory 0 5)) (import "p" "table" (table 3 funcref)))"#,
        );
        linker.instantiate(&mut store, &module.unwrap()).unwrap();
    });
}

#[test]
fn names_in_a_linker() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let mut linker = Linker::new(engine);
        linker.func_wrap("a", "f", || 1i32).unwrap();
        assert!(linker.func_wrap("a", "f", || 2i32).is_err());
        linker.allow_shadowing(true).func_wrap("a", "f", || 3i32).unwrap();
        linker.alias_module("a", "b").unwrap();
        assert!(linker.alias_module("nothing", "c").is_err());
        linker
            .module(
                &mut store,
                "m",
                &Module::new(engine, r#"(module (func (export "f") (result i32) i32.const 4))"#).unwrap(),
            )
            .unwrap();
        let module = Module::new(
            engine,
            r#"(module (import "b" "f" (func (result i32))) (import "m" "f" (func (result i32)))
                (func (export "run") (result i32) (i32.mul (call 0) (call 1))))"#,
        )
        .unwrap();
        let instance = linker.instantiate(&mut store, &module).unwrap();
        assert_eq!(call::<_, (), i32>(&mut store, instance, "run", ()).unwrap(), 12);
        assert!(linker.get(&mut store, "a", "f").is_some_and(|object| object.into_func().is_some()));
        assert!(linker.get(&mut store, "a", "g").is_none());
        // Definitions of the host's serve other stores too.
        linker.module(&mut store, "m", &module).unwrap();
        assert!(linker.instantiate(&mut Store::new(engine, ()), &module).is_err());
    });
}

#[test]
fn unknown_imports_are_stubbed() {
    for_each_engine(|engine| {
        let module = Module::new(
            engine,
            r#"(module (import "env" "f" (func (param i32) (result i64 f32 externref)))
                (func (export "run") (result i64) (call 0 (i32.const 1)) drop drop))"#,
        )
        .unwrap();
        let mut store = Store::new(engine, ());
        let mut linker = Linker::new(engine);
        linker.define_unknown_imports_as_traps(&module).unwrap();
        let instance = linker.instantiate(&mut store, &module).unwrap();
        let error = call::<_, (), i64>(&mut store, instance, "run", ()).unwrap_err();
        assert!(error.to_string().contains("env"), "{error}");
        let mut linker = Linker::new(engine);
        linker.define_unknown_imports_as_default_values(&mut store, &module).unwrap();
        let instance = linker.instantiate(&mut store, &module).unwrap();
        assert_eq!(call::<_, (), i64>(&mut store, instance, "run", ()).unwrap(), 0);
    });
}

#[test]
fn a_failed_instantiation_leaves_what_it_wrote() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let provider = instantiate(&mut store, PROVIDER, &[]);
        let mut linker = Linker::new(engine);
        linker.instance(&mut store, "p", provider).unwrap();
        let module = Module::new(
            engine,
            r#"(module (import "p" "table" (table 4 funcref)) (import "p" "memory" (memory 1))
                (global $g i32 (i32.const 1234))
                (func $f (result i32) (global.get $g))
                (elem (i32.const 2) $f) (data (i32.const 8) "\01") (data (i32.const 65536) "\01"))"#,
        )
        .unwrap();
        let error = linker.instantiate(&mut store, &module).unwrap_err();
        assert_eq!(error.trap(), Some(Trap::MemoryOutOfBounds));
        drop(module);
        // The function in the table works, though its instance was never returned.
        assert_eq!(call::<_, i32, i32>(&mut store, provider, "call slot", 2).unwrap(), 1234);
        assert_eq!(call::<_, i32, i32>(&mut store, provider, "peek", 8).unwrap(), 1);
    });
}

#[test]
fn start_functions_run_with_their_imports() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, Vec::new());
        let host = Func::wrap(&mut store, |mut caller: Caller<'_, Vec<i32>>, value: i32| caller.data_mut().push(value));
        let wat = r#"(module (import "" "push" (func $push (param i32))) (memory 1) (data (i32.const 0) "\07")
            (func $start (call $push (i32.load8_u (i32.const 0)))) (start $start))"#;
        instantiate(&mut store, wat, &[host.into()]);
        assert_eq!(store.data(), &[7]);
    });
}

#[test]
fn tail_calls_cross_instances() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let even = instantiate(
            &mut store,
            r#"(module (table (export "t") 2 funcref) (global $calls (export "calls") (mut i32) (i32.const 0))
                (type $f (func (param i64) (result i32)))
                (func (export "even") (param i64) (result i32)
                    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
                    (if (result i32) (i64.eqz (local.get 0)) (then (i32.const 1))
                        (else (return_call_indirect (type $f) (i64.sub (local.get 0) (i64.const 1)) (i32.const 1))))))"#,
            &[],
        );
        let mut linker = Linker::new(engine);
        linker.instance(&mut store, "e", even).unwrap();
        let odd = Module::new(
            engine,
            r#"(module (import "e" "t" (table 2 funcref)) (import "e" "even" (func $even (param i64) (result i32)))
                (global $calls (mut i32) (i32.const 0)) (elem (i32.const 1) $odd)
                (func $odd (export "odd") (param i64) (result i32)
                    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
                    (if (result i32) (i64.eqz (local.get 0)) (then (i32.const 0))
                        (else (return_call $even (i64.sub (local.get 0) (i64.const 1)))))))"#,
        )
        .unwrap();
        let odd = linker.instantiate(&mut store, &odd).unwrap();
        assert_eq!(call::<_, i64, i32>(&mut store, odd, "odd", 300_001).unwrap(), 1);
        assert_eq!(call::<_, i64, i32>(&mut store, even, "even", 300_001).unwrap(), 0);
        let calls = even.get_global(&mut store, "calls").unwrap();
        assert!(matches!(calls.get(&store), Value::I32(300_002)));
    });
}

#[test]
fn an_instance_wants_its_imports_in_order() {
    for_each_engine(|engine| {
        let module = Module::new(engine, r#"(module (import "a" "f" (func)) (import "a" "m" (memory 1)))"#).unwrap();
        let mut store = Store::new(engine, ());
        let func = Func::wrap(&mut store, || {});
        let memory = Memory::new(&mut store, MemoryType::new(1, None)).unwrap();
        assert!(Instance::new(&mut store, &module, &[func.into(), memory.into()]).is_ok());
        assert!(Instance::new(&mut store, &module, &[memory.into(), func.into()]).is_err());
        assert!(Instance::new(&mut store, &module, &[func.into()]).is_err());
    });
}

/// Whatever an element of a table may be, of the instance's own and of an imported one, is called, or traps, again and again.
#[test]
fn elements_of_all_kinds_are_called() {
    const OWNER: &str = r#"(module
        (global $calls (export "calls") (mut i32) (i32.const 0))
        (func $theirs (export "theirs") (param i32) (result i32)
            (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
            (i32.add (local.get 0) (global.get $calls)))
        (table (export "table") 6 funcref))"#;
    const CALLER: &str = r#"(module
        (type $unary (func (param i32) (result i32)))
        (type $wide (func (param i64) (result i32)))
        (import "o" "theirs" (func $theirs (type $unary)))
        (import "h" "host" (func $host (type $unary)))
        (import "o" "table" (table $imported 6 funcref))
        (table $own 6 funcref)
        (elem (table $imported) (i32.const 0) func $mine $wide $twice)
        (elem (table $imported) (i32.const 4) func $theirs $host)
        (elem (table $own) (i32.const 0) func $mine $wide $twice)
        (elem (table $own) (i32.const 4) func $theirs $host)
        (func $mine (type $unary) (i32.mul (local.get 0) (i32.const 3)))
        (func $wide (type $wide) (i32.wrap_i64 (local.get 0)))
        (func $twice (type $unary) (local i64) (i32.shl (local.get 0) (i32.const 1)))
        (func (export "imported") (param $i i32) (param $n i32) (result i32) (local $sum i32)
            (loop $again
                (local.set $sum (i32.add (local.get $sum)
                    (call_indirect $imported (type $unary) (local.get $n) (local.get $i))))
                (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
            (local.get $sum))
        (func (export "own") (param $i i32) (param $n i32) (result i32) (local $sum i32)
            (loop $again
                (local.set $sum (i32.add (local.get $sum)
                    (call_indirect $own (type $unary) (local.get $n) (local.get $i))))
                (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
            (local.get $sum)))"#;
    for config in steady_configs() {
        let engine = &Engine::new(&config).unwrap();
        let mut store = Store::new(engine, ());
        let owner = instantiate(&mut store, OWNER, &[]);
        let mut linker = Linker::new(engine);
        linker.instance(&mut store, "o", owner).unwrap();
        linker.func_wrap("h", "host", |x: i32| x - 100).unwrap();
        let caller = linker.instantiate(&mut store, &Module::new(engine, CALLER).unwrap()).unwrap();
        let calls = owner.get_global(&mut store, "calls").unwrap();
        for _ in 0..3 {
            for export in ["imported", "own"] {
                let mut get = |index| {
                    calls.set(&mut store, Value::I32(0)).unwrap();
                    let result = call::<_, (i32, i32), i32>(&mut store, caller, export, (index, 40));
                    result.map_err(|error| error.trap().unwrap())
                };
                assert_eq!(get(0), Ok(820 * 3), "{export} {config:?}");
                assert_eq!(get(1), Err(Trap::IndirectCallTypeMismatch), "{export} {config:?}");
                assert_eq!(get(2), Ok(820 * 2), "{export} {config:?}");
                assert_eq!(get(3), Err(Trap::UninitializedElement), "{export} {config:?}");
                assert_eq!(get(4), Ok(820 + 820), "{export} {config:?}");
                assert_eq!(get(5), Ok(820 - 40 * 100), "{export} {config:?}");
                for beyond in [6, -1, i32::MIN] {
                    assert_eq!(get(beyond), Err(Trap::UndefinedElement), "{export} {config:?}");
                }
            }
        }
    }
}

/// Functions that become native while they are on the stack, or run to the end in native code, call others that are interpreted:
/// these have frames above theirs.
#[test]
fn frames_of_every_engine_are_apart() {
    const N: i64 = 12;
    // Each callee is called for the first time from a place of its own, and writes to all of its many slots.
    let each = |f: &dyn Fn(i64) -> String| (0..N).map(f).collect::<String>();
    let locals = "i64 ".repeat(40);
    let fill = (1..=40).map(|slot| format!("(local.set {slot} (i64.const -1))")).collect::<String>();
    let wat = format!(
        r#"(module
            (type $t (func (param i64) (result i64)))
            (table funcref (elem {callees}))
            ;; Native from the second call on, where functions are.
            (func $by (export "by") (param $value i64) (param $which i32) (result i64) (local $a i64) (local $b i64)
                (local.set $a (i64.mul (local.get $value) (i64.const 3)))
                (local.set $b (call_indirect (type $t) (local.get $value) (local.get $which)))
                (i64.add (local.get $a) (local.get $b)))
            ;; Native in the middle, where loops are.
            (func $loops (export "loops") (param $value i64) (param $which i32) (result i64)
                (local $n i32) (local $sum i64) (local $a i64)
                (local.set $a (i64.mul (local.get $value) (i64.const 5)))
                (local.set $n (i32.const 4))
                (loop $again
                    (local.set $sum (i64.add (local.get $sum)
                        (call_indirect (type $t) (local.get $value) (local.get $which))))
                    (local.set $which (i32.add (local.get $which) (i32.const 1)))
                    (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
                (i64.add (local.get $a) (local.get $sum)))
            {funcs})"#,
        callees = each(&|i| format!("$c{i} ")) + &each(&|i| format!("$d{i} ")) + &each(&|i| format!("$e{i} ")),
        funcs = each(&|i| {
            format!(
                r#"(func $c{i} (type $t) (local {locals}) {fill} (i64.add (local.get 0) (i64.const {i})))
                (func $d{i} (type $t) (local {locals}) {fill} (i64.add (local.get 0) (i64.const {i})))
                (func $e{i} (type $t) (local {locals}) {fill} (i64.add (local.get 0) (i64.const {i})))
                ;; In place of the outermost frame.
                (func (export "tail{i}") (param i64) (result i64)
                    (return_call $by (local.get 0) (i32.const {tail_at})))
                (func (export "by{i}") (param i64) (result i64) (local i64 i64 i64)
                    (local.set 1 (i64.const 1)) (local.set 2 (i64.const 2)) (local.set 3 (i64.const 3))
                    (i64.add (i64.add (i64.const 1000) (call $by (local.get 0) (i32.const {i})))
                        (i64.add (local.get 1) (i64.add (local.get 2) (local.get 3)))))
                (func (export "loops{i}") (param i64) (result i64) (local i64 i64 i64)
                    (local.set 1 (i64.const 1)) (local.set 2 (i64.const 2)) (local.set 3 (i64.const 3))
                    (i64.add (i64.add (i64.const 1000) (call $loops (local.get 0) (i32.const {at})))
                        (i64.add (local.get 1) (i64.add (local.get 2) (local.get 3)))))"#,
                at = N + i / 4 * 4,
                tail_at = 2 * N + i,
            )
        }),
    );
    for_each_engine(|engine| {
        let (mut store, instance) = setup(engine, &wat);
        for i in 0..N {
            let got = call::<_, i64, i64>(&mut store, instance, &format!("by{i}"), 10).unwrap();
            assert_eq!(got, 1006 + 30 + 10 + i);
            let got = call::<_, i64, i64>(&mut store, instance, &format!("tail{i}"), 10).unwrap();
            assert_eq!(got, 30 + 10 + i);
            let got = call::<_, i64, i64>(&mut store, instance, &format!("loops{i}"), 10).unwrap();
            let first = i / 4 * 4;
            assert_eq!(got, 1006 + 50 + 40 + 4 * first + 6);
        }
    });
}

#[test]
fn what_is_of_another_store_or_engine_is_refused() {
    for_each_engine(|engine| {
        let provider = r#"(module
            (func (export "func")) (table (export "table") 1 funcref) (memory (export "memory") 1)
            (global (export "global") (mut i32) (i32.const 1)) (tag (export "tag")))"#;
        let (mut other, exports) = setup(engine, provider);
        for (name, ty) in [
            ("func", "(func)"),
            ("table", "(table 1 funcref)"),
            ("memory", "(memory 1)"),
            ("global", "(global (mut i32))"),
            ("tag", "(tag)"),
        ] {
            let module = Module::new(engine, format!(r#"(module (import "" "{name}" {ty}))"#)).unwrap();
            let import = exports.get_export(&mut other, name).unwrap();
            let mut store = Store::new(engine, ());
            // The same numbers mean something else there.
            instantiate(&mut store, provider, &[]);
            let error = Instance::new(&mut store, &module, std::slice::from_ref(&import)).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Usage(_)), "{name}: {error}");
            Instance::new(&mut other, &module, &[import]).unwrap();
        }
        let module = Module::new(&Engine::default(), "(module)").unwrap();
        let error = Instance::new(&mut other, &module, &[]).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Usage(_)), "{error}");
    });
}

#[test]
fn objects_of_types_that_there_are_not_cannot_be_made() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let usage = |error: wasmrun::Error| assert!(matches!(error.kind(), ErrorKind::Usage(_)), "{error}");
        let ty = TableType::new(RefType::FUNCREF, 1, None);
        usage(Table::new(&mut store, ty.clone(), Ref::Extern(None)).unwrap_err());
        for (minimum, maximum) in [(2, 1), (0, 1 << 32), (1 << 32, 1 << 32), (0, u64::MAX)] {
            let ty = TableType::new(RefType::FUNCREF, minimum, Some(maximum));
            usage(Table::new(&mut store, ty, Ref::Func(None)).unwrap_err());
        }
        let largest = TableType::new(RefType::FUNCREF, 0, Some((1 << 32) - 1));
        assert!(Table::new(&mut store, largest, Ref::Func(None)).is_ok());
        let limits = [(65_537, None), (u64::MAX, None), (2, Some(1)), (0, Some(65_537)), (0, Some(u64::MAX))];
        for (minimum, maximum) in limits {
            usage(Memory::new(&mut store, MemoryType::new(minimum, maximum)).unwrap_err());
        }
        assert!(Memory::new(&mut store, MemoryType::new(0, Some(65_536))).is_ok());
        let exports = instantiate(&mut store, r#"(module (tag (export "tag") (param i32)))"#, &[]);
        let tag = exports.get_export(&mut store, "tag").unwrap();
        for (ty, fits) in [("(param i32)", true), ("(param i64)", false), ("", false), ("(param i32 i32)", false)] {
            let module = Module::new(engine, format!(r#"(module (import "" "tag" (tag {ty})))"#)).unwrap();
            match Instance::new(&mut store, &module, std::slice::from_ref(&tag)) {
                Ok(_) => assert!(fits, "{ty}"),
                Err(error) => assert!(!fits && matches!(error.kind(), ErrorKind::Link(_)), "{ty}: {error}"),
            }
        }
    });
}

#[test]
fn a_linker_takes_objects_of_the_store_alone() {
    for_each_engine(|engine| {
        let (mut store, mut other) = (Store::new(engine, ()), Store::new(engine, ()));
        let memory = Memory::new(&mut other, MemoryType::new(1, None)).unwrap();
        let func = Func::wrap(&mut other, || {});
        let mut linker = Linker::new(engine);
        for object in [Extern::from(memory), func.into()] {
            let error = linker.define(&store, "a", "b", object).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Usage(_)), "{error}");
        }
        assert!(linker.get(&mut store, "a", "b").is_none());
        assert!(linker.get_default(&mut store, "a").is_err());
        linker.define(&other, "a", "b", memory).unwrap();
        assert!(linker.get_default(&mut other, "a").unwrap().call(&mut other, &[], &mut []).is_ok());
        linker.define(&other, "a", "_start", memory).unwrap();
        assert!(linker.get_default(&mut other, "a").is_err(), "no function");
    });
}

/// Each call of a command has an instance of its own; a reactor keeps its state. Both ways of making one agree.
#[test]
fn commands_begin_anew() {
    const COUNT: &str = r#"(global $n (mut i32) (i32.const 0))
        (func (export "count") (result i32) (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n))"#;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for_each_engine(|engine| {
        for (start, counts) in [
            ("(func (export \"_start\"))", [1, 1]),
            ("", [1, 2]),
            ("(func (export \"_start\")) (func (export \"_initialize\"))", [1, 2]),
            ("(func (export \"_start\") (param i32))", [1, 2]),
        ] {
            let module = Module::new(engine, format!("(module {COUNT} {start})")).unwrap();
            let mut store = Store::new(engine, ());
            let (mut linker, mut linker_async) = (Linker::new(engine), Linker::new(engine));
            linker.module(&mut store, "m", &module).unwrap();
            runtime.block_on(linker_async.module_async(&mut store, "m", &module)).unwrap();
            let count = |linker: &Linker<()>, store: &mut Store<()>| {
                linker.get(&mut *store, "m", "count").unwrap().into_func().unwrap().typed::<(), i32>(&*store).unwrap()
            };
            let func = count(&linker, &mut store);
            assert_eq!([0, 1].map(|_| func.call(&mut store, ()).unwrap()), counts, "{start}");
            let func = count(&linker_async, &mut store);
            for expected in counts {
                assert_eq!(runtime.block_on(func.call_async(&mut store, ())).unwrap(), expected, "{start}");
            }
        }
    });
}

/// Each call of a command leaves an instance behind, so a guest must not be able to make them without end.
#[test]
fn a_guest_cannot_begin_commands_without_end() {
    let engine = Engine::default();
    let command = Module::new(&engine, r#"(module (func (export "_start")))"#).unwrap();
    let wat = r#"(module (import "m" "_start" (func $start)) (func (export "run") (param $n i32)
        (loop $again (call $start) (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))))"#;
    let caller = Module::new(&engine, wat).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for is_async in [false, true] {
        let run = |limits: Option<usize>, n: i32| {
            let mut store = Store::new(&engine, StoreLimitsBuilder::new().instances(limits.unwrap_or(0)).build());
            if limits.is_some() {
                store.limiter(|limits| limits);
            }
            let mut linker = Linker::new(&engine);
            if is_async {
                runtime.block_on(linker.module_async(&mut store, "m", &command)).unwrap();
            } else {
                linker.module(&mut store, "m", &command).unwrap();
            }
            let instance = linker.instantiate(&mut store, &caller).unwrap();
            let run = instance.get_typed_func::<i32, ()>(&mut store, "run").unwrap();
            if is_async { runtime.block_on(run.call_async(&mut store, n)) } else { run.call(&mut store, n) }
        };
        run(None, 9_999).unwrap();
        let error = run(None, i32::MAX).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Resource(_)), "{error:?}");
        assert!(error.to_string().contains("10000 instances"), "{error}");
        run(Some(20_000), 19_999).unwrap();
        assert!(matches!(run(Some(100), 100).unwrap_err().kind(), ErrorKind::Resource(_)));
    }
}

#[test]
fn unknown_imports_of_all_kinds_have_defaults() {
    for_each_engine(|engine| {
        let module = Module::new(
            engine,
            r#"(module (import "a" "m" (memory 2 3)) (import "a" "t" (table 3 externref)) (import "a" "g" (global f64))
                (import "a" "v" (global (mut i64))) (import "a" "e" (tag (param i32))) (import "a" "m" (memory 1))
                (import "b" "f" (func (result i32))) (func (export "size") (result i32) (memory.size 0)))"#,
        )
        .unwrap();
        let mut store = Store::new(engine, ());
        let mut linker = Linker::new(engine);
        linker.define_unknown_imports_as_default_values(&mut store, &module).unwrap();
        let instance = linker.instantiate(&mut store, &module).unwrap();
        assert_eq!(call::<_, (), i32>(&mut store, instance, "size", ()).unwrap(), 2);
        let table = linker.get(&mut store, "a", "t").unwrap().into_table().unwrap();
        assert!(table.size(&store) == 3 && table.get(&store, 2).unwrap().is_null());
        let huge = Module::new(engine, r#"(module (import "a" "huge" (table 4000000000 funcref)))"#).unwrap();
        let error = linker.define_unknown_imports_as_default_values(&mut store, &huge).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Resource(_)), "{error}");
    });
}

#[test]
fn an_export_found_in_a_module_is_for_its_instances() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let wat = r#"(module (func) (func (export "f") (result i32) (i32.const 7)))"#;
        let [module, same] = [wat, wat].map(|wat| Module::new(engine, wat).unwrap());
        let export = module.get_export_index("f").unwrap();
        let [instance, of_same] = [&module, &same].map(|module| Instance::new(&mut store, module, &[]).unwrap());
        let func = instance.get_module_export(&mut store, &export).unwrap().into_func().unwrap();
        assert_eq!(func.typed::<(), i32>(&store).unwrap().call(&mut store, ()).unwrap(), 7);
        assert!(of_same.get_module_export(&mut store, &export).is_none());
        assert!(module.get_export_index("g").is_none());
    });
}

#[test]
fn tables_are_filled_and_copied_within_bounds() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let make = |store: &mut Store<()>, ty: RefType| {
            let null = Ref::null(ty.heap_type());
            Table::new(store, TableType::new(ty, 4, None), null).unwrap()
        };
        let [one, other] = [0, 1].map(|_| make(&mut store, RefType::EXTERNREF));
        let funcs = make(&mut store, RefType::FUNCREF);
        for index in 0..4 {
            one.set(&mut store, index, wasmrun::ExternRef::new(index).into()).unwrap();
        }
        let numbers = |store: &Store<()>, table: Table| {
            let number =
                |index| -> Option<u64> { table.get(store, index)?.unwrap_extern()?.data().downcast_ref().copied() };
            (0..4).map(number).collect::<Vec<_>>()
        };
        Table::copy(&mut store, &one, 1, &one, 0, 3).unwrap();
        assert_eq!(numbers(&store, one), [0, 0, 1, 2].map(Some));
        Table::copy(&mut store, &other, 2, &one, 1, 2).unwrap();
        assert_eq!(numbers(&store, other), [None, None, Some(0), Some(1)]);
        other.fill(&mut store, 0, wasmrun::ExternRef::new(9u64).into(), 2).unwrap();
        assert_eq!(numbers(&store, other), [9, 9, 0, 1].map(Some));
        let out = |result: wasmrun::Result<()>| assert_eq!(result.unwrap_err().trap(), Some(Trap::TableOutOfBounds));
        out(other.fill(&mut store, 3, Ref::Extern(None), 2));
        out(other.fill(&mut store, 1, Ref::Extern(None), u64::MAX));
        out(Table::copy(&mut store, &other, 3, &one, 0, 2));
        out(Table::copy(&mut store, &other, 0, &one, u64::MAX, 1));
        assert!(Table::copy(&mut store, &other, 4, &one, 4, 0).is_ok());
        assert!(Table::copy(&mut store, &funcs, 0, &one, 0, 1).is_err() && funcs.get(&store, 0).unwrap().is_null());
        assert_eq!(numbers(&store, other), [9, 9, 0, 1].map(Some));
    });
}
