//! The queue of jobs for the compiler: bounded, the most urgent first; jobs that went cold are dropped.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::ModuleTier;
use super::load::Load;
use super::policy;
use crate::jit::CodeEntry;

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
    /// Byte offsets of the loops at which the function's code gets entries as well.
    pub loops: Vec<u32>,
    /// Whether the interpreter's frame has scratch slots; only set if `loops` is not empty.
    pub wide_slots: bool,
    /// If the job is to replace native code with OSR entries by code without.
    improves: Option<Improves>,
    /// Whether only earlier runs say that the function is hot.
    pub is_known: bool,
    /// Units that the function or loop has run for, those in earlier runs included.
    pub heat: u64,
    /// Bytes of the function's body.
    pub size: u64,
    /// When the function or loop was last found hot.
    last: Instant,
}

impl Job {
    pub fn new(module: &ModuleTier, key: Key) -> Self {
        let size = module.size(key.defined) as u64;
        Job {
            module: module.this.clone(),
            key,
            loops: Vec::new(),
            wide_slots: false,
            improves: None,
            is_known: false,
            heat: 0,
            size,
            last: Instant::now(),
        }
    }

    /// The module, if it is still there.
    pub fn module(&self) -> Option<Arc<ModuleTier>> {
        self.module.upgrade()
    }

    /// Makes this a job to replace native code that has OSR entries, in which the program spends about this share of its
    /// time since it had used so much processor time.
    pub fn improve(self, share: f64, since: Duration) -> Self {
        Job { loops: Vec::new(), improves: Some(Improves { share, since }), ..self }
    }

    /// Whether the compiler takes long for it, and it only improves native code.
    pub fn is_long(&self) -> bool {
        self.improves.is_some() && self.size > LONG
    }

    /// Nanoseconds in code with OSR entries, if the job is to replace that.
    fn spent(&self, now: Duration) -> Option<f64> {
        let Improves { share, since } = self.improves.as_ref()?;
        Some(now.saturating_sub(*since).as_nanos() as f64 * share)
    }

    /// How much compiling gains, relative to its cost; less and less of what was not found hot again.
    fn urgency(&self, (at, used): At) -> f64 {
        let saved = match self.spent(used) {
            Some(spent) => policy::saved_by_improving(spent),
            None if self.is_known => policy::saved(self.heat),
            None => policy::saved(self.heat) / (1.0 + at.duration_since(self.last).div_duration_f64(COOLING)),
        };
        saved / (self.size + policy::FIXED_COST) as f64
    }

    fn pays(&self, now: Duration, load: &Load) -> bool {
        self.spent(now).is_none_or(|spent| policy::improving_pays(load, self.size, spent))
    }
}

/// The time, and the processor time of the process.
type At = (Instant, Duration);

/// How hot the code is that a job is to replace by better code.
struct Improves {
    /// The share of the program's time that it takes.
    share: f64,
    /// The processor time of the process when the code was published.
    since: Duration,
}

/// Bytes of a body that take the compiler some 10 ms.
const LONG: u64 = 8 << 10;

/// The most jobs that wait. The hottest 4096 functions keep a compiler busy for seconds.
const CAPACITY: usize = 4096;

/// A job that was not found hot again for so long is half as urgent.
const COOLING: Duration = Duration::from_millis(50);

/// A job that was not found hot again for so long has gone cold.
const COLD: Duration = Duration::from_millis(500);

