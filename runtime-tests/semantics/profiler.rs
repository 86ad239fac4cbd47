//! Profiles of code on every engine: which functions have which share of the processor time.

use crate::engines::{call, for_each_engine, instantiate, setup, trap};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use wasmrun::{ErrorKind, Func, FunctionTime, GuestProfile, GuestProfiler, Instance, Module, Store, Trap};

const INTERVAL: Duration = Duration::from_micros(500);

/// What no test takes, however loaded the machine is.
const LONG: Duration = Duration::from_secs(60);

/// `run` spends three times as long in `heavy` as in `light`, and nothing worth mentioning in itself.
const TWO_FUNCTIONS: &str = r#"(module
    (func $work (param $n i32) (result i64) (local $x i64)
        (loop $again
            (local.set $x (i64.add (i64.mul (local.get $x) (i64.const 6364136223846793005)) (i64.const 1)))
            (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (local.get $x))
    (func $heavy (param $n i32) (result i64) (local $x i64)
        (loop $again
            (local.set $x (i64.add (i64.mul (local.get $x) (i64.const 6364136223846793005)) (i64.const 1)))
            (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (local.get $x))
    (func $light (param $n i32) (result i64) (call $work (local.get $n)))
    (func (export "run") (local $n i32)
        (local.set $n (i32.const 20))
        (loop $again
            (drop (call $heavy (i32.const 30000)))
            (drop (call $light (i32.const 10000)))
            (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))))"#;

/// Runs something until the profile has so many samples, and returns that.
fn sampled<T>(store: &mut Store<T>, samples: u64, mut run: impl FnMut(&mut Store<T>)) -> GuestProfile {
    let profiler = GuestProfiler::new(&mut *store, INTERVAL).unwrap();
    let start = Instant::now();
    while profiler.profile().samples() < samples {
        run(store);
        assert!(start.elapsed() < LONG, "{:?}", profiler.profile());
    }
    profiler.finish()
}

fn find<'a>(profile: &'a GuestProfile, name: &str) -> &'a FunctionTime {
    let found = profile.functions().iter().find(|function| function.name() == name);
    found.unwrap_or_else(|| panic!("no `{name}` in {profile:?}"))
}

/// The share of the time of functions themselves, without what code was compiled in.
fn share(profile: &GuestProfile, name: &str) -> f64 {
    let all = profile.functions().iter().filter(|function| function.name() != "[compiler]");
    let all: Duration = all.map(FunctionTime::self_time).sum();
    find(profile, name).self_time().as_secs_f64() / all.as_secs_f64()
}

#[test]
fn functions_have_their_share() {
    for_each_engine(|engine| {
        let (mut store, instance) = setup(engine, TWO_FUNCTIONS);
        let profile = sampled(&mut store, 120, |store| call(store, instance, "run", ()).unwrap());
        let (heavy, work) = (share(&profile, "heavy"), share(&profile, "work"));
        assert!((0.5..0.95).contains(&heavy) && (0.05..0.5).contains(&work), "{profile:?}");
        let light = find(&profile, "light");
        assert!(light.total_time() >= find(&profile, "work").total_time(), "{profile:?}");
        assert!(light.self_time() < light.total_time() / 2, "{profile:?}");
        let run = find(&profile, "run");
        assert!(run.total_time() >= light.total_time() + find(&profile, "heavy").total_time(), "{profile:?}");
        let is_path = |names: &[&str]| profile.stacks().any(|(stack, _)| stack == names);
        assert!(is_path(&["run", "heavy"]) && is_path(&["run", "light", "work"]), "{profile:?}");
        let all: Duration = profile.stacks().map(|(_, time)| time).sum();
        assert_eq!(all, profile.time());
    });
}

/// A function that was only entered has not run: what its caller does between calls counts for the caller.
#[test]
fn time_before_a_call_is_the_callers() {
    let body = "(local.set $x (i64.add (i64.rotl (local.get $x) (i64.const 7)) (i64.const 3)))".repeat(300);
    let calls = format!("{body} (call $nothing)").repeat(40);
    let wat = format!(
        r#"(module
            (func $nothing (export "nothing"))
            (func $busy (export "run") (local $x i64) (local $n i32)
                (local.set $n (i32.const 100))
                (loop $again {calls}
                    (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
                (drop (i64.eqz (local.get $x)))))"#
    );
    for_each_engine(|engine| {
        let (mut store, instance) = setup(engine, &wat);
        let profile = sampled(&mut store, 60, |store| call(store, instance, "run", ()).unwrap());
        assert!(share(&profile, "busy") > 0.9, "{profile:?}");
    });
}

#[test]
fn host_functions_have_frames_of_their_own() {
    const GUEST: &str = r#"(module
        (import "env" "spin" (func $spin))
        (table funcref (elem $spin))
        (func $calls (export "run") (call $spin))
        (func $indirect (export "indirect") (call_indirect (i32.const 0))))"#;
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let spin = Func::wrap(&mut store, || {
            (0..3_000_000u64).fold(0, |x, n| std::hint::black_box(x ^ n));
        });
        let instance = instantiate(&mut store, GUEST, &[spin.into()]);
        let profile = sampled(&mut store, 20, |store| {
            call::<_, (), ()>(store, instance, "run", ()).unwrap();
            call::<_, (), ()>(store, instance, "indirect", ()).unwrap();
        });
        assert!(share(&profile, "[host] env.spin") > 0.2 && share(&profile, "[host]") > 0.2, "{profile:?}");
        let is_path = |names: &[&str]| profile.stacks().any(|(stack, _)| stack == names);
        assert!(is_path(&["calls", "[host] env.spin"]) && is_path(&["indirect", "[host]"]), "{profile:?}");
    });
}

