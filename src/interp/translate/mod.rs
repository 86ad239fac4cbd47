//! From a function's WebAssembly to bytecode, in one pass, in linear time and without recursion.
//!
//! Each height of the operand stack has a slot. An operand may also be a local or a constant, which is copied to the slot only
//! when it must be (see [`stack`]). [`emit`] appends instructions, and knows what the accumulators hold. Each category of
//! instructions has its file. Each operator is validated before it comes here ([`walk`]).

mod atomic;
mod call;
mod control;
mod emit;
mod exception;
mod fuel;
mod gc;
mod heat;
mod memory;
mod numeric;
mod reference;
mod simd;
mod stack;
mod table;
mod variable;
mod walk;

use std::ops::Range;

use wasmparser::Operator;

use super::layout::FrameLayout;
use super::op::{self, Plain, for_each_op};
use super::tries::Try;
use crate::error::Result;
use crate::module::ModuleFacts;
use crate::module::decode::Parsed;
use crate::module::fuel::Segments;
use crate::module::nesting::{begins_arm, ends_block, opens_block};
use crate::module::types::ValType;
use crate::module::validate::Check;
use control::Block;
use emit::Last;
pub(super) use emit::NONE;
use exception::Guard;
use stack::{Local, Operand};
use walk::ValidatingVisitor;

/// The bytecode of a function.
pub(super) struct Translation {
    pub words: Vec<u64>,
    /// Slot of the frame's header.
    pub header: u32,
    /// Slots that must be zeroed on entry.
    pub zeroed: Range<u32>,
    /// Number of slots of the frame.
    pub frame: u32,
    /// Whether the frame has scratch slots.
    pub wide_slots: bool,
    /// Inner ones before outer ones.
    pub tries: Vec<Try>,
    /// If asked for: sorted pairs (word, byte offset in the module) of where each WebAssembly instruction's bytecode starts.
    pub positions: Vec<(u32, u32)>,
}

/// The number of slots that 16 bits can name; those beyond are wide slots.
const NEAR: u32 = 1 << 16;

/// What bytecode does besides what the function does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extras {
    /// Counts calls and passes through loops.
    pub counts: bool,
    /// Consumes fuel.
    pub consumes_fuel: bool,
}

/// Translates a defined function, and validates it on the way if that has not been done.
///
/// # Errors
/// Those of [`ModuleFacts::ensure_valid`].
pub(super) fn function(module: &ModuleFacts, defined: u32, extras: Extras, positions: bool) -> Result<Translation> {
    let translate = |wide_slots| {
        module.read_body(defined, |body, check| {
            Translator::new(module, defined, body, extras, positions, wide_slots)?.run(check)
        })
    };
    match translate(false)? {
        Some(translation) => Ok(translation),
        // It has wide slots.
        None => match translate(true)? {
            Some(translation) => Ok(translation),
            None => unreachable!("with scratch slots every frame can be addressed"),
        },
    }
}

/// The slots from the first to the last local that must be zeroed.
fn zeroed(locals: &[Local]) -> Range<u32> {
    let mut slots = locals.iter().filter(|local| local.zeroed).map(|local| local.slot..local.slot + local.slots());
    let Some(first) = slots.next() else { return 0..0 };
    first.start..slots.next_back().unwrap_or(first).end
}

