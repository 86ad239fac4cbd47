//! Tests of the heap itself. No WebAssembly code runs, so neither a stack nor registers are scanned: the roots are the temporaries
//! and the pins.

use super::blocks::BLOCK;
use super::layout::{ARRAY, EXTERN_BITS, HEADER, LENGTH, Storage, array_size};
use super::*;
use crate::module::registry::RegisteredType;
use crate::vm::context::VMStore;
use crate::vm::extern_table::ExternTable;
use crate::vm::heap::{advance, collect};
use crate::vm::store::StoreOpaque;
use crate::{
    ArrayType, Config, Engine, ExternRef, FieldType, Finality, HeapType, Module, Mutability, RefType, StorageType,
    Store, StoreLimits, StoreLimitsBuilder, StructType, ValType,
};

/// A store with a type of nodes, `(struct (mut anyref) (mut externref) (mut i64))`, and arrays of references and of bytes.
struct Heap<T: 'static = ()> {
    store: Store<T>,
    node: u32,
    references: u32,
    bytes: u32,
}

/// Bytes of a node.
const NODE: u64 = 24;
const NEXT: u32 = HEADER;
const HOST: u32 = HEADER + 4;
const NUMBER: u32 = HEADER + 8;

impl Heap {
    fn new() -> Self {
        Self::of(Store::new(&Engine::default(), ()))
    }

    fn collecting_in_steps() -> Self {
        let mut config = Config::new();
        config.collect_in_steps(true);
        Self::of(Store::new(&Engine::new(&config).unwrap(), ()))
    }

    fn collecting_always() -> Self {
        let mut config = Config::new();
        config.collect_always(true);
        Self::of(Store::new(&Engine::new(&config).unwrap(), ()))
    }
}

impl<T: 'static> Heap<T> {
    fn of(mut store: Store<T>) -> Self {
        let engine = store.engine().clone();
        let var = |ty: ValType| FieldType::new(Mutability::Var, ty.into());
        let any = ValType::Ref(RefType::new(true, HeapType::Any));
        let node = StructType::new(&engine, [var(any.clone()), var(ValType::EXTERNREF), var(ValType::I64)]).unwrap();
        let references = ArrayType::new(&engine, var(any));
        let bytes = ArrayType::new(&engine, FieldType::new(Mutability::Var, StorageType::I8));
        let own = store.inner_mut().opaque.as_ptr();
        // SAFETY: the store is live and used by nobody else.
        let of = |ty: &RegisteredType| unsafe {
            heap::reserve(&mut *own).unwrap();
            descriptor::of_type(own, ty).unwrap()
        };
        let (node, references, bytes) =
            (of(node.registered_type()), of(references.registered_type()), of(bytes.registered_type()));
        Heap { store, node, references, bytes }
    }

    fn own(&mut self) -> *mut StoreOpaque {
        self.store.inner_mut().opaque.as_ptr()
    }

    fn try_alloc(&mut self, descriptor: u32, length: u32, bytes: u64) -> crate::Result<u32> {
        // SAFETY: the store is live, and the sizes are those of the descriptors.
        unsafe { alloc(self.own(), descriptor, length, bytes) }
    }

    /// A node that refers to `next` and has a number.
    fn node(&mut self, next: u32, number: u64) -> u32 {
        let node = self.try_alloc(self.node, 0, NODE).unwrap();
        self.set(node + NEXT, next);
        self.write(node + NUMBER, number);
        node
    }

    fn array(&mut self, length: u32) -> u32 {
        self.try_alloc(self.references, length, array_size(Storage::Reference, length)).unwrap()
    }

    fn byte_array(&mut self, length: u32) -> u32 {
        self.try_alloc(self.bytes, length, array_size(Storage::I8, length)).unwrap()
    }

    fn write<V: Copy>(&mut self, at: u32, value: V) {
        // SAFETY: the store is live and has a heap.
        unsafe { access::write(self.own().cast(), at, value) }
    }

    fn set(&mut self, at: u32, reference: u32) {
        self.write(at, reference);
    }

    fn read<V: Copy>(&mut self, at: u32) -> V {
        // SAFETY: the store is live and has a heap.
        unsafe { access::read(self.own().cast(), at) }
    }

    fn gc(&mut self) -> &mut GcHeap {
        &mut self.store.inner_mut().opaque.gc
    }

    fn vm(&mut self) -> &mut VMStore {
        &mut self.store.inner_mut().opaque.vm
    }

    /// Keeps a reference; returns its place among the temporaries.
    fn keep(&mut self, reference: u32) -> usize {
        self.gc().temporaries.push(u64::from(reference));
        self.gc().temporaries.len() - 1
    }

    fn collect(&mut self) {
        // SAFETY: no code runs; the test holds what it needs in the roots.
        unsafe { collect(&mut *self.own()) };
    }

    /// Goes on with a collection as an allocation does, or begins one. Returns whether one is under way then.
    fn advance(&mut self) -> bool {
        // SAFETY: no code runs; the test holds what it needs in the roots.
        unsafe { advance(&mut *self.own(), 0) };
        self.vm().gc_marking != 0
    }

    /// Bytes of objects that a collection leaves.
    fn live(&mut self) -> u64 {
        self.collect();
        self.gc().live()
    }
}

