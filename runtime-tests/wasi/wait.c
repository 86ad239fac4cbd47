// Waiting: clocks, and standard input, a pipe into which the host writes `x` after 100 ms and then closes it.
#include "check.h"

static uint64_t now(int id) {
    __wasi_timestamp_t time;
    OK(__wasi_clock_time_get(id, 0, &time));
    return time;
}

static __wasi_subscription_t timer(int id, uint64_t timeout, int flags, uint64_t userdata) {
    __wasi_subscription_t sub = {.userdata = userdata};
    sub.u.tag = __WASI_EVENTTYPE_CLOCK;
    sub.u.u.clock.id = id;
    sub.u.u.clock.timeout = timeout;
    sub.u.u.clock.flags = flags;
    return sub;
}

static __wasi_subscription_t ready(int fd, int write, uint64_t userdata) {
    __wasi_subscription_t sub = {.userdata = userdata};
    sub.u.tag = write ? __WASI_EVENTTYPE_FD_WRITE : __WASI_EVENTTYPE_FD_READ;
    sub.u.u.fd_read.file_descriptor = fd;
    return sub;
}

int main(void) {
    const uint64_t ms = 1000000;
    __wasi_event_t events[200];
    __wasi_subscription_t subs[200];
    __wasi_timestamp_t resolution;
    size_t n;
    for (int id = 0; id < 4; id++) {
        OK(__wasi_clock_res_get(id, &resolution));
        CHECK(resolution > 0);
        CHECK(now(id) <= now(id));
    }
    WANT(INVAL, __wasi_clock_time_get(4, 0, &resolution));
    WANT(INVAL, __wasi_clock_res_get(99, &resolution));

    // Nothing has come yet: the timer is first.
    uint64_t start = now(__WASI_CLOCKID_MONOTONIC);
    subs[0] = timer(__WASI_CLOCKID_MONOTONIC, 20 * ms, 0, 7);
    subs[1] = ready(0, 0, 8);
    OK(__wasi_poll_oneoff(subs, events, 2, &n));
    CHECK(n == 1 && events[0].userdata == 7 && events[0].type == __WASI_EVENTTYPE_CLOCK && events[0].error == 0);
    CHECK(now(__WASI_CLOCKID_MONOTONIC) - start >= 20 * ms);

    // Absolute times on both clocks; those that have passed at once.
    subs[0] = timer(__WASI_CLOCKID_REALTIME, now(__WASI_CLOCKID_REALTIME) + 10 * ms, 1, 1);
    OK(__wasi_poll_oneoff(subs, events, 1, &n));
    CHECK(n == 1 && events[0].userdata == 1);
    subs[0] = timer(__WASI_CLOCKID_MONOTONIC, start, 1, 2);
    subs[1] = timer(__WASI_CLOCKID_REALTIME, 0, 1, 3);
    subs[2] = timer(__WASI_CLOCKID_REALTIME, 3600000 * ms, 0, 4);
    subs[3] = ready(1, 1, 5);
    OK(__wasi_poll_oneoff(subs, events, 4, &n));
    CHECK(n == 3 && events[0].userdata == 2 && events[1].userdata == 3 && events[2].userdata == 5);

    // Now wait for the byte.
    for (int i = 0; i < 199; i++) subs[i] = timer(__WASI_CLOCKID_MONOTONIC, 3600000 * ms + i, 0, i);
    subs[199] = ready(0, 0, 1000);
    OK(__wasi_poll_oneoff(subs, events, 200, &n));
    CHECK(n == 1 && events[0].userdata == 1000 && events[0].type == __WASI_EVENTTYPE_FD_READ);
    CHECK(events[0].fd_readwrite.nbytes == 1);
    char buffer[8];
    OK(read_bytes(0, buffer, sizeof buffer, &n));
    CHECK(n == 1 && buffer[0] == 'x');
    OK(__wasi_poll_oneoff(&subs[199], events, 1, &n));
    CHECK(n == 1);
    OK(read_bytes(0, buffer, sizeof buffer, &n));
    CHECK(n == 0);
    __wasi_filesize_t at;
    WANT(SPIPE, __wasi_fd_seek(0, 0, __WASI_WHENCE_CUR, &at));
    WANT(BADF, write_bytes(0, "x", 1, &n));
    WANT(BADF, read_bytes(1, buffer, 1, &n));

    WANT(INVAL, __wasi_poll_oneoff(subs, events, 0, &n));
    subs[0] = ready(77, 0, 1);
    WANT(BADF, __wasi_poll_oneoff(subs, events, 1, &n));
    subs[0] = timer(9, 1, 0, 1);
    WANT(INVAL, __wasi_poll_oneoff(subs, events, 1, &n));
    OK(__wasi_sched_yield());
    puts("ok");
}
