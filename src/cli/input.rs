//! Reading files: modules, from a path or from standard input.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::output::Failure;
use super::status;
use crate::{Engine, Module};

/// A file as the messages name it.
pub(super) fn display(file: &OsStr) -> String {
    if file == "-" { "standard input".into() } else { file.to_string_lossy().into_owned() }
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
    match result {
        Ok(_) => Ok(bytes),
        Err(error) => {
            let status = if error.kind() == io::ErrorKind::NotFound { status::NOT_FOUND } else { status::INVALID };
            let reason = match error.kind() {
                io::ErrorKind::NotFound => "no such file".to_string(),
                io::ErrorKind::IsADirectory => "is a directory, not a module".to_string(),
                io::ErrorKind::PermissionDenied => "permission denied".to_string(),
                _ => error.to_string(),
            };
            Err(Failure::new(status, format!("{}: {reason}", display(file))))
        }
    }
}

/// The module in a file.
pub(super) fn module(engine: &Engine, file: &OsStr) -> Result<Module, Failure> {
    let bytes = read(file)?;
    check_kind(file, &bytes)?;
    Module::new(engine, &bytes).map_err(|error| Failure::of(&display(file), &error))
}

/// Refuses what people mistake for a module, with words that help more than a decoder's.
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
