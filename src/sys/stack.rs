//! Native stacks: where the one ends that code runs on, and which registers and addresses are on it now.

use std::cell::Cell;

use super::system::thread::stack_bounds;
use crate::error::{Error, Result};

/// Bytes of a native stack that are left to Rust code below the deepest WebAssembly frame: a quarter of the stack, within
/// these limits.
const RESERVE: std::ops::RangeInclusive<usize> = 32 << 10..=256 << 10;

/// Bytes that a native stack must have for WebAssembly code to be run on it.
pub(crate) const LEAST_STACK: usize = 96 << 10;

/// A native stack that WebAssembly code runs on, from its lowest address to where the code was entered. The default is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NativeStack {
    /// Its lowest usable address.
    pub low: usize,
    /// The stack pointer where the code was entered; 0 if there is none.
    pub high: usize,
}

impl NativeStack {
    #[inline]
    pub fn is_running(self) -> bool {
        self.high != 0
    }

    /// Whether the frame at this stack pointer is on this stack and below the code's entry: called from there, however deep.
    #[inline]
    pub fn contains(self, stack_pointer: usize) -> bool {
        stack_pointer.wrapping_sub(self.low) < self.high - self.low
    }
}

/// The lowest usable address of the current thread's own stack, and its end. `(0, usize::MAX)` if it can't be told.
#[inline]
fn thread_stack() -> (usize, usize) {
    thread_local!(static BOUNDS: Cell<(usize, usize)> = const { Cell::new((0, 0)) });
    BOUNDS.with(|cell| {
        if cell.get() == (0, 0) {
            cell.set(stack_bounds().unwrap_or((0, usize::MAX)));
        }
        cell.get()
    })
}

/// The stack that the current thread's stack pointer `here` is on, as entered there, and the bytes of it to leave to Rust
/// code.
///
/// # Errors
/// [`Resource`](crate::ErrorKind::Resource) if there is too little of it, or nobody knows how much.
#[inline]
pub(crate) fn current_stack(here: usize) -> Result<(NativeStack, usize)> {
    let (low, high) = thread_stack();
    if low <= here && here < high && high - low >= LEAST_STACK {
        return Ok((NativeStack { low, high: here }, reserve(high - low)));
    }
    unusual_stack(here, low, high)
}

#[inline]
fn reserve(size: usize) -> usize {
    (size / 4).clamp(*RESERVE.start(), *RESERVE.end())
}

