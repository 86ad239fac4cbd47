//! Linear memories. Address space is reserved for all that a memory can have, and growth commits pages of it, so the base
//! never moves under compiled code. Where addresses have 32 bits there is no compiled code and too little address space for
//! that: there a memory has what it needs, and moves when it grows.

use super::context::VMMemory;
use super::engine::EngineCore;
use super::limits::{GrowthRequest, LimitedResource};
use super::space::Reservation;
use super::store::{AliasableBox, StoreOpaque, Stored};
use crate::config::BoundsChecks;
use crate::error::{Error, Result};
use crate::module::types::MemoryType;
use crate::sys::Image;

/// Bytes of a WebAssembly page.
pub(crate) const PAGE: u64 = 64 << 10;

/// Most pages of a memory with 32-bit addresses.
pub(crate) const MAX_PAGES: u64 = 1 << 16;

/// Inaccessible bytes after the space that every memory can grow to. Once compiled code has checked the index against the
/// length, it needs no check of a constant offset up to this, less the width of the widest access. 32-bit hosts have no
/// compiled code; there one page ensures that no reservation is empty.
pub(crate) const MEMORY_GUARD: usize = if size_of::<usize>() == 8 { 32 << 20 } else { 64 << 10 };

/// Whether a memory moves when it grows. The interpreter reads the base anew wherever it does so with the length: after every
/// call and instruction that can grow a memory. Compiled code takes the base to be constant.
const MOVES: bool = size_of::<usize>() < 8;

const _: () = assert!(!MOVES || !cfg!(jit));

/// Bytes that are reserved for a memory whose minimum size is less: all that it can have, if it can't move.
const RESERVED: usize = if MOVES { 0 } else { (MAX_PAGES * PAGE) as usize };

/// The most bytes that a memory can have: Rust has no larger slices.
const MAX_BYTES: usize = isize::MAX as usize;

/// The Rust side of a memory.
pub(crate) struct MemoryData {
    /// Base and length, which engines read: in the defining instance's context, or in `_owned`.
    pub vm: *mut VMMemory,
    pub ty: MemoryType,
    reservation: Reservation,
    /// Bytes that the memory can grow to, as its type and the reservation allow; the guard comes after.
    capacity: usize,
    _owned: Option<AliasableBox<VMMemory>>,
}

impl MemoryData {
    /// Makes a zeroed memory of its minimum size, whose base and length engines read at `vm`, or in a box of its own if that
    /// is `None`.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) for a type that is invalid or not supported yet;
    /// [`Resource`](crate::ErrorKind::Resource) if the system refuses the address space or the memory.
    ///
    /// # Safety
    /// `vm` must be valid for reads and writes as long as the memory lives.
    pub unsafe fn new(vm: Option<*mut VMMemory>, ty: MemoryType, engine: &EngineCore) -> Result<Self> {
        let refused = || Error::resource(format!("the system refuses a memory of {} pages", ty.minimum));
        ty.check()?;
        let unsupported = [
            (ty.is_64(), "with 64-bit addresses (the memory64 proposal)"),
            (ty.is_shared(), "that are shared (the threads proposal)"),
            (ty.page_size() != PAGE, "with pages of another size than 64 KiB (the custom-page-sizes proposal)"),
        ];
        if let Some((_, what)) = unsupported.iter().find(|(is_wanted, _)| *is_wanted) {
            return Err(Error::usage(format!("memories {what} are not supported")));
        }
        let minimum = usize::try_from(ty.minimum * PAGE).ok().filter(|bytes| *bytes <= MAX_BYTES);
        let minimum = minimum.ok_or_else(refused)?;
        let maximum = max_bytes(ty).min(minimum.max(RESERVED));
        // Guard pages alone bound the accesses, so all that an index can reach must be reserved.
        let checks = engine.config.bounds_checks;
        let mut wanted = if checks == BoundsChecks::Guard { RESERVED.max(maximum) } else { maximum };
        let reservation = loop {
            match Reservation::new(&engine.spaces, wanted.saturating_add(MEMORY_GUARD), minimum) {
                Some(reservation) => break reservation,
                None if checks == BoundsChecks::Inline && wanted > minimum => {
                    wanted = (wanted / 2 / PAGE as usize * PAGE as usize).max(minimum);
                }
                None => return Err(refused()),
            }
        };
        let mut owned = None;
        let vm = vm.unwrap_or_else(|| {
            owned.insert(AliasableBox::new(VMMemory { base: std::ptr::null_mut(), length: 0 })).as_ptr()
        });
        let capacity = wanted.min(maximum);
        // SAFETY: valid by the caller's promise, or the box above.
        unsafe { vm.write(VMMemory { base: reservation.base(), length: minimum }) };
        Ok(MemoryData { vm, ty, reservation, capacity, _owned: owned })
    }

