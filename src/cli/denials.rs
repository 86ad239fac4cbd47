//! `--explain-denials`: lists the paths that a failed program was refused, and the flags that would allow them.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use super::output::note;
use super::sandbox::SandboxArgs;
use crate::printable::Printable;
use crate::{Denial, Refusal};

const REFUSED_NOTHING: &str = "the program was refused nothing that a flag would allow";

/// Lists the refused paths, grouped by the remedy.
pub(super) fn explain(denials: &[Denial], sandbox: &SandboxArgs, args: &[String]) {
    // In the order of the first of each group.
    let mut groups: Vec<(String, Vec<String>)> = vec![];
    for denial in denials {
        let Some((path, remedy)) = explained(denial, sandbox, args) else { continue };
        match groups.iter_mut().find(|(other, _)| *other == remedy) {
            Some((_, paths)) => paths.push(path),
            None => groups.push((remedy, vec![path])),
        }
    }
    if groups.is_empty() {
        return note(REFUSED_NOTHING);
    }
    let mut text = String::from("the program was refused:");
    for (remedy, paths) in groups {
        for path in paths.iter().filter(|path| !path.is_empty()) {
            text.push_str(&format!("\n  {}", Printable::line(path)));
        }
        text.push_str(&format!("\n    {}", Printable::line(&remedy)));
    }
    note(&text);
}

/// The path that the program meant, and the remedy. `None` if it seems that nothing was refused.
fn explained(denial: &Denial, sandbox: &SandboxArgs, args: &[String]) -> Option<(String, String)> {
    let path = denial.path.clone();
    let remedy = match denial.reason {
        Refusal::NotGiven => return Some(not_given(&path, args)),
        Refusal::NotFound => return not_found(&path, args),
        Refusal::ReadOnly => match meant(&path, args) {
            Some(absolute) => return Some((absolute.clone(), in_no_directory(&absolute)?)),
            None => match giving(&path, sandbox) {
                Some(flag) => format!("is for reading only: --dir {flag} without `:ro`"),
                None => "is for reading only: --dir without `:ro`".into(),
            },
        },
        Refusal::LeadsOut => leads_out(&path, sandbox),
        Refusal::Host => match Path::new(&path).components().any(|part| part.as_os_str() == "proc") {
            true => {
                "shows processes of the host, or is not allowed by its permissions: --dir with a directory of procfs \
                     shows processes"
                    .into()
            }
            false => FORBIDDEN.into(),
        },
        Refusal::Budget(item) => match sandbox.limits.flag(item) {
            Some(flag) => format!("{flag} would have to be higher"),
            None => BEYOND_HOST.into(),
        },
        Refusal::MaxFileSize | Refusal::MaxWritten | Refusal::MaxDescriptors => BEYOND_HOST.into(),
    };
    Some((path, remedy))
}

const BEYOND_HOST: &str = "that is more than the host allows: no flag changes that";

const FORBIDDEN: &str = "is not allowed by the host's permissions: no flag changes that";

/// Whether a path is among the arguments, maybe at the end of one such as `--file=PATH`.
fn is_named(path: &str, args: &[String]) -> bool {
    !path.is_empty() && args.iter().any(|arg| arg.ends_with(path))
}

/// The absolute path that the program meant by a relative one, if it is among the arguments: C libraries look absolute paths
/// up in a directory that is named `.`, without their first slash.
fn meant(path: &str, args: &[String]) -> Option<String> {
    let absolute = format!("/{path}");
    (!path.starts_with('/') && is_named(&absolute, args)).then_some(absolute)
}

/// A directory as an argument of `--dir`.
fn argument(directory: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+,@%:~".contains(c);
    if !directory.is_empty() && directory.chars().all(plain) {
        return directory.into();
    }
    format!("'{}'", directory.replace('\'', "'\\''"))
}

/// The remedy for a path of the host for which the program has no directory; `None` if the host has no such directory.
fn in_no_directory(path: &str) -> Option<String> {
    let directory = match Path::new(path) {
        whole if whole.is_dir() => whole,
        file => file.parent()?,
    };
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let flag = format!("--dir {}", argument(&directory.to_string_lossy()));
    directory.is_dir().then(|| format!("is in no directory that it was given: {flag}"))
}

/// The absolute path, and the remedy, for a path that was not found in a directory that is named `.`; `None` if the program
/// seems to have meant a relative path, or the host has no such file.
fn not_found(path: &str, args: &[String]) -> Option<(String, String)> {
    let guessed = || (path.contains('/') && !is_named(path, args)).then(|| format!("/{path}"));
    let absolute = meant(path, args).or_else(guessed).filter(|path| Path::new(path).exists())?;
    let remedy = in_no_directory(&absolute)?;
    Some((absolute, remedy))
}

