//! Tests of compiled and interpreted functions that call each other, as they do while a module tiers up.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{CodeEntry, Tier, compile};
use crate::vm::context::VMFuncRef;
use crate::*;

/// A store of an engine that compiles no functions by itself.
fn store() -> Store<()> {
    let mut config = Config::new();
    config.strategy(Strategy::Tiered).tiering(Tiering::AtLoops);
    Store::new(&Engine::new(&config).unwrap(), ())
}

/// Sets the flag when it is dropped, also by a panic, so that a thread that waits for the flag does not wait for ever.
struct AtEnd<'a>(&'a AtomicBool);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Compiles exported functions, and publishes them together.
fn publish(module: &Module, names: &[&str], tier: Tier) {
    let defined = |name| module.export_func_index(name).unwrap() - module.0.facts.imported_funcs();
    let compiled = names.iter().map(|name| compile(&module.0.jit, defined(name), tier, CodeEntry::Function).unwrap());
    let codes = module.0.jit.publish(compiled.collect()).unwrap();
    for (name, code) in names.iter().zip(codes) {
        assert_eq!(module.0.jit.native(defined(name)), Some(code));
    }
}

/// Makes interpreted calls of an exported function run its native code.
fn redirect_calls(module: &Module, name: &str) {
    let defined = module.export_func_index(name).unwrap() - module.0.facts.imported_funcs();
    module.0.interp.redirect_calls(defined, module.0.jit.native_entry(defined));
}

/// Calls an export the way compiled code would: through its reference.
fn call(store: &mut Store<()>, instance: Instance, name: &str, args: &[u64], results: usize) -> Result<Vec<u64>> {
    let func = instance.get_func(&mut *store, name).unwrap();
    let mut slots = args.to_vec();
    slots.resize(args.len().max(results), 0);
    let opaque = &raw mut store.inner_mut().opaque;
    // SAFETY: the reference is the live store's, the slots are those of its type, the stack limit is set.
    unsafe {
        let entered = (*opaque).enter_wasm(crate::sys::stack_pointer())?;
        let result = super::call(func.func_ref(&*opaque).as_ptr(), std::ptr::null_mut(), slots.as_mut_ptr());
        (*opaque).exit_wasm(entered);
        result?;
    }
    slots.truncate(results);
    Ok(slots)
}

fn reference(store: &mut Store<()>, instance: Instance, name: &str) -> *mut VMFuncRef {
    let func = instance.get_func(&mut *store, name).unwrap();
    func.func_ref(&store.inner().opaque).as_ptr()
}

/// Functions that call `inner` directly and through a table, by calls and by tail calls. They pass on their parameters,
/// which are of these types, as results.
fn calls(types: &str) -> String {
    let count = types.split_whitespace().count();
    let pick: String = (0..count).map(|n| format!("(local.get {n})")).collect();
    format!(
        r#"(module (type $t (func (param {types}) (result {types})))
            (table (export "table") funcref (elem $inner))
            (func $inner (export "inner") (type $t) {pick})
            (func (export "direct") (type $t) {pick} call $inner)
            (func (export "tail") (type $t) {pick} return_call $inner)
            (func (export "indirect") (type $t) {pick} i32.const 0 call_indirect (type $t))
            (func (export "tail_indirect") (type $t) {pick} i32.const 0 return_call_indirect (type $t)))"#
    )
}

