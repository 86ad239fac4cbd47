//! The garbage collector of a store: a conservative mark-and-sweep of the objects of its heap ([`gc`](super::gc)) and of host
//! objects (`externref`).
//!
//! What may be here: the roots of a collection, the host objects, and what the store may have of all that. What may not: what
//! is in an object, and where.
//!
//! Objects do not move. The roots are: every word of the value stack and of the native stack, whatever it means, so engines
//! need no stack maps; globals and tables of reference types; the values of element segments that make objects; operands of
//! constant expressions; the pending exception; and references that the host holds. The values of other element segments are no
//! roots: they have a reference to a collected object only from an immutable global, which is a root itself.
//!
//! The roots are looked at once, when a collection begins. A large heap is marked in steps then, at allocations and when code
//! overwrites references in objects ([`gc::mark`](super::gc)); when nothing is left to be marked, what is not marked is freed.
//!
//! The slot of a host object is a number and no address, and that of an object an offset in the heap: whatever WebAssembly code
//! does to it, a look-up stays in the store's own list or heap.
//!
//! # Several native stacks
//! The native stack is scanned from the collector's own frame to where the store's code was entered. A host function may
//! switch to another stack (a coroutine) and call back into the store from there. The callee-saved registers of the suspended
//! code may then be saved in a frame on either stack, so a scan can't find them. Therefore all objects that exist when the
//! other stack is entered are kept until it is left again ([`Heap::freeze`]), or, if it is a coroutine of ours, whenever it
//! runs ([`fiber`](super::fiber)). Only objects that are made meanwhile are
//! collected, and suspended code can't refer to those.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::extern_ref::ExternRef;
use super::extern_table::ExternTable;
use super::limits::{GrowthRequest, LimitedResource};
use super::store::StoreOpaque;
use crate::config::Collections;
use crate::error::{Error, Result};
use crate::module::types::RefType;
use crate::sys;

/// Bytes of objects that are allocated before the first collection, and at least between two collections.
const MIN_THRESHOLD: usize = 1 << 20;

/// Bytes that each host object counts for; its real size is unknown.
pub(crate) const EXTERN_BYTES: usize = 256;

/// Steps in which a limiter is asked for more room.
const STEP: usize = 64 << 10;

/// The collected objects of a store: those that are reachable, and those that no collection has found unreachable yet. See
/// [`Store::heap_stats`](crate::Store::heap_stats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeapStats {
    /// Number of exceptions.
    pub exceptions: usize,
    /// Size of all exceptions in bytes, headers included.
    pub exception_bytes: usize,
    /// Size of the blocks of memory that have exceptions, structures, arrays or what is known of their types, in bytes. It is a
    /// multiple of 32 KiB, and what counts for a limit of the store.
    pub object_bytes: usize,
    /// Number of host objects that an `externref` may refer to.
    pub externs: usize,
    /// Number of collections since the store was made.
    pub collections: u64,
}

/// The objects that existed when [`Heap::freeze`] was called, which no collection frees.
#[derive(Clone, Copy, Default)]
pub(crate) struct Frozen {
    /// Host objects with a serial number below this.
    externs: u64,
    /// Objects of the heap of eras before this, see [`GcHeap::freeze`](super::gc::GcHeap::freeze).
    objects: u64,
}

/// The host objects of a store, and what is known of its collections.
#[derive(Default)]
pub(crate) struct Heap {
    externs: ExternTable,
    /// Bytes of host objects above which the next collection is due.
    threshold: usize,
    /// Bytes of host objects that the last collection has left.
    survived: usize,
    /// Bytes that the store's limiter has allowed.
    allowed: usize,
    frozen: Frozen,
    /// While a collection marks: what was kept when it began. Suspended code that goes on meanwhile has its references in that.
    frozen_before: Frozen,
    /// While a collection marks: number of words that it has scanned for roots.
    scanned: usize,
    /// Host objects that were collected but not dropped yet.
    dead: Vec<ExternRef>,
    collections: u64,
    /// When collections run. (`collections` counts them.)
    pace: Collections,
}

impl Heap {
    /// An empty heap.
    pub fn new(pace: Collections) -> Self {
        Heap { pace, ..Heap::default() }
    }

    /// The `externref` slot for a host object; the same for each call while the object is in the heap. `None` if all slots are
    /// in use.
    ///
    /// The caller must put the slot where a collection looks before the next one runs.
    pub fn intern(&mut self, object: &ExternRef) -> Option<u64> {
        self.externs.intern(object).map(u64::from)
    }

