//! Waiting for many descriptors at once, which may change meanwhile: a list that is given to `poll` each time.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::{AsRawFd, BorrowedFd, RawFd};
use rustix::io::Errno;

use super::wake::WakeFd;

/// Descriptors that one thread waits for. Each is reported once, and then must be armed again.
#[derive(Debug)]
pub(crate) struct Poller {
    armed: Mutex<HashMap<RawFd, PollFlags>>,
    wake: WakeFd,
}

impl Poller {
    pub fn new() -> io::Result<Self> {
        Ok(Poller { armed: Mutex::default(), wake: WakeFd::new()? })
    }

    fn armed(&self) -> MutexGuard<'_, HashMap<RawFd, PollFlags>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the descriptor reported when one of these events, or an error, has come; in place of those that were given before. It
    /// must stay open until it is [disarmed](Self::disarm).
    ///
    /// # Errors
    /// None here.
    pub fn arm(&self, file: BorrowedFd<'_>, events: PollFlags) -> io::Result<()> {
        self.armed().insert(file.as_raw_fd(), events);
        self.notify();
        Ok(())
    }

    /// Has the descriptor reported no more.
    pub fn disarm(&self, file: BorrowedFd<'_>) {
        self.armed().remove(&file.as_raw_fd());
    }

    /// Waits until descriptors are ready, for at most that time, or until [`notify`](Self::notify). Adds the descriptors and
    /// their events to the list.
    ///
    /// # Errors
    /// If the system refuses to wait.
    pub fn wait(&self, timeout: Option<Duration>, ready: &mut Vec<(RawFd, PollFlags)>) -> io::Result<()> {
        let timeout = timeout.map(|time| Timespec { tv_sec: time.as_secs() as _, tv_nsec: time.subsec_nanos() as _ });
        let mut list = vec![PollFd::new(&self.wake, PollFlags::IN)];
        // SAFETY: only `poll` uses them. One that was disarmed and closed meanwhile is at worst reported without need.
        list.extend(
            self.armed()
                .iter()
                .map(|(fd, events)| unsafe { PollFd::from_borrowed_fd(BorrowedFd::borrow_raw(*fd), *events) }),
        );
        match rustix::event::poll(&mut list, timeout.as_ref()) {
            Err(Errno::INTR) => return Ok(()),
            result => result?,
        };
        if !list[0].revents().is_empty() {
            self.wake.clear();
        }
        for polled in &list[1..] {
            let (fd, events) = (rustix::fd::AsFd::as_fd(polled).as_raw_fd(), polled.revents());
            if !events.is_empty() && self.armed().remove(&fd).is_some() {
                ready.push((fd, events));
            }
        }
        Ok(())
    }

    /// Ends the wait of another thread, or the next one.
    pub fn notify(&self) {
        self.wake.wake();
    }
}
