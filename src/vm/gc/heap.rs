//! The memory of the heap, and allocation. Within this file and those of marking, positions are counted from the first block; an
//! offset is [`START`] more.
//!
//! Objects are made from the cursor up to the limit in the store, which compiled code does itself; what is there is zero.
//! When an object does not fit, the slow path finds the next hole. A larger one that does not fit into that gets room from a
//! block of its own kind, so that the hole is not lost, and one of more than half a block gets whole blocks.

use std::sync::Arc;

use super::super::context::VMStore;
use super::super::extern_table::ExternTable;
use super::super::heap;
use super::super::limits::{self, LimitedResource};
use super::super::ops::PIECE;
use super::super::space::{Reservation, SpaceUse, refused};
use super::super::store::StoreOpaque;
use super::access;
use super::blocks::{BLOCK, Blocks, LINE, LINES, MAX_SMALL, Use};
use super::descriptor::Descriptors;
use super::functions::Functions;
use super::layout::{self, MAX_STRUCT};
use super::mark::{Found, Marker, Marking};
use super::pins::{GcPin, Pins};
use crate::config::Collections;
use crate::error::{Error, Result};
use crate::sys::discard;

/// Whether everything that a 32-bit offset can tell is reserved, so that accesses are not compared with the heap's end.
pub(super) const WHOLE: bool = size_of::<usize>() == 8 && !cfg!(miri);

/// Offset of the first block. What is below is reserved and never accessible: an access through null fails. Stacks are full of
/// small numbers, and of parts of floats, which are not taken for offsets because the heap does not begin where these are: as
/// `f32` this is 8.6e9, as the high half of an `f64` 1e78.
pub(crate) const START: u32 = if WHOLE { 0x5000_0000 } else { 64 << 10 };

/// Bytes that are reserved for objects, if the system allows it.
const RESERVED: u64 = if WHOLE { (1 << 32) - START as u64 } else { 256 << 20 };

/// Bytes of objects that a reservation has at least.
const LEAST: u64 = if WHOLE { RESERVED } else { 1 << 20 };

/// Inaccessible bytes behind these: a constant offset in an object and the widest access do not reach further.
const GUARD: u64 = if WHOLE { 1 << 20 } else { 64 << 10 };

const _: () = assert!(!WHOLE || MAX_STRUCT as u64 + 16 <= GUARD);

/// Blocks that become accessible at once, at least.
const STEP: usize = 8;

/// Bytes that are allocated between two collections, at least.
const MIN_THRESHOLD: u64 = 1 << 20;

/// Up to so many bytes, a heap may have four times as much garbage as live objects.
const RELAXED: u64 = 8 << 20;

/// Free blocks that keep their memory, beside as many as are used.
const KEPT: usize = (8 << 20) / BLOCK;

/// Units of marking ([`Marker::step`]) that a collection begins with: a small heap is marked whole then. A unit takes 10 ns, or
/// some times as long where nothing is in the processor's caches.
const FIRST_STEP: u64 = 80_000;

/// Units of marking that are worth a step, and the most of one.
const STEP_UNITS: std::ops::RangeInclusive<u64> = 2_000..=100_000;

/// Bytes of a large object in whose allocation one more unit than the most of a step is marked: to make it takes as long.
const BYTES_A_UNIT: u64 = 32;

/// Bytes that are allocated, at least, while a collection marks.
const MIN_GOAL: u64 = 4 << 20;

/// References that are overwritten while a collection marks, and after which it does a step; and units of marking for each.
const WRITES_A_STEP: u64 = 256;
const UNITS_A_WRITE: u64 = 2;

/// Free blocks that are given back to the system by one collection, at most: that takes a millisecond for 16 MiB.
const GIVEN_BACK: usize = (32 << 20) / BLOCK;

/// Entries that the mark stack has room for from the beginning, so that marking gets on whatever the system refuses.
const MARK_STACK: usize = 1024;

