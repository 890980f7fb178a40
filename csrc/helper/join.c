/* A process born into namespaces of another one, beside new ones of its own (PYLXC_OP_JOIN).
 *
 * New namespaces belong to the user namespace of whoever makes them, and its root must have rights over them: so a
 * process that shares another container's ids has to be cloned from inside that user namespace. The monitor, which
 * serves it the host's trees, must stay outside. Therefore a process in between enters, clones the child as the
 * monitor's own (CLONE_PARENT), tells its pid and ends.
 */
#include "join.h"
#include "message.h"
#include <linux/wait.h>

/* A pid namespace is entered by the next child only, a user namespace before all that belongs to it (setns(2)). */
enum { BEFORE_CLONE = CLONE_NEWUSER | CLONE_NEWPID };

const struct pylxc_op *join_operation(const struct plan *plan)
{
    return plan_find(plan, PYLXC_OP_JOIN);
}

int join_index(const struct plan *plan)
{
    int index = 0;
    FOR_EACH_OPERATION (plan, op) {
        if (op->code == PYLXC_OP_JOIN)
            return index;
        index++;
    }
    return -1;
}

static long enter(const struct pylxc_op *join, uint64_t which)
{
    uint64_t flags = join->flags & which;
    return flags ? sys(setns, join->a, flags) : 0;
}

/* In the process between: 0 in the child it makes; else it ends. */
static void make_child(const struct pylxc_op *join, struct clone_args *args, int channel)
{
    args->flags = (args->flags & ~(join->flags | CLONE_PIDFD)) | CLONE_PARENT;
    args->exit_signal = 0; /* the parent's own, which is SIGCHLD (clone(2), CLONE_PARENT) */
    long r = enter(join, BEFORE_CLONE);
    if (r >= 0)
        r = sys(clone3, args, sizeof *args);
    if (r == 0)
        return;
    int32_t word = (int32_t)r;
    write_all(channel, &word, sizeof word);
    sys_exit(0);
}

long join_clone(const struct pylxc_op *join, struct clone_args *args, int *ret_pid_fd)
{
    int ends[2], status;
    long r = sys(pipe2, ends, O_CLOEXEC);
    if (r < 0)
        return r;
    fd_close int ours = ends[0];
    long between = sys(clone, 17 /* SIGCHLD */, 0, 0, 0, 0);
    if (between == 0) {
        make_child(join, args, ends[1]);
        sys(close, ends[1]);
        return 0;
    }
    sys(close, ends[1]);
    int32_t pid = 0;
    if (between > 0) {
        read_full(ours, &pid, sizeof pid);
        sys(wait4, between, &status, __WALL, 0);
    }
    if (between < 0 || pid <= 0)
        return between < 0 ? between : pid < 0 ? pid : -ESRCH;
    *ret_pid_fd = (int)sys(pidfd_open, pid, 0);
    return *ret_pid_fd < 0 ? *ret_pid_fd : pid;
}

int join_rest(const struct plan *plan)
{
    const struct pylxc_op *join = join_operation(plan);
    long r = join ? enter(join, ~(uint64_t)BEFORE_CLONE) : 0;
    if (join) {
        sys(close, join->a);
        sys(close, join->b);
    }
    return (int)(r < 0 ? r : 0);
}
