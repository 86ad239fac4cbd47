//! Trampolines between compiled code, Rust and the interpreter: they move arguments and results between slots and
//! registers. There is one of each kind for each shape of function types.

use std::collections::HashMap;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AbiParam, InstBuilder, MemFlagsData, Signature, StackSlotData, StackSlotKind, UserFuncName, Value, types,
};
use cranelift_codegen::isa::{CallConv, OwnedTargetIsa, TargetIsa};
use cranelift_frontend::FunctionBuilder;

use super::abi::{self, TRAP_RAISED};
use super::artifact::{Artifact, Workspace, artifact};
use super::code_space::CodeSpace;
use super::compile::on_enough_stack;
use super::enter::raise_code;
use super::{EngineState, Tier};
use crate::config::Config;
use crate::error::Result;
use crate::interp;
use crate::module::types::{FuncType, ValType};
use crate::vm::context::{VMCode, VMContext, VMFuncRef, VMStore};
use crate::vm::exception;
use crate::vm::func::HostFunc;
use crate::vm::store::StoreOpaque;

/// The kinds of trampolines that depend on a function type alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum TrampolineKind {
    /// Entry trampoline: Rust calls compiled code with it, through `arch::enter`. A function (callee, caller, code,
    /// slots) with the calling convention of compiled code, so that no registers are saved twice.
    Enter,
    /// Host-call trampoline: compiled code calls a host function with it, with the function's `VMFuncRef` as the
    /// callee's context.
    Host,
    /// Interpreter trampoline: compiled code calls an interpreted function of its instance with it, through the
    /// function's entry.
    Interpret,
}

impl TrampolineKind {
    const COUNT: usize = TrampolineKind::Interpret as usize + 1;
}

/// What a trampoline depends on: its kind, the types of the parameters and then of the results as Cranelift has them,
/// and the number of parameters.
type Shape = (TrampolineKind, Box<[cranelift_codegen::ir::Type]>, usize);

/// The trampolines of an engine.
pub(super) struct Trampolines {
    space: Mutex<(CodeSpace, HashMap<Shape, *mut VMCode>)>,
    /// For each kind, the trampolines that exist, by type number; read without a lock.
    by_number: [TrampolineIndex; TrampolineKind::COUNT],
}

// SAFETY: the pointers are to code, which any thread may run and which lives as long as this.
unsafe impl Send for Trampolines {}
// SAFETY: the map is behind a lock, and the indices are atomics.
unsafe impl Sync for Trampolines {}

impl Trampolines {
    pub fn new(isa: &OwnedTargetIsa, config: &Config) -> Self {
        let space = CodeSpace::new(isa, 1 << 20, config);
        Trampolines {
            space: Mutex::new((space, HashMap::new())),
            by_number: std::array::from_fn(|_| TrampolineIndex::new()),
        }
    }

    #[cold]
    fn make(&self, kind: TrampolineKind, number: u32, engine: &EngineState) -> Result<*const VMCode> {
        let ty: Arc<FuncType> = engine.core.types.func_type(number);
        let lowered = |types: &[ValType]| types.iter().map(abi::value_type).collect::<Vec<_>>();
        let shape = (kind, [lowered(ty.params()), lowered(ty.results())].concat().into(), ty.params().len());
        let mut guard = self.space.lock().unwrap_or_else(PoisonError::into_inner);
        let (space, by_shape) = &mut *guard;
        let code = match by_shape.get(&shape) {
            Some(code) => *code,
            None => {
                let isa = engine.isa(Tier::Best);
                let make = |workspace: &mut Workspace| match kind {
                    TrampolineKind::Enter => enter(isa, &ty, workspace),
                    TrampolineKind::Host => to_host(isa, &ty, workspace),
                    TrampolineKind::Interpret => to_interpreted(isa, &ty, workspace),
                };
                let trampoline = on_enough_stack(|| engine.with_workspace(make))?;
                let code = space.define(trampoline, None)?;
                by_shape.insert(shape, code);
                code
            }
        };
        self.by_number[kind as usize].slot(number).store(code, Ordering::Release);
        Ok(code)
    }
}

impl EngineState {
    /// The trampoline of a kind for a type number, which must be that of a live function type of this engine.
    ///
    /// # Errors
    /// [`Resource`](crate::ErrorKind::Resource) if there is no memory for it.
    #[inline]
    pub(super) fn trampoline(&self, kind: TrampolineKind, number: u32) -> Result<*const VMCode> {
        let code = self.trampolines.by_number[kind as usize].slot(number).load(Ordering::Acquire);
        if code.is_null() { self.trampolines.make(kind, number, self) } else { Ok(code) }
    }
}

