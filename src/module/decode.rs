//! From bytes to a module: text to binary, the sections, validation of everything.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::OnceLock;

use wasmparser::{
    BinaryReaderError, CompositeInnerType, DataKind, ElementKind, ExternalKind, FuncToValidate,
    FuncValidatorAllocations, FunctionBody, Imports, Operator, Parser, Payload, TableInit, TypeRef, ValidPayload,
    Validator, ValidatorResources,
};

use super::features;
use super::types::{ExternType, FuncType, GlobalType, MemoryType, TableType, ValType};
use super::{
    ConstExpr, ConstOp, DataSegment, ElementItems, ElementSegment, Export, ExternIndex, Import, Module, ModuleInner,
    SegmentMode,
};
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::engine::{Engine, Sig};
use crate::runtime::vmcontext::{Counts, VMOffsets};

/// Decodes and validates.
pub(super) fn module(engine: &Engine, bytes: &[u8]) -> Result<Module> {
    let binary = if bytes.starts_with(b"\0asm") { bytes.to_vec() } else { text(bytes)? };
    if matches!(binary[..], [_, _, _, _, _, _, 1, 0, ..]) {
        return Err(invalid("this is a component, and only core modules are run"));
    }
    match Decoder::default().run(&binary) {
        Ok(decoder) => Ok(decoder.finish(engine, binary.into_boxed_slice())),
        Err(error) => Err(features::explain(&binary, &error)),
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

/// What the sections say, as they are read.
#[derive(Default)]
struct Decoder {
    types: Vec<FuncType>,
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
    bodies: Vec<Range<usize>>,
    name_section: Option<Range<usize>>,
    counts: Counts,
}

type Parsed<T> = Result<T, BinaryReaderError>;

impl Decoder {
    fn run(mut self, binary: &[u8]) -> Parsed<Self> {
        let mut validator = Validator::new_with_features(features::SUPPORTED);
        let mut bodies = Vec::new();
        let mut parser = Parser::new(0);
        parser.set_features(features::SUPPORTED);
        for payload in parser.parse_all(binary) {
            let payload = payload?;
            if let ValidPayload::Func(func, body) = validator.payload(&payload)? {
                self.bodies.push(range(body.range()));
                bodies.push((func, body));
            }
            self.payload(payload)?;
        }
        validate_bodies(bodies)?;
        Ok(self)
    }

    fn payload(&mut self, payload: Payload<'_>) -> Parsed<()> {
        match payload {
            Payload::TypeSection(section) => {
                for group in section {
                    for ty in group?.into_types() {
                        let CompositeInnerType::Func(func) = &ty.composite_type.inner else {
                            unreachable!("only function types validate without the gc proposal")
                        };
                        let types = |types: &[wasmparser::ValType]| {
                            types.iter().map(|ty| ValType::from_wasmparser(*ty)).collect::<Vec<_>>()
                        };
                        self.types.push(FuncType::new(types(func.params()), types(func.results())));
                    }
                }
            }
            Payload::ImportSection(section) => {
                for imports in section {
                    let Imports::Single(_, import) = imports? else { unreachable!("compact imports do not validate") };
                    let ty = match import.ty {
                        TypeRef::Func(index) | TypeRef::FuncExact(index) => {
                            self.funcs.push(index);
                            self.counts.funcs.0 += 1;
                            ExternType::Func(self.types[index as usize].clone())
                        }
                        TypeRef::Table(ty) => {
                            self.tables.push(table_type(&ty));
                            self.counts.tables.0 += 1;
                            ExternType::Table(table_type(&ty))
                        }
                        TypeRef::Memory(ty) => {
                            self.memories.push(memory_type(&ty));
                            self.counts.memories.0 += 1;
                            ExternType::Memory(memory_type(&ty))
                        }
                        TypeRef::Global(ty) => {
                            self.globals.push(global_type(&ty));
                            self.counts.globals.0 += 1;
                            ExternType::Global(global_type(&ty))
                        }
                        TypeRef::Tag(ty) => {
                            self.tags.push(ty.func_type_idx);
                            self.counts.tags.0 += 1;
                            ExternType::Tag(self.types[ty.func_type_idx as usize].clone())
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
                    self.tables.push(table_type(&table.ty));
                    self.table_inits.push(match table.init {
                        TableInit::RefNull => None,
                        TableInit::Expr(expr) => Some(const_expr(&expr)?),
                    });
                    self.counts.tables.1 += 1;
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    self.memories.push(memory_type(&memory?));
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
                    self.globals.push(global_type(&global.ty));
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
            Payload::CustomSection(section) if section.name() == "name" => {
                self.name_section = Some(range(section.range())).map(|all| all.end - section.data().len()..all.end);
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(self, engine: &Engine, bytes: Box<[u8]>) -> Module {
        let sigs: Vec<Sig> = self.types.iter().map(|ty| engine.register_sig(ty)).collect();
        let export_index: HashMap<_, _> =
            self.exports.iter().enumerate().map(|(at, export)| (export.name.clone(), at as u32)).collect();
        let defined = self.bodies.len();
        let defined_types = self.funcs[self.funcs.len() - defined..].iter().map(|ty| &self.types[*ty as usize]);
        let jit = crate::jit::ModuleCode::new(engine, defined_types);
        Module(std::sync::Arc::new(ModuleInner {
            engine: engine.clone(),
            bytes,
            types: self.types,
            sigs,
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
            offsets: VMOffsets::new(self.counts),
            names: OnceLock::new(),
            name_section: self.name_section,
            interp: crate::interp::ModuleCode::new(defined),
            jit,
        }))
    }
}

/// A range of a module that is in memory.
fn range(range: Range<u64>) -> Range<usize> {
    range.start as usize..range.end as usize
}

fn memory_type(ty: &wasmparser::MemoryType) -> MemoryType {
    MemoryType { minimum: ty.initial, maximum: ty.maximum }
}

fn table_type(ty: &wasmparser::TableType) -> TableType {
    TableType { element: ValType::from_wasmparser(ty.element_type.into()), minimum: ty.initial, maximum: ty.maximum }
}

fn global_type(ty: &wasmparser::GlobalType) -> GlobalType {
    GlobalType { content: ValType::from_wasmparser(ty.content_type), mutable: ty.mutable }
}

fn const_expr(expr: &wasmparser::ConstExpr<'_>) -> Parsed<ConstExpr> {
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
            Operator::End => break,
            other => unreachable!("{other:?} does not validate in constant expressions"),
        });
    }
    Ok(ConstExpr(ops.into()))
}

/// Code bytes that are worth a second thread.
const PARALLEL_BYTES: usize = 512 << 10;

type Body<'a> = (FuncToValidate<ValidatorResources>, FunctionBody<'a>);

/// Validates function bodies, on all cores if there is much to do; of several errors the first in the module counts.
fn validate_bodies(bodies: Vec<Body<'_>>) -> Parsed<()> {
    let bytes: usize = bodies.iter().map(|(_, body)| range(body.range()).len()).sum();
    let threads = if bytes < PARALLEL_BYTES {
        1
    } else {
        std::thread::available_parallelism().map_or(1, |cores| cores.get().min(16)).min(bytes / (PARALLEL_BYTES / 2))
    };
    if threads == 1 {
        return validate_some(bodies);
    }
    // Contiguous shares of about the same size.
    let mut shares: Vec<Vec<Body<'_>>> = vec![Vec::new()];
    let mut filled = 0;
    for body in bodies {
        if filled > bytes / threads {
            shares.push(Vec::new());
            filled = 0;
        }
        filled += range(body.1.range()).len();
        shares.last_mut().expect("there is always one").push(body);
    }
    std::thread::scope(|scope| {
        let mut handles = Vec::new();
        let mut shares = shares.into_iter();
        let own = shares.next().unwrap_or_default();
        let mut results = Vec::new();
        let mut unspawned = Vec::new();
        for share in shares {
            let share = std::sync::Arc::new(std::sync::Mutex::new(Some(share)));
            let taken = share.clone();
            let take = move || taken.lock().ok().and_then(|mut share| share.take()).map_or(Ok(()), validate_some);
            match std::thread::Builder::new().spawn_scoped(scope, take) {
                Ok(handle) => handles.push(handle),
                // No more threads: the share is still there to be done on this one.
                Err(_) => unspawned.push(share),
            }
        }
        results.push(validate_some(own));
        for share in unspawned {
            results.push(share.lock().ok().and_then(|mut share| share.take()).map_or(Ok(()), validate_some));
        }
        for handle in handles {
            results.push(handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        results.into_iter().filter_map(Result::err).min_by_key(|error| error.offset()).map_or(Ok(()), Err)
    })
}

fn validate_some(bodies: Vec<Body<'_>>) -> Parsed<()> {
    let mut allocations = FuncValidatorAllocations::default();
    for (func, body) in bodies {
        let mut validator = func.into_validator(allocations);
        validator.validate(&body)?;
        allocations = validator.into_allocations();
    }
    Ok(())
}
