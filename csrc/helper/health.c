/* The checks of a container's health: a command that runs in it now and then, and what its exit status comes to.
 *
 * A check is an exec: a child of the monitor carries the plan out that PYLXC_OP_HEALTH holds, as a monitor of its own,
 * so that the container's never waits for anything. It is ended by closing the socket to it, which is its owner: it
 * kills the command, reaps it and ends, as it also does when the monitor is killed. (Were it killed itself, the command
 * would be left to whoever reaps orphans, and until then the container's PID 1 could not end.)
 *
 * The rules are docker's. The first check comes an interval after the start, and each further one an interval after the
 * last one's end; in the start period failures do not count, and the interval is another, until one has succeeded.
 * `retries` failures in a row make it unhealthy, a success makes it healthy. What is paused is not checked, and the
 * time for which it is paused is not the check's.
 *
 * Told are: the attribute user.pylxc.health of the record directory ("STATUS STREAK"), and the file "health" there, the
 * last results as JSON. Any bytes may come out of a check: each one that is not plain ASCII is written as \u00XX, and
 * the reader makes bytes of them again.
 */
#include "health.h"
#include "cgroup.h"
#include "events.h"
#include "message.h"
#include "record.h"
#include <linux/close_range.h>
#include <linux/sched.h>
#include <linux/time_types.h>
#include <linux/wait.h>

enum {
    KEPT = 4096,      /* bytes of a check's output, as docker */
    RESULTS = 5,      /* as docker */
    LOOKS = 16,       /* during a check's timeout: how long is it paused? */
    READS = 16,       /* of a check's output, before the container's own has its turn */
    OUT_OF_REACH = 16 /* descriptors from here on are none of those that a check is given */
};
#define MILLISECOND ((int64_t)1000000)
#define LONGEST_PAUSE (1000 * MILLISECOND)
#define LAST_PATIENCE (2000 * MILLISECOND) /* for a check that was told to end */

enum { OUTPUT, PROBE }; /* of what is waited for */
enum status { STARTING, HEALTHY, UNHEALTHY };
static const char *const status_words[] = {[STARTING] = "starting", [HEALTHY] = "healthy", [UNHEALTHY] = "unhealthy"};

struct health_result {
    int64_t start, end;      /* CLOCK_REALTIME, ns */
    int32_t code, timed_out; /* code -1: it did not come to an exit */
    int32_t stage, errnum;   /* what failed, where it did not even begin */
    uint32_t length;
    char output[KEPT];
};

/* The n-th result; one that is RESULTS + 1 older has had the same place. */
static struct health_result *result(const struct health *h, unsigned n)
{
    return &h->results[n % (RESULTS + 1)];
}

/* -- what is told ------------------------------------------------------------------------------------------------ */

/* For events: what became of the container's health, and when. */
static void told(const struct health *h, int64_t time_ns)
{
    TEXT(more, 48);
    text_add(&more, "\"health\":\"");
    text_add(&more, status_words[h->status]);
    text_add(&more, "\"");
    event_add(h->plan, "health", time_ns, &more);
}

static void record_status(const struct health *h)
{
    TEXT(words, 48);
    text_add(&words, status_words[h->status]);
    text_add(&words, " ");
    text_number(&words, h->streak);
    sys(fsetxattr, h->directory, "user.pylxc.health", words.data, words.length, 0);
}

static void add_member(struct text *to, const char *name, int64_t number)
{
    text_add(to, name);
    text_number(to, number);
}

static void add_byte(struct text *to, char byte)
{
    static const char digits[] = "0123456789abcdef";
    unsigned value = (unsigned char)byte;
    if (value >= ' ' && value < 0x7f && byte != '"' && byte != '\\') {
        text_bytes(to, &byte, 1);
        return;
    }
    text_add(to, "\\u00");
    text_bytes(to, &digits[value >> 4], 1);
    text_bytes(to, &digits[value & 15], 1);
}

static int write_result(int fd, const struct health_result *r, const char *before)
{
    TEXT(json, 1024);
    text_add(&json, before);
    add_member(&json, "{\"start\":", r->start);
    add_member(&json, ",\"end\":", r->end);
    add_member(&json, ",\"exit_code\":", r->code);
    add_member(&json, ",\"timed_out\":", r->timed_out);
    add_member(&json, ",\"stage\":", r->stage);
    add_member(&json, ",\"errno\":", r->errnum);
    text_add(&json, ",\"output\":\"");
    int failed = 0;
    for (uint32_t i = 0; i < r->length && !failed; i++) {
        add_byte(&json, r->output[i]);
        if (json.length + 16 > json.size) {
            failed = write_all(fd, json.data, json.length);
            json.length = 0;
        }
    }
    text_add(&json, "\"}");
    return failed < 0 ? failed : write_all(fd, json.data, json.length);
}

