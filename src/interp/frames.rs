//! The frames of an activation, from the innermost outwards.

use std::ptr;

use super::code::{InterpretedFunction, InterpretedModule};
use super::exec::control::{cross_instance_return, exit};
use super::machine::{Context, Left, Machine};
use super::op::Plain;
use crate::vm::context::VMContext;

/// The frame of a function that is running.
pub(super) struct RunningFrame<'a> {
    pub module: &'a InterpretedModule,
    pub vmctx: *mut VMContext,
    pub code: &'a InterpretedFunction,
    pub fp: *mut u64,
    /// Index, in the words of `code`, of the instruction that it is in.
    pub word: u32,
}

/// Walks the frames: an iterator.
pub(super) struct Frames {
    /// A word of the instruction that the next frame is in.
    ip: *const u64,
    fp: *mut u64,
    vmctx: *mut VMContext,
    /// Whether `ip` is the last word of a call, not the first of an instruction.
    after_call: bool,
}

impl Frames {
    /// The frames of an activation that stopped in the instruction at `m.ip`.
    pub fn new(m: &mut Machine) -> Self {
        let after_call = std::mem::take(&mut m.context().after_call);
        Frames { ip: m.ip, fp: m.fp, vmctx: m.vmctx(), after_call }
    }

    /// The frames of an activation that is left.
    ///
    /// # Safety
    /// The context must be live, and its `left` say where it is left.
    pub unsafe fn left(context: *const Context) -> Self {
        // SAFETY: the context is live by the caller's promise.
        let (left, vmctx) = unsafe { ((*context).left, (*context).vmctx) };
        match left {
            Left::Instruction { ip, fp } => Frames { ip, fp, vmctx, after_call: false },
            Left::Caller(header) => {
                let mut frames = Frames { ip: ptr::null(), fp: ptr::null_mut(), vmctx, after_call: true };
                // SAFETY: the header of a frame that other code has taken over is still there.
                unsafe { frames.go_to_caller(header) };
                frames
            }
        }
    }

    /// Goes on at the caller of the frame with this header.
    ///
    /// # Safety
    /// The frame must be live and one of the activation, its instance be `vmctx`.
    unsafe fn go_to_caller(&mut self, header: *const u64) {
        // SAFETY: the header of a live frame was written when the frame was entered; its last two slots only in
        // cross-instance frames, which the return address identifies.
        unsafe {
            let mut ret = *header as *const u64;
            if ret == cross_instance_return() {
                self.vmctx = *header.add(2) as *mut VMContext;
                ret = *header.add(3) as *const u64;
            }
            self.fp = *header.add(1) as *mut u64;
            // The last word of the call. The outermost frame has none: `find` fails for null, which ends the walk.
            self.ip = if ret == exit() { ptr::null() } else { ret.wrapping_sub(1) };
        }
        self.after_call = true;
    }
}

impl Iterator for Frames {
    type Item = RunningFrame<'static>;

    fn next(&mut self) -> Option<RunningFrame<'static>> {
        let vmctx = self.vmctx;
        // SAFETY: contexts of running instances are live, and so are their modules.
        let module: &'static InterpretedModule = unsafe { InterpretedModule::of(vmctx) };
        let (code, word) = module.find(self.ip)?;
        // During a call whose frame is at a wide slot the frame pointer is shifted.
        let fp = self.fp.wrapping_offset(frame_shift(code.words(), word as usize, self.after_call));
        // SAFETY: the frame is that of a running function of the activation.
        unsafe { self.go_to_caller(fp.wrapping_add(code.header as usize)) };
        Some(RunningFrame { module, vmctx, code, fp, word })
    }
}

/// Offset in slots from the frame pointer to the frame's start: not zero during a call whose frame is at a wide slot.
pub(super) fn frame_shift(words: &[u64], word: usize, after_call: bool) -> isize {
    let op = words[word] as u16;
    let next = match () {
        () if after_call => word + 1,
        () if op == Plain::Call.op() => word + 1,
        () if op == Plain::CallImport.op() || op == Plain::CallRef.op() => word + 2,
        () if op == Plain::CallIndirect.op() => word + 3,
        () => return 0,
    };
    match words.get(next) {
        Some(first) if *first as u16 == Plain::ShiftFrame.op() => (*first >> 32) as i32 as isize,
        _ => 0,
    }
}
