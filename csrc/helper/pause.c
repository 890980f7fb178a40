/* Keeps a container paused for a caller that may be killed meanwhile.
 *
 * Invariant: what this process has frozen goes on when the caller is done, and when it ends in any way. A fork of the
 * caller may hold the other end of the control socket: so both that and the caller itself are watched.
 */
#include "pause.h"
#include "message.h"
#include <asm/poll.h>

static int write_value(const char *path, const char *value)
{
    fd_close int fd = (int)sys(openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0);
    return fd < 0 ? fd : write_all(fd, value, strlen(value));
}

/* The report is the first thing that the caller hears of: by then the cgroup is being frozen, which takes a moment. */
static int freeze(const struct pylxc_op *op)
{
    struct pylxc_report report = {.kind = PYLXC_REPORT_STARTED, .pid = (int32_t)sys(getpid)};
    fd_close int self = (int)sys(pidfd_open, report.pid, 0);
    int r = self < 0 ? self : write_value(op_string(op, 0), op_string(op, 1));
    if (r < 0)
        report = (struct pylxc_report){
            .kind = PYLXC_REPORT_FAILED,
            .error = {.stage = PYLXC_STAGE_CGROUP, .errnum = -r, .index = 0},
        };
    send_message(PYLXC_FD_CONTROL, &report, sizeof report, self);
    return r;
}

_Noreturn void pause_hold(const struct plan *plan)
{
    const struct pylxc_op *op = plan_find(plan, PYLXC_OP_PAUSE);
    struct pollfd waits[] = {{PYLXC_FD_CONTROL, POLLIN, 0}, {plan->head->owner_fd, POLLIN, 0}};
    if (!op || op->strings != 3)
        sys_exit(1);
    if (freeze(op) < 0)
        sys_exit(1);
    while (sys(ppoll, waits, LENGTH(waits), 0, 0, 0) < 0)
        ;
    sys_exit(write_value(op_string(op, 0), op_string(op, 2)) < 0);
}
