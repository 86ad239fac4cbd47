//! The bulk and growing instructions (specification, sections 4.4.6 and 4.4.7), as both engines run them.
//!
//! All take the context of the running instance; indices are validated ones of its module.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::context::{VMContext, VMMemory};
use super::instance::{InstanceData, resolve};
use super::limits::{self, Resource};
use super::store::StoreOpaque;
use crate::error::{Error, ErrorKind, Result};
use crate::error::{MemoryFault, Trap};
use crate::module::{ElementItems, ElementSegment};

/// The instance of a context. Nothing of it changes while this is used: what changes is reached by the pointer.
unsafe fn instance<'a>(vmctx: *mut VMContext) -> &'a InstanceData {
    // SAFETY: contexts that code runs with are live, and the store is exclusively the running code's.
    unsafe { &*(*vmctx).instance }
}

unsafe fn store<'a>(vmctx: *mut VMContext) -> &'a mut StoreOpaque {
    // SAFETY: as above.
    unsafe { &mut *(*vmctx).store.cast::<StoreOpaque>() }
}

/// The memory of an index: base and length.
unsafe fn memory(vmctx: *mut VMContext, index: u32) -> (*mut u8, usize) {
    // SAFETY: as above, with a validated index.
    unsafe {
        let memory = resolve::<VMMemory>(vmctx, instance(vmctx).module.offsets.memory(index));
        ((*memory).base, (*memory).length)
    }
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

/// The error of an access of `size` bytes outside a memory.
///
/// # Safety
/// A live context and an index of its module.
pub(crate) unsafe fn out_of_bounds(vmctx: *mut VMContext, memory: u32, address: u64, size: u64) -> Error {
    // SAFETY: the caller's promise.
    let (_, length) = unsafe { self::memory(vmctx, memory) };
    memory_fault(address, size, length)
}

/// Has the store's limiter asked, whose panics go to the innermost Rust caller of WebAssembly code, as those of host functions
/// do.
unsafe fn grow(store: *mut StoreOpaque, grow: impl FnOnce() -> Result<Option<u64>>) -> Result<u64> {
    match catch_unwind(AssertUnwindSafe(grow)) {
        Ok(grown) => Ok(grown?.unwrap_or(u64::MAX)),
        Err(panic) => {
            // SAFETY: the store of the running code.
            unsafe { (*store).panic = Some(panic) };
            Err(Error::host("a limiter panicked"))
        }
    }
}

/// `memory.grow`: the old size in pages, or `u64::MAX`.
///
/// # Errors
/// What the store's limiter returns.
///
/// # Safety
/// A live context and an index of its module.
pub(crate) unsafe fn memory_grow(vmctx: *mut VMContext, memory: u32, delta: u64) -> Result<u64> {
    // SAFETY: the caller's promise; no reference is held while the limiter is asked.
    unsafe {
        let own = (*vmctx).store.cast::<StoreOpaque>();
        let index = instance(vmctx).memory(memory).index(&*own);
        let growth = (&(*own).memories)[index].growth(delta);
        grow(own, || limits::grow(own, Resource::Memory, growth, |store| store.memories[index].grow(delta)))
    }
}

/// `memory.fill`.
///
/// # Safety
/// A live context and an index of its module.
pub(crate) unsafe fn memory_fill(vmctx: *mut VMContext, index: u32, dst: u64, value: u32, len: u64) -> Result<()> {
    // SAFETY: the caller's promise; the range was checked.
    unsafe {
        let (base, length) = memory(vmctx, index);
        if !within(dst, len, length) {
            return Err(memory_fault(dst, len, length));
        }
        std::ptr::write_bytes(base.add(dst as usize), value as u8, len as usize);
    }
    Ok(())
}

/// `memory.copy`.
///
/// # Safety
/// A live context and indices of its module.
pub(crate) unsafe fn memory_copy(
    vmctx: *mut VMContext,
    dst_memory: u32,
    src_memory: u32,
    dst: u64,
    src: u64,
    len: u64,
) -> Result<()> {
    // SAFETY: the caller's promise; the ranges were checked and may overlap.
    unsafe {
        let (to, to_length) = memory(vmctx, dst_memory);
        let (from, from_length) = memory(vmctx, src_memory);
        if !within(src, len, from_length) {
            return Err(memory_fault(src, len, from_length));
        }
        if !within(dst, len, to_length) {
            return Err(memory_fault(dst, len, to_length));
        }
        std::ptr::copy(from.add(src as usize), to.add(dst as usize), len as usize);
    }
    Ok(())
}

/// `memory.init`; a dropped segment has no bytes.
///
/// # Errors
/// A trap, or [`Resource`](ErrorKind::Resource) if the segment is in a file that can't be read any more.
///
/// # Safety
/// A live context and indices of its module.
pub(crate) unsafe fn memory_init(
    vmctx: *mut VMContext,
    index: u32,
    segment: u32,
    dst: u64,
    src: u32,
    len: u32,
) -> Result<()> {
    // SAFETY: the caller's promise; the ranges were checked.
    unsafe {
        let instance = instance(vmctx);
        let (base, length) = memory(vmctx, index);
        let dropped = instance.dropped_data[segment as usize];
        let range = if dropped { 0..0 } else { instance.module.data[segment as usize].bytes.clone() };
        if !within(src.into(), len.into(), range.len()) || !within(dst, len.into(), length) {
            return Err(memory_fault(dst, len.into(), length));
        }
        let from = range.start + src as usize;
        let target = std::slice::from_raw_parts_mut(base.add(dst as usize), len as usize);
        instance.module.source.copy_data(from, target)
    }
}

/// `data.drop`.
///
/// # Safety
/// A live context and an index of its module.
pub(crate) unsafe fn data_drop(vmctx: *mut VMContext, segment: u32) {
    // SAFETY: the caller's promise.
    unsafe { (&mut (*(*vmctx).instance).dropped_data)[segment as usize] = true };
}

/// `table.grow`: the old size, or `u64::MAX`.
///
/// # Errors
/// What the store's limiter returns.
///
/// # Safety
/// A live context, an index of its module, and a slot of the element type.
pub(crate) unsafe fn table_grow(vmctx: *mut VMContext, table: u32, delta: u64, init: u64) -> Result<u64> {
    // SAFETY: the caller's promise; no reference is held while the limiter is asked.
    unsafe {
        let own = (*vmctx).store.cast::<StoreOpaque>();
        let index = instance(vmctx).table(table).index(&*own);
        let growth = (&(*own).tables)[index].growth(delta);
        grow(own, || limits::grow(own, Resource::Table, growth, |store| store.tables[index].grow(delta, init)))
    }
}

/// `table.fill`.
///
/// # Safety
/// A live context, an index of its module, and a slot of the element type.
pub(crate) unsafe fn table_fill(vmctx: *mut VMContext, table: u32, dst: u64, value: u64, len: u64) -> Result<()> {
    // SAFETY: the caller's promise.
    unsafe {
        let store = store(vmctx);
        let index = instance(vmctx).table(table).index(store);
        let elements = store.tables[index].elements_mut();
        if !within(dst, len, elements.len()) {
            return Err(Trap::TableOutOfBounds.into());
        }
        elements[dst as usize..][..len as usize].fill(value);
    }
    Ok(())
}

/// `table.copy`.
///
/// # Safety
/// A live context and indices of its module.
pub(crate) unsafe fn table_copy(
    vmctx: *mut VMContext,
    dst_table: u32,
    src_table: u32,
    dst: u64,
    src: u64,
    len: u64,
) -> Result<()> {
    // SAFETY: the caller's promise; the ranges were checked and may overlap.
    unsafe {
        let store = store(vmctx);
        let to = instance(vmctx).table(dst_table).index(store);
        let from = instance(vmctx).table(src_table).index(store);
        // Pointers only: both may be one table.
        let (from, from_length) = store.tables[from].elements_ptr();
        let (to, to_length) = store.tables[to].elements_ptr();
        if !within(src, len, from_length) || !within(dst, len, to_length) {
            return Err(Trap::TableOutOfBounds.into());
        }
        std::ptr::copy(from.add(src as usize), to.add(dst as usize), len as usize);
    }
    Ok(())
}

/// Number of elements of a segment.
pub(crate) fn element_count(segment: &ElementSegment) -> u32 {
    match &segment.items {
        ElementItems::Funcs(funcs) => funcs.len() as u32,
        ElementItems::Exprs(exprs) => exprs.len() as u32,
    }
}

/// `table.init`; a dropped segment has no elements.
///
/// # Safety
/// A live context and indices of its module.
pub(crate) unsafe fn table_init(
    vmctx: *mut VMContext,
    table: u32,
    segment: u32,
    dst: u64,
    src: u32,
    len: u32,
) -> Result<()> {
    // SAFETY: the caller's promise.
    unsafe {
        let (store, instance) = (store(vmctx), instance(vmctx));
        let module = instance.module.clone();
        let items = &module.elements[segment as usize];
        let count = if instance.dropped_elements[segment as usize] { 0 } else { element_count(items) as usize };
        let index = instance.table(table).index(store);
        let elements = store.tables[index].elements_mut();
        if !within(src.into(), len.into(), count) || !within(dst, len.into(), elements.len()) {
            return Err(Trap::TableOutOfBounds.into());
        }
        let source = src as usize..src as usize + len as usize;
        let target = &mut elements[dst as usize..][..len as usize];
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
/// A live context and an index of its module.
pub(crate) unsafe fn elem_drop(vmctx: *mut VMContext, segment: u32) {
    // SAFETY: the caller's promise.
    unsafe { (&mut (*(*vmctx).instance).dropped_elements)[segment as usize] = true };
}
