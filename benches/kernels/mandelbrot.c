// Floating point in registers, with a branch that is hard to foresee: the Mandelbrot set.
#include "kernel.h"

EXPORT int64_t run(int32_t n) {
    int64_t total = 0;
    for (int32_t round = 0; round < n; round++) {
        for (int py = 0; py < 64; py++) {
            for (int px = 0; px < 64; px++) {
                double cx = px / 32.0 - 1.5 + round * 1e-6, cy = py / 32.0 - 1.0, x = 0, y = 0;
                int i = 0;
                while (i < 200 && x * x + y * y < 4) {
                    double t = x * x - y * y + cx;
                    y = 2 * x * y + cy;
                    x = t;
                    i++;
                }
                total += i;
            }
        }
    }
    return total;
}
