//! procfs, which is taken to be on Linux only.

use std::ffi::CString;

use rustix::fd::AsFd;
use rustix::io::Result;

/// No file is on procfs.
pub(crate) fn is_procfs(_file: impl AsFd) -> bool {
    false
}

/// No file has a name on procfs.
pub(crate) fn procfs_name(_file: impl AsFd, _device: u64) -> Result<Option<CString>> {
    Ok(None)
}
