//! Typed function references: calls through them, null, and branches on it.

use std::fmt::Write;

use wasmrun::{
    Engine, Error, ErrorKind, Extern, Func, FuncType, Global, GlobalType, HeapType, Instance, Linker, Module,
    Mutability, Ref, RefType, Store, Table, TableType, Trap, ValType, Value,
};

use crate::engines::{call, for_each_engine, instantiate, setup};

/// The names of the functions in an error's backtrace, innermost first, and the offsets in their bodies.
fn places(error: &Error) -> Vec<(String, usize)> {
    error.backtrace().iter().map(|frame| (frame.func_name().unwrap_or("").into(), frame.func_offset())).collect()
}

/// Calls an export that is expected to trap several times, as functions change engines meanwhile.
fn trap(store: &mut Store<()>, instance: Instance, name: &str, arg: i32) -> (Option<Trap>, Vec<(String, usize)>) {
    let mut fail = || {
        let error = call::<_, i32, i32>(store, instance, name, arg).expect_err("the call fails");
        (error.trap(), places(&error))
    };
    let first = fail();
    for _ in 0..3 {
        assert_eq!(fail(), first, "{name}");
    }
    first
}

#[test]
fn null_is_not_called() {
    const TEXT: &str = r#"(module
        (type $f (func (param i32) (result i32)))
        (table $t 4 (ref null $f))
        (global $g (mut (ref null $f)) (ref.null $f))
        (func $null (result (ref null $f)) (ref.null $f))
        (func $constant (export "constant") (param i32) (result i32) (call_ref $f (local.get 0) (ref.null $f)))
        (func $local (export "local") (param i32) (result i32) (local (ref null $f)) (call_ref $f (local.get 0) (local.get 1)))
        (func $global (export "global") (param i32) (result i32) (call_ref $f (local.get 0) (global.get $g)))
        (func $table (export "table") (param i32) (result i32) (call_ref $f (local.get 0) (table.get $t (i32.const 2))))
        (func $result (export "result") (param i32) (result i32) (call_ref $f (local.get 0) (call $null)))
        (func $loop (export "loop") (param i32) (result i32) (local (ref null $f))
            (loop $more (result i32)
                (if (i32.eqz (local.get 0)) (then (drop (call_ref $f (local.get 0) (local.get 1)))))
                (local.set 0 (i32.sub (local.get 0) (i32.const 1)))
                (br $more)))
        (func $tail (export "tail") (param i32) (result i32) (return_call_ref $f (local.get 0) (global.get $g)))
        (func $tail_local (export "tail_local") (param i32) (result i32) (local (ref null $f))
            (return_call_ref $f (local.get 0) (local.get 1)))
        (func $tail_below (export "tail_below") (param i32) (result i32) (call $tail (local.get 0)) (nop))
        (func $caught (export "caught") (param i32) (result i32)
            (block $all (try_table (catch_all $all) (return (call_ref $f (local.get 0) (global.get $g))))) (i32.const 1))
        (func $as_non_null (export "as_non_null") (param i32) (result i32)
            (call_ref $f (local.get 0) (ref.as_non_null (global.get $g))))
        (func $as_constant (export "as_constant") (param i32) (result i32)
            (call_ref $f (local.get 0) (ref.as_non_null (ref.null $f)))))"#;
    // All engines trap at the same place as the first one, which is the interpreter.
    let expected = std::cell::RefCell::new(Vec::new());
    for_each_engine(|engine| {
        let (mut store, instance) = setup(engine, TEXT);
        let names =
            ["constant", "local", "global", "table", "result", "loop", "tail", "tail_local", "tail_below", "caught"];
        let names = names.iter().map(|name| (*name, Trap::NullFunctionReference));
        for (name, wanted) in names.chain(["as_non_null", "as_constant"].map(|name| (name, Trap::NullReference))) {
            let (got, places) = trap(&mut store, instance, name, 3);
            assert_eq!(got, Some(wanted), "{name}");
            assert_eq!(places[0].0, if name == "tail_below" { "tail" } else { name });
            let mut expected = expected.borrow_mut();
            match expected.iter().find(|(other, _)| *other == name) {
                Some((_, wanted)) => assert_eq!(&places, wanted, "{name}"),
                None => expected.push((name, places)),
            }
        }
    });
    assert_eq!(Trap::NullFunctionReference.message(), "null function reference");
}

