//! Files that a subcommand writes: whole or not at all, so that a failure leaves the file of that name as it was.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use super::process;

/// The most symbolic links that are followed, as Linux has it.
const MAX_LINKS: usize = 40;

/// Where something is being written to.
pub(super) enum Destination {
    /// A regular file, under another name beside its place until it is whole: a program that runs the old one is not
    /// disturbed.
    File {
        file: File,
        unfinished: PathBuf,
        place: PathBuf,
    },
    /// Something that can't be replaced: a device, a FIFO.
    Stream(File),
    Stdout(io::Stdout),
}

impl Destination {
    /// Begins to write to the file of a name, which need not exist; `-` is standard output.
    ///
    /// # Errors
    /// Those of the system; also if it is a directory, or if binary data would go to a terminal.
    pub fn open(name: &Path) -> io::Result<Self> {
        if name.as_os_str() == "-" {
            let stdout = io::stdout();
            if stdout.is_terminal() {
                return Err(io::Error::other("it is a terminal, and what would be written there is no text"));
            }
            return Ok(Destination::Stdout(stdout));
        }
        let place = follow(name)?;
        match fs::metadata(&place) {
            Ok(metadata) if metadata.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            Ok(metadata) if metadata.is_file() && !place.is_symlink() => Self::beside(place, Some(&metadata)),
            // An open file, by its number.
            Ok(metadata) if metadata.is_file() => File::create(&place).map(Destination::Stream),
            Ok(_) => OpenOptions::new().write(true).open(&place).map(Destination::Stream),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::beside(place, None),
            Err(error) => Err(error),
        }
    }

    fn beside(place: PathBuf, present: Option<&Metadata>) -> io::Result<Self> {
        if place.file_name().is_none() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it has no name of a file at its end"));
        }
        // A short name, because the file's own may be as long as a name can be; and a random one, that nobody can have guessed.
        let unfinished = place.with_file_name(format!(".wasmrun-{:016x}", rand::random::<u64>()));
        // Until it has the mode of the file that it takes the place of, no more than that may be.
        let mode = if present.is_some() { 0o600 } else { 0o666 };
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&unfinished)?;
        process::remove_at_interrupt(Some(&unfinished));
        let this = Destination::File { file, unfinished, place };
        if let (Some(present), Destination::File { file, .. }) = (present, &this) {
            // Only root may change owners. Where that fails, the set-user-ID bits go, which would now stand for another user.
            let is_owner_kept = fchown(file, Some(present.uid()), Some(present.gid())).is_ok();
            let mut permissions = present.permissions();
            if !is_owner_kept {
                permissions.set_mode(present.mode() & 0o777);
            }
            file.set_permissions(permissions)?;
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
            Destination::File { unfinished, place, .. } => fs::rename(unfinished, place),
            Destination::Stream(_) | Destination::Stdout(_) => Ok(()),
        }
    }
}

impl Drop for Destination {
    /// Removes an unfinished file.
    fn drop(&mut self) {
        if let Destination::File { unfinished, .. } = self {
            // Finished, it has that name no more.
            let _ = fs::remove_file(unfinished);
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
