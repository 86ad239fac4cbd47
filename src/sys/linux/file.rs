//! Open files and names in directories.

use std::num::NonZeroU64;

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, FallocateFlags};
use rustix::io::Result;

use crate::sys::Advice;

/// Tells the system how a part of a file will be used; a length of 0 means up to its end. A hint that is not taken does no
/// harm.
pub(crate) fn advise(file: BorrowedFd<'_>, offset: u64, len: u64, advice: Advice) {
    use rustix::fs::Advice as Host;
    let advice = match advice {
        Advice::Normal => Host::Normal,
        Advice::Sequential => Host::Sequential,
        Advice::Random => Host::Random,
        Advice::WillNeed => Host::WillNeed,
        Advice::DontNeed => Host::DontNeed,
        Advice::NoReuse => Host::NoReuse,
    };
    let _ = rustix::fs::fadvise(file, offset, NonZeroU64::new(len), advice);
}

/// Gives a part of a file room on the disk, and extends the file to its end.
pub(crate) fn allocate(file: BorrowedFd<'_>, offset: u64, len: u64) -> Result<()> {
    rustix::fs::fallocate(file, FallocateFlags::empty(), offset, len)
}

/// Waits until a file's data is on the disk.
pub(crate) fn sync_data(file: BorrowedFd<'_>) -> Result<()> {
    rustix::fs::fdatasync(file)
}

/// Waits until a file's data and attributes are on the disk.
pub(crate) fn sync_all(file: BorrowedFd<'_>) -> Result<()> {
    rustix::fs::fsync(file)
}

/// Removes a name of something that is not a directory: `ISDIR` if it is one.
pub(crate) fn unlink(parent: impl AsFd, name: &str) -> Result<()> {
    rustix::fs::unlinkat(parent, name, AtFlags::empty())
}
