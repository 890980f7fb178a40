/* Reads a tar stream, entry by entry: hides its blocks, and the forms in which headers give names and numbers.
 *
 * Every byte is taken for hostile: no length is believed before it is checked, nothing grows beyond a bound, and what
 * is ambiguous is refused. Forms: POSIX.1-2017 pax, "pax Interchange Format"; GNU tar manual, "Basic Tar Format".
 */
#include "tar_read.h"

int tar_reader_open(struct tar_reader *reader, int fd, uint64_t extended_most)
{
    *reader = (struct tar_reader){.fd = fd, .extended_most = extended_most};
    reader->chunk = memory_take(TAR_CHUNK);
    reader->extension = memory_take(sizeof *reader->extension);
    if (!reader->chunk || !reader->extension)
        return -ENOMEM;
    /* Fewer, larger reads; a file answers EBADF and an unprivileged limit EPERM, and either is well. */
    sys(fcntl, fd, F_SETPIPE_SZ, TAR_CHUNK);
    return 0;
}

void tar_reader_close(struct tar_reader *reader)
{
    if (reader->chunk)
        sys(munmap, reader->chunk, TAR_CHUNK);
    if (reader->extension) {
        pile_drop(&reader->extension->raw);
        sys(munmap, reader->extension, sizeof *reader->extension);
    }
    pile_drop(&reader->entry.xattrs);
    pile_drop(&reader->entry.pieces);
    reader->chunk = NULL;
    reader->extension = NULL;
}

/* Adds what one read gives to the chunk. */
static int fill(struct tar_reader *t)
{
    if (t->start == t->end) {
        t->start = t->end = 0;
    } else if (t->end == TAR_CHUNK) {
        memmove(t->chunk, t->chunk + t->start, t->end - t->start);
        t->end -= t->start;
        t->start = 0;
    }
    long n;
    do
        n = sys(read, t->fd, t->chunk + t->end, TAR_CHUNK - t->end);
    while (n == -EINTR);
    if (n < 0)
        return (int)n;
    t->at_end = n == 0;
    t->end += (size_t)n;
    return 0;
}

int tar_block(struct tar_reader *t, const char **ret)
{
    while (t->end - t->start < TAR_BLOCK && !t->at_end) {
        int r = fill(t);
        if (r < 0)
            return r;
    }
    if (t->end - t->start < TAR_BLOCK) {
        *ret = NULL;
        return t->end == t->start ? 0 : -EBADMSG;
    }
    *ret = t->chunk + t->start;
    t->start += TAR_BLOCK;
    return 0;
}

int tar_skip(struct tar_reader *t, uint64_t size)
{
    while (size) {
        size_t n = MINIMUM(size, t->end - t->start);
        t->start += n;
        size -= n;
        if (!size)
            break;
        if (t->at_end)
            return -EBADMSG;
        int r = fill(t);
        if (r < 0)
            return r;
    }
    return 0;
}

int tar_byte(struct tar_reader *t, char *ret)
{
    const char *data;
    size_t n;
    int r = tar_content(t, 1, &data, &n);
    if (r < 0)
        return r;
    if (n == 0)
        return -EBADMSG;
    *ret = *data;
    return 0;
}

int tar_content(struct tar_reader *t, uint64_t most, const char **ret, size_t *ret_size)
{
    most = MINIMUM(most, t->content);
    if (most && t->start == t->end) {
        int r = fill(t);
        if (r < 0)
            return r;
        if (t->at_end)
            return -EBADMSG;
    }
    *ret = t->chunk + t->start;
    *ret_size = MINIMUM(most, t->end - t->start);
    t->start += *ret_size;
    t->content -= *ret_size;
    return 0;
}

int tar_drain(struct tar_reader *t, uint64_t most)
{
    uint64_t drained = 0;
    while (!t->at_end) {
        t->start = t->end = 0;
        int r = fill(t);
        if (r < 0)
            return r;
        drained += t->end;
        if (most && drained > most && drained > TAR_CHUNK)
            return -EFBIG;
    }
    return 0;
}

/* GNU's base-256: a two's complement number, big endian, whose first byte is marked by its top bit. */
static int read_binary(const unsigned char *field, size_t n, int64_t *ret)
{
    bool negative = field[0] & 0x40;
    uint64_t value = negative ? UINT64_MAX : 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char byte = i ? field[i] : (unsigned char)((field[0] & 0x7f) | (negative ? 0x80 : 0));
        if ((value >> 55) != (negative ? 0x1ff : 0))
            return -EOVERFLOW;
        value = value << 8 | byte;
    }
    *ret = (int64_t)value;
    return 0;
}

/* Octal digits between optional spaces, ended by a space, a NUL or the field's end; nothing at all is 0. */
int tar_read_number(const char *field, size_t n, int64_t *ret)
{
    if (*field & 0x80)
        return read_binary((const unsigned char *)field, n, ret);
    size_t i = 0;
    int64_t value = 0;
    while (i < n && field[i] == ' ')
        i++;
    for (; i < n && field[i] >= '0' && field[i] <= '7'; i++)
        value = value << 3 | (field[i] - '0');
    if (i < n && field[i] != 0 && field[i] != ' ')
        return -EBADMSG;
    *ret = value;
    return 0;
}

