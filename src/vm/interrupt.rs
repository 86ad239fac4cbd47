//! Requests to the running code of a store: to end, or to do something on its thread and go on.
//!
//! Any thread makes a request: it notes it among the pending ones, and then sets what running code looks at, see
//! [`VMInterrupt`]. The code comes to [`poll`] at its next entry of a function or head of a loop, on its own thread.
//! Code that was not running comes there when it is entered.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;
use std::thread::Thread;
use std::time::Instant;

use super::activation;
use super::context::VMInterrupt;
use super::fiber;
use super::sample::{self, Innermost};
use super::store::StoreOpaque;
use crate::error::{Error, Result, Trap, UnresolvedFrame};
use crate::sys::WakeFd;

/// The stack limit while there is a request: above every stack pointer. Compiled code adds up to 32 KiB to it, which must
/// not overflow.
const NO_STACK: usize = usize::MAX - 0xffff;

/// A set of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Requests(u32);

impl Requests {
    const NONE: Requests = Requests(0);
    /// To end with [`Trap::Interrupt`].
    pub const END: Requests = Requests(1);
    /// To look at the clock: the store's deadline may have passed.
    pub const DEADLINE: Requests = Requests(2);
    /// To look at the engine's epoch: it may have reached the store's deadline.
    pub const EPOCH: Requests = Requests(4);
    /// To look at the thread's clock: the store's CPU time may be used up.
    pub const CPU_TIME: Requests = Requests(8);
    /// To give way, if it is called asynchronously.
    pub const YIELD: Requests = Requests(32);
    /// To tell which functions are running, and to go on.
    pub const BACKTRACE: Requests = Requests(16);
    /// To be sampled ([`sample`]).
    pub const SAMPLE: Requests = Requests(64);
    /// To look whether what it waits for has happened. It is made of code that is suspended, and nothing else need be done.
    pub const LOOK: Requests = Requests(128);

    fn has(self, other: Requests) -> bool {
        self.0 & other.0 != 0
    }

    fn without(self, other: Requests) -> Requests {
        Requests(self.0 & !other.0)
    }
}

/// The requests to one store. Threads that make some share it with the store.
#[repr(C)]
pub(crate) struct Interrupts {
    vm: VMInterrupt,
    pending: AtomicU32,
    /// Wakes who polls the asynchronous call whose code waits in a host function, while it does.
    waker: Mutex<Option<Waker>>,
    /// What a thread waits for that waits in a host function; made when one first does.
    wake: Mutex<Option<Wake>>,
    /// The thread that runs the code, while it is parked.
    parked: Mutex<Option<Thread>>,
    /// Who asked for backtraces.
    backtraces: Mutex<Vec<BacktraceCallback>>,
}

/// A descriptor, and whether it was made readable.
#[derive(Debug)]
struct Wake {
    fd: Arc<WakeFd>,
    is_readable: bool,
}

impl Wake {
    fn wake(&mut self) {
        if !self.is_readable {
            self.is_readable = true;
            self.fd.wake();
        }
    }
}

/// Takes the functions that are running, innermost first.
pub(crate) type BacktraceCallback = Box<dyn FnOnce(Vec<UnresolvedFrame>) + Send>;

impl Interrupts {
    /// For a store that is not running and has no value stack.
    pub fn new() -> Self {
        let vm = VMInterrupt { word: 0.into(), stack_limit: 0.into(), value_end: 0.into() };
        let pending = AtomicU32::new(0);
        Interrupts {
            vm,
            pending,
            waker: Mutex::default(),
            wake: Mutex::default(),
            parked: Mutex::default(),
            backtraces: Mutex::default(),
        }
    }

    /// What running code looks at.
    pub fn vm(&self) -> *const VMInterrupt {
        &raw const self.vm
    }

    /// Makes requests. Any thread may do so.
    pub fn request(&self, requests: Requests) {
        self.pending.fetch_or(requests.0, SeqCst);
        self.show();
        if let Some(wake) = &mut *self.lock_wake() {
            wake.wake();
        }
        if let Some(thread) = &*self.lock_parked() {
            thread.unpark();
        }
        // The code of wakers is the embedder's: it is called without a lock, and must not end a thread of ours.
        if let Some(waker) = self.set_waker(None) {
            quietly(|| waker.wake());
        }
    }

