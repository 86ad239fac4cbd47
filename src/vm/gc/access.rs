//! Reads and writes of the heap. On hosts with 64-bit addresses every reference, with every offset that an access may have,
//! leads into the heap's reservation, so nothing is compared there: a reference that is wrong meets what the heap has, or
//! a page without access. Elsewhere the address is compared with the end of the heap.

use super::super::context::VMStore;
use super::heap::{START, WHOLE};

/// Address of byte `at` of the heap, for an access of up to 16 bytes.
///
/// # Panics
/// On a host with 32-bit addresses, if it is not in the heap: nothing but a wrong heap leads there.
///
/// # Safety
/// The store must be live, and have a heap.
#[inline]
unsafe fn address(store: *const VMStore, at: u32) -> *mut u8 {
    const WIDEST: usize = 16;
    // SAFETY: the store is live by the caller's promise.
    unsafe {
        if !WHOLE {
            assert!(
                at >= START && (at as usize).saturating_add(WIDEST) <= (*store).gc_end,
                "a reference leads out of the heap"
            );
        }
        (*store).gc_base.wrapping_add(at as usize)
    }
}

/// Reads from byte `at` of the heap: a number or a reference.
///
/// # Panics
/// As [`write`].
///
/// # Safety
/// The store must be live, and have a heap; `T` must be an integer of up to 16 bytes, or an array of some.
#[inline]
pub(crate) unsafe fn read<T: Copy>(store: *const VMStore, at: u32) -> T {
    // SAFETY: the address is in the heap's reservation, which outlives the access. Any bytes are an integer.
    unsafe { address(store, at).cast::<T>().read_unaligned() }
}

/// Writes to byte `at` of the heap.
///
/// # Panics
/// On a host with 32-bit addresses, if that is not in the heap: nothing but a wrong heap leads there.
///
/// # Safety
/// As [`read`].
#[inline]
pub(crate) unsafe fn write<T: Copy>(store: *mut VMStore, at: u32, value: T) {
    // SAFETY: the address is in the heap's reservation, which outlives the access, and nobody has a reference to its bytes.
    unsafe { address(store, at).cast::<T>().write_unaligned(value) };
}

/// Address of `bytes` bytes from byte `at` of the heap on, for a copy of many elements; `None` if they are not all in it.
///
/// # Safety
/// The store must be live. The address is valid until the store is dropped; the bytes may change at any access of the heap.
#[inline]
pub(crate) unsafe fn range(store: *const VMStore, at: u64, bytes: u64) -> Option<*mut u8> {
    // SAFETY: the store is live by the caller's promise.
    let (base, end) = unsafe { ((*store).gc_base, (*store).gc_end) };
    (at >= u64::from(START) && at.checked_add(bytes)? <= end as u64).then(|| base.wrapping_add(at as usize))
}
