//! Stores, which own all objects that WebAssembly code can reach, and the traits by which API functions borrow them.

use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;

use super::engine::Engine;
use super::limits::FindLimiter;
use super::value::Value;
use crate::error::Result;
use crate::vm::heap::HeapStats;
use crate::vm::store::StoreOpaque;

/// Owns instances and all other objects of WebAssembly code, together with data of the host that its functions can access
/// (specification, section 4.2.3).
///
/// Instances, functions, memories, tables, globals and tags live as long as the store; handles such as
/// [`Instance`](crate::Instance) refer to them and are used together with the store. A store can be sent to another thread if
/// its data can.
///
/// ```
/// use wasmrun::{Engine, Store};
/// let mut store = Store::new(&Engine::default(), 7);
/// *store.data_mut() += 1;
/// assert_eq!(store.into_data(), 8);
/// ```
///
/// The type of the data is fixed, even where Rust would convert between function types, because host functions in the store
/// read and write the data:
///
/// ```compile_fail,E0308
/// use wasmrun::Store;
/// fn narrow(store: Store<for<'a> fn(&'a str)>) -> Store<fn(&'static str)> {
///     store
/// }
/// ```
pub struct Store<T: 'static>(NonNull<StoreInner<T>>, PhantomData<fn(T) -> T>);

// SAFETY: a store owns everything that its pointers lead to or shares it with objects that are `Send` and `Sync` (host
// functions, the engine). So it moves to another thread as a whole, with its data, which is `Send`.
unsafe impl<T: Send> Send for Store<T> {}
// SAFETY: `&Store` only gives `&T`, and reads of objects that nothing writes to through `&Store` without a lock.
unsafe impl<T: Sync> Sync for Store<T> {}

/// A store: the part that does not depend on the type of the host's data, followed by the rest.
///
/// Contexts have the pointer that [`Store::new`] makes, and running code accesses the store through it. `Store`, contexts and
/// callers therefore keep that pointer and no reference, because those accesses would make a reference invalid.
#[repr(C)]
pub(crate) struct StoreInner<T> {
    pub opaque: StoreOpaque,
    pub engine: Engine,
    /// Finds the limiter in the data; `None` if the store is not limited.
    pub limiter: Option<FindLimiter<T>>,
    /// A buffer for arguments and results of host functions that take [`Value`]s. It is empty; only its capacity is reused.
    pub host_values: Vec<Value>,
    pub data: T,
}

impl<T> Store<T> {
    /// An empty store for modules of `engine`, with the host's `data`.
    pub fn new(engine: &Engine, data: T) -> Self {
        let inner = Box::into_raw(Box::new(StoreInner {
            opaque: StoreOpaque::new(engine.core()),
            engine: engine.clone(),
            limiter: None,
            host_values: Vec::new(),
            data,
        }));
        // SAFETY: the box was leaked just now, so the pointer is valid, not null, and nobody else has it.
        unsafe {
            (*inner).opaque.set_own_pointer(inner.cast());
            Store(NonNull::new_unchecked(inner), PhantomData)
        }
    }

    /// The store's contents.
    pub(crate) fn inner(&self) -> &StoreInner<T> {
        // SAFETY: the box lives until `drop`, and no code runs in the store while `self` is borrowed.
        unsafe { self.0.as_ref() }
    }

    /// The store's contents, to be changed.
    pub(crate) fn inner_mut(&mut self) -> &mut StoreInner<T> {
        // SAFETY: the box lives until `drop`; `self` is borrowed exclusively, so nobody else accesses it and no code runs.
        unsafe { self.0.as_mut() }
    }

    /// The host's data.
    pub fn data(&self) -> &T {
        &self.inner().data
    }

    /// The host's data, to be changed.
    pub fn data_mut(&mut self) -> &mut T {
        &mut self.inner_mut().data
    }

    /// The engine the store was made for.
    pub fn engine(&self) -> &Engine {
        &self.inner().engine
    }

    /// Runs a garbage collection: frees exceptions, and drops the store's references to host objects ([`ExternRef`]s), that
    /// nothing in the store or held by the host refers to any more. That happens by itself when there are many of them.
    ///
    /// Stacks are scanned conservatively: a number on a stack that happens to look like a reference keeps an object alive.
    ///
    /// [`ExternRef`]: crate::ExternRef
    ///
    /// ```
    /// use wasmrun::{Engine, ExternRef, Global, GlobalType, Mutability, Store, ValType, Value};
    /// let mut store = Store::new(&Engine::default(), ());
    /// let ty = GlobalType::new(ValType::EXTERNREF, Mutability::Var);
    /// let global = Global::new(&mut store, ty, ExternRef::new("a host object").into())?;
    /// global.set(&mut store, Value::ExternRef(None))?;
    /// store.gc();
    /// assert_eq!(store.heap_stats().externs, 0);
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    ///
    /// # Panics
    /// Resumes the panic of a host object's drop.
    pub fn gc(&mut self) {
        self.inner_mut().opaque.collect();
    }

