//! Functions for the embedder, and the one place from which Rust code enters WebAssembly code.

use std::panic::resume_unwind;
use std::ptr::NonNull;
use std::sync::Arc;

use super::caller::Caller;
use super::store::{AsContext, AsContextMut, StoreInner};
use super::thrown;
use super::typed::{IntoFunc, TypedFunc, WasmParams, WasmResults};
use super::value::Value;
#[cfg(jit)]
use crate::config::Strategy;
use crate::error::{Error, Result};
use crate::module::registry::RegisteredType;
use crate::module::types::FuncType;
use crate::sys;
use crate::vm::context::{VMContext, VMFuncRef};
use crate::vm::func::{HostFunc, is_of_type};
use crate::vm::heap;
use crate::vm::store::StoreOpaque;

/// A host function that takes and returns [`Value`]s.
pub(crate) fn host_func_over_values<T: 'static>(
    ty: FuncType,
    func: impl Fn(Caller<'_, T>, &[Value], &mut [Value]) -> Result<()> + Send + Sync + 'static,
) -> HostFunc {
    let signature = ty.clone();
    let body = move |store: *mut StoreOpaque, vmctx: *mut VMContext, slots: *mut u64| {
        let (params, results) = (signature.params(), signature.results());
        // SAFETY: the engines call the body with slots that hold the arguments and have room for the results, and with a live
        // store, which has data `T` and to which nobody else holds a reference.
        unsafe {
            let mut values = std::mem::take(&mut (*store.cast::<StoreInner<T>>()).host_values);
            values.extend(params.iter().chain(results).map(Value::default_for));
            let (args, out) = values.split_at_mut(params.len());
            Value::read_all(params, slots, &*store, args);
            func(Caller::<T>::new(store, vmctx), args, out)?;
            Value::check_all(&*store, out, results, "result")?;
            (*store).collect_if_due(out.iter().any(Value::is_host_object));
            Value::write_all(out, slots, &mut *store)?;
            values.clear();
            (*store.cast::<StoreInner<T>>()).host_values = values;
        }
        Ok(())
    };
    // SAFETY: the body reads and writes its slots as `ty` says. Linkers and stores have the type `T`, so the function gets into
    // stores with data `T` only.
    unsafe { HostFunc::new(ty, body) }
}

/// Calls any function from Rust: sets the stack limits before the call; afterwards resumes the panic of a host function, and
/// drops host objects that were collected. The code can't be suspended, because the embedder's frames may be on its stack.
///
/// # Errors
/// Whatever ends the function, or that of [`StoreOpaque::enter_wasm`].
///
/// # Safety
/// `store` must be the own pointer of a store to which nobody holds a reference, `func` a reference of this store, and `slots`
/// must hold the arguments and have room for the results.
pub(crate) unsafe fn invoke(store: *mut StoreOpaque, func: NonNull<VMFuncRef>, slots: *mut u64) -> Result<()> {
    // SAFETY: the caller's promise.
    unsafe {
        let fiber = (*store).forbid_suspension();
        let result = run(store, func, slots);
        (*store).allow_suspension(fiber);
        finish(store, result)
    }
}

/// As [`invoke`], directly on a coroutine of the store, which may be suspended.
///
/// # Errors
/// As for `invoke`.
///
/// # Safety
/// As for `invoke`; besides, it must be called by the work of a [`Fiber`](crate::vm::fiber::Fiber) of this store.
pub(crate) unsafe fn invoke_suspendable(
    store: *mut StoreOpaque,
    func: NonNull<VMFuncRef>,
    slots: *mut u64,
) -> Result<()> {
    // SAFETY: the caller's promise.
    unsafe {
        let result = run(store, func, slots);
        finish(store, result)
    }
}

/// [`invoke`] or [`invoke_suspendable`].
pub(crate) type Invoke = unsafe fn(*mut StoreOpaque, NonNull<VMFuncRef>, *mut u64) -> Result<()>;

/// Enters the store and calls a function. The panic of a host function is left in the store.
///
/// # Safety
/// As for [`invoke`].
#[inline]
unsafe fn run(store: *mut StoreOpaque, func: NonNull<VMFuncRef>, slots: *mut u64) -> Result<()> {
    let func = func.as_ptr();
    // SAFETY: store, function and slots are valid by the caller's promise. No reference is held while code runs. The owner of
    // a reference with index `HOST` is a `HostFunc`.
    unsafe {
        let entry = (*store).enter_wasm(sys::stack_pointer())?;
        let result = if (*func).index == VMFuncRef::HOST {
            (*(*func).owner.cast::<HostFunc>()).call(store, std::ptr::null_mut(), slots)
        } else {
            call_defined(store, func, slots)
        };
        (*store).exit_wasm(entry);
        result
    }
}

