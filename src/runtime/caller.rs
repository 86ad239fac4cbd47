//! What a host function sees of the code that called it.

use std::marker::PhantomData;
use std::ptr::NonNull;

use super::engine::Engine;
use super::external::Extern;
use super::instance::external;
use super::linear::LinearMemory;
use super::store::{AsContext, AsContextMut, StoreContext, StoreContextMut, StoreInner};
use crate::vm::context::{VMContext, VMMemory};
use crate::vm::heap::HeapStats;
use crate::vm::instance::InstanceData;
use crate::vm::store::StoreOpaque;

/// The caller of a host function: the store, and the instance the call came from.
///
/// ```
/// use wasmrun::{Caller, Engine, Instance, Linker, Module, Store};
/// let engine = Engine::default();
/// let module = Module::new(&engine, r#"(module
///     (import "host" "count" (func $count))
///     (func (export "run") (call $count) (call $count)))"#)?;
/// let mut linker = Linker::new(&engine);
/// linker.func_wrap("host", "count", |mut caller: Caller<'_, u32>| *caller.data_mut() += 1)?;
/// let mut store = Store::new(&engine, 0);
/// let instance = linker.instantiate(&mut store, &module)?;
/// instance.get_typed_func::<(), ()>(&mut store, "run")?.call(&mut store, ())?;
/// assert_eq!(*store.data(), 2);
/// # Ok::<(), wasmrun::Error>(())
/// ```
pub struct Caller<'a, T: 'static> {
    store: NonNull<StoreInner<T>>,
    _store: PhantomData<&'a mut StoreInner<T>>,
    /// Null if the host itself called.
    vmctx: *mut VMContext,
}

impl<'a, T> Caller<'a, T> {
    /// # Safety
    /// `store` must be the pointer of a store of data `T`, to which nobody else has access for `'a`; `vmctx` be null or a live
    /// context of it.
    pub(crate) unsafe fn new(store: *mut StoreOpaque, vmctx: *mut VMContext) -> Self {
        // SAFETY: the caller's promise; the data is behind the part that all stores have.
        Caller { store: unsafe { NonNull::new_unchecked(store.cast()) }, _store: PhantomData, vmctx }
    }

    fn inner(&self) -> &StoreInner<T> {
        // SAFETY: the promise made to `new`.
        unsafe { self.store.as_ref() }
    }

    fn instance(&self) -> Option<&InstanceData> {
        // SAFETY: null or live by the promise made to `new`.
        unsafe { self.vmctx.as_ref().map(|vmctx| &*vmctx.instance) }
    }

    /// The host's data.
    pub fn data(&self) -> &T {
        &self.inner().data
    }

    /// The host's data, to be changed.
    pub fn data_mut(&mut self) -> &mut T {
        // SAFETY: the promise made to `new`.
        unsafe { &mut self.store.as_mut().data }
    }

    /// As [`Store::gc`](crate::Store::gc). Nothing is done on another native stack than the one that the calling WebAssembly
    /// code is on.
    ///
    /// # Panics
    /// Resumes the panic of a host object that is dropped.
    pub fn gc(&mut self) {
        // SAFETY: the promise made to `new`.
        unsafe { self.store.as_mut() }.opaque.collect();
    }

    /// As [`Store::heap_stats`](crate::Store::heap_stats).
    pub fn heap_stats(&self) -> HeapStats {
        self.inner().opaque.heap.stats()
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.inner().engine
    }

    /// An export of the calling instance.
    pub fn get_export(&mut self, name: &str) -> Option<Extern> {
        let instance = self.instance()?;
        let index = instance.module.export_index.get(name)?;
        let index = instance.module.exports[*index as usize].index;
        // SAFETY: the context is live by the promise made to `new`.
        Some(unsafe { external(self.vmctx, index) })
    }

    /// The calling instance's memory as [`Caller::memory`] gives it, or one without bytes if it has none, and the host's data.
    pub fn memory_and_data(&mut self) -> (LinearMemory<'_>, &mut T) {
        let memory = self.instance().map_or(std::ptr::null_mut(), |instance| instance.host_memory);
        // SAFETY: null or live; the view borrows the store. Data and memories are apart.
        let memory = match unsafe { memory.as_ref() } {
            Some(memory) => unsafe { view(memory) },
            None => LinearMemory::new(&mut []),
        };
        // SAFETY: the promise made to `new`.
        (memory, unsafe { &mut self.store.as_mut().data })
    }

    /// The calling instance's memory: its export `memory`, or else its first memory.
    pub fn memory(&mut self) -> Option<LinearMemory<'_>> {
        let memory = self.instance()?.host_memory;
        // SAFETY: null or live; the view borrows the store.
        unsafe { memory.as_ref().map(|memory| view(memory)) }
    }
}

impl<T> std::fmt::Debug for Caller<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caller")
            .field("module", &self.instance().and_then(|instance| instance.module.names().module()))
            .finish_non_exhaustive()
    }
}

/// The view of a memory.
///
/// # Safety
/// The memory must be live and not grow or be accessed otherwise while the view is.
pub(crate) unsafe fn view<'a>(memory: &VMMemory) -> LinearMemory<'a> {
    // SAFETY: the first `length` bytes are committed.
    LinearMemory::new(unsafe { std::slice::from_raw_parts_mut(memory.base, memory.length) })
}

impl<T> AsContext for Caller<'_, T> {
    type Data = T;

    fn as_context(&self) -> StoreContext<'_, T> {
        StoreContext(self.inner())
    }
}

impl<T> AsContextMut for Caller<'_, T> {
    fn as_context_mut(&mut self) -> StoreContextMut<'_, T> {
        // SAFETY: the promise made to `new`; the caller is borrowed.
        unsafe { StoreContextMut::new(self.store) }
    }
}

impl<'a, T> From<&'a Caller<'_, T>> for StoreContext<'a, T> {
    fn from(caller: &'a Caller<'_, T>) -> Self {
        StoreContext(caller.inner())
    }
}

impl<'a, T> From<&'a mut Caller<'_, T>> for StoreContext<'a, T> {
    fn from(caller: &'a mut Caller<'_, T>) -> Self {
        StoreContext(caller.inner())
    }
}

impl<'a, T> From<&'a mut Caller<'_, T>> for StoreContextMut<'a, T> {
    fn from(caller: &'a mut Caller<'_, T>) -> Self {
        caller.as_context_mut()
    }
}
