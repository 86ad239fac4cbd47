//! The view that a host function has of its caller: the store, and the calling instance.

use std::marker::PhantomData;
use std::ptr::NonNull;

use super::engine::Engine;
use super::external::Extern;
use super::instance::external;
use super::linear::LinearMemory;
use super::module::ModuleExport;
use super::store::{AsContext, AsContextMut, StoreContext, StoreContextMut, StoreInner};
use crate::error::Result;
use crate::vm::budget::IoAccount;
use crate::vm::context::VMContext;
use crate::vm::fuel;
use crate::vm::heap::HeapStats;
use crate::vm::instance::{HostMemory, InstanceData};
use crate::vm::interrupt::Interrupts;
use crate::vm::shared::SharedBytes;
use crate::vm::store::StoreOpaque;

/// Gives a host function access to its store and to the instance that called it.
///
/// A closure that takes a `Caller` as its first parameter gets one; see [`IntoFunc`](crate::IntoFunc).
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
    /// The context of the calling instance; null if the host called the function.
    vmctx: *mut VMContext,
}

// SAFETY: it gives access to the store as `&mut Store<T>` does, which may be sent to another thread if the data may be.
unsafe impl<T: Send> Send for Caller<'_, T> {}
// SAFETY: a shared one gives what `&Store<T>` gives.
unsafe impl<T: Sync> Sync for Caller<'_, T> {}

impl<'a, T> Caller<'a, T> {
    /// # Safety
    /// `store` must be the own pointer of a store with data `T`, to which nobody else has access for `'a`; `vmctx` must be null
    /// or a live context of the store.
    pub(crate) unsafe fn new(store: *mut StoreOpaque, vmctx: *mut VMContext) -> Self {
        // SAFETY: a store's own pointer is not null. It is for the whole `StoreInner<T>`, of which `StoreOpaque` is the first
        // field.
        Caller { store: unsafe { NonNull::new_unchecked(store.cast()) }, _store: PhantomData, vmctx }
    }

    fn inner(&self) -> &StoreInner<T> {
        // SAFETY: the store is live and accessed through this `Caller` only, by the promise made to `new`.
        unsafe { self.store.as_ref() }
    }

    /// The store's own pointer.
    pub(super) fn store_ptr(&mut self) -> *mut StoreOpaque {
        self.store.as_ptr().cast()
    }

    /// The requests to the store.
    pub(super) fn interrupts(&self) -> &Interrupts {
        &self.inner().opaque.interrupts
    }

    fn instance(&self) -> Option<&InstanceData> {
        // SAFETY: the context is null or live, by the promise made to `new`.
        unsafe { self.vmctx.as_ref().map(|vmctx| &*vmctx.instance) }
    }

    /// The host's data.
    pub fn data(&self) -> &T {
        &self.inner().data
    }

    /// The host's data, to be changed.
    pub fn data_mut(&mut self) -> &mut T {
        // SAFETY: the store is live and accessed through this `Caller` only, by the promise made to `new`.
        unsafe { &mut self.store.as_mut().data }
    }

    /// Runs a garbage collection; see [`Store::gc`](crate::Store::gc). Does nothing if the host function has switched to
    /// another native stack than that of the calling WebAssembly code.
    ///
    /// # Panics
    /// Resumes the panic of a host object's drop.
    pub fn gc(&mut self) {
        // SAFETY: the store is live and accessed through this `Caller` only, by the promise made to `new`.
        unsafe { self.store.as_mut() }.opaque.collect();
    }

    /// The number and size of collected objects in the store; see [`Store::heap_stats`](crate::Store::heap_stats).
    pub fn heap_stats(&self) -> HeapStats {
        self.inner().opaque.heap_stats()
    }

    /// Units of fuel left, after the price of this call; see [`Store::get_fuel`](crate::Store::get_fuel).
    ///
    /// # Errors
    /// As for [`Store::get_fuel`](crate::Store::get_fuel).
    pub fn get_fuel(&self) -> Result<u64> {
        self.inner().opaque.fuel()
    }

    /// Sets how many units of fuel are left; see [`Store::set_fuel`](crate::Store::set_fuel).
    ///
    /// # Errors
    /// As for [`Store::get_fuel`](crate::Store::get_fuel).
    pub fn set_fuel(&mut self, fuel: u64) -> Result<()> {
        // SAFETY: the store is live and accessed through this `Caller` only, by the promise made to `new`.
        unsafe { self.store.as_mut() }.opaque.set_fuel(fuel)
    }

    /// Whether the engine's code consumes fuel.
    pub(crate) fn consumes_fuel(&self) -> bool {
        self.inner().opaque.vm.consumes_fuel
    }

