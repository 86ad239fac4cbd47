//! Comparison of results with what a script expects, and the text of both for messages.

use std::fmt;

use super::script::{Float, Pattern};
use crate::cli::value;
use crate::{ExternRef, Store, Value};

impl Pattern {
    /// Whether a value of `store` is as expected.
    pub fn matches(&self, store: &mut Store<()>, actual: &Value) -> bool {
        match (self, actual) {
            (Pattern::I32(expected), Value::I32(actual)) => expected == actual,
            (Pattern::I64(expected), Value::I64(actual)) => expected == actual,
            (Pattern::F32(expected), Value::F32(actual)) => expected.matches_f32(actual.to_bits()),
            (Pattern::F64(expected), Value::F64(actual)) => expected.matches_f64(actual.to_bits()),
            (Pattern::V128(expected), Value::V128(actual)) => expected == actual,
            (Pattern::F32x4(lanes), Value::V128(actual)) => {
                (0..4).zip(lanes).all(|(lane, expected)| expected.matches_f32((actual >> (32 * lane)) as u32))
            }
            (Pattern::F64x2(lanes), Value::V128(actual)) => {
                (0..2).zip(lanes).all(|(lane, expected)| expected.matches_f64((actual >> (64 * lane)) as u64))
            }
            (Pattern::NullFunc | Pattern::Null, Value::FuncRef(actual)) => actual.is_none(),
            (Pattern::NullExtern | Pattern::Null, Value::ExternRef(actual)) => actual.is_none(),
            (Pattern::NullExn | Pattern::Null, Value::ExnRef(actual)) => actual.is_none(),
            (Pattern::NullAny | Pattern::Null, Value::AnyRef(actual)) => actual.is_none(),
            (Pattern::Func, Value::FuncRef(actual)) => actual.is_some(),
            (Pattern::Any, Value::AnyRef(actual)) => actual.is_some(),
            (Pattern::Eq, Value::AnyRef(Some(actual))) => actual.is_eqref(store).unwrap_or(false),
            (Pattern::I31, Value::AnyRef(Some(actual))) => actual.is_i31(store).unwrap_or(false),
            (Pattern::Struct, Value::AnyRef(Some(actual))) => actual.is_struct(store).unwrap_or(false),
            (Pattern::Array, Value::AnyRef(Some(actual))) => actual.is_array(store).unwrap_or(false),
            (Pattern::Host(expected), Value::AnyRef(Some(actual))) => {
                ExternRef::convert_any(store, actual.clone()).is_ok_and(|actual| number(&actual) == Some(*expected))
            }
            (Pattern::Extern(None), Value::ExternRef(actual)) => actual.is_some(),
            (Pattern::Extern(Some(expected)), Value::ExternRef(Some(actual))) => number(actual) == Some(*expected),
            (Pattern::Either(cases), actual) => cases.iter().any(|case| case.matches(store, actual)),
            _ => false,
        }
    }
}

fn number(object: &ExternRef) -> Option<u32> {
    object.data().downcast_ref().copied()
}

// A canonical NaN has the top bit of the significand alone set; an arithmetic one has it and any others. The sign is
// free for both (specification, section 4.3.3, "NaN propagation").
impl Float<u32> {
    fn matches_f32(self, actual: u32) -> bool {
        match self {
            Float::Bits(expected) => expected == actual,
            Float::CanonicalNan => actual & 0x7fff_ffff == 0x7fc0_0000,
            Float::ArithmeticNan => actual & 0x7fc0_0000 == 0x7fc0_0000,
        }
    }
}

impl Float<u64> {
    fn matches_f64(self, actual: u64) -> bool {
        match self {
            Float::Bits(expected) => expected == actual,
            Float::CanonicalNan => actual & 0x7fff_ffff_ffff_ffff == 0x7ff8_0000_0000_0000,
            Float::ArithmeticNan => actual & 0x7ff8_0000_0000_0000 == 0x7ff8_0000_0000_0000,
        }
    }
}

impl fmt::Display for Float<u32> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Float::Bits(bits) => f.write_str(&value::print(&Value::F32(f32::from_bits(*bits)))),
            Float::CanonicalNan => f.write_str("nan:canonical"),
            Float::ArithmeticNan => f.write_str("nan:arithmetic"),
        }
    }
}

impl fmt::Display for Float<u64> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Float::Bits(bits) => f.write_str(&value::print(&Value::F64(f64::from_bits(*bits)))),
            Float::CanonicalNan => f.write_str("nan:canonical"),
            Float::ArithmeticNan => f.write_str("nan:arithmetic"),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pattern::I32(v) => write!(f, "(i32.const {v})"),
            Pattern::I64(v) => write!(f, "(i64.const {v})"),
            Pattern::F32(v) => write!(f, "(f32.const {v})"),
            Pattern::F64(v) => write!(f, "(f64.const {v})"),
            Pattern::V128(v) => write!(f, "(v128.const {})", value::print(&Value::V128(*v))),
            Pattern::F32x4([a, b, c, d]) => write!(f, "(v128.const f32x4 {a} {b} {c} {d})"),
            Pattern::F64x2([a, b]) => write!(f, "(v128.const f64x2 {a} {b})"),
            Pattern::NullFunc => f.write_str("(ref.null func)"),
            Pattern::NullExtern => f.write_str("(ref.null extern)"),
            Pattern::NullExn => f.write_str("(ref.null exn)"),
            Pattern::Null => f.write_str("(ref.null)"),
            Pattern::Extern(None) => f.write_str("(ref.extern)"),
            Pattern::Extern(Some(number)) => write!(f, "(ref.extern {number})"),
            Pattern::Func => f.write_str("(ref.func)"),
            Pattern::NullAny => f.write_str("(ref.null any)"),
            Pattern::Any => f.write_str("(ref.any)"),
            Pattern::Eq => f.write_str("(ref.eq)"),
            Pattern::I31 => f.write_str("(ref.i31)"),
            Pattern::Struct => f.write_str("(ref.struct)"),
            Pattern::Array => f.write_str("(ref.array)"),
            Pattern::Host(number) => write!(f, "(ref.host {number})"),
            Pattern::Either(cases) => write!(f, "(either {})", join(cases)),
            Pattern::Unsupported(what) => f.write_str(what),
        }
    }
}

/// Patterns as a script writes them.
pub(super) fn join(patterns: &[Pattern]) -> String {
    let texts: Vec<_> = patterns.iter().map(Pattern::to_string).collect();
    if texts.is_empty() { "nothing".into() } else { texts.join(" ") }
}
