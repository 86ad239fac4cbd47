//! Single calls that Linux does in one go, waits in, or refuses in an order of its own.

use super::INVAL;
use super::guest::{Arg, Guest, OUT, ROOT};
use crate::Result;
use Arg::*;
use std::fs::File;
use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use wasmrun::{Strategy, WasiEnv};

const BADF: i32 = 8;
pub(super) const NOTCAPABLE: i32 = 76;
const NOTSOCK: i32 = 57;

pub(super) fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, wanted: T) -> Result<()> {
    if found == wanted { Ok(()) } else { Err(format!("{what}: {found:?} instead of {wanted:?}").into()) }
}

/// A subscription: for the time if `tag` is 0, to read a descriptor if 1, to write to one if 2.
pub(super) fn subscription(userdata: u64, tag: u8, fd_or_clock: u32, timeout: u64) -> [u8; 48] {
    let mut bytes = [0; 48];
    bytes[0..8].copy_from_slice(&userdata.to_le_bytes());
    bytes[8] = tag;
    bytes[16..20].copy_from_slice(&fd_or_clock.to_le_bytes());
    bytes[24..32].copy_from_slice(&timeout.to_le_bytes());
    bytes
}

/// What happened: userdata, errno, tag, bytes, flags.
pub(super) type Event = (u64, u16, u8, u64, u16);

pub(super) fn poll(guest: &mut Guest, subscriptions: &[[u8; 48]]) -> Result<(i32, Vec<Event>)> {
    guest.write(2048, &subscriptions.concat())?;
    let args = [I32(2048), I32(4096), I32(subscriptions.len() as i32), I32(OUT)];
    let errno = guest.call("poll_oneoff", &args)?;
    let count = if errno == 0 { guest.u32_at(OUT) as i32 } else { 0 };
    let events = (0..count).map(|index| {
        let at = 4096 + 32 * index;
        let half = |offset| guest.u32_at(at + offset) as u16;
        (guest.u64_at(at), half(8), guest.bytes(at + 10, 1)[0], guest.u64_at(at + 16), half(24))
    });
    Ok((errno, events.collect()))
}

/// One that can't be waited for is told beside the others; files and directories are always ready.
pub(crate) fn polling(strategy: Strategy) -> Result<()> {
    let directory = tempfile::TempDir::new()?;
    std::fs::write(directory.path().join("f"), "text")?;
    let (reader, writer) = std::io::pipe()?;
    let [reader, writer] = [OwnedFd::from(reader), OwnedFd::from(writer)].map(File::from);
    let env = WasiEnv::new().with_stdin_file(reader).with_stdout_file(writer).with_preopen(directory.path(), "/")?;
    let mut guest = Guest::new(strategy, env)?;
    let hour = 3_600_000_000_000;
    let timer = subscription(1, 0, 1, hour);
    let [read, write] = [2, 64].map(|rights| guest.open(ROOT, 0, "f", 0, rights, 0));
    let ([read, write], empty) = ([read?.1, write?.1], guest.open(ROOT, 0, "empty", 1, 64, 0)?.1);
    for fd in [read, write, empty] {
        let left = if fd == empty { 0 } else { 4 };
        let subscriptions = [timer, subscription(2, 1, fd as u32, 0), subscription(3, 2, fd as u32, 0)];
        same("a file", poll(&mut guest, &subscriptions)?, (0, vec![(2, 0, 1, left, 0), (3, 0, 2, 1, 0)]))?;
    }
    let subscriptions = [timer, subscription(2, 1, ROOT as u32, 0), subscription(3, 2, ROOT as u32, 0)];
    same("a directory", poll(&mut guest, &subscriptions)?, (0, vec![(2, 0, 1, 1, 0), (3, 0, 2, 1, 0)]))?;

    // Nothing is in the pipe, so only the error has occurred, and at once.
    let bad = subscription(7, 1, 99, 0);
    let nothing = subscription(8, 1, 0, 0);
    same("a bad descriptor", poll(&mut guest, &[timer, bad, nothing])?, (0, vec![(7, BADF as u16, 1, 0, 0)]))?;
    let wrong_way = subscription(9, 2, 0, 0);
    let found = poll(&mut guest, &[wrong_way, subscription(3, 2, 1, 0)])?;
    same("a wrong way", found, (0, vec![(9, BADF as u16, 2, 0, 0), (3, 0, 2, 1, 0)]))?;
    let no_clock = subscription(10, 0, 9, 0);
    same("a bad clock", poll(&mut guest, &[no_clock, timer])?, (0, vec![(10, INVAL as u16, 0, 0, 0)]))?;
    same("only bad ones", poll(&mut guest, &[bad, no_clock])?, (BADF, vec![]))?;
    same("only bad ones", poll(&mut guest, &[no_clock, bad])?, (INVAL, vec![]))?;
    same("no such type", poll(&mut guest, &[timer, subscription(1, 3, 0, 0)])?, (INVAL, vec![]))?;
    // What was given up is not had, for a file neither.
    same("giving up", guest.call("fd_fdstat_set_rights", &[I32(read), I64(1 << 27), I64(0)])?, 0)?;
    let found = poll(&mut guest, &[subscription(2, 1, read as u32, 0), timer])?;
    same("given up", found, (0, vec![(2, NOTCAPABLE as u16, 1, 0, 0)]))?;
    let found = poll(&mut guest, &[subscription(2, 2, read as u32, 0), timer])?;
    same("never had", found, (0, vec![(2, 0, 2, 1, 0)]))
}