    /// Takes fuel for the work that the host function is about to do, so that a guest can't have much work done for little
    /// fuel. Does nothing without [`Config::consume_fuel`](crate::Config::consume_fuel).
    ///
    /// # Errors
    /// [`Trap::OutOfFuel`](crate::Trap::OutOfFuel), for the function to return, if less is left. Then nothing is left.
    ///
    /// ```
    /// use wasmrun::{Caller, Config, Engine, Func, Store, Trap};
    /// let mut store = Store::new(&Engine::new(Config::new().consume_fuel(true))?, ());
    /// let hash = Func::wrap(&mut store, |mut caller: Caller<'_, ()>, bytes: u32| {
    ///     caller.consume_fuel(u64::from(bytes) / 16)
    ///     // ... and hash that many bytes
    /// });
    /// store.set_fuel(100)?;
    /// let hash = hash.typed::<u32, ()>(&store)?;
    /// hash.call(&mut store, 1024)?;
    /// assert_eq!(store.get_fuel()?, 36);
    /// assert_eq!(hash.call(&mut store, 1024).unwrap_err().trap(), Some(Trap::OutOfFuel));
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    pub fn consume_fuel(&mut self, units: u64) -> Result<()> {
        // SAFETY: the store is live and accessed through this `Caller` only, by the promise made to `new`.
        unsafe { fuel::pay(self.store.as_ptr().cast(), units) }
    }

    /// The engine of the store.
    pub fn engine(&self) -> &Engine {
        &self.inner().engine
    }

    /// The export `name` of the calling instance; `None` if it has none of that name, or if the host called the function.
    pub fn get_export(&mut self, name: &str) -> Option<Extern> {
        let instance = self.instance()?;
        let index = instance.module.export_index.get(name)?;
        let index = instance.module.exports[*index as usize].index;
        // SAFETY: the context is live by the promise made to `new`.
        Some(unsafe { external(self.vmctx, index) })
    }

    /// An export of the calling instance that [`Module::get_export_index`](crate::Module::get_export_index) has found; `None` if
    /// the calling instance is of another module, or if the host called the function.
    pub fn get_module_export(&mut self, export: &ModuleExport) -> Option<Extern> {
        let index = export.index_in(&self.instance()?.module)?;
        // SAFETY: the context is live by the promise made to `new`, and the index is its module's.
        Some(unsafe { external(self.vmctx, index) })
    }

    /// The calling instance's memory as [`Caller::memory`] gives it, or one without bytes if it has none, and the host's data.
    pub fn memory_and_data(&mut self) -> (LinearMemory<'_>, &mut T) {
        let (memory, data, _) = self.parts();
        (memory, data)
    }

    /// As [`Caller::memory_and_data`], and the account of what the store's code writes and opens.
    #[inline]
    pub(crate) fn parts(&mut self) -> (LinearMemory<'_>, &mut T, &IoAccount) {
        let memory = self.instance().map_or(HostMemory::NONE, |instance| instance.host_memory);
        // SAFETY: null or live; the view borrows the store. Data and memories are apart.
        let memory = unsafe { view(memory) }.unwrap_or_else(|| LinearMemory::new(&mut []));
        let store = self.store.as_ptr();
        // SAFETY: the promise made to `new`; account and data are two fields of the store.
        unsafe { (memory, &mut (*store).data, &(*store).opaque.account.io) }
    }

    /// A view of the calling instance's memory: its export `memory`, or else its first memory. `None` if it has no memory, or
    /// if the host called the function.
    pub fn memory(&mut self) -> Option<LinearMemory<'_>> {
        let memory = self.instance()?.host_memory;
        // SAFETY: the pointer is null or to a memory of the live instance. The view borrows the `Caller`, so nobody else
        // accesses the store while it is held.
        unsafe { view(memory) }
    }
}

impl<T> std::fmt::Debug for Caller<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caller")
            .field("module", &self.instance().and_then(|instance| instance.module.names().module()))
            .finish_non_exhaustive()
    }
}

/// A view of a memory, if there is one.
///
/// # Safety
/// For `'a`, the memory must be live; if it is not shared, it must not grow, and be accessed through the view only.
#[inline]
pub(crate) unsafe fn view<'a>(memory: HostMemory) -> Option<LinearMemory<'a>> {
    // SAFETY: the first `length` bytes of a memory are accessible; the caller promises the rest.
    unsafe {
        let vm = memory.vm.as_ref()?;
        Some(match memory.is_shared {
            true => LinearMemory::shared(SharedBytes::new(vm)),
            false => LinearMemory::new(std::slice::from_raw_parts_mut(vm.base, vm.length())),
        })
    }
}

impl<T> AsContext for Caller<'_, T> {
    type Data = T;

    fn as_context(&self) -> StoreContext<'_, T> {
        StoreContext(self.inner())
    }
}

impl<T> AsContextMut for Caller<'_, T> {
    fn as_context_mut(&mut self) -> StoreContextMut<'_, T> {
        // SAFETY: the store is accessed through this `Caller` only, by the promise made to `new`, and that is borrowed.
        unsafe { StoreContextMut::new(self.store) }
    }
}

impl<'a, T> From<Caller<'a, T>> for StoreContextMut<'a, T> {
    fn from(caller: Caller<'a, T>) -> Self {
        // SAFETY: the store is accessed through this `Caller` only, by the promise made to `new`, and that is given up.
        unsafe { StoreContextMut::new(caller.store) }
    }
}