/// Does what is to be done when the store was left; see [`invoke`].
///
/// # Safety
/// `store` must be the own pointer of a live store, to which nobody holds a reference.
#[inline]
unsafe fn finish(store: *mut StoreOpaque, mut result: Result<()>) -> Result<()> {
    // SAFETY: the store is live by the caller's promise.
    unsafe {
        if let Some(panic) = (*store).panic.take() {
            resume_unwind(panic);
        }
        if let Err(error) = &mut result {
            (*store).note_error(error);
            thrown::describe(&*store, error);
        }
        if (*store).heap.has_dead() {
            heap::drop_all((*store).heap.take_dead());
        }
        result
    }
}

/// Calls a function that a module defines, in the engine that runs it now.
///
/// # Safety
/// The store must have been entered. `func` must be a reference of it to a function that a module defines, and `slots` must
/// hold the arguments and have room for the results.
#[inline]
unsafe fn call_defined(store: *mut StoreOpaque, func: *mut VMFuncRef, slots: *mut u64) -> Result<()> {
    // SAFETY: the reference and the slots are valid by the caller's promise. The owner of a module's function is its context.
    unsafe {
        let (vmctx, defined) = ((*func).owner.cast::<VMContext>(), (*func).index);
        #[cfg(jit)]
        let engine = &(*store).engine;
        #[cfg(jit)]
        match engine.config.strategy {
            Strategy::Jit => return crate::jit::call(func, std::ptr::null_mut(), slots),
            Strategy::Tiered => {
                if let Some(code) = crate::jit::native(vmctx, defined)
                    && (*store).admits_native()
                {
                    return crate::jit::call_native(vmctx, code, (*func).sig, slots);
                }
            }
            Strategy::Interpreter => {}
        }
        #[cfg(not(jit))]
        let _ = store;
        crate::interp::call(vmctx, defined, slots)
    }
}

/// A function in a store, of an instance or of the host (specification, section 4.2.6).
///
/// A handle: it can be copied, and lives as long as the store. A method panics if it is given another store.
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

// SAFETY: the pointer is only dereferenced by who has access to the store with that id, which keeps the reference.
unsafe impl Send for Func {}
// SAFETY: the pointer is only dereferenced by who has access to the store with that id, which keeps the reference.
unsafe impl Sync for Func {}

impl Func {
    /// A host function of type `ty`. `func` gets the arguments, and the results to be written, which are zero or null at
    /// first. If it writes a result of another type, the call fails with a [`Usage`](crate::ErrorKind::Usage) error.
    ///
    /// ```
    /// use wasmrun::{Engine, Func, FuncType, Store, ValType, Value};
    /// let mut store = Store::new(&Engine::default(), ());
    /// let ty = FuncType::new(store.engine(), [ValType::I32], [ValType::I64]);
    /// let widen = Func::new(&mut store, ty, |_caller, args, results| {
    ///     let Value::I32(arg) = args[0] else { unreachable!("the type says so") };
    ///     results[0] = Value::I64(arg.into());
    ///     Ok(())
    /// });
    /// assert_eq!(widen.typed::<i32, i64>(&store)?.call(&mut store, -1)?, -1);
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    pub fn new<T: 'static>(
        mut store: impl AsContextMut<Data = T>,
        ty: FuncType,
        func: impl Fn(Caller<'_, T>, &[Value], &mut [Value]) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        let store = &mut store.as_context_mut().into_inner().opaque;
        let host = host_func_over_values(ty, func);
        Self::from_host(store, &Arc::new(host))
    }

