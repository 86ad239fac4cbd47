//! Memory for native code: pages are writable or executable, never both.
//!
//! Address space is reserved in chunks, into which functions are packed one after the other. To add a function, its
//! pages are made writable, and executable again afterwards. Another thread that runs code on the first of these pages
//! meanwhile faults; the signal handler lets it try again until it succeeds (see `signals`).

use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering;

use cranelift_jit::{BranchProtection, JITMemoryKind, JITMemoryProvider};
use cranelift_module::{ModuleError, ModuleResult};
use region::Protection;

use super::registry::{self, Chunk, GRANULE};

/// The largest step in which Address space is reserved, except for a function that is larger.
const MAX_CHUNK: usize = 64 << 20;

/// The code memory of one module, or of an engine's trampolines. Freed when dropped.
pub(super) struct CodeMemory {
    regions: Vec<CodeRegion>,
    /// Bytes to reserve for the next region.
    step: usize,
    /// Whether pages are never written to again after they were executable.
    fresh_pages: bool,
}

impl CodeMemory {
    /// Memory for code of about `expected` bytes; nothing is reserved before the first function.
    ///
    /// With `fresh_pages`, no page is written to again after it was made executable, so that no thread ever faults.
    pub fn new(expected: usize, fresh_pages: bool) -> Self {
        CodeMemory { regions: Vec::new(), step: expected.min(MAX_CHUNK), fresh_pages }
    }
}

impl JITMemoryProvider for CodeMemory {
    fn allocate(&mut self, size: usize, align: u64, kind: JITMemoryKind) -> io::Result<*mut u8> {
        let align = usize::try_from(align).map_err(io::Error::other)?;
        if matches!(kind, JITMemoryKind::Writable) || align > GRANULE {
            return Err(io::ErrorKind::Unsupported.into());
        }
        if self.fresh_pages
            && let Some(region) = self.regions.last_mut()
            && region.writable.is_empty()
        {
            region.used = region.used.next_multiple_of(region::page::size());
        }
        if let Some(region) = self.regions.last_mut()
            && let Some(place) = region.allocate(size, align)?
        {
            return Ok(place);
        }
        let mut region = CodeRegion::new(self.step.max(size))?;
        self.step = (2 * self.step).min(MAX_CHUNK);
        let place = region.allocate(size, align)?.ok_or(io::ErrorKind::OutOfMemory)?;
        self.regions.push(region);
        Ok(place)
    }

    unsafe fn free_memory(&mut self) {
        self.regions.clear();
    }

    fn finalize(&mut self, _: BranchProtection) -> ModuleResult<()> {
        self.regions.iter_mut().try_for_each(CodeRegion::finish).map_err(|err| ModuleError::Allocation { err })
    }
}

/// One reserved range of Address space, which is a chunk of the registry.
struct CodeRegion {
    /// Whole granules within the allocation.
    range: Range<usize>,
    /// End of the code.
    used: usize,
    /// Pages that are writable now.
    writable: Range<usize>,
    chunk: Box<Chunk>,
    _allocation: region::Allocation,
}

// SAFETY: it is the only owner of its allocation, and changes it through `&mut` only.
unsafe impl Send for CodeRegion {}

impl CodeRegion {
    fn new(size: usize) -> io::Result<Self> {
        let size = size.max(1).next_multiple_of(GRANULE);
        let allocation = region::alloc(size + GRANULE, Protection::NONE).map_err(region::Error::into_io_error)?;
        let start = allocation.as_range().start.next_multiple_of(GRANULE);
        let range = start..start + size;
        let chunk = Box::<Chunk>::default();
        // SAFETY: the chunk is boxed, and removed from the registry when this is dropped.
        unsafe { registry::add_chunk(range.clone(), &*chunk) }.ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(CodeRegion { used: start, writable: start..start, range, chunk, _allocation: allocation })
    }

    /// Room for `size` bytes, writable until [`CodeRegion::finish`]; `None` if there is not enough left.
    fn allocate(&mut self, size: usize, align: usize) -> io::Result<Option<*mut u8>> {
        let start = self.used.next_multiple_of(align);
        let end = match start.checked_add(size) {
            Some(end) if end <= self.range.end => end,
            _ => return Ok(None),
        };
        let page = region::page::size();
        let pages = start / page * page..end.next_multiple_of(page);
        let fresh =
            if self.writable.is_empty() { pages.clone() } else { pages.start.max(self.writable.end)..pages.end };
        if !fresh.is_empty() {
            protect(&fresh, Protection::READ_WRITE)?;
        }
        let first = if self.writable.is_empty() { pages.start } else { self.writable.start };
        self.writable = first..pages.end;
        self.used = end;
        Ok(Some(start as *mut u8))
    }

