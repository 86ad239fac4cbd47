//! Functions as the interpreter runs them, and the table of a module's functions.
//!
//! Every call enters a [`InterpretedFunction`]. For a function with native code this is a native-call shim: a single
//! instruction,
//! `native`, which runs the native code in the frame that the call has made.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Instant;

use super::backtrace;
#[cfg(baseline)]
use super::baseline::{BaselineWork, Origin};
use super::counter::{Counter, TRANSITION};
#[cfg(baseline)]
use super::dispatch;
use super::machine::{HEADER, SLACK};
use super::op::{Plain, word_bc};
use super::portable;
use super::tiers::Tiers;
use super::translate::{self, Extras, Translation};
use super::tries::{Tries, Try};
use crate::config::Strategy;
use crate::error::{Frame, FrameSource, Result};
use crate::module::ModuleFacts;
use crate::vm::context::{VMCode, VMContext};
use crate::vm::engine::EngineCore;
use crate::vm::store::AliasableBox;

/// A function as the interpreter runs it: bytecode, baseline code, or a native-call shim. The fields that calls read
/// come first, in one cache line.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct InterpretedFunction {
    /// First instruction, in `words`.
    pub entry: *const u64,
    /// Native code that starts the function: it expects the ip at `entry` and a pointer to this in the accumulator, and
    /// zeroes the locals.
    #[cfg(baseline)]
    pub start: *const u8,
    /// Bytes of a frame, slack included.
    pub frame_bytes: usize,
    /// Slot of the frame's header.
    pub header: u32,
    /// The range of slots that are zeroed on entry, four at a time: slots after the range may be zeroed too, which are
    /// not read before they are written.
    pub zeroed_from: u32,
    pub zeroed_to: u32,
    /// Slots of the parameters.
    pub params: u32,
    /// Whether the frame has scratch slots, between header and locals.
    pub wide_slots: bool,
    pub defined: u32,
    /// The bytecode. In an `Arc`, so that pointers into it stay valid when this is moved.
    pub words: Arc<[u64]>,
    pub tries: Tries,
    /// Whether the bytecode was recorded for the cache, or need not be.
    pub is_recorded: AtomicBool,
    /// Whether baseline code of it was requested.
    #[cfg(baseline)]
    pub is_requested: AtomicBool,
    /// The baseline code that was compiled from it, or null.
    #[cfg(baseline)]
    pub baseline: AtomicPtr<InterpretedFunction>,
    /// If this is baseline code: the bytecode that it was compiled from.
    #[cfg(baseline)]
    pub origin: Option<Box<Origin>>,
}

impl InterpretedFunction {
    /// The bytecode of a function: from the cache if it is there, else translated now.
    fn new(module: &InterpretedModule, defined: u32) -> Result<Self> {
        // Wall-clock time, not the thread's: reading that takes a system call, and translating most functions little
        // more.
        let started = Instant::now();
        let (facts, stats) = (&module.facts, &module.engine.stats);
        let mut kept = None;
        if let Some(tiers) = module.tiers() {
            tiers.load_bytecode(defined, &mut |bytes| kept = portable::from_bytes(facts, defined, bytes));
        }
        let (translation, work, is_recorded) = match kept {
            Some(translation) => (translation, &stats.cached_bytecode, true),
            None => (translate::function(facts, defined, module.extras(), false)?, &stats.interpreted, false),
        };
        let code = InterpretedFunction { is_recorded: is_recorded.into(), ..Self::of(facts, defined, translation) };
        work.add(facts.bodies[defined as usize].len(), 8 * code.words.len(), started.elapsed());
        Ok(code)
    }

    fn of(module: &ModuleFacts, defined: u32, translation: Translation) -> Self {
        let Translation { words, header, zeroed, frame, wide_slots, tries, .. } = translation;
        let words: Arc<[u64]> = words.into();
        InterpretedFunction {
            entry: words.as_ptr(),
            #[cfg(baseline)]
            start: dispatch::start(),
            frame_bytes: 8 * (frame as usize + SLACK as usize),
            header,
            zeroed_from: zeroed.start,
            zeroed_to: zeroed.end,
            params: module.defined_type(defined).param_slots() as u32,
            wide_slots,
            defined,
            words,
            tries: Tries::new(tries),
            is_recorded: AtomicBool::new(false),
            #[cfg(baseline)]
            is_requested: AtomicBool::new(false),
            #[cfg(baseline)]
            baseline: AtomicPtr::default(),
            #[cfg(baseline)]
            origin: None,
        }
    }