    /// A host function from a closure; the closure's Rust type gives the WebAssembly type, see [`IntoFunc`].
    pub fn wrap<T: 'static, Params, Results>(
        mut store: impl AsContextMut<Data = T>,
        func: impl IntoFunc<T, Params, Results>,
    ) -> Self {
        let store = &mut store.as_context_mut().into_inner().opaque;
        let host = func.into_host_func::<false>().0;
        Self::from_host(store, &Arc::new(host))
    }

    /// The function in `store` for a host function.
    pub(crate) fn from_host(store: &mut StoreOpaque, host: &Arc<HostFunc>) -> Self {
        let func = store.host_ref(host);
        Func { store: store.id, func }
    }

    /// The function that a `funcref` slot refers to, or `None` for null.
    ///
    /// # Safety
    /// The slot must be null or a function reference of `store`.
    pub(crate) unsafe fn from_slot(slot: u64, store: &StoreOpaque) -> Option<Self> {
        let func = NonNull::new(slot as usize as *mut VMFuncRef)?;
        Some(Func { store: store.id, func })
    }

    /// Whether the function is in `store`.
    pub(crate) fn belongs_to(&self, store: &StoreOpaque) -> bool {
        self.store == store.id
    }

    /// The `funcref` slot that refers to the function.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if the function is in another store.
    pub(crate) fn to_slot(self, store: &StoreOpaque) -> Result<u64> {
        if !self.belongs_to(store) {
            return Err(Error::usage("function used with another store than its own"));
        }
        Ok(self.func.as_ptr() as usize as u64)
    }

    /// The store's reference to the function.
    ///
    /// # Panics
    /// If the function is in another store.
    pub(crate) fn func_ref(&self, store: &StoreOpaque) -> NonNull<VMFuncRef> {
        assert!(self.belongs_to(store), "object used with another store than its own");
        self.func
    }

    /// The engine-wide number of the function's type.
    ///
    /// # Panics
    /// If the function is in another store.
    pub(crate) fn sig(&self, store: &StoreOpaque) -> u32 {
        // SAFETY: a function reference lives as long as its store, which is borrowed.
        unsafe { self.func_ref(store).as_ref().sig }
    }

    /// Whether the function's type is `ty` or a subtype of it, as declared.
    pub(crate) fn has_type(&self, store: &StoreOpaque, ty: &RegisteredType) -> bool {
        let func = self.func_ref(store);
        // SAFETY: a function reference lives as long as its store, which is borrowed; the type is of the store's engine.
        ty.is_of(&store.engine.types) && unsafe { is_of_type(func.as_ptr(), ty) }
    }

    /// Whether the function can be used as one of type `ty`: its own type is `ty`, or is declared as a subtype of it.
    ///
    /// # Panics
    /// If the function is in another store, or `ty` refers to a type of another engine.
    ///
    /// ```
    /// use wasmrun::{Engine, Func, FuncType, Store};
    /// let mut store = Store::new(&Engine::default(), ());
    /// let func = Func::wrap(&mut store, || ());
    /// assert!(func.matches_ty(&store, &FuncType::new(store.engine(), [], [])));
    /// ```
    pub fn matches_ty(&self, store: impl AsContext, ty: &FuncType) -> bool {
        let store = &store.as_context().0.opaque;
        self.has_type(store, &store.engine.types.register_func(ty))
    }

    /// The function's type.
    ///
    /// # Panics
    /// If the function is in another store.
    pub fn ty(&self, store: impl AsContext) -> FuncType {
        let store = &store.as_context().0.opaque;
        (*store.engine.types.func_type(self.sig(store))).clone()
    }

    /// Calls the function. On success, writes its results to `results`, which must have the number of results that the type
    /// has; their previous values do not matter.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if the arguments or the number of results do not fit the type; otherwise whatever
    /// ends the call: a trap, an exception, an exit, an error of a host function.
    ///
    /// # Panics
    /// If the function is in another store. Resumes the panic of a host function that is called.
    pub fn call(&self, mut store: impl AsContextMut, args: &[Value], results: &mut [Value]) -> Result<()> {
        let store = &mut store.as_context_mut().into_inner().opaque;
        self.check_call(store, args, results.len())?;
        // SAFETY: checked; the store is borrowed exclusively and used through its own pointer during the call.
        unsafe { self.call_checked(store.as_ptr(), args, results, invoke) }
    }

    /// Checks that arguments and number of results fit the type.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if they do not.
    ///
    /// # Panics
    /// If the function is in another store.
    pub(super) fn check_call(&self, store: &StoreOpaque, args: &[Value], results: usize) -> Result<()> {
        let ty = store.engine.types.func_type(self.sig(store));
        Value::check_all(store, args, ty.params(), "argument")?;
        if results != ty.results().len() {
            let want = ty.results().len();
            return Err(Error::usage(format!("the function has {want} result(s), room was given for {results}")));
        }
        Ok(())
    }

    /// Calls the function by `invoke`.
    ///
    /// # Errors
    /// As for [`Func::call`].
    ///
    /// # Safety
    /// What `invoke` asks for. [`Func::check_call`] must have returned `Ok` for the arguments and the number of results.
    pub(super) unsafe fn call_checked(
        &self,
        store: *mut StoreOpaque,
        args: &[Value],
        results: &mut [Value],
        invoke: Invoke,
    ) -> Result<()> {
        // SAFETY: the buffer has room for arguments and results. The arguments have the function's types, and are in the store,
        // which `write_all` checks. The rest is the caller's promise.
        unsafe {
            let opaque = &*store;
            let ty = opaque.engine.types.func_type(self.sig(opaque));
            (*store).collect_if_due(args.iter().any(Value::is_host_object));
            let mut slots = vec![0u64; ty.param_slots().max(ty.result_slots())];
            Value::write_all(args, slots.as_mut_ptr(), &mut *store)?;
            invoke(store, self.func, slots.as_mut_ptr())?;
            Value::read_all(ty.results(), slots.as_ptr(), &*store, results);
        }
        Ok(())
    }

    /// The function with Rust types for parameters and results: calls of it are checked at compile time, and fast.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if the function has another type.
    ///
    /// # Panics
    /// If the function is in another store.
    pub fn typed<P: WasmParams, R: WasmResults>(&self, store: impl AsContext) -> Result<TypedFunc<P, R>> {
        TypedFunc::new(*self, &self.ty(store))
    }
}
