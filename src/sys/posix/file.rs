//! Open files and names in directories.

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, FileType};
use rustix::io::{Errno, Result};

use crate::sys::Advice;

/// Does nothing: hints are not taken.
pub(crate) fn advise(_file: BorrowedFd<'_>, _offset: u64, _len: u64, _advice: Advice) {}

/// Extends a file to the end of the part, which gets room on the disk only when it is written to.
pub(crate) fn allocate(file: BorrowedFd<'_>, offset: u64, len: u64) -> Result<()> {
    let end = offset.checked_add(len).ok_or(Errno::FBIG)?;
    if rustix::fs::fstat(file)?.st_size as u64 >= end { Ok(()) } else { rustix::fs::ftruncate(file, end) }
}

/// Waits until a file's data is on the disk, and its attributes as well.
pub(crate) fn sync_data(file: BorrowedFd<'_>) -> Result<()> {
    sync_all(file)
}

/// Waits until a file's data and attributes are on the disk.
pub(crate) fn sync_all(file: BorrowedFd<'_>) -> Result<()> {
    rustix::fs::fsync(file)
}

/// Removes a name of something that is not a directory: `ISDIR` if it is one, where POSIX has `PERM`.
pub(crate) fn unlink(parent: impl AsFd, name: &str) -> Result<()> {
    let parent = parent.as_fd();
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::PERM) if is_directory(parent, name) => Err(Errno::ISDIR),
        result => result,
    }
}

fn is_directory(parent: BorrowedFd<'_>, name: &str) -> bool {
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
    stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir())
}
