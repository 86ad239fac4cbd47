//! Signals: from a processor exception in compiled code to the landing.
//!
//! Compiled code traps by executing an instruction that faults. The process's signal handler looks the instruction up; if it
//! is one that may trap, the thread goes on in `arch::landing`. All other faults go to the handler that was there before.

use std::ffi::{c_int, c_void};

use super::abi::{TRAP_POLL, trap_of};
use super::arch::{self, Registers};
use super::enter::{Trapped, current, land};
use super::registry::{self, FunctionCode};
use super::unwind::{CodePosition, Stack};
use crate::error::Trap;
use crate::sys::signal::forward;
use crate::vm::gc::heap::START;
use crate::vm::interrupt::Interrupts;
use crate::vm::store::StoreOpaque;

/// The signal handler.
///
/// It runs in the middle of anything: no allocation, and no lock unless the thread was running compiled code.
///
/// # Safety
/// Only for the system.
pub(super) unsafe extern "C" fn on_signal(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the system calls handlers with these; the rest as stated at each function.
    unsafe {
        if !handle(signal, info, context) {
            forward(signal, info, context);
        }
    }
}

/// Handles a trap of compiled code; false for anything else.
unsafe fn handle(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) -> bool {
    // SAFETY: an activation that is current is alive; its store is that of the code the thread runs.
    unsafe {
        let activation = current();
        // Signals that were sent, not caused, have codes of zero and below.
        if (*info).si_code <= 0 {
            return false;
        }
        let registers = Registers::read(context);
        let address = (*info).si_addr() as usize;
        let is_access = signal == libc::SIGSEGV || signal == libc::SIGBUS;
        if is_access && address.wrapping_sub(registers.pc) < 16 && registry::is_code(registers.pc) {
            // Fetching the instruction failed: its page is being written to, see `code_memory`. Try again.
            libc::sched_yield();
            return true;
        }
        // Baseline code may run without an activation, and does nothing that faults.
        if activation.is_null() {
            return false;
        }
        let Some(function) = registry::find(registers.pc) else { return false };
        let code = match function.trap_at(registers.pc) {
            Some(code) if is_access && !may_fault_at(address, code, &*(*activation).store) => return false,
            Some(code) => code,
            None => return false,
        };
        if let Some(after) = after_poll(function, code, registers.pc, &(*(*activation).store).interrupts) {
            arch::redirect_to_poll(context, after);
            return true;
        }
        let place = CodePosition { pc: registers.pc, fp: registers.fp() };
        let trapped = Trapped {
            registers,
            code,
            address: is_access.then_some(address),
            stack: Stack::walk(place, (*activation).fp),
        };
        arch::redirect(context, land(activation, trapped));
        true
    }
}

/// Where the code goes on if it trapped because of a request: at a poll, or at the stack check of the function's prologue,
/// which is made again then.
fn after_poll(function: &FunctionCode, code: u8, pc: usize, interrupts: &Interrupts) -> Option<usize> {
    if code == TRAP_POLL.as_raw().get() {
        return function.after_poll(pc);
    }
    let is_stack_check = trap_of(code) == Some(Trap::StackOverflow);
    (is_stack_check && interrupts.is_shown()).then_some(function.range.start + arch::FRAME_SETUP)
}

/// Whether an access that traps with `code` may fault at `address`: in a memory of the store, or by following a null
/// pointer or a null reference to an object of the heap.
fn may_fault_at(address: usize, code: u8, store: &StoreOpaque) -> bool {
    let is_null_object = address.wrapping_sub(store.vm.gc_base as usize) < START as usize;
    match trap_of(code) {
        Some(Trap::MemoryOutOfBounds) => store.memories.iter().any(|memory| memory.address_range().contains(&address)),
        Some(Trap::NullStructReference | Trap::NullArrayReference) => is_null_object,
        Some(Trap::CastFailure) => is_null_object || address < 4096,
        _ => address < 4096,
    }
}
