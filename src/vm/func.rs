//! Host functions, as engines call them.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use super::context::{VMContext, VMFuncRef};
use super::sample::{self, Innermost};
use super::store::StoreOpaque;
use super::{activation, exception, fuel};
use crate::error::{Error, Result};
use crate::module::fuel::of_host_call;
use crate::module::registry::RegisteredType;
use crate::module::types::FuncType;

/// The entry of a host function: called with the closure, the store, the caller's context (null if the host calls) and the
/// slots of the arguments, which the results replace. Returns zero, or non-zero if the function failed; the store then has
/// the pending error, see [`exception::take_error`].
pub(crate) type HostCall = unsafe extern "C" fn(NonNull<()>, *mut StoreOpaque, *mut VMContext, *mut u64) -> u32;

/// A function of the host and the type under which WebAssembly code calls it. It belongs to no engine: a store registers the
/// type when it first makes a reference to the function.
///
/// `call` is an instance of a generic function for the closure's type, so that the closure's code is inlined into it. The
/// JIT's host-call trampolines call it directly.
#[repr(C)]
pub(crate) struct HostFunc {
    call: HostCall,
    /// The closure.
    env: NonNull<()>,
    drop_env: unsafe fn(NonNull<()>),
    pub ty: FuncType,
}

// SAFETY: `env` owns the closure, which `new` requires to be `Send`; the other pointers are to functions.
unsafe impl Send for HostFunc {}
// SAFETY: `new` requires the closure to be `Sync`.
unsafe impl Sync for HostFunc {}

impl std::fmt::Debug for HostFunc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostFunc").field("ty", &self.ty).finish_non_exhaustive()
    }
}

impl Drop for HostFunc {
    fn drop(&mut self) {
        // SAFETY: `new` made both for the same closure, and only this owner uses the closure.
        unsafe { (self.drop_env)(self.env) };
    }
}

#[cfg_attr(not(jit), expect(dead_code, reason = "only the JIT's trampolines use the offsets"))]
impl HostFunc {
    pub const CALL: i32 = std::mem::offset_of!(HostFunc, call) as i32;
    pub const ENV: i32 = std::mem::offset_of!(HostFunc, env) as i32;
}

impl HostFunc {
    /// A host function that runs `body`, which gets the store, the caller's context (null if the host calls) and the slots of
    /// arguments and results.
    ///
    /// # Safety
    /// `body` must read and write its slots as `ty` says. If it relies on the type of the store's data, the function must
    /// only be used in stores with data of that type.
    pub unsafe fn new<F>(ty: FuncType, body: F) -> Self
    where
        F: Fn(*mut StoreOpaque, *mut VMContext, *mut u64) -> Result<()> + Send + Sync + 'static,
    {
        // SAFETY: the caller's promise.
        unsafe { Self::with_suspension::<F, false>(ty, body) }
    }

