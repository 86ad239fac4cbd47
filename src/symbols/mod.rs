//! Symbols for places in code: names for people from linkage names, and files, lines and inlined functions from DWARF.
//!
//! Both come from the guest, so all work here is bounded: bytes that are read, steps, memory, depth, length of names. What is
//! damaged, of an unknown version or beyond a bound is left out; nothing here fails.
//!
//! What may be here: demangling (`demangle`), a reader that counts its steps (`meter`), the tables of a compilation unit
//! (`unit`, `lines`, `scopes`), and the [`Symbolizer`] that finds the unit of an address. What may not: modules, and how their
//! bytes are read; the room `module` keeps a symbolizer for each module that was asked for a symbol.

pub(crate) mod demangle;
mod lines;
mod meter;
mod scopes;
mod unit;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use gimli::{Dwarf, SectionId};

use crate::error::FrameSymbol;
use demangle::Demangler;
use meter::{Meter, Metered};
use unit::{UnitRange, UnitTable};

/// The custom sections that are read.
pub(crate) const SECTIONS: [&str; 10] = [
    ".debug_info",
    ".debug_abbrev",
    ".debug_line",
    ".debug_line_str",
    ".debug_str",
    ".debug_str_offsets",
    ".debug_addr",
    ".debug_ranges",
    ".debug_rnglists",
    ".debug_types",
];

/// The contents of the sections, in the order of [`SECTIONS`]; empty where there is none.
pub(crate) type Sections<'a> = [&'a [u8]; SECTIONS.len()];

/// The most bytes of all sections of a module. A program of this size has lines only after its debug information was made
/// smaller, as with `-gline-tables-only`.
pub(crate) const MAX_BYTES: usize = 256 << 20;

/// The most bytes of `.debug_abbrev`. It is parsed into tables of about twenty times its size, though not all at once; that of
/// large programs has less than one.
const MAX_ABBREV_BYTES: usize = 8 << 20;

/// The most steps, each a read of a few bytes, for all lookups in a module: about a second. The tables of all compilation units of
/// a program with 10 MB of DWARF take 20 million.
const MAX_STEPS: u64 = 200_000_000;

/// The most bytes that a module's tables may take.
const MAX_TABLES: u64 = 128 << 20;

/// Finds symbols for addresses in a module's code. Tables are made for a compilation unit when the first address in it is looked
/// up, and kept.
pub(crate) struct Symbolizer {
    /// Where each unit's header is in `.debug_info`.
    offsets: Box<[usize]>,
    /// The tables of each unit.
    tables: Box<[OnceLock<UnitTable>]>,
    /// Sorted by begin.
    ranges: Box<[UnitRange]>,
    /// Length of the code section's contents: addresses are relative to their start.
    code_len: u32,
    steps_left: AtomicU64,
    bytes_left: AtomicU64,
}

impl Symbolizer {
    /// Finds the compilation units and which addresses each has.
    pub fn new(sections: &Sections<'_>, code_len: u32) -> Self {
        let mut symbolizer = Symbolizer {
            offsets: Box::default(),
            tables: Box::default(),
            ranges: Box::default(),
            code_len,
            steps_left: AtomicU64::new(MAX_STEPS),
            bytes_left: AtomicU64::new(MAX_TABLES),
        };
        if is_small_enough(sections) {
            let (offsets, ranges) = symbolizer.metered(sections, |dwarf, meter| unit::index(dwarf, code_len, meter));
            symbolizer.tables = offsets.iter().map(|_| OnceLock::new()).collect();
            symbolizer.offsets = offsets.into();
            symbolizer.ranges = ranges.into();
        }
        symbolizer
    }

    /// The functions at an address: innermost first, and each but the last is inlined into the next. Empty if nothing is known of
    /// the address. `sections` must be those that the symbolizer was made with.
    pub fn symbols(&self, sections: &Sections<'_>, address: u32, demangler: &Demangler) -> Vec<FrameSymbol> {
        let after = self.ranges.partition_point(|range| range.begin <= address);
        let Some(range) = after.checked_sub(1).map(|at| &self.ranges[at]).filter(|range| address < range.end) else {
            return Vec::new();
        };
        let unit = range.unit as usize;
        let table = self.tables[unit].get_or_init(|| {
            self.metered(sections, |dwarf, meter| {
                unit::table(dwarf, self.offsets[unit], &self.offsets, self.code_len, meter)
            })
        });
        table.symbols(address, demangler)
    }

    /// Does something with the sections that takes from the steps and bytes that are left.
    fn metered<R>(&self, sections: &Sections<'_>, work: impl FnOnce(&Dwarf<Metered<'_>>, &Meter) -> R) -> R {
        let (steps, bytes) = (self.steps_left.load(Relaxed), self.bytes_left.load(Relaxed));
        let meter = Meter::new(steps, bytes);
        let section = |id: SectionId| {
            let at = SECTIONS.iter().position(|name| *name == id.name());
            Ok::<_, ()>(Metered::new(at.map_or(&[][..], |at| sections[at]), &meter))
        };
        let result = match Dwarf::load(section) {
            Ok(dwarf) => work(&dwarf, &meter),
            Err(()) => unreachable!("no section fails to load"),
        };
        let taken = |from: &AtomicU64, taken: u64| {
            // It cannot fail: the function always gives a value.
            let _ = from.fetch_update(Relaxed, Relaxed, |left| Some(left.saturating_sub(taken)));
        };
        taken(&self.steps_left, steps - meter.steps_left());
        taken(&self.bytes_left, bytes - meter.bytes_left());
        result
    }
}

fn is_small_enough(sections: &Sections<'_>) -> bool {
    let [_, abbrev, ..] = sections;
    abbrev.len() <= MAX_ABBREV_BYTES && sections.iter().map(|section| section.len()).sum::<usize>() <= MAX_BYTES
}

#[cfg(test)]
mod tests;
