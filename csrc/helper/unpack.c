/* Unpacks a tar stream into a tree: hides how entries become files that are never written through, left behind with
 * rights they should not have, or put anywhere but below the destination.
 *
 * Invariants. Nothing that exists is opened for writing: every file is made anew, with O_EXCL, and what stood in its
 * place is removed first. A name never contains ".."; symlinks on its way are followed, and the root of the process
 * (for a layer: the destination) is where they end; or none is followed, where the destination is not all there is
 * (PYLXC_UNPACK_BENEATH). Directories get their mode and time when all else is done, because
 * what is put into them changes both.
 */
#include "../pylxc.h"
#include "remove_tree.h"
#include "tar.h"
#include <linux/openat2.h>
#include <linux/time_types.h>

enum {
    ENTRIES_MOST = 10000000,
    ID_MOST = 0xfffffffe, /* the kernel takes the one above for "leave it" */
    MAJOR_MOST = (1 << 12) - 1,
    MINOR_MOST = (1 << 20) - 1,
};

/* A directory whose mode and time are still to be set, followed by its path with the NUL. */
struct late {
    uint64_t inode;
    int64_t seconds;
    uint32_t nanoseconds, mode, device_major, device_minor, path_size;
};

struct unpacking {
    struct tar_reader reader;
    int top, parent_fd; /* the destination; the directory last resolved, which `parent` names */
    int made_top;       /* the destination, if it was opened here */
    char parent[TAR_PATH_SIZE];
    bool parent_known;
    const struct unpack_place *place; /* of a copy; else NULL */
    bool fresh_top;                   /* the destination was made for this copy */
    bool hidden; /* a whiteout stood where the entry is put: what lower layers have there must not show through */
    uint64_t flags, limit, content, entries;
    struct pile late;
};

static bool is_layer(const struct unpacking *u)
{
    return u->flags & PYLXC_UNPACK_LAYER;
}

static bool is_whiteout(const struct statx *x)
{
    return (x->stx_mode & S_IFMT) == S_IFCHR && x->stx_rdev_major == 0 && x->stx_rdev_minor == 0;
}

/* A path has been replaced: what it leads to may be another directory now. */
static void forget_parent(struct unpacking *u)
{
    u->parent_known = false;
}

static int count(struct unpacking *u)
{
    return ++u->entries > ENTRIES_MOST ? -E2BIG : 0;
}

/* The directory at `path` below the destination, following symlinks or not. A layer is a root: its symlinks end there.
 */
