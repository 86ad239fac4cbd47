//! Engines: what all modules and stores of one configuration share.

use std::fmt;
use std::sync::Arc;

use crate::config::{BoundsChecks, Config};
use crate::error::{Error, Result};
use crate::module::registry::{RegisteredType, TypeRegistry};
use crate::module::types::FuncType;
use crate::stats::{Stats, StatsCounter};
use crate::vm::space::Spaces;

/// The settings with which modules are compiled, and what modules of the same settings share. Cheap to clone; may be
/// used from any thread.
#[derive(Clone)]
pub struct Engine(Arc<EngineInner>);

struct EngineInner {
    config: Config,
    types: Arc<TypeRegistry>,
    spaces: Arc<Spaces>,
    jit: crate::jit::EngineState,
    stats: StatsCounter,
    #[cfg(jit)]
    pool: crate::tier::Pool,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("config", &self.0.config).finish_non_exhaustive()
    }
}

impl Default for Engine {
    /// An engine of the default settings.
    ///
    /// # Panics
    /// If the host's processor lacks what compiled code needs; [`Engine::new`] gives an error instead.
    fn default() -> Self {
        Engine::new(&Config::new()).expect("the default settings work on this host")
    }
}

impl Engine {
    /// An engine of the given settings.
    ///
    /// # Errors
    /// [`Resource`](crate::ErrorKind::Resource) if compiled code can't be had on this processor;
    /// [`Usage`](crate::ErrorKind::Usage) for settings that exclude each other.
    pub fn new(config: &Config) -> Result<Self> {
        if !config.signals_based_traps && config.bounds_checks == BoundsChecks::Guard {
            return Err(Error::usage("guard pages need signals: bounds checks must be inline without them"));
        }
        let mut config = config.clone();
        config.dispatch = crate::interp::available_dispatch(config.dispatch);
        let jit = crate::jit::EngineState::new(&config)?;
        Ok(Engine(Arc::new(EngineInner {
            config,
            types: Arc::default(),
            spaces: Arc::default(),
            jit,
            stats: StatsCounter::default(),
            #[cfg(jit)]
            pool: Default::default(),
        })))
    }

    /// Whether this build can compile to native code.
    pub const fn has_jit() -> bool {
        cfg!(jit)
    }

    /// The settings.
    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    #[cfg_attr(not(jit), expect(dead_code, reason = "only the JIT has engine-wide state"))]
    pub(crate) fn jit(&self) -> &crate::jit::EngineState {
        &self.0.jit
    }

    /// What the engine has done so far: functions interpreted, compiled, taken from the cache.
    ///
    /// ```
    /// use wasmrun::{Config, Engine, Instance, Module, Store, Strategy};
    /// let engine = Engine::new(Config::new().strategy(Strategy::Interpreter))?;
    /// let module = Module::new(&engine, "(module (func $a) (func $b) (start $a))")?;
    /// Instance::new(Store::new(&engine, ()), &module, &[])?;
    /// assert_eq!(engine.stats().interpreted.functions, 1);
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    pub fn stats(&self) -> Stats {
        self.0.stats.read()
    }

    /// Where what is done is counted.
    pub(crate) fn counted(&self) -> &StatsCounter {
        &self.0.stats
    }

    /// The threads that compile in the background.
    #[cfg(jit)]
    pub(crate) fn pool(&self) -> &crate::tier::Pool {
        &self.0.pool
    }

    /// Ends compiling in the background, for good, after what is being compiled now; waits for that as long again as it has
    /// taken so far, within the limits. What takes the compiler longer than a program runs would otherwise never be in
    /// the cache.
    pub(crate) fn finish_compiling(&self, limits: std::ops::RangeInclusive<std::time::Duration>) {
        #[cfg(jit)]
        self.0.pool.finish(limits);
        #[cfg(not(jit))]
        let _ = limits;
    }

    /// Whether functions are being compiled in the background.
    pub(crate) fn is_compiling(&self) -> bool {
        #[cfg(jit)]
        return self.0.pool.is_busy();
        #[cfg(not(jit))]
        false
    }

    /// The address space that its stores have given back.
    pub(crate) fn spaces(&self) -> &Arc<Spaces> {
        &self.0.spaces
    }

    /// Whether both are handles of one engine.
    pub fn same(&self, other: &Engine) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Makes a function type known to the engine, so that a [`HeapType`](crate::HeapType) can name it. Final, and without
    /// supertype, it is the same type as that of all modules that define it so.
    ///
    /// # Panics
    /// If it refers to a type of another engine.
    pub fn register_type(&self, ty: &FuncType) -> RegisteredType {
        self.0.types.register_func(ty)
    }

    /// The types of all its modules.
    pub(crate) fn types(&self) -> &Arc<TypeRegistry> {
        &self.0.types
    }

    /// The function type behind a number that some live [`RegisteredType`] holds.
    pub(crate) fn sig_type(&self, number: u32) -> Arc<FuncType> {
        self.0.types.func_type(number)
    }
}
