//! What compiled code does not compute or load again is what it would compute or load: loads after stores, lengths after
//! growth, and comparisons wherever their results go.

use crate::engines::{call, for_each_engine, instantiate, setup};
use wasmrun::{Caller, Error, Func, Store};

/// Functions of two parameters, the same address in both, with what they return. `$write` stores 7 at an address, `$throw`
/// does it too and throws. Memory 0 is full of `0x11`.
const LOADS: [(&str, i32); 24] = [
    ("(i32.store (local.get 0) (i32.const 5)) (i32.load (local.get 0))", 5),
    (
        "(i32.store (local.get 0) (i32.const 5)) (i32.store8 offset=1 (local.get 0) (i32.const 1)) (i32.load (local.get 0))",
        0x105,
    ),
    (
        "(i32.store offset=2 (local.get 0) (i32.const 5)) (i32.store8 offset=1 (local.get 0) (i32.const 1)) (i32.load (local.get 0))",
        0x0005_0111,
    ),
    (
        "(i32.store (local.get 0) (i32.const 5)) (i32.store8 offset=4 (local.get 0) (i32.const 1)) (i32.load (local.get 0))",
        5,
    ),
    (
        "(i32.store offset=4 (local.get 0) (i32.const 5)) (i32.store (local.get 0) (i32.const 1)) (i32.load offset=4 (local.get 0))",
        5,
    ),
    (
        "(i32.store offset=4 (local.get 0) (i32.const 5)) (i64.store (local.get 0) (i64.const -1)) (i32.load offset=4 (local.get 0))",
        -1,
    ),
    ("(i32.store (local.get 0) (i32.const 5)) (i32.store (local.get 1) (i32.const 6)) (i32.load (local.get 0))", 6),
    ("(drop (i32.load (local.get 0))) (i32.store16 (local.get 1) (i32.const 6)) (i32.load (local.get 0))", 0x1111_0006),
    ("(f32.store (local.get 0) (f32.const 1)) (i32.load (local.get 0))", 0x3f80_0000),
    ("(i32.store (local.get 0) (i32.const -1)) (i32.load8_u (local.get 0))", 255),
    ("(i64.store (local.get 0) (i64.const 0x1_0000_0005)) (i32.load (local.get 0))", 5),
    ("(i32.store (local.get 0) (i32.const 5)) (call $write (local.get 0)) (i32.load (local.get 0))", 7),
    (
        "(i32.store (local.get 0) (i32.const 5)) (call_indirect (param i32) (local.get 0) (i32.const 0)) (i32.load (local.get 0))",
        7,
    ),
    (
        "(i32.store (local.get 0) (i32.const 5)) (memory.fill (local.get 1) (i32.const 2) (i32.const 3)) (i32.load (local.get 0))",
        0x0002_0202,
    ),
    (
        "(i32.store (local.get 0) (i32.const 5)) (memory.fill (local.get 1) (i32.const 2) (i32.const 300)) (i32.load (local.get 0))",
        0x0202_0202,
    ),
    (
        "(i32.store (local.get 0) (i32.const 5)) (memory.copy (local.get 1) (i32.const 0) (i32.const 2)) (i32.load (local.get 0))",
        0x1111,
    ),
    (
        "(i32.store (local.get 0) (i32.const 5)) (memory.init $data (local.get 1) (i32.const 0) (i32.const 4)) (i32.load (local.get 0))",
        0x2222_2222,
    ),
    (
        "(i32.store (local.get 0) (i32.const 5)) (v128.store8_lane 0 (local.get 1) (v128.const i32x4 9 0 0 0)) (i32.load (local.get 0))",
        9,
    ),
    (
        "(i32.store (local.get 0) (i32.const 5)) (i32.atomic.store (local.get 1) (i32.const 8)) (i32.load (local.get 0))",
        8,
    ),
    // A store on one of two paths, and at the end of a loop that is entered again.
    (
        "(i32.store (local.get 0) (i32.const 5)) (if (local.get 1) (then (i32.store (local.get 0) (i32.const 6)))) (i32.load (local.get 0))",
        6,
    ),
    (
        "(i32.store (local.get 0) (i32.const 5)) (if (i32.eqz (local.get 1)) (then (i32.store (local.get 0) (i32.const 6))) (else (nop))) (i32.load (local.get 0))",
        5,
    ),
    (
        "(local $n i32) (i32.store (local.get 0) (i32.const 5))
      (loop $l
        (local.set $n (i32.add (local.get $n) (i32.load (local.get 0))))
        (i32.store (local.get 0) (i32.const 6))
        (br_if $l (i32.lt_u (local.get $n) (i32.const 11))))
      (local.get $n)",
        11,
    ),
    (
        "(block $out (i32.store (local.get 0) (i32.const 5)) (br_if $out (i32.eqz (local.get 1))) (i32.store (local.get 0) (i32.const 6))) (i32.load (local.get 0))",
        6,
    ),
    (
        "(i32.store (local.get 0) (i32.const 5))
      (block $caught (result i32) (try_table (catch $tag $caught) (call $throw (local.get 0))) (unreachable))
      (i32.add (i32.load (local.get 0)))",
        10,
    ),
];

