//! Calls: direct, through an import's function reference, and through a table.
//!
//! Every callee gets two hidden arguments first, see [`abi`](crate::jit::abi): its context, and for direct calls its
//! defined index (which tells the lazy-compile trampoline what to compile), otherwise the caller's context (which host functions need).

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, SigRef, SourceLoc, Value, types};
use wasmparser::Operator as Op;

use super::computed::Change;
use super::{HIDDEN_PARAMS, Lower, Region};
use crate::error::Trap;
use crate::jit::abi;
use crate::jit::registry::NO_FRAME;
use crate::module::types::ValType;
use crate::vm::context::{VMContext, VMFuncRef};

/// The callee of a call instruction.
pub(super) struct Callee<'m> {
    pub signature: SigRef,
    pub code: Value,
    hidden: [Value; HIDDEN_PARAMS],
    params: usize,
    pub results: &'m [ValType],
}

impl<'m> Lower<'m, '_> {
    pub(super) fn call(&mut self, op: &Op<'_>) -> bool {
        match *op {
            Op::Call { function_index } => {
                let callee = self.direct(function_index);
                self.emit_call(callee);
            }
            Op::CallIndirect { type_index, table_index } => {
                let callee = self.indirect(type_index, table_index);
                self.emit_call(callee);
            }
            Op::ReturnCall { function_index } => {
                let callee = self.direct(function_index);
                self.emit_return_call(callee);
            }
            Op::ReturnCallIndirect { type_index, table_index } => {
                let callee = self.indirect(type_index, table_index);
                self.emit_return_call(callee);
            }
            Op::CallRef { type_index } => {
                let callee = self.referenced(type_index);
                self.emit_call(callee);
            }
            Op::ReturnCallRef { type_index } => {
                let callee = self.referenced(type_index);
                self.emit_return_call(callee);
            }
            _ => return false,
        }
        true
    }

    fn emit_call(&mut self, callee: Callee<'m>) {
        let args = self.arguments(&callee);
        // What is changed is forgotten before the call: nothing is computed between.
        self.changed(Change::Everything);
        if self.try_call(&callee, &args) {
            return;
        }
        let call = self.builder.ins().call_indirect(callee.signature, callee.code, &args);
        self.stack.extend_from_slice(self.builder.inst_results(call));
        self.learn_top(callee.results);
        self.reload_fuel();
    }

    fn emit_return_call(&mut self, callee: Callee<'m>) {
        let args = self.arguments(&callee);
        if self.result_frame().is_some() {
            // The interpreter's frame below waits for results, so this is a call and a return. The handlers here must not see
            // what the callee throws, nor backtraces the call: a tail call has ended this function.
            self.builder.set_srcloc(SourceLoc::new(NO_FRAME));
            let call = self.builder.ins().call_indirect(callee.signature, callee.code, &args);
            self.stack.extend_from_slice(self.builder.inst_results(call));
            self.emit_return(callee.results);
        } else {
            // The prologues of functions that only call in tail position don't look.
            self.poll();
            self.ins().return_call_indirect(callee.signature, callee.code, &args);
        }
        self.reachable = false;
    }

    fn arguments(&mut self, callee: &Callee<'m>) -> Vec<Value> {
        self.canonical_top(callee.params);
        let params = self.stack.drain(self.stack.len() - callee.params..);
        callee.hidden.into_iter().chain(params).collect()
    }

    fn direct(&mut self, func: u32) -> Callee<'m> {
        let ty = self.module.funcs[func as usize];
        match func.checked_sub(self.module.imported_funcs()) {
            Some(defined) => {
                let flags = self.flags(Region::Code);
                // Not marked constant: Cranelift would keep it in a register across calls instead of loading it anew.
                let entries = self.builder.ins().load(types::I64, flags, self.vmctx, VMContext::ENTRIES);
                let code = match i32::try_from(8 * u64::from(defined)) {
                    Ok(offset) => self.ins().load(types::I64, flags, entries, offset),
                    Err(_) => unreachable!("a module has fewer than 2^28 functions"),
                };
                let index = self.ins().iconst(types::I64, i64::from(defined));
                self.callee(ty, code, [self.vmctx, index])
            }
            None => {
                let offset = self.module.offsets.imported_func(func);
                let reference = self.load_constant(self.vmctx, offset);
                let flags = self.flags(Region::Code);
                self.through_reference(ty, reference, flags)
            }
        }
    }

    fn indirect(&mut self, ty: u32, table: u32) -> Callee<'m> {
        let index = self.pop();
        let element = self.element(table, index, Trap::UndefinedElement);
        let flags = self.flags(Region::TableElement);
        let reference = self.ins().load(types::I64, flags, element, 0);
        // Not free to move: it must stay after the check that the reference is not null, or is itself that check.
        let mut flags = MemFlagsData::trusted().with_readonly();
        if self.signals {
            // A null reference faults here: no page is ever mapped at address 0.
            flags = flags.with_trap_code(Some(abi::trap_code(Trap::UninitializedElement)));
        } else {
            self.trapz(reference, Trap::UninitializedElement);
        }
        let mismatch = self.compare_func_type(IntCC::NotEqual, reference, ty, flags);
        self.trapnz(mismatch, Trap::IndirectCallTypeMismatch);
        let flags = self.flags(Region::Code);
        self.through_reference(ty, reference, flags)
    }

    /// The callee that the reference on top, of type `ty`, leads to; traps if it is null.
    fn referenced(&mut self, ty: u32) -> Callee<'m> {
        let reference = self.pop_reference();
        let flags = self.flags(Region::Code);
        let flags = self.checked(reference, flags, Trap::NullFunctionReference);
        self.through_reference(ty, reference, flags)
    }

    /// The callee that a reference leads to, which is known to be of type `ty`. The first load through it has these flags.
    fn through_reference(&mut self, ty: u32, reference: Value, first: MemFlagsData) -> Callee<'m> {
        let flags = self.flags(Region::Code);
        let code = self.ins().load(types::I64, first, reference, VMFuncRef::CODE);
        let context = self.ins().load(types::I64, flags, reference, VMFuncRef::CALLEE);
        self.callee(ty, code, [context, self.vmctx])
    }

    fn callee(&mut self, ty: u32, code: Value, hidden: [Value; HIDDEN_PARAMS]) -> Callee<'m> {
        let func_type = self.module.types[ty as usize].unwrap_func();
        let (isa, func) = (self.isa, &mut *self.builder.func);
        let import = || func.import_signature(abi::signature(isa, func_type));
        let signature = *self.signatures.entry(ty).or_insert_with(import);
        Callee { signature, code, hidden, params: func_type.params().len(), results: func_type.results() }
    }
}
