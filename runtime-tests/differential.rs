//! Random valid modules, run on every engine configuration: results, traps, and what is left in memories, globals and
//! tables must be the same, in the bits of NaNs too.
//!
//! `WASMRUN_SEEDS=FIRST..END` runs other modules than the usual ones; a failure names its seed.

use arbitrary::Unstructured;
use std::cell::Cell;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::{panic, thread};
use wasm_smith::MemoryOffsetChoices;
use wasmrun::{
    BoundsChecks, Caller, Config, Dispatch, Engine, Error, ErrorKind, Extern, ExternType, Func, FuncType, Global,
    Instance, Memory, Module, Ref, Store, Strategy, Table, Tag, Tiering, Trap, Value,
};

/// Bytes that a generated module may be made of.
const ENTROPY: usize = 16 << 10;
/// Calls and loop rounds that all calls of one module may take together.
const FUEL: u32 = 2000;

fn seeds() -> Range<u64> {
    let Ok(range) = std::env::var("WASMRUN_SEEDS") else { return 0..1500 };
    let (first, end) = range.split_once("..").expect("WASMRUN_SEEDS is FIRST..END");
    first.parse().expect("a number")..end.parse().expect("a number")
}

/// The module of a seed, with everything exported and bounded in time; `None` if the numbers make none.
fn generate(seed: u64) -> Option<Vec<u8>> {
    let mut state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let entropy: Vec<u8> = (0..ENTROPY)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8
        })
        .collect();
    let config = wasm_smith::Config {
        export_everything: true,
        min_funcs: 2,
        max_funcs: 12,
        max_instructions: 1000,
        min_memories: 1,
        max_memories: 1 + (seed % 3) as usize,
        max_memory32_bytes: 8 << 16,
        // Most accesses in bounds: a trap ends the call, and with it the test of what follows.
        memory_offset_choices: MemoryOffsetChoices(95, 4, 1),
        max_tables: 3,
        max_table_elements: 200,
        table_max_size_required: true,
        memory_max_size_required: true,
        max_imports: 8,
        max_data_segments: 8,
        max_element_segments: 8,
        max_values: 6,
        disallow_traps: seed.is_multiple_of(4),
        tail_call_enabled: true,
        relaxed_simd_enabled: true,
        extended_const_enabled: true,
        gc_enabled: false,
        exceptions_enabled: true,
        threads_enabled: false,
        memory64_enabled: false,
        wide_arithmetic_enabled: true,
        compact_imports_enabled: false,
        custom_page_sizes_enabled: false,
        shared_everything_threads_enabled: false,
        ..wasm_smith::Config::default()
    };
    let mut module = wasm_smith::Module::new(config, &mut Unstructured::new(&entropy)).ok()?;
    module.ensure_termination(FUEL).expect("all functions are made of instructions");
    Some(module.to_bytes())
}

/// What can be seen of a module's run: one line per event.
#[derive(Default)]
struct Trace {
    lines: Vec<String>,
    /// Engines have stacks of different depth: what follows an overflow is not compared.
    overflowed: bool,
}

impl Trace {
    fn note(&mut self, what: &str, result: Result<String, Error>) {
        let line = match result {
            Ok(line) => line,
            Err(error) => {
                self.overflowed |= error.trap() == Some(Trap::StackOverflow);
                // An exception that compiled frames pass on tells of fewer frames than one that unwinds at once.
                let exception = matches!(error.kind(), ErrorKind::Exception(_));
                let frames = if exception { &[] } else { error.backtrace() };
                let funcs: Vec<_> = frames.iter().map(|frame| frame.func_index()).collect();
                format!("{} {funcs:?}", error.trap().map_or(error.to_string(), |trap| trap.to_string()))
            }
        };
        self.lines.push(format!("{what}: {line}"));
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::I32(v) => format!("i32 {v:#x}"),
        Value::I64(v) => format!("i64 {v:#x}"),
        Value::F32(v) => format!("f32 {:#x}", v.to_bits()),
        Value::F64(v) => format!("f64 {:#x}", v.to_bits()),
        Value::V128(v) => format!("v128 {v:#x}"),
        Value::FuncRef(func) => format!("funcref {}", func.is_some()),
        Value::ExternRef(object) => format!("externref {}", object.is_some()),
        Value::ExnRef(exception) => format!("exnref {}", exception.is_some()),
        other => panic!("an unknown type of value: {other:?}"),
    }
}

