//! What a program was refused, derived from its calls that failed.

use super::{Argument, Call, Kind};
use crate::error::BudgetItem;
use crate::runtime::linear::LinearMemory;
use crate::wasi::env::Wasi;
use crate::wasi::errno::Errno;
use crate::wasi::guest::Guest;
use crate::wasi::table::Object;
use crate::wasi::types::{Oflags, Rights};

/// What a program was refused. See [`WasiEnv::denials`](crate::WasiEnv::denials).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Denial {
    /// The path as the program sees it; empty if the reason is a limit that is not about one file.
    pub path: String,
    /// Why.
    pub reason: Refusal,
}

/// Why a program was refused something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The path lies in no directory that the program was given.
    NotGiven,
    /// The path was not found in a directory that is named `.`. C libraries look absolute paths up there too, without the first
    /// slash: if this was one, the program has no directory for it.
    NotFound,
    /// The path lies in a directory that was given for reading only.
    ReadOnly,
    /// The path, or a symbolic link on it, leads out of its directory.
    LeadsOut,
    /// The host's permissions forbid it, or it is a file of procfs that shows the inside of a process.
    Host,
    /// The limit of [`WasiEnv::with_max_file_size`](crate::WasiEnv::with_max_file_size).
    MaxFileSize,
    /// The limit of [`WasiEnv::with_max_written`](crate::WasiEnv::with_max_written).
    MaxWritten,
    /// The limit of [`WasiEnv::with_max_descriptors`](crate::WasiEnv::with_max_descriptors).
    MaxDescriptors,
    /// The store's [`Budget`](crate::Budget).
    Budget(BudgetItem),
}

/// The most refusals that are kept: a program that tries for ever asks for no more memory.
pub(super) const MAX_DENIALS: usize = 256;

/// A path that a call names, and what is known of the directory it is in.
pub(super) struct Subject {
    path: String,
    absent: bool,
    /// In a directory that the program was given as `.`.
    in_dot: bool,
    read_only: bool,
}

/// `path` in the directory `name`, as the program would write it.
pub(crate) fn join(name: &str, path: &str) -> String {
    match (name, path) {
        (name, "." | "") => name.into(),
        (_, path) if path.starts_with('/') => path.into(),
        ("." | "", path) => path.into(),
        (name, path) => format!("{}/{path}", name.trim_end_matches('/')),
    }
}

/// The paths that a call acts on.
pub(super) fn subjects(wasi: &Wasi, memory: &LinearMemory<'_>, arguments: &[Argument]) -> Vec<Subject> {
    let mut directory = None;
    let mut subjects = vec![];
    for (index, argument) in arguments.iter().enumerate() {
        match argument.kind {
            Kind::Fd => directory = wasi.get_for_path(argument.value as u32).ok(),
            Kind::Path => {
                let (Some(descriptor), Some(len)) = (&directory, arguments.get(index + 1)) else { continue };
                let Ok(path) = memory.path(argument.pointer(), len.value as u32) else { continue };
                let (path, absent) = match &descriptor.object {
                    Object::Directory(directory) => (join(&directory.name, &path), false),
                    // Relative and absolute paths look the same here.
                    Object::Nowhere => (path.into_owned(), true),
                    _ => continue,
                };
                let in_dot = !absent && matches!(descriptor.preopened_as(), Some("." | "./" | ""));
                subjects.push(Subject { path, absent, in_dot, read_only: descriptor.read_only });
            }
            _ => {}
        }
    }
    subjects
}

/// The denial that a failed call stands for, if it failed because something was refused.
pub(super) fn of_call(call: &Call, errno: Errno, refused: Option<BudgetItem>) -> Option<Denial> {
    if errno != Errno::Success
        && let Some(subject) = call.subjects.iter().find(|subject| subject.absent)
    {
        return Some(Denial { path: subject.path.clone(), reason: Refusal::NotGiven });
    }
    if errno != Errno::Success
        && let Some(item) = refused
    {
        return Some(Denial { path: String::new(), reason: Refusal::Budget(item) });
    }
    let (limits, descriptors) = call.limits;
    let reason = match errno {
        Errno::NoEnt if call.subjects.iter().any(|subject| subject.in_dot) => Refusal::NotFound,
        Errno::Perm if call.changes() && call.subjects.iter().any(|subject| subject.read_only) => Refusal::ReadOnly,
        Errno::Perm => Refusal::LeadsOut,
        Errno::Acces | Errno::Rofs => Refusal::Host,
        Errno::Fbig if limits => Refusal::MaxFileSize,
        Errno::Dquot if limits => Refusal::MaxWritten,
        Errno::Mfile if descriptors => Refusal::MaxDescriptors,
        _ => return None,
    };
    let path = match reason {
        Refusal::MaxFileSize | Refusal::MaxWritten | Refusal::MaxDescriptors => String::new(),
        Refusal::NotFound => call.subjects.iter().find(|subject| subject.in_dot)?.path.clone(),
        Refusal::ReadOnly => call.subjects.iter().find(|subject| subject.read_only)?.path.clone(),
        _ => call.subjects.first()?.path.clone(),
    };
    Some(Denial { path, reason })
}

impl Call {
    /// Whether the call would change something in a directory.
    fn changes(&self) -> bool {
        match self.function {
            "path_filestat_get" | "path_readlink" => false,
            "path_open" => self.arguments.iter().any(|argument| match argument.kind {
                Kind::OflagsBits => Oflags(argument.value as u16).has_any(Oflags::CREAT.with(Oflags::TRUNC)),
                Kind::RightsBits => argument.name == "base" && Rights(argument.value).has(Rights::FD_WRITE),
                _ => false,
            }),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_joined_as_they_are_written() {
        assert_eq!(join("/", "a"), "/a");
        assert_eq!(join(".", "a/b"), "a/b");
        assert_eq!(join("/data", "../x"), "/data/../x");
        assert_eq!(join("/data", "."), "/data");
        assert_eq!(join("/data", "/etc"), "/etc");
    }
}
