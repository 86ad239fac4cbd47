//! The instructions of `target` in plain Rust: the reference for tests, and the code for targets without one of their own.

use std::array::from_fn;

use super::super::V128;
use crate::numeric::*;

/// Shuffle and swizzle.
#[cfg_attr(all(target_arch = "aarch64", not(test)), expect(dead_code, reason = "tests compare with these"))]
pub(in super::super) mod table {
    use super::*;

    #[inline(always)]
    pub(in super::super::super) fn i8x16_shuffle(a: V128, b: V128, lanes: V128) -> V128 {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&a.0);
        bytes[16..].copy_from_slice(&b.0);
        V128(from_fn(|i| bytes[lanes.0[i] as usize % 32]))
    }

    #[inline(always)]
    pub(in super::super::super) fn i8x16_swizzle(a: V128, indices: V128) -> V128 {
        V128(from_fn(|i| if indices.0[i] < 16 { a.0[indices.0[i] as usize % 16] } else { 0 }))
    }
}

/// All instructions but shuffle and swizzle.
#[cfg_attr(all(target_arch = "x86_64", not(any(test, miri))), expect(dead_code, reason = "tests compare with these"))]
pub(in super::super) mod arithmetic {
    use super::*;

    macro_rules! bitmask {
        ($($name:ident [$lane:ident; $n:literal];)*) => {
            $(
                #[inline(always)]
                pub(in super::super::super) fn $name(a: V128) -> u32 {
                    let lanes: [$lane; $n] = a.into();
                    (0..$n).fold(0, |mask, i| mask | u32::from(lanes[i] < 0) << i)
                }
            )*
        };
    }

    bitmask! {
        i8x16_bitmask [i8; 16];
        i16x8_bitmask [i16; 8];
        i32x4_bitmask [i32; 4];
        i64x2_bitmask [i64; 2];
    }

    macro_rules! widening_load {
        ($($name:ident: [$lane:ident; $n:literal] -> $wide:ident;)*) => {
            $(
                #[inline(always)]
                pub(in super::super::super) fn $name(memory: u64) -> V128 {
                    let lanes: [$lane; 2 * $n] = V128::from([memory, 0]).into();
                    let wide: [$wide; $n] = from_fn(|i| lanes[i].into());
                    wide.into()
                }
            )*
        };
    }

    widening_load! {
        v128_load8x8_s: [i8; 8] -> i16;
        v128_load8x8_u: [u8; 8] -> u16;
        v128_load16x4_s: [i16; 4] -> i32;
        v128_load16x4_u: [u16; 4] -> u32;
        v128_load32x2_s: [i32; 2] -> i64;
        v128_load32x2_u: [u32; 2] -> u64;
    }

    #[inline(always)]
    pub(in super::super::super) fn i32x4_dot_i16x8_s(a: V128, b: V128) -> V128 {
        let (a, b): ([i16; 8], [i16; 8]) = (a.into(), b.into());
        let product = |i: usize| i32::from(a[i]) * i32::from(b[i]);
        let sums: [i32; 4] = from_fn(|i| product(2 * i).wrapping_add(product(2 * i + 1)));
        sums.into()
    }

    macro_rules! commutative {
        ($($name:ident [$lane:ident; $n:literal] $scalar:ident;)*) => {
            $(
                #[inline(always)]
                pub(in super::super::super) fn $name(a: V128, b: V128) -> V128 {
                    let (a, b): ([$lane; $n], [$lane; $n]) = (a.into(), b.into());
                    let result: [$lane; $n] = from_fn(|i| $scalar(a[i], b[i]));
                    result.into()
                }
            )*
        };
    }

    commutative! {
        f32x4_add [f32; 4] f32_add;
        f32x4_mul [f32; 4] f32_mul;
        f64x2_add [f64; 2] f64_add;
        f64x2_mul [f64; 2] f64_mul;
    }

    #[inline(always)]
    pub(in super::super::super) fn f32x4_fma(a: V128, b: V128, c: V128) -> V128 {
        let (a, b, c): ([f32; 4], [f32; 4], [f32; 4]) = (a.into(), b.into(), c.into());
        let sums: [f32; 4] = from_fn(|i| a[i].mul_add(b[i], c[i]));
        sums.into()
    }

    #[inline(always)]
    pub(in super::super::super) fn f64x2_fma(a: V128, b: V128, c: V128) -> V128 {
        let (a, b, c): ([f64; 2], [f64; 2], [f64; 2]) = (a.into(), b.into(), c.into());
        let sums: [f64; 2] = from_fn(|i| a[i].mul_add(b[i], c[i]));
        sums.into()
    }
}
