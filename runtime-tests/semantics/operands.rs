//! Arithmetic, comparisons and memory accesses with their operands in every place that they can come from: parameters,
//! the instruction before, constants small and large. All engines agree on the results.

use std::fmt::Write;

use wasmrun::{Engine, Value};

use crate::engines::{bits, setup, steady_configs};

/// What is worth being an operand, of either width.
const NUMBERS: [i64; 13] =
    [0, 1, 2, 31, 63, 255, -1, 4095, -4096, 0x1_2345, i32::MAX as i64, i32::MIN as i64, 0x1234_5678_9abc_def0];

const BINARY: &str = "add sub mul div_s div_u rem_s rem_u and or xor shl shr_s shr_u rotl rotr";
const COMPARE: &str = "eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u";
const FLOAT: &str = "add sub mul div min max copysign";
const FLOAT_COMPARE: &str = "eq ne lt gt le ge";

/// Functions `f0`, `f1` and so on of two parameters of type `ty`, with these bodies.
fn functions(ty: &str, bodies: &[String]) -> String {
    let mut text = String::from("(module (memory 1)");
    for (n, body) in bodies.iter().enumerate() {
        let _ =
            write!(text, "(func (export \"f{n}\") (param $a {ty}) (param $b {ty}) (result i64) (local i32) {body})");
    }
    text + ")"
}

/// Calls all functions on all engines with all pairs of the values, twice each, and compares with the first engine's results.
fn agree(ty: &str, bodies: &[String], values: &[Value]) {
    let text = functions(ty, bodies);
    let mut expected: Option<Vec<String>> = None;
    for config in steady_configs() {
        let (mut store, instance) = setup(&Engine::new(&config).unwrap(), &text);
        let mut results = Vec::new();
        for n in 0..bodies.len() {
            let f = instance.get_func(&mut store, &format!("f{n}")).unwrap();
            for a in values {
                for b in values {
                    let mut out = [Value::I64(0)];
                    results.push(match f.call(&mut store, &[a.clone(), b.clone()], &mut out) {
                        Ok(()) => format!("{:x}", bits(&out[0])),
                        Err(error) => error.trap().map_or(error.to_string(), |trap| trap.to_string()),
                    });
                }
            }
        }
        let expected = expected.get_or_insert_with(|| results.clone());
        let calls = values.len() * values.len();
        for (at, (got, wanted)) in results.iter().zip(&*expected).enumerate() {
            let (a, b) = (at % calls / values.len(), at % values.len());
            assert_eq!(got, wanted, "{} of {:?} and {:?}\n{config:?}", bodies[at / calls], values[a], values[b]);
        }
    }
}

/// An instruction of two operands, with these in all places, made into a body by `wrap`.
fn shapes(op: &str, constants: &[String], ty: &str, wrap: impl Fn(&str) -> String) -> Vec<String> {
    let (a, b) = ("(local.get $a)", "(local.get $b)");
    // What leaves its result in the accumulator, from where it is taken.
    let (first, second) = (format!("({ty}.add {a} {b})"), format!("({ty}.sub {b} {a})"));
    let mut all = vec![
        wrap(&format!("({op} {a} {b})")),
        wrap(&format!("({op} {first} {b})")),
        wrap(&format!("({op} {a} {second})")),
        wrap(&format!("({op} {first} {second})")),
        format!("(local.set $a {first}) {}", wrap(&format!("({op} {b} (local.tee $b (local.get $a)))"))),
    ];
    for constant in constants {
        all.push(wrap(&format!("({op} {a} {constant})")));
        all.push(wrap(&format!("({op} {constant} {b})")));
        all.push(wrap(&format!("({op} {first} {constant})")));
        all.push(wrap(&format!("({op} {constant} {second})")));
    }
    all
}

