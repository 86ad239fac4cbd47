//! What a path names below a directory, found without opening it.

use std::io;

use cap_fs_ext::OpenOptionsMaybeDirExt;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, OFlags, Stat, Timestamps};
use rustix::io::Errno;

/// The most symbolic links that are followed, as Linux has it.
const MAX_LINKS: usize = 40;

/// Something that a path names. Nothing was waited for to find it, and no permission on it was needed.
///
/// Without descriptors that only stand for something, a name in an open directory has to do. It is never followed, so that
/// it stays in that directory whatever it is replaced with.
pub(crate) enum ResolvedPath {
    Directory(OwnedFd),
    Name { parent: OwnedFd, name: String },
}

impl ResolvedPath {
    /// Finds what `path` names below `dir`; `follow` tells whether a symbolic link that it ends in is followed.
    pub fn resolve(dir: &Dir, path: &str, follow: bool) -> io::Result<Self> {
        let mut path = path.to_owned();
        for _ in 0..=MAX_LINKS {
            let start = path.rfind('/').map_or(0, |slash| slash + 1);
            let (way, name) = path.split_at(start);
            // With a slash behind it, or one of these names, it is a directory, which can be opened.
            if name.is_empty() || matches!(name, "." | "..") {
                return Ok(ResolvedPath::Directory(open_directory(dir, &path)?));
            }
            let parent = open_directory(dir, if way.is_empty() { "." } else { way })?;
            let stat = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if !follow || !FileType::from_raw_mode(stat.st_mode).is_symlink() {
                return Ok(ResolvedPath::Name { parent, name: name.to_owned() });
            }
            let target = rustix::fs::readlinkat(&parent, name, Vec::new())?;
            let target = target.to_str().map_err(|_| Errno::ILSEQ)?;
            path = if target.starts_with('/') { target.to_owned() } else { format!("{way}{target}") };
        }
        Err(Errno::LOOP.into())
    }

    /// Its attributes.
    pub fn stat(&self) -> io::Result<Stat> {
        Ok(match self {
            ResolvedPath::Directory(directory) => rustix::fs::fstat(directory)?,
            ResolvedPath::Name { parent, name } => rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?,
        })
    }

    /// Sets its times.
    pub fn set_times(&self, times: &Timestamps) -> io::Result<()> {
        match self {
            ResolvedPath::Directory(directory) => rustix::fs::futimens(directory, times)?,
            ResolvedPath::Name { parent, name } => {
                rustix::fs::utimensat(parent, name, times, AtFlags::SYMLINK_NOFOLLOW)?;
            }
        }
        Ok(())
    }
}

/// Opens the directory that `path` names below `dir`, for looking things up in it. cap-std needs the permission to list
/// it here, as it does for those on the way.
pub(crate) fn open_directory(dir: &Dir, path: &str) -> io::Result<OwnedFd> {
    let mut options = OpenOptions::new();
    options.read(true).maybe_dir(true).custom_flags(OFlags::DIRECTORY.bits() as i32);
    Ok(dir.open_with(path, &options)?.into_std().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cap_std::ambient_authority;
    use rustix::fs::Timespec;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    #[test]
    fn paths_name_the_same_as_to_the_system_and_lead_nowhere_else() {
        let top = tempfile::tempdir().unwrap();
        let root = top.path().join("given");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(top.path().join("secret"), "").unwrap();
        fs::write(root.join("a/file"), "").unwrap();
        for (target, link) in [("a/file", "to_file"), ("to_file", "twice"), ("a", "to_dir"), ("none", "dangling")] {
            symlink(target, root.join(link)).unwrap();
        }
        for (target, link) in
            [("../secret", "out"), ("/", "absolute"), ("loop", "loop"), ("../file", "a/b/up"), ("..", "dots")]
        {
            symlink(target, root.join(link)).unwrap();
        }
        let dir = Dir::open_ambient_dir(&root, ambient_authority()).unwrap();
        let find = |path: &str, follow| ResolvedPath::resolve(&dir, path, follow).and_then(|found| found.stat());
        for path in ["a", "a/", ".", "a/..", "a/./file", "to_dir/file", "to_dir/b/..", "to_file", "twice", "a/b/up"] {
            for follow in [true, false] {
                let expected =
                    if follow { fs::metadata(root.join(path)) } else { fs::symlink_metadata(root.join(path)) }.unwrap();
                assert_eq!(find(path, follow).unwrap().st_ino, expected.ino(), "{path} {follow}");
            }
        }
        let error = |path: &str, follow| find(path, follow).unwrap_err();
        for path in ["..", "../", "../secret", "a/../..", "a/../../secret", "/", "/etc", "dots/", "dots/secret"] {
            for follow in [true, false] {
                assert_eq!(error(path, follow).kind(), io::ErrorKind::PermissionDenied, "{path}");
            }
        }
        for path in ["out", "absolute", "dots"] {
            assert_eq!(error(path, true).kind(), io::ErrorKind::PermissionDenied, "{path}");
            assert!(find(path, false).is_ok(), "{path}");
        }
        let errno = |path, follow| Errno::from_io_error(&error(path, follow));
        assert_eq!(errno("loop", true), Some(Errno::LOOP));
        assert_eq!(errno("a/file/", true), Some(Errno::NOTDIR));
        assert_eq!([errno("", true), errno("none", true), errno("dangling", true)], [Some(Errno::NOENT); 3]);
        assert!(find("loop", false).is_ok() && find("dangling", false).is_ok());
    }

    #[test]
    fn times_are_those_of_the_name_itself() {
        let top = tempfile::tempdir().unwrap();
        fs::write(top.path().join("file"), "").unwrap();
        symlink("file", top.path().join("link")).unwrap();
        let dir = Dir::open_ambient_dir(top.path(), ambient_authority()).unwrap();
        let set = |path, follow, seconds| {
            let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
            let times = Timestamps { last_access: time, last_modification: time };
            ResolvedPath::resolve(&dir, path, follow).unwrap().set_times(&times).unwrap();
        };
        set("link", true, 1000);
        set("link", false, 2000);
        set("./", true, 3000);
        let modified = |path| fs::symlink_metadata(top.path().join(path)).unwrap().mtime();
        assert_eq!(["file", "link", "."].map(modified), [1000, 2000, 3000]);
    }
}
