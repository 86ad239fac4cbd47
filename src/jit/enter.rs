//! Entering compiled code, and leaving it by a trap or a throw.
//!
//! [`enter`] runs compiled code and notes in an [`Activation`] how to get out again: `arch::landing` returns from the
//! innermost [`enter`] with what was saved in [`Trapped`]. No Rust frame is ever left that way: between `enter` and the
//! instruction that traps there is compiled code only.
//!
//! A throw that leaves its function is no trap: compiled code calls `arch::raise`, which finds who catches it and goes
//! on there, or lands. So do errors of host functions.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr;

use super::abi::{TRAP_RAISED, trap_of};
use super::arch::{self, Registers, Target};
use super::lower::osr::hidden_argument;
use super::module::ModuleCode;
use super::trampoline::Kind;
use super::unwind::{CodePosition, Stack, find_handler, frames};
use super::{fault, origin, registry, signals};
use crate::error::{Error, ErrorKind, Result, Trap, UnresolvedFrame};
use crate::sys;
use crate::vm::context::{VMCode, VMContext, VMFuncRef};
use crate::vm::func::call_host;
use crate::vm::store::StoreOpaque;
use crate::vm::{activation, exception};

/// One entry from Rust into compiled code. Lives on the stack of [`enter`], of which calls between engines may be many, one
/// in the other: what only traps need is kept elsewhere.
#[repr(C)]
pub(super) struct Activation {
    /// Stack and frame pointers of `arch::enter`.
    pub sp: usize,
    pub fp: usize,
    pub store: *mut StoreOpaque,
}

/// What is saved of a trap for the landing.
pub(super) struct Trapped {
    pub registers: Registers,
    pub code: u8,
    /// The address that faulted, for a memory access.
    pub address: Option<usize>,
    pub stack: Stack,
}

thread_local! {
    /// Written before the thread is redirected to the landing, and read there before other code runs.
    static TRAPPED: UnsafeCell<MaybeUninit<Trapped>> = const { UnsafeCell::new(MaybeUninit::uninit()) };
}

/// Calls a function of a module. `slots` hold the arguments and take the results.
///
/// # Errors
/// Whatever ends the call: a trap, or what a host function returned. Panics of host functions are in the store.
///
/// # Safety
/// `func` must be a live reference to a function of a module that runs compiled, of the current thread's store, the
/// store's stack limit must be set, `caller` null or a live context of the store (not null if `func` is a host
/// function), and `slots` have room for arguments and results.
pub(crate) unsafe fn call(func: *mut VMFuncRef, caller: *mut VMContext, slots: *mut u64) -> Result<()> {
    // SAFETY: the caller's promise.
    unsafe {
        if (*func).index == VMFuncRef::HOST {
            return call_host(func, caller, slots);
        }
        let vmctx = (*func).owner.cast::<VMContext>();
        let store = (*vmctx).store.cast::<StoreOpaque>();
        let glue = ModuleCode::of(vmctx).engine.trampoline(Kind::Enter, (*func).sig)?;
        enter(store, glue, (*func).callee, caller, (*func).code, slots)
    }
}

/// Calls a compiled function of an instance, of the type number `sig`. `slots` hold the arguments and take the results.
///
/// # Errors
/// As for [`call`].
///
/// # Safety
/// `vmctx` must be a live context of the current thread's store, whose stack limit must be set and whose `value_top` be
/// above all slots in use; `code` code of a function of its module, `sig` that function's, and `slots` have room for
/// arguments and results.
#[inline]
pub(crate) unsafe fn call_native(vmctx: *mut VMContext, code: *const VMCode, sig: u32, slots: *mut u64) -> Result<()> {
    // SAFETY: the caller's promise; the glue is for functions of the type.
    unsafe {
        let store = (*vmctx).store.cast::<StoreOpaque>();
        let glue = ModuleCode::of(vmctx).engine.trampoline(Kind::Enter, sig)?;
        enter(store, glue, vmctx.cast(), vmctx, code, slots)
    }
}

