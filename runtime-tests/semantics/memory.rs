//! Linear memory: exact bounds, growth under running code, several memories.

use crate::engines::{call, for_each_engine, instantiate, setup};
use std::sync::{Arc, Mutex};
use wasmrun::{Caller, Extern, Func, LinearMemory, Memory, MemoryType, Module, Ref, Result, Store, Trap, WasiEnv};

/// Every access instruction with the bytes it touches, as text with its operands behind the address.
const ACCESSES: [(&str, &str, u64); 31] = [
    ("i32.load8_u", "", 1),
    ("i32.load8_s", "", 1),
    ("i64.load8_u", "", 1),
    ("i32.load16_u", "", 2),
    ("i64.load16_s", "", 2),
    ("i32.load", "", 4),
    ("i64.load32_u", "", 4),
    ("i64.load32_s", "", 4),
    ("f32.load", "", 4),
    ("i64.load", "", 8),
    ("f64.load", "", 8),
    ("v128.load", "", 16),
    ("v128.load8x8_s", "", 8),
    ("v128.load32x2_u", "", 8),
    ("v128.load8_splat", "", 1),
    ("v128.load16_splat", "", 2),
    ("v128.load64_splat", "", 8),
    ("v128.load32_zero", "", 4),
    ("v128.load64_zero", "", 8),
    ("i32.store8", "(i32.const -1)", 1),
    ("i64.store8", "(i64.const -1)", 1),
    ("i32.store16", "(i32.const -1)", 2),
    ("i64.store16", "(i64.const -1)", 2),
    ("i32.store", "(i32.const -1)", 4),
    ("i64.store32", "(i64.const -1)", 4),
    ("f32.store", "(f32.const -1)", 4),
    ("i64.store", "(i64.const -1)", 8),
    ("f64.store", "(f64.const -1)", 8),
    ("v128.store", "(v128.const i64x2 -1 -1)", 16),
    ("v128.load8_lane", "(v128.const i64x2 0 0) LANE", 1),
    ("v128.store64_lane", "(v128.const i64x2 -1 -1) LANE", 8),
];

#[test]
fn bounds_are_exact() {
    const LENGTH: u64 = 0x20000;
    // Offsets around the sizes of pages and guards.
    let offsets =
        [0u64, 1, 15, 0xffff, 0x10000, 0x1fff0, 0x7fff_ffff, 0x8000_0000, 0x200_0000, 0x1ff_0000, 0xffff_ffff];
    let mut wat = String::from("(module (memory (export \"memory\") 2)");
    for (instruction, operand, size) in ACCESSES {
        for offset in offsets {
            let (lane, operand) =
                if operand.ends_with("LANE") { ("0", operand.trim_end_matches(" LANE")) } else { ("", operand) };
            let is_store = instruction.contains(".store");
            let access = format!("({instruction} offset={offset} {lane} (local.get 0) {operand})");
            let body = if is_store { access } else { format!("(drop {access})") };
            wat += &format!("\n(func (export \"{instruction} {offset} {size}\") (param i32) {body})");
        }
    }
    wat += ")";
    for_each_engine(|engine| {
        let (mut store, instance) = setup(engine, &wat);
        for (instruction, _, size) in ACCESSES {
            for offset in offsets {
                let name = format!("{instruction} {offset} {size}");
                let access = instance.get_typed_func::<u32, ()>(&mut store, &name).unwrap();
                let edge = LENGTH.wrapping_sub(offset + size);
                for index in
                    [edge, edge.wrapping_add(1), edge.wrapping_sub(1), 0, 0xffff_ffff, 0x8000_0000, 0x7fff_fff0, LENGTH]
                {
                    let Ok(index) = u32::try_from(index) else { continue };
                    let fits = u64::from(index) + offset + size <= LENGTH;
                    let result = access.call(&mut store, index);
                    let trap = result.as_ref().err().map(|e| e.trap());
                    assert_eq!(trap, (!fits).then_some(Some(Trap::MemoryOutOfBounds)), "{name} at {index:#x}");
                }
            }
        }
    });
}

