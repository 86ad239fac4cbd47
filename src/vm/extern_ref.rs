//! Objects of the host that WebAssembly code holds references to.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// A reference-counted object of the host that WebAssembly code can hold but not look into.
///
/// What is handed to a store lives at least until nothing in the store refers to it, and is then dropped: by and by when there
/// are many, at [`Store::gc`](crate::Store::gc), or with the store.
#[derive(Clone)]
pub struct ExternRef(Arc<dyn Any + Send + Sync>);

impl ExternRef {
    /// Wraps an object.
    pub fn new(object: impl Any + Send + Sync) -> Self {
        ExternRef(Arc::new(object))
    }

    /// The object.
    pub fn data(&self) -> &(dyn Any + Send + Sync) {
        &*self.0
    }

    /// Whether both refer to one object.
    pub fn same(&self, other: &ExternRef) -> bool {
        self.address() == other.address()
    }

    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.0).cast::<()>() as usize
    }
}

impl fmt::Debug for ExternRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExternRef")
    }
}
