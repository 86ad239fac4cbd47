//! What both engines act on: contexts and the objects of a store.

#[cfg_attr(not(jit), allow(dead_code, reason = "only native code goes by offsets"))]
pub(crate) mod context;
pub(crate) mod exception;
pub(crate) mod heap;
pub(crate) mod image;
#[cfg_attr(not(jit), allow(dead_code, unused_imports, reason = "only compiled code calls through the table"))]
pub(crate) mod libcalls;
pub(crate) mod ops;
pub(crate) mod space;
