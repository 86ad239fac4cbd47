//! The flags that choose and set the engine.

use clap::{Args, ValueEnum};

use super::output::{Failure, warning};
use super::process::MAX_WASM_STACK;
use crate::{BoundsChecks, Cache, Config, Engine, Profile, Strategy};

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Engine")]
pub(super) struct EngineArgs {
    /// Compile each function to native code before its first run (without it, only what is hot, in the background)
    #[arg(long, conflicts_with = "interp")]
    pub jit: bool,

    /// Interpret all functions
    #[arg(long)]
    pub interp: bool,

    /// Tell a profiler the names of compiled functions
    #[arg(long, value_enum, value_name = "HOW")]
    pub profile: Option<ProfileArg>,

    /// How compiled code checks memory accesses
    #[arg(long, value_enum, value_name = "HOW", default_value = "inline")]
    pub bounds_checks: BoundsChecksArg,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(super) enum BoundsChecksArg {
    /// Compare in the code
    Inline,
    /// Leave it to guard pages, which takes more address space
    Guard,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(super) enum ProfileArg {
    /// /tmp/perf-PID.map, for perf and others
    Perfmap,
    /// jit-PID.dump here, for `perf inject --jit` and samply, with the code
    Jitdump,
}

impl EngineArgs {
    /// The settings these flags stand for.
    pub fn config(&self) -> Config {
        if self.jit && !Engine::has_jit() {
            let (arch, os) = (std::env::consts::ARCH, std::env::consts::OS);
            warning(&format!("--jit: this build of wasmrun has no JIT for {arch} {os}; the program is interpreted"));
        }
        let mut config = Config::new();
        config.max_wasm_stack(MAX_WASM_STACK);
        if self.interp || !Engine::has_jit() {
            config.strategy(Strategy::Interpreter);
        } else if self.jit {
            config.strategy(Strategy::Jit);
        }
        config.profile(match self.profile {
            None => Profile::None,
            Some(ProfileArg::Perfmap) => Profile::PerfMap,
            Some(ProfileArg::Jitdump) => Profile::JitDump,
        });
        config.bounds_checks(match self.bounds_checks {
            BoundsChecksArg::Inline => BoundsChecks::Inline,
            BoundsChecksArg::Guard => BoundsChecks::Guard,
        });
        config
    }

    /// An engine of these settings that validates functions when they are first called, and in the background.
    pub fn lazy_engine(&self, cache: Cache, consumes_fuel: bool) -> Result<Engine, Failure> {
        let mut config = self.config();
        config.lazy_validation(true).cache(cache).consume_fuel(consumes_fuel);
        Engine::new(&config).map_err(|error| Failure::error(error.to_string()))
    }
}
