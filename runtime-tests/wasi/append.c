// Standard output is a file of four bytes, open for appending, that may have ten. What goes wrong can only be told by the
// exit status: 42 is success.
#include "check.h"

int main(void) {
    size_t len;
    __wasi_filesize_t position;
    __wasi_fdstat_t stat;
    __wasi_ciovec_t iov = {(const uint8_t *)"0123456789", 10};
    if (__wasi_fd_fdstat_set_flags(1, 0) != 0) exit(1);
    if (__wasi_fd_fdstat_get(1, &stat) != 0 || stat.fs_flags != __WASI_FDFLAGS_APPEND) exit(2);
    if (__wasi_fd_filestat_set_size(1, 0) != __WASI_ERRNO_INVAL) exit(3);
    if (__wasi_fd_seek(1, 0, __WASI_WHENCE_SET, &position) != 0) exit(4);
    if (__wasi_fd_write(1, &iov, 1, &len) != 0 || len != 6) exit(5);
    if (__wasi_fd_seek(1, 0, __WASI_WHENCE_SET, &position) != 0) exit(6);
    if (__wasi_fd_write(1, &iov, 1, &len) != __WASI_ERRNO_FBIG) exit(7);
    if (__wasi_fd_pwrite(1, &iov, 1, 0, &len) != __WASI_ERRNO_FBIG) exit(8);
    _Exit(42);
}
