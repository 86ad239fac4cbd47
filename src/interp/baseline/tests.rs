use crate::config::{Dispatch, Tiering};
use crate::interp::op::{Inst, OPS, Plain};
use crate::interp::print::length;
use crate::{Config, Engine, Instance, Module, Store, Strategy, Trap};

#[test]
fn opcodes_are_taken_apart() {
    let mut others = 0;
    for op in 0..OPS as u16 {
        let again = match Inst::of(op) {
            Inst::Plain(plain) => plain.op(),
            Inst::Compare(compare, form) => compare.op(form),
            Inst::Branch(compare, form) => compare.branch_op(form),
            Inst::Step(compare, imm) => compare.step_op(imm).unwrap(),
            Inst::Binary(binary, form, kept) => binary.op(form) + if kept { 7 } else { 0 },
            Inst::Unary(unary, acc, kept) => unary.op(acc) + if kept { 2 } else { 0 },
            Inst::Load(load, form, kept) => load.op(form) + if kept { 7 } else { 0 },
            Inst::Store(store, form) => store.op(form),
            Inst::Other => {
                others += 1;
                op
            }
        };
        assert_eq!(again, op);
    }
    // Vector instructions come last, and all are `Other`.
    assert!(matches!(Inst::of(OPS as u16 - others), Inst::Other));
    assert!(matches!(Inst::of(OPS as u16 - others - 1), Inst::Store(..)));
    assert_eq!(length(u64::from(Plain::Baseline.op())), 2);
}

const CALLS: &str = "(module
    (func $f (export \"f\") (param i32) (result i32)
        (if (i32.eqz (local.get 0)) (then (return (i32.const 0))))
        (i32.add (call $f (i32.sub (local.get 0) (i32.const 1))) (i32.const 2))))";

/// Calls the export `calls` times, and returns how many functions got baseline code.
fn baseline_functions(text: &str, config: &Config, calls: usize) -> u64 {
    let engine = Engine::new(config).unwrap();
    let module = Module::new(&engine, text).unwrap();
    let mut store = Store::new(&engine, ());
    let instance = Instance::new(&mut store, &module, &[]).unwrap();
    let f = instance.get_typed_func::<i32, i32>(&mut store, "f").unwrap();
    for _ in 0..calls {
        assert_eq!(f.call(&mut store, 20).unwrap(), 40);
    }
    engine.stats().baseline.functions
}

#[test]
fn baseline_code_needs_tail_call_dispatch() {
    let mut config = Config::new();
    config.strategy(Strategy::Tiered).tiering(Tiering::Baseline);
    assert_eq!(baseline_functions(CALLS, &config, 3), 1);
    assert_eq!(baseline_functions(CALLS, config.dispatch(Dispatch::Loop), 3), 0);
}

/// Long before the JIT compiles it, a warm function gets baseline code.
#[test]
fn warm_functions_get_baseline_code() {
    let nops = "(local.set 0 (i32.add (i32.const 0) (local.get 0)))".repeat(1200);
    let text = CALLS.replacen("(if ", &format!("{nops} (if "), 1);
    let mut config = Config::new();
    config.strategy(Strategy::Tiered);
    assert_eq!(baseline_functions(&text, &config, 200), 1);
}

/// Baseline code calls functions of its instance that have code, and leaves all other callees to a slow path.
#[test]
fn indirect_calls_are_checked() {
    let other = "(module (global $g i32 (i32.const 30)) (func) (func)
        (func (export \"g\") (param i32) (result i32) (i32.add (local.get 0) (global.get $g))))";
    let text = "(module (type $t (func (param i32) (result i32)))
        (import \"\" \"g\" (func $other (type $t)))
        (table 4 funcref) (elem (i32.const 0) func $own $long $other)
        (func $own (type $t) (i32.add (local.get 0) (i32.const 1)))
        (func $long (export \"long\") (param i32) (result i64) (i64.const -1))
        (func (export \"f\") (param i32) (result i32) (call_indirect (type $t) (i32.const 7) (local.get 0))))";
    for strategy in [Strategy::Interpreter, Strategy::Tiered] {
        let mut config = Config::new();
        let engine = Engine::new(config.strategy(strategy).tiering(Tiering::Baseline)).unwrap();
        let mut store = Store::new(&engine, ());
        let other = Instance::new(&mut store, &Module::new(&engine, other).unwrap(), &[]).unwrap();
        let module = Module::new(&engine, text).unwrap();
        let imports = [other.get_export(&mut store, "g").unwrap()];
        let instance = Instance::new(&mut store, &module, &imports).unwrap();
        let long = instance.get_typed_func::<i32, i64>(&mut store, "long").unwrap();
        assert_eq!(long.call(&mut store, 0).unwrap(), -1);
        let f = instance.get_typed_func::<i32, i32>(&mut store, "f").unwrap();
        for _ in 0..3 {
            let results = [0, 1, 2, 3, 4, -1].map(|at| f.call(&mut store, at).map_err(|error| error.trap().unwrap()));
            let (other_type, null, none) =
                (Trap::IndirectCallTypeMismatch, Trap::UninitializedElement, Trap::UndefinedElement);
            assert_eq!(results, [Ok(8), Err(other_type), Ok(37), Err(null), Err(none), Err(none)]);
        }
        assert_eq!(engine.stats().baseline.functions > 0, strategy == Strategy::Tiered);
    }
}

/// A conditional jump past more code than it reaches, and a function that is too long to be compiled.
#[test]
fn functions_may_be_long() {
    for (times, functions) in [(60_000, 1), (200_000, 0)] {
        let much = "(local.set 0 (i32.rotl (i32.add (local.get 0) (i32.const 7)) (local.get 0)))".repeat(times);
        let text = format!(
            "(module (func (export \"f\") (param i32) (result i32) (local i32)
                (loop $l
                    (if (i32.ne (local.get 0) (i32.const 20)) (then {much}))
                    (br_if $l (i32.lt_u (local.tee 1 (i32.add (local.get 1) (i32.const 1))) (i32.const 5))))
                (i32.mul (local.get 0) (i32.const 2))))"
        );
        let mut config = Config::new();
        config.strategy(Strategy::Tiered).tiering(Tiering::Baseline);
        assert_eq!(baseline_functions(&text, &config, 2), functions);
    }
}
