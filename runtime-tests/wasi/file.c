// Open files: reading, writing, moving about, sizes, times, flags.
#include "check.h"

static uint64_t tell(int fd) {
    __wasi_filesize_t at;
    OK(__wasi_fd_tell(fd, &at));
    return at;
}

static __wasi_filestat_t stat(int fd) {
    __wasi_filestat_t stat;
    OK(__wasi_fd_filestat_get(fd, &stat));
    return stat;
}

static void reading_and_writing(void) {
    char buffer[16] = {0};
    size_t done;
    __wasi_filesize_t at;
    int fd = opened(ROOT, "file", CREAT | EXCL, READ | WRITE);
    CHECK(fd == 5);
    OK(write_bytes(fd, "0123456789", 10, &done));
    CHECK(done == 10 && tell(fd) == 10);
    OK(__wasi_fd_seek(fd, -8, __WASI_WHENCE_END, &at));
    CHECK(at == 2);
    OK(read_bytes(fd, buffer, 3, &done));
    CHECK(done == 3 && memcmp(buffer, "234", 3) == 0);
    OK(__wasi_fd_seek(fd, 1, __WASI_WHENCE_CUR, &at));
    CHECK(at == 6);
    WANT(INVAL, __wasi_fd_seek(fd, -1, __WASI_WHENCE_SET, &at));
    WANT(INVAL, __wasi_fd_seek(fd, -7, __WASI_WHENCE_CUR, &at));
    WANT(INVAL, __wasi_fd_seek(fd, 0, 3, &at));
    CHECK(tell(fd) == 6);

    // Many buffers, empty ones among them, more than one system call takes.
    __wasi_iovec_t in[40];
    char out[40] = {0};
    for (int i = 0; i < 40; i++) in[i] = (__wasi_iovec_t){(uint8_t *)&out[i], i % 2};
    OK(__wasi_fd_pread(fd, in, 40, 1, &done));
    CHECK(done == 9 && out[1] == '1' && out[17] == '9' && out[19] == 0);
    __wasi_ciovec_t more[40];
    for (int i = 0; i < 40; i++) more[i] = (__wasi_ciovec_t){(const uint8_t *)"ab", 2};
    OK(__wasi_fd_pwrite(fd, more, 40, 10, &done));
    CHECK(done == 80 && tell(fd) == 6 && stat(fd).size == 90);
    OK(__wasi_fd_pread(fd, in, 40, 1000, &done));
    CHECK(done == 0);
    OK(__wasi_fd_pread(fd, in, 0, 0, &done));
    CHECK(done == 0);

    // Buffers that overlap.
    __wasi_iovec_t twice[2] = {{(uint8_t *)buffer, 8}, {(uint8_t *)buffer + 4, 8}};
    OK(__wasi_fd_pread(fd, twice, 2, 0, &done));
    CHECK(done > 0 && memcmp(buffer, "0123", 4) == 0);
    OK(__wasi_fd_close(fd));
    WANT(BADF, __wasi_fd_close(fd));
    WANT(BADF, read_bytes(fd, buffer, 1, &done));
}

static void open_flags(void) {
    int fd;
    WANT(EXIST, open_in(ROOT, 0, "file", CREAT | EXCL, WRITE, 0, &fd));
    WANT(NOENT, open_in(ROOT, 0, "none", 0, READ, 0, &fd));
    WANT(NOTDIR, open_in(ROOT, 0, "file", DIRECTORY, READ, 0, &fd));
    WANT(ISDIR, open_in(ROOT, 0, ".", 0, READ | WRITE, 0, &fd));
    WANT(INVAL, open_in(ROOT, 0, "file", 16, READ, 0, &fd));
    WANT(INVAL, open_in(ROOT, 2, "file", 0, READ, 0, &fd));
    WANT(INVAL, open_in(ROOT, 0, "file", 0, READ, 32, &fd));
    WANT(INVAL, open_in(ROOT, 0, "new", CREAT | DIRECTORY, READ, 0, &fd));
    fd = opened(ROOT, "file", 0, READ);
    size_t done;
    WANT(BADF, write_bytes(fd, "x", 1, &done));
    WANT(INVAL, __wasi_fd_filestat_set_size(fd, 1));
    WANT(NOTDIR, open_in(fd, 0, "file", 0, READ, 0, &(int){0}));
    OK(__wasi_fd_close(fd));
    fd = opened(ROOT, "file", 0, WRITE);
    char byte;
    WANT(BADF, read_bytes(fd, &byte, 1, &done));
    OK(__wasi_fd_close(fd));
    fd = opened(ROOT, "file", TRUNC, WRITE);
    CHECK(stat(fd).size == 0);
    OK(__wasi_fd_close(fd));
}

static void appending(void) {
    size_t done;
    int fd;
    __wasi_filesize_t at;
    __wasi_fdstat_t fdstat;
    OK(open_in(ROOT, 0, "log", CREAT, READ | WRITE, __WASI_FDFLAGS_APPEND, &fd));
    OK(write_bytes(fd, "one", 3, &done));
    OK(__wasi_fd_seek(fd, 0, __WASI_WHENCE_SET, &at));
    OK(write_bytes(fd, "two", 3, &done));
    CHECK(holds(ROOT, "log", "onetwo"));
    OK(__wasi_fd_fdstat_get(fd, &fdstat));
    CHECK(fdstat.fs_flags == __WASI_FDFLAGS_APPEND && fdstat.fs_filetype == __WASI_FILETYPE_REGULAR_FILE);
    OK(__wasi_fd_fdstat_set_flags(fd, __WASI_FDFLAGS_SYNC | __WASI_FDFLAGS_NONBLOCK));
    OK(__wasi_fd_seek(fd, 0, __WASI_WHENCE_SET, &at));
    OK(write_bytes(fd, "ONE", 3, &done));
    CHECK(holds(ROOT, "log", "ONEtwo"));
    OK(__wasi_fd_fdstat_get(fd, &fdstat));
    CHECK(fdstat.fs_flags == (__WASI_FDFLAGS_SYNC | __WASI_FDFLAGS_NONBLOCK));
    WANT(INVAL, __wasi_fd_fdstat_set_flags(fd, 64));
    OK(__wasi_fd_close(fd));
    OK(open_in(ROOT, 0, "log", 0, WRITE, __WASI_FDFLAGS_DSYNC | __WASI_FDFLAGS_RSYNC, &fd));
    OK(write_bytes(fd, "dsync!", 6, &done));
    OK(__wasi_fd_close(fd));
    CHECK(holds(ROOT, "log", "dsync!"));
}

