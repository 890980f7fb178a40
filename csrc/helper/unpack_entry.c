/* What an entry becomes: hides the order in which a file gets its content, its owner and its rights.
 *
 * Invariant: nothing that exists is opened for writing. Every file is made anew, with O_EXCL, and what stood in its
 * place is removed first; until it is whole, only its owner may use it.
 */
#include "remove_tree.h"
#include "unpack.h"

enum {
    MAJOR_MOST = (1 << 12) - 1,
    MINOR_MOST = (1 << 20) - 1,
};

/* Makes one attempt at the entry: a descriptor for a file, else 0. */
static int make_once(struct unpacking *u, int parent, const char *name, int link_parent, const char *link_name)
{
    const struct tar_entry *e = &u->reader.entry;
    uint64_t device = (uint64_t)((e->minor & 0xff) | (e->major << 8) | ((e->minor & ~0xffLL) << 12));
    switch (e->type) {
    case TAR_HARD_LINK:
        return (int)sys(linkat, link_parent, link_name, parent, name, 0);
    case TAR_SYMLINK:
        return (int)sys(symlinkat, e->link, parent, name);
    case TAR_CHARACTER:
        return (int)sys(mknodat, parent, name, S_IFCHR | 0600, device);
    case TAR_BLOCK_DEVICE:
        return (int)sys(mknodat, parent, name, S_IFBLK | 0600, device);
    case TAR_FIFO:
        return (int)sys(mknodat, parent, name, S_IFIFO | 0600, 0);
    case TAR_DIRECTORY:
        return (int)sys(mkdirat, parent, name, 0700);
    default:
        return (int)sys(openat, parent, name,
                        O_WRONLY | O_CREAT | O_CLOEXEC | DEFENCE(ARCHIVE_MADE_ANEW, O_EXCL | O_NOFOLLOW, 0), 0600);
    }
}

enum { STAYS = 1 }; /* make_way: what is there is the entry already */

static int make_way(struct unpacking *u, int parent, const char *name, int link_parent, const char *link_name)
{
    struct statx x, target;
    char type = u->reader.entry.type;
    int r = (int)tar_statx(parent, name, &x);
    if (r < 0)
        return r;
    bool directory = (x.stx_mode & S_IFMT) == S_IFDIR;
    if (directory && type == TAR_DIRECTORY)
        return STAYS;
    if (type == TAR_HARD_LINK) {
        if ((r = (int)tar_statx(link_parent, link_name, &target)) < 0)
            return r;
        if (target.stx_ino == x.stx_ino && target.stx_dev_major == x.stx_dev_major &&
            target.stx_dev_minor == x.stx_dev_minor)
            return STAYS;
    }
    if (directory && !is_layer(u) && !(u->flags & PYLXC_UNPACK_REPLACE))
        return -EISDIR;
    /* A whiteout, or anything else that hides what lower layers have here. */
    u->hidden = is_layer(u) && !directory;
    if (directory || (x.stx_mode & S_IFMT) == S_IFLNK)
        forget_parent(u);
    return directory ? remove_tree(parent, name) : (int)sys(unlinkat, parent, name, 0);
}

/* Makes the entry in the place of whatever is there. *ret_stays: it was there already. */
static int make(struct unpacking *u, int parent, const char *name, int link_parent, const char *link_name,
                bool *ret_stays)
{
    *ret_stays = false;
    u->hidden = false;
    int r = make_once(u, parent, name, link_parent, link_name);
    if (r != -EEXIST)
        return r;
    r = make_way(u, parent, name, link_parent, link_name);
    *ret_stays = r == STAYS;
    if (r != 0)
        return r == STAYS ? 0 : r;
    return make_once(u, parent, name, link_parent, link_name);
}

static int write_content(struct unpacking *u, int fd)
{
    for (;;) {
        const char *data;
        size_t n;
        int r = tar_content(&u->reader, UINT64_MAX, &data, &n);
        if (r < 0 || n == 0)
            return r;
        if ((r = write_all(fd, data, n)) < 0)
            return r;
    }
}

/* Leaves the holes out: what lies between two pieces is never written. */
static int write_pieces(struct unpacking *u, int fd)
{
    for (;;) {
        const char *data;
        size_t n;
        uint64_t offset;
        int r = tar_piece_content(&u->reader, &data, &n, &offset);
        if (r < 0)
            return r;
        if (n == 0)
            return (int)sys(ftruncate, fd, u->reader.entry.size);
        long at = sys(lseek, fd, offset, 0 /* SEEK_SET */);
        if (at < 0 || (r = write_all(fd, data, n)) < 0)
            return at < 0 ? (int)at : r;
    }
}

