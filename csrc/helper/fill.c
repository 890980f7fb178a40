/* Operations that fill the root: file systems, binds, devices, files, masks, and what is set in it last.
 *
 * Every target is a descriptor found in the root (paths.c), every mount is made detached and attached to it, so a
 * target never lies outside whatever the container exchanges meanwhile.
 */
#include "helper.h"
#include "root.h"
#include "userns.h"
#include <linux/magic.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/stat.h>
#ifdef PYLXC_HOSTED
#include <sys/stat.h>
#endif
#include <asm/statfs.h>

/* Mounting over procfs would let a container choose what the runtime and security checks read there (CVE-2019-19921,
 * CVE-2025-52881): only the runtime's own masks may. */
static int refuse_procfs(int target)
{
    struct statfs st;
    long r = sys(fstatfs, target, &st);
    return r < 0 ? (int)r : st.f_type == PROC_SUPER_MAGIC ? -EPERM : 0;
}

int op_mount(struct launch *l, const struct pylxc_op *op)
{
    const char *path = op_string(op, 1);
    fd_close int target = op->a & PYLXC_MAKE_DIRECTORY ? make_target_directory(l, path, op->a)
                                                       : open_in_root(l, path, O_PATH | O_DIRECTORY);
    if (target < 0)
        return target;
    int r = DEFENCE(PROC_MOUNT, refuse_procfs(target), 0);
    if (r < 0)
        return r;
    fd_close int mount = new_filesystem(op_string(op, 0), op_string(op, 2), op->flags);
    return mount < 0 ? mount : attach(l, mount, target);
}

/* What lies at a path of a tree that somebody else filled, as a mount: the tree is the path's whole world. */
static int part_of_tree(struct launch *l, const struct pylxc_op *op)
{
    const uint64_t resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
    struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = DEFENCE(RESOLVE, resolve, 0)};
    fd_close int top = (int)sys(openat, l->memory_fd, op_string(op, 2), O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    fd_close int part = top < 0 ? top : (int)sys(openat2, top, op_string(op, 0), &how, sizeof how);
    fd_close int tree = part < 0 ? part : (int)sys(open_tree, part, "", DETACHED_COPY | AT_EMPTY_PATH);
    int r = tree < 0 ? tree : set_attributes(tree, op->flags, 0);
    return r < 0 ? r : steal_fd(&tree);
}

int op_bind(struct launch *l, const struct pylxc_op *op)
{
    enum { WITHIN = 3 };
    fd_close int tree = op->strings >= WITHIN ? part_of_tree(l, op) : source_tree(l, op, 0);
    if (tree == -ENOENT && op->a & PYLXC_BIND_OPTIONAL)
        return 0;
    if (tree < 0)
        return tree;
    const char *path = op_string(op, 1);
    fd_close int target = !(op->a & PYLXC_MAKE_LIKE_SOURCE) ? open_in_root(l, path, O_PATH)
                          : is_directory(tree)              ? make_target_directory(l, path, op->a)
                                                            : make_file_in_root(l, path);
    if (target < 0)
        return target;
    int r = DEFENCE(PROC_MOUNT, refuse_procfs(target), 0);
    return r < 0 ? r : attach(l, tree, target);
}

int bind_over_file(struct launch *l, int fd, const char *directory, const char *name)
{
    fd_close int parent = open_in_root_without_links(l, directory, O_PATH | O_DIRECTORY);
    if (parent < 0)
        return parent;
    fd_close int made = (int)sys(openat, parent, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, 0600);
    if (made < 0 && made != -EEXIST)
        return made;
    struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    fd_close int target = (int)sys(openat2, parent, name, &how, sizeof how);
    int r = target < 0 ? target : refuse_procfs(target);
    fd_close int mount = r < 0 ? r : (int)sys(open_tree, fd, "", DETACHED_COPY | AT_EMPTY_PATH);
    return mount < 0 ? mount : attach(l, mount, target);
}

