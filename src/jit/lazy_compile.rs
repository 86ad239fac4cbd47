//! Lazy-compile trampolines: what entries and references point to before there is code.
//!
//! The trampolines themselves are naked functions in `arch`: they save the argument registers, call one of the
//! functions here, and jump to the code that it returns. If there is an error, that is [`arch::raise`], which traps
//! with the error in the store.
//!
//! With [`Strategy::Jit`] a function is compiled on its first call; its entry and references then point to its code for
//! good. With [`Strategy::Tiered`] nothing is compiled here: the entry points to an interpreter trampoline until code
//! is published. References point to `arch::indirect_via_entry`, which jumps to the code that the entry points to; this
//! costs two loads more than a direct call. If that code is of the best tier, it also makes the reference point to the
//! code directly: it runs on the only thread that may write to the reference. (Publishing can't do this, because it
//! does not know the stores that have references.)

use std::sync::atomic::Ordering;

use super::module::CompiledModule;
use super::settings::{CodeEntry, Tier};
use super::trampoline::TrampolineKind;
use super::{abi, arch, compile};
use crate::config::Strategy;
use crate::error::Result;
use crate::module::types::FuncType;
use crate::vm::context::{VMCode, VMContext, VMFuncRef};
use crate::vm::sample;
use crate::vm::store::StoreOpaque;

/// The first value of an entry of `VMContext::entries`, for a function of type `ty`.
pub(super) fn entry(ty: &FuncType) -> *const VMCode {
    let trampoline = if abi::has_return_area(ty) { arch::lazy_compile_entry_area } else { arch::lazy_compile_entry };
    trampoline as *const VMCode
}

/// The first `VMFuncRef::code` of a function of type `ty` of a module.
pub(super) fn ref_entry(strategy: Strategy, ty: &FuncType) -> *const VMCode {
    match strategy {
        Strategy::Tiered if abi::has_return_area(ty) => arch::indirect_via_entry_area as *const VMCode,
        Strategy::Tiered => arch::indirect_via_entry as *const VMCode,
        Strategy::Jit | Strategy::Interpreter => host_entry(ty),
    }
}

/// The first `VMFuncRef::code` of a host function of type `ty`.
pub(super) fn host_entry(ty: &FuncType) -> *const VMCode {
    let trampoline = if abi::has_return_area(ty) { arch::lazy_compile_ref_area } else { arch::lazy_compile_ref };
    trampoline as *const VMCode
}

/// The code to continue with; if there is an error, `raise`, with the error in the store.
fn code_or_raise(result: Result<*const VMCode>, store: *mut StoreOpaque) -> *const VMCode {
    result.unwrap_or_else(|error| {
        // SAFETY: both callers pass the store of a live context.
        unsafe { (*store).raise(error) };
        arch::raise as *const VMCode
    })
}

/// Finds the code of a function that was called through its entry. Called by a lazy-compile trampoline.
///
/// # Safety
/// `vmctx` must be a live context and `defined` one of its module's functions.
pub(super) unsafe extern "C" fn resolve(vmctx: *mut VMContext, defined: u64) -> *const VMCode {
    // SAFETY: the context is live by the caller's promise; its module and store live as long.
    let (store, module) = unsafe { ((*vmctx).store.cast::<StoreOpaque>(), CompiledModule::of(vmctx)) };
    let defined = defined as u32;
    let code = match module.engine.config().strategy {
        Strategy::Tiered => interpreted(module, defined),
        Strategy::Jit | Strategy::Interpreter => {
            // SAFETY: the store is live, and nobody refers to it.
            unsafe { sample::compiling(store, || compile::function(module, defined)) }
        }
    };
    code_or_raise(code, store)
}

/// Makes the entry of a function without code point to its code in the cache, or else to the interpreter trampoline,
/// and returns that.
fn interpreted(module: &CompiledModule, defined: u32) -> Result<*const VMCode> {
    if let Some(code) = module.load(defined, Tier::Quick, CodeEntry::Function) {
        return Ok(code);
    }
    let sig = module.facts.defined_sig(defined);
    let trampoline = module.engine.trampoline(TrampolineKind::Interpret, sig)?;
    let (entry, first) = (module.entry(defined), self::entry(module.facts.defined_type(defined)));
    // If code was published meanwhile, the entry keeps it.
    let found = entry.compare_exchange(first.cast_mut(), trampoline.cast_mut(), Ordering::AcqRel, Ordering::Acquire);
    Ok(found.map_or_else(|code| code.cast_const(), |_| trampoline))
}

/// Finds the code of a function that was called through a reference, and makes the reference point to it. Called by a
/// lazy-compile trampoline.
///
/// # Safety
/// `func` must be a live reference, and `caller` a live context of its store if it is to a host function.
pub(super) unsafe extern "C" fn resolve_ref(func: *mut VMFuncRef, caller: *mut VMContext) -> *const VMCode {
    // SAFETY: reference and caller are live by the caller's promise. Only the store's thread runs this, so no other
    // thread reads the reference while it changes.
    unsafe {
        if (*func).index == VMFuncRef::HOST {
            let store = (*caller).store.cast::<StoreOpaque>();
            let code = CompiledModule::of(caller).engine.trampoline(TrampolineKind::Host, (*func).sig);
            if let Ok(code) = code {
                (*func).code = code;
            }
            return code_or_raise(code, store);
        }
        let vmctx = (*func).owner.cast::<VMContext>();
        let code = resolve(vmctx, u64::from((*func).index));
        if code != arch::raise as *const VMCode {
            (*func).code = code;
            (*func).callee = vmctx.cast();
        }
        code
    }
}
