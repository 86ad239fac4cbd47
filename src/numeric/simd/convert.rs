//! Instructions from one lane shape to another: narrowing, widening, arithmetic on widened lanes, and conversions between
//! integers and floats.

use std::array::from_fn;

use super::{V128, lanewise};
use crate::numeric::{f32_demote_f64, f64_promote_f32};

// Narrowing: the signed lanes of both operands as lanes half as wide, saturated.
macro_rules! narrowing {
    ($($name:ident: [$lane:ident; $n:literal] -> $narrow:ident;)*) => {
        $(
            #[inline(always)]
            pub(crate) fn $name(a: V128, b: V128) -> V128 {
                let (a, b): ([$lane; $n], [$lane; $n]) = (a.into(), b.into());
                let narrow: [$narrow; 2 * $n] = from_fn(|i| {
                    let lane = if i < $n { a[i] } else { b[i - $n] };
                    lane.clamp($narrow::MIN.into(), $narrow::MAX.into()) as $narrow
                });
                narrow.into()
            }
        )*
    };
}

narrowing! {
    i8x16_narrow_i16x8_s: [i16; 8] -> i8;
    i8x16_narrow_i16x8_u: [i16; 8] -> u8;
    i16x8_narrow_i32x4_s: [i32; 4] -> i16;
    i16x8_narrow_i32x4_u: [i32; 4] -> u16;
}

// Widening: the lower or upper half of the lanes as lanes twice as wide, or the products of two operands' widened lanes.
macro_rules! widening {
    ($([$lane:ident] -> [$wide:ident; $n:literal]: $low:ident $high:ident $mul_low:ident $mul_high:ident;)*) => {
        $(
            #[inline(always)]
            pub(crate) fn $low(a: V128) -> V128 {
                let a: [$lane; 2 * $n] = a.into();
                let wide: [$wide; $n] = from_fn(|i| a[i].into());
                wide.into()
            }

            #[inline(always)]
            pub(crate) fn $high(a: V128) -> V128 {
                let a: [$lane; 2 * $n] = a.into();
                let wide: [$wide; $n] = from_fn(|i| a[$n + i].into());
                wide.into()
            }

            #[inline(always)]
            pub(crate) fn $mul_low(a: V128, b: V128) -> V128 {
                let (a, b): ([$lane; 2 * $n], [$lane; 2 * $n]) = (a.into(), b.into());
                let wide: [$wide; $n] = from_fn(|i| $wide::from(a[i]) * $wide::from(b[i]));
                wide.into()
            }

            #[inline(always)]
            pub(crate) fn $mul_high(a: V128, b: V128) -> V128 {
                let (a, b): ([$lane; 2 * $n], [$lane; 2 * $n]) = (a.into(), b.into());
                let wide: [$wide; $n] = from_fn(|i| $wide::from(a[$n + i]) * $wide::from(b[$n + i]));
                wide.into()
            }
        )*
    };
}

widening! {
    [i8] -> [i16; 8]: i16x8_extend_low_i8x16_s i16x8_extend_high_i8x16_s i16x8_extmul_low_i8x16_s
        i16x8_extmul_high_i8x16_s;
    [u8] -> [u16; 8]: i16x8_extend_low_i8x16_u i16x8_extend_high_i8x16_u i16x8_extmul_low_i8x16_u
        i16x8_extmul_high_i8x16_u;
    [i16] -> [i32; 4]: i32x4_extend_low_i16x8_s i32x4_extend_high_i16x8_s i32x4_extmul_low_i16x8_s
        i32x4_extmul_high_i16x8_s;
    [u16] -> [u32; 4]: i32x4_extend_low_i16x8_u i32x4_extend_high_i16x8_u i32x4_extmul_low_i16x8_u
        i32x4_extmul_high_i16x8_u;
    [i32] -> [i64; 2]: i64x2_extend_low_i32x4_s i64x2_extend_high_i32x4_s i64x2_extmul_low_i32x4_s
        i64x2_extmul_high_i32x4_s;
    [u32] -> [u64; 2]: i64x2_extend_low_i32x4_u i64x2_extend_high_i32x4_u i64x2_extmul_low_i32x4_u
        i64x2_extmul_high_i32x4_u;
}

// The sums of two adjacent lanes, twice as wide. The two lanes are the halves of one wide lane, so no shuffle is needed.
lanewise! {
    i16x8_extadd_pairwise_i8x16_s: [i16; 8] -> i16, |a| i16::from(a as i8) + (a >> 8);
    i16x8_extadd_pairwise_i8x16_u: [u16; 8] -> u16, |a| (a & 0xff) + (a >> 8);
    i32x4_extadd_pairwise_i16x8_s: [i32; 4] -> i32, |a| i32::from(a as i16) + (a >> 16);
    i32x4_extadd_pairwise_i16x8_u: [u32; 4] -> u32, |a| (a & 0xffff) + (a >> 16);
}

lanewise! {
    i32x4_trunc_sat_f32x4_s: [f32; 4] -> i32, |a| a as i32;
    i32x4_trunc_sat_f32x4_u: [f32; 4] -> u32, |a| a as u32;
    f32x4_convert_i32x4_s: [i32; 4] -> f32, |a| a as f32;
    f32x4_convert_i32x4_u: [u32; 4] -> f32, |a| a as f32;
}

#[inline(always)]
pub(crate) fn i32x4_trunc_sat_f64x2_s_zero(a: V128) -> V128 {
    let [a, b]: [f64; 2] = a.into();
    [a as i32, b as i32, 0, 0].into()
}

#[inline(always)]
pub(crate) fn i32x4_trunc_sat_f64x2_u_zero(a: V128) -> V128 {
    let [a, b]: [f64; 2] = a.into();
    [a as u32, b as u32, 0, 0].into()
}

#[inline(always)]
pub(crate) fn f64x2_convert_low_i32x4_s(a: V128) -> V128 {
    let [a, b, ..]: [i32; 4] = a.into();
    [f64::from(a), f64::from(b)].into()
}

#[inline(always)]
pub(crate) fn f64x2_convert_low_i32x4_u(a: V128) -> V128 {
    let [a, b, ..]: [u32; 4] = a.into();
    [f64::from(a), f64::from(b)].into()
}

#[inline(always)]
pub(crate) fn f32x4_demote_f64x2_zero(a: V128) -> V128 {
    let [a, b]: [f64; 2] = a.into();
    [f32_demote_f64(a), f32_demote_f64(b), 0.0, 0.0].into()
}

#[inline(always)]
pub(crate) fn f64x2_promote_low_f32x4(a: V128) -> V128 {
    let [a, b, ..]: [f32; 4] = a.into();
    [f64_promote_f32(a), f64_promote_f32(b)].into()
}
