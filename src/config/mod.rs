//! The settings of an engine, and of its cache.
//!
//! What may be here: settings and what they mean. What may not: the code that goes by them.

pub(crate) mod cache;

use cache::Cache;

/// How functions are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Strategy {
    /// Every function is interpreted.
    Interpreter,
    /// Every function is compiled to native code, with the best settings, before its first run. Where the target has
    /// no JIT (see [`Engine::has_jit`](crate::Engine::has_jit)), functions are interpreted.
    Jit,
    /// Functions are interpreted at first; what is hot is compiled in the background, and entered at its next call or in
    /// the middle of a loop. Where the target has no JIT, this is [`Strategy::Interpreter`].
    Tiered,
}

/// When [`Strategy::Tiered`] takes code for hot.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tiering {
    /// By what was measured to be best.
    Measured,
    /// For tests: each function at its first call, to be native from the second on, and each loop at its first pass; the
    /// program waits for the compiler.
    AtOnce,
    /// The same for loops alone; functions are never entered but interpreted.
    AtLoops,
    /// For tests: each function runs baseline code from its first call on, where the target has that, and no other.
    Baseline,
    /// The same, and each loop native at its first pass.
    BaselineAtLoops,
}

/// How compiled code finds out that a memory access is out of bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BoundsChecks {
    /// The index is compared with the memory's length before the access.
    Inline,
    /// The access itself faults: 4 GiB of address space and a guard are reserved for every memory.
    Guard,
}

/// Which profiler is told what functions compiled code is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Profile {
    /// None.
    None,
    /// `perf` and others that read a map of symbols, from `/tmp/perf-PID.map`.
    PerfMap,
    /// `perf` and `samply`, by `jit-PID.dump` in the current folder, which has the code itself too: record with
    /// `perf record -k mono`, then `perf inject --jit`.
    JitDump,
}

/// How the interpreter goes from one instruction to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dispatch {
    /// Each handler jumps to the next one's. In builds without optimisation, and on targets other than x86-64 and
    /// AArch64, this is [`Dispatch::Loop`].
    TailCall,
    /// Handlers return to a loop.
    Loop,
}

/// The settings of an [`Engine`](crate::Engine).
///
/// ```
/// use wasmrun::{BoundsChecks, Config, Engine, Strategy};
/// let mut config = Config::new();
/// config.strategy(Strategy::Jit).bounds_checks(BoundsChecks::Guard);
/// let engine = Engine::new(&config)?;
/// # Ok::<(), wasmrun::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub(crate) strategy: Strategy,
    pub(crate) bounds_checks: BoundsChecks,
    pub(crate) dispatch: Dispatch,
    pub(crate) max_wasm_stack: usize,
    pub(crate) tiering: Tiering,
    pub(crate) profile: Profile,
    pub(crate) lazy_validation: bool,
    pub(crate) cache: Cache,
    pub(crate) quick_code: bool,
    pub(crate) lazy_validation_from: usize,
    pub(crate) signals_based_traps: bool,
    pub(crate) max_exception_bytes: usize,
    pub(crate) collect_always: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

impl Config {
    /// The default settings: interpreted first and compiled when hot where the target has the JIT, inline bounds checks,
    /// 1 MiB of stack, no cache.
    pub fn new() -> Self {
        Config {
            strategy: if cfg!(jit) { Strategy::Tiered } else { Strategy::Interpreter },
            bounds_checks: BoundsChecks::Inline,
            dispatch: Dispatch::TailCall,
            max_wasm_stack: 1 << 20,
            tiering: Tiering::Measured,
            profile: Profile::None,
            lazy_validation: false,
            cache: Cache::off(),
            quick_code: false,
            lazy_validation_from: 256 << 10,
            signals_based_traps: true,
            max_exception_bytes: 256 << 20,
            collect_always: false,
        }
    }

    /// Sets what is taken for hot, for tests.
    #[doc(hidden)]
    pub fn tiering(&mut self, tiering: Tiering) -> &mut Self {
        self.tiering = tiering;
        self
    }

    /// Sets how functions are run.
    pub fn strategy(&mut self, strategy: Strategy) -> &mut Self {
        self.strategy = strategy;
        self
    }

    /// Sets how compiled code checks memory accesses; the interpreter always compares.
    pub fn bounds_checks(&mut self, bounds_checks: BoundsChecks) -> &mut Self {
        self.bounds_checks = bounds_checks;
        self
    }

