/* The ports that a container publishes: they are bound here, on the host, and served by a process of their own.
 *
 * Bound before the container's process is made, so that a port in use fails the start while there is nothing to undo,
 * and for as long as the monitor lives, so that they stay the same over restarts: who connects while the container
 * rests waits in the queue. What they lead to is served by a child of the monitor (proxy.c), one for each process of
 * the container, which is confined to the container's network namespace. The monitor never sees a byte of it; it starts
 * another one should that be killed.
 */
#include "ports.h"
#include "proxy.h"
#include "record.h"
#include <asm/poll.h>
#include <asm/socket.h>
#include <linux/close_range.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/resource.h>
#include <linux/sched.h>
#include <linux/tcp.h>
#include <linux/time_types.h>
#include <linux/wait.h>
#ifndef SOL_SOCKET
#define SOL_SOCKET 1
#endif

enum {
    BACKLOG = 4096,      /* the kernel cuts it to net.core.somaxconn */
    KEEPALIVE_IDLE = 60, /* s until a client that says nothing is asked whether it is still there */
    RECORD_WORDS = 8,    /* bytes that a line of the record has at most: "65535 6\n" */
    SIGKILL_ = 9
};
#define SECOND ((int64_t)1000000000)
#define LAST_PATIENCE (SECOND / 2) /* more than the proxy takes for its end */

int ports_operand_is_sound(const struct pylxc_op *op)
{
    const struct pylxc_port *port = port_of(op);
    if (op->strings || op->size != sizeof *op + sizeof *port || op->a < 1)
        return 0;
    if ((port->family != 0 && port->family != 4 && port->family != 6) ||
        (port->protocol != IPPROTO_TCP && port->protocol != IPPROTO_UDP))
        return 0;
    return port->first >= 0 && port->last >= port->first && port->last <= UINT16_MAX && port->earlier >= 0 &&
           port->earlier <= UINT16_MAX && port->container >= 1 && port->container <= UINT16_MAX;
}

/* -- listening --------------------------------------------------------------------------------------------------- */

static int set(int fd, int level, int option, int value)
{
    return (int)sys(setsockopt, fd, level, option, &value, sizeof value);
}

/* The address to bind, and its length. An address of both kinds is IPv6's unspecified one. */
static unsigned address_of(const struct pylxc_port *port, int family, int number, union proxy_address *ret)
{
    *ret = (union proxy_address){0};
    if (family == AF_INET_) {
        ret->v4.sin_family = AF_INET_;
        ret->v4.sin_port = network_order(number);
        memcpy(&ret->v4.sin_addr, port->address, sizeof ret->v4.sin_addr);
        return sizeof ret->v4;
    }
    ret->v6.sin6_family = AF_INET6_;
    ret->v6.sin6_port = network_order(number);
    if (port->family == 6)
        memcpy(&ret->v6.sin6_addr, port->address, sizeof ret->v6.sin6_addr);
    return sizeof ret->v6;
}

/* What is said of a listening socket of TCP counts for those that it accepts (tcp(7), and the kernel's inet_csk_clone).
 * SO_REUSEADDR passes over connections of earlier lives that are not quite over, never over who listens; with a port
 * that the kernel picks it would let it pick one that somebody has bound and does not listen on yet. */
static int prepare_tcp(int fd, int number)
{
    int r = number ? set(fd, SOL_SOCKET, SO_REUSEADDR, 1) : 0;
    set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE);
    return r;
}

/* An answer must come from the address that was asked: where that may be any of the host's, datagrams tell which. */
static int prepare_udp(int fd, int family)
{
    enum { IP_PKTINFO_ = 8, IPV6_RECVPKTINFO_ = 49 };
    return family == AF_INET_ ? set(fd, IPPROTO_IP, IP_PKTINFO_, 1) : set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO_, 1);
}

/* A socket that listens on one port (0 = any): a descriptor or a negative errno. */
static int listen_on(const struct pylxc_port *port, int number, int family)
{
    enum { IPV6_V6ONLY_ = 26 };
    int is_tcp = port->protocol == IPPROTO_TCP;
    union proxy_address address;
    unsigned length = address_of(port, family, number, &address);
    fd_close int fd = (int)sys(socket, family, (is_tcp ? SOCK_STREAM_ : SOCK_DGRAM_) | O_NONBLOCK | O_CLOEXEC, 0);
    if (fd < 0)
        return fd;
    int r = family == AF_INET6_ ? set(fd, IPPROTO_IPV6, IPV6_V6ONLY_, port->family == 6) : 0;
    if (r >= 0)
        r = is_tcp ? prepare_tcp(fd, number) : prepare_udp(fd, family);
    if (r >= 0)
        r = (int)sys(bind, fd, &address, length);
    if (r >= 0 && is_tcp)
        r = (int)sys(listen, fd, BACKLOG);
    return r < 0 ? r : steal_fd(&fd);
}

/* On a host without IPv6 all addresses are those of IPv4. */
static int listen_on_any(const struct pylxc_port *port, int number)
{
    int fd = listen_on(port, number, port->family == 4 ? AF_INET_ : AF_INET6_);
    if (port->family == 0 && (fd == -EAFNOSUPPORT || fd == -EADDRNOTAVAIL))
        fd = listen_on(port, number, AF_INET_);
    return fd;
}

