//! Structures, arrays, `i31` and casts, where the official scripts do not look: deep hierarchies, types of several modules and
//! stores, the edges of what lies in an array, and objects that only one kind of place refers to while everything is
//! collected that can be.

use crate::engines::{call, configs, instantiate, trap};
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use wasmrun::{Config, Engine, Instance, Module, Store, Trap, UpdateDeadline};

/// Every configuration, and each once more with a collection at every allocation, and with one that is always under way.
pub fn gc_configs() -> Vec<Config> {
    let (mut always, mut in_steps) = (configs(), configs());
    always.iter_mut().for_each(|config| {
        config.collect_always(true);
    });
    in_steps.iter_mut().for_each(|config| {
        config.collect_in_steps(true);
    });
    [configs(), always, in_steps].concat()
}

/// Runs `test` on each of these engines; the output of a failing one ends with its configuration.
fn for_each_engine(test: impl Fn(&Engine)) {
    for config in gc_configs() {
        println!("{config:?}");
        test(&Engine::new(&config).expect("the configuration works on this host"));
    }
}

/// A store with one instance in it.
fn setup(engine: &Engine, wat: &str) -> (Store<()>, Instance) {
    let mut store = Store::new(engine, ());
    let instance = instantiate(&mut store, wat, &[]);
    (store, instance)
}

/// Calls `f` with these numbers.
fn f<R: wasmrun::WasmResults>(store: &mut Store<()>, instance: Instance, params: impl wasmrun::WasmParams) -> R {
    call(store, instance, "f", params).expect("the call returns")
}

/// Depth of the hierarchy of types.
const DEPTH: usize = 20;

/// Two chains of types of this depth, which part in the middle; the types of the second have numbers from `DEPTH` on. `None` is
/// the supertype of the first one.
fn supertype(ty: usize) -> Option<usize> {
    match ty {
        0 => None,
        DEPTH => Some(DEPTH / 2),
        ty => Some(ty - 1),
    }
}

fn is_subtype(ty: usize, of: usize) -> bool {
    let mut this = Some(ty);
    while let Some(ty) = this {
        if ty == of {
            return true;
        }
        this = supertype(ty);
    }
    false
}

