//! Compiled functions as bytes, for the cache.
//!
//! Code without relocations works at any address and in any process: it loads whatever it needs of the process from its
//! context. Its tables of traps, locations and handlers are written as LEB128 numbers; ascending ones as differences.
//! Locations are relative to the start of the body, which need not be at the same place in the module next time.

use super::artifact::Artifact;
use super::registry::{HandlerEntry, NO_LOCATION};
use crate::module::leb128::unsigned;

/// The tables of a piece of code; see [`FunctionCode`](super::registry::FunctionCode).
pub(super) struct CodeTables {
    pub traps: Box<[(u32, u8)]>,
    pub polls: Box<[(u32, u32)]>,
    pub locations: Box<[(u32, u32)]>,
    pub handlers: Box<[HandlerEntry]>,
}

impl Artifact {
    /// Whether the code also works at another address and in another process.
    pub(super) fn is_portable(&self) -> bool {
        self.relocs.is_empty()
    }

    /// The code's tables as bytes; `body` is where the function's body begins in the module.
    pub(super) fn tables(&self, body: u32) -> Vec<u8> {
        let mut out = Vec::with_capacity(3 * (self.traps.len() + self.locations.len()) + 8);
        let mut last = 0;
        unsigned(&mut out, self.traps.len() as u32);
        for (offset, code) in &self.traps {
            unsigned(&mut out, offset - last);
            out.push(*code);
            last = *offset;
        }
        let mut last = 0;
        unsigned(&mut out, self.polls.len() as u32);
        for (offset, after) in &self.polls {
            unsigned(&mut out, offset - last);
            unsigned(&mut out, *after);
            last = *offset;
        }
        let mut last = 0;
        unsigned(&mut out, self.locations.len() as u32);
        for (offset, location) in &self.locations {
            unsigned(&mut out, offset - last);
            // Zero means `NO_LOCATION`. Locations are within the body or at its end.
            unsigned(&mut out, if *location == NO_LOCATION { 0 } else { location - body + 1 });
            last = *offset;
        }
        unsigned(&mut out, self.handlers.len() as u32);
        for handler in &self.handlers {
            [handler.after, handler.entry, handler.frame].iter().for_each(|n| unsigned(&mut out, *n));
        }
        out
    }
}

/// Reads what [`Artifact::tables`] wrote for code of `code` bytes; `None` if the bytes are malformed.
pub(super) fn read_tables(bytes: &[u8], body: u32, code: usize) -> Option<CodeTables> {
    let mut reader = TablesReader { bytes, code };
    let traps = reader.list(2, |reader, last| {
        let offset = reader.offset(last)?;
        Some((offset, (offset, reader.byte()?)))
    })?;
    let polls = reader.list(2, |reader, last| {
        let offset = reader.offset(last)?;
        Some((offset, (offset, reader.offset(0)?)))
    })?;
    let locations = reader.list(2, |reader, last| {
        let offset = reader.offset(last)?;
        let location = match reader.number()? {
            0 => NO_LOCATION,
            distance => body.checked_add(distance - 1)?,
        };
        Some((offset, (offset, location)))
    })?;
    let handlers = reader.list(3, |reader, last| {
        let handler = HandlerEntry { after: reader.number()?, entry: reader.number()?, frame: reader.number()? };
        let within = handler.after >= last && handler.after as usize <= code && (handler.entry as usize) < code;
        within.then_some((handler.after, handler))
    })?;
    reader.bytes.is_empty().then_some(CodeTables { traps, polls, locations, handlers })
}

struct TablesReader<'a> {
    bytes: &'a [u8],
    /// Length of the code, which no offset is beyond.
    code: usize,
}

impl TablesReader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u32> {
        let mut number = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return u32::try_from(number).ok();
            }
        }
        None
    }

    fn offset(&mut self, last: u32) -> Option<u32> {
        let offset = last.checked_add(self.number()?)?;
        (offset as usize <= self.code).then_some(offset)
    }

    /// Reads a list of items, each of at least `least` bytes. `item` gets the offset of the item before.
    fn list<T>(&mut self, least: usize, mut item: impl FnMut(&mut Self, u32) -> Option<(u32, T)>) -> Option<Box<[T]>> {
        let count = self.number()? as usize;
        let mut items = Vec::with_capacity(count.min(self.bytes.len() / least));
        let mut last = 0;
        for _ in 0..count {
            let (offset, value) = item(self, last)?;
            last = offset;
            items.push(value);
        }
        Some(items.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_written() {
        for value in [0, 1, 127, 128, 300, 1 << 28, u32::MAX] {
            let mut bytes = Vec::new();
            unsigned(&mut bytes, value);
            let mut reader = TablesReader { bytes: &bytes, code: 0 };
            assert_eq!((reader.number(), reader.bytes.len()), (Some(value), 0));
        }
        for bytes in [&[0x80; 5][..], &[0xFF, 0xFF, 0xFF, 0xFF, 0x7F], &[0x80], &[]] {
            assert_eq!(TablesReader { bytes, code: 0 }.number(), None);
        }
    }

    #[test]
    fn tables_beyond_the_code_are_refused() {
        let one_trap = [1, 9, 3, 0, 0, 0];
        assert!(read_tables(&one_trap, 0, 9).is_some());
        assert!(read_tables(&one_trap, 0, 8).is_none());
        assert!(read_tables(&[1, 9, 3, 0, 0, 0, 0], 0, 9).is_none());
        let one_poll = [0, 1, 9, 8, 0, 0];
        assert!(read_tables(&one_poll, 0, 9).is_some());
        assert!(read_tables(&one_poll, 0, 8).is_none());
        assert!(read_tables(&[0, 1, 9, 10, 0, 0], 0, 9).is_none());
        assert!(read_tables(&[0xFF, 0xFF, 0xFF, 0xFF, 0x0F], 0, 9).is_none());
    }
}
