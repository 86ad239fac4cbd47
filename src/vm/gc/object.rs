//! Objects as the host makes, reads and writes them: by the types that their headers name.

use super::super::store::StoreOpaque;
use super::descriptor::{ObjectType, of_type};
use super::heap::{alloc, reserve};
use super::layout::{self, Layout, Storage, array_size};
use super::{GcPin, access};
use crate::error::Result;
use crate::module::registry::RegisteredType;

/// Makes a structure with zeroed fields, or an array of `length` zeroed elements. May collect.
///
/// # Errors
/// [`Resource`](crate::ErrorKind::Resource) if there is no room for it, or what the store's limiter returns, whose panic is
/// left in the store.
///
/// # Safety
/// `store` must be the own pointer of a live store to which nobody holds a reference, and `value_top` above all slots in use;
/// the type must be one of its engine, and not one of functions.
pub(crate) unsafe fn make(store: *mut StoreOpaque, ty: &RegisteredType, length: u32) -> Result<GcPin> {
    // SAFETY: the caller's promise. No reference is held over a call, and no collection runs between the last two lines.
    unsafe {
        reserve(&mut *store)?;
        let descriptor = of_type(store, ty)?;
        let bytes = match &described(&*store, descriptor).layout {
            Layout::Struct(layout) => layout.size.into(),
            Layout::Array(element) => array_size(*element, length),
        };
        let object = alloc(store, descriptor, length, bytes)?;
        Ok((*store).gc.pin(object))
    }
}

/// What is known of the objects that have a descriptor.
///
/// # Panics
/// If it is no descriptor of the store: nothing but a wrong heap has objects with such ones.
///
/// # Safety
/// The store must have a heap.
unsafe fn described(store: &StoreOpaque, descriptor: u32) -> &ObjectType {
    // SAFETY: the store is live, and has a heap by the caller's promise.
    let found = unsafe { store.gc.descriptors.object_type(&raw const store.vm, descriptor) };
    found.expect("objects have descriptors of their store")
}

/// The type of an object.
///
/// # Safety
/// `object` must refer to an object of the store.
pub(crate) unsafe fn type_of(store: &StoreOpaque, object: u32) -> &ObjectType {
    // SAFETY: the store is live, and has a heap, because it has an object.
    unsafe { described(store, access::read(&raw const store.vm, object.wrapping_add(layout::DESCRIPTOR))) }
}

/// Number of elements of an array.
///
/// # Safety
/// `array` must refer to an array of the store.
pub(crate) unsafe fn length(store: &StoreOpaque, array: u32) -> u32 {
    // SAFETY: the store is live, and has a heap, because it has an object.
    unsafe { access::read(&raw const store.vm, array.wrapping_add(layout::LENGTH)) }
}

/// Address of the elements of an array, which is valid until the store is dropped.
///
/// # Panics
/// If they are not all in the heap: nothing but a wrong heap has such an array.
///
/// # Safety
/// `array` must refer to an array of the store with elements that are so stored.
pub(crate) unsafe fn elements(store: &StoreOpaque, array: u32, storage: Storage) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe {
        let bytes = u64::from(length(store, array)) << storage.size_log2();
        let start = u64::from(array) + u64::from(layout::HEADER);
        access::range(&raw const store.vm, start, bytes).expect("an array is in the heap")
    }
}

/// Writes the first element of an array to all others.
///
/// # Safety
/// As for [`elements`]; nobody may have a reference to the elements.
pub(crate) unsafe fn repeat_first(store: &StoreOpaque, array: u32, storage: Storage) {
    // SAFETY: the caller's promise. Both parts of each copy are in the array, and apart.
    unsafe {
        let elements = elements(store, array, storage);
        let bytes = (length(store, array) as usize) << storage.size_log2();
        let mut done = bytes.min(storage.size() as usize);
        while done < bytes {
            let next = done.min(bytes - done);
            std::ptr::copy_nonoverlapping(elements, elements.add(done), next);
            done += next;
        }
    }
}
