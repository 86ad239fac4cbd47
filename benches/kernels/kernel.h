// What the kernels share. Each exports `run`, which does `n` rounds of its work and returns a checksum of the results.
#include <stddef.h>
#include <stdint.h>

#define EXPORT __attribute__((export_name("run")))

// A repeatable source of numbers.
static uint32_t random_state = 12345;
static inline uint32_t random32(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    return random_state ^= random_state << 5;
}
