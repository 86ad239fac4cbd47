//! What programs that embed can do with compiled code.

use std::fs::File;
use std::path::Path;

use crate::config::cache::CacheStats;
use crate::error::{Error, Result};
use crate::module::Module;
use crate::printable::Printable;
use crate::runtime::engine::Engine;

impl Module {
    /// What the cache did for its functions; see [`Config::cache`](crate::Config::cache).
    ///
    /// ```
    /// use wasmrun::{Engine, Module};
    /// let module = Module::new(&Engine::default(), "(module)")?;
    /// assert_eq!(module.cache_stats().loaded, 0);
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    pub fn cache_stats(&self) -> CacheStats {
        self.0.jit.cache_stats()
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
        self.0.jit.flush_cache(&self.0);
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
    ) -> Result<super::aot::Summary> {
        super::aot::write(&self.0, out, progress)
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
        let code = super::aot::Appended::find(engine, &file)?;
        let module = Module::from_open_file(engine, file)?;
        // SAFETY: the caller's promise.
        #[cfg(jit)]
        unsafe {
            code.attach(&module)?;
        }
        Ok(module)
    }
}
