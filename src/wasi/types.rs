//! The types of the witx: flags, enumerations, and the records written to guest memory.

use crate::wasi::errno::Errno;
use rustix::fs::Stat;

/// Names for WebAssembly's integers as the witx uses them, so that signatures say what they mean.
pub(crate) type Fd = u32;
/// An address in the guest's memory.
pub(crate) type Pointer = u32;
/// A number of bytes or elements.
pub(crate) type Size = u32;
/// A length of or position in a file.
pub(crate) type Filesize = u64;
/// A relative position in a file.
pub(crate) type Filedelta = i64;
/// Nanoseconds.
pub(crate) type Timestamp = u64;
/// A position in a directory.
pub(crate) type Dircookie = u64;
/// Any flags or enumeration narrower than 32 bits.
pub(crate) type Bits = u32;
/// A set of rights.
pub(crate) type RightsBits = u64;
/// The exit code of a program.
pub(crate) type Exitcode = u32;

/// Names that stand for the same integers in the list of functions. They tell a trace how to show each argument.
pub(crate) mod list {
    use super::{Bits, Pointer};

    /// A path below the directory that the previous argument names; the next argument is its length.
    pub(crate) type Path = Pointer;
    /// The target of a symbolic link; the next argument is its length.
    pub(crate) type Text = Pointer;
    /// Buffers to read into; the next argument is their number.
    pub(crate) type Iovs = Pointer;
    /// Buffers to write from; the next argument is their number.
    pub(crate) type Ciovs = Pointer;
    /// A buffer to be filled; the next argument is its size.
    pub(crate) type Buffer = Pointer;
    /// Where a result goes.
    pub(crate) type Out16 = Pointer;
    /// Where a result goes.
    pub(crate) type Out32 = Pointer;
    /// Where a result goes.
    pub(crate) type Out64 = Pointer;
    /// Where a `fdstat` goes.
    pub(crate) type OutFdstat = Pointer;
    /// Where a `filestat` goes.
    pub(crate) type OutFilestat = Pointer;
    /// What to wait for.
    pub(crate) type Subscriptions = Pointer;
    /// `advice`.
    pub(crate) type AdviceBits = Bits;
    /// `clockid`.
    pub(crate) type ClockBits = Bits;
    /// `fdflags`.
    pub(crate) type FdflagsBits = Bits;
    /// `fstflags`.
    pub(crate) type FstflagsBits = Bits;
    /// `lookupflags`.
    pub(crate) type LookupBits = Bits;
    /// `oflags`.
    pub(crate) type OflagsBits = Bits;
    /// `sdflags`.
    pub(crate) type ShutdownBits = Bits;
    /// `whence`.
    pub(crate) type WhenceBits = Bits;
}

/// The module that a function was imported from, which decides on the layout of some records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Abi {
    /// `wasi_snapshot_preview1`.
    Preview1,
    /// `wasi_unstable`, its predecessor: `filestat` with a 32-bit link count, `whence` numbered otherwise, a clock
    /// subscription with one more field.
    Unstable,
}

