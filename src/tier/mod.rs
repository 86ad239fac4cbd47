//! Tiering: functions are interpreted first, found hot, compiled in the background, and continued in native code.
//!
//! The interpreter counts ([`Counter`]) the work of each function against a budget, in units of about an instruction; a
//! call from native code counts as what the transition costs. When a budget is used up, the interpreter calls
//! [`interp::Tiers`], which is implemented here, and is told how to continue, with a new budget: interpreted; in
//! baseline code, which the interpreter compiles itself and which counts in the same way; or in optimised code.
//! `policy` decides what is worth compiling, by what `load` knows of the machine; `queue` holds the jobs that wait for the
//! compiler, those that save most for what they cost first; `pool` has the threads that compile. Finished code is published through `jit::CompiledModule`, where
//! compiled callers find it, and `interp::InterpretedModule`, where interpreted callers do.
//!
//! What may be here: when which function gets which code. What may not: how code is compiled or entered. Builds without
//! the JIT do not have this room.

mod load;
mod policy;
mod pool;
mod queue;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Instant;

pub(crate) use pool::Pool;
use tracing::{debug, trace};

use crate::config::Tiering;
use crate::error::Result;
use crate::interp::{self, Counter, Hot, Native};
use crate::jit::{self, CodeEntry, Compiled, MAX_LOOPS, Tier};
use crate::module::ModuleFacts;
use crate::sys;
use crate::vm::context::VMCode;
use crate::vm::engine::EngineCore;
use queue::{Job, Key};

/// How far native code for one entry of a function (its start or a loop) has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// No native code was requested.
    #[default]
    Cold,
    Queued,
    Ready(Native),
    /// The compiler refused it: there will be no native code.
    Refused,
}

/// The state of one function's tiering.
#[derive(Debug, Default)]
struct Progress {
    seen: bool,
    /// Units that it ran for before the present budget, interpreted or in baseline code.
    spent: u64,
    /// Those of `spent` for which code was requested already.
    paid: u64,
    /// The present budget.
    granted: u32,
    /// How often baseline code was requested.
    baseline: u8,
    /// Whether the function has baseline code, or can't have any: no more requests.
    has_baseline: bool,
    /// When it got baseline code.
    warm_since: Option<Instant>,
    function: Stage,
    /// How often code of the function was requested: more than once if another loop got hot later.
    requests: u32,
    /// By byte offset of the `loop`.
    loops: BTreeMap<u32, Loop>,
    /// Offsets of the loops that are queued. Searching `loops` for them would be slow: a function may have a hundred
    /// thousand.
    queued: BTreeSet<u32>,
}

/// The state of one loop's tiering.
#[derive(Debug, Default)]
struct Loop {
    stage: Stage,
    /// How often it was found hot.
    found: u32,
}

impl Progress {
    fn at(&mut self, offset: u32) -> &mut Loop {
        self.loops.entry(offset).or_default()
    }

    /// Sets the stage of a loop. Only this function does, so that `queued` stays right.
    fn set_loop(&mut self, offset: u32, stage: Stage) {
        self.at(offset).stage = stage;
        match stage {
            Stage::Queued => self.queued.insert(offset),
            _ => self.queued.remove(&offset),
        };
    }

    /// Counts the present budget as spent. Called when it is used up.
    fn spend(&mut self) -> u32 {
        let units = std::mem::take(&mut self.granted);
        self.spent += u64::from(units);
        units
    }

    /// Units that it ran for since code was last requested.
    fn unpaid(&self) -> u64 {
        self.spent - self.paid
    }

    /// How often baseline code was requested before; counts the request. `None` if no more of them are needed.
    fn request_baseline(&mut self) -> Option<u8> {
        let requests = self.baseline;
        self.baseline = requests.saturating_add(1);
        (!self.has_baseline).then_some(requests)
    }

    fn stage(&self, entry: CodeEntry) -> Stage {
        match entry {
            CodeEntry::Function => self.function,
            CodeEntry::Loop { offset, .. } => self.loops.get(&offset).map_or(Stage::Cold, |l| l.stage),
        }
    }

