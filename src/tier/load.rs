//! What the compiling threads see of the machine: the processor time that they get, and how fast they compile.

use std::time::Duration;

use super::policy;

/// Work that was done longer ago than this counts less and less, so that a change of the machine's load is seen.
const WINDOW: Duration = Duration::from_millis(100);

/// Bytes of bodies from which on the measured rate counts more than the expected one.
const FEW_BYTES: f64 = 64.0 * 1024.0;

/// A sum of measurements.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Compiled {
    /// Bytes of the functions' bodies.
    pub bytes: u64,
    /// Processor time that compiling took.
    pub cpu: Duration,
    /// Time that passed meanwhile.
    pub wall: Duration,
}

/// What is known of the machine in this run.
#[derive(Clone, Debug)]
pub(super) struct Load {
    /// Processors that the process may use at once: by its affinity and by the quota of its control group.
    cores: f64,
    /// Seconds of processor time and of wall time that compiling took lately.
    lately: (f64, f64),
    /// Bytes compiled in this run, and the nanoseconds of processor time for them.
    rate: (f64, f64),
}

impl Load {
    pub fn new(cores: f64) -> Self {
        Load { cores, lately: (0.0, 0.0), rate: (FEW_BYTES, FEW_BYTES * policy::COMPILE) }
    }

    /// Adds a measurement.
    pub fn add(&mut self, compiled: Compiled) {
        if self.lately.1 > WINDOW.as_secs_f64() {
            self.lately = (self.lately.0 / 2.0, self.lately.1 / 2.0);
        }
        self.lately.0 += compiled.cpu.as_secs_f64();
        self.lately.1 += compiled.wall.as_secs_f64();
        self.rate.0 += compiled.bytes as f64;
        self.rate.1 += compiled.cpu.as_nanos() as f64;
    }

    /// The share of a processor that a compiling thread gets without taking it from the program, from 0 to 1.
    pub fn spare(&self) -> f64 {
        let (cpu, wall) = self.lately;
        let got = if wall > 0.0 { cpu / wall } else { 1.0 };
        got.min(self.cores - 1.0).clamp(0.0, 1.0)
    }

    /// Nanoseconds of processor time that compiling takes for a byte of a body.
    pub fn rate(&self) -> f64 {
        self.rate.1 / self.rate.0
    }

    /// Whole processors besides the program's that compiling threads can have.
    pub fn spare_cores(&self) -> usize {
        if self.spare() < policy::CONTENDED { 1 } else { ((self.cores - 1.0) as usize).max(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_single_core_has_nothing_to_spare() {
        assert_eq!(Load::new(1.0).spare(), 0.0);
        assert_eq!(Load::new(0.2).spare(), 0.0);
        assert_eq!(Load::new(1.5).spare(), 0.5);
        assert_eq!((Load::new(4.0).spare(), Load::new(4.0).spare_cores()), (1.0, 3));
    }

    /// Other processes come and go, and the share of a processor that is left follows.
    #[test]
    fn what_was_long_ago_counts_less() {
        let mut load = Load::new(2.0);
        for _ in 0..100 {
            load.add(Compiled { bytes: 100, cpu: 3 * MS, wall: 10 * MS });
        }
        assert!((load.spare() - 0.3).abs() < 0.01 && load.spare_cores() == 1, "{load:?}");
        for _ in 0..100 {
            load.add(Compiled { bytes: 100, cpu: 10 * MS, wall: 10 * MS });
        }
        assert!(load.spare() > 0.99, "{load:?}");
    }

    #[test]
    fn the_rate_is_measured() {
        let mut load = Load::new(2.0);
        assert_eq!(load.rate(), policy::COMPILE);
        load.add(Compiled { bytes: 10 << 20, cpu: Duration::from_nanos(300 * (10 << 20)), wall: 10 * MS });
        assert!((load.rate() - 300.0).abs() < 10.0, "{load:?}");
    }
}
