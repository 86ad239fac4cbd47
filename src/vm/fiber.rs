//! Code of a store on a coroutine, for asynchronous calls: a host function that waits suspends the coroutine, and the thread
//! does something else until the future of the call is polled again.
//!
//! # What is where
//! The [`Fiber`] belongs to the future. Its work runs on the coroutine's stack: frames of this crate, of WebAssembly code, of
//! host functions, and the futures that asynchronous host functions have made. Each asynchronous call has a coroutine of its
//! own, also one that a host function on a coroutine makes: the future of that host function is suspended like any other,
//! by returning from its `poll`.
//!
//! # Why it may go on on another thread
//! A coroutine is suspended in [`suspend`] only, which [`block_on`] and [`yield_now`] call. Between the work of the fiber and
//! that, there are no frames of the embedder's: a host function that calls WebAssembly code synchronously forbids suspension
//! meanwhile ([`StoreOpaque::forbid_suspension`]), and the `poll` of a host function's future has returned. So what the
//! embedder has on the stack are values of types that must be `Send`: the futures of asynchronous host functions and their
//! arguments, and the store's data. Our own frames have pointers into the store and its objects, which move as one, and no
//! guards of locks.
//!
//! What belongs to a thread is set anew whenever the coroutine is resumed: the current activation, the stack that the thread
//! runs on, and that the thread takes signals. Functions that are on the stack meanwhile do not keep addresses of
//! thread-local variables: those which look at such a variable afterwards do so in a function that is not inlined.
//!
//! # Dropping and forgetting
//! If the future is dropped, the coroutine is resumed once more, without a [`Context`] to poll with: what waits gets an error,
//! which ends the WebAssembly code as a trap does, up to the end of the fiber's work. Every further attempt to wait gets that
//! error at once. WebAssembly code can't catch it.
//!
//! Whenever the coroutine is suspended, the store is as if it had not begun: what it had set for its stack is kept in the
//! [`FiberState`]. So if the future is forgotten instead (`std::mem::forget`), the store may be used again, or dropped. The
//! coroutine is leaked then: its stack is neither freed nor used again, and nothing on it ever runs.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::{mem, ptr, thread};

use super::activation::{self, Link};
use super::heap::Frozen;
use super::interrupt;
use super::store::{AliasableBox, MAX_SUSPENDED, StoreOpaque};
use crate::error::{Error, Result, Trap};
use crate::sys::{self, Coroutine, NativeStack, Suspender};

/// What a store has set for the native stack that its code runs on.
struct StackState {
    stack: NativeStack,
    stack_limit: usize,
    nest_limit: usize,
    value_top: *mut u64,
    suspended: usize,
    frozen: Frozen,
    innermost: *const Link,
    exit_fp: usize,
    activation: *mut (),
    fiber: *mut FiberState,
}

impl StackState {
    /// Exchanges what the store has set.
    fn swap(&mut self, store: &mut StoreOpaque) {
        mem::swap(&mut self.stack, &mut store.stack);
        let stack_limit = mem::replace(&mut self.stack_limit, store.vm.stack_limit);
        store.limit_stack(stack_limit);
        mem::swap(&mut self.nest_limit, &mut store.vm.nest_limit);
        mem::swap(&mut self.value_top, &mut store.vm.value_top);
        mem::swap(&mut self.suspended, &mut store.suspended);
        mem::swap(&mut self.innermost, &mut store.vm.innermost);
        mem::swap(&mut self.exit_fp, &mut store.vm.exit_fp);
        mem::swap(&mut self.activation, &mut store.activation);
        mem::swap(&mut self.fiber, &mut store.fiber);
        store.swap_frozen(&mut self.frozen);
    }
}

/// The state of a fiber that its store's code sees while it runs.
pub(crate) struct FiberState {
    /// What the store has set for the stack whose code does not run: the coroutine's while that is suspended, and that of who
    /// resumed it while it runs.
    other: StackState,
    /// Null until the coroutine begins.
    suspender: *const Suspender,
    /// To poll futures with; null while the coroutine is suspended, and when it is resumed because the fiber is dropped.
    context: *mut Context<'static>,
}

/// Work with a store on a coroutine.
pub(crate) struct Fiber<R> {
    store: *mut StoreOpaque,
    state: AliasableBox<FiberState>,
    /// `None` when it has ended.
    coroutine: Option<Coroutine<thread::Result<Result<R>>>>,
    bounds: (usize, usize),
    /// Whether other code of the store waits for it.
    is_nested: bool,
}

