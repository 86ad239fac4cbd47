//! The one list of traps: engines, messages and exit statuses all derive from it.

use std::fmt;

macro_rules! traps {
    ($($(#[$doc:meta])* $name:ident = $code:literal => $message:literal,)*) => {
        /// Why WebAssembly code stopped (specification, section 4.1, "trap").
        ///
        /// The messages are those of the official test suite.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum Trap {
            $($(#[$doc])* $name = $code,)*
        }

        impl Trap {
            /// The trap with this code, as compiled code encodes it.
            #[cfg_attr(not(jit), allow(dead_code, reason = "only compiled code has trap codes"))]
            pub(crate) fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Trap::$name),)*
                    _ => None,
                }
            }

            /// What the official test suite calls it.
            pub fn message(self) -> &'static str {
                match self {
                    $(Trap::$name => $message,)*
                }
            }
        }
    };
}

traps! {
    /// An `unreachable` instruction was executed.
    Unreachable = 1 => "unreachable",
    /// A memory access outside the memory's length.
    MemoryOutOfBounds = 2 => "out of bounds memory access",
    /// A table access outside the table's length.
    TableOutOfBounds = 3 => "out of bounds table access",
    /// An indirect call with an index outside the table's length.
    UndefinedElement = 4 => "undefined element",
    /// An indirect call through a null table element.
    UninitializedElement = 5 => "uninitialized element",
    /// An indirect call whose callee has another type.
    IndirectCallTypeMismatch = 6 => "indirect call type mismatch",
    /// Signed division overflow, or a float too large for the integer type it is converted to.
    IntegerOverflow = 7 => "integer overflow",
    /// Integer division or remainder by zero.
    IntegerDivisionByZero = 8 => "integer divide by zero",
    /// NaN converted to an integer.
    InvalidConversionToInteger = 9 => "invalid conversion to integer",
    /// `throw_ref` of null.
    NullExceptionReference = 11 => "null exception reference",
    /// Calls nest deeper than the stack allows.
    StackOverflow = 10 => "call stack exhausted",
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

/// The access that a [`Trap::MemoryOutOfBounds`] was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryFault {
    /// First byte that was to be accessed: index plus constant offset.
    pub address: u64,
    /// Bytes that were to be accessed.
    pub size: u64,
    /// Length of the memory in bytes at that time.
    pub length: u64,
}

impl fmt::Display for MemoryFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} byte{} at address {:#x} of a memory of {:#x} bytes",
            self.size,
            if self.size == 1 { "" } else { "s" },
            self.address,
            self.length
        )
    }
}
