//! Tests of entering compiled code, and of leaving it by returns, traps and throws. What instructions compute is tested
//! elsewhere.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

use crate::*;

fn engine(bounds_checks: BoundsChecks) -> Engine {
    engine_of_tier(bounds_checks, false)
}

fn engine_of_tier(bounds_checks: BoundsChecks, quick: bool) -> Engine {
    Engine::new(Config::new().strategy(Strategy::Jit).bounds_checks(bounds_checks).quick_code(quick)).unwrap()
}

/// Both kinds of bounds checks, in quick and in best code: each gives code of another shape.
const CHECKS_AND_TIERS: [(BoundsChecks, bool); 4] = [
    (BoundsChecks::Inline, false),
    (BoundsChecks::Guard, false),
    (BoundsChecks::Inline, true),
    (BoundsChecks::Guard, true),
];

fn instance(store: &mut Store<()>, text: &str, imports: &[Extern]) -> (Module, Instance) {
    let module = Module::new(store.engine(), text).unwrap();
    let instance = Instance::new(store, &module, imports).unwrap();
    (module, instance)
}

fn inline_store() -> Store<()> {
    Store::new(&engine(BoundsChecks::Inline), ())
}

fn names(error: &Error) -> Vec<&str> {
    error.backtrace().iter().map(|frame| frame.func_name.as_deref().unwrap_or("")).collect()
}

const TRAPS: &str = r#"(module
    (memory 1)
    (func (export "unreachable") (result i32) unreachable)
    (func (export "zero") (param i32) (result i32) (i32.div_s (i32.const 1) (local.get 0)))
    (func (export "overflow") (param i32) (result i32) (i32.div_s (i32.const 0x80000000) (local.get 0)))
    (func (export "nan") (result i32) (i32.trunc_f64_s (f64.const nan)))
    (func (export "large") (result i32) (i32.trunc_f64_s (f64.const 1e10)))
    (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
    (func (export "load_offset") (param i32) (result i32) (i32.load offset=65532 (local.get 0)))
    (func (export "store") (param i32) (i32.store offset=8 (local.get 0) (i32.const 1))))"#;

fn trap<P: WasmParams, R: WasmResults>(store: &mut Store<()>, instance: Instance, name: &str, params: P) -> Error {
    let func = instance.get_typed_func::<P, R>(&mut *store, name).unwrap();
    let Err(error) = func.call(store, params) else { panic!("{name} does not trap") };
    error
}

#[test]
fn every_kind_of_trap_is_told_apart() {
    for (checks, quick) in CHECKS_AND_TIERS {
        let mut store = Store::new(&engine_of_tier(checks, quick), ());
        let (_, instance) = instance(&mut store, TRAPS, &[]);
        let store = &mut store;
        let kinds = [
            (trap::<_, i32>(store, instance, "unreachable", ()), Trap::Unreachable),
            (trap::<_, i32>(store, instance, "zero", 0), Trap::IntegerDivisionByZero),
            (trap::<_, i32>(store, instance, "overflow", -1), Trap::IntegerOverflow),
            (trap::<_, i32>(store, instance, "nan", ()), Trap::InvalidConversionToInteger),
            (trap::<_, i32>(store, instance, "large", ()), Trap::IntegerOverflow),
            (trap::<_, i32>(store, instance, "load", -1), Trap::MemoryOutOfBounds),
        ];
        for (error, want) in kinds {
            assert_eq!(error.trap(), Some(want));
            assert_eq!(error.backtrace().len(), 1);
        }
        let load = instance.get_typed_func::<i32, i32>(&mut *store, "load").unwrap();
        assert_eq!(load.call(&mut *store, 65_532).unwrap(), 0);
    }
}

