//! `--explain-denials`: what a program that failed was refused, and the flags that would allow it.

use std::path::{Component, Path, PathBuf};

use super::output::note;
use super::sandbox::SandboxArgs;
use crate::{Denial, Refusal};

/// Tells what was refused, grouped by what would allow it.
pub(super) fn explain(denials: &[Denial], sandbox: &SandboxArgs, args: &[String]) {
    if denials.is_empty() {
        note("the program was refused nothing that a flag would allow");
        return;
    }
    // In the order of the first of each group.
    let mut groups: Vec<(String, Vec<String>)> = vec![];
    for denial in denials {
        let (path, remedy) = match denial.reason {
            Refusal::NotGiven => not_given(&denial.path, args),
            _ => (denial.path.clone(), remedy(denial, sandbox)),
        };
        match groups.iter_mut().find(|(other, _)| *other == remedy) {
            Some((_, paths)) => paths.push(path),
            None => groups.push((remedy, vec![path])),
        }
    }
    let mut text = String::from("the program was refused:");
    for (remedy, paths) in groups {
        for path in paths.iter().filter(|path| !path.is_empty()) {
            text.push_str(&format!("\n  {path}"));
        }
        text.push_str(&format!("\n    {remedy}"));
    }
    note(&text);
}

/// What would allow it.
fn remedy(denial: &Denial, sandbox: &SandboxArgs) -> String {
    match denial.reason {
        Refusal::NotGiven => "is in no directory that it was given".into(),
        Refusal::ReadOnly => match giving(&denial.path, sandbox) {
            Some(flag) => format!("is for reading only: --dir {} without `:ro`", flag),
            None => "is for reading only: --dir without `:ro`".into(),
        },
        Refusal::LeadsOut => match outside(&denial.path, sandbox) {
            Some(directory) => format!("leads out of its directory: --dir {directory} holds both ends"),
            None => "leads out of its directory: --dir with one that holds both ends".into(),
        },
        Refusal::Host => match Path::new(&denial.path).components().any(|part| part.as_os_str() == "proc") {
            true => {
                "shows processes of the host, or is not allowed by its permissions: --dir with a directory of procfs \
                     shows processes"
                    .into()
            }
            false => "is not allowed by the host's permissions: no flag changes that".into(),
        },
        Refusal::MaxFileSize => "a file of that size: --max-file-size with a higher limit".into(),
        Refusal::MaxWritten => "to write more: --max-written with a higher limit".into(),
        Refusal::MaxDescriptors => "to open more files: --max-open-files with a higher limit".into(),
    }
}

/// A path for which the program has no directory, as it was meant, and what would allow it. Whether it was relative is
/// not known: what is among the arguments says so, or else what is there.
fn not_given(path: &str, args: &[String]) -> (String, String) {
    let absolute = format!("/{path}");
    let named = |path: &str| args.iter().any(|arg| arg.ends_with(path) && !path.is_empty());
    let directory = |path: &str| -> Option<String> {
        let directory = match Path::new(path) {
            whole if whole.is_dir() => whole,
            file => file.parent()?,
        };
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        directory.is_dir().then(|| directory.to_string_lossy().into_owned())
    };
    let candidates = match (named(&absolute), named(path)) {
        (false, true) => [path, &absolute],
        (true, _) => [&absolute, path],
        _ if Path::new(path).exists() => [path, &absolute],
        _ if Path::new(&absolute).exists() || path.contains('/') => [&absolute, path],
        _ => [path, &absolute],
    };
    match candidates.iter().find_map(|path| Some((*path, directory(path)?))) {
        Some((path, directory)) => (path.into(), format!("is in no directory that it was given: --dir {directory}")),
        None => (candidates[0].into(), "is in no directory that it was given, and the host has none for it".into()),
    }
}

/// The flag, without `:ro`, that gave the directory a path of the program's is in.
fn giving<'a>(path: &str, sandbox: &'a SandboxArgs) -> Option<&'a str> {
    let position = best(path, sandbox)?;
    let text = sandbox.dirs.get(position)?;
    Some(text.strip_suffix(":ro").unwrap_or(text))
}

/// Which of the directories a path of the program's is in: the one with the longest name.
fn best(path: &str, sandbox: &SandboxArgs) -> Option<usize> {
    let below = |(_, dir): &(usize, super::sandbox::DirFlag<'_>)| {
        matches!(dir.guest, "." | "./" | "") && !path.starts_with('/') || Path::new(path).starts_with(dir.guest)
    };
    sandbox.dirs().enumerate().filter(below).max_by_key(|(_, dir)| dir.guest.len()).map(|(index, _)| index)
}

/// The smallest directory of the host that holds a directory of the program's and where a path leads from there.
fn outside(path: &str, sandbox: &SandboxArgs) -> Option<String> {
    let dir = sandbox.dirs().nth(best(path, sandbox)?)?;
    let inside = Path::new(dir.host).canonicalize().ok()?;
    let rest = Path::new(path).strip_prefix(dir.guest).unwrap_or(Path::new(path));
    let target = lexically(&inside.join(rest));
    // Through the links, as far as there is something.
    let target = target.ancestors().find_map(|ancestor| ancestor.canonicalize().ok())?;
    let target = if target.is_dir() { target } else { target.parent()?.to_path_buf() };
    let common: PathBuf =
        inside.components().zip(target.components()).map_while(|(a, b)| (a == b).then_some(a)).collect();
    Some(common.to_string_lossy().into_owned())
}

/// A path without `.` and `..`.
fn lexically(path: &Path) -> PathBuf {
    let mut result = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                result.pop();
            }
            other => result.push(other),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_is_the_directory() {
        let dirs = ["a::/", "b::/data:ro", "c::."].map(String::from).to_vec();
        let sandbox = SandboxArgs { dirs, ..SandboxArgs::default() };
        assert_eq!(giving("/data/x", &sandbox), Some("b::/data"));
        assert_eq!(giving("/database", &sandbox), Some("a::/"));
        assert_eq!(giving("x/y", &sandbox), Some("c::."));
    }

    #[test]
    fn arguments_tell_relative_paths_from_absolute_ones() {
        let allowed = |path, args: &[&str]| {
            let args: Vec<String> = args.iter().map(|arg| arg.to_string()).collect();
            let (path, remedy) = not_given(path, &args);
            (path, remedy.split_once("--dir ").map(|(_, directory)| directory.to_string()))
        };
        let wanted = |path: &str, directory: &str| (path.to_string(), Some(directory.to_string()));
        assert_eq!(allowed("src/lib.rs", &["src/lib.rs"]), wanted("src/lib.rs", "src"));
        assert_eq!(allowed("etc/passwd", &["/etc/passwd"]), wanted("/etc/passwd", "/etc"));
        assert_eq!(allowed("etc", &[]), wanted("/etc", "/etc"));
        assert_eq!(allowed("new.txt", &[]), wanted("new.txt", "."));
        assert_eq!(allowed("no/such/place", &[]), ("/no/such/place".into(), None));
    }
}
