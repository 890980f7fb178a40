/* Operations that carry files in and out of a container: copies of what lies at a path, and a file opened there.
 *
 * The container may run meanwhile, and exchange any directory for a link at any moment. So every path is resolved by
 * the kernel against the root, what a check was about is the descriptor that is used, and what lies below is reached
 * from it without following links. A copy's other side is on the host: there a directory's descriptor, opened by the
 * caller, takes the root's place, and the same rules hold.
 */
#include "helper.h"
#include "message.h"
#include "tar.h"
#include <asm/statfs.h>

/* A directory of the host, where the plan's process has no root of its own. */
static void take_root(struct launch *l, const struct pylxc_op *op)
{
    if (op->b >= 0)
        l->root_fd = (int)op->b;
}

static int type_of(int fd)
{
    struct statx x;
    int r = (int)tar_statx(fd, "", &x);
    return r < 0 ? r : x.stx_mode & S_IFMT;
}

/* The directory that holds what `path` names, and its name there (of TAR_NAME_SIZE bytes). What is not there is no
 * error if only the last component is missing. -EISDIR: the path ends in "/", "." or "..", so it can only be a
 * directory. */
static int find_last(struct launch *l, const char *path, bool follow, char *ret_name)
{
    enum { MOST_LINKS = 40 }; /* as the kernel: path_resolution(7) */
    TEXT(at, TAR_PATH_SIZE);
    text_add(&at, path);
    for (int links = 0; links <= MOST_LINKS && !at.overflow; links++) {
        size_t n = at.length;
        while (n && at.data[n - 1] != '/')
            n--;
        const char *last = at.data + n;
        if (!*last || strcmp(last, ".") == 0 || strcmp(last, "..") == 0)
            return -EISDIR;
        if (strlen(last) >= TAR_NAME_SIZE)
            return -ENAMETOOLONG;
        memcpy(ret_name, last, strlen(last) + 1);
        at.data[at.length = n] = 0;
        text_add(&at, n ? "" : "/");
        fd_close int parent = open_in_root(l, at.data, O_PATH | O_DIRECTORY);
        if (parent < 0)
            return parent;
        char link[TAR_PATH_SIZE];
        long size = follow ? sys(readlinkat, parent, ret_name, link, sizeof link) : -EINVAL;
        if (size == -EINVAL || size == -ENOENT) /* no link, or nothing at all */
            return steal_fd(&parent);
        if (size <= 0 || size == sizeof link)
            return size < 0 ? (int)size : -ENAMETOOLONG;
        if (link[0] == '/')
            at.length = 0;
        text_bytes(&at, link, (size_t)size);
    }
    return at.overflow ? -ENAMETOOLONG : -ELOOP;
}

static int refuse_kernel_files(int fd)
{
    struct statfs st;
    long r = sys(fstatfs, fd, &st);
    return r < 0 ? (int)r : tar_kernel_files(st.f_type) ? -EOPNOTSUPP : 0;
}

/* What can be copied. Sockets live as long as a process. */
static int check_source(int fd, int type)
{
    if (type == S_IFSOCK)
        return -EOPNOTSUPP;
    return type == S_IFDIR ? 0 : refuse_kernel_files(fd);
}

