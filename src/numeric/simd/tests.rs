//! Tests of instructions whose rules are easy to get wrong, with expected values derived from the specification.

use super::*;

fn i8s(lanes: [i8; 16]) -> V128 {
    lanes.into()
}

fn i16s(lanes: [i16; 8]) -> V128 {
    lanes.into()
}

fn i32s(lanes: [i32; 4]) -> V128 {
    lanes.into()
}

fn f32s(lanes: [f32; 4]) -> V128 {
    lanes.into()
}

fn f64s(lanes: [f64; 2]) -> V128 {
    lanes.into()
}

#[test]
fn lanes_are_in_the_order_of_memory() {
    let vector = V128::from(0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100u128);
    assert_eq!(<[u8; 16]>::from(vector), std::array::from_fn(|i| i as u8));
    assert_eq!(i16x8_extract_lane_u(vector, 1), 0x0302);
    assert_eq!(i32x4_extract_lane(vector, 3), 0x0f0e_0d0c);
    assert_eq!(i64x2_extract_lane(vector, 0), 0x0706_0504_0302_0100);
    assert_eq!(u128::from(i8x16_replace_lane(vector, 15, 0x1ff)) >> 120, 0xff);
    assert_eq!(i8x16_extract_lane_s(i8x16_splat(0x180), 7), -128i32 as u32);
    assert_eq!(i8x16_extract_lane_u(i8x16_splat(0x180), 7), 128);
}

#[test]
fn saturating_and_rounding() {
    assert_eq!(i8x16_add_sat_s(i8s([127; 16]), i8s([1; 16])), i8s([127; 16]));
    assert_eq!(i8x16_sub_sat_u(i8s([1; 16]), i8s([2; 16])), V128::ZERO);
    assert_eq!(i8x16_avgr_u(i8s([-1; 16]), i8s([-2; 16])), i8s([-1; 16]));
    assert_eq!(i16x8_avgr_u(i16s([0; 8]), i16s([1; 8])), i16s([1; 8]));
    assert_eq!(i8x16_abs(i8s([-128; 16])), i8s([-128; 16]));
    let a = i16s([-32768, -32768, 32767, 16384, 1, -1, 0, 181]);
    let b = i16s([-32768, 32767, 32767, 1, 16384, 16384, 5, 181]);
    assert_eq!(i16x8_q15mulr_sat_s(a, b), i16s([32767, -32767, 32766, 1, 1, 0, 0, 1]));
    let a = i32s([70000, -70000, -1, 40000]);
    assert_eq!(i16x8_narrow_i32x4_s(a, a), i16s([32767, -32768, -1, 32767, 32767, -32768, -1, 32767]));
    assert_eq!(i16x8_narrow_i32x4_u(a, a), i16s([-1, 0, 0, -25536, -1, 0, 0, -25536]));
}

#[test]
fn products_and_pairs() {
    let a = i16s([-32768, -32768, 1, 2, 32767, 32767, -32768, 32767]);
    assert_eq!(i32x4_dot_i16x8_s(a, a), i32s([i32::MIN, 5, 2 * 32767 * 32767, 32768 * 32768 + 32767 * 32767]));
    let a = i8s([-128, 127, -1, -1, 1, 2, 3, 4, 5, 6, 7, 8, -128, -128, 127, 127]);
    assert_eq!(i16x8_extadd_pairwise_i8x16_s(a), i16s([-1, -2, 3, 7, 11, 15, -256, 254]));
    assert_eq!(i16x8_extadd_pairwise_i8x16_u(a), i16s([255, 510, 3, 7, 11, 15, 256, 254]));
    assert_eq!(i16x8_extmul_high_i8x16_u(a, a), i16s([25, 36, 49, 64, 16384, 16384, 16129, 16129]));
    let a = i16s([-1, -1, 1, 2, 32767, 32767, -32768, -32768]);
    assert_eq!(i32x4_extadd_pairwise_i16x8_s(a), i32s([-2, 3, 65534, -65536]));
    assert_eq!(i32x4_extadd_pairwise_i16x8_u(a), i32s([131_070, 3, 65534, 65536]));
}

