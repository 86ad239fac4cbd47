//! What makes a value, what comes in between, what takes the value: every pair of these, and a part of the triples, with
//! values of all types. An engine may keep the value in a register, put off a copy, or make one instruction of two, and
//! what comes in between (a branch, another value for a local, a call, a trap, an exception) must not be able to tell.

use wasmrun::{Config, Dispatch, Engine, Instance, Module, Store, Strategy, Tiering, Value};

use crate::engines::bits;

/// The instructions of a type that programs are made of.
struct Type {
    name: &'static str,
    /// What the words in capitals of the lists below stand for.
    words: &'static [(&'static str, &'static str)],
    values: fn(i32) -> Value,
    /// What makes a value, besides what does for all types.
    producers: &'static [&'static str],
}

const TYPES: [Type; 5] = [
    Type {
        name: "i32",
        words: &[
            ("SUB", "i32.sub"),
            ("ADD", "i32.add"),
            ("NEG", "i32.ctz"),
            ("CONST", "(i32.const 3)"),
            ("LARGE", "(i32.const 0x12345678)"),
            ("LESS", "i32.lt_s"),
            ("TO", ""),
            ("FROM", ""),
        ],
        values: Value::I32,
        producers: &[
            "(i32.eqz (local.get $a))",
            "(i32.eqz (i32.lt_u (local.get $a) (local.get $b)))",
            "(i32.and (local.get $a) (local.get $b))",
            "(i32.and (i32.add (local.get $a) (i32.const 1)) (i32.const 6))",
            "(i32.add (i32.shl (local.get $c) (i32.const 2)) (local.get $a))",
            "(i32.add (local.get $a) (i32.shl (local.get $c) (i32.const 2)))",
            "(i32.add (global.get $i) (i32.const 5))",
            "(local.tee $a (i32.sub (global.get $i) (i32.const 16)))",
            "(i32.reinterpret_f32 (f32.add (f32.reinterpret_i32 (i32.and (local.get $a) (i32.const 63))) (f32.const 1)))",
            "(i32.trunc_sat_f64_s (f64.convert_i32_s (local.get $a)))",
            "(i32.wrap_i64 (i64.extend_i32_u (local.get $a)))",
            "(i32.load8_u (i32.add (local.get $c) (i32.const 9)))",
            "(f64.lt (f64.convert_i32_s (local.get $a)) (f64.const 3))",
        ],
    },
    Type {
        name: "i64",
        words: &[
            ("SUB", "i64.sub"),
            ("ADD", "i64.add"),
            ("NEG", "i64.ctz"),
            ("CONST", "(i64.const 3)"),
            ("LARGE", "(i64.const 0x123456789abcdef)"),
            ("LESS", "i64.lt_s i64.extend_i32_u"),
            ("TO", "i32.wrap_i64"),
            ("FROM", "i64.extend_i32_u"),
        ],
        values: |n| Value::I64(i64::from(n) << 31 | 5),
        producers: &[
            "(i64.extend_i32_u (i32.add (local.get $c) (i32.const -7)))",
            "(i64.reinterpret_f64 (f64.neg (f64.reinterpret_i64 (local.get $a))))",
            "(i64.extend_i32_u (i64.eqz (local.get $a)))",
        ],
    },
    Type {
        name: "f32",
        words: &[
            ("SUB", "f32.sub"),
            ("ADD", "f32.add"),
            ("NEG", "f32.neg"),
            ("CONST", "(f32.const 3)"),
            ("LARGE", "(f32.const 1e30)"),
            ("LESS", "f32.lt f32.convert_i32_s"),
            ("TO", "i32.trunc_sat_f32_s"),
            ("FROM", "f32.convert_i32_s"),
        ],
        values: |n| Value::F32(n as f32 + 0.5),
        producers: &[
            "(f32.demote_f64 (f64.sqrt (f64.promote_f32 (local.get $a))))",
            "(f32.reinterpret_i32 (i32.add (i32.reinterpret_f32 (local.get $a)) (i32.const 1)))",
        ],
    },
    Type {
        name: "f64",
        words: &[
            ("SUB", "f64.sub"),
            ("ADD", "f64.add"),
            ("NEG", "f64.neg"),
            ("CONST", "(f64.const 3)"),
            ("LARGE", "(f64.const 1e300)"),
            ("LESS", "f64.lt f64.convert_i32_s"),
            ("TO", "i32.trunc_sat_f64_s"),
            ("FROM", "f64.convert_i32_s"),
        ],
        values: |n| Value::F64(f64::from(n) + 0.5),
        producers: &[
            "(f64.promote_f32 (f32.sqrt (f32.demote_f64 (local.get $a))))",
            "(f64.reinterpret_i64 (i64.add (i64.reinterpret_f64 (local.get $a)) (i64.const 1)))",
            "(f64.convert_i64_s (i64.extend_i32_s (local.get $c)))",
        ],
    },
    Type {
        name: "v128",
        words: &[
            ("SUB", "i32x4.sub"),
            ("ADD", "i8x16.add"),
            ("NEG", "i64x2.neg"),
            ("CONST", "(v128.const i32x4 1 2 3 4)"),
            ("LARGE", "(v128.const i32x4 -1 0 77777 4)"),
            ("LESS", "i16x8.lt_s"),
            ("TO", "i32x4.extract_lane 1"),
            ("FROM", "i32x4.splat"),
        ],
        values: |n| Value::V128(0x0123_4567_89ab_cdef_0f1e_2d3c_4b5a_6978_u128.rotate_left(n as u32 & 127)),
        producers: &[
            "(f64x2.splat (f64.convert_i32_s (i32.add (local.get $c) (i32.const 1))))",
            "(v128.bitselect (local.get $a) (local.get $b) (i8x16.splat (local.get $c)))",
        ],
    },
];

