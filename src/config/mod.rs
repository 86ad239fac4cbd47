//! The settings of an engine, of its cache, and of a store.
//!
//! What may be here: settings, their defaults and documentation. What may not: code that acts on them.

pub(crate) mod budget;
pub(crate) mod cache;
pub(crate) mod proposals;

use cache::Cache;
use proposals::Proposal;
use wasmparser::WasmFeatures;

/// How functions are executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Strategy {
    /// Every function is interpreted.
    Interpreter,
    /// Every function is compiled to native code, with the best settings, at its first call. Where there is no JIT (see
    /// [`Engine::has_jit`](crate::Engine::has_jit)), this is [`Strategy::Interpreter`].
    Jit,
    /// Functions are interpreted at first. Warm ones get baseline code where the target has it; hot ones are compiled in the
    /// background, and entered at their next call or in the middle of a loop. Where there is no JIT, this is
    /// [`Strategy::Interpreter`].
    Tiered,
}

/// The names that wasmtime has for two of them.
#[allow(non_upper_case_globals)]
impl Strategy {
    /// The default: [`Strategy::Tiered`] where there is a JIT, [`Strategy::Interpreter`] elsewhere.
    pub const Auto: Strategy = if cfg!(jit) { Strategy::Tiered } else { Strategy::Interpreter };
    /// [`Strategy::Jit`].
    pub const Cranelift: Strategy = Strategy::Jit;
}

/// How well code is compiled, for [`Config::cranelift_opt_level`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OptLevel {
    /// As quickly as possible.
    None,
    /// For speed.
    Speed,
    /// For speed and size.
    SpeedAndSize,
}

/// When garbage collections run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Collections {
    /// When enough has been allocated, and a large heap is marked in steps.
    #[default]
    Measured,
    /// For tests: whenever one may, whole.
    Always,
    /// For tests: one after the other, and at each allocation little more is marked than one object.
    Steps,
}

/// When [`Strategy::Tiered`] compiles functions and loops.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tiering {
    /// When they are hot, by thresholds that were measured.
    Measured,
    /// For tests: each function at its first call, so that it is native from the second on, and each loop at its first
    /// iteration. The program waits for the compiler.
    AtOnce,
    /// For tests: each loop at its first iteration, as with `AtOnce`; functions are always entered interpreted.
    AtLoops,
    /// For tests: never. Each function runs in baseline code from its first call on, where the target has that.
    Baseline,
    /// For tests: as `Baseline`, and each loop is compiled at its first iteration.
    BaselineAtLoops,
}

/// How compiled code finds out that a memory access is out of bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BoundsChecks {
    /// A comparison of the index with the memory's length before the access. Leaves out checks that are proved to hold.
    Inline,
    /// A fault of the access itself: while such code runs, every memory has 4 GiB of address space and a guard, so no check is
    /// needed. Needs
    /// [`Config::signals_based_traps`].
    Guard,
}

/// How compiled functions are made known to a profiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Profile {
    /// Not at all.
    None,
    /// By a symbol map, `/tmp/perf-PID.map`, as `perf` reads it.
    PerfMap,
    /// By a jitdump file, `jit-PID.dump` in the current directory, as `perf` and `samply` read it. It has the machine code
    /// too. For `perf`, record with `perf record -k mono`, then run `perf inject --jit`.
    JitDump,
}

/// How the interpreter dispatches from one instruction to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dispatch {
    /// Each instruction's handler ends with a tail call of the next one's. In builds without optimisation, and on targets
    /// other than x86-64 and AArch64, this is [`Dispatch::Loop`].
    TailCall,
    /// Each handler returns to a loop, which calls the next.
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
    pub(crate) async_stack_size: Option<usize>,
    pub(crate) tiering: Tiering,
    pub(crate) profile: Profile,
    pub(crate) lazy_validation: bool,
    pub(crate) cache: Cache,
    pub(crate) quick_code: bool,
    pub(crate) lazy_validation_from: usize,
    pub(crate) signals_based_traps: bool,
    pub(crate) epoch_interruption: bool,
    pub(crate) max_exception_bytes: usize,
    pub(crate) collect: Collections,
    pub(crate) consume_fuel: bool,
    pub(crate) pack_memories: bool,
    pub(crate) features: WasmFeatures,
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

