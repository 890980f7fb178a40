/* A tree that is packed in order to become the layer itself: hides what unpacking its stream would not make.
 *
 * Invariant: what was packed without an error is, owners, modes, attributes and names included, what unpacking the
 * stream makes; nothing outside of the tree is a name of anything in it.
 */
#include "pack.h"

/* Sockets are in no archive. A file that cannot be changed could not be removed with the layer either. */
int check_adopted(const struct statx *x)
{
    uint16_t kind = x->stx_mode & S_IFMT;
    if (kind == S_IFSOCK)
        return -EOPNOTSUPP;
    return x->stx_attributes & (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND | STATX_ATTR_VERITY) ? -EPERM : 0;
}

/* Where a file was copied up from, and that a directory holds such: as a lower layer it would say that of another
 * layer's files. */
int strip_adopted(const char *name, const char *key, bool opaque)
{
    struct statx x;
    if (opaque && strcmp(key, OPAQUE_XATTR) == 0) {
        long looked = tar_statx(AT_FDCWD, name, &x);
        if (looked < 0 || (x.stx_mode & S_IFMT) == S_IFDIR)
            return (int)looked;
    }
    return (int)sys(lremovexattr, name, key);
}
