/* The child between clone and exec: carries out the plan, one operation after the other, and becomes the payload.
 *
 * The first operation that fails ends the process; (stage, errno, index) go down a pipe that the exec closes.
 */
#include "helper.h"
#include "join.h"
#include "netns.h"
#include "tar.h"
#include "userns.h"
#include <asm/poll.h>
#include <linux/close_range.h>
#include <linux/openat2.h>
#include <linux/prctl.h>
#include <linux/resource.h>
#include <linux/sched.h>
#include <linux/signal.h>
#include <linux/stat.h>
#include <linux/time_types.h>

const char *op_string(const struct pylxc_op *op, unsigned i)
{
    const char *s = (const char *)(op + 1);
    if (i >= op->strings)
        return "";
    while (i--)
        s += strlen(s) + 1;
    return s;
}

const struct pylxc_op *plan_find(const struct plan *plan, enum pylxc_op_code code)
{
    FOR_EACH_OPERATION (plan, op)
        if (op->code == code)
            return op;
    return NULL;
}

/* The monitor's. */
static int op_done_before(struct launch *l, const struct pylxc_op *op)
{
    (void)l, (void)op;
    return 0;
}

static void send_error(const struct launch *l, int stage, int errnum)
{
    struct pylxc_error error = {.stage = stage, .errnum = errnum, .index = l->index};
    memcpy(error.subject, l->subject, sizeof error.subject);
    write_all(l->error_fd, &error, sizeof error);
}

_Noreturn static void fail(const struct launch *l, int stage, int errnum)
{
    send_error(l, stage, errnum);
    sys_exit(127);
}

static int op_hostname(struct launch *l, const struct pylxc_op *op)
{
    (void)l;
    const char *name = op_string(op, 0);
    return (int)sys(sethostname, name, strlen(name));
}

/* A hard limit above the present one needs CAP_SYS_RESOURCE, which not every root has: then take what may be had. */
static int op_rlimit(struct launch *l, const struct pylxc_op *op)
{
    struct rlimit64 wanted = {(uint64_t)op->a, (uint64_t)op->b}, now;
    (void)l;
    long r = sys(prlimit64, 0, op->flags, &wanted, 0);
    if (r != -EPERM)
        return (int)r;
    r = sys(prlimit64, 0, op->flags, 0, &now);
    if (r < 0)
        return (int)r;
    wanted.rlim_max = MINIMUM(wanted.rlim_max, now.rlim_max);
    wanted.rlim_cur = MINIMUM(wanted.rlim_cur, wanted.rlim_max);
    return (int)sys(prlimit64, 0, op->flags, &wanted, 0);
}

static int op_umask(struct launch *l, const struct pylxc_op *op)
{
    (void)l;
    sys(umask, op->flags);
    return 0;
}

