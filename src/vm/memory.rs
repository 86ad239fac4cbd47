//! Linear memories. A memory is either pinned or packed.
//!
//! A pinned memory has a space of its own, reserved for all that it can have, with a guard behind it; growth commits pages of
//! it, so the base never moves under compiled code. A packed memory is small and lies beside others, see [`slab`](super::slab);
//! it moves when it outgrows its slot, or when it is pinned because compiled code is to run. Who packs, and when, is in
//! [`store`](super::store).
//!
//! A shared memory is none of both: it belongs to no store, see [`shared`](super::shared), and a store's [`MemoryData`] only refers to it.
//!
//! Where addresses have 32 bits there is no compiled code and too little address space to reserve much: there a space has what
//! the memory needs, and the memory moves when it grows.

use super::context::VMMemory;
use super::engine::EngineCore;
use super::limits::GrowthRequest;
use super::shared::SharedMemory;
use super::slab::{MAX_PACKED, Slot};
use super::space::{Reservation, SpaceUse, is_crowded, refused};
use super::store::AliasableBox;
use crate::config::{BoundsChecks, Strategy};
use crate::error::{Error, Result};
use crate::module::types::MemoryType;
use crate::sys::Image;
use std::sync::Arc;

/// Bytes of a WebAssembly page.
pub(crate) const PAGE: u64 = 64 << 10;

/// Inaccessible bytes after the space that every pinned memory can grow to. Once compiled code has checked the index against
/// the length, it needs no check of a constant offset up to this, less the width of the widest access. 32-bit hosts have no
/// compiled code; there one page ensures that no reservation is empty.
pub(crate) const MEMORY_GUARD: usize = if size_of::<usize>() == 8 { 32 << 20 } else { 64 << 10 };

/// Whether a pinned memory moves when it grows. The interpreter reads the base anew wherever it does so with the length: after
/// every call and instruction that can grow a memory. Compiled code takes the base to be constant.
const MOVES: bool = size_of::<usize>() < 8;

const _: () = assert!(!MOVES || !cfg!(jit));

/// Bytes that are reserved for a memory whose minimum size is less and whose maximum is not: all that one with 32-bit addresses
/// can have, if it can't move.
const RESERVED: usize = if MOVES { 0 } else { (1u64 << 32) as usize };

/// As much is reserved for a memory with 64-bit addresses: more than most machines have, and so little of the address space that
/// two thousand of them fit there.
const RESERVED_64: usize = if MOVES { 0 } else { (64u64 << 30) as usize };

/// The bytes that are reserved for a memory of a type, unless its minimum is more or its maximum less.
fn reserved(ty: MemoryType) -> usize {
    if ty.is_64() { RESERVED_64 } else { RESERVED }
}

/// The most bytes that a memory can have: Rust has no larger slices.
const MAX_BYTES: usize = isize::MAX as usize;

/// The largest memory that is packed again when its store runs no code: it is copied, each way.
const MAX_REPACKED: usize = 256 << 10;

/// The Rust side of a memory.
pub(crate) struct MemoryData {
    /// Base and length, which engines read: in the defining instance's context, in `_owned`, or in the shared memory.
    pub vm: *mut VMMemory,
    pub ty: MemoryType,
    room: Room,
    _owned: Option<AliasableBox<VMMemory>>,
}

/// Where the bytes of a memory are.
enum Room {
    Packed(Slot),
    Pinned {
        reservation: Reservation,
        /// Bytes that the memory can grow to, as its type and the reservation allow; the guard comes after.
        capacity: usize,
    },
    Shared(Arc<SharedMemory>),
}

/// Where a memory that is made may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// Compiled code may run in the store now.
    Pinned,
    /// Either. The image with this number, if any, is going to be mapped into the memory.
    Either { image: Option<u64> },
}

/// Whether small memories of an engine that runs no code are packed: if the process is short of mappings, or nothing is
/// compiled and the memory has a page at most. Packed memories cost no system call, but copying when they move.
fn packs(engine: &EngineCore, bytes: usize) -> bool {
    let config = &engine.config;
    let small = if config.strategy == Strategy::Interpreter { PAGE as usize } else { 0 };
    bytes <= small || bytes <= MAX_PACKED && (is_crowded() || config.pack_memories)
}

