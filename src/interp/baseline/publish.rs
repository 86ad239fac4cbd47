//! Requesting, compiling and publishing baseline code, and the mapping from its words back to the bytecode's.

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::time::Instant;

use super::arch::Assembler;
use super::lower::{BaselineCode, lower};
use crate::config::Dispatch;
use crate::interp::code::{InterpretedFunction, InterpretedModule};
use crate::interp::tiers::{BaselineMemory, Tiers};

/// The most words of a module's bytecode that baseline code is compiled from: they give some 100 MB of code.
const MAX_WORDS: usize = 4 << 20;

/// The state of compiling a module's baseline code.
#[derive(Default)]
pub(in crate::interp) struct BaselineWork {
    /// The functions that wait for baseline code; they live as long as the module.
    wanted: Vec<*const InterpretedFunction>,
    /// Words of bytecode of the functions that wait.
    words: usize,
    /// Words of bytecode that were compiled.
    done: usize,
    memory: Option<Box<dyn BaselineMemory>>,
}

/// What baseline code was compiled from.
#[derive(Debug)]
pub(in crate::interp) struct Origin {
    /// The bytecode, which lives as long as the baseline code.
    code: *const InterpretedFunction,
    /// Pairs (word of the baseline code, word of the bytecode), one for the start of each run of copied words,
    /// ascending.
    words: Box<[(u32, u32)]>,
    /// Pairs (word of a counting instruction of the bytecode, word of the baseline code that continues after it),
    /// ascending.
    counted: Box<[(u32, u32)]>,
}

impl InterpretedModule {
    /// Requests baseline code for the function `code`, which has requested it `requests` times before. It is compiled
    /// together with that of other functions as soon as enough bytecode waits. False if the function should request it
    /// again later.
    pub(in crate::interp) fn request_baseline(&self, code: &InterpretedFunction, requests: u8) -> bool {
        let Some(tiers) = self.tiers() else { return true };
        let mut all = self.all();
        // Baseline code continues like handlers of the dispatch by tail calls.
        if self.engine.config.dispatch != Dispatch::TailCall || !code.baseline.load(Ordering::Acquire).is_null() {
            return true;
        }
        let baseline_work = &mut all.baseline_work;
        if baseline_work.done > MAX_WORDS {
            return true;
        }
        if !code.is_requested.swap(true, Ordering::Relaxed) {
            baseline_work.wanted.push(code);
            baseline_work.words += code.words.len();
        }
        let enough = baseline_work.words >= tiers.baseline_batch(baseline_work.done, requests);
        if enough {
            baseline_work.done += std::mem::take(&mut baseline_work.words);
            let wanted = std::mem::take(&mut baseline_work.wanted);
            drop(all);
            self.compile_baseline(&*tiers, wanted);
        }
        enough
    }

    /// Compiles baseline code and publishes it. Functions that cannot be compiled stay interpreted.
    fn compile_baseline(&self, tiers: &dyn Tiers, wanted: Vec<*const InterpretedFunction>) {
        let started = Instant::now();
        let mut asm = Assembler::new();
        // SAFETY: functions live as long as the module.
        let wanted = wanted.into_iter().map(|code| unsafe { &*code });
        let made = wanted.filter_map(|code| Some((code, lower(code.words(), code.zeroed(), &mut asm)?)));
        let made: Vec<_> = made.collect();
        // The lock is held until the code is published, so that its range is found as soon as the code runs.
        let mut all = self.all();
        let memory = all.baseline_work.memory.get_or_insert_with(|| tiers.baseline_memory());
        let codes: Vec<_> = made.iter().map(|(code, baseline)| (code.defined, &*baseline.code)).collect();
        let Ok(places) = memory.add(&codes) else { return };
        let time = started.elapsed() / made.len().max(1) as u32;
        for ((code, baseline), base) in made.into_iter().zip(places) {
            let bytes = self.facts.bodies[code.defined as usize].len();
            self.engine.stats.baseline.add(bytes, baseline.code.len(), time);
            let made = all.add(code.of_baseline(baseline, base)).cast_mut();
            code.baseline.store(made, Ordering::Release);
            let place = &self.codes[code.defined as usize];
            if place.load(Ordering::Acquire).cast_const() == ptr::from_ref(code) {
                place.store(made, Ordering::Release);
            } else if let Some(replaced) = all.replaced_by_shims.get_mut(&code.defined) {
                *replaced = made;
            }
        }
    }
}

impl InterpretedFunction {
    /// The function whose native code was compiled from this and lies at `base`. Its words are the instructions that
    /// are left to the handlers; its frame is this one's.
    fn of_baseline(&self, baseline: BaselineCode, base: *const u8) -> Self {
        let mut words = baseline.words;
        // Changed in place, because the native code contains the address of the words.
        let own = Arc::get_mut(&mut words).expect("nobody else has it yet");
        for (word, offset) in baseline.entries {
            own[word as usize] = base as u64 + u64::from(offset);
        }
        InterpretedFunction {
            entry: words.as_ptr(),
            start: base,
            frame_bytes: self.frame_bytes,
            header: self.header,
            zeroed_from: self.zeroed_from,
            zeroed_to: self.zeroed_to,
            params: self.params,
            wide_slots: self.wide_slots,
            defined: self.defined,
            words,
            tries: Default::default(),
            is_recorded: AtomicBool::new(true),
            is_requested: AtomicBool::new(true),
            baseline: AtomicPtr::default(),
            origin: Some(Box::new(Origin {
                code: self,
                words: baseline.origins.into(),
                counted: baseline.counted.into(),
            })),
        }
    }

    /// The bytecode: this, or what this baseline code was compiled from.
    pub(in crate::interp) fn bytecode(&self) -> &InterpretedFunction {
        // SAFETY: both live as long as the module.
        self.origin.as_ref().map_or(self, |origin| unsafe { &*origin.code })
    }

    /// The bytecode, as [`bytecode`](Self::bytecode), and the word of it that word `word` of this was copied from.
    pub(in crate::interp) fn origin_of(&self, word: u32) -> (&InterpretedFunction, u32) {
        let Some(origin) = &self.origin else { return (self, word) };
        let at = origin.words.partition_point(|(first, _)| *first <= word);
        let (first, of) = at.checked_sub(1).map_or((0, 0), |at| origin.words[at]);
        (self.bytecode(), of + word - first)
    }

    /// Where the baseline code of this bytecode, if there is any, continues after the counting instruction at `word`.
    pub(in crate::interp) fn after_count(&self, word: u32) -> Option<*const u64> {
        // SAFETY: functions live as long as the module.
        let baseline = unsafe { self.baseline.load(Ordering::Acquire).as_ref()? };
        let counted = &baseline.origin.as_ref()?.counted;
        let at = counted.binary_search_by_key(&word, |(word, _)| *word).ok()?;
        Some(&raw const baseline.words[counted[at].1 as usize])
    }
}
