//! The tiering policy: all thresholds that decide what is compiled, when, and at which tier.
//!
//! A unit is about what the interpreter runs in a nanosecond. A function is worth compiling when it has been
//! interpreted for a fraction of the time that compiling takes: a hot function is likely to stay hot, and because the
//! compiler runs beside the program, it may begin before compiling is sure to pay.

use std::ops::Range;

use super::queue::Job;
use super::{ModuleTier, Stage};
use crate::config::Tiering;
use crate::jit::{CodeEntry, Tier};

/// Budget of a function that waits for its code: units until it is found hot again.
pub(super) const NEXT_BUDGET: u64 = 20_000;

/// Units that any function runs in baseline code before it is worth compiling; see `PER_BYTE`.
///
/// Measured on two cores: with twice this and `PER_BYTE` CPython's start took up to 5 % less, resvg up to 5 % more, and
/// later runs, for which less had been compiled, longer; with 20,000 and 200 `work.py` took a quarter more. With two
/// thirds of it all were as fast or slower.
const LEAST: u64 = 3_000;

/// Units to add to `LEAST` for each byte of the body. Compiling takes 1,000 units a byte at best settings.
const PER_BYTE: u64 = 30;

/// Units that a function is interpreted for before it is hot, if earlier runs have left code for other functions.
const LEAST_LATER: u64 = 100;

/// A function with more calls than this is taken to be hot by its calls, not by a loop of the present call.
const FEW_CALLS: u32 = 4;

/// Functions with bodies of so many bytes are compiled once, for their calls and their hot loops together. In smaller
/// functions each hot loop has code of its own, which is a little faster. So it is in larger ones, because code with
/// several entries may take the compiler three times as long: nearly two seconds for Yosys's largest function.
const LARGE: Range<usize> = 4 << 10..128 << 10;

/// A function that has code is compiled again for a loop without an entry when the loop was found hot so often; twice
/// as often each time, so that a function of many loops is not compiled for each.
const HOT_WITHOUT_ENTRY: u32 = 5;

/// Units that a function is interpreted for before baseline code is compiled from it, and units to add for each byte of
/// the body. Compiling it takes 20 to 30 units a byte. Measured: with 200 and 2 CPython's start took as long; clang,
/// which runs 17,000 functions for a short time each, up to 10 % longer.
const BASELINE: u64 = 500;
const BASELINE_PER_BYTE: u64 = 10;

/// Units that a function is interpreted for before it is found hot for the first time.
pub(super) fn first_budget(module: &ModuleTier, defined: u32) -> u32 {
    let size = module.facts.bodies[defined as usize].len() as u64;
    // In later runs the compiler has time to spare for functions that were not hot enough in earlier runs.
    let units = if is_later_run(module) { LEAST_LATER } else { BASELINE + BASELINE_PER_BYTE * size };
    units.min(i32::MAX as u64) as u32
}

/// Units that a function is interpreted for after it has requested baseline code, `requests` times before.
pub(super) fn waiting_budget(module: &ModuleTier, defined: u32, requests: u8) -> u32 {
    let units = u64::from(first_budget(module, defined)) << requests.min(31);
    units.min(i32::MAX as u64) as u32
}

/// Units that a function runs in baseline code before it is worth compiling.
pub(super) fn second_budget(module: &ModuleTier, defined: u32) -> u32 {
    let size = module.facts.bodies[defined as usize].len() as u64;
    let units = if is_later_run(module) { NEXT_BUDGET } else { LEAST + PER_BYTE * size };
    units.min(i32::MAX as u64) as u32
}

/// Whether earlier runs have left code for the module.
pub(super) fn is_later_run(module: &ModuleTier) -> bool {
    module.jit.has_cached()
}