/// The objects of a store.
#[derive(Default)]
pub(crate) struct GcHeap {
    space: Reservation,
    blocks: Blocks,
    pub(super) descriptors: Descriptors,
    pub(super) functions: Functions,
    /// Objects that the host holds.
    pins: Arc<Pins>,
    /// Slots that Rust code holds while it makes objects, as far as they are not on a stack, such as the operands of constant
    /// expressions: a collection takes them as roots.
    pub temporaries: Vec<u64>,
    /// The block that has the current hole, and the line of it where the search for the next begins.
    current: Option<(usize, usize)>,
    /// End of the current hole, as a position.
    hole_end: usize,
    /// What is left of the block for objects that did not fit into a hole: zero bytes.
    overflow: (usize, usize),
    /// What is left of the block for descriptors: zero bytes.
    immortal: (usize, usize),
    /// Bytes that were handed out since the last collection began.
    allocated: u64,
    /// While a collection marks: bytes that had been handed out when it began, since the one before.
    allocated_before: u64,
    /// Bytes of `allocated` at which the next collection is due.
    threshold: u64,
    /// Bytes of the objects that the last collection has found.
    live: u64,
    /// Raised with each [`GcHeap::freeze`]: the time in which blocks are taken into use.
    era: u64,
    /// Objects in blocks of earlier eras are kept.
    frozen: u64,
    marking: Marking,
    /// Units of marking that the last collection took.
    units: u64,
    /// References that were overwritten since the last step that this has caused, while a collection marks.
    writes: u64,
    /// Exceptions and their bytes: those that the last collection has found, and those that were made since it ended.
    exceptions: (usize, usize),
    /// While a collection marks: those that were made since it began.
    new_exceptions: (usize, usize),
    pace: Collections,
}

impl GcHeap {
    /// The heap of the store with this id: empty, and without a reservation.
    pub fn new(store: u64, pace: Collections) -> Self {
        GcHeap { pace, pins: Arc::new(Pins::new(store)), ..GcHeap::default() }
    }