/// The sum of an offset and an address that was loaded just before has 33 bits like any other.
#[test]
fn an_address_from_memory_does_not_wrap() {
    for_each_engine(|engine| {
        let (mut store, instance) = setup(
            engine,
            r#"(module (memory 1) (data (i32.const 4) "\fc\ff\ff\ff")
                (func (export "slot") (param i32) (result i32) (i32.load offset=8 (i32.load (local.get 0))))
                (func (export "sum") (param i32) (result i32)
                    (i32.load offset=8 (i32.load (i32.xor (local.get 0) (i32.const 0))))))"#,
        );
        for name in ["slot", "sum"] {
            assert_eq!(call::<_, i32, i32>(&mut store, instance, name, 0).unwrap(), 0);
            let error = call::<_, i32, i32>(&mut store, instance, name, 4).unwrap_err();
            assert_eq!(error.trap(), Some(Trap::MemoryOutOfBounds), "{name}");
        }
    });
}

#[test]
fn an_access_across_the_end_writes_nothing() {
    for_each_engine(|engine| {
        let (mut store, instance) = setup(
            engine,
            r#"(module (memory (export "memory") 1) (data $d "\ff\ff\ff\ff\ff\ff\ff\ff")
                (func (export "i16") (param i32) (i32.store16 (local.get 0) (i32.const -1)))
                (func (export "i32") (param i32) (i32.store (local.get 0) (i32.const -1)))
                (func (export "i64") (param i32) (i64.store (local.get 0) (i64.const -1)))
                (func (export "f64") (param i32) (f64.store (local.get 0) (f64.const -1)))
                (func (export "v128") (param i32) (v128.store (local.get 0) (v128.const i64x2 -1 -1)))
                (func (export "fill") (param i32) (memory.fill (local.get 0) (i32.const -1) (i32.const 100)))
                (func (export "copy") (param i32)
                    (i64.store (i32.const 0) (i64.const -1)) (memory.copy (local.get 0) (i32.const 0) (i32.const 8)))
                (func (export "init") (param i32) (memory.init $d (local.get 0) (i32.const 0) (i32.const 8))))"#,
        );
        let memory = instance.get_memory(&mut store, "memory").unwrap();
        for export in ["i16", "i32", "i64", "f64", "v128", "fill", "copy", "init"] {
            let error = call::<_, i32, ()>(&mut store, instance, export, 0xffff).unwrap_err();
            assert_eq!(error.trap(), Some(Trap::MemoryOutOfBounds), "{export}");
            assert_eq!(memory.data(&store)[0xffff], 0, "{export}");
        }
    });
}

#[test]
fn guest_growth_is_seen_at_once() {
    for_each_engine(|engine| {
        let (mut store, instance) = setup(
            engine,
            r#"(module (memory (export "memory") 1 100)
                (func $grow (param i32) (result i32) (memory.grow (local.get 0)))
                ;; Writes to the last byte before and after each growth, in one loop, and adds them up.
                (func (export "run") (param $pages i32) (result i32) (local $sum i32) (local $i i32)
                    (loop $again
                        (i32.store8 (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 1)) (i32.const 1))
                        (if (i32.lt_s (call $grow (i32.const 1)) (i32.const 0)) (then unreachable))
                        (i32.store8 (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 1)) (i32.const 2))
                        (br_if $again (i32.lt_u (memory.size) (local.get $pages))))
                    (loop $again
                        (local.set $i (i32.add (local.get $i) (i32.const 65536)))
                        (local.set $sum (i32.add (local.get $sum)
                            (i32.load8_u (i32.sub (local.get $i) (i32.const 1)))))
                        (br_if $again (i32.lt_u (local.get $i) (i32.mul (memory.size) (i32.const 65536)))))
                    (local.get $sum))
                (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
                (func (export "load") (param i32) (result i32) (i32.load (local.get 0))))"#,
        );
        // All but the last page were written a second time, with 1.
        assert_eq!(call::<_, i32, i32>(&mut store, instance, "run", 50).unwrap(), 51);
        assert_eq!(call::<_, i32, i32>(&mut store, instance, "grow", 0).unwrap(), 50);
        assert_eq!(call::<_, i32, i32>(&mut store, instance, "grow", 51).unwrap(), -1);
        assert_eq!(call::<_, i32, i32>(&mut store, instance, "grow", -1).unwrap(), -1);
        assert_eq!(call::<_, i32, i32>(&mut store, instance, "grow", 50).unwrap(), 50);
        assert_eq!(call::<_, i32, i32>(&mut store, instance, "load", 100 * 65536 - 4).unwrap(), 0);
        assert!(call::<_, i32, i32>(&mut store, instance, "load", 100 * 65536 - 3).is_err());
    });
}

