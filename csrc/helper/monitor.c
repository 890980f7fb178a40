/* The monitor: parent of one container or exec, for as long as that runs.
 *
 * It makes the process, tells the caller what became of it, keeps its output in the log, writes how it ended, and kills
 * it when the owner goes first. It holds no memory of the caller's, runs no code of the container's, and stays out of
 * the container's namespaces. One thread, one poll loop; signals are blocked for good (the caller blocked them around
 * the clone), so only SIGKILL ends it early, and then PR_SET_PDEATHSIG takes the payload along.
 */
#include "cgroup.h"
#include "control.h"
#include "events.h"
#include "health.h"
#include "helper.h"
#include "join.h"
#include "log.h"
#include "message.h"
#include "netns.h"
#include "record.h"
#include "remove_tree.h"
#include "restart.h"
#include "terminal.h"
#include "userns.h"
#include <asm/poll.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/signal.h>
#include <linux/time_types.h>
#include <linux/wait.h>

enum { STREAM_BUFFER = 65536, TERMINAL_HOLDS = 4 * STREAM_BUFFER /* more than the kernel keeps for a reader */ };
enum { SIGKILL_ = 9 };

struct stream {
    int fd;
    const char *name;
};

/* What is under way of a stop: times are of CLOCK_MONOTONIC, in ns; INT64_MAX = never. */
struct stopping {
    int asked, signal;
    int64_t repeat, next, kill;
};

struct monitor {
    struct plan plan;
    /* As long as the monitor lives. */
    int owner_fd, directory_fd, control_fd;
    int input[2]; /* the pipe that is the process's standard input, with PYLXC_PLAN_STDIN */
    int orphaned; /* the owner went first */
    struct log log;
    struct restart restart;
    struct stopping stopping;
    uint64_t oom_kills;
    /* As long as one process. */
    int error_fd, pid_fd, userns_fd, mounts_fd;
    int terminal[2]; /* the ends of the payload's, by enum terminal_end; -1 = none */
    int32_t pid;
    int64_t begun; /* of CLOCK_MONOTONIC */
    int told;      /* that it has ended */
    struct netns netns;
    struct stream streams[2];
    struct health health;
    struct pylxc_error error; /* why it could not be started; stage NONE = nobody wants to know */
};

static void report(const struct pylxc_report *r, int pass_fd)
{
    send_message(PYLXC_FD_CONTROL, r, sizeof *r, pass_fd);
}

static int fail(struct monitor *m, int stage, long negative_errno, int index)
{
    m->error = (struct pylxc_error){.stage = stage, .errnum = (int32_t)-negative_errno, .index = index};
    return -1;
}

static int has_flag(const struct monitor *m, uint32_t flag)
{
    return (m->plan.head->flags & flag) != 0;
}

/* Pipes in place of descriptors 1 and 2, which end in the log. */
static int pipe_to_log(struct monitor *m)
{
    for (int i = 0; i < 2; i++) {
        int ends[2];
        long r = sys(pipe2, ends, O_CLOEXEC);
        if (r < 0)
            return (int)r;
        m->streams[i] = (struct stream){ends[0], i ? "stderr" : "stdout"};
        r = sys(dup3, ends[1], i + 1, 0);
        sys(close, ends[1]);
        if (r < 0)
            return (int)r;
    }
    return 0;
}

/* Moves what a stream has to the log: how many bytes, 0 where it has none or has come to its end. */
static long pump(struct monitor *m, struct stream *s)
{
    static char buffer[STREAM_BUFFER];
    long n = sys(read, s->fd, buffer, sizeof buffer);
    if (n == -EINTR || n == -EAGAIN)
        return 0;
    if (n <= 0) { /* of a terminal whose slave nobody has open: EIO */
        sys(close, s->fd);
        s->fd = DEFENCE(STREAM_END, -1, s->fd);
        return 0;
    }
    log_add(&m->log, s->name, now_ns(), buffer, (size_t)n);
    return n;
}

static void end_process(struct monitor *m)
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
    return fail(m, PYLXC_STAGE_NONE, 0, -1);
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
static int await_start(struct monitor *m)
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
        return fail(m, PYLXC_STAGE_HELPER, -EPROTO, -1);
    m->error = word;
    return -1;
}

