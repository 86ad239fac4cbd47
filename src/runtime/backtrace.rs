//! Backtraces of running code.

use super::store::AsContext;
use crate::error::WasmBacktrace;
use crate::vm::activation;

impl WasmBacktrace {
    /// The functions that are running in a store, also those that have called the host function that asks, and those around
    /// other host functions; empty if no code runs in the store.
    pub fn capture(store: impl AsContext) -> Self {
        let store = store.as_context();
        // SAFETY: a context is lent only while the store's code is not running: it has called the host function that has this
        // one, or there is none.
        WasmBacktrace::new(unsafe { activation::capture(&raw const store.0.opaque) }.unwrap_or_default())
    }
}