#[test]
fn a_hundred_thousand_cyclic_graphs_are_freed() {
    let mut heap = Heap::new();
    let before = heap.gc().bytes();
    for n in 0..100_000 {
        let first = heap.node(0, n);
        let slot = heap.keep(first);
        let second = heap.node(first, n);
        let third = heap.node(second, n);
        heap.set(first + NEXT, third);
        heap.gc().temporaries.truncate(slot);
        assert!(heap.gc().bytes() - before <= 3 << 20, "{}", heap.gc().bytes());
    }
    assert_eq!(heap.live(), 0);
}

#[test]
fn a_list_of_ten_million_is_collected_without_recursion() {
    const LENGTH: u64 = 10_000_000;
    /// Makes a list, and walks it after a collection.
    fn make_and_walk(heap: &mut Heap) {
        let mut last = 0;
        let slot = heap.keep(0);
        for n in 0..LENGTH {
            last = heap.node(last, n);
            heap.gc().temporaries[slot] = u64::from(last);
        }
        assert_eq!(heap.live() / NODE, LENGTH);
        let mut length = 0;
        while last != 0 {
            length += 1;
            assert_eq!(heap.read::<u64>(last + NUMBER), LENGTH - length);
            last = heap.read(last + NEXT);
        }
        assert_eq!(length, LENGTH);
    }
    let mut heap = Heap::new();
    make_and_walk(&mut heap);
    heap.gc().temporaries.clear();
    assert_eq!(heap.live(), 0);
}

#[test]
fn large_arrays_are_scanned_whole_and_their_blocks_used_again() {
    fn fill(heap: &mut Heap) {
        let array = heap.array(1_000_000);
        heap.keep(array);
        for index in 0..1_000_000 {
            let node = heap.node(0, u64::from(index));
            heap.set(array + HEADER + 4 * index, node);
        }
        assert!(heap.live() >= 1_000_000 * NODE + 4_000_000);
        for index in [0, 1, 127, 128, 129, 500_000, 999_999] {
            let node: u32 = heap.read(array + HEADER + 4 * index);
            assert_eq!(heap.read::<u64>(node + NUMBER), u64::from(index));
        }
    }
    let mut heap = Heap::new();
    fill(&mut heap);
    heap.gc().temporaries.clear();
    assert_eq!(heap.live(), 0);
    // The blocks are free, and zero when they are handed out again.
    let bytes = heap.gc().bytes();
    for round in 0..50 {
        let array = heap.byte_array(3_000_000);
        for at in [0, 1, 32_768, 2_999_999] {
            assert_eq!(heap.read::<u8>(array + HEADER + at), 0, "{round}");
            heap.write(array + HEADER + at, 0xFF_u8);
        }
    }
    assert!(heap.gc().bytes() <= bytes + (12 << 20), "{}", heap.gc().bytes());
}

