/* Makes a monitor's process: the clone, what the child cannot have by itself, and the wait for its exec. */
#include "cgroup.h"
#include "join.h"
#include "message.h"
#include "monitor.h"
#include "terminal.h"
#include "userns.h"
#include <asm/poll.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/signal.h>
#include <linux/time_types.h>
#include <linux/wait.h>

enum { SIGKILL_ = 9 };

void begin_undo(struct monitor *m)
{
    if (m->pid) {
        sys(pidfd_send_signal, m->pid_fd, SIGKILL_, 0, 0);
        sys(wait4, m->pid, 0, __WALL, 0);
        m->pid = 0;
    }
    netns_end(&m->netns);
}

/* A step may block (a bind of a network file system that does not answer): the owner's end is heeded even then. */
static int await_word(struct monitor *m)
{
    while (!m->orphaned) {
        struct pollfd waits[] = {{.fd = m->error_fd, .events = POLLIN},
                                 {.fd = m->owner_fd, .events = POLLIN},
                                 {.fd = m->netns.maker_fd, .events = POLLIN}};
        if (sys(ppoll, waits, LENGTH(waits), 0, 0, 0) < 0)
            continue;
        if (waits[2].revents)
            netns_end(&m->netns);
        if (waits[0].revents)
            return 0;
        m->orphaned = waits[1].revents != 0;
    }
    return monitor_fail(m, PYLXC_STAGE_NONE, 0, -1);
}

/* Whether a word of the child brought an end of its terminal. The slave is held open for as long as the process lives:
 * a payload may close its terminal and open it anew, as init systems do with /dev/console, and meanwhile the master
 * would report its end. */
static int takes_terminal(struct monitor *m, const struct pylxc_error *word, int fd)
{
    if (fd < 0 || word->stage != SENT_TERMINAL)
        return 0;
    m->terminal[word->errnum == MASTER ? MASTER : SLAVE] = fd;
    return 1;
}

/* What the child says before the exec: nothing (it worked), that a transfer begins, what failed, that it needs one of
 * the host's trees, or what its terminal is. */
int begin_await(struct monitor *m)
{
    struct pylxc_error word;
    long n;
    for (int fd;;) {
        if (await_word(m) < 0)
            return -1;
        do
            n = receive_message(m->error_fd, &word, sizeof word, &fd);
        while (n == -ECONNRESET); /* comes once, before its last words, when it has left something unread */
        if (n != sizeof word)
            break;
        if (word.stage == REQUEST_TREE)
            userns_serve(&m->plan, m->error_fd, m->userns_fd, &word);
        else if (!takes_terminal(m, &word, fd))
            break;
    }
    if (m->userns_fd >= 0)
        sys(close, steal_fd(&m->userns_fd));
    if (n == 0 || (n == sizeof word && word.stage == PYLXC_STAGE_NONE)) {
        netns_end(&m->netns);
        return 0;
    }
    if (n != sizeof word || word.stage < 0)
        return monitor_fail(m, PYLXC_STAGE_HELPER, -EPROTO, -1);
    m->error = word;
    return -1;
}

/* What is not dumpable may not write its own score, and a child that is born in a container must never be dumpable:
 * without privileges the monitor takes the score first, here on the host, and the child inherits it. */
