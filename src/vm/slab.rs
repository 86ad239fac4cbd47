//! Packed memories: small ones side by side in large mappings, without guards. They take no mappings of their own and no more
//! address space than they have bytes, so that a process can hold a hundred thousand of them.
//!
//! Code that relies on a guard behind a memory, or on a base that does not move, must not run while the memory is packed. The
//! interpreter and baseline code check each access in full, and read the base anew after whatever may move it. Before native
//! code of the optimising compiler runs in a store, its memories are moved to spaces of their own; see
//! [`StoreOpaque::pin_memories`](super::store::StoreOpaque::pin_memories).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::memory::PAGE;
#[cfg(miri)]
use super::space::region;
use super::space::{SpacePool, WRITTEN_TO_CLEAR, is_crowded};
use crate::sys::{discard, prefer_small_pages};

/// Whether there is much address space. Miri has to allocate it all.
const SPACIOUS: bool = size_of::<usize>() == 8 && !cfg!(miri);

/// Bytes of a slab, all of which are slots of one size.
const SLAB: usize = if SPACIOUS { 16 << 20 } else { 1 << 20 };

/// Sizes of slots: a page, twice that, and so on. Programs of Rust and C begin with up to 17 pages, so 64 leave them room.
const CLASSES: usize = if SPACIOUS { 7 } else { 5 };

/// Bytes of the largest slot.
pub(crate) const MAX_PACKED: usize = (PAGE as usize) << (CLASSES - 1);

const _: () = assert!(MAX_PACKED <= SLAB && SLAB / PAGE as usize <= u16::MAX as usize);

/// Most idle slots that stay resident. They are the first to be used again.
const MAX_WARM: usize = 64;

/// The packed memories of an engine.
#[derive(Default)]
pub(crate) struct Slabs {
    classes: [Class; CLASSES],
    /// Number of warm slots in all classes.
    warm: usize,
}

/// The slabs with slots of one size.
#[derive(Default)]
struct Class {
    slabs: Vec<Option<Slab>>,
    /// Indices of `slabs` that are `None`.
    vacant: Vec<u32>,
    /// Indices of slabs with free slots. The first is used first, so that others get empty.
    open: BTreeSet<u32>,
    /// The slab that is kept though all its slots are free.
    empty: Option<u32>,
    /// Idle slots that were cleared by writing to them. For their slabs they are in use.
    warm: Vec<Place>,
}

struct Slab {
    allocation: region::Allocation,
    /// Free slots, which are zero.
    free: Vec<u16>,
}

// SAFETY: it owns its pages, and any thread of the process may access or unmap them.
unsafe impl Send for Slab {}

/// Where a slot is: index of its slab and of the slot there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    slab: u32,
    slot: u16,
}

impl Class {
    /// Takes a slot of `size` bytes, all zero; `None` if the system refuses a slab.
    fn take(&mut self, size: usize) -> Option<(Place, *mut u8)> {
        let index = match self.open.first() {
            Some(index) => *index,
            None => self.add_slab(size)?,
        };
        let slab = self.slabs[index as usize].as_mut().expect("an open slab is mapped");
        let slot = slab.free.pop().expect("an open slab has free slots");
        if slab.free.is_empty() {
            self.open.remove(&index);
        }
        self.empty = self.empty.filter(|empty| *empty != index);
        let place = Place { slab: index, slot };
        Some((place, self.address(place, size)))
    }

    fn address(&self, place: Place, size: usize) -> *mut u8 {
        let slab = self.slabs[place.slab as usize].as_ref().expect("the slab of a slot in use is mapped");
        slab.allocation.as_ptr::<u8>().cast_mut().wrapping_add(usize::from(place.slot) * size)
    }

