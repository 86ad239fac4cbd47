#!/usr/bin/env bash
# Builds the programs of this folder: needs clang, lld, wasi-libc and wabt, and a rustc that has the target wasm32-wasi
# (wasm32-wasip1 for newer ones). On Debian: clang lld wasi-libc libclang-rt-dev-wasm32 wabt binaryen rustc libstd-rust-dev-wasm32.
# usage: build.sh [RUSTC]
set -euo pipefail
cd "$(dirname "$0")"
rustc=${1:-/usr/bin/rustc}
for source in *.c; do
    clang --target=wasm32-wasi -O1 -Wall -Wno-unused-function -s -o "${source%.c}.wasm" "$source"
    wasm-strip "${source%.c}.wasm"
done
for source in *.rs; do
    "$rustc" --target wasm32-wasi --edition 2021 -C opt-level=s -C strip=symbols -C panic=abort -C lto -o "${source%.rs}.wasm" "$source"
    wasm-strip "${source%.rs}.wasm"
done
