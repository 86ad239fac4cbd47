//! The facts of a module: decoded once, immutable afterwards except for the progress of lazy validation, shared by all
//! its instances and both engines.
//!
//! What may be here: reading the binary and text formats (`decode`; `file` for large files, which are read in part), and the
//! binary format's integers as they are written (`leb128`), access to the module's bytes (`source`, and custom sections by
//! `custom`), validation of function bodies (`validate`, `background`), types (`types`, `composite`, `rec_group`) and their engine-wide
//! numbers (`registry`), errors that name proposals (`features`), names (`names`), symbols from debug sections (`debug`),
//! the layout of contexts (`offsets`) and of objects in the heap (`layout`), how blocks are nested (`nesting`), what running
//! code costs (`fuel`), and what casts ask for (`cast`).
//! What may not: code of any engine, instances, stores. The room `runtime` puts facts and code together.

pub(crate) mod background;
pub(crate) mod cast;
pub(crate) mod composite;
pub(crate) mod custom;
pub(crate) mod debug;
pub(crate) mod decode;
pub(crate) mod features;
pub(crate) mod file;
pub(crate) mod fuel;
pub(crate) mod layout;
pub(crate) mod leb128;
pub(crate) mod names;
pub(crate) mod nesting;
pub(crate) mod offsets;
pub(crate) mod rec_group;
pub(crate) mod registry;
pub(crate) mod source;
pub(crate) mod types;
pub(crate) mod validate;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::OnceLock;

use crate::error::{Frame, FrameSource, Result};
use composite::CompositeType;
use debug::DebugInfo;
use layout::Layout;
use names::Names;
use offsets::VMOffsets;
use registry::RegisteredType;
use source::ModuleSource;
use types::{ExternType, FuncType, GlobalType, MemoryType, TableType, TagType};
use validate::Lazy;
use wasmparser::WasmFeatures;

/// The declarations of a module, and where in its binary they are. Index spaces hold the imported items first.
pub(crate) struct ModuleFacts {
    /// The bytes of the binary module; the text format has been translated to them.
    pub source: ModuleSource,
    /// The proposals with which the module was decoded and is validated.
    pub features: WasmFeatures,
    /// Lazy validation: which functions are known to be valid. `None` if all were validated when the module was made.
    pub lazy: Option<Lazy>,
    pub types: Vec<CompositeType>,
    /// Where objects of the types have their fields, computed on first use.
    pub layouts: OnceLock<Box<[Option<Layout>]>>,
    /// The types as the engine knows them, by type index.
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
    /// Byte range in the binary of each defined function's body (locals and code, without the size).
    pub bodies: Vec<Range<usize>>,
    pub offsets: VMOffsets,
    /// The name section, read on first use.
    pub names: OnceLock<Names>,
    /// Byte range of the contents of the custom section `name`, if there is one.
    pub name_section: Option<Range<usize>>,
    pub debug: DebugInfo,
}

/// One import: its two names, and the type that it requires.
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
    RefI31,
    /// A structure of this type, from a value for each field.
    StructNew(u32),
    StructNewDefault(u32),
    ArrayNew(u32),
    ArrayNewDefault(u32),
    /// An array of the first type, from so many values.
    ArrayNewFixed(u32, u32),
}

impl ConstOp {
    /// Whether it makes a structure or array.
    fn makes_object(self) -> bool {
        match self {
            ConstOp::StructNew(_)
            | ConstOp::StructNewDefault(_)
            | ConstOp::ArrayNew(_)
            | ConstOp::ArrayNewDefault(_)
            | ConstOp::ArrayNewFixed(..) => true,
            ConstOp::Slot(_)
            | ConstOp::V128(_)
            | ConstOp::RefNull
            | ConstOp::RefFunc(_)
            | ConstOp::GlobalGet(_)
            | ConstOp::I32Add
            | ConstOp::I32Sub
            | ConstOp::I32Mul
            | ConstOp::I64Add
            | ConstOp::I64Sub
            | ConstOp::I64Mul
            | ConstOp::RefI31 => false,
        }
    }
}

/// How a segment takes effect.
#[derive(Clone, Debug, Hash)]
pub(crate) enum SegmentMode {
    /// Copied at instantiation to the table or memory at this offset.
    Active { index: u32, offset: ConstExpr },
    /// Copied by `table.init` or `memory.init`.
    Passive,
    /// Never copied: it only declares functions for `ref.func` (element segments only). It is dropped at instantiation.
    Declared,
}

#[derive(Clone, Debug, Hash)]
pub(crate) struct ElementSegment {
    pub mode: SegmentMode,
    pub items: ElementItems,
}

impl ElementSegment {
    /// Whether its expressions make objects.
    pub fn makes_objects(&self) -> bool {
        match &self.items {
            ElementItems::Funcs(_) => false,
            ElementItems::Exprs(exprs) => exprs.iter().flat_map(|expr| &expr.0).any(|op| op.makes_object()),
        }
    }
}

#[derive(Clone, Debug, Hash)]
pub(crate) enum ElementItems {
    Funcs(Box<[u32]>),
    Exprs(Box<[ConstExpr]>),
}

#[derive(Clone, Debug)]
pub(crate) struct DataSegment {
    pub mode: SegmentMode,
    /// Byte range in the binary.
    pub bytes: Range<usize>,
}

