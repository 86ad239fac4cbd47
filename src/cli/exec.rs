//! `wasmrun exec`: runs a program, or one function of a module.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufWriter, Write};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use super::cache::CacheArgs;
use super::call::{self, Call};
use super::destination::Place;
use super::engine::{EngineArgs, ProfileArg};
use super::output::{self, Failure, hint, warning};
use super::sandbox::SandboxArgs;
use super::stats::{self, Phases, Usage};
use super::streams::StreamArgs;
use super::{backtrace, denials, front, input, mistaken, process, profile, sandbox, similar, status, value};
use crate::printable::Printable;
use crate::{
    BudgetItem, Error, ErrorKind, ExternType, ImportType, Linker, Module, Store, Trap, WasiEnv, WasmCoreDump,
    add_wasi_to_linker,
};

const EXAMPLES: &str = "\
Examples:
  wasmrun exec hello.wasm one two           run a WASI program with arguments
  wasmrun exec --dir . cat.wasm a.txt       let it see the current directory
  wasmrun exec --dir in::/in:ro s.wasm /in  show it the folder in, to read
  wasmrun exec --env LANG --env K=V p.wasm  with two environment variables
  wasmrun exec --stdin a.txt --stdout b.txt tr.wasm
  wasmrun exec --listen 127.0.0.1:8080 p.wasm
  wasmrun exec --explain-denials p.wasm     which flags it needs, if it fails
  wasmrun exec --trace-wasi p.wasm          show each of its WASI calls
  wasmrun exec --max-cpu 2s --max-memory 64M --max-output 1M p.wasm
  wasmrun exec --max-file-size 1M --max-open-files 20 --dir tmp::/ p.wasm
  wasmrun exec --timeout 5s p.wasm          end it with 124 if it takes longer
  wasmrun exec --fuel 1000000000 p.wasm     end it when it has done so much
  wasmrun exec --coredump core p.wasm       keep its memory if it traps
  wasmrun exec --call add math.wat 1 -0x2   call a function, print its results
  wasmrun exec --call mix v.wasm 'f32x4 1 2 nan inf' null
  wasmrun exec --allow-precompiled p.cwasm  what `wasmrun compile` has made
  curl -s https://example.org/p.wasm | wasmrun exec - one two

The word exec may be left out: wasmrun --dir . cat.wasm a.txt";

const VALIDATION: &str = "\
Validation:
  A function of a large module is validated before it first runs, all others in
  the background. An invalid one that is called ends the program with status
  126; one that is not called is worth a warning at the end, if it was found by
  then. `wasmrun inspect` validates a module as a whole.";

/// The longest that the process waits for what is being compiled when the program has ended, and never longer than half
/// the time that the program ran: CPython's bytecode loop takes the compiler 120 ms, and each later start is 60 ms shorter.
const FINISH: Duration = Duration::from_millis(150);

/// The longest that the process goes on compiling what was hot when the program has ended, and never longer than a fifth of
/// the processor time that it has used.
const PREPARE: Duration = Duration::from_millis(500);

/// Missing imports that a message lists.
const MAX_MISSING: usize = 100;

/// Run a WebAssembly program (.wasm or .wat)
#[derive(Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{VALIDATION}\n\n{}\n\n{EXAMPLES}", super::STATUS_HELP))]
pub(super) struct ExecArgs {
    /// The module, .wasm or .wat, `-` for standard input; all that follows belongs to the program
    #[arg(required = true, num_args = 1.., trailing_var_arg = true, value_names = ["FILE", "ARGS"])]
    #[arg(value_hint = clap::ValueHint::FilePath)]
    file_and_args: Vec<OsString>,

    /// Call this exported function and print its results, a line each; ARGS are its arguments, as the text format spells
    /// them, or, if it has no parameters, the program's
    #[arg(long, value_name = "EXPORT", help_heading = "Program")]
    call: Option<String>,

    /// Instantiate the module in FILE first; the program can import its exports from NAME
    #[arg(long, value_name = "NAME=FILE", help_heading = "Program", value_parser = preload)]
    preload: Vec<(String, OsString)>,

    /// What to do about functions that the program imports and nothing provides
    #[arg(long, value_enum, value_name = "WHAT", default_value = "error", help_heading = "Program")]
    unknown_imports: UnknownImports,

    /// Run native code from files of `wasmrun compile`, whose names end in .cwasm: it runs outside of any sandbox
    #[arg(long, help_heading = "Program")]
    allow_precompiled: bool,

