//! The objects of a store that go when nothing refers to them any more: exceptions, and host objects that slots of type
//! `externref` refer to.
//!
//! What may be here: which objects there are, and their collection. What may not: what an exception means (`exception`).
//!
//! Objects do not move. A collection marks from every word of the value stack and of the native stack, whatever the word
//! means (so engines need no maps of where references are); from globals and tables of these types; from exceptions'
//! payloads; and from what the host holds. Values of element segments need no look: constant expressions make references to
//! such objects from immutable globals only, which are roots themselves.
//!
//! The slot of an exception is its address. The slot of a host object is no address but a number, so that whatever becomes
//! of a slot, following it stays in the store's own list.
//!
//! # Stacks
//! The native stack is scanned from the collector's own frame to where the store's code was entered. A host function may
//! have gone on to another stack (a coroutine) and have called back into the store from there. Where the registers of the
//! suspended code are then is known to nobody: the frames that saved them may be on either stack. So all
//! objects that there are when the other stack is entered stay until it is left again ([`Heap::freeze`]); only what is made
//! there is collected meanwhile, and code that waits on another stack can hold nothing of that.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError, Weak};

use super::context::VMException;
use super::exception;
use super::extern_ref::ExternRef;
use super::store::StoreOpaque;
use crate::error::Pin;
use crate::module::types::{HeapType, RefType};
use crate::sys;

/// Bytes of objects before the first collection, and the least between two.
const MIN_THRESHOLD: usize = 1 << 20;

/// Bytes that a host object is taken for: what it really takes is unknown.
const EXTERN_BYTES: usize = 256;

/// High half of the slot of every host object: neither that of an address nor that of a small number, so that few words
/// on a stack look like one by chance. The low half is the object's index plus one.
const EXTERN_TAG: u64 = 0xE7E5_A5E7 << 32;

/// How many objects of a store are alive, or at least not collected yet. See [`Store::heap_stats`](crate::Store::heap_stats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeapStats {
    /// Exceptions.
    pub exceptions: usize,
    /// Bytes that these take.
    pub exception_bytes: usize,
    /// Host objects that WebAssembly code has been given references to.
    pub externs: usize,
    /// Collections so far.
    pub collections: u64,
}

/// What was there at some time: [`Heap::freeze`] keeps these objects.
#[derive(Clone, Copy, Default)]
pub(crate) struct Frozen {
    /// The oldest exceptions, so many.
    exceptions: usize,
    /// Host objects with lower serial numbers.
    externs: u64,
}

/// The objects of a store that are collected.
#[derive(Default)]
pub(crate) struct Heap {
    /// Addresses of all exceptions, each an allocation of its own; oldest first.
    exceptions: Vec<*mut VMException>,
    exception_bytes: usize,
    externs: Externs,
    /// Bytes at which the next collection is due.
    threshold: usize,
    frozen: Frozen,
    /// Exceptions that the host holds.
    pins: Mutex<Pins>,
    /// Host objects that were collected, and are still to be dropped.
    dead: Vec<ExternRef>,
    collections: u64,
    /// For tests: a collection is always due.
    always: bool,
}

#[derive(Default)]
struct Pins {
    all: Vec<Weak<Pin>>,
    /// How many there may be before those that are gone are removed.
    most: usize,
}

impl Drop for Heap {
    fn drop(&mut self) {
        for exception in self.exceptions.drain(..) {
            // SAFETY: all come from `exception::allocate`, and with the store everything that could refer to them goes.
            unsafe { exception::free(exception) };
        }
    }
}

/// Host objects by slot.
#[derive(Default)]
struct Externs {
    entries: Vec<Option<Extern>>,
    /// Indices of entries that are empty.
    free: Vec<u32>,
    by_address: HashMap<usize, u32>,
    serial: u64,
}

struct Extern {
    object: ExternRef,
    /// Objects get these in the order in which they come.
    serial: u64,
}

impl Externs {
    fn len(&self) -> usize {
        self.by_address.len()
    }

    /// The index that a word means, if it is the slot of a host object.
    fn index(&self, word: u64) -> Option<usize> {
        let index = (word ^ EXTERN_TAG).wrapping_sub(1);
        (index < self.entries.len() as u64).then_some(index as usize)
    }

    fn slot(index: u32) -> u64 {
        EXTERN_TAG | (u64::from(index) + 1)
    }
}

impl Heap {
    /// No objects. For tests a collection may always be due.
    pub fn new(always: bool) -> Self {
        let mut heap = Heap::default();
        heap.always = always;
        heap
    }

    /// The slot that refers to a host object.
    ///
    /// The slot must be where a collection finds it before one runs.
    pub fn intern(&mut self, object: &ExternRef) -> u64 {
        let Externs { entries, free, by_address, serial } = &mut self.externs;
        let index = *by_address.entry(object.address()).or_insert_with(|| {
            let entry = Some(Extern { object: object.clone(), serial: *serial });
            *serial += 1;
            match free.pop() {
                Some(index) => {
                    entries[index as usize] = entry;
                    index
                }
                None => {
                    entries.push(entry);
                    u32::try_from(entries.len() - 1).expect("each takes more than a byte of memory")
                }
            }
        });
        Externs::slot(index)
    }

