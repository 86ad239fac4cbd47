//! Walking the frames of compiled code: for backtraces, and for who handles an exception.

use super::arch::Target;
use super::registry;
use crate::error::{MAX_BACKTRACE, UnresolvedFrame};

/// A place in running code: an instruction, or where a call returns to, with the frame pointer there.
#[derive(Clone, Copy)]
pub(super) struct CodePosition {
    pub pc: usize,
    pub fp: usize,
}

impl CodePosition {
    /// Where the function that is here returns to.
    ///
    /// # Safety
    /// The frame must be one of compiled code, and still be there.
    pub unsafe fn caller(self) -> CodePosition {
        // SAFETY: the frame pointer leads to the caller's, the return address lies above it.
        unsafe { CodePosition { pc: *(self.fp as *const usize).add(1), fp: *(self.fp as *const usize) } }
    }
}

/// Addresses in the code that was left: the trapping instruction, then the calls, innermost first.
pub(super) struct Stack {
    pub pcs: [usize; Stack::ROOM],
    pub len: usize,
}

impl Stack {
    /// One piece of glue may be on either end.
    const ROOM: usize = MAX_BACKTRACE + 2;

    /// Follows the frame pointers up to `end`. For the signal handler: after landing, the stack below is used by
    /// others.
    ///
    /// # Safety
    /// The frames must be there, of compiled code, in a chain that leads to `end`.
    pub unsafe fn walk(mut place: CodePosition, end: usize) -> Self {
        let mut stack = Stack { pcs: [0; Stack::ROOM], len: 0 };
        let mut pc = place.pc;
        loop {
            stack.pcs[stack.len] = pc;
            stack.len += 1;
            if place.fp == end || stack.len == Stack::ROOM {
                return stack;
            }
            // SAFETY: the caller's promise.
            place = unsafe { place.caller() };
            // Return addresses are behind the call, which may be the last instruction of its function.
            pc = place.pc - 1;
        }
    }
}

/// The Wasm functions among addresses in code of live modules.
pub(super) fn frames(pcs: &[usize]) -> impl Iterator<Item = UnresolvedFrame> {
    // SAFETY: as said.
    pcs.iter().filter_map(|pc| unsafe { registry::find(*pc)?.frame(*pc) })
}

/// Where an exception thrown at `place` is handled before `end`. If it is, what it leaves is added to `left`, as far as there
/// is room, and last where it comes to the handler. From there it is thrown on if the handler does not catch it, so that
/// the function is there already.
///
/// # Safety
/// As for [`Stack::walk`].
pub(super) unsafe fn find_handler(mut place: CodePosition, end: usize, left: &mut Vec<usize>) -> Option<Target> {
    let before = left.len();
    let mut note = |pc| {
        if left.len() < left.capacity() {
            left.push(pc);
        }
    };
    if before == 0 {
        note(place.pc);
    }
    while place.fp != end {
        // SAFETY: the caller's promise; code that is being run is alive.
        let found = unsafe {
            place = place.caller();
            note(place.pc - 1);
            registry::find(place.pc - 1).and_then(|function| Some((function, function.handler_at(place.pc)?)))
        };
        if let Some((function, handler)) = found {
            let pc = function.range.start + handler.entry as usize;
            return Some(Target { pc, sp: place.fp - handler.frame as usize, fp: place.fp, payload: 0 });
        }
    }
    left.truncate(before);
    None
}
