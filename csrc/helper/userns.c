/* A container's own user namespace: its id maps, and the host's trees seen through them.
 *
 * The container's root is nobody on the host: it can neither go to the store nor own what lies there. So the monitor,
 * which stays outside, makes detached copies of the host's trees, maps the ids of each ("what the container calls 0 is
 * stored as 0"), and hands them in. The child asks for them one by one, down the socket on which it would also say what
 * failed: however many mounts there are, none is ever in flight but one.
 *
 * Order matters: the map is written before the tree is made, the tree is mapped before it is attached, the overlay is
 * made inside (made outside, its root would have no id there).
 */
#include "userns.h"
#include "message.h"
#include <linux/mount.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/stat.h>
#ifdef PYLXC_HOSTED
#include <sys/stat.h>
#endif

#ifndef AT_EMPTY_PATH
#define AT_EMPTY_PATH 0x1000
#endif
#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif

static const struct pylxc_op *operation(const struct plan *plan, int index)
{
    const struct pylxc_op *op = plan->first;
    if (index < 0 || (uint32_t)index >= plan->head->op_count)
        return NULL;
    while (index--)
        op = (const void *)((const char *)op + op->size);
    return op;
}

static const struct pylxc_op *id_map(const struct plan *plan)
{
    return plan->head->op_count && plan->first->code == PYLXC_OP_ID_MAP ? plan->first : NULL;
}

int userns_is_own(const struct plan *plan)
{
    return (plan->head->clone_flags & CLONE_NEWUSER) != 0 && !(plan->head->flags & PYLXC_PLAN_JOIN);
}

/* The host's id of the container's 0: the second number of a map's first line. */
static int first_host_id(const char *map, uint32_t *ret)
{
    while (*map == ' ' || (*map >= '0' && *map <= '9'))
        if (*map++ == ' ' && *map != ' ')
            break;
    size_t n = 0;
    while (map[n] >= '0' && map[n] <= '9')
        n++;
    uint64_t value;
    int r = parse_number(map, n, UINT32_MAX, &value);
    *ret = (uint32_t)value;
    return r;
}

void userns_give_streams(const struct plan *plan)
{
    const struct pylxc_op *map = id_map(plan);
    uint32_t uid, gid;
    if (!map || first_host_id(op_string(map, 0), &uid) < 0 || first_host_id(op_string(map, 1), &gid) < 0)
        return;
    for (int fd = 0; fd <= 2; fd++) {
        struct statx st;
        if (sys(statx, fd, "", AT_EMPTY_PATH, STATX_TYPE, &st) == 0 && (st.stx_mode & S_IFMT) == S_IFIFO)
            sys(fchown, fd, uid, gid);
    }
}

static int write_process_file(int32_t pid, const char *name, const char *content)
{
    TEXT(path, 64);
    text_add(&path, "/proc/");
    text_number(&path, pid);
    text_add(&path, name);
    fd_close int fd = (int)sys(openat, AT_FDCWD, path.data, O_WRONLY | O_CLOEXEC, 0);
    return fd < 0 ? fd : write_all(fd, content, strlen(content));
}

static int open_userns(int32_t pid)
{
    TEXT(path, 64);
    text_add(&path, "/proc/");
    text_number(&path, pid);
    text_add(&path, "/ns/user");
    return (int)sys(openat, AT_FDCWD, path.data, O_RDONLY | O_CLOEXEC, 0);
}

static int change(int tree, uint64_t attributes, int userns, int recursive)
{
    struct mount_attr attr = {.attr_set = attributes | (userns >= 0 ? MOUNT_ATTR_IDMAP : 0),
                              .userns_fd = userns >= 0 ? (uint64_t)userns : 0};
    if (!attr.attr_set)
        return 0;
    return (int)sys(mount_setattr, tree, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attr, sizeof attr);
}

static int is_recursive(const struct pylxc_op *op)
{
    return op->code == PYLXC_OP_BIND && (op->a & PYLXC_BIND_RECURSIVE) != 0;
}

