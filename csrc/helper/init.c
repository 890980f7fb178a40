/* A small PID 1: reaps what its payload leaves behind, passes signals on, ends with the payload's status.
 *
 * It runs under the payload's user, capabilities and filter, with no descriptor open; its program is the sealed memfd,
 * and as nobody may trace what is not dumpable, the payload cannot either. All signals stay blocked and are taken one
 * by one: the kernel drops those that a PID 1 leaves at their default (pid_namespaces(7)), but not those that it
 * blocks.
 */
#include "helper.h"
#include <asm/ioctls.h>
#include <linux/prctl.h>
#include <linux/signal.h>
#include <linux/wait.h>

enum { SIGCHLD_ = 17, SIGTTIN_ = 21, SIGTTOU_ = 22 };

/* Reaps everything that has ended; ends with the payload. */
static void reap(int32_t payload)
{
    int status;
    long pid;
    while ((pid = sys(wait4, -1, &status, WNOHANG | __WALL, 0)) > 0)
        if (pid == payload)
            sys_exit(status & 0x7f ? 128 + (status & 0x7f) : status >> 8 & 0xff);
}

_Noreturn static void attend(int32_t payload, int unprivileged)
{
    uint64_t all = ~0ULL;
    sys(close_range, 0, ~0U, 0);
    /* What is not dumpable is the host's root's, in whose user namespace this program was executed: a caller without
     * privileges could not enter the container (ptrace(2), "Ptrace access mode checking"). It holds nothing, and has no
     * right that the payload has not. */
    sys(prctl, PR_SET_DUMPABLE, DEFENCE(DUMPABLE, unprivileged, 1), 0, 0, 0);
    for (;;) {
        long signal = sys(rt_sigtimedwait, &all, 0, 0, sizeof all);
        if (signal == SIGCHLD_)
            reap(payload);
        else if (signal > 0 && signal != SIGTTIN_ && signal != SIGTTOU_)
            sys(kill, payload, signal);
    }
}

/* The payload's own process group, in the foreground: what is typed (^C) is for it alone, for this PID 1 would pass it
 * on once more. SIGTTOU is blocked here, or it would stop a process of the background that says so (ioctl_tty(2)). */
static int take_foreground(void)
{
    long r = sys(setpgid, 0, 0);
    int32_t group = (int32_t)sys(getpid);
    return (int)(r < 0 ? r : sys(ioctl, 0, TIOCSPGRP, &group));
}

int become_init(const struct launch *l)
{
    uint64_t all = ~0ULL, before = 0;
    sys(rt_sigprocmask, 2 /* SIG_SETMASK */, &all, &before, sizeof all);
    long pid = sys(clone, SIGCHLD_, 0, 0, 0, 0);
    if (pid > 0) {
        int unprivileged = (l->plan->head->flags & PYLXC_PLAN_UNPRIVILEGED) != 0;
        sys(munmap, l->plan->head, l->plan->head->size); /* it says where things lie on the host */
        attend((int32_t)pid, unprivileged);
    }
    return pid == 0 && l->has_terminal ? take_foreground() : (int)pid;
}
