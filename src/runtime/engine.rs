//! Engines: what all modules and stores of one configuration share.

use std::fmt;
use std::sync::Arc;

use crate::config::{BoundsChecks, Config};
use crate::error::{Error, Result};
use crate::module::registry::RegisteredType;
use crate::module::types::FuncType;
use crate::stats::Stats;
use crate::vm::engine::EngineCore;
#[cfg(not(jit))]
use crate::vm::engine::Hooks;
use crate::vm::store::StoreOpaque;

/// The settings with which modules are compiled, and what modules of the same settings share. Cheap to clone; may be
/// used from any thread.
#[derive(Clone)]
pub struct Engine(Arc<EngineInner>);

struct EngineInner {
    core: Arc<EngineCore>,
    #[cfg(jit)]
    jit: Arc<crate::jit::EngineState>,
    #[cfg(jit)]
    pool: Arc<crate::tier::Pool>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("config", &self.0.core.config).finish_non_exhaustive()
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
        #[cfg(jit)]
        let hooks = &crate::jit::HOOKS;
        #[cfg(not(jit))]
        let hooks = &Hooks::INTERPRETER_ONLY;
        let (types, spaces, stats) = Default::default();
        let core = Arc::new(EngineCore { config, types, spaces, stats, hooks });
        Ok(Engine(Arc::new(EngineInner {
            #[cfg(jit)]
            jit: Arc::new(crate::jit::EngineState::new(&core)?),
            core,
            #[cfg(jit)]
            pool: Arc::default(),
        })))
    }

    /// Whether this build can compile to native code.
    pub const fn has_jit() -> bool {
        cfg!(jit)
    }

    /// What all rooms see of it.
    pub(crate) fn core(&self) -> &Arc<EngineCore> {
        &self.0.core
    }

    /// Whether a store is one of this engine's.
    pub(super) fn is_of(&self, store: &StoreOpaque) -> bool {
        Arc::ptr_eq(&self.0.core, &store.engine)
    }

    #[cfg(jit)]
    pub(super) fn jit(&self) -> &Arc<crate::jit::EngineState> {
        &self.0.jit
    }

    /// What code of this engine depends on besides the module, as the cache writes it down.
    #[cfg(jit)]
    pub(crate) fn cache_settings(&self) -> crate::cache::Settings {
        crate::jit::cache_settings(&self.0.jit)
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
        self.0.core.stats.read()
    }

    /// The threads that compile in the background.
    #[cfg(jit)]
    pub(super) fn pool(&self) -> &Arc<crate::tier::Pool> {
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

    /// Tells whether functions are being compiled in the background; it keeps no engine alive.
    pub(super) fn compiling_probe(&self) -> impl Fn() -> bool + Send + 'static {
        #[cfg(jit)]
        let pool = Arc::downgrade(&self.0.pool);
        move || {
            #[cfg(jit)]
            return pool.upgrade().is_some_and(|pool| pool.is_busy());
            #[cfg(not(jit))]
            false
        }
    }

    /// Makes a function type known to the engine, so that a [`HeapType`](crate::HeapType) can name it. Final, and without
    /// supertype, it is the same type as that of all modules that define it so.
    ///
    /// # Panics
    /// If it refers to a type of another engine.
    pub fn register_type(&self, ty: &FuncType) -> RegisteredType {
        self.0.core.types.register_func(ty)
    }

    /// Whether both are handles of one engine.
    pub fn same(&self, other: &Engine) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
