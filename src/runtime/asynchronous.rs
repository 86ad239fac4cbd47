//! Asynchronous calls: functions of the API whose WebAssembly code may be suspended while a host function waits, and host
//! functions that wait.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::caller::Caller;
use super::external::Extern;
use super::func::{Func, invoke_suspendable};
use super::instance::Instance;
use super::linker::{InstancePre, Linker, admit_command};
use super::module::Module;
use super::store::{AsContextMut, StoreContextMut};
use super::typed::{IntoResults, StoreHandle, TypedFunc, WasmParams, WasmResults};
use super::value::Value;
use crate::error::Result;
use crate::module::types::FuncType;
use crate::vm::context::VMContext;
use crate::vm::fiber::{Fiber, block_on, block_on_and_serve};
use crate::vm::func::HostFunc;
use crate::vm::store::StoreOpaque;

/// The future of work with a store on a coroutine.
struct OnFiber<'a, R, F> {
    store: *mut StoreOpaque,
    state: State<R, F>,
    /// The store is borrowed until the future is dropped.
    _store: PhantomData<&'a mut StoreOpaque>,
}

enum State<R, F> {
    NotBegun(F),
    Begun(Fiber<R>),
    Ended,
}

// SAFETY: `on_fiber` makes it of things that may be sent: the store, since its data may be; the work; its result. `vm::fiber`
// argues that everything else on the coroutine's stack may be, too.
unsafe impl<R: Send, F: Send> Send for OnFiber<'_, R, F> {}

/// Nothing in it is pinned: the work is moved to the coroutine's stack, which stays where it is.
impl<R, F> Unpin for OnFiber<'_, R, F> {}

/// Does some work with a store on a coroutine.
fn on_fiber<'a, T: Send, R: Send + 'static, F>(store: StoreContextMut<'a, T>, work: F) -> OnFiber<'a, R, F>
where
    F: FnOnce(*mut StoreOpaque) -> Result<R> + Send + 'static,
{
    let store = store.into_inner().opaque.as_ptr();
    OnFiber { store, state: State::NotBegun(work), _store: PhantomData }
}

impl<R, F: FnOnce(*mut StoreOpaque) -> Result<R>> Future for OnFiber<'_, R, F> {
    type Output = Result<R>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<R>> {
        if let State::NotBegun(_) = self.state {
            let State::NotBegun(work) = std::mem::replace(&mut self.state, State::Ended) else { unreachable!() };
            // SAFETY: the store is borrowed exclusively until the future is dropped, which drops the fiber. The work is
            // `'static`, so it stays valid if the future is forgotten; so is its result.
            match unsafe { Fiber::new(self.store, work) } {
                Ok(fiber) => self.state = State::Begun(fiber),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        let State::Begun(fiber) = &mut self.state else { panic!("polled after it was ready") };
        let result = fiber.poll(context);
        if result.is_ready() {
            self.state = State::Ended;
        }
        result
    }
}

/// A host function that waits for the future that `func` makes of its caller and arguments.
fn host_func<T, Params, Results>(
    func: impl for<'a> Fn(Caller<'a, T>, Params) -> Box<dyn Future<Output = Results> + Send + 'a> + Send + Sync + 'static,
) -> HostFunc
where
    T: Send + 'static,
    Params: WasmResults,
    Results: IntoResults,
{
    // SAFETY: nothing on the stack but the future and the arguments in it, which are `Send`.
    unsafe {
        host_func_on_fiber(move |store, caller, params| {
            block_on(store, Box::into_pin(func(caller, params)).as_mut())?.into_results()
        })
    }
}

/// A host function that may wait ([`block_on`]); it gets the store, its caller and its arguments.
///
/// # Safety
/// `func` must keep the rules of `block_on`.
unsafe fn host_func_on_fiber<T, Params, Results>(
    func: impl for<'a> Fn(*mut StoreOpaque, Caller<'a, T>, Params) -> Result<Results> + Send + Sync + 'static,
) -> HostFunc
where
    T: Send + 'static,
    Params: WasmResults,
    Results: WasmResults,
{
    let ty = FuncType::of(Params::types(), Results::types());
    let body = move |store: *mut StoreOpaque, vmctx: *mut VMContext, slots: *mut u64| {
        let handle = store.cast::<StoreHandle>();
        // SAFETY: the engines call the body with slots that hold the arguments and have room for the results, as `ty` says,
        // with a live store, which has data `T`, and with a context that is null or live.
        unsafe {
            let params = Params::load(slots, handle);
            let results = func(store, Caller::new(store, vmctx), params)?;
            if Results::COLLECTED {
                (*store).collect_if_due(true);
            }
            results.store(slots, handle)
        }
    };
    // SAFETY: the body reads and writes its slots as `ty` says. Linkers and stores have the type `T`, so the function gets into
    // stores with data `T` only.
    unsafe { HostFunc::with_suspension::<_, true>(ty, body) }
}