#[test]
fn holes_between_live_objects_are_used_again() {
    let mut heap = Heap::new();
    // One node of each 64 lives: 1.5 KiB apart, so that five lines of six are holes.
    let mut kept = Vec::new();
    for n in 0..200_000 {
        let node = heap.node(0, n);
        if n % 64 == 0 {
            heap.keep(node);
            kept.push((node, n));
        }
    }
    heap.collect();
    let bytes = heap.gc().bytes();
    for n in 0..100_000 {
        let node = heap.node(0, n);
        assert_eq!((heap.read::<u32>(node + NEXT), heap.read::<u32>(node + HOST)), (0, 0));
    }
    assert!(heap.gc().bytes() <= bytes + BLOCK, "{bytes} {}", heap.gc().bytes());
    for (node, n) in kept {
        assert_eq!(heap.read::<u64>(node + NUMBER), n);
    }
}

#[test]
fn what_is_handed_out_is_zero() {
    let mut heap = Heap::new();
    for round in 0..200_u32 {
        for length in [1, 100, 300, 5_000, 16_000, 17_000, 100_000] {
            let array = heap.byte_array(length);
            // SAFETY: the array is in the heap, and nothing is allocated while the slice exists.
            let bytes = unsafe {
                let start = access::range(heap.own().cast(), u64::from(array + HEADER), u64::from(length)).unwrap();
                std::slice::from_raw_parts_mut(start, length as usize)
            };
            assert!(bytes.iter().all(|byte| *byte == 0), "{round} {length}");
            bytes.fill(0xA5);
        }
    }
}

#[test]
fn trees_survive_a_collection_at_every_allocation() {
    /// A tree: each node refers to an array of two trees.
    fn tree(heap: &mut Heap, depth: u64) -> u32 {
        if depth == 0 {
            return heap.node(0, 0);
        }
        let left = tree(heap, depth - 1);
        let kept = heap.keep(left);
        let right = tree(heap, depth - 1);
        heap.keep(right);
        let pair = heap.array(2);
        heap.set(pair + HEADER, left);
        heap.set(pair + HEADER + 4, right);
        heap.gc().temporaries[kept] = u64::from(pair);
        heap.gc().temporaries.truncate(kept + 1);
        let node = heap.node(pair, depth);
        heap.gc().temporaries.truncate(kept);
        node
    }
    fn count(heap: &mut Heap, node: u32, depth: u64) -> u64 {
        assert_eq!(heap.read::<u64>(node + NUMBER), depth);
        if depth == 0 {
            return 1;
        }
        let pair: u32 = heap.read(node + NEXT);
        assert_eq!(heap.read::<u32>(pair + LENGTH), 2);
        let (left, right) = (heap.read(pair + HEADER), heap.read(pair + HEADER + 4));
        count(heap, left, depth - 1) + count(heap, right, depth - 1)
    }
    let mut heap = Heap::collecting_always();
    let root = tree(&mut heap, 8);
    heap.keep(root);
    heap.collect();
    assert_eq!(count(&mut heap, root, 8), 256);
}

#[test]
fn a_limit_is_an_error_and_garbage_makes_room() {
    let mut heap: Heap<StoreLimits> = {
        let limits = StoreLimitsBuilder::new().memory_size(4 << 20).build();
        let mut store = Store::new(&Engine::default(), limits);
        store.limiter(|limits| limits);
        Heap::of(store)
    };
    let slot = heap.keep(0);
    let mut last = 0;
    let error = loop {
        match heap.try_alloc(heap.node, 0, NODE) {
            Ok(node) => {
                heap.set(node + NEXT, last);
                last = node;
                heap.gc().temporaries[slot] = u64::from(node);
            }
            Err(error) => break error,
        }
        assert!(heap.gc().bytes() <= 4 << 20);
    };
    assert!(matches!(error.kind(), crate::ErrorKind::Resource(_)), "{error}");
    assert!(heap.gc().bytes() > 3 << 20);
    let large = array_size(Storage::I8, 5 << 20);
    assert!(heap.try_alloc(heap.bytes, 5 << 20, large).is_err());
    heap.gc().temporaries.clear();
    // Garbage never fills the limit.
    for n in 0..1_000_000 {
        heap.node(0, n);
    }
    for _ in 0..100 {
        heap.byte_array(1 << 20);
    }
}

