/* Removes a cgroup with all below it, deepest first, without recursing: a container that was given its own part of the
 * tree makes it as deep as it likes. Part of the helper and of the extension.
 *
 * Files of a cgroup cannot be unlinked and need not be; a directory goes once it has neither children nor processes,
 * and says EBUSY until then. So: remove children until one refuses, go down to that, come up again. One that is empty
 * and refuses still has a process that was killed and has not left yet, which it does a moment after its parent learnt
 * of its end: then wait.
 */
#include "remove_cgroup.h"
#include "sys.h"
#include <linux/stat.h>
#include <linux/time_types.h>
#ifndef AT_EMPTY_PATH
#define AT_EMPTY_PATH 0x1000
#endif
#ifndef AT_REMOVEDIR
#define AT_REMOVEDIR 0x200
#endif

enum { NAME_SIZE = 256 /* NAME_MAX + 1 */, DIRECTORY_TYPE = 4 /* DT_DIR */ };

/* A child that cannot be removed yet; inode 0 = there is none. */
struct busy {
    uint64_t inode;
    char name[NAME_SIZE];
};

static int is_child(const struct directory_record *d)
{
    return d->type == DIRECTORY_TYPE && strcmp(d->name, ".") != 0 && strcmp(d->name, "..") != 0;
}

static int is_busy(long r)
{
    return r == -EBUSY || r == -ENOTEMPTY;
}

/* Removes children until one is busy. */
static int remove_children(int fd, struct busy *ret)
{
    char buffer[4096] __attribute__((aligned(8)));
    ret->inode = 0;
    long n = sys(lseek, fd, 0, 0 /* SEEK_SET */);
    while (n >= 0 && (n = sys(getdents64, fd, buffer, sizeof buffer)) > 0) {
        for (long at = 0; at < n;) {
            const struct directory_record *d = (const struct directory_record *)(buffer + at);
            at += d->size;
            long r = is_child(d) ? sys(unlinkat, fd, d->name, AT_REMOVEDIR) : 0;
            if (is_busy(r)) {
                ret->inode = d->inode;
                memcpy(ret->name, d->name, MINIMUM(strlen(d->name) + 1, sizeof ret->name));
                return 0;
            }
            if (r < 0 && r != -ENOENT)
                return (int)r;
        }
    }
    return (int)n;
}

static int wait_a_little(int *patience)
{
    struct __kernel_timespec pause = {0, 5000000};
    if (--*patience <= 0)
        return -EBUSY;
    sys(nanosleep, &pause, 0);
    return 0;
}

/* The inode of the directory that was left; 0 when there is no way on. */
static uint64_t move_to(int *fd, const char *name)
{
    struct statx here;
    int next = (int)sys(openat, *fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (next < 0 || sys(statx, *fd, "", AT_EMPTY_PATH, STATX_INO, &here) < 0)
        here.stx_ino = 0;
    fd_close_at_end(fd);
    *fd = next;
    return here.stx_ino;
}

static int remove_below(const char *directory, int *patience)
{
    struct busy busy;
    uint64_t left = 0; /* the one that was emptied last */
    fd_close int fd = (int)sys(openat, AT_FDCWD, directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    for (int r = 0, depth = 0; fd >= 0;) {
        r = remove_children(fd, &busy);
        if (r < 0 || (!busy.inode && depth == 0))
            return r;
        if (!busy.inode) {
            left = move_to(&fd, "..");
            depth--;
        } else if (busy.inode == left) {
            r = wait_a_little(patience);
            if (r < 0)
                return r;
        } else {
            move_to(&fd, busy.name);
            depth++;
        }
    }
    return fd;
}

int remove_cgroups_below(const char *directory, int patience)
{
    return remove_below(directory, &patience);
}

int remove_cgroup(const char *directory, int patience)
{
    long r = sys(unlinkat, AT_FDCWD, directory, AT_REMOVEDIR);
    while (is_busy(r)) {
        int below = remove_below(directory, &patience);
        r = below < 0 ? below : sys(unlinkat, AT_FDCWD, directory, AT_REMOVEDIR);
        if (is_busy(r) && wait_a_little(&patience) < 0)
            return -EBUSY;
    }
    return r == -ENOENT ? 0 : (int)r;
}
