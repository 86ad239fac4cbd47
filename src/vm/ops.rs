//! The instructions that grow, fill, copy, initialise and drop (specification, "Table Instructions" and "Memory
//! Instructions"), as both engines run them.
//!
//! # Safety
//! For all functions here: the context must be that of the running code, so that it is live and nobody else holds a
//! reference to its store; and indices must be validated ones of its module.

use std::ops::Range;
use std::sync::Arc;

use super::activation;
use super::context::{VMContext, VMMemory};
use super::fuel;
use super::instance::{InstanceData, resolve};
use super::interrupt;
use super::limits::{self, GrowthRequest, LimitedResource};
use super::racy;
use super::shared::{Expected, SharedMemory};
use super::store::StoreOpaque;
use crate::error::{Error, ErrorKind, Result};
use crate::error::{MemoryFault, Trap};
use crate::module::fuel::{of_bytes, of_elements};
use crate::module::{ElementItems, ElementSegment};

/// The instance of a context.
///
/// # Safety
/// The context must be live, and the instance must not be written to (`data.drop`, `elem.drop`) while the reference is used.
pub(super) unsafe fn instance<'a>(vmctx: *mut VMContext) -> &'a InstanceData {
    // SAFETY: the context is live by the caller's promise, so its instance is.
    unsafe { &*(*vmctx).instance }
}

/// The store of a context.
///
/// # Safety
/// The context must be live, and there must be no other reference to the store while this one is used.
unsafe fn store<'a>(vmctx: *mut VMContext) -> &'a mut StoreOpaque {
    // SAFETY: the context is live by the caller's promise, so its store is, of which `VMStore` is the first field.
    unsafe { &mut *(*vmctx).store.cast::<StoreOpaque>() }
}

/// Base and length of the memory at an index of the memory index space.
///
/// # Safety
/// The context must be live, and `index` one of its module.
unsafe fn memory(vmctx: *mut VMContext, index: u32) -> (*mut u8, usize) {
    // SAFETY: context and index are valid by the caller's promise, and the offsets are those of the context's module.
    unsafe {
        let memory = resolve::<VMMemory>(vmctx, instance(vmctx).module.offsets.memory(index));
        ((*memory).base, (*memory).length())
    }
}

/// Whether the memory at an index is shared, so that no reference may be made to its bytes.
///
/// # Safety
/// As for `memory`.
unsafe fn is_shared(vmctx: *mut VMContext, index: u32) -> bool {
    // SAFETY: context and index are valid by the caller's promise.
    unsafe { instance(vmctx).module.memories[index as usize].is_shared() }
}

/// Whether `len` items from `start` lie within `length`.
fn within(start: u64, len: u64, length: usize) -> bool {
    start.checked_add(len).is_some_and(|end| end <= length as u64)
}

#[cold]
fn memory_fault(address: u64, size: u64, length: usize) -> Error {
    Error::new(ErrorKind::Trap {
        trap: Trap::MemoryOutOfBounds,
        fault: Some(MemoryFault { address, size, length: length as u64 }),
    })
}

/// The trap for an access of `size` bytes at `address`, which is out of bounds.
///
/// # Safety
/// See the module's documentation.
pub(crate) unsafe fn out_of_bounds(vmctx: *mut VMContext, memory: u32, address: u64, size: u64) -> Error {
    // SAFETY: context and index are valid by the caller's promise.
    let (_, length) = unsafe { self::memory(vmctx, memory) };
    memory_fault(address, size, length)
}

/// Who has a segment copied, and so whether that consumes fuel.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Payer {
    /// An instruction.
    Guest,
    /// Instantiation, which is free.
    Host,
}

/// Takes the price of what the running code is about to do.
///
/// # Errors
/// Those of [`fuel::pay`].
///
/// # Safety
/// The context must be live, and there must be no reference to its store.
pub(super) unsafe fn pay(vmctx: *mut VMContext, price: u64) -> Result<()> {
    // SAFETY: the context is live by the caller's promise, so its store is, to which there is no reference.
    unsafe { fuel::pay((*vmctx).store.cast(), price) }
}

/// How much a memory or table would grow by; nothing if the maximum of its type forbids it.
fn growth_of(growth: Option<GrowthRequest>) -> u64 {
    let allowed = growth.filter(|growth| growth.maximum.is_none_or(|maximum| growth.desired <= maximum));
    allowed.map_or(0, |growth| (growth.desired - growth.current) as u64)
}

