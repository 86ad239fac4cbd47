//! Scalar constants, arithmetic and comparisons.

use std::marker::PhantomData;

use super::{Named, kept, printed};
use crate::error::Trap;
use crate::interp::machine::{Flow, Handler, Machine};
use crate::interp::print::Field::{self, *};
use crate::interp::print::Half::*;
use crate::interp::value::SlotValue;
use crate::numeric;

run! {
    Imm32(m) {
        m.put(m.a(), m.bc() as i32 as u64);
        m.skip(1)
    }
    Imm32U(m) {
        m.put(m.a(), m.bc());
        m.skip(1)
    }
    Imm64(m) {
        m.put(m.a(), m.word(1));
        m.skip(2)
    }
    I64Add128(m) wide(m, |[a, b, c, d]| numeric::i64_add128(joined(a, b), joined(c, d)))
    I64Sub128(m) wide(m, |[a, b, c, d]| numeric::i64_sub128(joined(a, b), joined(c, d)))
    I64MulWideS(m) wide(m, |[a, b]| numeric::i64_mul_wide_s(a, b))
    I64MulWideU(m) wide(m, |[a, b]| numeric::i64_mul_wide_u(a, b))
}

/// The number of 128 bits with these halves.
fn joined(low: u64, high: u64) -> u128 {
    u128::from(low) | u128::from(high) << 64
}

/// Replaces the `N` operands of wide arithmetic by the halves of the result, the lower one first.
#[inline(always)]
fn wide<const N: usize>(m: &mut Machine, apply: impl FnOnce([u64; N]) -> u128) -> Flow {
    let slots = m.fp.wrapping_add(m.low(1) as usize);
    // SAFETY: the machine's invariant: the operands are in the frame, and there are at least two, so the results are too.
    unsafe {
        let result = apply(slots.cast::<[u64; N]>().read());
        slots.cast::<[u64; 2]>().write([result as u64, (result >> 64) as u64]);
    }
    m.skip(2)
}

/// An operation with two operands and a result of one type.
pub(crate) trait BinaryOp: Named {
    type Operand: SlotValue;
    fn apply(a: Self::Operand, b: Self::Operand) -> Result<Self::Operand, Trap>;
}

pub(crate) trait UnaryOp: Named {
    type Operand: SlotValue;
    type Output: SlotValue;
    fn apply(a: Self::Operand) -> Result<Self::Output, Trap>;
}

pub(crate) trait CompareOp: Named {
    type Operand: SlotValue;
    fn holds(a: Self::Operand, b: Self::Operand) -> bool;
}

/// A [`Form`](crate::interp::op::Form) as a type: where two operands are.
pub(crate) trait FormOf {
    const SUFFIX: &'static str;
    /// Words and fields of an instruction with a result.
    const WORDS: usize;
    const FIELDS: &'static [Field];
    /// Words and fields of a branch. Its first extension word holds the jump in the low half.
    const BRANCH_WORDS: usize;
    const BRANCH_FIELDS: &'static [Field];

    fn operands<T: SlotValue>(m: &Machine) -> (T, T);
    fn branch_operands<T: SlotValue>(m: &Machine) -> (T, T);
}

/// The forms as types.
pub(crate) mod form {
    use super::*;

    macro_rules! forms {
        ($(
            $name:ident $suffix:literal $words:literal $fields:expr, |$m:ident| ($a:expr, $b:expr);
            branch $branch_words:literal $branch_fields:expr, |$n:ident| ($c:expr, $d:expr);
        )*) => {
            $(
                pub struct $name;
                impl FormOf for $name {
                    const SUFFIX: &'static str = $suffix;
                    const WORDS: usize = $words;
                    const FIELDS: &'static [Field] = &$fields;
                    const BRANCH_WORDS: usize = $branch_words;
                    const BRANCH_FIELDS: &'static [Field] = &$branch_fields;

                    #[inline(always)]
                    fn operands<T: SlotValue>($m: &Machine) -> (T, T) {
                        ($a, $b)
                    }

                    #[inline(always)]
                    fn branch_operands<T: SlotValue>($n: &Machine) -> (T, T) {
                        ($c, $d)
                    }
                }
            )*
        };
    }

