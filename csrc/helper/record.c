/* The record of a container: an attribute of its directory that names the process, the file "exit" that says how it
 * ended, and a lock that says that both are being kept. pylxc/runtime/record.py reads them. */
#include "record.h"
#include <linux/time_types.h>

static int64_t clock_ns(int clock)
{
    struct __kernel_timespec t;
    sys(clock_gettime, clock, &t);
    return t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t now_ns(void)
{
    return clock_ns(0 /* CLOCK_REALTIME */);
}

int64_t monotonic_ns(void)
{
    return clock_ns(1 /* CLOCK_MONOTONIC */);
}

int record_write(int directory, const char *name, const struct text *content)
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

/* "PID START MONITOR STARTED_NS RESTARTS BOOT". An attribute of some 80 bytes lies in the directory's own inode and
 * costs a tenth of a file. The lock on the directory, held until the monitor ends, says that the process is watched. */
int record_state(const struct plan *plan, int directory, int32_t pid, int64_t restarts)
{
    const struct pylxc_op *life = plan_find(plan, PYLXC_OP_LIFE);
    if (directory < 0)
        return 0;
    TEXT(words, 192);
    text_number(&words, pid);
    text_add(&words, " ");
    add_start_time(&words, pid);
    text_add(&words, " ");
    text_number(&words, (int64_t)sys(getpid));
    text_add(&words, " ");
    text_number(&words, now_ns());
    text_add(&words, " ");
    text_number(&words, restarts);
    text_add(&words, " ");
    text_add(&words, life ? op_string(life, 0) : "");
    long r = sys(flock, directory, 2 /* LOCK_EX */);
    return (int)(r < 0 ? r : sys(fsetxattr, directory, "user.pylxc.state", words.data, words.length, 0));
}

static void add_member(struct text *json, const char *name, int64_t value)
{
    text_add(json, json->length ? ",\"" : "{\"");
    text_add(json, name);
    text_add(json, "\":");
    text_number(json, value);
}

void record_end(int directory, const struct pylxc_report *end, int restarting)
{
    TEXT(json, 512);
    if (directory < 0)
        return;
    add_member(&json, "exit_code", end->code);
    add_member(&json, "signal", end->signal);
    add_member(&json, "finished_ns", end->time_ns);
    add_member(&json, "oom_killed", end->oom_killed);
    if (restarting)
        add_member(&json, "restarting", 1);
    if (end->error.stage) {
        add_member(&json, "stage", end->error.stage);
        add_member(&json, "errno", end->error.errnum);
    }
    text_add(&json, "}\n");
    record_write(directory, "exit", &json);
}

void record_no_end(int directory)
{
    if (directory >= 0)
        sys(unlinkat, directory, "exit", 0);
}
