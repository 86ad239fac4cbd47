//! Memories for the embedder.

use super::linear::LinearMemory;
use super::store::{AsContext, AsContextMut};
use crate::error::{Error, ErrorKind, MemoryFault, Result, Trap};
use crate::module::types::MemoryType;
use crate::vm::limits::{self, LimitedResource};
use crate::vm::memory::{MemoryData, initial_growth};
use crate::vm::store::{StoreOpaque, Stored};

/// A linear memory in a store (specification, section 4.2.8).
///
/// A handle: it can be copied, and lives as long as the store. A method panics if it is given another store. The memory is not
/// shared: shared ones are [`SharedMemory`](crate::SharedMemory).
///
/// ```
/// use wasmrun::{Engine, Memory, MemoryType, Store};
/// let mut store = Store::new(&Engine::default(), ());
/// let memory = Memory::new(&mut store, MemoryType::new(1, Some(2)))?;
/// memory.write(&mut store, 65_535, b"!")?;
/// assert_eq!(memory.grow(&mut store, 1)?, 1);
/// assert_eq!(memory.data(&store)[65_535], b'!');
/// # Ok::<(), wasmrun::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Memory(pub(crate) Stored);

impl Memory {
    /// Makes a zeroed memory.
    ///
    /// # Errors
    /// - [`Usage`](ErrorKind::Usage) if the type's limits are more than its addresses reach or its maximum is below its minimum,
    ///   and for shared memories, which are made by [`SharedMemory::new`](crate::SharedMemory::new);
    /// - [`Resource`](ErrorKind::Resource) if the store's limiter or the system refuses the memory.
    pub fn new(mut store: impl AsContextMut, ty: MemoryType) -> Result<Self> {
        let store = store.as_context_mut().into_inner().opaque.as_ptr();
        // SAFETY: the store is borrowed exclusively and used through its own pointer. No `vm` is passed that would have to be
        // valid.
        unsafe {
            let growth = initial_growth(ty);
            limits::make_room(&mut *store, LimitedResource::Memory, Some(growth));
            limits::admit(store, LimitedResource::Memory, growth)?;
            let data = MemoryData::new(None, ty, &(*store).engine, (*store).placement(None))?;
            Ok(Memory((*store).add_memory(data)))
        }
    }

    fn in_store(self, store: &StoreOpaque) -> &MemoryData {
        &store.memories[self.0.index(store)]
    }

    fn in_store_mut(self, store: &mut StoreOpaque) -> &mut MemoryData {
        let index = self.0.index(store);
        &mut store.memories[index]
    }

    /// The memory's type, with the current size as the minimum.
    pub fn ty(&self, store: impl AsContext) -> MemoryType {
        let memory = self.in_store(&store.as_context().0.opaque);
        memory.ty.with_minimum(memory.pages())
    }

    /// The memory's size in pages of [`page_size`](Memory::page_size) bytes.
    pub fn size(&self, store: impl AsContext) -> u64 {
        self.in_store(&store.as_context().0.opaque).pages()
    }

    /// Grows the memory by `delta` pages; returns the old size in pages.
    ///
    /// # Errors
    /// [`Resource`](ErrorKind::Resource) if the type's maximum, the store's limiter or the system does not allow that, or the
    /// error that the limiter returns.
    pub fn grow(&self, mut store: impl AsContextMut, delta: u64) -> Result<u64> {
        let store = store.as_context_mut().into_inner().opaque.as_ptr();
        // SAFETY: the store is borrowed exclusively and used through its own pointer.
        let grown = unsafe {
            let request = |store: &StoreOpaque| self.in_store(store).growth(delta);
            limits::make_room(&mut *store, LimitedResource::Memory, request(&*store));
            let grow = |store: &mut StoreOpaque, request| store.grow_memory(self.0, delta, request);
            limits::grow(store, LimitedResource::Memory, request, grow)?
        };
        grown.ok_or_else(|| Error::resource(format!("the memory cannot grow by {delta} pages")))
    }

