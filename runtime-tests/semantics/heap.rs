//! What is collected and what is not: exceptions and host objects that are referred to from one kind of place only.

use crate::engines::{call, configs, for_each_engine, instantiate};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use wasmrun::{
    Caller, Config, Engine, Error, ErrorKind, ExnRef, ExternRef, Func, FuncType, Global, GlobalType, Instance,
    Mutability, Ref, RefType, Store, Table, TableType, ValType, Value,
};

/// How many references a function of [`module`] holds at once: more than there are registers.
pub const HELD: i64 = 20;

/// What [`module`] computes from the payloads of all exceptions that a function held.
pub const SUM: i64 = {
    let (mut sum, mut i) = (0, 1);
    while i <= HELD {
        sum += i * (4 * i);
        i += 1;
    }
    sum
};

/// A module whose exports each hold exceptions in one kind of place while they call the import, then look whether they
/// still have their payloads. `churn` throws exceptions that nobody keeps, of the same size.
pub fn module() -> String {
    let each = |f: &dyn Fn(i64) -> String| (1..=HELD).map(f).collect::<String>();
    let exnrefs = "exnref ".repeat(HELD as usize);
    let sum = |get: &dyn Fn(i64) -> String| {
        let terms = each(&|i| {
            let get = get(i);
            format!("(local.set $sum (i64.add (local.get $sum) (i64.mul (i64.const {i}) (call $value {get}))))")
        });
        format!("{terms} (local.get $sum)")
    };
    format!(
        r#"(module
            (import "" "across" (func $across))
            (tag $t (param i64 i64)) (tag $link (param exnref)) (tag $wide (param {exnrefs}))
            (global $g (mut exnref) (ref.null exn))
            (table $table {size} exnref)
            (func $make (param i64) (result exnref) (local exnref)
                (block $caught (result i64 i64 exnref)
                    (try_table (catch_ref $t $caught)
                        (throw $t (local.get 0) (i64.mul (local.get 0) (i64.const 3))))
                    (unreachable))
                (local.set 1) (drop) (drop) (local.get 1))
            (func $value (param exnref) (result i64)
                (block $caught (result i64 i64)
                    (try_table (catch $t $caught) (throw_ref (local.get 0)))
                    (unreachable))
                (i64.add))
            (func $churn (export "churn") (param i64)
                (loop $again
                    (drop (call $make (i64.const -1)))
                    (br_if $again (i64.ne (local.tee 0 (i64.sub (local.get 0) (i64.const 1))) (i64.const 0)))))
            (func (export "make") (param i64) (result exnref) (call $make (local.get 0)))
            (func (export "value") (param exnref) (result i64) (call $value (local.get 0)))
            (func (export "throw") (param i64) (throw $t (local.get 0) (i64.mul (local.get 0) (i64.const 3))))
            (func (export "held as argument") (param exnref) (result i64)
                (call $across) (call $value (local.get 0)))
            (func (export "locals") (result i64) (local $sum i64) {locals}
                {set_locals} (call $across) {sum_locals})
            ;; Without a call of the host: what is allocated collects.
            (func (export "locals and throws") (result i64) (local $sum i64) {locals}
                {set_locals} (call $churn (i64.const 200)) {sum_locals})
            (func (export "operands") (result i64) (local $sum i64) {locals}
                {make_all} (call $across) {set_reversed} {sum_locals})
            (func (export "global") (result i64)
                (global.set $g (call $make (i64.const 5))) (call $across) (call $value (global.get $g)))
            (func (export "table") (result i64) (local $sum i64)
                {set_table} (call $across) {sum_table})
            (func $link (param exnref) (result exnref) (local exnref)
                (block $caught (result exnref exnref)
                    (try_table (catch_ref $link $caught) (throw $link (local.get 0)))
                    (unreachable))
                (local.set 1) (drop) (local.get 1))
            ;; A list, of whose first exception alone something knows.
            (func (export "payloads") (result i64) (local $list exnref) (local $n i32)
                (local.set $list (call $make (i64.const 5)))
                (local.set $n (i32.const 100))
                (loop $again
                    (local.set $list (call $link (local.get $list)))
                    (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
                (call $across)
                (local.set $n (i32.const 100))
                (loop $again
                    (local.set $list
                        (block $caught (result exnref)
                            (try_table (catch $link $caught) (throw_ref (local.get $list)))
                            (unreachable)))
                    (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
                (call $value (local.get $list)))
            ;; The references are the payload of the exception that is being made, and nowhere else.
            (func (export "new payload") (result i64) (local $sum i64) {locals}
                (block $caught (result {exnrefs})
                    (try_table (catch $wide $caught) (throw $wide {make_all}))
                    (unreachable))
                {set_reversed} (call $across) {sum_locals}))"#,
        size = HELD + 1,
        locals = each(&|i| format!("(local $l{i} exnref)")),
        set_locals = each(&|i| format!("(local.set $l{i} (call $make (i64.const {i})))")),
        sum_locals = sum(&|i| format!("(local.get $l{i})")),
        make_all = each(&|i| format!("(call $make (i64.const {i}))")),
        set_reversed = each(&|i| format!("(local.set $l{})", HELD + 1 - i)),
        set_table = each(&|i| format!("(table.set $table (i32.const {i}) (call $make (i64.const {i})))")),
        sum_table = sum(&|i| format!("(table.get $table (i32.const {i}))")),
    )
}

/// The exports of [`module`] that hold exceptions, and what they give.
pub const HOLDERS: [(&str, i64); 7] = [
    ("locals", SUM),
    ("locals and throws", SUM),
    ("operands", SUM),
    ("global", 20),
    ("table", SUM),
    ("payloads", 20),
    ("new payload", SUM),
];

/// Runs `test` on each engine, collecting when it is worth it, at each occasion, and in steps all the time.
pub fn for_each_engine_and_zeal(test: impl Fn(&Engine)) {
    for mut config in configs() {
        for (always, in_steps) in [(false, false), (true, false), (false, true)] {
            println!("{config:?} {always} {in_steps}");
            if in_steps {
                config.collect_in_steps(true);
            } else {
                config.collect_always(always);
            }
            test(&Engine::new(&config).expect("the configuration works on this host"));
        }
    }
}

/// An instance of [`module`] whose import collects and reuses the memory of what was collected.
fn collecting(engine: &Engine) -> (Store<Option<Instance>>, Instance) {
    let mut store = Store::new(engine, None::<Instance>);
    let across = Func::wrap(&mut store, |mut caller: Caller<'_, Option<Instance>>| {
        let instance = caller.data().expect("set below");
        caller.gc();
        let churn = instance.get_typed_func::<i64, ()>(&mut caller, "churn").unwrap();
        churn.call(&mut caller, 100).unwrap();
        caller.gc();
    });
    let instance = instantiate(&mut store, &module(), &[across.into()]);
    *store.data_mut() = Some(instance);
    (store, instance)
}

#[test]
fn exceptions_stay_while_something_refers_to_them() {
    for_each_engine_and_zeal(|engine| {
        let (mut store, instance) = collecting(engine);
        for (export, expected) in HOLDERS {
            for _ in 0..3 {
                assert_eq!(call::<_, (), i64>(&mut store, instance, export, ()).unwrap(), expected, "{export}");
            }
        }
    });
}

#[test]
fn exceptions_go_when_nothing_refers_to_them() {
    for_each_engine_and_zeal(|engine| {
        let (mut store, instance) = collecting(engine);
        call::<_, i64, ()>(&mut store, instance, "churn", 1000).unwrap();
        store.gc();
        assert_eq!((store.heap_stats().exceptions, store.heap_stats().exception_bytes), (0, 0));
        for (export, _) in HOLDERS {
            call::<_, (), i64>(&mut store, instance, export, ()).unwrap();
        }
        store.gc();
        // Those in the table and in the global.
        assert_eq!(store.heap_stats().exceptions as i64, HELD + 1);
        // They go by themselves too.
        let before = store.heap_stats().collections;
        call::<_, i64, ()>(&mut store, instance, "churn", 100_000).unwrap();
        assert!(store.heap_stats().collections > before);
        assert!(store.heap_stats().exception_bytes < 4 << 20, "{:?}", store.heap_stats());
    });
}

#[test]
fn exceptions_stay_while_the_host_holds_them() {
    for_each_engine_and_zeal(|engine| {
        let (mut store, instance) = collecting(engine);
        let make = instance.get_func(&mut store, "make").unwrap();
        let held: Vec<Value> = (0..50)
            .map(|i| {
                let mut results = [Value::ExnRef(None)];
                make.call(&mut store, &[Value::I64(i)], &mut results).unwrap();
                results[0].clone()
            })
            .collect();
        let error = call::<_, i64, ()>(&mut store, instance, "throw", 50).unwrap_err();
        call::<_, i64, ()>(&mut store, instance, "churn", 1000).unwrap();
        store.gc();
        assert_eq!(store.heap_stats().exceptions, 51);
        let ErrorKind::Exception(thrown) = error.kind() else { panic!("{error}") };
        let held: Vec<Value> = held.into_iter().chain([Value::ExnRef(Some(thrown.clone()))]).collect();
        for export in ["value", "held as argument"] {
            let value = instance.get_func(&mut store, export).unwrap();
            for (i, exception) in held.iter().enumerate() {
                let mut results = [Value::I64(0)];
                value.call(&mut store, std::slice::from_ref(exception), &mut results).unwrap();
                assert!(matches!(results[0], Value::I64(v) if v == 4 * i as i64), "{results:?}");
            }
        }
        drop(held);
        store.gc();
        assert_eq!(store.heap_stats().exceptions, 1, "the error's");
        drop(error);
        store.gc();
        assert_eq!(store.heap_stats().exceptions, 0);
    });
}

#[test]
fn an_exception_of_another_store_is_refused() {
    for_each_engine(|engine| {
        let (mut store, instance) = collecting(engine);
        let (mut other, its_instance) = collecting(engine);
        let mut results = [Value::ExnRef(None)];
        let make = its_instance.get_func(&mut other, "make").unwrap();
        make.call(&mut other, &[Value::I64(7)], &mut results).unwrap();
        let foreign = results[0].clone();
        let refused = |error: Error| assert!(matches!(error.kind(), ErrorKind::Usage(_)), "{error}");
        let value = instance.get_func(&mut store, "value").unwrap();
        refused(value.call(&mut store, std::slice::from_ref(&foreign), &mut [Value::I64(0)]).unwrap_err());
        let ty = GlobalType::new(ValType::EXNREF, Mutability::Var);
        refused(Global::new(&mut store, ty.clone(), foreign.clone()).unwrap_err());
        let global = Global::new(&mut store, ty, Value::ExnRef(None)).unwrap();
        refused(global.set(&mut store, foreign.clone()).unwrap_err());
        let ty = TableType::new(RefType::EXNREF, 1, None);
        refused(Table::new(&mut store, ty.clone(), foreign.clone().ref_().unwrap()).unwrap_err());
        let table = Table::new(&mut store, ty, Ref::Exn(None)).unwrap();
        refused(table.set(&mut store, 0, foreign.clone().ref_().unwrap()).unwrap_err());
        refused(table.grow(&mut store, 1, foreign.clone().ref_().unwrap()).unwrap_err());
        let ty = FuncType::new(store.engine(), [], [ValType::EXNREF]);
        let gives = Func::new(&mut store, ty, move |_: Caller<'_, Option<Instance>>, _, results| {
            results[0] = foreign.clone();
            Ok(())
        });
        refused(gives.call(&mut store, &[], &mut [Value::ExnRef(None)]).unwrap_err());
        // Thrown on by a host function, it is an error, and no exception of the store.
        let error = Arc::new(std::sync::Mutex::new(None::<Error>));
        *error.lock().unwrap() = Some(call::<_, i64, ()>(&mut other, its_instance, "throw", 1).unwrap_err());
        let throws = Func::wrap(&mut store, move || -> Result<(), Error> {
            Err(error.lock().unwrap().take().expect("called once"))
        });
        let catches = instantiate(
            &mut store,
            r#"(module (import "" "throws" (func $throws)) (func (export "run")
                (block $caught (try_table (catch_all $caught) (call $throws)) (return))))"#,
            &[throws.into()],
        );
        let error = call::<_, (), ()>(&mut store, catches, "run", ()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Exception(_)), "{error}");
    });
}