impl Config {
    /// The default settings: [`Strategy::Tiered`] where there is a JIT, inline bounds checks, 1 MiB of stack, no cache.
    pub fn new() -> Self {
        Config {
            strategy: Strategy::Auto,
            bounds_checks: BoundsChecks::Inline,
            dispatch: Dispatch::TailCall,
            max_wasm_stack: 1 << 20,
            async_stack_size: None,
            tiering: Tiering::Measured,
            profile: Profile::None,
            lazy_validation: false,
            cache: Cache::off(),
            quick_code: false,
            lazy_validation_from: 256 << 10,
            signals_based_traps: true,
            epoch_interruption: false,
            max_exception_bytes: 256 << 20,
            collect: Collections::Measured,
            consume_fuel: false,
            pack_memories: false,
            features: proposals::SUPPORTED,
        }
    }

    /// For tests: sets when functions and loops are compiled.
    #[doc(hidden)]
    pub fn tiering(&mut self, tiering: Tiering) -> &mut Self {
        self.tiering = tiering;
        self
    }

    /// Sets how functions are executed.
    pub fn strategy(&mut self, strategy: Strategy) -> &mut Self {
        self.strategy = strategy;
        self
    }

    /// Sets how compiled code checks memory accesses; the interpreter always compares. The default is
    /// [`BoundsChecks::Inline`].
    pub fn bounds_checks(&mut self, bounds_checks: BoundsChecks) -> &mut Self {
        self.bounds_checks = bounds_checks;
        self
    }

    /// Sets whether compiled code may trap by processor exceptions, which the system delivers as signals (the default), or
    /// does so by calls only.
    ///
    /// With signals, making an [`Engine`](crate::Engine) that compiles installs handlers for `SIGILL`, `SIGFPE`, `SIGSEGV` and
    /// `SIGBUS`. Signals that are no traps of compiled code are passed to the handlers that were installed before. The
    /// signals are unblocked on each thread that enters compiled code for the first time. After that, the host must not block
    /// them on that thread, and handlers that it installs must call the previous ones for signals that are not the host's
    /// own; otherwise a trap would end the process.
    ///
    /// Without signals, no handlers are installed and traps cause no signal: for hosts that own their signals. Compiled code
    /// is then larger and slower, because every memory access, division and conversion is checked in full. It can't be
    /// combined with [`BoundsChecks::Guard`]: [`Engine::new`](crate::Engine::new) gives an error.
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

    /// Whether epochs interrupt stores from the start: the epoch deadline of a new store is then the epoch in which the engine
    /// was made, so its code ends with [`Trap::Interrupt`](crate::Trap::Interrupt) unless
    /// [`Store::set_epoch_deadline`](crate::Store::set_epoch_deadline) is called first. By default a new store has no epoch
    /// deadline, and may be given one all the same: the code is the same either way.
    ///
    /// ```
    /// use wasmrun::{Config, Engine, Instance, Module, Store, Trap};
    /// let engine = Engine::new(Config::new().epoch_interruption(true))?;
    /// let module = Module::new(&engine, "(module (func (export \"f\")))")?;
    /// let mut store = Store::new(&engine, ());
    /// let f = Instance::new(&mut store, &module, &[])?.get_typed_func::<(), ()>(&mut store, "f")?;
    /// assert_eq!(f.call(&mut store, ()).unwrap_err().trap(), Some(Trap::Interrupt));
    /// store.set_epoch_deadline(1);
    /// f.call(&mut store, ())?;
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    pub fn epoch_interruption(&mut self, enable: bool) -> &mut Self {
        self.epoch_interruption = enable;
        self
    }