static int score_first(struct cgroups *cgroups)
{
    sys(prctl, PR_SET_DUMPABLE, 1, 0, 0, 0);
    int r = cgroups_score(cgroups);
    sys(prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
    return r;
}

/* Waits for the caller's word that the record directory, which comes with it, and the writable side of the root are
 * there: it makes them while the process is being made. Before it come the endpoints that the plan lacks. A caller that
 * is gone, or says without a directory that it could not, leaves nothing behind. */
static int await_release(struct monitor *m)
{
    struct pollfd waits[] = {{.fd = PYLXC_FD_CONTROL, .events = POLLIN}, {.fd = m->owner_fd, .events = POLLIN}};
    struct pylxc_endpoint endpoint; /* or one byte */
    long n;
    do {
        while (sys(ppoll, waits, LENGTH(waits), 0, 0, 0) < 0)
            ;
        n = waits[0].revents ? receive_message(PYLXC_FD_CONTROL, &endpoint, sizeof endpoint, &m->directory_fd) : 0;
        if (n == sizeof endpoint)
            netns_take_endpoint(&m->plan, &m->netns, &endpoint);
    } while (n == sizeof endpoint);
    netns_take_no_more(&m->netns);
    if (m->directory_fd < 0)
        return monitor_fail(m, PYLXC_STAGE_NONE, 0, -1);
    int r = log_open(&m->plan, m->directory_fd, &m->log);
    if (r < 0)
        return monitor_fail(m, PYLXC_STAGE_RECORD, r, -1);
    struct tree_reply go = {0};
    send_message(m->error_fd, &go, sizeof go, -1);
    return 0;
}

/* Gives a new process what it cannot have by itself, in the order in which it waits for it. */
static int give_what_it_needs(struct monitor *m)
{
    int own = userns_is_own(&m->plan), begun = own ? userns_begin(&m->plan, m->pid, m->error_fd, &m->userns_fd) : 0;
    sys(prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
    if (begun < 0)
        return monitor_fail(m, PYLXC_STAGE_NAMESPACES, begun, 0);
    netns_begin(&m->plan, &m->netns, m->userns_fd, m->directory_fd);
    if (monitor_has(m, PYLXC_PLAN_AWAIT_CALLER) && !m->plan.again && await_release(m) < 0)
        return -1;
    if (userns_maps_trees(&m->plan))
        userns_send_layers(&m->plan, m->error_fd, m->userns_fd);
    return 0;
}

/* Of the namespaces of a process that is joined, those that must be entered before the clone: the pid namespace, which
 * counts for children only, and the user namespace where only its owner may enter the others (setns(2)). */
static int join_first(const struct monitor *m)
{
    const struct pylxc_plan *head = m->plan.head;
    uint64_t first = head->clone_flags & (CLONE_NEWPID | (monitor_has(m, PYLXC_PLAN_UNPRIVILEGED) ? CLONE_NEWUSER : 0));
    return monitor_has(m, PYLXC_PLAN_JOIN) && first ? (int)sys(setns, head->target_fd, first) : 0;
}

_Noreturn static void become_child(const struct monitor *m, struct cgroups *cgroups, int channel)
{
    /* A process of the container that may trace could take these from here. Those of a first start come later, or are
     * the plan's, and launch_run's to close. */
    const int monitors[] = {PYLXC_FD_CONTROL, m->netns.ours, m->directory_fd, m->control_fd,
                            m->held_fd,       m->input[1],   m->log.fd};
    for (size_t i = 0; i < LENGTH(monitors); i++)
        if (monitors[i] >= 0)
            sys(close, monitors[i]);
    ports_close(&m->ports);
    int entered = cgroups_enter(cgroups);
    cgroups_close(cgroups);
    if (entered < 0) {
        struct pylxc_error error = {.stage = PYLXC_STAGE_CGROUP, .errnum = -entered, .index = -1};
        write_all(channel, &error, sizeof error);
        sys_exit(127);
    }
    launch_run(&m->plan, channel, m->netns.theirs);
}

/* The clone itself: as clone3(2). */
static long make_child(struct monitor *m, const struct cgroups *cgroups)
{
    /* Not CLONE_NEWNET (netns.c). Not CLONE_NEWCGROUP: its root would be the monitor's own cgroup, for clone3 makes
     * namespaces before it moves. */
    const uint64_t later = CLONE_NEWNET | CLONE_NEWCGROUP;
    struct clone_args args = {.flags = CLONE_PIDFD |
                                       (monitor_has(m, PYLXC_PLAN_JOIN) ? 0 : m->plan.head->clone_flags & ~later) |
                                       (cgroups->v2_fd >= 0 ? CLONE_INTO_CGROUP : 0),
                              .cgroup = (uint64_t)(cgroups->v2_fd >= 0 ? cgroups->v2_fd : 0),
                              .pidfd = (uintptr_t)&m->pid_fd,
                              .exit_signal = 17 /* SIGCHLD */};
    const struct pylxc_op *join = join_operation(&m->plan);
    return join ? join_clone(join, &args, &m->pid_fd) : sys(clone3, &args, sizeof args);
}

/* What must be there before the clone. `ends`: of the channel to the child. */
static int prepare_child(struct monitor *m, struct cgroups *cgroups, int ends[2])
{
    userns_give_streams(&m->plan);
    int opened = cgroups_open(&m->plan, cgroups);
    if (opened >= 0 && monitor_has(m, PYLXC_PLAN_UNPRIVILEGED) && monitor_has(m, PYLXC_PLAN_JOIN))
        opened = score_first(cgroups);
    if (opened < 0)
        return monitor_fail(m, PYLXC_STAGE_CGROUP, opened, -1);
    long r = sys(socketpair, 1 /* AF_UNIX */, 5 /* SOCK_SEQPACKET */ | O_CLOEXEC, 0, ends);
    if (r >= 0)
        r = join_first(m);
    if (r >= 0)
        r = netns_open(&m->plan, &m->netns);
    if (r < 0)
        return monitor_fail(m, PYLXC_STAGE_NAMESPACES, r, -1);
    /* The id maps of a child that is not dumpable belong to the host's root: it becomes so when they are written. */
    if (monitor_has(m, PYLXC_PLAN_UNPRIVILEGED) && userns_is_new(&m->plan))
        sys(prctl, PR_SET_DUMPABLE, 1, 0, 0, 0);
    return 0;
}

int begin_process(struct monitor *m)
{
    struct cgroups cgroups;
    int ends[2] = {-1, -1};
    long r = prepare_child(m, &cgroups, ends);
    if (r >= 0) {
        r = make_child(m, &cgroups);
        if (r < 0)
            monitor_fail(m, PYLXC_STAGE_NAMESPACES, r, join_index(&m->plan));
    }
    if (r == 0) {
        sys(close, ends[0]);
        become_child(m, &cgroups, ends[1]);
    }
    cgroups_close(&cgroups);
    m->pid = r < 0 ? 0 : (int32_t)r;
    m->error_fd = ends[0];
    if (ends[1] >= 0)
        sys(close, ends[1]);
    streams_give_up();
    return r < 0 ? -1 : give_what_it_needs(m);
}
