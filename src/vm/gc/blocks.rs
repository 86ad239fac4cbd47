//! What the heap knows of its memory, beside it: which blocks are used for what, which lines have objects, and where objects
//! start. Nothing of this is in the heap itself, where a wrong object might overwrite it. Positions are counted from the first
//! block here.
//!
//! A block has small objects side by side, or one large object has a run of whole blocks. A line is the unit in which the
//! space of dead objects is used again (mark-region, as in Immix): a hole is a run of lines without live objects.

use crate::error::{Error, Result};

/// Bytes of a block.
pub(super) const BLOCK: usize = 32 << 10;

/// Bytes of a line.
pub(super) const LINE: usize = 256;

/// Lines of a block.
pub(super) const LINES: usize = BLOCK / LINE;

/// Objects above this size have blocks of their own.
pub(super) const MAX_SMALL: usize = BLOCK / 2;

/// 64-bit words of a bitmap with a bit for each place of a block where an object may start.
const WORDS: usize = BLOCK / 8 / 64;

/// What a block is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Free,
    /// Small objects.
    Small,
    /// The start of a large object.
    Head,
    /// The rest of one.
    Tail,
    /// Descriptors.
    Immortal,
}

/// State of a line: it is part of a hole, or it was when its block became free.
pub(super) const EMPTY: u8 = 0;
/// The bitmap of starts has all objects that start in the line, and the line has a part of one.
pub(super) const KNOWN: u8 = 1;
/// The line was handed out since the last collection, and the object starts there are not known. Objects lie side by side from
/// the start of the span that was handed out, up to a word that is 0.
pub(super) const NEW: u8 = 2;
/// As [`NEW`], and a span starts with the line.
pub(super) const NEW_SPAN: u8 = 3;

#[derive(Clone, Copy)]
struct Block {
    /// Of the start of a large object: how many blocks it has. Of the rest: the block where it starts.
    run: u32,
    /// Whether all its bytes are zero; only of free blocks.
    is_zero: bool,
    /// The era of the heap in which the block was last taken into use.
    era: u64,
}

/// A map with a bit for each position in the heap that is a multiple of 8.
#[derive(Default)]
pub(super) struct Bitmap(Vec<u64>);

impl Bitmap {
    #[inline]
    pub fn get(&self, at: u32) -> bool {
        self.0[at as usize / 512] & 1 << (at / 8 % 64) != 0
    }

    /// Address of a bit.
    #[inline]
    pub fn address(&self, at: u32) -> *const u8 {
        (&raw const self.0[at as usize / 512]).cast()
    }

    /// Sets a bit; whether it was clear.
    #[inline]
    pub fn set(&mut self, at: u32) -> bool {
        let (word, bit) = (&mut self.0[at as usize / 512], 1 << (at / 8 % 64));
        let was_clear = *word & bit == 0;
        *word |= bit;
        was_clear
    }

    /// The last place with its bit set, at or before `at` and in the same block.
    pub fn last_in_block(&self, at: u32) -> Option<u32> {
        let last = at as usize / 512;
        let first = last / WORDS * WORDS;
        let below = u64::MAX >> (63 - at / 8 % 64);
        let mut word = self.0[last] & below;
        for index in (first..=last).rev() {
            if index != last {
                word = self.0[index];
            }
            if word != 0 {
                return Some(index as u32 * 512 + (63 - word.leading_zeros()) * 8);
            }
        }
        None
    }

    /// The first place with its bit set, at or after `from`.
    pub fn next(&self, from: u32) -> Option<u32> {
        let first = from as usize / 512;
        let mut word = *self.0.get(first)? & u64::MAX << (from / 8 % 64);
        for index in first..self.0.len() {
            if index != first {
                word = self.0[index];
            }
            if word != 0 {
                return Some(index as u32 * 512 + word.trailing_zeros() * 8);
            }
        }
        None
    }

    /// The places with their bit set, in a block.
    pub fn of_block(&self, block: usize) -> impl Iterator<Item = u32> + '_ {
        (block * WORDS..(block + 1) * WORDS).flat_map(|index| {
            let mut word = self.0[index];
            std::iter::from_fn(move || {
                (word != 0).then(|| {
                    let bit = word.trailing_zeros();
                    word &= word - 1;
                    index as u32 * 512 + bit * 8
                })
            })
        })
    }
}

