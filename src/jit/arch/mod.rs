//! The parts in assembly, and those that read machine code and machine state. A port of the JIT starts here.
//!
//! Each architecture has the same files:
//! - `entry`: `enter` and `landing` lead from Rust into compiled code and back, `raise` leads to the handler of an exception,
//!   `poll` does what was requested of the running code, also called as a function (`call_poll`); `wait` waits in a shared memory;
//! - `trampoline`: the lazy-compile trampolines, and `indirect_via_entry`, for calls by reference;
//! - `signal`: the interrupted thread's `Registers`, and `redirect`, which changes where it goes on;
//! - `decode`: the address that a trapping instruction accessed, the check that failed before a trap, and the jumps in code.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
pub(super) use aarch64::*;
#[cfg(target_arch = "x86_64")]
pub(super) use x86_64::*;

/// A comparison that holds and so led to a trap: `left > right`, or `left >= right` if `or_equal`, both unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Comparison {
    pub left: u64,
    pub right: u64,
    pub or_equal: bool,
}

/// The condition of a conditional jump, on unsigned numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Above,
    AboveOrEqual,
    Below,
    BelowOrEqual,
}

impl Condition {
    /// The comparison of the operands of a `cmp` for which the jump after it is taken.
    fn between(self, left: u64, right: u64) -> Comparison {
        let or_equal = matches!(self, Condition::AboveOrEqual | Condition::BelowOrEqual);
        match self {
            Condition::Above | Condition::AboveOrEqual => Comparison { left, right, or_equal },
            Condition::Below | Condition::BelowOrEqual => Comparison { left: right, right: left, or_equal },
        }
    }
}

/// Pairs (address, length) for a store's memories: compiled code reads the length at that address.
pub(super) struct Lengths(pub Vec<(u64, u64)>);

impl Lengths {
    /// The length at an address, if one is there.
    #[cfg_attr(target_arch = "aarch64", expect(dead_code, reason = "comparisons have no memory operands there"))]
    fn at(&self, address: u64) -> Option<u64> {
        self.0.iter().find(|(place, _)| *place == address).map(|(_, length)| *length)
    }
}

/// The registers with which a thread goes on after a trap or throw. `raise` puts one on the stack, so its size is a multiple of
/// 16, to keep the stack pointer aligned.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub pc: usize,
    pub sp: usize,
    pub fp: usize,
    /// Goes to the register of the first exception payload.
    pub payload: usize,
}

const _: () = assert!(size_of::<Target>().is_multiple_of(16));
