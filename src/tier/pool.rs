//! The threads that compile: as many as there are cores to spare; and one thread of a lower priority for long jobs that
//! only improve native code. What they get of the machine is measured, and by it the policy decides what to compile; so
//! the others have the program's priority: at a lower one they would get nothing from a machine that is busy.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::load::{Compiled, Load};
use super::queue::{Job, Key, Now, Queue};
use super::{CompileResult, JobOutcome, ModuleTier, compile_job, policy, publish};
use crate::stats::{Stats, ThreadTimesCounter};
use crate::sys::{self, lower_priority};

/// The most threads: more find nothing to do.
const MAX_THREADS: usize = 8;

/// Niceness of the thread for long jobs: the program waits for the others.
const NICER: i32 = 5;

/// How long threads wait until they look again whether jobs pay that did not yet.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Stack of a thread that compiles; the compiler needs more for large functions than threads have by default.
const STACK: usize = 8 << 20;

/// The compiling threads of an engine: started when there is something to do, ended when the engine is dropped.
#[derive(Default)]
pub(crate) struct Pool(Arc<PoolShared>);

#[derive(Default)]
struct PoolShared {
    /// [`policy::units_per_byte`] by the latest measurement, as bits of a float; 0 before the first.
    units_per_byte: AtomicU32,
    /// What the threads have used.
    times: ThreadTimesCounter,
    state: Mutex<State>,
    /// A job was queued, or the pool was closed.
    changed: Condvar,
    /// There is time for long jobs, or the pool was closed.
    calm: Condvar,
    /// A thread has ended.
    ended: Condvar,
}

#[derive(Default)]
struct State {
    queue: Queue,
    threads: usize,
    /// How many threads wait for `changed`.
    idle: usize,
    /// The state of the thread for long jobs.
    long: LongThread,
    /// When the jobs that threads are working on were begun.
    begun: Vec<Instant>,
    /// What the threads have seen.
    load: Option<Load>,
    /// Processor time spent on functions that only earlier runs say are hot.
    preparing: Duration,
    /// The program has ended: what waits is compiled for later runs.
    finishing: bool,
    /// The threads are to end.
    closed: bool,
}

impl State {
    fn load(&mut self) -> &mut Load {
        self.load.get_or_insert_with(|| Load::new(cores()))
    }

    /// Takes the next job for a thread.
    fn take(&mut self, long: bool, cold: &mut Vec<Job>) -> Option<Job> {
        let used = sys::process_time();
        let may_prepare = self.finishing || policy::may_prepare(used.as_secs_f64(), self.preparing.as_secs_f64());
        let load = self.load.get_or_insert_with(|| Load::new(cores()));
        let now = Now { load, used, may_prepare };
        if long { self.queue.take_long(&now) } else { self.queue.take(cold, &now) }
    }
}

#[derive(Default, PartialEq, Eq)]
enum LongThread {
    #[default]
    NotStarted,
    Busy,
    Idle,
}

impl Drop for Pool {
    /// Tells the threads to end: each does so after the function that it is compiling.
    fn drop(&mut self) {
        drop(self.0.close());
    }
}

