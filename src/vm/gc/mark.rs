//! Marking: finds the objects that are reachable from the roots.
//!
//! That is done in steps, between which code runs. What is found is what was reachable when the collection began (a snapshot at
//! the beginning): the roots are looked at once, then; code that overwrites a reference in an object has the old one marked first;
//! and what is made meanwhile is kept, and not looked at. So whatever code does to the references that it has, it takes none away
//! from the collector, and needs no other barrier: none for what it reads, or writes to locals, globals and tables.
//!
//! Nothing that is read from the heap is trusted. An offset is compared with the heap's end, a descriptor with those that the
//! store has made, a length with the object's block: a heap with wrong words in it may keep too much or too little alive, but
//! no read is outside of it.

use std::ops::Range;

use super::super::extern_table::ExternTable;
use super::blocks::{BLOCK, Blocks, EMPTY, KNOWN, LINE, LINES, NEW, NEW_SPAN, Use};
use super::descriptor::{Descriptors, Traced};
use super::heap::START;
use super::layout::{self, ALIGN, EXTERN_BITS, HEADER, TAG_BITS, array_size};

/// Elements of an array that are looked at before other objects are: bounds what waits on the mark stack.
const CHUNK: u32 = 128;

/// References that are looked at in the time that an object takes.
const REFERENCES: u64 = 8;

/// Objects between the one whose mark is being fetched from memory and the one that is marked.
const NEAR: usize = 16;

/// Objects between the one whose header is being fetched from memory and the one that is looked at.
const AHEAD: usize = 8;

/// What a collection has yet to mark, and what it has marked.
#[derive(Default)]
pub(super) struct Marking {
    /// What waits to be looked at: the position of an object in the low half, and of an array the index of the next element in
    /// the high half.
    pub stack: Vec<u64>,
    /// Whether `stack` had no room for a marked object.
    overflowed: bool,
    /// The marked objects are looked at once more, from this position on.
    again: Option<u32>,
    /// Whether objects were looked at more than once, so that `found` has some of them twice.
    recounts: bool,
    /// Blocks from this one on may be of an era before `frozen`, so that all their objects are roots.
    next_frozen: usize,
    frozen: u64,
    found: Found,
    /// Units of work that were done, see [`Marker::step`].
    pub done: u64,
}

impl Marking {
    /// Nothing is marked. All objects in blocks of eras before `frozen` will be.
    pub fn begin(&mut self, frozen: u64) {
        let mut stack = std::mem::take(&mut self.stack);
        stack.clear();
        let next_frozen = if frozen == 0 { usize::MAX } else { 0 };
        *self = Marking { stack, frozen, next_frozen, ..Marking::default() };
    }
}

/// Marks in the heap that it is made of.
pub(crate) struct Marker<'a> {
    /// Address of the first block. Positions are counted from there, so they are offsets less [`START`].
    base: *const u8,
    /// Bytes of all blocks.
    end: u32,
    blocks: &'a mut Blocks,
    descriptors: &'a Descriptors,
    state: &'a mut Marking,
    /// Most entries of the state's stack.
    most: usize,
    /// Positions of objects to be marked, whose marks are being fetched from memory: so many, from the oldest on.
    near: [u32; NEAR],
    oldest: usize,
    waiting: usize,
    /// The descriptor that was last asked for, and what it says: many objects are of one type.
    last: Option<(u32, &'a Traced)>,
    externs: &'a mut ExternTable,
}

/// What is marked.
#[derive(Clone, Copy, Default)]
pub(crate) struct Found {
    /// Bytes of all objects.
    pub bytes: u64,
    /// Number of exceptions, and their bytes.
    pub exceptions: usize,
    pub exception_bytes: usize,
}

impl Found {
    #[inline]
    fn count(&mut self, traced: &Traced, size: u32) {
        self.bytes += u64::from(size);
        if let Traced::Exception { .. } = traced {
            self.exceptions += 1;
            self.exception_bytes += size as usize;
        }
    }
}