impl FrameSource for ModuleFacts {
    /// Positions are byte offsets in the module.
    fn resolve(&self, defined: u32, position: usize) -> Frame {
        self.frame(defined, position)
    }

    fn module_id(&self) -> usize {
        self.id()
    }

    fn resolve_all(&self, defined: u32, positions: &[usize]) -> Vec<Frame> {
        positions.iter().map(|position| self.frame(defined, *position)).collect()
    }

    fn is_entry(&self, defined: u32, position: usize) -> bool {
        self.bodies.get(defined as usize).is_some_and(|body| body.start == position)
    }

    fn import_called_at(&self, defined: u32, offset: usize) -> Option<(&str, &str)> {
        let body = self.bodies.get(defined as usize)?;
        let bytes = self.valid_body(defined).ok()?;
        let mut reader = wasmparser::BinaryReader::new(bytes.get(offset.checked_sub(body.start)?..)?, 0);
        // `call` and `return_call` (specification, section 5.4.1).
        let func = match reader.read_u8().ok()? {
            0x10 | 0x12 => reader.read_var_u32().ok()?,
            _ => return None,
        };
        let mut imports = self.imports.iter().filter(|import| matches!(import.ty, ExternType::Func(_)));
        imports.nth(func as usize).map(|import| (&*import.module, &*import.name))
    }
}

impl ModuleFacts {
    /// The backtrace frame of a defined function that is at the instruction at this byte offset.
    pub fn frame(&self, defined: u32, offset: usize) -> Frame {
        let func_index = self.imported_funcs() + defined;
        let func_name = self.func_name(func_index);
        Frame {
            func_index,
            func_name: func_name.map(str::to_owned),
            name: func_name.and_then(|name| self.debug.demangler.demangle(name)),
            offset,
            func_offset: offset.saturating_sub(self.bodies[defined as usize].start),
            symbols: self.symbols(func_index, offset),
        }
    }

    /// A number that the module has as long as it lives, and no other.
    pub fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// The number of a function's locals, its parameters among them; 0 for an imported function, or if it can't be read.
    pub fn local_count(&self, func: u32) -> u32 {
        let Some(body) = func.checked_sub(self.imported_funcs()).and_then(|defined| self.body(defined).ok()) else {
            return 0;
        };
        let groups = body.get_locals_reader().into_iter().flatten().map_while(Result::ok);
        groups.map(|(count, _)| count).sum::<u32>() + self.func_type(func).params().len() as u32
    }

    /// What the export `name` is.
    pub fn export(&self, name: &str) -> Option<ExternIndex> {
        Some(self.exports[*self.export_index.get(name)? as usize].index)
    }

    /// The types of the memories that are no imports.
    pub fn defined_memories(&self) -> &[MemoryType] {
        let imported = self.imports.iter().filter(|import| import.ty.memory().is_some()).count();
        &self.memories[imported..]
    }

    /// The types of the tables that are no imports.
    pub fn defined_tables(&self) -> &[TableType] {
        let imported = self.imports.iter().filter(|import| import.ty.table().is_some()).count();
        &self.tables[imported..]
    }

    /// Number of imported functions; the defined ones follow.
    pub fn imported_funcs(&self) -> u32 {
        self.offsets.imported_funcs
    }

    /// The type of a function of the function index space.
    pub fn func_type(&self, func: u32) -> &FuncType {
        self.types[self.funcs[func as usize] as usize].unwrap_func()
    }

    /// The function type whose parameters are the payload of a tag.
    pub fn tag_type(&self, tag: u32) -> &FuncType {
        self.types[self.tags[tag as usize] as usize].unwrap_func()
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

    /// The body of a defined function, to be read operator by operator; offsets are those in the module. The bytes have
    /// been validated and do not change.
    ///
    /// # Errors
    /// As [`ModuleFacts::ensure_valid`], which this calls.
    pub fn body(&self, defined: u32) -> Result<wasmparser::FunctionBody<'_>> {
        let bytes = self.valid_body(defined)?;
        let start = self.bodies[defined as usize].start;
        Ok(wasmparser::FunctionBody::new(wasmparser::BinaryReader::new(bytes, start as u64)))
    }

    /// The name of a function: from the name section, or else that of its import or export.
    pub fn func_name(&self, func: u32) -> Option<&str> {
        self.names().func(func)
    }

    /// The name of a tag: from the name section, or else that of its import or export.
    pub fn tag_name(&self, tag: u32) -> Option<&str> {
        self.names().tag(tag)
    }

    pub fn names(&self) -> &Names {
        self.names.get_or_init(|| Names::read(self))
    }
}

impl ModuleFacts {
    pub fn extern_type(&self, index: ExternIndex) -> ExternType {
        match index {
            ExternIndex::Func(index) => ExternType::Func(self.func_type(index).clone()),
            ExternIndex::Table(index) => ExternType::Table(self.tables[index as usize].clone()),
            ExternIndex::Memory(index) => ExternType::Memory(self.memories[index as usize]),
            ExternIndex::Global(index) => ExternType::Global(self.globals[index as usize].clone()),
            ExternIndex::Tag(index) => ExternType::Tag(TagType::new(self.tag_type(index).clone())),
        }
    }
}
