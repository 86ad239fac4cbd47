//! The JIT: Cranelift compiles WebAssembly functions to native code, each one when it is first called or when `tier`
//! decides to.
//!
//! From Wasm to code: `lower` translates to Cranelift's IR (`bounds` emits the checks of memory accesses, `nan` makes
//! NaNs canonical, `print` shows IR and assembly). `compile` runs Cranelift with the `settings` of a tier and makes an
//! `artifact`. `code_space` copies it into `code_memory`, and `module` publishes it to callers. `cached` loads code
//! from the cache and records it there, as the bytes that `portable` writes; `code_file` maps code of files; `baseline`
//! has memory for the interpreter's baseline code.
//! Calls: `abi` says how compiled code passes values, `trampoline` connects compiled code with Rust and the
//! interpreter, `lazy_compile` has what is called before there is code. `enter` enters compiled code and leaves it by
//! traps, which `signals` catches and `fault` explains, and by throws, whose frames `unwind` walks.
//! Tables: `registry` finds code by address, `origin` what it was compiled from, `profile` tells profilers. `arch` is
//! everything that depends on the processor.
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
#[cfg(test)]
mod gc_tests;
#[cfg(all(test, target_arch = "x86_64"))]
mod golden;
mod lazy_compile;
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
pub(crate) use baseline::BaselineCodeMemory;
pub(crate) use cached::{cache_settings, portable_function};
pub(crate) use code_file::CodeFile;
pub(crate) use compile::{Compiled, compile, compile_with_loops};
pub(crate) use enter::{call, call_native};
pub(crate) use lower::osr::MAX_LOOPS;
pub(crate) use module::CompiledModule;
pub(crate) use print::{print_asm, print_clif};
pub(crate) use settings::{CodeEntry, Effort, Tier};

/// The functions by which `vm` and the interpreter enter compiled code.
pub(crate) static HOOKS: Hooks = Hooks {
    raise: enter::raise_code,
    poll: enter::poll_code,
    wait: enter::wait_code,
    ref_entry: lazy_compile::ref_entry,
    host_entry: lazy_compile::host_entry,
    prepare_thread: enter::prepare_thread,
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
    // SAFETY: the context is live by the caller's promise.
    unsafe { CompiledModule::of(vmctx) }.native(defined)
}

/// What all modules of an engine share: the compiler's settings, and trampolines.
pub(crate) struct EngineState {
    pub(super) core: Arc<EngineCore>,
    best: OwnedTargetIsa,
    /// The same without Cranelift's optimisations; see [`lower::function`].
    plain: OwnedTargetIsa,
    /// Made when it is first needed.
    quick: OnceLock<OwnedTargetIsa>,
    trampolines: trampoline::Trampolines,
    /// Buffers of the compiler that are not in use.
    workspaces: Mutex<Vec<artifact::Workspace>>,
}

impl EngineState {
    /// Prepares the process and the compiler.
    ///
    /// # Errors
    /// [`Resource`](crate::ErrorKind::Resource) if Cranelift can't compile for this processor.
    pub(crate) fn new(core: &Arc<EngineCore>) -> Result<Self> {
        let config = &core.config;
        profile::open(config.profile)?;
        let best = settings::isa(Tier::Best, true)?;
        let plain = settings::isa(Tier::Best, false)?;
        if config.strategy != Strategy::Interpreter && config.signals_based_traps {
            crate::sys::signal::install(signals::on_signal);
        }
        let trampolines = trampoline::Trampolines::new(&best, config);
        Ok(EngineState {
            core: core.clone(),
            best,
            plain,
            quick: OnceLock::new(),
            trampolines,
            workspaces: Mutex::default(),
        })
    }

    /// The engine's settings.
    pub(super) fn config(&self) -> &Config {
        &self.core.config
    }

    /// The compiler's target and settings.
    pub(crate) fn isa(&self, tier: Tier) -> &dyn TargetIsa {
        &**self.owned_isa(tier)
    }

    /// The same for a function to which so much is to be done.
    pub(crate) fn isa_for(&self, tier: Tier, effort: Effort) -> &dyn TargetIsa {
        match (tier, effort) {
            (Tier::BestWithLoops | Tier::Best, Effort::Allocate) => &*self.plain,
            (_, Effort::Least) => self.isa(Tier::Quick),
            _ => self.isa(tier),
        }
    }

    fn owned_isa(&self, tier: Tier) -> &OwnedTargetIsa {
        match tier {
            Tier::BestWithLoops | Tier::Best => &self.best,
            // Only the optimisation settings differ, so this does not fail if the best settings did not.
            Tier::Quick => self.quick.get_or_init(|| settings::isa(tier, false).unwrap_or_else(|_| self.best.clone())),
        }
    }
}
