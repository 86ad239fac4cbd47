//! Core dumps: the state of a store, in the form of the WebAssembly tool conventions (Coredump.md), for debuggers.
//!
//! A dump is itself a module. Custom sections say which modules and instances there were and which functions were running;
//! memories and globals are declared with what they held.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};
use std::ops::Range;

use super::global::Global;
use super::store::AsContext;
use super::value::Value;
use crate::error::{Error, Frame, WasmBacktrace};
use crate::module::leb128::{signed, unsigned};
use crate::module::types::ValType;
use crate::sys::PageMap;
use crate::vm::memory::{MemoryData, PAGE};
use crate::vm::store::{StoreOpaque, Stored};

/// The most memories, globals and data segments that validators take in a module.
const MAX_MEMORIES: usize = 100;
const MAX_GLOBALS: usize = 1_000_000;
const MAX_SEGMENTS: usize = 100_000;

/// Bytes that are left out of a dump where they are all zero. More, if there would be too many segments otherwise.
const GRANULE: usize = 4096;

/// Bytes of a memory of which it is asked at once which pages hold something; a multiple of every smaller granule.
const BLOCK: usize = 4 << 20;

/// The bytes of a segment beside its data, at most: flags, memory, offset, length.
const SEGMENT_HEADER: usize = 24;

/// A core dump of a store: the functions that an error left or that are running, and how to find the instances, memories and
/// globals. Their contents are read when the dump is [serialized](WasmCoreDump::serialize), so do that before anything else runs in
/// the store.
///
/// The form is that of the WebAssembly tool conventions (Coredump.md), which wasmtime also writes: a module that declares all memories
/// and globals of the store with their contents, and has the custom sections `core`, `coremodules`, `coreinstances` and `corestack`.
/// The values of locals and operands are not known, because compiled code keeps few of them: locals are there as missing ones.
/// A frame has the first instance of its module in the store.
///
/// ```
/// use wasmrun::{Engine, Instance, Module, Store, WasmCoreDump};
/// let engine = Engine::default();
/// let module = Module::new(&engine, r#"(module $m (memory 1)
///     (func (export "f") (i32.store (i32.const 8) (i32.const 7)) unreachable))"#)?;
/// let mut store = Store::new(&engine, ());
/// let f = Instance::new(&mut store, &module, &[])?.get_typed_func::<(), ()>(&mut store, "f")?;
/// let error = f.call(&mut store, ()).unwrap_err();
/// let dump = WasmCoreDump::of_error(&error);
/// assert_eq!(dump.frames()[0].name(), Some("f"));
/// let bytes = dump.serialize(&store, "m.wasm")?;
/// Module::new(&engine, &bytes)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct WasmCoreDump(WasmBacktrace);

impl WasmCoreDump {
    /// The dump for an error that WebAssembly code ended with, whatever its kind; without frames for one that has no backtrace.
    pub fn of_error(error: &Error) -> Self {
        WasmCoreDump(error.printed_backtrace().clone())
    }

    /// The dump of a store whose code has called the host function that asks.
    pub fn capture(store: impl AsContext) -> Self {
        WasmCoreDump(WasmBacktrace::capture(store))
    }

    /// The functions that are in the dump, innermost first; at most 64.
    pub fn frames(&self) -> &[Frame] {
        self.0.frames()
    }

    /// The bytes of the dump; `name` is that of the program. [`write`](WasmCoreDump::write) needs less memory.
    ///
    /// # Errors
    /// [`Unsupported`](io::ErrorKind::Unsupported) if the store has more than 100 memories or a million globals, or more than
    /// 4 GiB of contents that are not zero: such a module would not be valid.
    pub fn serialize(&self, store: impl AsContext, name: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.write(store, name, &mut bytes)?;
        Ok(bytes)
    }

