//! Linux and Android.

pub(super) mod file;
pub(super) mod found;
pub(super) mod image;
pub(super) mod procfs;
pub(super) mod socket;
pub(super) mod space;
pub(super) mod thread;
