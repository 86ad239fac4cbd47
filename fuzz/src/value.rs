//! Values and outcomes that all engines are compared in.

use std::fmt;

/// The type of a value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Type {
    I32,
    I64,
    F32,
    F64,
    V128,
    Func,
    Extern,
    Exn,
    Any,
}

/// A value as bits. A reference is null, or of some number: that which the host gave its object, and 0 for all others but those to
/// objects of the module.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Value {
    I32(u32),
    I64(u64),
    F32(u32),
    F64(u64),
    V128(u128),
    Ref(Option<u32>),
    I31(u32),
    /// With a hash of its fields.
    Struct(u64),
    /// With a hash of its length and first elements.
    Array(u64),
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::I32(bits) => write!(f, "i32:{bits:#x}"),
            Value::I64(bits) => write!(f, "i64:{bits:#x}"),
            Value::F32(bits) => write!(f, "f32:{bits:#x}"),
            Value::F64(bits) => write!(f, "f64:{bits:#x}"),
            Value::V128(bits) => write!(f, "v128:{bits:#034x}"),
            Value::I31(number) => write!(f, "i31:{number:#x}"),
            Value::Struct(hash) => write!(f, "struct:{hash:x}"),
            Value::Array(hash) => write!(f, "array:{hash:x}"),
            Value::Ref(None) => write!(f, "ref:null"),
            Value::Ref(Some(number)) => write!(f, "ref:{number}"),
        }
    }
}

/// Bits that are often special: bounds of the integer types, zeros, infinities, quiet and signalling NaNs with payloads.
const SAMPLES: [u64; 24] = [
    0,
    1,
    u64::MAX,
    65_536,
    7,
    0x8000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0x3ff8_0000_3fc0_0000,
    0xc130_0000_c2f7_0001,
    0x7ff8_0000_7fc0_0000,
    0xfff8_0000_ffc0_0000,
    0x7ff0_1234_7f80_4321,
    0xfffc_0001_ffe0_0002,
    0x7ff0_0000_7f80_0000,
    0xfff0_0000_ff80_0000,
    0x0000_0001_0000_0001,
    0x41df_ffff_4eff_ffff,
    64,
    65_535,
    0x4340_0000_cf00_0000,
    3,
    0xff,
    0x8080_8080_8080_8080,
];

impl Value {
    /// A value of the type. References are null but for some to objects of the host.
    pub fn sample(ty: Type, n: u32) -> Self {
        let bits = |n: u32| SAMPLES[n as usize % SAMPLES.len()];
        match ty {
            Type::I32 => Value::I32(bits(n) as u32),
            Type::I64 => Value::I64(bits(n)),
            Type::F32 => Value::F32(bits(n) as u32),
            Type::F64 => Value::F64(bits(n)),
            Type::V128 => Value::V128(u128::from(bits(n)) << 64 | u128::from(bits(n.wrapping_mul(7) + 3))),
            Type::Extern => Value::Ref((!n.is_multiple_of(4)).then_some(n)),
            Type::Any if n % 2 == 1 => Value::I31(bits(n) as u32 & 0x7fff_ffff),
            Type::Func | Type::Exn | Type::Any => Value::Ref(None),
        }
    }
}

/// How many references deep objects are looked into.
pub const DEPTH: usize = 3;

/// How many elements of an array are looked at.
pub const ELEMENTS: usize = 8;

/// A number that changes with an object's length and any of the values in it.
pub fn hash_all(length: usize, values: impl IntoIterator<Item = Value>) -> u64 {
    let text: Vec<String> = values.into_iter().map(|value| format!("{value:?}")).collect();
    hash(format!("{length} {}", text.join(" ")).as_bytes())
}

/// How a call ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    Values(Vec<Value>),
    /// In the words of the official suite.
    Trap(String),
    Exception,
    /// A host function failed.
    Host,
    /// Stack or memory was short: engines differ in how much they have, and what follows is not compared.
    Limit,
    /// Anything else, which no engine should give.
    Error(String),
}

/// A number that changes with any byte.
pub fn hash(bytes: &[u8]) -> u64 {
    let mix = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut chunks = bytes.chunks_exact(8);
    let words = chunks.by_ref().map(|chunk| u64::from_le_bytes(chunk.try_into().expect("8 bytes")));
    let hash = words.fold(bytes.len() as u64, mix);
    chunks.remainder().iter().fold(hash, |hash, byte| mix(hash, u64::from(*byte)))
}