#[test]
fn out_of_bounds_traps_say_what_was_accessed() {
    for (checks, quick) in CHECKS_AND_TIERS {
        let mut store = Store::new(&engine_of_tier(checks, quick), ());
        let (_, instance) = instance(&mut store, TRAPS, &[]);
        let fault = |error: Error| match error.kind() {
            ErrorKind::Trap { fault: Some(fault), .. } => (fault.address, fault.size, fault.length),
            other => panic!("{other:?} ({checks:?})"),
        };
        let store = &mut store;
        for (index, address) in [(65_536, 65_536), (65_533, 65_533), (-1, 0xFFFF_FFFF)] {
            assert_eq!(fault(trap::<_, i32>(store, instance, "load", index)), (address, 4, 65_536));
        }
        assert_eq!(fault(trap::<_, i32>(store, instance, "load_offset", 1)), (65_533, 4, 65_536));
        assert_eq!(fault(trap::<_, ()>(store, instance, "store", 65_530)), (65_538, 4, 65_536));
        assert_eq!(fault(trap::<_, ()>(store, instance, "store", 65_540)), (65_548, 4, 65_536));
    }
}

#[test]
fn backtraces_name_functions_and_instructions() {
    let mut store = inline_store();
    let (module, instance) = instance(
        &mut store,
        r#"(module
            (func $inner (param i32) (result i32) (i32.div_s (i32.const 1) (local.get 0)))
            (func $middle (param i32) (result i32) (i32.add (i32.const 1) (call $inner (local.get 0))))
            (func $outer (export "outer") (param i32) (result i32) (i32.add (i32.const 1) (call $middle (local.get 0)))))"#,
        &[],
    );
    let error = trap::<_, i32>(&mut store, instance, "outer", 0);
    assert_eq!(names(&error), ["inner", "middle", "outer"]);
    let bytes = module.0.facts.source.read(0..module.0.facts.source.len()).unwrap();
    let opcodes: Vec<u8> = error.backtrace().iter().map(|frame| bytes[frame.offset]).collect();
    assert_eq!(opcodes, [0x6D, 0x10, 0x10]);
    assert_eq!(error.backtrace()[1].func_index, 1);
}

#[test]
fn endless_recursion_exhausts_the_stack_and_leaves_it_usable() {
    let mut store = inline_store();
    let text = r#"(module
        (func $f (export "f") (param i32) (result i32) (i32.add (i32.const 1) (call $f (local.get 0))))
        (func (export "g") (result i32) (i32.const 7)))"#;
    let (_, instance) = instance(&mut store, text, &[]);
    for _ in 0..3 {
        let error = trap::<_, i32>(&mut store, instance, "f", 0);
        assert_eq!(error.trap(), Some(Trap::StackOverflow));
        assert_eq!(error.backtrace().len(), crate::error::MAX_BACKTRACE);
        let g = instance.get_typed_func::<(), i32>(&mut store, "g").unwrap();
        assert_eq!(g.call(&mut store, ()).unwrap(), 7);
    }
}

#[test]
fn recursion_through_the_host_exhausts_the_stack() {
    let mut store = inline_store();
    let again = Func::wrap(&mut store, |mut caller: Caller<'_, ()>| -> Result<()> {
        let Some(Extern::Func(func)) = caller.get_export("f") else { panic!("f is exported") };
        func.call(&mut caller, &[], &mut [])
    });
    let text = r#"(module (import "" "again" (func $again)) (func $f (export "f") (call $again)))"#;
    let (_, instance) = instance(&mut store, text, &[again.into()]);
    let error = trap::<_, ()>(&mut store, instance, "f", ());
    assert_eq!(error.trap(), Some(Trap::StackOverflow));
    assert_eq!(names(&error)[..2], ["f", "f"]);
}