/// Every object against every type, by `ref.test`, `ref.cast`, `br_on_cast` and `br_on_cast_fail`, nullable and not.
#[test]
fn casts_follow_the_declared_hierarchy() {
    const TYPES: usize = DEPTH + DEPTH / 2;
    let mut wat = String::from("(module (rec\n");
    for ty in 0..TYPES {
        let above = supertype(ty).map(|of| format!("$t{of}")).unwrap_or_default();
        // The last of each chain is final.
        let is_final = [DEPTH - 1, TYPES - 1].contains(&ty);
        let _ =
            writeln!(wat, "(type $t{ty} (sub {} {above} (struct (field i32))))", if is_final { "final" } else { "" });
    }
    wat.push_str(") (type $bytes (array i8)) (type $all (array (mut anyref))) (global $all (mut (ref null $all)) (ref.null $all))\n");
    wat.push_str("(func (export \"make\") (local $all (ref null $all))\n");
    let _ = writeln!(wat, "(local.set $all (array.new_default $all (i32.const {})))", TYPES + 3);
    for ty in 0..TYPES {
        let _ =
            writeln!(wat, "(array.set $all (local.get $all) (i32.const {ty}) (struct.new $t{ty} (i32.const {ty})))");
    }
    let _ = writeln!(wat, "(array.set $all (local.get $all) (i32.const {TYPES}) (ref.i31 (i32.const 5)))");
    let _ = writeln!(
        wat,
        "(array.set $all (local.get $all) (i32.const {}) (array.new_default $bytes (i32.const 1)))",
        TYPES + 1
    );
    wat.push_str("(global.set $all (local.get $all)))\n");
    wat.push_str("(func $get (param i32) (result anyref) (array.get $all (global.get $all) (local.get 0)))\n");
    let targets: Vec<String> = (0..TYPES)
        .map(|ty| format!("$t{ty}"))
        .chain(["any", "eq", "i31", "struct", "array", "none", "$bytes"].map(String::from))
        .collect();
    for (at, target) in targets.iter().enumerate() {
        for (nullable, null) in [("", 0), ("null ", 1)] {
            let ty = format!("(ref {nullable}{target})");
            let _ = writeln!(
                wat,
                "(func (export \"test {at} {null}\") (param i32) (result i32) (ref.test {ty} (call $get (local.get 0))))
                 (func (export \"cast {at} {null}\") (param i32) (result i32)
                    (drop (ref.cast {ty} (call $get (local.get 0)))) (i32.const 1))
                 (func (export \"branch {at} {null}\") (param i32) (result i32)
                    (block $passed (result i32 {ty})
                        (br_on_cast $passed anyref {ty} (i32.const 1) (call $get (local.get 0)))
                        (drop) (drop) (return (i32.const 0)))
                    (drop))
                 (func (export \"fail {at} {null}\") (param i32) (result i32)
                    (block $failed (result i32 anyref)
                        (br_on_cast_fail $failed anyref {ty} (i32.const 0) (call $get (local.get 0)))
                        (drop) (drop) (return (i32.const 1)))
                    (drop))"
            );
        }
    }
    wat.push(')');
    let holds = |object: usize, target: &str| match target {
        "any" => true,
        "eq" => true,
        "i31" => object == TYPES,
        "struct" => object < TYPES,
        "array" | "$bytes" => object == TYPES + 1,
        "none" => false,
        target => object < TYPES && is_subtype(object, target[2..].parse().unwrap()),
    };
    for_each_engine(|engine| {
        let (mut store, instance) = setup(engine, &wat);
        call::<_, (), ()>(&mut store, instance, "make", ()).unwrap();
        for (at, target) in targets.iter().enumerate() {
            for null in [0, 1] {
                let funcs = ["test", "branch", "fail", "cast"].map(|name| {
                    instance.get_typed_func::<i32, i32>(&mut store, &format!("{name} {at} {null}")).unwrap()
                });
                for object in 0..TYPES + 3 {
                    let expected = if object == TYPES + 2 { null == 1 } else { holds(object, target) };
                    for func in &funcs[..3] {
                        let got = func.call(&mut store, object as i32).unwrap();
                        assert_eq!(got, i32::from(expected), "object {object} as {target}, nullable: {null}");
                    }
                    match funcs[3].call(&mut store, object as i32) {
                        Ok(_) => assert!(expected, "object {object} as {target}, nullable: {null}"),
                        Err(error) => {
                            assert_eq!((error.trap(), expected), (Some(Trap::CastFailure), false), "{object} {target}");
                        }
                    }
                }
            }
        }
    });
}

/// Functions have a hierarchy of their own.
#[test]
fn functions_are_cast_by_their_declared_types() {
    let wat = r#"(module
        (type $a (sub (func (result anyref)))) (type $b (sub $a (func (result eqref)))) (type $c (sub final $b (func (result i31ref))))
        (type $other (func (result anyref)))
        (func $fa (type $a) (ref.null any)) (func $fb (type $b) (ref.null eq)) (func $fc (type $c) (ref.null i31))
        (func $fo (type $other) (ref.null any))
        (table funcref (elem $fa $fb $fc $fo))
        (func (export "f") (param i32) (result i32) (local $f funcref)
            (if (i32.ne (local.get 0) (i32.const 4)) (then (local.set $f (table.get (local.get 0)))))
            (i32.or (i32.or
                (ref.test (ref $a) (local.get $f))
                (i32.shl (ref.test (ref null $b) (local.get $f)) (i32.const 1)))
                (i32.or
                (i32.shl (ref.test (ref $c) (local.get $f)) (i32.const 2))
                (i32.or (i32.shl (ref.test (ref $other) (local.get $f)) (i32.const 3))
                (i32.or (i32.shl (ref.test (ref func) (local.get $f)) (i32.const 4))
                    (i32.shl (ref.test (ref null nofunc) (local.get $f)) (i32.const 5)))))))
        (func (export "cast") (param i32) (drop (ref.cast (ref $b) (table.get (local.get 0))))))"#;
    for_each_engine(|engine| {
        let (mut store, instance) = setup(engine, wat);
        let of = |store: &mut Store<()>, func: i32| f::<i32>(store, instance, func);
        assert_eq!([0, 1, 2, 3, 4].map(|at| of(&mut store, at)), [0b010001, 0b010011, 0b010111, 0b011000, 0b100010]);
        for (at, passes) in [(0, false), (1, true), (2, true), (3, false)] {
            match call::<_, i32, ()>(&mut store, instance, "cast", at) {
                Ok(()) => assert!(passes),
                Err(error) => assert_eq!((error.trap(), passes), (Some(Trap::CastFailure), false)),
            }
        }
    });
}

/// Types are the same if their recursive groups are, whichever module defines them, and in every store.
#[test]
fn groups_of_types_are_compared_by_structure() {
    let node = "(rec (type $node (sub (struct (field i32) (field (ref null $list))))) (type $list (array (mut (ref null $node)))))";
    let makes = format!(
        r#"(module {node} (func (export "make") (param i32) (result anyref)
            (struct.new $node (local.get 0) (array.new_default $list (i32.const 3)))))"#
    );
    let reads = |types: &str| {
        format!(
            r#"(module {types} (import "" "" (func $make (param i32) (result anyref)))
            (func (export "f") (param i32) (result i32)
                (block $other (result anyref)
                    (br_on_cast_fail $other anyref (ref $node) (call $make (local.get 0)))
                    (return (struct.get $node 0)))
                (drop) (i32.const -1)))"#
        )
    };
    let same = reads(&format!("(type (func)) {node}"));
    let reordered = reads(
        "(rec (type $list (array (mut (ref null $node)))) (type $node (sub (struct (field i32) (field (ref null $list))))))",
    );
    let longer = reads(&node.replace("(rec ", "(rec (type (func)) "));
    for_each_engine(|engine| {
        let [makes, same, reordered, longer] =
            [&makes, &same, &reordered, &longer].map(|wat| Module::new(engine, wat).unwrap());
        for _ in 0..3 {
            let mut store = Store::new(engine, ());
            let maker = Instance::new(&mut store, &makes, &[]).unwrap();
            let make = maker.get_export(&mut store, "make").unwrap();
            for (module, expected) in [(&reordered, -1), (&same, 7), (&longer, -1), (&same, 7)] {
                let reader = Instance::new(&mut store, module, std::slice::from_ref(&make)).unwrap();
                assert_eq!(f::<i32>(&mut store, reader, 7), expected);
            }
        }
    });
}

