//! macOS and its relatives.

#[cfg(feature = "wasi")]
pub(super) mod file;
#[cfg(feature = "wasi")]
pub(super) mod socket;
pub(super) mod thread;

#[cfg(jit)]
pub(super) use super::posix::cpu;
#[cfg(all(feature = "wasi", feature = "async"))]
pub(super) use super::posix::poller;
pub(super) use super::posix::{image, space, wake};
#[cfg(feature = "wasi")]
pub(super) use super::posix::{nowait, procfs, resolve};