    /// Bytes of the blocks in use.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.blocks.in_use() * BLOCK
    }

    /// Number of references that the host holds.
    #[cfg(test)]
    pub fn pinned(&self) -> usize {
        self.pins.len()
    }

    /// Bytes of the objects that the last collection has found.
    #[cfg(test)]
    pub fn live(&self) -> u64 {
        self.live
    }

    /// Number of exceptions that no collection has found unreachable.
    pub fn exceptions(&self) -> usize {
        self.exceptions.0
    }

    /// Bytes of these, headers included.
    pub fn exception_bytes(&self) -> usize {
        self.exceptions.1
    }

    /// Counts an exception that was made.
    pub fn count_exception(&mut self, bytes: usize) {
        for count in [&mut self.exceptions, &mut self.new_exceptions] {
            *count = (count.0 + 1, count.1 + bytes);
        }
    }

    /// The index of the tag that has a descriptor, see [`Descriptors::tag`].
    ///
    /// # Safety
    /// `vm` must be that of the live store which has this heap.
    pub unsafe fn tag(&self, vm: *const VMStore, descriptor: u32) -> Option<usize> {
        // SAFETY: the caller's promise.
        unsafe { self.descriptors.tag(vm, descriptor) }
    }

    /// Keeps what a reference refers to, as long as the pin exists.
    pub fn pin(&self, reference: u32) -> GcPin {
        self.pins.pin(reference)
    }

    /// Whether a collection is worth its time.
    pub fn is_due(&self) -> bool {
        self.allocated > self.threshold.max(MIN_THRESHOLD)
    }

    /// Whether an eighth of the blocks in use were handed out since the last collection, whose cost is then spread over them,
    /// even if it frees nothing.
    pub fn is_worth_collecting(&self) -> bool {
        let allocated = self.allocated + self.allocated_before;
        allocated > 0 && allocated >= self.bytes() as u64 / 8
    }

    /// Keeps all objects that exist now until [`GcHeap::set_frozen`], whether or not anything refers to them. Returns what
    /// that takes to undo it.
    pub fn freeze(&mut self, vm: &mut VMStore) -> u64 {
        self.era += 1;
        let era = self.era;
        self.set_frozen(vm, era)
    }

    /// What is kept now, for [`GcHeap::set_frozen`].
    pub fn frozen(&self) -> u64 {
        self.frozen
    }

    /// Keeps all objects that existed at a [`GcHeap::freeze`], instead of those before; returns what to call this with to undo
    /// it.
    pub fn set_frozen(&mut self, vm: &mut VMStore, frozen: u64) -> u64 {
        if frozen > self.frozen {
            // New objects must not come into blocks of objects that are kept.
            self.close_holes(vm);
        }
        std::mem::replace(&mut self.frozen, frozen)
    }

    /// Leaves the hole and the block that objects are made in now.
    fn close_holes(&mut self, vm: &mut VMStore) {
        (self.current, self.overflow) = (None, (0, 0));
        self.set_hole(vm, 0, 0);
    }

    fn set_hole(&mut self, vm: &mut VMStore, start: usize, end: usize) {
        self.hole_end = end;
        vm.gc_cursor = START as usize + start;
        // Each object asks then.
        vm.gc_limit = START as usize + if self.pace == Collections::Measured { end } else { start };
    }

    /// Allocates from what was handed out already and from the holes of blocks in use.
    fn alloc_in_holes(&mut self, vm: &mut VMStore, bytes: usize) -> Option<usize> {
        loop {
            let (object, end) = (vm.gc_cursor - START as usize, self.hole_end);
            if bytes <= end - object {
                self.set_hole(vm, object + bytes, end);
                return Some(object);
            }
            if bytes > LINE {
                return bump(&mut self.overflow, bytes);
            }
            self.next_hole(vm)?;
        }
    }

    /// Goes on to the next hole of blocks in use.
    fn next_hole(&mut self, vm: &mut VMStore) -> Option<()> {
        loop {
            let (block, from) = match self.current.take() {
                Some(current) => current,
                None => (self.blocks.recycle(self.frozen)?, 0),
            };
            if let Some(lines) = self.blocks.hole(block, from) {
                let (start, end) = (block * BLOCK + lines.start * LINE, block * BLOCK + lines.end * LINE);
                self.current = (lines.end < LINES).then_some((block, lines.end));
                self.blocks.hand_out(block, lines);
                self.zero(start, end - start);
                self.allocated += (end - start) as u64;
                self.set_hole(vm, start, end);
                return Some(());
            }
        }
    }

    /// Writes zeros to bytes that are accessible.
    fn zero(&mut self, start: usize, bytes: usize) {
        // SAFETY: the range is in blocks of the heap, all of which are accessible, and no object is there.
        unsafe { self.space.base().add(start).write_bytes(0, bytes) };
    }

    /// Writes zeros to some free blocks that the next object of so many bytes gets, at most some milliseconds long. Returns whether
    /// there may be more to be done.
    pub fn zero_ahead(&mut self, bytes: u64) -> bool {
        let Some(run) = self.blocks.clean(bytes.div_ceil(BLOCK as u64) as usize, PIECE / BLOCK) else { return false };
        self.zero(run.start * BLOCK, run.len() * BLOCK);
        true
    }

    /// Takes free blocks into use, which become zero; their offset. `None` if there are not so many side by side.
    fn take(&mut self, count: usize, is_used_as: Use) -> Option<usize> {
        let first = self.blocks.find(count)?;
        if !self.blocks.take(first, count, is_used_as, self.era) {
            self.zero(first * BLOCK, count * BLOCK);
        }
        Some(first * BLOCK)
    }

    /// Allocates in free blocks; `None` if there are too few.
    fn alloc_in_blocks(&mut self, vm: &mut VMStore, bytes: usize) -> Option<usize> {
        if bytes > MAX_SMALL {
            let count = bytes.div_ceil(BLOCK);
            let start = self.take(count, Use::Head)?;
            self.allocated += (count * BLOCK) as u64;
            return Some(start);
        }
        let start = self.take(1, Use::Small)?;
        self.blocks.hand_out(start / BLOCK, 0..LINES);
        self.allocated += BLOCK as u64;
        if bytes <= LINE {
            self.current = None;
            self.set_hole(vm, start + bytes, start + BLOCK);
        } else {
            self.overflow = (start + bytes, start + BLOCK);
        }
        Some(start)
    }

    /// Makes so many more blocks accessible that `count` are free side by side.
    ///
    /// # Errors
    /// [`Resource`](crate::ErrorKind::Resource) if the reservation has no room for them, or the system refuses.
    fn grow(&mut self, vm: &mut VMStore, count: usize) -> Result<()> {
        let full = || Error::resource("the heap of objects is full");
        let needed = count.saturating_sub(self.blocks.free_at_end());
        // The last block of the largest reservation stays free, so that the end of each object fits 32 bits.
        let most = (self.space.len() as u64 - GUARD) / BLOCK as u64 - 1;
        let room = (most as usize).saturating_sub(self.blocks.len());
        if needed > room {
            return Err(full());
        }
        let more = needed.max(STEP).max(self.blocks.len() / 4).min(room);
        let grown = [more, needed].into_iter().any(|more| {
            let end = (self.blocks.len() + more) * BLOCK;
            self.space.set_accessible(end).and_then(|()| self.blocks.extend(more).ok()).is_some()
        });
        if !grown {
            return Err(refused("more memory for objects", needed * BLOCK));
        }
        vm.gc_end = START as usize + self.blocks.len() * BLOCK;
        Ok(())
    }
}

