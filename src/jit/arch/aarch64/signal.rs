//! What a signal handler reads of the interrupted thread's state, and changes in it.

use std::ffi::c_void;

use super::super::Target;
use super::entry::poll;

/// A thread's registers when a signal interrupted it.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::jit) struct Registers {
    /// x0 to x30, then the stack pointer.
    pub(super) general: [[u64; 8]; 4],
    pub pc: usize,
}

impl Registers {
    /// Reads them from the context that a signal handler gets.
    ///
    /// # Safety
    /// `context` must be such a context.
    pub unsafe fn read(context: *const c_void) -> Self {
        // SAFETY: the caller's promise.
        let saved = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext };
        let register = |number: usize| if number == 31 { saved.sp } else { saved.regs[number] };
        let general = std::array::from_fn(|high| std::array::from_fn(|low| register(8 * high + low)));
        Registers { general, pc: saved.pc as usize }
    }

    pub(super) fn get(&self, number: u32) -> u64 {
        let number = (number & 31) as usize;
        self.general[number / 8][number % 8]
    }

    pub fn fp(&self) -> usize {
        self.get(29) as usize
    }
}

/// Makes the interrupted thread go on at a target when the signal handler returns.
///
/// # Safety
/// `context` must be one that a signal handler got, and `target` a place where the thread may go on from where it is.
pub(in crate::jit) unsafe fn redirect(context: *mut c_void, target: Target) {
    // SAFETY: the caller's promise.
    let saved = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext };
    saved.pc = target.pc as u64;
    saved.sp = target.sp as u64;
    saved.regs[29] = target.fp as u64;
    saved.regs[0] = target.payload as u64;
}

/// Makes the interrupted thread call [`poll`] when the signal handler returns, and go on at `after` with all
/// registers as they are, but for x16 and x17.
///
/// # Safety
/// `context` must be one that a signal handler got, the thread in compiled code whose frame is set up, and `after` be in
/// the same function, where it may go on.
pub(in crate::jit) unsafe fn redirect_to_poll(context: *mut c_void, after: usize) {
    // SAFETY: the caller's promise.
    let saved = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext };
    saved.regs[16] = after as u64;
    saved.pc = poll as *const () as u64;
}
