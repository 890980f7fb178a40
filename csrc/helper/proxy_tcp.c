/* Connections of a published port: the client's, on the host, joined to one inside the container.
 *
 * Bytes never come to lie in this process. A few of them are looked at where they wait (MSG_PEEK), sent on, and then
 * taken off: what the other side does not take stays in the kernel's buffer of this one, and holds its sender back. Of
 * many, pages are moved through a pipe (splice). There are PIPES pipes for all connections, held only while something
 * is in them; a client that does not read keeps one at the most, and where none is free bytes are copied after all. So
 * what a connection costs is its entry in a table.
 *
 * Events are taken at their edges: a side stays readable, or writable, until the kernel says EAGAIN. A connection with
 * something to do stands in one queue, and moves TURNS pieces in each direction before the next has its turn.
 */
#include "ports.h"
#include "proxy.h"
#include "record.h"
#include <asm/socket.h>
#include <linux/eventpoll.h>
#include <linux/tcp.h>
#ifndef SOL_SOCKET
#define SOL_SOCKET 1
#endif

enum {
    CLIENT,
    SERVER,
    PIPES = 32,
    PIPE_SIZE = 1 << 19, /* asked for; a user's limit may leave less (pipe(7)) */
    PIECE = 16384,       /* what is worth a splice */
    TURNS = 8,
    ACCEPTS = 32,
    MOST = 1 << 16,
    NONE = -1,
    SPLICE_NOW = 3, /* SPLICE_F_MOVE | SPLICE_F_NONBLOCK */
    MSG_PEEK_ = 2,
    MSG_TRUNC_ = 0x20,
    SHUT_WR_ = 1
};
#define REST ((int64_t)100000000) /* ns without new connections, when there is no descriptor for another one */

struct side {
    int fd;
    uint8_t readable, writable;
    uint8_t is_half; /* the other end has said that no more comes, or is gone: reads must come to their end */
    uint8_t is_gone; /* it neither says nor takes anything any more */
    uint8_t ended;   /* nothing more comes from it */
    uint8_t shut;    /* it was told that nothing more comes */
    uint8_t bulk;    /* much came from it last time */
    int8_t pipe;     /* what came from it and is under way: in this one */
    uint32_t held;   /* bytes in that */
};

struct connection {
    struct side sides[2];
    int listener, next;
    uint8_t connecting; /* to the target-th address */
    uint8_t target, queued, dead;
    uint8_t broken; /* bit n: what comes from side n cannot be moved any more */
};

struct tcp {
    struct connection *table;
    int most, used, live;  /* entries: that there may be, that were ever used, that are */
    int free, first, last; /* lists of entries: those free again; the queue */
    int resting;           /* nothing is accepted */
    int64_t resume;
    int pipes[PIPES][2], pipes_made, pipes_free;
    int8_t free_pipes[PIPES];
    char buffer[PIECE];
};

struct tcp *tcp_new(int descriptors)
{
    struct tcp *t = memory_take(sizeof *t);
    if (!t)
        return NULL;
    int most = (descriptors - 2 * PIPES) / 2;
    t->most = most < 1 ? 1 : MINIMUM(most, MOST);
    t->free = t->first = t->last = NONE;
    t->resume = INT64_MAX;
    t->table = memory_take((size_t)t->most * sizeof *t->table); /* pages that nobody touches cost nothing */
    return t->table ? t : NULL;
}

/* -- entries, the queue, pipes ----------------------------------------------------------------------------------- */

static void queue(struct tcp *t, struct connection *c)
{
    int index = (int)(c - t->table);
    if (c->queued)
        return;
    c->queued = 1;
    c->next = NONE;
    if (t->first == NONE)
        t->first = index;
    else
        t->table[t->last].next = index;
    t->last = index;
}

static struct connection *entry(struct tcp *t)
{
    int index = t->free;
    if (index != NONE)
        t->free = t->table[index].next;
    else
        index = t->used++;
    t->live++;
    return &t->table[index];
}

static void release(struct tcp *t, struct connection *c)
{
    c->dead = 0;
    c->listener = NONE;
    c->next = t->free;
    t->free = (int)(c - t->table);
    t->live--;
}

