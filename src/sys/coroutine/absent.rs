//! No coroutines.

use std::convert::Infallible;
use std::marker::PhantomData;

use crate::error::{Error, Result};

/// A native stack; there are none.
pub(crate) struct CoroutineStack(Infallible);

impl CoroutineStack {
    /// An error.
    ///
    /// # Errors
    /// [`Resource`](crate::ErrorKind::Resource), always.
    pub fn new(_size: usize) -> Result<Self> {
        Err(Error::resource("asynchronous calls need coroutines, which this build has none of for its processor"))
    }

    /// The lowest usable address, and the end.
    pub fn bounds(&self) -> (usize, usize) {
        match self.0 {}
    }
}

/// Work on a stack of its own; there is none.
pub(crate) struct Coroutine<R>(Infallible, PhantomData<R>);

/// Lets a coroutine give way; there is none.
pub(crate) struct Suspender(Infallible);

impl<R> Coroutine<R> {
    /// Not called, because there is no stack to call it with.
    ///
    /// # Safety
    /// None is needed.
    pub unsafe fn new(stack: CoroutineStack, _work: impl FnOnce(&Suspender) -> R) -> Self {
        match stack.0 {}
    }

    /// Not called.
    pub fn resume(&mut self) -> Option<R> {
        match self.0 {}
    }

    /// Not called.
    pub fn into_stack(self) -> Option<CoroutineStack> {
        match self.0 {}
    }
}

impl Suspender {
    /// Not called.
    pub fn suspend(&self) {
        match self.0 {}
    }
}
