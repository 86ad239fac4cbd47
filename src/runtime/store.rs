//! Stores: the owner of all objects that WebAssembly code can reach.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::engine::Engine;
use super::func::HostFunc;
use super::global::GlobalData;
use super::instance::InstanceData as Instance;
use super::memory::MemoryData;
use super::table::TableData;
use super::value::Value;
use crate::error::Trap;
use crate::error::{Error, Result};
use crate::module::registry::RegisteredType;
use crate::sys::{self, NativeStack};
use crate::vm::context::{VMException, VMFuncRef, VMStore, VMTag};
use crate::vm::exception::{self, ExnRef, Way};
use crate::vm::heap::{self, Heap, HeapStats};
use crate::vm::space::Reservation;

pub(crate) use super::instance::InstanceData;

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
    pub data: T,
}

/// What is ours, and what others point to. To move a `Box` or to reach into it would make their pointers invalid.
#[derive(Debug)]
pub(crate) struct Shared<T>(NonNull<T>);

impl<T> Shared<T> {
    pub fn new(value: T) -> Self {
        Shared(NonNull::from(Box::leak(Box::new(value))))
    }

    pub fn as_ptr(&self) -> *mut T {
        self.0.as_ptr()
    }
}

impl<T> std::ops::Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: ours until drop; nobody changes it while this is borrowed.
        unsafe { self.0.as_ref() }
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: a box was leaked in `new`, and who has the pointer does not use it after its owner.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// What engines and objects see of a store. `VMContext::store` points here.
#[repr(C)]
pub(crate) struct StoreOpaque {
    pub vm: VMStore,
    /// The innermost entry into compiled code, null if there is none.
    #[cfg(jit)]
    pub activation: *mut (),
    /// The pointer from `Store::new`, to the whole store; null before.
    this: *mut StoreOpaque,
    engine: Engine,
    /// Unique in the process; handles carry it.
    pub id: u64,
    raised: Option<Error>,
    /// What the exception `vm.on_its_way` has left.
    pub way: Way,
    /// A panic of a host function, on its way to the innermost Rust caller of WebAssembly code.
    pub panic: Option<Box<dyn Any + Send>>,
    /// Empty: room for the arguments and results of host functions over values, kept for the next.
    pub host_values: Vec<Value>,
    /// Mapped for `vm.value_top..vm.value_end`.
    value_stack: Reservation,
    pub memories: Vec<MemoryData>,
    pub tables: Vec<TableData>,
    pub globals: Vec<GlobalData>,
    /// Boxes keep their place: tags are known by their address.
    #[expect(clippy::vec_box, reason = "addresses must not change")]
    pub tags: Vec<Box<VMTag>>,
    pub heap: Heap,
    /// The native stack that the code runs on.
    stack: NativeStack,
    /// How many other native stacks have code that waits for that.
    suspended: usize,
    /// Contexts point to their instance.
    pub instances: Vec<Shared<Instance>>,
    /// References to host functions, by the function's address.
    host_refs: HashMap<usize, Shared<VMFuncRef>>,
    /// Keeps the host functions that `host_refs` point to.
    host_funcs: Vec<(Arc<HostFunc>, RegisteredType)>,
}

/// The smallest value stack, in bytes.
const LEAST_STACK: usize = 64 << 10;

/// Bytes behind the value stack that are not accessible: the check of a frame's size, were it wrong, would let the frame's
/// instructions reach so far at most, as they name a slot in 16 bits.
const STACK_GUARD: usize = 8 << 16;

/// Address space for frames, with a guard behind it: less than configured where there is not so much.
fn value_stack(engine: &Engine) -> Option<Reservation> {
    let mut bytes = engine.config().max_wasm_stack.clamp(LEAST_STACK, 16 << 30);
    loop {
        match Reservation::new(engine.spaces(), bytes + STACK_GUARD, bytes) {
            None if bytes > LEAST_STACK => bytes = (bytes / 2).max(LEAST_STACK),
            found => return found,
        }
    }
}

impl StoreOpaque {
    fn new(engine: &Engine) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // Without room for a stack the store still serves host objects; calls then fail.
        let value_stack = value_stack(engine).unwrap_or_default();
        let (base, length) = (value_stack.base(), value_stack.accessible());
        StoreOpaque {
            vm: VMStore {
                stack_limit: 0,
                nest_limit: 0,
                value_top: base.cast(),
                value_end: base.wrapping_add(length).cast(),
                thrown: std::ptr::null_mut(),
                raise: crate::jit::raise_code(),
                on_its_way: std::ptr::null_mut(),
            },
            #[cfg(jit)]
            activation: std::ptr::null_mut(),
            this: std::ptr::null_mut(),
            engine: engine.clone(),
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            raised: None,
            way: Way::default(),
            panic: None,
            host_values: Vec::new(),
            value_stack,
            memories: Vec::new(),
            tables: Vec::new(),
            globals: Vec::new(),
            tags: Vec::new(),
            heap: Heap::new(engine.config().collect_always),
            stack: NativeStack::default(),
            suspended: 0,
            instances: Vec::new(),
            host_refs: HashMap::new(),
            host_funcs: Vec::new(),
        }
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The store as contexts point to it. What may run code must use no other pointer or reference before and after it.
    pub fn as_ptr(&self) -> *mut StoreOpaque {
        self.this
    }

