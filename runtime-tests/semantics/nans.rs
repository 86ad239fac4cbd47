//! Which NaN arithmetic makes: the first operand that is one, made quiet, or else the negative default NaN. On every
//! engine, whether operands come from parameters, constants or memory, to the bit.

use wasmrun::{Engine, Func, Instance, Store, Value};

use crate::engines::{for_each_engine, instantiate};

const QUIET_32: u32 = 1 << 22;
const QUIET_64: u64 = 1 << 51;

/// A NaN of the operands by the rule, or else the default one.
fn nan_64(operands: &[u64]) -> u64 {
    let nan = operands.iter().find(|bits| f64::from_bits(**bits).is_nan());
    nan.map_or(0xfff8_0000_0000_0000, |bits| bits | QUIET_64)
}

fn nan_32(operands: &[u32]) -> u32 {
    let nan = operands.iter().find(|bits| f32::from_bits(**bits).is_nan());
    nan.map_or(0xffc0_0000, |bits| bits | QUIET_32)
}

const VALUES_64: [u64; 14] = [
    0x7ff8_0000_0000_0000, // canonical
    0xfff8_0000_0000_0000,
    0x7ff8_0000_0000_1234, // quiet, with a payload
    0xffff_ffff_ffff_ffff,
    0x7ff0_0000_0000_0001, // signalling
    0xfff4_5678_9abc_def0,
    0x7ff0_0000_0000_0000, // infinities
    0xfff0_0000_0000_0000,
    0,
    1 << 63,
    0x3ff0_0000_0000_0000, // 1
    0xbff8_0000_0000_0000, // -1.5
    0x7fef_ffff_ffff_ffff, // the largest number
    1,
];

const VALUES_32: [u32; 12] = [
    0x7fc0_0000,
    0xffc0_0000,
    0x7fc0_1234,
    0xffff_ffff,
    0x7f80_0001,
    0xffa5_6789,
    0x7f80_0000,
    0xff80_0000,
    0,
    1 << 31,
    0x3f80_0000,
    0xbfc0_0000,
];

macro_rules! expected {
    ($name:ident $float:ident $bits:ident $nan:ident) => {
        /// The bits of an instruction's result; `b` is not used if it has one operand.
        fn $name(op: &str, a: $bits, b: $bits) -> $bits {
            let (x, y) = ($float::from_bits(a), $float::from_bits(b));
            let result = match op {
                "add" => x + y,
                "sub" => x - y,
                "mul" => x * y,
                "div" => x / y,
                "min" | "max" if x.is_nan() || y.is_nan() => $float::NAN,
                "min" if x == y => return a | b,
                "max" if x == y => return a & b,
                "min" => x.min(y),
                "max" => x.max(y),
                "sqrt" => x.sqrt(),
                "ceil" => x.ceil(),
                "floor" => x.floor(),
                "trunc" => x.trunc(),
                "nearest" => x.round_ties_even(),
                other => panic!("{other}"),
            };
            match result.is_nan() {
                true if UNARY.contains(&op) => $nan(&[a]),
                true => $nan(&[a, b]),
                false => result.to_bits(),
            }
        }
    };
}

expected!(expected_64 f64 u64 nan_64);
expected!(expected_32 f32 u32 nan_32);

const BINARY: [&str; 6] = ["add", "sub", "mul", "div", "min", "max"];
const UNARY: [&str; 5] = ["sqrt", "ceil", "floor", "trunc", "nearest"];

/// Where operands come from: a name, and what the first and the second of type `ty` (`f64`, with bits in `i64`) are.
fn places(float: &str, int: &str) -> Vec<(&'static str, String, String)> {
    let param = |n| format!("({float}.reinterpret_{int} (local.get {n}))");
    let load = |at| format!("({float}.load (i32.const {at}))");
    vec![
        ("params", param(0), param(1)),
        ("first_loaded", load(0), param(1)),
        ("second_loaded", param(0), load(8)),
        ("loaded", load(0), load(8)),
        ("negated", format!("({float}.neg {})", param(0)), format!("({float}.neg {})", param(1))),
    ]
}

