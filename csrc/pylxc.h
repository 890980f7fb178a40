/* The whole C boundary: what Python hands to C, what C hands back, and what the library and the helper say to each other.
 *
 * Two programs share it. csrc/lib runs inside the caller's process, as a cffi extension. csrc/helper is a static
 * program without libc, run from a sealed memfd; everything that touches a container happens there.
 *
 * Python describes a process to be started as a *plan*: a header and a list of operations, each one step ("mount
 * this", "drop these capabilities", "become this user") with its operands. The helper carries them out in order; a
 * failure names the operation by its index, so Python, which wrote the plan, can say in words what failed.
 */
#ifndef PYLXC_H
#define PYLXC_H
#include <stddef.h>
#include <stdint.h>

/* cffi: begin (csrc/build_ffi.py reads from here; no preprocessor lines) */

/* Which step failed. The names, in lower case without the prefix, are what SpawnError.stage says. */
enum pylxc_stage {
    PYLXC_STAGE_NONE,
    PYLXC_STAGE_HELPER,       /* the helper could not be made, executed, or did not answer */
    PYLXC_STAGE_PLAN,         /* the plan is malformed: a defect of pylxc, never of its input */
    PYLXC_STAGE_RECORD,       /* the container's state or log file could not be written */
    PYLXC_STAGE_NAMESPACES,   /* clone3, setns, unshare, id maps */
    PYLXC_STAGE_CGROUP,
    PYLXC_STAGE_ROOT,         /* the root file system: its layers, the overlay, pivot_root */
    PYLXC_STAGE_MOUNT,
    PYLXC_STAGE_DEVICE,
    PYLXC_STAGE_FILE,         /* a file, directory or symbolic link that the runtime puts into the root */
    PYLXC_STAGE_MASK,         /* masked and read-only paths */
    PYLXC_STAGE_HOSTNAME,
    PYLXC_STAGE_NETWORK,
    PYLXC_STAGE_SYSCTL,
    PYLXC_STAGE_RLIMIT,
    PYLXC_STAGE_USER,
    PYLXC_STAGE_CAPABILITIES,
    PYLXC_STAGE_SECCOMP,
    PYLXC_STAGE_TERMINAL,
    PYLXC_STAGE_WORKDIR,
    PYLXC_STAGE_UNPACK,
    PYLXC_STAGE_PACK,
    PYLXC_STAGE_EXEC
};

/* Operations of a plan, in the order in which a container start uses them. "in the root" means: resolved with
 * openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS) against the new root, so that no link leads out of it. */
