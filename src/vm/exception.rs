//! Exceptions (specification 3.0, "Exception Instances"): allocation, and propagation between engines and host functions.
//!
//! What may be here: exception objects and the pending exception of a store.
//! What may not: how a throw finds its handler. In interpreted frames the interpreter searches, in compiled frames the JIT.
//! From one engine to the other, and through host functions, an exception propagates as an [`Error`].
//!
//! An exception is freed when nothing refers to it any more; see [`heap`].

use std::sync::Arc;

use super::context::{VMContext, VMException, VMTag};
use super::instance::InstanceData;
use super::store::StoreOpaque;
use super::{heap, limits};
use crate::error::{Error, ErrorKind, ExnPin, ExnRef, MAX_BACKTRACE, Result};

fn layout(slots: usize) -> std::alloc::Layout {
    std::alloc::Layout::array::<u64>(slots + size_of::<VMException>() / 8).expect("a payload of at most 2000 slots")
}

/// Frees an exception and returns its size in bytes.
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

/// Allocates an exception with a tag of the running instance and a copy of `payload`.
///
/// # Errors
/// [`Resource`](ErrorKind::Resource) if live exceptions would take more bytes than `Config::max_exception_bytes`, or the store's
/// budget or limiter has no room for another; or what the limiter returns.
///
/// # Safety
/// `vmctx` must be live and `tag` an index of its module's tag index space. `payload` must point to the tag's parameters,
/// on the value stack or the native stack. `value_top` must be above all slots in use, the payload's included: a collection
/// may run, and scans the value stack up to there.
pub(crate) unsafe fn new(vmctx: *mut VMContext, tag: u32, payload: *const u64) -> Result<*mut VMException> {
    // SAFETY: context, tag and payload are valid by the caller's promise. No reference to the store is held elsewhere while
    // its code runs.
    unsafe {
        let store = (*vmctx).store.cast::<StoreOpaque>();
        let tag = instance_tag(vmctx, tag);
        make_room(store, (*tag).slots)?;
        allocate(&mut *store, tag, payload)
    }
}

/// Makes room for an exception with a payload of so many slots; runs a collection if one is due.
///
/// # Errors
/// As for [`new`].
///
/// # Safety
/// `store` must be the own pointer of a store to which nobody holds a reference, and `value_top` above all slots in use: a
/// collection may run, and scans the value stack up to there.
pub(crate) unsafe fn make_room(own: *mut StoreOpaque, slots: usize) -> Result<()> {
    // SAFETY: the caller's promise.
    unsafe {
        let store = &mut *own;
        let size = layout(slots).size();
        let most = store.engine.config.max_exception_bytes;
        let is_full = store.heap.exception_bytes() + size > most;
        let counted = size + heap::EXCEPTION_OVERHEAD;
        let is_worth_collecting = store.heap.is_worth_collecting();
        let is_short = !store.heap_has_room(counted) && is_worth_collecting;
        if is_full || is_short || store.heap.is_due(size) {
            heap::collect(store);
            // An eighth must be free after the collection, or a program near the limit would collect at every throw.
            if is_full && store.heap.exception_bytes() + size > most - most / 8 {
                return Err(Error::resource(format!("live exceptions take more than {most} bytes")));
            }
        }
        if !store.heap_has_room(counted) {
            let admitted = limits::catching(own, || (*own).admit_to_heap(counted));
            if let Err(error) = admitted {
                // What has survived the last collection may be garbage now. As above, an eighth must be free afterwards.
                if !is_worth_collecting && (*own).panic.is_none() {
                    heap::collect(&mut *own);
                }
                let spare = (*own).heap.bytes() / 8;
                if is_worth_collecting || (*own).panic.is_some() || !(*own).heap_has_room(counted + spare) {
                    return Err((*own).note_refusal(error));
                }
            }
        }
        Ok(())
    }
}

/// Allocates an exception, for which [`make_room`] was called. No collection runs.
///
/// # Errors
/// [`Resource`](ErrorKind::Resource) if the system has no memory.
///
/// # Safety
/// `tag` must be one of the store, and `payload` must point to slots of its parameters.
pub(crate) unsafe fn allocate(
    store: &mut StoreOpaque,
    tag: *const VMTag,
    payload: *const u64,
) -> Result<*mut VMException> {
    // SAFETY: tag and payload are valid by the caller's promise. The allocation has room for the header and the payload.
    unsafe {
        let slots = (*tag).slots;
        let layout = layout(slots);
        let exception = std::alloc::alloc(layout).cast::<VMException>();
        if exception.is_null() {
            return Err(Error::resource("the system refuses the memory for an exception"));
        }
        // The new exception may have the address of a freed one whose propagation is still recorded.
        store.vm.in_flight = std::ptr::null_mut();
        exception.write(VMException { tag, slots });
        std::ptr::copy_nonoverlapping(payload, VMException::payload(exception), slots);
        store.heap.add_exception(exception, layout.size());
        store.note_peaks();
        Ok(exception)
    }
}

