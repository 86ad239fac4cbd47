//! Translated functions, and where a module keeps them.
//!
//! What calls lead to is a [`Code`] in any case. That of a function that has native code is a stub: one instruction,
//! which runs the native code in the frame that the call has made.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Instant;

use super::backtrace;
#[cfg(baseline)]
use super::baseline::{Making, Origin};
use super::counter::{Counter, TRANSITION};
#[cfg(baseline)]
use super::dispatch;
use super::machine::{HEADER, SLACK};
use super::op::{Plain, word_bc};
use super::portable;
use super::tiers::Tiers;
use super::translate::{self, Translation};
use super::tries::{Tries, Try};
use crate::config::Strategy;
use crate::error::{Frame, FrameSource, Result};
use crate::module::ModuleFacts;
use crate::vm::context::{VMCode, VMContext};
use crate::vm::engine::EngineCore;
use crate::vm::store::AliasableBox;

/// A translated function. What calls read comes first, in one line of the processor's cache.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Code {
    /// First instruction, in `words`.
    pub entry: *const u64,
    /// Native code to jump to with the ip at `entry` and this code in the accumulator: it zeroes the locals, and runs the function.
    #[cfg(baseline)]
    pub start: *const u8,
    /// Bytes of a frame, slack included.
    pub frame_bytes: usize,
    /// Slot of the frame's header.
    pub header: u32,
    /// The slots that are zeroed on entry, in steps of four: what follows is not read before it is written.
    pub zeroed_from: u32,
    pub zeroed_to: u32,
    /// Slots of the parameters.
    pub params: u32,
    /// Whether the frame has scratch slots, between header and locals.
    pub wide_slots: bool,
    pub defined: u32,
    /// Shared, as the pointers to it stay valid where this is moved.
    pub words: Arc<[u64]>,
    pub tries: Tries,
    /// Whether the cache has it.
    pub is_kept: AtomicBool,
    /// Whether baseline code is to be made of it, or has been.
    #[cfg(baseline)]
    pub is_wanted: AtomicBool,
    /// The baseline code that was made of it, or null.
    #[cfg(baseline)]
    pub baseline: AtomicPtr<Code>,
    /// If this is baseline code: where it is from.
    #[cfg(baseline)]
    pub origin: Option<Box<Origin>>,
}

impl Code {
    /// The function as earlier runs have left it, or else translated.
    fn new(module: &ModuleCode, defined: u32) -> Result<Self> {
        // Not the processor's time: to ask for that takes a system call, and most functions little more.
        let started = Instant::now();
        let (facts, stats) = (&module.facts, &module.engine.stats);
        let mut kept = None;
        if let Some(tiers) = module.tiers() {
            tiers.load_bytecode(defined, &mut |bytes| kept = portable::from_bytes(facts, defined, bytes));
        }
        let (translation, work, is_kept) = match kept {
            Some(translation) => (translation, &stats.cached_bytecode, true),
            None => (translate::function(facts, defined, module.counts(), false)?, &stats.interpreted, false),
        };
        let code = Code { is_kept: is_kept.into(), ..Self::of(facts, defined, translation) };
        work.add(facts.bodies[defined as usize].len(), 8 * code.words.len(), started.elapsed());
        Ok(code)
    }

    fn of(module: &ModuleFacts, defined: u32, translation: Translation) -> Self {
        let Translation { words, header, zeroed, frame, wide_slots, tries, .. } = translation;
        let words: Arc<[u64]> = words.into();
        Code {
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
            is_kept: AtomicBool::new(false),
            #[cfg(baseline)]
            is_wanted: AtomicBool::new(false),
            #[cfg(baseline)]
            baseline: AtomicPtr::default(),
            #[cfg(baseline)]
            origin: None,
        }
    }

    /// What runs the native code of a function.
    fn native_call(module: &ModuleFacts, defined: u32, entry: (*const VMCode, *const AtomicPtr<VMCode>)) -> Self {
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
        Code {
            is_kept: AtomicBool::new(true),
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
            // SAFETY: within the frame, or the slack behind it.
            unsafe { at.cast::<[u64; 4]>().write([0; 4]) };
            at = at.wrapping_add(4);
        }
    }
}

/// The interpreter's part of a module: functions are translated when first called.
pub(crate) struct ModuleCode {
    /// What calls of the defined functions lead to; null where not yet called.
    pub(super) codes: Box<[AtomicPtr<Code>]>,
    pub(super) facts: Arc<ModuleFacts>,
    pub(super) engine: Arc<EngineCore>,
    /// Itself, for errors that keep it.
    pub(super) this: Weak<ModuleCode>,
    /// How hot the defined functions are; empty unless the engine tiers.
    counters: Box<[Counter]>,
    /// Set once if the engine tiers.
    tiers: OnceLock<Weak<dyn Tiers>>,
    all: Mutex<All>,
}

