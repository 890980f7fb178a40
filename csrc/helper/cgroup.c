/* The cgroups of a container: entering them, and clearing them away.
 *
 * Moving a process into a cgroup of v1 takes 7 to 15 ms when nobody has done it for a while: the kernel stops all forks
 * for it (cgroup_threadgroup_rwsem, a grace period of RCU). A single thread that moves *itself*, by writing "0" to
 * "tasks", needs none of that, because it can neither fork nor exit meanwhile (cgroup_procs_write_start,
 * kernel/cgroup/cgroup.c): 0.05 ms. So the child moves itself; the monitor opens the files beforehand, whose right to
 * write counts. On v2 the child is born where it belongs (CLONE_INTO_CGROUP).
 */
#include "cgroup.h"
#include "remove_cgroup.h"
#include <linux/time_types.h>

enum { PATIENCE = 400 /* times 5 ms */ };

static int open_file(const char *directory, const char *name, int flags)
{
    TEXT(path, 4096);
    text_add(&path, directory);
    text_add(&path, "/");
    text_add(&path, name);
    return path.overflow ? -ENAMETOOLONG : (int)sys(openat, AT_FDCWD, path.data, flags | O_CLOEXEC, 0);
}

/* The last component of a path, with the slash before it. */
static const char *last_part(const char *path)
{
    const char *last = path;
    for (const char *p = path; *p; p++)
        if (*p == '/')
            last = p;
    return last;
}

/* Where below a cgroup of v2 a process is: what follows the cgroup's own name in the line "0::PATH" of
 * /proc/PID/cgroup. What has children with controllers takes no further process, and the first thing that a full init
 * does is to make such. The path is the kernel's: it holds no ".." (cgroups(7)). */
static void add_place(struct text *to, const char *directory, int32_t pid)
{
    char content[4096];
    TEXT(path, 64);
    text_add(&path, "/proc/");
    text_number(&path, pid);
    fd_close int fd = open_file(path.data, "cgroup", O_RDONLY);
    long n = fd < 0 ? 0 : read_full(fd, content, sizeof content - 1);
    content[n > 0 ? n : 0] = 0;
    const char *name = last_part(directory);
    size_t length = strlen(name);
    for (char *line = content; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        char *end = strchr(line, '\n');
        if (strncmp(line, "0::/", 4) != 0 || !end)
            continue;
        *end = 0;
        for (const char *at = line + 3; at; at = strchr(at + 1, '/'))
            if (strncmp(at, name, length) == 0 && at[length] == '/') {
                text_add(to, at + length);
                return;
            }
        return;
    }
}

static int open_unified(const struct plan *plan, const struct pylxc_op *op)
{
    TEXT(path, 4096);
    text_add(&path, op_string(op, 0));
    if (op->flags & PYLXC_CGROUP_FOLLOW && plan->target_pid)
        add_place(&path, op_string(op, 0), plan->target_pid);
    return path.overflow ? -ENAMETOOLONG : open_file(path.data, ".", O_PATH | O_DIRECTORY);
}

int cgroups_open(const struct plan *plan, struct cgroups *ret)
{
    *ret = (struct cgroups){.v2_fd = -1, .op = plan_find(plan, PYLXC_OP_CGROUP)};
    if (!ret->op)
        return 0;
    if (ret->op->strings > CGROUPS_LIMIT)
        return -E2BIG;
    for (unsigned i = 0; i < ret->op->strings; i++) {
        int unified = i == 0 && ret->op->flags & PYLXC_CGROUP_V2_FIRST;
        int fd = unified ? open_unified(plan, ret->op) : open_file(op_string(ret->op, i), "tasks", O_WRONLY);
        if (fd < 0)
            return fd;
        if (unified)
            ret->v2_fd = fd;
        else
            ret->tasks[ret->count++] = fd;
    }
    return 0;
}

static int write_score(const struct pylxc_op *op)
{
    if (op->a == INT64_MIN)
        return 0;
    TEXT(score, 16);
    text_number(&score, op->a);
    fd_close int fd = open_file("/proc/self", "oom_score_adj", O_WRONLY);
    return fd < 0 ? fd : write_all(fd, score.data, score.length);
}

int cgroups_enter(const struct cgroups *cgroups)
{
    for (unsigned i = 0; i < cgroups->count; i++) {
        int r = write_all(cgroups->tasks[i], "0", 1);
        if (r < 0)
            return r;
    }
    return cgroups->op && !cgroups->scored ? write_score(cgroups->op) : 0;
}

int cgroups_score(struct cgroups *cgroups)
{
    cgroups->scored = 1;
    return cgroups->op ? write_score(cgroups->op) : 0;
}

void cgroups_close(struct cgroups *cgroups)
{
    if (cgroups->v2_fd >= 0)
        sys(close, cgroups->v2_fd);
    for (unsigned i = 0; i < cgroups->count; i++)
        sys(close, cgroups->tasks[i]);
    *cgroups = (struct cgroups){.v2_fd = -1, .op = cgroups->op};
}

/* The number after a word at the beginning of a line of a small file; 0 when it is not there. */
static uint64_t number_in(const char *directory, const char *name, const char *word)
{
    char content[1024];
    fd_close int fd = open_file(directory, name, O_RDONLY);
    long n = fd < 0 ? 0 : read_full(fd, content, sizeof content - 1);
    content[n > 0 ? n : 0] = 0;
    size_t length = strlen(word);
    for (const char *line = content; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        if (strncmp(line, word, length) != 0 || line[length] != ' ')
            continue;
        const char *digits = line + length + 1;
        size_t count = 0;
        while (digits[count] >= '0' && digits[count] <= '9')
            count++;
        uint64_t value = 0;
        parse_number(digits, count, UINT64_MAX, &value);
        return value;
    }
    return 0;
}