const PRODUCERS: [&str; 19] = [
    "(local.get $a)",
    "CONST",
    "(ADD (local.get $a) (local.get $b))",
    "(SUB (local.get $a) CONST)",
    "(ADD (local.get $a) LARGE)",
    "(NEG (local.get $a))",
    "(NEG (ADD (local.get $a) (local.get $b)))",
    "(TYPE.load (i32.const 16))",
    "(TYPE.load (local.get $p))",
    "(TYPE.load offset=4 (i32.add (local.get $c) (i32.const 8)))",
    "(TYPE.load (i32.load (i32.const 4)))",
    "(select (result TYPE) (local.get $a) (local.get $b) (local.get $c))",
    "(local.tee $t (ADD (local.get $a) (local.get $b)))",
    "(local.tee $a (ADD (local.get $a) CONST))",
    "(global.get $g)",
    "(call $id (local.get $a))",
    "(block (result TYPE) (ADD (local.get $a) (local.get $b)))",
    "(if (result TYPE) (local.get $c) (then (ADD (local.get $a) CONST)) (else (local.get $b)))",
    "(i32.add (local.get $c) (i32.const 1)) FROM",
];

/// `P` stands for what makes the value, `K` for what takes it. Around all of it is a block `$out` with one result. Where it
/// begins with `!`, what is below the value is out of reach of what takes it.
const BETWEEN: [&str; 41] = [
    " P K",
    // Other values for locals.
    " P (local.set $a CONST) K",
    " P (local.set $b CONST) K",
    " P (local.set $t CONST) K",
    " P (local.set $c (i32.const 3)) K",
    " P (drop (local.tee $a (ADD (local.get $b) CONST))) K",
    // Values above, other values in memory and in globals.
    " P (drop (ADD (local.get $a) (local.get $b))) K",
    " P (global.set $g CONST) K",
    " P (global.set $i (i32.add (global.get $i) (i32.const 8))) K",
    " P (TYPE.store (i32.const 16) LARGE) K",
    " P (i32.store (i32.const 4) (i32.const 32)) K",
    " P (drop (memory.grow (i32.const 0))) K",
    // Calls.
    " P (call $clobber) K",
    " P (call_indirect (i32.const 0)) K",
    // Traps, where they come to that.
    " P (drop (i32.div_s (i32.const 9) (local.get $c))) K",
    " P (drop (i32.load (i32.mul (local.get $c) (i32.const 0x10000)))) K",
    " P (if (i32.eqz (local.get $c)) (then (unreachable))) K",
    // Exceptions: caught beside the value, around it, with it, and not at all.
    " P (block $h (try_table (catch_all $h) (throw $e))) K",
    " P (block $h (try_table (catch_all $h) (call $throws))) K",
    " (block $h (result TYPE) (try_table (catch $v $h) P (throw $v)) (unreachable)) K",
    "! (block $h (try_table (catch_all $h) P (if (local.get $c) (then (throw $e))) K (br $out))) (local.get $a)",
    " P (if (local.get $c) (then (throw $e))) K",
    // Blocks that the value is below.
    " P (block) (loop) K",
    " P (block (br_if 0 (local.get $c)) (local.set $a CONST)) K",
    " P (loop $l (br_if $l (local.tee $c (i32.shr_u (local.get $c) (i32.const 1))))) K",
    " P (if (local.get $c) (then (local.set $a CONST)) (else (local.set $b CONST))) K",
    // Branches that carry the value.
    " P (br_if $out (local.get $c)) K",
    " P (br_if $out (i32.eqz (local.get $c))) K",
    " P (br_if $out (i32.lt_s (local.get $c) (i32.const 2))) K",
    " P (br_if $out (i32.gt_u (i32.add (local.get $c) (i32.const 1)) (i32.const 1))) K",
    " P (br_if $out (i32.ne (local.tee $c (i32.add (local.get $c) (i32.const 1))) (i32.const 1))) K",
    " P (br_if $out (f64.ne (f64.convert_i32_s (local.get $c)) (f64.const 0))) K",
    " P (br_if $out (i64.eqz (i64.extend_i32_u (i32.and (local.get $c) (i32.const 1))))) K",
    " P (br_if 1 (local.get $c)) K",
    " (block $on (result TYPE) P (br_table $on $out (local.get $c))) K",
    " (block $on (result TYPE) P (br_table $out $on 2 (i32.sub (local.get $c) (i32.const 1)))) K",
    // Constructs that it is a parameter of: what takes it is inside.
    "! P (local.get $c) (if (param TYPE) (result TYPE) (then K) (else))",
    "! P (i32.eqz (local.get $c)) (if (param TYPE) (result TYPE) (then K) (else K))",
    "! P (loop $l (param TYPE) (result TYPE) K (br_if $l (local.tee $c (i32.shr_u (local.get $c) (i32.const 1)))))",
    "! P (block (param TYPE) (result TYPE) (br_if 0 (local.get $c)) K)",
    "! P (try_table (param TYPE) (result TYPE) K)",
];

