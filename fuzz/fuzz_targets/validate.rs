//! Bytes into `Module::new`: random ones, a valid module with a few of them changed, or text. Every configuration has to
//! accept the same, and what is accepted runs in the full comparison.
#![cfg_attr(fuzzing, no_main)]

use std::sync::OnceLock;

use wasmrun::{ErrorKind, Module};
use wasmrun_fuzz::engines::{Configuration, configurations};
use wasmrun_fuzz::module::{Counted, instrument, is_valid};
use wasmrun_fuzz::runner::{Input, Options, Random, Target, Verdict};
use wasmrun_fuzz::{compare, generate};

wasmrun_fuzz::target!(Target { name: "validate", generate, test, input: Input::Bytes });

fn generate(data: &[u8]) -> Option<Vec<u8>> {
    let (&kind, rest) = data.split_first()?;
    match kind % 4 {
        0 => Some([b"\0asm\x01\0\0\0", rest].concat()),
        1 => Some(text(rest)),
        _ => mutated(rest),
    }
}

fn test(bytes: &[u8], options: &Options) -> Verdict {
    static CONFIGURATIONS: OnceLock<Vec<Configuration>> = OnceLock::new();
    let mut verdicts = CONFIGURATIONS.get_or_init(configurations).iter().map(|configuration| {
        // Where it is wrong is part of the message.
        Module::new(configuration.engine(), bytes).map(drop).map_err(|error| (error.to_string(), error))
    });
    let first = verdicts.next().expect("there is a configuration");
    for other in verdicts {
        let (first, other) = (first.as_ref().map_err(|(message, _)| message), other.map_err(|(message, _)| message));
        if first != other.as_ref().map(|()| &()) {
            return Verdict::finding("accepted by some", format!("{first:?} but {other:?}"));
        }
    }
    let is_binary = bytes.starts_with(b"\0asm");
    match first {
        Err((message, error)) => match error.kind() {
            ErrorKind::Invalid { .. } if is_binary && is_valid(bytes) => Verdict::finding("valid but refused", message),
            ErrorKind::Invalid { .. } | ErrorKind::Unsupported { .. } | ErrorKind::Disabled { .. } => {
                Verdict::Agreement
            }
            _ => Verdict::finding("another kind of error", message),
        },
        Ok(()) if is_binary && !is_valid(bytes) => Verdict::finding("invalid but accepted", String::new()),
        Ok(()) => {
            // Text is read by the reference's parser too.
            let binary = if is_binary { Ok(bytes.into()) } else { wat::parse_bytes(bytes) };
            match binary.ok().and_then(|binary| instrument(&binary, Counted::Branches)) {
                Some(bounded) => compare::compare(&bounded, options),
                None => Verdict::Agreement,
            }
        }
    }
}

/// A generated module with bytes changed, inserted, removed, or its end cut off.
fn mutated(data: &[u8]) -> Option<Vec<u8>> {
    let mut wasm = generate::unbounded(data)?.0;
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
        "sub",
        "struct",
        "field",
        "array",
        "i8",
        "anyref",
        "(ref null $x)",
        "ref.cast",
        "struct.new",
        "array.get",
    ];
    let words: Vec<&str> = data.iter().map(|byte| WORDS[*byte as usize % WORDS.len()]).collect();
    format!("(module {}", words.join(" ")).into_bytes()
}