impl<R> Fiber<R> {
    /// A fiber that has not begun. It must be polled before anything else happens in the store.
    ///
    /// # Errors
    /// [`Resource`](crate::ErrorKind::Resource) if there is no stack for it; [`Trap::StackOverflow`] if too many stacks have
    /// suspended code of the store.
    ///
    /// # Safety
    /// `store` must be the own pointer of a store to which nobody holds a reference. As long as the fiber exists, it must be
    /// live, and used by nobody else. The work must keep the rules of the module's documentation. If the fiber is sent to
    /// another thread, so may be the store, its data and all that the work has.
    pub unsafe fn new(store: *mut StoreOpaque, work: impl FnOnce(*mut StoreOpaque) -> Result<R>) -> Result<Self> {
        // SAFETY: the store is live and nobody refers to it, by the caller's promise.
        let opaque = unsafe { &mut *store };
        let is_nested = opaque.stack.is_running();
        if is_nested && opaque.suspended == MAX_SUSPENDED {
            return Err(Trap::StackOverflow.into());
        }
        if !is_nested {
            opaque.prepare_for_fiber();
        }
        let stack = opaque.engine.stacks.take()?;
        let bounds = stack.bounds();
        let outer = opaque.freeze();
        let all = opaque.frozen();
        opaque.thaw(outer);
        let (native, reserve) = sys::coroutine_stack(bounds);
        let (stack_limit, nest_limit) = opaque.limits_on(native, reserve);
        let state = AliasableBox::new(FiberState {
            other: StackState {
                stack: native,
                stack_limit,
                nest_limit,
                value_top: opaque.vm.value_top,
                suspended: opaque.suspended + usize::from(is_nested),
                // Registers of the code that waits for this may be saved on either stack; see `heap`.
                frozen: if is_nested { all } else { outer },
                // Backtraces go on where the code is suspended that waits for this.
                innermost: opaque.vm.innermost,
                exit_fp: opaque.vm.exit_fp,
                activation: ptr::null_mut(),
                fiber: ptr::null_mut(),
            },
            suspender: ptr::null(),
            context: ptr::null_mut(),
        });
        let place = state.as_ptr();
        // SAFETY: the state was just made, and nobody else has a reference to it.
        unsafe { (*place).other.fiber = place };
        // SAFETY: panics are caught. The state lives as long as the coroutine, or both are leaked. The rest is the caller's
        // promise and argued in the module's documentation.
        let coroutine = unsafe {
            Coroutine::new(stack, move |suspender: &Suspender| {
                (*place).suspender = suspender;
                let begins = !(*place).context.is_null();
                // What the work has is dropped in here, also if it does not begin: that may panic.
                catch_unwind(AssertUnwindSafe(move || if begins { work(store) } else { Err(dropped()) }))
            })
        };
        Ok(Fiber { store, state, coroutine: Some(coroutine), bounds, is_nested })
    }

    /// Begins to measure CPU time on this thread, if nobody does so already. [`Fiber::resume`] ends it.
    ///
    /// # Errors
    /// [`Trap::CpuTime`] if none is left.
    fn begin_cpu_time(&mut self) -> Result<()> {
        // SAFETY: the store is live and nobody else uses it, by the promise made to `new`.
        if self.is_nested { Ok(()) } else { unsafe { (*self.store).begin_cpu_time() } }
    }