    /// Sets whether compiled code traps by instructions that the processor traps at, which signals tell of (the default),
    /// or by calls, without any signal.
    ///
    /// With signals, making an [`Engine`](crate::Engine) that compiles installs handlers for `SIGILL`, `SIGFPE`, `SIGSEGV` and `SIGBUS`;
    /// what is not a trap of compiled code goes to the handlers that were there before. The signals are unblocked on each
    /// thread that enters compiled code for the first time. After that, a host must not block them on such a thread, nor
    /// replace the handlers without calling ours for what is not its own: a trap would end the process.
    ///
    /// Without, nothing is installed and no signal is ever caused, for hosts that own their signals. Compiled code is
    /// larger and slower: every memory access is checked in full, divisions and conversions are checked first. It can't
    /// be combined with [`BoundsChecks::Guard`].
    ///
    /// ```
    /// use wasmrun::{Config, Engine};
    /// let engine = Engine::new(Config::new().signals_based_traps(false))?;
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    pub fn signals_based_traps(&mut self, signals: bool) -> &mut Self {
        self.signals_based_traps = signals;
        self
    }

    /// Sets the interpreter's dispatch.
    pub fn dispatch(&mut self, dispatch: Dispatch) -> &mut Self {
        self.dispatch = dispatch;
        self
    }

    /// Sets which profiler is told the names of compiled functions. Interpreted ones have none: all are the interpreter to
    /// a profiler.
    pub fn profile(&mut self, profile: Profile) -> &mut Self {
        self.profile = profile;
        self
    }

    /// For tests: has [`Strategy::Jit`] compile everything as [`Strategy::Tiered`] does first, quickly.
    #[doc(hidden)]
    pub fn quick_code(&mut self, quick: bool) -> &mut Self {
        self.quick_code = quick;
        self
    }

    /// Sets how many bytes of stack WebAssembly code may use: of the native stack when compiled, of a stack of its own
    /// when interpreted. Deeper calls are [`Trap::StackOverflow`](crate::Trap::StackOverflow).
    ///
    /// The native stack is never used beyond what the thread has, whatever is set here, and a quarter of that (32 to 256 KiB)
    /// is left to host functions. On a coroutine's stack it is the same, if the stack has an inaccessible page below it;
    /// the first call from outside WebAssembly code takes some microseconds longer there. A stack of less than 96 KiB, or
    /// without such a page, is a [`Resource`](crate::ErrorKind::Resource) error. The default is 1 MiB.
    pub fn max_wasm_stack(&mut self, bytes: usize) -> &mut Self {
        self.max_wasm_stack = bytes;
        self
    }

    /// Sets how many bytes the exceptions of a store may take that something refers to. A throw beyond that is a
    /// [`Resource`](crate::ErrorKind::Resource) error, and so may be one within the last eighth. The default is 256 MiB.
    pub fn max_exception_bytes(&mut self, bytes: usize) -> &mut Self {
        self.max_exception_bytes = bytes;
        self
    }

    /// For tests: has stores collect at every occasion.
    #[doc(hidden)]
    pub fn collect_always(&mut self, always: bool) -> &mut Self {
        self.collect_always = always;
        self
    }

    /// Sets whether the functions of a module are validated when it is made (the default) or, each, before it first
    /// runs.
    ///
    /// Lazily, [`Module::from_file`](crate::Module::from_file) and [`Module::new`](crate::Module::new) validate all of
    /// a module but the bodies of its functions, and those too if they are short (see
    /// [`Config::lazy_validation_from`]). A body is then validated when the function is first called, by the thread that calls it, and in the background otherwise: a
    /// thread of low priority begins with that after a tenth of a second, and ends with the module.
    ///
    /// Nothing unvalidated ever runs. What is different is when an invalid function is found: calling it gives the
    /// [`Invalid`](crate::ErrorKind::Invalid) error that making the module would have given, as a trap would; where it
    /// is never called, the module works.
    ///
    /// ```
    /// use wasmrun::{Config, Engine, Module};
    /// let engine = Engine::new(Config::new().lazy_validation(true))?;
    /// let module = Module::new(&engine, "(module (func (export \"f\")))")?;
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    pub fn lazy_validation(&mut self, lazy: bool) -> &mut Self {
        self.lazy_validation = lazy;
        self
    }

    /// Sets where compiled code is kept for later runs. The default is nowhere.
    ///
    /// What was compiled is written when a module is dropped; see [`Module::flush_cache`](crate::Module::flush_cache).
    pub fn cache(&mut self, cache: Cache) -> &mut Self {
        self.cache = cache;
        self
    }

    /// Sets how many bytes of code a module must have to be validated lazily. The default is 256 KiB, which take a
    /// millisecond or two.
    pub fn lazy_validation_from(&mut self, code_bytes: usize) -> &mut Self {
        self.lazy_validation_from = code_bytes;
        self
    }

    /// Whether a module with so many bytes of code is validated lazily.
    pub(crate) fn is_lazy_for(&self, code_bytes: usize) -> bool {
        self.lazy_validation && code_bytes >= self.lazy_validation_from
    }
}
