//! Tests of what compiled code does with objects: where it traps, what it leaves out, and what a collection finds of it.

use crate::*;

/// The interpreter, and every way in which the JIT compiles; each collects at every allocation if asked.
fn configs(collect_always: bool) -> Vec<Config> {
    type Set = fn(&mut Config) -> &mut Config;
    let all: [Set; 6] = [
        |c| c.strategy(Strategy::Interpreter),
        |c| c.strategy(Strategy::Jit),
        |c| c.strategy(Strategy::Jit).quick_code(true),
        |c| c.strategy(Strategy::Jit).signals_based_traps(false),
        |c| c.strategy(Strategy::Tiered).tiering(Tiering::AtLoops),
        |c| c.strategy(Strategy::Tiered).tiering(Tiering::AtLoops).quick_code(true),
    ];
    let config = |set: Set| {
        let mut config = Config::new();
        set(&mut config).collect_always(collect_always);
        config
    };
    all.into_iter().map(config).collect()
}

/// Runs `test` with an instance of a module on each of these engines.
fn on_each(collect_always: bool, text: &str, test: impl Fn(&mut Store<()>, Instance)) {
    for config in configs(collect_always) {
        println!("{config:?}");
        let engine = Engine::new(&config).unwrap();
        let module = Module::new(&engine, text).unwrap();
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        test(&mut store, instance);
    }
}

fn call<P: WasmParams, R: WasmResults>(store: &mut Store<()>, instance: Instance, name: &str, params: P) -> Result<R> {
    instance.get_typed_func::<P, R>(&mut *store, name).unwrap().call(store, params)
}

/// The trap of a call, and the byte offset of the instruction that trapped.
fn trapped(store: &mut Store<()>, instance: Instance, name: &str, param: i32) -> (Trap, usize) {
    let error = call::<i32, ()>(store, instance, name, param).unwrap_err();
    (error.trap().unwrap(), error.backtrace()[0].module_offset())
}

/// All instructions that trap, one function each: (text, trap). The parameter is an index. The last instruction but `drop` traps.
const TRAPS: [(&str, Trap); 23] = [
    ("(drop (struct.get $s 0 (ref.null $s)))", Trap::NullStructReference),
    ("(drop (struct.get_u $s 1 (ref.null $s)))", Trap::NullStructReference),
    ("(drop (struct.get $s 2 (ref.null $s)))", Trap::NullStructReference),
    ("(drop (struct.get $s 3 (ref.null $s)))", Trap::NullStructReference),
    ("(drop (struct.get $s 4 (ref.null $s)))", Trap::NullStructReference),
    ("(struct.set $s 0 (ref.null $s) (i32.const 1))", Trap::NullStructReference),
    ("(struct.set $s 3 (ref.null $s) (v128.const i64x2 1 2))", Trap::NullStructReference),
    ("(struct.set $s 4 (ref.null $s) (ref.func $f))", Trap::NullStructReference),
    ("(drop (array.len (ref.null $a)))", Trap::NullArrayReference),
    ("(drop (array.get $a (ref.null $a) (local.get 0)))", Trap::NullArrayReference),
    ("(array.set $a (ref.null $a) (local.get 0) (i64.const 1))", Trap::NullArrayReference),
    ("(array.fill $a (ref.null $a) (local.get 0) (i64.const 1) (i32.const 1))", Trap::NullArrayReference),
    ("(drop (array.get $a (array.new_default $a (i32.const 3)) (local.get 0)))", Trap::ArrayOutOfBounds),
    ("(array.set $a (array.new_default $a (i32.const 3)) (local.get 0) (i64.const 1))", Trap::ArrayOutOfBounds),
    ("(drop (array.get $a (array.new_default $a (i32.const 0)) (i32.const 0)))", Trap::ArrayOutOfBounds),
    ("(drop (i31.get_s (ref.null i31)))", Trap::NullI31Reference),
    ("(drop (ref.cast (ref $s) (ref.null $s)))", Trap::CastFailure),
    ("(drop (ref.cast (ref $open) (ref.null any)))", Trap::CastFailure),
    ("(drop (ref.cast (ref array) (ref.null any)))", Trap::CastFailure),
    ("(drop (ref.cast (ref null $s) (struct.new $open)))", Trap::CastFailure),
    ("(drop (ref.cast (ref null struct) (ref.i31 (local.get 0))))", Trap::CastFailure),
    ("(drop (ref.cast (ref $type) (ref.null func)))", Trap::CastFailure),
    ("(drop (ref.cast (ref null $type) (ref.func $f)))", Trap::CastFailure),
];

