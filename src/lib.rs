//! A WebAssembly runtime for WASI programs and for embedding: an interpreter, baseline code and a Cranelift JIT that act on
//! one set of runtime objects.
//!
//! Functions are interpreted at first and compiled when they are hot; see [`Strategy`]. Traps, exits and errors of host
//! functions are all an [`Error`].
//!
//! [`Executor`] is the short way to run a WASI program:
//!
//! ```
//! use std::sync::{Arc, Mutex};
//! use wasmrun::{Engine, Executor, Module, WasiEnv, create_wasi_linker};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let module = Module::new(&Engine::default(), r#"(module
//!     (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
//!     (memory (export "memory") 1)
//!     (func (export "_start") (call $exit (i32.const 3))))"#)?;
//! let func_idx = module.export_func_index("_start").unwrap();
//! let args = vec![];
//!
//! let wasi_env = Arc::new(Mutex::new(
//!     WasiEnv::new().with_args(vec!["program".into(), "arg1".into()]).with_env("KEY".into(), "value".into()),
//! ));
//! let linker = create_wasi_linker(wasi_env.clone());
//! let mut executor = Executor::new_with_linker(module, linker)?;
//! let code = match executor.execute_with_args(func_idx, args) {
//!     Ok(_) => 0,
//!     Err(e) => Executor::is_proc_exit(&e).unwrap_or(-1),
//! };
//! wasi_env.lock().unwrap().get_stdout();
//! assert_eq!(code, 3);
//! # Ok(())
//! # }
//! ```
//!
//! To run modules with data and host functions of your own:
//!
//! 1. [`Engine`]: the settings (a [`Config`]), shared by all modules and stores.
//! 2. [`Module`]: a validated module.
//! 3. [`Store`]: owns instances and their memories, and your data.
//! 4. [`Linker`]: defines imports by name and makes instances; see its example.
//! 5. [`Instance`]: gives the exports, such as a [`TypedFunc`] to call.
//!
//! Who knows wasmtime's API knows this one: see [`coming_from_wasmtime`].

#![cfg_attr(
    not(all(feature = "wasi", feature = "async", feature = "cli")),
    allow(dead_code, reason = "lower rooms have what only these features call")
)]
#![warn(missing_docs, missing_debug_implementations)]
#![deny(unsafe_op_in_unsafe_fn)]

/// Which idioms of wasmtime's API compile with this crate, and what to write for the others.
///
#[doc = include_str!("coming_from_wasmtime.md")]
pub mod coming_from_wasmtime {}

#[cfg(jit)]
mod cache;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
mod config;
pub mod error;
mod executor;
mod interp;
#[cfg(jit)]
mod jit;
mod module;
mod numeric;
mod printable;
mod runtime;
mod stats;
mod symbols;
mod sys;
#[cfg(jit)]
mod tier;
mod vm;
#[cfg(feature = "wasi")]
pub mod wasi;

pub use config::budget::{Budget, BudgetUsed};
pub use config::cache::{Cache, CacheStats};
pub use config::{BoundsChecks, Config, Dispatch, OptLevel, Profile, Profile as ProfilingStrategy, Strategy, Tiering};
pub use error::{BudgetItem, Error, ErrorKind, ExnRef, Frame, FrameSymbol, MemoryFault, Result, Trap, WasmBacktrace};
pub use executor::Executor;
pub use module::composite::{ArrayType, FieldType, Finality, StorageType, StructType};
pub use module::registry::{RegisteredType, TypeKind};
pub use module::types::{
    ExternType, FuncType, GlobalType, HeapType, MemoryType, MemoryTypeBuilder, Mutability, RefType, TableType, TagType,
    ValType,
};
pub use runtime::caller::Caller;
pub use runtime::coredump::WasmCoreDump;
pub use runtime::engine::{Engine, Precompiled};
pub use runtime::external::{Export, Extern};
pub use runtime::func::Func;
pub use runtime::gc::{
    AnyRef, ArrayRef, ArrayRefPre, EqRef, I31, OwnedRooted, RootScope, Rooted, StructRef, StructRefPre,
};
pub use runtime::global::Global;
pub use runtime::instance::Instance;
pub use runtime::interrupt::{InterruptFd, InterruptHandle, UpdateDeadline};
pub use runtime::limits::{ResourceLimiter, StoreLimits, StoreLimitsBuilder};
pub use runtime::linear::{IntoAddress, LinearMemory};
pub use runtime::linker::{InstancePre, Linker};
pub use runtime::memory::Memory;
pub use runtime::module::{ExportType, ImportType, Module, ModuleExport, ResourcesRequired};
pub use runtime::profiler::{FunctionTime, GuestProfile, GuestProfiler};
pub use runtime::shared_memory::{SharedMemory, WaitResult};
pub use runtime::store::{AsContext, AsContextMut, Store, StoreContext, StoreContextMut};
pub use runtime::table::Table;
pub use runtime::tag::Tag;
pub use runtime::typed::{IntoFunc, IntoResults, TypedFunc, WasmParams, WasmResults, WasmTy};
pub use runtime::value::{Ref, Value, Value as Val};
pub use stats::{Stats, ThreadTimes, Work};
pub use vm::extern_ref::ExternRef;
pub use vm::heap::HeapStats;
#[cfg(feature = "wasi")]
pub use wasi::{Denial, Refusal, WasiEnv, add_wasi_to_linker, create_wasi_linker};

/// Runs the examples of the README as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