int op_symlink(struct launch *l, const struct pylxc_op *op)
{
    const char *last;
    fd_close int parent = open_parent(l, op_string(op, 0), &last);
    return parent < 0 ? parent : (int)sys(symlinkat, op_string(op, 1), parent, last);
}

int op_directory(struct launch *l, const struct pylxc_op *op)
{
    const char *path = op_string(op, 0);
    int fd = open_in_root(l, path, O_PATH | O_DIRECTORY);
    if (fd != -ENOENT) {
        if (fd >= 0)
            sys(close, fd);
        return fd < 0 ? fd : 0;
    }
    fd_close int made = make_directory_in_root(l, path);
    if (made < 0)
        return made;
    long r = sys(fchownat, made, "", op->a, op->b, AT_EMPTY_PATH);
    fd_close int readable = (int)(r < 0 ? r : sys(openat, made, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0));
    return readable < 0 ? readable : (int)sys(fchmod, readable, op->flags);
}

int op_file(struct launch *l, const struct pylxc_op *op)
{
    const char *content = op_string(op, 1);
    const char *last = op->strings > 1 ? op_string(op, op->strings - 1u) : content;
    size_t size = (size_t)(last - content) + strlen(last); /* with the NULs between its strings */
    TEXT(name, 32);
    text_number(&name, l->memory_names++);
    fd_close int target = make_file_in_root(l, op_string(op, 0));
    if (target < 0)
        return target;
    fd_close int file =
        (int)sys(openat, l->memory_fd, name.data, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, op->flags & 07777);
    long r = file < 0 ? file : write_all(file, content, size);
    if (r >= 0 && (op->a || op->b))
        r = sys(fchownat, file, "", op->a, op->b, AT_EMPTY_PATH);
    if (r < 0)
        return (int)r;
    fd_close int tree = (int)sys(open_tree, l->memory_fd, name.data, DETACHED_COPY);
    r = tree < 0 ? tree : set_attributes(tree, op->flags >> PYLXC_FILE_ATTRIBUTES, 0);
    return r < 0 ? (int)r : attach(l, tree, target);
}

/* A device node of the host, as a mount. That it really is the device meant is checked, not believed
 * (CVE-2025-31133). */
static int host_device(const char *path, uint32_t major, uint32_t minor)
{
    struct statx st;
    fd_close int tree = (int)sys(open_tree, AT_FDCWD, path, DETACHED_COPY);
    if (tree < 0)
        return tree;
    long r = sys(statx, tree, "", AT_EMPTY_PATH, STATX_TYPE, &st);
    if (r < 0)
        return (int)r;
    uint32_t kind = st.stx_mode & S_IFMT;
    int other = (kind != S_IFCHR && kind != S_IFBLK) || st.stx_rdev_major != major || st.stx_rdev_minor != minor;
    if (DEFENCE(DEVICE, other, 0))
        return -ENODEV;
    return steal_fd(&tree);
}

/* The node that the monitor made for this container: it comes as a file system, for copies of detached mounts can be
 * made only since Linux 6.15. */
static int copied_device(struct launch *l, const struct pylxc_op *op)
{
    fd_close int tree = source_tree(l, op, 0);
    if (tree < 0)
        return tree;
    TEXT(path, 64);
    int r = directory_in_memory(l, &path);
    if (r >= 0)
        r = (int)sys(move_mount, tree, "", AT_FDCWD, path.data, MOVE_MOUNT_F_EMPTY_PATH);
    text_add(&path, "/node");
    return r < 0 ? r : (int)sys(open_tree, AT_FDCWD, path.data, DETACHED_COPY);
}

/* Nodes are mounted, not made: the container's own file systems are all nodev, so a node that its root makes opens
 * nothing; and in a user namespace mknod(2) is not to be had. */