#[test]
fn host_growth_is_seen_when_the_call_returns() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let memory = Memory::new(&mut store, MemoryType::new(1, Some(10))).unwrap();
        let grow = Func::wrap(&mut store, move |mut caller: Caller<'_, ()>| -> Result<u64> {
            let before = memory.grow(&mut caller, 1)?;
            memory.write(&mut caller, (before as usize + 1) * 65536 - 1, &[before as u8])?;
            Ok(before)
        });
        let wat = r#"(module (import "" "memory" (memory 1 10)) (import "" "grow" (func $grow (result i64)))
            (func (export "run") (param $at i32) (result i32 i32) (local $old i32)
                (i32.store8 (local.get $at) (i32.const 100))
                (drop (call $grow))
                (local.set $old (i32.load8_u (local.get $at)))
                (local.get $old)
                (i32.load8_u (i32.add (local.get $at) (i32.const 65536)))))"#;
        let instance = instantiate(&mut store, wat, &[memory.into(), grow.into()]);
        for pages in 1..=9 {
            let at = pages * 65536 - 1;
            let results = call::<_, i32, (i32, i32)>(&mut store, instance, "run", at).unwrap();
            assert_eq!(results, (100, pages), "with {pages} pages");
        }
        assert!(call::<_, i32, (i32, i32)>(&mut store, instance, "run", 0).is_err(), "it has grown to its maximum");
    });
}

#[test]
fn memories_of_several_kinds_side_by_side() {
    for_each_engine(|engine| {
        let (mut store, instance) = setup(
            engine,
            r#"(module
                (memory $a (export "a") 1 1) (memory $b (export "b") 0) (memory $c (export "c") 2 5)
                (data (memory $c) (i32.const 65536) "from c")
                (data $passive "passive")
                (func (export "grow b") (result i32) (memory.grow $b (i32.const 3)))
                (func (export "copy") (memory.copy $b $c (i32.const 131072) (i32.const 65536) (i32.const 6)))
                (func (export "init") (memory.init $a $passive (i32.const 10) (i32.const 0) (i32.const 7)))
                (func (export "fill") (memory.fill $c (i32.const 0) (i32.const 120) (i32.const 3)))
                (func (export "sizes") (result i32 i32 i32) (memory.size $a) (memory.size $b) (memory.size $c))
                (func (export "mix") (result i64)
                    (i64.store $a (i32.const 65528) (i64.const 1))
                    (i64.store $b (i32.const 196600) (i64.const 20))
                    (i64.store $c offset=8 (i32.const 131056) (i64.const 300))
                    (i64.add (i64.load $a (i32.const 65528))
                        (i64.add (i64.load $b (i32.const 196600)) (i64.load $c (i32.const 131064)))))
                (func (export "past a") (drop (i32.load8_u $a (i32.const 65536))))
                (func (export "past c") (drop (i32.load8_u $c (i32.const 131072)))))"#,
        );
        assert!(call::<_, (), ()>(&mut store, instance, "copy", ()).is_err());
        assert_eq!(call::<_, (), i32>(&mut store, instance, "grow b", ()).unwrap(), 0);
        for export in ["copy", "init", "fill"] {
            call::<_, (), ()>(&mut store, instance, export, ()).unwrap();
        }
        assert_eq!(call::<_, (), (i32, i32, i32)>(&mut store, instance, "sizes", ()).unwrap(), (1, 3, 2));
        assert_eq!(call::<_, (), i64>(&mut store, instance, "mix", ()).unwrap(), 321);
        for export in ["past a", "past c"] {
            let error = call::<_, (), ()>(&mut store, instance, export, ()).unwrap_err();
            assert_eq!(error.trap(), Some(Trap::MemoryOutOfBounds));
        }
        let text = |store: &mut Store<()>, memory: &str, at: usize, len: usize| {
            let memory = instance.get_memory(&mut *store, memory).unwrap();
            String::from_utf8(memory.data(&*store)[at..at + len].to_vec()).unwrap()
        };
        assert_eq!(text(&mut store, "b", 131072, 6), "from c");
        assert_eq!(text(&mut store, "a", 10, 7), "passive");
        assert_eq!(text(&mut store, "c", 0, 3), "xxx");
    });
}