#[test]
fn loads_see_what_was_stored_last() {
    for_each_engine(|engine| {
        let mut text = String::from(
            r#"(module (memory 1) (table funcref (elem $write)) (data $data "\22\22\22\22") (tag $tag (param i32))
            (func (export "reset") (memory.fill (i32.const 0) (i32.const 0x11) (i32.const 1000)))
            (func $write (param i32) (i32.store (local.get 0) (i32.const 7)))
            (func $throw (param i32) (call $write (local.get 0)) (throw $tag (i32.const 3)))"#,
        );
        for (n, (body, _)) in LOADS.iter().enumerate() {
            text += &format!("(func (export \"f{n}\") (param i32 i32) (result i32) {body})");
        }
        let (mut store, instance) = setup(engine, &(text + ")"));
        for (n, (body, wanted)) in LOADS.iter().enumerate() {
            call::<_, (), ()>(&mut store, instance, "reset", ()).unwrap();
            let got = call::<_, _, i32>(&mut store, instance, &format!("f{n}"), (64, 64)).unwrap();
            assert_eq!(got, *wanted, "{body}");
        }
    });
}

/// Two imports may be one memory.
#[test]
fn a_store_to_one_import_is_seen_through_another() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let owner = instantiate(&mut store, r#"(module (memory (export "memory") 1))"#, &[]);
        let memory = owner.get_memory(&mut store, "memory").unwrap();
        let instance = instantiate(
            &mut store,
            r#"(module (import "" "a" (memory $a 1)) (import "" "b" (memory $b 1))
                (func (export "f") (param i32) (result i32)
                    (i32.store $a (local.get 0) (i32.const 5)) (i32.store $b (local.get 0) (i32.const 6))
                    (i32.load $a (local.get 0))))"#,
            &[memory.into(), memory.into()],
        );
        assert_eq!(call::<_, i32, i32>(&mut store, instance, "f", 8).unwrap(), 6);
    });
}

/// A memory that has grown is as large as that from then on: after `memory.grow`, after calls, and where a loop begins again.
#[test]
fn lengths_are_read_again_after_growth() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let grow = Func::wrap(&mut store, |mut caller: Caller<'_, ()>| -> Result<(), Error> {
            let memory = caller.get_export("memory").and_then(|export| export.into_memory()).expect("it is exported");
            memory.grow(&mut caller, 1).map(drop)
        });
        let instance = instantiate(
            &mut store,
            r#"(module (import "" "grow" (func $grow)) (memory (export "memory") 1)
                (func $sum (param i32) (result i32) (i32.load (i32.shl (local.get 0) (i32.const 16))))
                (func (export "grow") (param i32) (result i32)
                    (i32.store (local.get 0) (i32.const 1))
                    (drop (memory.grow (i32.const 1)))
                    (i32.store (i32.add (local.get 0) (i32.const 0x10000)) (i32.const 2))
                    (call $sum (i32.const 1)))
                (func (export "call") (param i32) (result i32)
                    (i32.store (local.get 0) (i32.const 1))
                    (call $grow)
                    (i32.store (i32.add (local.get 0) (i32.const 0x20000)) (i32.const 3))
                    (call $sum (i32.const 2)))
                (func (export "loop") (param $at i32) (result i32) (local $n i32)
                    (i32.store (local.get $at) (i32.const 1))
                    (loop $again
                        (i32.store (i32.add (local.get $at) (i32.mul (local.get $n) (i32.const 0x10000))) (i32.const 4))
                        (local.set $n (i32.add (local.get $n) (i32.const 1)))
                        (call $grow)
                        (br_if $again (i32.lt_u (local.get $n) (i32.const 5))))
                    (call $sum (i32.const 4))))"#,
            &[grow.into()],
        );
        for (name, wanted) in [("grow", 2), ("call", 3), ("loop", 4)] {
            assert_eq!(call::<_, i32, i32>(&mut store, instance, name, 0).unwrap(), wanted, "{name}");
        }
    });
}

