//! Entering compiled code, and leaving it by a trap or a throw.
//!
//! [`enter`] runs compiled code, and records in an [`Activation`] how to get out again: a trap saves its details in
//! [`Trapped`], and the thread continues in `arch::landing`, which returns from the innermost [`enter`]. No Rust frame
//! is skipped that way: between `enter` and the instruction that traps there is compiled code only.
//!
//! A throw that leaves its function is not a trap: compiled code calls `arch::raise`, which continues at the handler
//! that catches the exception, or lands if there is none. Errors of host functions leave compiled code in the same way.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr;

use super::abi::{TRAP_RAISED, trap_of};
use super::arch::{self, Registers, Target};
use super::lower::osr::hidden_argument;
use super::module::CompiledModule;
use super::trampoline::TrampolineKind;
use super::unwind::{CodePosition, Stack, find_handler, frames};
use super::{fault, origin, registry, signals};
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result, Trap, UnresolvedFrame};
use crate::sys::{self, signal};
use crate::vm::activation::{self, FrameVisitor, Link};
use crate::vm::context::{VMCode, VMContext, VMFuncRef};
use crate::vm::exception;
use crate::vm::func::call_host;
use crate::vm::interrupt;
use crate::vm::libcalls::FAILED;
use crate::vm::ops;
use crate::vm::shared::Expected;
use crate::vm::store::StoreOpaque;

/// One entry from Rust into compiled code. It lives in the frame of [`enter`]. Calls between engines may nest many of
/// these frames, so they are kept small: what only traps need is in [`Trapped`].
#[repr(C)]
pub(super) struct Activation {
    link: Link,
    /// Stack and frame pointers of `arch::enter`.
    pub sp: usize,
    pub fp: usize,
    pub store: *mut StoreOpaque,
}

/// The details of a trap, saved until the landing.
pub(super) struct Trapped {
    pub registers: Registers,
    pub code: u8,
    /// The address that faulted, for a memory access.
    pub address: Option<usize>,
    pub stack: Stack,
}

thread_local! {
    /// Written before the thread is redirected to the landing, and read in `enter` before other code runs.
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
    // SAFETY: reference, caller and slots are as the caller promises; a function of a module has the module's context
    // as its owner, which lives as long as its store.
    unsafe {
        if (*func).index == VMFuncRef::HOST {
            return call_host(func, caller, slots);
        }
        let vmctx = (*func).owner.cast::<VMContext>();
        let store = (*vmctx).store.cast::<StoreOpaque>();
        let trampoline = CompiledModule::of(vmctx).engine.trampoline(TrampolineKind::Enter, (*func).sig)?;
        enter(store, trampoline, (*func).callee, caller, (*func).code, slots)
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
    // SAFETY: context, code and slots are as the caller promises; the trampoline is for functions of the type.
    unsafe {
        let store = (*vmctx).store.cast::<StoreOpaque>();
        let trampoline = CompiledModule::of(vmctx).engine.trampoline(TrampolineKind::Enter, sig)?;
        enter(store, trampoline, vmctx.cast(), vmctx, code, slots)
    }
}

/// [`call_native`] with the entry trampoline given.
///
/// # Errors
/// As for [`call`].
///
/// # Safety
/// As for [`call_native`]; the trampoline must be the entry trampoline for the function's type.
#[inline]
pub(super) unsafe fn call_by_trampoline(
    vmctx: *mut VMContext,
    trampoline: *const VMCode,
    code: *const VMCode,
    slots: *mut u64,
) -> Result<()> {
    // SAFETY: context, trampoline, code and slots are as the caller promises.
    unsafe { enter((*vmctx).store.cast(), trampoline, vmctx.cast(), vmctx, code, slots) }
}

/// Enters code that was compiled for a loop, with the frame of the interpreted function that is at this loop. The
/// function runs to its end; its results are then in the frame's first slots, and the rest of the frame is garbage.
///
/// # Errors
/// As for [`call`]. The backtrace already has the function itself, and an exception has already passed the function's
/// handlers.
///
/// # Safety
/// As for [`call_native`]; `frame` must be as [`FrameLayout`](crate::interp::FrameLayout) says, with all operands in
/// their slots.
#[inline]
pub(super) unsafe fn call_loop(vmctx: *mut VMContext, code: *const VMCode, frame: *mut u64) -> Result<()> {
    // SAFETY: context, code and frame are as the caller promises. Code for a loop is a function (vmctx, anything,
    // frame), so `enter` can call it in place of a trampoline: the frame takes the place of the code that a trampoline
    // would call.
    unsafe { enter((*vmctx).store.cast(), code, vmctx.cast(), ptr::null_mut(), frame.cast(), ptr::null_mut()) }
}

/// Enters a function that was compiled with loop entries, at loop `number` of these, with the frame of the interpreted
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
    // SAFETY: context, code, type and frame are as the caller promises. Parameters and results are in the frame's first
    // slots, as for a call. The trampoline passes the hidden argument, which says which loop to enter, in place of the
    // caller's context.
    unsafe {
        let store = (*vmctx).store.cast::<StoreOpaque>();
        let trampoline = CompiledModule::of(vmctx).engine.trampoline(TrampolineKind::Enter, sig)?;
        let hidden = hidden_argument(frame, number) as usize;
        enter(store, trampoline, vmctx.cast(), ptr::without_provenance_mut(hidden), code, frame)
    }
}