/// Up to 1,024 buffers are one write: another writer's bytes come before or after all of them. A datagram shows it.
pub(crate) fn one_write(strategy: Strategy) -> Result<()> {
    let (socket, peer) = std::os::unix::net::UnixDatagram::pair()?;
    let env = WasiEnv::new().with_stdout_file(OwnedFd::from(socket.try_clone()?).into());
    let env = env.with_stdin_file(OwnedFd::from(socket).into());
    let mut guest = Guest::new(strategy, env)?;
    for count in [2, 16, 17, 1024] {
        guest.write(65536, &[b'x'; 1024])?;
        guest.buffers(2048, (0..count).map(|index| (65536 + index, 1)))?;
        same("write", guest.call("fd_write", &[I32(1), I32(2048), I32(count), I32(OUT)])?, 0)?;
        same("length written", guest.u32_at(OUT), count as u32)?;
        let mut bytes = [0; 4096];
        same("datagram", peer.recv(&mut bytes)?, count as usize)?;

        // And one read.
        let sent: Vec<u8> = (0..count).map(|index| index as u8 | 1).collect();
        peer.send(&sent)?;
        guest.write(65536, &[0; 1024])?;
        same("read", guest.call("fd_read", &[I32(0), I32(2048), I32(count), I32(OUT)])?, 0)?;
        same("length read", guest.u32_at(OUT), count as u32)?;
        same("bytes", guest.bytes(65536, count as usize).to_vec(), sent)?;
    }
    Ok(())
}

/// `recv_waitall` waits for all buffers, however many there are and however they lie.
pub(crate) fn receiving(strategy: Strategy) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let client = std::thread::spawn(move || -> std::io::Result<usize> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut sent = 0;
        // In parts, each after the one before was taken.
        for len in [1, 1, 1400, 600, 5] {
            stream.write_all(&vec![b'a'; len])?;
            sent += len;
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        stream.shutdown(Shutdown::Write)?;
        Ok(sent)
    });
    let mut guest = Guest::new(strategy, WasiEnv::new().with_listener(listener))?;
    same("accept", guest.call("sock_accept", &[I32(ROOT), I32(0), I32(OUT)])?, 0)?;
    let fd = guest.u32_at(OUT) as i32;
    let mut receive = |buffers: &[(i32, i32)], wanted: u32| -> Result<()> {
        guest.buffers(2048, buffers.iter().copied())?;
        let args = [I32(fd), I32(2048), I32(buffers.len() as i32), I32(2), I32(OUT), I32(OUT + 8)];
        same("recv", guest.call("sock_recv", &args)?, 0)?;
        same("length", guest.u32_at(OUT), wanted)
    };
    // More than one call of the system takes, then some that overlap, then more than there will be.
    receive(&(0..1300).map(|index| (65536 + index, 1)).collect::<Vec<_>>(), 1300)?;
    receive(&[(65536, 400), (65600, 300)], 700)?;
    receive(&[(65536, 20)], 7)?;
    same("shutdown", guest.call("sock_shutdown", &[I32(fd), I32(3)])?, 0)?;
    same("sent", client.join().map_err(|_| "the client panicked")??, 2007)
}

