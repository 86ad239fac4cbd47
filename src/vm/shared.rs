//! Shared memories: linear memories that stores on several threads have at once (threads proposal).
//!
//! All that such a memory can have is reserved when it is made, so that its base never moves. Its length only grows: code that
//! knows an old one finds fewer bytes than there are, and looks again before it traps or tells the length.
//!
//! No Rust reference is ever made to its bytes. They are read and written by [`racy`](super::racy), and by atomic instructions.

use std::marker::PhantomData;
use std::ops::Range;
use std::pin::pin;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use super::context::VMMemory;
use super::engine::EngineCore;
use super::interrupt::{self, Requests};
use super::memory::{MEMORY_GUARD, max_bytes, shared_space};
use super::space::{Reservation, SpaceUse, refused};
use super::store::StoreOpaque;
use super::wait_queue::{Place, WaitQueue};
use super::{fiber, racy};
use crate::error::{Error, ErrorKind, MemoryFault, Result, Trap};
use crate::module::types::MemoryType;

/// A shared memory. Each store that has it keeps it.
pub(crate) struct SharedMemory {
    /// What engines read. The base stays; `length` grows, with `space` locked.
    vm: VMMemory,
    ty: MemoryType,
    /// The memory has the guards that the engine's settings ask for, so no other engine may have it.
    engine: Arc<EngineCore>,
    /// The host addresses that are reserved, guard included.
    addresses: Range<usize>,
    space: Mutex<Reservation>,
    queue: WaitQueue,
}

// SAFETY: the base points to memory that the value owns, and that any thread accesses as if others did so at the same time.
unsafe impl Send for SharedMemory {}
// SAFETY: as above.
unsafe impl Sync for SharedMemory {}

/// The bytes of a shared memory, as long as it was when this was made, for a host function.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SharedBytes<'a> {
    base: *mut u8,
    length: usize,
    _memory: PhantomData<&'a SharedMemory>,
}

// SAFETY: any thread may access the bytes at any time.
unsafe impl Send for SharedBytes<'_> {}
// SAFETY: as above.
unsafe impl Sync for SharedBytes<'_> {}

impl SharedBytes<'_> {
    /// # Safety
    /// `vm` must be that of a shared memory, which lives as long as this.
    pub unsafe fn new(vm: &VMMemory) -> Self {
        SharedBytes { base: vm.base, length: vm.length(), _memory: PhantomData }
    }

    pub fn len(&self) -> usize {
        self.length
    }

    /// The address of bytes of the memory.
    ///
    /// # Panics
    /// If they don't lie in the memory.
    #[inline]
    fn place(&self, address: usize, len: usize) -> *mut u8 {
        assert!(address <= self.length && len <= self.length - address, "the range was checked");
        self.base.wrapping_add(address)
    }

    /// Copies the bytes from `address` into `buffer`.
    ///
    /// # Panics
    /// If they don't lie in the memory.
    #[inline]
    pub fn read(&self, address: usize, buffer: &mut [u8]) {
        let from = self.place(address, buffer.len());
        // SAFETY: the bytes lie in the memory, which lives.
        unsafe { racy::copy_out(from, buffer.as_mut_ptr(), buffer.len()) };
    }

    /// Copies `data` into the memory, from `address` on.
    ///
    /// # Panics
    /// If the range does not lie in the memory.
    #[inline]
    pub fn write(&self, address: usize, data: &[u8]) {
        let to = self.place(address, data.len());
        // SAFETY: as above.
        unsafe { racy::copy_in(data, to) };
    }

    /// Sets bytes of the memory.
    ///
    /// # Panics
    /// If the range does not lie in the memory.
    pub fn fill(&self, address: usize, byte: u8, len: usize) {
        let to = self.place(address, len);
        // SAFETY: as above.
        unsafe { racy::fill(to, byte, len) };
    }
}

/// How a wait ended; the numbers are those that the instructions give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// It was notified.
    Notified = 0,
    /// The memory had another value than was expected.
    Mismatch = 1,
    /// The time was over.
    TimedOut = 2,
}

/// What a waiter expects to find in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expected {
    U32(u32),
    U64(u64),
}

impl Expected {
    /// Bytes of the value.
    pub fn size(self) -> u64 {
        match self {
            Expected::U32(_) => 4,
            Expected::U64(_) => 8,
        }
    }
}

