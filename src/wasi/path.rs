//! The `path_` functions: operations on names in directories.
//!
//! A path is resolved below the directory it is given with, by cap-std: `..`, symbolic links and absolute paths that
//! lead out of it are `perm`.
//!
//! In a read-only directory, what would change something is `perm` where Linux, on a file system that is mounted for
//! reading only, says `rofs`, and fails as it does there otherwise: what is there can't be made (`exist`), what is not
//! there can't be opened (`noent`).

use crate::runtime::linear::LinearMemory;
use crate::sys;
use crate::wasi::env::Wasi;
use crate::wasi::errno::Errno;
use crate::wasi::fd::put_filestat;
use crate::wasi::fs::{self, Open};
use crate::wasi::guest::Guest;
use crate::wasi::name::Name;
use crate::wasi::read_only;
use crate::wasi::table::Descriptor;
use crate::wasi::types::{
    Bits, Fd, Fdflags, Filestat, Filetype, Fstflags, Lookupflags, Oflags, Pointer, Rights, RightsBits, Size, Timestamp,
    checked_flags,
};
use cap_std::fs::Dir;
use rustix::fs::{AtFlags, Mode};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// A directory that the guest named, with the right to do something in it.
struct NamedDirectory(Arc<Descriptor>);

impl NamedDirectory {
    /// The directory `fd`, for looking only.
    fn to_read(wasi: &Wasi, fd: Fd, right: Rights) -> Result<Self, Errno> {
        let descriptor = wasi.get_for_path(fd)?;
        descriptor.directory()?;
        descriptor.require(right, Errno::NotCapable)?;
        Ok(NamedDirectory(descriptor))
    }

    /// The directory `fd`, for changing what is in it: `refused` tells why not, if nothing in it may be changed.
    fn to_change(
        wasi: &Wasi,
        fd: Fd,
        right: Rights,
        refused: impl FnOnce(&Dir) -> Result<Errno, Errno>,
    ) -> Result<Self, Errno> {
        let place = Self::to_read(wasi, fd, right)?;
        if place.0.read_only { Err(refused(place.dir()?).unwrap_or_else(|errno| errno)) } else { Ok(place) }
    }

    fn dir(&self) -> Result<&Dir, Errno> {
        Ok(&self.0.directory()?.dir)
    }
}

/// `path_create_directory`: makes a directory.
pub(crate) fn path_create_directory(
    wasi: &Wasi,
    memory: &mut LinearMemory<'_>,
    fd: Fd,
    path: Pointer,
    path_len: Size,
) -> Result<(), Errno> {
    let path = memory.path(path, path_len);
    let path = || path.as_deref().map_err(|errno| *errno);
    let refused = |dir: &Dir| read_only::create(dir, path()?, true);
    let place = NamedDirectory::to_change(wasi, fd, Rights::PATH_CREATE_DIRECTORY, refused)?;
    let name = Name::find(place.dir()?, path()?)?;
    Ok(rustix::fs::mkdirat(&name, name.name, Mode::from_raw_mode(0o777))?)
}

/// `path_filestat_get`: the attributes of what a path names.
pub(crate) fn path_filestat_get(
    wasi: &Wasi,
    memory: &mut LinearMemory<'_>,
    fd: Fd,
    flags: Bits,
    path: Pointer,
    path_len: Size,
    stat: Pointer,
) -> Result<(), Errno> {
    let lookup = checked_flags!(Lookupflags, flags)?;
    let place = NamedDirectory::to_read(wasi, fd, Rights::PATH_FILESTAT_GET)?;
    memory.check(stat, 1, Filestat::size(wasi.abi), 8)?;
    let found = fs::resolve(place.dir()?, &memory.path(path, path_len)?, lookup)?;
    put_filestat(wasi, memory, stat, &Filestat::from(&found.stat()?))
}

/// `path_filestat_set_times`: sets the times of what a path names.
#[allow(clippy::too_many_arguments, reason = "those of the witx")]
pub(crate) fn path_filestat_set_times(
    wasi: &Wasi,
    memory: &mut LinearMemory<'_>,
    fd: Fd,
    flags: Bits,
    path: Pointer,
    path_len: Size,
    atim: Timestamp,
    mtim: Timestamp,
    fst_flags: Bits,
) -> Result<(), Errno> {
    let lookup = checked_flags!(Lookupflags, flags)?;
    let times = fs::times(atim, mtim, checked_flags!(Fstflags, fst_flags)?)?;
    let place = NamedDirectory::to_read(wasi, fd, Rights::PATH_FILESTAT_SET_TIMES)?;
    let found = fs::resolve(place.dir()?, &memory.path(path, path_len)?, lookup)?;
    if place.0.read_only {
        return Err(Errno::Perm);
    }
    Ok(found.set_times(&times)?)
}

