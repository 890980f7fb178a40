/* Netlink: the kernel's messages about links, addresses, routes and packet filters (netlink(7)).
 *
 * Invariant: of messages that are sent together only the last asks for an answer. The kernel carries them out in order
 * and answers an error in any case, so the first answer that comes says either which failed or that none did.
 */
#include "netlink.h"
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

int netlink_open(int protocol)
{
    return (int)sys(socket, 16 /* AF_NETLINK */, 3 /* SOCK_RAW */ | O_CLOEXEC, protocol);
}

/* Room for `size` bytes, zeroed, up to the next multiple of four. */
static void *take(struct netlink *n, size_t size)
{
    size_t whole = NLMSG_ALIGN(size);
    if (n->overflow || n->size - n->used < whole) {
        n->overflow = 1;
        return NULL;
    }
    void *at = n->data + n->used;
    memset(at, 0, whole);
    n->used += whole;
    return at;
}

static struct nlmsghdr *last(struct netlink *n)
{
    return (void *)(n->data + n->message);
}

static void grown(struct netlink *n)
{
    if (!n->overflow)
        last(n)->nlmsg_len = (uint32_t)(n->used - n->message);
}

void netlink_message(struct netlink *n, uint16_t type, uint16_t flags, const void *head, size_t size)
{
    size_t begin = n->used;
    struct nlmsghdr *message = take(n, sizeof *message);
    void *body = take(n, size);
    if (n->overflow)
        return;
    n->message = begin;
    message->nlmsg_type = type;
    message->nlmsg_flags = flags | NLM_F_REQUEST;
    message->nlmsg_seq = ++n->count;
    memcpy(body, head, size);
    grown(n);
}

void netlink_attribute(struct netlink *n, uint16_t type, const void *data, size_t size)
{
    struct rtattr *attribute = take(n, RTA_LENGTH(size));
    if (!attribute)
        return;
    attribute->rta_type = type;
    attribute->rta_len = (uint16_t)RTA_LENGTH(size);
    if (size)
        memcpy(RTA_DATA(attribute), data, size);
    grown(n);
}

void netlink_string(struct netlink *n, uint16_t type, const char *text)
{
    netlink_attribute(n, type, text, strlen(text) + 1);
}

void netlink_u32(struct netlink *n, uint16_t type, uint32_t value)
{
    netlink_attribute(n, type, &value, sizeof value);
}

void netlink_be32(struct netlink *n, uint16_t type, uint32_t value)
{
    uint8_t bytes[] = {(uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8), (uint8_t)value};
    netlink_attribute(n, type, bytes, sizeof bytes);
}

size_t netlink_nest(struct netlink *n, uint16_t type)
{
    size_t at = n->used;
    netlink_attribute(n, type, NULL, 0);
    return at;
}

void netlink_end(struct netlink *n, size_t nest)
{
    if (!n->overflow)
        ((struct rtattr *)(void *)(n->data + nest))->rta_len = (uint16_t)(n->used - nest);
}

/* Numbers of their own for the messages: an answer that an earlier exchange on the socket left is told from theirs. */
static uint32_t number(struct netlink *n)
{
    static uint32_t numbered;
    uint32_t base = __atomic_fetch_add(&numbered, n->count, __ATOMIC_RELAXED);
    for (size_t at = 0; at < n->used;) {
        struct nlmsghdr *message = (void *)(n->data + at);
        message->nlmsg_seq += base;
        at += NLMSG_ALIGN(message->nlmsg_len);
    }
    return base;
}

/* The first answer to the messages numbered from `base` on: 0, or the error that it tells. */
static int await_answer(int fd, uint32_t base, uint32_t count, uint32_t *ret_failed)
{
    _Alignas(8) char answer[512]; /* an error quotes the message, which is cut off here */
    for (;;) {
        long got = sys(recvfrom, fd, answer, sizeof answer, 0, 0, 0);
        if (got == -EINTR)
            continue;
        if (got < 0)
            return (int)got;
        const struct nlmsghdr *head = (const void *)answer;
        const struct nlmsgerr *error = NLMSG_DATA(head);
        if (got < (long)NLMSG_LENGTH(sizeof *error) || head->nlmsg_type != NLMSG_ERROR)
            continue;
        uint32_t which = head->nlmsg_seq - base;
        if (which < 1 || which > count)
            continue;
        if (ret_failed)
            *ret_failed = which;
        return error->error;
    }
}