/* Standard streams that the caller did not give are /dev/null: left closed, their numbers would go to other files. */
static void fill_streams(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (sys(fcntl, fd, F_GETFD) < 0)
            sys(openat, AT_FDCWD, "/dev/null", O_RDWR, 0);
}

/* They are the payload's now: held here, their other ends would never see an end of file. The numbers stay taken, or
 * what is opened next would get them, and be the next process's streams. */
static void give_up_streams(void)
{
    fd_close int null = (int)sys(openat, AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd <= 2; fd++)
        sys(dup3, null, fd, 0);
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
 * there: it makes them while the process is being made. A caller that is gone, or says without a directory that it
 * could not, leaves nothing behind. */
static int await_release(struct monitor *m)
{
    struct pollfd waits[] = {{.fd = PYLXC_FD_CONTROL, .events = POLLIN}, {.fd = m->owner_fd, .events = POLLIN}};
    char word;
    while (sys(ppoll, waits, LENGTH(waits), 0, 0, 0) < 0)
        ;
    if (waits[0].revents)
        receive_message(PYLXC_FD_CONTROL, &word, sizeof word, &m->directory_fd);
    if (m->directory_fd < 0)
        return fail(m, PYLXC_STAGE_NONE, 0, -1);
    int r = log_open(&m->plan, m->directory_fd, &m->log);
    if (r < 0)
        return fail(m, PYLXC_STAGE_RECORD, r, -1);
    struct tree_reply go = {0};
    send_message(m->error_fd, &go, sizeof go, -1);
    return 0;
}

/* Gives a new process what it cannot have by itself, in the order in which it waits for it. */
static int begin_process(struct monitor *m)
{
    int own = userns_is_own(&m->plan), begun = own ? userns_begin(&m->plan, m->pid, m->error_fd, &m->userns_fd) : 0;
    sys(prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
    if (begun < 0)
        return fail(m, PYLXC_STAGE_NAMESPACES, begun, 0);
    netns_begin(&m->plan, &m->netns, m->userns_fd);
    if (has_flag(m, PYLXC_PLAN_AWAIT_CALLER) && !m->plan.again && await_release(m) < 0)
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
    uint64_t first = head->clone_flags & (CLONE_NEWPID | (has_flag(m, PYLXC_PLAN_UNPRIVILEGED) ? CLONE_NEWUSER : 0));
    return has_flag(m, PYLXC_PLAN_JOIN) && first ? (int)sys(setns, head->target_fd, first) : 0;
}

_Noreturn static void become_child(const struct monitor *m, struct cgroups *cgroups, int channel)
{
    /* A process of the container that may trace could take these from here. Those of a first start come later, or are
     * the plan's, and launch_run's to close. */
    const int monitors[] = {PYLXC_FD_CONTROL, m->netns.ours, m->directory_fd, m->control_fd, m->input[1], m->log.fd};
    for (size_t i = 0; i < LENGTH(monitors); i++)
        if (monitors[i] >= 0)
            sys(close, monitors[i]);
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
                                       (has_flag(m, PYLXC_PLAN_JOIN) ? 0 : m->plan.head->clone_flags & ~later) |
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
    if (opened >= 0 && has_flag(m, PYLXC_PLAN_UNPRIVILEGED) && has_flag(m, PYLXC_PLAN_JOIN))
        opened = score_first(cgroups);
    if (opened < 0)
        return fail(m, PYLXC_STAGE_CGROUP, opened, -1);
    long r = sys(socketpair, 1 /* AF_UNIX */, 5 /* SOCK_SEQPACKET */ | O_CLOEXEC, 0, ends);
    if (r >= 0)
        r = join_first(m);
    if (r >= 0)
        r = netns_open(&m->plan, &m->netns);
    if (r < 0)
        return fail(m, PYLXC_STAGE_NAMESPACES, r, -1);
    /* The id maps of a child that is not dumpable belong to the host's root: it becomes so when they are written. */
    if (has_flag(m, PYLXC_PLAN_UNPRIVILEGED) && userns_is_new(&m->plan))
        sys(prctl, PR_SET_DUMPABLE, 1, 0, 0, 0);
    return 0;
}

static int make_process(struct monitor *m)
{
    struct cgroups cgroups;
    int ends[2] = {-1, -1};
    long r = prepare_child(m, &cgroups, ends);
    if (r >= 0) {
        r = make_child(m, &cgroups);
        if (r < 0)
            fail(m, PYLXC_STAGE_NAMESPACES, r, join_index(&m->plan));
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
    give_up_streams();
    return r < 0 ? -1 : begin_process(m);
}

/* The master goes to the caller, or takes the place of the pipes to the log, which the payload no longer has. */
static void give_terminal(struct monitor *m)
{
    if (m->terminal[MASTER] < 0)
        return;
    if (has_flag(m, PYLXC_PLAN_LOG)) {
        for (int i = 0; i < 2; i++)
            sys(close, m->streams[i].fd);
        m->streams[0].fd = steal_fd(&m->terminal[MASTER]);
        m->streams[1].fd = -1;
        return;
    }
    struct pylxc_report terminal = {.kind = PYLXC_REPORT_TERMINAL, .pid = m->pid};
    report(&terminal, m->terminal[MASTER]);
    sys(close, steal_fd(&m->terminal[MASTER]));
}

/* Holds the process's mount namespace, so that its end need not wait until its mounts are taken apart (0.4 ms, most of
 * it grace periods of RCU and super blocks): the caller is told first, and does its own tidying meanwhile. Only for
 * those that nobody starts again: the upper directory is in use for that moment longer. Without the right to look
 * (CAP_SYS_PTRACE), or when it has ended already, nothing is held. */
static int hold_mounts(const struct monitor *m)
{
    int passing = has_flag(m, PYLXC_PLAN_EPHEMERAL) && (m->plan.head->clone_flags & CLONE_NEWNS) != 0;
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
    enum { PROCESS, OWNER, OUT, ERR, CONTROL, HEALTH, COUNT = HEALTH + HEALTH_WAITS };
    struct pollfd waits[COUNT] = {{.fd = m->pid_fd, .events = POLLIN},
                                  {.fd = m->owner_fd, .events = POLLIN},
                                  {.fd = m->streams[0].fd, .events = POLLIN},
                                  {.fd = m->streams[1].fd, .events = POLLIN},
                                  {.fd = m->control_fd, .events = POLLIN}};
    int64_t due = MINIMUM(MINIMUM(until, health_due(&m->health)), MINIMUM(m->stopping.next, m->stopping.kill)), left;
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
            pump(m, &m->streams[i]);
    if (waits[OWNER].revents) {
        send_signal(m, SIGKILL_);
        m->owner_fd = -1;
        m->orphaned = 1;
    }
    if (waits[CONTROL].revents)
        answer_request(m);
    go_on_stopping(m);
    if (!waits[PROCESS].revents)
        health_serve(&m->health, &waits[HEALTH]);
    return waits[PROCESS].revents != 0;
}

/* What the streams still hold when the process has ended, and no more: its namespace is empty then, but a pipe may have
 * been handed to a process elsewhere, which may write for ever. */
static void drain_log(struct monitor *m)
{
    for (int i = 0; i < 2; i++) {
        int left = 0;
        if (m->streams[i].fd >= 0)
            sys(ioctl, m->streams[i].fd, 0x541b /* FIONREAD */, &left);
        for (; DEFENCE(DRAIN_LIMIT, left > 0, 1) && m->streams[i].fd >= 0; left -= STREAM_BUFFER)
            pump(m, &m->streams[i]);
    }
}

/* Likewise. A terminal's bytes reach its reader by way of a kernel thread: FIONREAD does not wait for it, a read does.
 */
static void drain_terminal(struct monitor *m)
{
    long n = 1;
    sys(fcntl, m->streams[0].fd, F_SETFL, O_RDWR | O_NONBLOCK);
    for (long left = TERMINAL_HOLDS; n > 0 && left > 0; left -= n)
        n = pump(m, &m->streams[0]);
}

static void drain(struct monitor *m)
{
    if (m->terminal[SLAVE] < 0) {
        drain_log(m);
        return;
    }
    sys(close, steal_fd(&m->terminal[SLAVE]));
    if (m->streams[0].fd >= 0)
        drain_terminal(m);
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
    int r = record_state(&m->plan, m->directory_fd, m->pid, m->restart.count);
    if (r >= 0 && m->plan.again)
        record_no_end(m->directory_fd);
    else if (r >= 0 && m->directory_fd >= 0)
        r = m->control_fd = control_open(m->directory_fd);
    return r < 0 ? fail(m, PYLXC_STAGE_RECORD, r, -1) : 0;
}

/* Tells the caller that the process runs, and writes down which one it is. */
static int announce(struct monitor *m)
{
    struct pylxc_report started = {.kind = PYLXC_REPORT_STARTED, .pid = m->pid, .time_ns = now_ns()};
    int late = has_flag(m, PYLXC_PLAN_RECORD_LATE);
    if (late)
        report(&started, m->pid_fd);
    if (record_start(m) < 0) {
        if (late)
            m->error.stage = PYLXC_STAGE_NONE; /* the caller sees the end of file, and the process dead */
        return -1;
    }
    event_started(&m->plan, &started);
    if (!late && !m->plan.again)
        report(&started, m->pid_fd);
    return 0;
}

static void forget_process(struct monitor *m)
{
    m->pid = 0;
    m->error_fd = m->pid_fd = m->userns_fd = m->mounts_fd = m->terminal[0] = m->terminal[1] = -1;
    m->netns = (struct netns){-1, -1, -1, 0};
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

/* Descriptors 0 to 2 of the process: the caller's, the pipes to the log, or /dev/null. */
static int open_streams(struct monitor *m)
{
    int r = m->input[0] >= 0 ? (int)sys(dup3, m->input[0], 0, 0) : 0;
    return r < 0 || !has_flag(m, PYLXC_PLAN_LOG) ? r : pipe_to_log(m);
}

/* Makes the process, and sees it as far as the exec. */
static int start(struct monitor *m)
{
    m->begun = monotonic_ns();
    m->told = 0;
    int r = open_streams(m);
    if (r < 0)
        return fail(m, PYLXC_STAGE_RECORD, r, -1);
    if (make_process(m) < 0)
        return -1;
    if (!m->plan.again)
        sys(setsid); /* 0.02 ms, for which the child, which has a session of its own, need not wait */
    if (await_start(m) < 0)
        return -1;
    give_terminal(m);
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
    if (started) {
        sys(wait4, m->pid, &status, __WALL, 0);
        m->pid = 0;
        ended.time_ns = now_ns();
        tell_ending(&m->plan, status, &ended);
        read_full(m->error_fd, &ended.error, sizeof ended.error);
        drain(m);
        return ended;
    }
    end_process(m);
    ended.error = m->error;
    int absent = m->error.errnum == ENOENT || m->error.errnum == ENOTDIR;
    ended.code = m->error.stage != PYLXC_STAGE_EXEC ? 128 : absent ? 127 : 126; /* docker's, and the shell's */
    return ended;
}

/* The first start failed: nothing of it is left, and the caller is told why. */
_Noreturn static void give_up(struct monitor *m)
{
    end_process(m);
    cgroups_finish(&m->plan);
    if (m->orphaned && m->directory_fd >= 0)
        empty_tree(m->directory_fd);
    struct pylxc_report failed = {.kind = PYLXC_REPORT_FAILED, .error = m->error};
    if (m->error.stage != PYLXC_STAGE_NONE)
        report(&failed, -1);
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
    int forsaken = m->orphaned || has_flag(m, PYLXC_PLAN_EPHEMERAL);
    uint64_t kills = cgroups_finish(&m->plan);
    ended->oom_killed |= ran_out_of_memory(m, kills);
    if (!forsaken)
        record_end(m->directory_fd, ended, 0);
    tell_end(m, ended);
    control_close(m->directory_fd, m->control_fd);
    report(ended, -1);
    /* The caller is told first and does its own tidying meanwhile; it waits for this process before it says "removed".
     */
    if (m->mounts_fd >= 0)
        sys(close, m->mounts_fd);
    if (forsaken && m->directory_fd >= 0)
        empty_tree(m->directory_fd);
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
    fill_streams();
    if (head->flags & PYLXC_PLAN_HOLD)
        userns_hold();
    int r = userns_enter_given(&m->plan);
    if (r < 0) {
        fail(m, PYLXC_STAGE_NAMESPACES, r, -1);
        give_up(m);
    }
    if (head->flags & PYLXC_PLAN_STDIN && (r = (int)sys(pipe2, m->input, O_CLOEXEC)) < 0) {
        fail(m, PYLXC_STAGE_RECORD, r, -1);
        give_up(m);
    }
}

_Noreturn void monitor_run(const struct plan *plan)
{
    struct monitor m = {.plan = *plan,
                        .control_fd = -1,
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
