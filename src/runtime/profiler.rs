//! Profiles: which functions a store's code spends its processor time in.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::store::AsContextMut;
use crate::error::{Error, Frame, FrameSymbol, Result};
use crate::printable::Printable;
use crate::vm::sample::{Calls, NodeKind, Place, Sampler};

/// Samples the code of a store, on all engines alike: at each interval, which functions are running, and how much processor time
/// has passed since the last time. It needs nothing of the system but a thread, which rests while the code does not run.
///
/// # What is counted, and how exactly
///
/// Processor time of the thread that runs the store's code, while it does. A program that waits, for input or for time to pass,
/// is not woken, and its waiting is not counted. Time in host functions, that the program calls, counts as theirs, in a frame
/// such as `[host] wasi_snapshot_preview1.fd_write`; the compiler's, where code waits for it ([`Strategy::Jit`](crate::Strategy::Jit)), as
/// `[compiler]`.
///
/// Running code is asked only at heads of loops, where it enters functions, and where it calls host functions. The time until it
/// comes there, less than a microsecond mostly, counts for the function that it is in then; where it has just entered a function,
/// for that one's caller. So the total time of a function is right, and so is the time of functions with loops of their own. A
/// function with neither loops nor calls has no place at which it could be asked: what it takes counts for its caller, as if the
/// compiler had inlined it there. The end of a call from the host counts for what its last sample found.
///
/// Of a sample, the innermost 128 frames count; what is above them is `[outer frames]`. A profile has up to 262,144 different
/// call paths; time of others is `[other calls]`.
///
/// ```
/// use std::time::Duration;
/// use wasmrun::{Engine, GuestProfiler, Instance, Module, Store};
/// let engine = Engine::default();
/// let module = Module::new(&engine, r#"(module
///     (func $work (local i32)
///         (loop (br_if 0 (i32.ne (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 50_000_000)))))
///     (func (export "run") (call $work)))"#)?;
/// let mut store = Store::new(&engine, ());
/// let run = Instance::new(&mut store, &module, &[])?.get_typed_func::<(), ()>(&mut store, "run")?;
///
/// let profiler = GuestProfiler::new(&mut store, Duration::from_millis(1))?;
/// run.call(&mut store, ())?;
/// let profile = profiler.finish();
/// assert_eq!(profile.functions()[0].name(), "work");
/// # Ok::<(), wasmrun::Error>(())
/// ```
pub struct GuestProfiler {
    sampler: Arc<Sampler>,
    /// `None` when it has been joined.
    thread: Option<JoinHandle<()>>,
}

impl GuestProfiler {
    /// Begins to sample a store's code, whether it runs already or will. A profiler that samples the store already finds nothing
    /// more.
    ///
    /// A sample takes some microseconds, and in compiled code some more: with an interval of a millisecond, one to two percent of
    /// the time.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if the interval is zero; [`Resource`](crate::ErrorKind::Resource) if there is no thread
    /// for the profiler.
    pub fn new(mut store: impl AsContextMut, interval: Duration) -> Result<Self> {
        if interval.is_zero() {
            return Err(Error::usage("the interval of a profiler must not be zero"));
        }
        let (sampler, thread) = Sampler::start(&mut store.as_context_mut().into_inner().opaque, interval)?;
        Ok(GuestProfiler { sampler, thread: Some(thread) })
    }

    /// What was found so far. The sampling goes on; any thread may ask while the code runs.
    pub fn profile(&self) -> GuestProfile {
        GuestProfile::new(&self.sampler.calls())
    }

    /// Ends the sampling; returns what was found.
    pub fn finish(mut self) -> GuestProfile {
        self.stop();
        self.profile()
    }

    fn stop(&mut self) {
        self.sampler.stop();
        if let Some(thread) = self.thread.take() {
            // Our own thread does not panic, and if it did there would be nothing to do about it.
            let _ = thread.join();
        }
    }
}

impl Drop for GuestProfiler {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for GuestProfiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestProfiler").finish_non_exhaustive()
    }
}

/// What a [`GuestProfiler`] has found.
#[derive(Clone)]
pub struct GuestProfile {
    names: Names,
    /// A caller comes before its callees; the first calls those that nothing else calls.
    calls: Vec<Call>,
    functions: Vec<FunctionTime>,
}

/// A function with the functions that have led to it.
#[derive(Clone, Copy)]
struct Call {
    /// Index of its name.
    name: usize,
    caller: usize,
    time: Duration,
    samples: u64,
}

/// Names, each of them once.
#[derive(Clone, Default)]
struct Names {
    list: Vec<Arc<str>>,
    indices: HashMap<Arc<str>, usize>,
}

impl Names {
    fn index(&mut self, name: &str) -> usize {
        if let Some(index) = self.indices.get(name) {
            return *index;
        }
        let name = Arc::<str>::from(name);
        self.list.push(name.clone());
        self.indices.insert(name, self.list.len() - 1);
        self.list.len() - 1
    }
}

/// The time that was spent in a function: see [`GuestProfile::functions`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionTime {
    name: Arc<str>,
    own: Duration,
    total: Duration,
}

