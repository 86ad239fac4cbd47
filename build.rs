//! Decides whether the target has the JIT (cfg `jit`), and which dispatch the interpreter can have (`tail_dispatch`).

use std::env;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(jit)");
    println!("cargo::rustc-check-cfg=cfg(tail_dispatch)");
    println!("cargo::rerun-if-changed=build.rs");
    let target = |key: &str| env::var(format!("CARGO_CFG_TARGET_{key}")).unwrap_or_default();
    let native = matches!(target("ARCH").as_str(), "x86_64" | "aarch64");
    if env::var_os("CARGO_FEATURE_JIT").is_some() && native && target("OS") == "linux" {
        println!("cargo::rustc-cfg=jit");
    }
    let optimised = env::var("OPT_LEVEL").is_ok_and(|level| matches!(level.as_str(), "2" | "3" | "s" | "z"));
    if native && optimised {
        println!("cargo::rustc-cfg=tail_dispatch");
    }
}
