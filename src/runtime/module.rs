//! Modules as the host sees them: facts and code together.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::engine::Engine;
use crate::config::cache::CacheStats;
use crate::error::{Error, ErrorKind, Result};
use crate::interp;
#[cfg(jit)]
use crate::jit;
use crate::module::types::ExternType;
use crate::module::{ExternIndex, Import, ModuleFacts, background, decode, file};
use crate::printable::Printable;
#[cfg(jit)]
use crate::tier::ModuleTier;
use crate::vm::image::MemoryImage;
use crate::vm::instantiate::ModuleRuntimeInfo;

/// A validated WebAssembly module. Cloning is cheap: clones share everything.
///
/// ```
/// use wasmrun::{Engine, Module};
/// let module = Module::new(&Engine::default(), "(module (func (export \"f\")))")?;
/// assert_eq!(module.exports().next().unwrap().name(), "f");
/// # Ok::<(), wasmrun::Error>(())
/// ```
#[derive(Clone)]
pub struct Module(pub(crate) Arc<ModuleInner>);

/// A module's facts, and what each engine keeps of it.
pub(crate) struct ModuleInner {
    pub engine: Engine,
    pub facts: Arc<ModuleFacts>,
    /// What the data segments make of memory 0, once that is worth keeping.
    pub image: MemoryImage,
    pub interp: Arc<interp::ModuleCode>,
    #[cfg(jit)]
    pub jit: Arc<jit::ModuleCode>,
    #[cfg(jit)]
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "the interpreter and compiling threads have weak references to it")
    )]
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
    /// Decodes and validates a module, binary or text.
    ///
    /// Function bodies are validated on several threads where there are many of them, or later if the engine is
    /// configured so: see [`Config::lazy_validation`](crate::Config::lazy_validation).
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) and [`Unsupported`](crate::ErrorKind::Unsupported), with the byte
    /// offset and the function where they occurred.
    pub fn new(engine: &Engine, bytes: impl AsRef<[u8]>) -> Result<Self> {
        Self::of_facts(engine, decode::module(&engine.core().config, &engine.core().types, bytes.as_ref().into())?)
    }

    /// Makes a module of what is in a file, binary or text.
    ///
    /// With [`Config::lazy_validation`](crate::Config::lazy_validation), little of a large binary is read. The file is
    /// memory-mapped, once, to find where its functions are; the body of one is read and validated when it is first
    /// called, names when a backtrace wants them, debug sections never. The file stays open for that, so it may be
    /// renamed and deleted. Small files, and what is not a regular file, are read in full.
    ///
    /// Nothing that has run or been validated is ever read again from the file, so a program that may write to its own
    /// module can't get unvalidated code run. But a module whose file is written to or truncated is not whole any
    /// more: what was not needed before gives a [`Resource`](crate::ErrorKind::Resource) error from then on, as a trap
    /// would. To replace a module that may be running, write a new file and rename it over the old one. Only a file
    /// that is truncated *while this function looks for its functions* (a millisecond or so) can end the process with
    /// SIGBUS; where others may do that, read the file and use [`Module::new`].
    ///
    /// # Errors
    /// [`Resource`](crate::ErrorKind::Resource) if the file can't be read, and those of [`Module::new`].
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
        Self::of_facts(engine, file::module(&engine.core().config, &engine.core().types, file)?)
    }

    /// The engine it was made for.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// Its name, from the name section.
    pub fn name(&self) -> Option<&str> {
        self.0.facts.names().module()
    }

    /// Its imports, in order.
    pub fn imports(&self) -> impl ExactSizeIterator<Item = ImportType<'_>> {
        self.0.facts.imports.iter().map(ImportType)
    }

    /// Its exports, in order.
    pub fn exports(&self) -> impl ExactSizeIterator<Item = ExportType<'_>> {
        self.0
            .facts
            .exports
            .iter()
            .map(|export| ExportType { name: &export.name, ty: self.0.facts.extern_type(export.index) })
    }

    /// The index of the exported function `name` in the function index space, imported functions first.
    pub fn export_func_index(&self, name: &str) -> Option<u32> {
        match self.0.facts.exports[*self.0.facts.export_index.get(name)? as usize].index {
            ExternIndex::Func(func) => Some(func),
            _ => None,
        }
    }

    /// Puts a module's facts together with what the engines will keep of it.
    fn of_facts(engine: &Engine, facts: Arc<ModuleFacts>) -> Result<Self> {
        let interp = interp::ModuleCode::new(engine.core(), &facts);
        #[cfg(jit)]
        let jit = jit::ModuleCode::new(engine.jit(), &facts, &interp);
        #[cfg(jit)]
        let tier = ModuleTier::new(engine.core(), &facts, &interp, &jit, engine.pool());
        background::start(&facts, engine.compiling_probe());
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

    /// The module as instances are made of it.
    pub(super) fn code(&self) -> ModuleRuntimeInfo<'_> {
        let inner = &*self.0;
        #[cfg(jit)]
        let (entries, tiers, heat) = (inner.jit.entries(), inner.jit.tiers(), inner.jit.heat());
        #[cfg(not(jit))]
        let (entries, tiers, heat) = (std::ptr::null(), std::ptr::null(), std::ptr::null());
        #[cfg(jit)]
        let jit = Arc::as_ptr(&inner.jit).cast();
        #[cfg(not(jit))]
        let jit = std::ptr::null();
        let (facts, owner) = (&inner.facts, Box::new(self.clone()));
        ModuleRuntimeInfo { facts, owner, entries, tiers, heat, interp: Arc::as_ptr(&inner.interp).cast(), jit }
    }

    /// What the cache did for its functions; see [`Config::cache`](crate::Config::cache).
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

    /// Writes to the cache what was compiled since the last time, as happens when the last clone and instance of the
    /// module is dropped. For programs that end without dropping them. If it can't be written it is not kept.
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
        self.0.jit.flush_cache();
    }

    /// Compiles all functions ahead of time, on all cores: the bytes of a `.cwasm` file for
    /// [`Module::deserialize_file`].
    ///
    /// The bytes are a WebAssembly module still, with the code in a custom section. Functions that can't be compiled
    /// are left to the interpreter.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) if a function is invalid that was not validated before,
    /// [`Usage`](crate::ErrorKind::Usage) if this build has no JIT.
    ///
    /// See [`Module::deserialize_file`] for an example.
    pub fn serialize(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.compile_to(&mut bytes, &|_| {}).map(|_| bytes)
    }

    /// Writes what [`Module::serialize`] gives, and tells `progress` how many functions are done: how many there are,
    /// and how many of them could be compiled.
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

    /// Makes a module of a file that [`Module::serialize`] gave the contents of: its functions are native from their
    /// first call, and nothing is compiled.
    ///
    /// The code must be of this version of wasmrun, of the engine's [`BoundsChecks`](crate::BoundsChecks), and for a
    /// processor that can do no more than this one. Code that was damaged is not run; its functions are interpreted, as
    /// all are with [`Strategy::Interpreter`](crate::Strategy::Interpreter). The cache is not used.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) if it is no such file or its code can't be used here, with the reason;
    /// those of [`Module::from_file`].
    ///
    /// # Safety
    /// Machine code in the file is run as it is, outside of any sandbox: whoever can write the file can have this
    /// process do anything. What is checked is against accidents only. So the file must have been made by
    /// [`Module::serialize`] or `wasmrun compile`, and nobody may change it from then on until the module has been
    /// dropped: it is mapped into memory. To replace it, write a new file and rename it over the old one.
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
        // SAFETY: the caller's promise.
        unsafe { Self::deserialize_open_file(engine, file) }
    }

    /// The same for an open file.
    ///
    /// # Safety
    /// As for [`Module::deserialize_file`].
    pub(crate) unsafe fn deserialize_open_file(engine: &Engine, file: File) -> Result<Self> {
        #[cfg(jit)]
        let code = crate::cache::aot::Appended::find(&engine.cache_settings(), &file)?;
        let module = Module::from_open_file(engine, file)?;
        // SAFETY: the caller's promise.
        #[cfg(jit)]
        unsafe {
            module.0.jit.use_cache(code.open(&module.0.facts, crate::jit::CodeFile::map)?);
        }
        Ok(module)
    }
}

/// An import of a module.
#[derive(Clone, Copy, Debug)]
pub struct ImportType<'a>(&'a Import);

impl<'a> ImportType<'a> {
    /// The module name it is imported from.
    pub fn module(&self) -> &'a str {
        &self.0.module
    }

    /// Its name there.
    pub fn name(&self) -> &'a str {
        &self.0.name
    }

    /// The type wanted.
    pub fn ty(&self) -> &'a ExternType {
        &self.0.ty
    }
}

/// An export of a module.
#[derive(Clone, Debug)]
pub struct ExportType<'a> {
    name: &'a str,
    ty: ExternType,
}

impl<'a> ExportType<'a> {
    /// Its name.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Its type.
    pub fn ty(&self) -> &ExternType {
        &self.ty
    }
}
