//! Collections that mark in steps, while code moves the only reference to an object from where they have not looked yet to
//! where they have, and while something else happens.

use crate::engines::{call, configs, instantiate};
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use wasmrun::{
    AnyRef, Caller, Config, Engine, ErrorKind, ExternRef, Func, Linker, Module, Store, StoreLimitsBuilder, Trap,
};

/// Places for objects, and objects.
const PLACES: i32 = 48;

/// How a place is cleared whose reference was read: by each instruction that overwrites references.
const CLEARS: [(&str, &str); 6] = [
    ("field", "(struct.set $field 1 (array.get $all (global.get $fields) (local.get $at)) (ref.null $node))"),
    ("far", "(struct.set $far 9000 (array.get $fars (global.get $fars) (local.get $at)) (ref.null $node))"),
    ("element", "(array.set $pair (array.get $pairs (global.get $pairs) (local.get $at)) (i32.const 1) (ref.null $node))"),
    (
        "fill",
        "(array.fill $pair (array.get $pairs (global.get $pairs) (local.get $at)) (i32.const 0) (ref.null $node) (i32.const 2))",
    ),
    (
        "copy",
        "(array.copy $pair $pair (array.get $pairs (global.get $pairs) (local.get $at)) (i32.const 1)
            (global.get $nulls) (i32.const 0) (i32.const 1))",
    ),
    (
        "init",
        "(array.init_elem $pair $empty (array.get $pairs (global.get $pairs) (local.get $at)) (i32.const 0) (i32.const 0)
            (i32.const 2))",
    ),
];

