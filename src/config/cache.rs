//! The settings of the code cache, and its statistics for a module.

use std::path::PathBuf;

/// The settings of the cache on disk, which keeps compiled code between runs; see [`Config::cache`](crate::Config::cache).
///
/// The directory is created if it does not exist, accessible to its owner only. A directory that belongs to another user or
/// that others may write to is not used. Any number of processes, engines and versions may share a directory. Code that
/// can't be read, is damaged or was compiled for another processor is ignored and compiled anew: the cache never causes an
/// error.
///
/// ```
/// use wasmrun::{Cache, Config};
/// let mut config = Config::new();
/// config.cache(Cache::in_dir("/var/cache/my-program/wasm").max_bytes(100 << 20));
/// # let _ = config;
/// ```
#[derive(Clone, Debug)]
pub struct Cache {
    pub(crate) dir: Option<PathBuf>,
    pub(crate) read_only: bool,
    pub(crate) max_bytes: u64,
    /// If a run has compiled no native code, bytecode is only written when the interpreted function bodies have so many bytes.
    pub(crate) min_bytecode: usize,
    pub(crate) notes: Option<fn(&str)>,
}

/// Default of [`Cache::max_bytes`].
pub(crate) const DEFAULT_MAX_BYTES: u64 = 512 << 20;

/// Default of `Cache::min_bytecode`. Measured: a file takes 0.3 to 0.5 ms to write and 0.1 ms to open and check in each later
/// run; to translate 64 KiB of function bodies takes 0.7 ms. With a lower value, the first run of small programs took 1.2 times
/// as long, and later runs were not faster.
const MIN_BYTECODE: usize = 64 << 10;

impl Cache {
    /// No cache: the default.
    pub fn off() -> Self {
        Cache { dir: None, read_only: false, max_bytes: DEFAULT_MAX_BYTES, min_bytecode: MIN_BYTECODE, notes: None }
    }

    /// A cache in this directory, of at most 512 MiB.
    pub fn in_dir(dir: impl Into<PathBuf>) -> Self {
        Cache { dir: Some(dir.into()), ..Self::off() }
    }

    /// Has code read from the directory, but none written to it.
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Whether compiled code is written to the cache.
    pub(crate) fn keeps(&self) -> bool {
        self.dir.is_some() && !self.read_only
    }

    /// Sets how many bytes all files together may have. Above that, files are removed, the least recently used first.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// For tests, whose modules are small: sets how many bytes of function bodies must have been interpreted for their bytecode
    /// to be written if there is no native code to write.
    #[doc(hidden)]
    pub fn bytecode_from(mut self, bytes: usize) -> Self {
        self.min_bytecode = bytes;
        self
    }

    /// Sets a function that gets one line of text for each thing in the cache that was not used, with the reason.
    pub fn notes(mut self, listener: fn(&str)) -> Self {
        self.notes = Some(listener);
        self
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self::off()
    }
}

impl PartialEq for Cache {
    fn eq(&self, other: &Self) -> bool {
        let settings = |cache: &Cache| {
            let Cache { dir, read_only, max_bytes, min_bytecode, notes } = cache.clone();
            (dir, read_only, max_bytes, min_bytecode, notes.map(|f| f as usize))
        };
        settings(self) == settings(other)
    }
}

impl Eq for Cache {}

/// The cache directory of the current user: `$XDG_CACHE_HOME/wasmrun`, or `$HOME/.cache/wasmrun`. `None` if neither variable
/// has an absolute path, or if `$HOME` does not exist: service accounts often name a home directory that must not be created.
pub(crate) fn default_path() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || absolute("HOME").filter(|home| home.is_dir()).map(|home| home.join(".cache"));
    let base = absolute("XDG_CACHE_HOME").or_else(home)?;
    Some(base.join("wasmrun"))
}

/// Statistics of the cache for one module; see [`Module::cache_stats`](crate::Module::cache_stats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Number of functions whose machine code came from the cache.
    pub loaded: u64,
    /// Number of functions that were compiled and written to the cache, or will be at the next flush.
    pub recorded: u64,
    /// Number of functions in the cache that were not used, because their code is damaged or was compiled from another body.
    pub rejected: u64,
}
