/* Packs a tree into a tar stream: hides in which order and form a tree is written down, so that one tree has one
 * stream.
 *
 * Invariants. Depth first, a directory before what it holds, names in byte order; nothing of the machine is written (no
 * user names, no inode numbers, no times of reading). At most three descriptors are open at any depth: the current
 * directory is the one being read, and the way back is "..", checked against what was remembered.
 */
#include "../pylxc.h"
#include "tar.h"
#include <asm/statfs.h>

enum {
    XATTR_MOST = 1 << 16, /* XATTR_SIZE_MAX and XATTR_LIST_MAX, <linux/limits.h> */
    LISTING_CHUNK = 1 << 15,
    SLOTS_FIRST = 1 << 10,
};
#define OCTAL7 07777777ULL
#define OCTAL11 077777777777ULL

/* A directory on the way: its names are in packing.names, the offsets of what is left of them in packing.order. */
struct level {
    uint64_t inode;
    uint32_t device_major, device_minor;
    size_t names, order, next; /* where its part of both piles begins; the next offset to be used */
    size_t path_length;        /* of the directory's own path, with "/" */
};

/* The first name of a file that has several. */
struct first_name {
    uint64_t inode;
    uint32_t device_major, device_minor;
    size_t path; /* offset in packing.first_paths, plus 1; 0 = the slot is free */
};

struct packing {
    int out;
    bool layer, live, named;     /* named: the stream's root has a name, which all others begin with */
    char *chunk, *values, *keys; /* TAR_CHUNK bytes to be written; XATTR_MOST bytes each */
    size_t used;
    char path[TAR_PATH_SIZE], link[TAR_PATH_SIZE];
    size_t path_length;
    struct pile levels, names, order, records, xattrs, first_paths, slots;
    size_t slot_count, slots_used;
};

static int flush(struct packing *p)
{
    int r = write_all(p->out, p->chunk, p->used);
    p->used = 0;
    return r;
}

static int put(struct packing *p, const void *data, size_t size)
{
    const char *from = data;
    while (size) {
        size_t n = MINIMUM(size, TAR_CHUNK - p->used);
        memcpy(p->chunk + p->used, from, n);
        p->used += n;
        from += n;
        size -= n;
        int r = p->used == TAR_CHUNK ? flush(p) : 0;
        if (r < 0)
            return r;
    }
    return 0;
}

static int put_padding(struct packing *p, uint64_t size)
{
    static const char zeros[TAR_BLOCK];
    return put(p, zeros, tar_padding(size));
}

static void write_octal(char *field, size_t n, uint64_t number)
{
    field[--n] = 0;
    for (; n; number >>= 3)
        field[--n] = (char)('0' + (number & 7));
}
#define OCTAL(field, number) write_octal(field, sizeof(field), number)

static void write_checksum(struct tar_header *h)
{
    uint32_t sum;
    int32_t unused;
    tar_checksum(h, &sum, &unused);
    write_octal(h->checksum, sizeof h->checksum - 1, sum);
    h->checksum[sizeof h->checksum - 1] = ' ';
}

static void write_magic(struct tar_header *h)
{
    memcpy(h->magic, "ustar", sizeof h->magic);
    memcpy(h->version, "00", sizeof h->version);
}

/* Adds "length key=value\n" to the records; the length counts its own digits. */
static int add_record(struct packing *p, const char *prefix, const char *key, const char *value, size_t size)
{
    size_t rest = 1 + strlen(prefix) + strlen(key) + 1 + size + 1, digits = 1;
    for (size_t most = 10; rest + digits >= most; most *= 10)
        digits++;
    TEXT(length, 24);
    text_number(&length, (int64_t)(rest + digits));
    text_add(&length, " ");
    if (p->records.used + rest + digits > TAR_EXTENSION_MOST)
        return -E2BIG;
    int r;
    if ((r = pile_add(&p->records, length.data, length.length)) < 0 ||
        (r = pile_add(&p->records, prefix, strlen(prefix))) < 0 || (r = pile_add(&p->records, key, strlen(key))) < 0 ||
        (r = pile_add(&p->records, "=", 1)) < 0 || (r = pile_add(&p->records, value, size)) < 0)
        return r;
    return pile_add(&p->records, "\n", 1);
}

static int add_number(struct packing *p, const char *key, uint64_t number)
{
    TEXT(text, 24);
    text_number(&text, (int64_t)number);
    return add_record(p, "", key, text.data, text.length);
}

