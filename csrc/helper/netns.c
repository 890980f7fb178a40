/* The container's network namespace, made beside its root.
 *
 * It is by far the dearest of all: 0.35 to 0.4 ms of the 0.5 ms that the clone takes with it, and bringing the loopback
 * up another 0.08 ms. Nothing needs it before sysfs is mounted. So a further process makes it while the child puts its
 * root together, and the child enters it then. It belongs to the child's user namespace all the same, for the maker
 * enters that first.
 *
 * The maker is a copy of the monitor and like it cannot be traced or seen by the container, whose payload does not run
 * before the child has got what it sends.
 */
#include "netns.h"
#include "endpoint.h"
#include "join.h"
#include "message.h"
#include <linux/sched.h>

struct word {
    int32_t made, up;      /* errno of making the namespace, and of bringing its loopback up */
    int32_t failed, index; /* in the second word: errno of the index-th endpoint (from 1), 0 = all are there */
};

int netns_is_own(const struct plan *plan)
{
    const struct pylxc_op *join = join_operation(plan);
    int shared = join && join->flags & CLONE_NEWNET;
    return (plan->head->clone_flags & CLONE_NEWNET) != 0 && !shared && !(plan->head->flags & PYLXC_PLAN_JOIN);
}

int netns_open(const struct plan *plan, struct netns *ret)
{
    int ends[2];
    *ret = NO_NETNS;
    if (!netns_is_own(plan))
        return 0;
    long r = sys(socketpair, 1 /* AF_UNIX */, 5 /* SOCK_SEQPACKET */ | O_CLOEXEC, 0, ends);
    if (r < 0)
        return (int)r;
    ret->ours = ends[0];
    ret->theirs = ends[1];
    return 0;
}

int netns_loopback_up(void)
{
    enum { AF_INET_ = 2, SOCK_DGRAM_ = 2, SIOCGIFFLAGS_ = 0x8913, SIOCSIFFLAGS_ = 0x8914, IFF_UP_ = 1 };
    struct {
        char name[16];
        short flags;
        char rest[22];
    } request = {.name = "lo"};
    fd_close int fd = (int)sys(socket, AF_INET_, SOCK_DGRAM_ | O_CLOEXEC, 0);
    if (fd < 0)
        return fd;
    long r = sys(ioctl, fd, SIOCGIFFLAGS_, &request);
    request.flags |= IFF_UP_;
    return (int)(r < 0 ? r : sys(ioctl, fd, SIOCSIFFLAGS_, &request));
}

/* Enters the user namespace, makes the network namespace; its descriptor, or a negative errno. */
static int make_namespace(const struct plan *plan, int userns, int *ret_up)
{
    long r = userns >= 0 ? sys(setns, userns, CLONE_NEWUSER) : 0;
    if (r >= 0)
        r = sys(unshare, CLONE_NEWNET);
    if (r >= 0 && plan_find(plan, PYLXC_OP_LOOPBACK))
        *ret_up = -netns_loopback_up();
    return (int)(r < 0 ? r : sys(openat, AT_FDCWD, "/proc/self/ns/net", O_RDONLY | O_CLOEXEC, 0));
}

_Noreturn static void make(const struct plan *plan, int channel, int userns)
{
    struct word word = {0};
    fd_close int made = make_namespace(plan, userns, &word.up);
    word.made = made < 0 ? -made : 0;
    send_message(channel, &word, sizeof word, made);
    sys_exit(0);
}

/* What a further process, in the container's user namespace, makes for one that keeps the host's rights: descriptors in
 * the table that they share. */
struct inside {
    struct word word;
    int netns, socket; /* a NETLINK_ROUTE socket there */
};

_Noreturn static void make_inside(const struct plan *plan, int pipe, int userns)
{
    struct inside inside = {.netns = -1, .socket = -1};
    inside.netns = make_namespace(plan, userns, &inside.word.up);
    inside.socket = inside.netns < 0 ? inside.netns : netlink_open(NETLINK_ROUTE_);
    inside.word.made = inside.socket < 0 ? -inside.socket : 0;
    write_all(pipe, &inside, sizeof inside);
    sys_exit(0);
}

