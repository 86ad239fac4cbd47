//! Coroutines by corosensei.

use std::mem::ManuallyDrop;

use corosensei::stack::{DefaultStack, Stack};
use corosensei::{CoroutineResult, Yielder};

use crate::error::{Error, Result};

/// A native stack with an inaccessible page below it.
pub(crate) struct CoroutineStack(DefaultStack);

impl CoroutineStack {
    /// A new stack of at least `size` bytes.
    ///
    /// # Errors
    /// [`Resource`](crate::ErrorKind::Resource) if the system refuses the memory.
    pub fn new(size: usize) -> Result<Self> {
        let refused = |error| Error::resource(format!("no stack for an asynchronous call: {error}"));
        let size = Some(size).filter(|size| *size <= isize::MAX as usize / 2);
        let size = size.ok_or_else(|| refused(std::io::ErrorKind::OutOfMemory.into()))?;
        DefaultStack::new(size).map(CoroutineStack).map_err(refused)
    }

    /// The lowest usable address, and the end.
    pub fn bounds(&self) -> (usize, usize) {
        (self.0.limit().get() + region::page::size(), self.0.base().get())
    }
}

/// Work on a stack of its own. What has not run to its end is leaked, stack and all, if it is dropped.
pub(crate) struct Coroutine<R>(ManuallyDrop<corosensei::Coroutine<(), (), R, DefaultStack>>);

/// Lets a coroutine give way; it is on the coroutine's stack.
#[repr(transparent)]
pub(crate) struct Suspender(Yielder<(), ()>);

impl<R> Coroutine<R> {
    /// A coroutine that has not begun.
    ///
    /// # Safety
    /// `work` must not panic. What it refers to must be valid whenever the coroutine is resumed. If it is resumed on another
    /// thread than before, all that is on its stack where it gave way must be such that it may be sent there, and the
    /// functions on its stack must not use addresses of thread-local variables from before.
    pub unsafe fn new(stack: CoroutineStack, work: impl FnOnce(&Suspender) -> R) -> Self {
        let work = |yielder: &Yielder<(), ()>, ()| {
            // SAFETY: `Suspender` is a transparent wrapper.
            work(unsafe { &*std::ptr::from_ref(yielder).cast::<Suspender>() })
        };
        // SAFETY: the caller promises that what the work refers to is valid whenever it runs. It is never unwound, since
        // what has not ended is not dropped.
        Coroutine(ManuallyDrop::new(unsafe { corosensei::Coroutine::with_stack_unchecked(stack.0, work) }))
    }

    /// Runs the work until it gives way (`None`) or ends. Does nothing if it has ended.
    pub fn resume(&mut self) -> Option<R> {
        if self.0.done() {
            return None;
        }
        match self.0.resume(()) {
            CoroutineResult::Yield(()) => None,
            CoroutineResult::Return(result) => Some(result),
        }
    }

    /// The stack of a coroutine that has ended. Leaks one that has not.
    pub fn into_stack(self) -> Option<CoroutineStack> {
        self.0.done().then(|| CoroutineStack(ManuallyDrop::into_inner(self.0).into_stack()))
    }
}

impl Suspender {
    /// Gives way to whoever resumed the coroutine; returns when it is resumed again, perhaps on another thread.
    #[inline(never)]
    pub fn suspend(&self) {
        self.0.suspend(());
    }
}
