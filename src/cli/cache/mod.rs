//! The flags that say how compiled code is kept between runs. `command` is `wasmrun cache`.

#[cfg(jit)]
pub(super) mod command;

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::output::note;
use super::sandbox::byte_count;
use crate::config::cache::{DEFAULT_MAX_BYTES, default_path};
use crate::{Cache, CacheStats};

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Cache")]
pub(super) struct CacheArgs {
    /// What to do with compiled code of earlier runs and of this one
    #[arg(long, value_enum, value_name = "HOW", default_value = "on")]
    cache: CacheUse,

    #[command(flatten)]
    place: Place,

    /// Remove what was not used for the longest time when there is more than this, such as 100M
    #[arg(long, value_name = "BYTES", value_parser = byte_count, default_value_t = DEFAULT_MAX_BYTES)]
    #[arg(
        hide_default_value = true,
        help = "Remove the longest unused code beyond BYTES, such as 100M [default: 512M]"
    )]
    cache_size: u64,

    /// Report on standard error what the cache did, and why something in it was not used; show backtraces in full
    #[arg(long, short)]
    verbose: bool,
}

#[derive(Args, Clone, Debug)]
struct Place {
    /// Where compiled code is kept [default: wasmrun in $XDG_CACHE_HOME, or in ~/.cache]
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    cache_dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum CacheUse {
    /// Keep nothing and use nothing
    Off,
    /// Use what is there, and add nothing
    Read,
    /// Use what is there, and add what was compiled
    On,
}

/// Why there is no directory.
const NOWHERE: &str = "neither --cache-dir nor $XDG_CACHE_HOME says where it is, and $HOME names no directory";

impl Place {
    /// The directory; `None` if it was not given and the environment names none.
    fn path(&self) -> Option<PathBuf> {
        self.cache_dir.clone().or_else(default_path)
    }
}

impl CacheArgs {
    /// The settings these flags stand for.
    pub fn cache(&self) -> Cache {
        let Some(path) = self.place.path().filter(|_| self.cache != CacheUse::Off) else {
            if self.verbose && self.cache != CacheUse::Off {
                note(&format!("cache: off: {NOWHERE}"));
            }
            return Cache::off();
        };
        let mut cache = Cache::in_dir(path).max_bytes(self.cache_size);
        if self.cache == CacheUse::Read {
            cache = cache.read_only();
        }
        if self.verbose { cache.notes(note) } else { cache }
    }

    /// Whether `-v` was given.
    pub fn is_verbose(&self) -> bool {
        self.verbose
    }

    /// Reports what the cache did for a module, with `-v`.
    pub fn report(&self, file: &str, stats: CacheStats) {
        if self.verbose {
            let CacheStats { loaded, recorded, rejected } = stats;
            note(&format!("cache: {file}: {loaded} functions loaded, {recorded} recorded, {rejected} rejected"));
        }
    }
}
