//! Functions: references to them, host functions, and the one way into running code.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;
use std::sync::Arc;

use super::caller::Caller;
use super::engine::{Engine, Strategy};
use super::store::{AsContext, AsContextMut, StoreInner, StoreOpaque};
use super::sys;
use super::typed::{IntoFunc, TypedFunc, WasmParams, WasmResults};
use super::value::Value;
use super::vmcontext::{VMContext, VMFuncRef};
use crate::error::{Error, Result};
use crate::module::types::FuncType;

/// The body of a host function in slots: store, caller's context (null when called by the host), arguments and results.
pub(crate) type HostBody = Box<dyn Fn(*mut StoreOpaque, *mut VMContext, *mut u64) -> Result<()> + Send + Sync>;

/// A function of the host, with the type under which WebAssembly code sees it. It is of no engine: a store registers
/// the type when it first makes a reference.
pub(crate) struct HostFunc {
    pub ty: FuncType,
    body: HostBody,
}

impl std::fmt::Debug for HostFunc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostFunc").field("ty", &self.ty).finish_non_exhaustive()
    }
}

impl HostFunc {
    /// A host function of store data `T`.
    ///
    /// # Safety
    /// `body` must treat its slots as `ty` says, and stores of data other than the one it was made for must not get it.
    pub unsafe fn new(ty: FuncType, body: HostBody) -> Self {
        HostFunc { ty, body }
    }

    /// A host function over values.
    pub fn dynamic<T: 'static>(
        ty: FuncType,
        func: impl Fn(Caller<'_, T>, &[Value], &mut [Value]) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        let signature = ty.clone();
        let body: HostBody = Box::new(move |store, vmctx, slots| {
            let (params, results) = (signature.params(), signature.results());
            let mut values: Vec<Value> = params.iter().chain(results).map(|ty| Value::default_for(*ty)).collect();
            let (args, out) = values.split_at_mut(params.len());
            // SAFETY: the slots hold the arguments and have room for the results; the store is of data `T`.
            unsafe {
                Value::read_all(params, slots, &*store, args);
                func(Caller::<T>::new(&mut *store.cast::<StoreInner<T>>(), vmctx), args, out)?;
                Value::check_all(out, results, "result")?;
                Value::write_all(out, slots, &mut *store)
            }
        });
        // SAFETY: the body goes by `ty`; `T` is upheld by the typed linkers and stores that take it.
        unsafe { HostFunc::new(ty, body) }
    }
}

/// Calls a host function. A panic in it is kept for the innermost Rust caller of WebAssembly code; to the code itself
/// it looks like an error.
///
/// # Safety
/// `func` must be a host function's live reference, `caller` a live context of the same store, and `slots` hold the
/// arguments and have room for the results.
pub(crate) unsafe fn call_host(func: *mut VMFuncRef, caller: *mut VMContext, slots: *mut u64) -> Result<()> {
    // SAFETY: the caller's promise.
    let (host, store) = unsafe { (&*(*func).owner.cast::<HostFunc>(), (*caller).store.cast::<StoreOpaque>()) };
    // SAFETY: as above; the context's store is the one the function was made a reference in.
    unsafe { call_host_in(host, store, caller, slots) }
}

/// [`call_host`] with the store given, for calls without a calling instance.
unsafe fn call_host_in(
    host: &HostFunc,
    store: *mut StoreOpaque,
    caller: *mut VMContext,
    slots: *mut u64,
) -> Result<()> {
    match catch_unwind(AssertUnwindSafe(|| (host.body)(store, caller, slots))) {
        Ok(result) => result,
        Err(panic) => {
            // SAFETY: the store is live by the caller's promise.
            unsafe { (*store).panic = Some(panic) };
            Err(Error::host("a host function panicked"))
        }
    }
}

/// Calls any function from Rust, not from WebAssembly code: sets the stack limit, resumes panics of host functions.
///
/// # Safety
/// `func` must be a live reference of `store`, and `slots` hold the arguments and have room for the results.
pub(crate) unsafe fn invoke(store: *mut StoreOpaque, func: NonNull<VMFuncRef>, slots: *mut u64) -> Result<()> {
    let func = func.as_ptr();
    // SAFETY: the caller's promise.
    unsafe {
        let outer = (*store).vm.stack_limit;
        let outer_base = (*store).stack_base();
        (*store).enter_stack(sys::stack_base(outer_base));
        (*store).vm.stack_limit = sys::stack_limit(outer, (*store).engine().config().max_wasm_stack);
        let result = if (*func).index == VMFuncRef::HOST {
            call_host_in(&*(*func).owner.cast::<HostFunc>(), store, std::ptr::null_mut(), slots)
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
        (*store).vm.stack_limit = outer;
        (*store).enter_stack(outer_base);
        if let Some(panic) = (*store).panic.take() {
            resume_unwind(panic);
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
        let store = &mut store.as_context_mut().0.opaque;
        let host = HostFunc::dynamic(ty, func);
        Self::from_host(store, &Arc::new(host))
    }

    /// A host function made of a closure, whose type gives the WebAssembly type.
    pub fn wrap<T: 'static, Params, Results>(
        mut store: impl AsContextMut<Data = T>,
        func: impl IntoFunc<T, Params, Results>,
    ) -> Self {
        let store = &mut store.as_context_mut().0.opaque;
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
        let store = &mut store.as_context_mut().0.opaque;
        let ty = store.engine().sig_type(self.sig(store));
        Value::check_all(args, ty.params(), "argument")?;
        if results.len() != ty.results().len() {
            let (want, got) = (ty.results().len(), results.len());
            return Err(Error::usage(format!("the function has {want} result(s), room was given for {got}")));
        }
        let mut slots = vec![0u64; ty.param_slots().max(ty.result_slots())];
        // SAFETY: the buffer has room for both, and the values are of the function's types and store.
        unsafe {
            Value::write_all(args, slots.as_mut_ptr(), store)?;
            let store: *mut StoreOpaque = store;
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