/// All code of a module, which lives as long as the module: calls may be running it.
#[derive(Default)]
pub(super) struct All {
    /// By the address where its words end, for backtraces.
    by_end: BTreeMap<usize, AliasableBox<Code>>,
    /// The translations of functions that calls find a stub for.
    pub behind_stubs: HashMap<u32, *const Code>,
    #[cfg(baseline)]
    pub making: Making,
}

// SAFETY: the pointers are to code that is owned by the same value, and never changes.
unsafe impl Send for All {}

impl All {
    pub fn add(&mut self, code: Code) -> *const Code {
        let code = AliasableBox::new(code);
        let at = code.as_ptr().cast_const();
        self.by_end.insert(code.words.as_ptr_range().end as usize, code);
        at
    }
}

impl ModuleCode {
    /// Nothing is translated yet.
    pub fn new(engine: &Arc<EngineCore>, facts: &Arc<ModuleFacts>) -> Arc<Self> {
        let functions = facts.bodies.len();
        let counted = if cfg!(jit) && engine.config.strategy == Strategy::Tiered { functions } else { 0 };
        Arc::new_cyclic(|this| ModuleCode {
            codes: (0..functions).map(|_| AtomicPtr::new(ptr::null_mut())).collect(),
            facts: facts.clone(),
            engine: engine.clone(),
            this: this.clone(),
            counters: (0..counted).map(|_| Counter::default()).collect(),
            tiers: OnceLock::new(),
            all: Mutex::default(),
        })
    }

    /// What the interpreter keeps of the module of a context.
    ///
    /// # Safety
    /// `vmctx` must be live for `'a`.
    pub unsafe fn of<'a>(vmctx: *mut VMContext) -> &'a Self {
        // SAFETY: the caller's promise; `VMContext::interp` is this room's, and lives as long as the instance.
        unsafe { &*(*vmctx).interp.cast() }
    }

    /// Sets whom to ask about other tiers. Nothing may have been called yet.
    #[cfg_attr(not(jit), expect(dead_code, reason = "there are no other tiers"))]
    pub fn set_tiers(&self, tiers: Weak<dyn Tiers>) {
        let set = self.tiers.set(tiers);
        debug_assert!(set.is_ok(), "a module has one tiering");
    }

    /// The other tiers, if the engine tiers.
    pub(super) fn tiers(&self) -> Option<Arc<dyn Tiers>> {
        self.tiers.get()?.upgrade()
    }

    /// Whether functions count how hot they are.
    pub fn counts(&self) -> bool {
        !self.counters.is_empty()
    }

    /// The counters by defined index; empty if nothing is counted.
    pub fn counters(&self) -> &[Counter] {
        &self.counters
    }

    /// Counts what a call of a function from native code takes, besides what the function itself does.
    #[cfg_attr(not(jit), expect(dead_code, reason = "there is no native code"))]
    pub fn count_transition(&self, defined: u32) {
        if let Some(counter) = self.counters.get(defined as usize) {
            // If the budget is used up now, the function's own next count finds that.
            counter.pass(TRANSITION);
        }
    }

    pub(super) fn codes(&self) -> *const AtomicPtr<Code> {
        self.codes.as_ptr()
    }

