/* Files with holes: hides the four forms in which GNU tar writes down where their data belongs.
 *
 * The old form (type "S") has the map in the header and in blocks after it; pax 0.0 has a record per number, 0.1 one
 * for all, and 1.0 has it as text before the data (GNU tar manual, "Storing Sparse Files"). Invariant: a map that is
 * kept goes from the file's beginning to its end, overlaps nowhere, and accounts for every stored byte.
 */
#include "tar_read.h"

enum {
    PIECES_MOST = 1 << 20,
    PIECES_IN_HEADER = 4,
    PIECES_IN_BLOCK = 21,
};

/* The old form: where a ustar header has its prefix, and the blocks that go on. Numbers as in all headers. */
struct old_piece {
    char offset[12], size[12];
};
struct old_header {
    char before[386];
    struct old_piece pieces[PIECES_IN_HEADER];
    char goes_on, real_size[12], after[17];
};
struct old_block {
    struct old_piece pieces[PIECES_IN_BLOCK];
    char goes_on, after[7];
};
_Static_assert(sizeof(struct old_header) == TAR_BLOCK && sizeof(struct old_block) == TAR_BLOCK, "both are one block");

static size_t piece_count(const struct tar_entry *e)
{
    return e->pieces.used / sizeof(struct tar_piece);
}

static struct tar_piece *last_piece(struct tar_entry *e)
{
    return (struct tar_piece *)(void *)(e->pieces.data + e->pieces.used) - 1;
}

static int add_piece(struct tar_entry *e, uint64_t offset, uint64_t size)
{
    struct tar_piece piece = {offset, size};
    return piece_count(e) == PIECES_MOST ? -E2BIG : pile_add(&e->pieces, &piece, sizeof piece);
}

