//! The cache's directory: whether it can be trusted, access to its files, and eviction.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, Timespec, Timestamps};

/// A file that is used gets a new modification time only if the present one is older than this, so that a run which
/// compiles nothing new usually writes nothing.
const USE_INTERVAL: Duration = Duration::from_secs(3600);

/// Prefix of the names of files that are being written. Those that are older than [`USE_INTERVAL`] were left by a
/// process that ended before it finished them.
const UNFINISHED: &str = "tmp-";

/// An open directory that belongs to the user, and that nobody else can write to.
pub(super) struct CacheDirectory(OwnedFd);

/// A file in a [`CacheDirectory`].
pub(super) struct Listed {
    pub name: String,
    pub bytes: u64,
    /// When it was last written or marked as used, in nanoseconds since 1970.
    pub used: i128,
}

fn used(stat: &Stat) -> i128 {
    i128::from(stat.st_mtime) * 1_000_000_000 + stat.st_mtime_nsec as i128
}

fn now() -> i128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as i128)
}

/// Whether only the user can change the file or directory with this `stat`; if not, why.
fn is_own(stat: &Stat) -> Result<(), &'static str> {
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err("belongs to another user");
    }
    if stat.st_mode & 0o022 != 0 {
        return Err("can be written to by other users");
    }
    Ok(())
}

