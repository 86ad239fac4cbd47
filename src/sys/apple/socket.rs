//! Sockets whose descriptors no child process inherits, and that cause no SIGPIPE.

use std::io::IoSlice;

use rustix::event::PollFlags;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Result;
use rustix::net::{SendAncillaryBuffer, SendFlags};

/// What is polled for to learn that the other side of a connection sends nothing more.
pub(crate) const NO_MORE_TO_RECEIVE: PollFlags = PollFlags::HUP;

/// Accepts a connection, whose descriptor does not block.
pub(crate) fn accept(listener: impl AsFd) -> Result<OwnedFd> {
    let accepted = rustix::net::accept(listener)?;
    // A process that is started between these two calls inherits it: there is no call that does both.
    rustix::io::ioctl_fioclex(&accepted)?;
    // Here it has the listener's flag.
    rustix::io::ioctl_fionbio(&accepted, true)?;
    Ok(accepted)
}

/// Sends the data for which there is room, `AGAIN` if there is none; `PIPE` if nobody receives it any more.
pub(crate) fn send_nowait(socket: BorrowedFd<'_>, buffers: &[IoSlice<'_>]) -> Result<usize> {
    // The option of the socket stands in for the flag of the call.
    rustix::net::sockopt::set_socket_nosigpipe(socket, true)?;
    rustix::net::sendmsg(socket, buffers, &mut SendAncillaryBuffer::default(), SendFlags::DONTWAIT)
}
