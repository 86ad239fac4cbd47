//! Fuel: the instruction that pays for a segment.

use std::mem::offset_of;

use super::Reg::T0;
use super::lower::{Cold, Lowering};
use crate::interp::machine::Context;
use crate::interp::op::Plain;

impl Lowering<'_> {
    pub(super) fn fuel(&mut self, op: Plain) -> Option<()> {
        match op {
            Plain::Charge => {
                // A price is below 2^31, as a body has at most 7.6 million bytes.
                let (exhausted, on, price) = (self.label(), self.label(), self.bc() as i32);
                self.asm.load_context(T0, offset_of!(Context, fuel));
                self.asm.charge(T0, price, exhausted);
                self.bind(on);
                self.cold.push(Cold::Exhausted(exhausted, self.at as u32, on));
            }
            _ => return None,
        }
        Some(())
    }
}
