/* Where an entry goes: hides how a path of an archive becomes an open directory, and is made where it is missing.
 *
 * Invariant: no directory above the destination is ever opened. A name never contains ".."; symlinks on its way are
 * followed, and the root of the process (for a layer: the destination) is where they end; or none is followed, where
 * the destination is not all there is (PYLXC_UNPACK_BENEATH).
 */
#include "unpack.h"
#include <linux/openat2.h>

int open_below(const struct unpacking *u, const char *path, uint64_t more)
{
    struct open_how how = {
        .flags = O_PATH | O_DIRECTORY | O_CLOEXEC | more,
        .resolve = RESOLVE_NO_MAGICLINKS | (is_layer(u) ? DEFENCE(ARCHIVE_RESOLVE, RESOLVE_IN_ROOT, 0) : 0),
    };
    if (u->flags & PYLXC_UNPACK_BENEATH)
        how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
    long r;
    do
        r = sys(openat2, u->top, *path ? path : ".", &how, sizeof how);
    while (r == -EAGAIN); /* a rename somewhere on the machine while ".." in a symlink was resolved */
    return (int)r;
}

/* Makes the directory `name`, missing on the way to an entry, or in a layer hidden by a whiteout so far. */
static int make_parent(struct unpacking *u, int parent, const char *name, const char *path)
{
    struct statx x;
    bool hidden = false;
    int r = unpack_count(u);
    if (r < 0)
        return r;
    if (is_layer(u) && tar_statx(parent, name, &x) == 0 && is_whiteout(&x)) {
        hidden = true;
        if ((r = (int)sys(unlinkat, parent, name, 0)) < 0)
            return r;
    }
    if ((r = (int)sys(mkdirat, parent, name, 0755)) < 0)
        return r;
    /* The kernel hands down a set-group-ID bit, and with it the group. */
    if (!(u->flags & PYLXC_UNPACK_OWNER_SELF) && (r = (int)sys(fchownat, parent, name, 0, 0, AT_SYMLINK_NOFOLLOW)) < 0)
        return r;
    if ((r = (int)sys(fchmodat, parent, name, 0755)) < 0)
        return r;
    fd_close int made = (int)sys(openat, parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (made < 0)
        return made;
    if ((hidden && (r = make_opaque(made)) < 0) || (r = set_unsaid_late(u, made, path)) < 0)
        return r;
    return steal_fd(&made);
}

/* Opens the deepest directory that exists on the way to `path`; *ret_at is what is left to be made. */
static int open_deepest(struct unpacking *u, char *path, char **ret_at)
{
    char *cut = path + strlen(path);
    for (;;) {
        while (cut > path && *cut != '/')
            cut--;
        if (cut == path)
            break;
        *cut = 0;
        int fd = open_below(u, path, 0);
        *cut = '/';
        if (fd != -ENOENT && !(fd == -ENOTDIR && is_layer(u))) {
            *ret_at = cut + 1;
            return fd;
        }
        cut--;
    }
    *ret_at = path;
    return open_below(u, "", 0);
}

static int make_parents(struct unpacking *u, char *path)
{
    char *at;
    fd_close int fd = open_deepest(u, path, &at);
    while (fd >= 0 && at) {
        char *slash = strchr(at, '/');
        if (slash)
            *slash = 0;
        int next = make_parent(u, fd, at, path);
        fd_close_at_end(&fd);
        fd = next;
        if (slash)
            *slash = '/';
        at = slash ? slash + 1 : NULL;
    }
    /* Only a symlink to nowhere is missing and cannot be made: what it would lead to is not known to be wanted. */
    if (fd == -EEXIST)
        return -ENOTDIR;
    return steal_fd(&fd);
}

/* Archives list a directory's entries together, so most calls end at the one that is open. */
int parent_of(struct unpacking *u, const char *path, bool make, const char **ret_name)
{
    const char *name = path;
    for (const char *p = path; *p; p++)
        if (*p == '/')
            name = p + 1;
    *ret_name = name;
    size_t n = name == path ? 0 : (size_t)(name - path) - 1;
    if (u->parent_known && strncmp(u->parent, path, n) == 0 && u->parent[n] == 0)
        return u->parent_fd;
    forget_parent(u);
    memcpy(u->parent, path, n);
    u->parent[n] = 0;
    fd_close_at_end(&u->parent_fd);
    u->parent_fd = open_below(u, u->parent, 0);
    if (make && (u->parent_fd == -ENOENT || (u->parent_fd == -ENOTDIR && is_layer(u))))
        u->parent_fd = make_parents(u, u->parent);
    u->parent_known = u->parent_fd >= 0;
    return u->parent_fd;
}
