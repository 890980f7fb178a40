/* What a layer says of the layers below it: hides how archives spell that, and how overlayfs does.
 *
 * On disk a whiteout is a character device 0:0, and a directory that hides what is below it has OPAQUE_XATTR
 * (Documentation/filesystems/overlayfs.rst). Invariant: a mark and what the layer has itself can come in either order,
 * and give the same tree.
 */
#include "unpack.h"

int make_opaque(int fd)
{
    return (int)sys(fsetxattr, fd, OPAQUE_XATTR, "y", 1, 0);
}

/* ".wh.name" says that lower layers' `name` is gone, ".wh..wh..opq" that all they have in this directory is. Neither
 * says anything about this layer's own entries, before or after it (OCI image specification, "Whiteouts"). */
int unpack_whiteout(int parent, const char *name)
{
    const char *hidden = name + strlen(WHITEOUT);
    fd_close int fd = -1;
    if (strcmp(name, OPAQUE_MARK) == 0) {
        fd = (int)sys(openat, parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? fd : make_opaque(fd);
    }
    if (strcmp(hidden, "") == 0 || strcmp(hidden, ".") == 0 || strcmp(hidden, "..") == 0)
        return -EINVAL;
    int r = (int)sys(mknodat, parent, hidden, S_IFCHR, 0);
    if (r != -EEXIST)
        return r;
    /* The layer has the name itself. If it is a directory, it must not be merged with the one that was hidden. */
    fd = (int)sys(openat, parent, hidden, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd == -ENOTDIR || fd == -ELOOP)
        return 0;
    return fd < 0 ? fd : make_opaque(fd);
}

/* Whether the path's last component is a whiteout. Below a ".wh." name there can be nothing, except what aufs left for
 * itself (".wh..wh.plnk" and the like), which is passed over. */
int read_mark(const char *path, enum unpack_mark *ret)
{
    *ret = NOT_A_MARK;
    for (const char *at = path; at; at = strchr(at, '/') ? strchr(at, '/') + 1 : NULL) {
        bool last = !strchr(at, '/');
        if (!tar_starts_with(at, WHITEOUT))
            continue;
        if (tar_starts_with(at, WHITEOUT_META) && strcmp(at, OPAQUE_MARK) != 0) {
            *ret = NO_ENTRY;
            return 0;
        }
        if (!last)
            return -EINVAL;
        *ret = A_MARK;
    }
    return 0;
}