#[test]
fn empty_and_largest_memories() {
    for_each_engine(|engine| {
        let (mut store, instance) = setup(
            engine,
            r#"(module (memory (export "memory") 0)
                (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
                (func (export "load8") (param i32) (result i32) (i32.load8_u (local.get 0)))
                (func (export "store64") (param i32) (i64.store offset=1 (local.get 0) (i64.const -1)))
                (func (export "load64") (param i32) (result i64) (i64.load (local.get 0)))
                (func (export "fill") (param i32 i32) (memory.fill (local.get 0) (i32.const 1) (local.get 1))))"#,
        );
        assert!(call::<_, u32, i32>(&mut store, instance, "load8", 0).is_err());
        call::<_, (u32, u32), ()>(&mut store, instance, "fill", (0, 0)).unwrap();
        assert!(call::<_, (u32, u32), ()>(&mut store, instance, "fill", (1, 0)).is_err());
        assert_eq!(call::<_, i32, i32>(&mut store, instance, "grow", 65537).unwrap(), -1);
        // All 4 GiB: pages that are not touched take no memory.
        match call::<_, i32, i32>(&mut store, instance, "grow", 65536).unwrap() {
            0 => {}
            -1 => return, // no such address space here
            other => panic!("{other}"),
        }
        call::<_, u32, ()>(&mut store, instance, "store64", 0xffff_fff7).unwrap();
        assert!(call::<_, u32, ()>(&mut store, instance, "store64", 0xffff_fff8).is_err());
        assert_eq!(call::<_, u32, i32>(&mut store, instance, "load8", 0xffff_ffff).unwrap(), 255);
        assert_eq!(call::<_, u32, i64>(&mut store, instance, "load64", 0xffff_fff7).unwrap(), -256);
        assert!(call::<_, u32, i64>(&mut store, instance, "load64", 0xffff_fff9).is_err());
        assert_eq!(call::<_, i32, i32>(&mut store, instance, "grow", 1).unwrap(), -1);
    });
}

#[test]
fn bulk_operations_move_as_if_at_once() {
    for_each_engine(|engine| {
        let (mut store, instance) = setup(
            engine,
            r#"(module (memory (export "memory") 1) (data (i32.const 0) "0123456789")
                (func (export "copy") (param i32 i32 i32)
                    (memory.copy (local.get 0) (local.get 1) (local.get 2))))"#,
        );
        let memory = instance.get_memory(&mut store, "memory").unwrap();
        let copy = instance.get_typed_func::<(i32, i32, i32), ()>(&mut store, "copy").unwrap();
        copy.call(&mut store, (2, 0, 8)).unwrap();
        assert_eq!(&memory.data(&store)[..10], b"0101234567");
        copy.call(&mut store, (0, 3, 7)).unwrap();
        assert_eq!(&memory.data(&store)[..10], b"1234567567");
        copy.call(&mut store, (65536, 65536, 0)).unwrap();
        assert!(copy.call(&mut store, (65537, 0, 0)).is_err());
        assert!(copy.call(&mut store, (0, 1, 65536)).is_err());
    });
}

