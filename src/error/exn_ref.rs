//! The host's references to exceptions, which errors hold too.

use std::sync::Arc;

/// The host's reference to an exception in a store (specification 3.0, `exnref`). It keeps the exception alive.
///
/// It can only be used with the store it came from; with another store it is a [`Usage`](crate::ErrorKind::Usage) error.
#[derive(Clone, Debug)]
pub struct ExnRef(Arc<ExnPin>);

/// Keeps an exception alive: the collector of the store takes each exception with a live pin for a root.
#[derive(Debug)]
pub(crate) struct ExnPin {
    /// The id of the store.
    pub store: u64,
    /// The exception. Only `vm` knows its type.
    pub exception: *mut (),
}

// SAFETY: the pointer is only dereferenced by who has access to the store with that id, which keeps the exception.
unsafe impl Send for ExnPin {}
// SAFETY: the pointer is only dereferenced by who has access to the store with that id, which keeps the exception.
unsafe impl Sync for ExnPin {}

impl ExnRef {
    pub(crate) fn from_pin(pin: Arc<ExnPin>) -> Self {
        ExnRef(pin)
    }

    /// Whether both refer to the same exception.
    pub fn same(&self, other: &ExnRef) -> bool {
        // An exception of a store that is gone may have had the same address.
        (self.0.store, self.0.exception) == (other.0.store, other.0.exception)
    }

    pub(crate) fn pin(&self) -> &ExnPin {
        &self.0
    }
}