/// The blocks of a heap.
#[derive(Default)]
pub(super) struct Blocks {
    uses: Vec<Use>,
    blocks: Vec<Block>,
    /// The state of each line.
    pub lines: Vec<u8>,
    /// While a collection marks: for each line, whether it has a part of a marked object, or else its state if it was handed
    /// out since the collection began. What was made there since is not marked, but kept. Else all [`EMPTY`].
    pub marked_lines: Vec<u8>,
    /// Where objects start that survived the last collection, or that were found since.
    pub starts: Bitmap,
    /// While a collection marks: where marked objects start. Else all zero.
    pub marks: Bitmap,
    /// Blocks with holes that were not looked at since the last collection.
    recyclable: Vec<u32>,
    /// Number of free blocks.
    free: usize,
    /// Where the search for free blocks goes on.
    next: usize,
    /// No run of so many free blocks was found since the last collection.
    missing: usize,
    /// Whether a collection marks.
    pub is_marking: bool,
}

impl Blocks {
    pub fn len(&self) -> usize {
        self.uses.len()
    }

    /// Number of blocks that have something.
    pub fn in_use(&self) -> usize {
        self.len() - self.free
    }

    #[inline]
    pub fn use_of(&self, block: usize) -> Option<Use> {
        self.uses.get(block).copied()
    }

    /// The block where the large object starts that has this block.
    pub fn head(&self, tail: usize) -> usize {
        self.blocks[tail].run as usize
    }

    /// Number of blocks of the large object that starts with this one.
    pub fn run(&self, head: usize) -> usize {
        self.blocks[head].run as usize
    }

    pub fn era(&self, block: usize) -> u64 {
        self.blocks[block].era
    }

    /// Adds free blocks whose bytes are zero.
    ///
    /// # Errors
    /// [`Resource`](crate::ErrorKind::Resource) if there is no memory for what is to be known of them.
    pub fn extend(&mut self, count: usize) -> Result<()> {
        let refused = |_| Error::resource("no memory for the tables of the heap of objects");
        let (lines, words) = (count * LINES, count * WORDS);
        self.uses.try_reserve(count).map_err(refused)?;
        self.blocks.try_reserve(count).map_err(refused)?;
        self.lines.try_reserve(lines).map_err(refused)?;
        self.marked_lines.try_reserve(lines).map_err(refused)?;
        self.starts.0.try_reserve(words).map_err(refused)?;
        self.marks.0.try_reserve(words).map_err(refused)?;
        self.recyclable.try_reserve(self.len() + count - self.recyclable.len()).map_err(refused)?;
        let len = self.len() + count;
        self.uses.resize(len, Use::Free);
        self.blocks.resize(len, Block { run: 0, is_zero: true, era: 0 });
        self.lines.resize(len * LINES, EMPTY);
        self.marked_lines.resize(len * LINES, EMPTY);
        self.starts.0.resize(len * WORDS, 0);
        self.marks.0.resize(len * WORDS, 0);
        self.free += count;
        self.missing = usize::MAX;
        Ok(())
    }

    /// Finds `count` free blocks side by side. It goes on where the last search ended, and remembers what it did not find, so
    /// that searches cost little however many blocks are used.
    pub fn find(&mut self, count: usize) -> Option<usize> {
        if count >= self.missing || count > self.free {
            return None;
        }
        let found = self.find_in(self.next..self.len(), count).or_else(|| self.find_in(0..self.len(), count));
        match found {
            Some(first) => self.next = first,
            None => self.missing = count,
        }
        found
    }

    /// Of the free blocks side by side that the next object of `count` blocks gets, the first run, of at most `most`, whose bytes
    /// are not zero. The caller makes them zero.
    pub fn clean(&mut self, count: usize, most: usize) -> Option<std::ops::Range<usize>> {
        let first = self.find(count)?;
        let run = &mut self.blocks[first..first + count];
        let start = run.iter().position(|block| !block.is_zero)?;
        let dirty = run[start..].iter_mut().take(most).take_while(|block| !block.is_zero);
        let length = dirty.map(|block| block.is_zero = true).count();
        Some(first + start..first + start + length)
    }