int op_device(struct launch *l, const struct pylxc_op *op)
{
    int copied = op->flags & PYLXC_DEVICE_COPY && userns_maps_trees(l->plan);
    fd_close int node = copied ? copied_device(l, op) : host_device(op_string(op, 0), (uint32_t)op->a, (uint32_t)op->b);
    if (node < 0)
        return node;
    fd_close int target = make_file_in_root(l, op_string(op, 1));
    if (target < 0)
        return target;
    /* The inode is the host's: on a read-only mount its mode, owner and times cannot be changed, and the device itself
     * is as writable as ever. */
    int r = set_attributes(node, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSUID, 0);
    return r < 0 ? r : attach(l, node, target);
}

/* What a masked path is hidden under: nothing, of the same kind. */
static int cover_for(struct launch *l, int target)
{
    fd_close int cover = is_directory(target) ? (int)sys(open_tree, l->memory_fd, "empty", DETACHED_COPY)
                                              : host_device("/dev/null", 1, 3);
    int r = cover < 0 ? cover : set_attributes(cover, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSUID, 0);
    return r < 0 ? r : steal_fd(&cover);
}

/* A read-only copy of what is there, to lie on top of it. */
static int read_only_copy(struct launch *l, int target)
{
    const uint64_t attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    (void)l;
    fd_close int copy = (int)sys(open_tree, target, "", DETACHED_COPY | AT_RECURSIVE | AT_EMPTY_PATH);
    int r = copy < 0 ? copy : set_attributes(copy, attributes, 1);
    return r < 0 ? r : steal_fd(&copy);
}

/* Mounts something over each path of an operation that is there. */
static int cover_paths(struct launch *l, const struct pylxc_op *op, int (*make)(struct launch *, int))
{
    const char *path = (const char *)(op + 1);
    for (unsigned i = 0; i < op->strings; i++, path += strlen(path) + 1) {
        fd_close int target = open_in_root(l, path, O_PATH);
        if (target == -ENOENT || target == -ENOTDIR)
            continue;
        fd_close int over = target < 0 ? target : make(l, target);
        int r = over < 0 ? over : attach(l, over, target);
        if (r < 0)
            return r;
    }
    return 0;
}

int op_mask(struct launch *l, const struct pylxc_op *op)
{
    return cover_paths(l, op, cover_for);
}

int op_read_only(struct launch *l, const struct pylxc_op *op)
{
    return cover_paths(l, op, read_only_copy);
}

int op_sysctl(struct launch *l, const struct pylxc_op *op)
{
    TEXT(path, 512);
    text_add(&path, "/proc/sys/");
    text_add(&path, op_string(op, 0));
    if (path.overflow)
        return -ENAMETOOLONG;
    fd_close int fd = open_in_root_without_links(l, path.data, O_WRONLY);
    if (fd < 0)
        return fd;
    if (DEFENCE(PROC_WRITE, refuse_procfs(fd) != -EPERM, 0))
        return -EXDEV; /* not procfs at all */
    return write_all(fd, op_string(op, 1), strlen(op_string(op, 1)));
}

/* Never through /proc/self/fd: a descriptor of a host directory made a working directory outside the root
 * (CVE-2024-21626). Entered before the change of user, as in the field: a user may be put where it may not go. */
int op_workdir(struct launch *l, const struct pylxc_op *op)
{
    const char *path = op_string(op, 0);
    fd_close int fd = open_in_root(l, path, O_PATH | O_DIRECTORY);
    if (fd == -ENOENT && op->a & PYLXC_MAKE_DIRECTORY)
        fd = make_directory_in_root(l, path);
    if (fd < 0)
        return fd;
    char seen[4096];
    long r = sys(fchdir, fd);
    if (r >= 0)
        r = sys(getcwd, seen, sizeof seen);
    return (int)(r < 0 ? r : DEFENCE(WORKDIR, seen[0] == '/', 1) ? 0 : -EXDEV);
}