    #[command(flatten)]
    engine: EngineArgs,

    #[command(flatten)]
    sandbox: SandboxArgs,

    /// End the program, with status 124, if it has not ended by itself in TIME, such as 5s, 500ms or 1m30s
    #[arg(long, value_name = "TIME", help_heading = "Limits", value_parser = sandbox::time)]
    timeout: Option<Duration>,

    /// End the program when it has consumed N units of fuel: about one for each instruction, and more for what takes longer
    /// (`Config::consume_fuel` has the prices)
    #[arg(long, value_name = "N", help_heading = "Limits", allow_negative_numbers = true, value_parser = sandbox::number)]
    fuel: Option<u64>,

    #[command(flatten)]
    streams: StreamArgs,

    /// Report on standard error, when the program has ended, how the time was spent
    #[arg(long, value_enum, value_name = "FORMAT", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "text", help_heading = "Reports")]
    stats: Option<stats::Format>,

    /// If the program traps, throws or is ended, write its memory, its globals and its stack to FILE, for a debugger
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath, help_heading = "Reports")]
    coredump: Option<PathBuf>,

    #[command(flatten)]
    cache: CacheArgs,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum UnknownImports {
    /// Refuse to run it
    Error,
    /// Trap when one is called
    Trap,
    /// Let them return zeros and nulls
    Default,
}

fn preload(text: &str) -> Result<(String, OsString), String> {
    match text.split_once('=') {
        Some((name, file)) if !file.is_empty() => Ok((name.into(), file.into())),
        _ => Err("expected NAME=FILE".into()),
    }
}

pub(super) fn run(args: ExecArgs) -> Result<u8, Failure> {
    let mut phases = Phases::start();
    process::on_big_stack(|| {
        let mut run = Run::new(&args, &mut phases).map_err(|failure| with_hints(failure, &args))?;
        let (engine, module, file) = (run.store.engine().clone(), run.module.clone(), input::display(run.file));
        process::set_guest(Some(process::Guest {
            handle: run.store.interrupt_handle(),
            file: file.clone(),
            is_verbose: args.cache.is_verbose(),
            dumps_core: args.coredump.is_some(),
        }));
        let result = run.start(&mut phases);
        process::set_guest(None);
        profile::finish(result.is_ok());
        if let Some(format) = args.stats {
            let (used, reached) = (run.store.budget_used(), run.store.budget_reached());
            phases.report(&engine, &Usage { used, reached, limits: &args.sandbox.limits }, format);
        }
        let status = result.map_err(|failure| with_hints(failure, &args))?;
        if engine.core().config.cache.keeps() {
            module.prepare_later_runs();
            let more = PREPARE.min(phases.cpu() / 5);
            engine.finish_compiling(more, Duration::ZERO..=FINISH.min(phases.total() / 2));
        }
        process::flush_caches();
        args.cache.report(&file, module.cache_stats());
        if status != status::INVALID
            && let Some(error) = module.late_error()
            && matches!(error.kind(), ErrorKind::Invalid { .. } | ErrorKind::Unsupported { .. })
        {
            warning(&format!("{file}: a function that was not run is invalid: {error}"));
        }
        Ok(status)
    })?
}

/// The failure of a program that was not run, with what its arguments tell.
fn with_hints(failure: Failure, args: &ExecArgs) -> Failure {
    let program_args: Vec<_> =
        args.file_and_args.iter().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    failure.with_hint(front::flag_behind_file(&program_args))
}

/// A program that is about to run.
struct Run<'a> {
    args: &'a ExecArgs,
    file: &'a OsStr,
    program_args: Vec<String>,
    module: Module,
    wasi_env: Arc<Mutex<WasiEnv>>,
    // Not dropped: when the program has ended the process does too, and the system frees memory faster at once.
    store: ManuallyDrop<Store<()>>,
    linker: ManuallyDrop<Linker<()>>,
    /// Where the core is dumped, found before the guest can make links.
    core: Option<io::Result<Place>>,
}

