//! Host objects that WebAssembly code refers to by `externref`, and the host's references to objects of WebAssembly code.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use super::gc::GcPin;
use super::store::StoreOpaque;
use crate::error::{Error, Result};
use crate::module::layout::{I31_BIT, TAG_BITS};

/// A reference-counted host object that WebAssembly code can hold as an `externref` but not look into.
///
/// A store keeps a clone of every object that was passed to it, until nothing in the store refers to the object any more. The
/// clone is dropped by a later collection (automatic, or [`Store::gc`](crate::Store::gc)) or with the store.
///
/// The instruction `extern.convert_any` makes an `externref` of any reference to a structure, an array or an `i31`.
/// [`AnyRef::convert_extern`](crate::AnyRef::convert_extern) undoes that.
///
/// ```
/// use wasmrun::ExternRef;
/// let object = ExternRef::new("a host object");
/// assert_eq!(object.data().downcast_ref(), Some(&"a host object"));
/// assert!(object.same(&object.clone()));
/// ```
#[derive(Clone)]
pub struct ExternRef(pub(crate) Referent);

/// What a slot of the type `externref` or `anyref` refers to. A slot has the same bits in both types.
#[derive(Clone)]
pub(crate) enum Referent {
    /// An object of the host.
    Host(Arc<dyn Any + Send + Sync>),
    /// An `i31`, as its slot has it.
    I31(u32),
    /// A structure or an array.
    Object(GcPin),
}

/// What [`ExternRef::data`] returns for what is no object of the host.
struct OfWebAssembly;

impl ExternRef {
    /// Wraps an object.
    pub fn new(object: impl Any + Send + Sync) -> Self {
        ExternRef(Referent::Host(Arc::new(object)))
    }

    /// The wrapped object; downcast it to its type. What WebAssembly code has made an `externref` of is of a type that no
    /// downcast finds.
    pub fn data(&self) -> &(dyn Any + Send + Sync) {
        match &self.0 {
            Referent::Host(object) => &**object,
            Referent::I31(_) | Referent::Object(_) => &OfWebAssembly,
        }
    }

    /// Whether both refer to the same object.
    pub fn same(&self, other: &ExternRef) -> bool {
        match (&self.0, &other.0) {
            (Referent::Host(this), Referent::Host(other)) => address(this) == address(other),
            (Referent::I31(this), Referent::I31(other)) => this == other,
            // Both keep their object alive, so an object with the same reference is the same.
            (Referent::Object(this), Referent::Object(other)) => {
                (this.store(), this.reference()) == (other.store(), other.reference())
            }
            _ => false,
        }
    }

    /// The host object's address, which identifies it.
    ///
    /// # Panics
    /// If it is no host object.
    pub(crate) fn address(&self) -> usize {
        match &self.0 {
            Referent::Host(object) => address(object),
            Referent::I31(_) | Referent::Object(_) => unreachable!("only objects of the host have a number"),
        }
    }

    /// Whether it is an object of the host.
    pub(crate) fn is_host_object(&self) -> bool {
        matches!(self.0, Referent::Host(_))
    }

    /// Whether it can be used with the store.
    pub(crate) fn fits_store(&self, store: &StoreOpaque) -> bool {
        match &self.0 {
            Referent::Object(pin) => pin.store() == store.id,
            Referent::Host(_) | Referent::I31(_) => true,
        }
    }
}

fn address(object: &Arc<dyn Any + Send + Sync>) -> usize {
    Arc::as_ptr(object).cast::<()>() as usize
}

impl fmt::Debug for ExternRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExternRef")
    }
}

impl StoreOpaque {
    /// What a slot of the type `externref` or `anyref` refers to; `None` for null.
    pub fn extern_ref(&self, slot: u64) -> Option<ExternRef> {
        let bits = slot as u32;
        match bits & TAG_BITS {
            _ if slot == 0 => None,
            tag if tag & I31_BIT != 0 => Some(ExternRef(Referent::I31(bits))),
            0 => Some(ExternRef(Referent::Object(self.gc.pin(bits)))),
            _ => self.heap.extern_ref(slot),
        }
    }

    /// The slot for a reference; for a host object the same for each call while the object is in the heap. The caller must put
    /// the slot where a collection looks before the next one runs.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if it refers to an object in another store;
    /// [`Resource`](crate::ErrorKind::Resource) if the limiter or the budget has no room for another host object, or what the
    /// limiter returns.
    pub fn intern(&mut self, object: &ExternRef) -> Result<u64> {
        match &object.0 {
            Referent::Host(_) => self.intern_host_object(object),
            Referent::I31(bits) => Ok((*bits).into()),
            Referent::Object(pin) if pin.store() == self.id => Ok(pin.reference().into()),
            Referent::Object(_) => Err(Error::usage("object used with another store than its own")),
        }
    }
}
