//! The memory of the heap, and allocation. Within this file and those of marking, positions are counted from the first block; an
//! offset is [`START`] more.
//!
//! Objects are made from the cursor up to the limit in the store, which compiled code does itself; what is there is zero.
//! When an object does not fit, the slow path finds the next hole. A larger one that does not fit into that gets room from a
//! block of its own kind, so that the hole is not lost, and one of more than half a block gets whole blocks.

use std::sync::Arc;

use super::super::context::VMStore;
use super::super::extern_table::ExternMarks;
use super::super::heap;
use super::super::limits::{self, LimitedResource};
use super::super::space::{Reservation, SpaceUse, refused};
use super::super::store::StoreOpaque;
use super::access;
use super::blocks::{BLOCK, Blocks, LINE, LINES, MAX_SMALL, Use};
use super::descriptor::Descriptors;
use super::functions::Functions;
use super::layout::{self, MAX_STRUCT};
use super::mark::{Found, Marker};
use super::pins::{GcPin, Pins};
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
    /// Bytes that were handed out since the last collection.
    allocated: u64,
    /// Bytes of `allocated` at which the next collection is due.
    threshold: u64,
    /// Bytes of the objects that the last collection has found.
    live: u64,
    /// Raised with each [`GcHeap::freeze`]: the time in which blocks are taken into use.
    era: u64,
    /// Objects in blocks of earlier eras are kept.
    frozen: u64,
    mark_stack: Vec<u64>,
    /// Exceptions and their bytes: those that the last collection has found, and those that were made since.
    exceptions: (usize, usize),
    /// For tests: a collection is always due.
    always: bool,
}

impl GcHeap {
    /// The heap of the store with this id: empty, and without a reservation. With `always`, for tests, a collection is always
    /// due.
    pub fn new(store: u64, always: bool) -> Self {
        GcHeap { always, pins: Arc::new(Pins::new(store)), ..GcHeap::default() }
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
        self.exceptions = (self.exceptions.0 + 1, self.exceptions.1 + bytes);
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
        self.allocated > 0 && self.allocated >= self.bytes() as u64 / 8
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
        vm.gc_limit = START as usize + if self.always { start } else { end };
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
    gc.mark_stack.try_reserve_exact(MARK_STACK).map_err(|_| refused("memory for objects", MARK_STACK))?;
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
        let is_due = (*store).gc.is_due() || (*store).gc.always;
        if is_due {
            heap::collect(&mut *store);
        }
        let error = match place(store, bytes) {
            Ok(object) => return Ok(object),
            Err(error) => error,
        };
        // What is garbage may make room. An eighth must be free then if little was allocated since the last collection, or a
        // program near the limit would collect all the time.
        if is_due || (*store).panic.is_some() {
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
    /// A marker of this heap, and the references that the host and Rust code hold, which it has marked.
    ///
    /// # Safety
    /// Nobody may write to the heap while the marker exists.
    pub unsafe fn marker<'a>(&'a mut self, vm: &mut VMStore, externs: ExternMarks<'a>) -> Marker<'a> {
        self.close_holes(vm);
        let GcHeap { space, blocks, descriptors, pins, temporaries, mark_stack, frozen, .. } = self;
        // SAFETY: all blocks but the guard are accessible, and nobody writes to them, by the caller's promise.
        let mut marker = unsafe { Marker::new(space.base(), blocks, descriptors, mark_stack, externs) };
        pins.for_each(|reference| marker.reference(reference));
        temporaries.iter().for_each(|slot| marker.candidate(*slot));
        marker.blocks_before(*frozen);
        marker
    }

    /// Frees what a [`Marker`] has not marked. `found` is what it has found, and `words` how many words were scanned for roots.
    pub fn sweep(&mut self, found: Found, words: usize) {
        self.blocks.sweep();
        let live = found.bytes;
        (self.live, self.exceptions) = (live, (found.exceptions, found.exception_bytes));
        self.allocated = 0;
        // The cost of a collection is spread over what is allocated until the next: as much as lives, so that the heap has
        // twice that, or half as much as was scanned for roots. A small heap may have more garbage.
        let relaxed = live.saturating_mul(4).min(RELAXED);
        self.threshold = live.max(relaxed).max(4 * words as u64).max(MIN_THRESHOLD);
        let GcHeap { blocks, space, .. } = self;
        let kept = blocks.in_use() + KEPT;
        blocks.discard(kept, |run| {
            // SAFETY: the blocks are accessible, and free.
            unsafe { discard(space.base().add(run.start * BLOCK).cast(), run.len() * BLOCK).is_some() }
        });
    }
}