/// Takes bytes from a range.
fn bump(range: &mut (usize, usize), bytes: usize) -> Option<usize> {
    let start = range.0;
    (bytes <= range.1 - start).then(|| {
        range.0 += bytes;
        start
    })
}

/// Reserves the heap of a store, if that was not done yet.
///
/// # Errors
/// [`Resource`](crate::ErrorKind::Resource) if the system refuses.
pub(crate) fn reserve(store: &mut StoreOpaque) -> Result<()> {
    if !store.vm.gc_base.is_null() {
        return Ok(());
    }
    let mut bytes = RESERVED;
    let space = loop {
        let len = (bytes + GUARD) as usize;
        match Reservation::with_lead(&store.engine.spaces, START as usize, len, 0, SpaceUse::Objects) {
            None if bytes > LEAST => bytes /= 2,
            found => break found.ok_or_else(|| refused("address space for objects", len))?,
        }
    };
    let gc = &mut store.gc;
    gc.marking.stack.try_reserve_exact(MARK_STACK).map_err(|_| refused("memory for objects", MARK_STACK))?;
    gc.space = space;
    gc.close_holes(&mut store.vm);
    store.vm.gc_end = START as usize;
    // The lead is in front of it.
    store.vm.gc_base = gc.space.base().wrapping_sub(START as usize);
    Ok(())
}

/// Allocates an object with zeroed fields or elements. `bytes` is its whole size, as its layout has it, and `length` the second
/// word of its header: the number of elements of an array, else 0. May collect: references that are in use must be where a
/// collection looks.
///
/// # Errors
/// [`Resource`](crate::ErrorKind::Resource) if there is no room for it, or what the store's limiter returns. It is a trap for
/// the guest.
///
/// # Safety
/// `store` must be the own pointer of a live store to which nobody holds a reference, `descriptor` one of its descriptors, and
/// length and size what the descriptor's layout has. `value_top` must be above all slots in use: a collection scans the value
/// stack up to there.
#[inline]
pub(crate) unsafe fn alloc(store: *mut StoreOpaque, descriptor: u32, length: u32, bytes: u64) -> Result<u32> {
    // SAFETY: the store is live by the caller's promise, and the object in the heap.
    unsafe {
        let vm = store.cast::<VMStore>();
        let left = (*vm).gc_limit - (*vm).gc_cursor;
        let object = if bytes <= left as u64 {
            let object = (*vm).gc_cursor;
            (*vm).gc_cursor += bytes as usize;
            object as u32
        } else {
            alloc_slowly(store, bytes)?
        };
        access::write(vm, object + layout::DESCRIPTOR, descriptor);
        access::write(vm, object + layout::LENGTH, length);
        Ok(object)
    }
}