#[test]
fn what_live_exceptions_take_is_limited() {
    // A header, and one slot of payload.
    const EXCEPTION: i64 = 8 + 8;
    for mut config in configs() {
        let engine = Engine::new(config.max_exception_bytes(1 << 20)).unwrap();
        let (mut store, instance) = collecting(&engine);
        let keeps = instantiate(
            &mut store,
            r#"(module (tag $t (param exnref)) (func (export "run") (param i64) (local $list exnref)
                (loop $again
                    (block $caught (result exnref exnref)
                        (try_table (catch_ref $t $caught) (throw $t (local.get $list)))
                        (unreachable))
                    (local.set $list) (drop)
                    (br_if $again (i64.ne (local.tee 0 (i64.sub (local.get 0) (i64.const 1))) (i64.const 0))))))"#,
            &[],
        );
        for _ in 0..2 {
            call::<_, i64, ()>(&mut store, keeps, "run", 720_000 / EXCEPTION).unwrap();
            let error = call::<_, i64, ()>(&mut store, keeps, "run", 1_200_000 / EXCEPTION).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Resource(_)), "{error}");
            // While code runs, a word that is left on the stack may keep the list.
            store.gc();
            call::<_, i64, ()>(&mut store, instance, "churn", 100_000).unwrap();
        }
    }
}

