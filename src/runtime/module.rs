//! Modules for the embedder: a module's facts together with the engines' data for it.

use std::borrow::Cow;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::engine::Engine;
use crate::config::cache::CacheStats;
use crate::error::{Error, ErrorKind, FrameSymbol, Result};
use crate::interp;
#[cfg(jit)]
use crate::jit;
use crate::module::types::{ExternType, FuncType};
use crate::module::{ExternIndex, Import, ModuleFacts, background, custom, decode, file};
use crate::printable::Printable;
#[cfg(jit)]
use crate::sys;
#[cfg(jit)]
use crate::tier::ModuleTier;
use crate::vm::image::MemoryImage;
use crate::vm::instantiate::ModuleRuntimeInfo;

/// A WebAssembly module, decoded and validated, of which instances can be made. Cloning is cheap: clones share everything.
///
/// ```
/// use wasmrun::{Engine, Module};
/// let module = Module::new(&Engine::default(), "(module (func (export \"f\")))")?;
/// assert_eq!(module.exports().next().unwrap().name(), "f");
/// # Ok::<(), wasmrun::Error>(())
/// ```
#[derive(Clone)]
pub struct Module(pub(crate) Arc<ModuleInner>);

/// A module's facts, and each engine's data for it.
pub(crate) struct ModuleInner {
    pub engine: Engine,
    pub facts: Arc<ModuleFacts>,
    /// The initial contents of memory 0, which instances share.
    pub image: MemoryImage,
    pub interp: Arc<interp::InterpretedModule>,
    #[cfg(jit)]
    pub jit: Arc<jit::CompiledModule>,
    #[cfg(jit)]
    pub tier: Arc<ModuleTier>,
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Module")
            .field("name", &self.name())
            .field("bytes", &self.0.facts.source.len())
            .finish_non_exhaustive()
    }
}

impl Module {
    /// Decodes and validates a module in the binary or the text format.
    ///
    /// If there are many function bodies, several threads validate them. With
    /// [`Config::lazy_validation`](crate::Config::lazy_validation) they are validated later.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) or [`Unsupported`](crate::ErrorKind::Unsupported), with the byte offset and the
    /// function where known.
    pub fn new(engine: &Engine, bytes: impl AsRef<[u8]>) -> Result<Self> {
        Self::from_facts(engine, decode::module(&engine.core().config, &engine.core().types, bytes.as_ref().into())?)
    }

