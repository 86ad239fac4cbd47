//! The errors of calls that would change something in a read-only directory: those of Linux on a file system that is mounted
//! read-only, with `perm` in the place of `rofs`.
//!
//! The functions here only look. The change itself is never tried.

use crate::wasi::errno::Errno;
use crate::wasi::fs::{self, Open};
use crate::wasi::name::Name;
use crate::wasi::types::{Filestat, Filetype, Lookupflags, Oflags, Rights};
use cap_std::fs::Dir;
use rustix::fs::AtFlags;

/// The most symbolic links that are followed, as Linux has it.
const MAX_LINKS: usize = 40;

/// The error for making something at `path`: a directory if `directory`, else anything else.
pub(super) fn create(dir: &Dir, path: &str, directory: bool) -> Result<Errno, Errno> {
    let found = Name::find(dir, path)?;
    match rustix::fs::statat(&found, found.bare(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Err(Errno::Exist),
        Err(rustix::io::Errno::NOENT) if found.has_slash() && !directory => Err(Errno::NoEnt),
        Err(rustix::io::Errno::NOENT) => Ok(Errno::Perm),
        Err(errno) => Err(errno.into()),
    }
}

/// The error for removing or replacing the name `path`. `dot` and `dots` are the errors for `.` and `..`. Linux refuses before
/// it looks whether the name exists.
pub(super) fn remove(dir: &Dir, path: &str, dot: Errno, dots: Errno) -> Result<Errno, Errno> {
    match Name::find(dir, path)?.bare() {
        "." => Err(dot),
        ".." => Err(dots),
        _ => Ok(Errno::Perm),
    }
}

/// The error for opening `path` so as to write, create or truncate a file; `success` if the file exists and was to be created
/// only otherwise.
pub(super) fn open(dir: &Dir, path: &str, how: Open) -> Result<Errno, Errno> {
    let creates = how.oflags.has(Oflags::CREAT);
    if creates {
        let found = Name::find(dir, path)?;
        if found.has_slash() {
            return Err(Errno::IsDir);
        }
        if how.oflags.has(Oflags::EXCL) {
            return create(dir, path, false);
        }
    }
    let found = match fs::resolve(dir, path, how.lookup) {
        Err(Errno::NoEnt) if creates => return create_behind_links(dir, path, how.lookup),
        found => Filestat::from(&found?.stat()?).filetype,
    };
    match found {
        Filetype::SymbolicLink => Err(Errno::Loop),
        Filetype::Directory => Err(Errno::IsDir),
        _ if how.rights.has(Rights::FD_WRITE) || how.oflags.has(Oflags::TRUNC) => Ok(Errno::Perm),
        _ => Ok(Errno::Success),
    }
}

/// The error for creating the missing file `path`: it may be a symbolic link, whose target is then the file to create.
fn create_behind_links(dir: &Dir, path: &str, lookup: Lookupflags) -> Result<Errno, Errno> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let found = Name::find(dir, &path)?;
        let target = match rustix::fs::readlinkat(&found, found.bare(), Vec::new()) {
            Ok(target) if lookup.has(Lookupflags::SYMLINK_FOLLOW) => target,
            _ => return Ok(Errno::Perm),
        };
        let target = target.to_str().map_err(|_| Errno::Ilseq)?;
        path = if target.starts_with('/') { target.to_owned() } else { format!("{}{target}", found.directory) };
    }
    Err(Errno::Loop)
}