/// [`call_native`] with the glue given.
///
/// # Errors
/// As for [`call`].
///
/// # Safety
/// As for [`call_native`], with the glue of the function's type.
#[inline]
pub(super) unsafe fn call_by_trampoline(
    vmctx: *mut VMContext,
    glue: *const VMCode,
    code: *const VMCode,
    slots: *mut u64,
) -> Result<()> {
    // SAFETY: the caller's promise.
    unsafe { enter((*vmctx).store.cast(), glue, vmctx.cast(), vmctx, code, slots) }
}

/// Enters code that was compiled for a loop, with the frame of the interpreted function that is at this loop. The function
/// runs to its end; its results are then in the frame's first slots, and nothing else of the frame is of use.
///
/// # Errors
/// As for [`call`]. The backtrace has the function itself already, and so has an exception passed its handlers.
///
/// # Safety
/// As for [`call_native`]; `frame` must be as [`FrameLayout`](crate::interp::FrameLayout) says, with all operands in their
/// slots.
#[inline]
pub(super) unsafe fn call_loop(vmctx: *mut VMContext, code: *const VMCode, frame: *mut u64) -> Result<()> {
    // SAFETY: the caller's promise. Such code is a function (vmctx, anything, frame), which is what `enter` calls: what
    // glue would get as code to call is the frame here.
    unsafe { enter((*vmctx).store.cast(), code, vmctx.cast(), ptr::null_mut(), frame.cast(), ptr::null_mut()) }
}

/// Enters a function that was compiled for loops too, at loop `number` of those, with the frame of the interpreted
/// function that is at this loop. The function runs to its end; its results are then in the frame's first slots.
///
/// # Errors
/// As for [`call_loop`].
///
/// # Safety
/// As for [`call_loop`], with `code` compiled for more loops than `number`, and `sig` the function's type.
#[inline]
pub(super) unsafe fn call_native_at_loop(
    vmctx: *mut VMContext,
    code: *const VMCode,
    sig: u32,
    frame: *mut u64,
    number: u16,
) -> Result<()> {
    // SAFETY: the caller's promise. Parameters and results are in the frame where they are for a call; what the glue passes
    // on as the caller's context is the hidden argument that says which loop.
    unsafe {
        let store = (*vmctx).store.cast::<StoreOpaque>();
        let glue = ModuleCode::of(vmctx).engine.trampoline(Kind::Enter, sig)?;
        let hidden = hidden_argument(frame, number) as usize;
        enter(store, glue, vmctx.cast(), ptr::without_provenance_mut(hidden), code, frame)
    }
}

/// Runs `glue(callee, caller, code, slots)` in an activation of its own.
///
/// # Safety
/// As for `arch::enter`; the store is that of the code, of the current thread, with its stack limit set.
#[inline]
unsafe fn enter(
    store: *mut StoreOpaque,
    glue: *const VMCode,
    callee: *mut u8,
    caller: *mut VMContext,
    code: *const VMCode,
    slots: *mut u64,
) -> Result<()> {
    // SAFETY: the caller's promise.
    unsafe {
        if sys::stack_pointer() < (*store).vm.stack_limit {
            return Err(Trap::StackOverflow.into());
        }
        if !signals::is_prepared() {
            let engine = &(*store).engine;
            if engine.config.signals_based_traps {
                signals::prepare()?;
            }
        }
        let mut activation = Activation { sp: 0, fp: 0, store };
        let outer = std::mem::replace(&mut (*store).activation, (&raw mut activation).cast());
        activation::set_current((&raw mut activation).cast());
        let status = arch::enter(&raw mut activation, glue, callee, caller, code, slots);
        (*store).activation = outer;
        activation::set_current(outer);
        if status == 0 {
            Ok(())
        } else {
            Err(activation.error(TRAPPED.with(|trapped| trapped.get().read().assume_init())))
        }
    }
}

/// The innermost activation of the store whose code this thread runs; null if there is none.
pub(super) fn current() -> *mut Activation {
    activation::current().cast()
}

