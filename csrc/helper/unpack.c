/* Unpacks a tar stream into a tree: hides the bounds that an archive is held to, and what its entries turn into.
 *
 * Invariant: nothing is put anywhere but below the destination, and no archive takes more memory than it may, however
 * it was made. See unpack.h for the parts.
 */
#include "unpack.h"

enum {
    ENTRIES_MOST = 10000000,
    ID_MOST = 0xfffffffe, /* the kernel takes the one above for "leave it" */
};

int unpack_count(struct unpacking *u)
{
    return ++u->entries > ENTRIES_MOST ? -E2BIG : 0;
}

/* Checks what holds for entries of every kind. */
static int check_entry(struct unpacking *u)
{
    const struct tar_entry *e = &u->reader.entry;
    int r = unpack_count(u);
    if (r < 0)
        return r;
    if (!*e->path && e->type != TAR_DIRECTORY)
        return -ENOTDIR;
    if (!(u->flags & (PYLXC_UNPACK_OWNER_ROOT | PYLXC_UNPACK_OWNER_SELF)) &&
        (e->uid < 0 || e->uid > (int64_t)ID_MOST || e->gid < 0 || e->gid > (int64_t)ID_MOST))
        return -EOVERFLOW;
    if (DEFENCE(ARCHIVE_LIMIT, u->limit && e->size > u->limit - u->content, 0))
        return -EFBIG;
    u->content += e->size;
    return 0;
}

int unpack_entry(struct unpacking *u)
{
    const struct tar_entry *e = &u->reader.entry;
    const char *name;
    enum unpack_mark mark = NOT_A_MARK;
    int r = check_entry(u);
    if (r < 0 || (is_layer(u) && (r = read_mark(e->path, &mark)) < 0) || mark == NO_ENTRY)
        return r;
    if (u->flags & PYLXC_UNPACK_NO_DEVICES && (e->type == TAR_CHARACTER || e->type == TAR_BLOCK_DEVICE))
        return 0;
    if (mark == NOT_A_MARK && e->type == TAR_DIRECTORY)
        return unpack_directory(u);
    if (mark == NOT_A_MARK && e->type == TAR_HARD_LINK)
        return unpack_hard_link(u);
    int parent = parent_of(u, e->path, true, &name);
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
    u->parent_fd = u->made_top = u->open_file = -1;
    u->place = place;
    u->flags = flags;
    u->limit = limit;
    long mask = sys(umask, 0);
    int r = tar_reader_open(&u->reader, fd, limit);
    if (r == 0)
        r = set_unsaid_late(u, u->top, "");
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
