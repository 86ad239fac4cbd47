//! WASI Preview 1 as host functions in a [`Linker`].
//!
//! A call looks its descriptor up under the environment's lock, lets the lock go and works on the host's object
//! directly in guest memory. Files are reached only through the directory handles of cap-std.

mod clock;
mod env;
mod errno;
mod fd;
mod fs;
mod guest;
mod path;
mod poll;
mod preview1;
mod process;
mod procfs;
mod random;
mod sock;
mod stream;
mod table;
mod types;
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
pub fn create_wasi_linker(env: Arc<Mutex<WasiEnv>>) -> Linker {
    let mut linker = Linker::default();
    add_wasi_to_linker(&mut linker, env).expect("an empty linker has no names to clash with");
    linker
}

/// Adds all functions of WASI Preview 1 to a [`Linker`] that may have others as well.
///
/// # Errors
/// [`ErrorKind::Link`](crate::ErrorKind::Link) if one of their names is taken and shadowing is not allowed.
pub fn add_wasi_to_linker<T: 'static>(linker: &mut Linker<T>, env: Arc<Mutex<WasiEnv>>) -> Result<()> {
    preview1::add_to_linker(linker, &env)
}
