//! The runtime objects that both engines act on: instance contexts and the objects of a store (specification, section 4.2).
//!
//! What may be here: the layout that compiled code sees (`context`), the objects of a store and instantiation
//! (`instantiate`), the operations on objects that both engines call (`ops`, `libcalls`), garbage collection (`heap`, and
//! `gc` for structures and arrays), fuel (`fuel`), the native stack that a store's code runs on (`store`, `activation`, `fiber`), requests to running code
//! (`interrupt`), what it may use (`limits`, `budget`), and where it spends its time (`sample`). Shared memories belong to no store:
//! `shared`, those who wait in them (`wait_queue`), and accesses to their bytes (`racy`).
//! What may not: how code is run, and the embedding API. Where an object needs an engine, it calls a function pointer in
//! `engine::Hooks`, which a higher room fills in.

pub(crate) mod activation;
pub(crate) mod budget;
mod const_expr;
#[cfg_attr(not(jit), allow(dead_code, reason = "only native code uses the offsets"))]
pub(crate) mod context;
pub(crate) mod engine;
pub(crate) mod exception;
pub(crate) mod extern_ref;
pub(crate) mod extern_table;
pub(crate) mod fiber;
pub(crate) mod fuel;
pub(crate) mod func;
#[allow(dead_code, unused_imports, reason = "the instructions that use it come next")]
pub(crate) mod gc;
pub(crate) mod global;
pub(crate) mod heap;
pub(crate) mod image;
pub(crate) mod instance;
pub(crate) mod instantiate;
pub(crate) mod interrupt;
#[cfg_attr(not(jit), allow(dead_code, unused_imports, reason = "only compiled code calls through the table"))]
pub(crate) mod libcalls;
pub(crate) mod limits;
pub(crate) mod memory;
pub(crate) mod ops;
pub(crate) mod racy;
pub(crate) mod sample;
pub(crate) mod shared;
pub(crate) mod slab;
pub(crate) mod space;
pub(crate) mod store;
pub(crate) mod table;
mod tag;
mod wait_queue;