    /// Makes a request of the code that is about to go on after it has done others. At the entry of a function it would come to
    /// the same look again, and so for ever if it makes the same request each time: it sees this at the head of a loop.
    fn request_at_loop(&self, requests: Requests) {
        self.pending.fetch_or(requests.0, SeqCst);
        self.vm.word.store(1, SeqCst);
    }

    /// Requests a sample. Code that waits is not woken for that.
    pub fn request_sample(&self) {
        self.pending.fetch_or(Requests::SAMPLE.0, SeqCst);
        self.show();
    }

    /// Whether a sample was requested and not taken yet.
    pub fn is_sample_pending(&self) -> bool {
        Requests(self.pending.load(SeqCst)).has(Requests::SAMPLE)
    }

    /// Takes the request of a sample back, if there is one; returns whether there was.
    pub fn take_sample(&self, stack_limit: usize, value_end: usize) -> bool {
        if !self.is_sample_pending() {
            return false;
        }
        let others = self.take(stack_limit, value_end).without(Requests::SAMPLE);
        if others != Requests::NONE {
            self.request(others);
        }
        true
    }

    /// Sets whom the next request wakes; returns whom it would have woken.
    pub fn set_waker(&self, waker: Option<Waker>) -> Option<Waker> {
        std::mem::replace(&mut self.waker.lock().unwrap_or_else(PoisonError::into_inner), waker)
    }

    /// Has running code call `callback`. Any thread may do so.
    pub fn request_backtrace(&self, callback: BacktraceCallback) {
        self.lock_backtraces().push(callback);
        self.request(Requests::BACKTRACE);
    }

    fn lock_backtraces(&self) -> MutexGuard<'_, Vec<BacktraceCallback>> {
        self.backtraces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is a request that [`poll`] has not seen.
    pub fn is_pending(&self) -> bool {
        self.pending.load(SeqCst) != 0
    }

    /// The descriptor that is readable while a request is pending. It may be readable when there is none any more, until
    /// [`clear_wake`](Self::clear_wake).
    ///
    /// # Errors
    /// If the process can't have another descriptor.
    pub fn wake_fd(&self) -> io::Result<Arc<WakeFd>> {
        let mut wake = self.lock_wake();
        let wake = match &mut *wake {
            Some(wake) => wake,
            none => none.insert(Wake { fd: Arc::new(WakeFd::new()?), is_readable: false }),
        };
        // A request that was made before found no descriptor.
        if self.is_pending() {
            wake.wake();
        }
        Ok(wake.fd.clone())
    }

    /// Makes the descriptor unreadable. The caller must look at [`is_pending`](Self::is_pending) afterwards: a request is noted
    /// before it makes the descriptor readable.
    pub fn clear_wake(&self) {
        if let Some(wake) = &mut *self.lock_wake()
            && wake.is_readable
        {
            wake.fd.clear();
            wake.is_readable = false;
        }
    }

    fn lock_wake(&self) -> MutexGuard<'_, Option<Wake>> {
        self.wake.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has each request unpark `thread`, which runs the code, until what this returns is dropped. The thread must look at
    /// [`is_pending`](Self::is_pending) before it parks.
    pub fn park(&self, thread: Thread) -> Parked<'_> {
        Parked { interrupts: self, outer: self.lock_parked().replace(thread) }
    }

    fn lock_parked(&self) -> MutexGuard<'_, Option<Thread>> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends running code to its cold paths.
    fn show(&self) {
        self.vm.word.store(1, SeqCst);
        self.vm.stack_limit.store(NO_STACK, SeqCst);
        self.vm.value_end.store(0, SeqCst);
    }

    /// Whether the stack limit is that of a request.
    #[cfg(jit)]
    pub fn is_shown(&self) -> bool {
        self.vm.stack_limit.load(SeqCst) == NO_STACK
    }

    /// Sets the stack limit for the code that is about to run.
    pub fn limit_stack(&self, stack_limit: usize) {
        self.limit(&self.vm.stack_limit, stack_limit);
    }

    /// Sets the end of the value stack for the code that is about to run.
    pub fn limit_value_stack(&self, value_end: usize) {
        self.limit(&self.vm.value_end, value_end);
    }

    /// Sets one of the limits.
    ///
    /// A request made meanwhile is not lost: in the one order of sequentially consistent operations, either its note comes
    /// before the look here, or what it shows comes after the store here.
    fn limit(&self, place: &AtomicUsize, limit: usize) {
        place.store(limit, SeqCst);
        if self.is_pending() {
            self.show();
        }
    }

    /// Takes all requests back, and returns them.
    fn take(&self, stack_limit: usize, value_end: usize) -> Requests {
        let requests = self.pending.swap(0, SeqCst);
        self.vm.word.store(0, SeqCst);
        self.vm.value_end.store(value_end, SeqCst);
        self.limit_stack(stack_limit);
        Requests(requests)
    }
}

