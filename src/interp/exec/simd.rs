//! Vectors. Operands and results are in slots.

use std::marker::PhantomData;

use super::memory::{load_any, memory_at, store_any};
use super::{Named, printed};
use crate::interp::machine::{Flow, Handler, Machine};
use crate::interp::print::Field::{self, *};
use crate::interp::print::Half::*;
use crate::interp::value::{SlotValue, Unit};
use crate::numeric::simd::V128;

run! {
    ImmWide(m) {
        let value = u128::from(m.word(1)) | u128::from(m.word(2)) << 64;
        m.put(m.a(), V128::from(value));
        m.skip(3)
    }
    Shuffle(m) {
        shuffle_lanes(m.slot(m.a()), m.slot(m.b()), m.slot(m.c()), m.ip.wrapping_add(1));
        m.skip(3)
    }
}

pub(crate) trait VectorBinaryOp: Named {
    fn apply(a: V128, b: V128) -> V128;
}

pub(crate) trait VectorUnaryOp: Named {
    fn apply(a: V128) -> V128;
}

pub(crate) trait VectorTernaryOp: Named {
    fn apply(a: V128, b: V128, c: V128) -> V128;
}

pub(crate) trait VectorShiftOp: Named {
    fn apply(a: V128, bits: u32) -> V128;
}

/// An operation from a vector to an `i32`.
pub(crate) trait VectorTestOp: Named {
    fn apply(a: V128) -> u32;
}

pub(crate) trait SplatOp: Named {
    type Operand: SlotValue;
    fn apply(x: Self::Operand) -> V128;
}

pub(crate) trait ExtractOp: Named {
    type Output: SlotValue;
    fn apply(v: V128, lane: u8) -> Self::Output;
}

pub(crate) trait ReplaceOp: Named {
    type Operand: SlotValue;
    fn apply(v: V128, lane: u8, x: Self::Operand) -> V128;
}

pub(crate) trait LoadLaneOp: Named {
    type Unit: Unit;
    fn insert(v: V128, lane: u8, unit: Self::Unit) -> V128;
}

pub(crate) trait StoreLaneOp: Named {
    type Unit: Unit;
    fn extract(v: V128, lane: u8) -> Self::Unit;
}

macro_rules! handlers {
    ($($name:ident<$op:ident> $fields:expr, |$m:ident| $run:expr;)*) => {
        $(
            pub(crate) struct $name<O>(PhantomData<O>);
            impl<O: $op> Handler for $name<O> {
                const FIELDS: &'static [Field] = &$fields;

                fn name() -> String {
                    printed(O::NAME)
                }

                #[inline(always)]
                fn run($m: &mut Machine) -> Flow {
                    $run
                }
            }
        )*
    };
}

handlers! {
    VectorBinaryHandler<VectorBinaryOp> [Def(A), Slot(B), Slot(C)], |m| m.finish(O::apply(m.get(m.b()), m.get(m.c())), 1);
    VectorUnaryHandler<VectorUnaryOp> [Def(A), Slot(B)], |m| m.finish(O::apply(m.get(m.b())), 1);
    VectorTernaryHandler<VectorTernaryOp> [Def(A), Slot(B), Slot(C), Low(1)], |m| {
        m.finish(O::apply(m.get(m.b()), m.get(m.c()), m.get(m.low(1) as u16)), 2)
    };
    VectorSwizzleHandler<VectorBinaryOp> [Def(A), Slot(B), Slot(C)], |m| {
        swizzle::<O>(m.slot(m.a()), m.slot(m.b()), m.slot(m.c()));
        m.skip(1)
    };
    VectorFusedHandler<VectorTernaryOp> [Def(A), Slot(B), Slot(C), Low(1)], |m| {
        fused::<O>(m.slot(m.a()), m.slot(m.b()), m.slot(m.c()), m.slot(m.low(1) as u16));
        m.skip(2)
    };
    VectorShiftHandler<VectorShiftOp> [Def(A), Slot(B), Slot(C)], |m| m.finish(O::apply(m.get(m.b()), m.get(m.c())), 1);
    VectorTestHandler<VectorTestOp> [Def(A), Slot(B)], |m| m.finish(O::apply(m.get(m.b())), 1);
    SplatHandler<SplatOp> [Def(A), Slot(B)], |m| m.finish(O::apply(m.get(m.b())), 1);
    ExtractHandler<ExtractOp> [Def(A), Slot(B), ImmC], |m| m.finish(O::apply(m.get(m.b()), m.c() as u8), 1);
    ReplaceHandler<ReplaceOp> [Def(A), Slot(B), ImmC, Low(1)], |m| {
        m.finish(O::apply(m.get(m.b()), m.c() as u8, m.get(m.low(1) as u16)), 2)
    };
    LoadLaneHandler<LoadLaneOp> [Def(A), Slot(B), Slot(C), Word(1), Place(2), High(2)], |m| {
        let (base, length) = memory_at(m, m.low(2));
        match load_any(base, length, m.get(m.b()), m.word(1)) {
            Ok(unit) => m.finish(O::insert(m.get(m.c()), m.high(2) as u8, unit), 3),
            Err(flow) => {
                m.context().other_length = Some(length);
                flow
            }
        }
    };
    StoreLaneHandler<StoreLaneOp> [Slot(A), Slot(B), ImmC, Word(1), Place(2)], |m| {
        let (base, length) = memory_at(m, m.low(2));
        let unit = O::extract(m.get(m.b()), m.c() as u8);
        match store_any(base, length, m.get(m.a()), m.word(1), unit) {
            Ok(()) => m.skip(3),
            Err(flow) => {
                m.context().other_length = Some(length);
                flow
            }
        }
    };
}

// Operations that ask at run time what the processor can do are not inlined: they keep operands in the native stack frame, and a
// handler with such a frame could not end in a tail call. For the same reason they read and write slots by pointer.

#[inline(never)]
fn swizzle<O: VectorBinaryOp>(to: *mut u64, a: *const u64, b: *const u64) {
    // SAFETY: slots of the frame, each the first of a vector's two.
    unsafe { O::apply(V128::read(a), V128::read(b)).write(to) };
}

#[inline(never)]
fn fused<O: VectorTernaryOp>(to: *mut u64, a: *const u64, b: *const u64, c: *const u64) {
    // SAFETY: as above.
    unsafe { O::apply(V128::read(a), V128::read(b), V128::read(c)).write(to) };
}

#[inline(never)]
fn shuffle_lanes(to: *mut u64, a: *const u64, b: *const u64, lanes: *const u64) {
    // SAFETY: as above; the lanes are extension words of the instruction.
    unsafe {
        let lanes = u128::from(*lanes) | u128::from(*lanes.add(1)) << 64;
        crate::numeric::simd::i8x16_shuffle(V128::read(a), V128::read(b), lanes.to_le_bytes()).write(to);
    }
}
