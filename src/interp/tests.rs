//! Tests of the bytecode that functions are translated to, and of the interpreter under both dispatches.

use super::print_bytecode;
use crate::Engine;
use crate::config::{Config, Dispatch, Strategy};
use crate::{Instance, Module, Store, Trap};

fn engines() -> [Engine; 2] {
    [Dispatch::TailCall, Dispatch::Loop].map(|dispatch| {
        let mut config = Config::new();
        config.strategy(Strategy::Interpreter).dispatch(dispatch);
        Engine::new(&config).expect("the interpreter runs everywhere")
    })
}

/// The bytecode of a module's first function, a line an instruction.
fn bytecode(wat: &str) -> String {
    let module = Module::new(&engines()[0], wat).expect("a valid module");
    print_bytecode(&module.0.interp, 0).expect("a validated function")
}

#[track_caller]
fn assert_bytecode(wat: &str, expected: &str) {
    let printed = bytecode(wat);
    assert_eq!(trimmed(&printed), trimmed(expected));
}

/// The lines without space around them.
fn trimmed(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

/// Calls export `f` of a module on both dispatches.
fn run(wat: &str, argument: i32) -> Vec<Result<i32, Trap>> {
    let mut results = Vec::new();
    for engine in engines() {
        let module = Module::new(&engine, wat).expect("a valid module");
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).expect("no imports");
        let f = instance.get_typed_func::<i32, i32>(&mut store, "f").expect("an export");
        results.push(f.call(&mut store, argument).map_err(|e| e.trap().expect("a trap")));
    }
    results
}

#[test]
fn references_are_looked_at_where_they_are() {
    assert_bytecode(
        "(module (type $f (func (param i32) (result i32)))
            (func (param i32 (ref null $f)) (result i32)
                (block $null
                    (br_on_null $null (local.get 1))
                    (drop)
                    (return_call_ref $f (local.get 0) (ref.as_non_null (local.get 1))))
                (call_ref $f (i32.const 5) (local.get 1))))",
        "function 0  (param i32 (ref null type#0)) (result i32)
         frame: 8 slots, header at s2, zeroed 0..0
         0  br_i64_eq.si s1, 0, -> 6
         2  ref_as_non_null s1
         3  copy s6, s0
         4  return_call_ref s2, s1, 6
         6  imm32 s6, 5
         7  call_ref s6, s1, 1
         9  return_copy s2, s6",
    );
}

#[test]
fn locals_and_constants_cost_nothing() {
    assert_bytecode(
        "(module (func (param i32 i32) (result i32)
            (i32.mul (i32.add (local.get 0) (local.get 1)) (i32.sub (local.get 1) (i32.const 3)))))",
        "function 0  (param i32 i32) (result i32)
         frame: 9 slots, header at s2, zeroed 0..0
         0  i32_add.ss s6, s0, s1
         1  i32_sub.si! s7, s1, 3
         2  i32_mul.as s6, s6
         3  return_copy s2, s6",
    );
}

#[test]
fn loops_end_in_one_instruction() {
    assert_bytecode(
        "(module (func (param i32) (result i32) (local i32)
            (loop
                (local.set 1 (i32.add (local.get 1) (i32.const 2)))
                (br_if 0 (i32.lt_u (local.get 1) (local.get 0))))
            (local.get 1)))",
        "function 0  (param i32) (result i32)
         frame: 8 slots, header at s1, zeroed 5..6
         0  step_i32_lt_u.s s5, 2, s0, -> 0
         2  return_copy s1, s5",
    );
}

#[test]
fn operands_outlive_the_locals_they_came_from() {
    let wat = "(module (func (export \"f\") (param i32) (result i32)
        (local.get 0)
        (local.set 0 (i32.const 5))
        (i32.sub (local.get 0))))";
    assert_bytecode(
        wat,
        "function 0 f (param i32) (result i32)
         frame: 7 slots, header at s1, zeroed 0..0
         0  copy s5, s0
         1  imm32 s0, 5
         2  i32_sub.ss s5, s5, s0
         3  return_copy s1, s5",
    );
    assert_eq!(run(wat, 7), [Ok(2), Ok(2)]);
}

