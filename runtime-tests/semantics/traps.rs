//! Each kind of trap, what a backtrace says, and that an instance goes on after a trap.

use crate::engines::{call, configs, for_each_engine, instantiate, setup, trap};
use wasmparser::{Operator, Parser, Payload};
use wasmrun::{Caller, Engine, Error, ErrorKind, Func, Instance, Module, Store, Trap};

#[test]
fn every_kind_of_trap() {
    let cases: &[(&str, Trap)] = &[
        ("unreachable", Trap::Unreachable),
        ("(drop (i32.load (i32.const 65536)))", Trap::MemoryOutOfBounds),
        ("(i64.store (i32.const 65529) (i64.const 0))", Trap::MemoryOutOfBounds),
        ("(i32.store8 offset=4294967295 (i32.const 1) (i32.const 0))", Trap::MemoryOutOfBounds),
        ("(v128.store (i32.const -1) (v128.const i64x2 0 0))", Trap::MemoryOutOfBounds),
        ("(memory.fill (i32.const 65536) (i32.const 0) (i32.const 1))", Trap::MemoryOutOfBounds),
        ("(memory.copy (i32.const 0) (i32.const 65530) (i32.const 7))", Trap::MemoryOutOfBounds),
        ("(memory.init $d (i32.const 0) (i32.const 2) (i32.const 2))", Trap::MemoryOutOfBounds),
        ("(drop (table.get (i32.const 3)))", Trap::TableOutOfBounds),
        ("(table.set (i32.const -1) (ref.null func))", Trap::TableOutOfBounds),
        ("(table.fill (i32.const 2) (ref.null func) (i32.const 2))", Trap::TableOutOfBounds),
        ("(table.copy (i32.const 0) (i32.const 3) (i32.const 1))", Trap::TableOutOfBounds),
        ("(table.init $e (i32.const 0) (i32.const 1) (i32.const 1))", Trap::TableOutOfBounds),
        ("(call_indirect (i32.const 3))", Trap::UndefinedElement),
        ("(call_indirect (i32.const -1))", Trap::UndefinedElement),
        ("(call_indirect (i32.const 0))", Trap::UninitializedElement),
        ("(call_indirect (param i32) (i32.const 0) (i32.const 1))", Trap::IndirectCallTypeMismatch),
        ("(return_call_indirect (i32.const 3))", Trap::UndefinedElement),
        ("(return_call_indirect (i32.const 0))", Trap::UninitializedElement),
        ("(return_call_indirect (param i64) (i64.const 0) (i32.const 1))", Trap::IndirectCallTypeMismatch),
        ("(drop (i32.div_s (i32.const 1) (global.get $zero)))", Trap::IntegerDivisionByZero),
        ("(drop (i32.rem_u (i32.const 1) (global.get $zero)))", Trap::IntegerDivisionByZero),
        ("(drop (i64.div_u (i64.const 1) (i64.extend_i32_u (global.get $zero))))", Trap::IntegerDivisionByZero),
        ("(drop (i64.rem_s (i64.const 1) (i64.extend_i32_u (global.get $zero))))", Trap::IntegerDivisionByZero),
        ("(drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))", Trap::IntegerOverflow),
        ("(drop (i64.div_s (i64.const 0x8000000000000000) (i64.const -1)))", Trap::IntegerOverflow),
        ("(drop (i32.trunc_f32_s (f32.const 2147483648)))", Trap::IntegerOverflow),
        ("(drop (i32.trunc_f64_u (f64.const -1)))", Trap::IntegerOverflow),
        ("(drop (i64.trunc_f32_u (f32.const inf)))", Trap::IntegerOverflow),
        ("(drop (i64.trunc_f64_s (f64.const 9223372036854775808)))", Trap::IntegerOverflow),
        ("(drop (i32.trunc_f64_s (f64.const nan)))", Trap::InvalidConversionToInteger),
        ("(drop (i64.trunc_f32_u (f32.const -nan)))", Trap::InvalidConversionToInteger),
        ("(call $f)", Trap::StackOverflow),
    ];
    for_each_engine(|engine| {
        for (body, expected) in cases {
            let wat = format!(
                r#"(module (memory 1) (table 3 funcref) (global $zero (mut i32) (i32.const 0))
                    (elem (i32.const 1) $g) (elem $e func $g) (data $d "abc")
                    (func $g) (func $f (export "f") {body}))"#
            );
            let (mut store, instance) = setup(engine, &wat);
            for _ in 0..2 {
                assert_eq!(trap(&mut store, instance, "f", ()), Some(*expected), "{body}");
            }
        }
    });
}