/// Runs `trampoline(callee, caller, code, slots)` in a new activation.
///
/// # Safety
/// As for `arch::enter`; the store is that of the code, of the current thread, with its stack limit set.
#[inline]
unsafe fn enter(
    store: *mut StoreOpaque,
    trampoline: *const VMCode,
    callee: *mut u8,
    caller: *mut VMContext,
    code: *const VMCode,
    slots: *mut u64,
) -> Result<()> {
    // SAFETY: the store is live and the trampoline can be entered, as the caller promises. A status other than zero
    // means that the activation has landed, before which `TRAPPED` was written.
    unsafe {
        // Requests are left to the code, which then has its arguments where a collection finds them.
        if sys::stack_pointer() < (*store).vm.stack_limit {
            return Err(Trap::StackOverflow.into());
        }
        if !signal::is_prepared() {
            let engine = &(*store).engine;
            prepare_thread(&engine.config)?;
        }
        if !(*store).admits_native() {
            return Err((*store).not_pinned());
        }
        let mut activation = Activation { link: Link::new(store, frames_of), sp: 0, fp: 0, store };
        let outer = std::mem::replace(&mut (*store).activation, (&raw mut activation).cast());
        activation::set_current((&raw mut activation).cast());
        Link::begin(&raw const activation.link, store);
        let status = arch::enter(&raw mut activation, trampoline, callee, caller, code, slots);
        activation.link.end(store);
        (*store).activation = outer;
        activation::set_current_anew(outer);
        if status == 0 { Ok(()) } else { Err(activation.error(trapped())) }
    }
}

/// The details of the trap that was landed from.
///
/// Not inlined, because the activation may have begun on another thread.
///
/// # Safety
/// An activation must just have landed on this thread.
#[cold]
#[inline(never)]
unsafe fn trapped() -> Trapped {
    // SAFETY: written before the landing, by the caller's promise.
    TRAPPED.with(|trapped| unsafe { trapped.get().read().assume_init() })
}

/// Sees to it that native code may run on this thread.
///
/// # Errors
/// [`Resource`](ErrorKind::Resource) if there is no memory for the stack that signals are handled on, or the thread is ending.
pub(super) fn prepare_thread(config: &Config) -> Result<()> {
    if config.signals_based_traps && !signal::is_prepared() { signal::prepare(signals::on_signal) } else { Ok(()) }
}

/// The [`FramesOf`](activation::FramesOf) of native code: follows the frame pointers from where it was left.
///
/// # Safety
/// `link` must be that of an activation that is left, with this frame pointer.
unsafe fn frames_of(link: *const Link, exit_fp: usize, visitor: &mut FrameVisitor<'_>) -> bool {
    if exit_fp == 0 {
        return false;
    }
    // SAFETY: the code that the activation was left by keeps the frame pointer, from which they lead to the activation. Its
    // module is kept alive by the store.
    unsafe {
        let (mut place, end) = (CodePosition::of_call(exit_fp), (*link.cast::<Activation>()).fp);
        while visitor(place.pc, &|| registry::find(place.pc)?.frame(place.pc)).is_continue() && place.fp != end {
            place = CodePosition::of_call(place.fp);
        }
    }
    true
}

/// The innermost activation of the store whose code this thread runs; null if there is none.
pub(super) fn current() -> *mut Activation {
    activation::current().cast()
}