#[test]
fn an_object_that_no_offset_can_reach_is_refused() {
    let mut heap = Heap::new();
    for length in [u32::MAX, u32::MAX / 2, 1 << 30] {
        let bytes = array_size(Storage::V128, length);
        assert!(heap.try_alloc(heap.bytes, length, bytes).is_err(), "{length}");
    }
}

#[test]
fn addresses_and_offsets_in_the_middle_of_objects_keep_them() {
    let mut heap = Heap::new();
    let base = heap.vm().gc_base as u64;
    for large in [false, true] {
        let length = if large { 100_000 } else { 100 };
        let end = array_size(Storage::I8, length) as u32;
        for (inside, word) in [(0, 0), (0, base), (1, 0), (9, base), (end - 1, 0), (end - 1, base)] {
            heap.gc().temporaries.clear();
            // Others around it, which die.
            heap.byte_array(40);
            let array = heap.byte_array(length);
            heap.byte_array(40);
            heap.gc().temporaries.push(word + u64::from(array + inside));
            assert_eq!(heap.live(), u64::from(end), "{large} {inside} {word}");
            // Its start is known from the last collection now.
            assert_eq!(heap.live(), u64::from(end), "{large} {inside} {word}");
        }
    }
    heap.gc().temporaries.clear();
    let (first, second) = (heap.byte_array(40), heap.byte_array(40));
    heap.gc().temporaries = vec![u64::from(second), u64::from(first)];
    assert_eq!(heap.live(), 96);
    // Words that look like something: descriptors, the guard, the end of the heap.
    let (node, end) = (u64::from(heap.node), heap.vm().gc_end as u64);
    heap.gc().temporaries = vec![node, node + 8, 8, 65_535, end - 1, end, base + end, u64::MAX];
    heap.gc().temporaries.extend([base, base - 1, base + 8, u64::from(heap::START) - 8, u64::from(u32::MAX)]);
    assert_eq!(heap.live(), 0);
}

#[test]
fn references_in_both_halves_of_a_native_word_are_found() {
    let mut heap = Heap::new();
    let (low, high) = (heap.node(0, 1), heap.node(0, 2));
    let own = heap.own();
    // SAFETY: the store is live and used by nobody else.
    let StoreOpaque { gc, vm, .. } = unsafe { &mut *own };
    let mut externs = ExternTable::default();
    gc.begin(vm, &mut externs);
    let mut marker = gc.marker(&mut externs);
    marker.native_candidate(u64::from(high) << 32 | u64::from(low));
    assert!(marker.step(u64::MAX));
    assert_eq!(marker.found().bytes, 2 * NODE);
}

#[test]
fn what_existed_when_the_heap_was_frozen_is_kept() {
    let mut heap = Heap::new();
    let old: Vec<u32> = (0..5000).map(|n| heap.node(0, n)).collect();
    let large = heap.byte_array(50_000);
    let own = heap.own();
    // SAFETY: the store is live and used by nobody else.
    let before = unsafe { (*own).freeze() };
    let young = heap.node(0, 7);
    heap.set(old[0] + NEXT, young);
    for n in 0..50_000 {
        heap.node(0, n);
    }
    let kept = 5000 * NODE + array_size(Storage::I8, 50_000);
    assert_eq!(heap.live(), kept + NODE);
    // New objects did not come between the old ones.
    for (n, node) in (0..).zip(&old) {
        assert_eq!(heap.read::<u64>(node + NUMBER), n);
    }
    assert_eq!((heap.read::<u64>(young + NUMBER), heap.read::<u32>(large + LENGTH)), (7, 50_000));
    // SAFETY: as above.
    unsafe { (*own).thaw(before) };
    assert_eq!(heap.live(), 0);
}