/// A condition in all places where one is asked for.
fn conditions(condition: &str) -> [String; 3] {
    [
        format!("(if (result i64) {condition} (then (i64.const 5)) (else (i64.const 6)))"),
        format!("(block $out (br_if $out (i32.eqz {condition})) (return (i64.const 7))) (i64.const 8)"),
        format!("(select (i64.const 3) (i64.const 4) {condition})"),
    ]
}

fn integers(ty: &str) -> Vec<Value> {
    let value = |n: &i64| if ty == "i32" { Value::I32(*n as i32) } else { Value::I64(*n) };
    NUMBERS.iter().map(value).collect()
}

fn constants(ty: &str) -> Vec<String> {
    let constant =
        |n: &i64| if ty == "i32" { format!("(i32.const {})", *n as i32) } else { format!("(i64.const {n})") };
    NUMBERS.iter().map(constant).collect()
}

#[test]
fn integers_are_computed_with() {
    for (ty, wide) in [("i32", "i64.extend_i32_s"), ("i64", "i64.add (i64.const 0)")] {
        for op in BINARY.split(' ') {
            let bodies = shapes(&format!("{ty}.{op}"), &constants(ty), ty, |value| format!("({wide} {value})"));
            agree(ty, &bodies, &integers(ty));
        }
    }
}

#[test]
fn wide_integers_are_computed_with() {
    let (a, b) = ("(local.get $a)", "(local.get $b)");
    let (sum, difference) = (format!("(i64.add {a} {b})"), format!("(i64.sub {b} {a})"));
    let constant = "(i64.const -2)";
    let mut bodies = Vec::new();
    // Both halves of the result are looked at, and computed with; operands are locals, constants, and what the instruction before left.
    for half in ["drop", "(local.set $b) drop (local.get $b)", "drop (i64.const 3) i64.add"] {
        for op in ["mul_wide_s", "mul_wide_u"] {
            for (x, y) in [(a, b), (&*sum, b), (a, &*difference), (constant, b), (a, constant)] {
                bodies.push(format!("(i64.{op} {x} {y}) {half}"));
            }
        }
        for op in ["add128", "sub128"] {
            for operands in [[a, b, b, a], [&*sum, a, b, constant], [constant, b, a, &*difference], [a, a, &*sum, b]] {
                bodies.push(format!("(i64.{op} {}) {half}", operands.join(" ")));
            }
        }
    }
    agree("i64", &bodies, &integers("i64"));
}

/// The operands are far from the start of the frame.
#[test]
fn wide_integers_are_computed_with_in_wide_frames() {
    let text = format!(
        r#"(module (func (export "f") (param i64 i64) (result i64 i64) (local{})
            (i64.add128 (i64.mul_wide_s (local.get 0) (local.get 1)) (i64.const -1) (i64.const 0))))"#,
        " v128".repeat(34_000)
    );
    for mut config in steady_configs() {
        config.max_wasm_stack(640 << 10);
        let (mut store, instance) = setup(&Engine::new(&config).unwrap(), &text);
        let f = instance.get_typed_func::<(i64, i64), (i64, i64)>(&mut store, "f").unwrap();
        let (a, b) = (i64::MIN, 0x1234_5678_9abc_def0);
        let expected = i128::from(a) * i128::from(b) + i128::from(u64::MAX);
        assert_eq!(f.call(&mut store, (a, b)).unwrap(), (expected as i64, (expected >> 64) as i64));
    }
}

