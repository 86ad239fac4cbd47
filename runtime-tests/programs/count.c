// Counts lines, words and bytes of standard input, as wc does, and says how it ended on standard error.
#include <ctype.h>
#include <stdio.h>
#include <unistd.h>

int main(void) {
    char buffer[4096];
    unsigned long lines = 0, words = 0, bytes = 0;
    int inside = 0;
    ssize_t n;
    while ((n = read(0, buffer, sizeof buffer)) > 0) {
        bytes += n;
        for (ssize_t i = 0; i < n; i++) {
            lines += buffer[i] == '\n';
            if (isspace((unsigned char)buffer[i])) inside = 0;
            else if (!inside) inside = 1, words++;
        }
    }
    if (n < 0) return perror("count"), 1;
    printf("%lu %lu %lu\n", lines, words, bytes);
    fprintf(stderr, "end of input\n");
    return 0;
}
