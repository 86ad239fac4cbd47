//! Tiering: the same results whenever native code takes over, and nothing left behind.

#[path = "semantics/engines.rs"]
#[allow(dead_code, reason = "a part of it is needed")]
mod engines;

use engines::{call, instantiate, setup};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use wasmrun::{Config, Engine, Error, Func, Module, Store, Strategy, Tiering, Trap};

fn engine(tiering: Tiering) -> Engine {
    Engine::new(Config::new().strategy(Strategy::Tiered).tiering(tiering)).unwrap()
}

fn interpreter() -> Engine {
    Engine::new(Config::new().strategy(Strategy::Interpreter)).unwrap()
}

const EAGER: [Tiering; 4] = [Tiering::AtOnce, Tiering::AtLoops, Tiering::Baseline, Tiering::BaselineAtLoops];

/// Those in which each loop is native at its first pass.
const LOOPS: [Tiering; 3] = [Tiering::AtOnce, Tiering::AtLoops, Tiering::BaselineAtLoops];

/// Nested loops with operands of all types below them, which are used after.
const NESTED: &str = r#"(module
    (memory 1)
    (func $mix (param i64 i32) (result i64)
        (i64.add (i64.mul (local.get 0) (i64.const 31)) (i64.extend_i32_u (local.get 1))))
    (func (export "run") (param $n i32) (result i64 f64 i32)
        (local $i i32) (local $j i32) (local $sum i64) (local $v v128)
        (i64.const -7)
        (f64.convert_i32_s (local.get $n))
        (i32.const 40)
        (block $out (param i32) (result i32)
            (loop $outer (param i32) (result i32)
                (br_if $out (i32.ge_u (local.get $i) (local.get $n)))
                (local.set $j (i32.const 0))
                (f32.const 1.5)
                (v128.const i32x4 1 2 3 4)
                (loop $inner
                    (local.set $sum (call $mix (local.get $sum) (i32.add (local.get $i) (local.get $j))))
                    (local.set $v (i32x4.add (local.get $v) (i32x4.splat (local.get $j))))
                    (br_if $inner (i32.lt_u (local.tee $j (i32.add (local.get $j) (i32.const 1))) (i32.const 20))))
                (local.set $v (i32x4.add (local.get $v)))
                (i32.trunc_f32_s (f32.mul (f32.const 2)))
                (i32.add)
                (local.set $i (i32.add (local.get $i) (i32.const 1)))
                (br $outer)))
        (local.set $i)
        (local.set $j (i32.trunc_f64_s))
        (i64.add (local.get $sum))
        (i64.add (i64x2.extract_lane 1 (local.get $v)))
        (f64.convert_i32_s (local.get $j))
        (local.get $i)))"#;

#[test]
fn operands_survive_the_change() {
    for n in [0, 1, 2, 50] {
        let run = |engine: &Engine| {
            let (mut store, instance) = setup(engine, NESTED);
            let first: (i64, f64, i32) = call(&mut store, instance, "run", n).unwrap();
            assert_eq!(first, call(&mut store, instance, "run", n).unwrap());
            first
        };
        let expected = run(&interpreter());
        for tiering in EAGER {
            assert_eq!(run(&engine(tiering)), expected, "{tiering:?} {n}");
        }
    }
}

#[test]
fn every_loop_is_entered() {
    for tiering in LOOPS {
        let engine = engine(tiering);
        let (mut store, instance) = setup(&engine, NESTED);
        let _: (i64, f64, i32) = call(&mut store, instance, "run", 2).unwrap();
        let stats = engine.stats();
        assert_eq!((stats.loops_entered, stats.refused), (1, 0), "{tiering:?}");
    }
}

/// Grows by a page in each pass and writes to it, then adds up what is there.
const GROWING: &str = r#"(module
    (memory (export "memory") 1 200)
    (func (export "run") (param $n i32) (result i32) (local $i i32) (local $sum i32)
        (loop $grow
            (i32.store (i32.mul (local.get $i) (i32.const 65536)) (local.get $i))
            (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))
            (i32.store offset=8 (i32.mul (memory.size) (i32.const 65536)) (i32.const 0))
            (br_if $grow (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $n))))
        (local.get $sum))
    (func (export "sum") (param $n i32) (result i32) (local $i i32) (local $sum i32)
        (loop $next
            (if (i32.ge_u (local.get $i) (memory.size)) (then (drop (memory.grow (i32.const 1)))))
            (i32.store offset=4 (i32.mul (local.get $i) (i32.const 65536)) (local.get $i))
            (local.set $sum (i32.add (local.get $sum)
                (i32.load offset=4 (i32.mul (local.get $i) (i32.const 65536)))))
            (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $n))))
        (local.get $sum)))"#;