#[test]
fn packed_fields_are_extended_as_asked() {
    let wat = r#"(module
        (type $s (struct (field (mut i8)) (field (mut i16)) (field (mut i8))))
        (type $a8 (array (mut i8))) (type $a16 (array (mut i16)))
        (func (export "f") (param i32 i32) (result i32 i32 i32 i32) (local $s (ref null $s))
            (local.set $s (struct.new $s (i32.const 0) (i32.const 0) (i32.const 0)))
            (struct.set $s 0 (local.get $s) (local.get 0))
            (struct.set $s 1 (local.get $s) (local.get 1))
            (struct.get_s $s 0 (local.get $s)) (struct.get_u $s 0 (local.get $s))
            (struct.get_s $s 1 (local.get $s)) (struct.get_u $s 1 (local.get $s))
            (if (i32.or (struct.get_u $s 2 (local.get $s)) (i32.const 0)) (then (unreachable))))
        (func (export "array") (param i32 i32) (result i32 i32 i32 i32)
            (local $a (ref null $a8)) (local $b (ref null $a16))
            (local.set $a (array.new $a8 (i32.const 0) (i32.const 3)))
            (local.set $b (array.new $a16 (i32.const 0) (i32.const 3)))
            (array.set $a8 (local.get $a) (i32.const 1) (local.get 0))
            (array.set $a16 (local.get $b) (i32.const 1) (local.get 1))
            (array.get_s $a8 (local.get $a) (i32.const 1)) (array.get_u $a8 (local.get $a) (i32.const 1))
            (array.get_s $a16 (local.get $b) (i32.const 1)) (array.get_u $a16 (local.get $b) (i32.const 1))
            (if (i32.or (array.get_u $a8 (local.get $a) (i32.const 2)) (array.get_u $a16 (local.get $b) (i32.const 2)))
                (then (unreachable)))))"#;
    for_each_engine(|engine| {
        let (mut store, instance) = setup(engine, wat);
        for (x, y) in [(0, 0), (0x7f, 0x7fff), (0x80, 0x8000), (-1, -1), (0x1_23, 0x1_2345), (i32::MIN, i32::MAX)] {
            let expected = (i32::from(x as i8), i32::from(x as u8), i32::from(y as i16), i32::from(y as u16));
            for name in ["f", "array"] {
                let got: (i32, i32, i32, i32) = call(&mut store, instance, name, (x, y)).unwrap();
                assert_eq!(got, expected, "{name} {x:#x} {y:#x}");
            }
        }
    });
}

/// A field beyond what 16 bits can tell, of each kind, and slots beyond it too.
#[test]
fn far_fields_and_wide_slots() {
    let padding = "(field v128) ".repeat(4200);
    let locals = "(local v128)".repeat(33_000);
    let wat = format!(
        r#"(module
        (type $fn (func (result i32)))
        (type $s (struct {padding} (field $a (mut i8)) (field $b (mut i16)) (field $c (mut i32)) (field $d (mut f64))
            (field $e (mut v128)) (field $g (mut (ref null $s))) (field $h (mut funcref)) (field $i (mut (ref null $fn)))))
        (type $array (array (mut i64)))
        (table 1 funcref) (elem declare func $seven)
        (func $seven (type $fn) (i32.const 7))
        (func (export "f") (param i32) (result i64) {locals} (local $s (ref null $s)) (local $n i64) (local $m (ref null $array))
            (local.set $s (struct.new_default $s))
            (struct.set $s $a (local.get $s) (local.get 0))
            (struct.set $s $b (local.get $s) (local.get 0))
            (struct.set $s $c (local.get $s) (local.get 0))
            (struct.set $s $d (local.get $s) (f64.convert_i32_s (local.get 0)))
            (struct.set $s $e (local.get $s) (i64x2.splat (i64.extend_i32_s (local.get 0))))
            (struct.set $s $g (local.get $s) (local.get $s))
            (struct.set $s $h (local.get $s) (ref.func $seven))
            (struct.set $s $i (local.get $s) (ref.func $seven))
            (table.set (i32.const 0) (struct.get $s $h (struct.get $s $g (local.get $s))))
            (local.set $n (i64.extend_i32_s (call_indirect (type $fn) (i32.const 0))))
            (table.set (i32.const 0) (struct.get $s $i (local.get $s)))
            (local.set $n (i64.add (local.get $n) (i64.extend_i32_s (call_indirect (type $fn) (i32.const 0)))))
            (local.set $n (i64.add (local.get $n) (i64.extend_i32_s (struct.get_s $s $a (local.get $s)))))
            (local.set $n (i64.add (local.get $n) (i64.extend_i32_s (struct.get_u $s $b (local.get $s)))))
            (local.set $n (i64.add (local.get $n) (i64.extend_i32_s (struct.get $s $c (local.get $s)))))
            (local.set $n (i64.add (local.get $n) (i64.trunc_f64_s (struct.get $s $d (local.get $s)))))
            (local.set $n (i64.add (local.get $n) (i64x2.extract_lane 1 (struct.get $s $e (local.get $s)))))
            (local.set $m (array.new_fixed $array 3 (i64.const 1) (local.get $n) (i64.const 3)))
            (array.copy $array $array (local.get $m) (i32.const 0) (local.get $m) (i32.const 1) (i32.const 2))
            (array.fill $array (local.get $m) (i32.const 1) (i64.const 100) (i32.const 1))
            (i64.add (array.get $array (local.get $m) (i32.const 0)) (array.get $array (local.get $m) (i32.const 1)))))"#
    );
    for_each_engine(|engine| {
        let (mut store, instance) = setup(engine, &wat);
        for n in [0, -3, 0x1_8080] {
            let n64 = i64::from(n);
            let expected = 100 + 14 + i64::from(n as i8) + i64::from(n as u16) + 3 * n64;
            assert_eq!(f::<i64>(&mut store, instance, n), expected, "{n:#x}");
        }
    });
}

