//! Sockets whose descriptors no child process inherits, and that cause no SIGPIPE.

use std::io::IoSlice;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Result;
use rustix::net::{SendAncillaryBuffer, SendFlags, SocketFlags};

/// Accepts a connection, which blocks unless `nonblocking`.
pub(crate) fn accept(listener: impl AsFd, nonblocking: bool) -> Result<OwnedFd> {
    let mut flags = SocketFlags::CLOEXEC;
    flags.set(SocketFlags::NONBLOCK, nonblocking);
    rustix::net::accept_with(listener, flags)
}

/// Sends data; `PIPE` if nobody receives it any more.
pub(crate) fn send(socket: BorrowedFd<'_>, buffers: &[IoSlice<'_>]) -> Result<usize> {
    rustix::net::sendmsg(socket, buffers, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)
}