#[test]
fn errors_of_host_functions_pass_through_nested_activations() {
    let mut store = inline_store();
    let fail = Func::wrap(&mut store, || -> Result<()> { Err(Error::host("of the host's")) });
    let inner = r#"(module (import "" "fail" (func $fail)) (func $inner (export "inner") (call $fail)))"#;
    let (_, inner) = instance(&mut store, inner, &[fail.into()]);
    let inner = inner.get_typed_func::<(), ()>(&mut store, "inner").unwrap();
    let call = Func::wrap(&mut store, move |mut caller: Caller<'_, ()>, swallow: i32| -> Result<()> {
        let result = inner.call(&mut caller, ());
        if swallow != 0 { Ok(()) } else { result }
    });
    let outer = r#"(module (import "" "call" (func $call (param i32)))
        (func $outer (export "outer") (param i32) (result i32) (call $call (local.get 0)) (i32.const 5)))"#;
    let (_, outer) = instance(&mut store, outer, &[call.into()]);
    let error = trap::<_, i32>(&mut store, outer, "outer", 0);
    assert_eq!(error.to_string(), "of the host's");
    assert_eq!(names(&error), ["inner", "outer"]);
    let outer = outer.get_typed_func::<i32, i32>(&mut store, "outer").unwrap();
    assert_eq!(outer.call(&mut store, 1).unwrap(), 5);
    // An exit is an error like any other to compiled code.
    let exit = Func::wrap(&mut store, || -> Result<i32> { Err(Error::new(ErrorKind::Exit(3))) });
    let text = r#"(module (import "" "exit" (func $exit (result i32))) (func (export "f") (result i32) (call $exit)))"#;
    let (_, exits) = instance(&mut store, text, &[exit.into()]);
    assert_eq!(trap::<_, i32>(&mut store, exits, "f", ()).exit_code(), Some(3));
}

#[test]
fn panics_of_host_functions_resume_in_the_caller() {
    let mut store = inline_store();
    let text = r#"(module (import "" "panic" (func $panic)) (func (export "f") (call $panic)))"#;
    let panic = Func::wrap(&mut store, || -> () { std::panic::resume_unwind(Box::new("of the host's")) });
    let (_, instance) = instance(&mut store, text, &[panic.into()]);
    let f = instance.get_typed_func::<(), ()>(&mut store, "f").unwrap();
    for _ in 0..2 {
        let panic = catch_unwind(AssertUnwindSafe(|| f.call(&mut store, ()))).unwrap_err();
        assert_eq!(*panic.downcast::<&str>().unwrap(), "of the host's");
    }
}

#[test]
fn arguments_and_results_of_all_types_pass_in_registers_and_on_the_stack() {
    // More values of each type than there are registers, as arguments and as results, through each kind of trampoline.
    let types = ["i32", "i64", "f32", "f64", "i64"].repeat(8).join(" ");
    let pick: String = (0..40).map(|n| format!("(local.get {n})")).collect();
    let text = format!(
        r#"(module
            (import "" "host" (func $host (param {types}) (result {types})))
            (func $callee (param {types}) (result {types}) (call $host {pick}))
            (func $tail (param {types}) (result {types}) (return_call $callee {pick}))
            (func (export "f") (param {types}) (result {types}) (call $tail {pick})))"#
    );
    let mut store = inline_store();
    let kinds = [ValType::I32, ValType::I64, ValType::F32, ValType::F64, ValType::I64];
    let kinds = Vec::from_iter(kinds.into_iter().cycle().take(40));
    let ty = FuncType::of(kinds.clone(), kinds.clone());
    let host = Func::new(&mut store, ty, |_: Caller<'_, ()>, args, results| {
        results.clone_from_slice(args);
        Ok(())
    });
    let (_, instance) = instance(&mut store, &text, &[host.into()]);
    let args: Vec<Value> = kinds
        .iter()
        .enumerate()
        .map(|(n, ty)| match ty {
            ValType::I32 => Value::I32(-(n as i32)),
            ValType::F32 => Value::F32(n as f32),
            ValType::F64 => Value::F64(-(n as f64)),
            _ => Value::I64(i64::MIN + n as i64),
        })
        .collect();
    let f = instance.get_func(&mut store, "f").unwrap();
    for _ in 0..2 {
        let mut results = vec![Value::I32(0); 40];
        f.call(&mut store, &args, &mut results).unwrap();
        assert_eq!(format!("{results:?}"), format!("{args:?}"));
    }
}

#[test]
fn vectors_pass_through_trampolines() {
    let mut store = inline_store();
    let text = r#"(module
        (import "" "host" (func $host (param i32 v128 v128) (result v128)))
        (func (export "f") (param i32 v128 v128) (result v128)
            (call $host (local.get 0) (local.get 1) (local.get 2))))"#;
    let host = Func::wrap(&mut store, |a: i32, b: u128, c: u128| b ^ c ^ a as u128);
    let (_, instance) = instance(&mut store, text, &[host.into()]);
    let f = instance.get_typed_func::<(i32, u128, u128), u128>(&mut store, "f").unwrap();
    assert_eq!(f.call(&mut store, (1, 0x55 << 100, 0x33 << 100)).unwrap(), (0x66 << 100) + 1);
}