#[test]
fn memory_grows_under_entered_loops() {
    let trap = |engine: &Engine| {
        let (mut store, instance) = setup(engine, GROWING);
        let error = call::<_, _, i32>(&mut store, instance, "run", 3).unwrap_err();
        (error.to_string(), error.backtrace().to_vec())
    };
    for tiering in EAGER {
        let engine = engine(tiering);
        let (mut store, instance) = setup(&engine, GROWING);
        let sum: i32 = call(&mut store, instance, "sum", 150).unwrap();
        assert_eq!(sum, 149 * 150 / 2);
        let memory = instance.get_memory(&mut store, "memory").unwrap();
        assert_eq!(memory.size(&store), 150);
        for page in 0..150u32 {
            let mut bytes = [0; 4];
            memory.read(&store, page as usize * 65536 + 4, &mut bytes).unwrap();
            assert_eq!(u32::from_le_bytes(bytes), page);
        }
        // A store right behind the end, from a loop that was entered.
        assert_eq!(trap(&engine), trap(&interpreter()), "{tiering:?}");
    }
}

/// Traps, and an exception, out of loops and of functions called from them.
const FAILING: &str = r#"(module
    (tag $t (param i32))
    (func $divide (param i32) (result i32) (i32.div_u (i32.const 100) (local.get 0)))
    (func $throw (param i32) (if (i32.eqz (local.get 0)) (then (throw $t (i32.const 42)))))
    (func (export "own") (param $i i32) (result i32)
        (loop $l (result i32)
            (drop (i32.div_u (i32.const 1) (local.get $i)))
            (local.set $i (i32.sub (local.get $i) (i32.const 1)))
            (br $l)))
    (func $deeper (param $i i32) (result i32)
        (loop $l (result i32)
            (drop (call $divide (local.get $i)))
            (local.set $i (i32.sub (local.get $i) (i32.const 1)))
            (br $l)))
    (func (export "deeper") (param i32) (result i32) (call $deeper (local.get 0)))
    (func (export "caught") (param $i i32) (result i32)
        (block $handler (result i32)
            (try_table (catch $t $handler)
                (loop $l
                    (call $throw (local.get $i))
                    (local.set $i (i32.sub (local.get $i) (i32.const 1)))
                    (br $l)))
            (unreachable)))
    (func $uncaught (param $i i32)
        (loop $l
            (call $throw (local.get $i))
            (local.set $i (i32.sub (local.get $i) (i32.const 1)))
            (br $l)))
    (func (export "outside") (param $i i32) (result i32)
        (block $handler (result i32)
            (try_table (catch $t $handler) (call $uncaught (local.get $i)))
            (unreachable)))
    (func (export "inside") (param $i i32) (result i32)
        (loop $l (result i32)
            (block $handler (result i32)
                (try_table (catch $t $handler)
                    (call $throw (local.get $i)))
                (i32.const 1))
            (if (result i32) (i32.eq (i32.const 42))
                (then (local.get $i))
                (else (local.set $i (i32.sub (local.get $i) (i32.const 1))) (br $l))))))"#;

#[test]
fn traps_tell_where_they_were() {
    for export in ["own", "deeper"] {
        let error = |engine: &Engine, times: u32| {
            let (mut store, instance) = setup(engine, FAILING);
            let mut fail = || call::<_, _, i32>(&mut store, instance, export, 3).unwrap_err();
            (1..times).for_each(|_| drop(fail()));
            let error: Error = fail();
            (error.trap(), error.backtrace().to_vec())
        };
        let expected = error(&interpreter(), 1);
        assert_eq!(expected.0, Some(Trap::IntegerDivisionByZero));
        for tiering in EAGER {
            for times in 1..=3 {
                assert_eq!(error(&engine(tiering), times), expected, "{export} {tiering:?} {times}");
            }
        }
    }
}

#[test]
fn exceptions_are_caught_across_tiers() {
    for (export, expected) in [("caught", 42), ("outside", 42), ("inside", 0)] {
        for tiering in EAGER {
            let (mut store, instance) = setup(&engine(tiering), FAILING);
            for _ in 0..3 {
                let result: i32 = call(&mut store, instance, export, 5).unwrap();
                assert_eq!(result, expected, "{export} {tiering:?}");
            }
        }
    }
}

/// Functions that replace each other, directly and through a table.
const TAIL_CALLS: &str = r#"(module
    (type $t (func (param i32) (result i32)))
    (table funcref (elem $even $odd))
    (func $even (export "even") (type $t)
        (if (result i32) (i32.eqz (local.get 0)) (then (i32.const 44))
            (else (return_call $odd (i32.sub (local.get 0) (i32.const 1))))))
    (func $odd (type $t)
        (if (result i32) (i32.eqz (local.get 0)) (then (i32.const 99))
            (else (return_call_indirect (type $t) (i32.sub (local.get 0) (i32.const 1)) (i32.const 0)))))
    (func (export "looped") (type $t) (local $i i32)
        (loop $l
            (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 3))))
        (return_call $odd (local.get 0))))"#;

