//! How values are kept in slots, accumulators, immediates and memory.

use super::machine::Machine;
use crate::numeric::simd::V128;

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

/// What one load reads or one store writes: little-endian, at any alignment.
pub(super) trait Unit: Copy {
    const SIZE: u64 = size_of::<Self>() as u64;

    /// Reads the unit at `place`.
    ///
    /// # Safety
    /// The unit's bytes are readable.
    unsafe fn load(place: *const u8) -> Self;

    /// Writes the unit to `place`.
    ///
    /// # Safety
    /// The unit's bytes are writable.
    unsafe fn store(self, place: *mut u8);
}

macro_rules! units {
    ($($ty:ident)*) => {
        $(impl Unit for $ty {
            #[inline(always)]
            unsafe fn load(place: *const u8) -> Self {
                // SAFETY: the caller's promise.
                $ty::from_le(unsafe { place.cast::<$ty>().read_unaligned() })
            }

            #[inline(always)]
            unsafe fn store(self, place: *mut u8) {
                // SAFETY: the caller's promise.
                unsafe { place.cast::<$ty>().write_unaligned(self.to_le()) };
            }
        })*
    };
}

units! { u8 u16 u32 u64 }

impl Unit for V128 {
    #[inline(always)]
    unsafe fn load(place: *const u8) -> Self {
        // SAFETY: the caller's promise.
        unsafe { place.cast::<V128>().read() }
    }

    #[inline(always)]
    unsafe fn store(self, place: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { place.cast::<V128>().write(self) };
    }
}
