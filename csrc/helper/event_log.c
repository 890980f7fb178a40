/* The event log of a store: the files "events" and, older, "events.1" in its directory. One event a line.
 *
 * Any number of processes append to it, each line with one write, under a lock (flock(2)) on the file. Under the same
 * lock a file that has become too long is renamed, so whoever has got the lock looks whether the file still has its
 * name. A writer that was killed may have left half a line: the next one begins a new line.
 *
 * A container must never wait for its events. So nobody waits long for the lock, which a stopped process may hold:
 * without it the line is written all the same (the kernel appends as a whole), only the rest is left to others. What
 * cannot be written, on a full disk, is lost.
 */
#include "event_log.h"
#include "sys.h"
#include <linux/stat.h>
#include <linux/time_types.h>
#ifndef AT_EMPTY_PATH
#define AT_EMPTY_PATH 0x1000
#endif

enum {
    LINE = 4096,
    LIMIT = 1 << 20, /* bytes of one file, more or less a line */
    NAP = 100000,
    NAPS = 1000, /* ns, and how many: 0.1 s and some */
    ATTEMPTS = 16
};

static int lock(int fd)
{
    enum { EXCLUSIVE = 2, AT_ONCE = 4 };
    const struct __kernel_timespec nap = {.tv_nsec = NAP};
    for (int i = 0;; i++) {
        long r = sys(flock, fd, EXCLUSIVE | AT_ONCE);
        if (r != -EAGAIN || i == NAPS)
            return (int)r;
        sys(nanosleep, &nap, 0);
    }
}

/* Whether a path still leads to an open file, whose size is given back; or a negative errno. */
static int has_name(int fd, const char *path, uint64_t *ret_size)
{
    struct statx file, named;
    long r = sys(statx, fd, "", AT_EMPTY_PATH, STATX_INO | STATX_SIZE, &file);
    if (r < 0)
        return (int)r;
    *ret_size = file.stx_size;
    r = sys(statx, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_INO, &named);
    if (r < 0)
        return r == -ENOENT ? 0 : (int)r;
    return file.stx_ino == named.stx_ino && file.stx_dev_major == named.stx_dev_major &&
           file.stx_dev_minor == named.stx_dev_minor;
}

/* Opens the log for appending; *ret_locked says whether it is locked as well. */
static int open_log(const char *path, int *ret_locked, uint64_t *ret_size)
{
    for (int i = 0; i < ATTEMPTS; i++) {
        fd_close int fd = (int)sys(openat, AT_FDCWD, path, O_CREAT | O_RDWR | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
            return fd;
        *ret_locked = lock(fd) == 0;
        int r = has_name(fd, path, ret_size);
        if (r < 0)
            return r;
        if (r)
            return steal_fd(&fd);
    }
    return -EAGAIN;
}

static int ends_whole(int fd, uint64_t size)
{
    char last = '\n';
    return size == 0 || sys(pread64, fd, &last, 1, size - 1) != 1 || last == '\n';
}

static int rotate(const char *path)
{
    TEXT(older, LINE);
    text_add(&older, path);
    text_add(&older, ".1");
    return older.overflow ? -ENAMETOOLONG : (int)sys(renameat2, AT_FDCWD, path, AT_FDCWD, older.data, 0);
}

int event_log_append(const char *directory, const char *line, size_t length)
{
    TEXT(path, LINE);
    TEXT(written, LINE);
    int locked = 0;
    uint64_t size = 0;
    text_add(&path, directory);
    text_add(&path, "/events");
    text_add(&written, "\n");
    text_bytes(&written, line, length);
    text_add(&written, "\n");
    if (path.overflow || written.overflow)
        return -ENAMETOOLONG;
    fd_close int fd = open_log(path.data, &locked, &size);
    if (fd < 0)
        return fd;
    size_t skipped = ends_whole(fd, size) ? 1 : 0, rest = written.length - skipped;
    long r = sys(write, fd, written.data + skipped, rest);
    if (r < 0)
        return (int)r;
    if ((size_t)r < rest)
        return -ENOSPC;
    return locked && size + rest > LIMIT ? rotate(path.data) : 0;
}
