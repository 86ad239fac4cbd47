//! x86-64, System V. `CallConv::Tail` passes arguments like System V does: integers in rdi, rsi, rdx, rcx, r8, r9,
//! floats and vectors in xmm0 to xmm7, the rest on the stack.

mod decode;
mod entry;
mod signal;
mod trampoline;

pub(in crate::jit) use decode::{
    FRAME_SETUP, begins_with_frame, conditional_jumps, failed_check, is_probe, memory_operand,
};
pub(in crate::jit) use entry::{enter, landing, poll as call_poll, raise, wait};
pub(in crate::jit) use signal::{Registers, redirect, redirect_to_poll};
pub(in crate::jit) use trampoline::*;
