//! Descriptors and the table that numbers them.

use crate::wasi::errno::Errno;
use crate::wasi::fs::Directory;
use crate::wasi::stream::{Input, Output};
use crate::wasi::transfer::Nowait;
use crate::wasi::types::{Fd, Fdflags, Filetype, Rights};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};

/// An open descriptor of the guest. Calls hold it by an `Arc` while they run, so that a call that blocks does not hold the
/// environment's lock.
#[derive(Debug)]
pub(crate) struct Descriptor {
    pub(crate) object: Object,
    pub(crate) filetype: Filetype,
    /// Whether it was opened below a read-only preopen, where the guest may change nothing.
    pub(crate) read_only: bool,
    /// How a descriptor of the host is kept from blocking.
    pub(crate) nowait: Nowait,
    flags: AtomicU16,
    rights: AtomicU64,
    inheriting: AtomicU64,
    /// The rights it was opened with; those missing from `rights` were given up since.
    original: Rights,
}

/// The host's side of a descriptor.
#[derive(Debug)]
pub(crate) enum Object {
    /// Whatever the host's own descriptor stands for, directories excepted.
    Host(HostFile),
    /// A directory.
    Directory(Directory),
    /// An empty root directory in which nothing can be made. Calls on paths for which the program has no directory end up
    /// here, so that they can be recorded.
    Nowhere,
    /// A stream to read from that the embedder supplied.
    Input(Input),
    /// A stream to write to: captured, or supplied by the embedder.
    Output(Output),
}

/// A descriptor of the host.
#[derive(Debug)]
pub(crate) enum HostFile {
    /// Handed over to the guest, and perhaps shared with others. A listener does not block.
    Owned(OwnedFd),
    /// Opened for the guest alone. It does not block, whatever the guest is told.
    NonBlocking(OwnedFd),
    /// Opened by a path, which may name anything, so it stays non-blocking.
    Found(OwnedFd),
    /// A standard stream of this process. Its flags belong to whoever started it as well, so they are left alone.
    Inherited(BorrowedFd<'static>),
}

impl AsFd for HostFile {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            HostFile::Owned(fd) | HostFile::NonBlocking(fd) | HostFile::Found(fd) => fd.as_fd(),
            HostFile::Inherited(fd) => *fd,
        }
    }
}

impl Descriptor {
    pub(crate) fn new(object: Object, filetype: Filetype, flags: Fdflags, rights: Rights, inheriting: Rights) -> Self {
        let nowait = match &object {
            Object::Host(file) => Nowait::of(file, filetype),
            _ => Nowait::Plain,
        };
        Descriptor {
            object,
            filetype,
            read_only: false,
            nowait,
            flags: AtomicU16::new(flags.0),
            rights: AtomicU64::new(rights.0),
            inheriting: AtomicU64::new(inheriting.0),
            original: rights,
        }
    }

    pub(crate) fn flags(&self) -> Fdflags {
        Fdflags(self.flags.load(Ordering::Relaxed))
    }

    pub(crate) fn set_flags(&self, flags: Fdflags) {
        self.flags.store(flags.0, Ordering::Relaxed);
    }

    pub(crate) fn rights(&self) -> Rights {
        Rights(self.rights.load(Ordering::Relaxed))
    }

    pub(crate) fn inheriting(&self) -> Rights {
        Rights(self.inheriting.load(Ordering::Relaxed))
    }

    /// Gives up all rights but these; `notcapable` if it lacks one of them.
    pub(crate) fn restrict(&self, rights: Rights, inheriting: Rights) -> Result<(), Errno> {
        if !self.rights().has(rights) || !self.inheriting().has(inheriting) {
            return Err(Errno::NotCapable);
        }
        self.rights.fetch_and(rights.0, Ordering::Relaxed);
        self.inheriting.fetch_and(inheriting.0, Ordering::Relaxed);
        Ok(())
    }

    /// Fails unless it has all of `rights`: with `notcapable` if one was given up, with `missing` if it was opened without.
    #[inline]
    pub(crate) fn require(&self, rights: Rights, missing: Errno) -> Result<(), Errno> {
        if self.rights().has(rights) {
            Ok(())
        } else if self.original.has(rights) {
            Err(Errno::NotCapable)
        } else {
            Err(missing)
        }
    }

    /// Fails with `notcapable` if one of `rights` was given up. A right that it was opened without is no reason to fail.
    pub(crate) fn require_unless_never(&self, rights: Rights) -> Result<(), Errno> {
        self.require(Rights(rights.0 & self.original.0), Errno::NotCapable)
    }

    /// Whether this is a pipe or FIFO of the host, for which the witx has no type.
    pub(crate) fn is_pipe(&self) -> bool {
        matches!(self.object, Object::Host(_)) && self.filetype == Filetype::Unknown
    }