    /// Length in bytes.
    fn length(&self) -> usize {
        // SAFETY: `vm` is valid while the memory lives.
        unsafe { (*self.vm).length }
    }

    /// Length in pages.
    pub fn pages(&self) -> u64 {
        self.length() as u64 / PAGE
    }

    /// Grows the memory to `length` bytes; `None` if it can't, or if that would be less than now.
    fn commit(&mut self, length: usize) -> Option<()> {
        let old = self.length();
        if length < old {
            return None;
        }
        if length > self.capacity {
            return if MOVES { self.move_to_larger(length) } else { None };
        }
        if length > old {
            self.reservation.set_accessible(length)?;
            // SAFETY: `vm` is valid while the memory lives.
            unsafe { (*self.vm).length = length };
        }
        Some(())
    }

    /// Moves the memory to where its first `length` bytes are accessible. If there is room, as many more are reserved: a memory
    /// that grows page by page is not copied each time.
    fn move_to_larger(&mut self, length: usize) -> Option<()> {
        if length > MAX_BYTES {
            return None;
        }
        let roomy = length.saturating_mul(2).min(max_bytes(self.ty));
        let (capacity, reservation) = [roomy, length].into_iter().find_map(|capacity| {
            Some((capacity, self.reservation.another(capacity.checked_add(MEMORY_GUARD)?, length)?))
        })?;
        // SAFETY: the new place has more bytes than the old one, and they are apart. `vm` is valid while the memory lives.
        unsafe {
            reservation.base().copy_from_nonoverlapping((*self.vm).base, self.length());
            self.vm.write(VMMemory { base: reservation.base(), length });
        }
        (self.capacity, self.reservation) = (capacity, reservation);
        Some(())
    }

    /// Replaces the pages of `image` in a memory that nobody has written to yet.
    ///
    /// # Errors
    /// [`Resource`](crate::ErrorKind::Resource) if the system refuses.
    ///
    /// # Safety
    /// The image must be one of the module that defines this memory.
    pub unsafe fn map(&mut self, image: &Image) -> Result<()> {
        self.reservation.exclude_from_reuse();
        // SAFETY: the image's pages lie in the memory's minimum size, which is accessible, since the image is one of the
        // module that defines the memory, by the caller's promise.
        unsafe { image.map(self.reservation.base()) }
    }

    /// Grows by `delta` pages (specification, `memory.grow`). Returns the old size in pages, or `None` if it can't grow.
    pub fn grow(&mut self, delta: u64) -> Option<u64> {
        let old = self.pages();
        let pages = old.checked_add(delta).filter(|pages| *pages <= self.ty.maximum.unwrap_or(MAX_PAGES))?;
        self.commit(usize::try_from(pages.checked_mul(PAGE)?).ok()?)?;
        Some(old)
    }

    /// The request to a limiter for growth by `delta` pages; `None` if the new size would overflow.
    pub fn growth(&self, delta: u64) -> Option<GrowthRequest> {
        let desired = usize::try_from(self.pages().checked_add(delta)?.checked_mul(PAGE)?).ok()?;
        Some(GrowthRequest { current: self.length(), desired, ..initial_growth(self.ty) })
    }

    /// The host addresses that are reserved for the memory, guard included.
    #[cfg_attr(not(jit), expect(dead_code, reason = "only traps of compiled code need it"))]
    pub fn address_range(&self) -> std::ops::Range<usize> {
        let start = self.reservation.base() as usize;
        start..start + self.reservation.len()
    }