/// A type's parameters, which are its results too; and text that pushes one of each, and that passes all on.
fn shape(types: &str) -> (String, String, String) {
    let (mut values, mut all) = (String::new(), String::new());
    for (at, ty) in types.split_whitespace().enumerate() {
        let _ = match ty {
            "v128" => write!(values, "(v128.const i64x2 {at} {})", at + 1),
            _ => write!(values, "({ty}.const {at})"),
        };
        let _ = write!(all, "(local.get {at})");
    }
    (format!("(param {types}) (result {types})"), values, all)
}

/// The value of a parameter that is pushed so.
fn is_pushed(at: usize, value: &Value) -> bool {
    match value {
        Value::I32(x) => *x as usize == at,
        Value::I64(x) => *x as usize == at,
        Value::F32(x) => *x == at as f32,
        Value::F64(x) => *x == at as f64,
        Value::V128(x) => *x == at as u128 | (at as u128 + 1) << 64,
        _ => false,
    }
}

/// Every kind of callee, by calls and tail calls, with parameters and results of all types and up to 1000.
#[test]
fn arguments_and_results_go_through_references() {
    let many = "i64 f32 v128 i32 f64 ".repeat(200);
    for types in ["", "i32", "v128", "i32 f64 v128 f32 i64", &"i64 ".repeat(12), &"f64 i32 ".repeat(20), &many] {
        let (ty, values, all) = shape(types);
        let library = format!("(module (func (export \"callee\") {ty} {all}))");
        let program = format!(
            r#"(module
                (type $f (func {ty}))
                (import "" "other" (func $other {ty}))
                (import "" "host" (func $host {ty}))
                (import "" "given" (global $given (ref $f)))
                (global $own_ref (ref $f) (ref.func $own))
                (elem declare func $other $host)
                (func $own (export "own") {ty} {all})
                (func $pick (param i32) (result (ref $f))
                    (if (i32.eqz (local.get 0)) (then (return (global.get $own_ref))))
                    (if (i32.eq (local.get 0) (i32.const 1)) (then (return (ref.func $other))))
                    (if (i32.eq (local.get 0) (i32.const 2)) (then (return (ref.func $host))))
                    (global.get $given))
                (func (export "call") (param i32) (result {types}) {values} (call $pick (local.get 0)) (call_ref $f))
                (func $tail (export "tail") (param i32) (result {types})
                    {values} (call $pick (local.get 0)) (return_call_ref $f))
                (func (export "call_tail") (param i32) (result {types}) (call $tail (local.get 0)))
                (func (export "tail_local") (param i32) (result {types}) (local (ref null $f))
                    (local.set 1 (call $pick (local.get 0))) {values} (return_call_ref $f (local.get 1)))
                (func (export "loop") (param i32) (result {types}) (local $f (ref null $f)) (local $n i32)
                    (loop $more
                        (local.set $f (call $pick (local.get 0)))
                        (br_if $more (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 3))))
                    {values} (call_ref $f (local.get $f))))"#
        );
        for_each_engine(|engine| {
            let mut store = Store::new(engine, ());
            let other = instantiate(&mut store, &library, &[]).get_func(&mut store, "callee").unwrap();
            let ty = other.ty(&store);
            let host = Func::new(&mut store, ty.clone(), |_, args, results| {
                results.clone_from_slice(args);
                Ok(())
            });
            let of_ty = RefType::new(false, HeapType::Concrete(engine.register_type(&ty)));
            let of_ty = GlobalType::new(of_ty.into(), Mutability::Const);
            let given = Global::new(&mut store, of_ty, host.into()).unwrap();
            let imports: [Extern; 3] = [other.into(), host.into(), given.into()];
            let instance = instantiate(&mut store, &program, &imports);
            let mut results = vec![Value::I32(0); ty.results().len()];
            for name in ["call", "tail", "call_tail", "tail_local", "loop"] {
                let func = instance.get_func(&mut store, name).unwrap();
                for callee in [0, 1, 2, 3, 0, 1, 2, 3] {
                    func.call(&mut store, &[Value::I32(callee)], &mut results).unwrap();
                    assert!(results.iter().enumerate().all(|(at, value)| is_pushed(at, value)), "{name} {callee}");
                }
            }
        });
    }
}