/* "oom_kill" counts processes that were killed; "oom" also counts allocations that merely failed. */
static uint64_t oom_kills_in(const char *directory)
{
    return number_in(directory, "memory.events", "oom_kill") + number_in(directory, "memory.oom_control", "oom_kill");
}

int cgroups_frozen(const struct plan *plan)
{
    const struct pylxc_op *op = plan_find(plan, PYLXC_OP_CGROUP);
    for (unsigned i = 0; op && i < op->strings; i++) {
        char state[16] = "";
        if (i == 0 && op->flags & PYLXC_CGROUP_V2_FIRST)
            return number_in(op_string(op, 0), "cgroup.events", "frozen") != 0;
        fd_close int fd = open_file(op_string(op, i), "freezer.state", O_RDONLY);
        if (fd >= 0 && read_full(fd, state, sizeof state - 1) > 0)
            return strncmp(state, "THAWED", 6) != 0;
    }
    return 0;
}

static void kill_all(const struct pylxc_op *op)
{
    fd_close int fd = op->flags & PYLXC_CGROUP_V2_FIRST ? open_file(op_string(op, 0), "cgroup.kill", O_WRONLY) : -1;
    if (fd >= 0)
        write_all(fd, "1", 1);
}

/* The parent that pylxc/runtime/cgroup.py makes below the root of v2 goes with the last of its children. */
static void remove_parent(const struct pylxc_op *op)
{
    static const char name[] = "/pylxc";
    TEXT(path, 4096);
    text_add(&path, op->flags & PYLXC_CGROUP_V2_FIRST ? op_string(op, 0) : "");
    while (path.length && path.data[path.length] != '/')
        path.data[path.length--] = 0;
    path.data[path.length] = 0;
    if (path.length >= strlen(name) && strcmp(path.data + path.length - strlen(name), name) == 0)
        sys(unlinkat, AT_FDCWD, path.data, AT_REMOVEDIR);
}

/* A full init passes controllers on to what it makes below; then nobody can be in the cgroup itself (cgroups(7), "no
 * internal processes"), where the next one begins. */
static void take_controllers_back(const char *directory)
{
    static const char *const passed_on[] = {"-cpu", "-io", "-memory", "-pids"};
    fd_close int fd = open_file(directory, "cgroup.subtree_control", O_WRONLY);
    for (size_t i = 0; fd >= 0 && i < LENGTH(passed_on); i++)
        write_all(fd, passed_on[i], strlen(passed_on[i]));
}

static int kill_listed(const char *list, size_t length)
{
    int found = 0;
    for (const char *at = list, *end = list + length, *newline; (newline = memchr(at, '\n', (size_t)(end - at)));
         at = newline + 1) {
        uint64_t pid;
        if (parse_number(at, (size_t)(newline - at), INT32_MAX, &pid) == 0 && pid > 1) {
            sys(kill, pid, 9 /* SIGKILL */);
            found = 1;
        }
    }
    return found;
}

/* Kills what a process has left behind in a pid namespace that it shares. Not by cgroup.kill: after it, Linux 6.18 also
 * kills whatever is born into the cgroup, for it compares the count of such kills with that of another cgroup, the one
 * where the parent is (cgroup_css_set_fork, kernel/cgroup/cgroup.c). */
static void kill_rest(const char *directory)
{
    char list[4096];
    struct __kernel_timespec pause = {0, 5000000};
    for (int attempt = 0; attempt < PATIENCE; attempt++) {
        fd_close int fd = open_file(directory, "cgroup.procs", O_RDONLY);
        long n = fd < 0 ? 0 : read_full(fd, list, sizeof list);
        if (n <= 0 || !kill_listed(list, (size_t)n))
            return;
        sys(nanosleep, &pause, 0);
    }
}

uint64_t cgroups_clear(const struct plan *plan)
{
    const struct pylxc_op *op = plan_find(plan, PYLXC_OP_CGROUP);
    uint64_t oom_kills = 0;
    if (!op || op->flags & PYLXC_CGROUP_KEEP)
        return 0;
    for (unsigned i = 0; i < op->strings; i++) {
        kill_rest(op_string(op, i));
        oom_kills += oom_kills_in(op_string(op, i));
        remove_cgroups_below(op_string(op, i), PATIENCE);
        if (i == 0 && op->flags & PYLXC_CGROUP_V2_FIRST)
            take_controllers_back(op_string(op, i));
    }
    return oom_kills;
}

uint64_t cgroups_finish(const struct plan *plan)
{
    const struct pylxc_op *op = plan_find(plan, PYLXC_OP_CGROUP);
    uint64_t oom_kills = 0;
    if (!op || op->flags & PYLXC_CGROUP_KEEP)
        return 0;
    kill_all(op);
    /* That of v2, which is the first, goes last, and only when no other is left: by it those who come later know that
     * there are some, should this process be killed meanwhile. */
    int left = 0;
    for (unsigned i = op->strings; i-- > 0;) {
        oom_kills += oom_kills_in(op_string(op, i));
        if (i > 0 || !left)
            left |= remove_cgroup(op_string(op, i), PATIENCE);
    }
    remove_parent(op);
    return oom_kills;
}
