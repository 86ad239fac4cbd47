//! The host's references to the objects of WebAssembly code (the GC proposal): structures, arrays and `i31`s.
//!
//! What may be here: the types of such references, and how the host makes, reads and writes objects. Where objects and their
//! parts are is known by [`vm::gc`](crate::vm::gc).
//!
//! A reference keeps its object alive, on whatever thread and however long it is held; it keeps nothing else of the store.

mod any_ref;
mod array_ref;
mod i31;
mod scope;
mod struct_ref;

pub use any_ref::{AnyRef, EqRef};
pub use array_ref::{ArrayRef, ArrayRefPre};
pub use i31::I31;
pub use scope::{OwnedRooted, RootScope, Rooted};
pub use struct_ref::{StructRef, StructRefPre};

use std::panic::resume_unwind;

use super::value::Value;
use crate::error::{Error, Result};
use crate::module::composite::{CompositeType, FieldType};
use crate::module::layout::{Layout, Storage};
use crate::module::registry::RegisteredType;
use crate::vm::extern_ref::{ExternRef, Referent};
use crate::vm::gc::{object, ops};
use crate::vm::heap;
use crate::vm::store::StoreOpaque;

/// An object in its store.
struct Object<'a> {
    store: &'a StoreOpaque,
    /// Its slot.
    at: u32,
    ty: &'a CompositeType,
    layout: &'a Layout,
}

impl<'a> Object<'a> {
    /// The object that a reference refers to; `None` if it is an `i31` or an object of the host.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if it is in another store.
    fn of(reference: &ExternRef, store: &'a StoreOpaque) -> Result<Option<Self>> {
        let Referent::Object(pin) = &reference.0 else { return Ok(None) };
        if pin.store() != store.id {
            return Err(Error::usage("object used with another store than its own"));
        }
        let at = pin.reference();
        // SAFETY: the pin is of this store, and keeps the object.
        let known = unsafe { object::type_of(store, at) };
        Ok(Some(Object { store, at, ty: &known.ty, layout: &known.layout }))
    }

    /// The value of the field or element that is at an offset in the object.
    fn read(&self, offset: u32, storage: Storage, ty: &FieldType) -> Value {
        // SAFETY: the object has such a field or element there, whose value is of the type and of this store. Nothing is
        // written through the pointer.
        unsafe {
            let store = std::ptr::from_ref(self.store).cast_mut();
            let slots = ops::read_value(store, self.at.wrapping_add(offset), storage, ty);
            Value::from_slots(ty.element_type().unpack(), slots.expect("a field has a value of its type"), self.store)
        }
    }
}

/// Checks the values of fields or elements, all of the same kind, and makes room for those that are objects of the host.
///
/// # Errors
/// [`Usage`](crate::ErrorKind::Usage) if a value is not of the type that the field or element has.
fn check(store: &StoreOpaque, value: &Value, ty: &FieldType, what: &str, index: usize) -> Result<()> {
    value.check(store, ty.element_type().unpack(), what, index)
}

/// Makes an object with zeroed fields, or `length` zeroed elements.
///
/// # Errors
/// [`Resource`](crate::ErrorKind::Resource) if there is no room for it, or what the store's limiter returns.
///
/// # Panics
/// Resumes the panic of the limiter, or of the drop of a host object that was collected.
///
/// # Safety
/// `own` must be the own pointer of a store to which nobody holds a reference, and the type one of its engine.
unsafe fn make(own: *mut StoreOpaque, ty: &RegisteredType, length: u32) -> Result<AnyRef> {
    // SAFETY: the caller's promise. No slot is in use but those of suspended code, which is below `value_top`.
    unsafe {
        let made = object::make(own, ty, length);
        if let Some(panic) = (*own).panic.take() {
            resume_unwind(panic);
        }
        if (*own).heap.has_dead() {
            heap::drop_all((*own).heap.take_dead());
        }
        Ok(AnyRef(ExternRef(Referent::Object(made?))))
    }
}

/// Writes a value to the field or element that is at a place in the heap.
///
/// # Errors
/// [`Usage`](crate::ErrorKind::Usage) if it refers to an object in another store; [`Resource`](crate::ErrorKind::Resource) if
/// the store has no room for another host object or function, or what its limiter returns.
///
/// # Safety
/// `own` must be the own pointer of a store to which nobody holds a reference, and the value of the type of the field or
/// element, which must be so stored.
unsafe fn write(own: *mut StoreOpaque, at: u32, storage: Storage, value: &Value) -> Result<()> {
    // SAFETY: the caller's promise; no collection runs between the conversion and the write.
    unsafe {
        let slots = value.to_slots(&mut *own)?;
        ops::write_value(own, at, storage, slots.as_ptr())
    }
}
