//! The part of a store that engines and runtime objects see, which does not depend on the type of the host's data.

use std::any::Any;
use std::collections::HashMap;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::budget::Account;
use super::context::{VMFuncRef, VMStore, VMTag};
use super::engine::EngineCore;
use super::exception::{self, Propagation};
use super::extern_ref::ExternRef;
use super::fiber::FiberState;
use super::func::HostFunc;
use super::gc::GcHeap;
use super::global::GlobalData;
use super::heap::{self, Heap};
use super::instance::InstanceData;
use super::interrupt::{Deadlines, Interrupts, Requests};
use super::limits::GrowthRequest;
use super::limits::{LimitedResource, Limiter};
use super::memory::{MEMORY_GUARD, MemoryData, Placement};
use super::sample::Sampler;
use super::shared::SharedMemory;
use super::space::{Reservation, SpaceUse, has_mappings_for, is_crowded, refused};
use super::table::TableData;
use crate::error::{Error, ExnRef, Result, Trap};
use crate::module::registry::RegisteredType;
use crate::sys::{self, NativeStack};

/// An owning pointer like `Box`, but raw pointers to the value stay valid when the owner is moved or dereferenced: `Box`
/// asserts unique access to its value, which would make them invalid.
#[derive(Debug)]
pub(crate) struct AliasableBox<T>(NonNull<T>);

impl<T> AliasableBox<T> {
    pub fn new(value: T) -> Self {
        AliasableBox(NonNull::from(Box::leak(Box::new(value))))
    }

    /// The pointer to the value, valid as long as the owner lives.
    pub fn as_ptr(&self) -> *mut T {
        self.0.as_ptr()
    }
}

impl<T> std::ops::Deref for AliasableBox<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the value lives until `drop`. Whoever writes to it through a pointer does so while no reference is in use.
        unsafe { self.0.as_ref() }
    }
}

