//! The `fd_` functions: what is done with open descriptors.

use crate::error::{Error, ErrorKind};
use crate::runtime::linear::LinearMemory;
use crate::sys::{self, Advice};
use crate::wasi::env::Wasi;
use crate::wasi::errno::Errno;
use crate::wasi::fs;
use crate::wasi::guest::{Batch, Buffers, Guest};
use crate::wasi::quota::Quota;
use crate::wasi::table::{Descriptor, HostFile, Object};
use crate::wasi::transfer;
use crate::wasi::types::{
    Bits, Dircookie, Fd, Fdflags, Filedelta, Filesize, Filestat, Filetype, Fstflags, Pointer, Rights, RightsBits, Size,
    Timestamp, Whence, checked_flags,
};
use crate::wasi::wait::Transferred;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{OFlags, SeekFrom};
use rustix::io::retry_on_intr;
use std::io::{IoSlice, IoSliceMut};

/// `fd_advise`: says how a part of a file will be used. The system may ignore the hint, and a part beyond the end of the
/// file is no error.
pub(crate) fn fd_advise(
    wasi: &Wasi,
    _memory: &mut LinearMemory<'_>,
    fd: Fd,
    offset: Filesize,
    len: Filesize,
    advice: Bits,
) -> Result<(), Errno> {
    let advice = match advice {
        0 => Advice::Normal,
        1 => Advice::Sequential,
        2 => Advice::Random,
        3 => Advice::WillNeed,
        4 => Advice::DontNeed,
        5 => Advice::NoReuse,
        _ => return Err(Errno::Inval),
    };
    let descriptor = wasi.get(fd)?;
    let file = descriptor.seekable()?;
    // As on Linux, which refuses advice for pipes only; directories were refused above.
    if descriptor.is_pipe() {
        return Err(Errno::Spipe);
    }
    descriptor.require_unless_never(Rights::FD_ADVISE)?;
    // The system takes the length as a signed number.
    file_range(0, len)?;
    sys::advise(file.as_fd(), offset, len, advice);
    Ok(())
}

/// `fd_allocate`: makes sure that a part of a file has room on the disk, growing the file where it must.
pub(crate) fn fd_allocate(
    wasi: &Wasi,
    _memory: &mut LinearMemory<'_>,
    fd: Fd,
    offset: Filesize,
    len: Filesize,
) -> Result<(), Errno> {
    let (descriptor, quota) = wasi.get_limited(fd)?;
    let file = descriptor.seekable()?;
    file_range(offset, 0)?;
    file_range(len, 0)?;
    if len == 0 {
        return Err(Errno::Inval);
    }
    // The error for each kind of descriptor that has no place on a disk.
    let missing = match descriptor.filetype {
        _ if !descriptor.rights().has(Rights::FD_WRITE) => Errno::Badf,
        Filetype::SocketStream | Filetype::SocketDgram => Errno::NoDev,
        _ if descriptor.is_pipe() => Errno::Spipe,
        _ => Errno::Badf,
    };
    descriptor.require(Rights::FD_ALLOCATE, missing)?;
    // Offset and length are each possible, but no file can be as long as their sum.
    file_range(offset, len).map_err(|_| Errno::Fbig)?;
    quota.check_size(offset + len)?;
    // Allocated bytes take room on the disk, so they count against the limit as written ones do.
    quota.take_all(len)?;
    let result = retry_on_intr(|| sys::allocate(file.as_fd(), offset, len));
    if result.is_err() {
        quota.give_back(len);
    }
    Ok(result?)
}

/// Whether files reach as far as `offset + len`.
fn file_range(offset: Filesize, len: Filesize) -> Result<(), Errno> {
    match offset.checked_add(len) {
        Some(end) if i64::try_from(end).is_ok() => Ok(()),
        _ => Err(Errno::Inval),
    }
}