/// Where the references to the two objects are meanwhile that change places.
const HOLDS: [(&str, &str, &str); 6] = [
    ("local", "", ""),
    ("global", "(global.set $held_a (local.get $a)) (global.set $held_b (local.get $b))",
        "(local.set $a (global.get $held_a)) (local.set $b (global.get $held_b))
         (global.set $held_a (ref.null $node)) (global.set $held_b (ref.null $node))"),
    ("table", "(table.set (i32.const 0) (local.get $a)) (table.set (i32.const 1) (local.get $b))",
        "(local.set $a (table.get (i32.const 0))) (local.set $b (table.get (i32.const 1)))
         (table.fill (i32.const 0) (ref.null $node) (i32.const 2))"),
    ("exception",
        "(block $caught (result exnref) (try_table (catch_all_ref $caught) (throw $two (local.get $a) (local.get $b))) (unreachable))
         (local.set $exception)",
        "(block $caught (result (ref null $node) (ref null $node))
            (try_table (catch $two $caught) (throw_ref (local.get $exception))) (unreachable))
         (local.set $b) (local.set $a) (local.set $exception (ref.null exn))"),
    ("host", "(call $hold (local.get $a) (local.get $b))",
        "(call $give) (local.set $b (ref.cast (ref null $node))) (local.set $a (ref.cast (ref null $node)))"),
    ("new object", "(local.set $new (array.new_fixed $pair 2 (local.get $a) (local.get $b)))",
        "(local.set $a (array.get $pair (local.get $new) (i32.const 0))) (local.set $b (array.get $pair (local.get $new) (i32.const 1)))
         (local.set $new (ref.null $pair))"),
];

/// A module with a function for each of [`CLEARS`] and [`HOLDS`]: it exchanges the objects of two places a number of times, makes
/// garbage in the same places of the heap as soon as they are free, and returns the sum of the numbers that all objects have.
fn module() -> String {
    let mut wat = format!(
        r#"(module
        (type $node (struct (field $number (mut i32)) (field i64)))
        (type $gap (array (mut i8)))
        (type $field (struct (field i32) (field (mut (ref null $node)))))
        (type $far (struct {} (field (mut (ref null $node)))))
        (type $pair (array (mut (ref null $node))))
        (type $all (array (mut (ref null $field)))) (type $fars (array (mut (ref null $far))))
        (type $pairs (array (mut (ref null $pair))))
        (import "" "hold" (func $hold (param anyref anyref)))
        (import "" "give" (func $give (result anyref anyref)))
        (tag $two (param (ref null $node) (ref null $node)))
        (global $fields (mut (ref null $all)) (ref.null $all)) (global $fars (mut (ref null $fars)) (ref.null $fars))
        (global $pairs (mut (ref null $pairs)) (ref.null $pairs))
        (global $nulls (ref $pair) (array.new_default $pair (i32.const 2)))
        (global $held_a (mut (ref null $node)) (ref.null $node)) (global $held_b (mut (ref null $node)) (ref.null $node))
        (table $held 2 (ref null $node))
        (elem $empty (ref null $node) (ref.null $node) (ref.null $node))
        (global $random (mut i32) (i32.const 777))
        (func $place (result i32)
            (global.set $random (i32.xor (global.get $random) (i32.shl (global.get $random) (i32.const 13))))
            (global.set $random (i32.xor (global.get $random) (i32.shr_u (global.get $random) (i32.const 17))))
            (global.set $random (i32.xor (global.get $random) (i32.shl (global.get $random) (i32.const 5))))
            (i32.rem_u (global.get $random) (i32.const {PLACES})))
        ;; Nodes and what is between them: a line of the heap has one node.
        (func $node (param $number i32) (result (ref $node))
            (drop (array.new_default $gap (i32.const 500)))
            (struct.new $node (local.get $number) (i64.const -1)))
        (func $garbage (drop (struct.new $node (i32.const -1000000) (i64.const 0))))"#,
        "(field i64)".repeat(9000)
    );
    let make = [
        (
            "field",
            "(global.set $fields (array.new_default $all (i32.const 48)))",
            "(array.set $all (global.get $fields) (local.get $at) (struct.new $field (i32.const 0) (call $node (local.get $at))))",
        ),
        (
            "far",
            "(global.set $fars (array.new_default $fars (i32.const 48)))",
            "(array.set $fars (global.get $fars) (local.get $at) (struct.new_default $far))
             (struct.set $far 9000 (array.get $fars (global.get $fars) (local.get $at)) (call $node (local.get $at)))",
        ),
        (
            "element",
            "(global.set $pairs (array.new_default $pairs (i32.const 48)))",
            "(array.set $pairs (global.get $pairs) (local.get $at)
                (array.new_fixed $pair 2 (ref.null $node) (call $node (local.get $at))))",
        ),
    ];
    for (clear, clear_code) in CLEARS {
        let (get, set) = match clear {
            "field" => (
                "(struct.get $field 1 (array.get $all (global.get $fields) (local.get $at)))",
                "(struct.set $field 1 (array.get $all (global.get $fields) (local.get $at)) (local.get $node))",
            ),
            "far" => (
                "(struct.get $far 9000 (array.get $fars (global.get $fars) (local.get $at)))",
                "(struct.set $far 9000 (array.get $fars (global.get $fars) (local.get $at)) (local.get $node))",
            ),
            _ => (
                "(array.get $pair (array.get $pairs (global.get $pairs) (local.get $at)) (i32.const 1))",
                "(array.set $pair (array.get $pairs (global.get $pairs) (local.get $at)) (i32.const 1) (local.get $node))",
            ),
        };
        let (_, begin, one) = make.iter().find(|made| made.0 == clear).unwrap_or(&make[2]);
        let _ = write!(
            wat,
            r#"(func $get_{clear} (param $at i32) (result (ref null $node)) {get})
            (func $set_{clear} (param $at i32) (param $node (ref null $node)) {set})
            (func $clear_{clear} (param $at i32) {clear_code})
            (func $make_{clear} (local $at i32)
                {begin}
                (loop $l {one} (br_if $l (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const {PLACES})))))
            (func $sum_{clear} (result i32) (local $at i32) (local $sum i32)
                (loop $l
                    (local.set $sum (i32.add (local.get $sum) (struct.get $node $number (call $get_{clear} (local.get $at)))))
                    (br_if $l (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const {PLACES}))))
                (local.get $sum))"#
        );
        for (hold, away, back) in HOLDS {
            let _ = write!(
                wat,
                r#"(func (export "{clear}, {hold}") (param $times i32) (result i32)
                    (local $a (ref null $node)) (local $b (ref null $node)) (local $at i32) (local $to i32)
                    (local $exception exnref) (local $new (ref null $pair))
                    (call $make_{clear})
                    (loop $again
                        (local.set $at (call $place)) (local.set $to (call $place))
                        (if (i32.ne (local.get $at) (local.get $to)) (then
                            (local.set $a (call $get_{clear} (local.get $at)))
                            (local.set $b (call $get_{clear} (local.get $to)))
                            (call $garbage)
                            {away}
                            (call $clear_{clear} (local.get $at)) (call $clear_{clear} (local.get $to))
                            (call $garbage) (call $garbage)
                            {back}
                            (call $set_{clear} (local.get $at) (local.get $b))
                            (call $garbage)
                            (call $set_{clear} (local.get $to) (local.get $a))
                            (local.set $a (ref.null $node)) (local.set $b (ref.null $node))
                            (call $garbage)))
                        (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1)))))
                    (call $sum_{clear}))"#
            );
        }
    }
    wat.push(')');
    wat
}

/// Configurations in which a collection is always under way, which marks an object or so at each allocation.
fn in_steps() -> Vec<Config> {
    let mut all = configs();
    all.iter_mut().for_each(|config| {
        config.collect_in_steps(true);
    });
    all
}

