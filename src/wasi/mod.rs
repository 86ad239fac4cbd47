//! WASI Preview 1 as host functions in a [`Linker`].
//!
//! A call looks its descriptor up under the environment's lock, lets the lock go and works on the host's object
//! directly in guest memory. Files are reached only through the directory handles of cap-std.
//!
//! What may be here: what a guest sees of the host, and what it may not. What may not: knowledge of engines; it is host
//! functions on the API, as an embedder writes them.

mod clock;
mod env;
mod errno;
mod fd;
mod fs;
mod fuel;
mod guest;
mod name;
mod path;
mod poll;
mod preview1;
mod process;
mod procfs;
mod quota;
mod random;
#[cfg(feature = "async")]
mod reactor;
mod read_only;
mod sock;
mod stream;
mod table;
mod transfer;
mod types;
mod wait;
mod watch;

pub use env::WasiEnv;
pub use watch::{Denial, Refusal};

use crate::error::Result;
use crate::runtime::linker::Linker;
use std::sync::{Arc, Mutex};

/// A [`Linker`] with all functions of WASI Preview 1 (`wasi_snapshot_preview1` and `wasi_unstable`), acting on `env`.
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use wasmrun::{WasiEnv, create_wasi_linker};
/// let env = Arc::new(Mutex::new(WasiEnv::new()));
/// let linker = create_wasi_linker(env.clone());
/// ```
///
/// Do not hold the lock on `env` while the program runs: each call takes it for a moment. A call that does not get it for
/// five seconds, because the caller of the program holds it for instance, ends the program with an error of the kind
/// [`ErrorKind::Host`](crate::ErrorKind::Host).
///
/// # Panics
/// If the lock on `env` stays held for five seconds.
pub fn create_wasi_linker(env: Arc<Mutex<WasiEnv>>) -> Linker {
    let mut linker = Linker::default();
    // An empty linker has no names to clash with, so there is one reason only.
    if let Err(error) = add_wasi_to_linker(&mut linker, env) {
        panic!("{error}");
    }
    linker
}

/// Adds all functions of WASI Preview 1 to a [`Linker`], acting on the environment in the data of the store whose code calls:
/// one linker serves any number of stores, and none sees another's output.
///
/// A function that waits (`poll_oneoff`, reading from a standard stream, accepting a connection) blocks the thread, or suspends
/// the code if that is called asynchronously; see [`add_to_linker_async`].
///
/// ```
/// use wasmrun::{Engine, Linker, Module, Store, WasiEnv, wasi};
/// struct Request {
///     wasi: WasiEnv,
/// }
/// let engine = Engine::default();
/// let mut linker = Linker::new(&engine);
/// wasi::add_to_linker(&mut linker, |request: &mut Request| &mut request.wasi)?;
/// let module = Module::new(&engine, r#"(module
///     (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
///     (func (export "_start") (call $exit (i32.const 3))))"#)?;
/// let program = linker.instantiate_pre(&module)?;
/// for name in ["one", "two"] {
///     let mut store = Store::new(&engine, Request { wasi: WasiEnv::new().with_args(vec![name.into()]) });
///     let instance = program.instantiate(&mut store)?;
///     let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
///     assert_eq!(start.call(&mut store, ()).unwrap_err().exit_code(), Some(3));
/// }
/// # Ok::<(), wasmrun::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Link`](crate::ErrorKind::Link) if one of their names is taken and shadowing is not allowed.
pub fn add_to_linker<T: 'static>(
    linker: &mut Linker<T>,
    find: impl Fn(&mut T) -> &mut WasiEnv + Copy + Send + Sync + 'static,
) -> Result<()> {
    preview1::add_to_linker_of_stores(linker, find)
}

/// The same as [`add_to_linker`], for code that was written for other runtimes with this API: functions that wait suspend the
/// code that calls them whenever that is called asynchronously ([`TypedFunc::call_async`](crate::TypedFunc::call_async)), whichever
/// of the two defined them, and so do those of [`create_wasi_linker`].
///
/// The thread is free meanwhile. Any executor will do: one thread of this library watches the descriptors and the clock for all
/// guests of the process. What it can't do is to read asynchronously from regular files, or from a
/// [`Read`](std::io::Read) that was given as standard input: these block the thread as long as the system or the embedder's code
/// does.
///
/// ```
/// use std::time::{Duration, Instant};
/// use wasmrun::{Engine, Linker, Module, Store, WasiEnv, wasi};
/// let engine = Engine::default();
/// let mut linker = Linker::new(&engine);
/// wasi::add_to_linker_async(&mut linker, |wasi: &mut WasiEnv| wasi)?;
/// // Sleeps for 20 ms.
/// let module = Module::new(&engine, r#"(module
///     (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
///     (memory (export "memory") 1)
///     (func (export "_start")
///         (i32.store (i32.const 16) (i32.const 1))
///         (i64.store (i32.const 24) (i64.const 20_000_000))
///         (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))))"#)?;
/// let program = linker.instantiate_pre(&module)?;
/// let guest = async || {
///     let mut store = Store::new(&engine, WasiEnv::new());
///     let instance = program.instantiate_async(&mut store).await?;
///     instance.get_typed_func::<(), ()>(&mut store, "_start")?.call_async(&mut store, ()).await
/// };
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// // Both sleep at the same time, on one thread.
/// let begun = Instant::now();
/// runtime.block_on(async { tokio::try_join!(guest(), guest()) })?;
/// assert!(begun.elapsed() >= Duration::from_millis(20));
/// # Ok::<(), wasmrun::Error>(())
/// ```
///
/// # Errors
/// As for [`add_to_linker`].
#[cfg(feature = "async")]
pub fn add_to_linker_async<T: Send + 'static>(
    linker: &mut Linker<T>,
    find: impl Fn(&mut T) -> &mut WasiEnv + Copy + Send + Sync + 'static,
) -> Result<()> {
    add_to_linker(linker, find)
}

/// Adds all functions of WASI Preview 1 to a [`Linker`] that may have others as well, acting on a shared environment. For one in
/// the data of each store, see [`add_to_linker`].
///
/// # Errors
/// [`ErrorKind::Link`](crate::ErrorKind::Link) if one of their names is taken and shadowing is not allowed;
/// [`ErrorKind::Host`](crate::ErrorKind::Host) if the lock on `env` stays held for five seconds.
pub fn add_wasi_to_linker<T: 'static>(linker: &mut Linker<T>, env: Arc<Mutex<WasiEnv>>) -> Result<()> {
    preview1::add_to_linker(linker, &env)
}
