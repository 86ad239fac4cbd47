//! Modules compiled ahead of time: a WebAssembly binary with one more custom section, the last one.
//!
//! ```text
//! module | id, size, "wasmrun.code" | settings | padding | segment | footer
//! ```
//!
//! To everything but [`Appended`] such a file is the module that was compiled. The settings are lines of text, so that
//! the error for a file that cannot be used here says why. The footer holds the offsets of the parts, and is found from
//! the end of the file.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use super::key::{ModuleKey, Settings};
use super::segment::{self, MapCode, Record, Refused, Segment};
use super::store::ModuleCache;
use crate::error::{Error, ErrorKind, Result};
use crate::module::ModuleFacts;

const SECTION: &str = "wasmrun.code";
const MAGIC: [u8; 16] = *b"\0wasmrun.cwasm\0\x01";
/// Bytes of the footer: four offsets, where the section, the settings and the segment begin and where the segment ends;
/// then the magic bytes.
const FOOTER: usize = 4 * 8 + MAGIC.len();
/// The most bytes of settings; a file that claims more is damaged.
const MAX_SETTINGS: u64 = 64 << 10;

/// Offsets of the parts of a file.
#[derive(Clone, Copy)]
struct Footer {
    section: u64,
    settings: u64,
    segment: u64,
    end: u64,
}

impl Footer {
    /// Reads the last bytes of a file of `length` bytes.
    fn read(bytes: &[u8], length: u64) -> Option<Self> {
        let start = bytes.len().checked_sub(FOOTER)?;
        let (numbers, magic) = bytes[start..].split_at(4 * 8);
        let at = |n: usize| u64::from_le_bytes(numbers[8 * n..8 * n + 8].try_into().expect("eight bytes"));
        let [section, settings, segment, end] = [at(0), at(1), at(2), at(3)];
        let ordered = section < settings && settings < segment && segment < end && segment - settings <= MAX_SETTINGS;
        let fits = end.checked_add(FOOTER as u64) == Some(length);
        (magic == MAGIC && ordered && fits).then_some(Footer { section, settings, segment, end })
    }
}

/// A module's bytes without the code that an earlier compilation appended.
fn without_code(bytes: &[u8]) -> &[u8] {
    Footer::read(bytes, bytes.len() as u64).map_or(bytes, |footer| &bytes[..footer.section as usize])
}

/// Whether the bytes are a module with code.
pub(crate) fn has_code(bytes: &[u8]) -> bool {
    Footer::read(bytes, bytes.len() as u64).is_some()
}

/// Whether the file is a module with code.
///
/// # Errors
/// Those of the system.
pub(crate) fn file_has_code(file: &File) -> io::Result<bool> {
    footer(file).map(|footer| footer.is_some())
}

/// The footer of a file, if it has one.
fn footer(file: &File) -> io::Result<Option<Footer>> {
    let length = file.metadata()?.len();
    let Some(start) = length.checked_sub(FOOTER as u64) else { return Ok(None) };
    let mut tail = [0; FOOTER];
    file.read_exact_at(&mut tail, start)?;
    Ok(Footer::read(&tail, length))
}

/// Writes a module and the code of its functions, which was compiled with these settings.
///
/// # Errors
/// Those of reading the module and of `out`.
pub(crate) fn write(
    module: &ModuleFacts,
    settings: &Settings,
    mut records: Vec<Record>,
    out: &mut dyn Write,
) -> Result<()> {
    let binary = module.source.read(0..module.source.len())?;
    let binary = without_code(&binary);
    let key = ModuleKey::of(settings, module);
    let text = settings.to_text();
    // The size of the section is always written in five bytes.
    let start = binary.len();
    let settings_start = start + 1 + 5 + 1 + SECTION.len();
    let segment = (settings_start + text.len()).next_multiple_of(region::page::size());
    let end = segment + segment::size(&mut records);
    let contents = u32::try_from(end + FOOTER - start - 6).map_err(|_| Error::resource("the code is over 4 GiB"))?;
    let written = (|| {
        out.write_all(binary)?;
        out.write_all(&[0])?;
        out.write_all(&std::array::from_fn::<u8, 5, _>(|n| {
            (contents >> (7 * n)) as u8 & 0x7F | if n < 4 { 0x80 } else { 0 }
        }))?;
        out.write_all(&[SECTION.len() as u8])?;
        out.write_all(SECTION.as_bytes())?;
        out.write_all(text.as_bytes())?;
        segment::pad(out, segment - settings_start - text.len())?;
        segment::write(out, &key, &mut records)?;
        [start, settings_start, segment, end].iter().try_for_each(|at| out.write_all(&(*at as u64).to_le_bytes()))?;
        out.write_all(&MAGIC)
    })();
    written.map_err(|error: io::Error| Error::resource(format!("cannot write compiled code: {error}")))
}

fn refused(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid { message: message.into(), offset: None, function: None })
}