/// Where the result of a comparison may go, as `C`, which is 1 or 0, with what comes of the one and of the other.
const PLACES: [(&str, [i64; 2]); 24] = [
    ("(i64.extend_i32_u C)", [1, 0]),
    ("(i64.extend_i32_s (i32.sub (i32.const 0) C))", [-1, 0]),
    ("(i64.extend_i32_u (i32.eqz C))", [0, 1]),
    ("(i64.extend_i32_u (i32.eqz (i32.eqz C)))", [1, 0]),
    ("(i64.extend_i32_u (i32.shl C (i32.const 31)))", [1 << 31, 0]),
    ("(i64.extend_i32_u (i32.clz C))", [31, 32]),
    ("(i64.extend_i32_s (i32.extend8_s C))", [1, 0]),
    ("(if (result i64) C (then (i64.const 5)) (else (i64.const 6)))", [5, 6]),
    ("(block $b (drop (br_if $b (i64.const 1) C)) (return (i64.const 2))) (i64.const 7)", [7, 2]),
    ("(i64.extend_i32_u (select C (i32.const 9) (i32.const 1)))", [1, 0]),
    ("(select (i64.const 3) (i64.const 4) C)", [3, 4]),
    ("(i64.extend_i32_u (block (result i32) (br 0 C)))", [1, 0]),
    ("(i64.extend_i32_u (if (result i32) (local.get 0) (then C) (else C)))", [1, 0]),
    ("C (loop (param i32) (result i32) (nop)) (i64.extend_i32_u)", [1, 0]),
    ("(local $l i32) (local.set $l C) (i64.extend_i32_u (i32.add (local.get $l) (local.tee $l C)))", [2, 0]),
    ("(global.set $g C) (i64.extend_i32_u (global.get $g))", [1, 0]),
    ("(call $extend C)", [1, 0]),
    ("(call_indirect (param i32) (result i64) C (i32.const 0))", [1, 0]),
    ("(i32.store (i32.const 8) C) (i32.store8 (i32.const 12) C) (i64.load (i32.const 8))", [0x1_0000_0001, 0]),
    ("(i64.extend_i32_u (i32.load8_u offset=100 C))", [0x66, 0x55]),
    ("(memory.fill (i32.const 16) C (i32.const 3)) (i64.extend_i32_u (i32.load (i32.const 16)))", [0x0001_0101, 0]),
    ("(i64.extend_i32_u (i32.div_u (i32.const 6) (i32.add C (i32.const 1))))", [3, 6]),
    ("(i64.trunc_f64_s (f64.convert_i32_s C))", [1, 0]),
    ("(block $b (block $a (br_table $a $b C)) (return (i64.const 10))) (i64.const 11)", [11, 10]),
];

/// The same with objects, vectors and exceptions.
const NEWER_PLACES: [(&str, [i64; 2]); 6] = [
    ("(i64.extend_i32_u (struct.get_u $pair 0 (struct.new $pair C (i32.const 3))))", [1, 0]),
    ("(i64.extend_i32_u (struct.get $pair 1 (struct.new $pair (i32.const 3) C)))", [1, 0]),
    ("(i64.extend_i32_u (array.get_u $bytes (array.new_fixed $bytes 2 C C) (i32.const 1)))", [1, 0]),
    ("(i64.extend_i32_u (i31.get_u (ref.i31 C)))", [1, 0]),
    ("(i64x2.extract_lane 0 (i32x4.splat C))", [0x1_0000_0001, 0]),
    (
        "(i64.extend_i32_u (block $caught (result i32) (try_table (catch $tag $caught) (throw $tag C)) (unreachable)))",
        [1, 0],
    ),
];

#[test]
fn results_of_comparisons_go_everywhere() {
    let comparisons = [
        ("(i32.eqz (local.get 0))", [0, 5]),
        ("(i32.lt_s (local.get 0) (i32.const 3))", [-7, 3]),
        ("(f64.gt (f64.convert_i32_s (local.get 0)) (f64.const 1))", [2, 1]),
        ("(i64.ne (i64.extend_i32_s (local.get 0)) (i64.const 4))", [5, 4]),
    ];
    for_each_engine(|engine| {
        let places: Vec<_> = PLACES.iter().chain(&NEWER_PLACES).collect();
        let mut text = String::from(
            r#"(module (memory 1) (data (i32.const 100) "\55\66") (global $g (mut i32) (i32.const 9)) (tag $tag (param i32))
            (type $pair (struct (field i8) (field i32))) (type $bytes (array i8)) (table funcref (elem $extend))
            (func $extend (param i32) (result i64) (i64.extend_i32_u (local.get 0)))"#,
        );
        for (n, (comparison, _)) in comparisons.iter().enumerate() {
            for (m, (place, _)) in places.iter().enumerate() {
                let body = place.replace('C', comparison);
                text += &format!("(func (export \"f{n} {m}\") (param i32) (result i64) {body})");
            }
        }
        let (mut store, instance) = setup(engine, &(text + ")"));
        for (n, (comparison, arguments)) in comparisons.iter().enumerate() {
            for (m, (place, results)) in places.iter().enumerate() {
                for (argument, wanted) in arguments.iter().zip(results) {
                    let got = call::<_, i32, i64>(&mut store, instance, &format!("f{n} {m}"), *argument).unwrap();
                    assert_eq!(got, *wanted, "{place} of {comparison} of {argument}");
                }
            }
        }
    });
}
