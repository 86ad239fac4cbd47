//! CLIF and machine code of a function as text, for `wasmrun inspect`.

use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;

use super::artifact::Workspace;
use super::lower::Plan;
use super::{CompiledModule, Tier, lower};
use crate::error::{Error, Result};

/// The CLIF of a defined function, before Cranelift's optimisations.
///
/// # Errors
/// Those of [`lower::function`].
pub(crate) fn print_clif(module: &CompiledModule, defined: u32) -> Result<String> {
    Ok(lowered(module, defined)?.func.display().to_string())
}

/// The assembly of a defined function as it runs at the best tier.
///
/// # Errors
/// [`Resource`](crate::ErrorKind::Resource) if Cranelift refuses the function.
pub(crate) fn print_asm(module: &CompiledModule, defined: u32) -> Result<String> {
    let mut context = lowered(module, defined)?;
    context.set_disasm(true);
    let compiled = context
        .compile(module.engine.isa(Tier::Best), &mut ControlPlane::default())
        .map_err(|error| Error::resource(format!("cannot be compiled: {:?}", error.inner)))?;
    Ok(compiled.vcode.clone().unwrap_or_default())
}

fn lowered(module: &CompiledModule, defined: u32) -> Result<Context> {
    let mut workspace = Workspace::default();
    let isa = module.engine.isa(Tier::Best);
    lower::function(&module.facts, module.engine.config(), isa, defined, Plan::Function, &mut workspace)?;
    Ok(workspace.context)
}
