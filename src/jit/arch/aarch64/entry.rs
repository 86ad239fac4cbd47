//! From Rust into compiled code, and out of it without returning.

use std::arch::naked_asm;
use std::mem::offset_of;

use super::super::Target;
use crate::jit::enter::{self, Activation};
use crate::vm::context::{VMCode, VMContext};

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