/// The code that is appended to a module in a file.
pub(crate) struct Appended {
    file: File,
    footer: Footer,
    settings: Settings,
}

impl Appended {
    /// Finds the code in a file, and checks that it can be used with the settings `here`.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) if there is none that this build can use on this machine with these settings.
    pub fn find(here: &Settings, file: &File) -> Result<Self> {
        let unreadable = |error: io::Error| Error::resource(format!("cannot be read: {error}"));
        let footer = footer(file).map_err(unreadable)?.ok_or_else(|| {
            refused("it has no compiled code, or was truncated; `wasmrun compile` makes files of this name")
        })?;
        let mut text = vec![0; (footer.segment - footer.settings) as usize];
        file.read_exact_at(&mut text, footer.settings).map_err(unreadable)?;
        let settings = std::str::from_utf8(&text).ok().and_then(Settings::from_text).ok_or_else(damaged)?;
        settings.fits(here).map_err(refused)?;
        Ok(Appended { file: file.try_clone().map_err(unreadable)?, footer, settings })
    }

    /// Opens the code for the module that was read from the file.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) if it is not of this module, or damaged; [`Resource`](ErrorKind::Resource) if
    /// there is no room for it.
    ///
    /// # Safety
    /// The file must have been written by [`write()`], and not be changed as long as the module is in use.
    pub unsafe fn open(&self, module: &ModuleFacts, map: MapCode) -> Result<ModuleCache> {
        let key = ModuleKey::of(&self.settings, module);
        let part = self.footer.segment..self.footer.end;
        let segment =
            Segment::open("its compiled code".into(), &self.file, part, &key, map).map_err(
                |refused| match refused {
                    Refused::Io(error) => {
                        Error::resource(format!("its compiled code cannot be mapped into memory: {error}"))
                    }
                    Refused::Foreign | Refused::Damaged => damaged(),
                },
            )?;
        // The whole module was valid when it was compiled.
        module.assume_background_valid();
        Ok(ModuleCache::sealed(key, segment, map))
    }
}

fn damaged() -> Error {
    refused("its compiled code is damaged")
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;
    use crate::{Engine, Module, jit};

    #[test]
    fn a_footer_must_be_right_in_all_parts() {
        let footer = |numbers: [u64; 4], magic: &[u8]| {
            let mut bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            bytes.extend(magic);
            Footer::read(&bytes, 400 + FOOTER as u64).is_some()
        };
        assert!(footer([100, 200, 300, 400], &MAGIC));
        assert!(!footer([100, 200, 300, 400], b"\0wasmrun.cwasm\0\x02"));
        for numbers in [
            [200, 200, 300, 400],
            [100, 300, 300, 400],
            [100, 200, 400, 400],
            [300, 200, 100, 400],
            [100, 200, 300, 399],
            [100, 200, 300, 401],
            [100, 200, 300, u64::MAX],
        ] {
            assert!(!footer(numbers, &MAGIC), "{numbers:?}");
        }
        let mut bytes =
            [[100, 200, 201 + MAX_SETTINGS, 400 + MAX_SETTINGS].map(u64::to_le_bytes).concat(), MAGIC.into()].concat();
        assert!(Footer::read(&bytes, 400 + MAX_SETTINGS + FOOTER as u64).is_none(), "room is made for so much text");
        bytes[16..24].copy_from_slice(&(200 + MAX_SETTINGS).to_le_bytes());
        assert!(Footer::read(&bytes, 400 + MAX_SETTINGS + FOOTER as u64).is_some());
        assert!(Footer::read(&bytes[1..], 400 + MAX_SETTINGS + FOOTER as u64).is_none());
    }

    #[test]
    fn a_good_file_without_room_for_it_is_not_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.cwasm");
        let engine = Engine::default();
        let bytes = Module::new(&engine, "(module (func))").unwrap().serialize().unwrap();
        std::fs::write(&path, &bytes).unwrap();
        let found = Appended::find(&engine.cache_settings(), &File::open(&path).unwrap()).unwrap();
        let module = Module::from_file(&engine, &path).unwrap();
        // The system refuses to map a file that was not opened for reading, as it does if there is no address space.
        let unmappable = OpenOptions::new().write(true).open(&path).unwrap();
        let found = Appended { file: unmappable, ..found };
        // SAFETY: the file was written above, and is not changed.
        let error = unsafe { found.open(&module.0.facts, jit::CodeFile::map) }.err().unwrap();
        assert!(matches!(error.kind(), ErrorKind::Resource(_)), "{error}");
        // Code of another module is reported as damaged.
        let other = Module::new(&engine, "(module (func) (memory 1))").unwrap();
        let found = Appended { file: File::open(&path).unwrap(), ..found };
        // SAFETY: the same file, which is not changed.
        let error = unsafe { found.open(&other.0.facts, jit::CodeFile::map) }.err().unwrap();
        assert!(matches!(error.kind(), ErrorKind::Invalid { .. }), "{error}");
    }
}
