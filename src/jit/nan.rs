//! NaN bits on which all engines, tiers and targets agree.
//!
//! The specification leaves open which NaN arithmetic gives. Here it is the one that x86-64's SSE instructions give, which costs
//! nothing there: the first operand that is a NaN, made quiet, or if none is, the default NaN, which is negative. The
//! interpreter's arithmetic ([`numeric`](crate::numeric)) gives the same. [`fix`] runs over a function's CLIF before
//! Cranelift optimises it, and corrects what would give another NaN:
//! - Cranelift swaps the operands of a commutative instruction if it can fold a load of the first one into it. A
//!   `sequence_point` after such a load, which emits no code, prevents that.
//! - `fma`, minima and maxima of vectors, and on other processors all arithmetic that can give NaNs, are followed by a
//!   branch to a cold block that computes the right NaN from the operands. If nothing can tell which NaN the result is, for
//!   example because it is only compared, there is no branch.
//!
//! All steps take time in proportion to the function's size.

use cranelift_codegen::cursor::{Cursor, FuncCursor};
use cranelift_codegen::entity::SecondaryMap;
use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{
    BlockArg, ConstantData, Endianness, Function, Inst, InstBuilder, MemFlagsData, Opcode, Type, Value, types,
};

use crate::numeric::{DEFAULT_NAN_F32, DEFAULT_NAN_F64, QUIET_F32, QUIET_F64};

/// Whether the processor's arithmetic gives the right NaNs.
const NATIVE: bool = cfg!(target_arch = "x86_64");

/// Makes a function give the right NaNs.
pub(super) fn fix(func: &mut Function) {
    let mut suspects = Vec::new();
    let mut loads = Vec::new();
    for block in func.layout.blocks() {
        for inst in func.layout.block_insts(block) {
            let opcode = func.dfg.insts[inst].opcode();
            if !is_arithmetic(opcode) {
                continue;
            }
            if differs(opcode, func.dfg.value_type(func.dfg.first_result(inst))) {
                suspects.push(inst);
            }
            let first = func.dfg.resolve_aliases(func.dfg.inst_args(inst)[0]);
            if NATIVE
                && matches!(opcode, Opcode::Fadd | Opcode::Fmul)
                && let Some(load) = func.dfg.value_def(first).inst()
                && func.dfg.insts[load].opcode().can_load()
            {
                loads.push(load);
            }
        }
    }
    loads.sort_unstable();
    loads.dedup();
    for load in loads {
        FuncCursor::new(func).after_inst(load).ins().sequence_point();
    }
    if suspects.is_empty() {
        return;
    }
    let seen = Seen::of(func);
    for inst in suspects {
        if seen.0[func.dfg.first_result(inst)] {
            check(func, inst);
        }
    }
}

/// Whether an instruction's result is a NaN whenever an operand is one.
fn is_arithmetic(opcode: Opcode) -> bool {
    use Opcode::*;
    matches!(
        opcode,
        Fadd | Fsub
            | Fmul
            | Fdiv
            | Fmin
            | Fmax
            | Fma
            | Sqrt
            | Ceil
            | Floor
            | Trunc
            | Nearest
            | Fpromote
            | Fdemote
            | FvpromoteLow
            | Fvdemote
    )
}

/// Whether the code for an instruction can give a wrong NaN.
fn differs(opcode: Opcode, ty: Type) -> bool {
    use Opcode::*;
    match opcode {
        Fma => true,
        Fmin | Fmax => !NATIVE || ty.is_vector(),
        Fadd | Fsub | Fmul | Fdiv | Sqrt => !NATIVE,
        // These give a NaN only for a NaN, the one operand, and all processors make that quiet.
        _ => false,
    }
}

/// The values whose bits matter: an instruction that does not take them as numbers uses them, or a value computed from them whose
/// bits matter.
struct Seen(SecondaryMap<Value, bool>);

impl Seen {
    fn of(func: &Function) -> Seen {
        let dfg = &func.dfg;
        let mut seen: SecondaryMap<Value, bool> = SecondaryMap::new();
        let mut pending = Vec::new();
        // Pairs (result, operand) and (block parameter, argument): if the first is seen, so is the second.
        let mut flows = Vec::new();
        for block in func.layout.blocks() {
            for inst in func.layout.block_insts(block) {
                let opcode = dfg.insts[inst].opcode();
                let result = dfg.inst_results(inst).first();
                for &operand in dfg.inst_args(inst).iter().filter(|operand| can_be_nan(dfg.value_type(**operand))) {
                    let operand = dfg.resolve_aliases(operand);
                    match result {
                        Some(result) if can_be_nan(dfg.value_type(*result)) && !opcode.is_call() => {
                            flows.push((*result, operand));
                        }
                        _ if takes_a_number(opcode) => {}
                        _ if std::mem::replace(&mut seen[operand], true) => {}
                        _ => pending.push(operand),
                    }
                }
                for call in dfg.insts[inst].branch_destination(&dfg.jump_tables, &dfg.exception_tables) {
                    let params = dfg.block_params(call.block(&dfg.value_lists));
                    for (arg, param) in call.args(&dfg.value_lists).zip(params) {
                        if let (BlockArg::Value(arg), true) = (arg, can_be_nan(dfg.value_type(*param))) {
                            flows.push((*param, dfg.resolve_aliases(arg)));
                        }
                    }
                }
            }
        }
        flows.sort_unstable();
        while let Some(value) = pending.pop() {
            let first = flows.partition_point(|(to, _)| *to < value);
            for (_, from) in flows[first..].iter().take_while(|(to, _)| *to == value) {
                if !std::mem::replace(&mut seen[*from], true) {
                    pending.push(*from);
                }
            }
        }
        Seen(seen)
    }
}

