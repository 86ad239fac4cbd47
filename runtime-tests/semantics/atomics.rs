//! Atomic instructions on memories that are not shared.

use std::fmt::Write;

use wasmrun::{ErrorKind, Instance, Memory, MemoryFault, Store, Trap, TypedFunc};

use crate::engines::{call, for_each_engine, setup};

/// The types of units: prefix of the instructions, suffix of a load's and a store's name, bytes.
const UNITS: [(&str, &str, u64); 7] = [
    ("i32", "", 4),
    ("i64", "", 8),
    ("i32", "8", 1),
    ("i32", "16", 2),
    ("i64", "8", 1),
    ("i64", "16", 2),
    ("i64", "32", 4),
];

const MODIFY: [&str; 6] = ["add", "sub", "and", "or", "xor", "xchg"];

/// Memories of each kind, the type of their addresses, and their length.
const MEMORIES: [(&str, &str, u64); 4] = [
    ("(memory $m0 (export \"m0\") 1)", "i32", 0x10000),
    ("(memory $m1 (export \"m1\") 2 2)", "i32", 0x20000),
    ("(memory $m2 (export \"m2\") i64 1 4)", "i64", 0x10000),
    ("(memory $m3 (export \"m3\") 4100 (pagesize 1))", "i32", 4100),
];

/// An instruction: its name, the bytes of its unit, how many operands follow the address, and their type.
struct Instruction {
    name: String,
    size: u64,
    operands: usize,
    ty: &'static str,
    has_result: bool,
}

fn instructions() -> Vec<Instruction> {
    let mut all = Vec::new();
    for (ty, bits, size) in UNITS {
        let unsigned = if bits.is_empty() { "" } else { "_u" };
        let mut add = |name, operands, has_result| all.push(Instruction { name, size, operands, ty, has_result });
        add(format!("{ty}.atomic.load{bits}{unsigned}"), 0, true);
        add(format!("{ty}.atomic.store{bits}"), 1, false);
        for op in MODIFY {
            add(format!("{ty}.atomic.rmw{bits}.{op}{unsigned}"), 1, true);
        }
        add(format!("{ty}.atomic.rmw{bits}.cmpxchg{unsigned}"), 2, true);
    }
    all
}

/// A function of address and two operands, all `i64`, for each instruction, memory and offset: `m0 8 i32.atomic.load`.
fn module(offsets: &[u64]) -> String {
    let mut wat = String::from("(module");
    for (memory, ..) in MEMORIES {
        wat += memory;
    }
    for (m, (_, address, _)) in MEMORIES.iter().enumerate() {
        let index = if *address == "i32" { "(i32.wrap_i64 (local.get 0))" } else { "(local.get 0)" };
        for Instruction { name, operands, ty, has_result, .. } in instructions() {
            for offset in offsets {
                let mut access = format!("({name} $m{m} offset={offset} {index}");
                for operand in 1..=operands {
                    access += &match ty {
                        "i32" => format!("(i32.wrap_i64 (local.get {operand}))"),
                        _ => format!("(local.get {operand})"),
                    };
                }
                access += ")";
                let body = match (has_result, ty) {
                    (false, _) => access + "(i64.const 0)",
                    (true, "i32") => format!("(i64.extend_i32_u {access})"),
                    (true, _) => access,
                };
                let _ = write!(wat, "(func (export \"m{m} {offset} {name}\") (param i64 i64 i64) (result i64) {body})");
            }
        }
    }
    wat + ")"
}

/// What an instruction leaves in memory, and what it returns.
fn model(name: &str, size: u64, old: u64, first: u64, second: u64) -> (u64, u64) {
    let mask = u64::MAX >> (64 - 8 * size);
    let (first, second) = (first & mask, second & mask);
    let new = match name.rsplit('.').next().unwrap().trim_end_matches("_u") {
        "add" => old.wrapping_add(first) & mask,
        "sub" => old.wrapping_sub(first) & mask,
        "and" => old & first,
        "or" => old | first,
        "xor" => old ^ first,
        "xchg" => first,
        "cmpxchg" if old == first => second,
        "cmpxchg" => old,
        store if store.starts_with("store") => return (first, 0),
        _ => old,
    };
    (new, old)
}