    fn set(&mut self, entry: CodeEntry, stage: Stage) {
        match entry {
            CodeEntry::Function => self.function = stage,
            CodeEntry::Loop { offset, .. } => self.set_loop(offset, stage),
        }
    }
}

/// The tiering of one module's functions.
pub(crate) struct ModuleTier {
    facts: Arc<ModuleFacts>,
    engine: Arc<EngineCore>,
    interp: Arc<interp::InterpretedModule>,
    jit: Arc<jit::CompiledModule>,
    pool: Arc<Pool>,
    /// A weak pointer to this, for jobs: they must not keep the module alive.
    this: Weak<ModuleTier>,
    progress: Mutex<HashMap<u32, Progress>>,
    /// Units that each function ran for in earlier runs without getting native code.
    known: OnceLock<HashMap<u32, u32>>,
}

// SAFETY: the pointers in `progress` are to code, which lives as long as the module and may be run by any thread.
unsafe impl Send for ModuleTier {}
// SAFETY: as for `Send`: shared access only copies the pointers.
unsafe impl Sync for ModuleTier {}

impl ModuleTier {
    /// The tiering of a module. If functions are counted, both engines get a weak pointer to it.
    pub fn new(
        engine: &Arc<EngineCore>,
        facts: &Arc<ModuleFacts>,
        interp: &Arc<interp::InterpretedModule>,
        jit: &Arc<jit::CompiledModule>,
        pool: &Arc<Pool>,
    ) -> Arc<Self> {
        let this = Arc::new_cyclic(|this| ModuleTier {
            facts: facts.clone(),
            engine: engine.clone(),
            interp: interp.clone(),
            jit: jit.clone(),
            pool: pool.clone(),
            this: this.clone(),
            progress: Mutex::default(),
            known: OnceLock::new(),
        });
        if interp.counts() {
            let tiers: Weak<ModuleTier> = Arc::downgrade(&this);
            interp.set_tiers(tiers.clone());
            jit.set_improve(move |defined| {
                if let Some(this) = tiers.upgrade() {
                    this.improve(defined);
                }
            });
        }
        this
    }

    fn counter(&self, defined: u32) -> &Counter {
        &self.interp.counters()[defined as usize]
    }

    fn progress(&self) -> MutexGuard<'_, HashMap<u32, Progress>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of a function's body.
    fn size(&self, defined: u32) -> usize {
        self.facts.bodies[defined as usize].len()
    }

    fn is_measured(&self) -> bool {
        self.engine.config.tiering == Tiering::Measured
    }

    /// Grants a budget; `units` if it is measured what pays.
    fn grant(&self, progress: &mut Progress, defined: u32, units: u32) {
        let units = if self.is_measured() { units } else { policy::next_budget(self.engine.config.tiering) };
        progress.granted = units;
        self.counter(defined).grant(units);
    }

    /// Requests baseline code if that was not done, and grants the budget for the time until it is there.
    fn request_baseline(&self, progress: &mut Progress, defined: u32) -> Option<Hot> {
        if !self.is_measured() {
            return None;
        }
        let requests = progress.request_baseline()?;
        self.grant(progress, defined, policy::waiting_budget(self.size(defined), requests));
        Some(Hot::Baseline(requests))
    }

    /// Units that a function has to run for before compiling it, once more, pays.
    fn needed(&self, progress: &Progress, defined: u32) -> u64 {
        policy::needed(self.pool.units_per_byte(), self.size(defined), progress.requests)
    }

    /// Whether a function has run for long enough for compiling it to pay. If not, it gets a new budget.
    fn pays(&self, progress: &mut Progress, defined: u32) -> bool {
        if !self.is_measured() {
            return true;
        }
        let (needed, spent) = (self.needed(progress, defined), progress.unpaid());
        if spent < needed {
            self.grant(progress, defined, policy::slice(needed - spent));
        }
        spent >= needed
    }

