//! The part of an engine that stores and modules know: settings, types, counters, and function pointers into the engines.

use std::sync::Arc;

use super::context::{VMCode, VMContext};
use super::interrupt::Epochs;
use super::space::SpacePool;
use crate::config::{Config, Strategy};
use crate::error::Result;
use crate::module::registry::TypeRegistry;
use crate::module::types::FuncType;
use crate::stats::StatsCounter;
use crate::sys::StackPool;

/// The part of an engine that every room may use.
pub(crate) struct EngineCore {
    pub config: Config,
    pub types: Arc<TypeRegistry>,
    /// Idle address space, for the next memory or stack.
    pub spaces: Arc<SpacePool>,
    /// Idle native stacks, for the next asynchronous calls.
    pub stacks: StackPool,
    pub stats: StatsCounter,
    pub epochs: Epochs,
    pub hooks: &'static Hooks,
}

/// Function pointers into the JIT, by which objects of a store get their native code. A higher room fills them in.
pub(crate) struct Hooks {
    /// Gives the value of `VMStore::raise`.
    pub raise: fn() -> *const VMCode,
    /// Gives the value of `VMStore::poll`.
    pub poll: fn() -> *const VMCode,
    /// Gives the value of `VMStore::wait`.
    pub wait: fn() -> *const VMCode,
    /// Gives the first value of `VMFuncRef::code` for a function of a module.
    pub ref_entry: fn(Strategy, &FuncType) -> *const VMCode,
    /// Gives the first value of `VMFuncRef::code` for a host function.
    pub host_entry: fn(&FuncType) -> *const VMCode,
    /// Sees to it that native code may go on on this thread, to which it may have been moved.
    pub prepare_thread: fn(&Config) -> Result<()>,
    /// The value of `VMStore::native_calls`.
    pub native_calls: Option<&'static NativeCalls>,
}

#[cfg(not(jit))]
impl Hooks {
    /// The hooks of a build without JIT: no native code.
    pub const INTERPRETER_ONLY: Hooks = Hooks {
        raise: std::ptr::null,
        poll: std::ptr::null,
        wait: std::ptr::null,
        ref_entry: |_, _| std::ptr::null(),
        host_entry: |_| std::ptr::null(),
        prepare_thread: |_| Ok(()),
        native_calls: None,
    };
}

/// The functions by which interpreted code enters native code.
///
/// # Safety
/// For all: the context must be live, its store entered on the current native stack
/// ([`StoreOpaque::enter_wasm`](super::store::StoreOpaque::enter_wasm)), and the store's `value_top` above all slots in use.
#[derive(Debug)]
pub(crate) struct NativeCalls {
    /// Calls `code` through the trampoline for the function's type. The slots hold the arguments; the results replace them.
    pub by_trampoline:
        unsafe fn(*mut VMContext, trampoline: *const VMCode, code: *const VMCode, *mut u64) -> Result<()>,
    /// As `by_trampoline`, with the trampoline found by `sig`, the number of the function's type.
    pub by_type: unsafe fn(*mut VMContext, code: *const VMCode, sig: u32, *mut u64) -> Result<()>,
    /// On-stack replacement: continues at a loop in `code`, which was compiled for that loop alone. `frame` is the frame of
    /// the interpreted function, which is at the head of the loop.
    pub at_loop: unsafe fn(*mut VMContext, code: *const VMCode, frame: *mut u64) -> Result<()>,
    /// As `at_loop`, in code of a whole function that has entries at several loops; `number` says which.
    pub at_loop_of_function:
        unsafe fn(*mut VMContext, code: *const VMCode, sig: u32, frame: *mut u64, number: u16) -> Result<()>,
}