impl Room {
    /// A space for a memory of `length` zeroed bytes; as much is reserved as the memory can have, or less if that is refused.
    #[cfg_attr(
        target_pointer_width = "32",
        expect(clippy::unnecessary_min_or_max, reason = "nothing is reserved there")
    )]
    fn pin(ty: MemoryType, length: usize, engine: &EngineCore, image: Option<u64>) -> Option<Room> {
        let maximum = max_bytes(ty).min(length.max(reserved(ty)));
        // Guard pages alone bound the accesses, so all that an index can reach must be reserved. That can't be for 64-bit
        // addresses, which are always checked.
        let checks = if ty.is_64() { BoundsChecks::Inline } else { engine.config.bounds_checks };
        let mut wanted = if checks == BoundsChecks::Guard { RESERVED.max(maximum) } else { maximum };
        loop {
            let used_as = SpaceUse::Memory { image };
            match Reservation::new(&engine.spaces, wanted.saturating_add(MEMORY_GUARD), length, used_as) {
                Some(reservation) => return Some(Room::Pinned { reservation, capacity: wanted.min(maximum) }),
                None if checks == BoundsChecks::Inline && wanted > length => {
                    wanted = (wanted / 2 / PAGE as usize * PAGE as usize).max(length);
                }
                None => return None,
            }
        }
    }

    /// A slot for a memory of `length` zeroed bytes.
    fn pack(length: usize, engine: &EngineCore) -> Option<Room> {
        let mut slot = Slot::new(&engine.spaces, length)?;
        slot.set_used(length);
        Some(Room::Packed(slot))
    }

    fn base(&self) -> *mut u8 {
        match self {
            Room::Packed(slot) => slot.base(),
            Room::Pinned { reservation, .. } => reservation.base(),
            Room::Shared(shared) => shared.base(),
        }
    }
}

impl MemoryData {
    /// Makes a zeroed memory of its minimum size, whose base and length engines read at `vm`, or in a box of its own if that
    /// is `None`.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) for a type that is invalid or shared;
    /// [`Resource`](crate::ErrorKind::Resource) if the system refuses the address space or the memory.
    ///
    /// # Safety
    /// `vm` must be valid for reads and writes as long as the memory lives.
    pub unsafe fn new(
        vm: Option<*mut VMMemory>,
        ty: MemoryType,
        engine: &EngineCore,
        placement: Placement,
    ) -> Result<Self> {
        ty.check()?;
        if ty.is_shared() {
            return Err(Error::usage("a shared memory belongs to no store: make it with `SharedMemory::new`"));
        }
        let minimum = usize::try_from(ty.minimum_bytes()).ok().filter(|bytes| *bytes <= MAX_BYTES);
        let room = minimum.and_then(|minimum| match placement {
            Placement::Pinned => Room::pin(ty, minimum, engine, None),
            Placement::Either { .. } if packs(engine, minimum) => {
                Room::pack(minimum, engine).or_else(|| Room::pin(ty, minimum, engine, None))
            }
            Placement::Either { image } => {
                Room::pin(ty, minimum, engine, image).or_else(|| Room::pack(minimum, engine))
            }
        });
        let (Some(length), Some(room)) = (minimum, room) else {
            let wanted = minimum.map_or(usize::MAX, |minimum| minimum.saturating_add(MEMORY_GUARD));
            let pages = ty.minimum;
            return Err(refused(&format!("a memory of {pages} page{}", if pages == 1 { "" } else { "s" }), wanted));
        };
        let mut owned = None;
        let vm = vm.unwrap_or_else(|| owned.insert(AliasableBox::new(VMMemory::new(std::ptr::null_mut(), 0))).as_ptr());
        // SAFETY: valid by the caller's promise, or the box above.
        unsafe { vm.write(VMMemory::new(room.base(), length)) };
        Ok(MemoryData { vm, ty, room, _owned: owned })
    }

    /// A store's reference to a shared memory.
    pub fn shared(memory: Arc<SharedMemory>) -> Self {
        MemoryData { vm: memory.vm(), ty: memory.ty(), room: Room::Shared(memory), _owned: None }
    }

    /// The shared memory that this refers to, if it does.
    pub fn as_shared(&self) -> Option<&Arc<SharedMemory>> {
        if let Room::Shared(memory) = &self.room { Some(memory) } else { None }
    }

    /// Length in bytes.
    pub fn length(&self) -> usize {
        // SAFETY: `vm` is valid while the memory lives.
        unsafe { (*self.vm).length() }
    }

    /// Length in pages.
    pub fn pages(&self) -> u64 {
        self.length() as u64 >> self.ty.page_size_log2()
    }

    /// Whether the memory is packed, so that no code may run that needs it pinned.
    pub fn is_packed(&self) -> bool {
        matches!(self.room, Room::Packed(_))
    }

