//! Branches, returns and `select`.

use super::lower::Lowering;
use super::{Alu, Cond, FloatSrc, Label, Reg, Src, Width};
use crate::interp::op::{Compare, Form, Plain};
use crate::interp::value::Bank;

use Reg::{Acc, T0};
use Width::{W32, W64};

impl Lowering<'_> {
    pub(super) fn control(&mut self, op: Plain) -> Option<()> {
        let (a, b, c) = (self.a(), self.b(), self.c());
        match op {
            Plain::Br => self.jump(0, self.bc()),
            Plain::BrNonzero => self.branch_on(Cond::Ne, Src::Slot(a), 0, self.bc()),
            Plain::BrNonzeroAcc => self.branch_on(Cond::Ne, Src::Reg(Acc), 0, self.bc()),
            Plain::BrZero => self.branch_on(Cond::Eq, Src::Slot(a), 0, self.bc()),
            Plain::BrZeroAcc => self.branch_on(Cond::Eq, Src::Reg(Acc), 0, self.bc()),
            Plain::BrTable => {
                let targets = self.targets();
                self.asm.jump_table(a, self.bc(), &targets);
            }
            Plain::Return => self.asm.ret(a),
            Plain::ReturnCopy => {
                self.asm.load(T0, b, W64);
                self.asm.store(0, T0);
                self.asm.ret(a);
            }
            Plain::ReturnImm => {
                self.asm.store_imm(0, self.bc() as i32);
                self.asm.ret(a);
            }
            Plain::Select => {
                self.asm.cmp(W32, Src::Slot(self.low(1) as u16), Src::Imm(0));
                self.asm.select(Acc, b, c);
                self.asm.store(a, Acc);
            }
            Plain::SelectAcc => {
                self.asm.cmp(W32, Src::Reg(Acc), Src::Imm(0));
                self.asm.select(Acc, b, c);
                self.asm.store(a, Acc);
            }
            _ => return None,
        }
        Some(())
    }

    /// Jumps by an offset in word `n`.
    pub(super) fn jump(&mut self, n: usize, offset: u32) {
        let label = Label(self.target(n, offset));
        self.asm.jump(label);
    }

    /// Branches if the comparison of an `i32` with zero gives `cond`.
    fn branch_on(&mut self, cond: Cond, operand: Src, n: usize, offset: u32) {
        let label = Label(self.target(n, offset));
        self.asm.cmp(W32, operand, Src::Imm(0));
        self.asm.branch(cond, label);
    }

    /// A branch on a comparison.
    pub(super) fn branch(&mut self, op: Compare, form: Form) -> Option<()> {
        let (a, b) = (self.a(), self.b());
        let label = Label(self.target(1, self.low(1)));
        if op.bank() != Bank::Int {
            let operands = match form {
                Form::SS => (FloatSrc::Slot(a), FloatSrc::Slot(b)),
                Form::AS => (FloatSrc::Acc, FloatSrc::Slot(b)),
                Form::SA => (FloatSrc::Slot(a), FloatSrc::Acc),
                Form::SK => (FloatSrc::Slot(a), FloatSrc::Bits(self.word(2))),
                Form::SI | Form::AI | Form::KS => return None,
            };
            let cond = self.emit_float_compare(op, operands)?;
            self.asm.float_branch(cond, label);
            return Some(());
        }
        let operands = match form {
            Form::SS => (Src::Slot(a), Src::Slot(b)),
            Form::AS => (Src::Reg(Acc), Src::Slot(b)),
            Form::SA => (Src::Slot(a), Src::Reg(Acc)),
            Form::SI => (Src::Slot(a), Src::Imm(self.high(1) as i32)),
            Form::AI => (Src::Reg(Acc), Src::Imm(self.high(1) as i32)),
            Form::SK => (Src::Slot(a), self.source(self.word(2))),
            Form::KS => return None,
        };
        let cond = self.emit_compare(op, operands)?;
        self.asm.branch(cond, label);
        Some(())
    }

    /// Adds to a slot, and branches on a comparison of the sum.
    pub(super) fn step(&mut self, op: Compare, imm: bool) -> Option<()> {
        let (a, b) = (self.a(), self.b());
        self.asm.load(Acc, a, W32);
        self.asm.alu(Alu::Add, W32, Acc, Src::Imm((self.c() as i16).into()));
        self.asm.store(a, Acc);
        let with = if imm { Src::Imm(self.high(1) as i32) } else { Src::Slot(b) };
        let cond = self.emit_compare(op, (Src::Reg(Acc), with))?;
        let label = Label(self.target(1, self.low(1)));
        self.asm.branch(cond, label);
        Some(())
    }
}