    /// Sets how the interpreter dispatches. The default is [`Dispatch::TailCall`].
    pub fn dispatch(&mut self, dispatch: Dispatch) -> &mut Self {
        self.dispatch = dispatch;
        self
    }

    /// Sets how compiled functions are made known to a profiler. Interpreted functions are not: a profiler shows them all as
    /// the interpreter's own functions. The default is [`Profile::None`].
    pub fn profile(&mut self, profile: Profile) -> &mut Self {
        self.profile = profile;
        self
    }

    /// For tests: has [`Strategy::Jit`] compile everything with settings that take less time.
    #[doc(hidden)]
    pub fn quick_code(&mut self, quick: bool) -> &mut Self {
        self.quick_code = quick;
        self
    }

    /// Sets how many bytes of stack WebAssembly code may use: of the native stack for compiled code, of a separate value stack
    /// for interpreted code. Deeper calls trap with [`Trap::StackOverflow`](crate::Trap::StackOverflow). The default is 1 MiB.
    ///
    /// Whatever is set here, compiled code stays within the native stack of the thread, and leaves a quarter of it (32 to 256
    /// KiB) to host functions. The same holds on a coroutine's stack if it has an inaccessible page below it; there, each
    /// call from outside WebAssembly code takes some microseconds longer. A call on a stack of less than 96 KiB, or on a
    /// coroutine's stack without such a page, is a [`Resource`](crate::ErrorKind::Resource) error.
    pub fn max_wasm_stack(&mut self, bytes: usize) -> &mut Self {
        self.max_wasm_stack = bytes;
        self
    }

    /// Does nothing: backtraces are always kept, because they cost next to nothing before they are asked for. It is here for
    /// code that was written for other runtimes with this API.
    pub fn wasm_backtrace(&mut self, _enable: bool) -> &mut Self {
        self
    }

    /// Does nothing: a function is compiled quickly when it is warm, and well when it is hot; [`Strategy::Jit`] compiles
    /// everything well. It is here for code that was written for other runtimes with this API.
    pub fn cranelift_opt_level(&mut self, _level: OptLevel) -> &mut Self {
        self
    }

    /// Does nothing: a result that is a NaN always has the same bits, on all tiers and processors. They are those of the first
    /// operand that is a NaN, made quiet, or else of x86-64's default, so they need not be canonical. It is here for code
    /// that was written for other runtimes with this API.
    pub fn cranelift_nan_canonicalization(&mut self, _enable: bool) -> &mut Self {
        self
    }

    /// Does nothing: relaxed vector instructions always give the same results, on all tiers and processors. It is here for
    /// code that was written for other runtimes with this API.
    pub fn relaxed_simd_deterministic(&mut self, _enable: bool) -> &mut Self {
        self
    }

    /// As [`Config::profile`].
    pub fn profiler(&mut self, profile: Profile) -> &mut Self {
        self.profile(profile)
    }

    /// Does nothing: stores of every engine may be called with and without `async`, as the calls themselves say. It is here for
    /// code that was written for other runtimes with this API.
    pub fn async_support(&mut self, _enable: bool) -> &mut Self {
        self
    }

    /// Sets how many bytes of native stack each asynchronous call ([`Func::call_async`](crate::Func::call_async)) has, for
    /// WebAssembly code and for the host functions that it calls. The default is 2 MiB, or 1 MiB more than
    /// [`Config::max_wasm_stack`] if that is more.
    ///
    /// Whatever the other setting says, a quarter of the stack (32 to 256 KiB) is left to host functions. Memory is used for
    /// what has been touched only; an engine keeps idle stacks of up to 64 MiB together for the next calls.
    ///
    /// [`Engine::new`](crate::Engine::new) gives an error if this is set to less than `max_wasm_stack` or 96 KiB.
    ///
    /// ```
    /// use wasmrun::{Config, Engine};
    /// let engine = Engine::new(Config::new().max_wasm_stack(128 << 10).async_stack_size(512 << 10))?;
    /// assert!(Engine::new(Config::new().max_wasm_stack(1 << 20).async_stack_size(512 << 10)).is_err());
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    pub fn async_stack_size(&mut self, bytes: usize) -> &mut Self {
        self.async_stack_size = Some(bytes);
        self
    }

