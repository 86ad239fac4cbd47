//! The arithmetic of scalar instructions (specification, section 4.3), written once for the interpreter, constant
//! expressions and tests.
//!
//! A function is named after its instruction. Integers are unsigned, as in slots; functions of signed instructions convert.
//! There are no functions for instructions that are one Rust operator (comparisons, bitwise logic), nor for those that leave
//! the slot unchanged (reinterpretation, zero-extension).
//!
//! NaNs: where the specification leaves the NaN result of an arithmetic instruction open, the result is that of x86-64's SSE
//! instructions: the first operand that is a NaN, made quiet; if none is, the default NaN, which is negative. All engines,
//! tiers and targets agree on that. `abs`, `neg` and `copysign` only change the sign bit.
//!
//! What may be here: functions from numbers to numbers or a trap; scalars here, vectors in `simd`. What may not: memories,
//! frames, anything with state.

pub(crate) mod simd;

use crate::error::Trap;

/// The bits of the default NaN: the result of arithmetic without NaN operands, such as 0/0.
pub(crate) const DEFAULT_NAN_F32: u32 = 0xffc0_0000;
/// See [`DEFAULT_NAN_F32`].
pub(crate) const DEFAULT_NAN_F64: u64 = 0xfff8_0000_0000_0000;
/// The bit that is set in a quiet NaN and clear in a signalling one.
pub(crate) const QUIET_F32: u32 = 1 << 22;
/// See [`QUIET_F32`].
pub(crate) const QUIET_F64: u64 = 1 << 51;

macro_rules! numeric {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $ty:ty),*) -> $result:ty { $value:expr })*) => {
        $(
            $(#[$doc])*
            #[inline(always)]
            pub(crate) fn $name($($arg: $ty),*) -> $result {
                $value
            }
        )*
    };
}

numeric! {
    i32_add(a: u32, b: u32) -> u32 { a.wrapping_add(b) }
    i32_sub(a: u32, b: u32) -> u32 { a.wrapping_sub(b) }
    i32_mul(a: u32, b: u32) -> u32 { a.wrapping_mul(b) }
    i32_clz(a: u32) -> u32 { a.leading_zeros() }
    i32_ctz(a: u32) -> u32 { a.trailing_zeros() }
    i32_popcnt(a: u32) -> u32 { a.count_ones() }
    i32_shl(a: u32, b: u32) -> u32 { a.wrapping_shl(b) }
    i32_shr_s(a: u32, b: u32) -> u32 { (a as i32).wrapping_shr(b) as u32 }
    i32_shr_u(a: u32, b: u32) -> u32 { a.wrapping_shr(b) }
    i32_rotl(a: u32, b: u32) -> u32 { a.rotate_left(b & 31) }
    i32_rotr(a: u32, b: u32) -> u32 { a.rotate_right(b & 31) }
    i32_extend8_s(a: u32) -> u32 { a as i8 as u32 }
    i32_extend16_s(a: u32) -> u32 { a as i16 as u32 }

    i64_add(a: u64, b: u64) -> u64 { a.wrapping_add(b) }
    i64_sub(a: u64, b: u64) -> u64 { a.wrapping_sub(b) }
    i64_mul(a: u64, b: u64) -> u64 { a.wrapping_mul(b) }
    i64_add128(a: u128, b: u128) -> u128 { a.wrapping_add(b) }
    i64_sub128(a: u128, b: u128) -> u128 { a.wrapping_sub(b) }
    i64_mul_wide_s(a: u64, b: u64) -> u128 { (i128::from(a as i64) * i128::from(b as i64)) as u128 }
    i64_mul_wide_u(a: u64, b: u64) -> u128 { u128::from(a) * u128::from(b) }
    i64_clz(a: u64) -> u64 { a.leading_zeros().into() }
    i64_ctz(a: u64) -> u64 { a.trailing_zeros().into() }
    i64_popcnt(a: u64) -> u64 { a.count_ones().into() }
    i64_shl(a: u64, b: u64) -> u64 { a.wrapping_shl(b as u32) }
    i64_shr_s(a: u64, b: u64) -> u64 { (a as i64).wrapping_shr(b as u32) as u64 }
    i64_shr_u(a: u64, b: u64) -> u64 { a.wrapping_shr(b as u32) }
    i64_rotl(a: u64, b: u64) -> u64 { a.rotate_left((b & 63) as u32) }
    i64_rotr(a: u64, b: u64) -> u64 { a.rotate_right((b & 63) as u32) }
    i64_extend8_s(a: u64) -> u64 { a as i8 as u64 }
    i64_extend16_s(a: u64) -> u64 { a as i16 as u64 }
    i64_extend32_s(a: u64) -> u64 { a as i32 as u64 }

    i32_wrap_i64(a: u64) -> u32 { a as u32 }
    i64_extend_i32_s(a: u32) -> u64 { a as i32 as u64 }
}