/// A host object that counts those of its kind that are alive.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn make(alive: &Arc<AtomicUsize>) -> ExternRef {
        alive.fetch_add(1, Ordering::Relaxed);
        ExternRef::new(Counted(alive.clone()))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

const EXTERNS: &str = r#"(module
    (import "" "make" (func $make (result externref)))
    (import "" "pair" (func $pair (param externref) (result externref externref)))
    (import "" "check" (func $check (param externref externref)))
    (import "" "gc" (func $gc))
    (tag $t (param externref))
    (global $g (mut externref) (ref.null extern)) (table $table 10 externref)
    (func (export "loop") (param i64)
        (loop $again
            (drop (call $make))
            (br_if $again (i64.ne (local.tee 0 (i64.sub (local.get 0) (i64.const 1))) (i64.const 0)))))
    (func (export "pairs") (param i64) (local externref externref)
        (loop $again
            (call $pair (call $make)) (local.set 1) (local.set 2)
            (call $check (local.get 2) (local.get 1))
            (br_if $again (i64.ne (local.tee 0 (i64.sub (local.get 0) (i64.const 1))) (i64.const 0)))))
    (func (export "local") (result externref) (local externref)
        (local.set 0 (call $make)) (call $gc) (local.get 0))
    (func (export "argument") (param externref) (result externref) (call $gc) (local.get 0))
    (func (export "global") (result externref)
        (global.set $g (call $make)) (call $gc) (global.get $g))
    (func (export "table") (result externref)
        (table.set $table (i32.const 3) (call $make)) (call $gc) (table.get $table (i32.const 3)))
    (func (export "payload") (result externref) (local exnref)
        (block $caught (result externref exnref)
            (try_table (catch_ref $t $caught) (throw $t (call $make)))
            (unreachable))
        (local.set 0) (drop) (call $gc)
        (block $caught (result externref)
            (try_table (catch $t $caught) (throw_ref (local.get 0)))
            (unreachable)))
    (func (export "clear")
        (global.set $g (ref.null extern)) (table.set $table (i32.const 3) (ref.null extern)))
    (func (export "take") (param externref)))"#;