/// What decides which job is next.
pub(super) struct Now<'a> {
    pub load: &'a Load,
    /// The processor time of the process.
    pub used: Duration,
    /// Whether functions are compiled that only earlier runs say are hot.
    pub may_prepare: bool,
}

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
        let at = (job.last, job.improves.as_ref().map_or(Duration::ZERO, |improves| improves.since));
        if job.improves.is_some() {
            self.better.push(job);
        } else {
            self.first.insert(job.key, job);
        }
        if self.len() <= CAPACITY {
            return None;
        }
        // Jobs that only improve native code are removed first.
        let least = (0..self.better.len()).min_by(|a, b| compare(&self.better[*a], &self.better[*b], at));
        if let Some(least) = least {
            return Some(self.better.swap_remove(least));
        }
        let least = self.first.values().min_by(|a, b| compare(a, b, at))?.key;
        self.first.remove(&least)
    }

    /// Records that the function or loop of a waiting job has run for so many units more, and whether compiling it pays
    /// by what it has run for in this run; returns the job.
    pub fn warm(&mut self, key: Key, units: u32, pays: bool) -> Option<&mut Job> {
        let job = self.first.get_mut(&key)?;
        job.heat += u64::from(units);
        job.is_known &= !pays;
        job.last = Instant::now();
        Some(job)
    }

    /// Removes a waiting job.
    pub fn withdraw(&mut self, key: Key) -> Option<Job> {
        self.first.remove(&key)
    }

    /// Removes and returns the most urgent job that pays. Jobs that have gone cold are moved to `cold` before. Long jobs
    /// are left for [`take_long`](Self::take_long) if nothing waits for its first native code: they would keep the
    /// compiler busy when something comes.
    pub fn take(&mut self, cold: &mut Vec<Job>, now: &Now<'_>) -> Option<Job> {
        let at = (Instant::now(), now.used);
        let is_cold = |job: &Job| !job.is_known && at.0.duration_since(job.last) > COLD;
        cold.extend(self.first.extract_if(|_, job| is_cold(job)).map(|(_, job)| job));
        let first = self.first.values().filter(|job| now.may_prepare || !job.is_known);
        let first = first.max_by(|a, b| compare(a, b, at));
        let is_candidate = |job: &Job| (first.is_some() || !job.is_long()) && job.pays(now.used, now.load);
        let better = (0..self.better.len()).filter(|at| is_candidate(&self.better[*at]));
        let better = better.max_by(|a, b| compare(&self.better[*a], &self.better[*b], at));
        match (first, better) {
            (Some(first), Some(index)) if compare(&self.better[index], first, at).is_gt() => {
                Some(self.better.swap_remove(index))
            }
            (Some(first), _) => {
                let key = first.key;
                self.first.remove(&key)
            }
            (None, Some(at)) => Some(self.better.swap_remove(at)),
            (None, None) => None,
        }
    }

    /// Removes and returns the most urgent long job that pays, if nothing waits for its first native code.
    pub fn take_long(&mut self, now: &Now<'_>) -> Option<Job> {
        if !self.first.is_empty() {
            return None;
        }
        let time = (Instant::now(), now.used);
        let is_candidate = |job: &Job| job.is_long() && job.pays(now.used, now.load);
        let long = (0..self.better.len()).filter(|at| is_candidate(&self.better[*at]));
        let at = long.max_by(|a, b| compare(&self.better[*a], &self.better[*b], time))?;
        Some(self.better.swap_remove(at))
    }

    /// Whether there are long jobs, and nothing that comes before them.
    pub fn is_time_for_long(&self) -> bool {
        self.first.is_empty() && self.better.iter().any(Job::is_long)
    }

    /// Whether jobs wait for their first native code.
    pub fn has_first(&self) -> bool {
        !self.first.is_empty()
    }

    pub fn len(&self) -> usize {
        self.first.len() + self.better.len()
    }
}