macro_rules! flags {
    ($(#[$doc:meta])* $name:ident: $repr:ty { $($(#[$flag_doc:meta])* $flag:ident = $bit:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) struct $name(pub(crate) $repr);

        #[allow(dead_code, reason = "the lists are those of the witx")]
        impl $name {
            $($(#[$flag_doc])* pub(crate) const $flag: Self = $name(1 << $bit);)*
            pub(crate) const ALL: Self = $name($(1 << $bit)|*);
            pub(crate) const NONE: Self = $name(0);
            /// The names of the witx, but for their case.
            pub(crate) const NAMES: &[(&str, Self)] = &[$((stringify!($flag), Self::$flag)),*];

            pub(crate) const fn has(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            pub(crate) const fn has_any(self, other: Self) -> bool {
                self.0 & other.0 != 0
            }

            pub(crate) const fn with(self, other: Self) -> Self {
                $name(self.0 | other.0)
            }

            pub(crate) const fn without(self, other: Self) -> Self {
                $name(self.0 & !other.0)
            }
        }
    };
}

flags! {
    /// What may be done with a descriptor.
    Rights: u64 {
        FD_DATASYNC = 0,
        FD_READ = 1,
        FD_SEEK = 2,
        FD_FDSTAT_SET_FLAGS = 3,
        FD_SYNC = 4,
        FD_TELL = 5,
        FD_WRITE = 6,
        FD_ADVISE = 7,
        FD_ALLOCATE = 8,
        PATH_CREATE_DIRECTORY = 9,
        PATH_CREATE_FILE = 10,
        PATH_LINK_SOURCE = 11,
        PATH_LINK_TARGET = 12,
        PATH_OPEN = 13,
        FD_READDIR = 14,
        PATH_READLINK = 15,
        PATH_RENAME_SOURCE = 16,
        PATH_RENAME_TARGET = 17,
        PATH_FILESTAT_GET = 18,
        PATH_FILESTAT_SET_SIZE = 19,
        PATH_FILESTAT_SET_TIMES = 20,
        FD_FILESTAT_GET = 21,
        FD_FILESTAT_SET_SIZE = 22,
        FD_FILESTAT_SET_TIMES = 23,
        PATH_SYMLINK = 24,
        PATH_REMOVE_DIRECTORY = 25,
        PATH_UNLINK_FILE = 26,
        POLL_FD_READWRITE = 27,
        SOCK_SHUTDOWN = 28,
        SOCK_ACCEPT = 29,
    }
}

impl Rights {
    /// The rights to a directory.
    pub(crate) const DIRECTORY: Self = Rights(
        Self::PATH_CREATE_DIRECTORY.0
            | Self::PATH_CREATE_FILE.0
            | Self::PATH_LINK_SOURCE.0
            | Self::PATH_LINK_TARGET.0
            | Self::PATH_OPEN.0
            | Self::FD_READDIR.0
            | Self::PATH_READLINK.0
            | Self::PATH_RENAME_SOURCE.0
            | Self::PATH_RENAME_TARGET.0
            | Self::PATH_SYMLINK.0
            | Self::PATH_REMOVE_DIRECTORY.0
            | Self::PATH_UNLINK_FILE.0
            | Self::PATH_FILESTAT_GET.0
            | Self::PATH_FILESTAT_SET_TIMES.0
            | Self::FD_FILESTAT_GET.0
            | Self::PATH_FILESTAT_SET_SIZE.0
            | Self::FD_FILESTAT_SET_TIMES.0
            | Self::FD_SYNC.0
            | Self::FD_DATASYNC.0
            | Self::POLL_FD_READWRITE.0,
    );

    /// Rights that descriptors opened in a directory may have: all, so that a program can ask for everything. A descriptor gets
    /// those of them that its type allows.
    pub(crate) const INHERITING: Self = Self::ALL;

    /// The rights to a file that can be read and written.
    pub(crate) const FILE: Self = Rights(
        Self::FD_DATASYNC.0
            | Self::FD_READ.0
            | Self::FD_SEEK.0
            | Self::FD_FDSTAT_SET_FLAGS.0
            | Self::FD_SYNC.0
            | Self::FD_TELL.0
            | Self::FD_WRITE.0
            | Self::FD_ADVISE.0
            | Self::FD_ALLOCATE.0
            | Self::FD_FILESTAT_GET.0
            | Self::FD_FILESTAT_SET_SIZE.0
            | Self::FD_FILESTAT_SET_TIMES.0
            | Self::POLL_FD_READWRITE.0,
    );

    /// The rights to a pipe, a terminal or a stream of the embedder, without those to read and write.
    pub(crate) const STREAM: Self =
        Rights(Self::FD_FDSTAT_SET_FLAGS.0 | Self::FD_FILESTAT_GET.0 | Self::POLL_FD_READWRITE.0);
}

flags! {
    /// Settings of an open descriptor.
    Fdflags: u16 {
        APPEND = 0,
        DSYNC = 1,
        NONBLOCK = 2,
        RSYNC = 3,
        SYNC = 4,
    }
}

flags! {
    /// How `path_open` opens.
    Oflags: u16 {
        CREAT = 0,
        DIRECTORY = 1,
        EXCL = 2,
        TRUNC = 3,
    }
}

flags! {
    /// How the last component of a path is looked up.
    Lookupflags: u32 {
        SYMLINK_FOLLOW = 0,
    }
}

flags! {
    /// Which times to set, and to what.
    Fstflags: u16 {
        ATIM = 0,
        ATIM_NOW = 1,
        MTIM = 2,
        MTIM_NOW = 3,
    }
}

/// `bits` as the flags `$name`, or `inval` where there are others among them.
macro_rules! checked_flags {
    ($name:ident, $bits:expr) => {{
        let bits = $bits;
        match bits & !($name::ALL.0 as u32) {
            0 => Ok($name(bits as _)),
            _ => Err($crate::wasi::errno::Errno::Inval),
        }
    }};
}
pub(crate) use checked_flags;

/// What a descriptor or a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Filetype {
    /// Any other type; FIFOs among them, for which the witx has no number.
    Unknown = 0,
    BlockDevice = 1,
    CharacterDevice = 2,
    Directory = 3,
    RegularFile = 4,
    SocketDgram = 5,
    SocketStream = 6,
    SymbolicLink = 7,
}

impl From<rustix::fs::FileType> for Filetype {
    fn from(file_type: rustix::fs::FileType) -> Self {
        use rustix::fs::FileType;
        match file_type {
            FileType::RegularFile => Filetype::RegularFile,
            FileType::Directory => Filetype::Directory,
            FileType::Symlink => Filetype::SymbolicLink,
            FileType::Socket => Filetype::SocketStream,
            FileType::CharacterDevice => Filetype::CharacterDevice,
            FileType::BlockDevice => Filetype::BlockDevice,
            FileType::Fifo | FileType::Unknown => Filetype::Unknown,
        }
    }
}

/// `filestat`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filestat {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
    pub(crate) filetype: Filetype,
    pub(crate) nlink: u64,
    pub(crate) size: u64,
    pub(crate) atim: Timestamp,
    pub(crate) mtim: Timestamp,
    pub(crate) ctim: Timestamp,
}

/// Nanoseconds since 1970; a time outside the range of `timestamp` becomes its nearest value.
fn nanoseconds(seconds: i64, nanoseconds: u64) -> Timestamp {
    let time = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    time.clamp(0, u64::MAX.into()) as u64
}

impl From<&Stat> for Filestat {
    #[allow(clippy::unnecessary_cast, clippy::useless_conversion, reason = "the widths differ between targets")]
    fn from(stat: &Stat) -> Self {
        Filestat {
            dev: stat.st_dev as u64,
            ino: stat.st_ino as u64,
            filetype: rustix::fs::FileType::from_raw_mode(stat.st_mode).into(),
            nlink: stat.st_nlink as u64,
            size: stat.st_size as u64,
            atim: nanoseconds(stat.st_atime as i64, stat.st_atime_nsec as u64),
            mtim: nanoseconds(stat.st_mtime as i64, stat.st_mtime_nsec as u64),
            ctim: nanoseconds(stat.st_ctime as i64, stat.st_ctime_nsec as u64),
        }
    }
}

impl Filestat {
    /// Bytes of the longer of its two layouts.
    pub(crate) const MAX_SIZE: usize = 64;

    /// Bytes it takes in guest memory.
    pub(crate) const fn size(abi: Abi) -> u32 {
        match abi {
            Abi::Preview1 => 64,
            Abi::Unstable => 56,
        }
    }

    /// Byte offset of the size.
    pub(crate) const fn size_offset(abi: Abi) -> u32 {
        match abi {
            Abi::Preview1 => 32,
            Abi::Unstable => 24,
        }
    }

    /// What guest memory gets: the first [`Filestat::size`] bytes.
    pub(crate) fn encode(&self, abi: Abi) -> [u8; Self::MAX_SIZE] {
        let mut bytes = [0; Self::MAX_SIZE];
        bytes[0..8].copy_from_slice(&self.dev.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.ino.to_le_bytes());
        bytes[16] = self.filetype as u8;
        let rest = match abi {
            Abi::Preview1 => {
                bytes[24..32].copy_from_slice(&self.nlink.to_le_bytes());
                32
            }
            Abi::Unstable => {
                let nlink = u32::try_from(self.nlink).unwrap_or(u32::MAX);
                bytes[20..24].copy_from_slice(&nlink.to_le_bytes());
                24
            }
        };
        for (index, value) in [self.size, self.atim, self.mtim, self.ctim].into_iter().enumerate() {
            bytes[rest + 8 * index..][..8].copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }
}

/// Where `fd_seek` counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whence {
    Set,
    Cur,
    End,
}

impl Whence {
    pub(crate) fn decode(abi: Abi, value: Bits) -> Result<Self, Errno> {
        match (abi, value) {
            (Abi::Preview1, 0) | (Abi::Unstable, 2) => Ok(Whence::Set),
            (Abi::Preview1, 1) | (Abi::Unstable, 0) => Ok(Whence::Cur),
            (Abi::Preview1, 2) | (Abi::Unstable, 1) => Ok(Whence::End),
            _ => Err(Errno::Inval),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filestat_layouts() {
        let stat = Filestat {
            dev: 1,
            ino: 2,
            filetype: Filetype::RegularFile,
            nlink: 0x1_0000_0005,
            size: 6,
            atim: 7,
            mtim: 8,
            ctim: 9,
        };
        let new = stat.encode(Abi::Preview1);
        assert_eq!((new[16], new[24], new[28], new[32], new[56]), (4, 5, 1, 6, 9));
        let old = stat.encode(Abi::Unstable);
        assert_eq!((old[16], old[20..24].to_vec(), old[24], old[48]), (4, vec![255; 4], 6, 9));
    }

    #[test]
    fn times_before_1970_and_far_away_are_clamped() {
        assert_eq!(nanoseconds(-1, 0), 0);
        assert_eq!(nanoseconds(i64::MAX, 0), u64::MAX);
        assert_eq!(nanoseconds(1, 5), 1_000_000_005);
    }

    #[test]
    fn unknown_flags_are_refused() {
        assert_eq!(checked_flags!(Oflags, 15), Ok(Oflags::ALL));
        assert_eq!(checked_flags!(Oflags, 16), Err(Errno::Inval));
        assert_eq!(Whence::decode(Abi::Unstable, 2), Ok(Whence::Set));
        assert_eq!(Whence::decode(Abi::Preview1, 3), Err(Errno::Inval));
    }
}