// Division. The quotient of `MIN / -1` is not representable, so it traps; the remainder is zero.
macro_rules! division {
    ($($unsigned:ident $signed:ident: $div_s:ident $div_u:ident $rem_s:ident $rem_u:ident;)*) => {
        $(
            #[inline(always)]
            pub(crate) fn $div_s(a: $unsigned, b: $unsigned) -> Result<$unsigned, Trap> {
                match (a as $signed).checked_div(b as $signed) {
                    Some(quotient) => Ok(quotient as $unsigned),
                    None if b == 0 => Err(Trap::IntegerDivisionByZero),
                    None => Err(Trap::IntegerOverflow),
                }
            }

            #[inline(always)]
            pub(crate) fn $div_u(a: $unsigned, b: $unsigned) -> Result<$unsigned, Trap> {
                a.checked_div(b).ok_or(Trap::IntegerDivisionByZero)
            }

            #[inline(always)]
            pub(crate) fn $rem_s(a: $unsigned, b: $unsigned) -> Result<$unsigned, Trap> {
                if b == 0 {
                    return Err(Trap::IntegerDivisionByZero);
                }
                Ok((a as $signed).wrapping_rem(b as $signed) as $unsigned)
            }

            #[inline(always)]
            pub(crate) fn $rem_u(a: $unsigned, b: $unsigned) -> Result<$unsigned, Trap> {
                a.checked_rem(b).ok_or(Trap::IntegerDivisionByZero)
            }
        )*
    };
}

division! {
    u32 i32: i32_div_s i32_div_u i32_rem_s i32_rem_u;
    u64 i64: i64_div_s i64_div_u i64_rem_s i64_rem_u;
}

/// Whether to round by adding and subtracting 2^p, where p is the number of explicit bits of the significand. Without SSE 4.1,
/// Rust's rounding functions call the C library for each value.
///
/// A sum of 2^p or more has no bits for a fraction, so the hardware rounds it away, ties to even: that is `nearest`. The other
/// three correct it by one where it was rounded in the wrong direction. Values from 2^p up, and infinities, are integers
/// already; zero is added to them, which makes NaNs quiet. The sign is copied last because -0.3 rounds to -0. No step
/// branches, so the same lines compile to vector code in `simd`.
const ROUND_BY_ADDING: bool = cfg!(all(target_arch = "x86_64", not(target_feature = "sse4.1")));

/// Whether the hardware's arithmetic gives the NaNs that the module's documentation asks for, if the operands of commutative
/// instructions are not swapped.
const NATIVE_NANS: bool = cfg!(all(target_arch = "x86_64", not(miri)));

/// Whether rounding, and conversions between float types, make a NaN quiet and keep its sign and payload.
const KEEPS_NANS: bool = cfg!(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)));

/// Commutative instructions, as SSE instructions: the compiler may swap the operands of Rust's operators, which would change
/// which NaN results.
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod commutative {
    use std::arch::asm;

    macro_rules! sse {
        ($($name:ident($ty:ty) $instruction:literal;)*) => {
            $(
                #[inline(always)]
                pub(super) fn $name(mut a: $ty, b: $ty) -> $ty {
                    // SAFETY: every x86-64 processor has the instruction, which only writes to the named register.
                    unsafe {
                        asm!(concat!($instruction, " {}, {}"), inout(xmm_reg) a, in(xmm_reg) b,
                             options(pure, nomem, nostack, preserves_flags));
                    }
                    a
                }
            )*
        };
    }

    sse! {
        f32_add(f32) "addss";
        f32_mul(f32) "mulss";
        f64_add(f64) "addsd";
        f64_mul(f64) "mulsd";
    }
}

/// Commutative instructions, as Rust's operators; the callers correct the NaNs.
#[cfg(any(not(target_arch = "x86_64"), miri))]
mod commutative {
    macro_rules! operators {
        ($($name:ident($ty:ty) $operator:tt;)*) => {
            $(
                #[inline(always)]
                pub(super) fn $name(a: $ty, b: $ty) -> $ty {
                    a $operator b
                }
            )*
        };
    }

