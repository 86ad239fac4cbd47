//! Waiting for many descriptors at once, which may change meanwhile: epoll.

use std::io;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::EventFlags;
use rustix::event::{PollFlags, Timespec, epoll};
use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use rustix::io::Errno;

use super::wake::WakeFd;

/// The events that can be waited for, and those that occur without.
const EVENTS: [(PollFlags, EventFlags); 5] = [
    (PollFlags::IN, EventFlags::IN),
    (PollFlags::OUT, EventFlags::OUT),
    (PollFlags::PRI, EventFlags::PRI),
    (PollFlags::ERR, EventFlags::ERR),
    (PollFlags::HUP, EventFlags::HUP),
];

/// Descriptors that one thread waits for. Each is reported once, and then must be armed again.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: OwnedFd,
    wake: WakeFd,
}

impl Poller {
    /// What the wake descriptor's events are marked with; no descriptor has this number.
    const WAKE: u64 = u64::MAX;

    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = WakeFd::new()?;
        epoll::add(&epoll, &wake, epoll::EventData::new_u64(Self::WAKE), EventFlags::IN)?;
        Ok(Poller { epoll, wake })
    }

    /// Has the descriptor reported when one of these events, or an error, has come; in place of those that were given before. It
    /// must stay open until it is [disarmed](Self::disarm).
    ///
    /// # Errors
    /// If the system refuses it; `PERM` if it is always ready.
    pub fn arm(&self, file: BorrowedFd<'_>, events: PollFlags) -> io::Result<()> {
        let data = epoll::EventData::new_u64(file.as_raw_fd() as u64);
        let wanted = EVENTS.iter().filter(|(event, _)| events.contains(*event)).map(|(_, flag)| *flag);
        let flags = wanted.collect::<EventFlags>() | EventFlags::ONESHOT;
        match epoll::modify(&self.epoll, file, data, flags) {
            Err(Errno::NOENT) => Ok(epoll::add(&self.epoll, file, data, flags)?),
            result => Ok(result?),
        }
    }

    /// Has the descriptor reported no more.
    pub fn disarm(&self, file: BorrowedFd<'_>) {
        // It may have been closed by others, which disarms it.
        let _ = epoll::delete(&self.epoll, file);
    }

    /// Waits until descriptors are ready, for at most that time, or until [`notify`](Self::notify). Adds the descriptors and
    /// their events to the list.
    ///
    /// # Errors
    /// If the system refuses to wait.
    pub fn wait(&self, timeout: Option<Duration>, ready: &mut Vec<(RawFd, PollFlags)>) -> io::Result<()> {
        let timeout =
            timeout.map(|time| Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() });
        let mut events = Vec::with_capacity(64);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
            Err(Errno::INTR) => return Ok(()),
            result => result?,
        };
        for event in events {
            if event.data.u64() == Self::WAKE {
                self.wake.clear();
            } else {
                let flags = event.flags;
                let occurred = EVENTS.iter().filter(|(_, flag)| flags.contains(*flag)).map(|(event, _)| *event);
                ready.push((event.data.u64() as RawFd, occurred.collect()));
            }
        }
        Ok(())
    }

    /// Ends the wait of another thread, or the next one.
    pub fn notify(&self) {
        self.wake.wake();
    }
}
