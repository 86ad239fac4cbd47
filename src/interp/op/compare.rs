//! Facts about comparisons.

use super::Compare;
use crate::interp::value::Bank;

impl Compare {
    /// The bank of the operands.
    pub fn bank(self) -> Bank {
        use Compare::*;
        match self {
            F32Eq | F32Ne | F32Lt | F32Gt | F32Le | F32Ge | F32NotLt | F32NotGt | F32NotLe | F32NotGe => Bank::F32,
            F64Eq | F64Ne | F64Lt | F64Gt | F64Le | F64Ge | F64NotLt | F64NotGt | F64NotLe | F64NotGe => Bank::F64,
            _ => Bank::Int,
        }
    }

    /// Whether the operands are `i32`.
    pub fn is_32(self) -> bool {
        (self as u16) < Compare::I64Eq as u16
    }

    /// The comparison that gives the same with the operands swapped.
    pub fn swapped(self) -> Self {
        use Compare::*;
        match self {
            I32LtS => I32GtS,
            I32LtU => I32GtU,
            I32GtS => I32LtS,
            I32GtU => I32LtU,
            I32LeS => I32GeS,
            I32LeU => I32GeU,
            I32GeS => I32LeS,
            I32GeU => I32LeU,
            I64LtS => I64GtS,
            I64LtU => I64GtU,
            I64GtS => I64LtS,
            I64GtU => I64LtU,
            I64LeS => I64GeS,
            I64LeU => I64GeU,
            I64GeS => I64LeS,
            I64GeU => I64LeU,
            F32Lt => F32Gt,
            F32Gt => F32Lt,
            F32Le => F32Ge,
            F32Ge => F32Le,
            F32NotLt => F32NotGt,
            F32NotGt => F32NotLt,
            F32NotLe => F32NotGe,
            F32NotGe => F32NotLe,
            F64Lt => F64Gt,
            F64Gt => F64Lt,
            F64Le => F64Ge,
            F64Ge => F64Le,
            F64NotLt => F64NotGt,
            F64NotGt => F64NotLt,
            F64NotLe => F64NotGe,
            F64NotGe => F64NotLe,
            I32Common | I32Apart | I32Eq | I32Ne | I64Eq | I64Ne | F32Eq | F32Ne | F64Eq | F64Ne => self,
        }
    }

    /// The comparison that holds where this one does not.
    pub fn negated(self) -> Self {
        use Compare::*;
        match self {
            I32Eq => I32Ne,
            I32Ne => I32Eq,
            I32LtS => I32GeS,
            I32LtU => I32GeU,
            I32GtS => I32LeS,
            I32GtU => I32LeU,
            I32LeS => I32GtS,
            I32LeU => I32GtU,
            I32GeS => I32LtS,
            I32GeU => I32LtU,
            I64Eq => I64Ne,
            I64Ne => I64Eq,
            I64LtS => I64GeS,
            I64LtU => I64GeU,
            I64GtS => I64LeS,
            I64GtU => I64LeU,
            I64LeS => I64GtS,
            I64LeU => I64GtU,
            I64GeS => I64LtS,
            I64GeU => I64LtU,
            F32Eq => F32Ne,
            F32Ne => F32Eq,
            F32Lt => F32NotLt,
            F32Gt => F32NotGt,
            F32Le => F32NotLe,
            F32Ge => F32NotGe,
            F32NotLt => F32Lt,
            F32NotGt => F32Gt,
            F32NotLe => F32Le,
            F32NotGe => F32Ge,
            F64Eq => F64Ne,
            F64Ne => F64Eq,
            F64Lt => F64NotLt,
            F64Gt => F64NotGt,
            F64Le => F64NotLe,
            F64Ge => F64NotGe,
            F64NotLt => F64Lt,
            F64NotGt => F64Gt,
            F64NotLe => F64Le,
            F64NotGe => F64Ge,
            I32Common => I32Apart,
            I32Apart => I32Common,
        }
    }
}
