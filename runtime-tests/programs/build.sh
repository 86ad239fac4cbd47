#!/usr/bin/env bash
# Builds the programs of this folder: needs clang and lld with wasi-libc, and a rustc that has the target wasm32-wasi
# (wasm32-wasip1 for newer ones). On Debian: clang lld wasi-libc libclang-rt-dev-wasm32 rustc libstd-rust-dev-wasm32 wabt binaryen.
# usage: build.sh [RUSTC]
set -euo pipefail
cd "$(dirname "$0")"
rustc=${1:-/usr/bin/rustc}
for source in *.c; do
    clang --target=wasm32-wasi -O2 -s -o "${source%.c}.wasm" "$source"
done
# status.c keeps its function names: the tests look for them in the backtrace. Linked without -O, as clang would
# otherwise run wasm-opt and lose them.
clang --target=wasm32-wasi -O2 -fno-inline -c -o status.o status.c
clang --target=wasm32-wasi -o status.wasm status.o
wasm-opt -g --strip-dwarf --strip-producers -o status.wasm status.wasm
rm status.o
for source in *.rs; do
    "$rustc" --target wasm32-wasi --edition 2021 -O -C strip=symbols -C panic=abort -C lto -o "${source%.rs}.wasm" "$source"
done
# The names of compilers and folders in custom sections only make the files larger.
for wasm in *.wasm; do
    [ "$wasm" = status.wasm ] || wasm-strip "$wasm"
done
