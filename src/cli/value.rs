//! Values from text and to text, as literals of the text format: what is printed can be given as an argument again.

use std::fmt::Write;

use ::wast::core::V128Const;
use ::wast::parser::{self, Parse, ParseBuffer};
use ::wast::token::{F32, F64};

use crate::{ExternRef, HeapType, ValType, Value};

/// Lane counts of the shapes that a `v128` can be written in.
const SHAPES: [(&str, usize); 6] =
    [("i8x16", 16), ("i16x8", 8), ("i32x4", 4), ("i64x2", 2), ("f32x4", 4), ("f64x2", 2)];

/// Reads the arguments of a function of these parameter types.
///
/// An argument is one string; only a `v128` may be several, the shape and its lanes: `i32x4 1 2 3 4`.
///
/// # Errors
/// What is wrong, naming the argument.
pub(super) fn parse_all(texts: &[String], types: &[ValType]) -> Result<Vec<Value>, String> {
    let mut rest = texts;
    let mut values = Vec::with_capacity(types.len());
    for (index, ty) in types.iter().enumerate() {
        let lanes = match rest.first().map(|text| text.trim()) {
            Some(shape) if *ty == ValType::V128 => SHAPES.iter().find(|s| s.0 == shape).map_or(0, |s| s.1),
            _ => 0,
        };
        let Some((texts, behind)) = rest.split_at_checked(1 + lanes) else {
            let missing =
                if rest.is_empty() { format!("{} of type {ty} is", index + 1) } else { "has lanes that are".into() };
            return Err(format!("argument {missing} missing"));
        };
        let text = texts.join(" ");
        values.push(parse(&text, ty).map_err(|why| format!("argument {}: {why}", index + 1))?);
        rest = behind;
    }
    match rest {
        [] => Ok(values),
        [first, ..] => Err(format!("{} argument(s) too many, from `{first}` on", rest.len())),
    }
}

/// Reads one value, in any spelling that the text format knows; `i32.const 1` and `(i32.const 1)` are fine too.
///
/// # Errors
/// What is wrong, and what such a value looks like.
pub(super) fn parse(text: &str, ty: &ValType) -> Result<Value, String> {
    let literal = text.trim();
    let literal = literal.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')).unwrap_or(literal).trim();
    let value = match ty {
        ValType::I32 => number(literal, "i32.const").map(Value::I32),
        ValType::I64 => number(literal, "i64.const").map(Value::I64),
        ValType::F32 => number(literal, "f32.const").map(|v: F32| Value::F32(f32::from_bits(v.bits))),
        ValType::F64 => number(literal, "f64.const").map(|v: F64| Value::F64(f64::from_bits(v.bits))),
        ValType::V128 => {
            number(literal, "v128.const").map(|v: V128Const| Value::V128(u128::from_le_bytes(v.to_le_bytes())))
        }
        ValType::Ref(ty) => match (ty.heap_type().top(), literal) {
            (heap, "null" | "ref.null") => Some(Value::null(&heap)),
            (heap, _) if literal.strip_prefix("ref.null ").is_some_and(|name| name == heap.to_string()) => {
                Some(Value::null(&heap))
            }
            (HeapType::Extern, _) => literal
                .strip_prefix("ref.extern")
                .and_then(token::<u32>)
                .map(|number| Value::ExternRef(Some(ExternRef::new(number)))),
            _ => None,
        },
    };
    value.ok_or_else(|| {
        let examples = match ty {
            ValType::I32 => "such as 1, -0x10 or 4294967295",
            ValType::I64 => "such as 1, -0x10 or 18446744073709551615",
            ValType::F32 | ValType::F64 => "such as 1, 0.5, 0x1p-3, -inf, nan or nan:0x200000",
            ValType::V128 => "such as `i32x4 1 2 3 4` or `f64x2 0.5 -inf`",
            &ValType::EXTERNREF => "such as null or `ref.extern 1`",
            ValType::Ref(_) => "which can only be null here",
        };
        format!("`{text}` is no {ty}, {examples}")
    })
}

fn number<T: for<'a> Parse<'a>>(literal: &str, instruction: &str) -> Option<T> {
    token(literal.strip_prefix(instruction).unwrap_or(literal))
}

fn token<T: for<'a> Parse<'a>>(text: &str) -> Option<T> {
    let buffer = ParseBuffer::new(text).ok()?;
    parser::parse(&buffer).ok()
}

/// A value as [`parse`] reads it.
pub(super) fn print(value: &Value) -> String {
    match value {
        Value::I32(v) => v.to_string(),
        Value::I64(v) => v.to_string(),
        Value::F32(v) if v.is_nan() => nan(v.is_sign_negative(), v.to_bits() & 0x7f_ffff, 0x40_0000),
        Value::F64(v) if v.is_nan() => nan(v.is_sign_negative(), v.to_bits() & 0xf_ffff_ffff_ffff, 0x8_0000_0000_0000),
        Value::F32(v) => float(format!("{v:?}")),
        Value::F64(v) => float(format!("{v:?}")),
        Value::V128(v) => v.to_le_bytes().chunks_exact(4).fold("i32x4".into(), |mut text, lane| {
            let lane = i32::from_le_bytes(lane.try_into().unwrap_or_default());
            let _ = write!(text, " {lane}");
            text
        }),
        Value::FuncRef(None) | Value::ExternRef(None) | Value::ExnRef(None) | Value::AnyRef(None) => "null".into(),
        Value::FuncRef(Some(_)) => "ref.func".into(),
        Value::ExnRef(Some(_)) => "ref.exn".into(),
        Value::AnyRef(Some(_)) => "ref.any".into(),
        Value::ExternRef(Some(object)) => match object.data().downcast_ref::<u32>() {
            Some(number) => format!("ref.extern {number}"),
            None => "ref.extern".into(),
        },
    }
}