/// The path that the program meant, and the remedy, for a path for which it has no directory. Whether the path was relative is
/// not known: the arguments decide, or else which of the two the host has.
fn not_given(path: &str, args: &[String]) -> (String, String) {
    let absolute = format!("/{path}");
    let candidates = match (is_named(&absolute, args), is_named(path, args)) {
        (false, true) => [path, &absolute],
        (true, _) => [&absolute, path],
        _ if Path::new(path).exists() => [path, &absolute],
        _ if Path::new(&absolute).exists() || path.contains('/') => [&absolute, path],
        _ => [path, &absolute],
    };
    match candidates.iter().find_map(|path| Some((*path, in_no_directory(path)?))) {
        Some((path, remedy)) if Path::new(path).exists() => (path.into(), remedy),
        Some((path, remedy)) => (format!("{path} (not there now)"), remedy),
        None => (candidates[0].into(), "is in no directory that it was given, and the host has none for it".into()),
    }
}

/// The flag, without `:ro`, that gave the directory a path of the program's is in.
fn giving<'a>(path: &str, sandbox: &'a SandboxArgs) -> Option<&'a str> {
    let position = best(path, sandbox)?;
    let text = sandbox.dirs.get(position)?;
    Some(text.strip_suffix(":ro").unwrap_or(text))
}

/// The index of the directory that a path of the program's is in: of those that contain it, the one with the longest name.
fn best(path: &str, sandbox: &SandboxArgs) -> Option<usize> {
    let below = |(_, dir): &(usize, super::sandbox::DirFlag<'_>)| {
        matches!(dir.guest, "." | "./" | "") && !path.starts_with('/') || Path::new(path).starts_with(dir.guest)
    };
    sandbox.dirs().enumerate().filter(below).max_by_key(|(_, dir)| dir.guest.len()).map(|(index, _)| index)
}

/// The remedy for a path that leads out of its directory.
fn leads_out(path: &str, sandbox: &SandboxArgs) -> String {
    let place = best(path, sandbox).and_then(|index| Some((index, sandbox.dirs().nth(index)?)));
    let Some((index, dir)) = place else { return FORBIDDEN.into() };
    let Ok(inside) = Path::new(dir.host).canonicalize() else { return FORBIDDEN.into() };
    let rest = Path::new(path).strip_prefix(dir.guest).unwrap_or(Path::new(path));
    let common = match walk(&inside, rest) {
        Walk::Inside => return FORBIDDEN.into(),
        Walk::Absolute(link) => {
            let link = link.to_string_lossy();
            return format!(
                "leads out of its directory by {link}, a link to an absolute path: no flag has it followed"
            );
        }
        Walk::Out(common) => common,
    };
    // The program will use the same path again. So the directory that is `up` levels above must get a guest name under which
    // the directories below keep the names that they have now.
    let up = inside.components().count() - common.components().count();
    let guest: Vec<_> = Path::new(dir.guest).components().filter(|part| *part != Component::CurDir).collect();
    let dots = rest.components().take_while(|part| *part == Component::ParentDir).count();
    let name = if guest.len() >= up
        && guest[guest.len() - up..].iter().eq(inside.components().rev().take(up).collect::<Vec<_>>().iter().rev())
    {
        guest[..guest.len() - up].iter().collect::<PathBuf>()
    } else if guest.is_empty() && dots == up {
        guest_above(up)
    } else {
        return "leads out of its directory: it needs one that holds both ends, and the path in that one".into();
    };
    let name = if name.as_os_str().is_empty() { Path::new(".").into() } else { name };
    let flag = match name.canonicalize() {
        Ok(same) if same == common => argument(&name.to_string_lossy()),
        _ => argument(&format!("{}::{}", common.display(), name.display())),
    };
    // Directories with longer names come first.
    let instead =
        if guest.is_empty() { String::new() } else { format!(" instead of --dir {}", argument(&sandbox.dirs[index])) };
    format!("leads out of its directory: --dir {flag}{instead}")
}

/// `..`, `up` times.
fn guest_above(up: usize) -> PathBuf {
    std::iter::repeat_n(Component::ParentDir, up).collect()
}

/// Where a path leads.
enum Walk {
    Inside,
    /// The deepest directory that contains every directory on the way.
    Out(PathBuf),
    /// Out, by this symbolic link with an absolute target.
    Absolute(PathBuf),
}