impl<'a> Run<'a> {
    fn new(args: &'a ExecArgs, phases: &mut Phases) -> Result<Self, Failure> {
        let (file, rest) = args.file_and_args.split_first().expect("clap requires one");
        let utf8 = |arg: &OsString| {
            let error = || Failure::usage(format!("argument {} is not UTF-8", arg.to_string_lossy()));
            arg.to_str().map(str::to_string).ok_or_else(error)
        };
        let program_args = rest.iter().map(utf8).collect::<Result<Vec<_>, _>>()?;
        let engine = args.engine.lazy_engine(args.cache.cache(), args.fuel.is_some())?;
        let module = input::module(&engine, file, args.allow_precompiled)?;
        process::flush_at_end(&module);
        phases.end("load");
        // A function without parameters gets them as a program does.
        let is_typed = args.call.as_ref().is_some_and(|func| call::has_params(&module, func));
        let own = if is_typed { &[][..] } else { &program_args };
        let wasi_env = Arc::new(Mutex::new(args.streams.apply(args.sandbox.wasi_env(file, own)?)?));
        let mut linker = ManuallyDrop::new(Linker::new(&engine));
        add_wasi_to_linker(&mut linker, wasi_env.clone()).map_err(|error| Failure::error(error.to_string()))?;
        let mut store = ManuallyDrop::new(Store::new(&engine, ()));
        let budget = args.sandbox.limits.budget(args.stats.is_some());
        store.set_budget(&budget).map_err(|error| Failure::error(error.to_string()))?;
        if let Some(fuel) = args.fuel {
            store.set_fuel(fuel).map_err(|error| Failure::error(error.to_string()))?;
        }
        if let Some(ProfileArg::Flame(graph)) = &args.engine.profile {
            profile::start(&mut store, file, graph.as_deref())?;
        }
        let core = args.coredump.as_deref().map(Place::find);
        Ok(Run { args, file, program_args, module, wasi_env, store, linker, core })
    }

    fn start(&mut self, phases: &mut Phases) -> Result<u8, Failure> {
        // A time beyond what the clock can tell never comes.
        let deadline = self.args.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        self.store.set_deadline(deadline).map_err(|error| Failure::of("--timeout", &error))?;
        for (name, file) in &self.args.preload {
            self.preload(name, file)?;
        }
        let name = input::display(self.file);
        let module = self.module.clone();
        self.resolve(&module, &name)?;
        let store = &mut *self.store;
        let instance = match self.linker.instantiate(&mut *store, &module) {
            Ok(instance) => instance,
            Err(error) => return Ok(self.ended_by(&error)),
        };
        phases.end("instantiate");

        let is_command = export_is_func(&module, "_start");
        let (func, args) = match &self.args.call {
            Some(func) if call::has_params(&module, func) => (func.as_str(), &self.program_args[..]),
            Some(func) => (func.as_str(), &[][..]),
            None if is_command => ("_start", &[][..]),
            // The default export, which some toolchains give the main function of a reactor.
            None if export_is_func(&module, "") => ("", &[][..]),
            None => {
                let message = format!("{name} has no function `_start`, so it is a library, not a program");
                let usage = call::first_callable(&module)
                    .map(|(first, args)| format!("--call runs one of them, as in wasmrun --call {first} {name}{args}"));
                return Err(Failure::error(format!("{message}; {}", call::callable(&module))).with_hint(usage));
            }
        };
        let call = Call::new(store, instance, func, args)?;
        if !is_command && export_is_func(&module, "_initialize") && func != "_initialize" {
            let initialized = Call::new(store, instance, "_initialize", &[])?.run(store);
            if let Err(error) = initialized {
                return Ok(self.ended_by(&error));
            }
        }
        let result = call.run(store);
        phases.end("run");
        match result {
            Ok(results) => {
                let lines: Vec<_> = results.iter().map(|result| value::print(result) + "\n").collect();
                output::print(&lines.concat())?;
                self.tell_limits(0, None);
                Ok(0)
            }
            Err(error) => Ok(self.ended_by(&error)),
        }
    }

    /// Reports the limits that the program ran into. Its output is incomplete then, even if it ended with success; a program
    /// that ends with success after it could not open a file or grow a memory has dealt with that, so this is not reported. Nor
    /// is the item that the message has `named`.
    fn tell_limits(&self, status: u8, named: Option<BudgetItem>) {
        for item in self.store.budget_reached() {
            if let Some(flag) = self.args.sandbox.limits.flag(item)
                && (status != 0 || !matches!(item, BudgetItem::OpenFiles | BudgetItem::Memory))
                && named != Some(item)
            {
                hint(&format!("the program was held back by {flag}"));
            }
        }
    }

