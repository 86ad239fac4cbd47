//! The cache's settings, and what a module reports of it.

use std::path::PathBuf;

/// Where compiled code is kept between runs, for [`Config::cache`](crate::Config::cache).
///
/// The directory is made if it is not there, for its owner only. One that belongs to another user or that others may
/// write to is not used. It may be shared by any number of processes, engines and versions. Code that can't be read,
/// is damaged or was made for another processor is ignored and compiled anew; no error comes from the cache.
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
    /// Bytes of function bodies whose bytecode is worth a file of its own, where no native code is written.
    pub(crate) min_bytecode: usize,
    pub(crate) notes: Option<fn(&str)>,
}

/// Bytes that the directory may take if nothing else is said.
pub(crate) const DEFAULT_MAX_BYTES: u64 = 512 << 20;

/// Measured: to write a file takes 0.3 to 0.5 ms, to open and check it in each later run 0.1 ms, to translate 64 KiB of
/// function bodies 0.7 ms. With less, small programs took 1.2 times as long in their first run, and later runs as long.
const MIN_BYTECODE: usize = 64 << 10;

impl Cache {
    /// No code is kept: the default.
    pub fn off() -> Self {
        Cache { dir: None, read_only: false, max_bytes: DEFAULT_MAX_BYTES, min_bytecode: MIN_BYTECODE, notes: None }
    }

    /// Code is kept in this directory, at most 512 MiB of it.
    pub fn in_dir(dir: impl Into<PathBuf>) -> Self {
        Cache { dir: Some(dir.into()), ..Self::off() }
    }

    /// Uses what is in the directory, and changes nothing there.
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Whether what is compiled is kept.
    pub(crate) fn keeps(&self) -> bool {
        self.dir.is_some() && !self.read_only
    }

    /// Sets how many bytes the files may take together; what was not used for the longest time is removed.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets how many bytes of functions must have been interpreted for their bytecode to be kept where no native code is.
    /// For tests, whose modules are small.
    #[doc(hidden)]
    pub fn bytecode_from(mut self, bytes: usize) -> Self {
        self.min_bytecode = bytes;
        self
    }

    /// Has `listener` told in a line each why something in the cache was not used.
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

/// The directory that programs of a user share: `$XDG_CACHE_HOME/wasmrun`, or `~/.cache/wasmrun`. `None` if neither is
/// known, or if there is no home: users of services have names of directories that are not to be made.
pub(crate) fn default_path() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || absolute("HOME").filter(|home| home.is_dir()).map(|home| home.join(".cache"));
    let base = absolute("XDG_CACHE_HOME").or_else(home)?;
    Some(base.join("wasmrun"))
}

/// What the cache did for a module so far, from [`Module::cache_stats`](crate::Module::cache_stats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Functions whose machine code came from the cache.
    pub loaded: u64,
    /// Functions that were compiled and are kept, or will be at the next flush.
    pub recorded: u64,
    /// Functions in the cache that were not used because they are damaged or of another body.
    pub rejected: u64,
}
