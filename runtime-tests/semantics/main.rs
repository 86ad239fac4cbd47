//! What WebAssembly code, the API and the boundary between them do, on every engine configuration.

mod between;
mod data;
mod engines;
mod exceptions;
mod host_calls;
mod lifetimes;
mod linking;
mod memory;
mod nans;
mod operands;
mod stack;
mod threads;
mod traps;