/// Ranges that end at, beyond and far beyond the end, and those whose end does not fit 32 bits.
#[test]
fn ranges_of_arrays_are_checked_without_overflow() {
    let wat = r#"(module
        (type $a (array (mut i64))) (type $r (array (mut anyref)))
        (data $d "0123456789abcdefghijklmnopqrstuvwxyz01234567") ;; 44 bytes: five elements and a half
        (elem $e anyref (ref.i31 (i32.const 1)) (ref.i31 (i32.const 2)) (ref.i31 (i32.const 3)))
        (global $a (ref $a) (array.new $a (i64.const 1) (i32.const 5)))
        (global $b (ref $a) (array.new $a (i64.const 2) (i32.const 7)))
        (global $r (ref $r) (array.new_default $r (i32.const 5)))
        (func (export "fill") (param i32 i32) (array.fill $a (global.get $a) (local.get 0) (i64.const 3) (local.get 1)))
        (func (export "copy to") (param i32 i32)
            (array.copy $a $a (global.get $a) (local.get 0) (global.get $b) (i32.const 0) (local.get 1)))
        (func (export "copy from") (param i32 i32)
            (array.copy $a $a (global.get $b) (i32.const 0) (global.get $a) (local.get 0) (local.get 1)))
        (func (export "init data") (param i32 i32)
            (array.init_data $a $d (global.get $a) (local.get 0) (i32.const 0) (local.get 1)))
        (func (export "data") (param i32 i32)
            (array.init_data $a $d (global.get $b) (i32.const 0) (local.get 0) (local.get 1)))
        (func (export "new data") (param i32 i32) (drop (array.new_data $a $d (local.get 0) (local.get 1))))
        (func (export "init elem") (param i32 i32)
            (array.init_elem $r $e (global.get $r) (local.get 0) (i32.const 0) (local.get 1)))
        (func (export "elem") (param i32 i32)
            (array.init_elem $r $e (global.get $r) (i32.const 0) (local.get 0) (local.get 1)))
        (func (export "new elem") (param i32 i32) (drop (array.new_elem $r $e (local.get 0) (local.get 1))))
        (func (export "drop") (data.drop $d) (elem.drop $e))
        (func (export "null") (param i32) (array.fill $a (ref.null $a) (i32.const 0) (i64.const 0) (local.get 0)))
        (func (export "null copy") (param i32) (array.copy $a $a (global.get $a) (i32.const 0) (ref.null $a) (i32.const 0) (local.get 0)))
        (func (export "get") (param i32) (drop (array.get $a (global.get $a) (local.get 0))))
        (func (export "set") (param i32) (array.set $a (global.get $a) (local.get 0) (i64.const 0))))"#;
    const MOST: i32 = -1;
    let (array, memory, table) = (Trap::ArrayOutOfBounds, Trap::MemoryOutOfBounds, Trap::TableOutOfBounds);
    for_each_engine(|engine| {
        let (mut store, instance) = setup(engine, wat);
        let check = |store: &mut Store<()>, name: &str, at: i32, count: i32, expected: Option<Trap>| {
            let got = call::<_, (i32, i32), ()>(store, instance, name, (at, count)).err().and_then(|e| e.trap());
            assert_eq!(got, expected, "{name} {at} {count}");
        };
        for name in ["fill", "copy to", "copy from"] {
            for (at, count) in [(0, 0), (0, 5), (5, 0), (4, 1)] {
                check(&mut store, name, at, count, None);
            }
            for (at, count) in
                [(0, 6), (5, 1), (6, 0), (MOST, 0), (MOST, 1), (MOST, MOST), (1, MOST), (0, MOST), (5, MOST - 4)]
            {
                check(&mut store, name, at, count, Some(array));
            }
        }
        for (at, count, expected) in [
            (0, 5, None),
            (5, 0, None),
            (6, 0, Some(array)),
            (1, 5, Some(array)),
            (MOST, 2, Some(array)),
            (0, MOST, Some(array)),
        ] {
            check(&mut store, "init data", at, count, expected);
        }
        for name in ["data", "new data"] {
            for (at, count) in [(0, 5), (4, 5), (44, 0), (36, 1)] {
                check(&mut store, name, at, count, None);
            }
            for (at, count) in [(5, 5), (37, 1), (45, 0), (MOST, 0), (MOST, 1)] {
                check(&mut store, name, at, count, Some(memory));
            }
        }
        // 2^29 elements of eight bytes are 2^32 bytes, whose low half is zero.
        check(&mut store, "new data", 0, 1 << 29, Some(memory));
        check(&mut store, "new data", 0, MOST, Some(memory));
        for (at, count, expected) in [(2, 3, None), (0, 4, Some(table)), (3, 3, Some(array)), (MOST, 1, Some(array))] {
            check(&mut store, "init elem", at, count, expected);
        }
        for name in ["elem", "new elem"] {
            for (at, count, expected) in [
                (0, 3, None),
                (3, 0, None),
                (4, 0, Some(table)),
                (1, 3, Some(table)),
                (MOST, 1, Some(table)),
                (MOST, 0, Some(table)),
            ] {
                check(&mut store, name, at, count, expected);
            }
        }
        call::<_, (), ()>(&mut store, instance, "drop", ()).unwrap();
        for name in ["data", "new data", "elem", "new elem"] {
            check(&mut store, name, 0, 0, None);
            check(&mut store, name, 0, 1, Some(if name.contains("data") { memory } else { table }));
            check(&mut store, name, 1, 0, Some(if name.contains("data") { memory } else { table }));
        }
        for count in [0, 1] {
            assert_eq!(trap(&mut store, instance, "null", count), Some(Trap::NullArrayReference));
            assert_eq!(trap(&mut store, instance, "null copy", count), Some(Trap::NullArrayReference));
        }
        for index in [5, MOST, i32::MIN, 1 << 29] {
            assert_eq!(trap(&mut store, instance, "get", index), Some(array));
            assert_eq!(trap(&mut store, instance, "set", index), Some(array));
        }
    });
}