/// While it is there, requests unpark a thread.
pub(crate) struct Parked<'a> {
    interrupts: &'a Interrupts,
    /// Of code of the same store that waits further out.
    outer: Option<Thread>,
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        *self.interrupts.lock_parked() = self.outer.take();
    }
}

/// Calls a function of the embedder that has nobody to panic to.
pub(super) fn quietly(call: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(call)) {
        // Not dropped: that might panic too.
        std::mem::forget(panic);
    }
}

/// How code goes on whose epoch deadline was reached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NextDeadline {
    /// By how many ticks the deadline moves on from the current epoch.
    pub ticks: u64,
    /// Whether it gives way before, if it is called asynchronously.
    pub yields: bool,
}

/// The function that an epoch's deadline calls: see [`EpochAction::Callback`].
type EpochCallback = Box<dyn FnMut(*mut StoreOpaque) -> Result<NextDeadline> + Send + Sync>;

/// What happens when the engine's epoch has reached the store's deadline.
pub(crate) enum EpochAction {
    /// A trap.
    Trap,
    /// The code goes on so.
    GoOn(NextDeadline),
    /// A call of a function of the host, with the store's own pointer, to which nobody holds a reference. It returns how the
    /// code goes on, or an error, with which it traps.
    Callback(EpochCallback),
}

/// When a store is to be interrupted.
pub(crate) struct Deadlines {
    time: Option<Instant>,
    epoch: u64,
    /// `None` while it is done.
    action: Option<EpochAction>,
}

impl Deadlines {
    /// None is due. Where epochs interrupt, the deadline is the epoch in which the engine was made.
    pub fn new(epoch_interruption: bool) -> Self {
        Deadlines { time: None, epoch: if epoch_interruption { 0 } else { u64::MAX }, action: Some(EpochAction::Trap) }
    }
}

impl StoreOpaque {
    /// Sets the time at which the store's code ends with [`Trap::Deadline`], if it still runs; `None` for never.
    ///
    /// # Errors
    /// [`Resource`](crate::ErrorKind::Resource) if there is no thread for the timer. The old deadline holds then.
    pub fn set_deadline(&mut self, time: Option<Instant>) -> Result<()> {
        if let Some(time) = time {
            self.start_timer()?;
            self.request_at(time, Requests::DEADLINE);
        }
        if let Some(old) = std::mem::replace(&mut self.deadlines.time, time).filter(|old| Some(*old) != time) {
            TIMER.due.remove(old, self.id, Requests::DEADLINE);
        }
        if time.is_some_and(|time| time <= Instant::now()) {
            self.interrupts.request(Requests::DEADLINE);
        }
        // A budget that sets it notes that afterwards.
        self.account.forget_wall_time();
        Ok(())
    }

    /// Starts the timer's thread, unless it runs.
    ///
    /// # Errors
    /// [`Resource`](crate::ErrorKind::Resource) if there is no thread for it.
    pub fn start_timer(&self) -> Result<()> {
        TIMER.start()
    }

    /// Has the timer make requests at a time.
    pub fn request_at(&self, time: Instant, requests: Requests) {
        TIMER.due.add(time, self.id, &self.interrupts, requests);
        TIMER.changed.notify_one();
    }

    /// Takes requests at a time back.
    pub fn forget_request(&self, time: Instant, requests: Requests) {
        TIMER.due.remove(time, self.id, requests);
    }

