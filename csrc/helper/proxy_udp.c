/* Datagrams of a published port. Each client has a flow: a socket of its own inside the container, so that an answer
 * finds its way back. It is forgotten when nothing has come or gone for a while; when there are too many, the one that
 * was quiet for longest goes first. What a side does not take at once is lost, as on any network.
 */
#include "message.h"
#include "ports.h"
#include "proxy.h"
#include "record.h"
#include <linux/eventpoll.h>

enum {
    DATAGRAM = 65536,
    BATCH = 64, /* datagrams of one side before others have their turn */
    MOST = 4096,
    BUCKETS = 1024,
    NONE = -1,
    /* What comes and goes with a datagram: struct cmsghdr with the local address of IPv4 or of IPv6. */
    CONTROL = 40,
    IP_PKTINFO_ = 8,
    IPV6_PKTINFO_ = 50
};

struct control {
    uint64_t length;
    int32_t level, type;
    uint8_t info[CONTROL - 16]; /* struct in_pktinfo, which begins with the interface, or in6_pktinfo, which ends so */
};

/* Who speaks, to which of the host's addresses, on which listener. */
struct peer {
    union proxy_address address;
    uint32_t address_length, control_length;
    struct control control;
    int32_t listener;
};

struct flow {
    struct peer peer;
    int fd, target;
    int64_t used; /* CLOCK_MONOTONIC, ns */
    int next;     /* in its bucket, or of those free */
    int newer, older;
};

struct udp {
    struct flow *table;
    int64_t idle;
    int most, used, free;
    int newest, oldest;
    int buckets[BUCKETS];
    char buffer[DATAGRAM];
};

struct udp *udp_new(int descriptors, int64_t idle)
{
    struct udp *u = memory_take(sizeof *u);
    if (!u)
        return NULL;
    u->idle = idle;
    u->most = MINIMUM(descriptors, MOST);
    u->free = u->newest = u->oldest = NONE;
    for (int i = 0; i < BUCKETS; i++)
        u->buckets[i] = NONE;
    u->table = memory_take((size_t)u->most * sizeof *u->table);
    return u->table ? u : NULL;
}

/* -- flows ------------------------------------------------------------------------------------------------------- */

/* FNV-1a. Who chooses addresses so that they meet in one bucket makes that one MOST long at the worst. */
static int *bucket_of(struct udp *u, const struct peer *peer)
{
    const unsigned char *bytes = (const void *)peer;
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < sizeof *peer; i++)
        hash = (hash ^ bytes[i]) * 16777619u;
    return &u->buckets[(hash ^ hash >> 16) % BUCKETS];
}

static void leave_order(struct udp *u, struct flow *f)
{
    *(f->newer == NONE ? &u->newest : &u->table[f->newer].older) = f->older;
    *(f->older == NONE ? &u->oldest : &u->table[f->older].newer) = f->newer;
}

static void join_order(struct udp *u, struct flow *f)
{
    int index = (int)(f - u->table);
    f->used = monotonic_ns();
    f->newer = NONE;
    f->older = u->newest;
    *(u->newest == NONE ? &u->oldest : &u->table[u->newest].newer) = index;
    u->newest = index;
}

static void touch(struct udp *u, struct flow *f)
{
    leave_order(u, f);
    join_order(u, f);
}

static void forget(struct udp *u, struct flow *f)
{
    int index = (int)(f - u->table), *at = bucket_of(u, &f->peer);
    while (*at != index)
        at = &u->table[*at].next;
    *at = f->next;
    leave_order(u, f);
    if (f->fd >= 0)
        sys(close, steal_fd(&f->fd));
    f->next = u->free;
    u->free = index;
}

static struct flow *find(struct udp *u, const struct peer *peer)
{
    for (int i = *bucket_of(u, peer); i != NONE; i = u->table[i].next)
        if (memcmp(&u->table[i].peer, peer, sizeof *peer) == 0)
            return &u->table[i];
    return NULL;
}

/* A socket inside, connected to the address whose turn it is; after the last one comes the first. */
static void reach(const struct proxy *x, struct flow *f)
{
    union proxy_address address;
    unsigned length = proxy_target(x, f->peer.listener, f->target, &address);
    if (!length) {
        f->target = 0;
        length = proxy_target(x, f->peer.listener, f->target, &address);
    }
    if (f->fd >= 0)
        sys(close, f->fd);
    f->fd = (int)sys(socket, address.v4.sin_family, SOCK_DGRAM_ | O_NONBLOCK | O_CLOEXEC, 0);
    if (f->fd >= 0 && (sys(connect, f->fd, &address, length) < 0 ||
                       proxy_watch(x, f->fd, PROXY_FLOW, (int)(f - x->udp->table), EPOLLIN) < 0))
        sys(close, steal_fd(&f->fd));
}