    /// The host's descriptor, for operations on files.
    pub(crate) fn file(&self) -> Result<&HostFile, Errno> {
        match &self.object {
            Object::Host(file) => Ok(file),
            _ => Err(Errno::Badf),
        }
    }

    /// The host's descriptor, for operations that seek.
    pub(crate) fn seekable(&self) -> Result<&HostFile, Errno> {
        match &self.object {
            Object::Host(file) => Ok(file),
            Object::Input(_) | Object::Output(_) => Err(Errno::Spipe),
            Object::Directory(_) | Object::Nowhere => Err(Errno::Badf),
        }
    }

    /// The host's descriptor, for reading and writing at a given offset. Pipes, sockets and terminals have no offsets.
    pub(crate) fn positioned(&self) -> Result<&HostFile, Errno> {
        let file = self.seekable()?;
        if self.original.has(Rights::FD_SEEK) { Ok(file) } else { Err(Errno::Spipe) }
    }

    /// The name of a directory that the program was given.
    pub(crate) fn preopened_as(&self) -> Option<&str> {
        match &self.object {
            Object::Directory(directory) if directory.preopened => Some(&directory.name),
            Object::Nowhere => Some("/"),
            _ => None,
        }
    }

    /// The directory, for operations on paths.
    pub(crate) fn directory(&self) -> Result<&Directory, Errno> {
        match &self.object {
            Object::Directory(directory) => Ok(directory),
            Object::Nowhere => Err(Errno::NoEnt),
            Object::Host(_) if self.filetype == Filetype::RegularFile => Err(Errno::NotDir),
            _ => Err(Errno::Badf),
        }
    }
}

/// The numbered descriptors of a program. A new one gets the lowest free number.
#[derive(Debug)]
pub(crate) struct Table {
    slots: Vec<Option<Arc<Descriptor>>>,
    /// No slot below this is free.
    lowest: usize,
    open: usize,
    pub(crate) limit: usize,
    /// The empty directory, and its number, which a descriptor of a file may have at the same time.
    pub(crate) nowhere: Option<(Fd, Arc<Descriptor>)>,
    /// Whether the limit has kept something from being opened.
    reached: AtomicBool,
}

impl Table {
    pub(crate) fn new() -> Self {
        Table { slots: Vec::new(), lowest: 0, open: 0, limit: usize::MAX, nowhere: None, reached: false.into() }
    }

    #[inline]
    pub(crate) fn get(&self, fd: Fd) -> Result<&Arc<Descriptor>, Errno> {
        match self.slots.get(fd as usize) {
            Some(Some(descriptor)) => Ok(descriptor),
            _ => Err(Errno::Badf),
        }
    }

    /// The descriptor of a directory to look paths up in.
    #[inline]
    pub(crate) fn get_for_path(&self, fd: Fd) -> Result<&Arc<Descriptor>, Errno> {
        let own = self.get(fd);
        match &self.nowhere {
            Some((number, nowhere))
                if *number == fd && !own.is_ok_and(|own| matches!(own.object, Object::Directory(_))) =>
            {
                Ok(nowhere)
            }
            _ => own,
        }
    }

    /// Whether one more fits: `mfile` if not.
    pub(crate) fn check_room(&self) -> Result<(), Errno> {
        // Numbers are positive in C, and the table's memory is bounded by the descriptors that the host opened.
        if self.open >= self.limit {
            self.reached.store(true, Ordering::Relaxed);
        }
        if self.open >= self.limit || self.slots.len() >= i32::MAX as usize { Err(Errno::Mfile) } else { Ok(()) }
    }

