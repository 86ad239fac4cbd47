//! Tiering: what is interpreted first, found hot, compiled in the background, and entered where it runs.
//!
//! The interpreter counts ([`Counter`]) what it runs of each function, in units of about an instruction, against a
//! budget; calls of it from native code count as what these take. When the budget is used up it asks here
//! ([`ModuleTier::hot_call`], [`ModuleTier::hot_loop`]) how to go on, with a new budget: interpreted; in baseline code, which it
//! makes itself and which counts in the same way; or in compiled code.
//! `policy` decides what is worth making and compiling, and how; `queue` keeps what waits for the compiler, the hottest first;
//! `pool` has the threads that compile. Finished code is published through `jit::ModuleCode`, where compiled callers find
//! it, and `interp::ModuleCode`, where interpreted ones do.
//!
//! What may be here: when which function gets which code. What may not: how code is made or entered.
//!
//! Without the JIT `tier_disabled.rs` stands in for this room.

mod policy;
mod pool;
mod queue;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ptr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) use pool::Pool;
use tracing::{debug, trace};

use crate::config::{Strategy, Tiering};
use crate::error::Result;
use crate::jit::{Compiled, Entry, MAX_LOOPS, Tier};
use crate::module::{Module, ModuleInner};
use crate::runtime::engine::Engine;
use crate::sys;
use crate::vm::context::VMCode;
use queue::{Job, Key};

/// How hot a function is: what is left of its budget, in the upper half, and the number of its calls, in the lower.
/// Threads that run the same function may lose each other's counts; nothing but speed depends on them.
#[derive(Debug, Default)]
#[repr(transparent)]
pub(crate) struct Counter(AtomicI64);

impl Counter {
    /// Counts a call. False if the budget is used up.
    #[inline(always)]
    pub fn call(&self, weight: u16) -> bool {
        self.count(1 - (i64::from(weight) << 32))
    }

    /// Counts a pass through a loop. False if the budget is used up.
    #[inline(always)]
    pub fn pass(&self, weight: u16) -> bool {
        self.count(-(i64::from(weight) << 32))
    }

    #[inline(always)]
    fn count(&self, change: i64) -> bool {
        let left = self.0.load(Ordering::Relaxed).wrapping_add(change);
        self.0.store(left, Ordering::Relaxed);
        left >= 0
    }

    /// Sets the budget, in units.
    fn grant(&self, units: u32) {
        let calls = self.0.load(Ordering::Relaxed) & 0xffff_ffff;
        self.0.store(i64::from(units.min(i32::MAX as u32)) << 32 | calls, Ordering::Relaxed);
    }

    fn calls(&self) -> u32 {
        self.0.load(Ordering::Relaxed) as u32
    }
}

/// Native code for one entry of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Native {
    /// Code of the function, to be called.
    Function,
    /// Code that takes over a frame at a loop, and does nothing else.
    Loop(*const VMCode),
    /// The same, but code of the function as well: the number of the loop in that.
    FunctionAtLoop(*const VMCode, u16),
}

/// How a function goes on whose budget is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hot {
    /// As before, with a new budget.
    Same,
    /// In baseline code, which is to be made; it has been asked for so often.
    Baseline(u8),
    Native(Native),
}

/// How far one entry of a function has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Nobody has asked for native code.
    #[default]
    Cold,
    Queued,
    Ready(Native),
    /// There will be no native code: it was refused.
    Refused,
}

/// How far a function has come.
#[derive(Debug, Default)]
struct Progress {
    seen: bool,
    /// How often baseline code was asked for.
    baseline: u8,
    /// Whether there is no need to ask any more.
    has_baseline: bool,
    function: Stage,
    /// How often code of the function was asked for: again where a loop turned out to be hot as well.
    asked: u32,
    /// By the byte offset of the `loop`.
    loops: BTreeMap<u32, Loop>,
    /// Offsets of the loops that are queued: a function may have a hundred thousand others.
    queued: BTreeSet<u32>,
}

