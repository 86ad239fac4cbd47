//! Tests of code that is entered at a loop: with frames made by hand, and with those of random programs.

use std::fmt::Write;

use super::enter::call_loop;
use super::{CodeEntry, Tier, compile};
use crate::interp::FrameLayout;
use crate::vm::context::VMContext;
use crate::*;

fn interpreter() -> Engine {
    Engine::new(Config::new().strategy(Strategy::Interpreter)).unwrap()
}

/// An engine that compiles no functions by itself.
fn tiered() -> Engine {
    Engine::new(Config::new().strategy(Strategy::Tiered).tiering(Tiering::AtLoops)).unwrap()
}

/// The defined function that is exported as `f`.
fn defined(module: &Module) -> u32 {
    module.export_func_index("f").unwrap() - module.0.facts.imported_funcs()
}

/// Byte offsets of the loops of `f`.
fn loops(module: &Module) -> Vec<u32> {
    let body = module.0.facts.body(defined(module)).unwrap();
    let operators = body.get_operators_reader().unwrap().into_iter_with_offsets().map(Result::unwrap);
    let loops = operators.filter(|(op, _)| matches!(op, wasmparser::Operator::Loop { .. }));
    loops.map(|(_, at)| at as u32).collect()
}

/// Writes values to consecutive slots.
fn write(store: &mut Store<Snapshot>, slots: &mut [u64], next: &mut u32, values: &[Value]) {
    for value in values {
        let slot = FrameLayout::place(next, &value.ty()) as usize;
        // SAFETY: the test makes the frame large enough.
        unsafe {
            Value::write_all(std::slice::from_ref(value), slots[slot..].as_mut_ptr(), &mut store.inner_mut().opaque)
                .unwrap();
        }
    }
}

/// Enters `f` at a loop, with a frame that holds these values.
fn enter(
    store: &mut Store<Snapshot>,
    instance: Instance,
    module: &Module,
    tier: Tier,
    entry: (u32, bool),
    locals: &[Value],
    operands: &[Value],
) -> Result<Vec<Value>> {
    let (offset, wide_slots) = entry;
    let index = defined(module);
    let compiled = compile(&module.0.jit, index, tier, CodeEntry::Loop { offset, wide_slots })?;
    assert!(compiled.size() > 0);
    let code = module.0.jit.publish(vec![compiled])?[0];
    assert_eq!(module.0.jit.native(index), None);
    let ty = module.0.facts.defined_type(index);
    let (params, rest) = locals.split_at(ty.params().len());
    let layout = FrameLayout::new(ty, wide_slots);
    let mut frame = vec![0xDEAD_BEEF_DEAD_BEEF; layout.locals as usize + 2 * (rest.len() + operands.len()) + 2];
    write(store, &mut frame, &mut 0, params);
    let mut next = layout.locals;
    write(store, &mut frame, &mut next, rest);
    write(store, &mut frame, &mut next, operands);
    let func = instance.get_func(&mut *store, "f").unwrap();
    let mut results: Vec<Value> = ty.results().iter().map(Value::default_for).collect();
    let opaque = &raw mut store.inner_mut().opaque;
    // SAFETY: the context is that of the live instance, the frame is one of the function, at that loop.
    unsafe {
        let vmctx = (*func.func_ref(&*opaque).as_ptr()).owner.cast::<VMContext>();
        let entered = (*opaque).enter_wasm(crate::sys::stack_pointer())?;
        let result = call_loop(vmctx, code, frame.as_mut_ptr());
        (*opaque).exit_wasm(entered);
        result?;
        Value::read_all(ty.results(), frame.as_ptr(), &*opaque, &mut results);
    }
    Ok(results)
}

/// The result of a call as text: values, or the trap and its backtrace.
fn outcome(result: Result<Vec<Value>>) -> String {
    match result {
        Ok(values) => {
            let printed = values.iter().map(|value| match value {
                Value::F32(x) => format!("{:x}", x.to_bits()),
                Value::F64(x) => format!("{:x}", x.to_bits()),
                Value::FuncRef(func) => format!("{}", func.is_some()),
                value => format!("{value:?}"),
            });
            printed.collect::<Vec<_>>().join(" ")
        }
        Err(error) => {
            let frames: Vec<_> = error.backtrace().iter().map(|frame| (frame.func_index, frame.offset)).collect();
            format!("{:?} at {frames:x?}", error.trap().unwrap_or_else(|| panic!("{error}")))
        }
    }
}