/// As [`host_func`], with arguments and results as [`Value`]s.
fn host_func_over_values<T: Send + 'static>(
    ty: FuncType,
    func: impl for<'a> Fn(Caller<'a, T>, &'a [Value], &'a mut [Value]) -> Box<dyn Future<Output = Result<()>> + Send + 'a>
    + Send
    + Sync
    + 'static,
) -> HostFunc {
    let signature = ty.clone();
    let body = move |store: *mut StoreOpaque, vmctx: *mut VMContext, slots: *mut u64| {
        let (params, results) = (signature.params(), signature.results());
        // SAFETY: as for `host_func_on_fiber`. Nothing on the stack but the future and values, which are `Send`.
        unsafe {
            let mut values: Vec<Value> = params.iter().chain(results).map(Value::default_for).collect();
            let (args, out) = values.split_at_mut(params.len());
            Value::read_all(params, slots, &*store, args);
            block_on(store, Box::into_pin(func(Caller::new(store, vmctx), args, out)).as_mut())??;
            Value::check_all(&*store, out, results, "result")?;
            (*store).collect_if_due(out.iter().any(Value::is_host_object));
            Value::write_all(out, slots, &mut *store)
        }
    };
    // SAFETY: as for `host_func_on_fiber`.
    unsafe { HostFunc::with_suspension::<_, true>(ty, body) }
}

impl<T> Caller<'_, T> {
    /// Whether the WebAssembly code that called may be suspended: it was called asynchronously.
    pub(crate) fn may_be_suspended(&mut self) -> bool {
        // SAFETY: the store is live and accessed through this `Caller` only.
        unsafe { (*self.store_ptr()).may_be_suspended() }
    }

    /// Suspends the WebAssembly code that called until the future is ready. Does what is requested of the store meanwhile.
    ///
    /// # Errors
    /// An error with which the code must end.
    ///
    /// # Safety
    /// There must be no frames of the embedder's between the WebAssembly code and this call, and in the other ones nothing that
    /// may not be sent to another thread, provided that `T` may be. The function must have been defined by
    /// [`Linker::func_wrap_suspending`].
    pub(crate) unsafe fn suspend_for<F: Future>(&mut self, future: Pin<&mut F>) -> Result<F::Output> {
        // SAFETY: the store is live and accessed through this `Caller` only, which is borrowed. Only calls with `T: Send` are
        // asynchronous. The caller promises the rest.
        unsafe { block_on_and_serve(self.store_ptr(), future) }
    }
}