impl<'a> Marker<'a> {
    /// # Safety
    /// The bytes of the blocks, the first of which is at `base`, must be readable while the marker is used, and not change.
    pub(super) unsafe fn new(
        base: *const u8,
        blocks: &'a mut Blocks,
        descriptors: &'a Descriptors,
        state: &'a mut Marking,
        externs: &'a mut ExternTable,
    ) -> Self {
        /// Every so many places where an object may start, one may wait to be looked at. So many fit at least.
        const SHARE: usize = 32;
        const LEAST: usize = 1024;
        let bytes = blocks.len() * BLOCK;
        let end = u32::try_from(bytes).expect("a heap ends before 4 GiB");
        let most = (bytes / ALIGN as usize / SHARE).max(LEAST);
        Marker {
            base,
            end,
            blocks,
            descriptors,
            state,
            most,
            near: [0; NEAR],
            oldest: 0,
            waiting: 0,
            last: None,
            externs,
        }
    }

    /// Reads a word of the heap.
    #[inline]
    fn read(&self, at: u32) -> u32 {
        debug_assert!(at <= self.end - 4);
        // SAFETY: the position is that of a header, which is in a block, within the bounds of an object that were compared with
        // its blocks, or was compared with the heap's end: all blocks can be read, by the promise of `new`.
        unsafe { self.base.wrapping_add(at as usize).cast::<u32>().read_unaligned() }
    }

