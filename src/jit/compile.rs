//! Compiling functions, and keeping what was compiled.
//!
//! A function is compiled outside of all locks and then published under its module's, so that several threads can
//! compile at once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::Function;
use cranelift_codegen::isa::{OwnedTargetIsa, TargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_codegen::{Context, FinalizedMachExceptionHandler, FinalizedMachReloc, FinalizedRelocTarget, ir};
use cranelift_frontend::FunctionBuilderContext;
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{FuncId, Module as _, ModuleError, ModuleReloc, default_libcall_names};

use super::cached::Cached;
use super::code_memory::CodeMemory;
use super::lower::Plan;
use super::lower::osr::MAX_LOOPS;
use super::lower::trap::MAX_FRAME;
use super::registry::{self, FunctionCode, Handler, NO_LOCATION, WasmFunction};
use super::{EngineState, lower, resolver, trampoline};
use crate::config::{Config, Strategy};
use crate::error::{Error, Result};
use crate::module::ModuleInner;
use crate::module::types::FuncType;
use crate::runtime::engine::Engine;
use crate::sys;
use crate::vm::context::VMCode;

/// Stack that Cranelift may need for one function, with a wide margin: even large functions take under
/// 100 KiB, without optimisation some times more. A new thread for each would cost 60 µs.
const COMPILER_STACK: usize = if cfg!(debug_assertions) { 4 << 20 } else { 1 << 20 };

/// How well a function is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tier {
    /// In as little time as possible.
    Quick = 1,
    /// With the best settings, but so that it can be entered at loops too. What loops lose by that is much in some programs:
    /// Yosys takes 1.25 times as long.
    Entered = 2,
    /// As well as possible.
    Best = 3,
}

impl Tier {
    /// The tier of a number in the cache.
    pub(super) fn from_number(number: u32) -> Option<Self> {
        [Tier::Quick, Tier::Entered, Tier::Best].into_iter().find(|tier| *tier as u32 == number)
    }
}

/// Where code is entered that is compiled from a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Entry {
    /// At the start, with its arguments.
    Function,
    /// At the `loop` operator of this byte offset in the module, with the interpreter's frame.
    Loop {
        offset: u32,
        /// Whether the frame has scratch slots.
        wide_slots: bool,
    },
}

