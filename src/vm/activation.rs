//! The activation of native code that the current thread is in: a pointer that signal handlers read.
//!
//! An activation is one entry from Rust into native code, up to its return. Its type belongs to the JIT; here it is opaque.

use std::cell::Cell;
use std::ptr;

thread_local! {
    /// The innermost activation of the store whose code this thread runs; null if there is none. The type needs no drop and
    /// the initialiser is constant, so a signal handler may read it.
    static CURRENT: Cell<*mut ()> = const { Cell::new(ptr::null_mut()) };
}

/// The innermost activation of the store whose code this thread runs; null if there is none.
#[inline]
pub(crate) fn current() -> *mut () {
    CURRENT.get()
}

/// Sets the current activation.
///
/// A host function does so before it returns to code of its store. While the host function ran, code of another store may
/// have started on this thread and may still be suspended on another native stack. So the activations of one thread do not
/// end in the reverse order of their start; those of one store do.
#[inline]
pub(crate) fn set_current(activation: *mut ()) {
    CURRENT.set(activation);
}

/// [`set_current`] after code that may have gone on on another thread ([`fiber`](super::fiber)). It is not inlined: the
/// compiler keeps the address of a thread's variable as long as a function runs.
#[inline(never)]
pub(crate) fn set_current_anew(activation: *mut ()) {
    CURRENT.set(activation);
}
