//! The threads that compile: as many as there are cores to spare, at a lower priority than the program's; and one
//! thread of the lowest priority for long jobs that only improve native code.

use std::ops::RangeInclusive;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::queue::{Job, Key, Queue};
use super::{CompileResult, JobOutcome, ModuleTier, compile_job, publish};
use crate::sys::lower_priority;

/// The most threads: more find nothing to do.
const MAX_THREADS: usize = 8;

/// Niceness of the compiling threads.
const NICER: i32 = 5;

/// Niceness of the thread for long jobs: it runs when the others do not.
const NICEST: i32 = 19;

/// Stack of a thread that compiles; the compiler needs more for large functions than threads have by default.
const STACK: usize = 8 << 20;

/// The compiling threads of an engine: started when there is something to do, ended when the engine is dropped.
#[derive(Default)]
pub(crate) struct Pool(Arc<PoolShared>);

#[derive(Default)]
struct PoolShared {
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
    /// The threads are to end.
    closed: bool,
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

    /// Waits for `changed`. There may be nothing to do after all.
    fn wait<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.idle += 1;
        let mut state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        state.idle -= 1;
        state
    }

    /// Waits for `calm`, on the thread for long jobs.
    fn wait_long<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.long = LongThread::Idle;
        let mut state = self.calm.wait(state).unwrap_or_else(PoisonError::into_inner);
        state.long = LongThread::Busy;
        state
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
            let job = if long { state.queue.take_long() } else { state.queue.take(&mut cold) };
            if job.is_none() && cold.is_empty() && batch.is_empty() {
                self.wake_long(&state);
                state = if long { self.wait_long(state) } else { self.wait(state) };
                continue;
            }
            let begun = Instant::now();
            state.begun.push(begun);
            drop(state);
            cold.drain(..).for_each(|job| forget(&job));
            match job {
                Some(job) => batch.add(job),
                None => batch.publish(),
            }
            state = self.state();
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
        } else if state.threads - others < state.queue.len().min(threads()) {
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
            lower_priority(if long { NICEST } else { NICER });
            shared.work(long);
        });
        spawned.is_ok()
    }

    /// Records that the function or loop of a waiting job was found hot again.
    pub(super) fn warm(&self, key: Key) {
        self.0.state().queue.warm(key);
    }

    /// Removes a waiting job.
    pub(super) fn withdraw(&self, key: Key) -> Option<Job> {
        self.0.state().queue.withdraw(key)
    }

    /// Adds a loop to the entries with which a waiting function is to be compiled. False if it does not wait any more.
    pub(super) fn add_loop(&self, key: Key, offset: u32, wide_slots: bool) -> bool {
        let mut state = self.0.state();
        let Some(job) = state.queue.warm(key) else { return false };
        job.loops.push(offset);
        job.wide_slots = wide_slots;
        true
    }

    /// Whether a thread is working on a job.
    pub fn is_busy(&self) -> bool {
        !self.0.state().begun.is_empty()
    }

    /// Closes the pool and waits until its threads have ended, so that the code they are compiling is recorded. Waits
    /// at most as long as the longest of their jobs has taken so far, within the limits.
    pub fn finish(&self, limits: RangeInclusive<Duration>) {
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

/// The most threads for jobs that are not long: one for each core but the program's. Computed once, because that takes
/// a dozen system calls.
fn threads() -> usize {
    static THREADS: OnceLock<usize> = OnceLock::new();
    *THREADS.get_or_init(|| thread::available_parallelism().map_or(1, |cores| (cores.get() - 1).clamp(1, MAX_THREADS)))
}
