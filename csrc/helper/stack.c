/* Keeps the network stack that the networks of an ordinary user are in: a network namespace that no container has, and
 * the program that connects it to the host's.
 *
 * Three processes. The *keeper*, in the host's network and the user's namespace of ids, starts the other two and ends
 * with the first. The *anchor* is in the new network namespace, without any right over it: whoever wants to enter finds
 * the namespace by it. It is also the first process of a pid namespace, so the program, whose home that is, cannot
 * outlive it. The anchor dies with the keeper. So all three are gone when any but the program is killed; the program is
 * started again.
 *
 * Invariant: they live while anybody but the anchor has a lock on the file that the plan names (flock(2)), and half a
 * second at the most after that. Containers' monitors have it, so there is nothing to be counted or tidied up: the
 * kernel takes the locks of the dead back. What the file says of the anchor is taken out under the last lock of all:
 * nobody who has one finds an anchor that is about to end.
 */
#include "stack.h"
#include "message.h"
#include "netns.h"
#include "userns.h"
#include <asm/poll.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/time_types.h>
#include <linux/wait.h>

enum { SIGKILL_ = 9, SIGCHLD_ = 17, LOCK_SH_ = 1, LOCK_EX_ = 2, LOCK_NB_ = 4, LOCK_UN_ = 8, STANDARD_ERROR = 2 };

static void pause_ms(int64_t ms)
{
    struct __kernel_timespec moment = {ms / 1000, ms % 1000 * 1000000};
    sys(ppoll, 0, 0, &moment, 0, 0);
}

/* -- the anchor ---------------------------------------------------------------------------------------------------- */

/* What goes from one link of the stack to another one is passed on. Where that is so already nothing need be written:
 * /proc/sys may be read-only. A kernel without IPv6 has no such file. */
static int forward(const char *path)
{
    char value = 0;
    fd_close int fd = (int)sys(openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    if (read_full(fd, &value, 1) == 1 && value == '1')
        return 0;
    fd_close int writable = (int)sys(openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0);
    return writable < 0 ? writable : write_all(writable, "1", 1);
}

static int give_up_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};
    return (int)sys(capset, &header, none);
}

static int lock(int file, int how)
{
    long r;
    do
        r = sys(flock, file, how);
    while (r == -EINTR);
    return (int)r;
}

/* Those who start one container after the other find it still there. */
static void await_members_end(int file)
{
    enum { LINGER_MS = 300 };
    do {
        if (lock(file, LOCK_EX_) < 0)
            return;
        lock(file, LOCK_UN_);
        pause_ms(LINGER_MS);
    } while (lock(file, LOCK_EX_ | LOCK_NB_) < 0);
    sys(ftruncate, file, 0);
}

_Noreturn static void be_anchor(int file, int pipe)
{
    int r = netns_loopback_up();
    if (r >= 0)
        r = forward("/proc/sys/net/ipv4/ip_forward");
    if (r >= 0)
        r = forward("/proc/sys/net/ipv6/conf/all/forwarding");
    if (r >= 0)
        r = give_up_capabilities();
    sys(prctl, PR_SET_PDEATHSIG, SIGKILL_, 0, 0, 0);
    /* The user, who has rights over the namespace, and the program open it by this process. */
    sys(prctl, PR_SET_DUMPABLE, 1, 0, 0, 0);
    int32_t word = r;
    write_all(pipe, &word, sizeof word);
    sys(dup3, file, 0, O_CLOEXEC);
    sys(close_range, 1, ~0U, 0);
    if (r >= 0)
        await_members_end(0);
    sys_exit(0);
}

/* -- the keeper ---------------------------------------------------------------------------------------------------- */

struct stack {
    const struct pylxc_op *op;
    int file, anchor_fd;
    int32_t anchor, program;
    int programs; /* how many were started */
};

