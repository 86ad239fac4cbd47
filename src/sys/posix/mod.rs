//! What every Unix has. Where that is not enough, a function does the next best thing or says that there is no such thing.

#[cfg(any(miri, not(target_vendor = "apple")))]
#[cfg(feature = "wasi")]
pub(super) mod socket;

#[cfg(jit)]
pub(super) mod cpu;
#[cfg_attr(target_vendor = "apple", allow(dead_code, reason = "some have a twin that does more"))]
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
pub(super) mod space;
#[cfg_attr(target_vendor = "apple", allow(dead_code, reason = "some have a twin that does more"))]
pub(super) mod thread;
pub(super) mod wake;
