//! Reading from and writing to descriptors of the host, without ever blocking where the other side may take its time.
//!
//! Whether a descriptor blocks for the guest is decided here and not by the host's flags. Those of a pipe, a terminal or a
//! socket that was handed over belong to whoever else uses it as well, a shell for instance, so they are neither trusted nor
//! changed.

use crate::sys;
use crate::wasi::env::Wasi;
use crate::wasi::errno::Errno;
use crate::wasi::table::{Descriptor, HostFile};
use crate::wasi::types::{Fdflags, Filetype};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno as HostErrno, retry_on_intr};
use rustix::net::{RecvAncillaryBuffer, RecvFlags};
use std::io::{IoSlice, IoSliceMut};
use std::sync::{Arc, OnceLock};

/// How a descriptor of the host is kept from blocking.
#[derive(Debug)]
pub(crate) enum Nowait {
    /// It does not block: a file, or a descriptor with flags of its own that say so.
    Plain,
    /// By a flag of each call.
    Socket,
    /// By a flag of each call if the system has it for this kind of descriptor. Otherwise, by another way. It is a standard
    /// stream, which only goes one way.
    Stream(OnceLock<Other>),
}

/// How one is kept from blocking that has no flag for it.
#[derive(Debug)]
pub(crate) enum Other {
    /// By nothing: it is a null device.
    Plain,
    /// By opening it again, with flags of its own.
    Reopened(OwnedFd),
    /// By asking first whether it is ready, and moving little then.
    Asking,
}

/// What fits a pipe that is ready to be written to.
const PIECE: usize = rustix::pipe::PIPE_BUF;

impl Nowait {
    pub(crate) fn of(file: &HostFile, filetype: Filetype) -> Self {
        match (file, filetype) {
            (_, Filetype::SocketStream | Filetype::SocketDgram) => Nowait::Socket,
            (HostFile::Found(_) | HostFile::NonBlocking(_), _) => Nowait::Plain,
            (_, Filetype::CharacterDevice | Filetype::Unknown) => Nowait::Stream(OnceLock::new()),
            _ => Nowait::Plain,
        }
    }
}

/// Reads once.
#[inline]
pub(crate) fn read(
    wasi: &Wasi,
    descriptor: &Arc<Descriptor>,
    file: &HostFile,
    buffers: &mut [IoSliceMut<'_>],
) -> Result<usize, Errno> {
    let result = match &descriptor.nowait {
        Nowait::Plain => read_plain(file.as_fd(), buffers),
        _ => retry_on_intr(|| read_now(&descriptor.nowait, file.as_fd(), buffers)),
    };
    result.or_else(|errno| refused(wasi, descriptor, PollFlags::IN, errno))
}

/// Writes all, if it blocks for the guest: what did not fit yet is waited for, which the caller sees by
/// [`waits`](crate::wasi::wait::Attempts::waits).
#[inline]
pub(crate) fn write(
    wasi: &Wasi,
    descriptor: &Arc<Descriptor>,
    file: &HostFile,
    buffers: &[IoSlice<'_>],
) -> Result<usize, Errno> {
    let result = match &descriptor.nowait {
        Nowait::Plain => write_plain(file.as_fd(), buffers),
        _ => retry_on_intr(|| write_now(&descriptor.nowait, file.as_fd(), buffers)),
    };
    match result {
        Ok(written) => {
            if descriptor.filetype != Filetype::RegularFile {
                await_rest(wasi, descriptor, buffers, written);
            }
            Ok(written)
        }
        Err(errno) => refused(wasi, descriptor, PollFlags::OUT, errno),
    }
}

/// After a part of the buffers was written: waits for room for the rest, if the descriptor blocks for the guest.
#[inline]
pub(crate) fn await_rest(wasi: &Wasi, descriptor: &Arc<Descriptor>, buffers: &[IoSlice<'_>], written: usize) {
    if written > 0
        && written < buffers.iter().map(|buffer| buffer.len()).sum()
        && !descriptor.flags().has(Fdflags::NONBLOCK)
    {
        wasi.attempts.wait_for(descriptor, PollFlags::OUT);
    }
}

/// The errno of a transfer that was refused: one that would block waits, if the descriptor blocks for the guest.
#[cold]
pub(crate) fn refused<R>(
    wasi: &Wasi,
    descriptor: &Arc<Descriptor>,
    events: PollFlags,
    errno: HostErrno,
) -> Result<R, Errno> {
    if errno == HostErrno::AGAIN && !descriptor.flags().has(Fdflags::NONBLOCK) {
        return Err(wasi.attempts.wait_for(descriptor, events));
    }
    Err(errno.into())
}

fn read_plain(file: BorrowedFd<'_>, buffers: &mut [IoSliceMut<'_>]) -> rustix::io::Result<usize> {
    retry_on_intr(|| match &mut *buffers {
        [buffer] => rustix::io::read(file, &mut **buffer),
        buffers => rustix::io::readv(file, buffers),
    })
}

fn write_plain(file: BorrowedFd<'_>, buffers: &[IoSlice<'_>]) -> rustix::io::Result<usize> {
    retry_on_intr(|| match buffers {
        [buffer] => rustix::io::write(file, buffer),
        buffers => rustix::io::writev(file, buffers),
    })
}

fn read_now(nowait: &Nowait, file: BorrowedFd<'_>, buffers: &mut [IoSliceMut<'_>]) -> rustix::io::Result<usize> {
    match nowait {
        Nowait::Plain => read_plain(file, buffers),
        Nowait::Socket => {
            let flags = RecvFlags::DONTWAIT;
            Ok(rustix::net::recvmsg(file, buffers, &mut RecvAncillaryBuffer::default(), flags)?.bytes)
        }
        Nowait::Stream(other) => {
            if other.get().is_none() {
                match sys::read_nowait(file, buffers) {
                    Err(HostErrno::OPNOTSUPP) => {}
                    result => return result,
                }
            }
            match other.get_or_init(|| Other::of(file, false)) {
                Other::Plain => read_plain(file, buffers),
                Other::Reopened(file) => read_plain(file.as_fd(), buffers),
                // Reads what is there. If another process takes that first, the call blocks all the same.
                Other::Asking => check_ready(file, PollFlags::IN).and_then(|()| read_plain(file, buffers)),
            }
        }
    }
}

