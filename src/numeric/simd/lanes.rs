//! Instructions that move lanes (splat, extract, replace, shuffle, swizzle, widening loads), bitwise logic, and lane tests.

use super::{V128, lanewise, target};

// Validation holds lane indices below the number of lanes. The remainder costs nothing and lets the compiler see that the
// access can't panic.
macro_rules! splat_extract_replace {
    ($([$lane:ident; $n:literal] as $value:ident: $($splat:ident $replace:ident)? = $($extract:ident $as:ident),+;)*) => {
        $(
            $(
                #[inline(always)]
                pub(crate) fn $splat(x: $value) -> V128 {
                    [x as $lane; $n].into()
                }

                #[inline(always)]
                pub(crate) fn $replace(a: V128, lane: u8, x: $value) -> V128 {
                    let mut lanes: [$lane; $n] = a.into();
                    lanes[lane as usize % $n] = x as $lane;
                    lanes.into()
                }
            )?
            $(
                #[inline(always)]
                pub(crate) fn $extract(a: V128, lane: u8) -> $value {
                    let lanes: [$lane; $n] = a.into();
                    lanes[lane as usize % $n] as $as as $value
                }
            )+
        )*
    };
}

splat_extract_replace! {
    [u8; 16] as u32: i8x16_splat i8x16_replace_lane = i8x16_extract_lane_s i8, i8x16_extract_lane_u u8;
    [u16; 8] as u32: i16x8_splat i16x8_replace_lane = i16x8_extract_lane_s i16, i16x8_extract_lane_u u16;
    [u32; 4] as u32: i32x4_splat i32x4_replace_lane = i32x4_extract_lane u32;
    [u64; 2] as u64: i64x2_splat i64x2_replace_lane = i64x2_extract_lane u64;
    [f32; 4] as f32: f32x4_splat f32x4_replace_lane = f32x4_extract_lane f32;
    [f64; 2] as f64: f64x2_splat f64x2_replace_lane = f64x2_extract_lane f64;
}

/// Byte `i` is byte `lanes[i]` of the 32 bytes of `a` and `b`. Validation holds the indices below 32.
#[inline(always)]
pub(crate) fn i8x16_shuffle(a: V128, b: V128, lanes: [u8; 16]) -> V128 {
    target::i8x16_shuffle(a, b, V128(lanes))
}

/// Byte `i` is byte `indices[i]` of `a`, or zero if the index is not below 16.
#[inline(always)]
pub(crate) fn i8x16_swizzle(a: V128, indices: V128) -> V128 {
    target::i8x16_swizzle(a, indices)
}

// Loads that widen or zero-extend; the argument is the integer in memory. Other vector loads have no function here:
// `v128.load8_splat` is a load and a splat, `v128.load8_lane` a load and a replaced lane.
macro_rules! widening_load {
    ($($name:ident)*) => {
        $(
            #[inline(always)]
            pub(crate) fn $name(memory: u64) -> V128 {
                target::$name(memory)
            }
        )*
    };
}

widening_load! {
    v128_load8x8_s v128_load8x8_u v128_load16x4_s v128_load16x4_u v128_load32x2_s v128_load32x2_u
}

#[inline(always)]
pub(crate) fn v128_load32_zero(memory: u32) -> V128 {
    [memory, 0, 0, 0].into()
}

#[inline(always)]
pub(crate) fn v128_load64_zero(memory: u64) -> V128 {
    [memory, 0].into()
}

lanewise! {
    v128_not: [u64; 2] -> u64, |a| !a;
    v128_and: [u64; 2] -> u64, |a, b| a & b;
    v128_andnot: [u64; 2] -> u64, |a, b| a & !b;
    v128_or: [u64; 2] -> u64, |a, b| a | b;
    v128_xor: [u64; 2] -> u64, |a, b| a ^ b;
    /// The bits of `a` where `mask` has ones, of `b` where it has zeros.
    v128_bitselect: [u64; 2] -> u64, |a, b, mask| (a & mask) | (b & !mask);
}

/// 1 if any bit of the vector is set, otherwise 0.
#[inline(always)]
pub(crate) fn v128_any_true(a: V128) -> u32 {
    let [low, high]: [u64; 2] = a.into();
    (low | high != 0).into()
}

// `all_true` is 1 if no lane is zero, otherwise 0. `bitmask` has the sign bit of lane `i` in bit `i`.
macro_rules! lane_tests {
    ($([$lane:ident; $n:literal]: $all_true:ident $eq:ident $bitmask:ident;)*) => {
        $(
            #[inline(always)]
            pub(crate) fn $all_true(a: V128) -> u32 {
                u32::from(v128_any_true(super::$eq(a, V128::ZERO)) == 0)
            }

            #[inline(always)]
            pub(crate) fn $bitmask(a: V128) -> u32 {
                target::$bitmask(a)
            }
        )*
    };
}

lane_tests! {
    [i8; 16]: i8x16_all_true i8x16_eq i8x16_bitmask;
    [i16; 8]: i16x8_all_true i16x8_eq i16x8_bitmask;
    [i32; 4]: i32x4_all_true i32x4_eq i32x4_bitmask;
    [i64; 2]: i64x2_all_true i64x2_eq i64x2_bitmask;
}
