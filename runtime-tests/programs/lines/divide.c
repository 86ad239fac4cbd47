/* Divides by zero in a function that is inlined twice, called from others. */
static const int table[4] = {1, 2, 3, 4};

static inline __attribute__((always_inline)) int divide(int a, int b) {
    return a / b;
}

static inline __attribute__((always_inline)) int mean(const int *values, int count) {
    int sum = 0;
    for (int at = 0; at < count; at++)
        sum += values[at];
    return divide(sum, count);
}

__attribute__((noinline)) int report(int count) {
    return mean(table, count) + 1;
}

__attribute__((export_name("run"))) int run(int count) {
    return report(count) * 2;
}
