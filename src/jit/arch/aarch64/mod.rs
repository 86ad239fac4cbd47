//! AArch64, AAPCS64. `CallConv::Tail` passes arguments like AAPCS64 does, but leaves out x0 and x1: integers in x2 to
//! x7, floats and vectors in v0 to v7, the address of an area for results in x8, the rest on the stack.

mod decode;
mod entry;
mod signal;
mod trampoline;

pub(in crate::jit) use decode::{
    FRAME_SETUP, begins_with_frame, conditional_jumps, failed_check, is_probe, memory_operand,
};
pub(in crate::jit) use entry::{call_poll, enter, landing, raise, wait};
pub(in crate::jit) use signal::{Registers, redirect, redirect_to_poll};
pub(in crate::jit) use trampoline::*;
