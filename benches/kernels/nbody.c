// Floating point with square roots and divisions: planets that pull at each other.
#include "kernel.h"

typedef struct { double x, y, z, vx, vy, vz, mass; } Body;

static Body bodies[5] = {
    {0, 0, 0, 0, 0, 0, 39.47},
    {4.84, -1.16, -0.10, 0.606, 2.81, -0.02, 0.037},
    {8.34, 4.12, -0.4, -1.01, 1.82, 0.008, 0.011},
    {12.8, -15.1, -0.22, 1.08, 0.868, -0.01, 0.0017},
    {15.3, -25.9, 0.179, 0.979, 0.594, -0.034, 0.002},
};

static void advance(double dt) {
    for (int i = 0; i < 5; i++) {
        Body *a = &bodies[i];
        for (int j = i + 1; j < 5; j++) {
            Body *b = &bodies[j];
            double dx = a->x - b->x, dy = a->y - b->y, dz = a->z - b->z;
            double d2 = dx * dx + dy * dy + dz * dz;
            double mag = dt / (d2 * __builtin_sqrt(d2));
            a->vx -= dx * b->mass * mag, a->vy -= dy * b->mass * mag, a->vz -= dz * b->mass * mag;
            b->vx += dx * a->mass * mag, b->vy += dy * a->mass * mag, b->vz += dz * a->mass * mag;
        }
    }
    for (int i = 0; i < 5; i++) {
        Body *a = &bodies[i];
        a->x += dt * a->vx, a->y += dt * a->vy, a->z += dt * a->vz;
    }
}

EXPORT int64_t run(int32_t n) {
    for (int32_t i = 0; i < n * 1000; i++) advance(0.001);
    double sum = 0;
    for (int i = 0; i < 5; i++) sum += bodies[i].x * bodies[i].vy;
    return (int64_t)(sum * 1e12);
}
