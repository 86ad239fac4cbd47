// Directories: buffers of any size, cookies that survive changes.
#include "check.h"

enum { FILES = 300 };
static uint8_t buffer[1 << 16];

struct name {
    uint64_t next;
    uint64_t ino;
    uint32_t len;
    uint8_t type;
};

// Reads all names, removing each file as it is seen, with a buffer of `size` bytes; gives how many there were.
static int drain(int dir, size_t size, int removing) {
    uint64_t cookie = 0;
    int count = 0;
    for (;;) {
        size_t used;
        OK(__wasi_fd_readdir(dir, buffer, size, cookie, &used));
        CHECK(used <= size);
        size_t at = 0;
        int whole = 0;
        while (at + 24 <= used) {
            struct name entry;
            memcpy(&entry, buffer + at, 24);
            if (at + 24 + entry.len > used) break;
            char name[64] = {0};
            memcpy(name, buffer + at + 24, entry.len);
            if (removing && strncmp(name, "file", 4) == 0) OK(__wasi_path_unlink_file(dir, name));
            CHECK(entry.type == (name[0] == '.' ? __WASI_FILETYPE_DIRECTORY : __WASI_FILETYPE_REGULAR_FILE));
            cookie = entry.next;
            at += 24 + entry.len;
            count++;
            whole = 1;
        }
        if (used < size) return count;
        CHECK(whole);
    }
}

int main(void) {
    OK(__wasi_path_create_directory(ROOT, "many"));
    int dir = opened(ROOT, "many", DIRECTORY, READ);
    CHECK(drain(dir, 100, 0) == 2);
    for (int i = 0; i < FILES; i++) {
        char name[32];
        sprintf(name, "file%d", i);
        make(dir, name, "");
    }
    CHECK(drain(dir, sizeof buffer, 0) == FILES + 2);
    CHECK(drain(dir, 40, 0) == FILES + 2);
    CHECK(drain(dir, 1000, 0) == FILES + 2);

    // The first entry, cut off at every length.
    for (size_t size = 0; size < 25; size++) {
        size_t used;
        memset(buffer, 0xaa, 64);
        OK(__wasi_fd_readdir(dir, buffer, size, 0, &used));
        CHECK(used == size && buffer[size] == 0xaa);
    }
    // Numbers agree with those of the files.
    size_t used;
    struct name entry;
    __wasi_filestat_t stat;
    OK(__wasi_fd_readdir(dir, buffer, sizeof buffer, 2, &used));
    memcpy(&entry, buffer, 24);
    char name[64] = {0};
    memcpy(name, buffer + 24, entry.len);
    OK(__wasi_path_filestat_get(dir, 0, name, &stat));
    CHECK(stat.ino == entry.ino);

    // Removing while reading misses none.
    CHECK(drain(dir, 200, 1) == FILES + 2);
    CHECK(drain(dir, 200, 0) == 2);
    OK(__wasi_fd_readdir(dir, buffer, sizeof buffer, UINT64_MAX, &used));
    CHECK(used == 0);
    OK(__wasi_path_remove_directory(ROOT, "many"));
    OK(__wasi_fd_close(dir));
    make(ROOT, "plain", "");
    int fd = opened(ROOT, "plain", 0, READ);
    WANT(NOTDIR, __wasi_fd_readdir(fd, buffer, sizeof buffer, 0, &used));
    WANT(BADF, __wasi_fd_readdir(1, buffer, sizeof buffer, 0, &used));
    puts("ok");
}
