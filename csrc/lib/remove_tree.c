/* Removes a tree of any depth without following links, crossing mounts or recursing.
 *
 * It holds two descriptors at most: it goes down by name and up by "..", and checks on the way up that it came back to
 * where it was.
 */
#define _GNU_SOURCE
#include "lib.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

struct entry64 {
    uint64_t ino;
    int64_t off;
    unsigned short length;
    unsigned char type;
    char name[];
};

struct level {
    char *name; /* of the directory, in its parent */
    dev_t dev;
    ino_t ino; /* of the parent */
};

struct descent {
    struct level *levels;
    size_t depth, room;
};

static void descent_free(struct descent *d)
{
    for (size_t i = 0; i < d->depth; i++)
        free(d->levels[i].name);
    free(d->levels);
}

static int open_directory(int dirfd, const char *name)
{
    struct open_how how = {.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, .resolve = RESOLVE_NO_XDEV};
    int fd = (int)syscall(SYS_openat2, dirfd, name, &how, sizeof how);
    if (fd < 0 && errno == EACCES && fchmodat(dirfd, name, 0700, 0) == 0) /* overlay's work/work has mode 0 */
        fd = (int)syscall(SYS_openat2, dirfd, name, &how, sizeof how);
    return fd;
}

static int push(struct descent *d, int dirfd, const char *name)
{
    struct stat st;
    if (fstat(dirfd, &st) < 0)
        return -1;
    if (d->depth == d->room) {
        size_t room = d->room ? d->room * 2 : 16;
        struct level *levels = realloc(d->levels, room * sizeof *levels);
        if (!levels)
            return -1;
        d->levels = levels;
        d->room = room;
    }
    char *copy = strdup(name);
    if (!copy)
        return -1;
    d->levels[d->depth++] = (struct level){copy, st.st_dev, st.st_ino};
    return 0;
}

/* Empties `dirfd` of all but directories with content; *ret_name is the first of those, or "" when it is empty. */
static int empty_directory(int dirfd, char ret_name[NAME_MAX + 1])
{
    char buffer[32768] __attribute__((aligned(8)));
    ret_name[0] = 0;
    if (lseek(dirfd, 0, SEEK_SET) < 0)
        return -1;
    for (;;) {
        long n = syscall(SYS_getdents64, dirfd, buffer, sizeof buffer);
        if (n <= 0)
            return (int)n;
        for (long at = 0; at < n;) {
            const struct entry64 *e = (const void *)(buffer + at);
            at += e->length;
            if (strcmp(e->name, ".") == 0 || strcmp(e->name, "..") == 0)
                continue;
            if (unlinkat(dirfd, e->name, e->type == DT_DIR ? AT_REMOVEDIR : 0) == 0 || errno == ENOENT)
                continue;
            if (e->type == DT_UNKNOWN && errno == EISDIR && unlinkat(dirfd, e->name, AT_REMOVEDIR) == 0)
                continue;
            if (errno != ENOTEMPTY && errno != EEXIST && errno != EACCES)
                return -1;
            strcpy(ret_name, e->name);
            return 0;
        }
    }
}

int pylxc_remove_tree(int dirfd, const char *name)
{
    if (unlinkat(dirfd, name, 0) == 0)
        return 0;
    if (errno != EISDIR)
        return -1;
    __attribute__((cleanup(descent_free))) struct descent d = {0};
    lib_fd_close int current = open_directory(dirfd, name);
    if (current < 0)
        return -1;
    for (;;) {
        char child[NAME_MAX + 1];
        if (empty_directory(current, child) < 0)
            return -1;
        if (child[0]) {
            int next = open_directory(current, child);
            if (next < 0 || push(&d, current, child) < 0) {
                if (next >= 0)
                    close(next);
                return -1;
            }
            close(current);
            current = next;
            continue;
        }
        if (d.depth == 0)
            return unlinkat(dirfd, name, AT_REMOVEDIR);
        struct level top = d.levels[d.depth - 1];
        struct stat st;
        int parent = openat(current, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (parent < 0)
            return -1;
        close(current);
        current = parent;
        if (fstat(current, &st) < 0)
            return -1;
        if (st.st_dev != top.dev || st.st_ino != top.ino) {
            errno = EXDEV; /* somebody moved the directory away while we were in it */
            return -1;
        }
        if (unlinkat(current, top.name, AT_REMOVEDIR) < 0)
            return -1;
        free(top.name);
        d.depth--;
    }
}
