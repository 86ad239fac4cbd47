//! The `sock_` functions: connections that come in on the listeners a program was given.

use crate::runtime::linear::LinearMemory;
use crate::sys;
use crate::wasi::env::Wasi;
use crate::wasi::errno::Errno;
use crate::wasi::fs;
use crate::wasi::guest::{Buffers, Filled, Guest};
use crate::wasi::table::{Descriptor, HostFile, Object};
use crate::wasi::transfer;
use crate::wasi::types::{Bits, Fd, Fdflags, Filetype, Pointer, Rights, Size, checked_flags};
use crate::wasi::wait::{Transferred, Wait};
use rustix::event::PollFlags;
use rustix::io::{Errno as HostErrno, retry_on_intr};
use rustix::net::{RecvAncillaryBuffer, RecvFlags, ReturnFlags, Shutdown};
use std::io::IoSliceMut;
use std::sync::Arc;
use std::time::Duration;

/// How often a socket is looked at for the rest of what a call wants to see without taking it. What it has seen stays, so the
/// socket is ready all the time.
const PEEK_AGAIN: Duration = Duration::from_millis(10);

/// `riflags::recv_peek` and `riflags::recv_waitall`.
const RECV_PEEK: Bits = 1;
const RECV_WAITALL: Bits = 2;
/// `roflags::recv_data_truncated`.
const RECV_DATA_TRUNCATED: u16 = 1;

/// The socket `fd`, with the right to do something with it.
fn socket(wasi: &Wasi, fd: Fd, right: Rights) -> Result<Arc<Descriptor>, Errno> {
    let descriptor = wasi.get(fd)?;
    check(&descriptor, right)?;
    Ok(descriptor)
}

/// Whether a descriptor is a socket with a right.
fn check(descriptor: &Descriptor, right: Rights) -> Result<(), Errno> {
    if !matches!(descriptor.filetype, Filetype::SocketStream | Filetype::SocketDgram) {
        return Err(Errno::NotSock);
    }
    descriptor.require(right, Errno::NotSup)
}

/// `sock_accept`: takes the next connection, waiting for it unless the listener does not block.
pub(crate) fn sock_accept(
    wasi: &Wasi,
    memory: &mut LinearMemory<'_>,
    fd: Fd,
    flags: Bits,
    accepted_fd: Pointer,
) -> Result<(), Errno> {
    let listener = socket(wasi, fd, Rights::SOCK_ACCEPT)?;
    let flags = checked_flags!(Fdflags, flags)?;
    if flags.without(Fdflags::NONBLOCK) != Fdflags::NONE {
        return Err(Errno::Inval);
    }
    memory.check(accepted_fd, 1, 4, 4)?;
    wasi.check_room()?;
    let file = listener.file()?;
    let accepted = retry_on_intr(|| sys::accept(file));
    let file =
        HostFile::NonBlocking(accepted.or_else(|errno| transfer::refused(wasi, &listener, PollFlags::IN, errno))?);
    let (filetype, rights) = fs::classify(&file);
    let accepted = Descriptor::new(Object::Host(file), filetype, flags, rights, rights);
    let fd = wasi.insert(accepted)?;
    memory.store_u32(accepted_fd, fd)
}

