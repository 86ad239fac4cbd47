//! The frames of an activation, from the innermost outwards.

use super::code::{Code, ModuleCode};
use super::exec::control::{cross_instance_return, exit};
use super::machine::Machine;
use super::op::Plain;
use crate::vm::context::VMContext;

/// A function that is running.
pub(super) struct RunningFrame<'a> {
    pub module: &'a ModuleCode,
    pub vmctx: *mut VMContext,
    pub code: &'a Code,
    pub fp: *mut u64,
    /// Word of the instruction that it is in.
    pub word: u32,
}

/// Where a walk has come to.
pub(super) struct Frames {
    /// In an instruction of the next frame.
    ip: *const u64,
    fp: *mut u64,
    vmctx: *mut VMContext,
    /// Whether `ip` is the last word of a call, not the first of an instruction.
    behind_call: bool,
}

impl Frames {
    /// The frames of an activation that stopped in the instruction at `m.ip`.
    pub fn new(m: &mut Machine) -> Self {
        let behind_call = std::mem::take(&mut m.context().behind_call);
        Frames { ip: m.ip, fp: m.fp, vmctx: m.vmctx(), behind_call }
    }
}

impl Iterator for Frames {
    type Item = RunningFrame<'static>;

    fn next(&mut self) -> Option<RunningFrame<'static>> {
        let vmctx = self.vmctx;
        // SAFETY: contexts of running instances are live, and so are their modules.
        let module: &'static ModuleCode = unsafe { ModuleCode::of(vmctx) };
        let (code, word) = module.find(self.ip)?;
        // Around a call whose frame is at a wide slot the frame pointer is moved.
        let fp = self.fp.wrapping_offset(frame_shift(code.words(), word as usize, self.behind_call));
        self.behind_call = true;
        let header = fp.wrapping_add(code.header as usize);
        // SAFETY: headers of live frames were written when they were entered, the last two slots where the first says
        // so.
        unsafe {
            let mut ret = *header as *const u64;
            if ret == cross_instance_return() {
                self.vmctx = *header.add(2) as *mut VMContext;
                ret = *header.add(3) as *const u64;
            }
            self.fp = *header.add(1) as *mut u64;
            // The last word of the call; the outermost frame's leads to no function, which ends the walk.
            self.ip = if ret == exit() { std::ptr::null() } else { ret.wrapping_sub(1) };
        }
        Some(RunningFrame { module, vmctx, code, fp, word })
    }
}

/// By how much a frame pointer has to be moved to the frame's start: around a call whose frame is at a wide slot it is further.
fn frame_shift(words: &[u64], word: usize, behind_call: bool) -> isize {
    let op = words[word] as u16;
    let next = match () {
        () if behind_call => word + 1,
        () if op == Plain::Call.op() => word + 1,
        () if op == Plain::CallImport.op() => word + 2,
        () if op == Plain::CallIndirect.op() => word + 3,
        () => return 0,
    };
    match words.get(next) {
        Some(first) if *first as u16 == Plain::ShiftFrame.op() => (*first >> 32) as i32 as isize,
        _ => 0,
    }
}
