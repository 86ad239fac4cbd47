//! Calls.

use super::Translator;
use super::control::slots;
use crate::interp::op::Plain;
use crate::module::types::{FuncType, ValType};

impl Translator<'_> {
    /// Puts arguments into their own slots and pops them. Returns the first one's slot.
    pub(super) fn arguments(&mut self, params: &[ValType]) -> u32 {
        self.settle_top(params.len());
        let len = self.stack.len() - params.len();
        self.truncate(len);
        self.height
    }

    /// Has `put` emit a call whose frame is at slot `base`, with the slot as field `a`. If that is a wide slot, the frame pointer is
    /// moved there around the call, so `a` is zero and all slots of the call are relative to it.
    fn put_call(&mut self, base: u32, put: impl FnOnce(&mut Self, u16)) {
        if self.near(base) {
            put(self, base as u16);
        } else if self.scratch.is_none() {
            self.overflow = true;
        } else {
            self.effect_bc(Plain::ShiftFrame, 0, base);
            put(self, 0);
            self.effect_bc(Plain::ShiftFrame, 0, base.wrapping_neg());
        }
        self.clobber();
    }

    pub fn call(&mut self, func: u32) {
        let ty = self.module.func_type(func);
        let base = self.arguments(ty.params());
        let slots = slots(ty.params()).max(slots(ty.results()));
        let imported = self.module.imported_funcs();
        self.put_call(base, |this, a| match func.checked_sub(imported) {
            Some(defined) => this.effect_bc(Plain::Call, a, defined),
            None => {
                let (b, c) = (func as u16, (func >> 16) as u16);
                this.effect(Plain::CallImport.op(), a, b, c, &[slots.into()]);
            }
        });
        self.push_temps(ty.results());
    }

    pub fn call_indirect(&mut self, type_index: u32, table: u32) {
        let ty = self.module.types[type_index as usize].unwrap_func();
        let place = u64::from(self.table_place(table)) | u64::from(type_index) << 32;
        self.put_call_by(Plain::CallIndirect, ty, |slots| [place, slots]);
    }

    pub fn call_ref(&mut self, type_index: u32) {
        let ty = self.module.types[type_index as usize].unwrap_func();
        self.put_call_by(Plain::CallRef, ty, |slots| [slots]);
    }

    /// Emits a call whose callee is found by the top operand, in field `b`. `rest` gives the words that follow the first, from the
    /// slots that arguments and results need.
    fn put_call_by<const N: usize>(&mut self, op: Plain, ty: &FuncType, rest: impl FnOnce(u64) -> [u64; N]) {
        let callee = self.pop();
        let own = callee.slot;
        let callee = self.slot_of(callee);
        let base = self.height - slots(ty.params());
        // If the frame is at a wide slot, the operand is read from its own slot, at a small distance from the frame.
        if !self.near(base) {
            self.put_copy(own, callee, false);
        }
        self.arguments(ty.params());
        let near = if self.near(base) { self.read(callee, 0) } else { (own - base) as u16 };
        let rest = rest(slots(ty.params()).max(slots(ty.results())).into());
        self.put_call(base, |this, a| this.effect(op.op(), a, near, 0, &rest));
        self.push_temps(ty.results());
    }

    pub fn return_call(&mut self, func: u32) {
        let ty = self.module.func_type(func);
        let base = self.arguments(ty.params());
        let (op, index) = match func.checked_sub(self.module.imported_funcs()) {
            Some(defined) => (Plain::ReturnCall, defined),
            None => (Plain::ReturnCallImport, func),
        };
        self.effect(op.op(), self.header as u16, 0, 0, &[u64::from(index) | u64::from(base) << 32]);
        self.leave();
    }

    pub fn return_call_indirect(&mut self, type_index: u32, table: u32) {
        let ty = self.module.types[type_index as usize].unwrap_func();
        let index = self.pop_slot();
        let base = self.arguments(ty.params());
        let b = self.read(index, 0);
        let place = u64::from(self.table_place(table)) | u64::from(type_index) << 32;
        self.effect(Plain::ReturnCallIndirect.op(), self.header as u16, b, 0, &[place, base.into()]);
        self.leave();
    }

    pub fn return_call_ref(&mut self, type_index: u32) {
        let ty = self.module.types[type_index as usize].unwrap_func();
        let func = self.pop_slot();
        let base = self.arguments(ty.params());
        let b = self.read(func, 0);
        self.effect(Plain::ReturnCallRef.op(), self.header as u16, b, 0, &[u64::from(base) << 32]);
        self.leave();
    }
}
