//! The four rooms that treat instructions have the same files: an instruction is found in each by its category's name.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

const CATEGORIES: [&str; 11] =
    ["atomic", "call", "control", "exception", "gc", "memory", "numeric", "reference", "simd", "table", "variable"];

struct Room {
    folder: &'static str,
    /// Categories without a file here, with the reason.
    missing: &'static [(&'static str, &'static str)],
    /// What else is here, besides `mod.rs`.
    others: &'static [&'static str],
}

const ROOMS: [Room; 4] = [
    Room { folder: "interp/translate", missing: &[], others: &["emit", "fuel", "heat", "stack", "walk"] },
    Room { folder: "interp/exec", missing: &[], others: &["fuel", "plain", "tier"] },
    Room {
        folder: "interp/baseline",
        missing: &[
            ("gc", "all instructions on objects are left to their handlers"),
            (
                "reference",
                "`ref.func` calls the runtime, so it is left to its handler; the others are comparisons and constants",
            ),
            ("atomic", "all atomic instructions are left to their handlers"),
            ("simd", "all vector instructions are left to their handlers"),
            ("table", "all instructions on tables but calls are left to their handlers"),
        ],
        others: &["aarch64", "fuel", "heat", "lower", "publish", "tests", "x86_64"],
    },
    Room {
        folder: "jit/lower",
        missing: &[],
        others: &["cast", "computed", "fuel", "known", "libcall", "movable", "osr", "pressure", "survey", "trap"],
    },
];

fn folder(room: &Room) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src").join(room.folder)
}

#[test]
fn rooms_have_the_same_categories() {
    for room in ROOMS {
        let entries = fs::read_dir(folder(&room)).unwrap();
        let names = entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned());
        let found: BTreeSet<String> = names.collect();
        let missing = |category: &str| room.missing.iter().any(|(name, _)| *name == category);
        let categories = CATEGORIES.into_iter().filter(|category| !missing(category));
        let expected: BTreeSet<String> =
            categories.chain(room.others.iter().copied()).chain(["mod"]).map(str::to_owned).collect();
        assert_eq!(found, expected, "src/{}", room.folder);
    }
}

/// An instruction of each kind, as the translator's function, the handler and wasmparser's operator name it.
#[test]
fn instructions_are_in_the_files_of_their_categories() {
    let instructions = [
        ("atomic", "atomic_rmw", "AtomicRmwHandler", "I32AtomicRmwAdd"),
        ("atomic", "atomic_wait", "MemoryAtomicWait32", "MemoryAtomicWait32"),
        ("call", "call", "Call", "Call"),
        ("call", "call_indirect", "CallIndirect", "CallIndirect"),
        ("call", "return_call", "ReturnCall", "ReturnCall"),
        ("control", "br_table", "BrTable", "BrTable"),
        ("control", "select", "Select", "Select"),
        ("exception", "try_table", "Try", "TryTable"),
        ("exception", "throw", "Throw", "Throw"),
        ("exception", "throw_ref", "ThrowRef", "ThrowRef"),
        ("memory", "memory_grow", "MemoryGrow", "MemoryGrow"),
        ("memory", "memory_copy", "MemoryCopy", "MemoryCopy"),
        ("memory", "data_drop", "DataDrop", "DataDrop"),
        ("numeric", "binary", "BinaryHandler", "I32Add"),
        ("numeric", "compare", "CompareHandler", "F64Lt"),
        ("reference", "ref_func", "RefFunc", "RefFunc"),
        ("simd", "shuffle", "Shuffle", "I8x16Shuffle"),
        ("simd", "splat", "SplatHandler", "I8x16Splat"),
        ("table", "table_get", "TableGet", "TableGet"),
        ("table", "table_copy", "TableCopy", "TableCopy"),
        ("table", "elem_drop", "ElemDrop", "ElemDrop"),
        ("variable", "local_set", "Copy", "LocalSet"),
        ("variable", "global_get", "GlobalGet", "GlobalGet"),
        ("variable", "global_set", "GlobalSet", "GlobalSet"),
    ];
    let [translate, exec, _, lower] = &ROOMS;
    for (category, function, handler, operator) in instructions {
        let contains = |room: &Room, text: &str, ends: &[char]| {
            let source = fs::read_to_string(folder(room).join(category).with_extension("rs")).unwrap();
            let found = source.match_indices(text).any(|(at, _)| source[at + text.len()..].starts_with(ends));
            assert!(found, "{text} is not in src/{}/{category}.rs", room.folder);
        };
        contains(translate, &format!("fn {function}"), &['(']);
        contains(exec, handler, &['(', '<']);
        contains(lower, &format!("Op::{operator}"), &[' ']);
    }
}
