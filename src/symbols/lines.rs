//! The line table of a compilation unit.

use gimli::{ColumnType, Dwarf, Result, Unit};

use super::meter::{Meter, Metered};
use super::unit::{Files, Location, code_range};

/// Locations by address.
#[derive(Default)]
pub(super) struct Lines {
    /// Sorted by address. Each counts up to the next.
    rows: Vec<Row>,
}

struct Row {
    address: u32,
    /// `None` behind the end of a sequence of instructions, where nothing is known.
    location: Option<Location>,
}

impl Lines {
    pub fn read(
        dwarf: &Dwarf<Metered<'_>>,
        unit: &Unit<Metered<'_>>,
        files: &mut Files,
        code_len: u32,
        meter: &Meter,
    ) -> Self {
        let mut lines = Lines::default();
        // Of a damaged program, the sequences before the damage are kept.
        let _ = lines.run(dwarf, unit, files, code_len, meter);
        // The end of a sequence comes before the start of the next at the same address.
        lines.rows.sort_by_key(|row| (row.address, row.location.is_some()));
        lines
    }

    fn run(
        &mut self,
        dwarf: &Dwarf<Metered<'_>>,
        unit: &Unit<Metered<'_>>,
        files: &mut Files,
        code_len: u32,
        meter: &Meter,
    ) -> Result<()> {
        let Some(program) = unit.line_program.clone() else { return Ok(()) };
        let mut rows = program.rows();
        let mut sequence: Vec<Row> = Vec::new();
        let mut start = None;
        while let Some((_, row)) = rows.next_row()? {
            let begin = *start.get_or_insert(row.address());
            if row.end_sequence() {
                start = None;
                match code_range(gimli::Range { begin, end: row.address() }, code_len) {
                    Some((_, end)) => {
                        self.rows.append(&mut sequence);
                        self.rows.push(Row { address: end, location: None });
                    }
                    None => sequence.clear(),
                }
                continue;
            }
            // Not in the code: a sequence of a function that the linker removed.
            let Ok(address) = u32::try_from(row.address()) else { continue };
            let column = match row.column() {
                ColumnType::LeftEdge => 0,
                ColumnType::Column(column) => column.get() as u32,
            };
            let file = files.get(dwarf, unit, row.file_index(), meter);
            let location = Some(Location { file, line: row.line().map_or(0, |line| line.get() as u32), column });
            match sequence.last_mut() {
                Some(last) if last.address == address => last.location = location,
                _ if meter.keep(2 * size_of::<Row>()) => sequence.push(Row { address, location }),
                _ => break,
            }
        }
        Ok(())
    }

    /// The location of the instruction at an address.
    pub fn find(&self, address: u32) -> Option<Location> {
        let after = self.rows.partition_point(|row| row.address <= address);
        self.rows[after.checked_sub(1)?].location
    }
}
