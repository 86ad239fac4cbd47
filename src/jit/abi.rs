//! How compiled code passes values: signatures, slots, trap codes.
//!
//! All Wasm functions use [`CallConv::Tail`] and take two hidden parameters before those of their Wasm type: the
//! callee's context, and either the defined index (direct calls) or the caller's context (calls through a
//! `VMFuncRef`). Compiled functions ignore the second; trampolines to the host use it. If the convention
//! has too few registers for the results, these go to an area whose address Cranelift passes as one more hidden parameter,
//! see [`has_return_area`].

use cranelift_codegen::ir::{
    AbiParam, ArgumentPurpose, InstBuilder, MemFlagsData, Signature, TrapCode, Type, Value, types,
};
use cranelift_codegen::isa::{CallConv, TargetIsa};
use cranelift_frontend::FunctionBuilder;

use crate::error::Trap;
use crate::module::types::{FuncType, ValType};

/// The type under which compiled code holds a value; `v128` is cast to the lanes an instruction needs.
pub(crate) fn value_type(ty: &ValType) -> Type {
    match ty {
        ValType::I32 => types::I32,
        ValType::I64 | ValType::Ref(_) => types::I64,
        ValType::F32 => types::F32,
        ValType::F64 => types::F64,
        ValType::V128 => types::I8X16,
    }
}

/// The signature of a Wasm function. The first parameter is marked as the context that the stack limit is read from.
pub(crate) fn signature(_isa: &dyn TargetIsa, ty: &FuncType) -> Signature {
    let mut signature = Signature::new(CallConv::Tail);
    signature.params.push(AbiParam::special(types::I64, ArgumentPurpose::VMContext));
    signature.params.push(AbiParam::new(types::I64));
    signature.params.extend(ty.params().iter().map(|ty| AbiParam::new(value_type(ty))));
    signature.returns.extend(ty.results().iter().map(|ty| AbiParam::new(value_type(ty))));
    signature
}

/// Whether the callee's context is the second register argument, after the address of the area for results. That is so on x86-64, where the convention returns eight values of each register
/// class; on AArch64 the area has a register of its own.
pub(crate) fn has_return_area(ty: &FuncType) -> bool {
    const REGISTERS: usize = 8;
    let is_float = |ty: &ValType| matches!(ty, ValType::F32 | ValType::F64 | ValType::V128);
    let floats = ty.results().iter().filter(|ty| is_float(ty)).count();
    cfg!(target_arch = "x86_64") && (floats > REGISTERS || ty.results().len() - floats > REGISTERS)
}

/// Flags of accesses to slots. These are never out of bounds, but only aligned to 8 bytes.
const SLOT: MemFlagsData = MemFlagsData::new().with_notrap();

/// Reads the value in a slot, under its type in compiled code.
pub(super) fn load_slot(builder: &mut FunctionBuilder<'_>, ty: Type, base: Value, slot: u32) -> Value {
    builder.ins().load(ty, SLOT, base, 8 * slot as i32)
}

/// Reads values of `types` from consecutive slots at `base`.
pub(super) fn load_slots(builder: &mut FunctionBuilder<'_>, types: &[ValType], base: Value) -> Vec<Value> {
    let mut offset = 0;
    let mut load = |ty: &ValType| {
        let value = builder.ins().load(value_type(ty), SLOT, base, offset);
        offset += 8 * ty.slots() as i32;
        value
    };
    types.iter().map(&mut load).collect()
}

/// Writes values of `types` to consecutive slots at `base`; 32-bit values are zero-extended.
pub(super) fn store_slots(builder: &mut FunctionBuilder<'_>, types: &[ValType], values: &[Value], base: Value) {
    let mut offset = 0;
    for (ty, value) in types.iter().zip(values) {
        let value = match ty {
            ValType::I32 => builder.ins().uextend(types::I64, *value),
            ValType::F32 => {
                let bits = builder.ins().bitcast(types::I32, MemFlagsData::new(), *value);
                builder.ins().uextend(types::I64, bits)
            }
            _ => *value,
        };
        builder.ins().store(SLOT, value, base, offset);
        offset += 8 * ty.slots() as i32;
    }
}

/// The trap code for an error that is already in the store.
pub(crate) const TRAP_RAISED: TrapCode = TrapCode::unwrap_user(0x40);

/// The trap code for a request to the running code: it does what was requested, and goes on after the trap.
pub(crate) const TRAP_POLL: TrapCode = TrapCode::unwrap_user(0x41);

/// The trap code that compiled code has for a trap.
pub(crate) const fn trap_code(trap: Trap) -> TrapCode {
    TrapCode::unwrap_user(trap as u8)
}

/// The trap that a trap code stands for: one of [`trap_code`], or one that Cranelift's own instructions have.
pub(super) fn trap_of(code: u8) -> Option<Trap> {
    let own = [
        (TrapCode::STACK_OVERFLOW, Trap::StackOverflow),
        (TrapCode::INTEGER_OVERFLOW, Trap::IntegerOverflow),
        (TrapCode::HEAP_OUT_OF_BOUNDS, Trap::MemoryOutOfBounds),
        (TrapCode::INTEGER_DIVISION_BY_ZERO, Trap::IntegerDivisionByZero),
        (TrapCode::BAD_CONVERSION_TO_INTEGER, Trap::InvalidConversionToInteger),
    ];
    let own = own.iter().find(|(own, _)| own.as_raw().get() == code);
    own.map(|(_, trap)| *trap).or_else(|| Trap::from_code(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_trap_has_a_code_of_its_own() {
        for code in 1..=u8::MAX {
            if let Some(trap) = Trap::from_code(code) {
                assert_eq!(trap_of(trap_code(trap).as_raw().get()), Some(trap));
            }
        }
        assert_eq!([TRAP_RAISED, TRAP_POLL].map(|code| trap_of(code.as_raw().get())), [None; 2]);
        assert_eq!(trap_of(TrapCode::INTEGER_DIVISION_BY_ZERO.as_raw().get()), Some(Trap::IntegerDivisionByZero));
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn many_results_need_an_area() {
        let results = |count| FuncType::of([], vec![ValType::I64; count]);
        assert!(!has_return_area(&results(8)));
        assert!(has_return_area(&results(9)));
        assert!(!has_return_area(&FuncType::of([], [vec![ValType::I32; 8], vec![ValType::F64; 8]].concat())));
    }
}
