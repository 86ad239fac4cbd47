//! Exceptions: a `try` is passed by; what throws is left to its handler.

use super::lower::Lowering;
use crate::interp::op::Plain;

impl Lowering<'_> {
    pub(super) fn exception(&mut self, op: Plain) -> Option<()> {
        match op {
            Plain::Try => self.jump(0, self.bc()),
            _ => return None,
        }
        Some(())
    }
}
