/* Paths inside the root, opened and made.
 *
 * Every path is resolved by the kernel against the root (openat2 with RESOLVE_IN_ROOT and RESOLVE_NO_MAGICLINKS): what
 * a container or an image made of symbolic links, and whatever it exchanges meanwhile, what is opened never lies
 * outside.
 */
#include "helper.h"
#include "root.h"
#include <linux/openat2.h>
#include <linux/stat.h>
#ifdef PYLXC_HOSTED
#include <sys/stat.h>
#endif

/* EAGAIN: something was renamed while ".." was being resolved, and the kernel could not be sure (openat2(2)). A file on
 * which somebody holds a lease gives it too (fcntl(2)), for as long as he likes: so there is an end to it. */
static int open_resolved(const struct launch *l, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve)
{
    enum { MOST_ATTEMPTS = 10000 };
    struct open_how how = {.flags = flags | O_CLOEXEC, .mode = mode, .resolve = DEFENCE(RESOLVE, resolve, 0)};
    const char *at = DEFENCE(RESOLVE, path, path[1] ? path + (*path == '/') : "."); /* weak: joined to the root's */
    long r = -EAGAIN;
    for (int attempt = 0; r == -EAGAIN && attempt < MOST_ATTEMPTS; attempt++)
        r = sys(openat2, l->root_fd, at, &how, sizeof how);
    return (int)r;
}

int open_in_root(struct launch *l, const char *path, uint64_t flags)
{
    return open_resolved(l, path, flags, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

int create_in_root(struct launch *l, const char *path, uint64_t flags, uint64_t mode)
{
    return open_resolved(l, path, flags | O_CREAT, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

int open_in_root_without_links(struct launch *l, const char *path, uint64_t flags)
{
    return open_resolved(l, path, flags, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS);
}

int is_directory(int fd)
{
    struct statx st;
    return sys(statx, fd, "", AT_EMPTY_PATH, STATX_TYPE, &st) == 0 && (st.stx_mode & S_IFMT) == S_IFDIR;
}

/* The parent of the last component of `path`, where it is there already, as mostly: one lookup in place of one for each
 * component. -ENOENT: it, or a last component, is missing. */
static int open_whole_parent(struct launch *l, const char *path, const char **ret_last)
{
    const char *last = path;
    for (const char *s = path; *s; s++)
        if (s[0] == '/' && s[1])
            last = s + 1;
    TEXT(parent, 4096);
    text_add(&parent, *path == '/' ? "" : "/");
    text_bytes(&parent, path, (size_t)(last - path));
    if (*last == '/' || !*last || parent.overflow || strncmp(last, "..", 2) == 0)
        return -ENOENT;
    *ret_last = last;
    return open_in_root(l, parent.data, O_PATH | O_DIRECTORY);
}

/* Opens the parent of the last component of `path`, making directories on the way; *ret_last is that component. */
int open_parent(struct launch *l, const char *path, const char **ret_last)
{
    int whole = open_whole_parent(l, path, ret_last);
    if (whole != -ENOENT)
        return whole;
    fd_close int at = open_in_root(l, "/", O_PATH | O_DIRECTORY);
    TEXT(prefix, 4096);
    for (const char *component = path;;) {
        while (*component == '/')
            component++;
        const char *end = strchr(component, '/');
        size_t n = end ? (size_t)(end - component) : strlen(component);
        const char *rest = component + n;
        while (*rest == '/')
            rest++;
        if (at < 0)
            return at;
        if (!*rest) {
            if (n == 2 && component[0] == '.' && component[1] == '.')
                return -EINVAL;
            *ret_last = component;
            return steal_fd(&at);
        }
        text_add(&prefix, "/");
        text_bytes(&prefix, component, n);
        if (prefix.overflow)
            return -ENAMETOOLONG;
        int next = open_in_root(l, prefix.data, O_PATH | O_DIRECTORY);
        if (next == -ENOENT) {
            char name[256];
            if (n >= sizeof name)
                return -ENAMETOOLONG;
            memcpy(name, component, n);
            name[n] = 0;
            long r = sys(mkdirat, at, name, 0755);
            if (r < 0 && r != -EEXIST)
                return (int)r;
            next = open_in_root(l, prefix.data, O_PATH | O_DIRECTORY);
        }
        sys(close, at);
        at = next;
        component = rest;
    }
}

int make_directory_in_root(struct launch *l, const char *path)
{
    int fd = open_in_root(l, path, O_PATH | O_DIRECTORY);
    if (fd != -ENOENT)
        return fd;
    const char *last;
    fd_close int parent = open_parent(l, path, &last);
    if (parent < 0)
        return parent;
    TEXT(name, 256);
    size_t n = strlen(last);
    while (n && last[n - 1] == '/')
        n--;
    text_bytes(&name, last, n);
    long r = sys(mkdirat, parent, name.data, 0755);
    return r < 0 && r != -EEXIST ? (int)r : open_in_root(l, path, O_PATH | O_DIRECTORY);
}

/* Where one of the kernel's own file systems goes: no part of the path may be a link. The masks that follow go by these
 * paths, and a link in an image that a volume covers meanwhile would lead them astray: a procfs would be left somewhere
 * with nothing in it hidden. */
static int make_plain_directory(struct launch *l, const char *path)
{
    const uint64_t plain = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | DEFENCE(PLAIN_TARGET, RESOLVE_NO_SYMLINKS, 0);
    int fd = open_resolved(l, path, O_PATH | O_DIRECTORY, 0, plain);
    if (fd != -ENOENT)
        return fd;
    fd_close int made = make_directory_in_root(l, path);
    return made < 0 ? made : open_resolved(l, path, O_PATH | O_DIRECTORY, 0, plain);
}

int make_target_directory(struct launch *l, const char *path, int64_t how)
{
    return how & PYLXC_MAKE_PLAIN ? make_plain_directory(l, path) : make_directory_in_root(l, path);
}

/* A link that leads to nothing yet, as /etc/resolv.conf into /run often is: its text becomes the path, seen from where
 * the link lies. */
static int follow_link(struct text *path, int parent, const char *last)
{
    char link[4096];
    long n = sys(readlinkat, parent, last, link, sizeof link);
    if (n < 0)
        return n == -EINVAL ? -EEXIST : (int)n; /* no link: somebody else made it meanwhile */
    if (n == 0 || n == sizeof link)
        return -ENAMETOOLONG;
    path->length = link[0] == '/' ? 0 : (size_t)(last - path->data);
    text_bytes(path, link, (size_t)n);
    return path->overflow ? -ENAMETOOLONG : 0;
}

/* A file of the root that exists or is made (0644, empty), with its parents. */
int make_file_in_root(struct launch *l, const char *path)
{
    enum { MOST_LINKS = 8 };
    TEXT(at, 4096);
    text_add(&at, path);
    for (int links = 0; links < MOST_LINKS && !at.overflow; links++) {
        int fd = open_in_root(l, at.data, O_PATH);
        if (fd != -ENOENT)
            return fd;
        const char *last;
        fd_close int parent = open_parent(l, at.data, &last);
        if (parent < 0)
            return parent;
        fd_close int made = (int)sys(openat, parent, last, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, 0644);
        if (made >= 0)
            return steal_fd(&made);
        int r = made == -EEXIST ? follow_link(&at, parent, last) : made;
        if (r < 0)
            return r;
    }
    return at.overflow ? -ENAMETOOLONG : -ELOOP;
}
