//! Address space that is used again, and what there is too little of when the system refuses some.

use std::ffi::c_void;

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