    operators! {
        f32_add(f32) +;
        f32_mul(f32) *;
        f64_add(f64) +;
        f64_mul(f64) *;
    }
}

macro_rules! float {
    ($($ty:ident: $nearest:ident $ceil:ident $floor:ident $trunc:ident $min:ident $max:ident $pmin:ident $pmax:ident
       $abs:ident $neg:ident $sqrt:ident $copysign:ident $add:ident $sub:ident $mul:ident $div:ident
       $nan_of:ident $quiet:ident $bit:ident $default:ident;)*) => {
        $(
            /// The NaN that arithmetic on these operands results in.
            #[inline(always)]
            pub(crate) fn $nan_of<const N: usize>(operands: [$ty; N]) -> $ty {
                let mut nan = $default;
                for operand in operands.into_iter().rev() {
                    nan = if operand.is_nan() { operand.to_bits() } else { nan };
                }
                $ty::from_bits(nan | $bit)
            }

            /// The result of rounding `a`; for a NaN `a`, the quiet NaN, if the target does not give that.
            #[inline(always)]
            fn $quiet(a: $ty, result: $ty) -> $ty {
                if !KEEPS_NANS && a.is_nan() { $nan_of([a]) } else { result }
            }

            #[inline(always)]
            pub(crate) fn $add(a: $ty, b: $ty) -> $ty {
                let sum = commutative::$add(a, b);
                if !NATIVE_NANS && sum.is_nan() { $nan_of([a, b]) } else { sum }
            }

            #[inline(always)]
            pub(crate) fn $sub(a: $ty, b: $ty) -> $ty {
                let difference = a - b;
                if !NATIVE_NANS && difference.is_nan() { $nan_of([a, b]) } else { difference }
            }

            #[inline(always)]
            pub(crate) fn $mul(a: $ty, b: $ty) -> $ty {
                let product = commutative::$mul(a, b);
                if !NATIVE_NANS && product.is_nan() { $nan_of([a, b]) } else { product }
            }

            #[inline(always)]
            pub(crate) fn $div(a: $ty, b: $ty) -> $ty {
                let quotient = a / b;
                if !NATIVE_NANS && quotient.is_nan() { $nan_of([a, b]) } else { quotient }
            }

            #[inline(always)]
            pub(crate) fn $nearest(a: $ty) -> $ty {
                if !ROUND_BY_ADDING {
                    return $quiet(a, a.round_ties_even());
                }
                const TWO_TO_P: $ty = (1u64 << ($ty::MANTISSA_DIGITS - 1)) as $ty;
                let magnitude = a.abs();
                let addend = if magnitude < TWO_TO_P { TWO_TO_P } else { 0.0 };
                ((magnitude + addend) - addend).copysign(a)
            }

            #[inline(always)]
            pub(crate) fn $ceil(a: $ty) -> $ty {
                if !ROUND_BY_ADDING {
                    return $quiet(a, a.ceil());
                }
                let nearest = $nearest(a);
                (nearest + if nearest < a { 1.0 } else { 0.0 }).copysign(a)
            }

            #[inline(always)]
            pub(crate) fn $floor(a: $ty) -> $ty {
                if !ROUND_BY_ADDING {
                    return $quiet(a, a.floor());
                }
                let nearest = $nearest(a);
                (nearest - if nearest > a { 1.0 } else { 0.0 }).copysign(a)
            }

            #[inline(always)]
            pub(crate) fn $trunc(a: $ty) -> $ty {
                if !ROUND_BY_ADDING {
                    return $quiet(a, a.trunc());
                }
                let magnitude = a.abs();
                let nearest = $nearest(magnitude);
                (nearest - if nearest > magnitude { 1.0 } else { 0.0 }).copysign(a)
            }

            /// A NaN if either operand is one, otherwise the lesser; -0 is less than +0. `pmin` gives the lesser in both
            /// orders of the operands. The two results differ only if the operands are -0 and +0; then `|` gives -0.
            #[inline(always)]
            pub(crate) fn $min(a: $ty, b: $ty) -> $ty {
                let lesser = $ty::from_bits($pmin(a, b).to_bits() | $pmin(b, a).to_bits());
                if a.is_nan() | b.is_nan() { $nan_of([a, b]) } else { lesser }
            }

            /// A NaN if either operand is one, otherwise the greater; +0 is greater than -0. Computed as `min` is, with `&`.
            #[inline(always)]
            pub(crate) fn $max(a: $ty, b: $ty) -> $ty {
                let greater = $ty::from_bits($pmax(a, b).to_bits() & $pmax(b, a).to_bits());
                if a.is_nan() | b.is_nan() { $nan_of([a, b]) } else { greater }
            }

            /// The vector instruction `pmin`: `b` if it is less than `a`, otherwise `a`.
            #[inline(always)]
            pub(super) fn $pmin(a: $ty, b: $ty) -> $ty {
                if b < a { b } else { a }
            }

            /// The vector instruction `pmax`: `b` if it is greater than `a`, otherwise `a`.
            #[inline(always)]
            pub(super) fn $pmax(a: $ty, b: $ty) -> $ty {
                if a < b { b } else { a }
            }

            #[inline(always)]
            pub(crate) fn $abs(a: $ty) -> $ty {
                a.abs()
            }

            #[inline(always)]
            pub(crate) fn $neg(a: $ty) -> $ty {
                -a
            }

            #[inline(always)]
            pub(crate) fn $sqrt(a: $ty) -> $ty {
                let root = a.sqrt();
                if !NATIVE_NANS && root.is_nan() { $nan_of([a]) } else { root }
            }

            #[inline(always)]
            pub(crate) fn $copysign(a: $ty, b: $ty) -> $ty {
                a.copysign(b)
            }
        )*
    };
}