    /// Whether the memory is small enough to be packed again and again.
    pub fn is_worth_packing(&self) -> bool {
        self.length() <= MAX_REPACKED && self.as_shared().is_none()
    }

    /// Gives a packed memory a space of its own; false if the system refuses. Must not be called while a base is in use.
    pub fn pin(&mut self, engine: &EngineCore) -> bool {
        !self.is_packed() || Room::pin(self.ty, self.length(), engine, None).map(|room| self.move_to(room)).is_some()
    }

    /// Packs the memory, if there is room for it and it is not shared. Must not be called while a base is in use.
    pub fn pack(&mut self, engine: &EngineCore) {
        if matches!(self.room, Room::Pinned { .. })
            && let Some(room) = Room::pack(self.length(), engine)
        {
            self.move_to(room);
        }
    }

    /// Moves the contents to zeroed room for at least as many bytes. Where there are only zeros nothing is written, so that
    /// no memory is made resident that was not.
    fn move_to(&mut self, room: Room) {
        /// Bytes of a page of the host, or a part of one.
        const PIECE: usize = 4096;
        static ZEROS: [u8; PIECE] = [0; PIECE];
        let base = room.base();
        for (piece, at) in self.own_bytes().chunks(PIECE).zip((0..).step_by(PIECE)) {
            if *piece != ZEROS[..piece.len()] {
                // SAFETY: the new place has room for as many bytes, and they are apart.
                unsafe { base.add(at).copy_from_nonoverlapping(piece.as_ptr(), piece.len()) };
            }
        }
        // SAFETY: `vm` is valid while the memory lives.
        unsafe { (*self.vm).base = base };
        self.room = room;
    }

    /// Grows the memory to `length` bytes, which are no less than now; `None` if it can't.
    fn commit(&mut self, length: usize, engine: &EngineCore) -> Option<()> {
        if length == self.length() {
            return Some(());
        }
        match &mut self.room {
            Room::Packed(slot) if length <= slot.capacity() => slot.set_used(length),
            Room::Packed(_) => {
                let room = if length <= MAX_PACKED { Room::pack(length, engine) } else { None };
                self.move_to(room.or_else(|| Room::pin(self.ty, length, engine, None))?);
            }
            Room::Pinned { reservation, capacity } if length <= *capacity => reservation.set_accessible(length)?,
            Room::Pinned { .. } if MOVES => self.move_to(self.roomier(length, engine)?),
            Room::Pinned { .. } => return None,
            Room::Shared(_) => unreachable!("a shared memory grows by itself"),
        }
        // SAFETY: `vm` is valid while the memory lives.
        unsafe { (*self.vm).set_length(length) };
        Some(())
    }

    /// A larger space, where spaces don't have all that a memory can have. If there is room, twice as much is reserved: a
    /// memory that grows page by page is not copied each time.
    fn roomier(&self, length: usize, engine: &EngineCore) -> Option<Room> {
        if length > MAX_BYTES {
            return None;
        }
        let roomy = length.saturating_mul(2).min(max_bytes(self.ty));
        [roomy, length].into_iter().find_map(|capacity| {
            let whole = capacity.checked_add(MEMORY_GUARD)?;
            let reservation = Reservation::new(&engine.spaces, whole, length, SpaceUse::Memory { image: None })?;
            Some(Room::Pinned { reservation, capacity })
        })
    }

    /// Makes the contents those of `image`, in a memory that nobody has written to yet. False if the memory is packed: its
    /// data must be copied.
    ///
    /// # Errors
    /// [`Resource`](crate::ErrorKind::Resource) if the system refuses.
    ///
    /// # Safety
    /// The image must be one of the module that defines this memory.
    pub unsafe fn map(&mut self, image: &Image) -> Result<bool> {
        let Room::Pinned { reservation, .. } = &mut self.room else { return Ok(false) };
        if !reservation.has_image(image.id()) {
            // SAFETY: the image's pages lie in the memory's minimum size, which is accessible, since the image is one of the
            // module that defines the memory, by the caller's promise.
            reservation.map_image(image.id(), |base| unsafe { image.map(base) })?;
        }
        Ok(true)
    }

    /// Zeroes what `image` has in a memory whose instantiation has ended before its data came: the memory's space may have the
    /// image already.
    pub fn remove_image(&mut self, image: &Image) {
        if let Room::Pinned { reservation, .. } = &self.room
            && reservation.has_image(image.id())
        {
            self.own_bytes_mut()[image.range()].fill(0);
        }
    }

