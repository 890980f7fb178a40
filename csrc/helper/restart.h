/* Whether and when a process is started again; see restart.c. */
#ifndef PYLXC_RESTART_H
#define PYLXC_RESTART_H
#include "helper.h"

struct restart {
    int64_t count; /* how often it was */
    int64_t pause; /* ns before the last time */
};

/* Whether the container's policy wants a process that ended with this status started again. */
int restart_is_wanted(const struct plan *plan, const struct restart *r, int code);
/* The next time: how many ns to wait before it, for a process that has lived so many. */
int64_t restart_next(struct restart *r, int64_t lived);
#endif
