//! Threads and tasks that wait at an address of a shared memory, until they are notified there (`memory.atomic.wait32`,
//! `memory.atomic.wait64`, `memory.atomic.notify`).
//!
//! One lock guards the queue. Whether the memory has the expected value is looked at with the lock held, and who has changed it
//! takes the lock to notify: so either the waiter is in the queue by then, or it sees the new value. Nobody wakes without a
//! notification, and those at one address wake in the order in which they came.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread::Thread;

use super::interrupt::quietly;

/// Who waits at the addresses of a memory: one entry for each.
#[derive(Default)]
pub(crate) struct WaitQueue(Mutex<Waiters>);

#[derive(Default)]
struct Waiters {
    /// The number of the next one to come.
    next: u64,
    /// By address and number.
    waiting: BTreeMap<(u64, u64), Arc<Waiter>>,
}

/// One who waits.
struct Waiter {
    is_notified: AtomicBool,
    wakes: Wakes,
}

/// What a notification wakes.
enum Wakes {
    Thread(Thread),
    /// Who polls the task; `None` until it is first polled.
    Task(Mutex<Option<Waker>>),
}

/// A place in a queue, which is given up when it is dropped.
pub(crate) struct Place<'queue> {
    queue: &'queue WaitQueue,
    key: (u64, u64),
    waiter: Arc<Waiter>,
}

impl WaitQueue {
    fn lock(&self) -> MutexGuard<'_, Waiters> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a thread that is going to park; `None` if `is_expected` says that the memory has another value.
    pub fn enter(&self, address: u64, thread: Thread, is_expected: impl FnOnce() -> bool) -> Option<Place<'_>> {
        self.add(address, Wakes::Thread(thread), is_expected)
    }

    /// A place for a task, as [`enter`](Self::enter).
    pub fn enter_task(&self, address: u64, is_expected: impl FnOnce() -> bool) -> Option<Place<'_>> {
        self.add(address, Wakes::Task(Mutex::new(None)), is_expected)
    }

    fn add(&self, address: u64, wakes: Wakes, is_expected: impl FnOnce() -> bool) -> Option<Place<'_>> {
        let waiter = Arc::new(Waiter { is_notified: AtomicBool::new(false), wakes });
        let mut waiters = self.lock();
        if !is_expected() {
            return None;
        }
        let key = (address, waiters.next);
        waiters.next += 1;
        waiters.waiting.insert(key, waiter.clone());
        Some(Place { queue: self, key, waiter })
    }

    /// Wakes up to `count` of those who wait at an address, in the order in which they came; returns how many.
    pub fn notify(&self, address: u64, count: u32) -> u32 {
        let mut woken = Vec::new();
        let mut waiters = self.lock();
        while woken.len() < count as usize
            && let Some((&key, _)) = waiters.waiting.range((address, 0)..=(address, u64::MAX)).next()
            && let Some(waiter) = waiters.waiting.remove(&key)
        {
            // With the lock held: who leaves by itself learns from its absence that it has been notified.
            waiter.is_notified.store(true, Release);
            woken.push(waiter);
        }
        drop(waiters);
        for waiter in &woken {
            match &waiter.wakes {
                Wakes::Thread(thread) => thread.unpark(),
                Wakes::Task(waker) => {
                    let waker = waker.lock().unwrap_or_else(PoisonError::into_inner).take();
                    if let Some(waker) = waker {
                        // Its code is the embedder's.
                        quietly(|| waker.wake());
                    }
                }
            }
        }
        woken.len() as u32
    }
}

