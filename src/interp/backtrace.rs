//! Backtraces: the functions that were running when an activation stopped.

use super::code::InterpretedModule;
use super::frames::Frames;
use super::machine::Machine;
use super::translate;
use crate::error::{MAX_BACKTRACE, UnresolvedFrame};
use crate::vm::activation::Link;

/// The frames of an activation that stopped in the instruction at `m.ip`, innermost first.
pub(super) fn frames(m: &mut Machine) -> impl Iterator<Item = UnresolvedFrame> {
    unresolved(Frames::new(m))
}

/// The [`FramesOf`](crate::vm::activation::FramesOf) of interpreted code.
///
/// # Safety
/// `link` must be that of an activation of the interpreter that is left.
pub(super) unsafe fn frames_of(link: *const Link, _: usize, list: &mut Vec<UnresolvedFrame>) -> bool {
    // SAFETY: the link is the first field of the activation's context, which lives as long.
    list.extend(unresolved(unsafe { Frames::left(link.cast()) }));
    true
}

fn unresolved(frames: Frames) -> impl Iterator<Item = UnresolvedFrame> {
    frames.take(MAX_BACKTRACE).filter_map(|frame| {
        let source = frame.module.this.upgrade()?;
        Some(UnresolvedFrame { source, defined: frame.code.defined(), position: frame.word as usize })
    })
}

/// Byte offset in the module of the WebAssembly instruction that a word of bytecode was translated from. Only errors
/// need this, so it is not stored: the function is translated again, in the same way, with the positions recorded.
pub(super) fn offset_of(module: &InterpretedModule, defined: u32, word: u32) -> usize {
    let body = module.facts.bodies[defined as usize].start;
    match translate::function(&module.facts, defined, module.extras(), true) {
        Ok(translation) => {
            let after = translation.positions.partition_point(|(at, _)| *at <= word);
            after.checked_sub(1).map_or(body, |i| translation.positions[i].1 as usize)
        }
        Err(_) => body,
    }
}