/// `path_link`: gives a file another name. A symbolic link is not followed: asking for that is `inval`.
#[allow(clippy::too_many_arguments, reason = "those of the witx")]
pub(crate) fn path_link(
    wasi: &Wasi,
    memory: &mut LinearMemory<'_>,
    old_fd: Fd,
    old_flags: Bits,
    old_path: Pointer,
    old_path_len: Size,
    new_fd: Fd,
    new_path: Pointer,
    new_path_len: Size,
) -> Result<(), Errno> {
    if checked_flags!(Lookupflags, old_flags)?.has(Lookupflags::SYMLINK_FOLLOW) {
        return Err(Errno::Inval);
    }
    let old = NamedDirectory::to_read(wasi, old_fd, Rights::PATH_LINK_SOURCE)?;
    let new = NamedDirectory::to_read(wasi, new_fd, Rights::PATH_LINK_TARGET)?;
    let (old_path, new_path) = (memory.path(old_path, old_path_len)?, memory.path(new_path, new_path_len)?);
    let (old_path, new_path) = (&*old_path, &*new_path);
    // A file of a read-only directory gets no other name either: under that it could be written.
    let found = fs::resolve(old.dir()?, old_path, Lookupflags::NONE)?;
    // Nor does a directory. It is refused here because its name may be one that Linux would follow.
    if old.0.read_only || new.0.read_only || Filestat::from(&found.stat()?).filetype == Filetype::Directory {
        return Err(read_only::create(new.dir()?, new_path, false)?);
    }
    let old_name = Name::find(old.dir()?, old_path)?;
    let new_name = Name::find(new.dir()?, new_path)?;
    Ok(rustix::fs::linkat(&old_name, old_name.bare(), &new_name, new_name.name, AtFlags::empty())?)
}

/// `path_open`: opens a file or directory.
#[allow(clippy::too_many_arguments, reason = "those of the witx")]
pub(crate) fn path_open(
    wasi: &Wasi,
    memory: &mut LinearMemory<'_>,
    fd: Fd,
    dirflags: Bits,
    path: Pointer,
    path_len: Size,
    oflags: Bits,
    base: RightsBits,
    inheriting: RightsBits,
    fdflags: Bits,
    opened_fd: Pointer,
) -> Result<(), Errno> {
    let how = Open {
        lookup: checked_flags!(Lookupflags, dirflags)?,
        oflags: checked_flags!(Oflags, oflags)?,
        fdflags: checked_flags!(Fdflags, fdflags)?,
        rights: Rights(base),
    };
    if (base | inheriting) & !Rights::ALL.0 != 0 {
        return Err(Errno::Inval);
    }
    let place = NamedDirectory::to_read(wasi, fd, Rights::PATH_OPEN)?;
    if how.oflags.has(Oflags::CREAT) {
        place.0.require(Rights::PATH_CREATE_FILE, Errno::NotCapable)?;
    }
    if how.oflags.has(Oflags::TRUNC) {
        place.0.require(Rights::PATH_FILESTAT_SET_SIZE, Errno::NotCapable)?;
    }
    let kept = place.0.inheriting();
    if !kept.has(Rights(base | inheriting)) {
        return Err(Errno::NotCapable);
    }
    memory.check(opened_fd, 1, 4, 4)?;
    // Before a file is created for which there is no descriptor.
    wasi.check_room()?;
    let opened = fs::open(place.0.directory()?, &memory.path(path, path_len)?, how, place.0.read_only)?;
    // Opening does not bring back rights that the directory has given up.
    opened.restrict(Rights(opened.rights().0 & kept.0), Rights(opened.inheriting().0 & kept.0))?;
    let fd = wasi.insert(opened)?;
    memory.store_u32(opened_fd, fd)
}

/// `path_readlink`: the target of a symbolic link, cut off where the buffer ends.
#[allow(clippy::too_many_arguments, reason = "those of the witx")]
pub(crate) fn path_readlink(
    wasi: &Wasi,
    memory: &mut LinearMemory<'_>,
    fd: Fd,
    path: Pointer,
    path_len: Size,
    buf: Pointer,
    buf_len: Size,
    bufused: Pointer,
) -> Result<(), Errno> {
    let place = NamedDirectory::to_read(wasi, fd, Rights::PATH_READLINK)?;
    memory.check(buf, buf_len, 1, 1)?;
    memory.check(bufused, 1, 4, 4)?;
    let target = place.dir()?.read_link(&*memory.path(path, path_len)?)?;
    let target = target.as_os_str().as_bytes();
    let len = target.len().min(buf_len as usize);
    memory.store(buf, &target[..len])?;
    memory.store_u32(bufused, len as u32)
}

