//! Scalar arithmetic (specification, section 4.3). Cranelift's instructions mean the same as WebAssembly's, traps included.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Type, Value, types};
use cranelift_frontend::FuncInstBuilder;
use wasmparser::Operator as Op;

use super::Lower;
use types::{F32, F32X4, F64, I8, I16, I32, I64};

/// Whether Cranelift's code for a minimum or maximum of two NaNs gives the second one, not the first.
const SWAPS_EXTREMA: bool = cfg!(target_arch = "x86_64");

impl<'b> Lower<'_, 'b> {
    pub(super) fn numeric(&mut self, op: &Op<'_>) -> bool {
        match *op {
            Op::I32Const { value } => {
                self.push_i32(value.into());
                true
            }
            Op::I64Const { value } => {
                self.push_constant(I64, value);
                true
            }
            Op::F32Const { value } => {
                let value = self.ins().f32const(f32::from_bits(value.bits()));
                self.push(value);
                true
            }
            Op::F64Const { value } => {
                let value = self.ins().f64const(f64::from_bits(value.bits()));
                self.push(value);
                true
            }

            Op::I32Eqz | Op::I64Eqz => {
                let x = self.pop_condition();
                let is_zero = self.ins().icmp_imm_u(IntCC::Equal, x, 0);
                self.push_bool(is_zero)
            }
            Op::I32Eq | Op::I64Eq => self.compare(IntCC::Equal),
            Op::I32Ne | Op::I64Ne => self.compare(IntCC::NotEqual),
            Op::I32LtS | Op::I64LtS => self.compare(IntCC::SignedLessThan),
            Op::I32LtU | Op::I64LtU => self.compare(IntCC::UnsignedLessThan),
            Op::I32GtS | Op::I64GtS => self.compare(IntCC::SignedGreaterThan),
            Op::I32GtU | Op::I64GtU => self.compare(IntCC::UnsignedGreaterThan),
            Op::I32LeS | Op::I64LeS => self.compare(IntCC::SignedLessThanOrEqual),
            Op::I32LeU | Op::I64LeU => self.compare(IntCC::UnsignedLessThanOrEqual),
            Op::I32GeS | Op::I64GeS => self.compare(IntCC::SignedGreaterThanOrEqual),
            Op::I32GeU | Op::I64GeU => self.compare(IntCC::UnsignedGreaterThanOrEqual),
            Op::F32Eq | Op::F64Eq => self.compare_floats(FloatCC::Equal),
            Op::F32Ne | Op::F64Ne => self.compare_floats(FloatCC::NotEqual),
            Op::F32Lt | Op::F64Lt => self.compare_floats(FloatCC::LessThan),
            Op::F32Gt | Op::F64Gt => self.compare_floats(FloatCC::GreaterThan),
            Op::F32Le | Op::F64Le => self.compare_floats(FloatCC::LessThanOrEqual),
            Op::F32Ge | Op::F64Ge => self.compare_floats(FloatCC::GreaterThanOrEqual),

            Op::I32Clz | Op::I64Clz => self.unary(|i, x| i.clz(x)),
            Op::I32Ctz | Op::I64Ctz => self.unary(|i, x| i.ctz(x)),
            Op::I32Popcnt | Op::I64Popcnt => self.unary(|i, x| i.popcnt(x)),
            Op::I32Add | Op::I64Add => self.binary(|i, x, y| i.iadd(x, y)),
            Op::I32Sub | Op::I64Sub => self.binary(|i, x, y| i.isub(x, y)),
            Op::I32Mul | Op::I64Mul => self.binary(|i, x, y| i.imul(x, y)),
            Op::I32DivS => self.divide(I32, true, |i, x, y| i.sdiv(x, y)),
            Op::I64DivS => self.divide(I64, true, |i, x, y| i.sdiv(x, y)),
            Op::I32DivU => self.divide(I32, false, |i, x, y| i.udiv(x, y)),
            Op::I64DivU => self.divide(I64, false, |i, x, y| i.udiv(x, y)),
            Op::I32RemS => self.divide(I32, false, |i, x, y| i.srem(x, y)),
            Op::I64RemS => self.divide(I64, false, |i, x, y| i.srem(x, y)),
            Op::I32RemU => self.divide(I32, false, |i, x, y| i.urem(x, y)),
            Op::I64RemU => self.divide(I64, false, |i, x, y| i.urem(x, y)),
            Op::I32And | Op::I64And => self.binary(|i, x, y| i.band(x, y)),
            Op::I32Or | Op::I64Or => self.binary(|i, x, y| i.bor(x, y)),
            Op::I32Xor | Op::I64Xor => self.binary(|i, x, y| i.bxor(x, y)),
            Op::I32Shl | Op::I64Shl => self.binary(|i, x, y| i.ishl(x, y)),
            Op::I32ShrS | Op::I64ShrS => self.binary(|i, x, y| i.sshr(x, y)),
            Op::I32ShrU | Op::I64ShrU => self.binary(|i, x, y| i.ushr(x, y)),
            Op::I32Rotl | Op::I64Rotl => self.binary(|i, x, y| i.rotl(x, y)),
            Op::I32Rotr | Op::I64Rotr => self.binary(|i, x, y| i.rotr(x, y)),

            Op::I64Add128 => self.wide_binary(|i, x, y| i.iadd(x, y)),
            Op::I64Sub128 => self.wide_binary(|i, x, y| i.isub(x, y)),
            Op::I64MulWideS => self.wide_product(|i, x, y| i.smulhi(x, y)),
            Op::I64MulWideU => self.wide_product(|i, x, y| i.umulhi(x, y)),

            Op::F32Abs | Op::F64Abs => self.unary(|i, x| i.fabs(x)),
            Op::F32Neg | Op::F64Neg => {
                let x = self.pop();
                let negated = self.negate(x);
                self.push(negated);
                true
            }
            Op::F32Ceil | Op::F64Ceil => self.unary(|i, x| i.ceil(x)),
            Op::F32Floor | Op::F64Floor => self.unary(|i, x| i.floor(x)),
            Op::F32Trunc | Op::F64Trunc => self.unary(|i, x| i.trunc(x)),
            Op::F32Nearest | Op::F64Nearest => self.unary(|i, x| i.nearest(x)),
            Op::F32Sqrt | Op::F64Sqrt => self.unary(|i, x| i.sqrt(x)),
            Op::F32Add | Op::F64Add => self.binary(|i, x, y| i.fadd(x, y)),
            Op::F32Sub | Op::F64Sub => self.binary(|i, x, y| i.fsub(x, y)),
            Op::F32Mul | Op::F64Mul => self.binary(|i, x, y| i.fmul(x, y)),
            Op::F32Div | Op::F64Div => self.binary(|i, x, y| i.fdiv(x, y)),
            Op::F32Min | Op::F64Min if SWAPS_EXTREMA => self.binary(|i, x, y| i.fmin(y, x)),
            Op::F32Max | Op::F64Max if SWAPS_EXTREMA => self.binary(|i, x, y| i.fmax(y, x)),
            Op::F32Min | Op::F64Min => self.binary(|i, x, y| i.fmin(x, y)),
            Op::F32Max | Op::F64Max => self.binary(|i, x, y| i.fmax(x, y)),
            Op::F32Copysign | Op::F64Copysign => self.binary(|i, x, y| i.fcopysign(x, y)),

            Op::I32WrapI64 => self.unary(|i, x| i.ireduce(I32, x)),
            Op::I64ExtendI32S => self.unary(|i, x| i.sextend(I64, x)),
            Op::I64ExtendI32U => self.unary(|i, x| i.uextend(I64, x)),
            Op::I32Extend8S => self.sign_extend(I8, I32),
            Op::I32Extend16S => self.sign_extend(I16, I32),
            Op::I64Extend8S => self.sign_extend(I8, I64),
            Op::I64Extend16S => self.sign_extend(I16, I64),
            Op::I64Extend32S => self.sign_extend(I32, I64),
            Op::I32TruncF32S | Op::I32TruncF64S => self.truncate(I32, true),
            Op::I32TruncF32U | Op::I32TruncF64U => self.truncate(I32, false),
            Op::I64TruncF32S | Op::I64TruncF64S => self.truncate(I64, true),
            Op::I64TruncF32U | Op::I64TruncF64U => self.truncate(I64, false),
            Op::I32TruncSatF32S | Op::I32TruncSatF64S => self.unary(|i, x| i.fcvt_to_sint_sat(I32, x)),
            Op::I32TruncSatF32U | Op::I32TruncSatF64U => self.unary(|i, x| i.fcvt_to_uint_sat(I32, x)),
            Op::I64TruncSatF32S | Op::I64TruncSatF64S => self.unary(|i, x| i.fcvt_to_sint_sat(I64, x)),
            Op::I64TruncSatF32U | Op::I64TruncSatF64U => self.unary(|i, x| i.fcvt_to_uint_sat(I64, x)),
            Op::F32ConvertI32S | Op::F32ConvertI64S => self.unary(|i, x| i.fcvt_from_sint(F32, x)),
            Op::F32ConvertI32U | Op::F32ConvertI64U => self.unary(|i, x| i.fcvt_from_uint(F32, x)),
            Op::F64ConvertI32S | Op::F64ConvertI64S => self.unary(|i, x| i.fcvt_from_sint(F64, x)),
            Op::F64ConvertI32U | Op::F64ConvertI64U => self.unary(|i, x| i.fcvt_from_uint(F64, x)),
            Op::F32DemoteF64 => self.unary(|i, x| i.fdemote(F32, x)),
            Op::F64PromoteF32 => self.unary(|i, x| i.fpromote(F64, x)),
            Op::I32ReinterpretF32 => self.unary(|i, x| i.bitcast(I32, MemFlagsData::new(), x)),
            Op::I64ReinterpretF64 => self.unary(|i, x| i.bitcast(I64, MemFlagsData::new(), x)),
            Op::F32ReinterpretI32 => self.unary(|i, x| i.bitcast(F32, MemFlagsData::new(), x)),
            Op::F64ReinterpretI64 => self.unary(|i, x| i.bitcast(F64, MemFlagsData::new(), x)),
            _ => false,
        }
    }

    fn divide(
        &mut self,
        ty: Type,
        overflows: bool,
        make: impl FnOnce(FuncInstBuilder<'_, 'b>, Value, Value) -> Value,
    ) -> bool {
        // Cranelift multiplies by the inverse of a constant.
        let divisor = self.stack.last().and_then(|divisor| self.constant(*divisor));
        self.optimise |= self.is_small && divisor.is_some();
        self.check_division(ty, overflows);
        self.binary(make)
    }

    /// An operation on two numbers of 128 bits, of which each is two operands or results, the lower half first.
    fn wide_binary(&mut self, make: impl FnOnce(FuncInstBuilder<'_, 'b>, Value, Value) -> Value) -> bool {
        let (low, high) = self.pop2();
        let y = self.ins().iconcat(low, high);
        let (low, high) = self.pop2();
        let x = self.ins().iconcat(low, high);
        let result = make(self.ins(), x, y);
        let (low, high) = self.ins().isplit(result);
        self.push(low);
        self.push(high);
        true
    }

    /// The product of two operands in 128 bits; `high` makes its upper half.
    fn wide_product(&mut self, high: impl FnOnce(FuncInstBuilder<'_, 'b>, Value, Value) -> Value) -> bool {
        let (x, y) = self.pop2();
        let low = self.ins().imul(x, y);
        let high = high(self.ins(), x, y);
        self.push(low);
        self.push(high);
        true
    }

    fn compare(&mut self, condition: IntCC) -> bool {
        let (x, y) = self.pop2();
        let result = self.ins().icmp(condition, x, y);
        self.push_bool(result)
    }

    fn compare_floats(&mut self, condition: FloatCC) -> bool {
        let (x, y) = self.pop2();
        let result = self.ins().fcmp(condition, x, y);
        self.push_bool(result)
    }

    /// Negates a float or each lane of a vector. x86-64 has no instruction for `fneg`; there this emits the code that Cranelift
    /// makes of it, so that Cranelift does not see an `fneg`: it removes those of both factors of a product, and the sign of
    /// a NaN would change.
    pub(super) fn negate(&mut self, x: Value) -> Value {
        if cfg!(not(target_arch = "x86_64")) {
            return self.ins().fneg(x);
        }
        let signs = match self.builder.func.dfg.value_type(x) {
            F32 => self.ins().f32const(-0.0f32),
            F64 => self.ins().f64const(-0.0f64),
            F32X4 => self.vector_constant(F32X4, (1u128 << 31 | 1 << 63 | 1 << 95 | 1 << 127).to_le_bytes()),
            ty => self.vector_constant(ty, (1u128 << 63 | 1 << 127).to_le_bytes()),
        };
        self.ins().bxor(x, signs)
    }

    fn sign_extend(&mut self, from: Type, to: Type) -> bool {
        let x = self.pop();
        let low = self.ins().ireduce(from, x);
        let result = self.ins().sextend(to, low);
        self.push(result);
        true
    }
}
