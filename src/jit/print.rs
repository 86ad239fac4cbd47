//! CLIF and machine code of a function as text, for `wasmrun inspect`.

use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;

use super::artifact::Workspace;
use super::lower::Plan;
use super::{CompiledModule, Effort, Tier, lower};
use crate::error::{Error, Result};

/// The CLIF of a defined function, before Cranelift's optimisations.
///
/// # Errors
/// Those of [`lower::function`].
pub(crate) fn print_clif(module: &CompiledModule, defined: u32) -> Result<String> {
    Ok(lowered(module, defined)?.0.func.display().to_string())
}

/// The assembly of a defined function as it runs at the best tier.
///
/// # Errors
/// [`Resource`](crate::ErrorKind::Resource) if Cranelift refuses the function.
pub(crate) fn print_asm(module: &CompiledModule, defined: u32) -> Result<String> {
    let (mut context, effort) = lowered(module, defined)?;
    context.set_disasm(true);
    let compiled = context
        .compile(module.engine.isa_for(Tier::Best, effort), &mut ControlPlane::default())
        .map_err(|error| Error::resource(format!("cannot be compiled: {:?}", error.inner)))?;
    Ok(compiled.vcode.clone().unwrap_or_default())
}

/// The context with a function's CLIF, and what the compiler is to do to it.
fn lowered(module: &CompiledModule, defined: u32) -> Result<(Context, Effort)> {
    let mut workspace = Workspace::default();
    let isa = module.engine.isa(Tier::Best);
    let config = module.engine.config();
    let effort = lower::function(&module.facts, config, isa, defined, Plan::Function, &mut workspace)?;
    Ok((workspace.context, effort))
}
