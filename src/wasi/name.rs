//! A path split into directory and last name, for calls that act on the name itself and not on the file behind it.
//!
//! cap-std resolves the directory part, so that it stays below the directory of the guest. The last name is one component, and
//! the system calls that take it do not follow it; trailing slashes are left on it, for the system to judge.

use crate::sys;
use crate::wasi::errno::Errno;
use cap_std::fs::Dir;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

/// The last name of a path, and the directory that it is in.
pub(super) struct Name<'a> {
    parent: Parent<'a>,
    /// The path of the directory.
    pub(super) directory: &'a str,
    /// The name as it was given, with trailing slashes.
    pub(super) name: &'a str,
}

enum Parent<'a> {
    Given(&'a Dir),
    Found(OwnedFd),
}

impl<'a> Name<'a> {
    /// Finds the directory of the name that `path` ends in.
    pub(super) fn find(dir: &'a Dir, path: &'a str) -> Result<Self, Errno> {
        let end = path.trim_end_matches('/').len();
        if end == 0 {
            // The root directory is none of the guest's.
            return Err(if path.is_empty() { Errno::NoEnt } else { Errno::Perm });
        }
        let start = path[..end].rfind('/').map_or(0, |slash| slash + 1);
        let (directory, name) = path.split_at(start);
        let parent =
            if directory.is_empty() { Parent::Given(dir) } else { Parent::Found(sys::open_directory(dir, directory)?) };
        Ok(Name { parent, directory, name })
    }

    /// Whether the name ends in a slash, as only that of a directory may.
    pub(super) fn has_slash(&self) -> bool {
        self.name.ends_with('/')
    }

    /// The name without slashes.
    pub(super) fn bare(&self) -> &'a str {
        self.name.trim_end_matches('/')
    }
}

impl AsFd for Name<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.parent {
            Parent::Given(dir) => dir.as_fd(),
            Parent::Found(fd) => fd.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cap_std::ambient_authority;

    #[test]
    fn paths_are_taken_apart() {
        let dir = Dir::open_ambient_dir(".", ambient_authority()).unwrap();
        for (path, directory, name, bare) in [
            ("src", "", "src", "src"),
            ("src/", "", "src/", "src"),
            ("src/wasi//", "src/", "wasi//", "wasi"),
            ("./src//none", "./src//", "none", "none"),
            ("..", "", "..", ".."),
            ("src/../..", "src/../", "..", ".."),
        ] {
            let found = Name::find(&dir, path).unwrap();
            assert_eq!((found.directory, found.name, found.bare()), (directory, name, bare), "{path}");
        }
        for (path, errno) in [
            ("", Errno::NoEnt),
            ("/", Errno::Perm),
            ("/src", Errno::Perm),
            ("../src", Errno::Perm),
            ("none/x", Errno::NoEnt),
            ("Cargo.toml/x", Errno::NotDir),
        ] {
            assert_eq!(Name::find(&dir, path).err(), Some(errno), "{path}");
        }
    }
}
