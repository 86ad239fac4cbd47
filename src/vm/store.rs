//! What engines and objects see of a store.

use std::any::Any;
use std::collections::HashMap;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::context::{VMException, VMFuncRef, VMStore, VMTag};
use super::engine::EngineCore;
use super::exception::{self, Way};
use super::func::HostFunc;
use super::global::GlobalData;
use super::heap::{self, Heap};
use super::instance::InstanceData;
use super::limits::{Limiter, Resource};
use super::memory::MemoryData;
use super::space::Reservation;
use super::table::TableData;
use crate::error::{Error, ExnRef, Result, Trap};
use crate::module::registry::RegisteredType;
use crate::sys::{self, NativeStack};

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
    /// The innermost entry into native code, null if there is none; see [`activation`](super::activation).
    pub activation: *mut (),
    /// The pointer from `Store::new`, to the whole store; null before.
    this: *mut StoreOpaque,
    pub engine: Arc<EngineCore>,
    /// Unique in the process; handles carry it.
    pub id: u64,
    raised: Option<Error>,
    /// What the exception `vm.on_its_way` has left.
    pub way: Way,
    /// A panic of a host function, on its way to the innermost Rust caller of WebAssembly code.
    pub panic: Option<Box<dyn Any + Send>>,
    /// Mapped for `vm.value_top..vm.value_end`.
    pub value_stack: Reservation,
    /// Who decides how far the store may grow, if somebody does.
    pub limiter: Option<Limiter>,
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
    pub instances: Vec<Shared<InstanceData>>,
    /// References to host functions, by the function's address.
    host_refs: HashMap<usize, Shared<VMFuncRef>>,
    /// Keeps the host functions that `host_refs` point to.
    host_funcs: Vec<(Arc<HostFunc>, RegisteredType)>,
}

/// The smallest value stack, in bytes.
const LEAST_STACK: usize = 64 << 10;

/// The largest value stack, in bytes: a part of the address space.
const MOST_STACK: usize = if size_of::<usize>() == 8 { 16 << 30 } else { 256 << 20 };

/// Bytes behind the value stack that are not accessible: the check of a frame's size, were it wrong, would let the frame's
/// instructions reach so far at most, as they name a slot in 16 bits.
pub(crate) const STACK_GUARD: usize = 8 << 16;

/// Address space for frames, with a guard behind it: less than configured where there is not so much.
fn value_stack(engine: &EngineCore) -> Option<Reservation> {
    let mut bytes = engine.config.max_wasm_stack.clamp(LEAST_STACK, MOST_STACK);
    loop {
        match Reservation::new(&engine.spaces, bytes + STACK_GUARD, bytes) {
            None if bytes > LEAST_STACK => bytes = (bytes / 2).max(LEAST_STACK),
            found => return found,
        }
    }
}

impl StoreOpaque {
    /// An empty store. [`StoreOpaque::set_own_pointer`] is to be called when it has its place.
    pub fn new(engine: &Arc<EngineCore>) -> Self {
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
                raise: (engine.hooks.raise)(),
                on_its_way: std::ptr::null_mut(),
                native_calls: engine.hooks.native_calls,
            },
            activation: std::ptr::null_mut(),
            this: std::ptr::null_mut(),
            engine: engine.clone(),
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            raised: None,
            way: Way::default(),
            panic: None,
            value_stack,
            limiter: None,
            memories: Vec::new(),
            tables: Vec::new(),
            globals: Vec::new(),
            tags: Vec::new(),
            heap: Heap::new(engine.config.collect_always),
            stack: NativeStack::default(),
            suspended: 0,
            instances: Vec::new(),
            host_refs: HashMap::new(),
            host_funcs: Vec::new(),
        }
    }

    /// How many there are of what a limiter counts.
    pub fn count(&self, resource: Resource) -> usize {
        match resource {
            Resource::Instance => self.instances.len(),
            Resource::Memory => self.memories.len(),
            Resource::Table => self.tables.len(),
        }
    }

    /// Sets the pointer that contexts get.
    pub fn set_own_pointer(&mut self, this: *mut StoreOpaque) {
        self.this = this;
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
        self.stack.high.saturating_sub(self.vm.stack_limit).min(self.engine.config.max_wasm_stack)
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
        let most = self.engine.config.max_wasm_stack;
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
            let sig = self.engine.types.register_func(&func.ty);
            let reference = Shared::new(VMFuncRef {
                code: (self.engine.hooks.host_entry)(&func.ty),
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
