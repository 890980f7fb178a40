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
#include "join.h"
#include "message.h"
#include <linux/sched.h>

struct word {
    int32_t made, up; /* errno of making the namespace, and of bringing its loopback up */
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
    *ret = (struct netns){-1, -1, -1, 0};
    if (!netns_is_own(plan))
        return 0;
    long r = sys(socketpair, 1 /* AF_UNIX */, 5 /* SOCK_SEQPACKET */ | O_CLOEXEC, 0, ends);
    if (r < 0)
        return (int)r;
    *ret = (struct netns){ends[0], ends[1], -1, 0};
    return 0;
}

static int loopback_up(void)
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

_Noreturn static void make(const struct plan *plan, int channel, int userns)
{
    struct word word = {0, 0};
    sys(close, PYLXC_FD_CONTROL); /* the caller must see the monitor's end, not this one's */
    long r = userns >= 0 ? sys(setns, userns, CLONE_NEWUSER) : 0;
    if (r >= 0)
        r = sys(unshare, CLONE_NEWNET);
    if (r >= 0 && plan_find(plan, PYLXC_OP_LOOPBACK))
        word.up = -loopback_up();
    fd_close int made = (int)(r < 0 ? r : sys(openat, AT_FDCWD, "/proc/self/ns/net", O_RDONLY | O_CLOEXEC, 0));
    word.made = made < 0 ? -made : 0;
    send_message(channel, &word, sizeof word, made);
    sys_exit(0);
}

void netns_begin(const struct plan *plan, struct netns *n, int userns)
{
    if (n->ours < 0)
        return;
    struct clone_args args = {.flags = CLONE_PIDFD, .pidfd = (uintptr_t)&n->maker_fd, .exit_signal = 17 /* SIGCHLD */};
    sys(close, steal_fd(&n->theirs));
    long r = sys(clone3, &args, sizeof args);
    if (r == 0)
        make(plan, n->ours, userns);
    if (r < 0)
        send_message(n->ours, &(struct word){.made = (int32_t)-r}, sizeof(struct word), -1);
    else
        n->maker = (int32_t)r;
    sys(close, steal_fd(&n->ours));
}

void netns_end(struct netns *n)
{
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
    if (l->network_fd < 0)
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
    sys(close, steal_fd(&l->network_fd));
    return 0;
}

/* Done by the maker; failed here, where the plan has words for it. */
int op_loopback(struct launch *l, const struct pylxc_op *op)
{
    (void)op;
    return -l->loopback;
}