/// Whether values of a type can be NaNs.
fn can_be_nan(ty: Type) -> bool {
    ty.is_float() || ty.is_vector()
}

/// Whether an instruction whose result is no float takes its operands as numbers, so that all NaNs are alike to it.
fn takes_a_number(opcode: Opcode) -> bool {
    use Opcode::*;
    matches!(opcode, Fcmp | FcvtToSint | FcvtToUint | FcvtToSintSat | FcvtToUintSat)
}

/// Emits a check of an instruction's result, which replaces it with the right NaN if it is one.
fn check(func: &mut Function, inst: Inst) {
    let result = func.dfg.first_result(inst);
    let ty = func.dfg.value_type(result);
    let operands = func.dfg.inst_args(inst).to_vec();
    let before = func.layout.inst_block(inst).expect("the instruction is in a block");
    let next = func.layout.next_inst(inst).expect("a block ends with a branch");
    let srcloc = func.srcloc(inst);
    let raw = func.dfg.replace_result(result, ty);
    let (after, cold) = (func.dfg.make_block(), func.dfg.make_block());
    func.dfg.attach_block_param(after, result);
    func.layout.split_block(after, next);
    func.layout.append_block(cold);
    func.layout.set_cold(cold);

    let mut cursor = FuncCursor::new(func);
    cursor.set_srcloc(srcloc);
    cursor.goto_bottom(before);
    let is_nan = cursor.ins().fcmp(FloatCC::Unordered, raw, raw);
    let any = if ty.is_vector() { cursor.ins().vany_true(is_nan) } else { is_nan };
    cursor.ins().brif(any, cold, [], after, &[BlockArg::Value(raw)]);

    cursor.goto_bottom(cold);
    let mut nan = default_nan(&mut cursor, ty);
    for operand in operands.into_iter().rev() {
        let quiet = quiet(&mut cursor, operand, ty);
        let is_nan = cursor.ins().fcmp(FloatCC::Unordered, operand, operand);
        nan = choose(&mut cursor, is_nan, quiet, nan, ty);
    }
    let nan = if ty.is_vector() { choose(&mut cursor, is_nan, nan, raw, ty) } else { nan };
    cursor.ins().jump(after, &[BlockArg::Value(nan)]);
}

/// Casts between vectors: lanes are numbered from the lowest byte.
const LANES: MemFlagsData = MemFlagsData::new().with_endianness(Endianness::Little);

fn choose(cursor: &mut FuncCursor<'_>, condition: Value, yes: Value, no: Value, ty: Type) -> Value {
    if !ty.is_vector() {
        return cursor.ins().select(condition, yes, no);
    }
    let mask = cursor.ins().bitcast(ty, LANES, condition);
    cursor.ins().bitselect(mask, yes, no)
}

/// The NaN that arithmetic gives when no operand is one.
fn default_nan(cursor: &mut FuncCursor<'_>, ty: Type) -> Value {
    match ty {
        types::F32 => cursor.ins().f32const(f32::from_bits(DEFAULT_NAN_F32)),
        types::F64 => cursor.ins().f64const(f64::from_bits(DEFAULT_NAN_F64)),
        _ => lanes(cursor, ty, ty, DEFAULT_NAN_F32, DEFAULT_NAN_F64),
    }
}

/// A NaN made quiet.
fn quiet(cursor: &mut FuncCursor<'_>, nan: Value, ty: Type) -> Value {
    let bits = ty.as_int();
    let as_bits = cursor.ins().bitcast(bits, LANES, nan);
    let quiet = match ty {
        types::F32 => cursor.ins().bor_imm_u(as_bits, i64::from(QUIET_F32)),
        types::F64 => cursor.ins().bor_imm_u(as_bits, QUIET_F64 as i64),
        _ => {
            let bit = lanes(cursor, ty, bits, QUIET_F32, QUIET_F64);
            cursor.ins().bor(as_bits, bit)
        }
    };
    cursor.ins().bitcast(ty, LANES, quiet)
}

/// A vector constant of type `as_type` whose lanes have the width of those of `ty`, and the bits `f32` or `f64`.
fn lanes(cursor: &mut FuncCursor<'_>, ty: Type, as_type: Type, f32: u32, f64: u64) -> Value {
    let bytes = if ty.lane_type() == types::F32 { f32.to_le_bytes().repeat(4) } else { f64.to_le_bytes().repeat(2) };
    let constant = cursor.func.dfg.constants.insert(ConstantData::from(bytes.as_slice()));
    cursor.ins().vconst(as_type, constant)
}