#[test]
fn shifts_take_the_count_modulo_the_width() {
    assert_eq!(i8x16_shl(i8s([1; 16]), 9), i8s([2; 16]));
    assert_eq!(i8x16_shr_s(i8s([-128; 16]), 7), i8s([-1; 16]));
    assert_eq!(i8x16_shr_u(i8s([-128; 16]), 15), i8s([1; 16]));
    assert_eq!(i16x8_shr_s(i16s([-2; 8]), 17), i16s([-1; 8]));
    assert_eq!(i64x2_shl([1u64, 3].into(), 64), [1u64, 3].into());
}

#[test]
fn truth_and_masks() {
    let mut lanes = [-1i8; 16];
    assert_eq!((i8x16_all_true(i8s(lanes)), i8x16_bitmask(i8s(lanes))), (1, 0xffff));
    lanes[9] = 0;
    assert_eq!((i8x16_all_true(i8s(lanes)), i8x16_bitmask(i8s(lanes))), (0, 0xfdff));
    assert_eq!((i16x8_all_true(i8s(lanes)), i16x8_bitmask(i8s(lanes))), (1, 0b1110_1111));
    assert_eq!((i32x4_bitmask(i8s(lanes)), i64x2_bitmask(i8s(lanes))), (15, 3));
    assert_eq!((v128_any_true(V128::ZERO), v128_any_true(V128::from(1u128 << 90))), (0, 1));
    assert_eq!(v128_bitselect(V128::from(0b1100), V128::from(0b1010), V128::from(0b0110)), V128::from(0b1100));
    assert_eq!(v128_andnot(V128::from(0b1100), V128::from(0b1010)), V128::from(0b0100));
}

#[test]
fn floats_follow_the_order_of_zeros_and_nans() {
    let bits = |vector: V128| <[u32; 4]>::from(vector);
    let signalling = f32::from_bits(0x7fa0_0001);
    let a = f32s([-0.0, 0.0, signalling, 1.0]);
    let b = f32s([0.0, -0.0, 1.0, f32::NAN]);
    assert_eq!(bits(f32x4_min(a, b)), [0x8000_0000, 0x8000_0000, 0x7fe0_0001, 0x7fc0_0000]);
    assert_eq!(bits(f32x4_max(a, b)), [0, 0, 0x7fe0_0001, 0x7fc0_0000]);
    assert_eq!(bits(f32x4_pmin(a, b)), [0x8000_0000, 0, 0x7fa0_0001, 0x3f80_0000]);
    assert_eq!(bits(f32x4_pmax(b, a)), [0, 0x8000_0000, 0x3f80_0000, 0x7fc0_0000]);
    assert_eq!(bits(f32x4_neg(a)), [0, 0x8000_0000, 0xffa0_0001, 0xbf80_0000]);
    assert_eq!(bits(f32x4_nearest(f32s([0.5, -0.5, 1.5, 2.5]))), bits(f32s([0.0, -0.0, 2.0, 2.0])));
    assert_eq!(
        bits(f32x4_floor(f32s([-0.0, -0.5, 1e30, f32::NEG_INFINITY]))),
        bits(f32s([-0.0, -1.0, 1e30, f32::NEG_INFINITY]))
    );
    assert_eq!(f64x2_ceil(f64s([-0.5, 4503599627370495.5])), f64s([-0.0, 4503599627370496.0]));
}

#[test]
fn conversions() {
    assert_eq!(i32x4_trunc_sat_f32x4_s(f32s([f32::NAN, 3e9, -3e9, -1.9])), i32s([0, i32::MAX, i32::MIN, -1]));
    assert_eq!(i32x4_trunc_sat_f32x4_u(f32s([f32::NAN, 3e9, 5e9, -1.9])), i32s([0, 3_000_000_000u32 as i32, -1, 0]));
    assert_eq!(i32x4_trunc_sat_f64x2_u_zero(f64s([4294967295.9, -0.9])), i32s([-1, 0, 0, 0]));
    assert_eq!(f32x4_convert_i32x4_u(i32s([-1, 0, 1, 0x0100_0001])), f32s([4294967296.0, 0.0, 1.0, 16777216.0]));
    assert_eq!(f64x2_convert_low_i32x4_u(i32s([-1, 2, 7, 7])), f64s([4294967295.0, 2.0]));
    assert_eq!(f32x4_demote_f64x2_zero(f64s([1e300, 0.1])), f32s([f32::INFINITY, 0.1, 0.0, 0.0]));
    assert_eq!(f64x2_promote_low_f32x4(f32s([0.5, -0.0, 9.0, 9.0])), f64s([0.5, -0.0]));
}

