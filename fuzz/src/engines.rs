//! A module on any engine: the calls that are made, and what there is to compare.

use crate::host::Host;
use crate::value::{Outcome, Type, Value};

mod own;
mod wasmi;
mod wasmtime;

pub use self::own::{Configuration, Fuelled, Interrupted, configurations, fuelled_configurations, tick};
pub use self::wasmi::Wasmi;
pub use self::wasmtime::Wasmtime;

/// What a call may use of the fuel global, which is counted down at loops and calls.
const FUEL: u32 = 1000;

/// Exported functions that are called, twice each.
const CALLED: usize = 24;

/// An engine in one configuration.
pub trait Engine {
    fn name(&self) -> &str;

    /// The module with its imports supplied by the host. If some are linked, another instance with the same imports but for those,
    /// which are the named exports of the first.
    fn instantiate(&self, wasm: &[u8], linked: &[Option<String>]) -> Result<Box<dyn Instance + '_>, Failure>;
}

/// Why there is no instance.
pub enum Failure {
    /// The engine does not take the module.
    Refused(String),
    /// Instantiation began, and ended so.
    Start(Outcome),
}

/// A module's instance in a store of its own.
pub trait Instance {
    fn call(&mut self, function: &str, args: &[Value], results: &[Type]) -> Outcome;
    /// Sets the global of all instances if there is one.
    fn set_fuel(&mut self, fuel: u32);
    fn global(&mut self, name: &str) -> Value;
    /// Pages, and a hash of the contents.
    fn memory(&mut self, name: &str) -> (u64, u64);
    fn table(&mut self, name: &str) -> Vec<Value>;
    /// Units of the runtime's own fuel that are left, where that is counted.
    fn units_left(&mut self) -> Option<u64> {
        None
    }
    fn host(&mut self) -> &mut Host;
}

/// What a module imports and exports.
pub struct Interface {
    /// The indices of functions' types; `None` is an import of another kind.
    pub imports: Vec<Option<u32>>,
    pub exports: Vec<Export>,
}

impl Interface {
    /// For each import the export of another instance of the module that is to be used, if there is one that fits; empty if there is
    /// none at all.
    fn linked(&self) -> Vec<Option<String>> {
        let link = |(i, import): (usize, &Option<u32>)| {
            let ty = import.as_ref()?;
            let fits = |export: &&Export| export.ty.as_ref() == Some(ty);
            let fitting: Vec<&Export> = self.exports.iter().filter(fits).collect();
            // Half of them, from the end: the first are the imports themselves.
            let chosen = fitting.iter().rev().cycle().nth(i / 2)?;
            (i % 2 == 0).then(|| chosen.name.clone())
        };
        let all: Vec<_> = self.imports.iter().enumerate().map(link).collect();
        if all.iter().any(Option::is_some) { all } else { Vec::new() }
    }
}

/// An export of a module.
pub struct Export {
    pub name: String,
    /// The index of a function's type.
    pub ty: Option<u32>,
    pub kind: Kind,
}

/// What is exported.
pub enum Kind {
    Func(Vec<Type>, Vec<Type>),
    Global,
    Memory,
    Table,
    /// A tag, or a function that nothing can be passed to.
    Uncalled,
}

/// What happened, in order.
#[derive(Default)]
pub struct Trace {
    pub events: Vec<(String, Event)>,
    /// A limit was met, with the last event.
    pub is_cut: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    Outcome(Outcome),
    Global(Value),
    Memory {
        pages: u64,
        hash: u64,
    },
    Table(Vec<Value>),
    HostCall(usize, Vec<Value>),
    /// Units of the runtime's own fuel that are left.
    UnitsLeft(u64),
}

impl Trace {
    fn note(&mut self, name: &str, outcome: Outcome) {
        self.is_cut |= outcome == Outcome::Limit;
        self.events.push((name.to_string(), Event::Outcome(outcome)));
    }

