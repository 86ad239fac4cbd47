//! Threads, of which POSIX tells neither the stack nor a priority of their own.

/// Bytes that `getrusage` counts resident memory in.
pub(crate) const RESIDENT_SIZE_UNIT: u64 = 1024;

/// Nobody tells the bounds of the current thread's stack.
pub(crate) fn stack_bounds() -> Option<(usize, usize)> {
    None
}

/// Priorities are those of the process, which is left as it is.
pub(crate) fn lower_priority(_steps: i32) {}
