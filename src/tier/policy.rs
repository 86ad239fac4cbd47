//! The tiering policy: all thresholds that decide what is compiled, when, and at which tier.
//!
//! A unit is about an instruction of bytecode. How long a function goes on running is not known; the best guess is as
//! long as it ran so far. So a function is compiled when what compiled code would have saved so far is as much as
//! compiling it costs: at worst both are paid. The cost is not all of the processor time that compiling takes: with a
//! spare processor the program does not wait for it. [`price`] says how much of it counts.
//!
//! What is measured here, to be measured again when baseline code or the compiler get faster: [`SPEEDUP`] and [`UNIT`].

use std::ops::Range;

use super::Stage;
use super::load::Load;
use crate::config::Tiering;
use crate::jit::CodeEntry;

/// How many times as long baseline code takes as the best code: over kernels and programs, geometric mean.
const SPEEDUP: f64 = 2.2;

/// Nanoseconds that baseline code takes for a unit.
const UNIT: f64 = 0.4;

/// Nanoseconds that compiling takes for a byte of a body at best settings, before it was measured in this run.
pub(super) const COMPILE: f64 = 1000.0;

/// The part of the cost of compiling that does not grow with the body, as bytes of body.
pub(super) const FIXED_COST: u64 = 100;

/// The part of a compilation's cost that counts while a processor is idle. It is not nothing, because processor time is
/// worth something in itself: with half of it CPython's start took an eighth more.
const IDLE: f64 = 0.02;

/// The part of a compilation's cost that counts if all of it is taken from the program. Less than 1, because what is
/// hot stays hot for longer than it has been so far. Measured on one core, beside V8, processor time, with 0.03, 0.1, 0.3
/// and 0.6: CPython's start 1.14, 0.85, 0.76, 0.70; clang 1.62, 1.56, 1.31, 1.21; `work.py`, with its one large hot
/// function, 1.25, 1.34, 1.59, 1.81; geometric mean with two more 1.29, 1.16, 1.11, 1.10.
const BUSY: f64 = 0.3;

/// The part of a compilation's cost that counts if it is for later runs: code is kept for many of them, and they do the
/// same work as those before.
const FOR_LATER: f64 = 0.02;

/// The share of a processor below which a compiling thread is taken to compete with the program; and that from which on
/// it is taken not to.
pub(super) const CONTENDED: f64 = 0.6;
const UNCONTENDED: f64 = 0.95;

/// The part of a compilation's cost that counts, by the share of a processor that is spare.
fn price(spare: f64) -> f64 {
    let competition = ((UNCONTENDED - spare) / (UNCONTENDED - CONTENDED)).clamp(0.0, 1.0);
    IDLE + (BUSY - IDLE) * competition
}

/// Units for each byte of its body that a function has to run in baseline code before compiling it pays.
pub(super) fn units_per_byte(load: &Load) -> f64 {
    price(load.spare()) * load.rate() / ((1.0 - 1.0 / SPEEDUP) * UNIT)
}

/// The same for what all runs so far have run in baseline code, for compiling it for later runs.
pub(super) fn units_per_byte_for_later(load: &Load) -> f64 {
    FOR_LATER * load.rate() / ((1.0 - 1.0 / SPEEDUP) * UNIT)
}

/// Units that a function has to run in baseline code before compiling it pays; `requests` is how often that was done
/// before for another entry. From the second on it has to run twice as long each time, so that a function of many loops
/// is not compiled for each.
pub(super) fn needed(units_per_byte: f64, size: usize, requests: u32) -> u64 {
    ((units_per_byte * (size as u64 + FIXED_COST) as f64) as u64)
        .saturating_mul(1 << requests.saturating_sub(1).min(20))
}

/// The budget of a function that is `left` units short of what is needed. It is asked about several times before, so
/// that it is known which of its loops are hot, and that a change of the machine's load is noticed.
pub(super) fn slice(left: u64) -> u32 {
    (left / 4).clamp(NEXT_BUDGET / 4, i32::MAX as u64) as u32
}

/// Whether it is kept for later runs that a function of `size` bytes ran for so many units: if it is not much too few for
/// compiling it to pay.
pub(super) fn is_worth_knowing(units: u32, units_per_byte: f64, size: usize) -> bool {
    16 * u64::from(units) >= needed(units_per_byte, size, 0)
}

/// The part of a run's processor time that may be spent on functions because of earlier runs only.
const SHARE_FOR_LATER: f64 = 0.1;

/// The processor time that any run may spend on them.
const LEAST_FOR_LATER: f64 = 0.01;

