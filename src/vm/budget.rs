//! What the code of a store has used, and the budget that it has.
//!
//! Memory is counted where it is made: memories and tables by `limits`, collected objects by `heap`. What WASI programs write
//! and open is counted by the functions that do it, see [`IoAccount`].

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use super::interrupt::Requests;
use super::limits::LimitedResource;
use super::store::StoreOpaque;
use crate::config::budget::{Budget, BudgetUsed};
use crate::error::{BudgetItem, Error, Result, Trap};
use crate::sys;

/// The account of a store.
pub(crate) struct Account {
    budget: Budget,
    made: Instant,
    linear_memory: u64,
    tables: u64,
    /// The most that memories, tables and collected objects had together.
    memory_peak: u64,
    heap_peak: u64,
    /// `None` if it is not measured.
    cpu: Option<CpuTime>,
    pub io: IoAccount,
}

impl Account {
    /// One without limits.
    pub fn new() -> Self {
        Account {
            budget: Budget::new(),
            made: Instant::now(),
            linear_memory: 0,
            tables: 0,
            memory_peak: 0,
            heap_peak: 0,
            cpu: None,
            io: IoAccount::default(),
        }
    }

    /// The most bytes of stack that code may use, of the `configured` ones.
    #[inline]
    pub fn stack(&self, configured: usize) -> usize {
        self.budget.stack.map_or(configured, |bytes| bytes.min(configured))
    }

    /// Forgets the time of the budget, because the store's deadline is another.
    pub fn forget_wall_time(&mut self) {
        self.budget.wall_time = None;
    }
}

/// Bytes that an object of a kind takes, for each unit that its size is counted in.
fn unit(resource: LimitedResource) -> u64 {
    match resource {
        LimitedResource::Table => size_of::<u64>() as u64,
        LimitedResource::Memory | LimitedResource::Heap | LimitedResource::Instance => 1,
    }
}

impl StoreOpaque {
    /// Notes the item of the budget that an error is due to, if it is one that traps know nothing of.
    pub fn note_error(&self, error: &mut Error) {
        let Some(trap) = error.trap() else { return };
        let budget = &self.account.budget;
        let (item, is_limited) = match trap {
            Trap::Deadline => (BudgetItem::WallTime, budget.wall_time.is_some()),
            Trap::StackOverflow => {
                (BudgetItem::Stack, budget.stack.is_some_and(|bytes| bytes <= self.engine.config.max_wasm_stack))
            }
            _ => return,
        };
        if is_limited {
            self.account.io.reached.note(item);
            error.set_budget_item(item);
        }
    }

    /// Bytes of memories, tables and collected objects.
    fn memory_used(&self) -> u64 {
        self.account.linear_memory + self.account.tables + self.collected_bytes() as u64
    }

    /// Whether the budget has room for so much more of an object of a kind, in the unit that its size is counted in.
    #[inline]
    pub fn has_room(&self, resource: LimitedResource, more: usize) -> bool {
        let more = (more as u64).saturating_mul(unit(resource));
        more == 0 || self.account.budget.memory.is_none_or(|limit| self.memory_used().saturating_add(more) <= limit)
    }

    /// Counts a memory or table that was made or has grown.
    pub fn charge(&mut self, resource: LimitedResource, more: usize) {
        let bytes = (more as u64).saturating_mul(unit(resource));
        match resource {
            LimitedResource::Memory => self.account.linear_memory += bytes,
            LimitedResource::Table => self.account.tables += bytes,
            LimitedResource::Heap | LimitedResource::Instance => {}
        }
        self.note_peaks();
    }

    /// Notes how much memory there is, when it has become more.
    #[inline]
    pub fn note_peaks(&mut self) {
        self.account.memory_peak = self.account.memory_peak.max(self.memory_used());
        self.account.heap_peak = self.account.heap_peak.max(self.collected_bytes() as u64);
    }