/// Branches with what they carry in all places: nothing, constants, parameters, sums, and more than a branch copies one by one;
/// to blocks, loops and the function itself.
#[test]
fn branches_on_null_carry_operands() {
    let carried = ["", "(i32.const 5)", "(local.get $x)", "(i32.add (local.get $x) (local.get $x))"];
    let references = [
        "(ref.null func)",
        "(local.get $f)",
        "(local.tee $f (local.get $f))",
        "(call $same (local.get $f))",
        "(table.get $t (local.get $at))",
        "(select (result funcref) (local.get $f) (ref.null func) (local.get $at))",
        "(ref.func $run)",
    ];
    let mut functions = String::new();
    let mut names = Vec::new();
    for (at, values) in carried.iter().flat_map(|value| [1, 3, 7].map(|n| (value, n))).enumerate() {
        let (value, count) = values;
        let count = if value.is_empty() { 0 } else { count };
        if count == 0 && at > 0 {
            continue;
        }
        let (values, types) = (value.repeat(count), "i32 ".repeat(count));
        let sum = "(local.set $s (i32.add (i32.mul (local.get $s) (i32.const 3)))) ".repeat(count);
        for (number, reference) in references.iter().enumerate() {
            let name = format!("{at}_{number}");
            let locals = "(param $f funcref) (param $x i32) (param $at i32) (result i32) (local $s i32)";
            // The one that branches marks the sum, so a wrong way shows.
            let _ = write!(
                functions,
                r#"(func (export "null_{name}") {locals}
                    (block $null (result {types})
                        {values} (br_on_null $null {reference}) (call $kind) (local.set $s (i32.mul (i32.const 1000))))
                    {sum} (local.get $s))
                (func (export "non_null_{name}") {locals}
                    (block $not (result {types} (ref func))
                        {values} (br_on_non_null $not {reference})
                        (local.set $s (i32.const 7777)) (call $self))
                    (call $kind) (local.set $s (i32.add (local.get $s)))
                    {sum} (local.get $s))
                (func (export "loop_{name}") {locals} (local $n i32)
                    {values}
                    (loop $again (param {types}) (result {types})
                        (local.set $n (i32.add (local.get $n) (i32.const 1)))
                        (if (i32.gt_u (local.get $n) (i32.const 4)) (then (return (i32.const 4))))
                        (br_on_null $again {reference}) (call $kind) (local.set $s))
                    {sum} (i32.add (local.get $s) (i32.mul (local.get $n) (i32.const 10000))))
                (func (export "return_{name}") {locals}
                    (i32.const 11) (br_on_null 0 {reference}) (call $kind) (i32.add))"#
            );
            names.extend(["null", "non_null", "loop", "return"].map(|kind| format!("{kind}_{name}")));
        }
    }
    let text = format!(
        r#"(module
            (table $t 2 funcref)
            (func $run)
            (func $same (param funcref) (result funcref) (local.get 0))
            (func $self (result (ref func)) (ref.func $self))
            (func $kind (param (ref func)) (result i32) (i32.const 100))
            (elem declare func $run $self)
            {functions})"#
    );
    let expected = std::cell::RefCell::new(None);
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let instance = instantiate(&mut store, &text, &[]);
        let func = Func::wrap(&mut store, || ());
        let mut results = Vec::new();
        for name in &names {
            let run = instance.get_typed_func::<(Option<Func>, i32, i32), i32>(&mut store, name).unwrap();
            for func in [None, Some(func), None, Some(func)] {
                for at in [0, 1] {
                    results.push((name, func.is_some(), at, run.call(&mut store, (func, 21, at)).unwrap()));
                }
            }
        }
        // What the first engine gives is compared with all others, and samples of it with what must be.
        let mut expected = expected.borrow_mut();
        let expected = expected.get_or_insert_with(|| results.clone());
        assert_eq!(&results, expected);
    });
    let expected = expected.into_inner().unwrap();
    let of =
        |name: &str, is_some| expected.iter().find(|(other, some, ..)| *other == name && *some == is_some).unwrap().3;
    assert_eq!((of("null_0_1", false), of("null_0_1", true)), (0, 100_000));
    assert_eq!((of("non_null_0_1", false), of("non_null_0_1", true)), (7877, 100));
    assert_eq!((of("loop_0_1", false), of("loop_0_1", true)), (4, 10_100));
    assert_eq!((of("return_0_1", false), of("return_0_1", true)), (11, 111));
    assert_eq!((of("null_0_0", true), of("null_0_6", false)), (0, 100_000));
}