#[test]
fn tail_calls_between_tiers_take_no_room() {
    for tiering in [Tiering::Measured, Tiering::AtOnce, Tiering::AtLoops, Tiering::Baseline, Tiering::BaselineAtLoops] {
        let (mut store, instance) = setup(&engine(tiering), TAIL_CALLS);
        for (export, n, expected) in [("even", 1_000_001, 99), ("even", 1_000_000, 44), ("looped", 300_001, 44)] {
            let result: i32 = call(&mut store, instance, export, n).unwrap();
            assert_eq!(result, expected, "{tiering:?} {export} {n}");
        }
    }
}

#[test]
fn deep_recursion_between_tiers_overflows() {
    const RECURSIVE: &str = r#"(module
        (func $f (export "f") (param i32) (result i32) (local $i i32)
            (loop $l
                (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 2)))
                (local.set 0 (call $f (i32.add (local.get 0) (i32.const 1)))))
            (local.get 0)))"#;
    for tiering in EAGER {
        let (mut store, instance) = setup(&engine(tiering), RECURSIVE);
        for _ in 0..2 {
            let error = call::<_, _, i32>(&mut store, instance, "f", 0).unwrap_err();
            assert_eq!(error.trap(), Some(Trap::StackOverflow), "{tiering:?}");
        }
    }
}

#[test]
fn recursion_between_tiers_may_be_deep() {
    // Each level is a loop, which native code takes over, and the call in it goes back to the interpreter.
    const DEEP: &str = r#"(module
        (func $f (export "f") (param $n i32) (result i32) (local $sum i32)
            (if (i32.eqz (local.get $n)) (then (return (i32.const 1))))
            (loop $l
                (local.set $sum (i32.add (local.get $sum) (call $f (i32.sub (local.get $n) (i32.const 1)))))
                (br_if $l (i32.eqz (local.get $sum))))
            (i32.add (local.get $sum) (i32.const 1))))"#;
    for tiering in [Tiering::Measured, Tiering::AtOnce, Tiering::AtLoops, Tiering::Baseline, Tiering::BaselineAtLoops] {
        let (mut store, instance) = setup(&engine(tiering), DEEP);
        for _ in 0..20 {
            let result: i32 = call(&mut store, instance, "f", 4000).unwrap();
            assert_eq!(result, 4001, "{tiering:?}");
        }
    }
}

#[test]
fn small_stacks_tier_up_too() {
    // Less than the configuration would allow.
    let small = thread::Builder::new().stack_size(512 << 10).spawn(|| {
        for tiering in LOOPS {
            let engine = engine(tiering);
            let (mut store, instance) = setup(&engine, NESTED);
            let _: (i64, f64, i32) = call(&mut store, instance, "run", 2).unwrap();
            assert_eq!(engine.stats().loops_entered, 1, "{tiering:?}");
        }
    });
    small.unwrap().join().unwrap();
}

#[test]
fn host_functions_are_called_from_entered_loops() {
    for tiering in EAGER {
        let engine = engine(tiering);
        let module = Module::new(
            &engine,
            r#"(module
                (import "host" "again" (func $again (param i32) (result i32)))
                (func (export "run") (param $n i32) (result i32) (local $sum i32)
                    (if (i32.eqz (local.get $n)) (then (return (i32.const 1))))
                    (loop $l
                        (local.set $sum (i32.add (local.get $sum) (call $again (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
                        (br_if $l (local.get $n)))
                    (local.get $sum)))"#,
        )
        .unwrap();
        let mut store = Store::new(&engine, None::<Func>);
        // Calls the export that is calling it.
        let again = Func::wrap(&mut store, |mut caller: wasmrun::Caller<'_, Option<Func>>, n: i32| {
            let run = caller.data().expect("set below").typed::<i32, i32>(&caller)?;
            run.call(&mut caller, n)
        });
        let instance = wasmrun::Instance::new(&mut store, &module, &[again.into()]).unwrap();
        let run = instance.get_func(&mut store, "run").unwrap();
        *store.data_mut() = Some(run);
        // The number of ways to write n as an ordered sum.
        let result: i32 = call(&mut store, instance, "run", 10).unwrap();
        assert_eq!(result, 512, "{tiering:?}");
    }
}

/// A function of many instructions, so that it is compiled for a while, in a loop.
fn large(blocks: usize) -> String {
    let mut body = String::new();
    for n in 0..blocks {
        body += &format!(
            "(if (i32.and (local.get $x) (i32.const {})) (then (local.set $x (i32.add (i32.mul (local.get $x) (i32.const {})) (local.get $i)))))",
            1 << (n % 31),
            2 * n + 3
        );
    }
    format!(
        r#"(module (func (export "run") (param $n i32) (result i32) (local $i i32) (local $x i32)
            (local.set $x (i32.const 1))
            (loop $l
                {body}
                (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $n))))
            (local.get $x)))"#
    )
}