/// What a program waits for is not processor time, and a sampler that is not answered asks no more.
#[test]
fn waiting_is_not_counted() {
    const GUEST: &str = r#"(module
        (import "env" "sleep" (func $sleep))
        (func (export "run") (local $n i32)
            (local.set $n (i32.const 5))
            (loop $again (call $sleep) (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))))"#;
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let sleep = Func::wrap(&mut store, || thread::sleep(Duration::from_millis(20)));
        let instance = instantiate(&mut store, GUEST, &[sleep.into()]);
        let profiler = GuestProfiler::new(&mut store, INTERVAL).unwrap();
        call::<_, (), ()>(&mut store, instance, "run", ()).unwrap();
        let profile = profiler.finish();
        // 200 intervals have passed; a call of the host is asked at its begin and at its end.
        assert!(profile.samples() <= 25, "{profile:?}");
        assert!(profile.time() < Duration::from_millis(50), "{profile:?}");
    });
}

#[test]
fn deep_recursions_are_cut() {
    const GUEST: &str = r#"(module
        (func $down (param $n i32) (local $i i32)
            (if (i32.eqz (local.get $n)) (then
                (local.set $i (i32.const 10000000))
                (loop $spin (br_if $spin (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
                (return)))
            (call $down (i32.sub (local.get $n) (i32.const 1))))
        (func (export "run") (call $down (i32.const 1000))))"#;
    for_each_engine(|engine| {
        let (mut store, instance) = setup(engine, GUEST);
        let profile = sampled(&mut store, 100, |store| call(store, instance, "run", ()).unwrap());
        let down = find(&profile, "down");
        assert!(down.total_time() <= profile.time() && share(&profile, "down") > 0.8, "{profile:?}");
        let (deepest, _) = profile.stacks().max_by_key(|(stack, _)| stack.len()).unwrap();
        assert_eq!((deepest[0], deepest.len()), ("[outer frames]", 129));
    });
}

/// Traps, deadlines and errors end the code as always; the profile has what came before.
#[test]
fn code_ends_as_without_a_profiler() {
    const GUEST: &str = r#"(module
        (func $spin (export "spin") (loop $again (br $again)))
        (func (export "trap") unreachable))"#;
    for_each_engine(|engine| {
        let (mut store, instance) = setup(engine, GUEST);
        let profiler = GuestProfiler::new(&mut store, INTERVAL).unwrap();
        let start = Instant::now();
        while profiler.profile().samples() < 10 {
            assert!(start.elapsed() < LONG);
            store.set_deadline(Instant::now() + Duration::from_millis(30)).unwrap();
            assert_eq!(trap(&mut store, instance, "spin", ()), Some(Trap::Deadline));
            store.set_deadline(None).unwrap();
            assert_eq!(trap(&mut store, instance, "trap", ()), Some(Trap::Unreachable));
        }
        let handle = store.interrupt_handle();
        let asked = Arc::new(Mutex::new(0));
        let count = asked.clone();
        handle.backtrace(move |backtrace| *count.lock().unwrap() += backtrace.frames().len());
        store.set_deadline(Instant::now() + Duration::from_millis(30)).unwrap();
        assert_eq!(trap(&mut store, instance, "spin", ()), Some(Trap::Deadline));
        assert!(*asked.lock().unwrap() <= 1);
        let profile = profiler.finish();
        assert!(share(&profile, "spin") > 0.9, "{profile:?}");
    });
}

/// The profile may be asked for while code runs, by another thread, and outlives the store.
#[test]
fn profiles_are_asked_for_at_any_time() {
    for_each_engine(|engine| {
        let (mut store, instance) = setup(engine, "(module (func $spin (export \"spin\") (loop $again (br $again))))");
        let first = GuestProfiler::new(&mut store, INTERVAL).unwrap();
        // It takes the place of the first one.
        let profiler = GuestProfiler::new(&mut store, INTERVAL).unwrap();
        let handle = store.interrupt_handle();
        let watching = thread::spawn(move || {
            let start = Instant::now();
            while profiler.profile().samples() < 10 {
                assert!(start.elapsed() < LONG);
                thread::sleep(Duration::from_millis(1));
            }
            handle.interrupt();
            profiler
        });
        assert_eq!(trap(&mut store, instance, "spin", ()), Some(Trap::Interrupt));
        let profiler = watching.join().unwrap();
        drop(store);
        assert_eq!(profiler.finish().functions()[0].name(), "spin");
        assert_eq!(first.finish().samples(), 0);
    });
}

/// A store that runs no code any more, or never has, does not hold a profiler up, nor the other way round.
#[test]
fn profilers_and_stores_end_in_any_order() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let early = GuestProfiler::new(&mut store, INTERVAL).unwrap();
        assert_eq!((early.profile().samples(), early.profile().time()), (0, Duration::ZERO));
        drop(store);
        drop(early);
        let (mut store, instance) = setup(engine, TWO_FUNCTIONS);
        drop(GuestProfiler::new(&mut store, INTERVAL).unwrap());
        // A sample that was still requested goes nowhere.
        call::<_, (), ()>(&mut store, instance, "run", ()).unwrap();
        let error = GuestProfiler::new(&mut store, Duration::ZERO).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Usage(_)), "{error:?}");
    });
}

#[test]
fn start_functions_and_other_modules_are_sampled() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let outer = r#"(module
            (import "" "run" (func $run))
            (func $begin (call $run))
            (start $begin))"#;
        let inner = instantiate(&mut store, TWO_FUNCTIONS, &[]);
        let run = inner.get_func(&mut store, "run").unwrap();
        let module = Module::new(engine, outer).unwrap();
        let profile = sampled(&mut store, 30, |store| {
            Instance::new(store, &module, &[run.into()]).unwrap();
        });
        let is_path = |names: &[&str]| profile.stacks().any(|(stack, _)| stack == names);
        assert!(is_path(&["begin", "run", "heavy"]), "{profile:?}");
    });
}
