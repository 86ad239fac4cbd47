//! Signals.

/// The smallest stack that a signal can be handled on, in bytes: the registers that the system saves there, of which newer
/// processors have more than `MINSIGSTKSZ` counts.
pub(crate) fn min_stack() -> usize {
    // SAFETY: a plain call; what the system does not know is 0.
    let saved = unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) } as usize;
    saved.max(libc::MINSIGSTKSZ)
}