    /// The same with one trap for an index outside a table, and one for null, whatever the instruction, as oracles have it.
    pub fn in_words_of_oracles(&self) -> Trace {
        let words = |event: &Event| match event {
            Event::Outcome(Outcome::Trap(trap)) if trap == "undefined element" => {
                Event::Outcome(Outcome::Trap("out of bounds table access".into()))
            }
            Event::Outcome(Outcome::Trap(trap)) if trap.starts_with("null ") && trap.ends_with(" reference") => {
                Event::Outcome(Outcome::Trap("null reference".into()))
            }
            other => other.clone(),
        };
        let events = self.events.iter().map(|(what, event)| (what.clone(), words(event))).collect();
        Trace { events, is_cut: self.is_cut }
    }

    /// The same without the runtime's own fuel.
    pub fn without_fuel(&self) -> Trace {
        let others = self.events.iter().filter(|(_, event)| !matches!(event, Event::UnitsLeft(_)));
        Trace { events: others.cloned().collect(), is_cut: self.is_cut }
    }

    /// The units that were left each time.
    pub fn units_left(&self) -> impl Iterator<Item = u64> {
        self.events.iter().filter_map(|(_, event)| match event {
            Event::UnitsLeft(units) => Some(*units),
            _ => None,
        })
    }

    /// The first difference of two traces as far as both go.
    pub fn difference(&self, other: &Trace) -> Option<String> {
        for ((what, a), (_, b)) in self.events.iter().zip(&other.events) {
            let limit = Event::Outcome(Outcome::Limit);
            if *a == limit || *b == limit {
                return None;
            }
            if a != b {
                return Some(format!("{what}: {a:?}\n  but {b:?}"));
            }
        }
        let complete = self.events.len() == other.events.len() || self.is_cut || other.is_cut;
        (!complete).then(|| format!("{} events but {}", self.events.len(), other.events.len()))
    }
}

/// Runs a module: every exported function twice, in one store.
///
/// # Errors
/// If the engine refuses the module.
pub fn run(engine: &dyn Engine, wasm: &[u8], interface: &Interface) -> Result<Trace, String> {
    let mut trace = Trace::default();
    let mut instance = match engine.instantiate(wasm, &interface.linked()) {
        Ok(instance) => instance,
        Err(Failure::Refused(message)) => return Err(message),
        Err(Failure::Start(outcome)) => {
            trace.note("instantiation", outcome);
            return Ok(trace);
        }
    };
    for round in 0..2 {
        let functions = interface.exports.iter().filter_map(|export| match &export.kind {
            Kind::Func(params, results) => Some((&export.name, params, results)),
            _ => None,
        });
        for (name, params, results) in functions.take(CALLED) {
            let args: Vec<Value> = (round * 5..).zip(params).map(|(n, ty)| Value::sample(*ty, n)).collect();
            instance.set_fuel(FUEL);
            trace.note(name, instance.call(name, &args, results));
            if trace.is_cut {
                return Ok(trace);
            }
            trace.events.extend(instance.units_left().map(|units| (format!("after {name}"), Event::UnitsLeft(units))));
        }
    }
    for Export { name, kind, .. } in &interface.exports {
        let event = match kind {
            Kind::Global => Event::Global(instance.global(name)),
            Kind::Table => Event::Table(instance.table(name)),
            Kind::Memory => {
                let (pages, hash) = instance.memory(name);
                Event::Memory { pages, hash }
            }
            Kind::Func(..) | Kind::Uncalled => continue,
        };
        trace.events.push((name.clone(), event));
    }
    let Host { log, units_left, .. } = std::mem::take(instance.host());
    trace.events.extend(log.into_iter().map(|(import, args)| ("host call".into(), Event::HostCall(import, args))));
    trace.events.extend(units_left.into_iter().map(|units| ("host call".into(), Event::UnitsLeft(units))));
    Ok(trace)
}
