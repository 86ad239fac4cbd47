//! Code on disk: the cache, which keeps compiled code and bytecode for later runs, and `.cwasm` files.
//!
//! A module has a folder in the cache's directory, named after its [`key`]: a hash of everything its code depends on
//! except the bodies of its functions. The folder holds [`segment`]s: files of functions that never change. A run maps
//! them (`store`), verifies a function's checksum and its body's hash when the function is first needed, and writes the
//! code that it compiled to one more segment, into which it merges smaller ones. `directory` finds, writes and evicts
//! the files, and decides whether the directory can be trusted; `marks` remembers which files are valid modules, and `heat` for how long functions ran
//! without native code. `aot`
//! puts a module and a segment with all its functions into one file. The cache's settings are in the room `config`.
//!
//! What may be here: files and their formats. What may not: how code is compiled, registered or called, which is
//! `jit`'s task; here, code is bytes. Builds without the JIT do not have this room.
//!
//! Files in the directory are trusted as far as its owner is: the checksums are against damage, not against forgery.
//! So the directory must belong to the user and be writable by nobody else.

pub(crate) mod aot;
pub(crate) mod directory;
mod heat;
mod key;
mod marks;
mod segment;
mod store;

pub(crate) use key::{Settings, VERSION, body_hash};
pub(crate) use segment::{BYTECODE, FunctionKey, MappedCode, Record};
pub(crate) use store::{FoundCode, ModuleCache};
