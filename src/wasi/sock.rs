//! The `sock_` functions: connections that come in on the listeners a program was given.

use crate::runtime::linear::LinearMemory;
use crate::sys;
use crate::wasi::env::Wasi;
use crate::wasi::errno::Errno;
use crate::wasi::fs;
use crate::wasi::guest::{Buffers, Guest};
use crate::wasi::table::{Descriptor, HostFile, Object};
use crate::wasi::types::{Bits, Fd, Fdflags, Filetype, Pointer, Rights, Size, checked_flags};
use rustix::fd::AsFd;
use rustix::io::retry_on_intr;
use rustix::net::{RecvAncillaryBuffer, RecvFlags, ReturnFlags, Shutdown};
use std::io::IoSliceMut;
use std::sync::Arc;

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
    let accepted = retry_on_intr(|| sys::accept(file, flags.has(Fdflags::NONBLOCK)))?;
    let file = HostFile::Owned(accepted);
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
    let mut buffers = Buffers::new(memory, data, data_len)?;
    memory.check(received, 1, 4, 4)?;
    memory.check(out_flags, 1, 2, 2)?;
    let mut host_flags = RecvFlags::empty();
    host_flags.set(RecvFlags::PEEK, flags & RECV_PEEK != 0);
    host_flags.set(RecvFlags::WAITALL, flags & RECV_WAITALL != 0);
    let file = socket.file()?;
    let receive = |buffers: &mut [IoSliceMut<'_>]| {
        retry_on_intr(|| rustix::net::recvmsg(file, buffers, &mut RecvAncillaryBuffer::default(), host_flags))
    };
    let mut batch = buffers.batch(memory)?;
    let message = batch.with_mut(memory, receive)?;
    let (mut done, mut last) = (message.bytes, message.bytes);
    // `RecvFlags::WAITALL` waits for the buffers of one system call. A longer list, or one with overlaps, takes several.
    let waits = host_flags == RecvFlags::WAITALL && socket.filetype == Filetype::SocketStream;
    while waits && last > 0 {
        batch.skip(last);
        if batch.bytes() == 0 {
            let Ok(next) = buffers.batch(memory) else { break };
            batch = next;
        }
        if batch.bytes() == 0 || done + batch.bytes() > u32::MAX as usize {
            break;
        }
        // Bytes that were received are reported, even if receiving the rest fails.
        let Ok(message) = batch.with_mut(memory, receive) else { break };
        last = message.bytes;
        done += last;
    }
    let truncated = if message.flags.contains(ReturnFlags::TRUNC) { RECV_DATA_TRUNCATED } else { 0 };
    memory.bytes_mut(out_flags, 2)?.copy_from_slice(&truncated.to_le_bytes());
    memory.store_u32(received, done as u32)
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
    let mut buffers = Buffers::new(memory, data, data_len)?;
    memory.check(sent, 1, 4, 4)?;
    let mut batch = buffers.batch(memory)?;
    batch.truncate(i32::MAX as usize);
    let taken = quota.take(batch.bytes() as u64)?;
    batch.truncate(taken as usize);
    let file = socket.file()?;
    let result = batch.with(memory, |buffers| retry_on_intr(|| sys::send(file.as_fd(), buffers)));
    quota.give_back(taken - result.unwrap_or(0) as u64);
    memory.store_u32(sent, result? as u32)
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