fn distrusted(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

impl CacheDirectory {
    /// Opens the cache's directory; with `create`, makes it and its parents if they are missing.
    ///
    /// # Errors
    /// The system's, and `PermissionDenied` for one that others can write to.
    pub fn open(path: &Path, create: bool) -> io::Result<Self> {
        if create {
            use std::os::unix::fs::DirBuilderExt;
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            match std::fs::DirBuilder::new().mode(0o700).create(path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Self::checked(rustix::fs::openat(CWD, path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// Opens a directory in this one.
    pub fn subdirectory(&self, name: &str, create: bool) -> io::Result<Self> {
        if create {
            match rustix::fs::mkdirat(&self.0, name, Mode::RWXU) {
                Err(error) if error != rustix::io::Errno::EXIST => return Err(error.into()),
                _ => {}
            }
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Self::checked(rustix::fs::openat(&self.0, name, flags, Mode::empty())?)
    }

    fn checked(fd: OwnedFd) -> io::Result<Self> {
        is_own(&rustix::fs::fstat(&fd)?).map_err(distrusted)?;
        Ok(CacheDirectory(fd))
    }

    /// Opens a file in it for reading; symbolic links are not followed.
    pub fn file(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = rustix::fs::openat(&self.0, name, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&fd)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(distrusted("is no regular file"));
        }
        is_own(&stat).map_err(distrusted)?;
        Ok(fd.into())
    }

    /// Writes a file under another name, and then renames it: the file `name` is there whole or not at all.
    pub fn write<R>(&self, name: &str, contents: impl FnOnce(&mut File) -> io::Result<R>) -> io::Result<R> {
        let unfinished = format!("{UNFINISHED}{:016x}", rand::random::<u64>());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.0, &unfinished, flags, Mode::RUSR | Mode::WUSR)?;
        let written = contents(&mut fd.into())
            .and_then(|result| Ok(rustix::fs::renameat(&self.0, &unfinished, &self.0, name).map(|()| result)?));
        if written.is_err() {
            self.remove(&unfinished);
        }
        written
    }

    /// Removes a file, if it is there; whether this call did it.
    pub fn remove(&self, name: &str) -> bool {
        // Another process may have removed it. A file that can't be removed still counts, and the next eviction tries
        // again.
        rustix::fs::unlinkat(&self.0, name, AtFlags::empty()).is_ok()
    }

    /// Removes a directory with the files in it, and counts what it removed; the directory stays if another process adds
    /// files meanwhile.
    pub fn remove_subdirectory(&self, name: &str) -> Contents {
        let mut removed = Contents::default();
        if let Ok(folder) = self.subdirectory(name, false) {
            for file in folder.files().iter().filter(|file| folder.remove(&file.name)) {
                removed.files += 1;
                removed.bytes += file.bytes;
            }
        }
        removed.modules = rustix::fs::unlinkat(&self.0, name, AtFlags::REMOVEDIR).is_ok().into();
        removed
    }

    /// Sets a file's modification time to now, unless it is recent.
    pub fn mark_used(&self, file: &File, name: &str) {
        let recent = |stat: Stat| now() - used(&stat) < USE_INTERVAL.as_nanos() as i128;
        if !rustix::fs::fstat(file).is_ok_and(recent) {
            let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
            let times = Timestamps { last_access: now, last_modification: now };
            // A file that can't be marked is only evicted earlier.
            let _ = rustix::fs::utimensat(&self.0, name, &times, AtFlags::SYMLINK_NOFOLLOW);
        }
    }

    /// Names of the modules' directories in it.
    pub fn subdirectories(&self) -> Vec<String> {
        self.names().into_iter().filter(|name| is_module(name)).collect()
    }

    /// The files in it, the most recently used first.
    pub fn files(&self) -> Vec<Listed> {
        let stat = |name: String| {
            let stat = rustix::fs::statat(&self.0, &name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
            let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            (!is_dir).then(|| Listed { bytes: stat.st_size as u64, used: used(&stat), name })
        };
        let mut files: Vec<_> = self.names().into_iter().filter_map(stat).collect();
        files.sort_by_key(|file| std::cmp::Reverse(file.used));
        files
    }

    fn names(&self) -> Vec<String> {
        let entries = Dir::read_from(self.0.as_fd()).into_iter().flatten().map_while(Result::ok);
        let names = entries.filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned));
        names.filter(|name| name != "." && name != "..").collect()
    }
}

impl Listed {
    /// Whether this is a finished segment.
    pub fn is_segment(&self) -> bool {
        self.name.len() == 16 && self.name.bytes().all(|byte| byte.is_ascii_hexdigit())
    }

    /// Whether this is an unfinished file whose process is gone.
    pub fn is_abandoned(&self) -> bool {
        self.name.starts_with(UNFINISHED) && now() - self.used > USE_INTERVAL.as_nanos() as i128
    }
}

/// A random name for a segment; no other has the same.
pub(super) fn new_name() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// Whether this is the name of a module's directory. Others are not the cache's, and left alone.
fn is_module(name: &str) -> bool {
    name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What a cache's directory holds, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    pub modules: usize,
    pub files: usize,
    pub bytes: u64,
}

/// Counts the modules, files and bytes in the directory; `None` if there is no directory.
///
/// # Errors
/// As for [`CacheDirectory::open`].
pub(crate) fn contents(path: &Path) -> io::Result<Option<Contents>> {
    let root = match CacheDirectory::open(path, false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        root => root?,
    };
    let mut contents = Contents { modules: 0, files: 0, bytes: 0 };
    for folder in root.subdirectories().iter().filter_map(|name| root.subdirectory(name, false).ok()) {
        let files = folder.files();
        contents.modules += 1;
        contents.files += files.len();
        contents.bytes += files.iter().map(|file| file.bytes).sum::<u64>();
    }
    Ok(Some(contents))
}

/// Removes all modules from the directory, and counts what it removed. Processes that have mapped files of them can go on
/// using these.
///
/// # Errors
/// As for [`CacheDirectory::open`].
pub(crate) fn clear(path: &Path) -> io::Result<Contents> {
    let mut removed = Contents::default();
    let root = match CacheDirectory::open(path, false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(removed),
        root => root?,
    };
    for name in root.subdirectories() {
        let Contents { modules, files, bytes } = root.remove_subdirectory(&name);
        removed.modules += modules;
        removed.files += files;
        removed.bytes += bytes;
    }
    Ok(removed)
}

/// Removes modules, the least recently used first, until the rest take `max_bytes` at most; and abandoned files.
pub(super) fn evict(root: &CacheDirectory, max_bytes: u64) {
    let mut modules: Vec<(i128, u64, String)> = Vec::new();
    for name in root.subdirectories() {
        let Ok(folder) = root.subdirectory(&name, false) else { continue };
        let files = folder.files();
        for file in files.iter().filter(|file| file.is_abandoned()) {
            folder.remove(&file.name);
        }
        let bytes = files.iter().map(|file| file.bytes).sum();
        modules.push((files.first().map_or(0, |file| file.used), bytes, name));
    }
    let mut total: u64 = modules.iter().map(|(_, bytes, _)| bytes).sum();
    modules.sort();
    for (_, bytes, name) in modules {
        if total <= max_bytes {
            return;
        }
        root.remove_subdirectory(&name);
        total -= bytes;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn files_are_there_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let directory = CacheDirectory::open(folder.path(), true).unwrap();
        let names = || directory.names();
        let written = directory.write("0123456789abcdef", |file| {
            file.write_all(b"half")?;
            assert!(names().iter().all(|name| name.starts_with(UNFINISHED)), "it has its name before it is whole");
            file.write_all(b" and half")
        });
        written.unwrap();
        assert_eq!(names(), ["0123456789abcdef"]);
        assert_eq!(std::fs::read(folder.path().join("0123456789abcdef")).unwrap(), b"half and half");
        let failed = directory.write("fedcba9876543210", |_| Err::<(), _>(io::Error::other("no room")));
        assert!(failed.is_err());
        assert_eq!(names(), ["0123456789abcdef"]);
    }

    #[test]
    fn only_what_was_abandoned_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let module = root.path().join("0123456789abcdef0123456789abcdef01234567");
        std::fs::create_dir(&module).unwrap();
        let old = SystemTime::now() - 2 * USE_INTERVAL;
        for (name, time) in [("tmp-old", old), ("tmp-new", SystemTime::now()), ("other", old)] {
            let file = File::create(module.join(name)).unwrap();
            file.set_modified(time).unwrap();
        }
        evict(&CacheDirectory::open(root.path(), false).unwrap(), u64::MAX);
        let mut left: Vec<_> = CacheDirectory::open(&module, false).unwrap().names();
        left.sort();
        assert_eq!(left, ["other", "tmp-new"]);
    }
}