/// Which arrival at a loop ends the program, so that its state can be taken from its globals: the loop's number, and
/// how many more arrivals there are until then.
#[derive(Default)]
struct Snapshot {
    awaited: Option<(i32, u32)>,
}

fn call(store: &mut Store<Snapshot>, instance: Instance, args: &[Value]) -> Result<Vec<Value>> {
    let func = instance.get_func(&mut *store, "f").unwrap();
    let results = func.ty(&mut *store).results().to_vec();
    let mut results: Vec<Value> = results.iter().map(Value::default_for).collect();
    func.call(store, args, &mut results).map(|()| results)
}

/// Checks that `f`, called with `args`, gives the same result interpreted and entered at its loop `number`. `locals`
/// (parameters first) and `operands` are the values at the first arrival there.
#[track_caller]
fn assert_entered(wat: &str, args: &[Value], number: usize, locals: &[Value], operands: &[Value]) {
    let module = Module::new(&interpreter(), wat).unwrap();
    let mut store = Store::new(module.engine(), Snapshot::default());
    let instance = Instance::new(&mut store, &module, &[]).unwrap();
    let want = outcome(call(&mut store, instance, args));
    for wide_slots in [false, true] {
        for tier in [Tier::Quick, Tier::Best] {
            let module = Module::new(&tiered(), wat).unwrap();
            let mut store = Store::new(module.engine(), Snapshot::default());
            let instance = Instance::new(&mut store, &module, &[]).unwrap();
            let entry = (loops(&module)[number], wide_slots);
            let got = enter(&mut store, instance, &module, tier, entry, locals, operands);
            assert_eq!(outcome(got), want, "{tier:?}");
        }
    }
}

#[test]
fn nested_loops_are_entered_inside() {
    let wat = r#"(module (func (export "f") (param $n i32) (result i64) (local $i i32) (local $j i32) (local $sum i64)
        (loop $outer
            (local.set $j (i32.const 0))
            (loop $inner
                (local.set $sum (i64.add (local.get $sum) (i64.extend_i32_u (i32.mul (local.get $i) (local.get $j)))))
                (br_if $inner (i32.lt_u (local.tee $j (i32.add (local.get $j) (i32.const 1))) (local.get $n))))
            (br_if $outer (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $n))))
        (local.get $sum)))"#;
    let (n, zero, sum) = (Value::I32(20), Value::I32(0), Value::I64(0));
    let locals = [n.clone(), zero.clone(), zero, sum];
    assert_entered(wat, std::slice::from_ref(&n), 0, &locals, &[]);
    assert_entered(wat, &[n], 1, &locals, &[]);
}

#[test]
fn operands_of_all_types_below_a_loop_survive() {
    let wat = r#"(module (func (export "f") (param i32 i64 f32 f64 v128) (result v128 f64 f32 i64 i32 i32)
        (local $kept funcref)
        local.get 4 local.get 3 local.get 2
        block (result i64)
            local.get 1 local.get 0 ref.null func
            local.get 0
            loop (param i32) (result i32)
                i32.const 1 i32.sub local.tee 0
                local.get 0 br_if 0
            end
            drop local.set $kept drop
        end
        local.get 0
        local.get $kept ref.is_null))"#;
    let args = [Value::I32(3), Value::I64(-4), Value::F32(1.5), Value::F64(-2.5), Value::V128(7 << 100)];
    let [i32, i64, f32, f64, v128] = args.clone();
    let locals = [&args[..], &[Value::FuncRef(None)]].concat();
    assert_entered(wat, &args, 0, &locals, &[v128, f64, f32, i64, i32.clone(), Value::FuncRef(None), i32]);
}

#[test]
fn traps_in_entered_code_tell_where() {
    let wat = r#"(module (memory 1)
        (func $callee (param i32) (result i32) (i32.div_u (i32.const 100) (local.get 0)))
        (func (export "f") (param i32 i32) (result i32)
            (loop
                (if (i32.eqz (local.get 1)) (then (drop (call $callee (local.get 0)))))
                (drop (i32.load (i32.add (local.get 1) (local.get 0))))
                (local.set 0 (i32.sub (local.get 0) (i32.const 1)))
                (br 0))
            (unreachable)))"#;
    for args in [[Value::I32(9), Value::I32(0)], [Value::I32(9), Value::I32(1)]] {
        assert_entered(wat, &args, 0, &args, &[]);
    }
}