fn with_externs(engine: &Engine) -> (Store<()>, Instance, Arc<AtomicUsize>) {
    let alive = Arc::new(AtomicUsize::new(0));
    let mut store = Store::new(engine, ());
    let make = {
        let alive = alive.clone();
        Func::wrap(&mut store, move || Some(Counted::make(&alive)))
    };
    let pair = {
        let alive = alive.clone();
        Func::wrap(&mut store, move |first: Option<ExternRef>| (first, Some(Counted::make(&alive))))
    };
    let check = Func::wrap(&mut store, |first: Option<ExternRef>, second: Option<ExternRef>| {
        let (first, second) = (first.expect("the object is there"), second.expect("the object is there"));
        assert!(!first.same(&second));
        assert!(first.data().is::<Counted>() && second.data().is::<Counted>());
    });
    let gc = Func::wrap(&mut store, |mut caller: Caller<'_, ()>| caller.gc());
    let instance = instantiate(&mut store, EXTERNS, &[make.into(), pair.into(), check.into(), gc.into()]);
    (store, instance, alive)
}

#[test]
fn host_objects_stay_while_something_refers_to_them() {
    for_each_engine_and_zeal(|engine| {
        let (mut store, instance, alive) = with_externs(engine);
        for export in ["local", "global", "table", "payload"] {
            for _ in 0..3 {
                let got = call::<_, (), Option<ExternRef>>(&mut store, instance, export, ()).unwrap();
                assert!(got.unwrap_or_else(|| panic!("{export}")).data().is::<Counted>());
            }
        }
        let object = Counted::make(&alive);
        let got = call::<_, _, Option<ExternRef>>(&mut store, instance, "argument", Some(object.clone())).unwrap();
        assert!(got.expect("an object").same(&object));
        call::<_, i64, ()>(&mut store, instance, "pairs", 10_000).unwrap();
        // The host's own reference keeps the object, not its place in the store.
        store.gc();
        assert_eq!((store.heap_stats().externs, alive.load(Ordering::Relaxed)), (2, 3));
        drop(object);
        assert_eq!(alive.load(Ordering::Relaxed), 2);
        call::<_, (), ()>(&mut store, instance, "clear", ()).unwrap();
        store.gc();
        assert_eq!((store.heap_stats().externs, alive.load(Ordering::Relaxed)), (0, 0));
    });
}

/// By every way into a store, far more host objects than could be kept.
#[test]
fn host_objects_go_by_themselves() {
    const MANY: usize = 100_000;
    for_each_engine(|engine| {
        let (mut store, instance, alive) = with_externs(engine);
        let few = |what: &str, alive: &Arc<AtomicUsize>| {
            let now = alive.load(Ordering::Relaxed);
            assert!(now < 20_000, "{what}: {now}");
        };
        call::<_, i64, ()>(&mut store, instance, "loop", MANY as i64).unwrap();
        few("results of host functions", &alive);
        let ty = GlobalType::new(ValType::EXTERNREF, Mutability::Var);
        let global = Global::new(&mut store, ty, Value::ExternRef(None)).unwrap();
        let ty = TableType::new(RefType::EXTERNREF, 1, None);
        let table = Table::new(&mut store, ty, Ref::Extern(None)).unwrap();
        let take = instance.get_typed_func::<Option<ExternRef>, ()>(&mut store, "take").unwrap();
        let in_closure = alive.clone();
        let ty = FuncType::new(store.engine(), [], [ValType::EXTERNREF]);
        let dynamic = Func::new(&mut store, ty, move |_: Caller<'_, ()>, _, results| {
            results[0] = Counted::make(&in_closure).into();
            Ok(())
        });
        type Way<'a> = &'a dyn Fn(&mut Store<()>, ExternRef);
        let ways: [(&str, Way<'_>); 6] = [
            ("global.set", &|store, object| global.set(store, object.into()).unwrap()),
            ("table.set", &|store, object| table.set(store, 0, object.into()).unwrap()),
            ("typed arguments", &|store, object| take.call(store, Some(object)).unwrap()),
            ("arguments", &|store, object| take.func().call(store, &[object.into()], &mut []).unwrap()),
            ("dynamic results", &|store, _| dynamic.call(store, &[], &mut [Value::ExternRef(None)]).unwrap()),
            ("none", &|_, _| ()),
        ];
        for (what, way) in ways {
            for _ in 0..MANY {
                way(&mut store, Counted::make(&alive));
            }
            few(what, &alive);
        }
        let wat = r#"(module (import "" "make" (func $make (result externref)))
            (func (export "run") (param i64)
                (loop $again
                    (drop (call $make))
                    (br_if $again (i64.ne (local.tee 0 (i64.sub (local.get 0) (i64.const 1))) (i64.const 0))))))"#;
        let calls_dynamic = instantiate(&mut store, wat, &[dynamic.into()]);
        call::<_, i64, ()>(&mut store, calls_dynamic, "run", MANY as i64).unwrap();
        few("results over values", &alive);
        drop(store);
        assert_eq!(alive.load(Ordering::Relaxed), 0);
    });
}

