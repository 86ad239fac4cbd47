// Ways out of the directory that was given. The host has put these into it: `up` -> `..`, `outside` -> `../secret`,
// `absolute` -> the secret's own path, `root` -> `/`. None may lead out.
#include "check.h"

static const char *const WAYS[] = {
    "../secret", "./../secret", "inner/../../secret", "inner/../inner/../../secret", "/etc/passwd", "//etc/passwd",
    "up/secret", "outside", "absolute", "root/etc/passwd", "inner/up2/secret", "up/../secret", "..", "../", "/", "up",
};

int main(void) {
    int fd;
    size_t len;
    uint8_t buffer[64];
    __wasi_filestat_t stat;
    OK(__wasi_path_create_directory(ROOT, "inner"));
    // Links that lead out may be made, unless they are absolute.
    OK(__wasi_path_symlink("../..", ROOT, "inner/up2"));
    WANT(PERM, __wasi_path_symlink("/etc", ROOT, "etc"));
    WANT(PERM, __wasi_path_readlink(ROOT, "absolute", buffer, sizeof buffer, &len));
    make(ROOT, "mine", "mine");

    for (size_t i = 0; i < sizeof WAYS / sizeof *WAYS; i++) {
        const char *way = WAYS[i];
        WANT(PERM, open_in(ROOT, FOLLOW, way, 0, READ, 0, &fd));
        WANT(PERM, open_in(ROOT, FOLLOW, way, DIRECTORY, READ, 0, &fd));
        WANT(PERM, __wasi_path_filestat_get(ROOT, FOLLOW, way, &stat));
        WANT(PERM, __wasi_path_filestat_set_times(ROOT, FOLLOW, way, 0, 0, __WASI_FSTFLAGS_MTIM_NOW));
    }
    // What acts on the name itself: the links in the last place are names like any other here.
    for (size_t i = 0; i < 7; i++) {
        const char *way = WAYS[i];
        CHECK(open_in(ROOT, FOLLOW, way, CREAT | TRUNC, WRITE, 0, &fd) == __WASI_ERRNO_PERM);
        WANT(PERM, __wasi_path_unlink_file(ROOT, way));
        WANT(PERM, __wasi_path_remove_directory(ROOT, way));
        WANT(PERM, __wasi_path_create_directory(ROOT, way));
        WANT(PERM, __wasi_path_rename(ROOT, way, ROOT, "stolen"));
        WANT(PERM, __wasi_path_rename(ROOT, "mine", ROOT, way));
        WANT(PERM, __wasi_path_link(ROOT, 0, way, ROOT, "stolen"));
        WANT(PERM, __wasi_path_link(ROOT, 0, "mine", ROOT, way));
        WANT(PERM, __wasi_path_symlink("mine", ROOT, way));
        WANT(PERM, __wasi_path_readlink(ROOT, way, buffer, sizeof buffer, &len));
    }
    // A link to a file outside is not created through, and not truncated through.
    WANT(PERM, open_in(ROOT, FOLLOW, "outside", CREAT | TRUNC, WRITE, 0, &fd));
    WANT(EXIST, open_in(ROOT, FOLLOW, "outside", CREAT | EXCL, WRITE, 0, &fd));
    // From a directory further in, up to the preopen is out as well.
    int inner = opened(ROOT, "inner", DIRECTORY, READ);
    WANT(PERM, open_in(inner, FOLLOW, "../mine", 0, READ, 0, &fd));
    OK(__wasi_fd_close(inner));

    CHECK(holds(ROOT, "mine", "mine"));
    puts("ok");
}
