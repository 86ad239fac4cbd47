//! Threads: their stacks and priorities.

/// Bytes that `getrusage` counts resident memory in.
pub(crate) const RESIDENT_SIZE_UNIT: u64 = 1024;

/// The lowest usable address of the current thread's own stack, and its end.
pub(crate) fn stack_bounds() -> Option<(usize, usize)> {
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

/// Lowers the priority of the current thread by `steps` of niceness, of which there are 20 below the usual one.
pub(crate) fn lower_priority(steps: i32) {
    // On Linux the "process" 0 is the calling thread. A thread that keeps its priority does its work all the same.
    if let Ok(nice) = rustix::process::getpriority_process(None) {
        let _ = rustix::process::setpriority_process(None, nice + steps);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_priority_is_that_of_the_thread_alone() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let before = nice();
        let inner = std::thread::spawn(move || {
            lower_priority(5);
            nice()
        });
        assert_eq!(inner.join().unwrap(), (before + 5).min(19));
        assert_eq!(nice(), before);
    }
}
