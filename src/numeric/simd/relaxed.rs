//! Relaxed SIMD, with the results of the specification's deterministic profile on every target and in both engines, so that a
//! program computes the same everywhere.

use std::array::from_fn;

use super::*;
use crate::numeric::{f32_nan_of, f64_nan_of};

// Relaxed instructions whose deterministic result is that of a strict one.
macro_rules! strict {
    ($($name:ident($($x:ident),+) = $strict:ident;)*) => {
        $(
            #[inline(always)]
            pub(crate) fn $name($($x: V128),+) -> V128 {
                $strict($($x),+)
            }
        )*
    };
}

strict! {
    i8x16_relaxed_swizzle(a, b) = i8x16_swizzle;
    i32x4_relaxed_trunc_f32x4_s(a) = i32x4_trunc_sat_f32x4_s;
    i32x4_relaxed_trunc_f32x4_u(a) = i32x4_trunc_sat_f32x4_u;
    i32x4_relaxed_trunc_f64x2_s_zero(a) = i32x4_trunc_sat_f64x2_s_zero;
    i32x4_relaxed_trunc_f64x2_u_zero(a) = i32x4_trunc_sat_f64x2_u_zero;
    i8x16_relaxed_laneselect(a, b, mask) = v128_bitselect;
    i16x8_relaxed_laneselect(a, b, mask) = v128_bitselect;
    i32x4_relaxed_laneselect(a, b, mask) = v128_bitselect;
    i64x2_relaxed_laneselect(a, b, mask) = v128_bitselect;
    f32x4_relaxed_min(a, b) = f32x4_min;
    f32x4_relaxed_max(a, b) = f32x4_max;
    f64x2_relaxed_min(a, b) = f64x2_min;
    f64x2_relaxed_max(a, b) = f64x2_max;
    i16x8_relaxed_q15mulr_s(a, b) = i16x8_q15mulr_sat_s;
}

// `a * b + c`, rounded once. Targets differ in which NaN the instruction gives, so NaN lanes are computed again.
macro_rules! fma {
    ($($name:ident $fma:ident [$lane:ident; $n:literal] $nan_of:ident;)*) => {
        $(
            #[inline(always)]
            fn $name(a: V128, b: V128, c: V128) -> V128 {
                let result = target::$fma(a, b, c);
                let (a, b, c): ([$lane; $n], [$lane; $n], [$lane; $n]) = (a.into(), b.into(), c.into());
                let raw: [$lane; $n] = result.into();
                let fixed: [$lane; $n] =
                    from_fn(|i| if raw[i].is_nan() { $nan_of([a[i], b[i], c[i]]) } else { raw[i] });
                fixed.into()
            }
        )*
    };
}

fma! {
    multiply_add_f32x4 f32x4_fma [f32; 4] f32_nan_of;
    multiply_add_f64x2 f64x2_fma [f64; 2] f64_nan_of;
}

/// `a * b + c`, rounded once.
#[inline(always)]
pub(crate) fn f32x4_relaxed_madd(a: V128, b: V128, c: V128) -> V128 {
    multiply_add_f32x4(a, b, c)
}

/// `-(a * b) + c`, rounded once.
#[inline(always)]
pub(crate) fn f32x4_relaxed_nmadd(a: V128, b: V128, c: V128) -> V128 {
    multiply_add_f32x4(f32x4_neg(a), b, c)
}

/// `a * b + c`, rounded once.
#[inline(always)]
pub(crate) fn f64x2_relaxed_madd(a: V128, b: V128, c: V128) -> V128 {
    multiply_add_f64x2(a, b, c)
}

/// `-(a * b) + c`, rounded once.
#[inline(always)]
pub(crate) fn f64x2_relaxed_nmadd(a: V128, b: V128, c: V128) -> V128 {
    multiply_add_f64x2(f64x2_neg(a), b, c)
}

/// Multiplies the lanes as signed and adds the products of two adjacent lanes; only 2 * -128 * -128 saturates.
#[inline(always)]
pub(crate) fn i16x8_relaxed_dot_i8x16_i7x16_s(a: V128, b: V128) -> V128 {
    let (a, b): ([i8; 16], [i8; 16]) = (a.into(), b.into());
    let products: [i16; 16] = from_fn(|i| i16::from(a[i]) * i16::from(b[i]));
    let sums: [i16; 8] = from_fn(|i| products[2 * i].saturating_add(products[2 * i + 1]));
    sums.into()
}

/// The sums of two adjacent lanes of the dot product, plus `c`.
#[inline(always)]
pub(crate) fn i32x4_relaxed_dot_i8x16_i7x16_add_s(a: V128, b: V128, c: V128) -> V128 {
    i32x4_add(i32x4_extadd_pairwise_i16x8_s(i16x8_relaxed_dot_i8x16_i7x16_s(a, b)), c)
}
