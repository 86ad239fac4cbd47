//! Locals and globals.

use super::Translator;
use super::stack::{Local, Operand, OperandKind};
use crate::interp::machine::encode_place;
use crate::interp::op::{Binary, Form, Plain};
use crate::interp::value::Bank;
use crate::module::offsets::Location;
use crate::module::types::ValType;

impl Translator<'_> {
    pub fn local_get(&mut self, index: u32) {
        let local = &mut self.locals[index as usize];
        local.zeroed |= !local.set;
        self.push_local(index);
    }

    pub fn local_set(&mut self, index: u32, tee: bool) {
        let operand = self.pop();
        if !std::mem::replace(&mut self.locals[index as usize].set, true) {
            self.set.push(index);
        }
        self.preserve(index);
        let Local { slot, .. } = self.locals[index as usize];
        match operand.kind {
            OperandKind::Local { index: from, .. } if from == index => {}
            OperandKind::Temp if self.retarget(operand.slot, slot) => {}
            _ => self.put_operand(slot, operand),
        }
        if tee {
            match operand.kind {
                OperandKind::Const(bits) => self.push_const(bits),
                _ => self.local_get(index),
            }
        }
    }

    /// At the end of a block to which a branch leads: forgets the locals that were set in it, which are all but the first `count`,
    /// as the branch may have come before. (Inside the block, all that follows an instruction that sets a local has run it.)
    pub fn unset(&mut self, count: usize) {
        for index in self.set.drain(count..) {
            self.locals[index as usize].set = false;
        }
    }

    pub fn global_get(&mut self, global: u32) {
        let place = self.module.offsets.global(global);
        if self.module.globals[global as usize].content == ValType::V128 {
            let slot = self.push_temp(Bank::Vector);
            self.define_bc(Plain::GlobalGetWide.op(), slot, Bank::Vector, encode_place(place));
            return;
        }
        let (op, offset) = match place {
            Location::Inline(offset) => (Plain::GlobalGet, offset),
            Location::Pointer(offset) => (Plain::GlobalGetIndirect, offset),
        };
        let slot = self.push_temp(Bank::Int);
        self.define_bc(op.op(), slot, Bank::Int, offset as u32);
    }

    pub fn global_set(&mut self, global: u32) {
        let operand = self.pop();
        let place = self.module.offsets.global(global);
        if let Location::Inline(offset) = place
            && let Ok(number) = u16::try_from(offset / 8)
            && self.set_sum(operand, number)
        {
            return;
        }
        let from = self.slot_of(operand);
        let a = self.read(from, 0);
        let (op, offset) = match place {
            _ if self.module.globals[global as usize].content == ValType::V128 => {
                (Plain::GlobalSetWide, encode_place(place))
            }
            Location::Inline(offset) => (Plain::GlobalSet, offset as u32),
            Location::Pointer(offset) => (Plain::GlobalSetIndirect, offset as u32),
        };
        self.effect_bc(op, a, offset);
    }

    /// Merges a `global.set` with the last instruction, which computed the sum that is stored. Whether it could.
    fn set_sum(&mut self, operand: Operand, number: u16) -> bool {
        let Some(last) = self.last else { return false };
        let first = self.words[last.at as usize];
        match operand.kind {
            // The sum is one of the same global, and has been stored in a local.
            OperandKind::Local { index, .. } if self.locals[index as usize].slot == last.slot => {
                if first as u16 != Plain::GlobalGetAdd.op() || (first >> 48) as u16 != number {
                    return false;
                }
                self.words[last.at as usize] = first & !0xffff | u64::from(Plain::GlobalBump.op());
                self.forget();
                true
            }
            OperandKind::Temp => {
                let sum = self.last_for(operand).and_then(|first| Binary::I32Add.form(first as u16));
                if sum != Some((Form::SI, true)) {
                    return false;
                }
                self.unput();
                let (a, imm) = ((first >> 32) as u16, (first >> 48) as u16);
                self.effect(Plain::GlobalSetAdd.op(), a, imm, number, &[]);
                true
            }
            _ => false,
        }
    }
}
