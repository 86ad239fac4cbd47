//! The arithmetic of vector instructions (specification, section 4.3.7), written once for the interpreter and tests.
//!
//! A function is named after its instruction and works on [`V128`]. Most are plain Rust over arrays of lanes, which LLVM
//! compiles to the one vector instruction where the target has it. The few that LLVM does not recognise, or that the target's
//! baseline lacks, are in `target`.

mod convert;
mod float;
mod integer;
mod lanes;
mod relaxed;
mod target;

pub(crate) use convert::*;
pub(crate) use float::*;
pub(crate) use integer::*;
pub(crate) use lanes::*;
pub(crate) use relaxed::*;

/// A 128-bit vector, its bytes in the order of memory.
///
/// It is an array of bytes and no `u128` because LLVM keeps a 128-bit integer in general registers and extracts lanes by
/// shifts: `i16x8.add` takes 63 instructions with `u128` and 3 with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct V128([u8; 16]);

impl V128 {
    /// All bits zero.
    pub(crate) const ZERO: V128 = V128([0; 16]);

    /// The vector with its bytes in the order of two slots, which are numbers, the low half first; and back. On little-endian
    /// targets that is the order of memory.
    #[inline(always)]
    pub(crate) fn in_slot_order(self) -> V128 {
        let halves: [u64; 2] = self.into();
        halves.map(u64::to_le).into()
    }
}

impl From<u128> for V128 {
    #[inline(always)]
    fn from(bits: u128) -> Self {
        V128(bits.to_le_bytes())
    }
}

impl From<V128> for u128 {
    #[inline(always)]
    fn from(vector: V128) -> Self {
        u128::from_le_bytes(vector.0)
    }
}

macro_rules! shapes {
    ($($lane:ident x $n:literal;)*) => {
        $(
            impl From<V128> for [$lane; $n] {
                #[inline(always)]
                fn from(vector: V128) -> Self {
                    let (lanes, _) = vector.0.as_chunks();
                    std::array::from_fn(|i| $lane::from_le_bytes(lanes[i]))
                }
            }

            impl From<[$lane; $n]> for V128 {
                #[inline(always)]
                fn from(values: [$lane; $n]) -> Self {
                    let mut vector = V128::ZERO;
                    let (lanes, _) = vector.0.as_chunks_mut();
                    for i in 0..$n {
                        lanes[i] = values[i].to_le_bytes();
                    }
                    vector
                }
            }
        )*
    };
}

shapes! {
    i8 x 16; u8 x 16;
    i16 x 8; u16 x 8;
    i32 x 4; u32 x 4; f32 x 4;
    i64 x 2; u64 x 2; f64 x 2;
}

/// Defines functions that do the same in every lane: `name: [lane; count] -> result lane, |operand, ...| value;`.
macro_rules! lanewise {
    ($($(#[$doc:meta])* $name:ident: [$lane:ty; $n:literal] -> $result:ty, |$($x:ident),+| $value:expr;)*) => {
        $(
            $(#[$doc])*
            #[inline(always)]
            pub(crate) fn $name($($x: V128),+) -> V128 {
                $(let $x: [$lane; $n] = $x.into();)+
                let result: [$result; $n] = std::array::from_fn(|i| {
                    $(let $x = $x[i];)+
                    $value
                });
                result.into()
            }
        )*
    };
}
use lanewise;

/// Defines comparisons: a lane is all ones where `a operator b` holds and all zeros elsewhere.
macro_rules! comparison {
    ($([$lane:ty; $n:literal] -> $mask:ident: $($name:ident $operator:tt,)*;)*) => {
        $($(
            #[inline(always)]
            pub(crate) fn $name(a: V128, b: V128) -> V128 {
                let (a, b): ([$lane; $n], [$lane; $n]) = (a.into(), b.into());
                let mask: [$mask; $n] = std::array::from_fn(|i| if a[i] $operator b[i] { $mask::MAX } else { 0 });
                mask.into()
            }
        )*)*
    };
}
use comparison;

#[cfg(test)]
mod tests;