/// The operands that an instruction gets at such a place.
fn seen<T: std::ops::BitXor<Output = T> + Copy>(place: &str, a: T, b: T, sign: T) -> (T, T) {
    if place == "negated" { (a ^ sign, b ^ sign) } else { (a, b) }
}

fn scalar_module(float: &str, int: &str) -> String {
    let mut text = String::from("(module (memory 1)\n");
    for (place, a, b) in places(float, int) {
        let store = format!(
            "({int}.store (i32.const 0) (local.get 0)) ({int}.store (i32.const 8) (local.get 1))\
             (if (i32.eqz (memory.size)) (then unreachable))"
        );
        let mut function = |op: &str, value: String| {
            text += &format!(
                "(func (export \"{op} {place}\") (param {int} {int}) (result {int}) {store} ({int}.reinterpret_{float} {value}))\n"
            );
        };
        BINARY.iter().for_each(|op| function(op, format!("({float}.{op} {a} {b})")));
        UNARY.iter().for_each(|op| function(op, format!("({float}.{op} {a})")));
    }
    text + ")"
}

fn func<T>(store: &mut Store<T>, instance: Instance, name: &str) -> Func {
    instance.get_func(store, name).unwrap_or_else(|| panic!("no export {name}"))
}

fn call(store: &mut Store<()>, func: Func, args: &[Value]) -> Value {
    let mut results = [Value::I32(0)];
    func.call(store, args, &mut results).expect("it does not trap");
    let [result] = results;
    result
}

#[test]
fn scalar_arithmetic_makes_the_nan_of_the_rule() {
    let (text_64, text_32) = (scalar_module("f64", "i64"), scalar_module("f32", "i32"));
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let instance = instantiate(&mut store, &text_64, &[]);
        for (place, ..) in places("f64", "i64") {
            for op in BINARY.iter().chain(&UNARY) {
                let f = func(&mut store, instance, &format!("{op} {place}"));
                for (a, b) in VALUES_64.iter().flat_map(|a| VALUES_64.iter().map(move |b| (*a, *b))) {
                    let result = call(&mut store, f, &[Value::I64(a as i64), Value::I64(b as i64)]);
                    let (x, y) = seen(place, a, b, 1 << 63);
                    let want = expected_64(op, x, y);
                    assert_eq!(
                        format!("{result:?}"),
                        format!("{:?}", Value::I64(want as i64)),
                        "{op} {place} {a:x} {b:x}"
                    );
                }
            }
        }
        let instance = instantiate(&mut store, &text_32, &[]);
        for (place, ..) in places("f32", "i32") {
            for op in BINARY.iter().chain(&UNARY) {
                let f = func(&mut store, instance, &format!("{op} {place}"));
                for (a, b) in VALUES_32.iter().flat_map(|a| VALUES_32.iter().map(move |b| (*a, *b))) {
                    let result = call(&mut store, f, &[Value::I32(a as i32), Value::I32(b as i32)]);
                    let (x, y) = seen(place, a, b, 1 << 31);
                    let want = expected_32(op, x, y);
                    assert_eq!(
                        format!("{result:?}"),
                        format!("{:?}", Value::I32(want as i32)),
                        "{op} {place} {a:x} {b:x}"
                    );
                }
            }
        }
    });
}

