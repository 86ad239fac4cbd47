//! What a path names below a directory, found without opening it.

use std::io;

use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt, OpenOptionsMaybeDirExt};
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, OFlags, Stat, Timestamps};

/// Something that a path names. Nothing was waited for to find it, and no permission on it was needed.
pub(crate) struct ResolvedPath(OwnedFd);

impl ResolvedPath {
    /// Finds what `path` names below `dir`; `follow` tells whether a symbolic link that it ends in is followed.
    pub fn resolve(dir: &Dir, path: &str, follow: bool) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .follow(if follow { FollowSymlinks::Yes } else { FollowSymlinks::No })
            .maybe_dir(true)
            .custom_flags(OFlags::PATH.bits() as i32);
        Ok(ResolvedPath(dir.open_with(path, &options)?.into_std().into()))
    }

    /// Its attributes.
    pub fn stat(&self) -> io::Result<Stat> {
        Ok(rustix::fs::fstat(&self.0)?)
    }

    /// Sets its times.
    pub fn set_times(&self, times: &Timestamps) -> io::Result<()> {
        match rustix::fs::utimensat(&self.0, "", times, AtFlags::EMPTY_PATH) {
            // Linux before 5.8 does not take an empty path here.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {
                let path = format!("/proc/self/fd/{}", self.0.as_raw_fd());
                Ok(rustix::fs::utimensat(CWD, path, times, AtFlags::empty())?)
            }
            result => Ok(result?),
        }
    }
}

/// Opens the directory that `path` names below `dir`, for looking things up in it. No permission to list it is needed.
pub(crate) fn open_directory(dir: &Dir, path: &str) -> io::Result<OwnedFd> {
    let mut options = OpenOptions::new();
    options.read(true).maybe_dir(true).custom_flags((OFlags::PATH | OFlags::DIRECTORY).bits() as i32);
    Ok(dir.open_with(path, &options)?.into_std().into())
}
