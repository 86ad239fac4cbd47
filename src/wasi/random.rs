//! Randomness, of the host or repeatable.

use crate::runtime::linear::LinearMemory;
use crate::wasi::env::Wasi;
use crate::wasi::errno::Errno;
use crate::wasi::guest::Guest;
use crate::wasi::stream::lock;
use crate::wasi::types::{Pointer, Size};
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

/// `random_get`: fills a buffer with random bytes, in place, so that a large buffer needs no memory of the host's.
pub(crate) fn random_get(wasi: &Wasi, memory: &mut LinearMemory<'_>, buffer: Pointer, len: Size) -> Result<(), Errno> {
    let bytes = memory.bytes_mut(buffer, len)?;
    // Without the environment's lock: gigabytes take seconds.
    let random = wasi.lock()?.random.clone();
    match random {
        Random::Seeded(generator) => lock(&generator).fill_bytes(bytes),
        Random::Host => rand::rng().fill_bytes(bytes),
    }
    Ok(())
}
