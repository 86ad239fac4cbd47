//! Reading files: modules, from a path or from standard input.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::output::Failure;
use super::status;
use crate::printable::Printable;
use crate::{Engine, Module};

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
    Failure::new(status, format!("{}: {reason}", display(file)))
}

/// Whether the user takes the file for one of `wasmrun compile`. Its name must say so: a module from anywhere must not
/// get native code run just by containing some.
pub(super) fn is_compiled(file: &OsStr) -> bool {
    Path::new(file).extension().is_some_and(|extension| extension == "cwasm")
}

/// The module in a file, of which no more is read than must be. A file of `wasmrun compile` only with `allow_precompiled`.
pub(super) fn module(engine: &Engine, file: &OsStr, allow_precompiled: bool) -> Result<Module, Failure> {
    let invalid = |error| Failure::of(&display(file), &error);
    if file != "-" {
        let open = File::open(Path::new(file)).map_err(|error| unreadable(file, &error))?;
        if open.metadata().is_ok_and(|metadata| metadata.is_file()) {
            let mut head = [0; 8];
            let len = open.read_at(&mut head, 0).map_err(|error| unreadable(file, &error))?;
            check_kind(file, &head[..len])?;
            if is_compiled(file) {
                if !allow_precompiled {
                    let message = format!(
                        "{}: compiled code runs outside of any sandbox; --allow-precompiled runs it, if you trust it as \
                         a native program",
                        display(file)
                    );
                    return Err(Failure::new(status::INVALID, message));
                }
                // SAFETY: the user trusts files of this name as programs, by the flag.
                return unsafe { Module::deserialize_open_file(engine, open) }.map_err(invalid);
            }
            return Module::from_open_file(engine, open).map_err(invalid);
        }
    }
    let bytes = read(file)?;
    check_kind(file, &bytes)?;
    Module::new(engine, &bytes).map_err(invalid)
}

/// Refuses files that people mistake for modules, with a clearer message than the decoder's.
pub(super) fn check_kind(file: &OsStr, bytes: &[u8]) -> Result<(), Failure> {
    let what = match bytes {
        [] => "the file is empty",
        [b'\0', b'a', b's', b'm', _, _, 1, 0, ..] => {
            "this is a component (WASI Preview 2), wasmrun runs core modules (WASI Preview 1)"
        }
        [0x7f, b'E', b'L', b'F', ..] => "this is a native executable, not a WebAssembly module",
        _ => return Ok(()),
    };
    Err(Failure::new(status::INVALID, format!("{}: {what}", display(file))))
}
