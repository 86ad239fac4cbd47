//! Functions as the host sees them, and the one way into running code.

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
use crate::module::types::FuncType;
use crate::sys;
use crate::vm::context::{VMContext, VMFuncRef};
use crate::vm::engine::EngineCore;
use crate::vm::func::HostFunc;
use crate::vm::heap;
use crate::vm::store::StoreOpaque;

/// A host function over values.
pub(crate) fn host_func_over_values<T: 'static>(
    ty: FuncType,
    func: impl Fn(Caller<'_, T>, &[Value], &mut [Value]) -> Result<()> + Send + Sync + 'static,
) -> HostFunc {
    let signature = ty.clone();
    let body = move |store: *mut StoreOpaque, vmctx: *mut VMContext, slots: *mut u64| {
        let (params, results) = (signature.params(), signature.results());
        // SAFETY: the slots hold the arguments and have room for the results; the store is live and of data `T`, and
        // nobody else refers to it before the call.
        unsafe {
            let mut values = std::mem::take(&mut (*store.cast::<StoreInner<T>>()).host_values);
            values.extend(params.iter().chain(results).map(Value::default_for));
            let (args, out) = values.split_at_mut(params.len());
            Value::read_all(params, slots, &*store, args);
            func(Caller::<T>::new(store, vmctx), args, out)?;
            Value::check_all(out, results, "result")?;
            (*store).collect_if_due();
            Value::write_all(out, slots, &mut *store)?;
            values.clear();
            (*store.cast::<StoreInner<T>>()).host_values = values;
        }
        Ok(())
    };
    // SAFETY: the body goes by `ty`; `T` is upheld by the typed linkers and stores that take it.
    unsafe { HostFunc::new(ty, body) }
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
        let entry = (*store).enter(sys::stack_pointer())?;
        let mut result = if (*func).index == VMFuncRef::HOST {
            (*(*func).owner.cast::<HostFunc>()).call(store, std::ptr::null_mut(), slots)
        } else {
            call_defined(&(*store).engine, func, slots)
        };
        (*store).leave(entry);
        if let Some(panic) = (*store).panic.take() {
            resume_unwind(panic);
        }
        if let Err(error) = &mut result {
            thrown::describe(&*store, error);
        }
        if (*store).heap.has_dead() {
            heap::drop_all((*store).heap.take_dead());
        }
        result
    }
}

/// Calls a function of a module by the engine that runs it.
///
/// # Safety
/// As for [`invoke`], which has entered the store.
#[inline]
unsafe fn call_defined(engine: &EngineCore, func: *mut VMFuncRef, slots: *mut u64) -> Result<()> {
    // SAFETY: the caller's promise.
    unsafe {
        let (vmctx, defined) = ((*func).owner.cast::<VMContext>(), (*func).index);
        #[cfg(jit)]
        match engine.config.strategy {
            Strategy::Jit => return crate::jit::call(func, std::ptr::null_mut(), slots),
            Strategy::Tiered => {
                if let Some(code) = crate::jit::native(vmctx, defined) {
                    return crate::jit::call_native(vmctx, code, (*func).sig, slots);
                }
            }
            Strategy::Interpreter => {}
        }
        #[cfg(not(jit))]
        let _ = engine;
        crate::interp::call(vmctx, defined, slots)
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
        let host = host_func_over_values(ty, func);
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
        (*store.engine.types.func_type(self.sig(store))).clone()
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
        let ty = store.engine.types.func_type(self.sig(store));
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