/* Finds or makes a pipe for what comes from a side. */
static int take_pipe(struct tcp *t, struct side *from)
{
    enum { F_SETPIPE_SZ_ = 1031 };
    if (from->pipe != NONE)
        return 1;
    if (t->pipes_free) {
        from->pipe = t->free_pipes[--t->pipes_free];
        return 1;
    }
    if (t->pipes_made == PIPES || sys(pipe2, t->pipes[t->pipes_made], O_CLOEXEC | O_NONBLOCK) < 0)
        return 0;
    sys(fcntl, t->pipes[t->pipes_made][0], F_SETPIPE_SZ_, PIPE_SIZE);
    from->pipe = (int8_t)t->pipes_made++;
    return 1;
}

static void give_pipe(struct tcp *t, struct side *from)
{
    if (from->pipe == NONE || from->held)
        return;
    t->free_pipes[t->pipes_free++] = from->pipe;
    from->pipe = NONE;
}

/* What is in the pipe of a connection that is given up goes nowhere. */
static void empty_pipe(struct tcp *t, struct side *from)
{
    enum { FD, OTHER_FD };
    if (from->pipe == NONE)
        return;
    int *ends = t->pipes[from->pipe];
    if (from->held) {
        sys(close, ends[FD]);
        sys(close, ends[OTHER_FD]);
        from->held = 0;
        if (sys(pipe2, ends, O_CLOEXEC | O_NONBLOCK) < 0) {
            from->pipe = NONE; /* one pipe less */
            return;
        }
    }
    give_pipe(t, from);
}