/* Lets another process make the namespace: whoever enters the container's user namespace has no rights on the host any
 * more, and links to networks take both. */
static void make_beside(const struct plan *plan, int userns, struct inside *ret)
{
    int pipe[2];
    struct clone_args args = {.flags = CLONE_FILES, .exit_signal = 17 /* SIGCHLD */};
    *ret = (struct inside){{.made = EPROTO}, -1, -1};
    long r = sys(pipe2, pipe, O_CLOEXEC);
    if (r >= 0)
        r = sys(clone3, &args, sizeof args);
    if (r == 0)
        make_inside(plan, pipe[1], userns);
    if (r < 0) {
        ret->word.made = (int32_t)-r;
        return;
    }
    sys(wait4, r, 0, 0, 0);
    sys(fcntl, pipe[0], 4 /* F_SETFL */, O_NONBLOCK); /* it was killed: nothing is there */
    read_full(pipe[0], ret, sizeof *ret);
}

/* Endpoints that were changed since the container was started: those of its record, in place of the plan's. */
static int attach_recorded(int directory, int outer, const struct inside *inside, struct word *word)
{
    fd_close int file = (int)sys(openat, directory, "endpoints", O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0);
    if (file < 0)
        return 0;
    struct pylxc_endpoint endpoint;
    for (word->index = 0; read_full(file, &endpoint, sizeof endpoint) == sizeof endpoint && !word->failed;
         word->index++)
        word->failed = -endpoint_attach(outer, inside->socket, inside->netns, &endpoint);
    word->index = 0; /* the plan's operations are others */
    return 1;
}

/* The next endpoint that a plan lacks; NULL. */
static struct pylxc_op *find_late(const struct plan *plan)
{
    FOR_EACH_OPERATION (plan, op)
        if (op->code == PYLXC_OP_ENDPOINT && op->flags & PYLXC_ENDPOINT_LATE)
            return (void *)(uintptr_t)op;
    return NULL;
}

static void fill_in(struct pylxc_op *op, struct pylxc_endpoint *endpoint)
{
    endpoint->name[sizeof endpoint->name - 1] = endpoint->bridge[sizeof endpoint->bridge - 1] = 0;
    memcpy(op + 1, endpoint, sizeof *endpoint);
    op->flags &= ~(uint64_t)PYLXC_ENDPOINT_LATE;
}

void netns_take_endpoint(const struct plan *plan, struct netns *n, struct pylxc_endpoint *endpoint)
{
    struct pylxc_op *op = find_late(plan);
    if (!op)
        return;
    fill_in(op, endpoint); /* for a restart: the maker has a copy of its own */
    send_message(n->late_fd, endpoint, sizeof *endpoint, -1);
}

void netns_take_no_more(struct netns *n)
{
    if (n->late_fd >= 0)
        sys(close, steal_fd(&n->late_fd));
}

/* In the maker. */
static int await_late(const struct plan *plan, int late)
{
    struct pylxc_endpoint endpoint;
    int none;
    for (struct pylxc_op *op; (op = find_late(plan)); fill_in(op, &endpoint))
        if (receive_message(late, &endpoint, sizeof endpoint, &none) != sizeof endpoint)
            return -EPIPE; /* the caller, or the monitor, was killed */
    return 0;
}

static void attach_planned(const struct plan *plan, int outer, const struct inside *inside, struct word *word)
{
    FOR_EACH_OPERATION (plan, op)
        if (op->code == PYLXC_OP_ENDPOINT && !word->failed) {
            word->index++;
            word->failed = -endpoint_attach(outer, inside->socket, inside->netns, (const void *)(op + 1));
        }
}

/* A socket where the bridges are. The namespace of an ordinary user's is entered: its maker, too, is of the user's
 * namespace of ids (userns_enter_given), which both that one and the container's belong to. */
static int open_outer(const struct plan *plan)
{
    const struct pylxc_op *op = plan_find(plan, PYLXC_OP_ENDPOINT);
    long r = op && op->a > 0 ? sys(setns, op->a, CLONE_NEWNET) : 0;
    return r < 0 ? (int)r : netlink_open(NETLINK_ROUTE_);
}

