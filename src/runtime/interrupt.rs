//! Interrupting a store: handles for other threads, deadlines, and epochs.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::store::{AsContextMut, Store, StoreContextMut, StoreInner};
use crate::error::Result;
use crate::vm::interrupt::{EpochAction, Interrupts, NextDeadline, Requests};
use crate::vm::store::StoreOpaque;

/// Interrupts the code of one store, from any thread; made by [`Store::interrupt_handle`]. Clones are the same handle. It may
/// outlive the store, and does nothing then.
///
/// ```
/// use std::time::Duration;
/// use wasmrun::{Engine, Instance, Module, Store, Trap};
/// let engine = Engine::default();
/// let module = Module::new(&engine, "(module (func (export \"spin\") (loop (br 0))))")?;
/// let mut store = Store::new(&engine, ());
/// let spin = Instance::new(&mut store, &module, &[])?.get_typed_func::<(), ()>(&mut store, "spin")?;
/// let handle = store.interrupt_handle();
/// std::thread::spawn(move || {
///     std::thread::sleep(Duration::from_millis(5));
///     handle.interrupt();
/// });
/// assert_eq!(spin.call(&mut store, ()).unwrap_err().trap(), Some(Trap::Interrupt));
/// # Ok::<(), wasmrun::Error>(())
/// ```
#[derive(Clone)]
pub struct InterruptHandle(Arc<Interrupts>);

impl InterruptHandle {
    /// Ends the store's running code with [`Trap::Interrupt`](crate::Trap::Interrupt), which it can't catch: within
    /// microseconds, or when a host function that it waits for returns. If no code runs, the next code that is called ends.
    pub fn interrupt(&self) {
        self.0.request(Requests::END);
    }

    /// Has the store's running code give way, if it is called asynchronously ([`Func::call_async`](crate::Func::call_async)):
    /// within microseconds the future of the call is pending once, and at once to be polled again, so that an executor runs
    /// others meanwhile. Code that is called synchronously, or by a host function that was, goes on. If no code runs, the next
    /// code that is called gives way.
    ///
    /// ```
    /// use std::pin::pin;
    /// use std::task::{Context, Waker};
    /// use wasmrun::{Engine, Instance, Module, Store};
    /// let engine = Engine::default();
    /// let module = Module::new(&engine, "(module (func (export \"spin\") (loop (br 0))))")?;
    /// let mut store = Store::new(&engine, ());
    /// let spin = Instance::new(&mut store, &module, &[])?.get_typed_func::<(), ()>(&mut store, "spin")?;
    /// let handle = store.interrupt_handle();
    /// let mut call = pin!(spin.call_async(&mut store, ()));
    /// for _ in 0..3 {
    ///     handle.yield_now();
    ///     assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    /// }
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    pub fn yield_now(&self) {
        self.0.request(Requests::YIELD);
    }
}

impl fmt::Debug for InterruptHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InterruptHandle").finish_non_exhaustive()
    }
}

/// What a store does when its epoch deadline is reached: the result of the function that is given to
/// [`Store::epoch_deadline_callback`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpdateDeadline {
    /// To go on, with a deadline this many ticks beyond the current epoch.
    Continue(u64),
    /// To give way, if it is called asynchronously, and then to go on as for `Continue`; see
    /// [`Store::epoch_deadline_async_yield_and_update`].
    Yield(u64),
    /// To end with [`Trap::Interrupt`](crate::Trap::Interrupt).
    Interrupt,
}

impl<T> Store<T> {
    /// A handle by which other threads interrupt the store's code.
    pub fn interrupt_handle(&self) -> InterruptHandle {
        InterruptHandle(self.inner().opaque.interrupts.clone())
    }

