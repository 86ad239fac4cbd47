//! Address space that is used again.

use std::ffi::c_void;

use rustix::mm::{Advice, madvise};

/// Gives the pages of a range back to the system, so that it reads as zeros. `None` if the system refuses.
///
/// # Safety
/// The range must be accessible pages of an anonymous private mapping, and nothing in it may be in use.
pub(crate) unsafe fn discard(base: *mut c_void, len: usize) -> Option<()> {
    // SAFETY: the caller's promise.
    unsafe { madvise(base, len, Advice::LinuxDontNeed).ok() }
}
