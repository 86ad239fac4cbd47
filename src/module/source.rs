//! Access to the bytes of a module: in memory, or in a file whose parts are read when they are needed.

use std::borrow::Cow;
use std::fs::{File, Metadata};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};

use memmap2::MmapMut;

use crate::error::{Error, Result};

/// The bytes of a binary module.
pub(crate) enum ModuleSource {
    Memory(Box<[u8]>),
    File(FileSource),
}

impl ModuleSource {
    /// Bytes of the whole module.
    pub fn len(&self) -> usize {
        match self {
            ModuleSource::Memory(bytes) => bytes.len(),
            ModuleSource::File(file) => file.len(),
        }
    }

    /// A part of the module. From a file this is a copy, so it does not change any more.
    ///
    /// # Errors
    /// [`Resource`](crate::ErrorKind::Resource) if the file can't be read, or was written to since it was opened.
    pub fn read(&self, range: Range<usize>) -> Result<Cow<'_, [u8]>> {
        match self {
            ModuleSource::Memory(bytes) => Ok(bytes[range].into()),
            ModuleSource::File(file) => {
                let mut bytes = vec![0; range.len()];
                file.read_into(range.start, &mut bytes)?;
                Ok(bytes.into())
            }
        }
    }

    /// Copies the bytes from `start` of one data segment into `target`.
    ///
    /// # Errors
    /// As [`ModuleSource::read`]; part of `target` may have been written then.
    pub fn copy_data(&self, start: usize, target: &mut [u8]) -> Result<()> {
        let loaded = match self {
            ModuleSource::Memory(bytes) => Some(&bytes[start..][..target.len()]),
            ModuleSource::File(file) => file.loaded_data(start, target.len()),
        };
        match (self, loaded) {
            (_, Some(bytes)) => target.copy_from_slice(bytes),
            (ModuleSource::File(file), None) => file.read_into(start, target)?,
            (ModuleSource::Memory(_), None) => unreachable!("all of it is in memory"),
        }
        Ok(())
    }
}

/// A module's file. It is only read by position, never through a mapping, so that changing the file gives an error at
/// worst: a mapping would show changes to bytes that were validated, and raise SIGBUS where the file was truncated.
pub(crate) struct FileSource {
    file: File,
    len: usize,
    stamp: Stamp,
    data: Option<LoadedData>,
}

/// The part of a data section that was read while it was decoded.
pub(crate) struct LoadedData {
    /// Byte offset of the section.
    pub start: usize,
    /// Room for the whole section; bytes outside of `ranges` are zero, and their pages were never touched.
    pub bytes: MmapMut,
    /// The parts that were read, as byte offsets in the module: ascending, and neither overlapping nor adjacent.
    pub ranges: Vec<Range<usize>>,
}

/// Metadata that changes when a file is written to. Writes within one tick of the file system's clock may go unseen,
/// and times can be set: this gives clear errors, and safety does not rely on it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    len: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Stamp { len: metadata.len(), modified: (metadata.mtime(), metadata.mtime_nsec()) }
    }
}

impl FileSource {
    /// A file of which nothing has been loaded; `metadata` was taken before its first byte was read.
    pub fn new(file: File, metadata: &Metadata, len: usize) -> Self {
        FileSource { file, len, stamp: Stamp::of(metadata), data: None }
    }

    /// Bytes of the module.
    pub fn len(&self) -> usize {
        self.len
    }

    #[cfg_attr(not(jit), expect(dead_code, reason = "only the cache of compiled code looks at the file"))]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Keeps the parts of the data section that were read.
    pub fn set_loaded_data(&mut self, data: LoadedData) {
        self.data = Some(data);
    }

    /// Fills `target` from byte `start` on.
    ///
    /// # Errors
    /// As [`ModuleSource::read`].
    pub fn read_into(&self, start: usize, target: &mut [u8]) -> Result<()> {
        let refused = |error| Error::resource(format!("cannot read the module's file any more: {error}"));
        let read = self.file.read_exact_at(target, start as u64);
        // This error comes first: a truncated file is best described as one that was changed.
        if Stamp::of(&self.file.metadata().map_err(refused)?) != self.stamp {
            return Err(Error::resource("the module's file was written to after the module was loaded"));
        }
        read.map_err(refused)
    }

    /// A part of a data segment, if it was read when the section was decoded.
    fn loaded_data(&self, start: usize, len: usize) -> Option<&[u8]> {
        let LoadedData { start: section, bytes, ranges } = self.data.as_ref()?;
        let before = ranges.partition_point(|range| range.start <= start);
        let range = &ranges[before.checked_sub(1)?];
        (start + len <= range.end).then(|| &bytes[start - section..][..len])
    }
}
