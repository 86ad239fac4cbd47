//! Stores: the owner of all objects that WebAssembly code can reach.

use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;

use super::engine::Engine;
use super::limits::FindLimiter;
use super::value::Value;
use crate::vm::heap::HeapStats;
use crate::vm::store::StoreOpaque;

/// A store: instances with their memories, tables and globals, and data of the host's that its functions can reach.
///
/// Instances, functions, memories, tables, globals and tags live as long as the store. A store can be sent to another thread if its data can.
///
/// ```
/// use wasmrun::{Engine, Store};
/// let mut store = Store::new(&Engine::default(), 7);
/// *store.data_mut() += 1;
/// assert_eq!(store.into_data(), 8);
/// ```
///
/// The type of the data is fixed, also where Rust would take one function type for another, because host functions in the
/// store know it:
///
/// ```compile_fail,E0308
/// use wasmrun::Store;
/// fn narrow(store: Store<for<'a> fn(&'a str)>) -> Store<fn(&'static str)> {
///     store
/// }
/// ```
pub struct Store<T: 'static>(NonNull<StoreInner<T>>, PhantomData<fn(T) -> T>);

// SAFETY: a store owns everything its pointers lead to (contexts, memories, host functions, which are Send + Sync), so
// it moves as a whole; the data moves with it.
unsafe impl<T: Send> Send for Store<T> {}
// SAFETY: `&Store` gives only shared access to the data and reads of the objects.
unsafe impl<T: Sync> Sync for Store<T> {}

/// The store with its data behind the part that does not depend on the data's type.
///
/// Contexts hold the pointer that [`Store::new`] makes, and running code uses the store by it. So the host's handles keep that
/// pointer too, and not a reference, which what the code does would make invalid.
#[repr(C)]
pub(crate) struct StoreInner<T> {
    pub opaque: StoreOpaque,
    pub engine: Engine,
    /// Finds the limiter in the data, if there is one.
    pub limiter: Option<FindLimiter<T>>,
    /// Empty: room for the arguments and results of host functions over values, kept for the next.
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
        // SAFETY: the box is ours, and its pointer not null.
        unsafe {
            (*inner).opaque.set_own_pointer(inner.cast());
            Store(NonNull::new_unchecked(inner), PhantomData)
        }
    }

    pub(crate) fn inner(&self) -> &StoreInner<T> {
        // SAFETY: the box is ours until drop, and `&self` keeps others from changing it meanwhile.
        unsafe { self.0.as_ref() }
    }

    pub(crate) fn inner_mut(&mut self) -> &mut StoreInner<T> {
        // SAFETY: the box is ours until drop, and `&mut self` is the only way to it.
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

    /// Frees the exceptions, and drops the host objects behind externrefs, that nothing refers to any more. This happens by
    /// itself when there are many of them.
    ///
    /// What is on WebAssembly's stacks is not looked at by type: a number that happens to look like a reference keeps
    /// what it would refer to.
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
    /// Resumes the panic of a host object that is dropped.
    pub fn gc(&mut self) {
        self.inner_mut().opaque.collect();
    }

    /// How many exceptions and externrefs there are.
    pub fn heap_stats(&self) -> HeapStats {
        self.inner().opaque.heap.stats()
    }

    /// Ends the store; the host's data remains.
    pub fn into_data(self) -> T {
        let this = std::mem::ManuallyDrop::new(self);
        // SAFETY: the box was leaked in `new`, and the store that would free it is not dropped.
        unsafe { Box::from_raw(this.0.as_ptr()) }.data
    }
}

impl<T> Drop for Store<T> {
    fn drop(&mut self) {
        // SAFETY: the box was leaked in `new` and nobody else frees it.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

impl<T: fmt::Debug> fmt::Debug for Store<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("data", self.data()).finish_non_exhaustive()
    }
}