/// A throw may find them collectable, where none of the host's code can run.
#[test]
fn host_objects_go_when_a_call_ends() {
    for_each_engine(|engine| {
        let (mut store, instance, alive) = with_externs(engine);
        let throws = instantiate(
            &mut store,
            r#"(module (tag $t) (func (export "run") (param i32)
                (loop $again
                    (block $caught (try_table (catch $t $caught) (throw $t)))
                    (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))"#,
            &[],
        );
        call::<_, i64, ()>(&mut store, instance, "loop", 1000).unwrap();
        assert_eq!(alive.load(Ordering::Relaxed), 1000);
        call::<_, i32, ()>(&mut store, throws, "run", 300_000).unwrap();
        // Words that are left on the stack may keep a few.
        assert!(alive.load(Ordering::Relaxed) < 10, "{alive:?}");
    });
}

#[test]
fn a_host_object_that_panics_when_dropped_harms_nobody() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    for_each_engine_and_zeal(|engine| {
        let (mut store, instance, alive) = with_externs(engine);
        let panics = Func::wrap(&mut store, || Some(ExternRef::new(Panics)));
        let throws = instantiate(
            &mut store,
            r#"(module (import "" "panics" (func $panics (result externref))) (tag $t)
                (func (export "run") (param i32) (result i32)
                    (drop (call $panics)) (drop (call $panics))
                    (loop $again
                        (block $caught (try_table (catch $t $caught) (throw $t)))
                        (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
                    (i32.const 5)))"#,
            &[panics.into()],
        );
        // Two of them, and others: all are dropped, and one of the panics is seen. Where it is seen depends on when they are
        // collected.
        let result = catch_unwind(AssertUnwindSafe(|| {
            call::<_, i64, ()>(&mut store, instance, "loop", 100).unwrap();
            call::<_, i32, i32>(&mut store, throws, "run", 50_000).unwrap();
            store.gc();
        }));
        assert_eq!(result.unwrap_err().downcast_ref::<&str>(), Some(&"dropped"));
        while catch_unwind(AssertUnwindSafe(|| store.gc())).is_err() {}
        assert_eq!((store.heap_stats().externs, alive.load(Ordering::Relaxed)), (0, 0));
        call::<_, i64, ()>(&mut store, instance, "pairs", 100).unwrap();
        assert!(call::<_, (), Option<ExternRef>>(&mut store, instance, "global", ()).unwrap().is_some());
    });
}