static void sizes_and_times(void) {
    int fd = opened(ROOT, "sized", CREAT, READ | WRITE);
    OK(__wasi_fd_filestat_set_size(fd, 1000));
    CHECK(stat(fd).size == 1000);
    OK(__wasi_fd_allocate(fd, 500, 1500));
    CHECK(stat(fd).size == 2000);
    WANT(INVAL, __wasi_fd_allocate(fd, 0, 0));
    WANT(INVAL, __wasi_fd_allocate(fd, UINT64_MAX, 1));
    WANT(INVAL, __wasi_fd_filestat_set_size(fd, UINT64_MAX));
    OK(__wasi_fd_advise(fd, 0, 100, __WASI_ADVICE_WILLNEED));
    WANT(INVAL, __wasi_fd_advise(fd, 0, 100, 6));
    // A hint about what no file reaches is one as well, but not about a length that is none.
    OK(__wasi_fd_advise(fd, UINT64_MAX, 100, __WASI_ADVICE_NORMAL));
    WANT(INVAL, __wasi_fd_advise(fd, 0, UINT64_MAX, __WASI_ADVICE_NORMAL));
    WANT(FBIG, __wasi_fd_allocate(fd, INT64_MAX, 1));
    OK(__wasi_fd_sync(fd));
    OK(__wasi_fd_datasync(fd));
    __wasi_timestamp_t at = 1000000000123456789, later = 2000000000987654321;
    OK(__wasi_fd_filestat_set_times(fd, at, later, __WASI_FSTFLAGS_ATIM | __WASI_FSTFLAGS_MTIM));
    CHECK(stat(fd).atim == at && stat(fd).mtim == later);
    OK(__wasi_fd_filestat_set_times(fd, 0, 0, __WASI_FSTFLAGS_ATIM_NOW));
    CHECK(stat(fd).atim > at && stat(fd).mtim == later);
    WANT(INVAL, __wasi_fd_filestat_set_times(fd, 0, 0, __WASI_FSTFLAGS_ATIM_NOW | __WASI_FSTFLAGS_ATIM));
    WANT(INVAL, __wasi_fd_filestat_set_times(fd, 0, 0, 16));
    OK(__wasi_fd_close(fd));
    __wasi_filestat_t named;
    OK(__wasi_path_filestat_set_times(ROOT, 0, "sized", at, at, __WASI_FSTFLAGS_ATIM | __WASI_FSTFLAGS_MTIM));
    OK(__wasi_path_filestat_get(ROOT, 0, "sized", &named));
    CHECK(named.atim == at && named.mtim == at && named.nlink == 1 && named.size == 2000);
}

static void renumbering(void) {
    int a = opened(ROOT, "sized", 0, READ), b = opened(ROOT, "log", 0, READ);
    uint64_t size = stat(a).size;
    OK(__wasi_fd_renumber(a, b));
    WANT(BADF, __wasi_fd_renumber(a, b));
    CHECK(stat(b).size == size);
    OK(__wasi_fd_renumber(b, b));
    WANT(BADF, __wasi_fd_renumber(b, 1000));
    int lowest = opened(ROOT, "log", 0, READ);
    CHECK(lowest == a);
    OK(__wasi_fd_close(a));
    OK(__wasi_fd_close(b));
}

static void giving_up_rights(void) {
    size_t done;
    __wasi_fdstat_t fdstat;
    int fd = opened(ROOT, "file", 0, READ | WRITE);
    OK(__wasi_fd_fdstat_get(fd, &fdstat));
    OK(__wasi_fd_fdstat_set_rights(fd, fdstat.fs_rights_base & ~WRITE, 0));
    WANT(NOTCAPABLE, write_bytes(fd, "x", 1, &done));
    WANT(NOTCAPABLE, __wasi_fd_fdstat_set_rights(fd, fdstat.fs_rights_base, 0));
    OK(__wasi_fd_close(fd));
}

static void directories_are_no_files(void) {
    char byte = 0;
    size_t done;
    __wasi_filesize_t at;
    WANT(BADF, read_bytes(ROOT, &byte, 1, &done));
    WANT(BADF, write_bytes(ROOT, &byte, 1, &done));
    WANT(BADF, __wasi_fd_seek(ROOT, 0, __WASI_WHENCE_CUR, &at));
    WANT(BADF, __wasi_fd_tell(ROOT, &at));
    OK(__wasi_fd_sync(ROOT));
    OK(__wasi_fd_datasync(ROOT));
    WANT(BADF, __wasi_fd_allocate(ROOT, 0, 1));
    WANT(BADF, __wasi_fd_filestat_set_size(ROOT, 0));
}

int main(void) {
    reading_and_writing();
    open_flags();
    appending();
    sizes_and_times();
    renumbering();
    giving_up_rights();
    directories_are_no_files();
    puts("ok");
}