/// Takes the price, and has `grow` grow a memory or table of running code as `request` says, if limiter and budget allow that;
/// gives the price back if nothing has grown.
///
/// # Safety
/// The store must be live, and nobody hold a reference to it; its `value_top` must be above all slots in use.
unsafe fn grow(
    store: *mut StoreOpaque,
    resource: LimitedResource,
    unit_price: fn(u64) -> u64,
    request: impl Fn(&StoreOpaque) -> Option<GrowthRequest>,
    grow: impl FnMut(&mut StoreOpaque, GrowthRequest) -> Option<u64>,
) -> Result<u64> {
    // SAFETY: the caller's promise.
    let grown = unsafe {
        let growth = request(&*store);
        let price = unit_price(growth_of(growth));
        fuel::pay(store, price)?;
        limits::make_room(&mut *store, resource, growth);
        let grown = limits::catching(store, || limits::grow(store, resource, request, grow));
        if !matches!(grown, Ok(Some(_))) {
            fuel::give_back(store, price);
        }
        grown?
    };
    Ok(grown.unwrap_or(u64::MAX))
}

/// `memory.grow` by `delta` pages: returns the old size in pages, or `u64::MAX` if the memory can't grow.
///
/// # Errors
/// What the store's limiter returns.
///
/// # Safety
/// See the module's documentation; the store's `value_top` must be above all slots in use.
pub(crate) unsafe fn memory_grow(vmctx: *mut VMContext, memory: u32, delta: u64) -> Result<u64> {
    // SAFETY: context and index are valid by the caller's promise. No reference is held while the limiter runs, which may
    // access the store's data.
    unsafe {
        let own = (*vmctx).store.cast::<StoreOpaque>();
        let memory = instance(vmctx).memory(memory);
        let request = |store: &StoreOpaque| store.memories[memory.index(store)].growth(delta);
        let grown = |store: &mut StoreOpaque, request| store.grow_memory(memory, delta, request);
        grow(own, LimitedResource::Memory, of_bytes, request, grown)
    }
}

/// `memory.fill`: sets `len` bytes from `dst` to the low byte of `value`.
///
/// # Errors
/// A trap if the range is out of bounds.
///
/// # Safety
/// See the module's documentation.
pub(crate) unsafe fn memory_fill(vmctx: *mut VMContext, index: u32, dst: u64, value: u32, len: u64) -> Result<()> {
    // SAFETY: context and index are valid by the caller's promise; the range is in bounds, as checked before the write.
    unsafe {
        let (_, length) = memory(vmctx, index);
        if !within(dst, len, length) {
            return Err(memory_fault(dst, len, length));
        }
        pay(vmctx, of_bytes(len))?;
        let is_shared = is_shared(vmctx, index);
        in_pieces(vmctx, len as usize, |range| {
            let (base, _) = memory(vmctx, index);
            let to = base.add(dst as usize + range.start);
            match is_shared {
                true => racy::fill(to, value as u8, range.len()),
                false => std::ptr::write_bytes(to, value as u8, range.len()),
            }
            Ok(())
        })
    }
}

/// Bytes that are filled, copied or initialised, some milliseconds long, without a look for requests.
pub(crate) const PIECE: usize = 16 << 20;

/// Bytes that go into a shared memory at once that don't come from memory.
const BUFFER: usize = 64 << 10;

/// Calls `run` with the pieces of `len` bytes, and does between them what was requested of the running code.
///
/// # Errors
/// As for [`interrupt::poll`], and those of `run`.
///
/// # Safety
/// See the module's documentation; if there are several pieces, the store's `value_top` must be above all slots in use.
#[inline]
pub(super) unsafe fn in_pieces(
    vmctx: *mut VMContext,
    len: usize,
    run: impl FnMut(Range<usize>) -> Result<()>,
) -> Result<()> {
    // SAFETY: the caller's promise.
    unsafe { in_pieces_of(PIECE, vmctx, len, run) }
}

/// As [`in_pieces`], with pieces of so many units.
///
/// # Errors
/// As [`in_pieces`].
///
/// # Safety
/// As for [`in_pieces`].
#[inline]
pub(super) unsafe fn in_pieces_of(
    piece: usize,
    vmctx: *mut VMContext,
    len: usize,
    mut run: impl FnMut(Range<usize>) -> Result<()>,
) -> Result<()> {
    let mut start = 0usize;
    loop {
        let end = len.min(start.saturating_add(piece));
        run(start..end)?;
        if end == len {
            return Ok(());
        }
        start = end;
        // SAFETY: the caller's promise.
        unsafe { look_for_requests(vmctx)? };
    }
}

