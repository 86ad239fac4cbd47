// Ends in the way its argument says: a number is the exit status, a word the manner.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static volatile int zero;

static int divide(int a) { return a / zero; }

int main(int argc, char **argv) {
    const char *how = argc > 1 ? argv[1] : "0";
    printf("before the end\n");
    if (!strcmp(how, "trap")) __builtin_trap();
    if (!strcmp(how, "abort")) abort();
    if (!strcmp(how, "divide")) return divide(argc);
    if (!strcmp(how, "memory")) return *(volatile int *)0xfffffff0;
    if (!strcmp(how, "return")) return 3;
    fflush(stdout);
    exit(atoi(how));
}
