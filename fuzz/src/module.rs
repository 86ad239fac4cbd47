//! Taking a module's binary apart and putting it together again, changed: functions as lists of operators, everything
//! exported, loops and calls bounded, NaNs made canonical.

use wasm_encoder::reencode::{self, Reencode, utils};
use wasm_encoder::{
    ConstExpr, Encode, ExportKind, ExportSection, GlobalSection, GlobalType, ImportSection, Instruction, MemorySection,
    TableSection, ValType,
};
use wasmparser::{
    BinaryReader, CompositeInnerType, ElementItems, Operator, Parser, Payload, TableInit, TypeRef, Validator,
    WasmFeatures,
};

/// What generated modules may use.
pub fn features() -> WasmFeatures {
    WasmFeatures::WASM2
        | WasmFeatures::TAIL_CALL
        | WasmFeatures::MULTI_MEMORY
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::RELAXED_SIMD
        | WasmFeatures::EXCEPTIONS
        | WasmFeatures::LEGACY_EXCEPTIONS
        | WasmFeatures::WIDE_ARITHMETIC
        | WasmFeatures::MEMORY64
        | WasmFeatures::CUSTOM_PAGE_SIZES
        | WasmFeatures::THREADS
        | WasmFeatures::COMPACT_IMPORTS
        | WasmFeatures::FUNCTION_REFERENCES
        | WasmFeatures::GC
}

/// Whether the module is valid with these features.
pub fn is_valid(wasm: &[u8]) -> bool {
    Validator::new_with_features(features()).validate_all(wasm).is_ok()
}

/// The index of each function's type, imported functions first.
pub fn types_of_functions(wasm: &[u8]) -> Option<Vec<u32>> {
    let mut types = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.ok()? {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    if let TypeRef::Func(ty) = import.ok()?.ty {
                        types.push(ty);
                    }
                }
            }
            Payload::FunctionSection(section) => {
                for ty in section {
                    types.push(ty.ok()?);
                }
            }
            _ => {}
        }
    }
    Some(types)
}

/// A module in parts.
pub struct Parts<'a> {
    /// Sections as they are, without that of code.
    sections: Vec<(u8, &'a [u8])>,
    pub bodies: Vec<Body<'a>>,
    /// Functions, globals, memories and tables, imported ones too.
    funcs: u32,
    globals: u32,
    memories: u32,
    tables: u32,
    pub imported_funcs: u32,
}

/// A function of a module.
#[derive(Clone)]
pub struct Body<'a> {
    pub params: Vec<wasmparser::ValType>,
    pub results: Vec<wasmparser::ValType>,
    locals: Vec<(u32, wasmparser::ValType)>,
    /// The last one is `end`.
    pub ops: Vec<Op<'a>>,
}

/// An operator and how it is written.
#[derive(Clone)]
pub struct Op<'a> {
    pub operator: Operator<'a>,
    pub bytes: std::borrow::Cow<'a, [u8]>,
}

impl Op<'_> {
    /// An operator that is not of the module.
    pub fn new(instruction: &Instruction<'_>, operator: Operator<'static>) -> Op<'static> {
        let mut bytes = Vec::new();
        instruction.encode(&mut bytes);
        Op { operator, bytes: bytes.into() }
    }
}

/// Order of sections in a module; their ids are not in order.
const ORDER: [u8; 13] = [1, 2, 3, 4, 5, 13, 6, 7, 8, 9, 12, 10, 11];

const IMPORTS: u8 = 2;
const TABLES: u8 = 4;
const MEMORIES: u8 = 5;
const GLOBALS: u8 = 6;
const EXPORTS: u8 = 7;
const CODE: u8 = 10;

