//! Putting out instructions: what the accumulators hold, far slots, jumps.
//!
//! Here is the one place that deals with slots beyond 16 bits. A translation that meets one starts again with scratch
//! slots near the frame's start: operands are fetched to them first, results moved from them afterwards.

use super::stack::{Kind, Operand};
use super::{NEAR, Translator};
use crate::interp::op::{Plain, kept, word, word_bc};
use crate::interp::value::Bank;

/// No slot, no operand, no jump.
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

/// Where the 32-bit offset of a jump is: in half words from the start.
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

    /// The field that names a slot that is read, after fetching it to scratch space if it is far. Instructions with
    /// several operands number them.
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

    /// An instruction without a result.
    pub fn effect(&mut self, op: u16, a: u16, b: u16, c: u16, rest: &[u64]) {
        self.put(word(op, a, b, c), rest);
    }

    /// An instruction without a result, with a number in `b` and `c`.
    pub fn effect_bc(&mut self, op: Plain, a: u16, bc: u32) {
        self.put(word_bc(op.op(), a, bc), &[]);
    }

    /// An instruction that leaves its result in a slot and, if `bank` is one's, in an accumulator.
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

    /// The field that names a result's slot.
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

    /// Moves a result from scratch space to its far slot.
    fn flush(&mut self, slot: u32, wide: bool) {
        if let Some(scratch) = self.scratch {
            let slots = 1 + u64::from(wide);
            self.put(word(Plain::StoreWideSlot.op(), (scratch + 8) as u16, 0, 0), &[u64::from(slot) | slots << 32]);
        }
    }

    /// Copies to a slot, leaving accumulators alone but for what they know of it.
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

    /// Takes note that a slot has another value now.
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

    /// Whether a popped operand, which is in a slot, is in the accumulator of a bank, for an instruction that takes it
    /// from there. If no branch has come between, nothing else can read the slot of an operand of its own then, so the
    /// instruction that defined it need not write it.
    pub fn take_acc(&mut self, operand: Operand, slot: u32, bank: Bank) -> bool {
        if !self.in_acc(slot, bank) {
            return false;
        }
        let from = self.acc_from[bank as usize];
        if operand.kind == Kind::Temp && from != NONE {
            let first = &mut self.words[from as usize];
            if let Some(kept) = kept(*first as u16) {
                *first = *first & !0xffff | u64::from(kept);
            }
            self.acc_from[bank as usize] = NONE;
        }
        true
    }

    /// Takes note that the accumulators' contents are lost.
    pub fn clobber(&mut self) {
        self.acc = [NONE; 3];
        self.forget();
    }

    /// Leaves the instructions put out so far as they are.
    pub fn forget(&mut self) {
        (self.last, self.before) = (None, None);
    }

    /// The first word of the last instruction, if it wrote the slot of an operand (popped, of its own) and may be taken
    /// back for one that does its work too. With scratch slots in use, its operands may be in them: then not.
    pub fn last_for(&self, operand: Operand) -> Option<u64> {
        let last = self.last.filter(|last| operand.kind == Kind::Temp && last.slot == operand.slot)?;
        self.scratch.is_none().then(|| self.words[last.at as usize])
    }

    /// Takes back the last instruction, which left an integer.
    pub fn unput(&mut self) {
        if let Some(last) = self.last {
            self.words.truncate(last.at as usize);
            self.acc[Bank::Int as usize] = last.acc;
            self.acc_from[Bank::Int as usize] = NONE;
            (self.last, self.before) = (self.before, None);
            // What follows in its place is the instruction of the operator that is being translated.
            if let Some(positions) = &mut self.positions {
                for (word, _) in positions.iter_mut().rev().take_while(|(word, _)| *word > last.at) {
                    *word = last.at;
                }
            }
        }
    }

    /// Makes the last instruction write `to` instead of `from`, if it wrote that.
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

    /// A jump from a half word: to `target` if that is known, else linked to those that wait with it for a label.
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

    /// Ends a list of jumps that wait for the place that comes next. Whether there was one.
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