#[test]
fn threads_trap_at_once_while_others_compile() {
    let engine = engine(BoundsChecks::Guard);
    // Many small functions in one code memory, which all threads compile and run.
    let body: String = (0..200)
        .map(|n| format!("(func (export \"f{n}\") (param i32) (result i32) (i32.load offset={n} (local.get 0)))"))
        .collect();
    let module = Module::new(&engine, format!("(module (memory 1) {body})")).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let module = &module;
            let engine = &engine;
            scope.spawn(move || {
                let mut store = Store::new(engine, ());
                let instance = Instance::new(&mut store, module, &[]).unwrap();
                for n in 0..200 {
                    let name = format!("f{}", (n + 50 * thread) % 200);
                    let f = instance.get_typed_func::<i32, i32>(&mut store, &name).unwrap();
                    assert_eq!(f.call(&mut store, 8).unwrap(), 0);
                    for index in [-1, 65_536] {
                        assert_eq!(f.call(&mut store, index).unwrap_err().trap(), Some(Trap::MemoryOutOfBounds));
                    }
                }
            });
        }
    });
}

#[test]
fn code_goes_with_its_module_and_is_never_writable_and_executable() {
    let engine = engine(BoundsChecks::Inline);
    let mut last = 0;
    for _ in 0..20 {
        let mut store = Store::new(&engine, ());
        let (module, instance) = instance(&mut store, TRAPS, &[]);
        trap::<_, i32>(&mut store, instance, "unreachable", ());
        let code = module.0.jit.entry(0).load(Ordering::Acquire) as usize;
        // SAFETY: the module is alive, so its code is.
        unsafe {
            let found = super::registry::find(code + 1).unwrap();
            assert_eq!((found.range.start, found.function.unwrap().defined), (code, 0));
        }
        drop(store);
        drop(module);
        assert!(!super::registry::is_code(code), "the chunk is still registered");
        last = code;
    }
    assert_ne!(last, 0);
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    assert!(!maps.lines().any(|line| line.split_whitespace().nth(1).is_some_and(|access| access.starts_with("rwx"))));
}

/// Runs a test in a child process of its own: true in the child, which `variable` marks. In the parent it starts the
/// child with only this test, checks that it ends with `status`, and returns false.
fn in_child(variable: &str, test: &str, status: i32) -> bool {
    if std::env::var_os(variable).is_some() {
        return true;
    }
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(variable, "1")
        .status();
    // The child can't be run under an emulator that the system does not start by itself.
    let found = child.unwrap().code();
    assert!(found == Some(status) || cfg!(target_arch = "aarch64") && found == Some(127), "{found:?}");
    false
}

/// The handlers of the signals that traps cause.
fn handlers() -> [usize; 4] {
    [libc::SIGILL, libc::SIGFPE, libc::SIGSEGV, libc::SIGBUS].map(|signal| {
        let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: only reads the action, into memory that has room for it.
        unsafe {
            libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr());
            action.assume_init().sa_sigaction
        }
    })
}

/// Blocks all signals on this thread: a signal that an instruction causes then ends the process.
fn block_all_signals() {
    // SAFETY: plain calls about the current thread.
    unsafe {
        let mut set = std::mem::MaybeUninit::<libc::sigset_t>::zeroed().assume_init();
        libc::sigfillset(&mut set);
        libc::pthread_sigmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
    }
}

