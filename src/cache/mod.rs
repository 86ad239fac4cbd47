//! Code on disk: what earlier runs compiled is native from its first call, what they translated to bytecode is not translated
//! again; and `.cwasm` files.
//!
//! A module has a folder in the cache's directory, named after its [`key`]: all that its code depends on but the bodies
//! themselves. In the folder are [`segment`]s, files of functions that never change. A run maps them (`store`), checks
//! a function against its checksum and its body's hash when it is first wanted, and adds what it compiled as one more
//! segment, into which it merges smaller ones. `directory` finds, writes and evicts the files and decides whether the
//! place can be trusted; `marks` remembers which files are valid modules. `aot` puts a module and a segment with all
//! its functions into one file. Its settings are in the room `config`.
//!
//! What may be here: files and their formats. What may not: how code is compiled, registered or called, which is
//! `jit`'s; the code itself is bytes here. The room is not there in builds without the JIT.
//!
//! Files in the directory are trusted as far as its owner is: the checksums are against damage, not against forgery.
//! So the directory must belong to the user and be writable by nobody else.

pub(crate) mod aot;
pub(crate) mod directory;
mod key;
mod marks;
mod segment;
mod store;

pub(crate) use key::{Settings, VERSION, body_hash};
pub(crate) use segment::{BYTECODE, FunctionKey, MappedCode, Record};
pub(crate) use store::{FoundCode, ModuleCache};