impl Place<'_> {
    /// Whether it was notified.
    pub fn is_notified(&self) -> bool {
        self.waiter.is_notified.load(Acquire)
    }

    /// Sets whom a notification wakes that has not come yet, for a task.
    pub fn set_waker(&self, waker: &Waker) {
        if let Wakes::Task(place) = &self.waiter.wakes {
            let old = place.lock().unwrap_or_else(PoisonError::into_inner).replace(waker.clone());
            drop(old);
        }
    }

    /// Gives the place up; whether a notification came before.
    pub fn leave(self) -> bool {
        self.queue.lock().waiting.remove(&self.key).is_none()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        // Whose place is not in the queue any more need not take the lock again.
        if !self.is_notified() {
            self.queue.lock().waiting.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering::SeqCst;
    use std::thread;
    use std::time::Duration;

    /// How many are in the queue.
    fn waiting(queue: &WaitQueue) -> usize {
        queue.lock().waiting.len()
    }

    fn enter(queue: &WaitQueue, address: u64) -> Place<'_> {
        queue.enter(address, thread::current(), || true).unwrap()
    }

    #[test]
    fn they_are_notified_in_order_and_by_address() {
        let queue = WaitQueue::default();
        let places = [8, 16, 8, 8, 7, 9].map(|address| enter(&queue, address));
        let notified = || places.each_ref().map(Place::is_notified);
        assert_eq!(queue.notify(24, u32::MAX), 0);
        assert_eq!(queue.notify(8, 0), 0);
        assert_eq!(notified(), [false; 6]);
        assert_eq!(queue.notify(8, 2), 2);
        assert_eq!(notified(), [true, false, true, false, false, false]);
        assert_eq!(queue.notify(8, 2), 1);
        assert_eq!((queue.notify(8, 2), queue.notify(16, 1)), (0, 1));
        assert_eq!(notified(), [true, true, true, true, false, false]);
        drop(places);
        assert_eq!(waiting(&queue), 0);
    }

    #[test]
    fn a_place_is_given_up_unless_it_was_notified() {
        let queue = WaitQueue::default();
        assert!(queue.enter(0, thread::current(), || false).is_none());
        assert_eq!(waiting(&queue), 0);
        assert!(!enter(&queue, 0).leave());
        drop(enter(&queue, 0));
        assert_eq!((waiting(&queue), queue.notify(0, 1)), (0, 0));
        let place = enter(&queue, 0);
        assert_eq!(queue.notify(0, 1), 1);
        // It was counted, so it must not say that its time has passed.
        assert!(place.leave());
    }

    /// A task that is notified between its look and its waker's arrival sees it when it looks again.
    #[test]
    fn a_task_is_woken() {
        struct Count(AtomicU32);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, SeqCst);
            }
        }
        let queue = WaitQueue::default();
        let (early, late) = (queue.enter_task(0, || true).unwrap(), queue.enter_task(0, || true).unwrap());
        let counts = [(); 2].map(|()| Arc::new(Count(AtomicU32::new(0))));
        early.set_waker(&counts[0].clone().into());
        // Another thread polls it now.
        early.set_waker(&counts[1].clone().into());
        assert_eq!(queue.notify(0, u32::MAX), 2);
        assert_eq!([&counts[0], &counts[1]].map(|count| count.0.load(SeqCst)), [0, 1]);
        assert!(early.is_notified() && late.is_notified());
    }

    /// A thousand threads wait; each notification ends as many waits as it says.
    #[test]
    fn a_thousand_threads_wait() {
        const THREADS: usize = if cfg!(miri) { 8 } else { 1000 };
        let (queue, woken) = (WaitQueue::default(), AtomicU32::new(0));
        thread::scope(|scope| {
            for number in 0..THREADS as u64 {
                let (queue, woken) = (&queue, &woken);
                let thread = thread::Builder::new().stack_size(64 << 10);
                let wait = move || {
                    let place = enter(queue, number % 3);
                    while !place.is_notified() {
                        thread::park();
                    }
                    woken.fetch_add(1, SeqCst);
                };
                thread.spawn_scoped(scope, wait).unwrap();
            }
            while waiting(&queue) < THREADS {
                thread::sleep(Duration::from_millis(1));
            }
            let counts = [queue.notify(0, 5), queue.notify(1, u32::MAX), queue.notify(0, u32::MAX)];
            let of = |number| (0..THREADS).filter(|at| at % 3 == number).count() as u32;
            assert_eq!(counts, [of(0).min(5), of(1), of(0).saturating_sub(5)]);
            assert_eq!(queue.notify(2, u32::MAX), of(2));
        });
        assert_eq!((woken.into_inner(), waiting(&queue)), (THREADS as u32, 0));
    }

    /// One of those in the model: its next step, and how it has ended.
    struct Actor {
        does: Does,
        step: u32,
        /// For a waiter: 0 if it was notified, 1 if the value had changed, 2 if its time was over. For a notifier: how many it woke.
        ended: Option<u32>,
    }

    #[derive(Clone, Copy)]
    enum Does {
        Wait {
            is_timed: bool,
        },
        /// Changes the value, and notifies so many.
        Notify(u32),
    }

    /// Runs actors in the order that `choose` gives, which gets how many could go on; until none can.
    fn run(does: &[Does], mut choose: impl FnMut(usize) -> usize) -> Vec<Option<u32>> {
        let (queue, value) = (WaitQueue::default(), AtomicU32::new(0));
        let mut actors: Vec<Actor> = does.iter().map(|does| Actor { does: *does, step: 0, ended: None }).collect();
        let mut places: Vec<Option<Place<'_>>> = does.iter().map(|_| None).collect();
        loop {
            let can_go_on = |at: &usize| {
                let Actor { does, step, ended } = &actors[*at];
                let is_awake = match does {
                    Does::Wait { is_timed } => {
                        *step == 0 || *is_timed || places[*at].as_ref().is_some_and(Place::is_notified)
                    }
                    Does::Notify(_) => true,
                };
                ended.is_none() && is_awake
            };
            let enabled: Vec<usize> = (0..actors.len()).filter(can_go_on).collect();
            if enabled.is_empty() {
                drop(places);
                assert_eq!(waiting(&queue), 0);
                return actors.into_iter().map(|actor| actor.ended).collect();
            }
            let at = enabled[choose(enabled.len())];
            let actor = &mut actors[at];
            match (actor.does, actor.step) {
                (Does::Wait { .. }, 0) => {
                    places[at] = queue.enter(0, thread::current(), || value.load(SeqCst) == 0);
                    actor.ended = places[at].is_none().then_some(1);
                }
                (Does::Wait { .. }, _) => {
                    let was_notified = places[at].take().is_some_and(Place::leave);
                    actor.ended = Some(if was_notified { 0 } else { 2 });
                }
                (Does::Notify(_), 0) => value.store(1, SeqCst),
                (Does::Notify(count), _) => actor.ended = Some(queue.notify(0, count)),
            }
            actor.step += 1;
        }
    }

    /// In each order in which threads may take their steps: who waits without an end is notified or sees the new value, and as many
    /// are told that they were notified as notifications count.
    #[test]
    fn no_order_of_steps_loses_a_notification() {
        let (for_ever, timed) = (Does::Wait { is_timed: false }, Does::Wait { is_timed: true });
        for does in [
            &[for_ever, Does::Notify(1)][..],
            &[for_ever, for_ever, Does::Notify(2)],
            &[for_ever, for_ever, Does::Notify(1), Does::Notify(1)],
            &[for_ever, timed, timed, Does::Notify(u32::MAX)],
            &[timed, timed, Does::Notify(1), Does::Notify(1)],
        ] {
            // The choices of a run, each with how many there were.
            let mut choices: Vec<(usize, usize)> = Vec::new();
            let mut orders = 0;
            loop {
                let mut at = 0;
                let ended = run(does, |count| {
                    if at == choices.len() {
                        choices.push((0, count));
                    }
                    at += 1;
                    choices[at - 1].0
                });
                orders += 1;
                let (mut notified, mut counted) = (0, 0);
                for (does, ended) in does.iter().zip(&ended) {
                    let ended = ended.unwrap_or_else(|| panic!("a waiter hangs: {choices:?}"));
                    match does {
                        Does::Wait { is_timed } => {
                            assert!(*is_timed || ended != 2);
                            notified += u32::from(ended == 0);
                        }
                        Does::Notify(_) => counted += ended,
                    }
                }
                assert_eq!(notified, counted, "{choices:?}");
                // The next order: the last choice that there is another one for.
                while choices.pop_if(|(choice, count)| *choice + 1 == *count).is_some() {}
                match choices.last_mut() {
                    Some((choice, _)) => *choice += 1,
                    None => break,
                }
            }
            assert!(orders > 2, "{orders}");
        }
    }
}