#[test]
fn an_access_out_of_bounds_says_where() {
    let at = |address, size| (address, size, 0x10000);
    for_each_engine(|engine| {
        for (body, expected) in [
            ("(drop (i32.load (i32.const 0xfffe)))", at(0xfffe, 4)),
            ("(drop (i64.load8_u (i32.const -1)))", at(0xffff_ffff, 1)),
            ("(drop (i32.load16_s offset=0xfffffff0 (i32.const 0xfffffff0)))", at(0x1_ffff_ffe0, 2)),
            ("(f64.store offset=8 (i32.const 0xfff8) (f64.const 0))", at(0x10000, 8)),
            ("(drop (v128.load offset=1 (i32.const 0xfff0)))", at(0xfff1, 16)),
            ("(drop (v128.load32_splat (i32.const 0x12345)))", at(0x12345, 4)),
            ("(drop (v128.load64_zero (i32.const 0x10000)))", at(0x10000, 8)),
        ] {
            let (mut store, instance) = setup(engine, &format!("(module (memory 1) (func (export \"f\") {body}))"));
            let error = call::<_, _, ()>(&mut store, instance, "f", ()).unwrap_err();
            match error.kind() {
                ErrorKind::Trap { trap: Trap::MemoryOutOfBounds, fault: Some(fault) } => {
                    assert_eq!((fault.address, fault.size, fault.length), expected, "{body}");
                }
                other => panic!("{body}: {other:?}"),
            }
        }
    });
}

/// Offsets, in a module, of the operators that `wanted` picks, with the index of their function.
fn operators(bytes: &[u8], wanted: impl Fn(&Operator<'_>) -> bool) -> Vec<(u32, usize)> {
    let (mut found, mut func) = (vec![], 0);
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.unwrap() {
            Payload::ImportSection(reader) => func += reader.count(),
            Payload::CodeSectionEntry(body) => {
                for item in body.get_operators_reader().unwrap().into_iter_with_offsets() {
                    let (operator, offset) = item.unwrap();
                    if wanted(&operator) {
                        found.push((func, offset as usize));
                    }
                }
                func += 1;
            }
            _ => {}
        }
    }
    found
}

fn frames(error: &Error) -> Vec<(u32, Option<&str>, usize)> {
    error.backtrace().iter().map(|f| (f.func_index(), f.func_name(), f.module_offset())).collect()
}

#[test]
fn a_backtrace_names_functions_and_offsets() {
    let bytes = wat::parse_str(
        r#"(module
            (table funcref (elem $inner))
            (func $inner (param i32) (result i32)
                (i32.div_u (i32.const 1) (local.get 0)))
            (func $middle (param i32) (result i32)
                (i32.add (i32.const 1) (call_indirect (param i32) (result i32) (local.get 0) (i32.const 0))))
            (func (export "outer") (param i32) (result i32)
                (drop (call $middle (i32.const 1)))
                (i32.add (call $middle (local.get 0)) (i32.const 2))))"#,
    )
    .unwrap();
    let divide = operators(&bytes, |op| matches!(op, Operator::I32DivU))[0].1;
    let indirect = operators(&bytes, |op| matches!(op, Operator::CallIndirect { .. }))[0].1;
    let second_call = operators(&bytes, |op| matches!(op, Operator::Call { .. }))[1].1;
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let instance = Instance::new(&mut store, &Module::new(engine, &bytes).unwrap(), &[]).unwrap();
        assert_eq!(call::<_, i32, i32>(&mut store, instance, "outer", 1).unwrap(), 4);
        let error = call::<_, i32, i32>(&mut store, instance, "outer", 0).unwrap_err();
        assert_eq!(error.trap(), Some(Trap::IntegerDivisionByZero));
        let expected = [(0, Some("inner"), divide), (1, Some("middle"), indirect), (2, Some("outer"), second_call)];
        assert_eq!(frames(&error), expected);
    });
}

