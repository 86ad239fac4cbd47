// Memory streaming: arrays larger than the caches are scaled, added and summed.
#include "kernel.h"

enum { LENGTH = 1 << 20 };
static uint32_t x[LENGTH], y[LENGTH], z[LENGTH];

EXPORT int64_t run(int32_t n) {
    for (uint32_t i = 0; i < LENGTH; i++) x[i] = i * 7, y[i] = ~i;
    uint64_t sum = 0;
    for (int32_t round = 0; round < n; round++) {
        for (uint32_t i = 0; i < LENGTH; i++) z[i] = x[i] * 3 + y[i];
        for (uint32_t i = 0; i < LENGTH; i++) y[i] = z[i] ^ (x[i] >> 3);
        for (uint32_t i = 0; i < LENGTH; i += 4) sum += z[i] + y[i + 1];
    }
    return (int64_t)sum;
}
