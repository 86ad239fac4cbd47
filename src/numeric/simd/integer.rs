//! Integer arithmetic, lane by lane: comparisons, arithmetic, shifts.

use super::{V128, comparison, lanewise, target};

comparison! {
    [i8; 16] -> u8: i8x16_eq ==, i8x16_ne !=, i8x16_lt_s <, i8x16_gt_s >, i8x16_le_s <=, i8x16_ge_s >=,;
    [u8; 16] -> u8: i8x16_lt_u <, i8x16_gt_u >, i8x16_le_u <=, i8x16_ge_u >=,;
    [i16; 8] -> u16: i16x8_eq ==, i16x8_ne !=, i16x8_lt_s <, i16x8_gt_s >, i16x8_le_s <=, i16x8_ge_s >=,;
    [u16; 8] -> u16: i16x8_lt_u <, i16x8_gt_u >, i16x8_le_u <=, i16x8_ge_u >=,;
    [i32; 4] -> u32: i32x4_eq ==, i32x4_ne !=, i32x4_lt_s <, i32x4_gt_s >, i32x4_le_s <=, i32x4_ge_s >=,;
    [u32; 4] -> u32: i32x4_lt_u <, i32x4_gt_u >, i32x4_le_u <=, i32x4_ge_u >=,;
    [i64; 2] -> u64: i64x2_eq ==, i64x2_ne !=, i64x2_lt_s <, i64x2_gt_s >, i64x2_le_s <=, i64x2_ge_s >=,;
}

lanewise! {
    i8x16_abs: [i8; 16] -> i8, |a| a.wrapping_abs();
    i8x16_neg: [i8; 16] -> i8, |a| a.wrapping_neg();
    i8x16_popcnt: [u8; 16] -> u8, |a| a.count_ones() as u8;
    i8x16_add: [u8; 16] -> u8, |a, b| a.wrapping_add(b);
    i8x16_add_sat_s: [i8; 16] -> i8, |a, b| a.saturating_add(b);
    i8x16_add_sat_u: [u8; 16] -> u8, |a, b| a.saturating_add(b);
    i8x16_sub: [u8; 16] -> u8, |a, b| a.wrapping_sub(b);
    i8x16_sub_sat_s: [i8; 16] -> i8, |a, b| a.saturating_sub(b);
    i8x16_sub_sat_u: [u8; 16] -> u8, |a, b| a.saturating_sub(b);
    i8x16_min_s: [i8; 16] -> i8, |a, b| a.min(b);
    i8x16_min_u: [u8; 16] -> u8, |a, b| a.min(b);
    i8x16_max_s: [i8; 16] -> i8, |a, b| a.max(b);
    i8x16_max_u: [u8; 16] -> u8, |a, b| a.max(b);
    i8x16_avgr_u: [u8; 16] -> u8, |a, b| ((u16::from(a) + u16::from(b) + 1) >> 1) as u8;

    i16x8_abs: [i16; 8] -> i16, |a| a.wrapping_abs();
    i16x8_neg: [i16; 8] -> i16, |a| a.wrapping_neg();
    i16x8_add: [u16; 8] -> u16, |a, b| a.wrapping_add(b);
    i16x8_add_sat_s: [i16; 8] -> i16, |a, b| a.saturating_add(b);
    i16x8_add_sat_u: [u16; 8] -> u16, |a, b| a.saturating_add(b);
    i16x8_sub: [u16; 8] -> u16, |a, b| a.wrapping_sub(b);
    i16x8_sub_sat_s: [i16; 8] -> i16, |a, b| a.saturating_sub(b);
    i16x8_sub_sat_u: [u16; 8] -> u16, |a, b| a.saturating_sub(b);
    i16x8_mul: [u16; 8] -> u16, |a, b| a.wrapping_mul(b);
    i16x8_min_s: [i16; 8] -> i16, |a, b| a.min(b);
    i16x8_min_u: [u16; 8] -> u16, |a, b| a.min(b);
    i16x8_max_s: [i16; 8] -> i16, |a, b| a.max(b);
    i16x8_max_u: [u16; 8] -> u16, |a, b| a.max(b);
    i16x8_avgr_u: [u16; 8] -> u16, |a, b| ((u32::from(a) + u32::from(b) + 1) >> 1) as u16;
    /// The rounded product of fixed-point numbers with 15 fraction bits; only -1 * -1 saturates.
    i16x8_q15mulr_sat_s: [i16; 8] -> i16, |a, b| {
        ((i32::from(a) * i32::from(b) + 0x4000) >> 15).clamp(i16::MIN.into(), i16::MAX.into()) as i16
    };

    i32x4_abs: [i32; 4] -> i32, |a| a.wrapping_abs();
    i32x4_neg: [i32; 4] -> i32, |a| a.wrapping_neg();
    i32x4_add: [u32; 4] -> u32, |a, b| a.wrapping_add(b);
    i32x4_sub: [u32; 4] -> u32, |a, b| a.wrapping_sub(b);
    i32x4_mul: [u32; 4] -> u32, |a, b| a.wrapping_mul(b);
    i32x4_min_s: [i32; 4] -> i32, |a, b| a.min(b);
    i32x4_min_u: [u32; 4] -> u32, |a, b| a.min(b);
    i32x4_max_s: [i32; 4] -> i32, |a, b| a.max(b);
    i32x4_max_u: [u32; 4] -> u32, |a, b| a.max(b);

    i64x2_abs: [i64; 2] -> i64, |a| a.wrapping_abs();
    i64x2_neg: [i64; 2] -> i64, |a| a.wrapping_neg();
    i64x2_add: [u64; 2] -> u64, |a, b| a.wrapping_add(b);
    i64x2_sub: [u64; 2] -> u64, |a, b| a.wrapping_sub(b);
    i64x2_mul: [u64; 2] -> u64, |a, b| a.wrapping_mul(b);
}

/// Multiplies the lanes and adds the products of two adjacent lanes. The sum wraps only if all four factors are -32768.
#[inline(always)]
pub(crate) fn i32x4_dot_i16x8_s(a: V128, b: V128) -> V128 {
    target::i32x4_dot_i16x8_s(a, b)
}

// Shifts by the same number of bits in every lane, modulo the lane's width.
macro_rules! shifts {
    ($([$lane:ident; $n:literal]: $($name:ident $shift:ident),+;)*) => {
        $($(
            #[inline(always)]
            pub(crate) fn $name(a: V128, bits: u32) -> V128 {
                let a: [$lane; $n] = a.into();
                let result: [$lane; $n] = std::array::from_fn(|i| a[i].$shift(bits));
                result.into()
            }
        )+)*
    };
}

shifts! {
    [i8; 16]: i8x16_shr_s wrapping_shr;
    [u8; 16]: i8x16_shl wrapping_shl, i8x16_shr_u wrapping_shr;
    [i16; 8]: i16x8_shr_s wrapping_shr;
    [u16; 8]: i16x8_shl wrapping_shl, i16x8_shr_u wrapping_shr;
    [i32; 4]: i32x4_shr_s wrapping_shr;
    [u32; 4]: i32x4_shl wrapping_shl, i32x4_shr_u wrapping_shr;
    [i64; 2]: i64x2_shr_s wrapping_shr;
    [u64; 2]: i64x2_shl wrapping_shl, i64x2_shr_u wrapping_shr;
}
