//! Fuel: what code consumes, the same on every engine, and what happens when there is too little.

use crate::engines::{call, configs, instantiate};
use std::cell::RefCell;
use std::fmt::Debug;
use std::time::{Duration, Instant};
use wasmrun::{
    Caller, Config, Engine, Error, ErrorKind, Extern, Func, Instance, Linker, Module, Store, Strategy, Tiering, Trap,
    UpdateDeadline, WasiEnv,
};

/// Enough for every program here.
const MUCH: u64 = 1 << 40;

/// Every configuration, consuming fuel.
fn fuel_configs() -> Vec<Config> {
    let mut all = configs();
    all.iter_mut().for_each(|config| {
        config.consume_fuel(true);
    });
    all
}

/// Runs `test` on each engine, with fuel.
fn for_each_engine(test: impl Fn(&Engine)) {
    for config in fuel_configs() {
        println!("{config:?}");
        test(&Engine::new(&config).expect("the configuration works on this host"));
    }
}

/// A store with a lot of fuel.
fn fuelled<T>(engine: &Engine, data: T) -> Store<T> {
    let mut store = Store::new(engine, data);
    store.set_fuel(MUCH).unwrap();
    store
}

/// What calling export `f` with an argument consumes, and how it ends.
fn consumed<T>(store: &mut Store<T>, instance: Instance, argument: i32) -> (u64, Result<i32, Option<Trap>>) {
    store.set_fuel(MUCH).unwrap();
    let result = call::<_, i32, i32>(store, instance, "f", argument).map_err(|error| error.trap());
    (MUCH - store.get_fuel().unwrap(), result)
}

/// Checks what `f` of a module consumes for each argument, several times, as functions change engines meanwhile.
#[track_caller]
fn assert_consumed(wat: &str, expected: &[(i32, u64)]) {
    for_each_engine(|engine| {
        let mut store = fuelled(engine, ());
        let instance = instantiate(&mut store, wat, &[]);
        for _ in 0..4 {
            for (argument, units) in expected {
                assert_eq!(consumed(&mut store, instance, *argument).0, *units, "f({argument}) of {wat}");
            }
        }
    });
}

fn is_usage<T: Debug>(result: Result<T, Error>) -> bool {
    matches!(result.unwrap_err().kind(), ErrorKind::Usage(_))
}

#[test]
fn without_fuel_there_is_none() {
    for config in configs() {
        let engine = Engine::new(&config).unwrap();
        let mut store = Store::new(&engine, ());
        assert!(is_usage(store.get_fuel()) && is_usage(store.set_fuel(1)));
        let seen = Func::wrap(&mut store, |mut caller: Caller<'_, ()>| {
            assert!(is_usage(caller.get_fuel()) && is_usage(caller.set_fuel(1)));
            caller.consume_fuel(u64::MAX)
        });
        let wat = r#"(module (import "" "seen" (func $seen)) (func (export "f") (call $seen)))"#;
        let instance = instantiate(&mut store, wat, &[seen.into()]);
        call::<_, (), ()>(&mut store, instance, "f", ()).unwrap();
    }
}

#[test]
fn a_new_store_has_none() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        assert_eq!(store.get_fuel().unwrap(), 0);
        // Segments of the module are not paid for.
        let wat = r#"(module (memory 1) (data (i32.const 0) "much") (table 100 funcref) (elem (i32.const 0) $f $f)
            (func $f (export "f")))"#;
        let instance = instantiate(&mut store, wat, &[]);
        let error = call::<_, (), ()>(&mut store, instance, "f", ()).unwrap_err();
        assert_eq!(
            (error.trap(), error.to_string().as_str()),
            (Some(Trap::OutOfFuel), "all fuel consumed by WebAssembly")
        );
        store.set_fuel(1).unwrap();
        call::<_, (), ()>(&mut store, instance, "f", ()).unwrap();
        assert_eq!(store.get_fuel().unwrap(), 0);
        store.set_fuel(u64::MAX).unwrap();
        call::<_, (), ()>(&mut store, instance, "f", ()).unwrap();
        assert_eq!(store.get_fuel().unwrap(), u64::MAX - 1);
    });
}