fn vector_module(shape: &str) -> String {
    let mut text = String::from("(module (memory 1)\n");
    let places = [
        ("params", "(local.get 0)", "(local.get 1)"),
        ("first_loaded", "(v128.load (i32.const 0))", "(local.get 1)"),
        ("second_loaded", "(local.get 0)", "(v128.load (i32.const 16))"),
        ("negated", &format!("({shape}.neg (local.get 0))")[..], &format!("({shape}.neg (local.get 1))")[..]),
    ];
    for (place, a, b) in places {
        let store = "(v128.store (i32.const 0) (local.get 0)) (v128.store (i32.const 16) (local.get 1))\
                     (if (i32.eqz (memory.size)) (then unreachable))";
        for (op, args) in
            BINARY.iter().map(|op| (op, format!("{a} {b}"))).chain(UNARY.iter().map(|op| (op, a.to_string())))
        {
            text += &format!(
                "(func (export \"{op} {place}\") (param v128 v128) (result v128) {store} ({shape}.{op} {args}))\n"
            );
        }
    }
    for op in ["madd", "nmadd"] {
        text += &format!(
            "(func (export \"{op}\") (param v128 v128 v128) (result v128)
                ({shape}.relaxed_{op} (local.get 0) (local.get 1) (local.get 2)))"
        );
    }
    text + ")"
}

fn vector_64(lanes: [u64; 2]) -> u128 {
    u128::from(lanes[0]) | u128::from(lanes[1]) << 64
}

fn vector_32(lanes: [u32; 4]) -> u128 {
    lanes.iter().rev().fold(0, |vector, lane| vector << 32 | u128::from(*lane))
}

#[test]
fn vector_arithmetic_makes_the_nan_of_the_rule_in_each_lane() {
    let (text_64, text_32) = (vector_module("f64x2"), vector_module("f32x4"));
    let places = ["params", "first_loaded", "second_loaded", "negated"];
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let instance = instantiate(&mut store, &text_64, &[]);
        let check = |store: &mut Store<()>, f, args: &[u128], want: u128, what: &str| {
            let args: Vec<Value> = args.iter().map(|bits| Value::V128(*bits)).collect();
            let result = call(store, f, &args);
            assert_eq!(format!("{result:?}"), format!("{:?}", Value::V128(want)), "{what} {args:?}");
        };
        let pairs = |n: usize| (0..n).flat_map(move |a| (0..n).map(move |b| (a, b)));
        for place in places {
            for op in BINARY.iter().chain(&UNARY) {
                let f = func(&mut store, instance, &format!("{op} {place}"));
                for (i, j) in pairs(VALUES_64.len()) {
                    // A number beside a NaN, and another pair in the other lane.
                    let a = [VALUES_64[i], VALUES_64[(i + 5) % VALUES_64.len()]];
                    let b = [VALUES_64[j], VALUES_64[(j + 3) % VALUES_64.len()]];
                    let want = std::array::from_fn(|lane| {
                        let (x, y) = seen(place, a[lane], b[lane], 1 << 63);
                        expected_64(op, x, y)
                    });
                    check(&mut store, f, &[vector_64(a), vector_64(b)], vector_64(want), op);
                }
            }
        }
        for op in ["madd", "nmadd"] {
            let f = func(&mut store, instance, op);
            for (i, j) in pairs(VALUES_64.len()) {
                let n = VALUES_64.len();
                let a = [VALUES_64[i], VALUES_64[(i + 5) % n]];
                let b = [VALUES_64[j], VALUES_64[(j + 3) % n]];
                let c = [VALUES_64[(i + j) % n], VALUES_64[(i + 2 * j) % n]];
                let want = std::array::from_fn(|lane| {
                    let x = if op == "nmadd" { a[lane] ^ 1 << 63 } else { a[lane] };
                    let sum = f64::from_bits(x).mul_add(f64::from_bits(b[lane]), f64::from_bits(c[lane]));
                    if sum.is_nan() { nan_64(&[x, b[lane], c[lane]]) } else { sum.to_bits() }
                });
                check(&mut store, f, &[vector_64(a), vector_64(b), vector_64(c)], vector_64(want), op);
            }
        }
        let instance = instantiate(&mut store, &text_32, &[]);
        let lanes =
            |at: usize| -> [u32; 4] { std::array::from_fn(|lane| VALUES_32[(at + 5 * lane) % VALUES_32.len()]) };
        for place in places {
            for op in BINARY.iter().chain(&UNARY) {
                let f = func(&mut store, instance, &format!("{op} {place}"));
                for (i, j) in pairs(VALUES_32.len()) {
                    let (a, b) = (lanes(i), lanes(j + i * 2));
                    let want = std::array::from_fn(|lane| {
                        let (x, y) = seen(place, a[lane], b[lane], 1 << 31);
                        expected_32(op, x, y)
                    });
                    check(&mut store, f, &[vector_32(a), vector_32(b)], vector_32(want), op);
                }
            }
        }
        for op in ["madd", "nmadd"] {
            let f = func(&mut store, instance, op);
            for (i, j) in pairs(VALUES_32.len()) {
                let (a, b, c) = (lanes(i), lanes(j), lanes(i + 2 * j));
                let want = std::array::from_fn(|lane| {
                    let x = if op == "nmadd" { a[lane] ^ 1 << 31 } else { a[lane] };
                    let sum = f32::from_bits(x).mul_add(f32::from_bits(b[lane]), f32::from_bits(c[lane]));
                    if sum.is_nan() { nan_32(&[x, b[lane], c[lane]]) } else { sum.to_bits() }
                });
                check(&mut store, f, &[vector_32(a), vector_32(b), vector_32(c)], vector_32(want), op);
            }
        }
    });
}

