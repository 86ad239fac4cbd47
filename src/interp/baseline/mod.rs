//! Baseline code: native code compiled from bytecode in one pass, and run in its place.
//!
//! It runs as handlers do: with the interpreter's registers, in the interpreter's frames, jumped to and ending in a jump. So a
//! frame can change between the two at any instruction. An instruction that has no native code here, is slow or traps is left
//! to its handler: native code sets the ip to a copy of the instruction and jumps to the handler. A `Baseline` instruction
//! follows the copy and leads back into native code.
//!
//! What may be here: compilation of bytecode (`lower`, and a file for each category of instructions), the assemblers, and what a
//! module keeps of the result (`publish`). What may not: when code is compiled (`tier`), where it lies (`jit`).

#[cfg(target_arch = "aarch64")]
#[allow(clippy::useless_conversion, reason = "the assembler converts numbers of registers")]
mod aarch64;
mod call;
mod control;
mod exception;
mod fuel;
mod heat;
mod lower;
mod memory;
mod numeric;
mod publish;
#[cfg(test)]
mod tests;
mod variable;
#[cfg(target_arch = "x86_64")]
#[allow(clippy::useless_conversion, reason = "the assembler converts numbers of registers")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
use aarch64 as arch;
#[cfg(target_arch = "x86_64")]
use x86_64 as arch;

pub(super) use publish::{BaselineWork, Origin};

/// A place in the code. Label `n` is the code of word `n` of the bytecode; the numbers after these are given out in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Label(u32);

/// A register for integers: the interpreter's accumulator, or one of two temporaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reg {
    Acc,
    T0,
    T1,
}

/// Where an integer operand is.
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

/// How an integer lies in memory, and how a load extends it: with zeros, or with its sign to the given width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StoredInt {
    U8,
    U16,
    U32,
    U64,
    S8(Width),
    S16(Width),
    S32,
}

impl StoredInt {
    /// Bytes in memory.
    fn bytes(self) -> u64 {
        match self {
            StoredInt::U8 | StoredInt::S8(_) => 1,
            StoredInt::U16 | StoredInt::S16(_) => 2,
            StoredInt::U32 | StoredInt::S32 => 4,
            StoredInt::U64 => 8,
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
enum FloatType {
    F32,
    F64,
}

impl FloatType {
    /// The number of the float register that is this type's accumulator.
    fn accumulator(self) -> u8 {
        match self {
            FloatType::F32 => 0,
            FloatType::F64 => 1,
        }
    }
}

/// Where a float operand is.
#[derive(Clone, Copy, Debug)]
enum FloatSrc {
    /// In the accumulator of its type.
    Acc,
    Slot(u16),
    Bits(u64),
}

/// Comparison predicate of floats. With a NaN `Ne` and the negated ones hold, the others do not.
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