/// Whether a run that has used so many seconds of processor time, `compiling` of them for functions that only earlier
/// runs say are hot, may compile more of those.
pub(super) fn may_prepare(used: f64, compiling: f64) -> bool {
    compiling < LEAST_FOR_LATER + SHARE_FOR_LATER * used
}

/// Nanoseconds that best code without OSR entries saves of a nanosecond in code that has some.
const SAVED_BY_IMPROVING: f64 = 0.1;

/// The share of a run's time that is expected in a function of which nothing is known but that its code, which is from an
/// earlier run, has OSR entries.
pub(super) const EXPECTED_SHARE: f64 = 0.1;

/// Whether it pays to compile a function of `size` bytes again, without OSR entries, after so many nanoseconds in code
/// with some.
pub(super) fn improving_pays(load: &Load, size: u64, spent: f64) -> bool {
    saved_by_improving(spent) >= price(load.spare()) * load.rate() * (size + FIXED_COST) as f64
}

/// Nanoseconds that native code would have saved of so many units in baseline code.
pub(super) fn saved(units: u64) -> f64 {
    units as f64 * UNIT * (1.0 - 1.0 / SPEEDUP)
}

/// Nanoseconds that code without OSR entries would have saved of so many nanoseconds in code with some.
pub(super) fn saved_by_improving(spent: f64) -> f64 {
    spent * SAVED_BY_IMPROVING
}

/// The time in native code that takes the place of so many units in baseline code, in nanoseconds.
pub(super) fn native_time(units: u64) -> f64 {
    units as f64 * UNIT / SPEEDUP
}

/// Budget of a function that waits for its code: units until it is found hot again.
pub(super) const NEXT_BUDGET: u64 = 20_000;

/// The budget of a function of `size` bytes that waits for its code: of large ones more, which saves looks.
pub(super) fn waiting_for_code(units_per_byte: f64, size: usize) -> u32 {
    (needed(units_per_byte, size, 0) / 64).clamp(NEXT_BUDGET, 100 * NEXT_BUDGET) as u32
}

/// A function with more calls than this is taken to be hot by its calls, not by a loop of the present call.
const FEW_CALLS: u32 = 4;

/// Functions with bodies of so many bytes are compiled once, for their calls and their hot loops together. In smaller
/// functions each hot loop has code of its own, which is a little faster. So it is in larger ones, because code with
/// several entries may take the compiler three times as long: nearly two seconds for Yosys's largest function.
const LARGE: Range<usize> = 4 << 10..128 << 10;

/// Units that a function is interpreted for before baseline code is compiled from it, and units to add for each byte of
/// the body. Compiling it takes 20 to 30 units a byte. Measured: with 200 and 2 CPython's start took as long; clang,
/// which runs 17,000 functions for a short time each, up to 10 % longer.
const BASELINE: u64 = 500;
const BASELINE_PER_BYTE: u64 = 10;

/// Units that a function of `size` bytes is interpreted for before it is found hot for the first time.
pub(super) fn first_budget(size: usize) -> u32 {
    (BASELINE + BASELINE_PER_BYTE * size as u64).min(i32::MAX as u64) as u32
}