    /// How the collector sees the objects that have the descriptor that the header at `object` names; `None` if it names none.
    #[inline]
    fn traced(&mut self, object: u32) -> Option<&'a Traced> {
        let descriptor = self.read(object + layout::DESCRIPTOR);
        if let Some((last, traced)) = self.last
            && last == descriptor
        {
            return Some(traced);
        }
        let at = descriptor.wrapping_sub(START);
        let number = if at < self.end - 4 { self.read(at + layout::DESCRIPTOR_LAYOUT) } else { u32::MAX };
        let traced = self.descriptors.traced(number, descriptor)?;
        self.last = Some((descriptor, traced));
        Some(traced)
    }

    /// Bytes of the object, if what the header says fits where it is.
    #[inline]
    fn size(&self, object: u32, traced: &Traced) -> Option<u32> {
        let size = match *traced {
            Traced::Struct { size, .. } | Traced::Exception { size, .. } => u64::from(size),
            Traced::Array { element, .. } => array_size(element, self.read(object + layout::LENGTH)),
        };
        let within = object as usize % BLOCK;
        if size <= (BLOCK - within) as u64 {
            return Some(size as u32);
        }
        let block = object as usize / BLOCK;
        let blocks = if self.blocks.use_of(block) == Some(Use::Head) { self.blocks.run(block) } else { 1 };
        let room = blocks * BLOCK - within;
        (size <= room as u64).then_some(size as u32)
    }

    /// Marks what a reference in a field, element, global or table refers to.
    #[inline]
    pub fn reference(&mut self, reference: u32) {
        match reference & TAG_BITS {
            0 => self.object(reference.wrapping_sub(START)),
            EXTERN_BITS => self.externs.mark(reference),
            _ => {}
        }
    }

    /// As [`Marker::reference`], but an object is marked when some more were passed, or by [`Marker::mark_oldest`].
    #[inline]
    fn reference_later(&mut self, reference: u32) {
        let object = reference.wrapping_sub(START);
        if reference & TAG_BITS != 0 {
            self.reference(reference);
        } else if object < self.end {
            prefetch(self.blocks.marks.address(object));
            prefetch(&raw const self.blocks.marked_lines[object as usize / LINE]);
            if self.waiting == NEAR {
                self.mark_oldest();
            }
            self.near[(self.oldest + self.waiting) % NEAR] = object;
            self.waiting += 1;
        }
    }

    /// Marks the first object that was passed to [`Marker::reference_later`], of those that are not marked yet. Returns whether
    /// there was one.
    #[inline]
    fn mark_oldest(&mut self) -> bool {
        if self.waiting == 0 {
            return false;
        }
        let object = self.near[self.oldest];
        (self.oldest, self.waiting) = ((self.oldest + 1) % NEAR, self.waiting - 1);
        self.object(object);
        true
    }

    /// Marks the object at a position, if that is in the heap, and the object was there when the collection began.
    #[inline(always)]
    fn object(&mut self, object: u32) {
        if object < self.end
            && self.blocks.marked_lines[object as usize / LINE] <= KNOWN
            && self.blocks.marks.set(object)
        {
            self.push(u64::from(object));
        }
    }

    #[inline]
    fn push(&mut self, entry: u64) {
        if self.state.stack.len() < self.state.stack.capacity() {
            self.state.stack.push(entry);
        } else {
            self.push_slowly(entry);
        }
    }

    #[cold]
    fn push_slowly(&mut self, entry: u64) {
        let stack = &mut self.state.stack;
        let more = stack.len().clamp(1, self.most.saturating_sub(stack.len()).max(1));
        if stack.len() < self.most && stack.try_reserve_exact(more).is_ok() {
            stack.push(entry);
        } else {
            self.state.overflowed = true;
        }
    }

    /// Marks the object that a word from a stack may refer to, whatever it means: as an offset in the heap, or as an address,
    /// also one in the middle of an object.
    #[inline]
    pub fn candidate(&mut self, word: u64) {
        let end = u64::from(self.end);
        let (by_offset, by_address) = (word.wrapping_sub(u64::from(START)), word.wrapping_sub(self.base as u64));
        if by_offset < end {
            self.interior(by_offset as u32);
        } else if by_address < end {
            self.interior(by_address as u32);
        }
        if let Ok(slot) = u32::try_from(word)
            && slot & TAG_BITS == EXTERN_BITS
        {
            self.externs.mark(slot);
        }
    }

    /// As [`Marker::candidate`], for a word of a native stack, which may also have references in its halves.
    pub fn native_candidate(&mut self, word: u64) {
        self.candidate(word);
        if word > u64::from(u32::MAX) {
            self.candidate(word & u64::from(u32::MAX));
            self.candidate(word >> 32);
        }
    }

    /// Marks the object that has the byte at a position, if one has.
    fn interior(&mut self, at: u32) {
        let block = at as usize / BLOCK;
        match self.blocks.use_of(block) {
            Some(Use::Small) => {
                match self.blocks.lines[at as usize / LINE] {
                    EMPTY => return,
                    KNOWN => {}
                    _ => self.find_starts(at as usize / LINE),
                }
                if let Some(object) = self.blocks.starts.last_in_block(at)
                    && let Some(traced) = self.traced(object)
                    && let Some(size) = self.size(object, traced)
                    && at - object < size
                {
                    self.object(object);
                }
            }
            Some(Use::Head) => self.object((block * BLOCK) as u32),
            Some(Use::Tail) => self.object((self.blocks.head(block) * BLOCK) as u32),
            _ => {}
        }
    }

    /// Notes where the objects of a span start that was handed out since the last collection and has the line.
    fn find_starts(&mut self, line: usize) {
        let block = line / LINES * LINES;
        let mut first = line;
        while self.blocks.lines[first] == NEW && first > block {
            first -= 1;
        }
        let after = &self.blocks.lines[first + 1..block + LINES];
        let end = first + 1 + after.iter().take_while(|line| **line == NEW).count();
        self.blocks.lines[first..end].fill(KNOWN);
        let (mut at, end) = ((first * LINE) as u32, (end * LINE) as u32);
        while at < end
            && self.read(at) != 0
            && let Some(traced) = self.traced(at)
            && let Some(size) = self.size(at, traced)
        {
            self.blocks.starts.set(at);
            at += size;
        }
    }

    /// Marks all objects of a block, if it was taken into use before the era that the heap is frozen at. Returns how many.
    fn frozen_block(&mut self, block: usize) -> u64 {
        if self.blocks.era(block) >= self.state.frozen {
            return 0;
        }
        match self.blocks.use_of(block) {
            Some(Use::Small) => {
                for line in block * LINES..(block + 1) * LINES {
                    if matches!(self.blocks.lines[line], NEW | NEW_SPAN) {
                        self.find_starts(line);
                    }
                }
                let objects: Vec<u32> = self.blocks.starts.of_block(block).collect();
                let count = objects.len() as u64;
                objects.into_iter().for_each(|object| self.object(object));
                count
            }
            Some(Use::Head) => {
                self.object((block * BLOCK) as u32);
                1
            }
            _ => 0,
        }
    }

    /// Marks what marked objects refer to, for about so many units of work: to look at an object is one, and so is to look at
    /// some references of it. Returns whether nothing is left to be marked.
    pub fn step(&mut self, units: u64) -> bool {
        let end = self.state.done.saturating_add(units);
        loop {
            self.state.done += self.follow(end - self.state.done);
            if !self.state.stack.is_empty() {
                return false;
            }
            if self.state.done >= end {
                // One more unit, at least, in the next step.
                return self.is_done();
            }
            if self.state.next_frozen < self.blocks.len() {
                self.state.done += 1 + self.frozen_block(self.state.next_frozen);
                self.state.next_frozen += 1;
            } else if let Some(from) = self.state.again {
                // Objects that are marked meanwhile are met as well if they are further on.
                let next = self.blocks.marks.next(from);
                next.iter().for_each(|object| self.push(u64::from(*object)));
                self.state.done += 1 + u64::from(next.unwrap_or(self.end) - from) / (64 * LINE as u64);
                self.state.again = next.map(|object| object + ALIGN);
            } else if self.state.overflowed {
                // Each pass marks at least as many objects as the stack has room for, or all: so there are few passes.
                self.state.overflowed = false;
                (self.state.again, self.state.recounts) = (Some(0), true);
            } else {
                return true;
            }
        }
    }

    /// Whether nothing is left to be marked.
    fn is_done(&self) -> bool {
        let Marking { stack, overflowed, again, next_frozen, .. } = &*self.state;
        stack.is_empty() && !overflowed && again.is_none() && *next_frozen >= self.blocks.len()
    }

    /// What is marked, when nothing is left to be.
    pub fn found(&mut self) -> Found {
        if !self.state.recounts {
            return self.state.found;
        }
        let (mut found, mut from) = (Found::default(), 0);
        while let Some(object) = self.blocks.marks.next(from) {
            if let Some(traced) = self.traced(object)
                && let Some(size) = self.size(object, traced)
            {
                found.count(traced, size);
            }
            from = object + ALIGN;
        }
        found
    }

    /// Looks at what waits on the stack and at what that leads to, until so many units of work are done or nothing waits. Returns how
    /// many were done.
    fn follow(&mut self, units: u64) -> u64 {
        let mut done = 0;
        let mut queue = [0_u64; AHEAD];
        let (mut head, mut length) = (0, 0);
        while done < units {
            // An entry waits here while its header comes from memory.
            while length < AHEAD
                && let Some(entry) = self.state.stack.pop()
            {
                prefetch(self.base.wrapping_add(entry as u32 as usize));
                queue[(head + length) % AHEAD] = entry;
                length += 1;
            }
            if length == 0 {
                if self.mark_oldest() {
                    continue;
                }
                return done;
            }
            let entry = queue[head % AHEAD];
            (head, length) = (head + 1, length - 1);
            done += 1 + self.scan(entry as u32, (entry >> 32) as u32) / REFERENCES;
        }
        while self.mark_oldest() {}
        for at in head..head + length {
            self.push(queue[at % AHEAD]);
        }
        done
    }

    /// Marks what an object refers to; of an array with references, the elements from `first` on. Returns to how many references it
    /// has looked.
    #[inline(always)]
    fn scan(&mut self, object: u32, first: u32) -> u64 {
        let Some(traced) = self.traced(object) else { return 0 };
        let Some(size) = self.size(object, traced) else { return 0 };
        if first == 0 {
            self.mark_lines(object..object + size);
            self.state.found.count(traced, size);
        }
        match traced {
            Traced::Struct { references, .. } | Traced::Exception { references, .. } => {
                // The first is followed first: mostly it is the last that leads on in a list, and what waits stays little.
                for offset in references.iter().rev() {
                    self.reference_later(self.read(object + offset));
                }
                references.len() as u64
            }
            Traced::Array { has_references: true, .. } => {
                let length = self.read(object + layout::LENGTH);
                let end = length.min(first.saturating_add(CHUNK));
                if end < length {
                    self.push(u64::from(end) << 32 | u64::from(object));
                }
                for index in first..end {
                    self.reference_later(self.read(object + HEADER + 4 * index));
                }
                u64::from(end.saturating_sub(first))
            }
            Traced::Array { .. } => 0,
        }
    }

    #[inline]
    fn mark_lines(&mut self, bytes: Range<u32>) {
        let (first, last) = (bytes.start as usize / LINE, (bytes.end as usize - 1) / LINE);
        self.blocks.marked_lines[first] = KNOWN;
        if first != last {
            self.blocks.marked_lines[first..=last].fill(KNOWN);
        }
    }
}

/// Has the processor fetch what is at an address, which need not be accessible.
#[inline]
fn prefetch(address: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a hint, which does nothing with addresses that are not accessible.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) address, options(nostack, readonly, preserves_flags));
    }
    #[cfg(not(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri))))]
    let _ = address;
}
