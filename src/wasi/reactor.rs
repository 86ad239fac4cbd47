//! The futures of guests that wait asynchronously, and the thread that wakes them: one for the process, so that no executor has
//! to know of descriptors or time.

use crate::sys::Poller;
use crate::wasi::wait::Wait;
use rustix::event::PollFlags;
use rustix::fd::{AsRawFd, BorrowedFd, RawFd};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// Ready when what is waited for has happened; see [`Wait::is_over`].
pub(super) struct Ready<'a> {
    wait: &'a Wait,
    registration: Option<Registration<'a>>,
}

impl<'a> Ready<'a> {
    pub(super) fn new(wait: &'a Wait) -> Self {
        Ready { wait, registration: None }
    }
}

impl Future for Ready<'_> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(registration) = &self.registration
            && registration.waiter.goes_on(context.waker())
        {
            return Poll::Pending;
        }
        self.registration = None;
        if self.wait.is_over()? {
            return Poll::Ready(Ok(()));
        }
        self.registration = Some(Registration::new(self.wait, context.waker())?);
        Poll::Pending
    }
}

/// Ready when it is polled again.
#[derive(Default)]
pub(super) struct Turn {
    is_over: bool,
}

impl Future for Turn {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.is_over, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Whom to wake.
struct Waiter {
    has_fired: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Waiter {
    fn replace_waker(&self, waker: Option<Waker>) -> Option<Waker> {
        // The code of wakers is the embedder's, so none is dropped here, under the lock.
        std::mem::replace(&mut *self.waker.lock().unwrap_or_else(PoisonError::into_inner), waker)
    }

    /// Has `waker` woken in place of the one before, unless it is too late.
    fn goes_on(&self, waker: &Waker) -> bool {
        self.replace_waker(Some(waker.clone()));
        !self.has_fired.load(Ordering::SeqCst)
    }

    fn fire(&self) {
        self.has_fired.store(true, Ordering::SeqCst);
        if let Some(waker) = self.replace_waker(None)
            && let Err(panic) = catch_unwind(AssertUnwindSafe(|| waker.wake()))
        {
            // The reactor goes on for the others. The panic is not dropped: that might panic too.
            std::mem::forget(panic);
        }
    }
}

/// What the reactor watches for one waiter, until this is dropped.
struct Registration<'a> {
    reactor: &'static Reactor,
    number: u64,
    wait: &'a Wait,
    waiter: Arc<Waiter>,
}

impl<'a> Registration<'a> {
    fn new(wait: &'a Wait, waker: &Waker) -> io::Result<Self> {
        let reactor = Reactor::get()?;
        let waiter = Arc::new(Waiter { has_fired: AtomicBool::new(false), waker: Mutex::new(Some(waker.clone())) });
        let mut watched = reactor.lock();
        let number = watched.next;
        watched.next += 1;
        let registration = Registration { reactor, number, wait, waiter };
        if let Some(until) = wait.until() {
            let is_first = watched.timers.first_key_value().is_none_or(|((first, _), _)| until < *first);
            watched.timers.insert((until, number), registration.waiter.clone());
            if is_first {
                reactor.poller.notify();
            }
        }
        let mut armed = Ok(());
        for (file, events) in wait.files() {
            armed = armed.and_then(|()| watched.add(&reactor.poller, file, number, events, &registration.waiter));
        }
        drop(watched);
        armed.map(|()| registration)
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        let mut watched = self.reactor.lock();
        if let Some(until) = self.wait.until() {
            watched.timers.remove(&(until, self.number));
        }
        for (file, _) in self.wait.files() {
            watched.remove(&self.reactor.poller, file, self.number);
        }
        drop(watched);
        drop(self.waiter.replace_waker(None));
    }
}

/// Waits for the descriptors and times of all waiters.
struct Reactor {
    poller: Poller,
    watched: Mutex<Watched>,
}

/// What is waited for, by whom.
#[derive(Default)]
struct Watched {
    /// The number of the next registration.
    next: u64,
    timers: BTreeMap<(Instant, u64), Arc<Waiter>>,
    files: HashMap<RawFd, Watchers>,
}

/// Those that wait for one descriptor.
#[derive(Default)]
struct Watchers {
    /// By the number of the registration.
    list: BTreeMap<u64, (PollFlags, Arc<Waiter>)>,
    readers: usize,
    writers: usize,
}

impl Watchers {
    fn add(&mut self, number: u64, events: PollFlags, waiter: &Arc<Waiter>) {
        // One that waits for the same descriptor twice counts once for each event.
        let all = events | self.take(number).map_or(PollFlags::empty(), |(before, _)| before);
        self.readers += usize::from(all.contains(PollFlags::IN));
        self.writers += usize::from(all.contains(PollFlags::OUT));
        self.list.insert(number, (all, waiter.clone()));
    }

