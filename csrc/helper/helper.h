/* What the helper's files share: a process in the making, and how a step of it fails.
 *
 *   main.c      reads the plan, starts the monitor
 *   monitor.c   the parent of one container or exec: its clone, its streams, its exit record
 *   begin.c     the process, from the clone to the exec
 *   streams.c   its standard streams, on their way to the log
 *   record.c    what it writes down of a container
 *   control.c   the socket on which it is asked for things
 *   restart.c   whether and when it starts the process again
 *   events.c    what it tells of a container; event_log.c is the file that it tells it in
 *   ports.c     the ports that it publishes; proxy.c, proxy_tcp.c and proxy_udp.c are the process that serves them
 *   health.c    the checks of a container's health: when they run, what they say
 *   log.c       the files of a container's log, and when the next one begins
 *   launch.c    the child: carries out the plan's operations, then becomes the payload
 *   paths.c     paths inside the root, opened and made
 *   root.c      operations that make the root file system
 *   fill.c      operations that fill it: mounts, devices, files, masks
 *   cgroup.c    the cgroups of a container: entering them, clearing them away
 *   keep.c      removes a network when its owner has ended
 *   stack.c     keeps the network stack that the networks of an ordinary user are in
 *   pause.c     keeps a container paused for a caller that may be killed meanwhile
 *   terminal.c  the payload's terminal
 *   userns.c    the container's own user namespace: id maps, and the host's trees seen through them
 *   idmap.c     id maps of single mounts
 *   join.c      namespaces shared with another container
 *   netns.c     the container's network namespace, made beside its root
 *   endpoint.c  its links to networks
 *   netlink.c   what the kernel is asked for these with; netfilter.c: packet filters
 *   message.c   bytes and descriptors from one process to another
 *   seccomp.c   the system call filter
 *   init.c      a small PID 1
 *   files.c     operations that copy files in and out, and open one
 *   identity.c  operations that give up privileges: user, groups, capabilities
 */
#ifndef PYLXC_HELPER_H
#define PYLXC_HELPER_H
#include "../pylxc.h"
#include "sys.h"

/* Flags that headers of some age do not have. */
#ifndef AT_EMPTY_PATH
#define AT_EMPTY_PATH 0x1000
#endif
#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif
#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#endif

struct plan {
    const struct pylxc_plan *head;
    const struct pylxc_op *first;
    int again;          /* the process is started a further time */
    int32_t target_pid; /* of a check of its health: the container's process; else 0 */
};

static inline const struct pylxc_op *plan_next(const struct pylxc_op *op)
{
    return (const void *)((const char *)op + op->size);
}
#define FOR_EACH_OPERATION(plan, op)                                                                                   \
    for (const struct pylxc_op *                                                                                       \
             op = (plan)->first,                                                                                       \
            *op##_end = (const void *)((const char *)op + ((plan)->head->size - sizeof *(plan)->head));                \
         op < op##_end; op = plan_next(op))

/* The first operation of a kind; NULL when there is none. */
const struct pylxc_op *plan_find(const struct plan *plan, enum pylxc_op_code code);

/* A process being launched; one operation at a time changes it. */
struct launch {
    const struct plan *plan;
    int error_fd;    /* the socket to the monitor */
    int network_fd;  /* the socket on which the network namespace comes; -1: none, or entered */
    int held;        /* the caller still makes the root's writable side */
    int has_network; /* it was entered */
    int loopback;    /* errno of bringing its loopback up */
    int endpoint_failed, endpoint_index, endpoints; /* errno of an endpoint, which one, and how many were looked at */
    int root_fd;                                    /* the new root, once there is one */
    int memory_fd;                                  /* the tmpfs that FILE and MASK take from, once there is one */
    int index;                                      /* the operation under way */
    uint64_t root_inode, root_mount;                /* the root's identity, once it was asked for */
    int memory_names;                               /* how many entries were made on it */
    int has_terminal;                               /* descriptors 0 to 2 are a terminal of the container's own */
    const struct pylxc_op *env;
    const struct pylxc_op *mirror; /* what PACK does beside packing */
    char home[4104];               /* "HOME=...", from the user database */
    char subject[sizeof((struct pylxc_error *)0)->subject];
};

/* The i-th string of an operation ("" past the last one). */
const char *op_string(const struct pylxc_op *op, unsigned i);

/* Each carries out one kind of operation: 0 or a negative errno. */
int op_overlay(struct launch *l, const struct pylxc_op *op);
int op_bind_root(struct launch *l, const struct pylxc_op *op);
int op_memory(struct launch *l, const struct pylxc_op *op);
int op_mount(struct launch *l, const struct pylxc_op *op);
int op_bind(struct launch *l, const struct pylxc_op *op);
int op_device(struct launch *l, const struct pylxc_op *op);
int op_symlink(struct launch *l, const struct pylxc_op *op);
int op_directory(struct launch *l, const struct pylxc_op *op);
int op_file(struct launch *l, const struct pylxc_op *op);
int op_mask(struct launch *l, const struct pylxc_op *op);
int op_read_only(struct launch *l, const struct pylxc_op *op);
int op_root_read_only(struct launch *l, const struct pylxc_op *op);
int op_pivot(struct launch *l, const struct pylxc_op *op);
int op_sysctl(struct launch *l, const struct pylxc_op *op);
int op_workdir(struct launch *l, const struct pylxc_op *op);
int op_terminal(struct launch *l, const struct pylxc_op *op);
int op_user(struct launch *l, const struct pylxc_op *op);
int op_copy_from(struct launch *l, const struct pylxc_op *op);
int op_copy_to(struct launch *l, const struct pylxc_op *op);
int op_open(struct launch *l, const struct pylxc_op *op);
int op_show(struct launch *l, const struct pylxc_op *op);
/* Makes the process a PID 1 that looks after the payload: 0 in the payload, or a negative errno. */
int become_init(const struct launch *l);
int op_seccomp(struct launch *l, const struct pylxc_op *op);
int op_capabilities(struct launch *l, const struct pylxc_op *op);

/* Opens a path in the root (see PYLXC_OP_*); a descriptor or a negative errno. */
int open_in_root(struct launch *l, const char *path, uint64_t flags);
/* Likewise, and refuses a path in which there is any symbolic link. */
int open_in_root_without_links(struct launch *l, const char *path, uint64_t flags);
/* Mounts what an open descriptor is over a file in a directory of the root; it is made where it is missing. No link is
 * followed. */
int bind_over_file(struct launch *l, int fd, const char *directory, const char *name);
/* The same with O_CREAT: `mode` is that of a new file. */
int create_in_root(struct launch *l, const char *path, uint64_t flags, uint64_t mode);
/* A directory of the root that exists or is made (0755), with its parents. */
int make_directory_in_root(struct launch *l, const char *path);

/* Tells the monitor that a transfer begins: what fails from here on comes with its end. */
void transfer_begins(struct launch *l);

/* Signals as a fresh program expects them. */
void reset_signals(void);
/* The child's life, from the clone to the payload. Never returns. */
_Noreturn void launch_run(const struct plan *plan, int error_fd, int network_fd);
/* The monitor's life. Never returns. */
_Noreturn void monitor_run(const struct plan *plan);
#endif