/// What is below the value, and what takes both.
const CONSUMERS: [(&str, &str); 29] = [
    ("", ""),
    ("", "drop CONST"),
    ("", "return"),
    ("", "NEG"),
    ("", "(local.get $b) SUB"),
    ("", "CONST SUB"),
    ("", "LARGE ADD"),
    ("", "(local.set $t) (local.get $t)"),
    ("", "(local.tee $t) (local.get $t) SUB"),
    ("", "(local.tee $a) (local.get $b) SUB"),
    ("", "(local.set $a) (local.get $a) (local.get $b) SUB"),
    ("", "(global.set $g) (global.get $g)"),
    ("", "(call $id)"),
    ("", "(local.get $b) (local.get $c) (select (result TYPE))"),
    ("", "(local.get $b) LESS"),
    ("", "TO (if (result TYPE) (then (local.get $a)) (else (local.get $b)))"),
    ("", "TO i32.eqz (if (result TYPE) (then (local.get $a)) (else (local.get $b)))"),
    ("", "TO (i32.const 255) i32.and (TYPE.load)"),
    ("", "TO (i32.const 2) i32.lt_s (if (then (br $out CONST))) (local.get $b)"),
    ("", "TO (local.set $d) (block (block (br_table 0 1 (local.get $d))) (return CONST)) (local.get $b)"),
    ("", "TO (global.set $i) (global.get $i) FROM"),
    ("(local.get $a)", "SUB"),
    ("(local.get $b)", "ADD"),
    ("(ADD (local.get $a) (local.get $b))", "SUB"),
    ("CONST", "SUB"),
    ("(local.get $b)", "(local.get $c) (select (result TYPE))"),
    ("(local.get $a) (local.get $b)", "TO (select (result TYPE))"),
    ("(i32.const 48)", "(TYPE.store offset=8) (TYPE.load (i32.const 56))"),
    ("(i32.and (local.get $c) (i32.const 31))", "(TYPE.store) (TYPE.load (i32.and (local.get $c) (i32.const 31)))"),
];

/// Of the triples, one in so many.
const ONE_IN: usize = 2;

impl Type {
    /// A text with what its words in capitals stand for.
    fn filled(&self, text: &str) -> String {
        let text = text.replace("TYPE", self.name);
        self.words.iter().fold(text, |text, (word, instruction)| text.replace(word, instruction))
    }

    /// The bodies with a producer, by its number.
    fn bodies(&self, at: usize, producer: &str) -> Vec<String> {
        let mut bodies = Vec::new();
        for (x, between) in BETWEEN.iter().enumerate() {
            for (k, (below, consumer)) in CONSUMERS.iter().enumerate() {
                let out_of_reach = between.starts_with('!') && !below.is_empty();
                if (at + 2 * x + 3 * k).is_multiple_of(ONE_IN) && !out_of_reach {
                    let between = between.trim_start_matches('!');
                    let all = between.replace(" P", &format!(" {producer}")).replace(" K", &format!(" {consumer}"));
                    bodies.push(self.filled(&format!("{below}{all}")));
                }
            }
        }
        bodies
    }