/// A reference that was looked at is still the one that was there, wherever it was.
#[test]
fn a_reference_outlives_its_checks() {
    const TEXT: &str = r#"(module
        (type $f (func (result i32)))
        (table $t (ref null $f) (elem (ref.func $one) (ref.func $two)))
        (func $one (type $f) (i32.const 1))
        (func $two (type $f) (i32.const 2))
        (func (export "checked") (param i32) (result i32)
            (call_ref $f (ref.as_non_null (ref.as_non_null (table.get $t (local.get 0))))))
        (func (export "tee") (param i32) (result i32) (local (ref null $f))
            (drop (ref.as_non_null (local.tee 1 (table.get $t (local.get 0)))))
            (local.set 0 (i32.const 0))
            (call_ref $f (local.get 1)))
        (func (export "kept") (param i32) (result i32) (local (ref null $f))
            (local.set 1 (table.get $t (local.get 0)))
            (ref.as_non_null (local.get 1))
            (local.set 1 (ref.func $one))
            (call_ref $f))
        (func (export "branched") (param i32) (result i32) (local (ref null $f))
            (local.set 1 (table.get $t (local.get 0)))
            (block $null
                (br_on_null $null (local.get 1))
                (local.set 1 (ref.func $one))
                (return (call_ref $f)))
            (i32.const 0))
        (func (export "carried") (param i32) (result i32)
            (block $not (result (ref $f))
                (br_on_non_null $not (table.get $t (local.get 0)))
                (return (i32.const 0)))
            (call_ref $f))
        (func (export "in_a_loop") (param i32) (result i32) (local $n i32) (local $f (ref null $f)) (local $sum i32)
            (local.set $f (table.get $t (local.get 0)))
            (loop $more
                (local.set $sum (i32.add (local.get $sum) (call_ref $f (ref.as_non_null (local.get $f)))))
                (br_if $more (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 100))))
            (i32.div_u (local.get $sum) (i32.const 100)))
        ;; Operands below, in a loop that native code may take over.
        (func (export "below") (param i32) (result i32) (local $n i32)
            (ref.as_non_null (table.get $t (local.get 0)))
            (loop $more
                (br_if $more (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 100))))
            (call_ref $f))
        ;; A local without a default value, set before it is read.
        (func (export "local") (param i32) (result i32) (local $n i32) (local $f (ref $f))
            (loop $more
                (local.set $f (ref.as_non_null (table.get $t (local.get 0))))
                (br_if $more (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (call_ref $f (local.get $f)))))
            (local.set $f (ref.as_non_null (table.get $t (local.get 0))))
            (call_ref $f (local.get $f))))"#;
    for_each_engine(|engine| {
        let (mut store, instance) = setup(engine, TEXT);
        for name in ["checked", "tee", "kept", "branched", "carried", "in_a_loop", "below", "local"] {
            for at in [0, 1, 0, 1] {
                assert_eq!(call::<_, i32, i32>(&mut store, instance, name, at).unwrap(), at + 1, "{name}");
            }
        }
    });
}