    /// The host object of a slot.
    pub fn extern_ref(&self, slot: u64) -> Option<ExternRef> {
        let index = self.externs.index(slot)?;
        self.externs.entries[index].as_ref().map(|entry| entry.object.clone())
    }

    /// Adds an exception of so many bytes.
    pub fn add_exception(&mut self, exception: *mut VMException, bytes: usize) {
        self.exceptions.push(exception);
        self.exception_bytes += bytes;
    }

    /// Bytes of all exceptions.
    pub fn exception_bytes(&self) -> usize {
        self.exception_bytes
    }

    /// Keeps an exception for the host as long as there is a strong reference to `pin`.
    pub fn add_pin(&self, pin: Weak<Pin>) {
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        if pins.all.len() >= pins.most {
            pins.all.retain(|pin| pin.strong_count() > 0);
            pins.most = 2 * pins.all.len() + 16;
        }
        pins.all.push(pin);
    }

    fn bytes(&self) -> usize {
        self.exception_bytes + EXTERN_BYTES * self.externs.len()
    }

    /// Whether there is enough to collect for it to be worth the time, with `more` bytes.
    pub fn is_due(&self, more: usize) -> bool {
        self.bytes() + more > self.threshold.max(MIN_THRESHOLD) || self.always
    }

    /// Keeps all objects that there are now until `thaw`, whatever refers to them. Gives what to set it back to.
    pub fn freeze(&mut self) -> Frozen {
        let now = Frozen { exceptions: self.exceptions.len(), externs: self.externs.serial };
        std::mem::replace(&mut self.frozen, now)
    }

    /// Ends what `freeze` began, which gave this.
    pub fn thaw(&mut self, before: Frozen) {
        self.frozen = before;
    }

    /// Whether collected host objects are still to be dropped.
    #[inline]
    pub fn has_dead(&self) -> bool {
        !self.dead.is_empty()
    }

    /// The host objects that were collected. Dropping them runs the host's code.
    pub fn take_dead(&mut self) -> Vec<ExternRef> {
        std::mem::take(&mut self.dead)
    }

    pub fn stats(&self) -> HeapStats {
        HeapStats {
            exceptions: self.exceptions.len(),
            exception_bytes: self.exception_bytes,
            externs: self.externs.len(),
            collections: self.collections,
        }
    }
}

/// Drops host objects, and resumes the first panic of these when all are dropped.
pub(crate) fn drop_all(objects: Vec<ExternRef>) {
    let mut first = None;
    for object in objects {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(object))) {
            match first {
                None => first = Some(panic),
                // Dropping the payload might panic again.
                Some(_) => std::mem::forget(panic),
            }
        }
    }
    if let Some(panic) = first {
        resume_unwind(panic);
    }
}

/// What has been reached.
struct Marks<'a> {
    /// Addresses of all exceptions, in order, and which have been reached.
    exceptions: Vec<usize>,
    exception_marks: Vec<bool>,
    pending: Vec<*mut VMException>,
    externs: &'a Externs,
    extern_marks: Vec<bool>,
    words: usize,
}

impl<'a> Marks<'a> {
    fn new(heap: &'a Heap) -> Self {
        let mut exceptions: Vec<usize> = heap.exceptions.iter().map(|exception| *exception as usize).collect();
        exceptions.sort_unstable();
        Marks {
            exception_marks: vec![false; exceptions.len()],
            exceptions,
            pending: Vec::new(),
            externs: &heap.externs,
            extern_marks: vec![false; heap.externs.entries.len()],
            words: 0,
        }
    }

    /// Marks the object that a word refers to, if it does.
    fn word(&mut self, word: u64) {
        self.words += 1;
        if let Some(index) = self.externs.index(word) {
            self.extern_marks[index] = true;
        } else if let Ok(address) = usize::try_from(word)
            && let (Some(first), Some(last)) = (self.exceptions.first(), self.exceptions.last())
            && (*first..=*last).contains(&address)
            && let Ok(index) = self.exceptions.binary_search(&address)
            && !std::mem::replace(&mut self.exception_marks[index], true)
        {
            self.pending.push(address as *mut VMException);
        }
    }

    /// Marks from all words of a range.
    ///
    /// # Safety
    /// The range must be readable.
    unsafe fn words(&mut self, mut from: *const u64, to: *const u64) {
        while from < to {
            // SAFETY: the caller's promise.
            self.word(unsafe { from.read_volatile() });
            from = from.wrapping_add(1);
        }
    }

    /// Marks what the payloads of exceptions refer to that have been reached.
    ///
    /// # Safety
    /// No exception may have been freed since `new`.
    unsafe fn follow(&mut self) {
        while let Some(exception) = self.pending.pop() {
            // SAFETY: the caller's promise.
            unsafe {
                let payload = VMException::payload(exception);
                self.words(payload, payload.add((*exception).slots));
            }
        }
    }
}

