/* A tar stream that is being written: what pack.c calls, tar_write.c does. */
#ifndef PYLXC_TAR_WRITE_H
#define PYLXC_TAR_WRITE_H
#include "tar.h"

struct tar_writer {
    int out;
    bool live;   /* a file may grow while it is written */
    char *chunk; /* TAR_CHUNK bytes, of which `used` are still to be written */
    size_t used;
    int copy;            /* content is written here, too; -1: nowhere */
    bool copy_failed;    /* the last failure was that file's */
    struct pile records; /* for the entry whose header comes next */
};

/* All: 0 or a negative errno. */
int tar_writer_open(struct tar_writer *writer, int fd, bool live);
void tar_writer_close(struct tar_writer *writer);
/* A record for the entry that comes next. Its keywords must come in order. */
int add_record(struct tar_writer *w, const char *prefix, const char *key, const char *value, size_t size);
/* An entry's header, after records for what does not fit into it. `x` gives all but path, type, link and size. */
int put_header(struct tar_writer *w, char type, const char *path, const char *link, uint64_t size,
               const struct statx *x);
/* The entry's content: `size` bytes of an open file. -EBUSY if it has fewer, or, unless the writer is live, more. */
int put_content(struct tar_writer *w, int fd, uint64_t size);
/* The end mark. */
int put_end(struct tar_writer *w);
#endif