#[test]
fn integers_are_compared() {
    for ty in ["i32", "i64"] {
        for op in COMPARE.split(' ') {
            let op = format!("{ty}.{op}");
            let mut bodies = shapes(&op, &constants(ty), ty, |test| format!("(i64.extend_i32_u {test})"));
            for at in 0..3 {
                bodies.extend(shapes(&op, &constants(ty), ty, |test| conditions(test)[at].clone()));
            }
            agree(ty, &bodies, &integers(ty));
        }
    }
    // Common bits, and steps of loops.
    let bodies: Vec<_> = ["(i32.and (local.get $a) (local.get $b))", "(i32.and (local.get $a) (i32.const 0x10001))"]
        .iter()
        .flat_map(|test| [conditions(test), conditions(&format!("(i32.eqz {test})"))].concat())
        .chain(["ne", "lt_s", "lt_u", "le_u", "gt_s"].iter().flat_map(|op| {
            let step = "(local.tee 2 (i32.add (local.get 2) (i32.const 3)))";
            let count = "(local.set $a (i32.add (local.get $a) (i32.const 1)))";
            let end = "(br_if $out (i32.gt_u (local.get $a) (i32.const 40)))";
            ["(i32.const 60)", "(local.get $b)"].map(|with| {
                format!(
                    "(local.set $a (i32.and (local.get $a) (i32.const 7)))
                    (block $out (loop $l {count} {end} (br_if $l (i32.{op} {step} {with}))))
                    (i64.extend_i32_u (i32.add (local.get 2) (local.get $a)))"
                )
            })
        }))
        .collect();
    agree("i32", &bodies, &integers("i32"));
}

#[test]
fn floats_are_computed_with_and_compared() {
    let numbers = [0.0, -0.0, 1.5, -3.25, 1e30, f64::INFINITY, f64::NEG_INFINITY, 1e-310];
    for (ty, wide) in
        [("f32", "i64.extend_i32_u (i32.reinterpret_f32"), ("f64", "i64.add (i64.const 0) (i64.reinterpret_f64")]
    {
        let value = |n: &f64| if ty == "f32" { Value::F32(*n as f32) } else { Value::F64(*n) };
        let mut values: Vec<_> = numbers.iter().map(value).collect();
        let constants: Vec<_> = ["0", "-1.5", "1e20", "inf"].iter().map(|n| format!("({ty}.const {n})")).collect();
        for op in FLOAT.split(' ') {
            // The payload of a NaN that is computed may be any.
            let bodies = shapes(&format!("{ty}.{op}"), &constants, ty, |value| {
                format!(
                    "(local.set $b {value}) (if ({ty}.ne (local.get $b) (local.get $b)) (then (return (i64.const -1))))
                    ({wide} ({ty}.add (local.get $b) ({ty}.const -0))))"
                )
            });
            agree(ty, &bodies, &values);
        }
        // Of one operand, from a slot and from the instruction before.
        let other = if ty == "f32" { "f64" } else { "f32" };
        let integers = [
            "(i32.const -7)",
            "(i32.trunc_sat_{ty}_s (local.get $a))",
            "(i32.add (i32.trunc_sat_{ty}_u (local.get $a)) (i32.const 1))",
        ];
        let mut unary: Vec<_> = ["abs", "neg", "sqrt"]
            .iter()
            .flat_map(|op| {
                [format!("({ty}.{op} (local.get $a))"), format!("({ty}.{op} ({ty}.add (local.get $a) (local.get $b)))")]
            })
            .collect();
        for op in ["convert_i32_s", "convert_i32_u"] {
            unary.extend(integers.iter().map(|from| format!("({ty}.{op} {})", from.replace("{ty}", ty))));
        }
        unary.push(format!("({ty}.convert_i64_s (i64.trunc_sat_{ty}_s (local.get $a)))"));
        let (there, back) = if ty == "f32" { ("promote_f32", "demote_f64") } else { ("demote_f64", "promote_f32") };
        unary.push(format!("({ty}.{back} ({other}.{there} (local.get $a)))"));
        unary.push(format!("({ty}.{back} ({other}.add ({other}.{there} (local.get $a)) ({other}.const 1)))"));
        let bodies: Vec<_> = unary
            .iter()
            .map(|value| {
                format!(
                    "(local.set $b {value}) (if ({ty}.ne (local.get $b) (local.get $b)) (then (return (i64.const -1))))
                    ({wide} ({ty}.add (local.get $b) ({ty}.const -0))))"
                )
            })
            .collect();
        agree(ty, &bodies, &values);
        values.push(value(&f64::NAN));
        for op in FLOAT_COMPARE.split(' ') {
            let op = format!("{ty}.{op}");
            let mut bodies = shapes(&op, &constants, ty, |test| format!("(i64.extend_i32_u {test})"));
            for at in 0..3 {
                bodies.extend(shapes(&op, &constants, ty, |test| conditions(test)[at].clone()));
                bodies.extend(shapes(&op, &constants, ty, |test| conditions(&format!("(i32.eqz {test})"))[at].clone()));
            }
            agree(ty, &bodies, &values);
        }
    }
}

