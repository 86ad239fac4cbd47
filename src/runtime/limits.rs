//! Limits on the growth of a store, for the embedder to set.

use super::store::{Store, StoreInner};
use crate::error::{Error, Result};
use crate::vm::limits::{GrowthRequest, LimitedResource, Limiter};
use crate::vm::store::StoreOpaque;

/// Decides how far a store may grow; see [`Store::limiter`].
///
/// It is asked when an instance, memory or table is made, and when a memory or table grows, by a guest or by the host. All
/// collected objects (exceptions, and host objects behind externrefs) count as one more memory, which grows in steps of
/// 64 KiB; before it grows, a collection is tried if one is worth its time.
///
/// It does not limit other memory of the runtime: code, the value stack
/// ([`Config::max_wasm_stack`](crate::Config::max_wasm_stack) does), and what host functions allocate. To limit all memory of a
/// store together, time, or what programs write, see [`Budget`](crate::Budget). A store may have both: the limiter is asked
/// first.
pub trait ResourceLimiter: Send {
    /// Whether a memory may grow from `current` to `desired` bytes; `current` is 0 if the memory is to be made. `maximum` is the
    /// maximum of its type, in bytes; `None` for the collected objects.
    ///
    /// With `false`, `memory.grow` gives -1 to the guest, and a throw traps with a [`Resource`](crate::ErrorKind::Resource)
    /// error.
    ///
    /// # Errors
    /// An error is a trap for the guest.
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool>;

    /// Called when a memory could not grow although the limiter allowed it, because the system or the store's
    /// [`Budget`](crate::Budget) has no room, or because its type does not allow it. `error` has
    /// the reason. Does nothing by default.
    ///
    /// # Errors
    /// An error is a trap for the guest.
    fn memory_grow_failed(&mut self, error: Error) -> Result<()> {
        let _ = error;
        Ok(())
    }

    /// Whether a table may grow from `current` to `desired` elements; `current` is 0 if the table is to be made. `maximum` is the
    /// maximum of its type, in elements.
    ///
    /// With `false`, `table.grow` gives -1 to the guest.
    ///
    /// # Errors
    /// An error is a trap for the guest.
    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool>;

    /// As [`memory_grow_failed`](Self::memory_grow_failed), for a table.
    ///
    /// # Errors
    /// An error is a trap for the guest.
    fn table_grow_failed(&mut self, error: Error) -> Result<()> {
        let _ = error;
        Ok(())
    }

    /// The most instances that the store may have. The default is 10,000.
    fn instances(&self) -> usize {
        DEFAULT_COUNT
    }

    /// The most memories that the store may have. The default is 10,000.
    fn memories(&self) -> usize {
        DEFAULT_COUNT
    }

    /// The most tables that the store may have. The default is 10,000.
    fn tables(&self) -> usize {
        DEFAULT_COUNT
    }
}

pub(super) const DEFAULT_COUNT: usize = 10_000;

/// A [`ResourceLimiter`] with fixed limits, made by a [`StoreLimitsBuilder`].
///
/// ```
/// use wasmrun::{Engine, Instance, Module, Store, StoreLimits, StoreLimitsBuilder};
/// struct Tenant {
///     limits: StoreLimits,
/// }
/// let engine = Engine::default();
/// let limits = StoreLimitsBuilder::new().memory_size(2 << 16).instances(1).build();
/// let mut store = Store::new(&engine, Tenant { limits });
/// store.limiter(|tenant| &mut tenant.limits);
///
/// let text = r#"(module (memory 1) (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))"#;
/// let instance = Instance::new(&mut store, &Module::new(&engine, text)?, &[])?;
/// let grow = instance.get_typed_func::<i32, i32>(&mut store, "grow")?;
/// assert_eq!(grow.call(&mut store, 1)?, 1);
/// assert_eq!(grow.call(&mut store, 1)?, -1);
/// # Ok::<(), wasmrun::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct StoreLimits {
    memory_size: Option<usize>,
    table_elements: Option<usize>,
    instances: usize,
    memories: usize,
    tables: usize,
    trap_on_grow_failure: bool,
}

impl Default for StoreLimits {
    fn default() -> Self {
        StoreLimits {
            memory_size: None,
            table_elements: None,
            instances: DEFAULT_COUNT,
            memories: DEFAULT_COUNT,
            tables: DEFAULT_COUNT,
            trap_on_grow_failure: false,
        }
    }
}

impl StoreLimits {
    fn grows(
        &self,
        desired: usize,
        limit: Option<usize>,
        maximum: Option<usize>,
        (what, unit): (&str, &str),
    ) -> Result<bool> {
        let fits = limit.is_none_or(|limit| desired <= limit) && maximum.is_none_or(|maximum| desired <= maximum);
        if !fits && self.trap_on_grow_failure {
            return Err(Error::resource(format!("a {what} of {desired} {unit} is beyond the store's limit")));
        }
        Ok(fits)
    }

    fn failed(&self, error: Error) -> Result<()> {
        if self.trap_on_grow_failure { Err(error) } else { Ok(()) }
    }
}

impl ResourceLimiter for StoreLimits {
    fn memory_growing(&mut self, _: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        self.grows(desired, self.memory_size, maximum, ("memory", "bytes"))
    }

    fn memory_grow_failed(&mut self, error: Error) -> Result<()> {
        self.failed(error)
    }