    /// The native-call shim of a function; `entry` holds the entry trampoline for its type, and the address of its
    /// entry.
    fn native_call_shim(module: &ModuleFacts, defined: u32, entry: (*const VMCode, *const AtomicPtr<VMCode>)) -> Self {
        let ty = module.defined_type(defined);
        let header = ty.param_slots().max(ty.result_slots()) as u32;
        let op = word_bc(Plain::Native.op(), header as u16, defined);
        let (trampoline, entry) = entry;
        let translation = Translation {
            words: vec![op, trampoline as u64, entry as u64],
            header,
            zeroed: 0..0,
            frame: header + HEADER,
            wide_slots: false,
            tries: Vec::new(),
            positions: Vec::new(),
        };
        InterpretedFunction {
            is_recorded: AtomicBool::new(true),
            #[cfg(baseline)]
            start: dispatch::start_native(),
            ..Self::of(module, defined, translation)
        }
    }

    /// Zeroes the locals that may be read before they are set.
    ///
    /// # Safety
    /// `base` must be a frame of the function that fits the stack.
    #[inline(always)]
    pub unsafe fn zero_locals(&self, base: *mut u64) {
        let mut at = base.wrapping_add(self.zeroed_from as usize);
        let end = base.wrapping_add(self.zeroed_to as usize);
        while at < end {
            // SAFETY: within the frame, or the slack after it, both of which the caller promises.
            unsafe { at.cast::<[u64; 4]>().write([0; 4]) };
            at = at.wrapping_add(4);
        }
    }
}

/// The functions of a module as the interpreter runs them; each is translated on its first call.
pub(crate) struct InterpretedModule {
    /// What calls of the defined functions enter; null for functions that were not called yet.
    pub(super) codes: Box<[AtomicPtr<InterpretedFunction>]>,
    pub(super) facts: Arc<ModuleFacts>,
    pub(super) engine: Arc<EngineCore>,
    /// A weak pointer to this, for the frames of errors, which keep it alive.
    pub(super) this: Weak<InterpretedModule>,
    /// How hot the defined functions are; empty unless the engine tiers.
    counters: Box<[Counter]>,
    /// The other tiers; set once, if the engine's strategy has some.
    tiers: OnceLock<Weak<dyn Tiers>>,
    all: Mutex<OwnedFunctions>,
}

/// All functions ever made for a module. They live as long as the module, because calls may be running them.
#[derive(Default)]
pub(super) struct OwnedFunctions {
    /// By the address of the end of its words, to find the function of an instruction.
    by_end: BTreeMap<usize, AliasableBox<InterpretedFunction>>,
    /// The bytecode or baseline code of functions whose calls enter a native-call shim.
    pub replaced_by_shims: HashMap<u32, *const InterpretedFunction>,
    #[cfg(baseline)]
    pub baseline_work: BaselineWork,
}

// SAFETY: the pointers are to functions that `by_end` owns; any thread may use these.
unsafe impl Send for OwnedFunctions {}

impl OwnedFunctions {
    pub fn add(&mut self, code: InterpretedFunction) -> *const InterpretedFunction {
        let code = AliasableBox::new(code);
        let at = code.as_ptr().cast_const();
        self.by_end.insert(code.words.as_ptr_range().end as usize, code);
        at
    }
}

impl InterpretedModule {
    /// A module with no function translated.
    pub fn new(engine: &Arc<EngineCore>, facts: &Arc<ModuleFacts>) -> Arc<Self> {
        let functions = facts.bodies.len();
        let counted = if cfg!(jit) && engine.config.strategy == Strategy::Tiered { functions } else { 0 };
        Arc::new_cyclic(|this| InterpretedModule {
            codes: (0..functions).map(|_| AtomicPtr::new(ptr::null_mut())).collect(),
            facts: facts.clone(),
            engine: engine.clone(),
            this: this.clone(),
            counters: (0..counted).map(|_| Counter::default()).collect(),
            tiers: OnceLock::new(),
            all: Mutex::default(),
        })
    }

    /// The interpreter's functions of the module of a context.
    ///
    /// # Safety
    /// `vmctx` must be live for `'a`.
    pub unsafe fn of<'a>(vmctx: *mut VMContext) -> &'a Self {
        // SAFETY: the context is live by the caller's promise; its `interp` points to a `InterpretedModule` that lives
        // as long as the instance.
        unsafe { &*(*vmctx).interp.cast() }
    }

