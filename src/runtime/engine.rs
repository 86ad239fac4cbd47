//! Engines: the settings and threads that all modules and stores of one configuration share.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::module::Module;
use crate::config::{BoundsChecks, Config, proposals};
use crate::error::{Error, Result};
use crate::module::composite::{ArrayType, FieldType, Finality, MAX_FIELDS, StructType};
use crate::module::rec_group::CompositeDef;
use crate::module::registry::RegisteredType;
use crate::module::types::{FuncType, HeapType, ValType};
use crate::printable::Printable;
use crate::stats::Stats;
use crate::sys::{self, StackPool};
use crate::vm::engine::EngineCore;
#[cfg(not(jit))]
use crate::vm::engine::Hooks;
use crate::vm::store::StoreOpaque;

/// The environment in which modules are compiled and run: the settings, the registry of types, the threads that compile, idle
/// address space, and counters.
///
/// A program usually has one. Cloning is cheap, and clones are the same engine; any thread may use it.
///
/// ```
/// use wasmrun::{Config, Engine, Strategy};
/// let engine = Engine::new(Config::new().strategy(Strategy::Interpreter).max_wasm_stack(256 << 10))?;
/// # let _ = engine;
/// # Ok::<(), wasmrun::Error>(())
/// ```
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
    /// An engine with the default settings.
    ///
    /// # Panics
    /// If the JIT does not support the host's processor; [`Engine::new`] gives an error instead.
    fn default() -> Self {
        Engine::new(&Config::new()).expect("the default settings work on this host")
    }
}

impl Engine {
    /// An engine with the given settings.
    ///
    /// # Errors
    /// [`Resource`](crate::ErrorKind::Resource) if the JIT does not support this processor;
    /// [`Usage`](crate::ErrorKind::Usage) for settings that exclude each other.
    pub fn new(config: &Config) -> Result<Self> {
        if !config.signals_based_traps && config.bounds_checks == BoundsChecks::Guard {
            return Err(Error::usage("guard pages need signals: use inline bounds checks, or signals-based traps"));
        }
        if config.async_stack_bytes() < sys::LEAST_STACK {
            let (bytes, least) = (config.async_stack_bytes(), sys::LEAST_STACK >> 10);
            return Err(Error::usage(format!(
                "{bytes} bytes are too small an `async_stack_size`: {least} KiB are needed"
            )));
        }
        if config.max_wasm_stack > config.async_stack_bytes() {
            return Err(Error::usage("`max_wasm_stack` must not be larger than `async_stack_size`, if that is set"));
        }
        proposals::check(config.features).map_err(Error::usage)?;
        let mut config = config.clone();
        config.dispatch = crate::interp::available_dispatch(config.dispatch);
        #[cfg(jit)]
        let hooks = &crate::jit::HOOKS;
        #[cfg(not(jit))]
        let hooks = &Hooks::INTERPRETER_ONLY;
        let (types, spaces, stats, epochs) = Default::default();
        let stacks = StackPool::new(config.async_stack_bytes());
        let core = Arc::new(EngineCore { config, types, spaces, stacks, stats, epochs, hooks });
        Ok(Engine(Arc::new(EngineInner {
            #[cfg(jit)]
            jit: Arc::new(crate::jit::EngineState::new(&core)?),
            core,
            #[cfg(jit)]
            pool: Arc::default(),
        })))
    }

    /// Whether this build has a JIT, which compiles to native code: on Linux on x86-64 and AArch64, with the feature `jit`.
    pub const fn has_jit() -> bool {
        cfg!(jit)
    }

    /// The part of the engine that lower rooms use.
    pub(crate) fn core(&self) -> &Arc<EngineCore> {
        &self.0.core
    }

    /// Begins the next epoch: stores whose epoch deadline is reached with it are interrupted, see
    /// [`Store::set_epoch_deadline`](crate::Store::set_epoch_deadline). Any thread may call it, usually one that does so at
    /// regular intervals. It takes a lock, so a signal handler must not call it. The time it takes depends on the number of
    /// stores to be interrupted, not on how many there are.
    ///
    /// ```
    /// use wasmrun::{Engine, Instance, Module, Store, Trap};
    /// let engine = Engine::default();
    /// let module = Module::new(&engine, "(module (func (export \"spin\") (loop (br 0))))")?;
    /// let mut store = Store::new(&engine, ());
    /// let spin = Instance::new(&mut store, &module, &[])?.get_typed_func::<(), ()>(&mut store, "spin")?;
    /// store.set_epoch_deadline(1);
    /// std::thread::spawn(move || engine.increment_epoch());
    /// assert_eq!(spin.call(&mut store, ()).unwrap_err().trap(), Some(Trap::Interrupt));
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    pub fn increment_epoch(&self) {
        self.0.core.epochs.increment();
    }

    /// Whether `store` was made for this engine.
    pub(super) fn owns(&self, store: &StoreOpaque) -> bool {
        Arc::ptr_eq(&self.0.core, &store.engine)
    }

