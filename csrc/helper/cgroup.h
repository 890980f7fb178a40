/* The cgroups of a process; see cgroup.c. */
#ifndef PYLXC_CGROUP_H
#define PYLXC_CGROUP_H
#include "helper.h"

enum { CGROUPS_LIMIT = 16 };

/* What is open between the monitor's preparation and the child's entry. */
struct cgroups {
    int v2_fd;                /* the directory that clone3 puts the child into, -1 = none */
    int tasks[CGROUPS_LIMIT]; /* files that a process moves itself by */
    unsigned count;
    int scored;                /* oom_score_adj is written already */
    const struct pylxc_op *op; /* NULL = the process stays where the caller is */
};

/* Opens the cgroups that the plan names. 0 or a negative errno. */
int cgroups_open(const struct plan *plan, struct cgroups *ret);
/* The child moves itself. 0 or a negative errno. */
int cgroups_enter(const struct cgroups *cgroups);
/* Gives this process the oom_score_adj of the child, which inherits it: for a child that could not write its own. */
int cgroups_score(struct cgroups *cgroups);
void cgroups_close(struct cgroups *cgroups);
/* Whether what is in them is being stopped, or stands still (pause). */
int cgroups_frozen(const struct plan *plan);
/* The end of a process: kills what is left in its cgroups, and what is below them. Says how many processes were killed
 * there for want of memory, ever. */
uint64_t cgroups_clear(const struct plan *plan);
/* The end of a container: the same, and removes them. */
uint64_t cgroups_finish(const struct plan *plan);
#endif