/* The first that is free of those that would do, beginning with the one that it was before. */
static int listen_first(const struct pylxc_port *port)
{
    int is_choice = !port->first || port->last > port->first;
    int fits = port->earlier && (!port->first || (port->earlier >= port->first && port->earlier <= port->last));
    int fd = is_choice && fits ? listen_on_any(port, port->earlier) : -EADDRINUSE;
    for (int number = port->first; fd == -EADDRINUSE && number <= port->last; number++)
        fd = listen_on_any(port, number);
    return fd;
}

/* A descriptor beyond the soft limit is refused, which the payload is to inherit as it is. */
static int open_all(struct ports *p, int *ret_index)
{
    int index = -1, r = 0;
    FOR_EACH_OPERATION (p->plan, op) {
        index++;
        if (op->code != PYLXC_OP_PUBLISH)
            continue;
        *ret_index = index;
        fd_close int fd = listen_first(port_of(op));
        r = fd < 0 ? fd : (int)sys(dup3, fd, PORTS_FIRST_FD + p->count, O_CLOEXEC);
        if (r < 0)
            return r == -EBADF ? -EMFILE : r;
        p->count++;
    }
    return 0;
}

int ports_open(struct ports *p, const struct plan *plan, int *ret_index)
{
    struct rlimit64 limit;
    *p = (struct ports){.plan = plan, .proxy_fd = -1, .word = -1, .due = INT64_MAX};
    if (!plan_find(plan, PYLXC_OP_PUBLISH))
        return 0;
    sys(prlimit64, 0, RLIMIT_NOFILE, 0, &limit);
    struct rlimit64 raised = {limit.rlim_max, limit.rlim_max};
    sys(prlimit64, 0, RLIMIT_NOFILE, &raised, 0);
    int r = open_all(p, ret_index);
    sys(prlimit64, 0, RLIMIT_NOFILE, &limit, 0);
    if (r < 0) {
        ports_close(p);
        p->count = 0;
    }
    return r;
}

void ports_close(const struct ports *p)
{
    if (p->count)
        sys(close_range, PORTS_FIRST_FD, PORTS_FIRST_FD + p->count - 1, 0);
}

/* A line for each operation: the port that it came to, and 6 where it is one of IPv6 (or of both), else 4. */
int ports_record(struct ports *p, int directory)
{
    if (!p->count || p->recorded || directory < 0)
        return 0;
    size_t size = (size_t)p->count * RECORD_WORDS + 1;
    struct text lines = {memory_take(size), size, 0, 0};
    if (!lines.data)
        return -ENOMEM;
    for (int i = 0; i < p->count; i++) {
        union proxy_address address;
        unsigned length = sizeof address;
        long r = sys(getsockname, PORTS_FIRST_FD + i, &address, &length);
        if (r < 0)
            return (int)r;
        text_number(&lines, network_order(address.v4.sin_port)); /* at the same place in both kinds */
        text_add(&lines, address.v4.sin_family == AF_INET6_ ? " 6\n" : " 4\n");
    }
    int r = record_write(directory, "ports", &lines);
    p->recorded = r >= 0;
    return r;
}

/* -- the process that serves them -------------------------------------------------------------------------------- */

static void start_proxy(struct ports *p)
{
    int ends[2];
    p->begun = monotonic_ns();
    p->due = p->begun + SECOND; /* unless it works */
    if (sys(pipe2, ends, O_CLOEXEC) < 0)
        return;
    int proxy = -1;
    struct clone_args args = {.flags = CLONE_PIDFD, .pidfd = (uintptr_t)&proxy, .exit_signal = 17 /* SIGCHLD */};
    long pid = sys(clone3, &args, sizeof args);
    if (pid == 0)
        proxy_run(p->plan, p->count, p->target_fd, ends[0]);
    sys(close, ends[0]);
    if (pid < 0) {
        sys(close, ends[1]);
        return;
    }
    p->proxy = (int32_t)pid;
    p->proxy_fd = proxy;
    p->word = ends[1];
    p->due = INT64_MAX;
}

static void reap_proxy(struct ports *p)
{
    sys(wait4, p->proxy, 0, __WALL, 0);
    sys(close, steal_fd(&p->proxy_fd));
    if (p->word >= 0)
        sys(close, steal_fd(&p->word));
    p->proxy = 0;
}

void ports_begin(struct ports *p, int pid_fd)
{
    p->target_fd = pid_fd;
    if (p->count)
        start_proxy(p);
}

int ports_wait_fd(const struct ports *p)
{
    return p->proxy_fd;
}

int64_t ports_due(const struct ports *p)
{
    return p->due;
}

void ports_serve(struct ports *p, int has_ended)
{
    if (has_ended) {
        reap_proxy(p);
        p->due = p->begun + SECOND;
    }
    if (p->due != INT64_MAX && p->due <= monotonic_ns())
        start_proxy(p);
}

void ports_end(struct ports *p, int at_once)
{
    struct __kernel_timespec patience = {0, LAST_PATIENCE};
    struct pollfd wait = {.fd = p->proxy_fd, .events = POLLIN};
    p->due = INT64_MAX;
    if (p->proxy_fd < 0)
        return;
    sys(close, steal_fd(&p->word));
    if (at_once || sys(ppoll, &wait, 1, &patience, 0, 0) <= 0)
        sys(pidfd_send_signal, p->proxy_fd, SIGKILL_, 0, 0);
    reap_proxy(p);
}