thread_local! {
    /// Lowest usable address and end of the stack that one of our coroutines runs on; zeros if none runs on this thread.
    static COROUTINE: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

/// Says which stack of our coroutines this thread runs on from now on, by its lowest usable address and its end; zeros for
/// none. Returns what was said before.
///
/// Not inlined, because who calls it may go on on another thread.
#[inline(never)]
pub(crate) fn set_coroutine_stack(bounds: (usize, usize)) -> (usize, usize) {
    COROUTINE.replace(bounds)
}

/// A whole stack of our coroutines, given by its lowest usable address and its end; and the bytes of it to leave to Rust
/// code.
pub(crate) fn coroutine_stack((low, high): (usize, usize)) -> (NativeStack, usize) {
    (NativeStack { low, high }, reserve(high - low))
}

/// [`current_stack`] for a stack that is too small, or not the thread's own, such as a coroutine's. The latter is the mapping
/// that contains the stack pointer, provided that the memory below it is not accessible, if it is not one of ours. Finding it
/// takes some microseconds; the result can't be kept, because nothing tells when such a stack is unmapped.
#[cold]
fn unusual_stack(here: usize, low: usize, high: usize) -> Result<(NativeStack, usize)> {
    let too_small = |size: usize| {
        let (size, least) = (size >> 10, LEAST_STACK >> 10);
        Error::resource(format!(
            "a native stack of {size} KiB is too small for WebAssembly code, which needs {least} KiB"
        ))
    };
    if low <= here && here < high {
        return Err(too_small(high - low));
    }
    let (low, high) = COROUTINE.get();
    if low <= here && here < high {
        return Ok((NativeStack { low, high: here }, reserve(high - low)));
    }
    let unknown =
        || Error::resource("nobody knows how large the native stack is that this call is on, or where it ends");
    let (mut low, mut readable_below) = (None, 0);
    for region in region::query_range(std::ptr::without_provenance::<u8>(1), here).map_err(|_| unknown())? {
        let region = region.map_err(|_| unknown())?;
        let (range, protection) = (region.as_range(), region.protection());
        if range.contains(&here) {
            low = protection.contains(region::Protection::READ_WRITE).then_some(range.start);
            break;
        }
        if protection.contains(region::Protection::READ) && !region.is_guarded() {
            readable_below = range.end;
        }
    }
    let low = low.filter(|low| *low != readable_below).ok_or_else(unknown)?;
    // Other mappings may follow without a gap, so the end of the stack is unknown; only the rest below `here` counts.
    let left = here - low;
    if left < LEAST_STACK {
        return Err(too_small(left));
    }
    Ok((NativeStack { low, high: here }, reserve(left)))
}

/// Bytes that are left of the native stack: far too many if the bounds of threads can't be told, none if it is not the
/// thread's own.
pub(crate) fn stack_remaining() -> usize {
    let ((low, high), here) = (thread_stack(), stack_pointer());
    if low <= here && here < high { here - low } else { 0 }
}

/// The current values of the callee-saved registers.
#[inline(always)]
pub(crate) fn saved_registers() -> [u64; 12] {
    let mut words = [0u64; 12];
    // SAFETY: stores registers to the array, and nothing else.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    unsafe {
        std::arch::asm!(
            "mov [{0}], rbx", "mov [{0} + 8], rbp", "mov [{0} + 16], r12", "mov [{0} + 24], r13",
            "mov [{0} + 32], r14", "mov [{0} + 40], r15",
            in(reg) words.as_mut_ptr(), options(nostack, preserves_flags)
        );
    }
    // SAFETY: as above.
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    unsafe {
        std::arch::asm!(
            "stp x19, x20, [{0}]", "stp x21, x22, [{0}, 16]", "stp x23, x24, [{0}, 32]",
            "stp x25, x26, [{0}, 48]", "stp x27, x28, [{0}, 64]",
            in(reg) words.as_mut_ptr(), options(nostack, preserves_flags)
        );
    }
    // Other targets have no compiled code, and interpreted frames are on the value stack.
    std::hint::black_box(&mut words);
    words
}

/// The stack pointer, or an address in the current stack frame.
#[inline(always)]
pub(crate) fn stack_pointer() -> usize {
    // Under Miri, frames lie anywhere.
    #[cfg(miri)]
    {
        usize::MAX / 2
    }
    #[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
    {
        let here: usize;
        // SAFETY: only a register is read.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            std::arch::asm!("mov {}, rsp", out(reg) here, options(nomem, nostack, preserves_flags));
            #[cfg(target_arch = "aarch64")]
            std::arch::asm!("mov {}, sp", out(reg) here, options(nomem, nostack, preserves_flags));
        }
        here
    }
    #[cfg(not(any(miri, target_arch = "x86_64", target_arch = "aarch64")))]
    {
        let marker = 0u8;
        std::hint::black_box(&raw const marker) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn saved_registers_are_those_of_the_caller() {
        extern "C" fn probe() -> usize {
            let words = saved_registers();
            (1..=4).filter(|n| words.contains(&(0x1234_5678_9ABC_DEF0 + n))).count()
        }
        let found: usize;
        // SAFETY: what the function may change is said, and so are the registers that are set for it.
        unsafe {
            std::arch::asm!(
                "lea r12, [{word} + 1]", "lea r13, [{word} + 2]", "lea r14, [{word} + 3]", "lea r15, [{word} + 4]",
                "call {probe}",
                word = in(reg) 0x1234_5678_9ABC_DEF0u64, probe = sym probe,
                out("r12") _, out("r13") _, out("r14") _, out("r15") _, lateout("rax") found, clobber_abi("C")
            );
        }
        assert_eq!(found, 4);
    }

    #[test]
    fn the_reserve_is_a_quarter_within_limits() {
        assert_eq!(reserve(64 << 10), 32 << 10);
        assert_eq!(reserve(512 << 10), 128 << 10);
        assert_eq!(reserve(8 << 20), 256 << 10);
    }

    #[test]
    fn a_stack_has_what_is_between_its_ends() {
        let stack = NativeStack { low: 1000, high: 2000 };
        assert!(stack.is_running() && !NativeStack::default().is_running());
        assert_eq!([999, 1000, 1999, 2000].map(|here| stack.contains(here)), [false, true, true, false]);
        assert_eq!([0, 1, usize::MAX].map(|here| NativeStack::default().contains(here)), [false; 3]);
    }
}