#[test]
fn dropped_segments_are_empty() {
    for_each_engine(|engine| {
        let (mut store, instance) = setup(
            engine,
            r#"(module (memory 1) (table 5 funcref) (data $d "abc") (data $active (i32.const 0) "x") (elem $e func 0 0)
                (func (export "init") (param i32) (memory.init $d (i32.const 0) (i32.const 0) (local.get 0)))
                (func (export "init active") (param i32)
                    (memory.init $active (i32.const 0) (i32.const 0) (local.get 0)))
                (func (export "table init") (param i32)
                    (table.init $e (i32.const 0) (i32.const 0) (local.get 0)))
                (func (export "drop") (data.drop $d) (elem.drop $e) (data.drop $d)))"#,
        );
        call::<_, i32, ()>(&mut store, instance, "init", 3).unwrap();
        call::<_, i32, ()>(&mut store, instance, "table init", 2).unwrap();
        assert!(call::<_, i32, ()>(&mut store, instance, "init active", 1).is_err());
        call::<_, (), ()>(&mut store, instance, "drop", ()).unwrap();
        for export in ["init", "table init", "init active"] {
            call::<_, i32, ()>(&mut store, instance, export, 0).unwrap();
            assert!(call::<_, i32, ()>(&mut store, instance, export, 1).is_err());
        }
        // Another instance of the module has segments of its own.
        let again = Module::new(engine, r#"(module (memory 1) (data $d "abc") (func (export "init") (memory.init $d (i32.const 0) (i32.const 0) (i32.const 3))) (func (export "drop") (data.drop $d)))"#).unwrap();
        let instances = [0; 2].map(|_| wasmrun::Instance::new(&mut store, &again, &[]).unwrap());
        call::<_, (), ()>(&mut store, instances[0], "drop", ()).unwrap();
        call::<_, (), ()>(&mut store, instances[1], "init", ()).unwrap();
        assert!(call::<_, (), ()>(&mut store, instances[0], "init", ()).is_err());
    });
}

#[test]
fn the_host_reads_and_writes_within_bounds() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let memory = Memory::new(&mut store, MemoryType::new(1, None)).unwrap();
        memory.write(&mut store, 65530, b"abcdef").unwrap();
        assert!(memory.write(&mut store, 65531, b"abcdef").is_err());
        assert!(memory.write(&mut store, usize::MAX, b"a").is_err());
        let mut buffer = [0; 6];
        memory.read(&store, 65530, &mut buffer).unwrap();
        assert_eq!(&buffer, b"abcdef");
        assert!(memory.read(&store, 65531, &mut buffer).is_err());
        assert!(memory.read(&store, usize::MAX - 2, &mut buffer).is_err());
        memory.data_mut(&mut store)[0] = 9;
        assert_eq!(memory.linear(&mut store).read_u8(0).unwrap(), 9);
        let wat = r#"(module (import "" "m" (memory $m 1)) (import "" "f" (func $f)) (export "memory" (memory $m))
            (func (export "run") (result i32) (call $f) (i32.load (i32.const 0))))"#;
        let func = Func::wrap(&mut store, |view: &mut LinearMemory<'_>| -> Result<()> {
            assert_eq!(view.len(), 65536);
            view.write_i32(0, -7)
        });
        let instance = instantiate(&mut store, wat, &[Extern::Memory(memory), func.into()]);
        assert_eq!(call::<_, (), i32>(&mut store, instance, "run", ()).unwrap(), -7);
    });
}

#[test]
fn tables_grow_and_are_shared_with_running_code() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let host = Func::wrap(&mut store, |mut caller: Caller<'_, ()>| -> Result<()> {
            let table = caller.get_export("t").and_then(Extern::into_table).expect("a table");
            let size = table.grow(&mut caller, 1000, Ref::Func(None))?;
            let first = table.get(&caller, 0).expect("in bounds");
            table.set(&mut caller, size + 999, first)
        });
        let wat = r#"(module (import "" "host" (func $host)) (table $t (export "t") 1 10000 funcref)
            (elem (i32.const 0) $f) (func $f (result i32) (i32.const 7))
            (func (export "run") (result i32) (local $sum i32) (local $n i32)
                (loop $again
                    (local.set $sum (i32.add (local.get $sum)
                        (call_indirect (result i32) (i32.sub (table.size) (i32.const 1)))))
                    (call $host)
                    (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 9))))
                (local.get $sum)))"#;
        let instance = instantiate(&mut store, wat, &[host.into()]);
        assert_eq!(call::<_, (), i32>(&mut store, instance, "run", ()).unwrap(), 63);
        assert!(call::<_, (), i32>(&mut store, instance, "run", ()).is_err(), "10000 elements are the most");
    });
}