#[test]
fn objects_that_change_places_are_not_lost() {
    let wat = module();
    for config in in_steps() {
        println!("{config:?}");
        let engine = Engine::new(&config).unwrap();
        let module = Module::new(&engine, &wat).unwrap();
        let mut linker = Linker::new(&engine);
        type Held = Option<[Option<AnyRef>; 2]>;
        linker
            .func_wrap("", "hold", |mut caller: Caller<'_, Held>, a: Option<AnyRef>, b: Option<AnyRef>| {
                *caller.data_mut() = Some([a, b]);
            })
            .unwrap();
        linker
            .func_wrap("", "give", |mut caller: Caller<'_, Held>| {
                let [a, b] = caller.data_mut().take().expect("something is held");
                (a, b)
            })
            .unwrap();
        let mut store = Store::new(&engine, None);
        let instance = linker.instantiate(&mut store, &module).unwrap();
        for (clear, _) in CLEARS {
            for (hold, ..) in HOLDS {
                let name = format!("{clear}, {hold}");
                let run = instance.get_typed_func::<i32, i32>(&mut store, &name).unwrap();
                assert_eq!(run.call(&mut store, 600).unwrap(), PLACES * (PLACES - 1) / 2, "{name}");
            }
        }
        assert!(store.heap_stats().collections > 100);
    }
}

/// Host objects to which only a field refers: they are counted, and go when they are dropped.
#[test]
fn host_objects_that_change_places_are_not_dropped() {
    struct Counted(Arc<AtomicI32>, i32);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let wat = r#"(module
        (type $box (struct (field (mut externref)))) (type $boxes (array (mut (ref null $box))))
        (import "" "new" (func $new (param i32) (result externref)))
        (import "" "number" (func $number (param externref) (result i32)))
        (global $boxes (mut (ref null $boxes)) (ref.null $boxes))
        (func $box (param $at i32) (result (ref null $box)) (array.get $boxes (global.get $boxes) (local.get $at)))
        (func (export "f") (param $times i32) (result i32) (local $at i32) (local $to i32) (local $a externref) (local $sum i32)
            (global.set $boxes (array.new_default $boxes (i32.const 32)))
            (loop $make
                (array.set $boxes (global.get $boxes) (local.get $at) (struct.new $box (call $new (local.get $at))))
                (br_if $make (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const 32))))
            (loop $again
                (local.set $at (i32.and (i32.mul (local.get $times) (i32.const 7)) (i32.const 31)))
                (local.set $to (i32.and (i32.mul (local.get $times) (i32.const 13)) (i32.const 31)))
                (local.set $a (struct.get $box 0 (call $box (local.get $at))))
                (struct.set $box 0 (call $box (local.get $at)) (struct.get $box 0 (call $box (local.get $to))))
                (drop (struct.new_default $box))
                (struct.set $box 0 (call $box (local.get $to)) (local.get $a))
                (local.set $a (ref.null extern))
                (drop (struct.new_default $box)) (drop (call $new (i32.const 1000)))
                (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1)))))
            (local.set $at (i32.const 0))
            (loop $sum
                (local.set $sum (i32.add (local.get $sum) (call $number (struct.get $box 0 (call $box (local.get $at))))))
                (br_if $sum (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const 32))))
            (local.get $sum)))"#;
    for config in in_steps() {
        println!("{config:?}");
        let engine = Engine::new(&config).unwrap();
        let alive = Arc::new(AtomicI32::new(0));
        let count = alive.clone();
        let mut store = Store::new(&engine, ());
        let new = Func::wrap(&mut store, move |number: i32| {
            count.fetch_add(1, Ordering::Relaxed);
            Some(ExternRef::new(Counted(count.clone(), number)))
        });
        let number = Func::wrap(&mut store, |object: Option<ExternRef>| {
            object.expect("not null").data().downcast_ref::<Counted>().expect("an object of the test").1
        });
        let instance = instantiate(&mut store, wat, &[new.into(), number.into()]);
        assert_eq!(call::<_, i32, i32>(&mut store, instance, "f", 2000).unwrap(), 31 * 32 / 2);
        // What nothing refers to goes although a collection is always under way.
        assert!(alive.load(Ordering::Relaxed) < 1000, "{alive:?}");
        drop(store);
        assert_eq!(alive.load(Ordering::Relaxed), 0);
    }
}

