//! Decides whether the target has the JIT (cfg `jit`), which dispatch the interpreter can have (`tail_dispatch`), and
//! whether there is native code that takes part in that (`baseline`), and whether calls may run on stacks of their own
//! (`coroutines`); tells builds of different sources apart
//! (`WASMRUN_SOURCES`), for code that is kept on disk; names the target (`WASMRUN_TARGET`).

use std::hash::{DefaultHasher, Hasher};
use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rustc-check-cfg=cfg(jit)");
    println!("cargo::rustc-check-cfg=cfg(tail_dispatch)");
    println!("cargo::rustc-check-cfg=cfg(baseline)");
    println!("cargo::rustc-check-cfg=cfg(coroutines)");
    println!("cargo::rerun-if-changed=build.rs");
    let target = |key: &str| env::var(format!("CARGO_CFG_TARGET_{key}")).unwrap_or_default();
    let native = matches!(target("ARCH").as_str(), "x86_64" | "aarch64");
    let jit = env::var_os("CARGO_FEATURE_JIT").is_some() && native && target("OS") == "linux";
    if jit {
        println!("cargo::rustc-cfg=jit");
    }
    // Cargo.toml has the same list. Miri runs no assembly code.
    let switches = ["x86", "x86_64", "arm", "aarch64", "riscv32", "riscv64", "loongarch64"];
    let asynchronous = env::var_os("CARGO_FEATURE_ASYNC").is_some();
    if asynchronous && switches.contains(&target("ARCH").as_str()) && env::var_os("CARGO_CFG_MIRI").is_none() {
        println!("cargo::rustc-cfg=coroutines");
    }
    let optimised = env::var("OPT_LEVEL").is_ok_and(|level| matches!(level.as_str(), "2" | "3" | "s" | "z"));
    if native && optimised {
        println!("cargo::rustc-cfg=tail_dispatch");
        if jit {
            println!("cargo::rustc-cfg=baseline");
        }
    }
    // Compiled code depends on the layout of the runtime's objects and on how functions are lowered. The version alone
    // does not change with each of these while they are being worked on.
    println!("cargo::rerun-if-changed=src");
    let mut hasher = DefaultHasher::new();
    hash(Path::new("src"), &mut hasher)?;
    println!("cargo::rustc-env=WASMRUN_SOURCES={:016x}", hasher.finish());
    // For a test that compiles a program.
    println!("cargo::rustc-env=WASMRUN_TARGET={}", env::var("TARGET").unwrap_or_default());
    Ok(())
}

/// Feeds names and contents of all files in a folder.
fn hash(folder: &Path, hasher: &mut DefaultHasher) -> io::Result<()> {
    let entries = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = entries.collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            hash(&path, hasher)?;
        } else {
            hasher.write(path.as_os_str().as_encoded_bytes());
            hasher.write(&fs::read(&path)?);
        }
    }
    Ok(())
}
