//! The flags that choose and set the engine.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::builder::{OsStringValueParser, TypedValueParser};
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

    /// Find out where the time goes: flame[=FILE] samples the program, prints its hottest functions and writes a flame graph
    /// (PROGRAM.flame.svg here if there is no FILE); perfmap and jitdump tell profilers the names of compiled functions, in
    /// /tmp/perf-PID.map for perf and others, or with the code in jit-PID.dump here for `perf inject --jit` and samply
    #[arg(long, value_name = "HOW", value_parser = OsStringValueParser::new().try_map(profile))]
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

#[derive(Clone, Debug, PartialEq)]
pub(super) enum ProfileArg {
    /// A flame graph, in this file if one is given.
    Flame(Option<OsString>),
    Perfmap,
    Jitdump,
}

fn profile(how: OsString) -> Result<ProfileArg, String> {
    match how.as_encoded_bytes().split_at_checked("flame=".len()) {
        Some((b"flame=", file)) if !file.is_empty() => Ok(ProfileArg::Flame(Some(OsStr::from_bytes(file).into()))),
        _ if how == "flame" => Ok(ProfileArg::Flame(None)),
        _ if how == "perfmap" => Ok(ProfileArg::Perfmap),
        _ if how == "jitdump" => Ok(ProfileArg::Jitdump),
        _ => Err("expected flame, flame=FILE, perfmap or jitdump".into()),
    }
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
            None | Some(ProfileArg::Flame(_)) => Profile::None,
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