/* Always with nine digits, so that one time has one form. */
static int add_time(struct packing *p, int64_t seconds, uint32_t nanoseconds)
{
    TEXT(text, 40);
    if (seconds < 0) {
        text_add(&text, "-");
        seconds = -(seconds + (nanoseconds != 0));
        nanoseconds = nanoseconds ? 1000000000 - nanoseconds : 0;
    }
    text_number(&text, seconds);
    if (nanoseconds) {
        text_add(&text, ".");
        text_padded(&text, nanoseconds, 9);
    }
    return add_record(p, "", "mtime", text.data, text.length);
}

/* Writes the records as an extended header for the entry that follows. */
static int put_records(struct packing *p)
{
    if (!p->records.used)
        return 0;
    struct tar_header h = {.type = TAR_PAX};
    const char name[] = "PaxHeaders/entry"; /* only seen by programs that do not know pax */
    memcpy(h.name, name, sizeof name);
    OCTAL(h.mode, 0644);
    OCTAL(h.uid, 0);
    OCTAL(h.gid, 0);
    OCTAL(h.size, p->records.used);
    OCTAL(h.mtime, 0);
    write_magic(&h);
    write_checksum(&h);
    int r = put(p, &h, sizeof h);
    if (r < 0 || (r = put(p, p->records.data, p->records.used)) < 0)
        return r;
    r = put_padding(p, p->records.used);
    p->records.used = 0;
    return r;
}

/* The path into name and prefix; false when it needs a record. */
static bool write_path(struct tar_header *h, const char *path)
{
    size_t n = strlen(path);
    if (n <= sizeof h->name) {
        memcpy(h->name, path, n);
        return true;
    }
    /* The first "/" that leaves little enough for the name, and something: a directory's last "/" does not part. */
    for (size_t cut = n - sizeof h->name - 1; cut <= sizeof h->prefix && cut + 1 < n; cut++)
        if (path[cut] == '/' && cut) {
            memcpy(h->prefix, path, cut);
            memcpy(h->name, path + cut + 1, n - cut - 1);
            return true;
        }
    memcpy(h->name, path, sizeof h->name);
    return false;
}

/* Writes an entry's header, after records for what does not fit into it. `x` gives all but path, type, link and size.
 */
static int put_header(struct packing *p, char type, const char *path, const char *link, uint64_t size,
                      const struct statx *x)
{
    struct tar_header h = {.type = type};
    int64_t seconds = x->stx_mtime.tv_sec;
    bool short_path = write_path(&h, path), short_link = strlen(link) <= sizeof h.link;
    bool plain_time = seconds >= 0 && seconds <= (int64_t)OCTAL11;
    int r = 0;
    /* In the order of their keywords; attributes, in capitals, are there already. */
    if (x->stx_gid > OCTAL7)
        r = add_number(p, "gid", x->stx_gid);
    if (r == 0 && !short_link)
        r = add_record(p, "", "linkpath", link, strlen(link));
    if (r == 0 && (!plain_time || x->stx_mtime.tv_nsec))
        r = add_time(p, seconds, x->stx_mtime.tv_nsec);
    if (r == 0 && !short_path)
        r = add_record(p, "", "path", path, strlen(path));
    if (r == 0 && size > OCTAL11)
        r = add_number(p, "size", size);
    if (r == 0 && x->stx_uid > OCTAL7)
        r = add_number(p, "uid", x->stx_uid);
    if (r < 0 || (r = put_records(p)) < 0)
        return r;
    memcpy(h.link, link, MINIMUM(strlen(link), sizeof h.link));
    OCTAL(h.mode, x->stx_mode & 07777);
    OCTAL(h.uid, x->stx_uid > OCTAL7 ? 0 : x->stx_uid);
    OCTAL(h.gid, x->stx_gid > OCTAL7 ? 0 : x->stx_gid);
    OCTAL(h.size, size > OCTAL11 ? 0 : size);
    OCTAL(h.mtime, plain_time ? (uint64_t)seconds : 0);
    bool device = type == TAR_CHARACTER || type == TAR_BLOCK_DEVICE;
    OCTAL(h.major, device ? x->stx_rdev_major : 0);
    OCTAL(h.minor, device ? x->stx_rdev_minor : 0);
    write_magic(&h);
    write_checksum(&h);
    return put(p, &h, sizeof h);
}

/* Moves the element at `root` down to its place in a heap of n names. */
static void sift(size_t *order, const char *names, size_t root, size_t n)
{
    for (size_t child; (child = 2 * root + 1) < n; root = child) {
        if (child + 1 < n && strcmp(names + order[child], names + order[child + 1]) < 0)
            child++;
        if (strcmp(names + order[root], names + order[child]) >= 0)
            return;
        size_t swap = order[root];
        order[root] = order[child];
        order[child] = swap;
    }
}