#[test]
fn conversions_between_floats_keep_what_they_can_of_a_nan() {
    let text = r#"(module
        (func (export "promote") (param i32) (result i64)
            (i64.reinterpret_f64 (f64.promote_f32 (f32.reinterpret_i32 (local.get 0)))))
        (func (export "demote") (param i64) (result i32)
            (i32.reinterpret_f32 (f32.demote_f64 (f64.reinterpret_i64 (local.get 0)))))
        (func (export "promote_low") (param v128) (result v128) (f64x2.promote_low_f32x4 (local.get 0)))
        (func (export "demote_zero") (param v128) (result v128) (f32x4.demote_f64x2_zero (local.get 0))))"#;
    let promoted = |bits: u32| match f32::from_bits(bits).is_nan() {
        true => u64::from(bits >> 31) << 63 | 0x7ff8 << 48 | u64::from(bits & 0x3f_ffff) << 29,
        false => f64::from(f32::from_bits(bits)).to_bits(),
    };
    let demoted = |bits: u64| match f64::from_bits(bits).is_nan() {
        true => ((bits >> 63) as u32) << 31 | 0x7fc0_0000 | (bits >> 29) as u32 & 0x3f_ffff,
        false => (f64::from_bits(bits) as f32).to_bits(),
    };
    for_each_engine(|engine: &Engine| {
        let mut store = Store::new(engine, ());
        let instance = instantiate(&mut store, text, &[]);
        for bits in VALUES_32 {
            let f = instance.get_typed_func::<i32, i64>(&mut store, "promote").unwrap();
            assert_eq!(f.call(&mut store, bits as i32).unwrap() as u64, promoted(bits), "{bits:x}");
            let f = instance.get_typed_func::<u128, u128>(&mut store, "promote_low").unwrap();
            let want = vector_64([promoted(1 << 31), promoted(bits)]);
            assert_eq!(f.call(&mut store, vector_32([1 << 31, bits, 7, 8])).unwrap(), want, "{bits:x}");
        }
        for bits in VALUES_64 {
            let f = instance.get_typed_func::<i64, i32>(&mut store, "demote").unwrap();
            assert_eq!(f.call(&mut store, bits as i64).unwrap() as u32, demoted(bits), "{bits:x}");
            let f = instance.get_typed_func::<u128, u128>(&mut store, "demote_zero").unwrap();
            let want = vector_32([demoted(bits), demoted(1), 0, 0]);
            assert_eq!(f.call(&mut store, vector_64([bits, 1])).unwrap(), want, "{bits:x}");
        }
    });
}
