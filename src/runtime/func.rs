//! Functions: references to them, host functions, and the one way into running code.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;
use std::sync::Arc;

use super::caller::Caller;
use super::engine::Engine;
use super::store::{AsContext, AsContextMut, StoreOpaque};
use super::typed::{IntoFunc, TypedFunc, WasmParams, WasmResults};
use super::value::Value;
use crate::config::Strategy;
use crate::error::{Error, Result};
use crate::module::types::FuncType;
use crate::sys;
use crate::vm::context::{VMContext, VMFuncRef};
use crate::vm::exception;
use crate::vm::heap;

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
            crate::jit::come_back(unsafe { &*store });
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

    /// A host function over values.
    pub fn dynamic<T: 'static>(
        ty: FuncType,
        func: impl Fn(Caller<'_, T>, &[Value], &mut [Value]) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        let signature = ty.clone();
        let body = move |store: *mut StoreOpaque, vmctx: *mut VMContext, slots: *mut u64| {
            let (params, results) = (signature.params(), signature.results());
            // SAFETY: the slots hold the arguments and have room for the results; the store is live and of data `T`, and
            // nobody else refers to it before the call.
            unsafe {
                let mut values = std::mem::take(&mut (*store).host_values);
                values.extend(params.iter().chain(results).map(Value::default_for));
                let (args, out) = values.split_at_mut(params.len());
                Value::read_all(params, slots, &*store, args);
                func(Caller::<T>::new(store, vmctx), args, out)?;
                Value::check_all(out, results, "result")?;
                (*store).collect_if_due();
                Value::write_all(out, slots, &mut *store)?;
                values.clear();
                (*store).host_values = values;
            }
            Ok(())
        };
        // SAFETY: the body goes by `ty`; `T` is upheld by the typed linkers and stores that take it.
        unsafe { HostFunc::new(ty, body) }
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
    unsafe fn call(&self, store: *mut StoreOpaque, caller: *mut VMContext, slots: *mut u64) -> Result<()> {
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

/// Calls any function from Rust, not from WebAssembly code: sets the stack limit, resumes panics of host functions.
///
/// # Safety
/// `store` must be the store's own pointer, `func` a live reference of it, and `slots` hold the arguments and have room for
/// the results.
pub(crate) unsafe fn invoke(store: *mut StoreOpaque, func: NonNull<VMFuncRef>, slots: *mut u64) -> Result<()> {
    let func = func.as_ptr();
    // SAFETY: the caller's promise.
    unsafe {
        let entered = (*store).enter(sys::stack_pointer())?;
        let mut result = if (*func).index == VMFuncRef::HOST {
            (*(*func).owner.cast::<HostFunc>()).call(store, std::ptr::null_mut(), slots)
        } else {
            match (*store).engine().config().strategy {
                Strategy::Jit if Engine::has_jit() => crate::jit::call(func, std::ptr::null_mut(), slots),
                Strategy::Tiered => {
                    let (vmctx, defined) = ((*func).owner.cast::<VMContext>(), (*func).index);
                    let module = &(*(*vmctx).instance).module.0;
                    match module.jit.native(defined) {
                        Some(code) => crate::jit::call_native(vmctx, code, (*func).sig, slots),
                        None => crate::interp::call(vmctx, defined, slots),
                    }
                }
                _ => crate::interp::call((*func).owner.cast(), (*func).index, slots),
            }
        };
        (*store).leave(entered);
        if let Some(panic) = (*store).panic.take() {
            resume_unwind(panic);
        }
        if let Err(error) = &mut result {
            exception::describe(&*store, error);
        }
        if (*store).heap.has_dead() {
            heap::drop_all((*store).heap.take_dead());
        }
        result
    }
}

/// A function of a store: of an instance or of the host (specification, section 4.2.6).
///
/// ```
/// use wasmrun::{Engine, Func, Store};
/// let mut store = Store::new(&Engine::default(), ());
/// let add = Func::wrap(&mut store, |a: i32, b: i32| a + b);
/// assert_eq!(add.typed::<(i32, i32), i32>(&store)?.call(&mut store, (1, 2))?, 3);
/// # Ok::<(), wasmrun::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Func {
    store: u64,
    func: NonNull<VMFuncRef>,
}

// SAFETY: the pointer is only followed together with the store of that id, which keeps what it points to.
unsafe impl Send for Func {}
// SAFETY: as above.
unsafe impl Sync for Func {}

impl Func {
    /// A host function of the given type over values.
    ///
    /// A result of another type than `ty` says is an error for the caller.
    pub fn new<T: 'static>(
        mut store: impl AsContextMut<Data = T>,
        ty: FuncType,
        func: impl Fn(Caller<'_, T>, &[Value], &mut [Value]) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        let store = &mut store.as_context_mut().into_inner().opaque;
        let host = HostFunc::dynamic(ty, func);
        Self::from_host(store, &Arc::new(host))
    }

    /// A host function made of a closure, whose type gives the WebAssembly type.
    pub fn wrap<T: 'static, Params, Results>(
        mut store: impl AsContextMut<Data = T>,
        func: impl IntoFunc<T, Params, Results>,
    ) -> Self {
        let store = &mut store.as_context_mut().into_inner().opaque;
        let host = func.into_host_func().0;
        Self::from_host(store, &Arc::new(host))
    }

    pub(crate) fn from_host(store: &mut StoreOpaque, host: &Arc<HostFunc>) -> Self {
        let func = store.host_ref(host);
        Func { store: store.id, func }
    }

    /// The function of a reference in a slot, or `None` for null.
    ///
    /// # Safety
    /// The slot must be null or a reference of `store`.
    pub(crate) unsafe fn from_slot(slot: u64, store: &StoreOpaque) -> Option<Self> {
        let func = NonNull::new(slot as usize as *mut VMFuncRef)?;
        Some(Func { store: store.id, func })
    }

    pub(crate) fn belongs_to(&self, store: &StoreOpaque) -> bool {
        self.store == store.id
    }

    /// The slot of a reference to it.
    pub(crate) fn to_slot(self, store: &StoreOpaque) -> Result<u64> {
        if !self.belongs_to(store) {
            return Err(Error::usage("function used with another store than its own"));
        }
        Ok(self.func.as_ptr() as usize as u64)
    }

    /// # Panics
    /// If it is of another store.
    pub(crate) fn func_ref(&self, store: &StoreOpaque) -> NonNull<VMFuncRef> {
        assert!(self.belongs_to(store), "object used with another store than its own");
        self.func
    }

    pub(crate) fn sig(&self, store: &StoreOpaque) -> u32 {
        // SAFETY: references live as long as their store.
        unsafe { self.func_ref(store).as_ref().sig }
    }

    /// Its type.
    pub fn ty(&self, store: impl AsContext) -> FuncType {
        let store = &store.as_context().0.opaque;
        (*store.engine().sig_type(self.sig(store))).clone()
    }

    /// Calls it.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if arguments or the number of results do not fit its type; otherwise whatever
    /// ends it: a trap, an exit, an error of a host function.
    ///
    /// # Panics
    /// Resumes the panic of a host function that it calls.
    pub fn call(&self, mut store: impl AsContextMut, args: &[Value], results: &mut [Value]) -> Result<()> {
        let store = &mut store.as_context_mut().into_inner().opaque;
        let ty = store.engine().sig_type(self.sig(store));
        Value::check_all(args, ty.params(), "argument")?;
        if results.len() != ty.results().len() {
            let (want, got) = (ty.results().len(), results.len());
            return Err(Error::usage(format!("the function has {want} result(s), room was given for {got}")));
        }
        store.collect_if_due();
        let mut slots = vec![0u64; ty.param_slots().max(ty.result_slots())];
        // SAFETY: the buffer has room for both, and the values are of the function's types and store.
        unsafe {
            Value::write_all(args, slots.as_mut_ptr(), store)?;
            let store = store.as_ptr();
            invoke(store, self.func, slots.as_mut_ptr())?;
            Value::read_all(ty.results(), slots.as_ptr(), &*store, results);
        }
        Ok(())
    }

    /// The function with its type known to Rust, which makes calls fast.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if it has another type.
    pub fn typed<P: WasmParams, R: WasmResults>(&self, store: impl AsContext) -> Result<TypedFunc<P, R>> {
        TypedFunc::new(*self, &self.ty(store))
    }
}