/// When it is dropped it runs code of another store.
struct Runs(std::sync::Mutex<(Store<Option<Instance>>, Instance)>, Arc<AtomicUsize>);

impl Drop for Runs {
    fn drop(&mut self) {
        let (store, instance) = self.0.get_mut().unwrap();
        assert_eq!(call::<_, (), i64>(store, *instance, "locals", ()).unwrap(), SUM);
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_host_object_may_run_code_when_dropped() {
    for_each_engine_and_zeal(|engine| {
        let (mut store, instance, _) = with_externs(engine);
        let ran = Arc::new(AtomicUsize::new(0));
        let take = instance.get_typed_func::<Option<ExternRef>, ()>(&mut store, "take").unwrap();
        for _ in 0..5 {
            let object = ExternRef::new(Runs(collecting(engine).into(), ran.clone()));
            take.call(&mut store, Some(object)).unwrap();
        }
        store.gc();
        assert_eq!(ran.load(Ordering::Relaxed), 5);
    });
}

#[test]
fn references_of_the_host_may_outlive_the_store() {
    let (mut store, instance) = collecting(&Engine::new(Config::new().collect_always(true)).unwrap());
    let error = call::<_, i64, ()>(&mut store, instance, "throw", 1).unwrap_err();
    let ErrorKind::Exception(exception) = error.kind() else { panic!("{error}") };
    let exception: ExnRef = exception.clone();
    drop(store);
    let (mut store, instance) = collecting(&Engine::default());
    let value = instance.get_func(&mut store, "value").unwrap();
    let error = value.call(&mut store, &[exception.into()], &mut [Value::I64(0)]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Usage(_)), "{error}");
}
