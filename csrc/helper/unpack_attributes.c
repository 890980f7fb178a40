/* Whom an entry belongs to and what is said of it: hides which attributes an archive may set, and how.
 *
 * Invariant: no attribute by which overlayfs or the host's policy marks its own is ever set from an archive.
 */
#include "unpack.h"

/* Whether an attribute that the kernel refuses may be missing: trusted.* and others belong to the archive's machine,
 * and cannot be had in a user namespace. */
static bool may_be_missing(const char *name)
{
    return !tar_starts_with(name, "user.") && strcmp(name, CAPABILITY_XATTR) != 0 &&
           !tar_starts_with(name, "system.posix_acl_");
}

/* An empty one is set unseen, and cannot be read any more (cap_inode_getsecurity in security/commoncap.c). */
static bool is_no_capability(const char *name, size_t size)
{
    return size == 0 && strcmp(name, CAPABILITY_XATTR) == 0;
}

/* On an open file or directory, or (fd < 0) on `name` in the current directory. */
static int set_each_xattr(const struct unpacking *u, int fd, const char *name)
{
    const struct tar_entry *e = &u->reader.entry;
    const char *key, *value;
    size_t at = 0, size;
    while (tar_next_xattr(e, &at, &key, &value, &size)) {
        if (DEFENCE(OVERLAY_ATTRIBUTES, tar_overlay_attribute(key), 0))
            return -EPERM;
        if (is_no_capability(key, size))
            return -EINVAL;
        if (tar_host_attribute(key) || (u->flags & PYLXC_UNPACK_PLAIN && !tar_starts_with(key, "user.")))
            continue;
        if (e->type == TAR_DIRECTORY && strcmp(key, DEFAULT_ACL_XATTR) == 0)
            continue; /* late */
        long r = fd >= 0 ? sys(fsetxattr, fd, key, value, size, 0) : sys(lsetxattr, name, key, value, size, 0);
        if (r < 0 && !((r == -EPERM || r == -EOPNOTSUPP) && may_be_missing(key)))
            return (int)r;
    }
    return 0;
}

int set_xattrs(const struct unpacking *u, int fd)
{
    return set_each_xattr(u, fd, NULL);
}

/* Attributes of what cannot be opened. There is no lsetxattr relative to a directory before Linux 6.13, and no
 * /proc here: the current directory has to serve. */
int set_xattrs_at(const struct unpacking *u, int parent, const char *name)
{
    if (!u->reader.entry.xattrs.used)
        return 0;
    fd_close int before = (int)sys(openat, AT_FDCWD, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int r = (int)sys(fchdir, parent);
    if (before < 0 || r < 0)
        return before < 0 ? before : r;
    r = set_each_xattr(u, -1, name);
    sys(fchdir, before);
    return r;
}

/* Gives an open file, or `name` in a directory, to whom it shall belong. */
int set_owner(const struct unpacking *u, int fd, const char *name)
{
    bool root = u->flags & PYLXC_UNPACK_OWNER_ROOT;
    uint32_t uid = root ? 0 : (uint32_t)u->reader.entry.uid, gid = root ? 0 : (uint32_t)u->reader.entry.gid;
    if (u->flags & PYLXC_UNPACK_OWNER_SELF)
        return 0;
    return (int)sys(fchownat, fd, name, uid, gid, AT_SYMLINK_NOFOLLOW | (*name ? 0 : AT_EMPTY_PATH));
}

/* On a directory the sticky bit takes rights away, and a set-group-ID bit gives away what is made in it. */
uint32_t permissions(const struct unpacking *u)
{
    return u->reader.entry.mode & (u->flags & PYLXC_UNPACK_PLAIN ? 01777 : 07777);
}
