/* A monitor at work, and what its parts do: streams.c, begin.c and monitor.c, which is the first to read. */
#ifndef PYLXC_MONITOR_H
#define PYLXC_MONITOR_H
#include "health.h"
#include "helper.h"
#include "log.h"
#include "netns.h"
#include "ports.h"
#include "restart.h"

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
    int held_fd;  /* kept open for whoever asked for that */
    int input[2]; /* the pipe that is the process's standard input, with PYLXC_PLAN_STDIN */
    int orphaned; /* the owner went first */
    struct log log;
    struct restart restart;
    struct stopping stopping;
    uint64_t oom_kills;
    struct ports ports;
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

/* Says why the process could not be started, and is -1. */
int monitor_fail(struct monitor *m, int stage, long negative_errno, int index);
int monitor_has(const struct monitor *m, uint32_t flag);
void monitor_report(const struct pylxc_report *r, int pass_fd);

/* streams.c: the standard streams of the process. */

/* Standard streams that the caller did not give are /dev/null: left closed, their numbers would go to other files. */
void streams_fill(void);
/* Descriptors 0 to 2 of the process: the caller's, the pipes to the log, or /dev/null. 0 or a negative errno. */
int streams_open(struct monitor *m);
/* They are the payload's now: held here, their other ends would never see an end of file. The numbers stay taken, or
 * what is opened next would get them, and be the next process's streams. */
void streams_give_up(void);
/* The master goes to the caller, or takes the place of the pipes to the log, which the payload no longer has. */
void streams_give_terminal(struct monitor *m);
/* Moves what a stream has to the log: how many bytes, 0 where it has none or has come to its end. */
long streams_pump(struct monitor *m, struct stream *s);
/* What is left in them when the process has ended. */
void streams_drain(struct monitor *m);

/* begin.c: the process, from the clone to the exec. */

/* Makes it: 0, or -1 with the error in the monitor. */
int begin_process(struct monitor *m);
/* Waits until it executes the payload: likewise. */
int begin_await(struct monitor *m);
/* Kills and reaps what there is of it. */
void begin_undo(struct monitor *m);
#endif
