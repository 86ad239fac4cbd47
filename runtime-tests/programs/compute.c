// Sorts, hashes, multiplies, formats: enough different code to notice an engine that computes wrongly.
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t state = 42;
static uint32_t next(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return state >> 33;
}

static uint64_t fnv(const void *data, size_t n) {
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < n; i++) h = (h ^ ((const unsigned char *)data)[i]) * 1099511628211u;
    return h;
}

static int ascending(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static uint32_t crc_table[256];
static uint32_t crc(const unsigned char *p, size_t n) {
    uint32_t c = ~0u;
    while (n--) c = crc_table[(c ^ *p++) & 255] ^ (c >> 8);
    return ~c;
}

typedef struct Tree { struct Tree *left, *right; uint32_t key, count; } Tree;
static Tree *insert(Tree *t, uint32_t key) {
    if (!t) {
        t = calloc(1, sizeof *t);
        t->key = key;
    }
    if (key < t->key) t->left = insert(t->left, key);
    else if (key > t->key) t->right = insert(t->right, key);
    else t->count++;
    return t;
}
static uint64_t depth_sum(Tree *t, unsigned depth) {
    return t ? (uint64_t)depth * t->count + depth_sum(t->left, depth + 1) + depth_sum(t->right, depth + 1) : 0;
}

static double apply(double (*f)(double), double x) { return f(x); }

int main(void) {
    enum { N = 20000, M = 64 };
    uint32_t *a = malloc(N * sizeof *a);
    for (int i = 0; i < N; i++) a[i] = next();
    printf("random %016llx\n", (unsigned long long)fnv(a, N * sizeof *a));
    qsort(a, N, sizeof *a, ascending);
    printf("sorted %016llx\n", (unsigned long long)fnv(a, N * sizeof *a));

    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++) c = c & 1 ? 0xedb88320u ^ (c >> 1) : c >> 1;
        crc_table[i] = c;
    }
    printf("crc %08x\n", crc((unsigned char *)a, N * sizeof *a));

    static double x[M][M], y[M][M], z[M][M];
    for (int i = 0; i < M; i++)
        for (int j = 0; j < M; j++) x[i][j] = (double)next() / 65536, y[i][j] = 1.0 / (1 + next() % 1000);
    for (int i = 0; i < M; i++)
        for (int j = 0; j < M; j++) {
            double sum = 0;
            for (int k = 0; k < M; k++) sum += x[i][k] * y[k][j];
            z[i][j] = sum;
        }
    printf("matrix %016llx %.6f\n", (unsigned long long)fnv(z, sizeof z), z[M / 2][M / 3]);

    Tree *root = NULL;
    for (int i = 0; i < N; i++) root = insert(root, next() % 5000);
    printf("tree %llu\n", (unsigned long long)depth_sum(root, 1));

    double (*functions[])(double) = {sin, cos, exp, sqrt, floor, fabs};
    double sum = 0;
    for (int i = 0; i < 6000; i++) sum += apply(functions[i % 6], (i - 3000) / 1000.0 + (i % 6 == 3 ? 3 : 0));
    printf("functions %.9f\n", sum);

    int64_t signed_sum = 0;
    for (int i = 1; i < 3000; i++) {
        int64_t v = ((int64_t)next() << 20) - (1ll << 50);
        signed_sum += v / i - v % i + (v >> (i & 63)) + (int32_t)v / (i | 1) + __builtin_popcountll(v) +
                      __builtin_clzll(v | 1) + __builtin_ctzll(v | (1ll << 40));
    }
    printf("integers %lld\n", (long long)signed_sum);

    char text[256];
    snprintf(text, sizeof text, "%-8s|%8.3e|%#x|%+d|%5.1f%%|%lld", "left", 12345.678, 48879, 7, 99.5, -9000000000ll);
    printf("%s\n", text);
    printf("%.17g %.17g %d\n", strtod("0.1", NULL), strtod("1e-310", NULL), atoi("-2147483648"));
    return 0;
}