#[test]
fn memory_is_accessed() {
    let addresses = [0, 1, 7, 100, 40_000, 65_528, 65_532, 65_535, 65_536, -1, -8];
    let addresses: Vec<_> = addresses.iter().map(|n| Value::I32(*n)).collect();
    let fill = "(i64.store (i32.const 0) (i64.const 0x8182838485868788)) (i64.store (i32.const 96) (i64.const -2))
        (i64.store (i32.const 65528) (i64.const 0xf1e2d3c4b5a69788)) (i32.store (i32.const 16) (i32.const 65520))";
    let places = |op: &str, rest: &str| {
        let mut all = Vec::new();
        for offset in ["", "offset=1", "offset=255", "offset=70000", "offset=0x7fffffff", "offset=0xfffffff0"] {
            for address in [
                "(local.get $a)",
                "(i32.add (local.get $a) (local.get $b))",
                "(i32.add (local.get $a) (i32.const -8))",
                "(i32.add (local.get $a) (i32.shl (local.get $b) (i32.const 3)))",
                "(i32.const 0x60)",
                "(i32.load (local.get $a))",
                "(i32.load offset=16 (i32.mul (local.get $b) (i32.const 0)))",
                "(i32.mul (local.get $a) (i32.const 1))",
            ] {
                all.push(format!("({op} {offset} {address} {rest})"));
            }
        }
        all
    };
    let mut bodies = Vec::new();
    for op in "i32.load8_s i32.load8_u i32.load16_s i32.load16_u i32.load".split(' ') {
        bodies.extend(places(op, "").iter().map(|load| format!("{fill} (i64.extend_i32_u {load})")));
    }
    for op in "i64.load8_s i64.load8_u i64.load16_s i64.load16_u i64.load32_s i64.load32_u i64.load".split(' ') {
        bodies.extend(places(op, "").iter().map(|load| format!("{fill} {load}")));
    }
    bodies
        .extend(places("f32.load", "").iter().map(|l| format!("{fill} (i64.extend_i32_u (i32.reinterpret_f32 {l}))")));
    bodies.extend(places("f64.load", "").iter().map(|l| format!("{fill} (i64.reinterpret_f64 {l})")));
    bodies.extend(
        places("f64.load", "").iter().map(|l| format!("{fill} (i64.reinterpret_f64 (f64.add {l} (f64.const 0)))")),
    );
    let after = "(i64.add (i64.load (i32.const 96)) (i64.add (i64.load (i32.const 0)) (i64.load (i32.const 65528))))";
    for op in
        "i32.store8 i32.store16 i32.store i64.store8 i64.store16 i64.store32 i64.store f32.store f64.store".split(' ')
    {
        let ty = &op[..3];
        let values = match ty {
            "i32" => ["(local.get $b)", "(i32.const -7)", "(i32.mul (local.get $b) (local.get $a))"],
            "i64" => ["(i64.extend_i32_u (local.get $b))", "(i64.const -7)", "(i64.const 0x123456789abc)"],
            "f32" => ["(f32.convert_i32_s (local.get $b))", "(f32.const 2)", "(f32.mul (f32.const 2) (f32.const 3))"],
            _ => ["(f64.convert_i32_s (local.get $b))", "(f64.const 2)", "(f64.mul (f64.const 2) (f64.const 3))"],
        };
        for value in values {
            bodies.extend(places(op, value).iter().map(|store| format!("{fill} {store} {after}")));
        }
    }
    // From memory to memory.
    for (load, store) in [("i32.load", "i32.store"), ("i64.load", "i64.store")] {
        for address in ["(local.get $b)", "(i32.const 96)"] {
            bodies.push(format!("{fill} ({store} offset=8 (local.get $a) ({load} offset=4 {address})) {after}"));
        }
    }
    for chunk in bodies.chunks(100) {
        agree("i32", chunk, &addresses);
    }
}

