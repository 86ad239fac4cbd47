//! Sampling: which functions a store's code spends its processor time in.
//!
//! A thread of the sampler requests a sample at each interval ([`Requests::SAMPLE`](super::interrupt::Requests)). The code comes
//! to [`take`] at its next entry of a function or head of a loop, or at the next begin or end of a host function, and notes
//! which functions are running. The processor time that has passed since the last sample counts for these. Without another
//! request until a sample is taken, code that waits is not woken, and the thread rests as well.
//!
//! What is noted are the addresses of code, in a tree of calls: names are found when the sampling is over.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::activation;
use super::interrupt::Interrupts;
use super::store::StoreOpaque;
use crate::error::{Error, FrameSource, Result, UnresolvedFrame};
use crate::sys;

/// Most frames of a sample; outer ones are left out. It bounds what a sample of a deep recursion costs.
pub(crate) const MAX_FRAMES: usize = 128;

/// Most nodes of the tree of calls, and most places in code that are told apart: some tens of megabytes.
const MAX_NODES: usize = 1 << 18;

/// The longest interval, so that the time of the next sample can be computed: longer ones find as little.
const LONGEST: Duration = Duration::from_secs(1 << 30);

/// In place of an index: a place that is not told from others.
const UNKNOWN: u32 = u32::MAX;

/// What a sample found the code in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Innermost {
    /// The innermost function of the module.
    Guest,
    /// A host function that it has called.
    Host,
}

/// Requests samples of one store. The store and the owner of the thread share it.
pub(crate) struct Sampler {
    interrupts: Arc<Interrupts>,
    interval: Duration,
    /// Whether the thread rests until the last request is seen.
    rests: AtomicBool,
    is_stopped: Mutex<bool>,
    changed: Condvar,
    tree: Mutex<CallTree>,
}

impl Sampler {
    /// Begins to sample a store, in place of a sampler that it has.
    ///
    /// # Errors
    /// [`Resource`](crate::ErrorKind::Resource) if there is no thread for it.
    pub fn start(store: &mut StoreOpaque, interval: Duration) -> Result<(Arc<Sampler>, JoinHandle<()>)> {
        store.measure_cpu_time();
        let tree = CallTree::new(store.cpu_time_used());
        let sampler = Arc::new(Sampler {
            interrupts: store.interrupts.clone(),
            interval,
            rests: AtomicBool::new(false),
            is_stopped: Mutex::new(false),
            changed: Condvar::new(),
            tree: Mutex::new(tree),
        });
        let thread = thread::Builder::new().name("wasmrun sampler".into()).stack_size(64 << 10);
        let run = sampler.clone();
        let thread = thread
            .spawn(move || run.run())
            .map_err(|error| Error::resource(format!("there is no thread to take samples: {error}")))?;
        if let Some(old) = store.sampler.replace(sampler.clone()) {
            old.stop();
        }
        Ok((sampler, thread))
    }

    /// Ends the sampling; the thread ends soon.
    pub fn stop(&self) {
        *self.lock_stopped() = true;
        self.changed.notify_one();
    }

    /// What was found so far.
    pub fn calls(&self) -> Calls {
        self.tree().calls.clone()
    }

    fn tree(&self) -> MutexGuard<'_, CallTree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_stopped(&self) -> MutexGuard<'_, bool> {
        self.is_stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut random = RandomState::new().hash_one(0);
        let mut stopped = self.lock_stopped();
        while !*stopped {
            let next = Instant::now() + jittered(self.interval, &mut random);
            while !*stopped
                && let Some(wait) = next.checked_duration_since(Instant::now()).filter(|wait| !wait.is_zero())
            {
                stopped = self.changed.wait_timeout(stopped, wait).unwrap_or_else(PoisonError::into_inner).0;
            }
            // In the one order of sequentially consistent operations, either the request is taken before the look here, or
            // who takes it sees that the thread rests.
            self.interrupts.request_sample();
            self.rests.store(true, SeqCst);
            while !*stopped && self.interrupts.is_sample_pending() {
                stopped = self.changed.wait(stopped).unwrap_or_else(PoisonError::into_inner);
            }
            self.rests.store(false, SeqCst);
        }
    }

    /// Has the thread make the next request, if it waits for the last one to be taken.
    fn wake(&self) {
        if self.rests.load(SeqCst) {
            drop(self.lock_stopped());
            self.changed.notify_one();
        }
    }
}

/// Half of the interval to three halves, so that samples don't keep step with what the code repeats, but no more than
/// of [`LONGEST`].
fn jittered(interval: Duration, random: &mut u64) -> Duration {
    // Marsaglia's xorshift; zero would stay zero.
    *random |= 1 << 63;
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    interval.min(LONGEST).mul_f64(0.5 + (*random >> 11) as f64 / (1u64 << 53) as f64)
}

