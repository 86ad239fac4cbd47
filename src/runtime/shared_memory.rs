//! Shared memories for the embedder.

use std::sync::Arc;
use std::time::Duration;

use super::engine::Engine;
use crate::error::{Error, Result};
use crate::module::types::MemoryType;
use crate::vm::shared::{self, Expected, Waited};

/// A linear memory that instances in several stores, on several threads, have at once (threads proposal).
///
/// It belongs to no store. Clones are the same memory, and any thread may use them; it goes when the last clone and the last store
/// that has it are gone. It is imported as any [`Extern`](crate::Extern), into stores of its engine, and so is what an instance with a
/// shared memory exports.
///
/// Other threads may write to it at any time, so there are no slices of it: bytes are copied in and out. A copy that another
/// thread's write overlaps has some bytes from before and some from after, but an aligned number of up to eight bytes is whole.
///
/// All that the memory can grow to is reserved at once, as address space: choose a maximum that is needed.
///
/// ```
/// use wasmrun::{Engine, Linker, MemoryType, Module, SharedMemory, Store};
/// let engine = Engine::default();
/// let module = Module::new(&engine, r#"(module
///     (import "env" "memory" (memory 1 4 shared))
///     (func (export "count")
///         (drop (i32.atomic.rmw.add (i32.const 0) (i32.const 1)))))"#)?;
/// let memory = SharedMemory::new(&engine, MemoryType::shared(1, 4))?;
/// std::thread::scope(|scope| {
///     for _ in 0..2 {
///         scope.spawn(|| {
///             let mut store = Store::new(&engine, ());
///             let mut linker = Linker::new(&engine);
///             linker.define(&store, "env", "memory", memory.clone())?;
///             let instance = linker.instantiate(&mut store, &module)?;
///             let count = instance.get_typed_func::<(), ()>(&mut store, "count")?;
///             (0..100).try_for_each(|_| count.call(&mut store, ()))
///         });
///     }
/// });
/// let mut sum = [0; 4];
/// memory.read(0, &mut sum)?;
/// assert_eq!(u32::from_le_bytes(sum), 200);
/// # Ok::<(), wasmrun::Error>(())
/// ```
#[derive(Clone)]
pub struct SharedMemory(pub(crate) Arc<shared::SharedMemory>);

/// How a wait at an address of a [`SharedMemory`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WaitResult {
    /// It was notified.
    Ok = 0,
    /// The memory did not have the expected value.
    Mismatch = 1,
    /// The time was over.
    TimedOut = 2,
}

impl SharedMemory {
    /// Makes a zeroed memory, for stores of `engine`.
    ///
    /// # Errors
    /// - [`Usage`](crate::ErrorKind::Usage) if the type is not shared, or its limits are more than its addresses reach or
    ///   contradict each other;
    /// - [`Resource`](crate::ErrorKind::Resource) if the system refuses the memory, or the address space for its maximum, which
    ///   may be 64 GiB at most.
    pub fn new(engine: &Engine, ty: MemoryType) -> Result<Self> {
        shared::SharedMemory::new(ty, engine.core()).map(SharedMemory)
    }

    /// The memory's type, with the current size as the minimum.
    pub fn ty(&self) -> MemoryType {
        self.0.ty().with_minimum(self.0.pages())
    }

    /// The memory's size in pages of [`page_size`](SharedMemory::page_size) bytes. It may have grown when this returns.
    pub fn size(&self) -> u64 {
        self.0.pages()
    }

    /// Bytes of a page.
    pub fn page_size(&self) -> u64 {
        self.0.ty().page_size()
    }

    /// The memory's size in bytes. It may have grown when this returns.
    pub fn data_size(&self) -> usize {
        self.0.length()
    }

    /// Address of the memory's first byte, which does not change. Only `unsafe` code can use it, with atomic accesses.
    pub fn data_ptr(&self) -> *mut u8 {
        self.0.base()
    }

    /// Grows the memory by `delta` pages while others may use it; returns the old size in pages. No limiter is asked: that of a
    /// store is when code of the store lets the memory grow.
    ///
    /// # Errors
    /// [`Resource`](crate::ErrorKind::Resource) if the type's maximum or the system does not allow that.
    pub fn grow(&self, delta: u64) -> Result<u64> {
        let grown = self.0.grow(delta, usize::MAX);
        grown.ok_or_else(|| Error::resource(format!("the memory cannot grow by {delta} pages")))
    }

    /// Copies the bytes from `offset` into `buffer`, which they fill.
    ///
    /// # Errors
    /// [`Trap::MemoryOutOfBounds`](crate::Trap::MemoryOutOfBounds) if the range does not lie in the memory.
    pub fn read(&self, offset: usize, buffer: &mut [u8]) -> Result<()> {
        self.0.read(offset as u64, buffer)
    }

    /// Copies `data` into the memory, from `offset` on.
    ///
    /// # Errors
    /// [`Trap::MemoryOutOfBounds`](crate::Trap::MemoryOutOfBounds) if the range does not lie in the memory; nothing is written
    /// then.
    pub fn write(&self, offset: usize, data: &[u8]) -> Result<()> {
        self.0.write(offset as u64, data)
    }

    /// Wakes up to `count` of those who wait at an address, in the order in which they came; returns how many, as
    /// `memory.atomic.notify` does.
    ///
    /// # Errors
    /// [`Trap::HeapMisaligned`](crate::Trap::HeapMisaligned) if the address is not a multiple of four;
    /// [`Trap::MemoryOutOfBounds`](crate::Trap::MemoryOutOfBounds) if four bytes at the address do not lie in the memory.
    pub fn atomic_notify(&self, address: u64, count: u32) -> Result<u32> {
        self.0.notify(address, count)
    }

    /// Waits at an address if the memory has the number `expected` there, as `memory.atomic.wait32` does, until a notification or
    /// for that time. It blocks the thread, and nothing but a notification and the time ends it.
    ///
    /// ```
    /// use std::time::Duration;
    /// use wasmrun::{Engine, MemoryType, SharedMemory, WaitResult};
    /// let memory = SharedMemory::new(&Engine::default(), MemoryType::shared(1, 1))?;
    /// assert_eq!(memory.atomic_wait32(64, 1, None)?, WaitResult::Mismatch);
    /// assert_eq!(memory.atomic_wait32(64, 0, Some(Duration::from_millis(1)))?, WaitResult::TimedOut);
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`atomic_notify`](SharedMemory::atomic_notify).
    pub fn atomic_wait32(&self, address: u64, expected: u32, timeout: Option<Duration>) -> Result<WaitResult> {
        self.0.wait(address, Expected::U32(expected), timeout).map(WaitResult::from)
    }

    /// As [`atomic_wait32`](SharedMemory::atomic_wait32) for a number of 64 bits, at a multiple of eight.
    ///
    /// # Errors
    /// As for `atomic_wait32`.
    pub fn atomic_wait64(&self, address: u64, expected: u64, timeout: Option<Duration>) -> Result<WaitResult> {
        self.0.wait(address, Expected::U64(expected), timeout).map(WaitResult::from)
    }
}

impl From<Waited> for WaitResult {
    fn from(waited: Waited) -> Self {
        match waited {
            Waited::Notified => WaitResult::Ok,
            Waited::Mismatch => WaitResult::Mismatch,
            Waited::TimedOut => WaitResult::TimedOut,
        }
    }
}

/// Whether both are the same memory.
impl PartialEq for SharedMemory {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for SharedMemory {}

impl std::fmt::Debug for SharedMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedMemory").field("ty", &self.ty()).finish_non_exhaustive()
    }
}
