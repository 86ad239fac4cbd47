//! Open files and names in directories.

use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::{Errno, Result};

use crate::sys::Advice;
pub(crate) use crate::sys::posix::file::unlink;

/// Has the system read ahead what will be needed. There are no other hints here.
pub(crate) fn advise(file: BorrowedFd<'_>, offset: u64, len: u64, advice: Advice) {
    if advice == Advice::WillNeed {
        let _ = rustix::fs::fcntl_rdadvise(file, offset, len);
    }
}

/// Gives a file room on the disk up to the end of the part, and extends it to there. Holes in the file stay holes.
pub(crate) fn allocate(file: BorrowedFd<'_>, offset: u64, len: u64) -> Result<()> {
    let end = offset.checked_add(len).ok_or(Errno::FBIG)?;
    let size = rustix::fs::fstat(file)?.st_size as u64;
    // `F_PREALLOCATE` counts from the end of the file, and `ftruncate` would cut off what is behind the part.
    if size >= end {
        return Ok(());
    }
    let mut store = libc::fstore_t {
        fst_flags: libc::F_ALLOCATEALL,
        fst_posmode: libc::F_PEOFPOSMODE,
        fst_offset: 0,
        fst_length: i64::try_from(end - size).map_err(|_| Errno::FBIG)?,
        fst_bytesalloc: 0,
    };
    // SAFETY: the command takes a pointer to such a structure.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_PREALLOCATE, &raw mut store) } == -1 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    rustix::fs::ftruncate(file, end)
}

/// Waits until a file's data is on the disk, and its attributes as well.
pub(crate) fn sync_data(file: BorrowedFd<'_>) -> Result<()> {
    sync_all(file)
}

/// Waits until a file's data and attributes are on the disk. `fsync` leaves them in the cache of the drive; it is for what
/// is on file systems that have nothing better.
pub(crate) fn sync_all(file: BorrowedFd<'_>) -> Result<()> {
    rustix::fs::fcntl_fullfsync(file).or_else(|_| rustix::fs::fsync(file))
}