    /// Makes all that was written executable.
    fn finish(&mut self) -> io::Result<()> {
        let pages = std::mem::replace(&mut self.writable, self.range.start..self.range.start);
        if pages.is_empty() {
            return Ok(());
        }
        icache::clean(&pages);
        if let Err(error) = protect(&pages, Protection::READ_EXECUTE) {
            // Code that was on these pages before can't run any more either: threads must not wait for it.
            self.chunk.broken.store(true, Ordering::Release);
            return Err(error);
        }
        icache::synchronize()
    }
}

impl Drop for CodeRegion {
    fn drop(&mut self) {
        registry::remove_chunk(self.range.clone());
    }
}

fn protect(pages: &Range<usize>, protection: Protection) -> io::Result<()> {
    // SAFETY: callers pass pages of their own allocation, which hold no Rust objects.
    unsafe { region::protect(pages.start as *const u8, pages.len(), protection) }.map_err(region::Error::into_io_error)
}

#[cfg(target_arch = "aarch64")]
mod icache {
    use std::arch::asm;
    use std::io;
    use std::ops::Range;

    /// Makes instruction fetches see what has been written to `range` (Arm ARM, "Concurrent modification and
    /// execution of instructions").
    pub(super) fn clean(range: &Range<usize>) {
        // SAFETY: these instructions only move contents between caches; the range is mapped.
        unsafe {
            let cache_type: usize;
            asm!("mrs {}, ctr_el0", out(reg) cache_type, options(nomem, nostack));
            let data_line = 4usize << ((cache_type >> 16) & 15);
            let instruction_line = 4usize << (cache_type & 15);
            for line in range.clone().step_by(data_line) {
                asm!("dc cvau, {}", in(reg) line, options(nostack));
            }
            asm!("dsb ish", options(nostack));
            for line in range.clone().step_by(instruction_line) {
                asm!("ic ivau, {}", in(reg) line, options(nostack));
            }
            asm!("dsb ish", "isb", options(nostack));
        }
    }

    /// Makes all threads of the process discard instructions they have fetched already.
    pub(super) fn synchronize() -> io::Result<()> {
        const GLOBAL: libc::c_int = 1;
        const SYNC_CORE: libc::c_int = 1 << 5;
        const REGISTER_SYNC_CORE: libc::c_int = 1 << 6;
        // SAFETY: the call takes no pointers.
        let barrier = |command: libc::c_int| unsafe { libc::syscall(libc::SYS_membarrier, command, 0) } == 0;
        // Kernels before 4.16 have only the slow one; where there is none (qemu), neither are there stale fetches.
        if !(barrier(SYNC_CORE) || barrier(REGISTER_SYNC_CORE) && barrier(SYNC_CORE)) {
            barrier(GLOBAL);
        }
        Ok(())
    }
}

/// On x86-64 instruction fetches are coherent with writes.
#[cfg(not(target_arch = "aarch64"))]
mod icache {
    use std::io;
    use std::ops::Range;

    pub(super) fn clean(_: &Range<usize>) {}

    pub(super) fn synchronize() -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn protection(place: *const u8) -> Protection {
        region::query(place).unwrap().protection()
    }

    #[test]
    fn pages_are_writable_then_executable() {
        let mut memory = CodeMemory::new(1, false);
        let first = memory.allocate(100, 16, JITMemoryKind::Executable).unwrap();
        let second = memory.allocate(10_000, 16, JITMemoryKind::Executable).unwrap();
        assert_eq!(second as usize - first as usize, 112);
        for place in [first, second.wrapping_add(9_999)] {
            assert_eq!(protection(place), Protection::READ_WRITE);
        }
        memory.finalize(BranchProtection::None).unwrap();
        for place in [first, second.wrapping_add(9_999)] {
            assert_eq!(protection(place), Protection::READ_EXECUTE);
        }
        assert!(registry::is_code(first as usize));
        let third = memory.allocate(8, 16, JITMemoryKind::Executable).unwrap();
        assert_eq!(third as usize - second as usize, 10_000);
        assert_eq!(protection(third), Protection::READ_WRITE);
        assert_eq!(protection(first), Protection::READ_EXECUTE);
        drop(memory);
        assert!(!registry::is_code(first as usize));
    }

    #[test]
    fn a_function_may_be_larger_than_a_chunk() {
        let mut memory = CodeMemory::new(1, false);
        memory.allocate(1, 16, JITMemoryKind::Executable).unwrap();
        let large = memory.allocate(GRANULE * 3, 16, JITMemoryKind::Executable).unwrap();
        memory.finalize(BranchProtection::None).unwrap();
        assert!(registry::is_code(large as usize + GRANULE * 3 - 1));
    }

    #[test]
    fn writable_data_is_refused() {
        assert!(CodeMemory::new(1, false).allocate(1, 1, JITMemoryKind::Writable).is_err());
    }
}
