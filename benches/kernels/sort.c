// Comparisons and swaps in memory: quicksort and heapsort of random numbers.
#include "kernel.h"

enum { LENGTH = 20000 };
static uint32_t v[LENGTH];

static void quicksort(int32_t low, int32_t high) {
    while (low < high) {
        uint32_t pivot = v[(low + high) / 2];
        int32_t i = low, j = high;
        while (i <= j) {
            while (v[i] < pivot) i++;
            while (v[j] > pivot) j--;
            if (i <= j) {
                uint32_t t = v[i];
                v[i++] = v[j], v[j--] = t;
            }
        }
        if (j - low < high - i) quicksort(low, j), low = i;
        else quicksort(i, high), high = j;
    }
}

static void sift(int32_t root, int32_t end) {
    for (int32_t child; (child = 2 * root + 1) < end; root = child) {
        if (child + 1 < end && v[child] < v[child + 1]) child++;
        if (v[root] >= v[child]) return;
        uint32_t t = v[root];
        v[root] = v[child], v[child] = t;
    }
}

static void heapsort(void) {
    for (int32_t i = LENGTH / 2 - 1; i >= 0; i--) sift(i, LENGTH);
    for (int32_t end = LENGTH - 1; end > 0; end--) {
        uint32_t t = v[0];
        v[0] = v[end], v[end] = t;
        sift(0, end);
    }
}

EXPORT int64_t run(int32_t n) {
    random_state = 12345;
    int64_t sum = 0;
    for (int32_t round = 0; round < n; round++) {
        for (int i = 0; i < LENGTH; i++) v[i] = random32();
        if (round & 1) heapsort();
        else quicksort(0, LENGTH - 1);
        sum = sum * 31 + v[round % LENGTH] + v[LENGTH / 2];
    }
    return sum;
}