/* Heapsort: in place, without recursion, and no order of names makes it slow. */
static void sort_names(size_t *order, const char *names, size_t n)
{
    for (size_t i = n / 2; i-- > 0;)
        sift(order, names, i, n);
    while (n-- > 1) {
        size_t largest = order[0];
        order[0] = order[n];
        order[n] = largest;
        sift(order, names, 0, n);
    }
}

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

/* Makes records of the extended attributes of `name` in the current directory. */
static int add_xattrs(struct packing *p, const char *name, bool *ret_opaque)
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
        r = add_record(p, TAR_XATTR, encoded.data, p->values, (size_t)size);
    }
    return r;
}

/* Copies `size` bytes of the open file into the stream; a file with fewer or more than that has changed. A live one may
 * have grown since its header was written: a log does. */
static int put_content(struct packing *p, int fd, uint64_t size)
{
    for (uint64_t left = size;;) {
        /* One more than is expected: a short answer then proves the end, without another read. */
        size_t room = MINIMUM(left + 1, TAR_CHUNK - p->used);
        if (p->live && (room = MINIMUM(left, room)) == 0)
            return put_padding(p, size);
        long n = sys(read, fd, p->chunk + p->used, room);
        if (n == -EINTR)
            continue;
        if (n < 0)
            return (int)n;
        if ((uint64_t)n > left || (n == 0 && left))
            return -EBUSY;
        left -= (uint64_t)n;
        p->used += (size_t)n;
        int r = p->used == TAR_CHUNK ? flush(p) : 0;
        if (r < 0)
            return r;
        if (left == 0 && (size_t)n < room)
            return put_padding(p, size);
    }
}

/* What the answer says of something that was there a moment ago: it was removed, or another thing put in its place. */
static bool has_gone(int r)
{
    return r == -ENOENT || r == -ENOTDIR || r == -ELOOP;
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
    if ((r = put_header(p, TAR_FILE, p->path, "", x.stx_size, &x)) < 0)
        return r;
    return put_content(p, fd, x.stx_size);
}

