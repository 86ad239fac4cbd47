//! Address space that is used again, and what there is too little of when the system refuses some.

use std::ffi::c_void;
use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::mm::{Advice, madvise};
use rustix::process::{Resource, getrlimit};

use crate::sys::Shortage;

/// Gives the pages of a range back to the system: they read as zeros again, or as the file that is mapped there. `None` if the
/// system refuses.
///
/// # Safety
/// The range must be accessible pages of private mappings, and nothing in it may be in use.
pub(crate) unsafe fn discard(base: *mut c_void, len: usize) -> Option<()> {
    // SAFETY: the caller's promise.
    unsafe { madvise(base, len, Advice::LinuxDontNeed).ok() }
}

/// Has the system back a range by small pages only: where small objects lie side by side, a huge page would make memory
/// resident that nobody uses. A hint: a system that has no huge pages does not know it.
///
/// # Safety
/// The range must be mapped.
pub(crate) unsafe fn prefer_small_pages(base: *mut c_void, len: usize) {
    // SAFETY: the caller's promise; the hint changes no contents.
    let _ = unsafe { madvise(base, len, Advice::LinuxNoHugepage) };
}

/// Tells which pages of the process hold something (proc_pid_pagemap(5)).
pub(crate) struct PageMap(File);

impl PageMap {
    /// `None` if the system does not tell.
    pub fn open() -> Option<Self> {
        let map = PageMap(File::open("/proc/self/pagemap").ok()?);
        // A sandbox may have such a file and no truth in it.
        let held = [1_u8];
        (map.holding(std::hint::black_box(&held))? == [true]).then_some(map)
    }

    /// For each page that has a part of `bytes`: whether it is resident or swapped out. One of a private mapping of no file
    /// that is neither reads as zeros, and would take page tables to be read. `None` if the system does not tell.
    pub fn holding(&self, bytes: &[u8]) -> Option<Vec<bool>> {
        const ENTRY: usize = 8;
        const RESIDENT_OR_SWAPPED: u64 = 3 << 62;
        let page = region::page::size();
        let (first, end) = (bytes.as_ptr().addr() / page, (bytes.as_ptr().addr() + bytes.len()).div_ceil(page));
        let mut entries = vec![0; (end - first) * ENTRY];
        self.0.read_exact_at(&mut entries, (first * ENTRY) as u64).ok()?;
        let (entries, _) = entries.as_chunks::<ENTRY>();
        Some(entries.iter().map(|entry| u64::from_ne_bytes(*entry) & RESIDENT_OR_SWAPPED != 0).collect())
    }
}

/// The most memory mappings that a process may have, if the system tells.
pub(crate) fn max_mappings() -> Option<usize> {
    std::fs::read_to_string("/proc/sys/vm/max_map_count").ok()?.trim().parse().ok()
}

/// What the process has run out of, as far as can be told, when the system has just refused `wanted` bytes of address space.
pub(crate) fn shortage(wanted: usize) -> Shortage {
    // One more mapping than allowed is refused, and a change in the middle of a mapping needs two more.
    const SLACK: usize = 2;
    let mappings =
        std::fs::read("/proc/self/maps").map_or(0, |maps| maps.iter().filter(|byte| **byte == b'\n').count());
    if let Some(limit) = max_mappings()
        && mappings + SLACK >= limit
    {
        return Shortage::Mappings { limit };
    }
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').next().and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0);
    let needed = pages.saturating_mul(region::page::size()).saturating_add(wanted) as u64;
    match getrlimit(Resource::As).current {
        Some(limit) if needed > limit => Shortage::AddressSpaceLimit { limit },
        _ => Shortage::Memory,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_were_written_are_told_from_others() {
        let page = region::page::size();
        let mut space = region::alloc(8 * page, region::Protection::READ_WRITE).unwrap();
        // SAFETY: the bytes of this allocation, which nothing else refers to.
        let bytes = unsafe { std::slice::from_raw_parts_mut(space.as_mut_ptr::<u8>(), 8 * page) };
        bytes[3 * page] = 1;
        bytes[6 * page - 1] = 1;
        let map = PageMap::open();
        // An emulator hands out the host's entries, whose byte order is another here: by chance they may look true.
        let is_emulated = std::env::vars_os().any(|(name, _)| name.to_string_lossy().ends_with("_RUNNER"));
        if cfg!(target_endian = "big") && is_emulated {
            return;
        }
        let map = map.expect("the system tells");
        let holding = map.holding(bytes).unwrap();
        assert_eq!(holding, [false, false, false, true, false, true, false, false]);
        // Pages that have only a part of the bytes.
        let holding = map.holding(&bytes[3 * page - 1..3 * page + 1]).unwrap();
        assert_eq!(holding, [false, true]);
    }
}
