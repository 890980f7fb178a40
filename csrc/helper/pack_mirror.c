/* Makes a copy of a tree while it is packed: hides that it is an unpacking whose entries are handed to it.
 *
 * Invariant: the copy is what unpacking the stream would make. It is made by the same code (unpack.h), of the same
 * headers and records, and each byte of content is read once, for both.
 */
#include "pack.h"
#include "tar_read.h"

/* A failure of the copy must not be taken for something that has gone from the tree. */
static int answer(struct packing *p, int r)
{
    if (r >= 0)
        return 0;
    p->copy_error = r;
    p->mirror->failed = true;
    return -ECANCELED;
}

int mirror_open(struct packing *p)
{
    if (!p->mirror)
        return 0;
    struct unpacking *u = p->copy = memory_take(sizeof *u);
    if (!u)
        return -ENOMEM;
    u->parent_fd = u->made_top = u->open_file = -1;
    u->top = p->mirror->directory;
    u->flags = p->mirror->flags;
    u->handed = true;
    sys(umask, 0);
    return tar_reader_open(&u->reader, -1, 0);
}

void mirror_close(struct packing *p)
{
    struct unpacking *u = p->copy;
    if (!u)
        return;
    fd_close_at_end(&u->open_file);
    fd_close_at_end(&u->parent_fd);
    tar_reader_close(&u->reader);
    pile_drop(&u->late);
    sys(munmap, u, sizeof *u);
}

int mirror_end(struct packing *p)
{
    const char *at = "";
    int r = p->copy ? settle_directories(p->copy, &at) : 0;
    if (r < 0)
        memcpy(p->path, at, strlen(at) + 1);
    return answer(p, r);
}

/* A path of the stream in the form that readers give it. */
static void take_path(char *to, const char *from)
{
    from += tar_starts_with(from, "./") ? 2 : 0;
    size_t n = strlen(from);
    n -= n && from[n - 1] == '/';
    memcpy(to, from, n);
    to[n] = 0;
}

static int take_xattrs(struct packing *p, struct tar_reader *t)
{
    struct pile own = t->extension->raw;
    t->entry.xattrs.used = 0;
    t->entry.xattr_names = 0;
    t->extension->raw = p->out.records;
    int r = pax_apply(t);
    t->extension->raw = own;
    return r;
}

int mirror_entry(struct packing *p, char type, const char *link, uint64_t size, const struct statx *x)
{
    if (!p->copy)
        return 0;
    struct tar_entry *e = &p->copy->reader.entry;
    e->type = type;
    e->mode = x->stx_mode & 07777;
    e->uid = x->stx_uid;
    e->gid = x->stx_gid;
    e->major = x->stx_rdev_major;
    e->minor = x->stx_rdev_minor;
    e->size = size;
    e->seconds = x->stx_mtime.tv_sec;
    e->nanoseconds = x->stx_mtime.tv_nsec;
    take_path(e->path, p->path);
    memcpy(e->link, link, strlen(link) + 1);
    int r = take_xattrs(p, &p->copy->reader);
    return answer(p, r < 0 ? r : unpack_entry(p->copy));
}

int mirror_content(struct packing *p, int fd, uint64_t size)
{
    struct unpacking *u = p->copy;
    p->out.copy = u ? u->open_file : -1;
    int r = put_content(&p->out, fd, size);
    p->out.copy = -1;
    if (r < 0 || !u || u->open_file < 0)
        return p->out.copy_failed ? answer(p, r) : r;
    r = finish_file(u, u->open_file);
    fd_close_at_end(&u->open_file);
    u->open_file = -1;
    return answer(p, r);
}