/// Causes every kind of trap, and checks the errors.
fn trap_in_all_ways(config: &Config) {
    let mut store = Store::new(&Engine::new(config).unwrap(), ());
    let store = &mut store;
    let host = Func::wrap(&mut *store, || -> Result<()> { Err(Error::host("of the host's")) });
    let text = r#"(module
        (import "" "fail" (func $fail))
        (type $unit (func)) (tag $t)
        (memory 1) (table $t 4 funcref) (elem (table $t) (i32.const 0) func $loads $unit)
        (func $loads (param i32) (drop (i32.load offset=65533 (local.get 0))))
        (func $unit)
        (func (export "unreachable") (param i32) unreachable)
        (func (export "load") (param i32) (call $loads (local.get 0)))
        (func (export "store") (param i32) (i64.store offset=8 (local.get 0) (i64.const 1)))
        (func (export "vector") (param i32) (drop (v128.load offset=70000 (local.get 0))))
        (func (export "fill") (param i32) (memory.fill (local.get 0) (i32.const 1) (i32.const 65537)))
        (func (export "div") (param i32) (drop (i32.div_s (i32.const 0x80000000) (local.get 0))))
        (func (export "div64") (param i32) (drop (i64.div_s (i64.const 0x8000000000000000) (i64.extend_i32_s (local.get 0)))))
        (func (export "rem") (param i32) (drop (i32.rem_u (i32.const 5) (i32.add (local.get 0) (i32.const 1)))))
        (func (export "trunc") (param i32) (drop (i32.trunc_f64_s (f64.mul (f64.convert_i32_s (local.get 0)) (f64.const 1e10)))))
        (func (export "nan") (param i32) (drop (i64.trunc_f32_u (f32.div (f32.const 0) (f32.const 0)))))
        (func (export "table") (param i32) (drop (table.get $t (local.get 0))))
        (func (export "undefined") (param i32) (call_indirect $t (type $unit) (local.get 0)))
        (func (export "null") (param i32) (call_indirect $t (type $unit) (i32.add (local.get 0) (i32.const 4))))
        (func (export "mismatch") (param i32) (call_indirect $t (type $unit) (i32.add (local.get 0) (i32.const 1))))
        (func (export "exhausted") (param i32) (call $deep (i64.const 0)))
        (func $deep (param i64) (local i64)
            (local.set 1 (i64.add (local.get 0) (i64.const 1)))
            (call $deep (local.get 1)) (call $deep (i64.add (local.get 1) (local.get 0))))
        (func (export "thrown") (param i32) (throw $t))
        (func (export "null_thrown") (param i32)
            (block (try_table (catch_all 0) (throw_ref (ref.null exn)))))
        (func (export "failed") (param i32) (call $fail)))"#;
    let (_, instance) = instance(store, text, &[host.into()]);
    use Trap::*;
    let traps = [
        ("unreachable", Unreachable),
        ("load", MemoryOutOfBounds),
        ("store", MemoryOutOfBounds),
        ("vector", MemoryOutOfBounds),
        ("fill", MemoryOutOfBounds),
        ("div", IntegerOverflow),
        ("div64", IntegerOverflow),
        ("rem", IntegerDivisionByZero),
        ("trunc", IntegerOverflow),
        ("nan", InvalidConversionToInteger),
        ("table", TableOutOfBounds),
        ("undefined", UndefinedElement),
        ("null", UninitializedElement),
        ("mismatch", IndirectCallTypeMismatch),
        ("exhausted", StackOverflow),
        ("null_thrown", NullExceptionReference),
    ];
    for (name, kind) in traps {
        let error = trap::<i32, ()>(store, instance, name, -1);
        assert_eq!(error.trap(), Some(kind), "{name} {config:?}");
        assert!(!error.backtrace().is_empty(), "{name} {config:?}");
    }
    let error = trap::<i32, ()>(store, instance, "load", -1);
    let ErrorKind::Trap { fault: Some(fault), .. } = error.kind() else { panic!("{error:?}") };
    assert_eq!((fault.address, fault.size, fault.length), (65_532 + (1 << 32), 4, 65_536));
    assert_eq!(trap::<i32, ()>(store, instance, "failed", -1).to_string(), "of the host's");
    assert!(matches!(trap::<i32, ()>(store, instance, "thrown", -1).kind(), ErrorKind::Exception(_)));
    assert_eq!(store.engine().stats().refused, 0, "{config:?}");
}

