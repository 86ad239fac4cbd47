//! Integers of 31 bits, which references can be.

use std::fmt;

/// An integer of 31 bits, which a reference holds in itself (specification 3.0, `i31`); it is neither signed nor unsigned.
///
/// ```
/// use wasmrun::{AnyRef, I31, Store};
/// let mut store = Store::<()>::default();
/// let number = I31::wrapping_i32(-1);
/// assert_eq!((number.get_i32(), number.get_u32()), (-1, 0x7FFF_FFFF));
/// let reference = AnyRef::from_i31(&mut store, number);
/// assert_eq!(reference.as_i31(&store)?, Some(number));
/// # Ok::<(), wasmrun::Error>(())
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct I31(u32);

impl I31 {
    const BITS: u32 = u32::MAX >> 1;

    /// This number; `None` if it is 2^31 or more.
    pub const fn new_u32(value: u32) -> Option<Self> {
        if value <= Self::BITS { Some(I31(value)) } else { None }
    }

    /// This number; `None` if it does not lie from -2^30 to 2^30 - 1.
    pub const fn new_i32(value: i32) -> Option<Self> {
        let wrapped = Self::wrapping_i32(value);
        if wrapped.get_i32() == value { Some(wrapped) } else { None }
    }

    /// The low 31 bits of a number.
    pub const fn wrapping_u32(value: u32) -> Self {
        I31(value & Self::BITS)
    }

    /// The low 31 bits of a number.
    pub const fn wrapping_i32(value: i32) -> Self {
        Self::wrapping_u32(value as u32)
    }

    /// The number, taken as unsigned.
    pub const fn get_u32(&self) -> u32 {
        self.0
    }

    /// The number, taken as signed.
    pub const fn get_i32(&self) -> i32 {
        (self.0 << 1) as i32 >> 1
    }
}

impl fmt::Debug for I31 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("I31").field(&self.get_i32()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_signed_or_unsigned_and_wrap() {
        for (bits, signed, unsigned) in
            [(0, 0, 0), (5, 5, 5), (0x3FFF_FFFF, 0x3FFF_FFFF, 0x3FFF_FFFF), (0x4000_0000, -0x4000_0000, 0x4000_0000)]
        {
            for high in [0, 1 << 31] {
                let number = I31::wrapping_u32(bits | high);
                assert_eq!((number.get_i32(), number.get_u32()), (signed, unsigned));
            }
            assert_eq!(I31::new_i32(signed), I31::new_u32(unsigned));
        }
        assert_eq!(I31::new_u32(1 << 31), None);
        assert_eq!((I31::new_i32(1 << 30), I31::new_i32(-(1 << 30) - 1)), (None, None));
        assert_eq!(I31::wrapping_i32(-1), I31::new_u32(0x7FFF_FFFF).unwrap());
    }
}