/* Nobody listens there: the next datagram is for another address. */
static void reach_other(const struct proxy *x, struct flow *f)
{
    f->target++;
    reach(x, f);
}

static struct flow *begin(const struct proxy *x, const struct peer *peer)
{
    struct udp *u = x->udp;
    if (u->free == NONE && u->used == u->most)
        forget(u, &u->table[u->oldest]);
    int index = u->free;
    if (index == NONE)
        index = u->used++;
    else
        u->free = u->table[index].next;
    struct flow *f = &u->table[index];
    int *bucket = bucket_of(u, peer);
    *f = (struct flow){.peer = *peer, .fd = -1, .next = *bucket};
    *bucket = index;
    join_order(u, f);
    reach(x, f);
    return f;
}

/* -- datagrams --------------------------------------------------------------------------------------------------- */

/* An answer leaves by whatever interface leads to the client, unless its address counts on one link only (fe80::). */
static void settle_interface(struct control *c)
{
    enum { AT_IPV6 = 16, SIZE = 4 };
    if (c->type == IP_PKTINFO_)
        memset(c->info, 0, SIZE);
    else if (!(c->info[0] == 0xfe && (c->info[1] & 0xc0) == 0x80))
        memset(c->info + AT_IPV6, 0, SIZE);
}

/* The size of a datagram on the host's side, or a negative errno. */
static long receive(struct udp *u, int listener, struct peer *ret)
{
    memset(ret, 0, sizeof *ret);
    struct part part = {u->buffer, DATAGRAM};
    struct message message = {.name = &ret->address,
                              .name_length = sizeof ret->address,
                              .parts = &part,
                              .part_count = 1,
                              .control = &ret->control,
                              .control_length = sizeof ret->control};
    long n = sys(recvmsg, PORTS_FIRST_FD + listener, &message, MSG_DONTWAIT_);
    ret->listener = listener;
    ret->address_length = message.name_length;
    ret->control_length = (uint32_t)message.control_length;
    int is_info = ret->control.type == IP_PKTINFO_ || ret->control.type == IPV6_PKTINFO_;
    if (n < 0 || !ret->control_length || !is_info) {
        ret->control_length = 0;
        memset(&ret->control, 0, sizeof ret->control);
    } else {
        settle_interface(&ret->control);
    }
    return n;
}

void udp_receive(struct proxy *x, int listener)
{
    struct udp *u = x->udp;
    struct peer peer;
    for (int i = 0; i < BATCH; i++) {
        long n = receive(u, listener, &peer);
        if (n < 0)
            return;
        struct flow *f = find(u, &peer);
        if (f)
            touch(u, f);
        else
            f = begin(x, &peer);
        if (f->fd < 0)
            reach(x, f); /* there were no descriptors left */
        if (sys(sendto, f->fd, u->buffer, n, MSG_DONTWAIT_ | MSG_NOSIGNAL_, 0, 0) != -ECONNREFUSED)
            continue;
        reach_other(x, f); /* that was about an earlier one */
        sys(sendto, f->fd, u->buffer, n, MSG_DONTWAIT_ | MSG_NOSIGNAL_, 0, 0);
    }
}

void udp_answer(struct proxy *x, int index)
{
    struct udp *u = x->udp;
    struct flow *f = &u->table[index];
    for (int i = 0; i < BATCH && f->fd >= 0; i++) {
        long n = sys(recvfrom, f->fd, u->buffer, DATAGRAM, MSG_DONTWAIT_, 0, 0);
        if (n == -ECONNREFUSED)
            reach_other(x, f);
        if (n < 0)
            return;
        struct part part = {u->buffer, (uint64_t)n};
        struct message message = {.name = &f->peer.address,
                                  .name_length = f->peer.address_length,
                                  .parts = &part,
                                  .part_count = 1,
                                  .control = f->peer.control_length ? &f->peer.control : NULL,
                                  .control_length = f->peer.control_length};
        sys(sendmsg, PORTS_FIRST_FD + f->peer.listener, &message, MSG_DONTWAIT_ | MSG_NOSIGNAL_);
        touch(u, f);
    }
}

int64_t udp_due(const struct proxy *x)
{
    const struct udp *u = x->udp;
    return u->oldest == NONE ? INT64_MAX : u->table[u->oldest].used + u->idle;
}

void udp_expire(struct proxy *x)
{
    struct udp *u = x->udp;
    if (u->oldest == NONE)
        return;
    int64_t now = monotonic_ns();
    while (u->oldest != NONE && udp_due(x) <= now)
        forget(u, &u->table[u->oldest]);
}