    /// Writes the dump: section by section, and memories as they are. Pages of a memory that are all zero are left out.
    ///
    /// # Errors
    /// As [`serialize`](WasmCoreDump::serialize), or those of `out`.
    pub fn write(&self, store: impl AsContext, name: &str, out: &mut dyn Write) -> io::Result<()> {
        let store = store.as_context();
        let opaque = &store.0.opaque;
        if opaque.memories.len() > MAX_MEMORIES || opaque.globals.len() > MAX_GLOBALS {
            return Err(beyond("the store has more memories or globals than a core dump can hold"));
        }
        out.write_all(b"\0asm\x01\0\0\0")?;
        custom(out, "core", |bytes| {
            bytes.push(0);
            string(bytes, name);
        })?;
        self.modules(opaque, out)?;
        let memories = vector(opaque.memories.iter(), |bytes, memory| {
            let has_page_size = memory.ty.page_size() != PAGE;
            bytes.push(u8::from(memory.ty.is_64()) << 2 | u8::from(has_page_size) << 3);
            unsigned(bytes, memory.pages());
            if has_page_size {
                unsigned(bytes, u64::from(memory.ty.page_size_log2()));
            }
        });
        section(out, 5, &memories)?;
        let globals = (0..opaque.globals.len()).map(|at| Global(Stored::new(opaque, at)));
        let globals = vector(globals, |bytes, global| {
            let is_mutable = global.ty(&store).is_mutable();
            constant(bytes, &global.get(&store), is_mutable);
        });
        section(out, 6, &globals)?;
        data(opaque, out)
    }

    /// Modules, instances and the stack.
    fn modules(&self, store: &StoreOpaque, out: &mut dyn Write) -> io::Result<()> {
        // The number of each instance's module among the different ones.
        let mut modules = Vec::new();
        let mut numbers = std::collections::HashMap::new();
        let instances: Vec<_> = (0..store.instances.len()).map(|at| &*store.instances[at]).collect();
        for instance in &instances {
            numbers.entry(instance.module.id()).or_insert_with(|| {
                modules.push(&instance.module);
                modules.len() - 1
            });
        }
        let named = vector(modules.iter().enumerate(), |bytes, (at, module)| {
            bytes.push(0);
            match module.names().module() {
                Some(name) => string(bytes, name),
                None => string(bytes, &format!("<module {at}>")),
            }
        });
        custom(out, "coremodules", |bytes| bytes.extend(named))?;
        let described = vector(instances.iter(), |bytes, instance| {
            bytes.push(0);
            unsigned(bytes, numbers[&instance.module.id()] as u64);
            for items in [&instance.memories, &instance.globals] {
                bytes.extend(vector(items.iter(), |bytes, item| unsigned(bytes, item.index(store) as u64)));
            }
        });
        custom(out, "coreinstances", |bytes| bytes.extend(described))?;
        let mut first = std::collections::HashMap::new();
        for (at, instance) in instances.iter().enumerate().rev() {
            first.insert(instance.module.id(), at);
        }
        // The module of a function that is not in the store any more can't be told; there is none unless it failed to be
        // instantiated.
        let frames = self.0.module_ids().zip(self.frames());
        let frames: Vec<_> = frames.filter_map(|(id, frame)| Some((*first.get(&id)?, frame))).collect();
        let stack = vector(frames.iter(), |bytes, (at, frame)| {
            bytes.push(0);
            unsigned(bytes, *at as u64);
            unsigned(bytes, frame.func_index());
            unsigned(bytes, frame.func_offset() as u64);
            let locals = instances[*at].module.local_count(frame.func_index());
            unsigned(bytes, locals);
            bytes.extend(std::iter::repeat_n(MISSING, locals as usize));
            // No operands.
            unsigned(bytes, 0u64);
        });
        custom(out, "corestack", |bytes| {
            bytes.push(0);
            string(bytes, "main");
            bytes.extend(stack);
        })
    }
}