/// Runs every kind of instruction so often that the native stack would overflow if its handler left a frame on it.
/// (Calls of native code are in the tests of `jit`.)
#[test]
fn deep_loops() {
    let body = "(local.set $v (f64x2.add (local.get $v) (f64x2.splat (f64.const 1))))
        (local.set $v (i8x16.swizzle (local.get $v) (local.get $v)))
        (local.set $v (f32x4.relaxed_madd (local.get $v) (local.get $v) (local.get $v)))
        (local.set $v (i8x16.shuffle 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 (local.get $v) (local.get $v)))
        (local.set $v (v128.bitselect (local.get $v) (local.get $v) (local.get $v)))
        (v128.store (i32.const 64) (local.get $v))
        (local.set $v (v128.load16_lane 3 (i32.const 64) (local.get $v)))
        (memory.copy (i32.const 0) (i32.const 8) (i32.const 8))
        (drop (memory.grow (i32.const 0)))
        (global.set $g (f64.nearest (f64.div (global.get $g) (f64.const 3))))
        (drop (i64.rem_s (i64.const 5) (i64.extend_i32_s (local.get 0))))
        (drop (call_indirect (param i32) (result i32) (local.get 0) (i32.const 0)))
        (drop (call $multi))
        (table.set (i32.const 0) (ref.func $id))";
    let wat = format!(
        "(module (memory 1) (table 1 funcref) (elem (i32.const 0) $id) (global $g (mut f64) (f64.const 1e9))
            (func $id (param i32) (result i32) (local.get 0))
            (func $multi (result i32 i32 i32 i32 i32 i32)
                (i32.const 1) (i32.const 2) (i32.const 3) (i32.const 4) (i32.const 5) (i32.const 6)
                (drop) (drop) (i32.const 7) (i32.const 8))
            (func (export \"f\") (param i32) (result i32) (local $v v128)
                (loop {} {} (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
                (local.get 0)))",
        body.replace("(drop (call $multi))", "(call $multi) (drop) (drop) (drop) (drop) (drop) (drop)"),
        "(nop)"
    );
    assert_eq!(run(&wat, 300_000), [Ok(0), Ok(0)]);
}

/// The same for the instructions of the GC proposal.
#[test]
fn deep_loops_on_objects() {
    let kinds = ["i8", "i16", "i32", "i64", "v128", "(ref null $s)", "funcref"];
    let fields: String = kinds.iter().map(|ty| format!("(field (mut {ty}))")).collect();
    let arrays: String = kinds.iter().enumerate().map(|(n, ty)| format!("(type $a{n} (array (mut {ty})))")).collect();
    let body: String = kinds
        .iter()
        .enumerate()
        .map(|(n, _)| {
            let get = if n < 2 { "get_s" } else { "get" };
            let unsigned = format!(
                "(struct.set $s {n} (local.get $s) (struct.get_u $s {n} (local.get $s)))
                 (array.set $a{n} (local.get $x{n}) (i32.const 1) (array.get_u $a{n} (local.get $x{n}) (i32.const 0)))"
            );
            format!(
                "(struct.set $s {n} (local.get $s) (struct.{get} $s {n} (local.get $s)))
                 (array.set $a{n} (local.get $x{n}) (i32.const 0) (array.{get} $a{n} (local.get $x{n}) (i32.const 1)))
                 {}
                 (array.fill $a{n} (local.get $x{n}) (i32.const 0) (struct.{get} $s {n} (local.get $s)) (i32.const 1))
                 (array.copy $a{n} $a{n} (local.get $x{n}) (i32.const 0) (local.get $x{n}) (i32.const 1) (i32.const 1))
                 (drop (array.len (local.get $x{n})))",
                if n < 2 { &unsigned } else { "" }
            )
        })
        .collect();
    let locals: String = (0..kinds.len()).map(|n| format!("(local $x{n} (ref null $a{n}))")).collect();
    let make: String =
        (0..kinds.len()).map(|n| format!("(local.set $x{n} (array.new_default $a{n} (i32.const 2)))")).collect();
    let casts: String = ["i31", "eq", "struct", "array", "$s", "$t", "any", "none"]
        .iter()
        .map(|ty| {
            format!(
                "(drop (ref.test (ref {ty}) (local.get $any)))
                 (block (result anyref) (br_on_cast 0 anyref (ref {ty}) (local.get $any))) (drop)
                 (drop (ref.cast (ref null {ty}) (ref.null none)))"
            )
        })
        .collect();
    let wat = format!(
        "(module (rec (type $s (sub (struct {fields}))) (type $t (sub final $s (struct {fields}))) {arrays})
            (type $fn (func (param i32) (result i32)))
            (data $d \"12345678\") (elem $e anyref (ref.i31 (i32.const 1))) (type $refs (array (mut anyref)))
            (func $f (export \"f\") (type $fn) (local $s (ref null $s)) (local $any anyref) {locals}
                (local.set $s (struct.new_default $t)) (local.set $any (local.get $s)) {make}
                (loop
                    {body} {casts}
                    (drop (ref.cast (ref $s) (local.get $any)))
                    (drop (ref.cast (ref $t) (local.get $any)))
                    (drop (ref.cast (ref struct) (local.get $any)))
                    (drop (ref.test (ref $fn) (ref.func $f)))
                    (drop (ref.cast (ref $fn) (ref.func $f)))
                    (drop (i31.get_s (ref.i31 (local.get 0))))
                    (drop (i31.get_u (ref.i31 (local.get 0))))
                    (drop (struct.new_default $t))
                    (drop (array.new_fixed $a2 2 (local.get 0) (local.get 0)))
                    (drop (array.new $a3 (i64.const 5) (i32.const 3)))
                    (drop (array.new_data $a2 $d (i32.const 0) (i32.const 2)))
                    (drop (array.new_elem $refs $e (i32.const 0) (i32.const 1)))
                    (array.init_data $a0 $d (local.get $x0) (i32.const 0) (i32.const 0) (i32.const 2))
                    (array.init_elem $refs $e (array.new_default $refs (i32.const 1)) (i32.const 0) (i32.const 0) (i32.const 1))
                    (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
                (local.get 0)))"
    );
    assert_eq!(run(&wat, 100_000), [Ok(0), Ok(0)]);
}

#[test]
fn casts_leave_their_operand_where_it_is() {
    assert_bytecode(
        "(module (func (param anyref i32) (result i32)
            (block $other (result anyref)
                (br_on_cast_fail $other anyref (ref struct) (local.get 0))
                (drop)
                (return (i31.get_s (ref.cast (ref i31) (local.get 0)))))
            (ref.is_null)))",
        "function 0  (param anyref i32) (result i32)
         frame: 8 slots, header at s2, zeroed 0..0
         0  ref_test_struct s7, s0, 0
         1  br_nonzero_acc -> 4
         2  copy s6, s0
         3  br -> 7
         4  ref_cast_i31 s0, 0
         5  i31_get_s s6, s0
         6  return_copy s2, s6
         7  i64_eq.si s6, s6, 0
         8  return_copy s2, s6",
    );
}

#[test]
fn slots_beyond_16_bits() {
    // 70,000 operands on the stack when the call, the branch and the sums happen.
    let wat = format!(
        "(module (func $add (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
            (table funcref (elem $add))
            (func (export \"f\") (param i32) (result i32)
                {} (local.get 0) (i32.const 1) (call $add) (i32.const 2) (i32.const 0) (call_indirect (param i32 i32) (result i32))
                (if (param i32) (result i32) (i32.eq (local.get 0) (i32.const 5)) (then (i32.const 100) (i32.add)) (else))
                {}))",
        "(i32.const 3) (local.get 0) (i32.add) ".repeat(70_000),
        "(i32.add) ".repeat(70_000)
    );
    let expected = |n: i32| Ok((n + 3) * 70_000 + n + 3 + if n == 5 { 100 } else { 0 });
    assert_eq!(run(&wat, 5), [expected(5); 2]);
    assert_eq!(run(&wat, 6), [expected(6); 2]);
}

#[test]
fn recursion_overflows_the_value_stack_only() {
    let wat =
        "(module (func $f (export \"f\") (param i32) (result i32) (i32.add (i32.const 1) (call $f (local.get 0)))))";
    assert_eq!(run(wat, 0), [Err(Trap::StackOverflow); 2]);
}

#[test]
fn locals_are_zero_unless_set_on_every_way() {
    // The second local is set in one arm only, the third before both.
    let wat = "(module (func (export \"f\") (param i32) (result i32) (local i32 i32)
        (local.set 2 (i32.const 10))
        (if (local.get 0) (then (local.set 1 (i32.const 1))))
        (i32.add (local.get 1) (local.get 2))))";
    assert_eq!(run(wat, 0), [Ok(10); 2]);
    assert_eq!(run(wat, 1), [Ok(11); 2]);
    assert!(bytecode(wat).contains("zeroed 5..6"), "{}", bytecode(wat));
}

/// 60,000 `try_table`s side by side, in each of which something is thrown 50 times: a throw must not search those that
/// it is not in.
#[test]
fn throws_pass_by_try_tables() {
    let wat = format!(
        "(module (tag $t) (func (export \"f\") (param i32) (result i32) (local $sum i32) (loop $again
            {}
            (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))) (local.get $sum)))",
        "(block $h (try_table (catch $t $h) (throw $t))) (local.set $sum (i32.add (local.get $sum) (i32.const 1)))"
            .repeat(60_000)
    );
    assert_eq!(run(&wat, 50), [Ok(3_000_000); 2]);
}

