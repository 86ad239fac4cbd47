//! Sockets whose descriptors no child process inherits, and that cause no SIGPIPE.

use std::io::IoSlice;

use rustix::event::PollFlags;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Result;
use rustix::net::{SendAncillaryBuffer, SendFlags, SocketFlags};

/// What is polled for to learn that the other side of a connection sends nothing more.
pub(crate) const NO_MORE_TO_RECEIVE: PollFlags = PollFlags::HUP;

/// Accepts a connection, whose descriptor does not block.
pub(crate) fn accept(listener: impl AsFd) -> Result<OwnedFd> {
    rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
}

/// Sends the data for which there is room, `AGAIN` if there is none; `PIPE` if nobody receives it any more.
pub(crate) fn send_nowait(socket: BorrowedFd<'_>, buffers: &[IoSlice<'_>]) -> Result<usize> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::sendmsg(socket, buffers, &mut SendAncillaryBuffer::default(), flags)
}
