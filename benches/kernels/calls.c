// Direct calls: Fibonacci numbers and Ackermann's function, the naive way.
#include "kernel.h"

__attribute__((noinline)) static uint32_t fib(uint32_t n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }

__attribute__((noinline)) static uint32_t ackermann(uint32_t m, uint32_t n) {
    if (m == 0) return n + 1;
    if (n == 0) return ackermann(m - 1, 1);
    return ackermann(m - 1, ackermann(m, n - 1));
}

EXPORT int64_t run(int32_t n) {
    int64_t sum = 0;
    for (int32_t round = 0; round < n; round++) sum += fib(24 + (round & 1)) + ackermann(2, 100 + (round & 7));
    return sum;
}
