//! `poll_oneoff`: waiting for time to pass and for descriptors to be ready.

use crate::runtime::linear::LinearMemory;
use crate::wasi::clock::{Clock, Clockid};
use crate::wasi::env::Wasi;
use crate::wasi::errno::Errno;
use crate::wasi::fs;
use crate::wasi::guest::Guest;
use crate::wasi::table::{Descriptor, Object};
use crate::wasi::types::{Abi, Filetype, Pointer, Rights, Size};
use crate::wasi::wait::Wait;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::{AsFd, AsRawFd, RawFd};
use rustix::io::retry_on_intr;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The most subscriptions of one call: the host's memory for them grows with their number.
const MAX_SUBSCRIPTIONS: u32 = 1 << 20;

/// Bytes of an `event`.
const EVENT_SIZE: u32 = 32;

/// `subclockflags::subscription_clock_abstime`.
const ABSTIME: u16 = 1;

/// `eventrwflags::fd_readwrite_hangup`.
const HANGUP: u16 = 1;

/// What the guest waits for, with the number that it gave to tell the event by.
struct Subscription {
    userdata: u64,
    source: EventSource,
}

enum EventSource {
    /// A time on a clock. A timeout relative to now is on the monotonic clock, also if the guest named the wall clock.
    Clock { id: Clockid, deadline: u64 },
    /// A descriptor that can be read from, or written to.
    Descriptor { descriptor: Arc<Descriptor>, write: bool },
    /// A subscription that can't be waited for, such as a number without a descriptor. It occurs at once, with the error.
    Bad { tag: u8, errno: Errno },
}

/// `poll_oneoff`: waits until at least one of the subscriptions occurs, and reports all that have. One that can't occur is
/// reported with its error; if all of them are such, the call fails.
pub(crate) fn poll_oneoff(
    wasi: &Wasi,
    memory: &mut LinearMemory<'_>,
    subscriptions: Pointer,
    events: Pointer,
    count: Size,
    stored: Pointer,
) -> Result<(), Errno> {
    if count == 0 || count > MAX_SUBSCRIPTIONS {
        return Err(Errno::Inval);
    }
    let size = subscription_size(wasi.abi);
    memory.check(subscriptions, count, size, 8)?;
    memory.check(events, count, EVENT_SIZE, 8)?;
    memory.check(stored, 1, 4, 4)?;
    let clock = wasi.lock()?.clock.clone();
    let mut list = Vec::new();
    list.try_reserve_exact(count as usize).map_err(|_| Errno::NoMem)?;
    for index in 0..count {
        list.push(decode(wasi, &clock, &memory.bytes(subscriptions + index * size, size)?)?);
    }
    if let EventSource::Bad { errno, .. } = list[0].source
        && list.iter().all(|subscription| matches!(subscription.source, EventSource::Bad { .. }))
    {
        return Err(errno);
    }

    let mut occurred: u32 = 0;
    let wait = look(&clock, &list, |subscription, ready| {
        let event = encode(subscription, ready);
        // Checked above, and there are no more events than subscriptions.
        if memory.store(events + occurred * EVENT_SIZE, &event).is_ok() {
            occurred += 1;
        }
    })?;
    if occurred == 0 {
        return Err(wasi.attempts.wait(wait));
    }
    memory.store_u32(stored, occurred)
}

const fn subscription_size(abi: Abi) -> u32 {
    match abi {
        Abi::Preview1 => 48,
        Abi::Unstable => 56,
    }
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    bytes[offset..].first_chunk().map_or(0, |chunk| u64::from_le_bytes(*chunk))
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    bytes[offset..].first_chunk().map_or(0, |chunk| u32::from_le_bytes(*chunk))
}

