// SIMD: dot products of floats, saturated bytes, and a shuffle per round.
#include "kernel.h"
#include <wasm_simd128.h>

enum { LENGTH = 4096 };
static float x[LENGTH], y[LENGTH];
static uint8_t p[LENGTH], q[LENGTH];

EXPORT int64_t run(int32_t n) {
    for (int i = 0; i < LENGTH; i++) x[i] = i % 31 * 0.5f, y[i] = i % 17 * 0.25f, p[i] = i * 7, q[i] = i * 3;
    v128_t sum = wasm_f32x4_splat(0), bytes = wasm_i8x16_splat(1);
    int64_t total = 0;
    for (int32_t round = 0; round < n * 10; round++) {
        sum = wasm_f32x4_splat(0);
        for (int i = 0; i < LENGTH; i += 4)
            sum = wasm_f32x4_add(sum, wasm_f32x4_mul(wasm_v128_load(x + i), wasm_v128_load(y + i)));
        for (int i = 0; i < LENGTH; i += 16) {
            v128_t a = wasm_v128_load(p + i), b = wasm_v128_load(q + i);
            bytes = wasm_u8x16_add_sat(bytes, wasm_v128_bitselect(a, b, wasm_u8x16_gt(a, b)));
            bytes = wasm_i8x16_shuffle(bytes, a, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16);
            wasm_v128_store(p + i, wasm_i8x16_sub(a, wasm_i16x8_shr(b, 3)));
        }
        float lane = round & 1 ? wasm_f32x4_extract_lane(sum, 1) : wasm_f32x4_extract_lane(sum, 2);
        total += (int64_t)lane + wasm_i64x2_extract_lane(bytes, 0);
    }
    return total;
}