int finish_file(struct unpacking *u, int fd)
{
    const struct tar_entry *e = &u->reader.entry;
    int r;
    /* In this order: a write drops capabilities, a change of owner drops them and the set-user-ID bit. */
    if ((r = set_owner(u, fd, "")) < 0 || (r = set_xattrs(u, fd)) < 0 || (r = (int)sys(fchmod, fd, permissions(u))) < 0)
        return r;
    return (int)tar_set_time(fd, NULL, e->seconds, e->nanoseconds);
}

int unpack_file(struct unpacking *u, int parent, const char *name)
{
    const struct tar_entry *e = &u->reader.entry;
    bool stays;
    fd_close int fd = make(u, parent, name, -1, NULL, &stays);
    if (u->handed && fd >= 0 && e->size) {
        u->open_file = steal_fd(&fd);
        return 0;
    }
    int r = fd < 0 || u->handed ? MINIMUM(fd, 0) : e->sparse ? write_pieces(u, fd) : write_content(u, fd);
    return r < 0 ? r : finish_file(u, fd);
}

/* What is set by name, not through a descriptor. */
int unpack_special(struct unpacking *u, int parent, const char *name)
{
    const struct tar_entry *e = &u->reader.entry;
    bool device = e->type == TAR_CHARACTER || e->type == TAR_BLOCK_DEVICE, stays;
    if (device && u->flags & PYLXC_UNPACK_PLAIN)
        return 0;
    if (e->type == TAR_CHARACTER && e->major == 0 && e->minor == 0)
        return -EPERM;
    if (e->major < 0 || e->major > MAJOR_MOST || e->minor < 0 || e->minor > MINOR_MOST)
        return -EOVERFLOW;
    int r = make(u, parent, name, -1, NULL, &stays);
    /* In a user namespace nobody can make devices. A container's /dev is not made of its image, so it lacks nothing. */
    if (r == -EPERM && device)
        return 0;
    if (r < 0)
        return r;
    if ((r = set_owner(u, parent, name)) < 0 || (r = set_xattrs_at(u, parent, name)) < 0)
        return r;
    if (e->type != TAR_SYMLINK && (r = (int)sys(fchmodat, parent, name, permissions(u))) < 0)
        return r;
    return (int)tar_set_time(parent, name, e->seconds, e->nanoseconds);
}

int unpack_hard_link(struct unpacking *u)
{
    struct tar_entry *e = &u->reader.entry;
    struct statx x;
    const char *name, *target;
    bool stays;
    int parent = parent_of(u, e->link, false, &target);
    if (parent < 0)
        return parent;
    /* The place that parent_of keeps is needed for the link itself. */
    fd_close int link_parent = (int)sys(fcntl, parent, F_DUPFD_CLOEXEC, 3);
    if (link_parent < 0)
        return link_parent;
    if ((parent = parent_of(u, e->path, true, &name)) < 0)
        return parent;
    int r = (int)tar_statx(link_parent, target, &x);
    if (r < 0)
        return r;
    if (is_whiteout(&x))
        return -EPERM;
    return make(u, parent, name, link_parent, target, &stays);
}

int unpack_directory(struct unpacking *u)
{
    const uint64_t keeps_top = PYLXC_UNPACK_KEEP_DIRECTORIES | PYLXC_UNPACK_KEEP_TOP;
    const struct tar_entry *e = &u->reader.entry;
    const char *name = ".";
    bool stays = !u->fresh_top;
    int parent = u->top, r;
    u->hidden = false;
    if (*e->path) {
        if ((parent = parent_of(u, e->path, true, &name)) < 0)
            return parent;
        if ((r = make(u, parent, name, -1, NULL, &stays)) < 0)
            return r;
    }
    if (stays && (u->flags & (*e->path ? (uint64_t)PYLXC_UNPACK_KEEP_DIRECTORIES : keeps_top)))
        return 0;
    fd_close int fd = (int)sys(openat, parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return fd;
    if ((r = set_owner(u, fd, "")) < 0 || (r = set_xattrs(u, fd)) < 0)
        return r;
    if (u->hidden && (r = make_opaque(fd)) < 0)
        return r;
    return set_late(u, fd);
}
