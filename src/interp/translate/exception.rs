//! Exceptions. A throw finds its handler by its own place in the code, so `try` does nothing when it is run but jump past its
//! clauses. These jump to labels like branches.

use wasmparser::{Catch, TryTable};

use super::control::{Construct, slots};
use super::emit::NONE;
use super::{Translator, Try};
use crate::interp::op::Plain;

impl Translator<'_> {
    pub fn try_table(&mut self, table: &TryTable) {
        self.settle_locals();
        let at = self.here();
        let count = table.catches.len();
        // Validation allows 10,000.
        self.effect_bc(Plain::Try, count as u16, 0);
        self.words.resize(self.words.len() + 2 * count, 0);
        let mut returning = None;
        for (i, clause) in table.catches.iter().enumerate() {
            let (tag, reference, label) = match *clause {
                Catch::One { tag, label } => (tag, false, label),
                Catch::OneRef { tag, label } => (tag, true, label),
                Catch::All { label } => (NONE, false, label),
                Catch::AllRef { label } => (NONE, true, label),
            };
            let word = at as usize + 1 + 2 * i;
            let block = self.target(label);
            self.words[word + 1] = u64::from(tag) | u64::from(reference) << 32;
            let site = 2 * word as u32;
            if self.blocks[block].construct == Construct::Function {
                // The operands of the function's label are its results, which are put where the caller expects them.
                let ret = *returning.get_or_insert(self.words.len() as u32);
                if ret == self.here() {
                    self.effect(Plain::Return.op(), self.header as u16, 0, 0, &[]);
                }
                self.jump(site, Ok(ret));
            } else {
                self.words[word] = u64::from(self.blocks[block].height) << 32;
                self.wait(block, site);
            }
        }
        let body = self.here();
        self.jump(2 * at + 1, Ok(body));
        self.open(Construct::Try(at), table.ty);
    }

    /// Ends a `try_table`: its clauses are for the instructions up to here.
    pub(super) fn end_try(&mut self, at: u32) {
        let to = self.here();
        self.tries.push(Try { from: at, to, at });
        // The last instruction inside must not be merged with the first outside.
        self.forget();
    }

    pub fn throw(&mut self, tag: u32) {
        let params = self.module.types[self.module.tags[tag as usize] as usize].unwrap_func().params();
        let base = self.arguments(params);
        let place = u64::from(base) | u64::from(slots(params)) << 32;
        self.effect(Plain::Throw.op(), 0, tag as u16, (tag >> 16) as u16, &[place]);
        self.leave();
    }

    pub fn throw_ref(&mut self) {
        let from = self.pop_slot();
        let a = self.read(from, 0);
        self.effect(Plain::ThrowRef.op(), a, 0, 0, &[]);
        self.leave();
    }
}
