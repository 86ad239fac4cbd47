//! Linux and Android.

pub(super) mod file;
pub(super) mod image;
pub(super) mod nowait;
pub(super) mod poller;
pub(super) mod procfs;
pub(super) mod resolve;
#[cfg(jit)]
pub(super) mod signal;
pub(super) mod socket;
pub(super) mod space;
pub(super) mod thread;
pub(super) mod wake;