impl<T> Drop for AliasableBox<T> {
    fn drop(&mut self) {
        // SAFETY: `new` leaked the box; holders of the pointer must not use it after the owner is dropped.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// The part of a store that engines and runtime objects see. `VMContext::store` points here.
#[repr(C)]
pub(crate) struct StoreOpaque {
    pub vm: VMStore,
    /// The innermost activation of native code in this store, null if there is none; see [`activation`](super::activation).
    pub activation: *mut (),
    /// The store's own pointer, made by `Store::new` for the whole allocation; null before.
    this: *mut StoreOpaque,
    pub engine: Arc<EngineCore>,
    /// Unique in the process. Handles of the store's objects have it, so that their use with another store is noticed.
    pub id: u64,
    /// The pending error, with which the running code is about to trap.
    raised: Option<Error>,
    /// The propagation of the exception `vm.in_flight`.
    pub propagation: Propagation,
    /// The panic of a host function or limiter, which the innermost Rust caller of WebAssembly code resumes.
    pub panic: Option<Box<dyn Any + Send>>,
    /// The stack of the interpreter's frames: the memory of `vm.value_top..vm.value_end`, and a guard. A store has none before
    /// it first runs code.
    pub value_stack: Reservation,
    /// Number of packed memories, which native code can't use.
    packed: usize,
    /// Whether the system has refused to pin the memories.
    pinning_refused: bool,
    /// Whether there is something to give back when the store stops running code.
    rests: bool,
    /// Requests from other threads.
    pub interrupts: Arc<Interrupts>,
    pub deadlines: Deadlines,
    pub account: Account,
    /// Who samples the running code.
    pub sampler: Option<Arc<Sampler>>,
    /// Decides how far the store may grow; `None` if it is not limited.
    pub limiter: Option<Limiter>,
    pub memories: Vec<MemoryData>,
    /// The index in `memories` of each shared memory, by its address.
    shared_memories: HashMap<usize, usize>,
    pub tables: Vec<TableData>,
    pub globals: Vec<GlobalData>,
    /// Contexts point to tags.
    #[expect(clippy::vec_box, reason = "addresses must not change")]
    pub tags: Vec<Box<VMTag>>,
    pub heap: Heap,
    pub gc: GcHeap,
    /// The native stack that this store's code runs on now.
    pub(super) stack: NativeStack,
    /// Number of other native stacks with suspended code of this store.
    pub(super) suspended: usize,
    /// The coroutine that the running code may suspend; null if it may not.
    pub(super) fiber: *mut FiberState,
    /// Contexts point to their instance.
    pub instances: Vec<AliasableBox<InstanceData>>,
    /// References to host functions, by the address of the `HostFunc`.
    host_refs: HashMap<usize, AliasableBox<VMFuncRef>>,
    /// Keeps the host functions that `host_refs` point to, and their types.
    host_funcs: Vec<(Arc<HostFunc>, RegisteredType)>,
}

/// The smallest value stack, in bytes.
const MIN_STACK: usize = 64 << 10;

/// The most stacks with suspended code of one store: each may use as much as the configuration allows for one.
pub(super) const MAX_SUSPENDED: usize = 256;

/// The largest value stack, in bytes, so that it takes a small part of the address space.
const MAX_STACK: usize = if size_of::<usize>() == 8 { 16 << 30 } else { 256 << 20 };

/// Inaccessible bytes after the value stack. An instruction names a slot of its frame in 16 bits, so even if the check of a
/// frame's size were wrong, no instruction of the frame could reach beyond the guard.
pub(crate) const STACK_GUARD: usize = 8 << 16;

/// The most memories of a store that are pinned and packed again whenever it runs compiled code.
const MAX_REPACKED_MEMORIES: usize = 16;

/// Reserves a value stack and its guard: as many bytes as configured, or fewer if address space is short.
fn value_stack(engine: &EngineCore) -> Option<Reservation> {
    let mut bytes = engine.config.max_wasm_stack.clamp(MIN_STACK, MAX_STACK);
    loop {
        match Reservation::new(&engine.spaces, bytes + STACK_GUARD, bytes, SpaceUse::ValueStack) {
            None if bytes > MIN_STACK => bytes = (bytes / 2).max(MIN_STACK),
            found => return found,
        }
    }
}

impl StoreOpaque {
    /// An empty store. [`StoreOpaque::set_own_pointer`] must be called when it is at its final address.
    pub fn new(engine: &Arc<EngineCore>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let store = StoreOpaque {
            vm: VMStore {
                stack_limit: 0,
                nest_limit: 0,
                value_top: std::ptr::null_mut(),
                value_end: std::ptr::null_mut(),
                thrown: 0,
                raise: (engine.hooks.raise)(),
                poll: (engine.hooks.poll)(),
                wait: (engine.hooks.wait)(),
                exit_fp: 0,
                innermost: std::ptr::null(),
                in_flight: 0,
                native_calls: engine.hooks.native_calls,
                fuel: 0,
                consumes_fuel: engine.config.consume_fuel,
                gc_base: std::ptr::null_mut(),
                gc_cursor: 0,
                gc_limit: 0,
                gc_end: 0,
                gc_marking: 0,
                func_table: std::ptr::null(),
                func_count: 0,
            },
            activation: std::ptr::null_mut(),
            this: std::ptr::null_mut(),
            engine: engine.clone(),
            id,
            raised: None,
            propagation: Propagation::default(),
            panic: None,
            value_stack: Reservation::default(),
            packed: 0,
            pinning_refused: false,
            rests: false,
            interrupts: Arc::new(Interrupts::new()),
            deadlines: Deadlines::new(engine.config.epoch_interruption),
            account: Account::new(),
            sampler: None,
            limiter: None,
            memories: Vec::new(),
            shared_memories: HashMap::new(),
            tables: Vec::new(),
            globals: Vec::new(),
            tags: Vec::new(),
            heap: Heap::new(engine.config.collect),
            gc: GcHeap::new(id, engine.config.collect),
            stack: NativeStack::default(),
            suspended: 0,
            fiber: std::ptr::null_mut(),
            instances: Vec::new(),
            host_refs: HashMap::new(),
            host_funcs: Vec::new(),
        };
        if engine.config.epoch_interruption {
            store.interrupts.request(Requests::EPOCH);
        }
        store
    }

    /// The number of instances, memories, tables or heaps in the store.
    pub fn count(&self, resource: LimitedResource) -> usize {
        match resource {
            LimitedResource::Instance => self.instances.len(),
            LimitedResource::Memory => self.memories.len(),
            LimitedResource::Table => self.tables.len(),
            LimitedResource::Heap => 1,
        }
    }

    /// Sets the store's own pointer; see [`StoreOpaque::as_ptr`].
    pub fn set_own_pointer(&mut self, this: *mut StoreOpaque) {
        self.this = this;
    }

    /// The store's own pointer, which contexts have too. Running code accesses the store through it, so a reference to the
    /// store that was made before a call into WebAssembly code must not be used after it.
    pub fn as_ptr(&self) -> *mut StoreOpaque {
        self.this
    }

    /// Sets the pending error, with which the running code is about to trap.
    pub fn raise(&mut self, error: Error) {
        self.raised = Some(error);
    }

    /// Takes the pending error that [`StoreOpaque::raise`] has set.
    ///
    /// # Panics
    /// If there is none.
    pub fn take_raised(&mut self) -> Error {
        self.raised.take().expect("a trap status is only returned with an error raised")
    }

    /// A reference for the host to the exception of an `exnref` slot; `None` for null.
    ///
    /// # Safety
    /// The slot must be null or a live exception of this store.
    pub unsafe fn exn_ref(&self, slot: u64) -> Option<ExnRef> {
        (slot != 0).then(|| exception::pin(self, slot as u32))
    }

    /// Address of the first slot of the value stack.
    pub fn value_base(&self) -> *const u64 {
        self.value_stack.base().cast()
    }

    /// The native stack that this store's code runs on: from its lowest usable address to where the code was entered.
    pub fn stack(&self) -> NativeStack {
        self.stack
    }

    /// Bytes of native stack between where the running code was entered and its limit.
    pub fn whole_stack(&self) -> usize {
        // The native stack may be smaller than the configuration allows.
        self.stack.high.saturating_sub(self.vm.stack_limit).min(self.max_stack())
    }

    /// The most bytes of stack that code may use.
    #[inline]
    fn max_stack(&self) -> usize {
        self.account.stack(self.engine.config.max_wasm_stack)
    }

    /// Prepares to run this store's code on the current native stack: sets the stack limits. `here` is the stack pointer; the
    /// code's frames must be below it. [`StoreOpaque::exit_wasm`] must be called with the result when the code has returned.
    ///
    /// # Errors
    /// [`Resource`](crate::ErrorKind::Resource) if the stack is too small or its bounds are unknown;
    /// [`Trap::StackOverflow`] if too many other stacks have suspended code of this store; [`Trap::CpuTime`] if none is left.
    #[inline]
    pub fn enter_wasm(&mut self, here: usize) -> Result<WasmEntry> {
        if self.stack.contains(here) {
            // Called back by a host function on the same stack: the limits stay as they are.
            return Ok(WasmEntry::SameStack);
        }
        if self.stack.is_running() {
            return self.enter_other_stack(here);
        }
        self.begin_cpu_time()?;
        if self.vm.value_end.is_null() {
            self.take_value_stack();
        }
        if let Err(error) = self.set_stack_limits(here) {
            self.end_cpu_time();
            return Err(error);
        }
        Ok(WasmEntry::First)
    }

    /// Prepares for code on a fiber that no other code of the store waits for.
    pub(super) fn prepare_for_fiber(&mut self) {
        if self.vm.value_end.is_null() {
            self.take_value_stack();
        }
        self.limit_value_stack();
    }

    /// Prepares the store for a time without running code.
    #[inline]
    pub(super) fn become_idle(&mut self) {
        if self.rests {
            self.rest();
        }
    }

    /// Gives the store a value stack, whose end has to be set. If there is no address space for one, interpreted calls fail.
    #[cold]
    fn take_value_stack(&mut self) {
        self.value_stack = value_stack(&self.engine).unwrap_or_default();
        let (base, length) = (self.value_stack.base(), self.value_stack.accessible());
        self.vm.value_top = base.cast();
        if self.engine.config.pack_memories {
            // As if another store had used it.
            const FOREIGN: u64 = 0xF0F0_E5E5_D7D7_C3C3;
            let slots = (length / size_of::<u64>()).min(MIN_STACK / size_of::<u64>());
            // SAFETY: the first bytes of the stack, which has no frames yet.
            unsafe { std::slice::from_raw_parts_mut(self.vm.value_top, slots) }.fill(FOREIGN);
        }
        self.rests |= self.engine.spaces.is_short_of_stacks() || self.engine.config.pack_memories;
    }

    /// The error of an interpreted call in a store for which there was no value stack.
    #[cold]
    pub fn no_value_stack(&self) -> Error {
        refused("a value stack", MIN_STACK + STACK_GUARD)
    }

    /// Where a memory that is made now may be. `image` is going to be mapped into it.
    pub fn placement(&mut self, image: Option<u64>) -> Placement {
        // Native code may also be suspended, with another activation on top.
        if self.vm.innermost.is_null() {
            return Placement::Either { image };
        }
        self.rests |= self.repacks();
        Placement::Pinned
    }

    /// Whether memories that are pinned for compiled code are packed again when the store stops running code.
    fn repacks(&self) -> bool {
        (is_crowded() || self.engine.config.pack_memories) && self.memories.len() <= MAX_REPACKED_MEMORIES
    }

    /// Adds a memory to the store; returns its handle.
    pub fn add_memory(&mut self, memory: MemoryData) -> Stored {
        self.charge(LimitedResource::Memory, memory.length());
        self.packed += usize::from(memory.is_packed());
        self.memories.push(memory);
        Stored::new(self, self.memories.len() - 1)
    }

    /// Adds a shared memory to the store, unless it is there already; returns its handle. What it has is not charged to the
    /// store, which only has it too.
    pub fn add_shared_memory(&mut self, memory: &Arc<SharedMemory>) -> Stored {
        let index = *self.shared_memories.entry(Arc::as_ptr(memory).addr()).or_insert(self.memories.len());
        if index == self.memories.len() {
            self.memories.push(MemoryData::shared(memory.clone()));
        }
        Stored::new(self, index)
    }

    /// Grows a memory by `delta` pages, if it has not become larger meanwhile than the limiter was told; returns the old size in
    /// pages, or `None` if it can't grow.
    pub fn grow_memory(&mut self, memory: Stored, delta: u64, request: GrowthRequest) -> Option<u64> {
        let index = memory.index(self);
        let memory = &mut self.memories[index];
        let was_packed = memory.is_packed();
        let old = memory.grow(delta, request.desired, &self.engine);
        self.packed -= usize::from(was_packed && !memory.is_packed());
        old
    }

    /// Whether native code that Cranelift compiled can run in the store: its memories are pinned, now if need be. No base of a
    /// memory may be in use.
    #[inline]
    pub fn admits_native(&mut self) -> bool {
        self.packed == 0 || self.pin_memories()
    }

    /// Pins all memories, so that their bases do not move and guards are behind them; false if the system refuses that, which
    /// leaves them packed. They stay pinned until the store stops running code at least.
    #[cold]
    fn pin_memories(&mut self) -> bool {
        if self.pinning_refused {
            return false;
        }
        let engine = self.engine.clone();
        let packed: Vec<usize> = (0..self.memories.len()).filter(|index| self.memories[*index].is_packed()).collect();
        let pinned = has_mappings_for(packed.len()) && packed.iter().all(|index| self.memories[*index].pin(&engine));
        if pinned {
            self.packed = 0;
        } else {
            // The next call of the host tries again.
            (self.pinning_refused, self.rests) = (true, true);
            packed.iter().for_each(|index| self.memories[*index].pack(&engine));
            self.packed = self.memories.iter().filter(|memory| memory.is_packed()).count();
        }
        self.rests |= self.repacks();
        pinned
    }

    /// The error of a call of native code in a store whose memories can't be pinned.
    #[cfg_attr(not(jit), expect(dead_code, reason = "only native code needs pinned memories"))]
    #[cold]
    pub fn not_pinned(&self) -> Error {
        let what = format!("address space to run compiled code with the {} memories of this store", self.packed);
        refused(&what, self.packed.saturating_mul(MEMORY_GUARD))
    }

    /// Gives back what an idle store need not have where many stores are idle: its value stack, and the mappings of small
    /// memories. The store must run no code.
    #[cold]
    fn rest(&mut self) {
        if self.suspended > 0 {
            return;
        }
        (self.rests, self.pinning_refused) = (false, false);
        if self.repacks() {
            let engine = self.engine.clone();
            for memory in self.memories.iter_mut().filter(|memory| memory.is_worth_packing()) {
                memory.pack(&engine);
            }
            self.packed = self.memories.iter().filter(|memory| memory.is_packed()).count();
        }
        let is_short = self.engine.spaces.is_short_of_stacks() || self.engine.config.pack_memories;
        if is_short && self.vm.value_top.cast() == self.value_stack.base() {
            (self.vm.value_top, self.vm.value_end) = (std::ptr::null_mut(), std::ptr::null_mut());
            self.value_stack = Reservation::default();
        }
    }

    /// Sets the limits for the current native stack.
    #[inline]
    fn set_stack_limits(&mut self, here: usize) -> Result<()> {
        let (stack, reserve) = sys::current_stack(here)?;
        let (stack_limit, nest_limit) = self.limits_on(stack, reserve);
        self.stack = stack;
        self.limit_value_stack();
        self.limit_stack(stack_limit);
        self.vm.nest_limit = nest_limit;
        Ok(())
    }

    /// Sets the end of the value stack, of which the budget may allow a part only.
    #[inline]
    fn limit_value_stack(&mut self) {
        let length = self.account.stack(self.value_stack.accessible()) & !7;
        let end = self.value_stack.base().wrapping_add(length).cast();
        if self.vm.value_end != end {
            self.vm.value_end = end;
            self.interrupts.limit_value_stack(end as usize);
        }
    }

    /// The stack limit and the nest limit of code on a native stack, of which `reserve` bytes are left to Rust code.
    #[inline]
    pub(super) fn limits_on(&self, stack: NativeStack, reserve: usize) -> (usize, usize) {
        // The limit is above the part of the stack that is reserved for Rust code.
        let most = self.max_stack();
        let stack_limit = stack.high.saturating_sub(most).max(stack.low.saturating_add(reserve));
        (stack_limit, stack_limit.saturating_add(stack.high.saturating_sub(stack_limit).min(most) / 4))
    }

    #[inline]
    pub(super) fn limit_stack(&mut self, stack_limit: usize) {
        // Often the host calls again from the same depth.
        if self.vm.stack_limit != stack_limit {
            self.vm.stack_limit = stack_limit;
            self.interrupts.limit_stack(stack_limit);
        }
    }

    #[cold]
    fn enter_other_stack(&mut self, here: usize) -> Result<WasmEntry> {
        if self.suspended == MAX_SUSPENDED {
            return Err(Trap::StackOverflow.into());
        }
        let outer = SuspendedStack {
            stack: self.stack,
            stack_limit: self.vm.stack_limit,
            nest_limit: self.vm.nest_limit,
            frozen: Default::default(),
        };
        self.set_stack_limits(here)?;
        self.suspended += 1;
        Ok(WasmEntry::OtherStack(Box::new(SuspendedStack { frozen: self.freeze(), ..outer })))
    }

    /// Undoes the matching [`StoreOpaque::enter_wasm`] when the code has returned.
    #[inline]
    pub fn exit_wasm(&mut self, entry: WasmEntry) {
        match entry {
            WasmEntry::SameStack => {}
            WasmEntry::First => {
                self.stack = NativeStack::default();
                self.end_cpu_time();
                self.become_idle();
            }
            WasmEntry::OtherStack(outer) => {
                self.suspended -= 1;
                self.stack = outer.stack;
                self.limit_stack(outer.stack_limit);
                self.vm.nest_limit = outer.nest_limit;
                self.thaw(outer.frozen);
            }
        }
    }

    /// Runs a garbage collection if that is worth its time, or if host objects are about to come for which there is no room;
    /// `interns` says whether some are.
    ///
    /// The caller must hold no slot that refers to a collected object, see [`heap::collect`]; an `ExternRef` or `ExnRef` keeps
    /// its object alive.
    ///
    /// # Panics
    /// Resumes the panic of a host object's drop.
    #[inline]
    pub fn collect_if_due(&mut self, interns: bool) {
        if self.heap.is_due(0) || self.heap.has_dead() || interns && self.is_short_of_heap() {
            self.collect_as_due(interns);
        }
    }

    #[cold]
    fn collect_as_due(&mut self, interns: bool) {
        if interns && self.is_short_of_heap() {
            return self.collect();
        }
        // SAFETY: as in `collect`.
        unsafe { heap::advance(self, heap::EXTERN_BYTES as u64) };
        heap::drop_all(self.heap.take_dead());
    }

    /// Runs a garbage collection; see [`StoreOpaque::collect_if_due`] for what the caller must see to.
    #[cold]
    pub fn collect(&mut self) {
        // SAFETY: `value_top` is above all slots in use whenever Rust code of the host or the API runs, which is who calls
        // this; such code holds no slots that refer to collected objects.
        unsafe { heap::collect(self) };
        heap::drop_all(self.heap.take_dead());
    }

    /// Whether the next host objects might not find room, and a collection is likely to make some, or the only way.
    #[inline]
    fn is_short_of_heap(&self) -> bool {
        /// More than a function has parameters or results, mostly.
        const NEXT: usize = 64 * heap::EXTERN_BYTES;
        !self.heap_has_room(NEXT)
            && (self.heap.is_worth_collecting()
                || self.gc.is_worth_collecting()
                || self.collected_bytes() > 0 && !self.has_room(LimitedResource::Heap, heap::EXTERN_BYTES))
    }

    /// [`StoreOpaque::intern`] of a host object.
    ///
    /// # Errors
    /// [`Resource`](crate::ErrorKind::Resource) if the limiter or the budget has no room for another object, or what the
    /// limiter returns.
    pub(super) fn intern_host_object(&mut self, object: &ExternRef) -> Result<u64> {
        if !self.heap.has(object) {
            self.admit_to_heap(heap::EXTERN_BYTES).map_err(|error| self.note_refusal(error))?;
        }
        let slot = self.heap.intern(object).ok_or_else(|| Error::resource("the store has too many host objects"))?;
        self.note_peaks();
        Ok(slot)
    }

    /// The store's reference to a host function; the same for each call with the same function.
    pub fn host_ref(&mut self, func: &Arc<HostFunc>) -> NonNull<VMFuncRef> {
        let reference = self.host_refs.entry(Arc::as_ptr(func) as usize).or_insert_with(|| {
            let sig = self.engine.types.register_func(&func.ty);
            let reference = AliasableBox::new(VMFuncRef {
                code: (self.engine.hooks.host_entry)(&func.ty),
                callee: std::ptr::null_mut(),
                owner: Arc::as_ptr(func).cast_mut().cast(),
                sig: sig.number(),
                index: VMFuncRef::HOST,
                supertypes: sig.supertypes().as_ptr(),
                gc_id: 0,
            });
            // SAFETY: the value lives as long as `reference`, and nobody else has a pointer to it yet.
            unsafe { (*reference.as_ptr()).callee = reference.as_ptr().cast() };
            self.host_funcs.push((func.clone(), sig));
            reference
        });
        reference.0
    }
}

impl Drop for StoreOpaque {
    fn drop(&mut self) {
        self.forget_deadlines();
    }
}

/// How a store's code was entered, for [`StoreOpaque::exit_wasm`].
pub(crate) enum WasmEntry {
    /// No code of the store was running.
    First,
    /// A host function that the store's code called has called back on the same native stack.
    SameStack,
    /// A host function that the store's code called has called back on another native stack.
    OtherStack(Box<SuspendedStack>),
}

/// A native stack with suspended code of the store: what is restored when that code goes on.
pub(crate) struct SuspendedStack {
    stack: NativeStack,
    stack_limit: usize,
    nest_limit: usize,
    frozen: heap::Frozen,
}

/// The handle of an object in a store: the store's id and the object's index among the objects of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Stored {
    store: u64,
    index: u32,
}

impl Stored {
    /// The handle of the object at `index` in `store`.
    pub fn new(store: &StoreOpaque, index: usize) -> Self {
        Stored { store: store.id, index: u32::try_from(index).expect("a store holds fewer than 2^32 objects") }
    }

    /// The object's index in `store`.
    ///
    /// # Panics
    /// If the object is in another store.
    #[inline]
    pub fn index(self, store: &StoreOpaque) -> usize {
        assert!(self.belongs_to(store), "object used with another store than its own");
        self.index as usize
    }

    /// Whether the object is in `store`.
    pub fn belongs_to(self, store: &StoreOpaque) -> bool {
        self.store == store.id
    }
}