    /// The bytes of native stack that each asynchronous call has.
    pub(crate) fn async_stack_bytes(&self) -> usize {
        self.async_stack_size.unwrap_or_else(|| self.max_wasm_stack.saturating_add(1 << 20).max(2 << 20))
    }

    /// Sets how many bytes the live exceptions of a store may take together. A throw that would exceed that is a
    /// [`Resource`](crate::ErrorKind::Resource) error; so may be a throw when less than an eighth of it is free. The default
    /// is 256 MiB.
    pub fn max_exception_bytes(&mut self, bytes: usize) -> &mut Self {
        self.max_exception_bytes = bytes;
        self
    }

    /// For tests: has stores run a garbage collection whenever they may.
    #[doc(hidden)]
    pub fn collect_always(&mut self, always: bool) -> &mut Self {
        self.collect = if always { Collections::Always } else { Collections::Measured };
        self
    }

    /// For tests: has stores run one garbage collection after the other, in the smallest steps.
    #[doc(hidden)]
    pub fn collect_in_steps(&mut self, steps: bool) -> &mut Self {
        self.collect = if steps { Collections::Steps } else { Collections::Measured };
        self
    }

    /// Sets whether WebAssembly code consumes fuel, of which a store gets an amount by
    /// [`Store::set_fuel`](crate::Store::set_fuel). Code that needs more than is left traps with
    /// [`Trap::OutOfFuel`](crate::Trap::OutOfFuel). The default is not to; then code does not count either.
    ///
    /// What is consumed does not depend on the strategy or any other setting, on the processor, or on what is compiled when: a
    /// program that does the same consumes the same. (Where the stack ends does depend on them, so a program that traps with
    /// [`Trap::StackOverflow`](crate::Trap::StackOverflow) may have consumed more or less.) In units:
    ///
    /// | what | units |
    /// |---|---|
    /// | entering a function | 1, and 1 for each 64 locals that it declares |
    /// | `nop`, `drop`, `block`, `loop`, `else`, `end`, `return`, `unreachable` | 0 |
    /// | any other instruction | 1 |
    /// | `memory.fill`, `memory.copy`, `memory.init` | 1 more for each whole 64 bytes |
    /// | `memory.grow` that succeeds | 1 more for each 64 bytes that are new |
    /// | `table.fill`, `table.copy`, `table.init` | 1 more for each whole 8 elements |
    /// | `table.grow` that succeeds | 1 more for each whole 8 elements that are new |
    /// | calling a host function | 1, and 1 for each parameter and result, 2 if that is a `v128` |
    /// | calling a function of WASI | 1 more for each whole 64 bytes of buffers and paths that are passed |
    ///
    /// Instructions are paid for in runs without a branch, a label or a call in them, before the first of a run is executed;
    /// after any other trap the rest of the run is paid for too. What depends on the size is paid when the instruction has
    /// found its operands valid, before it changes anything. When too little is left, all of it is gone: the store then has no
    /// fuel. A host function may consume more for its own work, see [`Caller::consume_fuel`](crate::Caller::consume_fuel).
    /// Instantiation consumes nothing but what a start function does.
    ///
    /// ```
    /// use wasmrun::{Config, Engine, Instance, Module, Store, Trap};
    /// let engine = Engine::new(Config::new().consume_fuel(true))?;
    /// let module = Module::new(&engine, r#"(module (func (export "spin") (loop (br 0))))"#)?;
    /// let mut store = Store::new(&engine, ());
    /// store.set_fuel(10_000)?;
    /// let instance = Instance::new(&mut store, &module, &[])?;
    /// let spin = instance.get_typed_func::<(), ()>(&mut store, "spin")?;
    /// assert_eq!(spin.call(&mut store, ()).unwrap_err().trap(), Some(Trap::OutOfFuel));
    /// assert_eq!(store.get_fuel()?, 0);
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    pub fn consume_fuel(&mut self, consume: bool) -> &mut Self {
        self.consume_fuel = consume;
        self
    }

