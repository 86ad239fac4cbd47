//! How compiled code traps: by an instruction that makes the processor trap or, in hosts that own their signals
//! ([`Config::signals_based_traps`](crate::Config::signals_based_traps)), by a branch to a call.
//!
//! Without signals nothing may be left to the processor: code checks divisions and conversions beforehand, every memory access
//! in full, and the stack limit at the start of the function.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Signature, Type, Value, types};

use super::Lower;
use super::computed::Change;
use crate::error::Trap;
use crate::jit::abi;
use crate::vm::context::{VMContext, VMInterrupt, VMStore};

/// The memory access that a check is for.
#[derive(Clone, Copy)]
pub(in crate::jit) struct Checked {
    pub memory: u32,
    pub index: Value,
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

impl Lower<'_, '_> {
    /// Traps if an integer is not zero.
    pub(in crate::jit) fn trapnz(&mut self, condition: Value, trap: Trap) {
        if self.signals {
            self.ins().trapnz(condition, abi::trap_code(trap));
        } else {
            self.unless(condition, |lower| lower.raise_trap(trap));
        }
    }

    /// Traps if an integer is zero.
    pub(super) fn trapz(&mut self, condition: Value, trap: Trap) {
        if self.signals {
            self.ins().trapz(condition, abi::trap_code(trap));
        } else {
            let is_zero = self.ins().icmp_imm_u(IntCC::Equal, condition, 0);
            self.unless(is_zero, |lower| lower.raise_trap(trap));
        }
    }

    /// Traps. What follows is not reached.
    pub(super) fn trap(&mut self, trap: Trap) {
        if self.signals {
            self.ins().trap(abi::trap_code(trap));
        } else {
            self.raise_trap(trap);
        }
        self.reachable = false;
    }

    /// Traps with the error that a runtime function has left in the store, if its status is not zero.
    pub(super) fn check_status(&mut self, status: Value) {
        if self.signals {
            self.ins().trapnz(status, abi::TRAP_RAISED);
        } else {
            self.unless(status, Self::raise_stored);
        }
    }

    /// Traps if an access is outside its memory.
    pub(in crate::jit) fn trap_outside(&mut self, outside: Value, access: Checked) {
        if self.signals {
            self.ins().trapnz(outside, abi::trap_code(Trap::MemoryOutOfBounds));
            return;
        }
        self.unless(outside, |lower| {
            lower.report_outside(access);
            lower.raise_stored();
        });
    }

    /// Traps at an access that no memory is large enough for. What is emitted next is not reached, but the block goes on.
    pub(in crate::jit) fn trap_beyond(&mut self, access: Checked) {
        let status = self.report_outside(access);
        self.check_status(status);
    }

    /// Makes the trap for an access the store's pending error; returns a status that says so.
    fn report_outside(&mut self, access: Checked) -> Value {
        let Checked { memory, index, offset, size } = access;
        let address = self.far_address(index, offset);
        let size = self.ins().iconst(types::I64, size as i64);
        let memory = self.index(memory);
        self.memory_out_of_bounds(memory, address, size)
    }

    /// If the condition is not zero, runs the code that `cold` emits, which must not return here.
    fn unless(&mut self, condition: Value, cold: impl FnOnce(&mut Self)) {
        let (failed, next) = (self.builder.create_block(), self.builder.create_block());
        self.builder.set_cold_block(failed);
        self.ins().brif(condition, failed, [], next, []);
        self.builder.seal_block(failed);
        self.builder.seal_block(next);
        self.builder.switch_to_block(failed);
        let computed = std::mem::take(&mut self.computed);
        cold(self);
        self.computed = computed;
        self.builder.switch_to_block(next);
    }

    fn raise_trap(&mut self, trap: Trap) {
        let code = self.ins().iconst(types::I32, trap as i64);
        self.set_pending_trap(code);
        self.raise_stored();
    }

    /// Raises the exception or the error in the store.
    pub(super) fn raise_stored(&mut self) {
        let store = self.load_constant(self.vmctx, VMContext::STORE);
        let raise = self.load_constant(store, VMStore::RAISE);
        self.call_without_arguments(raise);
        // The call never returns.
        self.ins().trap(abi::TRAP_RAISED);
    }

    /// At the start of a function: traps if the stack is exhausted, and does what was requested of the running code. The
    /// frame is there already, and untouched.
    pub(super) fn check_stack(&mut self) {
        let interrupt = self.interrupt();
        // Not marked constant: the limit changes when the host switches stacks, and with requests.
        let limit = self.ins().load(types::I64, MemFlagsData::trusted(), interrupt, VMInterrupt::STACK_LIMIT);
        let stack = self.ins().get_stack_pointer(types::I64);
        let below = self.ins().icmp(IntCC::UnsignedLessThan, stack, limit);
        self.rarely(below, |lower| {
            lower.call_poll();
            let store = lower.load_constant(lower.vmctx, VMContext::STORE);
            let limit = lower.ins().load(types::I64, MemFlagsData::trusted(), store, VMStore::STACK_LIMIT);
            let below = lower.ins().icmp(IntCC::UnsignedLessThan, stack, limit);
            lower.trapnz(below, Trap::StackOverflow);
        });
    }

