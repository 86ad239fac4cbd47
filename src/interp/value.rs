//! How values are kept in slots, accumulators, immediates and memory.

use super::machine::Machine;
use crate::numeric::simd::V128;
use crate::vm::racy::{Racy, Wide};

/// The accumulator that also keeps the results of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bank {
    Int,
    F32,
    F64,
    /// Vectors are only kept in slots.
    Vector,
}

/// A value that handlers read and write.
pub(super) trait SlotValue: Copy {
    const BANK: Bank;

    /// Reads a slot.
    ///
    /// # Safety
    /// `slot` is readable; for vectors, the next one too.
    unsafe fn read(slot: *const u64) -> Self;

    /// Writes a slot.
    ///
    /// # Safety
    /// `slot` is writable; for vectors, the next one too.
    unsafe fn write(self, slot: *mut u64);

    /// The value in the accumulator. Vectors have none.
    fn from_acc(m: &Machine) -> Self;

    /// Leaves the value in the accumulator.
    fn to_acc(self, m: &mut Machine);

    /// The value of a sign-extended immediate; for integers.
    fn from_imm(imm: i32) -> Self;

    /// The value of an extension word.
    fn from_word(word: u64) -> Self;
}

macro_rules! ints {
    ($($ty:ident via $slot:ident;)*) => {
        $(impl SlotValue for $ty {
            const BANK: Bank = Bank::Int;

            #[inline(always)]
            unsafe fn read(slot: *const u64) -> Self {
                // SAFETY: the caller's promise.
                unsafe { *slot as $ty }
            }

            #[inline(always)]
            unsafe fn write(self, slot: *mut u64) {
                // SAFETY: the caller's promise.
                unsafe { *slot = self as $slot as u64 };
            }

            #[inline(always)]
            fn from_acc(m: &Machine) -> Self {
                m.acc as $ty
            }

            #[inline(always)]
            fn to_acc(self, m: &mut Machine) {
                m.acc = self as $slot as u64;
            }

            #[inline(always)]
            fn from_imm(imm: i32) -> Self {
                imm as $ty
            }

            #[inline(always)]
            fn from_word(word: u64) -> Self {
                word as $ty
            }
        })*
    };
}

ints! {
    u32 via u32;
    i32 via u32;
    u64 via u64;
    i64 via u64;
}

macro_rules! floats {
    ($($ty:ident as $bits:ident in $acc:ident, $bank:ident;)*) => {
        $(impl SlotValue for $ty {
            const BANK: Bank = Bank::$bank;

            #[inline(always)]
            unsafe fn read(slot: *const u64) -> Self {
                // SAFETY: the caller's promise.
                $ty::from_bits(unsafe { *slot as $bits })
            }

            #[inline(always)]
            unsafe fn write(self, slot: *mut u64) {
                // SAFETY: the caller's promise.
                unsafe { *slot = self.to_bits() as u64 };
            }

            #[inline(always)]
            fn from_acc(m: &Machine) -> Self {
                m.$acc
            }

            #[inline(always)]
            fn to_acc(self, m: &mut Machine) {
                m.$acc = self;
            }

            #[inline(always)]
            fn from_imm(imm: i32) -> Self {
                imm as $ty
            }

            #[inline(always)]
            fn from_word(word: u64) -> Self {
                $ty::from_bits(word as $bits)
            }
        })*
    };
}

floats! {
    f32 as u32 in acc32, F32;
    f64 as u64 in acc64, F64;
}

impl SlotValue for V128 {
    const BANK: Bank = Bank::Vector;

    #[inline(always)]
    unsafe fn read(slot: *const u64) -> Self {
        // SAFETY: the caller's promise; a vector has no alignment.
        unsafe { slot.cast::<V128>().read() }.in_slot_order()
    }

    #[inline(always)]
    unsafe fn write(self, slot: *mut u64) {
        // SAFETY: as above.
        unsafe { slot.cast::<V128>().write(self.in_slot_order()) };
    }

    #[inline(always)]
    fn from_acc(_: &Machine) -> Self {
        V128::ZERO
    }

    #[inline(always)]
    fn to_acc(self, _: &mut Machine) {}

    #[inline(always)]
    fn from_imm(_: i32) -> Self {
        V128::ZERO
    }

    #[inline(always)]
    fn from_word(word: u64) -> Self {
        u128::from(word).into()
    }
}

/// What one load reads or one store writes: little-endian, at any alignment. Other threads may access the bytes at the same time,
/// if the memory is shared.
pub(super) trait Unit: Copy {
    const SIZE: u64 = size_of::<Self>() as u64;

    /// Reads the unit at `base + index`.
    ///
    /// # Safety
    /// The unit's bytes are readable.
    unsafe fn load(base: *const u8, index: usize) -> Self;

    /// Writes the unit to `base + index`.
    ///
    /// # Safety
    /// The unit's bytes are writable.
    unsafe fn store(self, base: *mut u8, index: usize);
}

macro_rules! units {
    ($($ty:ident $in_order:expr;)*) => {
        $(impl Unit for $ty {
            #[inline(always)]
            unsafe fn load(base: *const u8, index: usize) -> Self {
                // SAFETY: the caller's promise.
                $in_order(unsafe { Racy::load_racy(base, index) })
            }

            #[inline(always)]
            unsafe fn store(self, base: *mut u8, index: usize) {
                // SAFETY: the caller's promise.
                unsafe { Racy::store_racy($in_order(self), base, index) };
            }
        })*
    };
}

// The conversion from the order of memory to the host's is also that back.
units! {
    u8 u8::to_le;
    u16 u16::to_le;
    u32 u32::to_le;
    u64 u64::to_le;
    f32 |value: f32| f32::from_bits(value.to_bits().to_le());
    f64 |value: f64| f64::from_bits(value.to_bits().to_le());
    Wide |value: Wide| value;
}
