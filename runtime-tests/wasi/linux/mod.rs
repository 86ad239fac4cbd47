//! The same call on the same files, by a guest and by this process: errno and what is on the disk afterwards are the
//! same, but for what is listed here as meant to differ.

mod calls;
mod guest;
mod limits;
mod open_files;
mod paths;
mod read_only;

use crate::Result;
pub(crate) use calls::{inheriting, one_write, polling, receiving, sockets_first};
use guest::Guest;
pub(crate) use limits::{budget, connections, long_lists, streams};
pub(crate) use open_files::open_files;
pub(crate) use paths::{changes, opening, renaming};
pub(crate) use read_only::read_only;
use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::Path;

/// `errno`s of WASI that the tests name.
pub(crate) const PERM: i32 = 63;
pub(crate) const INVAL: i32 = 28;

/// What WASI calls an error of the system; 0 for success.
pub(crate) fn number<T>(result: rustix::io::Result<T>) -> i32 {
    use rustix::io::Errno;
    match result {
        Ok(_) => 0,
        Err(Errno::ACCESS) => 2,
        Err(Errno::AGAIN) => 6,
        Err(Errno::BADF) => 8,
        Err(Errno::BUSY) => 10,
        Err(Errno::EXIST) => 20,
        Err(Errno::FBIG) => 22,
        Err(Errno::INVAL) => INVAL,
        Err(Errno::ISDIR) => 31,
        Err(Errno::LOOP) => 32,
        Err(Errno::NAMETOOLONG) => 37,
        Err(Errno::NODEV) => 43,
        Err(Errno::NOENT) => 44,
        Err(Errno::NOSPC) => 51,
        Err(Errno::NOTDIR) => 54,
        Err(Errno::NOTEMPTY) => 55,
        Err(Errno::NXIO) => 60,
        Err(Errno::PERM) => PERM,
        Err(Errno::PIPE) => 64,
        Err(Errno::ROFS) => 69,
        Err(Errno::SPIPE) => 70,
        Err(errno) => 1000 + errno.raw_os_error(),
    }
}

/// The files that each call finds.
fn plant(root: &Path) -> Result<()> {
    let at = |name: &str| root.join(name);
    for directory in ["d", "d/sub", "e", "full"] {
        fs::create_dir(at(directory))?;
    }
    for (file, text) in [("f", "text"), ("g", "other text"), ("d/inner", "inner"), ("full/x", "")] {
        fs::write(at(file), text)?;
    }
    let links = [
        ("ld", "d"),
        ("lf", "f"),
        ("ll", "lf"),
        ("lslash", "f/"),
        ("ldslash", "d/"),
        ("d/up", "../f"),
        ("dang", "gone"),
        ("dangno", "no/gone"),
        ("loop", "loop"),
    ];
    for (link, target) in links {
        symlink(target, at(link))?;
    }
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    Ok(rustix::fs::mkfifoat(fs::File::open(root)?, "fifo", mode)?)
}

/// The paths that each call is tried with.
const PATHS: &[&str] = &[
    "",
    ".",
    "./",
    "f",
    "f/",
    "f//",
    "f/.",
    "f/..",
    "f/x",
    "f/x/",
    "d",
    "d/",
    "d//",
    "d/.",
    "d/./",
    "d/..",
    "d/../",
    "d/../f",
    "d//inner",
    "d/inner",
    "d/inner/",
    "d/inner/..",
    "d/sub",
    "d/sub/",
    "d/sub/..",
    "d/sub/../..",
    "d/up",
    "d/up/",
    "d/none",
    "d/none/",
    "./f",
    ".//d",
    "missing",
    "missing/",
    "missing//",
    "missing/.",
    "missing/..",
    "missing/../f",
    "no/x",
    "no/x/",
    "ld",
    "ld/",
    "ld/.",
    "ld/..",
    "ld/inner",
    "ld/inner/",
    "ld/sub",
    "ld/sub/",
    "ld/up",
    "ld/none",
    "lf",
    "lf/",
    "lf/.",
    "lf/..",
    "lf/x",
    "ll",
    "ll/",
    "lslash",
    "lslash/",
    "ldslash",
    "ldslash/",
    "dang",
    "dang/",
    "dang/x",
    "dang/.",
    "dangno",
    "dangno/",
    "loop",
    "loop/",
    "loop/x",
    "loop/.",
    "e",
    "e/",
    "e/.",
    "e/..",
    "full",
    "full/",
    "fifo",
    "fifo/",
    "fifo/x",
    LONGEST,
    TOO_LONG,
];