impl Activation {
    /// The error for a trap or throw that ended the activation, with a backtrace.
    ///
    /// # Safety
    /// The activation must just have landed.
    #[cold]
    unsafe fn error(&self, trapped: Trapped) -> Error {
        // SAFETY: the store is that of the code that ran in this activation, so it is live, and this thread has it
        // alone.
        let store = unsafe { &mut *self.store };
        let Trapped { registers, code, address, stack } = &trapped;
        // SAFETY: the code that trapped belongs to a live module.
        let function = unsafe { registry::find(registers.pc) };
        let mut is_rethrown = false;
        let mut error = match trap_of(*code) {
            None if store.vm.thrown == 0 => exception::take_error(store),
            None => {
                let is_in_flight = store.vm.thrown == store.vm.in_flight;
                let pcs = std::mem::take(&mut store.propagation.pcs);
                let mut error = exception::take_error(store);
                if is_in_flight {
                    // These include the function that rethrew the exception.
                    is_rethrown = !pcs.is_empty();
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
            // An exit has no backtrace.
            return error;
        }
        let mut frames: Vec<UnresolvedFrame> = frames(&stack.pcs[is_rethrown.into()..stack.len]).collect();
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

/// Prepares to leave the compiled code of an activation: returns where the thread must continue.
///
/// # Safety
/// The activation must be the innermost of this thread.
pub(super) unsafe fn land(activation: *const Activation, trapped: Trapped) -> Target {
    TRAPPED.with(|place| {
        // SAFETY: `TRAPPED` is read only after the landing; the activation is alive by the caller's promise.
        unsafe {
            (*place.get()).write(trapped);
            Target { pc: arch::landing as *const () as usize, sp: (*activation).sp, fp: (*activation).fp, payload: 0 }
        }
    })
}

/// Called by [`arch::raise`]: writes to `target` where to continue: at the handler of the exception in the store, or
/// else at the end of the activation. `frame` is the frame pointer of `raise`.
///
/// # Safety
/// Must be called by `raise` only, with its frame pointer and room for a target.
pub(super) unsafe extern "C" fn find_target(frame: usize, target: *mut Target) {
    // SAFETY: only compiled code calls `raise`, so there is an activation, which is alive and has the code's store. All
    // frames between it and `raise` are those of compiled code.
    unsafe {
        let activation = current();
        let Activation { fp, store, .. } = *activation;
        // The call of `raise`.
        let place = CodePosition::of_call(frame);
        let thrown = &raw mut (*store).vm.thrown;
        let handler = if *thrown == 0 { None } else { find_handler(place, fp, &mut (*store).propagation.pcs) };
        target.write(match handler {
            Some(handler) => {
                (*store).vm.in_flight = *thrown;
                Target { payload: thrown.replace(0) as usize, ..handler }
            }
            None => {
                let code = TRAP_RAISED.as_raw().get();
                let stack = Stack::walk(place, fp);
                land(activation, Trapped { registers: Registers::default(), code, address: None, stack })
            }
        });
    }
}

/// Called by [`arch::poll`], with its frame pointer: does what was requested of the running code. Returns non-zero with an
/// error in the store if the code is to end.
///
/// # Safety
/// Must be called by `poll` only.
pub(super) unsafe extern "C" fn interrupted(frame: usize) -> u32 {
    // SAFETY: only compiled code is made to run `poll`, so there is an activation, which is alive and has the code's store.
    // While native code runs, `value_top` is above all slots in use.
    unsafe {
        let store = (*current()).store;
        (*store).vm.exit_fp = frame;
        match interrupt::poll(store) {
            Ok(()) => 0,
            Err(error) => {
                (*store).raise(error);
                1
            }
        }
    }
}

/// The value of [`VMStore::raise`](crate::vm::context::VMStore::raise).
pub(super) fn raise_code() -> *const VMCode {
    arch::raise as *const VMCode
}

/// The value of [`VMStore::poll`](crate::vm::context::VMStore::poll).
pub(super) fn poll_code() -> *const VMCode {
    arch::call_poll as *const VMCode
}

/// Added to the index of a memory if a wait there is for a value of 64 bits.
pub(super) const WAIT_64: u64 = 1 << 32;

/// Called by [`arch::wait`]: waits in a shared memory. Returns [`FAILED`] with an error in the store if the code is to end.
///
/// # Safety
/// Must be called by `wait` only, which was called by compiled code with its context.
pub(super) unsafe extern "C" fn waits(
    vmctx: *mut VMContext,
    memory: u64,
    index: u64,
    offset: u64,
    expected: u64,
    nanoseconds: i64,
) -> u64 {
    let expected = if memory & WAIT_64 == 0 { Expected::U32(expected as u32) } else { Expected::U64(expected) };
    // SAFETY: the context is that of the compiled code that called `wait`, which has set where that was left. While native code
    // runs, `value_top` is above all slots in use.
    unsafe {
        let store = (*vmctx).store.cast::<StoreOpaque>();
        let waited = ops::atomic_wait(vmctx, memory as u32, (index, offset), expected, nanoseconds);
        // The frame of `wait` is about to go.
        (*store).vm.exit_fp = 0;
        waited.map_or_else(
            |error| {
                (*store).raise(error);
                FAILED
            },
            u64::from,
        )
    }
}

/// The value of [`VMStore::wait`](crate::vm::context::VMStore::wait).
pub(super) fn wait_code() -> *const VMCode {
    arch::wait as *const VMCode
}