/* A string of n bytes into a path's buffer. */
int tar_set_string(char *to, const char *from, size_t n)
{
    size_t fits = MINIMUM(n, (size_t)TAR_PATH_SIZE - 1);
    memcpy(to, from, fits); /* even if refused: the error names it */
    to[fits] = 0;
    if (fits < n)
        return -ENAMETOOLONG;
    return memchr(from, 0, n) ? -EBADMSG : 0;
}

static size_t field_length(const char *field, size_t n)
{
    const char *end = memchr(field, 0, n);
    return end ? (size_t)(end - field) : n;
}

static bool has_dot_dot(const char *path)
{
    for (const char *at = path; at; at = strchr(at, '/') ? strchr(at, '/') + 1 : NULL)
        if (at[0] == '.' && at[1] == '.' && (at[2] == '/' || at[2] == 0))
            return true;
    return false;
}

/* Brings a path into the form of tar_entry.path. ".." is refused rather than resolved: whatever it means, it means
 * something else once a directory on its way is a symlink. */
static int normalise(char *path)
{
    char *to = path;
    if (DEFENCE(DOT_DOT, has_dot_dot(path), 0))
        return -EXDEV;
    for (const char *from = path; *from;) {
        const char *slash = strchr(from, '/');
        size_t n = slash ? (size_t)(slash - from) : strlen(from);
        if (n && !(n == 1 && *from == '.')) {
            if (to != path)
                *to++ = '/';
            memmove(to, from, n);
            to += n;
        }
        from += n + (slash != NULL);
    }
    *to = 0;
    return 0;
}

static int apply_gnu_string(struct tar_extension *x, unsigned bit, char *to)
{
    /* A pax record that came before wins: it is the newer form. */
    if ((x->has & bit) && !(x->gnu & bit))
        return 0;
    x->has |= bit;
    x->gnu |= bit;
    return tar_set_string(to, x->raw.data, field_length(x->raw.data, x->raw.used));
}

/* Reads the content of a header that extends others into extension->raw. */
static int read_raw(struct tar_reader *t, const struct tar_header *header)
{
    struct pile *raw = &t->extension->raw;
    int64_t size;
    int r = READ(header->size, &size);
    if (r < 0)
        return r;
    if (size < 0 || DEFENCE(EXTENSION_SIZE, size > TAR_EXTENSION_MOST, 0))
        return size < 0 ? -EBADMSG : -E2BIG;
    t->extended += TAR_BLOCK + (uint64_t)size;
    if (t->extended_most && t->extended > t->extended_most)
        return -EFBIG;
    raw->used = 0;
    for (t->content = (uint64_t)size; t->content;) {
        const char *data;
        size_t n;
        if ((r = tar_content(t, UINT64_MAX, &data, &n)) < 0 || (r = pile_add(raw, data, n)) < 0)
            return r;
    }
    return tar_skip(t, tar_padding((uint64_t)size));
}

/* Reads and applies a header that extends the next one. One that extends all that follow says nothing here: what it
 * could say of an entry is another archive's, once two were joined. */
static int read_extension(struct tar_reader *t, const struct tar_header *header)
{
    char type = header->type;
    struct tar_extension *x = t->extension;
    int r = read_raw(t, header);
    if (r < 0 || type == TAR_PAX_GLOBAL || x->raw.used == 0)
        return r;
    x->has |= HAS_ANY;
    if (type == TAR_GNU_NAME)
        return apply_gnu_string(x, HAS_PATH, x->path);
    if (type == TAR_GNU_LINK)
        return apply_gnu_string(x, HAS_LINK, x->link);
    return pax_apply(t);
}

static int header_check(const struct tar_header *header)
{
    uint32_t sum;
    int32_t signed_sum;
    int64_t said;
    tar_checksum(header, &sum, &signed_sum);
    /* Some old programs summed signed characters (POSIX.1-2017 asks readers for neither; GNU tar takes both). */
    if (READ(header->checksum, &said) < 0 || (said != (int64_t)sum && said != signed_sum))
        return -EBADMSG;
    return 0;
}

/* The names of an entry. *ret_slash says whether the path was written as a directory's. */
static int read_names(struct tar_reader *t, const struct tar_header *h, bool *ret_slash)
{
    struct tar_entry *e = &t->entry;
    const struct tar_extension *x = t->extension;
    size_t at = 0, n = field_length(h->name, sizeof h->name);
    int r;
    if (x->has & HAS_PATH) {
        memcpy(e->path, x->path, sizeof e->path);
    } else {
        /* Only the POSIX magic says that there is a prefix: GNU's header has times in its place. */
        if (memcmp(h->magic, "ustar", sizeof h->magic) == 0 && h->prefix[0]) {
            at = field_length(h->prefix, sizeof h->prefix);
            memcpy(e->path, h->prefix, at);
            e->path[at++] = '/';
        }
        memcpy(e->path + at, h->name, n);
        e->path[at + n] = 0;
    }
    if (!*e->path)
        return -EBADMSG;
    *ret_slash = e->path[strlen(e->path) - 1] == '/';
    if ((r = normalise(e->path)) < 0)
        return r;
    if (x->has & HAS_LINK)
        memcpy(e->link, x->link, sizeof e->link);
    else if ((r = tar_set_string(e->link, h->link, field_length(h->link, sizeof h->link))) < 0)
        return r;
    return h->type == TAR_HARD_LINK ? normalise(e->link) : 0;
}

