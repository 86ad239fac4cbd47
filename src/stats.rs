//! Counters of an engine's work: functions translated, compiled and loaded from the cache, with sizes and times.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A kind of work on functions (translation, compilation, loading from the cache): how many functions, and how long it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Work {
    /// Number of functions. A function that was compiled twice, such as for on-stack replacement, counts twice.
    pub functions: u64,
    /// Size of the functions' WebAssembly bodies in bytes.
    pub wasm_bytes: u64,
    /// Size of the resulting bytecode or machine code in bytes.
    pub code_bytes: u64,
    /// Processor time that the work took, of all threads together. For bytecode and for the cache, which the program waits
    /// for, the time that passed.
    pub time: Duration,
}

/// What the threads of one kind have used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ThreadTimes {
    /// Processor time that they got.
    pub cpu: Duration,
    /// Time for which they had something to do, of all of them together.
    pub wall: Duration,
}

impl ThreadTimes {
    /// The share of a processor that they got for as long as they had something to do, from 0 to 1. 1 if they had nothing to
    /// do yet.
    ///
    /// ```
    /// use wasmrun::Engine;
    /// assert_eq!(Engine::default().stats().compilers.share(), 1.0);
    /// ```
    pub fn share(&self) -> f64 {
        if self.wall.is_zero() { 1.0 } else { self.cpu.div_duration_f64(self.wall).min(1.0) }
    }
}

/// What an [`Engine`](crate::Engine) has done since it was made, for all modules; see
/// [`Engine::stats`](crate::Engine::stats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Functions translated to the interpreter's bytecode. These, and those of [`cached_bytecode`](Stats::cached_bytecode),
    /// are the functions that were interpreted at least once.
    pub interpreted: Work,
    /// Functions whose bytecode came from the cache, and the time to load it.
    pub cached_bytecode: Work,
    /// Functions compiled to baseline code, from their bytecode.
    pub baseline: Work,
    /// Functions compiled with quick settings, on-stack replacements included.
    pub quick: Work,
    /// Functions compiled with best settings, on-stack replacements included.
    pub best: Work,
    /// Functions whose machine code came from the cache, and the time to load it.
    pub cached: Work,
    /// How many of the compiled functions were compiled for on-stack replacement.
    pub loops_compiled: u64,
    /// How often interpreted code continued in native code in the middle of a loop (on-stack replacement).
    pub loops_entered: u64,
    /// Number of functions that the compiler could not compile; they stay interpreted.
    pub refused: u64,
    /// The threads that compile in the background. By what they get of the machine it is decided what is worth compiling: where
    /// they take time from the program, only what saves more.
    pub compilers: ThreadTimes,
    /// The threads that validate functions in the background.
    pub validation: ThreadTimes,
    /// Processors on which the process may run; `None` where nothing is compiled.
    pub cores: Option<usize>,
    /// Processor time that the process may use in a second, by the quota of its control group; `None` if there is none.
    pub cpu_quota: Option<Duration>,
}

/// The counters behind [`ThreadTimes`].
#[derive(Debug, Default)]
pub(crate) struct ThreadTimesCounter {
    cpu: AtomicU64,
    wall: AtomicU64,
}

impl ThreadTimesCounter {
    /// Adds work of one thread.
    pub fn add(&self, cpu: Duration, wall: Duration) {
        self.cpu.fetch_add(cpu.as_nanos() as u64, Ordering::Relaxed);
        self.wall.fetch_add(wall.as_nanos() as u64, Ordering::Relaxed);
    }

    pub fn read(&self) -> ThreadTimes {
        let get = |counter: &AtomicU64| Duration::from_nanos(counter.load(Ordering::Relaxed));
        ThreadTimes { cpu: get(&self.cpu), wall: get(&self.wall) }
    }
}

/// The counters behind [`Work`].
#[derive(Debug, Default)]
pub(crate) struct WorkCounter {
    functions: AtomicU64,
    wasm_bytes: AtomicU64,
    code_bytes: AtomicU64,
    nanoseconds: AtomicU64,
}

impl WorkCounter {
    /// Counts one function, with its sizes in bytes and the time that it took.
    pub fn add(&self, wasm_bytes: usize, code_bytes: usize, time: Duration) {
        self.functions.fetch_add(1, Ordering::Relaxed);
        self.wasm_bytes.fetch_add(wasm_bytes as u64, Ordering::Relaxed);
        self.code_bytes.fetch_add(code_bytes as u64, Ordering::Relaxed);
        self.nanoseconds.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }

    fn read(&self) -> Work {
        Work {
            functions: self.functions.load(Ordering::Relaxed),
            wasm_bytes: self.wasm_bytes.load(Ordering::Relaxed),
            code_bytes: self.code_bytes.load(Ordering::Relaxed),
            time: Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)),
        }
    }
}

/// The counters behind [`Stats`].
#[derive(Debug, Default)]
pub(crate) struct StatsCounter {
    pub interpreted: WorkCounter,
    pub cached_bytecode: WorkCounter,
    pub baseline: WorkCounter,
    pub quick: WorkCounter,
    pub best: WorkCounter,
    pub cached: WorkCounter,
    pub loops_compiled: AtomicU64,
    pub loops_entered: AtomicU64,
    pub refused: AtomicU64,
    pub validation: ThreadTimesCounter,
}

impl StatsCounter {
    /// The current counts. Work that other threads do meanwhile may be counted in part.
    pub fn read(&self) -> Stats {
        Stats {
            interpreted: self.interpreted.read(),
            cached_bytecode: self.cached_bytecode.read(),
            baseline: self.baseline.read(),
            quick: self.quick.read(),
            best: self.best.read(),
            cached: self.cached.read(),
            loops_compiled: self.loops_compiled.load(Ordering::Relaxed),
            loops_entered: self.loops_entered.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            validation: self.validation.read(),
            ..Stats::default()
        }
    }
}
