//! The functions of a compilation unit, and those that are inlined into them.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use gimli::{AttributeValue, DebugInfoOffset, Dwarf, Range, RangeListsOffset, Result, Unit, UnitOffset};

use super::demangle::Demangler;
use super::meter::{Meter, Metered};
use super::unit::{self, Files, Location, code_range};

/// The most functions that are inlined into each other.
const MAX_INLINED: usize = 64;

/// The most entries that are followed for a name: an inlined function refers to its abstract one, and that to its declaration.
const MAX_REFERENCES: usize = 8;

/// Functions by the addresses of their code.
#[derive(Default)]
pub(super) struct Scopes {
    /// Sorted by depth, then by begin.
    scopes: Vec<Scope>,
    names: Vec<Name>,
}

/// A part of a function's code, either its own or inlined into another.
pub(super) struct Scope {
    begin: u32,
    end: u32,
    /// How many functions it is inlined into.
    depth: u32,
    /// Index of the function's name.
    name: Option<u32>,
    /// Where it is called, if it is inlined.
    pub call: Location,
}

/// The names of a function.
struct Name {
    linkage: Option<Arc<str>>,
    /// The name in the source, without those of what encloses it.
    source: Option<Arc<str>>,
    /// The name for people, made when first asked for.
    shown: OnceLock<Option<Arc<str>>>,
}

impl Scopes {
    pub fn read<'a>(
        dwarf: &Dwarf<Metered<'a>>,
        unit: &Unit<Metered<'a>>,
        units: &[usize],
        files: &mut Files,
        code_len: u32,
        meter: &Meter,
    ) -> Self {
        let names = Names { dwarf, units, other: None, known: HashMap::new(), names: Vec::new(), meter };
        let mut reading = Reading { dwarf, unit, files, names, code_len, meter, scopes: Vec::new() };
        // Of a damaged unit, the functions before the damage are kept.
        let _ = reading.run();
        let Reading { mut scopes, names, .. } = reading;
        scopes.sort_by_key(|scope| (scope.depth, scope.begin));
        Scopes { scopes, names: names.names }
    }

    /// The functions at an address, outermost first.
    pub fn chain(&self, address: u32) -> impl Iterator<Item = &Scope> {
        (0..).map_while(move |depth| {
            let after = self.scopes.partition_point(|scope| (scope.depth, scope.begin) <= (depth, address));
            let scope = &self.scopes[after.checked_sub(1)?];
            (scope.depth == depth && address < scope.end).then_some(scope)
        })
    }

    /// The name of a function for people, and its linkage name.
    pub fn name(&self, scope: &Scope, demangler: &Demangler) -> (Option<Arc<str>>, Option<Arc<str>>) {
        let Some(name) = scope.name.map(|name| &self.names[name as usize]) else { return (None, None) };
        let shown = name.shown.get_or_init(|| {
            let demangled = name.linkage.as_deref().and_then(|name| demangler.demangle(name)).map(Arc::from);
            demangled.or_else(|| name.source.clone()).or_else(|| name.linkage.clone())
        });
        (shown.clone(), name.linkage.clone().or_else(|| name.source.clone()))
    }
}

/// The attributes of a function's entry that matter here.
#[derive(Default)]
struct Attributes {
    low: Option<u64>,
    high: Option<u64>,
    size: Option<u64>,
    ranges: Option<RangeListsOffset<usize>>,
    call: Location,
}

struct Reading<'r, 'a> {
    dwarf: &'r Dwarf<Metered<'a>>,
    unit: &'r Unit<Metered<'a>>,
    files: &'r mut Files,
    names: Names<'r, 'a>,
    code_len: u32,
    meter: &'r Meter,
    scopes: Vec<Scope>,
}