/// How far a loop has come.
#[derive(Debug, Default)]
struct Loop {
    stage: Stage,
    /// How often it was found hot.
    found: u32,
    /// How often that was while there was code for the function, but none for it.
    missed: u32,
}

impl Progress {
    fn at(&mut self, offset: u32) -> &mut Loop {
        self.loops.entry(offset).or_default()
    }

    /// Sets how far a loop has come. Nothing else does.
    fn set_loop(&mut self, offset: u32, stage: Stage) {
        self.at(offset).stage = stage;
        match stage {
            Stage::Queued => self.queued.insert(offset),
            _ => self.queued.remove(&offset),
        };
    }

    /// Whether it is time for baseline code: how often it was asked for. In later runs, that is when the compiler has not come to
    /// the function in its time.
    fn asks_for_baseline(&mut self, later_run: bool) -> Option<u8> {
        let waits = self.function == Stage::Queued || !self.queued.is_empty();
        if self.has_baseline || later_run && !waits {
            return None;
        }
        let asked = self.baseline;
        self.baseline = asked.saturating_add(1);
        Some(asked)
    }

    fn stage(&self, entry: Entry) -> Stage {
        match entry {
            Entry::Function => self.function,
            Entry::Loop { offset, .. } => self.loops.get(&offset).map_or(Stage::Cold, |l| l.stage),
        }
    }

    fn set(&mut self, entry: Entry, stage: Stage) {
        match entry {
            Entry::Function => self.function = stage,
            Entry::Loop { offset, .. } => self.set_loop(offset, stage),
        }
    }
}

/// The tiering of one module's functions.
pub(crate) struct ModuleTier {
    counters: Box<[Counter]>,
    progress: Mutex<HashMap<u32, Progress>>,
}

// SAFETY: the pointers are to code that lives as long as the module, and any thread may run.
unsafe impl Send for ModuleTier {}
// SAFETY: as above.
unsafe impl Sync for ModuleTier {}

impl ModuleTier {
    /// For a module of so many defined functions; nothing is counted unless the engine tiers.
    pub fn new(engine: &Engine, defined_funcs: usize) -> Self {
        let counted = if engine.config().strategy == Strategy::Tiered { defined_funcs } else { 0 };
        let counters = std::iter::repeat_with(Counter::default).take(counted).collect();
        ModuleTier { counters, progress: Mutex::default() }
    }

    /// How much bytecode has to wait before baseline code is made of it, in words: it has been made of so much, and
    /// was asked for so often by one function.
    #[cfg(baseline)]
    pub fn baseline_batch(&self, module: &ModuleInner, made: usize, asked: u8) -> usize {
        policy::baseline_batch(module.engine.config().tiering, made, asked)
    }

    /// Takes note that a function runs baseline code from now on, or that there is none to be had.
    pub fn has_baseline(&self, module: &ModuleInner, defined: u32) {
        if module.engine.config().tiering == Tiering::Measured {
            self.progress().entry(defined).or_default().has_baseline = true;
            self.counters[defined as usize].grant(policy::second_budget(module, defined));
        }
    }

    /// The counters by defined index; null if nothing is counted.
    pub fn counters(&self) -> *const Counter {
        if self.counters.is_empty() { ptr::null() } else { self.counters.as_ptr() }
    }

    /// Counts what a call of a function from native code takes, besides what the function itself does.
    pub fn count_crossing(&self, defined: u32) {
        if let Some(counter) = self.counters.get(defined as usize) {
            // If the budget is used up now, the function's own next count finds that.
            counter.pass(policy::CROSSING);
        }
    }

    fn progress(&self) -> MutexGuard<'_, HashMap<u32, Progress>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a function that is called for the first time has native code already, from earlier runs.
    pub fn starts_native(&self, module: &ModuleInner, defined: u32) -> bool {
        !self.counters.is_empty() && module.jit.load(module, defined, Tier::Quick, Entry::Function).is_some()
    }

