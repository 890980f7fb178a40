/* Packs a tree into a tar stream: hides in which order a tree is written down, so that one tree has one stream.
 *
 * Invariants. Depth first, a directory before what it holds, names in byte order. At most three descriptors are open at
 * any depth: the current directory is the one being read, and the way back is "..", checked against what was
 * remembered.
 */
#include "pack.h"
#include <asm/statfs.h>

enum { LISTING_CHUNK = 1 << 15 };

/* A directory on the way: its names are in packing.names, the offsets of what is left of them in packing.order. */
struct level {
    uint64_t inode;
    uint32_t device_major, device_minor;
    size_t names, order, next; /* where its part of both piles begins; the next offset to be used */
    size_t path_length;        /* of the directory's own path, with "/" */
};

/* What the answer says of something that was there a moment ago: it was removed, or another thing put in its place. */
static bool has_gone(int r)
{
    return r == -ENOENT || r == -ENOTDIR || r == -ELOOP;
}

/* A time later than any may be becomes the latest one. A tree that lives is somebody else's: only the stream has it. */
static int settle_time(const struct packing *p, const char *name, struct statx *x)
{
    if (!p->settles || x->stx_mtime.tv_sec < p->latest ||
        (x->stx_mtime.tv_sec == p->latest && x->stx_mtime.tv_nsec == 0))
        return 0;
    x->stx_mtime.tv_sec = p->latest;
    x->stx_mtime.tv_nsec = 0;
    return p->live ? 0 : (int)tar_set_time(AT_FDCWD, name, p->latest, 0);
}

/* In the copy first: what comes of a failure there is an incomplete stream, never one that says more than was made. */
static int put_entry(struct packing *p, char type, const char *link, uint64_t size, const struct statx *x)
{
    int r = mirror_entry(p, type, link, size, x);
    return r < 0 ? r : put_header(&p->out, type, p->path, link, size, x);
}

/* Opened before its header is written, so that the header tells of what was opened. The type is looked at once more:
 * what may have taken the file's place meanwhile would not be read, but wait for somebody, or have no end. */
