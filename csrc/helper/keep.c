/* Keeps a network for a process that may be killed: when that has ended, what the network has in the kernel goes.
 *
 * Links of containers go by themselves, with the namespaces that they lead into; a bridge and a packet filter are
 * nobody's. Whoever removes the network itself, or lets it outlive its owner, kills this process. A bridge that still
 * has links on it after a while is another process's to look after: containers of somebody else are on it.
 */
#include "keep.h"
#include "endpoint.h"
#include "message.h"
#include "netfilter.h"
#include <asm/poll.h>
#include <linux/time_types.h>

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

/* Waits until nothing is on the bridge; says whether it came to that. */
static int is_left(const char *bridge)
{
    enum { PATIENCE = 500 /* times 10 ms */ };
    struct __kernel_timespec moment = {0, 10000000};
    for (int i = 0; i < PATIENCE; i++) {
        if (endpoint_count(bridge) <= 0) /* a negative errno: it is not there */
            return 1;
        sys(ppoll, 0, 0, &moment, 0, 0);
    }
    return 0;
}

_Noreturn void network_keep(const struct plan *plan)
{
    const struct pylxc_op *op = plan_find(plan, PYLXC_OP_NETWORK);
    struct pollfd owner = {plan->head->owner_fd, POLLIN, 0};
    if (!op || op->strings != 1)
        sys_exit(1);
    report_start();
    while (sys(ppoll, &owner, 1, 0, 0, 0) < 0)
        ;
    const char *bridge = op_string(op, 0);
    if (!is_left(bridge))
        sys_exit(1);
    fd_close int outer = netlink_open(NETLINK_ROUTE_);
    int r = outer < 0 ? outer : endpoint_detach(outer, bridge);
    sys_exit(r < 0 || netfilter_remove(bridge) < 0);
}