/* A maker of endpoints tells of the namespace first, so that the child need not wait for the links. */
_Noreturn static void make_with_endpoints(const struct plan *plan, int channel, int late, int userns, int directory)
{
    struct inside inside;
    int outer = open_outer(plan);
    make_beside(plan, userns, &inside);
    send_message(channel, &inside.word, sizeof inside.word, inside.word.made ? -1 : inside.netns);
    if (outer >= 0 && !inside.word.made && late >= 0) {
        int r = await_late(plan, late);
        outer = r < 0 ? r : outer;
    }
    if (!inside.word.made && outer < 0)
        inside.word.failed = -outer, inside.word.index = 1;
    else if (!inside.word.made && !(plan->again && attach_recorded(directory, outer, &inside, &inside.word)))
        attach_planned(plan, outer, &inside, &inside.word);
    send_message(channel, &inside.word, sizeof inside.word, -1);
    sys_exit(0);
}

void netns_begin(const struct plan *plan, struct netns *n, int userns, int directory)
{
    if (n->ours < 0)
        return;
    struct clone_args args = {.flags = CLONE_PIDFD, .pidfd = (uintptr_t)&n->maker_fd, .exit_signal = 17 /* SIGCHLD */};
    int late[2] = {-1, -1};
    sys(close, steal_fd(&n->theirs));
    long r = find_late(plan) ? sys(socketpair, 1 /* AF_UNIX */, 5 /* SOCK_SEQPACKET */ | O_CLOEXEC, 0, late) : 0;
    if (r >= 0)
        r = sys(clone3, &args, sizeof args);
    if (r == 0) {
        sys(close, PYLXC_FD_CONTROL); /* the caller must see the monitor's end, not this one's */
        if (late[1] >= 0)
            sys(close, late[1]);
        if (plan_find(plan, PYLXC_OP_ENDPOINT))
            make_with_endpoints(plan, n->ours, late[0], userns, directory);
        make(plan, n->ours, userns);
    }
    if (late[0] >= 0)
        sys(close, late[0]);
    n->late_fd = late[1];
    if (r < 0)
        send_message(n->ours, &(struct word){.made = (int32_t)-r}, sizeof(struct word), -1);
    else
        n->maker = (int32_t)r;
    sys(close, steal_fd(&n->ours));
}

void netns_end(struct netns *n)
{
    netns_take_no_more(n);
    if (!n->maker)
        return;
    sys(wait4, n->maker, 0, 0, 0);
    sys(close, steal_fd(&n->maker_fd));
    n->maker = 0;
}

int netns_enter(struct launch *l)
{
    struct word word;
    int made;
    if (l->network_fd < 0 || l->has_network)
        return 0;
    long n = receive_message(l->network_fd, &word, sizeof word, &made);
    if (n != sizeof word)
        return -EPIPE; /* the maker, or the monitor, was killed */
    long r = word.made ? -word.made : sys(setns, made, CLONE_NEWNET);
    if (made >= 0)
        sys(close, made);
    if (r < 0)
        return (int)r;
    l->loopback = word.up;
    if (!plan_find(l->plan, PYLXC_OP_ENDPOINT))
        sys(close, steal_fd(&l->network_fd));
    l->has_network = 1;
    return 0;
}

/* Done by the maker; failed here, where the plan has words for it. */
int op_loopback(struct launch *l, const struct pylxc_op *op)
{
    (void)op;
    return -l->loopback;
}

/* Likewise: all of them are done when the maker's second word comes. */
int op_endpoint(struct launch *l, const struct pylxc_op *op)
{
    struct word word;
    int none;
    (void)op;
    if (l->network_fd >= 0) {
        long n = receive_message(l->network_fd, &word, sizeof word, &none);
        sys(close, steal_fd(&l->network_fd));
        if (n != sizeof word)
            return -EPIPE; /* the maker was killed */
        l->endpoint_failed = word.failed;
        l->endpoint_index = word.index;
    }
    return ++l->endpoints >= l->endpoint_index ? -l->endpoint_failed : 0;
}