/// Takes the sample that was requested.
///
/// # Safety
/// As for [`poll`](super::interrupt::poll).
#[cold]
pub(super) unsafe fn take(store: *mut StoreOpaque, innermost: Innermost) {
    // SAFETY: the store is live and its code has called the host, which called this.
    unsafe {
        let Some(sampler) = (*store).sampler.clone() else { return };
        let time = (*store).cpu_time_used();
        let mut tree = sampler.tree();
        let mut stack = std::mem::take(&mut tree.stack);
        let mut is_cut = false;
        let are_known = activation::visit(store, &mut |address, frame| {
            if stack.len() == MAX_FRAMES {
                is_cut = true;
                return ControlFlow::Break(());
            }
            stack.extend(tree.place(address, frame));
            ControlFlow::Continue(())
        });
        if are_known {
            tree.add(time, &stack, is_cut, innermost);
        }
        stack.clear();
        tree.stack = stack;
        drop(tree);
        if !are_known {
            // In a runtime function that native code called: it is known again where the code goes on.
            sampler.interrupts.request_sample();
        }
        sampler.wake();
    }
}

/// Takes the sample that was requested, if one was, of code that calls a host function or to which one returns: `innermost` says
/// which of both has run until now.
///
/// # Safety
/// As for [`poll`](super::interrupt::poll), for the host function's caller.
#[inline]
pub(super) unsafe fn at_host_call(store: *mut StoreOpaque, innermost: Innermost) {
    // SAFETY: the caller's promise.
    unsafe {
        if (*store).sampler.is_some() {
            look(store, innermost);
        }
    }
}

/// # Safety
/// As for [`at_host_call`].
#[cold]
unsafe fn look(store: *mut StoreOpaque, innermost: Innermost) {
    // SAFETY: the caller's promise.
    unsafe {
        let interrupts = (*store).interrupts.clone();
        if interrupts.take_sample((*store).vm.stack_limit, (*store).vm.value_end as usize) {
            take(store, innermost);
        }
    }
}

/// Runs something on a thread that runs a store's code, for which its functions are not to blame: the compiler.
///
/// # Safety
/// `store` must be live, and nobody hold a reference to it before and after `run`.
#[cfg_attr(not(jit), allow(dead_code, reason = "only compiled code waits for the compiler"))]
pub(crate) unsafe fn compiling<R>(store: *const StoreOpaque, run: impl FnOnce() -> R) -> R {
    // SAFETY: the caller's promise.
    let Some(sampler) = (unsafe { (*store).sampler.clone() }) else { return run() };
    let begun = sys::thread_time();
    let result = run();
    sampler.tree().exclude(sys::thread_time().saturating_sub(begun));
    result
}

/// A place in code, to which samples are counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Index among the sources.
    pub source: u32,
    pub defined: u32,
    pub position: usize,
    /// Whether the function has only been entered.
    is_entry: bool,
}

/// What a node of the tree stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum NodeKind {
    /// The root of all others.
    All,
    /// A place in code, by its index.
    Place(u32),
    /// A host function that the place of the parent calls.
    Host,
    /// Frames that were left out, since there were too many.
    OuterFrames,
    /// Calls that were not told apart, since there were too many.
    OtherCalls,
    /// The compiler, as far as the code waited for it.
    Compiler,
}

/// A place with the places of the calls that have led to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    pub kind: NodeKind,
    /// Index of the caller's; 0 is the root.
    pub parent: u32,
    /// Time that was counted to this itself.
    pub time: Duration,
    pub samples: u64,
}

/// What was found: times of calls.
#[derive(Clone)]
pub(crate) struct Calls {
    pub sources: Vec<Arc<dyn FrameSource>>,
    pub places: Vec<Place>,
    /// A parent comes before its children; the first is the root.
    pub nodes: Vec<Node>,
}

/// The samples of one store.
struct CallTree {
    calls: Calls,
    /// CPU time of the store's code at the last sample.
    last: Duration,
    /// What the last sample was counted to; the root before the first.
    last_node: u32,
    /// By the address of the source.
    source_ids: HashMap<usize, u32>,
    /// By the address of the code. None for code of no function.
    place_ids: HashMap<usize, Option<u32>>,
    children: HashMap<(u32, NodeKind), u32>,
    /// The places of a sample, kept for the next.
    stack: Vec<u32>,
}

impl CallTree {
    fn new(begun: Duration) -> Self {
        let root = Node { kind: NodeKind::All, parent: 0, time: Duration::ZERO, samples: 0 };
        CallTree {
            calls: Calls { sources: Vec::new(), places: Vec::new(), nodes: vec![root] },
            last: begun,
            last_node: 0,
            source_ids: HashMap::new(),
            place_ids: HashMap::new(),
            children: HashMap::new(),
            stack: Vec::with_capacity(MAX_FRAMES),
        }
    }

