/* Operations that build the root file system.
 *
 * Every path inside the root is resolved by the kernel against the root (openat2 with RESOLVE_IN_ROOT and
 * RESOLVE_NO_MAGICLINKS), and every mount is attached to a descriptor so found: what a container or an image made of
 * symbolic links, and whatever it exchanges meanwhile, a target never lies outside. Mounts are made detached, given
 * their flags, and attached last, so that none is ever visible half-made.
 */
#include "helper.h"
#include "userns.h"
#include <linux/magic.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/stat.h>
#ifdef PYLXC_HOSTED
#include <sys/stat.h>
#endif
#include <asm/statfs.h>

#define DETACHED_COPY (OPEN_TREE_CLONE | O_CLOEXEC)

/* EAGAIN: something was renamed while ".." was being resolved, and the kernel could not be sure (openat2(2)). A file on
 * which somebody holds a lease gives it too (fcntl(2)), for as long as he likes: so there is an end to it. */
static int open_resolved(const struct launch *l, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve)
{
    enum { MOST_ATTEMPTS = 10000 };
    struct open_how how = {.flags = flags | O_CLOEXEC, .mode = mode, .resolve = DEFENCE(RESOLVE, resolve, 0)};
    const char *at = DEFENCE(RESOLVE, path, path[1] ? path + (*path == '/') : "."); /* weak: joined to the root's */
    long r = -EAGAIN;
    for (int attempt = 0; r == -EAGAIN && attempt < MOST_ATTEMPTS; attempt++)
        r = sys(openat2, l->root_fd, at, &how, sizeof how);
    return (int)r;
}