/// Frames so large that 16 bits do not name their slots.
#[test]
fn references_in_far_slots_are_called() {
    let text = format!(
        r#"(module
            (type $f (func (param i32 i64) (result i64 i32)))
            (type $h (func (param i32) (result i32)))
            (import "" "host" (func $host (type $h)))
            (func $swap (type $f) (local.get 1) (local.get 0))
            (elem declare func $swap)
            (func $call (export "call") (param i32) (result i64 i32) (local {}) (local $f (ref null $f))
                (local.set $f (ref.func $swap))
                (call_ref $f (local.get 0) (i64.const 7) (ref.as_non_null (local.get $f))))
            (func (export "tail") (param i32) (result i64 i32) (local {0}) (local $f (ref null $f))
                (local.set $f (ref.func $swap))
                (block $null
                    (local.get 0) (i64.const 7)
                    (block $not (param i32 i64) (result i32 i64 (ref $f))
                        (br_on_non_null $not (local.get $f))
                        (unreachable))
                    (return_call_ref $f))
                (unreachable))
            (func (export "null") (param i32) (result i64 i32) (local {0}) (local $f (ref null $f))
                (call_ref $f (local.get 0) (i64.const 7) (local.get $f)))
            (elem declare func $host)
            (func $far (param i32) (result i32) (local {0}) (nop)
                (call_ref $h (i32.add (local.get 0) (i32.const 1)) (ref.func $host)))
            (func $outer (export "outer") (param i32) (result i32) (call $far (local.get 0))))"#,
        "v128 ".repeat(33_000)
    );
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let host = Func::wrap(&mut store, |x: i32| if x == 0 { Err(Error::host("zero")) } else { Ok(x) });
        let instance = instantiate(&mut store, &text, &[host.into()]);
        for _ in 0..3 {
            assert_eq!(call::<_, i32, i32>(&mut store, instance, "outer", 4).unwrap(), 5);
            let error = call::<_, i32, i32>(&mut store, instance, "outer", -1).unwrap_err();
            let names: Vec<String> = places(&error).into_iter().map(|(name, _)| name).collect();
            assert_eq!(names, ["far", "outer"]);
        }
        for name in ["call", "tail", "call", "tail"] {
            assert_eq!(call::<_, i32, (i64, i32)>(&mut store, instance, name, 3).unwrap(), (7, 3), "{name}");
        }
        let error = call::<_, i32, (i64, i32)>(&mut store, instance, "null", 3).unwrap_err();
        assert_eq!(error.trap(), Some(Trap::NullFunctionReference));
    });
}

/// Tail calls through references take no stack, from instance to instance and between engines; calls do.
#[test]
fn tail_calls_through_references_take_no_stack() {
    const LIBRARY: &str = r#"(module
        (type $f (func (param i32) (result i32)))
        (global $next (export "next") (mut (ref null $f)) (ref.null $f))
        (func (export "step") (type $f)
            (if (i32.eqz (local.get 0)) (then (return (i32.const 7))))
            (return_call_ref $f (i32.sub (local.get 0) (i32.const 1)) (global.get $next))))"#;
    const PROGRAM: &str = r#"(module
        (type $f (func (param i32) (result i32)))
        (import "" "step" (func $step (type $f)))
        (import "" "next" (global $next (mut (ref null $f))))
        (elem declare func $own $across $step $deep)
        (func $own (export "own") (type $f)
            (if (i32.eqz (local.get 0)) (then (return (i32.const 7))))
            (return_call_ref $f (i32.sub (local.get 0) (i32.const 1)) (ref.func $own)))
        (func $across (export "across") (type $f)
            (global.set $next (ref.func $across))
            (return_call_ref $f (local.get 0) (ref.func $step)))
        (func $deep (export "deep") (type $f)
            (i32.add (call_ref $f (i32.add (local.get 0) (i32.const 1)) (ref.func $deep)) (i32.const 1))))"#;
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let library = instantiate(&mut store, LIBRARY, &[]);
        let imports = ["step", "next"].map(|name| library.get_export(&mut store, name).unwrap());
        let instance = instantiate(&mut store, PROGRAM, &imports);
        for name in ["own", "across", "own", "across"] {
            assert_eq!(call::<_, i32, i32>(&mut store, instance, name, 1_000_000).unwrap(), 7, "{name}");
        }
        let error = call::<_, i32, i32>(&mut store, instance, "deep", 0).unwrap_err();
        assert_eq!(error.trap(), Some(Trap::StackOverflow));
    });
}