/// Units that a function is interpreted for after it has requested baseline code, `requests` times before.
pub(super) fn waiting_budget(size: usize, requests: u8) -> u32 {
    (u64::from(first_budget(size)) << requests.min(31)).min(i32::MAX as u64) as u32
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

/// Whether a function with a body of `size` bytes is compiled once for its calls and its hot loops together.
pub(super) fn is_large(tiering: Tiering, size: usize) -> bool {
    match tiering {
        Tiering::Measured => LARGE.contains(&size),
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

/// What to compile for a function of `size` bytes that is hot in a loop, and was called so often.
pub(super) fn entry_for_loop(
    tiering: Tiering,
    size: usize,
    calls: u32,
    function: Stage,
    at_loop: CodeEntry,
) -> CodeEntry {
    let is_ready = matches!(function, Stage::Ready(_));
    match is_large(tiering, size) {
        true => CodeEntry::Function,
        false if is_called_often(tiering, calls) && !is_ready => CodeEntry::Function,
        false => at_loop,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::tier::load::Compiled;

    /// The machine as compiling threads see it that get this share of a processor.
    fn seen(cores: f64, share: f64) -> Load {
        let mut load = Load::new(cores);
        let wall = Duration::from_secs(1);
        // So that the rate stays as expected.
        load.add(Compiled { bytes: (1e9 / COMPILE) as u64, cpu: wall, wall });
        (0..20)
            .for_each(|_| load.add(Compiled { bytes: (share * 1e9 / COMPILE) as u64, cpu: wall.mul_f64(share), wall }));
        load
    }

    #[test]
    fn what_is_taken_from_the_program_costs_more() {
        let by = |cores, share| units_per_byte(&seen(cores, share));
        let (idle, busy) = (by(2.0, 1.0), by(1.0, 1.0));
        assert!((busy / idle - BUSY / IDLE).abs() < 0.01);
        assert_eq!(by(2.0, 0.97), idle);
        assert_eq!(by(2.0, 0.3), busy);
        assert!(by(2.0, 0.8) > idle && by(2.0, 0.7) > by(2.0, 0.8) && by(2.0, 0.7) < busy);
        // A quota of one and a half processors leaves half of one.
        assert_eq!(by(1.5, 1.0), busy);
    }

    #[test]
    fn large_functions_have_to_run_for_longer() {
        assert_eq!(needed(10.0, 900, 0), 10_000);
        assert_eq!([1, 2, 3].map(|requests| needed(10.0, 900, requests)), [10_000, 20_000, 40_000]);
        assert!(needed(f64::from(u32::MAX), usize::MAX >> 8, u32::MAX) >= u64::MAX / 4);
        assert_eq!((slice(0), slice(1 << 60)), (5000, i32::MAX as u32));
        assert_eq!(slice(1_000_000), 250_000);
    }

    #[test]
    fn functions_of_earlier_runs_take_a_bounded_share() {
        assert!(may_prepare(0.0, 0.0) && !may_prepare(0.0, 0.02));
        assert!(may_prepare(1.0, 0.1) && !may_prepare(1.0, 0.12));
    }

    /// A function of a model: bytes of its body, and nanoseconds that it runs for in baseline code, spread over the run.
    type Model = Vec<(usize, f64)>;

    /// Functions of which few are hot, as those of real programs are. The numbers come from a linear congruence.
    fn program(functions: usize, hottest: f64, exponent: f64) -> Model {
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f64 / (1 << 24) as f64
        };
        let one = |rank: usize| ((50.0 / (0.01 + random())) as usize, hottest / ((rank + 1) as f64).powf(exponent));
        (0..functions).map(one).collect()
    }

    /// The processor time, in nanoseconds, of a run on one core: of the program and of the compiler.
    fn cost(model: &Model, load: &Load) -> f64 {
        let one = |(size, time): &(usize, f64)| {
            let before = needed(units_per_byte(load), *size, 0) as f64 * UNIT;
            let compile = COMPILE * (*size as u64 + FIXED_COST) as f64;
            if before >= *time { *time } else { before + compile + (time - before) / SPEEDUP }
        };
        model.iter().map(one).sum()
    }

    /// The least that it could have been, with the future known.
    fn oracle(model: &Model) -> f64 {
        let compile = |size: usize| COMPILE * (size as u64 + FIXED_COST) as f64;
        model.iter().map(|(size, time)| time.min(compile(*size) + time / SPEEDUP)).sum()
    }

    /// With no processor to spare, a run takes little longer than one that knows what will be hot: with few hot functions
    /// or many, for a short time or a long one.
    #[test]
    fn a_run_on_one_core_costs_little_more_than_the_oracle_s() {
        let mut sum = 0.0;
        let mut count = 0.0;
        for functions in [100, 1000, 10_000] {
            for hottest in [1e6, 1e7, 1e8, 1e9, 1e10] {
                for exponent in [0.7, 1.0, 1.5] {
                    let model = program(functions, hottest, exponent);
                    let ratio = cost(&model, &seen(1.0, 1.0)) / oracle(&model);
                    assert!(ratio < 1.75, "{functions} {hottest} {exponent}: {ratio}");
                    (sum, count) = (sum + ratio.ln(), count + 1.0);
                    // The policy for an idle processor wastes more of it.
                    let eager = cost(&model, &seen(2.0, 1.0)) / oracle(&model);
                    assert!(eager > 0.99 * ratio || ratio < 1.25, "{functions} {hottest} {exponent}: {ratio} {eager}");
                }
            }
        }
        let mean = f64::exp(sum / count);
        assert!(mean < 1.3, "{mean}");
    }

    /// With an idle processor, code is there early: hot functions spend little of their time in baseline code.
    #[test]
    fn on_an_idle_core_code_comes_early() {
        for (size, time) in [(100, 1e7), (1000, 1e8), (100_000, 1e9)] {
            let before = needed(units_per_byte(&seen(2.0, 1.0)), size, 0) as f64 * UNIT;
            assert!(before < 0.05 * time, "{size}: {before}");
        }
    }
}
