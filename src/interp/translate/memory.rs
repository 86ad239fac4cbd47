//! Loads, stores, and the instructions on whole memories.

use wasmparser::{MemArg, MemArgTarget};

use super::Translator;
use super::stack::{Operand, OperandKind};
use crate::interp::machine::encode_place;
use crate::interp::op::{Binary, Form, Load, LoadForm, Plain, Store, StoreForm};
use crate::interp::value::Bank;

/// An access's memory.
pub(super) fn memory_of(memarg: &MemArg) -> u32 {
    match memarg.target {
        MemArgTarget::Memory(memory) => memory,
        MemArgTarget::Array(_) => unreachable!("validated code has no arrays"),
    }
}

/// The sum of an operand and an offset, if the operand is constant and the sum fits 32 bits.
fn constant(operand: Operand, offset: u32) -> Option<u32> {
    match operand.kind {
        OperandKind::Const(bits) => (bits as u32).checked_add(offset),
        _ => None,
    }
}

impl Translator<'_> {
    /// The extension words of the form `Any`: offset, and place of the memory.
    pub(super) fn any_words(&self, memarg: &MemArg) -> [u64; 2] {
        [memarg.offset, self.memory_place(memory_of(memarg)).into()]
    }

    /// The constant offset, if an access is to memory 0 and that has 32-bit addresses, so that it may have another form than
    /// `Any`. Validation checked that the offset fits.
    fn near_offset(&self, memarg: &MemArg) -> Option<u32> {
        let is_near = memory_of(memarg) == 0 && !self.module.memories[0].is_64();
        is_near.then_some(memarg.offset as u32)
    }

    fn memory_place(&self, memory: u32) -> u32 {
        encode_place(self.module.offsets.memory(memory))
    }

    pub fn load(&mut self, op: Load, memarg: MemArg) {
        let address = self.pop();
        let bank = op.bank();
        let Some(offset) = self.near_offset(&memarg) else {
            let from = self.slot_of(address);
            self.load_any(op, from, &memarg);
            return;
        };
        if let Some(address) = constant(address, offset) {
            let slot = self.push_temp(bank);
            self.define_bc(op.op(LoadForm::Const), slot, bank, address);
            return;
        }
        if self.load_computed(op, address, offset) {
            return;
        }
        let from = self.slot_of(address);
        if self.take_acc(address, from, Bank::Int) {
            let slot = self.push_temp(bank);
            self.define_bc(op.op(LoadForm::Acc), slot, bank, offset);
            return;
        }
        match u16::try_from(offset) {
            Ok(offset) => {
                let b = self.read(from, 0);
                let slot = self.push_temp(bank);
                self.define(op.op(LoadForm::Slot), slot, bank, b, offset, &[]);
            }
            Err(_) => self.load_any(op, from, &memarg),
        }
    }

    fn load_any(&mut self, op: Load, from: u32, memarg: &MemArg) {
        let b = self.read(from, 0);
        let words = self.any_words(memarg);
        let slot = self.push_temp(op.bank());
        self.define(op.op(LoadForm::Any), slot, op.bank(), b, 0, &words);
    }

    /// Replaces the last instructions, which compute the address, with a load that does that too. Whether it could.
    fn load_computed(&mut self, op: Load, address: Operand, offset: u32) -> bool {
        let Some(first) = self.last_for(address) else { return false };
        let (made, b, c) = (first as u16, (first >> 32) as u16, (first >> 48) as u16);
        let (form, b, c, word) = match (Binary::I32Add.form(made), Load::I32Load.form(made)) {
            (Some((Form::SI, _)), _) if offset == 0 => (LoadForm::Plus, b, c, None),
            (Some((Form::SS, _)), _) => (LoadForm::Index, b, c, Some(offset.into())),
            (Some((Form::AS, _)), _) => {
                // The sum of slot `c` and the result of the shift before.
                let shifted = self.before.map(|before| self.words[before.at as usize]);
                let Some(shifted) =
                    shifted.filter(|first| Binary::I32Shl.form(*first as u16) == Some((Form::SI, false)))
                else {
                    return false;
                };
                self.unput();
                let shift = u64::from((shifted >> 48) as u16 & 31);
                (LoadForm::Index, c, (shifted >> 32) as u16, Some(u64::from(offset) | shift << 32))
            }
            (_, Some(LoadForm::Slot)) => (LoadForm::Deref, b, c, Some(offset.into())),
            (_, Some(LoadForm::Acc)) => (LoadForm::AccDeref, b, c, Some(offset.into())),
            _ => return false,
        };
        self.unput();
        let bank = op.bank();
        let slot = self.push_temp(bank);
        self.define(op.op(form), slot, bank, b, c, word.as_slice());
        true
    }

    /// Replaces the last instruction, which loads the value, with one that loads and stores. Whether it could.
    fn store_loaded(&mut self, op: Store, address: Operand, value: Operand, offset: u32) -> bool {
        let (load, op) = match op {
            Store::I32Store => (Load::I32Load, Plain::I32Move),
            Store::I64Store => (Load::I64Load, Plain::I64Move),
            _ => return false,
        };
        let Ok(offset) = u16::try_from(offset) else { return false };
        let Some(first) = self.last_for(value) else { return false };
        if load.form(first as u16) != Some(LoadForm::Slot) || matches!(address.kind, OperandKind::Const(_)) {
            return false;
        }
        self.unput();
        let at = self.slot_of(address);
        let a = self.read(at, 0);
        self.effect(op.op(), a, (first >> 32) as u16, offset, &[first >> 48]);
        true
    }

    pub fn store(&mut self, op: Store, memarg: MemArg) {
        let (value, address) = (self.pop(), self.pop());
        let bank = op.bank();
        let Some(offset) = self.near_offset(&memarg) else {
            let (at, from) = (self.slot_of(address), self.slot_of(value));
            self.store_any(op, at, from, &memarg);
            return;
        };
        let (low, high) = (offset as u16, (offset >> 16) as u16);
        if let Some(address) = constant(address, offset) {
            let from = self.slot_of(value);
            let a = self.read(from, 0);
            self.effect(op.op(StoreForm::Const), a, address as u16, (address >> 16) as u16, &[]);
            return;
        }
        if self.store_loaded(op, address, value, offset) {
            return;
        }
        let imm = match value.kind {
            // Only 64-bit stores write the upper half of a constant; they sign-extend the immediate.
            OperandKind::Const(bits) if bank == Bank::Int && op == Store::I64Store => i16::try_from(bits as i64).ok(),
            OperandKind::Const(bits) if bank == Bank::Int => i16::try_from(bits as u32 as i32).ok(),
            _ => None,
        };
        let at = self.slot_of(address);
        if let Some(imm) = imm
            && self.take_acc(address, at, Bank::Int)
        {
            self.effect(op.op(StoreForm::AccImm), imm as u16, low, high, &[]);
            return;
        }
        if let (Some(imm), 0) = (imm, high) {
            let a = self.read(at, 0);
            self.effect(op.op(StoreForm::Imm), a, imm as u16, low, &[]);
            return;
        }
        let from = self.slot_of(value);
        if self.take_acc(address, at, Bank::Int) {
            let a = self.read(from, 0);
            self.effect(op.op(StoreForm::AddrAcc), a, low, high, &[]);
        } else if self.take_acc(value, from, bank) {
            let a = self.read(at, 0);
            self.effect(op.op(StoreForm::ValueAcc), a, low, high, &[]);
        } else if high == 0 {
            let (a, b) = (self.read(at, 0), self.read(from, 1));
            self.effect(op.op(StoreForm::Slots), a, b, low, &[]);
        } else {
            self.store_any(op, at, from, &memarg);
        }
    }

    fn store_any(&mut self, op: Store, at: u32, from: u32, memarg: &MemArg) {
        let (a, b) = (self.read(at, 0), self.read(from, 1));
        let words = self.any_words(memarg);
        self.effect(op.op(StoreForm::Any), a, b, 0, &words);
    }

    pub fn memory_size(&mut self, memory: u32) {
        let place = self.memory_place(memory);
        let slot = self.push_temp(Bank::Int);
        let log2 = self.module.memories[memory as usize].page_size_log2();
        let (b, c) = (place as u16, (place >> 16) as u16);
        self.define(Plain::MemorySize.op(), slot, Bank::Int, b, c, &[log2.into()]);
    }

    pub fn memory_grow(&mut self, memory: u32) {
        let from = self.pop_slot();
        let b = self.read(from, 0);
        let slot = self.push_temp(Bank::Int);
        let is_64 = self.module.memories[memory as usize].is_64();
        self.define(Plain::MemoryGrow.op(), slot, Bank::Int, b, 0, &[u64::from(memory) | u64::from(is_64) << 32]);
        self.acc = [super::NONE; 3];
    }

    pub fn memory_fill(&mut self, memory: u32) {
        self.bulk(Plain::MemoryFill, memory, 0);
    }

    pub fn memory_copy(&mut self, to: u32, from: u32) {
        self.bulk(Plain::MemoryCopy, to, from);
    }

    pub fn memory_init(&mut self, memory: u32, segment: u32) {
        self.bulk(Plain::MemoryInit, memory, segment);
    }

    pub fn data_drop(&mut self, segment: u32) {
        self.drop_segment(Plain::DataDrop, segment);
    }

    /// An instruction on a range of a memory or table: three operands and two indices.
    pub(super) fn bulk(&mut self, op: Plain, first: u32, second: u32) {
        let (len, src, dst) = (self.pop(), self.pop(), self.pop());
        let (a, b, c) = (self.slot_of(dst), self.slot_of(src), self.slot_of(len));
        let (a, b, c) = (self.read(a, 0), self.read(b, 1), self.read(c, 2));
        self.effect(op.op(), a, b, c, &[u64::from(first) | u64::from(second) << 32]);
        self.clobber();
    }

    /// Drops a segment. Like all slow paths, it may change the accumulators.
    pub(super) fn drop_segment(&mut self, op: Plain, segment: u32) {
        self.effect_bc(op, 0, segment);
        self.clobber();
    }
}