    /// The error for `what`, for which the budget has no room.
    #[cold]
    pub fn over_memory_budget(&self, what: &str) -> Error {
        let (limit, used) = (self.account.budget.memory.unwrap_or(u64::MAX), self.memory_used());
        let message = format!("{what} is more than is left of {limit} bytes of memory, of which {used} are used");
        let mut error = Error::resource(message);
        error.set_budget_item(BudgetItem::Memory);
        error
    }

    /// Notes the item of the budget for which something is refused with this error.
    #[cold]
    pub fn note_refusal(&self, error: Error) -> Error {
        if let Some(item) = error.budget_item() {
            self.account.io.reached.note(item);
        }
        error
    }

    /// Sets the budget, instead of the one before.
    ///
    /// # Errors
    /// [`Resource`](crate::ErrorKind::Resource) if there is no thread to watch the time. The budget before holds then.
    pub fn set_budget(&mut self, budget: &Budget) -> Result<()> {
        // What can fail comes first.
        let deadline = budget.wall_time.map(|time| Instant::now().checked_add(time));
        match deadline {
            Some(deadline) => self.set_deadline(deadline)?,
            // The deadline may be that of the budget before.
            None if self.account.budget.wall_time.is_some() => self.set_deadline(None)?,
            None => {}
        }
        if budget.cpu_time.is_some_and(|limit| limit != Duration::MAX) {
            self.start_timer()?;
        }
        let is_running = self.stack().is_running();
        match (budget.cpu_time, &mut self.account.cpu) {
            (Some(limit), Some(cpu)) => cpu.limit = limit,
            (Some(limit), cpu) => *cpu = Some(CpuTime::new(limit, is_running)),
            (None, Some(cpu)) => cpu.limit = Duration::MAX,
            (None, None) => {}
        }
        self.account.budget = *budget;
        self.account.io.set_limits(budget);
        // The time may be used up already, or be due sooner than what is armed.
        if self.account.cpu.is_some() {
            self.interrupts.request(Requests::CPU_TIME);
        }
        Ok(())
    }

    /// What was used so far.
    pub fn budget_used(&self) -> BudgetUsed {
        let account = &self.account;
        BudgetUsed {
            wall_time: account.made.elapsed(),
            cpu_time: account.cpu.as_ref().map(CpuTime::used),
            memory: account.memory_peak,
            linear_memory: account.linear_memory,
            tables: account.tables,
            heap: account.heap_peak,
            output: account.io.output.used.load(Relaxed),
            files_written: account.io.files.used.load(Relaxed),
            open_files: account.io.most_open.load(Relaxed),
        }
    }

    /// Sees to it that CPU time is measured from now on, if it is not yet.
    pub fn measure_cpu_time(&mut self) {
        let is_running = self.stack().is_running();
        self.account.cpu.get_or_insert_with(|| CpuTime::new(Duration::MAX, is_running));
    }

    /// The CPU time of the store's code since it is measured; zero if it is not.
    pub fn cpu_time_used(&self) -> Duration {
        self.account.cpu.as_ref().map_or(Duration::ZERO, CpuTime::used)
    }

    /// Begins to measure CPU time, if it is limited: the current thread is about to run the store's code.
    ///
    /// # Errors
    /// [`Trap::CpuTime`] if none is left.
    #[inline]
    pub fn begin_cpu_time(&mut self) -> Result<()> {
        if self.account.cpu.is_some() { self.begin_measuring() } else { Ok(()) }
    }

    #[cold]
    fn begin_measuring(&mut self) -> Result<()> {
        let cpu = self.account.cpu.as_mut().expect("the caller has looked");
        if cpu.is_used_up() {
            return Err(self.out_of_cpu_time());
        }
        cpu.began = Some(now());
        self.arm_cpu_time();
        Ok(())
    }

    /// Ends what [`StoreOpaque::begin_cpu_time`] has begun, on the same thread.
    #[inline]
    pub fn end_cpu_time(&mut self) {
        if let Some(cpu) = &mut self.account.cpu {
            cpu.before = cpu.used();
            cpu.began = None;
        }
    }

