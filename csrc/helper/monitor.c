/* The monitor: parent of one container or exec, for as long as that runs.
 *
 * It makes the process, tells the caller what became of it, keeps its output in the log, writes how it ended, and kills
 * it when the owner goes first. It holds no memory of the caller's, runs no code of the container's, and stays out of
 * the container's namespaces. One thread, one poll loop; signals are blocked for good (the caller blocked them around
 * the clone), so only SIGKILL ends it early, and then PR_SET_PDEATHSIG takes the payload along.
 */
#include "cgroup.h"
#include "helper.h"
#include "join.h"
#include "log.h"
#include "message.h"
#include "netns.h"
#include "remove_tree.h"
#include "terminal.h"
#include "userns.h"
#include <asm/poll.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/signal.h>
#include <linux/time_types.h>
#include <linux/wait.h>

enum { STREAM_BUFFER = 65536, TERMINAL_HOLDS = 4 * STREAM_BUFFER /* more than the kernel keeps for a reader */ };

struct stream {
    int fd;
    const char *name;
};

struct monitor {
    const struct plan *plan;
    int error_fd, pid_fd, userns_fd, directory_fd;
    struct log log;
    int terminal[2]; /* the ends of the payload's, by enum terminal_end; -1 = none */
    int32_t pid;
    struct netns netns;
    struct stream streams[2];
};

static int64_t now_ns(void)
{
    struct __kernel_timespec t;
    sys(clock_gettime, 0 /* CLOCK_REALTIME */, &t);
    return t.tv_sec * 1000000000 + t.tv_nsec;
}

static void report(const struct pylxc_report *r, int pass_fd)
{
    send_message(PYLXC_FD_CONTROL, r, sizeof *r, pass_fd);
}

_Noreturn static void give_up(int stage, long negative_errno, int index)
{
    struct pylxc_report r = {.kind = PYLXC_REPORT_FAILED,
                             .error = {.stage = stage, .errnum = (int32_t)-negative_errno, .index = index}};
    report(&r, -1);
    sys_exit(1);
}

