//! What every Unix has. Where that is not enough, a function does the next best thing or says that there is no such thing.

#[cfg(any(miri, not(target_vendor = "apple")))]
pub(super) mod socket;

#[cfg_attr(target_vendor = "apple", allow(dead_code, reason = "some have a twin that does more"))]
pub(super) mod file;
pub(super) mod image;
pub(super) mod nowait;
pub(super) mod poller;
pub(super) mod procfs;
pub(super) mod resolve;
pub(super) mod space;
#[cfg_attr(target_vendor = "apple", allow(dead_code, reason = "some have a twin that does more"))]
pub(super) mod thread;
pub(super) mod wake;