    /// Looks at the CPU time of running code, and sees to it that it is looked at again.
    ///
    /// # Errors
    /// [`Trap::CpuTime`] if none is left.
    pub fn check_cpu_time(&mut self) -> Result<()> {
        let Some(cpu) = &mut self.account.cpu else { return Ok(()) };
        // What was armed has been due, or is due too late: the limit was lowered.
        if let Some(armed) = cpu.armed.take() {
            self.forget_request(armed, Requests::CPU_TIME);
        }
        let cpu = self.account.cpu.as_ref().expect("it was there above");
        if cpu.is_used_up() {
            return Err(self.out_of_cpu_time());
        }
        self.arm_cpu_time();
        Ok(())
    }

    /// Has the time looked at when it can be used up at the earliest. An earlier request that is still armed does as well:
    /// it arms the next, so that a call from the host need not.
    fn arm_cpu_time(&mut self) {
        /// So that a program that waits with little time left is not woken all the time.
        const LEAST: Duration = Duration::from_millis(1);
        let Some(cpu) = &mut self.account.cpu else { return };
        if cpu.armed.is_none() {
            cpu.armed = Instant::now().checked_add(cpu.left().max(LEAST));
            if let Some(armed) = cpu.armed {
                self.request_at(armed, Requests::CPU_TIME);
            }
        }
    }

    /// Takes the store out of the timer's list.
    pub fn forget_cpu_time(&mut self) {
        if let Some(armed) = self.account.cpu.as_mut().and_then(|cpu| cpu.armed.take()) {
            self.forget_request(armed, Requests::CPU_TIME);
        }
    }

    #[cold]
    fn out_of_cpu_time(&self) -> Error {
        self.account.io.reached.note(BudgetItem::CpuTime);
        let mut error = Error::from(Trap::CpuTime);
        error.set_budget_item(BudgetItem::CpuTime);
        error
    }
}

/// The processor time of a store's code.
struct CpuTime {
    limit: Duration,
    /// Of the calls that have ended.
    before: Duration,
    /// The thread of the current call and its clock when that began; `None` if there is none.
    began: Option<(ThreadId, Duration)>,
    /// When the timer will ask for a look at it.
    armed: Option<Instant>,
}

/// The current thread and its clock.
fn now() -> (ThreadId, Duration) {
    (thread::current().id(), sys::thread_time())
}

impl CpuTime {
    fn new(limit: Duration, is_running: bool) -> Self {
        CpuTime { limit, before: Duration::ZERO, began: is_running.then(now), armed: None }
    }

    /// Without the time of the current call on another thread than the one on which it began: a host function may call code on
    /// one, whose clock says something else.
    fn used(&self) -> Duration {
        let (thread, time) = if self.began.is_some() { now() } else { return self.before };
        let began = self.began.filter(|(of, _)| *of == thread);
        let current = began.map_or(Duration::ZERO, |(_, began)| time.saturating_sub(began));
        self.before.saturating_add(current)
    }

    fn left(&self) -> Duration {
        self.limit.saturating_sub(self.used())
    }

    fn is_used_up(&self) -> bool {
        self.limit != Duration::MAX && self.left().is_zero()
    }
}

/// A set of items.
#[derive(Debug, Default)]
pub(crate) struct Reached(AtomicU32);

impl Reached {
    fn note(&self, item: BudgetItem) {
        self.0.fetch_or(1 << item as u32, Relaxed);
    }

    /// The items, in the order in which they are declared.
    pub fn items(&self) -> Vec<BudgetItem> {
        let set = self.0.load(Relaxed);
        BudgetItem::ALL.iter().copied().filter(|item| set & 1 << *item as u32 != 0).collect()
    }
}

/// What WASI programs write and open. A host function refers to it while it has the rest of the store's contents for itself,
/// so it is atomic; only one thread at a time uses it.
#[derive(Debug)]
pub(crate) struct IoAccount {
    output: Counter,
    files: Counter,
    /// Both together.
    written: Counter,
    file_size: AtomicU64,
    open_files: AtomicU64,
    most_open: AtomicU64,
    /// Items of the budget, of whatever kind, that code has come to.
    pub reached: Reached,
    /// The latest item that something was refused for, as its number and one more.
    refused: AtomicU32,
}

