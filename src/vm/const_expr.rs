//! The evaluation of constant expressions (specification, section 3.4.15): initial values, and offsets of segments.

use super::context::{VMContext, VMGlobal};
use super::instance::{func_ref, resolve};
use crate::module::{ConstExpr, ConstOp, ModuleFacts};
use crate::numeric;

/// The value of a constant expression, as two slots; the second is zero for all types but `v128`, and the first is zero above an
/// `i32`.
///
/// # Safety
/// `vmctx` must be live, `module` and `expr` must be those of its instance, and every global that `expr` reads must be
/// initialised.
pub(super) unsafe fn evaluate(vmctx: *mut VMContext, module: &ModuleFacts, expr: &ConstExpr) -> [u64; 2] {
    // A module may have tens of thousands of single constants; longer expressions are rare.
    if let [ConstOp::Slot(slot)] = expr.0[..] {
        return [slot, 0];
    }
    let mut stack: Vec<[u64; 2]> = Vec::with_capacity(2);
    for op in &expr.0 {
        let mut binary = |op: fn(u64, u64) -> u64| {
            let (b, a) = (stack.pop(), stack.pop());
            let (Some([b, _]), Some([a, _])) = (b, a) else { unreachable!("constant expressions are validated") };
            [op(a, b), 0]
        };
        let value = match *op {
            ConstOp::Slot(slot) => [slot, 0],
            ConstOp::V128(value) => [value as u64, (value >> 64) as u64],
            ConstOp::RefNull => [0, 0],
            // SAFETY: the context is live by the caller's promise, and validation checked the index.
            ConstOp::RefFunc(func) => [unsafe { func_ref(vmctx, func) } as u64, 0],
            ConstOp::GlobalGet(global) => {
                // SAFETY: the context is live and the global initialised, by the caller's promise.
                unsafe { (*resolve::<VMGlobal>(vmctx, module.offsets.global(global))).slots }
            }
            ConstOp::I32Add => binary(|a, b| numeric::i32_add(a as u32, b as u32).into()),
            ConstOp::I32Sub => binary(|a, b| numeric::i32_sub(a as u32, b as u32).into()),
            ConstOp::I32Mul => binary(|a, b| numeric::i32_mul(a as u32, b as u32).into()),
            ConstOp::I64Add => binary(numeric::i64_add),
            ConstOp::I64Sub => binary(numeric::i64_sub),
            ConstOp::I64Mul => binary(numeric::i64_mul),
        };
        stack.push(value);
    }
    stack.pop().expect("constant expressions are validated")
}