/// By the price list, worked out by hand.
#[test]
fn instructions_cost_what_is_documented() {
    let f = |body: &str| format!(r#"(module (memory 1) (func (export "f") (param i32) (result i32) {body}))"#);
    // The function itself and one constant.
    assert_consumed(&f("(i32.const 0)"), &[(0, 2)]);
    assert_consumed(&f("nop nop (drop (i32.const 5)) (block (block nop)) (i32.const 0)"), &[(0, 3)]);
    assert_consumed(&f("(return (local.get 0))"), &[(0, 2)]);
    // Three instructions before the branch, which is the fourth; one after it.
    assert_consumed(
        &f("(block $out (result i32) (br_if $out (i32.const 7) (local.get 0)) (drop) (i32.const 8))"),
        &[(0, 1 + 3 + 1), (1, 1 + 3)],
    );
    assert_consumed(
        &f("(if (result i32) (local.get 0) (then (i32.add (local.get 0) (local.get 0))) (else (i32.const 1)))"),
        &[(0, 1 + 2 + 1), (1, 1 + 2 + 3)],
    );
    // An arm without a second one.
    assert_consumed(&f("(if (local.get 0) (then (drop (i32.const 1)))) (i32.const 1)"), &[(0, 4), (1, 5)]);
    // Each pass takes five: local.get, i32.const, i32.sub, local.tee, br_if.
    assert_consumed(
        &f("(loop $l (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))) (local.get 0)"),
        &[(1, 1 + 5 + 1), (10, 1 + 50 + 1), (5000, 1 + 25_000 + 1)],
    );
    // What can't be reached costs nothing.
    assert_consumed(
        &f(
            "(block $b (br $b) (loop (br 0)) (if (i32.const 1) (then) (else (br $b))) (drop (i32.const 1))) (i32.const 3)",
        ),
        &[(0, 1 + 1 + 1)],
    );
    assert_consumed(
        &f("(block $a (block $b (block $c (br_table $a $b $c (local.get 0))) (return (i32.const 1))) (return (i32.const 2)))
            (i32.const 3)"),
        &[(0, 1 + 2 + 1), (1, 1 + 2 + 1), (2, 1 + 2 + 1), (-1, 1 + 2 + 1)],
    );
    // Locals: 127 are one unit more, 128 two.
    for (locals, units) in [(63, 2), (64, 3), (127, 3), (128, 4)] {
        assert_consumed(&f(&format!("(local {}) (i32.const 0)", "i64 ".repeat(locals))), &[(0, units)]);
    }
}

/// A run of instructions is paid for before its first, whatever happens in its middle.
#[test]
fn a_trap_keeps_what_was_paid() {
    let wat = r#"(module (memory 1)
        (func (export "f") (param i32) (result i32)
            (block $b (br_if $b (i32.eqz (local.get 0))))
            (i32.store (i32.const 0) (i32.const 1))
            (drop (i32.div_u (i32.const 1) (local.get 0)))
            (drop (i32.load (local.get 0)))
            (i32.const 1)))"#;
    for_each_engine(|engine| {
        let mut store = fuelled(engine, ());
        let instance = instantiate(&mut store, wat, &[]);
        for _ in 0..3 {
            assert_eq!(consumed(&mut store, instance, 8), (1 + 3 + 9, Ok(1)));
            assert_eq!(consumed(&mut store, instance, 0), (1 + 3 + 9, Err(Some(Trap::IntegerDivisionByZero))));
            assert_eq!(consumed(&mut store, instance, -1), (1 + 3 + 9, Err(Some(Trap::MemoryOutOfBounds))));
        }
    });
}

#[test]
fn calls_of_all_kinds_are_paid() {
    // Direct, indirect, imported from another instance, and tail calls of each.
    let other = r#"(module (func (export "g") (param i32) (result i32) (i32.add (local.get 0) (i32.const 1))))"#;
    let wat = r#"(module
        (type $t (func (param i32) (result i32)))
        (import "" "g" (func $g (type $t)))
        (table funcref (elem $own $g))
        (func $own (type $t) (i32.add (local.get 0) (i32.const 1)))
        (func $direct (type $t) (return_call $own (local.get 0)))
        (func $across (type $t) (return_call $g (local.get 0)))
        (func $through (type $t) (return_call_indirect (type $t) (local.get 0) (i32.const 1)))
        (func (export "f") (type $t)
            (call $own (local.get 0)) (call $g) (call $direct) (call $across) (call $through)
            (call_indirect (type $t) (i32.const 0)) (call_indirect (type $t) (i32.const 1))))"#;
    // Two functions that only add cost 4; each tail call adds an entry, an operand and itself, or two operands.
    let expected = 1 + 10 + 4 + 4 + (3 + 4) + (3 + 4) + (4 + 4) + 4 + 4;
    for_each_engine(|engine| {
        let mut store = fuelled(engine, ());
        let other = instantiate(&mut store, other, &[]);
        let g = other.get_export(&mut store, "g").unwrap();
        let instance = instantiate(&mut store, wat, &[g]);
        for _ in 0..4 {
            assert_eq!(consumed(&mut store, instance, 5), (expected, Ok(12)));
        }
    });
}

