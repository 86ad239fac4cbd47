//! Linear memories. The base never moves: address space is reserved, pages are committed by growth.

use super::linear::LinearMemory;
use super::store::{AsContext, AsContextMut, StoreOpaque, Stored};
use crate::config::BoundsChecks;
use crate::error::{Error, ErrorKind, Result};
use crate::error::{MemoryFault, Trap};
use crate::module::types::MemoryType;
use crate::runtime::engine::Engine;
use crate::vm::context::VMMemory;
use crate::vm::image::Image;
use crate::vm::space::Reservation;

/// Bytes of a page.
pub(crate) const PAGE: u64 = 64 << 10;

/// Most pages of a memory that is indexed with 32 bits.
pub(crate) const MAX_PAGES: u64 = 1 << 16;

/// Inaccessible bytes behind the reservation of every memory: constant offsets below this, less the widest access,
/// need no check of their own once the index is below the length.
pub(crate) const MEMORY_GUARD: usize = 32 << 20;

/// The Rust side of a memory.
pub(crate) struct MemoryData {
    /// Where engines see it: in the defining instance's context, or in `owned`.
    pub vm: *mut VMMemory,
    pub ty: MemoryType,
    reservation: Reservation,
    /// Bytes it can grow to: the reservation without the guard.
    capacity: usize,
    _owned: Option<Box<VMMemory>>,
}

impl MemoryData {
    /// Makes a memory of its minimum size, seen by engines at `vm`, or at a place of its own if that is `None`.
    ///
    /// # Safety
    /// `vm` must be valid for writes as long as the memory lives.
    pub unsafe fn new(vm: Option<*mut VMMemory>, ty: MemoryType, engine: &Engine) -> Result<Self> {
        let refused = || Error::resource(format!("the system has no room for a memory of {} pages", ty.minimum));
        ty.check()?;
        let unsupported = [
            (ty.is_64(), "with 64-bit addresses (the memory64 proposal)"),
            (ty.is_shared(), "that are shared (the threads proposal)"),
            (ty.page_size() != PAGE, "with pages of another size than 64 KiB (the custom-page-sizes proposal)"),
        ];
        if let Some((_, what)) = unsupported.iter().find(|(is_wanted, _)| *is_wanted) {
            return Err(Error::usage(format!("memories {what} are not supported")));
        }
        let minimum = usize::try_from(ty.minimum * PAGE).map_err(|_| refused())?;
        let full = usize::try_from(MAX_PAGES * PAGE).unwrap_or(usize::MAX / 4);
        let maximum = usize::try_from(ty.maximum.unwrap_or(MAX_PAGES).min(MAX_PAGES) * PAGE).unwrap_or(full);
        // Guard pages alone bound the accesses, so all that an index can reach must be reserved.
        let checks = engine.config().bounds_checks;
        let mut wanted = if checks == BoundsChecks::Guard { full } else { maximum };
        let reservation = loop {
            match Reservation::new(engine.spaces(), wanted + MEMORY_GUARD, minimum) {
                Some(reservation) => break reservation,
                None if checks == BoundsChecks::Inline && wanted > minimum => {
                    wanted = (wanted / 2 / PAGE as usize * PAGE as usize).max(minimum);
                }
                None => return Err(refused()),
            }
        };
        let mut owned = None;
        let vm =
            vm.unwrap_or_else(|| &raw mut **owned.insert(Box::new(VMMemory { base: std::ptr::null_mut(), length: 0 })));
        let capacity = wanted.min(maximum);
        // SAFETY: valid by the caller's promise, or ours.
        unsafe { vm.write(VMMemory { base: reservation.base(), length: minimum }) };
        Ok(MemoryData { vm, ty, reservation, capacity, _owned: owned })
    }

    fn length(&self) -> usize {
        // SAFETY: `vm` is valid while the memory lives.
        unsafe { (*self.vm).length }
    }

    pub fn pages(&self) -> u64 {
        self.length() as u64 / PAGE
    }

    /// Makes the first `length` bytes accessible.
    fn commit(&mut self, length: usize) -> Option<()> {
        let old = self.length();
        if length > self.capacity || length < old {
            return None;
        }
        if length > old {
            self.reservation.set_accessible(length)?;
            // SAFETY: `vm` is valid while the memory lives.
            unsafe { (*self.vm).length = length };
        }
        Some(())
    }

    /// Replaces the part that `image` has of a memory that nobody has written to.
    ///
    /// # Errors
    /// [`Resource`](ErrorKind::Resource) if the system refuses.
    ///
    /// # Safety
    /// The image must be of the module that defines this memory.
    pub unsafe fn map(&mut self, image: &Image) -> Result<()> {
        self.reservation.keep_from_others();
        // SAFETY: the caller's promise.
        unsafe { image.map(self.reservation.base()) }
    }

    /// Grows by `delta` pages; the old size in pages, or `None` if it can't (specification, `memory.grow`).
    pub fn grow(&mut self, delta: u64) -> Option<u64> {
        let old = self.pages();
        let pages = old.checked_add(delta).filter(|pages| *pages <= self.ty.maximum.unwrap_or(MAX_PAGES))?;
        self.commit(usize::try_from(pages.checked_mul(PAGE)?).ok()?)?;
        Some(old)
    }

    /// The addresses that belong to the memory, guard included.
    #[cfg_attr(not(jit), expect(dead_code, reason = "only traps of compiled code need it"))]
    pub fn address_range(&self) -> std::ops::Range<usize> {
        let start = self.reservation.base() as usize;
        start..start + self.reservation.len()
    }

