//! From Rust into compiled code, and out of it without returning.

use std::arch::naked_asm;
use std::mem::offset_of;

use super::super::Target;
use crate::jit::enter::{self, Activation};
use crate::vm::context::{VMCode, VMContext, VMStore};

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

/// Does what was requested of the running code, and returns with all registers as they were; or raises the error in the
/// store, as if the code that it returns to had called [`raise`].
///
/// # Safety
/// Only to be called by compiled code, or made to run by [`redirect_to_poll`](super::redirect_to_poll).
#[unsafe(naked)]
pub(in crate::jit) unsafe extern "C" fn poll() {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "push rax",
        "push rcx",
        "push rdx",
        "push rbx",
        "push rsi",
        "push rdi",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, 256",
        "movups [rsp + 0], xmm0",
        "movups [rsp + 16], xmm1",
        "movups [rsp + 32], xmm2",
        "movups [rsp + 48], xmm3",
        "movups [rsp + 64], xmm4",
        "movups [rsp + 80], xmm5",
        "movups [rsp + 96], xmm6",
        "movups [rsp + 112], xmm7",
        "movups [rsp + 128], xmm8",
        "movups [rsp + 144], xmm9",
        "movups [rsp + 160], xmm10",
        "movups [rsp + 176], xmm11",
        "movups [rsp + 192], xmm12",
        "movups [rsp + 208], xmm13",
        "movups [rsp + 224], xmm14",
        "movups [rsp + 240], xmm15",
        "mov rdi, rbp",
        "call {interrupted}",
        "test eax, eax",
        "jnz 2f",
        "movups xmm0, [rsp + 0]",
        "movups xmm1, [rsp + 16]",
        "movups xmm2, [rsp + 32]",
        "movups xmm3, [rsp + 48]",
        "movups xmm4, [rsp + 64]",
        "movups xmm5, [rsp + 80]",
        "movups xmm6, [rsp + 96]",
        "movups xmm7, [rsp + 112]",
        "movups xmm8, [rsp + 128]",
        "movups xmm9, [rsp + 144]",
        "movups xmm10, [rsp + 160]",
        "movups xmm11, [rsp + 176]",
        "movups xmm12, [rsp + 192]",
        "movups xmm13, [rsp + 208]",
        "movups xmm14, [rsp + 224]",
        "movups xmm15, [rsp + 240]",
        "add rsp, 256",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rdi",
        "pop rsi",
        "pop rbx",
        "pop rdx",
        "pop rcx",
        "pop rax",
        "pop rbp",
        "ret",
        "2:",
        "mov rsp, rbp",
        "pop rbp",
        "jmp {raise}",
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
        "push rbp",
        "mov rbp, rsp",
        "mov rax, [rdi + {store}]",
        "mov [rax + {exit_fp}], rbp",
        "call {waits}",
        "pop rbp",
        "ret",
        store = const VMContext::STORE,
        exit_fp = const VMStore::EXIT_FP,
        waits = sym enter::waits,
    )
}