/// # Safety
/// As for [`alloc`].
#[cold]
unsafe fn alloc_slowly(store: *mut StoreOpaque, bytes: u64) -> Result<u32> {
    // SAFETY: the store is live and nobody refers to it, by the caller's promise; no reference is held over a call.
    unsafe {
        let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes as u64 <= RESERVED);
        let bytes = bytes.ok_or_else(|| Error::resource("an object is larger than the heap can be"))?;
        let was_whole = heap::advance(&mut *store, bytes as u64);
        let error = match place(store, bytes) {
            Ok(object) => return Ok(object),
            Err(error) => error,
        };
        // What is garbage may make room. An eighth must be free then if little was allocated since the last collection, or a
        // program near the limit would collect all the time.
        if was_whole || (*store).panic.is_some() {
            return Err((*store).note_refusal(error));
        }
        let (was_worth, before) = ((*store).gc.is_worth_collecting(), (*store).gc.bytes() as u64);
        heap::collect(&mut *store);
        if !was_worth && (*store).gc.live > before - before / 8 {
            return Err((*store).note_refusal(error));
        }
        place(store, bytes).map_err(|error| (*store).note_refusal(error))
    }
}

/// Finds room for an object; no collection runs.
///
/// # Safety
/// As for [`alloc`].
unsafe fn place(store: *mut StoreOpaque, bytes: usize) -> Result<u32> {
    // SAFETY: the store is live and nobody refers to it, by the caller's promise; no reference is held over a call.
    unsafe {
        let StoreOpaque { gc, vm, .. } = &mut *store;
        if bytes <= MAX_SMALL
            && let Some(object) = gc.alloc_in_holes(vm, bytes)
        {
            return Ok(START + object as u32);
        }
        let count = bytes.div_ceil(BLOCK);
        admit(store, count)?;
        let StoreOpaque { gc, vm, .. } = &mut *store;
        let found = gc.alloc_in_blocks(vm, bytes);
        let object = match found {
            Some(object) => object,
            None => {
                gc.grow(vm, count)?;
                gc.alloc_in_blocks(vm, bytes).ok_or_else(|| Error::resource("the heap of objects is full"))?
            }
        };
        (*store).note_peaks();
        Ok(START + object as u32)
    }
}

/// Asks the budget and the limiter for so many more blocks.
///
/// # Safety
/// As for [`alloc`].
unsafe fn admit(store: *mut StoreOpaque, count: usize) -> Result<()> {
    // SAFETY: the store is live and nobody refers to it, by the caller's promise.
    unsafe {
        if (*store).heap_has_room(count * BLOCK) {
            return Ok(());
        }
        limits::catching(store, || (*store).admit_to_heap(count * BLOCK))
    }
}

/// Allocates zeroed bytes that are never freed, at most [`MAX_SMALL`].
///
/// # Safety
/// As for [`alloc`].
pub(super) unsafe fn alloc_immortal(store: *mut StoreOpaque, bytes: u32) -> Result<u32> {
    // SAFETY: the store is live and nobody refers to it, by the caller's promise; no reference is held over a call.
    unsafe {
        if let Some(found) = bump(&mut (*store).gc.immortal, bytes as usize) {
            return Ok(START + found as u32);
        }
        admit(store, 1).map_err(|error| (*store).note_refusal(error))?;
        let StoreOpaque { gc, vm, .. } = &mut *store;
        let block = match gc.take(1, Use::Immortal) {
            Some(block) => block,
            None => {
                gc.grow(vm, 1)?;
                gc.take(1, Use::Immortal).ok_or_else(|| Error::resource("the heap of objects is full"))?
            }
        };
        gc.immortal = (block + bytes as usize, block + BLOCK);
        (*store).note_peaks();
        Ok(START + block as u32)
    }
}

