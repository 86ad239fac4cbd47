//! A file of compiled functions, or such a part of a file. Written once, in one go; read by mapping.
//!
//! ```text
//! header | records, sorted by function | tables of the functions | padding | code, from a page boundary on
//! ```
//!
//! The header has a checksum of its own, and each record covers its function: record, code and tables. So opening
//! reads one page, and a function costs the search in the records and the hash of what is its own. All numbers are
//! little-endian; offsets are those in the segment.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use memmap2::{Mmap, MmapOptions};

use super::key::{FORMAT, ModuleKey};
use crate::jit::CodeFile;

/// A piece of code of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FunctionKey {
    /// Index among the module's defined functions.
    pub defined: u32,
    /// Where the code is entered: 0 for the function's start, else what stands for a loop in it (see `jit::cached`).
    pub entry: u32,
    /// The higher, the better the code; [`BYTECODE`] or one of `jit::Tier`.
    pub tier: u32,
}

/// The tier of the interpreter's bytecode, which is in a record's tables.
pub(crate) const BYTECODE: u32 = 0;

/// A function to be written.
#[derive(Debug)]
pub(super) struct Record {
    pub key: FunctionKey,
    pub body: [u8; 32],
    pub alignment: u32,
    pub code: Vec<u8>,
    pub tables: Vec<u8>,
}

impl Record {
    /// Bytes it takes, about.
    pub fn bytes(&self) -> usize {
        RECORD + self.code.len() + self.tables.len()
    }
}

/// What a verified record holds.
pub(super) struct Entry<'a> {
    pub alignment: u32,
    /// Bytes of the code in the segment's [`Code`].
    pub code: Range<usize>,
    pub tables: &'a [u8],
}

/// Why a file is not used. Each has a text for the user.
#[derive(Debug)]
pub(super) enum Refused {
    Io(io::Error),
    Foreign,
    Damaged,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refused::Io(error) => write!(f, "cannot be read: {error}"),
            Refused::Foreign => f.write_str("is not of this module, version, processor and settings"),
            Refused::Damaged => f.write_str("is damaged"),
        }
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Refused::Io(error)
    }
}

const MAGIC: [u8; 12] = *b"\0wasmruncode";
const HEADER: usize = 96;
const RECORD: usize = 104;
/// Where the checksums begin in header and record: they are last.
const HEADER_SUM: usize = HEADER - 24;
const RECORD_SUM: usize = RECORD - 24;
/// The strictest alignment that code may ask for.
const MAX_ALIGNMENT: u32 = 4096;

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn checksum(key: &ModuleKey, parts: &[&[u8]]) -> [u8; 24] {
    let mut hasher = blake3::Hasher::new_keyed(&key.0);
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().as_bytes()[..24].try_into().expect("32 bytes")
}

/// Writes a segment.
///
/// # Errors
/// Those of `out`.
pub(super) fn write(out: &mut dyn Write, key: &ModuleKey, records: &mut [Record]) -> io::Result<()> {
    records.sort_by_key(|record| record.key);
    let Layout { tables_start, tables_end, code_start, places, end } = Layout::of(records);

    let mut header = Vec::with_capacity(HEADER);
    header.extend(MAGIC);
    header.extend(FORMAT.to_le_bytes());
    header.extend(key.0);
    for number in [records.len(), code_start, end] {
        header.extend((number as u64).to_le_bytes());
    }
    let sum = checksum(key, &[&header]);
    header.extend(sum);
    debug_assert_eq!(header.len(), HEADER);
    out.write_all(&header)?;

    let mut tables = tables_start;
    for (record, code) in records.iter().zip(&places) {
        let mut bytes = Vec::with_capacity(RECORD);
        let numbers = [record.key.defined, record.key.entry, record.key.tier, record.alignment];
        numbers.iter().for_each(|number| bytes.extend(number.to_le_bytes()));
        let lengths = [*code, record.code.len(), tables, record.tables.len()];
        lengths.iter().for_each(|number| bytes.extend((*number as u64).to_le_bytes()));
        bytes.extend(record.body);
        let sum = checksum(key, &[&bytes, &record.code, &record.tables]);
        bytes.extend(sum);
        debug_assert_eq!(bytes.len(), RECORD);
        out.write_all(&bytes)?;
        tables += record.tables.len();
    }
    for record in records.iter() {
        out.write_all(&record.tables)?;
    }
    let mut written = tables_end;
    for (record, start) in records.iter().zip(places) {
        pad(out, start - written)?;
        out.write_all(&record.code)?;
        written = start + record.code.len();
    }
    pad(out, end - written)
}

/// Bytes that [`write`] writes.
pub(super) fn size(records: &mut [Record]) -> usize {
    records.sort_by_key(|record| record.key);
    Layout::of(records).end
}

/// Where the parts of a segment are.
struct Layout {
    tables_start: usize,
    tables_end: usize,
    code_start: usize,
    /// Of each function's code.
    places: Vec<usize>,
    end: usize,
}

impl Layout {
    fn of(records: &[Record]) -> Self {
        let tables_start = HEADER + RECORD * records.len();
        let tables_end = tables_start + records.iter().map(|record| record.tables.len()).sum::<usize>();
        let code_start = tables_end.next_multiple_of(region::page::size().max(MAX_ALIGNMENT as usize));
        let mut end = code_start;
        let places = records.iter().map(|record| {
            let start = end.next_multiple_of(record.alignment.clamp(1, MAX_ALIGNMENT) as usize);
            end = start + record.code.len();
            start
        });
        let places = places.collect();
        Layout { tables_start, tables_end, code_start, places, end }
    }
}

