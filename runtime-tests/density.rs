//! Many instances at once, each in a store of its own. A process of its own, because a system limits the address space and the
//! mappings of a process.

use wasmrun::{Config, Engine, Linker, Module, Store, Strategy, TypedFunc};

/// Linux allows a process 65,530 mappings by default.
const COUNT: usize = 100_000;

const MODULE: &str = r#"(module
    (memory 1) (global $own (mut i32) (i32.const 0))
    (func (export "keep") (param i32) (result i32)
        (global.set $own (i32.add (global.get $own) (local.get 0)))
        (i32.store (i32.const 65532) (i32.add (i32.load (i32.const 65532)) (local.get 0)))
        (if (i32.ne (global.get $own) (i32.load (i32.const 65532))) (then unreachable))
        (i32.load (i32.const 65532)))
    (func (export "grow") (result i32) (memory.grow (i32.const 1))))"#;

fn strategies() -> &'static [Strategy] {
    if Engine::has_jit() { &[Strategy::Interpreter, Strategy::Tiered, Strategy::Jit] } else { &[Strategy::Interpreter] }
}

#[cfg(target_os = "linux")]
fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

#[cfg(not(target_os = "linux"))]
fn mappings() -> usize {
    0
}

/// Each keeps what it has, those with a mapping of their own as well as the others, and what they had is given back.
#[test]
fn a_hundred_thousand_instances_are_idle_at_once() {
    // 32-bit systems have no address space for that.
    let count = if size_of::<usize>() == 8 { COUNT } else { 1000 };
    for strategy in strategies() {
        let before = mappings();
        let engine = Engine::new(Config::new().strategy(*strategy)).unwrap();
        let module = Module::new(&engine, MODULE).unwrap();
        let program = Linker::new(&engine).instantiate_pre(&module).unwrap();
        let mut tenants: Vec<(Store<()>, TypedFunc<i32, i32>)> = Vec::new();
        for n in 0..count {
            let mut store = Store::new(&engine, ());
            let instance = program.instantiate(&mut store).unwrap_or_else(|error| panic!("{strategy:?}, {n}: {error}"));
            let keep = instance.get_typed_func(&mut store, "keep").unwrap();
            if n % 1000 == 0 {
                let grow = instance.get_typed_func::<(), i32>(&mut store, "grow").unwrap();
                assert_eq!(grow.call(&mut store, ()).unwrap(), 1);
            }
            tenants.push((store, keep));
        }
        let called = || (0..count).step_by(29);
        for n in called() {
            let (store, keep) = &mut tenants[n];
            assert_eq!(keep.call(store, n as i32).unwrap(), n as i32, "{strategy:?}");
        }
        // They take turns, so that idle ones have been packed in the meantime.
        for n in called().rev() {
            let (store, keep) = &mut tenants[n];
            assert_eq!(keep.call(store, 1).unwrap(), n as i32 + 1, "{strategy:?}");
        }
        assert!(mappings() - before < 30_000, "{} mappings", mappings() - before);
        drop(tenants);
        // What idle space is kept for the next is bounded.
        assert!(mappings().saturating_sub(before) < 600, "{} mappings are left", mappings() - before);
    }
}

/// Runs in a child process, which has no mapping left.
#[test]
#[cfg(target_os = "linux")]
fn who_runs_out_of_mappings_is_told_so() {
    const CHILD: &str = "WASMRUN_TEST_MAPPINGS";
    /// Exit status where programs run in an emulator, which can't start one for its processor.
    const NOT_STARTED: i32 = 127;
    let limit: usize = match std::fs::read_to_string("/proc/sys/vm/max_map_count") {
        Ok(limit) => limit.trim().parse().unwrap(),
        Err(_) => return,
    };
    // A system whose limit is out of reach has none.
    if limit > 1 << 20 {
        return;
    }
    if std::env::var_os(CHILD).is_none() {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let name = "who_runs_out_of_mappings_is_told_so";
        let output = child.args(["--exact", name, "--nocapture"]).env(CHILD, "").output().unwrap();
        if output.status.code() == Some(NOT_STARTED) {
            return;
        }
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let engine = Engine::default();
    let large = Module::new(&engine, "(module (memory 100))").unwrap();
    let small = Module::new(&engine, "(module (memory 1) (func (export \"f\") (result i32) (i32.load (i32.const 9))))")
        .unwrap();
    let linker = Linker::<()>::new(&engine);
    let instantiate = |module| {
        let mut store = Store::new(&engine, ());
        linker.instantiate(&mut store, module).map(|instance| (store, instance))
    };
    let tenants = Vec::from_iter((0..10).map(|_| instantiate(&small).unwrap()));
    // Every second page gets another protection, so none is joined with the next.
    let page = region::page::size();
    let pages = region::alloc(2 * limit * page, region::Protection::NONE).unwrap();
    for n in 0..limit {
        let at = pages.as_ptr::<u8>().wrapping_add(2 * n * page);
        // SAFETY: nobody uses the page.
        if unsafe { region::protect(at, page, region::Protection::READ) }.is_err() {
            break;
        }
    }
    let message = instantiate(&large).expect_err("there is no mapping left").to_string();
    assert!(message.contains("vm.max_map_count") && message.contains(&limit.to_string()), "{message}");
    assert!(message.contains("a memory of 100 pages"), "{message}");
    // Those that are there go on.
    for (mut store, instance) in tenants {
        let f = instance.get_typed_func::<(), i32>(&mut store, "f").unwrap();
        match f.call(&mut store, ()) {
            Ok(result) => assert_eq!(result, 0),
            Err(error) => assert!(error.to_string().contains("vm.max_map_count"), "{error}"),
        }
    }
    drop(pages);
    instantiate(&large).unwrap();
}