    fn find_in(&self, range: std::ops::Range<usize>, count: usize) -> Option<usize> {
        let mut length = 0;
        for block in range {
            length = if self.uses[block] == Use::Free { length + 1 } else { 0 };
            if length == count {
                return Some(block + 1 - count);
            }
        }
        None
    }

    /// Number of free blocks at the end.
    pub fn free_at_end(&self) -> usize {
        self.uses.iter().rev().take_while(|used_as| **used_as == Use::Free).count()
    }

    /// Takes `count` free blocks from `first` on; whether their bytes are all zero.
    pub fn take(&mut self, first: usize, count: usize, is_used_as: Use, era: u64) -> bool {
        self.free -= count;
        let mut is_zero = true;
        for block in first..first + count {
            is_zero &= self.blocks[block].is_zero;
            let is_tail = is_used_as == Use::Head && block != first;
            self.uses[block] = if is_tail { Use::Tail } else { is_used_as };
            let run = if is_tail { first } else { count };
            self.blocks[block] = Block { run: run as u32, is_zero: false, era };
        }
        if is_used_as == Use::Head && self.is_marking {
            self.marks.set((first * BLOCK) as u32);
        }
        is_zero
    }

    /// The next hole of a block, from line `from` of it on: its lines.
    pub fn hole(&self, block: usize, from: usize) -> Option<std::ops::Range<usize>> {
        let lines = &self.lines[block * LINES..(block + 1) * LINES];
        let first = from + lines[from..].iter().position(|line| *line == EMPTY)?;
        let length = lines[first..].iter().take_while(|line| **line == EMPTY).count();
        Some(first..first + length)
    }

    /// Notes that lines of a block are handed out.
    pub fn hand_out(&mut self, block: usize, lines: std::ops::Range<usize>) {
        let lines = block * LINES + lines.start..block * LINES + lines.end;
        let both = [Some(&mut self.lines), self.is_marking.then_some(&mut self.marked_lines)];
        for states in both.into_iter().flatten() {
            states[lines.clone()].fill(NEW);
            states[lines.start] = NEW_SPAN;
        }
    }

    /// The next block with holes that was taken into use in this era or later.
    pub fn recycle(&mut self, era: u64) -> Option<usize> {
        while let Some(block) = self.recyclable.pop() {
            if self.blocks[block as usize].era >= era {
                return Some(block as usize);
            }
        }
        None
    }

    /// A collection begins, and whatever another one has marked is forgotten.
    pub fn begin_marking(&mut self) {
        if self.is_marking {
            self.marked_lines.fill(EMPTY);
            self.marks.0.fill(0);
        }
        self.is_marking = true;
    }

    /// Ends a collection: frees what is not marked, when everything is that was reachable when it began.
    pub fn sweep(&mut self) {
        self.is_marking = false;
        self.recyclable.clear();
        let mut block = self.len();
        while block > 0 {
            block -= 1;
            match self.uses[block] {
                Use::Small => {
                    let lines = &self.marked_lines[block * LINES..(block + 1) * LINES];
                    match lines.iter().filter(|line| **line != EMPTY).count() {
                        0 => self.free(block, 1),
                        LINES => {}
                        // There is room: `extend` has reserved it.
                        _ => self.recyclable.push(block as u32),
                    }
                }
                Use::Head if !self.marks.get((block * BLOCK) as u32) => self.free(block, self.run(block)),
                Use::Head | Use::Tail | Use::Free | Use::Immortal => {}
            }
        }
        std::mem::swap(&mut self.lines, &mut self.marked_lines);
        std::mem::swap(&mut self.starts, &mut self.marks);
        self.marked_lines.fill(EMPTY);
        self.marks.0.fill(0);
        (self.next, self.missing) = (0, usize::MAX);
    }

    fn free(&mut self, first: usize, count: usize) {
        for block in first..first + count {
            self.uses[block] = Use::Free;
            self.blocks[block].is_zero = false;
        }
        self.free += count;
    }

