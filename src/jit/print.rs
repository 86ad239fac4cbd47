//! CLIF and machine code of a function as text, for `wasmrun inspect`.

use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_frontend::FunctionBuilderContext;

use super::lower::Plan;
use super::{Tier, lower};
use crate::error::{Error, Result};
use crate::module::ModuleInner;

/// The CLIF of a defined function, before Cranelift's optimisations.
///
/// # Errors
/// Those of [`lower::function`].
pub(crate) fn print_clif(module: &ModuleInner, defined: u32) -> Result<String> {
    Ok(lowered(module, defined)?.func.display().to_string())
}

/// The assembly of a defined function as it is run.
///
/// # Errors
/// [`Resource`](crate::ErrorKind::Resource) if Cranelift refuses the function.
pub(crate) fn print_asm(module: &ModuleInner, defined: u32) -> Result<String> {
    let mut context = lowered(module, defined)?;
    context.set_disasm(true);
    let compiled = context
        .compile(module.engine.jit().isa(Tier::Best), &mut ControlPlane::default())
        .map_err(|error| Error::resource(format!("cannot be compiled: {:?}", error.inner)))?;
    Ok(compiled.vcode.clone().unwrap_or_default())
}

fn lowered(module: &ModuleInner, defined: u32) -> Result<Context> {
    let mut context = Context::new();
    let isa = module.engine.jit().isa(Tier::Best);
    let builder = &mut FunctionBuilderContext::new();
    lower::function(module, isa, defined, Plan::Function, false, &mut context, builder)?;
    Ok(context)
}