    /// What to do about a function whose budget is used up as it is called.
    #[cold]
    pub fn hot_call(&self, module: &Module, defined: u32) -> Hot {
        let counter = &self.counters[defined as usize];
        let tiering = module.0.engine.config().tiering;
        let mut all = self.progress();
        let progress = all.entry(defined).or_default();
        let first = !std::mem::replace(&mut progress.seen, true);
        if matches!(tiering, Tiering::Baseline | Tiering::BaselineAtLoops) {
            return Hot::Baseline(0);
        }
        if first && tiering == Tiering::Measured {
            counter.grant(policy::first_budget(&module.0, defined));
            return Hot::Same;
        }
        if let Some(hot) = self.ask_for_baseline(progress, module, defined) {
            return hot;
        }
        counter.grant(policy::next_budget(tiering));
        if tiering == Tiering::AtLoops {
            return Hot::Same;
        }
        trace!(func = module.0.imported_funcs() + defined, stage = ?progress.function, "hot");
        let job = match progress.function {
            Stage::Ready(native) => return Hot::Native(native),
            Stage::Refused => return Hot::Same,
            Stage::Queued => None,
            Stage::Cold => Some(self.queue(progress, module, defined, Entry::Function, None)),
        };
        drop(all);
        match job {
            None => module.0.engine.pool().warm(Key::new(&module.0, defined, Entry::Function)),
            Some(job) => self.have_done(module, job),
        }
        match self.progress()[&defined].function {
            Stage::Ready(native) if !first => Hot::Native(native),
            _ => Hot::Same,
        }
    }

    /// What to do about a function whose budget is used up in a loop, at the `loop` of that byte offset, in a frame with
    /// scratch slots if `wide_slots`: the code to go on with, if there is some that takes over the frame.
    #[cold]
    pub fn hot_loop(&self, module: &Module, defined: u32, offset: u32, wide_slots: bool) -> Hot {
        if module.0.engine.config().tiering == Tiering::Baseline {
            return Hot::Baseline(0);
        }
        let mut all = self.progress();
        if let Some(hot) = self.ask_for_baseline(all.entry(defined).or_default(), module, defined) {
            return hot;
        }
        match self.native_at_loop(all, module, defined, offset, wide_slots) {
            Some(native) => Hot::Native(native),
            None => Hot::Same,
        }
    }

    /// Asks for baseline code if it is time for that, and grants the budget to wait with.
    fn ask_for_baseline(&self, progress: &mut Progress, module: &Module, defined: u32) -> Option<Hot> {
        if module.0.engine.config().tiering != Tiering::Measured {
            return None;
        }
        let asked = progress.asks_for_baseline(policy::is_later_run(&module.0))?;
        self.counters[defined as usize].grant(policy::waiting_budget(&module.0, defined, asked));
        Some(Hot::Baseline(asked))
    }

