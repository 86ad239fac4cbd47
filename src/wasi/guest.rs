//! Access to guest memory as the witx asks for it: pointers and lengths are checked, and aligned where the type is.
//!
//! A pointer that is out of bounds or misaligned is `fault`; a program sees the error and nothing has been written.

use crate::runtime::linear::LinearMemory;
use crate::wasi::errno::Errno;
use crate::wasi::types::{Pointer, Size};
use std::borrow::Cow;
use std::io::{IoSlice, IoSliceMut};
use std::ops::Range;

/// [`LinearMemory`] with WASI's errors.
pub(crate) trait Guest {
    /// The `len` bytes from `pointer`; a copy if the memory is shared.
    fn bytes(&self, pointer: Pointer, len: Size) -> Result<Cow<'_, [u8]>, Errno>;
    /// Writes bytes.
    fn store(&mut self, pointer: Pointer, bytes: &[u8]) -> Result<(), Errno>;
    /// Has `fill` make the `len` bytes from `pointer`: in place, or if the memory is shared piece by piece.
    fn fill_with(&mut self, pointer: Pointer, len: Size, fill: impl FnMut(&mut [u8])) -> Result<(), Errno>;
    /// Fails unless `count` elements of `size` bytes can be at `pointer`. Functions check the places of their results with it
    /// before they do anything.
    fn check(&self, pointer: Pointer, count: Size, size: Size, align: Size) -> Result<(), Errno>;
    /// The integer at `pointer`.
    fn load_u32(&self, pointer: Pointer) -> Result<u32, Errno>;
    /// Writes an integer.
    fn store_u32(&mut self, pointer: Pointer, value: u32) -> Result<(), Errno>;
    /// Writes an integer.
    fn store_u64(&mut self, pointer: Pointer, value: u64) -> Result<(), Errno>;
    /// The path of `len` bytes at `pointer`: `ilseq` if it is not UTF-8, `nametoolong` if it is longer than [`PATH_MAX`].
    fn path(&self, pointer: Pointer, len: Size) -> Result<Cow<'_, str>, Errno>;
}

/// Bytes that are filled at once where memory is shared.
const PIECE: usize = 64 << 10;

/// Bytes that one system call reads into a shared memory or writes from there, by way of a buffer: a longer transfer is cut short.
const SCRATCH: usize = 1 << 20;

/// The longest path, as Linux has it, with the NUL that the guest does not send.
pub(crate) const PATH_MAX: usize = 4096;

impl Guest for LinearMemory<'_> {
    #[inline]
    fn bytes(&self, pointer: Pointer, len: Size) -> Result<Cow<'_, [u8]>, Errno> {
        self.get(pointer, len).map_err(|_| Errno::Fault)
    }

    #[inline]
    fn store(&mut self, pointer: Pointer, bytes: &[u8]) -> Result<(), Errno> {
        self.write(pointer, bytes).map_err(|_| Errno::Fault)
    }

    fn fill_with(&mut self, pointer: Pointer, len: Size, mut fill: impl FnMut(&mut [u8])) -> Result<(), Errno> {
        self.check(pointer, len, 1, 1)?;
        if let Ok(bytes) = self.unshared_slice_mut(pointer, len) {
            fill(bytes);
            return Ok(());
        }
        let mut piece = vec![0; PIECE.min(len as usize)];
        let mut done = 0;
        while done < len as usize {
            let piece = &mut piece[..PIECE.min(len as usize - done)];
            fill(piece);
            // Does not wrap: the end is in memory.
            self.store(pointer + done as u32, piece)?;
            done += piece.len();
        }
        Ok(())
    }

    #[inline]
    fn check(&self, pointer: Pointer, count: Size, size: Size, align: Size) -> Result<(), Errno> {
        let end = u64::from(pointer) + u64::from(count) * u64::from(size);
        if !pointer.is_multiple_of(align) || end > self.len() {
            return Err(Errno::Fault);
        }
        Ok(())
    }

    #[inline]
    fn load_u32(&self, pointer: Pointer) -> Result<u32, Errno> {
        self.check(pointer, 1, 4, 4)?;
        self.read_u32(pointer).map_err(|_| Errno::Fault)
    }

    #[inline]
    fn store_u32(&mut self, pointer: Pointer, value: u32) -> Result<(), Errno> {
        self.check(pointer, 1, 4, 4)?;
        self.write_u32(pointer, value).map_err(|_| Errno::Fault)
    }

    #[inline]
    fn store_u64(&mut self, pointer: Pointer, value: u64) -> Result<(), Errno> {
        self.check(pointer, 1, 8, 8)?;
        self.write_u64(pointer, value).map_err(|_| Errno::Fault)
    }

    fn path(&self, pointer: Pointer, len: Size) -> Result<Cow<'_, str>, Errno> {
        self.check(pointer, len, 1, 1)?;
        if len as usize >= PATH_MAX {
            return Err(Errno::NameTooLong);
        }
        match self.bytes(pointer, len)? {
            Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| Errno::Ilseq),
            Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).map_err(|_| Errno::Ilseq),
        }
    }
}

