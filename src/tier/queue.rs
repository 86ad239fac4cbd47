//! The queue of jobs for the compiler: bounded, the most urgent first; jobs that went cold are dropped.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::ModuleTier;
use super::policy::{self, NEXT_BUDGET};
use crate::jit::{CodeEntry, Tier};

/// Identifies a job: the entry of a function of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The address of the module.
    pub module: usize,
    pub defined: u32,
    pub entry: CodeEntry,
}

impl Key {
    pub fn new(module: &ModuleTier, defined: u32, entry: CodeEntry) -> Self {
        Key { module: std::ptr::from_ref(module) as usize, defined, entry }
    }
}

/// An entry of a function that is to be compiled.
pub(super) struct Job {
    /// Weak, as compiling must not keep a module that nobody else needs.
    module: Weak<ModuleTier>,
    pub key: Key,
    pub tier: Tier,
    /// Byte offsets of the loops at which the function's code gets entries as well.
    pub loops: Vec<u32>,
    /// Whether the interpreter's frame has scratch slots; only set if `loops` is not empty.
    pub wide_slots: bool,
    /// If the job is to replace native code by better code: how hot that code is.
    improves: Option<Improves>,
    /// Units that the function or loop has run for since the job was made.
    pub heat: u64,
    /// Bytes of the function's body.
    size: u64,
    /// Whether earlier runs have left code for the module.
    pub later_run: bool,
    /// When the function or loop was last found hot.
    last: Instant,
}

impl Job {
    pub fn new(module: &ModuleTier, key: Key) -> Self {
        let size = module.facts.bodies[key.defined as usize].len() as u64;
        Job {
            module: module.this.clone(),
            key,
            tier: Tier::Best,
            loops: Vec::new(),
            wide_slots: false,
            improves: None,
            heat: 0,
            size,
            later_run: policy::is_later_run(module),
            last: Instant::now(),
        }
    }

    /// The module, if it is still there.
    pub fn module(&self) -> Option<Arc<ModuleTier>> {
        self.module.upgrade()
    }

    /// Makes this a job to replace native code of tier `from` by the best. `counted` has the units that quick code of
    /// each function has run.
    pub fn improve(self, from: Tier, counted: Arc<[AtomicU32]>) -> Self {
        let heat = if from == Tier::BestWithLoops { WITH_LOOPS_HEAT } else { 0 };
        let seen = counted[self.key.defined as usize].load(Ordering::Relaxed);
        Job { loops: Vec::new(), tier: Tier::Best, improves: Some(Improves { counted, seen }), heat, ..self }
    }

    /// Units it has run for, including about those that made it hot.
    pub fn all_heat(&self) -> u64 {
        self.heat + HEAD_START
    }

    /// Adds what quick code has run since the last look to the heat.
    fn look(&mut self) {
        if let Some(Improves { counted, seen }) = &mut self.improves {
            let now = counted[self.key.defined as usize].load(Ordering::Relaxed);
            self.heat += u64::from(now.wrapping_sub(*seen));
            *seen = now;
        }
    }

    /// Whether the compiler takes long for it, and it only improves native code.
    pub fn is_long(&self) -> bool {
        self.improves.is_some() && self.size > LONG
    }

    /// How much compiling gains, relative to its cost.
    fn urgency(&self) -> u64 {
        let gain = match self.improves {
            Some(_) => self.heat * 1024 / NATIVE_GAIN,
            None => self.all_heat() * 1024,
        };
        gain / (self.size + FIXED_COST)
    }
}

/// How hot the code is that a job is to replace by better code.
struct Improves {
    /// Units that quick code of each of the module's functions has run, modulo 2^32.
    counted: Arc<[AtomicU32]>,
    /// The value for this function at the last look.
    seen: u32,
}

/// How many times as much a function gains, for each unit it runs, by its first native code as by the replacement of
/// quick code with best code: quick code takes a third of the time, and best code half of that.
const NATIVE_GAIN: u64 = 8;

/// Heat of a new job: about what it took to be found hot. With more, small functions come before hot ones; with 20,000
/// CPython's script took 9 % longer.
const HEAD_START: u64 = 1_000;

/// Heat of a function whose code has loop entries: it is hotter than most, and that code costs it more than quick code
/// would.
const WITH_LOOPS_HEAT: u64 = 200_000;

/// Bytes of a body that take the compiler some 10 ms at best settings.
const LONG: u64 = 8 << 10;

/// The part of the cost of compiling that does not grow with the body, as bytes of body.
const FIXED_COST: u64 = 100;

