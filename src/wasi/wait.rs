//! Waiting for the host's descriptors and for time to pass.
//!
//! No function of WASI waits by itself. One that can't be done yet notes what it waits for and gives `Errno::Waits`; once that
//! has happened it is called again, with the same arguments. Between two attempts nothing of the store is borrowed, so that
//! whatever was requested of the store's code is done while the guest waits. [`Wait::until_over`] is the one place that waits: it
//! blocks the thread, or suspends the guest if that is called asynchronously.

use crate::error::{Error, Result};
use crate::runtime::caller::Caller;
use crate::wasi::errno::Errno;
use crate::wasi::guest::Buffers;
#[cfg(feature = "async")]
use crate::wasi::reactor::{Ready, Turn};
use crate::wasi::table::Descriptor;
use crate::wasi::watch;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::retry_on_intr;
use std::cell::{OnceCell, RefCell};
use std::io;
use std::mem::ManuallyDrop;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a wait goes on without a look for requests if the process can't have a descriptor that tells of them.
const SLICE: Duration = Duration::from_millis(5);

/// What a call waits for: that one of the descriptors is ready, or that the time has come, whichever is first.
#[derive(Debug, Default)]
pub(crate) struct Wait {
    descriptors: Vec<(Arc<Descriptor>, PollFlags)>,
    /// `None` for never.
    until: Option<Instant>,
    /// Whether it is for the next turn of the guest's thread only.
    is_turn: bool,
}

impl Wait {
    /// Waits also for a descriptor of the host.
    pub(crate) fn add(&mut self, descriptor: &Arc<Descriptor>, events: PollFlags) {
        self.descriptors.push((descriptor.clone(), events));
    }

    /// Waits for no longer than that.
    pub(crate) fn at_most(&mut self, time: Duration) {
        let until = Instant::now().checked_add(time);
        self.until = until.into_iter().chain(self.until).min();
    }

    /// Lets others run once.
    pub(crate) fn turn() -> Self {
        Wait { is_turn: true, ..Wait::default() }
    }

    /// When it is over whatever the descriptors do; `None` for never.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// The descriptors, each with the events that it is ready by.
    pub(crate) fn files(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        self.descriptors.iter().filter_map(|(descriptor, events)| Some((descriptor.file().ok()?.as_fd(), *events)))
    }

    /// Whether it has happened.
    ///
    /// # Errors
    /// If the descriptors can't be asked.
    pub(crate) fn is_over(&self) -> io::Result<bool> {
        if self.until.is_some_and(|until| until <= Instant::now()) {
            return Ok(true);
        }
        let mut polled = self.poll_list();
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        Ok(!polled.is_empty() && retry_on_intr(|| rustix::event::poll(&mut polled, Some(&now)))? > 0)
    }

    /// Waits until it has happened. Does what is requested of the caller's store meanwhile.
    ///
    /// # Errors
    /// The guest is to end, as [`Caller::check_interrupt`] says, or because its call was given up.
    fn until_over<T>(&self, caller: &mut Caller<'_, T>) -> Result<()> {
        #[cfg(feature = "async")]
        if caller.may_be_suspended() {
            return self.suspend(caller);
        }
        self.block(caller)
    }

    /// Suspends the guest until it has happened.
    ///
    /// # Errors
    /// As for [`until_over`](Self::until_over).
    #[cfg(feature = "async")]
    fn suspend<T>(&self, caller: &mut Caller<'_, T>) -> Result<()> {
        use std::pin::pin;
        // SAFETY: the functions of WASI are defined so. Between two attempts there are no frames of the embedder's, and there
        // is nothing but the arguments, the `Attempts` and this.
        unsafe {
            if self.is_turn {
                return caller.suspend_for(pin!(Turn::default()));
            }
            caller.suspend_for(pin!(Ready::new(self)))?.map_err(|error| Error::host(format!("cannot wait: {error}")))
        }
    }

    /// Blocks the thread until it has happened. Does what is requested of the caller's store meanwhile.
    ///
    /// # Errors
    /// What [`Caller::check_interrupt`] gives: the guest is to end.
    fn block<T>(&self, caller: &mut Caller<'_, T>) -> Result<()> {
        if self.is_turn {
            std::thread::yield_now();
            return caller.check_interrupt();
        }
        loop {
            let interrupt = caller.interrupt_fd().ok();
            caller.check_interrupt()?;
            let now = Instant::now();
            if self.until.is_some_and(|until| until <= now) {
                return Ok(());
            }
            let left = self.until.map(|until| until - now);
            let left = if interrupt.is_some() { left } else { Some(left.map_or(SLICE, |left| left.min(SLICE))) };
            let mut polled = self.poll_list();
            let own = polled.len();
            polled.extend(interrupt.iter().map(|interrupt| PollFd::new(interrupt, PollFlags::IN)));
            let timeout =
                left.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
            match rustix::event::poll(&mut polled, timeout.as_ref()) {
                Ok(_) if polled[..own].iter().any(|fd| !fd.revents().is_empty()) => return Ok(()),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(Error::host(format!("cannot wait: {errno}"))),
            }
        }
    }