    /// Instantiates a module whose exports the program may import.
    fn preload(&mut self, name: &str, file: &OsStr) -> Result<(), Failure> {
        let display = input::display(file);
        let module = input::module(self.store.engine(), file, self.args.allow_precompiled)?;
        process::flush_at_end(&module);
        self.resolve(&module, &display)?;
        let what = format!("--preload {}={display}", Printable::line(name));
        self.define_exports(name, &module).map_err(|error| self.failure(&what, &error))
    }

    /// Instantiates a module once, a command too, and defines its exports.
    fn define_exports(&mut self, name: &str, module: &Module) -> crate::Result<()> {
        let store = &mut *self.store;
        let instance = self.linker.instantiate(&mut *store, module)?;
        if let Some(initialize) = instance.get_func(&mut *store, "_initialize") {
            initialize.call(&mut *store, &[], &mut [])?;
        }
        self.linker.instance(store, name, instance).map(drop)
    }

    /// What is reported of an error. That of `--timeout` has a status of its own, and names the flag.
    fn failure(&self, what: &str, error: &Error) -> Failure {
        match (error.trap(), self.args.timeout) {
            (Some(Trap::Deadline), Some(timeout)) => {
                Failure::new(status::TIMED_OUT, format!("{what}: ended by --timeout, after {timeout:?}"))
            }
            _ => Failure::of(what, error),
        }
    }

    /// Sees to the imports of a module that nothing provides.
    fn resolve(&mut self, module: &Module, file: &str) -> Result<(), Failure> {
        let result = match self.args.unknown_imports {
            UnknownImports::Error => Ok(()),
            UnknownImports::Trap => self.linker.define_unknown_imports_as_traps(module),
            UnknownImports::Default => self.linker.define_unknown_imports_as_default_values(&mut *self.store, module),
        };
        let missing: Vec<_> = module
            .imports()
            .filter(|import| self.linker.get(&mut *self.store, import.module(), import.name()).is_none())
            .collect();
        if missing.is_empty() {
            return result.map_err(|error| Failure::of(file, &error));
        }
        let mut message = format!("{file} imports what nothing provides:");
        for import in missing.iter().take(MAX_MISSING) {
            let (module, name) = (Printable::name(import.module()), Printable::name(import.name()));
            message.push_str(&format!("\n  {module}.{name} {}", import.ty()));
        }
        if missing.len() > MAX_MISSING {
            message.push_str(&format!("\n  and {} more", missing.len() - MAX_MISSING));
        }
        let failure = Failure::error(message).with_hint(self.misspelt_preload(module, &missing));
        if let Some(host) = mistaken::made_for(&missing) {
            return Err(failure.with_hint(host.to_string()));
        }
        let others: Vec<_> = missing.iter().filter(|import| !is_func(&import.ty())).collect();
        let from = others.first().map_or(&missing[0], |import| import).module();
        let preload = match self.args.preload.iter().find(|(name, _)| name == from) {
            Some((_, file)) => format!("{}, which --preload gives for it, does not export that", input::display(file)),
            None => format!("--preload {}=FILE takes the exports of another module", Printable::name(from)),
        };
        let trap = "--unknown-imports=trap runs it as long as they are not called".to_string();
        Err(failure.with_hint(preload).with_hint(others.is_empty().then_some(trap)))
    }