    fn table_growing(&mut self, _: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        self.grows(desired, self.table_elements, maximum, ("table", "elements"))
    }

    fn table_grow_failed(&mut self, error: Error) -> Result<()> {
        self.failed(error)
    }

    fn instances(&self) -> usize {
        self.instances
    }

    fn memories(&self) -> usize {
        self.memories
    }

    fn tables(&self) -> usize {
        self.tables
    }
}

/// Makes [`StoreLimits`]. By default sizes are not limited, and there may be 10,000 instances, memories and tables each.
#[derive(Clone, Debug, Default)]
pub struct StoreLimitsBuilder(StoreLimits);

impl StoreLimitsBuilder {
    /// The default limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the most bytes that each memory may have, and all collected objects together.
    pub fn memory_size(mut self, bytes: usize) -> Self {
        self.0.memory_size = Some(bytes);
        self
    }

    /// Sets the most elements that each table may have.
    pub fn table_elements(mut self, elements: usize) -> Self {
        self.0.table_elements = Some(elements);
        self
    }

    /// Sets the most instances that the store may have.
    pub fn instances(mut self, count: usize) -> Self {
        self.0.instances = count;
        self
    }

    /// Sets the most memories that the store may have.
    pub fn memories(mut self, count: usize) -> Self {
        self.0.memories = count;
        self
    }

    /// Sets the most tables that the store may have.
    pub fn tables(mut self, count: usize) -> Self {
        self.0.tables = count;
        self
    }

    /// Sets whether growth that fails is a trap for the guest, instead of the result -1. The default is `false`.
    pub fn trap_on_grow_failure(mut self, trap: bool) -> Self {
        self.0.trap_on_grow_failure = trap;
        self
    }

    /// The limits.
    pub fn build(self) -> StoreLimits {
        self.0
    }
}

/// Finds the limiter in a store's data.
pub(crate) type FindLimiter<T> = Box<dyn (FnMut(&mut T) -> &mut dyn ResourceLimiter) + Send + Sync>;

impl<T: 'static> Store<T> {
    /// Sets the limiter that decides how far the store may grow from now on. `limiter` finds it in the host's data.
    ///
    /// If the limiter panics while a guest grows something, the panic resumes in the host's call into WebAssembly code, as
    /// for a host function.
    ///
    /// See [`StoreLimits`] for an example.
    pub fn limiter(&mut self, limiter: impl (FnMut(&mut T) -> &mut dyn ResourceLimiter) + Send + Sync + 'static) {
        let inner = self.inner_mut();
        inner.limiter = Some(Box::new(limiter));
        inner.opaque.limiter = Some(Limiter { growing: growing::<T>, failed: failed::<T>, max_count: max_count::<T> });
    }
}

/// The limiter of a store.
///
/// # Safety
/// `store` must be the own pointer of a live store with data `T` and a limiter. For `'a`, nobody else may access the store's
/// data or its `limiter`.
unsafe fn limiter<'a, T: 'static>(store: *mut StoreOpaque) -> &'a mut dyn ResourceLimiter {
    let inner = store.cast::<StoreInner<T>>();
    // SAFETY: the store has data `T`, and nobody else accesses the two fields, by the caller's promise.
    unsafe {
        let find = (*inner).limiter.as_mut().expect("it was set with the functions that ask it");
        find(&mut (*inner).data)
    }
}

/// See [`Limiter::growing`].
///
/// # Safety
/// As for [`Limiter`]; the store must have data `T`.
unsafe fn growing<T: 'static>(
    store: *mut StoreOpaque,
    resource: LimitedResource,
    growth: GrowthRequest,
) -> Result<bool> {
    let GrowthRequest { current, desired, maximum } = growth;
    // SAFETY: the store has data `T` and nobody refers to it, by the caller's promise.
    let limiter = unsafe { limiter::<T>(store) };
    match resource {
        LimitedResource::Table => limiter.table_growing(current, desired, maximum),
        LimitedResource::Memory | LimitedResource::Heap | LimitedResource::Instance => {
            limiter.memory_growing(current, desired, maximum)
        }
    }
}

/// See [`Limiter::failed`].
///
/// # Safety
/// As for [`Limiter`]; the store must have data `T`.
unsafe fn failed<T: 'static>(store: *mut StoreOpaque, resource: LimitedResource, error: Error) -> Result<()> {
    // SAFETY: the store has data `T` and nobody refers to it, by the caller's promise.
    let limiter = unsafe { limiter::<T>(store) };
    match resource {
        LimitedResource::Table => limiter.table_grow_failed(error),
        LimitedResource::Memory | LimitedResource::Heap | LimitedResource::Instance => {
            limiter.memory_grow_failed(error)
        }
    }
}

/// See [`Limiter::max_count`].
///
/// # Safety
/// As for [`Limiter`]; the store must have data `T`.
unsafe fn max_count<T: 'static>(store: *mut StoreOpaque, resource: LimitedResource) -> usize {
    // SAFETY: the store has data `T` and nobody refers to it, by the caller's promise.
    let limiter = unsafe { limiter::<T>(store) };
    match resource {
        LimitedResource::Instance => limiter.instances(),
        LimitedResource::Memory | LimitedResource::Heap => limiter.memories(),
        LimitedResource::Table => limiter.tables(),
    }
}