enum pylxc_op_code {
    PYLXC_OP_ID_MAP,      /* strings: uid_map, gid_map (user_namespaces(7)), written by the monitor */
    PYLXC_OP_JOIN,        /* flags: CLONE_NEW*; a: a pidfd; b: its user namespace. Shared with that process, beside new ones */
    PYLXC_OP_CGROUP,      /* strings: directories of cgroups that exist; flags: PYLXC_CGROUP_*; a: oom_score_adj, or INT64_MIN.
                             The process lives in them; at its end they are removed */
    PYLXC_OP_LIFE,        /* strings: the boot's id, the directory of the event log ("" = none), what its events say of the
                             container (members of a JSON object); flags: PYLXC_RESTART_*; a: most restarts, -1 = any.
                             Carried out by the monitor */
    PYLXC_OP_HEALTH,      /* in place of strings a struct pylxc_health and, as its check, a whole plan with PYLXC_PLAN_JOIN,
                             whose target_fd the monitor fills in. Carried out by the monitor */
    PYLXC_OP_PUBLISH,     /* in place of strings a struct pylxc_port; a: after so many ns without a datagram a flow of UDP is
                             forgotten. Carried out by the monitor: it listens before the process is made */
    PYLXC_OP_OVERLAY,     /* strings: mount point, upper, work, lower (topmost first)...; upper and work "" = read-only;
                             relative to the MEMORY directory; an absolute lower one is the host's;
                             flags: PYLXC_OVERLAY_*. Becomes the root, or with PYLXC_OVERLAY_INSIDE is mounted in it, or
                             with PYLXC_OVERLAY_ASIDE stays where it is, for a BIND to take from */
    PYLXC_OP_BIND_ROOT,   /* strings: mount point, source directory. Becomes the root */
    PYLXC_OP_MEMORY,      /* strings: the store's directory. A tmpfs becomes the working directory, with the store as "store",
                             an empty directory "root" to mount the root on, and room for what FILE and MASK mount */
    PYLXC_OP_MOUNT,       /* strings: type, target in the root, options "k=v,k"; flags: MOUNT_ATTR_*; a: PYLXC_MAKE_* */
    PYLXC_OP_BIND,        /* strings: source on the host, target in the root; flags: MOUNT_ATTR_*; a: PYLXC_MAKE_* | PYLXC_BIND_*;
                             a relative source lies below the MEMORY directory. A third string is a directory there in
                             which the source is looked up as in a root of its own: no link in it leads out of it */
    PYLXC_OP_DEVICE,      /* strings: node on the host, path in the root; a, b: its major and minor, which are checked;
                             flags: PYLXC_DEVICE_COPY */
    PYLXC_OP_SYMLINK,     /* strings: path in the root, its text */
    PYLXC_OP_DIRECTORY,   /* strings: path in the root; flags: mode; parents are made as 0755; a, b: uid, gid */
    PYLXC_OP_FILE,        /* strings: path in the root, content (cut where it has a NUL)...; flags: mode, and MOUNT_ATTR_*
                             above PYLXC_FILE_ATTRIBUTES bits; a, b: uid, gid. Mounted from memory over what is there */
    PYLXC_OP_MASK,        /* strings: paths in the root..., hidden under nothing; absent ones are passed over */
    PYLXC_OP_READ_ONLY,   /* strings: paths in the root..., made read-only; absent ones are passed over */
    PYLXC_OP_ROOT_READ_ONLY,
    PYLXC_OP_PIVOT,       /* leave the host's tree for the root */
    PYLXC_OP_HOSTNAME,    /* strings: name */
    PYLXC_OP_LOOPBACK,    /* bring lo up */
    PYLXC_OP_ENDPOINT,    /* in place of strings a struct pylxc_endpoint: a link to a network; flags: PYLXC_ENDPOINT_LATE;
                             a: the network namespace that its bridge is in, 0 = this one. Made by the process that makes
                             the namespace; a restart makes those in the file "endpoints" of the record directory, if any */
    PYLXC_OP_SYSCTL,      /* strings: path below /proc/sys, value */
    PYLXC_OP_RLIMIT,      /* flags: resource; a, b: soft, hard (-1 = unlimited); clamped to what may be had */
    PYLXC_OP_UMASK,       /* flags: mask */
    PYLXC_OP_USER,        /* strings: "name", "uid", "name:group" or "uid:gid", then additional groups */
    PYLXC_OP_CAPABILITIES,/* flags: the capabilities kept; a: 0 = of the bounding set (before USER), 1 = of the others (after) */
    PYLXC_OP_NO_NEW_PRIVILEGES,
    PYLXC_OP_SECCOMP,     /* a: number of struct sock_filter, which follow in place of strings */
    PYLXC_OP_TERMINAL,    /* a new pseudo-terminal of the root's /dev/pts becomes descriptors 0 to 2 and the controlling
                             terminal; flags: PYLXC_TERMINAL_*; a, b: its rows and columns. Its other end goes to the
                             caller, or with PYLXC_PLAN_LOG the monitor keeps it and logs what comes as standard output */
    PYLXC_OP_WORKDIR,     /* strings: directory in the root; a: PYLXC_MAKE_DIRECTORY */
    PYLXC_OP_UNPACK,      /* strings: destination directory in the root; flags: PYLXC_UNPACK_*; a: fd of the tar stream;
                             b: limit of unpacked bytes */
    PYLXC_OP_PACK,        /* strings: directory in the root, names in it that are left out...; flags: PYLXC_PACK_*; a: fd to
                             write to; b: with PACK_SETTLE the latest time of modification, s since the epoch */
    PYLXC_OP_MIRROR,      /* what the PACK that follows packs is made in a directory, too; flags: PYLXC_UNPACK_*; a: its fd */
    PYLXC_OP_COPY_FROM,   /* strings: path in the root, its name in the stream ("" = "."); flags: PYLXC_PACK_*; a: fd that the
                             tar stream is written to; b: fd of a directory that takes the root's place, or -1 */
    PYLXC_OP_COPY_TO,     /* strings: path in the root, the name of what comes; flags: PYLXC_UNPACK_*; a: fd of the stream of a
                             COPY_FROM; b: as there. The copy lands where cp would put it */
    PYLXC_OP_PAUSE,       /* strings: a file of a cgroup's freezer, what is written to it at first and at the end. Only with
                             PYLXC_PLAN_PAUSE */
    PYLXC_OP_NETWORK,     /* strings: the bridge of a network, whose packet filter has the same name; flags: PYLXC_NETWORK_SHARED,
                             a, b: then the descriptors of the two locks (keep.c). Only with PYLXC_PLAN_KEEP */
    PYLXC_OP_STACK,       /* strings: the program that connects the stack to the host's network, and its operands, none = no
                             program; an operand "" is where the stack is (/proc/PID/ns/net); a: the file whose locks keep
                             it. Only with PYLXC_PLAN_STACK */
    PYLXC_OP_OPEN,        /* strings: path of a regular file in the root; flags: O_*; a: fd of the socket that it is sent on */
    PYLXC_OP_SHOW,        /* strings: a name in the MEMORY directory, which becomes the root, read-only, for other processes to
                             look at (/proc/PID/cwd/NAME); a: fd of a socket: for as long as its other end is open */
    PYLXC_OP_ENV,         /* strings: NAME=value... */
    PYLXC_OP_EXEC         /* strings: argv... Last. Without it the process ends with status 0 after the last operation */
};