    /// The host object that an `externref` slot refers to; `None` for null.
    pub fn extern_ref(&self, slot: u64) -> Option<ExternRef> {
        self.externs.get(u32::try_from(slot).ok()?).cloned()
    }

    /// What host objects count for.
    #[inline]
    pub fn bytes(&self) -> usize {
        EXTERN_BYTES * self.externs.len()
    }

    /// Whether a host object has a slot.
    pub fn has(&self, object: &ExternRef) -> bool {
        self.externs.has(object)
    }

    /// Whether an eighth of the objects came after the last collection. The cost of the next one is then spread over these,
    /// even if it frees nothing.
    pub fn is_worth_collecting(&self) -> bool {
        self.bytes() > 0 && self.bytes().saturating_sub(self.survived) >= self.bytes() / 8
    }

    /// Whether a collection is worth its time when `more` bytes are to be allocated.
    pub fn is_due(&self, more: usize) -> bool {
        self.bytes() + more > self.threshold.max(MIN_THRESHOLD) || self.pace != Collections::Measured
    }

    /// Whether there are collected host objects that were not dropped yet.
    #[inline]
    pub fn has_dead(&self) -> bool {
        !self.dead.is_empty()
    }

    /// Takes the collected host objects. To drop them runs code of the host, so the store must not be borrowed then.
    pub fn take_dead(&mut self) -> Vec<ExternRef> {
        std::mem::take(&mut self.dead)
    }
}

impl StoreOpaque {
    /// The current counts.
    pub fn heap_stats(&self) -> HeapStats {
        HeapStats {
            exceptions: self.gc.exceptions(),
            exception_bytes: self.gc.exception_bytes(),
            object_bytes: self.gc.bytes(),
            externs: self.heap.externs.len(),
            collections: self.heap.collections,
        }
    }

    /// What all collected objects count for.
    #[inline]
    pub fn collected_bytes(&self) -> usize {
        self.heap.bytes() + self.gc.bytes()
    }

    /// Keeps all objects that exist now until [`StoreOpaque::thaw`], whether or not anything refers to them. Returns what
    /// `thaw` takes.
    pub fn freeze(&mut self) -> Frozen {
        let objects = self.gc.freeze(&mut self.vm);
        let heap = &mut self.heap;
        let now = Frozen { externs: heap.externs.next_serial(), objects: 0 };
        Frozen { objects, ..std::mem::replace(&mut heap.frozen, now) }
    }

    /// Ends the matching [`StoreOpaque::freeze`], which returned `before`.
    pub fn thaw(&mut self, before: Frozen) {
        self.gc.set_frozen(&mut self.vm, before.objects);
        self.heap.frozen = before;
    }

    /// Exchanges what [`StoreOpaque::freeze`] keeps now for `other`: the code of another native stack goes on.
    pub fn swap_frozen(&mut self, other: &mut Frozen) {
        let objects = self.gc.set_frozen(&mut self.vm, other.objects);
        std::mem::swap(&mut self.heap.frozen, other);
        other.objects = objects;
    }

    /// What [`StoreOpaque::freeze`] keeps now.
    pub fn frozen(&self) -> Frozen {
        Frozen { objects: self.gc.frozen(), ..self.heap.frozen }
    }

    /// Whether more bytes of objects fit into the budget and into what the limiter has allowed.
    #[inline]
    pub fn heap_has_room(&self, more: usize) -> bool {
        self.has_room(LimitedResource::Heap, more)
            && (self.limiter.is_none() || self.collected_bytes() + more <= self.heap.allowed)
    }

    /// Makes sure that the budget has room for more bytes of objects, and asks the limiter for them, in steps of 64 KiB.
    ///
    /// # Errors
    /// [`Resource`](crate::ErrorKind::Resource) if there is no room, or what the limiter returns.
    #[inline]
    pub fn admit_to_heap(&mut self, more: usize) -> Result<()> {
        if self.heap_has_room(more) { Ok(()) } else { self.ask_for_heap(more) }
    }

    #[cold]
    fn ask_for_heap(&mut self, more: usize) -> Result<()> {
        if !self.has_room(LimitedResource::Heap, more) {
            return Err(self.over_memory_budget(&format!("an object of {more} bytes")));
        }
        let Some(limiter) = self.limiter else { return Ok(()) };
        let (current, desired) = (self.heap.allowed, (self.collected_bytes() + more).next_multiple_of(STEP));
        let growth = GrowthRequest { current, desired, maximum: None };
        // SAFETY: the store's own pointer. The limiter is found in the part of the store that the host's data is in, to which
        // nobody has a reference: host functions have given theirs back when values are converted and exceptions made.
        if !unsafe { (limiter.growing)(self.as_ptr(), LimitedResource::Heap, growth)? } {
            return Err(Error::resource(format!("collected objects of {desired} bytes are beyond the store's limit")));
        }
        self.heap.allowed = desired;
        Ok(())
    }
}

