//! The evaluation of constant expressions (specification, section 3.4.15): initial values, and offsets of segments.

use super::context::{VMContext, VMGlobal};
use super::gc::ops as gc;
use super::instance::{func_ref, resolve};
use super::ops::Payer;
use super::store::StoreOpaque;
use crate::error::Result;
use crate::module::layout::{I31_BIT, Storage};
use crate::module::{ConstExpr, ConstOp, ModuleFacts};
use crate::numeric;

/// The value of a constant expression, as two slots; the second is zero for all types but `v128`, and the first is zero above an
/// `i32`. A collection may run; the caller must put the value where the next one looks.
///
/// # Errors
/// [`Resource`](crate::ErrorKind::Resource) if the heap has no room for an object, or what the store's limiter returns;
/// [`Trap::AllocationTooLarge`](crate::Trap::AllocationTooLarge).
///
/// # Safety
/// `vmctx` must be live, `module` and `expr` must be those of its instance, and every global that `expr` reads must be
/// initialised. Nobody may hold a reference to the store.
pub(super) unsafe fn evaluate(vmctx: *mut VMContext, module: &ModuleFacts, expr: &ConstExpr) -> Result<[u64; 2]> {
    // A module may have tens of thousands of single constants; longer expressions are rare.
    if let [ConstOp::Slot(slot)] = expr.0[..] {
        return Ok([slot, 0]);
    }
    // SAFETY: the caller's promise.
    unsafe {
        let mut operands = Operands::of((*vmctx).store.cast());
        for op in &expr.0 {
            operands.apply(vmctx, module, *op)?;
        }
        let high = if operands.len() == 2 { operands.pop() } else { 0 };
        Ok([operands.pop(), high])
    }
}

/// The values of several constant expressions whose types have one slot each.
///
/// # Errors
/// As [`evaluate`].
///
/// # Safety
/// As for [`evaluate`].
pub(super) unsafe fn evaluate_all(
    vmctx: *mut VMContext,
    module: &ModuleFacts,
    exprs: &[ConstExpr],
) -> Result<Box<[u64]>> {
    // SAFETY: the caller's promise. The values before are among the operands while the next is evaluated.
    unsafe {
        let values = Operands::of((*vmctx).store.cast());
        for expr in exprs {
            let [value, _] = evaluate(vmctx, module, expr)?;
            (*values.store).gc.temporaries.push(value);
        }
        Ok((&(*values.store).gc.temporaries)[values.start..].into())
    }
}

/// The operand stack of an expression: in the store, where a collection looks. A vector takes two slots.
struct Operands {
    store: *mut StoreOpaque,
    /// Where it begins.
    start: usize,
}

impl Drop for Operands {
    fn drop(&mut self) {
        // SAFETY: the store is live by the promise of `of`, and nobody else refers to it.
        unsafe { (*self.store).gc.temporaries.truncate(self.start) };
    }
}

impl Operands {
    /// # Safety
    /// The store must be live and nobody refer to it while the value lives.
    unsafe fn of(store: *mut StoreOpaque) -> Self {
        // SAFETY: the caller's promise.
        let start = unsafe { (*store).gc.temporaries.len() };
        Operands { store, start }
    }

    fn all(&mut self) -> &mut Vec<u64> {
        // SAFETY: the store is live by the promise of `of`, and nobody else refers to it.
        unsafe { &mut (*self.store).gc.temporaries }
    }

    fn len(&mut self) -> usize {
        self.all().len() - self.start
    }

    fn pop(&mut self) -> u64 {
        self.all().pop().expect("constant expressions are validated")
    }

    fn binary(&mut self, op: fn(u64, u64) -> u64) {
        let (b, a) = (self.pop(), self.pop());
        self.all().push(op(a, b));
    }

    /// Replaces the operands from the last `slots` slots on by an object that is made of them.
    fn object(&mut self, slots: usize, make: impl FnOnce(*const u64) -> Result<u32>) -> Result<()> {
        let first = self.all().len() - slots;
        let object = make(self.all()[first..].as_ptr())?;
        self.all().truncate(first);
        self.all().push(object.into());
        Ok(())
    }

    /// # Safety
    /// As for [`evaluate`].
    unsafe fn apply(&mut self, vmctx: *mut VMContext, module: &ModuleFacts, op: ConstOp) -> Result<()> {
        let slots = |storage: Storage, count: u32| gc::slots(storage) * count as usize;
        match op {
            ConstOp::Slot(slot) => self.all().push(slot),
            ConstOp::V128(value) => self.all().extend([value as u64, (value >> 64) as u64]),
            ConstOp::RefNull => self.all().push(0),
            // SAFETY: the context is live by the caller's promise, and validation checked the index.
            ConstOp::RefFunc(func) => self.all().push(unsafe { func_ref(vmctx, func) } as u64),
            ConstOp::GlobalGet(global) => {
                // SAFETY: the context is live and the global initialised, by the caller's promise.
                let slots = unsafe { (*resolve::<VMGlobal>(vmctx, module.offsets.global(global))).slots };
                let count = module.globals[global as usize].content.slots();
                self.all().extend_from_slice(&slots[..count]);
            }
            ConstOp::I32Add => self.binary(|a, b| numeric::i32_add(a as u32, b as u32).into()),
            ConstOp::I32Sub => self.binary(|a, b| numeric::i32_sub(a as u32, b as u32).into()),
            ConstOp::I32Mul => self.binary(|a, b| numeric::i32_mul(a as u32, b as u32).into()),
            ConstOp::I64Add => self.binary(numeric::i64_add),
            ConstOp::I64Sub => self.binary(numeric::i64_sub),
            ConstOp::I64Mul => self.binary(numeric::i64_mul),
            ConstOp::RefI31 => {
                let value = self.pop() as u32;
                self.all().push((value << 1 | I31_BIT).into());
            }
            ConstOp::StructNew(ty) => {
                let count = module.struct_layout(ty).fields.iter().map(|field| gc::slots(field.storage)).sum();
                // SAFETY: the caller's promise; the operands are values of the fields.
                self.object(count, |values| unsafe { gc::struct_new(vmctx, ty, values) })?;
            }
            // SAFETY: the caller's promise.
            ConstOp::StructNewDefault(ty) => self.object(0, |_| unsafe { gc::struct_new_default(vmctx, ty) })?,
            ConstOp::ArrayNew(ty) => {
                let length = self.pop() as u32;
                // SAFETY: the caller's promise; the operand is a value of the elements.
                self.object(slots(module.array_storage(ty), 1), |value| unsafe {
                    gc::array_new(vmctx, ty, value, length, Payer::Host)
                })?;
            }
            ConstOp::ArrayNewDefault(ty) => {
                let length = self.pop() as u32;
                // SAFETY: the caller's promise.
                self.object(0, |_| unsafe { gc::array_new_default(vmctx, ty, length, Payer::Host) })?;
            }
            ConstOp::ArrayNewFixed(ty, length) => {
                // SAFETY: the caller's promise; the operands are values of the elements.
                self.object(slots(module.array_storage(ty), length), |values| unsafe {
                    gc::array_new_fixed(vmctx, ty, values, length, Payer::Host)
                })?;
            }
        }
        Ok(())
    }
}
