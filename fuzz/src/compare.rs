//! The full comparison of a module: all configurations of the runtime with one another, then with the oracles.

use std::sync::OnceLock;

use crate::engines::{self, Configuration, Engine, Fuelled, Interface, Interrupted, Trace, Wasmi, Wasmtime};
use crate::module::canonicalise;
use crate::runner::{Options, Verdict};
use crate::value::hash;

struct Engines {
    own: Vec<Configuration>,
    fuelled: Vec<Configuration>,
    wasmtime: Wasmtime,
    wasmi: Wasmi,
}

fn engines() -> &'static Engines {
    static ENGINES: OnceLock<Engines> = OnceLock::new();
    ENGINES.get_or_init(|| Engines {
        own: engines::configurations(),
        fuelled: engines::fuelled_configurations(),
        wasmtime: Wasmtime::default(),
        wasmi: Wasmi::default(),
    })
}

/// Runs every exported function on every engine and compares.
///
/// Among the configurations of the runtime, all bits have to be equal. The oracles may give other NaNs: where one disagrees, the module is compared again with
/// NaNs made canonical by instructions of its own. An oracle that is alone against the other and the runtime is wrong if
/// it is wasmi, which has known faults; no such fault of wasmtime is known.
pub fn compare(wasm: &[u8], options: &Options) -> Verdict {
    let canonical = canonicalise(wasm);
    if options.canonical_nans {
        return compare_as_is(canonical.as_deref().unwrap_or(wasm), options);
    }
    let verdict = compare_as_is(wasm, options);
    let (Some(canonical), Verdict::Finding { .. } | Verdict::OracleAlone(_)) = (canonical, &verdict) else {
        return verdict;
    };
    match (verdict, compare_as_is(&canonical, options)) {
        (Verdict::Finding { kind, text }, Verdict::Agreement | Verdict::Unjudged | Verdict::OracleAlone(_))
            if kind.starts_with(OWN) =>
        {
            Verdict::finding(&format!("NaN bits, {kind}"), text)
        }
        (Verdict::Finding { kind, text }, _) if kind.starts_with(OWN) => Verdict::Finding { kind, text },
        (_, canonical) => canonical,
    }
}

/// How the kinds of findings begin where configurations of the runtime differ.
const OWN: &str = "own";

fn compare_as_is(wasm: &[u8], options: &Options) -> Verdict {
    let Engines { own, fuelled, wasmtime, wasmi } = engines();
    let interface = match own[0].interface(wasm) {
        Ok(interface) => interface,
        Err(error) => return Verdict::finding("refused", format!("{}: {error}", own[0].name())),
    };
    let first = match compare_own(own, wasm, &interface) {
        Ok(first) => first,
        Err(finding) => return finding,
    };
    if let Err(finding) = compare_fuelled(fuelled, wasm, &interface, &first) {
        return finding;
    }
    if let Err(finding) = compare_interrupted(own, wasm, &interface, &first) {
        return finding;
    }
    let against = |oracle: &dyn Engine| against(oracle, &first, wasm, &interface);
    let by_wasmi = if options.no_wasmi { Agreement::Unknown } else { against(wasmi) };
    match (against(wasmtime), by_wasmi) {
        (Agreement::Differs(wasmtime), wasmi) => {
            let wasmi = match wasmi {
                Agreement::Differs(wasmi) => format!("so does wasmi: {wasmi}"),
                Agreement::Agrees => "wasmi agrees with us".to_string(),
                Agreement::Unknown => "wasmi does not run it".to_string(),
            };
            Verdict::finding("wasmtime", format!("we and wasmtime: {wasmtime}\n{wasmi}"))
        }
        (Agreement::Unknown, Agreement::Unknown) => Verdict::Unjudged,
        (_, Agreement::Differs(wasmi)) => Verdict::OracleAlone(wasmi),
        _ if first.is_cut => Verdict::Unjudged,
        _ => Verdict::Agreement,
    }
}

/// Runs a module in several configurations of the runtime, which must give the same trace; returns it.
fn compare_own<E: Engine>(all: &[E], wasm: &[u8], interface: &Interface) -> Result<Trace, Verdict> {
    let run = |engine: &E| {
        let refused = |message| Verdict::finding("refused", format!("{}: {message}", engine.name()));
        engines::run(engine, wasm, interface).map_err(refused)
    };
    let (engine, others) = all.split_first().expect("there is a configuration");
    let first = run(engine)?;
    for other in others {
        if let Some(difference) = first.difference(&run(other)?) {
            let kind = format!("{OWN}, {}", other.name());
            return Err(Verdict::finding(&kind, format!("{} and {}: {difference}", engine.name(), other.name())));
        }
    }
    Ok(first)
}

/// Runs every second module in all configurations that consume fuel: with more than it uses, when it must do what it does without,
/// or with less.
fn compare_fuelled(all: &[Configuration], wasm: &[u8], interface: &Interface, without: &Trace) -> Result<(), Verdict> {
    let number = hash(wasm);
    let much: Vec<_> = all.iter().map(Fuelled::with_much).collect();
    match number % 4 {
        0 => {
            let trace = compare_own(&much, wasm, interface)?;
            match without.difference(&trace.without_fuel()) {
                Some(difference) => Err(Verdict::finding("fuel", format!("without and with fuel: {difference}"))),
                None => Ok(()),
            }
        }
        1 => {
            let trace = compare_own(&much[..1], wasm, interface)?;
            let left: Vec<u64> = trace.units_left().collect();
            let little = all.iter().map(|configuration| Fuelled::with_little(configuration, &left, number / 4));
            compare_own(&little.collect::<Vec<_>>(), wasm, interface)?;
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Runs the other modules in all configurations with interruptions, every second one of them asynchronously: they must do what
/// they do without.
fn compare_interrupted(
    all: &'static [Configuration],
    wasm: &[u8],
    interface: &Interface,
    without: &Trace,
) -> Result<(), Verdict> {
    let suspends = match hash(wasm) % 4 {
        2 => false,
        3 => true,
        _ => return Ok(()),
    };
    engines::tick(all);
    let interrupted: Vec<_> = all.iter().map(|configuration| Interrupted::new(configuration, suspends)).collect();
    let trace = compare_own(&interrupted, wasm, interface)?;
    match without.difference(&trace) {
        Some(difference) => {
            Err(Verdict::finding("interrupted", format!("without and with interruptions: {difference}")))
        }
        None => Ok(()),
    }
}

enum Agreement {
    Agrees,
    Differs(String),
    /// The oracle does not take the module.
    Unknown,
}

fn against(oracle: &dyn Engine, first: &Trace, wasm: &[u8], interface: &Interface) -> Agreement {
    match engines::run(oracle, wasm, interface) {
        Err(_) => Agreement::Unknown,
        Ok(trace) => match first.in_words_of_oracles().difference(&trace) {
            Some(difference) => Agreement::Differs(difference),
            None => Agreement::Agrees,
        },
    }
}