impl GcHeap {
    /// Begins a collection, instead of one that marks already; it has marked the references that the host and Rust code hold. The
    /// caller marks the other roots next.
    pub fn begin(&mut self, vm: &mut VMStore, externs: &mut ExternTable) {
        self.close_holes(vm);
        self.allocated_before += std::mem::take(&mut self.allocated);
        self.new_exceptions = (0, 0);
        self.blocks.begin_marking();
        self.marking.begin(self.frozen);
        externs.begin_marking();
        let (pins, temporaries) = (self.pins.clone(), std::mem::take(&mut self.temporaries));
        let mut marker = self.marker(externs);
        pins.for_each(|reference| marker.reference(reference));
        temporaries.iter().for_each(|slot| marker.candidate(*slot));
        self.temporaries = temporaries;
    }

    /// A marker for the collection that has begun.
    pub fn marker<'a>(&'a mut self, externs: &'a mut ExternTable) -> Marker<'a> {
        let GcHeap { space, blocks, descriptors, marking, .. } = self;
        // SAFETY: all blocks but the guard are accessible, and the heap is borrowed: no code runs that writes to it.
        unsafe { Marker::new(space.base(), blocks, descriptors, marking, externs) }
    }

    /// Units of marking that are to be done at an allocation of so many bytes, in a collection that has `begun` just now or before.
    pub fn units_due(&self, begun: bool, bytes: u64) -> u64 {
        match self.pace {
            Collections::Always => u64::MAX,
            Collections::Steps => u64::from(!begun),
            Collections::Measured if begun => FIRST_STEP,
            Collections::Measured => {
                // Marking has taken all that it may need when an eighth has been added to what the heap has.
                const LEAST_OBJECT: u64 = 16;
                let all = self.units + self.allocated_before / LEAST_OBJECT;
                let goal = ((self.live + self.allocated_before) / 8).max(MIN_GOAL);
                let due = (u128::from(self.allocated + bytes) * u128::from(all) / u128::from(goal)) as u64;
                let due = due.saturating_sub(self.marking.done.saturating_sub(FIRST_STEP));
                if due < *STEP_UNITS.start() { 0 } else { due.min(STEP_UNITS.end() + bytes / BYTES_A_UNIT) }
            }
        }
    }

    /// Marks what references refer to that are about to be overwritten, while a collection marks. Returns the units of marking that
    /// are to be done then: a collection comes to an end also where nothing is allocated.
    pub fn shade(&mut self, references: &[u32], externs: &mut ExternTable) -> u64 {
        let mut marker = self.marker(externs);
        references.iter().for_each(|reference| marker.reference(*reference));
        self.writes += references.len() as u64;
        if self.writes < WRITES_A_STEP {
            return 0;
        }
        UNITS_A_WRITE * std::mem::take(&mut self.writes).min(STEP_UNITS.end() / UNITS_A_WRITE)
    }

    /// Ends a collection: frees what is not marked. `words` is how many words were scanned for roots; in a `step` little memory is
    /// given back to the system.
    pub fn sweep(&mut self, found: Found, words: usize, is_step: bool) {
        self.blocks.sweep();
        let live = found.bytes;
        let (count, bytes) = self.new_exceptions;
        (self.live, self.exceptions) = (live, (found.exceptions + count, found.exception_bytes + bytes));
        (self.allocated_before, self.units) = (0, self.marking.done);
        // The cost of a collection is spread over what is allocated until the next: as much as lives, so that the heap has
        // twice that, or half as much as was scanned for roots. A small heap may have more garbage.
        let relaxed = live.saturating_mul(4).min(RELAXED);
        self.threshold = live.max(relaxed).max(4 * words as u64).max(MIN_THRESHOLD);
        let GcHeap { blocks, space, .. } = self;
        let kept = blocks.in_use() + KEPT;
        blocks.discard(kept, if is_step { GIVEN_BACK } else { usize::MAX }, |run| {
            // SAFETY: the blocks are accessible, and free.
            unsafe { discard(space.base().add(run.start * BLOCK).cast(), run.len() * BLOCK).is_some() }
        });
    }
}
