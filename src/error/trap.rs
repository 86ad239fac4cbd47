//! The one list of traps, from which the trap codes of compiled code and the messages derive.

use std::fmt;

macro_rules! traps {
    ($($(#[$doc:meta])* $name:ident = $code:literal => $message:literal,)*) => {
        /// The kind of a trap: an error in WebAssembly code that ends its execution and that it can't catch (specification,
        /// section 4.2, "trap").
        ///
        /// [`message`](Trap::message) gives the texts of the official test suite.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum Trap {
            $($(#[$doc])* $name = $code,)*
        }

        impl Trap {
            /// The trap with this code, the discriminant; compiled code names traps by it.
            #[cfg_attr(not(jit), allow(dead_code, reason = "only compiled code has trap codes"))]
            pub(crate) fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Trap::$name),)*
                    _ => None,
                }
            }

            /// The message, as the official test suite expects it.
            ///
            /// ```
            /// assert_eq!(wasmrun::Trap::StackOverflow.message(), "call stack exhausted");
            /// ```
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
    /// A quotient that the signed integer type can't represent, or a float out of the range of the integer type that it is
    /// converted to.
    IntegerOverflow = 7 => "integer overflow",
    /// Integer division or remainder by zero.
    IntegerDivisionByZero = 8 => "integer divide by zero",
    /// NaN converted to an integer.
    InvalidConversionToInteger = 9 => "invalid conversion to integer",
    /// `throw_ref` of null.
    NullExceptionReference = 11 => "null exception reference",
    /// Calls nested deeper than [`Config::max_wasm_stack`](crate::Config::max_wasm_stack) or the native stack allows.
    StackOverflow = 10 => "call stack exhausted",
    /// The host ended the code, from another thread or because the store's epoch deadline was reached.
    Interrupt = 12 => "interrupted",
    /// The store's deadline has passed.
    Deadline = 13 => "deadline exceeded",
    /// The store has no fuel left for what would run next; see [`Config::consume_fuel`](crate::Config::consume_fuel).
    OutOfFuel = 14 => "all fuel consumed by WebAssembly",
    /// The processor time of the store's budget, [`Budget::cpu_time`](crate::Budget::cpu_time), is used up.
    CpuTime = 15 => "CPU time used up",
    /// The address of an atomic instruction's operand is not a multiple of the operand's size.
    HeapMisaligned = 16 => "unaligned atomic",
    /// `memory.atomic.wait32` or `memory.atomic.wait64` on a memory that is not shared.
    AtomicWaitNonSharedMemory = 17 => "expected shared memory",
    /// `ref.as_non_null` of null.
    NullReference = 18 => "null reference",
    /// A call through a null reference to a function.
    NullFunctionReference = 19 => "null function reference",
    /// A field of a null reference to a structure.
    NullStructReference = 20 => "null structure reference",
    /// An element or the length of a null reference to an array.
    NullArrayReference = 21 => "null array reference",
    /// The value of a null reference to an `i31`.
    NullI31Reference = 22 => "null i31 reference",
    /// An access to an array outside of its length.
    ArrayOutOfBounds = 23 => "out of bounds array access",
    /// A `ref.cast` of a reference that is not of the type.
    CastFailure = 24 => "cast failure",
    /// An array that no heap has room for.
    AllocationTooLarge = 25 => "allocation size too large",
}

/// The names that wasmtime has for some of them.
#[allow(non_upper_case_globals)]
impl Trap {
    /// [`Trap::Unreachable`].
    pub const UnreachableCodeReached: Trap = Trap::Unreachable;
    /// [`Trap::UninitializedElement`].
    pub const IndirectCallToNull: Trap = Trap::UninitializedElement;
    /// [`Trap::IndirectCallTypeMismatch`].
    pub const BadSignature: Trap = Trap::IndirectCallTypeMismatch;
    /// [`Trap::InvalidConversionToInteger`].
    pub const BadConversionToInteger: Trap = Trap::InvalidConversionToInteger;
}

impl std::error::Error for Trap {}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

/// The memory access of a [`Trap::MemoryOutOfBounds`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryFault {
    /// Address of the first byte of the access in the linear memory: index plus constant offset.
    pub address: u64,
    /// Number of bytes of the access.
    pub size: u64,
    /// Length of the memory at that time, in bytes.
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