    /// Functions `f0`, `f1` and so on with these bodies, and `reset`, which makes memory and globals what they were.
    fn module(&self, bodies: &[String]) -> Vec<u8> {
        let mut text = self.filled(
            r#"(module (memory 1) (table funcref (elem $clobber)) (tag $e) (tag $v (param TYPE))
            (data $d "\01\02\03\04\28\00\00\00 9 numbers that are no NaN, of any type")
            (global $g (mut TYPE) LARGE) (global $i (mut i32) (i32.const 24))
            (func (export "reset")
                (memory.init $d (i32.const 0) (i32.const 0) (i32.const 45))
                (global.set $g LARGE) (global.set $i (i32.const 24)))
            (func $id (param TYPE) (result TYPE) (local.get 0))
            (func $throws (throw $e))
            (func $clobber (local i32 i64 f32 f64)
                (local.set 0 (i32.ctz (i32.add (local.get 0) (i32.const 8))))
                (local.set 1 (i64.ctz (i64.add (local.get 1) (i64.const 8))))
                (local.set 2 (f32.neg (f32.add (local.get 2) (f32.const 8))))
                (local.set 3 (f64.neg (f64.add (local.get 3) (f64.const 8)))))"#,
        );
        for (n, body) in bodies.iter().enumerate() {
            text += &self.filled(&format!(
                "(func (export \"f{n}\") (param $a TYPE) (param $b TYPE) (param $c i32) (result TYPE)
                    (local $p i32) (local $t TYPE) (local $d i32) (local.set $p (i32.const 24))
                    (block $out (result TYPE) {body}))"
            ));
        }
        text.push(')');
        wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"))
    }

    fn check(&self) {
        for (at, producer) in self.producers.iter().chain(&PRODUCERS).enumerate() {
            let bodies = self.bodies(at, producer);
            let module = self.module(&bodies);
            let mut expected: Option<Vec<String>> = None;
            for config in configs() {
                let results = self.results(&Engine::new(&config).unwrap(), &module, bodies.len());
                let expected = expected.get_or_insert_with(|| results.clone());
                for (n, (got, wanted)) in results.iter().zip(&*expected).enumerate() {
                    assert_eq!(got, wanted, "{}\n{:?}\n{config:?}", bodies[n / INPUTS.len()], INPUTS[n % INPUTS.len()]);
                }
            }
        }
    }

    /// What the functions give for all inputs.
    fn results(&self, engine: &Engine, module: &[u8], functions: usize) -> Vec<String> {
        let module = Module::new(engine, module).unwrap();
        let mut store = Store::new(engine, ());
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let reset = instance.get_typed_func::<(), ()>(&mut store, "reset").unwrap();
        let mut results = Vec::new();
        for n in 0..functions {
            let f = instance.get_func(&mut store, &format!("f{n}")).unwrap();
            for (a, b, c) in INPUTS {
                reset.call(&mut store, ()).unwrap();
                let mut out = [Value::I64(0)];
                let values = [(self.values)(a), (self.values)(b), Value::I32(c)];
                results.push(match f.call(&mut store, &values, &mut out) {
                    Ok(()) => format!("{:x}", bits(&out[0])),
                    Err(error) => error.trap().map_or(error.to_string(), |trap| trap.to_string()),
                });
            }
        }
        results
    }
}

/// Parameters of the functions.
const INPUTS: [(i32, i32, i32); 6] = [(7, 3, 0), (7, 3, 1), (7, 3, 2), (0, 9, 0), (0, 1, 1), (2, 1, 5)];

/// The first one is an engine that shares nothing with those that keep values in accumulators.
fn configs() -> Vec<Config> {
    let mut all = vec![Config::new(), Config::new()];
    all[0].strategy(Strategy::Interpreter).dispatch(Dispatch::TailCall);
    all[1].strategy(Strategy::Interpreter).dispatch(Dispatch::Loop);
    if Engine::has_jit() {
        let mut config = Config::new();
        config.strategy(Strategy::Jit);
        all.insert(0, config);
        for tiering in [Tiering::Baseline, Tiering::BaselineAtLoops, Tiering::AtLoops] {
            let mut config = Config::new();
            config.strategy(Strategy::Tiered).tiering(tiering);
            all.push(config);
        }
    }
    all
}

#[test]
fn i32s_are_kept() {
    TYPES[0].check();
}

#[test]
fn i64s_are_kept() {
    TYPES[1].check();
}

#[test]
fn f32s_are_kept() {
    TYPES[2].check();
}

#[test]
fn f64s_are_kept() {
    TYPES[3].check();
}

#[test]
fn vectors_are_kept() {
    TYPES[4].check();
}