#[test]
fn exceptions_are_paid_where_they_arrive() {
    let wat = r#"(module
        (tag $e (param i32))
        (func $throws (param i32) (throw $e (local.get 0)))
        (func (export "f") (param i32) (result i32) (local i32)
            (loop $again
                (local.set 1 (i32.add (local.get 1) (block $caught (result i32)
                    (try_table (catch $e $caught) (call $throws (local.get 0)))
                    (unreachable))))
                (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
            ;; Caught in the function that throws, at a loop.
            (loop $here
                (br_if $here (i32.eqz (local.tee 0 (i32.add (local.get 0) (i32.const 1)))))
                (if (i32.lt_u (local.get 0) (i32.const 3)) (then
                    (try_table (catch_all $here) (throw $e (i32.const 1))))))
            (local.get 1)))"#;
    // A pass: local.get, try_table, local.get, call; the callee 1 + 2; add, local.set, and five for the end of the loop.
    let pass = 4 + 3 + 2 + 5;
    // Then 0 to 3: each time local.get, const, add, tee, eqz, br_if, local.get, const, lt_u, if; try_table, const, throw.
    let end = 3 * 10 + 2 * 3;
    assert_consumed(wat, &[(1, 1 + pass + end + 1), (6, 1 + 6 * pass + end + 1), (300, 1 + 300 * pass + end + 1)]);
}

#[test]
fn legacy_exceptions_are_paid_where_they_arrive() {
    let wat = r#"(module
        (tag $e (param i32)) (tag $other)
        (func $throws (param i32) (throw $e (local.get 0)))
        (func (export "f") (param i32) (result i32)
            try (result i32)
                try (result i32) local.get 0 call $throws i32.const 1
                catch $other i32.const 2
                end
            catch $e
                i32.const 3 i32.add
                try nop delegate 0
                try br 0 catch_all rethrow 0 end
            end))"#;
    // Entry, two trys, local.get, call; the callee's entry, local.get, throw; const, add, try, try, br.
    assert_consumed(wat, &[(1, 5 + 3 + 5), (9, 5 + 3 + 5)]);
}

#[test]
fn calls_and_branches_by_references_cost_as_others() {
    let wat = r#"(module
        (type $f (func (param i32) (result i32)))
        (elem declare func $callee)
        (func $callee (type $f) (local.get 0))
        (func (export "f") (param i32) (result i32) (local $r (ref null $f))
            (if (local.get 0) (then (local.set $r (ref.func $callee))))
            (block $null
                (br_on_null $null (local.get $r))
                (local.set $r (ref.as_non_null))
                (return (call_ref $f (i32.const 9) (local.get $r))))
            (i32.const 5)))"#;
    // Entry, local.get, if, local.get, br_on_null; then the arm, what follows the branch, and the callee.
    assert_consumed(wat, &[(0, 5 + 1), (1, 5 + 2 + 5 + 2)]);
}

#[test]
fn bulk_instructions_cost_by_size() {
    let f = |body: &str| {
        format!(
            r#"(module (memory 2 4) (table $t 1000 1200 funcref) (elem $e func $g $g $g $g $g $g $g $g $g) (func $g)
            (data $d "{}")
            (func (export "f") (param i32) (result i32) {body} (i32.const 0)))"#,
            "x".repeat(1000)
        )
    };
    // Each has three operands: five with the instruction and the function, six with the result.
    let base = 1 + 4 + 1;
    let bytes: Vec<(i32, u64)> =
        [0, 1, 63, 64, 65, 127, 128, 999].map(|length| (length, base + length as u64 / 64)).to_vec();
    for body in [
        "(memory.fill (i32.const 5) (i32.const 1) (local.get 0))",
        "(memory.copy (i32.const 70000) (i32.const 0) (local.get 0))",
        "(memory.init $d (i32.const 7) (i32.const 0) (local.get 0))",
    ] {
        assert_consumed(&f(body), &bytes);
    }
    // Constant lengths, which compiled code may do inline.
    for length in [1u64, 63, 64, 65, 128] {
        let fill = format!("(memory.fill (i32.const 5) (i32.const 1) (i32.const {length}))");
        let copy = format!("(memory.copy (i32.const 5) (local.get 0) (i32.const {length}))");
        assert_consumed(&f(&fill), &[(0, base + length / 64)]);
        assert_consumed(&f(&copy), &[(0, base + length / 64), (100, base + length / 64)]);
    }
    let elements: Vec<(i32, u64)> = [0, 7, 8, 9].map(|length| (length, base + length as u64 / 8)).to_vec();
    for body in [
        "(table.fill $t (i32.const 5) (ref.null func) (local.get 0))",
        "(table.copy $t $t (i32.const 500) (i32.const 0) (local.get 0))",
        "(table.init $t $e (i32.const 7) (i32.const 0) (local.get 0))",
    ] {
        assert_consumed(&f(body), &elements);
    }
    // What is out of bounds costs as an instruction does, however large.
    for body in [
        "(memory.fill (i32.const 5) (i32.const 1) (local.get 0))",
        "(memory.copy (i32.const 5) (i32.const 1) (local.get 0))",
        "(memory.init $d (i32.const 5) (i32.const 1) (local.get 0))",
        "(table.fill $t (i32.const 5) (ref.null func) (local.get 0))",
        "(table.copy $t $t (i32.const 5) (i32.const 1) (local.get 0))",
        "(table.init $t $e (i32.const 5) (i32.const 1) (local.get 0))",
    ] {
        assert_consumed(&f(body), &[(-1, base), (1 << 20, base)]);
    }
}