    /// For tests: packs the small memories of idle stores, and takes back their value stacks, as if there were many. Stacks that
    /// are given out have words in them that nobody may see.
    #[doc(hidden)]
    pub fn pack_memories(&mut self, pack: bool) -> &mut Self {
        self.pack_memories = pack;
        self
    }

    /// Sets whether the functions of a module are validated lazily, each before its first run, instead of all when the module
    /// is made (the default).
    ///
    /// With lazy validation, [`Module::from_file`](crate::Module::from_file) and [`Module::new`](crate::Module::new) validate
    /// everything but the bodies of functions; modules with little code are still validated in full (see
    /// [`Config::lazy_validation_from`]). The thread that first calls a function validates its body. A background thread of
    /// low priority, which starts after a tenth of a second and ends with the module, validates the others.
    ///
    /// Nothing unvalidated ever runs. The only difference is when an invalid function is noticed: the call of it fails with
    /// the [`Invalid`](crate::ErrorKind::Invalid) error that making the module would have given. A module works as long as
    /// its invalid functions are not called.
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

    /// Sets the cache for compiled code. The default is [`Cache::off`].
    ///
    /// Compiled code is written to the cache when its module is dropped; see
    /// [`Module::flush_cache`](crate::Module::flush_cache).
    pub fn cache(&mut self, cache: Cache) -> &mut Self {
        self.cache = cache;
        self
    }

    /// Sets how many bytes of function bodies a module must have for [`Config::lazy_validation`] to apply to it. The default
    /// is 256 KiB, whose validation takes a millisecond or two.
    pub fn lazy_validation_from(&mut self, code_bytes: usize) -> &mut Self {
        self.lazy_validation_from = code_bytes;
        self
    }

    /// Whether a module with so many bytes of function bodies is validated lazily.
    pub(crate) fn is_lazy_for(&self, code_bytes: usize) -> bool {
        self.lazy_validation && code_bytes >= self.lazy_validation_from
    }
}