    /// The number and size of collected objects in the store.
    pub fn heap_stats(&self) -> HeapStats {
        self.inner().opaque.heap_stats()
    }

    /// Units of fuel left. A new store has none.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if the engine was made without [`Config::consume_fuel`](crate::Config::consume_fuel).
    ///
    /// ```
    /// use wasmrun::{Config, Engine, Store};
    /// let mut store = Store::new(&Engine::new(Config::new().consume_fuel(true))?, ());
    /// assert_eq!(store.get_fuel()?, 0);
    /// store.set_fuel(1_000_000)?;
    /// assert_eq!(store.get_fuel()?, 1_000_000);
    /// assert!(Store::new(&Engine::default(), ()).get_fuel().is_err());
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    pub fn get_fuel(&self) -> Result<u64> {
        self.inner().opaque.fuel()
    }

    /// Sets how many units of fuel are left; what was left is gone. See [`Config::consume_fuel`](crate::Config::consume_fuel)
    /// for what they buy.
    ///
    /// # Errors
    /// As for [`Store::get_fuel`].
    pub fn set_fuel(&mut self, fuel: u64) -> Result<()> {
        self.inner_mut().opaque.set_fuel(fuel)
    }

    /// Drops the store and returns the host's data.
    pub fn into_data(self) -> T {
        let this = std::mem::ManuallyDrop::new(self);
        // SAFETY: the box was leaked in `new`, and `ManuallyDrop` keeps the store from freeing it.
        unsafe { Box::from_raw(this.0.as_ptr()) }.data
    }
}

impl<T> Drop for Store<T> {
    fn drop(&mut self) {
        // SAFETY: the box was leaked in `new`, and only its store frees it.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

impl<T: fmt::Debug> fmt::Debug for Store<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("data", self.data()).finish_non_exhaustive()
    }
}

/// Shared access to a store with data `T`; see [`AsContext`].
pub struct StoreContext<'a, T: 'static>(pub(crate) &'a StoreInner<T>);

/// Exclusive access to a store with data `T`; see [`AsContextMut`].
pub struct StoreContextMut<'a, T: 'static>(NonNull<StoreInner<T>>, PhantomData<&'a mut StoreInner<T>>);

// SAFETY: as `&Store<T>`.
unsafe impl<T: Sync> Send for StoreContext<'_, T> {}
// SAFETY: as `&Store<T>`.
unsafe impl<T: Sync> Sync for StoreContext<'_, T> {}
// SAFETY: as `&mut Store<T>`.
unsafe impl<T: Send> Send for StoreContextMut<'_, T> {}
// SAFETY: a shared one gives what `&Store<T>` gives.
unsafe impl<T: Sync> Sync for StoreContextMut<'_, T> {}

impl<'a, T> StoreContextMut<'a, T> {
    /// # Safety
    /// The pointer must be the own pointer of a store, to which nobody else has access for `'a`.
    pub(crate) unsafe fn new(store: NonNull<StoreInner<T>>) -> Self {
        StoreContextMut(store, PhantomData)
    }

    /// The store's contents. The reference must not be used after code has run in the store.
    pub(crate) fn into_inner(mut self) -> &'a mut StoreInner<T> {
        // SAFETY: nobody else has access to the store for `'a`, by the promise made to `new`.
        unsafe { self.0.as_mut() }
    }

    pub(super) fn inner(&self) -> &StoreInner<T> {
        // SAFETY: nobody else has access to the store for `'a`, by the promise made to `new`, and `self` is borrowed.
        unsafe { self.0.as_ref() }
    }
}

impl<T> fmt::Debug for StoreContext<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreContext").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for StoreContextMut<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreContextMut").finish_non_exhaustive()
    }
}

/// Types that give shared access to a store: [`Store`], [`Caller`](crate::Caller), [`StoreContext`], [`StoreContextMut`], and
/// references to these.
pub trait AsContext {
    /// The store's data.
    type Data: 'static;

    /// Borrows the store.
    fn as_context(&self) -> StoreContext<'_, Self::Data>;
}

/// Types that give exclusive access to a store: [`Store`], [`Caller`](crate::Caller), [`StoreContextMut`], and exclusive
/// references to these.
pub trait AsContextMut: AsContext {
    /// Borrows the store.
    fn as_context_mut(&mut self) -> StoreContextMut<'_, Self::Data>;
}

