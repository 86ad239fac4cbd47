//! The weights of the instructions that count how hot functions and loops are.

use super::Translator;
use crate::interp::op::Plain;

/// The most that a pass through a loop or a function counts for: of much code, most is passed by.
pub(super) const MAX_WEIGHT: u32 = 64;

/// The same for what all of runs, because nothing branches past it: what a counting instruction has room for.
const MAX_STRAIGHT: u32 = i16::MAX as u32;

impl Translator<'_> {
    /// Puts out an instruction that counts; `straight` are those from which all instructions so far follow each other.
    pub(super) fn count(&mut self, op: Plain, rest: &[u64]) {
        self.straight.push(self.here());
        self.effect(op.op(), 1, self.defined as u16, (self.defined >> 16) as u16, rest);
    }

    /// Gives the instruction that counts, at word `at`, at least the weight of the code from there, up to `most`.
    pub(super) fn weigh(&mut self, at: u32, most: u32) {
        let weight = ((self.here() - at) / 2).min(most);
        let first = &mut self.words[at as usize];
        let weight = u64::from(weight).max(*first >> 16 & 0xffff);
        *first = *first & !0xffff_0000 | weight << 16;
    }

    /// At the end of a loop: weighs its counting instruction, at word `start`.
    pub(super) fn weigh_loop(&mut self, start: u32) {
        // Loops that it contains have ended, so it can only be the last.
        let most = if self.straight.pop_if(|at| *at == start).is_some() { MAX_STRAIGHT } else { MAX_WEIGHT };
        self.weigh(start, most);
    }

    /// What follows may be passed by.
    pub(super) fn fork(&mut self) {
        while let Some(at) = self.straight.pop() {
            self.weigh(at, MAX_STRAIGHT);
        }
    }
}
