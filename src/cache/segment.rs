//! Segments: files, or parts of files, with compiled functions. Written once, in one go; read by mapping.
//!
//! ```text
//! header | records, sorted by function | tables of the functions | padding | code, from a page boundary on
//! ```
//!
//! The header has a checksum of its own, and each record has a checksum of the record, the function's code and its
//! tables. So opening a segment reads one page, and loading a function costs a search in the records and the hash of
//! its own bytes. All numbers are little-endian; offsets are relative to the segment.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use memmap2::{Mmap, MmapOptions};

use super::key::{FORMAT, ModuleKey};

/// Identifies a piece of code of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FunctionKey {
    /// Index among the module's defined functions.
    pub defined: u32,
    /// Where the code is entered: 0 for the function's start, else a number for one of its loops (see `jit::cached`).
    pub entry: u32,
    /// The higher, the better the code; [`BYTECODE`] or one of `jit::Tier`.
    pub tier: u32,
}

/// The tier of the interpreter's bytecode. A record of this tier has the bytecode as its tables, and no code.
pub(crate) const BYTECODE: u32 = 0;

/// A function to be written.
#[derive(Debug)]
pub(crate) struct Record {
    pub key: FunctionKey,
    pub body: [u8; 32],
    pub alignment: u32,
    pub code: Vec<u8>,
    pub tables: Vec<u8>,
}

impl Record {
    /// Bytes that it takes in a segment, about.
    pub fn bytes(&self) -> usize {
        RECORD + self.code.len() + self.tables.len()
    }
}

/// What a verified record holds.
pub(super) struct VerifiedRecord<'a> {
    pub alignment: u32,
    /// Byte range of the code in the segment's [`SegmentCode`].
    pub code: Range<usize>,
    pub tables: &'a [u8],
}

/// Why a file is not used. Displayed to the user.
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
/// Where the checksums begin in the header and in a record: they come last.
const HEADER_SUM: usize = HEADER - 24;
const RECORD_SUM: usize = RECORD - 24;
/// The strictest alignment that code may need.
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

/// Bytes that [`write()`] writes.
pub(super) fn size(records: &mut [Record]) -> usize {
    records.sort_by_key(|record| record.key);
    Layout::of(records).end
}

/// Offsets of the parts of a segment.
struct Layout {
    tables_start: usize,
    tables_end: usize,
    code_start: usize,
    /// Offset of each function's code.
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

/// Code of a file that is mapped so that it can be run, until this is dropped.
pub(crate) trait MappedCode: Send + Sync {
    /// All of it.
    fn bytes(&self) -> &[u8];

    /// The address of a byte.
    fn address(&self, at: usize) -> usize;
}

/// Maps a part of a file so that its code can be run: takes the file, the offset, which must be a multiple of the page
/// size, and the length.
pub(crate) type MapCode = fn(&File, u64, usize) -> io::Result<Box<dyn MappedCode>>;

/// The code of a segment.
pub(super) enum SegmentCode {
    /// Mapped so that it can be run where it is.
    Run(Box<dyn MappedCode>),
    /// Mapped to be copied: the system does not allow files there to be run, or address space is short.
    Copy(Mmap),
    None,
}

impl SegmentCode {
    pub fn bytes(&self) -> &[u8] {
        match self {
            SegmentCode::Run(code) => code.bytes(),
            SegmentCode::Copy(code) => code,
            SegmentCode::None => &[],
        }
    }
}

/// A segment that is open for reading.
pub(super) struct Segment {
    /// The name of its file.
    pub name: String,
    /// Set when a record was found to be damaged.
    pub damaged: AtomicBool,
    /// Everything before the code.
    map: Mmap,
    code: SegmentCode,
    count: usize,
}

impl Segment {
    /// Opens a segment in a part of a file, which must start at a multiple of the page size.
    pub fn open(
        name: String,
        file: &File,
        part: Range<u64>,
        key: &ModuleKey,
        map_code: MapCode,
    ) -> Result<Self, Refused> {
        let (start, length) = (part.start, part.end.saturating_sub(part.start));
        if length < HEADER as u64 || part.end > file.metadata()?.len() {
            return Err(Refused::Damaged);
        }
        // SAFETY: a mapped file must not change. Files of the cache are written once and then renamed into place, and
        // `directory` checks that only their owner can change them; for other files the caller of
        // `Module::deserialize_file` promises it.
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
            0 => SegmentCode::None,
            bytes => match map_code(file, start + code_start, bytes as usize) {
                Ok(code) => SegmentCode::Run(code),
                Err(_) => SegmentCode::Copy(map(code_start, bytes)?),
            },
        };
        let map = map(0, code_start)?;
        Ok(Segment { name, damaged: AtomicBool::new(false), map, code, count: count as usize })
    }