/// How many words of bytecode have to wait before baseline code is compiled from them together, after `made` words, and
/// for a function that has requested it `requests` times before. Large batches save time, because making pages
/// executable takes a quarter of a millisecond while other threads run; small ones make code available sooner.
#[cfg(baseline)]
pub(super) fn baseline_batch(tiering: Tiering, made: usize, requests: u8) -> usize {
    match tiering {
        Tiering::Measured => (made / 4).clamp(BATCH.start, BATCH.end) >> (2 * u32::from(requests.min(15))),
        _ => 0,
    }
}

/// Words of bytecode in one batch of baseline code, at first and later. With 1,024 at first CPython started 2 % later.
#[cfg(baseline)]
const BATCH: Range<usize> = 8 << 10..16 << 10;

/// The budget of a function that was found hot and continues as before.
pub(super) fn next_budget(tiering: Tiering) -> u32 {
    if tiering == Tiering::Measured { NEXT_BUDGET as u32 } else { 0 }
}

/// Whether a function is compiled once for its calls and its hot loops together.
pub(super) fn is_large(module: &ModuleTier, defined: u32) -> bool {
    match module.engine.config.tiering {
        Tiering::Measured => LARGE.contains(&module.facts.bodies[defined as usize].len()),
        // So that tests see both kinds of code.
        Tiering::AtOnce => true,
        Tiering::AtLoops | Tiering::Baseline | Tiering::BaselineAtLoops => false,
    }
}

/// Whether a function with native code for a loop is called often enough to be compiled for its calls too.
pub(super) fn is_called_often(tiering: Tiering, calls: u32) -> bool {
    tiering == Tiering::Measured && calls > FEW_CALLS
}

/// Whether a loop that was found hot `found` times gets an entry in the function's code, if the hottest loop was found
/// hot `most` times. If the loop runs on after all, the function is compiled again for it.
pub(super) fn is_worth_entering(found: u32, most: u32) -> bool {
    found >= most / 8
}

/// What to compile, if anything, for a function that is hot in a loop. `hot_without_entry` says how often the loop was
/// hot without an entry in the function's code, halved for each time that the function was compiled.
pub(super) fn entry_for_loop(
    module: &ModuleTier,
    defined: u32,
    calls: u32,
    function: Stage,
    hot_without_entry: u32,
    at_loop: CodeEntry,
) -> Option<CodeEntry> {
    if module.engine.config.tiering != Tiering::Measured {
        return Some(if is_large(module, defined) { CodeEntry::Function } else { at_loop });
    }
    let is_ready = matches!(function, Stage::Ready(_));
    match is_large(module, defined) {
        true => (!is_ready || hot_without_entry >= HOT_WITHOUT_ENTRY).then_some(CodeEntry::Function),
        false => Some(if calls > FEW_CALLS && !is_ready { CodeEntry::Function } else { at_loop }),
    }
}

/// Bytes of queued bodies from which on functions are compiled with quick settings first: they keep a compiler busy for
/// most of a second at best settings. Measured: with a fourth of this Yosys, whose functions have baseline code
/// meanwhile, took 3 to 4 % longer.
const BACKLOG: u64 = 800 << 10;

/// The same if earlier runs have left code: many functions that are not very hot are missing then.
const BACKLOG_LATER: u64 = 200 << 10;

/// A job that is hotter than all waiting jobs together, divided by this, gets the best settings at once: the others
/// wait longer for it.
const HOTTER: u64 = 4;

/// The tier to compile a job at, while jobs of `bytes` bytes of bodies and with `heat` units of heat wait. Quick
/// settings take half the time and give code that is half as fast, which is still faster than baseline code. Quick code
/// counts what it runs, so that hot functions get best code soon. Loop code is never replaced while it runs, so it is
/// always compiled at the best tier.
pub(super) fn tier(job: &Job, bytes: u64, heat: u64) -> Tier {
    let backlog = if job.later_run { BACKLOG_LATER } else { BACKLOG };
    match job.key.entry {
        CodeEntry::Function if job.loops.is_empty() && bytes > backlog && heat > HOTTER * job.all_heat() => Tier::Quick,
        _ => Tier::Best,
    }
}