static int send_all(int fd, const struct netlink *n)
{
    struct sockaddr_nl kernel = {.nl_family = 16 /* AF_NETLINK */};
    long sent;
    do
        sent = sys(sendto, fd, n->data, n->used, 0, &kernel, sizeof kernel);
    while (sent == -EINTR);
    return sent < 0 ? (int)sent : 0;
}

void netlink_want_answer(struct netlink *n)
{
    if (!n->overflow)
        last(n)->nlmsg_flags |= NLM_F_ACK;
}

int netlink_exchange(int fd, struct netlink *n, uint32_t *ret_failed)
{
    if (n->overflow)
        return -EMSGSIZE;
    netlink_want_answer(n);
    uint32_t base = number(n);
    int sent = send_all(fd, n);
    return sent < 0 ? sent : await_answer(fd, base, n->count, ret_failed);
}

/* Hands on what answers the message of this number, to the end of the dump; -EINTR when the kernel says that something
 * changed meanwhile. */
static int take_all(int fd, uint32_t numbered, struct netlink_dump *dump)
{
    _Alignas(8) char buffer[16384];
    for (int interrupted = 0;;) {
        long got = sys(recvfrom, fd, buffer, sizeof buffer, 0, 0, 0);
        if (got == -EINTR)
            continue;
        if (got < 0)
            return (int)got;
        unsigned left = (unsigned)got;
        for (const struct nlmsghdr *m = (const void *)buffer; NLMSG_OK(m, left); m = NLMSG_NEXT(m, left)) {
            if (m->nlmsg_seq != numbered)
                continue; /* an earlier exchange on this socket left it */
            interrupted |= m->nlmsg_flags & NLM_F_DUMP_INTR;
            if (m->nlmsg_type == NLMSG_DONE)
                return interrupted ? -EINTR : 0;
            if (m->nlmsg_type == NLMSG_ERROR)
                return ((const struct nlmsgerr *)NLMSG_DATA(m))->error;
            int r = dump->take(dump, m);
            if (r < 0)
                return r;
        }
    }
}

int netlink_dump(int fd, uint16_t type, const void *head, size_t size, struct netlink_dump *dump)
{
    enum { ATTEMPTS = 16 };
    int r = -EINTR;
    for (int i = 0; i < ATTEMPTS && r == -EINTR; i++) {
        NETLINK(n, 256);
        netlink_message(&n, type, NLM_F_DUMP, head, size);
        dump->count = 0;
        uint32_t numbered = number(&n) + n.count;
        r = send_all(fd, &n);
        if (r >= 0)
            r = take_all(fd, numbered, dump);
    }
    return r;
}

const void *netlink_find(const struct rtattr *first, unsigned left, uint16_t type, size_t least)
{
    for (const struct rtattr *a = first; RTA_OK(a, left); a = RTA_NEXT(a, left))
        if ((a->rta_type & NLA_TYPE_MASK) == type && RTA_PAYLOAD(a) >= least)
            return RTA_DATA(a);
    return NULL;
}

/* Asks one of the numbers that netdevice(7) has of a link. */
static int ask_number(int fd, const char *name, unsigned long request_code)
{
    struct {
        char name[16];
        int number;
        char rest[20];
    } request = {.number = 0};
    size_t length = strlen(name);
    if (length >= sizeof request.name)
        return -ENODEV;
    memcpy(request.name, name, length);
    long r = sys(ioctl, fd, request_code, &request);
    return r < 0 ? (int)r : request.number;
}

int netlink_index(int fd, const char *name)
{
    return ask_number(fd, name, 0x8933 /* SIOCGIFINDEX */);
}

int netlink_mtu(int fd, const char *name)
{
    return ask_number(fd, name, 0x8921 /* SIOCGIFMTU */);
}
