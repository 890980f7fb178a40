/* Published ports, as the monitor sees them; see ports.c. */
#ifndef PYLXC_PORTS_H
#define PYLXC_PORTS_H
#include "helper.h"

/* The descriptors that listen are numbers in a row, from here on: out of the way of all others, and closed in one go.
 */
enum { PORTS_FIRST_FD = 64 };

struct ports {
    const struct plan *plan;
    int count;          /* how many listen: descriptors PORTS_FIRST_FD and so on, in the order of the plan */
    int proxy_fd;       /* the pidfd of the process that serves them, -1 = there is none */
    int word;           /* the end of a pipe that it lives by: closed, it finishes and ends */
    int target_fd;      /* the container's process; not owned */
    int32_t proxy;      /* its pid */
    int64_t begun, due; /* CLOCK_MONOTONIC: its start; when there is to be another one */
    int recorded;
};

static inline const struct pylxc_port *port_of(const struct pylxc_op *op)
{
    return (const void *)(op + 1);
}

/* Whether the operand is one that can be carried out. */
int ports_operand_is_sound(const struct pylxc_op *op);
/* Listens on all ports of the plan: 0, or a negative errno with the index of the operation that failed. */
int ports_open(struct ports *p, const struct plan *plan, int *ret_index);
/* Closes them; in a child of the monitor, too, which has no use for them. */
void ports_close(const struct ports *p);
/* Writes to the record directory where they are, for whoever asks. 0 or a negative errno. */
int ports_record(struct ports *p, int directory);
/* The container's process runs: lets them be served, in its network namespace. */
void ports_begin(struct ports *p, int pid_fd);
/* What is to be waited for, and until when (CLOCK_MONOTONIC in ns; INT64_MAX = there is no hurry). */
int ports_wait_fd(const struct ports *p);
int64_t ports_due(const struct ports *p);
/* Whenever the wait has ended: a proxy that was killed is replaced. */
void ports_serve(struct ports *p, int has_ended);
/* The container's process has ended: what it has sent still goes out, unless `at_once`. */
void ports_end(struct ports *p, int at_once);
#endif