float! {
    f32: f32_nearest f32_ceil f32_floor f32_trunc f32_min f32_max f32_pmin f32_pmax f32_abs f32_neg f32_sqrt
        f32_copysign f32_add f32_sub f32_mul f32_div f32_nan_of f32_quiet QUIET_F32 DEFAULT_NAN_F32;
    f64: f64_nearest f64_ceil f64_floor f64_trunc f64_min f64_max f64_pmin f64_pmax f64_abs f64_neg f64_sqrt
        f64_copysign f64_add f64_sub f64_mul f64_div f64_nan_of f64_quiet QUIET_F64 DEFAULT_NAN_F64;
}

// Truncation. The bounds are exact: a float is in range if and only if it, rounded towards zero, is in the integer type. If
// `MIN - 1` is a float, the lower bound is `a > MIN - 1`. If it is not, because the integer type has more bits than the
// significand, the next float below `MIN` is out of range, so the bound is `a >= MIN`.
macro_rules! truncation {
    ($($name:ident($float:ident) -> $unsigned:ident as $int:ident where $low:expr, $high:literal;)*) => {
        $(
            #[inline(always)]
            pub(crate) fn $name(a: $float) -> Result<$unsigned, Trap> {
                const HIGH: $float = $high;
                if $low(a) && a < HIGH {
                    // SAFETY: the comparisons are false for NaN, and the bounds hold the integer part of `a` in `$int`.
                    let integer: $int = unsafe { a.to_int_unchecked() };
                    Ok(integer as $unsigned)
                } else if a.is_nan() {
                    Err(Trap::InvalidConversionToInteger)
                } else {
                    Err(Trap::IntegerOverflow)
                }
            }
        )*
    };
}

truncation! {
    i32_trunc_f32_s(f32) -> u32 as i32 where |a| a >= -2_147_483_648.0, 2_147_483_648.0;
    i32_trunc_f32_u(f32) -> u32 as u32 where |a| a > -1.0, 4_294_967_296.0;
    i32_trunc_f64_s(f64) -> u32 as i32 where |a| a > -2_147_483_649.0, 2_147_483_648.0;
    i32_trunc_f64_u(f64) -> u32 as u32 where |a| a > -1.0, 4_294_967_296.0;
    i64_trunc_f32_s(f32) -> u64 as i64 where |a| a >= -9_223_372_036_854_775_808.0, 9_223_372_036_854_775_808.0;
    i64_trunc_f32_u(f32) -> u64 as u64 where |a| a > -1.0, 18_446_744_073_709_551_616.0;
    i64_trunc_f64_s(f64) -> u64 as i64 where |a| a >= -9_223_372_036_854_775_808.0, 9_223_372_036_854_775_808.0;
    i64_trunc_f64_u(f64) -> u64 as u64 where |a| a > -1.0, 18_446_744_073_709_551_616.0;
}

