//! What the process and its threads have used.

use std::time::Duration;

#[cfg(feature = "cli")]
use super::system::thread::RESIDENT_SIZE_UNIT;

/// The processor time that the current thread has used.
pub(crate) fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The processor time that all threads of the process have used.
#[cfg(any(jit, feature = "cli"))]
pub(crate) fn process_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The largest amount of memory, in bytes, that the process has had resident so far.
#[cfg(feature = "cli")]
pub(crate) fn peak_memory() -> Option<u64> {
    // SAFETY: zeros are a valid value, and the call writes all of it.
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        (libc::getrusage(libc::RUSAGE_SELF, &mut usage) == 0).then_some(usage)?
    };
    Some(usage.ru_maxrss as u64 * RESIDENT_SIZE_UNIT)
}

/// Whether the process ignores a signal.
#[cfg(feature = "cli")]
pub(crate) fn is_ignored(signal: std::ffi::c_int) -> bool {
    // SAFETY: asks for the action only; zeros are a valid action if that should fail.
    unsafe {
        let mut action = std::mem::zeroed::<libc::sigaction>();
        libc::sigaction(signal, std::ptr::null(), &mut action);
        action.sa_sigaction == libc::SIG_IGN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(feature = "cli")]
    #[cfg_attr(miri, ignore = "Miri has no such call")]
    fn peak_memory_is_in_bytes() {
        // A test program has more than a megabyte and less than a terabyte.
        assert!((1 << 20..1 << 40).contains(&peak_memory().unwrap()));
    }

    #[test]
    fn thread_time_passes_with_work_only() {
        let start = thread_time();
        std::thread::sleep(Duration::from_millis(20));
        let slept = thread_time();
        assert!(slept - start < Duration::from_millis(20));
        while thread_time() == slept {}
    }
}