#[test]
fn growth_costs_if_it_happens() {
    let wat = r#"(module (memory 1 4) (table $t 8 40 funcref)
        (func (export "f") (param i32) (result i32) (memory.grow (local.get 0)))
        (func (export "t") (param i32) (result i32) (table.grow $t (ref.null func) (local.get 0))))"#;
    for_each_engine(|engine| {
        let mut store = fuelled(engine, ());
        let instance = instantiate(&mut store, wat, &[]);
        for (pages, cost, result) in
            [(0, 3, 1), (4, 3, -1), (1, 3 + 1024, 1), (2, 3 + 2048, 2), (1, 3, -1), (-1, 3, -1), (0, 3, 4)]
        {
            assert_eq!(consumed(&mut store, instance, pages), (cost, Ok(result)));
        }
        for (elements, cost, result) in [(33, 4, -1), (7, 4, 8), (8, 5, 15), (17, 6, 23), (1, 4, -1), (-1, 4, -1)] {
            store.set_fuel(MUCH).unwrap();
            assert_eq!(call::<_, i32, i32>(&mut store, instance, "t", elements).unwrap(), result);
            assert_eq!(MUCH - store.get_fuel().unwrap(), cost, "{elements}");
        }
    });
}

/// Too little for the size: nothing is done, and nothing is left.
#[test]
fn what_is_too_large_for_the_fuel_is_not_begun() {
    let wat = r#"(module (memory (export "memory") 1 4) (table (export "table") 16 32 funcref) (func $g)
        (func (export "fill") (memory.fill (i32.const 0) (i32.const 1) (i32.const 640)))
        (func (export "copy") (memory.copy (i32.const 0) (i32.const 1000) (i32.const 640)))
        (func (export "grow") (drop (memory.grow (i32.const 1))))
        (func (export "table_fill") (table.fill (i32.const 0) (ref.func $g) (i32.const 16)))
        (func (export "table_grow") (drop (table.grow (ref.null func) (i32.const 16))))
        (elem declare func $g) (data (i32.const 1000) "some bytes"))"#;
    for_each_engine(|engine| {
        let mut store = fuelled(engine, ());
        let instance = instantiate(&mut store, wat, &[]);
        for (name, units) in [("fill", 15), ("copy", 15), ("grow", 3 + 1024), ("table_fill", 7), ("table_grow", 6)] {
            for _ in 0..3 {
                store.set_fuel(units - 1).unwrap();
                let error = call::<_, (), ()>(&mut store, instance, name, ()).unwrap_err();
                assert_eq!((error.trap(), store.get_fuel().unwrap()), (Some(Trap::OutOfFuel), 0), "{name}");
                let memory = instance.get_memory(&mut store, "memory").unwrap();
                assert!(memory.size(&store) == 1 && memory.data(&store)[..640].iter().all(|byte| *byte == 0), "{name}");
                let table = instance.get_table(&mut store, "table").unwrap();
                assert_eq!(table.size(&store), 16, "{name}");
                assert!(matches!(table.get(&store, 0), Some(wasmrun::Ref::Func(None))), "{name}");
            }
        }
        for (name, units) in [("fill", 15), ("copy", 15), ("grow", 3 + 1024), ("table_fill", 7), ("table_grow", 6)] {
            store.set_fuel(units).unwrap();
            call::<_, (), ()>(&mut store, instance, name, ()).unwrap();
            assert_eq!(store.get_fuel().unwrap(), 0, "{name}");
        }
    });
}

/// Host functions see what is left, and change it, in the middle of everything.
#[test]
fn host_functions_see_and_set_fuel() {
    let wat = r#"(module
        (import "" "look" (func $look (param i32 i64) (result f64)))
        (import "" "vector" (func $vector (param v128)))
        (import "" "set" (func $set (param i64)))
        (import "" "take" (func $take (param i64)))
        (func $inner (param i32) (drop (call $look (local.get 0) (i64.const 0))))
        (func (export "f") (param i32) (result i32)
            (loop $l
                (call $inner (local.get 0))
                (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
            (call $vector (v128.const i64x2 0 0))
            (call $set (i64.const 100))
            (drop (call $look (i32.const 0) (i64.const 0)))
            (call $take (i64.const 50))
            (drop (call $look (i32.const 0) (i64.const 0)))
            (i32.const 1)))"#;
    for_each_engine(|engine| {
        let mut store = fuelled(engine, Vec::<u64>::new());
        let look = |mut caller: Caller<'_, Vec<u64>>, _: i32, _: i64| {
            let left = caller.get_fuel().unwrap();
            caller.data_mut().push(left);
            0.0f64
        };
        let set = |mut caller: Caller<'_, Vec<u64>>, fuel: i64| caller.set_fuel(fuel as u64).unwrap();
        let take = |mut caller: Caller<'_, Vec<u64>>, fuel: i64| caller.consume_fuel(fuel as u64);
        let imports: Vec<Extern> = vec![
            Func::wrap(&mut store, look).into(),
            Func::wrap(&mut store, |_: Caller<'_, Vec<u64>>, _: u128| {}).into(),
            Func::wrap(&mut store, set).into(),
            Func::wrap(&mut store, take).into(),
        ];
        let instance = instantiate(&mut store, wat, &imports);
        for _ in 0..3 {
            store.data_mut().clear();
            let (_, result) = consumed(&mut store, instance, 40);
            assert_eq!(result, Ok(1));
            let mut expected = Vec::new();
            let mut left = MUCH - 1;
            for _ in 0..40 {
                // local.get and call; the entry, two operands and the call; the host function with three slots.
                left -= 2 + 4 + 4;
                expected.push(left);
                left -= 4 + 1;
            }
            // After `set`: two constants, the call, four for the host function.
            expected.push(100 - 3 - 4);
            // A constant, the call, two for the host function and 50, then the same as before.
            expected.push(93 - 2 - 2 - 50 - 3 - 4);
            assert_eq!(*store.data(), expected);
            assert_eq!(store.get_fuel().unwrap(), 32 - 1);
        }
        // Called by the host a host function costs nothing.
        store.set_fuel(0).unwrap();
        let Extern::Func(look) = imports[0] else { unreachable!() };
        look.typed::<(i32, i64), f64>(&store).unwrap().call(&mut store, (0, 0)).unwrap();
        assert_eq!(store.data().last(), Some(&0));
    });
}

#[test]
fn each_store_has_its_own() {
    let wat = r#"(module (func (export "f") (param i32) (result i32)
        (loop $l (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))) (local.get 0)))"#;
    for_each_engine(|engine| {
        let module = Module::new(engine, wat).unwrap();
        let mut stores: Vec<_> = (0..3).map(|_| Store::new(engine, ())).collect();
        let instances: Vec<_> = stores.iter_mut().map(|store| Instance::new(store, &module, &[]).unwrap()).collect();
        for (i, store) in stores.iter_mut().enumerate() {
            store.set_fuel(1000 * i as u64).unwrap();
        }
        for _ in 0..3 {
            for (store, instance) in stores.iter_mut().zip(&instances) {
                let _ = call::<_, i32, i32>(store, *instance, "f", 60);
            }
        }
        // Each call takes 302.
        let left: Vec<_> = stores.iter().map(|store| store.get_fuel().unwrap()).collect();
        assert_eq!(left, [0, 1000 - 906, 2000 - 906]);
    });
}

