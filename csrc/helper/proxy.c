/* Serves a container's published ports: what connects on the host is joined to a socket made inside.
 *
 * The sockets that listen are the host's, made before; this process lives in the container's network and user
 * namespace, so that every socket that it makes is the container's, and whatever it might be brought to do it can do to
 * the container only. It has no capabilities, no files, no way to another program, and few system calls. The container
 * neither sees it (it is outside its pid namespace) nor may it trace it (it is not dumpable).
 *
 * One thread, one epoll; nothing blocks, and each connection moves so much at a time and then waits its turn. It ends
 * with the monitor, and with the container's process: then it delivers what that has sent, for a moment.
 */
#include "proxy.h"
#include "ports.h"
#include "record.h"
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/eventpoll.h>
#include <linux/filter.h>
#include <linux/prctl.h>
#include <linux/resource.h>
#include <linux/sched.h>
#include <linux/seccomp.h>

enum {
    EVENTS = 64, /* that are taken at once */
    WORD_FD = PORTS_FIRST_FD - 1,
    OWN_DESCRIPTORS = PORTS_FIRST_FD + 8,
    FOR_FLOWS = 8, /* one part in so many of the descriptors is for UDP */
    NOBODY = 65534,
    SIOCGIFCONF_ = 0x8912
};
#define MILLISECOND ((int64_t)1000000)
#define LAST_WORDS (250 * MILLISECOND) /* for what the container sent before it ended */

/* -- giving up --------------------------------------------------------------------------------------------------- */

/* Enters the namespaces of the container's process, and becomes the root of its user namespace, who is nobody on the
 * host. Where it has the host's, nobody is who it becomes, as far as there is such an id. */
static long enter_network(int target)
{
    long r = sys(setns, target, CLONE_NEWUSER | CLONE_NEWNET);
    long id = r < 0 ? NOBODY : 0;
    if (r < 0)
        r = sys(setns, target, CLONE_NEWNET);
    sys(setgroups, 0, 0);
    sys(setresgid, id, id, id);
    sys(setresuid, id, id, id);
    return r;
}

/* Keeps the sockets that listen, and the pipe that it lives by. */
static void close_others(int count, int word)
{
    sys(dup3, word, WORD_FD, O_CLOEXEC);
    (void)DEFENCE(PROXY_DESCRIPTORS, sys(close_range, 0, WORD_FD - 1, 0), 0);
    (void)DEFENCE(PROXY_DESCRIPTORS, sys(close_range, PORTS_FIRST_FD + count, ~0U, 0), 0);
}

static long drop_capabilities(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {0};
    return DEFENCE(PROXY_CAPABILITIES, sys(capset, &header, none), 0);
}

#if defined __x86_64__
enum { OWN_ARCHITECTURE = (int)AUDIT_ARCH_X86_64 };
#else
enum { OWN_ARCHITECTURE = (int)AUDIT_ARCH_AARCH64 };
#endif
#define IS(value, then, otherwise) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)(value), then, otherwise)
#define RETURN(action) BPF_STMT(BPF_RET | BPF_K, action)
#define LOAD(offset) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset)
#define ALLOW(call) IS(__NR_##call, 0, 1), RETURN(SECCOMP_RET_ALLOW)

/* What is left to it: to move bytes between sockets, and to make sockets of IP, in the container's network, whose
 * addresses it may ask for. Anything else ends it. (The sanitizers of a hosted build need more.) */
