//! The host's references to exceptions, which errors hold too.

use std::any::Any;
use std::sync::Arc;

/// The host's reference to an exception in a store (specification 3.0, `exnref`). It keeps the exception alive.
///
/// It can only be used with the store it came from; with another store it is a [`Usage`](crate::ErrorKind::Usage) error.
#[derive(Clone, Debug)]
pub struct ExnRef(Arc<ExnPin>);

/// Keeps an exception alive.
#[derive(Debug)]
pub(crate) struct ExnPin {
    /// The id of the store.
    pub store: u64,
    /// The exception, as only that store knows it.
    pub exception: u32,
    /// Keeps it; only `vm` knows the type.
    pub _kept: Box<dyn Any + Send + Sync>,
}

impl ExnRef {
    pub(crate) fn from_pin(pin: Arc<ExnPin>) -> Self {
        ExnRef(pin)
    }

    /// Whether both refer to the same exception.
    pub fn same(&self, other: &ExnRef) -> bool {
        (self.0.store, self.0.exception) == (other.0.store, other.0.exception)
    }

    pub(crate) fn pin(&self) -> &ExnPin {
        &self.0
    }
}
