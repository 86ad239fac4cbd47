//! The memory of the heap, and allocation.

use super::super::context::VMStore;
use super::super::space::{Reservation, SpaceUse, refused};
use super::super::store::StoreOpaque;
use super::access;
use super::descriptor::Descriptors;
use super::functions::Functions;
use super::layout::{self, MAX_STRUCT};
use crate::error::{Error, Result};

/// Whether everything that a 32-bit offset can tell is reserved, so that accesses are not compared with the heap's end.
pub(super) const WHOLE: bool = size_of::<usize>() == 8;

/// Bytes that are reserved for objects.
const RESERVED: u64 = if WHOLE { 1 << 32 } else { 256 << 20 };

/// Inaccessible bytes behind these: a constant offset in an object and the widest access do not reach further.
const GUARD: u64 = if WHOLE { 1 << 20 } else { 64 << 10 };

const _: () = assert!(!WHOLE || MAX_STRUCT as u64 + 16 <= GUARD);

/// So many bytes at the start are never accessible: an access through null fails.
pub(crate) const NULL_GUARD: u32 = 64 << 10;

/// Bytes that become accessible at once, at least.
const STEP: u64 = 256 << 10;

/// The objects of a store.
#[derive(Default)]
pub(crate) struct GcHeap {
    space: Reservation,
    pub(super) descriptors: Descriptors,
    pub(super) functions: Functions,
}

/// Reserves the heap of a store, if that was not done yet.
///
/// # Errors
/// [`Resource`](crate::ErrorKind::Resource) if the system refuses.
pub(crate) fn reserve(store: &mut StoreOpaque) -> Result<()> {
    if !store.vm.gc_base.is_null() {
        return Ok(());
    }
    let (len, used_as) = ((RESERVED + GUARD) as usize, SpaceUse::Memory { image: None });
    let space = Reservation::new(&store.engine.spaces, len, 0, used_as);
    store.gc.space = space.ok_or_else(|| refused("address space for objects", len))?;
    store.vm.gc_base = store.gc.space.base();
    (store.vm.gc_cursor, store.vm.gc_limit) = (NULL_GUARD as usize, NULL_GUARD as usize);
    Ok(())
}

/// Allocates an object with zeroed fields or elements. `bytes` is its whole size, as its layout has it, and `length` the second
/// word of its header: the number of elements of an array, else 0. May collect: references that are in use must be where a
/// collection looks.
///
/// # Errors
/// [`Resource`](crate::ErrorKind::Resource) if there is no room for it, or what the store's limiter returns. It is a trap for
/// the guest.
///
/// # Safety
/// `store` must be the own pointer of a live store to which nobody holds a reference, `descriptor` one of its descriptors, and
/// length and size what the descriptor's layout has.
#[inline]
pub(crate) unsafe fn alloc(store: *mut StoreOpaque, descriptor: u32, length: u32, bytes: u64) -> Result<u32> {
    // SAFETY: the store is live by the caller's promise, and the object in the heap.
    unsafe {
        let vm = store.cast::<VMStore>();
        let left = (*vm).gc_limit - (*vm).gc_cursor;
        let object = if bytes <= left as u64 {
            let object = (*vm).gc_cursor;
            (*vm).gc_cursor += bytes as usize;
            object as u32
        } else {
            alloc_slowly(store, bytes)?
        };
        access::write(vm, object + layout::DESCRIPTOR, descriptor);
        access::write(vm, object + layout::LENGTH, length);
        Ok(object)
    }
}

/// # Safety
/// As for [`alloc`].
#[cold]
unsafe fn alloc_slowly(store: *mut StoreOpaque, bytes: u64) -> Result<u32> {
    // SAFETY: the store is live and nobody refers to it, by the caller's promise.
    let store = unsafe { &mut *store };
    let start = store.vm.gc_cursor as u64;
    let end = start + bytes;
    let wanted = end.next_multiple_of(STEP);
    let refused = || Error::resource(format!("an object of {bytes} bytes is more than the heap has room for"));
    if wanted > RESERVED {
        return Err(refused());
    }
    store.gc.space.set_accessible(wanted as usize).ok_or_else(refused)?;
    (store.vm.gc_limit, store.vm.gc_end) = (wanted as usize, wanted as usize);
    store.vm.gc_cursor = end as usize;
    Ok(start as u32)
}

/// Allocates zeroed bytes that are never freed.
///
/// # Safety
/// As for [`alloc`].
pub(super) unsafe fn alloc_immortal(store: *mut StoreOpaque, bytes: u32) -> Result<u32> {
    // SAFETY: the caller's promise.
    unsafe { alloc_slowly(store, u64::from(bytes)) }
}