/// The results of the deterministic profile: signed products, saturating sums, one rounding.
#[test]
fn relaxed() {
    let a = i8s([-128, -128, 127, 127, -128, -128, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0]);
    let b = i8s([-127, -127, 127, 127, -128, -128, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(i16x8_relaxed_dot_i8x16_i7x16_s(a, b), i16s([32512, 32258, 32767, 11, 0, 0, 0, 0]));
    let sums = i32x4_relaxed_dot_i8x16_i7x16_add_s(a, b, i32s([1, i32::MAX, 3, 4]));
    assert_eq!(sums, i32s([64771, i32::MAX.wrapping_add(32778), 3, 4]));
    // Rounded twice, the first would be 0 and the second infinite.
    let x = 1.0 + f32::EPSILON;
    let madd = f32x4_relaxed_madd(
        f32s([x, f32::MAX, 2.0, 0.0]),
        f32s([x, 2.0, 3.0, 1.0]),
        f32s([-(x * x), -f32::MAX, 1.0, 2.0]),
    );
    assert_eq!(madd, f32s([f32::EPSILON * f32::EPSILON, f32::MAX, 7.0, 2.0]));
    assert_eq!(f64x2_relaxed_nmadd(f64s([2.0, -1.5]), f64s([3.0, 2.0]), f64s([1.0, 1.0])), f64s([-5.0, 4.0]));
}

/// The target's instructions give what the plain Rust gives, for pseudo-random bytes.
#[test]
fn target_agrees_with_plain_rust() {
    use super::target::portable::{arithmetic, table};
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut bits = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state ^ (state >> 29)
    };
    for _ in 0..10_000 {
        let (a, b, c) = (V128::from([bits(), bits()]), V128::from([bits(), bits()]), V128::from([bits(), bits()]));
        let lanes = v128_and(c, i8x16_splat(31));
        let small = v128_and(c, i8x16_splat(if bits() % 2 == 0 { 0x1f } else { 0x83 }));
        assert_eq!(target::i8x16_shuffle(a, b, lanes), table::i8x16_shuffle(a, b, lanes));
        assert_eq!(target::i8x16_swizzle(a, c), table::i8x16_swizzle(a, c));
        assert_eq!(target::i8x16_swizzle(a, small), table::i8x16_swizzle(a, small));
        assert_eq!(target::i8x16_bitmask(a), arithmetic::i8x16_bitmask(a));
        assert_eq!(target::i16x8_bitmask(a), arithmetic::i16x8_bitmask(a));
        assert_eq!(target::i32x4_bitmask(a), arithmetic::i32x4_bitmask(a));
        assert_eq!(target::i64x2_bitmask(a), arithmetic::i64x2_bitmask(a));
        assert_eq!(target::i32x4_dot_i16x8_s(a, b), arithmetic::i32x4_dot_i16x8_s(a, b));
        let memory = bits();
        assert_eq!(target::v128_load8x8_s(memory), arithmetic::v128_load8x8_s(memory));
        assert_eq!(target::v128_load8x8_u(memory), arithmetic::v128_load8x8_u(memory));
        assert_eq!(target::v128_load16x4_s(memory), arithmetic::v128_load16x4_s(memory));
        assert_eq!(target::v128_load16x4_u(memory), arithmetic::v128_load16x4_u(memory));
        assert_eq!(target::v128_load32x2_s(memory), arithmetic::v128_load32x2_s(memory));
        assert_eq!(target::v128_load32x2_u(memory), arithmetic::v128_load32x2_u(memory));
        // Floats from integers, so that there are no NaNs: which NaN results is the hardware's choice.
        let [x, y, z] = [a, b, c].map(f32x4_convert_i32x4_s);
        assert_eq!(target::f32x4_fma(x, y, z), arithmetic::f32x4_fma(x, y, z));
        let [x, y, z] = [a, b, c].map(f64x2_convert_low_i32x4_s);
        assert_eq!(target::f64x2_fma(x, y, z), arithmetic::f64x2_fma(x, y, z));
    }
}
