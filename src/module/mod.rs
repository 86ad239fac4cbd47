//! A module: decoded and validated once, immutable after, shared by all its instances and both engines.
//!
//! What may be here: reading the binary and text formats (`decode`, and `file` for what is better not read in full),
//! where its bytes are (`source`), validation of functions (`validate`, `background`), the facts a module states about
//! itself, names.
//! What may not: anything that depends on an instance or a store. The engines keep their per-function code behind
//! [`ModuleInner::interp`] and [`ModuleInner::jit`], and which function gets which is [`ModuleInner::tier`]'s; what these
//! are is their business.

mod background;
pub(crate) mod decode;
pub(crate) mod features;
mod file;
pub(crate) mod names;
mod rec_group;
pub(crate) mod registry;
pub(crate) mod source;
pub(crate) mod types;
pub(crate) mod validate;

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock, Weak};

use crate::error::{Error, ErrorKind, Result};
use crate::module::registry::RegisteredType;
use crate::printable::Printable;
use crate::runtime::engine::Engine;
use crate::vm::context::VMOffsets;
use crate::vm::image::MemoryImage;
use names::Names;
use source::Source;
use types::{ExternType, FuncType, GlobalType, MemoryType, TableType};
use validate::Lazy;

/// A validated WebAssembly module. Cloning is cheap: clones share everything.
///
/// ```
/// use wasmrun::{Engine, Module};
/// let module = Module::new(&Engine::default(), "(module (func (export \"f\")))")?;
/// assert_eq!(module.exports().next().unwrap().name(), "f");
/// # Ok::<(), wasmrun::Error>(())
/// ```
#[derive(Clone)]
pub struct Module(pub(crate) Arc<ModuleInner>);

/// Everything known of a module. Index spaces hold the imported items first.
pub(crate) struct ModuleInner {
    /// Itself, for what must not keep it alive.
    pub this: Weak<ModuleInner>,
    pub engine: Engine,
    /// The binary module; text has been translated.
    pub source: Source,
    /// Which functions are known to be valid; `None` if all are.
    pub lazy: Option<Lazy>,
    pub types: Vec<FuncType>,
    /// Engine-wide type numbers, by type index.
    pub sigs: Vec<RegisteredType>,
    pub imports: Vec<Import>,
    pub exports: Vec<Export>,
    pub export_index: HashMap<Box<str>, u32>,
    /// Type index of each function.
    pub funcs: Vec<u32>,
    pub tables: Vec<TableType>,
    pub memories: Vec<MemoryType>,
    pub globals: Vec<GlobalType>,
    /// Type index of each tag.
    pub tags: Vec<u32>,
    /// Initial values of the defined tables' elements and of the defined globals.
    pub table_inits: Vec<Option<ConstExpr>>,
    pub global_inits: Vec<ConstExpr>,
    pub elements: Vec<ElementSegment>,
    pub data: Vec<DataSegment>,
    pub start: Option<u32>,
    /// Where the bodies of the defined functions are in the binary (locals and code, without the size).
    pub bodies: Vec<Range<usize>>,
    pub offsets: VMOffsets,
    /// The name section, read when first asked for.
    pub names: OnceLock<Names>,
    /// The contents of the custom section `name`, if there is one.
    pub name_section: Option<Range<usize>>,
    /// What the data segments make of memory 0, once that is worth keeping.
    pub image: MemoryImage,
    pub interp: crate::interp::ModuleCode,
    pub jit: crate::jit::ModuleCode,
    pub tier: crate::tier::ModuleTier,
}

/// One import: two names and what is wanted.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Import {
    pub module: Box<str>,
    pub name: Box<str>,
    pub ty: ExternType,
}

/// What an export refers to: an index into one of the index spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ExternIndex {
    Func(u32),
    Table(u32),
    Memory(u32),
    Global(u32),
    Tag(u32),
}

#[derive(Clone, Debug, Hash)]
pub(crate) struct Export {
    pub name: Box<str>,
    pub index: ExternIndex,
}

/// A constant expression, in postfix order (specification, section 3.4.15, with extended-const).
#[derive(Clone, Debug, Hash)]
pub(crate) struct ConstExpr(pub Box<[ConstOp]>);