    /// Chooses free blocks whose memory is to be given back to the system, so that at most `most` are left that may have some, but
    /// no more than `count` of them: runs of blocks, those at the end first. They are zero afterwards.
    pub fn discard(&mut self, most: usize, count: usize, mut give_back: impl FnMut(std::ops::Range<usize>) -> bool) {
        let is_dirty = |this: &Self, block: usize| this.uses[block] == Use::Free && !this.blocks[block].is_zero;
        let mut dirty = (0..self.len()).filter(|block| is_dirty(self, *block)).count();
        let most = most.max(dirty.saturating_sub(count));
        let mut end = self.len();
        while dirty > most && end > 0 {
            let mut first = end;
            while first > 0 && is_dirty(self, first - 1) && dirty > most {
                first -= 1;
                dirty -= 1;
            }
            if first < end && give_back(first..end) {
                self.blocks[first..end].iter_mut().for_each(|block| block.is_zero = true);
            }
            end = first.saturating_sub(usize::from(first == end || dirty > most));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_found_in_their_block_only() {
        let mut map = Bitmap(vec![0; 3 * WORDS]);
        let block = BLOCK as u32;
        for at in [block, block + 512 + 8, 2 * block - 8] {
            assert!(map.set(at) && !map.set(at) && map.get(at));
        }
        assert_eq!(map.last_in_block(block - 8), None);
        assert_eq!(map.last_in_block(block + 512), Some(block));
        assert_eq!(map.last_in_block(block + 515), Some(block));
        assert_eq!(map.last_in_block(block + 520), Some(block + 520));
        assert_eq!(map.last_in_block(2 * block - 16), Some(block + 520));
        assert_eq!(map.last_in_block(2 * block - 1), Some(2 * block - 8));
        assert_eq!(map.last_in_block(2 * block), None);
        assert_eq!(
            (map.next(0), map.next(block + 1), map.next(block + 8)),
            (Some(block), Some(block), Some(block + 520))
        );
        assert_eq!(
            (map.next(2 * block - 8), map.next(2 * block), map.next(4 * block)),
            (Some(2 * block - 8), None, None)
        );
        assert_eq!(map.of_block(1).collect::<Vec<_>>(), [block, block + 520, 2 * block - 8]);
    }

    #[test]
    fn runs_of_free_blocks_are_found_and_used_again() {
        let mut blocks = Blocks::default();
        blocks.extend(10).unwrap();
        for first in [0, 3, 6] {
            assert_eq!(blocks.find(3), Some(first));
            assert!(blocks.take(first, 3, Use::Head, 0));
        }
        assert_eq!((blocks.find(2), blocks.find(1)), (None, Some(9)));
        assert_eq!((blocks.head(8), blocks.run(6), blocks.in_use()), (6, 3, 9));
        blocks.marks.set(3 * BLOCK as u32);
        blocks.sweep();
        assert_eq!((blocks.find(4), blocks.free_at_end(), blocks.in_use()), (Some(6), 4, 3));
        assert!(!blocks.take(6, 4, Use::Head, 0));
        assert_eq!(blocks.find(4), None);
        blocks.extend(1).unwrap();
        assert_eq!((blocks.find(4), blocks.find(3)), (None, Some(0)));
    }

    #[test]
    fn blocks_are_cleaned_before_they_are_taken() {
        let mut blocks = Blocks::default();
        blocks.extend(8).unwrap();
        assert_eq!(blocks.clean(8, 3), None);
        blocks.take(1, 5, Use::Small, 0);
        blocks.sweep();
        let cleaned: Vec<_> = std::iter::from_fn(|| blocks.clean(8, 3)).collect();
        assert_eq!(cleaned, [1..4, 4..6]);
        assert!(blocks.take(0, 8, Use::Head, 0));
        assert_eq!(blocks.clean(1, 3), None);
    }

    #[test]
    fn dirty_blocks_are_given_back_from_the_end() {
        let mut blocks = Blocks::default();
        blocks.extend(8).unwrap();
        blocks.take(0, 8, Use::Small, 0);
        blocks.marked_lines[4 * LINES] = KNOWN;
        blocks.sweep();
        let mut given = Vec::new();
        blocks.discard(2, 100, |run| {
            given.push(run);
            true
        });
        assert_eq!(given, [5..8, 2..4]);
        // Of the two that are left, no more than one.
        blocks.discard(0, 1, |run| {
            given.push(run);
            true
        });
        assert_eq!((given.len(), &given[2]), (3, &(1..2)));
        assert!(blocks.take(5, 3, Use::Small, 0) && !blocks.take(0, 2, Use::Small, 0));
    }
}