    /// The host address at which compiled code reads the length, and the length in bytes.
    #[cfg_attr(not(jit), expect(dead_code, reason = "only traps of compiled code need it"))]
    pub fn length_place(&self) -> (u64, u64) {
        // SAFETY: `vm` is valid while the memory lives.
        (unsafe { &raw const (*self.vm).length } as u64, self.length() as u64)
    }

    /// The memory's contents.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the first `length` bytes are accessible. `&self` borrows the store, so no code that writes to them runs.
        unsafe { std::slice::from_raw_parts((*self.vm).base, self.length()) }
    }

    /// The memory's contents, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the first `length` bytes are accessible. `&mut self` borrows the store exclusively, so no code that reads
        // or writes them runs.
        unsafe { std::slice::from_raw_parts_mut((*self.vm).base, self.length()) }
    }
}

/// The most bytes that a memory of a type can have.
fn max_bytes(ty: MemoryType) -> usize {
    let pages = ty.maximum.unwrap_or(MAX_PAGES).min(MAX_PAGES);
    usize::try_from(pages * PAGE).unwrap_or(usize::MAX).min(MAX_BYTES)
}

/// The request to a limiter for making a memory of a type.
pub(crate) fn initial_growth(ty: MemoryType) -> GrowthRequest {
    let bytes = |pages: u64| usize::try_from(pages.saturating_mul(PAGE)).unwrap_or(usize::MAX);
    let maximum = Some(bytes(ty.maximum.unwrap_or(MAX_PAGES).min(MAX_PAGES)));
    GrowthRequest { current: 0, desired: bytes(ty.minimum), maximum }
}

impl StoreOpaque {
    /// Adds a memory to the store; returns its handle.
    pub(crate) fn add_memory(&mut self, memory: MemoryData) -> Stored {
        self.charge(LimitedResource::Memory, memory.length());
        self.memories.push(memory);
        Stored::new(self, self.memories.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(minimum: u64, maximum: Option<u64>) -> Result<MemoryData> {
        // SAFETY: no `vm` is passed that would have to be valid.
        unsafe { MemoryData::new(None, MemoryType::new(minimum, maximum), crate::Engine::default().core()) }
    }

    /// The maximum of the type and the reserved space, either of which may be smaller: space may be short. A memory that
    /// moves grows out of its space.
    #[test]
    fn growth_ends_at_either_limit() {
        let with = |maximum, capacity: u64| {
            let memory = memory(1, maximum).unwrap();
            if MOVES { memory } else { MemoryData { capacity: (capacity * PAGE) as usize, ..memory } }
        };
        for mut memory in [with(Some(3), 10), with(if MOVES { Some(3) } else { None }, 3)] {
            assert_eq!(memory.grow(3), None);
            assert_eq!(memory.grow(u64::MAX), None);
            assert_eq!(
                (memory.grow(1), memory.grow(2), memory.grow(1), memory.grow(1)),
                (Some(1), None, Some(2), None)
            );
            assert_eq!((memory.pages(), memory.bytes().len()), (3, 3 << 16));
        }
    }

    /// Whether or not it moves.
    #[test]
    fn growth_keeps_what_is_written_and_adds_zeros() {
        let mut memory = memory(1, None).unwrap();
        let mut pages = 1;
        for delta in [1, 1, 3, 0, 30, 1, 200] {
            let end = memory.bytes().len() - 1;
            memory.bytes_mut()[end] = pages as u8;
            assert_eq!(memory.grow(delta), Some(pages));
            assert!(memory.bytes()[end] == pages as u8 && memory.bytes()[end + 1..].iter().all(|byte| *byte == 0));
            pages += delta;
        }
        assert_eq!((memory.bytes()[0xFFFF], memory.bytes().len() as u64), (1, pages * PAGE));
    }

    /// More than half of a 32-bit address space is more than a slice can have.
    #[test]
    #[cfg(target_pointer_width = "32")]
    fn none_is_larger_than_a_slice() {
        assert!(memory(1 << 15, None).is_err());
        assert_eq!(memory(1, None).unwrap().grow(1 << 15), None);
    }
}
