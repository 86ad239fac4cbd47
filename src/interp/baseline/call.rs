//! Calls between functions of one instance, which stay in native code. All others are left to their handlers.

use std::mem::offset_of;

use super::lower::{Cold, Lowering};
use super::{Cond, Label, Reg, Src, Width};
use crate::interp::machine::Context;
use crate::interp::op::Plain;
use crate::module::registry::RegisteredType;
use crate::vm::context::{VMFuncRef, VMTable};

use Reg::{Acc, T0, T1};
use Width::{W32, W64};

impl Lowering<'_> {
    pub(super) fn call(&mut self, op: Plain) -> Option<()> {
        match op {
            Plain::Call => {
                let (copy, otherwise) = (self.copy(), self.label());
                self.asm.load_context(T0, offset_of!(Context, codes));
                self.asm.load_at(Acc, T0, 8 * self.bc() as i32, W64);
                self.enter(copy, otherwise);
            }
            Plain::CallIndirect => {
                let (copy, otherwise) = (self.copy(), self.label());
                self.indirect_code(otherwise);
                self.enter(copy, otherwise);
            }
            Plain::CallRef => {
                let (copy, otherwise) = (self.copy(), self.label());
                self.asm.load(Acc, self.b(), W64);
                self.asm.cmp(W64, Src::Reg(Acc), Src::Imm(0));
                self.asm.branch(Cond::Eq, otherwise);
                self.own_code(otherwise);
                self.enter(copy, otherwise);
            }
            _ => return None,
        }
        Some(())
    }

    /// Calls the function whose `InterpretedFunction` the accumulator points to. If that is null or the frame does not
    /// fit the stack, and from jumps to `otherwise`, the handler runs the copy of the call.
    fn enter(&mut self, copy: u32, otherwise: Label) {
        self.asm.cmp(W64, Src::Reg(Acc), Src::Imm(0));
        self.asm.branch(Cond::Eq, otherwise);
        let place = self.asm.enter(self.a(), otherwise);
        let after = self.comes_back(copy);
        self.patches.push((place, after));
        self.cold.push(Cold::Calls(otherwise, copy));
    }

    /// Leaves in the accumulator the `InterpretedFunction` that an indirect call leads to, or null if that function has
    /// none yet. Jumps to `otherwise` if the call traps, or its callee is not of this instance or not of the very type that is
    /// wanted.
    fn indirect_code(&mut self, otherwise: Label) {
        // Encoded by `encode_place`.
        let place = self.low(1) as i32;
        let table = self.object(place & !1, place & 1 != 0);
        // An index of 32 bits has zeros above.
        self.asm.load(T1, self.b(), W64);
        self.asm.load_at(Acc, T0, table + VMTable::LENGTH, W64);
        self.asm.cmp(W64, Src::Reg(T1), Src::Reg(Acc));
        self.asm.branch(Cond::GeU, otherwise);
        self.asm.load_at(T0, T0, table + VMTable::BASE, W64);
        self.asm.load_indexed(Acc, T0, T1);
        self.asm.cmp(W64, Src::Reg(Acc), Src::Imm(0));
        self.asm.branch(Cond::Eq, otherwise);
        self.asm.load_context(T0, offset_of!(Context, sigs));
        self.asm.load_at(T0, T0, RegisteredType::numbers_offset(self.high(1)), W32);
        self.asm.load_at(T1, Acc, VMFuncRef::SIG, W32);
        self.asm.cmp(W32, Src::Reg(T0), Src::Reg(T1));
        self.asm.branch(Cond::Ne, otherwise);
        self.own_code(otherwise);
    }

    /// Leaves in the accumulator the `InterpretedFunction` of the function whose reference is there, or null if it has none yet.
    /// Jumps to `otherwise` if it is not of this instance.
    fn own_code(&mut self, otherwise: Label) {
        self.asm.load_context(T0, offset_of!(Context, vmctx));
        self.asm.load_at(T1, Acc, VMFuncRef::OWNER, W64);
        self.asm.cmp(W64, Src::Reg(T0), Src::Reg(T1));
        self.asm.branch(Cond::Ne, otherwise);
        self.asm.load_at(T1, Acc, VMFuncRef::INDEX, W32);
        self.asm.load_context(T0, offset_of!(Context, codes));
        self.asm.load_indexed(Acc, T0, T1);
    }
}