fn write_now(nowait: &Nowait, file: BorrowedFd<'_>, buffers: &[IoSlice<'_>]) -> rustix::io::Result<usize> {
    match nowait {
        Nowait::Plain => write_plain(file, buffers),
        Nowait::Socket => sys::send_nowait(file, buffers),
        Nowait::Stream(other) => {
            if other.get().is_none() {
                match sys::write_nowait(file, buffers) {
                    Err(HostErrno::OPNOTSUPP) => {}
                    result => return result,
                }
            }
            match other.get_or_init(|| Other::of(file, true)) {
                Other::Plain => write_plain(file, buffers),
                Other::Reopened(file) => write_plain(file.as_fd(), buffers),
                Other::Asking => {
                    check_ready(file, PollFlags::OUT)?;
                    // Together, so that what is short stays in one piece.
                    let mut piece = Vec::with_capacity(PIECE);
                    for buffer in buffers {
                        piece.extend_from_slice(&buffer[..buffer.len().min(PIECE - piece.len())]);
                    }
                    rustix::io::write(file, &piece)
                }
            }
        }
    }
}

impl Other {
    #[cold]
    fn of(file: BorrowedFd<'_>, write: bool) -> Self {
        let Ok(stat) = rustix::fs::fstat(file) else { return Other::Asking };
        if sys::never_waits(&stat) {
            return Other::Plain;
        }
        // Opening a device again may do anything; terminals and pipes are known.
        let is_fifo = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Fifo;
        let is_known = is_fifo || rustix::termios::isatty(file);
        match is_known.then(|| sys::reopen_nonblocking(file, write)) {
            Some(Ok(reopened)) => Other::Reopened(reopened),
            _ => Other::Asking,
        }
    }
}

/// Whether one of these events has come, or an error.
pub(crate) fn is_ready(file: impl AsFd, events: PollFlags) -> rustix::io::Result<bool> {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    retry_on_intr(|| Ok(rustix::event::poll(&mut [PollFd::new(&file, events)], Some(&now))? > 0))
}

/// `AGAIN` unless the descriptor is ready.
fn check_ready(file: BorrowedFd<'_>, events: PollFlags) -> rustix::io::Result<()> {
    if is_ready(file, events)? { Ok(()) } else { Err(HostErrno::AGAIN) }
}