fn show_all(values: &[Value]) -> String {
    values.iter().map(show).collect::<Vec<_>>().join(", ")
}

/// An import of each type, made from nothing but the type. Functions answer with what they were given, where types fit.
fn import(store: &mut Store<Vec<String>>, ty: &ExternType, name: &str) -> Result<Extern, Error> {
    Ok(match ty {
        ExternType::Func(ty) => Func::new(&mut *store, ty.clone(), echo(ty, name)).into(),
        ExternType::Global(ty) => Global::new(&mut *store, ty.clone(), sample(ty.content(), 3))?.into(),
        ExternType::Memory(ty) => Memory::new(&mut *store, *ty)?.into(),
        ExternType::Table(ty) => Table::new(&mut *store, ty.clone(), Ref::null(ty.element().heap_type()))?.into(),
        ExternType::Tag(ty) => Tag::new(&mut *store, ty)?.into(),
        other => panic!("an unknown type of import: {other}"),
    })
}

type Host = Box<dyn Fn(Caller<'_, Vec<String>>, &[Value], &mut [Value]) -> Result<(), Error> + Send + Sync>;

fn echo(ty: &FuncType, name: &str) -> Host {
    let (results, name) = (ty.results().to_vec(), name.to_string());
    Box::new(move |mut caller, args, out| {
        if caller.data().len() < 100 {
            caller.data_mut().push(format!("{name}({})", show_all(args)));
        }
        for (i, (slot, ty)) in out.iter_mut().zip(&results).enumerate() {
            *slot = args.iter().find(|arg| arg.ty() == *ty).cloned().unwrap_or_else(|| sample(ty, i as u32 + 1));
        }
        Ok(())
    })
}

fn sample(ty: &wasmrun::ValType, n: u32) -> Value {
    match Value::default_for(ty) {
        Value::I32(_) => Value::I32(n as i32 * 0x101),
        Value::I64(_) => Value::I64(i64::from(n) << 33 | 5),
        Value::F32(_) => Value::F32(n as f32 * 1.5),
        Value::F64(_) => Value::F64(f64::from(n) * -2.25),
        Value::V128(_) => Value::V128(u128::from(n) << 100 | u128::from(n)),
        null => null,
    }
}

/// Instantiates the module, calls each function twice, and notes all that can be seen.
fn run(config: &Config, bytes: &[u8]) -> Trace {
    let engine = Engine::new(config).expect("the configuration works on this host");
    let module = Module::new(&engine, bytes).expect("the module is valid");
    let mut store = Store::new(&engine, Vec::new());
    let mut trace = Trace::default();
    let imports: Result<Vec<_>, _> =
        module.imports().enumerate().map(|(i, item)| import(&mut store, &item.ty(), &i.to_string())).collect();
    let instance = match imports.and_then(|imports| Instance::new(&mut store, &module, &imports)) {
        Ok(instance) => instance,
        Err(error) => {
            trace.note("instantiation", Err(error));
            return trace;
        }
    };
    let exports: Vec<_> =
        instance.exports(&mut store).map(|export| (export.name().to_string(), export.into_extern())).collect();
    for round in 1..=2 {
        for (name, func) in exports.iter().filter_map(|(name, object)| Some((name, object.clone().into_func()?))) {
            let ty = func.ty(&store);
            let args: Vec<_> = ty.params().iter().map(|ty| sample(ty, round)).collect();
            let mut results: Vec<_> = ty.results().iter().map(Value::default_for).collect();
            let result = func.call(&mut store, &args, &mut results);
            trace.note(name, result.map(|()| show_all(&results)));
            if trace.overflowed {
                return trace;
            }
        }
    }
    for (name, object) in &exports {
        let state = match object {
            Extern::Global(global) => show(&global.get(&store)),
            Extern::Memory(memory) => {
                let mut hasher = DefaultHasher::new();
                memory.data(&store).hash(&mut hasher);
                format!("{} pages {:#x}", memory.size(&store), hasher.finish())
            }
            Extern::Table(table) => {
                let values: Vec<_> =
                    (0..table.size(&store)).filter_map(|i| table.get(&store, i)).map(Value::from).collect();
                show_all(&values)
            }
            _ => continue,
        };
        trace.note(name, Ok(state));
    }
    trace.lines.append(store.data_mut());
    trace
}

/// The first difference, if there is one that counts.
fn difference(first: &Trace, other: &Trace) -> Option<String> {
    for (a, b) in first.lines.iter().zip(&other.lines) {
        if a != b {
            // The last line of the one that overflowed is the overflow.
            let overflow = |trace: &Trace, line: &String| trace.overflowed && trace.lines.last() == Some(line);
            return (!overflow(first, a) && !overflow(other, b)).then(|| format!("{a}\n  but {b}"));
        }
    }
    let complete = first.lines.len() == other.lines.len() || first.overflowed || other.overflowed;
    (!complete).then(|| format!("{} events but {}", first.lines.len(), other.lines.len()))
}

fn configs() -> Vec<Config> {
    let mut all = vec![Config::new(), Config::new()];
    all[0].strategy(Strategy::Interpreter).dispatch(Dispatch::TailCall);
    all[1].strategy(Strategy::Interpreter).dispatch(Dispatch::Loop);
    if Engine::has_jit() {
        for checks in [BoundsChecks::Inline, BoundsChecks::Guard] {
            for quick in [false, true] {
                let mut config = Config::new();
                config.strategy(Strategy::Jit).bounds_checks(checks).quick_code(quick);
                all.push(config);
            }
        }
        for tiering in
            [Tiering::Measured, Tiering::AtOnce, Tiering::AtLoops, Tiering::Baseline, Tiering::BaselineAtLoops]
        {
            let mut config = Config::new();
            config.strategy(Strategy::Tiered).tiering(tiering);
            all.push(config);
        }
        for tiering in [Tiering::AtOnce, Tiering::BaselineAtLoops] {
            let mut config = Config::new();
            config.strategy(Strategy::Tiered).tiering(tiering).signals_based_traps(false);
            all.push(config);
        }
        for tiering in [Tiering::AtLoops, Tiering::Baseline] {
            let mut config = Config::new();
            config.strategy(Strategy::Tiered).tiering(tiering).dispatch(Dispatch::Loop);
            config.bounds_checks(BoundsChecks::Guard);
            all.push(config);
        }
    }
    all
}

thread_local! {
    /// The seed that this thread is at.
    static SEED: Cell<u64> = const { Cell::new(0) };
}

/// Panics since the start: a refusal of the compiler is not seen otherwise, as the interpreter steps in.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn note_panics() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        PANICS.lock().unwrap_or_else(PoisonError::into_inner).push(format!("seed {}: {info}", SEED.get()));
        report(info);
    }));
}

