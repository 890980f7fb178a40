/* The monitor: parent of one container or exec, for as long as that runs.
 *
 * It makes the process, tells the caller what became of it, keeps its output in the log, writes how it ended, and kills
 * it when the owner goes first. It holds no memory of the caller's, runs no code of the container's, and stays out of
 * the container's namespaces. One thread, one poll loop; signals are blocked for good (the caller blocked them around
 * the clone), so only SIGKILL ends it early, and then PR_SET_PDEATHSIG takes the payload along.
 */
#include "monitor.h"
#include "cgroup.h"
#include "control.h"
#include "events.h"
#include "keep.h"
#include "message.h"
#include "pause.h"
#include "record.h"
#include "remove_tree.h"
#include "stack.h"
#include "terminal.h"
#include "userns.h"
#include <asm/poll.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/time_types.h>
#include <linux/wait.h>

enum { SIGKILL_ = 9 };

void monitor_report(const struct pylxc_report *r, int pass_fd)
{
    send_message(PYLXC_FD_CONTROL, r, sizeof *r, pass_fd);
}

int monitor_fail(struct monitor *m, int stage, long negative_errno, int index)
{
    m->error = (struct pylxc_error){.stage = stage, .errnum = (int32_t)-negative_errno, .index = index};
    return -1;
}

int monitor_has(const struct monitor *m, uint32_t flag)
{
    return (m->plan.head->flags & flag) != 0;
}

/* Holds the process's mount namespace, so that its end need not wait until its mounts are taken apart (0.4 ms, most of
 * it grace periods of RCU and super blocks): the caller is told first, and does its own tidying meanwhile. Only for
 * those that nobody starts again: the upper directory is in use for that moment longer. Without the right to look
 * (CAP_SYS_PTRACE), or when it has ended already, nothing is held. */
static int hold_mounts(const struct monitor *m)
{
    int passing = monitor_has(m, PYLXC_PLAN_EPHEMERAL) && (m->plan.head->clone_flags & CLONE_NEWNS) != 0;
    return passing ? open_namespace(m->pid, "mnt") : -1;
}

static void send_signal(const struct monitor *m, int signal)
{
    if (m->pid_fd >= 0 && signal)
        sys(pidfd_send_signal, m->pid_fd, signal, 0, 0);
}

/* A later request takes the place of an earlier one. */
static void begin_stop(struct monitor *m, const struct pylxc_request *request)
{
    int64_t now = monotonic_ns();
    m->stopping = (struct stopping){.asked = 1,
                                    .signal = request->signal,
                                    .repeat = request->repeat,
                                    .next = request->repeat > 0 ? now + request->repeat : INT64_MAX,
                                    .kill = request->patience >= 0 ? now + request->patience : INT64_MAX};
    send_signal(m, request->signal);
}

static void go_on_stopping(struct monitor *m)
{
    struct stopping *s = &m->stopping;
    int64_t now = s->next == INT64_MAX && s->kill == INT64_MAX ? 0 : monotonic_ns();
    if (s->kill <= now) {
        send_signal(m, DEFENCE(STOP_KILL, SIGKILL_, s->signal));
        s->next = s->kill = INT64_MAX;
    } else if (s->next <= now) {
        send_signal(m, s->signal);
        s->next = now + s->repeat;
    }
}

static void answer_input(const struct monitor *m, int answer)
{
    int fd = m->terminal[SLAVE] >= 0 ? m->streams[0].fd : m->input[1];
    control_answer(answer, fd < 0 ? EBADF : 0, fd);
}

/* One is enough: whoever asks again means the same lock. */
static void hold(struct monitor *m, int fd)
{
    if (m->held_fd >= 0)
        sys(close, m->held_fd);
    m->held_fd = fd;
}

