//! From Rust into compiled code, and out of it without returning.

use std::arch::naked_asm;
use std::mem::offset_of;

use super::super::Target;
use crate::jit::enter::{self, Activation};
use crate::vm::context::{VMCode, VMContext};

/// Calls `trampoline(callee, caller, code, slots)`, a function of the convention of compiled code, so that [`landing`] can
/// end the call. Returns 0 if the trampoline returned, 1 if the landing ended it.
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
        "push rbp",
        "mov rbp, rsp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, 8",
        "mov [rdi + {sp}], rsp",
        "mov [rdi + {fp}], rbp",
        "mov rax, rsi",
        "mov rdi, rdx",
        "mov rsi, rcx",
        "mov rdx, r8",
        "mov rcx, r9",
        "call rax",
        "xor eax, eax",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
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
    naked_asm!("mov eax, 1", "add rsp, 8", "pop r15", "pop r14", "pop r13", "pop r12", "pop rbx", "pop rbp", "ret",)
}

/// Raises the exception or error in the store, in place of a function of any type: goes on where [`find_target`](crate::jit::enter::find_target)
/// says, with the payload in the register of the first exception payload.
///
/// # Safety
/// Only to be called by compiled code, with an exception or an error in the store of the innermost activation.
#[unsafe(naked)]
pub(in crate::jit) unsafe extern "C" fn raise() {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "sub rsp, {size}",
        "mov rdi, rbp",
        "mov rsi, rsp",
        "call {find_target}",
        "mov rcx, [rsp + {pc}]",
        "mov rax, [rsp + {payload}]",
        "mov rbp, [rsp + {fp}]",
        "mov rsp, [rsp + {sp}]",
        "jmp rcx",
        size = const size_of::<Target>(),
        find_target = sym enter::find_target,
        pc = const offset_of!(Target, pc),
        sp = const offset_of!(Target, sp),
        fp = const offset_of!(Target, fp),
        payload = const offset_of!(Target, payload),
    )
}
