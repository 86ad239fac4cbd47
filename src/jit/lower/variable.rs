//! Locals and globals (specification, section 4.6.4).

use cranelift_codegen::ir::{InstBuilder, Value, types};
use wasmparser::Operator as Op;

use super::{CONSTANT, Lower, Region};
use crate::jit::abi;
use crate::module::types::ValType;
use crate::module::{ConstExpr, ConstOp};

impl Lower<'_, '_> {
    pub(super) fn variable(&mut self, op: &Op<'_>) -> bool {
        match *op {
            Op::LocalGet { local_index } => {
                let local = self.use_local(local_index);
                let value = self.builder.use_var(local);
                if let ty @ ValType::Ref(_) = &self.local_types[local_index as usize] {
                    let ty = ty.clone();
                    self.learn_type(value, &ty);
                }
                self.push(value);
            }
            Op::LocalSet { local_index } => {
                let value = self.pop();
                let value = self.canonical(value);
                let local = self.use_local(local_index);
                self.builder.def_var(local, value);
            }
            Op::LocalTee { local_index } => {
                let value = self.pop();
                self.push(value);
                let value = self.canonical(value);
                let local = self.use_local(local_index);
                self.builder.def_var(local, value);
            }
            Op::GlobalGet { global_index } => {
                let value = self.global_get(global_index);
                self.learn_type(value, &self.module.globals[global_index as usize].content);
                self.push(value);
            }
            Op::GlobalSet { global_index } => {
                let value = self.pop();
                let value = self.canonical(value);
                let (base, offset) = self.locate(self.module.offsets.global(global_index));
                let flags = self.flags(Region::Global(global_index));
                // The upper half of a 32-bit value's slot is zero from the start, and stays so.
                self.ins().store(flags, value, base, offset);
            }
            _ => return false,
        }
        true
    }

    fn global_get(&mut self, index: u32) -> Value {
        let global = &self.module.globals[index as usize];
        if let Some(value) = self.constant_global(index) {
            return value;
        }
        let (base, offset) = self.locate(self.module.offsets.global(index));
        let flags = if global.is_mutable() { self.flags(Region::Global(index)) } else { CONSTANT };
        self.ins().load(abi::value_type(&global.content), flags, base, offset)
    }

    /// The value of an immutable global that is initialised with a constant.
    fn constant_global(&mut self, index: u32) -> Option<Value> {
        let global = &self.module.globals[index as usize];
        let defined = index.checked_sub(self.module.offsets.imported_globals)?;
        let ConstExpr(ops) = &self.module.global_inits[defined as usize];
        match (global.is_mutable(), &**ops) {
            (false, [ConstOp::Slot(bits)]) => Some(match global.content {
                ValType::I32 => self.ins().iconst(types::I32, i64::from(*bits as u32)),
                ValType::I64 => self.ins().iconst(types::I64, *bits as i64),
                ValType::F32 => self.ins().f32const(f32::from_bits(*bits as u32)),
                ValType::F64 => self.ins().f64const(f64::from_bits(*bits)),
                _ => return None,
            }),
            _ => None,
        }
    }
}