static int pack_live_file(struct packing *p, const char *name)
{
    struct statx x;
    fd_close int fd = (int)sys(openat, AT_FDCWD, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    int r = fd < 0 ? fd : (int)tar_statx(fd, "", &x);
    if (r < 0)
        return r;
    if ((x.stx_mode & S_IFMT) != S_IFREG)
        return -ENOENT;
    if ((r = settle_time(p, name, &x)) < 0 || (r = put_entry(p, TAR_FILE, "", x.stx_size, &x)) < 0)
        return r;
    return mirror_content(p, fd, x.stx_size);
}

static int pack_file(struct packing *p, const char *name, const struct statx *x)
{
    if (p->live && x->stx_size)
        return pack_live_file(p, name);
    int r = put_entry(p, TAR_FILE, "", x->stx_size, x);
    if (r < 0 || x->stx_size == 0)
        return r;
    fd_close int fd = (int)sys(openat, AT_FDCWD, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return fd == -ENOENT || fd == -ELOOP ? -EBUSY : fd;
    return mirror_content(p, fd, x->stx_size);
}

/* Appends to the current path. */
static int path_add(struct packing *p, const char *name)
{
    size_t n = strlen(name);
    if (p->path_length + n >= TAR_PATH_SIZE)
        return -ENAMETOOLONG;
    memcpy(p->path + p->path_length, name, n + 1);
    p->path_length += n;
    return 0;
}

static void path_cut(struct packing *p, size_t length)
{
    p->path_length = length;
    p->path[length] = 0;
}

/* An entry that says something about lower layers: an empty file, of which only the name counts. */
static int put_mark(struct packing *p, const char *prefix, const char *name)
{
    static const struct statx nothing;
    size_t before = p->path_length;
    int r = path_add(p, prefix);
    if (r == 0)
        r = path_add(p, name);
    if (r == 0)
        r = put_entry(p, TAR_FILE, "", 0, &nothing);
    if (r == 0)
        path_cut(p, before);
    return r;
}

/* Adds the names in the open directory to the names and their order to the order. */
static int list_directory(struct packing *p, int fd)
{
    for (;;) {
        long n = sys(getdents64, fd, p->values, LISTING_CHUNK);
        if (n <= 0)
            return (int)n;
        for (long at = 0; at < n;) {
            const struct directory_record *d = (const struct directory_record *)(void *)(p->values + at);
            at += d->size;
            if (strcmp(d->name, ".") == 0 || strcmp(d->name, "..") == 0)
                continue;
            size_t offset = p->names.used;
            int r = pile_add(&p->names, d->name, strlen(d->name) + 1);
            if (r < 0 || (r = pile_add(&p->order, &offset, sizeof offset)) < 0)
                return r;
        }
    }
}

/* Makes the directory `name` the current one, and puts what it holds on the list of what is to be packed. */
static int enter(struct packing *p, const char *name)
{
    struct level level = {.names = p->names.used,
                          .order = p->order.used / sizeof(size_t),
                          .next = p->order.used / sizeof(size_t),
                          .path_length = p->path_length};
    struct statx x;
    fd_close int fd = (int)sys(openat, AT_FDCWD, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int r = fd < 0 ? fd : (int)tar_statx(fd, "", &x);
    if (r < 0 || (r = (int)sys(fchdir, fd)) < 0 || (r = list_directory(p, fd)) < 0)
        return r;
    if (p->order.used / sizeof(size_t) > level.order)
        sort_names((size_t *)(void *)p->order.data + level.order, p->names.data,
                   p->order.used / sizeof(size_t) - level.order);
    level.inode = x.stx_ino;
    level.device_major = x.stx_dev_major;
    level.device_minor = x.stx_dev_minor;
    return pile_add(&p->levels, &level, sizeof level);
}

static struct level *deepest(struct packing *p)
{
    return (struct level *)(void *)(p->levels.data + p->levels.used) - 1;
}

/* Makes the parent directory the current one again. */
static int leave(struct packing *p)
{
    const struct level *done = deepest(p);
    struct statx x;
    p->names.used = done->names;
    p->order.used = done->order * sizeof(size_t);
    p->levels.used -= sizeof(struct level);
    if (!p->levels.used)
        return 0;
    const struct level *up = deepest(p);
    int r = (int)sys(chdir, "..");
    if (r < 0 || (r = (int)tar_statx(AT_FDCWD, ".", &x)) < 0)
        return r;
    path_cut(p, up->path_length);
    bool same = x.stx_ino == up->inode && x.stx_dev_major == up->device_major && x.stx_dev_minor == up->device_minor;
    return same ? 0 : -EBUSY;
}

static bool is_of_kernel(const char *name)
{
    struct statfs st;
    return sys(statfs, name, &st) == 0 && tar_kernel_files(st.f_type);
}

static int pack_directory(struct packing *p, const char *name, const struct statx *x)
{
    bool opaque, top = !p->levels.used;
    size_t before = top ? 0 : deepest(p)->path_length;
    int r = path_add(p, p->path_length ? "/" : "./");
    if (r < 0 || (r = add_xattrs(p, name, &opaque)) < 0 || (r = put_entry(p, TAR_DIRECTORY, "", 0, x)) < 0)
        return r;
    if (top && !p->named) /* below the root, names begin without "./" */
        path_cut(p, 0);
    if (p->layer && opaque && (r = put_mark(p, "", OPAQUE_MARK)) < 0)
        return r;
    r = p->live && !top && is_of_kernel(name) ? -ENOENT : enter(p, name);
    if (!p->live || top || !has_gone(r))
        return r;
    path_cut(p, before); /* it stays empty */
    return 0;
}

/* Goes on into a directory, of which nothing is written. */
static int pass_directory(struct packing *p, const char *name)
{
    bool top = !p->levels.used;
    int r = path_add(p, p->path_length ? "/" : "./");
    if (r == 0 && top)
        path_cut(p, 0);
    return r < 0 ? r : enter(p, name);
}

/* The type of an entry that has no content; 0 for what an archive does not hold: sockets live as long as a process. */
static char special_type(uint16_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFLNK:
        return TAR_SYMLINK;
    case S_IFCHR:
        return TAR_CHARACTER;
    case S_IFBLK:
        return TAR_BLOCK_DEVICE;
    case S_IFIFO:
        return TAR_FIFO;
    default:
        return 0;
    }
}

static int pack_special(struct packing *p, const char *name, const struct statx *x)
{
    char type = special_type(x->stx_mode);
    *p->link = 0;
    if (type == TAR_SYMLINK) {
        long n = sys(readlinkat, AT_FDCWD, name, p->link, sizeof p->link);
        if (n == -EINVAL) /* it was a link when it was looked at */
            return p->live ? -ENOENT : -EBUSY;
        if (n < 0 || n == sizeof p->link)
            return n < 0 ? (int)n : -ENAMETOOLONG;
        p->link[n] = 0;
    }
    return put_entry(p, type, p->link, 0, x);
}

/* Leaves an entry out, of which nothing has been written yet. */
static int leave_out(struct packing *p, size_t path_length)
{
    p->out.records.used = 0;
    path_cut(p, path_length);
    return 0;
}

/* Whether an entry of the tree's own directory is one of those that the caller does not want. */
static bool is_left_out(const struct packing *p, const char *name)
{
    const char *other = p->left_out;
    if (p->levels.used != sizeof(struct level))
        return false;
    for (unsigned i = 0; i < p->names_left_out; i++, other += strlen(other) + 1)
        if (strcmp(other, name) == 0)
            return true;
    return false;
}

/* Packs what is called `name` in the current directory, as `as`. */
static int pack_entry(struct packing *p, const char *name, const char *as)
{
    struct statx x;
    const char *first;
    bool opaque;
    int r = is_left_out(p, name) ? -ENOENT : (int)tar_statx(AT_FDCWD, name, &x);
    if (r < 0)
        return r != -ENOENT ? r : p->live && p->levels.used ? 0 : -EBUSY;
    uint16_t kind = x.stx_mode & S_IFMT;
    if (p->layer && kind == S_IFCHR && x.stx_rdev_major == 0 && x.stx_rdev_minor == 0)
        return p->silent ? 0 : put_mark(p, WHITEOUT, name);
    size_t before = p->path_length;
    if ((r = path_add(p, as)) < 0 || (p->adopts && (r = check_adopted(&x)) < 0) || (r = settle_time(p, name, &x)) < 0)
        return r;
    if (p->layer && tar_starts_with(name, WHITEOUT))
        return -EINVAL;
    if (p->silent && kind == S_IFDIR)
        return pass_directory(p, name);
    if (kind == S_IFDIR) {
        r = pack_directory(p, name, &x);
        return p->live && p->levels.used && has_gone(r) ? leave_out(p, before) : r;
    }
    if (p->silent || (kind != S_IFREG && !special_type(x.stx_mode))) {
        path_cut(p, before);
        return 0;
    }
    if ((r = first_name(&p->firsts, &x, p->path, &first)) < 0)
        return r;
    r = first ? add_capability(p, name) : add_xattrs(p, name, &opaque);
    if (r == 0 && first)
        r = put_entry(p, TAR_HARD_LINK, first, 0, &x);
    else if (r == 0)
        r = kind == S_IFREG ? pack_file(p, name, &x) : pack_special(p, name, &x);
    if (p->live && p->levels.used && has_gone(r))
        return leave_out(p, before);
    if (r == 0)
        path_cut(p, before);
    return r;
}

/* Packs `name` of the current directory, with all that it holds, as `as`. */
static int pack_tree(struct packing *p, const char *name, const char *as)
{
    p->named = *as != 0;
    int r = pack_entry(p, name, as);
    while (r == 0 && p->levels.used) {
        struct level *level = deepest(p);
        if (level->next == p->order.used / sizeof(size_t)) {
            r = leave(p);
            continue;
        }
        /* By value: packing a directory moves the pile of names. */
        char next[TAR_NAME_SIZE];
        const char *from = p->names.data + ((size_t *)(void *)p->order.data)[level->next++];
        memcpy(next, from, strlen(from) + 1);
        r = pack_entry(p, next, next);
    }
    if (r == 0)
        r = mirror_end(p);
    if (r == 0 && p->adopts)
        r = all_names_seen(&p->firsts);
    return r < 0 || p->silent ? r : put_end(&p->out);
}

static int start(struct packing *p)
{
    p->values = memory_take(XATTR_MOST);
    p->keys = memory_take(XATTR_MOST);
    return p->values && p->keys ? 0 : -ENOMEM;
}

static void finish(struct packing *p)
{
    if (p->values)
        sys(munmap, p->values, XATTR_MOST);
    if (p->keys)
        sys(munmap, p->keys, XATTR_MOST);
    struct pile *piles[] = {&p->levels, &p->names, &p->order, &p->xattrs};
    for (size_t i = 0; i < LENGTH(piles); i++)
        pile_drop(piles[i]);
    mirror_close(p);
    tar_writer_close(&p->out);
    first_names_drop(&p->firsts);
    sys(munmap, p, sizeof *p);
}

static int pack(struct packing *p, int fd, int directory, const char *name, const char *as, uint64_t flags,
                char *subject, size_t subject_size)
{
    fd_close int before = (int)sys(openat, AT_FDCWD, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    *subject = 0;
    p->layer = flags & PYLXC_PACK_LAYER;
    p->live = flags & PYLXC_PACK_LIVE;
    int r = before < 0 ? before : tar_writer_open(&p->out, fd, p->live);
    if (r == 0)
        r = start(p);
    if (r == 0)
        r = mirror_open(p);
    if (r == 0 && (r = (int)sys(fchdir, directory)) == 0) {
        r = pack_tree(p, name, as);
        sys(fchdir, before);
    }
    if (r < 0)
        tar_name_subject(p->path, subject, subject_size);
    /* The walk knows it only as -ECANCELED. */
    if (p->copy_error)
        r = p->copy_error;
    finish(p);
    return r;
}

int pack_copy(int fd, int directory, const char *name, const char *as, uint64_t flags, char *subject,
              size_t subject_size)
{
    struct packing *p = memory_take(sizeof *p);
    return p ? pack(p, fd, directory, name, as, flags, subject, subject_size) : -ENOMEM;
}

int pack_tar(int fd, int directory, uint64_t flags, const struct pack_extras *extras, char *subject,
             size_t subject_size)
{
    struct packing *p = memory_take(sizeof *p);
    if (!p)
        return -ENOMEM;
    p->settles = flags & PYLXC_PACK_SETTLE;
    p->silent = flags & PYLXC_PACK_NOTHING;
    p->adopts = flags & PYLXC_PACK_ADOPT;
    p->latest = extras->latest;
    p->names_left_out = extras->names_left_out;
    p->left_out = extras->left_out;
    p->mirror = extras->mirror;
    return pack(p, fd, directory, ".", "", flags, subject, subject_size);
}
