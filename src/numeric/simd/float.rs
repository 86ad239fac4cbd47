//! Floating-point arithmetic, lane by lane. Each lane follows the rules for NaNs and zeros in `numeric`.

use super::target;
use super::{V128, comparison, lanewise};
use crate::numeric::*;

comparison! {
    [f32; 4] -> u32: f32x4_eq ==, f32x4_ne !=, f32x4_lt <, f32x4_gt >, f32x4_le <=, f32x4_ge >=,;
    [f64; 2] -> u64: f64x2_eq ==, f64x2_ne !=, f64x2_lt <, f64x2_gt >, f64x2_le <=, f64x2_ge >=,;
}

lanewise! {
    f32x4_abs: [f32; 4] -> f32, |a| a.abs();
    f32x4_neg: [f32; 4] -> f32, |a| -a;
    f32x4_sqrt: [f32; 4] -> f32, |a| f32_sqrt(a);
    f32x4_ceil: [f32; 4] -> f32, |a| f32_ceil(a);
    f32x4_floor: [f32; 4] -> f32, |a| f32_floor(a);
    f32x4_trunc: [f32; 4] -> f32, |a| f32_trunc(a);
    f32x4_nearest: [f32; 4] -> f32, |a| f32_nearest(a);
    f32x4_sub: [f32; 4] -> f32, |a, b| f32_sub(a, b);
    f32x4_div: [f32; 4] -> f32, |a, b| f32_div(a, b);
    f32x4_min: [f32; 4] -> f32, |a, b| f32_min(a, b);
    f32x4_max: [f32; 4] -> f32, |a, b| f32_max(a, b);
    f32x4_pmin: [f32; 4] -> f32, |a, b| f32_pmin(a, b);
    f32x4_pmax: [f32; 4] -> f32, |a, b| f32_pmax(a, b);

    f64x2_abs: [f64; 2] -> f64, |a| a.abs();
    f64x2_neg: [f64; 2] -> f64, |a| -a;
    f64x2_sqrt: [f64; 2] -> f64, |a| f64_sqrt(a);
    f64x2_ceil: [f64; 2] -> f64, |a| f64_ceil(a);
    f64x2_floor: [f64; 2] -> f64, |a| f64_floor(a);
    f64x2_trunc: [f64; 2] -> f64, |a| f64_trunc(a);
    f64x2_nearest: [f64; 2] -> f64, |a| f64_nearest(a);
    f64x2_sub: [f64; 2] -> f64, |a, b| f64_sub(a, b);
    f64x2_div: [f64; 2] -> f64, |a, b| f64_div(a, b);
    f64x2_min: [f64; 2] -> f64, |a, b| f64_min(a, b);
    f64x2_max: [f64; 2] -> f64, |a, b| f64_max(a, b);
    f64x2_pmin: [f64; 2] -> f64, |a, b| f64_pmin(a, b);
    f64x2_pmax: [f64; 2] -> f64, |a, b| f64_pmax(a, b);
}

// Commutative instructions: the compiler must not swap their operands, because the order decides which NaN results.
macro_rules! commutative {
    ($($name:ident)*) => {
        $(
            #[inline(always)]
            pub(crate) fn $name(a: V128, b: V128) -> V128 {
                target::$name(a, b)
            }
        )*
    };
}

commutative! { f32x4_add f32x4_mul f64x2_add f64x2_mul }