/// Drops all the objects, and then resumes the first panic that a drop has caused.
pub(crate) fn drop_all(objects: Vec<ExternRef>) {
    let mut first = None;
    for object in objects {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(object))) {
            match first {
                None => first = Some(panic),
                // Not dropped: the drop of the payload might panic too.
                Some(_) => std::mem::forget(panic),
            }
        }
    }
    if let Some(panic) = first {
        resume_unwind(panic);
    }
}

/// Has `visit` visit the words of a range.
///
/// # Safety
/// The range must be readable.
unsafe fn words(mut from: *const u64, to: *const u64, mut visit: impl FnMut(u64)) {
    while from < to {
        // SAFETY: `from` is in the range, which is readable by the caller's promise.
        visit(unsafe { from.read_volatile() });
        from = from.wrapping_add(1);
    }
}

/// Collects the objects that no root and no reachable object refers to; see the module's documentation for the roots.
/// Objects of the heap are freed at once. Host objects only lose their slots; the caller drops them, see
/// [`Heap::take_dead`]. What a collection that marks in steps has marked is forgotten: it might keep what has died since it began.
///
/// Does nothing if the current native stack is not the one that the store's code runs on.
///
/// # Safety
/// `value_top` must be above all slots in use. All references must be where the collection looks, in particular not only in
/// slots that Rust code holds elsewhere.
#[cold]
#[inline(never)]
pub(crate) unsafe fn collect(store: &mut StoreOpaque) {
    // SAFETY: the caller's promise.
    if unsafe { begin(store) } {
        step(store, u64::MAX);
    }
}

/// Goes on with collecting when so many bytes of objects are to be allocated: begins a collection if one is due, or marks more if
/// one marks already. Returns whether there was a whole one, from its begin to its end.
///
/// # Safety
/// As for [`collect`].
pub(crate) unsafe fn advance(store: &mut StoreOpaque, bytes: u64) -> bool {
    let is_due = store.gc.is_due() || store.heap.is_due(0);
    let begins = store.vm.gc_marking == 0 || store.heap.pace == Collections::Always;
    // SAFETY: the caller's promise.
    if begins && !(is_due && unsafe { begin(store) }) {
        return false;
    }
    match store.gc.units_due(begins, bytes) {
        0 => false,
        units => step(store, units) && begins,
    }
}

/// Marks what references refer to that are about to be overwritten in objects, while a collection marks.
#[inline(never)]
pub(crate) fn shade(store: &mut StoreOpaque, references: &[u32]) {
    match store.gc.shade(references, &mut store.heap.externs) {
        0 => {}
        units => {
            step(store, units);
        }
    }
}

/// Begins a collection: marks what the roots refer to. Returns whether that was possible: it is not if the current native stack is
/// not the one that the store's code runs on.
///
/// # Safety
/// As for [`collect`].
#[inline(never)]
unsafe fn begin(store: &mut StoreOpaque) -> bool {
    let stack = store.stack();
    let here = sys::stack_pointer();
    if stack.is_running() && !stack.contains(here) {
        return false;
    }
    let (value_base, value_top) = (store.value_base(), store.vm.value_top);
    let frozen = store.frozen();
    let StoreOpaque { vm, heap, gc, globals, tables, instances, .. } = &mut *store;
    vm.gc_marking = 1;
    heap.frozen_before = frozen;
    gc.begin(vm, &mut heap.externs);
    let mut marker = gc.marker(&mut heap.externs);
    let mut scanned = 0;
    let mut slot = |slot| {
        scanned += 1;
        marker.candidate(slot);
    };
    slot(vm.thrown);
    // SAFETY: the value stack is mapped up to `value_top`.
    unsafe { words(value_base, value_top, &mut slot) };
    let is_collected = |ty: &RefType| !ty.is_of_functions();
    for global in globals.iter().filter(|global| global.ty.content.as_ref().is_some_and(is_collected)) {
        // SAFETY: the value of a global is valid as long as the store.
        slot(unsafe { (*global.vm).slots[0] });
    }
    for table in tables.iter().filter(|table| is_collected(&table.ty.element)) {
        table.elements().iter().copied().for_each(&mut slot);
    }
    for instance in instances.iter() {
        // SAFETY: instances live as long as the store, and nobody writes to one during a collection.
        let instance = unsafe { &*instance.as_ptr() };
        instance.collected_elements().flatten().copied().for_each(&mut slot);
    }
    let mut native = |word| {
        scanned += 1;
        marker.native_candidate(word);
    };
    // If no code was entered, the registers have nothing of the store, but may by chance have what looks like a reference.
    if stack.is_running() {
        sys::saved_registers().iter().copied().for_each(&mut native);
        // SAFETY: the native stack is mapped from the stack pointer to where this store's code was entered. A reference that
        // compiled code keeps in a callee-saved register is still there, or a frame in the range has saved it.
        unsafe { words((here & !7) as *const u64, stack.high as *const u64, &mut native) };
    }
    heap.scanned = scanned;
    true
}