/// Whether an exception has the tag of index `tag` of the context's module.
///
/// # Safety
/// `exception` and `vmctx` must be live, and `tag` an index of the module's tag index space.
pub(crate) unsafe fn has_tag(exception: *mut VMException, vmctx: *mut VMContext, tag: u32) -> bool {
    // SAFETY: the exception and the context are live, and the tag is its module's, by the caller's promise.
    unsafe { std::ptr::eq((*exception).tag, instance_tag(vmctx, tag)) }
}

/// The propagation of the exception in flight: the backtrace so far. Compiled code must record it because a handler that it
/// finds may turn out not to catch the exception; the handler then resumes the throw.
#[derive(Default)]
pub(crate) struct Propagation {
    /// The error that carried the exception into compiled code, with the backtrace up to there; `None` if compiled code threw
    /// the exception.
    error: Option<Error>,
    /// Program counters in the compiled functions that the exception has left since, innermost first. The capacity is that
    /// of a whole backtrace, because unwinding must not allocate.
    pub pcs: Vec<usize>,
}

/// Clears the recorded propagation: an exception is about to be thrown anew.
pub(crate) fn begin_propagation(store: &mut StoreOpaque) {
    store.vm.in_flight = std::ptr::null_mut();
    store.propagation.error = None;
    store.propagation.pcs.clear();
    store.propagation.pcs.reserve(MAX_BACKTRACE);
}

/// Wraps an exception in an error, the form in which it propagates through Rust frames.
pub(crate) fn into_error(store: &StoreOpaque, exception: *mut VMException) -> Error {
    Error::new(ErrorKind::Exception(pin(store, exception)))
}

/// The exception that an error wraps, for code of the same store to throw, together with the error, which keeps the
/// exception alive.
///
/// # Errors
/// The error itself, if it wraps no exception, or one of another store.
pub(crate) fn from_error(store: &StoreOpaque, error: Error) -> Result<(*mut VMException, Error)> {
    match error.kind() {
        ErrorKind::Exception(exception) if exception.pin().store == store.id => {
            Ok((exception.pin().exception.cast(), error))
        }
        _ => Err(error),
    }
}

/// Makes an error the store's pending one: code of the store throws it if it wraps an exception, and traps with it otherwise.
pub(crate) fn throw_or_raise(store: &mut StoreOpaque, error: Error) {
    match from_error(store, error) {
        Ok((exception, error)) => {
            begin_propagation(store);
            store.vm.in_flight = exception;
            store.propagation.error = Some(error);
            store.vm.thrown = exception;
        }
        Err(error) => store.raise(error),
    }
}

/// Takes the store's pending error, as [`throw_or_raise`] or [`StoreOpaque::raise`] has set it.
pub(crate) fn take_error(store: &mut StoreOpaque) -> Error {
    match std::mem::replace(&mut store.vm.thrown, std::ptr::null_mut()) {
        exception if exception.is_null() => store.take_raised(),
        exception if exception == store.vm.in_flight => {
            store.propagation.error.take().unwrap_or_else(|| into_error(store, exception))
        }
        exception => into_error(store, exception),
    }
}

/// The `exnref` slot for a reference that the host holds.
///
/// # Errors
/// [`Usage`](ErrorKind::Usage) if the exception belongs to another store.
pub(crate) fn to_slot(store: &StoreOpaque, exception: &ExnRef) -> Result<u64> {
    if exception.pin().store != store.id {
        return Err(Error::usage("exception used with another store than its own"));
    }
    Ok(exception.pin().exception as u64)
}

/// A reference for the host, which keeps the exception alive.
pub(crate) fn pin(store: &StoreOpaque, exception: *mut VMException) -> ExnRef {
    let pin = Arc::new(ExnPin { store: store.id, exception: exception.cast() });
    store.heap.add_pin(Arc::downgrade(&pin));
    ExnRef::from_pin(pin)
}

/// The tag of index `tag` of the context's module.
///
/// # Safety
/// `vmctx` must be live and `tag` an index of its module's tag index space.
pub(crate) unsafe fn instance_tag(vmctx: *mut VMContext, tag: u32) -> *const VMTag {
    // SAFETY: the context is live by the caller's promise, and has a pointer for each tag of its module.
    unsafe {
        let offset = InstanceData::offsets(vmctx).tag(tag);
        vmctx.byte_offset(offset as isize).cast::<*const VMTag>().read()
    }
}
