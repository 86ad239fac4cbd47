//! Compiling functions.
//!
//! A function is compiled without any lock, and then published under its module's lock, so that several threads can
//! compile at once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::artifact::{Artifact, Workspace, artifact};
use super::lower::Plan;
use super::lower::osr::MAX_LOOPS;
use super::lower::trap::MAX_FRAME;
use super::module::CompiledModule;
use super::registry::WasmFunction;
use super::settings::{CodeEntry, Tier};
use super::{EngineState, lazy_compile, lower, trampoline};
use crate::error::{Error, Result};
use crate::sys;
use crate::vm::context::VMCode;

/// Stack that Cranelift may need for one function, with a wide margin: even large functions take under 100 KiB, several
/// times more in a debug build. A thread for each function would cost 60 µs.
const COMPILER_STACK: usize = if cfg!(debug_assertions) { 4 << 20 } else { 1 << 20 };

/// Compiled code of a function that is not published yet.
pub(crate) struct Compiled {
    pub(super) artifact: Artifact,
    /// `None` for an adapter to the interpreter: backtraces leave it out, because the interpreter names the function.
    pub(super) function: Option<WasmFunction>,
    pub(super) defined: u32,
    pub(super) entry: CodeEntry,
    pub(super) tier: Tier,
}

impl Compiled {
    /// Bytes of machine code.
    pub(crate) fn size(&self) -> usize {
        self.artifact.bytes.len()
    }

    pub(crate) fn tier(&self) -> Tier {
        self.tier
    }
}

/// Compiles a defined function. May be called on any thread.
///
/// A function that the quick settings can't compile is compiled with the best ones.
///
/// # Errors
/// [`Resource`](crate::ErrorKind::Resource) if Cranelift refuses the function, or if there is no reachable loop at the
/// entry's offset.
pub(crate) fn compile(module: &CompiledModule, defined: u32, tier: Tier, entry: CodeEntry) -> Result<Compiled> {
    let plan = match entry {
        CodeEntry::Function => Plan::Function,
        CodeEntry::Loop { offset, wide_slots } => Plan::Loop { offset, wide_slots },
    };
    compile_as(module, defined, tier, entry, plan)
}

/// Compiles a defined function with entries at these loops as well, for `enter::call_native_at_loop`. They cost a test
/// in each call of the function. Of equal offsets only the first counts; those beyond `MAX_LOOPS` are left out.
///
/// # Errors
/// As for [`compile`].
pub(crate) fn compile_with_loops(
    module: &CompiledModule,
    defined: u32,
    tier: Tier,
    offsets: &[u32],
    wide_slots: bool,
) -> Result<Compiled> {
    let plan = match &offsets[..offsets.len().min(MAX_LOOPS)] {
        [] => Plan::Function,
        offsets => Plan::FunctionWithLoops { offsets, wide_slots },
    };
    compile_as(module, defined, tier, CodeEntry::Function, plan)
}

fn compile_as(module: &CompiledModule, defined: u32, tier: Tier, entry: CodeEntry, plan: Plan<'_>) -> Result<Compiled> {
    let started = sys::thread_time();
    let compiled = on_enough_stack(|| {
        let state = &*module.engine;
        let with = |tier| {
            let tier = match plan {
                Plan::FunctionWithLoops { .. } => Tier::BestWithLoops.min(tier),
                Plan::Function | Plan::Loop { .. } => tier,
            };
            state.with_workspace(|workspace| {
                let isa = state.isa(tier);
                let effort = lower::function(&module.facts, state.config(), isa, defined, plan, workspace)?;
                let isa = state.isa_for(tier, effort);
                let context = &mut workspace.context;
                let function = Some(WasmFunction { module, defined });
                let artifact = artifact(isa, context)?;
                let code = context.compiled_code().and_then(|code| code.buffer.frame_layout());
                let frame = code.map_or(0, |layout| layout.frame_to_fp_offset);
                if !state.config().signals_based_traps && frame > MAX_FRAME {
                    return Err(Error::resource(format!("frame of {frame} bytes is too large without signals")));
                }
                Ok(Compiled { artifact, function, defined, entry, tier })
            })
        };
        with(tier).or_else(|error| if tier == Tier::Quick { with(Tier::Best) } else { Err(error) })
    })?;
    let counted = &module.engine.core.stats;
    let work = match compiled.tier {
        Tier::Quick => &counted.quick,
        Tier::BestWithLoops | Tier::Best => &counted.best,
    };
    work.add(module.facts.bodies[defined as usize].len(), compiled.size(), sys::thread_time().saturating_sub(started));
    if !matches!(plan, Plan::Function) {
        counted.loops_compiled.fetch_add(1, Ordering::Relaxed);
    }
    Ok(compiled)
}

/// The code of a defined function, compiled now if there is none.
///
/// A function that Cranelift refuses gets an adapter to the interpreter.
///
/// # Errors
/// [`Resource`](crate::ErrorKind::Resource) if there is no memory for the code, and those of
/// [`ModuleFacts::ensure_valid`](crate::module::ModuleFacts::ensure_valid).
pub(super) fn function(module: &CompiledModule, defined: u32) -> Result<*const VMCode> {
    let first = lazy_compile::entry(module.facts.defined_type(defined));
    let ready = || Some(module.entry(defined).load(Ordering::Acquire).cast_const()).filter(|code| *code != first);
    if let Some(code) = ready() {
        return Ok(code);
    }
    let tier = if module.engine.config().quick_code { Tier::Quick } else { Tier::Best };
    if let Some(code) = module.load(defined, tier, CodeEntry::Function) {
        return Ok(code);
    }
    module.facts.ensure_valid(defined)?;
    let compiled = module.may_compile().then(|| compile(module, defined, tier, CodeEntry::Function));
    let code = match compiled {
        Some(Ok(code)) => {
            module.record(&code);
            code
        }
        other => {
            if other.is_some() {
                module.engine.core.stats.refused.fetch_add(1, Ordering::Relaxed);
            }
            adapter(module, defined)?
        }
    };
    let mut space = module.space.lock().unwrap_or_else(PoisonError::into_inner);
    // Another thread may have published the function meanwhile.
    if let Some(code) = ready() {
        return Ok(code);
    }
    module.publish_in(&mut space, vec![code]).map(|codes| codes[0])
}

/// An adapter: code that is called like a compiled function, and calls the interpreter for it.
fn adapter(module: &CompiledModule, defined: u32) -> Result<Compiled> {
    on_enough_stack(|| {
        let (state, tier) = (&*module.engine, Tier::Best);
        let ty = module.facts.defined_type(defined);
        let artifact =
            state.with_workspace(|workspace| trampoline::to_interpreter(state.isa(tier), ty, defined, workspace))?;
        Ok(Compiled { artifact, function: None, defined, entry: CodeEntry::Function, tier })
    })
}

/// Runs `compile` with enough stack: on this thread, or if too little is left on a thread made for it.
pub(super) fn on_enough_stack<R: Send>(compile: impl FnOnce() -> Result<R> + Send) -> Result<R> {
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
    /// Runs `work` with a workspace. A panic in it becomes an error: bugs of the compiler must not end the program.
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