impl FunctionTime {
    /// The name of the function, or of what else time was spent in, such as `[host] env.log`. Names are those of the module,
    /// which may have any length and any characters.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Time in the function itself.
    pub fn self_time(&self) -> Duration {
        self.own
    }

    /// Time in the function and in what it has called. If it has called itself, that counts once.
    pub fn total_time(&self) -> Duration {
        self.total
    }
}

impl GuestProfile {
    fn new(found: &Calls) -> Self {
        let mut names = Names::default();
        let frames = frames_of_places(found);
        let of_places: Vec<_> = frames.iter().map(|frame| names_of(frame, &mut names)).collect();
        let mut calls = vec![Call { name: usize::MAX, caller: 0, time: Duration::ZERO, samples: 0 }];
        let mut callees = HashMap::new();
        // The call of each node. Several places in a function are one.
        let mut call_of = Vec::with_capacity(found.nodes.len());
        for node in &found.nodes {
            let mut call = call_of.get(node.parent as usize).copied().unwrap_or(0);
            let own = match node.kind {
                NodeKind::All => &[][..],
                NodeKind::Place(place) => &of_places[place as usize][..],
                NodeKind::Host => &[names.index(&host_name(found, &frames, node.parent))],
                NodeKind::OuterFrames => &[names.index("[outer frames]")],
                NodeKind::OtherCalls => &[names.index("[other calls]")],
                NodeKind::Compiler => &[names.index("[compiler]")],
            };
            for name in own {
                call = *callees.entry((call, *name)).or_insert_with(|| {
                    calls.push(Call { name: *name, caller: call, time: Duration::ZERO, samples: 0 });
                    calls.len() - 1
                });
            }
            calls[call].time += node.time;
            calls[call].samples += node.samples;
            call_of.push(call);
        }
        let functions = sum_up(&calls, &names);
        GuestProfile { names, calls, functions }
    }

    /// The processor time that was sampled.
    pub fn time(&self) -> Duration {
        self.calls.iter().map(|call| call.time).sum()
    }

    /// Number of samples.
    pub fn samples(&self) -> u64 {
        self.calls.iter().map(|call| call.samples).sum()
    }

    /// The functions, and what else time was spent in: those with the most time of their own first. Functions of the same name
    /// are one.
    pub fn functions(&self) -> &[FunctionTime] {
        &self.functions
    }

    /// The calls: for each function with time of its own, the names of the functions that have led to it, the outermost first and
    /// itself last, with that time. Each sequence of names comes once.
    pub fn stacks(&self) -> impl Iterator<Item = (Vec<&str>, Duration)> {
        self.calls.iter().filter(|call| !call.time.is_zero()).map(|call| (self.path(*call), call.time))
    }

    /// The names of the functions that have led to a call, the outermost first, and its own.
    fn path(&self, call: Call) -> Vec<&str> {
        let mut names: Vec<_> = outwards(&self.calls, call).map(|call| &*self.names.list[call.name]).collect();
        names.reverse();
        names
    }

    /// Writes the calls as lines of text, as `flamegraph.pl`, speedscope and others read them: names, with semicolons between them,
    /// and the time in microseconds. Control characters of names are escaped, semicolons written as colons.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_folded(&self, mut out: impl Write) -> io::Result<()> {
        self.folded().try_for_each(|line| writeln!(out, "{line}"))
    }

    fn folded(&self) -> impl Iterator<Item = String> {
        self.stacks().map(|(names, time)| folded_line(names.iter().map(|name| folded_name(name)), time))
    }

    /// The lines of a flame graph. Calls that would be too narrow to be seen count for their callers, and names are cut: however
    /// deep the calls of a guest, however many, and however long its names, these lines take no more than some hundred megabytes.
    #[cfg(feature = "profile")]
    fn visible(&self) -> Vec<String> {
        let mut totals: Vec<Duration> = self.calls.iter().map(|call| call.time).collect();
        for at in (1..totals.len()).rev() {
            let total = totals[at];
            totals[self.calls[at].caller] += total;
        }
        let least = totals[0] / NARROWEST;
        let mut own: Vec<Duration> = self.calls.iter().map(|call| call.time).collect();
        for at in (1..own.len()).rev().filter(|at| totals[*at] < least) {
            let time = std::mem::take(&mut own[at]);
            own[self.calls[at].caller] += time;
        }
        let line = |(call, time): (&Call, &Duration)| {
            folded_line(self.path(*call).iter().map(|name| folded_name(cut(name))), *time)
        };
        self.calls.iter().zip(&own).filter(|(_, time)| !time.is_zero()).map(line).collect()
    }

    /// Writes a flame graph: a picture, in the form of an SVG file that a browser shows and lets the user zoom and search in.
    /// Widths are processor time.
    ///
    /// Nothing in a name or in the title becomes a part of the file's markup or of its script. Long names are cut.
    ///
    /// # Errors
    /// Those of `out`; [`InvalidData`](io::ErrorKind::InvalidData) if no time was sampled.
    #[cfg(feature = "profile")]
    pub fn write_flame_graph(&self, title: &str, out: impl Write) -> io::Result<()> {
        let mut options = inferno::flamegraph::Options::default();
        options.title = Printable::name(title).to_string();
        options.count_name = "ms".into();
        options.factor = 0.001;
        options.deterministic = true;
        let lines = self.visible();
        inferno::flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), out)
    }
}

