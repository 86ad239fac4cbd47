//! Decoding of modules: the text format to binary, and the sections of the binary to [`ModuleFacts`].

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use wasmparser::{
    BinaryReader, BinaryReaderError, DataKind, ElementKind, ExternalKind, Imports, Operator, Parser, Payload,
    TableInit, TypeRef, ValidPayload, Validator, ValidatorResources, WasmFeatures,
};

use super::composite::CompositeType;
use super::debug::DebugInfo;
use super::features;
use super::offsets::{Counts, VMOffsets};
use super::registry::{RegisteredType, TypeRegistry};
use super::source::ModuleSource;
use super::types::{ExternType, GlobalType, MemoryType, Mutability, RefType, TableType, TagType, ValType};
use super::validate::{self, Lazy};
use super::{
    ConstExpr, ConstOp, DataSegment, ElementItems, ElementSegment, Export, ExternIndex, Import, ModuleFacts,
    SegmentMode,
};
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};

/// Decodes a module. Its bodies are validated too, unless the settings say that this is done lazily.
pub(crate) fn module(config: &Config, types: &Arc<TypeRegistry>, bytes: Cow<'_, [u8]>) -> Result<Arc<ModuleFacts>> {
    let bytes = if bytes.starts_with(b"\0asm") { bytes } else { text(&bytes)?.into() };
    binary(config, types, bytes)
}

/// Decodes a module in the binary format, as [`module`] does.
pub(crate) fn binary(config: &Config, types: &Arc<TypeRegistry>, binary: Cow<'_, [u8]>) -> Result<Arc<ModuleFacts>> {
    let binary = binary.into_owned();
    if matches!(binary[..], [_, _, _, _, _, _, 1, 0, ..]) {
        return Err(invalid("this is a component, and only core modules are run"));
    }
    let mut decoder = Decoder::new(config.features, types);
    let decoded = decoder.run(&binary).and_then(|()| {
        if config.is_lazy_for(decoder.code_bytes()) {
            return Ok(decoder.resources.take());
        }
        let Some(resources) = decoder.resources.take() else { return Ok(None) };
        let funcs = &decoder.funcs[decoder.counts.funcs.0 as usize..];
        validate::all(&resources, (config.features, decoder.counts.funcs.0), funcs, &binary, &decoder.bodies)
            .map(|()| None)
            .map_err(Undecodable::from)
    });
    match decoded {
        Ok(unvalidated) => decoder.finish(ModuleSource::Memory(binary.into()), unvalidated),
        Err(Undecodable::Invalid(error)) => Err(features::explain(config.features, &binary, &error)),
        Err(Undecodable::Refused(error)) => Err(error),
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid { message: message.into(), offset: None, function: None })
}

/// Translates the text format.
pub(crate) fn text(bytes: &[u8]) -> Result<Vec<u8>> {
    const NEITHER: &str = "neither a binary module (these begin with \\0asm) nor text";
    if bytes.is_empty() {
        return Err(invalid("the module is empty"));
    }
    if b"\0asm".starts_with(bytes) {
        return Err(invalid("the module ends within its first four bytes"));
    }
    let source = std::str::from_utf8(bytes).map_err(|_| invalid(NEITHER))?;
    if !source.trim_start_matches('\u{feff}').trim_start().starts_with(['(', ';']) {
        return Err(invalid(NEITHER));
    }
    let located = |error: wast::Error| {
        let (line, column) = error.span().linecol_in(source);
        invalid(format!("{} (line {}, column {})", error.message(), line + 1, column + 1))
    };
    let buffer = wast::parser::ParseBuffer::new(source).map_err(located)?;
    let mut parsed = wast::parser::parse::<wast::Wat<'_>>(&buffer).map_err(located)?;
    parsed.encode().map_err(located)
}

/// The declarations read so far.
#[derive(Default)]
pub(super) struct Decoder {
    features: WasmFeatures,
    registry: Arc<TypeRegistry>,
    sigs: Vec<RegisteredType>,
    types: Vec<CompositeType>,
    imports: Vec<Import>,
    exports: Vec<Export>,
    funcs: Vec<u32>,
    tables: Vec<TableType>,
    memories: Vec<MemoryType>,
    globals: Vec<GlobalType>,
    tags: Vec<u32>,
    table_inits: Vec<Option<ConstExpr>>,
    global_inits: Vec<ConstExpr>,
    elements: Vec<ElementSegment>,
    data: Vec<DataSegment>,
    start: Option<u32>,
    pub(super) bodies: Vec<Range<usize>>,
    /// What validating a body needs; `None` if the module has no bodies.
    pub(super) resources: Option<ValidatorResources>,
    name_section: Option<Range<usize>>,
    debug: DebugInfo,
    counts: Counts,
}

