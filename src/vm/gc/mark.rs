//! Marking: finds the objects that are reachable from the roots.
//!
//! Nothing that is read from the heap is trusted. An offset is compared with the heap's end, a descriptor with those that the
//! store has made, a length with the object's block: a heap with wrong words in it may keep too much or too little alive, but
//! no read is outside of it.

use std::ops::Range;

use super::super::extern_table::ExternMarks;
use super::blocks::{BLOCK, Blocks, EMPTY, KNOWN, LINE, LINES, NEW, NEW_SPAN, Use};
use super::descriptor::{Descriptors, Traced};
use super::heap::START;
use super::layout::{self, ALIGN, EXTERN_BITS, HEADER, TAG_BITS, array_size};

/// Elements of an array that are looked at before other objects are: bounds what waits on the mark stack.
const CHUNK: u32 = 128;

/// Objects between the one whose header is being fetched from memory and the one that is looked at.
const AHEAD: usize = 8;

/// The state of the mark phase.
pub(crate) struct Marker<'a> {
    /// Address of the first block. Positions are counted from there, so they are offsets less [`START`].
    base: *const u8,
    /// Bytes of all blocks.
    end: u32,
    blocks: &'a mut Blocks,
    descriptors: &'a Descriptors,
    /// What waits to be looked at: the position of an object in the low half, and of an array the index of the next element in
    /// the high half.
    stack: &'a mut Vec<u64>,
    /// Most entries of `stack`.
    most: usize,
    /// Whether `stack` had no room for a marked object.
    overflowed: bool,
    pub externs: ExternMarks<'a>,
    pub found: Found,
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
        stack: &'a mut Vec<u64>,
        externs: ExternMarks<'a>,
    ) -> Self {
        /// Every so many places where an object may start, one may wait to be looked at. So many fit at least.
        const SHARE: usize = 32;
        const LEAST: usize = 1024;
        let bytes = blocks.len() * BLOCK;
        let end = u32::try_from(bytes).expect("a heap ends before 4 GiB");
        let most = (bytes / ALIGN as usize / SHARE).max(LEAST);
        Marker { base, end, blocks, descriptors, stack, most, overflowed: false, externs, found: Found::default() }
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
    fn traced(&self, object: u32) -> Option<&'a Traced> {
        let descriptor = self.read(object + layout::DESCRIPTOR);
        let at = descriptor.wrapping_sub(START);
        let number = if at < self.end - 4 { self.read(at + layout::DESCRIPTOR_LAYOUT) } else { u32::MAX };
        self.descriptors.traced(number, descriptor)
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

    /// Marks the object at a position, if one may start there.
    #[inline]
    fn object(&mut self, object: u32) {
        if object >= self.end {
            return;
        }
        let may_start = match self.blocks.use_of(object as usize / BLOCK) {
            Some(Use::Small) => true,
            Some(Use::Head) => (object as usize).is_multiple_of(BLOCK),
            _ => false,
        };
        if may_start && self.blocks.marks.set(object) {
            self.push(u64::from(object));
        }
    }

    #[inline]
    fn push(&mut self, entry: u64) {
        if self.stack.len() < self.stack.capacity() {
            self.stack.push(entry);
        } else {
            self.push_slowly(entry);
        }
    }

    #[cold]
    fn push_slowly(&mut self, entry: u64) {
        let more = self.stack.len().clamp(1, self.most.saturating_sub(self.stack.len()).max(1));
        if self.stack.len() < self.most && self.stack.try_reserve_exact(more).is_ok() {
            self.stack.push(entry);
        } else {
            self.overflowed = true;
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
        // Roots are many, and each may lead to much: what waits is not more than it must be.
        if self.stack.len() > self.stack.capacity() / 2 {
            self.follow();
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

    /// Marks all objects of the blocks that were taken into use before an era.
    pub fn blocks_before(&mut self, era: u64) {
        for block in 0..self.blocks.len() {
            if self.blocks.era(block) >= era {
                continue;
            }
            match self.blocks.use_of(block) {
                Some(Use::Small) => {
                    for line in block * LINES..(block + 1) * LINES {
                        if matches!(self.blocks.lines[line], NEW | NEW_SPAN) {
                            self.find_starts(line);
                        }
                    }
                    let objects: Vec<u32> = self.blocks.starts.of_block(block).collect();
                    objects.into_iter().for_each(|object| self.object(object));
                }
                Some(Use::Head) => self.object((block * BLOCK) as u32),
                _ => {}
            }
            self.follow();
        }
    }

    /// Marks everything that marked objects refer to.
    pub fn follow(&mut self) {
        let mut queue = [0_u64; AHEAD];
        let (mut head, mut length) = (0, 0);
        loop {
            // An entry waits here while its header comes from memory.
            while length < AHEAD
                && let Some(entry) = self.stack.pop()
            {
                prefetch(self.base.wrapping_add(entry as u32 as usize));
                queue[(head + length) % AHEAD] = entry;
                length += 1;
            }
            if length == 0 {
                break;
            }
            let entry = queue[head % AHEAD];
            (head, length) = (head + 1, length - 1);
            self.scan(entry as u32, (entry >> 32) as u32);
        }
    }

    /// As [`Marker::follow`], until nothing is left, also if the mark stack had too little room.
    pub fn finish(&mut self) {
        self.follow();
        if !self.overflowed {
            return;
        }
        // Each pass marks at least as many objects as the stack has room for, or all: so there are few passes.
        while std::mem::take(&mut self.overflowed) {
            let mut from = 0;
            // Objects that are marked meanwhile are met as well if they are further on.
            while let Some(object) = self.blocks.marks.next(from) {
                self.push(u64::from(object));
                self.follow();
                from = object + ALIGN;
            }
        }
        self.found = Found::default();
        let mut from = 0;
        while let Some(object) = self.blocks.marks.next(from) {
            if let Some(traced) = self.traced(object)
                && let Some(size) = self.size(object, traced)
            {
                self.found.count(traced, size);
            }
            from = object + ALIGN;
        }
    }

    /// Marks what an object refers to; of an array with references, the elements from `first` on.
    #[inline]
    fn scan(&mut self, object: u32, first: u32) {
        let Some(traced) = self.traced(object) else { return };
        let Some(size) = self.size(object, traced) else { return };
        if first == 0 {
            self.mark_lines(object..object + size);
            self.found.count(traced, size);
        }
        match traced {
            Traced::Struct { references, .. } | Traced::Exception { references, .. } => {
                for offset in references {
                    self.reference(self.read(object + offset));
                }
            }
            Traced::Array { has_references: true, .. } => {
                let length = self.read(object + layout::LENGTH);
                let end = length.min(first.saturating_add(CHUNK));
                if end < length {
                    self.push(u64::from(end) << 32 | u64::from(object));
                }
                for index in first..end {
                    self.reference(self.read(object + HEADER + 4 * index));
                }
            }
            Traced::Array { .. } => {}
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
