//! One module on every engine, and what there is to compare.

use std::fmt::Write as _;

use wasmrun::{BoundsChecks, Config, Dispatch, Engine, Strategy};

mod oracle;
mod own;

pub use own::Compiled;

/// What a call of an export did, in text, so that it can be compared and printed.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Results, or the trap.
    pub result: String,
    /// Host calls, memories, tables and globals after.
    pub state: String,
}

impl Outcome {
    /// Where a limit was met that engines may set differently.
    fn is_inconclusive(&self) -> bool {
        ["call stack exhausted", "resource"].iter().any(|limit| self.result.contains(limit))
    }
}

/// Integers that arguments are taken from.
const ARGUMENTS: [i64; 8] = [0, 1, -1, 65_536, i64::MIN, 7, 0x8000_0000, i64::MAX];

/// A number that changes with any byte.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// The results of the host's functions.
#[derive(Default)]
pub struct Host {
    log: String,
    count: u32,
}

impl Host {
    fn next(&mut self) -> u32 {
        self.count = self.count.wrapping_mul(0x0808_8405).wrapping_add(1);
        self.count
    }

    fn log(&mut self, name: &str, args: &str) {
        if self.log.len() < 100_000 {
            let _ = write!(self.log, "{name}({args}) ");
        }
    }
}

/// Every configuration of the runtime.
pub fn configurations() -> Vec<(&'static str, Engine)> {
    let mut all = Vec::new();
    let mut add = |name, set: &dyn Fn(&mut Config)| {
        let mut config = Config::new();
        config.max_wasm_stack(512 << 10);
        set(&mut config);
        all.push((name, Engine::new(&config).expect("the host can run every configuration")));
    };
    add("interpreter, tail calls", &|c| {
        c.strategy(Strategy::Interpreter).dispatch(Dispatch::TailCall);
    });
    add("interpreter, loop", &|c| {
        c.strategy(Strategy::Interpreter).dispatch(Dispatch::Loop);
    });
    if Engine::has_jit() {
        add("JIT, inline", &|c| {
            c.strategy(Strategy::Jit).bounds_checks(BoundsChecks::Inline);
        });
        add("JIT, guard", &|c| {
            c.strategy(Strategy::Jit).bounds_checks(BoundsChecks::Guard);
        });
    }
    all
}

/// Runs every exported function on every engine and compares.
///
/// # Panics
/// If they disagree.
pub fn compare(wasm: &[u8], oracle: bool) {
    let compiled: Vec<Compiled> = configurations()
        .into_iter()
        .map(|(name, engine)| match Compiled::new(name, &engine, wasm) {
            Ok(compiled) => compiled,
            Err(error) => panic!("{name} refuses the module: {error}"),
        })
        .collect();
    let oracle = if oracle { oracle::Compiled::new(wasm) } else { None };
    let names = compiled[0].exports();
    let functions = compiled[0].functions();
    for function in functions.iter().map(String::as_str).take(24) {
        let first = compiled[0].run(function);
        if first.is_inconclusive() {
            continue;
        }
        for other in &compiled[1..] {
            let outcome = other.run(function);
            if !outcome.is_inconclusive() {
                assert!(
                    first == outcome,
                    "{function:?}: {first:#?} on {}, {outcome:#?} on {}",
                    compiled[0].name,
                    other.name
                );
            }
        }
        if let Some(outcome) = oracle.as_ref().and_then(|oracle| oracle.run(function, &names)) {
            // wasmi has one trap for an index outside a table, whatever the instruction.
            let result = first.result.replace("undefined element", "out of bounds table access");
            let agrees = result == outcome.result && first.state == outcome.state;
            assert!(agrees, "{function:?}: {first:#?} on {}, {outcome:#?} on wasmi", compiled[0].name);
        }
    }
}
