//! Opening, listing and describing the host's directories and files for a guest.

use crate::sys::{ResolvedPath, is_procfs};
use crate::wasi::errno::Errno;
use crate::wasi::guest::PATH_MAX;
use crate::wasi::procfs;
use crate::wasi::read_only;
use crate::wasi::stream::lock;
use crate::wasi::table::{Descriptor, HostFile, Object};
use crate::wasi::types::{Fdflags, Filestat, Filetype, Fstflags, Lookupflags, Oflags, Rights, Timestamp};
use crate::wasi::watch::join;
use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt, OpenOptionsMaybeDirExt, OpenOptionsSyncExt};
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::net::SocketType;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A directory that the guest has open.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) dir: Dir,
    /// Its name as the program knows it, for messages.
    pub(crate) name: String,
    /// Whether it is one of the directories that the embedder gave the program.
    pub(crate) preopened: bool,
    /// Whether it is one of procfs that was given, or was found below one.
    procfs: bool,
    listing: Mutex<Listing>,
    budget: ListingBudget,
}

/// Bytes that the listings of all directories of a program may take together. Without a bound, a program could have
/// one big directory listed by many descriptors.
#[derive(Clone, Debug)]
pub(crate) struct ListingBudget(Arc<AtomicUsize>);

impl Default for ListingBudget {
    fn default() -> Self {
        ListingBudget(Arc::new(AtomicUsize::new(256 << 20)))
    }
}

/// What has been read of a directory so far.
///
/// A cookie is an index into this list, so it stays valid whatever is created or removed between two calls, fits the
/// 32-bit `long` of a guest's `telldir`, and can be gone back to. Cookie 0 starts afresh.
#[derive(Debug, Default)]
struct Listing {
    source: Option<rustix::fs::Dir>,
    entries: Vec<DirectoryEntry>,
    /// Taken from the budget.
    bytes: usize,
}

/// One name in a directory.
#[derive(Debug)]
pub(crate) struct DirectoryEntry {
    pub(crate) ino: u64,
    pub(crate) filetype: Filetype,
    pub(crate) name: Box<[u8]>,
}

impl Directory {
    /// A directory that the program is given under a name.
    pub(crate) fn given(dir: Dir, name: String, budget: ListingBudget) -> Self {
        let procfs = is_procfs(&dir);
        Directory { dir, name, preopened: true, procfs, listing: Mutex::default(), budget }
    }

    /// A directory that the program opened in this one.
    fn opened(&self, dir: Dir, path: &str) -> Self {
        let (procfs, budget) = (self.procfs, self.budget.clone());
        // A program that opens directories one in the other for ever must not make their names grow for ever.
        let name = match self.name.len() + path.len() {
            0..=PATH_MAX => join(&self.name, path),
            _ => path.into(),
        };
        Directory { dir, name, preopened: false, procfs, listing: Mutex::default(), budget }
    }

    /// Calls `visit` with the entries from number `cookie` on, until it returns false or there are no more.
    pub(crate) fn read(&self, cookie: u64, mut visit: impl FnMut(u64, &DirectoryEntry) -> bool) -> Result<(), Errno> {
        let mut listing = lock(&self.listing);
        if cookie == 0 || listing.entries.is_empty() {
            let new = self.start_listing()?;
            self.budget.0.fetch_add(listing.bytes, Ordering::Relaxed);
            *listing = new;
        }
        let mut index = cookie;
        loop {
            while index >= listing.entries.len() as u64 {
                match self.next_entry(&mut listing)? {
                    Some(entry) => {
                        let bytes = size_of::<DirectoryEntry>() + entry.name.len();
                        let take = |left: usize| left.checked_sub(bytes);
                        let taken = self.budget.0.try_update(Ordering::Relaxed, Ordering::Relaxed, take);
                        taken.map_err(|_| Errno::NoMem)?;
                        listing.bytes += bytes;
                        listing.entries.push(entry);
                    }
                    None => return Ok(()),
                }
            }
            if !visit(index + 1, &listing.entries[index as usize]) {
                return Ok(());
            }
            index += 1;
        }
    }

    /// A new descriptor of the directory that can be read: `dir` may have been opened with `O_PATH`.
    pub(crate) fn readable(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.dir, ".", flags, Mode::empty())?)
    }

    fn start_listing(&self) -> Result<Listing, Errno> {
        let source = rustix::fs::Dir::new(self.readable()?)?;
        let ino = Filestat::from(&rustix::fs::fstat(&self.dir)?).ino;
        // `..` has the number of the directory itself: what is above a preopen is none of the guest's business.
        let dots =
            [".", ".."].map(|name| DirectoryEntry { ino, filetype: Filetype::Directory, name: name.as_bytes().into() });
        Ok(Listing { source: Some(source), entries: dots.into(), bytes: 0 })
    }

    fn next_entry(&self, listing: &mut Listing) -> Result<Option<DirectoryEntry>, Errno> {
        let Some(source) = &mut listing.source else { return Ok(None) };
        loop {
            let Some(entry) = source.read() else {
                listing.source = None;
                return Ok(None);
            };
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let filetype = match entry.file_type() {
                // Some file systems do not say.
                FileType::Unknown => match rustix::fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => Filestat::from(&stat).filetype,
                    Err(_) => Filetype::Unknown,
                },
                known => known.into(),
            };
            return Ok(Some(DirectoryEntry { ino: entry.ino(), filetype, name: name.to_bytes().into() }));
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.budget.0.fetch_add(lock(&self.listing).bytes, Ordering::Relaxed);
    }
}

