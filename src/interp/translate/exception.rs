//! Exceptions. A throw finds its handler by its own place in the code, so `try` does nothing when it is run but jump past its
//! clauses. These jump to labels like branches.
//!
//! The `catch`es of a legacy `try` are labels of their own, to which its clauses lead. Such a `try` has no instruction at its start,
//! since its clauses are known only at its end: there they are.

use wasmparser::{BlockType, Catch, TryTable};

use super::control::{Block, Construct, slots};
use super::emit::NONE;
use super::{Translator, Try};
use crate::interp::op::Plain;
use crate::interp::value::Bank;

/// A `try_table`, or the body of a legacy `try`, whose end has not come yet.
pub(super) struct Guard {
    /// The first word in it.
    from: u32,
    /// The indices in `tries` of those that delegate to it.
    delegates: Vec<u32>,
}

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
        self.guards.push(Guard { from: at, delegates: Vec::new() });
        self.open(Construct::Try(at), table.ty);
    }

    /// Ends what the innermost guard guards, whose clauses are at word `at`. Returns its index in `tries`.
    pub(super) fn close_guard(&mut self, at: u32) -> u32 {
        let Some(guard) = self.guards.pop() else { unreachable!("each try has opened one") };
        let entry = self.tries.len() as u32;
        self.tries.push(Try { from: guard.from, to: self.here(), at, delegates: false });
        for delegating in guard.delegates {
            self.tries[delegating as usize].at = entry;
        }
        // The last instruction inside must not be merged with the first outside.
        self.forget();
        entry
    }

    pub fn legacy_try(&mut self, ty: BlockType) {
        self.settle_locals();
        // Nor the last one before it with the first inside.
        self.forget();
        self.guards.push(Guard { from: self.here(), delegates: Vec::new() });
        self.open(Construct::LegacyTry, ty);
    }

    /// Begins a `catch`, or a `catch_all` if there is no tag.
    pub fn catch(&mut self, tag: Option<u32>) {
        let block = self.blocks.len() - 1;
        if self.reachable {
            self.settle_many(block);
            self.put_branch(block);
        }
        // What follows does not certainly run.
        self.fork();
        if self.current().construct == Construct::LegacyTry {
            let entry = self.close_guard(NONE);
            let (first, guards) = (self.caught.len() as u32, self.guards.len());
            let block = self.current();
            block.construct = Construct::Catch { entry, first };
            block.guards = guards;
        }
        let &mut Block { operands, height, set, .. } = self.current();
        self.unset(set);
        self.truncate(operands);
        self.height = height;
        self.caught.push((tag.unwrap_or(NONE), self.here()));
        self.merge();
        self.push_temp(Bank::Int);
        if let Some(tag) = tag {
            self.push_temps(self.module.tag_type(tag).params());
        }
        self.settled = self.stack.len();
        self.reachable = true;
        self.skipped = 0;
    }

    /// At the end of a legacy `try`: emits its clauses, past which the code before them jumps.
    pub(super) fn end_legacy_try(&mut self) {
        let block = self.blocks.len() - 1;
        let height = u64::from(self.blocks[block].height) << 32;
        let (entry, first) = match self.blocks[block].construct {
            Construct::Catch { entry, first } => {
                if self.reachable {
                    self.settle_many(block);
                    self.carry(block);
                }
                (entry, first as usize)
            }
            _ => (self.close_guard(NONE), self.caught.len()),
        };
        let clauses = self.caught.split_off(first);
        let mut rest = clauses.as_slice();
        loop {
            let (some, others) = rest.split_at(rest.len().min(u16::MAX.into()));
            let at = self.here();
            self.effect_bc(Plain::Try, some.len() as u16, 0);
            for &(tag, label) in some {
                let word = self.here();
                self.words.extend([height, u64::from(tag) | 2 << 32]);
                self.jump(2 * word, Ok(label));
            }
            let past = self.here();
            self.jump(2 * at + 1, Ok(past));
            if rest.len() == clauses.len() {
                self.tries[entry as usize].at = at;
            } else {
                // More clauses than an instruction can have: one that is directly around the first has them.
                self.tries.push(Try { at, ..self.tries[entry as usize] });
            }
            rest = others;
            if rest.is_empty() {
                break;
            }
        }
        self.merge();
    }

    pub fn delegate(&mut self, depth: u32) {
        let entry = self.close_guard(NONE);
        self.tries[entry as usize].delegates = true;
        // The label is counted from outside.
        let around = self.blocks[self.target(depth + 1)].guards;
        if let Some(guard) = around.checked_sub(1) {
            self.guards[guard].delegates.push(entry);
        }
        self.current().construct = Construct::Block;
        self.end();
    }

    pub fn rethrow(&mut self, depth: u32) {
        let slot = self.blocks[self.target(depth)].height;
        let a = self.read(slot, 0);
        self.effect(Plain::ThrowRef.op(), a, 0, 0, &[]);
        self.leave();
    }

    pub fn throw(&mut self, tag: u32) {
        let params = self.module.tag_type(tag).params();
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
