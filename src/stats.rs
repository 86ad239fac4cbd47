//! What an engine has done: counted as it is done, read when asked.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Functions that were brought into another form, and what that took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Work {
    /// Number of functions; one that is entered at two places counts twice.
    pub functions: u64,
    /// Bytes of their WebAssembly bodies.
    pub wasm_bytes: u64,
    /// Bytes of what was made of them: bytecode or machine code.
    pub code_bytes: u64,
    /// Processor time it took, of all threads together; for bytecode and what comes from the
    /// cache, which the program waits for, the time that passed.
    pub time: Duration,
}

/// What an [`Engine`](crate::Engine) has done since it was made, for all modules; see
/// [`Engine::stats`](crate::Engine::stats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Functions translated to the interpreter's bytecode. With those of [`cached_bytecode`](Stats::cached_bytecode) these
    /// were interpreted at least once.
    pub interpreted: Work,
    /// Functions whose bytecode came from the cache, with the time it took to get it.
    pub cached_bytecode: Work,
    /// Functions that native code was made for from their bytecode.
    pub baseline: Work,
    /// Functions compiled with quick settings, on-stack replacements included.
    pub quick: Work,
    /// Functions compiled with best settings, on-stack replacements included.
    pub best: Work,
    /// Functions whose machine code came from the cache, with the time it took to get it.
    pub cached: Work,
    /// How many of the compiled functions were for on-stack replacement.
    pub loops_compiled: u64,
    /// How many times native code took over a running loop of interpreted code.
    pub loops_entered: u64,
    /// Functions that the compiler refused; they stay interpreted.
    pub refused: u64,
}

/// What [`Work`] is counted in.
#[derive(Debug, Default)]
pub(crate) struct WorkCounter {
    functions: AtomicU64,
    wasm_bytes: AtomicU64,
    code_bytes: AtomicU64,
    nanoseconds: AtomicU64,
}

impl WorkCounter {
    /// Adds one function.
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

/// What [`Stats`] are counted in.
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
}

impl StatsCounter {
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
        }
    }
}
