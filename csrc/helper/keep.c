/* Keeps a network until it is to go: when that is so, what the network has in the kernel goes.
 *
 * Links of containers go by themselves, with the namespaces that they lead into; a bridge and a packet filter are
 * nobody's. One that belongs to a process goes when that has ended. Whoever removes the network itself, or lets it
 * outlive its owner, kills this process. A bridge that still has links on it after a while is another process's to look
 * after: containers of somebody else are on it.
 *
 * The default network belongs to nobody: it goes when nobody has used it for a moment. Who uses it, a container's
 * monitor or whoever starts one, holds a shared lock on a file; as long as this process holds the exclusive one they
 * wait. The second lock says that this process is there.
 */
#include "keep.h"
#include "endpoint.h"
#include "message.h"
#include "netfilter.h"
#include <asm/poll.h>
#include <asm/stat.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/time_types.h>

enum { EXCLUSIVE = 2, AT_ONCE = 4, NO_MORE = 8 };

static void report_start(void)
{
    struct pylxc_report report = {.kind = PYLXC_REPORT_STARTED, .pid = (int32_t)sys(getpid)};
    fd_close int self = (int)sys(pidfd_open, report.pid, 0);
    if (self < 0)
        report = (struct pylxc_report){
            .kind = PYLXC_REPORT_FAILED,
            .error = {.stage = PYLXC_STAGE_HELPER, .errnum = -self, .index = 0},
        };
    send_message(PYLXC_FD_CONTROL, &report, sizeof report, self);
}

static int remove_network(const char *bridge)
{
    fd_close int outer = netlink_open(NETLINK_ROUTE_);
    int r = outer < 0 ? outer : endpoint_detach(outer, bridge);
    fd_close int filters = netlink_open(NETLINK_NETFILTER_);
    return r < 0 ? r : netfilter_remove(filters, bridge);
}

/* Waits until nothing is on the bridge; says whether it came to that. */
static int is_left(int outer, const char *bridge)
{
    enum { PATIENCE = 500 /* times 10 ms */ };
    struct __kernel_timespec moment = {0, 10000000};
    for (int i = 0; i < PATIENCE; i++) {
        if (endpoint_count(outer, bridge) <= 0) /* a negative errno: it is not there */
            return 1;
        sys(ppoll, 0, 0, &moment, 0, 0);
    }
    return 0;
}

_Noreturn static void keep_for_owner(int owner_fd, const char *bridge)
{
    struct pollfd owner = {owner_fd, POLLIN, 0};
    report_start();
    while (sys(ppoll, &owner, 1, 0, 0, 0) < 0)
        ;
    fd_close int outer = netlink_open(NETLINK_ROUTE_);
    sys_exit((outer >= 0 && !is_left(outer, bridge)) || remove_network(bridge) < 0);
}

/* Waits until nobody uses it, and then for a moment, for making it anew takes far longer than a container's start; with
 * the exclusive lock, or 0 when it was used again: who uses it touches the file. */
static int is_unused(int users)
{
    struct stat before = {0}, after = {0};
    struct __kernel_timespec moment = {0, 500000000};
    long r = sys(flock, users, EXCLUSIVE);
    if (r >= 0)
        r = sys(fstat, users, &before);
    sys(flock, users, NO_MORE);
    sys(ppoll, 0, 0, &moment, 0, 0);
    if (r < 0 || sys(flock, users, EXCLUSIVE | AT_ONCE) < 0)
        return 0;
    if (sys(fstat, users, &after) >= 0 && before.st_mtime == after.st_mtime &&
        before.st_mtime_nsec == after.st_mtime_nsec)
        return 1;
    sys(flock, users, NO_MORE);
    return 0;
}

_Noreturn static void keep_for_all(int users, int keeper, const char *bridge)
{
    sys(close, PYLXC_FD_CONTROL);
    sys(setsid); /* an interrupt from the caller's terminal is not meant for it */
    sys(prctl, PR_SET_NAME, "pylxc-keeper", 0, 0, 0);
    while (!is_unused(users))
        ;
    int r = remove_network(bridge);
    sys(close, keeper); /* who waits for the other lock looks at this one next */
    sys_exit(r < 0);
}

_Noreturn void network_keep(const struct plan *plan)
{
    const struct pylxc_op *op = plan_find(plan, PYLXC_OP_NETWORK);
    if (!op || op->strings != 1)
        sys_exit(1);
    if (!(op->flags & PYLXC_NETWORK_SHARED))
        keep_for_owner(plan->head->owner_fd, op_string(op, 0));
    /* A child of nobody's: no program finds one among its children that it does not know. */
    struct clone_args args = {.exit_signal = 17 /* SIGCHLD */};
    long r = sys(clone3, &args, sizeof args);
    if (r == 0)
        keep_for_all((int)op->a, (int)op->b, op_string(op, 0));
    if (r > 0)
        report_start();
    sys_exit(r < 0);
}