/* Form 0.1: "offset,size,offset,size,...". */
static int read_map_record(struct tar_entry *e, const char *value, size_t size)
{
    e->pieces.used = 0;
    for (const char *at = value, *end = value + size; at < end;) {
        uint64_t numbers[2];
        for (size_t i = 0; i < 2; i++) {
            const char *comma = at < end ? memchr(at, ',', (size_t)(end - at)) : NULL;
            int r = pax_number(at, (size_t)((comma ? comma : end) - at), &numbers[i]);
            if (r < 0)
                return r;
            if (comma ? comma + 1 == end : i == 0)
                return -EBADMSG;
            at = comma ? comma + 1 : end;
        }
        int r = add_piece(e, numbers[0], numbers[1]);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Form 0.0: each "numbytes" completes the "offset" before it. A piece without its size has one that no file can have.
 */
static int read_pair_record(struct tar_entry *e, bool offset, const char *value, size_t size)
{
    uint64_t number;
    int r = pax_number(value, size, &number);
    if (r < 0)
        return r;
    bool open = piece_count(e) && last_piece(e)->size == UINT64_MAX;
    if (open == offset)
        return -EBADMSG;
    if (offset)
        return add_piece(e, number, UINT64_MAX);
    last_piece(e)->size = number;
    return 0;
}

int sparse_record(struct tar_reader *t, const char *key, size_t n, const char *value, size_t size)
{
    struct tar_extension *x = t->extension;
    x->has |= HAS_SPARSE;
    if (is_keyword(key, n, "map"))
        return read_map_record(&t->entry, value, size);
    if (is_keyword(key, n, "offset") || is_keyword(key, n, "numbytes"))
        return read_pair_record(&t->entry, *key == 'o', value, size);
    if (is_keyword(key, n, "name")) {
        x->has |= HAS_SPARSE_NAME | HAS_PATH;
        x->gnu &= ~(unsigned)HAS_PATH;
        return tar_set_string(x->path, value, size);
    }
    const struct {
        const char *name;
        unsigned bit;
        uint64_t *number;
    } numbers[] = {{"size", HAS_SPARSE_SIZE, &x->sparse_size},
                   {"realsize", HAS_SPARSE_SIZE, &x->sparse_size},
                   {"numblocks", HAS_SPARSE_COUNT, &x->sparse_count},
                   {"major", HAS_SPARSE_MAJOR, &x->sparse_major},
                   {"minor", HAS_SPARSE_MINOR, &x->sparse_minor}};
    for (size_t i = 0; i < LENGTH(numbers); i++)
        if (is_keyword(key, n, numbers[i].name)) {
            x->has |= numbers[i].bit;
            return pax_number(value, size, numbers[i].number);
        }
    return -EOPNOTSUPP;
}

/* A line of form 1.0's map. */
static int read_line(struct tar_reader *t, uint64_t *ret)
{
    char digits[24];
    for (size_t n = 0; n < sizeof digits; n++) {
        int r = tar_byte(t, &digits[n]);
        if (r < 0)
            return r;
        if (digits[n] == '\n')
            return pax_number(digits, n, ret);
    }
    return -EBADMSG;
}

/* Form 1.0: the number of pieces, then two lines for each, filled up to a block. */
static int read_map_lines(struct tar_reader *t)
{
    uint64_t before = t->content, count;
    int r = read_line(t, &count);
    if (r < 0)
        return r;
    if (count > PIECES_MOST)
        return -E2BIG;
    t->entry.pieces.used = 0;
    while (count--) {
        uint64_t offset, size;
        if ((r = read_line(t, &offset)) < 0 || (r = read_line(t, &size)) < 0 ||
            (r = add_piece(&t->entry, offset, size)) < 0)
            return r;
    }
    uint64_t rest = tar_padding(before - t->content);
    if (rest > t->content)
        return -EBADMSG;
    t->content -= rest;
    return tar_skip(t, rest);
}

/* Some pieces of the old form; an empty one says that no more come. */
static int read_old_pieces(struct tar_entry *e, const struct old_piece *pieces, size_t n, bool *ret_ended)
{
    for (size_t i = 0; i < n && !*ret_ended; i++) {
        int64_t offset, size;
        *ret_ended = !*pieces[i].size;
        if (*ret_ended)
            continue;
        int r = READ(pieces[i].offset, &offset);
        if (r < 0 || (r = READ(pieces[i].size, &size)) < 0)
            return r;
        if (offset < 0 || size < 0)
            return -EBADMSG;
        if ((r = add_piece(e, (uint64_t)offset, (uint64_t)size)) < 0)
            return r;
    }
    return 0;
}

static int read_old_map(struct tar_reader *t, const struct tar_header *header)
{
    const struct old_header *h = (const void *)header;
    int64_t real_size;
    bool ended = false, goes_on = h->goes_on;
    int r = READ(h->real_size, &real_size);
    if (r < 0 || (r = read_old_pieces(&t->entry, h->pieces, PIECES_IN_HEADER, &ended)) < 0)
        return r;
    while (goes_on) {
        const char *block;
        if ((r = tar_block(t, &block)) < 0)
            return r;
        if (!block || ended)
            return -EBADMSG;
        const struct old_block *more = (const void *)block;
        if ((r = read_old_pieces(&t->entry, more->pieces, PIECES_IN_BLOCK, &ended)) < 0)
            return r;
        goes_on = more->goes_on;
    }
    t->entry.size = (uint64_t)real_size;
    return real_size < 0 ? -EBADMSG : 0;
}

/* The map that records gave or promised. */
static int read_pax_map(struct tar_reader *t)
{
    const struct tar_extension *x = t->extension;
    uint64_t major = x->has & HAS_SPARSE_MAJOR ? x->sparse_major : 0;
    if (major > 1 || (major == 1 && !(x->has & HAS_SPARSE_MINOR && x->sparse_minor == 0)))
        return -EOPNOTSUPP;
    if (!(x->has & HAS_SPARSE_SIZE))
        return -EBADMSG;
    t->entry.size = x->sparse_size;
    if (major == 1)
        return read_map_lines(t);
    return x->has & HAS_SPARSE_COUNT && x->sparse_count != piece_count(&t->entry) ? -EBADMSG : 0;
}

static int check_map(const struct tar_entry *e, uint64_t stored)
{
    const struct tar_piece *pieces = (const void *)e->pieces.data;
    uint64_t end = 0;
    for (size_t i = 0; i < piece_count(e); i++) {
        if (pieces[i].offset < end || pieces[i].offset > e->size || pieces[i].size > e->size - pieces[i].offset ||
            pieces[i].size > stored)
            return -EBADMSG;
        end = pieces[i].offset + pieces[i].size;
        stored -= pieces[i].size;
    }
    return stored ? -EBADMSG : 0;
}

int sparse_map(struct tar_reader *t, const struct tar_header *header)
{
    bool records = t->extension->has & HAS_SPARSE;
    if (records && header->type == TAR_GNU_SPARSE)
        return -EBADMSG;
    t->entry.sparse = true;
    t->piece = t->piece_done = 0;
    int r = records ? read_pax_map(t) : read_old_map(t, header);
    return r < 0 ? r : check_map(&t->entry, t->content);
}

int tar_piece_content(struct tar_reader *t, const char **ret, size_t *ret_size, uint64_t *ret_offset)
{
    const struct tar_piece *pieces = (const void *)t->entry.pieces.data;
    for (; t->piece < piece_count(&t->entry) && t->piece_done == pieces[t->piece].size; t->piece++)
        t->piece_done = 0;
    *ret_size = 0;
    if (t->piece == piece_count(&t->entry))
        return 0;
    *ret_offset = pieces[t->piece].offset + t->piece_done;
    int r = tar_content(t, pieces[t->piece].size - t->piece_done, ret, ret_size);
    t->piece_done += *ret_size;
    return r;
}
