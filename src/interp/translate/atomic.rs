//! Atomic instructions. All have the form `Any`: any offset, any memory.

use wasmparser::MemArg;

use super::Translator;
use super::memory::memory_of;
use crate::interp::op::{AtomicCmpxchg, AtomicLoad, AtomicRmw, AtomicStore, Plain};
use crate::interp::value::Bank;

impl Translator<'_> {
    pub fn atomic_load(&mut self, op: AtomicLoad, memarg: MemArg) {
        self.at_address(op.op(), memarg);
    }

    pub fn atomic_store(&mut self, op: AtomicStore, memarg: MemArg) {
        let (value, address) = (self.pop(), self.pop());
        let (a, b) = (self.slot_of(address), self.slot_of(value));
        let (a, b) = (self.read(a, 0), self.read(b, 1));
        let words = self.any_words(&memarg);
        self.effect(op.op(), a, b, 0, &words);
    }

    pub fn atomic_rmw(&mut self, op: AtomicRmw, memarg: MemArg) {
        let (operand, address) = (self.pop(), self.pop());
        let (b, c) = (self.slot_of(address), self.slot_of(operand));
        let (b, c) = (self.read(b, 0), self.read(c, 1));
        let words = self.any_words(&memarg);
        let slot = self.push_temp(Bank::Int);
        self.define(op.op(), slot, Bank::Int, b, c, &words);
    }

    pub fn atomic_cmpxchg(&mut self, op: AtomicCmpxchg, memarg: MemArg) {
        let (replacement, expected, address) = (self.pop(), self.pop(), self.pop());
        let (b, c, third) = (self.slot_of(address), self.slot_of(expected), self.slot_of(replacement));
        let (b, c, third) = (self.read(b, 0), self.read(c, 1), self.read(third, 2));
        let [offset, place] = self.any_words(&memarg);
        let slot = self.push_temp(Bank::Int);
        self.define(op.op(), slot, Bank::Int, b, c, &[offset, place | u64::from(third) << 32]);
    }

    pub fn atomic_notify(&mut self, memarg: MemArg) {
        let (count, address) = (self.pop(), self.pop());
        let (b, c) = (self.slot_of(address), self.slot_of(count));
        let (b, c) = (self.read(b, 0), self.read(c, 1));
        let slot = self.push_temp(Bank::Int);
        let words = [memarg.offset, memory_of(&memarg).into()];
        self.define(Plain::MemoryAtomicNotify.op(), slot, Bank::Int, b, c, &words);
        self.clobber();
    }

    pub fn atomic_wait(&mut self, op: Plain, memarg: MemArg) {
        let (timeout, expected, address) = (self.pop(), self.pop(), self.pop());
        let (b, c, third) = (self.slot_of(address), self.slot_of(expected), self.slot_of(timeout));
        let (b, c, third) = (self.read(b, 0), self.read(c, 1), self.read(third, 2));
        let slot = self.push_temp(Bank::Int);
        let words = [memarg.offset, u64::from(memory_of(&memarg)) | u64::from(third) << 32];
        self.define(op.op(), slot, Bank::Int, b, c, &words);
        self.clobber();
    }

    pub fn atomic_fence(&mut self) {
        self.effect(Plain::AtomicFence.op(), 0, 0, 0, &[]);
    }

    /// An instruction from an address to an integer.
    fn at_address(&mut self, op: u16, memarg: MemArg) {
        let address = self.pop_slot();
        let b = self.read(address, 0);
        let words = self.any_words(&memarg);
        let slot = self.push_temp(Bank::Int);
        self.define(op, slot, Bank::Int, b, 0, &words);
    }
}