    /// The code to go on with at a loop, if there is some; if not, it may be compiled.
    fn native_at_loop(
        &self,
        mut all: MutexGuard<'_, HashMap<u32, Progress>>,
        module: &Module,
        defined: u32,
        offset: u32,
        wide_slots: bool,
    ) -> Option<Native> {
        let counter = &self.counters[defined as usize];
        let tiering = module.0.engine.config().tiering;
        counter.grant(policy::next_budget(tiering));
        let progress = all.entry(defined).or_default();
        let function = progress.function;
        let hot = progress.at(offset);
        hot.found = hot.found.saturating_add(1);
        trace!(func = module.0.imported_funcs() + defined, offset, stage = ?hot.stage, "hot loop");
        match hot.stage {
            Stage::Ready(native) => {
                // Each call is interpreted until it is here.
                if function == Stage::Cold && policy::is_called_often(tiering, counter.calls()) {
                    let job = self.queue(progress, module, defined, Entry::Function, None);
                    drop(all);
                    self.have_done(module, job);
                }
                return Some(native);
            }
            Stage::Refused => return None,
            Stage::Cold if matches!(function, Stage::Ready(_)) => hot.missed += 1,
            Stage::Cold | Stage::Queued => {}
        }
        let (stage, missed) = (hot.stage, hot.missed >> progress.asked.min(31));
        let at_loop = Entry::Loop { offset, wide_slots };
        let entry = policy::entry_for_loop(&module.0, defined, counter.calls(), function, missed, at_loop)?;
        let job = match (stage, entry, function) {
            (Stage::Cold, Entry::Loop { .. }, _) => {
                // Another loop of the function that was hot before may be done.
                let dropped: Vec<_> = progress
                    .queued
                    .iter()
                    .filter_map(|offset| {
                        let entry = Entry::Loop { offset: *offset, wide_slots };
                        let job = module.0.engine.pool().withdraw(Key::new(&module.0, defined, entry))?;
                        Some((*offset, job.heat))
                    })
                    .collect();
                dropped.iter().for_each(|(offset, _)| progress.set_loop(*offset, Stage::Cold));
                let heat = dropped.iter().map(|(_, heat)| heat).sum();
                let mut job = self.queue(progress, module, defined, at_loop, None);
                job.heat = heat;
                Some(job)
            }
            (Stage::Cold, Entry::Function, Stage::Cold | Stage::Ready(_)) => {
                Some(self.queue(progress, module, defined, Entry::Function, Some((offset, wide_slots))))
            }
            (Stage::Cold, Entry::Function, _) if policy::is_large(&module.0, defined) => {
                // It may still be made to have this loop as well.
                let key = Key::new(&module.0, defined, Entry::Function);
                if module.0.engine.pool().add_loop(key, offset, wide_slots) {
                    progress.set_loop(offset, Stage::Queued);
                }
                None
            }
            _ => None,
        };
        drop(all);
        match job {
            None => module.0.engine.pool().warm(Key::new(&module.0, defined, entry)),
            Some(job) => self.have_done(module, job),
        }
        match self.progress()[&defined].loops.get(&offset)?.stage {
            Stage::Ready(native) => Some(native),
            _ => None,
        }
    }

    /// Takes note that a function has native code of a tier, which could be better.
    pub fn improve(&self, module: &ModuleInner, defined: u32, from: Tier) {
        if !self.counters.is_empty() && module.engine.config().tiering == Tiering::Measured {
            let key = Key::new(module, defined, Entry::Function);
            module.engine.pool().add(Job::new(module, key).improve(from, module.jit.shared_heat()));
        }
    }

    /// Makes a job of an entry; a large function gets its hot loops as entries too.
    fn queue(
        &self,
        progress: &mut Progress,
        module: &Module,
        defined: u32,
        entry: Entry,
        hot: Option<(u32, bool)>,
    ) -> Job {
        let mut job = Job::new(&module.0, Key::new(&module.0, defined, entry));
        progress.set(entry, Stage::Queued);
        progress.asked += u32::from(entry == Entry::Function);
        if let (Entry::Function, Some((offset, wide_slots))) = (entry, hot)
            && policy::is_large(&module.0, defined)
        {
            job.wide_slots = wide_slots;
            let most = progress.loops.values().map(|l| l.found).max().unwrap_or(0);
            progress.set_loop(offset, Stage::Queued);
            if progress.asked > 1 {
                // It is for this loop that the function is compiled again.
                progress.at(offset).found = most;
            }
            // Those that it had before, so that this code can replace that.
            let hot = progress.loops.iter().filter(|(_, l)| l.stage != Stage::Cold);
            job.loops = hot.map(|(offset, _)| *offset).collect();
        }
        job
    }

