//! What the command line shows of a module beyond the API: its functions by index, and what engines compile them to.

use super::module::Module;
use crate::error::{Error, Result};
use crate::interp;
use crate::module::validate::ValidationState;

/// What a function is printed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The interpreter's bytecode.
    Bytecode,
    /// Cranelift's IR, before optimisation.
    Clif,
    /// Machine code of the best tier.
    Asm,
}

impl Module {
    /// How many functions the module has, and how many of them it imports; these come first.
    pub(crate) fn function_counts(&self) -> (u32, u32) {
        let facts = &self.0.facts;
        (facts.funcs.len() as u32, facts.imported_funcs())
    }

    /// The name of a function from the name section, or of its import or export.
    pub(crate) fn function_name(&self, index: u32) -> Option<&str> {
        self.0.facts.func_name(index)
    }

    /// A defined function as text, by its index among the defined ones.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if this build has no JIT that could compile it; otherwise those of compiling it.
    pub(crate) fn print_function(&self, defined: u32, form: Form) -> Result<String> {
        match form {
            Form::Bytecode => interp::print_bytecode(&self.0.interp, defined),
            #[cfg(jit)]
            Form::Clif => crate::jit::print_clif(&self.0.jit, defined),
            #[cfg(jit)]
            Form::Asm => crate::jit::print_asm(&self.0.jit, defined),
            #[cfg(not(jit))]
            Form::Clif | Form::Asm => Err(Error::usage("this build of wasmrun has no JIT")),
        }
    }

    /// Why the module is invalid, where that was found after it was made; see
    /// [`Config::lazy_validation`](crate::Config::lazy_validation).
    pub(crate) fn late_error(&self) -> Option<&Error> {
        match self.0.facts.validation_state() {
            ValidationState::Invalid(error) => Some(error),
            ValidationState::Pending | ValidationState::Valid => None,
        }
    }
}