/// The attributes of an open file.
pub(crate) fn stat(fd: impl AsFd) -> Result<Filestat, Errno> {
    let fd = fd.as_fd();
    let mut stat = Filestat::from(&rustix::fs::fstat(fd)?);
    if stat.filetype == Filetype::SocketStream && rustix::net::sockopt::socket_type(fd) == Ok(SocketType::DGRAM) {
        stat.filetype = Filetype::SocketDgram;
    }
    Ok(stat)
}

/// The type of a descriptor of the host, and the rights to it if it can be read and written.
///
/// C libraries take a character device for a terminal exactly if it can't seek, so only terminals lack that right.
pub(crate) fn classify(file: &HostFile) -> (Filetype, Rights) {
    let filetype = stat(file).map_or(Filetype::Unknown, |stat| stat.filetype);
    let read_write = Rights::FD_READ.with(Rights::FD_WRITE);
    let rights = match filetype {
        Filetype::CharacterDevice if rustix::termios::isatty(file) => {
            Rights::FILE.without(Rights::FD_SEEK.with(Rights::FD_TELL))
        }
        Filetype::SocketStream | Filetype::SocketDgram => Rights::STREAM.with(read_write).with(Rights::SOCK_SHUTDOWN),
        Filetype::Unknown => {
            let more = Rights::FD_SYNC.with(Rights::FD_DATASYNC).with(Rights::FD_FILESTAT_SET_TIMES);
            Rights::STREAM.with(read_write).with(more)
        }
        _ => Rights::FILE,
    };
    (filetype, rights)
}

/// How to open a path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open {
    pub(crate) lookup: Lookupflags,
    pub(crate) oflags: Oflags,
    pub(crate) fdflags: Fdflags,
    pub(crate) rights: Rights,
}

/// Opens `path` below `directory`, which is read-only for the guest if `read_only`.
///
/// No later call waits for what was opened: FIFOs and devices are opened with `O_NONBLOCK`, whatever the guest asks for, and
/// its flags show that. Only the terminal that this process was started from is waited for.
pub(crate) fn open(directory: &Directory, path: &str, how: Open, read_only: bool) -> Result<Descriptor, Errno> {
    let dir = &directory.dir;
    let write = how.rights.has(Rights::FD_WRITE);
    // A program that asks for neither gets to read: C libraries leave out rights that they think they won't need.
    let read = how.rights.has_any(Rights::FD_READ.with(Rights::FD_READDIR)) || !write;
    let creates = how.oflags.has(Oflags::CREAT);
    let truncates = how.oflags.has(Oflags::TRUNC);
    if how.oflags.has(Oflags::DIRECTORY) && how.oflags.has_any(Oflags::CREAT.with(Oflags::EXCL).with(Oflags::TRUNC)) {
        return Err(Errno::Inval);
    }
    if read_only && (write || creates || truncates) {
        return match read_only::open(dir, path, how)? {
            Errno::Success => {
                let oflags = how.oflags.without(Oflags::CREAT);
                open(directory, path, Open { oflags, ..how }, read_only)
            }
            refused => Err(refused),
        };
    }

    let mut options = OpenOptions::new();
    options
        .read(read)
        .write(write || creates || truncates)
        .truncate(truncates)
        .follow(if how.lookup.has(Lookupflags::SYMLINK_FOLLOW) { FollowSymlinks::Yes } else { FollowSymlinks::No })
        .maybe_dir(true)
        // Opening a FIFO or a device must not wait for its other end.
        .nonblock(true);
    if creates && how.oflags.has(Oflags::EXCL) {
        options.create_new(true);
    } else {
        options.create(creates);
    }
    let mut custom = OFlags::NOCTTY;
    if how.oflags.has(Oflags::DIRECTORY) {
        custom |= OFlags::DIRECTORY;
    }
    options.custom_flags(custom.bits() as i32);

    let opened = dir.open_with(path, &options).or_else(|error| {
        // cap-std creates only what it may write. A file that is there and can't be written can still be read.
        let errno = Errno::from(error);
        let refused = matches!(errno, Errno::Acces | Errno::Rofs | Errno::TxtBsy);
        if refused && creates && !write && !truncates && !how.oflags.has(Oflags::EXCL) {
            return Ok(dir.open_with(path, options.create(false).write(false))?);
        }
        Err(errno)
    })?;
    let file = opened.into_std();

    let found = stat(&file)?;
    procfs::check(&file, &found, directory.procfs, write || truncates)?;

    let mut descriptor = if found.filetype == Filetype::Directory {
        let directory = directory.opened(Dir::from_std_file(file), path);
        Descriptor::new(
            Object::Directory(directory),
            Filetype::Directory,
            how.fdflags,
            Rights::DIRECTORY,
            Rights::INHERITING,
        )
    } else {
        // A FIFO or device in a directory could block a call for ever, and the embedder need not know that it is there.
        let waits = found.filetype == Filetype::CharacterDevice && is_own_terminal(&file);
        let file = if waits { HostFile::NonBlocking(file.into()) } else { HostFile::Found(file.into()) };
        let (filetype, mut rights) = classify(&file);
        let mut flags = how.fdflags;
        if !waits && filetype != Filetype::RegularFile {
            flags = flags.with(Fdflags::NONBLOCK);
        }
        if flags.has(Fdflags::APPEND) {
            set_host_flag(&file, OFlags::APPEND, true)?;
        }
        if !read {
            rights = rights.without(Rights::FD_READ);
        }
        if !write {
            rights = rights.without(Rights::FD_WRITE.with(Rights::FD_ALLOCATE).with(Rights::FD_FILESTAT_SET_SIZE));
        }
        Descriptor::new(Object::Host(file), filetype, flags, rights, rights)
    };
    descriptor.read_only = read_only;
    Ok(descriptor)
}

