//! Scalar arithmetic and comparisons. Constants emit nothing, see `stack`.

use super::Translator;
use super::stack::{Operand, OperandKind};
use crate::interp::op::{Binary, Compare, Form, Plain, Unary};
use crate::interp::value::Bank;
use crate::module::types::ValType;

/// The two operands of an instruction, as a form and its fields.
pub(super) struct Fields {
    pub form: Form,
    pub b: u16,
    pub c: u16,
    pub word: Option<u64>,
    /// Whether the operands were swapped.
    pub swapped: bool,
}

/// The constant as a sign-extended immediate, if an operand of this bank can be one.
fn immediate(bank: Bank, size32: bool, bits: u64) -> Option<i32> {
    match bank {
        Bank::Int if size32 => Some(bits as u32 as i32),
        Bank::Int => i32::try_from(bits as i64).ok(),
        _ => None,
    }
}

impl Translator<'_> {
    /// Takes two operands. `size32`: they are `i32`. `commutes`: they may be swapped.
    fn fields(&mut self, bank: Bank, size32: bool, commutes: bool, mut lhs: Operand, mut rhs: Operand) -> Fields {
        if let (OperandKind::Const(bits), OperandKind::Const(_)) = (lhs.kind, rhs.kind) {
            self.put_const(lhs.slot, bits);
            lhs.kind = OperandKind::Temp;
        }
        let mut swapped = false;
        if commutes && (matches!(lhs.kind, OperandKind::Const(_)) || self.acc_operand(rhs, bank)) {
            std::mem::swap(&mut lhs, &mut rhs);
            swapped = true;
        }
        let fields = |form, b, c, word| Fields { form, b, c, word, swapped };
        if let OperandKind::Const(bits) = lhs.kind {
            let slot = self.slot_of(rhs);
            let c = self.read(slot, 0);
            return fields(Form::KS, 0, c, Some(bits));
        }
        let left = self.slot_of(lhs);
        if let OperandKind::Const(bits) = rhs.kind {
            return match immediate(bank, size32, bits) {
                Some(imm) if self.take_acc(lhs, left, bank) => fields(Form::AI, imm as u16, (imm >> 16) as u16, None),
                Some(imm) if i16::try_from(imm).is_ok() => fields(Form::SI, self.read(left, 0), imm as u16, None),
                _ => fields(Form::SK, self.read(left, 0), 0, Some(bits)),
            };
        }
        let right = self.slot_of(rhs);
        if self.take_acc(lhs, left, bank) {
            fields(Form::AS, 0, self.read(right, 1), None)
        } else if self.take_acc(rhs, right, bank) {
            fields(Form::SA, self.read(left, 0), 0, None)
        } else {
            fields(Form::SS, self.read(left, 0), self.read(right, 1), None)
        }
    }

    fn acc_operand(&self, operand: Operand, bank: Bank) -> bool {
        match operand.kind {
            OperandKind::Temp => self.in_acc(operand.slot, bank),
            OperandKind::Local { index, .. } => self.in_acc(self.locals[index as usize].slot, bank),
            OperandKind::Const(_) => false,
        }
    }

    pub fn binary(&mut self, op: Binary) {
        let (rhs, lhs) = (self.pop(), self.pop());
        if matches!(op, Binary::I32Add | Binary::I32Sub) && self.global_plus(op, lhs, rhs) {
            return;
        }
        let (bank, commutes) = op.facts();
        let fields = self.fields(bank, op.is_32(), commutes, lhs, rhs);
        let slot = self.push_temp(bank);
        self.define(op.op(fields.form), slot, bank, fields.b, fields.c, fields.word.as_slice());
    }

    /// Merges the addition of a constant with the `global.get` before it: most functions compute the address of their frame in
    /// memory so. Whether it could.
    fn global_plus(&mut self, op: Binary, lhs: Operand, rhs: Operand) -> bool {
        let OperandKind::Const(bits) = rhs.kind else { return false };
        let imm = bits as u32 as i32;
        let Ok(imm) = i16::try_from(if op == Binary::I32Sub { imm.wrapping_neg() } else { imm }) else { return false };
        let Some(first) = self.last_for(lhs).filter(|first| *first as u16 == Plain::GlobalGet.op()) else {
            return false;
        };
        let Ok(number) = u16::try_from((first >> 32) / 8) else { return false };
        self.unput();
        let slot = self.push_temp(Bank::Int);
        self.define(Plain::GlobalGetAdd.op(), slot, Bank::Int, imm as u16, number, &[]);
        true
    }

    pub fn compare(&mut self, op: Compare) {
        let (rhs, lhs) = (self.pop(), self.pop());
        // Every comparison with swapped operands is one, so constants and the accumulator move to the side that has forms for
        // them.
        let fields = self.fields(op.bank(), op.is_32(), true, lhs, rhs);
        let op = if fields.swapped { op.swapped() } else { op };
        let slot = self.push_temp(Bank::Int);
        self.define(op.op(fields.form), slot, Bank::Int, fields.b, fields.c, fields.word.as_slice());
    }

    /// An instruction of wide arithmetic with so many operands.
    pub fn wide_arithmetic(&mut self, op: Plain, operands: usize) {
        const I64S: [ValType; 4] = [const { ValType::I64 }; 4];
        let base = self.arguments(&I64S[..operands]);
        self.effect(op.op(), 0, 0, 0, &[base.into()]);
        self.written(base, true);
        self.push_temps(&I64S[..2]);
    }

    pub fn i32_eqz(&mut self) {
        self.eqz(Compare::I32Eq);
    }

    pub fn i64_eqz(&mut self) {
        self.eqz(Compare::I64Eq);
    }

    /// Compares with zero. If the operand is the result of a comparison, that is negated in place instead. A slot holds an `i32` or
    /// a reference in 64 bits, so `i64.eqz` serves both.
    pub(super) fn eqz(&mut self, op: Compare) {
        if let (Some(last), Some(top)) = (self.last, self.stack.last())
            && top.kind == OperandKind::Temp
            && top.slot == last.slot
            && let first = self.words[last.at as usize]
            && let Some((compare, form)) = Compare::from_op(first as u16)
        {
            self.words[last.at as usize] = first & !0xffff | u64::from(compare.negated().op(form));
            return;
        }
        self.push_const(0);
        self.compare(op);
    }

    pub fn unary(&mut self, op: Unary) {
        let operand = self.pop();
        let (bank, result) = op.banks();
        let from = self.slot_of(operand);
        let acc = self.take_acc(operand, from, bank);
        let b = if acc { 0 } else { self.read(from, 0) };
        let slot = self.push_temp(result);
        self.define(op.op(acc), slot, result, b, 0, &[]);
    }
}