    /// Connects the other tiers. No function may have been called yet.
    #[cfg_attr(not(jit), expect(dead_code, reason = "there are no other tiers"))]
    pub fn set_tiers(&self, tiers: Weak<dyn Tiers>) {
        let set = self.tiers.set(tiers);
        debug_assert!(set.is_ok(), "a module has one tiering");
    }

    /// The other tiers, if there are any.
    pub(super) fn tiers(&self) -> Option<Arc<dyn Tiers>> {
        self.tiers.get()?.upgrade()
    }

    /// Whether functions count how hot they are: only if there are other tiers.
    pub fn counts(&self) -> bool {
        !self.counters.is_empty()
    }

    /// What the module's bytecode does besides what its functions do.
    pub(super) fn extras(&self) -> Extras {
        Extras { counts: self.counts(), consumes_fuel: self.engine.config.consume_fuel }
    }

    /// The counters by defined index; empty if nothing is counted.
    pub fn counters(&self) -> &[Counter] {
        &self.counters
    }

    /// Counts the cost of the transition when native code calls an interpreted function.
    #[cfg_attr(not(jit), expect(dead_code, reason = "there is no native code"))]
    pub fn count_transition(&self, defined: u32) {
        if let Some(counter) = self.counters.get(defined as usize) {
            // If the budget is used up now, the function's next counting instruction finds it.
            counter.pass(TRANSITION);
        }
    }

    pub(super) fn codes(&self) -> *const AtomicPtr<InterpretedFunction> {
        self.codes.as_ptr()
    }

    pub(super) fn all(&self) -> MutexGuard<'_, OwnedFunctions> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What calls of a function enter; the function is translated now if it was not called yet.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) if the function is invalid, and those of reading the module's file.
    pub(super) fn get(&self, defined: u32) -> Result<*const InterpretedFunction> {
        let place = &self.codes[defined as usize];
        let present = place.load(Ordering::Acquire);
        if !present.is_null() {
            return Ok(present);
        }
        // A function that earlier runs compiled is not even translated.
        let code = match self.tiers().filter(|tiers| tiers.starts_native(defined)) {
            Some(tiers) => InterpretedFunction::native_call_shim(&self.facts, defined, tiers.native_entry(defined)),
            None => InterpretedFunction::new(self, defined)?,
        };
        // The lock is held until the code is published, so that its range is found as soon as the code runs.
        let mut all = self.all();
        let present = place.load(Ordering::Acquire);
        if !present.is_null() {
            return Ok(present);
        }
        let code = all.add(code);
        place.store(code.cast_mut(), Ordering::Release);
        Ok(code)
    }

    /// The bytecode or baseline code of a function, also if calls of it enter a native-call shim.
    pub(super) fn translated(&self, defined: u32) -> Result<*const InterpretedFunction> {
        let code = self.get(defined)?;
        // SAFETY: code lives as long as the module.
        if !unsafe { (*code).is_native_call_shim() } {
            return Ok(code);
        }
        if let Some(code) = self.all().replaced_by_shims.get(&defined) {
            return Ok(*code);
        }
        let code = InterpretedFunction::new(self, defined)?;
        let mut all = self.all();
        let code = all.add(code);
        Ok(*all.replaced_by_shims.entry(defined).or_insert(code))
    }

    /// Makes calls of a function run its native code from now on.
    #[cfg_attr(not(jit), expect(dead_code, reason = "there is no native code"))]
    pub fn redirect_calls(&self, defined: u32, entry: (*const VMCode, *const AtomicPtr<VMCode>)) {
        let place = &self.codes[defined as usize];
        // SAFETY: published code lives as long as the module.
        if unsafe { place.load(Ordering::Acquire).as_ref() }.is_some_and(InterpretedFunction::is_native_call_shim) {
            return;
        }
        let shim = InterpretedFunction::native_call_shim(&self.facts, defined, entry);
        let mut all = self.all();
        let present = place.load(Ordering::Acquire).cast_const();
        // SAFETY: published code lives as long as the module.
        if let Some(present) = unsafe { present.as_ref() } {
            if present.is_native_call_shim() {
                return;
            }
            all.replaced_by_shims.insert(defined, present);
        }
        let shim = all.add(shim);
        place.store(shim.cast_mut(), Ordering::Release);
    }

