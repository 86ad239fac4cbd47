//! Vectors.

use wasmparser::MemArg;

use super::Translator;
use crate::interp::op::{Extract, LoadLane, Plain, Replace, Splat, StoreLane, VectorTest};
use crate::interp::value::Bank;

impl Translator<'_> {
    pub fn vector_const(&mut self, bits: u128) {
        let slot = self.push_temp(Bank::Vector);
        self.put_vector(slot, bits);
    }

    /// Two operands, the second a vector or a number of bits.
    pub fn vector_binary(&mut self, op: u16) {
        self.two(op, &[]);
    }

    fn two(&mut self, op: u16, rest: &[u64]) {
        let (rhs, lhs) = (self.pop(), self.pop());
        let (b, c) = (self.slot_of(lhs), self.slot_of(rhs));
        let (b, c) = (self.read(b, 0), self.read(c, 1));
        let slot = self.push_temp(Bank::Vector);
        self.define(op, slot, Bank::Vector, b, c, rest);
    }

    fn one(&mut self, op: u16, c: u16, result: Bank) {
        let from = self.pop_slot();
        let b = self.read(from, 0);
        let slot = self.push_temp(result);
        self.define(op, slot, result, b, c, &[]);
    }

    pub fn vector_unary(&mut self, op: u16) {
        self.one(op, 0, Bank::Vector);
    }

    pub fn vector_ternary(&mut self, op: u16) {
        let third = self.pop_slot();
        let third = self.read(third, 2);
        self.two(op, &[third.into()]);
    }

    pub fn vector_test(&mut self, op: VectorTest) {
        self.one(op.op(), 0, Bank::Int);
    }

    pub fn splat(&mut self, op: Splat) {
        self.one(op.op(), 0, Bank::Vector);
    }

    pub fn extract(&mut self, op: Extract, lane: u8) {
        self.one(op.op(), lane.into(), op.bank());
    }

    pub fn replace(&mut self, op: Replace, lane: u8) {
        let (value, vector) = (self.pop(), self.pop());
        let (b, value) = (self.slot_of(vector), self.slot_of(value));
        let (b, value) = (self.read(b, 0), self.read(value, 1));
        let slot = self.push_temp(Bank::Vector);
        self.define(op.op(), slot, Bank::Vector, b, lane.into(), &[value.into()]);
    }

    pub fn shuffle(&mut self, lanes: [u8; 16]) {
        let lanes = u128::from_le_bytes(lanes);
        self.two(Plain::Shuffle.op(), &[lanes as u64, (lanes >> 64) as u64]);
    }

    pub fn load_lane(&mut self, op: LoadLane, memarg: MemArg, lane: u8) {
        let [offset, place] = self.any_words(&memarg);
        self.two(op.op(), &[offset, place | u64::from(lane) << 32]);
    }

    pub fn store_lane(&mut self, op: StoreLane, memarg: MemArg, lane: u8) {
        let (vector, address) = (self.pop(), self.pop());
        let (a, b) = (self.slot_of(address), self.slot_of(vector));
        let (a, b) = (self.read(a, 0), self.read(b, 1));
        let words = self.any_words(&memarg);
        self.effect(op.op(), a, b, lane.into(), &words);
    }
}