impl Reading<'_, '_> {
    fn run(&mut self) -> Result<()> {
        let mut entries = self.unit.entries_raw(None)?;
        // The functions around the entry: (depth of its entry, how many it is inlined into).
        let mut around: Vec<(isize, u32)> = Vec::new();
        while !entries.is_empty() {
            let (offset, level) = (entries.next_offset(), entries.next_depth());
            let Some(abbreviation) = entries.read_abbreviation()? else { continue };
            // Attributes that take no bytes are no reads, and there may be any number of them.
            if !self.meter.step(abbreviation.attributes().len()) {
                break;
            }
            while around.last().is_some_and(|(outer, _)| *outer >= level) {
                around.pop();
            }
            let depth = match (abbreviation.tag(), around.last()) {
                (gimli::DW_TAG_subprogram, _) => Some(0),
                (gimli::DW_TAG_inlined_subroutine, Some((_, depth))) => Some(depth + 1),
                _ => None,
            };
            let Some(depth) = depth.filter(|_| around.len() < MAX_INLINED) else {
                entries.skip_attributes(abbreviation.attributes())?;
                continue;
            };
            around.push((level, depth));
            let mut attributes = Attributes::default();
            for spec in abbreviation.attributes() {
                let attribute = entries.read_attribute(*spec)?;
                self.add(&mut attributes, attribute.name(), attribute.value());
            }
            self.add_scopes(&attributes, depth, offset)?;
        }
        Ok(())
    }

    fn add(&mut self, to: &mut Attributes, name: gimli::DwAt, value: AttributeValue<Metered<'_>>) {
        let address = |value: AttributeValue<Metered<'_>>| match value {
            AttributeValue::Addr(address) => Some(address),
            AttributeValue::DebugAddrIndex(index) => self.dwarf.address(self.unit, index).ok(),
            _ => None,
        };
        let number = |value: AttributeValue<Metered<'_>>| value.udata_value().and_then(|value| value.try_into().ok());
        match name {
            gimli::DW_AT_low_pc => to.low = address(value),
            gimli::DW_AT_high_pc => match value {
                AttributeValue::Udata(size) => to.size = Some(size),
                _ => to.high = address(value),
            },
            gimli::DW_AT_ranges => to.ranges = self.ranges_offset(value),
            gimli::DW_AT_call_file => {
                // Index 0 is no file before version 5.
                if let AttributeValue::FileIndex(file) = value
                    && (file != 0 || self.unit.header.version() >= 5)
                {
                    to.call.file = self.files.get(self.dwarf, self.unit, file, self.meter);
                }
            }
            gimli::DW_AT_call_line => to.call.line = number(value).unwrap_or(0),
            gimli::DW_AT_call_column => to.call.column = number(value).unwrap_or(0),
            _ => {}
        }
    }

    fn ranges_offset(&self, value: AttributeValue<Metered<'_>>) -> Option<RangeListsOffset<usize>> {
        match value {
            AttributeValue::RangeListsRef(offset) => Some(self.dwarf.ranges_offset_from_raw(self.unit, offset)),
            AttributeValue::DebugRngListsIndex(index) => self.dwarf.ranges_offset(self.unit, index).ok(),
            _ => None,
        }
    }

    /// Adds the code of a function whose entry is at `offset`.
    fn add_scopes(&mut self, attributes: &Attributes, depth: u32, offset: UnitOffset) -> Result<()> {
        let mut found = Vec::new();
        let mut add = |range: Range| {
            if let Some(range) = code_range(range, self.code_len)
                && self.meter.keep(2 * size_of::<Scope>())
            {
                found.push(range);
            }
        };
        let begin = attributes.low.unwrap_or(0);
        let end = attributes.size.map_or(attributes.high, |size| begin.checked_add(size));
        match (attributes.ranges, end) {
            (Some(ranges), _) => {
                let mut ranges = self.dwarf.ranges(self.unit, ranges)?;
                while let Some(range) = ranges.next()? {
                    add(range);
                }
            }
            (None, Some(end)) => add(Range { begin, end }),
            (None, None) => {}
        }
        if !found.is_empty() {
            let name = self.names.find(self.unit, offset);
            let scope = |(begin, end)| Scope { begin, end, depth, name, call: attributes.call };
            self.scopes.extend(found.into_iter().map(scope));
        }
        Ok(())
    }
}