    pub(super) fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What calls of a function lead to, translated now if it was not called yet.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) if the function is, and others of reading it.
    pub(super) fn get(&self, defined: u32) -> Result<*const Code> {
        let place = &self.codes[defined as usize];
        let present = place.load(Ordering::Acquire);
        if !present.is_null() {
            return Ok(present);
        }
        // What earlier runs compiled is not even translated.
        let code = match self.tiers().filter(|tiers| tiers.starts_native(defined)) {
            Some(tiers) => Code::native_call(&self.facts, defined, tiers.native_entry(defined)),
            None => Code::new(self, defined)?,
        };
        // Held while publishing, so that whoever runs the code finds its range.
        let mut all = self.all();
        let present = place.load(Ordering::Acquire);
        if !present.is_null() {
            return Ok(present);
        }
        let code = all.add(code);
        place.store(code.cast_mut(), Ordering::Release);
        Ok(code)
    }

    /// The translation of a function, whatever calls of it lead to.
    pub(super) fn translated(&self, defined: u32) -> Result<*const Code> {
        let code = self.get(defined)?;
        // SAFETY: code lives as long as the module.
        if !unsafe { (*code).is_stub() } {
            return Ok(code);
        }
        if let Some(code) = self.all().behind_stubs.get(&defined) {
            return Ok(*code);
        }
        let code = Code::new(self, defined)?;
        let mut all = self.all();
        let code = all.add(code);
        Ok(*all.behind_stubs.entry(defined).or_insert(code))
    }

    /// Has calls of a function run its native code from now on.
    #[cfg_attr(not(jit), expect(dead_code, reason = "there is no native code"))]
    pub fn redirect_calls(&self, defined: u32, entry: (*const VMCode, *const AtomicPtr<VMCode>)) {
        let place = &self.codes[defined as usize];
        // SAFETY: published code lives as long as the module.
        if unsafe { place.load(Ordering::Acquire).as_ref() }.is_some_and(Code::is_stub) {
            return;
        }
        let stub = Code::native_call(&self.facts, defined, entry);
        let mut all = self.all();
        let present = place.load(Ordering::Acquire).cast_const();
        // SAFETY: published code lives as long as the module.
        if let Some(present) = unsafe { present.as_ref() } {
            if present.is_stub() {
                return;
            }
            all.behind_stubs.insert(defined, present);
        }
        let stub = all.add(stub);
        place.store(stub.cast_mut(), Ordering::Release);
    }

    /// Bytes of the bodies of those functions that [`to_keep`](Self::to_keep) gives.
    #[cfg_attr(not(jit), expect(dead_code, reason = "there is no cache"))]
    pub fn new_bytes(&self) -> usize {
        let new = self.codes.iter().zip(&self.facts.bodies).filter(|(place, _)| {
            // SAFETY: published code lives as long as the module.
            let code = unsafe { place.load(Ordering::Acquire).as_ref() };
            code.is_some_and(|code| !code.bytecode().is_kept.load(Ordering::Relaxed))
        });
        new.map(|(_, body)| body.len()).sum()
    }

    /// The functions that were translated, as bytes for later runs, by defined index: those that have no native code, and that
    /// have not been given before.
    #[cfg_attr(not(jit), expect(dead_code, reason = "there is no cache"))]
    pub fn to_keep(&self) -> impl Iterator<Item = (u32, Vec<u8>)> {
        (0..).zip(&self.codes).filter_map(|(defined, place)| {
            // SAFETY: published code lives as long as the module.
            let code = unsafe { place.load(Ordering::Acquire).as_ref()? };
            let code = code.bytecode();
            let is_new = !code.is_kept.swap(true, Ordering::Relaxed);
            is_new.then(|| (defined, portable::to_bytes(code, &self.facts)))
        })
    }

    /// The bytecode an instruction belongs to, and the instruction's word there.
    pub(super) fn find(&self, ip: *const u64) -> Option<(&Code, u32)> {
        let all = self.all();
        let (_, code) = all.by_end.range(ip as usize + 1..).next()?;
        // SAFETY: code lives as long as the module.
        let code: &Code = unsafe { &*code.as_ptr() };
        let word = (ip as usize).checked_sub(code.entry as usize)? / 8;
        Some(code.origin_of(word as u32))
    }
}

impl FrameSource for ModuleCode {
    /// Positions are words of the function's bytecode.
    fn resolve(&self, defined: u32, position: usize) -> Frame {
        self.facts.frame(defined, backtrace::offset_of(self, defined, position as u32))
    }
}

#[cfg(not(baseline))]
impl ModuleCode {
    /// There is no baseline code to be had.
    pub(super) fn want_baseline(&self, _: &Code, _: u8) -> bool {
        true
    }
}

#[cfg(not(baseline))]
impl Code {
    pub fn behind_count(&self, _: u32) -> Option<*const u64> {
        None
    }

    fn bytecode(&self) -> &Code {
        self
    }

    fn origin_of(&self, word: u32) -> (&Code, u32) {
        (self, word)
    }
}

impl Code {
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// The clauses of the `try_table`s that an instruction is in, as bytecode, innermost first.
    pub fn clauses(&self, word: u32) -> impl Iterator<Item = &[u64; 2]> {
        self.tries.around(word).flat_map(|t| {
            let count = (self.words[t.at as usize] >> 16) as u16;
            self.words[t.at as usize + 1..].as_chunks().0[..count.into()].iter()
        })
    }

    /// The slots that are zeroed on entry.
    pub fn zeroed(&self) -> Range<u32> {
        self.zeroed_from..self.zeroed_to
    }

    pub fn tries(&self) -> &[Try] {
        self.tries.all()
    }

    /// Whether this only leads to native code.
    pub fn is_stub(&self) -> bool {
        self.words[0] as u16 == Plain::Native.op()
    }

    /// The slot behind the frame.
    pub fn frame_slots(&self) -> usize {
        self.frame_bytes / 8 - SLACK as usize
    }

    /// Index among the module's defined functions.
    pub fn defined(&self) -> u32 {
        self.defined
    }
}
