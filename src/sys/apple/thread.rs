//! Threads: their stacks.

pub(crate) use crate::sys::posix::thread::lower_priority;

/// Bytes that `getrusage` counts resident memory in.
pub(crate) const RESIDENT_SIZE_UNIT: u64 = 1;

/// The lowest usable address of the current thread's own stack, and its end.
pub(crate) fn stack_bounds() -> Option<(usize, usize)> {
    // SAFETY: plain calls about the current thread.
    unsafe {
        let this = libc::pthread_self();
        let high = libc::pthread_get_stackaddr_np(this) as usize;
        Some((high - libc::pthread_get_stacksize_np(this), high))
    }
}
