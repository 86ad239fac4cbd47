//! Where a frame's parts are: for the translator, and for native code that takes a frame over in the middle of a loop.

use crate::module::types::{FuncType, ValType};

/// Slots of a frame's header.
pub(super) const HEADER: u32 = 4;

/// Scratch slots of functions whose frames have slots that 16 bits can't name.
const SCRATCH: u32 = 10;

/// The places of a frame's parts, as slots from its start:
///
/// ```text
/// parameters, and results over them when it returns | header (4) | scratch (10), if far | other locals | operands
/// ```
///
/// Parameters, locals and operands follow each other without gaps, a vector in two slots and all else in one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameLayout {
    pub header: u32,
    /// The first scratch slot, if the frame has some.
    pub scratch: Option<u32>,
    /// Where the locals that are no parameters begin.
    pub locals: u32,
}

impl FrameLayout {
    /// The frame of a function of type `ty`, `far` or not.
    pub(crate) fn new(ty: &FuncType, far: bool) -> Self {
        let header = ty.param_slots().max(ty.result_slots()) as u32;
        let behind = header + HEADER;
        let (scratch, locals) = if far { (Some(behind), behind + SCRATCH) } else { (None, behind) };
        FrameLayout { header, scratch, locals }
    }

    /// The slot of a value of type `ty` that comes next, at `next`, which is moved behind it.
    pub(crate) fn place(next: &mut u32, ty: &ValType) -> u32 {
        let slot = *next;
        *next += ty.slots() as u32;
        slot
    }
}