/// The descriptor is looked at before the flags.
pub(crate) fn sockets_first(strategy: Strategy) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut guest = Guest::new(strategy, WasiEnv::new().with_listener(listener))?;
    for (fd, wanted) in [(99, BADF), (1, NOTSOCK), (ROOT, INVAL)] {
        same("accept", guest.call("sock_accept", &[I32(fd), I32(1), I32(OUT)])?, wanted)?;
        same("accept", guest.call("sock_accept", &[I32(fd), I32(64), I32(OUT)])?, wanted)?;
        let wanted = if fd == ROOT { 58 } else { wanted };
        same("send", guest.call("sock_send", &[I32(fd), I32(0), I32(0), I32(1), I32(OUT)])?, wanted)?;
        same("shutdown", guest.call("sock_shutdown", &[I32(fd), I32(0)])?, wanted)?;
        let args = [I32(fd), I32(0), I32(0), I32(4), I32(OUT), I32(OUT + 8)];
        same("recv", guest.call("sock_recv", &args)?, wanted)?;
    }
    Ok(())
}

/// What a directory does not pass on can't be had of what is opened in it.
pub(crate) fn inheriting(strategy: Strategy) -> Result<()> {
    const READ: i64 = 1 << 1;
    const WRITE: i64 = 1 << 6;
    const PATH_OPEN: i64 = 1 << 13;
    const PATH_CREATE_FILE: i64 = 1 << 10;
    const PATH_FILESTAT_SET_SIZE: i64 = 1 << 19;
    let directory = tempfile::TempDir::new()?;
    std::fs::write(directory.path().join("f"), "text")?;
    let mut guest = Guest::new(strategy, WasiEnv::new().with_preopen(directory.path(), "/")?)?;
    let mut open = |oflags: i32, base: i64, inheriting: i64| {
        let args = [I32(ROOT), I32(0), Path("f"), I32(oflags), I64(base), I64(inheriting), I32(0), I32(OUT)];
        guest.call("path_open", &args)
    };
    // All rights that there are may be asked for of a directory that was given.
    same("all", open(0, (1 << 30) - 1, (1 << 30) - 1)?, 0)?;
    same("cut off", open(8, READ, 0)?, 0)?;
    let base = PATH_OPEN | PATH_CREATE_FILE | PATH_FILESTAT_SET_SIZE;
    same("giving up", guest.call("fd_fdstat_set_rights", &[I32(ROOT), I64(base), I64(READ)])?, 0)?;
    let mut open = |oflags: i32, base: i64, inheriting: i64| {
        let args = [I32(ROOT), I32(0), Path("f"), I32(oflags), I64(base), I64(inheriting), I32(0), I32(OUT)];
        guest.call("path_open", &args)
    };
    same("read", open(0, READ, 0)?, 0)?;
    same("write", open(0, WRITE, 0)?, NOTCAPABLE)?;
    same("both", open(1, READ | WRITE, 0)?, NOTCAPABLE)?;
    same("pass on", open(0, READ, WRITE)?, NOTCAPABLE)?;
    // The right to cut off is one of the directory, and not of the file.
    same("cut off", open(8, READ, 0)?, 0)?;
    // What was opened has what is passed on, and nothing else.
    let fd = guest.u32_at(OUT) as i32;
    same("seek", guest.call("fd_seek", &[I32(fd), I64(1), I32(0), I32(OUT)])?, NOTCAPABLE)?;
    same("giving up", guest.call("fd_fdstat_set_rights", &[I32(ROOT), I64(PATH_OPEN), I64(READ)])?, 0)?;
    for (oflags, wanted) in [(0, 0), (1, NOTCAPABLE), (8, NOTCAPABLE)] {
        let args = [I32(ROOT), I32(0), Path("f"), I32(oflags), I64(READ), I64(0), I32(0), I32(OUT)];
        same("after", guest.call("path_open", &args)?, wanted)?;
    }
    Ok(())
}