/// Writes zeros.
pub(super) fn pad(out: &mut dyn Write, bytes: usize) -> io::Result<()> {
    io::copy(&mut io::Read::take(io::repeat(0), bytes as u64), out).map(drop)
}

/// The code of a segment.
pub(super) enum Code {
    /// Mapped to be run where it is.
    Run(CodeFile),
    /// To be copied: the system does not let files there be run, or address space is short.
    Copy(Mmap),
    None,
}

impl Code {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Code::Run(code) => code.bytes(),
            Code::Copy(code) => code,
            Code::None => &[],
        }
    }
}

/// A segment that is open for reading.
pub(super) struct Segment {
    /// The name of its file.
    pub name: String,
    /// Set when a record was found to be damaged.
    pub damaged: AtomicBool,
    /// All before the code.
    map: Mmap,
    code: Code,
    count: usize,
}

impl Segment {
    /// Opens a segment that is a part of a file, from a multiple of the page size on.
    pub fn open(name: String, file: &File, part: Range<u64>, key: &ModuleKey) -> Result<Self, Refused> {
        let (start, length) = (part.start, part.end.saturating_sub(part.start));
        if length < HEADER as u64 || part.end > file.metadata()?.len() {
            return Err(Refused::Damaged);
        }
        // SAFETY: files of the cache are written once and then renamed into place; that nobody but their owner can
        // change them is seen to by `directory`, and is what the caller of `deserialize_file` promises.
        let map = |offset: u64, length: u64| unsafe {
            MmapOptions::new().offset(start + offset).len(length as usize).map_copy_read_only(file)
        };
        let head = map(0, HEADER as u64)?;
        if head[..12] != MAGIC || u32_at(&head, 12) != FORMAT || head[16..48] != key.0 {
            return Err(Refused::Foreign);
        }
        let (count, code_start, end) = (u64_at(&head, 48), u64_at(&head, 56), u64_at(&head, 64));
        let records_end = count.checked_mul(RECORD as u64).and_then(|bytes| bytes.checked_add(HEADER as u64));
        let fits = records_end.is_some_and(|end| end <= code_start) && code_start <= end && end == length;
        if head[HEADER_SUM..] != checksum(key, &[&head[..HEADER_SUM]]) || !fits {
            return Err(Refused::Damaged);
        }
        let code = match end - code_start {
            0 => Code::None,
            bytes => match CodeFile::map(file, start + code_start, bytes as usize) {
                Ok(code) => Code::Run(code),
                Err(_) => Code::Copy(map(code_start, bytes)?),
            },
        };
        let map = map(0, code_start)?;
        Ok(Segment { name, damaged: AtomicBool::new(false), map, code, count: count as usize })
    }

    pub fn code(&self) -> &Code {
        &self.code
    }

    fn record(&self, index: usize) -> &[u8] {
        &self.map[HEADER + RECORD * index..][..RECORD]
    }

    /// The function of a record, not verified.
    pub fn key(&self, index: usize) -> FunctionKey {
        let record = self.record(index);
        FunctionKey { defined: u32_at(record, 0), entry: u32_at(record, 4), tier: u32_at(record, 8) }
    }

    /// The hash of the body that a record was compiled from, not verified.
    pub fn body(&self, index: usize) -> &[u8] {
        &self.record(index)[48..80]
    }

    /// The best record for a function and entry that is of `wanted.tier` at least.
    pub fn find(&self, wanted: FunctionKey) -> Option<usize> {
        let last = FunctionKey { tier: u32::MAX, ..wanted };
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.key(middle) <= last { low = middle + 1 } else { high = middle }
        }
        let index = low.checked_sub(1)?;
        let found = self.key(index);
        (found >= wanted && found.defined == wanted.defined && found.entry == wanted.entry).then_some(index)
    }

    /// Whether the same function is here already, compiled as well, from the same body.
    pub fn has(&self, record: &Record) -> bool {
        self.find(record.key).is_some_and(|index| self.body(index) == record.body)
    }

    /// What a record holds, if it is as it was written.
    pub fn entry(&self, index: usize, key: &ModuleKey) -> Option<Entry<'_>> {
        let entry = self.check(index, key);
        if entry.is_none() {
            self.damaged.store(true, Ordering::Relaxed);
        }
        entry
    }

    fn check(&self, index: usize, key: &ModuleKey) -> Option<Entry<'_>> {
        let record = self.record(index);
        let range = |at, base: usize| {
            let start = usize::try_from(u64_at(record, at)).ok()?.checked_sub(base)?;
            Some(start..start.checked_add(usize::try_from(u64_at(record, at + 8)).ok()?)?)
        };
        let code = range(16, self.map.len())?;
        let tables = self.map.get(range(32, 0)?)?;
        let bytes = self.code.bytes().get(code.clone())?;
        let alignment = u32_at(record, 12);
        let sound = alignment.is_power_of_two() && alignment <= MAX_ALIGNMENT && code.start % alignment as usize == 0;
        let sum = checksum(key, &[&record[..RECORD_SUM], bytes, tables]);
        (sound && record[RECORD_SUM..] == sum).then_some(Entry { alignment, code, tables })
    }

    /// All records that are as they were written, to be written again.
    pub fn records(&self, key: &ModuleKey) -> impl Iterator<Item = Record> {
        (0..self.count).filter_map(move |index| {
            let entry = self.entry(index, key)?;
            Some(Record {
                key: self.key(index),
                body: self.body(index).try_into().expect("it is 32 bytes"),
                alignment: entry.alignment,
                code: self.code.bytes()[entry.code].to_vec(),
                tables: entry.tables.to_vec(),
            })
        })
    }
}
