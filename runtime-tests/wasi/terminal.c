// At a terminal: tells that there is one, and gives back each line as soon as it is typed. With an argument, the lines
// are read from that file.
#include "check.h"
#include <fcntl.h>
#include <unistd.h>

int main(int argc, char **argv) {
    char line[100], answer[120];
    int fd = argc > 1 ? open(argv[1], O_RDONLY) : 0;
    CHECK(fd >= 0);
    __wasi_fdstat_t stat;
    OK(__wasi_fd_fdstat_get(fd, &stat));
    CHECK(stat.fs_filetype == __WASI_FILETYPE_CHARACTER_DEVICE);
    CHECK((stat.fs_rights_base & (__WASI_RIGHTS_FD_SEEK | __WASI_RIGHTS_FD_TELL)) == 0);
    CHECK(lseek(fd, 0, SEEK_CUR) == -1);
    printf("terminal %d %d %d\n", isatty(fd), isatty(1), isatty(2));
    fflush(stdout);
    for (;;) {
        ssize_t len = read(fd, line, sizeof line);
        CHECK(len >= 0);
        int answered = snprintf(answer, sizeof answer, len ? "<%.*s>\n" : "end\n", (int)len - 1, line);
        CHECK(write(1, answer, answered) == answered);
    }
}