impl<T> AsContext for Store<T> {
    type Data = T;

    fn as_context(&self) -> StoreContext<'_, T> {
        StoreContext(self.inner())
    }
}

impl<T> AsContextMut for Store<T> {
    fn as_context_mut(&mut self) -> StoreContextMut<'_, T> {
        StoreContextMut(self.0, PhantomData)
    }
}

impl<T> AsContext for StoreContext<'_, T> {
    type Data = T;

    fn as_context(&self) -> StoreContext<'_, T> {
        StoreContext(self.0)
    }
}

impl<T> AsContext for StoreContextMut<'_, T> {
    type Data = T;

    fn as_context(&self) -> StoreContext<'_, T> {
        StoreContext(self.inner())
    }
}

impl<T> AsContextMut for StoreContextMut<'_, T> {
    fn as_context_mut(&mut self) -> StoreContextMut<'_, T> {
        StoreContextMut(self.0, PhantomData)
    }
}

impl<C: AsContext> AsContext for &C {
    type Data = C::Data;

    fn as_context(&self) -> StoreContext<'_, C::Data> {
        C::as_context(self)
    }
}

impl<C: AsContext> AsContext for &mut C {
    type Data = C::Data;

    fn as_context(&self) -> StoreContext<'_, C::Data> {
        C::as_context(self)
    }
}

impl<C: AsContextMut> AsContextMut for &mut C {
    fn as_context_mut(&mut self) -> StoreContextMut<'_, C::Data> {
        C::as_context_mut(self)
    }
}

impl<'a, T> StoreContext<'a, T> {
    /// The host's data.
    pub fn data(&self) -> &'a T {
        &self.0.data
    }

    /// The engine the store was made for.
    pub fn engine(&self) -> &'a Engine {
        &self.0.engine
    }

    /// Units of fuel left; see [`Store::get_fuel`].
    ///
    /// # Errors
    /// As for [`Store::get_fuel`].
    pub fn get_fuel(&self) -> Result<u64> {
        self.0.opaque.fuel()
    }
}

impl<T> StoreContextMut<'_, T> {
    /// The host's data.
    pub fn data(&self) -> &T {
        &self.inner().data
    }

    /// The engine the store was made for.
    pub fn engine(&self) -> &Engine {
        &self.inner().engine
    }

    /// Units of fuel left; see [`Store::get_fuel`].
    ///
    /// # Errors
    /// As for [`Store::get_fuel`].
    pub fn get_fuel(&self) -> Result<u64> {
        self.inner().opaque.fuel()
    }

    /// Sets how many units of fuel are left; see [`Store::set_fuel`].
    ///
    /// # Errors
    /// As for [`Store::get_fuel`].
    pub fn set_fuel(&mut self, fuel: u64) -> Result<()> {
        self.as_context_mut().into_inner().opaque.set_fuel(fuel)
    }

    /// The host's data, to be changed.
    pub fn data_mut(&mut self) -> &mut T {
        &mut self.as_context_mut().into_inner().data
    }

    /// Runs a garbage collection; see [`Store::gc`]. Does nothing if a host function has switched to another native stack than
    /// that of the calling WebAssembly code.
    ///
    /// # Panics
    /// Resumes the panic of a host object's drop.
    pub fn gc(&mut self) {
        self.as_context_mut().into_inner().opaque.collect();
    }

    /// The number and size of collected objects in the store; see [`Store::heap_stats`].
    pub fn heap_stats(&self) -> HeapStats {
        self.inner().opaque.heap_stats()
    }
}

impl<'a, C: AsContext> From<&'a C> for StoreContext<'a, C::Data> {
    fn from(context: &'a C) -> Self {
        context.as_context()
    }
}

impl<'a, C: AsContext> From<&'a mut C> for StoreContext<'a, C::Data> {
    fn from(context: &'a mut C) -> Self {
        (*context).as_context()
    }
}

impl<'a, C: AsContextMut> From<&'a mut C> for StoreContextMut<'a, C::Data> {
    fn from(context: &'a mut C) -> Self {
        context.as_context_mut()
    }
}

impl<'a, T> From<StoreContextMut<'a, T>> for StoreContext<'a, T> {
    fn from(context: StoreContextMut<'a, T>) -> Self {
        StoreContext(context.into_inner())
    }
}

