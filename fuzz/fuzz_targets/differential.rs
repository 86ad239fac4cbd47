//! A module by wasm-smith, or a file, on every engine.
#![cfg_attr(fuzzing, no_main)]

use wasmrun_fuzz::{engines, generate};

wasmrun_fuzz::target!(test);

fn test(data: &[u8]) {
    let (wasm, oracle) = if data.starts_with(b"\0asm") || data.starts_with(b"(module") {
        (wat::parse_bytes(data).expect("a module").into_owned(), true)
    } else {
        match generate::module(data) {
            Ok(generated) => (generated.wasm, generated.oracle),
            Err(_) => return,
        }
    };
    let comparison = std::panic::catch_unwind(|| engines::compare(&wasm, oracle));
    if let Err(panic) = comparison {
        if let Ok(text) = wasmprinter::print_bytes(&wasm) {
            eprintln!("{text}");
        }
        std::panic::resume_unwind(panic);
    }
}
