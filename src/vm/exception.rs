//! Exceptions and tags (the exception-handling proposal with `exnref`): the objects, and when they go away.
//!
//! What may be here: objects that are thrown, their place in a store, and the collection of those nothing refers to.
//! What may not: how a throw finds its handler. In interpreted frames that is the interpreter's search, in compiled
//! frames the JIT's; between the two, and through host functions, an exception travels as an [`Error`].
//!
//! They are collected when nothing refers to them any more, see [`heap`].

use std::sync::Arc;

use super::context::{VMContext, VMException, VMTag};
use super::heap;
use super::instance::InstanceData;
use super::store::StoreOpaque;
use crate::error::{Error, ErrorKind, ExnRef, MAX_BACKTRACE, Pin, Result};

fn layout(slots: usize) -> std::alloc::Layout {
    std::alloc::Layout::array::<u64>(slots + size_of::<VMException>() / 8).expect("a payload of at most 2000 slots")
}

/// Frees an exception; gives the bytes that it took.
///
/// # Safety
/// The exception must come from [`new`] and not be used again.
pub(crate) unsafe fn free(exception: *mut VMException) -> usize {
    // SAFETY: the caller's promise; the layout is that of its allocation.
    unsafe {
        let layout = layout((*exception).slots);
        std::alloc::dealloc(exception.cast(), layout);
        layout.size()
    }
}

/// Makes an exception of a tag of the running instance, its payload copied from `payload`.
///
/// # Errors
/// [`Resource`](ErrorKind::Resource) if too many are alive.
///
/// # Safety
/// `vmctx` must be live, `tag` in its module's index space, `payload` hold the tag's parameters, on one of the store's
/// stacks. The interpreter must have set `value_top` above its live frames, the payload included: a collection may run.
pub(crate) unsafe fn new(vmctx: *mut VMContext, tag: u32, payload: *const u64) -> Result<*mut VMException> {
    // SAFETY: the caller's promise.
    unsafe {
        let store = &mut *(*vmctx).store.cast::<StoreOpaque>();
        let tag = tag_of(vmctx, tag);
        let slots = (*tag).slots;
        let size = layout(slots).size();
        let most = store.engine.config.max_exception_bytes;
        let is_full = store.heap.exception_bytes() + size > most;
        if is_full || store.heap.is_due(size) {
            heap::collect(store);
            // Otherwise a program whose exceptions nearly reach the limit would collect them again and again.
            if is_full && store.heap.exception_bytes() + size > most - most / 8 {
                return Err(Error::resource(format!("live exceptions take more than {most} bytes")));
            }
        }
        let exception = std::alloc::alloc(layout(slots)).cast::<VMException>();
        if exception.is_null() {
            return Err(Error::resource("no memory for an exception"));
        }
        // Its address may be that of one that is gone.
        store.vm.on_its_way = std::ptr::null_mut();
        exception.write(VMException { tag, slots });
        std::ptr::copy_nonoverlapping(payload, VMException::payload(exception), slots);
        store.heap.add_exception(exception, size);
        Ok(exception)
    }
}

/// Whether an exception is of a tag of a module.
///
/// # Safety
/// A live exception, a live context, a validated index.
pub(crate) unsafe fn is_of_tag(exception: *mut VMException, vmctx: *mut VMContext, tag: u32) -> bool {
    // SAFETY: the caller's promise.
    unsafe { std::ptr::eq((*exception).tag, tag_of(vmctx, tag)) }
}

/// The functions that an exception has left on its way through compiled code, which finds handlers without knowing whether
/// they catch it.
#[derive(Default)]
pub(crate) struct Way {
    /// The error that it was before compiled code threw it on, with the functions that it had left then.
    error: Option<Error>,
    /// Addresses in compiled functions that it has left since, innermost first. There is room for as many as a backtrace has:
    /// they are noted where nothing can be allocated.
    pub pcs: Vec<usize>,
}

/// Forgets the way of an exception: another is thrown.
pub(crate) fn begin_way(store: &mut StoreOpaque) {
    store.vm.on_its_way = std::ptr::null_mut();
    store.way.error = None;
    store.way.pcs.clear();
    store.way.pcs.reserve(MAX_BACKTRACE);
}

/// The exception as an error, with which it travels through Rust frames.
pub(crate) fn into_error(store: &StoreOpaque, exception: *mut VMException) -> Error {
    Error::new(ErrorKind::Exception(pin(store, exception)))
}

/// The exception that an error is, to be thrown on in code of the same store, with the error, which keeps it alive; any other
/// error as it is.
pub(crate) fn of_error(store: &StoreOpaque, error: Error) -> Result<(*mut VMException, Error)> {
    match error.kind() {
        ErrorKind::Exception(exception) if exception.pin().store == store.id => {
            Ok((exception.pin().exception.cast(), error))
        }
        _ => Err(error),
    }
}

/// Leaves an error in the store, for code of it to throw on if it is an exception, and to trap with otherwise.
pub(crate) fn throw_or_raise(store: &mut StoreOpaque, error: Error) {
    match of_error(store, error) {
        Ok((exception, error)) => {
            begin_way(store);
            store.vm.on_its_way = exception;
            store.way.error = Some(error);
            store.vm.thrown = exception;
        }
        Err(error) => store.raise(error),
    }
}

/// The error that was left in the store, by [`throw_or_raise`] or by [`StoreOpaque::raise`].
pub(crate) fn take_error(store: &mut StoreOpaque) -> Error {
    match std::mem::replace(&mut store.vm.thrown, std::ptr::null_mut()) {
        exception if exception.is_null() => store.take_raised(),
        exception if exception == store.vm.on_its_way => {
            store.way.error.take().unwrap_or_else(|| into_error(store, exception))
        }
        exception => into_error(store, exception),
    }
}

/// The slot of a reference that the host holds.
///
/// # Errors
/// [`Usage`](ErrorKind::Usage) if it is of another store.
pub(crate) fn to_slot(store: &StoreOpaque, exception: &ExnRef) -> Result<u64> {
    if exception.pin().store != store.id {
        return Err(Error::usage("exception used with another store than its own"));
    }
    Ok(exception.pin().exception as u64)
}

/// A reference for the host.
pub(crate) fn pin(store: &StoreOpaque, exception: *mut VMException) -> ExnRef {
    let pin = Arc::new(Pin { store: store.id, exception: exception.cast() });
    store.heap.add_pin(Arc::downgrade(&pin));
    ExnRef::new(pin)
}

/// The tag of an index of the running instance's tag index space.
///
/// # Safety
/// A live context and a validated index.
pub(crate) unsafe fn tag_of(vmctx: *mut VMContext, tag: u32) -> *const VMTag {
    // SAFETY: the caller's promise; contexts hold a pointer for each tag.
    unsafe {
        let offset = InstanceData::offsets(vmctx).tag(tag);
        vmctx.byte_offset(offset as isize).cast::<*const VMTag>().read()
    }
}
