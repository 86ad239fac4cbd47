//! A reader of DWARF that counts its steps: once a limit is reached, each read fails as at the end of the section.
//!
//! gimli reads everything through it, so whatever it loops over in damaged DWARF (units that share one huge table, lists that
//! every function refers to) ends.

use std::borrow::Cow;
use std::cell::Cell;

use gimli::{EndianSlice, Error, LittleEndian, Reader, ReaderOffsetId, Result};

/// What reading may still take.
#[derive(Debug)]
pub(super) struct Meter {
    steps: Cell<u64>,
    bytes: Cell<u64>,
}

impl Meter {
    pub fn new(steps: u64, bytes: u64) -> Self {
        Meter { steps: Cell::new(steps), bytes: Cell::new(bytes) }
    }

    pub fn steps_left(&self) -> u64 {
        self.steps.get()
    }

    pub fn bytes_left(&self) -> u64 {
        self.bytes.get()
    }

    /// Takes steps; whether there were so many left. If not, none are left now.
    pub fn step(&self, count: usize) -> bool {
        take(&self.steps, count)
    }

    /// Takes bytes of memory for a table; whether there were so many left. If not, none are left now.
    pub fn keep(&self, bytes: usize) -> bool {
        take(&self.bytes, bytes)
    }
}

fn take(left: &Cell<u64>, count: usize) -> bool {
    let rest = left.get().checked_sub(count as u64);
    left.set(rest.unwrap_or(0));
    rest.is_some()
}

/// A part of a section.
#[derive(Clone, Copy, Debug)]
pub(super) struct Metered<'a> {
    bytes: EndianSlice<'a, LittleEndian>,
    meter: &'a Meter,
}

impl<'a> Metered<'a> {
    pub fn new(bytes: &'a [u8], meter: &'a Meter) -> Self {
        Metered { bytes: EndianSlice::new(bytes, LittleEndian), meter }
    }

    pub fn slice(&self) -> &'a [u8] {
        self.bytes.slice()
    }

    fn step(&self, count: usize) -> Result<()> {
        self.meter.step(count).then_some(()).ok_or(Error::UnexpectedEof(self.bytes.offset_id()))
    }
}

impl Reader for Metered<'_> {
    type Endian = LittleEndian;
    type Offset = usize;

    fn endian(&self) -> LittleEndian {
        LittleEndian
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn empty(&mut self) {
        self.bytes.empty();
    }

    fn truncate(&mut self, len: usize) -> Result<()> {
        self.bytes.truncate(len)
    }

    fn offset_from(&self, base: &Self) -> usize {
        self.bytes.offset_from(base.bytes)
    }

    fn offset_id(&self) -> ReaderOffsetId {
        self.bytes.offset_id()
    }

    fn lookup_offset_id(&self, id: ReaderOffsetId) -> Option<usize> {
        self.bytes.lookup_offset_id(id)
    }

    fn find(&self, byte: u8) -> Result<usize> {
        let found = Reader::find(&self.bytes, byte);
        self.step(1 + found.unwrap_or(self.bytes.len()) / 4)?;
        found
    }

    fn skip(&mut self, len: usize) -> Result<()> {
        self.step(1)?;
        self.bytes.skip(len)
    }

    fn split(&mut self, len: usize) -> Result<Self> {
        self.step(1)?;
        Ok(Metered { bytes: self.bytes.split(len)?, ..*self })
    }

    fn to_slice(&self) -> Result<Cow<'_, [u8]>> {
        Ok(self.slice().into())
    }

    fn to_string(&self) -> Result<Cow<'_, str>> {
        self.bytes.to_string().map(Cow::Borrowed)
    }

    fn to_string_lossy(&self) -> Result<Cow<'_, str>> {
        Ok(self.bytes.to_string_lossy())
    }

    fn read_slice(&mut self, target: &mut [u8]) -> Result<()> {
        self.step(1)?;
        Reader::read_slice(&mut self.bytes, target)
    }
}
