/* A container's own user namespace: its id maps, and the host's trees seen through them.
 *
 * The container's root is nobody on the host: it can neither go to the store nor own what lies there. So the monitor,
 * which stays outside, makes detached copies of the host's trees, maps the ids of each ("what the container calls 0 is
 * stored as 0"), and hands them in. Those that make up the root come without being asked for, in the order in which the
 * child needs them, so that it need not wait. Mounts of the user's own it asks for one by one, down the socket on which
 * it would also say what failed: however many there are, none is ever in flight but one.
 *
 * Where the caller has no privilege on the host (PYLXC_PLAN_UNPRIVILEGED) nobody may make id-mapped mounts. Then the
 * monitor itself enters a user namespace first, the caller's own ("what is called 0 is the caller"), that of the
 * container lies in it and has the same ids, and the child opens the trees itself: they have these ids on disk.
 *
 * Order matters: the map is written before the tree is made, the tree is mapped before it is attached, the overlay is
 * made inside (made outside, its root would have no id there).
 */
#include "userns.h"
#include "idmap.h"
#include "join.h"
#include "message.h"
#include <linux/mount.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/stat.h>
#ifdef PYLXC_HOSTED
#include <sys/stat.h>
#endif

static const struct pylxc_op *operation(const struct plan *plan, int index)
{
    const struct pylxc_op *op = plan->first;
    if (index < 0 || (uint32_t)index >= plan->head->op_count)
        return NULL;
    while (index--)
        op = plan_next(op);
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

int userns_is_new(const struct plan *plan)
{
    const struct pylxc_op *join = join_operation(plan);
    return userns_is_own(plan) && !(join && join->flags & CLONE_NEWUSER);
}

int userns_maps_trees(const struct plan *plan)
{
    return userns_is_own(plan) && !(plan->head->flags & PYLXC_PLAN_UNPRIVILEGED);
}

int userns_enter_given(const struct plan *plan)
{
    int fd = plan->head->userns_fd;
    long r = fd < 0 ? 0 : sys(setns, fd, CLONE_NEWUSER);
    sys(close, fd);
    return (int)r;
}

_Noreturn void userns_hold(void)
{
    struct pylxc_report report = {.kind = PYLXC_REPORT_STARTED, .pid = (int32_t)sys(getpid)};
    long r = sys(unshare, CLONE_NEWUSER);
    fd_close int self = (int)(r < 0 ? r : sys(pidfd_open, report.pid, 0));
    if (self < 0)
        report = (struct pylxc_report){
            .kind = PYLXC_REPORT_FAILED,
            .error = {.stage = PYLXC_STAGE_NAMESPACES, .errnum = -self, .index = -1},
        };
    sys(prctl, PR_SET_DUMPABLE, 1, 0, 0, 0); /* else the id maps are not the caller's to write (proc_pid_uid_map(5)) */
    send_message(PYLXC_FD_CONTROL, &report, sizeof report, self);
    char byte;
    read_full(PYLXC_FD_CONTROL, &byte, sizeof byte);
    sys_exit(0);
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

int write_process_file(int32_t pid, const char *name, const char *content)
{
    TEXT(path, 64);
    text_add(&path, "/proc/");
    text_number(&path, pid);
    text_add(&path, name);
    fd_close int fd = (int)sys(openat, AT_FDCWD, path.data, O_WRONLY | O_CLOEXEC, 0);
    return fd < 0 ? fd : write_all(fd, content, strlen(content));
}

int open_namespace(int32_t pid, const char *name)
{
    TEXT(path, 64);
    text_add(&path, "/proc/");
    text_number(&path, pid);
    text_add(&path, "/ns/");
    text_add(&path, name);
    return (int)sys(openat, AT_FDCWD, path.data, O_RDONLY | O_CLOEXEC, 0);
}

static int change(int tree, uint64_t attributes, uint64_t propagation, int userns, int recursive)
{
    struct mount_attr attr = {.attr_set = attributes | (userns >= 0 ? MOUNT_ATTR_IDMAP : 0),
                              .propagation = propagation,
                              .userns_fd = userns >= 0 ? (uint64_t)userns : 0};
    return (int)sys(mount_setattr, tree, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attr, sizeof attr);
}

static int is_recursive(const struct pylxc_op *op)
{
    return op->code == PYLXC_OP_BIND && (op->a & PYLXC_BIND_RECURSIVE) != 0;
}

/* A file system of one node, "node", like that of the host: a node of the host's belongs to nobody inside, and may be
 * for its owner alone. It is of the initial user namespace, so that it opens the device. */
static int copy_device(const struct plan *plan, const struct pylxc_op *op)
{
    struct statx st;
    uint32_t uid, gid;
    const struct pylxc_op *map = id_map(plan);
    long r = sys(statx, AT_FDCWD, op_string(op, 0), 0, STATX_BASIC_STATS, &st);
    if (r < 0 || !map || first_host_id(op_string(map, 0), &uid) < 0 || first_host_id(op_string(map, 1), &gid) < 0)
        return r < 0 ? (int)r : -EINVAL;
    uint32_t kind = st.stx_mode & S_IFMT, major = (uint32_t)op->a, minor = (uint32_t)op->b;
    int other = (kind != S_IFCHR && kind != S_IFBLK) || st.stx_rdev_major != major || st.stx_rdev_minor != minor;
    if (DEFENCE(DEVICE, other, 0))
        return -ENODEV;
    fd_close int fs = (int)sys(fsopen, "tmpfs", FSOPEN_CLOEXEC);
    if (fs < 0)
        return fs;
    sys(fsconfig, fs, FSCONFIG_SET_STRING, "mode", "0755", 0);
    r = sys(fsconfig, fs, FSCONFIG_CMD_CREATE, 0, 0, 0);
    fd_close int tree = (int)(r < 0 ? r : sys(fsmount, fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC));
    if (tree < 0)
        return tree;
    uint64_t number = (minor & 0xff) | (uint64_t)(major & 0xfff) << 8 | (uint64_t)(minor & ~0xffu) << 12;
    r = sys(mknodat, tree, "node", st.stx_mode, number);
    if (r >= 0)
        r = sys(fchownat, tree, "node", uid + st.stx_uid % 65536, gid + st.stx_gid % 65536, 0);
    if (r >= 0)
        r = sys(fchmodat, tree, "node", st.stx_mode & 0777);
    return (int)(r < 0 ? r : steal_fd(&tree));
}

static uint64_t how_to_bind(const struct pylxc_op *op)
{
    return op->code == PYLXC_OP_BIND ? (uint64_t)op->a : 0;
}

/* A copy is of the peer group of what it was copied from, unless this is said: what the container mounts there would
 * appear on the host. */
static uint64_t propagation_of(const struct pylxc_op *op)
{
    uint64_t how = how_to_bind(op);
    return how & PYLXC_BIND_SHARED ? MS_SHARED : how & PYLXC_BIND_SLAVE ? MS_SLAVE : MS_PRIVATE;
}

/* A detached copy of a tree of this mount namespace, with the attributes that the operation asks for. `userns` >= 0:
 * its ids are mapped. Not every file system can do that (EINVAL), and a mount is mapped once only (EPERM): where the
 * ids are a convenience the tree is then shown as it is, its owners as nobody; the store must be mapped. */
static int copy_tree(const struct pylxc_op *map, const struct pylxc_op *op, int k, int userns)
{
    int recursive = is_recursive(op);
    uint64_t attributes = op->code == PYLXC_OP_BIND ? op->flags : 0, how = how_to_bind(op);
    if (userns >= 0 && how & PYLXC_BIND_SHARED)
        return -EPERM; /* the kernel does not mind, but a namespace of less privilege is not to mount on the host */
    fd_close int tree = (int)sys(open_tree, AT_FDCWD, op_string(op, (unsigned)k),
                                 OPEN_TREE_CLONE | O_CLOEXEC | (recursive ? AT_RECURSIVE : 0));
    if (tree < 0)
        return tree;
    if (how & PYLXC_BIND_OWNER) {
        userns = idmap_for_owner(map, tree, userns);
        if (userns < -1)
            return userns;
    }
    int r = change(tree, attributes, propagation_of(op), userns, recursive);
    if (r < 0 && userns >= 0 && (r == -EINVAL || r == -EPERM)) {
        if (op->code == PYLXC_OP_MEMORY)
            return -EOPNOTSUPP;
        r = change(tree, 0, 0, userns, 0); /* what lies on top, if not what is mounted below */
        if (r < 0 && how & PYLXC_BIND_MAPPED)
            return -EOPNOTSUPP;
        r = change(tree, attributes, propagation_of(op), -1, recursive);
    }
    return r < 0 ? r : steal_fd(&tree);
}

static int send_tree(const struct plan *plan, const struct pylxc_op *op, int k, int channel, int userns)
{
    fd_close int tree = op->code == PYLXC_OP_DEVICE ? copy_device(plan, op) : copy_tree(id_map(plan), op, k, userns);
    struct tree_reply reply = {tree < 0 ? -tree : 0};
    long n = send_message(channel, &reply, sizeof reply, tree);
    return (int)(n < 0 ? n : 0);
}

/* What comes unasked: the store, and the host's directories among the layers. A child that failed does not listen. */
static int send_store(const struct plan *plan, int channel, int userns)
{
    const struct pylxc_op *store = plan_find(plan, PYLXC_OP_MEMORY);
    return store ? send_tree(plan, store, 0, channel, userns) : 0;
}

static int is_layer_of_host(const struct pylxc_op *op, int k)
{
    return op->code == PYLXC_OP_OVERLAY && k >= 3 && *op_string(op, (unsigned)k) == '/';
}

void userns_send_layers(const struct plan *plan, int channel, int userns)
{
    int r = 0;
    FOR_EACH_OPERATION (plan, op) {
        const char *layer = op_string(op, 3); /* to look each one up would be to walk over all that come before */
        for (int k = 3; op->code == PYLXC_OP_OVERLAY && k < op->strings && r >= 0; k++, layer += strlen(layer) + 1)
            if (*layer == '/')
                r = send_tree(plan, op, k, channel, userns);
    }
}

int userns_begin(const struct plan *plan, int32_t pid, int channel, int *ret_userns)
{
    const struct pylxc_op *map = id_map(plan);
    if (!map)
        return -EINVAL;
    int r = userns_is_new(plan) ? write_process_file(pid, "/uid_map", op_string(map, 0)) : 0;
    if (r >= 0 && userns_is_new(plan))
        r = write_process_file(pid, "/gid_map", op_string(map, 1));
    if (r < 0)
        return r;
    fd_close int userns = userns_is_new(plan) ? open_namespace(pid, "user")
                                              : (int)sys(fcntl, join_operation(plan)->b, F_DUPFD_CLOEXEC, 3);
    if (userns < 0)
        return userns;
    /* The child may go on: its ids are there. */
    struct tree_reply go = {0};
    long n = send_message(channel, &go, sizeof go, -1);
    if (n < 0)
        return (int)n;
    if (userns_maps_trees(plan))
        send_store(plan, channel, userns);
    *ret_userns = steal_fd(&userns);
    return 0;
}

void userns_serve(const struct plan *plan, int channel, int userns, const struct pylxc_error *request)
{
    const struct pylxc_op *op = operation(plan, request->index);
    if (op && request->errnum >= 0 && request->errnum < op->strings)
        send_tree(plan, op, request->errnum, channel, userns);
    else
        send_message(channel, &(struct tree_reply){EINVAL}, sizeof(struct tree_reply), -1);
}

/* The next answer: a descriptor, -1 where none came with it, or a negative errno. */
static int await_tree(const struct launch *l)
{
    struct tree_reply reply;
    int fd;
    long n = receive_message(l->error_fd, &reply, sizeof reply, &fd);
    if (n != sizeof reply)
        sys_exit(127); /* the monitor is gone */
    return reply.errnum ? -reply.errnum : fd;
}

void await_go(const struct launch *l)
{
    await_tree(l); /* no tree comes with it */
}

int userns_enter(struct launch *l)
{
    await_go(l); /* the maps are there */
    long r = sys(setresgid, 0, 0, 0);
    if (r >= 0)
        r = sys(setresuid, 0, 0, 0);
    /* The caller's own groups are not the container's. A namespace of a single id may not (user_namespaces(7)). */
    if (r >= 0)
        (void)DEFENCE(GROUPS, sys(setgroups, 0, 0), 0);
    sys(prctl, PR_SET_DUMPABLE, DEFENCE(DUMPABLE, 0, 1), 0, 0, 0);
    return (int)r;
}

int userns_keeps_slaves(const struct plan *plan)
{
    int found = 0;
    FOR_EACH_OPERATION (plan, op)
        found |= (how_to_bind(op) & PYLXC_BIND_SLAVE) != 0;
    return found && plan->head->flags & PYLXC_PLAN_UNPRIVILEGED;
}

/* What only the monitor can give: its mounts still belong to the host's peer groups, and it makes maps. */
static int is_monitors(const struct launch *l, const struct pylxc_op *op)
{
    if (l->plan->head->flags & PYLXC_PLAN_UNPRIVILEGED)
        return 0;
    return userns_is_own(l->plan) || how_to_bind(op) & (PYLXC_BIND_SLAVE | PYLXC_BIND_SHARED | PYLXC_BIND_OWNER);
}

int source_tree(struct launch *l, const struct pylxc_op *op, int k)
{
    int is_in_store = op->code == PYLXC_OP_BIND && *op_string(op, (unsigned)k) != '/';
    if (is_in_store || !is_monitors(l, op))
        return copy_tree(NULL, op, k, -1);
    if (op->code == PYLXC_OP_MEMORY || is_layer_of_host(op, k))
        return await_tree(l);
    struct pylxc_error request = {.stage = REQUEST_TREE, .errnum = k, .index = l->index};
    int r = write_all(l->error_fd, &request, sizeof request);
    return r < 0 ? r : await_tree(l);
}