impl fmt::Debug for WasmCoreDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WasmCoreDump").field("frames", &self.frames()).finish()
    }
}

/// A value that is not known.
const MISSING: u8 = 0x01;

fn beyond(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, message)
}

/// Writes the data section: what memories hold that is not zero.
fn data(store: &StoreOpaque, out: &mut dyn Write) -> io::Result<()> {
    let mut granule = GRANULE;
    let pages = PageMap::open();
    let segments = loop {
        let memories = store.memories.iter().enumerate();
        let segments: Vec<_> = memories
            .flat_map(|(at, memory)| {
                let pages = pages.as_ref().filter(|_| memory.is_anonymous());
                let length = memory.length();
                let blocks = blocks(memory, 0..length, granule.max(BLOCK));
                occupied(blocks, length, granule, pages).map(move |range| (at, range))
            })
            .take(MAX_SEGMENTS + 1)
            .collect();
        if segments.len() <= MAX_SEGMENTS {
            break segments;
        }
        granule *= 4;
    };
    let header = |(memory, range): &(usize, Range<usize>)| {
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER);
        bytes.push(2);
        unsigned(&mut bytes, *memory as u64);
        // The instructions take an address as signed.
        if store.memories[*memory].ty.is_64() {
            bytes.push(0x42);
            signed(&mut bytes, range.start as i64);
        } else {
            bytes.push(0x41);
            signed(&mut bytes, i64::from(range.start as u32 as i32));
        }
        bytes.push(0x0B);
        unsigned(&mut bytes, range.len() as u64);
        bytes
    };
    let mut count = Vec::new();
    unsigned(&mut count, segments.len() as u64);
    let length = segments.iter().map(|segment| header(segment).len() + segment.1.len()).sum::<usize>() + count.len();
    section_start(out, 11, length)?;
    out.write_all(&count)?;
    for segment in &segments {
        out.write_all(&header(segment))?;
        for block in blocks(&store.memories[segment.0], segment.1.clone(), BLOCK) {
            out.write_all(&block)?;
        }
    }
    Ok(())
}

/// A range of a memory in blocks, from the first on; copies, if it is shared.
fn blocks(memory: &MemoryData, range: Range<usize>, size: usize) -> impl Iterator<Item = Cow<'_, [u8]>> {
    let end = range.end;
    range.step_by(size).map(move |start| {
        let len = size.min(end - start);
        let Some(shared) = memory.as_shared() else { return Cow::Borrowed(&memory.own_bytes()[start..start + len]) };
        let mut copy = vec![0; len];
        shared.read(start as u64, &mut copy).expect("memories don't shrink");
        Cow::Owned(copy)
    })
}

/// The parts of a memory that have a byte that is not zero, in multiples of `granule`. Blocks are multiples of that too.
///
/// With `pages`, only those are read that hold something: to read the others of a memory of 4 GiB takes a second, and 8 MiB of
/// page tables. What they do not hold must be zero.
fn occupied<'a>(
    blocks: impl Iterator<Item = Cow<'a, [u8]>>,
    length: usize,
    granule: usize,
    pages: Option<&PageMap>,
) -> impl Iterator<Item = Range<usize>> {
    let page = region::page::size();
    let are_zero = move |block: Cow<'_, [u8]>| -> Vec<bool> {
        let holding = pages.and_then(|pages| pages.holding(&block));
        let is_zero = |at: usize, part: &[u8]| {
            let holds = holding.as_ref().is_none_or(|holding| holding[at / page]);
            !holds || *part == [0; GRANULE][..part.len()]
        };
        let parts = block.chunks(granule).enumerate();
        parts
            .map(|(at, part)| {
                part.chunks(GRANULE).enumerate().all(|(inner, part)| is_zero(at * granule + inner * GRANULE, part))
            })
            .collect()
    };
    let mut parts = blocks.flat_map(are_zero).enumerate().peekable();
    std::iter::from_fn(move || {
        let (first, _) = parts.find(|(_, is_zero)| !is_zero)?;
        let mut last = first;
        while let Some((at, _)) = parts.next_if(|(_, is_zero)| !is_zero) {
            last = at;
        }
        Some(first * granule..((last + 1) * granule).min(length))
    })
}

