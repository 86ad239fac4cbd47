//! Randomness, of the host or repeatable.

use crate::runtime::linear::LinearMemory;
use crate::wasi::env::Wasi;
use crate::wasi::errno::Errno;
use crate::wasi::guest::Guest;
use crate::wasi::stream::lock;
use crate::wasi::types::{Pointer, Size};
use crate::wasi::wait::Transferred;
use rand::Rng;
use rand::rngs::StdRng;
use std::sync::{Arc, Mutex};

/// Where random bytes come from.
#[derive(Clone, Debug)]
pub(crate) enum Random {
    /// This thread's cryptographic generator, seeded by the system.
    Host,
    /// The same bytes in every run.
    Seeded(Arc<Mutex<StdRng>>),
}

/// Bytes that are filled, some milliseconds long, without a look for requests.
const PIECE: usize = 16 << 20;

/// `random_get`: fills a buffer with random bytes, in place, so that a large buffer needs no memory of the host's.
pub(crate) fn random_get(wasi: &Wasi, memory: &mut LinearMemory<'_>, buffer: Pointer, len: Size) -> Result<(), Errno> {
    let done = wasi.attempts.transferred().map_or(0, |transferred| transferred.total);
    memory.check(buffer, len, 1, 1)?;
    // Neither wraps: the end is in memory, and what was done before it.
    let (start, left) = (buffer + done as u32, len - done as u32);
    let is_last = left as usize <= PIECE;
    let piece = left.min(PIECE as u32);
    // Without the environment's lock: a piece takes a while.
    let random = wasi.lock()?.random.clone();
    match random {
        Random::Seeded(generator) => {
            let mut generator = lock(&generator);
            memory.fill_with(start, piece, |bytes| generator.fill_bytes(bytes))?;
        }
        Random::Host => memory.fill_with(start, piece, |bytes| rand::rng().fill_bytes(bytes))?,
    }
    if is_last {
        return Ok(());
    }
    wasi.attempts.keep(Transferred { total: done + PIECE, ..Transferred::default() });
    Err(wasi.attempts.pause())
}
