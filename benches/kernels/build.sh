#!/usr/bin/env bash
# Builds the kernels of this folder: needs clang and wasm-ld (Debian: clang lld).
set -euo pipefail
cd "$(dirname "$0")"
for source in *.c; do
    # Vectorised only where the source says so: engines are compared on scalar code too.
    clang --target=wasm32 -O2 -c -ffreestanding -mbulk-memory -fno-vectorize -fno-slp-vectorize \
        $([ "$source" = simd.c ] && echo -msimd128) -o kernel.o "$source"
    wasm-ld --no-entry --strip-all -o "${source%.c}.wasm" kernel.o
    rm kernel.o
done
