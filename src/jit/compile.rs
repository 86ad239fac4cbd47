//! Compiling functions, and keeping what was compiled.
//!
//! A function is compiled outside of all locks and then defined under its module's, so that several threads can
//! compile at once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, PoisonError};

use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::Function;
use cranelift_codegen::isa::{OwnedTargetIsa, TargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_codegen::{Context, FinalizedMachExceptionHandler, FinalizedMachReloc, FinalizedRelocTarget, ir};
use cranelift_frontend::FunctionBuilderContext;
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{Module as _, ModuleReloc, default_libcall_names};

use super::code_memory::CodeMemory;
use super::registry::{self, FunctionCode, Handler, NO_LOCATION, WasmFunction};
use super::{EngineState, lower, resolver, trampoline};
use crate::error::{Error, Result};
use crate::module::ModuleInner;
use crate::module::types::FuncType;
use crate::runtime::engine::{Engine, Strategy};
use crate::runtime::sys;
use crate::runtime::vmcontext::VMCode;

/// Stack that Cranelift may need for one function, with a wide margin: even large functions take under
/// 100 KiB, without optimisation some times more. A new thread for each would cost 60 µs.
const COMPILER_STACK: usize = if cfg!(debug_assertions) { 4 << 20 } else { 1 << 20 };

/// The compiler for this machine.
pub(super) fn isa() -> Result<OwnedTargetIsa> {
    let mut flags = settings::builder();
    let verify = if cfg!(debug_assertions) { "true" } else { "false" };
    let settings = [
        ("opt_level", "speed"),
        ("regalloc_algorithm", "backtracking"),
        ("enable_verifier", verify),
        ("is_pic", "false"),
        ("use_colocated_libcalls", "false"),
        ("preserve_frame_pointers", "true"),
        ("enable_probestack", "false"),
        ("unwind_info", "false"),
        ("enable_multi_ret_implicit_sret", "true"),
        // Bounds checks are for correctness; code of mutual distrust belongs into processes of their own.
        ("enable_heap_access_spectre_mitigation", "false"),
        ("enable_table_access_spectre_mitigation", "false"),
    ];
    let refused = |error: &dyn std::fmt::Display| Error::resource(format!("no compiler for this processor: {error}"));
    for (name, value) in settings {
        flags.set(name, value).map_err(|error| refused(&error))?;
    }
    let isa = cranelift_native::builder().map_err(|error| refused(&error))?;
    let isa = isa.finish(settings::Flags::new(flags)).map_err(|error| refused(&error))?;
    // Rounding and shuffles would need functions of the runtime's own without these.
    #[cfg(target_arch = "x86_64")]
    if !(std::is_x86_feature_detected!("ssse3") && std::is_x86_feature_detected!("sse4.1")) {
        return Err(refused(&"it has no SSE4.1"));
    }
    Ok(isa)
}

/// What compiling takes and is worth keeping for the next function.
pub(super) struct Workspace {
    pub context: Context,
    pub builder: FunctionBuilderContext,
}

impl Default for Workspace {
    fn default() -> Self {
        Workspace { context: Context::new(), builder: FunctionBuilderContext::new() }
    }
}

/// Finished machine code, not yet in its place.
pub(super) struct Artifact {
    bytes: Vec<u8>,
    alignment: u64,
    relocs: Vec<FinalizedMachReloc>,
    traps: Box<[(u32, u8)]>,
    locations: Box<[(u32, u32)]>,
    handlers: Box<[Handler]>,
}

/// Compiles the function in `context`.
pub(super) fn artifact(isa: &dyn TargetIsa, context: &mut Context) -> Result<Artifact> {
    let failed = |error: String| Error::resource(format!("cannot compile a function: {error}"));
    context.compile(isa, &mut ControlPlane::default()).map_err(|error| failed(format!("{:?}", error.inner)))?;
    let code = context.compiled_code().ok_or_else(|| failed("no code".into()))?;
    // Functions are called through entries and references; by name only what stands in for an instruction.
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
    // Compiled code tells exceptions apart itself, so a call has one handler for all.
    let handlers = code.buffer.call_sites().filter_map(|site| match site.exception_handlers {
        [FinalizedMachExceptionHandler::Default(entry)] => {
            Some(Handler { after: site.ret_addr, entry: *entry, frame: site.frame_offset? })
        }
        _ => None,
    });
    let alignment = code.buffer.alignment.max(isa.function_alignment().preferred);
    Ok(Artifact {
        bytes: code.code_buffer().to_vec(),
        alignment: u64::from(alignment),
        relocs: code.buffer.relocs().to_vec(),
        traps: code.buffer.traps().iter().map(|trap| (trap.offset, trap.code.as_raw().get())).collect(),
        locations: locations.into(),
        handlers: handlers.collect(),
    })
}

/// A place for code: a Cranelift module over code memory of its own.
pub(super) struct CodeSpace(JITModule);

impl CodeSpace {
    /// A place for about `expected` bytes.
    pub fn new(isa: &OwnedTargetIsa, expected: usize) -> Self {
        let mut builder = JITBuilder::with_isa(isa.clone(), default_libcall_names());
        builder.memory_provider(Box::new(CodeMemory::new(expected)));
        // What instructions without a machine instruction are compiled to.
        builder.symbol("fmaf", fmaf as *const u8);
        builder.symbol("fma", fma as *const u8);
        CodeSpace(JITModule::new(builder))
    }

    /// Puts code into its place, from where it can be run and is found by address.
    pub fn define(&mut self, artifact: Artifact, function: Option<WasmFunction>) -> Result<*mut VMCode> {
        let failed = |error| Error::resource(format!("no room for compiled code: {error}"));
        let signature = ir::Signature::new(self.0.isa().default_call_conv());
        let id = self.0.declare_anonymous_function(&signature).map_err(failed)?;
        let scratch = Function::new();
        let relocs = artifact.relocs.iter().map(|reloc| ModuleReloc::from_mach_reloc(reloc, &scratch, id));
        let relocs: Vec<ModuleReloc> = relocs.collect();
        self.0.define_function_bytes(id, artifact.alignment, &artifact.bytes, &relocs).map_err(failed)?;
        self.0.finalize_definitions().map_err(failed)?;
        let start = self.0.get_finalized_function(id) as usize;
        let range = start..start + artifact.bytes.len();
        let Artifact { traps, locations, handlers, .. } = artifact;
        registry::add_function(FunctionCode { range, function, traps, locations, handlers });
        Ok(start as *mut VMCode)
    }
}

extern "C" fn fmaf(a: f32, b: f32, c: f32) -> f32 {
    a.mul_add(b, c)
}

extern "C" fn fma(a: f64, b: f64, c: f64) -> f64 {
    a.mul_add(b, c)
}

/// The native code of a module: an entry per defined function, which leads to the code or to the resolver that
/// compiles it. The code lives as long as this.
pub(crate) struct ModuleCode {
    entries: Box<[AtomicPtr<VMCode>]>,
    space: Mutex<Option<CodeSpace>>,
}

impl ModuleCode {
    /// Entries for the defined functions, of these types; none if the engine only interprets.
    pub(crate) fn new<'a>(engine: &Engine, types: impl Iterator<Item = &'a FuncType>) -> Self {
        let entries = match engine.config().strategy {
            Strategy::Jit => types.map(|ty| AtomicPtr::new(resolver::entry(ty).cast_mut())).collect(),
            Strategy::Interpreter => Box::default(),
        };
        ModuleCode { entries, space: Mutex::new(None) }
    }

    /// What goes into `VMContext::entries`.
    pub(crate) fn entries(&self) -> *const AtomicPtr<VMCode> {
        if self.entries.is_empty() { std::ptr::null() } else { self.entries.as_ptr() }
    }

    /// The entry of a defined function.
    pub(super) fn entry(&self, defined: u32) -> &AtomicPtr<VMCode> {
        &self.entries[defined as usize]
    }

    /// The code of a defined function, if it is compiled.
    fn ready(&self, module: &ModuleInner, defined: u32) -> Option<*const VMCode> {
        let code = self.entry(defined).load(Ordering::Acquire).cast_const();
        (code != resolver::entry(module.defined_type(defined))).then_some(code)
    }
}