impl fmt::Debug for GuestProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestProfile").field("functions", &self.functions).finish_non_exhaustive()
    }
}

/// A call, its caller and so on, without the first of all.
fn outwards(calls: &[Call], from: Call) -> impl Iterator<Item = Call> {
    let named = |call: Call| (call.name != usize::MAX).then_some(call);
    std::iter::successors(named(from), move |call| named(calls[call.caller]))
}

/// The frame of each place. Those of a function are resolved together.
fn frames_of_places(found: &Calls) -> Vec<Frame> {
    let mut functions = HashMap::<_, Vec<usize>>::new();
    for (index, place) in found.places.iter().enumerate() {
        functions.entry((place.source, place.defined)).or_default().push(index);
    }
    let mut frames = vec![None; found.places.len()];
    for ((source, defined), places) in functions {
        let positions: Vec<_> = places.iter().map(|place| found.places[*place].position).collect();
        let resolved = found.sources[source as usize].resolve_all(defined, &positions);
        places.into_iter().zip(resolved).for_each(|(place, frame)| frames[place] = Some(frame));
    }
    frames.into_iter().map(|frame| frame.expect("each place has one")).collect()
}

/// The names of the functions at a place, outermost first: several, if the compiler has inlined some.
fn names_of(frame: &Frame, names: &mut Names) -> Vec<usize> {
    let function = || frame.name().filter(|name| !name.is_empty()).map(str::to_owned);
    let function = || function().unwrap_or_else(|| format!("<function {}>", frame.func_index));
    match frame.symbols() {
        [] => vec![names.index(&function())],
        symbols => {
            let own = |symbol: &FrameSymbol| symbol.name().map_or_else(function, str::to_owned);
            symbols.iter().rev().map(|symbol| names.index(&own(symbol))).collect()
        }
    }
}

/// The name of the host function that a node's place calls.
fn host_name(found: &Calls, frames: &[Frame], caller: u32) -> String {
    let NodeKind::Place(index) = found.nodes[caller as usize].kind else { return "[host]".into() };
    let Place { source, defined, .. } = found.places[index as usize];
    match found.sources[source as usize].import_called_at(defined, frames[index as usize].offset) {
        Some((module, name)) => format!("[host] {module}.{name}"),
        None => "[host]".into(),
    }
}

/// The times of functions, those with the most of their own first.
fn sum_up(calls: &[Call], names: &Names) -> Vec<FunctionTime> {
    let mut times: Vec<_> = names
        .list
        .iter()
        .map(|name| FunctionTime { name: name.clone(), own: Duration::ZERO, total: Duration::ZERO })
        .collect();
    for call in calls.iter().filter(|call| call.samples > 0 && call.name != usize::MAX) {
        times[call.name].own += call.time;
        let on_stack: HashSet<_> = outwards(calls, *call).map(|call| call.name).collect();
        on_stack.iter().for_each(|name| times[*name].total += call.time);
    }
    times.retain(|time| !time.total.is_zero());
    times.sort_by(|a, b| (b.own, b.total, &a.name).cmp(&(a.own, a.total, &b.name)));
    times
}

/// Parts of the whole width of a flame graph: what has less than one is not seen.
#[cfg(feature = "profile")]
const NARROWEST: u32 = 12_000;

/// The beginning of a name that is long even for C++.
#[cfg(feature = "profile")]
fn cut(name: &str) -> &str {
    name.char_indices().nth(200).map_or(name, |(end, _)| &name[..end])
}

/// A line of folded stacks.
fn folded_line(names: impl Iterator<Item = String>, time: Duration) -> String {
    let names: Vec<_> = names.collect();
    let names = if names.is_empty() { "[nothing]".into() } else { names.join(";") };
    format!("{names} {}", time.as_micros())
}

/// A name that is one in a line of folded stacks: not empty, without a semicolon, and not ending like a time.
fn folded_name(name: &str) -> String {
    let mut name = Printable::name(name).to_string().replace(';', ":");
    if let Some((_, end)) = name.rsplit_once(' ')
        && end.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        // A space that does not break the line into columns.
        let at = name.len() - end.len() - 1;
        name.replace_range(at..=at, "\u{a0}");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_what_they_are_in_folded_lines() {
        let cases = [
            ("main", "main"),
            ("a;b", "a:b"),
            ("a b 17", "a b\u{a0}17"),
            ("a 1.5", "a\u{a0}1.5"),
            ("ends ", "ends\u{a0}"),
            ("a\nb 5", "a\\nb\u{a0}5"),
            ("operator() (int)", "operator() (int)"),
        ];
        for (name, folded) in cases {
            assert_eq!(folded_name(name), folded, "{name:?}");
        }
    }
}