/// Does what was requested of the running code, between two pieces of work.
///
/// # Errors
/// As for [`interrupt::poll`].
///
/// # Safety
/// See the module's documentation; the store's `value_top` must be above all slots in use.
pub(super) unsafe fn look_for_requests(vmctx: *mut VMContext) -> Result<()> {
    // SAFETY: the context is live and nobody refers to its store, by the caller's promise.
    unsafe {
        if !interrupt::is_requested((*vmctx).interrupt) {
            return Ok(());
        }
        // Where native code called this from is not known. If the host instantiates a module, it is known where the
        // code was left that has called the host.
        let exit_fp = std::mem::replace(&mut (*(*vmctx).store).exit_fp, 0);
        let polled = interrupt::poll((*vmctx).store.cast());
        (*(*vmctx).store).exit_fp = exit_fp;
        polled
    }
}

/// `memory.copy`: copies `len` bytes; the ranges may overlap.
///
/// # Errors
/// A trap if a range is out of bounds.
///
/// # Safety
/// See the module's documentation.
pub(crate) unsafe fn memory_copy(
    vmctx: *mut VMContext,
    dst_memory: u32,
    src_memory: u32,
    dst: u64,
    src: u64,
    len: u64,
) -> Result<()> {
    // SAFETY: context and indices are valid by the caller's promise; both ranges are in bounds, as checked before the copy,
    // which allows them to overlap.
    unsafe {
        let (to, to_length) = memory(vmctx, dst_memory);
        let (from, from_length) = memory(vmctx, src_memory);
        if !within(src, len, from_length) {
            return Err(memory_fault(src, len, from_length));
        }
        if !within(dst, len, to_length) {
            return Err(memory_fault(dst, len, to_length));
        }
        pay(vmctx, of_bytes(len))?;
        let (dst, src, len) = (dst as usize, src as usize, len as usize);
        // Where the target begins within the source, the last bytes are copied first.
        let is_upward = from == to && dst > src;
        let is_shared = is_shared(vmctx, dst_memory) || is_shared(vmctx, src_memory);
        in_pieces(vmctx, len, |range| {
            let at = if is_upward { len - range.end } else { range.start };
            let ((to, _), (from, _)) = (memory(vmctx, dst_memory), memory(vmctx, src_memory));
            match is_shared {
                true => racy::copy(from.add(src + at), to.add(dst + at), range.len()),
                false => std::ptr::copy(from.add(src + at), to.add(dst + at), range.len()),
            }
            Ok(())
        })
    }
}

/// `memory.init`: copies `len` bytes of a data segment; a dropped segment has no bytes.
///
/// # Errors
/// A trap if a range is out of bounds, or [`Resource`](ErrorKind::Resource) if the segment is in a file that can't be read
/// any more.
///
/// # Safety
/// See the module's documentation.
pub(crate) unsafe fn memory_init(
    vmctx: *mut VMContext,
    index: u32,
    segment: u32,
    dst: u64,
    src: u32,
    len: u32,
    payer: Payer,
) -> Result<()> {
    // SAFETY: context and indices are valid by the caller's promise; both ranges are in bounds, as checked before the copy.
    // Nobody else refers to the bytes of a memory that is not shared while code of the store runs.
    unsafe {
        let (_, length) = memory(vmctx, index);
        let bytes = {
            let instance = instance(vmctx);
            let dropped = instance.dropped_data[segment as usize];
            if dropped { 0..0 } else { instance.module.data[segment as usize].bytes.clone() }
        };
        if !within(src.into(), len.into(), bytes.len()) || !within(dst, len.into(), length) {
            return Err(memory_fault(dst, len.into(), length));
        }
        if payer == Payer::Guest {
            pay(vmctx, of_bytes(len.into()))?;
        }
        let from = bytes.start + src as usize;
        if is_shared(vmctx, index) {
            // By way of a buffer, because the bytes may come from a file.
            let mut buffer = vec![0; BUFFER.min(len as usize)];
            return in_pieces_of(BUFFER, vmctx, len as usize, |range| {
                let (base, _) = memory(vmctx, index);
                let piece = &mut buffer[..range.len()];
                instance(vmctx).module.source.copy_data(from + range.start, piece)?;
                racy::copy_in(piece, base.add(dst as usize + range.start));
                Ok(())
            });
        }
        in_pieces(vmctx, len as usize, |range| {
            let (base, _) = memory(vmctx, index);
            let target = std::slice::from_raw_parts_mut(base.add(dst as usize + range.start), range.len());
            instance(vmctx).module.source.copy_data(from + range.start, target)
        })
    }
}

