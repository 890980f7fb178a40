/* Id maps of single mounts: a directory of the host whose owner is the container's root.
 *
 * Layers and volumes are stored with the ids that the container sees. A directory of the host's is not: it is
 * somebody's, and what the container's root makes there is to be theirs. On such a mount the owner of the directory is
 * the container's root, and every other id is itself, with two exceptions, since a map is one to one: the host's root
 * has no id inside (its files are nobody's, and none can be made), and the container's own user of the owner's number
 * has none outside (EOVERFLOW when it makes a file, EINVAL when a file is given to it).
 *
 * The kernel takes a map from a user namespace (mount_setattr(2)), and a user namespace from a process: one that does
 * nothing but be there while the map is written. It ends with the pipe that it reads, so with the monitor too.
 */
#include "idmap.h"
#include "userns.h"
#include <linux/sched.h>
#include <linux/stat.h>
#include <linux/wait.h>
#ifdef PYLXC_HOSTED
#include <sys/stat.h>
#endif

/* The container's ids 0, 1, ... count - 1 are the host's from `first` on. */
struct range {
    uint64_t first, count;
};

/* The first line of a map: "0 FIRST COUNT". */
static int read_range(const char *map, struct range *ret)
{
    uint64_t numbers[3];
    for (unsigned i = 0; i < LENGTH(numbers); i++) {
        size_t n = 0;
        while (*map == ' ')
            map++;
        while (map[n] >= '0' && map[n] <= '9')
            n++;
        int r = parse_number(map, n, UINT32_MAX, &numbers[i]);
        if (r < 0)
            return r;
        map += n;
    }
    *ret = (struct range){numbers[1], numbers[2]};
    return 0;
}

static void add_extent(struct text *to, uint64_t stored, uint64_t shown, uint64_t count)
{
    if (!count)
        return;
    text_number(to, (int64_t)stored);
    text_add(to, " ");
    text_number(to, (int64_t)shown);
    text_add(to, " ");
    text_number(to, (int64_t)count);
    text_add(to, "\n");
}

/* The group of a source may be root's: in a directory whose group has no id the kernel lets nobody make anything. */
static void add_map(struct text *to, uint64_t owner, const struct range *range)
{
    if (!owner) {
        add_extent(to, 0, range->first, range->count);
        return;
    }
    uint64_t below = MINIMUM(owner, range->count);
    add_extent(to, owner, range->first, 1);
    add_extent(to, 1, range->first + 1, below - 1);
    if (owner + 1 < range->count)
        add_extent(to, owner + 1, range->first + owner + 1, range->count - owner - 1);
}

static int make_userns(const char *uid_map, const char *gid_map)
{
    int ends[2];
    long r = sys(pipe2, ends, O_CLOEXEC);
    if (r < 0)
        return (int)r;
    struct clone_args args = {.flags = CLONE_NEWUSER, .exit_signal = 17 /* SIGCHLD */};
    long pid = sys(clone3, &args, sizeof args);
    if (pid == 0) {
        char nothing;
        sys(close, ends[1]);
        sys(read, ends[0], &nothing, 1);
        sys_exit(0);
    }
    sys(close, ends[0]);
    r = pid < 0 ? pid : write_process_file((int32_t)pid, "/uid_map", uid_map);
    if (r >= 0)
        r = write_process_file((int32_t)pid, "/gid_map", gid_map);
    fd_close int userns = r < 0 ? (int)r : open_namespace((int32_t)pid, "user");
    sys(close, ends[1]);
    if (pid > 0)
        sys(wait4, pid, 0, __WALL, 0);
    return steal_fd(&userns);
}

int idmap_for_owner(const struct pylxc_op *map, int tree, int plain)
{
    static struct {
        uint32_t uid, gid;
        int fd;
    } last = {0, 0, -1}; /* binds of one container mostly have one owner */
    struct statx st;
    struct range uids = {0, UINT32_MAX}, gids = {0, UINT32_MAX};
    long r = sys(statx, tree, "", AT_EMPTY_PATH, STATX_UID | STATX_GID, &st);
    if (r >= 0 && map)
        r = read_range(op_string(map, 0), &uids);
    if (r >= 0 && map)
        r = read_range(op_string(map, 1), &gids);
    if (r < 0)
        return (int)r;
    if (!st.stx_uid)
        return plain;
    if (last.fd >= 0 && last.uid == st.stx_uid && last.gid == st.stx_gid)
        return last.fd;
    TEXT(uid_map, 256);
    TEXT(gid_map, 256);
    add_map(&uid_map, st.stx_uid, &uids);
    add_map(&gid_map, st.stx_gid, &gids);
    fd_close int made = make_userns(uid_map.data, gid_map.data);
    if (made < 0)
        return made;
    if (last.fd >= 0)
        sys(close, last.fd);
    last.uid = st.stx_uid;
    last.gid = st.stx_gid;
    last.fd = steal_fd(&made);
    return last.fd;
}