fn decode(wasi: &Wasi, clock: &Clock, bytes: &[u8]) -> Result<Subscription, Errno> {
    let userdata = u64_at(bytes, 0);
    let source = match bytes[8] {
        0 => {
            // The older layout has an identifier before the clock.
            let base = match wasi.abi {
                Abi::Preview1 => 16,
                Abi::Unstable => 24,
            };
            let timeout = u64_at(bytes, base + 8);
            let flags = u32_at(bytes, base + 24) as u16;
            match Clockid::decode(u32_at(bytes, base)) {
                Ok(id @ (Clockid::Realtime | Clockid::Monotonic)) if flags & !ABSTIME == 0 => {
                    if flags & ABSTIME != 0 {
                        EventSource::Clock { id, deadline: timeout }
                    } else {
                        let start = wasi.attempts.start(|| clock.now(Clockid::Monotonic));
                        let deadline = start.saturating_add(timeout);
                        EventSource::Clock { id: Clockid::Monotonic, deadline }
                    }
                }
                _ => EventSource::Bad { tag: 0, errno: Errno::Inval },
            }
        }
        tag @ (1 | 2) => {
            let write = tag == 2;
            match wasi.get(u32_at(bytes, 16)) {
                Err(Errno::Held) => return Err(Errno::Held),
                Err(errno) => EventSource::Bad { tag, errno },
                Ok(descriptor) => match pollable(&descriptor, write) {
                    Err(errno) => EventSource::Bad { tag, errno },
                    Ok(()) => EventSource::Descriptor { descriptor, write },
                },
            }
        }
        _ => return Err(Errno::Inval),
    };
    Ok(Subscription { userdata, source })
}

/// Whether a descriptor can be waited for.
fn pollable(descriptor: &Descriptor, write: bool) -> Result<(), Errno> {
    descriptor.require(Rights::POLL_FD_READWRITE, Errno::Badf)?;
    let right = match write {
        true => Rights::FD_WRITE,
        // A listener is ready to be read from when a connection can be accepted.
        false if descriptor.rights().has(Rights::SOCK_ACCEPT) => Rights::SOCK_ACCEPT,
        false => Rights::FD_READ,
    };
    // As on Linux, files and directories are ready for reading and writing, whatever they were opened for.
    match descriptor.filetype {
        Filetype::RegularFile | Filetype::Directory => descriptor.require_unless_never(right),
        _ => descriptor.require(right, Errno::Badf),
    }
}

/// What an event reports about a descriptor that is ready.
struct Ready {
    bytes: u64,
    flags: u16,
}

fn encode(subscription: &Subscription, ready: Ready) -> [u8; EVENT_SIZE as usize] {
    let mut event = [0; EVENT_SIZE as usize];
    event[0..8].copy_from_slice(&subscription.userdata.to_le_bytes());
    let (errno, tag) = match subscription.source {
        EventSource::Clock { .. } => (Errno::Success, 0),
        EventSource::Descriptor { write: false, .. } => (Errno::Success, 1),
        EventSource::Descriptor { write: true, .. } => (Errno::Success, 2),
        EventSource::Bad { tag, errno } => (errno, tag),
    };
    event[8..10].copy_from_slice(&(errno as u16).to_le_bytes());
    event[10] = tag;
    event[16..24].copy_from_slice(&ready.bytes.to_le_bytes());
    event[24..26].copy_from_slice(&ready.flags.to_le_bytes());
    event
}