#[test]
fn results_beyond_registers_and_tail_calls_end_in_the_frame() {
    let types = "i32 i64 f32 f64 v128 ".repeat(5);
    let values = "(i32.const 1) (i64.const 2) (f32.const 3) (f64.const 4) (v128.const i64x2 5 6) ".repeat(5);
    let body = "(loop (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))";
    for end in [values.clone(), "(return_call $other)".into(), "(return_call_indirect (type $t) (i32.const 0))".into()]
    {
        let wat = format!(
            r#"(module (type $t (func (result {types}))) (table funcref (elem $other))
                (func $other (type $t) {values}) (func (export "f") (param i32) (result {types}) {body} {end}))"#
        );
        assert_entered(&wat, &[Value::I32(5)], 0, &[Value::I32(5)], &[]);
    }
}

#[test]
fn frames_may_have_slots_beyond_16_bits() {
    let count = 40_000;
    let wat = format!(
        r#"(module (func (export "f") (param i32) (result i32) (local {})
            (local.get 0)
            (loop (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
            (i32.add (i32x4.extract_lane 0 (local.get {count})))))"#,
        "v128 ".repeat(count)
    );
    let locals = [vec![Value::I32(3)], vec![Value::V128(0); count]].concat();
    assert_entered(&wat, &[Value::I32(3)], 0, &locals, &[Value::I32(3)]);
}

#[test]
fn what_is_no_loop_is_refused() {
    let wat = r#"(module (func (export "f") (block) (loop (br 0)) (loop)))"#;
    let module = Module::new(&tiered(), wat).unwrap();
    let [first, second] = loops(&module)[..] else { panic!("two loops") };
    for tier in [Tier::Quick, Tier::Best] {
        let refused = |offset| compile(&module.0.jit, 0, tier, CodeEntry::Loop { offset, wide_slots: false }).is_err();
        assert!(!refused(first) && refused(second) && refused(first + 1) && refused(0) && refused(u32::MAX));
    }
}

#[test]
fn many_locals_in_many_blocks_are_refused_in_time() {
    let sets: String = (0..50_000).map(|n| format!("(local.set {n} (i32.const 1))")).collect();
    let wat = format!(
        r#"(module (func (export "f") (local {}) {} {sets} (loop (br 0))))"#,
        "i32 ".repeat(50_000),
        "local.get 0 if end ".repeat(500_000)
    );
    let module = Module::new(&tiered(), &wat).unwrap();
    for entry in [CodeEntry::Function, CodeEntry::Loop { offset: loops(&module)[0], wide_slots: false }] {
        assert!(compile(&module.0.jit, 0, Tier::Best, entry).is_err());
    }
}

#[test]
fn deep_nesting_over_many_operands_is_refused_in_time() {
    let depth = 60_000;
    let wat = format!(
        r#"(module (func (export "f") (param i32) {} (loop (br_if 0 (local.get 0))) {}))"#,
        "local.get 0 block ".repeat(depth),
        "(br_if 0 (local.get 0)) end drop ".repeat(depth)
    );
    let module = Module::new(&tiered(), &wat).unwrap();
    let entry = CodeEntry::Loop { offset: loops(&module)[0], wide_slots: true };
    assert!(compile(&module.0.jit, 0, Tier::Best, entry).is_err());
}

/// Writes random programs, in which a random number generator decides about every branch. Before each loop they write
/// their locals to exported globals; operands are written to globals too, by height.
struct RandomProgram {
    state: u64,
    text: String,
    /// Types of the operands on the stack.
    stack: Vec<&'static str>,
    /// The enclosing labels, outermost first, with the types of the values that branches to them carry.
    labels: Vec<Vec<&'static str>>,
    tries: u32,
    /// Types of the operands on the stack at each loop.
    loops: Vec<Vec<&'static str>>,
    statements: u32,
}

const TYPES: [&str; 6] = ["i32", "i64", "f32", "f64", "v128", "funcref"];
/// Locals: two parameters, then two of each type.
const LOCALS: [&str; 14] =
    ["i32", "i64", "i32", "i32", "i64", "i64", "f32", "f32", "f64", "f64", "v128", "v128", "funcref", "funcref"];
