//! Reading and writing without waiting, through descriptors whose flags belong to others as well.

use std::io::{IoSlice, IoSliceMut};

use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, Stat};
use rustix::io::{Errno, Result};

/// `OPNOTSUPP`: there is no such call.
pub(crate) fn read_nowait(_file: BorrowedFd<'_>, _buffers: &mut [IoSliceMut<'_>]) -> Result<usize> {
    Err(Errno::OPNOTSUPP)
}

/// `OPNOTSUPP`: there is no such call.
pub(crate) fn write_nowait(_file: BorrowedFd<'_>, _buffers: &[IoSlice<'_>]) -> Result<usize> {
    Err(Errno::OPNOTSUPP)
}

/// Opens the terminal behind a descriptor again, with flags of its own, so that it does not block. Pipes have no name.
pub(crate) fn reopen_nonblocking(file: BorrowedFd<'_>, write: bool) -> Result<OwnedFd> {
    let access = if write { OFlags::WRONLY } else { OFlags::RDONLY };
    let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open(rustix::termios::ttyname(file, Vec::new())?, flags, Mode::empty())
}

/// Whether this is a device that never makes anybody wait. Their numbers differ between systems.
pub(crate) fn never_waits(_stat: &Stat) -> bool {
    false
}
