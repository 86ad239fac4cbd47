//! Files that a subcommand writes: whole or not at all, so that a failure leaves the file of that name as it was.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, MetadataExt as _, OpenOptionsExt as _};

use super::process;

/// The most symbolic links that are followed, as Linux has it.
const MAX_LINKS: usize = 40;

/// Where something is going to be written to. It stays the same place when a guest, between finding and opening it, puts links
/// into a folder that it was given.
pub(super) enum Place {
    /// A file, present or not, in a folder.
    File {
        folder: Dir,
        name: OsString,
        path: PathBuf,
    },
    /// Something that can't be replaced, and its device and inode.
    Stream {
        path: PathBuf,
        identity: (u64, u64),
    },
    /// An open file, by its number.
    Descriptor(PathBuf),
    Stdout(io::Stdout),
}

impl Place {
    /// Finds the place of a name; `-` is standard output. Nothing is opened for writing yet.
    ///
    /// # Errors
    /// Those of the system; also if it is a directory, or if binary data would go to a terminal.
    pub fn find(name: &Path) -> io::Result<Self> {
        if name.as_os_str() == "-" {
            let stdout = io::stdout();
            if stdout.is_terminal() {
                return Err(io::Error::other("it is a terminal, and what would be written there is no text"));
            }
            return Ok(Place::Stdout(stdout));
        }
        let path = follow(name)?;
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            Ok(metadata) if metadata.is_file() && path.is_symlink() => Ok(Place::Descriptor(path)),
            Ok(metadata) if !metadata.is_file() => {
                Ok(Place::Stream { identity: (metadata.dev(), metadata.ino()), path })
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Self::in_folder(path),
        }
    }

    fn in_folder(path: PathBuf) -> io::Result<Self> {
        let Some(name) = path.file_name().map(OsStr::to_os_string) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it has no name of a file at its end"));
        };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok(Place::File { folder: Dir::open_ambient_dir(parent, ambient_authority())?, name, path })
    }

    /// Begins to write there.
    ///
    /// # Errors
    /// Those of the system; also if something else is there by now.
    pub fn open(self) -> io::Result<Destination> {
        match self {
            Place::File { folder, name, path } => Destination::beside(folder, name, &path),
            Place::Stream { path, identity } => {
                let file = OpenOptions::new().write(true).open(&path)?;
                let metadata = file.metadata()?;
                if (metadata.dev(), metadata.ino()) != identity {
                    return Err(io::Error::other("something else is there by now"));
                }
                Ok(Destination::Stream(file))
            }
            Place::Descriptor(path) => File::create(path).map(Destination::Stream),
            Place::Stdout(stdout) => Ok(Destination::Stdout(stdout)),
        }
    }
}

/// Where something is being written to.
pub(super) enum Destination {
    /// A regular file, under another name beside its place until it is whole: a program that runs the old one is not
    /// disturbed.
    File {
        file: File,
        folder: Dir,
        unfinished: OsString,
        name: OsString,
    },
    /// Something that can't be replaced: a device, a FIFO.
    Stream(File),
    Stdout(io::Stdout),
}

impl Destination {
    /// Begins to write to the file of a name, which need not exist; `-` is standard output.
    ///
    /// # Errors
    /// Those of [`Place::find`] and [`Place::open`].
    #[cfg(jit)]
    pub fn open(name: &Path) -> io::Result<Self> {
        Place::find(name)?.open()
    }

    fn beside(folder: Dir, name: OsString, path: &Path) -> io::Result<Self> {
        let present = folder.symlink_metadata(&name).ok().filter(|present| present.is_file());
        // A short name, because the file's own may be as long as a name can be; and a random one, that nobody can have guessed.
        let unfinished = OsString::from(format!(".wasmrun-{:016x}", rand::random::<u64>()));
        // Until it has the mode of the file that it takes the place of, no more than that may be.
        let mode = if present.is_some() { 0o600 } else { 0o666 };
        let mut options = cap_std::fs::OpenOptions::new();
        let file = folder.open_with(&unfinished, options.write(true).create_new(true).mode(mode))?.into_std();
        process::remove_at_interrupt(Some(&path.with_file_name(&unfinished)));
        let this = Destination::File { file, folder, unfinished, name };
        if let (Some(present), Destination::File { file, .. }) = (present, &this) {
            // Only root may change owners. Where that fails, the set-user-ID bits go, which would now stand for another user.
            let is_owner_kept = fchown(file, Some(present.uid()), Some(present.gid())).is_ok();
            let kept = if is_owner_kept { 0o7777 } else { 0o777 };
            file.set_permissions(Permissions::from_mode(present.mode() & kept))?;
        }
        Ok(this)
    }

    /// Lets only its owner read a file, as for what may have secrets. What is no file of its own stays as it is.
    ///
    /// # Errors
    /// The system's.
    pub fn make_private(&self) -> io::Result<()> {
        match self {
            Destination::File { file, .. } => file.set_permissions(Permissions::from_mode(0o600)),
            Destination::Stream(_) | Destination::Stdout(_) => Ok(()),
        }
    }

    /// Puts the file into its place, now that all has been written.
    ///
    /// # Errors
    /// The system's.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        match &self {
            Destination::File { folder, unfinished, name, .. } => folder.rename(unfinished, folder, name),
            Destination::Stream(_) | Destination::Stdout(_) => Ok(()),
        }
    }
}

impl Drop for Destination {
    /// Removes an unfinished file.
    fn drop(&mut self) {
        if let Destination::File { folder, unfinished, .. } = self {
            // Finished, it has that name no more.
            let _ = folder.remove_file(unfinished);
            process::remove_at_interrupt(None);
        }
    }
}

impl Write for Destination {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Destination::File { file, .. } | Destination::Stream(file) => file.write(bytes),
            Destination::Stdout(stdout) => stdout.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Destination::File { file, .. } | Destination::Stream(file) => file.flush(),
            Destination::Stdout(stdout) => stdout.flush(),
        }
    }
}

/// The place that symbolic links lead to from `name`, whether something is there or not.
fn follow(name: &Path) -> io::Result<PathBuf> {
    let mut place = name.to_path_buf();
    for _ in 0..MAX_LINKS {
        match fs::symlink_metadata(&place) {
            Ok(metadata) if metadata.is_symlink() => {}
            _ => return Ok(place),
        }
        if is_magic(&place) {
            return Ok(place);
        }
        let target = fs::read_link(&place)?;
        place = place.parent().unwrap_or(Path::new("")).join(target);
    }
    Err(io::Error::other("it is a link in a circle of links"))
}

/// Whether a link is one of procfs's to an open file: what it says is no name of that file always.
fn is_magic(link: &Path) -> bool {
    let parent = link.parent().and_then(|parent| fs::canonicalize(parent).ok());
    parent.is_some_and(|parent| parent.starts_with("/proc") && parent.file_name() == Some(OsStr::new("fd")))
}