#[test]
fn a_backtrace_goes_through_host_functions_and_instances() {
    let outer = wat::parse_str(
        r#"(module
            (import "" "host" (func $host))
            (func $run (export "run") nop (call $host)))"#,
    )
    .unwrap();
    let inner = wat::parse_str(r#"(module (func $deep unreachable) (func $shallow (export "shallow") (call $deep)))"#);
    let inner = inner.unwrap();
    let trap = operators(&inner, |op| matches!(op, Operator::Unreachable))[0].1;
    let call_deep = operators(&inner, |op| matches!(op, Operator::Call { .. }))[0].1;
    let call_host = operators(&outer, |op| matches!(op, Operator::Call { .. }))[0].1;
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let inner = Instance::new(&mut store, &Module::new(engine, &inner).unwrap(), &[]).unwrap();
        let shallow = inner.get_typed_func::<(), ()>(&mut store, "shallow").unwrap();
        let host = Func::wrap(&mut store, move |mut caller: Caller<'_, ()>| shallow.call(&mut caller, ()));
        let outer = Instance::new(&mut store, &Module::new(engine, &outer).unwrap(), &[host.into()]).unwrap();
        let error = call::<_, (), ()>(&mut store, outer, "run", ()).unwrap_err();
        let expected = [(0, Some("deep"), trap), (1, Some("shallow"), call_deep), (1, Some("run"), call_host)];
        assert_eq!(frames(&error), expected);
    });
}

/// Through handlers that do not catch it, of one function and of several, through a host function and another instance, and
/// thrown again by reference.
#[test]
fn an_uncaught_exception_has_the_backtrace_of_its_throw() {
    let outer = wat::parse_str(
        r#"(module
            (import "" "host" (func $host))
            (tag $other)
            (func $guarded (block $caught (try_table (catch $other $caught) nop (call $host))))
            (func $between (call $guarded))
            (func $run (export "run")
                (block $caught
                    (try_table (catch $other $caught) (try_table (catch $other $caught) nop nop (call $between))))))"#,
    )
    .unwrap();
    let inner = wat::parse_str(
        r#"(module
            (tag $t (param i32)) (tag $other)
            (func $throws (throw $t (i32.const 5)))
            (func $again (local exnref)
                (local.set 0 (block $caught (result exnref)
                    (try_table (catch_all_ref $caught) (call $throws)) (unreachable)))
                (throw_ref (local.get 0)))
            (func $guard (block $caught
                (try_table (catch $other $caught) (call $again))
                (try_table (catch $other $caught) (call $again))))
            (func $shallow (export "shallow") (call $guard)))"#,
    )
    .unwrap();
    let calls = |wasm: &[u8]| -> Vec<usize> {
        operators(wasm, |op| matches!(op, Operator::Call { .. })).iter().map(|call| call.1).collect()
    };
    let (in_inner, in_outer) = (calls(&inner), calls(&outer));
    let throw_ref = operators(&inner, |op| matches!(op, Operator::ThrowRef))[0].1;
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let inner = Instance::new(&mut store, &Module::new(engine, &inner).unwrap(), &[]).unwrap();
        let shallow = inner.get_typed_func::<(), ()>(&mut store, "shallow").unwrap();
        let host = Func::wrap(&mut store, move |mut caller: Caller<'_, ()>| shallow.call(&mut caller, ()));
        let outer = Instance::new(&mut store, &Module::new(engine, &outer).unwrap(), &[host.into()]).unwrap();
        for _ in 0..5 {
            let error = call::<_, (), ()>(&mut store, outer, "run", ()).unwrap_err();
            let expected = [
                (1, Some("again"), throw_ref),
                (2, Some("guard"), in_inner[1]),
                (3, Some("shallow"), in_inner[3]),
                (1, Some("guarded"), in_outer[0]),
                (2, Some("between"), in_outer[1]),
                (3, Some("run"), in_outer[2]),
            ];
            assert_eq!(frames(&error), expected);
        }
    });
}

