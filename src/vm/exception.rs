//! Exceptions (specification 3.0, "Exception Instances"): objects of the heap, and their propagation between engines and host
//! functions.
//!
//! What may be here: making exceptions, reading them, and the pending exception of a store.
//! What may not: how a throw finds its handler. In interpreted frames the interpreter searches, in compiled frames the JIT.
//! From one engine to the other, and through host functions, an exception propagates as an [`Error`].
//!
//! An exception has the descriptor of its tag, and its payload in slots. It is freed when nothing refers to it any more; see
//! [`heap`].

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::context::{VMContext, VMFuncRef, VMStore, VMTag};
use super::gc::functions::{func_of_type, func_to_id};
use super::gc::layout::{DESCRIPTOR, PAYLOAD, exception_size};
use super::gc::{self, access};
use super::heap;
use super::instance::InstanceData;
use super::store::StoreOpaque;
use crate::error::{Error, ErrorKind, ExnPin, ExnRef, MAX_BACKTRACE, Result, Trap};
use crate::module::types::RefType;

/// Makes an exception with a tag of the running instance and a copy of `payload`.
///
/// # Errors
/// As [`allocate`].
///
/// # Safety
/// `vmctx` must be live and `tag` an index of its module's tag index space. `payload` must point to the tag's parameters,
/// on the value stack or the native stack. `value_top` must be above all slots in use, the payload's included: a collection
/// may run, and scans the value stack up to there.
pub(crate) unsafe fn new(vmctx: *mut VMContext, tag: u32, payload: *const u64) -> Result<u32> {
    // SAFETY: context, tag and payload are valid by the caller's promise. No reference to the store is held elsewhere while
    // its code runs.
    unsafe { allocate((*vmctx).store.cast(), instance_tag(vmctx, tag), payload) }
}

/// Makes an exception with a copy of `payload`; a collection may run.
///
/// # Errors
/// [`Resource`](ErrorKind::Resource) if live exceptions would take more bytes than `Config::max_exception_bytes`, the store's
/// budget or limiter has no room for another, or the system no memory; or what the limiter returns.
///
/// # Safety
/// `store` must be the own pointer of a store to which nobody holds a reference, and `tag` one of it. `payload` must point to
/// slots of its parameters, where a collection looks, and `value_top` be above all slots in use.
pub(crate) unsafe fn allocate(store: *mut StoreOpaque, tag: *const VMTag, payload: *const u64) -> Result<u32> {
    // SAFETY: the caller's promise; the object has room for the payload.
    unsafe {
        let (slots, functions) = ((*tag).slots, &(*tag).functions);
        let size = exception_size(slots);
        let most = (&*store).engine.config.max_exception_bytes;
        if (*store).gc.exception_bytes() + size > most {
            heap::collect(&mut *store);
            // An eighth must be free after the collection, or a program near the limit would collect at every throw.
            if (*store).gc.exception_bytes() + size > most - most / 8 {
                return Err(Error::resource(format!("live exceptions take more than {most} bytes")));
            }
        }
        let descriptor = gc::of_tag(store, tag)?;
        for (slot, _) in functions {
            // What can fail comes first: all have a number below.
            func_to_id(store, *payload.add(*slot as usize) as usize as *mut VMFuncRef)?;
        }
        let exception = gc::alloc(store, descriptor, 0, size as u64)?;
        (*store).gc.count_exception(size);
        // The new exception may be where one was whose propagation is still recorded.
        (*store).vm.in_flight = 0;
        let vm = store.cast::<VMStore>();
        for slot in 0..slots {
            access::write(vm, exception + PAYLOAD + 8 * slot as u32, *payload.add(slot));
        }
        for (slot, _) in functions {
            let id = func_to_id(store, *payload.add(*slot as usize) as usize as *mut VMFuncRef)?;
            access::write(vm, exception + PAYLOAD + 8 * slot, u64::from(id));
        }
        Ok(exception)
    }
}

/// The tag of an exception.
///
/// # Errors
/// [`Trap::CastFailure`] if there is none: a fault has overwritten it.
///
/// # Safety
/// The store must be live, and `exception` a reference to an exception of it that the caller keeps.
pub(crate) unsafe fn tag(store: &StoreOpaque, exception: u32) -> Result<&VMTag> {
    // SAFETY: the caller's promise.
    let descriptor = unsafe { access::read::<u32>(&raw const store.vm, exception.wrapping_add(DESCRIPTOR)) };
    // SAFETY: the store is live by the caller's promise, and has a heap, as there is an exception.
    let tag = unsafe { store.gc.tag(&raw const store.vm, descriptor) };
    tag.and_then(|tag| store.tags.get(tag)).map(|tag| &**tag).ok_or_else(|| Trap::CastFailure.into())
}

