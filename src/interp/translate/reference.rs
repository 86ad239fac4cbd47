//! References. A slot holds a reference in 64 bits; null is zero.

use super::{NONE, Translator};
use crate::interp::op::{Compare, Plain};
use crate::interp::value::Bank;

impl Translator<'_> {
    pub fn ref_null(&mut self) {
        self.push_const(0);
    }

    pub fn ref_is_null(&mut self) {
        self.eqz(Compare::I64Eq);
    }

    pub fn ref_as_non_null(&mut self) {
        let operand = self.pop();
        let slot = self.slot_of(operand);
        let a = self.read(slot, 0);
        self.effect(Plain::RefAsNonNull.op(), a, 0, 0, &[]);
        self.push_again(operand);
    }

    pub fn ref_func(&mut self, func: u32) {
        let slot = self.push_temp(Bank::Int);
        self.define_bc(Plain::RefFunc.op(), slot, Bank::Int, func);
        self.acc = [NONE; 3];
    }
}
