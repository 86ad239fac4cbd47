//! Clocks: the host's, or a virtual one for repeatable runs.

use crate::runtime::linear::LinearMemory;
use crate::wasi::env::Wasi;
use crate::wasi::errno::Errno;
use crate::wasi::guest::Guest;
use crate::wasi::types::{Bits, Pointer, Timestamp};
use rustix::time::{ClockId, Timespec, clock_getres, clock_gettime};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where the time comes from.
#[derive(Clone, Debug)]
pub(crate) enum Clock {
    /// The host. Its monotonic clock is given relative to `origin`, so that a guest does not learn when the machine
    /// started.
    Host {
        /// Nanoseconds on the host's monotonic clock.
        origin: u64,
    },
    /// Time that passes only when it is read or waited for.
    Virtual {
        /// Nanoseconds from 1970 to the program's start.
        start: u64,
        /// Nanoseconds since then.
        elapsed: Arc<AtomicU64>,
    },
}

/// Nanoseconds that virtual time advances with each read, so that a program that polls the clock in a loop gets on.
const VIRTUAL_TICK: u64 = 1000;

/// `clockid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clockid {
    Realtime,
    Monotonic,
    ProcessCpuTime,
    ThreadCpuTime,
}

impl Clockid {
    pub(crate) fn decode(id: Bits) -> Result<Self, Errno> {
        match id {
            0 => Ok(Clockid::Realtime),
            1 => Ok(Clockid::Monotonic),
            2 => Ok(Clockid::ProcessCpuTime),
            3 => Ok(Clockid::ThreadCpuTime),
            _ => Err(Errno::Inval),
        }
    }

    fn host(self) -> ClockId {
        match self {
            Clockid::Realtime => ClockId::Realtime,
            Clockid::Monotonic => ClockId::Monotonic,
            Clockid::ProcessCpuTime => ClockId::ProcessCPUTime,
            Clockid::ThreadCpuTime => ClockId::ThreadCPUTime,
        }
    }
}

fn nanoseconds(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
}

impl Clock {
    pub(crate) fn host() -> Self {
        Clock::Host { origin: nanoseconds(clock_gettime(ClockId::Monotonic)) }
    }

    pub(crate) fn now(&self, id: Clockid) -> u64 {
        match self {
            Clock::Host { origin } => {
                let now = nanoseconds(clock_gettime(id.host()));
                if id == Clockid::Monotonic { now - origin } else { now }
            }
            Clock::Virtual { start, elapsed } => {
                let now = elapsed.fetch_add(VIRTUAL_TICK, Ordering::Relaxed);
                if id == Clockid::Realtime { start.saturating_add(now) } else { now }
            }
        }
    }

    fn resolution(&self, id: Clockid) -> u64 {
        match self {
            Clock::Host { .. } => nanoseconds(clock_getres(id.host())),
            Clock::Virtual { .. } => VIRTUAL_TICK,
        }
    }
}

/// `clock_res_get`: the resolution of a clock.
pub(crate) fn clock_res_get(
    wasi: &Wasi,
    memory: &mut LinearMemory<'_>,
    id: Bits,
    resolution: Pointer,
) -> Result<(), Errno> {
    let id = Clockid::decode(id)?;
    let value = wasi.lock()?.clock.resolution(id);
    memory.store_u64(resolution, value)
}

/// `clock_time_get`: the time on a clock.
pub(crate) fn clock_time_get(
    wasi: &Wasi,
    memory: &mut LinearMemory<'_>,
    id: Bits,
    _precision: Timestamp,
    time: Pointer,
) -> Result<(), Errno> {
    let id = Clockid::decode(id)?;
    let value = wasi.lock()?.clock.now(id);
    memory.store_u64(time, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_monotonic_clock_starts_at_zero() {
        let clock = Clock::host();
        let first = clock.now(Clockid::Monotonic);
        assert!(first < 60_000_000_000);
        assert!(clock.now(Clockid::Monotonic) >= first);
        assert!(clock.now(Clockid::Realtime) > 1_700_000_000_000_000_000);
        assert!(clock.resolution(Clockid::ThreadCpuTime) > 0);
    }

    #[test]
    fn virtual_time_moves_by_reading() {
        let clock = Clock::Virtual { start: 5_000_000_000, elapsed: Arc::default() };
        assert_eq!(clock.now(Clockid::Monotonic), 0);
        assert_eq!(clock.now(Clockid::Realtime), 5_000_001_000);
    }
}