numeric! {
    // Rust's `as` saturates and converts NaN to zero, as these instructions do.
    i32_trunc_sat_f32_s(a: f32) -> u32 { a as i32 as u32 }
    i32_trunc_sat_f32_u(a: f32) -> u32 { a as u32 }
    i32_trunc_sat_f64_s(a: f64) -> u32 { a as i32 as u32 }
    i32_trunc_sat_f64_u(a: f64) -> u32 { a as u32 }
    i64_trunc_sat_f32_s(a: f32) -> u64 { a as i64 as u64 }
    i64_trunc_sat_f32_u(a: f32) -> u64 { a as u64 }
    i64_trunc_sat_f64_s(a: f64) -> u64 { a as i64 as u64 }
    i64_trunc_sat_f64_u(a: f64) -> u64 { a as u64 }

    f32_convert_i32_s(a: u32) -> f32 { a as i32 as f32 }
    f32_convert_i32_u(a: u32) -> f32 { a as f32 }
    f32_convert_i64_s(a: u64) -> f32 { a as i64 as f32 }
    f32_convert_i64_u(a: u64) -> f32 { a as f32 }
    f64_convert_i32_s(a: u32) -> f64 { a as i32 as f64 }
    f64_convert_i32_u(a: u32) -> f64 { a.into() }
    f64_convert_i64_s(a: u64) -> f64 { a as i64 as f64 }
    f64_convert_i64_u(a: u64) -> f64 { a as f64 }
    /// A NaN keeps its sign and the high bits of its payload, and is made quiet.
    f32_demote_f64(a: f64) -> f32 {
        if !KEEPS_NANS && a.is_nan() {
            let bits = a.to_bits();
            f32::from_bits((bits >> 32) as u32 & 1 << 31 | 0x7fc0_0000 | (bits >> 29) as u32 & 0x3f_ffff)
        } else {
            a as f32
        }
    }
    /// A NaN keeps its sign and payload, and is made quiet.
    f64_promote_f32(a: f32) -> f64 {
        if !KEEPS_NANS && a.is_nan() {
            let bits = u64::from(a.to_bits());
            f64::from_bits((bits & 1 << 31) << 32 | 0x7ff8_0000_0000_0000 | (bits & 0x3f_ffff) << 29)
        } else {
            a.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn division_traps() {
        const MIN: u32 = i32::MIN as u32;
        assert_eq!(i32_div_s(MIN, u32::MAX), Err(Trap::IntegerOverflow));
        assert_eq!(i32_div_s(MIN, 0), Err(Trap::IntegerDivisionByZero));
        assert_eq!(i32_rem_s(MIN, u32::MAX), Ok(0));
        assert_eq!(i32_rem_s(-7i32 as u32, 2), Ok(-1i32 as u32));
        assert_eq!(i32_div_u(MIN, u32::MAX), Ok(0));
        assert_eq!(i64_div_s(i64::MIN as u64, u64::MAX), Err(Trap::IntegerOverflow));
        assert_eq!(i64_rem_u(1, 0), Err(Trap::IntegerDivisionByZero));
    }

    #[test]
    fn shifts_take_the_count_modulo_the_width() {
        assert_eq!((i32_shl(1, 33), i32_shr_s(0x8000_0000, 63), i32_shr_u(0x8000_0000, 31)), (2, u32::MAX, 1));
        assert_eq!((i64_shl(1, 65), i64_rotl(1, 1 << 40), i64_rotr(1, 65)), (2, 1, 1 << 63));
    }

    /// Each conversion at the last value inside and the first outside its range.
    #[test]
    fn truncation_bounds() {
        use Trap::{IntegerOverflow as Overflow, InvalidConversionToInteger as Invalid};
        assert_eq!(i32_trunc_f32_s(2147483520.0), Ok(2147483520));
        assert_eq!(i32_trunc_f32_s(2147483648.0), Err(Overflow));
        assert_eq!(i32_trunc_f32_s(-2147483648.0), Ok(1 << 31));
        assert_eq!(i32_trunc_f32_s(-2147483904.0), Err(Overflow));
        assert_eq!(i32_trunc_f32_s(f32::NAN), Err(Invalid));
        assert_eq!(i32_trunc_f32_u(-0.99999994), Ok(0));
        assert_eq!(i32_trunc_f32_u(-1.0), Err(Overflow));
        assert_eq!(i32_trunc_f64_s(-2147483648.9), Ok(1 << 31));
        assert_eq!(i32_trunc_f64_s(-2147483649.0), Err(Overflow));
        assert_eq!(i32_trunc_f64_s(2147483647.9), Ok(i32::MAX as u32));
        assert_eq!(i32_trunc_f64_u(4294967295.9), Ok(u32::MAX));
        assert_eq!(i32_trunc_f64_u(4294967296.0), Err(Overflow));
        assert_eq!(i64_trunc_f32_s(-9223372036854775808.0), Ok(1 << 63));
        assert_eq!(i64_trunc_f32_s(9223372036854775808.0), Err(Overflow));
        assert_eq!(i64_trunc_f64_s(9223372036854774784.0), Ok(9223372036854774784));
        assert_eq!(i64_trunc_f64_s(-9223372036854777856.0), Err(Overflow));
        assert_eq!(i64_trunc_f64_u(18446744073709549568.0), Ok(18446744073709549568));
        assert_eq!(i64_trunc_f64_u(f64::INFINITY), Err(Overflow));
        assert_eq!(i64_trunc_sat_f64_u(f64::INFINITY), u64::MAX);
        assert_eq!(i64_trunc_sat_f64_s(f64::NAN), 0);
        assert_eq!(i32_trunc_sat_f32_u(-5.0), 0);
    }

    /// Compares with the standard library's rounding, for every exponent with fractions around the ties, and special values.
    #[test]
    fn rounding_agrees_with_the_library() {
        let mut values = vec![0.0, 0.3, 0.5, 0.7, 1.5, 2.5, f64::INFINITY, f64::MIN_POSITIVE, 5e-324, f64::MAX];
        for exponent in -3..70 {
            let power = 2f64.powi(exponent);
            for fraction in [-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0] {
                values.extend([power + fraction, power * (1.0 + fraction / 16.0)]);
            }
            values.extend([power.next_up(), power.next_down()]);
        }
        for value in values.iter().flat_map(|value| [*value, -*value]) {
            assert_eq!(f64_nearest(value).to_bits(), value.round_ties_even().to_bits(), "nearest {value}");
            assert_eq!(f64_ceil(value).to_bits(), value.ceil().to_bits(), "ceil {value}");
            assert_eq!(f64_floor(value).to_bits(), value.floor().to_bits(), "floor {value}");
            assert_eq!(f64_trunc(value).to_bits(), value.trunc().to_bits(), "trunc {value}");
            let value = value as f32;
            assert_eq!(f32_nearest(value).to_bits(), value.round_ties_even().to_bits(), "nearest {value}");
            assert_eq!(f32_ceil(value).to_bits(), value.ceil().to_bits(), "ceil {value}");
            assert_eq!(f32_floor(value).to_bits(), value.floor().to_bits(), "floor {value}");
            assert_eq!(f32_trunc(value).to_bits(), value.trunc().to_bits(), "trunc {value}");
        }
    }

    #[test]
    fn nans_become_quiet_in_arithmetic_only() {
        let signalling = std::hint::black_box(f64::from_bits(0x7ff0_0000_0000_0001));
        let quiet = 0x7ff8_0000_0000_0001;
        for result in [
            f64_nearest(signalling),
            f64_ceil(signalling),
            f64_floor(signalling),
            f64_trunc(signalling),
            f64_min(signalling, 1.0),
            f64_max(1.0, signalling),
            f64_sqrt(signalling),
        ] {
            assert_eq!(result.to_bits(), quiet);
        }
        assert_eq!(f64_neg(signalling).to_bits(), 0xfff0_0000_0000_0001);
        assert_eq!(f64_abs(-signalling).to_bits(), 0x7ff0_0000_0000_0001);
        assert_eq!(f64_copysign(signalling, -0.0).to_bits(), 0xfff0_0000_0000_0001);
        assert_eq!(f32_demote_f64(signalling).to_bits(), 0x7fc0_0000);
    }

    #[test]
    fn zeros_are_ordered() {
        assert_eq!((f32_min(0.0, -0.0).to_bits(), f32_min(-0.0, 0.0).to_bits()), (1 << 31, 1 << 31));
        assert_eq!((f32_max(0.0, -0.0).to_bits(), f32_max(-0.0, 0.0).to_bits()), (0, 0));
        assert_eq!((f64_min(-1.0, 2.0), f64_max(-1.0, f64::INFINITY)), (-1.0, f64::INFINITY));
    }

    #[test]
    fn conversions_round_once() {
        assert_eq!(f32_convert_i64_u(0x8000_0080_0000_0001), 9223373136366403584.0);
        assert_eq!(f64_convert_i64_u(u64::MAX), 18446744073709551616.0);
        assert_eq!(f32_convert_i32_s(u32::MAX), -1.0);
        assert_eq!(i64_extend_i32_s(u32::MAX), u64::MAX);
    }
}