/// The state of a translation.
struct Translator<'m> {
    module: &'m ModuleFacts,
    defined: u32,
    /// Whether calls and passes through loops are counted.
    counting: bool,
    /// The segments to charge for; `None` if no fuel is consumed.
    segments: Option<Segments>,
    /// Words of the instructions that count, from which on the code so far is straight: all of it runs.
    straight: Vec<u32>,
    /// Byte offset in the module of the operator that is being translated.
    offset: u32,
    body: wasmparser::FunctionBody<'m>,
    words: Vec<u64>,
    locals: Vec<Local>,
    /// Locals that are known to be set, in the order in which they were.
    set: Vec<u32>,
    stack: Vec<Operand>,
    blocks: Vec<Block<'m>>,
    /// Operands below this do not stand for locals.
    settled: usize,
    /// The slot after the top operand, and the greatest that was ever so.
    height: u32,
    max_height: u32,
    /// Whether control can reach the next instruction.
    reachable: bool,
    /// Blocks opened since it cannot.
    skipped: u32,
    /// By bank, the slot whose value the accumulator also holds.
    acc: [u32; 3],
    /// By bank, the first word of the instruction that left it there; `NONE` if that must go on writing the slot.
    acc_from: [u32; 3],
    /// The last instruction, if it wrote a slot and no label has followed.
    last: Option<Last>,
    /// The one before it, likewise.
    before: Option<Last>,
    tries: Vec<Try>,
    /// The `try_table`s and bodies of legacy `try`s around the current instruction.
    guards: Vec<Guard>,
    /// Tag and first word of the `catch`es so far of the open legacy `try`s.
    caught: Vec<(u32, u32)>,
    /// Number of the latest `br_table`, by which its entries for one block find the branch that they share.
    tables: u32,
    header: u32,
    results: u32,
    /// First scratch slot, if the frame may have wide slots.
    scratch: Option<u32>,
    /// Set when a wide slot was met without scratch slots.
    overflow: bool,
    positions: Option<Vec<(u32, u32)>>,
}