static void answer_request(struct monitor *m)
{
    struct pylxc_request request;
    int answer, errnum = 0;
    if (!control_receive(m->control_fd, &request, &answer))
        return;
    switch (request.kind) {
    case PYLXC_REQUEST_STOP:
        begin_stop(m, &request);
        break;
    case PYLXC_REQUEST_DISOWN:
        m->owner_fd = -1;
        break;
    case PYLXC_REQUEST_HOLD:
        hold(m, answer);
        return;
    case PYLXC_REQUEST_STDIN:
        answer_input(m, answer);
        return;
    case PYLXC_REQUEST_END_STDIN:
        if (m->input[1] >= 0)
            sys(close, steal_fd(&m->input[1]));
        break;
    default:
        errnum = EINVAL;
    }
    control_answer(answer, errnum, -1);
}

/* Waits for something to happen, not beyond `until` (of CLOCK_MONOTONIC), and sees to it. Says whether the process has
 * ended. */
static int serve(struct monitor *m, int64_t until)
{
    enum { PROCESS, OWNER, OUT, ERR, CONTROL, PORTS, HEALTH, COUNT = HEALTH + HEALTH_WAITS };
    struct pollfd waits[COUNT] = {
        {.fd = m->pid_fd, .events = POLLIN},        {.fd = m->owner_fd, .events = POLLIN},
        {.fd = m->streams[0].fd, .events = POLLIN}, {.fd = m->streams[1].fd, .events = POLLIN},
        {.fd = m->control_fd, .events = POLLIN},    {.fd = ports_wait_fd(&m->ports), .events = POLLIN}};
    int64_t due = MINIMUM(MINIMUM(until, health_due(&m->health)), MINIMUM(m->stopping.next, m->stopping.kill)), left;
    due = MINIMUM(due, ports_due(&m->ports));
    struct __kernel_timespec timeout;
    health_wants(&m->health, &waits[HEALTH]);
    if (due != INT64_MAX) {
        left = due - monotonic_ns();
        left = left < 0 ? 0 : left;
        timeout = (struct __kernel_timespec){left / 1000000000, left % 1000000000};
    }
    if (sys(ppoll, waits, COUNT, due == INT64_MAX ? NULL : &timeout, 0, 0) < 0)
        return 0;
    for (int i = 0; i < 2; i++)
        if (waits[OUT + i].revents)
            streams_pump(m, &m->streams[i]);
    if (waits[OWNER].revents) {
        send_signal(m, SIGKILL_);
        m->owner_fd = -1;
        m->orphaned = 1;
    }
    if (waits[CONTROL].revents)
        answer_request(m);
    go_on_stopping(m);
    if (!waits[PROCESS].revents) {
        ports_serve(&m->ports, waits[PORTS].revents != 0);
        health_serve(&m->health, &waits[HEALTH]);
    }
    return waits[PROCESS].revents != 0;
}

/* reboot(2) in a pid namespace ends its PID 1: as if by SIGINT for a halt, by SIGHUP for a restart. Neither signal
 * could end it otherwise, for a PID 1 gets none that it leaves at its default (pid_namespaces(7)). */
static void tell_ending(const struct plan *plan, int status, struct pylxc_report *ret)
{
    enum { HALTED = 2 /* SIGINT */ };
    int signal = status & 0x7f;
    if (plan->head->flags & PYLXC_PLAN_SYSTEM && signal == HALTED)
        return;
    ret->signal = signal;
    ret->code = signal ? 128 + signal : status >> 8 & 0xff;
}

/* What is there of a container that runs: its record, and the socket that its monitor is asked on. */
static int record_start(struct monitor *m)
{
    int r = ports_record(&m->ports, m->directory_fd);
    if (r >= 0)
        r = record_state(&m->plan, m->directory_fd, m->pid, m->restart.count);
    if (r >= 0 && m->plan.again)
        record_no_end(m->directory_fd);
    else if (r >= 0 && m->directory_fd >= 0)
        r = m->control_fd = control_open(m->directory_fd);
    return r < 0 ? monitor_fail(m, PYLXC_STAGE_RECORD, r, -1) : 0;
}

