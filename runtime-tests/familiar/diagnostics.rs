//! What the compiler says of closures and types that cannot be host functions: it is asked, with the library as tests have it.

use std::path::PathBuf;
use std::process::Command;

const PROGRAM: &str = r#"
use wasmrun::*;
fn main() {
    let mut store = Store::<u32>::default();
    let mut linker = Linker::<u32>::new(store.engine());
    let _ = linker.func_wrap("a", "b", |_name: String| {});
    let _ = Func::wrap(&mut store, |_caller: Caller<'_, ()>| {});
    let _ = Func::wrap(&mut store, || ()).typed::<(usize,), ()>(&store);
    let _ = Func::wrap(&mut store, || ()).typed::<(), String>(&store);
}
"#;

/// Builds of the library beside this test, the newest first. Some may be for other features, or lack their dependencies.
fn libraries() -> Vec<PathBuf> {
    let folder = std::env::current_exe().unwrap().parent().unwrap().to_path_buf();
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let is_library = |name: &str| name.starts_with("libwasmrun-") && name.ends_with(".rlib");
    let mut found: Vec<_> = entries.filter(|entry| is_library(&entry.file_name().to_string_lossy())).collect();
    found.sort_by_key(|entry| std::cmp::Reverse(entry.metadata().unwrap().modified().unwrap()));
    found.into_iter().map(|entry| entry.path()).collect()
}

#[test]
fn errors_say_what_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program.rs");
    std::fs::write(&program, PROGRAM).unwrap();
    let said = |library: &PathBuf| {
        let rustc = std::env::var_os("RUSTC").unwrap_or("rustc".into());
        let mut command = Command::new(rustc);
        command.args(["--edition=2024", "--emit=metadata", "--target", env!("WASMRUN_TARGET"), "-L"]);
        command.arg(format!("dependency={}", library.parent().unwrap().display()));
        command.arg("--extern").arg(format!("wasmrun={}", library.display()));
        let output = command.arg("--out-dir").arg(folder.path()).arg(&program).output().expect("rustc is there");
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let all: Vec<_> = libraries().iter().map(said).collect();
    let complete = |text: &&String| text.matches("error[E0277]").count() == 4;
    let said = all.iter().find(complete).unwrap_or_else(|| panic!("{all:#?}"));
    for text in [
        "cannot be a host function of stores with data `u32`",
        "it takes up to 16 WebAssembly values: `i32`, `u32`",
        "before these it may take a `Caller<'_, u32>`, or a `&mut LinearMemory<'_>`",
        "it returns `()`, a WebAssembly value, a tuple",
        "an `anyhow::Error` by `Error::from_anyhow`",
        "`(usize,)` is not a list of parameters or results of a WebAssembly function",
        "`String` is not a list of results of a WebAssembly function",
        "a list is `()`, one type, or a tuple of up to 16 types",
    ] {
        assert!(said.contains(text), "{text:?} is not in\n{said}");
    }
}
