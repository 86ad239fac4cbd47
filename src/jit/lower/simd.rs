//! Vectors (specification, section 4.3.4), the relaxed ones with the results of the deterministic profile.
//!
//! A `v128` on the operand stack has the lanes that the instruction before left it with. Each instruction casts its operands
//! to the lanes that it works on, which costs no machine code.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{ConstantData, InstBuilder, Type, Value, types};
use cranelift_frontend::FuncInstBuilder;
use types::{F32X4, F64X2, I8, I8X16, I16, I16X8, I32, I32X4, I64X2};
use wasmparser::Operator as Op;

use super::Lower;

impl<'b> Lower<'_, 'b> {
    pub(super) fn simd(&mut self, op: &Op<'_>) -> bool {
        self.simd_memory(op)
            || self.simd_lanes(op)
            || self.simd_integer(op)
            || self.simd_convert(op)
            || self.simd_float(op)
    }

    fn unary_lanes(&mut self, ty: Type, make: impl FnOnce(FuncInstBuilder<'_, 'b>, Value) -> Value) -> bool {
        let x = self.pop_vector(ty);
        let result = make(self.ins(), x);
        self.push(result);
        true
    }

    fn binary_lanes(&mut self, ty: Type, make: impl FnOnce(FuncInstBuilder<'_, 'b>, Value, Value) -> Value) -> bool {
        let (x, y) = self.pop2_lanes(ty);
        let result = make(self.ins(), x, y);
        self.push(result);
        true
    }

    fn pop2_lanes(&mut self, ty: Type) -> (Value, Value) {
        let y = self.pop_vector(ty);
        (self.pop_vector(ty), y)
    }

    fn pop3_lanes(&mut self, ty: Type) -> (Value, Value, Value) {
        let z = self.pop_vector(ty);
        let (x, y) = self.pop2_lanes(ty);
        (x, y, z)
    }

    pub(super) fn vector_constant(&mut self, ty: Type, bytes: [u8; 16]) -> Value {
        let constant = self.builder.func.dfg.constants.insert(ConstantData::from(&bytes[..]));
        self.ins().vconst(ty, constant)
    }

    fn simd_memory(&mut self, op: &Op<'_>) -> bool {
        match *op {
            Op::V128Load8x8S { memarg } => self.load(memarg, 8, |i, f, p, o| i.sload8x8(f, p, o)),
            Op::V128Load8x8U { memarg } => self.load(memarg, 8, |i, f, p, o| i.uload8x8(f, p, o)),
            Op::V128Load16x4S { memarg } => self.load(memarg, 8, |i, f, p, o| i.sload16x4(f, p, o)),
            Op::V128Load16x4U { memarg } => self.load(memarg, 8, |i, f, p, o| i.uload16x4(f, p, o)),
            Op::V128Load32x2S { memarg } => self.load(memarg, 8, |i, f, p, o| i.sload32x2(f, p, o)),
            Op::V128Load32x2U { memarg } => self.load(memarg, 8, |i, f, p, o| i.uload32x2(f, p, o)),
            Op::V128Load8Splat { memarg } => self.load_splat(memarg, I8X16),
            Op::V128Load16Splat { memarg } => self.load_splat(memarg, I16X8),
            Op::V128Load32Splat { memarg } => self.load_splat(memarg, I32X4),
            Op::V128Load64Splat { memarg } => self.load_splat(memarg, I64X2),
            Op::V128Load32Zero { memarg } => self.load_zero(memarg, I32X4),
            Op::V128Load64Zero { memarg } => self.load_zero(memarg, I64X2),
            Op::V128Load8Lane { memarg, lane } => self.load_lane(memarg, I8X16, lane),
            Op::V128Load16Lane { memarg, lane } => self.load_lane(memarg, I16X8, lane),
            Op::V128Load32Lane { memarg, lane } => self.load_lane(memarg, I32X4, lane),
            Op::V128Load64Lane { memarg, lane } => self.load_lane(memarg, I64X2, lane),
            Op::V128Store8Lane { memarg, lane } => self.store_lane(memarg, I8X16, lane),
            Op::V128Store16Lane { memarg, lane } => self.store_lane(memarg, I16X8, lane),
            Op::V128Store32Lane { memarg, lane } => self.store_lane(memarg, I32X4, lane),
            Op::V128Store64Lane { memarg, lane } => self.store_lane(memarg, I64X2, lane),
            _ => return false,
        }
        true
    }

    fn load_splat(&mut self, memarg: wasmparser::MemArg, ty: Type) {
        let x = self.loaded(memarg, ty.lane_type());
        let vector = self.ins().splat(ty, x);
        self.push(vector);
    }

    fn load_zero(&mut self, memarg: wasmparser::MemArg, ty: Type) {
        let x = self.loaded(memarg, ty.lane_type());
        let vector = self.ins().scalar_to_vector(ty, x);
        self.push(vector);
    }

    fn load_lane(&mut self, memarg: wasmparser::MemArg, ty: Type, lane: u8) {
        let vector = self.pop_vector(ty);
        let x = self.loaded(memarg, ty.lane_type());
        let vector = self.ins().insertlane(vector, x, lane);
        self.push(vector);
    }

    fn store_lane(&mut self, memarg: wasmparser::MemArg, ty: Type, lane: u8) {
        let vector = self.pop_vector(ty);
        let value = self.ins().extractlane(vector, lane);
        self.store(memarg, u64::from(ty.lane_type().bytes()), |i, f, p, o| {
            i.store(f, value, p, o);
        });
    }

    /// Constants, lanes, and operations on all bits.
    fn simd_lanes(&mut self, op: &Op<'_>) -> bool {
        match *op {
            Op::V128Const { value } => {
                let value = self.vector_constant(I8X16, *value.bytes());
                self.push(value);
                true
            }
            Op::I8x16Shuffle { lanes } => {
                let (x, y) = self.pop2_lanes(I8X16);
                let mask = self.builder.func.dfg.immediates.push(ConstantData::from(&lanes[..]));
                let result = self.ins().shuffle(x, y, mask);
                self.push(result);
                true
            }
            // Out-of-range lanes are zero in the relaxed one too.
            Op::I8x16Swizzle | Op::I8x16RelaxedSwizzle => self.binary_lanes(I8X16, |i, x, y| i.swizzle(x, y)),
            Op::I8x16Splat => self.splat_low(I8X16),
            Op::I16x8Splat => self.splat_low(I16X8),
            Op::I32x4Splat => self.unary(|i, x| i.splat(I32X4, x)),
            Op::I64x2Splat => self.unary(|i, x| i.splat(I64X2, x)),
            Op::F32x4Splat => self.unary(|i, x| i.splat(F32X4, x)),
            Op::F64x2Splat => self.unary(|i, x| i.splat(F64X2, x)),
            Op::I8x16ExtractLaneS { lane } => self.extract_extend(I8X16, lane, true),
            Op::I8x16ExtractLaneU { lane } => self.extract_extend(I8X16, lane, false),
            Op::I16x8ExtractLaneS { lane } => self.extract_extend(I16X8, lane, true),
            Op::I16x8ExtractLaneU { lane } => self.extract_extend(I16X8, lane, false),
            Op::I32x4ExtractLane { lane } => self.unary_lanes(I32X4, |i, x| i.extractlane(x, lane)),
            Op::I64x2ExtractLane { lane } => self.unary_lanes(I64X2, |i, x| i.extractlane(x, lane)),
            Op::F32x4ExtractLane { lane } => self.unary_lanes(F32X4, |i, x| i.extractlane(x, lane)),
            Op::F64x2ExtractLane { lane } => self.unary_lanes(F64X2, |i, x| i.extractlane(x, lane)),
            Op::I8x16ReplaceLane { lane } => self.replace_lane(I8X16, lane, Some(I8)),
            Op::I16x8ReplaceLane { lane } => self.replace_lane(I16X8, lane, Some(I16)),
            Op::I32x4ReplaceLane { lane } => self.replace_lane(I32X4, lane, None),
            Op::I64x2ReplaceLane { lane } => self.replace_lane(I64X2, lane, None),
            Op::F32x4ReplaceLane { lane } => self.replace_lane(F32X4, lane, None),
            Op::F64x2ReplaceLane { lane } => self.replace_lane(F64X2, lane, None),

            Op::V128Not => self.unary_lanes(I8X16, |i, x| i.bnot(x)),
            Op::V128And => self.binary_lanes(I8X16, |i, x, y| i.band(x, y)),
            Op::V128AndNot => self.binary_lanes(I8X16, |i, x, y| i.band_not(x, y)),
            Op::V128Or => self.binary_lanes(I8X16, |i, x, y| i.bor(x, y)),
            Op::V128Xor => self.binary_lanes(I8X16, |i, x, y| i.bxor(x, y)),
            Op::V128Bitselect | Op::I8x16RelaxedLaneselect => self.select_bits(I8X16),
            // Bit by bit in the deterministic profile.
            Op::I16x8RelaxedLaneselect => self.select_bits(I16X8),
            Op::I32x4RelaxedLaneselect => self.select_bits(I32X4),
            Op::I64x2RelaxedLaneselect => self.select_bits(I64X2),
            Op::V128AnyTrue => {
                let x = self.pop_vector(I8X16);
                let any = self.ins().vany_true(x);
                self.push_bool(any)
            }
            Op::I8x16AllTrue => self.all_true(I8X16),
            Op::I16x8AllTrue => self.all_true(I16X8),
            Op::I32x4AllTrue => self.all_true(I32X4),
            Op::I64x2AllTrue => self.all_true(I64X2),
            Op::I8x16Bitmask => self.unary_lanes(I8X16, |i, x| i.vhigh_bits(I32, x)),
            Op::I16x8Bitmask => self.unary_lanes(I16X8, |i, x| i.vhigh_bits(I32, x)),
            Op::I32x4Bitmask => self.unary_lanes(I32X4, |i, x| i.vhigh_bits(I32, x)),
            Op::I64x2Bitmask => self.unary_lanes(I64X2, |i, x| i.vhigh_bits(I32, x)),
            _ => false,
        }
    }

    fn splat_low(&mut self, ty: Type) -> bool {
        let x = self.pop();
        let low = self.ins().ireduce(ty.lane_type(), x);
        let result = self.ins().splat(ty, low);
        self.push(result);
        true
    }

    fn extract_extend(&mut self, ty: Type, lane: u8, signed: bool) -> bool {
        let x = self.pop_vector(ty);
        let value = self.ins().extractlane(x, lane);
        let value = if signed { self.ins().sextend(I32, value) } else { self.ins().uextend(I32, value) };
        self.push(value);
        true
    }

    fn replace_lane(&mut self, ty: Type, lane: u8, narrow: Option<Type>) -> bool {
        let mut value = self.pop();
        if let Some(narrow) = narrow {
            value = self.ins().ireduce(narrow, value);
        }
        let x = self.pop_vector(ty);
        let result = self.ins().insertlane(x, value, lane);
        self.push(result);
        true
    }

    fn select_bits(&mut self, ty: Type) -> bool {
        let (x, y, mask) = self.pop3_lanes(ty);
        let result = self.ins().bitselect(mask, x, y);
        self.push(result);
        true
    }

    fn all_true(&mut self, ty: Type) -> bool {
        let x = self.pop_vector(ty);
        let all = self.ins().vall_true(x);
        self.push_bool(all)
    }

    fn simd_integer(&mut self, op: &Op<'_>) -> bool {
        match *op {
            Op::I8x16Eq => self.compare_lanes(I8X16, IntCC::Equal),
            Op::I8x16Ne => self.compare_lanes(I8X16, IntCC::NotEqual),
            Op::I8x16LtS => self.compare_lanes(I8X16, IntCC::SignedLessThan),
            Op::I8x16LtU => self.compare_lanes(I8X16, IntCC::UnsignedLessThan),
            Op::I8x16GtS => self.compare_lanes(I8X16, IntCC::SignedGreaterThan),
            Op::I8x16GtU => self.compare_lanes(I8X16, IntCC::UnsignedGreaterThan),
            Op::I8x16LeS => self.compare_lanes(I8X16, IntCC::SignedLessThanOrEqual),
            Op::I8x16LeU => self.compare_lanes(I8X16, IntCC::UnsignedLessThanOrEqual),
            Op::I8x16GeS => self.compare_lanes(I8X16, IntCC::SignedGreaterThanOrEqual),
            Op::I8x16GeU => self.compare_lanes(I8X16, IntCC::UnsignedGreaterThanOrEqual),
            Op::I16x8Eq => self.compare_lanes(I16X8, IntCC::Equal),
            Op::I16x8Ne => self.compare_lanes(I16X8, IntCC::NotEqual),
            Op::I16x8LtS => self.compare_lanes(I16X8, IntCC::SignedLessThan),
            Op::I16x8LtU => self.compare_lanes(I16X8, IntCC::UnsignedLessThan),
            Op::I16x8GtS => self.compare_lanes(I16X8, IntCC::SignedGreaterThan),
            Op::I16x8GtU => self.compare_lanes(I16X8, IntCC::UnsignedGreaterThan),
            Op::I16x8LeS => self.compare_lanes(I16X8, IntCC::SignedLessThanOrEqual),
            Op::I16x8LeU => self.compare_lanes(I16X8, IntCC::UnsignedLessThanOrEqual),
            Op::I16x8GeS => self.compare_lanes(I16X8, IntCC::SignedGreaterThanOrEqual),
            Op::I16x8GeU => self.compare_lanes(I16X8, IntCC::UnsignedGreaterThanOrEqual),
            Op::I32x4Eq => self.compare_lanes(I32X4, IntCC::Equal),
            Op::I32x4Ne => self.compare_lanes(I32X4, IntCC::NotEqual),
            Op::I32x4LtS => self.compare_lanes(I32X4, IntCC::SignedLessThan),
            Op::I32x4LtU => self.compare_lanes(I32X4, IntCC::UnsignedLessThan),
            Op::I32x4GtS => self.compare_lanes(I32X4, IntCC::SignedGreaterThan),
            Op::I32x4GtU => self.compare_lanes(I32X4, IntCC::UnsignedGreaterThan),
            Op::I32x4LeS => self.compare_lanes(I32X4, IntCC::SignedLessThanOrEqual),
            Op::I32x4LeU => self.compare_lanes(I32X4, IntCC::UnsignedLessThanOrEqual),
            Op::I32x4GeS => self.compare_lanes(I32X4, IntCC::SignedGreaterThanOrEqual),
            Op::I32x4GeU => self.compare_lanes(I32X4, IntCC::UnsignedGreaterThanOrEqual),
            Op::I64x2Eq => self.compare_lanes(I64X2, IntCC::Equal),
            Op::I64x2Ne => self.compare_lanes(I64X2, IntCC::NotEqual),
            Op::I64x2LtS => self.compare_lanes(I64X2, IntCC::SignedLessThan),
            Op::I64x2GtS => self.compare_lanes(I64X2, IntCC::SignedGreaterThan),
            Op::I64x2LeS => self.compare_lanes(I64X2, IntCC::SignedLessThanOrEqual),
            Op::I64x2GeS => self.compare_lanes(I64X2, IntCC::SignedGreaterThanOrEqual),

            Op::I8x16Abs => self.unary_lanes(I8X16, |i, x| i.iabs(x)),
            Op::I16x8Abs => self.unary_lanes(I16X8, |i, x| i.iabs(x)),
            Op::I32x4Abs => self.unary_lanes(I32X4, |i, x| i.iabs(x)),
            Op::I64x2Abs => self.unary_lanes(I64X2, |i, x| i.iabs(x)),
            Op::I8x16Neg => self.unary_lanes(I8X16, |i, x| i.ineg(x)),
            Op::I16x8Neg => self.unary_lanes(I16X8, |i, x| i.ineg(x)),
            Op::I32x4Neg => self.unary_lanes(I32X4, |i, x| i.ineg(x)),
            Op::I64x2Neg => self.unary_lanes(I64X2, |i, x| i.ineg(x)),
            Op::I8x16Popcnt => self.unary_lanes(I8X16, |i, x| i.popcnt(x)),

            Op::I8x16Shl => self.shift(I8X16, |i, x, n| i.ishl(x, n)),
            Op::I8x16ShrS => self.shift(I8X16, |i, x, n| i.sshr(x, n)),
            Op::I8x16ShrU => self.shift(I8X16, |i, x, n| i.ushr(x, n)),
            Op::I16x8Shl => self.shift(I16X8, |i, x, n| i.ishl(x, n)),
            Op::I16x8ShrS => self.shift(I16X8, |i, x, n| i.sshr(x, n)),
            Op::I16x8ShrU => self.shift(I16X8, |i, x, n| i.ushr(x, n)),
            Op::I32x4Shl => self.shift(I32X4, |i, x, n| i.ishl(x, n)),
            Op::I32x4ShrS => self.shift(I32X4, |i, x, n| i.sshr(x, n)),
            Op::I32x4ShrU => self.shift(I32X4, |i, x, n| i.ushr(x, n)),
            Op::I64x2Shl => self.shift(I64X2, |i, x, n| i.ishl(x, n)),
            Op::I64x2ShrS => self.shift(I64X2, |i, x, n| i.sshr(x, n)),
            Op::I64x2ShrU => self.shift(I64X2, |i, x, n| i.ushr(x, n)),

            Op::I8x16Add => self.binary_lanes(I8X16, |i, x, y| i.iadd(x, y)),
            Op::I16x8Add => self.binary_lanes(I16X8, |i, x, y| i.iadd(x, y)),
            Op::I32x4Add => self.binary_lanes(I32X4, |i, x, y| i.iadd(x, y)),
            Op::I64x2Add => self.binary_lanes(I64X2, |i, x, y| i.iadd(x, y)),
            Op::I8x16Sub => self.binary_lanes(I8X16, |i, x, y| i.isub(x, y)),
            Op::I16x8Sub => self.binary_lanes(I16X8, |i, x, y| i.isub(x, y)),
            Op::I32x4Sub => self.binary_lanes(I32X4, |i, x, y| i.isub(x, y)),
            Op::I64x2Sub => self.binary_lanes(I64X2, |i, x, y| i.isub(x, y)),
            Op::I16x8Mul => self.binary_lanes(I16X8, |i, x, y| i.imul(x, y)),
            Op::I32x4Mul => self.binary_lanes(I32X4, |i, x, y| i.imul(x, y)),
            Op::I64x2Mul => self.binary_lanes(I64X2, |i, x, y| i.imul(x, y)),
            Op::I8x16AddSatS => self.binary_lanes(I8X16, |i, x, y| i.sadd_sat(x, y)),
            Op::I8x16AddSatU => self.binary_lanes(I8X16, |i, x, y| i.uadd_sat(x, y)),
            Op::I16x8AddSatS => self.binary_lanes(I16X8, |i, x, y| i.sadd_sat(x, y)),
            Op::I16x8AddSatU => self.binary_lanes(I16X8, |i, x, y| i.uadd_sat(x, y)),
            Op::I8x16SubSatS => self.binary_lanes(I8X16, |i, x, y| i.ssub_sat(x, y)),
            Op::I8x16SubSatU => self.binary_lanes(I8X16, |i, x, y| i.usub_sat(x, y)),
            Op::I16x8SubSatS => self.binary_lanes(I16X8, |i, x, y| i.ssub_sat(x, y)),
            Op::I16x8SubSatU => self.binary_lanes(I16X8, |i, x, y| i.usub_sat(x, y)),
            Op::I8x16MinS => self.binary_lanes(I8X16, |i, x, y| i.smin(x, y)),
            Op::I8x16MinU => self.binary_lanes(I8X16, |i, x, y| i.umin(x, y)),
            Op::I8x16MaxS => self.binary_lanes(I8X16, |i, x, y| i.smax(x, y)),
            Op::I8x16MaxU => self.binary_lanes(I8X16, |i, x, y| i.umax(x, y)),
            Op::I16x8MinS => self.binary_lanes(I16X8, |i, x, y| i.smin(x, y)),
            Op::I16x8MinU => self.binary_lanes(I16X8, |i, x, y| i.umin(x, y)),
            Op::I16x8MaxS => self.binary_lanes(I16X8, |i, x, y| i.smax(x, y)),
            Op::I16x8MaxU => self.binary_lanes(I16X8, |i, x, y| i.umax(x, y)),
            Op::I32x4MinS => self.binary_lanes(I32X4, |i, x, y| i.smin(x, y)),
            Op::I32x4MinU => self.binary_lanes(I32X4, |i, x, y| i.umin(x, y)),
            Op::I32x4MaxS => self.binary_lanes(I32X4, |i, x, y| i.smax(x, y)),
            Op::I32x4MaxU => self.binary_lanes(I32X4, |i, x, y| i.umax(x, y)),
            Op::I8x16AvgrU => self.binary_lanes(I8X16, |i, x, y| i.avg_round(x, y)),
            Op::I16x8AvgrU => self.binary_lanes(I16X8, |i, x, y| i.avg_round(x, y)),
            Op::I16x8Q15MulrSatS | Op::I16x8RelaxedQ15mulrS => {
                self.binary_lanes(I16X8, |i, x, y| i.sqmul_round_sat(x, y))
            }
            _ => self.simd_widening(op),
        }
    }

    fn compare_lanes(&mut self, ty: Type, condition: IntCC) -> bool {
        self.binary_lanes(ty, |i, x, y| i.icmp(condition, x, y))
    }

    /// Shifts all lanes by one scalar. Cranelift takes its low bits, as Wasm does.
    fn shift(&mut self, ty: Type, make: impl FnOnce(FuncInstBuilder<'_, 'b>, Value, Value) -> Value) -> bool {
        let amount = self.pop();
        self.unary_lanes(ty, |i, x| make(i, x, amount))
    }

    /// Operations between lanes of different widths.
    fn simd_widening(&mut self, op: &Op<'_>) -> bool {
        match *op {
            Op::I8x16NarrowI16x8S => self.binary_lanes(I16X8, |i, x, y| i.snarrow(x, y)),
            Op::I8x16NarrowI16x8U => self.binary_lanes(I16X8, |i, x, y| i.unarrow(x, y)),
            Op::I16x8NarrowI32x4S => self.binary_lanes(I32X4, |i, x, y| i.snarrow(x, y)),
            Op::I16x8NarrowI32x4U => self.binary_lanes(I32X4, |i, x, y| i.unarrow(x, y)),
            Op::I16x8ExtendLowI8x16S => self.unary_lanes(I8X16, |i, x| i.swiden_low(x)),
            Op::I16x8ExtendHighI8x16S => self.unary_lanes(I8X16, |i, x| i.swiden_high(x)),
            Op::I16x8ExtendLowI8x16U => self.unary_lanes(I8X16, |i, x| i.uwiden_low(x)),
            Op::I16x8ExtendHighI8x16U => self.unary_lanes(I8X16, |i, x| i.uwiden_high(x)),
            Op::I32x4ExtendLowI16x8S => self.unary_lanes(I16X8, |i, x| i.swiden_low(x)),
            Op::I32x4ExtendHighI16x8S => self.unary_lanes(I16X8, |i, x| i.swiden_high(x)),
            Op::I32x4ExtendLowI16x8U => self.unary_lanes(I16X8, |i, x| i.uwiden_low(x)),
            Op::I32x4ExtendHighI16x8U => self.unary_lanes(I16X8, |i, x| i.uwiden_high(x)),
            Op::I64x2ExtendLowI32x4S => self.unary_lanes(I32X4, |i, x| i.swiden_low(x)),
            Op::I64x2ExtendHighI32x4S => self.unary_lanes(I32X4, |i, x| i.swiden_high(x)),
            Op::I64x2ExtendLowI32x4U => self.unary_lanes(I32X4, |i, x| i.uwiden_low(x)),
            Op::I64x2ExtendHighI32x4U => self.unary_lanes(I32X4, |i, x| i.uwiden_high(x)),
            Op::I16x8ExtMulLowI8x16S => self.multiply_wide(I8X16, WidenedHalf::LowSigned),
            Op::I16x8ExtMulHighI8x16S => self.multiply_wide(I8X16, WidenedHalf::HighSigned),
            Op::I16x8ExtMulLowI8x16U => self.multiply_wide(I8X16, WidenedHalf::LowUnsigned),
            Op::I16x8ExtMulHighI8x16U => self.multiply_wide(I8X16, WidenedHalf::HighUnsigned),
            Op::I32x4ExtMulLowI16x8S => self.multiply_wide(I16X8, WidenedHalf::LowSigned),
            Op::I32x4ExtMulHighI16x8S => self.multiply_wide(I16X8, WidenedHalf::HighSigned),
            Op::I32x4ExtMulLowI16x8U => self.multiply_wide(I16X8, WidenedHalf::LowUnsigned),
            Op::I32x4ExtMulHighI16x8U => self.multiply_wide(I16X8, WidenedHalf::HighUnsigned),
            Op::I64x2ExtMulLowI32x4S => self.multiply_wide(I32X4, WidenedHalf::LowSigned),
            Op::I64x2ExtMulHighI32x4S => self.multiply_wide(I32X4, WidenedHalf::HighSigned),
            Op::I64x2ExtMulLowI32x4U => self.multiply_wide(I32X4, WidenedHalf::LowUnsigned),
            Op::I64x2ExtMulHighI32x4U => self.multiply_wide(I32X4, WidenedHalf::HighUnsigned),
            Op::I16x8ExtAddPairwiseI8x16S => self.add_pairs(I8X16, WidenedHalf::LowSigned, WidenedHalf::HighSigned),
            Op::I16x8ExtAddPairwiseI8x16U => self.add_pairs(I8X16, WidenedHalf::LowUnsigned, WidenedHalf::HighUnsigned),
            Op::I32x4ExtAddPairwiseI16x8S => self.add_pairs(I16X8, WidenedHalf::LowSigned, WidenedHalf::HighSigned),
            Op::I32x4ExtAddPairwiseI16x8U => self.add_pairs(I16X8, WidenedHalf::LowUnsigned, WidenedHalf::HighUnsigned),
            Op::I32x4DotI16x8S => {
                let (x, y) = self.pop2_lanes(I16X8);
                let result = self.dot(x, y);
                self.push(result);
                true
            }
            Op::I16x8RelaxedDotI8x16I7x16S => {
                let (x, y) = self.pop2_lanes(I8X16);
                let result = self.dot_bytes(x, y);
                self.push(result);
                true
            }
            Op::I32x4RelaxedDotI8x16I7x16AddS => {
                let sum = self.pop_vector(I32X4);
                let (x, y) = self.pop2_lanes(I8X16);
                let pairs = self.dot_bytes(x, y);
                let (low, high) = (self.ins().swiden_low(pairs), self.ins().swiden_high(pairs));
                let quads = self.ins().iadd_pairwise(low, high);
                let result = self.ins().iadd(quads, sum);
                self.push(result);
                true
            }
            _ => false,
        }
    }

    fn widen(&mut self, x: Value, half: WidenedHalf) -> Value {
        match half {
            WidenedHalf::LowSigned => self.ins().swiden_low(x),
            WidenedHalf::HighSigned => self.ins().swiden_high(x),
            WidenedHalf::LowUnsigned => self.ins().uwiden_low(x),
            WidenedHalf::HighUnsigned => self.ins().uwiden_high(x),
        }
    }

    fn multiply_wide(&mut self, ty: Type, half: WidenedHalf) -> bool {
        let (x, y) = self.pop2_lanes(ty);
        let (x, y) = (self.widen(x, half), self.widen(y, half));
        let result = self.ins().imul(x, y);
        self.push(result);
        true
    }

    fn add_pairs(&mut self, ty: Type, low: WidenedHalf, high: WidenedHalf) -> bool {
        let x = self.pop_vector(ty);
        let (low, high) = (self.widen(x, low), self.widen(x, high));
        let result = self.ins().iadd_pairwise(low, high);
        self.push(result);
        true
    }

    /// `i32x4.dot_i16x8_s`, in the shape that Cranelift turns into one instruction on x86-64.
    fn dot(&mut self, x: Value, y: Value) -> Value {
        let (x_low, y_low) = (self.ins().swiden_low(x), self.ins().swiden_low(y));
        let low = self.ins().imul(x_low, y_low);
        let (x_high, y_high) = (self.ins().swiden_high(x), self.ins().swiden_high(y));
        let high = self.ins().imul(x_high, y_high);
        self.ins().iadd_pairwise(low, high)
    }

    /// Sums of pairs of products of signed bytes. Only -128 * -128 * 2 exceeds 16 bits, and saturates.
    fn dot_bytes(&mut self, x: Value, y: Value) -> Value {
        let (x_low, y_low) = (self.ins().swiden_low(x), self.ins().swiden_low(y));
        let low = self.dot(x_low, y_low);
        let (x_high, y_high) = (self.ins().swiden_high(x), self.ins().swiden_high(y));
        let high = self.dot(x_high, y_high);
        self.ins().snarrow(low, high)
    }

    fn simd_convert(&mut self, op: &Op<'_>) -> bool {
        match *op {
            Op::I32x4TruncSatF32x4S | Op::I32x4RelaxedTruncF32x4S => {
                self.unary_lanes(F32X4, |i, x| i.fcvt_to_sint_sat(I32X4, x))
            }
            Op::I32x4TruncSatF32x4U | Op::I32x4RelaxedTruncF32x4U => {
                self.unary_lanes(F32X4, |i, x| i.fcvt_to_uint_sat(I32X4, x))
            }
            Op::I32x4TruncSatF64x2SZero | Op::I32x4RelaxedTruncF64x2SZero => {
                let x = self.pop_vector(F64X2);
                let wide = self.ins().fcvt_to_sint_sat(I64X2, x);
                let zero = self.vector_constant(I64X2, [0; 16]);
                let result = self.ins().snarrow(wide, zero);
                self.push(result);
                true
            }
            Op::I32x4TruncSatF64x2UZero | Op::I32x4RelaxedTruncF64x2UZero => {
                let x = self.pop_vector(F64X2);
                let wide = self.ins().fcvt_to_uint_sat(I64X2, x);
                let zero = self.vector_constant(I64X2, [0; 16]);
                let result = self.ins().uunarrow(wide, zero);
                self.push(result);
                true
            }
            Op::F32x4ConvertI32x4S => self.unary_lanes(I32X4, |i, x| i.fcvt_from_sint(F32X4, x)),
            Op::F32x4ConvertI32x4U => self.unary_lanes(I32X4, |i, x| i.fcvt_from_uint(F32X4, x)),
            Op::F64x2ConvertLowI32x4S => {
                self.unary_lanes(I32X4, |i, x| i.swiden_low(x));
                self.unary(|i, x| i.fcvt_from_sint(F64X2, x))
            }
            Op::F64x2ConvertLowI32x4U => {
                self.unary_lanes(I32X4, |i, x| i.uwiden_low(x));
                self.unary(|i, x| i.fcvt_from_uint(F64X2, x))
            }
            Op::F32x4DemoteF64x2Zero => self.unary_lanes(F64X2, |i, x| i.fvdemote(x)),
            Op::F64x2PromoteLowF32x4 => self.unary_lanes(F32X4, |i, x| i.fvpromote_low(x)),
            _ => false,
        }
    }

    fn simd_float(&mut self, op: &Op<'_>) -> bool {
        match *op {
            Op::F32x4Eq => self.compare_float_lanes(F32X4, FloatCC::Equal),
            Op::F32x4Ne => self.compare_float_lanes(F32X4, FloatCC::NotEqual),
            Op::F32x4Lt => self.compare_float_lanes(F32X4, FloatCC::LessThan),
            Op::F32x4Gt => self.compare_float_lanes(F32X4, FloatCC::GreaterThan),
            Op::F32x4Le => self.compare_float_lanes(F32X4, FloatCC::LessThanOrEqual),
            Op::F32x4Ge => self.compare_float_lanes(F32X4, FloatCC::GreaterThanOrEqual),
            Op::F64x2Eq => self.compare_float_lanes(F64X2, FloatCC::Equal),
            Op::F64x2Ne => self.compare_float_lanes(F64X2, FloatCC::NotEqual),
            Op::F64x2Lt => self.compare_float_lanes(F64X2, FloatCC::LessThan),
            Op::F64x2Gt => self.compare_float_lanes(F64X2, FloatCC::GreaterThan),
            Op::F64x2Le => self.compare_float_lanes(F64X2, FloatCC::LessThanOrEqual),
            Op::F64x2Ge => self.compare_float_lanes(F64X2, FloatCC::GreaterThanOrEqual),
            Op::F32x4Ceil => self.unary_lanes(F32X4, |i, x| i.ceil(x)),
            Op::F32x4Floor => self.unary_lanes(F32X4, |i, x| i.floor(x)),
            Op::F32x4Trunc => self.unary_lanes(F32X4, |i, x| i.trunc(x)),
            Op::F32x4Nearest => self.unary_lanes(F32X4, |i, x| i.nearest(x)),
            Op::F32x4Abs => self.unary_lanes(F32X4, |i, x| i.fabs(x)),
            Op::F32x4Neg => self.negate_lanes(F32X4),
            Op::F32x4Sqrt => self.unary_lanes(F32X4, |i, x| i.sqrt(x)),
            Op::F64x2Ceil => self.unary_lanes(F64X2, |i, x| i.ceil(x)),
            Op::F64x2Floor => self.unary_lanes(F64X2, |i, x| i.floor(x)),
            Op::F64x2Trunc => self.unary_lanes(F64X2, |i, x| i.trunc(x)),
            Op::F64x2Nearest => self.unary_lanes(F64X2, |i, x| i.nearest(x)),
            Op::F64x2Abs => self.unary_lanes(F64X2, |i, x| i.fabs(x)),
            Op::F64x2Neg => self.negate_lanes(F64X2),
            Op::F64x2Sqrt => self.unary_lanes(F64X2, |i, x| i.sqrt(x)),
            Op::F32x4Add => self.binary_lanes(F32X4, |i, x, y| i.fadd(x, y)),
            Op::F32x4Sub => self.binary_lanes(F32X4, |i, x, y| i.fsub(x, y)),
            Op::F32x4Mul => self.binary_lanes(F32X4, |i, x, y| i.fmul(x, y)),
            Op::F32x4Div => self.binary_lanes(F32X4, |i, x, y| i.fdiv(x, y)),
            Op::F32x4Min | Op::F32x4RelaxedMin => self.binary_lanes(F32X4, |i, x, y| i.fmin(x, y)),
            Op::F32x4Max | Op::F32x4RelaxedMax => self.binary_lanes(F32X4, |i, x, y| i.fmax(x, y)),
            Op::F64x2Add => self.binary_lanes(F64X2, |i, x, y| i.fadd(x, y)),
            Op::F64x2Sub => self.binary_lanes(F64X2, |i, x, y| i.fsub(x, y)),
            Op::F64x2Mul => self.binary_lanes(F64X2, |i, x, y| i.fmul(x, y)),
            Op::F64x2Div => self.binary_lanes(F64X2, |i, x, y| i.fdiv(x, y)),
            Op::F64x2Min | Op::F64x2RelaxedMin => self.binary_lanes(F64X2, |i, x, y| i.fmin(x, y)),
            Op::F64x2Max | Op::F64x2RelaxedMax => self.binary_lanes(F64X2, |i, x, y| i.fmax(x, y)),
            Op::F32x4PMin => self.pseudo_extremum(F32X4, true),
            Op::F32x4PMax => self.pseudo_extremum(F32X4, false),
            Op::F64x2PMin => self.pseudo_extremum(F64X2, true),
            Op::F64x2PMax => self.pseudo_extremum(F64X2, false),
            // Rounded once everywhere, so that all targets agree.
            Op::F32x4RelaxedMadd => self.multiply_add(F32X4, false),
            Op::F32x4RelaxedNmadd => self.multiply_add(F32X4, true),
            Op::F64x2RelaxedMadd => self.multiply_add(F64X2, false),
            Op::F64x2RelaxedNmadd => self.multiply_add(F64X2, true),
            _ => false,
        }
    }

    fn compare_float_lanes(&mut self, ty: Type, condition: FloatCC) -> bool {
        self.binary_lanes(ty, |i, x, y| i.fcmp(condition, x, y))
    }

    /// `pmin` is `y < x ? y : x`, `pmax` is `x < y ? y : x`, as C programs write them.
    fn pseudo_extremum(&mut self, ty: Type, minimum: bool) -> bool {
        let (x, y) = self.pop2_lanes(ty);
        let (less, than) = if minimum { (y, x) } else { (x, y) };
        let take_y = self.ins().fcmp(FloatCC::LessThan, less, than);
        let take_y = self.as_vector(take_y, ty);
        let result = self.ins().bitselect(take_y, y, x);
        self.push(result);
        true
    }

    fn negate_lanes(&mut self, ty: Type) -> bool {
        let x = self.pop_vector(ty);
        let result = self.negate(x);
        self.push(result);
        true
    }

    fn multiply_add(&mut self, ty: Type, negate: bool) -> bool {
        let (mut x, y, z) = self.pop3_lanes(ty);
        if negate {
            x = self.negate(x);
        }
        let result = self.ins().fma(x, y, z);
        self.push(result);
        true
    }
}

/// The half of a vector's lanes that is widened, and how.
#[derive(Clone, Copy)]
enum WidenedHalf {
    LowSigned,
    HighSigned,
    LowUnsigned,
    HighUnsigned,
}