/// The code of a defined function, compiled now if it is not yet.
///
/// A function that Cranelift refuses gets an adapter to the interpreter.
///
/// # Errors
/// [`Resource`](crate::ErrorKind::Resource) if there is no memory for the code, and those of
/// [`ModuleInner::ensure_valid`].
pub(super) fn function(module: &ModuleInner, defined: u32) -> Result<*const VMCode> {
    let this = &module.jit;
    if let Some(code) = this.ready(module, defined) {
        return Ok(code);
    }
    module.ensure_valid(defined)?;
    let state = module.engine.jit();
    let ty = module.defined_type(defined);
    let wasm = Some(WasmFunction { module, defined });
    let (artifact, function) = on_enough_stack(|| {
        let compiled = state.with_workspace(|workspace| {
            let Workspace { context, builder } = workspace;
            lower::function(module, state.isa(), module.engine.config(), defined, context, builder)?;
            Ok((artifact(state.isa(), context)?, wasm))
        });
        // To backtraces the adapter is glue: the interpreter names the function.
        let adapted = |workspace: &mut _| Ok((trampoline::to_interpreter(state.isa(), ty, defined, workspace)?, None));
        compiled.or_else(|_| state.with_workspace(adapted))
    })?;
    let mut space = this.space.lock().unwrap_or_else(PoisonError::into_inner);
    // Another thread may have been faster.
    if let Some(code) = this.ready(module, defined) {
        return Ok(code);
    }
    let space = space.get_or_insert_with(|| CodeSpace::new(state.owned_isa(), expected_size(module)));
    let code = space.define(artifact, function)?;
    this.entry(defined).store(code, Ordering::Release);
    Ok(code)
}

/// Bytes of native code a module will have if much of it is run.
fn expected_size(module: &ModuleInner) -> usize {
    3 * module.bodies.iter().map(|body| body.len()).sum::<usize>()
}

/// Runs `compile` where the stack surely suffices: here, or else on a thread made for it.
fn on_enough_stack<R: Send>(compile: impl FnOnce() -> Result<R> + Send) -> Result<R> {
    if sys::stack_remaining() >= COMPILER_STACK {
        return compile();
    }
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().name("wasmrun compiler".into()).stack_size(COMPILER_STACK);
        let thread = builder.spawn_scoped(scope, compile);
        let thread = thread.map_err(|error| Error::resource(format!("no thread to compile on: {error}")))?;
        thread.join().unwrap_or_else(|_| Err(Error::resource("the compiler panicked")))
    })
}

impl EngineState {
    /// Lends a workspace. A panic in `work` is a refusal: the compiler's faults must not end the program.
    pub(super) fn with_workspace<R>(&self, work: impl FnOnce(&mut Workspace) -> Result<R>) -> Result<R> {
        let pool = || self.workspaces.lock().unwrap_or_else(PoisonError::into_inner);
        let mut workspace = pool().pop().unwrap_or_default();
        match catch_unwind(AssertUnwindSafe(|| work(&mut workspace))) {
            Ok(result) => {
                workspace.context.clear();
                pool().push(workspace);
                result
            }
            Err(_) => Err(Error::resource("the compiler panicked")),
        }
    }
}