pub(crate) type Parsed<T> = Result<T, BinaryReaderError>;

/// Why a module is not decoded.
pub(super) enum Undecodable {
    Invalid(BinaryReaderError),
    /// The engine has no room for it.
    Refused(Error),
}

impl From<BinaryReaderError> for Undecodable {
    fn from(error: BinaryReaderError) -> Self {
        Undecodable::Invalid(error)
    }
}

impl From<Error> for Undecodable {
    fn from(error: Error) -> Self {
        Undecodable::Refused(error)
    }
}

impl Decoder {
    /// A decoder of modules that may use these proposals; it registers their types.
    pub(super) fn new(features: WasmFeatures, registry: &Arc<TypeRegistry>) -> Self {
        Decoder { features, registry: registry.clone(), ..Decoder::default() }
    }

    /// Reads all of a binary, and validates all but the bodies.
    fn run(&mut self, binary: &[u8]) -> Result<(), Undecodable> {
        let mut validator = Validator::new_with_features(self.features);
        let mut parser = Parser::new(0);
        parser.set_features(self.features);
        for payload in parser.parse_all(binary) {
            let payload = payload?;
            check_imports(&payload)?;
            if let ValidPayload::Func(func, body) = validator.payload(&payload)? {
                self.bodies.push(range(body.range()));
                self.resources = Some(func.resources);
            }
            self.payload(payload)?;
        }
        Ok(())
    }

    /// Bytes of all bodies.
    pub(super) fn code_bytes(&self) -> usize {
        self.bodies.iter().map(ExactSizeIterator::len).sum()
    }

