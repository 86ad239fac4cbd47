//! procfs, the file system that shows the processes of the host.

use std::ffi::CString;

use rustix::fd::{AsFd, AsRawFd};
use rustix::io::Result;

/// Whether an open file or directory is on procfs.
pub(crate) fn is_procfs(file: impl AsFd) -> bool {
    rustix::fs::fstatfs(file).is_ok_and(|system| system.f_type == rustix::fs::PROC_SUPER_MAGIC)
}

/// The real name of an open file of procfs; `None` if the file, whose device number is `device`, is not on procfs.
///
/// It is the name of what is open, not of what was asked for, which may have changed since.
pub(crate) fn procfs_name(file: impl AsFd, device: u64) -> Result<Option<CString>> {
    let file = file.as_fd();
    // File systems on a device of their own need no second look.
    if rustix::fs::major(device) != 0 || !is_procfs(file) {
        return Ok(None);
    }
    rustix::fs::readlink(format!("/proc/self/fd/{}", file.as_raw_fd()), Vec::new()).map(Some)
}
