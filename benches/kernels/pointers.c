// Pointer chasing: a list through memory in random order, and a search tree.
#include "kernel.h"

typedef struct Node { struct Node *next, *left, *right; uint32_t key; } Node;

enum { NODES = 1 << 16 };
static Node nodes[NODES];
static uint32_t order[NODES];

EXPORT int64_t run(int32_t n) {
    random_state = 12345;
    for (uint32_t i = 0; i < NODES; i++) order[i] = i, nodes[i] = (Node){.key = random32()};
    for (uint32_t i = NODES - 1; i > 0; i--) {
        uint32_t j = random32() % (i + 1), t = order[i];
        order[i] = order[j], order[j] = t;
    }
    for (uint32_t i = 0; i < NODES; i++) nodes[order[i]].next = &nodes[order[(i + 1) % NODES]];
    for (uint32_t i = 1; i < NODES; i++) {
        Node **at = &nodes[0].right;
        while (*at) at = nodes[i].key < (*at)->key ? &(*at)->left : &(*at)->right;
        *at = &nodes[i];
    }
    int64_t sum = 0;
    Node *node = nodes;
    for (int32_t round = 0; round < n; round++) {
        for (uint32_t i = 0; i < NODES; i++) {
            sum += node->key;
            node = node->next;
        }
        for (uint32_t i = 0; i < NODES / 16; i++) {
            uint32_t key = random32();
            for (Node *at = nodes[0].right; at; at = key < at->key ? at->left : at->right) sum++;
        }
    }
    return sum;
}