    /// Grows by `delta` pages (specification, `memory.grow`), to `most` bytes at most. Returns the old size in pages, or `None` if it
    /// can't grow so far.
    pub fn grow(&mut self, delta: u64, most: usize, engine: &EngineCore) -> Option<u64> {
        if let Room::Shared(memory) = &self.room {
            return memory.grow(delta, most);
        }
        let old = self.pages();
        let pages = old.checked_add(delta).filter(|pages| *pages <= self.ty.most_pages())?;
        let length = usize::try_from(pages.checked_mul(self.ty.page_size())?).ok()?;
        if length > most {
            return None;
        }
        self.commit(length, engine)?;
        Some(old)
    }

    /// The request to a limiter for growth by `delta` pages; `None` if the new size would overflow.
    pub fn growth(&self, delta: u64) -> Option<GrowthRequest> {
        // Read once: another thread may let a shared memory grow.
        let current = self.length();
        let pages = (current as u64 >> self.ty.page_size_log2()).checked_add(delta)?;
        let desired = usize::try_from(pages.checked_mul(self.ty.page_size())?).ok()?;
        Some(GrowthRequest { current, desired, ..initial_growth(self.ty) })
    }

    /// The host addresses that are reserved for the memory, guard included; none if it is packed.
    #[cfg_attr(not(jit), expect(dead_code, reason = "only traps of compiled code need it"))]
    pub fn address_range(&self) -> std::ops::Range<usize> {
        match &self.room {
            Room::Packed(_) => 0..0,
            Room::Pinned { reservation, .. } => {
                let start = reservation.base() as usize;
                start..start + reservation.len()
            }
            Room::Shared(memory) => memory.address_range(),
        }
    }

    /// The host address at which compiled code reads the length, and the length in bytes.
    #[cfg_attr(not(jit), expect(dead_code, reason = "only traps of compiled code need it"))]
    pub fn length_place(&self) -> (u64, u64) {
        (self.vm.addr() as u64 + VMMemory::LENGTH as u64, self.length() as u64)
    }

    /// Whether pages that the system has never given the memory are zero: none of them are to come from an image.
    pub fn is_anonymous(&self) -> bool {
        matches!(&self.room, Room::Pinned { reservation, .. } if reservation.is_anonymous())
    }

    /// The contents of a memory that is not shared.
    pub fn bytes(&self) -> Option<&[u8]> {
        if self.as_shared().is_some() {
            return None;
        }
        // SAFETY: the first `length` bytes are accessible. No other store has the memory and `&self` borrows this one, so no code
        // that writes to them runs.
        Some(unsafe { std::slice::from_raw_parts((*self.vm).base, self.length()) })
    }

    /// The contents of a memory that is not shared, to be written.
    pub fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        if self.as_shared().is_some() {
            return None;
        }
        // SAFETY: the first `length` bytes are accessible. No other store has the memory and `&mut self` borrows this one
        // exclusively, so no code that reads or writes them runs.
        Some(unsafe { std::slice::from_raw_parts_mut((*self.vm).base, self.length()) })
    }

    /// The contents, where the memory is known not to be shared.
    ///
    /// # Panics
    /// If it is.
    pub fn own_bytes(&self) -> &[u8] {
        self.bytes().expect("a shared memory has no slices")
    }

    /// As [`own_bytes`](Self::own_bytes), to be written.
    ///
    /// # Panics
    /// If the memory is shared.
    pub fn own_bytes_mut(&mut self) -> &mut [u8] {
        self.bytes_mut().expect("a shared memory has no slices")
    }
}

/// The bytes to reserve for a shared memory, before the guard: all that it can have, and what the engine's way of checking
/// accesses needs. `None` if that is more than is reserved for any memory.
pub(super) fn shared_space(ty: MemoryType, engine: &EngineCore) -> Option<usize> {
    let most = usize::try_from(ty.most_pages().checked_mul(ty.page_size())?).ok()?;
    let limit = if MOVES { MAX_BYTES } else { RESERVED_64 };
    let needed = if engine.config.bounds_checks == BoundsChecks::Guard && !ty.is_64() { RESERVED } else { 0 };
    (most <= limit).then_some(most.max(needed))
}

/// The most bytes that a memory of a type can have.
pub(super) fn max_bytes(ty: MemoryType) -> usize {
    usize::try_from(ty.most_pages().saturating_mul(ty.page_size())).unwrap_or(usize::MAX).min(MAX_BYTES)
}

