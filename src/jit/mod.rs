//! The JIT: WebAssembly functions compiled to native code by Cranelift, one by one: when first called, or when `tier`
//! asks for it.
//!
//! `lower` turns Wasm into Cranelift's IR (`bounds` checks memory accesses, `print` shows the results), `compile` runs
//! Cranelift and keeps the code in `code_memory`. `abi` says how compiled code passes values, `trampoline` is the glue
//! to Rust and to the interpreter, `resolver` what is called before there is code. `traps` enters code and catches its faults with the help
//! of `registry`, which knows all code by address, and `origin`; `arch` is all that depends on the processor. `baseline` is
//! the place of native code that the interpreter makes.
//!
//! What may be here: native code and everything that touches it. What may not: what an instruction means to the
//! objects of the runtime beyond plain loads and stores; that is `runtime::ops`, reached through its table of
//! functions.
//!
//! Without the JIT `jit_disabled.rs` stands in for this room.

pub(crate) mod abi;
mod arch;
#[cfg(baseline)]
mod baseline;
mod bounds;
mod cached;
mod code_file;
mod code_memory;
mod compile;
#[cfg(all(test, target_arch = "x86_64"))]
mod golden;
mod lower;
#[cfg(test)]
mod mixed_tests;
mod nan;
mod origin;
#[cfg(test)]
mod osr_tests;
mod portable;
mod print;
mod profile;
mod registry;
mod resolver;
#[cfg(test)]
mod tests;
mod trampoline;
mod traps;

use std::sync::{Mutex, OnceLock};

use cranelift_codegen::isa::{OwnedTargetIsa, TargetIsa};

use crate::config::{Config, Strategy};
use crate::error::Result;

#[cfg(baseline)]
pub(crate) use baseline::BaselineMemory;
pub(crate) use cached::portable_function;
pub(crate) use code_file::CodeFile;
pub(crate) use compile::{Compiled, Entry, ModuleCode, Tier, compile, compile_with_loops};
pub(crate) use lower::osr::MAX_LOOPS;
pub(crate) use print::{print_asm, print_clif};
pub(crate) use resolver::{host_entry, ref_entry};
pub(crate) use traps::{call, call_by_glue, call_loop, call_native, call_native_at_loop, come_back, raise_code};

/// What the modules of an engine share: the compiler's settings, and glue between code and Rust.
pub(crate) struct EngineState {
    best: OwnedTargetIsa,
    /// Made when first asked for.
    quick: OnceLock<OwnedTargetIsa>,
    trampolines: trampoline::Trampolines,
    /// Buffers of the compiler that are not in use.
    workspaces: Mutex<Vec<compile::Workspace>>,
}

impl EngineState {
    /// Gets everything ready for compiled code.
    ///
    /// # Errors
    /// [`Resource`](crate::ErrorKind::Resource) if Cranelift can't compile for this processor.
    pub(crate) fn new(config: &Config) -> Result<Self> {
        profile::open(config.profile)?;
        let best = compile::isa(Tier::Best)?;
        if config.strategy != Strategy::Interpreter && config.signals_based_traps {
            traps::install();
        }
        let trampolines = trampoline::Trampolines::new(&best, config);
        Ok(EngineState { best, quick: OnceLock::new(), trampolines, workspaces: Mutex::default() })
    }

    /// The compiler's target and settings.
    pub(crate) fn isa(&self, tier: Tier) -> &dyn TargetIsa {
        &**self.owned_isa(tier)
    }

    fn owned_isa(&self, tier: Tier) -> &OwnedTargetIsa {
        match tier {
            Tier::Entered | Tier::Best => &self.best,
            // The settings differ in nothing that a processor could lack.
            Tier::Quick => self.quick.get_or_init(|| compile::isa(tier).unwrap_or_else(|_| self.best.clone())),
        }
    }
}
