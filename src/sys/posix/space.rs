//! Address space that is used again, and what there is too little of when the system refuses some.

use std::ffi::c_void;

use crate::sys::Shortage;

/// Does nothing, since no other system than Linux promises that discarded pages read as zeros.
///
/// # Safety
/// None is needed.
pub(crate) unsafe fn discard(_base: *mut c_void, _len: usize) -> Option<()> {
    None
}

/// Does nothing: there is no such hint.
///
/// # Safety
/// None is needed.
pub(crate) unsafe fn prefer_small_pages(_base: *mut c_void, _len: usize) {}

/// Nobody tells which pages hold something.
pub(crate) enum PageMap {}

impl PageMap {
    pub fn open() -> Option<Self> {
        None
    }

    pub fn holding(&self, _bytes: &[u8]) -> Option<Vec<bool>> {
        match *self {}
    }
}

/// Nobody tells how many memory mappings a process may have.
pub(crate) fn max_mappings() -> Option<usize> {
    None
}

/// Nobody tells what the process has run out of.
pub(crate) fn shortage(_wanted: usize) -> Shortage {
    Shortage::Memory
}
