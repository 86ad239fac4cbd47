//! What WebAssembly code, the API and the boundary between them do, on every engine configuration.

mod async_wasi;
mod asynchronous;
mod backtraces;
mod between;
mod budget;
mod combined;
mod data;
mod engines;
mod exceptions;
mod fuel;
mod heap;
mod host_calls;
mod interruption;
mod lifetimes;
mod limits;
mod linking;
mod memory;
mod nans;
mod native_stacks;
mod operands;
mod profiler;
mod stack;
mod threads;
mod traps;
mod yielding;
