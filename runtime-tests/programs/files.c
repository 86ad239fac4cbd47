// Works on a folder it was given: makes a tree, walks it in sorted order, copies it, renames, truncates, removes.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void check(int ok, const char *what) {
    if (!ok) {
        printf("%s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static void join(char *out, const char *folder, const char *name) { snprintf(out, 512, "%s/%s", folder, name); }

static void write_file(const char *path, const char *text, int flags) {
    int fd = open(path, O_WRONLY | O_CREAT | flags, 0644);
    check(fd >= 0, path);
    check(write(fd, text, strlen(text)) == (ssize_t)strlen(text), path);
    check(close(fd) == 0, path);
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static int list(const char *folder, char **names, int room) {
    DIR *dir = opendir(folder);
    check(dir != NULL, folder);
    int count = 0;
    for (struct dirent *entry; (entry = readdir(dir)) && count < room;)
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..")) names[count++] = strdup(entry->d_name);
    closedir(dir);
    qsort(names, count, sizeof *names, by_name);
    return count;
}

static void walk(const char *folder, int depth) {
    char *names[512], path[512];
    int count = list(folder, names, 512);
    for (int i = 0; i < count; i++) {
        struct stat st;
        join(path, folder, names[i]);
        check(stat(path, &st) == 0, path);
        printf("%*s%s%s", depth * 2, "", names[i], S_ISDIR(st.st_mode) ? "/\n" : "");
        if (S_ISDIR(st.st_mode)) walk(path, depth + 1);
        else printf(" %lld\n", (long long)st.st_size);
        free(names[i]);
    }
}

static void copy(const char *from, const char *to) {
    char *names[512], source[512], target[512], buffer[1000];
    check(mkdir(to, 0755) == 0, to);
    int count = list(from, names, 512);
    for (int i = 0; i < count; i++) {
        struct stat st;
        join(source, from, names[i]);
        join(target, to, names[i]);
        check(stat(source, &st) == 0, source);
        if (S_ISDIR(st.st_mode)) copy(source, target);
        else {
            int in = open(source, O_RDONLY), out = open(target, O_WRONLY | O_CREAT | O_EXCL, 0644);
            check(in >= 0 && out >= 0, target);
            for (ssize_t n; (n = read(in, buffer, sizeof buffer)) > 0;) check(write(out, buffer, n) == n, target);
            close(in), close(out);
        }
        free(names[i]);
    }
}

int main(int argc, char **argv) {
    char root[512], path[512], text[64];
    if (argc != 2) return fprintf(stderr, "usage: files FOLDER\n"), 2;

    join(root, argv[1], "tree");
    check(mkdir(root, 0755) == 0, root);
    join(path, root, "sub");
    check(mkdir(path, 0755) == 0, path);
    for (int i = 0; i < 100; i++) { // more than one buffer of directory entries
        snprintf(path, sizeof path, "%s/sub/file-%03d", root, i);
        snprintf(text, sizeof text, "%d\n", i * i);
        write_file(path, text, O_EXCL);
    }
    join(path, root, "log");
    write_file(path, "one\n", 0);
    write_file(path, "two\n", O_APPEND);

    join(text, argv[1], "copy");
    copy(root, text);

    FILE *file = fopen(path, "r+");
    check(file != NULL, path);
    check(fseek(file, -4, SEEK_END) == 0, "fseek");
    check(fgets(text, sizeof text, file) != NULL && strcmp(text, "two\n") == 0, "fgets");
    fclose(file);
    check(truncate(path, 6) == 0, "truncate");
    char renamed[512];
    join(renamed, root, "log.old");
    check(rename(path, renamed) == 0, "rename");
    check(open(path, O_RDONLY) < 0 && errno == ENOENT, "open of a renamed file");
    check(mkdir(root, 0755) < 0 && errno == EEXIST, "mkdir of a folder that exists");
    check(rmdir(root) < 0 && errno == ENOTEMPTY, "rmdir of a full folder");
    for (int i = 10; i < 100; i++) {
        snprintf(path, sizeof path, "%s/sub/file-%03d", root, i);
        check(unlink(path) == 0, path);
    }
    snprintf(path, sizeof path, "%s/../../outside", argv[1]);
    check(open(path, O_WRONLY | O_CREAT, 0644) < 0, "open outside of the folder");
    walk(argv[1], 0);
    return 0;
}
