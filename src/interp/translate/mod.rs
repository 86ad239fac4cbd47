//! From a function's WebAssembly to bytecode, in one pass, in linear time and without recursion.
//!
//! The operand stack is resolved to slots: each height has one, and what lies at a height may also be a local or a
//! constant that is only copied there when it must be (see [`stack`]). Instructions are put out by [`emit`], which also
//! knows what the accumulators hold. Each operator is validated before it comes here ([`walk`]).

mod control;
mod emit;
mod exception;
mod memory;
mod numeric;
mod reference;
mod simd;
mod stack;
mod table;
mod walk;

use std::ops::Range;

use wasmparser::Operator;

use super::layout::FrameLayout;
use super::op::{self, for_each_op};
use super::tries::Try;
use crate::error::Result;
use crate::module::ModuleInner;
use crate::module::decode::Parsed;
use crate::module::types::ValType;
use crate::module::validate::Check;
use control::Block;
use emit::Last;
pub(super) use emit::NONE;
use stack::{Local, Operand};
use walk::Walk;

/// What becomes of a function.
pub(super) struct Translation {
    pub words: Vec<u64>,
    /// Slot of the frame's header.
    pub header: u32,
    /// The slots that must be zeroed on entry.
    pub zeroed: Range<u32>,
    /// Slots of the frame.
    pub frame: u32,
    /// Whether the frame has scratch slots.
    pub far: bool,
    /// Inner ones before outer ones.
    pub tries: Vec<Try>,
    /// If asked for: the word at which each WebAssembly instruction's bytecode starts, and its byte offset.
    pub positions: Vec<(u32, u32)>,
}

/// Slots that 16 bits can name.
const NEAR: u32 = 1 << 16;

/// Translates a defined function, and validates it while at it if that has not been done.
///
/// # Errors
/// Those of [`ModuleInner::ensure_valid`].
pub(super) fn function(module: &ModuleInner, defined: u32, positions: bool) -> Result<Translation> {
    let translate = |far| {
        module.read_body(defined, |body, check| Translator::new(module, defined, body, positions, far)?.run(check))
    };
    match translate(false)? {
        Some(translation) => Ok(translation),
        // Slots were needed that 16 bits can't name.
        None => match translate(true)? {
            Some(translation) => Ok(translation),
            None => unreachable!("with scratch slots every frame can be addressed"),
        },
    }
}

/// From the first to behind the last slot of locals that must be zeroed.
fn zeroed(locals: &[Local]) -> Range<u32> {
    let mut slots = locals.iter().filter(|local| local.zeroed).map(|local| local.slot..local.slot + local.slots());
    let Some(first) = slots.next() else { return 0..0 };
    first.start..slots.next_back().unwrap_or(first).end
}

/// The state of a translation.
struct Translator<'m> {
    module: &'m ModuleInner,
    defined: u32,
    /// Whether calls and passes through loops are counted.
    counting: bool,
    /// The instructions that count, as words, from which on all instructions were put out that will run.
    straight: Vec<u32>,
    /// Of the operator that is being translated, in the module.
    offset: u32,
    body: wasmparser::FunctionBody<'m>,
    words: Vec<u64>,
    locals: Vec<Local>,
    /// Locals that were found set, for each open block in turn.
    set: Vec<u32>,
    stack: Vec<Operand>,
    blocks: Vec<Block<'m>>,
    /// Operands below this are not lazily locals.
    settled: usize,
    /// Slot behind the top operand, and the greatest it has been.
    height: u32,
    max_height: u32,
    /// Whether control can reach the next instruction.
    reachable: bool,
    /// Blocks opened since it can't.
    skipped: u32,
    /// The slots that the accumulators also hold, by bank.
    acc: [u32; 3],
    /// The first words of the instructions that left those there, by bank; `NONE` where they must write their slot.
    acc_from: [u32; 3],
    /// The last instruction, if it wrote a slot and no label has followed.
    last: Option<Last>,
    /// The one before it, likewise.
    before: Option<Last>,
    tries: Vec<Try>,
    /// Stamps `br_table`s, for finding the stubs they share.
    tables: u32,
    header: u32,
    results: u32,
    /// First scratch slot, if slots beyond `NEAR` are expected.
    scratch: Option<u32>,
    /// Set when a slot beyond `NEAR` was used without scratch slots.
    overflow: bool,
    positions: Option<Vec<(u32, u32)>>,
}

