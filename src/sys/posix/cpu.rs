//! How many processors the process may use, for which POSIX has no limits of its own.

/// Processors of the machine.
pub(crate) fn affinity() -> Option<usize> {
    std::thread::available_parallelism().ok().map(std::num::NonZero::get)
}

/// There are no quotas.
pub(crate) fn cpu_quota() -> Option<f64> {
    None
}
