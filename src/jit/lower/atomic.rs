//! Atomic instructions (specification of the threads proposal).
//!
//! An address that is not a multiple of the unit's size traps before bounds are checked. So the unit never lies on both sides of
//! a memory's end, and a store of it can't be torn there.

use cranelift_codegen::ir::types::{I8, I16, I32, I64};
use cranelift_codegen::ir::{AtomicRmwOp as Rmw, InstBuilder, MemFlagsData, Type, Value};
use wasmparser::{MemArg, Operator as Op};

use super::Lower;
use super::memory::memory_of;
use crate::error::Trap;
use crate::jit::bounds::AccessKind;
use crate::jit::enter::WAIT_64;

impl Lower<'_, '_> {
    pub(super) fn atomic(&mut self, op: &Op<'_>) -> bool {
        match *op {
            Op::I32AtomicLoad { memarg } => self.atomic_load(memarg, I32, I32),
            Op::I64AtomicLoad { memarg } => self.atomic_load(memarg, I64, I64),
            Op::I32AtomicLoad8U { memarg } => self.atomic_load(memarg, I8, I32),
            Op::I32AtomicLoad16U { memarg } => self.atomic_load(memarg, I16, I32),
            Op::I64AtomicLoad8U { memarg } => self.atomic_load(memarg, I8, I64),
            Op::I64AtomicLoad16U { memarg } => self.atomic_load(memarg, I16, I64),
            Op::I64AtomicLoad32U { memarg } => self.atomic_load(memarg, I32, I64),
            Op::I32AtomicStore { memarg } | Op::I64AtomicStore32 { memarg } => self.atomic_store(memarg, I32),
            Op::I64AtomicStore { memarg } => self.atomic_store(memarg, I64),
            Op::I32AtomicStore8 { memarg } | Op::I64AtomicStore8 { memarg } => self.atomic_store(memarg, I8),
            Op::I32AtomicStore16 { memarg } | Op::I64AtomicStore16 { memarg } => self.atomic_store(memarg, I16),
            Op::I32AtomicRmwAdd { memarg } => self.atomic_rmw(memarg, Rmw::Add, I32, I32),
            Op::I64AtomicRmwAdd { memarg } => self.atomic_rmw(memarg, Rmw::Add, I64, I64),
            Op::I32AtomicRmw8AddU { memarg } => self.atomic_rmw(memarg, Rmw::Add, I8, I32),
            Op::I32AtomicRmw16AddU { memarg } => self.atomic_rmw(memarg, Rmw::Add, I16, I32),
            Op::I64AtomicRmw8AddU { memarg } => self.atomic_rmw(memarg, Rmw::Add, I8, I64),
            Op::I64AtomicRmw16AddU { memarg } => self.atomic_rmw(memarg, Rmw::Add, I16, I64),
            Op::I64AtomicRmw32AddU { memarg } => self.atomic_rmw(memarg, Rmw::Add, I32, I64),
            Op::I32AtomicRmwSub { memarg } => self.atomic_rmw(memarg, Rmw::Sub, I32, I32),
            Op::I64AtomicRmwSub { memarg } => self.atomic_rmw(memarg, Rmw::Sub, I64, I64),
            Op::I32AtomicRmw8SubU { memarg } => self.atomic_rmw(memarg, Rmw::Sub, I8, I32),
            Op::I32AtomicRmw16SubU { memarg } => self.atomic_rmw(memarg, Rmw::Sub, I16, I32),
            Op::I64AtomicRmw8SubU { memarg } => self.atomic_rmw(memarg, Rmw::Sub, I8, I64),
            Op::I64AtomicRmw16SubU { memarg } => self.atomic_rmw(memarg, Rmw::Sub, I16, I64),
            Op::I64AtomicRmw32SubU { memarg } => self.atomic_rmw(memarg, Rmw::Sub, I32, I64),
            Op::I32AtomicRmwAnd { memarg } => self.atomic_rmw(memarg, Rmw::And, I32, I32),
            Op::I64AtomicRmwAnd { memarg } => self.atomic_rmw(memarg, Rmw::And, I64, I64),
            Op::I32AtomicRmw8AndU { memarg } => self.atomic_rmw(memarg, Rmw::And, I8, I32),
            Op::I32AtomicRmw16AndU { memarg } => self.atomic_rmw(memarg, Rmw::And, I16, I32),
            Op::I64AtomicRmw8AndU { memarg } => self.atomic_rmw(memarg, Rmw::And, I8, I64),
            Op::I64AtomicRmw16AndU { memarg } => self.atomic_rmw(memarg, Rmw::And, I16, I64),
            Op::I64AtomicRmw32AndU { memarg } => self.atomic_rmw(memarg, Rmw::And, I32, I64),
            Op::I32AtomicRmwOr { memarg } => self.atomic_rmw(memarg, Rmw::Or, I32, I32),
            Op::I64AtomicRmwOr { memarg } => self.atomic_rmw(memarg, Rmw::Or, I64, I64),
            Op::I32AtomicRmw8OrU { memarg } => self.atomic_rmw(memarg, Rmw::Or, I8, I32),
            Op::I32AtomicRmw16OrU { memarg } => self.atomic_rmw(memarg, Rmw::Or, I16, I32),
            Op::I64AtomicRmw8OrU { memarg } => self.atomic_rmw(memarg, Rmw::Or, I8, I64),
            Op::I64AtomicRmw16OrU { memarg } => self.atomic_rmw(memarg, Rmw::Or, I16, I64),
            Op::I64AtomicRmw32OrU { memarg } => self.atomic_rmw(memarg, Rmw::Or, I32, I64),
            Op::I32AtomicRmwXor { memarg } => self.atomic_rmw(memarg, Rmw::Xor, I32, I32),
            Op::I64AtomicRmwXor { memarg } => self.atomic_rmw(memarg, Rmw::Xor, I64, I64),
            Op::I32AtomicRmw8XorU { memarg } => self.atomic_rmw(memarg, Rmw::Xor, I8, I32),
            Op::I32AtomicRmw16XorU { memarg } => self.atomic_rmw(memarg, Rmw::Xor, I16, I32),
            Op::I64AtomicRmw8XorU { memarg } => self.atomic_rmw(memarg, Rmw::Xor, I8, I64),
            Op::I64AtomicRmw16XorU { memarg } => self.atomic_rmw(memarg, Rmw::Xor, I16, I64),
            Op::I64AtomicRmw32XorU { memarg } => self.atomic_rmw(memarg, Rmw::Xor, I32, I64),
            Op::I32AtomicRmwXchg { memarg } => self.atomic_rmw(memarg, Rmw::Xchg, I32, I32),
            Op::I64AtomicRmwXchg { memarg } => self.atomic_rmw(memarg, Rmw::Xchg, I64, I64),
            Op::I32AtomicRmw8XchgU { memarg } => self.atomic_rmw(memarg, Rmw::Xchg, I8, I32),
            Op::I32AtomicRmw16XchgU { memarg } => self.atomic_rmw(memarg, Rmw::Xchg, I16, I32),
            Op::I64AtomicRmw8XchgU { memarg } => self.atomic_rmw(memarg, Rmw::Xchg, I8, I64),
            Op::I64AtomicRmw16XchgU { memarg } => self.atomic_rmw(memarg, Rmw::Xchg, I16, I64),
            Op::I64AtomicRmw32XchgU { memarg } => self.atomic_rmw(memarg, Rmw::Xchg, I32, I64),
            Op::I32AtomicRmwCmpxchg { memarg } => self.atomic_cmpxchg(memarg, I32, I32),
            Op::I64AtomicRmwCmpxchg { memarg } => self.atomic_cmpxchg(memarg, I64, I64),
            Op::I32AtomicRmw8CmpxchgU { memarg } => self.atomic_cmpxchg(memarg, I8, I32),
            Op::I32AtomicRmw16CmpxchgU { memarg } => self.atomic_cmpxchg(memarg, I16, I32),
            Op::I64AtomicRmw8CmpxchgU { memarg } => self.atomic_cmpxchg(memarg, I8, I64),
            Op::I64AtomicRmw16CmpxchgU { memarg } => self.atomic_cmpxchg(memarg, I16, I64),
            Op::I64AtomicRmw32CmpxchgU { memarg } => self.atomic_cmpxchg(memarg, I32, I64),
            Op::MemoryAtomicNotify { memarg } => self.notify(memarg),
            Op::MemoryAtomicWait32 { memarg } => self.wait(memarg, I32),
            Op::MemoryAtomicWait64 { memarg } => self.wait(memarg, I64),
            Op::AtomicFence { .. } => {
                self.ins().fence();
            }
            _ => return false,
        }
        true
    }