/// Compares how urgent two jobs are.
fn compare(a: &Job, b: &Job, at: At) -> std::cmp::Ordering {
    a.urgency(at).total_cmp(&b.urgency(at))
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

    const SECOND: Duration = Duration::from_secs(1);

    /// What is seen on two idle cores, after some seconds.
    fn idle(load: &Load, seconds: u32) -> Now<'_> {
        Now { load, used: seconds * SECOND, may_prepare: false }
    }

    fn taken(queue: &mut Queue, now: &Now<'_>) -> Vec<u32> {
        let mut cold = Vec::new();
        std::iter::from_fn(|| queue.take(&mut cold, now)).map(|job| job.key.defined).collect()
    }

    /// What saves most for what it costs comes first: a large hot function before small ones that are less hot.
    #[test]
    fn the_most_urgent_comes_first() {
        let module = Module::new(&Engine::default(), "(module (func) (func) (func))").unwrap();
        let (mut queue, load) = (Queue::default(), Load::new(2.0));
        for (defined, size) in [(0, 1000), (1, 100), (2, 10_000)] {
            assert!(queue.add(Job { heat: 10_000, ..job(&module, defined, size) }).is_none());
        }
        let key = Key::new(&module.0.tier, 2, CodeEntry::Function);
        for _ in 0..200 {
            queue.warm(key, 20_000, true).unwrap();
        }
        assert!(queue.warm(Key { defined: 3, ..key }, 20_000, true).is_none());
        assert_eq!(taken(&mut queue, &idle(&load, 0)), [2, 1, 0]);
    }

    /// What is hot now comes before what was as hot for its size a while ago, as at the program's start.
    #[test]
    fn what_cools_is_less_urgent() {
        let module = Module::new(&Engine::default(), "(module (func) (func))").unwrap();
        let (mut queue, load) = (Queue::default(), Load::new(2.0));
        let before = Instant::now().checked_sub(4 * COOLING).expect("the system has been up for a second");
        queue.add(Job { heat: 20_000, last: before, ..job(&module, 0, 100) });
        queue.add(Job { heat: 10_000, ..job(&module, 1, 100) });
        assert_eq!(taken(&mut queue, &idle(&load, 0)), [1, 0]);
    }

    /// Native code is replaced only when that pays, and the code that the program spends most time in first.
    #[test]
    fn improvements_wait_until_they_pay() {
        let module = Module::new(&Engine::default(), "(module (func) (func) (func))").unwrap();
        let (mut queue, load) = (Queue::default(), Load::new(2.0));
        for (defined, share) in [(0, 0.1), (1, 0.5), (2, 0.0)] {
            assert!(queue.add(job(&module, defined, 5000).improve(share, SECOND)).is_none());
        }
        assert_eq!(taken(&mut queue, &idle(&load, 1)), [0; 0]);
        assert_eq!(taken(&mut queue, &idle(&load, 20)), [1, 0]);
        // On one core it takes longer.
        let one = Load::new(1.0);
        queue.add(job(&module, 0, 100_000).improve(0.001, SECOND));
        let mut cold = Vec::new();
        assert!(queue.take_long(&idle(&one, 100)).is_none() && queue.take(&mut cold, &idle(&one, 100)).is_none());
        assert_eq!(queue.take_long(&idle(&load, 100)).map(|job| job.key.defined), Some(0));
    }

    /// Long jobs that only improve native code are left to a thread of their own when nothing else waits.
    #[test]
    fn what_takes_long_is_left() {
        let module = Module::new(&Engine::default(), "(module (func) (func) (func))").unwrap();
        let (mut queue, load) = (Queue::default(), Load::new(2.0));
        let now = idle(&load, 100);
        queue.add(job(&module, 0, LONG + 1).improve(0.5, SECOND));
        queue.add(job(&module, 1, LONG).improve(0.5, SECOND));
        queue.add(job(&module, 2, 1 << 20));
        assert!(!queue.is_time_for_long() && queue.take_long(&now).is_none());
        // Both improvements are more urgent than so large a function.
        assert_eq!(taken(&mut queue, &now), [1, 0, 2]);
        queue.add(job(&module, 0, LONG + 1).improve(0.5, SECOND));
        assert_eq!(taken(&mut queue, &now), [0; 0]);
        assert!(queue.is_time_for_long());
        assert_eq!(queue.take_long(&now).map(|job| job.key.defined), Some(0));
    }

    /// Functions that only earlier runs say are hot wait until there is time for them; what is hot in this run does not.
    #[test]
    fn what_earlier_runs_say_waits_its_time() {
        let module = Module::new(&Engine::default(), "(module (func) (func) (func))").unwrap();
        let (mut queue, load) = (Queue::default(), Load::new(2.0));
        let long_ago = Instant::now().checked_sub(2 * COLD).expect("the system has been up for a second");
        for (defined, heat) in [(0, 50_000), (1, 90_000), (2, 70_000)] {
            queue.add(Job { is_known: true, heat, last: long_ago, ..job(&module, defined, 100) });
        }
        let mut cold = Vec::new();
        assert!(queue.take(&mut cold, &idle(&load, 1)).is_none() && cold.is_empty());
        queue.warm(Key::new(&module.0.tier, 0, CodeEntry::Function), 5, false).unwrap();
        assert_eq!(taken(&mut queue, &idle(&load, 1)), [0; 0]);
        queue.warm(Key::new(&module.0.tier, 0, CodeEntry::Function), 5, true).unwrap();
        assert_eq!(taken(&mut queue, &idle(&load, 1)), [0]);
        assert_eq!(taken(&mut queue, &Now { may_prepare: true, ..idle(&load, 1) }), [1, 2]);
    }

    #[test]
    fn what_is_cold_is_dropped_and_the_rest_bounded() {
        let module = Module::new(&Engine::default(), "(module (func) (func))").unwrap();
        let (mut queue, load) = (Queue::default(), Load::new(2.0));
        let long_ago = Instant::now().checked_sub(2 * COLD).expect("the system has been up for a second");
        queue.add(Job { last: long_ago, ..job(&module, 0, 100) });
        queue.add(Job { last: long_ago, ..job(&module, 1, 100).improve(0.5, SECOND) });
        let mut cold = Vec::new();
        assert_eq!(queue.take(&mut cold, &idle(&load, 100)).map(|job| job.key.defined), Some(1));
        assert_eq!(cold.iter().map(|job| job.key.defined).collect::<Vec<_>>(), [0]);
        for defined in 0..CAPACITY as u32 {
            assert!(queue.add(Job { heat: 1000, ..job(&module, defined, 100) }).is_none());
        }
        let one_more = Job { heat: 1000, ..job(&module, 9999, 200) };
        assert_eq!(queue.add(one_more).map(|job| job.key.defined), Some(9999));
        let improvement = job(&module, 9, 1).improve(0.5, SECOND);
        assert_eq!(queue.add(improvement).map(|job| job.improves.is_some()), Some(true));
        assert_eq!(queue.len(), CAPACITY);
    }
}
