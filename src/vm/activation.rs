//! Which native code a thread is in.

use std::cell::Cell;
use std::ptr;

thread_local! {
    /// The innermost entry into native code of the store whose code this thread runs; null if there is none. Nothing to drop,
    /// so that a signal handler may read it.
    static CURRENT: Cell<*mut ()> = const { Cell::new(ptr::null_mut()) };
}

/// The innermost entry into native code of the store whose code this thread runs.
#[cfg_attr(not(jit), expect(dead_code, reason = "only native code is entered"))]
#[inline]
pub(crate) fn current() -> *mut () {
    CURRENT.get()
}

/// Sets that. Host functions do before they return to code of a store: meanwhile other stores' code may have run on this
/// thread, and not have ended: it may wait on another native stack, so that a thread's activations do not end in the order
/// in which they began. Those of one store do.
#[inline]
pub(crate) fn set_current(activation: *mut ()) {
    CURRENT.set(activation);
}