impl Default for IoAccount {
    fn default() -> Self {
        IoAccount {
            output: Counter::default(),
            files: Counter::default(),
            written: Counter::default(),
            file_size: AtomicU64::new(u64::MAX),
            open_files: AtomicU64::new(u64::MAX),
            most_open: AtomicU64::new(0),
            reached: Reached::default(),
            refused: AtomicU32::new(0),
        }
    }
}

/// Where bytes are written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sink {
    /// A file that the program has opened.
    File,
    /// Anything else.
    Output,
}

#[derive(Debug)]
struct Counter {
    used: AtomicU64,
    limit: AtomicU64,
}

impl Default for Counter {
    fn default() -> Self {
        Counter { used: AtomicU64::new(0), limit: AtomicU64::new(u64::MAX) }
    }
}

impl Counter {
    fn left(&self) -> u64 {
        self.limit.load(Relaxed).saturating_sub(self.used.load(Relaxed))
    }

    /// Only one thread at a time writes, so that this need not be one operation, which would be slower.
    fn add(&self, count: u64) {
        self.used.store(self.used.load(Relaxed).wrapping_add(count), Relaxed);
    }
}

impl IoAccount {
    fn set_limits(&self, budget: &Budget) {
        let set = |place: &AtomicU64, limit: Option<u64>| place.store(limit.unwrap_or(u64::MAX), Relaxed);
        set(&self.output.limit, budget.output);
        set(&self.files.limit, budget.files_written);
        set(&self.written.limit, budget.written);
        set(&self.file_size, budget.file_size);
        set(&self.open_files, budget.open_files);
    }

    fn refuse(&self, item: BudgetItem) -> BudgetItem {
        self.reached.note(item);
        self.refused.store(item as u32 + 1, Relaxed);
        item
    }

    /// Forgets what was refused last.
    pub fn forget_refused(&self) {
        self.refused.store(0, Relaxed);
    }

    /// What was refused since [`IoAccount::forget_refused`].
    pub fn refused(&self) -> Option<BudgetItem> {
        let number = self.refused.load(Relaxed).checked_sub(1)?;
        BudgetItem::ALL.get(number as usize).copied()
    }

    /// Whether the size of a file is limited.
    pub fn limits_file_size(&self) -> bool {
        self.file_size.load(Relaxed) != u64::MAX
    }

    /// How far a file may be extended when `len` bytes go to `position`.
    ///
    /// # Errors
    /// [`BudgetItem::FileSize`] if not even one byte may be written.
    pub fn within_file(&self, position: u64, len: u64) -> Result<u64, BudgetItem> {
        match self.file_size.load(Relaxed).checked_sub(position) {
            Some(0) | None if len > 0 => Err(self.refuse(BudgetItem::FileSize)),
            room => Ok(len.min(room.unwrap_or(0))),
        }
    }

    /// Whether a file may be `size` bytes long.
    ///
    /// # Errors
    /// [`BudgetItem::FileSize`] if not.
    pub fn check_size(&self, size: u64) -> Result<(), BudgetItem> {
        if size > self.file_size.load(Relaxed) { Err(self.refuse(BudgetItem::FileSize)) } else { Ok(()) }
    }

    /// Takes up to `len` bytes, to be written; what is not must be given back.
    ///
    /// # Errors
    /// The item that is used up.
    pub fn take(&self, sink: Sink, len: u64) -> Result<u64, BudgetItem> {
        let (own, item) = self.counter(sink);
        let taken = len.min(own.left()).min(self.written.left());
        if taken == 0 && len > 0 {
            return Err(self.refuse(if own.left() == 0 { item } else { BudgetItem::Written }));
        }
        own.add(taken);
        self.written.add(taken);
        Ok(taken)
    }