enum pylxc_flags {
    PYLXC_OVERLAY_VOLATILE = 1,  /* no sync on unmount: for roots that are thrown away or synced by other means */
    PYLXC_OVERLAY_INSIDE = 2,    /* mounted in the root at the first string, instead of becoming the root */
    PYLXC_OVERLAY_IN_MEMORY = 8, /* upper and work directory are made on the MEMORY file system (Linux >= 6.6) */
    PYLXC_OVERLAY_ASIDE = 16,    /* mounted in the MEMORY directory, at the first string, which is made; never the root */
    PYLXC_OVERLAY_ALONE = 32,    /* EBUSY while another overlay lives, or an open file of one, that writes to the same upper
                                    directory */
    PYLXC_OVERLAY_JOINED = 4,    /* give all layers in one lowerdir= string (Linux < 6.5 has no lowerdir+) */

    PYLXC_CGROUP_V2_FIRST = 1,   /* the first directory is of cgroup v2, the others of v1 */
    PYLXC_CGROUP_KEEP = 2,       /* they are another process's: not removed at the end */
    PYLXC_CGROUP_FOLLOW = 4,     /* in a PYLXC_OP_HEALTH: of v2 the one below it where the container's process is */

    PYLXC_FILE_ATTRIBUTES = 32,

    PYLXC_DEVICE_COPY = 1,       /* in a user namespace: a node with the same mode and owners as the container sees them */

    PYLXC_TERMINAL_CONSOLE = 1,  /* /dev/console is this terminal too */

    PYLXC_ENDPOINT_LATE = 1,     /* it is not known yet: the caller tells it before it releases the process
                                    (PYLXC_PLAN_AWAIT_CALLER), one after the other in the plan's order */

    PYLXC_NETWORK_SHARED = 1,    /* it is nobody's own: it goes when nobody has used it for a moment */

    PYLXC_RESTART_ON_FAILURE = 1,/* start the process again when it has ended with another status than 0 */
    PYLXC_RESTART_ALWAYS = 2,    /* and when it has ended with 0 */

    /* MAKE and BIND flags stand together in one number. */
    PYLXC_MAKE_DIRECTORY = 1,    /* make the target, a directory, where it is missing */
    PYLXC_MAKE_LIKE_SOURCE = 2,  /* make the target, of the source's kind, where it is missing */
    PYLXC_BIND_RECURSIVE = 4,
    PYLXC_BIND_OPTIONAL = 8,     /* pass over a source that is missing */
    PYLXC_MAKE_PLAIN = 16,       /* and no part of the target's path may be a symbolic link */
    PYLXC_BIND_OWNER = 32,       /* the source's owner is the container's root (idmap.c) */
    PYLXC_BIND_MAPPED = 64,      /* refuse a source whose ids cannot be mapped (EOPNOTSUPP) */
    PYLXC_BIND_SLAVE = 128,      /* what the host mounts below the source appears; else nothing propagates (private) */
    PYLXC_BIND_SHARED = 256,     /* and what the container mounts appears on the host; not in a user namespace of its own */