impl<'a> Parts<'a> {
    /// Takes a module apart; `None` if it is not one of the kind that [`features`] allow, or the host would have to give it
    /// references that are not null, or a constant is a long array.
    pub fn new(wasm: &'a [u8]) -> Option<Self> {
        let mut parts = Parts {
            sections: Vec::new(),
            bodies: Vec::new(),
            funcs: 0,
            globals: 0,
            memories: 0,
            tables: 0,
            imported_funcs: 0,
        };
        let mut types = Vec::new();
        let mut defined = Vec::new();
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload.ok()?;
            if let Some((id, range)) = payload.as_section()
                && id != 0
                && id != CODE
            {
                parts.sections.push((id, wasm.get(range.start as usize..range.end as usize)?));
            }
            match payload {
                Payload::TypeSection(section) => {
                    for group in section {
                        types.extend(group.ok()?.into_types().map(|ty| match ty.composite_type.inner {
                            CompositeInnerType::Func(ty) => Some(ty),
                            _ => None,
                        }));
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        match import.ok()?.ty {
                            TypeRef::Func(ty) => {
                                let ty = types.get(ty as usize)?.as_ref()?;
                                if !ty.results().iter().all(|ty| ty.is_defaultable()) {
                                    return None;
                                }
                                parts.imported_funcs += 1;
                            }
                            TypeRef::Global(ty) if ty.content_type.is_defaultable() => parts.globals += 1,
                            TypeRef::Memory(_) => parts.memories += 1,
                            TypeRef::Table(ty) if ty.element_type.is_nullable() => parts.tables += 1,
                            TypeRef::Tag(_) => {}
                            _ => return None,
                        }
                    }
                    parts.funcs = parts.imported_funcs;
                }
                Payload::FunctionSection(section) => {
                    for ty in section {
                        defined.push(ty.ok()?);
                        parts.funcs += 1;
                    }
                }
                Payload::GlobalSection(section) => {
                    parts.globals += section.count();
                    for global in section {
                        is_short(&global.ok()?.init_expr).then_some(())?;
                    }
                }
                Payload::MemorySection(section) => parts.memories += section.count(),
                Payload::TableSection(section) => {
                    parts.tables += section.count();
                    for table in section {
                        if let TableInit::Expr(init) = table.ok()?.init {
                            is_short(&init).then_some(())?;
                        }
                    }
                }
                Payload::ElementSection(section) => {
                    for segment in section {
                        if let ElementItems::Expressions(_, all) = segment.ok()?.items {
                            for element in all {
                                is_short(&element.ok()?).then_some(())?;
                            }
                        }
                    }
                }
                Payload::CodeSectionEntry(body) => {
                    let ty = types.get(*defined.get(parts.bodies.len())? as usize)?.as_ref()?;
                    let locals = body.get_locals_reader().ok()?.into_iter().collect::<Result<_, _>>().ok()?;
                    let mut reader = body.get_operators_reader().ok()?;
                    let mut ops = Vec::new();
                    while !reader.eof() {
                        let start = reader.original_position() as usize;
                        let operator = reader.read().ok()?;
                        ops.push(Op { operator, bytes: wasm.get(start..reader.original_position() as usize)?.into() });
                    }
                    parts.bodies.push(Body {
                        params: ty.params().to_vec(),
                        results: ty.results().to_vec(),
                        locals,
                        ops,
                    });
                }
                _ => {}
            }
        }
        Some(parts)
    }

    /// The module again.
    pub fn encode(&self) -> Vec<u8> {
        let mut code = Vec::new();
        (self.bodies.len() as u32).encode(&mut code);
        for body in &self.bodies {
            body.encode(&mut code);
        }
        let mut wasm = b"\0asm\x01\0\0\0".to_vec();
        for id in ORDER {
            let contents = self.sections.iter().find(|(section, _)| *section == id).map(|(_, contents)| *contents);
            let contents = if id == CODE && !self.bodies.is_empty() { Some(code.as_slice()) } else { contents };
            if let Some(contents) = contents {
                wasm.push(id);
                contents.encode(&mut wasm);
            }
        }
        wasm
    }
}