/// Values separated by spaces, each in the form of an instruction, for messages.
pub(super) fn print_all(values: &[Value]) -> String {
    let texts: Vec<_> = values
        .iter()
        .map(|value| match value {
            Value::FuncRef(None) => "(ref.null func)".to_string(),
            Value::ExternRef(None) => "(ref.null extern)".to_string(),
            Value::ExnRef(None) => "(ref.null exn)".to_string(),
            Value::AnyRef(None) => "(ref.null any)".to_string(),
            Value::FuncRef(_) | Value::ExternRef(_) | Value::ExnRef(_) | Value::AnyRef(_) => {
                format!("({})", print(value))
            }
            _ => format!("({}.const {})", value.ty(), print(value)),
        })
        .collect();
    if texts.is_empty() { "nothing".into() } else { texts.join(" ") }
}

fn nan<T: PartialEq + std::fmt::LowerHex>(negative: bool, payload: T, canonical: T) -> String {
    let sign = if negative { "-" } else { "" };
    if payload == canonical { format!("{sign}nan") } else { format!("{sign}nan:{payload:#x}") }
}

/// The shortest decimal that reads back the same; whole numbers without a fraction.
fn float(debug: String) -> String {
    debug.strip_suffix(".0").map_or(debug.clone(), str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(a: &Value, b: &Value) -> bool {
        match (a, b) {
            (Value::F32(a), Value::F32(b)) => a.to_bits() == b.to_bits(),
            (Value::F64(a), Value::F64(b)) => a.to_bits() == b.to_bits(),
            _ => format!("{a:?}") == format!("{b:?}"),
        }
    }

    #[test]
    fn every_spelling_is_read() {
        let cases = [
            ("4294967295", ValType::I32, Value::I32(-1)),
            ("-0x10", ValType::I32, Value::I32(-16)),
            ("+1_000", ValType::I32, Value::I32(1000)),
            ("(i32.const 0x80000000)", ValType::I32, Value::I32(i32::MIN)),
            ("18446744073709551615", ValType::I64, Value::I64(-1)),
            ("i64.const -1", ValType::I64, Value::I64(-1)),
            ("nan:0x200000", ValType::F32, Value::F32(f32::from_bits(0x7fa0_0000))),
            ("-nan", ValType::F32, Value::F32(f32::from_bits(0xffc0_0000))),
            ("1", ValType::F32, Value::F32(1.0)),
            ("-0", ValType::F64, Value::F64(-0.0)),
            ("0x1.8p1", ValType::F64, Value::F64(3.0)),
            ("inf", ValType::F64, Value::F64(f64::INFINITY)),
            ("i32x4 1 2 3 4", ValType::V128, Value::V128(0x4_0000_0003_0000_0002_0000_0001)),
            ("v128.const i64x2 -1 0", ValType::V128, Value::V128(u64::MAX.into())),
            ("null", ValType::FUNCREF, Value::FuncRef(None)),
            ("ref.null extern", ValType::EXTERNREF, Value::ExternRef(None)),
        ];
        for (text, ty, expected) in cases {
            let value = parse(text, &ty).unwrap();
            assert!(same(&value, &expected), "{text}: {value:?}");
        }
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for (text, ty) in [
            ("4294967296", ValType::I32),
            ("-2147483649", ValType::I32),
            ("1.5", ValType::I32),
            ("", ValType::I32),
            ("1 2", ValType::I64),
            ("nan:0x800000", ValType::F32),
            ("i32x4 1 2 3", ValType::V128),
            ("1", ValType::FUNCREF),
        ] {
            assert!(parse(text, &ty).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_printed_is_read_back() {
        let values = [
            Value::I32(i32::MIN),
            Value::I64(i64::MAX),
            Value::F32(f32::from_bits(0xff80_0001)),
            Value::F32(f32::MAX),
            Value::F32(-0.0),
            Value::F32(1e-45),
            Value::F64(f64::from_bits(0x7ff8_0000_0000_0000)),
            Value::F64(f64::NEG_INFINITY),
            Value::F64(0.1 + 0.2),
            Value::F64(1e300),
            Value::V128(0xdead_beef_0000_0000_ffff_ffff_8000_0000),
            Value::FuncRef(None),
            Value::ExternRef(None),
        ];
        for value in values {
            let text = print(&value);
            assert!(same(&parse(&text, &value.ty()).unwrap(), &value), "{text}");
        }
    }

    #[test]
    fn lanes_may_be_arguments_of_their_own() {
        let texts: Vec<String> = ["i64x2", "1", "-1", "7"].map(String::from).into();
        let values = parse_all(&texts, &[ValType::V128, ValType::I32]).unwrap();
        assert!(same(&values[0], &Value::V128(u128::from(u64::MAX) << 64 | 1)));
        assert!(same(&values[1], &Value::I32(7)));
        assert!(parse_all(&texts[..2], &[ValType::V128]).is_err());
        assert!(parse_all(&texts, &[ValType::V128]).is_err());
    }
}
