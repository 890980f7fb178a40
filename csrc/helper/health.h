/* The checks of a container's health; see health.c. */
#ifndef PYLXC_HEALTH_H
#define PYLXC_HEALTH_H
#include "helper.h"
#include <asm/poll.h>

enum { HEALTH_WAITS = 2 };

struct health_result;

/* What the monitor knows of its container's health. It belongs to health.c. */
struct health {
    const struct plan *plan;
    const struct pylxc_health *times; /* NULL = there is nothing to check */
    struct plan check;
    int target_fd, directory;          /* the container's process, its record directory; not owned */
    int64_t began;                     /* CLOCK_MONOTONIC, as all but the results' times */
    int64_t due;                       /* when something is to be done */
    int64_t started, deadline, looked; /* of the check that runs: its start; when it has taken too long; when it was
                                          last looked at */
    int64_t streak;
    int status;
    int32_t probe_pid;
    int probe_fd, control_fd, output_fd; /* the check that runs: its monitor, the socket to it, what it writes; -1 */
    struct health_result *results;       /* the last ones, a ring, and one more for the check that runs */
    unsigned count;                      /* of all results so far */
};

/* The container runs: its checks begin. The plan, pid_fd and directory stay the caller's and must outlive health_end;
 * between that and the next beginning there is nothing to do, and the other functions know it. */
void health_begin(struct health *h, const struct plan *plan, int32_t pid, int pid_fd, int directory);
/* What is to be waited for. */
void health_wants(const struct health *h, struct pollfd waits[HEALTH_WAITS]);
/* Until when, by CLOCK_MONOTONIC in ns; INT64_MAX = there is no hurry. */
int64_t health_due(const struct health *h);
/* Does what is to be done; whenever the wait has ended, for whatever reason. */
void health_serve(struct health *h, const struct pollfd waits[HEALTH_WAITS]);
/* The container has ended: so does a check that runs, and says nothing any more. */
void health_end(struct health *h);
#endif