impl Body<'_> {
    fn encode(&self, code: &mut Vec<u8>) {
        let mut bytes = Vec::new();
        (self.locals.len() as u32).encode(&mut bytes);
        for (count, ty) in &self.locals {
            count.encode(&mut bytes);
            ValType::try_from(*ty).expect("a type of these features").encode(&mut bytes);
        }
        for op in &self.ops {
            bytes.extend_from_slice(&op.bytes);
        }
        bytes.as_slice().encode(code);
    }

    /// A function that does nothing but give zeros, or traps if a result can't be null.
    pub fn stub(&mut self) {
        use wasmparser::ValType::{F32, F64, I32, I64, V128};
        self.locals.clear();
        self.ops.clear();
        for ty in &self.results {
            let zero = match ty {
                I32 => Instruction::I32Const(0),
                I64 => Instruction::I64Const(0),
                F32 => Instruction::F32Const(0.0.into()),
                F64 => Instruction::F64Const(0.0.into()),
                V128 => Instruction::V128Const(0),
                wasmparser::ValType::Ref(ty) if !ty.is_nullable() => Instruction::Unreachable,
                wasmparser::ValType::Ref(ty) => {
                    Instruction::RefNull(ty.heap_type().try_into().expect("a type of these features"))
                }
            };
            self.ops.push(Op::new(&zero, Operator::Nop));
        }
        self.ops.push(Op::new(&Instruction::End, Operator::End));
    }

    /// A local more; gives its index.
    fn add_local(&mut self, ty: wasmparser::ValType) -> u32 {
        let index = self.params.len() as u32 + self.locals.iter().map(|(count, _)| count).sum::<u32>();
        self.locals.push((1, ty));
        index
    }

    /// Whether it calls anything.
    fn calls(&self) -> bool {
        use Operator::{Call, CallIndirect, CallRef, ReturnCall, ReturnCallIndirect, ReturnCallRef};
        let is_call = |op: &Op<'_>| {
            matches!(
                op.operator,
                Call { .. }
                    | CallIndirect { .. }
                    | CallRef { .. }
                    | ReturnCall { .. }
                    | ReturnCallIndirect { .. }
                    | ReturnCallRef { .. }
            )
        };
        self.ops.iter().any(is_call)
    }
}

/// Where loops count down what they may use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// At their heads.
    Heads,
    /// Before the branches to them, so that heads are as they were; only exceptions' are at heads.
    Branches,
}