/// The address of what `memory.atomic.notify` or `wait` is about, and the shared memory that it is in; `None` if the memory is not
/// shared.
///
/// # Errors
/// [`Trap::HeapMisaligned`] if the address is not a multiple of `size`; [`Trap::MemoryOutOfBounds`].
///
/// # Safety
/// See the module's documentation.
unsafe fn waiting_place(
    vmctx: *mut VMContext,
    memory: u32,
    (index, offset): (u64, u64),
    size: u64,
) -> Result<(u64, Option<Arc<SharedMemory>>)> {
    // Where the sum wraps, it is out of bounds; its low bits are right.
    if !index.wrapping_add(offset).is_multiple_of(size) {
        return Err(Trap::HeapMisaligned.into());
    }
    let address = index.saturating_add(offset);
    // SAFETY: context and index are valid by the caller's promise.
    unsafe {
        let (_, length) = self::memory(vmctx, memory);
        if !within(address, size, length) {
            return Err(memory_fault(address, size, length));
        }
        let memory = instance(vmctx).memory(memory);
        let store = store(vmctx);
        Ok((address, store.memories[memory.index(store)].as_shared().cloned()))
    }
}

/// `memory.atomic.notify` at the sum of index and offset: how many were woken.
///
/// # Errors
/// [`Trap::HeapMisaligned`] or [`Trap::MemoryOutOfBounds`].
///
/// # Safety
/// See the module's documentation.
pub(crate) unsafe fn atomic_notify(vmctx: *mut VMContext, memory: u32, place: (u64, u64), count: u32) -> Result<u32> {
    // SAFETY: the caller's promise.
    let (address, memory) = unsafe { waiting_place(vmctx, memory, place, 4)? };
    // On a memory that is not shared nobody waits.
    memory.map_or(Ok(0), |memory| memory.notify(address, count))
}

/// `memory.atomic.wait32` and `memory.atomic.wait64` at the sum of index and offset: the number that says how the wait ended.
///
/// # Errors
/// [`Trap::HeapMisaligned`], [`Trap::MemoryOutOfBounds`], or [`Trap::AtomicWaitNonSharedMemory`]; those of [`interrupt::poll`].
///
/// # Safety
/// See the module's documentation; the store's `value_top` must be above all slots in use, and it must be known where the code was
/// left.
pub(crate) unsafe fn atomic_wait(
    vmctx: *mut VMContext,
    memory: u32,
    place: (u64, u64),
    expected: Expected,
    nanoseconds: i64,
) -> Result<u32> {
    // SAFETY: the caller's promise.
    unsafe {
        let (address, memory) = waiting_place(vmctx, memory, place, expected.size())?;
        let memory = memory.ok_or(Trap::AtomicWaitNonSharedMemory)?;
        let store = (*vmctx).store.cast();
        let waited = memory.wait_in(store, address, expected, nanoseconds);
        // As after a host function.
        activation::set_current_anew((*store).activation);
        waited.map(|waited| waited as u32)
    }
}

/// `data.drop`.
///
/// # Safety
/// See the module's documentation.
pub(crate) unsafe fn data_drop(vmctx: *mut VMContext, segment: u32) {
    // SAFETY: the context is live by the caller's promise, and nobody else refers to its instance.
    unsafe { (&mut (*(*vmctx).instance).dropped_data)[segment as usize] = true };
}

/// `table.grow` by `delta` elements of `init`: returns the old size, or `u64::MAX` if the table can't grow.
///
/// # Errors
/// What the store's limiter returns.
///
/// # Safety
/// See the module's documentation; `init` must be a slot of the element type, and the store's `value_top` above all slots in
/// use.
pub(crate) unsafe fn table_grow(vmctx: *mut VMContext, table: u32, delta: u64, init: u64) -> Result<u64> {
    // SAFETY: context and index are valid by the caller's promise. No reference is held while the limiter runs, which may
    // access the store's data.
    unsafe {
        let own = (*vmctx).store.cast::<StoreOpaque>();
        let index = instance(vmctx).table(table).index(&*own);
        let request = |store: &StoreOpaque| store.tables[index].growth(delta);
        let grown = |store: &mut StoreOpaque, _| store.tables[index].grow(delta, init);
        grow(own, LimitedResource::Table, of_elements, request, grown)
    }
}