#[test]
fn traps_have_the_offset_of_their_instruction() {
    let mut text = String::from(
        "(module (type $type (func (result i64))) (type $open (sub (struct))) (type $a (array (mut i64)))
            (type $s (struct (field (mut i32)) (field i8) (field (mut f64)) (field (mut v128)) (field (mut funcref))))
            (elem declare func $f) (func $f)",
    );
    for (number, (body, _)) in TRAPS.iter().enumerate() {
        text.push_str(&format!("(func (export \"{number}\") (param i32) (nop) {body})"));
    }
    text.push(')');
    let offsets = std::cell::OnceCell::new();
    on_each(false, &text, |store, instance| {
        let of = |(number, (body, trap)): (usize, &(&str, Trap))| {
            let (found, offset) = trapped(store, instance, &number.to_string(), 3);
            assert_eq!(found, *trap, "{body}");
            offset
        };
        let found: Vec<usize> = TRAPS.iter().enumerate().map(of).collect();
        assert_eq!(offsets.get_or_init(|| found.clone()), &found);
    });
}

/// What a check on one path proves says nothing where paths meet.
#[test]
fn checks_on_one_path_do_not_hold_on_others() {
    let text = "(module (type $s (struct (field (mut i32)) (field i32))) (type $a (array (mut i32)))
        (type $open (sub (struct (field i32)))) (type $sub (sub $open (struct (field i32) (field i32))))
        (func (export \"if\") (param i32) (local $x (ref null $s))
            (if (local.get 0) (then (drop (struct.get $s 0 (local.get $x)))))
            (drop (struct.get $s 0 (local.get $x))))
        (func (export \"else\") (param i32) (local $x (ref null $s))
            (if (local.get 0) (then (nop)) (else (drop (struct.get $s 1 (local.get $x)))))
            (drop (struct.get $s 1 (local.get $x))))
        (func (export \"block\") (param i32) (local $x (ref null $a))
            (block (br_if 0 (i32.eqz (local.get 0))) (drop (array.len (local.get $x))))
            (drop (array.len (local.get $x))))
        (func (export \"loop\") (param i32) (local $x (ref null $s))
            (local.set $x (struct.new_default $s))
            (loop $l
                (drop (struct.get $s 0 (local.get $x)))
                (local.set $x (ref.null $s))
                (br_if $l (i32.const 1))))
        (func (export \"cast\") (param i32) (local $x anyref)
            (local.set $x (struct.new $open (i32.const 1)))
            (if (local.get 0) (then (drop (ref.cast (ref $sub) (local.get $x)))))
            (drop (ref.cast (ref $sub) (local.get $x))))
        (func (export \"branch\") (param i32) (local $x (ref null $open))
            (if (local.get 0) (then (local.set $x (struct.new $open (i32.const 1)))))
            (drop (block $is (result (ref $sub))
                (br_on_cast $is (ref null $open) (ref $sub) (local.get $x))
                (drop (struct.get $open 0))
                (return)))
            (unreachable))
        (func (export \"null passes\") (param i32) (local $x (ref null $open))
            (drop (block $is (result (ref null $sub))
                (br_on_cast $is (ref null $open) (ref null $sub) (local.get $x))
                (unreachable)))
            (drop (struct.get $open 0 (local.get $x)))))";
    on_each(false, text, |store, instance| {
        for (name, trap) in [
            ("if", Trap::NullStructReference),
            ("else", Trap::NullStructReference),
            ("block", Trap::NullArrayReference),
            ("cast", Trap::CastFailure),
        ] {
            let (when, otherwise) = [0, 1].map(|param| trapped(store, instance, name, param)).into();
            assert_eq!((when.0, otherwise.0), (trap, trap), "{name}");
            assert_ne!(when.1, otherwise.1, "{name}");
        }
        assert_eq!(trapped(store, instance, "loop", 0).0, Trap::NullStructReference);
        assert_eq!(trapped(store, instance, "branch", 0).0, Trap::NullStructReference);
        call::<i32, ()>(store, instance, "branch", 1).unwrap();
        assert_eq!(trapped(store, instance, "null passes", 0).0, Trap::NullStructReference);
    });
}

/// An array that only the address of an element, or of what would be one, may still lead to while other objects are made.
#[test]
fn addresses_of_elements_keep_their_array() {
    for (ty, value) in [("i8", 77), ("i16", 777), ("i32", 7777), ("i64", 77777), ("v128", 7)] {
        let (get, set, zero) = match ty {
            "i8" | "i16" => ("(i64.extend_i32_u (array.get_u $a ", "(i32.wrap_i64 (local.get $v))", "))"),
            "i32" => ("(i64.extend_i32_u (array.get $a ", "(i32.wrap_i64 (local.get $v))", "))"),
            "i64" => ("(array.get $a ", "(local.get $v)", ")"),
            _ => ("(i64x2.extract_lane 1 (array.get $a ", "(i64x2.splat (local.get $v))", "))"),
        };
        let text = format!(
            "(module (type $a (array (mut {ty}))) (type $junk (array (mut i32)))
                (func $make (param $v i64) (result (ref $a)) (local $a (ref null $a))
                    (local.set $a (array.new_default $a (i32.const 40)))
                    (array.set $a (local.get $a) (i32.const 7) {set})
                    (array.set $a (local.get $a) (i32.const 8) {set})
                    (ref.cast (ref $a) (local.get $a)))
                (func $waste (local $i i32)
                    (loop $l
                        (drop (array.new $junk (i32.const -1) (i32.const 100)))
                        (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 200)))))
                (func (export \"f\") (param $i i32) (param $v i64) (result i64) (local $a (ref null $a)) (local $sum i64)
                    (local.set $a (call $make (local.get $v)))
                    (local.set $sum {get} (local.get $a) (i32.sub (local.get $i) (i32.const 1000)) {zero})
                    (call $waste)
                    (i64.add (local.get $sum) {get} (local.get $a) (i32.sub (local.get $i) (i32.const 999)) {zero})))"
        );
        for always in [false, true] {
            on_each(always, &text, |store, instance| {
                let sum: i64 = call(store, instance, "f", (1007, value)).unwrap();
                assert_eq!(sum, 2 * value, "{ty}");
            });
        }
    }
}

/// Loops that are entered in the middle, while they hold references in locals and operands and everything is collected that can
/// be.
#[test]
fn loops_are_entered_with_references() {
    let text = "(module (type $cell (struct (field $value i32) (field $next (ref null $cell))))
        (func (export \"f\") (param $count i32) (result i32) (local $list (ref null $cell)) (local $i i32) (local $sum i32)
            (struct.new $cell (i32.const 1000) (ref.null $cell))
            (loop $more
                (local.set $list (struct.new $cell (local.get $i) (local.get $list)))
                (br_if $more (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $count))))
            (struct.get $cell $value)
            (local.set $sum)
            (block $end
                (loop $more
                    (br_if $end (ref.is_null (local.get $list)))
                    (local.set $sum (i32.add (local.get $sum) (struct.get $cell $value (local.get $list))))
                    (local.set $list (struct.get $cell $next (local.get $list)))
                    (br $more)))
            (local.get $sum)))";
    for always in [false, true] {
        on_each(always, text, |store, instance| {
            let count = if always { 200 } else { 30_000 };
            let sum: i32 = call(store, instance, "f", count).unwrap();
            assert_eq!(sum, (0..count).fold(1000, i32::wrapping_add));
        });
    }
}

/// A field that a fault has overwritten with the number of another function, or of none, is not taken for its function.
#[test]
fn a_wrong_number_of_a_function_does_not_get_out_of_the_heap() {
    let text = "(module (type $f (func (result i32))) (type $g (func (result i64)))
        (type $s (struct (field $one (mut (ref null $f))) (field $two (mut (ref null $g))) (field $any (mut (ref func)))))
        (elem declare func $f $g)
        (func $f (type $f) (i32.const 1)) (func $g (type $g) (i64.const 2))
        (global $s (ref $s) (struct.new $s (ref.func $f) (ref.func $g) (ref.func $f)))
        (func (export \"one\") (param i32) (drop (struct.get $s $one (global.get $s))))
        (func (export \"two\") (param i32) (drop (struct.get $s $two (global.get $s))))
        (func (export \"any\") (param i32) (drop (struct.get $s $any (global.get $s)))))";
    on_each(false, text, |store, instance| {
        for name in ["one", "two", "any"] {
            call::<i32, ()>(store, instance, name, 0).unwrap();
        }
        let vm = &store.inner_mut().opaque.vm;
        let (base, end, count) = (vm.gc_base, vm.gc_cursor, vm.func_count as u32);
        // SAFETY: the object is the last that was made, of three fields behind its header.
        let fields = unsafe { base.add(end - 16).cast::<u32>() };
        // SAFETY: as above; nobody else uses the heap meanwhile.
        let swap = |at: usize, id: u32| unsafe { std::mem::replace(&mut *fields.add(at), id) };
        assert_eq!([0, 1, 2].map(|at| swap(at, 0) != 0), [true; 3]);
        let (one, two) = (1, 2);
        for (name, at, ids, passes) in [
            ("one", 0, [one, 0, two], [true, true, false]),
            ("two", 1, [two, 0, one], [true, true, false]),
            ("any", 2, [two, 0, count], [true, false, false]),
            ("any", 2, [one, u32::MAX, 0], [true, false, false]),
        ] {
            for (id, passes) in ids.into_iter().zip(passes) {
                swap(at, id);
                let result = call::<i32, ()>(store, instance, name, 0);
                let trap = result.err().and_then(|error| error.trap());
                assert_eq!(trap, (!passes).then_some(Trap::CastFailure), "{name} {id}");
            }
        }
    });
}