/// The most jobs that wait. The hottest 4096 functions keep a compiler busy for seconds.
const CAPACITY: usize = 4096;

/// A job that was not found hot again for so long has gone cold.
const COLD: Duration = Duration::from_millis(500);

#[derive(Default)]
pub(super) struct Queue {
    /// Jobs for functions and loops that have no native code yet.
    first: HashMap<Key, Job>,
    /// Jobs to improve native code.
    better: Vec<Job>,
}

impl Queue {
    /// Adds a job. If there are too many, the least urgent job is removed and returned.
    pub fn add(&mut self, job: Job) -> Option<Job> {
        if job.improves.is_some() {
            self.better.push(job);
        } else {
            self.first.insert(job.key, job);
        }
        if self.len() <= CAPACITY {
            return None;
        }
        // Jobs that only improve native code are removed first.
        let least = (0..self.better.len()).min_by_key(|at| self.better[*at].urgency());
        if let Some(least) = least {
            return Some(self.better.swap_remove(least));
        }
        let least = self.first.values().min_by_key(|job| job.urgency())?.key;
        self.first.remove(&least)
    }

    /// Records that the function or loop of a waiting job was found hot again; returns the job.
    pub fn warm(&mut self, key: Key) -> Option<&mut Job> {
        let job = self.first.get_mut(&key)?;
        job.heat += NEXT_BUDGET;
        job.last = Instant::now();
        Some(job)
    }

    /// Removes a waiting job.
    pub fn withdraw(&mut self, key: Key) -> Option<Job> {
        self.first.remove(&key)
    }

    /// Removes and returns the most urgent job. Jobs that have gone cold are moved to `cold` before. LongThread jobs
    /// are left for [`take_long`](Self::take_long) if nothing waits for its first native code: they would keep the
    /// compiler busy when something comes.
    pub fn take(&mut self, cold: &mut Vec<Job>) -> Option<Job> {
        let now = Instant::now();
        cold.extend(self.first.extract_if(|_, job| now.duration_since(job.last) > COLD).map(|(_, job)| job));
        let first = self.first.values().max_by_key(|job| job.urgency()).map(|job| (job.urgency(), job.key));
        self.better.iter_mut().for_each(Job::look);
        let leave = |job: &Job| first.is_none() && job.is_long();
        let better = (0..self.better.len()).filter(|at| !leave(&self.better[*at]));
        let better = better.max_by_key(|at| self.better[*at].urgency());
        match (first, better) {
            (Some((urgency, _)), Some(at)) if self.better[at].urgency() > urgency => Some(self.better.swap_remove(at)),
            (Some((_, key)), _) => {
                let mut job = self.first.remove(&key)?;
                job.tier = policy::tier(&job, self.bytes(), self.heat());
                Some(job)
            }
            (None, Some(at)) => Some(self.better.swap_remove(at)),
            (None, None) => None,
        }
    }

    /// Removes and returns the most urgent long job, if nothing waits for its first native code.
    pub fn take_long(&mut self) -> Option<Job> {
        if !self.first.is_empty() {
            return None;
        }
        let long = (0..self.better.len()).filter(|at| self.better[*at].is_long());
        let at = long.max_by_key(|at| self.better[*at].urgency())?;
        Some(self.better.swap_remove(at))
    }

    /// Whether there are long jobs.
    fn has_long(&self) -> bool {
        self.better.iter().any(Job::is_long)
    }

    /// Whether [`take_long`](Self::take_long) would return a job.
    pub fn is_time_for_long(&self) -> bool {
        self.first.is_empty() && self.has_long()
    }

    /// Bytes of the bodies that wait for their first native code.
    fn bytes(&self) -> u64 {
        self.first.values().map(|job| job.size).sum()
    }

    /// The heat of the jobs that wait for their first native code.
    fn heat(&self) -> u64 {
        self.first.values().map(Job::all_heat).sum()
    }

    pub fn len(&self) -> usize {
        self.first.len() + self.better.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Engine, Module};

    /// A job of function `defined`, which need not exist.
    fn job(module: &Module, defined: u32, size: u64) -> Job {
        let key = Key::new(&module.0.tier, defined, CodeEntry::Function);
        Job { key, size, ..Job::new(&module.0.tier, Key { defined: 0, ..key }) }
    }

    fn no_heat() -> Arc<[AtomicU32]> {
        std::iter::repeat_with(AtomicU32::default).take(10).collect()
    }

    fn taken(queue: &mut Queue) -> Vec<(u32, Tier)> {
        let mut cold = Vec::new();
        std::iter::from_fn(|| queue.take(&mut cold)).map(|job| (job.key.defined, job.tier)).collect()
    }