impl<'m> Translator<'m> {
    fn new(
        module: &'m ModuleInner,
        defined: u32,
        body: wasmparser::FunctionBody<'m>,
        positions: bool,
        far: bool,
    ) -> Parsed<Self> {
        let ty = module.defined_type(defined);
        let results = ty.result_slots() as u32;
        let FrameLayout { header, scratch, locals: mut next } = FrameLayout::new(ty, far);
        let mut locals = Vec::new();
        let mut param = 0;
        for ty in ty.params() {
            locals.push(Local::param(&mut param, ty));
        }
        for group in body.get_locals_reader()? {
            let (count, ty) = group?;
            let ty = ValType::from_wasmparser(ty);
            locals.extend((0..count).map(|_| Local::new(&mut next, &ty)));
        }
        let words = Vec::with_capacity(body.as_bytes().len() / 2 + 8);
        let mut translator = Translator {
            module,
            defined,
            counting: !module.tier.counters().is_null(),
            straight: Vec::new(),
            offset: 0,
            body,
            words,
            locals,
            set: Vec::new(),
            stack: Vec::with_capacity(16),
            blocks: Vec::with_capacity(16),
            settled: 0,
            height: next,
            max_height: next,
            reachable: true,
            skipped: 0,
            acc: [NONE; 3],
            acc_from: [NONE; 3],
            last: None,
            before: None,
            tries: Vec::new(),
            tables: 0,
            header,
            results,
            scratch,
            overflow: false,
            positions: positions.then(Vec::new),
        };
        translator.blocks.push(Block::function(ty, next));
        Ok(translator)
    }

    /// The translation, or `None` if it needs scratch slots.
    fn run(mut self, check: &mut Check) -> Parsed<Option<Translation>> {
        let mut reader = self.body.get_operators_reader()?;
        if self.counting {
            self.count(op::Plain::CountCall, &[]);
        }
        while !reader.eof() {
            let offset = reader.original_position();
            reader.visit_operator(&mut Walk { translator: &mut self, check, offset })??;
            if self.overflow {
                return Ok(None);
            }
        }
        reader.finish()?;
        if self.counting {
            self.weigh(0, control::MAX_WEIGHT);
        }
        Ok(Some(Translation {
            words: self.words,
            header: self.header,
            zeroed: zeroed(&self.locals),
            frame: self.max_height,
            far: self.scratch.is_some(),
            tries: self.tries,
            positions: self.positions.unwrap_or_default(),
        }))
    }

    /// Translates the operator at this byte offset.
    fn next(&mut self, offset: u64, operator: &Operator<'m>) -> Parsed<()> {
        if !self.reachable && !self.resume(operator) {
            return Ok(());
        }
        if let Some(positions) = &mut self.positions {
            positions.push((self.words.len() as u32, offset as u32));
        }
        self.offset = offset as u32;
        self.operator(operator)
    }

    /// Whether an instruction after an unconditional branch is to be translated: only those that end the dead code.
    fn resume(&mut self, operator: &Operator<'_>) -> bool {
        match operator {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } | Operator::TryTable { .. } => {
                self.skipped += 1;
                false
            }
            Operator::Else => self.skipped == 0,
            Operator::End if self.skipped == 0 => true,
            Operator::End => {
                self.skipped -= 1;
                false
            }
            _ => false,
        }
    }
}