    /// Adds the declarations of a validated payload.
    pub(super) fn payload(&mut self, payload: Payload<'_>) -> Result<(), Undecodable> {
        match payload {
            Payload::TypeSection(section) => {
                for group in section {
                    self.registry.register_module_group(&group?, &mut self.sigs)?;
                    // The types of a group refer to one another, so all must be registered first.
                    self.types.extend(self.sigs[self.types.len()..].iter().map(CompositeType::of));
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import?;
                    let ty = match import.ty {
                        TypeRef::Func(index) | TypeRef::FuncExact(index) => {
                            self.funcs.push(index);
                            self.counts.funcs.0 += 1;
                            ExternType::Func(self.types[index as usize].unwrap_func().clone())
                        }
                        TypeRef::Table(ty) => {
                            self.tables.push(table_type(&ty, &self.sigs));
                            self.counts.tables.0 += 1;
                            ExternType::Table(table_type(&ty, &self.sigs))
                        }
                        TypeRef::Memory(ty) => {
                            let ty = MemoryType::from_wasmparser(&ty);
                            self.memories.push(ty);
                            self.counts.memories.0 += 1;
                            ExternType::Memory(ty)
                        }
                        TypeRef::Global(ty) => {
                            self.globals.push(global_type(&ty, &self.sigs));
                            self.counts.globals.0 += 1;
                            ExternType::Global(global_type(&ty, &self.sigs))
                        }
                        TypeRef::Tag(ty) => {
                            self.tags.push(ty.func_type_idx);
                            self.counts.tags.0 += 1;
                            ExternType::Tag(TagType::new(self.types[ty.func_type_idx as usize].unwrap_func().clone()))
                        }
                    };
                    self.imports.push(Import { module: import.module.into(), name: import.name.into(), ty });
                }
            }
            Payload::FunctionSection(section) => {
                for index in section {
                    self.funcs.push(index?);
                    self.counts.funcs.1 += 1;
                }
            }
            Payload::TableSection(section) => {
                for table in section {
                    let table = table?;
                    self.tables.push(table_type(&table.ty, &self.sigs));
                    self.table_inits.push(match table.init {
                        TableInit::RefNull => None,
                        TableInit::Expr(expr) => Some(const_expr(&expr)?),
                    });
                    self.counts.tables.1 += 1;
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    self.memories.push(MemoryType::from_wasmparser(&memory?));
                    self.counts.memories.1 += 1;
                }
            }
            Payload::TagSection(section) => {
                for tag in section {
                    self.tags.push(tag?.func_type_idx);
                    self.counts.tags.1 += 1;
                }
            }
            Payload::GlobalSection(section) => {
                for global in section {
                    let global = global?;
                    self.globals.push(global_type(&global.ty, &self.sigs));
                    self.global_inits.push(const_expr(&global.init_expr)?);
                    self.counts.globals.1 += 1;
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    let index = match export.kind {
                        ExternalKind::Func | ExternalKind::FuncExact => ExternIndex::Func(export.index),
                        ExternalKind::Table => ExternIndex::Table(export.index),
                        ExternalKind::Memory => ExternIndex::Memory(export.index),
                        ExternalKind::Global => ExternIndex::Global(export.index),
                        ExternalKind::Tag => ExternIndex::Tag(export.index),
                    };
                    self.exports.push(Export { name: export.name.into(), index });
                }
            }
            Payload::StartSection { func, .. } => self.start = Some(func),
            Payload::ElementSection(section) => {
                for element in section {
                    let element = element?;
                    let mode = match element.kind {
                        ElementKind::Passive => SegmentMode::Passive,
                        ElementKind::Declared => SegmentMode::Declared,
                        ElementKind::Active { table_index, offset_expr } => {
                            SegmentMode::Active { index: table_index.unwrap_or(0), offset: const_expr(&offset_expr)? }
                        }
                    };
                    let items = match element.items {
                        wasmparser::ElementItems::Functions(funcs) => {
                            ElementItems::Funcs(funcs.into_iter().collect::<Parsed<_>>()?)
                        }
                        wasmparser::ElementItems::Expressions(_, exprs) => {
                            let exprs = exprs.into_iter().map(|expr| const_expr(&expr?));
                            ElementItems::Exprs(exprs.collect::<Parsed<_>>()?)
                        }
                    };
                    self.elements.push(ElementSegment { mode, items });
                }
            }
            Payload::DataSection(section) => {
                for data in section {
                    let data = data?;
                    let mode = match data.kind {
                        DataKind::Passive => SegmentMode::Passive,
                        DataKind::Active { memory_index, offset_expr } => {
                            SegmentMode::Active { index: memory_index, offset: const_expr(&offset_expr)? }
                        }
                    };
                    let end = data.range.end as usize;
                    self.data.push(DataSegment { mode, bytes: end - data.data.len()..end });
                }
            }
            Payload::CodeSectionStart { unchecked_range, .. } => self.debug.code = range(unchecked_range),
            Payload::CustomSection(section) => {
                let all = range(section.range());
                let contents = all.end - section.data().len()..all.end;
                match section.name() {
                    "name" => self.name_section = Some(contents),
                    name => self.debug.add(name, contents),
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The module. Its bodies are validated lazily, with `unvalidated`, if that is given; else they have been
    /// validated.
    pub(super) fn finish(
        self,
        source: ModuleSource,
        unvalidated: Option<ValidatorResources>,
    ) -> Result<Arc<ModuleFacts>> {
        let has_gc_types = self.types.iter().any(|ty| ty.as_func().is_none());
        let counts = Counts { types: self.types.len() as u32, has_gc_types, ..self.counts };
        let is_shared: Vec<_> = self.memories.iter().map(MemoryType::is_shared).collect();
        let offsets = VMOffsets::new(counts, &is_shared);
        let export_index: HashMap<_, _> =
            self.exports.iter().enumerate().map(|(at, export)| (export.name.clone(), at as u32)).collect();
        let defined = self.bodies.len();
        let lazy = unvalidated.map(|resources| Lazy::new(resources, &source, defined));
        Ok(Arc::new(ModuleFacts {
            source,
            features: self.features,
            lazy,
            types: self.types,
            layouts: OnceLock::new(),
            sigs: self.sigs,
            imports: self.imports,
            exports: self.exports,
            export_index,
            funcs: self.funcs,
            tables: self.tables,
            memories: self.memories,
            globals: self.globals,
            tags: self.tags,
            table_inits: self.table_inits,
            global_inits: self.global_inits,
            elements: self.elements,
            data: self.data,
            start: self.start,
            bodies: self.bodies,
            offsets,
            names: OnceLock::new(),
            name_section: self.name_section,
            debug: self.debug,
        }))
    }
}

/// The byte range as `usize`, in which any range of a module in memory or in an opened file fits.
pub(super) fn range(range: Range<u64>) -> Range<usize> {
    range.start as usize..range.end as usize
}

/// The most bytes that the names of modules may have in all if they are written out for each import, as the validator and
/// [`ModuleFacts`] do. A group of compact imports shares one name, of up to 100,000 bytes.
const MAX_MODULE_NAMES: u64 = 64 << 20;

/// Checks that the groups of an import section do not become too large when they are taken apart.
///
/// # Errors
/// [`Resource`](ErrorKind::Resource) if they do, or if a group can't be read.
pub(super) fn check_imports(payload: &Payload<'_>) -> Result<(), Undecodable> {
    let Payload::ImportSection(section) = payload else { return Ok(()) };
    let mut bytes = 0u64;
    for group in section.clone() {
        let (module, items) = match group? {
            Imports::Single(..) => continue,
            Imports::Compact1 { module, items } => (module, items.count()),
            Imports::Compact2 { module, names, .. } => (module, names.count()),
        };
        bytes = bytes.saturating_add(module.len() as u64 * u64::from(items));
        if bytes > MAX_MODULE_NAMES {
            return Err(Error::resource("the names of the modules of all imports take more than 64 MiB").into());
        }
    }
    Ok(())
}

fn table_type(ty: &wasmparser::TableType, types: &[RegisteredType]) -> TableType {
    let (element, minimum) = (RefType::from_wasmparser(ty.element_type, types), ty.initial);
    match ty.table64 {
        true => TableType::new64(element, minimum, ty.maximum),
        false => TableType::new(element, minimum, ty.maximum),
    }
}

fn global_type(ty: &wasmparser::GlobalType, types: &[RegisteredType]) -> GlobalType {
    let mutability = if ty.mutable { Mutability::Var } else { Mutability::Const };
    GlobalType::new(ValType::from_wasmparser(ty.content_type, types), mutability)
}

/// The value of a constant expression that is a single `i32.const`, and the reader is then past its `end`; `None` for
/// any other.
pub(super) fn i32_const(reader: &mut BinaryReader<'_>) -> Option<i32> {
    const I32_CONST: u8 = 0x41;
    const END: u8 = 0x0B;
    let is_const = reader.read_u8().ok()? == I32_CONST;
    let value = if is_const { reader.read_var_i32().ok()? } else { return None };
    (reader.read_u8().ok()? == END).then_some(value)
}

fn const_expr(expr: &wasmparser::ConstExpr<'_>) -> Parsed<ConstExpr> {
    // The common case first: modules have tens of thousands of these, and hardly any other constant expressions.
    if let Some(value) = i32_const(&mut expr.get_binary_reader()) {
        return Ok(ConstExpr([ConstOp::Slot(value as u32 as u64)].into()));
    }
    let mut ops = Vec::with_capacity(1);
    for op in expr.get_operators_reader() {
        ops.push(match op? {
            Operator::I32Const { value } => ConstOp::Slot(value as u32 as u64),
            Operator::I64Const { value } => ConstOp::Slot(value as u64),
            Operator::F32Const { value } => ConstOp::Slot(value.bits().into()),
            Operator::F64Const { value } => ConstOp::Slot(value.bits()),
            Operator::V128Const { value } => ConstOp::V128(value.i128() as u128),
            Operator::RefNull { .. } => ConstOp::RefNull,
            Operator::RefFunc { function_index } => ConstOp::RefFunc(function_index),
            Operator::GlobalGet { global_index } => ConstOp::GlobalGet(global_index),
            Operator::I32Add => ConstOp::I32Add,
            Operator::I32Sub => ConstOp::I32Sub,
            Operator::I32Mul => ConstOp::I32Mul,
            Operator::I64Add => ConstOp::I64Add,
            Operator::I64Sub => ConstOp::I64Sub,
            Operator::I64Mul => ConstOp::I64Mul,
            Operator::RefI31 => ConstOp::RefI31,
            Operator::StructNew { struct_type_index } => ConstOp::StructNew(struct_type_index),
            Operator::StructNewDefault { struct_type_index } => ConstOp::StructNewDefault(struct_type_index),
            Operator::ArrayNew { array_type_index } => ConstOp::ArrayNew(array_type_index),
            Operator::ArrayNewDefault { array_type_index } => ConstOp::ArrayNewDefault(array_type_index),
            Operator::ArrayNewFixed { array_type_index, array_size } => {
                ConstOp::ArrayNewFixed(array_type_index, array_size)
            }
            // These leave the reference as it is.
            Operator::AnyConvertExtern | Operator::ExternConvertAny => continue,
            Operator::End => break,
            other => unreachable!("{other:?} does not validate in constant expressions"),
        });
    }
    Ok(ConstExpr(ops.into()))
}
