// Branches: an interpreter with a switch that runs a small program, and Collatz sequences.
#include "kernel.h"

enum { ADD, SUB, MUL, LOAD, JUMP_IF, STORE, SHIFT, HALT };

// r0 counts down, r1 and r2 are mixed.
static const uint8_t program[][3] = {
    {LOAD, 3, 1}, {ADD, 1, 0}, {MUL, 2, 1}, {SHIFT, 1, 2}, {ADD, 2, 3}, {STORE, 1, 2}, {SUB, 0, 3}, {JUMP_IF, 0, 1}, {HALT, 0, 0},
};
static uint32_t cells[16];

static uint32_t interpret(uint32_t count) {
    uint32_t r[4] = {count, 3, 5, 0}, at = 0;
    for (;;) {
        const uint8_t *op = program[at++];
        switch (op[0]) {
        case ADD: r[op[1]] += r[op[2]]; break;
        case SUB: r[op[1]] -= r[op[2]]; break;
        case MUL: r[op[1]] = r[op[1]] * r[op[2]] + 1; break;
        case LOAD: r[op[1]] = op[2]; break;
        case JUMP_IF: if (r[op[1]]) at = op[2]; break;
        case STORE: cells[r[op[2]] & 15] ^= r[op[1]]; break;
        case SHIFT: r[op[1]] ^= r[op[2]] >> 3; break;
        case HALT: return r[1] ^ r[2];
        }
    }
}

EXPORT int64_t run(int32_t n) {
    int64_t sum = 0;
    for (int32_t round = 0; round < n; round++) {
        sum += interpret(10000 + (round & 15));
        for (uint64_t start = 1; start < 1000; start++)
            for (uint64_t x = start + (round & 3); x != 1; sum++) x = x & 1 ? 3 * x + 1 : x / 2;
    }
    return sum;
}
