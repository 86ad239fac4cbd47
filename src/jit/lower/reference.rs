//! References (specification, section 4.6.2): values of 64 bits; null is zero.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, types};
use wasmparser::Operator as Op;

use super::Lower;

impl Lower<'_, '_> {
    pub(super) fn reference(&mut self, op: &Op<'_>) -> bool {
        match *op {
            Op::RefNull { .. } => {
                let null = self.ins().iconst(types::I64, 0);
                self.push(null);
            }
            Op::RefIsNull => {
                let reference = self.pop();
                let is_null = self.ins().icmp_imm_u(IntCC::Equal, reference, 0);
                self.push_bool(is_null);
            }
            Op::RefFunc { function_index } => {
                let func = self.index(function_index);
                let reference = self.ref_func(func);
                self.push(reference);
            }
            _ => return false,
        }
        true
    }
}
