//! Modules in files: of large files, function bodies and long data segments are not read before they are needed.
//!
//! Every byte that is decoded is read from the file once, into memory of our own, so the validator and the decoder see
//! the same bytes whatever happens to the file. Bodies are validated when they are read (`ModuleFacts::valid_body`).

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use memmap2::MmapMut;
use wasmparser::{BinaryReader, Chunk, Data, FromReader, FunctionBody, Parser, Payload, Validator};

use super::ModuleFacts;
use super::decode::{self, Decoder, i32_const};
use super::registry::TypeRegistry;
use super::source::{FileSource, LoadedData, ModuleSource};
use crate::config::Config;
use crate::error::{Error, Result};

/// Files of fewer bytes are read in full: that takes less than half a millisecond.
const SMALL_FILE: u64 = 1 << 20;

/// Bytes that are read at once of a data section; longer segments are left in the file.
const DATA_WINDOW: usize = 64 << 10;

/// Bytes that are read of a custom section: enough for its name.
const NAME_WINDOW: usize = 256;

/// Bytes that are read at once of the code section, to find the sizes of its bodies.
const SIZES_WINDOW: usize = 64 << 10;

/// The most bytes that a size takes in LEB128.
const MAX_SIZE: usize = 5;

/// Bytes that the header of a section or of a data segment takes at most, except in contrived modules.
const HEADER: usize = 64;

/// Ids of sections (specification, section 5.5.2).
const CUSTOM: u8 = 0;
const CODE: u8 = 10;
const DATA: u8 = 11;

/// The error for a file that can't be read.
pub(crate) fn unreadable(error: &io::Error) -> Error {
    Error::resource(format!("the module cannot be read: {error}"))
}

/// The length of the data in a segment that begins at `at`, and where it ends. The validator reads the segment again
/// later.
fn segment(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let mut reader = BinaryReader::new(bytes, at as u64);
    let start = |reader: &mut BinaryReader<'_>| (reader.read_var_u32().ok()? == 0).then(|| i32_const(reader))?;
    if start(&mut reader).is_some() {
        // Active, for memory 0, with a constant offset: as nearly all segments are.
        let len = reader.read_var_u32().ok()? as usize;
        return (len <= reader.bytes_remaining()).then(|| (len, reader.original_position() as usize + len));
    }
    let segment = Data::from_reader(&mut BinaryReader::new(bytes, at as u64)).ok()?;
    Some((segment.data.len(), segment.range.end as usize))
}

/// The module in a file.
pub(crate) fn module(config: &Config, types: &Arc<TypeRegistry>, mut file: File) -> Result<Arc<ModuleFacts>> {
    let metadata = file.metadata().map_err(|error| unreadable(&error))?;
    if config.lazy_validation
        && metadata.is_file()
        && metadata.len() >= SMALL_FILE
        && let Some(module) = outline(config, types, &file, &metadata)
    {
        return Ok(module);
    }
    let mut bytes = Vec::new();
    // Devices have no length.
    let expected = if metadata.is_file() { metadata.len() as usize } else { 0 };
    let reserved = bytes.try_reserve(expected).map_err(io::Error::from);
    reserved.and_then(|()| file.read_to_end(&mut bytes)).map_err(|error| unreadable(&error))?;
    decode::module(config, types, bytes.into())
}