/// A legacy `rethrow` that nobody catches: the backtrace begins there, with its offset in the module.
#[test]
fn a_legacy_rethrow_begins_the_backtrace() {
    let wasm = wat::parse_str(
        r#"(module
            (tag $t (param i32)) (tag $other)
            (func $throws (throw $t (i32.const 5)))
            (func $again (param i32)
                try call $throws
                catch $other
                catch $t drop
                    try local.get 0 br_if 1 catch $other end
                    rethrow 0
                end)
            (func (export "run") try i32.const 0 call $again delegate 0))"#,
    )
    .unwrap();
    let rethrow = operators(&wasm, |op| matches!(op, Operator::Rethrow { .. }))[0].1;
    let call_again = operators(&wasm, |op| matches!(op, Operator::Call { .. }))[1].1;
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let instance = Instance::new(&mut store, &Module::new(engine, &wasm).unwrap(), &[]).unwrap();
        for _ in 0..5 {
            let error = call::<_, (), ()>(&mut store, instance, "run", ()).unwrap_err();
            assert_eq!(frames(&error), [(1, Some("again"), rethrow), (2, Some("run"), call_again)]);
            assert!(matches!(error.kind(), ErrorKind::Exception(_)), "{error}");
        }
    });
}

/// Uncaught in a function that catches another exception first, whose memory the second one takes.
#[test]
fn an_exception_does_not_inherit_the_backtrace_of_another() {
    for mut config in configs() {
        let engine = Engine::new(config.collect_always(true)).unwrap();
        let (mut store, instance) = setup(
            &engine,
            r#"(module
                (tag $t (param i64 i64 i64)) (tag $other)
                (func $throws (throw $t (i64.const 1) (i64.const 2) (i64.const 3)))
                (func $catches (block $caught (try_table (catch_all $caught) (call $throws)) (unreachable)))
                (func $second (export "run")
                    (call $catches) (call $catches)
                    (block $caught
                        (try_table (catch $other $caught) (throw $t (i64.const 1) (i64.const 2) (i64.const 3))))))"#,
        );
        for _ in 0..10 {
            let error = call::<_, (), ()>(&mut store, instance, "run", ()).unwrap_err();
            let names: Vec<_> = error.backtrace().iter().map(|f| f.func_name().unwrap()).collect();
            assert_eq!(names, ["second"]);
        }
    }
}

/// The frame that calls is too large for the operands of its instructions, and the callee has been replaced by what fails.
#[test]
fn an_exception_leaves_frames_of_any_size() {
    // One is an instruction of one word, the other of several.
    for calls in ["(call $replaced)", "(call_indirect (i32.const 0))"] {
        let wat = format!(
            r#"(module
                (import "" "throws" (func $throws))
                (table funcref (elem $replaced))
                (func $replaced (return_call $throws))
                (func $large (local {}) {calls})
                (func $run (export "run") (call $large)))"#,
            "v128 ".repeat(33_000)
        );
        for_each_engine(|engine| {
            let mut store = Store::new(engine, ());
            let inner = instantiate(&mut store, r#"(module (tag $t) (func $throw (export "throw") (throw $t)))"#, &[]);
            let throw = inner.get_typed_func::<(), ()>(&mut store, "throw").unwrap();
            let throws = Func::wrap(&mut store, move |mut caller: Caller<'_, ()>| throw.call(&mut caller, ()));
            let outer = instantiate(&mut store, &wat, &[throws.into()]);
            for _ in 0..3 {
                let error = call::<_, (), ()>(&mut store, outer, "run", ()).unwrap_err();
                let names: Vec<_> = error.backtrace().iter().map(|f| f.func_name().unwrap()).collect();
                assert_eq!(names, ["throw", "large", "run"]);
            }
        });
    }
}

#[test]
fn a_tail_call_leaves_the_backtrace() {
    for_each_engine(|engine| {
        let (mut store, instance) = setup(
            engine,
            r#"(module
                (func $last unreachable)
                (func $replaced (return_call $last))
                (func $first (export "first") (call $replaced)))"#,
        );
        let error = call::<_, (), ()>(&mut store, instance, "first", ()).unwrap_err();
        let names: Vec<_> = error.backtrace().iter().map(|f| f.func_name().unwrap()).collect();
        assert_eq!(names, ["last", "first"]);
    });
}