/// Slots beyond those that an instruction can name with a byte, beyond what one of AArch64 can, and frames that are larger than
/// what is zeroed in a row.
#[test]
fn frames_may_be_large() {
    for locals in [10, 40, 600, 5000] {
        let many = " i64".repeat(locals);
        let text = format!(
            "(module (func $f (export \"f\") (param $n i64) (result i64) (local{many}) (local $x i64) (local $y i64) (local $i i32)
                (if (i64.eqz (local.get $n)) (then (return (i64.add (local.get $x) (i64.const 9)))))
                (loop $l
                    (local.set $x (i64.add (i64.mul (local.get $x) (i64.const 3)) (local.get 1)))
                    (local.set $y (i64.sub (local.get $x) (local.get $y)))
                    (local.set 1 (i64.add (local.get $n) (local.get {locals})))
                    (local.set $x (select (local.get $x) (local.get $y) (i32.and (local.get $i) (i32.const 1))))
                    (br_if $l (i32.lt_s (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 9))))
                (i64.add (local.get $x) (call $f (i64.sub (local.get $n) (i64.const 1))))))"
        );
        let run = |engine: &Engine| {
            let (mut store, instance) = setup(engine, &text);
            let f = instance.get_typed_func::<i64, i64>(&mut store, "f").unwrap();
            [7, 0, 20].map(|n| f.call(&mut store, n).unwrap())
        };
        let mut results = steady_configs().into_iter().map(|config| (run(&Engine::new(&config).unwrap()), config));
        let (expected, _) = results.next().unwrap();
        for (result, config) in results {
            assert_eq!(result, expected, "{locals} locals\n{config:?}");
        }
    }
}

/// The upper half of a vector in the last slot that has a number, 65,535, is in one that has none.
#[test]
fn vectors_lie_in_the_last_slot() {
    for (types, last) in [("i64", 32_766), ("i64 i64", 32_767), ("i64", 32_765), ("i64", 32_760), ("i64", 32_761)] {
        let first = types.split(' ').count();
        let many = " v128".repeat(last - first + 2);
        let text = format!(
            "(module (func (export \"f\") (param {types}) (result i64) (local{many}) (local $i i32)
                (loop $l
                    (local.set {first} (v128.const i64x2 5 6))
                    (local.set {last} (i64x2.add (local.get {first}) (local.get {last})))
                    (local.set {last} (local.get {first}))
                    (local.set {first} (local.get {last}))
                    (br_if $l (i32.lt_s (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 3))))
                (i64.add (i64.mul (local.get 0) (i64.const 100))
                    (i64.add (i64x2.extract_lane 0 (local.get {last}))
                        (i64.mul (i64.const 10) (i64x2.extract_lane 1 (local.get {first})))))))"
        );
        for config in steady_configs().into_iter().filter(|config| !format!("{config:?}").contains("strategy: Jit")) {
            let (mut store, instance) = setup(&Engine::new(&config).unwrap(), &text);
            let f = instance.get_func(&mut store, "f").unwrap();
            let arguments = vec![Value::I64(7); first];
            for _ in 0..2 {
                let mut out = [Value::I64(0)];
                f.call(&mut store, &arguments, &mut out).unwrap();
                assert_eq!(bits(&out[0]), 765, "{types} {last}\n{config:?}");
            }
        }
    }
}
