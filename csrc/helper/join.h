/* Namespaces shared with another process; see join.c. */
#ifndef PYLXC_JOIN_H
#define PYLXC_JOIN_H
#include "helper.h"
#include <linux/sched.h>

/* The plan's JOIN operation; NULL = it shares none. */
const struct pylxc_op *join_operation(const struct plan *plan);
/* Its place among the operations, for what fails. */
int join_index(const struct plan *plan);
/* As clone3 with CLONE_PIDFD: the pid, 0 in the child, or a negative errno. */
long join_clone(const struct pylxc_op *join, struct clone_args *args, int *ret_pid_fd);
/* In the child: enters the namespaces that remain. 0 or a negative errno. */
int join_rest(const struct plan *plan);
#endif
