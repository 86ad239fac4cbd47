//! When what is compiled, and how: all thresholds are here.
//!
//! Units are about what the interpreter runs in a nanosecond. A function is worth compiling when it has been interpreted
//! for a part of the time that compiling takes: what was hot is likely to stay so, and as compiling is done beside the
//! program, it may begin before it is sure to pay.

use std::ops::Range;

use super::queue::Job;
use super::{ModuleTier, Stage};
use crate::config::Tiering;
use crate::jit::{Entry, Tier};

/// Units between two looks at a function that waits for its code.
pub(super) const NEXT_BUDGET: u64 = 20_000;

/// Units that any function runs in baseline code for.
///
/// Measured on two cores: with twice this and `PER_BYTE` CPython's start took up to 5 % less, resvg up to 5 % more, and later
/// runs, for which less had been compiled, longer; with 20,000 and 200 `work.py` took a quarter more. With two thirds of it all
/// were as fast or slower.
const LEAST: u64 = 3_000;

/// Units for each byte of the body. Compiling takes 1,000 at best settings.
const PER_BYTE: u64 = 30;

/// Units that a function is interpreted for where earlier runs have left code for others.
const LEAST_LATER: u64 = 100;

/// Calls after which it is not a loop of this call that makes a function hot, but the calls.
const FEW_CALLS: u32 = 4;

/// Bytes of the bodies of functions that are compiled once for their calls and their hot loops together. Below, each has
/// code of its own, which is a little faster. Above, more than one way into its loops may take the compiler three times as
/// long: nearly two seconds for Yosys's largest function.
const LARGE: Range<usize> = 4 << 10..128 << 10;

/// Times that a loop is found hot before a function that is compiled already is compiled again for it; twice as often
/// each time, so that a function of many loops is not compiled for each.
const MISSES: u32 = 5;

/// Units that a function is interpreted for before baseline code is made of it, and units for each byte of the body. Making it
/// takes 20 to 30 a byte. Measured: with 200 and 2 CPython's start took as long, clang, which runs 17,000 functions for a short
/// time each, up to 10 % longer.
const BASELINE: u64 = 500;
const BASELINE_PER_BYTE: u64 = 10;

/// How long a function is interpreted for before it is found hot for the first time, in units.
pub(super) fn first_budget(module: &ModuleTier, defined: u32) -> u32 {
    let size = module.facts.bodies[defined as usize].len() as u64;
    // The compiler has time to spare for what earlier runs left out: they did not find it hot, but they ran it too.
    let units = if is_later_run(module) { LEAST_LATER } else { BASELINE + BASELINE_PER_BYTE * size };
    units.min(i32::MAX as u64) as u32
}

/// How long it waits then for baseline code that has been asked for so often.
pub(super) fn waiting_budget(module: &ModuleTier, defined: u32, asked: u8) -> u32 {
    let units = u64::from(first_budget(module, defined)) << asked.min(31);
    units.min(i32::MAX as u64) as u32
}

/// How long it runs in baseline code before it is worth compiling.
pub(super) fn second_budget(module: &ModuleTier, defined: u32) -> u32 {
    let size = module.facts.bodies[defined as usize].len() as u64;
    let units = if is_later_run(module) { NEXT_BUDGET } else { LEAST + PER_BYTE * size };
    units.min(i32::MAX as u64) as u32
}

/// Whether earlier runs have left code for the module.
pub(super) fn is_later_run(module: &ModuleTier) -> bool {
    module.jit.has_cached()
}

/// How much bytecode has to wait before baseline code is made of it, in words, when it has been made of so much, and a function has
/// asked for it so often: what is made is to run soon, but to make pages executable takes a quarter of a millisecond where other
/// threads run.
#[cfg(baseline)]
pub(super) fn baseline_batch(tiering: Tiering, made: usize, asked: u8) -> usize {
    match tiering {
        Tiering::Measured => (made / 4).clamp(BATCH.start, BATCH.end) >> (2 * u32::from(asked.min(15))),
        _ => 0,
    }
}

/// Words of bytecode that baseline code is made of at once, at first and later. With 1,024 at first CPython started 2 % later.
#[cfg(baseline)]
const BATCH: Range<usize> = 8 << 10..16 << 10;

/// How long it goes on then until the next look at it.
pub(super) fn next_budget(tiering: Tiering) -> u32 {
    if tiering == Tiering::Measured { NEXT_BUDGET as u32 } else { 0 }
}

/// Whether calls and loops of a function share their code.
pub(super) fn is_large(module: &ModuleTier, defined: u32) -> bool {
    match module.engine.config.tiering {
        Tiering::Measured => LARGE.contains(&module.facts.bodies[defined as usize].len()),
        // So that the tests see both.
        Tiering::AtOnce => true,
        Tiering::AtLoops | Tiering::Baseline | Tiering::BaselineAtLoops => false,
    }
}

/// Whether it is the calls of a function that make it hot, where it has code for its loops.
pub(super) fn is_called_often(tiering: Tiering, calls: u32) -> bool {
    tiering == Tiering::Measured && calls > FEW_CALLS
}

/// Whether a loop of a function that is found hot so often is worth being a way into the function's code, where the hottest
/// is found hot `most` often. If it runs on after all, the function is compiled again for it.
pub(super) fn is_worth_entering(found: u32, most: u32) -> bool {
    found >= most / 8
}

/// What to compile of a function that is hot in a loop, if anything: the loop may have been `missed` so often while there
/// was code for the function, halved for each time that this was made.
pub(super) fn entry_for_loop(
    module: &ModuleTier,
    defined: u32,
    calls: u32,
    function: Stage,
    missed: u32,
    at_loop: Entry,
) -> Option<Entry> {
    if module.engine.config.tiering != Tiering::Measured {
        return Some(if is_large(module, defined) { Entry::Function } else { at_loop });
    }
    let is_ready = matches!(function, Stage::Ready(_));
    match is_large(module, defined) {
        true => (!is_ready || missed >= MISSES).then_some(Entry::Function),
        false => Some(if calls > FEW_CALLS && !is_ready { Entry::Function } else { at_loop }),
    }
}

/// Bytes of bodies in the queue that keep a compiler busy for long: most of a second at best settings. Measured: with a fourth of
/// this Yosys, whose functions have baseline code meanwhile, took 3 to 4 % longer.
const BACKLOG: u64 = 800 << 10;

/// The same where earlier runs have left code: what is missing then is much that is little hot.
const BACKLOG_LATER: u64 = 200 << 10;

/// A job that is hotter than all that wait together, divided by this, is worth their waiting longer.
const HOTTER: u64 = 4;

/// The settings to compile with first while others wait: so many bytes of bodies, and so much urgent heat. Quick settings take
/// half the time and give code that is half as fast, which is still faster than baseline code; it counts
/// what it runs, so that what is hot of it gets best code soon. Loops that are running have to do with what they get first.
pub(super) fn tier(job: &Job, bytes: u64, heat: u64) -> Tier {
    let backlog = if job.later_run { BACKLOG_LATER } else { BACKLOG };
    match job.key.entry {
        Entry::Function if job.loops.is_empty() && bytes > backlog && heat > HOTTER * job.all_heat() => Tier::Quick,
        _ => Tier::Best,
    }
}