/// `sock_recv`: receives data.
#[allow(clippy::too_many_arguments, reason = "those of the witx")]
pub(crate) fn sock_recv(
    wasi: &Wasi,
    memory: &mut LinearMemory<'_>,
    fd: Fd,
    data: Pointer,
    data_len: Size,
    flags: Bits,
    received: Pointer,
    out_flags: Pointer,
) -> Result<(), Errno> {
    let socket = socket(wasi, fd, Rights::FD_READ)?;
    if flags & !(RECV_PEEK | RECV_WAITALL) != 0 {
        return Err(Errno::Inval);
    }
    let buffers = Buffers::new(memory, data, data_len)?;
    memory.check(received, 1, 4, 4)?;
    memory.check(out_flags, 1, 2, 2)?;
    let peeks = flags & RECV_PEEK != 0;
    // Datagrams come one at a time.
    let takes_all = flags & RECV_WAITALL != 0 && socket.filetype == Filetype::SocketStream;
    let awaits_all = takes_all && !socket.flags().has(Fdflags::NONBLOCK);
    let host_flags = if peeks { RecvFlags::DONTWAIT | RecvFlags::PEEK } else { RecvFlags::DONTWAIT };
    let file = socket.file()?;
    let receive = |buffers: &mut [IoSliceMut<'_>]| {
        let room: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        let received =
            retry_on_intr(|| rustix::net::recvmsg(file, buffers, &mut RecvAncillaryBuffer::default(), host_flags));
        Ok::<_, Errno>(received.map(|message| Received {
            bytes: message.bytes,
            has_room: message.bytes < room,
            is_truncated: message.flags.contains(ReturnFlags::TRUNC),
        }))
    };
    let begun = wasi.attempts.transferred().unwrap_or(Transferred { buffers, skip: 0, total: 0 });
    let Transferred { mut buffers, mut skip, total: mut done } = begun;
    let mut truncated = 0;
    loop {
        let here = buffers;
        let mut batch = match buffers.batch(memory) {
            Ok(batch) => batch,
            Err(errno) if done == 0 => return Err(errno),
            Err(_) => break,
        };
        batch.skip(skip);
        if batch.bytes() == 0 && skip > 0 {
            skip = 0;
            continue;
        }
        if done > 0 && (batch.bytes() == 0 || done + batch.bytes() > u32::MAX as usize) {
            break;
        }
        match batch.with_mut(memory, receive)? {
            Ok(Received { bytes, has_room, is_truncated }) => {
                if is_truncated {
                    truncated = RECV_DATA_TRUNCATED;
                }
                if peeks && awaits_all && has_room && !transfer::is_ready(file, sys::NO_MORE_TO_RECEIVE)? {
                    let mut wait = Wait::default();
                    wait.at_most(PEEK_AGAIN);
                    return Err(wasi.attempts.wait(wait));
                }
                done += bytes;
                skip += bytes;
                if !takes_all || peeks || bytes == 0 {
                    break;
                }
                // The rest of the list, or of a batch of which the system filled only some.
                buffers = here;
            }
            Err(errno) if done == 0 || awaits_all && errno == HostErrno::AGAIN => {
                wasi.attempts.keep(Transferred { buffers: here, skip, total: done });
                return transfer::refused(wasi, &socket, PollFlags::IN, errno);
            }
            // Bytes that were received are reported, even if receiving the rest fails.
            Err(_) => break,
        }
    }
    memory.store(out_flags, &truncated.to_le_bytes())?;
    memory.store_u32(received, done as u32)
}

/// What one call of the system has received.
struct Received {
    bytes: usize,
    /// Whether there was room for more.
    has_room: bool,
    /// Whether a datagram was longer than the room.
    is_truncated: bool,
}

impl Filled for Received {
    fn filled(&self) -> usize {
        self.bytes
    }
}

/// `sock_send`: sends data.
pub(crate) fn sock_send(
    wasi: &Wasi,
    memory: &mut LinearMemory<'_>,
    fd: Fd,
    data: Pointer,
    data_len: Size,
    flags: Bits,
    sent: Pointer,
) -> Result<(), Errno> {
    let (socket, quota) = wasi.get_limited(fd)?;
    check(&socket, Rights::FD_WRITE)?;
    // WASI defines no flags for sending yet.
    if flags != 0 {
        return Err(Errno::Inval);
    }
    let buffers = Buffers::new(memory, data, data_len)?;
    memory.check(sent, 1, 4, 4)?;
    let begun = wasi.attempts.transferred().unwrap_or(Transferred { buffers, skip: 0, total: 0 });
    let Transferred { buffers, skip, total } = begun;
    let mut batch = { buffers }.batch(memory)?;
    batch.truncate(i32::MAX as usize);
    batch.skip(skip);
    let result = quota.take(batch.bytes() as u64).and_then(|taken| {
        batch.truncate(taken as usize);
        let result = batch.with(memory, |buffers| transfer::write(wasi, &socket, socket.file()?, buffers));
        quota.give_back(taken - result.unwrap_or(0) as u64);
        result
    });
    if wasi.attempts.waits() {
        let written = result.unwrap_or(0);
        wasi.attempts.keep(Transferred { buffers, skip: skip + written, total: total + written });
        return Err(Errno::Waits);
    }
    match result {
        Err(errno) if total == 0 => Err(errno),
        result => memory.store_u32(sent, (total + result.unwrap_or(0)) as u32),
    }
}

/// `sock_shutdown`: ends receiving, sending or both.
pub(crate) fn sock_shutdown(wasi: &Wasi, _memory: &mut LinearMemory<'_>, fd: Fd, how: Bits) -> Result<(), Errno> {
    let socket = socket(wasi, fd, Rights::SOCK_SHUTDOWN)?;
    let how = match how {
        1 => Shutdown::Read,
        2 => Shutdown::Write,
        3 => Shutdown::Both,
        _ => return Err(Errno::Inval),
    };
    Ok(rustix::net::shutdown(socket.file()?, how)?)
}
