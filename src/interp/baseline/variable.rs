//! Locals, as copies between slots, and globals.

use std::mem::offset_of;

use super::lower::Lowering;
use super::{Alu, Reg, Src, Width};
use crate::interp::machine::Context;
use crate::interp::op::Plain;

use Reg::{Acc, T0, T1};
use Width::{W32, W64};

impl Lowering<'_> {
    pub(super) fn variable(&mut self, op: Plain) -> Option<()> {
        let (a, b, c) = (self.a(), self.b(), self.c());
        match op {
            Plain::Copy => {
                self.asm.load(T0, b, W64);
                self.asm.store(a, T0);
            }
            Plain::Copy2 => {
                let next = a.checked_add(1)?;
                self.asm.load(T0, b, W64);
                self.asm.load(T1, c, W64);
                self.asm.store(a, T0);
                self.asm.store(next, T1);
            }
            // Otherwise a slot field cannot name the second slot of one of the two.
            Plain::CopyWide if a.max(b) < u16::MAX => self.asm.copy_wide(a, b),
            Plain::GlobalGet | Plain::GlobalGetIndirect => {
                let global = self.global(op == Plain::GlobalGetIndirect)?;
                self.asm.load_at(Acc, T0, global, W64);
                self.asm.store(a, Acc);
            }
            Plain::GlobalSet | Plain::GlobalSetIndirect => {
                let global = self.global(op == Plain::GlobalSetIndirect)?;
                self.asm.load(T1, a, W64);
                self.asm.store_at(T0, global, T1);
            }
            Plain::GlobalGetAdd | Plain::GlobalBump => {
                let global = 8 * i32::from(c);
                self.asm.load_context(T0, offset_of!(Context, vmctx));
                self.asm.load_at(Acc, T0, global, W32);
                self.asm.alu(Alu::Add, W32, Acc, Src::Imm((b as i16).into()));
                self.asm.store(a, Acc);
                if op == Plain::GlobalBump {
                    self.asm.store_at(T0, global, Acc);
                }
            }
            Plain::GlobalSetAdd => {
                self.asm.load_context(T0, offset_of!(Context, vmctx));
                self.asm.load(T1, a, W32);
                self.asm.alu(Alu::Add, W32, T1, Src::Imm((b as i16).into()));
                self.asm.store_at(T0, 8 * i32::from(c), T1);
            }
            _ => return None,
        }
        Some(())
    }

    /// Makes the global whose offset is in `b` and `c` addressable, as [`object`](Self::object) does.
    fn global(&mut self, indirect: bool) -> Option<i32> {
        let offset = i32::try_from(self.bc()).ok()?;
        Some(self.object(offset, indirect))
    }
}
