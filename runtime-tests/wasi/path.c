// Names: making, finding, linking, renaming and removing them.
#include "check.h"

static int exists(const char *path) {
    __wasi_filestat_t stat;
    return __wasi_path_filestat_get(ROOT, 0, path, &stat) == 0;
}

static void directories(void) {
    OK(__wasi_path_create_directory(ROOT, "dir"));
    WANT(EXIST, __wasi_path_create_directory(ROOT, "dir"));
    OK(__wasi_path_create_directory(ROOT, "dir/inner/"));
    WANT(NOENT, __wasi_path_create_directory(ROOT, "no/inner"));
    WANT(NOTEMPTY, __wasi_path_remove_directory(ROOT, "dir"));
    WANT(ISDIR, __wasi_path_unlink_file(ROOT, "dir"));
    WANT(INVAL, __wasi_path_remove_directory(ROOT, "dir/inner/."));
    OK(__wasi_path_remove_directory(ROOT, "dir/inner/"));
    make(ROOT, "file", "text");
    WANT(NOTDIR, __wasi_path_remove_directory(ROOT, "file"));
    WANT(NOTDIR, __wasi_path_create_directory(ROOT, "file/dir"));
    WANT(NOTDIR, __wasi_path_unlink_file(ROOT, "file/"));
    WANT(NOENT, __wasi_path_unlink_file(ROOT, "none"));
    WANT(NOENT, __wasi_path_unlink_file(ROOT, ""));
}

static void symlinks(void) {
    char buffer[16];
    size_t len;
    int fd;
    __wasi_filestat_t stat;
    OK(__wasi_path_symlink("file", ROOT, "link"));
    WANT(EXIST, __wasi_path_symlink("file", ROOT, "link"));
    OK(__wasi_path_readlink(ROOT, "link", (uint8_t *)buffer, sizeof buffer, &len));
    CHECK(len == 4 && memcmp(buffer, "file", 4) == 0);
    OK(__wasi_path_readlink(ROOT, "link", (uint8_t *)buffer, 2, &len));
    CHECK(len == 2);
    WANT(INVAL, __wasi_path_readlink(ROOT, "file", (uint8_t *)buffer, 2, &len));
    OK(__wasi_path_filestat_get(ROOT, 0, "link", &stat));
    CHECK(stat.filetype == __WASI_FILETYPE_SYMBOLIC_LINK);
    OK(__wasi_path_filestat_get(ROOT, FOLLOW, "link", &stat));
    CHECK(stat.filetype == __WASI_FILETYPE_REGULAR_FILE && stat.size == 4);
    WANT(LOOP, open_in(ROOT, 0, "link", 0, READ, 0, &fd));
    CHECK(holds(ROOT, "link", "text"));
    OK(__wasi_path_filestat_set_times(ROOT, 0, "link", 1, 2, __WASI_FSTFLAGS_MTIM));
    OK(__wasi_path_filestat_get(ROOT, 0, "link", &stat));
    CHECK(stat.mtim == 2);
    OK(__wasi_path_symlink("self", ROOT, "self"));
    WANT(LOOP, open_in(ROOT, FOLLOW, "self", 0, READ, 0, &fd));
    OK(__wasi_path_unlink_file(ROOT, "self"));
    OK(__wasi_path_unlink_file(ROOT, "link"));
    CHECK(exists("file"));
}

static void links(void) {
    __wasi_filestat_t stat;
    OK(__wasi_path_link(ROOT, 0, "file", ROOT, "dir/other"));
    OK(__wasi_path_filestat_get(ROOT, 0, "file", &stat));
    CHECK(stat.nlink == 2);
    WANT(EXIST, __wasi_path_link(ROOT, 0, "file", ROOT, "dir/other"));
    WANT(INVAL, __wasi_path_link(ROOT, FOLLOW, "file", ROOT, "followed"));
    WANT(PERM, __wasi_path_link(ROOT, 0, "dir", ROOT, "dir2"));
    OK(__wasi_path_unlink_file(ROOT, "dir/other"));
}

static void renaming(void) {
    OK(__wasi_path_rename(ROOT, "file", ROOT, "dir/moved"));
    CHECK(!exists("file") && holds(ROOT, "dir/moved", "text"));
    int dir = opened(ROOT, "dir", DIRECTORY, READ);
    OK(__wasi_path_rename(dir, "moved", ROOT, "file"));
    OK(__wasi_fd_close(dir));
    WANT(NOENT, __wasi_path_rename(ROOT, "none", ROOT, "any"));
    WANT(ISDIR, __wasi_path_rename(ROOT, "file", ROOT, "dir"));
    WANT(NOTDIR, __wasi_path_rename(ROOT, "dir", ROOT, "file"));
    WANT(NOTDIR, __wasi_path_rename(ROOT, "file", ROOT, "any/"));
    OK(__wasi_path_symlink("dir", ROOT, "link"));
    WANT(NOTDIR, __wasi_path_rename(ROOT, "link/", ROOT, "any/"));
    OK(__wasi_path_unlink_file(ROOT, "link"));
    WANT(INVAL, __wasi_path_rename(ROOT, "dir", ROOT, "dir/inside"));
    OK(__wasi_path_create_directory(ROOT, "full"));
    make(ROOT, "full/file", "");
    WANT(NOTEMPTY, __wasi_path_rename(ROOT, "dir", ROOT, "full"));
    OK(__wasi_path_unlink_file(ROOT, "full/file"));
    OK(__wasi_path_rename(ROOT, "dir/", ROOT, "full/"));
    CHECK(!exists("dir") && exists("full"));
}

static void odd_paths(void) {
    int fd;
    static char longest[8192];
    memset(longest, 'a', sizeof longest - 1);
    WANT(NAMETOOLONG, open_in(ROOT, 0, longest, CREAT, WRITE, 0, &fd));
    longest[300] = 0;
    WANT(NAMETOOLONG, open_in(ROOT, 0, longest, CREAT, WRITE, 0, &fd));
    WANT(NOENT, open_in(ROOT, 0, "", 0, READ, 0, &fd));
    WANT(ILSEQ, open_in(ROOT, 0, "\xff\xfe", CREAT, WRITE, 0, &fd));
    WANT(NOTDIR, open_in(ROOT, 0, "file/", 0, READ, 0, &fd));
    WANT(NOTDIR, open_in(ROOT, 0, "file/.", 0, READ, 0, &fd));
    fd = opened(ROOT, "./full/../full//.././file", 0, READ);
    OK(__wasi_fd_close(fd));
    make(ROOT, "\xc3\xa4\xe2\x82\xac\xf0\x9f\xa6\x80", "umlaut");
    CHECK(holds(ROOT, "\xc3\xa4\xe2\x82\xac\xf0\x9f\xa6\x80", "umlaut"));
    WANT(BADF, __wasi_path_create_directory(1, "dir"));
    WANT(BADF, __wasi_path_create_directory(99, "dir"));
}

int main(void) {
    directories();
    symlinks();
    links();
    renaming();
    odd_paths();
    puts("ok");
}
