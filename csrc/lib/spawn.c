/* Starts the helper: clone3 with vfork semantics, execveat of the sealed memfd.
 *
 * Why not fork: the caller may be a Python program of any size and with any number of threads. Copying its page
 * tables takes 48 ms for 1 GiB; sharing the address space until the exec takes 0.03 ms. The price is a child that runs
 * in the caller's memory: it uses raw system calls only, on a stack of its own, with all signals blocked.
 */
#define _GNU_SOURCE
#include "lib.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CLONE_CLEAR_SIGHAND
#define CLONE_CLEAR_SIGHAND 0x100000000ULL
#endif

static long clone3_on_stack(struct clone_args *args, void (*run)(void *), void *operand)
{
    long ret;
#if defined __x86_64__
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "mov %[operand], %%rdi\n\t"
                     "call *%[run]\n\t"
                     "hlt\n"
                     "1:"
                     : "=a"(ret)
                     : "a"(SYS_clone3), "D"(args), "S"(sizeof *args), [run] "r"(run), [operand] "r"(operand)
                     : "rcx", "r11", "memory");
#elif defined __aarch64__
    register long x8 __asm__("x8") = SYS_clone3;
    register long x0 __asm__("x0") = (long)args;
    register long x1 __asm__("x1") = sizeof *args;
    __asm__ volatile("svc 0\n\t"
                     "cbnz x0, 1f\n\t"
                     "mov x29, xzr\n\t"
                     "mov x0, %[operand]\n\t"
                     "blr %[run]\n\t"
                     "brk 0\n"
                     "1:"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), [run] "r"(run), [operand] "r"(operand)
                     : "memory", "cc");
    ret = x0;
#else
#error "pylxc is written for x86_64 and aarch64"
#endif
    return ret;
}

int pylxc_clone_vfork(uint64_t flags, void (*run)(void *), void *operand, int32_t *ret_pid, int *ret_pid_fd)
{
    _Alignas(16) char stack[16384];
    int pid_fd = -1;
    struct clone_args args = {
        .flags = flags | CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_CLEAR_SIGHAND,
        .pidfd = (uintptr_t)&pid_fd,
        .exit_signal = SIGCHLD,
        .stack = (uintptr_t)stack,
        .stack_size = sizeof stack,
    };
    /* All signals, those that libc keeps to itself included: no handler of the caller's may run on the child's stack.
     */
    uint64_t all = ~0ULL, before = 0;
    if (syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, sizeof all) < 0)
        return -1;
    long pid = clone3_on_stack(&args, run, operand);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof before);
    if (pid < 0) {
        errno = (int)-pid;
        return -1;
    }
    *ret_pid = (int32_t)pid;
    *ret_pid_fd = pid_fd;
    return 0;
}

struct launch {
    int helper_fd;
    int fds[PYLXC_MAX_FDS];
    size_t fd_count;
    int errnum; /* written by the child, in the shared address space */
};

/* Runs in the child: raw system calls only. */
static void execute_helper(void *operand)
{
    struct launch *launch = operand;
    static char name[] = "pylxc-helper";
    char *argv[] = {name, NULL}, *envp[] = {NULL};
    int moved[PYLXC_MAX_FDS];
    long n = (long)launch->fd_count, helper;

    /* First out of the way of the numbers to be filled, then into place. */
    for (long i = 0; i < n; i++) {
        moved[i] = launch->fds[i];
        if (moved[i] >= 0 && (moved[i] = (int)syscall(SYS_fcntl, moved[i], F_DUPFD_CLOEXEC, n + 1)) < 0)
            goto fail;
    }
    helper = syscall(SYS_fcntl, launch->helper_fd, F_DUPFD_CLOEXEC, n + 1);
    if (helper < 0)
        goto fail;
    for (long i = 0; i < n; i++)
        if (moved[i] < 0)
            syscall(SYS_close, i);
        else if (syscall(SYS_dup3, moved[i], i, 0) < 0)
            goto fail;
    if (syscall(SYS_dup3, helper, n, O_CLOEXEC) < 0 ||
        DEFENCE(CLOSE_RANGE, syscall(SYS_close_range, n + 1, ~0U, 0), 0) < 0)
        goto fail;
    syscall(SYS_execveat, n, "", argv, envp, AT_EMPTY_PATH);
fail:
    launch->errnum = errno;
    for (;;)
        syscall(SYS_exit_group, 127);
}

static int plan_memfd(const struct pylxc_spec *spec)
{
    lib_fd_close int fd = memfd_create("pylxc-plan", MFD_CLOEXEC);
    if (fd < 0)
        return -1;
    const char *at = spec->plan;
    for (size_t left = spec->plan_size; left;) {
        ssize_t n = write(fd, at, left);
        if (n < 0)
            return -1;
        at += n;
        left -= (size_t)n;
    }
    return lib_steal_fd(&fd);
}

