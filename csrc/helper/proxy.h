/* The process that serves a container's published ports: proxy.c, proxy_tcp.c, proxy_udp.c. */
#ifndef PYLXC_PROXY_H
#define PYLXC_PROXY_H
#include "helper.h"
#include <linux/in.h>
#include <linux/in6.h>

enum { AF_INET_ = 2, AF_INET6_ = 10, SOCK_STREAM_ = 1, SOCK_DGRAM_ = 2, MSG_DONTWAIT_ = 0x40, MSG_NOSIGNAL_ = 0x4000 };

union proxy_address {
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static inline uint16_t network_order(int port)
{
    return __builtin_bswap16((uint16_t)port); /* both machines that the helper is written for are little-endian */
}

/* In a new child of the monitor: serves the `count` descriptors from PORTS_FIRST_FD on, inside the network namespace of
 * the process behind target_fd, until the pipe `word` has no writer any more. */
_Noreturn void proxy_run(const struct plan *plan, int count, int target_fd, int word);

/* -- between its parts ------------------------------------------------------------------------------------------- */

/* What an event is about; with an index, the number that epoll gives back. */
enum proxy_subject { PROXY_WORD, PROXY_LISTENER, PROXY_CLIENT, PROXY_SERVER, PROXY_FLOW };

struct proxy_listener {
    uint8_t is_tcp;
    uint16_t port; /* in the container */
};

struct proxy {
    int epoll, count, ending;
    int64_t deadline; /* of the end; CLOCK_MONOTONIC, ns */
    const struct proxy_listener *listeners;
    struct tcp *tcp;
    struct udp *udp;
};

/* Watches a descriptor: 0 or a negative errno. Events are EPOLL*. */
int proxy_watch(const struct proxy *x, int fd, enum proxy_subject subject, int index, uint32_t events);
/* The k-th address at which a container's service may listen, seen from inside: the loopback's of IPv4, that of IPv6,
 * then the container's own of IPv4, if it has one. Its length; 0 = there is no further one. */
unsigned proxy_target(const struct proxy *x, int listener, int k, union proxy_address *ret);
/* Of every part: what it needs for `descriptors` of them at most; NULL = there is no memory. */
struct tcp *tcp_new(int descriptors);
struct udp *udp_new(int descriptors, int64_t idle);

void tcp_accept(struct proxy *x, int listener);
void tcp_event(struct proxy *x, int index, int is_server, uint32_t events);
/* Moves what can be moved; says whether there is more to do at once. */
int tcp_run(struct proxy *x);
/* Until when there is nothing to do but events, and what is to be done then. */
int64_t tcp_due(const struct proxy *x);
void tcp_resume(struct proxy *x);
/* The container is gone: what it has sent is still delivered. Says whether there is any connection left. */
int tcp_finish(struct proxy *x);

void udp_receive(struct proxy *x, int listener);
void udp_answer(struct proxy *x, int index);
int64_t udp_due(const struct proxy *x);
void udp_expire(struct proxy *x);
#endif
