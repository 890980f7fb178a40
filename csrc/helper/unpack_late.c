/* What directories get when all else is done, because what is put into them changes it: their mode and time.
 *
 * Invariant: it reaches only the directory that the archive meant, whatever has taken its path since.
 */
#include "unpack.h"

enum { LATE_MOST = 32 << 20 /* bytes, of hundreds of thousands of directories */ };

/* A directory whose mode and time are still to be set, followed by its path with the NUL. */
struct late {
    uint64_t inode;
    int64_t seconds;
    uint32_t nanoseconds, mode, device_major, device_minor, path_size;
};

static int note(struct unpacking *u, int fd, const char *path, struct late late)
{
    struct statx x;
    int r = (int)tar_statx(fd, "", &x);
    if (r < 0)
        return r;
    late.inode = x.stx_ino;
    late.device_major = x.stx_dev_major;
    late.device_minor = x.stx_dev_minor;
    late.path_size = (uint32_t)strlen(path) + 1;
    if (DEFENCE(LATE_SIZE, u->late.used + sizeof late + late.path_size > LATE_MOST, 0))
        return -E2BIG;
    r = pile_add(&u->late, &late, sizeof late);
    return r < 0 ? r : pile_add(&u->late, path, late.path_size);
}

int set_late(struct unpacking *u, int fd)
{
    const struct tar_entry *e = &u->reader.entry;
    struct late late = {.seconds = e->seconds, .nanoseconds = e->nanoseconds, .mode = permissions(u)};
    return note(u, fd, e->path, late);
}

int set_unsaid_late(struct unpacking *u, int fd, const char *path)
{
    return is_layer(u) ? note(u, fd, path, (struct late){.mode = 0755}) : 0;
}

static int settle_directory(struct unpacking *u, const struct late *late, const char *path)
{
    struct statx x;
    const char *name = ".";
    int parent = *path ? parent_of(u, path, false, &name) : u->top;
    fd_close int fd =
        parent < 0 ? parent : (int)sys(openat, parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    /* Something else has taken its place since. */
    if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
        return 0;
    int r = fd < 0 ? fd : (int)tar_statx(fd, "", &x);
    if (r < 0)
        return r;
    if (x.stx_ino != late->inode || x.stx_dev_major != late->device_major || x.stx_dev_minor != late->device_minor)
        return 0;
    if ((r = (int)sys(fchmod, fd, late->mode)) < 0)
        return r;
    return (int)tar_set_time(fd, NULL, late->seconds, late->nanoseconds);
}

/* In the archive's order: of two entries for one directory, the later one counts. */
int settle_directories(struct unpacking *u, const char **ret_subject)
{
    for (size_t at = 0; at < u->late.used;) {
        struct late late;
        memcpy(&late, u->late.data + at, sizeof late);
        const char *path = u->late.data + at + sizeof late;
        *ret_subject = *path ? path : "./";
        int r = settle_directory(u, &late, path);
        if (r < 0)
            return r;
        at += sizeof late + late.path_size;
    }
    *ret_subject = "";
    return 0;
}