#[derive(Clone, Copy, Debug, Hash)]
pub(crate) enum ConstOp {
    /// The bits of an `i32`, `i64`, `f32` or `f64` constant, zero-extended.
    Slot(u64),
    V128(u128),
    RefNull,
    RefFunc(u32),
    GlobalGet(u32),
    I32Add,
    I32Sub,
    I32Mul,
    I64Add,
    I64Sub,
    I64Mul,
}

/// How a segment takes effect.
#[derive(Clone, Debug, Hash)]
pub(crate) enum SegmentMode {
    /// Copied at instantiation to the table or memory at this offset.
    Active { index: u32, offset: ConstExpr },
    /// Copied by `table.init` or `memory.init`.
    Passive,
    /// Only declares functions (elements only); dropped at once.
    Declared,
}

#[derive(Clone, Debug, Hash)]
pub(crate) struct ElementSegment {
    pub mode: SegmentMode,
    pub items: ElementItems,
}

#[derive(Clone, Debug, Hash)]
pub(crate) enum ElementItems {
    Funcs(Box<[u32]>),
    Exprs(Box<[ConstExpr]>),
}

#[derive(Clone, Debug)]
pub(crate) struct DataSegment {
    pub mode: SegmentMode,
    /// Where the bytes are in the module.
    pub bytes: Range<usize>,
}

impl Drop for ModuleInner {
    fn drop(&mut self) {
        self.jit.flush_cache(self);
    }
}

impl ModuleInner {
    /// Number of imported functions; the defined ones follow.
    pub fn imported_funcs(&self) -> u32 {
        self.offsets.imported_funcs
    }

    /// The type of a function of the function index space.
    pub fn func_type(&self, func: u32) -> &FuncType {
        &self.types[self.funcs[func as usize] as usize]
    }

    /// The type of a defined function, by its defined index.
    pub fn defined_type(&self, defined: u32) -> &FuncType {
        self.func_type(self.imported_funcs() + defined)
    }

    /// The engine-wide type number of a defined function, by its defined index.
    pub fn defined_sig(&self, defined: u32) -> u32 {
        self.sig(self.funcs[(self.imported_funcs() + defined) as usize])
    }

    /// The engine-wide type number of a type index.
    pub fn sig(&self, type_index: u32) -> u32 {
        self.sigs[type_index as usize].number()
    }

    /// The body of a defined function, to be read operator by operator; offsets are those in the module. What this
    /// gives is valid and does not change.
    ///
    /// # Errors
    /// As [`ModuleInner::ensure_valid`], which this calls.
    #[cfg_attr(not(any(jit, test)), expect(dead_code, reason = "the interpreter reads bodies as they are validated"))]
    pub fn body(&self, defined: u32) -> Result<wasmparser::FunctionBody<'_>> {
        let bytes = self.valid_body(defined)?;
        let start = self.bodies[defined as usize].start;
        Ok(wasmparser::FunctionBody::new(wasmparser::BinaryReader::new(bytes, start as u64)))
    }

    /// The name of a function from the name section, or of its import or export.
    pub fn func_name(&self, func: u32) -> Option<&str> {
        self.names().func(func)
    }

    /// The name of a tag, likewise.
    pub fn tag_name(&self, tag: u32) -> Option<&str> {
        self.names().tag(tag)
    }

    fn names(&self) -> &Names {
        self.names.get_or_init(|| Names::read(self))
    }
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Module")
            .field("name", &self.name())
            .field("bytes", &self.0.source.len())
            .finish_non_exhaustive()
    }
}

