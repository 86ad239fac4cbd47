//! The JIT's twin for builds and targets without it: the same surface over nothing, so that no other room has to ask.
//!
//! No code is ever compiled, so references have no native entry and [`call`] goes to the interpreter.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32};

use crate::config::cache::CacheStats;
use crate::config::{Config, Strategy};
use crate::error::{Error, Result};
use crate::module::ModuleInner;
use crate::module::types::FuncType;
use crate::runtime::engine::Engine;
use crate::runtime::func::call_host;
use crate::runtime::store::StoreOpaque;
use crate::vm::context::{VMCode, VMContext, VMFuncRef};

/// What the modules of an engine share: nothing.
pub(crate) struct EngineState;

impl EngineState {
    /// # Errors
    /// None; the JIT has some.
    pub(crate) fn new(_: &Config) -> Result<Self> {
        Ok(EngineState)
    }
}

/// # Errors
/// Always: there is no native code.
///
/// # Safety
/// There is no code that could be passed.
pub(crate) unsafe fn call_native_at_loop(
    _: *mut VMContext,
    _: *const VMCode,
    _: u32,
    _: *mut u64,
    _: u16,
) -> Result<()> {
    Err(no_jit())
}

/// Nothing to do: no compiled code is returned to.
pub(crate) fn come_back(_: &StoreOpaque) {}

/// What goes into `VMStore::raise`.
pub(crate) fn raise_code() -> *const VMCode {
    ptr::null()
}

fn no_jit() -> Error {
    Error::usage("this build of wasmrun has no JIT")
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

    /// What goes into `VMContext::tiers`.
    pub(crate) fn tiers(&self) -> *const AtomicU8 {
        ptr::null()
    }

    /// What goes into `VMContext::heat`.
    pub(crate) fn heat(&self) -> *const AtomicU32 {
        ptr::null()
    }

    /// The compiled code of a function: none.
    pub(crate) fn native(&self, _: u32) -> Option<*const VMCode> {
        None
    }

    /// How to call a function that has native code: there is none.
    pub(crate) fn way_in(&self, _: &ModuleInner, _: u32) -> (*const VMCode, *const AtomicPtr<VMCode>) {
        (ptr::null(), ptr::null())
    }

    /// Bytecode from the cache: there is none.
    pub(crate) fn load_bytecode<T>(&self, _: &ModuleInner, _: u32, _: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
        None
    }

    pub(crate) fn cache_stats(&self) -> CacheStats {
        CacheStats::default()
    }

    pub(crate) fn flush_cache(&self, _: &ModuleInner) {}
}

/// What goes into `VMFuncRef::code` for a function of a module.
pub(crate) fn ref_entry(_: Strategy, _: &FuncType) -> *const VMCode {
    ptr::null()
}

/// What goes into `VMFuncRef::code` for a host function.
pub(crate) fn host_entry(_: &FuncType) -> *const VMCode {
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
/// Always: there is no native code.
///
/// # Safety
/// None needed.
pub(crate) unsafe fn call_native(_: *mut VMContext, _: *const VMCode, _: u32, _: *mut u64) -> Result<()> {
    Err(no_jit())
}

/// # Errors
/// Always: there is no native code.
///
/// # Safety
/// None needed.
pub(crate) unsafe fn call_by_glue(_: *mut VMContext, _: *const VMCode, _: *const VMCode, _: *mut u64) -> Result<()> {
    Err(no_jit())
}

/// # Errors
/// Always: there is no native code.
///
/// # Safety
/// None needed.
pub(crate) unsafe fn call_loop(_: *mut VMContext, _: *const VMCode, _: *mut u64) -> Result<()> {
    Err(no_jit())
}

/// # Errors
/// Always: there is no compiler.
pub(crate) fn print_clif(_: &ModuleInner, _: u32) -> Result<String> {
    Err(no_jit())
}

/// # Errors
/// Always: there is no compiler.
pub(crate) fn print_asm(_: &ModuleInner, _: u32) -> Result<String> {
    Err(no_jit())
}
