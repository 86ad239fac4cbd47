#!/usr/bin/env bash
# Builds the programs of this folder: needs clang, lld, wasi-libc and wabt.
# On Debian: clang lld wasi-libc libclang-rt-dev-wasm32 wabt.
set -euo pipefail
cd "$(dirname "$0")"
for source in *.c; do
    clang --target=wasm32-wasi -O1 -Wall -Wno-unused-function -s -o "${source%.c}.wasm" "$source"
    wasm-strip "${source%.c}.wasm"
done