    /// Sees to a job: code that earlier runs left needs no compiling.
    fn have_done(&self, module: &Module, job: Job) {
        let (inner, engine) = (&module.0, &module.0.engine);
        let Key { defined, entry, .. } = job.key;
        if job.loops.is_empty()
            && let Some(code) = inner.jit.load(inner, defined, Tier::Quick, entry)
        {
            if entry == Entry::Function {
                inner.interp.lead_to_native(inner, defined);
            }
            return self.set(&job, Outcome::Code(code));
        }
        if !inner.jit.may_compile(inner) {
            return self.set(&job, Outcome::Refused);
        }
        match engine.config().tiering {
            Tiering::Measured => engine.pool().add(job),
            _ => engine.pool().run(job),
        }
    }

    /// Leaves those loops out of a job that are hot less than others: each way in costs time to compile and to run.
    fn choose_loops(&self, job: &mut Job) {
        if job.loops.len() < 2 {
            return;
        }
        let mut all = self.progress();
        let progress = all.entry(job.key.defined).or_default();
        let most = job.loops.iter().map(|offset| progress.at(*offset).found).max().unwrap_or(0);
        job.loops.retain(|offset| {
            let one = progress.at(*offset);
            let stays = policy::is_worth_entering(one.found, most);
            if !stays && one.stage == Stage::Queued {
                progress.set_loop(*offset, Stage::Cold);
            }
            stays
        });
        // Code numbers the loops that it is entered at, and has no more numbers.
        for offset in job.loops.drain(MAX_LOOPS.min(job.loops.len())..) {
            if progress.at(offset).stage == Stage::Queued {
                progress.set_loop(offset, Stage::Cold);
            }
        }
    }

    /// Takes note of what became of a job.
    fn set(&self, job: &Job, outcome: Outcome) {
        let Key { defined, entry, .. } = job.key;
        let mut all = self.progress();
        let progress = all.entry(defined).or_default();
        let (of_entry, of_loop): (_, &dyn Fn(u16) -> Stage) = match outcome {
            Outcome::Dropped => (Stage::Cold, &|_| Stage::Cold),
            Outcome::Refused => (Stage::Refused, &|_| Stage::Refused),
            Outcome::Code(code) if entry == Entry::Function => {
                (Stage::Ready(Native::Function), &move |number| Stage::Ready(Native::FunctionAtLoop(code, number)))
            }
            Outcome::Code(code) => (Stage::Ready(Native::Loop(code)), &|_| Stage::Cold),
        };
        // Code that is there stays when better code is not to be had.
        let mut change = |entry, to| {
            if !matches!((progress.stage(entry), to), (Stage::Ready(_), Stage::Cold | Stage::Refused)) {
                progress.set(entry, to);
            }
        };
        change(entry, of_entry);
        for (number, offset) in (0..).zip(&job.loops) {
            change(Entry::Loop { offset: *offset, wide_slots: job.wide_slots }, of_loop(number));
        }
    }
}

/// What became of a job.
#[derive(Clone, Copy)]
enum Outcome {
    Code(*const VMCode),
    Refused,
    /// It was given up, and may be asked for again.
    Dropped,
}

/// What became of a job, in code that is in no place yet.
type Made = Result<Compiled>;

/// Compiles what a job asks for.
fn make(module: &ModuleInner, job: &Job) -> Made {
    let Job { key: Key { defined, entry, .. }, tier, .. } = *job;
    let func = module.imported_funcs() + defined;
    let started = sys::thread_time();
    let compiled = match entry {
        Entry::Function => crate::jit::compile_with_loops(module, defined, tier, &job.loops, job.wide_slots),
        Entry::Loop { .. } => crate::jit::compile(module, defined, tier, entry),
    };
    let (wasm_bytes, loops) = (module.bodies[defined as usize].len(), &*job.loops);
    let (name, time) = (module.func_name(func), sys::thread_time().saturating_sub(started));
    match &compiled {
        Ok(_) => debug!(func, name, ?tier, ?entry, ?loops, wasm_bytes, ?time, "compiled"),
        Err(error) => {
            debug!(func, name, ?tier, ?entry, ?loops, wasm_bytes, ?time, %error, "refused");
            module.engine.counted().refused.fetch_add(1, Ordering::Relaxed);
        }
    }
    compiled
}

