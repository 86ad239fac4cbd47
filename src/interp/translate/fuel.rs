//! Fuel: a charge at the start of each segment, see [`module::fuel`](crate::module::fuel).

use super::Translator;
use crate::interp::op::Plain;

impl Translator<'_> {
    /// If fuel is consumed and a segment begins with the operator at this offset, emits the charge for it.
    pub(super) fn charge(&mut self, offset: u32) {
        let Some(price) = self.segments.as_mut().and_then(|segments| segments.starting_at(offset)) else { return };
        self.effect_bc(Plain::Charge, 0, price);
        // Its slow path may lose the accumulators, and what is after it must not be merged with what is before.
        self.clobber();
    }
}
