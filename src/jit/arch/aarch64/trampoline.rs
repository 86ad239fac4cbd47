//! Code that is called in place of functions that are not compiled, or not by the best tier yet. It has the convention of
//! compiled code.

use std::arch::naked_asm;

use crate::jit::{Tier, lazy_compile};
use crate::vm::context::{VMContext, VMFuncRef};

/// A lazy-compile trampoline: calls `$resolve` with the two hidden arguments and jumps to the code that it returns. All argument
/// registers keep their values; `$after` replaces the callee's context.
macro_rules! lazy_compile_trampoline {
    ($(#[$doc:meta])* $name:ident, $resolve:path, [$($after:literal)*] $(, $operand:ident)?) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// Only to be called by compiled code, in place of a function.
        #[unsafe(naked)]
        pub(in crate::jit) unsafe extern "C" fn $name() {
            naked_asm!(
                "stp x29, x30, [sp, #-208]!",
                "mov x29, sp",
                "stp x2, x3, [sp, #16]",
                "stp x4, x5, [sp, #32]",
                "stp x6, x7, [sp, #48]",
                "str x8, [sp, #64]",
                "stp q0, q1, [sp, #80]",
                "stp q2, q3, [sp, #112]",
                "stp q4, q5, [sp, #144]",
                "stp q6, q7, [sp, #176]",
                "mov x0, x2",
                "mov x1, x3",
                "bl {resolve}",
                "mov x16, x0",
                "ldp x2, x3, [sp, #16]",
                "ldp x4, x5, [sp, #32]",
                "ldp x6, x7, [sp, #48]",
                "ldr x8, [sp, #64]",
                "ldp q0, q1, [sp, #80]",
                "ldp q2, q3, [sp, #112]",
                "ldp q4, q5, [sp, #144]",
                "ldp q6, q7, [sp, #176]",
                $($after,)*
                "ldp x29, x30, [sp], #208",
                "br x16",
                resolve = sym $resolve,
                $($operand = const VMFuncRef::CALLEE,)?
            )
        }
    };
}

lazy_compile_trampoline! {
    /// The entry of a function that is not compiled yet.
    lazy_compile_entry, lazy_compile::resolve, []
}

lazy_compile_trampoline! {
    /// The code of a `VMFuncRef` that has not been called yet.
    lazy_compile_ref, lazy_compile::resolve_ref, ["ldr x2, [x2, {callee}]"], callee
}

/// As above.
pub(in crate::jit) use indirect_via_entry as indirect_via_entry_area;
/// The address of the area for results has a register of its own, so these functions need nothing different.
pub(in crate::jit) use lazy_compile_entry as lazy_compile_entry_area;
/// As above.
pub(in crate::jit) use lazy_compile_ref as lazy_compile_ref_area;

/// The code of a `VMFuncRef` to a function that has no best code yet: jumps to whatever the function's entry points to. If that
/// is the best code, it is written to the reference, so that the next call goes there directly.
///
/// # Safety
/// Only to be called by compiled code, in place of a function.
#[unsafe(naked)]
pub(in crate::jit) unsafe extern "C" fn indirect_via_entry() {
    naked_asm!(
        "ldr x9, [x2, {owner}]",
        "ldr w3, [x2, {index}]",
        "ldr x10, [x9, {tiers}]",
        "add x10, x10, x3",
        // The tier is read first, as it is written after the entry.
        "ldarb w10, [x10]",
        "ldr x11, [x9, {entries}]",
        "ldr x16, [x11, x3, lsl #3]",
        "cmp w10, {best}",
        "b.ne 2f",
        "str x16, [x2, {code}]",
        "str x9, [x2, {callee}]",
        "2:",
        "mov x2, x9",
        "br x16",
        owner = const VMFuncRef::OWNER,
        index = const VMFuncRef::INDEX,
        code = const VMFuncRef::CODE,
        callee = const VMFuncRef::CALLEE,
        tiers = const VMContext::TIERS,
        entries = const VMContext::ENTRIES,
        best = const Tier::Best as u8,
    )
}