fn bytes(instructions: &[Instruction<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for instruction in instructions {
        instruction.encode(&mut bytes);
    }
    bytes
}

/// Exports all functions, globals, memories and tables as `f0`, `g0`, `m0`, `t0` and so on, and bounds the module's time by a
/// global `fuel`: functions that call and loops that are branched to count it down, and trap at zero.
pub fn instrument(wasm: &[u8], counted: Counted) -> Option<Vec<u8>> {
    let mut parts = Parts::new(wasm)?;
    let fuel = parts.globals;
    let check = bytes(&[
        Instruction::GlobalGet(fuel),
        Instruction::I32Eqz,
        Instruction::If(wasm_encoder::BlockType::Empty),
        Instruction::Unreachable,
        Instruction::End,
        Instruction::GlobalGet(fuel),
        Instruction::I32Const(1),
        Instruction::I32Sub,
        Instruction::GlobalSet(fuel),
    ]);
    for body in &mut parts.bodies {
        count_down(body, counted, &check);
    }

    let mut exports = ExportSection::new();
    for (kind, letter, count) in [
        (ExportKind::Func, 'f', parts.funcs),
        (ExportKind::Global, 'g', parts.globals),
        (ExportKind::Memory, 'm', parts.memories),
        (ExportKind::Table, 't', parts.tables),
    ] {
        for i in 0..count {
            exports.export(&format!("{letter}{i}"), kind, i);
        }
    }
    exports.export("fuel", ExportKind::Global, fuel);
    let exports = contents(&exports);

    let ty = GlobalType { val_type: ValType::I32, mutable: true, shared: false };
    // The start function runs before anything is set.
    let mut globals = GlobalSection::new();
    globals.global(ty, &ConstExpr::i32_const(1000));
    let one = contents(&globals);
    let globals = match parts.sections.iter().find(|(id, _)| *id == GLOBALS) {
        None => one,
        Some((_, old)) => {
            let mut reader = BinaryReader::new(old, 0);
            let count = reader.read_var_u32().ok()?;
            let mut new = Vec::new();
            (count + 1).encode(&mut new);
            new.extend_from_slice(&old[reader.current_position()..]);
            new.extend_from_slice(&one[1..]);
            new
        }
    };
    let limited = limited(&parts)?;
    parts.sections.retain(|(id, _)| ![GLOBALS, EXPORTS].contains(id) && !limited.iter().any(|(other, _)| id == other));
    parts.sections.push((GLOBALS, &globals));
    parts.sections.push((EXPORTS, &exports));
    parts.sections.extend(limited.iter().map(|(id, contents)| (*id, contents.as_slice())));
    Some(parts.encode())
}

/// Sets limits to what memories and tables grow to, so that engines differ neither in how much they have nor take long.
struct Limits;

/// A memory or table is large from the start.
struct TooLarge;

impl Reencode for Limits {
    type Error = TooLarge;

    fn memory_type(
        &mut self,
        mut ty: wasmparser::MemoryType,
    ) -> Result<wasm_encoder::MemoryType, reencode::Error<TooLarge>> {
        const BYTES: u64 = 4 << 16;
        let pages = BYTES >> ty.page_size_log2.unwrap_or(16);
        if ty.initial > 4 * pages {
            return Err(reencode::Error::UserError(TooLarge));
        }
        ty.maximum = Some(ty.maximum.unwrap_or(pages).clamp(ty.initial, pages.max(ty.initial)));
        // The runtime has no shared ones yet; all that can be told is in how code waits.
        ty.shared = false;
        Ok(utils::memory_type(self, ty))
    }

    fn table_type(
        &mut self,
        mut ty: wasmparser::TableType,
    ) -> Result<wasm_encoder::TableType, reencode::Error<TooLarge>> {
        const ELEMENTS: u64 = 200;
        if ty.initial > 10 * ELEMENTS {
            return Err(reencode::Error::UserError(TooLarge));
        }
        ty.maximum = Some(ty.maximum.unwrap_or(ELEMENTS).clamp(ty.initial, ELEMENTS.max(ty.initial)));
        utils::table_type(self, ty)
    }
}

/// The sections with memories and tables in them, with limits; `None` if those are large from the start.
fn limited(parts: &Parts<'_>) -> Option<Vec<(u8, Vec<u8>)>> {
    let mut all = Vec::new();
    for (id, old) in &parts.sections {
        let reader = BinaryReader::new(old, 0);
        let new = match *id {
            IMPORTS => {
                let (mut new, old) = (ImportSection::new(), wasmparser::ImportSectionReader::new(reader).ok()?);
                Limits.parse_import_section(&mut new, old).ok()?;
                contents(&new)
            }
            TABLES => {
                let (mut new, old) = (TableSection::new(), wasmparser::TableSectionReader::new(reader).ok()?);
                Limits.parse_table_section(&mut new, old).ok()?;
                contents(&new)
            }
            MEMORIES => {
                let (mut new, old) = (MemorySection::new(), wasmparser::MemorySectionReader::new(reader).ok()?);
                Limits.parse_memory_section(&mut new, old).ok()?;
                contents(&new)
            }
            _ => continue,
        };
        all.push((*id, new));
    }
    Some(all)
}

/// A section without its length.
fn contents(section: &impl Encode) -> Vec<u8> {
    let mut bytes = Vec::new();
    section.encode(&mut bytes);
    let mut reader = BinaryReader::new(&bytes, 0);
    reader.read_var_u32().expect("a section begins with its length");
    bytes[reader.original_position() as usize..].to_vec()
}

/// Whether a constant expression makes no array that is long.
fn is_short(init: &wasmparser::ConstExpr<'_>) -> bool {
    let mut length = None;
    for operator in init.get_operators_reader() {
        match operator {
            Ok(Operator::I32Const { value }) => length = Some(value),
            Ok(Operator::ArrayNew { .. } | Operator::ArrayNewDefault { .. }) => match length {
                Some(0..=LENGTH) => {}
                _ => return false,
            },
            Ok(_) => length = None,
            Err(_) => return false,
        }
    }
    true
}

/// Elements that arrays have at most, so that they fill neither heaps nor time.
const LENGTH: i32 = 0xff;

fn count_down(body: &mut Body<'_>, counted: Counted, check: &[u8]) {
    let mut before = vec![false; body.ops.len()];
    let mut after = vec![false; body.ops.len()];
    // Where each open block begins, and whether it is a loop; the first is the function.
    let mut open: Vec<(usize, bool)> = vec![(0, false)];
    for (i, op) in body.ops.iter().enumerate() {
        let mut branch = |depth: u32, open: &[(usize, bool)], by_exception: bool| {
            let Some(&(head, true)) = open.len().checked_sub(1 + depth as usize).and_then(|at| open.get(at)) else {
                return;
            };
            if by_exception || counted == Counted::Heads {
                after[head] = true;
            } else {
                before[i] = true;
            }
        };
        match &op.operator {
            Operator::Block { .. } | Operator::If { .. } | Operator::Try { .. } => open.push((i, false)),
            Operator::Loop { .. } => open.push((i, true)),
            Operator::TryTable { try_table } => {
                for catch in &try_table.catches {
                    use wasmparser::Catch;
                    let (Catch::One { label, .. }
                    | Catch::OneRef { label, .. }
                    | Catch::All { label }
                    | Catch::AllRef { label }) = *catch;
                    branch(label, &open, true);
                }
                open.push((i, false));
            }
            Operator::End | Operator::Delegate { .. } => drop(open.pop()),
            Operator::Br { relative_depth }
            | Operator::BrIf { relative_depth }
            | Operator::BrOnNull { relative_depth }
            | Operator::BrOnNonNull { relative_depth }
            | Operator::BrOnCast { relative_depth, .. }
            | Operator::BrOnCastFail { relative_depth, .. } => branch(*relative_depth, &open, false),
            Operator::BrTable { targets } => {
                for depth in targets.targets().flatten().chain([targets.default()]) {
                    branch(depth, &open, false);
                }
            }
            _ => {}
        }
    }
    let calls = body.calls();
    let insert = |op: &Op<'_>, before: bool, after: bool| -> Vec<u8> {
        let (start, end): (&[u8], &[u8]) = (if before { check } else { &[] }, if after { check } else { &[] });
        [start, &op.bytes, end].concat()
    };
    for (i, op) in body.ops.iter_mut().enumerate() {
        if matches!(op.operator, Operator::ArrayNew { .. } | Operator::ArrayNewDefault { .. }) {
            let short = bytes(&[Instruction::I32Const(LENGTH), Instruction::I32And]);
            op.bytes = [short.as_slice(), &op.bytes].concat().into();
        }
        let before = before[i] || i == 0 && calls;
        if before || after[i] {
            op.bytes = insert(op, before, after[i]).into();
        }
    }
}