    /// Bytes of the bodies of the functions that [`to_record`](Self::to_record) would give.
    #[cfg_attr(not(jit), expect(dead_code, reason = "there is no cache"))]
    pub fn unrecorded_bytes(&self) -> usize {
        let new = self.codes.iter().zip(&self.facts.bodies).filter(|(place, _)| {
            // SAFETY: published code lives as long as the module.
            let code = unsafe { place.load(Ordering::Acquire).as_ref() };
            code.is_some_and(|code| !code.bytecode().is_recorded.load(Ordering::Relaxed))
        });
        new.map(|(_, body)| body.len()).sum()
    }

    /// The bytecode of translated functions as bytes for later runs, with the defined index: of functions that have no
    /// native code, and whose bytecode was not given before.
    #[cfg_attr(not(jit), expect(dead_code, reason = "there is no cache"))]
    pub fn to_record(&self) -> impl Iterator<Item = (u32, Vec<u8>)> {
        (0..).zip(&self.codes).filter_map(|(defined, place)| {
            // SAFETY: published code lives as long as the module.
            let code = unsafe { place.load(Ordering::Acquire).as_ref()? };
            let code = code.bytecode();
            let is_new = !code.is_recorded.swap(true, Ordering::Relaxed);
            is_new.then(|| (defined, portable::to_bytes(code, &self.facts)))
        })
    }

    /// The bytecode that an instruction belongs to, and the index of the instruction's word in it. If the instruction
    /// is in baseline code, the bytecode is what that was compiled from.
    pub(super) fn find(&self, ip: *const u64) -> Option<(&InterpretedFunction, u32)> {
        let all = self.all();
        let (_, code) = all.by_end.range(ip as usize + 1..).next()?;
        // SAFETY: code lives as long as the module.
        let code: &InterpretedFunction = unsafe { &*code.as_ptr() };
        let word = (ip as usize).checked_sub(code.entry as usize)? / 8;
        Some(code.origin_of(word as u32))
    }
}

impl FrameSource for InterpretedModule {
    /// Positions are word indices in the function's bytecode.
    fn resolve(&self, defined: u32, position: usize) -> Frame {
        self.resolve_all(defined, &[position]).remove(0)
    }

    fn resolve_all(&self, defined: u32, positions: &[usize]) -> Vec<Frame> {
        let offsets = backtrace::offsets_of(self, defined, positions);
        offsets.map(|offset| self.facts.frame(defined, offset)).collect()
    }

    /// At a call, an interpreted function is not running before its frame is entered.
    fn is_entry(&self, _: u32, _: usize) -> bool {
        false
    }

    fn import_called_at(&self, defined: u32, offset: usize) -> Option<(&str, &str)> {
        self.facts.import_called_at(defined, offset)
    }

    fn module_id(&self) -> usize {
        self.facts.id()
    }
}

#[cfg(not(baseline))]
impl InterpretedModule {
    /// There is no baseline code on this target.
    pub(super) fn request_baseline(&self, _: &InterpretedFunction, _: u8) -> bool {
        true
    }
}

#[cfg(not(baseline))]
impl InterpretedFunction {
    pub fn after_count(&self, _: u32) -> Option<*const u64> {
        None
    }

    fn bytecode(&self) -> &InterpretedFunction {
        self
    }

    fn origin_of(&self, word: u32) -> (&InterpretedFunction, u32) {
        (self, word)
    }
}

impl InterpretedFunction {
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// The bytecode of the clauses of the `try`s around an instruction, innermost first.
    pub fn clauses(&self, word: u32) -> impl Iterator<Item = &[u64; 2]> {
        self.tries.around(word).flat_map(|t| {
            let clauses = if t.delegates { &[][..] } else { &self.words[t.at as usize..] };
            let count = clauses.first().map_or(0, |first| (first >> 16) as u16);
            clauses.get(1..).unwrap_or_default().as_chunks().0[..count.into()].iter()
        })
    }

    /// The range of slots that are zeroed on entry.
    pub fn zeroed(&self) -> Range<u32> {
        self.zeroed_from..self.zeroed_to
    }

    pub fn tries(&self) -> &[Try] {
        self.tries.all()
    }

    /// Whether this is a native-call shim.
    pub fn is_native_call_shim(&self) -> bool {
        self.words[0] as u16 == Plain::Native.op()
    }

    /// Slots of the frame, without the slack after it.
    pub fn frame_slots(&self) -> usize {
        self.frame_bytes / 8 - SLACK as usize
    }

    /// Index among the module's defined functions.
    pub fn defined(&self) -> u32 {
        self.defined
    }
}