/// Copies within an array, and fills, of each size of elements.
#[test]
fn bulk_operations_move_what_they_should() {
    for (ty, get, value) in [
        ("i8", "array.get_u", "(i32.const 0x1a5)"),
        ("i16", "array.get_u", "(i32.const 0x1a5a5)"),
        ("i32", "array.get", "(i32.const 0xa5)"),
        ("i64", "i32.wrap_i64 (array.get", "(i64.const 0xa5)"),
        ("v128", "i32x4.extract_lane 2 (array.get", "(i32x4.splat (i32.const 0xa5))"),
    ] {
        let close = if get.contains('(') { ")" } else { "" };
        let from_i32 = match ty {
            "i64" => "(i64.extend_i32_u (local.get $i))",
            "v128" => "(i32x4.splat (local.get $i))",
            _ => "(local.get $i)",
        };
        let wat = format!(
            r#"(module (type $a (array (mut {ty}))) (global $a (mut (ref null $a)) (ref.null $a))
            (func (export "make") (param i32) (local $i i32)
                (global.set $a (array.new_default $a (local.get 0)))
                (loop $l
                    (array.set $a (global.get $a) (local.get $i) {from_i32})
                    (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get 0)))))
            (func (export "copy") (param i32 i32 i32)
                (array.copy $a $a (global.get $a) (local.get 0) (global.get $a) (local.get 1) (local.get 2)))
            (func (export "fill") (param i32 i32) (array.fill $a (global.get $a) (local.get 0) {value} (local.get 1)))
            (func (export "new") (param i32) (global.set $a (array.new $a {value} (local.get 0))))
            (func (export "f") (param i32) (result i32) ({get} $a (global.get $a) (local.get 0)){close}))"#
        );
        for_each_engine(|engine| {
            let (mut store, instance) = setup(engine, &wat);
            let content = |store: &mut Store<()>| (0..10).map(|at| f::<i32>(store, instance, at)).collect::<Vec<_>>();
            let mut expected: Vec<i32> = (0..10).collect();
            call::<_, i32, ()>(&mut store, instance, "make", 10).unwrap();
            for (to, from, count) in [(2, 0, 5), (0, 3, 7), (9, 0, 1), (1, 1, 9)] {
                call::<_, (i32, i32, i32), ()>(&mut store, instance, "copy", (to, from, count)).unwrap();
                expected.copy_within(from as usize..(from + count) as usize, to as usize);
                assert_eq!(content(&mut store), expected, "{ty}");
            }
            let value = if ty == "i16" { 0xa5a5 } else { 0xa5 };
            call::<_, (i32, i32), ()>(&mut store, instance, "fill", (3, 4)).unwrap();
            expected[3..7].fill(value);
            assert_eq!(content(&mut store), expected, "{ty}");
            call::<_, i32, ()>(&mut store, instance, "new", 10).unwrap();
            assert_eq!(content(&mut store), [value; 10], "{ty}");
        });
    }
}

/// Larger ranges are moved in pieces, between which requests are looked for; of ranges that overlap, the last piece first.
#[test]
fn large_ranges_are_moved_in_pieces() {
    let wat = r#"(module (type $a (array (mut i64)))
        (global $a (mut (ref null $a)) (ref.null $a))
        (func (export "make") (local $i i32)
            (global.set $a (array.new_default $a (i32.const 5000000)))
            (loop $l
                (array.set $a (global.get $a) (local.get $i) (i64.extend_i32_u (local.get $i)))
                (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1000))) (i32.const 5000000)))))
        (func (export "copy") (param i32 i32)
            (array.copy $a $a (global.get $a) (local.get 0) (global.get $a) (local.get 1) (i32.const 4999000)))
        (func (export "f") (param i32) (result i64) (array.get $a (global.get $a) (local.get 0))))"#;
    for config in gc_configs().iter().step_by(2) {
        println!("{config:?}");
        let (mut store, instance) = setup(&Engine::new(config).unwrap(), wat);
        call::<_, (), ()>(&mut store, instance, "make", ()).unwrap();
        let all = |store: &mut Store<()>| (0..5000).map(|n| f::<i64>(store, instance, n * 1000)).collect::<Vec<_>>();
        let mut expected: Vec<i64> = (0..5000).map(|n| n * 1000).collect();
        for (to, from) in [(1000, 0), (0, 1000)] {
            call::<_, (i32, i32), ()>(&mut store, instance, "copy", (to, from)).unwrap();
            expected.copy_within(from as usize / 1000..from as usize / 1000 + 4999, to as usize / 1000);
            assert!(all(&mut store) == expected, "to {to}");
        }
    }
}