    /// The JIT's data for the engine.
    #[cfg(jit)]
    pub(super) fn jit(&self) -> &Arc<crate::jit::EngineState> {
        &self.0.jit
    }

    /// Everything besides the module that compiled code of this engine depends on; part of the cache's keys.
    #[cfg(jit)]
    pub(crate) fn cache_settings(&self) -> crate::cache::Settings {
        crate::jit::cache_settings(&self.0.jit)
    }

    /// Counts of the engine's work so far: functions translated, compiled, and loaded from the cache.
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
        let stats = self.0.core.stats.read();
        #[cfg(jit)]
        let stats = self.0.pool.stats(stats);
        stats
    }

    /// The threads that compile in the background.
    #[cfg(jit)]
    pub(super) fn pool(&self) -> &Arc<crate::tier::Pool> {
        &self.0.pool
    }

    /// Ends compilation in the background for good. What waits may still be compiled for the time `more`. Then this waits for
    /// the functions that are being compiled, for as long again as they have taken so far, within `limits`. Otherwise a function
    /// that takes longer to compile than the program runs would never get into the cache.
    pub(crate) fn finish_compiling(
        &self,
        more: std::time::Duration,
        limits: std::ops::RangeInclusive<std::time::Duration>,
    ) {
        #[cfg(jit)]
        self.0.pool.finish(more, limits);
        #[cfg(not(jit))]
        let _ = (more, limits);
    }

    /// A function that tells whether functions are being compiled in the background. It does not keep the engine alive.
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

    /// A function that counts the time which validation in the background took. It does not keep the engine alive.
    pub(super) fn validation_counter(&self) -> impl Fn(std::time::Duration, std::time::Duration) + Send + 'static {
        let core = Arc::downgrade(&self.0.core);
        move |cpu, wall| {
            if let Some(core) = core.upgrade() {
                core.stats.validation.add(cpu, wall);
            }
        }
    }

    /// Compiles a module ahead of time, in the binary or the text format: [`Module::new`], then [`Module::serialize`].
    ///
    /// # Errors
    /// Those of both. See [`Module::deserialize`] for an example.
    pub fn precompile_module(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        Module::new(self, bytes)?.serialize()
    }

    /// Whether the bytes are what [`Module::serialize`] returns, and of what. It does not look at whether this engine could use
    /// them.
    ///
    /// ```
    /// use wasmrun::{Engine, Precompiled};
    /// # if !Engine::has_jit() { return Ok(()); }
    /// let code = Engine::default().precompile_module(b"(module)")?;
    /// assert_eq!(Engine::detect_precompiled(&code), Some(Precompiled::Module));
    /// assert_eq!(Engine::detect_precompiled(b"\0asm\x01\0\0\0"), None);
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    pub fn detect_precompiled(bytes: &[u8]) -> Option<Precompiled> {
        #[cfg(jit)]
        return crate::cache::aot::has_code(bytes).then_some(Precompiled::Module);
        #[cfg(not(jit))]
        {
            let _ = bytes;
            None
        }
    }

    /// As [`Engine::detect_precompiled`], for a file.
    ///
    /// # Errors
    /// [`Resource`](crate::ErrorKind::Resource) if the file can't be read.
    pub fn detect_precompiled_file(path: impl AsRef<Path>) -> Result<Option<Precompiled>> {
        let path = path.as_ref();
        let open = |error| Error::resource(format!("{}: {error}", Printable::line(&path.to_string_lossy())));
        #[cfg(jit)]
        return Ok(crate::cache::aot::file_has_code(&std::fs::File::open(path).map_err(open)?)
            .map_err(open)?
            .then_some(Precompiled::Module));
        #[cfg(not(jit))]
        std::fs::File::open(path).map(|_| None).map_err(open)
    }

    /// Registers a function type, so that a [`HeapType`](crate::HeapType) can refer to it. It is equal to the type of any
    /// module that defines the same one.
    ///
    /// # Panics
    /// If `ty` refers to a type of another engine.
    pub fn register_type(&self, ty: &FuncType) -> RegisteredType {
        self.0.core.types.register_func(ty)
    }

    /// Whether both are the same engine: one was cloned from the other.
    pub fn same(&self, other: &Engine) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// What compiled code is of; see [`Engine::detect_precompiled`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Precompiled {
    /// A module.
    Module,
}

impl FuncType {
    /// The type of functions from `params` to `results`, for modules and stores of `engine`.
    ///
    /// # Panics
    /// If one of the types refers to a [`RegisteredType`] of another engine.
    pub fn new(
        engine: &Engine,
        params: impl IntoIterator<Item = ValType>,
        results: impl IntoIterator<Item = ValType>,
    ) -> Self {
        let ty = FuncType::of(params, results);
        let registry = &engine.0.core.types;
        let is_foreign = |ty: &ValType| {
            let heap = ty.as_ref().map(|ty| ty.heap_type());
            heap.and_then(HeapType::as_concrete).is_some_and(|ty| !ty.is_of(registry))
        };
        assert!(!ty.params().iter().chain(ty.results()).any(is_foreign), "a type refers to a type of another engine");
        ty
    }