/// Makes NaNs canonical after each operation for which the specification leaves open which one it gives, and the operands of relaxed dot
/// products such that they have one result; `None` if the module has no such operation.
pub fn canonicalise(wasm: &[u8]) -> Option<Vec<u8>> {
    use wasmparser::ValType::{F32, F64, V128};
    let mut parts = Parts::new(wasm)?;
    let mut changed = false;
    for body in &mut parts.bodies {
        let mut temporaries = [None; 3];
        for i in 0..body.ops.len() {
            let dot = match body.ops[i].operator {
                Operator::I16x8RelaxedDotI8x16I7x16S => Some(false),
                Operator::I32x4RelaxedDotI8x16I7x16AddS => Some(true),
                _ => None,
            };
            let shape = if dot.is_some() { Some(Shape::F64x2) } else { arithmetic(&body.ops[i].operator) };
            let Some(shape) = shape else { continue };
            changed = true;
            let ty = [F32, F64, V128, V128][shape as usize];
            let temporary = &mut temporaries[(shape as usize).min(2)];
            let local = match *temporary {
                Some(local) => local,
                None => {
                    let local = body.add_local(ty);
                    *temporary = Some(local);
                    local
                }
            };
            let (tee, get) = (Instruction::LocalTee(local), Instruction::LocalGet(local));
            if let Some(adds) = dot {
                // With the second operand in seven bits, there is one result.
                let sevens = (0..16).fold(0, |v, i| v | 0x7f << (8 * i));
                let mut mask = vec![Instruction::V128Const(sevens), Instruction::V128And];
                if adds {
                    mask = [vec![Instruction::LocalSet(local)], mask, vec![get]].concat();
                }
                let op = &mut body.ops[i];
                op.bytes = [bytes(&mask).as_slice(), &op.bytes].concat().into();
                continue;
            }
            const NAN32: u32 = 0x7fc0_0000;
            const NAN64: u64 = 0x7ff8_0000_0000_0000;
            let nans32 = (0..4).fold(0, |v, i| v | i128::from(NAN32) << (32 * i));
            let nans64 = i128::from(NAN64) << 64 | i128::from(NAN64);
            let (nan, eq, choose) = match shape {
                Shape::F32 => {
                    (Instruction::F32Const(f32::from_bits(NAN32).into()), Instruction::F32Eq, Instruction::Select)
                }
                Shape::F64 => {
                    (Instruction::F64Const(f64::from_bits(NAN64).into()), Instruction::F64Eq, Instruction::Select)
                }
                Shape::F32x4 => (Instruction::V128Const(nans32), Instruction::F32x4Eq, Instruction::V128Bitselect),
                Shape::F64x2 => (Instruction::V128Const(nans64), Instruction::F64x2Eq, Instruction::V128Bitselect),
            };
            let canonical = bytes(&[tee, nan, get.clone(), get, eq, choose]);
            let op = &mut body.ops[i];
            op.bytes = [&op.bytes, canonical.as_slice()].concat().into();
        }
    }
    changed.then(|| parts.encode())
}