/// Copies the payload of an exception to slots.
///
/// # Errors
/// [`Trap::CastFailure`] if something is where a function must be: a fault has overwritten it.
///
/// # Safety
/// The store must be live, `tag` that of `exception`, and `to` have room for the slots of its parameters.
pub(crate) unsafe fn read_payload(store: *const StoreOpaque, exception: u32, tag: &VMTag, to: *mut u64) -> Result<()> {
    // SAFETY: the caller's promise.
    unsafe {
        for slot in 0..tag.slots {
            *to.add(slot) = access::read(store.cast::<VMStore>(), exception.wrapping_add(PAYLOAD + 8 * slot as u32));
        }
        for (slot, ty) in &tag.functions {
            let place = to.add(*slot as usize);
            *place = function_of(store, *place, ty)?;
        }
    }
    Ok(())
}

/// The slot of the function whose number is in a slot of a payload.
///
/// # Errors
/// As [`func_of_type`].
///
/// # Safety
/// As for [`func_of_type`].
unsafe fn function_of(store: *const StoreOpaque, id: u64, ty: &RefType) -> Result<u64> {
    // SAFETY: the caller's promise.
    unsafe { func_of_type(store, u32::try_from(id).unwrap_or(u32::MAX), ty).map(|func| func as u64) }
}

/// The function in a slot of the payload of an exception that has a tag of the running instance.
///
/// # Errors
/// As [`read_payload`].
///
/// # Safety
/// `vmctx` must be live, `tag` an index of its module's tag index space, and `exception` one with that tag.
pub(crate) unsafe fn function(vmctx: *mut VMContext, tag: u32, exception: u32, slot: u32) -> Result<u64> {
    // SAFETY: the caller's promise.
    unsafe {
        let (store, tag) = ((*vmctx).store.cast::<StoreOpaque>(), &*instance_tag(vmctx, tag));
        let id = access::read(store.cast::<VMStore>(), exception.wrapping_add(PAYLOAD + 8 * slot));
        match tag.functions.iter().find(|function| function.0 == slot) {
            Some((_, ty)) => function_of(store, id, ty),
            None => Err(Trap::CastFailure.into()),
        }
    }
}

/// Whether an exception has the tag of index `tag` of the context's module.
///
/// # Safety
/// `exception` must be a reference to one of the context's store, `vmctx` live, and `tag` an index of the module's tag index
/// space.
pub(crate) unsafe fn has_tag(exception: u32, vmctx: *mut VMContext, tag: u32) -> bool {
    // SAFETY: the exception and the context are live, and the tag is its module's, by the caller's promise. No exception has
    // the descriptor 0 of a tag without exceptions.
    unsafe {
        let descriptor = access::read::<u32>((*vmctx).store, exception.wrapping_add(DESCRIPTOR));
        (*instance_tag(vmctx, tag)).descriptor.load(Relaxed) == descriptor
    }
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
    store.vm.in_flight = 0;
    store.propagation.error = None;
    store.propagation.pcs.clear();
    store.propagation.pcs.reserve(MAX_BACKTRACE);
}

/// Wraps an exception in an error, the form in which it propagates through Rust frames.
pub(crate) fn into_error(store: &StoreOpaque, exception: u32) -> Error {
    Error::new(ErrorKind::Exception(pin(store, exception)))
}

/// The exception that an error wraps, for code of the same store to throw, together with the error, which keeps the
/// exception alive.
///
/// # Errors
/// The error itself, if it wraps no exception, or one of another store.
pub(crate) fn from_error(store: &StoreOpaque, error: Error) -> Result<(u32, Error)> {
    match error.kind() {
        ErrorKind::Exception(exception) if exception.pin().store == store.id => Ok((exception.pin().exception, error)),
        _ => Err(error),
    }
}

/// Makes an error the store's pending one: code of the store throws it if it wraps an exception, and traps with it otherwise.
pub(crate) fn throw_or_raise(store: &mut StoreOpaque, error: Error) {
    match from_error(store, error) {
        Ok((exception, error)) => {
            begin_propagation(store);
            store.vm.in_flight = exception.into();
            store.propagation.error = Some(error);
            store.vm.thrown = exception.into();
        }
        Err(error) => store.raise(error),
    }
}

/// Takes the store's pending error, as [`throw_or_raise`] or [`StoreOpaque::raise`] has set it.
pub(crate) fn take_error(store: &mut StoreOpaque) -> Error {
    match std::mem::take(&mut store.vm.thrown) {
        0 => store.take_raised(),
        exception if exception == store.vm.in_flight => {
            store.propagation.error.take().unwrap_or_else(|| into_error(store, exception as u32))
        }
        exception => into_error(store, exception as u32),
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
    Ok(exception.pin().exception.into())
}

/// A reference for the host, which keeps the exception alive.
pub(crate) fn pin(store: &StoreOpaque, exception: u32) -> ExnRef {
    ExnRef::from_pin(Arc::new(ExnPin { store: store.id, exception, _kept: Box::new(store.gc.pin(exception)) }))
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
