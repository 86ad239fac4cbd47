//! Walking the frames of compiled code: for backtraces, and to find the handler of an exception.

use super::arch::Target;
use super::registry;
use crate::error::{MAX_BACKTRACE, UnresolvedFrame};

/// A place in running code: the address of an instruction, or the return address of a call, with the frame pointer
/// there.
#[derive(Clone, Copy)]
pub(super) struct CodePosition {
    pub pc: usize,
    pub fp: usize,
}

impl CodePosition {
    /// The call of the function that has this frame: in its caller, before the return address, because the call may be the
    /// last instruction there.
    ///
    /// # Safety
    /// As for [`caller`](Self::caller).
    pub unsafe fn of_call(fp: usize) -> CodePosition {
        // SAFETY: the caller's promise. The function's own address does not matter.
        let after = unsafe { CodePosition { pc: 0, fp }.caller() };
        CodePosition { pc: after.pc - 1, ..after }
    }

    /// The place to which the function that is here returns.
    ///
    /// # Safety
    /// The frame must be one of compiled code, and still be there.
    pub unsafe fn caller(self) -> CodePosition {
        // SAFETY: the frame is there by the caller's promise: the frame pointer points to the caller's frame pointer,
        // and the return address lies above that.
        unsafe { CodePosition { pc: *(self.fp as *const usize).add(1), fp: *(self.fp as *const usize) } }
    }
}

/// Addresses in the code that is left: of the trapping instruction, then in the calls, innermost first.
pub(super) struct Stack {
    pub pcs: [usize; Stack::ROOM],
    pub len: usize,
}

impl Stack {
    /// Each end may have a trampoline.
    const ROOM: usize = MAX_BACKTRACE + 2;

    /// Follows the frame pointers up to `end`. This must be done before landing, when other code overwrites these
    /// frames.
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
            // SAFETY: the frame is there and of compiled code, by the caller's promise.
            place = unsafe { place.caller() };
            // A return address is after its call, which may be the last instruction of its function.
            pc = place.pc - 1;
        }
    }
}

/// The backtrace frames for addresses in code of live modules.
pub(super) fn frames(pcs: &[usize]) -> impl Iterator<Item = UnresolvedFrame> {
    // SAFETY: callers pass addresses in code that was running on this thread, whose modules its store keeps alive.
    pcs.iter().filter_map(|pc| unsafe { registry::find(*pc)?.frame(*pc) })
}

/// Finds the handler, in the frames up to `end`, for an exception thrown at `place`. If there is one, the addresses in
/// the frames that the exception leaves are added to `left`, as far as there is room; the last is that of the handler's
/// call. If the handler does not catch the exception, it rethrows it: `place` is then in `left` already, and not added
/// again.
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
        // SAFETY: the frames are there by the caller's promise; code that is running is alive.
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
