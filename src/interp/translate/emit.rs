//! Emitting instructions: what the accumulators hold, wide slots, jumps.
//!
//! Wide slots, those that 16 bits can't name, are dealt with only here. A translation that meets one starts again with scratch
//! slots near the frame's start: operands are copied to these before an instruction, results from them afterwards.

use super::stack::{Operand, OperandKind};
use super::{NEAR, Translator};
use crate::interp::op::{Plain, kept, word, word_bc};
use crate::interp::value::Bank;

/// No slot, operand, jump or index.
pub(in crate::interp) const NONE: u32 = u32::MAX;

/// An instruction that wrote a slot.
#[derive(Clone, Copy)]
pub(super) struct Last {
    /// Its first word.
    pub at: u32,
    pub slot: u32,
    /// What the accumulator of integers held before it.
    pub acc: u32,
}

/// The place of a jump's 32-bit offset, in half words from the start of the bytecode.
pub(super) type Site = u32;

impl Translator<'_> {
    pub fn near(&self, slot: u32) -> bool {
        slot < NEAR
    }

    pub fn here(&self) -> u32 {
        self.words.len() as u32
    }

    fn put(&mut self, first: u64, rest: &[u64]) {
        self.words.push(first);
        self.words.extend_from_slice(rest);
        (self.last, self.before) = (None, None);
    }

    /// The field for a slot that an instruction reads. A wide slot is copied to a scratch slot, of which operand `number` of the
    /// instruction has its own.
    pub fn read(&mut self, slot: u32, number: u32) -> u16 {
        if slot < NEAR {
            return slot as u16;
        }
        let Some(scratch) = self.scratch else {
            self.overflow = true;
            return 0;
        };
        let near = (scratch + 2 * number) as u16;
        self.put(word(Plain::LoadWideSlot.op(), near, 0, 0), &[slot.into()]);
        near
    }

    /// Emits an instruction without a result.
    pub fn effect(&mut self, op: u16, a: u16, b: u16, c: u16, rest: &[u64]) {
        self.put(word(op, a, b, c), rest);
    }

    /// Emits an instruction without a result, with a number in `b` and `c`.
    pub fn effect_bc(&mut self, op: Plain, a: u16, bc: u32) {
        self.put(word_bc(op.op(), a, bc), &[]);
    }

    /// Emits an instruction that leaves its result in a slot and in the accumulator of `bank`, if that has one.
    pub fn define(&mut self, op: u16, slot: u32, bank: Bank, b: u16, c: u16, rest: &[u64]) {
        let at = self.here();
        let acc = self.acc[Bank::Int as usize];
        let wide = bank == Bank::Vector;
        let a = self.result(slot);
        let before = self.last;
        self.put(word(op, a, b, c), rest);
        self.written(slot, wide);
        if !wide {
            self.acc[bank as usize] = slot;
            self.acc_from[bank as usize] = if slot < NEAR { at } else { NONE };
        }
        if slot < NEAR {
            self.last = Some(Last { at, slot, acc });
            self.before = before;
        } else {
            self.flush(slot, wide);
        }
    }

    /// [`define`](Self::define) with a number in `b` and `c`.
    pub fn define_bc(&mut self, op: u16, slot: u32, bank: Bank, bc: u32) {
        self.define(op, slot, bank, bc as u16, (bc >> 16) as u16, &[]);
    }

    /// The field for a result's slot: a scratch slot if it is wide.
    fn result(&mut self, slot: u32) -> u16 {
        if slot < NEAR {
            return slot as u16;
        }
        let Some(scratch) = self.scratch else {
            self.overflow = true;
            return 0;
        };
        (scratch + 8) as u16
    }

    /// Copies a result from its scratch slot to a wide slot.
    fn flush(&mut self, slot: u32, wide: bool) {
        if let Some(scratch) = self.scratch {
            let slots = 1 + u64::from(wide);
            self.put(word(Plain::StoreWideSlot.op(), (scratch + 8) as u16, 0, 0), &[u64::from(slot) | slots << 32]);
        }
    }

    /// Emits a copy to a slot. The accumulators stay as they are, but do not count as holding that slot any more.
    fn put_move(&mut self, op: Plain, to: u32, wide: bool, b: u16, c: u16, rest: &[u64]) {
        let a = self.result(to);
        self.put(word(op.op(), a, b, c), rest);
        self.written(to, wide);
        if to >= NEAR {
            self.flush(to, wide);
        }
    }

    pub fn put_copy(&mut self, to: u32, from: u32, wide: bool) {
        if to == from {
            return;
        }
        let b = self.read(from, 0);
        self.put_move(if wide { Plain::CopyWide } else { Plain::Copy }, to, wide, b, 0, &[]);
    }

    pub fn put_const(&mut self, to: u32, bits: u64) {
        let (low, high) = (bits as u16, (bits >> 16) as u16);
        if i32::try_from(bits as i64).is_ok() {
            self.put_move(Plain::Imm32, to, false, low, high, &[]);
        } else if u32::try_from(bits).is_ok() {
            self.put_move(Plain::Imm32U, to, false, low, high, &[]);
        } else {
            self.put_move(Plain::Imm64, to, false, 0, 0, &[bits]);
        }
    }

    pub fn put_vector(&mut self, to: u32, bits: u128) {
        self.put_move(Plain::ImmWide, to, true, 0, 0, &[bits as u64, (bits >> 64) as u64]);
    }

    /// Copies slots, in ascending order.
    pub fn put_span(&mut self, to: u32, from: u32, slots: u32) {
        if to != from && slots > 0 {
            let places = u64::from(to) | u64::from(from) << 32;
            self.put(word(Plain::CopySpan.op(), 0, 0, 0), &[places, slots.into()]);
            self.acc = [NONE; 3];
        }
    }

    /// Notes that a slot has another value now.
    pub fn written(&mut self, slot: u32, wide: bool) {
        for acc in &mut self.acc {
            if *acc == slot || wide && *acc == slot + 1 {
                *acc = NONE;
            }
        }
    }

    /// Whether the accumulator of a bank holds a slot.
    pub fn in_acc(&self, slot: u32, bank: Bank) -> bool {
        bank != Bank::Vector && self.acc[bank as usize] == slot
    }

    /// Whether the accumulator of a bank holds a popped operand, whose slot is `slot`, so that an instruction takes it from there.
    /// If the slot is the operand's own and no branch has come since, nothing else can read it: then the instruction that
    /// defined it is made one that does not write it.
    pub fn take_acc(&mut self, operand: Operand, slot: u32, bank: Bank) -> bool {
        if !self.in_acc(slot, bank) {
            return false;
        }
        let from = self.acc_from[bank as usize];
        if operand.kind == OperandKind::Temp && from != NONE {
            let first = &mut self.words[from as usize];
            if let Some(kept) = kept(*first as u16) {
                *first = *first & !0xffff | u64::from(kept);
            }
            self.acc_from[bank as usize] = NONE;
        }
        true
    }

    /// Notes that the accumulators' contents are lost.
    pub fn clobber(&mut self) {
        self.acc = [NONE; 3];
        self.forget();
    }

    /// Keeps the instructions emitted so far from being changed or taken back.
    pub fn forget(&mut self) {
        (self.last, self.before) = (None, None);
    }

    /// The first word of the last instruction, if it wrote a popped operand to its own slot and can be taken back for an instruction
    /// that does its work too. Not with scratch slots in use, as its operands may be in them.
    pub fn last_for(&self, operand: Operand) -> Option<u64> {
        let last = self.last.filter(|last| operand.kind == OperandKind::Temp && last.slot == operand.slot)?;
        self.scratch.is_none().then(|| self.words[last.at as usize])
    }

    /// Takes back the last instruction, which has an integer as result.
    pub fn unput(&mut self) {
        if let Some(last) = self.last {
            self.words.truncate(last.at as usize);
            self.acc[Bank::Int as usize] = last.acc;
            self.acc_from[Bank::Int as usize] = NONE;
            (self.last, self.before) = (self.before, None);
            // The operator that is being translated emits what takes its place.
            if let Some(positions) = &mut self.positions {
                for (word, _) in positions.iter_mut().rev().take_while(|(word, _)| *word > last.at) {
                    *word = last.at;
                }
            }
        }
    }

    /// Makes the last instruction write `to`, if it wrote `from`. Whether it did.
    pub fn retarget(&mut self, from: u32, to: u32) -> bool {
        let Some(last) = &mut self.last else { return false };
        if last.slot != from || to >= NEAR {
            return false;
        }
        let first = &mut self.words[last.at as usize];
        *first = *first & !0xffff_0000 | u64::from(to) << 16;
        last.slot = to;
        for acc in &mut self.acc {
            if *acc == to {
                *acc = NONE;
            }
            if *acc == from {
                *acc = to;
            }
        }
        true
    }

    /// Sets the jump at a site: to a known target, or as the head of the list of jumps that wait for the same label.
    pub fn jump(&mut self, site: Site, target: Result<u32, &mut u32>) {
        let offset = match target {
            Ok(target) => target.wrapping_sub(site / 2),
            Err(waiting) => std::mem::replace(waiting, site),
        };
        self.set_half(site, offset);
    }

    fn set_half(&mut self, site: Site, value: u32) {
        let word = &mut self.words[site as usize / 2];
        *word = match site % 2 {
            0 => *word & !0xffff_ffff | u64::from(value),
            _ => *word & 0xffff_ffff | u64::from(value) << 32,
        };
    }

    /// Makes a list of waiting jumps lead here. Whether there was one.
    pub fn label(&mut self, waiting: u32) -> bool {
        let here = self.here();
        let mut site = waiting;
        while site != NONE {
            let next = (self.words[site as usize / 2] >> (32 * (site % 2))) as u32;
            self.set_half(site, here.wrapping_sub(site / 2));
            site = next;
        }
        waiting != NONE
    }
}