    PYLXC_UNPACK_LAYER = 1,      /* .wh. names are whiteouts, as in an image layer */
    PYLXC_UNPACK_OWNER_ROOT = 2, /* everything belongs to 0:0, whatever the archive says */
    PYLXC_UNPACK_CREATE = 4,     /* make the destination (0755) where it is missing */
    PYLXC_UNPACK_KEEP_DIRECTORIES = 8, /* directories that exist keep their owner, mode and time */
    PYLXC_UNPACK_NO_DEVICES = 16,      /* pass over device nodes: in a user namespace they cannot be made */
    PYLXC_UNPACK_BENEATH = 32,   /* no symbolic link is followed: for a directory of the host's */
    PYLXC_UNPACK_OWNER_SELF = 64,/* everything belongs to the process that unpacks it */
    PYLXC_UNPACK_PLAIN = 128,    /* nothing that grants a right: no set-id bits, no attributes but user.*, no devices */
    PYLXC_UNPACK_KEEP_TOP = 1024,/* the destination keeps its owner, mode and time, whatever the archive says of "." */
    PYLXC_UNPACK_REPLACE = 2048, /* what is no directory takes the place of one, with all that is in it */
    PYLXC_UNPACK_SYNC = 512,     /* MIRROR: what was made is on disk at the end */
    PYLXC_UNPACK_CONTENTS = 256, /* COPY_TO: what is in the directory that comes, not itself, goes into one that exists */

    PYLXC_PACK_LAYER = 1,        /* overlay whiteouts and opaque marks are written as .wh. names */
    PYLXC_PACK_LIVE = 2,         /* what vanishes meanwhile is left out, what grows is cut; nothing of /proc and /sys */
    PYLXC_PACK_FOLLOW = 4,       /* COPY_FROM: a symbolic link as the last component is followed */
    PYLXC_PACK_SETTLE = 8,       /* what was modified later than `b` gets that time, in the stream and, without PACK_LIVE, in
                                    the tree */
    PYLXC_PACK_NOTHING = 16,     /* nothing is written: PACK_SETTLE in the tree is all that is wanted */
    PYLXC_PACK_ADOPT = 32,       /* the tree is to be what unpacking the stream would make: what overlayfs noted in it for
                                    itself is taken off, anything else that is not in the stream is an error (pack_adopt.c) */

    PYLXC_PLAN_JOIN = 1,         /* enter the namespaces of the process whose pidfd is plan.target_fd */
    PYLXC_PLAN_LOG = 2,          /* standard output and error go to the log, not to descriptors 1 and 2 */
    PYLXC_PLAN_KILL_WITH_OWNER = 4, /* and empty the record directory then: nobody is left who would */
    PYLXC_PLAN_EPHEMERAL = 8,       /* empty the record directory at the end, in place of an exit record */
    PYLXC_PLAN_KEEP_WORK = 16384,   /* but leave its directory "work", empty: the caller will use both again */
    PYLXC_PLAN_SYSTEM = 1024,       /* the payload is a full init: a halt from inside ends it with status 0 */
    PYLXC_PLAN_INIT = 32,           /* the payload is the child of a PID 1 that reaps and passes signals on */
    PYLXC_PLAN_RECORD_LATE = 16,    /* tell the caller first: it will not look at the record itself */
    PYLXC_PLAN_UNPRIVILEGED = 64,   /* the caller has no privilege on the host: the process opens the host's trees itself,
                                       with the ids that they have; with JOIN the monitor enters the user namespace too */
    PYLXC_PLAN_HOLD = 128,          /* no process: make a user namespace, and keep it until the control socket closes */
    PYLXC_PLAN_PAUSE = 2048,        /* no process: keep a cgroup frozen (OP_PAUSE) until the control socket is written to or
                                       closed, or the owner ends */
    PYLXC_PLAN_KEEP = 4096,         /* no process: when the owner has ended, or nobody uses it any more, remove a network
                                       (OP_NETWORK) */
    PYLXC_PLAN_STACK = 8192,        /* no process: keep a network namespace, whose process is reported, while anybody has a lock
                                       on a file (OP_STACK) */
    PYLXC_PLAN_STDIN = 512,         /* descriptor 0 is a pipe whose other end the monitor gives to who asks for it */
    PYLXC_PLAN_AWAIT_CALLER = 256   /* the record directory and the root's writable side are still being made: the first
                                       OVERLAY waits for pylxc_spawn_release */
};