    fn take(&mut self, number: u64) -> Option<(PollFlags, Arc<Waiter>)> {
        let taken = self.list.remove(&number)?;
        self.readers -= usize::from(taken.0.contains(PollFlags::IN));
        self.writers -= usize::from(taken.0.contains(PollFlags::OUT));
        Some(taken)
    }

    /// What the descriptor is ready by for one of them.
    fn events(&self) -> PollFlags {
        let mut events = PollFlags::empty();
        events.set(PollFlags::IN, self.readers > 0);
        events.set(PollFlags::OUT, self.writers > 0);
        events
    }
}

impl Watched {
    /// Watches a descriptor for a waiter.
    fn add(
        &mut self,
        poller: &Poller,
        file: BorrowedFd<'_>,
        number: u64,
        events: PollFlags,
        waiter: &Arc<Waiter>,
    ) -> io::Result<()> {
        let watchers = self.files.entry(file.as_raw_fd()).or_default();
        let before = (watchers.events(), watchers.list.is_empty());
        watchers.add(number, events, waiter);
        if before == (watchers.events(), false) { Ok(()) } else { poller.arm(file, watchers.events()) }
    }

    /// Watches a descriptor no more for the waiter of a registration.
    fn remove(&mut self, poller: &Poller, file: BorrowedFd<'_>, number: u64) {
        let Entry::Occupied(mut watchers) = self.files.entry(file.as_raw_fd()) else { return };
        // Others are woken without need at most once.
        watchers.get_mut().take(number);
        if watchers.get().list.is_empty() {
            watchers.remove();
            poller.disarm(file);
        }
    }

    /// Takes those that a descriptor's events are for, and goes on watching it for the others.
    fn take_ready(&mut self, poller: &Poller, fd: RawFd, events: PollFlags, fired: &mut Vec<Arc<Waiter>>) {
        let Some(watchers) = self.files.get_mut(&fd) else { return };
        let always = !(PollFlags::IN | PollFlags::OUT);
        let ready: Vec<u64> = watchers
            .list
            .iter()
            .filter(|(_, (wanted, _))| events.intersects(*wanted | always))
            .map(|(n, _)| *n)
            .collect();
        fired.extend(ready.into_iter().filter_map(|number| watchers.take(number)).map(|(_, waiter)| waiter));
        // SAFETY: the descriptor is open as long as a registration, which keeps the `Wait` that owns it, is in the map.
        let file = unsafe { BorrowedFd::borrow_raw(fd) };
        if watchers.list.is_empty() {
            self.files.remove(&fd);
            poller.disarm(file);
        } else if poller.arm(file, watchers.events()).is_err() {
            // They find out themselves.
            fired.extend(std::mem::take(watchers).list.into_values().map(|(_, waiter)| waiter));
        }
    }

    /// Takes those whose time has come. Returns the time of the next one.
    fn take_due(&mut self, now: Instant, fired: &mut Vec<Arc<Waiter>>) -> Option<Instant> {
        loop {
            let first = self.timers.first_entry()?;
            if first.key().0 > now {
                return Some(first.key().0);
            }
            fired.push(first.remove());
        }
    }
}

impl Reactor {
    /// The reactor of the process, which is started when it is first needed.
    fn get() -> io::Result<&'static Reactor> {
        static REACTOR: Mutex<Option<&'static Reactor>> = Mutex::new(None);
        let mut reactor = REACTOR.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reactor) = *reactor {
            return Ok(reactor);
        }
        let new: &'static Reactor = Box::leak(Box::new(Reactor { poller: Poller::new()?, watched: Mutex::default() }));
        let thread = std::thread::Builder::new().name("wasmrun reactor".into()).stack_size(128 << 10);
        thread.spawn(|| new.run())?;
        Ok(reactor.insert(new))
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let (mut ready, mut fired) = (Vec::new(), Vec::new());
        loop {
            let next = self.lock().take_due(Instant::now(), &mut fired);
            // Wakers are called without the lock: they may have guests polled at once.
            fired.drain(..).for_each(|waiter: Arc<Waiter>| waiter.fire());
            let left = next.map(|next| next.saturating_duration_since(Instant::now()));
            if self.poller.wait(left, &mut ready).is_err() {
                // Out of memory, if anything.
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            let mut watched = self.lock();
            for (fd, events) in ready.drain(..) {
                watched.take_ready(&self.poller, fd, events, &mut fired);
            }
        }
    }
}