/// Legacy `try`s with more clauses than an instruction can have, of which the last one catches, and 20,000 of them inside each other,
/// of which each delegates to the outermost.
#[test]
fn legacy_tries_may_be_many() {
    let wat = |body: &str| {
        format!("(module (tag $t) (tag $u) (func (export \"f\") (param i32) (result i32) {body} (i32.const -1)))")
    };
    let clauses = wat(&format!(
        "try throw $u {} catch $u i32.const 7 return catch $t end",
        "catch $t i32.const 6 return ".repeat(70_000)
    ));
    assert_eq!(run(&clauses, 0), [Ok(7); 2]);
    let depth = 20_000;
    let ends: String = (0..depth).map(|inner| format!("delegate {} ", depth - 1 - inner)).collect();
    let nested = wat(&format!("try {} throw $t {ends} catch_all i32.const 8 return end", "try ".repeat(depth)));
    assert_eq!(run(&nested, 0), [Ok(8); 2]);
}

/// Each segment begins with its price, the one of the loop's passes behind its head.
#[test]
fn segments_begin_with_a_charge() {
    let engine = Engine::new(Config::new().strategy(Strategy::Interpreter).consume_fuel(true)).unwrap();
    let text = "(module (func (param i32) (result i32)
        (loop $l (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))) (local.get 0)))";
    let printed = print_bytecode(&Module::new(&engine, text).unwrap().0.interp, 0).unwrap();
    let expected = "function 0  (param i32) (result i32)
         frame: 7 slots, header at s1, zeroed 0..0
         0  charge 1
         1  charge 5
         2  i32_sub.si s0, s0, 1
         3  br_nonzero_acc -> 1
         4  charge 1
         5  return_copy s1, s0";
    assert_eq!(trimmed(&printed), trimmed(expected));
}