/* The head of a plan. Descriptors are numbers in the helper's own table (see pylxc_spec.fds); -1 = none.
 * It is followed by op_count operations, each 8-byte aligned. */
struct pylxc_plan {
    uint32_t magic, size, op_count, flags;
    uint64_t clone_flags;        /* CLONE_NEW*; with PYLXC_PLAN_JOIN, the namespaces to enter */
    int32_t owner_fd, target_fd, directory_fd;
    int32_t userns_fd;           /* a user namespace that the monitor enters first */
    int32_t reserved[1];         /* (used by the tests' own builds only: where to pause) */
    uint32_t log_files;          /* with PYLXC_PLAN_LOG: how many files are kept, at least 1 */
    uint64_t log_size;           /* bytes after which the next begins; 0 = one file without a limit */
};

/* The head of an operation, followed by `strings` strings that each end in NUL, padded to 8 bytes. */
struct pylxc_op {
    uint32_t size;
    uint16_t code, strings;
    uint64_t flags;
    int64_t a, b;
};

struct pylxc_address {
    uint8_t family, prefix;          /* family: 4, 6, or 0 = none */
    uint8_t reserved[2];
    uint8_t bytes[16];               /* in the order of networks */
};

/* A container's end of a network. */
struct pylxc_endpoint {
    char name[16], bridge[16];       /* of the link inside, and of the network's bridge on the host */
    uint8_t mac[6], reserved[2];
    uint32_t mtu, padding;           /* mtu: 0 = that of the bridge */
    struct pylxc_address own[2];
    struct pylxc_address gateway[2]; /* of default routes */
};

/* When a container's health is checked, in ns, as docker's HEALTHCHECK has it. All are positive (start_period may be 0)
 * and no more than PYLXC_HEALTH_LONGEST. */
struct pylxc_health {
    int64_t interval, timeout, start_period, start_interval;
    int64_t retries;
};

/* A port of the host that leads into the container's network namespace. */
struct pylxc_port {
    uint8_t address[16];             /* of the host: an IPv6 address, or an IPv4 one in the first four bytes */
    int32_t family;                  /* 4, 6; 0 = all addresses of the host, of both kinds */
    int32_t protocol;                /* IPPROTO_TCP (6) or IPPROTO_UDP (17) */
    int32_t first, last;             /* the first of these that is free; first 0 = the kernel picks one */
    int32_t earlier;                 /* which one it was before, taken again where it is free; 0 = none */
    int32_t container;               /* in the container */
};

/* What is asked of the monitor on the socket "control" (SOCK_DGRAM) in the record directory. With the datagram comes, as
 * SCM_RIGHTS, the socket that is answered on. */
enum pylxc_request_kind {
    PYLXC_REQUEST_STOP = 1,      /* never start the process again; send it `signal` (0 = none), the same after each
                                    `repeat` (0 = never), and SIGKILL after `patience` (-1 = never) */
    PYLXC_REQUEST_DISOWN,        /* let it outlive its owner */
    PYLXC_REQUEST_STDIN,         /* answered with the other end of the process's standard input, or of its terminal */
    PYLXC_REQUEST_HOLD,          /* keep what came to answer on open for as long as the monitor lives, in place of the one before; no answer */
    PYLXC_REQUEST_END_STDIN      /* nothing more comes on its standard input: the monitor closes its own end */
};

struct pylxc_request {
    int32_t kind, signal;
    int64_t patience, repeat;        /* ns */
};

struct pylxc_answer {
    int32_t errnum;                  /* 0 = done */
};

struct pylxc_error {
    int32_t stage, errnum, index;    /* index of the operation, -1 = none */
    char subject[244];               /* more about it, for example the archive entry; may be empty; NUL-terminated */
};

enum pylxc_report_kind { PYLXC_REPORT_STARTED = 1, PYLXC_REPORT_FAILED, PYLXC_REPORT_ENDED, PYLXC_REPORT_TERMINAL };

