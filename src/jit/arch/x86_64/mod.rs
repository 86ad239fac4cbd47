//! x86-64, System V. `CallConv::Tail` passes arguments like System V does: integers in rdi, rsi, rdx, rcx, r8, r9,
//! floats and vectors in xmm0 to xmm7, the rest on the stack.

mod decode;
mod entry;
mod signal;
mod trampoline;

pub(in crate::jit) use decode::{failed_check, is_probe, memory_operand};
pub(in crate::jit) use entry::{enter, landing, raise};
pub(in crate::jit) use signal::{Registers, redirect};
pub(in crate::jit) use trampoline::*;