/// Calls native code so often that the native stack would overflow if the handler that does this left a frame on it.
#[test]
fn calls_of_native_code_leave_nothing_on_the_stack() {
    let text = r#"(module
        (func $leaf (export "leaf") (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
        (func (export "f") (param $n i32) (result i32) (local $sum i32)
            (loop $again
                (local.set $sum (call $leaf (local.get $sum)))
                (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
            (local.get $sum)))"#;
    let mut config = Config::new();
    // Only the functions that the test publishes are ever compiled.
    config.strategy(Strategy::Tiered).tiering(Tiering::Baseline);
    let mut store = Store::new(&Engine::new(&config).unwrap(), ());
    let module = Module::new(store.engine(), text).unwrap();
    publish(&module, &["leaf"], Tier::Best);
    redirect_calls(&module, "leaf");
    let instance = Instance::new(&mut store, &module, &[]).unwrap();
    let f = instance.get_typed_func::<i32, i32>(&mut store, "f").unwrap();
    assert_eq!(f.call(&mut store, 300_000).unwrap(), 300_000);
}

/// Two rules bound the native stack that tail calls between native and interpreted code take. Each must suffice alone.
/// Without both the stack must overflow, which shows that the test can tell.
#[test]
fn tail_calls_from_engine_to_engine_end_by_either_rule() {
    use crate::interp::NestingRule::{self, NestLimit, OutermostTailCall};
    let text = r#"(module
        (func $native (export "native") (param i64) (result i64)
            (if (i64.eqz (local.get 0)) (then (return (i64.const 7))))
            (return_call $interpreted (i64.sub (local.get 0) (i64.const 1))))
        (func $interpreted (export "interpreted") (param i64) (result i64)
            (if (i64.eqz (local.get 0)) (then (return (i64.const 7))))
            (return_call $native (i64.sub (local.get 0) (i64.const 1)))))"#;
    let mut config = Config::new();
    // Only the functions that the test publishes are ever compiled.
    config.strategy(Strategy::Tiered).tiering(Tiering::Baseline);
    let mut store = Store::new(&Engine::new(&config).unwrap(), ());
    let module = Module::new(store.engine(), text).unwrap();
    publish(&module, &["native"], Tier::Best);
    redirect_calls(&module, "native");
    let instance = Instance::new(&mut store, &module, &[]).unwrap();
    let mut run = |export: &str, off: &'static [NestingRule]| {
        interp::RULES_OFF.set(off);
        let func = instance.get_typed_func::<i64, i64>(&mut store, export).unwrap();
        let result = func.call(&mut store, 200_000);
        interp::RULES_OFF.set(&[]);
        result
    };
    for export in ["native", "interpreted"] {
        for off in [&[][..], &[NestLimit], &[OutermostTailCall]] {
            assert_eq!(run(export, off).unwrap(), 7, "{export}");
        }
        let error = run(export, &[NestLimit, OutermostTailCall]).unwrap_err();
        assert_eq!(error.trap(), Some(Trap::StackOverflow), "{error}");
    }
}

#[test]
fn compiled_and_interpreted_functions_call_each_other() {
    for types in ["i32", "i64 i32 i64", &"i64 i32 i64 i64 ".repeat(10)] {
        let count = types.split_whitespace().count();
        let args: Vec<u64> = (1..=count as u64).collect();
        let mut store = store();
        let module = Module::new(store.engine(), calls(types)).unwrap();
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let callers = ["direct", "tail", "indirect", "tail_indirect"];
        let mut check = |what: &str| {
            for caller in callers.iter().chain(&["inner"]) {
                for _ in 0..2 {
                    assert_eq!(call(&mut store, instance, caller, &args, count).unwrap(), args, "{caller} {what}");
                }
            }
            let inner = reference(&mut store, instance, "inner");
            // SAFETY: live as its store.
            unsafe { ((*inner).code, (*inner).callee.cast::<VMFuncRef>() == inner) }
        };
        check("all interpreted");
        publish(&module, &callers, Tier::Quick);
        let (first, own) = check("callee interpreted");
        assert!(own);
        publish(&module, &["inner"], Tier::Quick);
        assert_eq!(check("callee quick"), (first, true));
        publish(&module, &["inner"], Tier::Best);
        let best = module.0.jit.native(0).unwrap();
        assert_eq!(check("callee best"), (best, false));
    }
}

#[test]
fn what_was_compiled_better_stays() {
    let mut store = store();
    let module = Module::new(store.engine(), calls("i32")).unwrap();
    let instance = Instance::new(&mut store, &module, &[]).unwrap();
    publish(&module, &["inner"], Tier::Best);
    let best = module.0.jit.native(0);
    let late = compile(&module.0.jit, 0, Tier::Quick, CodeEntry::Function).unwrap();
    module.0.jit.publish(vec![late]).unwrap();
    assert_eq!(module.0.jit.native(0), best);
    assert_eq!(call(&mut store, instance, "inner", &[3], 1).unwrap(), [3]);
}

#[test]
fn traps_and_exceptions_pass_through_both_kinds_of_frames() {
    let text = r#"(module (tag $e (param i32))
        (func $last (export "last") (param i32) (result i32)
            (if (local.get 0) (then (throw $e (local.get 0)))) unreachable)
        (func $middle (export "middle") (param i32) (result i32) (i32.add (i32.const 1) (call $last (local.get 0))))
        (func $catch (export "catch") (param i32) (result i32)
            (block (result i32) (try_table (result i32) (catch $e 0) (call $middle (local.get 0)))))
        (func $first (export "first") (param i32) (result i32) (i32.add (i32.const 1) (call $catch (local.get 0)))))"#;
    for compiled in [&[][..], &["first"], &["catch"], &["middle"], &["first", "middle"], &["catch", "last"]] {
        for tier in [Tier::Quick, Tier::Best] {
            let mut store = store();
            let module = Module::new(store.engine(), text).unwrap();
            let instance = Instance::new(&mut store, &module, &[]).unwrap();
            publish(&module, compiled, tier);
            assert_eq!(call(&mut store, instance, "first", &[7], 1).unwrap(), [8], "{compiled:?}");
            let error = call(&mut store, instance, "first", &[0], 1).unwrap_err();
            assert_eq!(error.trap(), Some(Trap::Unreachable));
            let names: Vec<_> = error.backtrace().iter().map(|frame| frame.func_name.as_deref().unwrap()).collect();
            assert_eq!(names, ["last", "middle", "catch", "first"], "{compiled:?}");
        }
    }
}

#[test]
fn code_is_published_in_batches_while_other_code_runs() {
    let functions: String = (0..300)
        .map(|n| {
            format!("(func (export \"f{n}\") (param i64) (result i64) (i64.mul (local.get 0) (i64.const {})))", n + 2)
        })
        .collect();
    let mut store = store();
    let module = Module::new(store.engine(), format!("(module {functions})")).unwrap();
    let instance = Instance::new(&mut store, &module, &[]).unwrap();
    let names: Vec<String> = (0..300).map(|n| format!("f{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    publish(&module, &["f0"], Tier::Quick);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (module, done) = (&module, &done);
        scope.spawn(move || {
            let _done = AtEnd(done);
            for tier in [Tier::Quick, Tier::Best] {
                for batch in names.chunks(1).take(50).chain(names[50..].chunks(25)) {
                    publish(module, batch, tier);
                }
            }
        });
        while !done.load(Ordering::Acquire) {
            for n in (0..300).step_by(7) {
                let name = format!("f{n}");
                assert_eq!(call(&mut store, instance, &name, &[1000], 1).unwrap(), [1000 * (n + 2)]);
            }
        }
    });
    assert_eq!(call(&mut store, instance, "f299", &[1], 1).unwrap(), [301]);
}