impl SharedMemory {
    /// Makes a zeroed memory of its minimum size.
    ///
    /// # Errors
    /// [`Usage`](ErrorKind::Usage) for a type that is invalid or not shared; [`Resource`](ErrorKind::Resource) if the system
    /// refuses the memory, or the address space for all that it can grow to.
    pub fn new(ty: MemoryType, engine: &Arc<EngineCore>) -> Result<Arc<Self>> {
        ty.check()?;
        if !ty.is_shared() || ty.maximum.is_none() {
            return Err(Error::usage("the type of a shared memory must say so, and have a maximum"));
        }
        let Some(most) = shared_space(ty, engine) else {
            let pages = ty.most_pages();
            return Err(Error::resource(format!(
                "a shared memory of up to {pages} pages is too large: all that it can grow to must be reserved"
            )));
        };
        let length = ty.minimum_bytes() as usize;
        let used_as = SpaceUse::Memory { image: None };
        let Some(space) = Reservation::new(&engine.spaces, most + MEMORY_GUARD, length, used_as) else {
            let pages = ty.most_pages();
            return Err(refused(&format!("a shared memory of up to {pages} pages"), most + MEMORY_GUARD));
        };
        Ok(Arc::new(SharedMemory {
            vm: VMMemory::new(space.base(), length),
            ty,
            engine: engine.clone(),
            addresses: space.base().addr()..space.base().addr() + space.len(),
            space: Mutex::new(space),
            queue: WaitQueue::default(),
        }))
    }

    /// Base and length, which engines read.
    pub fn vm(&self) -> *mut VMMemory {
        (&raw const self.vm).cast_mut()
    }

    pub fn ty(&self) -> MemoryType {
        self.ty
    }

    /// Whether it is a memory of this engine.
    pub fn is_of(&self, engine: &Arc<EngineCore>) -> bool {
        Arc::ptr_eq(&self.engine, engine)
    }

    /// The host addresses that are reserved for it, guard included. A signal handler may ask.
    pub fn address_range(&self) -> Range<usize> {
        self.addresses.clone()
    }

    /// Length in bytes: at least what it was when this thread learned of it.
    pub fn length(&self) -> usize {
        self.vm.length()
    }

    /// Length in pages.
    pub fn pages(&self) -> u64 {
        self.length() as u64 >> self.ty.page_size_log2()
    }

    /// Address of the first byte.
    pub fn base(&self) -> *mut u8 {
        self.vm.base
    }

    /// Grows by `delta` pages, to `most` bytes at most; returns the old size in pages, or `None` if it can't grow so far.
    pub fn grow(&self, delta: u64, most: usize) -> Option<u64> {
        let mut space = self.space.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.pages();
        let pages = old.checked_add(delta).filter(|pages| *pages <= self.ty.most_pages())?;
        let length = usize::try_from(pages.checked_mul(self.ty.page_size())?).ok()?;
        if length > most || length > max_bytes(self.ty) {
            return None;
        }
        if delta > 0 {
            space.set_accessible(length)?;
            // When the bytes are accessible.
            self.vm.set_length(length);
        }
        Some(old)
    }

    /// Where `len` bytes from `address` are, if all lie in the memory.
    fn range(&self, address: u64, len: usize) -> Result<*mut u8> {
        let length = self.length();
        match address.checked_add(len as u64) {
            Some(end) if end <= length as u64 => Ok(self.vm.base.wrapping_add(address as usize)),
            _ => Err(out_of_bounds(address, len as u64, length)),
        }
    }

    /// Copies the bytes from `address` into `buffer`, which they fill.
    ///
    /// # Errors
    /// [`Trap::MemoryOutOfBounds`].
    pub fn read(&self, address: u64, buffer: &mut [u8]) -> Result<()> {
        let from = self.range(address, buffer.len())?;
        // SAFETY: the bytes lie in the memory, as was just checked.
        unsafe { racy::copy_out(from, buffer.as_mut_ptr(), buffer.len()) };
        Ok(())
    }

    /// Copies `data` into the memory, from `address` on.
    ///
    /// # Errors
    /// [`Trap::MemoryOutOfBounds`]; nothing is written then.
    pub fn write(&self, address: u64, data: &[u8]) -> Result<()> {
        let to = self.range(address, data.len())?;
        // SAFETY: as above.
        unsafe { racy::copy_in(data, to) };
        Ok(())
    }

    /// Where the value at an address is that a wait or a notification is about.
    ///
    /// # Errors
    /// [`Trap::HeapMisaligned`] if the address is not a multiple of its size; [`Trap::MemoryOutOfBounds`].
    fn value_place(&self, address: u64, size: u64) -> Result<*mut u8> {
        if !address.is_multiple_of(size) {
            return Err(Trap::HeapMisaligned.into());
        }
        self.range(address, size as usize)
    }

    /// Wakes up to `count` of those who wait at `address`; returns how many.
    ///
    /// # Errors
    /// [`Trap::HeapMisaligned`] if the address is not a multiple of four; [`Trap::MemoryOutOfBounds`].
    pub fn notify(&self, address: u64, count: u32) -> Result<u32> {
        self.value_place(address, 4)?;
        Ok(self.queue.notify(address, count))
    }

    /// Whether the memory has a value, for a waiter.
    ///
    /// # Errors
    /// As for `value_place`.
    fn comparison(&self, address: u64, expected: Expected) -> Result<impl FnOnce() -> bool> {
        let place = self.value_place(address, expected.size())?;
        // SAFETY: the value lies in the memory, and its address is a multiple of its size: memories begin at a page. Whoever
        // accesses it otherwise than atomically does so by instructions that Rust does not know of.
        Ok(move || unsafe {
            match expected {
                Expected::U32(value) => AtomicU32::from_ptr(place.cast()).load(SeqCst) == value.to_le(),
                Expected::U64(value) => AtomicU64::from_ptr(place.cast()).load(SeqCst) == value.to_le(),
            }
        })
    }