/// Types by depth, of which seven have their place in every record of supertypes and the others not, and a branch of them.
#[test]
fn functions_of_declared_subtypes_are_called_as_their_supertypes() {
    let result = "(func (result i32))";
    let mut types = format!("(type $t0 (sub {result}))");
    for depth in 1..=12 {
        let _ = write!(types, "(type $t{depth} (sub $t{} {result}))", depth - 1);
    }
    // Equal to the others but for its group.
    let _ = write!(types, "(rec (type $u7 (sub $t6 {result})) (type (func))) (type $u8 (sub final $u7 {result}))");
    // Name, the type's place in the chain or where it branches off.
    let wanted: Vec<String> = (0..=12).map(|depth| format!("t{depth}")).chain(["u7".into(), "u8".into()]).collect();
    let fits = |ty: usize, wanted: usize| match (ty, wanted) {
        (13, _) => wanted <= 6 || wanted == 13,
        (14, _) => wanted <= 6 || wanted >= 13,
        _ => wanted <= ty,
    };
    let (mut functions, mut elements) = (String::new(), String::new());
    for (at, name) in wanted.iter().enumerate() {
        let _ = write!(
            functions,
            r#"(func $f{at} (type ${name}) (i32.const {at}))
            (func (export "call_{at}") (param i32) (result i32) (call_indirect (type ${name}) (local.get 0)))
            (func (export "tail_{at}") (param i32) (result i32) (return_call_indirect (type ${name}) (local.get 0)))"#
        );
        let _ = write!(elements, "$f{at} ");
    }
    let text = format!(
        r#"(module {types} {functions}
            (table 20 funcref) (elem (i32.const 0) {elements})
            (table $typed (ref null $t6) (elem (ref.func $f6) (ref.func $f9) (ref.func $f14)))
            (func (export "by_ref") (param i32) (result i32) (call_ref $t3 (table.get $typed (local.get 0))))
            (func (export "tail_by_ref") (param i32) (result i32) (return_call_ref $t6 (table.get $typed (local.get 0)))))"#
    );
    for config in crate::engines::configs() {
        let engine = Engine::new(&config).unwrap();
        let (mut store, instance) = setup(&engine, &text);
        for call_as in 0..wanted.len() {
            for kind in ["call", "tail"] {
                let name = format!("{kind}_{call_as}");
                for callee in 0..wanted.len() {
                    let result = call::<_, i32, i32>(&mut store, instance, &name, callee as i32);
                    let result = result.map_err(|error| error.trap());
                    let expected = match fits(callee, call_as) {
                        true => Ok(callee as i32),
                        false => Err(Some(Trap::IndirectCallTypeMismatch)),
                    };
                    assert_eq!(result, expected, "{} as {}", wanted[callee], wanted[call_as]);
                }
                let result = call::<_, i32, i32>(&mut store, instance, &name, 15).map_err(|error| error.trap());
                assert_eq!(result, Err(Some(Trap::UninitializedElement)));
            }
        }
        for name in ["by_ref", "tail_by_ref"] {
            for (at, expected) in [(0, 6), (1, 9), (2, 14)] {
                assert_eq!(call::<_, i32, i32>(&mut store, instance, name, at).unwrap(), expected);
            }
        }
    }
}

/// What is thrown by a callee is caught where the call is, but not by the function that has called it in its place.
#[test]
fn exceptions_come_through_calls_by_reference() {
    const TEXT: &str = r#"(module
        (type $f (func (param i32) (result i32)))
        (tag $t (param i32))
        (elem declare func $throw $tail)
        (func $throw (type $f) (throw $t (local.get 0)))
        (func (export "caught") (param i32) (result i32)
            (block $h (result i32) (try_table (catch $t $h) (return (call_ref $f (local.get 0) (ref.func $throw)))) (unreachable))
            (i32.add (i32.const 1)))
        (func $tail (export "tail") (param i32) (result i32)
            (block $h (result i32)
                (try_table (catch $t $h) (return_call_ref $f (local.get 0) (ref.func $throw))) (unreachable))
            (i32.add (i32.const 100)))
        (func (export "outer") (param i32) (result i32)
            (block $h (result i32) (try_table (catch $t $h) (return (call_ref $f (local.get 0) (ref.func $tail)))) (unreachable))
            (i32.add (i32.const 10))))"#;
    for_each_engine(|engine| {
        let (mut store, instance) = setup(engine, TEXT);
        for _ in 0..3 {
            assert_eq!(call::<_, i32, i32>(&mut store, instance, "caught", 5).unwrap(), 6);
            assert_eq!(call::<_, i32, i32>(&mut store, instance, "outer", 5).unwrap(), 15);
            let error = call::<_, i32, i32>(&mut store, instance, "tail", 5).unwrap_err();
            assert!(error.trap().is_none(), "{error}");
        }
    });
}

