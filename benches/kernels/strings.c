// Byte-wise work: a checksum by table, a search, and a hash over text.
#include "kernel.h"

enum { LENGTH = 1 << 16 };
static uint8_t text[LENGTH];
static uint32_t table[256];

__attribute__((noinline)) static uint32_t crc(void) {
    uint32_t c = ~0u;
    for (uint32_t i = 0; i < LENGTH; i++) c = table[(c ^ text[i]) & 255] ^ c >> 8;
    return ~c;
}

__attribute__((noinline)) static uint32_t find(const char *word) {
    uint32_t found = 0;
    for (uint32_t i = 0; i + 8 < LENGTH; i++) {
        uint32_t k = 0;
        while (word[k] && text[i + k] == (uint8_t)word[k]) k++;
        found += !word[k];
    }
    return found;
}

EXPORT int64_t run(int32_t n) {
    random_state = 12345;
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++) c = c & 1 ? 0xedb88320u ^ c >> 1 : c >> 1;
        table[i] = c;
    }
    for (uint32_t i = 0; i < LENGTH; i++) text[i] = 'a' + random32() % 6;
    uint64_t sum = 0;
    for (int32_t round = 0; round < n; round++) {
        text[round % LENGTH]++;
        sum += crc() + find("abba");
        uint64_t h = 14695981039346656037u;
        for (uint32_t i = 0; i < LENGTH; i++) h = (h ^ text[i]) * 1099511628211u;
        sum ^= h;
    }
    return (int64_t)sum;
}