impl<'m> Translator<'m> {
    fn new(
        module: &'m ModuleFacts,
        defined: u32,
        body: wasmparser::FunctionBody<'m>,
        extras: Extras,
        positions: bool,
        wide_slots: bool,
    ) -> Parsed<Self> {
        let ty = module.defined_type(defined);
        let results = ty.result_slots() as u32;
        let FrameLayout { header, scratch, locals: mut next } = FrameLayout::new(ty, wide_slots);
        let mut locals = Vec::new();
        let mut param = 0;
        for ty in ty.params() {
            locals.push(Local::param(&mut param, ty));
        }
        for group in body.get_locals_reader()? {
            let (count, ty) = group?;
            let ty = ValType::from_wasmparser(ty, &module.sigs);
            locals.extend((0..count).map(|_| Local::new(&mut next, &ty)));
        }
        let words = Vec::with_capacity(body.as_bytes().len() / 2 + 8);
        let mut translator = Translator {
            module,
            defined,
            counting: extras.counts,
            segments: extras.consumes_fuel.then(|| Segments::of(&body, module.layouts())),
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
            guards: Vec::new(),
            caught: Vec::new(),
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
            reader.visit_operator(&mut ValidatingVisitor { translator: &mut self, check, offset })??;
            if self.overflow {
                return Ok(None);
            }
        }
        reader.finish()?;
        if self.counting {
            self.weigh(0, false);
        }
        Ok(Some(Translation {
            words: self.words,
            header: self.header,
            zeroed: zeroed(&self.locals),
            frame: self.max_height,
            wide_slots: self.scratch.is_some(),
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
        self.charge(self.offset);
        self.operator(operator)
    }

    /// Whether an unreachable instruction is to be translated all the same: only one that ends the unreachable code.
    fn resume(&mut self, operator: &Operator<'_>) -> bool {
        if opens_block(operator) {
            self.skipped += 1;
        } else if self.skipped == 0 {
            return ends_block(operator) || begins_arm(operator);
        } else if ends_block(operator) {
            self.skipped -= 1;
        }
        false
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
        atomic_load { $($al:ident $al_unit:ident;)* }
        atomic_store { $($as:ident $as_unit:ident;)* }
        atomic_rmw { $($ar:ident $ar_fn:ident $ar_unit:ident;)* }
        atomic_cmpxchg { $($ac:ident $ac_unit:ident;)* }
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
                    Operator::BrOnNull { relative_depth } => self.br_on_null(relative_depth),
                    Operator::BrOnNonNull { relative_depth } => self.br_on_non_null(relative_depth),
                    Operator::Return => self.br(self.blocks.len() as u32 - 1),
                    Operator::Call { function_index } => self.call(function_index),
                    Operator::CallIndirect { type_index, table_index } => self.call_indirect(type_index, table_index),
                    Operator::ReturnCall { function_index } => self.return_call(function_index),
                    Operator::ReturnCallIndirect { type_index, table_index } => {
                        self.return_call_indirect(type_index, table_index);
                    }
                    Operator::CallRef { type_index } => self.call_ref(type_index),
                    Operator::ReturnCallRef { type_index } => self.return_call_ref(type_index),
                    Operator::TryTable { ref try_table } => self.try_table(try_table),
                    Operator::Throw { tag_index } => self.throw(tag_index),
                    Operator::ThrowRef => self.throw_ref(),
                    Operator::Try { blockty } => self.legacy_try(blockty),
                    Operator::Catch { tag_index } => self.catch(Some(tag_index)),
                    Operator::CatchAll => self.catch(None),
                    Operator::Delegate { relative_depth } => self.delegate(relative_depth),
                    Operator::Rethrow { relative_depth } => self.rethrow(relative_depth),
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
                    Operator::I32Eqz => self.i32_eqz(),
                    Operator::I64Eqz => self.i64_eqz(),
                    Operator::I64Add128 => self.wide_arithmetic(Plain::I64Add128, 4),
                    Operator::I64Sub128 => self.wide_arithmetic(Plain::I64Sub128, 4),
                    Operator::I64MulWideS => self.wide_arithmetic(Plain::I64MulWideS, 2),
                    Operator::I64MulWideU => self.wide_arithmetic(Plain::I64MulWideU, 2),
                    // These leave the slot as it is.
                    Operator::I64ExtendI32U
                    | Operator::I32ReinterpretF32
                    | Operator::I64ReinterpretF64
                    | Operator::F32ReinterpretI32
                    | Operator::F64ReinterpretI64 => {}

                    Operator::GlobalGet { global_index } => self.global_get(global_index),
                    Operator::GlobalSet { global_index } => self.global_set(global_index),
                    Operator::RefNull { .. } => self.ref_null(),
                    Operator::RefIsNull => self.ref_is_null(),
                    Operator::RefAsNonNull => self.ref_as_non_null(),
                    Operator::RefFunc { function_index } => self.ref_func(function_index),
                    Operator::MemorySize { mem } => self.memory_size(mem),
                    Operator::MemoryGrow { mem } => self.memory_grow(mem),
                    Operator::MemoryFill { mem } => self.memory_fill(mem),
                    Operator::MemoryCopy { dst_mem, src_mem } => self.memory_copy(dst_mem, src_mem),
                    Operator::MemoryInit { data_index, mem } => self.memory_init(mem, data_index),
                    Operator::DataDrop { data_index } => self.data_drop(data_index),
                    Operator::TableGet { table } => self.table_get(table),
                    Operator::TableSet { table } => self.table_set(table),
                    Operator::TableSize { table } => self.table_size(table),
                    Operator::TableGrow { table } => self.table_grow(table),
                    Operator::TableFill { table } => self.table_fill(table),
                    Operator::TableCopy { dst_table, src_table } => self.table_copy(dst_table, src_table),
                    Operator::TableInit { elem_index, table } => self.table_init(table, elem_index),
                    Operator::ElemDrop { elem_index } => self.elem_drop(elem_index),
                    Operator::I8x16Shuffle { lanes } => self.shuffle(lanes),
                    Operator::RefEq => self.compare(op::Compare::I64Eq),
                    Operator::StructNew { struct_type_index } => self.struct_new(struct_type_index),
                    Operator::StructNewDefault { struct_type_index } => self.struct_new_default(struct_type_index),
                    Operator::StructGet { struct_type_index, field_index }
                    | Operator::StructGetU { struct_type_index, field_index } => {
                        self.struct_get(struct_type_index, field_index, false);
                    }
                    Operator::StructGetS { struct_type_index, field_index } => {
                        self.struct_get(struct_type_index, field_index, true);
                    }
                    Operator::StructSet { struct_type_index, field_index } => {
                        self.struct_set(struct_type_index, field_index);
                    }
                    Operator::ArrayNew { array_type_index } => self.array_new(array_type_index),
                    Operator::ArrayNewDefault { array_type_index } => self.array_new_default(array_type_index),
                    Operator::ArrayNewFixed { array_type_index, array_size } => {
                        self.array_new_fixed(array_type_index, array_size);
                    }
                    Operator::ArrayNewData { array_type_index, array_data_index } => {
                        self.array_new_data(array_type_index, array_data_index);
                    }
                    Operator::ArrayNewElem { array_type_index, array_elem_index } => {
                        self.array_new_elem(array_type_index, array_elem_index);
                    }
                    Operator::ArrayGet { array_type_index } | Operator::ArrayGetU { array_type_index } => {
                        self.array_get(array_type_index, false);
                    }
                    Operator::ArrayGetS { array_type_index } => self.array_get(array_type_index, true),
                    Operator::ArraySet { array_type_index } => self.array_set(array_type_index),
                    Operator::ArrayLen => self.array_len(),
                    Operator::ArrayFill { array_type_index } => self.array_fill(array_type_index),
                    Operator::ArrayCopy { array_type_index_dst, array_type_index_src } => {
                        self.array_copy(array_type_index_dst, array_type_index_src);
                    }
                    Operator::ArrayInitData { array_type_index, array_data_index } => {
                        self.array_init_data(array_type_index, array_data_index);
                    }
                    Operator::ArrayInitElem { array_type_index, array_elem_index } => {
                        self.array_init_elem(array_type_index, array_elem_index);
                    }
                    Operator::RefTestNonNull { hty } => self.ref_test(hty, false),
                    Operator::RefTestNullable { hty } => self.ref_test(hty, true),
                    Operator::RefCastNonNull { hty } => self.ref_cast(hty, false),
                    Operator::RefCastNullable { hty } => self.ref_cast(hty, true),
                    Operator::BrOnCast { relative_depth, to_ref_type, .. } => {
                        self.br_on_cast(relative_depth, to_ref_type, true);
                    }
                    Operator::BrOnCastFail { relative_depth, to_ref_type, .. } => {
                        self.br_on_cast(relative_depth, to_ref_type, false);
                    }
                    Operator::RefI31 => self.i31(Plain::RefI31),
                    Operator::I31GetS => self.i31(Plain::I31GetS),
                    Operator::I31GetU => self.i31(Plain::I31GetU),
                    // These leave the reference as it is.
                    Operator::AnyConvertExtern | Operator::ExternConvertAny => {}

                    $(Operator::$compare => self.compare(op::Compare::$compare),)*
                    $(Operator::$binary => self.binary(op::Binary::$binary),)*
                    $(Operator::$unary => self.unary(op::Unary::$unary),)*
                    $(Operator::$load { memarg } => self.load(op::Load::$load, memarg),)*
                    $(Operator::$store { memarg } => self.store(op::Store::$store, memarg),)*
                    Operator::MemoryAtomicNotify { memarg } => self.atomic_notify(memarg),
                    Operator::MemoryAtomicWait32 { memarg } => self.atomic_wait(Plain::MemoryAtomicWait32, memarg),
                    Operator::MemoryAtomicWait64 { memarg } => self.atomic_wait(Plain::MemoryAtomicWait64, memarg),
                    Operator::AtomicFence { .. } => self.atomic_fence(),
                    $(Operator::$al { memarg } => self.atomic_load(op::AtomicLoad::$al, memarg),)*
                    $(Operator::$as { memarg } => self.atomic_store(op::AtomicStore::$as, memarg),)*
                    $(Operator::$ar { memarg } => self.atomic_rmw(op::AtomicRmw::$ar, memarg),)*
                    $(Operator::$ac { memarg } => self.atomic_cmpxchg(op::AtomicCmpxchg::$ac, memarg),)*
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
