//! Damaged modules: truncated, with flipped bits, with lying section sizes. Whatever is done to the bytes of a module,
//! the answer is a module or an error, and running what is accepted traps at worst.
//!
//! The modules are tried in child processes of this very program, so that a crash is seen as one, and a module whose
//! code loops (which is its right) can be given up. What has not been decoded and validated in time is a hang.
//!
//! `WASMRUN_VARIANTS=N` tries N times as many as usual.

mod common;

use common::{Outcome, run};
use libtest_mimic::{Arguments, Failed, Trial};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{fs, process, thread};
use wasmrun::{BoundsChecks, Config, Engine, ErrorKind, Linker, Module, Store, Strategy, Tiering, Value};

/// The argument that makes this program a child; a module, a way to damage it and a range of variants follow.
const CHILD: &str = "--child";

/// How long decoding, validating and instantiating one module may take, in an emulator too.
const LOADING: Duration = Duration::from_secs(60);
/// How long the code of a damaged module may run before it is given up.
const RUNNING: Duration = Duration::from_millis(300);
/// Exit status of a child that gave up a running module; the next child goes on behind it.
const GIVEN_UP: i32 = 3;

#[derive(Clone, Copy, Debug)]
enum Damage {
    Truncate,
    FlipBits,
    Bytes,
    Splice,
}

const DAMAGES: [Damage; 4] = [Damage::Truncate, Damage::FlipBits, Damage::Bytes, Damage::Splice];