    /// Runs the work until it waits or ends.
    ///
    /// # Errors
    /// That of the work; [`Trap::CpuTime`] if none is left; [`Resource`](crate::ErrorKind::Resource) if native code can't go on on this thread, see
    /// [`Hooks::prepare_thread`](super::engine::Hooks::prepare_thread).
    ///
    /// # Panics
    /// If it has ended before. Resumes the panic of the work.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<R>> {
        // SAFETY: the store is live, by the promise made to `new`. The fiber does not run, so nobody refers to its state.
        let (engine, is_in_native_code) =
            unsafe { (&(*self.store).engine, !(*self.state.as_ptr()).other.activation.is_null()) };
        let prepared = if is_in_native_code { (engine.hooks.prepare_thread)(&engine.config) } else { Ok(()) };
        if let Err(error) = prepared.and_then(|()| self.begin_cpu_time()) {
            self.end();
            return Poll::Ready(Err(error));
        }
        match self.resume(ptr::from_mut(context).cast()) {
            None => Poll::Pending,
            Some(Ok(result)) => Poll::Ready(result),
            Some(Err(panic)) => resume_unwind(panic),
        }
    }

    /// Resumes the coroutine until it is suspended (`None`) or ends. `context` is null if it must end.
    fn resume(&mut self, context: *mut Context<'static>) -> Option<thread::Result<Result<R>>> {
        let state = self.state.as_ptr();
        let coroutine = self.coroutine.as_mut().expect("what has ended is not resumed");
        // SAFETY: the store is live and nobody else uses it, by the promise made to `new`; `self` owns the state. No reference
        // to either is held while the coroutine runs. The context is used only until then.
        let result = unsafe {
            (*state).context = context;
            (*state).other.swap(&mut *self.store);
            let (activation, outer) = (activation::current(), sys::set_coroutine_stack(self.bounds));
            activation::set_current((*self.store).activation);
            let result = coroutine.resume();
            activation::set_current_anew(activation);
            sys::set_coroutine_stack(outer);
            (*state).other.swap(&mut *self.store);
            (*state).context = ptr::null_mut();
            if !self.is_nested {
                (*self.store).end_cpu_time();
                if result.is_some() {
                    (*self.store).become_idle();
                }
            }
            result
        };
        if result.is_some()
            && let Some(stack) = self.coroutine.take().and_then(Coroutine::into_stack)
        {
            // SAFETY: as above.
            unsafe { &(*self.store).engine }.stacks.put(stack);
        }
        result
    }

    /// Ends the work, if it has not ended, by an error of what it waits for.
    ///
    /// # Panics
    /// Resumes the panic of the work, unless the thread is panicking already.
    fn end(&mut self) {
        if self.coroutine.is_none() {
            return;
        }
        if let Some(Err(panic)) = self.resume(ptr::null_mut()) {
            if thread::panicking() {
                // Not dropped: that might panic too.
                mem::forget(panic);
            } else {
                resume_unwind(panic);
            }
        }
    }
}

impl<R> Drop for Fiber<R> {
    fn drop(&mut self) {
        self.end();
    }
}

/// The error that ends the code of a fiber that is dropped.
#[cold]
fn dropped() -> Error {
    Error::host("the future of an asynchronous call was dropped before it was ready")
}

impl StoreOpaque {
    /// Forbids to suspend the running code until [`StoreOpaque::allow_suspension`] is called with the result.
    #[inline]
    pub fn forbid_suspension(&mut self) -> *mut FiberState {
        mem::replace(&mut self.fiber, ptr::null_mut())
    }

    /// Whether the running code may be suspended now.
    #[inline]
    pub fn may_be_suspended(&self) -> bool {
        !self.fiber.is_null()
    }

    /// Undoes the matching [`StoreOpaque::forbid_suspension`].
    #[inline]
    pub fn allow_suspension(&mut self, fiber: *mut FiberState) {
        self.fiber = fiber;
    }
}

/// Forbids to suspend the running code of a store until it is dropped, also by a panic.
pub(crate) struct Unsuspended {
    store: *mut StoreOpaque,
    fiber: *mut FiberState,
}

impl Unsuspended {
    /// # Safety
    /// The store must be live until this is dropped, and nobody hold a reference to it then.
    pub unsafe fn new(store: *mut StoreOpaque) -> Self {
        // SAFETY: the store is live, by the caller's promise.
        Unsuspended { store, fiber: unsafe { (*store).forbid_suspension() } }
    }
}

impl Drop for Unsuspended {
    fn drop(&mut self) {
        // SAFETY: the promise made to `new`.
        unsafe { (*self.store).allow_suspension(self.fiber) };
    }
}

/// Waits for a future, which a host function of a running store has made: polls it, and suspends the coroutine that the
/// store's code runs on as long as it is not ready.
///
/// # Errors
/// [`Usage`](crate::ErrorKind::Usage) if the code is not called asynchronously; an error with which the code must end if the
/// future of the asynchronous call is dropped, or if that is requested ([`interrupt::end_of_wait`]).
///
/// # Safety
/// `store` must be the own pointer of a live store, called by a host function of it that its running code called, on the same
/// stack. Nobody may hold a reference to the parts of the store that are not its data. There must be no frames of the embedder's
/// on the stack up to that code, and in other frames nothing that may not be sent to another thread; the same holds for the
/// future.
pub(crate) unsafe fn block_on<F: Future + ?Sized>(store: *mut StoreOpaque, future: Pin<&mut F>) -> Result<F::Output> {
    let look = |store| {
        // SAFETY: `block_on_looking` calls it with the store, and the rest is the caller's promise.
        match unsafe { interrupt::end_of_wait(store) } {
            Some(error) => Err(error),
            None => Ok(true),
        }
    };
    // SAFETY: the caller's promise.
    unsafe { block_on_looking(store, future, look) }
}