int open_in_root(struct launch *l, const char *path, uint64_t flags)
{
    return open_resolved(l, path, flags, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

int create_in_root(struct launch *l, const char *path, uint64_t flags, uint64_t mode)
{
    return open_resolved(l, path, flags | O_CREAT, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

int open_in_root_without_links(struct launch *l, const char *path, uint64_t flags)
{
    return open_resolved(l, path, flags, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS);
}

static int is_directory(int fd)
{
    struct statx st;
    return sys(statx, fd, "", AT_EMPTY_PATH, STATX_TYPE, &st) == 0 && (st.stx_mode & S_IFMT) == S_IFDIR;
}

/* The parent of the last component of `path`, where it is there already, as mostly: one lookup in place of one for each
 * component. -ENOENT: it, or a last component, is missing. */
static int open_whole_parent(struct launch *l, const char *path, const char **ret_last)
{
    const char *last = path;
    for (const char *s = path; *s; s++)
        if (s[0] == '/' && s[1])
            last = s + 1;
    TEXT(parent, 4096);
    text_add(&parent, "/");
    text_bytes(&parent, path, (size_t)(last - path));
    if (*last == '/' || !*last || parent.overflow || strncmp(last, "..", 2) == 0)
        return -ENOENT;
    *ret_last = last;
    return open_in_root(l, parent.data, O_PATH | O_DIRECTORY);
}

/* Opens the parent of the last component of `path`, making directories on the way; *ret_last is that component. */
static int open_parent(struct launch *l, const char *path, const char **ret_last)
{
    int whole = open_whole_parent(l, path, ret_last);
    if (whole != -ENOENT)
        return whole;
    fd_close int at = open_in_root(l, "/", O_PATH | O_DIRECTORY);
    TEXT(prefix, 4096);
    for (const char *component = path;;) {
        while (*component == '/')
            component++;
        const char *end = strchr(component, '/');
        size_t n = end ? (size_t)(end - component) : strlen(component);
        const char *rest = component + n;
        while (*rest == '/')
            rest++;
        if (at < 0)
            return at;
        if (!*rest) {
            if (n == 2 && component[0] == '.' && component[1] == '.')
                return -EINVAL;
            *ret_last = component;
            return steal_fd(&at);
        }
        text_add(&prefix, "/");
        text_bytes(&prefix, component, n);
        if (prefix.overflow)
            return -ENAMETOOLONG;
        int next = open_in_root(l, prefix.data, O_PATH | O_DIRECTORY);
        if (next == -ENOENT) {
            char name[256];
            if (n >= sizeof name)
                return -ENAMETOOLONG;
            memcpy(name, component, n);
            name[n] = 0;
            long r = sys(mkdirat, at, name, 0755);
            if (r < 0 && r != -EEXIST)
                return (int)r;
            next = open_in_root(l, prefix.data, O_PATH | O_DIRECTORY);
        }
        sys(close, at);
        at = next;
        component = rest;
    }
}

int make_directory_in_root(struct launch *l, const char *path)
{
    int fd = open_in_root(l, path, O_PATH | O_DIRECTORY);
    if (fd != -ENOENT)
        return fd;
    const char *last;
    fd_close int parent = open_parent(l, path, &last);
    if (parent < 0)
        return parent;
    TEXT(name, 256);
    size_t n = strlen(last);
    while (n && last[n - 1] == '/')
        n--;
    text_bytes(&name, last, n);
    long r = sys(mkdirat, parent, name.data, 0755);
    return r < 0 && r != -EEXIST ? (int)r : open_in_root(l, path, O_PATH | O_DIRECTORY);
}

/* Where one of the kernel's own file systems goes: no part of the path may be a link. The masks that follow go by these
 * paths, and a link in an image that a volume covers meanwhile would lead them astray: a procfs would be left somewhere
 * with nothing in it hidden. */
static int make_plain_directory(struct launch *l, const char *path)
{
    const uint64_t plain = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | DEFENCE(PLAIN_TARGET, RESOLVE_NO_SYMLINKS, 0);
    int fd = open_resolved(l, path, O_PATH | O_DIRECTORY, 0, plain);
    if (fd != -ENOENT)
        return fd;
    fd_close int made = make_directory_in_root(l, path);
    return made < 0 ? made : open_resolved(l, path, O_PATH | O_DIRECTORY, 0, plain);
}

static int make_target_directory(struct launch *l, const char *path, int64_t how)
{
    return how & PYLXC_MAKE_PLAIN ? make_plain_directory(l, path) : make_directory_in_root(l, path);
}

/* A link that leads to nothing yet, as /etc/resolv.conf into /run often is: its text becomes the path, seen from where
 * the link lies. */
static int follow_link(struct text *path, int parent, const char *last)
{
    char link[4096];
    long n = sys(readlinkat, parent, last, link, sizeof link);
    if (n < 0)
        return n == -EINVAL ? -EEXIST : (int)n; /* no link: somebody else made it meanwhile */
    if (n == 0 || n == sizeof link)
        return -ENAMETOOLONG;
    path->length = link[0] == '/' ? 0 : (size_t)(last - path->data);
    text_bytes(path, link, (size_t)n);
    return path->overflow ? -ENAMETOOLONG : 0;
}

/* A file of the root that exists or is made (0644, empty), with its parents. */
static int make_file_in_root(struct launch *l, const char *path)
{
    enum { MOST_LINKS = 8 };
    TEXT(at, 4096);
    text_add(&at, path);
    for (int links = 0; links < MOST_LINKS && !at.overflow; links++) {
        int fd = open_in_root(l, at.data, O_PATH);
        if (fd != -ENOENT)
            return fd;
        const char *last;
        fd_close int parent = open_parent(l, at.data, &last);
        if (parent < 0)
            return parent;
        fd_close int made = (int)sys(openat, parent, last, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, 0644);
        if (made >= 0)
            return steal_fd(&made);
        int r = made == -EEXIST ? follow_link(&at, parent, last) : made;
        if (r < 0)
            return r;
    }
    return at.overflow ? -ENAMETOOLONG : -ELOOP;
}

/* Whether a target is the root itself, which a link such as "/dev -> /" makes of it: a mount over the root would hide
 * all that comes after. */
static int is_root(struct launch *l, int target)
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
static int attach(struct launch *l, int mount, int target)
{
    if (is_root(l, target))
        return -ELOOP;
    return (int)sys(move_mount, mount, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

/* Mounting over procfs would let a container choose what the runtime and security checks read there (CVE-2019-19921,
 * CVE-2025-52881): only the runtime's own masks may. */
static int refuse_procfs(int target)
{
    struct statfs st;
    long r = sys(fstatfs, target, &st);
    return r < 0 ? (int)r : st.f_type == PROC_SUPER_MAGIC ? -EPERM : 0;
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
static int new_filesystem(const char *type, const char *options, uint64_t attributes)
{
    fd_close int fs = (int)sys(fsopen, type, FSOPEN_CLOEXEC);
    if (fs < 0)
        return fs;
    sys(fsconfig, fs, FSCONFIG_SET_STRING, "source", type, 0); /* what df and mount show; some types know no source */
    int r = configure(fs, options);
    return r < 0 ? r : finish_filesystem(fs, attributes);
}

static int set_attributes(int mount, uint64_t attributes, int recursive)
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
static int directory_in_memory(struct launch *l, struct text *to)
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

/* A layer's path: the store's are below the working directory, any other directory of the host's is attached there. */
static int lower_path(struct launch *l, const struct pylxc_op *op, unsigned i, struct text *to)
{
    if (*op_string(op, i) != '/') {
        text_add(to, op_string(op, i));
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
    for (unsigned i = 3; i < op->strings && r >= 0; i++) {
        TEXT(lower, 4096);
        r = lower_path(l, op, i, &lower);
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
    if (r < 0)
        return (int)r;
    fd_close int mount = finish_filesystem(fs, MOUNT_ATTR_NODEV | (*upper ? 0 : MOUNT_ATTR_RDONLY));
    if (mount < 0)
        return mount;
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
    for (unsigned i = 3; i < op->strings && r >= 0; i++) {
        text_add(to, i > 3 ? ":" : ",lowerdir=");
        TEXT(lower, 4096);
        r = lower_path(l, op, i, &lower);
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
    if (r < 0 || inside)
        return r;
    l->root_fd = (int)sys(openat, AT_FDCWD, at, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    return l->root_fd < 0 ? l->root_fd : 0;
}

int op_overlay(struct launch *l, const struct pylxc_op *op)
{
    TEXT(upper, 4096);
    TEXT(work, 4096);
    int r = writable_side(l, op, &upper, &work);
    if (r < 0)
        return r;
    return op->flags & PYLXC_OVERLAY_JOINED ? overlay_joined(l, op, upper.data, work.data)
                                            : overlay(l, op, upper.data, work.data);
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

int op_bind(struct launch *l, const struct pylxc_op *op)
{
    fd_close int tree = source_tree(l, op, 0);
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
    TEXT(name, 32);
    text_number(&name, l->memory_names++);
    fd_close int target = make_file_in_root(l, op_string(op, 0));
    if (target < 0)
        return target;
    fd_close int file = (int)sys(openat, l->memory_fd, name.data, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, op->flags);
    int r = file < 0 ? file : write_all(file, content, strlen(content));
    if (r < 0)
        return r;
    fd_close int tree = (int)sys(open_tree, l->memory_fd, name.data, DETACHED_COPY);
    return tree < 0 ? tree : attach(l, tree, target);
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

int op_root_read_only(struct launch *l, const struct pylxc_op *op)
{
    (void)op;
    return set_attributes(l->root_fd, MOUNT_ATTR_RDONLY, 0);
}

/* pivot_root(".", "."): the old root ends up mounted over the new one and is detached at once; no directory for it is
 * needed inside the container (pivot_root(2), NOTES). Uppermost lies what was mounted on "/", the place where the root
 * was put together. That nothing of the host is left above the new root is looked at, not believed. */
int op_pivot(struct launch *l, const struct pylxc_op *op)
{
    (void)op;
    long r = sys(fchdir, l->root_fd);
    if (r >= 0)
        r = sys(pivot_root, ".", ".");
    for (int stacked = l->memory_fd >= 0 ? 2 : 1; r >= 0 && stacked; stacked--)
        r = sys(umount2, ".", 2 /* MNT_DETACH */);
    if (r >= 0)
        r = sys(chdir, "/");
    if (r < 0)
        return (int)r;
    fd_close int above = (int)sys(openat, AT_FDCWD, "..", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    return above < 0 ? above : is_root(l, above) ? 0 : -EXDEV;
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