/// A small, fast and repeatable source of numbers (xorshift64*).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Random((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// Variant number `n` of `module`.
fn damaged(module: &[u8], damage: Damage, n: u64) -> Vec<u8> {
    let mut random = Random::new(n);
    let mut bytes = module.to_vec();
    match damage {
        // Small modules are cut at each offset in turn, large ones anywhere.
        Damage::Truncate if module.len() <= 4096 => bytes.truncate(n as usize % module.len()),
        Damage::Truncate => bytes.truncate(random.below(module.len())),
        Damage::FlipBits => {
            for _ in 0..1 + random.below(4) {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
        }
        // Values that mean much as lengths, indices and opcodes.
        Damage::Bytes => {
            for _ in 0..1 + random.below(3) {
                let at = random.below(bytes.len());
                bytes[at] = [0x00, 0x01, 0x7f, 0x80, 0xff, 0x0b, 0x40, 0xfd, 0xfc, 0x70][random.below(10)];
            }
        }
        // A piece of the module over or into another place.
        Damage::Splice => {
            let (from, to) = (random.below(bytes.len()), random.below(bytes.len()));
            let len = 1 + random.below(64.min(bytes.len() - from));
            let piece = bytes[from..from + len].to_vec();
            let over = if random.below(2) == 0 { 0 } else { len.min(bytes.len() - to) };
            bytes.splice(to..to + over, piece);
        }
    }
    bytes
}

/// Loads the module, and runs all its exports if it is one; `running` is told when its code starts to run.
fn try_module(engine: &Engine, bytes: &[u8], running: impl Fn()) {
    let module = match Module::new(engine, bytes) {
        Ok(module) => module,
        Err(error) => {
            let kind = error.kind();
            assert!(matches!(kind, ErrorKind::Invalid { .. } | ErrorKind::Unsupported { .. }), "{kind:?}");
            return;
        }
    };
    let mut store = Store::new(engine, ());
    let mut linker = Linker::new(engine);
    // An import too large to be made is an error as well.
    if linker.define_unknown_imports_as_default_values(&mut store, &module).is_err() {
        return;
    }
    running(); // instantiation runs the start function
    let Ok(instance) = linker.instantiate(&mut store, &module) else { return };
    let funcs: Vec<_> = instance.exports(&mut store).filter_map(|export| export.into_func()).collect();
    for func in funcs {
        let ty = func.ty(&store);
        let args: Vec<_> = ty.params().iter().map(Value::default_for).collect();
        let mut results: Vec<_> = ty.results().iter().map(Value::default_for).collect();
        if let Err(error) = func.call(&mut store, &args, &mut results) {
            assert!(!error.to_string().is_empty());
        }
    }
}

/// What a child does: tries the variants from `first` to `end`; ends the process early where a module runs too long.
fn child(module: &Path, damage: Damage, first: u64, end: u64) {
    let module = fs::read(module).unwrap_or_else(|error| panic!("{}: {error}", module.display()));
    let engines: Vec<_> = configs().iter().map(|config| Engine::new(config).unwrap()).collect();
    let started = Instant::now();
    // When the watched phase ends, in milliseconds from `started`; the lowest bit says that the module runs.
    let deadline = Arc::new(AtomicU64::new(u64::MAX));
    let current = Arc::new(AtomicU64::new(first));
    let set = |limit: Duration, running: u64| {
        let end = (started.elapsed() + limit).as_millis() as u64;
        deadline.store(end << 1 | running, Ordering::SeqCst);
    };
    thread::spawn({
        let (deadline, current) = (deadline.clone(), current.clone());
        move || loop {
            thread::sleep(Duration::from_millis(20));
            let watched = deadline.load(Ordering::SeqCst);
            if started.elapsed().as_millis() as u64 > watched >> 1 {
                let variant = current.load(Ordering::SeqCst);
                if watched & 1 == 1 {
                    println!("gave up {variant}");
                    process::exit(GIVEN_UP);
                }
                println!("hangs at {variant}");
                process::exit(1);
            }
        }
    });
    for variant in first..end {
        current.store(variant, Ordering::SeqCst);
        // Said before it is tried, so that the parent knows where a crash was.
        println!("{variant}");
        std::io::stdout().flush().expect("the parent reads it");
        let bytes = damaged(&module, damage, variant);
        set(LOADING, 0);
        try_module(&engines[variant as usize % engines.len()], &bytes, || set(RUNNING, 1));
    }
}

fn configs() -> Vec<Config> {
    let mut configs = vec![Config::new(); 5];
    // Invalid functions among valid ones that run.
    configs[0].strategy(Strategy::Interpreter);
    configs[1].strategy(Strategy::Interpreter).lazy_validation(true).lazy_validation_from(0);
    if Engine::has_jit() {
        configs[2].strategy(Strategy::Jit).bounds_checks(BoundsChecks::Guard);
        configs[3].strategy(Strategy::Tiered).tiering(Tiering::AtOnce);
        configs[4].strategy(Strategy::Tiered).tiering(Tiering::AtLoops).lazy_validation(true).lazy_validation_from(0);
    }
    configs
}

/// Runs children until all variants were tried.
fn parent(module: &Path, damage: Damage, variants: u64) -> Result<(), Failed> {
    let mut next = 0;
    while next < variants {
        let mut command = common::command(std::env::current_exe()?);
        command.arg(CHILD).arg(module).arg(format!("{damage:?}")).arg(next.to_string()).arg(variants.to_string());
        let outcome = run(&mut command, b"", Duration::from_secs(1800))?;
        let last = last_variant(&outcome).unwrap_or(next);
        match outcome.status.code() {
            Some(0) => return Ok(()),
            Some(GIVEN_UP) => next = last + 1,
            _ => {
                let (path, status) = (module.display(), outcome.status);
                return Err(format!("{path} {damage:?} {last}: {status}\n{}", outcome.stderr).into());
            }
        }
    }
    Ok(())
}

fn last_variant(outcome: &Outcome) -> Option<u64> {
    String::from_utf8_lossy(&outcome.stdout).split_whitespace().rev().find_map(|word| word.parse().ok())
}

/// Small modules that use much of the language.
const SMALL: [(&str, &str); 4] = [
    (
        "control",
        r#"(module (type $t (func (param i32) (result i32))) (table 3 funcref) (elem (i32.const 0) $a $b)
            (global $n (mut i32) (i32.const 50))
            (func $a (export "a") (type $t) (local i64 f64)
                (block (result i32) (loop (result i32)
                    (br_table 0 1 1 (local.get 0) (i32.and (local.get 0) (i32.const 3))))))
            (func $b (export "b") (type $t)
                (if (result i32) (i32.le_s (global.get $n) (i32.const 0)) (then (i32.const 1)) (else
                    (global.set $n (i32.sub (global.get $n) (i32.const 1)))
                    (call_indirect (type $t) (i32.sub (local.get 0) (i32.const 1)) (i32.const 1)))))
            (func (export "c") (param i32) (result i32) (return_call $b (local.get 0)))
            (func (export "d") (result i32 i64 f32) (i32.const 1) (i64.const 2) (f32.const 3)))"#,
    ),
    (
        "memory",
        r#"(module (memory 1 3) (memory $m 1) (data "passive") (data (i32.const 8) "active")
            (func (export "a") (result i64)
                (memory.init 0 (i32.const 0) (i32.const 0) (i32.const 7))
                (memory.copy $m 0 (i32.const 0) (i32.const 0) (i32.const 16))
                (memory.fill (i32.const 100) (i32.const 1) (i32.const 50)) (data.drop 0)
                (drop (memory.grow (i32.const 1)))
                (i64.store offset=4 (i32.const 65536) (i64.const -1))
                (i64.add (i64.load32_s offset=4 (i32.const 65536)) (i64.load8_u $m (i32.const 3))))
            (func (export "b") (param i32) (result f64) (f64.load offset=1000 align=4 (local.get 0))))"#,
    ),
    (
        "simd",
        r#"(module (memory 1)
            (func (export "a") (param v128 i32) (result v128) (local v128)
                (local.set 2 (i32x4.add (local.get 0) (i32x4.splat (local.get 1))))
                (local.set 2 (i8x16.shuffle 0 17 2 19 4 21 6 23 8 25 10 27 12 29 14 31 (local.get 2) (local.get 0)))
                (v128.store (i32.const 16) (local.get 2))
                (v128.load8_lane 3 (i32.const 17) (f32x4.mul (local.get 2) (v128.const f32x4 1 2 3 4))))
            (func (export "b") (param f64) (result i32)
                (i32x4.extract_lane 2 (i32x4.relaxed_trunc_f64x2_s_zero (f64x2.splat (local.get 0))))))"#,
    ),
    (
        "references",
        r#"(module (import "env" "f" (func $f (param i32 externref) (result i64)))
            (table $t 4 10 externref) (table $u 4 funcref) (elem $e func $f $g) (global (mut externref) (ref.null extern))
            (export "t" (table $t)) (start $g)
            (func $g (table.init $u $e (i32.const 0) (i32.const 0) (i32.const 2)) (elem.drop $e)
                (table.copy $u $u (i32.const 2) (i32.const 0) (i32.const 2)))
            (func (export "a") (param externref) (result i32)
                (table.set $t (i32.const 1) (local.get 0))
                (table.fill $t (i32.const 2) (local.get 0) (i32.const 2))
                (drop (table.grow $t (local.get 0) (i32.const 3)))
                (drop (call $f (table.size $t) (global.get 0)))
                (select (result i32) (i32.const 5) (ref.is_null (table.get $t (i32.const 6))) (i32.const 1))))"#,
    ),
];

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some(CHILD) {
        let args: Vec<_> = args.collect();
        let [module, damage, first, end] = &args[..] else { panic!("a child is started with four arguments") };
        let damage = DAMAGES.into_iter().find(|d| format!("{d:?}") == *damage).expect("the parent names one");
        child(Path::new(module), damage, first.parse().unwrap(), end.parse().unwrap());
        return ExitCode::SUCCESS;
    }

    let folder = tempfile::tempdir().expect("a folder for the modules");
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("runtime-tests/programs");
    let mut modules: Vec<(String, PathBuf, u64)> = vec![
        ("hello.wasm".into(), programs.join("hello.wasm"), 400),
        ("compute.wasm".into(), programs.join("compute.wasm"), 100),
        ("library.wasm".into(), programs.join("library.wasm"), 40),
    ];
    for (name, wat) in SMALL {
        let path = folder.path().join(name);
        fs::write(&path, wat::parse_str(wat).expect("the module is right")).expect("the folder can be written");
        modules.push((name.into(), path, 1200));
    }
    if let Some(programs) = common::programs(&["p/resvg.wasm"]) {
        modules.push(("resvg.wasm".into(), programs.join("p/resvg.wasm"), 30));
    }
    let times = std::env::var("WASMRUN_VARIANTS").map_or(1, |n| n.parse().expect("WASMRUN_VARIANTS is a number"));
    let mut trials = Vec::new();
    for (name, path, variants) in modules {
        let variants = variants * times;
        for damage in DAMAGES {
            let path = path.clone();
            trials.push(Trial::test(format!("{name} {damage:?}"), move || parent(&path, damage, variants)));
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