/// Suspended code may go on, and take what was kept for it, while a collection marks.
#[test]
fn what_was_frozen_when_a_collection_began_is_kept_at_its_end() {
    let mut heap = Heap::collecting_in_steps();
    while heap.advance() {}
    let inner = heap.node(0, 1);
    heap.keep(inner);
    let old = heap.node(inner, 2);
    heap.keep(old);
    let large = heap.byte_array(50_000);
    // SAFETY: the store is live and used by nobody else.
    let before = unsafe {
        (*heap.own()).intern(&ExternRef::new(5)).unwrap();
        (*heap.own()).freeze()
    };
    heap.gc().temporaries.clear();
    while heap.advance() {}
    assert!(heap.advance(), "a collection begins");
    // SAFETY: as above.
    unsafe { (*heap.own()).thaw(before) };
    heap.set(old + NEXT, 0);
    while heap.advance() {}
    assert_eq!(heap.gc().live(), 2 * NODE + array_size(Storage::I8, 50_000));
    assert_eq!((heap.read::<u64>(old + NUMBER), heap.read::<u32>(large + LENGTH)), (2, 50_000));
    assert_eq!(heap.store.heap_stats().externs, 1);
    // The next keeps none of them.
    heap.collect();
    assert_eq!((heap.gc().live(), heap.store.heap_stats().externs), (0, 0));
}

/// A heap whose next collection can't mark all in its first step, right after that.
fn marking_a_large_heap() -> Heap {
    let mut heap = Heap::new();
    let (mut last, slot) = (0, heap.keep(0));
    for n in 0..400_000 {
        last = heap.node(last, n);
        heap.gc().temporaries[slot] = u64::from(last);
    }
    while heap.vm().gc_marking != 0 {
        heap.node(0, 0);
    }
    while heap.vm().gc_marking == 0 {
        heap.node(0, 0);
    }
    heap
}

#[test]
fn a_collection_ends_where_references_are_only_overwritten() {
    let mut heap = marking_a_large_heap();
    let node = heap.gc().temporaries[0] as u32;
    let mut writes = 0;
    while heap.vm().gc_marking != 0 {
        // SAFETY: the store is live and used by nobody else, and the node has a reference there.
        unsafe { ops::set_reference(heap.own(), node + NEXT, 0) };
        writes += 1;
        assert!(writes < 1_000_000);
    }
    // All that were there when it began are kept.
    assert!(heap.gc().live() >= 400_000 * NODE, "{}", heap.gc().live());
    assert_eq!(heap.live(), NODE);
}

#[test]
fn a_collection_ends_where_large_arrays_are_allocated() {
    let mut heap = marking_a_large_heap();
    let before = heap.gc().bytes();
    while heap.vm().gc_marking != 0 {
        heap.byte_array(1 << 20);
        assert!(heap.gc().bytes() < before + (32 << 20));
    }
    assert!(heap.gc().live() >= 400_000 * NODE);
}

#[test]
fn exceptions_made_while_a_collection_marks_are_counted() {
    let mut heap = Heap::collecting_in_steps();
    let mut last = 0;
    let slot = heap.keep(0);
    for n in 0..10 {
        last = heap.node(last, n);
        heap.gc().temporaries[slot] = u64::from(last);
    }
    while heap.advance() {}
    heap.gc().count_exception(24);
    assert!(heap.advance());
    heap.gc().count_exception(32);
    while heap.advance() {}
    // The first is none that was found.
    assert_eq!((heap.gc().exceptions(), heap.gc().exception_bytes()), (1, 32));
}

/// A collection of the whole heap forgets what one has marked that is under way.
#[test]
fn what_has_died_in_a_collection_under_way_is_freed_if_the_host_asks() {
    let mut heap = Heap::collecting_in_steps();
    while heap.advance() {}
    let first = heap.byte_array(100_000);
    heap.keep(first);
    let second = heap.node(first, 2);
    heap.keep(second);
    while heap.advance() {}
    assert!(heap.advance());
    heap.gc().temporaries.clear();
    let before = heap.gc().bytes();
    assert_eq!(heap.live(), 0);
    // One block for the node, and four for the array.
    assert_eq!(before - heap.gc().bytes(), 5 * BLOCK);
}

