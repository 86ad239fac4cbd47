//! Files in memory: initial contents of memories, mapped copy-on-write, and others.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};

use super::space::shortage;
use crate::error::{Error, Result};

/// Pages in a file that is in memory only.
pub(crate) struct Image {
    file: File,
    start: usize,
    len: usize,
    id: u64,
}

impl Image {
    pub fn new(bytes: &[u8], start: usize) -> Option<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(rustix::fs::memfd_create("wasmrun-memory", flags).ok()?);
        file.write_all_at(bytes, 0).ok()?;
        // Never changed or cut off, so that a mapping can neither change nor fault.
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals).ok()?;
        Some(Image { file, start, len: bytes.len(), id: NEXT.fetch_add(1, Ordering::Relaxed) })
    }

    /// The bytes of the memory that it has.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.start..self.start + self.len
    }

    /// A number that no other image of the process has or will have.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Maps it over a memory. What is written there stays in that memory.
    ///
    /// # Errors
    /// [`Resource`](crate::ErrorKind::Resource) if the system refuses.
    ///
    /// # Safety
    /// `base` must be that of a memory of the module the image was made for, of which nothing is needed any more
    /// in the part the image has.
    pub unsafe fn map(&self, base: *mut u8) -> Result<()> {
        let refused = |error| {
            let shortage = shortage(self.len);
            Error::resource(format!("cannot map a memory's initial data: {error}: {shortage}"))
        };
        let flags = MapFlags::PRIVATE | MapFlags::FIXED;
        // SAFETY: the part lies in the accessible pages of the memory, whose mapping is replaced.
        unsafe {
            let place = base.add(self.start).cast();
            rustix::mm::mmap(place, self.len, ProtFlags::READ | ProtFlags::WRITE, flags, &self.file, 0)
                .map_err(refused)?;
        }
        Ok(())
    }
}

/// A file that is in memory only, with these bytes. Only builds with a JIT need it, and these are for Linux.
#[cfg(jit)]
pub(crate) fn anonymous_file(name: &str, bytes: &[u8]) -> std::io::Result<File> {
    let file = File::from(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?);
    file.write_all_at(bytes, 0)?;
    Ok(file)
}