/// With `signals_based_traps(false)`, every kind of trap works on a thread that would not survive a signal, and no
/// signal handler is installed.
#[test]
fn without_signals_none_is_caused() {
    const NAME: &str = "jit::tests::without_signals_none_is_caused";
    if !in_child("WASMRUN_TEST_NO_SIGNALS", NAME, 0) {
        return;
    }
    let before = handlers();
    std::thread::spawn(|| {
        block_all_signals();
        for (strategy, quick) in [(Strategy::Jit, false), (Strategy::Jit, true), (Strategy::Tiered, false)] {
            let mut config = Config::new();
            config.strategy(strategy).quick_code(quick).signals_based_traps(false);
            trap_in_all_ways(config.tiering(Tiering::AtOnce));
            trap_in_all_ways(config.tiering(Tiering::BaselineAtLoops));
        }
    })
    .join()
    .unwrap();
    assert_eq!(handlers(), before);
}

#[test]
fn signals_that_the_host_has_blocked_are_unblocked() {
    const NAME: &str = "jit::tests::signals_that_the_host_has_blocked_are_unblocked";
    if !in_child("WASMRUN_TEST_BLOCKED", NAME, 0) {
        return;
    }
    std::thread::spawn(|| {
        block_all_signals();
        for checks in [BoundsChecks::Inline, BoundsChecks::Guard] {
            trap_in_all_ways(Config::new().strategy(Strategy::Jit).bounds_checks(checks));
        }
    })
    .join()
    .unwrap();
}

/// If a handler is installed after ours, the next thread or engine installs ours again before it. It then gets the
/// faults that are not ours. If it forwards them to ours, as the handler that was there before, ours forwards them to
/// the oldest handler.
#[test]
fn a_handler_that_replaced_ours_is_called_behind_it() {
    const NAME: &str = "jit::tests::a_handler_that_replaced_ours_is_called_behind_it";
    const STATUS: i32 = 43;
    static OURS: std::sync::Mutex<Option<libc::sigaction>> = std::sync::Mutex::new(None);
    static CALLS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

    extern "C" fn oldest(_: libc::c_int) {
        // SAFETY: ends the process without running anything else.
        unsafe { libc::_exit(if CALLS.load(Ordering::Relaxed) == 1 { STATUS } else { 1 }) }
    }

    extern "C" fn later(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        CALLS.fetch_add(1, Ordering::Relaxed);
        let ours = OURS.lock().unwrap().expect("it was there");
        type SignalHandler = unsafe extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
        // SAFETY: it was installed as a handler of this type.
        unsafe { std::mem::transmute::<usize, SignalHandler>(ours.sa_sigaction)(signal, info, context) }
    }

    if !in_child("WASMRUN_TEST_REPLACED", NAME, STATUS) {
        return;
    }
    // SAFETY: the handlers are of the types that the flags say.
    unsafe {
        libc::signal(libc::SIGSEGV, oldest as *const () as usize);
        trap_in_all_ways(Config::new().strategy(Strategy::Jit).bounds_checks(BoundsChecks::Guard));
        let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        action.sa_sigaction = later as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        let mut ours = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
        libc::sigaction(libc::SIGSEGV, &action, ours.as_mut_ptr());
        *OURS.lock().unwrap() = Some(ours.assume_init());
    }
    trap_in_all_ways(Config::new().strategy(Strategy::Jit).bounds_checks(BoundsChecks::Guard));
    // SAFETY: none at all; the fault is what is tested.
    unsafe { std::ptr::without_provenance::<u8>(8).read_volatile() };
    unreachable!("the fault ends the process");
}

#[test]
fn guard_pages_need_signals() {
    let error = Engine::new(Config::new().bounds_checks(BoundsChecks::Guard).signals_based_traps(false)).unwrap_err();
    assert!(error.to_string().contains("need signals"), "{error}");
}