static int open_directory(const struct unpacking *u, const char *path, uint64_t more)
{
    struct open_how how = {
        .flags = O_PATH | O_DIRECTORY | O_CLOEXEC | more,
        .resolve = RESOLVE_NO_MAGICLINKS | (is_layer(u) ? RESOLVE_IN_ROOT : 0),
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
static int make_parent(struct unpacking *u, int parent, const char *name)
{
    struct statx x;
    bool hidden = false;
    int r = count(u);
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
    if (hidden && (r = (int)sys(fsetxattr, made, OPAQUE_XATTR, "y", 1, 0)) < 0)
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
        int fd = open_directory(u, path, 0);
        *cut = '/';
        if (fd != -ENOENT && !(fd == -ENOTDIR && is_layer(u))) {
            *ret_at = cut + 1;
            return fd;
        }
        cut--;
    }
    *ret_at = path;
    return open_directory(u, "", 0);
}

static int make_parents(struct unpacking *u, char *path)
{
    char *at;
    fd_close int fd = open_deepest(u, path, &at);
    while (fd >= 0 && at) {
        char *slash = strchr(at, '/');
        if (slash)
            *slash = 0;
        int next = make_parent(u, fd, at);
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

/* The directory that holds `path`, kept open for its neighbours; *ret_name is the last component. Archives list a
 * directory's entries together, so most calls end here. */
static int open_parent(struct unpacking *u, const char *path, bool make, const char **ret_name)
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
    u->parent_fd = open_directory(u, u->parent, 0);
    if (make && (u->parent_fd == -ENOENT || (u->parent_fd == -ENOTDIR && is_layer(u))))
        u->parent_fd = make_parents(u, u->parent);
    u->parent_known = u->parent_fd >= 0;
    return u->parent_fd;
}

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
        return (int)sys(openat, parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
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
    if (directory && !is_layer(u))
        return -EISDIR;
    if (is_layer(u) && is_whiteout(&x))
        u->hidden = true;
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

/* Whether an attribute that the kernel refuses may be missing: trusted.* and others belong to the archive's machine,
 * and cannot be had in a user namespace. */
static bool may_be_missing(const char *name)
{
    return !tar_starts_with(name, "user.") && strcmp(name, "security.capability") != 0 &&
           !tar_starts_with(name, "system.posix_acl_");
}

/* On an open file or directory, or (fd < 0) on `name` in the current directory. */
static int set_xattrs(const struct unpacking *u, int fd, const char *name)
{
    const struct tar_entry *e = &u->reader.entry;
    const char *key, *value;
    size_t at = 0, size;
    while (tar_next_xattr(e, &at, &key, &value, &size)) {
        if (tar_overlay_attribute(key))
            return -EPERM;
        if (tar_host_attribute(key) || (u->flags & PYLXC_UNPACK_PLAIN && !tar_starts_with(key, "user.")))
            continue;
        long r = fd >= 0 ? sys(fsetxattr, fd, key, value, size, 0) : sys(lsetxattr, name, key, value, size, 0);
        if (r < 0 && !((r == -EPERM || r == -EOPNOTSUPP) && may_be_missing(key)))
            return (int)r;
    }
    return 0;
}

/* Attributes of what cannot be opened. There is no lsetxattr relative to a directory before Linux 6.13, and no
 * /proc here: the current directory has to serve. */
static int set_xattrs_at(const struct unpacking *u, int parent, const char *name)
{
    if (!u->reader.entry.xattrs.used)
        return 0;
    fd_close int before = (int)sys(openat, AT_FDCWD, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int r = (int)sys(fchdir, parent);
    if (before < 0 || r < 0)
        return before < 0 ? before : r;
    r = set_xattrs(u, -1, name);
    sys(fchdir, before);
    return r;
}

/* Gives an open file, or `name` in a directory, to whom it shall belong. */
static int set_owner(const struct unpacking *u, int fd, const char *name)
{
    bool root = u->flags & PYLXC_UNPACK_OWNER_ROOT;
    uint32_t uid = root ? 0 : (uint32_t)u->reader.entry.uid, gid = root ? 0 : (uint32_t)u->reader.entry.gid;
    if (u->flags & PYLXC_UNPACK_OWNER_SELF)
        return 0;
    return (int)sys(fchownat, fd, name, uid, gid, AT_SYMLINK_NOFOLLOW | (*name ? 0 : AT_EMPTY_PATH));
}

/* On a directory the sticky bit takes rights away, and a set-group-ID bit gives away what is made in it. */
static uint32_t permissions(const struct unpacking *u)
{
    return u->reader.entry.mode & (u->flags & PYLXC_UNPACK_PLAIN ? 01777 : 07777);
}

static long set_time(int fd, const char *name, int64_t seconds, uint32_t nanoseconds)
{
    struct __kernel_timespec both[2] = {{seconds, nanoseconds}, {seconds, nanoseconds}};
    return sys(utimensat, fd, name, both, name ? AT_SYMLINK_NOFOLLOW : 0);
}

static int write_content(struct unpacking *u, int fd)
{
    for (;;) {
        const char *data;
        size_t n;
        int r = tar_content(&u->reader, &data, &n);
        if (r < 0 || n == 0)
            return r;
        if ((r = write_all(fd, data, n)) < 0)
            return r;
    }
}

static int unpack_file(struct unpacking *u, int parent, const char *name)
{
    const struct tar_entry *e = &u->reader.entry;
    bool stays;
    fd_close int fd = make(u, parent, name, -1, NULL, &stays);
    int r = fd < 0 ? fd : write_content(u, fd);
    if (r < 0)
        return r;
    /* In this order: a write drops capabilities, a change of owner drops them and the set-user-ID bit. */
    if ((r = set_owner(u, fd, "")) < 0 || (r = set_xattrs(u, fd, NULL)) < 0 ||
        (r = (int)sys(fchmod, fd, permissions(u))) < 0)
        return r;
    return (int)set_time(fd, NULL, e->seconds, e->nanoseconds);
}

/* Symlinks, devices and FIFOs: what is set by name, not through a descriptor. */
static int unpack_special(struct unpacking *u, int parent, const char *name)
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
    return (int)set_time(parent, name, e->seconds, e->nanoseconds);
}

static int unpack_hard_link(struct unpacking *u)
{
    struct tar_entry *e = &u->reader.entry;
    struct statx x;
    const char *name, *target;
    bool stays;
    int parent = open_parent(u, e->link, false, &target);
    if (parent < 0)
        return parent;
    /* The place that open_parent keeps is needed for the link itself. */
    fd_close int link_parent = (int)sys(fcntl, parent, F_DUPFD_CLOEXEC, 3);
    if (link_parent < 0)
        return link_parent;
    if ((parent = open_parent(u, e->path, true, &name)) < 0)
        return parent;
    int r = (int)tar_statx(link_parent, target, &x);
    if (r < 0)
        return r;
    if (is_whiteout(&x))
        return -EPERM;
    return make(u, parent, name, link_parent, target, &stays);
}

/* Notes a directory's mode and time, for when nothing is put into it any more. */
static int set_late(struct unpacking *u, int fd)
{
    const struct tar_entry *e = &u->reader.entry;
    struct statx x;
    int r = (int)tar_statx(fd, "", &x);
    if (r < 0)
        return r;
    struct late late = {x.stx_ino,
                        e->seconds,
                        e->nanoseconds,
                        permissions(u),
                        x.stx_dev_major,
                        x.stx_dev_minor,
                        (uint32_t)strlen(e->path) + 1};
    r = pile_add(&u->late, &late, sizeof late);
    return r < 0 ? r : pile_add(&u->late, e->path, late.path_size);
}

static int unpack_directory(struct unpacking *u)
{
    const struct tar_entry *e = &u->reader.entry;
    const char *name = ".";
    bool stays = !u->fresh_top;
    int parent = u->top, r;
    u->hidden = false;
    if (*e->path) {
        if ((parent = open_parent(u, e->path, true, &name)) < 0)
            return parent;
        if ((r = make(u, parent, name, -1, NULL, &stays)) < 0)
            return r;
    }
    if (stays && (u->flags & PYLXC_UNPACK_KEEP_DIRECTORIES))
        return 0;
    fd_close int fd = (int)sys(openat, parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return fd;
    if ((r = set_owner(u, fd, "")) < 0 || (r = set_xattrs(u, fd, NULL)) < 0)
        return r;
    if (u->hidden && (r = (int)sys(fsetxattr, fd, OPAQUE_XATTR, "y", 1, 0)) < 0)
        return r;
    return set_late(u, fd);
}

static int settle_directory(struct unpacking *u, const struct late *late, const char *path)
{
    struct statx x;
    fd_close int found = open_directory(u, path, *path ? O_NOFOLLOW : 0);
    /* Something else has taken its place since. */
    if (found == -ENOENT || found == -ENOTDIR || found == -ELOOP)
        return 0;
    int r = found < 0 ? found : (int)tar_statx(found, "", &x);
    if (r < 0)
        return r;
    if (x.stx_ino != late->inode || x.stx_dev_major != late->device_major || x.stx_dev_minor != late->device_minor)
        return 0;
    fd_close int fd = (int)sys(openat, found, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return fd;
    if ((r = (int)sys(fchmod, fd, late->mode)) < 0)
        return r;
    return (int)set_time(fd, NULL, late->seconds, late->nanoseconds);
}

/* In the archive's order: of two entries for one directory, the later one counts. */
static int settle_directories(struct unpacking *u, const char **ret_subject)
{
    for (size_t at = 0; at < u->late.used;) {
        struct late late;
        memcpy(&late, u->late.data + at, sizeof late);
        const char *path = u->late.data + at + sizeof late;
        *ret_subject = *path ? path : "./";
        int r = settle_directory(u, &late, path);
        if (r < 0)
            return r;
        at += sizeof late + late.path_size;
    }
    *ret_subject = "";
    return 0;
}

/* ".wh.name" says that lower layers' `name` is gone, ".wh..wh..opq" that all they have in this directory is. Neither
 * says anything about this layer's own entries, before or after it (OCI image specification, "Whiteouts"). */
static int unpack_whiteout(int parent, const char *name)
{
    const char *hidden = name + strlen(WHITEOUT);
    fd_close int fd = -1;
    if (strcmp(name, OPAQUE_MARK) == 0) {
        fd = (int)sys(openat, parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? fd : (int)sys(fsetxattr, fd, OPAQUE_XATTR, "y", 1, 0);
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
    return fd < 0 ? fd : (int)sys(fsetxattr, fd, OPAQUE_XATTR, "y", 1, 0);
}

enum { NOT_A_MARK, A_MARK, NO_ENTRY };

/* Whether the path's last component is a whiteout. Below a ".wh." name there can be nothing, except what aufs left for
 * itself (".wh..wh.plnk" and the like), which is passed over. */
static int read_mark(const char *path, int *ret)
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

/* Checks what holds for entries of every kind. */
static int check_entry(struct unpacking *u)
{
    const struct tar_entry *e = &u->reader.entry;
    int r = count(u);
    if (r < 0)
        return r;
    if (!*e->path && e->type != TAR_DIRECTORY)
        return -ENOTDIR;
    if (!(u->flags & (PYLXC_UNPACK_OWNER_ROOT | PYLXC_UNPACK_OWNER_SELF)) &&
        (e->uid < 0 || e->uid > (int64_t)ID_MOST || e->gid < 0 || e->gid > (int64_t)ID_MOST))
        return -EOVERFLOW;
    if (u->limit && e->size > u->limit - u->content)
        return -EFBIG;
    u->content += e->size;
    return 0;
}

static int unpack_entry(struct unpacking *u)
{
    const struct tar_entry *e = &u->reader.entry;
    const char *name;
    int mark = NOT_A_MARK, r = check_entry(u);
    if (r < 0 || (is_layer(u) && (r = read_mark(e->path, &mark)) < 0) || mark == NO_ENTRY)
        return r;
    if (u->flags & PYLXC_UNPACK_NO_DEVICES && (e->type == TAR_CHARACTER || e->type == TAR_BLOCK_DEVICE))
        return 0;
    if (mark == NOT_A_MARK && e->type == TAR_DIRECTORY)
        return unpack_directory(u);
    if (mark == NOT_A_MARK && e->type == TAR_HARD_LINK)
        return unpack_hard_link(u);
    int parent = open_parent(u, e->path, true, &name);
    if (parent < 0)
        return parent;
    if (mark == A_MARK)
        return unpack_whiteout(parent, name);
    return e->type == TAR_FILE ? unpack_file(u, parent, name) : unpack_special(u, parent, name);
}

/* The first entry says what comes, and so where it goes: a directory becomes the destination of all that follows. */
static int put_in_place(struct unpacking *u)
{
    const struct unpack_place *place = u->place;
    struct tar_entry *e = &u->reader.entry;
    u->place = NULL;
    if (e->type != TAR_DIRECTORY) {
        if (place->file_error || !*place->name)
            return place->file_error ? place->file_error : -ENOTDIR;
        memcpy(e->path, place->name, strlen(place->name) + 1);
        return 0;
    }
    if (!*place->name)
        return 0;
    int r = (int)sys(mkdirat, u->top, place->name, 0700);
    if (r < 0 && r != -EEXIST)
        return r;
    u->fresh_top = r == 0;
    int top = (int)sys(openat, u->top, place->name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (top < 0)
        return top;
    u->top = u->made_top = top;
    return 0;
}

static int unpack_entries(struct unpacking *u, const char **ret_subject)
{
    for (;;) {
        bool end;
        int r = tar_next(&u->reader, &end);
        *ret_subject = u->reader.entry.path;
        if (r == 0 && !end && u->place && (r = put_in_place(u)) < 0)
            *ret_subject = "";
        if (r == 0 && !end && (r = unpack_entry(u)) < 0 && !*u->reader.entry.path)
            *ret_subject = "./";
        if (r < 0)
            return r;
        if (end)
            return settle_directories(u, ret_subject);
    }
}

static int unpack(int fd, int destination, const struct unpack_place *place, uint64_t flags, uint64_t limit,
                  char *subject, size_t subject_size)
{
    struct unpacking *u = memory_take(sizeof *u);
    const char *at = "";
    *subject = 0;
    if (!u)
        return -ENOMEM;
    u->top = destination;
    u->parent_fd = u->made_top = -1;
    u->place = place;
    u->flags = flags;
    u->limit = limit;
    long mask = sys(umask, 0);
    int r = tar_reader_open(&u->reader, fd);
    if (r == 0)
        r = unpack_entries(u, &at);
    if (r == 0)
        r = tar_drain(&u->reader, limit);
    if (r < 0)
        tar_name_subject(at, subject, subject_size);
    sys(umask, mask);
    fd_close_at_end(&u->parent_fd);
    fd_close_at_end(&u->made_top);
    tar_reader_close(&u->reader);
    pile_drop(&u->late);
    sys(munmap, u, sizeof *u);
    return r;
}

int unpack_tar(int fd, int destination, uint64_t flags, uint64_t limit, char *subject, size_t subject_size)
{
    return unpack(fd, destination, NULL, flags, limit, subject, subject_size);
}

int unpack_copy(int fd, int directory, const struct unpack_place *place, uint64_t flags, char *subject,
                size_t subject_size)
{
    return unpack(fd, directory, place, flags, 0, subject, subject_size);
}