    /// The descriptors as the host polls them.
    pub(crate) fn poll_list(&self) -> Vec<PollFd<'_>> {
        self.files().map(|(file, events)| PollFd::from_borrowed_fd(file, events)).collect()
    }
}

/// A call of a function, which may take several attempts: what it has to know of those that were made.
#[derive(Default)]
pub(crate) struct Attempts(OnceCell<Box<RefCell<Begun>>>);

/// What a call keeps until it is made again.
#[derive(Default)]
struct Begun {
    /// What it waits for now.
    wait: Option<Wait>,
    transferred: Option<Transferred>,
    start: Option<u64>,
    watched: Option<watch::Call>,
}

/// How far the buffers of a call were written from or read into.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Transferred {
    /// The buffers from the first one of the last batch on.
    pub(crate) buffers: Buffers,
    /// Bytes of that batch that are done.
    pub(crate) skip: usize,
    /// Bytes that are done in all.
    pub(crate) total: usize,
}

/// The guest may go on on another thread than it waited on.
const _: () = {
    const fn may_be_sent<T: Send>() {}
    may_be_sent::<(Attempts, Wait)>();
};

impl Attempts {
    /// Whether no attempt has had to wait.
    pub(crate) fn is_first(&self) -> bool {
        self.0.get().is_none()
    }

    /// Whether the attempt that was just made has to wait.
    #[inline]
    pub(crate) fn waits(&self) -> bool {
        self.0.get().is_some_and(|begun| begun.borrow().wait.is_some())
    }

    fn edit<R>(&self, edit: impl FnOnce(&mut Begun) -> R) -> R {
        edit(&mut self.0.get_or_init(Box::default).borrow_mut())
    }

    /// Has the call made again when that has happened. It must return what this gives.
    #[cold]
    pub(crate) fn wait(&self, wait: Wait) -> Errno {
        self.edit(|begun| begun.wait = Some(wait));
        Errno::Waits
    }

    /// Has the call made again as soon as what was requested of the store is done. It must return what this gives.
    #[cold]
    pub(crate) fn pause(&self) -> Errno {
        self.wait(Wait { until: Some(Instant::now()), ..Wait::default() })
    }

    /// As [`wait`](Self::wait), for a descriptor to be ready.
    #[cold]
    pub(crate) fn wait_for(&self, descriptor: &Arc<Descriptor>, events: PollFlags) -> Errno {
        let mut wait = Wait::default();
        wait.add(descriptor, events);
        self.wait(wait)
    }

    /// Remembers how far the buffers are done.
    #[cold]
    pub(crate) fn keep(&self, transferred: Transferred) {
        self.edit(|begun| begun.transferred = Some(transferred));
    }

    /// How far the buffers are done, if the call has had to wait.
    #[inline]
    pub(crate) fn transferred(&self) -> Option<Transferred> {
        self.0.get().and_then(|begun| begun.borrow().transferred)
    }

    /// The time that the first attempt gave. A call that waits for time to pass counts from there.
    pub(crate) fn start(&self, now: impl FnOnce() -> u64) -> u64 {
        self.edit(|begun| *begun.start.get_or_insert_with(now))
    }

    /// Keeps the record of the call until the next attempt.
    #[cold]
    pub(crate) fn keep_watched(&self, call: watch::Call) {
        self.edit(|begun| begun.watched = Some(call));
    }

    /// The record of the call, if this is not its first attempt.
    pub(crate) fn watched(&self) -> Option<watch::Call> {
        self.0.get().and_then(|begun| begun.borrow_mut().watched.take())
    }
}

/// Makes a call: attempts it until it does not have to wait.
#[inline]
pub(crate) fn complete<T: 'static, R>(
    mut caller: Caller<'_, T>,
    attempt: impl Fn(&mut Caller<'_, T>, &Attempts) -> Result<R>,
) -> Result<R> {
    // Dropped by `go_on`, if there is something to drop.
    let mut attempts = ManuallyDrop::new(Attempts::default());
    loop {
        let answer = attempt(&mut caller, &attempts);
        if attempts.0.get().is_none() {
            return answer;
        }
        if let ControlFlow::Break(answer) = go_on(&mut caller, &mut attempts, answer) {
            return answer;
        }
    }
}

/// Waits before the next attempt, if there is to be one.
#[cold]
fn go_on<T: 'static, R>(
    caller: &mut Caller<'_, T>,
    attempts: &mut Attempts,
    answer: Result<R>,
) -> ControlFlow<Result<R>> {
    let wait = attempts.edit(|begun| begun.wait.take());
    let ended = match wait.map(|wait| wait.until_over(caller)) {
        None => answer,
        Some(Ok(())) => return ControlFlow::Continue(()),
        Some(Err(error)) => Err(error),
    };
    let attempts = std::mem::take(attempts);
    if let Some(call) = attempts.watched() {
        call.end(&caller.memory_and_data().0, None, None);
    }
    ControlFlow::Break(ended)
}
