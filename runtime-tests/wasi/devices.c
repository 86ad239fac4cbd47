// What is neither a file nor a directory: in the first directory a FIFO and a socket, the second is the host's /dev.
// No call waits for any of them.
#include "check.h"

static uint16_t flags_of(int fd) {
    __wasi_fdstat_t stat;
    OK(__wasi_fd_fdstat_get(fd, &stat));
    return stat.fs_flags;
}

// What occurs within a tenth of a second: 1 and 2 for reading and writing, 0 for the time.
static int poll(int fd, uint8_t tag) {
    __wasi_subscription_t subscriptions[2] = {{.userdata = 1}, {.userdata = 2}};
    __wasi_event_t events[2];
    size_t count;
    subscriptions[0].u.tag = tag;
    subscriptions[0].u.u.fd_read.file_descriptor = fd;
    subscriptions[1].u.tag = __WASI_EVENTTYPE_CLOCK;
    subscriptions[1].u.u.clock = (__wasi_subscription_clock_t){.id = __WASI_CLOCKID_MONOTONIC, .timeout = 100000000};
    OK(__wasi_poll_oneoff(subscriptions, events, 2, &count));
    CHECK(count >= 1);
    return events[0].type;
}

static void fifo(void) {
    static char bytes[65536];
    size_t len;
    int fd, writer;
    // Nobody writes: at its end at once, and not to be had for writing.
    WANT(NXIO, open_in(ROOT, 0, "fifo", 0, WRITE, 0, &fd));
    WANT(NXIO, open_in(ROOT, 0, "fifo", CREAT | TRUNC, WRITE, 0, &fd));
    OK(open_in(ROOT, 0, "fifo", 0, READ, 0, &fd));
    CHECK(flags_of(fd) == __WASI_FDFLAGS_NONBLOCK);
    OK(read_bytes(fd, bytes, 10, &len));
    CHECK(len == 0);
    // The flag can't be taken away.
    OK(__wasi_fd_fdstat_set_flags(fd, 0));
    CHECK(flags_of(fd) == __WASI_FDFLAGS_NONBLOCK);
    // Nothing written yet.
    OK(open_in(ROOT, 0, "fifo", 0, WRITE, 0, &writer));
    WANT(AGAIN, read_bytes(fd, bytes, 10, &len));
    CHECK(poll(fd, __WASI_EVENTTYPE_FD_READ) == __WASI_EVENTTYPE_CLOCK);
    OK(write_bytes(writer, "abc", 3, &len));
    CHECK(poll(fd, __WASI_EVENTTYPE_FD_READ) == __WASI_EVENTTYPE_FD_READ);
    OK(read_bytes(fd, bytes, 10, &len));
    CHECK(len == 3 && memcmp(bytes, "abc", 3) == 0);
    // Full.
    OK(__wasi_fd_fdstat_set_flags(writer, 0));
    int errno_of_write = 0;
    for (int i = 0; i < 1000 && errno_of_write == 0; i++) errno_of_write = write_bytes(writer, bytes, sizeof bytes, &len);
    CHECK(errno_of_write == __WASI_ERRNO_AGAIN);
    CHECK(poll(writer, __WASI_EVENTTYPE_FD_WRITE) == __WASI_EVENTTYPE_CLOCK);
    // A pipe has no position and no size.
    __wasi_filesize_t position;
    __wasi_iovec_t iov = {(uint8_t *)bytes, 1};
    WANT(SPIPE, __wasi_fd_tell(fd, &position));
    WANT(SPIPE, __wasi_fd_pread(fd, &iov, 1, 0, &len));
    WANT(INVAL, __wasi_fd_filestat_set_size(writer, 0));
    OK(__wasi_fd_close(fd));
    WANT(PIPE, write_bytes(writer, "abc", 3, &len));
    OK(__wasi_fd_close(writer));
    // Nothing was waited for to look at it, or to change its times.
    __wasi_filestat_t stat;
    OK(__wasi_path_filestat_get(ROOT, FOLLOW, "fifo", &stat));
    OK(__wasi_path_filestat_set_times(ROOT, 0, "fifo", 0, 0, __WASI_FSTFLAGS_MTIM_NOW));
    WANT(NOTDIR, open_in(ROOT, 0, "fifo/x", 0, READ, 0, &fd));
    WANT(NOTDIR, open_in(ROOT, 0, "fifo", DIRECTORY, READ, 0, &fd));
}

static void devices(void) {
    uint8_t bytes[64];
    size_t len;
    int fd = opened(SECOND, "null", 0, READ | WRITE);
    OK(write_bytes(fd, "abc", 3, &len));
    CHECK(len == 3);
    OK(read_bytes(fd, bytes, sizeof bytes, &len));
    CHECK(len == 0);
    OK(__wasi_fd_fdstat_set_flags(fd, 0));
    OK(__wasi_fd_close(fd));
    memset(bytes, 1, sizeof bytes);
    fd = opened(SECOND, "zero", 0, READ);
    OK(read_bytes(fd, bytes, sizeof bytes, &len));
    CHECK(len == sizeof bytes && bytes[0] == 0 && bytes[63] == 0);
    OK(__wasi_fd_close(fd));
    fd = opened(SECOND, "urandom", 0, READ);
    OK(read_bytes(fd, bytes, sizeof bytes, &len));
    CHECK(len == sizeof bytes);
    OK(__wasi_fd_close(fd));
    // A new terminal at which nobody ever types.
    fd = opened(SECOND, "ptmx", 0, READ | WRITE);
    WANT(AGAIN, read_bytes(fd, bytes, sizeof bytes, &len));
    OK(__wasi_fd_fdstat_set_flags(fd, 0));
    WANT(AGAIN, read_bytes(fd, bytes, sizeof bytes, &len));
    OK(__wasi_fd_close(fd));
}

int main(void) {
    int fd;
    WANT(NXIO, open_in(ROOT, FOLLOW, "socket", 0, READ, 0, &fd));
    fifo();
    devices();
    puts("ok");
}
