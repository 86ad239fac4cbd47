// Indirect calls: a stack machine whose instructions are functions in a table.
#include "kernel.h"

typedef struct Machine { int64_t stack[64]; int64_t *top; const uint8_t *code; uint32_t counter; } Machine;
typedef void (*Op)(Machine *);

static void op_push(Machine *m) { *++m->top = *m->code++; }
static void op_add(Machine *m) { m->top[-1] += m->top[0]; m->top--; }
static void op_mul(Machine *m) { m->top[-1] *= m->top[0]; m->top--; }
static void op_xor(Machine *m) { m->top[-1] ^= m->top[0]; m->top--; }
static void op_dup(Machine *m) { m->top[1] = m->top[0]; m->top++; }
static void op_swap(Machine *m) { int64_t t = m->top[0]; m->top[0] = m->top[-1]; m->top[-1] = t; }
static void op_counter(Machine *m) { *++m->top = m->counter++; }

static Op volatile table[7] = {op_push, op_add, op_mul, op_xor, op_dup, op_swap, op_counter};

static const uint8_t program[] = {6, 0, 3, 2, 1, 0, 77, 3, 4, 0, 13, 2, 5, 0, 1, 1, 3};

EXPORT int64_t run(int32_t n) {
    Machine m = {.counter = 1};
    m.top = m.stack;
    for (int32_t round = 0; round < n * 1000; round++) {
        m.code = program;
        while (m.code < program + sizeof program) {
            Op op = table[*m.code++];
            op(&m);
        }
    }
    return m.stack[0];
}
