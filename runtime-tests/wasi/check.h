// What all tests use: WASI's functions as the C library declares them, and checks that tell their line.
#ifndef CHECK_H
#define CHECK_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wasi/api.h>

#define CHECK(condition)                                                          \
    do {                                                                          \
        if (!(condition)) {                                                       \
            printf("%s:%d: %s\n", __FILE__, __LINE__, #condition);                \
            exit(1);                                                              \
        }                                                                         \
    } while (0)

// Calls a function and wants this errno.
#define WANT(errno_name, call)                                                    \
    do {                                                                          \
        int got = (call);                                                         \
        if (got != __WASI_ERRNO_##errno_name) {                                   \
            printf("%s:%d: %s gives %d instead of " #errno_name "\n", __FILE__, __LINE__, #call, got); \
            exit(1);                                                              \
        }                                                                         \
    } while (0)

#define OK(call) WANT(SUCCESS, call)

#define READ __WASI_RIGHTS_FD_READ
#define WRITE __WASI_RIGHTS_FD_WRITE
#define CREAT __WASI_OFLAGS_CREAT
#define EXCL __WASI_OFLAGS_EXCL
#define TRUNC __WASI_OFLAGS_TRUNC
#define DIRECTORY __WASI_OFLAGS_DIRECTORY
#define FOLLOW __WASI_LOOKUPFLAGS_SYMLINK_FOLLOW

// The first directory that was given, and the one after it.
enum { ROOT = 3, SECOND = 4 };

static inline int open_in(int dir, int lookup, const char *path, int oflags, uint64_t rights, int fdflags, int *fd) {
    __wasi_fd_t opened = 0;
    int result = __wasi_path_open(dir, lookup, path, oflags, rights, rights, fdflags, &opened);
    *fd = (int)opened;
    return result;
}

// Opens and wants success.
static inline int opened(int dir, const char *path, int oflags, uint64_t rights) {
    int fd;
    int result = open_in(dir, FOLLOW, path, oflags, rights, 0, &fd);
    if (result != 0) {
        printf("opening %s gives %d\n", path, result);
        exit(1);
    }
    return fd;
}

static inline int write_bytes(int fd, const void *bytes, size_t len, size_t *written) {
    __wasi_ciovec_t iov = {bytes, len};
    return __wasi_fd_write(fd, &iov, 1, written);
}

static inline int read_bytes(int fd, void *bytes, size_t len, size_t *done) {
    __wasi_iovec_t iov = {bytes, len};
    return __wasi_fd_read(fd, &iov, 1, done);
}

// Makes a file with this text in it.
static inline void make(int dir, const char *path, const char *text) {
    size_t written;
    int fd = opened(dir, path, CREAT | TRUNC, WRITE);
    OK(write_bytes(fd, text, strlen(text), &written));
    CHECK(written == strlen(text));
    OK(__wasi_fd_close(fd));
}

// Whether a file has just this text in it.
static inline int holds(int dir, const char *path, const char *text) {
    char buffer[256];
    size_t done;
    int fd = opened(dir, path, 0, READ);
    OK(read_bytes(fd, buffer, sizeof buffer, &done));
    OK(__wasi_fd_close(fd));
    return done == strlen(text) && memcmp(buffer, text, done) == 0;
}
#endif