    fn atomic_load(&mut self, memarg: MemArg, unit: Type, ty: Type) {
        let (flags, address) = self.atomic_address(memarg, unit);
        let loaded = self.ins().atomic_load(unit, flags, address);
        self.push_unit(loaded, ty);
    }

    fn atomic_store(&mut self, memarg: MemArg, unit: Type) {
        let value = self.pop_unit(unit);
        let (flags, address) = self.atomic_address(memarg, unit);
        self.ins().atomic_store(flags, value, address);
    }

    /// Modifies a unit in memory, and pushes what was there.
    fn atomic_rmw(&mut self, memarg: MemArg, op: Rmw, unit: Type, ty: Type) {
        let operand = self.pop_unit(unit);
        let (flags, address) = self.atomic_address(memarg, unit);
        let old = self.ins().atomic_rmw(unit, flags, op, address, operand);
        self.push_unit(old, ty);
    }

    /// Replaces a unit in memory if it is the expected one, and pushes what was there.
    fn atomic_cmpxchg(&mut self, memarg: MemArg, unit: Type, ty: Type) {
        let replacement = self.pop_unit(unit);
        let expected = self.pop_unit(unit);
        let (flags, address) = self.atomic_address(memarg, unit);
        let old = self.ins().atomic_cas(flags, address, expected, replacement);
        self.push_unit(old, ty);
    }

