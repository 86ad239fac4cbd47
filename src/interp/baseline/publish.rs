//! Baseline code in its place: found by calls, by frames that count, and by who looks for the function of an instruction.

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::time::Instant;

use super::arch::Assembler;
use super::lower::{BaselineCode, lower};
use crate::config::Dispatch;
use crate::interp::code::{Code, ModuleCode};
use crate::interp::tiers::{BaselineMemory, Tiers};

/// Words of bytecode of a module that baseline code is made of at most: some 100 MB of code.
const MOST: usize = 4 << 20;

/// What a module's baseline code is made in.
#[derive(Default)]
pub(in crate::interp) struct Making {
    /// What it is to be made of; code lives as long as the module.
    wanted: Vec<*const Code>,
    /// Words of that.
    words: usize,
    /// Words of bytecode that it has been made of.
    done: usize,
    memory: Option<Box<dyn BaselineMemory>>,
}

/// What the words of baseline code are, beside those of the bytecode it was made from.
#[derive(Debug)]
pub(in crate::interp) struct Origin {
    /// The bytecode, which lives as long.
    code: *const Code,
    /// Words of that from which the words from here on are, ascending.
    words: Box<[(u32, u32)]>,
    /// Words of that with instructions that count, ascending, and the words that lead to native code behind these.
    counted: Box<[(u32, u32)]>,
}

impl ModuleCode {
    /// Has a function that has been translated to `code` run baseline code as soon as there is enough to make; it has been asked for
    /// so often. False if it is to be asked for again.
    pub(in crate::interp) fn want_baseline(&self, code: &Code, asked: u8) -> bool {
        let Some(tiers) = self.tiers() else { return true };
        let mut all = self.all();
        // It runs as handlers of the other dispatch do.
        if self.engine.config.dispatch != Dispatch::TailCall || !code.baseline.load(Ordering::Acquire).is_null() {
            return true;
        }
        let making = &mut all.making;
        if making.done > MOST {
            return true;
        }
        if !code.is_wanted.swap(true, Ordering::Relaxed) {
            making.wanted.push(code);
            making.words += code.words.len();
        }
        let enough = making.words >= tiers.baseline_batch(making.done, asked);
        if enough {
            making.done += std::mem::take(&mut making.words);
            let wanted = std::mem::take(&mut making.wanted);
            drop(all);
            self.make_baseline(&*tiers, wanted);
        }
        enough
    }

    /// Makes baseline code. What none can be made of stays interpreted.
    fn make_baseline(&self, tiers: &dyn Tiers, wanted: Vec<*const Code>) {
        let started = Instant::now();
        let mut asm = Assembler::new();
        // SAFETY: code lives as long as the module.
        let wanted = wanted.into_iter().map(|code| unsafe { &*code });
        let made = wanted.filter_map(|code| Some((code, lower(code.words(), code.zeroed(), &mut asm)?)));
        let made: Vec<_> = made.collect();
        // Held while publishing, so that whoever runs the code finds its range.
        let mut all = self.all();
        let memory = all.making.memory.get_or_insert_with(|| tiers.baseline_memory());
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
            } else if let Some(behind) = all.behind_stubs.get_mut(&code.defined) {
                *behind = made;
            }
        }
    }
}

impl Code {
    /// What is left to the handlers of native code that was made of this and lies at `base`; with the frame that this has.
    fn of_baseline(&self, baseline: BaselineCode, base: *const u8) -> Self {
        let mut words = baseline.words;
        // Where it is, as the native code has its address.
        let own = Arc::get_mut(&mut words).expect("nobody else has it yet");
        for (word, offset) in baseline.entries {
            own[word as usize] = base as u64 + u64::from(offset);
        }
        Code {
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
            is_kept: AtomicBool::new(true),
            is_wanted: AtomicBool::new(true),
            baseline: AtomicPtr::default(),
            origin: Some(Box::new(Origin {
                code: self,
                words: baseline.origins.into(),
                counted: baseline.counted.into(),
            })),
        }
    }

    /// The bytecode that this is or was made from.
    pub(in crate::interp) fn bytecode(&self) -> &Code {
        // SAFETY: the bytecode lives as long.
        self.origin.as_ref().map_or(self, |origin| unsafe { &*origin.code })
    }

    /// The bytecode that this is or was made from, and the word there that a word of this is from.
    pub(in crate::interp) fn origin_of(&self, word: u32) -> (&Code, u32) {
        let Some(origin) = &self.origin else { return (self, word) };
        let at = origin.words.partition_point(|(first, _)| *first <= word);
        let (first, of) = at.checked_sub(1).map_or((0, 0), |at| origin.words[at]);
        (self.bytecode(), of + word - first)
    }

    /// Where baseline code of this bytecode goes on behind an instruction that counts, if there is any.
    pub(in crate::interp) fn behind_count(&self, word: u32) -> Option<*const u64> {
        // SAFETY: code lives as long as the module.
        let baseline = unsafe { self.baseline.load(Ordering::Acquire).as_ref()? };
        let counted = &baseline.origin.as_ref()?.counted;
        let at = counted.binary_search_by_key(&word, |(word, _)| *word).ok()?;
        Some(&raw const baseline.words[counted[at].1 as usize])
    }
}