/// A global's type, and the constant expression of its value. A reference is null: what it refers to is not in the dump.
fn constant(bytes: &mut Vec<u8>, value: &Value, is_mutable: bool) {
    let mut code = Vec::new();
    let ty = match value {
        Value::I32(value) => {
            code.push(0x41);
            signed(&mut code, i64::from(*value));
            0x7F
        }
        Value::I64(value) => {
            code.push(0x42);
            signed(&mut code, *value);
            0x7E
        }
        Value::F32(value) => {
            code.push(0x43);
            code.extend(value.to_bits().to_le_bytes());
            0x7D
        }
        Value::F64(value) => {
            code.push(0x44);
            code.extend(value.to_bits().to_le_bytes());
            0x7C
        }
        Value::V128(value) => {
            code.extend([0xFD, 0x0C]);
            code.extend(value.to_le_bytes());
            0x7B
        }
        reference => {
            let heap = match reference.ty() {
                ValType::FUNCREF => 0x70,
                ValType::EXTERNREF => 0x6F,
                ValType::EXNREF => 0x69,
                _ => 0x6E,
            };
            code.extend([0xD0, heap]);
            heap
        }
    };
    bytes.extend([ty, is_mutable.into()]);
    bytes.extend(code);
    bytes.push(0x0B);
}

/// Items in the binary format's form of a vector: their number, then each.
fn vector<T>(items: impl ExactSizeIterator<Item = T>, mut each: impl FnMut(&mut Vec<u8>, T)) -> Vec<u8> {
    let mut bytes = Vec::new();
    unsigned(&mut bytes, items.len() as u64);
    items.for_each(|item| each(&mut bytes, item));
    bytes
}

fn custom(out: &mut dyn Write, name: &str, contents: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
    let mut bytes = Vec::new();
    string(&mut bytes, name);
    contents(&mut bytes);
    section(out, 0, &bytes)
}

fn section(out: &mut dyn Write, id: u8, contents: &[u8]) -> io::Result<()> {
    section_start(out, id, contents.len())?;
    out.write_all(contents)
}

fn section_start(out: &mut dyn Write, id: u8, length: usize) -> io::Result<()> {
    let length =
        u32::try_from(length).map_err(|_| beyond("the memories have more contents than a core dump can hold"))?;
    let mut bytes = vec![id];
    unsigned(&mut bytes, length);
    out.write_all(&bytes)
}

fn string(bytes: &mut Vec<u8>, text: &str) {
    unsigned(bytes, text.len() as u64);
    bytes.extend(text.as_bytes());
}

const _: () = assert!((PAGE as usize).is_multiple_of(GRANULE) && BLOCK == GRANULE << 10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_are_zero_are_left_out() {
        let found = |marked: &[usize], len: usize| {
            let mut bytes = vec![0; len];
            marked.iter().for_each(|at| bytes[*at] = 1);
            occupied(bytes.chunks(BLOCK).map(Cow::Borrowed), len, GRANULE, None).collect::<Vec<_>>()
        };
        assert_eq!(found(&[], 10_000), Vec::<Range<usize>>::new());
        assert_eq!(found(&[4096], 10_000), [Range { start: 4096, end: 8192 }]);
        assert_eq!(found(&[0, 9999], 10_000), [0..4096, 8192..10_000]);
        assert_eq!(found(&[4095, 4096, 8192], 40_000), [Range { start: 0, end: 12_288 }]);
        assert_eq!(found(&[BLOCK - 1, BLOCK], 2 * BLOCK), [Range { start: BLOCK - GRANULE, end: BLOCK + GRANULE }]);
    }
}