#[test]
fn engines_go_while_they_compile() {
    let wat = large(2000);
    let expected: i32 = {
        let (mut store, instance) = setup(&interpreter(), &wat);
        call(&mut store, instance, "run", 3000).unwrap()
    };
    for _ in 0..10 {
        // Long enough to be found hot, too short for the code to get ready.
        let (mut store, instance) = setup(&engine(Tiering::Measured), &wat);
        let result: i32 = call(&mut store, instance, "run", 3000).unwrap();
        assert_eq!(result, expected);
    }
}

#[test]
fn running_loops_are_entered_when_their_code_is_ready() {
    let engine = engine(Tiering::Measured);
    let wat = large(20);
    let (mut store, instance) = setup(&engine, &wat);
    // As long as it takes: the compiler may have to wait for the processor.
    let entered = (0..1000).any(|_| {
        let _: i32 = call(&mut store, instance, "run", 100_000).unwrap();
        engine.stats().loops_entered > 0 || engine.stats().best.functions > 0
    });
    assert!(entered, "{:?}", engine.stats());
}

#[test]
fn stores_of_one_module_tier_up_on_all_threads() {
    const WORK: &str = r#"(module
        (memory 1)
        (table funcref (elem $fib $loop))
        (type $t (func (param i32) (result i32)))
        (func $fib (type $t)
            (if (i32.lt_u (local.get 0) (i32.const 2)) (then (return (local.get 0))))
            (i32.add (call $fib (i32.sub (local.get 0) (i32.const 1))) (call $fib (i32.sub (local.get 0) (i32.const 2)))))
        (func $loop (type $t) (local $i i32) (local $sum i32)
            (loop $l
                (i32.store8 (i32.and (local.get $i) (i32.const 1023)) (local.get $i))
                (local.set $sum (i32.add (i32.rotl (local.get $sum) (i32.const 3))
                    (i32.load8_u (i32.and (local.get $sum) (i32.const 1023)))))
                (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get 0))))
            (local.get $sum))
        (func (export "run") (param i32 i32) (result i32)
            (call_indirect (type $t) (local.get 0) (local.get 1))))"#;
    let run = |engine: &Engine, module: &Module| {
        let mut store = Store::new(engine, ());
        let instance = instantiate_module(&mut store, module);
        [(18, 0), (40_000, 1), (20, 0), (60_000, 1)]
            .map(|args| call::<_, (i32, i32), i32>(&mut store, instance, "run", args).unwrap())
    };
    let expected = {
        let engine = interpreter();
        run(&engine, &Module::new(&engine, WORK).unwrap())
    };
    for tiering in [Tiering::Measured, Tiering::AtOnce, Tiering::AtLoops, Tiering::Baseline, Tiering::BaselineAtLoops] {
        let engine = engine(tiering);
        let module = Module::new(&engine, WORK).unwrap();
        let failed = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5 {
                        if run(&engine, &module) != expected {
                            failed.store(true, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert!(!failed.into_inner(), "{tiering:?}");
    }
}

fn instantiate_module(store: &mut Store<()>, module: &Module) -> wasmrun::Instance {
    wasmrun::Instance::new(store, module, &[]).expect("the module instantiates")
}

#[test]
fn modules_of_one_store_call_each_other_in_all_tiers() {
    for tiering in EAGER {
        let engine = engine(tiering);
        let mut store = Store::new(&engine, ());
        let inner = instantiate(
            &mut store,
            r#"(module (func (export "twice") (param i32) (result i32) (local $i i32)
                (loop $l (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 2))))
                (i32.mul (local.get $i) (local.get 0))))"#,
            &[],
        );
        let twice = inner.get_export(&mut store, "twice").unwrap();
        let outer = instantiate(
            &mut store,
            r#"(module
                (import "" "twice" (func $twice (param i32) (result i32)))
                (func (export "run") (param i32) (result i32) (local $i i32)
                    (loop $l
                        (local.set 0 (call $twice (local.get 0)))
                        (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 5))))
                    (return_call $twice (local.get 0))))"#,
            &[twice],
        );
        for _ in 0..3 {
            let result: i32 = call(&mut store, outer, "run", 3).unwrap();
            assert_eq!(result, 3 << 6, "{tiering:?}");
        }
    }
}
