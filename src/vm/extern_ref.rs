//! Host objects that WebAssembly code refers to by `externref`.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// A reference-counted host object that WebAssembly code can hold as an `externref` but not look into.
///
/// A store keeps a clone of every object that was passed to it, until nothing in the store refers to the object any more. The
/// clone is dropped by a later collection (automatic, or [`Store::gc`](crate::Store::gc)) or with the store.
///
/// ```
/// use wasmrun::ExternRef;
/// let object = ExternRef::new("a host object");
/// assert_eq!(object.data().downcast_ref(), Some(&"a host object"));
/// assert!(object.same(&object.clone()));
/// ```
#[derive(Clone)]
pub struct ExternRef(Arc<dyn Any + Send + Sync>);

impl ExternRef {
    /// Wraps an object.
    pub fn new(object: impl Any + Send + Sync) -> Self {
        ExternRef(Arc::new(object))
    }

    /// The wrapped object; downcast it to its type.
    pub fn data(&self) -> &(dyn Any + Send + Sync) {
        &*self.0
    }

    /// Whether both refer to the same object.
    pub fn same(&self, other: &ExternRef) -> bool {
        self.address() == other.address()
    }

    /// The object's address, which identifies it.
    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.0).cast::<()>() as usize
    }
}

impl fmt::Debug for ExternRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExternRef")
    }
}
