//! Counters of how hot functions are, against a budget.

use std::sync::atomic::{AtomicI64, Ordering};

/// Units that the transition from native code to an interpreted function and back takes: compiling the function saves
/// these too. With this `work.py` took 0.96 of the time that it took without (the same with five times as much), Yosys
/// as long as before.
pub(super) const TRANSITION: u16 = 40;

/// How hot a function is: the rest of its budget in the upper half, the number of its calls in the lower half.
/// Threads that run the same function may lose each other's counts; nothing but speed depends on them.
#[derive(Debug, Default)]
#[repr(transparent)]
pub(crate) struct Counter(AtomicI64);

impl Counter {
    /// Counts a call. False if the budget is used up.
    #[inline(always)]
    pub fn call(&self, weight: u16) -> bool {
        self.count(1 - (i64::from(weight) << 32))
    }

    /// Counts a pass through a loop. False if the budget is used up.
    #[inline(always)]
    pub fn pass(&self, weight: u16) -> bool {
        self.count(-(i64::from(weight) << 32))
    }

    #[inline(always)]
    fn count(&self, change: i64) -> bool {
        let left = self.0.load(Ordering::Relaxed).wrapping_add(change);
        self.0.store(left, Ordering::Relaxed);
        left >= 0
    }

    /// Sets the budget, in units.
    #[cfg_attr(not(jit), expect(dead_code, reason = "nobody tiers"))]
    pub fn grant(&self, units: u32) {
        let calls = self.0.load(Ordering::Relaxed) & 0xffff_ffff;
        self.0.store(i64::from(units.min(i32::MAX as u32)) << 32 | calls, Ordering::Relaxed);
    }

    /// What is left of the budget, in units.
    #[cfg_attr(not(jit), expect(dead_code, reason = "nobody tiers"))]
    pub fn left(&self) -> u32 {
        (self.0.load(Ordering::Relaxed) >> 32).max(0) as u32
    }

    /// Number of calls so far, modulo 2^32.
    #[cfg_attr(not(jit), expect(dead_code, reason = "nobody tiers"))]
    pub fn calls(&self) -> u32 {
        self.0.load(Ordering::Relaxed) as u32
    }
}