/// `table.fill`: sets `len` elements from `dst` to `value`.
///
/// # Errors
/// A trap if the range is out of bounds.
///
/// # Safety
/// See the module's documentation; `value` must be a slot of the element type.
pub(crate) unsafe fn table_fill(vmctx: *mut VMContext, table: u32, dst: u64, value: u64, len: u64) -> Result<()> {
    // SAFETY: context and index are valid by the caller's promise.
    unsafe {
        let index = instance(vmctx).table(table).index(store(vmctx));
        if !within(dst, len, store(vmctx).tables[index].elements().len()) {
            return Err(Trap::TableOutOfBounds.into());
        }
        pay(vmctx, of_elements(len))?;
        store(vmctx).tables[index].elements_mut()[dst as usize..][..len as usize].fill(value);
    }
    Ok(())
}

/// `table.copy`: copies `len` elements; the ranges may overlap.
///
/// # Errors
/// A trap if a range is out of bounds.
///
/// # Safety
/// See the module's documentation.
pub(crate) unsafe fn table_copy(
    vmctx: *mut VMContext,
    dst_table: u32,
    src_table: u32,
    dst: u64,
    src: u64,
    len: u64,
) -> Result<()> {
    // SAFETY: context and indices are valid by the caller's promise; both ranges are in bounds, as checked before the copy,
    // which allows them to overlap.
    unsafe {
        let store = store(vmctx);
        let to = instance(vmctx).table(dst_table).index(store);
        let from = instance(vmctx).table(src_table).index(store);
        // Pointers, not slices: both may be the same table.
        let (from, from_length) = store.tables[from].elements_ptr();
        let (to, to_length) = store.tables[to].elements_ptr();
        if !within(src, len, from_length) || !within(dst, len, to_length) {
            return Err(Trap::TableOutOfBounds.into());
        }
        pay(vmctx, of_elements(len))?;
        std::ptr::copy(from.add(src as usize), to.add(dst as usize), len as usize);
    }
    Ok(())
}

/// Number of elements of an element segment.
pub(crate) fn element_count(segment: &ElementSegment) -> u32 {
    match &segment.items {
        ElementItems::Funcs(funcs) => funcs.len() as u32,
        ElementItems::Exprs(exprs) => exprs.len() as u32,
    }
}

/// `table.init`: copies `len` elements of an element segment; a dropped segment has no elements.
///
/// # Errors
/// A trap if a range is out of bounds.
///
/// # Safety
/// See the module's documentation.
pub(crate) unsafe fn table_init(
    vmctx: *mut VMContext,
    table: u32,
    segment: u32,
    dst: u64,
    src: u32,
    len: u32,
    payer: Payer,
) -> Result<()> {
    // SAFETY: context and indices are valid by the caller's promise.
    unsafe {
        let instance = instance(vmctx);
        let module = instance.module.clone();
        let items = &module.elements[segment as usize];
        let count = if instance.dropped_elements[segment as usize] { 0 } else { element_count(items) as usize };
        let index = instance.table(table).index(store(vmctx));
        let length = store(vmctx).tables[index].elements().len();
        if !within(src.into(), len.into(), count) || !within(dst, len.into(), length) {
            return Err(Trap::TableOutOfBounds.into());
        }
        if payer == Payer::Guest {
            pay(vmctx, of_elements(len.into()))?;
        }
        let source = src as usize..src as usize + len as usize;
        let target = &mut store(vmctx).tables[index].elements_mut()[dst as usize..][..len as usize];
        match (&items.items, &instance.element_values[segment as usize]) {
            (ElementItems::Funcs(funcs), _) => {
                for (slot, func) in target.iter_mut().zip(&funcs[source]) {
                    *slot = super::instance::func_ref(vmctx, *func) as u64;
                }
            }
            (ElementItems::Exprs(_), Some(values)) => target.copy_from_slice(&values[source]),
            (ElementItems::Exprs(_), None) => unreachable!("expressions were evaluated at instantiation"),
        }
    }
    Ok(())
}

/// `elem.drop`.
///
/// # Safety
/// See the module's documentation.
pub(crate) unsafe fn elem_drop(vmctx: *mut VMContext, segment: u32) {
    // SAFETY: the context is live by the caller's promise, and nobody else refers to its instance.
    unsafe { (&mut (*(*vmctx).instance).dropped_elements)[segment as usize] = true };
}