/// Shared access to a store of data `T`, as methods of the runtime's objects take it.
pub struct StoreContext<'a, T: 'static>(pub(crate) &'a StoreInner<T>);

/// Exclusive access to a store of data `T`.
pub struct StoreContextMut<'a, T: 'static>(NonNull<StoreInner<T>>, PhantomData<&'a mut StoreInner<T>>);

impl<'a, T> StoreContextMut<'a, T> {
    /// # Safety
    /// The pointer must be that of a store, to which nobody else has access for `'a`.
    pub(crate) unsafe fn new(store: NonNull<StoreInner<T>>) -> Self {
        StoreContextMut(store, PhantomData)
    }

    /// The store, until code runs in it.
    pub(crate) fn into_inner(mut self) -> &'a mut StoreInner<T> {
        // SAFETY: the promise made to `new`.
        unsafe { self.0.as_mut() }
    }

    fn inner(&self) -> &StoreInner<T> {
        // SAFETY: the promise made to `new`; `&self` keeps others from changing it meanwhile.
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

/// What can give shared access to a store: a [`Store`], a [`Caller`](crate::Caller), a context or a reference to one.
pub trait AsContext {
    /// The store's data.
    type Data: 'static;

    /// Borrows the store.
    fn as_context(&self) -> StoreContext<'_, Self::Data>;
}

/// What can give exclusive access to a store.
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

impl<T> StoreContext<'_, T> {
    /// The host's data.
    pub fn data(&self) -> &T {
        &self.0.data
    }
}

impl<T> StoreContextMut<'_, T> {
    /// The host's data.
    pub fn data(&self) -> &T {
        &self.inner().data
    }

    /// The host's data, to be changed.
    pub fn data_mut(&mut self) -> &mut T {
        &mut self.as_context_mut().into_inner().data
    }

    /// As [`Store::gc`]. Nothing is done on another native stack than the one that the calling WebAssembly code is on.
    ///
    /// # Panics
    /// Resumes the panic of a host object that is dropped.
    pub fn gc(&mut self) {
        self.as_context_mut().into_inner().opaque.collect();
    }

    /// As [`Store::heap_stats`].
    pub fn heap_stats(&self) -> HeapStats {
        self.inner().opaque.heap.stats()
    }
}

impl<'a, T> From<&'a Store<T>> for StoreContext<'a, T> {
    fn from(store: &'a Store<T>) -> Self {
        StoreContext(store.inner())
    }
}

impl<'a, T> From<&'a mut Store<T>> for StoreContext<'a, T> {
    fn from(store: &'a mut Store<T>) -> Self {
        StoreContext(store.inner())
    }
}

impl<'a, T> From<&'a mut Store<T>> for StoreContextMut<'a, T> {
    fn from(store: &'a mut Store<T>) -> Self {
        StoreContextMut(store.0, PhantomData)
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

    /// Of each store, and of one that gets the address space of another.
    #[test]
    fn what_lies_behind_the_value_stack_is_not_accessible() {
        let mut config = crate::Config::new();
        let engine = Engine::new(config.max_wasm_stack(100_000)).unwrap();
        for _ in 0..3 {
            let store = Store::new(&engine, ());
            let vm = &store.inner().opaque.vm;
            let (base, end) = (vm.value_top as usize, vm.value_end as usize);
            assert!(end - base >= 100_000);
            assert_eq!([base, end - 8].map(permissions), ["rw-p"; 2]);
            assert_eq!([end, end + STACK_GUARD - 8].map(permissions), ["---p"; 2]);
        }
    }

    /// Bytes of value stack that are asked for: more than there is room for.
    const WANTED: usize = if size_of::<usize>() == 8 { 4 << 30 } else { 1 << 30 };

    /// In a process of its own, with this much address space besides what it has already.
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

    /// A smaller value stack does too; that there is no room for any is no fault of the program.
    #[test]
    fn address_space_may_be_short() {
        const ROOM: &str = "WASMRUN_TEST_ADDRESS_SPACE";
        /// An emulator can't start another program for its processor; nor do such limits hold there.
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
