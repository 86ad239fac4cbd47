//! Telling profilers the names of native code, in perf's map of symbols or in a jitdump file.
//!
//! Each of these files exists once per process: all engines that write one share it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Mutex, PoisonError};

use memmap2::Mmap;

use crate::config::Profile;
use crate::error::{Error, Result};
use crate::printable::Printable;

/// The files that have been opened in this process.
static FILES: Mutex<(Option<PerfMap>, Option<JitDump>)> = Mutex::new((None, None));

fn files() -> std::sync::MutexGuard<'static, (Option<PerfMap>, Option<JitDump>)> {
    FILES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens the file for this kind of profile, unless it is open.
///
/// # Errors
/// [`Resource`](crate::ErrorKind::Resource) if the file can't be made.
pub(super) fn open(profile: Profile) -> Result<()> {
    let mut files = files();
    match profile {
        Profile::None => {}
        Profile::PerfMap if files.0.is_none() => files.0 = Some(PerfMap::open()?),
        Profile::JitDump if files.1.is_none() => files.1 = Some(JitDump::open()?),
        Profile::PerfMap | Profile::JitDump => {}
    }
    Ok(())
}

/// Records code that is now in code memory. After an error nothing more is written; the program goes on.
pub(super) fn add(profile: Profile, name: &str, code: &[u8]) {
    let mut files = files();
    let written = match profile {
        Profile::None => Ok(()),
        Profile::PerfMap => files.0.as_mut().map_or(Ok(()), |map| map.add(name, code)),
        Profile::JitDump => files.1.as_mut().map_or(Ok(()), |dump| dump.add(name, code)),
    };
    if written.is_err() {
        *files = (None, None);
    }
}

/// Creates an empty file that only the user can read.
fn create(path: &str) -> Result<File> {
    // Everybody may write to the folder: a link that somebody else has put there must not be followed.
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    options.open(path).map_err(|error| Error::resource(format!("cannot write {path} for the profiler: {error}")))
}

/// `/tmp/perf-PID.map`: a line for each symbol with start, size and name.
struct PerfMap(File);

impl PerfMap {
    fn open() -> Result<Self> {
        create(&format!("/tmp/perf-{}.map", std::process::id())).map(PerfMap)
    }

    fn add(&mut self, name: &str, code: &[u8]) -> io::Result<()> {
        let line = format!("{:x} {:x} {}\n", code.as_ptr() as usize, code.len(), Printable::line(name));
        self.0.write_all(line.as_bytes())
    }
}

/// `jit-PID.dump` in the current folder, for `perf inject --jit` (tools/perf/Documentation/jitdump-specification.txt of
/// the Linux kernel).
struct JitDump {
    file: File,
    index: u64,
    /// perf finds the file by this mapping of it.
    _marker: Mmap,
}

impl JitDump {
    const MAGIC: u32 = 0x4a69_5444;
    const VERSION: u32 = 1;
    const HEADER_BYTES: u32 = 40;
    const CODE_LOAD: u32 = 0;
    const CODE_LOAD_BYTES: usize = 56;
    /// `e_machine` of ELF.
    const MACHINE: u32 = if cfg!(target_arch = "x86_64") { 62 } else { 183 };

    fn open() -> Result<Self> {
        let path = format!("jit-{}.dump", std::process::id());
        let mut file = create(&path)?;
        let failed = |error| Error::resource(format!("cannot write {path} for the profiler: {error}"));
        let mut header = Vec::new();
        for word in [Self::MAGIC, Self::VERSION, Self::HEADER_BYTES, Self::MACHINE, 0, std::process::id()] {
            header.extend_from_slice(&word.to_ne_bytes());
        }
        header.extend_from_slice(&now().to_ne_bytes());
        header.extend_from_slice(&0u64.to_ne_bytes());
        file.write_all(&header).map_err(failed)?;
        // SAFETY: nothing is read through the mapping; it only has to appear in the profiler's record of mappings.
        let marker = unsafe { memmap2::MmapOptions::new().len(header.len()).map_exec(&file) }.map_err(failed)?;
        Ok(JitDump { file, index: 0, _marker: marker })
    }

    fn add(&mut self, name: &str, code: &[u8]) -> io::Result<()> {
        let size = Self::CODE_LOAD_BYTES + name.len() + 1 + code.len();
        let mut record = Vec::with_capacity(size);
        record.extend_from_slice(&Self::CODE_LOAD.to_ne_bytes());
        record.extend_from_slice(&(size as u32).to_ne_bytes());
        record.extend_from_slice(&now().to_ne_bytes());
        record.extend_from_slice(&std::process::id().to_ne_bytes());
        record.extend_from_slice(&(rustix::thread::gettid().as_raw_nonzero().get() as u32).to_ne_bytes());
        let address = code.as_ptr() as u64;
        for word in [address, address, code.len() as u64, self.index] {
            record.extend_from_slice(&word.to_ne_bytes());
        }
        // A name ends at the first zero byte.
        record.extend(name.bytes().map(|byte| if byte == 0 { b'?' } else { byte }));
        record.push(0);
        record.extend_from_slice(code);
        self.index += 1;
        self.file.write_all(&record)
    }
}

/// The time as `perf record -k mono` takes it, in nanoseconds.
fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_is_well_formed() {
        let mut dump = JitDump::open().unwrap();
        let path = format!("jit-{}.dump", std::process::id());
        dump.add("a\0b", &[1, 2, 3]).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(bytes.len(), 40 + 56 + 4 + 3);
        assert_eq!(bytes[..4], JitDump::MAGIC.to_ne_bytes());
        let record = &bytes[40..];
        assert_eq!(record[4..8], (record.len() as u32).to_ne_bytes());
        assert_eq!(record[56..], *b"a?b\0\x01\x02\x03");
    }

    #[test]
    fn a_map_has_a_line_for_each_symbol() {
        let path = format!("/tmp/perf-{}.map", std::process::id());
        let mut map = PerfMap::open().unwrap();
        map.add("f\ng", &[0; 16]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(text.ends_with(" 10 f\\ng\n"), "{text}");
    }
}
