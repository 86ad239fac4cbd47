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

    pub fn ref_func(&mut self, func: u32) {
        let slot = self.push_temp(Bank::Int);
        self.define_bc(Plain::RefFunc.op(), slot, Bank::Int, func);
        self.acc = [NONE; 3];
    }
}
