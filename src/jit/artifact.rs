//! Artifacts: finished machine code with its tables, not yet in code memory.

use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::TrapCode;
use cranelift_codegen::isa::TargetIsa;
use cranelift_codegen::{Context, FinalizedMachExceptionHandler, FinalizedMachReloc, FinalizedRelocTarget, ir};
use cranelift_frontend::FunctionBuilderContext;

use super::abi::TRAP_POLL;
use super::arch;
use super::registry::{HandlerEntry, NO_LOCATION};
use crate::error::{Error, Result};

/// Buffers of the compiler that are reused for the next function.
pub(super) struct Workspace {
    pub context: Context,
    pub builder: FunctionBuilderContext,
}

impl Default for Workspace {
    fn default() -> Self {
        Workspace { context: Context::new(), builder: FunctionBuilderContext::new() }
    }
}

/// Finished machine code with its tables, not yet in code memory. [`FunctionCode`](super::registry::FunctionCode)
/// explains the tables.
pub(super) struct Artifact {
    pub bytes: Vec<u8>,
    pub alignment: u64,
    pub relocs: Vec<FinalizedMachReloc>,
    pub traps: Box<[(u32, u8)]>,
    pub polls: Box<[(u32, u32)]>,
    pub locations: Box<[(u32, u32)]>,
    pub handlers: Box<[HandlerEntry]>,
}

/// Compiles the function in `context`.
pub(super) fn artifact(isa: &dyn TargetIsa, context: &mut Context) -> Result<Artifact> {
    let failed = |error: String| Error::resource(format!("cannot compile a function: {error}"));
    context.compile(isa, &mut ControlPlane::default()).map_err(|error| failed(format!("{:?}", error.inner)))?;
    let code = context.compiled_code().ok_or_else(|| failed("no code".into()))?;
    // Compiled functions are called through entries and references. By name only the functions are called that replace
    // a missing machine instruction.
    let known = |reloc: &FinalizedMachReloc| {
        use ir::{ExternalName::LibCall, LibCall as L};
        matches!(reloc.target, FinalizedRelocTarget::ExternalName(LibCall(L::FmaF32 | L::FmaF64)))
    };
    if !code.buffer.relocs().iter().all(known) {
        return Err(failed("it calls what the runtime does not have".into()));
    }
    let mut locations: Vec<(u32, u32)> = Vec::new();
    let mut end = 0;
    for location in code.buffer.get_srclocs_sorted() {
        if location.start > end && !locations.is_empty() {
            locations.push((end, NO_LOCATION));
        }
        let bits = if location.loc.is_default() { NO_LOCATION } else { location.loc.bits() };
        if locations.last().is_none_or(|(_, last)| *last != bits) {
            locations.push((location.start, bits));
        }
        end = location.end;
    }
    // Compiled code itself compares an exception's tag, so a call has one handler for all exceptions.
    let handlers = code.buffer.call_sites().filter_map(|site| match site.exception_handlers {
        [FinalizedMachExceptionHandler::Default(entry)] => {
            Some(HandlerEntry { after: site.ret_addr, entry: *entry, frame: site.frame_offset? })
        }
        _ => None,
    });
    let traps: Box<[(u32, u8)]> =
        code.buffer.traps().iter().map(|trap| (trap.offset, trap.code.as_raw().get())).collect();
    let polls = polls(code.code_buffer(), &traps).ok_or_else(|| failed("a place to go on at is unclear".into()))?;
    let alignment = code.buffer.alignment.max(isa.function_alignment().preferred);
    Ok(Artifact {
        bytes: code.code_buffer().to_vec(),
        alignment: u64::from(alignment),
        relocs: code.buffer.relocs().to_vec(),
        traps,
        polls,
        locations: locations.into(),
        handlers: handlers.collect(),
    })
}

/// Where the code goes on after each trap of a request to the running code; also checks that functions whose stack check may
/// trap begin as the signal handler expects. `None` if one is not found for certain, which only constants in the code can
/// cause that were made to look like jumps.
fn polls(code: &[u8], traps: &[(u32, u8)]) -> Option<Box<[(u32, u32)]>> {
    let at = |wanted: TrapCode| {
        let wanted = wanted.as_raw().get();
        traps.iter().filter(move |(_, code)| *code == wanted).map(|(at, _)| *at)
    };
    if at(TrapCode::STACK_OVERFLOW).next().is_some() && !arch::begins_with_frame(code) {
        return None;
    }
    let mut polls: Vec<(u32, Option<u32>)> = at(TRAP_POLL).map(|at| (at, None)).collect();
    if polls.is_empty() {
        return Some(Box::default());
    }
    let mut is_clear = true;
    arch::conditional_jumps(code, |end, target| {
        if let Ok(index) = polls.binary_search_by_key(&target, |(at, _)| *at) {
            is_clear &= polls[index].1.replace(end).is_none();
        }
    });
    let polls = polls.into_iter().map(|(at, after)| Some((at, after?))).collect::<Option<_>>()?;
    is_clear.then_some(polls)
}