static int read_device(struct tar_reader *t, const struct tar_header *h)
{
    struct tar_entry *e = &t->entry;
    const struct tar_extension *x = t->extension;
    int r = READ(h->major, &e->major);
    if (r < 0 || (r = READ(h->minor, &e->minor)) < 0)
        return r;
    if (x->has & HAS_MAJOR)
        e->major = (int64_t)x->major;
    if (x->has & HAS_MINOR)
        e->minor = (int64_t)x->minor;
    return 0;
}

static int read_values(struct tar_reader *t, const struct tar_header *h)
{
    struct tar_entry *e = &t->entry;
    const struct tar_extension *x = t->extension;
    int64_t mode, size;
    int r;
    if ((r = READ(h->mode, &mode)) < 0 || (r = READ(h->uid, &e->uid)) < 0 || (r = READ(h->gid, &e->gid)) < 0 ||
        (r = READ(h->size, &size)) < 0 || (r = READ(h->mtime, &e->seconds)) < 0)
        return r;
    e->mode = (uint32_t)mode & 07777;
    e->nanoseconds = 0;
    if (x->has & HAS_UID)
        e->uid = (int64_t)x->uid;
    if (x->has & HAS_GID)
        e->gid = (int64_t)x->gid;
    if (x->has & HAS_SIZE)
        size = (int64_t)x->size;
    if (x->has & HAS_TIME) {
        e->seconds = x->seconds;
        e->nanoseconds = x->nanoseconds;
    }
    if (size < 0 || size > INT64_MAX - TAR_BLOCK)
        return -EBADMSG;
    e->size = (uint64_t)size;
    e->major = e->minor = 0;
    return h->type == TAR_CHARACTER || h->type == TAR_BLOCK_DEVICE ? read_device(t, h) : 0;
}

static int read_entry(struct tar_reader *t, const struct tar_header *h)
{
    struct tar_entry *e = &t->entry;
    bool slash, sparse = h->type == TAR_GNU_SPARSE || t->extension->has & HAS_SPARSE;
    bool content = h->type == TAR_FILE || h->type == 0 || h->type == TAR_CONTIGUOUS || h->type == TAR_GNU_SPARSE;
    int r = read_names(t, h, &slash);
    if (r < 0)
        return r;
    if (!content && (h->type < TAR_HARD_LINK || h->type > TAR_FIFO))
        return -EOPNOTSUPP;
    if ((r = read_values(t, h)) < 0)
        return r;
    e->type = content ? TAR_FILE : h->type;
    /* v7 had no type for directories. */
    if (content && slash)
        e->type = TAR_DIRECTORY;
    /* Only files have content: in other headers some programs left the size that the file system reported. */
    if (!content)
        e->size = 0;
    t->content = e->size;
    t->padding = tar_padding(e->size);
    if (sparse)
        return e->type == TAR_FILE ? sparse_map(t, h) : -EBADMSG;
    return 0;
}

static bool all_zero(const char *block)
{
    return block[0] == 0 && memcmp(block, block + 1, TAR_BLOCK - 1) == 0;
}

/* After one block of zeros: another one, or the end of the file. */
static int check_end(struct tar_reader *t)
{
    const char *block;
    int r = tar_block(t, &block);
    return r < 0 ? r : !block || all_zero(block) ? 0 : -EBADMSG;
}

int tar_next(struct tar_reader *t, bool *ret_end)
{
    int r = tar_skip(t, t->content + t->padding);
    t->content = t->padding = 0;
    if (r < 0) /* the last entry is the one that is cut off */
        return r;
    t->entry.path[0] = 0;
    t->extension->path[0] = 0;
    t->extension->has = t->extension->gnu = 0;
    t->entry.xattrs.used = t->entry.xattr_names = t->entry.pieces.used = 0;
    t->entry.sparse = false;
    *ret_end = false;
    while (r == 0) {
        const char *block;
        if ((r = tar_block(t, &block)) < 0)
            break;
        if (!block || all_zero(block)) {
            *ret_end = true;
            /* An extended header that extends nothing: something is missing. */
            return t->extension->has ? -EBADMSG : block ? check_end(t) : 0;
        }
        /* A copy: reading what follows it moves the chunk. */
        struct tar_header header;
        memcpy(&header, block, sizeof header);
        if ((r = header_check(&header)) < 0)
            break;
        if (header.type != TAR_PAX && header.type != TAR_PAX_GLOBAL && header.type != TAR_GNU_NAME &&
            header.type != TAR_GNU_LINK)
            return read_entry(t, &header);
        if ((r = read_extension(t, &header)) < 0)
            memcpy(t->entry.path, t->extension->path, sizeof t->entry.path);
    }
    return r;
}