    /// Decodes and validates the module in a file, in the binary or the text format.
    ///
    /// With [`Config::lazy_validation`](crate::Config::lazy_validation), only a part of a large binary is read. This function
    /// maps the file into memory to find the functions. Later, a function body is read and validated when the function is
    /// first called, names and debug sections are read for the first backtrace. The file stays open for that, so it may
    /// be renamed or deleted. Small files, and those that are not regular files, are read in full.
    ///
    /// Code that was validated or has run is never read again from the file, so a program that can write to its own module
    /// can't get unvalidated code to run. But if the file is written to or truncated, parts of the module that were not read
    /// before are lost: a call that needs them fails with a [`Resource`](crate::ErrorKind::Resource) error. To replace the file
    /// of a module that may be running, write a new file and rename it over the old one. If the file is truncated *during this
    /// function* (for a millisecond or so), the process may be ended by SIGBUS; where others may do that, read the file and use
    /// [`Module::new`].
    ///
    /// # Errors
    /// [`Resource`](crate::ErrorKind::Resource) if the file can't be read, or those of [`Module::new`].
    ///
    /// ```
    /// use wasmrun::{Engine, ErrorKind, Module};
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("add.wat");
    /// std::fs::write(&path, r#"(module (func (export "add") (param i32 i32) (result i32)
    ///     (i32.add (local.get 0) (local.get 1))))"#)?;
    /// let module = Module::from_file(&Engine::default(), &path)?;
    /// assert_eq!(module.export_func_index("add"), Some(0));
    ///
    /// let missing = Module::from_file(&Engine::default(), "no-such-file.wasm").unwrap_err();
    /// assert!(matches!(missing.kind(), ErrorKind::Resource(_)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_file(engine: &Engine, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        match File::open(path) {
            Ok(file) => Self::from_open_file(engine, file),
            Err(error) => Err(file::unreadable(&error)),
        }
        .map_err(|error| match error.kind() {
            ErrorKind::Resource(message) => {
                Error::resource(format!("{}: {message}", Printable::line(&path.to_string_lossy())))
            }
            _ => error,
        })
    }

    /// The module in an open file, read from its beginning.
    pub(crate) fn from_open_file(engine: &Engine, file: File) -> Result<Self> {
        Self::from_facts(engine, file::module(&engine.core().config, &engine.core().types, file)?)
    }

    /// Decodes and validates a module in the binary format, and only that.
    ///
    /// # Errors
    /// As for [`Module::new`].
    pub fn from_binary(engine: &Engine, binary: &[u8]) -> Result<Self> {
        Self::from_facts(engine, decode::binary(&engine.core().config, &engine.core().types, binary.into())?)
    }

    /// Checks that `binary` is a valid module for this engine, in the binary format.
    ///
    /// ```
    /// use wasmrun::{Engine, Module};
    /// let engine = Engine::default();
    /// assert!(Module::validate(&engine, b"\0asm\x01\0\0\0").is_ok());
    /// assert!(Module::validate(&engine, b"\0asm\x02\0\0\0").is_err());
    /// ```
    ///
    /// # Errors
    /// As for [`Module::new`]; function bodies are always validated.
    pub fn validate(engine: &Engine, binary: &[u8]) -> Result<()> {
        let mut config = engine.core().config.clone();
        config.lazy_validation = false;
        decode::binary(&config, &engine.core().types, binary.into()).map(drop)
    }

    /// Whether both are the same module: one was cloned from the other.
    pub fn same(a: &Module, b: &Module) -> bool {
        Arc::ptr_eq(&a.0, &b.0)
    }

    /// The engine that the module was made for.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// The module's name, from the name section.
    pub fn name(&self) -> Option<&str> {
        self.0.facts.names().module()
    }

    /// The module's imports, in order.
    pub fn imports(&self) -> impl ExactSizeIterator<Item = ImportType<'_>> {
        self.0.facts.imports.iter().map(ImportType)
    }

    /// The module's exports, in order.
    pub fn exports(&self) -> impl ExactSizeIterator<Item = ExportType<'_>> {
        self.0
            .facts
            .exports
            .iter()
            .map(|export| ExportType { name: &export.name, ty: self.0.facts.extern_type(export.index) })
    }

    /// The type of the export `name`, if there is one.
    ///
    /// ```
    /// use wasmrun::{Engine, ExternType, Module};
    /// let module = Module::new(&Engine::default(), r#"(module (memory (export "memory") 1))"#)?;
    /// assert!(matches!(module.get_export("memory"), Some(ExternType::Memory(ty)) if ty.minimum() == 1));
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    pub fn get_export(&self, name: &str) -> Option<ExternType> {
        Some(self.0.facts.extern_type(self.0.facts.export(name)?))
    }

    /// Finds the export `name` once for [`Instance::get_module_export`] of any number of instances.
    ///
    /// [`Instance::get_module_export`]: crate::Instance::get_module_export
    ///
    /// ```
    /// use wasmrun::{Instance, Module, Store};
    /// let mut store = Store::<()>::default();
    /// let module = Module::new(store.engine(), r#"(module (func (export "run")))"#)?;
    /// let run = module.get_export_index("run").unwrap();
    /// let instance = Instance::new(&mut store, &module, &[])?;
    /// assert!(instance.get_module_export(&mut store, &run).is_some());
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    pub fn get_export_index(&self, name: &str) -> Option<ModuleExport> {
        Some(ModuleExport { module: self.0.facts.clone(), index: self.0.facts.export(name)? })
    }

    /// The contents of the custom sections with this name, in order. They are read from the module each time.
    ///
    /// ```
    /// use wasmrun::{Engine, Module};
    /// let module = Module::new(&Engine::default(), r#"(module (@custom "origin" "here"))"#)?;
    /// assert_eq!(module.custom_sections("origin")?, [&b"here"[..]]);
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Resource`](ErrorKind::Resource) if the module is in a file that can't be read any more; see [`Module::from_file`].
    pub fn custom_sections(&self, name: &str) -> Result<Vec<Cow<'_, [u8]>>> {
        custom::sections(&self.0.facts.source, name)
    }

    /// What an instance of the module needs at first, beside what it imports.
    ///
    /// ```
    /// use wasmrun::{Engine, Module};
    /// let module = Module::new(&Engine::default(), "(module (memory 2) (table 7 funcref))")?;
    /// let needed = module.resources_required();
    /// assert_eq!((needed.num_memories, needed.max_initial_memory_size), (1, Some(2)));
    /// assert_eq!((needed.num_tables, needed.max_initial_table_size), (1, Some(7)));
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    pub fn resources_required(&self) -> ResourcesRequired {
        let facts = &self.0.facts;
        let (memories, tables) = (facts.defined_memories(), facts.defined_tables());
        ResourcesRequired {
            num_memories: memories.len() as u32,
            max_initial_memory_size: memories.iter().map(|ty| ty.minimum()).max(),
            num_tables: tables.len() as u32,
            max_initial_table_size: tables.iter().map(|ty| ty.minimum()).max(),
        }
    }

    /// Whether the module is a program that runs once: it exports a function `_start` and no `_initialize`.
    pub(super) fn is_command(&self) -> bool {
        let is_start = |ty: ExternType| ty.func().is_some_and(|ty| ty.params().is_empty() && ty.results().is_empty());
        self.get_export("_start").is_some_and(is_start) && self.get_export("_initialize").is_none()
    }

    /// The exported functions and their types.
    pub(super) fn exported_funcs(&self) -> impl Iterator<Item = (&str, FuncType)> {
        self.0.facts.exports.iter().filter_map(|export| match self.0.facts.extern_type(export.index) {
            ExternType::Func(ty) => Some((&*export.name, ty)),
            _ => None,
        })
    }

    /// The index of the exported function `name` in the function index space, where imported functions come first; `None` if
    /// there is no such export or it is no function.
    pub fn export_func_index(&self, name: &str) -> Option<u32> {
        match self.0.facts.export(name)? {
            ExternIndex::Func(func) => Some(func),
            _ => None,
        }
    }

    /// The functions at the instruction at a byte offset in the binary module ([`Frame::module_offset`](crate::Frame::module_offset)):
    /// innermost first, and each but the last was inlined into the next by the compiler. Empty if the offset is in no function.
    ///
    /// Without debug information for it, the one symbol has only the function's name. Debug information is read when it is first
    /// asked for and kept, so further calls take a microsecond.
    ///
    /// ```
    /// use wasmrun::{Engine, Instance, Module, Store};
    /// let engine = Engine::default();
    /// let module = Module::new(&engine, "(module (func $main unreachable) (start $main))")?;
    /// let error = Instance::new(Store::new(&engine, ()), &module, &[]).unwrap_err();
    /// let symbols = module.symbolize(error.backtrace()[0].module_offset());
    /// assert_eq!((symbols[0].name(), symbols[0].file(), symbols[0].line()), (Some("main"), None, None));
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    pub fn symbolize(&self, module_offset: usize) -> Vec<FrameSymbol> {
        self.0.facts.symbolize(module_offset)
    }

    /// Makes a module from its facts, with each engine's data for it.
    fn from_facts(engine: &Engine, facts: Arc<ModuleFacts>) -> Result<Self> {
        let interp = interp::InterpretedModule::new(engine.core(), &facts);
        #[cfg(jit)]
        let jit = jit::CompiledModule::new(engine.jit(), &facts, &interp);
        #[cfg(jit)]
        let tier = ModuleTier::new(engine.core(), &facts, &interp, &jit, engine.pool());
        background::start(&facts, engine.compiling_probe(), engine.validation_counter());
        Ok(Module(Arc::new(ModuleInner {
            engine: engine.clone(),
            facts,
            image: MemoryImage::default(),
            interp,
            #[cfg(jit)]
            jit,
            #[cfg(jit)]
            tier,
        })))
    }

    /// What an instance of the module needs.
    pub(super) fn runtime_info(&self) -> ModuleRuntimeInfo<'_> {
        let inner = &*self.0;
        #[cfg(jit)]
        let (entries, tiers) = (inner.jit.entries(), inner.jit.tiers());
        #[cfg(not(jit))]
        let (entries, tiers) = (std::ptr::null(), std::ptr::null());
        #[cfg(jit)]
        let jit = Arc::as_ptr(&inner.jit).cast();
        #[cfg(not(jit))]
        let jit = std::ptr::null();
        let (facts, owner) = (&inner.facts, Box::new(self.clone()));
        ModuleRuntimeInfo { facts, owner, entries, tiers, interp: Arc::as_ptr(&inner.interp).cast(), jit }
    }

    /// Statistics of the cache for this module; see [`Config::cache`](crate::Config::cache).
    ///
    /// ```
    /// use wasmrun::{Engine, Module};
    /// let module = Module::new(&Engine::default(), "(module)")?;
    /// assert_eq!(module.cache_stats().loaded, 0);
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    pub fn cache_stats(&self) -> CacheStats {
        #[cfg(jit)]
        return self.0.jit.cache_stats();
        #[cfg(not(jit))]
        CacheStats::default()
    }

    /// Writes code that was compiled since the last flush to the cache. That happens by itself when the last clone and instance
    /// of the module are dropped; call this in programs that end without dropping them. If the cache can't be written to, the
    /// code is not kept.
    ///
    /// ```no_run
    /// use wasmrun::{Cache, Config, Engine, Module};
    /// let engine = Engine::new(Config::new().cache(Cache::in_dir("/tmp/compiled")))?;
    /// let module = Module::new(&engine, "(module)")?;
    /// // ... instantiate it, call its functions ...
    /// module.flush_cache();
    /// std::process::exit(0);
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    pub fn flush_cache(&self) {
        #[cfg(jit)]
        {
            self.0.tier.record_heat();
            self.0.jit.flush_cache();
        }
    }

    /// Queues functions that ran for long enough without native code to have some in later runs. To be followed by
    /// [`Engine::finish_compiling`].
    #[cfg(feature = "cli")]
    pub(crate) fn prepare_later_runs(&self) {
        #[cfg(jit)]
        self.0.tier.prepare_later_runs();
    }

    /// Compiles all functions ahead of time, on all cores. Returns the contents of a `.cwasm` file, for
    /// [`Module::deserialize_file`].
    ///
    /// The result is still a WebAssembly module; the compiled code is in a custom section. Functions that can't be compiled
    /// will be interpreted.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) if lazy validation has not validated a function yet and it is invalid,
    /// [`Usage`](crate::ErrorKind::Usage) if this build has no JIT.
    ///
    /// See [`Module::deserialize_file`] for an example.
    pub fn serialize(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.compile_to(&mut bytes, &|_| {}).map(|_| bytes)
    }

    /// Writes the bytes of [`Module::serialize`] to `out`. Calls `progress` with the number of functions done so far. Returns how
    /// many functions there are and how many could be compiled.
    #[cfg(jit)]
    pub(crate) fn compile_to(
        &self,
        out: &mut dyn std::io::Write,
        progress: &(dyn Fn(usize) + Sync),
    ) -> Result<super::precompile::CompileSummary> {
        super::precompile::write(self, out, progress)
    }

    #[cfg(not(jit))]
    fn compile_to(&self, _: &mut dyn std::io::Write, _: &(dyn Fn(usize) + Sync)) -> Result<()> {
        Err(Error::usage("this build of wasmrun has no JIT"))
    }

    /// Loads a module from a file with the bytes that [`Module::serialize`] returned. Its functions run natively from the first
    /// call, without compilation.
    ///
    /// The code must have been compiled by the same version of wasmrun, with the same [`BoundsChecks`](crate::BoundsChecks) as
    /// the engine's, and for a processor without features that this one lacks. A function whose code is damaged is
    /// interpreted; with [`Strategy::Interpreter`](crate::Strategy::Interpreter), all are. The cache is not used.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), with the reason, if the file has no compiled code or the code can't be used here;
    /// otherwise those of [`Module::from_file`].
    ///
    /// # Safety
    /// The machine code in the file runs without any sandbox: who can write to the file can have this process do anything.
    /// The checks detect accidental damage only. Therefore the file must come from [`Module::serialize`] or
    /// `wasmrun compile`, and nobody may change it until the module is dropped, because it stays mapped into memory. To
    /// replace the file, write a new one and rename it over the old one.
    ///
    /// ```
    /// use wasmrun::{Engine, Instance, Module, Store};
    /// # if !Engine::has_jit() { return Ok(()); }
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("answer.cwasm");
    /// let engine = Engine::default();
    /// let module = Module::new(&engine, "(module (func (export \"answer\") (result i32) (i32.const 42)))")?;
    /// std::fs::write(&path, module.serialize()?)?;
    ///
    /// // SAFETY: the file was written above, in a place of our own.
    /// let module = unsafe { Module::deserialize_file(&engine, &path)? };
    /// let mut store = Store::new(&engine, ());
    /// let instance = Instance::new(&mut store, &module, &[])?;
    /// assert_eq!(instance.get_typed_func::<(), i32>(&mut store, "answer")?.call(&mut store, ())?, 42);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn deserialize_file(engine: &Engine, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let open = |error| Error::resource(format!("{}: {error}", Printable::line(&path.to_string_lossy())));
        let file = File::open(path).map_err(open)?;
        // SAFETY: the file has trusted code and is not changed, by the caller's promise.
        unsafe { Self::deserialize_open_file(engine, file) }
    }

    /// As [`Module::deserialize_file`], for the bytes of such a file.
    ///
    /// ```
    /// use wasmrun::{Engine, Module};
    /// # if !Engine::has_jit() { return Ok(()); }
    /// let engine = Engine::default();
    /// let code = engine.precompile_module(b"(module (func (export \"f\")))")?;
    /// // SAFETY: the bytes were made above.
    /// let module = unsafe { Module::deserialize(&engine, &code)? };
    /// assert!(module.get_export("f").is_some());
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Module::deserialize_file`].
    ///
    /// # Safety
    /// The machine code in the bytes runs without any sandbox, so they must come from [`Module::serialize`],
    /// [`Engine::precompile_module`] or `wasmrun compile`.
    pub unsafe fn deserialize(engine: &Engine, bytes: impl AsRef<[u8]>) -> Result<Self> {
        #[cfg(jit)]
        {
            let file = sys::anonymous_file("wasmrun-code", bytes.as_ref());
            let file = file.map_err(|error| Error::resource(format!("no room for compiled code: {error}")))?;
            // SAFETY: the file is a copy of the bytes, which can be trusted by the caller's promise, and nobody else has it.
            unsafe { Self::deserialize_open_file(engine, file) }
        }
        #[cfg(not(jit))]
        Self::from_binary(engine, bytes.as_ref())
    }

    /// As [`Module::deserialize_file`], for an open file.
    ///
    /// # Errors
    /// As for [`Module::deserialize_file`].
    ///
    /// # Safety
    /// As for [`Module::deserialize_file`].
    pub unsafe fn deserialize_open_file(engine: &Engine, file: File) -> Result<Self> {
        #[cfg(jit)]
        let code = crate::cache::aot::Appended::find(&engine.cache_settings(), &file)?;
        let module = Module::from_open_file(engine, file)?;
        // SAFETY: the file has trusted code and is not changed, by the caller's promise.
        #[cfg(jit)]
        unsafe {
            module.0.jit.use_cache(code.open(&module.0.facts, crate::jit::CodeFile::map)?);
        }
        Ok(module)
    }
}

/// An export of a module, found by [`Module::get_export_index`].
#[derive(Clone)]
pub struct ModuleExport {
    module: Arc<ModuleFacts>,
    index: ExternIndex,
}

impl ModuleExport {
    /// What is exported, if it is an export of this module.
    pub(super) fn index_in(&self, module: &Arc<ModuleFacts>) -> Option<ExternIndex> {
        Arc::ptr_eq(&self.module, module).then_some(self.index)
    }
}

impl std::fmt::Debug for ModuleExport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ModuleExport").field(&self.index).finish()
    }
}

/// What an instance of a module needs at first; see [`Module::resources_required`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResourcesRequired {
    /// Memories that the module defines.
    pub num_memories: u32,
    /// The most pages that one of these has at first; `None` if there are none.
    pub max_initial_memory_size: Option<u64>,
    /// Tables that the module defines.
    pub num_tables: u32,
    /// The most elements that one of these has at first; `None` if there are none.
    pub max_initial_table_size: Option<u64>,
}

/// An import of a module.
#[derive(Clone, Copy, Debug)]
pub struct ImportType<'a>(&'a Import);

impl<'a> ImportType<'a> {
    /// The name of the module to import from.
    pub fn module(&self) -> &'a str {
        &self.0.module
    }

    /// The name of the import within that module.
    pub fn name(&self) -> &'a str {
        &self.0.name
    }

    /// The type that the import requires.
    pub fn ty(&self) -> ExternType {
        self.0.ty.clone()
    }
}

/// An export of a module.
#[derive(Clone, Debug)]
pub struct ExportType<'a> {
    name: &'a str,
    ty: ExternType,
}

impl<'a> ExportType<'a> {
    /// The name of the export.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The type of the exported object.
    pub fn ty(&self) -> ExternType {
        self.ty.clone()
    }
}
