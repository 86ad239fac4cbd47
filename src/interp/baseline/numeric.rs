//! Scalar constants, arithmetic and comparisons.

use super::lower::Lowering;
use super::{Alu, Cond, FloatCond, FloatOp, FloatSrc, FloatType, Label, Reg, Shift, Src, StoredInt, Width};
use crate::interp::op::{Binary, Compare, Form, Plain, Unary};
use crate::interp::value::Bank;

use Reg::{Acc, T0, T1};
use Width::{W32, W64};

impl Lowering<'_> {
    /// Instructions that write a constant to a slot.
    pub(super) fn constant(&mut self, op: Plain) -> Option<()> {
        let a = self.a();
        match op {
            Plain::Imm32 => self.asm.store_imm(a, self.bc() as i32),
            Plain::Imm32U => match i32::try_from(self.bc()) {
                Ok(value) => self.asm.store_imm(a, value),
                Err(_) => {
                    self.asm.imm(T0, self.bc().into());
                    self.asm.store(a, T0);
                }
            },
            Plain::Imm64 => {
                self.asm.imm(T0, self.word(1));
                self.asm.store(a, T0);
            }
            _ => return None,
        }
        Some(())
    }

    /// The operands of an integer instruction with a result.
    pub(super) fn operands(&mut self, form: Form) -> (Src, Src) {
        let (b, c) = (self.b(), self.c());
        match form {
            Form::SS => (Src::Slot(b), Src::Slot(c)),
            Form::AS => (Src::Reg(Acc), Src::Slot(c)),
            Form::SA => (Src::Slot(b), Src::Reg(Acc)),
            Form::SI => (Src::Slot(b), Src::Imm((c as i16).into())),
            Form::AI => (Src::Reg(Acc), Src::Imm(self.bc() as i32)),
            Form::SK => (Src::Slot(b), self.source(self.word(1))),
            Form::KS => (self.source(self.word(1)), Src::Slot(c)),
        }
    }

    /// A constant as an operand: an immediate if it is small enough, otherwise in `T1`.
    pub(super) fn source(&mut self, value: u64) -> Src {
        match i32::try_from(value as i64) {
            Ok(value) => Src::Imm(value),
            Err(_) => {
                self.asm.imm(T1, value);
                Src::Reg(T1)
            }
        }
    }

    pub(super) fn binary(&mut self, op: Binary, form: Form, kept: bool) -> Option<()> {
        use Binary::*;
        enum Operation {
            Alu(Alu),
            Shift(Shift),
        }
        let operation = match op {
            I32Add | I64Add => Operation::Alu(Alu::Add),
            I32Sub | I64Sub => Operation::Alu(Alu::Sub),
            I32Mul | I64Mul => Operation::Alu(Alu::Mul),
            I32And | I64And => Operation::Alu(Alu::And),
            I32Or | I64Or => Operation::Alu(Alu::Or),
            I32Xor | I64Xor => Operation::Alu(Alu::Xor),
            I32Shl | I64Shl => Operation::Shift(Shift::Shl),
            I32ShrS | I64ShrS => Operation::Shift(Shift::ShrS),
            I32ShrU | I64ShrU => Operation::Shift(Shift::ShrU),
            I32Rotl | I64Rotl => Operation::Shift(Shift::Rotl),
            I32Rotr | I64Rotr => Operation::Shift(Shift::Rotr),
            _ => return self.float_binary(op, form, kept),
        };
        let width = if op.is_32() { W32 } else { W64 };
        let (a, b) = self.operands(form);
        let mut to = Acc;
        match (a, b) {
            (Src::Reg(Acc), _) => {}
            (_, Src::Reg(Acc)) => {
                to = T0;
                self.put(T0, a, width);
            }
            _ => self.put(Acc, a, width),
        }
        match operation {
            Operation::Alu(op) => self.asm.alu(op, width, to, b),
            Operation::Shift(op) => self.asm.shift(op, width, to, b),
        }
        if to != Acc {
            self.asm.mov(Acc, to, W64);
        }
        if !kept {
            self.asm.store(self.a(), Acc);
        }
        Some(())
    }

    fn float_binary(&mut self, op: Binary, form: Form, kept: bool) -> Option<()> {
        use Binary::*;
        let (op, float) = match op {
            F32Add => (FloatOp::Add, FloatType::F32),
            F32Sub => (FloatOp::Sub, FloatType::F32),
            F32Mul => (FloatOp::Mul, FloatType::F32),
            F32Div => (FloatOp::Div, FloatType::F32),
            F64Add => (FloatOp::Add, FloatType::F64),
            F64Sub => (FloatOp::Sub, FloatType::F64),
            F64Mul => (FloatOp::Mul, FloatType::F64),
            F64Div => (FloatOp::Div, FloatType::F64),
            _ => return None,
        };
        let (a, b) = self.float_operands(form)?;
        let nan = self.nan_fallback();
        self.asm.float(op, float, a, b, nan);
        if !kept {
            self.asm.store_float(float, self.a());
        }
        Some(())
    }

    /// Loads an operand into a register.
    pub(super) fn put(&mut self, to: Reg, from: Src, width: Width) {
        match from {
            Src::Reg(from) => self.asm.mov(to, from, width),
            Src::Slot(slot) => self.asm.load(to, slot, width),
            Src::Imm(value) if width == W32 => self.asm.imm(to, u64::from(value as u32)),
            Src::Imm(value) => self.asm.imm(to, value as i64 as u64),
        }
    }

    /// The operands of a float instruction with a result.
    fn float_operands(&self, form: Form) -> Option<(FloatSrc, FloatSrc)> {
        let (b, c) = (FloatSrc::Slot(self.b()), FloatSrc::Slot(self.c()));
        Some(match form {
            Form::SS => (b, c),
            Form::AS => (FloatSrc::Acc, c),
            Form::SA => (b, FloatSrc::Acc),
            Form::SK => (b, FloatSrc::Bits(self.word(1))),
            Form::KS => (FloatSrc::Bits(self.word(1)), c),
            Form::SI | Form::AI => return None,
        })
    }

    pub(super) fn unary(&mut self, op: Unary, acc: bool, kept: bool) -> Option<()> {
        let unit = match op {
            Unary::I32Extend8S => StoredInt::S8(W32),
            Unary::I32Extend16S => StoredInt::S16(W32),
            Unary::I64Extend8S => StoredInt::S8(W64),
            Unary::I64Extend16S => StoredInt::S16(W64),
            Unary::I64Extend32S | Unary::I64ExtendI32S => StoredInt::S32,
            Unary::I32WrapI64 => StoredInt::U32,
            _ => return self.float_unary(op, acc, kept),
        };
        if !acc {
            self.asm.load(Acc, self.b(), W64);
        }
        self.asm.extend(unit, Acc);
        if !kept {
            self.asm.store(self.a(), Acc);
        }
        Some(())
    }

    fn float_unary(&mut self, op: Unary, acc: bool, kept: bool) -> Option<()> {
        use Unary::*;
        let from = if acc { FloatSrc::Acc } else { FloatSrc::Slot(self.b()) };
        let to = match op {
            F32Abs | F32Neg | F32Sqrt | F32DemoteF64 | F32ConvertI32S | F32ConvertI32U | F32ConvertI64S => {
                FloatType::F32
            }
            F64Abs | F64Neg | F64Sqrt | F64PromoteF32 | F64ConvertI32S | F64ConvertI32U | F64ConvertI64S => {
                FloatType::F64
            }
            _ => return None,
        };
        match op {
            F32Sqrt | F64Sqrt => {
                let nan = self.nan_fallback();
                self.asm.sqrt(to, from, nan);
            }
            F32DemoteF64 | F64PromoteF32 => self.asm.float_to(to, from),
            F32Abs | F32Neg | F64Abs | F64Neg => {
                let width = if matches!(to, FloatType::F32) { W32 } else { W64 };
                match from {
                    FloatSrc::Acc => self.asm.bits_of_float(to, T0),
                    _ => self.asm.load(T0, self.b(), width),
                }
                let sign = if width == W32 { 1 << 31 } else { 1 << 63 };
                let (alu, mask) = if matches!(op, F32Neg | F64Neg) { (Alu::Xor, sign) } else { (Alu::And, sign - 1) };
                self.asm.imm(T1, mask);
                self.asm.alu(alu, width, T0, Src::Reg(T1));
                self.asm.bits_to_float(to, T0);
            }
            _ => {
                let width = if matches!(op, F32ConvertI64S | F64ConvertI64S) { W64 } else { W32 };
                self.put(T0, if acc { Src::Reg(Acc) } else { Src::Slot(self.b()) }, width);
                if matches!(op, F32ConvertI32S | F64ConvertI32S) {
                    self.asm.extend(StoredInt::S32, T0);
                }
                self.asm.integer_to(to, T0);
            }
        }
        if !kept {
            self.asm.store_float(to, self.a());
        }
        Some(())
    }

    /// Emits the comparison of two floats. Returns the condition under which `op` holds after it.
    pub(super) fn emit_float_compare(&mut self, op: Compare, (a, b): (FloatSrc, FloatSrc)) -> Option<FloatCond> {
        use Compare::*;
        let (cond, swap) = match op {
            F32Eq | F64Eq => (FloatCond::Eq, false),
            F32Ne | F64Ne => (FloatCond::Ne, false),
            F32Gt | F64Gt => (FloatCond::Gt, false),
            F32Ge | F64Ge => (FloatCond::Ge, false),
            F32Lt | F64Lt => (FloatCond::Gt, true),
            F32Le | F64Le => (FloatCond::Ge, true),
            F32NotGt | F64NotGt => (FloatCond::NotGt, false),
            F32NotGe | F64NotGe => (FloatCond::NotGe, false),
            F32NotLt | F64NotLt => (FloatCond::NotGt, true),
            F32NotLe | F64NotLe => (FloatCond::NotGe, true),
            _ => return None,
        };
        let float = if op.bank() == Bank::F32 { FloatType::F32 } else { FloatType::F64 };
        let (a, b) = if swap { (b, a) } else { (a, b) };
        self.asm.float_cmp(float, a, b);
        Some(cond)
    }

    /// Emits the comparison of two integers. Returns the condition under which `op` holds after it.
    pub(super) fn emit_compare(&mut self, op: Compare, (a, b): (Src, Src)) -> Option<Cond> {
        use Compare::*;
        let cond = match op {
            I32Eq | I64Eq => Cond::Eq,
            I32Ne | I64Ne => Cond::Ne,
            I32LtS | I64LtS => Cond::LtS,
            I32LtU | I64LtU => Cond::LtU,
            I32GtS | I64GtS => Cond::GtS,
            I32GtU | I64GtU => Cond::GtU,
            I32LeS | I64LeS => Cond::LeS,
            I32LeU | I64LeU => Cond::LeU,
            I32GeS | I64GeS => Cond::GeS,
            I32GeU | I64GeU => Cond::GeU,
            I32Common | I32Apart => {
                let a = match a {
                    Src::Reg(a) => a,
                    a => {
                        self.put(T0, a, W32);
                        T0
                    }
                };
                self.asm.test(a, b);
                return Some(if op == I32Common { Cond::Ne } else { Cond::Eq });
            }
            _ => return None,
        };
        self.asm.cmp(if op.is_32() { W32 } else { W64 }, a, b);
        Some(cond)
    }

    pub(super) fn compare(&mut self, op: Compare, form: Form) -> Option<()> {
        if op.bank() == Bank::Int {
            let operands = self.operands(form);
            let cond = self.emit_compare(op, operands)?;
            self.asm.set(cond, Acc);
        } else {
            let operands = self.float_operands(form)?;
            let cond = self.emit_float_compare(op, operands)?;
            self.asm.float_set(cond, Acc);
        }
        self.asm.store(self.a(), Acc);
        Some(())
    }

    /// The label to jump to if the result of arithmetic is a NaN, so that the handler makes the right one. `None` on x86-64, whose
    /// NaNs are the right ones.
    fn nan_fallback(&mut self) -> Option<Label> {
        cfg!(not(target_arch = "x86_64")).then(|| self.fails())
    }
}