/// Initial values with objects in globals, tables and element segments; all survive collections.
#[test]
fn constant_expressions_make_objects() {
    let wat = r#"(module
        (type $pair (struct (field (mut i32)) (field anyref)))
        (type $list (array (mut (ref null $pair))))
        (type $wide (struct (field i8) (field v128) (field (mut i64))))
        (type $vectors (array v128))
        (type $fn (func (result i32)))
        (type $callback (struct (field (ref $fn))))
        (func $seven (type $fn) (i32.const 7))
        (global $base i32 (i32.const 10))
        (global $i31 (ref i31) (ref.i31 (i32.sub (global.get $base) (i32.const 13))))
        (global $inner (ref $pair) (struct.new $pair (i32.add (global.get $base) (i32.const 1)) (global.get $i31)))
        (global $outer (ref $pair) (struct.new $pair (i32.const 2) (struct.new $pair (i32.const 3) (global.get $inner))))
        (global $list (ref $list) (array.new_fixed $list 3
            (global.get $inner) (ref.null $pair) (struct.new $pair (i32.const 5) (ref.null any))))
        (global $filled (ref $list) (array.new $list (struct.new $pair (i32.const 6) (ref.null any)) (i32.const 4)))
        (global $default (ref $list) (array.new_default $list (global.get $base)))
        (global $w (ref $wide) (struct.new $wide (i32.const 0x1ff) (v128.const i32x4 1 2 3 4) (i64.const 9)))
        (global $zero (ref $wide) (struct.new_default $wide))
        (global $vectors (ref $vectors) (array.new_fixed $vectors 2 (v128.const i32x4 1 2 3 4) (v128.const i32x4 5 6 7 8)))
        (global $callback (ref $callback) (struct.new $callback (ref.func $seven)))
        (global $there externref (extern.convert_any (struct.new $pair (i32.const 77) (ref.null any))))
        (global $back anyref (any.convert_extern (global.get $there)))
        (table $init 4 (ref $pair) (struct.new $pair (i32.const 8) (ref.i31 (i32.const -3))))
        (table $active 4 anyref)
        (elem (table $active) (i32.const 1) anyref (ref.i31 (i32.const 12)) (struct.new $pair (i32.const 13) (global.get $inner)))
        (elem $passive anyref (struct.new $pair (i32.const 14) (ref.null any)) (array.new_default $list (i32.const 15)))
        (table $funcs 1 funcref)
        (type $anys (array (mut anyref)))
        (func $of (param anyref) (result i32) (struct.get $pair 0 (ref.cast (ref $pair) (local.get 0))))
        (func (export "f") (result i32 i32 i32 i32 i32 i32 i32 i32)
            (call $of (struct.get $pair 1 (ref.cast (ref $pair) (struct.get $pair 1 (global.get $outer)))))
            (call $of (array.get $list (global.get $list) (i32.const 2)))
            (call $of (array.get $list (global.get $filled) (i32.const 3)))
            (array.len (global.get $default))
            (i32x4.extract_lane 3 (struct.get $wide 1 (global.get $w)))
            (i32x4.extract_lane 1 (array.get $vectors (global.get $vectors) (i32.const 1)))
            (call $of (global.get $back))
            (i31.get_s (ref.cast (ref i31) (struct.get $pair 1 (table.get $init (i32.const 3))))))
        (func (export "tables") (result i32 i32 i32 i32 i32 i32) (local $anys (ref null $anys))
            (call $of (table.get $init (i32.const 0)))
            (i31.get_u (ref.cast (ref i31) (table.get $active (i32.const 1))))
            (call $of (struct.get $pair 1 (ref.cast (ref $pair) (table.get $active (i32.const 2)))))
            (table.set $funcs (i32.const 0) (struct.get $callback 0 (global.get $callback)))
            (call_indirect $funcs (type $fn) (i32.const 0))
            ;; What only the segment refers to.
            (local.set $anys (array.new_elem $anys $passive (i32.const 0) (i32.const 2)))
            (table.init $active $passive (i32.const 0) (i32.const 0) (i32.const 1))
            (call $of (array.get $anys (local.get $anys) (i32.const 0)))
            (array.len (ref.cast (ref $list) (array.get $anys (local.get $anys) (i32.const 1))))
            (if (i32.eqz (ref.eq (ref.cast eqref (table.get $active (i32.const 0)))
                (ref.cast eqref (array.get $anys (local.get $anys) (i32.const 0))))) (then (unreachable))))
        (func (export "churn") (param i32)
            (loop $l
                (drop (array.new $list (global.get $inner) (i32.const 100)))
                (drop (struct.new $pair (i32.const -1) (global.get $inner)))
                (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
        (func (export "drop") (elem.drop $passive)))"#;
    for_each_engine(|engine| {
        let (mut store, instance) = setup(engine, wat);
        for round in 0..4 {
            type Eight = (i32, i32, i32, i32, i32, i32, i32, i32);
            assert_eq!(f::<Eight>(&mut store, instance, ()), (11, 5, 6, 10, 4, 6, 77, -3));
            let tables: (i32, i32, i32, i32, i32, i32) = call(&mut store, instance, "tables", ()).unwrap();
            assert_eq!(tables, (8, 12, 11, 7, 14, 15));
            store.gc();
            call::<_, i32, ()>(&mut store, instance, "churn", 100 << round).unwrap();
        }
        // Another instance has objects of its own.
        let again = instantiate(&mut store, wat, &[]);
        call::<_, (), ()>(&mut store, instance, "drop", ()).unwrap();
        store.gc();
        let tables: (i32, i32, i32, i32, i32, i32) = call(&mut store, again, "tables", ()).unwrap();
        assert_eq!(tables, (8, 12, 11, 7, 14, 15));
    });
}

/// What no heap can hold, and what this one has no room for, ends the call and nothing else.
#[test]
fn too_much_is_an_error_of_the_call() {
    let wat = r#"(module
        (type $bytes (array i8)) (type $vectors (array v128)) 
        (func (export "vectors") (param i32) (drop (array.new_default $vectors (local.get 0))))
        (func (export "filled") (param i32) (drop (array.new $vectors (v128.const i64x2 1 2) (local.get 0))))
        (func (export "f") (result i32) (array.len (array.new_default $bytes (i32.const 1000)))))"#;
    for_each_engine(|engine| {
        let (mut store, instance) = setup(engine, wat);
        for count in [-1, i32::MIN, 1 << 28] {
            for name in ["vectors", "filled"] {
                assert_eq!(trap(&mut store, instance, name, count), Some(Trap::AllocationTooLarge), "{count}");
            }
        }
        assert_eq!(f::<i32>(&mut store, instance, ()), 1000);
    });
}

/// Objects that only a local, an operand, a field, an element or a global refers to.
#[test]
fn objects_live_as_long_as_something_refers_to_them() {
    let wat = r#"(module
        (type $node (struct (field i32) (field (mut (ref null $node)))))
        (type $nodes (array (mut (ref null $node))))
        (global $g (mut (ref null $node)) (ref.null $node))
        (func $node (param i32 (ref null $node)) (result (ref $node)) (struct.new $node (local.get 0) (local.get 1)))
        (func $sum (param (ref null $node)) (result i32) (local $sum i32)
            (loop $l
                (if (i32.eqz (ref.is_null (local.get 0)))
                    (then
                        (local.set $sum (i32.add (local.get $sum) (struct.get $node 0 (local.get 0))))
                        (local.set 0 (struct.get $node 1 (local.get 0)))
                        (br $l))))
            (local.get $sum))
        (func $list (param i32) (result (ref null $node)) (local $list (ref null $node))
            (loop $l
                (local.set $list (call $node (local.get 0) (local.get $list)))
                (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
            (local.get $list))
        (func $tree (param i32) (result (ref $nodes)) (local $nodes (ref null $nodes)) (local $i i32)
            (local.set $nodes (array.new_default $nodes (local.get 0)))
            (loop $l
                (array.set $nodes (local.get $nodes) (local.get $i) (call $list (i32.add (local.get $i) (i32.const 1))))
                (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get 0))))
            (ref.cast (ref $nodes) (local.get $nodes)))
        (func (export "local") (param i32) (result i32) (local $a (ref null $node)) (local $b (ref null $node))
            (local.set $a (call $list (local.get 0)))
            (local.set $b (call $list (local.get 0)))
            (drop (call $list (local.get 0)))
            (i32.add (call $sum (local.get $a)) (call $sum (local.get $b))))
        (func (export "operand") (param i32) (result i32)
            (call $list (local.get 0)) (call $list (local.get 0)) (drop (call $list (local.get 0)))
            (call $sum) (drop) (call $sum) (i32.mul (i32.const 2)))
        (func (export "global") (param i32) (result i32)
            (global.set $g (call $list (local.get 0))) (drop (call $list (local.get 0)))
            (i32.mul (i32.const 2) (call $sum (global.get $g))))
        (func (export "array") (param i32) (result i32) (local $nodes (ref null $nodes))
            (local.set $nodes (call $tree (local.get 0)))
            (drop (call $tree (local.get 0)))
            (i32.mul (i32.const 2)
                (call $sum (array.get $nodes (local.get $nodes) (i32.sub (local.get 0) (i32.const 1))))))
        (func (export "fixed") (param i32) (result i32) (local $nodes (ref null $nodes))
            (local.set $nodes
                (array.new_fixed $nodes 3 (call $list (local.get 0)) (call $list (i32.const 9)) (call $list (local.get 0))))
            (drop (call $list (local.get 0)))
            (i32.add (call $sum (array.get $nodes (local.get $nodes) (i32.const 0)))
                (call $sum (array.get $nodes (local.get $nodes) (i32.const 2))))))"#;
    for_each_engine(|engine| {
        let (mut store, instance) = setup(engine, wat);
        for n in [1, 5, 40] {
            for name in ["local", "operand", "global", "array", "fixed"] {
                let sum: i32 = call(&mut store, instance, name, n).unwrap();
                assert_eq!(sum, n * (n + 1), "{name} {n}");
            }
        }
    });
}