/// A growing array of pointers that is read without a lock: boxes never move, and each is twice as long as the one
/// before.
struct TrampolineIndex([OnceLock<Box<[AtomicPtr<VMCode>]>>; 32]);

impl TrampolineIndex {
    fn new() -> Self {
        TrampolineIndex([const { OnceLock::new() }; 32])
    }

    #[inline]
    fn slot(&self, index: u32) -> &AtomicPtr<VMCode> {
        // Box `n` holds the 2^n indices from 2^n - 1 on. The index u32::MAX, which does not fit, is no type number.
        let index = index.saturating_add(1);
        let n = index.ilog2();
        let slots = self.0[n as usize].get_or_init(|| (0..1usize << n).map(|_| AtomicPtr::default()).collect());
        &slots[(index - (1 << n)) as usize]
    }
}

/// Compiles a function with this signature; `body` builds it, given the parameters.
fn build(
    isa: &dyn TargetIsa,
    workspace: &mut Workspace,
    signature: Signature,
    body: impl FnOnce(&mut FunctionBuilder<'_>, &[Value]),
) -> Result<Artifact> {
    let Workspace { context, builder } = workspace;
    context.clear();
    context.func.signature = signature;
    context.func.name = UserFuncName::default();
    let mut builder = FunctionBuilder::new(&mut context.func, builder);
    let block = builder.create_block();
    builder.append_block_params_for_function_params(block);
    builder.switch_to_block(block);
    builder.seal_block(block);
    let params = builder.block_params(block).to_vec();
    body(&mut builder, &params);
    builder.finalize(isa.frontend_config());
    artifact(isa, context)
}

/// Compiles an entry trampoline, a function (callee, caller, code, slots): it loads the arguments, calls `code`, and
/// stores the results.
fn enter(isa: &dyn TargetIsa, ty: &FuncType, workspace: &mut Workspace) -> Result<Artifact> {
    let mut own = Signature::new(CallConv::Tail);
    own.params = vec![AbiParam::new(types::I64); 4];
    build(isa, workspace, own, |builder, params| {
        let [callee, caller, code, slots] = params else { unreachable!("the signature has four") };
        let mut args = vec![*callee, *caller];
        args.extend(abi::load_slots(builder, ty.params(), *slots));
        let signature = builder.import_signature(abi::signature(isa, ty));
        let call = builder.ins().call_indirect(signature, *code, &args);
        let results = builder.inst_results(call).to_vec();
        abi::store_slots(builder, ty.results(), &results, *slots);
        builder.ins().return_(&[]);
    })
}

/// Compiles a function of type `ty` that calls a Rust function. Its last argument is the address of slots with the
/// arguments, to which it writes the results; if it fails, it leaves the error in the store, which the compiled
/// function then raises. Hidden parameter `context` is a context of the store. `place` chooses the address of the slots,
/// given the store, a buffer on the native stack and the size in bytes. `callee` gives the Rust function and its other
/// arguments, given the store and the two hidden parameters.
fn to_rust<const N: usize>(
    isa: &dyn TargetIsa,
    ty: &FuncType,
    workspace: &mut Workspace,
    context: usize,
    place: impl FnOnce(&mut FunctionBuilder<'_>, Value, Value, u32) -> Value,
    callee: impl FnOnce(&mut FunctionBuilder<'_>, Value, Value, Value) -> (Value, [Value; N]),
) -> Result<Artifact> {
    build(isa, workspace, abi::signature(isa, ty), |builder, params| {
        let bytes = 8 * ty.param_slots().max(ty.result_slots()).max(1) as u32;
        let buffer = builder.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, bytes, 4));
        let buffer = builder.ins().stack_addr(types::I64, buffer, 0);
        let store = builder.ins().load(types::I64, MemFlagsData::trusted(), params[context], VMContext::STORE);
        let buffer = place(builder, store, buffer, bytes);
        abi::store_slots(builder, ty.params(), &params[2..], buffer);
        let (target, arguments) = callee(builder, store, params[0], params[1]);
        let frame = builder.ins().get_frame_pointer(types::I64);
        builder.ins().store(MemFlagsData::trusted(), frame, store, VMStore::EXIT_FP);
        let mut signature = Signature::new(isa.default_call_conv());
        signature.params = vec![AbiParam::new(types::I64); N + 1];
        signature.returns.push(AbiParam::new(types::I32));
        let signature = builder.import_signature(signature);
        let call = builder.ins().call_indirect(signature, target, &[&arguments[..], &[buffer]].concat());
        let status = builder.inst_results(call)[0];
        let (failed, returned) = (builder.create_block(), builder.create_block());
        builder.set_cold_block(failed);
        builder.ins().brif(status, failed, [], returned, []);
        builder.seal_block(failed);
        builder.seal_block(returned);
        builder.switch_to_block(failed);
        let raise = builder.ins().iconst(types::I64, raise_code() as i64);
        let signature = builder.import_signature(Signature::new(isa.default_call_conv()));
        builder.ins().call_indirect(signature, raise, &[]);
        builder.ins().trap(TRAP_RAISED);
        builder.switch_to_block(returned);
        let results = abi::load_slots(builder, ty.results(), buffer);
        builder.ins().return_(&results);
    })
}

/// Compiles a host-call trampoline: it calls the Rust function that the [`HostFunc`] points to.
fn to_host(isa: &dyn TargetIsa, ty: &FuncType, workspace: &mut Workspace) -> Result<Artifact> {
    let place = |_: &mut FunctionBuilder<'_>, _, buffer, _| buffer;
    to_rust(isa, ty, workspace, 1, place, |builder, store, func, caller| {
        // The `HostFunc` is alive and does not change while there is a reference to it.
        let mut load = |base, offset| builder.ins().load(types::I64, MemFlagsData::trusted(), base, offset);
        let host = load(func, VMFuncRef::OWNER);
        (load(host, HostFunc::CALL), [load(host, HostFunc::ENV), store, caller])
    })
}

/// Compiles a function that calls the interpreter. `defined` gives the function's defined index, given the second
/// hidden parameter.
fn to_interpreted_by(
    isa: &dyn TargetIsa,
    ty: &FuncType,
    workspace: &mut Workspace,
    defined: impl FnOnce(&mut FunctionBuilder<'_>, Value) -> Value,
) -> Result<Artifact> {
    to_rust(isa, ty, workspace, 0, top_of_value_stack, |builder, _, callee, second| {
        let target = builder.ins().iconst(types::I64, interpreted_called as *const () as i64);
        (target, [callee, defined(builder, second)])
    })
}

/// The top of the store's value stack, where the frame of the interpreted function begins, if `bytes` fit there; else the
/// buffer.
fn top_of_value_stack(builder: &mut FunctionBuilder<'_>, store: Value, buffer: Value, bytes: u32) -> Value {
    let top = builder.ins().load(types::I64, MemFlagsData::trusted(), store, VMStore::VALUE_TOP);
    let end = builder.ins().load(types::I64, MemFlagsData::trusted(), store, VMStore::VALUE_END);
    // Less than zero if the budget was lowered below what is in use.
    let room = builder.ins().isub(end, top);
    let fits = builder.ins().icmp_imm_s(IntCC::SignedGreaterThanOrEqual, room, i64::from(bytes));
    builder.ins().select(fits, top, buffer)
}

/// Compiles an interpreter trampoline: the defined index is the second hidden argument, which calls through entries
/// pass.
fn to_interpreted(isa: &dyn TargetIsa, ty: &FuncType, workspace: &mut Workspace) -> Result<Artifact> {
    to_interpreted_by(isa, ty, workspace, |_, defined| defined)
}

/// Compiles an adapter to the interpreter: code that is called like the compiled function `defined`.
pub(super) fn to_interpreter(
    isa: &dyn TargetIsa,
    ty: &FuncType,
    defined: u32,
    workspace: &mut Workspace,
) -> Result<Artifact> {
    to_interpreted_by(isa, ty, workspace, |builder, _| builder.ins().iconst(types::I64, i64::from(defined)))
}

/// Interprets a function for a trampoline. Returns zero, or after an error something else: then the exception or error
/// is in the store, for the trampoline to raise.
extern "C" fn interpreted_called(vmctx: *mut VMContext, defined: u64, slots: *mut u64) -> u32 {
    // SAFETY: an adapter or interpreter trampoline passes the context that it was called with, and the index of the
    // function whose entry it was called through. The slots hold the function's arguments and have room for its
    // results.
    let result = unsafe {
        interp::InterpretedModule::of(vmctx).count_transition(defined as u32);
        interp::call(vmctx, defined as u32, slots)
    };
    let Err(error) = result else { return 0 };
    // SAFETY: compiled code passes live contexts of this thread's store.
    exception::throw_or_raise(unsafe { &mut *(*vmctx).store.cast::<StoreOpaque>() }, error);
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_has_a_slot_for_every_number() {
        let index = TrampolineIndex::new();
        let mut places: Vec<_> = (0..100).map(|number| std::ptr::from_ref(index.slot(number))).collect();
        assert_eq!(places[5], index.slot(5));
        places.sort();
        places.dedup();
        assert_eq!(places.len(), 100);
    }
}