/// What the guest does that a host function calls is paid for by the same fuel; the function may go on when there is none.
#[test]
fn hosts_that_call_back_consume_the_same_fuel() {
    let wat = r#"(module
        (import "" "back" (func $back (param i32) (result i32)))
        (func (export "spin") (param i32) (result i32)
            (loop $l (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))) (local.get 0))
        (func (export "f") (param i32) (result i32)
            (i32.add (call $back (local.get 0)) (call $back (i32.const 1)))))"#;
    for_each_engine(|engine| {
        let mut store = fuelled(engine, Vec::<u64>::new());
        let back = Func::wrap(&mut store, |mut caller: Caller<'_, Vec<u64>>, passes: i32| {
            let spin = caller.get_export("spin").unwrap().into_func().unwrap();
            let result = spin.typed::<i32, i32>(&caller)?.call(&mut caller, passes);
            let left = caller.get_fuel()?;
            caller.data_mut().push(left);
            match result {
                Err(error) if error.trap() == Some(Trap::OutOfFuel) => {
                    caller.set_fuel(100)?;
                    Ok(1)
                }
                other => other,
            }
        });
        let instance = instantiate(&mut store, wat, &[back.into()]);
        // f, local.get, call, and three for the host; spin's 2 and 5 a pass; again a constant and the call, and add.
        let (first, second) = (1 + 2 + 3, 2 + 3);
        for _ in 0..3 {
            store.data_mut().clear();
            assert_eq!(consumed(&mut store, instance, 50), (first + 252 + second + 7 + 1, Ok(0)));
            assert_eq!(*store.data(), [MUCH - first - 252, MUCH - first - 252 - second - 7]);
            store.data_mut().clear();
            store.set_fuel(200).unwrap();
            assert_eq!(call::<_, i32, i32>(&mut store, instance, "f", 50).unwrap(), 1);
            assert_eq!((&store.data()[..], store.get_fuel().unwrap()), (&[0, 100 - second - 7][..], 100 - second - 8));
        }
    });
}

/// Handlers of exceptions don't see it.
#[test]
fn code_cannot_catch_that_there_is_none() {
    let wat = r#"(module
        (func $spin (loop $l (br $l)))
        (func (export "f") (param i32) (result i32)
            (loop $again
                (block $caught (try_table (catch_all $caught) (call $spin)))
                (br $again))
            (i32.const 1)))"#;
    for_each_engine(|engine| {
        let mut store = fuelled(engine, ());
        let instance = instantiate(&mut store, wat, &[]);
        for fuel in [0, 1, 2, 3, 1000, 1000] {
            store.set_fuel(fuel).unwrap();
            let error = call::<_, i32, i32>(&mut store, instance, "f", 0).unwrap_err();
            assert_eq!((error.trap(), store.get_fuel().unwrap()), (Some(Trap::OutOfFuel), 0));
        }
    });
}