type Access = TypedFunc<(i64, i64, i64), i64>;

fn access(store: &mut Store<()>, instance: &Instance, m: usize, offset: u64, name: &str) -> Access {
    instance.get_typed_func(store, &format!("m{m} {offset} {name}")).unwrap()
}

fn read(store: &Store<()>, memory: &Memory, address: u64, size: u64) -> u64 {
    let mut bytes = [0; 8];
    memory.read(store, address as usize, &mut bytes[..size as usize]).unwrap();
    u64::from_le_bytes(bytes)
}

#[test]
fn units_are_read_modified_and_written() {
    const OPERANDS: [u64; 5] = [0, 1, 0xffff_ffff_ffff_ffff, 0x8877_6655_4433_2211, 0x00f0_00f0_80f0_7ff0];
    let wat = module(&[0, 24]);
    for_each_engine(|engine| {
        let (mut store, instance) = setup(engine, &wat);
        for m in 0..MEMORIES.len() {
            let memory = instance.get_memory(&mut store, &format!("m{m}")).unwrap();
            for Instruction { name, size, .. } in instructions() {
                for offset in [0, 24] {
                    let access = access(&mut store, &instance, m, offset, &name);
                    for (n, old) in OPERANDS.into_iter().enumerate() {
                        for first in OPERANDS {
                            let (index, second) = (64 + size * n as u64, OPERANDS[(n + 2) % OPERANDS.len()]);
                            let address = index + offset;
                            // The neighbours must stay as they are.
                            let around = [[0xa5; 8], old.to_le_bytes(), [0xa5; 8]].concat();
                            memory.write(&mut store, address as usize - 8, &around[..16]).unwrap();
                            memory.write(&mut store, (address + size) as usize, &around[16..]).unwrap();
                            let before = read(&store, &memory, address, size);
                            let (new, returned) = model(&name, size, before, first, second);
                            let result = access.call(&mut store, (index as i64, first as i64, second as i64)).unwrap();
                            assert_eq!(result as u64, returned, "m{m} {name} of {old:#x} and {first:#x}");
                            assert_eq!(
                                read(&store, &memory, address, size),
                                new,
                                "m{m} {name} of {old:#x} and {first:#x}"
                            );
                            assert_eq!(read(&store, &memory, address - 8, 8), 0xa5a5_a5a5_a5a5_a5a5, "{name}");
                            assert_eq!(read(&store, &memory, address + size, 8), 0xa5a5_a5a5_a5a5_a5a5, "{name}");
                        }
                    }
                }
            }
        }
    });
}

/// The address is looked at before the bounds, and an instruction that traps writes nothing.
#[test]
fn addresses_must_be_aligned_and_then_in_bounds() {
    let offsets = [0, 3, 0xfff8, 0x1ff_fff8, 0xffff_ffff];
    let wat = module(&offsets);
    for_each_engine(|engine| {
        let (mut store, instance) = setup(engine, &wat);
        for (m, (_, ty, length)) in MEMORIES.into_iter().enumerate() {
            let memory = instance.get_memory(&mut store, &format!("m{m}")).unwrap();
            memory.write(&mut store, length as usize - 8, &[0x5a; 8]).unwrap();
            for Instruction { name, size, .. } in instructions() {
                for offset in offsets {
                    let access = access(&mut store, &instance, m, offset, &name);
                    let edge = length.wrapping_sub(offset + size);
                    let most = if ty == "i32" { u64::from(u32::MAX) } else { u64::MAX };
                    for index in [edge, edge.wrapping_add(1), edge.wrapping_add(size), 0, most, most - 7, length] {
                        let sum = u128::from(index) + u128::from(offset);
                        if index > most {
                            continue;
                        }
                        let expected = if !sum.is_multiple_of(size.into()) {
                            Some((Trap::HeapMisaligned, None))
                        } else if sum + u128::from(size) > length.into() {
                            let address = u64::try_from(sum).unwrap_or(u64::MAX);
                            Some((Trap::MemoryOutOfBounds, Some((address, size, length))))
                        } else {
                            None
                        };
                        // Leaves what is there as it is.
                        let kept = name.contains("and") || name.contains("cmpxchg");
                        let operand = if kept { -1 } else { 0x5a5a_5a5a_5a5a_5a5a };
                        let operand =
                            if ["add", "sub", ".or", "xor"].iter().any(|op| name.contains(op)) { 0 } else { operand };
                        let result = access.call(&mut store, (index as i64, operand, operand));
                        let got = result.err().map(|error| match error.kind() {
                            ErrorKind::Trap { trap, fault } => {
                                (*trap, fault.map(|MemoryFault { address, size, length, .. }| (address, size, length)))
                            }
                            other => panic!("{other:?}"),
                        });
                        assert_eq!(got, expected, "m{m} {name} offset {offset:#x} at {index:#x}");
                    }
                }
                assert_eq!(read(&store, &memory, length - 8, 8), 0x5a5a_5a5a_5a5a_5a5a, "{name}");
            }
        }
    });
}