/// Marks for so many units, see [`Marker::step`](super::gc::Marker::step), and ends the collection if nothing is left to be marked
/// then. Returns whether it did.
fn step(store: &mut StoreOpaque, units: u64) -> bool {
    let StoreOpaque { vm, heap, gc, .. } = &mut *store;
    let mut marker = gc.marker(&mut heap.externs);
    if !marker.step(units) {
        return false;
    }
    let found = marker.found();
    vm.gc_marking = 0;
    gc.sweep(found, heap.scanned, units != u64::MAX);
    heap.externs.sweep(heap.frozen_before.externs, &mut heap.dead);
    heap.collections += 1;
    heap.survived = heap.bytes();
    // The cost of a collection grows with the live bytes and with the words scanned (8 bytes each). The next is due when as
    // many bytes were allocated as are alive now, or half as many as were scanned, so the cost per allocated byte is bounded.
    heap.threshold = heap.bytes() + heap.bytes().max(4 * heap.scanned).max(MIN_THRESHOLD);
    true
}

#[cfg(test)]
mod tests {
    use crate::{Engine, ErrorKind, ExternRef, Instance, Module, Store};

    /// Objects that chance may keep: stacks are scanned whatever their words mean.
    const FEW: usize = 4;

    #[test]
    fn numbers_of_host_objects_are_used_again() {
        let mut store = Store::new(&Engine::default(), ());
        for _ in 0..50 {
            let heap = &mut store.inner_mut().opaque.heap;
            let slots: Vec<u64> = (0..100).map(|n| heap.intern(&ExternRef::new(n)).unwrap()).collect();
            for (n, slot) in slots.iter().enumerate() {
                let object = heap.extern_ref(*slot).unwrap();
                assert_eq!(object.data().downcast_ref(), Some(&(n as i32)));
                assert_eq!(heap.intern(&object), Some(*slot));
            }
            store.gc();
            let heap = &store.inner().opaque.heap;
            // A word on the native stack may still look like one of them.
            let kept = slots.iter().filter(|slot| heap.extern_ref(**slot).is_some()).count();
            assert!(kept <= FEW, "{kept} of 100 are kept");
        }
        let numbers = store.inner().opaque.heap.externs.capacity();
        assert!((100..=100 + FEW).contains(&numbers), "{numbers}");
    }

    #[test]
    fn only_slots_are_taken_for_slots() {
        let mut store = Store::new(&Engine::default(), ());
        let heap = &mut store.inner_mut().opaque.heap;
        let slot = heap.intern(&ExternRef::new(5)).unwrap();
        assert!(heap.extern_ref(slot).is_some());
        for word in [0, 1, 2, slot - 1, slot + 1, slot ^ 8, slot ^ 1 << 31, slot | 1 << 32, slot | 1 << 63, u64::MAX] {
            assert!(heap.extern_ref(word).is_none(), "{word:#x}");
        }
    }

    #[test]
    fn references_that_the_host_has_dropped_are_forgotten() {
        let mut store = Store::new(&Engine::default(), ());
        let text = r#"(module (tag $t) (func (export "throw") (throw $t)))"#;
        let module = Module::new(store.engine(), text).unwrap();
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let throw = instance.get_typed_func::<(), ()>(&mut store, "throw").unwrap();
        let mut throw = || throw.call(&mut store, ()).unwrap_err();
        let kept: Vec<_> = (0..1000).map(|_| throw()).collect();
        for _ in 0..10_000 {
            assert!(matches!(throw().kind(), ErrorKind::Exception(_)));
        }
        assert_eq!(store.inner().opaque.gc.pinned(), kept.len());
    }
}
