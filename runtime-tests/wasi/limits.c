// Limits that the host has set: files of 100 bytes, 1000 bytes in all, 8 descriptors.
#include "check.h"

static char big[4096];

int main(void) {
    size_t done;
    __wasi_filesize_t at;
    int fd = opened(ROOT, "file", CREAT, READ | WRITE);
    OK(write_bytes(fd, big, 90, &done));
    CHECK(done == 90);
    OK(write_bytes(fd, big, 90, &done));
    CHECK(done == 10);
    WANT(FBIG, write_bytes(fd, big, 1, &done));
    OK(write_bytes(fd, big, 0, &done));
    OK(__wasi_fd_seek(fd, 50, __WASI_WHENCE_SET, &at));
    OK(write_bytes(fd, big, 90, &done));
    CHECK(done == 50);
    __wasi_ciovec_t iov = {(const uint8_t *)big, 90};
    OK(__wasi_fd_pwrite(fd, &iov, 1, 95, &done));
    CHECK(done == 5);
    WANT(FBIG, __wasi_fd_pwrite(fd, &iov, 1, 1 << 30, &done));
    WANT(FBIG, __wasi_fd_filestat_set_size(fd, 101));
    WANT(FBIG, __wasi_fd_allocate(fd, 50, 51));
    OK(__wasi_fd_filestat_set_size(fd, 10));
    OK(__wasi_fd_fdstat_set_flags(fd, __WASI_FDFLAGS_APPEND));
    OK(write_bytes(fd, big, 95, &done));
    CHECK(done == 90);
    OK(__wasi_fd_fdstat_set_flags(fd, 0));

    // 245 bytes are written; 755 are left.
    OK(__wasi_fd_seek(fd, 0, __WASI_WHENCE_SET, &at));
    for (int i = 0; i < 7; i++) {
        OK(__wasi_fd_pwrite(fd, &(__wasi_ciovec_t){(const uint8_t *)big, 100}, 1, 0, &done));
        CHECK(done == 100);
    }
    // One more goes through in part; what says so is from another budget, standard error's owner.
    OK(__wasi_fd_pwrite(fd, &(__wasi_ciovec_t){(const uint8_t *)big, 100}, 1, 0, &done));
    CHECK(done == 55);
    WANT(DQUOT, __wasi_fd_pwrite(fd, &(__wasi_ciovec_t){(const uint8_t *)big, 100}, 1, 0, &done));
    WANT(DQUOT, write_bytes(1, big, 1, &done));

    int more;
    for (int count = 5; count < 8; count++) OK(open_in(ROOT, 0, "file", 0, READ, 0, &more));
    WANT(MFILE, open_in(ROOT, 0, "file", 0, READ, 0, &more));
    WANT(MFILE, open_in(ROOT, 0, "never", CREAT, WRITE, 0, &more));
    __wasi_filestat_t stat;
    WANT(NOENT, __wasi_path_filestat_get(ROOT, 0, "never", &stat));
    OK(__wasi_fd_close(fd));
    OK(open_in(ROOT, 0, "file", 0, READ, 0, &more));
    __wasi_proc_exit(42);
}