#[derive(Clone, Copy)]
enum Shape {
    F32,
    F64,
    F32x4,
    F64x2,
}

/// What an operator gives, if that may be one NaN or another.
fn arithmetic(operator: &Operator<'_>) -> Option<Shape> {
    use Operator::*;
    Some(match operator {
        F32Ceil | F32Floor | F32Trunc | F32Nearest | F32Sqrt | F32Add | F32Sub | F32Mul | F32Div | F32Min | F32Max
        | F32DemoteF64 => Shape::F32,
        F64Ceil | F64Floor | F64Trunc | F64Nearest | F64Sqrt | F64Add | F64Sub | F64Mul | F64Div | F64Min | F64Max
        | F64PromoteF32 => Shape::F64,
        F32x4Ceil | F32x4Floor | F32x4Trunc | F32x4Nearest | F32x4Sqrt | F32x4Add | F32x4Sub | F32x4Mul | F32x4Div
        | F32x4Min | F32x4Max | F32x4DemoteF64x2Zero | F32x4RelaxedMadd | F32x4RelaxedNmadd | F32x4RelaxedMin
        | F32x4RelaxedMax => Shape::F32x4,
        F64x2Ceil | F64x2Floor | F64x2Trunc | F64x2Nearest | F64x2Sqrt | F64x2Add | F64x2Sub | F64x2Mul | F64x2Div
        | F64x2Min | F64x2Max | F64x2PromoteLowF32x4 | F64x2RelaxedMadd | F64x2RelaxedNmadd | F64x2RelaxedMin
        | F64x2RelaxedMax => Shape::F64x2,
        _ => return None,
    })
}
