//! Bytes into `Module::new`: random ones, a valid module with a few of them changed, or text. What is accepted is
//! translated by both engines by calling what it exports.
#![cfg_attr(fuzzing, no_main)]

use std::sync::OnceLock;

use wasmrun::{Engine, Linker, Module, Store};
use wasmrun_fuzz::{engines, generate, runner::Random};

wasmrun_fuzz::target!(test);

fn test(data: &[u8]) {
    static ENGINES: OnceLock<Vec<(&'static str, Engine)>> = OnceLock::new();
    let engines = ENGINES.get_or_init(engines::configurations);
    let Some((&kind, rest)) = data.split_first() else { return };
    let bytes = match kind % 4 {
        0 => [b"\0asm\x01\0\0\0", rest].concat(),
        1 => text(rest),
        _ => match mutated(rest) {
            Some(bytes) => bytes,
            None => return,
        },
    };
    for (_, engine) in engines {
        let Ok(module) = Module::new(engine, &bytes) else { continue };
        let mut linker = Linker::default();
        if linker.define_unknown_imports_as_traps(&module).is_err() {
            continue;
        }
        let mut store = Store::new(engine, ());
        // The start function runs if there is one; generated ones end.
        if kind % 4 != 0 && linker.instantiate(&mut store, &module).is_err() {
            continue;
        }
    }
}

/// A generated module with bytes changed, inserted, removed, or its end cut off.
fn mutated(data: &[u8]) -> Option<Vec<u8>> {
    let mut wasm = generate::module(data).ok()?.wasm;
    let mut random = Random(data.iter().fold(1, |sum, byte| sum * 31 % 1_000_003 + u64::from(*byte)));
    for _ in 0..random.next() % 4 {
        let at = random.next() as usize % wasm.len();
        match random.next() % 5 {
            0 => wasm.truncate(at.max(8)),
            1 => wasm.insert(at, random.next() as u8),
            2 => drop(wasm.remove(at.max(8).min(wasm.len() - 1))),
            3 => wasm[at] ^= 1 << (random.next() % 8),
            _ => wasm[at] = random.next() as u8,
        }
    }
    Some(wasm)
}

/// Words of the text format in any order.
fn text(data: &[u8]) -> Vec<u8> {
    const WORDS: &[&str] = &[
        "(",
        "(",
        "(",
        ")",
        ")",
        "module",
        "func",
        "param",
        "result",
        "i32",
        "v128",
        "funcref",
        "memory",
        "data",
        "\"a\"",
        "1",
        "-0x1p3",
        "nan:0x4",
        "$x",
        "$x",
        "local.get",
        "block",
        "loop",
        "if",
        "then",
        "else",
        "end",
        "br",
        "call",
        "i32.const",
        "i32.add",
        "export",
        "import",
        "table",
        "elem",
        "type",
        "(;",
        ";)",
        ";;",
        "\n",
        "global",
        "mut",
        "start",
        "offset",
        "0xffffffffffffffffff",
        "v128.const",
        "i8x16",
        "@custom",
        "\"\\u{110000}\"",
        "shared",
        "rec",
    ];
    let words: Vec<&str> = data.iter().map(|byte| WORDS[*byte as usize % WORDS.len()]).collect();
    format!("(module {}", words.join(" ")).into_bytes()
}