/* The file appears whole or not at all. */
static void record_results(const struct health *h)
{
    static const char temporary[] = ".health";
    unsigned oldest = h->count > RESULTS ? h->count - RESULTS : 0;
    sys(unlinkat, h->directory, temporary, 0);
    fd_close int fd = (int)sys(openat, h->directory, temporary, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    int r = fd < 0 ? fd : write_all(fd, "[", 1);
    for (unsigned n = oldest; n < h->count && r >= 0; n++)
        r = write_result(fd, result(h, n), n == oldest ? "" : ",\n");
    r = r < 0 ? r : write_all(fd, "]\n", 2);
    if (r >= 0)
        sys(renameat2, h->directory, temporary, h->directory, "health", 0);
}

/* -- the check --------------------------------------------------------------------------------------------------- */

/* In the child: it has the descriptors that an exec has, and no other. */
_Noreturn static void become_probe(const struct health *h, int nothing, int output, int control)
{
    enum { TARGET = 4, OWNER = 5, COUNT };
    int from[COUNT] = {nothing, output, output, control, h->target_fd, control};
    for (int fd = 0; fd < COUNT; fd++)
        from[fd] = (int)sys(fcntl, from[fd], F_DUPFD_CLOEXEC, OUT_OF_REACH);
    for (int fd = 0; fd < COUNT; fd++)
        if (sys(dup3, from[fd], fd, fd <= 2 ? 0 : O_CLOEXEC) < 0)
            sys_exit(1);
    sys(close_range, COUNT, ~0U, 0);
    struct pylxc_plan head = *h->check.head;
    head.target_fd = TARGET;
    head.owner_fd = OWNER;
    head.flags |= PYLXC_PLAN_KILL_WITH_OWNER;
    struct plan plan = {&head, h->check.first, 0, h->check.target_pid};
    monitor_run(&plan);
}

static void drop(int *fd)
{
    if (*fd >= 0)
        sys(close, steal_fd(fd));
}

/* 0 or a negative errno. */
static int start_probe(struct health *h)
{
    enum { OURS, THEIRS };
    int pipe[2], pair[2];
    fd_close int nothing = (int)sys(openat, AT_FDCWD, "/dev/null", O_RDONLY | O_CLOEXEC, 0);
    long r = nothing < 0 ? nothing : sys(pipe2, pipe, O_CLOEXEC);
    if (r < 0)
        return (int)r;
    fd_close int output = pipe[0], theirs_output = pipe[1];
    r = sys(socketpair, 1 /* AF_UNIX */, 5 /* SOCK_SEQPACKET */ | O_CLOEXEC, 0, pair);
    if (r < 0)
        return (int)r;
    fd_close int control = pair[OURS], theirs_control = pair[THEIRS];
    sys(fcntl, output, F_SETFL, O_NONBLOCK);
    sys(fcntl, control, F_SETFL, O_NONBLOCK);
    int probe = -1;
    struct clone_args args = {.flags = CLONE_PIDFD, .pidfd = (uintptr_t)&probe, .exit_signal = 17 /* SIGCHLD */};
    r = sys(clone3, &args, sizeof args);
    if (r == 0)
        become_probe(h, nothing, theirs_output, theirs_control);
    if (r < 0)
        return (int)r;
    h->probe_pid = (int32_t)r;
    h->probe_fd = probe;
    h->output_fd = steal_fd(&output);
    h->control_fd = steal_fd(&control);
    return 0;
}

/* Keeps the beginning of what the check writes, and throws the rest away: who floods must not wait, nor cost memory. */
static void read_output(struct health *h, struct health_result *r)
{
    char thrown_away[KEPT];
    for (int reads = 0; reads < READS && h->output_fd >= 0; reads++) {
        size_t room = KEPT - r->length;
        long n = room ? sys(read, h->output_fd, r->output + r->length, room)
                      : sys(read, h->output_fd, thrown_away, sizeof thrown_away);
        if (n == -EAGAIN || n == -EINTR)
            return;
        if (n <= 0)
            drop(&h->output_fd);
        else if (room)
            r->length += (uint32_t)n;
    }
}

/* What the check's monitor said of its end; it has ended. */
static void read_reports(struct health *h, struct health_result *r)
{
    struct pylxc_report report;
    int passed;
    while (h->control_fd >= 0 && receive_message(h->control_fd, &report, sizeof report, &passed) == sizeof report) {
        drop(&passed);
        if (report.kind == PYLXC_REPORT_STARTED)
            continue;
        r->stage = report.error.stage;
        r->errnum = report.error.errnum;
        r->code = r->stage == PYLXC_STAGE_NONE ? report.code : -1;
    }
}

/* -- the rules --------------------------------------------------------------------------------------------------- */

static int in_start_period(const struct health *h, int64_t now)
{
    return h->status == STARTING && now - h->began < h->times->start_period;
}

static void await_next(struct health *h)
{
    int64_t now = monotonic_ns();
    h->due = now + (in_start_period(h, now) ? h->times->start_interval : h->times->interval);
}

static void judge(struct health *h, const struct health_result *r, int early)
{
    int before = h->status;
    int64_t streak = h->streak;
    if (r->code == 0) {
        h->streak = 0;
        h->status = HEALTHY;
    } else if (!early) {
        h->streak++;
        if (h->streak >= h->times->retries)
            h->status = UNHEALTHY;
    }
    if (h->status != before || h->streak != streak)
        record_status(h);
    if (h->status != before)
        told(h, r->end);
}

/* The result is complete. */
static void conclude(struct health *h, struct health_result *r)
{
    int early = in_start_period(h, h->started);
    r->end = now_ns();
    h->count++;
    record_results(h);
    judge(h, r, early);
    await_next(h);
}

static void look_again(struct health *h, int64_t now)
{
    int64_t pause = MINIMUM(h->times->timeout / LOOKS, LONGEST_PAUSE);
    h->looked = now;
    h->due = MINIMUM(h->deadline, now + (pause > MILLISECOND ? pause : MILLISECOND));
}

static void begin_probe(struct health *h)
{
    struct health_result *r = result(h, h->count);
    r->start = now_ns();
    r->code = -1;
    r->timed_out = 0;
    r->stage = PYLXC_STAGE_HELPER;
    r->errnum = EPROTO;
    r->length = 0;
    h->started = monotonic_ns();
    h->deadline = h->started + h->times->timeout;
    int failed = start_probe(h);
    if (failed >= 0) {
        look_again(h, h->started);
        return;
    }
    r->errnum = -failed;
    conclude(h, r);
}

static void end_probe(struct health *h)
{
    int status;
    sys(wait4, h->probe_pid, &status, __WALL, 0);
    drop(&h->probe_fd);
    drop(&h->control_fd);
    drop(&h->output_fd);
}

/* A process that it has left behind may hold the pipe, and write for ever: what is there now counts. */
static void finish_probe(struct health *h)
{
    struct health_result *r = result(h, h->count);
    read_reports(h, r);
    read_output(h, r);
    end_probe(h);
    conclude(h, r);
}

/* A check runs, and has been told to end where it has no socket any more. */
static void look_at_probe(struct health *h, int64_t now)
{
    if (h->control_fd < 0) {
        sys(pidfd_send_signal, h->probe_fd, 9 /* SIGKILL */, 0, 0);
        h->due = INT64_MAX;
        return;
    }
    if (cgroups_frozen(h->plan))
        h->deadline += now - h->looked;
    look_again(h, now);
    if (now < h->deadline)
        return;
    struct health_result *r = result(h, h->count);
    r->timed_out = 1;
    r->stage = PYLXC_STAGE_NONE;
    drop(&h->control_fd);
    h->due = now + LAST_PATIENCE;
}

/* -- for the monitor --------------------------------------------------------------------------------------------- */

void health_begin(struct health *h, const struct plan *plan, int32_t pid, int pid_fd, int directory)
{
    const struct pylxc_op *op = plan_find(plan, PYLXC_OP_HEALTH);
    struct health_result *results = h->results; /* of an earlier process, as docker keeps them; or none yet */
    *h = (struct health){
        .plan = plan, .probe_fd = -1, .control_fd = -1, .output_fd = -1, .due = INT64_MAX, .count = h->count};
    if (!op || directory < 0)
        return;
    h->results = results ? results : memory_take((RESULTS + 1) * sizeof *results);
    if (!h->results)
        return;
    h->times = (const void *)(op + 1);
    h->check.head = (const void *)(h->times + 1);
    h->check.first = (const void *)(h->check.head + 1);
    h->check.target_pid = pid;
    h->target_fd = pid_fd;
    h->directory = directory;
    h->began = monotonic_ns();
    record_status(h);
    await_next(h);
}

void health_wants(const struct health *h, struct pollfd waits[HEALTH_WAITS])
{
    waits[OUTPUT] = (struct pollfd){.fd = h->times ? h->output_fd : -1, .events = POLLIN};
    waits[PROBE] = (struct pollfd){.fd = h->times ? h->probe_fd : -1, .events = POLLIN};
}

int64_t health_due(const struct health *h)
{
    return h->times ? h->due : INT64_MAX;
}

void health_serve(struct health *h, const struct pollfd waits[HEALTH_WAITS])
{
    if (!h->times)
        return;
    if (waits[OUTPUT].revents)
        read_output(h, result(h, h->count));
    if (waits[PROBE].revents) {
        finish_probe(h);
        return;
    }
    int64_t now = h->due == INT64_MAX ? 0 : monotonic_ns();
    if (now < h->due)
        return;
    if (h->probe_fd >= 0)
        look_at_probe(h, now);
    else if (cgroups_frozen(h->plan))
        await_next(h);
    else
        begin_probe(h);
}

void health_end(struct health *h)
{
    struct __kernel_timespec patience = {LAST_PATIENCE / 1000000000, 0};
    struct pollfd wait = {.fd = h->probe_fd, .events = POLLIN};
    if (!h->times)
        return;
    h->times = NULL;
    if (h->probe_fd < 0)
        return;
    drop(&h->control_fd);
    if (sys(ppoll, &wait, 1, &patience, 0, 0) <= 0)
        sys(pidfd_send_signal, h->probe_fd, 9 /* SIGKILL */, 0, 0);
    end_probe(h);
}