#[test]
fn the_error_of_a_host_function_has_a_backtrace() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let host = Func::wrap(&mut store, |exits: i32| -> wasmrun::Result<()> {
            Err(if exits == 0 { Error::host("refused") } else { Error::new(ErrorKind::Exit(3)) })
        });
        let wat = r#"(module (import "" "h" (func $h (param i32)))
            (func $a (param i32) (call $h (local.get 0))) (func $b (export "b") (param i32) (call $a (local.get 0))))"#;
        let instance = instantiate(&mut store, wat, &[host.into()]);
        let error = call::<_, i32, ()>(&mut store, instance, "b", 0).unwrap_err();
        let names: Vec<_> = error.backtrace().iter().map(|f| f.func_name().unwrap()).collect();
        assert_eq!(names, ["a", "b"]);
        // An exit is no failure that somebody would look for, and names take long to read.
        let exit = call::<_, i32, ()>(&mut store, instance, "b", 1).unwrap_err();
        assert_eq!((exit.exit_code(), exit.backtrace().len()), (Some(3), 0));
    });
}

#[test]
fn effects_before_a_trap_stay_and_the_instance_goes_on() {
    for_each_engine(|engine| {
        let (mut store, instance) = setup(
            engine,
            r#"(module
                (memory (export "memory") 1) (global $g (export "g") (mut i32) (i32.const 0))
                (func (export "f") (param i32) (result i32) (local $l i32)
                    (global.set $g (i32.add (global.get $g) (i32.const 1)))
                    (i32.store (i32.const 8) (global.get $g))
                    (local.set $l (i32.load (local.get 0)))
                    (i32.store (i32.const 12) (global.get $g))
                    (local.get $l)))"#,
        );
        for round in 1..=3 {
            assert!(call::<_, i32, i32>(&mut store, instance, "f", -4).is_err());
            let memory = instance.get_memory(&mut store, "memory").unwrap();
            assert_eq!(memory.data(&store)[8], 2 * round - 1);
            assert_eq!(memory.data(&store)[12], 2 * (round - 1));
            assert_eq!(call::<_, i32, i32>(&mut store, instance, "f", 8).unwrap(), 2 * i32::from(round));
        }
    });
}

#[test]
fn a_trap_in_the_start_function_fails_the_instantiation() {
    for_each_engine(|engine| {
        let module = Module::new(engine, "(module (func $s unreachable) (start $s))").unwrap();
        let error = Instance::new(&mut Store::new(engine, ()), &module, &[]).unwrap_err();
        assert_eq!(error.trap(), Some(Trap::Unreachable));
        assert_eq!(error.backtrace()[0].func_name(), Some("s"));
    });
}

#[test]
fn an_invalid_module_names_offset_and_function() {
    let engine = Engine::default();
    let bytes = wat::parse_str("(module (func $fine) (func $broken (result i32) i64.const 1))").unwrap();
    let error = Module::new(&engine, &bytes).unwrap_err();
    let ErrorKind::Invalid { message, offset, function } = error.kind() else { panic!("{error}") };
    assert!(message.contains("type mismatch"), "{message}");
    assert!(function.as_ref().is_some_and(|function| function.contains("broken")), "{error}");
    assert!(offset.is_some_and(|offset| offset < bytes.len()), "{error}");
}
