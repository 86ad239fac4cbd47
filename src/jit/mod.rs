//! The JIT: WebAssembly functions compiled to native code by Cranelift, one by one: when first called, or when `tier`
//! asks for it.
//!
//! `lower` turns Wasm into Cranelift's IR (`bounds` checks memory accesses, `print` shows the results), `compile` runs
//! Cranelift with the `settings` of a tier and makes an `artifact`, `code_space` puts it into `code_memory`, and `module` has
//! calls go there. `abi` says how compiled code passes values, `trampoline` leads to Rust and to the interpreter, `resolver`
//! is called before there is code. `enter` enters code and leaves it by traps, which `signals` catches and `fault` explains,
//! and by throws, whose frames `unwind` walks; `registry` knows all code by address, `origin` what it was compiled from. `arch` is all that depends on the processor. `baseline` is
//! the place of native code that the interpreter makes.
//!
//! What may be here: native code and everything that touches it. What may not: what an instruction means to the
//! objects of a store beyond plain loads and stores; that is `vm::ops`, reached through its table of functions
//! (`vm::libcalls`).

pub(crate) mod abi;
mod arch;
mod artifact;
#[cfg(baseline)]
mod baseline;
mod bounds;
mod cached;
mod code_file;
mod code_memory;
mod code_space;
mod compile;
mod enter;
mod fault;
#[cfg(all(test, target_arch = "x86_64"))]
mod golden;
mod lower;
#[cfg(test)]
mod mixed_tests;
mod module;
mod nan;
mod origin;
#[cfg(test)]
mod osr_tests;
mod portable;
mod print;
mod profile;
mod registry;
mod resolver;
mod settings;
mod signals;
#[cfg(test)]
mod tests;
mod trampoline;
mod unwind;

use std::sync::{Arc, Mutex, OnceLock};

use cranelift_codegen::isa::{OwnedTargetIsa, TargetIsa};

use crate::config::{Config, Strategy};
use crate::error::Result;
use crate::vm::context::{VMCode, VMContext};
use crate::vm::engine::{EngineCore, Hooks, NativeCalls};

#[cfg(baseline)]
pub(crate) use baseline::BaselineMemory;
pub(crate) use cached::{cache_settings, portable_function};
pub(crate) use code_file::CodeFile;
pub(crate) use compile::{Compiled, compile, compile_with_loops};
pub(crate) use enter::{call, call_native};
pub(crate) use lower::osr::MAX_LOOPS;
pub(crate) use module::ModuleCode;
pub(crate) use print::{print_asm, print_clif};
pub(crate) use settings::{Entry, Tier};

/// How compiled code is entered, for objects of stores and for the interpreter.
pub(crate) static HOOKS: Hooks = Hooks {
    raise: enter::raise_code,
    ref_entry: resolver::ref_entry,
    host_entry: resolver::host_entry,
    native_calls: Some(&NativeCalls {
        by_trampoline: enter::call_by_trampoline,
        by_type: enter::call_native,
        at_loop: enter::call_loop,
        at_loop_of_function: enter::call_native_at_loop,
    }),
};

/// The compiled code of a defined function of a context's module, if there is some.
///
/// # Safety
/// `vmctx` must be live.
#[inline]
pub(crate) unsafe fn native(vmctx: *mut VMContext, defined: u32) -> Option<*const VMCode> {
    // SAFETY: the caller's promise.
    unsafe { ModuleCode::of(vmctx) }.native(defined)
}

/// What the modules of an engine share: the compiler's settings, and glue between code and Rust.
pub(crate) struct EngineState {
    pub(super) core: Arc<EngineCore>,
    best: OwnedTargetIsa,
    /// Made when first asked for.
    quick: OnceLock<OwnedTargetIsa>,
    trampolines: trampoline::Trampolines,
    /// Buffers of the compiler that are not in use.
    workspaces: Mutex<Vec<artifact::Workspace>>,
}

impl EngineState {
    /// Gets everything ready for compiled code.
    ///
    /// # Errors
    /// [`Resource`](crate::ErrorKind::Resource) if Cranelift can't compile for this processor.
    pub(crate) fn new(core: &Arc<EngineCore>) -> Result<Self> {
        let config = &core.config;
        profile::open(config.profile)?;
        let best = settings::isa(Tier::Best)?;
        if config.strategy != Strategy::Interpreter && config.signals_based_traps {
            crate::sys::signal::install(signals::on_signal);
        }
        let trampolines = trampoline::Trampolines::new(&best, config);
        Ok(EngineState { core: core.clone(), best, quick: OnceLock::new(), trampolines, workspaces: Mutex::default() })
    }

    /// The engine's settings.
    pub(super) fn config(&self) -> &Config {
        &self.core.config
    }

    /// The compiler's target and settings.
    pub(crate) fn isa(&self, tier: Tier) -> &dyn TargetIsa {
        &**self.owned_isa(tier)
    }

    fn owned_isa(&self, tier: Tier) -> &OwnedTargetIsa {
        match tier {
            Tier::Entered | Tier::Best => &self.best,
            // The settings differ in nothing that a processor could lack.
            Tier::Quick => self.quick.get_or_init(|| settings::isa(tier).unwrap_or_else(|_| self.best.clone())),
        }
    }
}