/* Ends a connection; `abruptly`: each side sees a reset, as it would have from the other one. */
static void end(struct tcp *t, struct connection *c, int abruptly)
{
    struct {
        int on, seconds;
    } linger = {1, 0};
    for (int i = 0; i < 2; i++) {
        struct side *s = &c->sides[i];
        empty_pipe(t, s);
        if (s->fd >= 0 && abruptly)
            sys(setsockopt, s->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
        if (s->fd >= 0)
            sys(close, steal_fd(&s->fd));
    }
    c->dead = 1;
    queue(t, c); /* its entry is free when no event is under way that may be about it */
}

/* -- making a connection ----------------------------------------------------------------------------------------- */

static int watch(const struct proxy *x, const struct connection *c, int side)
{
    return proxy_watch(x, c->sides[side].fd, side == CLIENT ? PROXY_CLIENT : PROXY_SERVER, (int)(c - x->tcp->table),
                       EPOLLIN | EPOLLOUT | EPOLLRDHUP | (uint32_t)EPOLLET);
}

/* Begins to connect inside, to the address whose turn it is: 0 or a negative errno. */
static int reach(const struct proxy *x, struct connection *c, const union proxy_address *address, unsigned length)
{
    struct side *server = &c->sides[SERVER];
    int one = 1;
    if (server->fd >= 0)
        sys(close, server->fd);
    server->fd = (int)sys(socket, address->v4.sin_family, SOCK_STREAM_ | O_NONBLOCK | O_CLOEXEC, 0);
    if (server->fd < 0)
        return server->fd;
    sys(setsockopt, server->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    long r = sys(connect, server->fd, address, length);
    return r < 0 && r != -EINPROGRESS ? (int)r : watch(x, c, SERVER);
}

/* Likewise, to the first one, from that on, that can be. 0, or -1 when there is none. */
static int reach_any(const struct proxy *x, struct connection *c)
{
    union proxy_address address;
    for (unsigned length; (length = proxy_target(x, c->listener, c->target, &address)) > 0; c->target++)
        if (reach(x, c, &address, length) >= 0)
            return 0;
    return -1;
}

/* Whether it is connected inside. On a loopback that is decided at once: asked again, connect(2) says so. */
static int is_connected(struct proxy *x, struct connection *c)
{
    union proxy_address address;
    for (;;) {
        unsigned length = proxy_target(x, c->listener, c->target, &address);
        long r = sys(connect, c->sides[SERVER].fd, &address, length);
        if (r == -EALREADY || r == -EINPROGRESS)
            return 0;
        if (r >= 0 || r == -EISCONN)
            break;
        c->target++;
        if (reach_any(x, c) < 0) {
            end(x->tcp, c, 1);
            return 0;
        }
    }
    c->connecting = 0;
    c->sides[SERVER].writable = 1;
    return 1;
}

static void begin(struct proxy *x, int listener, int fd)
{
    struct connection *c = entry(x->tcp);
    *c = (struct connection){.listener = listener, .connecting = 1};
    c->sides[CLIENT] = (struct side){.fd = fd, .writable = 1, .pipe = NONE};
    c->sides[SERVER] = (struct side){.fd = -1, .pipe = NONE};
    if (watch(x, c, CLIENT) < 0 || reach_any(x, c) < 0)
        end(x->tcp, c, 1);
    else
        queue(x->tcp, c);
}

/* Those that listen report no more, so that what cannot be accepted does not keep the process busy. */
static void listen_for(const struct proxy *x, uint32_t events)
{
    for (int i = 0; i < x->count; i++) {
        struct epoll_event event = {events, (uint64_t)PROXY_LISTENER | (uint64_t)i << 8};
        if (x->listeners[i].is_tcp)
            sys(epoll_ctl, x->epoll, EPOLL_CTL_MOD, PORTS_FIRST_FD + i, &event);
    }
}

static void rest(struct proxy *x)
{
    if (!x->tcp->resting)
        listen_for(x, 0);
    x->tcp->resting = 1;
    x->tcp->resume = monotonic_ns() + REST;
}

void tcp_accept(struct proxy *x, int listener)
{
    for (int n = 0; n < ACCEPTS && !x->tcp->resting; n++) {
        long fd = x->tcp->live == x->tcp->most ? -EMFILE
                                               : sys(accept4, PORTS_FIRST_FD + listener, 0, 0, O_NONBLOCK | O_CLOEXEC);
        if (fd == -EAGAIN)
            return;
        if (fd == -EMFILE || fd == -ENFILE || fd == -ENOBUFS || fd == -ENOMEM)
            rest(x);
        else if (fd >= 0)
            begin(x, listener, (int)fd);
    }
}

int64_t tcp_due(const struct proxy *x)
{
    return x->ending ? INT64_MAX : x->tcp->resume;
}

void tcp_resume(struct proxy *x)
{
    struct tcp *t = x->tcp;
    if (!t->resting || x->ending || monotonic_ns() < t->resume)
        return;
    t->resting = t->live == t->most;
    t->resume = t->resting ? monotonic_ns() + REST : INT64_MAX;
    if (!t->resting)
        listen_for(x, EPOLLIN);
}

/* -- moving bytes ------------------------------------------------------------------------------------------------ */

/* Each moves a piece: 1, 0 when there is something to wait for, or -1 when it cannot go on. */

static int end_of(struct side *from, long r)
{
    if (r == -EAGAIN) {
        from->readable = 0;
        return 0;
    }
    from->ended = r == 0;
    return r == 0 ? 1 : -1;
}

static int put(struct tcp *t, struct side *from, struct side *to)
{
    if (!to->writable)
        return 0;
    long n = sys(splice, t->pipes[from->pipe][0], 0, to->fd, 0, from->held, SPLICE_NOW);
    if (n == -EAGAIN)
        to->writable = 0;
    if (n <= 0)
        return n == -EAGAIN ? 0 : -1;
    from->held -= (uint32_t)n;
    return 1;
}

static int take(struct tcp *t, struct side *from)
{
    long n = sys(splice, from->fd, 0, t->pipes[from->pipe][1], 0, PIPE_SIZE, SPLICE_NOW);
    if (n <= 0)
        return end_of(from, n);
    from->held = (uint32_t)n;
    return 1;
}

/* What was looked at and not sent stays where it is. Less than there was room for is all that there was: when more
 * comes there will be another event (epoll(7)), unless this was the end. */
static int copy(struct tcp *t, struct side *from, struct side *to)
{
    long n = sys(recvfrom, from->fd, t->buffer, PIECE, MSG_PEEK_ | MSG_DONTWAIT_, 0, 0);
    if (n <= 0)
        return end_of(from, n);
    if (n == PIECE && take_pipe(t, from)) {
        from->bulk = 1;
        return 1;
    }
    long sent = sys(sendto, to->fd, t->buffer, n, MSG_NOSIGNAL_ | MSG_DONTWAIT_, 0, 0);
    if (sent < 0 && sent != -EAGAIN)
        return -1;
    to->writable = sent == n;
    if (sent > 0)
        sys(recvfrom, from->fd, t->buffer, sent, MSG_TRUNC_ | MSG_DONTWAIT_, 0, 0);
    if (sent == n && n < PIECE && !from->is_half)
        from->readable = 0;
    return sent > 0;
}

static int step(struct tcp *t, struct side *from, struct side *to)
{
    if (from->held)
        return put(t, from, to);
    if (from->ended && !to->shut) {
        sys(shutdown, to->fd, SHUT_WR_);
        to->shut = 1;
    }
    if (from->ended || !from->readable || !to->writable)
        return 0;
    return from->bulk && take_pipe(t, from) ? take(t, from) : copy(t, from, to);
}

/* As step, TURNS times. */
static int move(struct tcp *t, struct side *from, struct side *to)
{
    uint32_t most = 0;
    int r = 1;
    for (int turn = 0; r == 1 && turn < TURNS; turn++) {
        r = step(t, from, to);
        most = from->held > most ? from->held : most;
    }
    if (from->bulk && r == 0)
        from->bulk = most >= PIECE;
    give_pipe(t, from);
    return r;
}

/* Where one direction is broken, what comes the other way is still delivered as far as that goes at once: an answer
 * that a server gave before it hung up. */
static void run(struct proxy *x, struct connection *c)
{
    struct tcp *t = x->tcp;
    if (c->connecting && c->sides[CLIENT].is_gone)
        end(t, c, 1);
    if (c->dead || (c->connecting && !is_connected(x, c)))
        return;
    int more = 0;
    for (int i = 0; i < 2; i++) {
        int r = c->broken >> i & 1 ? 0 : move(t, &c->sides[i], &c->sides[!i]);
        if (r < 0)
            c->broken |= (uint8_t)(1 << i);
        more |= r > 0;
    }
    int is_over = c->sides[CLIENT].shut && c->sides[SERVER].shut;
    if (is_over || c->broken == 3 || (c->broken && !more))
        end(t, c, !is_over);
    else if (more)
        queue(t, c);
}

int tcp_run(struct proxy *x)
{
    struct tcp *t = x->tcp;
    int index = t->first;
    t->first = t->last = NONE; /* those that are not done come again after all that happened meanwhile */
    while (index != NONE) {
        struct connection *c = &t->table[index];
        index = c->next;
        c->queued = 0;
        if (c->dead)
            release(t, c);
        else
            run(x, c);
    }
    return t->first != NONE;
}

void tcp_event(struct proxy *x, int index, int is_server, uint32_t events)
{
    struct connection *c = &x->tcp->table[index];
    struct side *s = &c->sides[is_server];
    if (c->dead)
        return;
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        s->readable = 1;
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
        s->writable = 1;
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        s->is_half = 1;
    if (events & (EPOLLHUP | EPOLLERR))
        s->is_gone = 1;
    queue(x->tcp, c);
}

/* What the client said and nobody reads any more is taken off: left there, the close would be a reset, and might
 * overtake what it has not read yet (RFC 1122, 4.2.2.13). */
static void discard(struct tcp *t, const struct side *client)
{
    for (int n = 0; n < TURNS; n++)
        if (sys(recvfrom, client->fd, t->buffer, PIPE_SIZE, MSG_TRUNC_ | MSG_DONTWAIT_, 0, 0) <= 0)
            return;
}

int tcp_finish(struct proxy *x)
{
    struct tcp *t = x->tcp;
    for (int i = 0; i < t->used; i++) {
        struct connection *c = &t->table[i];
        if (c->listener == NONE || c->dead)
            continue;
        if (c->connecting) {
            end(t, c, 1);
        } else if (c->sides[CLIENT].shut) {
            discard(t, &c->sides[CLIENT]);
            end(t, c, 0);
        }
    }
    return t->live;
}