/// The compiler for this machine.
pub(super) fn isa(tier: Tier) -> Result<OwnedTargetIsa> {
    let mut flags = settings::builder();
    let verify = if cfg!(any(debug_assertions, test)) { "true" } else { "false" };
    let (opt_level, regalloc) = match tier {
        Tier::Quick => ("none", "single_pass"),
        Tier::Entered | Tier::Best => ("speed", "backtracking"),
    };
    let settings = [
        ("opt_level", opt_level),
        ("regalloc_algorithm", regalloc),
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
    pub bytes: Vec<u8>,
    pub alignment: u64,
    pub relocs: Vec<FinalizedMachReloc>,
    pub traps: Box<[(u32, u8)]>,
    pub locations: Box<[(u32, u32)]>,
    pub handlers: Box<[Handler]>,
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
    pub fn new(isa: &OwnedTargetIsa, expected: usize, config: &Config) -> Self {
        let mut builder = JITBuilder::with_isa(isa.clone(), default_libcall_names());
        // A thread that runs code on a page while it is written to is told to wait by a signal.
        builder.memory_provider(Box::new(CodeMemory::new(expected, !config.signals_based_traps)));
        // What instructions without a machine instruction are compiled to.
        builder.symbol("fmaf", fmaf as *const u8);
        builder.symbol("fma", fma as *const u8);
        CodeSpace(JITModule::new(builder))
    }

    /// Puts code into its place, from where it can be run and is found by address.
    pub fn define(&mut self, artifact: Artifact, function: Option<WasmFunction>) -> Result<*mut VMCode> {
        self.define_all(vec![(artifact, function)]).map(|codes| codes[0])
    }

    /// The same for several at once, which changes the protection of memory only once. Either all are defined, or none.
    pub fn define_all(&mut self, batch: Vec<(Artifact, Option<WasmFunction>)>) -> Result<Vec<*mut VMCode>> {
        // Threads that run code on a page that is being written to have to wait: much code gets pages of its own.
        let page = region::page::size();
        let mut fresh_page = batch.iter().map(|(artifact, _)| artifact.bytes.len()).sum::<usize>() >= page;
        let put = |(artifact, _): &(Artifact, _)| {
            let least = if std::mem::take(&mut fresh_page) { page as u64 } else { 1 };
            self.put(artifact, artifact.alignment.max(least))
        };
        let ids: Result<Vec<FuncId>> = batch.iter().map(put).collect();
        // What is written already must become executable again even if there was no room for all.
        self.0.finalize_definitions().map_err(no_room)?;
        let place = |((artifact, function), id): ((Artifact, _), FuncId)| {
            let start = self.0.get_finalized_function(id) as usize;
            let range = start..start + artifact.bytes.len();
            let Artifact { traps, locations, handlers, .. } = artifact;
            // SAFETY: the code was just put there; modules live longer than their code.
            unsafe { registry::add_function(FunctionCode { range, function, traps, locations, handlers }) };
            start as *mut VMCode
        };
        Ok(batch.into_iter().zip(ids?).map(place).collect())
    }

    /// Writes code to its place, which is executable after the next `finalize_definitions`.
    fn put(&mut self, artifact: &Artifact, alignment: u64) -> Result<FuncId> {
        let signature = ir::Signature::new(self.0.isa().default_call_conv());
        let id = self.0.declare_anonymous_function(&signature).map_err(no_room)?;
        let scratch = Function::new();
        let relocs = artifact.relocs.iter().map(|reloc| ModuleReloc::from_mach_reloc(reloc, &scratch, id));
        let relocs: Vec<ModuleReloc> = relocs.collect();
        self.0.define_function_bytes(id, alignment, &artifact.bytes, &relocs).map_err(no_room)?;
        Ok(id)
    }
}

fn no_room(error: ModuleError) -> Error {
    Error::resource(format!("no room for compiled code: {error}"))
}

extern "C" fn fmaf(a: f32, b: f32, c: f32) -> f32 {
    a.mul_add(b, c)
}

extern "C" fn fma(a: f64, b: f64, c: f64) -> f64 {
    a.mul_add(b, c)
}

/// Machine code of a function that is not in its place yet.
pub(crate) struct Compiled {
    pub(super) artifact: Artifact,
    /// `None` for an adapter: to backtraces it is glue, as the interpreter names the function.
    pub(super) function: Option<WasmFunction>,
    pub(super) defined: u32,
    pub(super) entry: Entry,
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

/// Compiles a defined function. May be called on any thread; nothing waits for it.
///
/// What the quick settings can't do is done with the best ones.
///
/// # Errors
/// [`Resource`](crate::ErrorKind::Resource) if Cranelift refuses the function, or if there is no loop at the offset that
/// can be reached.
pub(crate) fn compile(module: &ModuleInner, defined: u32, tier: Tier, entry: Entry) -> Result<Compiled> {
    let plan = match entry {
        Entry::Function => Plan::Function,
        Entry::Loop { offset, wide_slots } => Plan::Loop { offset, wide_slots },
    };
    compile_as(module, defined, tier, entry, plan)
}

/// Compiles a defined function so that it can also be entered at these loops, by
/// [`call_native_at_loop`](super::call_native_at_loop), which costs a test for each call of it. Of equal loops the first
/// counts; too many are left out.
///
/// # Errors
/// As for [`compile`].
pub(crate) fn compile_with_loops(
    module: &ModuleInner,
    defined: u32,
    tier: Tier,
    offsets: &[u32],
    wide_slots: bool,
) -> Result<Compiled> {
    let plan = match &offsets[..offsets.len().min(MAX_LOOPS)] {
        [] => Plan::Function,
        offsets => Plan::FunctionWithLoops { offsets, wide_slots },
    };
    compile_as(module, defined, tier, Entry::Function, plan)
}

fn compile_as(module: &ModuleInner, defined: u32, tier: Tier, entry: Entry, plan: Plan<'_>) -> Result<Compiled> {
    let started = sys::thread_time();
    let compiled = on_enough_stack(|| {
        let state = module.engine.jit();
        let with = |tier| {
            let tier = match plan {
                Plan::FunctionWithLoops { .. } => Tier::Entered.min(tier),
                Plan::Function | Plan::Loop { .. } => tier,
            };
            state.with_workspace(|workspace| {
                let Workspace { context, builder } = workspace;
                let isa = state.isa(tier);
                let counts = tier == Tier::Quick;
                lower::function(module, isa, defined, plan, counts, context, builder)?;
                let function = Some(WasmFunction { module, defined });
                let artifact = artifact(isa, context)?;
                let code = context.compiled_code().and_then(|code| code.buffer.frame_layout());
                let frame = code.map_or(0, |layout| layout.frame_to_fp_offset);
                if !module.engine.config().signals_based_traps && frame > MAX_FRAME {
                    return Err(Error::resource(format!("frame of {frame} bytes is too large without signals")));
                }
                Ok(Compiled { artifact, function, defined, entry, tier })
            })
        };
        with(tier).or_else(|error| if tier == Tier::Quick { with(Tier::Best) } else { Err(error) })
    })?;
    let counted = module.engine.counted();
    let work = match compiled.tier {
        Tier::Quick => &counted.quick,
        Tier::Entered | Tier::Best => &counted.best,
    };
    work.add(module.bodies[defined as usize].len(), compiled.size(), sys::thread_time().saturating_sub(started));
    if !matches!(plan, Plan::Function) {
        counted.loops_compiled.fetch_add(1, Ordering::Relaxed);
    }
    Ok(compiled)
}

/// The native code of a module: an entry per defined function, which leads to the code or at first to the resolver. The
/// code lives as long as this.
pub(crate) struct ModuleCode {
    entries: Box<[AtomicPtr<VMCode>]>,
    /// The [`Tier`] of the code that an entry leads to; zero while that is a resolver or glue.
    pub(super) tiers: Box<[AtomicU8]>,
    /// See [`VMContext::heat`](crate::vm::context::VMContext::heat).
    heat: Arc<[AtomicU32]>,
    pub(super) space: Mutex<Option<CodeSpace>>,
    pub(super) cached: Cached,
}

impl ModuleCode {
    /// Entries for the defined functions, of these types; none if the engine only interprets.
    pub(crate) fn new<'a>(engine: &Engine, types: impl Iterator<Item = &'a FuncType>) -> Self {
        let entries: Box<[_]> = match engine.config().strategy {
            Strategy::Interpreter => Box::default(),
            Strategy::Jit | Strategy::Tiered => {
                types.map(|ty| AtomicPtr::new(resolver::entry(ty).cast_mut())).collect()
            }
        };
        let tiers = entries.iter().map(|_| AtomicU8::new(0)).collect();
        let heat = entries.iter().map(|_| AtomicU32::new(0)).collect();
        ModuleCode { entries, tiers, heat, space: Mutex::new(None), cached: Cached::default() }
    }

    /// What goes into `VMContext::entries`.
    pub(crate) fn entries(&self) -> *const AtomicPtr<VMCode> {
        if self.entries.is_empty() { std::ptr::null() } else { self.entries.as_ptr() }
    }

    /// What goes into `VMContext::tiers`.
    pub(crate) fn tiers(&self) -> *const AtomicU8 {
        if self.tiers.is_empty() { std::ptr::null() } else { self.tiers.as_ptr() }
    }

    /// What goes into `VMContext::heat`.
    pub(crate) fn heat(&self) -> *const AtomicU32 {
        if self.heat.is_empty() { std::ptr::null() } else { self.heat.as_ptr() }
    }

    /// What quick code of the defined functions has run so far.
    pub(crate) fn shared_heat(&self) -> Arc<[AtomicU32]> {
        self.heat.clone()
    }

    /// The entry of a defined function.
    pub(super) fn entry(&self, defined: u32) -> &AtomicPtr<VMCode> {
        &self.entries[defined as usize]
    }

    /// The compiled code of a defined function, if there is some.
    pub(crate) fn native(&self, defined: u32) -> Option<*const VMCode> {
        // Acquire: the entry is written first.
        let tier = self.tiers.get(defined as usize)?.load(Ordering::Acquire);
        (tier != 0).then(|| self.entry(defined).load(Ordering::Acquire).cast_const())
    }

    /// How to call a defined function that has native code: the glue, null if there is no memory for some, and where its
    /// entry is.
    pub(crate) fn way_in(&self, module: &ModuleInner, defined: u32) -> (*const VMCode, *const AtomicPtr<VMCode>) {
        let (engine, sig) = (&module.engine, module.defined_sig(defined));
        let glue = engine.jit().trampolines.get(trampoline::Kind::Enter, sig, engine);
        (glue.unwrap_or(std::ptr::null()), self.entry(defined))
    }

    /// Whether a defined function has the best code there will be.
    pub(crate) fn is_best(&self, defined: u32) -> bool {
        self.tiers[defined as usize].load(Ordering::Relaxed) == Tier::Best as u8
    }

    /// Puts compiled code into its place, and has the entries of functions lead there. The pointers are in the order of
    /// the batch. Code never replaces what was compiled better.
    ///
    /// # Errors
    /// [`Resource`](crate::ErrorKind::Resource) if there is no memory for the code; then nothing is published.
    pub(crate) fn publish(&self, module: &ModuleInner, batch: Vec<Compiled>) -> Result<Vec<*const VMCode>> {
        let mut space = self.space.lock().unwrap_or_else(PoisonError::into_inner);
        self.publish_in(&mut space, module, batch)
    }

    pub(super) fn publish_in(
        &self,
        space: &mut Option<CodeSpace>,
        module: &ModuleInner,
        batch: Vec<Compiled>,
    ) -> Result<Vec<*const VMCode>> {
        let state = module.engine.jit();
        let space = space.get_or_insert_with(|| {
            CodeSpace::new(state.owned_isa(Tier::Best), expected_size(module), module.engine.config())
        });
        let targets: Vec<_> =
            batch.iter().map(|code| (code.entry, code.defined, code.function.map(|_| code.tier))).collect();
        let codes = space.define_all(batch.into_iter().map(|code| (code.artifact, code.function)).collect())?;
        for (code, (entry, defined, tier)) in codes.iter().zip(targets) {
            if entry == Entry::Function {
                self.lead_to(*code, defined, tier);
            }
        }
        Ok(codes.into_iter().map(<*mut VMCode>::cast_const).collect())
    }

    /// Has the entry of a function lead to code of this tier, unless it leads to better code. The space's lock is held:
    /// no other thread publishes.
    pub(super) fn lead_to(&self, code: *mut VMCode, defined: u32, tier: Option<Tier>) {
        let (place, tier) = (&self.tiers[defined as usize], tier.map_or(0, |tier| tier as u8));
        if place.load(Ordering::Relaxed) <= tier {
            self.entry(defined).store(code, Ordering::Release);
            place.store(tier, Ordering::Release);
        }
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
    let first = resolver::entry(module.defined_type(defined));
    let ready = || Some(this.entry(defined).load(Ordering::Acquire).cast_const()).filter(|code| *code != first);
    if let Some(code) = ready() {
        return Ok(code);
    }
    let tier = if module.engine.config().quick_code { Tier::Quick } else { Tier::Best };
    if let Some(code) = this.load(module, defined, tier, Entry::Function) {
        return Ok(code);
    }
    module.ensure_valid(defined)?;
    let compiled = this.may_compile(module).then(|| compile(module, defined, tier, Entry::Function));
    let code = match compiled {
        Some(Ok(code)) => {
            this.record(module, &code);
            code
        }
        other => {
            if other.is_some() {
                module.engine.counted().refused.fetch_add(1, Ordering::Relaxed);
            }
            adapter(module, defined)?
        }
    };
    let mut space = this.space.lock().unwrap_or_else(PoisonError::into_inner);
    // Another thread may have been faster.
    if let Some(code) = ready() {
        return Ok(code);
    }
    this.publish_in(&mut space, module, vec![code]).map(|codes| codes[0])
}

/// A function like a compiled one, which calls the interpreter.
fn adapter(module: &ModuleInner, defined: u32) -> Result<Compiled> {
    on_enough_stack(|| {
        let (state, tier) = (module.engine.jit(), Tier::Best);
        let ty = module.defined_type(defined);
        let artifact =
            state.with_workspace(|workspace| trampoline::to_interpreter(state.isa(tier), ty, defined, workspace))?;
        Ok(Compiled { artifact, function: None, defined, entry: Entry::Function, tier })
    })
}

/// Bytes of native code a module will have if much of it is run.
fn expected_size(module: &ModuleInner) -> usize {
    3 * module.bodies.iter().map(|body| body.len()).sum::<usize>()
}

/// Runs `compile` where the stack surely suffices: here, or else on a thread made for it.
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