impl<T: Default> Default for Store<T> {
    /// An empty store for modules of a new engine with the default settings: `store.engine()` gives that.
    ///
    /// # Panics
    /// As [`Engine::default`].
    fn default() -> Self {
        Store::new(&Engine::default(), T::default())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::process::{Resource, Rlimit, setrlimit};

    use super::*;
    use crate::vm::store::STACK_GUARD;

    /// The permissions of the page at an address.
    fn permissions(address: usize) -> String {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let line = maps.lines().find(|line| {
            let (from, rest) = line.split_once('-').unwrap();
            let to = rest.split_once(' ').unwrap().0;
            let number = |text| usize::from_str_radix(text, 16).unwrap();
            (number(from)..number(to)).contains(&address)
        });
        line.expect("the page is mapped").split(' ').nth(1).unwrap().to_owned()
    }

    /// For new address space, and for address space that another store has used.
    #[test]
    fn what_lies_behind_the_value_stack_is_not_accessible() {
        let mut config = crate::Config::new();
        let engine = Engine::new(config.max_wasm_stack(100_000)).unwrap();
        for _ in 0..3 {
            let mut store = Store::new(&engine, ());
            let opaque = &mut store.inner_mut().opaque;
            assert!(opaque.value_stack.base().is_null(), "a store that has run no code has none");
            let entry = opaque.enter_wasm(crate::sys::stack_pointer()).unwrap();
            let (base, end) = (opaque.vm.value_top as usize, opaque.vm.value_end as usize);
            opaque.exit_wasm(entry);
            assert!(end - base >= 100_000);
            assert_eq!([base, end - 8].map(permissions), ["rw-p"; 2]);
            assert_eq!([end, end + STACK_GUARD - 8].map(permissions), ["---p"; 2]);
        }
    }

    #[test]
    fn an_idle_store_keeps_no_stack_where_many_do() {
        let engine = Engine::new(crate::Config::new().pack_memories(true)).unwrap();
        let mut store = Store::new(&engine, ());
        let opaque = &mut store.inner_mut().opaque;
        for _ in 0..3 {
            let outer = opaque.enter_wasm(crate::sys::stack_pointer()).unwrap();
            assert!(!opaque.value_stack.base().is_null());
            let inner = opaque.enter_wasm(crate::sys::stack_pointer()).unwrap();
            opaque.exit_wasm(inner);
            assert!(!opaque.value_stack.base().is_null(), "the outer call still has it");
            opaque.exit_wasm(outer);
            assert!(opaque.value_stack.base().is_null());
        }
    }

    /// Bytes of value stack to ask for: more than the address space has room for.
    const WANTED: usize = if size_of::<usize>() == 8 { 4 << 30 } else { 1 << 30 };

    /// Runs in a child process, whose address space is limited to `room` bytes more than it has already.
    fn with_address_space(room: u64) {
        let used: u64 =
            std::fs::read_to_string("/proc/self/statm").unwrap().split(' ').next().unwrap().parse().unwrap();
        let most = used * region::page::size() as u64 + room;
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        let mut config = crate::Config::new();
        let engine = Engine::new(config.strategy(crate::Strategy::Interpreter).max_wasm_stack(WANTED)).unwrap();
        let module = crate::Module::new(&engine, "(module (func (export \"f\") (result i32) (i32.const 7)))").unwrap();
        setrlimit(Resource::As, limit).unwrap();
        let mut store = Store::new(&engine, ());
        let instance = crate::Instance::new(&mut store, &module, &[]).unwrap();
        let f = instance.get_typed_func::<(), i32>(&mut store, "f").unwrap();
        let result = f.call(&mut store, ());
        let length = store.inner().opaque.value_stack.accessible();
        match room {
            0 => assert!(
                matches!(result.unwrap_err().kind(), crate::ErrorKind::Resource(m) if m.contains("value stack"))
            ),
            _ => assert!(result.unwrap() == 7 && (32 << 20..WANTED).contains(&length)),
        }
    }

    /// If address space is short, the value stack is smaller; if there is none at all, calls fail with a `Resource` error.
    #[test]
    fn address_space_may_be_short() {
        const ROOM: &str = "WASMRUN_TEST_ADDRESS_SPACE";
        /// Exit status if the test runs in an emulator, which can't start a program for its processor; such limits do not
        /// hold there either.
        const NOT_STARTED: i32 = 127;
        if let Ok(room) = std::env::var(ROOM) {
            return with_address_space(room.parse().unwrap());
        }
        for room in [0, 128 << 20] {
            let mut child = std::process::Command::new(std::env::current_exe().unwrap());
            let name = "runtime::store::tests::address_space_may_be_short";
            let output = child.args(["--exact", name, "--nocapture"]).env(ROOM, room.to_string()).output().unwrap();
            if output.status.code() == Some(NOT_STARTED) {
                return;
            }
            assert!(output.status.success(), "{room}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}
