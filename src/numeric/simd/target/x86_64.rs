//! x86-64: instructions of SSE2, and of SSSE3 and FMA where the processor has them.
//!
//! Instructions of SSSE3 and FMA are inline assembly and no intrinsics: an intrinsic of a feature beyond the target's baseline
//! is not inlined into code that checks for the feature at run time, and a call from an interpreter's handler costs more than
//! the instruction.

use std::arch::asm;
use std::arch::x86_64::*;
use std::is_x86_feature_detected as has;

use super::super::V128;
use super::portable;

// These intrinsics access no memory and need SSE2 only, so one unsafe block serves all.
macro_rules! sse2 {
    ($($name:ident($($x:ident: $ty:ty),+) -> $result:ty { $value:expr })*) => {
        $(
            #[inline(always)]
            pub(in super::super) fn $name($($x: $ty),+) -> $result {
                // SAFETY: every x86-64 processor has SSE2, and the intrinsics access no memory.
                unsafe { $value }
            }
        )*
    };
}

sse2! {
    vector(a: [i64; 2]) -> __m128i { _mm_set_epi64x(a[1], a[0]) }
    lanes(a: __m128i) -> [i64; 2] { [_mm_cvtsi128_si64(a), _mm_cvtsi128_si64(_mm_unpackhi_epi64(a, a))] }

    i8x16_bitmask(a: V128) -> u32 { _mm_movemask_epi8(vector(a.into())) as u32 }
    i16x8_bitmask(a: V128) -> u32 {
        _mm_movemask_epi8(_mm_packs_epi16(vector(a.into()), _mm_setzero_si128())) as u32
    }
    i32x4_bitmask(a: V128) -> u32 { _mm_movemask_ps(_mm_castsi128_ps(vector(a.into()))) as u32 }
    i64x2_bitmask(a: V128) -> u32 { _mm_movemask_pd(_mm_castsi128_pd(vector(a.into()))) as u32 }

    // A lane followed by zeros (or, if it is negative and signed, by ones) is the lane at twice the width.
    v128_load8x8_s(a: u64) -> V128 { widened(a, |a, zero| _mm_unpacklo_epi8(a, _mm_cmpgt_epi8(zero, a))) }
    v128_load8x8_u(a: u64) -> V128 { widened(a, |a, zero| _mm_unpacklo_epi8(a, zero)) }
    v128_load16x4_s(a: u64) -> V128 { widened(a, |a, zero| _mm_unpacklo_epi16(a, _mm_cmpgt_epi16(zero, a))) }
    v128_load16x4_u(a: u64) -> V128 { widened(a, |a, zero| _mm_unpacklo_epi16(a, zero)) }
    v128_load32x2_s(a: u64) -> V128 { widened(a, |a, zero| _mm_unpacklo_epi32(a, _mm_cmpgt_epi32(zero, a))) }
    v128_load32x2_u(a: u64) -> V128 { widened(a, |a, zero| _mm_unpacklo_epi32(a, zero)) }

    i32x4_dot_i16x8_s(a: V128, b: V128) -> V128 {
        lanes(_mm_madd_epi16(vector(a.into()), vector(b.into()))).into()
    }
}

/// The lanes of `a` widened: `unpack` interleaves them with the upper halves, given the vector of `a` and zero.
#[inline(always)]
fn widened(a: u64, unpack: impl Fn(__m128i, __m128i) -> __m128i) -> V128 {
    lanes(unpack(vector([a as i64, 0]), vector([0, 0]))).into()
}

/// Byte `i` is `table[indices[i] % 16]`, or zero if the index has its highest bit set.
///
/// # Safety
/// The processor must have SSSE3.
#[inline(always)]
unsafe fn pshufb(mut table: __m128i, indices: __m128i) -> __m128i {
    // SAFETY: the processor has the instruction by the caller's promise; it only writes to the named register.
    unsafe {
        asm!("pshufb {}, {}", inout(xmm_reg) table, in(xmm_reg) indices,
             options(pure, nomem, nostack, preserves_flags));
    }
    table
}

