//! What the stores of one engine share, and how its code is entered.

use std::sync::Arc;

use super::context::{VMCode, VMContext};
use super::space::Spaces;
use crate::config::{Config, Strategy};
use crate::error::Result;
use crate::module::registry::TypeRegistry;
use crate::module::types::FuncType;
use crate::stats::StatsCounter;

/// What all rooms see of an engine.
pub(crate) struct EngineCore {
    pub config: Config,
    pub types: Arc<TypeRegistry>,
    /// The address space that its stores have given back.
    pub spaces: Arc<Spaces>,
    /// Where what is done is counted.
    pub stats: StatsCounter,
    pub hooks: &'static Hooks,
}

/// What objects of a store need of the engines that run its code. A higher room fills it in.
pub(crate) struct Hooks {
    /// What goes into `VMStore::raise`.
    pub raise: fn() -> *const VMCode,
    /// What goes into `VMFuncRef::code` for a function of a module.
    pub ref_entry: fn(Strategy, &FuncType) -> *const VMCode,
    /// What goes into `VMFuncRef::code` for a host function.
    pub host_entry: fn(&FuncType) -> *const VMCode,
    /// What goes into `VMStore::native_calls`.
    pub native_calls: Option<&'static NativeCalls>,
}

#[cfg(not(jit))]
impl Hooks {
    /// Where there is no native code.
    pub const INTERPRETER_ONLY: Hooks = Hooks {
        raise: std::ptr::null,
        ref_entry: |_, _| std::ptr::null(),
        host_entry: |_| std::ptr::null(),
        native_calls: None,
    };
}

/// The functions by which interpreted code enters native code.
///
/// All take a live context of the current thread's store, whose stack limit must be set and whose `value_top` must be above
/// all slots in use.
#[derive(Debug)]
pub(crate) struct NativeCalls {
    /// Calls `code` of a function by the trampoline for its type, with arguments in slots that the results replace.
    pub by_trampoline:
        unsafe fn(*mut VMContext, trampoline: *const VMCode, code: *const VMCode, *mut u64) -> Result<()>,
    /// The same, with the number of the function's type instead of the trampoline.
    pub by_type: unsafe fn(*mut VMContext, code: *const VMCode, sig: u32, *mut u64) -> Result<()>,
    /// Enters code that was compiled for one loop, with the frame of the interpreted function that is at this loop.
    pub at_loop: unsafe fn(*mut VMContext, code: *const VMCode, frame: *mut u64) -> Result<()>,
    /// The same for code of a whole function that can also be entered at loops, at the loop of this number.
    pub at_loop_of_function:
        unsafe fn(*mut VMContext, code: *const VMCode, sig: u32, frame: *mut u64, number: u16) -> Result<()>,
}
