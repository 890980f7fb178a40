/* What the files that read a tar stream share: tar_read.c the blocks and headers, pax.c the records of extended
 * headers, sparse.c the maps of files with holes.
 */
#ifndef PYLXC_TAR_READ_H
#define PYLXC_TAR_READ_H
#include "tar.h"

enum {
    HAS_PATH = 1 << 0,
    HAS_LINK = 1 << 1,
    HAS_SIZE = 1 << 2,
    HAS_UID = 1 << 3,
    HAS_GID = 1 << 4,
    HAS_TIME = 1 << 5,
    HAS_MAJOR = 1 << 6,
    HAS_MINOR = 1 << 7,
    HAS_SPARSE = 1 << 8,       /* any record of a sparse file; those that follow say which */
    HAS_SPARSE_NAME = 1 << 9,  /* `path` is the file's own name: "path" records name what is stored instead of it */
    HAS_SPARSE_SIZE = 1 << 10, /* the file's size, holes included */
    HAS_SPARSE_COUNT = 1 << 11,
    HAS_SPARSE_MAJOR = 1 << 12,
    HAS_SPARSE_MINOR = 1 << 13,
    HAS_ANY = 1 << 14,
};

/* What extended headers said about the entry that follows them. */
struct tar_extension {
    unsigned has, gnu; /* HAS_*; in `gnu`, those that an older GNU header gave, which a pax record overrides */
    uint64_t size, uid, gid, major, minor;
    uint64_t sparse_size, sparse_count, sparse_major, sparse_minor;
    int64_t seconds;
    uint32_t nanoseconds;
    char path[TAR_PATH_SIZE], link[TAR_PATH_SIZE];
    struct pile raw; /* the extended header that is being read */
};

/* All: 0 or a negative errno. */

/* A header's number: octal digits, or GNU's base-256. */
int tar_read_number(const char *field, size_t n, int64_t *ret);
#define READ(field, ret) tar_read_number(field, sizeof(field), ret)
/* The next block, good until the next call; NULL at the end of the file. A part of a block is an error. */
int tar_block(struct tar_reader *reader, const char **ret);
/* The next byte of the current entry's content. */
int tar_byte(struct tar_reader *reader, char *ret);
/* Passes over some of what comes, content or not. */
int tar_skip(struct tar_reader *reader, uint64_t size);

/* A string of n bytes into a path's buffer. */
int tar_set_string(char *to, const char *from, size_t n);
/* The records of the extended header that lies in extension->raw. */
int pax_apply(struct tar_reader *reader);
/* The number that a record gives, which is not negative. */
int pax_number(const char *value, size_t size, uint64_t *ret);

static inline bool is_keyword(const char *key, size_t n, const char *name)
{
    return n == strlen(name) && memcmp(key, name, n) == 0;
}

/* One record whose keyword begins with "GNU.sparse."; `key` is the rest. */
int sparse_record(struct tar_reader *reader, const char *key, size_t n, const char *value, size_t size);
/* The map of an entry whose header is `header` (of type TAR_GNU_SPARSE, or with such records), whose stored size is
 * reader->content: entry.pieces and the entry's true size. Reads what of the map comes after the header. */
int sparse_map(struct tar_reader *reader, const struct tar_header *header);
#endif