#[inline(always)]
pub(in super::super) fn i8x16_shuffle(a: V128, b: V128, lanes: V128) -> V128 {
    if !has!("ssse3") {
        return shuffle_without_ssse3(&a, &b, &lanes);
    }
    let (a, b, numbers) = (vector(a.into()), vector(b.into()), vector(lanes.into()));
    // Indices are below 32. Adding 0x70 sets the highest bit of those from 16 up; subtracting 16 sets it in those below 16.
    // SAFETY: the processor has SSSE3, as checked above; the other intrinsics need SSE2 only.
    let result = unsafe {
        let of_a = pshufb(a, _mm_add_epi8(numbers, _mm_set1_epi8(0x70)));
        let of_b = pshufb(b, _mm_sub_epi8(numbers, _mm_set1_epi8(16)));
        _mm_or_si128(of_a, of_b)
    };
    self::lanes(result).into()
}

#[inline(always)]
pub(in super::super) fn i8x16_swizzle(a: V128, indices: V128) -> V128 {
    if !has!("ssse3") {
        return swizzle_without_ssse3(&a, &indices);
    }
    // The saturating addition of 0x70 sets the highest bit of every index from 16 up, and keeps the low four bits of the
    // others.
    // SAFETY: the processor has SSSE3, as checked above; the other intrinsic needs SSE2 only.
    let result = unsafe { pshufb(vector(a.into()), _mm_adds_epu8(vector(indices.into()), _mm_set1_epi8(0x70))) };
    lanes(result).into()
}

// Out of line and by reference, so that the common path keeps its operands in vector registers.
#[cold]
#[inline(never)]
fn shuffle_without_ssse3(a: &V128, b: &V128, lanes: &V128) -> V128 {
    portable::table::i8x16_shuffle(*a, *b, *lanes)
}

#[cold]
#[inline(never)]
fn swizzle_without_ssse3(a: &V128, indices: &V128) -> V128 {
    portable::table::i8x16_swizzle(*a, *indices)
}

// Commutative instructions, as inline assembly: the compiler may swap the operands of Rust's operators, and a wrong NaN may
// result.
macro_rules! commutative {
    ($($name:ident $instruction:literal;)*) => {
        $(
            #[inline(always)]
            pub(in super::super) fn $name(a: V128, b: V128) -> V128 {
                let mut result = vector(a.into());
                // SAFETY: every x86-64 processor has the instruction, which only writes to the named register.
                unsafe {
                    asm!(concat!($instruction, " {}, {}"), inout(xmm_reg) result, in(xmm_reg) vector(b.into()),
                         options(pure, nomem, nostack, preserves_flags));
                }
                lanes(result).into()
            }
        )*
    };
}

commutative! {
    f32x4_add "addps";
    f32x4_mul "mulps";
    f64x2_add "addpd";
    f64x2_mul "mulpd";
}

macro_rules! fma {
    ($($name:ident $without_fma:ident $instruction:literal;)*) => {
        $(
            #[inline(always)]
            pub(in super::super) fn $name(a: V128, b: V128, c: V128) -> V128 {
                if !has!("fma") {
                    return $without_fma(&a, &b, &c);
                }
                let mut result = vector(a.into());
                // SAFETY: the processor has FMA, as checked above; the instruction only writes to the named register.
                unsafe {
                    asm!(concat!($instruction, " {}, {}, {}"), inout(xmm_reg) result, in(xmm_reg) vector(b.into()),
                         in(xmm_reg) vector(c.into()), options(pure, nomem, nostack, preserves_flags));
                }
                lanes(result).into()
            }

            #[cold]
            #[inline(never)]
            fn $without_fma(a: &V128, b: &V128, c: &V128) -> V128 {
                portable::arithmetic::$name(*a, *b, *c)
            }
        )*
    };
}

fma! {
    f32x4_fma f32x4_without_fma "vfmadd213ps";
    f64x2_fma f64x2_without_fma "vfmadd213pd";
}