/// However large an array, a request is noticed soon.
#[test]
fn work_on_large_arrays_is_interrupted() {
    let wat = r#"(module (type $a (array (mut i8))) (type $r (array (mut anyref)))
        (global $a (mut (ref null $a)) (ref.null $a))
        (func (export "make") (global.set $a (array.new_default $a (i32.const 0x10000000))))
        (func (export "fill") (array.fill $a (global.get $a) (i32.const 0) (i32.const 1) (i32.const 0x10000000)))
        (func (export "copy")
            (array.copy $a $a (global.get $a) (i32.const 1) (global.get $a) (i32.const 0) (i32.const 0x0fffffff)))
        (func (export "new") (loop $l (drop (array.new $r (ref.i31 (i32.const 1)) (i32.const 1000))) (br $l)))
        (func (export "f") (result i32) (array.get_u $a (global.get $a) (i32.const 0x0fffffff))))"#;
    for config in gc_configs().iter().step_by(2) {
        println!("{config:?}");
        let (mut store, instance) = setup(&Engine::new(config).unwrap(), wat);
        call::<_, (), ()>(&mut store, instance, "make", ()).unwrap();
        for name in ["fill", "copy", "new"] {
            store.set_deadline(Instant::now() + Duration::from_millis(2)).unwrap();
            assert_eq!(trap(&mut store, instance, name, ()), Some(Trap::Deadline), "{name}");
            store.set_deadline(None).unwrap();
        }
        assert!(f::<i32>(&mut store, instance, ()) <= 1);
    }
}

