//! Custom sections, found by the headers of the sections when they are asked for.

use std::borrow::Cow;

use wasmparser::BinaryReader;

use super::source::ModuleSource;
use crate::error::Result;

/// Id of a custom section (specification, section 5.5.2).
const CUSTOM: u8 = 0;

/// Bytes of the magic number and the version, before the first section.
const PREAMBLE: usize = 8;

/// Bytes that the id and the size of a section take at most.
const HEADER: usize = 6;

/// The contents of the custom sections with this name.
///
/// # Errors
/// As [`ModuleSource::read`].
pub(crate) fn sections<'a>(source: &'a ModuleSource, name: &str) -> Result<Vec<Cow<'a, [u8]>>> {
    // A name takes up to five bytes of length before it.
    let name_room = name.len() + 5;
    let (mut found, mut at) = (Vec::new(), PREAMBLE);
    while at < source.len() {
        let header = source.read(at..source.len().min(at + HEADER))?;
        let Some((id, start, len)) = section(&header) else { break };
        let (start, end) = (at + start, at + start + len);
        if id == CUSTOM && end <= source.len() {
            let head = source.read(start..end.min(start + name_room))?;
            let mut reader = BinaryReader::new(&head, 0);
            if reader.read_string().is_ok_and(|own| own == name) {
                found.push(source.read(start + reader.original_position() as usize..end)?);
            }
        }
        at = end;
    }
    Ok(found)
}

/// Id, header length and size of the section whose first bytes these are.
fn section(header: &[u8]) -> Option<(u8, usize, usize)> {
    let mut reader = BinaryReader::new(header, 0);
    let (id, len) = (reader.read_u8().ok()?, reader.read_var_u32().ok()?);
    Some((id, reader.original_position() as usize, len as usize))
}
