//! What both engines act on: stores and all that lives in them.
//!
//! What may be here: the objects of the specification's runtime structure (section 4.2), their layout as compiled
//! code sees it (`vmcontext`), the operations on them that both engines call (`ops`, `libcalls`), arithmetic
//! (`numeric`, `simd`), and the embedding API over them. What may not: how code is run (`interp`, `jit`), or anything
//! of WASI.

pub(crate) mod caller;
pub(crate) mod engine;
pub(crate) mod external;
pub(crate) mod func;
pub(crate) mod global;
pub(crate) mod instance;
pub(crate) mod linear;
pub(crate) mod linker;
pub(crate) mod memory;
pub(crate) mod store;
pub(crate) mod table;
pub(crate) mod typed;
pub(crate) mod value;
