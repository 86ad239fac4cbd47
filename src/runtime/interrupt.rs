//! Interrupting a store: handles for other threads, deadlines, and epochs.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Instant;

use super::caller::Caller;
use super::store::{AsContextMut, Store, StoreContextMut, StoreInner};
use crate::error::{Result, WasmBacktrace};
use crate::sys::WakeFd;
use crate::vm::interrupt::{EpochAction, Interrupts, NextDeadline, Requests, poll};
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
    /// microseconds, or when a host function that it waits for returns. If no code runs, the next code that is called ends, as soon
    /// as it calls a function or comes to a loop.
    ///
    /// Host functions of WASI and asynchronous ones that wait end at once, as do others that ask for it: see
    /// [`Caller::check_interrupt`].
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

    /// Has the store's running code call `callback` with its backtrace, on its own thread, and go on: within microseconds, or
    /// when a host function that it waits for returns. If no code runs, the next code that is called does so.
    ///
    /// The callback must not ask for another backtrace: it would be called for that at once, and the code would not go on. A
    /// panic of the callback ends the code, and goes on in the function that called it.
    pub fn backtrace(&self, callback: impl FnOnce(WasmBacktrace) + Send + 'static) {
        self.0.request_backtrace(Box::new(|frames| callback(WasmBacktrace::new(frames))));
    }
}

impl fmt::Debug for InterruptHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InterruptHandle").finish_non_exhaustive()
    }
}

/// A descriptor that becomes readable when the code of a store is to be interrupted; made by [`Caller::interrupt_fd`]. Do not
/// read from it: [`Caller::check_interrupt`] makes it unreadable again. Clones are the same descriptor, and it stays open as
/// long as one of them, or the store.
#[derive(Clone)]
pub struct InterruptFd(Arc<WakeFd>);

impl AsFd for InterruptFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for InterruptFd {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl fmt::Debug for InterruptFd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("InterruptFd").field(&self.as_raw_fd()).finish()
    }
}

impl<T> Caller<'_, T> {
    /// Does what was requested of the store since it was last done, as its code does between two instructions: calls the
    /// function of an epoch deadline, or fails if the code is to end. A host function that runs for long calls it now and then,
    /// and returns the error.
    ///
    /// One that waits for something of the operating system waits for [`interrupt_fd`](Self::interrupt_fd) as well:
    ///
    /// ```
    /// use std::io::{PipeReader, Read};
    /// use std::time::{Duration, Instant};
    /// use rustix::event::{PollFd, PollFlags, poll};
    /// use wasmrun::{Caller, Engine, Error, Instance, Linker, Module, Store, Trap};
    ///
    /// /// Reads a byte.
    /// fn receive(mut caller: Caller<'_, PipeReader>) -> wasmrun::Result<i32> {
    ///     let failed = |error: std::io::Error| Error::host(error.to_string());
    ///     let interrupt = caller.interrupt_fd().map_err(failed)?;
    ///     loop {
    ///         let input = caller.data();
    ///         let mut fds = [PollFd::new(&input, PollFlags::IN), PollFd::new(&interrupt, PollFlags::IN)];
    ///         poll(&mut fds, None).map_err(|error| failed(error.into()))?;
    ///         if !fds[0].revents().is_empty() {
    ///             let mut byte = [0];
    ///             caller.data_mut().read_exact(&mut byte).map_err(failed)?;
    ///             return Ok(byte[0].into());
    ///         }
    ///         caller.check_interrupt()?;
    ///     }
    /// }
    ///
    /// let engine = Engine::default();
    /// let module = Module::new(&engine, r#"(module
    ///     (import "host" "receive" (func $receive (result i32)))
    ///     (func (export "run") (result i32) (call $receive)))"#)?;
    /// let mut linker = Linker::new(&engine);
    /// linker.func_wrap("host", "receive", receive)?;
    /// let (reader, _writer) = std::io::pipe().expect("there are descriptors left");
    /// let mut store = Store::new(&engine, reader);
    /// let run = linker.instantiate(&mut store, &module)?.get_typed_func::<(), i32>(&mut store, "run")?;
    /// store.set_deadline(Instant::now() + Duration::from_millis(5))?;
    /// assert_eq!(run.call(&mut store, ()).unwrap_err().trap(), Some(Trap::Deadline));
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Trap::Interrupt`](crate::Trap::Interrupt) or [`Trap::Deadline`](crate::Trap::Deadline) if the code is to end, or the
    /// error of the function of an epoch deadline. The code that the host function returns to goes on if it does not return the
    /// error.
    ///
    /// # Panics
    /// Resumes the panic of the function of an epoch deadline.
    pub fn check_interrupt(&mut self) -> Result<()> {
        let store = self.store_ptr();
        // SAFETY: the store is live and accessed through this `Caller` only, which is borrowed exclusively. No reference is
        // held over `poll`. While a host function runs, `value_top` is above all slots in use.
        unsafe {
            (*store).interrupts.clear_wake();
            if !(*store).interrupts.is_pending() {
                return Ok(());
            }
            // The caller's frames stay on this thread.
            let fiber = (*store).forbid_suspension();
            let result = poll(store);
            (*store).allow_suspension(fiber);
            if let Some(panic) = (*store).panic.take() {
                resume_unwind(panic);
            }
            result
        }
    }

    /// A descriptor that is readable while there is something to do for [`check_interrupt`](Self::check_interrupt), which a
    /// host function can wait for together with what it is about. It may be readable without need. It is made by the first
    /// call, and is the same one for all calls in a store.
    ///
    /// # Errors
    /// If the process can't have another descriptor. Then a host function can still wait for some milliseconds at a time.
    pub fn interrupt_fd(&self) -> io::Result<InterruptFd> {
        self.interrupts().wake_fd().map(InterruptFd)
    }
}

/// What a store does when its epoch deadline is reached: the result of the function that is given to
/// [`Store::epoch_deadline_callback`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpdateDeadline {
    /// To go on, with a deadline this many ticks beyond the current epoch. After 0 the function is called again
    /// at the next loop or tail call.
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
    /// A host function that waits is ended only if it asks for it, see [`Caller::check_interrupt`]; those of WASI do, and
    /// asynchronous ones ([`Func::wrap_async`](crate::Func::wrap_async)) need not.
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