/* One report, with the descriptor that may come with it. 0 at end of file, -1 on error. */
static ssize_t receive_report(int control, struct pylxc_report *ret_report, int *ret_fd)
{
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } ancillary;
    struct iovec part = {ret_report, sizeof *ret_report};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &ancillary, .msg_controllen = sizeof ancillary};
    ssize_t n;
    do
        n = recvmsg(control, &message, MSG_CMSG_CLOEXEC);
    /* ECONNRESET comes once, and before what was sent, where the other end left something unread: a release. */
    while (n < 0 && (errno == EINTR || errno == ECONNRESET));
    *ret_fd = -1;
    if (n > 0 && message.msg_controllen >= sizeof(struct cmsghdr) && ancillary.head.cmsg_type == SCM_RIGHTS)
        memcpy(ret_fd, CMSG_DATA(&ancillary.head), sizeof *ret_fd);
    return n;
}

/* The report that says what became of the start, with the descriptors that came with it and before it. */
static ssize_t receive_start(int control, struct pylxc_report *ret_report, int *ret_fd, int *ret_terminal)
{
    ssize_t n = receive_report(control, ret_report, ret_fd);
    if (n != sizeof *ret_report || ret_report->kind != PYLXC_REPORT_TERMINAL)
        return n;
    *ret_terminal = *ret_fd;
    return receive_report(control, ret_report, ret_fd);
}

static int fail(struct pylxc_error *reterr, int stage, int errnum)
{
    *reterr = (struct pylxc_error){.stage = stage, .errnum = errnum, .index = -1};
    return -1;
}

/* Kills and reaps a helper that did not get as far as it should. */
static void bury(int pid_fd)
{
    syscall(SYS_pidfd_send_signal, pid_fd, SIGKILL, NULL, 0);
    siginfo_t info;
    while (waitid(P_PIDFD, (id_t)pid_fd, &info, WEXITED) < 0 && errno == EINTR)
        ;
}

int pylxc_spawn_begin(const struct pylxc_spec *spec, struct pylxc_child *ret_child, struct pylxc_error *reterr)
{
    if (spec->fd_count <= PYLXC_FD_PLAN || spec->fd_count > PYLXC_MAX_FDS)
        return fail(reterr, PYLXC_STAGE_PLAN, EINVAL);
    lib_fd_close int plan = plan_memfd(spec);
    int pair[2];
    if (plan < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return fail(reterr, PYLXC_STAGE_HELPER, errno);
    lib_fd_close int ours = pair[0];
    lib_fd_close int theirs = pair[1]; /* closed on return, so that the helper's death is an end of file here */

    struct launch launch = {.helper_fd = spec->helper_fd, .fd_count = spec->fd_count};
    memcpy(launch.fds, spec->fds, spec->fd_count * sizeof *spec->fds);
    launch.fds[PYLXC_FD_CONTROL] = theirs;
    launch.fds[PYLXC_FD_PLAN] = plan;

    int32_t monitor_pid;
    lib_fd_close int monitor = -1;
    if (pylxc_clone_vfork(0, execute_helper, &launch, &monitor_pid, &monitor) < 0)
        return fail(reterr, PYLXC_STAGE_HELPER, errno);
    if (launch.errnum) {
        bury(monitor);
        return fail(reterr, PYLXC_STAGE_HELPER, launch.errnum);
    }
    *ret_child = (struct pylxc_child){monitor_pid, 0, lib_steal_fd(&monitor), -1, lib_steal_fd(&ours), -1};
    return 0;
}

/* Tells the monitor something before the start, and with fd >= 0 gives it a descriptor. One that is gone is no error:
 * its report, or its end, says more. */
static int tell(const struct pylxc_child *child, const void *data, size_t size, int fd)
{
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } ancillary = {.head = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
    memcpy(CMSG_DATA(&ancillary.head), &fd, sizeof fd);
    struct iovec part = {(void *)(uintptr_t)data, size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd >= 0) {
        message.msg_control = &ancillary;
        message.msg_controllen = sizeof ancillary;
    }
    ssize_t n;
    do
        n = sendmsg(child->control_fd, &message, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 && errno != EPIPE && errno != ECONNRESET ? -1 : 0;
}

int pylxc_spawn_endpoint(const struct pylxc_child *child, const struct pylxc_endpoint *endpoint)
{
    return tell(child, endpoint, sizeof *endpoint, -1);
}

int pylxc_spawn_release(const struct pylxc_child *child, int directory_fd)
{
    char word = 1;
    return tell(child, &word, sizeof word, directory_fd);
}

int pylxc_spawn_end(struct pylxc_child *child, struct pylxc_error *reterr)
{
    struct pylxc_report report;
    lib_fd_close int process = -1;
    lib_fd_close int terminal = -1;
    ssize_t n = receive_start(child->control_fd, &report, &process, &terminal);
    int whole = n == sizeof report;
    if (whole && report.kind == PYLXC_REPORT_STARTED && process >= 0) {
        child->pid = report.pid;
        child->pid_fd = lib_steal_fd(&process);
        child->terminal_fd = lib_steal_fd(&terminal);
        return 0;
    }
    int errnum = n < 0 ? errno : EPROTO;
    bury(child->monitor_fd);
    close(lib_steal_fd(&child->monitor_fd));
    close(lib_steal_fd(&child->control_fd));
    if (!whole || report.kind == PYLXC_REPORT_STARTED)
        return fail(reterr, PYLXC_STAGE_HELPER, errnum);
    *reterr = report.error;
    return -1;
}