    fn add_slab(&mut self, size: usize) -> Option<u32> {
        let allocation = region::alloc(SLAB, region::Protection::READ_WRITE).ok()?;
        // SAFETY: the range was mapped just now.
        unsafe { prefer_small_pages(allocation.as_ptr::<u8>().cast_mut().cast(), SLAB) };
        let slab = Slab { allocation, free: (0..(SLAB / size) as u16).rev().collect() };
        let index = self.vacant.pop().unwrap_or(self.slabs.len() as u32);
        match self.slabs.get_mut(index as usize) {
            Some(vacant) => *vacant = Some(slab),
            None => self.slabs.push(Some(slab)),
        }
        self.open.insert(index);
        Some(index)
    }

    /// Takes back a slot of `size` bytes that is zero. Returns a slab to be unmapped: one is kept empty, no more.
    fn give_back(&mut self, place: Place, size: usize) -> Option<Slab> {
        let slab = self.slabs[place.slab as usize].as_mut().expect("the slab of a slot in use is mapped");
        slab.free.push(place.slot);
        let is_empty = slab.free.len() == SLAB / size;
        self.open.insert(place.slab);
        if !is_empty {
            return None;
        }
        match self.empty {
            Some(_) => self.remove(place.slab),
            None => {
                self.empty = Some(place.slab);
                None
            }
        }
    }

    fn remove(&mut self, index: u32) -> Option<Slab> {
        self.open.remove(&index);
        self.vacant.push(index);
        self.slabs[index as usize].take()
    }
}

impl Slabs {
    /// Unmaps what is idle: empty slabs, after warm slots have been freed. False if there was nothing.
    pub fn unmap_idle(&mut self) -> bool {
        let mut any = false;
        for (class, size) in self.classes.iter_mut().zip((0..).map(|class| (PAGE as usize) << class)) {
            let warm = std::mem::take(&mut class.warm);
            self.warm -= warm.len();
            for place in warm {
                any |= class.give_back(place, size).is_some();
            }
            if let Some(empty) = class.empty.take() {
                any |= class.remove(empty).is_some();
            }
        }
        any
    }
}

/// Room for a packed memory: a slot, all of whose bytes can be read and written. It goes back when it is dropped.
pub(crate) struct Slot {
    base: *mut u8,
    class: u8,
    place: Place,
    /// Number of bytes from the start that may differ from zero.
    used: usize,
    spaces: Arc<SpacePool>,
}

impl Slot {
    /// A slot of at least `bytes`, all zero. `None` if that is more than [`MAX_PACKED`] or the system refuses.
    pub fn new(spaces: &Arc<SpacePool>, bytes: usize) -> Option<Self> {
        let pages = bytes.div_ceil(PAGE as usize).max(1);
        let class = pages.next_power_of_two().trailing_zeros() as usize;
        let size = (PAGE as usize) << class;
        let take = || {
            let mut slabs = spaces.slabs();
            let of_class = slabs.classes.get_mut(class)?;
            if let Some(place) = of_class.warm.pop() {
                let base = of_class.address(place, size);
                slabs.warm -= 1;
                return Some((place, base));
            }
            of_class.take(size)
        };
        // If address space is short, unmap what is idle and try again.
        let (place, base) = take().or_else(|| (class < CLASSES && spaces.unmap_idle()).then(take).flatten())?;
        Some(Slot { base, class: class as u8, place, used: 0, spaces: spaces.clone() })
    }

    /// Address of the first byte.
    pub fn base(&self) -> *mut u8 {
        self.base
    }

    /// Bytes that can be used.
    pub fn capacity(&self) -> usize {
        (PAGE as usize) << self.class
    }

    /// Notes that up to `bytes` bytes from the start may be written to from now on.
    pub fn set_used(&mut self, bytes: usize) {
        assert!(bytes <= self.capacity(), "a memory of {bytes} bytes in a smaller slot");
        self.used = self.used.max(bytes);
    }