#[test]
fn pins_keep_objects_and_outlive_the_store() {
    let mut heap = Heap::new();
    let inner = heap.node(0, 1);
    let id = heap.store.inner().opaque.id;
    let node = heap.node(inner, 2);
    let pins: Vec<GcPin> = (0..3).map(|_| heap.gc().pin(node)).collect();
    assert_eq!(heap.live(), 2 * NODE);
    let [first, second, last] = <[GcPin; 3]>::try_from(pins).ok().unwrap();
    std::thread::spawn(|| drop((first, second))).join().unwrap();
    assert_eq!((heap.live(), last.reference(), last.store()), (2 * NODE, node, id));
    drop(last);
    assert_eq!(heap.live(), 0);
    let other = heap.gc().pin(node);
    drop(heap);
    drop(other);
}

#[test]
fn host_objects_live_as_long_as_a_field_refers_to_them() {
    let mut heap = Heap::new();
    let object = ExternRef::new(5);
    // SAFETY: the store is live and used by nobody else.
    let slot = unsafe { (*heap.own()).intern(&object).unwrap() };
    assert_eq!(slot as u32 & layout::TAG_BITS, EXTERN_BITS);
    let node = heap.node(0, 0);
    heap.set(node + HOST, slot as u32);
    let list = heap.node(node, 0);
    heap.keep(list);
    heap.collect();
    assert_eq!(heap.store.heap_stats().externs, 1);
    heap.set(node + HOST, 0);
    heap.collect();
    assert_eq!(heap.store.heap_stats().externs, 0);
}

#[test]
fn a_mark_stack_that_overflows_is_made_up_for() {
    let mut heap = Heap::new();
    // Each array has its successor last, so that all others wait for it.
    let (mut last, mut objects) = (0, 0);
    let slot = heap.keep(0);
    for _ in 0..60 {
        let array = heap.array(100);
        for index in 0..99 {
            let node = heap.node(0, index);
            heap.set(array + HEADER + 4 * index as u32, node);
            objects += NODE;
        }
        heap.set(array + HEADER + 4 * 99, last);
        objects += array_size(Storage::Reference, 100);
        last = array;
        heap.gc().temporaries[slot] = u64::from(last);
    }
    assert_eq!(heap.live(), objects);
    while last != 0 {
        for index in 0..99 {
            let node: u32 = heap.read(last + HEADER + 4 * index);
            assert_eq!(heap.read::<u64>(node + NUMBER), u64::from(index));
        }
        last = heap.read(last + HEADER + 4 * 99);
    }
}

#[test]
fn marking_a_corrupted_heap_stays_in_it() {
    for seed in 0..60_u64 {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let mut heap = Heap::new();
        let mut all = vec![0_u32];
        for n in 0..4000 {
            let any = all[random(all.len() as u64) as usize];
            let object = match random(8) {
                0 => {
                    let array = heap.array(1 + random(300) as u32);
                    heap.set(array + HEADER, any);
                    array
                }
                1 => heap.byte_array(random(600) as u32),
                2 if n % 16 == 0 => heap.array(5000 + random(20_000) as u32),
                _ => heap.node(any, n),
            };
            heap.keep(object);
            all.push(object);
        }
        heap.collect();
        let end = heap.vm().gc_end as u64;
        let words = (end - u64::from(heap::START)) / 4;
        for _ in 0..3000 {
            // Headers are hit as often as contents, and so are the descriptors.
            let at = match random(3) {
                0 => all[1 + random(all.len() as u64 - 1) as usize] + 4 * random(2) as u32,
                1 => heap.node + 4 * random(16) as u32,
                _ => heap::START + 4 * random(words) as u32,
            };
            let word = match random(4) {
                0 => random(1 << 32) as u32,
                1 => all[random(all.len() as u64) as usize] + random(40) as u32,
                2 => [heap.node, heap.references, heap.bytes, ARRAY, u32::MAX, u32::MAX - 7][random(6) as usize],
                _ => end as u32 - 32 + random(64) as u32,
            };
            heap.set(at, word);
        }
        heap.collect();
        // What is read through any word is in the heap, or in a page that is not accessible: as large as an offset can tell.
        for object in &all[1..] {
            let length: u32 = heap.read(object + LENGTH);
            let (at, bytes) = (u64::from(object + HEADER), u64::from(length) * 16);
            // SAFETY: the store is live.
            let range = unsafe { access::range(heap.own().cast(), at, bytes) };
            assert_eq!(range.is_some(), at + bytes <= end);
            // SAFETY: the store is live.
            let _: *mut _ = unsafe { functions::func_of_id(heap.own(), length) };
        }
        for n in 0..2000 {
            if heap.try_alloc(heap.node, 0, NODE).is_err() {
                panic!("{n}");
            }
        }
        heap.collect();
    }
}