/// The most buffers in one system call, as many as Linux takes (`IOV_MAX`). A longer list takes several calls, so that the
/// host's memory for it is bounded.
pub(crate) const BATCH: usize = 1024;

/// The most buffers of a call that are kept without allocating memory.
const FEW: usize = 16;

/// A list of buffers in guest memory (`iovec_array`, `ciovec_array`), read as far as it is needed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Buffers {
    next: Pointer,
    left: Size,
}

/// Some buffers of a list, none of them empty: where they are, and how many bytes they have together.
#[derive(Debug)]
pub(crate) struct Batch {
    few: [Range<usize>; FEW],
    /// All buffers, if there are more than [`FEW`].
    many: Vec<Range<usize>>,
    count: usize,
    bytes: usize,
}

impl Buffers {
    /// The list of `count` buffers at `pointer`.
    pub(crate) fn new(memory: &LinearMemory<'_>, pointer: Pointer, count: Size) -> Result<Self, Errno> {
        memory.check(pointer, count, 8, 4)?;
        Ok(Buffers { next: pointer, left: count })
    }

    /// The next non-empty buffers. An empty batch is the end.
    #[inline]
    pub(crate) fn batch(&mut self, memory: &LinearMemory<'_>) -> Result<Batch, Errno> {
        let mut batch = Batch { few: [const { 0..0 }; FEW], many: Vec::new(), count: 0, bytes: 0 };
        while self.left > 0 && batch.count < BATCH {
            let start = memory.load_u32(self.next)?;
            let len = memory.load_u32(self.next + 4)?;
            self.left -= 1;
            self.next = self.next.wrapping_add(8);
            if len > 0 {
                memory.check(start, len, 1, 1)?;
                batch.push(start as usize..start as usize + len as usize, self.left);
            }
        }
        Ok(batch)
    }

    /// Whether all buffers have been taken.
    pub(crate) fn is_at_end(&self) -> bool {
        self.left == 0
    }
}

impl Batch {
    /// Adds a buffer, which up to `left` others may follow.
    #[inline]
    fn push(&mut self, range: Range<usize>, left: Size) {
        self.bytes += range.len();
        if self.count < FEW {
            self.few[self.count] = range;
        } else {
            if self.many.is_empty() {
                self.many.reserve_exact(BATCH.min(FEW + 1 + left as usize));
                self.many.extend_from_slice(&self.few);
            }
            self.many.push(range);
        }
        self.count += 1;
    }

    fn ranges(&self) -> &[Range<usize>] {
        if self.many.is_empty() { &self.few[..self.count] } else { &self.many }
    }

    fn ranges_mut(&mut self) -> &mut [Range<usize>] {
        if self.many.is_empty() { &mut self.few[..self.count] } else { &mut self.many }
    }