/// A loop's weight counts only code that every pass goes through.
#[test]
#[cfg(jit)]
fn what_may_be_passed_by_weighs_little() {
    let engine = Engine::new(Config::new().strategy(Strategy::Tiered)).unwrap();
    let weight = |before: &str, after: &str| -> u32 {
        let much = "(local.set 0 (i32.rotl (i32.add (local.get 0) (i32.const 7)) (local.get 0)))".repeat(1000);
        let text = format!(
            "(module (func (param i32) (loop $l (block $out {before} {much} {after}) (br_if $l (local.get 0)))))"
        );
        let printed = print_bytecode(&Module::new(&engine, text).unwrap().0.interp, 0).unwrap();
        let line = printed.lines().find_map(|line| line.split_once("count_loop ")).expect("a loop is counted").1;
        line.split_once(',').expect("its weight comes first").0.parse().unwrap()
    };
    assert!(weight("", "") > 1000);
    assert!(weight("", "(br_if $out (local.get 0))") > 1000);
    assert!(weight("(br_if $out (local.get 0))", "") <= 128);
    assert!(weight("(if (local.get 0) (then", "))") <= 128);
    assert!(weight("(block $in (br_table $in $out (local.get 0)))", "") <= 128);
}

/// Damaged bodies, translated while they are validated: the result is the error that validation of the whole module
/// gives, or, if the damaged body is valid, the same bytecode.
#[test]
fn damaged_bodies_are_refused_in_the_middle_of_their_translation() {
    use arbitrary::Unstructured;

    let engine = |lazy| {
        let mut config = Config::new();
        Engine::new(config.strategy(Strategy::Interpreter).lazy_validation(lazy).lazy_validation_from(0)).unwrap()
    };
    let (eager, lazy) = (engine(false), engine(true));
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    };
    let (mut refused, mut accepted) = (0, 0);
    for _ in 0..150 {
        let entropy: Vec<u8> = (0..4096).map(|_| random() as u8).collect();
        let config = wasm_smith::Config {
            gc_enabled: false,
            threads_enabled: false,
            memory64_enabled: false,
            custom_page_sizes_enabled: false,
            wide_arithmetic_enabled: false,
            compact_imports_enabled: false,
            shared_everything_threads_enabled: false,
            min_funcs: 3,
            exceptions_enabled: true,
            tail_call_enabled: true,
            ..wasm_smith::Config::default()
        };
        let Ok(module) = wasm_smith::Module::new(config, &mut Unstructured::new(&entropy)) else { continue };
        let bytes = module.to_bytes();
        let bodies = Module::new(&eager, &bytes).unwrap().0.facts.bodies.clone();
        for _ in 0..if bodies.is_empty() { 0 } else { 20 } {
            let mut damaged = bytes.clone();
            let body = bodies[random() as usize % bodies.len()].clone();
            for _ in 0..1 + random() % 2 {
                damaged[body.start + random() as usize % body.len()] = random() as u8;
            }
            let whole = Module::new(&eager, &damaged);
            // Outside of the bodies the module is as it was.
            let module = Module::new(&lazy, &damaged).unwrap();
            let translated = |module: &Module| -> Vec<_> {
                let all = 0..bodies.len() as u32;
                all.map(|defined| super::translate::function(&module.0.facts, defined, module.0.interp.extras(), true))
                    .collect()
            };
            let parts = translated(&module);
            match whole {
                Ok(whole) => {
                    accepted += 1;
                    for (part, of_valid) in parts.into_iter().zip(translated(&whole)) {
                        assert!(part.unwrap().words == of_valid.unwrap().words);
                    }
                }
                Err(error) => {
                    refused += 1;
                    let first = parts.into_iter().find_map(Result::err).expect("a part is invalid");
                    assert_eq!(first.to_string(), error.to_string());
                }
            }
            // Translating again and validating give the same answer.
            for (again, defined) in translated(&module).iter().zip(0..) {
                assert_eq!(again.is_ok(), module.0.facts.ensure_valid(defined).is_ok());
            }
        }
    }
    assert!(refused > 500 && accepted > 100, "{refused} {accepted}");
}
