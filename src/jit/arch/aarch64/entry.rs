//! From Rust into compiled code, and out of it without returning.

use std::arch::naked_asm;
use std::mem::offset_of;

use super::super::Target;
use crate::jit::enter::{self, Activation};
use crate::vm::context::{VMCode, VMContext, VMStore};

/// The end of [`enter`] and [`landing`].
macro_rules! leave {
    () => {
        "ldp d8, d9, [sp, #96]
         ldp d10, d11, [sp, #112]
         ldp d12, d13, [sp, #128]
         ldp d14, d15, [sp, #144]
         ldp x19, x20, [sp, #16]
         ldp x21, x22, [sp, #32]
         ldp x23, x24, [sp, #48]
         ldp x25, x26, [sp, #64]
         ldp x27, x28, [sp, #80]
         ldp x29, x30, [sp], #160
         ret"
    };
}

/// Calls `trampoline(callee, caller, code, slots)`, a function of the convention of compiled code, so that [`landing`] can
/// end the call. Returns 0 if the trampoline returned, 1 if the landing ended it. Its arguments are in x2 to x5, where they already are.
///
/// # Safety
/// The trampoline must be one for the type of `code`, and `slots` what it needs.
#[unsafe(naked)]
pub(in crate::jit) unsafe extern "C" fn enter(
    activation: *mut Activation,
    trampoline: *const VMCode,
    callee: *mut u8,
    caller: *mut VMContext,
    code: *const VMCode,
    slots: *mut u64,
) -> u32 {
    naked_asm!(
        "stp x29, x30, [sp, #-160]!",
        "mov x29, sp",
        "stp x19, x20, [sp, #16]",
        "stp x21, x22, [sp, #32]",
        "stp x23, x24, [sp, #48]",
        "stp x25, x26, [sp, #64]",
        "stp x27, x28, [sp, #80]",
        "stp d8, d9, [sp, #96]",
        "stp d10, d11, [sp, #112]",
        "stp d12, d13, [sp, #128]",
        "stp d14, d15, [sp, #144]",
        "mov x9, sp",
        "str x9, [x0, {sp}]",
        "str x29, [x0, {fp}]",
        "blr x1",
        "mov w0, #0",
        leave!(),
        sp = const offset_of!(Activation, sp),
        fp = const offset_of!(Activation, fp),
    )
}

/// Ends the call that [`enter`] made: a thread that trapped goes on here, with the stack pointer that `enter` saved.
///
/// # Safety
/// Only to be jumped to with that stack pointer, before `enter` returns.
#[unsafe(naked)]
pub(in crate::jit) unsafe extern "C" fn landing() {
    naked_asm!("mov w0, #1", leave!())
}

/// Raises the exception or error in the store, in place of a function of any type: goes on where [`find_target`](crate::jit::enter::find_target)
/// says, with the payload in the register of the first exception payload.
///
/// # Safety
/// Only to be called by compiled code, with an exception or an error in the store of the innermost activation.
#[unsafe(naked)]
pub(in crate::jit) unsafe extern "C" fn raise() {
    naked_asm!(
        "stp x29, x30, [sp, #-16]!",
        "mov x29, sp",
        "sub sp, sp, {size}",
        "mov x0, x29",
        "mov x1, sp",
        "bl {find_target}",
        "ldr x1, [sp, {pc}]",
        "ldr x0, [sp, {payload}]",
        "ldr x29, [sp, {fp}]",
        "ldr x2, [sp, {sp}]",
        "mov sp, x2",
        "br x1",
        size = const size_of::<Target>(),
        find_target = sym enter::find_target,
        pc = const offset_of!(Target, pc),
        sp = const offset_of!(Target, sp),
        fp = const offset_of!(Target, fp),
        payload = const offset_of!(Target, payload),
    )
}

/// [`poll`], called as a function without parameters.
///
/// # Safety
/// Only to be called by compiled code.
#[unsafe(naked)]
pub(in crate::jit) unsafe extern "C" fn call_poll() {
    naked_asm!("mov x16, x30", "b {poll}", poll = sym poll)
}

/// Does what was requested of the running code, and returns with all registers as they were, except x16 and x17, in which
/// compiled code keeps nothing between two instructions; or raises the error in the store, as if the code that it returns
/// to had called [`raise`]. The address to return to is in x16.
///
/// # Safety
/// Only to be jumped to by [`call_poll`], or made to run by [`redirect_to_poll`](super::redirect_to_poll).
#[unsafe(naked)]
pub(in crate::jit) unsafe extern "C" fn poll() {
    naked_asm!(
        "stp x29, x16, [sp, #-16]!",
        "mov x29, sp",
        "sub sp, sp, #736",
        "stp x0, x1, [sp, #0]",
        "stp x2, x3, [sp, #16]",
        "stp x4, x5, [sp, #32]",
        "stp x6, x7, [sp, #48]",
        "stp x8, x9, [sp, #64]",
        "stp x10, x11, [sp, #80]",
        "stp x12, x13, [sp, #96]",
        "stp x14, x15, [sp, #112]",
        "stp x17, x19, [sp, #128]",
        "stp x20, x21, [sp, #144]",
        "stp x22, x23, [sp, #160]",
        "stp x24, x25, [sp, #176]",
        "stp x26, x27, [sp, #192]",
        "stp x28, x30, [sp, #208]",
        "stp q0, q1, [sp, #224]",
        "stp q2, q3, [sp, #256]",
        "stp q4, q5, [sp, #288]",
        "stp q6, q7, [sp, #320]",
        "stp q8, q9, [sp, #352]",
        "stp q10, q11, [sp, #384]",
        "stp q12, q13, [sp, #416]",
        "stp q14, q15, [sp, #448]",
        "stp q16, q17, [sp, #480]",
        "stp q18, q19, [sp, #512]",
        "stp q20, q21, [sp, #544]",
        "stp q22, q23, [sp, #576]",
        "stp q24, q25, [sp, #608]",
        "stp q26, q27, [sp, #640]",
        "stp q28, q29, [sp, #672]",
        "stp q30, q31, [sp, #704]",
        "mov x0, x29",
        "bl {interrupted}",
        "cbnz w0, 2f",
        "ldp q0, q1, [sp, #224]",
        "ldp q2, q3, [sp, #256]",
        "ldp q4, q5, [sp, #288]",
        "ldp q6, q7, [sp, #320]",
        "ldp q8, q9, [sp, #352]",
        "ldp q10, q11, [sp, #384]",
        "ldp q12, q13, [sp, #416]",
        "ldp q14, q15, [sp, #448]",
        "ldp q16, q17, [sp, #480]",
        "ldp q18, q19, [sp, #512]",
        "ldp q20, q21, [sp, #544]",
        "ldp q22, q23, [sp, #576]",
        "ldp q24, q25, [sp, #608]",
        "ldp q26, q27, [sp, #640]",
        "ldp q28, q29, [sp, #672]",
        "ldp q30, q31, [sp, #704]",
        "ldp x0, x1, [sp, #0]",
        "ldp x2, x3, [sp, #16]",
        "ldp x4, x5, [sp, #32]",
        "ldp x6, x7, [sp, #48]",
        "ldp x8, x9, [sp, #64]",
        "ldp x10, x11, [sp, #80]",
        "ldp x12, x13, [sp, #96]",
        "ldp x14, x15, [sp, #112]",
        "ldp x17, x19, [sp, #128]",
        "ldp x20, x21, [sp, #144]",
        "ldp x22, x23, [sp, #160]",
        "ldp x24, x25, [sp, #176]",
        "ldp x26, x27, [sp, #192]",
        "ldp x28, x30, [sp, #208]",
        "mov sp, x29",
        "ldp x29, x16, [sp], #16",
        "br x16",
        "2:",
        "mov sp, x29",
        "ldp x29, x30, [sp], #16",
        "b {raise}",
        interrupted = sym enter::interrupted,
        raise = sym raise,
    )
}

/// Has [`waits`](crate::jit::enter::waits) wait in a shared memory, with the same arguments, after it has told the store where the code
/// was left.
///
/// # Safety
/// Only to be called by compiled code, with its own context.
#[unsafe(naked)]
pub(in crate::jit) unsafe extern "C" fn wait() {
    naked_asm!(
        "stp x29, x30, [sp, #-16]!",
        "mov x29, sp",
        "ldr x16, [x0, #{store}]",
        "str x29, [x16, #{exit_fp}]",
        "bl {waits}",
        "ldp x29, x30, [sp], #16",
        "ret",
        store = const VMContext::STORE,
        exit_fp = const VMStore::EXIT_FP,
        waits = sym enter::waits,
    )
}