#[test]
fn stores_without_objects_reserve_nothing() {
    let engine = Engine::default();
    let module = Module::new(&engine, "(module (type (func)) (func (export \"f\")))").unwrap();
    let mut stores: Vec<Store<()>> = (0..1000).map(|_| Store::new(&engine, ())).collect();
    for store in &mut stores {
        crate::Instance::new(&mut *store, &module, &[]).unwrap();
        assert!(store.inner().opaque.vm.gc_base.is_null());
        assert_eq!(store.inner().opaque.gc.bytes(), 0);
    }
}

#[test]
fn functions_have_numbers_that_lead_back_to_them() {
    let mut store = Store::new(&Engine::default(), ());
    let own = store.inner_mut().opaque.as_ptr();
    let funcs: Vec<_> = (0..5).map(|_| crate::Func::wrap(&mut store, || {})).collect();
    for (func, n) in funcs.iter().zip(1..) {
        let reference = func.func_ref(&store.inner().opaque).as_ptr();
        // SAFETY: the store is live, and so are its functions.
        unsafe {
            assert_eq!(functions::func_to_id(own, reference).unwrap(), n);
            assert_eq!(functions::func_to_id(own, reference).unwrap(), n);
            assert_eq!(functions::func_of_id(own, n), reference);
            assert_eq!((*own).vm.func_table.add(n as usize).read(), reference);
        }
    }
    // SAFETY: as above.
    unsafe {
        assert_eq!(functions::func_to_id(own, std::ptr::null_mut()).unwrap(), 0);
        assert!(functions::func_of_id(own, 0).is_null() && functions::func_of_id(own, 6).is_null());
        assert!(functions::func_of_id(own, u32::MAX).is_null());
        assert_eq!((*own).vm.func_count, 6);
    }
}

#[test]
fn subtypes_can_be_told_by_their_display() {
    let engine = Engine::default();
    let open = |supertype: Option<&StructType>| {
        StructType::with_finality_and_supertype(&engine, Finality::NonFinal, supertype, []).unwrap()
    };
    let base = open(None);
    let [left, right] = [open(Some(&base)), open(Some(&base))];
    let mut store = Store::new(&engine, ());
    let own = store.inner_mut().opaque.as_ptr();
    // SAFETY: the store is live and used by nobody else.
    let of = |ty: &StructType| unsafe {
        heap::reserve(&mut *own).unwrap();
        descriptor::of_type(own, ty.registered_type()).unwrap()
    };
    // Equal definitions are one type, so these are one, and have one descriptor.
    assert_eq!((&left, of(&left)), (&right, of(&right)));
    let field = FieldType::new(Mutability::Var, ValType::I32.into());
    let other = StructType::with_finality_and_supertype(&engine, Finality::Final, Some(&base), [field]).unwrap();
    assert_ne!(of(&left), of(&other));
    // SAFETY: the store is live.
    let display = |ty: &StructType, depth| unsafe { access::read::<u32>(own.cast(), of(ty) + layout::display(depth)) };
    assert_eq!((display(&left, 0), display(&other, 0)), (of(&base), of(&base)));
    assert_eq!((display(&left, 1), display(&other, 1), display(&base, 1)), (of(&left), of(&other), 0));
}