    /// Sets the epoch's deadline to `ticks` beyond the current epoch.
    pub fn set_epoch_deadline(&mut self, ticks: u64) {
        if self.is_due_after(ticks) {
            self.interrupts.request(Requests::EPOCH);
        }
    }

    /// As [`set_epoch_deadline`](Self::set_epoch_deadline), for code that has come to [`poll`] and goes on: if the deadline is
    /// reached already, it comes there again at the next loop, so that it does go on.
    fn set_next_epoch_deadline(&mut self, ticks: u64) {
        if self.is_due_after(ticks) {
            self.interrupts.request_at_loop(Requests::EPOCH);
        }
    }

    /// Sets the epoch's deadline to `ticks` beyond the current epoch; returns whether it is reached already.
    fn is_due_after(&mut self, ticks: u64) -> bool {
        let epochs = &self.engine.epochs;
        let deadline = epochs.now.load(SeqCst).saturating_add(ticks);
        let old = std::mem::replace(&mut self.deadlines.epoch, deadline);
        if old != deadline {
            epochs.due.remove(old, self.id, Requests::EPOCH);
        }
        if deadline != u64::MAX {
            epochs.due.add(deadline, self.id, &self.interrupts, Requests::EPOCH);
        }
        // The epoch may have been incremented before the deadline was in the list.
        epochs.now.load(SeqCst) >= deadline
    }

    /// Sets what happens when the epoch's deadline is reached.
    pub fn set_epoch_action(&mut self, action: EpochAction) {
        self.deadlines.action = Some(action);
    }

    /// Takes the store out of all lists.
    pub fn forget_deadlines(&mut self) {
        if let Some(time) = self.deadlines.time {
            TIMER.due.remove(time, self.id, Requests::DEADLINE);
        }
        self.forget_cpu_time();
        if self.deadlines.epoch != u64::MAX {
            self.engine.epochs.due.remove(self.deadlines.epoch, self.id, Requests::EPOCH);
        }
    }
}

/// Does what was requested of a store. Running code calls it on its cold path, and goes on if it returns without an error.
///
/// # Errors
/// [`Trap::Interrupt`], [`Trap::Deadline`] or [`Trap::CpuTime`] if the code is to end, or the error of a callback.
///
/// # Safety
/// `store` must be the own pointer of a live store that the current thread runs, to which nobody holds a reference, and its
/// `value_top` be above all slots in use.
#[cold]
pub(crate) unsafe fn poll(store: *mut StoreOpaque) -> Result<()> {
    // SAFETY: the caller's promise.
    unsafe {
        let result = serve(store);
        // A callback may have run code of other stores on this thread, and the code may have gone on on another thread.
        activation::set_current_anew((*store).activation);
        result
    }
}

/// [`poll`], but for the thread's current activation.
///
/// # Errors
/// As for [`poll`].
///
/// # Safety
/// As for [`poll`].
unsafe fn serve(store: *mut StoreOpaque) -> Result<()> {
    // SAFETY: the store is live and nobody refers to it, by the caller's promise. No reference to it is held over a
    // callback.
    unsafe {
        let interrupts = (*store).interrupts.clone();
        let mut requests = interrupts.take((*store).vm.stack_limit, (*store).vm.value_end as usize);
        // What is left to do stays requested when the code ends.
        let end = |rest: Requests, error: Error| {
            if rest != Requests::NONE {
                interrupts.request(rest);
            }
            Err(error)
        };
        if requests.has(Requests::SAMPLE) {
            requests = requests.without(Requests::SAMPLE);
            sample::take(store, Innermost::Guest);
        }
        if requests.has(Requests::BACKTRACE) {
            requests = requests.without(Requests::BACKTRACE);
            if let Err(error) = tell_backtrace(store, &interrupts) {
                return end(requests, error);
            }
        }
        if requests.has(Requests::END) {
            return end(requests.without(Requests::END), Trap::Interrupt.into());
        }
        if requests.has(Requests::DEADLINE) && (*store).deadlines.time.is_some_and(|time| time <= Instant::now()) {
            return end(requests, Trap::Deadline.into());
        }
        if requests.has(Requests::CPU_TIME)
            && let Err(error) = (*store).check_cpu_time()
        {
            return end(requests, error);
        }
        if requests.has(Requests::EPOCH) {
            reach_epoch(store)?;
        }
        if requests.has(Requests::YIELD) {
            fiber::yield_now(store)?;
        }
    }
    Ok(())
}