    /// As [`IoAccount::take`], for bytes that can't be written in part.
    ///
    /// # Errors
    /// The item that has no room for all of them.
    pub fn take_all(&self, sink: Sink, len: u64) -> Result<(), BudgetItem> {
        let (own, item) = self.counter(sink);
        if len > own.left() {
            return Err(self.refuse(item));
        }
        if len > self.written.left() {
            return Err(self.refuse(BudgetItem::Written));
        }
        self.take(sink, len).map(drop)
    }

    /// Gives back what was taken and not written.
    pub fn give_back(&self, sink: Sink, len: u64) {
        self.counter(sink).0.add(len.wrapping_neg());
        self.written.add(len.wrapping_neg());
    }

    fn counter(&self, sink: Sink) -> (&Counter, BudgetItem) {
        match sink {
            Sink::File => (&self.files, BudgetItem::FilesWritten),
            Sink::Output => (&self.output, BudgetItem::Output),
        }
    }

    /// Whether one more descriptor may be opened where so many are open.
    ///
    /// # Errors
    /// [`BudgetItem::OpenFiles`] if not.
    pub fn check_open(&self, open: usize) -> Result<(), BudgetItem> {
        if open as u64 >= self.open_files.load(Relaxed) { Err(self.refuse(BudgetItem::OpenFiles)) } else { Ok(()) }
    }

    /// Notes how many descriptors are open.
    pub fn note_open(&self, open: usize) {
        self.most_open.fetch_max(open as u64, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(budget: Budget) -> IoAccount {
        let account = IoAccount::default();
        account.set_limits(&budget);
        account
    }

    #[test]
    fn what_fits_is_taken_and_what_is_given_back_is_there_again() {
        let account = limited(Budget::new().output(7));
        assert_eq!(account.take(Sink::Output, 5), Ok(5));
        account.give_back(Sink::Output, 1);
        assert_eq!(account.take(Sink::Output, 5), Ok(3));
        assert_eq!(account.take(Sink::Output, 0), Ok(0));
        assert_eq!(account.reached.items(), []);
        assert_eq!(account.take(Sink::Output, 1), Err(BudgetItem::Output));
        assert_eq!(account.take(Sink::File, u64::MAX / 2), Ok(u64::MAX / 2));
        assert_eq!((account.refused(), account.reached.items()), (Some(BudgetItem::Output), vec![BudgetItem::Output]));
        account.forget_refused();
        assert_eq!((account.refused(), account.reached.items().len()), (None, 1));
    }

    #[test]
    fn files_and_output_have_limits_of_their_own_and_one_together() {
        let account = limited(Budget::new().output(7).files_written(5).written(9));
        assert_eq!(account.take_all(Sink::File, 6), Err(BudgetItem::FilesWritten));
        assert_eq!(account.take_all(Sink::File, 5), Ok(()));
        assert_eq!(account.take(Sink::File, 1), Err(BudgetItem::FilesWritten));
        assert_eq!(account.take_all(Sink::Output, 5), Err(BudgetItem::Written));
        assert_eq!(account.take(Sink::Output, 7), Ok(4));
        assert_eq!(account.take(Sink::Output, 7), Err(BudgetItem::Written));
        let all = [BudgetItem::FilesWritten, BudgetItem::Written];
        assert_eq!(account.reached.items(), all);
        // Lowered below what is used, and lifted again.
        account.set_limits(&Budget::new().output(1));
        assert_eq!(account.take(Sink::Output, 1), Err(BudgetItem::Output));
        account.set_limits(&Budget::new());
        assert_eq!(account.take(Sink::Output, 100), Ok(100));
    }

    #[test]
    fn files_end_at_their_limit() {
        let account = limited(Budget::new().file_size(10).open_files(4));
        assert_eq!(account.within_file(4, 20), Ok(6));
        assert_eq!(account.within_file(10, 1), Err(BudgetItem::FileSize));
        assert_eq!(account.within_file(11, 0), Ok(0));
        assert_eq!((account.check_size(10), account.check_size(11)), (Ok(()), Err(BudgetItem::FileSize)));
        assert_eq!((account.check_open(3), account.check_open(4)), (Ok(()), Err(BudgetItem::OpenFiles)));
    }
}