/// Amounts near the largest number are numbers like others.
#[test]
fn no_amount_is_too_large() {
    let wat = r#"(module
        (import "" "take" (func $take (param i64)))
        (memory 1 2)
        (func (export "f") (param i32) (result i32) (call $take (i64.const -8)) (memory.grow (local.get 0))))"#;
    struct Limits;
    impl wasmrun::ResourceLimiter for Limits {
        fn memory_growing(&mut self, current: usize, _: usize, _: Option<usize>) -> wasmrun::Result<bool> {
            Ok(current == 0)
        }
        fn table_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> wasmrun::Result<bool> {
            Ok(true)
        }
    }
    for_each_engine(|engine| {
        let mut store = fuelled(engine, Limits);
        store.limiter(|limits| limits);
        let take = Func::wrap(&mut store, |mut caller: Caller<'_, Limits>, fuel: i64| caller.consume_fuel(fuel as u64));
        let instance = instantiate(&mut store, wat, &[take.into()]);
        for _ in 0..3 {
            // The function, a constant, the call, two for the host: two are left of the seven that it does not take.
            store.set_fuel(u64::MAX).unwrap();
            assert_eq!(call::<_, i32, i32>(&mut store, instance, "f", 2).unwrap(), -1);
            assert_eq!(store.get_fuel().unwrap(), 7 - 5 - 2);
            store.set_fuel(u64::MAX - 1).unwrap();
            let error = call::<_, i32, i32>(&mut store, instance, "f", 2).unwrap_err();
            assert_eq!((error.trap(), store.get_fuel().unwrap()), (Some(Trap::OutOfFuel), 0));
        }
        // What the limiter refuses is paid back, all of it.
        let wat = r#"(module (memory 1 2) (func (export "f") (param i32) (result i32) (memory.grow (local.get 0))))"#;
        let instance = instantiate(&mut store, wat, &[]);
        assert_eq!(consumed(&mut store, instance, 1), (3, Ok(-1)));
        store.set_fuel(u64::MAX).unwrap();
        assert_eq!(call::<_, i32, i32>(&mut store, instance, "f", 1).unwrap(), -1);
        assert_eq!(store.get_fuel().unwrap(), u64::MAX - 3);
    });
}

/// A callback that comes to the running code at the head of a loop, between two charges, may set what is left.
#[test]
fn callbacks_of_epochs_set_fuel() {
    let wat = r#"(module
        (import "" "tick" (func $tick))
        (func (export "f") (param i32) (result i32)
            (loop $l
                (if (i32.eq (local.get 0) (i32.const 30)) (then (call $tick)))
                (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
            (local.get 0)))"#;
    for mut config in fuel_configs() {
        println!("{config:?}");
        let engine = Engine::new(config.epoch_interruption(true)).unwrap();
        let mut store = fuelled(&engine, 0);
        let tick = Func::wrap(&mut store, |caller: Caller<'_, u32>| caller.engine().increment_epoch());
        store.epoch_deadline_callback(|mut store| {
            *store.data_mut() += 1;
            store.set_fuel(100)?;
            Ok(UpdateDeadline::Continue(1))
        });
        let instance = instantiate(&mut store, wat, &[tick.into()]);
        for round in 1..5 {
            store.set_epoch_deadline(1);
            // 29 passes take 9 each.
            let (left, result) = consumed(&mut store, instance, 40);
            assert_eq!((left, result, *store.data()), (MUCH, Err(Some(Trap::OutOfFuel)), round));
        }
        // With fuel and a deadline, what comes first ends the code.
        let f = instance.get_typed_func::<i32, i32>(&mut store, "f").unwrap();
        store.set_epoch_deadline(u64::MAX);
        store.set_fuel(MUCH).unwrap();
        store.set_deadline(Instant::now() + Duration::from_millis(20)).unwrap();
        assert_eq!(f.call(&mut store, -1).unwrap_err().trap(), Some(Trap::Deadline));
        let left = store.get_fuel().unwrap();
        assert!(left > 0 && left < MUCH - 9);
        store.set_deadline(Instant::now() + Duration::from_secs(3600)).unwrap();
        store.set_fuel(10_000).unwrap();
        assert_eq!(f.call(&mut store, -1).unwrap_err().trap(), Some(Trap::OutOfFuel));
    }
}

#[test]
fn a_start_function_needs_fuel() {
    for_each_engine(|engine| {
        let module = Module::new(engine, "(module (func $s (drop (i32.const 1))) (start $s))").unwrap();
        let mut store = Store::new(engine, ());
        let error = Instance::new(&mut store, &module, &[]).unwrap_err();
        assert_eq!((error.trap(), error.backtrace()[0].func_name()), (Some(Trap::OutOfFuel), Some("s")));
        store.set_fuel(3).unwrap();
        Instance::new(&mut store, &module, &[]).unwrap();
        assert_eq!(store.get_fuel().unwrap(), 1);
    });
}

/// The backtrace names the first instruction that was not paid for.
#[test]
fn a_backtrace_says_where_fuel_ran_out() {
    let bytes = wat::parse_str(
        r#"(module
            (func $inner (param i32) (result i32)
                (loop $l (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
                (local.get 0))
            (func (export "f") (param i32) (result i32) (call $inner (local.get 0))))"#,
    )
    .unwrap();
    let reference = RefCell::new(None);
    for_each_engine(|engine| {
        let mut store = fuelled(engine, ());
        let instance = Instance::new(&mut store, &Module::new(engine, &bytes).unwrap(), &[]).unwrap();
        let mut seen = Vec::new();
        for _ in 0..2 {
            for fuel in [0, 1, 3, 4, 8, 9, 20, 200, 1000] {
                store.set_fuel(fuel).unwrap();
                let error = call::<_, i32, i32>(&mut store, instance, "f", 1000).unwrap_err();
                assert_eq!(error.trap(), Some(Trap::OutOfFuel));
                let frames: Vec<_> =
                    error.backtrace().iter().map(|frame| (frame.func_index(), frame.module_offset())).collect();
                seen.push(frames);
            }
        }
        // f's first, inner's first, the loop's first.
        let innermost: Vec<usize> = seen[..9].iter().map(|frames| frames[0].1).collect();
        assert_eq!(seen[..9].iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 2, 2, 2, 2, 2, 2, 2]);
        assert!(innermost[1] == innermost[0] && innermost[2] != innermost[0]);
        assert!(innermost[4..].iter().all(|offset| *offset == innermost[2] + 2), "{innermost:?}");
        assert_eq!(seen[..9], seen[9..]);
        let seen = seen.into_iter().take(9).collect::<Vec<_>>();
        assert_eq!(*reference.borrow_mut().get_or_insert_with(|| seen.clone()), seen);
    });
}

/// A program of all sorts of control, whose effects are in its memory and globals.
const PROGRAM: &str = r#"(module
    (import "" "note" (func $note (param i32)))
    (memory (export "memory") 1 2) (table 4 8 funcref) (elem (i32.const 0) $square $throws $tail)
    (global $g (export "g") (mut i32) (i32.const 0))
    (tag $e (param i32))
    (type $t (func (param i32) (result i32)))
    (func $count (global.set $g (i32.add (global.get $g) (i32.const 1))))
    (func $square (type $t)
        (call $count)
        (i32.store (i32.const 16) (i32.mul (local.get 0) (local.get 0)))
        (i32.load (i32.const 16)))
    (func $throws (type $t)
        (if (i32.and (local.get 0) (i32.const 1)) (then (throw $e (local.get 0))))
        (i32.store8 (local.get 0) (i32.const 7))
        (local.get 0))
    (func $tail (type $t)
        (if (i32.eqz (local.get 0)) (then (return (call $square (i32.const 3)))))
        (call $count)
        (return_call $tail (i32.sub (local.get 0) (i32.const 1))))
    (func $pair (param i32) (result i32 i32) (local.get 0) (i32.add (local.get 0) (i32.const 1)))
    (func (export "f") (type $t) (local $i i32) (local $sum i32)
        (loop $l
            (local.set $sum (i32.add (local.get $sum)
                (block $caught (result i32)
                    (try_table (result i32) (catch $e $caught)
                        (call_indirect (type $t) (local.get $i) (i32.rem_u (local.get $i) (i32.const 3)))))))
            (block $a (block $b (block $c
                (br_table $a $b $c (i32.and (local.get $i) (i32.const 3))))
                (memory.fill (i32.const 256) (local.get $i) (i32.const 200))
                (br $a))
                (memory.copy (i32.const 600) (i32.const 256) (i32.mul (local.get $i) (i32.const 20))))
            (local.set $sum (i32.add (local.get $sum) (i32.add (call $pair (local.get $i)))))
            (i32.store offset=1000 (i32.shl (local.get $i) (i32.const 2)) (local.get $sum))
            (if (i32.eq (local.get $i) (i32.const 4)) (then (call $note (local.get $sum))))
            (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get 0))))
        (table.fill (i32.const 3) (ref.null func) (i32.const 1))
        (drop (i32.div_u (i32.const 1) (i32.sub (local.get 0) (i32.const 9))))
        (local.get $sum)))"#;

