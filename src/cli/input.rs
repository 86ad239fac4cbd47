//! Reading files: modules, from a path or from standard input.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::output::Failure;
use super::{mistaken, similar, status};
use crate::printable::Printable;
use crate::{Engine, Error, ErrorKind, Module};

/// A file as the messages name it.
pub(super) fn display(file: &OsStr) -> String {
    match file.to_string_lossy() {
        name if name == "-" => "standard input".into(),
        name if name.is_empty() => "\"\"".into(),
        name => Printable::line(&name).to_string(),
    }
}

/// All bytes of a file; of standard input if it is `-`.
pub(super) fn read(file: &OsStr) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let result = if file == "-" {
        io::stdin().lock().read_to_end(&mut bytes)
    } else {
        File::open(Path::new(file)).and_then(|mut file| {
            bytes.reserve(file.metadata().map_or(0, |metadata| metadata.len() as usize));
            file.read_to_end(&mut bytes)
        })
    };
    result.map(|_| bytes).map_err(|error| unreadable(file, &error))
}

/// The failure of a file that can't be read.
fn unreadable(file: &OsStr, error: &io::Error) -> Failure {
    let status = if error.kind() == io::ErrorKind::NotFound { status::NOT_FOUND } else { status::INVALID };
    let reason = match error.kind() {
        io::ErrorKind::NotFound => "no such file".to_string(),
        io::ErrorKind::IsADirectory => "is a directory, not a module".to_string(),
        io::ErrorKind::PermissionDenied => "permission denied".to_string(),
        _ => error.to_string(),
    };
    let failure = Failure::new(status, format!("{}: {reason}", display(file)));
    match error.kind() {
        io::ErrorKind::NotFound if is_subcommand(file) => {
            failure.with_hint(format!("`{}` is a subcommand: those stand before their flags", file.to_string_lossy()))
        }
        io::ErrorKind::NotFound => failure.with_hint(similar_file(file)),
        io::ErrorKind::IsADirectory => failure.with_hint(modules_in(file)),
        _ => failure,
    }
}

fn is_subcommand(file: &OsStr) -> bool {
    super::command().find_subcommand(file).is_some()
}

/// Names in a directory that are looked at for a hint.
const MAX_LOOKED_AT: usize = 10_000;

/// The modules in a directory, by the ends of their names, sorted.
fn module_names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().take(MAX_LOOKED_AT).map_while(Result::ok);
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let is_module = |name: &String| [".wasm", ".wat", ".cwasm"].iter().any(|end| name.ends_with(end));
    let mut names: Vec<_> = names.filter(is_module).collect();
    names.sort();
    names
}

/// A question for the module beside a file that is not there whose name comes near.
pub(super) fn similar_file(file: &OsStr) -> Option<String> {
    let path = Path::new(file);
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let (name, names) = (path.file_name()?.to_str()?, module_names(directory.unwrap_or(Path::new("."))));
    let at = |name: &str| directory.map_or(name.into(), |at| at.join(name).to_string_lossy().into_owned());
    // A name without its end is nearer than any that is spelt otherwise.
    let whole: Vec<_> = names.iter().filter(|other| Path::new(other).file_stem() == path.file_name()).collect();
    let near = if whole.is_empty() {
        similar::nearest(name, names.iter().map(String::as_str))
    } else {
        whole.into_iter().map(String::as_str).collect()
    };
    near.first().map(|name| format!("did you mean `{}`?", Printable::name(&at(name))))
}

/// What modules there are in a directory that was given for one.
fn modules_in(directory: &OsStr) -> Option<String> {
    let at = Path::new(directory);
    let names = module_names(at);
    let shown = |name: &String| format!("`{}`", Printable::name(&at.join(name).to_string_lossy()));
    let first: Vec<_> = names.iter().take(3).map(shown).collect();
    match names.len() {
        0 => None,
        count if count > first.len() => Some(format!("it has {count} modules, such as {}", first.join(", "))),
        _ => Some(format!("it has {}", first.join(" and "))),
    }
}

/// The failure of a file that is no valid module; of text, with the line that is wrong.
pub(super) fn invalid(file: &OsStr, error: &Error, bytes: impl FnOnce() -> Option<Vec<u8>>) -> Failure {
    let is_script = Path::new(file).extension().is_some_and(|extension| extension == "wast");
    let script = is_script.then(|| "`wasmrun wast` runs test scripts".to_string());
    let failure = Failure::of(&display(file), error).with_hint(script);
    let is_text = matches!(error.kind(), ErrorKind::Invalid { offset: None, .. });
    match is_text.then(bytes).flatten().as_deref().and_then(mistaken::marked_line) {
        Some(lines) => failure.with_details(&lines),
        None => failure,
    }
}

/// Whether the user takes the file for one of `wasmrun compile`. Its name must say so: a module from anywhere must not
/// get native code run just by containing some.
pub(super) fn is_compiled(file: &OsStr) -> bool {
    Path::new(file).extension().is_some_and(|extension| extension == "cwasm")
}

/// The module in a file, of which no more is read than must be. A file of `wasmrun compile` only with `allow_precompiled`.
pub(super) fn module(engine: &Engine, file: &OsStr, allow_precompiled: bool) -> Result<Module, Failure> {
    if file != "-" {
        let open = File::open(Path::new(file)).map_err(|error| unreadable(file, &error))?;
        if open.metadata().is_ok_and(|metadata| metadata.is_file()) {
            let again = || read(file).ok();
            let mut head = [0; mistaken::HEAD];
            let len = open.read_at(&mut head, 0).map_err(|error| unreadable(file, &error))?;
            check_kind(file, &head[..len])?;
            if is_compiled(file) {
                if !allow_precompiled {
                    let message = format!("{}: compiled code runs outside of any sandbox", display(file));
                    let hint = "--allow-precompiled runs it, if you trust it as a native program".to_string();
                    return Err(Failure::new(status::INVALID, message).with_hint(hint));
                }
                // SAFETY: the user trusts files of this name as programs, by the flag.
                let module = unsafe { Module::deserialize_open_file(engine, open) };
                return module.map_err(|error| invalid(file, &error, again));
            }
            return Module::from_open_file(engine, open).map_err(|error| invalid(file, &error, again));
        }
    }
    let bytes = read(file)?;
    new_module(engine, file, &bytes)
}

/// The module of these bytes, which are those of `file`.
pub(super) fn new_module(engine: &Engine, file: &OsStr, bytes: &[u8]) -> Result<Module, Failure> {
    check_kind(file, bytes)?;
    Module::new(engine, bytes).map_err(|error| invalid(file, &error, || Some(bytes.to_vec())))
}

/// Refuses files that people mistake for modules, with a clearer message than the decoder's.
pub(super) fn check_kind(file: &OsStr, bytes: &[u8]) -> Result<(), Failure> {
    match mistaken::for_module(file, bytes) {
        None => Ok(()),
        Some((what, hint)) => {
            let failure = Failure::new(status::INVALID, format!("{}: {what}", display(file)));
            Err(failure.with_hint((!hint.is_empty()).then(|| hint.into())))
        }
    }
}
