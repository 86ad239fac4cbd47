#!/usr/bin/env bash
# Builds the programs of this folder, with debug information: needs clang and lld (14), and a rustc (1.95) that has the target
# wasm32-wasip1. DWARF 4 in one, DWARF 5 in another.
set -euo pipefail
cd "$(dirname "$0")"
flags="--target=wasm32 -O1 -nostdlib -Wl,--no-entry -ffile-prefix-map=$PWD=/src -fdebug-compilation-dir=/src"
clang $flags -g -gdwarf-4 -o divide.wasm divide.c
clang++ $flags -g -gdwarf-5 -fno-exceptions -fno-rtti -o shapes.wasm shapes.cpp
rustc --target wasm32-wasip1 --edition 2024 -O -g -C panic=abort -C lto -C debuginfo=line-tables-only -C codegen-units=1 \
    "--remap-path-prefix=$PWD=/src" -o panics.wasm panics.rs
