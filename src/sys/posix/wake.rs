//! A descriptor that one thread makes readable to wake another: a pipe.

use std::io;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::pipe::pipe;

/// A descriptor that one thread waits for, and another makes readable.
#[derive(Debug)]
pub(crate) struct WakeFd {
    read: OwnedFd,
    write: OwnedFd,
}

impl WakeFd {
    pub fn new() -> io::Result<Self> {
        use rustix::fs::{OFlags, fcntl_setfl};
        use rustix::io::{FdFlags, fcntl_setfd};
        let (read, write) = pipe()?;
        for end in [&read, &write] {
            fcntl_setfd(end, FdFlags::CLOEXEC)?;
            fcntl_setfl(end, OFlags::NONBLOCK)?;
        }
        Ok(WakeFd { read, write })
    }

    /// Makes it readable. If the pipe is full, it is readable already.
    pub fn wake(&self) {
        let _ = rustix::io::write(&self.write, &[1]);
    }

    /// Makes it unreadable again.
    pub fn clear(&self) {
        let mut bytes = [0; 64];
        while rustix::io::read(&self.read, &mut bytes).is_ok_and(|count| count == bytes.len()) {}
    }
}

impl AsFd for WakeFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }
}