    /// A question for the module that a `--preload` was to provide, if its name was mistyped.
    fn misspelt_preload(&self, module: &Module, missing: &[ImportType<'_>]) -> Option<String> {
        let given = |name: &str| self.args.preload.iter().any(|(own, _)| own == name);
        let wanted: BTreeSet<_> = missing.iter().map(ImportType::module).filter(|name| !given(name)).collect();
        let is_used = |name: &str| module.imports().any(|import| import.module() == name);
        self.args.preload.iter().filter(|(name, _)| !is_used(name)).find_map(|(name, file)| {
            let module = *similar::nearest(name, wanted.iter().copied()).first()?;
            Some(format!("did you mean `--preload {}={}`?", Printable::name(module), input::display(file)))
        })
    }

    /// The message of an error; it names the flag of the limit that the error is due to.
    fn message(&self, error: &Error) -> String {
        let flag = error.budget_item().and_then(|item| Some((item, self.args.sandbox.limits.flag(item)?)));
        flag.map_or(error.to_string(), |(item, flag)| error.to_string().replace(item.method(), &flag))
    }

    /// The WebAssembly functions that an error left, and the line of the source: lines to come below the message.
    fn backtrace(&self, error: &Error) -> String {
        match error.backtrace() {
            [] => String::new(),
            _ => format!("\n{}", backtrace::text(error.printed_backtrace(), self.args.cache.is_verbose())),
        }
    }

    /// Writes the core of the program that an error has ended.
    fn dump_core(&self, error: &Error, file: &Path, place: io::Result<Place>) {
        // Nobody is left to interrupt: Ctrl-C ends the process now, however long it takes to write the file.
        process::set_guest(None);
        let name = input::display(file.as_os_str());
        let write = move || -> io::Result<()> {
            let mut out = BufWriter::with_capacity(64 << 10, place?.open()?);
            out.get_ref().make_private()?;
            WasmCoreDump::of_error(error).write(&*self.store, &self.file.to_string_lossy(), &mut out)?;
            out.flush()?;
            out.into_inner().map_err(io::IntoInnerError::into_error)?.finish()
        };
        match write() {
            Ok(()) => output::note(&format!("core dumped to {name}")),
            Err(error) => output::error(&format!("cannot write the core dump {name}: {error}")),
        }
    }

    /// Reports the error that ended the program; the exit status for it.
    fn ended_by(&mut self, error: &Error) -> u8 {
        let status = match error.kind() {
            ErrorKind::Exit(code) => *code as u8,
            ErrorKind::Trap { trap, .. } if *trap != Trap::Deadline => {
                output::error(&format!(
                    "{}: trap: {}{}",
                    input::display(self.file),
                    self.message(error),
                    self.backtrace(error)
                ));
                if let (Some(Trap::OutOfFuel), Some(fuel)) = (error.trap(), self.args.fuel) {
                    hint(&format!("the program was held back by --fuel={fuel}"));
                }
                if is_beyond_own_stack(error) {
                    hint(
                        "calls are nested so deeply that the stack which the program has in its memory may be used up; \
                         `-z stack-size=BYTES` makes it larger when the program is linked",
                    );
                }
                match trap {
                    Trap::CpuTime => status::TIMED_OUT,
                    // Nothing else than Ctrl-C interrupts it.
                    Trap::Interrupt => status::INTERRUPTED,
                    _ => status::TRAP,
                }
            }
            _ if error.budget_item().is_some() => {
                output::error(&format!(
                    "{}: {}{}",
                    input::display(self.file),
                    self.message(error),
                    self.backtrace(error)
                ));
                status::ERROR
            }
            _ => self.failure(&input::display(self.file), error).with_details(&self.backtrace(error)).report(),
        };
        if let (Some(file), Some(place)) = (&self.args.coredump, self.core.take())
            && error.exit_code().is_none()
        {
            self.dump_core(error, file, place);
        }
        if status == 0 || !self.args.streams.explain_denials {
            self.tell_limits(status, error.budget_item());
        }
        if status != 0
            && let Ok(env) = self.wasi_env.lock()
        {
            if self.args.streams.explain_denials {
                denials::explain(&env.denials(), &self.args.sandbox, &self.program_args);
            } else if env.missed_directories() && matches!(error.trap(), None | Some(Trap::Unreachable)) {
                // Some C libraries look for directories in every program, so no other trap has to do with that.
                hint(
                    "the program looked for directories and has none; --dir HOST[::GUEST] shows it one, as in \
                     --dir .; --explain-denials tells which",
                );
                let is_dir = |arg: &String| arg == "--dir" || arg.starts_with("--dir=");
                let dir = self.program_args.iter().take_while(|arg| *arg != "--").find(|arg| is_dir(arg));
                if let Some(flag) = dir.and_then(|dir| front::flag_behind_file(std::slice::from_ref(dir))) {
                    hint(&flag);
                }
            }
        }
        status
    }
}

/// Whether an error is that of a program whose stack pointer has gone below zero: compilers keep a stack in linear memory, and
/// linkers put it at the beginning, where an address below zero is one near 4 GiB.
fn is_beyond_own_stack(error: &Error) -> bool {
    const NEAR: u64 = 1 << 20;
    let is_wrapped = |address: u64| address.abs_diff(1 << 32) < NEAR;
    let fault = match error.kind() {
        ErrorKind::Trap { trap: Trap::MemoryOutOfBounds, fault } => *fault,
        _ => None,
    };
    error.printed_backtrace().is_cut() && fault.is_some_and(|fault| is_wrapped(fault.address))
}

fn is_func(ty: &ExternType) -> bool {
    matches!(ty, ExternType::Func(_))
}

fn export_is_func(module: &Module, name: &str) -> bool {
    module.exports().any(|export| export.name() == name && is_func(&export.ty()))
}
