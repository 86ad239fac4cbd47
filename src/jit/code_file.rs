//! Code that runs from a mapping of its file: private, readable and executable, never writable.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;

use region::Protection;

use super::registry::{self, Chunk, GRANULE};
use crate::cache::MappedCode;

/// A part of a file that is mapped so that its code can be run.
pub(crate) struct CodeFile {
    code: Range<usize>,
    /// The whole granules around it, for which the chunk is registered.
    reserved: Range<usize>,
    _chunk: Box<Chunk>,
    _allocation: region::Allocation,
}

// SAFETY: the mapping is never written to, and has nothing that belongs to one thread.
unsafe impl Send for CodeFile {}
// SAFETY: the mapping is never written to.
unsafe impl Sync for CodeFile {}

impl CodeFile {
    /// Maps `length` bytes of `file` from `offset` on, a multiple of the page size.
    ///
    /// # Errors
    /// The system's, if files of this file system may not be run or address space is short.
    pub fn map(file: &File, offset: u64, length: usize) -> io::Result<Box<dyn MappedCode>> {
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        let size = length.checked_next_multiple_of(GRANULE).ok_or(io::ErrorKind::OutOfMemory)?;
        let allocation = region::alloc(size + GRANULE, Protection::NONE).map_err(region::Error::into_io_error)?;
        let start = allocation.as_range().start.next_multiple_of(GRANULE);
        let (access, flags) = (libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE | libc::MAP_FIXED);
        // SAFETY: the range lies in our own allocation, which is empty. Dropping the allocation unmaps the file too.
        let place = unsafe { libc::mmap(start as *mut _, length, access, flags, file.as_raw_fd(), offset) };
        if place == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let chunk = Box::<Chunk>::default();
        // These pages never become writable, so a thread that faults on them must not wait for them to be executable
        // again.
        chunk.broken.store(true, Ordering::Release);
        let reserved = start..start + size;
        // SAFETY: the chunk is boxed and removed when this is dropped.
        unsafe { registry::add_chunk(reserved.clone(), &*chunk) }.ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Box::new(CodeFile { code: start..start + length, reserved, _chunk: chunk, _allocation: allocation }))
    }
}

impl MappedCode for CodeFile {
    fn bytes(&self) -> &[u8] {
        // SAFETY: mapped readable as long as this lives; whoever maps a file promises that it does not change.
        unsafe { std::slice::from_raw_parts(self.code.start as *const u8, self.code.len()) }
    }

    fn address(&self, at: usize) -> usize {
        self.code.start + at
    }
}

impl Drop for CodeFile {
    fn drop(&mut self) {
        registry::remove_chunk(self.reserved.clone());
    }
}
