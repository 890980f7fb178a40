/* The monitor's side of a container's user namespace; see userns.c. */
#ifndef PYLXC_USERNS_H
#define PYLXC_USERNS_H
#include "helper.h"

/* Asked of the monitor by the child (in place of a stage): the tree that operation `index` names in string `errnum`. */
enum { REQUEST_TREE = -1 };

struct tree_reply {
    int32_t errnum;
};

/* Whether the plan's process begins in another user namespace than the monitor's. */
int userns_is_own(const struct plan *plan);
/* Whether that is made with it: its id maps are to be written. Else it is another container's (PYLXC_OP_JOIN). */
int userns_is_new(const struct plan *plan);
/* Whether it is shown the host's trees through id-mapped mounts, which the monitor makes. */
int userns_maps_trees(const struct plan *plan);
/* Enters the user namespace that the plan gives, if it gives one: 0 or a negative errno. */
int userns_enter_given(const struct plan *plan);
/* PYLXC_PLAN_HOLD: makes a user namespace without id maps and keeps it until the control socket is closed. */
_Noreturn void userns_hold(void);
/* Lets the pipes among the standard streams belong to the root of the user namespace that the plan's first operation
 * describes: a payload opens them anew through /dev/stdout. */
void userns_give_streams(const struct plan *plan);
/* Writes the id maps of a new process, tells it to go on, and sends the store's tree. 0 or a negative errno. */
int userns_begin(const struct plan *plan, int32_t pid, int channel, int *ret_userns);
/* Sends the host's directories among the layers. */
void userns_send_layers(const struct plan *plan, int channel, int userns);
/* A namespace of a process ("user", "mnt"): a descriptor or a negative errno. */
int open_namespace(int32_t pid, const char *name);
/* Answers a request for a tree. */
void userns_serve(const struct plan *plan, int channel, int userns, const struct pylxc_error *request);

/* Writes a file of /proc/PID, given as "/name". */
int write_process_file(int32_t pid, const char *name, const char *content);

/* Whether the child opens the sources of slaves itself, and so must not leave the host's peer groups before. */
int userns_keeps_slaves(const struct plan *plan);

/* The child's side: waits for the monitor's word. */
void await_go(const struct launch *l);
/* The child's side: waits for the maps and becomes root there. */
int userns_enter(struct launch *l);
/* A detached copy of the tree that string k of an operation names: the monitor's to open where there is a user
 * namespace of its own, for its root may not go everywhere on the host. A bind whose source is relative is of the
 * store, which lies in the MEMORY directory. A descriptor or a negative errno. */
int source_tree(struct launch *l, const struct pylxc_op *op, int k);
#endif
