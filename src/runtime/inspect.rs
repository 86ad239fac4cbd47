//! What `wasmrun inspect` needs of a module beyond the API: functions by index, and listings of bytecode and machine code.

use super::module::Module;
use crate::error::{Error, Result};
use crate::interp;
use crate::module::validate::ValidationState;

/// The form in which a function is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CodeForm {
    /// The interpreter's bytecode.
    Bytecode,
    /// Cranelift's IR, before optimisation.
    Clif,
    /// Machine code of the best tier.
    Asm,
}

impl Module {
    /// The number of the module's functions, and how many of them are imports. Imports come first in the index space.
    pub(crate) fn function_counts(&self) -> (u32, u32) {
        let facts = &self.0.facts;
        (facts.funcs.len() as u32, facts.imported_funcs())
    }

    /// The name of a function from the name section, or of its import or export.
    pub(crate) fn function_name(&self, index: u32) -> Option<&str> {
        self.0.facts.func_name(index)
    }

    /// Prints the function of index `defined` among the module's defined functions.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if the form needs a JIT and this build has none; otherwise those of translating or
    /// compiling the function.
    pub(crate) fn print_function(&self, defined: u32, form: CodeForm) -> Result<String> {
        match form {
            CodeForm::Bytecode => interp::print_bytecode(&self.0.interp, defined),
            #[cfg(jit)]
            CodeForm::Clif => crate::jit::print_clif(&self.0.jit, defined),
            #[cfg(jit)]
            CodeForm::Asm => crate::jit::print_asm(&self.0.jit, defined),
            #[cfg(not(jit))]
            CodeForm::Clif | CodeForm::Asm => Err(Error::usage("this build of wasmrun has no JIT")),
        }
    }

    /// The error of a function that lazy validation found to be invalid after the module was made, if there is one; see
    /// [`Config::lazy_validation`](crate::Config::lazy_validation).
    pub(crate) fn late_error(&self) -> Option<&Error> {
        match self.0.facts.validation_state() {
            ValidationState::Invalid(error) => Some(error),
            ValidationState::Pending | ValidationState::Valid => None,
        }
    }
}
