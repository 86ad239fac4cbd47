// A read-only directory, with `file` and `dir/` in it; the second one can be written.
#include "check.h"

int main(void) {
    int fd;
    CHECK(holds(ROOT, "file", "text"));
    WANT(PERM, open_in(ROOT, 0, "file", 0, WRITE, 0, &fd));
    WANT(PERM, open_in(ROOT, 0, "file", 0, READ | WRITE, 0, &fd));
    WANT(PERM, open_in(ROOT, 0, "file", TRUNC, READ, 0, &fd));
    WANT(PERM, open_in(ROOT, 0, "new", CREAT, READ, 0, &fd));
    WANT(PERM, __wasi_path_create_directory(ROOT, "new"));
    WANT(PERM, __wasi_path_unlink_file(ROOT, "file"));
    WANT(PERM, __wasi_path_remove_directory(ROOT, "dir"));
    WANT(PERM, __wasi_path_symlink("file", ROOT, "new"));
    WANT(PERM, __wasi_path_rename(ROOT, "file", ROOT, "new"));
    WANT(PERM, __wasi_path_rename(ROOT, "file", SECOND, "new"));
    make(SECOND, "mine", "mine");
    WANT(PERM, __wasi_path_rename(SECOND, "mine", ROOT, "file"));
    WANT(PERM, __wasi_path_link(ROOT, 0, "file", SECOND, "alias"));
    WANT(PERM, __wasi_path_link(SECOND, 0, "mine", ROOT, "alias"));
    WANT(PERM, __wasi_path_filestat_set_times(ROOT, 0, "file", 0, 0, __WASI_FSTFLAGS_MTIM_NOW));
    WANT(PERM, __wasi_fd_filestat_set_times(ROOT, 0, 0, __WASI_FSTFLAGS_MTIM_NOW));
    fd = opened(ROOT, "file", 0, READ);
    size_t done;
    WANT(PERM, __wasi_fd_filestat_set_times(fd, 0, 0, __WASI_FSTFLAGS_MTIM_NOW));
    WANT(INVAL, __wasi_fd_filestat_set_size(fd, 0));
    WANT(BADF, __wasi_fd_allocate(fd, 0, 100));
    WANT(BADF, write_bytes(fd, "x", 1, &done));
    OK(__wasi_fd_close(fd));
    // What is opened in it is read-only as well.
    int dir = opened(ROOT, "dir", DIRECTORY, READ);
    WANT(PERM, open_in(dir, 0, "new", CREAT, WRITE, 0, &fd));
    WANT(PERM, __wasi_path_unlink_file(dir, "inner"));
    CHECK(holds(dir, "inner", "more"));
    puts("ok");
}