/// A name of 255 bytes, and one of 256.
const LONGEST: &str = str_of(&[b'n'; 255]);
const TOO_LONG: &str = str_of(&[b'n'; 256]);

const fn str_of(bytes: &[u8]) -> &str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(_) => panic!("a name of ASCII"),
    }
}

/// Two directories with the same files in them: one for the guest, one for this process.
struct Twins {
    root: tempfile::TempDir,
    planted: Vec<String>,
}

impl Twins {
    fn new() -> Result<Self> {
        // In memory where that can be had: the files are made anew some thousand times.
        let root = match tempfile::TempDir::new_in("/dev/shm") {
            Ok(root) => root,
            Err(_) => tempfile::TempDir::new()?,
        };
        for twin in ["guest", "own"] {
            fs::create_dir(root.path().join(twin))?;
            plant(&root.path().join(twin))?;
        }
        let planted = list(&root.path().join("own"))?;
        Ok(Twins { root, planted })
    }

    fn guest(&self) -> std::path::PathBuf {
        self.root.path().join("guest")
    }

    fn own(&self) -> std::path::PathBuf {
        self.root.path().join("own")
    }

    /// Whether they still have the same files in them; if they were changed, both are made anew.
    fn compare(&self) -> Result<bool> {
        let (guest, own) = (list(&self.guest())?, list(&self.own())?);
        if guest == self.planted && own == self.planted {
            return Ok(true);
        }
        for twin in [self.guest(), self.own()] {
            for entry in fs::read_dir(&twin)? {
                let path = entry?.path();
                if path.symlink_metadata()?.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
            }
            plant(&twin)?;
        }
        Ok(guest == own)
    }
}

/// All that is in a directory: names, types, sizes, what links say, modification times that were set.
fn list(directory: &Path) -> Result<Vec<String>> {
    let mut found = vec![];
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let metadata = path.symlink_metadata()?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let modified = metadata.modified()?.duration_since(std::time::UNIX_EPOCH)?.as_secs();
        let time = if modified < 1_000_000_000 { modified } else { 0 };
        let file_type = metadata.file_type();
        if file_type.is_dir() {
            found.push(format!("{name}/ {time}"));
            found.extend(list(&path)?.into_iter().map(|inner| format!("{name}/{inner}")));
        } else if file_type.is_symlink() {
            found.push(format!("{name} -> {} {time}", fs::read_link(&path)?.display()));
        } else {
            found.push(format!("{name} {} {time} {}", metadata.len(), file_type.is_fifo()));
        }
    }
    found.sort();
    Ok(found)
}

/// Collects differences.
#[derive(Default)]
struct Report {
    calls: usize,
    differences: Vec<String>,
}

impl Report {
    fn add(&mut self, call: impl FnOnce() -> String, guest: i32, own: i32) {
        self.calls += 1;
        if guest != own {
            self.differences.push(format!("{}: {guest} instead of {own}", call()));
        }
    }

    fn same_files(&mut self, call: impl FnOnce() -> String, same: bool) {
        if !same {
            self.differences.push(format!("{}: other files", call()));
        }
    }

    fn end(self) -> Result<()> {
        match self.differences.len() {
            0 if self.calls > 100 => Ok(()),
            0 => Err(format!("only {} calls", self.calls).into()),
            count => Err(format!("{count} of {} calls differ:\n{}", self.calls, self.differences.join("\n")).into()),
        }
    }
}
