/* Removes a tree of any depth, without following links, crossing mounts or recursing.
 *
 * It holds two descriptors at most: it goes down by name and up by "..", and checks on the way up that it came back to
 * where it was. Others may remove the same tree meanwhile: what they took is passed over. Part of the helper and of the
 * extension.
 */
#include "remove_tree.h"
#include "pile.h"
#include <linux/openat2.h>
#include <linux/stat.h>
#include <stdbool.h>

enum { NAME_SIZE = 256 /* NAME_MAX + 1 */, DIRECTORY_TYPE = 4 /* DT_DIR */ };
#ifndef AT_EMPTY_PATH
#define AT_EMPTY_PATH 0x1000
#endif
#ifndef AT_REMOVEDIR
#define AT_REMOVEDIR 0x200
#endif

static long status_of(int fd, struct statx *ret)
{
    return sys(statx, fd, "", AT_EMPTY_PATH, STATX_INO, ret);
}

/* For what somebody else has removed: that is as good. */
static int unless_gone(long r)
{
    return r == -ENOENT ? 0 : (int)r;
}

struct remembered {
    uint64_t inode;
    uint32_t device_major, device_minor;
    size_t name_size; /* of the name before it, with the NUL */
};

/* Unlinks what is not a directory from `fd`, from its start; the name of a directory found stays in `ret`. */
static int empty_of_files(int fd, char *buffer, size_t size, char *ret)
{
    *ret = 0;
    for (;;) {
        long n = sys(getdents64, fd, buffer, size);
        if (n <= 0)
            return unless_gone(n);
        for (long at = 0; at < n;) {
            const struct directory_record *d = (const struct directory_record *)(buffer + at);
            at += d->size;
            if (strcmp(d->name, ".") == 0 || strcmp(d->name, "..") == 0)
                continue;
            long r = d->type == DIRECTORY_TYPE ? -EISDIR : sys(unlinkat, fd, d->name, 0);
            if (r == -EISDIR || r == -EPERM)
                r = sys(unlinkat, fd, d->name, AT_REMOVEDIR);
            if (r == -ENOTEMPTY || r == -EEXIST) {
                memcpy(ret, d->name, MINIMUM(strlen(d->name) + 1, (size_t)NAME_SIZE));
                return 0;
            }
            if ((r = unless_gone(r)) < 0)
                return (int)r;
        }
    }
}

static int remember(struct pile *way, int fd, const char *name)
{
    struct statx x;
    int r = (int)status_of(fd, &x);
    struct remembered here = {x.stx_ino, x.stx_dev_major, x.stx_dev_minor, strlen(name) + 1};
    if (r < 0 || (r = pile_add(way, name, here.name_size)) < 0)
        return r;
    return pile_add(way, &here, sizeof here);
}

/* Goes back up to the directory remembered last, and takes its name for the one below from the way. */
static int step_back(struct pile *way, int *fd, char *ret_name)
{
    struct statx x;
    struct remembered here;
    way->used -= sizeof here;
    memcpy(&here, way->data + way->used, sizeof here);
    way->used -= here.name_size;
    memcpy(ret_name, way->data + way->used, here.name_size);
    int up = (int)sys(openat, *fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    fd_close_at_end(fd);
    *fd = up;
    if (up < 0)
        return up;
    int r = (int)status_of(up, &x);
    if (r < 0)
        return r;
    bool same = x.stx_ino == here.inode && x.stx_dev_major == here.device_major && x.stx_dev_minor == here.device_minor;
    return same ? 0 : -EBUSY;
}

/* overlayfs leaves its work directory with mode 0: whoever owns it may open it all the same. */
static int open_directory(int parent, const char *name)
{
    struct open_how how = {
        .flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
        .resolve = RESOLVE_NO_XDEV | RESOLVE_BENEATH,
    };
    int fd = (int)sys(openat2, parent, name, &how, sizeof how);
    if (fd == -EACCES && sys(fchmodat, parent, name, 0700) == 0)
        fd = (int)sys(openat2, parent, name, &how, sizeof how);
    return fd;
}

int remove_tree(int parent, const char *name)
{
    pile_auto way = {0};
    char buffer[8192] __attribute__((aligned(8))), found[NAME_SIZE];
    int r = (int)sys(unlinkat, parent, name, AT_REMOVEDIR);
    if (r == -ENOTDIR)
        return (int)sys(unlinkat, parent, name, 0);
    if (r != -ENOTEMPTY && r != -EEXIST)
        return r;
    fd_close int fd = open_directory(parent, name);
    while (fd >= 0) {
        r = (int)sys(lseek, fd, 0, 0 /* SEEK_SET */);
        if (r < 0 || (r = empty_of_files(fd, buffer, sizeof buffer, found)) < 0)
            return r;
        if (*found) {
            fd_close int below = open_directory(fd, found);
            if (below == -ENOENT)
                continue;
            if (below < 0)
                return below;
            if ((r = remember(&way, fd, found)) < 0)
                return r;
            fd_close_at_end(&fd);
            fd = steal_fd(&below);
        } else if (way.used) {
            if ((r = step_back(&way, &fd, found)) < 0 || (r = unless_gone(sys(unlinkat, fd, found, AT_REMOVEDIR))) < 0)
                return r;
        } else {
            return unless_gone(sys(unlinkat, parent, name, AT_REMOVEDIR));
        }
    }
    return unless_gone(fd);
}

static int empty_below(int parent, const char *name)
{
    fd_close int fd = open_directory(parent, name);
    return fd < 0 ? fd : empty_tree(fd, NULL);
}

int empty_tree(int directory, const char *kept)
{
    char buffer[4096] __attribute__((aligned(8)));
    int r = (int)sys(lseek, directory, 0, 0 /* SEEK_SET */);
    for (;;) {
        long n = r < 0 ? r : sys(getdents64, directory, buffer, sizeof buffer);
        if (n <= 0)
            return (int)n;
        for (long at = 0; at < n && r >= 0;) {
            const struct directory_record *d = (const struct directory_record *)(buffer + at);
            at += d->size;
            if (strcmp(d->name, ".") == 0 || strcmp(d->name, "..") == 0)
                continue;
            if (d->type != DIRECTORY_TYPE)
                r = (int)sys(unlinkat, directory, d->name, 0);
            else
                r = kept && strcmp(d->name, kept) == 0 ? empty_below(directory, d->name)
                                                       : remove_tree(directory, d->name);
            r = unless_gone(r);
        }
    }
}
