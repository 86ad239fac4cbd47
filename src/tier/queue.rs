//! What waits to be compiled: bounded, the hottest first, what has gone cold dropped.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::policy::{self, NEXT_BUDGET};
use crate::jit::{Entry, Tier};
use crate::module::{Module, ModuleInner};

/// What a job is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// The address of the module.
    pub module: usize,
    pub defined: u32,
    pub entry: Entry,
}

impl Key {
    pub fn new(module: &ModuleInner, defined: u32, entry: Entry) -> Self {
        Key { module: std::ptr::from_ref(module) as usize, defined, entry }
    }
}

/// One entry of a function that is to be compiled.
pub(super) struct Job {
    /// Compiling must not keep a module that nobody else needs.
    module: Weak<ModuleInner>,
    pub key: Key,
    pub tier: Tier,
    /// Loops that a function is to be entered at as well, by byte offset.
    pub loops: Vec<u32>,
    /// Whether the interpreter's frame has scratch slots; known if there are such loops.
    pub far: bool,
    /// Whether there is native code already.
    improves: bool,
    /// Units it has been interpreted for since it was found hot.
    heat: u64,
    /// Bytes of its body.
    size: u64,
    /// When it was last found hot.
    last: Instant,
}

impl Job {
    pub fn new(module: &Module, key: Key) -> Self {
        let size = module.0.bodies[key.defined as usize].len() as u64;
        let module = Arc::downgrade(&module.0);
        Job {
            module,
            key,
            tier: Tier::Best,
            loops: Vec::new(),
            far: false,
            improves: false,
            heat: 0,
            size,
            last: Instant::now(),
        }
    }

    /// The module, if it is still there.
    pub fn module(&self) -> Option<Arc<ModuleInner>> {
        self.module.upgrade()
    }

    /// The same function again, with best settings, after it has been compiled quickly.
    pub fn improve(&self) -> Self {
        let (module, loops) = (self.module.clone(), self.loops.clone());
        Job { module, loops, tier: Tier::Best, improves: true, ..*self }
    }

    /// What compiling gains for what it costs.
    fn urgency(&self) -> u64 {
        let gain = if self.improves { 1024 / NATIVE_GAIN } else { 1024 };
        (self.heat + HEAD_START) * gain / (self.size + FIXED_COST)
    }
}

/// By so much more does native code of any kind gain than best code does where there is quick code.
const NATIVE_GAIN: u64 = 8;

/// Heat of a job that has just come.
const HEAD_START: u64 = 20_000;

/// What compiling costs besides what grows with the body, in bytes of body.
const FIXED_COST: u64 = 100;

/// The most jobs that wait. The hottest 4096 functions keep a compiler busy for seconds.
const CAPACITY: usize = 4096;

/// After this long without having been found hot, a job has gone cold.
const COLD: Duration = Duration::from_millis(500);

#[derive(Default)]
pub(super) struct Queue(Vec<Job>);

impl Queue {
    /// Adds a job. What is returned has no place: the least urgent job, if there are too many.
    pub fn add(&mut self, job: Job) -> Option<Job> {
        self.0.push(job);
        if self.0.len() <= CAPACITY {
            return None;
        }
        let least = (0..self.0.len()).min_by_key(|at| self.0[*at].urgency())?;
        Some(self.0.swap_remove(least))
    }

    /// Takes note that a waiting job has been found hot once more; gives the job.
    pub fn warm(&mut self, key: Key) -> Option<&mut Job> {
        let job = self.0.iter_mut().find(|job| job.key == key)?;
        job.heat += NEXT_BUDGET;
        job.last = Instant::now();
        Some(job)
    }

    /// Takes the most urgent job out, after those that have gone cold, which are put into `cold`.
    pub fn take(&mut self, cold: &mut Vec<Job>) -> Option<Job> {
        let now = Instant::now();
        // What has native code is not found hot any more.
        cold.extend(self.0.extract_if(.., |job| !job.improves && now.duration_since(job.last) > COLD));
        let most = (0..self.0.len()).max_by_key(|at| self.0[*at].urgency())?;
        let mut job = self.0.swap_remove(most);
        if !job.improves {
            job.tier = policy::tier(&job, self.bytes());
        }
        Some(job)
    }

    /// Bytes of the bodies that wait for their first native code.
    fn bytes(&self) -> u64 {
        self.0.iter().filter(|job| !job.improves).map(|job| job.size).sum()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Engine;

    fn job(module: &Module, defined: u32, size: u64) -> Job {
        Job { size, ..Job::new(module, Key::new(&module.0, defined, Entry::Function)) }
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
            queue.warm(Key::new(&module.0, 2, Entry::Function)).unwrap();
        }
        assert!(queue.warm(Key::new(&module.0, 3, Entry::Function)).is_none());
        assert_eq!(taken(&mut queue), [(2, Tier::Best), (1, Tier::Best), (0, Tier::Best)]);
    }

    #[test]
    fn much_is_compiled_quickly_first() {
        let module = Module::new(&Engine::default(), "(module (func) (func))").unwrap();
        let mut queue = Queue::default();
        let better = job(&module, 0, 100).improve();
        queue.add(job(&module, 0, 1000));
        queue.add(job(&module, 1, 1 << 30));
        queue.add(better);
        assert_eq!(taken(&mut queue), [(0, Tier::Quick), (0, Tier::Best), (1, Tier::Best)]);
    }

    #[test]
    fn what_is_cold_is_dropped_and_the_rest_bounded() {
        let module = Module::new(&Engine::default(), "(module (func) (func))").unwrap();
        let mut queue = Queue::default();
        let long_ago = Instant::now().checked_sub(2 * COLD).expect("the system has been up for a second");
        queue.add(Job { last: long_ago, ..job(&module, 0, 100) });
        queue.add(Job { last: long_ago, ..job(&module, 1, 100).improve() });
        let mut cold = Vec::new();
        assert_eq!(queue.take(&mut cold).map(|job| job.key.defined), Some(1));
        assert_eq!(cold.iter().map(|job| job.key.defined).collect::<Vec<_>>(), [0]);
        for _ in 0..CAPACITY {
            assert!(queue.add(job(&module, 0, 100)).is_none());
        }
        assert_eq!(queue.add(job(&module, 1, 200)).map(|job| job.key.defined), Some(1));
        assert_eq!(queue.len(), CAPACITY);
    }
}