impl Activation {
    /// What the trap was, with the functions that were left.
    ///
    /// # Safety
    /// The activation must just have landed.
    #[cold]
    unsafe fn error(&self, trapped: Trapped) -> Error {
        // SAFETY: the signal handler has written it; the store is that of the code that ran.
        let store = unsafe { &mut *self.store };
        let Trapped { registers, code, address, stack } = &trapped;
        // SAFETY: code of live modules.
        let function = unsafe { registry::find(registers.pc) };
        let mut is_thrown_on = false;
        let mut error = match trap_of(*code) {
            None if store.vm.thrown.is_null() => exception::take_error(store),
            None => {
                let is_in_flight = store.vm.thrown == store.vm.in_flight;
                let pcs = std::mem::take(&mut store.propagation.pcs);
                let mut error = exception::take_error(store);
                if is_in_flight {
                    // The function that throws it on is among these.
                    is_thrown_on = !pcs.is_empty();
                    error.push_frames(frames(&pcs));
                }
                error
            }
            Some(Trap::MemoryOutOfBounds) => {
                let fault = function.and_then(|function| match address {
                    Some(address) => fault::guard_fault(function, registers, *address, store),
                    None => fault::check_fault(function, registers, store),
                });
                Error::new(ErrorKind::Trap { trap: Trap::MemoryOutOfBounds, fault })
            }
            Some(trap) => trap.into(),
        };
        if error.exit_code().is_some() {
            // It would not keep frames.
            return error;
        }
        let mut frames: Vec<UnresolvedFrame> = frames(&stack.pcs[is_thrown_on.into()..stack.len]).collect();
        if error.trap() == Some(Trap::Unreachable)
            && let (Some(innermost), Some(function)) = (frames.first_mut(), function)
            && let Some(offset) = origin::unreachable(function, registers.pc)
        {
            innermost.position = offset;
        }
        error.push_frames(frames);
        error
    }
}

/// Leaves the compiled code of an activation: where the thread is to go on.
///
/// # Safety
/// The activation must be the innermost of this thread.
pub(super) unsafe fn land(activation: *const Activation, trapped: Trapped) -> Target {
    TRAPPED.with(|place| {
        // SAFETY: read only after the landing; the activation is alive by the caller's promise.
        unsafe {
            (*place.get()).write(trapped);
            Target { pc: arch::landing as *const () as usize, sp: (*activation).sp, fp: (*activation).fp, payload: 0 }
        }
    })
}

/// What [`arch::raise`] goes by: writes to `target` where the exception in the store is handled, or else where the
/// activation ends. `frame` is the frame pointer of `raise`.
///
/// # Safety
/// Only for `raise`.
pub(super) unsafe extern "C" fn find_target(frame: usize, target: *mut Target) {
    // SAFETY: compiled code runs in an activation, which is alive and whose store is that of the code. The frames down
    // to it are of compiled code.
    unsafe {
        let activation = current();
        let Activation { fp, store, .. } = *activation;
        // Where `raise` was called: the return address is behind the call, which may be the last instruction.
        let call = CodePosition { pc: arch::raise as *const () as usize, fp: frame }.caller();
        let place = CodePosition { pc: call.pc - 1, ..call };
        let thrown = &raw mut (*store).vm.thrown;
        let handler = if (*thrown).is_null() { None } else { find_handler(place, fp, &mut (*store).propagation.pcs) };
        target.write(match handler {
            Some(handler) => {
                (*store).vm.in_flight = *thrown;
                Target { payload: thrown.replace(ptr::null_mut()) as usize, ..handler }
            }
            None => {
                let code = TRAP_RAISED.as_raw().get();
                let stack = Stack::walk(place, fp);
                land(activation, Trapped { registers: Registers::default(), code, address: None, stack })
            }
        });
    }
}

/// What goes into [`VMStore::raise`](crate::vm::context::VMStore::raise).
pub(super) fn raise_code() -> *const VMCode {
    arch::raise as *const VMCode
}
