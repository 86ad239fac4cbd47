//! The layout of frames, for the translator and for native code that takes over a frame at a loop.

use crate::module::types::{FuncType, ValType};

/// Slots of a frame's header.
pub(super) const HEADER: u32 = 4;

/// Scratch slots of functions with wide slots, which 16 bits can't name.
const SCRATCH: u32 = 10;

/// The parts of a frame, as slots from its start:
///
/// ```text
/// parameters, overwritten by results on return | header (4) | scratch (10), with wide slots | other locals | operands
/// ```
///
/// Parameters, locals and operands follow each other without gaps. A vector has two slots, any other value one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameLayout {
    pub header: u32,
    /// The first scratch slot, if the frame has some.
    pub scratch: Option<u32>,
    /// The first slot of the locals that are no parameters.
    pub locals: u32,
}

impl FrameLayout {
    /// The frame of a function of type `ty`; `wide_slots` if it has wide slots.
    pub(crate) fn new(ty: &FuncType, wide_slots: bool) -> Self {
        let header = ty.param_slots().max(ty.result_slots()) as u32;
        let after = header + HEADER;
        let (scratch, locals) = if wide_slots { (Some(after), after + SCRATCH) } else { (None, after) };
        FrameLayout { header, scratch, locals }
    }

    /// Gives a value of type `ty` the slot `next`, and advances that past the value.
    pub(crate) fn place(next: &mut u32, ty: &ValType) -> u32 {
        let slot = *next;
        *next += ty.slots() as u32;
        slot
    }
}