/// A handler that was there before ours gets the faults that are not ours, and only these. In a child process, because
/// handlers belong to the process.
#[test]
fn foreign_faults_reach_the_handler_that_was_there_before() {
    const CHILD: &str = "WASMRUN_TEST_FOREIGN_FAULT";
    const NAME: &str = "jit::tests::foreign_faults_reach_the_handler_that_was_there_before";
    const STATUS: i32 = 42;

    extern "C" fn previous(_: libc::c_int) {
        // SAFETY: ends the process without running anything else.
        unsafe { libc::_exit(STATUS) }
    }

    if !in_child(CHILD, NAME, STATUS) {
        return;
    }
    // SAFETY: the handler is of the plain type.
    unsafe { libc::signal(libc::SIGSEGV, previous as *const () as usize) };
    let mut store = Store::new(&engine(BoundsChecks::Guard), ());
    let fault = Func::wrap(&mut store, || {
        // SAFETY: none at all; the fault is what is tested.
        unsafe { std::ptr::without_provenance::<u8>(8).read_volatile() };
    });
    let text = r#"(module (import "" "fault" (func $fault)) (memory 1)
        (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
        (func (export "f") (call $fault)))"#;
    let (_, instance) = instance(&mut store, text, &[fault.into()]);
    assert_eq!(trap::<_, i32>(&mut store, instance, "load", -1).trap(), Some(Trap::MemoryOutOfBounds));
    let f = instance.get_typed_func::<(), ()>(&mut store, "f").unwrap();
    let _ = f.call(&mut store, ());
    unreachable!("the fault ends the process");
}

#[test]
fn a_thousand_modules_come_and_go() {
    let engine = engine(BoundsChecks::Inline);
    let mappings = || std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    let mut before = 0;
    for round in 0..1000 {
        let mut store = Store::new(&engine, ());
        let text = format!(r#"(module (func (export "f") (result i32) (i32.const {round})))"#);
        let (_, instance) = instance(&mut store, &text, &[]);
        assert_eq!(instance.get_typed_func::<(), i32>(&mut store, "f").unwrap().call(&mut store, ()).unwrap(), round);
        if round == 100 {
            before = mappings();
        }
    }
    // Other tests run at the same time and map memory too; a leak would be a thousand mappings.
    assert!(mappings() < before + 500, "{before} mappings became {}", mappings());
}

#[test]
fn exceptions_are_caught_in_compiled_frames() {
    let mut store = inline_store();
    let text = r#"(module
        (import "" "call" (func $call (param i32)))
        (tag $t (param i32))
        (tag $other)
        (func $throw (export "throw") (param i32) (throw $t (local.get 0)))
        (func $deep (param i32 i32)
            (if (local.get 0)
                (then (call $deep (i32.sub (local.get 0) (i32.const 1)) (local.get 1)))
                (else (call $throw (local.get 1)))))
        (func (export "catch") (param i32 i32) (result i32) (local i64)
            (local.set 2 (i64.extend_i32_s (local.get 1)))
            (block $h (result i32)
                (block $o
                    (try_table (catch $other $o) (catch $t $h) (call $deep (local.get 0) (local.get 1))))
                (i32.const -1))
            (i32.add (i32.wrap_i64 (local.get 2))))
        (func (export "through_host") (param i32) (result i32)
            (block $h (result i32)
                (try_table (catch $t $h) (call $call (local.get 0)))
                (i32.const -1)))
        (func (export "rethrow") (param i32) (result i32)
            (block $h (result i32)
                (try_table (catch $t $h)
                    (block $all (result exnref)
                        (try_table (catch_all_ref $all) (call $throw (local.get 0)))
                        (return (i32.const -1)))
                    (throw_ref))
                (unreachable))))"#;
    let call = Func::wrap(&mut store, |mut caller: Caller<'_, ()>, value: i32| -> Result<()> {
        let Some(Extern::Func(func)) = caller.get_export("throw") else { panic!("throw is exported") };
        func.call(&mut caller, &[value.into()], &mut [])
    });
    let (_, instance) = instance(&mut store, text, &[call.into()]);
    let catch = instance.get_typed_func::<(i32, i32), i32>(&mut store, "catch").unwrap();
    for depth in [0, 1, 100, 1000] {
        assert_eq!(catch.call(&mut store, (depth, 7)).unwrap(), 14);
    }
    for name in ["through_host", "rethrow"] {
        let func = instance.get_typed_func::<i32, i32>(&mut store, name).unwrap();
        assert_eq!(func.call(&mut store, 8).unwrap(), 8, "{name}");
    }
    let error = trap::<_, ()>(&mut store, instance, "throw", 9);
    assert!(matches!(error.kind(), ErrorKind::Exception(_)));
    assert_eq!(names(&error), ["throw"]);
}

