//! AArch64: shuffle and swizzle by NEON's table lookups, which every AArch64 processor has.

use std::arch::aarch64::*;

use super::super::V128;

#[inline(always)]
pub(in super::super) fn i8x16_shuffle(a: V128, b: V128, lanes: V128) -> V128 {
    // SAFETY: NEON is part of the architecture; the pointers are to 16 bytes and need no alignment.
    unsafe {
        let table = uint8x16x2_t(vld1q_u8(a.0.as_ptr()), vld1q_u8(b.0.as_ptr()));
        let mut result = V128::ZERO;
        vst1q_u8(result.0.as_mut_ptr(), vqtbl2q_u8(table, vld1q_u8(lanes.0.as_ptr())));
        result
    }
}

#[inline(always)]
pub(in super::super) fn i8x16_swizzle(a: V128, indices: V128) -> V128 {
    // SAFETY: NEON is part of the architecture; the pointers are to 16 bytes and need no alignment.
    unsafe {
        let mut result = V128::ZERO;
        vst1q_u8(result.0.as_mut_ptr(), vqtbl1q_u8(vld1q_u8(a.0.as_ptr()), vld1q_u8(indices.0.as_ptr())));
        result
    }
}
