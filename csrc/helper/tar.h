/* The tar stream: the form of its blocks, and what reads and writes it.
 *
 * tar_read.c (with pax.c and sparse.c) turns a stream into entries and knows nothing of file systems; unpack.c turns
 * entries into a tree; pack.c turns a tree into what tar_write.c makes a stream of. All keep to POSIX.1-2017 pax (ustar
 * headers with extended records); what GNU tar and v7 tar wrote is read as well. unpack.c and pack.c expect "/" to be
 * the only tree that may be touched: the caller has pivoted or chrooted into it.
 */
#ifndef PYLXC_TAR_H
#define PYLXC_TAR_H
#include "pile.h"
#include "sys.h"
#include <stdbool.h>
#ifdef PYLXC_HOSTED
#include <sys/stat.h>
#endif
#include <linux/magic.h>
#include <linux/stat.h>
#include <linux/time_types.h>

/* Unpacks the tar stream `fd` below the directory `destination`. `flags`: PYLXC_UNPACK_*; `limit`: the most bytes of
 * file content, 0 = any number. 0 or a negative errno; on failure `subject` (of `subject_size` bytes) names the entry:
 *   -EBADMSG       not a tar stream, damaged, or truncated     -EOPNOTSUPP  a kind of entry that is not supported
 *   -EXDEV         a name or link with a ".." component        -EPERM       an entry or attribute reserved for
 * overlayfs -EFBIG         more content than `limit`                   -E2BIG       too many entries, or an oversized
 * header -ENAMETOOLONG  a path of 4096 bytes or more                -EOVERFLOW   an id, time or device number out of
 * range -EISDIR        a directory is in the way                   -ENOTDIR     so is something that is not a directory
 * and whatever the kernel answers. */
int unpack_tar(int fd, int destination, uint64_t flags, uint64_t limit, char *subject, size_t subject_size);

/* Where a copy of the tree is made as it is packed: in the open, empty directory, of the very bytes of the stream, so
 * that unpacking that would make the same. `flags`: PYLXC_UNPACK_*. */
struct pack_mirror {
    int directory;
    uint64_t flags;
    bool failed; /* what went wrong did so there */
};

/* What pack_tar has to know beside its flags. */
struct pack_extras {
    int64_t latest;             /* for PYLXC_PACK_SETTLE, s since the epoch */
    unsigned names_left_out;    /* how many strings there are in */
    const char *left_out;       /* names in the directory itself, one behind the other, each with a NUL at its end */
    struct pack_mirror *mirror; /* or NULL */
};

/* Writes the tree below `directory` to `fd` as a tar stream that depends on nothing but the tree: the same tree, or one
 * unpacked from this stream, gives the same bytes. `flags`: PYLXC_PACK_*. 0 or a negative errno, with `subject` as
 * above: -EBUSY  the tree changed meanwhile     -EINVAL  a name that a layer cannot hold (".wh.") -ENAMETOOLONG, -E2BIG
 * what unpack_tar would refuse. */
int pack_tar(int fd, int directory, uint64_t flags, const struct pack_extras *extras, char *subject,
             size_t subject_size);

/* The same for what `name` is in `directory`, if "." the directory itself, as `as` (a directory may be "", the stream's
 * root). */
int pack_copy(int fd, int directory, const char *name, const char *as, uint64_t flags, char *subject,
              size_t subject_size);

/* Where a copy goes: to `name` in a directory, a directory's content with "" into itself. What is no directory must not
 * go there if `file_error` is set, which is then the answer. */
struct unpack_place {
    const char *name;
    int file_error;
};

/* Unpacks what pack_copy wrote of one thing without a name of its own (`as` "" for a directory). */
int unpack_copy(int fd, int directory, const struct unpack_place *place, uint64_t flags, char *subject,
                size_t subject_size);

enum {
    TAR_BLOCK = 512,
    TAR_PATH_SIZE = 4096,         /* PATH_MAX: with the NUL at the end */
    TAR_NAME_SIZE = 256,          /* NAME_MAX + 1 */
    TAR_EXTENSION_MOST = 1 << 20, /* bytes of one extended header */
    TAR_CHUNK = 1 << 20,          /* bytes read or written at a time; also what pipes are grown to */
};

/* POSIX.1-2017, pax, "ustar Interchange Format". */
struct tar_header {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100];
    char magic[6], version[2], uname[32], gname[32], major[8], minor[8], prefix[155], padding[12];
};
_Static_assert(sizeof(struct tar_header) == TAR_BLOCK, "a header is one block");

enum {
    TAR_FILE = '0',
    TAR_HARD_LINK = '1',
    TAR_SYMLINK = '2',
    TAR_CHARACTER = '3',
    TAR_BLOCK_DEVICE = '4',
    TAR_DIRECTORY = '5',
    TAR_FIFO = '6',
    TAR_CONTIGUOUS = '7',
    TAR_GNU_SPARSE = 'S',
    TAR_PAX = 'x',
    TAR_PAX_GLOBAL = 'g',
    TAR_GNU_NAME = 'L',
    TAR_GNU_LINK = 'K'
};

/* Where some of a sparse file's data belongs; all else is holes. */
struct tar_piece {
    uint64_t offset, size;
};

