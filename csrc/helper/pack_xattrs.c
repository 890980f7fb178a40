/* The extended attributes of an entry: hides which of them belong to the content, and how a keyword names one.
 *
 * Invariant: they come in the order of their names; what overlayfs and the host's policy set is left out, and what
 * overlayfs set is taken off a tree that is to be the layer itself. A further name of a file has its capabilities
 * alone: docker gives each entry its owner, which takes them off the file.
 */
#include "pack.h"

/* Reads the names of the attributes of `name` in the current directory into packing.xattrs, sorted; *ret_opaque says
 * whether overlayfs hides what lower layers have in the directory. */
static int list_xattrs(struct packing *p, const char *name, size_t *ret_count, bool *ret_opaque)
{
    *ret_count = 0;
    *ret_opaque = false;
    p->xattrs.used = 0;
    long n = sys(llistxattr, name, p->keys, XATTR_MOST);
    if (n < 0)
        return n == -EOPNOTSUPP ? 0 : n == -ERANGE ? -E2BIG : (int)n;
    for (long at = 0; at < n; at += (long)strlen(p->keys + at) + 1) {
        char value;
        if (strcmp(p->keys + at, OPAQUE_XATTR) == 0 && sys(lgetxattr, name, OPAQUE_XATTR, &value, 1) == 1)
            *ret_opaque = value == 'y';
        if (p->adopts && tar_overlay_attribute(p->keys + at)) {
            int r = strip_adopted(name, p->keys + at, *ret_opaque);
            if (r < 0)
                return r;
        }
        if (tar_overlay_attribute(p->keys + at) || tar_host_attribute(p->keys + at))
            continue;
        size_t offset = (size_t)at;
        int r = pile_add(&p->xattrs, &offset, sizeof offset);
        if (r < 0)
            return r;
        ++*ret_count;
    }
    if (*ret_count)
        sort_names((size_t *)(void *)p->xattrs.data, p->keys, *ret_count);
    return 0;
}

/* "=" and "%" as GNU tar writes them: a record's keyword ends at its first "=". */
static void encode_keyword(struct text *to, const char *name)
{
    for (; *name; name++) {
        if (*name == '=' || *name == '%')
            text_add(to, *name == '=' ? "%3D" : "%25");
        else
            text_bytes(to, name, 1);
    }
}

int add_xattrs(struct packing *p, const char *name, bool *ret_opaque)
{
    size_t count;
    int r = list_xattrs(p, name, &count, ret_opaque);
    for (size_t i = 0; r == 0 && i < count; i++) {
        const char *key = p->keys + ((size_t *)(void *)p->xattrs.data)[i];
        long size = sys(lgetxattr, name, key, p->values, XATTR_MOST);
        if (size < 0)
            return size == -ENODATA ? -EBUSY : size == -ERANGE ? -E2BIG : (int)size;
        TEXT(encoded, 3 * TAR_NAME_SIZE);
        encode_keyword(&encoded, key);
        r = add_record(&p->out, TAR_XATTR, encoded.data, p->values, (size_t)size);
    }
    return r;
}

int add_capability(struct packing *p, const char *name)
{
    long size = sys(lgetxattr, name, CAPABILITY_XATTR, p->values, XATTR_MOST);
    if (size < 0)
        return size == -ENODATA || size == -EOPNOTSUPP ? 0 : (int)size;
    return add_record(&p->out, TAR_XATTR, CAPABILITY_XATTR, p->values, (size_t)size);
}