    /// The native code to continue in at a loop, if there is some; if not, it may be queued.
    fn native_at_loop(
        &self,
        mut all: MutexGuard<'_, HashMap<u32, Progress>>,
        defined: u32,
        offset: u32,
        wide_slots: bool,
        units: u32,
    ) -> Option<Native> {
        let counter = self.counter(defined);
        let (tiering, size) = (self.engine.config.tiering, self.size(defined));
        let progress = all.entry(defined).or_default();
        self.grant(progress, defined, policy::waiting_for_code(self.pool.units_per_byte(), size));
        let function = progress.function;
        let hot = progress.at(offset);
        hot.found = hot.found.saturating_add(1);
        let stage = hot.stage;
        trace!(func = self.facts.imported_funcs() + defined, offset, ?stage, "hot loop");
        match stage {
            Stage::Ready(native) => {
                // The loop is native, but each call of the function is interpreted up to the loop.
                if function == Stage::Cold
                    && policy::is_called_often(tiering, counter.calls())
                    && self.pays(progress, defined)
                {
                    let job = self.queue(progress, defined, CodeEntry::Function, None);
                    drop(all);
                    self.carry_out(job);
                }
                return Some(native);
            }
            Stage::Refused => return None,
            Stage::Cold | Stage::Queued => {}
        }
        let at_loop = CodeEntry::Loop { offset, wide_slots };
        let entry = policy::entry_for_loop(tiering, size, counter.calls(), function, at_loop);
        let job = match (stage, entry, function) {
            (Stage::Cold, CodeEntry::Function, Stage::Queued) if policy::is_large(tiering, size) => {
                // The function may still be waiting: then it is compiled with an entry at this loop as well.
                let key = Key::new(self, defined, CodeEntry::Function);
                if self.pool.add_loop(key, units, offset, wide_slots) {
                    progress.set_loop(offset, Stage::Queued);
                }
                return None;
            }
            (Stage::Cold, CodeEntry::Function, Stage::Queued | Stage::Refused) => None,
            (Stage::Cold, ..) if !self.pays(progress, defined) => return None,
            (Stage::Cold, CodeEntry::Loop { .. }, _) => {
                // Loops of the function that were queued before have probably ended: their heat goes to this one.
                let dropped: Vec<_> = progress
                    .queued
                    .iter()
                    .filter_map(|offset| {
                        let entry = CodeEntry::Loop { offset: *offset, wide_slots };
                        let job = self.pool.withdraw(Key::new(self, defined, entry))?;
                        Some((*offset, job.heat))
                    })
                    .collect();
                dropped.iter().for_each(|(offset, _)| progress.set_loop(*offset, Stage::Cold));
                let mut job = self.queue(progress, defined, at_loop, None);
                job.heat += dropped.iter().map(|(_, heat)| heat).sum::<u64>();
                Some(job)
            }
            (Stage::Cold, CodeEntry::Function, _) => {
                Some(self.queue(progress, defined, CodeEntry::Function, Some((offset, wide_slots))))
            }
            _ => None,
        };
        drop(all);
        match job {
            None => self.pool.warm(Key::new(self, defined, entry), units, true),
            Some(job) => self.carry_out(job),
        }
        match self.progress()[&defined].loops.get(&offset)?.stage {
            Stage::Ready(native) => Some(native),
            _ => None,
        }
    }

    /// Queues a function whose native code has OSR entries to be compiled without them.
    fn improve(&self, defined: u32) {
        if self.is_measured() {
            let used = sys::process_time();
            let share = self.progress().get(&defined).and_then(|progress| {
                let time = progress.warm_since?.elapsed().as_nanos().max(1) as f64;
                Some((policy::native_time(progress.spent) / time).min(1.0))
            });
            let share = share.unwrap_or(policy::EXPECTED_SHARE);
            let key = Key::new(self, defined, CodeEntry::Function);
            self.pool.add(Job::new(self, key).improve(share, used));
        }
    }

    /// Units that each function ran for in earlier runs without getting native code.
    fn known(&self) -> &HashMap<u32, u32> {
        self.known.get_or_init(|| self.jit.known_heat())
    }

    /// Units that each function ran for without getting native code, in this run and earlier ones.
    fn heat(&self) -> HashMap<u32, u32> {
        let mut heat = self.known().clone();
        for (defined, progress) in self.progress().iter() {
            if matches!(progress.function, Stage::Ready(_) | Stage::Refused) {
                heat.remove(defined);
                continue;
            }
            let used = progress.granted.saturating_sub(self.counter(*defined).left());
            let units = u32::try_from(progress.unpaid() + u64::from(used)).unwrap_or(u32::MAX);
            let sum = heat.entry(*defined).or_default();
            *sum = sum.saturating_add(units);
        }
        heat
    }

