//! Linux and Android.

#[cfg(jit)]
pub(super) mod cpu;
#[cfg(feature = "wasi")]
pub(super) mod file;
pub(super) mod image;
#[cfg(feature = "wasi")]
pub(super) mod nowait;
#[cfg(all(feature = "wasi", feature = "async"))]
pub(super) mod poller;
#[cfg(feature = "wasi")]
pub(super) mod procfs;
#[cfg(feature = "wasi")]
pub(super) mod resolve;
#[cfg(jit)]
pub(super) mod signal;
#[cfg(feature = "wasi")]
pub(super) mod socket;
pub(super) mod space;
pub(super) mod thread;
pub(super) mod wake;