impl PoolShared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        state.closed = true;
        self.changed.notify_all();
        self.calm.notify_all();
        state
    }

    /// Waits for `changed`. There may be nothing to do after all. If jobs wait that do not pay yet, the wait is short.
    fn wait<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        if state.finishing {
            self.ended.notify_all();
        }
        state.idle += 1;
        let mut state = wait_for(&self.changed, state);
        state.idle -= 1;
        state
    }

    /// Waits for `calm`, on the thread for long jobs.
    fn wait_long<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.long = LongThread::Idle;
        let mut state = wait_for(&self.calm, state);
        state.long = LongThread::Busy;
        state
    }

    /// Adds a measurement.
    fn measure(&self, state: &mut State, compiled: Compiled) {
        state.load().add(compiled);
        let units = policy::units_per_byte(state.load()) as f32;
        self.times.add(compiled.cpu, compiled.wall);
        self.units_per_byte.store(units.to_bits(), Ordering::Relaxed);
    }

    /// Wakes the thread for long jobs, if it waits and there is time for them.
    fn wake_long(&self, state: &State) {
        if state.long == LongThread::Idle && state.queue.is_time_for_long() {
            self.calm.notify_one();
        }
    }

    /// Does jobs until the pool is closed: long ones if `long`, else all others.
    fn work(&self, long: bool) {
        let mut cold = Vec::new();
        let mut batch = PublishBatch::default();
        let mut state = self.state();
        loop {
            if state.closed {
                drop(state);
                batch.publish();
                self.state().threads -= 1;
                return self.ended.notify_all();
            }
            let job = state.take(long, &mut cold);
            if job.is_none() && cold.is_empty() && batch.is_empty() {
                self.wake_long(&state);
                state = if long { self.wait_long(state) } else { self.wait(state) };
                continue;
            }
            let begun = Instant::now();
            state.begun.push(begun);
            drop(state);
            cold.drain(..).for_each(|job| forget(&job));
            let (bytes, is_known) = job.as_ref().map_or((0, false), |job| (job.size, job.is_known));
            let before = sys::thread_time();
            match job {
                Some(job) => batch.add(job),
                None => batch.publish(),
            }
            let (cpu, wall) = (sys::thread_time().saturating_sub(before), begun.elapsed());
            state = self.state();
            self.measure(&mut state, Compiled { bytes, cpu, wall });
            if is_known {
                state.preparing += cpu;
            }
            if let Some(at) = state.begun.iter().position(|other| *other == begun) {
                state.begun.swap_remove(at);
            }
        }
    }
}

/// Compiled code that is published together: each time, pages of code are made writable and executable again, which
/// stops the program for some microseconds.
#[derive(Default)]
struct PublishBatch {
    made: Vec<(Job, CompileResult)>,
    /// The module of all the code.
    module: Option<Arc<ModuleTier>>,
    begun: Option<Instant>,
}

impl PublishBatch {
    /// How long finished code waits for more.
    const PATIENCE: Duration = Duration::from_millis(1);

    fn is_empty(&self) -> bool {
        self.made.is_empty()
    }

    /// Compiles the code of a job.
    fn add(&mut self, mut job: Job) {
        let Some(module) = job.module() else { return };
        module.choose_loops(&mut job);
        if self.module.as_ref().is_some_and(|other| !Arc::ptr_eq(other, &module)) {
            self.publish();
        }
        let made = compile_job(&module, &job);
        self.made.push((job, made));
        self.module = Some(module);
        if self.begun.get_or_insert_with(Instant::now).elapsed() >= Self::PATIENCE {
            self.publish();
        }
    }

    /// Publishes all code of the batch.
    fn publish(&mut self) {
        self.begun = None;
        if let Some(module) = self.module.take() {
            publish(&module, std::mem::take(&mut self.made));
        }
    }
}

impl Pool {
    /// Queues a job, and starts a thread if one is missing.
    pub(super) fn add(&self, job: Job) {
        let mut state = self.0.state();
        let is_long = job.is_long();
        let refused = state.queue.add(job);
        let others = usize::from(state.long != LongThread::NotStarted);
        // If no thread can be started, all functions stay interpreted.
        if state.idle > 0 {
            self.0.changed.notify_one();
        } else if state.threads - others < state.queue.len().min(state.load().spare_cores()).min(MAX_THREADS) {
            state.threads += usize::from(self.spawn(false));
        }
        if is_long && state.long == LongThread::NotStarted && self.spawn(true) {
            state.threads += 1;
            state.long = LongThread::Busy;
        }
        drop(state);
        if let Some(job) = refused {
            forget(&job);
        }
    }

    /// Starts a thread; false if that is not possible.
    fn spawn(&self, long: bool) -> bool {
        let shared = self.0.clone();
        let builder = thread::Builder::new().name("wasmrun compiler".into()).stack_size(STACK);
        let spawned = builder.spawn(move || {
            if long {
                lower_priority(NICER);
            }
            shared.work(long);
        });
        spawned.is_ok()
    }

