/* What directories get when all else is done: their mode and time, which what is put into them changes, and the rights
 * that they hand down to it, which its own entries know nothing of.
 *
 * Invariant: it reaches only the directory that the archive meant, whatever has taken its path since.
 */
#include "unpack.h"

enum { LATE_MOST = 32 << 20 /* bytes, of hundreds of thousands of directories */ };

/* A directory whose mode and time are still to be set, followed by its path with the NUL, and by its default ACL. */
struct late {
    uint64_t inode;
    int64_t seconds;
    uint32_t nanoseconds, mode, device_major, device_minor, path_size, acl_size;
};

static int note(struct unpacking *u, int fd, const char *path, struct late late, const char *acl)
{
    struct statx x;
    int r = (int)tar_statx(fd, "", &x);
    if (r < 0)
        return r;
    late.inode = x.stx_ino;
    late.device_major = x.stx_dev_major;
    late.device_minor = x.stx_dev_minor;
    late.path_size = (uint32_t)strlen(path) + 1;
    if (DEFENCE(LATE_SIZE, u->late.used + sizeof late + late.path_size + late.acl_size > LATE_MOST, 0))
        return -E2BIG;
    if ((r = pile_add(&u->late, &late, sizeof late)) < 0 || (r = pile_add(&u->late, path, late.path_size)) < 0)
        return r;
    return pile_add(&u->late, acl, late.acl_size);
}

/* The default ACL that the current entry has, if it may have one; its size, 0 for none. */
static size_t default_acl(const struct unpacking *u, const char **ret)
{
    const char *key;
    size_t at = 0, size;
    while (!(u->flags & PYLXC_UNPACK_PLAIN) && tar_next_xattr(&u->reader.entry, &at, &key, ret, &size))
        if (strcmp(key, DEFAULT_ACL_XATTR) == 0)
            return size;
    *ret = "";
    return 0;
}

int set_late(struct unpacking *u, int fd)
{
    const struct tar_entry *e = &u->reader.entry;
    const char *acl;
    struct late late = {.seconds = e->seconds, .nanoseconds = e->nanoseconds, .mode = permissions(u)};
    late.acl_size = (uint32_t)default_acl(u, &acl);
    return note(u, fd, e->path, late, acl);
}

int set_unsaid_late(struct unpacking *u, int fd, const char *path)
{
    return is_layer(u) ? note(u, fd, path, (struct late){.mode = 0755}, "") : 0;
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
    const char *acl = path + late->path_size;
    if (late->acl_size && (r = (int)sys(fsetxattr, fd, DEFAULT_ACL_XATTR, acl, late->acl_size, 0)) < 0)
        return r;
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
        at += sizeof late + late.path_size + late.acl_size;
    }
    *ret_subject = "";
    return 0;
}