/// The request to a limiter for making a memory of a type.
pub(crate) fn initial_growth(ty: MemoryType) -> GrowthRequest {
    let bytes = |pages: u64| usize::try_from(pages.saturating_mul(ty.page_size())).unwrap_or(usize::MAX);
    let maximum = Some(bytes(ty.most_pages()));
    GrowthRequest { current: 0, desired: bytes(ty.minimum), maximum }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EITHER: Placement = Placement::Either { image: None };

    /// An engine that packs small memories, or one that does not.
    fn engines() -> [crate::Engine; 2] {
        [false, true].map(|packs| crate::Engine::new(crate::Config::new().pack_memories(packs)).unwrap())
    }

    fn memory(engine: &EngineCore, minimum: u64, maximum: Option<u64>, placement: Placement) -> Result<MemoryData> {
        // SAFETY: no `vm` is passed that would have to be valid.
        unsafe { MemoryData::new(None, MemoryType::new(minimum, maximum), engine, placement) }
    }

    /// The maximum of the type and the reserved space, either of which may be smaller: space may be short. A memory that
    /// moves grows out of its space.
    #[test]
    fn growth_ends_at_either_limit() {
        let [engine, _] = engines();
        let with = |maximum, pages: u64| {
            let mut memory = memory(engine.core(), 1, maximum, Placement::Pinned).unwrap();
            if let Room::Pinned { capacity, .. } = &mut memory.room
                && !MOVES
            {
                *capacity = (pages * PAGE) as usize;
            }
            memory
        };
        for mut memory in [with(Some(3), 10), with(if MOVES { Some(3) } else { None }, 3)] {
            let mut grow = |delta| memory.grow(delta, usize::MAX, engine.core());
            assert_eq!(grow(3), None);
            assert_eq!(grow(u64::MAX), None);
            assert_eq!((grow(1), grow(2), grow(1), grow(1)), (Some(1), None, Some(2), None));
            assert_eq!((memory.pages(), memory.own_bytes().len()), (3, 3 << 16));
        }
    }

    /// Whether or not it moves, from slot to slot and to a space of its own.
    #[test]
    fn growth_keeps_what_is_written_and_adds_zeros() {
        for engine in &engines() {
            // What another memory wrote must not come back.
            let mut other = memory(engine.core(), 16, None, EITHER).unwrap();
            other.own_bytes_mut().fill(1);
            drop(other);
            let mut memory = memory(engine.core(), 1, None, EITHER).unwrap();
            let mut pages = 1;
            for delta in [1, 1, 3, 0, 30, 1, 200] {
                let end = memory.own_bytes().len() - 1;
                memory.own_bytes_mut()[end] = pages as u8;
                assert_eq!(memory.grow(delta, usize::MAX, engine.core()), Some(pages));
                assert!(
                    memory.own_bytes()[end] == pages as u8
                        && memory.own_bytes()[end + 1..].iter().all(|byte| *byte == 0)
                );
                pages += delta;
            }
            assert_eq!((memory.own_bytes()[0xFFFF], memory.own_bytes().len() as u64), (1, pages * PAGE));
        }
    }

    /// There and back, with what is in it; what it leaves behind is zero for the next.
    #[test]
    fn pinning_and_packing_move_the_contents() {
        let [_, engine] = engines();
        let engine = engine.core();
        let mut first = memory(engine, 2, None, EITHER).unwrap();
        assert!(first.is_packed() && first.is_worth_packing());
        for round in 0..5 {
            let range = 0x1FFF0..0x20000;
            first.own_bytes_mut()[range.clone()].fill(round + 1);
            assert!(first.pin(engine) && !first.is_packed());
            assert_eq!(first.own_bytes()[range.clone()], [round + 1; 16]);
            assert!(memory(engine, 2, None, EITHER).unwrap().own_bytes().iter().all(|byte| *byte == 0), "{round}");
            first.own_bytes_mut()[range.clone()].fill(round + 7);
            first.pack(engine);
            assert!(first.is_packed());
            assert_eq!(first.own_bytes()[range], [round + 7; 16]);
            let pinned = memory(engine, 2, None, Placement::Pinned).unwrap();
            assert!(!pinned.is_packed() && pinned.own_bytes().iter().all(|byte| *byte == 0), "{round}");
        }
    }

    /// More than half of a 32-bit address space is more than a slice can have.
    #[test]
    #[cfg(target_pointer_width = "32")]
    fn none_is_larger_than_a_slice() {
        let [engine, _] = engines();
        assert!(memory(engine.core(), 1 << 15, None, EITHER).is_err());
        assert_eq!(memory(engine.core(), 1, None, EITHER).unwrap().grow(1 << 15, usize::MAX, engine.core()), None);
    }
}
