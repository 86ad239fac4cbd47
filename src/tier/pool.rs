//! The threads that compile: as many as there are cores to spare, at a lower priority than the program's.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::queue::{Job, Key, Queue};
use super::{Made, Outcome, make, publish};
use crate::module::ModuleInner;

/// The most threads: more than these find nothing to do.
const MAX_THREADS: usize = 8;

/// By how much the priority is lower ("niceness").
#[cfg(target_os = "linux")]
const NICER: i32 = 5;

/// Stack of a thread that compiles; the compiler needs more for large functions than threads have by default.
const STACK: usize = 8 << 20;

/// The compiling threads of an engine; started when there is something to do, ended when the engine goes.
#[derive(Default)]
pub(crate) struct Pool(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// There is something in the queue, or the end has come.
    changed: Condvar,
    /// A thread has ended.
    ended: Condvar,
}

#[derive(Default)]
struct State {
    queue: Queue,
    threads: usize,
    idle: usize,
    /// The threads are to end.
    closed: bool,
}

impl Drop for Pool {
    /// Ends the threads: those that compile, after the function they are at.
    fn drop(&mut self) {
        self.0.state().closed = true;
        self.0.changed.notify_all();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compiles what comes, until the pool is dropped.
    fn work(&self) {
        let mut cold = Vec::new();
        let mut batch = Batch::default();
        let mut state = self.state();
        loop {
            if state.closed {
                drop(state);
                batch.publish();
                self.state().threads -= 1;
                return self.ended.notify_all();
            }
            let job = state.queue.take(&mut cold);
            if job.is_none() && cold.is_empty() && batch.is_empty() {
                state.idle += 1;
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
                continue;
            }
            drop(state);
            cold.drain(..).for_each(|job| forget(&job));
            match job {
                Some(job) => batch.add(job),
                None => batch.publish(),
            }
            state = self.state();
        }
    }
}

/// Compiled code that is put into its place together: each time, the pages of code are made writable and executable
/// again, which stops the program for some microseconds.
#[derive(Default)]
struct Batch {
    made: Vec<(Job, Made)>,
    /// The module that all of it is of.
    module: Option<Arc<ModuleInner>>,
    begun: Option<Instant>,
}

impl Batch {
    /// As long as code waits for more.
    const PATIENCE: Duration = Duration::from_millis(1);

    fn is_empty(&self) -> bool {
        self.made.is_empty()
    }

    /// Compiles what a job asks for.
    fn add(&mut self, job: Job) {
        let Some(module) = job.module() else { return };
        if self.module.as_ref().is_some_and(|other| !Arc::ptr_eq(other, &module)) {
            self.publish();
        }
        let made = make(&module, &job);
        self.made.push((job, made));
        self.module = Some(module);
        if self.begun.get_or_insert_with(Instant::now).elapsed() >= Self::PATIENCE {
            self.publish();
        }
    }

    /// Puts what there is into its place.
    fn publish(&mut self) {
        self.begun = None;
        if let Some(module) = self.module.take() {
            publish(&module, std::mem::take(&mut self.made));
        }
    }
}

impl Pool {
    /// Has a job done in the background.
    pub(super) fn add(&self, job: Job) {
        let mut state = self.0.state();
        let refused = state.queue.add(job);
        if state.idle > 0 {
            self.0.changed.notify_one();
        } else if state.threads < state.queue.len().min(threads()) {
            let shared = self.0.clone();
            let builder = thread::Builder::new().name("wasmrun compiler".into()).stack_size(STACK);
            let spawned = builder.spawn(move || {
                lower_priority();
                shared.work();
            });
            // Without any thread all goes on interpreted.
            state.threads += usize::from(spawned.is_ok());
        }
        drop(state);
        if let Some(job) = refused {
            forget(&job);
        }
    }

    /// Takes note that a waiting job has become more urgent.
    pub(super) fn warm(&self, key: Key) {
        self.0.state().queue.warm(key);
    }

    /// Takes a waiting job out that is not wanted any more.
    pub(super) fn withdraw(&self, key: Key) -> Option<Job> {
        self.0.state().queue.withdraw(key)
    }

    /// Has a function that waits be compiled so that it can be entered at one more loop. False if it does not wait any
    /// more.
    pub(super) fn add_loop(&self, key: Key, offset: u32, far: bool) -> bool {
        let mut state = self.0.state();
        let Some(job) = state.queue.warm(key) else { return false };
        job.loops.push(offset);
        job.far = far;
        true
    }

    /// Has the threads end, and waits so long at most until they have: until what they are at is compiled and recorded.
    pub fn finish(&self, limit: Duration) {
        let mut state = self.0.state();
        state.closed = true;
        self.0.changed.notify_all();
        let wait = self.0.ended.wait_timeout_while(state, limit, |state| state.threads > 0);
        drop(wait.unwrap_or_else(PoisonError::into_inner));
    }

    /// Does a job at once, on this thread.
    pub(super) fn run(&self, job: Job) {
        let mut batch = Batch::default();
        batch.add(job);
        batch.publish();
    }
}

/// Gives a job up.
fn forget(job: &Job) {
    if let Some(module) = job.module() {
        module.tier.set(job, Outcome::Dropped);
    }
}

/// One core is the program's. Asked for once: that takes a dozen system calls.
fn threads() -> usize {
    static THREADS: OnceLock<usize> = OnceLock::new();
    *THREADS.get_or_init(|| thread::available_parallelism().map_or(1, |cores| (cores.get() - 1).clamp(1, MAX_THREADS)))
}

fn lower_priority() {
    // SAFETY: plain calls. On Linux the "process" with a thread's id is that thread.
    #[cfg(target_os = "linux")]
    unsafe {
        let thread = libc::gettid() as libc::id_t;
        libc::setpriority(libc::PRIO_PROCESS, thread, libc::getpriority(libc::PRIO_PROCESS, thread) + NICER);
    }
}