/* A detached copy of a tree of this mount namespace, with the attributes that the operation asks for. `userns` >= 0:
 * its ids are mapped. Not every file system can do that (EINVAL), and a mount is mapped once only (EPERM): where the
 * ids are a convenience the tree is then shown as it is, its owners as nobody; the store must be mapped. */
static int copy_tree(const struct pylxc_op *op, int k, int userns)
{
    int recursive = is_recursive(op), bind = op->code == PYLXC_OP_BIND;
    uint64_t attributes = bind ? op->flags : 0;
    fd_close int tree = (int)sys(open_tree, AT_FDCWD, op_string(op, (unsigned)k),
                                 OPEN_TREE_CLONE | O_CLOEXEC | (recursive ? AT_RECURSIVE : 0));
    if (tree < 0)
        return tree;
    int r = change(tree, attributes, userns, recursive);
    if (r < 0 && userns >= 0 && (r == -EINVAL || r == -EPERM)) {
        if (op->code == PYLXC_OP_MEMORY)
            return -EOPNOTSUPP;
        change(tree, 0, userns, 0); /* what lies on top, if not what is mounted below */
        r = change(tree, attributes, -1, recursive);
    }
    return r < 0 ? r : steal_fd(&tree);
}

/* The store's tree, which nearly every plan needs first, goes along with the word that the maps are there. */
static int first_tree(const struct plan *plan, int userns)
{
    const struct pylxc_op *op = plan->first;
    for (uint32_t i = 0; i < plan->head->op_count; i++, op = (const void *)((const char *)op + op->size))
        if (op->code == PYLXC_OP_MEMORY)
            return copy_tree(op, 0, userns);
    return -ENOENT;
}

int userns_begin(const struct plan *plan, int32_t pid, int channel, int *ret_userns)
{
    const struct pylxc_op *map = id_map(plan);
    if (!map)
        return -EINVAL;
    int r = write_process_file(pid, "/uid_map", op_string(map, 0));
    if (r >= 0)
        r = write_process_file(pid, "/gid_map", op_string(map, 1));
    if (r < 0)
        return r;
    fd_close int userns = open_userns(pid);
    if (userns < 0)
        return userns;
    fd_close int tree = first_tree(plan, userns);
    struct tree_reply reply = {tree < 0 ? -tree : 0};
    long n = send_message(channel, &reply, sizeof reply, tree);
    if (n < 0)
        return (int)n;
    *ret_userns = steal_fd(&userns);
    return 0;
}

void userns_serve(const struct plan *plan, int channel, int userns, const struct pylxc_error *request)
{
    const struct pylxc_op *op = operation(plan, request->index);
    int asked = op && op->strings > request->errnum && request->errnum >= 0;
    fd_close int tree = asked ? copy_tree(op, request->errnum, userns) : -EINVAL;
    struct tree_reply reply = {tree < 0 ? -tree : 0};
    send_message(channel, &reply, sizeof reply, tree);
}

static int await_tree(const struct launch *l)
{
    struct tree_reply reply;
    int fd;
    long n = receive_message(l->error_fd, &reply, sizeof reply, &fd);
    if (n != sizeof reply)
        sys_exit(127); /* the monitor is gone */
    return reply.errnum ? -reply.errnum : fd;
}

int userns_enter(struct launch *l)
{
    l->store_fd = await_tree(l);
    long r = sys(setresgid, 0, 0, 0);
    if (r >= 0)
        r = sys(setresuid, 0, 0, 0);
    /* The caller's own groups are not the container's. A namespace of a single id may not (user_namespaces(7)). */
    if (r >= 0)
        sys(setgroups, 0, 0);
    sys(prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
    return (int)r;
}

int source_tree(struct launch *l, const struct pylxc_op *op, int k)
{
    if (!userns_is_own(l->plan))
        return copy_tree(op, k, -1);
    if (op->code == PYLXC_OP_MEMORY)
        return l->store_fd < 0 ? l->store_fd : steal_fd(&l->store_fd);
    struct pylxc_error request = {.stage = REQUEST_TREE, .errnum = k, .index = l->index};
    int r = write_all(l->error_fd, &request, sizeof request);
    return r < 0 ? r : await_tree(l);
}