    /// The address at which compiled code reads the length, and the length in bytes.
    #[cfg_attr(not(jit), expect(dead_code, reason = "only traps of compiled code need it"))]
    pub fn length_place(&self) -> (u64, u64) {
        // SAFETY: `vm` is valid while the memory lives.
        (unsafe { &raw const (*self.vm).length } as u64, self.length() as u64)
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the first `length` bytes are committed, and only the store's holder can change them.
        unsafe { std::slice::from_raw_parts((*self.vm).base, self.length()) }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; `&mut self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut((*self.vm).base, self.length()) }
    }
}

/// A linear memory of a store (specification, section 4.2.8).
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
    /// [`Usage`](ErrorKind::Usage) for limits beyond 65536 pages or a maximum below the minimum, and for what is not supported
    /// yet: memories with 64-bit addresses, with pages of another size than 64 KiB, and shared ones.
    /// [`Resource`](ErrorKind::Resource) if the system does not give the memory.
    pub fn new(mut store: impl AsContextMut, ty: MemoryType) -> Result<Self> {
        let store = &mut store.as_context_mut().into_inner().opaque;
        // SAFETY: without a place given there is nothing to promise.
        let data = unsafe { MemoryData::new(None, ty, store.engine())? };
        Ok(Memory(store.add_memory(data)))
    }

    fn in_store(self, store: &StoreOpaque) -> &MemoryData {
        &store.memories[self.0.index(store)]
    }

    fn in_store_mut(self, store: &mut StoreOpaque) -> &mut MemoryData {
        let index = self.0.index(store);
        &mut store.memories[index]
    }

    /// Its type, with the current size as minimum.
    pub fn ty(&self, store: impl AsContext) -> MemoryType {
        let memory = self.in_store(&store.as_context().0.opaque);
        memory.ty.with_minimum(memory.pages())
    }

    /// Its size in pages of 64 KiB.
    pub fn size(&self, store: impl AsContext) -> u64 {
        self.in_store(&store.as_context().0.opaque).pages()
    }

    /// Grows it by `delta` pages and returns the old size in pages.
    ///
    /// # Errors
    /// [`Resource`](ErrorKind::Resource) if its maximum or the system does not allow that.
    pub fn grow(&self, mut store: impl AsContextMut, delta: u64) -> Result<u64> {
        let memory = self.in_store_mut(&mut store.as_context_mut().into_inner().opaque);
        memory.grow(delta).ok_or_else(|| Error::resource(format!("the memory cannot grow by {delta} pages")))
    }

    /// Its bytes.
    pub fn data<'a, T: 'static>(&self, store: impl Into<super::store::StoreContext<'a, T>>) -> &'a [u8] {
        self.in_store(&store.into().0.opaque).bytes()
    }

    /// Its bytes, to be written.
    pub fn data_mut<'a, T: 'static>(&self, store: impl Into<super::store::StoreContextMut<'a, T>>) -> &'a mut [u8] {
        self.in_store_mut(&mut store.into().into_inner().opaque).bytes_mut()
    }

    /// A view with typed reads and writes.
    pub fn linear<'a, T: 'static>(&self, store: impl Into<super::store::StoreContextMut<'a, T>>) -> LinearMemory<'a> {
        LinearMemory::new(self.data_mut(store))
    }

    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// [`Trap::MemoryOutOfBounds`] if the range does not lie in the memory.
    pub fn read(&self, store: impl AsContext, offset: usize, buffer: &mut [u8]) -> Result<()> {
        let bytes = self.in_store(&store.as_context().0.opaque).bytes();
        let source = offset.checked_add(buffer.len()).and_then(|end| bytes.get(offset..end));
        buffer.copy_from_slice(source.ok_or_else(|| out_of_bounds(offset, buffer.len(), bytes.len()))?);
        Ok(())
    }

    /// Writes `data` at `offset`.
    ///
    /// # Errors
    /// [`Trap::MemoryOutOfBounds`] if the range does not lie in the memory; nothing is written then.
    pub fn write(&self, mut store: impl AsContextMut, offset: usize, data: &[u8]) -> Result<()> {
        let bytes = self.in_store_mut(&mut store.as_context_mut().into_inner().opaque).bytes_mut();
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

impl StoreOpaque {
    pub(crate) fn add_memory(&mut self, memory: MemoryData) -> Stored {
        self.memories.push(memory);
        Stored::new(self, self.memories.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The maximum of the type and the reserved space, either of which may be smaller: space may be short.
    #[test]
    fn growth_ends_at_either_limit() {
        let engine = Engine::default();
        let memory = |maximum, capacity: u64| {
            // SAFETY: without a place given there is nothing to promise.
            let memory = unsafe { MemoryData::new(None, MemoryType::new(1, maximum), &engine) };
            MemoryData { capacity: (capacity * PAGE) as usize, ..memory.unwrap() }
        };
        for mut memory in [memory(Some(3), 10), memory(None, 3)] {
            assert_eq!(memory.grow(3), None);
            assert_eq!(memory.grow(u64::MAX), None);
            assert_eq!(
                (memory.grow(1), memory.grow(2), memory.grow(1), memory.grow(1)),
                (Some(1), None, Some(2), None)
            );
            assert_eq!((memory.pages(), memory.bytes().len()), (3, 3 << 16));
        }
    }
}