    /// Zeroes `bytes` bytes from the start, by giving their pages back to the system if it takes them.
    fn discard(&mut self, bytes: usize) {
        // SAFETY: the bytes are in the slot, which is used by this alone, in a private mapping that has no image.
        unsafe {
            if discard(self.base.cast(), bytes).is_none() {
                self.base.write_bytes(0, bytes);
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let (class, used) = (usize::from(self.class), self.used);
        // A warm slot is resident as a whole. Where memories are packed and pinned again and again, all would get one in turn.
        let keep_warm = used <= WRITTEN_TO_CLEAR && !is_crowded() && {
            let mut slabs = self.spaces.slabs();
            let has_room = slabs.warm < MAX_WARM;
            slabs.warm += usize::from(has_room);
            has_room
        };
        // The lock is free meanwhile: nobody else uses the slot.
        if keep_warm {
            // SAFETY: the bytes are in the slot, which is used by this alone.
            unsafe { self.base.write_bytes(0, used) };
            self.spaces.slabs().classes[class].warm.push(self.place);
            return;
        }
        self.discard(used);
        let _unmapped = {
            let mut slabs = self.spaces.slabs();
            slabs.classes[class].give_back(self.place, (PAGE as usize) << class)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(slot: &mut Slot) -> &mut [u8] {
        // SAFETY: the bytes of the slot, which nobody else uses.
        unsafe { std::slice::from_raw_parts_mut(slot.base(), slot.capacity()) }
    }

    fn take(spaces: &Arc<SpacePool>, bytes: usize) -> Slot {
        let mut slot = Slot::new(spaces, bytes).unwrap();
        assert!(slot.capacity() >= bytes && contents(&mut slot).iter().all(|byte| *byte == 0));
        slot.set_used(bytes);
        slot
    }

    fn mapped(spaces: &SpacePool) -> usize {
        spaces.slabs().classes.iter().flat_map(|class| &class.slabs).flatten().count()
    }

    #[test]
    fn slots_are_apart_and_come_back_zero() {
        let spaces = Arc::default();
        for _ in 0..3 {
            let sizes = [1, 2, 3, 4, 5, 8, 15, 16].map(|pages| pages * PAGE as usize);
            let mut slots: Vec<Slot> = Vec::new();
            for n in 0..80 {
                let mut slot = take(&spaces, sizes[n % sizes.len()]);
                let range = |slot: &Slot| slot.base() as usize..slot.base() as usize + slot.capacity();
                let new = range(&slot);
                assert!(slots.iter().map(range).all(|old| new.end <= old.start || old.end <= new.start));
                let used = slot.used;
                contents(&mut slot)[..used].fill(n as u8 + 1);
                slots.push(slot);
            }
            for (n, slot) in slots.iter_mut().enumerate() {
                let used = slot.used;
                assert!(contents(slot)[..used].iter().all(|byte| *byte == n as u8 + 1));
            }
            // In an order that is neither that of taking nor its reverse.
            while !slots.is_empty() {
                drop(slots.swap_remove(slots.len() / 3));
            }
        }
        assert!(Slot::new(&spaces, MAX_PACKED + 1).is_none());
    }

    #[test]
    fn what_is_idle_is_bounded() {
        let spaces = Arc::<SpacePool>::default();
        let page = PAGE as usize;
        let count = 3 * SLAB / page + 1;
        for order in [|_, _| 0, |len, _| len - 1, |len, n| n * 7919 % len] {
            let mut slots = Vec::from_iter((0..count).map(|_| take(&spaces, page)));
            assert_eq!(mapped(&spaces), 4);
            let mut n = 0;
            while !slots.is_empty() {
                let order: fn(usize, usize) -> usize = order;
                drop(slots.remove(order(slots.len(), n)));
                n += 1;
            }
            assert!(spaces.slabs().warm <= MAX_WARM);
            assert!(spaces.unmap_idle() && mapped(&spaces) == 0);
        }
        drop(Vec::from_iter((0..3 * SLAB / MAX_PACKED).map(|_| take(&spaces, MAX_PACKED))));
        assert_eq!(mapped(&spaces), 1, "one is kept empty");
        assert!(spaces.unmap_idle() && !spaces.unmap_idle() && mapped(&spaces) == 0);
    }
}
