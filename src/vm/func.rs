//! Host functions, and how code calls them.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use super::context::{VMContext, VMFuncRef};
use super::store::StoreOpaque;
use super::{activation, exception};
use crate::error::{Error, Result};
use crate::module::types::FuncType;

/// Runs a host function: its environment, the store, the caller's context (null when called by the host), arguments and
/// results in slots. What it gives is zero, or something else if it failed: then the store has the error, see
/// [`exception::take_error`].
pub(crate) type HostCall = unsafe extern "C" fn(NonNull<()>, *mut StoreOpaque, *mut VMContext, *mut u64) -> u32;

/// A function of the host, with the type under which WebAssembly code sees it. It is of no engine: a store registers
/// the type when it first makes a reference.
///
/// Each closure has a `call` of its own, with all that a call needs compiled into it, and compiled code's glue calls that
/// directly.
#[repr(C)]
pub(crate) struct HostFunc {
    call: HostCall,
    /// The closure.
    env: NonNull<()>,
    drop_env: unsafe fn(NonNull<()>),
    pub ty: FuncType,
}

// SAFETY: the closure is `Send`, and nothing else is behind the pointers.
unsafe impl Send for HostFunc {}
// SAFETY: it is `Sync` too.
unsafe impl Sync for HostFunc {}

impl std::fmt::Debug for HostFunc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostFunc").field("ty", &self.ty).finish_non_exhaustive()
    }
}

impl Drop for HostFunc {
    fn drop(&mut self) {
        // SAFETY: made in `new` for this closure, which nobody uses any more.
        unsafe { (self.drop_env)(self.env) };
    }
}

#[cfg_attr(not(jit), expect(dead_code, reason = "only glue reads by offset"))]
impl HostFunc {
    pub const CALL: i32 = std::mem::offset_of!(HostFunc, call) as i32;
    pub const ENV: i32 = std::mem::offset_of!(HostFunc, env) as i32;
}

impl HostFunc {
    /// A host function of a body that gets store, caller's context (null when called by the host), arguments and results.
    ///
    /// # Safety
    /// `body` must treat its slots as `ty` says, and stores of data other than the one it was made for must not get it.
    pub unsafe fn new<F>(ty: FuncType, body: F) -> Self
    where
        F: Fn(*mut StoreOpaque, *mut VMContext, *mut u64) -> Result<()> + Send + Sync + 'static,
    {
        /// # Safety
        /// `env` must be a live `F`, the store live, and the rest what the body expects.
        unsafe extern "C" fn call<F>(
            env: NonNull<()>,
            store: *mut StoreOpaque,
            caller: *mut VMContext,
            slots: *mut u64,
        ) -> u32
        where
            F: Fn(*mut StoreOpaque, *mut VMContext, *mut u64) -> Result<()>,
        {
            // SAFETY: the caller's promise.
            let body = unsafe { env.cast::<F>().as_ref() };
            let status = match catch_unwind(AssertUnwindSafe(|| body(store, caller, slots))) {
                Ok(Ok(())) => 0,
                // SAFETY: the store is live.
                Ok(Err(error)) => unsafe { failed(&mut *store, error) },
                // SAFETY: as above.
                Err(panic) => unsafe { panicked(&mut *store, panic) },
            };
            // SAFETY: as above.
            activation::set_current(unsafe { (*store).activation });
            status
        }

        /// # Safety
        /// `env` must come from a box of an `F`, and not be used again.
        unsafe fn drop_env<F>(env: NonNull<()>) {
            // SAFETY: the caller's promise.
            drop(unsafe { Box::from_raw(env.cast::<F>().as_ptr()) });
        }

        let env = NonNull::from(Box::leak(Box::new(body))).cast();
        HostFunc { call: call::<F>, env, drop_env: drop_env::<F>, ty }
    }

    /// Calls it.
    ///
    /// # Errors
    /// What it returns. A panic in it is kept for the innermost Rust caller of WebAssembly code; to the code itself it looks
    /// like an error.
    ///
    /// # Safety
    /// `store` must be live and have a reference to it, `caller` be null or a live context of the store, and `slots` hold the
    /// arguments and have room for the results.
    pub unsafe fn call(&self, store: *mut StoreOpaque, caller: *mut VMContext, slots: *mut u64) -> Result<()> {
        // SAFETY: the caller's promise; the environment lives as long as this.
        match unsafe { (self.call)(self.env, store, caller, slots) } {
            0 => Ok(()),
            // SAFETY: the store is live.
            _ => Err(unsafe { exception::take_error(&mut *store) }),
        }
    }
}

/// Keeps the error of a host function for its caller.
#[cold]
fn failed(store: &mut StoreOpaque, error: Error) -> u32 {
    exception::throw_or_raise(store, error);
    1
}

#[cold]
fn panicked(store: &mut StoreOpaque, panic: Box<dyn Any + Send>) -> u32 {
    store.panic = Some(panic);
    failed(store, Error::host("a host function panicked"))
}

/// Calls a host function from WebAssembly code, as [`HostFunc::call`] does.
///
/// # Safety
/// `func` must be a host function's live reference, `caller` a live context of the same store, and `slots` hold the
/// arguments and have room for the results.
pub(crate) unsafe fn call_host(func: *mut VMFuncRef, caller: *mut VMContext, slots: *mut u64) -> Result<()> {
    // SAFETY: the caller's promise; the context's store is the one the function was made a reference in.
    unsafe { (*(*func).owner.cast::<HostFunc>()).call((*caller).store.cast(), caller, slots) }
}