impl Func {
    /// An asynchronous host function from a closure that makes a future of its caller and a tuple of its arguments; otherwise as
    /// [`Func::wrap`]. While the future is not ready, the WebAssembly code that called the function is suspended, and so is the
    /// future of the call: see [`Func::call_async`]. The future is dropped before it is ready if that of the call is, or if the
    /// code is interrupted.
    ///
    /// A synchronous call, such as [`Func::call`], of code that calls the function ends with a
    /// [`Usage`](crate::ErrorKind::Usage) error. If the future panics, the panic resumes in who polls the call.
    ///
    /// See [`Linker::func_wrap_async`] for an example.
    pub fn wrap_async<T, Params, Results>(
        mut store: impl AsContextMut<Data = T>,
        func: impl for<'a> Fn(Caller<'a, T>, Params) -> Box<dyn Future<Output = Results> + Send + 'a>
        + Send
        + Sync
        + 'static,
    ) -> Self
    where
        T: Send + 'static,
        Params: WasmResults,
        Results: IntoResults,
    {
        Self::from_host(&mut store.as_context_mut().into_inner().opaque, &host_func(func).into())
    }

    /// An asynchronous host function of type `ty`; otherwise as [`Func::new`] and [`Func::wrap_async`].
    ///
    /// ```
    /// use wasmrun::{Engine, Func, FuncType, Store, ValType, Value};
    /// let mut store = Store::new(&Engine::default(), ());
    /// let ty = FuncType::new(store.engine(), [ValType::I32], [ValType::I32]);
    /// let slow = Func::new_async(&mut store, ty, |_caller, args, results| {
    ///     Box::new(async move {
    ///         tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    ///         results[0] = args[0].clone();
    ///         Ok(())
    ///     })
    /// });
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    /// # runtime.block_on(async {
    /// let mut results = [Value::I32(0)];
    /// slow.call_async(&mut store, &[Value::I32(5)], &mut results).await?;
    /// assert!(matches!(results[0], Value::I32(5)));
    /// # Ok::<(), wasmrun::Error>(())
    /// # })?;
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    pub fn new_async<T: Send + 'static>(
        mut store: impl AsContextMut<Data = T>,
        ty: FuncType,
        func: impl for<'a> Fn(
            Caller<'a, T>,
            &'a [Value],
            &'a mut [Value],
        ) -> Box<dyn Future<Output = Result<()>> + Send + 'a>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        let host = host_func_over_values(ty, func);
        Self::from_host(&mut store.as_context_mut().into_inner().opaque, &host.into())
    }

    /// Calls the function as [`Func::call`] does, on a native stack of its own ([`Config::async_stack_size`]), so that
    /// asynchronous host functions can be waited for: while one waits, the future is pending. It can be polled by any executor,
    /// and on another thread each time.
    ///
    /// Between two such waits, the code runs as long as it does: a guest that computes keeps the thread busy, unless
    /// [`Store::epoch_deadline_async_yield_and_update`] or [`InterruptHandle::yield_now`] has it give way. What interrupts running
    /// code ([`Store::set_deadline`], [`InterruptHandle::interrupt`]) also ends it while it waits.
    ///
    /// If the future is dropped before it is ready, the code is ended: what waits gets an error, which WebAssembly code can't
    /// catch, and futures of host functions are dropped. If it is forgotten ([`std::mem::forget`]), its stack and all that is
    /// on that are leaked; the store may be used all the same.
    ///
    /// An asynchronous host function may make such calls itself, with its [`Caller`]: each has a stack of its own.
    ///
    /// [`Config::async_stack_size`]: crate::Config::async_stack_size
    /// [`Store::epoch_deadline_async_yield_and_update`]: crate::Store::epoch_deadline_async_yield_and_update
    /// [`Store::set_deadline`]: crate::Store::set_deadline
    /// [`InterruptHandle::yield_now`]: crate::InterruptHandle::yield_now
    /// [`InterruptHandle::interrupt`]: crate::InterruptHandle::interrupt
    ///
    /// # Errors
    /// As for [`Func::call`]; [`Resource`](crate::ErrorKind::Resource) if there is no memory for the stack, or there are no
    /// coroutines for this processor: there are for x86, Arm, RISC-V and LoongArch.
    ///
    /// # Panics
    /// If the function is in another store. Resumes the panic of a host function that is called.
    pub async fn call_async(
        &self,
        mut store: impl AsContextMut<Data: Send>,
        args: &[Value],
        results: &mut [Value],
    ) -> Result<()> {
        let mut store = store.as_context_mut();
        self.check_call(&store.as_context_mut().into_inner().opaque, args, results.len())?;
        let (func, args) = (*self, args.to_vec());
        let mut out = vec![Value::I32(0); results.len()];
        let work = move |store| {
            // SAFETY: it is the work of a fiber of the store. The call was checked.
            unsafe { func.call_checked(store, &args, &mut out, invoke_suspendable)? };
            Ok(out)
        };
        results.clone_from_slice(&on_fiber(store, work).await?);
        Ok(())
    }
}

