//! A path taken apart, for what is done to a name and not to what it stands for.
//!
//! The way to the name is found by cap-std, so that it stays below the directory of the guest. The name itself is one
//! component, and the calls that take it follow no link there: Linux decides about it, slashes behind it included.

use crate::sys;
use crate::wasi::errno::Errno;
use cap_std::fs::Dir;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

/// A name, and the directory in which something is, or is to be, called so.
pub(super) struct Name<'a> {
    parent: Parent<'a>,
    /// The way to the directory.
    pub(super) way: &'a str,
    /// The name as it was given, with the slashes behind it.
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
        let (way, name) = path.split_at(start);
        let parent = if way.is_empty() { Parent::Given(dir) } else { Parent::Found(sys::open_directory(dir, way)?) };
        Ok(Name { parent, way, name })
    }

    /// Whether there is a slash behind the name: it is one of a directory, then.
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
        for (path, way, name, bare) in [
            ("src", "", "src", "src"),
            ("src/", "", "src/", "src"),
            ("src/wasi//", "src/", "wasi//", "wasi"),
            ("./src//none", "./src//", "none", "none"),
            ("..", "", "..", ".."),
            ("src/../..", "src/../", "..", ".."),
        ] {
            let found = Name::find(&dir, path).unwrap();
            assert_eq!((found.way, found.name, found.bare()), (way, name, bare), "{path}");
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
