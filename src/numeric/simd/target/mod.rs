//! The instructions that need code for each target, because plain Rust does not compile to good code everywhere.

#[cfg(target_arch = "aarch64")]
mod aarch64;
// Also compiled where it is not used: tests compare the other two with it.
#[cfg_attr(any(target_arch = "x86_64", target_arch = "aarch64"), allow(dead_code))]
pub(super) mod portable;
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod x86_64;

#[cfg(all(target_arch = "x86_64", not(miri)))]
pub(super) use x86_64::*;
#[cfg(target_arch = "aarch64")]
pub(super) use {aarch64::*, portable::arithmetic::*};
#[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
pub(super) use {portable::arithmetic::*, portable::table::*};