macro_rules! translate {
    (
        plain $plain:tt
        compare { $($compare:ident($($c:tt)*) $compare_body:tt)* }
        tested $tested:tt
        binary { $($binary:ident($($b:tt)*) $comm:ident $binary_body:tt)* }
        unary { $($unary:ident($($u:tt)*) -> $unary_out:ident $unary_body:tt)* }
        load { $($load:ident($($l:tt)*) -> $load_out:ident $load_body:tt)* }
        store { $($store:ident($($s:tt)*) -> $store_unit:ident $store_body:tt)* }
        load_lane { $($load_lane:ident($($ll:tt)*) $ll_body:tt)* }
        store_lane { $($store_lane:ident($($sl:tt)*) -> $st:ident $sl_body:tt)* }
        splat { $($splat:ident $splat_fn:ident $splat_ty:ident;)* }
        extract { $($extract:ident $extract_fn:ident $extract_ty:ident;)* }
        replace { $($replace:ident $replace_fn:ident $replace_ty:ident;)* }
        vector_binary { $($vb:ident $vb_fn:ident;)* }
        vector_unary { $($vu:ident $vu_fn:ident;)* }
        vector_ternary { $($vt:ident $vt_fn:ident;)* }
        vector_swizzle { $($vz:ident $vz_fn:ident;)* }
        vector_fused { $($vf:ident $vf_fn:ident;)* }
        vector_shift { $($vs:ident $vs_fn:ident;)* }
        vector_test { $($vx:ident $vx_fn:ident;)* }
    ) => {
        impl<'m> Translator<'m> {
            fn operator(&mut self, operator: &Operator<'m>) -> Parsed<()> {
                match *operator {
                    Operator::Unreachable => self.unreachable(),
                    Operator::Nop => {}
                    Operator::Block { blockty } => self.block(blockty),
                    Operator::Loop { blockty } => self.loop_(blockty),
                    Operator::If { blockty } => self.if_(blockty),
                    Operator::Else => self.else_(),
                    Operator::End => self.end(),
                    Operator::Br { relative_depth } => self.br(relative_depth),
                    Operator::BrIf { relative_depth } => self.br_if(relative_depth),
                    Operator::BrTable { ref targets } => self.br_table(targets)?,
                    Operator::Return => self.br(self.blocks.len() as u32 - 1),
                    Operator::Call { function_index } => self.call(function_index),
                    Operator::CallIndirect { type_index, table_index } => self.call_indirect(type_index, table_index),
                    Operator::ReturnCall { function_index } => self.return_call(function_index),
                    Operator::ReturnCallIndirect { type_index, table_index } => {
                        self.return_call_indirect(type_index, table_index);
                    }
                    Operator::TryTable { ref try_table } => self.try_table(try_table),
                    Operator::Throw { tag_index } => self.throw(tag_index),
                    Operator::ThrowRef => self.throw_ref(),
                    Operator::Drop => {
                        self.pop();
                    }
                    Operator::Select | Operator::TypedSelect { .. } => self.select(),
                    Operator::LocalGet { local_index } => self.local_get(local_index),
                    Operator::LocalSet { local_index } => self.local_set(local_index, false),
                    Operator::LocalTee { local_index } => self.local_set(local_index, true),

                    Operator::I32Const { value } => self.push_const(u64::from(value as u32)),
                    Operator::I64Const { value } => self.push_const(value as u64),
                    Operator::F32Const { value } => self.push_const(value.bits().into()),
                    Operator::F64Const { value } => self.push_const(value.bits()),
                    Operator::V128Const { value } => self.vector_const(value.i128() as u128),
                    Operator::RefNull { .. } => self.push_const(0),
                    // Comparisons with zero; a slot holds a reference, or a zero-extended i32, in 64 bits.
                    Operator::I32Eqz => self.eqz(op::Compare::I32Eq),
                    Operator::I64Eqz | Operator::RefIsNull => self.eqz(op::Compare::I64Eq),
                    // Slots stay as they are.
                    Operator::I64ExtendI32U
                    | Operator::I32ReinterpretF32
                    | Operator::I64ReinterpretF64
                    | Operator::F32ReinterpretI32
                    | Operator::F64ReinterpretI64 => {}

                    Operator::GlobalGet { global_index } => self.global_get(global_index),
                    Operator::GlobalSet { global_index } => self.global_set(global_index),
                    Operator::RefFunc { function_index } => self.ref_func(function_index),
                    Operator::MemorySize { mem } => self.memory_size(mem),
                    Operator::MemoryGrow { mem } => self.memory_grow(mem),
                    Operator::MemoryFill { mem } => self.bulk(op::Plain::MemoryFill, mem, 0),
                    Operator::MemoryCopy { dst_mem, src_mem } => self.bulk(op::Plain::MemoryCopy, dst_mem, src_mem),
                    Operator::MemoryInit { data_index, mem } => self.bulk(op::Plain::MemoryInit, mem, data_index),
                    Operator::DataDrop { data_index } => self.drop_segment(op::Plain::DataDrop, data_index),
                    Operator::TableGet { table } => self.table_get(table),
                    Operator::TableSet { table } => self.table_set(table),
                    Operator::TableSize { table } => self.table_size(table),
                    Operator::TableGrow { table } => self.table_grow(table),
                    Operator::TableFill { table } => self.bulk(op::Plain::TableFill, table, 0),
                    Operator::TableCopy { dst_table, src_table } => {
                        self.bulk(op::Plain::TableCopy, dst_table, src_table);
                    }
                    Operator::TableInit { elem_index, table } => self.bulk(op::Plain::TableInit, table, elem_index),
                    Operator::ElemDrop { elem_index } => self.drop_segment(op::Plain::ElemDrop, elem_index),
                    Operator::I8x16Shuffle { lanes } => self.shuffle(lanes),

                    $(Operator::$compare => self.compare(op::Compare::$compare),)*
                    $(Operator::$binary => self.binary(op::Binary::$binary),)*
                    $(Operator::$unary => self.unary(op::Unary::$unary),)*
                    $(Operator::$load { memarg } => self.load(op::Load::$load, memarg),)*
                    $(Operator::$store { memarg } => self.store(op::Store::$store, memarg),)*
                    $(Operator::$load_lane { memarg, lane } => self.load_lane(op::LoadLane::$load_lane, memarg, lane),)*
                    $(Operator::$store_lane { memarg, lane } => {
                        self.store_lane(op::StoreLane::$store_lane, memarg, lane);
                    })*
                    $(Operator::$splat => self.splat(op::Splat::$splat),)*
                    $(Operator::$extract { lane } => self.extract(op::Extract::$extract, lane),)*
                    $(Operator::$replace { lane } => self.replace(op::Replace::$replace, lane),)*
                    $(Operator::$vb => self.vector_binary(op::VectorBinary::$vb.op()),)*
                    $(Operator::$vu => self.vector_unary(op::VectorUnary::$vu.op()),)*
                    $(Operator::$vt => self.vector_ternary(op::VectorTernary::$vt.op()),)*
                    $(Operator::$vz => self.vector_binary(op::VectorSwizzle::$vz.op()),)*
                    $(Operator::$vf => self.vector_ternary(op::VectorFused::$vf.op()),)*
                    $(Operator::$vs => self.vector_binary(op::VectorShift::$vs.op()),)*
                    $(Operator::$vx => self.vector_test(op::VectorTest::$vx),)*
                    ref other => unreachable!("{other:?} does not validate with the features that are supported"),
                }
                Ok(())
            }
        }
    };
}

for_each_op!(translate);