int op_copy_from(struct launch *l, const struct pylxc_op *op)
{
    const char *path = op_string(op, 0), *as = op_string(op, 1);
    bool follow = op->flags & PYLXC_PACK_FOLLOW;
    char name[TAR_NAME_SIZE] = ".";
    take_root(l, op);
    fd_close int found = open_in_root(l, path, O_PATH | (follow ? 0 : O_NOFOLLOW));
    int type = found < 0 ? found : type_of(found);
    int r = type < 0 ? type : check_source(found, type);
    if (r < 0)
        return r;
    fd_close int directory = type == S_IFDIR ? (int)sys(openat, found, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
                                             : find_last(l, path, follow, name);
    if (directory < 0)
        return directory;
    transfer_begins(l);
    return pack_copy((int)op->a, directory, name, type == S_IFDIR || *as ? as : name, op->flags, l->subject,
                     sizeof l->subject);
}

/* The destination as cp has it: a directory that exists takes the copy under its own name, or what is in it; anything
 * else is the copy's new name, in a directory that must exist. On the host a link there is replaced, never followed: an
 * earlier copy may have brought it, and the container chosen where it leads. */
static int find_destination(struct launch *l, const struct pylxc_op *op, char *ret_name, int *ret_file_error)
{
    const char *as = op->flags & PYLXC_UNPACK_CONTENTS ? "" : op_string(op, 1);
    TEXT(path, TAR_PATH_SIZE);
    text_add(&path, op_string(op, 0));
    if (path.overflow || strlen(as) >= TAR_NAME_SIZE)
        return -ENAMETOOLONG;
    *ret_file_error = 0;
    bool follow = op->b < 0;
    fd_close int directory = open_in_root(l, path.data, O_PATH | O_DIRECTORY | (follow ? 0 : O_NOFOLLOW));
    if (directory >= 0) {
        memcpy(ret_name, as, strlen(as) + 1);
        return steal_fd(&directory);
    }
    if (directory != -ENOENT && directory != -ENOTDIR && directory != -ELOOP)
        return directory;
    /* "name/" can become a directory only. */
    while (path.length > 1 && path.data[path.length - 1] == '/') {
        path.data[--path.length] = 0;
        *ret_file_error = directory;
    }
    int parent = find_last(l, path.data, follow, ret_name);
    return parent == -EISDIR ? directory : parent;
}

int op_copy_to(struct launch *l, const struct pylxc_op *op)
{
    char name[TAR_NAME_SIZE];
    struct unpack_place place = {.name = name};
    take_root(l, op);
    fd_close int directory = find_destination(l, op, name, &place.file_error);
    if (directory < 0)
        return directory;
    transfer_begins(l);
    return unpack_copy((int)op->a, directory, &place, op->flags, l->subject, sizeof l->subject);
}

/* The kernel's own files are none: the caller, not this process, would read and write them, with what it may and in its
 * namespaces. /proc/sys/kernel/hostname would be the host's. */
static int check_regular(int fd)
{
    int type = type_of(fd);
    if (type != S_IFREG)
        return type < 0 ? type : type == S_IFDIR ? -EISDIR : -EOPNOTSUPP;
    return refuse_kernel_files(fd);
}

/* Looked at before it is opened, since to open a device or a FIFO may do something, or wait; and once more after it,
 * when it is too late for the container to exchange it. Only then is it truncated. */
static int open_regular(struct launch *l, const char *path, uint64_t flags)
{
    uint64_t how = (flags & ~(uint64_t)(O_TRUNC | O_CREAT)) | O_NONBLOCK | O_NOCTTY;
    fd_close int there = open_in_root(l, path, O_PATH);
    if (there >= 0 && flags & O_CREAT && flags & O_EXCL)
        return -EEXIST;
    int r = there < 0 ? there : check_regular(there);
    if (r < 0 && !(r == -ENOENT && flags & O_CREAT))
        return r;
    fd_close int fd = flags & O_CREAT ? create_in_root(l, path, how, 0644) : open_in_root(l, path, how);
    r = fd < 0 ? fd : check_regular(fd);
    if (r >= 0 && flags & O_TRUNC)
        r = (int)sys(ftruncate, fd, 0);
    if (r >= 0)
        r = (int)sys(fcntl, fd, F_SETFL, flags & O_APPEND);
    return r < 0 ? r : steal_fd(&fd);
}

int op_open(struct launch *l, const struct pylxc_op *op)
{
    fd_close int fd = open_regular(l, op_string(op, 0), op->flags);
    char something = 0;
    long n = fd < 0 ? fd : send_message((int)op->a, &something, sizeof something, fd);
    return (int)(n < 0 ? n : 0);
}