/// No way leads a function of another type into a place that promises one.
#[test]
fn only_functions_of_its_type_get_into_a_place() {
    const TEXT: &str = r#"(module
        (type $f (func (param i32) (result i32)))
        (table (export "table") 2 10 (ref null $f))
        (table (export "full") 2 10 (ref $f) (ref.func $own))
        (global (export "global") (mut (ref null $f)) (ref.null $f))
        (func $own (export "own") (type $f) (i32.add (local.get 0) (i32.const 1)))
        (func (export "run") (param i32) (result i32) (call_ref $f (local.get 0) (table.get 0 (i32.const 0))))
        (func (export "run_full") (param i32) (result i32) (call_ref $f (local.get 0) (table.get 1 (i32.const 1))))
        (func (export "take") (param (ref null $f)) (result i32) (call_ref $f (i32.const 1) (local.get 0))))"#;
    for_each_engine(|engine| {
        let (mut store, instance) = setup(engine, TEXT);
        let table = instance.get_table(&mut store, "table").unwrap();
        let full = instance.get_table(&mut store, "full").unwrap();
        let global = instance.get_global(&mut store, "global").unwrap();
        let take = instance.get_func(&mut store, "take").unwrap();
        let right = Func::wrap(&mut store, |x: i32| x * 2);
        let mut other = Store::new(engine, ());
        let foreign = Func::wrap(&mut other, |x: i32| x * 2);
        let wrong = [
            Func::wrap(&mut store, |x: i64| x),
            Func::wrap(&mut store, || 1),
            Func::wrap(&mut store, |x: i32, _: i32| x),
            foreign,
        ];
        for func in wrong {
            let value = || Ref::from(func);
            assert!(table.set(&mut store, 0, value()).is_err());
            assert!(table.fill(&mut store, 0, value(), 1).is_err());
            assert!(table.grow(&mut store, 1, value()).is_err());
            assert!(full.set(&mut store, 0, value()).is_err());
            assert!(global.set(&mut store, func.into()).is_err());
            assert!(take.call(&mut store, &[func.into()], &mut [Value::I32(0)]).is_err());
        }
        for null in [Ref::Func(None), Ref::Extern(None)] {
            assert!(full.set(&mut store, 0, null.clone()).is_err() && full.grow(&mut store, 1, null).is_err());
        }
        assert!(Table::copy(&mut store, &full, 0, &table, 0, 1).is_err());
        assert_eq!((table.size(&store), full.size(&store)), (2, 2));
        table.set(&mut store, 0, right.into()).unwrap();
        assert_eq!(call::<_, i32, i32>(&mut store, instance, "run", 4).unwrap(), 8);
        assert_eq!(call::<_, i32, i32>(&mut store, instance, "run_full", 4).unwrap(), 5);
        Table::copy(&mut store, &table, 0, &full, 1, 1).unwrap();
        assert_eq!(call::<_, i32, i32>(&mut store, instance, "run", 4).unwrap(), 5);
        let mut results = [Value::I32(0)];
        take.call(&mut store, &[right.into()], &mut results).unwrap();
        assert_eq!(results[0].unwrap_i32(), 2);
        let error = take.call(&mut store, &[Value::FuncRef(None)], &mut results).unwrap_err();
        assert_eq!(error.trap(), Some(Trap::NullFunctionReference));
        // Rust's types know of no function types, so each call checks the argument.
        let typed = take.typed::<Option<Func>, i32>(&store).unwrap();
        assert_eq!(typed.call(&mut store, Some(right)).unwrap(), 2);
        for func in wrong {
            assert!(matches!(typed.call(&mut store, Some(func)).unwrap_err().kind(), ErrorKind::Usage(_)));
        }
    });
}