    /// The index of the place of code at an address; `None` if it belongs to no function, [`UNKNOWN`] if there are too many.
    fn place(&mut self, address: usize, frame: &dyn Fn() -> Option<UnresolvedFrame>) -> Option<u32> {
        if let Some(place) = self.place_ids.get(&address) {
            return *place;
        }
        if self.place_ids.len() == MAX_NODES {
            return Some(UNKNOWN);
        }
        let place = frame().map(|UnresolvedFrame { source, defined, position }| {
            let next = self.calls.sources.len() as u32;
            let id = *self.source_ids.entry(Arc::as_ptr(&source).cast::<()>() as usize).or_insert(next);
            let is_entry = source.is_entry(defined, position);
            if id == next {
                self.calls.sources.push(source);
            }
            self.calls.places.push(Place { source: id, defined, position, is_entry });
            self.calls.places.len() as u32 - 1
        });
        self.place_ids.insert(address, place);
        place
    }

    /// Counts the time since the last sample to the places of a stack, the innermost first.
    fn add(&mut self, now: Duration, stack: &[u32], is_cut: bool, innermost: Innermost) {
        let time = now.saturating_sub(self.last);
        self.last = self.last.max(now);
        // The time has passed before a function was entered: in its caller, or in what that has called before.
        let stack = match stack {
            [entered, rest @ ..] if !rest.is_empty() && self.is_entry(*entered) => rest,
            _ => stack,
        };
        // The code was entered from the host, and nothing has run since: the time is that of the end of the call before.
        let is_begin = innermost == Innermost::Guest
            && match stack {
                [] => true,
                [place] => self.is_entry(*place),
                _ => false,
            };
        if is_begin && self.last_node != 0 {
            self.count(self.last_node, time);
            return;
        }
        let outer = is_cut.then_some(NodeKind::OuterFrames);
        let places = stack.iter().rev().map(|place| NodeKind::Place(*place));
        let host = (innermost == Innermost::Host).then_some(NodeKind::Host);
        let is_known = !stack.contains(&UNKNOWN);
        let path = is_known.then(|| outer.into_iter().chain(places).chain(host));
        let node = path.and_then(|mut path| path.try_fold(0, |node, kind| self.child(node, kind)));
        let node = node.or_else(|| self.child(0, NodeKind::OtherCalls)).unwrap_or(0);
        self.last_node = node;
        self.count(node, time);
    }

    fn is_entry(&self, place: u32) -> bool {
        self.calls.places.get(place as usize).is_some_and(|place| place.is_entry)
    }

    /// Counts time to the compiler that would otherwise count to the next sample.
    fn exclude(&mut self, time: Duration) {
        self.last += time;
        let node = self.child(0, NodeKind::Compiler).unwrap_or(0);
        self.count(node, time);
    }

    fn count(&mut self, node: u32, time: Duration) {
        let node = &mut self.calls.nodes[node as usize];
        node.time += time;
        node.samples += 1;
    }

