//! The embedding API: engines, modules, stores, and handles of a store's objects.
//!
//! What may be here: the types that an embedder uses, checks of what an embedder passes, and the code that puts a module's
//! facts and its engines together (`module`, `engine`). What may not: how code is run (`interp`, `jit`, `tier`), what
//! instructions do (`vm`), or anything of WASI.

#[cfg(feature = "async")]
pub(crate) mod asynchronous;
mod backtrace;
mod budget;
pub(crate) mod caller;
pub(crate) mod coredump;
pub(crate) mod engine;
mod exception;
pub(crate) mod external;
pub(crate) mod func;
pub(crate) mod gc;
pub(crate) mod global;
mod import;
pub(crate) mod inspect;
pub(crate) mod instance;
pub(crate) mod interrupt;
pub(crate) mod limits;
pub(crate) mod linear;
pub(crate) mod linker;
pub(crate) mod memory;
pub(crate) mod module;
#[cfg(jit)]
pub(crate) mod precompile;
pub(crate) mod profiler;
pub(crate) mod shared_memory;
pub(crate) mod store;
pub(crate) mod table;
pub(crate) mod tag;
mod thrown;
pub(crate) mod typed;
pub(crate) mod value;