/// A list, and what may happen while a collection looks at it.
const EVENTS: &str = r#"(module
    (type $node (struct (field $number i32) (field $next (mut (ref null $node)))))
    (type $bytes (array (mut i8))) (type $all (array (mut (ref null $bytes))))
    (tag $t (param i32 (ref null $node)))
    (global $list (mut (ref null $node)) (ref.null $node))
    (global $kept (mut (ref null $all)) (ref.null $all))
    (func (export "make") (param $count i32)
        (loop $l
            (drop (array.new_default $bytes (i32.const 300)))
            (global.set $list (struct.new $node (local.get $count) (global.get $list)))
            (br_if $l (local.tee $count (i32.sub (local.get $count) (i32.const 1))))))
    ;; Takes nodes from the front and puts them behind the second one.
    (func $turn (export "turn") (param $count i32) (local $node (ref null $node)) (local $second (ref null $node))
        (loop $l
            (local.set $node (global.get $list))
            (local.set $second (struct.get $node $next (local.get $node)))
            (struct.set $node $next (local.get $node) (struct.get $node $next (local.get $second)))
            (struct.set $node $next (local.get $second) (local.get $node))
            (global.set $list (local.get $second))
            (drop (struct.new $node (i32.const -1000000) (ref.null $node)))
            (br_if $l (local.tee $count (i32.sub (local.get $count) (i32.const 1))))))
    (func (export "sum") (result i32) (local $node (ref null $node)) (local $sum i32)
        (local.set $node (global.get $list))
        (loop $l
            (local.set $sum (i32.add (local.get $sum) (struct.get $node $number (local.get $node))))
            (br_if $l (i32.eqz (ref.is_null (local.tee $node (struct.get $node $next (local.get $node)))))))
        (local.get $sum))
    (func (export "grow") (param $count i32)
        (global.set $kept (array.new_default $all (local.get $count)))
        (loop $l
            (local.set $count (i32.sub (local.get $count) (i32.const 1)))
            (array.set $all (global.get $kept) (local.get $count) (array.new_default $bytes (i32.const 300000)))
            (br_if $l (local.get $count))))
    (func (export "trap") (call $turn (i32.const 10)) (unreachable))
    (func (export "throw") (call $turn (i32.const 10)) (throw $t (i32.const 5) (global.get $list))))"#;

#[test]
fn a_collection_under_way_survives_what_happens() {
    const LENGTH: i32 = 500;
    for config in in_steps() {
        println!("{config:?}");
        let engine = Engine::new(&config).unwrap();
        let limits = StoreLimitsBuilder::new().memory_size(16 << 20).build();
        let mut store = Store::new(&engine, limits);
        store.limiter(|limits| limits);
        let instance = instantiate(&mut store, EVENTS, &[]);
        call::<_, i32, ()>(&mut store, instance, "make", LENGTH).unwrap();
        let mut held = Vec::new();
        for round in 0..5 {
            call::<_, i32, ()>(&mut store, instance, "turn", 37 + round).unwrap();
            match round {
                0 => call::<_, i32, ()>(&mut store, instance, "grow", 20).unwrap(),
                1 => {
                    let error = call::<_, i32, ()>(&mut store, instance, "grow", 60).unwrap_err();
                    assert!(matches!(error.kind(), ErrorKind::Resource(_)), "{error}");
                }
                2 => {
                    let error = call::<_, (), ()>(&mut store, instance, "trap", ()).unwrap_err();
                    assert_eq!(error.trap(), Some(Trap::Unreachable));
                }
                3 => {
                    let error = call::<_, (), ()>(&mut store, instance, "throw", ()).unwrap_err();
                    assert!(matches!(error.kind(), ErrorKind::Exception(_)), "{error}");
                    held.push(error);
                }
                _ => store.gc(),
            }
            call::<_, i32, ()>(&mut store, instance, "turn", LENGTH).unwrap();
            let sum: i32 = call(&mut store, instance, "sum", ()).unwrap();
            assert_eq!(sum, LENGTH * (LENGTH + 1) / 2, "{round}");
        }
        // The store goes in the middle of a collection; what is held of it does not mind.
        call::<_, i32, ()>(&mut store, instance, "turn", 3).unwrap();
        drop(store);
        drop(held);
    }
}

/// With the pace that programs have: more is live than the first step marks.
#[test]
fn a_large_heap_is_marked_while_it_changes() {
    const LENGTH: i32 = 60_000;
    for config in configs() {
        println!("{config:?}");
        let mut store = Store::new(&Engine::new(&config).unwrap(), ());
        let instance = instantiate(&mut store, EVENTS, &[]);
        for _ in 0..4 {
            call::<_, i32, ()>(&mut store, instance, "make", LENGTH).unwrap();
        }
        let before = store.heap_stats().collections;
        let mut turned = 0;
        while store.heap_stats().collections < before + 2 {
            call::<_, i32, ()>(&mut store, instance, "turn", 10_000).unwrap();
            turned += 10_000;
            assert!(turned < 20_000_000, "no collection ends");
        }
        let sum: i32 = call(&mut store, instance, "sum", ()).unwrap();
        assert_eq!(sum, 2_i32.wrapping_mul(LENGTH.wrapping_mul(LENGTH + 1)));
    }
}