impl Module {
    /// Decodes and validates a module, binary or text.
    ///
    /// Function bodies are validated on several threads where there are many of them, or later if the engine is
    /// configured so: see [`Config::lazy_validation`](crate::Config::lazy_validation).
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) and [`Unsupported`](crate::ErrorKind::Unsupported), with the byte
    /// offset and the function where they occurred.
    pub fn new(engine: &Engine, bytes: impl AsRef<[u8]>) -> Result<Self> {
        decode::module(engine, bytes.as_ref().into())
    }

    /// Makes a module of what is in a file, binary or text.
    ///
    /// With [`Config::lazy_validation`](crate::Config::lazy_validation), little of a large binary is read. The file is
    /// memory-mapped, once, to find where its functions are; the body of one is read and validated when it is first
    /// called, names when a backtrace wants them, debug sections never. The file stays open for that, so it may be
    /// renamed and deleted. Small files, and what is not a regular file, are read in full.
    ///
    /// Nothing that has run or been validated is ever read again from the file, so a program that may write to its own
    /// module can't get unvalidated code run. But a module whose file is written to or truncated is not whole any
    /// more: what was not needed before gives a [`Resource`](crate::ErrorKind::Resource) error from then on, as a trap
    /// would. To replace a module that may be running, write a new file and rename it over the old one. Only a file
    /// that is truncated *while this function looks for its functions* (a millisecond or so) can end the process with
    /// SIGBUS; where others may do that, read the file and use [`Module::new`].
    ///
    /// # Errors
    /// [`Resource`](crate::ErrorKind::Resource) if the file can't be read, and those of [`Module::new`].
    ///
    /// ```
    /// use wasmrun::{Engine, ErrorKind, Module};
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("add.wat");
    /// std::fs::write(&path, r#"(module (func (export "add") (param i32 i32) (result i32)
    ///     (i32.add (local.get 0) (local.get 1))))"#)?;
    /// let module = Module::from_file(&Engine::default(), &path)?;
    /// assert_eq!(module.export_func_index("add"), Some(0));
    ///
    /// let missing = Module::from_file(&Engine::default(), "no-such-file.wasm").unwrap_err();
    /// assert!(matches!(missing.kind(), ErrorKind::Resource(_)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_file(engine: &Engine, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        match File::open(path) {
            Ok(file) => file::module(engine, file),
            Err(error) => Err(file::unreadable(&error)),
        }
        .map_err(|error| match error.kind() {
            ErrorKind::Resource(message) => {
                Error::resource(format!("{}: {message}", Printable::line(&path.to_string_lossy())))
            }
            _ => error,
        })
    }

    /// The module in an open file, read from its beginning.
    pub(crate) fn from_open_file(engine: &Engine, file: File) -> Result<Self> {
        file::module(engine, file)
    }

    /// The engine it was made for.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// Its name, from the name section.
    pub fn name(&self) -> Option<&str> {
        self.0.names().module()
    }

    /// Its imports, in order.
    pub fn imports(&self) -> impl ExactSizeIterator<Item = ImportType<'_>> {
        self.0.imports.iter().map(ImportType)
    }

    /// Its exports, in order.
    pub fn exports(&self) -> impl ExactSizeIterator<Item = ExportType<'_>> {
        self.0.exports.iter().map(|export| ExportType { name: &export.name, ty: self.0.extern_type(export.index) })
    }

    /// The index of the exported function `name` in the function index space, imported functions first.
    pub fn export_func_index(&self, name: &str) -> Option<u32> {
        match self.0.exports[*self.0.export_index.get(name)? as usize].index {
            ExternIndex::Func(func) => Some(func),
            _ => None,
        }
    }
}

impl ModuleInner {
    fn extern_type(&self, index: ExternIndex) -> ExternType {
        match index {
            ExternIndex::Func(index) => ExternType::Func(self.func_type(index).clone()),
            ExternIndex::Table(index) => ExternType::Table(self.tables[index as usize].clone()),
            ExternIndex::Memory(index) => ExternType::Memory(self.memories[index as usize]),
            ExternIndex::Global(index) => ExternType::Global(self.globals[index as usize].clone()),
            ExternIndex::Tag(index) => ExternType::Tag(self.types[self.tags[index as usize] as usize].clone()),
        }
    }
}

/// An import of a module.
#[derive(Clone, Copy, Debug)]
pub struct ImportType<'a>(&'a Import);

impl<'a> ImportType<'a> {
    /// The module name it is imported from.
    pub fn module(&self) -> &'a str {
        &self.0.module
    }

    /// Its name there.
    pub fn name(&self) -> &'a str {
        &self.0.name
    }

    /// The type wanted.
    pub fn ty(&self) -> &'a ExternType {
        &self.0.ty
    }
}

/// An export of a module.
#[derive(Clone, Debug)]
pub struct ExportType<'a> {
    name: &'a str,
    ty: ExternType,
}

impl<'a> ExportType<'a> {
    /// Its name.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Its type.
    pub fn ty(&self) -> &ExternType {
        &self.ty
    }
}