    pub fn code(&self) -> &SegmentCode {
        &self.code
    }

    fn record(&self, index: usize) -> &[u8] {
        &self.map[HEADER + RECORD * index..][..RECORD]
    }

    /// The key of a record, not verified.
    pub fn key(&self, index: usize) -> FunctionKey {
        let record = self.record(index);
        FunctionKey { defined: u32_at(record, 0), entry: u32_at(record, 4), tier: u32_at(record, 8) }
    }

    /// The hash of the body that a record was compiled from, not verified.
    pub fn body(&self, index: usize) -> &[u8] {
        &self.record(index)[48..80]
    }

    /// The index of the best record for this function and entry, if its tier is at least `wanted.tier`.
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

    /// Whether this segment has code of the same function and body that is as good as the record's.
    pub fn has(&self, record: &Record) -> bool {
        self.find(record.key).is_some_and(|index| self.body(index) == record.body)
    }

    /// Verifies a record, and gives what it holds. A damaged one is noted in `damaged`.
    pub fn verified(&self, index: usize, key: &ModuleKey) -> Option<VerifiedRecord<'_>> {
        let entry = self.check(index, key);
        if entry.is_none() {
            self.damaged.store(true, Ordering::Relaxed);
        }
        entry
    }

    fn check(&self, index: usize, key: &ModuleKey) -> Option<VerifiedRecord<'_>> {
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
        (sound && record[RECORD_SUM..] == sum).then_some(VerifiedRecord { alignment, code, tables })
    }

    /// All undamaged records, to be written to another segment.
    pub fn records(&self, key: &ModuleKey) -> impl Iterator<Item = Record> {
        (0..self.count).filter_map(move |index| {
            let entry = self.verified(index, key)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: ModuleKey = ModuleKey([7; 32]);

    fn record(defined: u32, entry: u32, tier: u32) -> Record {
        let key = FunctionKey { defined, entry, tier };
        Record {
            key,
            body: [defined as u8; 32],
            alignment: 16,
            code: vec![tier as u8; 20],
            tables: vec![defined as u8; 5],
        }
    }

    fn written(mut records: Vec<Record>) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut bytes, &KEY, &mut records).unwrap();
        assert_eq!(bytes.len(), size(&mut records));
        bytes
    }

    fn opened(bytes: &[u8]) -> Result<Segment, Refused> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Segment::open("test".into(), &file, 0..bytes.len() as u64, &KEY, crate::jit::CodeFile::map)
    }

    /// A segment with a number of its header changed, and the checksum right.
    fn with_header(at: usize, number: u64) -> Vec<u8> {
        let mut bytes = written(vec![record(0, 0, 1)]);
        bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        let sum = checksum(&KEY, &[&bytes[..HEADER_SUM]]);
        bytes[HEADER_SUM..HEADER].copy_from_slice(&sum);
        bytes
    }

    #[test]
    fn a_header_must_be_right_in_all_parts() {
        let bytes = written(vec![record(0, 0, 1)]);
        assert!(opened(&bytes).is_ok());
        // Magic bytes, the format's number, the key: these are checked before the checksum.
        for at in [0, 11, 12, 15, 16, 47] {
            let mut foreign = bytes.clone();
            foreign[at] ^= 1;
            assert!(matches!(opened(&foreign), Err(Refused::Foreign)), "byte {at}");
            let sum = checksum(&KEY, &[&foreign[..HEADER_SUM]]);
            foreign[HEADER_SUM..HEADER].copy_from_slice(&sum);
            assert!(matches!(opened(&foreign), Err(Refused::Foreign)), "byte {at}");
        }
        for at in [48, 56, 64, HEADER_SUM, HEADER - 1] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(matches!(opened(&damaged), Err(Refused::Damaged)), "byte {at}");
        }
        let (code_start, length) = (u64_at(&bytes, 56), bytes.len() as u64);
        for (at, number) in [
            (48, u64::MAX),
            (48, (code_start - HEADER as u64) / RECORD as u64 + 1),
            (48, u64::MAX / RECORD as u64),
            (56, HEADER as u64),
            (56, length + 1),
            (64, length - 1),
            (64, length + 1),
        ] {
            assert!(matches!(opened(&with_header(at, number)), Err(Refused::Damaged)), "{number} at {at}");
        }
        assert!(opened(&with_header(48, 1)).is_ok());
        for length in [0, 1, HEADER - 1] {
            assert!(matches!(opened(&bytes[..length]), Err(Refused::Damaged)));
        }
    }

    /// Changes a field of the only record, with the checksum right; gives the length of its code if it passes
    /// verification.
    fn with_record(at: usize, number: u64, width: usize) -> Option<usize> {
        let mut bytes = written(vec![record(0, 0, 1)]);
        let (code, tables) = (u64_at(&bytes, HEADER + 16) as usize, u64_at(&bytes, HEADER + 32) as usize);
        bytes[HEADER + at..][..width].copy_from_slice(&number.to_le_bytes()[..width]);
        let parts = [&bytes[HEADER..][..RECORD_SUM], &bytes[code..][..20], &bytes[tables..][..5]];
        let sum = checksum(&KEY, &parts);
        bytes[HEADER + RECORD_SUM..][..24].copy_from_slice(&sum);
        let segment = opened(&bytes).unwrap();
        let entry = segment.verified(0, &KEY).map(|entry| entry.code.len());
        assert_eq!(segment.damaged.load(Ordering::Relaxed), entry.is_none());
        entry
    }

    #[test]
    fn a_record_must_be_right_in_all_parts() {
        assert_eq!(with_record(12, 16, 4), Some(20));
        for alignment in [0, 3, 24, 2 * u64::from(MAX_ALIGNMENT)] {
            assert_eq!(with_record(12, alignment, 4), None, "aligned to {alignment}");
        }
        for (at, number) in [(16, 0), (16, u64::MAX), (24, u64::MAX), (24, 1 << 40), (32, u64::MAX), (40, 1 << 40)] {
            assert_eq!(with_record(at, number, 8), None, "{number} at {at}");
        }
        let bytes = written(vec![record(0, 0, 1)]);
        let (code, tables) = (u64_at(&bytes, HEADER + 16) as usize, u64_at(&bytes, HEADER + 32) as usize);
        for at in (HEADER..HEADER + RECORD).chain(code..code + 20).chain(tables..tables + 5) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            let segment = opened(&damaged).unwrap();
            assert!(segment.verified(0, &KEY).is_none(), "byte {at}");
            assert!(segment.damaged.load(Ordering::Relaxed));
            assert_eq!(segment.records(&KEY).count(), 0);
        }
    }

    /// Code that is not aligned as its record says is not used, even if the checksum is right.
    #[test]
    fn code_lies_where_it_may() {
        let mut bytes =
            written(vec![Record { alignment: 4, ..record(0, 0, 1) }, Record { alignment: 4, ..record(1, 0, 1) }]);
        let second = HEADER + RECORD;
        let (code, tables) = (u64_at(&bytes, second + 16) as usize, u64_at(&bytes, second + 32) as usize);
        assert!(code % 16 != 0, "the test needs it somewhere else");
        bytes[second + 12..][..4].copy_from_slice(&16u32.to_le_bytes());
        let sum = checksum(&KEY, &[&bytes[second..][..RECORD_SUM], &bytes[code..][..20], &bytes[tables..][..5]]);
        bytes[second + RECORD_SUM..][..24].copy_from_slice(&sum);
        let segment = opened(&bytes).unwrap();
        assert!(segment.verified(0, &KEY).is_some() && segment.verified(1, &KEY).is_none());
        // Segments in files of their own can be mapped and run.
        let start = u64_at(&bytes, 56);
        assert_eq!(start % region::page::size() as u64, 0);
        assert!(matches!(segment.code(), SegmentCode::Run(_)));
    }

    #[test]
    fn a_checksum_is_of_its_module() {
        let sum = |key, parts: &[&[u8]]| checksum(&ModuleKey([key; 32]), parts);
        assert_ne!(sum(1, &[b"a"]), sum(2, &[b"a"]));
        assert_ne!(sum(1, &[b"a"]), sum(1, &[b"b"]));
    }

    #[test]
    fn the_best_record_of_the_very_entry_is_found() {
        // Written in any order.
        let all = [(3, 0, 1), (1, 0, 3), (1, 0, 1), (1, 4, 2), (5, 0, 2), (1, 0, 0)];
        let segment = opened(&written(all.map(|(defined, entry, tier)| record(defined, entry, tier)).into())).unwrap();
        let find = |defined, entry, tier| {
            let found = segment.find(FunctionKey { defined, entry, tier })?;
            let FunctionKey { defined, entry, tier } = segment.key(found);
            Some((defined, entry, tier))
        };
        assert_eq!(find(1, 0, 0), Some((1, 0, 3)));
        assert_eq!(find(1, 0, 2), Some((1, 0, 3)));
        assert_eq!(find(1, 4, 1), Some((1, 4, 2)));
        for (defined, entry, tier) in
            [(1, 4, 3), (1, 2, 0), (2, 0, 0), (0, 0, 0), (4, 0, 0), (5, 0, 3), (9, 0, 0), (1, 9, 0)]
        {
            assert_eq!(find(defined, entry, tier), None, "{defined} {entry} {tier}");
        }
        assert!(segment.has(&record(3, 0, 1)));
        assert!(!segment.has(&Record { body: [0; 32], ..record(3, 0, 1) }));
        assert!(!segment.has(&record(3, 0, 2)));
    }
}
