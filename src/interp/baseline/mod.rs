//! Baseline code: native code made from bytecode, in the time that it takes to read that, and run in place of it.
//!
//! It runs as a handler does: with the interpreter's registers, in its frames, jumped to and jumping on. So a frame may go from
//! one to the other between any two instructions. What has no native code here, and all that is slow or traps, is left
//! to the handlers: native code sets the ip and jumps there. Where it does, the bytecode that it leaves to the handlers ends
//! with a `Baseline` instruction, which goes on in native code.
//!
//! What may be here: native code for bytecode. What may not: when it is made (`tier`), where it lies (`jit`).

#[cfg(target_arch = "aarch64")]
#[allow(clippy::useless_conversion, reason = "the assembler converts numbers of registers")]
mod aarch64;
mod lower;
mod publish;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
#[allow(clippy::useless_conversion, reason = "the assembler converts numbers of registers")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
use aarch64 as arch;
#[cfg(target_arch = "x86_64")]
use x86_64 as arch;

pub(super) use publish::{Making, Origin};

/// A place in the code, by number: those of the words of the bytecode come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Label(u32);

/// A register that native code uses besides those of the interpreter, or its accumulator for integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reg {
    Acc,
    T0,
    T1,
}

/// Where an operand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Src {
    Reg(Reg),
    Slot(u16),
    /// Sign-extended.
    Imm(i32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    W32,
    W64,
}

/// What integers are in memory, and how they are extended: with zeros, or with the sign to that many bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    U8,
    U16,
    U32,
    U64,
    S8(Width),
    S16(Width),
    S32,
}

impl Unit {
    fn bytes(self) -> u64 {
        match self {
            Unit::U8 | Unit::S8(_) => 1,
            Unit::U16 | Unit::S16(_) => 2,
            Unit::U32 | Unit::S32 => 4,
            Unit::U64 => 8,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Alu {
    Add,
    Sub,
    And,
    Or,
    Xor,
    Mul,
}

#[derive(Clone, Copy, Debug)]
enum Shift {
    Shl,
    ShrS,
    ShrU,
    Rotl,
    Rotr,
}

#[derive(Clone, Copy, Debug)]
enum Cond {
    Eq,
    Ne,
    LtS,
    LtU,
    GtS,
    GtU,
    LeS,
    LeU,
    GeS,
    GeU,
}

#[derive(Clone, Copy, Debug)]
enum Float {
    F32,
    F64,
}

impl Float {
    /// Number of the register of the accumulator of its bank.
    fn accumulator(self) -> u8 {
        match self {
            Float::F32 => 0,
            Float::F64 => 1,
        }
    }
}

/// Where a float is.
#[derive(Clone, Copy, Debug)]
enum FloatSrc {
    /// In the accumulator of its bank.
    Acc,
    Slot(u16),
    Bits(u64),
}

/// What is so of two floats. The negations are so if one is a NaN, all others but `Ne` are not.
#[derive(Clone, Copy, Debug)]
enum FloatCond {
    Eq,
    Ne,
    Gt,
    Ge,
    NotGt,
    NotGe,
}

#[derive(Clone, Copy, Debug)]
enum FloatOp {
    Add,
    Sub,
    Mul,
    Div,
}