/// Follows a path from a directory on, as far as there is something.
fn walk(inside: &Path, path: &Path) -> Walk {
    let names = |path: &Path| -> VecDeque<OsString> { path.components().map(|part| part.as_os_str().into()).collect() };
    let (mut at, mut common, mut links) = (inside.to_path_buf(), inside.to_path_buf(), 0);
    let mut rest = names(path);
    while let Some(name) = rest.pop_front() {
        match name.to_str() {
            Some(".") => {}
            Some("..") => drop(at.pop()),
            _ => match std::fs::read_link(at.join(&name)) {
                Ok(target) if target.is_absolute() => return Walk::Absolute(at.join(name)),
                Ok(target) if links < 40 => {
                    links += 1;
                    let mut all = names(&target);
                    all.append(&mut rest);
                    rest = all;
                }
                _ => at.push(name),
            },
        }
        common = common.components().zip(at.components()).map_while(|(a, b)| (a == b).then_some(a)).collect();
    }
    if common == inside { Walk::Inside } else { Walk::Out(common) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BudgetItem;
    use crate::cli::limits::LimitArgs;

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
        assert_eq!(allowed("new.txt", &[]), wanted("new.txt (not there now)", "."));
        assert_eq!(allowed("no/such/place", &[]), ("/no/such/place".into(), None));
    }

    #[test]
    fn absolute_paths_are_told_from_what_libraries_make_of_them() {
        let args = ["--in=/etc/passwd".to_string(), "etc/hosts".to_string()];
        let found = |path| not_found(path, &args).map(|(path, _)| path);
        assert_eq!(found("etc/passwd").as_deref(), Some("/etc/passwd"));
        // A relative one, it says.
        assert_eq!(found("etc/hosts"), None);
        assert_eq!(found("no/such/file"), None);
        assert_eq!(found("tmp"), None);
        assert_eq!(not_found("etc/hosts", &[]).unwrap().1, "is in no directory that it was given: --dir /etc");
        let read_only = Denial { path: "etc/passwd".into(), reason: Refusal::ReadOnly };
        let sandbox = SandboxArgs { dirs: vec![".:ro".into()], ..SandboxArgs::default() };
        let (path, remedy) = explained(&read_only, &sandbox, &args).unwrap();
        assert_eq!((path.as_str(), remedy.ends_with("--dir /etc")), ("/etc/passwd", true), "{remedy}");
        assert!(explained(&read_only, &sandbox, &[]).unwrap().1.ends_with("--dir . without `:ro`"));
    }

    #[test]
    fn limits_that_nobody_set_are_the_hosts() {
        let denial = |reason| Denial { path: String::new(), reason };
        let limits = LimitArgs { max_written: "5".parse().ok(), ..LimitArgs::default() };
        let sandbox = SandboxArgs { limits, ..SandboxArgs::default() };
        let told = |reason| explained(&denial(reason), &sandbox, &[]).unwrap().1;
        assert_eq!(told(Refusal::Budget(BudgetItem::Written)), "--max-written=5 would have to be higher");
        assert!(told(Refusal::Budget(BudgetItem::FileSize)).contains("no flag"));
    }

    /// With the suggested flags, C libraries find the path in a directory that contains its target.
    #[test]
    fn what_leads_out_is_allowed_by_what_is_told() {
        let top = tempfile::tempdir().unwrap();
        let top = top.path().canonicalize().unwrap();
        std::fs::create_dir_all(top.join("a/in dir")).unwrap();
        std::fs::write(top.join("a/file"), "").unwrap();
        std::os::unix::fs::symlink("../file", top.join("a/in dir/link")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", top.join("a/in dir/absolute")).unwrap();
        let told =
            |dir: String, path: &str| leads_out(path, &SandboxArgs { dirs: vec![dir], ..SandboxArgs::default() });
        let (a, inner) = (top.join("a").display().to_string(), top.join("a/in dir").display().to_string());
        assert_eq!(
            told(inner.clone(), &format!("{inner}/link")),
            format!("leads out of its directory: --dir {a} instead of --dir '{inner}'")
        );
        assert_eq!(
            told(format!("{inner}::/x/in dir"), "/x/in dir/link"),
            format!("leads out of its directory: --dir {a}::/x instead of --dir '{inner}::/x/in dir'")
        );
        assert_eq!(told(format!("{inner}::."), "../file"), format!("leads out of its directory: --dir {a}::.."));
        for (dir, path) in [(format!("{inner}::/y"), "/y/link"), (format!("{inner}::."), "link")] {
            assert!(told(dir, path).contains("one that holds both ends"), "{path}");
        }
        assert!(told(format!("{inner}::."), "absolute").contains("absolute, a link to an absolute path: no flag"));
        // Refused for another reason.
        assert_eq!(told(format!("{a}::."), "file"), FORBIDDEN);
    }
}
