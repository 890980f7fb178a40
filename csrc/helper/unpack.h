/* What the files that turn entries into a tree share: one unpacking under way.
 *
 *   unpack.c             the stream's entries, one after the other, and the bounds they are held to
 *   unpack_place.c       where an entry goes: directories opened, and made where they are missing
 *   unpack_entry.c       files, links, devices and directories made there
 *   unpack_attributes.c  owners, rights, times, extended attributes
 *   unpack_whiteout.c    what a layer says of the layers below it
 *   unpack_late.c        what directories get when all else is done
 */
#ifndef PYLXC_UNPACK_H
#define PYLXC_UNPACK_H
#include "../pylxc.h"
#include "tar.h"

struct unpacking {
    struct tar_reader reader;
    int top, parent_fd; /* the destination; the directory last resolved, which `parent` names */
    int made_top;       /* the destination, if it was opened here */
    char parent[TAR_PATH_SIZE];
    bool parent_known;
    const struct unpack_place *place; /* of a copy; else NULL */
    bool fresh_top;                   /* the destination was made for this copy */
    bool hidden; /* what lower layers have where the entry is put is gone already, and must not show through it */
    uint64_t flags, limit, content, entries;
    struct pile late;
    bool handed;   /* entries are not read from a stream, but handed over (pack_mirror.c): */
    int open_file; /* a file whose content is still to be written, then; -1: none */
};

static inline bool is_layer(const struct unpacking *u)
{
    return u->flags & PYLXC_UNPACK_LAYER;
}

static inline bool is_whiteout(const struct statx *x)
{
    return (x->stx_mode & S_IFMT) == S_IFCHR && x->stx_rdev_major == 0 && x->stx_rdev_minor == 0;
}

/* A path has been replaced: what it leads to may be another directory now. */
static inline void forget_parent(struct unpacking *u)
{
    u->parent_known = false;
}

/* All: 0 (or a descriptor) or a negative errno. */

/* Counts something that is made, with an entry of its own or without. */
int unpack_count(struct unpacking *u);

/* The directory at `path` below the destination, following symlinks or not. A layer is a root: its symlinks end there.
 */
int open_below(const struct unpacking *u, const char *path, uint64_t more);
/* The directory that holds `path`, kept open for its neighbours; *ret_name is the last component. */
int parent_of(struct unpacking *u, const char *path, bool make, const char **ret_name);

/* Makes the reader's current entry. */
int unpack_entry(struct unpacking *u);
int unpack_file(struct unpacking *u, int parent, const char *name);
/* What a file gets when its content is there. */
int finish_file(struct unpacking *u, int fd);
/* Symlinks, devices and FIFOs. */
int unpack_special(struct unpacking *u, int parent, const char *name);
int unpack_hard_link(struct unpacking *u);
int unpack_directory(struct unpacking *u);

/* The current entry's owner, on an open file or on `name` in a directory. */
int set_owner(const struct unpacking *u, int fd, const char *name);
/* Its extended attributes, on an open file or directory; a directory's default ACL comes late. */
int set_xattrs(const struct unpacking *u, int fd);
/* The same on `name` in a directory. */
int set_xattrs_at(const struct unpacking *u, int parent, const char *name);
/* Its permission bits. */
uint32_t permissions(const struct unpacking *u);

enum unpack_mark { NOT_A_MARK, A_MARK, NO_ENTRY };
/* Whether the path's last component is a whiteout. */
int read_mark(const char *path, enum unpack_mark *ret);
int unpack_whiteout(int parent, const char *name);
/* Hides what lower layers have in an open directory. */
int make_opaque(int fd);

/* Notes an open directory's mode, time and default ACL, for when nothing is put into it any more. */
int set_late(struct unpacking *u, int fd);
/* The same of one that is made though no entry names it, so far: in a layer it has no time of its own, and gets 0. */
int set_unsaid_late(struct unpacking *u, int fd, const char *path);
/* Sets them. *ret_subject is the directory that it failed on. */
int settle_directories(struct unpacking *u, const char **ret_subject);
#endif