/// Decodes a module without reading its bodies. `None` if anything is wrong or just unusual: the caller then decodes
/// the module as a whole, which also gives the error.
fn outline(config: &Config, types: &Arc<TypeRegistry>, file: &File, metadata: &Metadata) -> Option<Arc<ModuleFacts>> {
    let len = usize::try_from(metadata.len()).ok()?;
    let mut source = FileSource::new(file.try_clone().ok()?, metadata, len);
    let mut decoder = Decoder::new(config.features, types);
    let mut validator = Validator::new_with_features(config.features);
    let mut parser = Parser::new(0);
    parser.set_features(config.features);
    let mut at = 0;
    loop {
        let mut section = Section::open(&source, at)?;
        let is_code = section.id == Some(CODE);
        match section.id {
            Some(CUSTOM) => section.load_name(&source)?,
            Some(CODE) => section.load(&source, 0..section.bytes.len().min(HEADER))?,
            Some(DATA) => section.load_segments(&source)?,
            _ => section.load(&source, 0..section.bytes.len())?,
        }
        let Chunk::Parsed { consumed, payload } = parser.parse(&section.bytes, at + section.bytes.len() == len).ok()?
        else {
            return None;
        };
        decode::check_imports(&payload).ok()?;
        validator.payload(&payload).ok()?;
        if matches!(payload, Payload::End(_)) {
            break;
        }
        if let Payload::CodeSectionStart { count, .. } = payload {
            decoder.payload(payload).ok()?;
            parser.skip_section();
            find_bodies(&source, at + consumed..at + section.bytes.len(), count, &mut validator, &mut decoder)?;
        } else {
            decoder.payload(payload).ok()?;
        }
        // The next section is looked for where the header says that this one ends: the parser must agree.
        if consumed != section.bytes.len() && !is_code {
            return None;
        }
        at += section.bytes.len();
        if section.id == Some(DATA) {
            source.set_loaded_data(section.into_data());
        }
    }
    let is_lazy = config.is_lazy_for(decoder.code_bytes());
    let defined = decoder.bodies.len() as u32;
    let resources = decoder.resources.take()?;
    let module = decoder.finish(ModuleSource::File(source), Some(resources)).ok()?;
    if !is_lazy {
        (0..defined).try_for_each(|defined| module.valid_body(defined).map(drop)).ok()?;
        module.assume_background_valid();
    }
    Some(module)
}

/// Finds the bodies in a code section; `section` is the range after the count.
fn find_bodies(
    source: &FileSource,
    section: Range<usize>,
    count: u32,
    validator: &mut Validator,
    decoder: &mut Decoder,
) -> Option<()> {
    if section.is_empty() {
        return (count == 0).then_some(());
    }
    // The validator wants bodies of the right sizes, but reads no byte of them: these pages are never touched, and take
    // no memory.
    let untouched = MmapMut::map_anon(section.len()).ok()?;
    let mut sizes = Window::new(source, section.clone());
    let mut at = section.start;
    decoder.bodies.reserve(count.min(section.len() as u32) as usize);
    for _ in 0..count {
        let mut reader = BinaryReader::new(sizes.at(at)?, at as u64);
        let size = reader.read_var_u32().ok()? as usize;
        let start = reader.original_position() as usize;
        at = start.checked_add(size).filter(|end| *end <= section.end)?;
        let bytes = &untouched[start - section.start..at - section.start];
        let body = FunctionBody::new(BinaryReader::new(bytes, start as u64));
        decoder.bodies.push(decode::range(body.range()));
        decoder.resources = Some(validator.code_section_entry(&body).ok()?.resources);
    }
    (at == section.end).then_some(())
}

/// Reads the sizes of bodies from a file, for many bodies at a time. A mapping of the file would take only one system
/// call, but end the process with SIGBUS if the file is truncated meanwhile.
struct Window<'a> {
    source: &'a FileSource,
    section: Range<usize>,
    bytes: Vec<u8>,
    start: usize,
}

impl<'a> Window<'a> {
    fn new(source: &'a FileSource, section: Range<usize>) -> Self {
        Window { source, bytes: Vec::new(), start: section.start, section }
    }

    /// The bytes of the section from `at` on: at least as many as a size may take.
    fn at(&mut self, at: usize) -> Option<&[u8]> {
        let wanted = at..(at + MAX_SIZE).min(self.section.end);
        if wanted.end > self.start + self.bytes.len() {
            self.bytes.resize(SIZES_WINDOW.min(self.section.end - at), 0);
            self.source.read_into(at, &mut self.bytes).ok()?;
            self.start = at;
        }
        Some(&self.bytes[at - self.start..])
    }
}

