//! Which functions were running, from the frames of a stopped activation.

use super::frames::Frames;
use super::machine::Machine;
use super::translate;
use crate::error::{Frame, MAX_BACKTRACE};
use crate::module::ModuleInner;

/// The frames of an activation that stopped in the instruction at `m.ip`, innermost first.
pub(super) fn frames(m: &mut Machine) -> impl Iterator<Item = Frame> {
    Frames::new(m).take(MAX_BACKTRACE).map(|frame| {
        let (module, defined) = (frame.module, frame.code.defined());
        let func_index = module.imported_funcs() + defined;
        let offset = offset_of(module, defined, frame.word);
        Frame { func_index, func_name: module.func_name(func_index).map(str::to_owned), offset }
    })
}

/// Byte offset in the module of the WebAssembly instruction that a word of bytecode came from. Only failures ask for
/// this, so it is not kept: the function is translated once more, the same way, with the positions recorded.
fn offset_of(module: &ModuleInner, defined: u32, word: u32) -> usize {
    let body = module.bodies[defined as usize].start;
    match translate::function(module, defined, true) {
        Ok(translation) => {
            let after = translation.positions.partition_point(|(at, _)| *at <= word);
            after.checked_sub(1).map_or(body, |i| translation.positions[i].1 as usize)
        }
        Err(_) => body,
    }
}
