//! The JIT: WebAssembly functions compiled to native code by Cranelift, one by one, when first called.
//!
//! `lower` turns Wasm into Cranelift's IR (`bounds` checks memory accesses, `print` shows the results), `compile` runs
//! Cranelift and keeps the code in `code_memory`. `abi` says how compiled code passes values, `trampoline` is the glue
//! to Rust, `resolver` what is called before there is code. `traps` enters code and catches its faults with the help
//! of `registry`, which knows all code by address, and `origin`; `arch` is all that depends on the processor.
//!
//! What may be here: native code and everything that touches it. What may not: what an instruction means to the
//! objects of the runtime beyond plain loads and stores; that is `runtime::ops`, reached through its table of
//! functions.
//!
//! Without the JIT `jit_disabled.rs` stands in for this room.

pub(crate) mod abi;
mod arch;
mod bounds;
mod code_memory;
mod compile;
mod lower;
mod origin;
mod print;
mod registry;
mod resolver;
#[cfg(test)]
mod tests;
mod trampoline;
mod traps;

use std::sync::Mutex;

use cranelift_codegen::isa::{OwnedTargetIsa, TargetIsa};

use crate::error::Result;
use crate::runtime::engine::{Config, Strategy};

pub(crate) use compile::ModuleCode;
pub(crate) use print::{print_asm, print_clif};
pub(crate) use resolver::ref_entry;
pub(crate) use traps::call;

/// What the modules of an engine share: the compiler's settings, and glue between code and Rust.
pub(crate) struct EngineState {
    isa: OwnedTargetIsa,
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
        let isa = compile::isa()?;
        if config.strategy == Strategy::Jit {
            traps::install();
        }
        let trampolines = trampoline::Trampolines::new(&isa);
        Ok(EngineState { isa, trampolines, workspaces: Mutex::default() })
    }

    /// The compiler's target and settings.
    pub(crate) fn isa(&self) -> &dyn TargetIsa {
        &*self.isa
    }

    fn owned_isa(&self) -> &OwnedTargetIsa {
        &self.isa
    }
}