    /// Keeps for later runs how long functions ran without native code.
    pub fn record_heat(&self) {
        if self.is_measured() && self.jit.keeps_heat() {
            let per_byte = self.pool.units_per_byte_for_later();
            let mut heat = self.heat();
            heat.retain(|defined, units| policy::is_worth_knowing(*units, per_byte, self.size(*defined)));
            self.jit.record_heat(heat);
        }
    }

    /// Queues functions that ran for long enough to have native code in later runs. Called when the program has ended.
    pub fn prepare_later_runs(&self) {
        self.prepare(&self.heat());
    }

    /// Whether what a function ran for in earlier runs says that compiling it pays.
    fn is_known(&self, defined: u32, units: u32, units_per_byte: f64) -> bool {
        u64::from(units) >= policy::needed(units_per_byte, self.size(defined), 0)
    }

    /// Queues the functions of which the units that they ran for say that they should have native code in later runs.
    fn prepare(&self, heat: &HashMap<u32, u32>) {
        if !self.is_measured() || heat.is_empty() || !self.jit.may_compile() {
            return;
        }
        let per_byte = self.pool.units_per_byte_for_later();
        let known = heat.iter().filter(|(defined, units)| self.is_known(**defined, **units, per_byte));
        let mut jobs = Vec::new();
        let mut all = self.progress();
        for (defined, units) in known {
            let progress = all.entry(*defined).or_default();
            if progress.function == Stage::Cold && self.jit.native(*defined).is_none() {
                let mut job = self.queue(progress, *defined, CodeEntry::Function, None);
                (job.is_known, job.heat) = (true, u64::from(*units));
                jobs.push(job);
            }
        }
        drop(all);
        jobs.into_iter().for_each(|job| self.pool.add(job));
    }

    /// Makes a job for an entry. A large function is compiled with entries at its hot loops too.
    fn queue(&self, progress: &mut Progress, defined: u32, entry: CodeEntry, hot: Option<(u32, bool)>) -> Job {
        let mut job = Job::new(self, Key::new(self, defined, entry));
        progress.set(entry, Stage::Queued);
        progress.requests += u32::from(entry == CodeEntry::Function);
        job.heat = progress.unpaid();
        progress.paid = progress.spent;
        if let (CodeEntry::Function, Some((offset, wide_slots))) = (entry, hot)
            && policy::is_large(self.engine.config.tiering, self.size(defined))
        {
            job.wide_slots = wide_slots;
            let most = progress.loops.values().map(|l| l.found).max().unwrap_or(0);
            progress.set_loop(offset, Stage::Queued);
            if progress.requests > 1 {
                // The function is compiled again for the sake of this loop: `choose_loops` must not drop it.
                progress.at(offset).found = most;
            }
            // Including the loops that the present code has entries for, because the new code replaces it.
            let hot = progress.loops.iter().filter(|(_, l)| l.stage != Stage::Cold);
            job.loops = hot.map(|(offset, _)| *offset).collect();
        }
        job
    }

    /// Gets a job done: from the cache, by the pool, or, in tests' tierings, at once on this thread.
    fn carry_out(&self, job: Job) {
        let Key { defined, entry, .. } = job.key;
        if job.loops.is_empty()
            && let Some(code) = self.jit.load(defined, Tier::BestWithLoops, entry)
        {
            if entry == CodeEntry::Function {
                self.redirect_calls(defined);
            }
            return self.set(&job, JobOutcome::Code(code));
        }
        if !self.jit.may_compile() {
            return self.set(&job, JobOutcome::Refused);
        }
        match self.engine.config.tiering {
            Tiering::Measured => self.pool.add(job),
            _ => self.pool.run(job),
        }
    }

    /// Makes interpreted calls of a function run its native code.
    fn redirect_calls(&self, defined: u32) {
        self.interp.redirect_calls(defined, self.jit.native_entry(defined));
    }

