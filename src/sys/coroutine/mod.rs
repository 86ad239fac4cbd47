//! Coroutines: work on a native stack of its own, which gives way to whoever resumed it and goes on later.
//!
//! `present` makes them with corosensei. Where that does not know the processor, and under Miri, `absent` has the same names
//! and says that there are none.

#[cfg(not(coroutines))]
mod absent;
#[cfg(coroutines)]
mod present;

use std::sync::{Mutex, PoisonError};

#[cfg(not(coroutines))]
pub(crate) use absent::{Coroutine, CoroutineStack, Suspender};
#[cfg(coroutines)]
pub(crate) use present::{Coroutine, CoroutineStack, Suspender};

use crate::error::Result;

/// Idle stacks of one size, for the next coroutines: a new one costs two system calls, and one for each of its pages when it
/// is first touched.
pub(crate) struct StackPool {
    size: usize,
    idle: Mutex<Vec<CoroutineStack>>,
}

impl StackPool {
    /// Bytes of the idle stacks that are kept, if there is more than one.
    const MAX_IDLE: usize = 64 << 20;

    /// A pool of stacks of `size` bytes.
    pub fn new(size: usize) -> Self {
        StackPool { size, idle: Mutex::default() }
    }

    /// An idle stack, or a new one.
    ///
    /// # Errors
    /// [`Resource`](crate::ErrorKind::Resource) if the system refuses the memory, or there are no coroutines.
    pub fn take(&self) -> Result<CoroutineStack> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(|| CoroutineStack::new(self.size), Ok)
    }

    /// Keeps a stack for the next coroutine, unless there are enough.
    pub fn put(&self, stack: CoroutineStack) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() <= Self::MAX_IDLE / self.size {
            idle.push(stack);
        }
    }
}

#[cfg(all(test, coroutines))]
mod tests {
    use super::*;

    #[test]
    fn the_pool_is_bounded() {
        let pool = StackPool::new(32 << 20);
        let stacks: Vec<_> = (0..5).map(|_| pool.take().unwrap()).collect();
        let ends: Vec<_> = stacks.iter().map(|stack| stack.bounds().1).collect();
        stacks.into_iter().for_each(|stack| pool.put(stack));
        assert_eq!(pool.idle.lock().unwrap().len(), 3);
        assert_eq!(pool.take().unwrap().bounds().1, ends[2]);
    }

    #[test]
    fn a_coroutine_gives_way_and_goes_on() {
        let mut turns = Vec::new();
        let stack = CoroutineStack::new(128 << 10).unwrap();
        let (low, high) = stack.bounds();
        assert!(high - low >= 128 << 10);
        // SAFETY: it is run to its end, on this thread.
        let mut coroutine = unsafe {
            Coroutine::new(stack, |suspender: &Suspender| {
                for _ in 0..3 {
                    suspender.suspend();
                }
                super::super::stack_pointer()
            })
        };
        while turns.len() < 10 {
            turns.push(coroutine.resume());
        }
        assert!(turns[..3].iter().all(Option::is_none), "{turns:?}");
        assert!((low..high).contains(&turns[3].unwrap()), "{turns:?}");
        assert!(turns[4..].iter().all(Option::is_none), "what has ended does not go on: {turns:?}");
        assert_eq!(coroutine.into_stack().unwrap().bounds(), (low, high));
    }
}