    /// Records the error with which the running code is about to trap.
    pub fn raise(&mut self, error: Error) {
        self.raised = Some(error);
    }

    /// The error recorded by [`StoreOpaque::raise`].
    pub fn take_raised(&mut self) -> Error {
        self.raised.take().expect("a trap status is only returned with an error raised")
    }

    /// The exception a slot refers to, kept for the host.
    ///
    /// # Safety
    /// The slot must be null or an exception of this store.
    pub unsafe fn exn_ref(&self, slot: u64) -> Option<ExnRef> {
        (slot != 0).then(|| exception::pin(self, slot as usize as *mut VMException))
    }

    /// Where the value stack begins.
    pub fn value_base(&self) -> *const u64 {
        self.value_stack.base().cast()
    }

    /// The native stack that this store's code runs on, up to where it was entered.
    pub fn stack(&self) -> NativeStack {
        self.stack
    }

    /// Bytes of native stack that the code which runs now may use in all.
    pub fn whole_stack(&self) -> usize {
        // A thread may have less stack than the configuration allows; where its bounds are unknown, that is all one knows.
        self.stack.high.saturating_sub(self.vm.stack_limit).min(self.engine.config().max_wasm_stack)
    }

    /// Enters this store's code on the native stack that the caller is on, whose stack pointer is `here`: the code's frames
    /// are below that. [`StoreOpaque::leave`] is to be called with what this gives.
    ///
    /// # Errors
    /// [`Resource`](crate::ErrorKind::Resource) if there is too little of the stack, or nobody knows how much;
    /// [`Trap::StackOverflow`] if code waits on too many other stacks.
    #[inline]
    pub fn enter(&mut self, here: usize) -> Result<Entered> {
        if self.stack.contains(here) {
            // Code that waits on this very stack, whose limits stay in force.
            return Ok(Entered::SameStack);
        }
        if self.stack.is_running() {
            return self.enter_other_stack(here);
        }
        self.begin_stack(here)?;
        Ok(Entered::First)
    }

    /// Sets the limits for the stack that the caller is on.
    #[inline]
    fn begin_stack(&mut self, here: usize) -> Result<()> {
        let (stack, reserve) = sys::current_stack(here)?;
        self.stack = stack;
        // Never into the reserve for Rust code.
        let most = self.engine.config().max_wasm_stack;
        self.vm.stack_limit = stack.high.saturating_sub(most).max(stack.low.saturating_add(reserve));
        self.vm.nest_limit = self.vm.stack_limit.saturating_add(self.whole_stack() / 4);
        Ok(())
    }

    #[cold]
    fn enter_other_stack(&mut self, here: usize) -> Result<Entered> {
        /// Each may have as much stack for WebAssembly code as the configuration says.
        const MOST: usize = 256;
        if self.suspended == MOST {
            return Err(Trap::StackOverflow.into());
        }
        let outer = OtherStack {
            stack: self.stack,
            stack_limit: self.vm.stack_limit,
            nest_limit: self.vm.nest_limit,
            frozen: Default::default(),
        };
        self.begin_stack(here)?;
        self.suspended += 1;
        Ok(Entered::Other(Box::new(OtherStack { frozen: self.heap.freeze(), ..outer })))
    }

    /// Leaves this store's code.
    #[inline]
    pub fn leave(&mut self, entered: Entered) {
        match entered {
            Entered::SameStack => {}
            Entered::First => self.stack = NativeStack::default(),
            Entered::Other(outer) => {
                self.suspended -= 1;
                self.stack = outer.stack;
                self.vm.stack_limit = outer.stack_limit;
                self.vm.nest_limit = outer.nest_limit;
                self.heap.thaw(outer.frozen);
            }
        }
    }

    /// Collects what nothing refers to any more if that is worth the time.
    ///
    /// No reference may be where only Rust code knows of it, see [`heap::collect`]; what the host holds as `ExternRef` or
    /// `ExnRef` is safe.
    ///
    /// # Panics
    /// Resumes the panic of a host object that is dropped.
    #[inline]
    pub fn collect_if_due(&mut self) {
        if self.heap.is_due(0) || self.heap.has_dead() {
            self.collect();
        }
    }