    /// The memory's bytes.
    pub fn data<'a, T: 'static>(&self, store: impl Into<super::store::StoreContext<'a, T>>) -> &'a [u8] {
        self.in_store(&store.into().0.opaque).own_bytes()
    }

    /// The memory's bytes, to be written.
    pub fn data_mut<'a, T: 'static>(&self, store: impl Into<super::store::StoreContextMut<'a, T>>) -> &'a mut [u8] {
        self.in_store_mut(&mut store.into().into_inner().opaque).own_bytes_mut()
    }

    /// The memory's bytes, to be written, and the store's data.
    ///
    /// ```
    /// use wasmrun::{Engine, Memory, MemoryType, Store};
    /// let mut store = Store::new(&Engine::default(), vec![1, 2, 3]);
    /// let memory = Memory::new(&mut store, MemoryType::new(1, None))?;
    /// let (bytes, data) = memory.data_and_store_mut(&mut store);
    /// bytes[..3].copy_from_slice(data);
    /// data.clear();
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    pub fn data_and_store_mut<'a, T: 'static>(
        &self,
        store: impl Into<super::store::StoreContextMut<'a, T>>,
    ) -> (&'a mut [u8], &'a mut T) {
        let inner = store.into().into_inner();
        (self.in_store_mut(&mut inner.opaque).own_bytes_mut(), &mut inner.data)
    }

    /// Address of the memory's first byte. Only `unsafe` code can use it, and only until WebAssembly code runs in the store or
    /// returns to the host, the memory grows, or the store is dropped: any of these may move the memory.
    pub fn data_ptr(&self, store: impl AsContext) -> *mut u8 {
        self.in_store(&store.as_context().0.opaque).own_bytes().as_ptr().cast_mut()
    }

    /// The memory's size in bytes.
    pub fn data_size(&self, store: impl AsContext) -> usize {
        self.in_store(&store.as_context().0.opaque).own_bytes().len()
    }

    /// Bytes of a page.
    pub fn page_size(&self, store: impl AsContext) -> u64 {
        self.in_store(&store.as_context().0.opaque).ty.page_size()
    }

    /// A view of the memory with typed reads and writes.
    pub fn linear<'a, T: 'static>(&self, store: impl Into<super::store::StoreContextMut<'a, T>>) -> LinearMemory<'a> {
        LinearMemory::new(self.data_mut(store))
    }

    /// Copies the bytes from `offset` into `buffer`, which they fill.
    ///
    /// # Errors
    /// [`Trap::MemoryOutOfBounds`] if the range does not lie in the memory.
    pub fn read(&self, store: impl AsContext, offset: usize, buffer: &mut [u8]) -> Result<()> {
        let bytes = self.in_store(&store.as_context().0.opaque).own_bytes();
        let source = offset.checked_add(buffer.len()).and_then(|end| bytes.get(offset..end));
        buffer.copy_from_slice(source.ok_or_else(|| out_of_bounds(offset, buffer.len(), bytes.len()))?);
        Ok(())
    }

    /// Copies `data` into the memory, from `offset` on.
    ///
    /// # Errors
    /// [`Trap::MemoryOutOfBounds`] if the range does not lie in the memory; nothing is written then.
    pub fn write(&self, mut store: impl AsContextMut, offset: usize, data: &[u8]) -> Result<()> {
        let bytes = self.in_store_mut(&mut store.as_context_mut().into_inner().opaque).own_bytes_mut();
        let length = bytes.len();
        let target = offset.checked_add(data.len()).and_then(|end| bytes.get_mut(offset..end));
        target.ok_or_else(|| out_of_bounds(offset, data.len(), length))?.copy_from_slice(data);
        Ok(())
    }
}

fn out_of_bounds(address: usize, size: usize, length: usize) -> Error {
    Error::new(ErrorKind::Trap {
        trap: Trap::MemoryOutOfBounds,
        fault: Some(MemoryFault { address: address as u64, size: size as u64, length: length as u64 }),
    })
}
