/* Operations that make the root file system: the place where it is put together, its layers, the way into it.
 *
 * Mounts are made detached, given their flags, and attached last, so that none is ever visible half-made.
 */
#include "root.h"
#include "helper.h"
#include "userns.h"
#include <linux/mount.h>
#include <linux/stat.h>

/* Whether a target is the root itself, which a link such as "/dev -> /" makes of it: a mount over the root would hide
 * all that comes after. */
int is_root(struct launch *l, int target)
{
    struct statx st;
    if (!l->root_inode && sys(statx, l->root_fd, "", AT_EMPTY_PATH, STATX_INO | STATX_MNT_ID, &st) >= 0) {
        l->root_inode = st.stx_ino;
        l->root_mount = st.stx_mnt_id;
    }
    if (sys(statx, target, "", AT_EMPTY_PATH, STATX_INO | STATX_MNT_ID, &st) < 0)
        return 1;
    return st.stx_ino == l->root_inode && st.stx_mnt_id == l->root_mount;
}

/* Attaches a detached mount to an opened target. */
int attach(struct launch *l, int mount, int target)
{
    if (is_root(l, target))
        return -ELOOP;
    return (int)sys(move_mount, mount, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

/* fsconfig for each "key=value" or "flag" of a comma-separated list. */
static int configure(int fs, const char *options)
{
    while (*options) {
        const char *end = strchr(options, ',');
        size_t n = end ? (size_t)(end - options) : strlen(options);
        TEXT(key, 4096);
        text_bytes(&key, options, n);
        if (key.overflow)
            return -E2BIG;
        char *value = strchr(key.data, '=');
        long r;
        if (value) {
            *value++ = 0;
            r = sys(fsconfig, fs, FSCONFIG_SET_STRING, key.data, value, 0);
        } else
            r = n ? sys(fsconfig, fs, FSCONFIG_SET_FLAG, key.data, 0, 0) : 0;
        if (r < 0)
            return (int)r;
        options += n + (end != NULL);
    }
    return 0;
}

static int finish_filesystem(int fs, uint64_t attributes)
{
    long r = sys(fsconfig, fs, FSCONFIG_CMD_CREATE, 0, 0, 0);
    return (int)(r < 0 ? r : sys(fsmount, fs, FSMOUNT_CLOEXEC, attributes));
}

/* A new file system of a type, detached: the descriptor of its mount. */
int new_filesystem(const char *type, const char *options, uint64_t attributes)
{
    fd_close int fs = (int)sys(fsopen, type, FSOPEN_CLOEXEC);
    if (fs < 0)
        return fs;
    sys(fsconfig, fs, FSCONFIG_SET_STRING, "source", type, 0); /* what df and mount show; some types know no source */
    int r = configure(fs, options);
    return r < 0 ? r : finish_filesystem(fs, attributes);
}

int set_attributes(int mount, uint64_t attributes, int recursive)
{
    struct mount_attr attr = {.attr_set = attributes};
    if (!attributes)
        return 0;
    return (int)sys(mount_setattr, mount, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attr, sizeof attr);
}

/* Makes `mount`, a detached one, the new root: attaches it at a directory of the host, in this namespace only. */
static int become_root(struct launch *l, int mount, const char *mount_point)
{
    long r = sys(move_mount, mount, "", AT_FDCWD, mount_point, MOVE_MOUNT_F_EMPTY_PATH);
    if (r < 0)
        return (int)r;
    l->root_fd = (int)sys(fcntl, mount, F_DUPFD_CLOEXEC, 3);
    return l->root_fd < 0 ? l->root_fd : 0;
}

/* fsconfig(2) takes strings of at most 255 bytes (fs/fsopen.c), and a store may lie deep. */
enum { FSCONFIG_STRING_SIZE = 256 };

/* A path by a descriptor, which is short however long it is. It stays open until the exec. */
static int add_path_by_descriptor(struct text *to, const char *path)
{
    int fd = (int)sys(openat, AT_FDCWD, path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd < 0)
        return fd;
    text_add(to, "/proc/self/fd/");
    text_number(to, fd);
    return to->overflow ? -E2BIG : 0;
}

static int set_path(int fs, const char *key, const char *path)
{
    TEXT(brief, 64);
    if (strlen(path) >= FSCONFIG_STRING_SIZE) {
        int r = add_path_by_descriptor(&brief, path);
        if (r < 0)
            return r;
        path = brief.data;
    }
    return (int)sys(fsconfig, fs, FSCONFIG_SET_STRING, key, path, 0);
}

/* A new directory on the MEMORY file system; *to becomes its path. */
int directory_in_memory(struct launch *l, struct text *to)
{
    TEXT(name, 32);
    text_number(&name, l->memory_names++);
    text_add(to, name.data);
    return to->overflow ? -ENAMETOOLONG : (int)sys(mkdirat, l->memory_fd, name.data, 0755);
}

/* The writable side: given directories, new ones in memory, or none (both stay empty). */
static int writable_side(struct launch *l, const struct pylxc_op *op, struct text *upper, struct text *work)
{
    if (op->flags & PYLXC_OVERLAY_IN_MEMORY) {
        int r = directory_in_memory(l, upper);
        return r < 0 ? r : directory_in_memory(l, work);
    }
    text_add(upper, op_string(op, 1));
    text_add(work, op_string(op, 2));
    return upper->overflow || work->overflow ? -ENAMETOOLONG : 0;
}

static int is_volatile(const struct pylxc_op *op)
{
    return *op_string(op, 1) && op->flags & PYLXC_OVERLAY_VOLATILE;
}

/* A layer's path, string `i` of the operation: the store's are below the working directory, any other directory of the
 * host's is attached there. It is given as well, for to look the last of hundreds of layers up is to walk over all. */
static int lower_path(struct launch *l, const struct pylxc_op *op, unsigned i, const char *layer, struct text *to)
{
    if (*layer != '/') {
        text_add(to, layer);
        return to->overflow ? -ENAMETOOLONG : 0;
    }
    fd_close int tree = source_tree(l, op, (int)i);
    if (tree < 0)
        return tree;
    int r = directory_in_memory(l, to);
    return (int)(r < 0 ? r : sys(move_mount, tree, "", AT_FDCWD, to->data, MOVE_MOUNT_F_EMPTY_PATH));
}

static int overlay(struct launch *l, const struct pylxc_op *op, const char *upper, const char *work)
{
    fd_close int fs = (int)sys(fsopen, "overlay", FSOPEN_CLOEXEC);
    if (fs < 0)
        return fs;
    sys(fsconfig, fs, FSCONFIG_SET_STRING, "source", "overlay", 0);
    long r = 0;
    const char *layer = op_string(op, 3);
    for (unsigned i = 3; i < op->strings && r >= 0; i++, layer += strlen(layer) + 1) {
        TEXT(lower, 4096);
        r = lower_path(l, op, i, layer, &lower);
        if (r >= 0)
            r = set_path(fs, "lowerdir+", lower.data);
    }
    /* userxattr: the one layer format that needs no privilege; it also keeps redirect_dir and metacopy off. */
    if (r >= 0)
        r = sys(fsconfig, fs, FSCONFIG_SET_FLAG, "userxattr", 0, 0);
    if (r >= 0 && *upper)
        r = set_path(fs, "upperdir", upper);
    if (r >= 0 && *upper)
        r = set_path(fs, "workdir", work);
    if (r >= 0 && is_volatile(op))
        r = sys(fsconfig, fs, FSCONFIG_SET_FLAG, "volatile", 0, 0);
    /* Without an index the kernel only warns of an upper directory that is in use (overlayfs.rst, "Sharing and copying
     * layers"). */
    if (r >= 0 && op->flags & PYLXC_OVERLAY_ALONE)
        r = sys(fsconfig, fs, FSCONFIG_SET_STRING, "index", "on", 0);
    if (r < 0)
        return (int)r;
    fd_close int mount = finish_filesystem(fs, MOUNT_ATTR_NODEV | (*upper ? 0 : MOUNT_ATTR_RDONLY));
    if (mount < 0)
        return mount;
    if (op->flags & PYLXC_OVERLAY_ASIDE)
        return (int)sys(move_mount, mount, "", AT_FDCWD, op_string(op, 0), MOVE_MOUNT_F_EMPTY_PATH);
    if (!(op->flags & PYLXC_OVERLAY_INSIDE))
        return become_root(l, mount, op_string(op, 0));
    fd_close int target = make_directory_in_root(l, op_string(op, 0));
    return target < 0 ? target : attach(l, mount, target);
}

/* The options of mount(2), a page of them. Descriptors keep the layers' paths short, and free of ':' and ','. */
static int joined_options(struct launch *l, struct text *to, const struct pylxc_op *op, const char *upper,
                          const char *work)
{
    int r = 0;
    text_add(to, "userxattr");
    text_add(to, is_volatile(op) ? ",volatile" : "");
    text_add(to, op->flags & PYLXC_OVERLAY_ALONE ? ",index=on" : "");
    const char *layer = op_string(op, 3);
    for (unsigned i = 3; i < op->strings && r >= 0; i++, layer += strlen(layer) + 1) {
        text_add(to, i > 3 ? ":" : ",lowerdir=");
        TEXT(lower, 4096);
        r = lower_path(l, op, i, layer, &lower);
        if (r >= 0)
            r = add_path_by_descriptor(to, lower.data);
    }
    if (r < 0 || !*upper)
        return r;
    text_add(to, ",upperdir=");
    r = add_path_by_descriptor(to, upper);
    text_add(to, ",workdir=");
    return r < 0 ? r : add_path_by_descriptor(to, work);
}

/* Linux < 6.5 has no lowerdir+, and joined in one string the layers would be too long for fsconfig(2): mount(2) it is.
 */
static int overlay_joined(struct launch *l, const struct pylxc_op *op, const char *upper, const char *work)
{
    enum { MS_RDONLY_ = 1, MS_NODEV_ = 4 };
    int inside = (op->flags & PYLXC_OVERLAY_INSIDE) != 0;
    TEXT(options, 4096);
    TEXT(inner, 64);
    int r = joined_options(l, &options, op, upper, work);
    if (r < 0)
        return r;
    fd_close int target = inside ? make_directory_in_root(l, op_string(op, 0)) : -1;
    if (inside && target < 0)
        return target;
    if (inside && is_root(l, target))
        return -ELOOP;
    text_add(&inner, "/proc/self/fd/");
    text_number(&inner, target);
    const char *at = inside ? inner.data : op_string(op, 0);
    r = (int)sys(mount, "overlay", at, "overlay", MS_NODEV_ | (*upper ? 0 : MS_RDONLY_), options.data);
    if (r < 0 || inside || op->flags & PYLXC_OVERLAY_ASIDE)
        return r;
    l->root_fd = (int)sys(openat, AT_FDCWD, at, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    return l->root_fd < 0 ? l->root_fd : 0;
}

int op_overlay(struct launch *l, const struct pylxc_op *op)
{
    TEXT(upper, 4096);
    TEXT(work, 4096);
    int r = writable_side(l, op, &upper, &work);
    if (r >= 0 && op->flags & PYLXC_OVERLAY_ASIDE)
        r = (int)sys(mkdirat, l->memory_fd, op_string(op, 0), 0755);
    if (r < 0)
        return r;
    r = op->flags & PYLXC_OVERLAY_JOINED ? overlay_joined(l, op, upper.data, work.data)
                                         : overlay(l, op, upper.data, work.data);
    /* The kernel looks who else has the upper directory before it finds that it was made over other layers than these
     * (fs/overlayfs/super.c: ovl_get_upper, then ovl_get_indexdir). */
    return r == -ESTALE && op->flags & PYLXC_OVERLAY_ALONE ? 0 : r;
}

int op_bind_root(struct launch *l, const struct pylxc_op *op)
{
    fd_close int tree = source_tree(l, op, 1);
    return tree < 0 ? tree : become_root(l, tree, op_string(op, 0));
}

/* The place where the root is put together: a tmpfs on top of "/", of this mount namespace only. It holds the store's
 * tree, the root, and the source of FILE and MASK mounts, which must be attached: copies of detached mounts can be made
 * only since Linux 6.15. "/" is a directory to which everybody may go; and paths from it still begin below, for a
 * lookup does not cross what is mounted on its own start. It becomes the working directory: paths of the store are
 * short. */
int op_memory(struct launch *l, const struct pylxc_op *op)
{
    fd_close int store = source_tree(l, op, 0);
    if (store < 0)
        return store;
    fd_close int mount = new_filesystem("tmpfs", "mode=0755", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    if (mount < 0)
        return mount;
    long r = sys(move_mount, mount, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH);
    if (r >= 0)
        r = sys(fchdir, mount);
    static const char *const names[] = {"empty", "store", "root"};
    for (unsigned i = 0; r >= 0 && i < LENGTH(names); i++)
        r = sys(mkdirat, mount, names[i], 0755);
    if (r >= 0)
        r = sys(move_mount, store, "", mount, "store", MOVE_MOUNT_F_EMPTY_PATH);
    if (r >= 0)
        l->memory_fd = steal_fd(&mount);
    return (int)(r < 0 ? r : 0);
}

int op_root_read_only(struct launch *l, const struct pylxc_op *op)
{
    (void)op;
    return set_attributes(l->root_fd, MOUNT_ATTR_RDONLY, 0);
}

/* How many mounts lie on the old root, itself included: the place where the root was put together is one of them,
 * unless it can be moved deeper into it. Each costs a wait for all processors when it is detached. */
static int stacked_mounts(const struct launch *l)
{
    if (l->memory_fd < 0)
        return 1;
    return sys(move_mount, l->memory_fd, "", AT_FDCWD, "/proc", MOVE_MOUNT_F_EMPTY_PATH) < 0 ? 2 : 1;
}

/* pivot_root(".", "."): the old root ends up mounted over the new one and is detached at once; no directory for it is
 * needed inside the container (pivot_root(2), NOTES). That nothing of the host is left above the new root is looked at,
 * not believed. */
int op_pivot(struct launch *l, const struct pylxc_op *op)
{
    (void)op;
    if (DEFENCE(PIVOT, 0, 1))
        return 0;
    int stacked = stacked_mounts(l);
    long r = sys(fchdir, l->root_fd);
    if (r >= 0)
        r = sys(pivot_root, ".", ".");
    for (; r >= 0 && stacked; stacked--)
        r = sys(umount2, ".", 2 /* MNT_DETACH */);
    if (r >= 0)
        r = sys(chdir, "/");
    if (r < 0)
        return (int)r;
    fd_close int above = (int)sys(openat, AT_FDCWD, "..", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    return above < 0 ? above : is_root(l, above) ? 0 : -EXDEV;
}
