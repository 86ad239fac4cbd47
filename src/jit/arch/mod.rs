//! The parts in assembly, and those that read machine code and machine state. A port of the JIT starts here.
//!
//! Each architecture gives the same: `enter` and `landing` (into compiled code and back), the resolvers, `through_entry`, `raise`,
//! `Registers` and `redirect` (what a signal saved, and where to go on), and decoders that find out what a trapping
//! instruction looked at.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
pub(super) use aarch64::*;
#[cfg(target_arch = "x86_64")]
pub(super) use x86_64::*;

/// The comparison that led to a trap: `left > right`, or `left >= right`, both unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Comparison {
    pub left: u64,
    pub right: u64,
    pub or_equal: bool,
}

/// The condition of a jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Above,
    AboveOrEqual,
    Below,
    BelowOrEqual,
}

impl Condition {
    fn between(self, left: u64, right: u64) -> Comparison {
        let or_equal = matches!(self, Condition::AboveOrEqual | Condition::BelowOrEqual);
        match self {
            Condition::Above | Condition::AboveOrEqual => Comparison { left, right, or_equal },
            Condition::Below | Condition::BelowOrEqual => Comparison { left: right, right: left, or_equal },
        }
    }
}

/// The lengths of a store's memories, each with the address where compiled code reads it.
pub(super) struct Lengths(pub Vec<(u64, u64)>);

impl Lengths {
    /// The length at an address, if one is there.
    #[cfg_attr(target_arch = "aarch64", expect(dead_code, reason = "comparisons have no memory operands there"))]
    fn at(&self, address: u64) -> Option<u64> {
        self.0.iter().find(|(place, _)| *place == address).map(|(_, length)| *length)
    }
}

/// Where a thread goes on that left the code it was running. Its size keeps a stack pointer aligned.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub pc: usize,
    pub sp: usize,
    pub fp: usize,
    /// For the register of the first exception payload.
    pub payload: usize,
}

const _: () = assert!(size_of::<Target>().is_multiple_of(16));