/// `path_remove_directory`: removes an empty directory.
pub(crate) fn path_remove_directory(
    wasi: &Wasi,
    memory: &mut LinearMemory<'_>,
    fd: Fd,
    path: Pointer,
    path_len: Size,
) -> Result<(), Errno> {
    let path = memory.path(path, path_len);
    let path = || path.as_deref().map_err(|errno| *errno);
    let refused = |dir: &Dir| read_only::remove(dir, path()?, Errno::Inval, Errno::NotEmpty);
    let place = NamedDirectory::to_change(wasi, fd, Rights::PATH_REMOVE_DIRECTORY, refused)?;
    let name = Name::find(place.dir()?, path()?)?;
    Ok(rustix::fs::unlinkat(&name, name.name, AtFlags::REMOVEDIR)?)
}

/// `path_rename`: gives a file or directory another name, in place of what had it.
#[allow(clippy::too_many_arguments, reason = "those of the witx")]
pub(crate) fn path_rename(
    wasi: &Wasi,
    memory: &mut LinearMemory<'_>,
    old_fd: Fd,
    old_path: Pointer,
    old_path_len: Size,
    new_fd: Fd,
    new_path: Pointer,
    new_path_len: Size,
) -> Result<(), Errno> {
    let old = NamedDirectory::to_read(wasi, old_fd, Rights::PATH_RENAME_SOURCE)?;
    let new = NamedDirectory::to_read(wasi, new_fd, Rights::PATH_RENAME_TARGET)?;
    let (old_path, new_path) = (memory.path(old_path, old_path_len)?, memory.path(new_path, new_path_len)?);
    let (old_path, new_path) = (&*old_path, &*new_path);
    if old.0.read_only || new.0.read_only {
        read_only::remove(old.dir()?, old_path, Errno::Busy, Errno::Busy)?;
        return Err(read_only::remove(new.dir()?, new_path, Errno::Busy, Errno::Busy)?);
    }
    let old_name = Name::find(old.dir()?, old_path)?;
    let new_name = Name::find(new.dir()?, new_path)?;
    Ok(rustix::fs::renameat(&old_name, old_name.name, &new_name, new_name.name)?)
}

/// `path_symlink`: makes a symbolic link. Its target may lie outside the directory, because no call follows it there; only
/// absolute targets are refused, since they would mean another file to the host.
pub(crate) fn path_symlink(
    wasi: &Wasi,
    memory: &mut LinearMemory<'_>,
    old_path: Pointer,
    old_path_len: Size,
    fd: Fd,
    new_path: Pointer,
    new_path_len: Size,
) -> Result<(), Errno> {
    let (old_path, new_path) = (memory.path(old_path, old_path_len)?, memory.path(new_path, new_path_len)?);
    let (old_path, new_path) = (&*old_path, &*new_path);
    let refused = |dir: &Dir| match old_path {
        "" => Err(Errno::NoEnt),
        _ => read_only::create(dir, new_path, false),
    };
    let place = NamedDirectory::to_change(wasi, fd, Rights::PATH_SYMLINK, refused)?;
    match old_path {
        "" => return Err(Errno::NoEnt),
        path if path.starts_with('/') => return Err(Errno::Perm),
        _ => {}
    }
    let name = Name::find(place.dir()?, new_path)?;
    Ok(rustix::fs::symlinkat(old_path, &name, name.name)?)
}

/// `path_unlink_file`: removes a name of a file.
pub(crate) fn path_unlink_file(
    wasi: &Wasi,
    memory: &mut LinearMemory<'_>,
    fd: Fd,
    path: Pointer,
    path_len: Size,
) -> Result<(), Errno> {
    let path = memory.path(path, path_len);
    let path = || path.as_deref().map_err(|errno| *errno);
    let refused = |dir: &Dir| read_only::remove(dir, path()?, Errno::IsDir, Errno::IsDir);
    let place = NamedDirectory::to_change(wasi, fd, Rights::PATH_UNLINK_FILE, refused)?;
    let name = Name::find(place.dir()?, path()?)?;
    Ok(sys::unlink(&name, name.name)?)
}