static int pack_file(struct packing *p, const char *name, const struct statx *x)
{
    if (p->live && x->stx_size)
        return pack_live_file(p, name);
    int r = put_header(p, TAR_FILE, p->path, "", x->stx_size, x);
    if (r < 0 || x->stx_size == 0)
        return r;
    fd_close int fd = (int)sys(openat, AT_FDCWD, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return fd == -ENOENT || fd == -ELOOP ? -EBUSY : fd;
    return put_content(p, fd, x->stx_size);
}

static struct first_name *find_slot(struct packing *p, const struct statx *x)
{
    struct first_name *slots = (struct first_name *)(void *)p->slots.data;
    uint64_t mixed = (x->stx_ino ^ ((uint64_t)x->stx_dev_minor << 40)) * 0x9e3779b97f4a7c15ULL;
    for (size_t i = mixed >> 20;; i++) {
        struct first_name *slot = &slots[i & (p->slot_count - 1)];
        if (!slot->path || (slot->inode == x->stx_ino && slot->device_major == x->stx_dev_major &&
                            slot->device_minor == x->stx_dev_minor))
            return slot;
    }
}

/* Doubles the table of first names when it is half full. */
static int grow_slots(struct packing *p)
{
    if (p->slot_count > 2 * p->slots_used)
        return 0;
    struct pile old = p->slots;
    size_t old_count = p->slot_count, count = old_count ? 2 * old_count : SLOTS_FIRST;
    p->slots = (struct pile){0};
    int r = pile_reserve(&p->slots, count * sizeof(struct first_name));
    if (r < 0) {
        p->slots = old;
        return r;
    }
    p->slot_count = count;
    for (size_t i = 0; i < old_count; i++) {
        const struct first_name *from = (const struct first_name *)(void *)old.data + i;
        struct statx x = {
            .stx_ino = from->inode, .stx_dev_major = from->device_major, .stx_dev_minor = from->device_minor};
        if (from->path)
            *find_slot(p, &x) = *from;
    }
    pile_drop(&old);
    return 0;
}

/* The path under which this file was packed already, or NULL: then it is remembered under the current one. */
static int first_name(struct packing *p, const struct statx *x, const char **ret)
{
    *ret = NULL;
    if (x->stx_nlink < 2)
        return 0;
    int r = grow_slots(p);
    if (r < 0)
        return r;
    struct first_name *slot = find_slot(p, x);
    if (slot->path) {
        *ret = p->first_paths.data + slot->path - 1;
        return 0;
    }
    struct first_name new = {x->stx_ino, x->stx_dev_major, x->stx_dev_minor, p->first_paths.used + 1};
    if ((r = pile_add(&p->first_paths, p->path, p->path_length + 1)) < 0)
        return r;
    *slot = new;
    p->slots_used++;
    return 0;
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
        r = put_header(p, TAR_FILE, p->path, "", 0, &nothing);
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
    if (r < 0 || (r = add_xattrs(p, name, &opaque)) < 0 || (r = put_header(p, TAR_DIRECTORY, p->path, "", 0, x)) < 0)
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
    return put_header(p, type, p->path, p->link, 0, x);
}

/* Leaves an entry out, of which nothing has been written yet. */
static int leave_out(struct packing *p, size_t path_length)
{
    p->records.used = 0;
    path_cut(p, path_length);
    return 0;
}

/* Packs what is called `name` in the current directory, as `as`. */
static int pack_entry(struct packing *p, const char *name, const char *as)
{
    struct statx x;
    const char *first;
    bool opaque;
    int r = (int)tar_statx(AT_FDCWD, name, &x);
    if (r < 0)
        return r != -ENOENT ? r : p->live && p->levels.used ? 0 : -EBUSY;
    uint16_t kind = x.stx_mode & S_IFMT;
    if (p->layer && kind == S_IFCHR && x.stx_rdev_major == 0 && x.stx_rdev_minor == 0)
        return put_mark(p, WHITEOUT, name);
    size_t before = p->path_length;
    if ((r = path_add(p, as)) < 0)
        return r;
    if (p->layer && tar_starts_with(name, WHITEOUT))
        return -EINVAL;
    if (kind == S_IFDIR) {
        r = pack_directory(p, name, &x);
        return p->live && p->levels.used && has_gone(r) ? leave_out(p, before) : r;
    }
    if (kind != S_IFREG && !special_type(x.stx_mode)) {
        path_cut(p, before);
        return 0;
    }
    if ((r = first_name(p, &x, &first)) < 0)
        return r;
    if (first)
        r = put_header(p, TAR_HARD_LINK, p->path, first, 0, &x);
    else if ((r = add_xattrs(p, name, &opaque)) == 0)
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
    static const char end[2 * TAR_BLOCK];
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
    if (r < 0 || (r = put(p, end, sizeof end)) < 0)
        return r;
    return flush(p);
}

static int start(struct packing *p)
{
    p->chunk = memory_take(TAR_CHUNK);
    p->values = memory_take(XATTR_MOST);
    p->keys = memory_take(XATTR_MOST);
    return p->chunk && p->values && p->keys ? 0 : -ENOMEM;
}

static void finish(struct packing *p)
{
    if (p->chunk)
        sys(munmap, p->chunk, TAR_CHUNK);
    if (p->values)
        sys(munmap, p->values, XATTR_MOST);
    if (p->keys)
        sys(munmap, p->keys, XATTR_MOST);
    struct pile *piles[] = {&p->levels, &p->names, &p->order, &p->records, &p->xattrs, &p->first_paths, &p->slots};
    for (size_t i = 0; i < LENGTH(piles); i++)
        pile_drop(piles[i]);
    sys(munmap, p, sizeof *p);
}

int pack_copy(int fd, int directory, const char *name, const char *as, uint64_t flags, char *subject,
              size_t subject_size)
{
    struct packing *p = memory_take(sizeof *p);
    fd_close int before = (int)sys(openat, AT_FDCWD, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    *subject = 0;
    if (!p)
        return -ENOMEM;
    p->out = fd;
    p->layer = flags & PYLXC_PACK_LAYER;
    p->live = flags & PYLXC_PACK_LIVE;
    /* Fewer, larger writes; that this fails on a file, or above an unprivileged limit, is well. */
    sys(fcntl, fd, F_SETPIPE_SZ, TAR_CHUNK);
    int r = before < 0 ? before : start(p);
    if (r == 0 && (r = (int)sys(fchdir, directory)) == 0) {
        r = pack_tree(p, name, as);
        sys(fchdir, before);
    }
    if (r < 0)
        tar_name_subject(p->path, subject, subject_size);
    finish(p);
    return r;
}

int pack_tar(int fd, int directory, uint64_t flags, char *subject, size_t subject_size)
{
    return pack_copy(fd, directory, ".", "", flags, subject, subject_size);
}
