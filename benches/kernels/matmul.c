// Floating point through memory: matrices multiplied row by column.
#include "kernel.h"

enum { SIZE = 128 };
static double a[SIZE][SIZE], b[SIZE][SIZE], c[SIZE][SIZE];

EXPORT int64_t run(int32_t n) {
    for (int i = 0; i < SIZE; i++)
        for (int j = 0; j < SIZE; j++) a[i][j] = (i * j) % 17 * 0.25, b[i][j] = (i + j) % 13 * 0.5;
    double trace = 0;
    for (int32_t round = 0; round < n; round++) {
        for (int i = 0; i < SIZE; i++)
            for (int j = 0; j < SIZE; j++) {
                double sum = 0;
                for (int k = 0; k < SIZE; k++) sum += a[i][k] * b[k][j];
                c[i][j] = sum;
            }
        for (int i = 0; i < SIZE; i++) trace += c[i][i];
        a[round % SIZE][0] += 1;
    }
    return (int64_t)trace;
}