/// `fd_close`: closes a descriptor.
pub(crate) fn fd_close(wasi: &Wasi, _memory: &mut LinearMemory<'_>, fd: Fd) -> Result<(), Errno> {
    // Bound to a variable so that the lock is released before the host closes the file, which may take long.
    let closed = wasi.lock()?.table.remove(fd)?;
    match &closed.object {
        Object::Output(output) => output.flush(),
        _ => Ok(()),
    }
}

/// `fd_datasync`: waits until a file's data, or a directory's names, are on the disk.
pub(crate) fn fd_datasync(wasi: &Wasi, _memory: &mut LinearMemory<'_>, fd: Fd) -> Result<(), Errno> {
    sync(&*wasi.get(fd)?, Rights::FD_DATASYNC, sys::sync_data)
}

/// `fd_sync`: waits until a file's data and attributes are on the disk.
pub(crate) fn fd_sync(wasi: &Wasi, _memory: &mut LinearMemory<'_>, fd: Fd) -> Result<(), Errno> {
    sync(&*wasi.get(fd)?, Rights::FD_SYNC, sys::sync_all)
}

fn sync(
    descriptor: &Descriptor,
    right: Rights,
    sync: impl Fn(BorrowedFd<'_>) -> rustix::io::Result<()>,
) -> Result<(), Errno> {
    match &descriptor.object {
        Object::Host(file) => {
            descriptor.require(right, Errno::Inval)?;
            Ok(retry_on_intr(|| sync(file.as_fd()))?)
        }
        Object::Directory(directory) => {
            descriptor.require(right, Errno::Inval)?;
            let file = directory.readable()?;
            Ok(retry_on_intr(|| sync(file.as_fd()))?)
        }
        Object::Output(output) => output.flush(),
        Object::Input(_) => Err(Errno::Inval),
        Object::Nowhere => Ok(()),
    }
}

/// `fd_fdstat_get`: type, flags and rights of a descriptor.
pub(crate) fn fd_fdstat_get(wasi: &Wasi, memory: &mut LinearMemory<'_>, fd: Fd, stat: Pointer) -> Result<(), Errno> {
    let env = wasi.lock()?;
    let descriptor = env.table.get(fd).or_else(|_| env.table.get_for_path(fd))?;
    memory.check(stat, 1, 24, 8)?;
    let mut bytes = [0; 24];
    bytes[0] = descriptor.filetype as u8;
    bytes[2..4].copy_from_slice(&descriptor.flags().0.to_le_bytes());
    bytes[8..16].copy_from_slice(&descriptor.rights().0.to_le_bytes());
    bytes[16..24].copy_from_slice(&descriptor.inheriting().0.to_le_bytes());
    memory.store(stat, &bytes)
}

/// `fd_fdstat_set_flags`: changes the flags of a descriptor.
///
/// The flags that ask for synchronous writing can be changed too, which Linux does not do. A FIFO or device that was
/// found by a path does not block, and a standard stream that was given for appending appends: asking for anything else
/// changes nothing.
pub(crate) fn fd_fdstat_set_flags(
    wasi: &Wasi,
    _memory: &mut LinearMemory<'_>,
    fd: Fd,
    flags: Bits,
) -> Result<(), Errno> {
    let mut flags = checked_flags!(Fdflags, flags)?;
    let descriptor = wasi.get(fd)?;
    match &descriptor.object {
        Object::Directory(_) | Object::Nowhere => return Err(Errno::Badf),
        Object::Host(file) => {
            descriptor.require(Rights::FD_FDSTAT_SET_FLAGS, Errno::Badf)?;
            let appends = descriptor.flags().has(Fdflags::APPEND);
            match file {
                HostFile::Owned(_) | HostFile::NonBlocking(_) => {
                    // A file that was handed over for appending, such as a log, stays so.
                    flags = if appends { flags.with(Fdflags::APPEND) } else { flags };
                    fs::set_host_flag(file, OFlags::APPEND, flags.has(Fdflags::APPEND))?;
                }
                HostFile::Found(_) => {
                    fs::set_host_flag(file, OFlags::APPEND, flags.has(Fdflags::APPEND))?;
                    if descriptor.filetype != Filetype::RegularFile {
                        flags = flags.with(Fdflags::NONBLOCK);
                    }
                }
                HostFile::Inherited(_) => {
                    flags = flags.without(Fdflags::APPEND);
                    flags = if appends { flags.with(Fdflags::APPEND) } else { flags };
                }
            }
        }
        Object::Input(_) | Object::Output(_) => {}
    }
    descriptor.set_flags(flags);
    Ok(())
}

/// `fd_fdstat_set_rights`: gives up all rights but `base` and `inheriting`; `notcapable` if the descriptor lacks one of them.
pub(crate) fn fd_fdstat_set_rights(
    wasi: &Wasi,
    _memory: &mut LinearMemory<'_>,
    fd: Fd,
    base: RightsBits,
    inheriting: RightsBits,
) -> Result<(), Errno> {
    if (base | inheriting) & !Rights::ALL.0 != 0 {
        return Err(Errno::Inval);
    }
    wasi.get(fd)?.restrict(Rights(base), Rights(inheriting))
}

/// `fd_filestat_get`: the attributes of an open file.
pub(crate) fn fd_filestat_get(wasi: &Wasi, memory: &mut LinearMemory<'_>, fd: Fd, stat: Pointer) -> Result<(), Errno> {
    let descriptor = wasi.get(fd)?;
    memory.check(stat, 1, Filestat::size(wasi.abi), 8)?;
    descriptor.require(Rights::FD_FILESTAT_GET, Errno::Badf)?;
    let attributes = match &descriptor.object {
        Object::Host(file @ (HostFile::Owned(_) | HostFile::NonBlocking(_) | HostFile::Found(_))) => fs::stat(file)?,
        // The times of a terminal tell when its user last typed: none of the guest's business.
        Object::Host(file @ HostFile::Inherited(_)) => Filestat { atim: 0, mtim: 0, ctim: 0, ..fs::stat(file)? },
        Object::Directory(directory) => fs::stat(&directory.dir)?,
        Object::Input(_) | Object::Output(_) | Object::Nowhere => {
            Filestat { dev: 0, ino: 0, filetype: descriptor.filetype, nlink: 0, size: 0, atim: 0, mtim: 0, ctim: 0 }
        }
    };
    put_filestat(wasi, memory, stat, &attributes)
}

pub(crate) fn put_filestat(
    wasi: &Wasi,
    memory: &mut LinearMemory<'_>,
    pointer: Pointer,
    stat: &Filestat,
) -> Result<(), Errno> {
    let size = Filestat::size(wasi.abi);
    let bytes = stat.encode(wasi.abi);
    memory.store(pointer, &bytes[..size as usize])
}

/// `fd_filestat_set_size`: cuts a file off, or extends it with zeros.
pub(crate) fn fd_filestat_set_size(
    wasi: &Wasi,
    _memory: &mut LinearMemory<'_>,
    fd: Fd,
    size: Filesize,
) -> Result<(), Errno> {
    let (descriptor, quota) = wasi.get_limited(fd)?;
    let file = descriptor.file()?;
    descriptor.require(Rights::FD_FILESTAT_SET_SIZE, Errno::Inval)?;
    file_range(size, 0)?;
    if quota.limits_file_size() && size > fs::stat(file)?.size {
        quota.check_size(size)?;
    }
    Ok(retry_on_intr(|| rustix::fs::ftruncate(file, size))?)
}

/// `fd_filestat_set_times`: sets the times of an open file.
pub(crate) fn fd_filestat_set_times(
    wasi: &Wasi,
    _memory: &mut LinearMemory<'_>,
    fd: Fd,
    atim: Timestamp,
    mtim: Timestamp,
    flags: Bits,
) -> Result<(), Errno> {
    let times = fs::times(atim, mtim, checked_flags!(Fstflags, flags)?)?;
    let descriptor = wasi.get(fd)?;
    descriptor.require(Rights::FD_FILESTAT_SET_TIMES, Errno::Badf)?;
    if descriptor.read_only {
        return Err(Errno::Perm);
    }
    match &descriptor.object {
        Object::Host(file) => Ok(rustix::fs::futimens(file, &times)?),
        // By the name `.`, because the handle may have been opened with `O_PATH`, which `futimens` refuses.
        Object::Directory(directory) => {
            Ok(rustix::fs::utimensat(&directory.dir, ".", &times, rustix::fs::AtFlags::empty())?)
        }
        Object::Input(_) | Object::Output(_) | Object::Nowhere => Err(Errno::Badf),
    }
}

/// `fd_prestat_get`: whether a descriptor is a directory that the program was given, and how long its name is.
pub(crate) fn fd_prestat_get(
    wasi: &Wasi,
    memory: &mut LinearMemory<'_>,
    fd: Fd,
    prestat: Pointer,
) -> Result<(), Errno> {
    let mut env = wasi.lock()?;
    env.looked_for_directories = true;
    let name = env.table.get_for_path(fd)?.preopened_as().ok_or(Errno::Badf)?;
    memory.check(prestat, 1, 8, 4)?;
    memory.store_u32(prestat, 0)?;
    memory.store_u32(prestat + 4, name.len() as u32)
}

/// `fd_prestat_dir_name`: the name of a directory that the program was given.
pub(crate) fn fd_prestat_dir_name(
    wasi: &Wasi,
    memory: &mut LinearMemory<'_>,
    fd: Fd,
    path: Pointer,
    path_len: Size,
) -> Result<(), Errno> {
    let env = wasi.lock()?;
    let name = env.table.get_for_path(fd)?.preopened_as().ok_or(Errno::NotDir)?;
    if name.len() > path_len as usize {
        return Err(Errno::NameTooLong);
    }
    memory.store(path, name.as_bytes())
}

/// `fd_read`: reads from where the descriptor stands.
pub(crate) fn fd_read(
    wasi: &Wasi,
    memory: &mut LinearMemory<'_>,
    fd: Fd,
    iovs: Pointer,
    iovs_len: Size,
    nread: Pointer,
) -> Result<(), Errno> {
    let descriptor = wasi.get(fd)?;
    let read = |buffers: &mut [IoSliceMut<'_>], _| match &descriptor.object {
        Object::Host(file) => transfer::read(wasi, &descriptor, file, buffers),
        Object::Input(input) => input.read(buffers),
        Object::Output(_) | Object::Directory(_) | Object::Nowhere => Err(Errno::Badf),
    };
    read_buffers(&descriptor, memory, iovs, iovs_len, nread, read)
}

/// `fd_pread`: reads from a position in a file.
pub(crate) fn fd_pread(
    wasi: &Wasi,
    memory: &mut LinearMemory<'_>,
    fd: Fd,
    iovs: Pointer,
    iovs_len: Size,
    offset: Filesize,
    nread: Pointer,
) -> Result<(), Errno> {
    let descriptor = wasi.get(fd)?;
    file_range(offset, 0)?;
    let file = descriptor.positioned()?;
    let read =
        |buffers: &mut [IoSliceMut<'_>], done| Ok(retry_on_intr(|| rustix::io::preadv(file, buffers, offset + done))?);
    read_buffers(&descriptor, memory, iovs, iovs_len, nread, read)
}

/// Reads into guest memory, with one system call for each [`BATCH`](crate::wasi::guest::BATCH) of buffers.
fn read_buffers(
    descriptor: &Descriptor,
    memory: &mut LinearMemory<'_>,
    iovs: Pointer,
    iovs_len: Size,
    nread: Pointer,
    mut read: impl FnMut(&mut [IoSliceMut<'_>], u64) -> Result<usize, Errno>,
) -> Result<(), Errno> {
    if let Object::Directory(_) | Object::Nowhere = descriptor.object {
        return Err(Errno::Badf);
    }
    descriptor.require(Rights::FD_READ, Errno::Badf)?;
    let mut buffers = Buffers::new(memory, iovs, iovs_len)?;
    memory.check(nread, 1, 4, 4)?;
    let batch = buffers.batch(memory)?;
    let mut done = if batch.bytes() == 0 { 0 } else { batch.with_mut(memory, |buffers| read(buffers, 0))? };
    let mut wanted = batch.bytes();
    // What follows is there already or does not come, so only in files: a pipe's next bytes may be long in coming.
    while done == wanted && wanted > 0 && !buffers.is_at_end() && descriptor.filetype == Filetype::RegularFile {
        let Ok(batch) = buffers.batch(memory) else { break };
        if batch.bytes() == 0 || wanted + batch.bytes() > u32::MAX as usize {
            break;
        }
        match batch.with_mut(memory, |buffers| read(buffers, done as u64)) {
            Ok(read) => done += read,
            Err(_) => break,
        }
        wanted += batch.bytes();
    }
    memory.store_u32(nread, done as u32)
}

/// `fd_write`: writes where the descriptor stands.
///
/// To a standard stream of this process that nobody reads any more, it ends the program if the environment says so.
#[inline]
pub(crate) fn fd_write(
    wasi: &Wasi,
    memory: &mut LinearMemory<'_>,
    fd: Fd,
    iovs: Pointer,
    iovs_len: Size,
    nwritten: Pointer,
) -> crate::Result<Errno> {
    match write_descriptor(wasi, memory, fd, iovs, iovs_len, nwritten) {
        Ok(()) => Ok(Errno::Success),
        Err(Errno::Pipe) => closed_pipe(wasi, fd),
        Err(errno) => Ok(errno),
    }
}

#[cold]
fn closed_pipe(wasi: &Wasi, fd: Fd) -> crate::Result<Errno> {
    let env = match wasi.lock() {
        Ok(env) => env,
        Err(errno) => return Ok(errno),
    };
    match env.table.get(fd).map(|descriptor| &descriptor.object) {
        Ok(Object::Host(HostFile::Inherited(_))) if env.ends_on_closed_pipe => {
            Err(Error::new(ErrorKind::Exit(CLOSED_PIPE)))
        }
        _ => Ok(Errno::Pipe),
    }
}

/// What a shell reports of a native program that SIGPIPE ended.
const CLOSED_PIPE: i32 = 128 + 13;

fn write_descriptor(
    wasi: &Wasi,
    memory: &mut LinearMemory<'_>,
    fd: Fd,
    iovs: Pointer,
    iovs_len: Size,
    nwritten: Pointer,
) -> Result<(), Errno> {
    let (descriptor, quota) = wasi.get_limited(fd)?;
    let write = |buffers: &[IoSlice<'_>], _| match &descriptor.object {
        Object::Host(file) => transfer::write(wasi, &descriptor, file, buffers),
        Object::Output(output) => output.write(buffers),
        Object::Input(_) | Object::Directory(_) | Object::Nowhere => Err(Errno::Badf),
    };
    write_buffers(wasi, &descriptor, &quota, memory, iovs, iovs_len, None, nwritten, write)
}

/// `fd_pwrite`: writes to a position in a file; as on Linux to its end if the descriptor appends.
pub(crate) fn fd_pwrite(
    wasi: &Wasi,
    memory: &mut LinearMemory<'_>,
    fd: Fd,
    iovs: Pointer,
    iovs_len: Size,
    offset: Filesize,
    nwritten: Pointer,
) -> Result<(), Errno> {
    let (descriptor, quota) = wasi.get_limited(fd)?;
    file_range(offset, 0)?;
    let file = descriptor.positioned()?;
    let write =
        |buffers: &[IoSlice<'_>], done| Ok(retry_on_intr(|| rustix::io::pwritev(file, buffers, offset + done))?);
    write_buffers(wasi, &descriptor, &quota, memory, iovs, iovs_len, Some(offset), nwritten, write)
}

/// Writes from guest memory, with one system call for each [`BATCH`](crate::wasi::guest::BATCH) of buffers.
#[allow(clippy::too_many_arguments, reason = "those of the witx, and what to do with them")]
fn write_buffers(
    wasi: &Wasi,
    descriptor: &Descriptor,
    quota: &Quota<'_>,
    memory: &mut LinearMemory<'_>,
    iovs: Pointer,
    iovs_len: Size,
    offset: Option<Filesize>,
    nwritten: Pointer,
    mut write: impl FnMut(&[IoSlice<'_>], u64) -> Result<usize, Errno>,
) -> Result<(), Errno> {
    if let Object::Directory(_) | Object::Nowhere = descriptor.object {
        return Err(Errno::Badf);
    }
    descriptor.require(Rights::FD_WRITE, Errno::Badf)?;
    let buffers = Buffers::new(memory, iovs, iovs_len)?;
    memory.check(nwritten, 1, 4, 4)?;
    let begun = wasi.attempts.transferred().unwrap_or(Transferred { buffers, skip: 0, total: 0 });
    let Transferred { mut buffers, mut skip, mut total } = begun;
    loop {
        let here = buffers;
        let mut batch = match buffers.batch(memory) {
            Ok(batch) => batch,
            Err(errno) if total == 0 => return Err(errno),
            Err(_) => break,
        };
        batch.skip(skip);
        if batch.bytes() == 0 || total + batch.bytes() > u32::MAX as usize && total > 0 {
            break;
        }
        let wanted = batch.bytes();
        // A guest can list the same bytes many times, and the total must fit the result, a 32-bit number.
        batch.truncate(i32::MAX as usize);
        let offset = offset.map(|offset| offset + total as u64);
        let result =
            write_limited(descriptor, quota, memory, &mut batch, offset, |buffers| write(buffers, total as u64));
        if wasi.attempts.waits() {
            let written = result.unwrap_or(0);
            wasi.attempts.keep(Transferred { buffers: here, skip: skip + written, total: total + written });
            return Err(Errno::Waits);
        }
        match result {
            Ok(written) => total += written,
            Err(errno) if total == 0 => return Err(errno),
            Err(_) => break,
        }
        skip = 0;
        if buffers.is_at_end() || result != Ok(wanted) {
            break;
        }
    }
    sync_written(descriptor)?;
    memory.store_u32(nwritten, total as u32)
}

/// Writes as much of a batch as the quota allows.
#[inline]
fn write_limited(
    descriptor: &Descriptor,
    quota: &Quota<'_>,
    memory: &LinearMemory<'_>,
    batch: &mut Batch,
    offset: Option<Filesize>,
    write: impl FnOnce(&[IoSlice<'_>]) -> Result<usize, Errno>,
) -> Result<usize, Errno> {
    if descriptor.filetype == Filetype::RegularFile && quota.limits_file_size() {
        let file = descriptor.file()?;
        let position = if descriptor.flags().has(Fdflags::APPEND) {
            fs::stat(file)?.size
        } else {
            match offset {
                Some(offset) => offset,
                None => rustix::fs::tell(file)?,
            }
        };
        batch.truncate(quota.within_file(position, batch.bytes() as u64)? as usize);
    }
    let taken = quota.take(batch.bytes() as u64)?;
    if taken < batch.bytes() as u64 {
        batch.truncate(taken as usize);
    }
    let result = batch.with(memory, write);
    quota.give_back(taken - result.unwrap_or(0) as u64);
    result
}

/// Does what the flags for synchronous writing ask for. They are not set on the host's descriptor, because Linux can't
/// change them later.
#[inline]
fn sync_written(descriptor: &Descriptor) -> Result<(), Errno> {
    let flags = descriptor.flags();
    if flags.has_any(Fdflags::SYNC.with(Fdflags::DSYNC).with(Fdflags::RSYNC))
        && descriptor.filetype == Filetype::RegularFile
        && let Object::Host(file) = &descriptor.object
    {
        if flags.has_any(Fdflags::SYNC.with(Fdflags::RSYNC)) {
            sys::sync_all(file.as_fd())?;
        } else {
            sys::sync_data(file.as_fd())?;
        }
    }
    Ok(())
}

/// `fd_readdir`: names in a directory, from the entry that `cookie` stands for. The last entry is cut off where the buffer
/// ends.
pub(crate) fn fd_readdir(
    wasi: &Wasi,
    memory: &mut LinearMemory<'_>,
    fd: Fd,
    buf: Pointer,
    buf_len: Size,
    cookie: Dircookie,
    bufused: Pointer,
) -> Result<(), Errno> {
    let descriptor = wasi.get(fd)?;
    let directory = descriptor.directory()?;
    descriptor.require(Rights::FD_READDIR, Errno::Badf)?;
    memory.check(bufused, 1, 4, 4)?;
    memory.check(buf, buf_len, 1, 1)?;
    let (room, mut used) = (buf_len as usize, 0);
    if buf_len > 0 {
        directory.read(cookie, |next, entry| {
            let mut head = [0; 24];
            head[0..8].copy_from_slice(&next.to_le_bytes());
            head[8..16].copy_from_slice(&entry.ino.to_le_bytes());
            head[16..20].copy_from_slice(&(entry.name.len() as u32).to_le_bytes());
            head[20] = entry.filetype as u8;
            for part in [&head[..], &entry.name] {
                let len = part.len().min(room - used);
                // Checked above.
                if memory.store(buf.wrapping_add(used as u32), &part[..len]).is_ok() {
                    used += len;
                }
            }
            used < room
        })?;
    }
    memory.store_u32(bufused, used as u32)
}

/// `fd_renumber`: closes `to` and gives its number to `fd`, in one step. Both must be open.
pub(crate) fn fd_renumber(wasi: &Wasi, _memory: &mut LinearMemory<'_>, fd: Fd, to: Fd) -> Result<(), Errno> {
    // Bound to a variable so that the lock is released before the host closes the file.
    let closed = wasi.lock()?.table.renumber(fd, to)?;
    if let Some(Object::Output(output)) = closed.as_ref().map(|closed| &closed.object) {
        // The renumbering has succeeded, whatever becomes of the closed stream's last bytes.
        let _ = output.flush();
    }
    Ok(())
}

/// `fd_seek`: moves the position in a file.
pub(crate) fn fd_seek(
    wasi: &Wasi,
    memory: &mut LinearMemory<'_>,
    fd: Fd,
    offset: Filedelta,
    whence: Bits,
    newoffset: Pointer,
) -> Result<(), Errno> {
    let whence = Whence::decode(wasi.abi, whence)?;
    let descriptor = wasi.get(fd)?;
    let file = descriptor.seekable()?;
    memory.check(newoffset, 1, 8, 8)?;
    let right = if offset == 0 && whence == Whence::Cur { Rights::FD_TELL } else { Rights::FD_SEEK };
    descriptor.require(right, Errno::Spipe)?;
    let position = match whence {
        Whence::Set => SeekFrom::Start(u64::try_from(offset).map_err(|_| Errno::Inval)?),
        Whence::Cur => SeekFrom::Current(offset),
        Whence::End => SeekFrom::End(offset),
    };
    let position = rustix::fs::seek(file, position)?;
    memory.store_u64(newoffset, position)
}

/// `fd_tell`: the position in a file.
pub(crate) fn fd_tell(wasi: &Wasi, memory: &mut LinearMemory<'_>, fd: Fd, offset: Pointer) -> Result<(), Errno> {
    let descriptor = wasi.get(fd)?;
    let file = descriptor.seekable()?;
    memory.check(offset, 1, 8, 8)?;
    descriptor.require(Rights::FD_TELL, Errno::Spipe)?;
    let position = rustix::fs::tell(file)?;
    memory.store_u64(offset, position)
}
