/* The container's network namespace, made beside its root; see netns.c. */
#ifndef PYLXC_NETNS_H
#define PYLXC_NETNS_H
#include "helper.h"

/* The monitor's side: a socket whose other end is the child's, and the process that makes the namespace. */
struct netns {
    int ours, theirs, maker_fd; /* maker_fd: its pidfd, readable when it has ended; -1: there is none */
    int late_fd;                /* a socket on which it waits for the endpoints that the plan lacks; -1: it does not */
    int32_t maker;
};
#define NO_NETNS ((struct netns){.ours = -1, .theirs = -1, .maker_fd = -1, .late_fd = -1})

/* Whether the plan's process has a network namespace of its own, which is then no part of its clone. */
int netns_is_own(const struct plan *plan);
/* Before the clone of the child. 0 or a negative errno. */
int netns_open(const struct plan *plan, struct netns *ret);
/* After it, in the monitor: lets a further process make the namespace, owned by the user namespace `userns` (-1: by
 * the monitor's own). What goes wrong is told to the child. `directory`: where a restart finds its endpoints. */
void netns_begin(const struct plan *plan, struct netns *n, int userns, int directory);
/* Fills in the next endpoint that the plan lacks, and tells that process. */
void netns_take_endpoint(const struct plan *plan, struct netns *n, struct pylxc_endpoint *endpoint);
/* No more will come: without those that it still lacks, that process fails. */
void netns_take_no_more(struct netns *n);
/* Reaps that process; waits for it where it must. */
void netns_end(struct netns *n);

/* Brings the loopback interface up. 0 or a negative errno. */
int netns_loopback_up(void);

/* The child's side: enters the namespace, waiting for it where it must. Does nothing the second time. 0 or a negative
 * errno. */
int netns_enter(struct launch *l);
int op_loopback(struct launch *l, const struct pylxc_op *op);
int op_endpoint(struct launch *l, const struct pylxc_op *op);
#endif