/// Nothing wraps at 4 GiB: neither in code, nor in what the host is given, nor in WASI, which takes 32-bit addresses.
#[test]
#[cfg(target_pointer_width = "64")]
fn memories_reach_beyond_four_gib() {
    let wat = r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (import "host" "inverts" (func $inverts (param i64)))
        (memory (export "memory") i64 65540)
        (data (i64.const 0) "\08\00\00\00\06\00\00\00hello\n")
        (func $check (param i32) (if (i32.eqz (local.get 0)) (then unreachable)))
        (func (export "run")
            (call $check (i32.eqz (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32))))
            (i64.store (i64.const 0x100000010) (i64.const 0x1122334455667788))
            (call $check (i64.eqz (i64.load (i64.const 16))))
            (call $inverts (i64.const 0x100000010))
            (call $check (i64.eq (i64.load (i64.const 0x100000010)) (i64.const 0x1122334455667777)))
            (call $check (i64.eqz (i64.load (i64.const 16))))
            ;; Across 4 GiB, and over itself.
            (memory.copy (i64.const 0xfffffff8) (i64.const 0x100000010) (i64.const 8))
            (memory.copy (i64.const 0xfffffffc) (i64.const 0xfffffff8) (i64.const 8))
            (call $check (i64.eq (i64.load (i64.const 0xfffffffc)) (i64.const 0x1122334455667777)))
            (memory.fill (i64.const 0xfffffff0) (i32.const 7) (i64.const 32))
            (call $check (i64.eq (i64.load (i64.const 0x100000008)) (i64.const 0x0707070707070707)))
            (call $check (i64.eq (i64.load (i64.const 0xfffffffc)) (i64.const 0x0707070707070707)))
            (call $check (i32.eq (i32.load8_u (i64.const 0x100000010)) (i32.const 0x77)))
            (call $check (i64.eq (memory.grow (i64.const 10)) (i64.const 65540)))
            (call $check (i32.eqz (i32.load8_u offset=0x100000000 (i64.const 0xdffff))))
            (call $check (i32.eqz (i32.load8_u (i64.const 0x1000dffff)))))
        (func (export "past") (param i64) (result i32) (i32.load8_u offset=0x100000000 (local.get 0))))"#;
    for_each_engine(|engine| {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let env = WasiEnv::new().with_stdout_file(std::os::fd::OwnedFd::from(writer).into());
        let mut linker = wasmrun::create_wasi_linker(Arc::new(Mutex::new(env)));
        linker
            .func_wrap("host", "inverts", |view: &mut LinearMemory<'_>, address: u64| -> Result<()> {
                assert_eq!(view.len(), 65540 << 16);
                let byte = view.read_u8(address)?;
                view.write_u8(address, !byte)
            })
            .unwrap();
        let mut store = Store::new(engine, ());
        let instance = linker.instantiate(&mut store, &Module::new(engine, wat).unwrap()).unwrap();
        call::<_, (), ()>(&mut store, instance, "run", ()).unwrap();
        assert_eq!(call::<_, i64, i32>(&mut store, instance, "past", 0xdffff).unwrap(), 0);
        for address in [0xe0000, 0x1_0000_0000, -1, -0x1_0000_0000, i64::MAX, i64::MIN] {
            let error = call::<_, i64, i32>(&mut store, instance, "past", address).unwrap_err();
            assert_eq!(error.trap(), Some(Trap::MemoryOutOfBounds), "{address:#x}");
        }
        drop((store, linker));
        let mut written = String::new();
        std::io::Read::read_to_string(&mut reader, &mut written).unwrap();
        assert_eq!(written, "hello\n");
    });
}