    #[test]
    fn the_most_urgent_comes_first() {
        let module = Module::new(&Engine::default(), "(module (func) (func) (func))").unwrap();
        let mut queue = Queue::default();
        for (defined, size) in [(0, 1000), (1, 100), (2, 10_000)] {
            assert!(queue.add(job(&module, defined, size)).is_none());
        }
        for _ in 0..200 {
            queue.warm(Key::new(&module.0.tier, 2, CodeEntry::Function)).unwrap();
        }
        assert!(queue.warm(Key::new(&module.0.tier, 3, CodeEntry::Function)).is_none());
        assert_eq!(taken(&mut queue), [(2, Tier::Best), (1, Tier::Best), (0, Tier::Best)]);
    }

    #[test]
    fn much_is_compiled_quickly_first() {
        let module = Module::new(&Engine::default(), "(module (func) (func) (func))").unwrap();
        let mut queue = Queue::default();
        let mut add = |defined, size, warmth| {
            queue.add(job(&module, defined, size));
            for _ in 0..warmth {
                queue.warm(Key::new(&module.0.tier, defined, CodeEntry::Function)).unwrap();
            }
        };
        // The first is hotter than all others together, and is compiled at the best tier while they wait; the next is
        // not.
        add(0, 2000, 100);
        add(1, 1000, 1);
        add(2, 1 << 20, 5);
        assert_eq!(taken(&mut queue), [(0, Tier::Best), (1, Tier::Quick), (2, Tier::Best)]);
    }

    /// The hottest quick code is improved first.
    #[test]
    fn quick_code_says_how_hot_it_is() {
        let module = Module::new(&Engine::default(), "(module (func) (func) (func))").unwrap();
        let heat: Arc<[AtomicU32]> = [5, u32::MAX - 1, 0].map(AtomicU32::new).into();
        let mut queue = Queue::default();
        for defined in 0..3 {
            assert!(queue.add(job(&module, defined, 100).improve(Tier::Quick, heat.clone())).is_none());
        }
        heat[0].fetch_add(1000, Ordering::Relaxed);
        heat[1].fetch_add(5000, Ordering::Relaxed);
        assert_eq!(taken(&mut queue), [(1, Tier::Best), (0, Tier::Best), (2, Tier::Best)]);
    }

    /// LongThread jobs that only improve native code are left to a thread of their own when nothing else waits.
    #[test]
    fn what_takes_long_is_left() {
        let module = Module::new(&Engine::default(), "(module (func) (func) (func))").unwrap();
        let mut queue = Queue::default();
        queue.add(job(&module, 0, LONG + 1).improve(Tier::BestWithLoops, no_heat()));
        queue.add(job(&module, 1, LONG).improve(Tier::BestWithLoops, no_heat()));
        queue.add(job(&module, 2, 1 << 20));
        assert!(queue.has_long() && !queue.is_time_for_long() && queue.take_long().is_none());
        // Both improvements are more urgent than so large a function.
        assert_eq!(taken(&mut queue), [(1, Tier::Best), (0, Tier::Best), (2, Tier::Best)]);
        queue.add(job(&module, 0, LONG + 1).improve(Tier::BestWithLoops, no_heat()));
        assert_eq!(taken(&mut queue), []);
        assert!(queue.is_time_for_long());
        assert_eq!(queue.take_long().map(|job| job.key.defined), Some(0));
    }

    #[test]
    fn what_is_cold_is_dropped_and_the_rest_bounded() {
        let module = Module::new(&Engine::default(), "(module (func) (func))").unwrap();
        let mut queue = Queue::default();
        let long_ago = Instant::now().checked_sub(2 * COLD).expect("the system has been up for a second");
        queue.add(Job { last: long_ago, ..job(&module, 0, 100) });
        queue.add(Job { last: long_ago, ..job(&module, 1, 100).improve(Tier::Quick, no_heat()) });
        let mut cold = Vec::new();
        assert_eq!(queue.take(&mut cold).map(|job| job.key.defined), Some(1));
        assert_eq!(cold.iter().map(|job| job.key.defined).collect::<Vec<_>>(), [0]);
        for defined in 0..CAPACITY as u32 {
            assert!(queue.add(job(&module, defined, 100)).is_none());
        }
        assert_eq!(queue.add(job(&module, 9999, 200)).map(|job| job.key.defined), Some(9999));
        assert_eq!(
            queue.add(job(&module, 9, 1).improve(Tier::Quick, no_heat())).map(|job| job.improves.is_some()),
            Some(true)
        );
        assert_eq!(queue.len(), CAPACITY);
    }
}