fn keep(seed: u64, bytes: &[u8]) -> String {
    let path = std::env::temp_dir().join(format!("wasmrun-differential-{seed}.wasm"));
    std::fs::write(&path, bytes).expect("the module can be kept");
    path.display().to_string()
}

/// Runs the module of a seed everywhere; gives how many events were compared, or where two engines differ.
fn compare(seed: u64) -> Result<usize, String> {
    SEED.set(seed);
    let Some(bytes) = generate(seed) else { return Ok(0) };
    let configs = configs();
    let first = run(&configs[0], &bytes);
    for config in &configs[1..] {
        if let Some(difference) = difference(&first, &run(config, &bytes)) {
            return Err(format!("seed {seed} ({}), {config:?}:\n      {difference}", keep(seed, &bytes)));
        }
    }
    let panicked = PANICS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
        .find(|p| p.starts_with(&format!("seed {seed}:")))
        .cloned();
    match panicked {
        Some(message) => Err(format!("{message} ({})", keep(seed, &bytes))),
        None => Ok(first.lines.len()),
    }
}

#[test]
fn engines_agree_on_random_modules() {
    note_panics();
    let seeds = seeds();
    let threads = thread::available_parallelism().map_or(2, |n| n.get() as u64);
    let results: Vec<Result<usize, String>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                let seeds = seeds.clone();
                scope.spawn(move || seeds.filter(|seed| seed % threads == worker).map(compare).collect::<Vec<_>>())
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    let differences: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).take(10).cloned().collect();
    assert!(differences.is_empty(), "not as {:?}:\n{}", configs()[0], differences.join("\n"));
    let events: usize = results.into_iter().flatten().sum();
    println!("{events} events compared");
    assert!(events as u64 > 2 * (seeds.end - seeds.start), "the modules do nothing");
}
