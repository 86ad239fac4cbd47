//! Compilation units: which addresses each has, and its tables.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use gimli::{AttributeValue, DebugInfoOffset, Dwarf, Reader, Result, Section, Unit, UnitHeader, UnitType};

use super::demangle::Demangler;
use super::lines::Lines;
use super::meter::{Meter, Metered};
use super::scopes::Scopes;
use crate::error::FrameSymbol;

/// The most bytes of a path or a name.
const MAX_STRING: usize = 4096;

/// The most bytes of the header of a unit's line program. gimli reads it as a whole, and its tables take up to a hundred times
/// their bytes; that of a unit with 5000 source files has 150 KB.
const MAX_LINE_HEADER: u64 = 1 << 20;

/// Addresses of a unit's code.
pub(super) struct UnitRange {
    pub begin: u32,
    pub end: u32,
    /// Index of the unit.
    pub unit: u32,
}

/// The begin and end of a range of code; `None` for one that is empty or not in the code section. Linkers leave such ranges for
/// functions that they remove: at address 0, where the code section has its number of functions, or beyond its end.
pub(super) fn code_range(range: gimli::Range, code_len: u32) -> Option<(u32, u32)> {
    let is_code = range.begin != 0 && range.begin < range.end && range.begin < u64::from(code_len);
    is_code.then(|| (range.begin as u32, range.end.min(code_len.into()) as u32))
}

/// The offsets of all units in `.debug_info`, and the ranges of their code, sorted by begin.
pub(super) fn index(dwarf: &Dwarf<Metered<'_>>, code_len: u32, meter: &Meter) -> (Vec<usize>, Vec<UnitRange>) {
    let (mut offsets, mut ranges) = (Vec::new(), Vec::new());
    let mut headers = dwarf.units();
    while let Ok(Some(header)) = headers.next() {
        let Some(offset) = header.debug_info_offset() else { continue };
        if !meter.keep(size_of::<usize>() + size_of::<OnceLock<UnitTable>>()) {
            break;
        }
        let unit = offsets.len() as u32;
        offsets.push(offset.0);
        // A unit that can't be read is left out.
        let _ = add_ranges(dwarf, header, |range| {
            let range = code_range(range, code_len).filter(|_| meter.keep(size_of::<UnitRange>()));
            ranges.extend(range.map(|(begin, end)| UnitRange { begin, end, unit }));
        });
    }
    ranges.sort_unstable_by_key(|range| (range.begin, range.end, range.unit));
    (offsets, ranges)
}

fn add_ranges(
    dwarf: &Dwarf<Metered<'_>>,
    header: UnitHeader<Metered<'_>>,
    mut add: impl FnMut(gimli::Range),
) -> Result<()> {
    if !matches!(header.type_(), UnitType::Compilation | UnitType::Skeleton(_)) {
        return Ok(());
    }
    let unit = open(dwarf, header)?;
    let mut ranges = dwarf.unit_ranges(&unit)?;
    while let Some(range) = ranges.next()? {
        add(range);
    }
    Ok(())
}

/// Reads the abbreviations and the root entry of a unit.
pub(super) fn open<'a>(dwarf: &Dwarf<Metered<'a>>, header: UnitHeader<Metered<'a>>) -> Result<Unit<Metered<'a>>> {
    let abbreviations = dwarf.abbreviations(&header)?;
    let mut entries = header.entries_raw(&abbreviations, None)?;
    let root = entries.read_abbreviation()?.ok_or(gimli::Error::MissingUnitDie)?;
    for spec in root.attributes() {
        let attribute = entries.read_attribute(*spec)?;
        if let (gimli::DW_AT_stmt_list, AttributeValue::DebugLineRef(offset)) = (attribute.name(), attribute.value()) {
            let mut program = *dwarf.debug_line.reader();
            program.skip(offset.0)?;
            let (_, format) = program.read_initial_length()?;
            let version = program.read_u16()?;
            program.skip(if version >= 5 { 2 } else { 0 })?;
            if program.read_length(format)? as u64 > MAX_LINE_HEADER {
                return Err(gimli::Error::UnsupportedOffset);
            }
        }
    }
    Unit::new_with_abbreviations(dwarf, header, abbreviations)
}

/// Copies a string, as far as it is not too long.
pub(super) fn string(bytes: &Metered<'_>, meter: &Meter) -> Option<Arc<str>> {
    let bytes = bytes.slice();
    let bytes = &bytes[..bytes.len().min(MAX_STRING)];
    (meter.step(bytes.len()) && meter.keep(bytes.len() + 32)).then(|| String::from_utf8_lossy(bytes).into())
}

