//! Reading and writing without waiting, through descriptors whose flags belong to others as well.

use std::io::{IoSlice, IoSliceMut};

use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, Stat, major, minor};
use rustix::io::{Errno, Result};

/// Reads what is there: `AGAIN` if nothing is, `OPNOTSUPP` if the system can't do that with this descriptor. Pipes and sockets
/// can since Linux 6.4.
pub(crate) fn read_nowait(file: BorrowedFd<'_>, buffers: &mut [IoSliceMut<'_>]) -> Result<usize> {
    #[cfg(not(target_os = "android"))]
    return rustix::io::preadv2(file, buffers, u64::MAX, rustix::io::ReadWriteFlags::NOWAIT).map_err(unsupported);
    #[cfg(target_os = "android")]
    Err(Errno::OPNOTSUPP)
}

/// Writes what fits: `AGAIN` if nothing does, `OPNOTSUPP` if the system can't do that with this descriptor.
pub(crate) fn write_nowait(file: BorrowedFd<'_>, buffers: &[IoSlice<'_>]) -> Result<usize> {
    #[cfg(not(target_os = "android"))]
    return rustix::io::pwritev2(file, buffers, u64::MAX, rustix::io::ReadWriteFlags::NOWAIT).map_err(unsupported);
    #[cfg(target_os = "android")]
    Err(Errno::OPNOTSUPP)
}

/// Filters of system calls say it in other ways.
#[cfg_attr(target_os = "android", allow(dead_code, reason = "these calls are not made there"))]
fn unsupported(errno: Errno) -> Errno {
    if matches!(errno, Errno::NOSYS | Errno::PERM | Errno::INVAL) { Errno::OPNOTSUPP } else { errno }
}

/// Opens the terminal or pipe behind a descriptor again, with flags of its own, so that it does not block.
pub(crate) fn reopen_nonblocking(file: BorrowedFd<'_>, write: bool) -> Result<OwnedFd> {
    const MULTIPLEXER: (u32, u32) = (5, 2);
    let device = rustix::fs::fstat(file)?.st_rdev;
    // Opening the other side of a pseudo-terminal makes a new one.
    if (major(device), minor(device)) == MULTIPLEXER {
        return Err(Errno::OPNOTSUPP);
    }
    let access = if write { OFlags::WRONLY } else { OFlags::RDONLY };
    let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open(format!("/proc/self/fd/{}", file.as_raw_fd()), flags, Mode::empty())
}

/// Whether this is a device that never makes anybody wait: `null`, `zero`, `full` or `urandom`.
pub(crate) fn never_waits(stat: &Stat) -> bool {
    const MEMORY_DEVICES: u32 = 1;
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && major(stat.st_rdev) == MEMORY_DEVICES
        && matches!(minor(stat.st_rdev), 3 | 5 | 7 | 9)
}