    /// Waits at `address` if the memory has the value there, until a notification or for that time. Blocks the thread, and does
    /// nothing else meanwhile.
    ///
    /// # Errors
    /// [`Trap::HeapMisaligned`] if the address is not a multiple of the value's size; [`Trap::MemoryOutOfBounds`].
    pub fn wait(&self, address: u64, expected: Expected, timeout: Option<Duration>) -> Result<Waited> {
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let is_expected = self.comparison(address, expected)?;
        let Some(place) = self.queue.enter(address, thread::current(), is_expected) else {
            return Ok(Waited::Mismatch);
        };
        while !place.is_notified() {
            if is_over(until) {
                return Ok(ended(place));
            }
            park(until);
        }
        Ok(Waited::Notified)
    }

    /// [`wait`](Self::wait) for running code of a store, whose requests are done meanwhile; for ever if `nanoseconds` is negative.
    /// Suspends the code if that is called asynchronously.
    ///
    /// # Errors
    /// As for `wait`, and those of [`interrupt::poll`].
    ///
    /// # Safety
    /// As for `interrupt::poll`, and if the code may be suspended, as for [`fiber::yield_now`].
    pub unsafe fn wait_in(
        self: &Arc<Self>,
        store: *mut StoreOpaque,
        address: u64,
        expected: Expected,
        nanoseconds: i64,
    ) -> Result<Waited> {
        let timeout = u64::try_from(nanoseconds).ok().map(Duration::from_nanos);
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let is_expected = self.comparison(address, expected)?;
        // SAFETY: the caller's promise. What is on the stack may go to another thread with the code.
        unsafe {
            if (*store).may_be_suspended() {
                let Some(place) = self.queue.enter_task(address, is_expected) else { return Ok(Waited::Mismatch) };
                return suspend(store, place, until);
            }
            let Some(place) = self.queue.enter(address, thread::current(), is_expected) else {
                return Ok(Waited::Mismatch);
            };
            block(store, place, until)
        }
    }
}

/// Blocks the thread until a place is notified or the time has come, and does what is requested of the store meanwhile.
///
/// # Errors
/// Those of [`interrupt::poll`].
///
/// # Safety
/// As for `interrupt::poll`.
unsafe fn block(store: *mut StoreOpaque, place: Place<'_>, until: Option<Instant>) -> Result<Waited> {
    // SAFETY: the store is live and nobody refers to it, by the caller's promise.
    let interrupts = unsafe { (*store).interrupts.clone() };
    // From here on a request wakes this thread.
    let _parked = interrupts.park(thread::current());
    loop {
        if interrupts.is_pending() {
            // SAFETY: the caller's promise.
            unsafe { interrupt::poll(store)? };
        }
        if place.is_notified() {
            return Ok(Waited::Notified);
        }
        if is_over(until) {
            return Ok(ended(place));
        }
        // What was done may have used up the wake-up of a later request.
        if !interrupts.is_pending() {
            park(until);
        }
    }
}

/// Suspends the running code until a place is notified or the time has come, and does what is requested of the store meanwhile.
///
/// # Errors
/// As for [`fiber::block_on_and_serve`]; [`Resource`](ErrorKind::Resource) if there is no thread for a timer.
///
/// # Safety
/// As for `fiber::block_on_and_serve`.
unsafe fn suspend(store: *mut StoreOpaque, place: Place<'_>, until: Option<Instant>) -> Result<Waited> {
    let future = std::future::poll_fn(|context: &mut Context<'_>| {
        place.set_waker(context.waker());
        if place.is_notified() || is_over(until) { Poll::Ready(()) } else { Poll::Pending }
    });
    // SAFETY: the store is live and nobody refers to it, by the caller's promise, which is also that of what is called.
    unsafe {
        if let Some(until) = until {
            (*store).start_timer()?;
            (*store).request_at(until, Requests::LOOK);
        }
        let waited = fiber::block_on_and_serve(store, pin!(future));
        if let Some(until) = until {
            (*store).forget_request(until, Requests::LOOK);
        }
        waited?;
    }
    Ok(ended(place))
}

/// Whether a time has come.
fn is_over(until: Option<Instant>) -> bool {
    until.is_some_and(|until| until <= Instant::now())
}

/// Parks the thread until that time, or somebody wakes it.
fn park(until: Option<Instant>) {
    match until {
        None => thread::park(),
        Some(until) => thread::park_timeout(until.saturating_duration_since(Instant::now())),
    }
}

/// How a wait has ended whose time is over, unless a notification came first.
fn ended(place: Place<'_>) -> Waited {
    if place.leave() { Waited::Notified } else { Waited::TimedOut }
}

#[cold]
fn out_of_bounds(address: u64, size: u64, length: usize) -> Error {
    Error::new(ErrorKind::Trap {
        trap: Trap::MemoryOutOfBounds,
        fault: Some(MemoryFault { address, size, length: length as u64 }),
    })
}