    /// Drops loops from a job that are much less hot than its hottest: each entry costs time to compile and to run.
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
        // Code numbers its loop entries, and has no numbers beyond these.
        for offset in job.loops.drain(MAX_LOOPS.min(job.loops.len())..) {
            if progress.at(offset).stage == Stage::Queued {
                progress.set_loop(offset, Stage::Cold);
            }
        }
    }

    /// Records what became of a job.
    fn set(&self, job: &Job, outcome: JobOutcome) {
        let Key { defined, entry, .. } = job.key;
        let mut all = self.progress();
        let progress = all.entry(defined).or_default();
        let (of_entry, of_loop): (_, &dyn Fn(u16) -> Stage) = match outcome {
            JobOutcome::Dropped => (Stage::Cold, &|_| Stage::Cold),
            JobOutcome::Refused => (Stage::Refused, &|_| Stage::Refused),
            JobOutcome::Code(code) if entry == CodeEntry::Function => {
                (Stage::Ready(Native::Function), &move |number| Stage::Ready(Native::FunctionAtLoop(code, number)))
            }
            JobOutcome::Code(code) => (Stage::Ready(Native::Loop(code)), &|_| Stage::Cold),
        };
        // Existing code stays if there is no better code.
        let mut change = |entry, to| {
            if !matches!((progress.stage(entry), to), (Stage::Ready(_), Stage::Cold | Stage::Refused)) {
                progress.set(entry, to);
            }
        };
        change(entry, of_entry);
        for (number, offset) in (0..).zip(&job.loops) {
            change(CodeEntry::Loop { offset: *offset, wide_slots: job.wide_slots }, of_loop(number));
        }
    }
}

impl Drop for ModuleTier {
    fn drop(&mut self) {
        self.record_heat();
    }
}

impl interp::Tiers for ModuleTier {
    fn load_bytecode(&self, defined: u32, read: &mut dyn FnMut(&[u8])) {
        self.jit.load_bytecode(defined, read);
    }

    fn starts_native(&self, defined: u32) -> bool {
        self.jit.load(defined, Tier::BestWithLoops, CodeEntry::Function).is_some()
    }

    fn native_entry(&self, defined: u32) -> (*const VMCode, *const AtomicPtr<VMCode>) {
        self.jit.native_entry(defined)
    }

    #[cold]
    fn hot_call(&self, defined: u32) -> Hot {
        let tiering = self.engine.config.tiering;
        let mut all = self.progress();
        let progress = all.entry(defined).or_default();
        let units = progress.spend();
        let first = !std::mem::replace(&mut progress.seen, true);
        if matches!(tiering, Tiering::Baseline | Tiering::BaselineAtLoops) {
            return Hot::Baseline(0);
        }
        if first && tiering == Tiering::Measured {
            let budget = policy::first_budget(self.size(defined));
            self.grant(progress, defined, budget);
            drop(all);
            if self.known.get().is_none() {
                self.prepare(self.known());
            }
            return Hot::Same;
        }
        if let Some(hot) = self.request_baseline(progress, defined) {
            return hot;
        }
        self.grant(progress, defined, policy::waiting_for_code(self.pool.units_per_byte(), self.size(defined)));
        if tiering == Tiering::AtLoops {
            return Hot::Same;
        }
        trace!(func = self.facts.imported_funcs() + defined, stage = ?progress.function, "hot");
        let stage = progress.function;
        let job = match stage {
            Stage::Ready(native) => return Hot::Native(native),
            Stage::Refused => return Hot::Same,
            Stage::Queued => None,
            Stage::Cold if !self.pays(progress, defined) => return Hot::Same,
            Stage::Cold => Some(self.queue(progress, defined, CodeEntry::Function, None)),
        };
        let pays = progress.spent >= self.needed(progress, defined);
        drop(all);
        match job {
            None => self.pool.warm(Key::new(self, defined, CodeEntry::Function), units, pays),
            Some(job) => self.carry_out(job),
        }
        match self.progress()[&defined].function {
            Stage::Ready(native) if !first => Hot::Native(native),
            _ => Hot::Same,
        }
    }