    /// The node of what a node's place calls; `None` if there are too many. The last ones are kept for what has no caller.
    fn child(&mut self, parent: u32, kind: NodeKind) -> Option<u32> {
        const RESERVED: usize = 8;
        if let Some(child) = self.children.get(&(parent, kind)) {
            return Some(*child);
        }
        let is_special = matches!(kind, NodeKind::OtherCalls | NodeKind::Compiler);
        if self.calls.nodes.len() + if is_special { 0 } else { RESERVED } >= MAX_NODES {
            return None;
        }
        let child = self.calls.nodes.len() as u32;
        self.calls.nodes.push(Node { kind, parent, time: Duration::ZERO, samples: 0 });
        self.children.insert((parent, kind), child);
        Some(child)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Frame;

    /// Functions with one place each, but for their entry at position 0.
    struct Functions;

    impl FrameSource for Functions {
        fn resolve(&self, _: u32, _: usize) -> Frame {
            panic!("nothing is resolved while samples are taken")
        }

        fn resolve_all(&self, _: u32, _: &[usize]) -> Vec<Frame> {
            panic!("nothing is resolved while samples are taken")
        }

        fn module_id(&self) -> usize {
            0
        }

        fn is_entry(&self, _: u32, position: usize) -> bool {
            position == 0
        }

        fn import_called_at(&self, _: u32, _: usize) -> Option<(&str, &str)> {
            None
        }
    }

    struct Samples {
        tree: CallTree,
        source: Arc<dyn FrameSource>,
        now: Duration,
    }

    impl Samples {
        fn new() -> Self {
            Samples { tree: CallTree::new(Duration::ZERO), source: Arc::new(Functions), now: Duration::ZERO }
        }

        fn places(&mut self, frames: &[(u32, usize)]) -> Vec<u32> {
            let place = |(defined, position): &(u32, usize)| {
                let frame =
                    || Some(UnresolvedFrame { source: self.source.clone(), defined: *defined, position: *position });
                self.tree.place((*defined as usize) << 16 | position, &frame)
            };
            frames.iter().filter_map(place).collect()
        }

        /// A sample after a millisecond, of frames from the innermost outwards.
        fn add(&mut self, frames: &[(u32, usize)], innermost: Innermost) {
            let stack = self.places(frames);
            self.now += Duration::from_millis(1);
            self.tree.add(self.now, &stack, false, innermost);
        }

        /// The paths with time of their own, from the outermost inwards, and their milliseconds.
        fn paths(&self) -> Vec<(Vec<NodeKind>, u128)> {
            let nodes = &self.tree.calls.nodes;
            let path = |mut node: Node| {
                let mut kinds = vec![node.kind];
                while node.parent != 0 {
                    node = nodes[node.parent as usize];
                    kinds.insert(0, node.kind);
                }
                kinds
            };
            let timed = nodes.iter().filter(|node| !node.time.is_zero());
            timed.map(|node| (path(*node), node.time.as_millis())).collect()
        }
    }

    #[test]
    fn intervals_vary_around_the_one_that_was_asked_for() {
        let (interval, mut random) = (Duration::from_micros(1000), 7);
        let waits: Vec<_> = (0..1000).map(|_| jittered(interval, &mut random).as_micros()).collect();
        assert!(waits.iter().all(|wait| (500..=1500).contains(wait)));
        assert!(waits.iter().any(|wait| *wait < 600) && waits.iter().any(|wait| *wait > 1400));
        assert!((900_000..1_100_000).contains(&waits.iter().sum::<u128>()));
    }

    #[test]
    fn the_longest_interval_has_an_end() {
        assert!(Instant::now().checked_add(jittered(Duration::MAX, &mut 7)).is_some());
    }

    #[test]
    fn entered_functions_count_for_their_callers() {
        use NodeKind::{Host, Place};
        let mut samples = Samples::new();
        samples.add(&[(1, 5), (0, 7)], Innermost::Guest);
        samples.add(&[(2, 0), (0, 7)], Innermost::Guest);
        samples.add(&[(1, 5), (0, 7)], Innermost::Guest);
        samples.add(&[(0, 7)], Innermost::Host);
        let (f, g) = (Place(1), Place(0));
        assert_eq!(samples.paths(), [(vec![f], 1), (vec![f, g], 2), (vec![f, Host], 1)]);
    }

    /// A sample that was requested while the host did something else says nothing of the call that begins then.
    #[test]
    fn time_before_a_call_from_the_host_counts_for_the_call_before() {
        let mut samples = Samples::new();
        samples.add(&[(0, 0)], Innermost::Guest);
        samples.add(&[(1, 5), (0, 7)], Innermost::Guest);
        samples.add(&[(0, 0)], Innermost::Guest);
        samples.add(&[], Innermost::Guest);
        let [entry, inner, outer] = [0, 1, 2].map(NodeKind::Place);
        assert_eq!(samples.paths(), [(vec![entry], 1), (vec![outer, inner], 3)]);
    }

    #[test]
    fn time_of_the_compiler_counts_for_nobody_else() {
        let mut samples = Samples::new();
        samples.tree.exclude(Duration::from_millis(3));
        samples.now = Duration::from_millis(3);
        samples.add(&[(0, 7)], Innermost::Guest);
        assert_eq!(samples.paths(), [(vec![NodeKind::Compiler], 3), (vec![NodeKind::Place(0)], 1)]);
    }

    /// A program with ever new calls takes no more memory from some number of them on, and no time is lost.
    #[test]
    fn the_tree_is_bounded() {
        let mut samples = Samples::new();
        for func in 0..MAX_NODES as u32 + 1000 {
            samples.add(&[(func, 1)], Innermost::Guest);
        }
        samples.tree.exclude(Duration::from_millis(1));
        let CallTree { calls, place_ids, .. } = &samples.tree;
        assert!(calls.nodes.len() <= MAX_NODES && place_ids.len() <= MAX_NODES, "{}", calls.nodes.len());
        let other = calls.nodes.iter().find(|node| node.kind == NodeKind::OtherCalls).unwrap();
        assert!(other.samples >= 1000 && other.parent == 0, "{other:?}");
        assert!(calls.nodes.iter().any(|node| node.kind == NodeKind::Compiler));
        let all: Duration = calls.nodes.iter().map(|node| node.time).sum();
        assert_eq!(all, samples.now + Duration::from_millis(1));
    }
}