/// Calls `occurred` with all that has occurred, in the order of the list. Returns what is to be waited for if nothing has.
fn look(clock: &Clock, list: &[Subscription], mut occurred: impl FnMut(&Subscription, Ready)) -> Result<Wait, Errno> {
    // Each descriptor once, however often it is subscribed to: the system refuses a list that is longer than the number of
    // files a process may have open.
    let mut wanted: Vec<(&Arc<Descriptor>, PollFlags)> = Vec::new();
    let mut index_of: HashMap<RawFd, usize> = HashMap::new();
    let mut is_ready = false;
    for subscription in list {
        match &subscription.source {
            EventSource::Descriptor { descriptor, write } => match &descriptor.object {
                Object::Host(file) if descriptor.filetype != Filetype::RegularFile => {
                    let index = *index_of.entry(file.as_fd().as_raw_fd()).or_insert(wanted.len());
                    if index == wanted.len() {
                        wanted.push((descriptor, PollFlags::empty()));
                    }
                    wanted[index].1 |= event(*write);
                }
                // Files are always ready, and an embedder's stream can't be asked.
                _ => is_ready = true,
            },
            EventSource::Bad { .. } => is_ready = true,
            EventSource::Clock { .. } => {}
        }
    }
    let mut wait = Wait::default();
    for (descriptor, events) in &wanted {
        wait.add(descriptor, *events);
    }
    if let Some(nanoseconds) = earliest(clock, list)
        && !is_ready
    {
        match clock {
            Clock::Host { .. } => wait.at_most(Duration::from_nanos(nanoseconds)),
            // Virtual time passes at once.
            Clock::Virtual { elapsed, .. } => {
                elapsed.fetch_add(nanoseconds, Ordering::Relaxed);
            }
        }
    }
    let mut host = wait.poll_list();
    if !host.is_empty() {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        retry_on_intr(|| rustix::event::poll(&mut host, Some(&now)))?;
    }
    for subscription in list {
        let ready = match &subscription.source {
            EventSource::Clock { id, deadline } => {
                has_passed(clock, *id, *deadline).then_some(Ready { bytes: 0, flags: 0 })
            }
            EventSource::Descriptor { descriptor, write } => match &descriptor.object {
                Object::Host(file) if descriptor.filetype != Filetype::RegularFile => {
                    let polled = index_of.get(&file.as_fd().as_raw_fd()).and_then(|index| host.get(*index));
                    let always = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
                    let events = polled.map_or(PollFlags::empty(), PollFd::revents) & (event(*write) | always);
                    let bytes = if *write { 1 } else { rustix::io::ioctl_fionread(file).unwrap_or(1) };
                    let hung_up = events.intersects(PollFlags::HUP | PollFlags::ERR);
                    let flags = if hung_up { HANGUP } else { 0 };
                    (!events.is_empty()).then_some(Ready { bytes, flags })
                }
                Object::Host(file) if !*write => {
                    let size = fs::stat(file)?.size;
                    Some(Ready { bytes: size.saturating_sub(rustix::fs::tell(file)?), flags: 0 })
                }
                _ => Some(Ready { bytes: 1, flags: 0 }),
            },
            // `encode` takes the error from the subscription.
            EventSource::Bad { .. } => Some(Ready { bytes: 0, flags: 0 }),
        };
        if let Some(ready) = ready {
            occurred(subscription, ready);
        }
    }
    drop(host);
    Ok(wait)
}

/// The host's event for a descriptor that is ready to be written to, or read from.
fn event(write: bool) -> PollFlags {
    if write { PollFlags::OUT } else { PollFlags::IN }
}

fn has_passed(clock: &Clock, id: Clockid, deadline: u64) -> bool {
    peek(clock, id) >= deadline
}

/// The time on a clock, without advancing a virtual one.
fn peek(clock: &Clock, id: Clockid) -> u64 {
    match clock {
        Clock::Host { .. } => clock.now(id),
        Clock::Virtual { start, elapsed } => {
            let now = elapsed.load(Ordering::Relaxed);
            if id == Clockid::Realtime { start.saturating_add(now) } else { now }
        }
    }
}

/// Nanoseconds until the first deadline, if there is one.
fn earliest(clock: &Clock, list: &[Subscription]) -> Option<u64> {
    let (realtime, monotonic) = (peek(clock, Clockid::Realtime), peek(clock, Clockid::Monotonic));
    let left = list.iter().filter_map(|subscription| match subscription.source {
        EventSource::Clock { id, deadline } => {
            let now = if id == Clockid::Realtime { realtime } else { monotonic };
            Some(deadline.saturating_sub(now))
        }
        EventSource::Descriptor { .. } | EventSource::Bad { .. } => None,
    });
    left.min()
}