static int op_no_new_privileges(struct launch *l, const struct pylxc_op *op)
{
    (void)l, (void)op;
    return (int)sys(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static int op_env(struct launch *l, const struct pylxc_op *op)
{
    l->env = op;
    return 0;
}

void transfer_begins(struct launch *l)
{
    send_error(l, PYLXC_STAGE_NONE, 0);
}

static int op_unpack(struct launch *l, const struct pylxc_op *op)
{
    const char *path = op_string(op, 0);
    fd_close int directory =
        op->flags & PYLXC_UNPACK_CREATE ? make_directory_in_root(l, path) : open_in_root(l, path, O_PATH | O_DIRECTORY);
    if (directory < 0)
        return directory;
    fd_close int readable = (int)sys(openat, directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (readable < 0)
        return readable;
    transfer_begins(l);
    return unpack_tar((int)op->a, readable, op->flags, (uint64_t)op->b, l->subject, sizeof l->subject);
}

static int op_mirror(struct launch *l, const struct pylxc_op *op)
{
    l->mirror = op;
    return 0;
}

static int op_pack(struct launch *l, const struct pylxc_op *op)
{
    fd_close int directory = open_in_root(l, op_string(op, 0), O_RDONLY | O_DIRECTORY);
    if (directory < 0)
        return directory;
    struct pack_mirror mirror = {.directory = -1};
    struct pack_extras extras = {.latest = op->b, .names_left_out = op->strings - 1U, .left_out = op_string(op, 1)};
    if (l->mirror) {
        mirror = (struct pack_mirror){.directory = (int)l->mirror->a, .flags = l->mirror->flags};
        extras.mirror = &mirror;
    }
    transfer_begins(l);
    int r = pack_tar((int)op->a, directory, op->flags, &extras, l->subject, sizeof l->subject);
    if (r == 0 && mirror.flags & PYLXC_UNPACK_SYNC && (r = (int)sys(syncfs, mirror.directory)) < 0)
        mirror.failed = true;
    if (mirror.failed)
        fail(l, PYLXC_STAGE_UNPACK, -r);
    return r;
}

static int starts_with(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

/* The payload's environment: the plan's, and HOME from the user database where the plan has none. */
static char **environment(struct launch *l, const char **ret_path)
{
    unsigned n = l->env ? l->env->strings : 0;
    char **envp = memory_take((n + 2) * sizeof *envp);
    int has_home = 0;
    *ret_path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    if (!envp)
        return NULL;
    const char *s = l->env ? (const char *)(l->env + 1) : "";
    for (unsigned i = 0; i < n; i++, s += strlen(s) + 1) {
        envp[i] = (char *)(uintptr_t)s;
        has_home |= starts_with(s, "HOME=");
        if (starts_with(s, "PATH="))
            *ret_path = s + 5;
    }
    if (!has_home && l->home[0])
        envp[n] = l->home;
    return envp;
}

/* As execvp: a name without a slash is looked for along PATH; "not executable" is kept in mind over "not there". */
static int execute(char **argv, char **envp, const char *path)
{
    int worst = -ENOENT;
    if (strchr(argv[0], '/'))
        return (int)sys(execve, argv[0], argv, envp);
    while (*argv[0]) {
        const char *end = strchr(path, ':');
        size_t n = end ? (size_t)(end - path) : strlen(path);
        TEXT(candidate, 4096);
        text_bytes(&candidate, n ? path : ".", n ? n : 1);
        text_add(&candidate, "/");
        text_add(&candidate, argv[0]);
        long r = candidate.overflow ? -ENAMETOOLONG : sys(execve, candidate.data, argv, envp);
        if (r != -ENOENT && r != -ENOTDIR && r != -EACCES)
            return (int)r;
        if (r == -EACCES)
            worst = -EACCES;
        if (!end)
            break;
        path = end + 1;
    }
    return worst;
}

/* Signal dispositions and the mask as a fresh program expects them: the caller may ignore SIGPIPE, as Python does. */
void reset_signals(void)
{
    struct {
        uint64_t handler, flags, restorer, mask;
    } by_default = {0};
    uint64_t none = 0;
    for (int i = 1; i <= 64; i++)
        sys(rt_sigaction, i, &by_default, 0, sizeof none);
    sys(rt_sigprocmask, 2 /* SIG_SETMASK */, &none, 0, sizeof none);
}

/* The monitor's death is this process's. Said last because a change of credentials takes it back. A monitor that died
 * before this was said has left the pipe without a reader. */
static void end_with_the_monitor(const struct launch *l)
{
    sys(prctl, PR_SET_PDEATHSIG, DEFENCE(PARENT_DEATH, 9 /* SIGKILL */, 0), 0, 0, 0);
    struct pollfd monitor = {.fd = l->error_fd};
    struct __kernel_timespec at_once = {0, 0};
    if (DEFENCE(PARENT_GONE, sys(ppoll, &monitor, 1, &at_once, 0, 0) > 0, 0))
        sys_exit(127);
}

static int op_exec(struct launch *l, const struct pylxc_op *op)
{
    const char *path;
    char **argv = memory_take((op->strings + 1u) * sizeof *argv);
    char **envp = environment(l, &path);
    if (!argv || !envp)
        return -ENOMEM;
    const char *s = (const char *)(op + 1);
    for (unsigned i = 0; i < op->strings; i++, s += strlen(s) + 1)
        argv[i] = (char *)(uintptr_t)s;
    if (!op->strings)
        return -EINVAL;
    end_with_the_monitor(l);
    int begun = l->plan->head->flags & PYLXC_PLAN_INIT ? become_init(l) : 0;
    if (begun < 0)
        return begun;
    if (l->plan->head->flags & PYLXC_PLAN_INIT)
        end_with_the_monitor(l); /* a child again, of the init: where that is no PID 1, its end is not everybody's */
    /* Everything but the standard streams closes with the exec, whatever it is and wherever it came from. */
    long r = DEFENCE(CLOSE_RANGE, sys(close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC), 0);
    if (r < 0)
        return (int)r;
    reset_signals();
    return execute(argv, envp, path);
}

static const struct {
    int (*run)(struct launch *, const struct pylxc_op *);
    enum pylxc_stage stage;
} operations[] = {
    [PYLXC_OP_ID_MAP] = {op_done_before, PYLXC_STAGE_NAMESPACES},
    [PYLXC_OP_JOIN] = {op_done_before, PYLXC_STAGE_NAMESPACES},
    [PYLXC_OP_CGROUP] = {op_done_before, PYLXC_STAGE_CGROUP},
    [PYLXC_OP_LIFE] = {op_done_before, PYLXC_STAGE_RECORD},
    [PYLXC_OP_HEALTH] = {op_done_before, PYLXC_STAGE_RECORD},
    [PYLXC_OP_PUBLISH] = {op_done_before, PYLXC_STAGE_NETWORK},
    [PYLXC_OP_OVERLAY] = {op_overlay, PYLXC_STAGE_ROOT},
    [PYLXC_OP_BIND_ROOT] = {op_bind_root, PYLXC_STAGE_ROOT},
    [PYLXC_OP_MEMORY] = {op_memory, PYLXC_STAGE_ROOT},
    [PYLXC_OP_MOUNT] = {op_mount, PYLXC_STAGE_MOUNT},
    [PYLXC_OP_BIND] = {op_bind, PYLXC_STAGE_MOUNT},
    [PYLXC_OP_DEVICE] = {op_device, PYLXC_STAGE_DEVICE},
    [PYLXC_OP_SYMLINK] = {op_symlink, PYLXC_STAGE_FILE},
    [PYLXC_OP_DIRECTORY] = {op_directory, PYLXC_STAGE_FILE},
    [PYLXC_OP_FILE] = {op_file, PYLXC_STAGE_FILE},
    [PYLXC_OP_MASK] = {op_mask, PYLXC_STAGE_MASK},
    [PYLXC_OP_READ_ONLY] = {op_read_only, PYLXC_STAGE_MASK},
    [PYLXC_OP_ROOT_READ_ONLY] = {op_root_read_only, PYLXC_STAGE_ROOT},
    [PYLXC_OP_PIVOT] = {op_pivot, PYLXC_STAGE_ROOT},
    [PYLXC_OP_HOSTNAME] = {op_hostname, PYLXC_STAGE_HOSTNAME},
    [PYLXC_OP_LOOPBACK] = {op_loopback, PYLXC_STAGE_NETWORK},
    [PYLXC_OP_ENDPOINT] = {op_endpoint, PYLXC_STAGE_NETWORK},
    [PYLXC_OP_SYSCTL] = {op_sysctl, PYLXC_STAGE_SYSCTL},
    [PYLXC_OP_RLIMIT] = {op_rlimit, PYLXC_STAGE_RLIMIT},
    [PYLXC_OP_UMASK] = {op_umask, PYLXC_STAGE_PLAN},
    [PYLXC_OP_USER] = {op_user, PYLXC_STAGE_USER},
    [PYLXC_OP_CAPABILITIES] = {op_capabilities, PYLXC_STAGE_CAPABILITIES},
    [PYLXC_OP_NO_NEW_PRIVILEGES] = {op_no_new_privileges, PYLXC_STAGE_CAPABILITIES},
    [PYLXC_OP_SECCOMP] = {op_seccomp, PYLXC_STAGE_SECCOMP},
    [PYLXC_OP_TERMINAL] = {op_terminal, PYLXC_STAGE_TERMINAL},
    [PYLXC_OP_WORKDIR] = {op_workdir, PYLXC_STAGE_WORKDIR},
    [PYLXC_OP_UNPACK] = {op_unpack, PYLXC_STAGE_UNPACK},
    [PYLXC_OP_PACK] = {op_pack, PYLXC_STAGE_PACK},
    [PYLXC_OP_MIRROR] = {op_mirror, PYLXC_STAGE_PACK},
    [PYLXC_OP_COPY_FROM] = {op_copy_from, PYLXC_STAGE_PACK},
    [PYLXC_OP_COPY_TO] = {op_copy_to, PYLXC_STAGE_UNPACK},
    [PYLXC_OP_OPEN] = {op_open, PYLXC_STAGE_FILE},
    [PYLXC_OP_SHOW] = {op_show, PYLXC_STAGE_ROOT},
    [PYLXC_OP_ENV] = {op_env, PYLXC_STAGE_PLAN},
    [PYLXC_OP_EXEC] = {op_exec, PYLXC_STAGE_EXEC},
};

/* Enters the namespaces of the target. Its pid namespace was entered by the monitor, before the clone; its user
 * namespace, too, where only its owner may (setns(2)). */
static void enter_target(struct launch *l)
{
    const struct pylxc_plan *head = l->plan->head;
    uint64_t entered = CLONE_NEWPID | (head->flags & PYLXC_PLAN_UNPRIVILEGED ? CLONE_NEWUSER : 0);
    long r = sys(setns, head->target_fd, head->clone_flags & ~entered);
    if (r < 0)
        fail(l, PYLXC_STAGE_NAMESPACES, (int)-r);
    if (head->clone_flags & CLONE_NEWUSER) {
        /* Root there, in place of an id that has no name in it, and without the caller's groups: they might open what
         * is mounted from the host. A namespace of a single id may not (user_namespaces(7)). */
        (void)DEFENCE(GROUPS, sys(setgroups, 0, 0), 0);
        r = sys(setresgid, 0, 0, 0);
        if (r >= 0)
            r = sys(setresuid, 0, 0, 0);
        if (r < 0)
            fail(l, PYLXC_STAGE_NAMESPACES, (int)-r);
    }
    sys(close, head->target_fd);
    l->root_fd = (int)sys(openat, AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
}

/* Namespaces that can only be made now. A cgroup namespace takes the maker's cgroups for its roots, and this process
 * has just entered its own (cgroup_namespaces(7)); made after the user namespace, it belongs to it, so that the
 * container's root may mount its part of the tree. */
static int make_late_namespaces(struct launch *l)
{
    const struct pylxc_plan *head = l->plan->head;
    if (head->flags & PYLXC_PLAN_JOIN)
        return 0;
    int r = userns_is_own(l->plan) ? userns_enter(l) : 0;
    if (r >= 0 && head->clone_flags & CLONE_NEWCGROUP)
        r = (int)sys(unshare, CLONE_NEWCGROUP);
    return r;
}

#ifdef PYLXC_WEAKEN_NO_PAUSE
/* For the tests, which kill whom they like while a start stands still here; it goes on when the monitor is gone. */
static int pause_until_forsaken(int error_fd)
{
    sys(prctl, PR_SET_NAME, "pylxc-still", 0, 0, 0); /* what everybody may read, unlike the system call it is in */
    struct pollfd monitor = {.fd = error_fd};
    struct __kernel_timespec moment = {0, 100000000}; /* its files close before its children learn of its death */
    sys(ppoll, &monitor, 1, 0, 0, 0);
    return (int)sys(ppoll, 0, 0, &moment, 0, 0);
}
#endif

/* sysfs shows the network namespace of whoever mounts it. From the pivot on everything may need it. */
static int needs_network(const struct pylxc_op *op)
{
    return op->code >= PYLXC_OP_PIVOT || (op->code == PYLXC_OP_MOUNT && strcmp(op_string(op, 0), "sysfs") == 0);
}

/* Waits for what an operation needs and somebody else makes meanwhile. */
static int await_needed(struct launch *l, const struct pylxc_op *op)
{
    if (l->held && (op->code == PYLXC_OP_OVERLAY || op->code >= PYLXC_OP_PIVOT)) {
        await_go(l);
        l->held = 0;
    }
    return needs_network(op) ? netns_enter(l) : 0;
}

_Noreturn void launch_run(const struct plan *plan, int error_fd, int network_fd)
{
    struct launch l = {
        .plan = plan, .error_fd = error_fd, .network_fd = network_fd, .root_fd = -1, .memory_fd = -1, .index = -1};
    l.held = (plan->head->flags & PYLXC_PLAN_AWAIT_CALLER) != 0 && !plan->again;
    const struct pylxc_plan *head = plan->head;
    /* The monitor's, not the payload's: a process of the container that may trace could take them from here. */
    sys(close, head->owner_fd);
    sys(close, head->directory_fd);
    sys(prctl, PR_SET_DUMPABLE, head->flags & PYLXC_PLAN_UNPRIVILEGED && userns_is_new(plan), 0, 0, 0);
    sys(setsid);
    if (head->flags & PYLXC_PLAN_JOIN)
        enter_target(&l);
    int made = join_rest(plan);
    if (made >= 0)
        made = make_late_namespaces(&l);
    if (made < 0)
        fail(&l, PYLXC_STAGE_NAMESPACES, -made);
    if (!(head->flags & PYLXC_PLAN_JOIN) && head->clone_flags & CLONE_NEWNS) {
        /* Nothing mounted from here on may appear outside, nor the other way round but through a bind that is to be a
         * slave of the host's; and there every copy says what it is. */
        uint64_t propagation = userns_keeps_slaves(plan) ? 1 << 19 /* MS_SLAVE */ : 1 << 18 /* MS_PRIVATE */;
        long r = sys(mount, 0, "/", 0, 1 << 14 /* MS_REC */ | propagation, 0);
        if (r < 0)
            fail(&l, PYLXC_STAGE_NAMESPACES, (int)-r);
    }
    const struct pylxc_op *op = plan->first;
    for (uint32_t i = 0; i < head->op_count; i++, op = plan_next(op)) {
        l.index = (int)i;
        (void)DEFENCE(NO_PAUSE, 0, (int)i == head->reserved[0] && pause_until_forsaken(error_fd));
        if (op->code >= LENGTH(operations) || !operations[op->code].run)
            fail(&l, PYLXC_STAGE_PLAN, EINVAL);
        int r = await_needed(&l, op);
        if (r < 0) {
            l.index = -1; /* not this operation's fault */
            fail(&l, PYLXC_STAGE_NAMESPACES, -r);
        }
        r = operations[op->code].run(&l, op);
        if (r < 0)
            fail(&l, (int)operations[op->code].stage, -r);
    }
    sys_exit(0);
}