/* Tells the caller that the process runs, and writes down which one it is. */
static int announce(struct monitor *m)
{
    struct pylxc_report started = {.kind = PYLXC_REPORT_STARTED, .pid = m->pid, .time_ns = now_ns()};
    int late = monitor_has(m, PYLXC_PLAN_RECORD_LATE);
    if (late)
        monitor_report(&started, m->pid_fd);
    if (record_start(m) < 0) {
        if (late)
            m->error.stage = PYLXC_STAGE_NONE; /* the caller sees the end of file, and the process dead */
        return -1;
    }
    event_started(&m->plan, &started);
    if (!late && !m->plan.again)
        monitor_report(&started, m->pid_fd);
    return 0;
}

static void forget_process(struct monitor *m)
{
    m->pid = 0;
    m->error_fd = m->pid_fd = m->userns_fd = m->mounts_fd = m->terminal[0] = m->terminal[1] = -1;
    m->netns = NO_NETNS;
    m->streams[0] = m->streams[1] = (struct stream){-1, ""};
}

static void close_process(struct monitor *m)
{
    int *const open[] = {&m->error_fd,    &m->pid_fd,     &m->userns_fd,    &m->mounts_fd,     &m->terminal[0],
                         &m->terminal[1], &m->netns.ours, &m->netns.theirs, &m->streams[0].fd, &m->streams[1].fd};
    netns_end(&m->netns);
    for (size_t i = 0; i < LENGTH(open); i++)
        if (*open[i] >= 0)
            sys(close, *open[i]);
    forget_process(m);
}

/* Makes the process, and sees it as far as the exec. */
static int start(struct monitor *m)
{
    m->begun = monotonic_ns();
    m->told = 0;
    int r = streams_open(m);
    if (r < 0)
        return monitor_fail(m, PYLXC_STAGE_RECORD, r, -1);
    if (begin_process(m) < 0)
        return -1;
    if (!m->plan.again)
        sys(setsid); /* 0.02 ms, for which the child, which has a session of its own, need not wait */
    if (begin_await(m) < 0)
        return -1;
    streams_give_terminal(m);
    ports_begin(&m->ports, m->pid_fd);
    health_begin(&m->health, &m->plan, m->pid, m->pid_fd, m->directory_fd);
    if (announce(m) < 0)
        return -1;
    m->mounts_fd = hold_mounts(m);
    return 0;
}

/* Whether the kernel killed one of its processes for want of memory. */
static int ran_out_of_memory(struct monitor *m, uint64_t kills)
{
    int more = kills > m->oom_kills;
    m->oom_kills = kills;
    return more;
}

/* How the process has ended: by itself, or, a further time, without having begun. */
static struct pylxc_report end_of_process(struct monitor *m, int started)
{
    struct pylxc_report ended = {.kind = PYLXC_REPORT_ENDED, .pid = m->pid, .time_ns = now_ns()};
    int status = 0;
    health_end(&m->health);
    ports_end(&m->ports, m->orphaned);
    if (started) {
        sys(wait4, m->pid, &status, __WALL, 0);
        m->pid = 0;
        ended.time_ns = now_ns();
        tell_ending(&m->plan, status, &ended);
        read_full(m->error_fd, &ended.error, sizeof ended.error);
        streams_drain(m);
        return ended;
    }
    begin_undo(m);
    ended.error = m->error;
    int absent = m->error.errnum == ENOENT || m->error.errnum == ENOTDIR;
    ended.code = m->error.stage != PYLXC_STAGE_EXEC ? 128 : absent ? 127 : 126; /* docker's, and the shell's */
    return ended;
}

/* The first start failed: nothing of it is left, and the caller is told why. */
_Noreturn static void give_up(struct monitor *m)
{
    ports_end(&m->ports, 1);
    begin_undo(m);
    cgroups_finish(&m->plan);
    if (m->orphaned && m->directory_fd >= 0)
        empty_tree(m->directory_fd, NULL);
    struct pylxc_report failed = {.kind = PYLXC_REPORT_FAILED, .error = m->error};
    if (m->error.stage != PYLXC_STAGE_NONE)
        monitor_report(&failed, -1);
    sys_exit(1);
}

/* Once for each process: a monitor that rests may find meanwhile that this was the last one. */
static void tell_end(struct monitor *m, const struct pylxc_report *ended)
{
    if (!m->told)
        event_died(&m->plan, ended);
    m->told = 1;
}

