//! What both engines act on: contexts, and the objects of a store (specification, section 4.2).
//!
//! What may be here: the layout that compiled code sees (`context`), the objects and how they are made (`instantiate`), the
//! operations on them that both engines call (`ops`, `libcalls`), when they are collected (`heap`), native stacks and threads
//! as far as a store knows them.
//! What may not: how code is run, and the embedding API. What objects need of an engine is in `engine::Hooks`, which a higher
//! room fills in.

pub(crate) mod activation;
mod const_expr;
#[cfg_attr(not(jit), allow(dead_code, reason = "only native code goes by offsets"))]
pub(crate) mod context;
pub(crate) mod engine;
pub(crate) mod exception;
pub(crate) mod extern_ref;
pub(crate) mod func;
pub(crate) mod global;
pub(crate) mod heap;
pub(crate) mod image;
pub(crate) mod instance;
pub(crate) mod instantiate;
#[cfg_attr(not(jit), allow(dead_code, unused_imports, reason = "only compiled code calls through the table"))]
pub(crate) mod libcalls;
pub(crate) mod limits;
pub(crate) mod memory;
pub(crate) mod ops;
pub(crate) mod space;
pub(crate) mod store;
pub(crate) mod table;
mod tag;
