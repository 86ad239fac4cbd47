// Prints what the program was given: its arguments one by one, then its environment in the order given.
#include <stdio.h>

extern char **environ;

int main(int argc, char **argv) {
    printf("%d arguments\n", argc);
    for (int i = 0; i < argc; i++) printf("[%d] %s\n", i, argv[i]);
    for (char **entry = environ; *entry; entry++) printf("%s\n", *entry);
    return 0;
}