    /// As [`FuncType::new`], for a type that can have subtypes if it is not final, and is a subtype of `supertype`. The type
    /// is that of a module that defines the same type as a recursive group of its own.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if the supertype is final, or parameters and results do not match its, or it has too
    /// many supertypes itself; [`Resource`](crate::ErrorKind::Resource) if the engine has had 2^32 types.
    ///
    /// # Panics
    /// As for [`FuncType::new`].
    ///
    /// ```
    /// use wasmrun::{Engine, Finality, FuncType, ValType};
    /// let engine = Engine::default();
    /// let base = FuncType::with_finality_and_supertype(&engine, Finality::NonFinal, None, [], [ValType::FUNCREF])?;
    /// let sub = FuncType::with_finality_and_supertype(&engine, Finality::Final, Some(&base), [], [ValType::FUNCREF])?;
    /// assert!(engine.register_type(&sub).matches(&engine.register_type(&base)));
    /// assert_eq!(sub.supertype(), Some(base));
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    pub fn with_finality_and_supertype(
        engine: &Engine,
        finality: Finality,
        supertype: Option<&FuncType>,
        params: impl IntoIterator<Item = ValType>,
        results: impl IntoIterator<Item = ValType>,
    ) -> Result<Self> {
        let ty = FuncType::new(engine, params, results);
        if finality.is_final() && supertype.is_none() {
            return Ok(ty);
        }
        let registry = &engine.0.core.types;
        let supertype = supertype.map(|ty| registry.register_func(ty));
        let defined = registry.register_subtype(finality.is_final(), supertype.as_ref(), CompositeDef::of_func(&ty))?;
        Ok(ty.defined_as(defined))
    }
}

impl StructType {
    /// The type of structures with these fields: final, and without supertype. It is equal to that of any module that
    /// defines the same type as a recursive group of its own.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if there are more than 10,000 fields; [`Resource`](crate::ErrorKind::Resource) if the
    /// engine has had 2^32 types.
    ///
    /// # Panics
    /// If a field refers to a [`RegisteredType`] of another engine.
    pub fn new(engine: &Engine, fields: impl IntoIterator<Item = FieldType>) -> Result<Self> {
        Self::with_finality_and_supertype(engine, Finality::Final, None, fields)
    }

    /// As [`StructType::new`], for a type that can have subtypes if it is not final, and is a subtype of `supertype`, whose
    /// fields come first.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if the supertype is final, or the first fields do not match its, or it has too many
    /// supertypes itself, or there are more than 10,000 fields; [`Resource`](crate::ErrorKind::Resource) if the engine has had
    /// 2^32 types.
    ///
    /// # Panics
    /// As for [`StructType::new`].
    pub fn with_finality_and_supertype(
        engine: &Engine,
        finality: Finality,
        supertype: Option<&StructType>,
        fields: impl IntoIterator<Item = FieldType>,
    ) -> Result<Self> {
        let fields: Vec<_> = fields.into_iter().take(MAX_FIELDS + 1).collect();
        if fields.len() > MAX_FIELDS {
            return Err(Error::usage(format!("a structure has more than {MAX_FIELDS} fields")));
        }
        let (supertype, def) = (supertype.map(StructType::registered_type), CompositeDef::of_struct(&fields));
        let ty = engine.0.core.types.register_subtype(finality.is_final(), supertype, def)?;
        Ok(StructType::of(ty, fields))
    }
}

impl ArrayType {
    /// The type of arrays of such elements: final, and without supertype. It is equal to that of any module that defines the
    /// same type as a recursive group of its own.
    ///
    /// # Panics
    /// If the element refers to a [`RegisteredType`] of another engine, or the engine has had 2^32 types.
    pub fn new(engine: &Engine, element: FieldType) -> Self {
        Self::with_finality_and_supertype(engine, Finality::Final, None, element).expect("the engine has numbers left")
    }

    /// As [`ArrayType::new`], for a type that can have subtypes if it is not final, and is a subtype of `supertype`.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if the supertype is final, or the element does not match its, or it has too many
    /// supertypes itself; [`Resource`](crate::ErrorKind::Resource) if the engine has had 2^32 types.
    ///
    /// # Panics
    /// If the element refers to a [`RegisteredType`] of another engine.
    pub fn with_finality_and_supertype(
        engine: &Engine,
        finality: Finality,
        supertype: Option<&ArrayType>,
        element: FieldType,
    ) -> Result<Self> {
        let (supertype, def) = (supertype.map(ArrayType::registered_type), CompositeDef::of_array(&element));
        let ty = engine.0.core.types.register_subtype(finality.is_final(), supertype, def)?;
        Ok(ArrayType::of(ty, element))
    }
}