impl<P: WasmParams, R: WasmResults> TypedFunc<P, R> {
    /// Calls the function on a native stack of its own, so that asynchronous host functions can be waited for; see
    /// [`Func::call_async`].
    ///
    /// ```
    /// use wasmrun::{Engine, Instance, Module, Store};
    /// let engine = Engine::default();
    /// let module = Module::new(&engine, r#"(module
    ///     (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))"#)?;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let mut store = Store::new(&engine, ());
    /// let instance = Instance::new_async(&mut store, &module, &[]).await?;
    /// let add = instance.get_typed_func::<(i32, i32), i32>(&mut store, "add")?;
    /// assert_eq!(add.call_async(&mut store, (2, 3)).await?, 5);
    /// # Ok::<(), wasmrun::Error>(())
    /// # })?;
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Func::call_async`].
    ///
    /// # Panics
    /// As for [`Func::call_async`].
    pub async fn call_async(&self, mut store: impl AsContextMut<Data: Send>, params: P) -> Result<R> {
        let func = *self;
        // SAFETY: it is the work of a fiber of the store.
        let work = move |store| unsafe {
            func.call_by(store, params, |store, func, slots| invoke_suspendable(store, func, slots))
        };
        on_fiber(store.as_context_mut(), work).await
    }
}

/// Makes an instance, whose start function may be suspended.
///
/// # Safety
/// The module must be of the store's engine, and the imports must fit.
async unsafe fn instantiate<T: Send>(
    store: StoreContextMut<'_, T>,
    module: &Module,
    imports: Vec<Extern>,
) -> Result<Instance> {
    let module = module.clone();
    // SAFETY: it is the work of a fiber of the store; the caller promises the rest.
    let work = move |store| unsafe { Instance::instantiate(store, &module, &imports, invoke_suspendable) };
    on_fiber(store, work).await
}

impl Instance {
    /// Instantiates a module as [`Instance::new`] does; its start function may call asynchronous host functions, see
    /// [`Func::call_async`].
    ///
    /// # Errors
    /// Those of [`Instance::new`], and of [`Func::call_async`].
    pub async fn new_async(
        mut store: impl AsContextMut<Data: Send>,
        module: &Module,
        imports: &[Extern],
    ) -> Result<Self> {
        let mut store = store.as_context_mut();
        Self::check_imports(&store.as_context_mut().into_inner().opaque, module, imports)?;
        // SAFETY: checked.
        unsafe { instantiate(store, module, imports.to_vec()).await }
    }
}

impl<T: Send + 'static> InstancePre<T> {
    /// Makes an instance as [`InstancePre::instantiate`] does; its start function may call asynchronous host functions, see
    /// [`Func::call_async`].
    ///
    /// # Errors
    /// Those of [`InstancePre::instantiate`], and of [`Func::call_async`].
    pub async fn instantiate_async(&self, mut store: impl AsContextMut<Data = T>) -> Result<Instance> {
        let mut store = store.as_context_mut();
        let imports = self.resolve(&mut store.as_context_mut().into_inner().opaque)?;
        // SAFETY: `resolve` has checked module and imports.
        unsafe { instantiate(store, self.module(), imports).await }
    }
}

impl<T: Send + 'static> Linker<T> {
    /// Defines an asynchronous host function from a closure that makes a future of its caller and a tuple of its arguments; see
    /// [`Func::wrap_async`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use wasmrun::{Caller, Engine, Linker, Module, Store};
    /// let engine = Engine::default();
    /// let mut linker = Linker::new(&engine);
    /// linker.func_wrap_async("host", "double after", |mut caller: Caller<'_, u32>, (n, ms): (i32, u32)| {
    ///     Box::new(async move {
    ///         tokio::time::sleep(Duration::from_millis(ms.into())).await;
    ///         *caller.data_mut() += 1;
    ///         2 * n
    ///     })
    /// })?;
    /// let module = Module::new(&engine, r#"(module
    ///     (import "host" "double after" (func $double_after (param i32 i32) (result i32)))
    ///     (func (export "run") (result i32) (call $double_after (i32.const 4) (i32.const 1))))"#)?;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    /// # runtime.block_on(async {
    /// let mut store = Store::new(&engine, 0);
    /// let instance = linker.instantiate_async(&mut store, &module).await?;
    /// let run = instance.get_typed_func::<(), i32>(&mut store, "run")?;
    /// assert_eq!(run.call_async(&mut store, ()).await?, 8);
    /// assert_eq!(*store.data(), 1);
    /// # Ok::<(), wasmrun::Error>(())
    /// # })?;
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Link`](crate::ErrorKind::Link) if the name is taken.
    pub fn func_wrap_async<Params: WasmResults, Results: IntoResults>(
        &mut self,
        module: &str,
        name: &str,
        func: impl for<'a> Fn(Caller<'a, T>, Params) -> Box<dyn Future<Output = Results> + Send + 'a>
        + Send
        + Sync
        + 'static,
    ) -> Result<&mut Self> {
        self.insert_host(module, name, host_func(func))
    }

    /// Defines an asynchronous host function of the given type that takes and returns [`Value`]s; see [`Func::new_async`].
    ///
    /// # Errors
    /// [`Link`](crate::ErrorKind::Link) if the name is taken.
    pub fn func_new_async(
        &mut self,
        module: &str,
        name: &str,
        ty: FuncType,
        func: impl for<'a> Fn(
            Caller<'a, T>,
            &'a [Value],
            &'a mut [Value],
        ) -> Box<dyn Future<Output = Result<()>> + Send + 'a>
        + Send
        + Sync
        + 'static,
    ) -> Result<&mut Self> {
        self.insert_host(module, name, host_func_over_values(ty, func))
    }

    /// Instantiates a module as [`Linker::instantiate`] does; its start function may call asynchronous host functions, see
    /// [`Func::call_async`].
    ///
    /// # Errors
    /// Those of [`Linker::instantiate`], and of [`Func::call_async`].
    pub async fn instantiate_async(&self, mut store: impl AsContextMut<Data = T>, module: &Module) -> Result<Instance> {
        let mut store = store.as_context_mut();
        let imports = self.resolve(&mut store.as_context_mut().into_inner().opaque, module)?;
        // SAFETY: `resolve` has checked module and imports.
        unsafe { instantiate(store, module, imports).await }
    }

    /// Defines the exports of a module as [`Linker::module`] does; its start function and `_initialize`, and the functions of a
    /// command, may call asynchronous host functions, see [`Func::call_async`].
    ///
    /// # Errors
    /// Those of [`Linker::module`], and of [`Func::call_async`].
    pub async fn module_async(
        &mut self,
        mut store: impl AsContextMut<Data = T>,
        name: &str,
        module: &Module,
    ) -> Result<&mut Self> {
        if module.is_command() {
            let pre = self.instantiate_pre(module)?;
            for (export, ty) in module.exported_funcs() {
                let (pre, own_name): (_, Arc<str>) = (pre.clone(), export.into());
                self.func_new_async(name, export, ty, move |mut caller, args, results| {
                    let (pre, own_name) = (pre.clone(), own_name.clone());
                    Box::new(async move {
                        admit_command(&caller)?;
                        let instance = pre.instantiate_async(&mut caller).await?;
                        let func = instance.get_func(&mut caller, &own_name).expect("the module exports it");
                        func.call_async(caller, args, results).await
                    })
                })?;
            }
            return Ok(self);
        }
        let instance = self.instantiate_async(store.as_context_mut(), module).await?;
        if let Some(initialize) = instance.get_func(store.as_context_mut(), "_initialize") {
            initialize.call_async(store.as_context_mut(), &[], &mut []).await?;
        }
        self.instance(store, name, instance)
    }
}
