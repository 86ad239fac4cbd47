//! Signals: from a processor exception in compiled code to the landing.
//!
//! Compiled code traps by executing an instruction that faults. The process's signal handler looks the instruction up; if it
//! is one that may trap, the thread goes on in `arch::landing`. All other faults go to the handler that was there before.

use std::ffi::{c_int, c_void};

use super::abi::trap_of;
use super::arch::{self, Registers};
use super::enter::{Trapped, current, land};
use super::registry;
use super::unwind::{CodePosition, Stack};
use crate::error::Trap;
use crate::sys::signal::forward;
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
        let code = match registry::find(registers.pc).and_then(|function| function.trap_at(registers.pc)) {
            Some(code) if is_access && !may_fault_at(address, code, &*(*activation).store) => return false,
            Some(code) => code,
            None => return false,
        };
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

/// Whether an access that traps with `code` may fault at `address`: in a memory of the store, or by following a null
/// pointer.
fn may_fault_at(address: usize, code: u8, store: &StoreOpaque) -> bool {
    match trap_of(code) {
        Some(Trap::MemoryOutOfBounds) => store.memories.iter().any(|memory| memory.address_range().contains(&address)),
        _ => address < 4096,
    }
}
