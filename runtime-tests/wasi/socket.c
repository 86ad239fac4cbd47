// A listener that the host gave: accepts, receives `hello`, answers `world`.
#include "check.h"

int main(void) {
    __wasi_fd_t fd;
    size_t n;
    uint8_t buffer[16];
    __wasi_roflags_t flags;
    __wasi_subscription_t sub = {.userdata = 1};
    __wasi_event_t event;
    int listener = ROOT;
    sub.u.tag = __WASI_EVENTTYPE_FD_READ;
    sub.u.u.fd_read.file_descriptor = listener;
    OK(__wasi_poll_oneoff(&sub, &event, 1, &n));
    OK(__wasi_sock_accept(listener, __WASI_FDFLAGS_NONBLOCK, &fd));
    CHECK(fd == 4);
    __wasi_fdstat_t fdstat;
    OK(__wasi_fd_fdstat_get(fd, &fdstat));
    CHECK(fdstat.fs_filetype == __WASI_FILETYPE_SOCKET_STREAM && fdstat.fs_flags == __WASI_FDFLAGS_NONBLOCK);
    OK(__wasi_fd_fdstat_set_flags(fd, 0));
    OK(__wasi_fd_fdstat_set_flags(listener, __WASI_FDFLAGS_NONBLOCK));
    WANT(AGAIN, __wasi_sock_accept(listener, 0, &(__wasi_fd_t){0}));
    WANT(INVAL, __wasi_sock_accept(listener, __WASI_FDFLAGS_APPEND, &(__wasi_fd_t){0}));

    __wasi_iovec_t peek = {buffer, 2};
    OK(__wasi_sock_recv(fd, &peek, 1, __WASI_RIFLAGS_RECV_PEEK, &n, &flags));
    CHECK(n == 2 && memcmp(buffer, "he", 2) == 0);
    __wasi_iovec_t parts[2] = {{buffer, 2}, {buffer + 2, 3}};
    OK(__wasi_sock_recv(fd, parts, 2, __WASI_RIFLAGS_RECV_WAITALL, &n, &flags));
    CHECK(n == 5 && memcmp(buffer, "hello", 5) == 0 && flags == 0);
    __wasi_ciovec_t answer[2] = {{(const uint8_t *)"wor", 3}, {(const uint8_t *)"ld", 2}};
    OK(__wasi_sock_send(fd, answer, 2, 0, &n));
    CHECK(n == 5);
    OK(write_bytes(fd, "!", 1, &n));
    OK(__wasi_sock_shutdown(fd, __WASI_SDFLAGS_WR));
    WANT(PIPE, __wasi_sock_send(fd, answer, 2, 0, &n));
    OK(read_bytes(fd, buffer, sizeof buffer, &n));
    CHECK(n == 0);
    WANT(INVAL, __wasi_sock_shutdown(fd, 0));
    __wasi_filesize_t at;
    WANT(SPIPE, __wasi_fd_seek(fd, 0, __WASI_WHENCE_SET, &at));
    WANT(NOTSOCK, __wasi_sock_recv(0, parts, 2, 0, &n, &flags));
    WANT(NOTSOCK, __wasi_sock_shutdown(1, __WASI_SDFLAGS_RD));
    OK(__wasi_fd_close(fd));
    puts("ok");
}
