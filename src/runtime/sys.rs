//! The platform: what else differs between systems goes here.

use std::cell::Cell;
use std::time::Duration;

/// Bytes of a thread's stack that are left to Rust code below the deepest WebAssembly frame.
const STACK_RESERVE: usize = 256 << 10;

/// The lowest usable address of the current thread's stack, and its end. `(0, usize::MAX)` if it can't be told.
fn stack_bounds() -> (usize, usize) {
    thread_local!(static BOUNDS: Cell<(usize, usize)> = const { Cell::new((0, 0)) });
    BOUNDS.with(|cell| {
        if cell.get() == (0, 0) {
            cell.set(query_stack_bounds().unwrap_or((0, usize::MAX)));
        }
        cell.get()
    })
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn query_stack_bounds() -> Option<(usize, usize)> {
    // SAFETY: plain calls with pointers to locals; the attribute object is destroyed after use.
    unsafe {
        let mut attr = std::mem::zeroed::<libc::pthread_attr_t>();
        if libc::pthread_getattr_np(libc::pthread_self(), &mut attr) != 0 {
            return None;
        }
        let (mut low, mut size, mut guard) = (std::ptr::null_mut(), 0, 0);
        let ok = libc::pthread_attr_getstack(&attr, &mut low, &mut size) == 0
            && libc::pthread_attr_getguardsize(&attr, &mut guard) == 0;
        libc::pthread_attr_destroy(&mut attr);
        let low = low as usize;
        ok.then_some((low + guard, low + size))
    }
}

#[cfg(target_vendor = "apple")]
fn query_stack_bounds() -> Option<(usize, usize)> {
    // SAFETY: plain calls about the current thread.
    unsafe {
        let this = libc::pthread_self();
        let high = libc::pthread_get_stackaddr_np(this) as usize;
        Some((high - libc::pthread_get_stacksize_np(this), high))
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn query_stack_bounds() -> Option<(usize, usize)> {
    None
}

/// The stack limit for WebAssembly code entered now: `max` bytes further down, but never into the reserve.
///
/// A `current` limit of a calling activation on the same stack stays in force.
#[inline]
pub(crate) fn stack_limit(current: usize, max: usize) -> usize {
    let (low, high) = stack_bounds();
    if current > low && current < high {
        return current;
    }
    let here = stack_pointer();
    here.saturating_sub(max).max(low.saturating_add(STACK_RESERVE))
}

/// What [`stack_base`] gives when frames of a store's code are on more than one stack.
pub(crate) const SCATTERED: usize = usize::MAX;

/// End of the part of the native stack that the code entered now is on: `outer` if that was entered on this stack
/// before, [`SCATTERED`] if on another thread's.
pub(crate) fn stack_base(outer: usize) -> usize {
    let (low, high) = stack_bounds();
    match outer {
        0 => stack_pointer(),
        _ if outer > low && outer < high => outer,
        _ => SCATTERED,
    }
}

/// The processor time that the current thread has used; the time that has passed where that can't be told.
#[cfg_attr(not(jit), expect(dead_code, reason = "only compiling is timed"))]
pub(crate) fn thread_time() -> Duration {
    #[cfg(unix)]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }
    #[cfg(not(unix))]
    {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        START.get_or_init(std::time::Instant::now).elapsed()
    }
}

/// Bytes of the current thread's stack that are left; far too many if its bounds can't be told.
#[cfg_attr(not(jit), expect(dead_code, reason = "only the compiler needs much"))]
pub(crate) fn stack_remaining() -> usize {
    stack_pointer().saturating_sub(stack_bounds().0)
}

/// The registers that a called function must save before it uses them, as they are now.
#[inline(always)]
pub(crate) fn saved_registers() -> [u64; 12] {
    let mut words = [0u64; 12];
    // SAFETY: stores registers to the array, and nothing else.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!(
            "mov [{0}], rbx", "mov [{0} + 8], rbp", "mov [{0} + 16], r12", "mov [{0} + 24], r13",
            "mov [{0} + 32], r14", "mov [{0} + 40], r15",
            in(reg) words.as_mut_ptr(), options(nostack, preserves_flags)
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
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
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
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
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        let marker = 0u8;
        std::hint::black_box(&raw const marker) as usize
    }
}
