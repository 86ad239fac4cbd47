//! Code that is called in place of functions that are not compiled, or not by the best tier yet. It has the convention of
//! compiled code.

use std::arch::naked_asm;

use crate::jit::{Tier, lazy_compile};
use crate::vm::context::{VMContext, VMFuncRef};

/// A lazy-compile trampoline: calls `$resolve` with the two hidden arguments and jumps to the code that it returns. All argument
/// registers keep their values; `$before` moves the hidden arguments to the first two, `$after` replaces the callee's context.
macro_rules! lazy_compile_trampoline {
    ($(#[$doc:meta])* $name:ident, $resolve:path, [$($before:literal)*], [$($after:literal)*] $(, $operand:ident)?) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// Only to be called by compiled code, in place of a function.
        #[unsafe(naked)]
        pub(in crate::jit) unsafe extern "C" fn $name() {
            naked_asm!(
                "push rbp",
                "mov rbp, rsp",
                "sub rsp, 176",
                "mov [rsp], rdi",
                "mov [rsp + 8], rsi",
                "mov [rsp + 16], rdx",
                "mov [rsp + 24], rcx",
                "mov [rsp + 32], r8",
                "mov [rsp + 40], r9",
                "movaps [rsp + 48], xmm0",
                "movaps [rsp + 64], xmm1",
                "movaps [rsp + 80], xmm2",
                "movaps [rsp + 96], xmm3",
                "movaps [rsp + 112], xmm4",
                "movaps [rsp + 128], xmm5",
                "movaps [rsp + 144], xmm6",
                "movaps [rsp + 160], xmm7",
                $($before,)*
                "call {resolve}",
                "mov r11, rax",
                "mov rdi, [rsp]",
                "mov rsi, [rsp + 8]",
                "mov rdx, [rsp + 16]",
                "mov rcx, [rsp + 24]",
                "mov r8, [rsp + 32]",
                "mov r9, [rsp + 40]",
                "movaps xmm0, [rsp + 48]",
                "movaps xmm1, [rsp + 64]",
                "movaps xmm2, [rsp + 80]",
                "movaps xmm3, [rsp + 96]",
                "movaps xmm4, [rsp + 112]",
                "movaps xmm5, [rsp + 128]",
                "movaps xmm6, [rsp + 144]",
                "movaps xmm7, [rsp + 160]",
                $($after,)*
                "mov rsp, rbp",
                "pop rbp",
                "jmp r11",
                resolve = sym $resolve,
                $($operand = const VMFuncRef::CALLEE,)?
            )
        }
    };
}

lazy_compile_trampoline! {
    /// The entry of a function that is not compiled yet.
    lazy_compile_entry, lazy_compile::resolve, [], []
}

lazy_compile_trampoline! {
    /// [`lazy_compile_entry`] for functions whose first argument is the address of an area for results.
    lazy_compile_entry_area, lazy_compile::resolve, ["mov rdi, rsi" "mov rsi, rdx"], []
}

lazy_compile_trampoline! {
    /// The code of a `VMFuncRef` that has not been called yet.
    lazy_compile_ref, lazy_compile::resolve_ref, [], ["mov rdi, [rdi + {callee}]"], callee
}

lazy_compile_trampoline! {
    /// [`lazy_compile_ref`] for functions whose first argument is the address of an area for results.
    lazy_compile_ref_area, lazy_compile::resolve_ref, ["mov rdi, rsi" "mov rsi, rdx"], ["mov rsi, [rsi + {callee}]"], callee
}

/// The code of a `VMFuncRef` to a function that has no best code yet: jumps to whatever the function's entry points to. If that
/// is the best code, it is written to the reference, so that the next call goes there directly.
macro_rules! indirect_via_entry {
    ($(#[$doc:meta])* $name:ident, $reference:literal, $index:literal, $index32:literal) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// Only to be called by compiled code, in place of a function.
        #[unsafe(naked)]
        pub(in crate::jit) unsafe extern "C" fn $name() {
            naked_asm!(
                concat!("mov r11, [", $reference, " + {owner}]"),
                concat!("mov ", $index32, ", [", $reference, " + {index}]"),
                "mov r10, [r11 + {tiers}]",
                "mov rax, [r11 + {entries}]",
                // The tier is read first, as it is written after the entry.
                concat!("cmp byte ptr [r10 + ", $index, "], {best}"),
                concat!("mov rax, [rax + 8 * ", $index, "]"),
                "jne 2f",
                concat!("mov [", $reference, " + {code}], rax"),
                concat!("mov [", $reference, " + {callee}], r11"),
                "2:",
                concat!("mov ", $reference, ", r11"),
                "jmp rax",
                owner = const VMFuncRef::OWNER,
                index = const VMFuncRef::INDEX,
                code = const VMFuncRef::CODE,
                callee = const VMFuncRef::CALLEE,
                tiers = const VMContext::TIERS,
                entries = const VMContext::ENTRIES,
                best = const Tier::Best as u8,
            )
        }
    };
}

indirect_via_entry! {
    /// For functions without an area for results.
    indirect_via_entry, "rdi", "rsi", "esi"
}

indirect_via_entry! {
    /// For functions whose first argument is the address of an area for results.
    indirect_via_entry_area, "rsi", "rdx", "edx"
}