/// Puts what was made for jobs of one module into its place, and leads calls there.
fn publish(module: &ModuleInner, batch: Vec<(Job, Made)>) {
    let mut jobs = Vec::with_capacity(batch.len());
    let mut code = Vec::with_capacity(batch.len());
    for (job, made) in batch {
        match made {
            Ok(compiled) => {
                module.jit.record(module, &compiled);
                jobs.push(job);
                code.push(compiled);
            }
            Err(_) => module.tier.set(&job, Outcome::Refused),
        }
    }
    let tiers: Vec<_> = code.iter().map(Compiled::tier).collect();
    let published = module.jit.publish(module, code);
    for (at, job) in jobs.iter().enumerate() {
        let Ok(codes) = &published else {
            // No memory for code: all that waits will fare no better, and stays interpreted.
            module.engine.counted().refused.fetch_add(1, Ordering::Relaxed);
            module.tier.set(job, Outcome::Refused);
            continue;
        };
        if let Entry::Function = job.key.entry {
            module.interp.lead_to_native(module, job.key.defined);
            if tiers[at] < Tier::Best && !module.jit.is_best(job.key.defined) {
                module.tier.improve(module, job.key.defined, tiers[at]);
            }
        }
        module.tier.set(job, Outcome::Code(codes[at]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cache, Config, Instance, Store};

    /// A function of more than 4 KiB with a loop.
    fn looping() -> String {
        let much = "(local.set 1 (i32.rotl (i32.add (local.get 1) (i32.const 7)) (local.get 0)))".repeat(500);
        format!(
            "(module (func (export \"f\") (param i32) (result i32) (local i32)
                (loop $l {much} (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
                (local.get 1)))"
        )
    }

    /// A function that is called again and again for its loop is compiled for the calls too.
    #[test]
    fn calls_of_loops_get_hot() {
        let engine = Engine::new(Config::new().strategy(Strategy::Tiered)).unwrap();
        let text = "(module (func (export \"f\") (param i32)
            (loop $l (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))";
        let module = Module::new(&engine, text).unwrap();
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let f = instance.get_typed_func::<i32, ()>(&mut store, "f").unwrap();
        while engine.stats().loops_entered == 0 {
            f.call(&mut store, 10_000_000).unwrap();
        }
        while !module.0.jit.is_best(0) {
            f.call(&mut store, 100_000).unwrap();
        }
    }

    /// Of the loops of a function, those that are hot beside others become ways in; the others may do so another time.
    #[test]
    fn only_hot_loops_are_entered() {
        let engine = Engine::new(Config::new().strategy(Strategy::Tiered)).unwrap();
        let module = Module::new(&engine, "(module (func))").unwrap().0;
        let tier = &module.tier;
        {
            let mut all = tier.progress();
            let progress = all.entry(0).or_default();
            for (offset, found, stage) in [(1, 80, Stage::Queued), (2, 9, Stage::Queued), (3, 10, Stage::Queued)] {
                progress.set_loop(offset, stage);
                progress.at(offset).found = found;
            }
        }
        let mut job = Job::new(&module, Key::new(&module, 0, Entry::Function));
        job.loops = vec![1, 2, 3];
        tier.choose_loops(&mut job);
        assert_eq!(job.loops, [1, 3]);
        let stages = [1, 2, 3].map(|offset| tier.progress().get_mut(&0).unwrap().at(offset).stage);
        assert_eq!(stages, [Stage::Queued, Stage::Cold, Stage::Queued]);
        assert_eq!(tier.progress()[&0].queued, BTreeSet::from([1, 3]));
    }

    /// A loop beyond those that the code can be entered at would be taken for another one of them.
    #[test]
    fn loops_beyond_the_most_are_left_out() {
        let engine = Engine::new(Config::new().strategy(Strategy::Tiered)).unwrap();
        let module = Module::new(&engine, "(module (func))").unwrap().0;
        let tier = &module.tier;
        let most = MAX_LOOPS as u32;
        for offset in 0..most + 2 {
            tier.progress().entry(0).or_default().set_loop(offset, Stage::Queued);
        }
        let mut job = Job::new(&module, Key::new(&module, 0, Entry::Function));
        job.loops = (0..most + 2).collect();
        tier.choose_loops(&mut job);
        assert_eq!(job.loops, Vec::from_iter(0..most));
        tier.set(&job, Outcome::Code(std::ptr::null()));
        let mut all = tier.progress();
        let progress = all.get_mut(&0).unwrap();
        assert_eq!(
            progress.at(most - 1).stage,
            Stage::Ready(Native::FunctionAtLoop(std::ptr::null(), most as u16 - 1))
        );
        assert_eq!([most, most + 1].map(|offset| progress.at(offset).stage), [Stage::Cold; 2]);
    }

    /// Loops that are not hot any more cost nothing where others are.
    #[test]
    fn only_queued_loops_are_withdrawn() {
        let engine = Engine::new(Config::new().strategy(Strategy::Tiered)).unwrap();
        let module = Module::new(&engine, looping()).unwrap();
        let mut progress = Progress::default();
        for offset in 0..1000 {
            progress.set_loop(offset, Stage::Queued);
            progress.set_loop(offset, if offset % 2 == 0 { Stage::Cold } else { Stage::Refused });
        }
        assert!(progress.queued.is_empty() && progress.asks_for_baseline(true).is_none());
        let job = module.0.tier.queue(&mut progress, &module, 0, Entry::Loop { offset: 7, wide_slots: false }, None);
        assert_eq!((&progress.queued, job.loops.len()), (&BTreeSet::from([7]), 0));
        assert!(progress.asks_for_baseline(true).is_some());
    }

    /// What a function is compiled again for is among them.
    #[test]
    fn a_loop_that_was_missed_is_entered() {
        let engine = Engine::new(Config::new().strategy(Strategy::Tiered)).unwrap();
        let module = Module::new(&engine, looping()).unwrap();
        let tier = &module.0.tier;
        let mut progress = Progress { asked: 1, ..Progress::default() };
        *progress.at(1) = Loop { stage: Stage::Ready(Native::Function), found: 80, missed: 0 };
        *progress.at(2) = Loop { stage: Stage::Cold, found: 5, missed: 5 };
        let mut job = tier.queue(&mut progress, &module, 0, Entry::Function, Some((2, false)));
        tier.progress().insert(0, progress);
        tier.choose_loops(&mut job);
        assert_eq!(job.loops, [1, 2]);
    }

    /// Calls `f` of a module until its code is the best there will be.
    fn run(engine: &Engine) {
        let module = Module::new(engine, looping()).unwrap();
        let mut store = Store::new(engine, ());
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let f = instance.get_typed_func::<i32, i32>(&mut store, "f").unwrap();
        while !module.0.jit.is_best(0) {
            f.call(&mut store, 1000).unwrap();
        }
    }

    /// Code that is entered at loops too is replaced by better code, also if it comes from the cache.
    #[test]
    fn what_is_entered_at_loops_is_compiled_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::new();
        config.strategy(Strategy::Tiered).cache(Cache::in_dir(dir.path()));
        let compiled = |engine: &Engine| engine.stats().best.functions;
        let engine = Engine::new(&config).unwrap();
        run(&engine);
        assert!(compiled(&engine) >= 2, "{:?}", engine.stats());
        // Its threads end, and with them the module, which is written to the cache.
        let long = std::time::Duration::from_secs(60);
        engine.finish_compiling(long..=long);
        drop(engine);
        let engine = Engine::new(&config).unwrap();
        run(&engine);
        assert_eq!((compiled(&engine), engine.stats().cached.functions), (0, 1), "{:?}", engine.stats());
    }
}