/* The container has ended for good. */
_Noreturn static void finish(struct monitor *m, struct pylxc_report *ended)
{
    int forsaken = m->orphaned || monitor_has(m, PYLXC_PLAN_EPHEMERAL);
    ports_close(&m->ports);
    uint64_t kills = cgroups_finish(&m->plan);
    ended->oom_killed |= ran_out_of_memory(m, kills);
    if (!forsaken)
        record_end(m->directory_fd, ended, 0);
    tell_end(m, ended);
    control_close(m->directory_fd, m->control_fd);
    monitor_report(ended, -1);
    /* The caller is told first and does its own tidying meanwhile; it waits for this process before it says "removed".
     */
    if (m->mounts_fd >= 0)
        sys(close, m->mounts_fd);
    if (forsaken && m->directory_fd >= 0)
        empty_tree(m->directory_fd, !m->orphaned && monitor_has(m, PYLXC_PLAN_KEEP_WORK) ? "work" : NULL);
    sys_exit(0);
}

static int is_over(const struct monitor *m)
{
    return m->orphaned || m->stopping.asked;
}

/* Waits until it is time for the next start; says whether it came to that. */
static int rest(struct monitor *m, struct pylxc_report *ended, int64_t lived)
{
    int64_t until = monotonic_ns() + restart_next(&m->restart, lived);
    uint64_t kills = cgroups_clear(&m->plan);
    ended->oom_killed |= ran_out_of_memory(m, kills);
    record_end(m->directory_fd, ended, 1);
    tell_end(m, ended);
    event_add(&m->plan, "restarting", ended->time_ns, NULL);
    close_process(m);
    while (!is_over(m) && monotonic_ns() < until)
        serve(m, until);
    return !is_over(m);
}

static void begin(struct monitor *m)
{
    const struct pylxc_plan *head = m->plan.head;
    m->directory_fd = head->directory_fd;
    m->owner_fd = head->flags & PYLXC_PLAN_KILL_WITH_OWNER ? head->owner_fd : -1;
    sys(prctl, PR_SET_NAME, "pylxc-monitor", 0, 0, 0);
    sys(chdir, "/");
    sys(umask, 0);
    streams_fill();
    if (head->flags & PYLXC_PLAN_HOLD)
        userns_hold();
    if (head->flags & PYLXC_PLAN_PAUSE)
        pause_hold(&m->plan);
    if (head->flags & PYLXC_PLAN_KEEP)
        network_keep(&m->plan);
    if (head->flags & PYLXC_PLAN_STACK)
        stack_keep(&m->plan);
    int index = -1, r = ports_open(&m->ports, &m->plan, &index);
    if (r < 0) {
        monitor_fail(m, PYLXC_STAGE_NETWORK, r, index);
        give_up(m);
    }
    r = userns_enter_given(&m->plan);
    if (r < 0) {
        monitor_fail(m, PYLXC_STAGE_NAMESPACES, r, -1);
        give_up(m);
    }
    if (head->flags & PYLXC_PLAN_STDIN && (r = (int)sys(pipe2, m->input, O_CLOEXEC)) < 0) {
        monitor_fail(m, PYLXC_STAGE_RECORD, r, -1);
        give_up(m);
    }
}

_Noreturn void monitor_run(const struct plan *plan)
{
    struct monitor m = {.plan = *plan,
                        .control_fd = -1,
                        .held_fd = -1,
                        .input = {-1, -1},
                        .log = {.fd = -1},
                        .stopping = {.next = INT64_MAX, .kill = INT64_MAX}};
    forget_process(&m);
    begin(&m);
    for (;; m.plan.again = 1) {
        int started = start(&m) >= 0;
        if (!started && !m.plan.again)
            give_up(&m);
        while (started && !serve(&m, INT64_MAX))
            ;
        struct pylxc_report ended = end_of_process(&m, started);
        if (is_over(&m) || !restart_is_wanted(plan, &m.restart, ended.code))
            finish(&m, &ended);
        if (!rest(&m, &ended, monotonic_ns() - m.begun))
            finish(&m, &ended);
    }
}