/* One message on the control socket (SOCK_SEQPACKET). STARTED carries the process's pidfd as SCM_RIGHTS; before it
 * TERMINAL may come, with the other end of the process's terminal. A plan that unpacks or packs is STARTED when the
 * transfer begins; what fails during it comes with ENDED, as its error. */
struct pylxc_report {
    int32_t kind, pid;               /* pid as the caller's namespace sees it */
    int32_t code, signal;            /* ENDED: exit status, or the signal that ended it (then code = 128 + signal) */
    int64_t time_ns;                 /* CLOCK_REALTIME */
    int32_t oom_killed, reserved;    /* ENDED: whether the kernel killed one of its processes for want of memory */
    struct pylxc_error error;        /* FAILED, and ENDED of a transfer; stage NONE = no error */
};

/* What pylxc_spawn starts. fds[i] becomes descriptor i of the helper: 0 to 2 are the payload's standard streams, 3 is
 * the control socket and 4 the plan (both given as -1, pylxc_spawn makes them), the rest as the plan says. */
struct pylxc_spec {
    int helper_fd;
    const void *plan;
    size_t plan_size;
    const int *fds;
    size_t fd_count;
};

struct pylxc_child {
    int32_t monitor_pid, pid;
    int monitor_fd, pid_fd, control_fd;   /* pidfds of the monitor and of the process; the control socket */
    int terminal_fd;                      /* the other end of the process's terminal; -1 = none, or the monitor has it */
};

/* All return 0, or -1 with *reterr or errno set. Descriptors given back are O_CLOEXEC and the caller's to close. */

/* The helper as a sealed memfd, fit to be executed and by nobody to be altered. */
int pylxc_helper_load(const char *path, int *ret_fd);
/* Starts the helper on a plan; ret_child has no process yet. */
int pylxc_spawn_begin(const struct pylxc_spec *spec, struct pylxc_child *ret_child, struct pylxc_error *reterr);
/* Tells a PYLXC_PLAN_AWAIT_CALLER the next endpoint that its plan lacks. A helper that has failed is no error. */
int pylxc_spawn_endpoint(const struct pylxc_child *child, const struct pylxc_endpoint *endpoint);
/* Lets a PYLXC_PLAN_AWAIT_CALLER go on, and hands it its record directory; -1: gives it up, and it ends. A helper that
 * has failed meanwhile is no error. */
int pylxc_spawn_release(const struct pylxc_child *child, int directory_fd);
/* Waits until the process runs or has failed to; no child is left then, and no descriptor of it. */
int pylxc_spawn_end(struct pylxc_child *child, struct pylxc_error *reterr);
/* A socket made in the network namespace of the process behind pid_fd. */
int pylxc_socket_in(int pid_fd, int domain, int type, int protocol, int *ret_fd);
/* What follows works in the network namespace of a netlink socket that it is given, NETLINK_ROUTE (`route`) or
 * NETLINK_NETFILTER (`netfilter`); -1 = in this process's own. */
/* A network's bridge: made, given its addresses and brought up, or left as it is (EEXIST). */
struct pylxc_bridge {
    char name[16];
    uint8_t mac[6], reserved[2];
    uint32_t mtu;
    struct pylxc_address own[2];
};
int pylxc_bridge_make(int route, const struct pylxc_bridge *bridge);
/* Removes a link; one that is not there is no error. */
int pylxc_link_remove(int route, const char *name);
/* The number of links on a bridge; -1 with ENODEV when it is not there. */
int pylxc_bridge_ports(int route, const char *name, int *ret_count);
/* The index of a link; -1 with ENODEV when it is not there. */
int pylxc_link_index(int route, const char *name, uint32_t *ret_index);
int pylxc_link_mtu(int route, uint32_t index, uint32_t *ret_mtu);
/* Gives a process's network namespace (a pidfd, and a descriptor of it) a link to a network, whose bridge is where
 * `route` is, or takes it away. */
int pylxc_endpoint_attach(int route, int pid_fd, int netns_fd, const struct pylxc_endpoint *endpoint);
int pylxc_endpoint_detach(int pid_fd, const char *name);
/* A route, in any table. `index`: of the link that it leads to, 0 = none. A destination of prefix 0 is a
 * default route. */
