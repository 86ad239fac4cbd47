//! macOS and its relatives.

pub(super) mod file;
pub(super) mod socket;
pub(super) mod thread;

pub(super) use super::posix::{image, nowait, poller, procfs, resolve, space, wake};