    /// Adds what the threads have used and seen.
    pub fn stats(&self, stats: Stats) -> Stats {
        let quota = quota().map(Duration::from_secs_f64);
        Stats { compilers: self.0.times.read(), cores: Some(affinity()), cpu_quota: quota, ..stats }
    }

    /// Units for each byte of its body that a function has to run in baseline code before compiling it pays.
    pub(super) fn units_per_byte(&self) -> f64 {
        let units = f32::from_bits(self.0.units_per_byte.load(Ordering::Relaxed));
        if units > 0.0 { f64::from(units) } else { policy::units_per_byte(self.0.state().load()) }
    }

    /// The same for what all runs so far have run, for compiling it for later runs.
    pub(super) fn units_per_byte_for_later(&self) -> f64 {
        policy::units_per_byte_for_later(self.0.state().load())
    }

    /// Records that the function or loop of a waiting job has run for so many units more, and whether compiling it pays
    /// by what it has run for in this run.
    pub(super) fn warm(&self, key: Key, units: u32, pays: bool) {
        self.0.state().queue.warm(key, units, pays);
    }

    /// Removes a waiting job.
    pub(super) fn withdraw(&self, key: Key) -> Option<Job> {
        self.0.state().queue.withdraw(key)
    }

    /// Adds a loop to the entries with which a waiting function is to be compiled. False if it does not wait any more.
    pub(super) fn add_loop(&self, key: Key, units: u32, offset: u32, wide_slots: bool) -> bool {
        let mut state = self.0.state();
        let Some(job) = state.queue.warm(key, units, true) else { return false };
        job.loops.push(offset);
        job.wide_slots = wide_slots;
        true
    }

    /// Whether a thread is working on a job.
    pub fn is_busy(&self) -> bool {
        !self.0.state().begun.is_empty()
    }

    /// Lets the threads go on compiling what waits for at most the time `more`. Then closes the pool and waits until its
    /// threads have ended, so that the code they are compiling is recorded: at most as long as the longest of their jobs
    /// has taken so far, within the limits.
    pub fn finish(&self, more: Duration, limits: RangeInclusive<Duration>) {
        let mut state = self.0.state();
        state.finishing = true;
        self.0.changed.notify_all();
        let is_working = |state: &mut State| state.threads > 0 && (state.queue.has_first() || !state.begun.is_empty());
        drop(self.0.ended.wait_timeout_while(state, more, is_working).unwrap_or_else(PoisonError::into_inner));
        let state = self.0.close();
        let longest = state.begun.iter().map(Instant::elapsed).max().unwrap_or_default();
        let limit = longest.max(*limits.start()).min(*limits.end());
        let wait = self.0.ended.wait_timeout_while(state, limit, |state| state.threads > 0);
        drop(wait.unwrap_or_else(PoisonError::into_inner));
    }

    /// Does a job at once, on this thread.
    pub(super) fn run(&self, job: Job) {
        let mut batch = PublishBatch::default();
        batch.add(job);
        batch.publish();
    }
}

/// Gives up a job.
fn forget(job: &Job) {
    if let Some(module) = job.module() {
        module.set(job, JobOutcome::Dropped);
    }
}

/// Waits for a change. If jobs wait that do not pay yet, it is looked at them again soon.
fn wait_for<'a>(change: &Condvar, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
    if state.queue.len() == 0 {
        return change.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    change.wait_timeout(state, LOOK_AGAIN).unwrap_or_else(PoisonError::into_inner).0
}

/// Processors on which the process may run. Asked for once, as the quota is: that takes a dozen system calls.
fn affinity() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| sys::affinity().unwrap_or(1))
}

/// Seconds of processor time that the process may use in a second, if there is a quota.
fn quota() -> Option<f64> {
    static QUOTA: OnceLock<Option<f64>> = OnceLock::new();
    *QUOTA.get_or_init(sys::cpu_quota)
}

/// Processors that the process may use at once.
fn cores() -> f64 {
    let cores = affinity() as f64;
    quota().map_or(cores, |quota| quota.min(cores))
}
