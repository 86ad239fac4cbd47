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
#[cfg(all(test, feature = "wasi", any(target_os = "linux", target_os = "android"), not(miri)))]
#[path = "posix/resolve.rs"]
mod posix_resolve;

pub(crate) use coroutine::{Coroutine, StackPool, Suspender};
#[cfg(any(jit, feature = "cli"))]
pub(crate) use process::process_time;
pub(crate) use process::thread_time;
#[cfg(feature = "cli")]
pub(crate) use process::{is_ignored, peak_memory};
pub(crate) use stack::{
    LEAST_STACK, NativeStack, coroutine_stack, current_stack, saved_registers, set_coroutine_stack, stack_pointer,
    stack_remaining,
};
#[cfg(jit)]
pub(crate) use system::cpu::{affinity, cpu_quota};
#[cfg(feature = "wasi")]
pub(crate) use system::file::{advise, allocate, sync_all, sync_data, unlink};
pub(crate) use system::image::Image;
#[cfg(jit)]
pub(crate) use system::image::anonymous_file;
#[cfg(feature = "wasi")]
pub(crate) use system::nowait::{never_waits, read_nowait, reopen_nonblocking, write_nowait};
#[cfg(all(feature = "wasi", feature = "async"))]
pub(crate) use system::poller::Poller;
#[cfg(feature = "wasi")]
pub(crate) use system::procfs::{is_procfs, procfs_name};
#[cfg(feature = "wasi")]
pub(crate) use system::resolve::{ResolvedPath, open_directory};
#[cfg(feature = "wasi")]
pub(crate) use system::socket::{NO_MORE_TO_RECEIVE, accept, send_nowait};
pub(crate) use system::space::{PageMap, discard, max_mappings, prefer_small_pages, shortage};
pub(crate) use system::thread::lower_priority;
pub(crate) use system::wake::WakeFd;

/// What a process has run out of when the system refuses memory or address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(any(miri, not(any(target_os = "linux", target_os = "android"))), allow(dead_code, reason = "nobody tells"))]
pub(crate) enum Shortage {
    /// It has as many mappings as `vm.max_map_count` allows.
    Mappings { limit: usize },
    /// It would have more address space than `RLIMIT_AS` allows, in bytes.
    AddressSpaceLimit { limit: u64 },
    /// Memory or address space: the system does not say which.
    Memory,
}

impl std::fmt::Display for Shortage {
    /// What there is too little of, and what to do about it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Shortage::Mappings { limit } => write!(
                f,
                "the process has {limit} memory mappings, the most that vm.max_map_count allows; raise that \
                 (sysctl -w vm.max_map_count=N) or keep fewer instances at once"
            ),
            Shortage::AddressSpaceLimit { limit } => write!(
                f,
                "the process may have {limit} bytes of address space; raise that limit (RLIMIT_AS, ulimit -v) or keep \
                 fewer instances at once"
            ),
            Shortage::Memory => f.write_str("it has no memory or address space left; keep fewer instances at once"),
        }
    }
}

/// What a program will do with a part of a file.
#[cfg(feature = "wasi")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Advice {
    Normal,
    Sequential,
    Random,
    WillNeed,
    DontNeed,
    NoReuse,
}
