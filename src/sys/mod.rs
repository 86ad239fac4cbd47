//! The operating system: everything that differs between Linux, Apple's systems and other Unixes.
//!
//! What may be here: a call that one system has and another lacks, and a call whose meaning differs between them. Each is
//! one function or type of the same name and signature in `linux`, `apple` and `posix`; the code above calls it without a
//! `cfg`. A system without the means has a twin that does the next best thing, or that says that it has none.
//!
//! What may not: calls that are the same on every Unix (rustix and cap-std make those where they are needed), what
//! depends on the processor only, and decisions. What a guest may have, for instance, is decided in `wasi`; this room
//! knows errors, and no other room.

mod coroutine;
mod process;
#[cfg(jit)]
pub(crate) mod signal;
mod stack;

#[cfg(all(target_vendor = "apple", not(miri)))]
mod apple;
#[cfg(all(any(target_os = "linux", target_os = "android"), not(miri)))]
mod linux;
// Apple's systems take from it what they have no call of their own for. Miri has these calls only.
#[cfg(any(miri, not(any(target_os = "linux", target_os = "android"))))]
mod posix;

#[cfg(all(target_vendor = "apple", not(miri)))]
use apple as system;
#[cfg(all(any(target_os = "linux", target_os = "android"), not(miri)))]
use linux as system;
#[cfg(any(miri, not(any(target_os = "linux", target_os = "android", target_vendor = "apple"))))]
use posix as system;

/// Finding things without a descriptor for them works on Linux as well: its tests run there.
#[cfg(all(test, any(target_os = "linux", target_os = "android"), not(miri)))]
#[path = "posix/resolve.rs"]
mod posix_resolve;

pub(crate) use coroutine::{Coroutine, StackPool, Suspender};
#[cfg(jit)]
pub(crate) use process::thread_time;
pub(crate) use process::{is_ignored, peak_memory};
#[cfg(jit)]
pub(crate) use stack::stack_remaining;
pub(crate) use stack::{
    LEAST_STACK, NativeStack, coroutine_stack, current_stack, saved_registers, set_coroutine_stack, stack_pointer,
};
pub(crate) use system::file::{advise, allocate, sync_all, sync_data, unlink};
pub(crate) use system::image::Image;
pub(crate) use system::nowait::{never_waits, read_nowait, reopen_nonblocking, write_nowait};
pub(crate) use system::poller::Poller;
pub(crate) use system::procfs::{is_procfs, procfs_name};
pub(crate) use system::resolve::{ResolvedPath, open_directory};
pub(crate) use system::socket::{NO_MORE_TO_RECEIVE, accept, send_nowait};
pub(crate) use system::space::discard;
pub(crate) use system::thread::lower_priority;
pub(crate) use system::wake::WakeFd;

/// What a program will do with a part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Advice {
    Normal,
    Sequential,
    Random,
    WillNeed,
    DontNeed,
    NoReuse,
}