/* One entry, its extended headers applied. */
struct tar_entry {
    char type;        /* TAR_FILE to TAR_FIFO */
    uint32_t mode;    /* permission bits: 07777 */
    int64_t uid, gid; /* as written: not checked for range */
    int64_t major, minor;
    uint64_t size;   /* of the file: with its holes, if it is sparse */
    bool sparse;     /* its content is read with tar_piece_content */
    int64_t seconds; /* of the modification time */
    uint32_t nanoseconds;
    char path[TAR_PATH_SIZE]; /* without leading "/", ".", ".." and empty components; "" is the tree's root */
    char link[TAR_PATH_SIZE]; /* a symlink's text as it is; a hard link's target in the form of path */
    struct pile xattrs;       /* read with tar_next_xattr */
    size_t xattr_names;       /* bytes of their names */
    struct pile pieces;       /* of struct tar_piece: in order, within size, as much as the stream holds */
};

struct tar_reader {
    int fd;
    bool at_end; /* of the file */
    char *chunk; /* TAR_CHUNK bytes, of which start to end are read and not yet used */
    size_t start, end;
    uint64_t content, padding;        /* of the current entry, still to come */
    uint64_t extended, extended_most; /* bytes of extended headers so far, and at most (0 = any number) */
    size_t piece;                     /* of a sparse file, the next one to come, */
    uint64_t piece_done;              /* and how much of it has */
    struct tar_entry entry;
    struct tar_extension *extension;
};

/* All: 0 or a negative errno. */
int tar_reader_open(struct tar_reader *reader, int fd, uint64_t extended_most);
void tar_reader_close(struct tar_reader *reader);
/* The next entry; what is left of the last one's content is passed over. On failure entry.path is what is known of the
 * name, or "". */
int tar_next(struct tar_reader *reader, bool *ret_end);
/* Some content of the current entry, `most` bytes at most, good until the next call; 0 bytes at its end. */
int tar_content(struct tar_reader *reader, uint64_t most, const char **ret, size_t *ret_size);
/* The same of a sparse file, with the place in it. */
int tar_piece_content(struct tar_reader *reader, const char **ret, size_t *ret_size, uint64_t *ret_offset);
/* Reads what follows the end mark, so that the writer of a pipe is not cut off; `most` bytes of it, 0 = any number. */
int tar_drain(struct tar_reader *reader, uint64_t most);
/* Walks over an entry's extended attributes, *at from 0; false at the end. */
bool tar_next_xattr(const struct tar_entry *entry, size_t *at, const char **ret_name, const char **ret_value,
                    size_t *ret_size);

#define TAR_XATTR "SCHILY.xattr."
#define WHITEOUT ".wh."
#define WHITEOUT_META ".wh..wh."
#define OPAQUE_MARK ".wh..wh..opq"
#define OPAQUE_XATTR "user.overlay.opaque"

static inline bool tar_starts_with(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

/* What a directory hands down to all that is made in it (acl(5)). */
#define DEFAULT_ACL_XATTR "system.posix_acl_default"
/* What a program may do that is in the file (capabilities(7)). A change of the file's owner takes it off. */
#define CAPABILITY_XATTR "security.capability"

/* Attributes by which overlayfs marks what it has done. In a stream they would forge redirections and opaque marks. */
static inline bool tar_overlay_attribute(const char *name)
{
    return tar_starts_with(name, "user.overlay.") || tar_starts_with(name, "trusted.overlay.");
}

/* The label belongs to the host's policy, not to the content. */
static inline bool tar_host_attribute(const char *name)
{
    return strcmp(name, "security.selinux") == 0;
}

/* Whether a file system shows the state of the kernel: its files have no true sizes, what they hold depends on who
 * reads them, and to write to one is to give an order. `type` as of statfs(2). */
static inline bool tar_kernel_files(int64_t type)
{
    static const int64_t types[] = {PROC_SUPER_MAGIC, SYSFS_MAGIC,    CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC,
                                    DEBUGFS_MAGIC,    TRACEFS_MAGIC,  SECURITYFS_MAGIC,   SELINUX_MAGIC,
                                    BPF_FS_MAGIC,     EFIVARFS_MAGIC, NSFS_MAGIC,         PSTOREFS_MAGIC};
    for (size_t i = 0; i < LENGTH(types); i++)
        if (types[i] == type)
            return true;
    return false;
}

static inline uint64_t tar_padding(uint64_t size)
{
    return -size & (TAR_BLOCK - 1);
}

/* The sum of a header's bytes, its checksum field taken as spaces. */
static inline void tar_checksum(const struct tar_header *header, uint32_t *ret_unsigned, int32_t *ret_signed)
{
    const unsigned char *bytes = (const unsigned char *)header;
    size_t from = offsetof(struct tar_header, checksum), to = from + sizeof header->checksum;
    *ret_unsigned = 0;
    *ret_signed = 0;
    for (size_t i = 0; i < sizeof *header; i++) {
        unsigned char byte = i >= from && i < to ? ' ' : bytes[i];
        *ret_unsigned += byte;
        *ret_signed += (signed char)byte;
    }
}

static inline void tar_name_subject(const char *name, char *subject, size_t size)
{
    size_t n = MINIMUM(strlen(name), size - 1);
    memcpy(subject, name, n);
    subject[n] = 0;
}

static inline long tar_statx(int directory, const char *name, struct statx *ret)
{
    return sys(statx, directory, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (*name ? 0 : AT_EMPTY_PATH),
               STATX_BASIC_STATS, ret);
}

/* The time of modification of an open file (`name` NULL), or of `name` in a directory, also of a symlink. */
static inline long tar_set_time(int fd, const char *name, int64_t seconds, uint32_t nanoseconds)
{
    struct __kernel_timespec both[2] = {{seconds, nanoseconds}, {seconds, nanoseconds}};
    return sys(utimensat, fd, name, both, name ? AT_SYMLINK_NOFOLLOW : 0);
}
#endif
