//! From an opcode back to the instruction and its form, for those who compile bytecode.

use std::mem::offset_of;

use super::{
    BINARY_FORMS, Binary, Compare, FORMS, Form, LOAD_FORMS, LOADS, Load, LoadForm, OpTable, Plain, Store, StoreForm,
    UNARY_FORMS, Unary,
};

/// An instruction and its form. The `bool` of most classes says that the result is only left in the accumulator. Vector
/// instructions are all `Other`.
#[derive(Clone, Copy, Debug)]
pub(in crate::interp) enum Inst {
    Plain(Plain),
    Compare(Compare, Form),
    Branch(Compare, Form),
    /// Whether it compares with an immediate.
    Step(Compare, bool),
    Binary(Binary, Form, bool),
    /// Whether the operand is in the accumulator, and whether the result is only left there.
    Unary(Unary, bool, bool),
    Load(Load, LoadForm, bool),
    Store(Store, StoreForm),
    Other,
}

impl Inst {
    pub fn of(op: u16) -> Self {
        const STORES: [StoreForm; 7] = [
            StoreForm::Slots,
            StoreForm::AddrAcc,
            StoreForm::ValueAcc,
            StoreForm::Imm,
            StoreForm::AccImm,
            StoreForm::Const,
            StoreForm::Any,
        ];
        // The number of the opcode's row in a class, and its place there.
        let row = |base: usize, rows: usize, length: usize| {
            let index = usize::from(op).checked_sub(base)?;
            (index < rows * length).then_some((index / length, index % length))
        };
        macro_rules! class {
            ($class:ident $field:ident $length:expr, |$i:ident, $at:ident| $inst:expr) => {
                if let Some(($i, $at)) = row(offset_of!(OpTable<u8>, $field), $class::COUNT, $length) {
                    return $inst;
                }
            };
        }
        if let Some(plain) = Plain::ALL.get(usize::from(op)) {
            return Inst::Plain(*plain);
        }
        class!(Compare compare 6, |i, at| Inst::Compare(Compare::ALL[i], FORMS[at]));
        class!(Compare branch 6, |i, at| Inst::Branch(Compare::ALL[i], FORMS[at]));
        if let Some((i, at)) = row(offset_of!(OpTable<u8>, step), Compare::I64Eq as usize, 2) {
            return Inst::Step(Compare::ALL[i], at == 1);
        }
        class!(Binary binary 2 * BINARY_FORMS, |i, at| {
            Inst::Binary(Binary::ALL[i], FORMS[at % BINARY_FORMS], at >= BINARY_FORMS)
        });
        class!(Unary unary 2 * UNARY_FORMS, |i, at| {
            Inst::Unary(Unary::ALL[i], at % UNARY_FORMS == 1, at >= UNARY_FORMS)
        });
        class!(Load load 2 * LOAD_FORMS + 1, |i, at| {
            let form = if at == 2 * LOAD_FORMS { LoadForm::Any } else { LOADS[at % LOAD_FORMS] };
            Inst::Load(Load::ALL[i], form, (LOAD_FORMS..2 * LOAD_FORMS).contains(&at))
        });
        class!(Store store 7, |i, at| Inst::Store(Store::ALL[i], STORES[at]));
        Inst::Other
    }
}