    #[cold]
    fn hot_loop(&self, defined: u32, offset: u32, wide_slots: bool) -> Hot {
        if self.engine.config.tiering == Tiering::Baseline {
            return Hot::Baseline(0);
        }
        let mut all = self.progress();
        let progress = all.entry(defined).or_default();
        let units = progress.spend();
        if let Some(hot) = self.request_baseline(progress, defined) {
            return hot;
        }
        match self.native_at_loop(all, defined, offset, wide_slots, units) {
            Some(native) => Hot::Native(native),
            None => Hot::Same,
        }
    }

    #[cfg(baseline)]
    fn baseline_batch(&self, made: usize, requests: u8) -> usize {
        policy::baseline_batch(self.engine.config.tiering, made, requests)
    }

    fn has_baseline(&self, defined: u32) {
        if self.is_measured() {
            let mut all = self.progress();
            let progress = all.entry(defined).or_default();
            progress.has_baseline = true;
            progress.warm_since = Some(Instant::now());
            // What is left of the budget for the time until then counts as used: it is small.
            progress.spend();
            self.pays(progress, defined);
        }
    }

    #[cfg(baseline)]
    fn baseline_memory(&self) -> Box<dyn interp::BaselineMemory> {
        Box::new(jit::BaselineCodeMemory::new(&self.jit))
    }
}

/// What became of a job.
#[derive(Clone, Copy)]
enum JobOutcome {
    Code(*const VMCode),
    Refused,
    /// It was given up, and may be requested again.
    Dropped,
}

/// The code that was compiled for a job, not published yet; or why it was refused.
type CompileResult = Result<Compiled>;

/// Compiles the code of a job.
fn compile_job(module: &ModuleTier, job: &Job) -> CompileResult {
    let Key { defined, entry, .. } = job.key;
    let tier = Tier::Best;
    let func = module.facts.imported_funcs() + defined;
    let started = sys::thread_time();
    let compiled = match entry {
        CodeEntry::Function => jit::compile_with_loops(&module.jit, defined, tier, &job.loops, job.wide_slots),
        CodeEntry::Loop { .. } => jit::compile(&module.jit, defined, tier, entry),
    };
    let (wasm_bytes, loops) = (module.facts.bodies[defined as usize].len(), &*job.loops);
    let (name, time) = (module.facts.func_name(func), sys::thread_time().saturating_sub(started));
    match &compiled {
        Ok(_) => debug!(func, name, ?tier, ?entry, ?loops, wasm_bytes, ?time, "compiled"),
        Err(error) => {
            debug!(func, name, ?tier, ?entry, ?loops, wasm_bytes, ?time, %error, "refused");
            module.engine.stats.refused.fetch_add(1, Ordering::Relaxed);
        }
    }
    compiled
}