/// As [`block_on`] for a host function that uses nothing of the store while it waits: all that is requested of the store is done
/// meanwhile.
///
/// # Errors
/// As for `block_on`, and those of [`interrupt::poll`].
///
/// # Safety
/// As for `block_on`; nobody may hold a reference to any part of the store.
pub(crate) unsafe fn block_on_and_serve<F: Future + ?Sized>(
    store: *mut StoreOpaque,
    future: Pin<&mut F>,
) -> Result<F::Output> {
    let look = |store: *mut StoreOpaque| {
        // SAFETY: `block_on_looking` calls it with the store, to which nobody holds a reference. While a host function runs,
        // `value_top` is above all slots in use.
        unsafe {
            if !(*store).interrupts.is_pending() {
                return Ok(true);
            }
            interrupt::poll(store)?;
        }
        Ok(false)
    };
    // What was requested before comes first, even if there is nothing to wait for.
    look(store)?;
    // SAFETY: the caller's promise.
    unsafe { block_on_looking(store, future, look) }
}

/// [`block_on`] with a function that looks at requests whenever the future is not ready: it returns whether to suspend the code,
/// or else to poll again, or an error with which the code must end.
///
/// # Safety
/// As for `block_on`.
unsafe fn block_on_looking<F: Future + ?Sized>(
    store: *mut StoreOpaque,
    mut future: Pin<&mut F>,
    look: impl Fn(*mut StoreOpaque) -> Result<bool>,
) -> Result<F::Output> {
    // SAFETY: the store is live, and a fiber that may be suspended is the one that runs, by the caller's promise. A context
    // that is not null is that of the `poll` which has resumed the coroutine.
    unsafe {
        loop {
            let fiber = may_suspend(store)?;
            if let Poll::Ready(output) = poll_once(future.as_mut(), &mut *(*fiber).context) {
                return Ok(output);
            }
            drop((*store).interrupts.set_waker(Some((*(*fiber).context).waker().clone())));
            // A request that is not seen here wakes.
            let looked = look(store);
            if matches!(looked, Ok(true)) {
                suspend(fiber);
            }
            drop((*store).interrupts.set_waker(None));
            looked?;
        }
    }
}

/// Polls a future.
///
/// Not inlined, so that no function goes on on another thread with addresses of thread-local variables that `poll` has used.
#[inline(never)]
fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>, context: &mut Context<'_>) -> Poll<F::Output> {
    future.poll(context)
}

/// Whether the running code of a store could be suspended, if it is called asynchronously: the fiber to suspend.
///
/// # Errors
/// As for [`block_on`].
///
/// # Safety
/// As for `block_on`.
unsafe fn may_suspend(store: *mut StoreOpaque) -> Result<*mut FiberState> {
    // SAFETY: the store is live, and so is the fiber that it runs on, by the caller's promise.
    unsafe {
        let fiber = (*store).fiber;
        if fiber.is_null() {
            return Err(Error::usage(
                "an asynchronous host function was called by a synchronous call: call WebAssembly code that uses it \
                 with `call_async`, `instantiate_async` and the like",
            ));
        }
        if (*fiber).context.is_null() {
            return Err(dropped());
        }
        Ok(fiber)
    }
}

/// Suspends the running code of a store once, if it is called asynchronously and no synchronous call is in between: the future
/// of the call returns `Pending`, and asks to be polled again. Returns whether it did.
///
/// # Errors
/// An error with which the code must end, if the future of the asynchronous call is or was dropped.
///
/// # Safety
/// As for [`block_on`]; WebAssembly code may call it too, in place of a host function.
pub(crate) unsafe fn yield_now(store: *mut StoreOpaque) -> Result<bool> {
    // SAFETY: the store is live, and a fiber that may be suspended is the one that runs, by the caller's promise.
    unsafe {
        if (*store).fiber.is_null() {
            return Ok(false);
        }
        let fiber = may_suspend(store)?;
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (*(*fiber).context).waker().wake_by_ref())) {
            (*store).panic = Some(panic);
            return Err(Error::host("a waker panicked"));
        }
        suspend(fiber);
        may_suspend(store).map(|_| true)
    }
}

/// Gives way to who polls the future of the call, until it polls again or drops it.
///
/// # Safety
/// The fiber must be the one that runs.
#[inline(never)]
unsafe fn suspend(fiber: *mut FiberState) {
    // SAFETY: the suspender is on the stack of the coroutine, which runs.
    unsafe { (*(*fiber).suspender).suspend() }
}