    /// The sum of the buffers' lengths.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Cuts off what is beyond the first `bytes`.
    pub(crate) fn truncate(&mut self, bytes: usize) {
        let mut left = bytes;
        for range in self.ranges_mut() {
            let len = range.len().min(left);
            range.end = range.start + len;
            left -= len;
        }
        self.bytes = self.bytes.min(bytes);
    }

    /// Removes the first `bytes`, and the buffers that are then empty.
    pub(crate) fn skip(&mut self, bytes: usize) {
        let mut left = bytes.min(self.bytes);
        self.bytes -= left;
        let ranges = self.ranges_mut();
        let mut used = 0;
        for range in ranges.iter_mut() {
            let len = range.len().min(left);
            range.start += len;
            left -= len;
            if range.start < range.end {
                break;
            }
            used += 1;
        }
        ranges.rotate_left(used);
        self.count -= used;
        self.many.truncate(self.count);
    }

    /// Calls `write` with the buffers, or with a copy of their first bytes if the memory is shared.
    #[inline]
    pub(crate) fn with<R, E: Into<Errno>>(
        &self,
        memory: &LinearMemory<'_>,
        write: impl FnOnce(&[IoSlice<'_>]) -> Result<R, E>,
    ) -> Result<R, Errno> {
        let write = |buffers: &[IoSlice<'_>]| write(buffers).map_err(Into::into);
        let Ok(memory) = memory.unshared_slice(0, memory.len()) else {
            let scratch = self.gather(memory)?;
            return write(&[IoSlice::new(&scratch)]);
        };
        if self.count == 1 {
            return write(&[IoSlice::new(&memory[self.ranges()[0].clone()])]);
        }
        if !self.many.is_empty() {
            return write(&self.many.iter().map(|range| IoSlice::new(&memory[range.clone()])).collect::<Vec<_>>());
        }
        let slices: [IoSlice<'_>; FEW] = std::array::from_fn(|index| IoSlice::new(&memory[self.few[index].clone()]));
        write(&slices[..self.count])
    }

    /// A copy of the first bytes of the buffers.
    fn gather(&self, memory: &LinearMemory<'_>) -> Result<Vec<u8>, Errno> {
        let mut scratch = Vec::with_capacity(self.bytes.min(SCRATCH));
        for range in self.ranges() {
            let start = scratch.len();
            let len = range.len().min(SCRATCH - start);
            scratch.resize(start + len, 0);
            memory.read(range.start, &mut scratch[start..]).map_err(|_| Errno::Fault)?;
        }
        Ok(scratch)
    }

    /// Copies bytes into the buffers, from the first on.
    fn scatter(&self, memory: &mut LinearMemory<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
        for range in self.ranges() {
            let (part, rest) = bytes.split_at(range.len().min(bytes.len()));
            memory.write(range.start, part).map_err(|_| Errno::Fault)?;
            bytes = rest;
        }
        Ok(())
    }

    /// Calls `read` with the buffers, or with the first one only if some of them overlap.
    #[inline]
    pub(crate) fn with_mut<R: Filled, E: Into<Errno>>(
        &self,
        memory: &mut LinearMemory<'_>,
        read: impl FnOnce(&mut [IoSliceMut<'_>]) -> Result<R, E>,
    ) -> Result<R, Errno> {
        let read = |buffers: &mut [IoSliceMut<'_>]| read(buffers).map_err(Into::into);
        if memory.is_shared() {
            let mut scratch = vec![0; self.bytes.min(SCRATCH)];
            let result = read(&mut [IoSliceMut::new(&mut scratch)])?;
            self.scatter(memory, &scratch[..result.filled().min(scratch.len())])?;
            return Ok(result);
        }
        let memory = memory.unshared_slice_mut(0, memory.len()).map_err(|_| Errno::Fault)?;
        if !self.many.is_empty() {
            if is_disjoint(&self.many) {
                return read(&mut split(memory, &self.many));
            }
        } else if self.count > 1
            && let Ok(buffers) = memory.get_disjoint_mut(self.few.clone())
        {
            return read(&mut buffers.map(IoSliceMut::new)[..self.count]);
        }
        let first = self.ranges().first().cloned().unwrap_or(0..0);
        read(&mut [IoSliceMut::new(&mut memory[first])])
    }
}

/// What reading into buffers gives.
pub(crate) trait Filled {
    /// How many of their bytes were written, from the first on.
    fn filled(&self) -> usize;
}

impl Filled for usize {
    fn filled(&self) -> usize {
        *self
    }
}

impl<T: Filled, E> Filled for Result<T, E> {
    fn filled(&self) -> usize {
        self.as_ref().map_or(0, T::filled)
    }
}

/// The indices of `ranges` in the order of their addresses.
fn by_place(ranges: &[Range<usize>]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..ranges.len()).collect();
    order.sort_unstable_by_key(|index| ranges[*index].start);
    order
}

/// Whether no two of `ranges` overlap.
fn is_disjoint(ranges: &[Range<usize>]) -> bool {
    by_place(ranges).windows(2).all(|pair| ranges[pair[0]].end <= ranges[pair[1]].start)
}

/// The parts of `memory` that `ranges`, which do not overlap, stand for, in the order of `ranges`.
fn split<'a>(mut memory: &'a mut [u8], ranges: &[Range<usize>]) -> Vec<IoSliceMut<'a>> {
    let mut slices = Vec::with_capacity(ranges.len());
    slices.resize_with(ranges.len(), || IoSliceMut::new(&mut []));
    let mut start = 0;
    for index in by_place(ranges) {
        let range = &ranges[index];
        let (part, rest) = memory.split_at_mut(range.end - start);
        slices[index] = IoSliceMut::new(&mut part[range.start - start..]);
        (memory, start) = (rest, range.end);
    }
    slices
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_buffers(list: &[(u32, u32)], test: impl FnOnce(&mut LinearMemory<'_>, Result<Buffers, Errno>)) {
        let mut bytes = vec![0; 65536];
        let mut memory = LinearMemory::new(&mut bytes);
        for (index, (start, len)) in list.iter().enumerate() {
            memory.write_u32(index as u32 * 8, *start).unwrap();
            memory.write_u32(index as u32 * 8 + 4, *len).unwrap();
        }
        let buffers = Buffers::new(&memory, 0, list.len() as u32);
        test(&mut memory, buffers);
    }

    /// Lengths of the buffers that are written from.
    fn lens(batch: &Batch, memory: &LinearMemory<'_>) -> Vec<usize> {
        batch.with(memory, |slices| Ok::<_, Errno>(slices.iter().map(|slice| slice.len()).collect())).unwrap()
    }

    /// Lengths of the buffers that are read into.
    fn lens_mut(batch: &Batch, memory: &mut LinearMemory<'_>) -> Vec<usize> {
        let mut lens = Vec::new();
        let look = |slices: &mut [IoSliceMut<'_>]| {
            lens = slices.iter().map(|slice| slice.len()).collect();
            Ok::<_, Errno>(0)
        };
        batch.with_mut(memory, look).unwrap();
        lens
    }

    #[test]
    fn empty_buffers_are_skipped_wherever_they_point() {
        with_buffers(&[(u32::MAX, 0), (1000, 4), (0, 0), (2000, 5)], |memory, buffers| {
            let batch = buffers.unwrap().batch(memory).unwrap();
            assert_eq!(batch.bytes(), 9);
            assert_eq!((lens(&batch, memory).len(), lens_mut(&batch, memory).len()), (2, 2));
        });
    }

    #[test]
    fn overlapping_buffers_are_read_one_at_a_time() {
        with_buffers(&[(1000, 8), (1004, 8)], |memory, buffers| {
            let batch = buffers.unwrap().batch(memory).unwrap();
            assert_eq!(lens_mut(&batch, memory), [8]);
        });
        let list: Vec<(u32, u32)> = (0..100).map(|index| (30000 + index * 7, 8)).collect();
        with_buffers(&list, |memory, buffers| {
            let batch = buffers.unwrap().batch(memory).unwrap();
            assert_eq!(lens_mut(&batch, memory), [8]);
        });
    }

    #[test]
    fn long_lists_come_in_batches() {
        with_buffers(&[(30000, 2); 2500], |memory, buffers| {
            let mut buffers = buffers.unwrap();
            let sizes: Vec<usize> = (0..4).map(|_| buffers.batch(memory).unwrap().bytes()).collect();
            assert_eq!(sizes, [2048, 2048, 904, 0]);
            assert!(buffers.is_at_end());
        });
    }

    #[test]
    fn up_to_1024_buffers_go_into_one_call() {
        for count in [1, 2, FEW, FEW + 1, BATCH] {
            // From the last place to the first, so that their order is not that of memory.
            let list: Vec<(u32, u32)> = (0..count as u32).map(|index| (30000 - 4 * index, 3)).collect();
            with_buffers(&list, |memory, buffers| {
                let batch = buffers.unwrap().batch(memory).unwrap();
                let filled = batch.with_mut(memory, |slices| {
                    for (index, slice) in slices.iter_mut().enumerate() {
                        slice.copy_from_slice(&[index as u8, (index >> 8) as u8, 7]);
                    }
                    Ok::<_, Errno>(slices.len())
                });
                let seen = batch.with(memory, |slices| {
                    for (index, slice) in slices.iter().enumerate() {
                        assert_eq!(&slice[..], &[index as u8, (index >> 8) as u8, 7]);
                    }
                    Ok::<_, Errno>(slices.len())
                });
                assert_eq!((filled, seen), (Ok(count), Ok(count)));
                for (index, (start, _)) in list.iter().enumerate() {
                    assert_eq!(*memory.bytes(*start, 4).unwrap(), [index as u8, (index >> 8) as u8, 7, 0]);
                }
            });
        }
    }

    #[test]
    fn what_was_filled_is_skipped() {
        for count in [5, FEW as u32 + 5] {
            let list: Vec<(u32, u32)> = (0..count).map(|index| (10000 + 10 * index, 4)).collect();
            with_buffers(&list, |memory, buffers| {
                let mut batch = buffers.unwrap().batch(memory).unwrap();
                batch.skip(9);
                let lens = lens(&batch, memory);
                assert_eq!(
                    (batch.bytes(), lens.len(), &lens[..2]),
                    (4 * count as usize - 9, count as usize - 2, &[3, 4][..])
                );
                batch.skip(4 * count as usize);
                assert_eq!(batch.bytes(), 0);
                assert_eq!(lens_mut(&batch, memory), [0]);
            });
        }
    }

    #[test]
    fn truncation_cuts_the_last_buffers() {
        with_buffers(&[(1000, 4), (1010, 4)], |memory, buffers| {
            let mut batch = buffers.unwrap().batch(memory).unwrap();
            batch.truncate(5);
            let lens = lens(&batch, memory);
            assert_eq!((batch.bytes(), lens), (5, vec![4, 1]));
        });
    }

    #[test]
    fn bad_pointers_are_faults() {
        with_buffers(&[(65530, 7)], |memory, buffers| {
            assert_eq!(buffers.unwrap().batch(memory).unwrap_err(), Errno::Fault);
            assert_eq!(Buffers::new(memory, 0, u32::MAX).unwrap_err(), Errno::Fault);
            assert_eq!(Buffers::new(memory, 2, 1).unwrap_err(), Errno::Fault);
            assert_eq!(memory.load_u32(u32::MAX - 3), Err(Errno::Fault));
            assert_eq!(memory.store_u64(65536 - 4, 0), Err(Errno::Fault));
            assert_eq!(memory.path(65440, 97), Err(Errno::Fault));
        });
    }
}