    forms! {
        SS "ss" 1 [Def(A), Slot(B), Slot(C)], |m| (m.get(m.b()), m.get(m.c()));
        branch 2 [Slot(A), Slot(B), Jump(1)], |m| (m.get(m.a()), m.get(m.b()));

        AS "as" 1 [Def(A), Slot(C)], |m| (T::from_acc(m), m.get(m.c()));
        branch 2 [Slot(B), Jump(1)], |m| (T::from_acc(m), m.get(m.b()));

        SA "sa" 1 [Def(A), Slot(B)], |m| (m.get(m.b()), T::from_acc(m));
        branch 2 [Slot(A), Jump(1)], |m| (m.get(m.a()), T::from_acc(m));

        SI "si" 1 [Def(A), Slot(B), ImmC], |m| (m.get(m.b()), T::from_imm(m.c() as i16 as i32));
        branch 2 [Slot(A), Imm(1), Jump(1)], |m| (m.get(m.a()), T::from_imm(m.high(1) as i32));

        AI "ai" 1 [Def(A), ImmBC], |m| (T::from_acc(m), T::from_imm(m.bc() as i32));
        branch 2 [Imm(1), Jump(1)], |m| (T::from_acc(m), T::from_imm(m.high(1) as i32));

        SK "sk" 2 [Def(A), Slot(B), Word(1)], |m| (m.get(m.b()), T::from_word(m.word(1)));
        branch 3 [Slot(A), Word(2), Jump(1)], |m| (m.get(m.a()), T::from_word(m.word(2)));

        KS "ks" 2 [Def(A), Word(1), Slot(C)], |m| (T::from_word(m.word(1)), m.get(m.c()));
        branch 3 [Word(2), Slot(B), Jump(1)], |m| (T::from_word(m.word(2)), m.get(m.b()));
    }
}

/// An instruction with two operands. `KEPT`: the result is only left in the accumulator.
pub(crate) struct BinaryHandler<O, F, const KEPT: bool>(PhantomData<(O, F)>);

impl<O: BinaryOp, F: FormOf, const KEPT: bool> Handler for BinaryHandler<O, F, KEPT> {
    const FIELDS: &'static [Field] = F::FIELDS;

    fn name() -> String {
        format!("{}.{}{}", printed(O::NAME), F::SUFFIX, kept(KEPT))
    }

    #[inline(always)]
    fn run(m: &mut Machine) -> Flow {
        let (a, b) = F::operands(m);
        match O::apply(a, b) {
            Ok(value) if KEPT => m.keep(value, F::WORDS),
            Ok(value) => m.finish(value, F::WORDS),
            Err(trap) => Flow::Trap(trap),
        }
    }
}

/// An instruction with one operand. `ACC`: the operand is in the accumulator. `KEPT`: the result is only left there.
pub(crate) struct UnaryHandler<O, const ACC: bool, const KEPT: bool>(PhantomData<O>);

impl<O: UnaryOp, const ACC: bool, const KEPT: bool> Handler for UnaryHandler<O, ACC, KEPT> {
    const FIELDS: &'static [Field] = if ACC { &[Def(A)] } else { &[Def(A), Slot(B)] };

    fn name() -> String {
        format!("{}.{}{}", printed(O::NAME), if ACC { "a" } else { "s" }, kept(KEPT))
    }

    #[inline(always)]
    fn run(m: &mut Machine) -> Flow {
        let a = if ACC { O::Operand::from_acc(m) } else { m.get(m.b()) };
        match O::apply(a) {
            Ok(value) if KEPT => m.keep(value, 1),
            Ok(value) => m.finish(value, 1),
            Err(trap) => Flow::Trap(trap),
        }
    }
}

/// A comparison whose result is 0 or 1.
pub(crate) struct CompareHandler<O, F>(PhantomData<(O, F)>);

impl<O: CompareOp, F: FormOf> Handler for CompareHandler<O, F> {
    const FIELDS: &'static [Field] = F::FIELDS;

    fn name() -> String {
        format!("{}.{}", printed(O::NAME), F::SUFFIX)
    }

    #[inline(always)]
    fn run(m: &mut Machine) -> Flow {
        let (a, b) = F::operands(m);
        m.finish(u32::from(O::holds(a, b)), F::WORDS)
    }
}