    /// `memory.atomic.notify`: nobody waits on a memory that is not shared.
    fn notify(&mut self, memarg: MemArg) {
        let count = self.pop();
        if !self.is_shared(memarg) {
            self.check_atomic(memarg, I32, AccessKind::Whole);
            let nobody = self.ins().iconst(I32, 0);
            self.push(nobody);
            return;
        }
        let index = self.widened_pop();
        let memory = self.index(memory_of(memarg));
        let offset = self.ins().iconst(I64, memarg.offset as i64);
        let woken = self.atomic_notify(memory, index, offset, count);
        let woken = self.ins().ireduce(I32, woken);
        self.push(woken);
    }

    /// `memory.atomic.wait32` and `memory.atomic.wait64`, which trap on a memory that is not shared.
    fn wait(&mut self, memarg: MemArg, unit: Type) {
        let timeout = self.pop();
        let expected = self.pop();
        if !self.is_shared(memarg) {
            self.check_atomic(memarg, unit, AccessKind::Whole);
            self.trap(Trap::AtomicWaitNonSharedMemory);
            return;
        }
        let expected = self.widened(expected);
        let index = self.widened_pop();
        let width = if unit == I64 { WAIT_64 } else { 0 };
        let memory = self.ins().iconst(I64, (u64::from(memory_of(memarg)) | width) as i64);
        let offset = self.ins().iconst(I64, memarg.offset as i64);
        let waited = self.atomic_wait([memory, index, offset, expected, timeout]);
        let waited = self.ins().ireduce(I32, waited);
        self.push(waited);
    }

    fn is_shared(&self, memarg: MemArg) -> bool {
        self.module.memories[memory_of(memarg) as usize].is_shared()
    }

    /// Pops the index of an access to a unit; checks it and gives the unit's address.
    fn atomic_address(&mut self, memarg: MemArg, unit: Type) -> (MemFlagsData, Value) {
        // A load, because nothing is torn.
        self.check_atomic(memarg, unit, AccessKind::Load)
    }

    fn check_atomic(&mut self, memarg: MemArg, unit: Type, access: AccessKind) -> (MemFlagsData, Value) {
        let (memory, offset, size) = (memory_of(memarg), memarg.offset, unit.bytes());
        let index = self.pop();
        if size > 1 {
            // Only the low bits count, which are right even if the sum wraps.
            let sum = if offset % u64::from(size) == 0 { index } else { self.ins().iadd_imm_s(index, offset as i64) };
            let misaligned = self.ins().band_imm_u(sum, i64::from(size) - 1);
            self.trapnz(misaligned, Trap::HeapMisaligned);
        }
        let address = self.address(memory, index, offset, size.into(), access);
        let flags = self.memory_flags(memory, address.checked);
        (flags, self.ins().iadd_imm_s(address.base, i64::from(address.offset)))
    }

    /// Pops the operand of an atomic instruction, cut to the unit.
    fn pop_unit(&mut self, unit: Type) -> Value {
        let value = self.pop();
        if self.builder.func.dfg.value_type(value) == unit { value } else { self.ins().ireduce(unit, value) }
    }

    /// Pushes a unit, extended with zeros.
    fn push_unit(&mut self, unit: Value, ty: Type) {
        let value = if self.builder.func.dfg.value_type(unit) == ty { unit } else { self.ins().uextend(ty, unit) };
        self.push(value);
    }
}
