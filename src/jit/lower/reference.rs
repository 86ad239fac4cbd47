//! References (specification, section 4.6.2): values of 64 bits; null is zero.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value, types};
use wasmparser::Operator as Op;

use super::{CONSTANT, Lower};
use crate::error::Trap;
use crate::jit::abi;
use crate::module::registry::{ALWAYS, DEPTH_OFFSET, supertype_offset};
use crate::module::types::{HeapType, RefType};
use crate::vm::context::VMFuncRef;

impl Lower<'_, '_> {
    pub(super) fn reference(&mut self, op: &Op<'_>) -> bool {
        match *op {
            Op::RefNull { .. } => {
                let null = self.ins().iconst(types::I64, 0);
                self.push(null);
            }
            Op::RefIsNull => {
                let reference = self.pop_reference();
                if self.known.is_non_null(reference) {
                    self.push_i32(0);
                } else {
                    let is_null = self.ins().icmp_imm_u(IntCC::Equal, reference, 0);
                    self.push_bool(is_null);
                }
            }
            Op::RefAsNonNull => {
                let reference = self.pop_reference();
                self.trap_if_null(reference, Trap::NullReference);
                self.push(reference);
            }
            Op::RefFunc { function_index } => {
                let reference = self.reference_to(function_index);
                let ty = self.module.sigs[self.module.funcs[function_index as usize] as usize].clone();
                self.known.learn(reference, &RefType::new(false, HeapType::Concrete(ty)));
                self.push(reference);
            }
            _ => return false,
        }
        true
    }

    /// Traps if a reference is null. From there on it is known that it is not.
    pub(super) fn trap_if_null(&mut self, reference: Value, trap: Trap) {
        if !self.known.is_non_null(reference) {
            self.trapz(reference, trap);
            self.known.learn_non_null(reference);
        }
    }

    /// Flags of the first access through a reference, made of others. It traps if the reference is null: by a fault if that is
    /// possible, as nothing is ever mapped at address 0 or at the heap's start. From there on it is known that it is not null.
    pub(super) fn checked(&mut self, reference: Value, flags: MemFlagsData, trap: Trap) -> MemFlagsData {
        if self.signals && !self.known.is_non_null(reference) {
            self.known.learn_non_null(reference);
            return flags.with_trap_code(Some(abi::trap_code(trap)));
        }
        self.trap_if_null(reference, trap);
        flags
    }

    /// The reference to a function of the module, which lies in the context and is made by the runtime when it is first asked for.
    fn reference_to(&mut self, func: u32) -> Value {
        let (vmctx, offsets) = (self.vmctx, &self.module.offsets);
        let Some(defined) = func.checked_sub(self.module.imported_funcs()) else {
            return self.load_constant(vmctx, offsets.imported_func(func));
        };
        let place = offsets.func_ref(defined);
        let owner = self.ins().load(types::I64, MemFlagsData::trusted(), vmctx, place + VMFuncRef::OWNER);
        let is_missing = self.ins().icmp_imm_u(IntCC::Equal, owner, 0);
        self.rarely(is_missing, |lower| {
            let func = lower.index(func);
            lower.ref_func(func);
        });
        self.ins().iadd_imm_s(vmctx, i64::from(place))
    }

    /// Whether the function that a reference leads to is of type `ty` or of a subtype of it, as CLIF's bool; for
    /// [`IntCC::NotEqual`] whether it is not. The reference must not be null, unless the load through it, which has these flags,
    /// traps then.
    pub(super) fn compare_func_type(&mut self, how: IntCC, reference: Value, ty: u32, flags: MemFlagsData) -> Value {
        let wanted = &self.module.sigs[ty as usize];
        let (vmctx, number) = (self.vmctx, self.module.offsets.sig(ty));
        let got = if wanted.is_final() {
            self.ins().load(types::I32, flags, reference, VMFuncRef::SIG)
        } else {
            let record = self.ins().load(types::I64, flags, reference, VMFuncRef::SUPERTYPES);
            self.supertype(record, wanted.depth())
        };
        let number = self.ins().load(types::I32, CONSTANT, vmctx, number);
        self.ins().icmp(how, got, number)
    }

    /// The number of the supertype of depth `depth` in a record of supertypes; a number that no type of this depth has if there is
    /// none.
    fn supertype(&mut self, record: Value, depth: usize) -> Value {
        // Not free to move: the record is reached through a reference.
        let flags = MemFlagsData::trusted().with_readonly();
        if depth < ALWAYS {
            return self.ins().load(types::I32, flags, record, supertype_offset(depth));
        }
        let deepest = self.ins().load(types::I32, flags, record, DEPTH_OFFSET);
        let is_there = self.ins().icmp_imm_u(IntCC::UnsignedGreaterThanOrEqual, deepest, depth as i64);
        // In place of a word that the record lacks, one that each has, for another depth.
        let [there, otherwise] =
            [depth, ALWAYS - 1].map(|depth| self.ins().iconst(types::I64, i64::from(supertype_offset(depth))));
        let offset = self.ins().select(is_there, there, otherwise);
        let address = self.ins().iadd(record, offset);
        self.ins().load(types::I32, flags, address, 0)
    }
}