/// Also while the memory of a dead array is made zero for a new one. A second one lives, so that the memory is not given back.
#[test]
fn requests_are_noticed_while_a_large_array_is_made() {
    let wat = r#"(module (type $a (array (mut i8)))
        (global $a (mut (ref null $a)) (ref.null $a)) (global $b (mut (ref null $a)) (ref.null $a))
        (func (export "fill")
            (global.set $a (array.new $a (i32.const 1) (i32.const 0x6000000)))
            (global.set $b (array.new $a (i32.const 1) (i32.const 0x6000000))))
        (func (export "drop") (global.set $a (ref.null $a)))
        (func (export "make") (global.set $a (array.new_default $a (i32.const 0x6000000))))
        (func (export "f") (result i32) (array.get_u $a (global.get $a) (i32.const 0x5ffffff))))"#;
    for mut config in gc_configs().into_iter().step_by(2) {
        println!("{config:?}");
        let (mut store, instance) = setup(&Engine::new(config.epoch_interruption(true)).unwrap(), wat);
        store.set_epoch_deadline(u64::MAX);
        call::<_, (), ()>(&mut store, instance, "fill", ()).unwrap();
        call::<_, (), ()>(&mut store, instance, "drop", ()).unwrap();
        store.gc();
        // Called whenever the running code looks for requests.
        let looks = Arc::new(AtomicU32::new(0));
        let count = looks.clone();
        store.epoch_deadline_callback(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok(UpdateDeadline::Continue(0))
        });
        store.set_epoch_deadline(0);
        call::<_, (), ()>(&mut store, instance, "make", ()).unwrap();
        // There are six pieces.
        assert!(looks.load(Ordering::Relaxed) >= 6, "{looks:?}");
        assert_eq!(f::<i32>(&mut store, instance, ()), 0);
    }
}

/// By the price list: bulk operations cost by the bytes that they move or make.
#[test]
fn what_arrays_cost() {
    let wat = r#"(module (type $a (array (mut i32)))
        (global $a (ref $a) (array.new $a (i32.const 1) (i32.const 1000)))
        (data $d "0123456789")
        (func (export "new") (param i32) (drop (array.new_default $a (local.get 0))))
        (func (export "filled") (param i32) (drop (array.new $a (i32.const 5) (local.get 0))))
        (func (export "fill") (param i32) (array.fill $a (global.get $a) (i32.const 0) (i32.const 5) (local.get 0)))
        (func (export "copy") (param i32)
            (array.copy $a $a (global.get $a) (i32.const 0) (global.get $a) (i32.const 0) (local.get 0)))
        (type $small (struct (field i32 i64 i64)))
        (type $large (struct (field v128 v128 v128 v128 v128 v128 v128 v128 v128 v128 v128 v128)))
        (func (export "small") (param i32) (drop (struct.new $small (local.get 0) (i64.const 1) (i64.const 2))))
        (func (export "large") (param i32) (drop (struct.new_default $large)))
        (func (export "len") (param i32) (drop (array.len (global.get $a)))))"#;
    for mut config in gc_configs() {
        println!("{config:?}");
        let engine = Engine::new(config.consume_fuel(true)).unwrap();
        let mut store = Store::new(&engine, ());
        let instance = instantiate(&mut store, wat, &[]);
        let mut consumed = |name: &str, count: i32| {
            store.set_fuel(10_000).unwrap();
            call::<_, i32, ()>(&mut store, instance, name, count).unwrap();
            10_000 - store.get_fuel().unwrap()
        };
        for (name, instructions) in [("new", 2), ("filled", 3), ("fill", 5), ("copy", 6)] {
            for (count, more) in [(0, 0), (15, 0), (16, 1), (160, 10), (1000, 62)] {
                assert_eq!(consumed(name, count), 1 + instructions + more, "{name} {count}");
            }
        }
        // 32 bytes, and 12 * 16 and the header's 8.
        for (name, cost) in [("small", 4), ("large", 1 + 3), ("len", 2)] {
            assert_eq!(consumed(name, 0), 1 + cost, "{name}");
        }
        store.set_fuel(20).unwrap();
        assert_eq!(trap(&mut store, instance, "fill", 1000), Some(Trap::OutOfFuel));
    }
}

#[test]
fn null_has_no_parts() {
    let wat = r#"(module (type $s (struct (field (mut i32)) (field (mut v128)))) (type $a (array (mut i32)))
        (type $f (array (mut funcref)))
        (func (export "get") (drop (struct.get $s 0 (ref.null $s))))
        (func (export "get v128") (drop (struct.get $s 1 (ref.null none))))
        (func (export "set") (struct.set $s 0 (ref.null $s) (i32.const 0)))
        (func (export "len") (drop (array.len (ref.null $a))))
        (func (export "element") (drop (array.get $a (ref.null $a) (i32.const 0))))
        (func (export "func") (drop (array.get $f (ref.null $f) (i32.const 0))))
        (func (export "set func") (array.set $f (ref.null $f) (i32.const 0) (ref.null func)))
        (func (export "set element") (array.set $a (ref.null $a) (i32.const 0) (i32.const 0)))
        (func (export "i31 s") (drop (i31.get_s (ref.null i31))))
        (func (export "i31 u") (drop (i31.get_u (ref.null i31))))
        (func (export "cast") (drop (ref.cast (ref $s) (ref.null any)))))"#;
    for_each_engine(|engine| {
        let (mut store, instance) = setup(engine, wat);
        for (name, expected) in [
            ("get", Trap::NullStructReference),
            ("get v128", Trap::NullStructReference),
            ("set", Trap::NullStructReference),
            ("len", Trap::NullArrayReference),
            ("element", Trap::NullArrayReference),
            ("func", Trap::NullArrayReference),
            ("set func", Trap::NullArrayReference),
            ("set element", Trap::NullArrayReference),
            ("i31 s", Trap::NullI31Reference),
            ("i31 u", Trap::NullI31Reference),
            ("cast", Trap::CastFailure),
        ] {
            assert_eq!(trap(&mut store, instance, name, ()), Some(expected), "{name}");
        }
    });
}
