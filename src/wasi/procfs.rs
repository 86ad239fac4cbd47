//! Files of procfs among those that a program was given.
//!
//! Whoever gives a program a directory with procfs somewhere in it, `/` above all, gives it files, not the processes of
//! the host, and least of all this one. So files that show the inside of a process are refused there, with `acces`; an
//! embedder who means to show processes gives a directory of procfs itself. Files that show memory are always refused, and
//! none is opened for writing.
//! Links such as `root` and `fd/0` lead nowhere: they are never followed, wherever the directory is.

use crate::sys;
use crate::wasi::errno::Errno;
use crate::wasi::types::Filestat;
use rustix::fd::AsFd;

/// Refuses what was opened if it is a file of procfs that the program may not have. `given` is whether it was found
/// below a directory of procfs that was given, and `write` whether it could be written.
pub(crate) fn check(opened: impl AsFd, stat: &Filestat, given: bool, write: bool) -> Result<(), Errno> {
    match sys::procfs_name(opened, stat.dev) {
        Ok(None) => Ok(()),
        Ok(Some(name)) if !write && may_read(name.to_bytes(), given) => Ok(()),
        _ => Err(Errno::Acces),
    }
}

/// Whether a program may read the file of procfs with this name. Each process and thread has a directory that is
/// called by its number.
fn may_read(name: &[u8], given: bool) -> bool {
    // The system adds this to names of a process or thread that has ended. Its memory may still exist.
    let name = name.strip_suffix(b" (deleted)").unwrap_or(name);
    let is_number = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    let shows_memory = matches!(name.rsplit(|byte| *byte == b'/').next(), Some(b"mem" | b"kcore"));
    !shows_memory && (given || !name.split(|byte| *byte == b'/').any(is_number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_processes_are_told_by_their_names() {
        for name in ["/proc/cpuinfo", "/proc/meminfo", "/proc", "/chroot/proc/sys/kernel/ostype"] {
            assert!(may_read(name.as_bytes(), false), "{name}");
        }
        for name in ["/proc/1", "/proc/1/environ", "/chroot/proc/77/task/78/maps", "(unreachable)/5/auxv"] {
            assert!(!may_read(name.as_bytes(), false), "{name}");
            assert!(may_read(name.as_bytes(), true), "{name}");
        }
        for name in ["/proc/1/mem", "/proc/1/task/2/mem (deleted)", "/proc/kcore"] {
            assert!(!may_read(name.as_bytes(), true), "{name}");
        }
    }
}