    /// Collects what nothing refers to any more. As for [`StoreOpaque::collect_if_due`].
    #[cold]
    pub fn collect(&mut self) {
        // SAFETY: host functions were called with `value_top` above all live frames, and other Rust code holds no slots by
        // the caller's promise.
        unsafe { heap::collect(self) };
        heap::drop_all(self.heap.take_dead());
    }

    /// The reference to a host function, the same each time.
    pub fn host_ref(&mut self, func: &Arc<HostFunc>) -> NonNull<VMFuncRef> {
        let reference = self.host_refs.entry(Arc::as_ptr(func) as usize).or_insert_with(|| {
            let sig = self.engine.register_type(&func.ty);
            let reference = Shared::new(VMFuncRef {
                code: crate::jit::host_entry(&func.ty),
                callee: std::ptr::null_mut(),
                owner: Arc::as_ptr(func).cast_mut().cast(),
                sig: sig.number(),
                index: VMFuncRef::HOST,
            });
            // SAFETY: nobody else has the pointer yet.
            unsafe { (*reference.as_ptr()).callee = reference.as_ptr().cast() };
            self.host_funcs.push((func.clone(), sig));
            reference
        });
        reference.0
    }
}

/// How a store's code was entered; for the way back.
pub(crate) enum Entered {
    /// From the host.
    First,
    /// From a host function that it had called.
    SameStack,
    /// From a host function that it had called on another stack.
    Other(Box<OtherStack>),
}

/// A stack with code that waits.
pub(crate) struct OtherStack {
    stack: NativeStack,
    stack_limit: usize,
    nest_limit: usize,
    frozen: heap::Frozen,
}

impl<T> Store<T> {
    /// An empty store for modules of `engine`, with the host's `data`.
    pub fn new(engine: &Engine, data: T) -> Self {
        let inner = Box::into_raw(Box::new(StoreInner { opaque: StoreOpaque::new(engine), data }));
        // SAFETY: the box is ours, and its pointer not null.
        unsafe {
            (*inner).opaque.this = inner.cast();
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
        &self.inner().opaque.engine
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

/// Which store a handle is of, and the object's index in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Stored {
    store: u64,
    index: u32,
}

impl Stored {
    pub fn new(store: &StoreOpaque, index: usize) -> Self {
        Stored { store: store.id, index: u32::try_from(index).expect("a store holds fewer than 2^32 objects") }
    }

    /// The index, for the store the handle is of.
    ///
    /// # Panics
    /// If it is another one's.
    #[inline]
    pub fn index(self, store: &StoreOpaque) -> usize {
        assert!(self.belongs_to(store), "object used with another store than its own");
        self.index as usize
    }

    pub fn belongs_to(self, store: &StoreOpaque) -> bool {
        self.store == store.id
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
    use super::*;

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

    /// In a process of its own, with this much address space besides what it has already.
    fn with_address_space(room: u64) {
        let used: u64 =
            std::fs::read_to_string("/proc/self/statm").unwrap().split(' ').next().unwrap().parse().unwrap();
        let most = used * region::page::size() as u64 + room;
        let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
        let mut config = crate::Config::new();
        let engine = Engine::new(config.strategy(crate::Strategy::Interpreter).max_wasm_stack(4 << 30)).unwrap();
        let module = crate::Module::new(&engine, "(module (func (export \"f\") (result i32) (i32.const 7)))").unwrap();
        // SAFETY: a plain call with a pointer to a local.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
        let mut store = Store::new(&engine, ());
        let instance = crate::Instance::new(&mut store, &module, &[]).unwrap();
        let f = instance.get_typed_func::<(), i32>(&mut store, "f").unwrap();
        let result = f.call(&mut store, ());
        let length = store.inner().opaque.value_stack.accessible();
        match room {
            0 => assert!(
                matches!(result.unwrap_err().kind(), crate::ErrorKind::Resource(m) if m.contains("value stack"))
            ),
            _ => assert!(result.unwrap() == 7 && (32 << 20..4 << 30).contains(&length)),
        }
    }

    /// A smaller value stack does too; that there is no room for any is no fault of the program.
    #[test]
    fn address_space_may_be_short() {
        const ROOM: &str = "WASMRUN_TEST_ADDRESS_SPACE";
        if let Ok(room) = std::env::var(ROOM) {
            return with_address_space(room.parse().unwrap());
        }
        for room in [0, 128 << 20] {
            let mut child = std::process::Command::new(std::env::current_exe().unwrap());
            let name = "runtime::store::tests::address_space_may_be_short";
            let output = child.args(["--exact", name, "--nocapture"]).env(ROOM, room.to_string()).output().unwrap();
            assert!(output.status.success(), "{room}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}