#[test]
fn nobody_waits_on_a_memory_that_is_not_shared() {
    for_each_engine(|engine| {
        let (mut store, instance) = setup(
            engine,
            r#"(module (memory 1)
                (func (export "notify") (param i32) (result i32) (memory.atomic.notify offset=4 (local.get 0) (i32.const 7)))
                (func (export "wait32") (param i32) (result i32)
                    (i32.add (i32.const 1) (memory.atomic.wait32 offset=4 (local.get 0) (i32.const 0) (i64.const 0))))
                (func (export "wait64") (param i32) (result i32)
                    (memory.atomic.wait64 offset=8 (local.get 0) (i64.const 0) (i64.const -1)))
                (func (export "fence") (param i32) (result i32) (atomic.fence) (local.get 0)))"#,
        );
        let mut run = |name: &str, address: u32| {
            let func = instance.get_typed_func::<u32, u32>(&mut store, name).unwrap();
            func.call(&mut store, address).map_err(|error| error.trap().unwrap())
        };
        assert_eq!(run("fence", 9), Ok(9));
        assert_eq!((run("notify", 0), run("notify", 65528)), (Ok(0), Ok(0)));
        assert_eq!(run("notify", 65532), Err(Trap::MemoryOutOfBounds));
        for (name, size) in [("notify", 4), ("wait32", 4), ("wait64", 8)] {
            assert_eq!(run(name, size / 2), Err(Trap::HeapMisaligned), "{name}");
            assert_eq!(run(name, 65537), Err(Trap::HeapMisaligned), "{name}");
            assert_eq!(run(name, 65536), Err(Trap::MemoryOutOfBounds), "{name}");
            assert_eq!(run(name, u32::MAX - size + 1), Err(Trap::MemoryOutOfBounds), "{name}");
        }
        assert_eq!(
            (run("wait32", 0), run("wait64", 65520)),
            (Err(Trap::AtomicWaitNonSharedMemory), Err(Trap::AtomicWaitNonSharedMemory))
        );
    });
}

/// A loop that is entered by every tier on its way.
#[test]
fn a_loop_counts_in_memory() {
    for_each_engine(|engine| {
        let (mut store, instance) = setup(
            engine,
            r#"(module (memory 1)
                (func (export "count") (param $n i32) (result i64)
                    (loop $again
                        (drop (i64.atomic.rmw.add offset=8 (i32.const 0) (i64.const 3)))
                        (drop (i32.atomic.rmw16.sub_u offset=16 (i32.const 0) (i32.const 1)))
                        (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
                    (i64.add (i64.atomic.load (i32.const 8)) (i64.load16_u (i32.const 16)))))"#,
        );
        let sum: i64 = call(&mut store, instance, "count", 100_000u32).unwrap();
        assert_eq!(sum, 300_000 + (0x10000 * 2 - 100_000));
    });
}