/// How a run of the program ended, what was left, and what it did: notes of the host with the fuel that it saw, the global, the
/// memory's first bytes.
type Run = (Result<i32, Option<Trap>>, u64, Vec<(i32, u64)>, i32, Vec<u8>);

fn run(engine: &Engine, module: &Module, fuel: u64, argument: i32) -> Run {
    let mut store = Store::new(engine, Vec::new());
    let note = Func::wrap(&mut store, |mut caller: Caller<'_, Vec<(i32, u64)>>, sum: i32| {
        let left = caller.get_fuel().unwrap();
        caller.data_mut().push((sum, left));
    });
    let instance = Instance::new(&mut store, module, &[note.into()]).unwrap();
    store.set_fuel(fuel).unwrap();
    let result = call::<_, i32, i32>(&mut store, instance, "f", argument).map_err(|error| error.trap());
    let memory = instance.get_memory(&mut store, "memory").unwrap().data(&store)[..2000].to_vec();
    let wasmrun::Value::I32(global) = instance.get_global(&mut store, "g").unwrap().get(&store) else { unreachable!() };
    (result, store.get_fuel().unwrap(), store.into_data(), global, memory)
}

/// With every amount of fuel from none to enough, all engines do the same before it runs out.
#[test]
fn fuel_runs_out_at_the_same_place_everywhere() {
    let mut config = Config::new();
    let engine = Engine::new(config.strategy(Strategy::Interpreter).consume_fuel(true)).unwrap();
    let module = Module::new(&engine, PROGRAM).unwrap();
    for argument in [8, 9] {
        let enough = MUCH - run(&engine, &module, MUCH, argument).1;
        let expected: Vec<Run> = (0..=enough).map(|fuel| run(&engine, &module, fuel, argument)).collect();
        let (last, others) = expected.split_last().unwrap();
        assert_eq!(last.0.is_err(), argument == 9);
        assert!(others.iter().all(|run| run.0 == Err(Some(Trap::OutOfFuel)) && run.1 == 0));
        assert!(enough > 400 && last.1 == 0 && last.2.len() == 1, "{enough}");
        // It gets further with more fuel.
        assert!(expected.windows(2).all(|runs| runs[0].3 <= runs[1].3));
        for_each_engine(|engine| {
            let module = Module::new(engine, PROGRAM).unwrap();
            for (fuel, expected) in (0..).zip(&expected) {
                let seen = run(engine, &module, fuel, argument);
                assert!(seen == *expected, "with {fuel} units: {:?} but {:?}", &seen, expected);
            }
        });
    }
}

