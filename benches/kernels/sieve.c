// Byte-wise stores with strides: prime numbers.
#include "kernel.h"

enum { LIMIT = 200000 };
static uint8_t composite[LIMIT];

EXPORT int64_t run(int32_t n) {
    int64_t count = 0;
    for (int32_t round = 0; round < n; round++) {
        for (uint32_t i = 0; i < LIMIT; i++) composite[i] = 0;
        for (uint32_t i = 2; i < LIMIT; i++) {
            if (composite[i]) continue;
            count++;
            for (uint32_t j = i * 2; j < LIMIT; j += i) composite[j] = 1;
        }
    }
    return count;
}
