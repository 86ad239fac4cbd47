//! What a signal handler reads of the interrupted thread's state, and changes in it.

use std::ffi::c_void;

use super::super::Target;
use super::entry::poll;

/// A thread's registers when a signal interrupted it.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::jit) struct Registers {
    /// In the order of their numbers in machine code: rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15.
    pub(super) general: [u64; 16],
    pub pc: usize,
}

impl Registers {
    /// Reads them from the context that a signal handler gets.
    ///
    /// # Safety
    /// `context` must be such a context.
    pub unsafe fn read(context: *const c_void) -> Self {
        // SAFETY: the caller's promise.
        let saved = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
        let order = [
            libc::REG_RAX,
            libc::REG_RCX,
            libc::REG_RDX,
            libc::REG_RBX,
            libc::REG_RSP,
            libc::REG_RBP,
            libc::REG_RSI,
            libc::REG_RDI,
            libc::REG_R8,
            libc::REG_R9,
            libc::REG_R10,
            libc::REG_R11,
            libc::REG_R12,
            libc::REG_R13,
            libc::REG_R14,
            libc::REG_R15,
        ];
        let general = order.map(|register| saved[register as usize] as u64);
        Registers { general, pc: saved[libc::REG_RIP as usize] as usize }
    }

    pub fn fp(&self) -> usize {
        self.general[5] as usize
    }
}

/// Makes the interrupted thread go on at a target when the signal handler returns.
///
/// # Safety
/// `context` must be one that a signal handler got, and `target` a place where the thread may go on from where it is.
pub(in crate::jit) unsafe fn redirect(context: *mut c_void, target: Target) {
    // SAFETY: the caller's promise.
    let saved = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    saved[libc::REG_RIP as usize] = target.pc as i64;
    saved[libc::REG_RSP as usize] = target.sp as i64;
    saved[libc::REG_RBP as usize] = target.fp as i64;
    saved[libc::REG_RAX as usize] = target.payload as i64;
}

/// Makes the interrupted thread call [`poll`] when the signal handler returns, and go on at `after` with all
/// registers as they are.
///
/// # Safety
/// `context` must be one that a signal handler got, the thread in compiled code whose frame is set up, and `after` be in
/// the same function, where it may go on.
pub(in crate::jit) unsafe fn redirect_to_poll(context: *mut c_void, after: usize) {
    // SAFETY: the caller's promise. Compiled code keeps nothing below its stack pointer.
    unsafe {
        let saved = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        saved[libc::REG_RSP as usize] -= 8;
        (saved[libc::REG_RSP as usize] as usize as *mut usize).write(after);
        saved[libc::REG_RIP as usize] = poll as *const () as i64;
    }
}