/// The error with which code must end that waits in an asynchronous host function, if it must. What else was requested stays
/// pending until the function returns, since it has access to the store.
///
/// # Safety
/// `store` must be the own pointer of a live store that the current thread runs, to whose parts other than its data nobody
/// holds an exclusive reference.
pub(crate) unsafe fn end_of_wait(store: *mut StoreOpaque) -> Option<Error> {
    // SAFETY: the store is live and nobody refers to these parts, by the caller's promise.
    unsafe {
        let StoreOpaque { interrupts, deadlines, engine, .. } = &*store;
        let pending = &interrupts.pending;
        let requests = Requests(pending.load(SeqCst));
        if requests.has(Requests::END) {
            pending.fetch_and(!Requests::END.0, SeqCst);
            return Some(Trap::Interrupt.into());
        }
        if requests.has(Requests::DEADLINE) && deadlines.time.is_some_and(|time| time <= Instant::now()) {
            return Some(Trap::Deadline.into());
        }
        let is_reached = requests.has(Requests::EPOCH) && engine.epochs.now.load(SeqCst) >= deadlines.epoch;
        (is_reached && matches!(deadlines.action, Some(EpochAction::Trap))).then(|| Trap::Interrupt.into())
    }
}

/// Tells those who asked which functions are running; later if that is not known here.
///
/// # Safety
/// As for [`poll`].
unsafe fn tell_backtrace(store: *mut StoreOpaque, interrupts: &Interrupts) -> Result<()> {
    // SAFETY: the running code has called the host, which called this.
    let Some(frames) = (unsafe { activation::capture(store) }) else {
        interrupts.request(Requests::BACKTRACE);
        return Ok(());
    };
    let callbacks = std::mem::take(&mut *interrupts.lock_backtraces());
    let mut first = None;
    // Each is called: what the others have is not dropped here, where nothing catches the panic of that.
    for callback in callbacks {
        let frames = frames.clone();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| callback(frames))) {
            match first {
                None => first = Some(panic),
                // Not dropped: that might panic too.
                Some(_) => std::mem::forget(panic),
            }
        }
        // SAFETY: the store is live and nobody refers to it, by the caller's promise.
        unsafe { activation::set_current_anew((*store).activation) };
    }
    if first.is_some() {
        // SAFETY: as above.
        unsafe { (*store).panic = first };
        return Err(Error::host("the callback of a backtrace panicked"));
    }
    Ok(())
}

/// Does what the store wants done when the engine's epoch has reached the store's deadline; nothing if it has not.
///
/// # Safety
/// As for [`poll`].
unsafe fn reach_epoch(store: *mut StoreOpaque) -> Result<()> {
    // SAFETY: the store is live and nobody refers to it, by the caller's promise. The callback is taken out while it runs,
    // as it may access the store.
    unsafe {
        let engine = (*store).engine.clone();
        if engine.epochs.now.load(SeqCst) < (*store).deadlines.epoch {
            return Ok(());
        }
        let mut callback = match (*store).deadlines.action.take() {
            Some(EpochAction::Callback(callback)) => callback,
            Some(EpochAction::GoOn(next)) => {
                (*store).deadlines.action = Some(EpochAction::GoOn(next));
                return go_on(store, next);
            }
            action => {
                (*store).deadlines.action = action;
                // It stays reached until the deadline is set anew.
                (*store).interrupts.request(Requests::EPOCH);
                return Err(Trap::Interrupt.into());
            }
        };
        let result = catch_unwind(AssertUnwindSafe(|| callback(store)));
        // As after a host function.
        activation::set_current_anew((*store).activation);
        // The callback may have set another.
        (*store).deadlines.action.get_or_insert(EpochAction::Callback(callback));
        match result {
            Ok(Ok(next)) => go_on(store, next),
            Ok(Err(error)) => Err(error),
            Err(panic) => {
                (*store).panic = Some(panic);
                Err(Error::host("the callback of an epoch's deadline panicked"))
            }
        }
    }
}