/// A frame that goes from bytecode to native code in the middle of its loop pays for each pass once.
#[test]
fn passes_are_paid_once_where_frames_change_engines() {
    let wat = r#"(module (memory 1) (func (export "f") (param i32) (result i32) (local i32)
        (loop $outer
            (local.set 1 (i32.const 3))
            (loop $inner
                (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (local.get 1)))
                (br_if $inner (local.tee 1 (i32.sub (local.get 1) (i32.const 1)))))
            (br_if $outer (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
        (i32.load (i32.const 0))))"#;
    let mut config = Config::new();
    config.strategy(Strategy::Tiered).consume_fuel(true);
    // Enough passes to be compiled in the background, at a time that nobody knows.
    for tiering in [Tiering::Measured, Tiering::AtLoops, Tiering::AtOnce, Tiering::BaselineAtLoops] {
        let engine = Engine::new(config.tiering(tiering)).unwrap();
        let mut store = fuelled(&engine, ());
        let instance = instantiate(&mut store, wat, &[]);
        let passes = if tiering == Tiering::Measured { 20_000_000 } else { 300_000 };
        let (units, result) = consumed(&mut store, instance, passes);
        assert_eq!((units, result), (1 + passes as u64 * (2 + 3 * 11 + 5) + 2, Ok(6 * passes)));
        assert_eq!(engine.stats().loops_entered > 0, Engine::has_jit(), "{tiering:?}");
    }
}

/// A call of WASI costs by the bytes that it is to move, before it moves them.
#[test]
fn wasi_is_paid_by_size() {
    let wat = r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
        (memory (export "memory") 2)
        (func (export "write") (param i32 i32) (result i32)
            (i32.store (i32.const 0) (i32.const 100)) (i32.store (i32.const 4) (local.get 0))
            (i32.store (i32.const 8) (i32.const 50)) (i32.store (i32.const 12) (local.get 1))
            (call $fd_write (i32.const 1) (i32.const 0) (i32.const 2) (i32.const 16)))
        (func (export "random") (param i32 i32) (result i32) (call $random_get (local.get 0) (local.get 1))))"#;
    let write_cost = 1 + 12 + 4 + 1 + (1 + 5);
    let random_cost = 1 + 2 + 1 + (1 + 3);
    for_each_engine(|engine| {
        let module = Module::new(engine, wat).unwrap();
        for of_store in [false, true] {
            let shared = std::sync::Arc::new(std::sync::Mutex::new(WasiEnv::new()));
            let mut linker = Linker::new(engine);
            match of_store {
                true => wasmrun::wasi::add_to_linker(&mut linker, |env: &mut WasiEnv| env).unwrap(),
                false => wasmrun::add_wasi_to_linker(&mut linker, shared.clone()).unwrap(),
            }
            let mut store = Store::new(engine, WasiEnv::new());
            let instance = linker.instantiate(&mut store, &module).unwrap();
            let mut cost = |name: &str, first: i32, second: i32, fuel: u64| {
                store.set_fuel(fuel).unwrap();
                let result = call::<_, (i32, i32), i32>(&mut store, instance, name, (first, second));
                (result.map_err(|error| error.trap()), fuel - store.get_fuel().unwrap())
            };
            for _ in 0..3 {
                // No bytes; 8 and 56 are less than 64 in all, 100,000 and 28 more.
                assert_eq!(cost("write", 0, 0, MUCH), (Ok(0), write_cost));
                assert_eq!(cost("write", 8, 55, MUCH), (Ok(0), write_cost));
                assert_eq!(cost("write", 8, 56, MUCH), (Ok(0), write_cost + 1));
                assert_eq!(cost("write", 100_000, 28, MUCH), (Ok(0), write_cost + 1562));
                // EFAULT: the second is not in memory.
                assert_eq!(cost("write", 640, -1, MUCH), (Ok(21), write_cost));
                assert_eq!(cost("random", 0, 6400, MUCH), (Ok(0), random_cost + 100));
                assert_eq!(cost("random", 0, -1, MUCH), (Ok(21), random_cost));
                assert_eq!(cost("random", 0, 6400, random_cost + 99).0, Err(Some(Trap::OutOfFuel)));
            }
            let env = if of_store { store.into_data() } else { std::mem::take(&mut *shared.lock().unwrap()) };
            assert_eq!(env.get_stdout().len(), 3 * (63 + 64 + 100_028));
        }
    });
}
