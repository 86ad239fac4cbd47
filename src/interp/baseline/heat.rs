//! The instructions that count how hot functions and loops are.

use std::mem::offset_of;

use super::Reg::T0;
use super::Width::W32;
use super::lower::{Cold, Lowering};
use super::{Cond, Src};
use crate::interp::machine::Context;
use crate::interp::op::Plain;
use crate::vm::context::VMInterrupt;

impl Lowering<'_> {
    pub(super) fn heat(&mut self, op: Plain) -> Option<()> {
        let weight = i64::from(self.a()) << 32;
        match op {
            Plain::CountCall => self.count(1 - weight),
            Plain::CountLoop => {
                self.poll();
                self.count(-weight);
            }
            _ => return None,
        }
        Some(())
    }

    /// At the head of a loop: if there is a request, the interpreter goes on from here, and comes to it at the next branch.
    fn poll(&mut self) {
        let otherwise = self.fails();
        self.asm.load_context(T0, offset_of!(Context, interrupt));
        self.asm.load_at(T0, T0, VMInterrupt::WORD, W32);
        self.asm.cmp(W32, Src::Reg(T0), Src::Imm(0));
        self.asm.branch(Cond::Ne, otherwise);
    }

    /// Adds `change` to the function's counter. If the budget is used up then, the handler runs the instruction again.
    fn count(&mut self, change: i64) {
        let (used_up, on) = (self.label(), self.label());
        self.asm.load_context(T0, offset_of!(Context, counters));
        self.asm.count(T0, 8 * self.bc() as i32, change, used_up);
        self.bind(on);
        self.cold.push(Cold::UsedUp(used_up, self.at as u32, on));
    }
}