#[test]
fn every_form_of_check_tells_what_was_accessed() {
    for (checks, quick) in CHECKS_AND_TIERS {
        for limits in ["1", "1 1", "1 2", "0", "0 0", "2 2"] {
            let mut store = Store::new(&engine_of_tier(checks, quick), ());
            let text = format!(
                r#"(module (memory {limits})
                (func (export "load") (param i32) (result i64) (i64.load offset=16 (local.get 0)))
                (func (export "far") (param i32) (result i32) (i32.load offset=0x4000000 (local.get 0)))
                (func (export "store") (param i32) (i64.store offset=5 (local.get 0) (i64.const 1)))
                (func (export "constant") (param i32) (result i32) (i32.load8_u (i32.const 0x30000)))
                (func (export "zero") (param i32) (result i64) (i64.load (i32.const 0)))
                (func (export "reloaded") (param i32) (result i32)
                    (drop (memory.grow (i32.const 0)))
                    (i32.load8_u (i32.const 0x30000)))
                (func (export "constant_store") (param i32) (i32.store (i32.const 0x30000) (i32.const 1)))
                (func (export "twice") (param i32) (result i32)
                    (i32.add (i32.load8_u (i32.const 8)) (i32.load16_u offset=2 (i32.add (local.get 0) (i32.const 4)))))
                (func (export "fill") (param i32)
                    (memory.fill (local.get 0) (i32.const 0) (i32.const 16)))
                (func (export "vector") (param i32) (v128.store offset=1 (local.get 0) (v128.const i64x2 1 2))))"#
            );
            let (_, instance) = instance(&mut store, &text, &[]);
            let length = 65_536 * u64::from(limits.as_bytes()[0] - b'0');
            let cases = [
                ("load", 0x30_000, 0x30_010, 8),
                ("load", -1, 0x1_0000_000F, 8),
                ("far", 0, 0x400_0000, 4),
                ("far", -8, 0x1_03FF_FFF8, 4),
                ("store", 0x2_FFFF, 0x3_0004, 8),
                ("constant", 0, 0x30_000, 1),
                ("constant_store", 0, 0x30_000, 4),
                ("reloaded", 0, 0x30_000, 1),
                ("twice", 0x4_0000, 0x4_0006, 2),
                ("fill", 0x5_0001, 0x5_0001, 16),
                ("vector", 0x5_0000, 0x5_0001, 16),
            ];
            for (name, index, address, size) in cases {
                let func = instance.get_func(&mut store, name).unwrap();
                let mut results = vec![Value::I32(0); func.ty(&store).results().len()];
                let error = func.call(&mut store, &[Value::I32(index)], &mut results).unwrap_err();
                let ErrorKind::Trap { trap: Trap::MemoryOutOfBounds, fault } = error.kind() else { panic!("{error}") };
                let want = match (name, length) {
                    ("twice", 0) => MemoryFault { address: 8, size: 1, length },
                    _ => MemoryFault { address, size, length },
                };
                assert_eq!(*fault, Some(want), "{name} {index:#x} {checks:?} quick: {quick}, memory {limits}");
            }
            if length == 0 {
                let error = trap::<_, i64>(&mut store, instance, "zero", 0);
                let ErrorKind::Trap { fault, .. } = error.kind() else { panic!("{error}") };
                assert_eq!(*fault, Some(MemoryFault { address: 0, size: 8, length }), "{checks:?} {limits}");
            }
            // An access that crosses the memory's end is reported by its first byte.
            if length > 0 {
                let error = trap::<_, i64>(&mut store, instance, "load", length as i32 - 20);
                let ErrorKind::Trap { fault, .. } = error.kind() else { panic!("{error}") };
                assert_eq!(*fault, Some(MemoryFault { address: length - 4, size: 8, length }), "{checks:?} {limits}");
            }
        }
    }
}