/// A section, or something else that the parser takes in one step: the module's header, or its end.
struct Section {
    id: Option<u8>,
    /// Byte offset in the module.
    start: usize,
    /// Its header and contents. An anonymous mapping, so that pages which are never loaded cost nothing.
    bytes: MmapMut,
    loaded: Vec<Range<usize>>,
}

impl Section {
    /// The section at byte `start` of the module, with nothing of it loaded; `None` if it ends beyond the module.
    fn open(source: &FileSource, start: usize) -> Option<Self> {
        let all = source.len();
        let (id, len) = match start {
            0 => (None, 8),
            _ if start == all => (None, 0),
            _ => {
                let mut head = [0; 6];
                let head = &mut head[..(all - start).min(6)];
                source.read_into(start, head).ok()?;
                let mut reader = BinaryReader::new(head, 0);
                let (id, contents) = (reader.read_u8().ok()?, reader.read_var_u32().ok()?);
                (Some(id), reader.original_position() as usize + contents as usize)
            }
        };
        let bytes = (len <= all - start).then(|| MmapMut::map_anon(len))?.ok()?;
        Some(Section { id, start, bytes, loaded: Vec::new() })
    }

    /// Reads a part of it, given relative to its start.
    fn load(&mut self, source: &FileSource, part: Range<usize>) -> Option<()> {
        source.read_into(self.start + part.start, &mut self.bytes[part]).ok()
    }

    /// Reads the name of a custom section.
    fn load_name(&mut self, source: &FileSource) -> Option<()> {
        let loaded = self.bytes.len().min(NAME_WINDOW);
        self.load(source, 0..loaded)?;
        let mut reader = BinaryReader::new(&self.bytes, 0);
        reader.read_u8().ok()?;
        reader.read_var_u32().ok()?;
        let name = reader.read_var_u32().ok()? as usize;
        // Nobody writes longer names: the whole module is decoded then.
        (reader.original_position() as usize + name <= loaded).then_some(())
    }

    /// Reads a data section, except for the bytes of long segments.
    fn load_segments(&mut self, source: &FileSource) -> Option<()> {
        let len = self.bytes.len();
        self.load_window(source, 0..HEADER.min(len))?;
        let mut reader = BinaryReader::new(&self.bytes, 0);
        reader.read_u8().ok()?;
        reader.read_var_u32().ok()?;
        let count = reader.read_var_u32().ok()?;
        let mut at = reader.original_position() as usize;
        for _ in 0..count {
            self.load_window(source, at..(at + HEADER).min(len))?;
            // A longer header is followed by zeros here. They are neither a constant expression nor the end of one, so
            // this is an error.
            let (data, end) = segment(&self.bytes[at..], at)?;
            if data <= DATA_WINDOW {
                self.load_window(source, end - data..end)?;
            }
            at = end;
        }
        (at == len).then_some(())
    }

    /// Loads a part, unless it is loaded already, and what comes after it up to the size of a window. Parts must come
    /// in order.
    fn load_window(&mut self, source: &FileSource, part: Range<usize>) -> Option<()> {
        let (from, extends) = match self.loaded.last() {
            Some(last) if part.end <= last.end => return Some(()),
            Some(last) if part.start <= last.end => (last.end, true),
            _ => (part.start, false),
        };
        let to = part.end.max(from + DATA_WINDOW).min(self.bytes.len());
        self.load(source, from..to)?;
        match self.loaded.last_mut() {
            Some(last) if extends => last.end = to,
            _ => self.loaded.push(from..to),
        }
        Some(())
    }

    /// The loaded parts of a data section.
    fn into_data(self) -> LoadedData {
        let in_module = |part: &Range<usize>| self.start + part.start..self.start + part.end;
        LoadedData { start: self.start, ranges: self.loaded.iter().map(in_module).collect(), bytes: self.bytes }
    }
}