/// The source files of a unit that its tables name.
#[derive(Default)]
pub(super) struct Files {
    /// Index in `paths` by index in the line program's header; `None` for one that is not there.
    pub known: HashMap<u64, Option<u32>>,
    pub paths: Vec<Arc<str>>,
}

impl Files {
    /// The index in `paths` of a file of the line program.
    pub fn get(
        &mut self,
        dwarf: &Dwarf<Metered<'_>>,
        unit: &Unit<Metered<'_>>,
        file: u64,
        meter: &Meter,
    ) -> Option<u32> {
        if let Some(known) = self.known.get(&file) {
            return *known;
        }
        // A line program may name any number of files that are not there.
        if !meter.keep(64) {
            return None;
        }
        let path = path(dwarf, unit, file).filter(|path| meter.keep(path.len() + 32));
        let index = path.map(|path| {
            self.paths.push(path.into());
            self.paths.len() as u32 - 1
        });
        self.known.insert(file, index);
        index
    }
}

/// The path of a file: that of the compilation's folder, of the file's folder, and its own, as far as each is not absolute.
fn path(dwarf: &Dwarf<Metered<'_>>, unit: &Unit<Metered<'_>>, file: u64) -> Option<String> {
    let header = unit.line_program.as_ref()?.header();
    let file = header.file(file)?;
    let mut path = String::new();
    let mut push = |part: Metered<'_>| {
        let part = part.slice();
        let part = String::from_utf8_lossy(&part[..part.len().min(MAX_STRING)]);
        if is_absolute(&part) {
            path.clear();
        } else if !path.is_empty() && !path.ends_with(['/', '\\']) {
            path.push('/');
        }
        path.push_str(&part);
    };
    if let Some(folder) = unit.comp_dir {
        push(folder);
    }
    // The folder of index 0 is that of the compilation.
    if file.directory_index() != 0
        && let Some(folder) = file.directory(header)
    {
        push(dwarf.attr_string(unit, folder).ok()?);
    }
    push(dwarf.attr_string(unit, file.path_name()).ok()?);
    (path.len() <= MAX_STRING).then_some(path)
}

/// Whether a path does not depend on a current folder, on Unix or on Windows.
fn is_absolute(path: &str) -> bool {
    path.starts_with(['/', '\\']) || matches!(path.as_bytes(), [_, b':', b'/' | b'\\', ..])
}

/// What is known of a unit's code.
pub(super) struct UnitTable {
    lines: Lines,
    scopes: Scopes,
    files: Box<[Arc<str>]>,
}

/// Makes the tables of the unit at an offset; `units` has the offsets of all. Of a damaged unit, they have what comes before the
/// damage.
pub(super) fn table(
    dwarf: &Dwarf<Metered<'_>>,
    offset: usize,
    units: &[usize],
    code_len: u32,
    meter: &Meter,
) -> UnitTable {
    let mut table = UnitTable { lines: Lines::default(), scopes: Scopes::default(), files: Box::default() };
    let Ok(unit) = dwarf.unit_header(DebugInfoOffset(offset)).and_then(|header| open(dwarf, header)) else {
        return table;
    };
    let mut files = Files::default();
    table.lines = Lines::read(dwarf, &unit, &mut files, code_len, meter);
    table.scopes = Scopes::read(dwarf, &unit, units, &mut files, code_len, meter);
    table.files = files.paths.into();
    table
}

/// A place in a source file; the file is an index into the unit's.
#[derive(Clone, Copy, Default)]
pub(super) struct Location {
    pub file: Option<u32>,
    /// Counted from 1; 0 if unknown.
    pub line: u32,
    /// Counted from 1; 0 if unknown.
    pub column: u32,
}

impl UnitTable {
    /// The functions at an address, innermost first.
    pub fn symbols(&self, address: u32, demangler: &Demangler) -> Vec<FrameSymbol> {
        let mut location = self.lines.find(address);
        let mut symbols = Vec::new();
        let chain: Vec<_> = self.scopes.chain(address).collect();
        for scope in chain.iter().rev() {
            let (name, linkage_name) = self.scopes.name(scope, demangler);
            symbols.push(FrameSymbol { name, linkage_name, ..self.located(location) });
            location = Some(scope.call);
        }
        if chain.is_empty() && location.is_some() {
            symbols.push(self.located(location));
        }
        symbols
    }

    /// A symbol with a location, and no name.
    fn located(&self, location: Option<Location>) -> FrameSymbol {
        let Location { file, line, column } = location.unwrap_or_default();
        let known = |number: u32| (number != 0).then_some(number);
        FrameSymbol {
            file: file.map(|file| self.files[file as usize].clone()),
            line: known(line),
            column: known(line).and_then(|_| known(column)),
            ..FrameSymbol::default()
        }
    }
}
