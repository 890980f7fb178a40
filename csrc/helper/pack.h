/* What the files that turn a tree into a stream share.
 *
 *   pack.c         the walk: which entries there are, in which order
 *   pack_sort.c    the order of names
 *   pack_links.c   files with several names
 *   pack_adopt.c   what a tree may not have that is to be the layer itself
 *   pack_xattrs.c  extended attributes
 *   pack_mirror.c  a copy of the tree, made on the way
 *   tar_write.c    the stream
 */
#ifndef PYLXC_PACK_H
#define PYLXC_PACK_H
#include "../pylxc.h"
#include "tar_write.h"
#include "unpack.h"

enum { XATTR_MOST = 1 << 16 /* XATTR_SIZE_MAX and XATTR_LIST_MAX, <linux/limits.h> */ };

/* The first names of files that have several: a table of places in `paths`. Zeros to begin with. */
struct first_names {
    struct pile paths, slots;
    size_t slot_count, slots_used;
};

struct packing {
    struct tar_writer out;
    bool layer, live, named; /* named: the stream's root has a name, which all others begin with */
    bool settles;            /* what is later than `latest` (s since the epoch) gets that time, in the tree too */
    bool silent;             /* nothing is written */
    bool adopts;             /* the tree itself is to be what unpacking the stream would make */
    int64_t latest;
    unsigned names_left_out; /* as in struct pack_extras */
    const char *left_out;
    struct pack_mirror *mirror; /* as there */
    struct unpacking *copy;     /* what makes it; NULL: nothing does */
    int copy_error;             /* what went wrong there, which the walk knows as -ECANCELED */
    char *values, *keys;        /* XATTR_MOST bytes each */
    char path[TAR_PATH_SIZE], link[TAR_PATH_SIZE];
    size_t path_length;
    struct pile levels, names, order, xattrs;
    struct first_names firsts;
};

/* All: 0 or a negative errno. */

/* Puts n offsets of names into the names' byte order. */
void sort_names(size_t *order, const char *names, size_t n);
/* Makes records of the extended attributes of `name` in the current directory; *ret_opaque says whether overlayfs hides
 * what lower layers have in it. */
int add_xattrs(struct packing *p, const char *name, bool *ret_opaque);
/* Makes a record of the capabilities of the file `name` in the current directory, if it has any. */
int add_capability(struct packing *p, const char *name);
/* The path under which a file was seen before, good until the next call, or NULL: then it is remembered under `path`.
 */
int first_name(struct first_names *f, const struct statx *x, const char *path, const char **ret);
/* -EMLINK when a file that was seen has further names, which were not. */
int all_names_seen(const struct first_names *f);
void first_names_drop(struct first_names *f);

/* -EOPNOTSUPP when an entry is nothing that unpacking makes, -EPERM when it has what no header says. */
int check_adopted(const struct statx *x);
/* Takes an attribute of overlayfs's off `name`; a layer has but one, that of a directory which hides what is below:
 * `opaque` says that the attribute, where it is that one, has the value which means so. */
int strip_adopted(const char *name, const char *key, bool opaque);

/* Begins and ends the copy. */
int mirror_open(struct packing *p);
int mirror_end(struct packing *p);
void mirror_close(struct packing *p);
/* Makes the entry in the copy whose header comes next; its attributes' records are there already. */
int mirror_entry(struct packing *p, char type, const char *link, uint64_t size, const struct statx *x);
/* The same for a file's content, which is both the stream's and the copy's. */
int mirror_content(struct packing *p, int fd, uint64_t size);
#endif