/* The program that the plan names, whose empty operand is where the stack is. */
_Noreturn static void become_program(const struct stack *s)
{
    char *const environment[] = {NULL};
    char **argv = memory_take((s->op->strings + 1u) * sizeof *argv);
    TEXT(path, 64);
    text_add(&path, "/proc/");
    text_number(&path, s->anchor);
    text_add(&path, "/ns/net");
    for (unsigned i = 0; argv && i < s->op->strings; i++) {
        const char *word = op_string(s->op, i);
        argv[i] = *word ? (char *)(uintptr_t)word : path.data;
    }
    /* What goes wrong at first somebody waits for; later on nobody reads it. */
    fd_close int nothing = s->programs ? (int)sys(openat, AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC, 0) : -1;
    if (nothing >= 0)
        sys(dup3, nothing, STANDARD_ERROR, 0);
    sys(close_range, STANDARD_ERROR + 1, ~0U, CLOSE_RANGE_CLOEXEC);
    reset_signals();
    if (argv)
        sys(execve, argv[0], argv, environment);
    sys_exit(127);
}

static void start_program(struct stack *s)
{
    long r = s->op->strings ? sys(clone, SIGCHLD_, 0, 0, 0, 0) : 0;
    if (r == 0 && s->op->strings)
        become_program(s);
    s->program = r > 0 ? (int32_t)r : 0;
    s->programs++;
}

/* The anchor's answer: 0, or what it could not do. */
static int start_anchor(struct stack *s)
{
    int pipe[2];
    int32_t word;
    struct clone_args args = {
        .flags = CLONE_NEWNET | CLONE_PIDFD, .pidfd = (uintptr_t)&s->anchor_fd, .exit_signal = SIGCHLD_};
    long r = sys(unshare, CLONE_NEWPID);
    if (r >= 0)
        r = sys(pipe2, pipe, O_CLOEXEC);
    if (r >= 0)
        r = sys(clone3, &args, sizeof args);
    if (r == 0)
        be_anchor(s->file, pipe[1]);
    sys(close, s->file); /* the lock that ends it must be its own */
    if (r < 0)
        return (int)r;
    s->anchor = (int32_t)r;
    sys(close, pipe[1]);
    fd_close int ours = pipe[0];
    return read_full(ours, &word, sizeof word) == sizeof word ? word : -EPIPE;
}

/* Sees to it that the program runs, until the anchor has ended. */
static void serve(struct stack *s)
{
    enum { REST_MS = 2000 };
    struct __kernel_timespec rest = {REST_MS / 1000, 0};
    struct pollfd anchor = {s->anchor_fd, POLLIN, 0};
    struct pylxc_report ended = {.kind = PYLXC_REPORT_ENDED};
    for (;;) {
        int status;
        long pid = sys(wait4, -1, &status, __WALL, 0);
        if (pid == s->anchor || (pid < 0 && pid != -EINTR))
            return;
        if (pid != s->program)
            continue;
        send_message(PYLXC_FD_CONTROL, &ended, sizeof ended, -1);
        if (sys(ppoll, &anchor, 1, &rest, 0, 0) == 0)
            start_program(s);
    }
}

_Noreturn void stack_keep(const struct plan *plan)
{
    struct stack s = {.op = plan_find(plan, PYLXC_OP_STACK), .anchor_fd = -1};
    if (!s.op)
        sys_exit(1);
    /* Not a child of the caller, who need not wait for it. */
    if (sys(clone, SIGCHLD_, 0, 0, 0, 0) != 0)
        sys_exit(0);
    sys(prctl, PR_SET_NAME, "pylxc-stack", 0, 0, 0);
    sys(setsid);
    s.file = (int)s.op->a;
    int r = userns_enter_given(plan);
    if (r >= 0)
        r = start_anchor(&s);
    struct pylxc_report report = {.kind = PYLXC_REPORT_STARTED, .pid = s.anchor};
    if (r < 0)
        report = (struct pylxc_report){
            .kind = PYLXC_REPORT_FAILED,
            .error = {.stage = PYLXC_STAGE_NETWORK, .errnum = -r, .index = 0},
        };
    else
        start_program(&s);
    send_message(PYLXC_FD_CONTROL, &report, sizeof report, r < 0 ? -1 : s.anchor_fd);
    if (r >= 0)
        serve(&s);
    sys_exit(r < 0);
}