macro_rules! switches {
    ($($(#[$doc:meta])* $switch:ident;)*) => {
        /// # Proposals
        /// Each of these turns a WebAssembly proposal on or off. A module that uses one that is off is refused with a
        /// [`Disabled`](crate::ErrorKind::Disabled) error, which names the proposal and the switch. All that are supported are
        /// on by default; turning one on that is not supported is an error of [`Engine::new`](crate::Engine::new), and so is
        /// turning one off that another one needs. What is compiled with one on is not used where it is off: neither from
        /// the cache nor from a `.cwasm` file.
        ///
        /// ```
        /// use wasmrun::{Config, Engine, ErrorKind, Module};
        /// let engine = Engine::new(Config::new().wasm_simd(false).wasm_relaxed_simd(false))?;
        /// let error = Module::new(&engine, "(module (func (param v128)))").unwrap_err();
        /// assert!(matches!(error.kind(), ErrorKind::Disabled { proposal: "simd", switch: "wasm_simd", .. }));
        ///
        /// assert!(Engine::new(Config::new().wasm_simd(false)).is_err(), "relaxed SIMD needs it");
        /// assert!(Engine::new(Config::new().wasm_stack_switching(true)).is_err(), "not supported");
        /// # Ok::<(), wasmrun::Error>(())
        /// ```
        impl Config {
            $(
                $(#[$doc])*
                pub fn $switch(&mut self, enable: bool) -> &mut Self {
                    self.features = Proposal::of_switch(stringify!($switch)).set(self.features, enable);
                    self
                }
            )*
        }

        /// The methods of [`Config`] that turn proposals on and off.
        #[cfg(test)]
        const SWITCHES: &[&str] = &[$(stringify!($switch)),*];
    };
}

switches! {
    /// Bulk memory operations: `memory.copy`, `table.init` and the like. The reference types need them.
    wasm_bulk_memory;
    /// References as values, and more than one table. Exceptions and typed function references need them.
    wasm_reference_types;
    /// Functions and blocks with several results.
    wasm_multi_value;
    /// Vectors of 128 bits. Relaxed vector instructions need them.
    wasm_simd;
    /// Relaxed vector instructions.
    wasm_relaxed_simd;
    /// Tail calls.
    wasm_tail_call;
    /// Arithmetic in constant expressions.
    wasm_extended_const;
    /// More than one memory.
    wasm_multi_memory;
    /// Exceptions with `exnref`.
    wasm_exceptions;
    /// Arithmetic with integers of 128 bits.
    wasm_wide_arithmetic;
    /// Shared memories ([`SharedMemory`](crate::SharedMemory)), and atomic instructions on any memory.
    wasm_threads;
    /// Exceptions as they were before `exnref`: `try`, `catch`, `catch_all`, `delegate` and `rethrow`.
    wasm_legacy_exceptions;
    /// Memories with 64-bit addresses, and tables with 64-bit indices.
    wasm_memory64;
    /// References to functions of one type, types of references that are not null, and tables with an initial value.
    wasm_function_references;
    /// Structures, arrays and `i31`, which are garbage-collected, and casts of references; types that refer to one another.
    wasm_gc;
    /// Memories with pages of one byte.
    wasm_custom_page_sizes;
    /// Import sections that name a module once for several imports.
    wasm_compact_imports;
    /// Continuations: not supported.
    wasm_stack_switching;
    /// Shared functions, tables and globals: not supported.
    wasm_shared_everything_threads;
    /// Components: not supported.
    wasm_component_model;
}

#[cfg(test)]
mod tests {
    use super::proposals::{PROPOSALS, SUPPORTED};
    use super::*;

    #[test]
    fn each_proposal_has_a_switch() {
        let of_proposals: Vec<_> = PROPOSALS.iter().map(|proposal| proposal.switch).collect();
        assert_eq!(of_proposals, SWITCHES);
        assert_eq!(Config::new().features, SUPPORTED);
    }

    /// What the README calls each proposal that is supported and no part of WebAssembly 2.0.
    const IN_README: [(&str, &str); 13] = [
        ("relaxed-simd", "relaxed SIMD"),
        ("tail-call", "tail calls"),
        ("extended-const", "extended constant expressions"),
        ("multi-memory", "multiple memories"),
        ("exception-handling", "exception handling (with `exnref`"),
        ("wide-arithmetic", "wide arithmetic"),
        ("legacy-exceptions", "in the legacy form"),
        ("threads", "shared memories"),
        ("function-references", "typed function references"),
        ("gc", "garbage-collected structures and arrays"),
        ("compact-import-section", "compact import sections"),
        ("memory64", "memories with 64-bit addresses"),
        ("custom-page-sizes", "pages of one byte"),
    ];

    #[test]
    fn the_readme_names_the_supported_proposals() {
        let readme = include_str!("../../README.md");
        let (_, section) = readme.split_once("## What it runs").unwrap();
        let section = section.split("\n## ").next().unwrap().replace('\n', " ");
        for proposal in PROPOSALS.iter().filter(|proposal| proposal.is_supported) {
            let is_in_version_2 = proposal.is_on(wasmparser::WasmFeatures::WASM2);
            let name = IN_README.iter().find(|(name, _)| *name == proposal.name);
            assert_eq!(name.is_none(), is_in_version_2, "{}", proposal.name);
            assert!(name.is_none_or(|(_, text)| section.contains(text)), "{} is not in the README", proposal.name);
        }
    }
}