    /// Sets the time at which the store's code ends with [`Trap::Deadline`](crate::Trap::Deadline), wherever it is then; `None`
    /// for never. After that time, code that is called ends at once, except that a function without loops and calls may still
    /// run to its end.
    ///
    /// A host function that waits is not ended; those of WASI and asynchronous ones ([`Func::wrap_async`]) are.
    ///
    /// [`Func::wrap_async`]: crate::Func::wrap_async
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use wasmrun::{Engine, Instance, Module, Store, Trap};
    /// let engine = Engine::default();
    /// let module = Module::new(&engine, "(module (func (export \"spin\") (loop (br 0))))")?;
    /// let mut store = Store::new(&engine, ());
    /// let spin = Instance::new(&mut store, &module, &[])?.get_typed_func::<(), ()>(&mut store, "spin")?;
    /// store.set_deadline(Instant::now() + Duration::from_millis(5))?;
    /// assert_eq!(spin.call(&mut store, ()).unwrap_err().trap(), Some(Trap::Deadline));
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Resource`](crate::ErrorKind::Resource) if the thread that watches deadlines, one for the process, can't be started.
    pub fn set_deadline(&mut self, deadline: impl Into<Option<Instant>>) -> Result<()> {
        self.as_context_mut().set_deadline(deadline)
    }

    /// Sets the epoch deadline to `ticks` beyond the engine's current epoch, see
    /// [`Engine::increment_epoch`](crate::Engine::increment_epoch). When the epoch reaches it, the store's code ends with
    /// [`Trap::Interrupt`](crate::Trap::Interrupt), unless another action was set.
    pub fn set_epoch_deadline(&mut self, ticks: u64) {
        self.as_context_mut().set_epoch_deadline(ticks);
    }

    /// Sets that code traps with [`Trap::Interrupt`](crate::Trap::Interrupt) when the epoch deadline is reached, as it does by
    /// default.
    pub fn epoch_deadline_trap(&mut self) {
        self.inner_mut().opaque.set_epoch_action(EpochAction::Trap);
    }

    /// Sets a function that is called when the epoch deadline is reached. It says how the code goes on; if it returns an error,
    /// the code traps with that. It may use the store, and call functions in it.
    ///
    /// ```
    /// use wasmrun::{Engine, Instance, Module, Store, UpdateDeadline};
    /// let engine = Engine::default();
    /// let module = Module::new(&engine, "(module (func (export \"f\") (loop)))")?;
    /// let mut store = Store::new(&engine, 0);
    /// let f = Instance::new(&mut store, &module, &[])?.get_typed_func::<(), ()>(&mut store, "f")?;
    /// store.epoch_deadline_callback(|mut store| {
    ///     *store.data_mut() += 1;
    ///     Ok(UpdateDeadline::Continue(1))
    /// });
    /// store.set_epoch_deadline(1);
    /// f.call(&mut store, ())?;
    /// engine.increment_epoch();
    /// f.call(&mut store, ())?;
    /// assert_eq!(store.into_data(), 1);
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    pub fn epoch_deadline_callback(
        &mut self,
        mut callback: impl FnMut(StoreContextMut<'_, T>) -> Result<UpdateDeadline> + Send + Sync + 'static,
    ) {
        let callback = move |store: *mut StoreOpaque| {
            let store = std::ptr::NonNull::new(store.cast::<StoreInner<T>>()).expect("a store's own pointer");
            // SAFETY: the callback is set in a store with data `T`, and called with that store's own pointer while nobody
            // refers to the store.
            match callback(unsafe { StoreContextMut::new(store) })? {
                UpdateDeadline::Continue(ticks) => Ok(NextDeadline { ticks, yields: false }),
                UpdateDeadline::Yield(ticks) => Ok(NextDeadline { ticks, yields: true }),
                UpdateDeadline::Interrupt => Err(crate::Trap::Interrupt.into()),
            }
        };
        self.inner_mut().opaque.set_epoch_action(EpochAction::Callback(Box::new(callback)));
    }

    /// Sets that code gives way when the epoch deadline is reached, and goes on with a deadline `ticks` beyond the epoch in which
    /// it was reached: the future of the asynchronous call ([`Func::call_async`](crate::Func::call_async)) is pending once, and
    /// at once to be polled again, so that an executor runs others meanwhile. Code that is called synchronously, or by a host
    /// function that was, goes on.
    ///
    /// ```
    /// use std::time::Duration;
    /// use wasmrun::{Engine, Instance, Module, Store};
    /// let engine = Engine::default();
    /// let module = Module::new(&engine, "(module (func (export \"spin\") (loop (br 0))))")?;
    /// let mut store = Store::new(&engine, ());
    /// let spin = Instance::new(&mut store, &module, &[])?.get_typed_func::<(), ()>(&mut store, "spin")?;
    /// store.epoch_deadline_async_yield_and_update(1);
    /// store.set_epoch_deadline(1);
    /// std::thread::spawn(move || {
    ///     loop {
    ///         std::thread::sleep(Duration::from_millis(1));
    ///         engine.increment_epoch();
    ///     }
    /// });
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    /// # runtime.block_on(async {
    /// // The guest never ends, but the timer on the same thread gets its turn.
    /// let late = tokio::time::timeout(Duration::from_millis(10), spin.call_async(&mut store, ())).await;
    /// assert!(late.is_err());
    /// # });
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    pub fn epoch_deadline_async_yield_and_update(&mut self, ticks: u64) {
        let next = NextDeadline { ticks, yields: true };
        self.inner_mut().opaque.set_epoch_action(EpochAction::GoOn(next));
    }
}

impl<T> StoreContextMut<'_, T> {
    /// Sets the deadline; see [`Store::set_deadline`].
    ///
    /// # Errors
    /// As for [`Store::set_deadline`].
    pub fn set_deadline(&mut self, deadline: impl Into<Option<Instant>>) -> Result<()> {
        self.as_context_mut().into_inner().opaque.set_deadline(deadline.into())
    }

    /// Sets the epoch deadline; see [`Store::set_epoch_deadline`].
    pub fn set_epoch_deadline(&mut self, ticks: u64) {
        self.as_context_mut().into_inner().opaque.set_epoch_deadline(ticks);
    }
}