/// Lets code go on whose epoch deadline was reached.
///
/// # Safety
/// As for [`poll`].
unsafe fn go_on(store: *mut StoreOpaque, next: NextDeadline) -> Result<()> {
    // SAFETY: the store is live and nobody refers to it, by the caller's promise.
    unsafe {
        if next.yields {
            // In case that the code does not go on.
            (*store).set_epoch_deadline(next.ticks.max(1));
            fiber::yield_now(store)?;
        }
        // It counts from when the code goes on.
        (*store).set_next_epoch_deadline(next.ticks);
    }
    Ok(())
}

/// The epochs of an engine: a number that the host increments, and the stores that are waiting for it to grow.
#[derive(Debug, Default)]
pub(crate) struct Epochs {
    now: AtomicU64,
    due: DueList<u64>,
}

impl Epochs {
    /// Begins the next epoch.
    pub fn increment(&self) {
        let now = self.now.fetch_add(1, SeqCst) + 1;
        self.due.request_until(now);
    }
}

/// The stores that are to be interrupted at some time, or epoch: sorted by that, by the number of the store, and by what is to
/// be requested.
#[derive(Debug)]
struct DueList<K>(Mutex<Due<K>>);

type Due<K> = BTreeMap<(K, u64, Requests), Weak<Interrupts>>;

impl<K> Default for DueList<K> {
    fn default() -> Self {
        DueList(Mutex::new(BTreeMap::new()))
    }
}

impl<K: Ord + Copy> DueList<K> {
    fn lock(&self) -> MutexGuard<'_, Due<K>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, key: K, store: u64, interrupts: &Arc<Interrupts>, requests: Requests) {
        self.lock().insert((key, store, requests), Arc::downgrade(interrupts));
    }

    fn remove(&self, key: K, store: u64, requests: Requests) {
        self.lock().remove(&(key, store, requests));
    }

    /// Makes the requests that are due at `now`, and forgets them. Returns when the next one is due.
    fn request_until(&self, now: K) -> Option<K> {
        loop {
            let mut list = self.lock();
            let first = list.first_entry()?;
            if first.key().0 > now {
                return Some(first.key().0);
            }
            let ((_, _, requests), interrupts) = first.remove_entry();
            drop(list);
            // Without the lock, because it may call a waker.
            if let Some(interrupts) = interrupts.upgrade() {
                interrupts.request(requests);
            }
        }
    }
}

/// The thread that makes the requests of deadlines, one for the process.
struct Timer {
    due: DueList<Instant>,
    /// Whether the thread was started.
    started: Mutex<bool>,
    /// Tells the thread that the list has changed.
    changed: Condvar,
}

static TIMER: Timer =
    Timer { due: DueList(Mutex::new(BTreeMap::new())), started: Mutex::new(false), changed: Condvar::new() };

impl Timer {
    fn start(&'static self) -> Result<()> {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        if !*started {
            let thread = std::thread::Builder::new().name("wasmrun timer".into()).stack_size(64 << 10);
            thread.spawn(|| self.run()).map_err(|error| {
                Error::resource(format!("there is no thread to watch the store's deadline: {error}"))
            })?;
            *started = true;
        }
        Ok(())
    }

    fn run(&self) {
        loop {
            let next = self.due.request_until(Instant::now());
            let list = self.due.lock();
            let first = list.first_key_value().map(|((time, ..), _)| *time);
            // Another may have come since.
            if first != next {
                continue;
            }
            let wait = first.map(|time| time.saturating_duration_since(Instant::now()));
            match wait {
                None => drop(self.changed.wait(list)),
                Some(wait) => drop(self.changed.wait_timeout(list, wait)),
            }
        }
    }
}

/// Whether code that looks at the word must come to [`poll`].
///
/// # Safety
/// `interrupt` must be that of a live store.
#[inline(always)]
pub(crate) unsafe fn is_requested(interrupt: *const VMInterrupt) -> bool {
    // SAFETY: the caller's promise.
    unsafe { (*interrupt).word.load(Relaxed) != 0 }
}