/// Reads names of functions.
struct Names<'r, 'a> {
    dwarf: &'r Dwarf<Metered<'a>>,
    /// The offsets of all units.
    units: &'r [usize],
    /// Another unit that was referred to, with its offset. Only the last is kept: damaged units may be large.
    other: Option<(usize, Unit<Metered<'a>>)>,
    /// Index of the name by the offset in `.debug_info` of the entry that has it, or leads to it.
    known: HashMap<usize, Option<u32>>,
    names: Vec<Name>,
    meter: &'r Meter,
}

/// What an entry says of a function's name.
#[derive(Default)]
struct Naming<'a> {
    linkage: Option<Metered<'a>>,
    source: Option<Metered<'a>>,
    /// Offset in `.debug_info` of the entry that says more.
    origin: Option<usize>,
}

impl<'a> Names<'_, 'a> {
    /// The name of the function whose entry is at `offset` in `unit`.
    fn find(&mut self, unit: &Unit<Metered<'a>>, offset: UnitOffset) -> Option<u32> {
        let start = unit_start(unit)?;
        let mut naming = self.naming(unit, start, offset)?;
        // All copies of an inlined function lead to the same entry.
        let key = naming.origin.unwrap_or(start + offset.0);
        if naming.linkage.is_none()
            && let Some(known) = self.known.get(&key)
        {
            return *known;
        }
        for _ in 0..MAX_REFERENCES {
            let Some(origin) = naming.origin.filter(|_| naming.linkage.is_none()) else { break };
            let Some(next) = self.naming_at(unit, start, origin) else { break };
            naming = Naming { source: naming.source.or(next.source), ..next };
        }
        let name = self.add(&naming);
        if self.meter.keep(32) {
            self.known.insert(key, name);
        }
        name
    }

    fn add(&mut self, naming: &Naming<'_>) -> Option<u32> {
        let string = |bytes: Option<Metered<'_>>| bytes.and_then(|bytes| unit::string(&bytes, self.meter));
        let (linkage, source) = (string(naming.linkage), string(naming.source));
        if linkage.is_none() && source.is_none() || !self.meter.keep(2 * size_of::<Name>()) {
            return None;
        }
        self.names.push(Name { linkage, source, shown: OnceLock::new() });
        Some(self.names.len() as u32 - 1)
    }

    /// What the entry at an offset in `.debug_info` says, in this unit or another.
    fn naming_at(&mut self, unit: &Unit<Metered<'a>>, start: usize, origin: usize) -> Option<Naming<'a>> {
        let own = start..start + unit.header.length_including_self();
        if own.contains(&origin) {
            return self.naming(unit, start, UnitOffset(origin - start));
        }
        let other = self.units[self.units.partition_point(|unit| *unit <= origin).checked_sub(1)?];
        if self.other.as_ref().is_none_or(|(offset, _)| *offset != other) {
            let header = self.dwarf.unit_header(DebugInfoOffset(other)).ok()?;
            self.other = Some((other, unit::open(self.dwarf, header).ok()?));
        }
        let (_, unit) = self.other.as_ref()?;
        self.naming(unit, other, UnitOffset(origin - other))
    }

    /// What an entry of a unit that starts at `start` says.
    fn naming(&self, unit: &Unit<Metered<'a>>, start: usize, offset: UnitOffset) -> Option<Naming<'a>> {
        let mut entries = unit.entries_raw(Some(offset)).ok()?;
        let abbreviation = entries.read_abbreviation().ok()??;
        // As in `Reading::run`.
        let mut naming = self.meter.step(abbreviation.attributes().len()).then(Naming::default)?;
        for spec in abbreviation.attributes() {
            let attribute = entries.read_attribute(*spec).ok()?;
            let value = attribute.value();
            match attribute.name() {
                gimli::DW_AT_linkage_name | gimli::DW_AT_MIPS_linkage_name => {
                    naming.linkage = self.dwarf.attr_string(unit, value).ok();
                }
                gimli::DW_AT_name => naming.source = self.dwarf.attr_string(unit, value).ok(),
                gimli::DW_AT_abstract_origin | gimli::DW_AT_specification => {
                    naming.origin = match value {
                        AttributeValue::UnitRef(offset) => start.checked_add(offset.0),
                        AttributeValue::DebugInfoRef(offset) => Some(offset.0),
                        _ => None,
                    };
                }
                _ => {}
            }
        }
        Some(naming)
    }
}

/// Where a unit's header is in `.debug_info`.
fn unit_start(unit: &Unit<Metered<'_>>) -> Option<usize> {
    unit.header.debug_info_offset().map(|offset| offset.0)
}
