//! Backtraces: the functions that were running when an activation stopped.

use super::code::InterpretedModule;
use super::frames::{Frames, RunningFrame};
use super::machine::Machine;
use super::translate;
use crate::error::{MAX_BACKTRACE, UnresolvedFrame};
use crate::vm::activation::{FrameVisitor, Link};

/// The frames of an activation that stopped in the instruction at `m.ip`, innermost first.
pub(super) fn frames(m: &mut Machine) -> impl Iterator<Item = UnresolvedFrame> {
    Frames::new(m).take(MAX_BACKTRACE).filter_map(|frame| unresolved(&frame))
}

/// The [`FramesOf`](crate::vm::activation::FramesOf) of interpreted code.
///
/// # Safety
/// `link` must be that of an activation of the interpreter that is left.
pub(super) unsafe fn frames_of(link: *const Link, _: usize, visitor: &mut FrameVisitor<'_>) -> bool {
    // SAFETY: the link is the first field of the activation's context, which lives as long.
    for frame in unsafe { Frames::left(link.cast()) } {
        let address = frame.code.words().as_ptr().wrapping_add(frame.word as usize) as usize;
        if visitor(address, &|| unresolved(&frame)).is_break() {
            break;
        }
    }
    true
}

fn unresolved(frame: &RunningFrame<'_>) -> Option<UnresolvedFrame> {
    let source = frame.module.this.upgrade()?;
    Some(UnresolvedFrame { source, defined: frame.code.defined(), position: frame.word as usize })
}

/// Byte offsets in the module of the WebAssembly instructions that words of a function's bytecode were translated from. Only errors
/// and profiles need this, so it is not stored: the function is translated again, in the same way, with the positions recorded.
pub(super) fn offsets_of(module: &InterpretedModule, defined: u32, words: &[usize]) -> impl Iterator<Item = usize> {
    let body = module.facts.bodies[defined as usize].start;
    let translation = translate::function(&module.facts, defined, module.extras(), true);
    let positions = translation.map(|translation| translation.positions).unwrap_or_default();
    words.iter().map(move |word| {
        let after = positions.partition_point(|(at, _)| *at as usize <= *word);
        after.checked_sub(1).map_or(body, |i| positions[i].1 as usize)
    })
}