/// Publishes the code of jobs of one module, and redirects calls to it.
fn publish(module: &ModuleTier, batch: Vec<(Job, CompileResult)>) {
    let mut jobs = Vec::with_capacity(batch.len());
    let mut code = Vec::with_capacity(batch.len());
    for (job, made) in batch {
        match made {
            Ok(compiled) => {
                module.jit.record(&compiled);
                jobs.push(job);
                code.push(compiled);
            }
            Err(_) => module.set(&job, JobOutcome::Refused),
        }
    }
    let tiers: Vec<_> = code.iter().map(Compiled::tier).collect();
    let published = module.jit.publish(code);
    for (at, job) in jobs.iter().enumerate() {
        let Ok(codes) = &published else {
            // There is no memory for code: these functions stay interpreted.
            module.engine.stats.refused.fetch_add(1, Ordering::Relaxed);
            module.set(job, JobOutcome::Refused);
            continue;
        };
        if let CodeEntry::Function = job.key.entry {
            module.redirect_calls(job.key.defined);
            if tiers[at] < Tier::Best && !module.jit.is_best(job.key.defined) {
                module.improve(job.key.defined);
            }
        }
        module.set(job, JobOutcome::Code(codes[at]));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Cache, Config, Engine, Instance, Module, Store, Strategy};

    /// A function of more than 4 KiB with a loop.
    fn looping() -> String {
        let much = "(local.set 1 (i32.rotl (i32.add (local.get 1) (i32.const 7)) (local.get 0)))".repeat(500);
        format!(
            "(module (func (export \"f\") (param i32) (result i32) (local i32)
                (loop $l {much} (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
                (local.get 1)))"
        )
    }

    /// A function that is called often and has native code for its loop is compiled for the calls too.
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

    /// Only the hottest loops of a function become entries; the others are cold again and may be queued later.
    #[test]
    fn only_hot_loops_are_entered() {
        let engine = Engine::new(Config::new().strategy(Strategy::Tiered)).unwrap();
        let module = Module::new(&engine, "(module (func))").unwrap();
        let tier = &*module.0.tier;
        {
            let mut all = tier.progress();
            let progress = all.entry(0).or_default();
            for (offset, found, stage) in [(1, 80, Stage::Queued), (2, 9, Stage::Queued), (3, 10, Stage::Queued)] {
                progress.set_loop(offset, stage);
                progress.at(offset).found = found;
            }
        }
        let mut job = Job::new(tier, Key::new(tier, 0, CodeEntry::Function));
        job.loops = vec![1, 2, 3];
        tier.choose_loops(&mut job);
        assert_eq!(job.loops, [1, 3]);
        let stages = [1, 2, 3].map(|offset| tier.progress().get_mut(&0).unwrap().at(offset).stage);
        assert_eq!(stages, [Stage::Queued, Stage::Cold, Stage::Queued]);
        assert_eq!(tier.progress()[&0].queued, BTreeSet::from([1, 3]));
    }

    /// A loop beyond `MAX_LOOPS` would get the number of another loop.
    #[test]
    fn loops_beyond_the_most_are_left_out() {
        let engine = Engine::new(Config::new().strategy(Strategy::Tiered)).unwrap();
        let module = Module::new(&engine, "(module (func))").unwrap();
        let tier = &*module.0.tier;
        let most = MAX_LOOPS as u32;
        for offset in 0..most + 2 {
            tier.progress().entry(0).or_default().set_loop(offset, Stage::Queued);
        }
        let mut job = Job::new(tier, Key::new(tier, 0, CodeEntry::Function));
        job.loops = (0..most + 2).collect();
        tier.choose_loops(&mut job);
        assert_eq!(job.loops, Vec::from_iter(0..most));
        tier.set(&job, JobOutcome::Code(std::ptr::null()));
        let mut all = tier.progress();
        let progress = all.get_mut(&0).unwrap();
        assert_eq!(
            progress.at(most - 1).stage,
            Stage::Ready(Native::FunctionAtLoop(std::ptr::null(), most as u16 - 1))
        );
        assert_eq!([most, most + 1].map(|offset| progress.at(offset).stage), [Stage::Cold; 2]);
    }

    /// Loops that are no longer queued are not looked at when another loop is queued.
    #[test]
    fn only_queued_loops_are_withdrawn() {
        let engine = Engine::new(Config::new().strategy(Strategy::Tiered)).unwrap();
        let module = Module::new(&engine, looping()).unwrap();
        let mut progress = Progress::default();
        for offset in 0..1000 {
            progress.set_loop(offset, Stage::Queued);
            progress.set_loop(offset, if offset % 2 == 0 { Stage::Cold } else { Stage::Refused });
        }
        assert!(progress.queued.is_empty());
        let job = module.0.tier.queue(&mut progress, 0, CodeEntry::Loop { offset: 7, wide_slots: false }, None);
        assert_eq!((&progress.queued, job.loops.len()), (&BTreeSet::from([7]), 0));
    }

    /// The loop for which a function is compiled again is among the loops that it is compiled with.
    #[test]
    fn a_loop_that_was_hot_without_an_entry_is_entered() {
        let engine = Engine::new(Config::new().strategy(Strategy::Tiered)).unwrap();
        let module = Module::new(&engine, looping()).unwrap();
        let tier = &module.0.tier;
        let mut progress = Progress { requests: 1, ..Progress::default() };
        *progress.at(1) = Loop { stage: Stage::Ready(Native::Function), found: 80 };
        *progress.at(2) = Loop { stage: Stage::Cold, found: 5 };
        let mut job = tier.queue(&mut progress, 0, CodeEntry::Function, Some((2, false)));
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

    /// Code with loop entries is replaced by better code, also if it comes from the cache.
    #[test]
    fn what_is_entered_at_loops_is_compiled_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::new();
        config.strategy(Strategy::Tiered).cache(Cache::in_dir(dir.path()));
        let compiled = |engine: &Engine| engine.stats().best.functions;
        let engine = Engine::new(&config).unwrap();
        run(&engine);
        assert!(compiled(&engine) >= 2, "{:?}", engine.stats());
        // The threads end and drop the module, which writes its code to the cache.
        let long = Duration::from_secs(60);
        engine.finish_compiling(Duration::ZERO, long..=long);
        drop(engine);
        let engine = Engine::new(&config).unwrap();
        run(&engine);
        assert_eq!((compiled(&engine), engine.stats().cached.functions), (0, 1), "{:?}", engine.stats());
    }

    /// Each compilation is paid for by what the function ran for since the last: it is never compiled again for the same.
    #[test]
    fn what_was_paid_for_does_not_count_again() {
        let engine = Engine::new(Config::new().strategy(Strategy::Tiered)).unwrap();
        let module = Module::new(&engine, looping()).unwrap();
        let tier = &module.0.tier;
        let mut progress = Progress { has_baseline: true, ..Progress::default() };
        let needed = tier.needed(&progress, 0);
        let mut budgets = 0;
        while !tier.pays(&mut progress, 0) {
            assert!(progress.granted > 0 && tier.counter(0).left() == progress.granted);
            progress.spend();
            budgets += 1;
        }
        assert!(
            progress.spent >= needed && progress.spent <= needed + policy::NEXT_BUDGET && budgets >= 3,
            "{progress:?}"
        );
        let job = tier.queue(&mut progress, 0, CodeEntry::Function, None);
        assert_eq!((job.heat, progress.unpaid()), (progress.spent, 0));
        assert!(!tier.pays(&mut progress, 0));
        // A third time it takes twice as long.
        tier.queue(&mut progress, 0, CodeEntry::Function, None);
        progress.spent += needed;
        assert!(!tier.pays(&mut progress, 0));
        progress.spent += needed;
        assert!(tier.pays(&mut progress, 0));
    }

    /// What a run and the runs before it found hot gets native code in some run, and stays in the cache when other work
    /// is done between.
    #[test]
    fn the_cache_converges() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::new();
        config.strategy(Strategy::Tiered).cache(Cache::in_dir(dir.path()));
        let text = "(module
            (func $warm (export \"warm\") (param i32)
                (loop $l (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
            (func (export \"other\") (param i32)
                (loop $l (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))";
        // The heat that a run leaves, and the functions that had native code from the cache.
        let run = |func: &str, calls: u32| {
            let engine = Engine::new(&config).unwrap();
            let module = Module::new(&engine, text).unwrap();
            let mut store = Store::new(&engine, ());
            let instance = Instance::new(&mut store, &module, &[]).unwrap();
            let f = instance.get_typed_func::<i32, ()>(&mut store, func).unwrap();
            (0..calls).for_each(|_| f.call(&mut store, 10).unwrap());
            let heat = module.0.tier.heat();
            module.0.tier.prepare_later_runs();
            engine.finish_compiling(Duration::from_secs(60), Duration::ZERO..=Duration::from_secs(60));
            module.flush_cache();
            (heat, engine.stats().cached.functions)
        };
        let needed = {
            let module = Module::new(&Engine::new(&config).unwrap(), text).unwrap();
            policy::needed(module.0.tier.pool.units_per_byte_for_later(), 20, 0)
        };
        // Each call counts for about ten passes of the loop.
        let calls = (needed / 100) as u32;
        let (heat, cached) = run("warm", calls);
        assert!(heat[&0] > 0 && cached == 0, "{heat:?}");
        let mut runs = 1;
        while run("warm", calls).1 == 0 {
            runs += 1;
            assert!(runs < 100, "{:?}", run("warm", calls));
        }
        assert!(runs > 1);
        // Other work does not remove it.
        (0..3).for_each(|_| drop(run("other", calls)));
        assert_eq!(run("warm", calls).1, 1);
    }
}
