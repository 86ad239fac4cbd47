//! Loads and stores of memory 0. Instructions on ranges of a memory and accesses to other memories are left to their handlers.

use super::lower::Lowering;
use super::{Alu, FloatType, Reg, Shift, Src, StoredInt, Width};
use crate::interp::op::{Load, LoadForm, Plain, Store, StoreForm};

use Reg::{Acc, T0, T1};
use Width::{W32, W64};

impl Lowering<'_> {
    pub(super) fn memory(&mut self, op: Plain) -> Option<()> {
        let (a, b, c) = (self.a(), self.b(), self.c());
        match op {
            Plain::I32Move | Plain::I64Move => {
                let unit = if op == Plain::I32Move { StoredInt::U32 } else { StoredInt::U64 };
                let (from, to) = (self.low(1).into(), u64::from(c));
                self.asm.load(T0, b, W32);
                let from = self.bound(T0, from, unit.bytes())?;
                self.asm.load_memory(unit, T1, T0, from);
                self.asm.load(T0, a, W32);
                let to = self.bound(T0, to, unit.bytes())?;
                self.asm.store_memory(unit, T1, T0, to);
            }
            _ => return None,
        }
        Some(())
    }

    /// Checks an access of `bytes` bytes at `index + offset` of memory 0; the instruction fails if it is out of bounds. Returns the
    /// offset as a displacement, or `None` if it is too large for one.
    fn bound(&mut self, index: Reg, offset: u64, bytes: u64) -> Option<i32> {
        let end = i32::try_from(offset + bytes).ok()?;
        let fails = self.fails();
        self.asm.bound(index, end, fails);
        Some(offset as i32)
    }

    pub(super) fn load(&mut self, op: Load, form: LoadForm, kept: bool) -> Option<()> {
        use Load::*;
        let (unit, float) = match op {
            I32Load8U | I64Load8U => (StoredInt::U8, None),
            I32Load16U | I64Load16U => (StoredInt::U16, None),
            I32Load | I64Load32U => (StoredInt::U32, None),
            I64Load => (StoredInt::U64, None),
            I32Load8S => (StoredInt::S8(W32), None),
            I64Load8S => (StoredInt::S8(W64), None),
            I32Load16S => (StoredInt::S16(W32), None),
            I64Load16S => (StoredInt::S16(W64), None),
            I64Load32S => (StoredInt::S32, None),
            F32Load => (StoredInt::U32, Some(FloatType::F32)),
            F64Load => (StoredInt::U64, Some(FloatType::F64)),
            _ => return None,
        };
        let (b, c) = (self.b(), self.c());
        let (index, offset) = match form {
            LoadForm::Slot => {
                self.asm.load(T0, b, W32);
                (T0, u64::from(c))
            }
            LoadForm::Acc => (Acc, self.bc().into()),
            LoadForm::Const => {
                self.asm.imm(T0, self.bc().into());
                (T0, 0)
            }
            LoadForm::Plus => {
                self.asm.load(T0, b, W32);
                self.asm.alu(Alu::Add, W32, T0, Src::Imm((c as i16).into()));
                (T0, 0)
            }
            LoadForm::Index => {
                self.asm.load(T0, c, W32);
                self.asm.shift(Shift::Shl, W32, T0, Src::Imm((self.high(1) & 31) as i32));
                self.asm.alu(Alu::Add, W32, T0, Src::Slot(b));
                (T0, self.low(1).into())
            }
            LoadForm::Deref => {
                self.asm.load(T0, b, W32);
                let offset = self.bound(T0, c.into(), 4)?;
                self.asm.load_memory(StoredInt::U32, T0, T0, offset);
                (T0, self.low(1).into())
            }
            LoadForm::AccDeref => {
                let offset = self.bound(Acc, self.bc().into(), 4)?;
                self.asm.load_memory(StoredInt::U32, T0, Acc, offset);
                (T0, self.low(1).into())
            }
            LoadForm::Any => return None,
        };
        let offset = self.bound(index, offset, unit.bytes())?;
        match float {
            None => {
                self.asm.load_memory(unit, Acc, index, offset);
                if !kept {
                    self.asm.store(self.a(), Acc);
                }
            }
            Some(float) => {
                self.asm.load_memory(unit, T0, index, offset);
                self.asm.bits_to_float(float, T0);
                if !kept {
                    self.asm.store(self.a(), T0);
                }
            }
        }
        Some(())
    }

    pub(super) fn store(&mut self, op: Store, form: StoreForm) -> Option<()> {
        use Store::*;
        let (unit, float) = match op {
            I32Store8 | I64Store8 => (StoredInt::U8, None),
            I32Store16 | I64Store16 => (StoredInt::U16, None),
            I32Store | I64Store32 => (StoredInt::U32, None),
            I64Store => (StoredInt::U64, None),
            F32Store => (StoredInt::U32, Some(FloatType::F32)),
            F64Store => (StoredInt::U64, Some(FloatType::F64)),
            V128Store => return None,
        };
        let (a, b) = (self.a(), self.b());
        let (address, value, offset) = match form {
            StoreForm::Slots => (Src::Slot(a), Src::Slot(b), u64::from(self.c())),
            StoreForm::AddrAcc => (Src::Reg(Acc), Src::Slot(a), self.bc().into()),
            StoreForm::ValueAcc => (Src::Slot(a), Src::Reg(Acc), self.bc().into()),
            StoreForm::Imm if float.is_none() => (Src::Slot(a), Src::Imm((b as i16).into()), self.c().into()),
            StoreForm::AccImm if float.is_none() => (Src::Reg(Acc), Src::Imm((a as i16).into()), self.bc().into()),
            StoreForm::Const => {
                self.asm.imm(T0, self.bc().into());
                (Src::Reg(T0), Src::Slot(a), 0)
            }
            _ => return None,
        };
        let index = match address {
            Src::Reg(index) => index,
            from => {
                self.put(T0, from, W32);
                T0
            }
        };
        let offset = self.bound(index, offset, unit.bytes())?;
        let from = match (value, float) {
            (Src::Reg(_), Some(float)) => {
                self.asm.bits_of_float(float, T1);
                T1
            }
            (Src::Reg(from), None) => from,
            (from, _) => {
                self.put(T1, from, W64);
                T1
            }
        };
        self.asm.store_memory(unit, from, index, offset);
        Some(())
    }
}