    /// Whether the limit has kept something from being opened.
    pub(crate) fn reached_limit(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    pub(crate) fn insert(&mut self, descriptor: Descriptor) -> Result<Fd, Errno> {
        self.check_room()?;
        let free = |from: usize| {
            let offset = self.slots.get(from..).and_then(|slots| slots.iter().position(Option::is_none));
            offset.map_or(self.slots.len().max(from), |offset| from + offset)
        };
        let mut index = free(self.lowest);
        self.lowest = index + 1;
        // A real directory must not hide the empty one.
        if let (Some((number, _)), Object::Directory(_)) = (&self.nowhere, &descriptor.object)
            && *number as usize == index
        {
            self.lowest = index;
            index = free(index + 1);
        }
        if index >= self.slots.len() {
            self.slots.resize(index + 1, None);
        }
        self.slots[index] = Some(Arc::new(descriptor));
        self.open += 1;
        Ok(index as Fd)
    }

    /// Puts a descriptor at `index` of a table without gaps and moves those from there on up by one.
    pub(crate) fn insert_at(&mut self, index: usize, descriptor: Descriptor) {
        self.slots.insert(index, Some(Arc::new(descriptor)));
        self.open += 1;
        self.lowest = self.slots.len();
    }

    pub(crate) fn replace(&mut self, fd: Fd, descriptor: Descriptor) {
        self.slots[fd as usize] = Some(Arc::new(descriptor));
    }

    /// How many descriptors are open.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Takes a descriptor out; it is closed when the last call that uses it is done.
    pub(crate) fn remove(&mut self, fd: Fd) -> Result<Arc<Descriptor>, Errno> {
        let index = fd as usize;
        let descriptor = self.slots.get_mut(index).and_then(Option::take).ok_or(Errno::Badf)?;
        self.lowest = self.lowest.min(index);
        self.open -= 1;
        Ok(descriptor)
    }

    /// Gives the descriptor `from` the number `to`, and returns the descriptor that had that number.
    pub(crate) fn renumber(&mut self, from: Fd, to: Fd) -> Result<Option<Arc<Descriptor>>, Errno> {
        self.get(from)?;
        self.get(to)?;
        if from == to {
            return Ok(None);
        }
        let moved = self.remove(from)?;
        Ok(self.slots[to as usize].replace(moved))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Descriptor {
        let input = Object::Input(Input::new(std::io::empty()));
        Descriptor::new(input, Filetype::Unknown, Fdflags::NONE, Rights::FD_READ, Rights::NONE)
    }

    #[test]
    fn numbers_are_reused_lowest_first() {
        let mut table = Table::new();
        for expected in 0..5 {
            assert_eq!(table.insert(stream()), Ok(expected));
        }
        table.remove(3).unwrap();
        table.remove(1).unwrap();
        assert_eq!(table.remove(1).unwrap_err(), Errno::Badf);
        assert_eq!((table.insert(stream()), table.insert(stream()), table.insert(stream())), (Ok(1), Ok(3), Ok(5)));
    }

    #[test]
    fn renumbering_needs_both_and_frees_one() {
        let mut table = Table::new();
        table.insert(stream()).unwrap();
        table.insert(stream()).unwrap();
        assert_eq!(table.renumber(0, 7).unwrap_err(), Errno::Badf);
        assert_eq!(table.renumber(0, u32::MAX).unwrap_err(), Errno::Badf);
        assert!(table.renumber(1, 1).unwrap().is_none());
        assert!(table.renumber(1, 0).unwrap().is_some());
        assert_eq!(table.get(1).unwrap_err(), Errno::Badf);
        assert_eq!(table.insert(stream()), Ok(1));
    }

    #[test]
    fn the_limit_counts_open_descriptors() {
        let mut table = Table::new();
        table.limit = 2;
        table.insert(stream()).unwrap();
        table.insert(stream()).unwrap();
        assert_eq!(table.insert(stream()), Err(Errno::Mfile));
        table.remove(0).unwrap();
        assert_eq!(table.insert(stream()), Ok(0));
    }

    /// The empty directory shares its number with files, but not with a real directory, which would hide it.
    #[test]
    fn nowhere_takes_no_number_but_a_directorys() {
        use cap_std::ambient_authority;
        let directory = |name: &str| {
            let dir = cap_std::fs::Dir::open_ambient_dir(".", ambient_authority()).unwrap();
            let object = Object::Directory(Directory::given(dir, name.into(), Default::default()));
            Descriptor::new(object, Filetype::Directory, Fdflags::NONE, Rights::NONE, Rights::NONE)
        };
        let mut table = Table::new();
        table.insert(stream()).unwrap();
        let nowhere = Descriptor::new(Object::Nowhere, Filetype::Directory, Fdflags::NONE, Rights::NONE, Rights::NONE);
        table.nowhere = Some((1, Arc::new(nowhere)));
        let is_nowhere =
            |table: &Table, fd| table.get_for_path(fd).is_ok_and(|it| matches!(it.object, Object::Nowhere));
        assert!(is_nowhere(&table, 1) && table.get(1).is_err());
        assert_eq!(table.insert(directory("a")), Ok(2));
        assert!(is_nowhere(&table, 1) && table.get(1).is_err() && !is_nowhere(&table, 2));
        assert_eq!(table.insert(stream()), Ok(1));
        assert!(is_nowhere(&table, 1) && table.get(1).is_ok() && !is_nowhere(&table, 0));
        assert_eq!(table.insert(stream()), Ok(3));
        assert!(table.get_for_path(9).is_err());
    }

    #[test]
    fn rights_are_given_up_for_good() {
        let descriptor = stream();
        assert_eq!(descriptor.require(Rights::FD_WRITE, Errno::Badf), Err(Errno::Badf));
        assert_eq!(descriptor.restrict(Rights::FD_WRITE, Rights::NONE), Err(Errno::NotCapable));
        assert_eq!(descriptor.restrict(Rights::NONE, Rights::NONE), Ok(()));
        assert_eq!(descriptor.require(Rights::FD_READ, Errno::Badf), Err(Errno::NotCapable));
    }
}
