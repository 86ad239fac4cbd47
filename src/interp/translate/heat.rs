//! Counting how hot functions and loops are: each has an instruction that adds a weight to the function's counter.

use super::Translator;
use crate::interp::op::Plain;

/// Up to so much code with branches counts in full. Of more only the root counts: the more there is of it, the less of it
/// one pass runs. An interpreter's loop over 50,000 words runs a few hundred in a pass.
const MAX_WEIGHT: u32 = 64;

/// The greatest weight that fits a counting instruction.
const MOST: u32 = i16::MAX as u32;

impl Translator<'_> {
    /// Emits an instruction that counts. Until the next [`fork`](Self::fork) the code after it is straight.
    pub(super) fn count(&mut self, op: Plain, rest: &[u64]) {
        self.straight.push(self.here());
        self.effect(op.op(), 1, self.defined as u16, (self.defined >> 16) as u16, rest);
    }

    /// Raises the weight of the counting instruction at word `at` to that of the code from there to here.
    pub(super) fn weigh(&mut self, at: u32, is_straight: bool) {
        let all = (self.here() - at) / 2;
        let weight = if is_straight { all } else { all.min(MAX_WEIGHT) + all.saturating_sub(MAX_WEIGHT).isqrt() };
        let weight = weight.min(MOST);
        let first = &mut self.words[at as usize];
        let weight = u64::from(weight).max(*first >> 16 & 0xffff);
        *first = *first & !0xffff_0000 | weight << 16;
    }

    /// At the end of a loop: weighs its counting instruction, at word `start`.
    pub(super) fn weigh_loop(&mut self, start: u32) {
        // The loops in it have ended, so only the last one can be this.
        let is_straight = self.straight.pop_if(|at| *at == start).is_some();
        self.weigh(start, is_straight);
    }

    /// Control may leave here: what follows does not certainly run.
    pub(super) fn fork(&mut self) {
        while let Some(at) = self.straight.pop() {
            self.weigh(at, true);
        }
    }
}
