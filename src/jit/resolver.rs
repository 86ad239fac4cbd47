//! What entries lead to before there is code: compile on first call.
//!
//! The naked functions in `arch` save the argument registers, call one of the functions here, and jump to the code
//! these return. If there is none, that is [`arch::raise`], which traps with the error in the store.

use super::trampoline::Kind;
use super::{abi, arch, compile};
use crate::error::Result;
use crate::module::types::FuncType;
use crate::runtime::store::StoreOpaque;
use crate::runtime::vmcontext::{VMCode, VMContext, VMFuncRef};

/// The first value of an entry of `VMContext::entries`, for a function of type `ty`.
pub(super) fn entry(ty: &FuncType) -> *const VMCode {
    let resolver = if abi::has_return_area(ty) { arch::resolve_entry_area } else { arch::resolve_entry };
    resolver as *const VMCode
}

/// The first `VMFuncRef::code`, for a function of type `ty`, of a module or of the host.
pub(crate) fn ref_entry(ty: &FuncType) -> *const VMCode {
    let resolver = if abi::has_return_area(ty) { arch::resolve_ref_area } else { arch::resolve_ref };
    resolver as *const VMCode
}

/// The code to go on with, or what raises the error.
fn code_or_raise(result: Result<*const VMCode>, store: *mut StoreOpaque) -> *const VMCode {
    result.unwrap_or_else(|error| {
        // SAFETY: the caller passes the store of a live context.
        unsafe { (*store).raise(error) };
        arch::raise as *const VMCode
    })
}

/// Finds the code of a function called through its entry.
///
/// # Safety
/// `vmctx` must be a live context and `defined` one of its module's functions.
pub(super) unsafe extern "C" fn resolve(vmctx: *mut VMContext, defined: u64) -> *const VMCode {
    // SAFETY: the caller's promise; instance and store live as long as the context.
    let (store, module) = unsafe { ((*vmctx).store.cast::<StoreOpaque>(), &(*(*vmctx).instance).module.0) };
    code_or_raise(compile::function(module, defined as u32), store)
}

/// Finds the code of a function called through a reference to it, and keeps it there.
///
/// # Safety
/// `func` must be a live reference, and `caller` a live context of its store if it is to a host function.
pub(super) unsafe extern "C" fn resolve_ref(func: *mut VMFuncRef, caller: *mut VMContext) -> *const VMCode {
    // SAFETY: the caller's promise. Only the store's thread comes here, so nobody else sees the reference change.
    unsafe {
        if (*func).index == VMFuncRef::HOST {
            let store = (*caller).store.cast::<StoreOpaque>();
            let engine = (*store).engine();
            let code = engine.jit().trampolines.get(Kind::Host, (*func).sig, engine);
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