/* Makes `name` in the record directory appear whole or not at all. */
static int write_record(int directory, const char *name, const struct text *content)
{
    static const char temporary[] = ".record";
    sys(unlinkat, directory, temporary, 0);
    fd_close int fd = (int)sys(openat, directory, temporary, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    int r = fd < 0 ? fd : write_all(fd, content->data, content->length);
    return r < 0 ? r : (int)sys(renameat2, directory, temporary, directory, name, 0);
}

/* Field 22 of /proc/PID/stat (proc_pid_stat(5)): with the boot id it tells a process from a later one of equal pid. */
static void add_start_time(struct text *to, int32_t pid)
{
    char stat[1024];
    TEXT(path, 64);
    text_add(&path, "/proc/");
    text_number(&path, pid);
    text_add(&path, "/stat");
    fd_close int fd = (int)sys(openat, AT_FDCWD, path.data, O_RDONLY | O_CLOEXEC, 0);
    long n = fd < 0 ? 0 : read_full(fd, stat, sizeof stat - 1);
    char *at = stat, *end = stat + (n > 0 ? n : 0);
    *end = 0;
    for (char *p = stat; p < end; p++)
        if (*p == ')')
            at = p; /* the name may itself hold brackets: the last one counts */
    for (int field = 2; field < 22 && *at; at++)
        field += *at == ' ';
    char *stop = strchr(at, ' ');
    if (stop && stop > at)
        text_bytes(to, at, (size_t)(stop - at));
    else
        text_add(to, "0");
}

/* Which process this is, as an attribute of the record directory: "PID START MONITOR STARTED_NS". An attribute of some
 * 40 bytes lies in the directory's own inode and costs a tenth of a file. The lock on the directory, held until the
 * monitor ends, says that the process is watched. */
static int record_state(struct monitor *m)
{
    int directory = m->directory_fd;
    if (directory < 0)
        return 0;
    TEXT(words, 128);
    text_number(&words, m->pid);
    text_add(&words, " ");
    add_start_time(&words, m->pid);
    text_add(&words, " ");
    text_number(&words, (int64_t)sys(getpid));
    text_add(&words, " ");
    text_number(&words, now_ns());
    long r = sys(flock, directory, 2 /* LOCK_EX */);
    return (int)(r < 0 ? r : sys(fsetxattr, directory, "user.pylxc.state", words.data, words.length, 0));
}

static void record_end(const struct monitor *m, const struct pylxc_report *end)
{
    TEXT(json, 512);
    if (m->directory_fd < 0)
        return;
    text_add(&json, "{\"exit_code\":");
    text_number(&json, end->code);
    text_add(&json, ",\"signal\":");
    text_number(&json, end->signal);
    text_add(&json, ",\"finished_ns\":");
    text_number(&json, end->time_ns);
    text_add(&json, ",\"oom_killed\":");
    text_number(&json, end->oom_killed);
    text_add(&json, "}\n");
    write_record(m->directory_fd, "exit", &json);
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
    sys(pidfd_send_signal, m->pid_fd, 9 /* SIGKILL */, 0, 0);
    sys(wait4, m->pid, 0, __WALL, 0);
    netns_end(&m->netns);
}

static int owner_of(const struct monitor *m)
{
    const struct pylxc_plan *head = m->plan->head;
    return head->flags & PYLXC_PLAN_KILL_WITH_OWNER ? head->owner_fd : -1;
}

/* A step may block (a bind of a network file system that does not answer): the owner's end is heeded even then. */
static void await_word(struct monitor *m)
{
    for (int forsaken = 0; !forsaken;) {
        struct pollfd waits[] = {{.fd = m->error_fd, .events = POLLIN},
                                 {.fd = owner_of(m), .events = POLLIN},
                                 {.fd = m->netns.maker_fd, .events = POLLIN}};
        if (sys(ppoll, waits, LENGTH(waits), 0, 0, 0) < 0)
            continue;
        if (waits[2].revents)
            netns_end(&m->netns);
        if (waits[0].revents)
            return;
        forsaken = waits[1].revents;
    }
    end_process(m);
    cgroups_finish(m->plan);
    if (m->directory_fd >= 0)
        empty_tree(m->directory_fd);
    sys_exit(1);
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
static void await_start(struct monitor *m)
{
    struct pylxc_error error;
    long n;
    for (int fd;;) {
        await_word(m);
        do
            n = receive_message(m->error_fd, &error, sizeof error, &fd);
        while (n == -ECONNRESET); /* comes once, before its last words, when it has left something unread */
        if (n != sizeof error)
            break;
        if (error.stage == REQUEST_TREE)
            userns_serve(m->plan, m->error_fd, m->userns_fd, &error);
        else if (!takes_terminal(m, &error, fd))
            break;
    }
    if (m->userns_fd >= 0)
        sys(close, m->userns_fd);
    if (n == 0 || (n == sizeof error && error.stage == PYLXC_STAGE_NONE)) {
        netns_end(&m->netns);
        return;
    }
    struct pylxc_report r = {.kind = PYLXC_REPORT_FAILED, .error = error};
    if (n != sizeof error || error.stage < 0)
        r.error = (struct pylxc_error){.stage = PYLXC_STAGE_HELPER, .errnum = EPROTO, .index = -1};
    end_process(m);
    cgroups_finish(m->plan);
    report(&r, -1);
    sys_exit(1);
}

/* Standard streams that the caller did not give are /dev/null: left closed, their numbers would go to other files. */
static void fill_streams(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (sys(fcntl, fd, F_GETFD) < 0)
            sys(openat, AT_FDCWD, "/dev/null", O_RDWR, 0);
}

static int is_unprivileged(const struct monitor *m)
{
    return (m->plan->head->flags & PYLXC_PLAN_UNPRIVILEGED) != 0;
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
static void await_release(struct monitor *m)
{
    struct pollfd waits[] = {{.fd = PYLXC_FD_CONTROL, .events = POLLIN}, {.fd = owner_of(m), .events = POLLIN}};
    char word;
    while (sys(ppoll, waits, LENGTH(waits), 0, 0, 0) < 0)
        ;
    if (waits[0].revents)
        receive_message(PYLXC_FD_CONTROL, &word, sizeof word, &m->directory_fd);
    if (m->directory_fd < 0) {
        end_process(m);
        cgroups_finish(m->plan);
        sys_exit(1);
    }
    int r = log_open(m->plan, m->directory_fd, &m->log);
    if (r < 0) {
        end_process(m);
        cgroups_finish(m->plan);
        give_up(PYLXC_STAGE_RECORD, r, -1);
    }
    struct tree_reply go = {0};
    send_message(m->error_fd, &go, sizeof go, -1);
}

/* Gives a new process what it cannot have by itself, in the order in which it waits for it. */
static void begin_process(struct monitor *m)
{
    int own = userns_is_own(m->plan), begun = own ? userns_begin(m->plan, m->pid, m->error_fd, &m->userns_fd) : 0;
    sys(prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
    if (begun < 0) {
        end_process(m);
        cgroups_finish(m->plan);
        give_up(PYLXC_STAGE_NAMESPACES, begun, 0);
    }
    netns_begin(m->plan, &m->netns, m->userns_fd);
    if (m->plan->head->flags & PYLXC_PLAN_AWAIT_CALLER)
        await_release(m);
    if (userns_maps_trees(m->plan))
        userns_send_layers(m->plan, m->error_fd, m->userns_fd);
}

/* Of the namespaces of a process that is joined, those that must be entered before the clone: the pid namespace, which
 * counts for children only, and the user namespace where only its owner may enter the others (setns(2)). */
static int join_first(const struct monitor *m)
{
    const struct pylxc_plan *head = m->plan->head;
    uint64_t first = head->clone_flags & (CLONE_NEWPID | (is_unprivileged(m) ? CLONE_NEWUSER : 0));
    return head->flags & PYLXC_PLAN_JOIN && first ? (int)sys(setns, head->target_fd, first) : 0;
}

_Noreturn static void become_child(const struct monitor *m, struct cgroups *cgroups, int channel)
{
    sys(close, PYLXC_FD_CONTROL);
    if (m->netns.ours >= 0)
        sys(close, m->netns.ours);
    int entered = cgroups_enter(cgroups);
    cgroups_close(cgroups);
    if (entered < 0) {
        struct pylxc_error error = {.stage = PYLXC_STAGE_CGROUP, .errnum = -entered, .index = -1};
        write_all(channel, &error, sizeof error);
        sys_exit(127);
    }
    launch_run(m->plan, channel, m->netns.theirs);
}

static void make_process(struct monitor *m)
{
    const struct pylxc_plan *head = m->plan->head;
    int ends[2], joining = (head->flags & PYLXC_PLAN_JOIN) != 0;
    userns_give_streams(m->plan);
    struct cgroups cgroups;
    int opened = cgroups_open(m->plan, &cgroups);
    if (opened < 0)
        give_up(PYLXC_STAGE_CGROUP, opened, -1);
    opened = is_unprivileged(m) && joining ? score_first(&cgroups) : 0;
    if (opened < 0)
        give_up(PYLXC_STAGE_CGROUP, opened, -1);
    long r = sys(socketpair, 1 /* AF_UNIX */, 5 /* SOCK_SEQPACKET */ | O_CLOEXEC, 0, ends);
    if (r >= 0)
        r = join_first(m);
    if (r >= 0)
        r = netns_open(m->plan, &m->netns);
    if (r < 0)
        give_up(PYLXC_STAGE_NAMESPACES, r, -1);
    /* The id maps of a child that is not dumpable belong to the host's root: it becomes so when they are written. */
    if (is_unprivileged(m) && userns_is_new(m->plan))
        sys(prctl, PR_SET_DUMPABLE, 1, 0, 0, 0);
    /* Not CLONE_NEWNET (netns.c). Not CLONE_NEWCGROUP: its root would be the monitor's own cgroup, for clone3 makes
     * namespaces before it moves. */
    const uint64_t later = CLONE_NEWNET | CLONE_NEWCGROUP;
    struct clone_args args = {.flags = CLONE_PIDFD | (joining ? 0 : head->clone_flags & ~later) |
                                       (cgroups.v2_fd >= 0 ? CLONE_INTO_CGROUP : 0),
                              .cgroup = (uint64_t)(cgroups.v2_fd >= 0 ? cgroups.v2_fd : 0),
                              .pidfd = (uintptr_t)&m->pid_fd,
                              .exit_signal = 17 /* SIGCHLD */};
    const struct pylxc_op *join = join_operation(m->plan);
    r = join ? join_clone(join, &args, &m->pid_fd) : sys(clone3, &args, sizeof args);
    if (r < 0)
        give_up(PYLXC_STAGE_NAMESPACES, r, join ? join_index(m->plan) : -1);
    if (r == 0) {
        sys(close, ends[0]);
        become_child(m, &cgroups, ends[1]);
    }
    cgroups_close(&cgroups);
    m->pid = (int32_t)r;
    m->error_fd = ends[0];
    sys(close, ends[1]);
    for (int fd = 0; fd <= 2; fd++) /* the payload's now: held here, their other ends would never see an end of file */
        sys(close, fd);
    begin_process(m);
}

/* The master goes to the caller, or takes the place of the pipes to the log, which the payload no longer has. */
static void give_terminal(struct monitor *m)
{
    if (m->terminal[MASTER] < 0)
        return;
    if (m->plan->head->flags & PYLXC_PLAN_LOG) {
        for (int i = 0; i < 2; i++)
            sys(close, m->streams[i].fd);
        m->streams[0].fd = m->terminal[MASTER];
        m->streams[1].fd = -1;
        return;
    }
    struct pylxc_report terminal = {.kind = PYLXC_REPORT_TERMINAL, .pid = m->pid};
    report(&terminal, m->terminal[MASTER]);
    sys(close, m->terminal[MASTER]);
}

/* Holds the process's mount namespace, so that its end need not wait until its mounts are taken apart (0.4 ms, most of
 * it grace periods of RCU and super blocks): the caller is told first, and does its own tidying meanwhile. Only for
 * those that nobody starts again: the upper directory is in use for that moment longer. Without the right to look
 * (CAP_SYS_PTRACE), or when it has ended already, nothing is held. */
static int hold_mounts(const struct monitor *m)
{
    const struct pylxc_plan *head = m->plan->head;
    int passing = (head->flags & PYLXC_PLAN_EPHEMERAL) != 0 && (head->clone_flags & CLONE_NEWNS) != 0;
    return passing ? open_namespace(m->pid, "mnt") : -1;
}

/* Waits for the process, meanwhile serving the log and watching the owner. Says whether the owner went first. */
static int watch(struct monitor *m)
{
    int owner = owner_of(m), orphaned = 0;
    enum { PROCESS, OWNER, OUT, ERR, COUNT };
    for (;;) {
        struct pollfd waits[COUNT] = {{.fd = m->pid_fd, .events = POLLIN},
                                      {.fd = owner, .events = POLLIN},
                                      {.fd = m->streams[0].fd, .events = POLLIN},
                                      {.fd = m->streams[1].fd, .events = POLLIN}};
        long r = sys(ppoll, waits, COUNT, 0, 0, 0);
        if (r < 0)
            continue;
        for (int i = 0; i < 2; i++)
            if (waits[OUT + i].revents)
                pump(m, &m->streams[i]);
        if (waits[OWNER].revents) {
            sys(pidfd_send_signal, m->pid_fd, 9, 0, 0);
            owner = -1;
            orphaned = 1;
        }
        if (waits[PROCESS].revents)
            return orphaned;
    }
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
    sys(close, m->terminal[SLAVE]);
    if (m->streams[0].fd >= 0)
        drain_terminal(m);
}

static const struct monitor nothing_open = {.error_fd = -1,
                                            .pid_fd = -1,
                                            .log = {.fd = -1},
                                            .userns_fd = -1,
                                            .directory_fd = -1,
                                            .netns = {-1, -1, -1, 0},
                                            .terminal = {-1, -1},
                                            .streams = {{-1, ""}, {-1, ""}}};

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

/* Tells the caller that the process runs, and writes down which one it is. */
static void announce(struct monitor *m)
{
    struct pylxc_report started = {.kind = PYLXC_REPORT_STARTED, .pid = m->pid, .time_ns = now_ns()};
    int late = (m->plan->head->flags & PYLXC_PLAN_RECORD_LATE) != 0;
    if (late)
        report(&started, m->pid_fd);
    int r = record_state(m);
    if (r < 0) {
        end_process(m);
        cgroups_finish(m->plan);
        if (late)
            sys_exit(1); /* the caller sees the end of file, and the process dead */
        give_up(PYLXC_STAGE_RECORD, r, -1);
    }
    if (!late)
        report(&started, m->pid_fd);
}

_Noreturn void monitor_run(const struct plan *plan)
{
    struct monitor m = nothing_open;
    m.plan = plan;
    m.directory_fd = plan->head->directory_fd;
    sys(prctl, PR_SET_NAME, "pylxc-monitor", 0, 0, 0);
    sys(chdir, "/");
    sys(umask, 0);
    fill_streams();
    if (plan->head->flags & PYLXC_PLAN_HOLD)
        userns_hold();
    int r = userns_enter_given(plan);
    if (r < 0)
        give_up(PYLXC_STAGE_NAMESPACES, r, -1);
    r = plan->head->flags & PYLXC_PLAN_LOG ? pipe_to_log(&m) : 0;
    if (r < 0)
        give_up(PYLXC_STAGE_RECORD, r, -1);
    make_process(&m);
    sys(setsid); /* 0.02 ms, for which the child, which has a session of its own, need not wait */
    await_start(&m);
    give_terminal(&m);
    announce(&m);
    fd_close int mounts = hold_mounts(&m);
    int forsaken = watch(&m) || plan->head->flags & PYLXC_PLAN_EPHEMERAL;

    int status = 0;
    sys(wait4, m.pid, &status, __WALL, 0);
    struct pylxc_report ended = {.kind = PYLXC_REPORT_ENDED, .pid = m.pid, .time_ns = now_ns()};
    tell_ending(plan, status, &ended);
    read_full(m.error_fd, &ended.error, sizeof ended.error);
    drain(&m);
    ended.oom_killed = cgroups_finish(plan);
    if (!forsaken)
        record_end(&m, &ended);
    report(&ended, -1);
    /* The caller is told first and does its own tidying meanwhile; it waits for this process before it says "removed".
     */
    if (mounts >= 0)
        sys(close, steal_fd(&mounts));
    if (forsaken && m.directory_fd >= 0)
        empty_tree(m.directory_fd);
    sys_exit(0);
}