    /// As [`HostFunc::new`]; if `SUSPENDS`, `body` may suspend the coroutine that it is called on, and go on on another thread
    /// ([`fiber`](super::fiber)).
    ///
    /// # Safety
    /// As for `new`.
    pub unsafe fn with_suspension<F, const SUSPENDS: bool>(ty: FuncType, body: F) -> Self
    where
        F: Fn(*mut StoreOpaque, *mut VMContext, *mut u64) -> Result<()> + Send + Sync + 'static,
    {
        struct Env<F> {
            /// What a call by WebAssembly code costs in fuel.
            price: u64,
            body: F,
        }

        /// # Safety
        /// `env` must be a live `Env<F>`, the store live, and the rest what the body expects.
        unsafe extern "C" fn call<F, const SUSPENDS: bool>(
            env: NonNull<()>,
            store: *mut StoreOpaque,
            caller: *mut VMContext,
            slots: *mut u64,
        ) -> u32
        where
            F: Fn(*mut StoreOpaque, *mut VMContext, *mut u64) -> Result<()>,
        {
            // SAFETY: `env` is a live `Env<F>` by the caller's promise.
            let Env { price, body } = unsafe { env.cast::<Env<F>>().as_ref() };
            let run = || {
                if !caller.is_null() {
                    // SAFETY: the store is live by the caller's promise, and nobody refers to it.
                    unsafe {
                        sample::at_host_call(store, Innermost::Guest);
                        fuel::pay(store, *price)?;
                    }
                }
                body(store, caller, slots)
            };
            let status = match catch_unwind(AssertUnwindSafe(run)) {
                Ok(Ok(())) => 0,
                // SAFETY: the store is live by the caller's promise, and `body` no longer refers to it.
                Ok(Err(error)) => unsafe { failed(&mut *store, error) },
                // SAFETY: the store is live by the caller's promise, and `body` no longer refers to it.
                Err(panic) => unsafe { panicked(&mut *store, panic) },
            };
            // SAFETY: the store is live by the caller's promise.
            let activation = unsafe { (*store).activation };
            if SUSPENDS {
                activation::set_current_anew(activation);
            } else {
                activation::set_current(activation);
            }
            if !caller.is_null() {
                // SAFETY: the store is live by the caller's promise, and `body` no longer refers to it.
                unsafe { sample::at_host_call(store, Innermost::Host) };
            }
            status
        }

        /// # Safety
        /// `env` must come from a box of an `Env<F>`, and not be used again.
        unsafe fn drop_env<F>(env: NonNull<()>) {
            // SAFETY: `env` comes from a box of an `Env<F>` by the caller's promise.
            drop(unsafe { Box::from_raw(env.cast::<Env<F>>().as_ptr()) });
        }

        let price = of_host_call(ty.param_slots() + ty.result_slots());
        let env = NonNull::from(Box::leak(Box::new(Env { price, body }))).cast();
        HostFunc { call: call::<F, SUSPENDS>, env, drop_env: drop_env::<F>, ty }
    }

    /// Calls the function.
    ///
    /// # Errors
    /// The error that the function returns. If the function panics, the panic is stored for the innermost Rust caller of
    /// WebAssembly code to resume, and an error is returned in its place.
    ///
    /// # Safety
    /// `store` must be live and have a reference to the function, `caller` must be null or a live context of the store, and
    /// `slots` must hold the arguments and have room for the results.
    pub unsafe fn call(&self, store: *mut StoreOpaque, caller: *mut VMContext, slots: *mut u64) -> Result<()> {
        // SAFETY: `self` keeps the closure alive; the caller promises the rest.
        match unsafe { (self.call)(self.env, store, caller, slots) } {
            0 => Ok(()),
            // SAFETY: the store is live by the caller's promise, and the call that referred to it has ended.
            _ => Err(unsafe { exception::take_error(&mut *store) }),
        }
    }
}

/// Makes the error of a host function the store's pending one; returns the failure status.
#[cold]
fn failed(store: &mut StoreOpaque, error: Error) -> u32 {
    exception::throw_or_raise(store, error);
    1
}

/// As `failed`, for a panic, which is also kept for the innermost Rust caller of WebAssembly code.
#[cold]
fn panicked(store: &mut StoreOpaque, panic: Box<dyn Any + Send>) -> u32 {
    store.panic = Some(panic);
    failed(store, Error::host("a host function panicked"))
}

/// Whether a function is of a type, or of a subtype of it as declared; in constant time.
///
/// # Safety
/// `func` must be a live reference, and the type one of its store's engine.
#[inline]
pub(crate) unsafe fn is_of_type(func: *const VMFuncRef, ty: &RegisteredType) -> bool {
    // SAFETY: the reference is live by the caller's promise, so its type is; both are of one engine.
    unsafe { (*func).sig == ty.number() || ty.is_in_record((*func).supertypes) }
}

/// Calls a host function from WebAssembly code; see [`HostFunc::call`].
///
/// # Safety
/// `func` must be a live reference to a host function, `caller` a live context of the same store, and `slots` must hold the
/// arguments and have room for the results.
pub(crate) unsafe fn call_host(func: *mut VMFuncRef, caller: *mut VMContext, slots: *mut u64) -> Result<()> {
    // SAFETY: the owner of a host function's reference is a `HostFunc`, which the store that made the reference keeps; it is
    // the context's store by the caller's promise.
    unsafe { (*(*func).owner.cast::<HostFunc>()).call((*caller).store.cast(), caller, slots) }
}
