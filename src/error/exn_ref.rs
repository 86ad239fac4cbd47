//! References to exceptions that errors and the host hold.

use std::sync::Arc;

/// A reference to an exception that the host holds; the exception lives at least as long.
///
/// It can be passed back to the store it came from and to no other.
#[derive(Clone, Debug)]
pub struct ExnRef(Arc<ExnPin>);

/// What keeps an exception: its store's collector looks for pins that are still referred to.
#[derive(Debug)]
pub(crate) struct ExnPin {
    /// The number of the store.
    pub store: u64,
    /// The exception. Only the store knows what is there.
    pub exception: *mut (),
}

// SAFETY: the pointer is only followed together with the store of that number, which keeps what it points to.
unsafe impl Send for ExnPin {}
// SAFETY: as above.
unsafe impl Sync for ExnPin {}

impl ExnRef {
    pub(crate) fn new(pin: Arc<ExnPin>) -> Self {
        ExnRef(pin)
    }

    /// Whether both refer to one exception.
    pub fn same(&self, other: &ExnRef) -> bool {
        self.0.exception == other.0.exception
    }

    pub(crate) fn pin(&self) -> &ExnPin {
        &self.0
    }
}