struct pylxc_route {
    struct pylxc_address to;
    uint32_t index, table, metric, type; /* type: RTN_* of rtnetlink(7) */
};
/* All of them, of both families: *ret_count may be more than `most`, and then only so many are there. */
int pylxc_routes(int route, struct pylxc_route *ret, size_t most, size_t *ret_count);

/* The packet filter of one network, a table of nftables named as its bridge. */
struct pylxc_firewall {
    char bridge[16], prefix[16];     /* prefix: what the names of all networks' bridges begin with */
    struct pylxc_address subnet[2];
    int32_t internal;
    int32_t strays;                  /* what belongs to no connection is not delivered to this stack itself */
};
/* Makes it, or makes it anew: all of it at once. ENOTSUP: the kernel has no nftables. */
int pylxc_firewall_make(int netfilter, const struct pylxc_firewall *firewall);
/* Removes it; one that is not there is no error. */
int pylxc_firewall_remove(int netfilter, const char *name);
/* A chain of nftables that drops what is forwarded unless a rule of it says otherwise: of docker, of firewalld, of
 * iptables over nftables. `table` is empty where there is none. */
struct pylxc_chain {
    int32_t family;                  /* NFPROTO_*: 1 = inet, 2 = ip, 10 = ip6 */
    char table[64], name[64];
};
int pylxc_nftables_forward_drops(struct pylxc_chain *ret_chain);
/* Whether packets that are forwarded are dropped unless a rule of somebody else's says otherwise: by the policy of
 * iptables-legacy, of IPv4 (4) or IPv6 (6). */
int pylxc_legacy_forward_drops(int family, int *ret_drops);

/* Removes name below dirfd with all it holds, without following links or crossing mounts. */
int pylxc_remove_tree(int dirfd, const char *name);
/* Removes everything in a directory; its directory `kept` (NULL = none) is emptied. */
int pylxc_empty_tree(int dirfd, const char *kept);
/* Removes a cgroup (an absolute path) with all below it; one that is not there is no error. */
int pylxc_remove_cgroup(const char *directory);
/* Appends a line (without its newline) to the event log in a directory (helper/event_log.c). */
int pylxc_event_log_append(const char *directory, const char *line, size_t length);
/* Lets an eBPF program (BPF_PROG_TYPE_CGROUP_DEVICE, an array of struct bpf_insn) decide on devices in a cgroup of v2. */
int pylxc_device_filter_attach(const char *cgroup, const void *program, size_t size);
/* Reaps the child behind pid_fd if it has ended; *ret_ended says whether it has (also when somebody else reaped it). */
int pylxc_reap(int pid_fd, int *ret_ended);
int pylxc_pidfd_open(int pid, int *ret_fd);
int pylxc_pidfd_send_signal(int pid_fd, int signal);
int pylxc_syncfs(int fd);
/* Lets a file system lay the directories in this one apart from each other (chattr(1), T). */
int pylxc_spread(int directory);

/* The calls of pylxc.linux. */
enum pylxc_call {
    PYLXC_CALL_UNSHARE,
    PYLXC_CALL_SETNS,
    PYLXC_CALL_MOUNT,
    PYLXC_CALL_UMOUNT2,
    PYLXC_CALL_PIVOT_ROOT,
    PYLXC_CALL_OPEN_TREE,
    PYLXC_CALL_MOVE_MOUNT,
    PYLXC_CALL_FSOPEN,
    PYLXC_CALL_FSCONFIG,
    PYLXC_CALL_FSMOUNT,
    PYLXC_CALL_FSPICK,
    PYLXC_CALL_MOUNT_SETATTR,
    PYLXC_CALL_OPENAT2,
    PYLXC_CALL_PIDFD_GETFD,
    PYLXC_CALL_CLONE3,
    PYLXC_CALL_INOTIFY_INIT1,
    PYLXC_CALL_INOTIFY_ADD_WATCH
};
/* The kernel's answer, or -1 with errno. */
long pylxc_syscall(enum pylxc_call call, uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d, uintptr_t e);
long pylxc_syscall_number(enum pylxc_call call);

/* cffi: end */

#define PYLXC_PLAN_MAGIC 0x70786c31u
#define PYLXC_HEALTH_LONGEST ((int64_t)1 << 60)
enum { PYLXC_FD_CONTROL = 3, PYLXC_FD_PLAN = 4, PYLXC_MAX_FDS = 16 };
#endif