const RESULTS: [&str; 4] = ["i64", "i32", "v128", "f64"];
const MAX_HEIGHT: usize = 24;

impl RandomProgram {
    fn below(&mut self, n: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) % n
    }

    fn types(&mut self, most: u64) -> Vec<&'static str> {
        (0..self.below(most + 1)).map(|_| TYPES[self.below(6) as usize]).collect()
    }

    fn put(&mut self, text: impl std::fmt::Display) {
        writeln!(self.text, "{text}").unwrap();
    }

    /// Code for a value of a type.
    fn value(&mut self, ty: &str) -> String {
        let own: Vec<usize> = (0..LOCALS.len()).filter(|index| LOCALS[*index] == ty).collect();
        let local = format!("(local.get {})", own[self.below(own.len() as u64) as usize]);
        let n = self.below(1000);
        match (ty, self.below(3)) {
            (_, 0) => local,
            ("i32", 1) => format!("(i32.load offset={} (i32.and (i32.const 0xffff) {local}))", n % 16),
            ("i32", _) => format!("(i32.add {local} (i32.const {n}))"),
            ("i64", 1) => format!("(i64.load offset={} (i32.and (i32.const 0xffff) (local.get 0)))", n % 8),
            ("i64", _) => format!("(i64.xor (i64.const {n}) {local})"),
            ("f32", _) => format!("(f32.reinterpret_i32 (i32.and (i32.const 0x3fffffff) {}))", self.value("i32")),
            ("f64", _) => format!("(f64.add (f64.const {n}) {local})"),
            ("v128", _) => format!("(i32x4.add (i32x4.splat (i32.const {n})) {local})"),
            (_, 1) => "(ref.func $coin)".into(),
            _ => "(ref.null func)".into(),
        }
    }

    fn push(&mut self, ty: &'static str) {
        let (value, height) = (self.value(ty), self.stack.len());
        self.put(format!("(global.set $m{height}_{ty} {value}) (global.get $m{height}_{ty})"));
        self.stack.push(ty);
    }

    /// Adds the topmost operand to the trace, and drops it.
    fn pop(&mut self) {
        let ty = self.stack.pop().unwrap();
        self.put(format!("(call $trace_{ty})"));
    }

    fn push_all(&mut self, types: &[&'static str]) {
        types.iter().for_each(|ty| self.push(ty));
    }

    fn pop_all(&mut self, count: usize) {
        (0..count).for_each(|_| self.pop());
    }

    fn statement(&mut self, depth: u32) {
        self.statements = self.statements.saturating_sub(1);
        match self.below(10) {
            0..3 => {
                let index = self.below(LOCALS.len() as u64) as usize;
                let value = self.value(LOCALS[index]);
                self.put(format!("(local.set {index} {value})"));
            }
            3 => {
                let ty = TYPES[self.below(6) as usize];
                let value = self.value(ty);
                self.put(format!("{value} (call $trace_{ty})"));
            }
            4 => {
                let value = self.value("i32");
                self.put(format!("(i32.store offset=4 (i32.and (i32.const 0xffff) (local.get 2)) {value})"));
            }
            5 if !self.labels.is_empty() => {
                let depth = self.below(self.labels.len() as u64) as usize;
                let types = self.labels[self.labels.len() - 1 - depth].clone();
                self.push_all(&types);
                self.put(format!("(br_if {depth} (call $coin))"));
                self.pop_all(types.len());
            }
            6 => {
                let plain = |types: &Vec<&str>| types.is_empty();
                let depths: Vec<usize> =
                    (0..self.labels.len()).filter(|d| plain(&self.labels[self.labels.len() - 1 - d])).collect();
                if let [first, .., last] = depths[..] {
                    self.put(format!(
                        "(if (call $coin) (then (br_table {} {} {} (call $coin))))",
                        first + 1,
                        last + 1,
                        first + 1
                    ));
                } else if self.tries > 0 {
                    self.put("(if (call $coin) (then (throw $e (local.get 0))))");
                } else {
                    self.labels.push(vec!["i32"]);
                    self.put("(if (i32.and (call $coin) (call $coin)) (then ");
                    self.leave();
                    self.put("))");
                    self.labels.pop();
                }
            }
            _ if depth > 0 && self.stack.len() + 8 < MAX_HEIGHT && self.statements > 0 => self.construct(depth - 1),
            _ => self.put("(nop)"),
        }
    }

    /// Branches to an enclosing label that carries no values, except the innermost, or returns.
    fn leave(&mut self) {
        let outer = 1..self.labels.len();
        let depths: Vec<usize> = outer.filter(|depth| self.labels[self.labels.len() - 1 - depth].is_empty()).collect();
        match depths.first() {
            Some(depth) => self.put(format!("(br {depth})")),
            None => {
                let values: String = RESULTS.iter().map(|ty| self.value(ty)).collect();
                self.put(format!("{values} return"));
            }
        }
    }

    fn statements(&mut self, depth: u32) {
        (0..self.below(5)).for_each(|_| self.statement(depth));
    }

    fn construct(&mut self, depth: u32) {
        let below = self.types(3);
        self.push_all(&below);
        let (params, results) = (self.types(2), self.types(2));
        self.push_all(&params);
        let signature = format!("(param {}) (result {})", params.join(" "), results.join(" "));
        let kind = self.below(6);
        let label = if kind < 3 { params.clone() } else { results.clone() };
        match kind {
            0..3 => {
                for index in 0..LOCALS.len() {
                    self.put(format!("(global.set $l{index} (local.get {index}))"));
                }
                self.put(format!("(call $arrive (i32.const {}))", self.loops.len()));
                self.loops.push(self.stack.clone());
                self.put(format!("loop {signature}"));
            }
            3 => self.put(format!("block {signature}")),
            4 => self.put(format!("(call $coin) if {signature}")),
            _ => {
                self.tries += 1;
                // The handler is an enclosing block: there the payload is dropped as the body's results are.
                self.put(format!(
                    "block $c (param {}) (result i32) try_table {signature} (catch $e $c)",
                    params.join(" ")
                ));
                self.labels.push(vec!["i32"]);
            }
        }
        self.labels.push(label.clone());
        let height = self.stack.len();
        for arm in 0..=u32::from(kind == 4) {
            if arm == 1 {
                self.put("else");
                self.stack.truncate(height - params.len());
                self.stack.extend(&params);
            }
            self.pop_all(params.len());
            self.statements(depth);
            if kind < 3 {
                self.push_all(&label);
                self.put("(br_if 0 (call $coin))");
                self.pop_all(label.len());
            }
            if kind == 4 && arm == 0 && self.below(3) == 0 {
                // This arm does not reach the end, so nothing merges there.
                self.leave();
                self.stack.extend(&results);
            } else {
                self.push_all(&results);
            }
        }
        self.labels.pop();
        self.put("end");
        if kind == 5 {
            self.tries -= 1;
            self.labels.pop();
            self.pop_all(results.len());
            self.put("(i32.const 5) end");
            self.stack.push("i32");
            self.pop();
        } else {
            self.pop_all(results.len());
        }
        self.pop_all(below.len());
    }

    fn program(seed: u64) -> RandomProgram {
        let (text, stack, labels) = Default::default();
        let mut this = RandomProgram { state: seed, text, stack, labels, tries: 0, loops: Vec::new(), statements: 60 };
        for _ in 0..4 {
            this.construct(4);
        }
        let body = std::mem::take(&mut this.text);
        let results: String = RESULTS.iter().map(|ty| this.value(ty)).collect();
        let zero = |ty: &str| match ty {
            "v128" => "(v128.const i64x2 0 0)".to_string(),
            "funcref" => "(ref.null func)".to_string(),
            ty => format!("({ty}.const 0)"),
        };
        let mut text = String::from(
            r#"(module (import "" "arrive" (func $arrive (param i32))) (tag $e (param i32)) (memory 1)
            (global $seed (mut i32) (i32.const 12345)) (global $fuel (mut i32) (i32.const 300))
            (global $trace (export "trace") (mut i64) (i64.const 0))
            (elem declare func $coin)
            (func $coin (result i32)
                (global.set $fuel (i32.sub (global.get $fuel) (i32.const 1)))
                (global.set $seed (i32.add (i32.mul (global.get $seed) (i32.const 1103515245)) (i32.const 12345)))
                (i32.and (i32.gt_s (global.get $fuel) (i32.const 0)) (i32.shr_u (global.get $seed) (i32.const 16))))
            (func $trace_i64 (param i64)
                (global.set $trace (i64.add (i64.mul (global.get $trace) (i64.const 31)) (local.get 0))))
            (func $trace_i32 (param i32) (call $trace_i64 (i64.extend_i32_u (local.get 0))))
            (func $trace_f32 (param f32) (call $trace_i32 (i32.reinterpret_f32 (local.get 0))))
            (func $trace_f64 (param f64) (call $trace_i64 (i64.reinterpret_f64 (local.get 0))))
            (func $trace_v128 (param v128) (call $trace_i64 (i64x2.extract_lane 0 (local.get 0)))
                (call $trace_i64 (i64x2.extract_lane 1 (local.get 0))))
            (func $trace_funcref (param funcref) (call $trace_i32 (ref.is_null (local.get 0))))"#,
        );
        for height in 0..MAX_HEIGHT {
            for ty in TYPES {
                writeln!(text, r#"(global $m{height}_{ty} (export "m{height}_{ty}") (mut {ty}) {})"#, zero(ty))
                    .unwrap();
            }
        }
        for (index, ty) in LOCALS.iter().enumerate() {
            writeln!(text, r#"(global $l{index} (export "l{index}") (mut {ty}) {})"#, zero(ty)).unwrap();
        }
        let locals = LOCALS[2..].join(" ");
        let types = RESULTS.join(" ");
        this.text = format!(
            r#"{text} (func (export "f") (param i32 i64) (result {types}) (local {locals}) {body} {results}))"#
        );
        this
    }
}

/// An instance of a random program.
fn program(module: &Module) -> (Store<Snapshot>, Instance) {
    let mut store = Store::new(module.engine(), Snapshot::default());
    let arrive = Func::wrap(&mut store, |mut caller: Caller<'_, Snapshot>, number: i32| -> Result<()> {
        match &mut caller.data_mut().awaited {
            Some((awaited, left)) if *awaited == number => {
                *left -= 1;
                if *left == 0 { Err(Error::host("here")) } else { Ok(()) }
            }
            _ => Ok(()),
        }
    });
    let instance = Instance::new(&mut store, module, &[arrive.into()]).unwrap();
    (store, instance)
}

fn global(store: &mut Store<Snapshot>, instance: Instance, name: &str) -> Value {
    let Some(Extern::Global(global)) = instance.get_export(&mut *store, name) else { panic!("no global {name}") };
    global.get(store)
}

#[test]
fn random_programs_are_entered_at_all_of_their_loops() {
    let (args, engine, tiered) = ([Value::I32(77), Value::I64(-5)], interpreter(), tiered());
    let mut entered = 0;
    for seed in 1..60 {
        let program_text = RandomProgram::program(seed * 0x9E37_79B9_7F4A_7C15);
        let module = Module::new(&engine, &program_text.text).unwrap();
        let (mut store, instance) = program(&module);
        let result = call(&mut store, instance, &args);
        let want = (outcome(result), global(&mut store, instance, "trace"));
        let module = Module::new(&tiered, &program_text.text).unwrap();
        let offsets = loops(&module);
        assert_eq!(offsets.len(), program_text.loops.len());
        for (number, types) in program_text.loops.iter().enumerate() {
            for (arrival, tier) in [(1, Tier::Quick), (1, Tier::Best), (3, Tier::Best)] {
                let (mut store, instance) = program(&module);
                store.data_mut().awaited = Some((number as i32, arrival));
                let stopped = call(&mut store, instance, &args);
                if !stopped.is_err_and(|error| error.to_string() == "here") {
                    continue;
                }
                entered += 1;
                store.data_mut().awaited = None;
                let locals: Vec<Value> =
                    (0..LOCALS.len()).map(|index| global(&mut store, instance, &format!("l{index}"))).collect();
                let names = types.iter().enumerate().map(|(height, ty)| format!("m{height}_{ty}"));
                let operands: Vec<Value> = names.map(|name| global(&mut store, instance, &name)).collect();
                let entry = (offsets[number], false);
                let got = enter(&mut store, instance, &module, tier, entry, &locals, &operands);
                let got = (outcome(got), global(&mut store, instance, "trace"));
                assert_eq!(
                    format!("{got:?}"),
                    format!("{want:?}"),
                    "{tier:?}, loop {number}, arrival {arrival} of\n{}",
                    program_text.text
                );
            }
        }
    }
    assert!(entered > 500, "{entered}");
}
