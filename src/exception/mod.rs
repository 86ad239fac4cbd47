//! Exceptions and tags (the exception-handling proposal with `exnref`): the objects, and when they go away.
//!
//! What may be here: objects that are thrown, their place in a store, and the collection of those nothing refers to.
//! What may not: how a throw finds its handler. In interpreted frames that is the interpreter's search, in compiled
//! frames the JIT's; between the two, and through host functions, an exception travels as an [`Error`].
//!
//! Objects do not move. A collection marks from the words of the value stack and of the native stack, whatever they
//! mean (so engines need no maps of where references are), from globals and tables of type `exnref`, and from what the
//! host holds; the rest is freed.

mod collect;
pub(crate) mod tag;
mod thrown;

use std::sync::{Arc, Mutex, PoisonError, Weak};

pub(crate) use thrown::{Thrown, describe};

use crate::error::{Error, ErrorKind, Result};
use crate::runtime::store::StoreOpaque;
use crate::runtime::vmcontext::{VMContext, VMException};

/// Payload slots of all live exceptions together may take this many bytes.
const MAX_BYTES: usize = 256 << 20;

/// Bytes of exceptions before the first collection, and the least between two.
const MIN_THRESHOLD: usize = 1 << 20;

/// A reference to an exception that the host holds; the exception lives at least as long.
///
/// It can be passed back to the store it came from and to no other.
#[derive(Clone, Debug)]
pub struct ExnRef(Arc<Pin>);

#[derive(Debug)]
struct Pin {
    store: u64,
    exception: *mut VMException,
}

// SAFETY: the pointer is only followed together with the store of that id, which keeps what it points to.
unsafe impl Send for Pin {}
// SAFETY: as above.
unsafe impl Sync for Pin {}

impl ExnRef {
    /// Whether both refer to one exception.
    pub fn same(&self, other: &ExnRef) -> bool {
        self.0.exception == other.0.exception
    }

    /// The slot of the reference.
    ///
    /// # Errors
    /// [`Usage`](ErrorKind::Usage) if it is of another store.
    pub(crate) fn to_slot(&self, store: &StoreOpaque) -> Result<u64> {
        if self.0.store != store.id {
            return Err(Error::usage("exception used with another store than its own"));
        }
        Ok(self.0.exception as u64)
    }
}

/// The exceptions of a store.
#[derive(Default)]
pub(crate) struct Exceptions {
    /// Addresses of all exceptions, each a box of its own.
    all: Vec<*mut VMException>,
    bytes: usize,
    threshold: usize,
    pins: Mutex<Vec<Weak<Pin>>>,
}

impl Drop for Exceptions {
    fn drop(&mut self) {
        for exception in self.all.drain(..) {
            // SAFETY: all come from `new`, and with the store everything that could refer to them goes.
            unsafe { free(exception) };
        }
    }
}

fn layout(slots: usize) -> std::alloc::Layout {
    std::alloc::Layout::array::<u64>(slots + size_of::<VMException>() / 8).expect("a payload of at most 2000 slots")
}

/// # Safety
/// The exception must come from [`new`] and not be used again.
unsafe fn free(exception: *mut VMException) {
    // SAFETY: the caller's promise; the layout is that of its allocation.
    unsafe { std::alloc::dealloc(exception.cast(), layout((*exception).slots)) };
}

/// Makes an exception of a tag of the running instance, its payload copied from `payload`.
///
/// # Errors
/// [`Resource`](ErrorKind::Resource) if too many are alive.
///
/// # Safety
/// `vmctx` must be live, `tag` in its module's index space, `payload` hold the tag's parameters. The interpreter must
/// have set `value_top` above its live frames: a collection may run.
pub(crate) unsafe fn new(vmctx: *mut VMContext, tag: u32, payload: *const u64) -> Result<*mut VMException> {
    // SAFETY: the caller's promise.
    unsafe {
        let store = &mut *(*vmctx).store.cast::<StoreOpaque>();
        let tag = self::tag::of(vmctx, tag);
        let slots = (*tag).slots;
        let size = layout(slots).size();
        if store.exceptions.bytes + size > store.exceptions.threshold.max(MIN_THRESHOLD) {
            collect::run(store, payload, slots);
            if store.exceptions.bytes + size > MAX_BYTES {
                return Err(Error::resource(format!("live exceptions take more than {MAX_BYTES} bytes")));
            }
        }
        let exception = std::alloc::alloc(layout(slots)).cast::<VMException>();
        if exception.is_null() {
            return Err(Error::resource("no memory for an exception"));
        }
        exception.write(VMException { tag, slots });
        std::ptr::copy_nonoverlapping(payload, VMException::payload(exception), slots);
        store.exceptions.all.push(exception);
        store.exceptions.bytes += size;
        Ok(exception)
    }
}

/// Whether an exception is of a tag of a module.
///
/// # Safety
/// A live exception, a live context, a validated index.
pub(crate) unsafe fn is_of_tag(exception: *mut VMException, vmctx: *mut VMContext, tag: u32) -> bool {
    // SAFETY: the caller's promise.
    unsafe { std::ptr::eq((*exception).tag, self::tag::of(vmctx, tag)) }
}

/// The exception as an error, with which it travels through Rust frames.
pub(crate) fn into_error(store: &StoreOpaque, exception: *mut VMException) -> Error {
    Error::new(ErrorKind::Exception(pin(store, exception)))
}

/// The exception that an error is, to be thrown on in code of the same store; any other error as it is.
pub(crate) fn of_error(store: &StoreOpaque, error: Error) -> Result<*mut VMException> {
    match error.kind() {
        ErrorKind::Exception(exception) if exception.0.store == store.id => Ok(exception.0.exception),
        _ => Err(error),
    }
}

/// Leaves an error in the store, for code of it to throw on if it is an exception, and to trap with otherwise.
pub(crate) fn throw_or_raise(store: &mut StoreOpaque, error: Error) {
    match of_error(store, error) {
        Ok(exception) => store.vm.thrown = exception,
        Err(error) => store.raise(error),
    }
}

/// The error that was left in the store, by [`throw_or_raise`] or by [`StoreOpaque::raise`].
pub(crate) fn take_error(store: &mut StoreOpaque) -> Error {
    match std::mem::replace(&mut store.vm.thrown, std::ptr::null_mut()) {
        exception if exception.is_null() => store.take_raised(),
        exception => into_error(store, exception),
    }
}

/// A reference for the host.
pub(crate) fn pin(store: &StoreOpaque, exception: *mut VMException) -> ExnRef {
    let pin = Arc::new(Pin { store: store.id, exception });
    let mut pins = store.exceptions.pins.lock().unwrap_or_else(PoisonError::into_inner);
    if pins.len() == pins.capacity() {
        pins.retain(|pin| pin.strong_count() > 0);
    }
    pins.push(Arc::downgrade(&pin));
    ExnRef(pin)
}
