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
    let bytes = &mut memory.bytes_mut(buffer, len)?[done..];
    let is_last = bytes.len() <= PIECE;
    let piece = if is_last { bytes } else { &mut bytes[..PIECE] };
    // Without the environment's lock: a piece takes a while.
    let random = wasi.lock()?.random.clone();
    match random {
        Random::Seeded(generator) => lock(&generator).fill_bytes(piece),
        Random::Host => rand::rng().fill_bytes(piece),
    }
    if is_last {
        return Ok(());
    }
    wasi.attempts.keep(Transferred { total: done + PIECE, ..Transferred::default() });
    Err(wasi.attempts.pause())
}