    /// Does what was requested of the running code, if something was: at the head of a loop, and before a tail call.
    ///
    /// With signals the code traps, and goes on after the trap: that takes no registers from the loop, and Cranelift knows
    /// that it changes no memory, unless it is told. Code that consumes fuel must read anew what is left, as a callback may have set it.
    pub(super) fn poll(&mut self) {
        let interrupt = self.interrupt();
        let word = self.ins().load(types::I32, MemFlagsData::trusted(), interrupt, VMInterrupt::WORD);
        if self.signals && self.fuel.is_none() {
            self.ins().trapnz(word, abi::TRAP_POLL);
            // A callback may have grown a table, whose elements are elsewhere then.
            if self.module.tables.iter().any(|table| table.maximum != Some(table.minimum)) {
                self.ins().sequence_point();
            }
        } else {
            self.rarely(word, Self::call_poll);
        }
    }

    /// Does what was requested of the running code; returns only if it is to go on.
    fn call_poll(&mut self) {
        let store = self.load_constant(self.vmctx, VMContext::STORE);
        let poll = self.load_constant(store, VMStore::POLL);
        self.call_without_arguments(poll);
        self.reload_fuel();
    }

    fn call_without_arguments(&mut self, code: Value) {
        let signature = Signature::new(self.isa.default_call_conv());
        let signature = self.builder.func.import_signature(signature);
        self.ins().call_indirect(signature, code, &[]);
        self.changed(Change::Everything);
    }

    /// If the condition is not zero, runs the code that `cold` emits, and comes back.
    pub(super) fn rarely(&mut self, condition: Value, cold: impl FnOnce(&mut Self)) {
        let (taken, next) = (self.builder.create_block(), self.builder.create_block());
        self.builder.set_cold_block(taken);
        self.ins().brif(condition, taken, [], next, []);
        self.builder.seal_block(taken);
        self.builder.switch_to_block(taken);
        let computed = std::mem::take(&mut self.computed);
        cold(self);
        self.computed = computed;
        self.changed(Change::Everything);
        self.ins().jump(next, []);
        self.builder.seal_block(next);
        self.builder.switch_to_block(next);
    }

    /// Traps where a division would: if the divisor is zero or, for divisions that can overflow, the quotient is too large.
    pub(super) fn check_division(&mut self, ty: Type, overflows: bool) {
        if self.signals {
            return;
        }
        self.canonical_top(2);
        let (x, y) = (self.stack[self.stack.len() - 2], self.stack[self.stack.len() - 1]);
        self.trapz(y, Trap::IntegerDivisionByZero);
        if overflows {
            let least = 1i64 << (ty.bits() - 1);
            let least = if ty == types::I32 { i64::from(least as i32) } else { least };
            let is_least = self.ins().icmp_imm_s(IntCC::Equal, x, least);
            let by_minus_one = self.ins().icmp_imm_s(IntCC::Equal, y, -1);
            let overflow = self.ins().band(is_least, by_minus_one);
            self.trapnz(overflow, Trap::IntegerOverflow);
        }
    }

    /// Pops a float and pushes it as an integer of type `to`, rounded towards zero; traps if it does not fit.
    pub(super) fn truncate(&mut self, to: Type, signed: bool) -> bool {
        if self.signals {
            return match signed {
                true => self.unary(|i, x| i.fcvt_to_sint(to, x)),
                false => self.unary(|i, x| i.fcvt_to_uint(to, x)),
            };
        }
        let x = *self.stack.last().expect("validation balanced the stack");
        let from = self.builder.func.dfg.value_type(x);
        let is_nan = self.ins().fcmp(FloatCC::Unordered, x, x);
        self.trapnz(is_nan, Trap::InvalidConversionToInteger);
        // In range is `low < x < high`, where `low` is the greatest float whose integer part is below the least integer: the
        // least integer minus one if the float is precise enough, otherwise the next float below the least integer.
        let bits = to.bits() as i32;
        let high = 2f64.powi(if signed { bits - 1 } else { bits });
        let low = match (signed, from == types::F32, to == types::I64) {
            (false, ..) => -1.0,
            (true, false, false) => -high - 1.0,
            (true, false, true) => (-high).next_down(),
            (true, true, _) => f64::from((-high as f32).next_down()),
        };
        let (low, high) = match from {
            types::F32 => (self.ins().f32const(low as f32), self.ins().f32const(high as f32)),
            _ => (self.ins().f64const(low), self.ins().f64const(high)),
        };
        let above = self.ins().fcmp(FloatCC::GreaterThan, x, low);
        let below = self.ins().fcmp(FloatCC::LessThan, x, high);
        let in_range = self.ins().band(above, below);
        self.trapz(in_range, Trap::IntegerOverflow);
        match signed {
            true => self.unary(|i, x| i.fcvt_to_sint_sat(to, x)),
            false => self.unary(|i, x| i.fcvt_to_uint_sat(to, x)),
        }
    }
}

/// The largest frame of a function that checks the stack limit itself: while it calls the function that raises the trap, its frame lies
/// below the limit, on the stack that is kept for Rust code.
pub(in crate::jit) const MAX_FRAME: u32 = 16 << 10;