/// A host function that promises a typed reference is held to that.
#[test]
fn results_of_host_functions_are_of_their_types() {
    const TEXT: &str = r#"(module
        (type $f (func (result i32)))
        (import "" "give" (func $give (param i32) (result (ref $f))))
        (func (export "run") (param i32) (result i32) (call_ref $f (call $give (local.get 0)))))"#;
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let callee = FuncType::new(engine, [], [ValType::I32]);
        let result = RefType::new(false, HeapType::Concrete(engine.register_type(&callee)));
        let ty = FuncType::new(engine, [ValType::I32], [result.into()]);
        let (right, wrong) = (Func::wrap(&mut store, || 5), Func::wrap(&mut store, |_: i64| 5));
        let give = Func::new(&mut store, ty, move |_, args, results| {
            match args[0].unwrap_i32() {
                0 => results[0] = right.into(),
                1 => results[0] = wrong.into(),
                // The result is left as it was.
                _ => {}
            }
            Ok(())
        });
        let instance = instantiate(&mut store, TEXT, &[give.into()]);
        for _ in 0..3 {
            assert_eq!(call::<_, i32, i32>(&mut store, instance, "run", 0).unwrap(), 5);
            for bad in [1, 2] {
                let error = call::<_, i32, i32>(&mut store, instance, "run", bad).unwrap_err();
                assert!(matches!(error.kind(), wasmrun::ErrorKind::Usage { .. }), "{error}");
            }
        }
    });
}

/// Tables and globals are shared between modules only under types that promise the same.
#[test]
fn imports_promise_what_they_are() {
    const EXPORTER: &str = r#"(module
        (type $f (func)) (type $g (func (param i32)))
        (func $own (type $f))
        (table (export "funcs") 1 funcref)
        (table (export "null") 1 (ref null $f))
        (table (export "full") 1 (ref $f) (ref.func $own))
        (global (export "const") (ref $f) (ref.func $own))
        (global (export "var") (mut (ref null $f)) (ref.null $f)))"#;
    let cases = [
        ("funcs", "(table 1 funcref)", true),
        ("funcs", "(table 1 (ref null $f))", false),
        ("null", "(table 1 (ref null $f))", true),
        ("null", "(table 1 funcref)", false),
        ("null", "(table 1 (ref null $g))", false),
        ("null", "(table 1 (ref $f))", false),
        ("full", "(table 1 (ref $f))", true),
        ("full", "(table 1 (ref null $f))", false),
        ("const", "(global (ref $f))", true),
        ("const", "(global (ref null $f))", true),
        ("const", "(global (ref func))", true),
        ("const", "(global (ref $g))", false),
        ("const", "(global (mut (ref $f)))", false),
        ("var", "(global (mut (ref null $f)))", true),
        ("var", "(global (mut funcref))", false),
        ("var", "(global (ref null $f))", false),
    ];
    let engine = Engine::default();
    let mut store = Store::new(&engine, ());
    let exporter = instantiate(&mut store, EXPORTER, &[]);
    let mut linker = Linker::new(&engine);
    linker.instance(&mut store, "", exporter).unwrap();
    for (name, import, fits) in cases {
        let text = format!(r#"(module (type $g (func (param i32))) (type $f (func)) (import "" "{name}" {import}))"#);
        let module = Module::new(&engine, text).unwrap();
        assert_eq!(linker.instantiate(&mut store, &module).is_ok(), fits, "{name} {import}");
    }
    // The host makes such a table too, but none that lacks its elements.
    let ty = engine.register_type(&FuncType::new(&engine, [], []));
    let element = RefType::new(false, HeapType::Concrete(ty));
    let func = Func::wrap(&mut store, || ());
    assert!(Table::new(&mut store, TableType::new(element.clone(), 1, None), Ref::Func(None)).is_err());
    let table = Table::new(&mut store, TableType::new(element, 1, None), func.into()).unwrap();
    let text = r#"(module (type $f (func)) (import "" "" (table 1 (ref $f))))"#;
    instantiate(&mut store, text, &[table.into()]);
}