/// Whether this is the terminal that this process was started from, opened as `/dev/tty` for instance: its user can end a
/// program that waits.
fn is_own_terminal(file: impl AsFd) -> bool {
    let file = file.as_fd();
    rustix::termios::isatty(file) && rustix::termios::tcgetsid(file).is_ok()
}

/// Sets or clears a status flag of a descriptor of the host.
pub(crate) fn set_host_flag(file: &HostFile, flag: OFlags, on: bool) -> Result<(), Errno> {
    let mut flags = rustix::fs::fcntl_getfl(file)?;
    flags.set(flag, on);
    Ok(rustix::fs::fcntl_setfl(file, flags)?)
}

/// Finds what `path` names below `dir`, without opening it: nothing is waited for, and no permission on it is needed.
pub(crate) fn resolve(dir: &Dir, path: &str, lookup: Lookupflags) -> Result<ResolvedPath, Errno> {
    Ok(ResolvedPath::resolve(dir, path, lookup.has(Lookupflags::SYMLINK_FOLLOW))?)
}

/// The times that `fd_filestat_set_times` and `path_filestat_set_times` ask for.
pub(crate) fn times(atim: Timestamp, mtim: Timestamp, flags: Fstflags) -> Result<Timestamps, Errno> {
    let time = |time: Timestamp, set: Fstflags, now: Fstflags| match (flags.has(set), flags.has(now)) {
        (true, true) => Err(Errno::Inval),
        (false, false) => Ok(Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }),
        (false, true) => Ok(Timespec { tv_sec: 0, tv_nsec: UTIME_NOW }),
        (true, false) => Ok(Timespec { tv_sec: (time / 1_000_000_000) as i64, tv_nsec: (time % 1_000_000_000) as _ }),
    };
    Ok(Timestamps {
        last_access: time(atim, Fstflags::ATIM, Fstflags::ATIM_NOW)?,
        last_modification: time(mtim, Fstflags::MTIM, Fstflags::MTIM_NOW)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cap_std::ambient_authority;

    #[test]
    fn names_of_directories_stay_short() {
        let dir = || Dir::open_ambient_dir(".", ambient_authority()).unwrap();
        let mut directory = Directory::given(dir(), "/".into(), ListingBudget::default());
        assert_eq!(directory.opened(dir(), "a/b").name, "/a/b");
        let path = "./".repeat(PATH_MAX / 2 - 1) + ".";
        for _ in 0..10 {
            directory = directory.opened(dir(), &path);
            assert!(directory.name.len() <= PATH_MAX);
        }
        assert_eq!(directory.opened(dir(), "inner").name, "inner");
    }

    #[test]
    fn listings_have_a_bound_together_and_give_back_what_they_took() {
        let budget = ListingBudget(Arc::new(AtomicUsize::new(200)));
        let dir = || Dir::open_ambient_dir("src/wasi", ambient_authority()).unwrap();
        for _ in 0..3 {
            let directory = Directory::given(dir(), "/".into(), budget.clone());
            assert_eq!(directory.read(0, |_, _| true), Err(Errno::NoMem));
            assert!(budget.0.load(Ordering::Relaxed) < 200);
            drop(directory);
            assert_eq!(budget.0.load(Ordering::Relaxed), 200);
        }
    }
}
