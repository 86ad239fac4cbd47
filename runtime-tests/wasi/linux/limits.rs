//! Limits on what is written, and what a handed-over stream can't be used for.

use super::calls::{NOTCAPABLE, poll, same, subscription};
use super::guest::{Arg, Guest, OUT, ROOT};
use crate::Result;
use Arg::*;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use wasmrun::{Strategy, WasiEnv};

const BADF: i32 = 8;
const DQUOT: i32 = 19;
const FAULT: i32 = 21;
const MFILE: i32 = 33;
const PIPE: i32 = 64;

/// Writes `len` bytes to a descriptor, and gives the errno and how many were written.
fn write(guest: &mut Guest, fd: i32, len: i32) -> Result<(i32, u32)> {
    guest.buffers(2048, [(65536, len)])?;
    let errno = guest.call("fd_write", &[I32(fd), I32(2048), I32(1), I32(OUT)])?;
    Ok((errno, guest.u32_at(OUT)))
}

/// What is not written does not count, neither where allocating nor where writing nor where sending fails.
pub(crate) fn budget(strategy: Strategy) -> Result<()> {
    let directory = tempfile::TempDir::new()?;
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let env = WasiEnv::new().with_stdout_file(OwnedFd::from(writer).into()).with_preopen(directory.path(), "/")?;
    let env = env.with_listener(listener).with_max_written(10);
    let mut guest = Guest::new(strategy, env)?;
    let fd = guest.open(ROOT, 0, "f", 1, 66, 0)?.1;
    same("allocate", guest.call("fd_allocate", &[I32(fd), I64(0), I64(100)])?, DQUOT)?;
    same("size", std::fs::metadata(directory.path().join("f"))?.len(), 0)?;
    same("to nobody", write(&mut guest, 1, 6)?.0, PIPE)?;
    same("accept", guest.call("sock_accept", &[I32(ROOT + 1), I32(0), I32(OUT)])?, 0)?;
    let socket = guest.u32_at(OUT) as i32;
    same("write", write(&mut guest, fd, 6)?, (0, 6))?;
    let send = [I32(socket), I32(2048), I32(1), I32(0), I32(OUT)];
    same("send", guest.call("sock_send", &send)?, 0)?;
    same("sent", guest.u32_at(OUT), 4)?;
    let mut bytes = [0; 16];
    same("received", client.read(&mut bytes)?, 4)?;
    same("send more", guest.call("sock_send", &send)?, DQUOT)?;

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let _client = TcpStream::connect(listener.local_addr()?)?;
    let env = WasiEnv::new().with_preopen(directory.path(), "/")?.with_listener(listener).with_max_written(10);
    let mut guest = Guest::new(strategy, env)?;
    same("accept", guest.call("sock_accept", &[I32(ROOT + 1), I32(0), I32(OUT)])?, 0)?;
    let socket = guest.u32_at(OUT) as i32;
    same("shutdown", guest.call("sock_shutdown", &[I32(socket), I32(3)])?, 0)?;
    guest.buffers(2048, [(65536, 6)])?;
    same("send", guest.call("sock_send", &[I32(socket), I32(2048), I32(1), I32(0), I32(OUT)])?, PIPE)?;
    let fd = guest.open(ROOT, 0, "g", 1, 66, 0)?.1;
    same("write", write(&mut guest, fd, 10)?, (0, 10))
}

/// A file's limit holds for all of a list of buffers that takes more than one call of the system.
pub(crate) fn long_lists(strategy: Strategy) -> Result<()> {
    let directory = tempfile::TempDir::new()?;
    let (reader, mut writer) = std::io::pipe()?;
    writer.write_all(&[b'x'; 1024])?;
    let env = WasiEnv::new().with_stdin_file(OwnedFd::from(reader).into()).with_preopen(directory.path(), "/")?;
    let mut guest = Guest::new(strategy, env.with_max_file_size(1500))?;
    let fd = guest.open(ROOT, 0, "f", 1, 66, 0)?.1;
    guest.buffers(2048, (0..2000).map(|index| (65536 + index, 1)))?;
    let args = [I32(fd), I32(2048), I32(2000), I64(0), I32(OUT)];
    same("pwrite", guest.call("fd_pwrite", &args)?, 0)?;
    same("written", guest.u32_at(OUT), 1500)?;
    same("pread", guest.call("fd_pread", &args)?, 0)?;
    same("read of a file", guest.u32_at(OUT), 1500)?;
    // What a pipe has later is not waited for.
    let late = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        writer.write_all(b"late")
    });
    same("read", guest.call("fd_read", &[I32(0), I32(2048), I32(2000), I32(OUT)])?, 0)?;
    same("read of a pipe", guest.u32_at(OUT), 1024)?;
    late.join().map_err(|_| "a panic")??;
    // Nothing is read whose length can't be told.
    let fd = guest.open(ROOT, 0, "f", 0, 2, 0)?.1;
    same("nowhere", guest.call("fd_read", &[I32(fd), I32(2048), I32(4), I32(-4)])?, FAULT)?;
    same("tell", guest.call("fd_tell", &[I32(fd), I32(OUT)])?, 0)?;
    same("position", guest.u64_at(OUT), 0)
}