/// Collects the objects that nothing refers to: neither the stacks, nor globals, tables, the host, or another object that
/// something refers to. Exceptions are freed at once; of host objects only the slots are, see [`Heap::take_dead`].
///
/// Nothing is done while the collector runs on another stack than the store's code.
///
/// # Safety
/// Interpreted code must have set `value_top` above its live frames. References may be nowhere else than where this looks:
/// in particular not in slots that Rust code is about to pass on.
#[cold]
#[inline(never)]
pub(crate) unsafe fn collect(store: &mut StoreOpaque) {
    let stack = store.stack();
    let here = sys::stack_pointer();
    if stack.is_running() && !stack.contains(here) {
        return;
    }
    let mut marks = Marks::new(&store.heap);
    // SAFETY: the value stack is mapped up to its top; the native stack is from here to where this store's code was
    // entered, if it was; what compiled code kept over the call in a register is in that still, or was saved by a
    // frame from here on.
    unsafe {
        marks.words(store.value_base(), store.vm.value_top);
        let registers = sys::saved_registers();
        registers.iter().for_each(|word| marks.word(*word));
        marks.words((here & !7) as *const u64, stack.high as *const u64);
    }
    let is_collected = |ty: &RefType| matches!(ty.heap_type().top(), HeapType::Any | HeapType::Exn | HeapType::Extern);
    for global in store.globals.iter().filter(|global| global.ty.content.as_ref().is_some_and(is_collected)) {
        // SAFETY: cells live as long as the store.
        marks.word(unsafe { (*global.vm).slots[0] });
    }
    for table in store.tables.iter().filter(|table| is_collected(&table.ty.element)) {
        table.elements().iter().for_each(|slot| marks.word(*slot));
    }
    {
        let mut pins = store.heap.pins.lock().unwrap_or_else(PoisonError::into_inner);
        pins.all.retain(|pin| {
            pin.upgrade().is_some_and(|pin| {
                marks.word(pin.exception as u64);
                true
            })
        });
    }
    for exception in &store.heap.exceptions[..store.heap.frozen.exceptions] {
        marks.word(*exception as u64);
    }
    // SAFETY: the sweep comes after.
    unsafe { marks.follow() };
    let Marks { exceptions, exception_marks, extern_marks, words, .. } = marks;
    let heap = &mut store.heap;
    heap.exceptions.retain(|exception| {
        let index = exceptions.binary_search(&(*exception as usize)).expect("it was listed above");
        let reached = exception_marks[index];
        if !reached {
            // SAFETY: nothing refers to it.
            heap.exception_bytes -= unsafe { exception::free(*exception) };
        }
        reached
    });
    let Externs { entries, free, by_address, .. } = &mut heap.externs;
    for (index, place) in entries.iter_mut().enumerate() {
        if let Some(entry) = place.take_if(|entry| !extern_marks[index] && entry.serial >= heap.frozen.externs) {
            by_address.remove(&entry.object.address());
            free.push(index as u32);
            heap.dead.push(entry.object);
        }
    }
    heap.collections += 1;
    // The next collection pays for its time with what is allocated until then: as much as is alive, or a byte for each two
    // that were looked at.
    heap.threshold = heap.bytes() + heap.bytes().max(4 * words).max(MIN_THRESHOLD);
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
            let slots: Vec<u64> = (0..100).map(|n| heap.intern(&ExternRef::new(n))).collect();
            for (n, slot) in slots.iter().enumerate() {
                let object = heap.extern_ref(*slot).unwrap();
                assert_eq!(object.data().downcast_ref(), Some(&(n as i32)));
                assert_eq!(heap.intern(&object), *slot);
            }
            store.gc();
            let heap = &store.inner().opaque.heap;
            // A word on the native stack may still look like one of them.
            let kept = slots.iter().filter(|slot| heap.extern_ref(**slot).is_some()).count();
            assert!(kept <= FEW, "{kept} of 100 are kept");
        }
        let numbers = store.inner().opaque.heap.externs.entries.len();
        assert!((100..=100 + FEW).contains(&numbers), "{numbers}");
    }

    #[test]
    fn only_slots_are_taken_for_slots() {
        let mut store = Store::new(&Engine::default(), ());
        let heap = &mut store.inner_mut().opaque.heap;
        let slot = heap.intern(&ExternRef::new(5));
        assert!(heap.extern_ref(slot).is_some());
        for word in [0, 1, slot - 1, slot + 1, slot & 0xFFFF_FFFF, slot ^ 1 << 63, slot | 1 << 31, u64::MAX] {
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
        let pins = store.inner().opaque.heap.pins.lock().unwrap();
        assert!((kept.len()..=2 * kept.len() + 16).contains(&pins.all.len()), "{}", pins.all.len());
    }
}
