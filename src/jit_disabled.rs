//! The JIT's twin for builds and targets without it: the same surface over nothing, so that no other room has to ask.
//!
//! No code is ever compiled, so references have no native entry and [`call`] goes to the interpreter.

use std::ptr;
use std::sync::atomic::AtomicPtr;

use crate::error::{Error, Result};
use crate::module::ModuleInner;
use crate::module::types::FuncType;
use crate::runtime::engine::{Config, Engine};
use crate::runtime::func::call_host;
use crate::runtime::vmcontext::{VMCode, VMContext, VMFuncRef};

/// What the modules of an engine share: nothing.
pub(crate) struct EngineState;

impl EngineState {
    /// # Errors
    /// None; the JIT has some.
    pub(crate) fn new(_: &Config) -> Result<Self> {
        Ok(EngineState)
    }
}

/// The native code of a module: none.
pub(crate) struct ModuleCode;

impl ModuleCode {
    pub(crate) fn new<'a>(_: &Engine, _: impl Iterator<Item = &'a FuncType>) -> Self {
        ModuleCode
    }

    /// What goes into `VMContext::entries`.
    pub(crate) fn entries(&self) -> *const AtomicPtr<VMCode> {
        ptr::null()
    }
}

/// What goes into `VMFuncRef::code`.
pub(crate) fn ref_entry(_: &FuncType) -> *const VMCode {
    ptr::null()
}

/// Calls a function.
///
/// # Errors
/// Whatever ends the call.
///
/// # Safety
/// As for [`call_host`] and [`crate::interp::call`].
pub(crate) unsafe fn call(func: *mut VMFuncRef, caller: *mut VMContext, slots: *mut u64) -> Result<()> {
    // SAFETY: the caller's promise.
    unsafe {
        match (*func).index {
            VMFuncRef::HOST => call_host(func, caller, slots),
            defined => crate::interp::call((*func).owner.cast(), defined, slots),
        }
    }
}

/// # Errors
/// Always: there is no compiler.
pub(crate) fn print_clif(_: &ModuleInner, _: u32) -> Result<String> {
    Err(Error::usage("this build of wasmrun has no JIT"))
}

/// # Errors
/// Always: there is no compiler.
pub(crate) fn print_asm(_: &ModuleInner, _: u32) -> Result<String> {
    Err(Error::usage("this build of wasmrun has no JIT"))
}
