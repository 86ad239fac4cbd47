//! The JIT's part of a module: the entries of its functions, and their code.

use std::sync::atomic::{AtomicPtr, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use super::cached::Cached;
use super::code_space::CodeSpace;
use super::compile::Compiled;
use super::settings::{CodeEntry, Tier};
use super::{EngineState, lazy_compile, trampoline};
use crate::config::Strategy;
use crate::error::Result;
use crate::interp;
use crate::module::ModuleFacts;
use crate::vm::context::{VMCode, VMContext};

/// The native code of a module. Each defined function has an entry: a pointer to its code, and before there is code, to
/// the lazy-compile trampoline or the interpreter trampoline. The code lives as long as this.
pub(crate) struct CompiledModule {
    pub(super) facts: Arc<ModuleFacts>,
    pub(super) engine: Arc<EngineState>,
    pub(super) interp: Arc<interp::InterpretedModule>,
    /// A weak pointer to this, for owners that must not keep it alive.
    #[cfg_attr(not(baseline), expect(dead_code, reason = "only baseline code needs it"))]
    pub(super) this: Weak<CompiledModule>,
    /// Called with functions whose code came from the cache and is not of the best tier.
    improve: OnceLock<Box<dyn Fn(u32) + Send + Sync>>,
    entries: Box<[AtomicPtr<VMCode>]>,
    /// The [`Tier`] of the code that each entry points to; 0 for a trampoline.
    pub(super) tiers: Box<[AtomicU8]>,
    pub(super) space: Mutex<Option<CodeSpace>>,
    pub(super) cached: Cached,
}

impl CompiledModule {
    /// A module whose entries are lazy-compile trampolines; it has no entries if the engine only interprets.
    pub(crate) fn new(
        engine: &Arc<EngineState>,
        facts: &Arc<ModuleFacts>,
        interp: &Arc<interp::InterpretedModule>,
    ) -> Arc<Self> {
        let defined = match engine.config().strategy {
            Strategy::Interpreter => 0,
            Strategy::Jit | Strategy::Tiered => facts.bodies.len() as u32,
        };
        let entry = |defined| AtomicPtr::new(lazy_compile::entry(facts.defined_type(defined)).cast_mut());
        Arc::new_cyclic(|this| CompiledModule {
            facts: facts.clone(),
            engine: engine.clone(),
            interp: interp.clone(),
            this: this.clone(),
            improve: OnceLock::new(),
            entries: (0..defined).map(entry).collect(),
            tiers: (0..defined).map(|_| AtomicU8::new(0)).collect(),
            space: Mutex::new(None),
            cached: Cached::default(),
        })
    }

    /// The native code of the module of a context.
    ///
    /// # Safety
    /// `vmctx` must be live for `'a`.
    pub(crate) unsafe fn of<'a>(vmctx: *mut VMContext) -> &'a Self {
        // SAFETY: the context is live by the caller's promise; its `jit` points to a `CompiledModule` that lives as
        // long as the instance.
        unsafe { &*(*vmctx).jit.cast() }
    }

    /// Sets the function that is called with functions whose code came from the cache and is not of the best tier.
    pub(crate) fn set_improve(&self, improve: impl Fn(u32) + Send + Sync + 'static) {
        let set = self.improve.set(Box::new(improve));
        debug_assert!(set.is_ok(), "a module has one tiering");
    }

    /// Tells the tiering that a function has code that is not of the best tier.
    pub(super) fn improve(&self, defined: u32) {
        if let Some(improve) = self.improve.get() {
            improve(defined);
        }
    }

    /// The value of `VMContext::entries`.
    pub(crate) fn entries(&self) -> *const AtomicPtr<VMCode> {
        if self.entries.is_empty() { std::ptr::null() } else { self.entries.as_ptr() }
    }

    /// The value of `VMContext::tiers`.
    pub(crate) fn tiers(&self) -> *const AtomicU8 {
        if self.tiers.is_empty() { std::ptr::null() } else { self.tiers.as_ptr() }
    }

    /// The entry of a defined function.
    pub(super) fn entry(&self, defined: u32) -> &AtomicPtr<VMCode> {
        &self.entries[defined as usize]
    }

    /// The compiled code of a defined function, if there is some.
    pub(crate) fn native(&self, defined: u32) -> Option<*const VMCode> {
        // Acquire: whoever sees the tier sees the entry, which is written first.
        let tier = self.tiers.get(defined as usize)?.load(Ordering::Acquire);
        (tier != 0).then(|| self.entry(defined).load(Ordering::Acquire).cast_const())
    }

    /// What a native-call shim needs: the entry trampoline for the function's type, null if there is no memory for one,
    /// and the address of the function's entry.
    pub(crate) fn native_entry(&self, defined: u32) -> (*const VMCode, *const AtomicPtr<VMCode>) {
        let trampoline = self.engine.trampoline(trampoline::TrampolineKind::Enter, self.facts.defined_sig(defined));
        (trampoline.unwrap_or(std::ptr::null()), self.entry(defined))
    }

    /// Whether a defined function has code of the best tier.
    pub(crate) fn is_best(&self, defined: u32) -> bool {
        self.tiers[defined as usize].load(Ordering::Relaxed) == Tier::Best as u8
    }

    /// Puts compiled code into code memory, and makes the entries of functions point to it. The pointers returned are
    /// in the order of the batch. An entry keeps pointing to code of a better tier.
    ///
    /// # Errors
    /// [`Resource`](crate::ErrorKind::Resource) if there is no memory for the code; then nothing is published.
    pub(crate) fn publish(&self, batch: Vec<Compiled>) -> Result<Vec<*const VMCode>> {
        let mut space = self.space.lock().unwrap_or_else(PoisonError::into_inner);
        self.publish_in(&mut space, batch)
    }

    pub(super) fn publish_in(&self, space: &mut Option<CodeSpace>, batch: Vec<Compiled>) -> Result<Vec<*const VMCode>> {
        let engine = &self.engine;
        let space = space.get_or_insert_with(|| {
            CodeSpace::new(engine.owned_isa(Tier::Best), expected_size(&self.facts), engine.config())
        });
        let targets: Vec<_> =
            batch.iter().map(|code| (code.entry, code.defined, code.function.map(|_| code.tier))).collect();
        let codes = space.define_all(batch.into_iter().map(|code| (code.artifact, code.function)).collect())?;
        for (code, (entry, defined, tier)) in codes.iter().zip(targets) {
            if entry == CodeEntry::Function {
                self.set_entry(*code, defined, tier);
            }
        }
        Ok(codes.into_iter().map(<*mut VMCode>::cast_const).collect())
    }

    /// Makes the entry of a function point to code of this tier (`None` for an adapter), unless it points to better
    /// code. The caller holds the lock of `space`, so no other thread publishes.
    pub(super) fn set_entry(&self, code: *mut VMCode, defined: u32, tier: Option<Tier>) {
        let (place, tier) = (&self.tiers[defined as usize], tier.map_or(0, |tier| tier as u8));
        if place.load(Ordering::Relaxed) <= tier {
            self.entry(defined).store(code, Ordering::Release);
            place.store(tier, Ordering::Release);
        }
    }
}

/// Bytes of native code that a module will have if much of it is run.
fn expected_size(module: &ModuleFacts) -> usize {
    3 * module.bodies.iter().map(|body| body.len()).sum::<usize>()
}