/// A stream that was handed over is read or written, and no more is done with it.
pub(crate) fn streams(strategy: Strategy) -> Result<()> {
    let directory = tempfile::TempDir::new()?;
    let path = directory.path().join("f");
    std::fs::write(&path, "text")?;
    let (socket, peer) = UnixDatagram::pair()?;
    let input = File::options().read(true).write(true).open(&path)?;
    let env = WasiEnv::new().with_stdin_file(input).with_inherited_stdout();
    let mut guest = Guest::new(strategy, env.with_stderr_file(OwnedFd::from(socket.try_clone()?).into()))?;
    same("allocate", guest.call("fd_allocate", &[I32(0), I64(0), I64(100)])?, BADF)?;
    same("size", guest.call("fd_filestat_set_size", &[I32(0), I64(0)])?, super::INVAL)?;
    same("times", guest.call("fd_filestat_set_times", &[I32(0), I64(0), I64(0), I32(8)])?, BADF)?;
    same("contents", std::fs::read(&path)?, b"text".to_vec())?;
    same("stat", guest.call("fd_filestat_get", &[I32(1), I32(OUT)])?, 0)?;
    same("times", [40, 48, 56].map(|offset| guest.u64_at(OUT + offset)), [0; 3])?;

    let mut guest = Guest::new(strategy, WasiEnv::new().with_stdin_file(OwnedFd::from(socket).into()))?;
    for (len, cut_off) in [(2, 1), (5, 0)] {
        peer.send(b"hello")?;
        guest.buffers(2048, [(65536, len)])?;
        let args = [I32(0), I32(2048), I32(1), I32(0), I32(OUT), I32(OUT + 8)];
        same("recv", guest.call("sock_recv", &args)?, 0)?;
        same("received", (guest.u32_at(OUT), guest.u32_at(OUT + 8) & 0xffff), (len as u32, cut_off))?;
    }
    Ok(())
}

/// No connection is taken that there is no number for; both ends of one are waited for at once.
pub(crate) fn connections(strategy: Strategy) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    listener.set_nonblocking(true)?;
    let (reader, writer) = std::io::pipe()?;
    let [reader, writer] = [OwnedFd::from(reader), OwnedFd::from(writer)].map(File::from);
    let env = WasiEnv::new().with_stdin_file(reader).with_stdout_file(writer).with_listener(listener);
    let mut guest = Guest::new(strategy, env.with_max_descriptors(4))?;
    same("accept", guest.call("sock_accept", &[I32(ROOT), I32(0), I32(OUT)])?, MFILE)?;
    same("close", guest.call("fd_close", &[I32(2)])?, 0)?;
    same("accept", guest.call("sock_accept", &[I32(ROOT), I32(0), I32(OUT)])?, 0)?;
    let fd = guest.u32_at(OUT);
    client.write_all(b"x")?;
    let (read, write) = (subscription(1, 1, fd, 0), subscription(2, 2, fd, 0));
    same("to read", poll(&mut guest, &[read])?.0, 0)?;
    same("both", poll(&mut guest, &[read, write])?, (0, vec![(1, 0, 1, 1, 0), (2, 0, 2, 1, 0)]))?;
    // The right to wait, given up alone.
    let args = [I32(fd as i32), I64((1 << 1) | (1 << 6)), I64(0)];
    same("giving up", guest.call("fd_fdstat_set_rights", &args)?, 0)?;
    same("given up", poll(&mut guest, &[read, write])?, (NOTCAPABLE, vec![]))?;
    // The other end of a pipe is gone.
    same("close", guest.call("fd_close", &[I32(1)])?, 0)?;
    same("hung up", poll(&mut guest, &[subscription(3, 1, 0, 0)])?, (0, vec![(3, 0, 1, 0, 1)]))
}