static long filter_calls(void)
{
    static const struct sock_filter program[] = {
        LOAD(offsetof(struct seccomp_data, arch)),
        IS(OWN_ARCHITECTURE, 1, 0),
        RETURN(SECCOMP_RET_KILL_PROCESS),
        LOAD(offsetof(struct seccomp_data, nr)),
        ALLOW(splice),
        ALLOW(epoll_pwait),
        ALLOW(recvfrom),
        ALLOW(sendto),
        ALLOW(accept4),
        ALLOW(connect),
        ALLOW(epoll_ctl),
        ALLOW(setsockopt),
        ALLOW(shutdown),
        ALLOW(close),
        ALLOW(recvmsg),
        ALLOW(sendmsg),
        ALLOW(pipe2),
        ALLOW(fcntl),
        ALLOW(clock_gettime),
        ALLOW(exit_group),
        IS(__NR_socket, 2, 0),
        IS(__NR_ioctl, 5, 0),
        RETURN(SECCOMP_RET_KILL_PROCESS),
        LOAD(offsetof(struct seccomp_data, args[0])),
        IS(AF_INET_, 4, 0),
        IS(AF_INET6_, 3, 0),
        RETURN(SECCOMP_RET_KILL_PROCESS),
        LOAD(offsetof(struct seccomp_data, args[1])),
        IS(SIOCGIFCONF_, 0, 1),
        RETURN(SECCOMP_RET_ALLOW),
        RETURN(SECCOMP_RET_KILL_PROCESS),
    };
#ifdef PYLXC_HOSTED
    return sizeof program ? 0 : -1;
#else
    struct sock_fprog whole = {LENGTH(program), (struct sock_filter *)(uintptr_t)program};
    long r = sys(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return r < 0 ? r : DEFENCE(PROXY_FILTER, sys(seccomp, SECCOMP_SET_MODE_FILTER, 0, &whole), 0);
#endif
}

/* -- the loop ---------------------------------------------------------------------------------------------------- */

int proxy_watch(const struct proxy *x, int fd, enum proxy_subject subject, int index, uint32_t events)
{
    struct epoll_event event = {events, (uint64_t)subject | (uint64_t)index << 8};
    return (int)sys(epoll_ctl, x->epoll, EPOLL_CTL_ADD, fd, &event);
}

/* The container's first address that is none of its loopback's (netdevice(7)), as it is on the wire; 0 = there is none.
 */
static uint32_t own_address(void)
{
    enum { INTERFACES = 32 };
    struct {
        char name[16];
        struct sockaddr_in address;
        char rest[8];
    } found[INTERFACES];
    struct {
        int32_t size;
        void *found;
    } request = {sizeof found, found};
    fd_close int fd = (int)sys(socket, AF_INET_, SOCK_DGRAM_ | O_CLOEXEC, 0);
    if (fd < 0 || sys(ioctl, fd, SIOCGIFCONF_, &request) < 0)
        return 0;
    for (size_t i = 0; i < (size_t)request.size / sizeof *found; i++)
        if ((found[i].address.sin_addr.s_addr & 0xff) != 127)
            return found[i].address.sin_addr.s_addr;
    return 0;
}

unsigned proxy_target(const struct proxy *x, int listener, int k, union proxy_address *ret)
{
    uint16_t port = network_order(x->listeners[listener].port);
    *ret = (union proxy_address){0};
    switch (k) {
    case 0:
        ret->v4 = (struct sockaddr_in){.sin_family = AF_INET_, .sin_port = port};
        ret->v4.sin_addr.s_addr = 0x0100007f; /* 127.0.0.1 */
        return sizeof ret->v4;
    case 1:
        ret->v6 = (struct sockaddr_in6){.sin6_family = AF_INET6_, .sin6_port = port};
        ret->v6.sin6_addr.s6_addr[15] = 1; /* ::1 */
        return sizeof ret->v6;
    case 2:
        ret->v4 = (struct sockaddr_in){.sin_family = AF_INET_, .sin_port = port};
        ret->v4.sin_addr.s_addr = own_address();
        return ret->v4.sin_addr.s_addr ? sizeof ret->v4 : 0;
    default:
        return 0;
    }
}

/* Nobody new is let in: who comes now waits for the container's next life. */
static void begin_to_end(struct proxy *x)
{
    struct epoll_event none = {0};
    x->ending = 1;
    x->deadline = monotonic_ns() + LAST_WORDS;
    sys(close, WORD_FD);
    for (int i = 0; i < x->count; i++)
        sys(epoll_ctl, x->epoll, EPOLL_CTL_DEL, PORTS_FIRST_FD + i, &none);
}

static void dispatch(struct proxy *x, const struct epoll_event *event)
{
    int index = (int)(event->data >> 8);
    switch ((enum proxy_subject)(event->data & 0xff)) {
    case PROXY_WORD:
        begin_to_end(x);
        break;
    case PROXY_LISTENER:
        if (x->listeners[index].is_tcp)
            tcp_accept(x, index);
        else
            udp_receive(x, index);
        break;
    case PROXY_CLIENT:
    case PROXY_SERVER:
        tcp_event(x, index, (event->data & 0xff) == PROXY_SERVER, event->events);
        break;
    case PROXY_FLOW:
        udp_answer(x, index);
    }
}

/* Milliseconds for epoll, rounded up; -1 = there is no hurry. */
static int patience_until(int64_t due, int64_t now)
{
    if (due == INT64_MAX)
        return -1;
    return due <= now ? 0 : (int)MINIMUM((due - now + MILLISECOND - 1) / MILLISECOND, 60000);
}

static int64_t earliest(const struct proxy *x)
{
    int64_t due = MINIMUM(tcp_due(x), udp_due(x));
    return x->ending ? MINIMUM(due, x->deadline) : due;
}

/* Every turn takes what has happened, then lets each connection move its share. */
_Noreturn static void serve(struct proxy *x)
{
    struct epoll_event events[EVENTS];
    for (int more = 0;;) {
        int64_t due = earliest(x);
        int patience = more ? 0 : patience_until(due, due == INT64_MAX ? 0 : monotonic_ns());
        long n = sys(epoll_pwait, x->epoll, events, EVENTS, patience, 0, 8);
        for (long i = 0; i < n; i++)
            dispatch(x, &events[i]);
        more = tcp_run(x);
        udp_expire(x);
        tcp_resume(x);
        if (x->ending && ((!tcp_finish(x) && n <= 0) || monotonic_ns() >= x->deadline))
            sys_exit(0);
    }
}

/* -- the beginning ----------------------------------------------------------------------------------------------- */

static int64_t raise_descriptors(void)
{
    struct rlimit64 limit = {1024, 1024};
    sys(prlimit64, 0, RLIMIT_NOFILE, 0, &limit);
    limit.rlim_cur = limit.rlim_max;
    sys(prlimit64, 0, RLIMIT_NOFILE, &limit, 0);
    return (int64_t)MINIMUM(limit.rlim_max, (uint64_t)1 << 20);
}

/* Reads the plan, where there is still time to: what is in it is not looked at again. */
static int listen_all(struct proxy *x, const struct plan *plan)
{
    struct proxy_listener *listeners = memory_take((size_t)x->count * sizeof *listeners);
    int i = 0, r = listeners ? 0 : -ENOMEM;
    x->listeners = listeners;
    FOR_EACH_OPERATION (plan, op) {
        if (r < 0 || op->code != PYLXC_OP_PUBLISH)
            continue;
        const struct pylxc_port *port = port_of(op);
        listeners[i] = (struct proxy_listener){port->protocol == IPPROTO_TCP, (uint16_t)port->container};
        r = proxy_watch(x, PORTS_FIRST_FD + i, PROXY_LISTENER, i, EPOLLIN);
        i++;
    }
    return r;
}

static int prepare(struct proxy *x, const struct plan *plan)
{
    int64_t descriptors = raise_descriptors() - OWN_DESCRIPTORS - x->count;
    if (descriptors < 64)
        return -EMFILE;
    int for_flows = (int)(descriptors / FOR_FLOWS);
    x->tcp = tcp_new((int)descriptors - for_flows);
    x->udp = udp_new(for_flows, plan_find(plan, PYLXC_OP_PUBLISH)->a);
    x->epoll = (int)sys(epoll_create1, O_CLOEXEC);
    if (!x->tcp || !x->udp || x->epoll < 0)
        return -ENOMEM;
    int r = proxy_watch(x, WORD_FD, PROXY_WORD, 0, EPOLLIN);
    return r < 0 ? r : listen_all(x, plan);
}

_Noreturn void proxy_run(const struct plan *plan, int count, int target_fd, int word)
{
    struct proxy x = {.count = count};
    sys(prctl, PR_SET_NAME, "pylxc-ports", 0, 0, 0);
    sys(prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
    if (enter_network(target_fd) < 0)
        sys_exit(1);
    close_others(count, word);
    if (drop_capabilities() < 0 || prepare(&x, plan) < 0)
        sys_exit(1);
    sys(prctl, PR_SET_PDEATHSIG, 9 /* SIGKILL */, 0, 0, 0); /* last, for a change of credentials takes it back */
    if (filter_calls() < 0)
        sys_exit(1);
    serve(&x);
}
